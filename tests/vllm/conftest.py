"""Edits for the engine to serve: the first twenty rows of zsre.jsonl on the small real model. Needs vLLM (make test-vllm)."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.vllm.support import DATA, ENGINE, TOKENS, running, serve_command


@pytest.fixture(scope="session")
def edited(tmp_path_factory):
    """A store of twenty edits in three pages, its export, forty prompts, and what our own Hugging Face path answers to them."""
    import torch

    from memoir_fast import MemoirModel
    from memoir_fast.base.loading import checkpoint_folder
    from memoir_fast.serving.export import export_vllm

    if not (DATA / "zsre.jsonl").is_file():
        pytest.skip(f"no zsre.jsonl in {DATA}: set MEMOIR_FAST_DATA to the folder of the evaluation data")
    rows = [json.loads(line) for line in (DATA / "zsre.jsonl").read_text().splitlines()[:20]]
    folder = tmp_path_factory.mktemp("edited")
    model = MemoirModel.from_pretrained(
        "smollm2", store=str(folder / "store"), chat_template=False, end="none", conflict="keep", page_edits=8
    )
    for number, row in enumerate(rows):
        model.edit(row["prompt"], row["target_new"], tags=["even" if number % 2 == 0 else "odd"])
    prompts = (
        [r["prompt"] for r in rows[:14]]
        + [r["rephrase_prompt"] for r in rows[:13]]
        + [r["locality_prompt"] for r in rows[:13]]
    )

    def answer(prompt, words=None, tokens=TOKENS):
        ids = prompt if isinstance(prompt, list) else model.encoder.prompt(prompt).tokens
        mask = torch.ones(1, len(ids), dtype=torch.bool)
        if words is not None:
            mask = torch.tensor([[words[0] <= i < words[1] for i in range(len(ids))]])
        out = model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), prompt_mask=mask,
                             min_new_tokens=tokens, max_new_tokens=tokens, do_sample=False, pad_token_id=0)  # fmt: skip
        return out[0, len(ids) :].tolist()

    # vLLM's ignore_eos lets the end token through; `min_new_tokens` forbids it: leave it in.
    model.model.generation_config.eos_token_id = None
    found = SimpleNamespace(
        store=folder / "store", base=checkpoint_folder("smollm2"), prompts=prompts, targets=[row["target_new"] for row in rows], routes=[model.route(p)["edit"] for p in prompts],
        answer=answer, model=model, folder=folder, answers=[answer(p) for p in prompts],
    )  # fmt: skip
    model.close()
    found.export = export_vllm(found.store, "smollm2", folder / "export")
    return found


@pytest.fixture
def engine(tmp_path):
    """Run one engine; see engine.py."""

    def run(model, batches, tokens=TOKENS, environment=None, live=None, beams=None, **settings):
        work = {"model": str(model), "settings": {**ENGINE, **settings}, "batches": batches, "tokens": tokens, "live": live, "beams": beams,
                "out": str(tmp_path / "out.json")}  # fmt: skip
        environment = {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "OMP_NUM_THREADS": "1",
            "VLLM_LOGGING_LEVEL": "WARNING",
            **(environment or {}),
        }
        done = subprocess.run([sys.executable, str(Path(__file__).parent / "engine.py")], input=json.dumps(work), text=True, capture_output=True,
                              env={**os.environ, **environment}, timeout=500)  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
        return json.loads((tmp_path / "out.json").read_text())

    return run


@pytest.fixture(scope="session")
def served_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="session")
def server(edited, served_folder):
    """One server for all tests over HTTP; they leave the store as it was."""
    with running(serve_command(edited.store, served_folder, "--trust-request-chat-template"), served_folder) as url:
        yield url


@pytest.fixture
def request_log(server, served_folder):
    """Waits for this many lines about requests that came since this test began; a line is written after its answer, so earlier tests' may still come."""
    began = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")

    def lines(count):
        for _ in range(100):
            found = [json.loads(line) for line in (served_folder / "requests.log").read_text().splitlines()]
            found = [line for line in found if line["time"] >= began]
            if len(found) >= count:
                break
            time.sleep(0.1)
        return found

    return lines
