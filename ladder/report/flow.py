"""Where the questions went: the cause of loss of each before and after a rung, and of the whole climb."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..records import LadderRecord
from .run_folder import RunFolder
from .words import CAUSES, arm_name, cause_name

__all__ = ["Flow", "Move", "Node", "causes_of", "climb_flow", "flow_chart", "moves", "rung_flow", "standing_before"]

ALL = "all"
_HEIGHT, _GAP, _WIDTH, _TOP = 280, 5, 38, 24


@dataclass(frozen=True, slots=True)
class Flow:
    """Questions by cause at several times, and how many went from which cause to which.

    Attributes:
        titles: Of the columns, left to right.
        counts: A column each: questions by cause.
        links: Between neighbouring columns: (cause before, cause after): questions.
    """

    titles: tuple[str, ...]
    counts: tuple[Mapping[str, int], ...]
    links: tuple[Mapping[tuple[str, str], int], ...]


@dataclass(frozen=True, slots=True)
class Move:
    """Questions that a rung took from one cause to another."""

    before: str
    after: str
    n: int

    @property
    def gained(self) -> bool | None:
        """True where they are answered now, False where they were; None where neither."""
        return True if self.after == "answered" else False if self.before == "answered" else None


@dataclass(frozen=True, slots=True)
class Node:
    """A cause in a column, as drawn, in pixels from the top."""

    cause: str
    n: int
    top: float
    height: float


def causes_of(run: RunFolder, split: str = "dev") -> dict[str, dict[str, str]]:
    """Cause by arm and question."""
    found: dict[str, dict[str, str]] = {}
    for row in run.answers:
        if row.get("split") == split and row.get("cause"):
            found.setdefault(row["arm"], {})[row["question_id"]] = row["cause"]
    return found


def standing_before(record: LadderRecord) -> dict[str, str]:
    """Rung: the arm that it set out from."""
    before, standing = {}, record.baseline.arm
    for rung in record.rungs:
        before[rung.name] = standing
        if rung.candidate is not None and rung.decision.verdict == "adopt":
            standing = rung.candidate.arm
    return before


def rung_flow(causes: Mapping[str, Mapping[str, str]], before: str, after: str) -> Flow | None:
    """What a rung did to the questions; None where the causes of either arm are not known."""
    return _flow(causes, [before, after], (arm_name(before), arm_name(after)))


def climb_flow(causes: Mapping[str, Mapping[str, str]], record: LadderRecord) -> Flow | None:
    """All questions, then their causes at the baseline and after every rung that was adopted."""
    adopted = [r.candidate.arm for r in record.rungs if r.candidate is not None and r.decision.verdict == "adopt"]
    arms = [record.baseline.arm, *adopted]
    found = _flow(causes, arms, tuple(arm_name(arm) for arm in arms))
    if found is None:
        return None
    first = found.counts[0]
    links = ({(ALL, cause): n for cause, n in first.items()}, *found.links)
    return Flow(("Questions", *found.titles), ({ALL: sum(first.values())}, *found.counts), links)


def moves(flow: Flow) -> list[Move]:
    """Between the last two columns, the largest first; questions whose cause stays are left out."""
    found = [Move(before, after, n) for (before, after), n in flow.links[-1].items() if before != after]
    return sorted(found, key=lambda m: (-m.n, _place(m.before), _place(m.after)))


def _flow(causes: Mapping[str, Mapping[str, str]], arms: Sequence[str], titles: tuple[str, ...]) -> Flow | None:
    if any(arm not in causes for arm in arms):
        return None
    shared = [q for q in causes[arms[0]] if all(q in causes[arm] for arm in arms)]
    if not shared:
        return None
    counts = tuple(_ordered(Counter(causes[arm][q] for q in shared)) for arm in arms)
    pairs = zip(arms, arms[1:], strict=False)
    links = tuple(dict(Counter((causes[a][q], causes[b][q]) for q in shared)) for a, b in pairs)
    return Flow(titles, counts, links)


def _ordered(counts: Mapping[str, int]) -> dict[str, int]:
    return {cause: counts[cause] for cause in sorted(counts, key=_place)}


def _place(cause: str) -> tuple[int, str]:
    return (CAUSES.index(cause) if cause in CAUSES else len(CAUSES), cause)


# --- drawing ---


def flow_chart(flow: Flow, label: str) -> Any:
    """The columns with bands between them; how thick a band is says how many questions it stands for.

    Args:
        flow: What is drawn.
        label: What is seen, for those who do not see it.
    """
    from markupsafe import Markup, escape

    columns = [_nodes(counts) for counts in flow.counts]
    last = len(columns) - 1
    places = [100 * i / last for i in range(last + 1)]
    parts = [
        _bands(links, columns[i], columns[i + 1], places[i], places[i + 1] - places[i], flow.titles[i : i + 2])
        for i, links in enumerate(flow.links)
    ]
    for i, (nodes, title) in enumerate(zip(columns, flow.titles, strict=True)):
        anchor, shift = ("start", 0) if i == 0 else ("end", -_WIDTH) if i == last else ("middle", -_WIDTH // 2)
        x = f"{places[i]:.3f}%"
        parts.append(f'<text class="column" x="{x}" y="13" text-anchor="{anchor}">{escape(title)}</text>')
        parts += [_node(node, x, shift, title) for node in nodes]
    return Markup(
        f'<svg class="flow" width="100%" height="{_HEIGHT + _TOP + 2}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def _nodes(counts: Mapping[str, int]) -> list[Node]:
    there = {cause: n for cause, n in counts.items() if n}
    total = sum(there.values()) or 1
    unit = (_HEIGHT - _GAP * (len(there) - 1)) / total
    nodes, top = [], float(_TOP)
    for cause, n in there.items():
        nodes.append(Node(cause, n, top, n * unit))
        top += n * unit + _GAP
    return nodes


def _node(node: Node, x: str, shift: int, title: str) -> str:
    from markupsafe import escape

    name = escape(_name(node.cause))
    text = ""
    if node.height >= 13:
        y = node.top + node.height / 2 + 4.5
        text = (
            f'<text class="in c-{escape(node.cause)}" x="{x}" y="{y:.1f}" dx="{shift + _WIDTH / 2:g}" '
            f'text-anchor="middle">{node.n}</text>'
        )
    return (
        f'<rect class="c-{escape(node.cause)}" x="{x}" y="{node.top:.1f}" width="{_WIDTH}" '
        f'height="{max(node.height, 1):.1f}" transform="translate({shift})">'
        f"<title>{escape(title)}: {name}, {node.n}</title></rect>{text}"
    )


def _bands(
    links: Mapping[tuple[str, str], int],
    left: Sequence[Node],
    right: Sequence[Node],
    x: float,
    width: float,
    titles: Sequence[str],
) -> str:
    """Bands of a gap, in an SVG of their own that is stretched over it."""
    from markupsafe import escape

    starts, ends = {node.cause: node.top for node in left}, {node.cause: node.top for node in right}
    paths = []
    for (before, after), n in sorted(links.items(), key=lambda item: (_place(item[0][0]), _place(item[0][1]))):
        a, b, thick_a, thick_b = starts[before], ends[after], n * _unit(left, before), n * _unit(right, after)
        starts[before] += thick_a
        ends[after] += thick_b
        colour = after if before == ALL else before
        paths.append(
            f'<path class="band c-{escape(colour)}" d="M0,{a:.1f}C50,{a:.1f} 50,{b:.1f} 100,{b:.1f}V{b + thick_b:.1f}'
            f'C50,{b + thick_b:.1f} 50,{a + thick_a:.1f} 0,{a + thick_a:.1f}Z">'
            f"<title>{n}: {escape(_name(before))} → {escape(_name(after))} ({escape(titles[1])})</title></path>"
        )
    place = f'x="{x:.3f}%" y="0" width="{width:.3f}%" height="{_HEIGHT + _TOP}"'
    box = f'viewBox="0 0 100 {_HEIGHT + _TOP}" preserveAspectRatio="none"'
    return f'<svg aria-hidden="true" {place} {box}>{"".join(paths)}</svg>'


def _unit(nodes: Sequence[Node], cause: str) -> float:
    """Pixels a question in a column."""
    return next(node.height / node.n for node in nodes if node.cause == cause)


def _name(cause: str) -> str:
    return "All questions" if cause == ALL else cause_name(cause)[0]
