"""The C++ extension's front: tensors in, raw pointers to the kernels. Serves CPU tensors; see csrc/."""

from __future__ import annotations

import torch

from . import reference

try:
    from . import _C
except ImportError as error:  # built without it (MEMOIR_FAST_EXT=0), or not built here: the reference serves
    _C, _MISSING = None, str(error)


def available() -> bool:
    """Whether the extension was built and loads here."""
    return _C is not None


def require() -> None:
    """Raise ValueError unless the extension is there."""
    if _C is None:
        raise ValueError(
            f"MEMOIR_FAST_BACKEND=cpp, but the C++ extension does not load: {_MISSING}; reinstall the package"
        )


def level() -> str:
    """The SIMD level in use: scalar, avx2 or avx512 (`MEMOIR_FAST_SIMD` forces one)."""
    return _C.level()


def describe() -> str:
    return "not built" if _C is None else f"built, SIMD level {_C.level()} of {', '.join(_C.levels())}"


# ---- the operations, as ops.py calls them (arguments are checked there) ------------------------------------------

_CODES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
_GEMV_ROWS = 4  # up to so many rows with one mask stream V once through our kernel; more go through torch's GEMM
_BLOCK_BYTES = 4 << 20  # of the packed rows handed to torch's GEMM: stays in the last-level cache


def _rows(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor with contiguous rows (any row stride)."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] <= 1 else tensor.contiguous()


def tophash(features, background, permutation, k):
    batch, dimension = features.shape
    features, background, permutation = _rows(features), background.float().contiguous(), permutation.contiguous()
    indices = torch.empty(batch, k, dtype=torch.int32)
    signature = torch.empty(batch, (dimension + 7) // 8, dtype=torch.uint8)
    _C.tophash(features.data_ptr(), _CODES[features.dtype], batch, dimension, features.stride(0), background.data_ptr(),
               permutation.data_ptr(), k, indices.data_ptr(), signature.data_ptr())  # fmt: skip
    return indices, signature


def tophash_pooled(tokens, cu_seqlens, background, permutation, k):
    tokens, cu_seqlens = _rows(tokens), cu_seqlens.contiguous()
    means = torch.empty(len(cu_seqlens) - 1, tokens.shape[1])
    _C.pool(tokens.data_ptr(), _CODES[tokens.dtype], len(tokens), tokens.shape[1], tokens.stride(0), len(means),
            cu_seqlens.data_ptr(), means.data_ptr())  # fmt: skip
    return tophash(means, background, permutation, k)


def _groups(route: torch.Tensor) -> dict[int, list[int]]:
    """Rows by their mask."""
    groups: dict[int, list[int]] = {}
    for row, line in enumerate(route.tolist()):
        if line >= 0:
            groups.setdefault(line, []).append(row)
    return groups


def _span(rows: list[int]):
    """The rows as a slice when they are consecutive (a view instead of a copy), else as an index tensor."""
    if rows[-1] - rows[0] + 1 == len(rows):
        return slice(rows[0], rows[-1] + 1)
    return torch.tensor(rows)


def _sums(x: torch.Tensor, V: torch.Tensor, idx: torch.Tensor) -> torch.Tensor:
    """(rows, d) float32: `x[:, idx] @ V[idx]` for rows that share a mask."""
    if len(x) <= _GEMV_ROWS:
        x, V, idx = _rows(x), _rows(V), idx.contiguous()
        sums = torch.empty(len(x), V.shape[1])
        _C.product(x.data_ptr(), _CODES[x.dtype], len(x), x.stride(0), V.data_ptr(), _CODES[V.dtype], len(V), V.shape[1],
                   V.stride(0), idx.data_ptr(), len(idx), sums.data_ptr(), torch.get_num_threads())  # fmt: skip
        return sums
    idx, sums = idx.long(), None
    packed = x.index_select(1, idx).float()
    step = max(64, _BLOCK_BYTES // (4 * V.shape[1]))
    for start in range(0, len(idx), step):
        rows = V.index_select(0, idx[start : start + step]).float()
        part = packed[:, start : start + step]
        sums = part @ rows if sums is None else sums.addmm_(part, rows)
    return sums


def masked_matmul(x, V, indices, route, scale):
    out = torch.full((len(x), V.shape[1]), -0.0, dtype=x.dtype)
    for line, rows in _groups(route).items():
        span = _span(rows)
        out[span] = (_sums(x[span], V, indices[line]) * scale).to(x.dtype)
    return out


def masked_matmul_(out, x, V, indices, route, scale):
    for line, rows in _groups(route).items():
        span = _span(rows)
        sums = _sums(x[span], V, indices[line])
        if out.dtype == torch.float32 and isinstance(span, slice):
            out[span].add_(sums, alpha=scale)
        else:
            out[span] += (sums * scale).to(out.dtype)


def masked_matmul_backward(grad, V, indices, route, scale, dimension):
    out = torch.zeros(len(grad), dimension, dtype=grad.dtype)
    for line, rows in _groups(route).items():
        span, idx = _span(rows), indices[line].long()
        columns = (grad[span].float() @ V.index_select(0, idx).float().T) * scale
        out[span] = out[span].index_copy(1, idx, columns.to(grad.dtype))
    return out


def masked_scatter_(V, idx, A, G, scale):
    if V.stride(-1) != 1:
        return reference.masked_scatter_(V, idx, A, G, scale)
    G, idx = G.float().contiguous(), idx.contiguous()
    step = max(64, _BLOCK_BYTES // (4 * V.shape[1]))
    buffer = torch.empty(min(step, len(idx)), V.shape[1])
    total = 0.0
    for start in range(0, len(idx), step):
        part = idx[start : start + step]
        update = torch.mm(A[:, start : start + step].float().T, G, out=buffer[: len(part)])
        total += _C.scatter(V.data_ptr(), _CODES[V.dtype], len(V), V.shape[1], V.stride(0), part.data_ptr(), len(part),
                            update.data_ptr(), scale, torch.get_num_threads())  # fmt: skip
    return torch.tensor(total, dtype=torch.float32)
