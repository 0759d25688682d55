"""memoir_fast: fast lifelong editing of language models, with MEMOIR's residual memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # tells type checkers and editors what `__getattr__` loads on first use
    from .base.loading import load_model as load_model
    from .config import MemoirConfig as MemoirConfig
    from .errors import ConflictError as ConflictError
    from .errors import EditError as EditError
    from .errors import StoreError as StoreError
    from .model import EditRequest as EditRequest
    from .model import EditResult as EditResult
    from .model import MemoirModel as MemoirModel
    from .reading.background import BackgroundTexts as BackgroundTexts
    from .reading.background import load_texts as load_texts

__version__ = "0.1.0"

_NAMES = {
    "MemoirModel": "model",
    "EditResult": "model",
    "EditRequest": "model",
    "MemoirConfig": "config",
    "EditError": "errors",
    "StoreError": "errors",
    "ConflictError": "errors",
    "load_model": "base.loading",
    "BackgroundTexts": "reading.background",
    "load_texts": "reading.background",
    "tune": "evaluation.tuning",
    "Tuning": "evaluation.tuning",
}

__all__ = [*_NAMES, "__version__"]


def __getattr__(name: str) -> object:
    # Loaded on first use: `import memoir_fast` itself stays instant and touches neither torch nor transformers.
    if name in _NAMES:
        import importlib

        return getattr(importlib.import_module(f".{_NAMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
