"""Qdrant: a vector database as a server, or its small local mode."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from pydantic import Field

from ...core.components import Resources, Settings
from ...core.errors import ConfigError, DataError, EndpointError, UnreachableError, require
from ...core.files import write_atomic
from ...core.http import Probe
from .points import Listed, PointIndex
from .topk import as_vectors, read_meta, write_meta

__all__ = ["LOCAL_LIMIT", "QdrantIndex", "QdrantIndexSettings"]

LOCAL_LIMIT = 5_000
"""Most points of the local mode, which compares with all of them in Python."""

T = TypeVar("T")


class QdrantIndexSettings(Settings):
    """Search with Qdrant."""

    cost: ClassVar[str] = "a server past 5,000 chunks; each search is a request"

    kind: Literal["qdrant"] = "qdrant"
    location: str = "memory"
    """`memory`, a folder, or the URL of a server. The first two are the local mode: up to 5,000 chunks."""
    collection: str = "ragladder"
    """Start of the collection's name; a hash of the vectors follows, so no other collection is ever overwritten."""
    exact: bool = False
    """Compares with all points of a server instead of using its graph: slower, and nothing is missed."""
    ef_search: int | None = Field(default=None, ge=1)
    """Candidates that a server's graph search looks at; None leaves it to the server."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the server's key."""

    @property
    def remote(self) -> bool:
        """True where a server does the work."""
        return self.location.startswith(("http://", "https://"))

    def check_size(self, chunks: int) -> None:
        """Refuses more chunks than the index takes; asked before they are encoded.

        Raises:
            ConfigError: More than the local mode's limit.
        """
        if not self.remote and chunks > LOCAL_LIMIT:
            raise ConfigError(
                f"index.location: Qdrant's local mode takes up to {LOCAL_LIMIT:,} chunks, there are {chunks:,}: "
                "name a server's URL, or use the index 'qdrant_edge', 'flat' or 'hnsw'"
            )

    def build(self, resources: Resources) -> QdrantIndex:
        """Makes an empty index; nothing is sent yet.

        Raises:
            ConfigError: The key's environment variable is not set.
            MissingExtra: qdrant-client is not installed.
        """
        require("qdrant_client", "cpu", "the index 'qdrant'")
        if self.api_key_env and not resources.env.get(self.api_key_env):
            raise ConfigError(f"index.api_key_env: the environment variable {self.api_key_env} is not set")
        return QdrantIndex(self, resources)

    def identity(self, resources: Resources) -> dict[str, Any]:
        """Where it is kept does not count; how it is searched does."""
        return {
            "kind": self.kind,
            "engine": self.location if self.remote else "local",
            "exact": self.exact,
            "ef_search": self.ef_search,
            "version": self.version,
        }


