"""The space of a sweep: axes, conditions and constraints on settings, and which points are the same configuration."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ...core.cache import digest
from ...core.config import apply_overrides
from ...core.errors import ConfigError, RagladderError
from ..pipeline_config import PipelineConfig, with_changes
from .expressions import Constraint
from .settings import SweepSettings

__all__ = ["Configuration", "Point", "Space", "effective", "key_of", "merged", "needed"]

Point = dict[str, Any]
"""Axis: value; a conditional axis whose condition is not met is not in it."""


@dataclass(frozen=True)
class Configuration:
    """A valid point.

    Attributes:
        point: Its values.
        changes: As `with_changes` takes them.
        pipeline: What it makes of the starting pipeline.
        key: Equal for points that give the same results.
    """

    point: Point
    changes: dict[str, Any]
    pipeline: PipelineConfig
    key: str


def effective(pipeline: PipelineConfig) -> dict[str, Any]:
    """The settings that matter, as JSON values: what the search mode ignores is at its default."""
    data = pipeline.model_dump(mode="json")
    retrieve = pipeline.retrieve
    ignored: tuple[str, ...] = ()
    if retrieve.mode in ("dense", "bm25"):
        ignored = ("fusion", "rrf_k", "weight", "normalise")
    elif retrieve.fusion == "rrf":
        ignored = ("weight", "normalise")
    elif retrieve.fusion == "weighted":
        ignored = ("rrf_k",)
    if not retrieve.neighbours:
        ignored = (*ignored, "neighbours_within")
    fields = type(retrieve).model_fields
    data["retrieve"].update({name: fields[name].default for name in ignored if name in fields})
    return data


def key_of(pipeline: PipelineConfig) -> str:
    """Hash of a pipeline's effective settings."""
    return digest(effective(pipeline))[:24]


