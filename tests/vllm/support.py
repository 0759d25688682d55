"""What the tests of the plugin share."""

from __future__ import annotations

import os
from pathlib import Path

DATA = Path(os.environ.get("MEMOIR_FAST_DATA") or Path(__file__).parents[3] / "shared" / "data")
TOKENS = 12
ENGINE = {"dtype": "float32", "enforce_eager": True, "enable_prefix_caching": False, "enable_chunked_prefill": False,
          "max_model_len": 512, "max_num_seqs": 16, "max_num_batched_tokens": 2048, "seed": 0}  # fmt: skip


def asked(prompts, **fields) -> list[dict]:
    return [{"prompt": prompt, **fields} for prompt in prompts]
