"""What a memory costs a vLLM server under load: `python -m benchmarks.speed.serving --store DIR` (in the environment of make test-vllm)

Two servers in turns on one machine, an unedited and an edited one; 200 requests at concurrency 16 with the `openai` client over loopback: prompts
that match nothing, and prompts that each match an edit. Rounds alternate between the servers (unedited, unmatched, matched, in changing order), so
that what disturbs the machine disturbs all; ratios are medians over the rounds. The store is refreshed once under load.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

from benchmarks import harness
from benchmarks.library import Store, checkpoint_folder, export_vllm, load_facts, server_command


@contextlib.contextmanager
def server(command: list[str], port: int, cores: str):
    """A running server, bound to some cores, that answers on `port`."""
    environment = {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
    }
    with open(f"server-{port}.log", "w") as log:
        process = subprocess.Popen(["taskset", "-c", cores, *command], env={**os.environ, **environment}, stdout=log, stderr=log,
                                   start_new_session=True)  # fmt: skip
    try:
        until_up(process, port)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def until_up(process: subprocess.Popen, port: int) -> None:
    """Wait, for five minutes, until a server that was started answers. Raises RuntimeError if it ends before."""
    for _ in range(600):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
            return
        if process.poll() is not None:
            raise RuntimeError(f"the server on port {port} ended; see server-{port}.log")
        time.sleep(0.5)


async def load(port: int, prompts: list[str], requests: int, concurrency: int, tokens: int, during=None) -> dict:
    """(seconds, median and 95th percentile latency) of a round; every request must be answered in full."""
    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=300)
    gate, latencies, texts = asyncio.Semaphore(concurrency), [], {}

    async def one(number: int):
        async with gate:
            began = time.perf_counter()
            prompt = prompts[number % len(prompts)]
            found = await client.completions.create(model="served", prompt=prompt, max_tokens=tokens, temperature=0,
                                                    extra_body={"ignore_eos": True})  # fmt: skip
            latencies.append(time.perf_counter() - began)
            assert found.usage.completion_tokens == tokens
            texts.setdefault(prompt, found.choices[0].text)

    began = time.perf_counter()
    work = [one(number) for number in range(requests)]
    if during is not None:
        work.append(during())
    await asyncio.gather(*work)
    await client.close()
    latencies.sort()
    return {"seconds": time.perf_counter() - began, "answered": len(latencies), "median_s": statistics.median(latencies), "p95_s": latencies[int(0.95 * len(latencies))],
            "texts": texts}  # fmt: skip


def counters(port: int) -> dict:
    """The memory's counters on the server's Prometheus endpoint."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        lines = [line.split() for line in answer.read().decode().splitlines() if line.startswith("memoir_fast_")]
    return {name: float(value) for name, value in lines if "_created" not in name}


async def refresh(port: int, after: float) -> dict:
    await asyncio.sleep(after)
    request = urllib.request.Request(f"http://127.0.0.1:{port}/memoir/refresh", method="POST")
    return json.loads(await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=60).read()))


def arguments():
    parser = harness.arguments(__doc__, model=True)
    parser.add_argument("--store", required=True, help="a store of edits of --model")
    parser.add_argument("--unrelated", default=str(harness.SHIPPED), help="JSONL whose locality prompts match nothing")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def commands(args) -> tuple[list[str], list[str]]:
    """The edited server's command line (port 8101), and the same one without the memory (8102)."""
    folder = export_vllm(args.store, args.model, Path(args.store).with_suffix(".vllm"))
    options = SimpleNamespace(store=args.store, to=folder, model=args.model, served_model_name="served", host="127.0.0.1", port=8101,
                              max_model_len=1024, vllm=["--dtype", "float32", "--enforce-eager", "--max-num-seqs", "16"])  # fmt: skip
    edited = server_command(options)
    base = list(edited)
    at = base.index("--middleware")
    del base[at : at + 2]
    base[base.index("--model") + 1], base[base.index("--port") + 1] = str(checkpoint_folder(args.model)), "8102"
    return edited, base


def rounds(args, kinds: dict) -> dict[str, list[dict]]:
    """Each kind's loads, taken in turns, the first round not counted; answers must be those they should be."""
    taken: dict[str, list[dict]] = {kind: [] for kind in kinds}
    for round_ in range(-1, args.rounds):
        for kind in list(kinds) if round_ % 2 else list(kinds)[::-1]:
            port, prompts = kinds[kind]
            requests = 32 if round_ < 0 else args.requests
            result = asyncio.run(load(port, prompts, requests, args.concurrency, args.tokens))
            if round_ >= 0:
                taken[kind].append(result)
                print(kind, {k: round(v, 3) for k, v in result.items() if k != "texts"}, flush=True)
    assert all(a["texts"] == b["texts"] for a, b in zip(taken["unedited"], taken["unmatched"], strict=True)), (
        "unmatched prompts changed"
    )
    assert all(a["texts"] != b["texts"] for a, b in zip(taken["unedited_other"], taken["matched"], strict=True)), (
        "edits were not read"
    )
    return taken


def refreshed_under_load(args, prompts: list[str]) -> dict:
    """An edit is deleted and the server told so while it answers; the store is as before afterwards."""
    answers: list[dict] = []

    async def during():
        answers.append(await refresh(8101, 2.0))

    with Store(args.store, writer=True) as store:
        last = max(store.edits)
        store.delete(last)
    result = asyncio.run(load(8101, prompts, args.requests, args.concurrency, args.tokens, during))
    with Store(args.store, writer=True) as store:
        store.restore(last)
    return {"answered": result["answered"], "asked": args.requests, **answers[0]}


def compared(taken: dict[str, list[dict]]) -> dict:
    """What the memory costs: the median over the rounds, and every round's."""
    found = {}
    for kind, base_kind in (("unmatched", "unedited"), ("matched", "unedited_other")):
        for name in ("seconds", "median_s", "p95_s"):
            pairs = zip(taken[kind], taken[base_kind], strict=True)
            costs = [round(ours[name] / theirs[name] - 1, 4) for ours, theirs in pairs]
            found[f"{kind}_{name}_cost"], found[f"{kind}_{name}_costs"] = statistics.median(costs), costs
    return found


def main() -> None:
    args = arguments()
    recorder = harness.Recorder("serving", args)
    with Store(args.store) as store:
        matching = [row["prompt"] for row in store.edits.values()]
    unrelated = [fact.unrelated for fact in load_facts(args.unrelated) if fact.unrelated][: len(matching)]
    kinds = {
        "unedited": (8102, unrelated),
        "unmatched": (8101, unrelated),
        "unedited_other": (8102, matching),
        "matched": (8101, matching),
    }
    found: dict = {}
    edited, base = commands(args)
    with server(edited, 8101, "0"), server(base, 8102, "0"):
        taken = rounds(args, kinds)
        found["refresh_under_load"] = refreshed_under_load(args, matching)
        found["counters"] = counters(8101)
    found |= compared(taken)
    unedited = statistics.median(result["seconds"] for result in taken["unedited"])
    found["unedited_requests_per_s"] = round(args.requests / unedited, 2)
    print(json.dumps(found, indent=1))
    settings = {"model": args.model, "edits": len(matching), "requests": args.requests, "concurrency": args.concurrency,
                "tokens": args.tokens, "rounds": args.rounds}  # fmt: skip
    recorder.write(settings, found)


if __name__ == "__main__":
    main()
