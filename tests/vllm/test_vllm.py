"""Edited models in vLLM against our own Hugging Face path and against unedited vLLM: what runs before each release, within 15 minutes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from memoir_fast.store import Store
from tests.vllm.support import ENGINE, asked


def _tokens(batch):
    return [answer["tokens"] for answer in batch]


@contextlib.contextmanager
def served(store, folder):
    """The address of a running `memoir-fast serve`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "memoir_fast.cli", "serve", "--store", str(store), "--to", str(folder / "export"), "--port", str(port),
               "--served-model-name", "served", "--max-model-len", "512", "--", "--dtype", "float32", "--enforce-eager"]  # fmt: skip
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(300):
            assert process.poll() is None, (folder / "server.log").read_text()[-6000:]
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
                break
            time.sleep(1)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def post(url: str) -> bytes:
    return urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=60).read()


def counters(url: str) -> dict[str, float]:
    """The server's requests by outcome."""
    lines = urllib.request.urlopen(url + "/metrics", timeout=60).read().decode().splitlines()
    found = [
        line.removeprefix("memoir_fast_requests_total").split()
        for line in lines
        if line.startswith("memoir_fast_requests_total")
    ]
    return {label.split('"')[1]: float(value) for label, value in found}


def test_forty_concurrent_requests_two_and_xargs(edited, engine):
    base = engine(edited.base, [asked(edited.prompts)])["batches"][0]
    text = edited.prompts[0]
    words = edited.model.encoder.prompt(text).tokens
    filler = edited.model.encoder.prompt("Please answer this in one short sentence. ").tokens
    spanned = filler + words
    inside = [len(filler), len(spanned)]
    found = engine(
        edited.export,
        [
            asked(edited.prompts),
            asked([text, edited.prompts[-1]]),  # two
            asked([text], extra={"memoir": "off"}),
            asked([text], extra={"memoir_edit": 3}),
            asked([text], extra={"memoir_tags": ["odd"]}),
            asked([text], extra={"memoir_tags": ["even"]}),
            asked([spanned], extra={"memoir_span": inside}),
            asked([text], extra={"memoir_span": [0, 10_000]}),
            asked([text], extra={"memoir_edit": "three"}),
            asked([text], extra={"memoire": 1}),
            asked([text], extra={"memoir_edit": 99}),
            asked([text]),
        ],
        beams=text,
        live={"store": str(edited.store), "prompt": text, "delete": 0},
    )
    forty, two, off, forced, odd, even, span, wrong_span, wrong_edit, unknown, absent, last = found["batches"]
    assert _tokens(forty) == edited.answers
    unrelated = [i for i, edit in enumerate(edited.routes) if edit is None]
    assert len(unrelated) >= 13 and len(edited.routes) - len(unrelated) >= 20
    for i in unrelated:
        assert forty[i] == base[i]  # tokens, and log-probabilities to the last bit
    assert all(forty[i]["tokens"] != base[i]["tokens"] for i in range(14))
    assert _tokens(two) == [edited.answers[0], edited.answers[-1]]
    assert _tokens(off) == [base[0]["tokens"]] and _tokens(odd) == [base[0]["tokens"]]
    assert _tokens(even) == [edited.answers[0]] == _tokens(last)
    assert forced[0]["tokens"] not in (edited.answers[0], base[0]["tokens"])
    assert _tokens(span) == [edited.answer(spanned, inside)]
    assert wrong_span is wrong_edit is unknown is absent is None
    messages = " ".join(found["errors"])
    for part in (
        "memoir_span must be",
        "memoir_edit must be an edit's id",
        "memoire is unknown",
        "memoir_edit 99 is not stored",
        "beam search is not served",
    ):
        assert part in messages
    counts, matched = found["counts"], len(edited.routes) - len(unrelated)
    live = found["live"]
    assert live["running"] == edited.answers[0] == live["restored"] and live["after"] == base[0]["tokens"]
    assert live["refreshed"]["edits"] == 19 and live["again"]["edits"] == 20
    assert (live["refreshed"]["generation"], live["again"]["generation"]) == (1, 2)
    assert counts["matched"] == matched + 6 + 1 and counts["off"] == 1 and counts["refused"] == 5, (
        counts
    )  # the beam search too


def test_churn_requests_move_in_the_persistent_batch(edited, engine):
    long = edited.prompts[30] + " " + " ".join(edited.prompts[28:36])
    prompts = [
        edited.prompts[0],
        long,
        [28],
        edited.prompts[27],
        edited.prompts[1],
        edited.prompts[15],
        edited.prompts[2],
        long,
    ]
    found = engine(edited.export, [asked(prompts), asked(prompts[::-1])], max_num_seqs=3)["batches"]
    wanted = [edited.answer(prompt) for prompt in prompts]
    assert _tokens(found[0]) == wanted and _tokens(found[1]) == wanted[::-1]


