"""The small model's training text: answers stand in the passages, and the prompt is the one that the tool writes."""

import importlib
import re
import sys
from pathlib import Path

import pytest
from ragladder.core.types import Chunk
from ragladder.rag.prompt import PromptSettings, build_messages

FOLDER = Path(__file__).parents[2] / "benchmarks" / "reader_model"
MODEL = Path(__file__).parents[2] / "configs" / "quickstart" / "model"
SHAPES = ("pairs", "mini", "few", "mid", "full", "long")


@pytest.fixture(scope="module")
def reader():
    """Imports modules of benchmarks/reader_model by name; their names are forgotten afterwards."""
    before = set(sys.modules)
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module
    sys.path.remove(str(FOLDER))
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == FOLDER:
            del sys.modules[name]


def items(reader, shape, task, count=40, seed=5):
    writer = reader("generate").ItemWriter(seed)
    return [writer.item(shape, task) for _ in range(count)]


def plain(text):
    return text.replace("`", "").lower()


@pytest.mark.parametrize("shape", SHAPES)
def test_plain_answers_stand_in_a_passage_word_for_word(reader, shape):
    for item in items(reader, shape, "qa"):
        assert plain(item.turns[0][1]) in plain("\n".join(passage.text for passage in item.passages))


def test_a_cited_passage_holds_the_answer(reader):
    styles = [
        re.escape(form).replace(r"\{a\}", "(?P<a>.+)").replace(r"\{r\}", r"(?P<r>[A-Z]+-\d+[A-Z]?)")
        for _, form in reader("generate").CITE_STYLES
    ]
    for item in items(reader, "mid", "cite"):
        answer = item.turns[0][1]
        parts = next(match for form in styles if (match := re.fullmatch(form, answer)))
        assert plain(parts["a"]) in plain(next(p.text for p in item.passages if p.ref == parts["r"]))


def test_a_reference_asked_for_is_that_of_a_passage(reader):
    for item in items(reader, "mid", "ref"):
        assert item.turns[0][1] in [passage.ref for passage in item.passages]


def test_what_is_not_documented_is_none_of_the_questions_that_the_passages_answer(reader):
    generate = reader("generate")
    writer, found = generate.ItemWriter(3), 0
    for _ in range(80):
        passages = writer.writer.passages(generate.SHAPES["mid"])
        turn = writer.unanswerable(passages)
        if turn:
            found += 1
            assert turn[1] == generate.ABSTAIN
            assert turn[0] not in [question for _ in range(3) for question, _, _ in writer.pool(passages)]
    assert found > 40


def test_a_question_on_an_absent_row_names_a_row_that_the_table_lacks(reader):
    tables = reader("generate").ItemWriter(9).writer.tables
    for _ in range(60):
        table = tables.table()
        assert not set(table.absent) & {question for question, _ in table.asked}
        for _, answer in table.asked:
            assert answer.lower() in table.text.lower()


def test_one_question_never_has_two_answers_in_an_item(reader):
    for shape in SHAPES:
        for item in items(reader, shape, None, count=60, seed=8):
            answers = {}
            for question, answer in item.turns:
                assert answers.setdefault(question, answer) == answer, question


def test_facts_alike_but_for_one_value_are_told_apart_by_their_heading(reader):
    writer = reader("generate").ItemWriter(4).writer
    for _ in range(80):
        headings = [fact.heading for group in writer.headed_family(3) for fact in group]
        assert len(headings) == len(set(headings))


def test_a_drawn_sentence_asks_for_a_day_and_a_time_apart(reader):
    writer = reader("generate").ItemWriter(6).writer.facts
    for _ in range(300):
        pattern = writer.grammar.pattern()
        slots = {slot for slot, _ in pattern.questions}
        when = {slot for slot, question in pattern.questions if question.startswith("When ")}
        assert len(when) <= 1
        assert slots <= set(writer.fact(pattern).values)


def test_the_same_seed_gives_the_same_text(reader):
    texts = [[item.text() for item in items(reader, "full", None, count=5)] for _ in range(2)]
    assert texts[0] == texts[1]


def test_the_prompt_is_the_one_that_the_default_template_writes(reader):
    for item in items(reader, "full", "qa", count=10):
        heads = [passage.text.partition("\n") for passage in item.passages]
        chunks = [
            Chunk("d", 0, 0, text, passage.ref, head.partition("] ")[2])
            for passage, (head, _, text) in zip(item.passages, heads, strict=True)
        ]
        (message,) = build_messages(item.turns[0][0], chunks, PromptSettings(max_context_tokens=10**6))
        assert message.content == item.prompt()


def test_the_chat_template_of_the_shipped_model_is_the_training_format(reader):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    for item in items(reader, "few", None, count=5):
        turns = [{"role": "user", "content": item.prompt()}, {"role": "assistant", "content": item.turns[0][1]}]
        written = tokenizer.apply_chat_template(turns, tokenize=False)
        assert item.text().startswith(written)


def test_batches_are_whole_and_their_mask_is_the_answers(reader):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    batches = reader("batches").Batches(tokenizer, 1)
    ids, answers = batches.batch(3, 5_000_000)
    again, _ = batches.batch(3, 5_000_000)
    assert ids.tolist() == again.tolist()
    assert ids.numel() <= reader("batches").BATCH_TOKENS
    row, mask = ids[0].tolist(), answers[0].tolist()
    end = row.index(tokenizer.convert_tokens_to_ids("<|end|>"))
    start = row.index(tokenizer.convert_tokens_to_ids("<|assistant|>"))
    marked = [place for place in range(end + 1) if mask[place]]
    assert marked == list(range(start + 2, end + 1))  # after the mark and its line break, the end mark included


def test_every_verb_form_of_the_lexicon_is_regular(reader):
    inflect = reader("values").inflect
    assert [inflect("plan", form) for form in ("s", "ed", "ing")] == ["plans", "planned", "planning"]
    assert [inflect("empty", form) for form in ("s", "ed", "ing")] == ["empties", "emptied", "emptying"]
    assert [inflect("brush", "s"), inflect("free", "ing")] == ["brushes", "freeing"]


@pytest.mark.slow
def test_a_run_goes_on_where_it_was_and_cools_down_to_a_model(reader, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    train = reader("train")
    AutoTokenizer.from_pretrained(MODEL).save_pretrained(tmp_path / "tokenizer")

    def trainer(cooldown=0.0):
        return train.Trainer(tmp_path, [], seed=1, rates=(2e-3, 1e-3), cooldown=cooldown)

    first = trainer()
    losses = [first.step() for _ in range(2)]
    first.save()
    again = trainer()
    assert again.counters == first.counters
    saved = first.model.state_dict()
    assert all(weight.equal(saved[name]) for name, weight in again.model.state_dict().items())
    assert losses[0].answer > 3  # nothing is known at the start
    cooling = trainer(cooldown=4096)
    cooling.train(0, log_every=1, evaluate_every=1000, evaluate_count=1)
    assert cooling.rate_factor() < first.rate_factor()
    assert (tmp_path / "checkpoint.pt").exists()
    assert again.counters == trainer().counters  # the cooldown left the run as it was
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "cooled")
    assert sum(parameter.numel() for parameter in model.parameters()) == 4_990_208
