"""memoir_fast: edit language models for life, with the residual memory of MEMOIR, fast."""

from __future__ import annotations

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
