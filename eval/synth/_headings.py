"""Turns a heading into the question that its section answers. English only."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable

from ...core.types import Document, Section

__all__ = ["Names", "heading_questions", "word_set"]


def word_set(text: str) -> frozenset[str]:
    """The words of a text with blanks between them."""
    return frozenset(text.split())


_NUMBERING = re.compile(
    r"^(?:(?:part|chapter|section|step|appendix)\s+[A-Z0-9]{1,3}\s*[.:)]\s*|[0-9]+(?:\.[0-9]+)*[.:)]?\s+|[A-Z][.)]\s+)",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_][\w'’-]*")
_AFTER_GERUND = word_set(
    "a an the your our its their this that these from with to in on for at by off out over up down back into after "
    "before against through between under about without when something someone somebody others it them"
)
_NO_GERUNDS = word_set("during nothing something anything everything morning evening string king ring spring")
_WHEN = word_set("when while if after before during until once")
_ASKS = word_set("who what which whose")
_VAGUE = re.compile(r"\b(it|its|they|them|their|this|that|these|those|he|she|him|her)\b")
_PRONOUN_FIRST = re.compile(r"^(how|where|when|why) (it|they|this|these|we|you) (is|are|was|were|may|can|must) (.+)$")
_HOW_LONG = re.compile(r"^(how (?:long|much|often|far|many)|how|where|when|why) (it|they|we|you) ([a-z]+)$")
_DO = re.compile(r"^(what|where|when|why|how|how long|how much|how often|how far) (you|we|they|i) ([a-z]+)( .+)?$")
_AUXILIARIES = word_set("are were can could do did have had may might must shall should will would need")
_PREPOSITIONS = word_set(
    "above across at below between beyond by during for from in inside into near of on out outside "
    "over since through to towards under up upon with within without not no"
)
_SOMETHING = word_set("anybody anyone anything everybody everything nobody nothing somebody someone something there")
_IMPERATIVES = word_set(
    "add adjust apply ask book build calculate cancel change charge check choose clean close configure connect contact "
    "create delete deploy disable download enable enter export find fix get give handle import inspect install load "
    "log make manage measure migrate move open order pair pay place prepare print publish put read receive record "
    "register remove renew repair replace report request reset restart restore return run save scan search select "
    "send set ship show sign start stop submit swap test track transfer turn uninstall update upgrade upload use "
    "verify view write"
)


class Names:
    """How words are written within the sentences of a corpus, so that headings can be put into one.

    A word that stands in small letters somewhere is a common word; others are names and keep their capital.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        """Counts the words of all documents."""
        self._common: set[str] = set()
        names: Counter[str] = Counter()
        for text in texts:
            for line in text.splitlines():
                words = _WORD.findall(line)
                if line.isupper():
                    continue
                self._common.update(word for word in words if word.islower())
                names.update(word for word in words[1:] if word[0].isupper())
        # the form that is met most often; the first by spelling among equals
        self._names: dict[str, str] = {}
        for name, _ in sorted(names.items(), key=lambda item: (-item[1], item[0])):
            self._names.setdefault(name.lower(), name)

    def in_a_sentence(self, text: str, shouted: bool = False) -> str:
        """A heading as it stands within a sentence.

        Args:
            text: The heading.
            shouted: True where it is all capitals: every word is then looked up, else the first alone.
        """

        def written(match: re.Match[str]) -> str:
            word = match.group()
            first = match.start() == 0
            if not shouted and (not first or not word[1:].islower()):
                return word
            lower = word.lower()
            if lower in self._common:
                return lower
            return self._names.get(lower, word if shouted and len(word) < 4 else lower)

        return _WORD.sub(written, text)

    def title(self, document: Document) -> str:
        """A document's title, as a name within a sentence."""
        title = _clean(document.title)
        return _capital(self.in_a_sentence(title, title.isupper()))


