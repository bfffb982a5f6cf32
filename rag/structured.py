"""Answers as JSON: the schema that a model is asked to fit, and what its reply becomes."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import ValidationError

from ..core.components import Model

__all__ = ["ANSWER_SCHEMA", "StructuredAnswer", "as_json", "parse_answer"]

_CITATION = re.compile(r"\s*\[([^\[\]]+)\]")


class StructuredAnswer(Model):
    """An answer and where it stands."""

    answered: bool
    """False where the passages do not answer the question."""
    answer: str
    """The answer, without citations."""
    citations: tuple[str, ...]
    """References of the passages that it is taken from."""

    def text(self, abstention: str) -> str:
        """The answer as text, `answer [REF]`; the wording of an abstention where there is none."""
        if not self.answered:
            return abstention
        return " ".join([self.answer.strip(), *(f"[{name.strip(' []')}]" for name in self.citations)])


ANSWER_SCHEMA: dict[str, Any] = {
    "title": "answer",
    "type": "object",
    "properties": {
        "answered": {"type": "boolean"},
        "answer": {"type": "string"},
        "citations": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["answered", "answer", "citations"],
    "additionalProperties": False,
}
"""JSON Schema of `StructuredAnswer`, as strict servers want it."""


def parse_answer(text: str) -> StructuredAnswer:
    """Reads a model's reply; what stands round the JSON object (a code fence, say) is left out.

    Raises:
        ValueError: There is no JSON object of the schema, or it claims an answer and has none.
    """
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        raise ValueError(f"the reply holds no JSON object: {_shown(text)}")
    try:
        answer = StructuredAnswer.model_validate_json(text[start : end + 1], strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(
            f"the reply does not fit the schema ({where or 'JSON'}: {first['msg']}): {_shown(text)}"
        ) from None
    if answer.answered and not answer.answer.strip():
        raise ValueError(f"the reply says that it answers, but holds no answer: {_shown(text)}")
    return answer


def as_json(answer: str) -> str:
    """An answer as text, `answer [REF]`, as the JSON that a model is to write; empty for an abstention."""
    citations = _CITATION.findall(answer)
    fields = {"answered": bool(answer), "answer": _CITATION.sub("", answer).strip(), "citations": citations}
    return json.dumps(fields, ensure_ascii=False)


def _shown(text: str) -> str:
    short = " ".join(text.split())
    return repr(short[:100] + (" ..." if len(short) > 100 else ""))
