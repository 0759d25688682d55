"""C in its small form: exact while little was added, its diagonal always, and afterwards nearly as good as the best of its rank."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memoir_fast import defaults
from memoir_fast.defaults import rank_of
from memoir_fast.memory.low_rank import SHAPES, LowRank
from memoir_fast.memory.residual import ResidualMemory
from memoir_fast.memory.symmetric import Symmetric
from tests.support.models import bits

D, K, RANK = 384, 40, 16


@pytest.fixture(autouse=True, scope="module")
def few_directions():
    """The form at a size at which it is quickly looked at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(defaults, "_LEAST", RANK)
        yield


def part(draw: torch.Generator, tokens: int = 8, size: int = D, active: int = K):
    """(rows, features) of an edit whose features have few directions in common, as those of a chat's answers do."""
    rows = torch.randperm(size, generator=draw)[:active].sort().values.int()
    common = torch.randn(3, size, generator=torch.Generator().manual_seed(9))[:, rows.long()]
    shared = torch.randn(tokens, 3, generator=draw) @ common
    return rows, shared + torch.randn(tokens, active, generator=draw)


def both(edits: int, **sizes) -> tuple[LowRank, Symmetric, list]:
    draw, parts = torch.Generator().manual_seed(0), []
    small, whole = LowRank(sizes.get("size", D)), Symmetric(sizes.get("size", D))
    for _ in range(edits):
        parts.append(part(draw, **sizes))
        small.add(*parts[-1])
        whole.add(*parts[-1])
    return small, whole, parts


def test_how_many_directions_are_kept():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(defaults, "_LEAST", 64)
        assert [rank_of(D) for D in (1024, 1535, 1536, 2048, 8192, 14336, 28672)] == [0, 0, 64, 85, 341, 512, 512]


def test_what_few_edits_read_is_kept_as_it_is():
    small, whole, parts = both(2)
    assert torch.allclose(small.whole(), whole.whole(), rtol=1e-5, atol=1e-3)
    for rows, _ in parts:
        assert torch.allclose(small.within(rows), whole.within(rows), rtol=1e-5, atol=1e-3)


def test_the_diagonal_is_that_of_the_sum_and_the_rest_nearly_the_best_of_its_rank():
    small, whole, parts = both(60)
    exact = whole.whole()
    assert torch.allclose(small.diagonal(), exact.diagonal(), rtol=1e-4)
    assert torch.allclose(small.whole().diagonal(), exact.diagonal(), rtol=1e-4)
    values, vectors = torch.linalg.eigh(exact.double())
    large = (vectors[:, -RANK:] * values[-RANK:]) @ vectors[:, -RANK:].T
    best = (large + torch.diag((exact - large).diagonal())).float()
    off, least = (float((exact - form).norm()) for form in (small.whole(), best))
    assert off < 1.1 * least < float(exact.norm())
    rows = parts[-1][0]
    assert torch.equal(small.within(rows), small.whole()[rows.long()[:, None], rows.long()])


@pytest.mark.parametrize("edits", [1, 2, 20])
def test_what_was_just_added_is_taken_back_to_the_bit(edits):
    small, _, _ = both(edits)
    before, rows, features = small.clone(), *part(torch.Generator().manual_seed(5))
    if sum(len(kept.features) for kept in small._parts) + len(features) <= small.rank:
        small.add(rows, features), small.add(rows, features, -1)
        assert torch.equal(bits(small.whole()), bits(before.whole())) and small.worn == before.worn == 0.0
        small.add(rows, features, -1), small.add(rows, features)
        assert torch.equal(bits(small.whole()), bits(before.whole())) and small.worn == pytest.approx(0, abs=1e-6)


def test_of_what_is_taken_back_the_diagonal_goes_and_what_is_worn_is_told():
    small, whole, parts = both(20)
    for number, (rows, features) in enumerate(parts[:10]):
        small.add(rows, features, -1)
        whole.add(rows, features, -1)
        gone = sum(float(f.square().sum()) for _, f in parts[: number + 1])
        kept = sum(float(f.square().sum()) for _, f in parts[number + 1 :])
        assert small.worn == pytest.approx(gone / (gone + kept), rel=1e-3)
    assert torch.allclose(small.diagonal(), whole.diagonal(), rtol=1e-3, atol=1e-2)
    assert float(torch.linalg.eigvalsh(small.within(parts[15][0])).min()) > -float(small.diagonal().max())


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 24), st.booleans()), max_size=8), st.integers(0, 9))
def test_a_copy_and_a_file_give_it_back(steps, seed):
    draw, small, parts = torch.Generator().manual_seed(seed), LowRank(D), []
    for tokens, removes in steps:
        if removes and parts:
            small.add(*parts.pop(), -1)
        else:
            parts.append(part(draw, tokens))
            small.add(*parts[-1])
    held = small.tensors()
    assert all(held[name].dtype == dtype and held[name].dim() == len(shape) for name, (shape, dtype) in SHAPES.items())
    rows, features = part(draw)
    for other in (small.clone(), LowRank.of(D, held)):
        assert torch.equal(bits(other.whole()), bits(small.whole())) and other.worn == small.worn
        other.add(rows, features), (mine := small.clone()).add(rows, features)
        assert torch.equal(bits(other.whole()), bits(mine.whole()))  # and they go on alike
        assert all(torch.equal(held[name], again) for name, again in small.tensors().items())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rest", torch.zeros(D - 1), "not of 384 features"),
        ("directions", torch.zeros(17, D), "at most 16"),
        ("counts", torch.tensor([8, 1], dtype=torch.int32), "rows each, but 8"),
        ("counts", torch.tensor([0], dtype=torch.int32), "rows each"),
        ("rows", torch.zeros(1, K, dtype=torch.int32), "ascending"),
        ("rows", torch.arange(K, dtype=torch.int32)[None] + D, "ascending"),
        ("rows", torch.zeros(2, K, dtype=torch.int32), "rows each"),
    ],
)
def test_a_file_whose_parts_do_not_fit_is_refused(name, value, message):
    small, _, _ = both(1)
    with pytest.raises(ValueError, match=message):
        LowRank.of(D, small.tensors() | {name: value})


def test_parts_without_features_are_refused():
    small, _, _ = both(1)
    nothing = {"rows": torch.zeros(1, 0, dtype=torch.int32), "features": torch.zeros(8, 0)}
    with pytest.raises(ValueError, match="ascending"):
        LowRank.of(D, small.tensors() | nothing)


def test_a_memory_with_pages_of_a_large_projection_keeps_the_small_form():
    assert ResidualMemory(D, 8, K, page_edits=32).form is LowRank
    assert ResidualMemory(D, 8, K).form is ResidualMemory(256, 8, 32, page_edits=21).form is Symmetric
    memory = ResidualMemory(D, 8, K, page_edits=32)
    memory.track()
    assert isinstance(memory.reads, LowRank) and memory.C.shape == (D, D) and not memory.C.any()
    memory.watch()
    assert memory.drift is None
    assert memory.reads.rank == RANK