def heading_questions(document: Document, section: Section, names: Names) -> str:
    """The question that a section answers, by its heading; empty where the heading is the document's title alone.

    Args:
        document: Its title tells sections of one name apart.
        section: With its path.
        names: How words of the corpus are written.
    """
    heading = _clean(section.path[-1])
    title = _clean(document.title)
    if not heading or not title or heading.casefold() == title.casefold() or heading.endswith("?"):
        return ""
    shouted = heading.isupper() and len(heading) > 4
    lower = names.in_a_sentence(heading, shouted)
    named = names.title(document)
    parent = _clean(section.path[-2]) if len(section.path) > 1 else ""
    if parent and parent.casefold() != title.casefold():
        inner = names.in_a_sentence(parent, parent.isupper())
        return _nested(lower, inner, named)
    return _as_clause(lower, named) or _as_doing(lower, named) or _as_subject(lower, named, section)


def _clean(text: str) -> str:
    text = re.sub(r"[*_`#]", "", text).strip()
    return " ".join(_NUMBERING.sub("", text).split()).rstrip(" .:;,")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _as_clause(lower: str, named: str) -> str:
    """Headings that are half a question: "Who decides", "When the mains fails", "How to read a code"."""
    words = lower.split()
    first = words[0].lower()
    body = first + lower[len(words[0]) :]
    if first in _WHEN and len(words) > 1:
        verb = "should be done" if first == "before" else "happens"
        return f"{named}: what {verb} {body}?"
    bare = _DO.match(body)
    if bare is not None and bare[3] not in _AUXILIARIES:
        return f"{named}: {bare[1]} do {bare[2]} {bare[3]}{bare[4] or ''}?"
    if first in _ASKS and len(words) > 1:
        return f"{named}: {body}?"
    if body.startswith("how to ") and len(words) > 2:
        rest = body[len("how to ") :]
        return f"{named}: how do I {rest}?" if _VAGUE.search(rest) else f"How do I {rest} ({named})?"
    swapped = _PRONOUN_FIRST.match(body)
    if swapped:
        return f"{named}: {swapped[1]} {swapped[3]} {swapped[2]} {swapped[4]}?"
    asked = _HOW_LONG.match(body)
    if asked and asked[3].endswith("s") and asked[2] == "it":
        verb = re.sub(r"(?<=[sxzh])es$", "", asked[3])
        return f"{named}: {asked[1]} does it {verb.removesuffix('s')}?"
    if first in ("how", "where", "why") and len(words) > 1:
        return f"{named}: {body}?"
    return ""


def _as_doing(lower: str, named: str) -> str:
    """Headings that name an action: "Registering an endpoint", "Replace the filter"."""
    words = lower.split()
    first = words[0].lower()
    if first.endswith("ing") and len(first) > 5 and first not in _NO_GERUNDS:
        if len(words) > 1 and words[1].lower() in _AFTER_GERUND:
            doing = first + lower[len(first) :]
            return f"{named}: how does {doing} work?" if _VAGUE.search(doing) else f"How does {doing} work ({named})?"
        return ""
    if first in _IMPERATIVES and len(words) > 1 and words[1].lower() in _AFTER_GERUND:
        return f"{named}: how do I {first + lower[len(first) :]}?"
    return ""


def _as_subject(lower: str, named: str, section: Section) -> str:
    """All other headings are subjects; the wording is drawn, so that a model does not learn one frame."""
    draw = hashlib.sha256(f"{named}/{'/'.join(section.path)}".encode("utf-8", "surrogatepass")).digest()[0]
    if lower.split()[0].lower() in _PREPOSITIONS | _SOMETHING:
        return f"{named}: {lower}"
    forms = (
        f"What does {named} say about {lower}?",
        f"What do I need to know about {lower} in {named}?",
        f"{named}: {lower}",
        f"Tell me about {lower} ({named})",
    )
    return forms[draw % len(forms)]


def _nested(lower: str, inner: str, named: str) -> str:
    """A heading below another: both are named, for it alone says too little ("J2", "Monday")."""
    return f"{named}, {inner}: what about {lower}?"