class Space:
    """Axes over a starting pipeline."""

    def __init__(self, pipeline: PipelineConfig, settings: SweepSettings) -> None:
        """Takes the space of a sweep."""
        self.pipeline = pipeline
        self.axes: dict[str, list[Any]] = {axis: list(values) for axis, values in settings.space.items()}
        self._when = settings.when
        # conditional axes come last, so that what they depend on is known
        self.order = [a for a in self.axes if a not in self._when] + [a for a in self.axes if a in self._when]
        parsed = [Constraint.parse(text) for text in settings.constraints]
        self.before = tuple(c for c in parsed if all(_is_setting(name) for name in c.names))
        self.after = tuple(c for c in parsed if c not in self.before)
        self.found: list[Configuration] | None = None
        """All configurations, once they were looked for."""
        self.left_out: tuple[int, str] = (0, "")
        """Points that were no configuration when all were looked at, and why the first was none."""
        self._base = pipeline.model_dump(mode="json")

    @property
    def size(self) -> int:
        """Points of the plain product, before conditions and constraints."""
        product = 1
        for values in self.axes.values():
            product *= len(values)
        return product

    @property
    def start(self) -> Configuration:
        """The pipeline as configured, whether the space has it or not."""
        return Configuration({}, {}, self.pipeline, key_of(self.pipeline))

    def active(self, axis: str, point: Mapping[str, Any]) -> bool:
        """Whether an axis applies, given the values of the axes before it."""
        conditions = self._when.get(axis)
        if not conditions:
            return True
        changes = self.changes(point)
        try:
            data = self._changed(changes).model_dump(mode="json")
        except RagladderError:  # not yet valid: a later axis may make it so
            data = apply_overrides(self._base, [f"{path}={json.dumps(value)}" for path, value in changes.items()])
        return all(_value_at(data, path) in _as_list(wanted) for path, wanted in conditions.items())

    def changes(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """A point as changes of the starting pipeline: sections before what stands in them."""
        changes: dict[str, Any] = {}
        for axis, value in point.items():
            section, _, last = axis.rpartition(".")
            if last != "kind":
                changes[axis] = value
            elif _value_at(self._base, axis) != value:
                changes[section] = {"kind": value}  # another component: none of this one's settings
        return dict(sorted(changes.items(), key=lambda change: change[0].count(".")))

    def configure(self, point: Mapping[str, Any]) -> Configuration:
        """The configuration of a point.

        Raises:
            ConfigError: A value does not fit the others, or a constraint on settings does not hold.
        """
        changes = self.changes(point)
        pipeline = self._changed(changes)
        for constraint in self.before:
            data = pipeline.model_dump(mode="json")
            values = {name: _value_at(data, name) for name in constraint.names}
            try:
                holds = constraint.holds(values)
            except ValueError as error:
                raise ConfigError(str(error)) from None
            if not holds:
                raise ConfigError(f"the constraint '{constraint.text}' does not hold for {_said(point)}")
        return Configuration(dict(point), changes, pipeline, key_of(pipeline))

    def _changed(self, changes: Mapping[str, Any]) -> PipelineConfig:
        """As `with_changes`, without its way through YAML: large spaces are gone through point by point."""
        data: dict[str, Any] = dict(self._base)
        for path, value in changes.items():
            level: dict[str, Any] = data
            *above, last = path.split(".")
            for part in above:
                child: Any = level.get(part)
                child = {"kind": child} if isinstance(child, str) else child
                if not isinstance(child, dict):  # a list, or nothing: the plain way knows what to say
                    return with_changes(self.pipeline, dict(changes))
                level[part] = dict(child)
                level = level[part]
            level[last] = value
        try:
            return PipelineConfig.model_validate(data)
        except ValidationError:
            return with_changes(self.pipeline, dict(changes))

    def points(self) -> Iterator[Point]:
        """All points with their conditions met, valid or not, in the order of the axes."""
        yield from self._below({}, 0)

    def _below(self, point: Point, level: int) -> Iterator[Point]:
        if level == len(self.order):
            yield {axis: point[axis] for axis in self.axes if axis in point}
            return
        axis = self.order[level]
        if not self.active(axis, point):
            yield from self._below(point, level + 1)
            return
        for value in self.axes[axis]:
            yield from self._below({**point, axis: value}, level + 1)

    def draw(self, generator: random.Random) -> Point:
        """A random point, valid or not."""
        point: Point = {}
        for axis in self.order:
            if self.active(axis, point):
                point[axis] = generator.choice(self.axes[axis])
        return {axis: point[axis] for axis in self.axes if axis in point}

    def problems(self, source: str, lines: Mapping[tuple[Any, ...], int] | None = None, look: int = 2000) -> list[str]:
        """Values that no point can use, and conditions and constraints that name what is not there.

        Args:
            source: Of the space, for messages.
            lines: Line of each key path of the source.
            look: Points looked at for a value that is not valid by itself.
        """
        found = []
        for axis, values in self.axes.items():
            line = (lines or {}).get(("sweep", "space", axis))
            where = f"{source}:{line}" if line else source
            for value in values:
                problem = self._unusable(axis, value, look)
                found += [f"{where}: sweep.space: {text}" for text in problem.splitlines()]
        for path in [path for conditions in self._when.values() for path in conditions]:
            if path.split(".")[0] not in PipelineConfig.model_fields:
                known = ", ".join(PipelineConfig.model_fields)
                found.append(f"{source}: sweep.when: '{path}' is no key below pipeline (sections: {known})")
        return list(dict.fromkeys(found))

    def check(self, source: str = "sweep.space", look: int = 2000) -> None:
        """Checks that every value stands in some valid point, and that there is one.

        Raises:
            ConfigError: Listing the values that no point can use, or that no point is valid.
        """
        problems = self.problems(source, None, look)
        if problems:
            raise ConfigError("\n".join(problems))
        first = ""
        for tried, point in enumerate(self.points()):
            try:
                self.configure(point)
                return
            except ConfigError as error:
                first = first or str(error)
            if tried > 10 * look:
                return  # a very large space: the search will tell
        raise ConfigError(f"{source}: no point of the space is valid; the first: {first}")

    def _unusable(self, axis: str, value: Any, look: int) -> str:
        """Why no point can have a value; empty where one can."""
        try:
            with_changes(self.pipeline, self.changes({axis: value}))
            return ""
        except ConfigError as error:
            first = str(error)
        generator = random.Random(0)
        rest = [a for a in self.axes if a != axis]
        for _ in range(look if rest else 0):
            point = self.draw(generator)
            if axis not in point:
                continue
            try:
                self._changed(self.changes({**point, axis: value}))
                return ""
            except ConfigError:
                continue
        return first


def _is_setting(name: str) -> bool:
    return name.split(".")[0] in PipelineConfig.model_fields


def merged(before: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Changes with new ones put over them: what stands below a replaced section goes."""
    kept = {k: v for k, v in before.items() if not any(k == axis or k.startswith(f"{axis}.") for axis in new)}
    return {**kept, **new}


def needed(start: PipelineConfig, changes: Mapping[str, Any], pipeline: PipelineConfig) -> dict[str, Any]:
    """The changes without those that change nothing."""
    kept = dict(changes)
    for key in changes:
        rest = {k: v for k, v in kept.items() if k != key}
        try:
            if with_changes(start, rest) == pipeline:
                kept = rest
        except RagladderError:  # the others do not stand without this one: it is needed
            continue
    return kept


def _value_at(data: Any, path: str) -> Any:
    for part in path.split("."):
        if not isinstance(data, Mapping):
            return data if part == "kind" else None
        data = data.get(part)
    if isinstance(data, Mapping) and "kind" in data:
        return data["kind"]
    return data


def _as_list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


def _said(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{axis}={json.dumps(value)}" for axis, value in point.items()) or "the starting pipeline"
