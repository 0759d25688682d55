"""The threads that the CPU extension uses: torch's OpenMP workers if they are found, otherwise threads of its own."""

from __future__ import annotations

from . import cpu

OWN = "std::thread"  # the name for threads that are started at each call


def pool() -> str:
    """The runtime in use: the path of an OpenMP library, or `std::thread`. Raises ValueError without the extension."""
    cpu.require()
    from . import _C

    return _C.pool_name()


def use_pool(path: str) -> bool:
    """Use the workers of the OpenMP library at `path`, or with "" threads of the extension's own.

    For measurements only: a second OpenMP runtime beside torch's makes both slower. Returns False if the library does
    not load; raises ValueError without the extension.
    """
    cpu.require()
    from . import _C

    return _C.set_pool(path)
