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
        raise ValueError(f"MEMOIR_FAST_BACKEND=cpp, but the C++ extension does not load: {_MISSING}; reinstall the package")


def level() -> str:
    """The SIMD level in use: scalar, avx2 or avx512 (`MEMOIR_FAST_SIMD` forces one)."""
    return _C.level()


def describe() -> str:
    return "not built" if _C is None else f"built, SIMD level {_C.level()} of {', '.join(_C.levels())}"
