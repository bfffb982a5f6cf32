"""Test double: an LLM that writes and checks questions about documents of one sentence pattern. It knows no language.

A sentence `The <part> of the <thing> lasts <n> days.` is what it can ask about and answer from. What it says can be
bent by `faults`: reply number (from 0) to the text that is returned instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from ragladder.core.chat import ChatRequest, Completion, Probe
from ragladder.core.types import Document, Section

FACT = re.compile(r"The (\w+) of the (\w+)(?: is \w+ and)? lasts (\d+) days\.")
THINGS = (
    "kettle",
    "lantern",
    "pump",
    "drone",
    "scale",
    "printer",
    "gate",
    "heater",
    "camera",
    "loom",
    "mixer",
    "radio",
)
PARTS = ("filter", "battery", "switch", "cable")


def corpus(count: int) -> list[Document]:
    """Up to twelve documents with a section and a fact a part, each fact with another number."""
    documents = []
    for number in range(count):
        thing = THINGS[number]
        text, sections = f"# Handbook of the {thing}\n\n", []
        for place, part in enumerate(PARTS):
            start = len(text)
            text += f"## Care of the {part}\n\nThe {part} of the {thing} lasts {4 * number + place + 100} days. "
            text += "Ask the desk when in doubt and write down what was done before leaving the room.\n\n"
            sections.append(Section(start, len(text), 2, (f"Handbook of the {thing}", f"Care of the {part}")))
        head = Section(0, len(text), 1, (f"Handbook of the {thing}",))
        documents.append(Document(f"{thing}.md", text, f"Handbook of the {thing}", thing, (head, *sections)))
    return documents


def answer(prompt: str) -> str:
    """What the double replies to a prompt."""
    if 'Form: {"question"' in prompt:
        return json.dumps(_written(prompt))
    excerpts = re.findall(r"<excerpt>\n(.*?)\n</excerpt>", prompt, re.DOTALL)
    asked = prompt.rpartition("Question: ")[2].partition("\n")[0]
    facts = {(part, thing): int(days) for text in excerpts for part, thing, days in FACT.findall(text)}
    wanted = re.findall(r"(\w+) of the (\w+)", asked)
    known = bool(wanted) and asked.startswith(("How long", "Which lasts")) and all(key in facts for key in wanted)
    if not known:
        return json.dumps({"known": False, "answer": ""})
    part, thing = max(wanted, key=lambda key: facts[key])
    said = f"the {part} of the {thing}" if len(wanted) > 1 else f"{facts[part, thing]} days"
    return json.dumps({"known": True, "answer": said})


def _written(prompt: str) -> dict[str, object]:
    shown = re.findall(r"<passage(?: \d)?>\n(.*?)\n</passage", prompt, re.DOTALL)
    found = [FACT.search(text) for text in shown]
    facts = [match for match in found if match is not None]
    if len(facts) < len(shown):
        return {"question": "", "answer": "", "evidence": "" if len(shown) == 1 else []}
    if "does NOT answer" in prompt:
        return {"question": f"Who invented the {facts[0][1]} of the {facts[0][2]}?"}
    if len(facts) == 1:
        question = f"How long does the {facts[0][1]} of the {facts[0][2]} last?"
        return {"question": question, "answer": f"{facts[0][3]} days", "evidence": facts[0].group()}
    one, two = facts
    longer = max(facts, key=lambda fact: int(fact[3]))
    return {
        "question": f"Which lasts longer, the {one[1]} of the {one[2]} or the {two[1]} of the {two[2]}?",
        "answer": f"the {longer[1]} of the {longer[2]}",
        "evidence": [{"passage": 1, "text": one.group()}, {"passage": 2, "text": two.group()}],
    }


class Double:
    """A chat model."""

    def __init__(self, faults: Mapping[int, str] | None = None, status: str = "ok") -> None:
        self.asked: list[str] = []
        self._faults = dict(faults or {})
        self._status = status

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        done = []
        for request in requests:
            prompt = "\n".join(message.content for message in request.messages)
            text = self._faults.get(len(self.asked), answer(prompt))
            self.asked.append(prompt)
            if self._status != "ok":
                done.append(Completion("", self._status, "no luck"))  # type: ignore[arg-type]
            else:
                done.append(Completion(text, prompt_tokens=100, completion_tokens=10))
        return done

    def count_tokens(self, text: str) -> int:
        return len(text) // 4

    def probe(self) -> Probe:
        return Probe(True, "a double")
