"""The words' rule in a serving process decides as the Hugging Face path does, before the projection runs."""

from __future__ import annotations

import pytest
import torch

from memoir_fast import BackgroundTexts
from memoir_fast.reading.probe import early_states
from memoir_fast.serving.tables import tables_of
from memoir_fast.serving.vllm.served import Row, Served
from memoir_fast.serving.vllm.words import ServedWords
from memoir_fast.store import Store
from tests.support.models import background_texts, tiny_memoir
from tests.support.serving import served_settings

FACTS = [("w100 w101 w102 w103", "w150", ["a"]), ("w110 w111 w112", "w151", []), ("w120 w121 w122 w123", "w152", ["b"])]
PROMPTS = [
    "w100 w101 w102 w103",
    "w30 w31 w32 w33",
    "w40 w41 w110 w111 w112",
    "w120 w121 w122",
    "w123 w122 w121 w120",
    "w110 w50 w51 w52",
]


@pytest.fixture
def edited(tmp_path):
    model = tiny_memoir("llama", router="tokens", threshold=None, steps=2)
    model.create_store(str(tmp_path / "store"))
    for prompt, target, tags in FACTS:
        model.edit(prompt, target, tags=tags, rephrasings=["w123 w122 w121 w120"] if "w120" in prompt else [])
    yield model
    model.close()


def served_by(model, store: Store) -> Served:
    served = Served(served_settings(model))
    served.words = ServedWords(model.tokenizer)
    for name, tensor in tables_of(store).items():
        served.take(name, tensor)
    return served


def decided(model, served: Served, prompts: list[str], extra: dict | None = None) -> list[int | None]:
    """What new requests with these prompts read, prefilled in one pass."""
    sequences = [model.encoder.prompt(prompt) for prompt in prompts]
    states = dict(early_states(model.model, model.router, sequences, 16))
    rows, start = [], 0
    for number, sequence in enumerate(sequences):
        length = len(sequence.tokens)
        rows.append(Row(f"q{number}", start, length, 0, length, extra, sequence.tokens))
        start += length
    served.begin(rows, list(served.readers))
    served.early(torch.cat([states[number] for number in range(len(sequences))]))
    return [None if (reader := served.readers[row.request]) is None else reader.edit for row in rows]


def test_decisions_are_the_hugging_face_paths(edited):
    served = served_by(edited, edited.store)
    wanted = [route["edit"] for route in edited.route(PROMPTS)]
    assert decided(edited, served, PROMPTS) == wanted and wanted[:2] == [0, None] and wanted[4] == 2
    assert served.words.rule.threshold.value == edited.threshold.value
    with edited.only(["b"]):
        chosen = [route["edit"] for route in edited.route(PROMPTS)]
    assert decided(edited, served, PROMPTS, {"memoir_tags": ["b"]}) == chosen and chosen[0] is None
    assert served.counts["matched"] + served.counts["unmatched"] == 2 * len(PROMPTS)


def test_a_refresh_reads_only_what_changed(edited):
    served = served_by(edited, edited.store)
    rule = served.words.rule
    edited.delete(0)
    edited.edit("w130 w131 w132", "w153")
    served.load(tables_of(edited.store))
    assert served.words.rule is rule and len(rule.keys) == 3
    asked = [*PROMPTS, "w130 w131 w132"]
    assert decided(edited, served, asked) == [route["edit"] for route in edited.route(asked)]
    assert decided(edited, served, asked)[0] is None


def test_a_store_with_other_facts_under_the_same_ids_is_read_by_its_own_words(edited, tmp_path):
    served = served_by(edited, edited.store)
    other = tiny_memoir("llama", router="tokens", threshold=None, steps=2)
    other.create_store(str(tmp_path / "other"))
    for prompt, target, tags in reversed(FACTS):
        other.edit(prompt, target, tags=tags, not_prompts=["w100 w101 w50"] if "w100" in prompt else [])
    served.load(tables_of(other.store))
    wanted = [route["edit"] for route in other.route(PROMPTS)]
    assert decided(edited, served, PROMPTS) == wanted and wanted[0] == 2 and wanted[2] == 1
    served.load(tables_of(edited.store))  # and back
    assert decided(edited, served, PROMPTS) == [route["edit"] for route in edited.route(PROMPTS)]
    other.close()


def test_other_unrelated_prompts_and_rates_are_taken_up(edited):
    served = served_by(edited, edited.store)
    rule = served.words.rule
    edited.calibrate(rate=0.1)
    served.load(tables_of(edited.store))
    assert served.words.rule is rule and rule.threshold.rate == 0.1
    texts = [f"{prompt} w110 w111" for prompt, _ in background_texts().records]
    edited.calibrate(background=BackgroundTexts([(text, "") for text in texts]))
    served.load(tables_of(edited.store))
    assert served.words.rule is not rule and served.words.rule.threshold.value == edited.threshold.value
    assert decided(edited, served, PROMPTS) == [route["edit"] for route in edited.route(PROMPTS)]


def test_a_span_chooses_the_words(edited):
    served = served_by(edited, edited.store)
    prompt = "w40 w41 w110 w111 w112"
    assert decided(edited, served, [prompt], {"memoir_span": [0, 2]}) == [None]
    assert decided(edited, served, [prompt], {"memoir_span": [2, 5]}) == [1]


def test_a_store_whose_edits_have_no_wordings_is_refused(tmp_path):
    model = tiny_memoir("llama", router="mask", steps=2)
    model.create_store(str(tmp_path / "store"))
    model.edit(*FACTS[0][:2])
    model.store.configure(model.config.updated(router="tokens"))
    with pytest.raises(ValueError, match="edit 0 was made while masks routed"):
        tables_of(model.store)
    model.close()


def test_a_projection_that_runs_before_the_decision_is_an_error(edited):
    served = served_by(edited, edited.store)
    sequence = edited.encoder.prompt(PROMPTS[0])
    length = len(sequence.tokens)
    served.begin([Row("q", 0, length, 0, length, None, sequence.tokens)], [])
    with pytest.raises(RuntimeError, match="early layer never ran"):
        served.read_(torch.zeros(length, edited.memory.out_features), torch.zeros(length, edited.memory.in_features))
