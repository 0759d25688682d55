"""TopHash on every backend and SIMD level against a sort in Python."""

from __future__ import annotations

import itertools

import pytest
import torch

from memoir_fast import ops
from tests.support.operations import tophash_case


def _dense_tophash(features, background, permutation, k):
    """One feature at a time, in Python: the k best by (magnitude, lower index)."""
    rows = []
    for feature in features.float():
        magnitude = (feature - background).abs().tolist()
        best = sorted(range(len(magnitude)), key=lambda i: (-magnitude[i], i))[:k]
        rows.append(sorted(int(permutation[i]) for i in best))
    signature = torch.zeros(len(rows), (features.shape[1] + 7) // 8, dtype=torch.uint8)
    for row, indices in enumerate(rows):
        for j in indices:
            signature[row, j // 8] |= 1 << (j % 8)
    return torch.tensor(rows, dtype=torch.int32).reshape(len(rows), k), signature


@pytest.mark.parametrize("kind", ["normal", "few values", "ascending", "the sample misleads"])
def test_tophash_of_many_features(backend, kind):
    """Sizes at which a sample brackets the cut: smooth data, ties all over, sorted data, and a sample that is not typical."""
    dimension = 5000
    features, background, permutation = tophash_case(dimension, batch=2)
    if kind == "few values":
        features, background = (3 * features).round(), torch.zeros(dimension)
    elif kind == "ascending":
        features, background = torch.arange(2 * dimension).view(2, dimension).float(), torch.zeros(dimension)
    elif kind == "the sample misleads":
        features[:, torch.arange(512) * dimension // 512] *= 1e4  # what is sampled is larger than everything else
    for k in (1, 40, 1429, dimension - 3, dimension):
        got = ops.tophash(features, background, permutation, k)
        want = _dense_tophash(features, background, permutation, k)
        assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1]), k


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dimension", [1, 7, 64, 97, 1536])
def test_tophash(backend, dimension, dtype):
    for k in sorted({1, dimension, max(1, dimension * 2 // 7)}):
        case = tophash_case(dimension, dtype=dtype)
        for got, want in zip(ops.tophash(*case, k), _dense_tophash(*case, k), strict=True):
            assert got.dtype == want.dtype and torch.equal(got, want)


def test_tophash_ties_go_to_the_lower_index(backend):
    features = torch.tensor([[1.0, -2.0, 2.0, 0.0, -2.0, 2.0, 1.0, -0.0]])
    indices, signature = ops.tophash(features, torch.zeros(8), torch.arange(8, dtype=torch.int32), 3)
    assert indices.tolist() == [[1, 2, 4]] and signature.tolist() == [[0b10110]]
    indices, _ = ops.tophash(torch.zeros(1, 100), torch.zeros(100), torch.arange(100, dtype=torch.int32), 7)
    assert indices.tolist() == [list(range(7))]


def test_tophash_of_halves_with_subnormals(backend):
    values = torch.tensor([[6e-8, -6.1e-5, 0.0, 1.2e-7, 65504.0, -3e-5]], dtype=torch.float16)
    indices, _ = ops.tophash(values, torch.zeros(6), torch.arange(6, dtype=torch.int32), 4)
    assert indices.tolist() == [[1, 3, 4, 5]]


def test_tophash_takes_strided_rows_and_no_rows(backend):
    features, background, permutation = tophash_case(40)
    wide = torch.zeros(6, 100)
    wide[::2, 10:50] = features
    for strided in (wide[::2, 10:50], features.T.contiguous().T):
        assert torch.equal(
            ops.tophash(strided, background, permutation, 9)[0], ops.tophash(features, background, permutation, 9)[0]
        )
    indices, signature = ops.tophash(features[:0], background, permutation, 9)
    assert indices.shape == (0, 9) and signature.shape == (0, 5)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_tophash_names_the_row_that_is_not_finite(backend, value):
    features, background, permutation = tophash_case(40)
    features[2, 17] = value
    with pytest.raises(ValueError, match=r"NaN or infinity in row 2"):
        ops.tophash(features, background, permutation, 9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pooled_is_tophash_of_means(backend, dtype):
    tokens, background, permutation = tophash_case(97, batch=9, dtype=dtype)
    ends = torch.tensor([0, 1, 6, 9], dtype=torch.int32)
    means = torch.stack([tokens[a:b].float().mean(0) for a, b in itertools.pairwise(ends.tolist())])
    got = ops.tophash_pooled(tokens, ends, background, permutation, 20)
    want = ops.tophash(means, background, permutation, 20)
    assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1])
    for bad, says in (([0, 3, 3, 9], "no token"), ([0, 4, 8], "from 0 to 9"), ([1, 4, 9], "from 0 to 9")):
        with pytest.raises(ValueError, match=says):
            ops.tophash_pooled(tokens, torch.tensor(bad, dtype=torch.int32), background, permutation, 20)