def test_preempted_requests_keep_their_edit(edited, engine):
    prompts, tokens = edited.prompts[:3], 48
    found = engine(edited.export, [asked(prompts)], tokens=tokens, num_gpu_blocks_override=5, block_size=32, max_model_len=96,
                   max_num_batched_tokens=512, disable_log_stats=False)  # fmt: skip
    assert found["preemptions"] > 0
    assert _tokens(found["batches"][0]) == [edited.answer(prompt, tokens=tokens) for prompt in prompts]
    assert found["counts"]["matched"] == 3  # decided once each


REFUSED = {
    "prefix caching": {"enable_prefix_caching": True},
    "chunked prefill": {"enable_chunked_prefill": True},
    "long_prefill_token_threshold": {"long_prefill_token_threshold": 64},
    "prompt embeddings": {"enable_prompt_embeds": True},
    "worker_extension_cls": {"worker_extension_cls": "some.Worker"},
    "full CUDA graphs": {"enforce_eager": False, "compilation_config": {"cudagraph_mode": "FULL"}},
}


@pytest.mark.parametrize("named", REFUSED)
def test_settings_are_refused_before_anything_is_loaded(edited, named):
    from vllm.engine.arg_utils import EngineArgs

    with pytest.raises(ValueError, match=named):
        EngineArgs(model=str(edited.export), **{**ENGINE, **REFUSED[named]}).create_engine_config()


def test_bare_settings_are_refused_with_the_flags_to_pass(edited):
    from vllm.engine.arg_utils import EngineArgs

    with pytest.raises(ValueError, match=r"(?s)--no-enable-prefix-caching.*--no-enable-chunked-prefill"):
        EngineArgs(model=str(edited.export), max_model_len=512).create_engine_config()


def test_without_the_plugin_vllm_refuses_the_folder(edited):
    program = (
        f"from vllm.engine.arg_utils import EngineArgs\nEngineArgs(model={str(edited.export)!r}).create_engine_config()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "VLLM_PLUGINS": "none"}, capture_output=True, text=True
    )
    assert done.returncode != 0 and "MemoirLlamaForCausalLM" in done.stderr and "not supported" in done.stderr


def test_the_server_answers_and_refuses_over_http(edited, tmp_path):
    """memoir-fast serve, asked with the openai client: completions, a chat's last message, refusals, refreshing, counters."""
    import openai

    with served(edited.store, tmp_path) as url:
        client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
        prompt = edited.prompts[0]
        off = {"vllm_xargs": {"memoir": "off"}}

        def complete(**extra):
            found = client.completions.create(
                model="served", prompt=prompt, max_tokens=8, temperature=0, extra_body=extra or None
            )
            return found.choices[0].text

        def chat(**extra):
            messages = [{"role": "system", "content": "Answer in few words."}, {"role": "user", "content": prompt}]
            found = client.chat.completions.create(
                model="served", messages=messages, max_tokens=8, temperature=0, extra_body=extra or None
            )
            return found.choices[0].message.content

        assert complete().strip().startswith(edited.targets[0])
        assert not complete(**off).strip().startswith(edited.targets[0])
        asked = counters(url)
        chat(), chat(**off)
        answered = counters(url)  # the last message alone chose the edit
        assert (answered["matched"], answered["off"]) == (asked["matched"] + 1, asked["off"] + 1)
        for extra, named in (({"memoire": 1}, "memoire is unknown"), ({"memoir_edit": 99}, "not stored")):
            with pytest.raises(openai.BadRequestError, match=named):
                complete(vllm_xargs=extra)
        with pytest.raises(openai.BadRequestError, match="memoir_span"):
            client.chat.completions.create(model="served", messages=[{"role": "user", "content": prompt}], max_tokens=2,
                                           tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}])  # fmt: skip
        assert complete().strip().startswith(edited.targets[0])  # nothing was harmed
        before = counters(url)
        assert before["matched"] >= 2 and before["off"] == 2 and before["refused"] == 2
        example = Path(__file__).parents[2] / "examples" / "vllm_client.py"
        shown = subprocess.run([sys.executable, str(example)], env={**os.environ, "MEMOIR_FAST_SERVER": url + "/v1"},
                               capture_output=True, text=True, timeout=120)  # fmt: skip
        assert shown.returncode == 0 and len(shown.stdout.splitlines()) >= 4, shown.stderr
        assert counters(url)["off"] == before["off"] + 1
        with Store(edited.store, writer=True) as store:
            store.delete(0)
        try:
            assert json.loads(post(url + "/memoir/refresh"))["edits"] == 19
            assert not complete().strip().startswith(edited.targets[0])
            with pytest.raises(openai.BadRequestError, match="not stored"):
                complete(vllm_xargs={"memoir_edit": 0})
        finally:
            with Store(edited.store, writer=True) as store:
                store.restore(0)
