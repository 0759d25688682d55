"""What the tests of the plugin share."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

DATA = Path(os.environ.get("MEMOIR_FAST_DATA") or Path(__file__).parents[3] / "shared" / "data")
TOKENS = 12
KEY = "a key for these tests"
ENGINE = {"dtype": "float32", "enforce_eager": True, "enable_prefix_caching": False, "enable_chunked_prefill": False,
          "max_model_len": 512, "max_num_seqs": 16, "max_num_batched_tokens": 2048, "seed": 0}  # fmt: skip


def asked(prompts, **fields) -> list[dict]:
    return [{"prompt": prompt, **fields} for prompt in prompts]


def request(
    url: str, body: Any = None, key: str | None = KEY, method: str = "POST", timeout: float = 120
) -> tuple[int, Any]:
    """A server's status and its answer, read as JSON where it is that. body: bytes, or a value to send as JSON."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    asked = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=timeout) as answer:
            status, text = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read().decode()
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text


def counters(url: str) -> dict[str, float]:
    """The server's requests by outcome, and its edits and generation."""
    status, text = request(url + "/metrics", key=None, method="GET")
    assert status == 200, text
    found = {}
    for line in text.splitlines():
        if line.startswith("memoir_fast_"):
            name, value = line.split()
            found[name.split('"')[1] if '"' in name else name.removeprefix("memoir_fast_")] = float(value)
    return found
