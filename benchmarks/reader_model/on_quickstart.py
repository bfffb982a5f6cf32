"""Prints how the reader model answers the quickstart's dev questions when the passage with the evidence is among three.

    python on_quickstart.py ../../configs/quickstart/model

Unlike evaluate.py this is text that the generator did not make: documents with house jargon, and questions in people's
own words. The other passages are those that BM25 finds; a question without an answer gets three of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from ragladder.core.components import Resources
from ragladder.core.types import Chunk, Question
from ragladder.eval.answers import answer_recall, exact_match, token_f1
from ragladder.eval.gold import locate
from ragladder.eval.questions import load_questions
from ragladder.rag.chunk import SectionSettings, chunk_corpus
from ragladder.rag.index import BM25Index
from ragladder.rag.index.bm25 import BM25Settings
from ragladder.rag.parse import ParseSettings, parse_corpus
from ragladder.rag.prompt import PromptSettings, build_messages
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

QUICKSTART = Path(__file__).resolve().parents[2] / "configs" / "quickstart"
PASSAGES = 3


def cases(split: str, cache: Path) -> list[tuple[Question, list[Chunk]]]:
    """Returns the split's questions with the passages they are asked over, those with the evidence in between."""
    resources = Resources(cache_dir=cache)
    settings = ParseSettings(ref_pattern="^([A-Z]+-[0-9]+[A-Z]?)_")
    documents = parse_corpus(QUICKSTART / "docs", settings, resources).documents
    chunks = chunk_corpus(documents, SectionSettings(size=128).build(resources))
    questions = [q for q in load_questions(QUICKSTART / "questions") if q.split == split]
    gold = locate(questions, documents)
    index = BM25Index.build([chunk.text for chunk in chunks], BM25Settings())
    _, places = index.search([question.text for question in questions], 4 * PASSAGES)
    made = []
    for number, (question, found) in enumerate(zip(questions, places, strict=True)):
        spans = gold[question.id]
        holds = [c for c in chunks if any(c.doc_id == s.doc_id and c.start < s.end and s.start < c.end for s in spans)]
        others = [chunks[place] for place in found.tolist() if place >= 0 and chunks[place] not in holds]
        others = others[: max(1, PASSAGES - len(holds))]
        cut = number % (len(others) + 1)
        made.append((question, [*others[:cut], *holds, *others[cut:]]))
    return made


@torch.no_grad()
def answer(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, question: Question, chunks: list[Chunk]) -> str:
    """Returns the model's answer, decoded greedily."""
    messages = [{"role": m.role, "content": m.content} for m in build_messages(question.text, chunks, PromptSettings())]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    out = model.generate(**ids, max_new_tokens=24, do_sample=False)
    return tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--split", default="dev", choices=["train", "dev"])
    parser.add_argument("--cache", type=Path, default=Path(".ragladder"))
    parser.add_argument("--show", action="store_true", help="print every answer")
    args = parser.parse_args()
    asked = cases(args.split, args.cache)
    for name in args.models:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32).eval()
        rows = []
        for question, chunks in asked:
            said, wanted = answer(model, tokenizer, question, chunks), question.answer.rsplit(" [", 1)[0]
            if args.show:
                print(f"{question.text}\n    {wanted}\n    {said}")
            scores = (exact_match(said, wanted), token_f1(said, wanted), answer_recall(said, wanted))
            rows.append((question.answerable, said.startswith("Not documented"), *scores))
        known, unknown = ([row for row in rows if row[0] is kind] for kind in (True, False))
        means = [sum(column) / len(known) for column in zip(*(row[1:] for row in known), strict=True)]
        print(
            f"{name}: {len(known)} answerable questions: exact {means[1]:.1%}, token F1 {means[2]:.3f}, recall "
            f"{means[3]:.3f}, declined {means[0]:.1%}; {len(unknown)} unanswerable: declined "
            f"{sum(row[1] for row in unknown) / len(unknown):.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
