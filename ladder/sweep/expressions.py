"""Constraints: comparisons of settings, measures and numbers, such as `chunk.size * retrieve.top_k <= 4000`.

Grammar: `sum (< | <= | > | >= | == | !=) sum`; sums and products of numbers, names and words, with parentheses.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Constraint"]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_][\w.@/]*)|(?P<text>'[^']*'|\"[^\"]*\")"
    r"|(?P<mark><=|>=|==|!=|[<>+*/()-]))"
)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_SUM: dict[str, Callable[[Any, Any], Any]] = {"+": operator.add, "-": operator.sub}
_PRODUCT: dict[str, Callable[[Any, Any], Any]] = {"*": operator.mul, "/": operator.truediv}

Values = Mapping[str, Any]
Term = Callable[[Values], Any]


@dataclass(frozen=True)
class Constraint:
    """One comparison.

    Attributes:
        text: As it was written.
        names: Settings, metrics and measures that it looks at.
        check: True, or False, for the values of the names.
    """

    text: str
    names: tuple[str, ...]
    check: Callable[[Values], bool]

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Reads a constraint.

        Raises:
            ValueError: It is none, naming the place.
        """
        reader = _Reader(text)
        left = reader.sum()
        mark = reader.take()
        if mark not in _COMPARE:
            marks = " ".join(_COMPARE)
            raise ValueError(f"constraint '{text}': a comparison ({marks}) is missing after '{reader.before()}'")
        right = reader.sum()
        if reader.peek():
            raise ValueError(f"constraint '{text}': '{reader.peek()}' is too much")
        compare = _COMPARE[mark]
        return cls(text, tuple(dict.fromkeys(reader.names)), lambda values: compare(left(values), right(values)))

    def holds(self, values: Values) -> bool:
        """Whether it holds; a configuration that lacks one of the settings is not bound by it.

        Raises:
            ValueError: Things are compared that have no order, a word with a number for instance.
        """
        if any(values.get(name) is None for name in self.names):
            return True
        try:
            return bool(self.check(values))
        except (TypeError, ZeroDivisionError) as error:
            raise ValueError(f"constraint '{self.text}' cannot be worked out: {error}") from None


class _Reader:
    def __init__(self, text: str) -> None:
        self.text, self.names, self.at = text, [], 0
        self.tokens: list[tuple[str, str]] = []
        place = 0
        while text[place:].strip():
            match = _TOKEN.match(text, place)
            if match is None:
                raise ValueError(f"constraint '{text}': '{text[place:].strip()[:20]}' is not understood")
            kind = str(match.lastgroup)
            self.tokens.append((kind, match.group(kind)))
            place = match.end()

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.at += bool(token)
        return token

    def before(self) -> str:
        return " ".join(token for _, token in self.tokens[: max(0, self.at - 1)]) or self.text

    def sum(self) -> Term:
        return self._chain(_SUM, lambda: self._chain(_PRODUCT, self._atom))

    def _chain(self, marks: Mapping[str, Callable[[Any, Any], Any]], part: Callable[[], Term]) -> Term:
        left = part()
        while self.peek() in marks:
            left = _joined(marks[self.take()], left, part())
        return left

    def _atom(self) -> Term:
        if self.at >= len(self.tokens):
            raise ValueError(f"constraint '{self.text}': something is missing at its end")
        kind, token = self.tokens[self.at]
        self.at += 1
        if kind == "number":
            value = float(token)
            return lambda _: value
        if kind == "text":
            return lambda _: token[1:-1]
        if kind == "name":
            self.names.append(token)
            return lambda values: values[token]
        if token == "(":
            inside = self.sum()
            if self.take() != ")":
                raise ValueError(f"constraint '{self.text}': a ')' is missing")
            return inside
        if token == "-":
            operand = self._atom()
            return lambda values: -operand(values)
        raise ValueError(f"constraint '{self.text}': '{token}' stands where a name or a number is expected")


def _joined(operate: Callable[[Any, Any], Any], left: Term, right: Term) -> Term:
    return lambda values: operate(left(values), right(values))
