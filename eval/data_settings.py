"""The config section that says where documents and questions are."""

from __future__ import annotations

from pathlib import Path

from pydantic import model_validator

from ..core.components import Model
from .load import DataFormat, prepare_dataset

__all__ = ["DataSettings"]


class DataSettings(Model):
    """Where documents and questions are; relative paths start from the config file's folder.

    Either `documents` and `questions`, or `path` and `format`.
    """

    documents: str = ""
    """Folder of documents."""
    questions: str = ""
    """A `.jsonl` file or a folder of them, each line with a split."""
    path: str = ""
    """A data set in another format, converted into the cache when it is first used. A relative path that is not there
    below the config file's folder is looked for below the working directory."""
    format: DataFormat | None = None
    """What `path` is: `beir`, `chroma` or `squad`."""

    @model_validator(mode="after")
    def _one_of_two(self) -> DataSettings:
        if self.format is None and not self.path and self.documents and self.questions:
            return self
        if self.format is not None and self.path and not self.documents and not self.questions:
            return self
        if self.format is not None and not self.documents and not self.questions:
            raise ValueError(f"set data.path to the {self.format} data set, for instance by --set data.path=DIR")
        raise ValueError("name 'documents' and 'questions', or instead of both 'path' and 'format'")

    def located(self, base_dir: Path, cache_dir: Path) -> DataSettings:
        """The same data as `documents` and `questions`; a data set of another format is converted.

        Args:
            base_dir: Folder that relative paths start from.
            cache_dir: Where converted data sets are kept.

        Raises:
            DataError: The data set cannot be used.
        """
        if self.format is None:
            return self
        path = Path(self.path).expanduser()
        source = base_dir / path if (base_dir / path).exists() else path.absolute()
        folder = prepare_dataset(self.format, source, cache_dir)
        return DataSettings(documents=str(folder / "documents"), questions=str(folder / "questions.jsonl"))
