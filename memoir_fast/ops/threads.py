"""Whose threads the CPU extension uses: torch's own OpenMP workers where they are found, threads of its own elsewhere."""

from __future__ import annotations

from . import cpu

OWN = "std::thread"  # the name of threads that are started for each call


def pool() -> str:
    """The runtime in use: the path of an OpenMP library, or `std::thread`. Raises ValueError without the extension."""
    cpu.require()
    from . import _C

    return _C.pool_name()


def use_pool(path: str) -> bool:
    """Take the workers of the OpenMP library at `path` instead, or with "" threads of the kernels' own; False if it does not load.

    For measuring only: a second OpenMP runtime beside torch's makes both slower.
    """
    cpu.require()
    from . import _C

    return _C.set_pool(path)
