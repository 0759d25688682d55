"""What a serving process says of its decisions: to whoever asked, and in the counts of each edit."""

from __future__ import annotations

import pytest
import torch

from memoir_fast.reading.probe import early_states
from memoir_fast.serving.tables import tables_of
from memoir_fast.serving.vllm import shared
from memoir_fast.serving.vllm.answers import KEY, Answers, Slots
from memoir_fast.serving.vllm.served import Row, Served
from memoir_fast.serving.vllm.usage import Usage, used
from memoir_fast.serving.vllm.words import ServedWords
from tests.support.models import tiny_memoir
from tests.support.serving import served_settings

FACTS = [("w100 w101 w102 w103", "w150", ["a"]), ("w110 w111 w112", "w151", ["b"])]
PROMPTS = ["w100 w101 w102 w103", "w30 w31 w32 w33", "w40 w41 w110 w111 w112", "w100 w101 w60 w61"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "server").mkdir()
    monkeypatch.setenv(shared.ENVIRONMENT, str(tmp_path / "server"))
    return tmp_path


def by_words(model, served, sequences):
    states = dict(early_states(model.model, model.router, sequences, 16))
    served.early(torch.cat([states[number] for number in range(len(sequences))]))


def by_masks(model, served, sequences):
    seen = []
    handle = model.model.get_submodule(model.target.path).register_forward_hook(lambda m, args, out: seen.append(args[0][0].clone()))  # fmt: skip
    with torch.no_grad(), model.disabled():
        for sequence in sequences:
            model(input_ids=torch.tensor([sequence.tokens]))
    handle.remove()
    x = torch.cat(seen)
    served.read_(torch.zeros(len(x), model.memory.out_features), x)


@pytest.mark.parametrize(("router", "run"), [("tokens", by_words), ("mask", by_masks)])
def test_each_decision_is_told_with_its_score_and_threshold(router, run, place):
    model = tiny_memoir("llama", router=router, threshold=None, steps=2)
    model.create_store(str(place / "store"))
    for prompt, target, tags in FACTS:
        model.edit(prompt, target, tags=tags)
    served = Served(served_settings(model), usage=Usage(10), answers=Answers())
    served.words = ServedWords(model.tokenizer) if router == "tokens" else None
    for name, tensor in tables_of(model.store).items():
        served.take(name, tensor)
    slots, rows, start = Slots(), [], 0
    extras = [{}] * len(PROMPTS) + [{"memoir": "off"}, {"memoir_edit": 1}, {"memoir_edit": 9}, {"memoir_tags": ["z"]}]
    sequences = [model.encoder.prompt(prompt) for prompt in [*PROMPTS, *[PROMPTS[0]] * 4]]
    taken = [slots.take() for _ in sequences]
    for number, (sequence, extra) in enumerate(zip(sequences, extras, strict=True)):
        length = len(sequence.tokens)
        rows.append(Row(f"q{number}", start, length, 0, length, {**extra, KEY: taken[number]}, sequence.tokens))
        start += length
    served.begin(rows, [])
    run(model, served, sequences)
    told = [slots.decision(slot).told() for slot in taken]
    for one, route in zip(told, model.route(PROMPTS), strict=False):
        assert one["outcome"] == ("unmatched" if route["edit"] is None else "matched") and one["edit"] == route["edit"]
        assert one["score"] == pytest.approx(route["score"], abs=1e-6)
        assert one["nearest"] == (route["candidates"][0]["edit"] if route["score"] else None) or router == "mask"
        if one["nearest"] is not None:
            assert one["threshold"] == pytest.approx(route["threshold"], abs=1e-6)
    nothing = {"nearest": None, "score": None, "threshold": None}
    assert told[-4:] == [{"outcome": "off", "edit": None, **nothing}, {"outcome": "matched", "edit": 1, **nothing},
                         {"outcome": "refused", "edit": None, **nothing}, {"outcome": "unmatched", "edit": None, **nothing}]  # fmt: skip
    reads = {int(line["edit"]): int(line["reads"]) for line in used()}
    assert {edit: reads.get(edit, 0) for edit in (0, 1)} == {
        edit: sum(one["edit"] == edit for one in told) for edit in (0, 1)
    }
    assert told[0]["edit"] == 0 and told[1]["edit"] is None
    assert served.counts == {"matched": sum(reads.values()), "off": 1, "refused": 1, "unmatched": sum(one["outcome"] == "unmatched" for one in told)}  # fmt: skip
    model.close()
