"""Prompts that come in parts, and behind a cached beginning: the same edit is read, from the same token on, and no block of another's words is used."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from memoir_fast.reading.probe import early_states
from memoir_fast.serving.vllm.caching import PRIVATE, Gathered, cuttable, private_from, with_private
from memoir_fast.serving.vllm.served import Row
from memoir_fast.serving.vllm.steps import StateV2
from tests.serving.test_served_words import FACTS, served_by
from tests.support.models import tiny_memoir

# (prompt, the span of its words): a matched one, an unmatched one, and one with other words before and behind.
ASKED = [("w100 w101 w102 w103", (0, 4)), ("w30 w31 w32 w33", (0, 4)), ("w40 w41 w110 w111 w112 w50 w51", (2, 5))]


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    model = tiny_memoir("llama", router="tokens", threshold=None, steps=2, acts="answer")
    model.create_store(str(tmp_path_factory.mktemp("parts") / "store"))
    for prompt, target, tags in FACTS:
        model.edit(prompt, target, tags=tags)
    yield model
    model.close()


def served_in(model, served, name: str, prompt: str, span, cuts: list[int], cached: int = 0):
    """What a request reads, after each part of its prompt; cuts: where the parts end; cached: tokens that were computed for another request."""
    sequence = model.encoder.prompt(prompt)
    states = dict(early_states(model.model, model.router, [sequence], 16))[0]
    bos = len(sequence.tokens) - len(prompt.split())
    extra = {"memoir_span": [span[0] + bos, span[1] + bos]}
    found, begin = [], cached
    for end in [*cuts, len(sequence.tokens)]:
        row = Row(name, 0, end - begin, begin, len(sequence.tokens), extra, sequence.tokens)
        served.begin([row], [])
        served.early(states[begin:end])
        out = torch.zeros(end - begin, model.memory.out_features)
        served.read_(out, torch.ones(end - begin, model.memory.in_features))
        reader = served.readers.get(name)
        found.append(
            (name in served.readers, None if reader is None else (reader.edit, reader.score, reader.begin), out)
        )
        begin = end
    return found


def test_every_cut_chooses_as_the_whole_prompt(edited):
    served, number = served_by(edited, edited.store), 0
    matched = []
    for prompt, span in ASKED:
        [(decided, whole, out)] = served_in(edited, served, f"whole {prompt}", prompt, span, [])
        assert decided
        matched.append(whole and whole[0])
        length = len(out)
        bos = length - len(prompt.split())
        ways = [[cut] for cut in range(1, length)] + [list(range(1, length))]
        for cuts in ways:
            number += 1
            parts = served_in(edited, served, f"q{number}", prompt, span, cuts)
            assert parts[-1][:2] == (True, whole)
            assert torch.equal(torch.cat([part for *_, part in parts]), out)
            ends = [*cuts, length]
            assert [decided for decided, *_ in parts] == [
                end >= span[1] + bos for end in ends
            ]  # with the last word, not before
        for cached in range(1, span[0] + bos + 1):
            number += 1
            for cuts in ([], [span[0] + bos + 1]):
                parts = served_in(edited, served, f"c{number} {cuts}", prompt, span, cuts, cached)
                assert parts[-1][:2] == (True, whole) and torch.equal(
                    torch.cat([part for *_, part in parts]), out[cached:]
                )
    assert matched == [0, None, 1] and not list(served.gathered)


def test_words_that_never_came_are_an_error_and_a_request_that_ends_is_forgotten(edited):
    served = served_by(edited, edited.store)
    prompt, span = ASKED[0]
    bos = len(edited.encoder.prompt(prompt).tokens) - 4
    with pytest.raises(RuntimeError, match="were never computed for it"):
        served_in(edited, served, "gap", prompt, span, [], cached=bos + 1)
    served_in(edited, served, "kept", prompt, span, [])
    gathered = Gathered()
    assert gathered.add("a", (2, 5), 0, torch.ones(3, 4)) is None and "a" in gathered
    assert (
        gathered.add("a", (2, 5), 1, torch.full((3, 4), 2.0)) is None
    )  # preempted, and computed again from an earlier token on
    placed = gathered.add("a", (2, 5), 4, torch.full((2, 4), 3.0))
    assert placed[:, 0].tolist() == [0, 0, 2, 2, 3] and "a" not in gathered
    gathered.add("b", (2, 5), 0, torch.ones(3, 4))
    gathered.forget("b")
    assert "b" not in gathered


def test_runner_v2_forgets_the_oldest_of_many_prompts_that_came_in_part(edited, monkeypatch):
    served = served_by(edited, edited.store)
    state = StateV2(served)
    monkeypatch.setattr(StateV2, "KEPT_PARTS", 2)
    for name in "abcd":
        served.gathered.add(name, (2, 5), 0, torch.ones(3, 4))
    state.add("b", None)
    batch = SimpleNamespace(req_ids=[], num_reqs=0)
    state.prepare(batch, None)
    assert list(served.gathered) == ["b", "c", "d"]  # b may be running; a is the oldest of the others


def test_a_memory_that_acts_on_all_tokens_takes_whole_prompts_only(tmp_path):
    model = tiny_memoir("llama", router="tokens", threshold=None, steps=2, acts="all")
    model.create_store(str(tmp_path / "store"))
    model.edit(*FACTS[0][:2])
    served = served_by(model, model.store)
    with pytest.raises(RuntimeError, match="Chunked prefill and prefix caching must be off"):
        served_in(model, served, "q", *ASKED[0], [2])
    model.close()


@pytest.mark.parametrize(("extra", "first"), [(None, 0), ({"memoir": "off"}, None), ({"memoir_span": [7, 9]}, 7), ({"memoir_edit": 3}, 0),
                                              ({"memoir_span": [7, 9], "memoir_edit": 3, "other": 1}, 7)])  # fmt: skip
def test_what_a_request_may_share(extra, first):
    assert private_from(extra, 12) == first
    found = with_private({**(extra or {}), PRIVATE: [10, "mine"]}, 12)
    assert found.get(PRIVATE, [None])[0] == first and {n: v for n, v in found.items() if n != PRIVATE} == (extra or {})
    assert first is None or with_private(extra, 12)[PRIVATE] != found[PRIVATE]


def test_which_memories_can_be_cut():
    assert cuttable({"router": "tokens", "acts": "answer"})
    for section in ({"router": "mask", "acts": "answer"}, {"router": "tokens", "acts": "all"}, {}):
        assert not cuttable(section)