class QdrantIndex(PointIndex):
    """One collection; points are numbered by position."""

    def __init__(self, settings: QdrantIndexSettings, resources: Resources) -> None:
        """Makes an empty index; see the settings."""
        super().__init__()
        self._settings = settings
        self._resources = resources
        self._client_: Any = None
        self._name = ""
        self._memory: np.ndarray | None = None

    def build(self, vectors: Any) -> QdrantIndex:
        """Takes unit vectors, shape (n, dimension). A collection that already holds them is used as it is.

        Raises:
            ConfigError: More points than the local mode takes.
            UnreachableError: The server does not answer.
            EndpointError: It refuses.
        """
        array = as_vectors(vectors)
        self._settings.check_size(len(array))
        self._size, self._dimension = array.shape
        shape = f"{array.shape}".encode()
        self._name = f"{self._settings.collection}-{hashlib.sha256(shape + array.tobytes()).hexdigest()[:16]}"
        self._memory = array if self._settings.location == "memory" else None
        self._ask(lambda client: self._fill(client, array))
        return self

    def _fill(self, client: Any, array: np.ndarray) -> None:
        from qdrant_client import models

        if client.collection_exists(self._name):
            if client.count(self._name, exact=True).count == len(array):
                return
            client.delete_collection(self._name)  # left half-filled by a run that was stopped
        config = models.VectorParams(size=array.shape[1], distance=models.Distance.DOT)
        client.create_collection(self._name, vectors_config=config)
        client.upload_collection(self._name, vectors=array, ids=range(len(array)), wait=True)

    def _is_empty(self) -> bool:
        return not self._name

    def _query(self, queries: np.ndarray, limit: int, listed: Listed | None) -> list[list[tuple[int, float]]]:
        from qdrant_client import models

        params = models.SearchParams(exact=self._settings.exact, hnsw_ef=self._settings.ef_search)
        chosen = None
        if listed is not None:
            ids: Any = models.HasIdCondition(has_id=list(listed.points))
            chosen = models.Filter(must=[ids]) if listed.found else models.Filter(must_not=[ids])
        requests = [
            models.QueryRequest(query=query.tolist(), limit=limit, params=params, filter=chosen) for query in queries
        ]
        answers = self._ask(lambda client: client.query_batch_points(self._name, requests=requests))
        return [[(point.id, point.score) for point in answer.points] for answer in answers]

    def probe(self) -> Probe:
        """Whether the server answers and takes the key; always so without a server."""
        if not self._settings.remote:
            return Probe(True, "local mode")
        try:
            self._ask(lambda client: client.collection_exists("ragladder"))
        except (UnreachableError, EndpointError) as error:
            return Probe(False, str(error).partition(". ")[0])
        finally:
            self.close()
        return Probe(True, "answers")

    def save(self, folder: Path) -> None:
        """Writes where the collection is; in memory mode, its vectors."""
        if not self._name:
            raise DataError("the index is empty: build it before saving it")
        if self._memory is not None:
            data = io.BytesIO()
            np.save(data, self._memory, allow_pickle=False)
            write_atomic(Path(folder) / "vectors.npy", data.getvalue())
        meta = {"kind": "qdrant", "size": self._size, "dimension": self._dimension, "collection": self._name}
        write_meta(folder, meta)

    def load(self, folder: Path) -> QdrantIndex:
        """Finds the collection again.

        Raises:
            DataError: It is gone, or smaller than it was.
            UnreachableError: The server does not answer.
            EndpointError: It refuses.
        """
        meta = read_meta(folder, "qdrant")
        if self._settings.location == "memory":
            path = Path(folder) / "vectors.npy"
            if not path.is_file():
                raise DataError(f"the index in {folder} was not kept in memory; set its location, or build it again")
            return self.build(np.load(path, allow_pickle=False))
        self._name, self._size, self._dimension = meta["collection"], meta["size"], meta["dimension"]
        there = self._ask(
            lambda client: client.count(self._name, exact=True).count if client.collection_exists(self._name) else -1
        )
        if there != self._size:
            raise DataError(
                f"Qdrant at {self._settings.location} does not hold the collection {self._name} with {self._size:,} "
                "points; build the index again"
            )
        return self

    def close(self) -> None:
        """Lets go of the connection, and of the folder, which one process at a time can use."""
        if self._client_ is not None:
            self._client_.close()
            self._client_ = None

    def _client(self) -> Any:
        if self._client_ is None:
            from qdrant_client import QdrantClient

            location, key = self._settings.location, self._settings.api_key_env
            if self._settings.remote:
                secret = self._resources.env[key] if key else None
                self._client_ = QdrantClient(url=location, api_key=secret, timeout=60, check_compatibility=False)
            elif location == "memory":
                self._client_ = QdrantClient(location=":memory:")
            else:
                self._client_ = QdrantClient(path=str(self._resources.path(location)))
        return self._client_

    def _ask(self, work: Callable[[Any], T]) -> T:
        if not self._settings.remote:
            try:
                return work(self._client())
            except RuntimeError as error:
                if "already accessed" not in str(error):
                    raise
                raise DataError(
                    f"index.location: the folder {self._settings.location} is in use by another Qdrant client; "
                    "close it, use another folder, or run a server"
                ) from None
        from qdrant_client.http.exceptions import ApiException

        try:
            return work(self._client())
        except ApiException as error:
            raise _said(self._settings.location, error) from None


def _said(location: str, error: Exception) -> UnreachableError | EndpointError:
    """What a client's error means: nobody there, or an answer that does not do."""
    import httpx

    why = (" ".join(str(error).split()) or type(error).__name__).rstrip(".")[:300]
    advice = "what is finished is kept, so run the same command again"
    if isinstance(getattr(error, "source", None), httpx.TransportError):
        return UnreachableError(
            f"Qdrant at {location} does not answer ({why}). Start the server, or correct index.location; {advice}"
        )
    cause = (
        "index.api_key_env" if getattr(error, "status_code", None) in (401, 403) else "index.location and the server"
    )
    return EndpointError(f"Qdrant at {location} does not answer as it should ({why}). Check {cause}; {advice}")
