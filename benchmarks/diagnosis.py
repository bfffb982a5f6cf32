"""Plants one fault at a time in a sound pipeline and counts whether the diagnosis blames the part that was broken.

    python benchmarks/diagnosis.py                          # the quickstart's documents and questions
    python benchmarks/diagnosis.py --config my.yaml

The reader is a stand-in that gives the reference answer where its passages hold the evidence (planted_faults.py), so
that whatever is lost was lost before it; parsing, chunking, search and the counterfactual runs are real. A failure is
induced where the sound pipeline answers a question and the broken one does not. At least 95% of them should be
attributed to the broken part.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
READER = "planted_faults:Reader"

SOUND: Mapping[str, Any] = {
    "chunk": {"kind": "section", "size": 128},
    "embed": {"kind": "planted_faults:BlindEmbedder"},
    "retrieve": {"mode": "bm25", "top_k": 5, "fetch_k": 20},
    "rerank": "none",
    "generate": READER,
}
FAULTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "parser gives half of each page": (
        "parse",
        {
            f"parse.{name}": {"kind": "planted_faults:HalfParser", "extension": extension}
            for name, extension in (("markdown", ".md"), ("html", ".html"), ("text", ".txt"), ("docx", ".docx"))
        },
    ),
    "retriever searches with random vectors": ("retrieve", {"retrieve.mode": "dense"}),
    "ranker puts the best last": ("rank", {"rerank": "planted_faults:UpsideDownReranker"}),
    "order: best last, a reader that looks at one passage": (
        "rank",
        {
            "rerank": "planted_faults:UpsideDownReranker",
            "retrieve.fetch_k": 5,
            "generate": {"kind": READER, "reads": 1},
        },
    ),
    "prompt has room for one passage": ("context_budget", {"generate": {"kind": READER, "prompt": 1}}),
    "generator answers wrongly": ("generate", {"generate": {"kind": READER, "rambles": True}}),
    "generator is distracted by other passages": (
        "generate",
        {"generate": {"kind": READER, "easily_distracted": True}},
    ),
    "generator gives no answer": ("judge", {"generate": {"kind": READER, "fails": True}}),
}


def attributed(config: Path, cache: Path) -> dict[str, tuple[str, int, Counter[str]]]:
    """For each planted fault: the part that is broken, the questions that are lost by it, and the parts blamed."""
    from ragladder.core.progress import Reporter
    from ragladder.eval.diagnosis import fault_of
    from ragladder.eval.questions import load_questions
    from ragladder.ladder.config import load_experiment, with_changes
    from ragladder.ladder.diagnose import outcomes
    from ragladder.ladder.workbench import Workbench

    experiment = load_experiment(config, [f"runtime.cache_dir={cache}", "score.ragas=false"])
    base_dir = config.absolute().parent
    questions = load_questions(experiment.resources(base_dir).path(experiment.data.questions))
    bench = Workbench(experiment, base_dir, questions, Reporter(quiet=True))
    sound = with_changes(experiment.pipeline, dict(SOUND))

    def causes(changes: Mapping[str, Any]) -> dict[str, Any]:
        found = outcomes(bench, bench.evaluate(with_changes(sound, dict(changes)), "dev", questions))
        return {outcome.question_id: outcome.cause for outcome in found}

    before = causes({})
    answered = {question for question, cause in before.items() if cause == "answered"}
    table = {}
    for name, (part, changes) in FAULTS.items():
        after = causes(changes)
        lost = [question for question in answered if after[question] != "answered"]
        table[name] = (part, len(answered), Counter(str(fault_of(after[question])) for question in lost))
    return table


def main() -> None:
    """Prints the table; exit status 1 where a part is blamed for less than 95% of what it lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=HERE.parent / "configs" / "quickstart.yaml")
    options = parser.parse_args()
    sys.path.insert(0, str(HERE))
    with tempfile.TemporaryDirectory() as cache:
        table = attributed(options.config, Path(cache))
    print("| planted fault | part | answered before | lost by it | blamed | share |\n|---|---|---|---|---|---|")
    worst = 1.0
    for name, (part, answered, blamed) in table.items():
        lost = sum(blamed.values())
        share = blamed[part] / lost if lost else 0.0
        worst = min(worst, share)
        shown = ", ".join(f"{fault} {count}" for fault, count in blamed.most_common())
        print(f"| {name} | {part} | {answered} | {lost} | {shown} | {share:.1%} |")
    print(f"\nleast {worst:.1%}")
    sys.exit(worst < 0.95)


if __name__ == "__main__":
    main()
