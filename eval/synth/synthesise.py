"""Writes synthetic questions and filters them; the same documents, settings and replies give the same questions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ...core.errors import DataError
from ...core.progress import Reporter
from ...core.types import SPLITS, Document, Evidence, Question
from .._near import normal_form
from ..splits import split_questions
from .asking import Asker, Prompt, Reply
from .filters import Candidate, Filters, Retrieve, question_id, verbatim
from .passages import Passage, drawn, in_turn, passages_of, related_pairs
from .patterns import documents_by_question, pattern_candidates
from .prompts import MultiReply, SingleReply, UnanswerableReply, write_multi, write_single, write_unanswerable
from .report import KindCount, SynthReport, Tally
from .settings import KINDS, Kind, SynthSettings

__all__ = ["SynthResult", "synthesise"]

_WAVE = 32
_FEWEST_DOCUMENTS = 2000  # of a larger corpus as many are drawn, more where more questions are wanted
_EASY = (
    "patterns wrote these questions (tag source: synthetic-extractive): train an embedding model on them, but do not "
    "report scores on them"
)
_PAIR_POOL = 20  # passages looked at for a pair, for each pair that may be tried


@dataclass(frozen=True)
class SynthResult:
    """Questions and how they came about."""

    questions: tuple[Question, ...]
    report: SynthReport


@dataclass(frozen=True, slots=True)
class _Material:
    """What one question is to be written from."""

    kind: Kind
    passages: tuple[Passage, ...]
    persona: str
    style: str

    @property
    def key(self) -> str:
        return " + ".join(passage.key for passage in self.passages)


def synthesise(
    documents: Sequence[Document],
    settings: SynthSettings,
    existing: Sequence[Question] = (),
    asker: Asker | None = None,
    retrieve: Retrieve | None = None,
    abstention: str = "Not documented",
    reporter: Reporter | None = None,
) -> SynthResult:
    """Writes questions from documents, keeps those that pass the filters, and gives them splits.

    Args:
        documents: The parsed corpus.
        settings: What is wanted.
        existing: Questions that are there already: none is repeated, and their documents keep their splits.
        asker: The LLM; without one the patterns write, which know single-hop questions alone.
        retrieve: Searches the corpus, for the round trip and for what an unanswerable question might be answered by.
            Without it both are left out.
        abstention: Reference answer of an unanswerable question.
        reporter: For progress.

    Returns:
        The questions with evidence that is the documents' own text, tags `source`, `kind` and, where they apply,
        `pattern`, `persona` and `style`, and a split; and the report.

    Raises:
        DataError: There is no passage to ask about.
        EndpointError: The LLM cannot be reached; what was answered is kept for the next time.
    """
    return _Synthesis(
        documents, settings, existing, asker, retrieve, abstention, reporter or Reporter(quiet=True)
    ).run()


class _Synthesis:
    """One run."""

    def __init__(
        self,
        documents: Sequence[Document],
        settings: SynthSettings,
        existing: Sequence[Question],
        asker: Asker | None,
        retrieve: Retrieve | None,
        abstention: str,
        reporter: Reporter,
    ) -> None:
        self.settings, self.existing, self.asker = settings, existing, asker
        self.abstention, self.reporter, self.documents = abstention, reporter, documents
        self.tally = Tally(_switched_on(settings, asker is not None, retrieve is not None))
        texts = [question.text for question in existing]
        filters = settings.filters
        if asker is None and filters.near <= 100:
            filters = filters.model_copy(update={"near": 100.0})
        self.filters = Filters(filters, texts, asker, retrieve, self._fell)
        closed = self._closed_documents()
        self.asked: dict[str, list[str]] = {}
        self.notes: list[str] = []
        there = [document for document in documents if document.id not in closed]
        most = max(_FEWEST_DOCUMENTS, math.ceil(4 * settings.n * settings.tries))
        self.open = drawn(there, most, settings.seed)
        if len(self.open) < len(there):
            self.notes.append(f"{len(self.open)} of {len(there)} documents were drawn, and the others not asked about")
        if closed & {document.id for document in documents}:
            self.notes.append(f"{len(closed)} documents of splits that get no synthetic questions were left out")

    def run(self) -> SynthResult:
        source = "synthetic-llm" if self.asker is not None else "synthetic-extractive"
        if self.asker is None:
            passages, kept, kinds = self._extract()
        else:
            passages, kept, kinds = self._ask_for_all()
        questions = [
            replace(candidate.question, tags={"source": source, **candidate.question.tags}) for candidate in kept
        ]
        questions = self._with_splits(questions, kinds)
        splits = Counter(question.split for question in questions)
        report = SynthReport(
            writer="llm" if self.asker is not None else "extractive",
            source=source,
            documents=len(self.documents),
            passages=passages,
            kinds=tuple(kinds),
            filters=self.tally.result(),
            calls=self.asker.counts if self.asker is not None else None,
            splits={split: splits[split] for split in SPLITS if splits[split]},
            stopped=self.asker.stopped if self.asker is not None else "",
            notes=tuple(self.notes),
        )
        return SynthResult(tuple(questions), report)

    def _fell(self, candidate: Candidate, name: str, why: str) -> None:
        shown = candidate.question.text or candidate.passages[0].key
        self.tally.add(name, f"{shown[:100]}: {why}" if why else shown[:100])

    def _require(self, passages: Sequence[object]) -> None:
        if not passages:
            left = f" ({self.notes[-1]})" if self.notes else ""
            raise DataError(f"{len(self.open)} documents{left} hold no passage to ask about; add documents with text")

    # --- patterns --------------------------------------------------------------------------------------------------

    def _extract(self) -> tuple[int, list[Candidate], list[KindCount]]:
        """How many passages the patterns fit, the questions that passed, and their count."""
        found = pattern_candidates(self.open, self.settings.seed)
        self._require(found)
        places = documents_by_question(found)
        wanted = self.settings.n
        kept: list[Candidate] = []
        tried = 0
        while len(kept) < wanted and tried < len(found):
            # all that is missing at once, for a search has a cost of its own
            wave = found[tried : tried + wanted - len(kept)]
            tried += len(wave)
            clear = []
            for candidate in wave:
                where = places[normal_form(candidate.question.text)]
                if len(where) > 1:
                    self._fell(candidate, "ambiguous", f"in {', '.join(where[:3])}")
                else:
                    clear.append(candidate)
            kept += self.filters.passed(clear)
        note = "the documents give no more" if len(kept) < wanted else ""
        self.notes.append(_EASY)
        left = [kind for kind, share in self.settings.kinds.items() if share > 0 and kind != "single"]
        if left:
            self.notes.append(f"{' and '.join(left)}: need an LLM, so all questions are single-hop")
        passages = len({candidate.passages[0].key for candidate in found})
        return passages, kept, [KindCount(kind="single", wanted=wanted, tried=tried, kept=len(kept), note=note)]

    # --- an LLM ----------------------------------------------------------------------------------------------------

    def _ask_for_all(self) -> tuple[int, list[Candidate], list[KindCount]]:
        """How many passages there are, the questions that passed, and their counts by kind."""
        passages = [p for document in self.open for p in passages_of(document, self.settings.passage)]
        self._require(passages)
        kept: list[Candidate] = []
        kinds: list[KindCount] = []
        with self.reporter.task("writing questions", self.settings.n, "questions") as task:
            for kind, wanted in self.settings.wanted().items():
                found, count = self._write(kind, wanted, passages, task.advance)
                kept += found
                kinds.append(count)
        return len(passages), kept, kinds

    def _write(
        self, kind: Kind, wanted: int, passages: list[Passage], advance: Callable[[int], None]
    ) -> tuple[list[Candidate], KindCount]:
        most = math.ceil(wanted * self.settings.tries)
        material = self._material(kind, passages, most)
        kept: list[Candidate] = []
        tried, usable, note = 0, 0, ""
        while len(kept) < wanted and not self._stopped():
            wave = [m for _, m in zip(range(min(_WAVE, wanted - len(kept), most - tried)), material, strict=False)]
            if not wave:
                short = f"{self.settings.tries:g} tries a question wanted are used up (synth.tries)"
                note = short if tried >= most else "the documents give no more"
                break
            tried += len(wave)
            written = self._written(wave)
            usable += len(written)
            passed = self.filters.passed(written)
            kept += passed
            advance(len(passed))
            if not usable and tried >= _WAVE and not self._stopped():
                note = f"none of the first {tried} replies could be used: this LLM cannot write such questions"
                break
        if len(kept) < wanted and not note:
            note = self._stopped()
        return kept, KindCount(kind=kind, wanted=wanted, tried=tried, kept=len(kept), note=note)

    def _stopped(self) -> str:
        return self.asker.stopped if self.asker is not None else ""

    def _material(self, kind: Kind, passages: list[Passage], most: int) -> Iterator[_Material]:
        settings = self.settings
        ordered = in_turn(passages, settings.seed, kind)
        if kind == "multi":
            units = related_pairs(ordered[: max(_PAIR_POOL * most, 2000)])
        else:
            units = [(passage,) for passage in ordered]
        number = 0
        for _ in range(settings.per_passage):
            for unit in units:
                persona = settings.personas[number % len(settings.personas)] if settings.personas else ""
                style = settings.styles[number % len(settings.styles)]
                number += 1
                yield _Material(kind, unit, persona, style)

    def _written(self, wave: Sequence[_Material]) -> list[Candidate]:
        """The questions that the LLM writes from a wave of material, their evidence found; failures are counted."""
        if self.asker is None:
            return []
        replies = self.asker.ask([self._prompt(material) for material in wave])
        written = []
        for material, reply in zip(wave, replies, strict=True):
            candidate = self._candidate(material, reply)
            if candidate is not None:
                self.asked.setdefault(f"{material.kind}:{material.key}", []).append(candidate.question.text)
                written.append(candidate)
        return written

    def _prompt(self, material: _Material) -> Prompt:
        before = self.asked.get(f"{material.kind}:{material.key}", ())
        told = (material.persona, material.style, self.settings, before)
        if material.kind == "multi":
            return write_multi(material.passages, *told)
        write = write_single if material.kind == "single" else write_unanswerable
        return write(material.passages[0], *told)

    def _candidate(self, material: _Material, reply: Reply) -> Candidate | None:
        kind, passages = material.kind, material.passages
        tags = {"kind": kind, "style": material.style}
        tags |= {"persona": material.persona} if material.persona else {}
        empty = Candidate(Question("", "", "", (), tags), kind, passages)
        if reply.value is None:
            self._fell(empty, reply.status, reply.detail)
            return None
        text = " ".join(reply.value.question.split())
        if not text:
            self._fell(empty, "declined", "")
            return None
        if isinstance(reply.value, UnanswerableReply):
            return Candidate(Question(question_id(text, ()), text, self.abstention, (), tags), kind, passages)
        evidence, why = self._evidence(reply.value, passages)
        answer = " ".join(reply.value.answer.split())
        candidate = Candidate(Question(question_id(text, evidence), text, answer, evidence, tags), kind, passages)
        if why:
            self._fell(candidate, "evidence", why)
            return None
        return candidate

    def _evidence(
        self, reply: SingleReply | MultiReply, passages: Sequence[Passage]
    ) -> tuple[tuple[Evidence, ...], str]:
        """The passages' own text for the excerpts; empty, and why, where one cannot be used."""
        if isinstance(reply, SingleReply):
            excerpts = [(1, reply.evidence)]
        else:
            excerpts = [(part.passage, part.text) for part in reply.evidence]
            if {number for number, _ in excerpts} != {1, 2}:
                return (), "not an excerpt of each of the two passages"
        found: list[Evidence] = []
        for number, excerpt in sorted(excerpts, key=lambda part: part[0]):
            evidence, why = verbatim(excerpt, passages[number - 1], self.settings.filters)
            if evidence is None:
                return (), why
            found.append(evidence)
        return tuple(dict.fromkeys(found)), ""

    # --- splits ----------------------------------------------------------------------------------------------------

    def _closed_documents(self) -> set[str]:
        """Documents of existing questions whose split gets no synthetic ones."""
        shares = dict(zip(SPLITS, self.settings.split.shares, strict=True))
        return {
            evidence.doc_id
            for question in self.existing
            if question.split is not None and shares[question.split] == 0
            for evidence in question.evidence
        }

    def _with_splits(self, questions: list[Question], kinds: list[KindCount]) -> list[Question]:
        """The questions with splits; those whose group belongs to a split without a share fall."""
        settings = self.settings.split
        if not questions:
            return questions
        try:
            result = split_questions(
                questions, settings.by, settings.shares, self.settings.seed, known=self.existing, complete=False
            )
        except DataError as error:
            self.notes.append(f"no splits were set: {error}")
            return questions
        bare = [s for s, share in zip(SPLITS, settings.shares, strict=True) if share > 0 and not result.counts[s]]
        if bare:
            self.notes.append(
                f"no question has the split {' or '.join(bare)}: there are too few documents or questions for it; "
                "write more, or set synth.split.shares"
            )
        shares = dict(zip(SPLITS, settings.shares, strict=True))
        left: list[Question] = []
        lost: Counter[str] = Counter()
        for question in result.questions:
            if question.split is not None and shares[question.split] > 0:
                left.append(question)
                continue
            lost[question.tags.get("kind", "single")] += 1
            self.tally.add("split", f"{question.text[:100]}: {question.split} has no share")
        kinds[:] = [kind.model_copy(update={"kept": kind.kept - lost[kind.kind]}) for kind in kinds]
        return left


def _switched_on(settings: SynthSettings, llm: bool, search: bool) -> tuple[str, ...]:
    """The filters that a run meets, for the report: one at which nothing fell is shown as well."""
    filters = settings.filters
    kinds = {kind for kind in KINDS if settings.kinds.get(kind, 0) > 0} if llm else {"single"}
    on = {
        "declined": llm,
        "failed": llm,
        "unreadable": llm,
        "evidence": llm and bool(kinds - {"unanswerable"}),
        "form": True,
        "ambiguous": not llm,
        "duplicate": filters.near <= 100,
        "round_trip": filters.round_trip and search,
        "answerable": llm and filters.answerable and bool(kinds - {"unanswerable"}),
        "unanswerable": llm and filters.answerable and "unanswerable" in kinds,
        "every_hop": llm and filters.every_hop and "multi" in kinds,
        "closed_book": llm and filters.closed_book and bool(kinds - {"unanswerable"}),
    }
    return tuple(name for name, met in on.items() if met)
