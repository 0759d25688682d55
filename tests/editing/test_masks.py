"""Which columns edits write to."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memoir_fast import MemoirConfig, MemoirModel
from memoir_fast.defaults import default_top_k
from memoir_fast.editing.masks import spread_masks
from memoir_fast.memory.index import SignatureIndex
from tests.support.models import attached, tiny_model, word_tokenizer

FACTS = [(f"w{100 + 4 * n} w{101 + 4 * n} w{102 + 4 * n}", f"w{103 + 4 * n}") for n in range(8)]
CHAT = {"chat_template": None, "router": "tokens", "top_k": None, "threshold": None, "steps": 2}


def chat(**settings):
    return attached(tiny_model("llama"), **{**CHAT, **settings})


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40), st.data())
def test_spread_masks_use_every_column_equally_often(dimension, data):
    top_k, prompts = data.draw(st.integers(1, dimension)), data.draw(st.lists(st.text(), min_size=1, max_size=12))
    chosen, packed = spread_masks(prompts, np.zeros(dimension, np.int64), top_k, 0)
    uses = np.bincount(chosen.reshape(-1), minlength=dimension)
    assert chosen.shape == (len(prompts), top_k) and uses.max() - uses.min() <= 1
    assert all(len(set(row)) == top_k and list(row) == sorted(row) for row in chosen.tolist())
    bits = np.unpackbits(packed, axis=1, bitorder="little", count=dimension)
    assert [np.flatnonzero(row).tolist() for row in bits] == chosen.tolist()


def test_the_least_used_columns_are_taken_first():
    assert spread_masks(["any"], np.array([0, 7, 0, 1, 9, 1]), 2, 0)[0].tolist() == [[0, 2]]
    assert set(spread_masks(["any"], np.array([0, 7, 0, 1, 9, 1]), 3, 0)[0][0]) > {0, 2}


def test_what_is_drawn_depends_on_the_prompt_and_the_seed_alone():
    uses = np.zeros(1536, np.int64)
    one, again = (spread_masks(["Who leads it?"], uses, 152, 3)[0][0].tolist() for _ in range(2))
    others = [
        spread_masks([prompt], uses, 152, seed)[0][0].tolist()
        for prompt, seed in (("Who leads it?", 4), ("Who led it?", 3))
    ]
    assert one == again and one[:6] == [23, 29, 36, 47, 51, 69]  # on every machine
    assert all(len(set(one) & set(other)) < 40 for other in others)  # 15 on average


def test_edits_far_apart_share_no_more_columns_than_neighbours():
    """Where similar edits keep meeting in the same columns, the later ones undo the earlier ones."""
    prompts = [f"Who is the head of office {n}?" for n in range(100)]
    bits = np.unpackbits(spread_masks(prompts, np.zeros(1536, np.int64), 152, 0)[1], axis=1, bitorder="little")
    shared = bits.astype(np.int64) @ bits.T
    for apart in range(1, 50):
        assert np.diagonal(shared, apart).mean() < 25  # 15 on average; 152 for equal masks


def test_the_index_counts_its_columns_uses_as_edits_come_and_go():
    rng, index = np.random.default_rng(0), SignatureIndex(20, 6)
    bits = np.zeros((9, 20), np.uint8)
    for row in bits:
        row[rng.choice(20, 6, replace=False)] = 1
    codes = np.packbits(bits, axis=1, bitorder="little")
    index.add(range(0, 6), codes[:6])
    assert index.uses().tolist() == bits[:6].sum(0).tolist()
    index.add([7, 9, 11], codes[6:])
    index.remove([1, 9])
    kept = [0, 2, 3, 4, 5, 6, 8]
    assert index.uses().tolist() == bits[kept].sum(0).tolist()
    index.uses()[:] = 99  # the caller's own
    assert index.uses().tolist() == bits[kept].sum(0).tolist()


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_chat_spreads_its_edits_over_the_columns(batch_size):
    with chat() as model:
        assert model.config.masks == "spread"
        assert model.memory.top_k == default_top_k(model.target.in_features, "spread")
        model.edit_many(FACTS[:6], batch_size=batch_size)
        uses = model.memory.index.uses()
        assert uses.sum() == 6 * model.memory.top_k and uses.max() - uses.min() <= 1
        written = model.memory.V.abs().sum(1) > 0
        assert not written[torch.from_numpy(uses == 0)].any()


def test_masks_are_the_prompts_in_plain_text_and_where_masks_find_edits():
    for config in ({"chat_template": False}, {"router": "mask"}, {"recipe": "published"}):
        with chat(**config) as model:
            assert model.config.masks == "prompt"
            assert model.memory.top_k == default_top_k(model.target.in_features)


def test_masks_that_a_prompt_does_not_make_cannot_find_edits():
    with pytest.raises(ValueError, match="masks='spread' needs router='tokens'"):
        MemoirConfig(router="mask", masks="spread")


def test_a_memory_keeps_its_masks(tmp_path):
    with chat() as model:
        model.edit_many(FACTS[:3])
        model.save_pretrained(tmp_path / "memory")
    with MemoirModel.load(tmp_path / "memory", tiny_model("llama"), word_tokenizer()) as again:
        assert again.config.masks == "spread" and again.memory.index.uses().sum() == 3 * again.memory.top_k
    with pytest.raises(ValueError, match="masks='spread' needs router='tokens'"):
        MemoirModel.load(tmp_path / "memory", tiny_model("llama"), word_tokenizer(), router="mask")


def test_older_memories_have_the_prompts_masks():
    assert MemoirConfig.from_dict({"top_k": 8}).masks == "prompt"
