"""What edits that arrive cost the requests of a vLLM server: `python -m benchmarks.speed.serving_load` (in the environment of make test-vllm)

2,000 chats at concurrency 16 with the `openai` client over loopback, to an unedited server and to an edited one in turns, both on one core; while
the edited one answers, 50 edits arrive through the editing service (a process of its own, on the other core), one after the other. They were made
before and taken back, and are restored one by one: for vLLM that is what a new edit is, and training does not take the client's core meanwhile.

Every answer is checked: a question of an edit that was sent after the service had said that the edit is live is answered by its target, one that was
answered before the edit was asked for as the unedited server answers it, one between by either; unrelated questions as the unedited server answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from benchmarks import harness
from benchmarks.library import Store, answers, load_facts
from benchmarks.speed.serving import commands, server, until_up
from memoir_fast import EditRequest, MemoirModel

EDITED, BASE, SERVICE = 8101, 8102, 8103  # ports
KEY = "only-for-this-benchmark-1"
TAG = "serving_load"  # of the edits that are asked for


@dataclass
class Asked:
    """A request: which edit's question it is (None: an unrelated one), when it was sent and answered, and the answer."""

    edit: int | None
    question: str
    sent: float
    ended: float
    text: str


class Edits:
    """The edits as they arrive.

    Attributes:
        asked, live: edit -> when it was asked for, and when the service said that vLLM serves it.
    """

    def __init__(self, ids: list[int]):
        self.left, self.asked, self.live = list(ids), dict[int, float](), dict[int, float]()

    async def arrive(self, number: int, every: float) -> None:
        """Restore so many of them, one each `every` seconds or as soon as the one before is live."""
        for edit in [self.left.pop(0) for _ in range(min(number, len(self.left)))]:
            self.asked[edit] = time.perf_counter()
            live = (await asyncio.to_thread(_asked, f"/memoir/edits/{edit}/restore", b""))["live"]
            while not live:  # the service waits five seconds for vLLM, and then answers that it is asked again
                await asyncio.sleep(0.05)
                live = (await asyncio.to_thread(_asked, "/memoir/status"))["vllm"]["live"]
            self.live[edit] = time.perf_counter()
            await asyncio.sleep(max(0.0, every - (self.live[edit] - self.asked[edit])))


def _asked(path: str, body: bytes | None = None) -> dict:
    """The editing service's answer; a body is posted."""
    request = urllib.request.Request(f"http://127.0.0.1:{SERVICE}{path}", body, {"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.loads(answer.read())


def apart(facts: list) -> list:
    """Facts that name nothing that an earlier one names: a question that two edits are about is answered by either."""
    seen, found = set[str](), []
    for fact in facts:
        names = {
            word.strip("?.,()'\"")
            for word in fact.prompt.split()[1:]
            if word[:1].isupper() or any(map(str.isdigit, word))
        }
        if names and not names & seen:
            found.append(fact)
        seen |= names
    return found


def answered(model: MemoirModel, edits: dict[int, EditRequest], most: int) -> list[int]:
    """Those of some edits that are all answered by their targets while no other edit is in force, at most so many; the others are taken back."""
    left = dict(edits)
    while True:
        told = model.ask([request.prompt for request in left.values()], max_new_tokens=32) if left else []
        pairs = zip(left.items(), told, strict=True)
        right = [edit for (edit, request), answer in pairs if answers.begins_with(answer, request.target)][:most]
        if len(right) == len(left):
            return right
        for edit in left.keys() - set(right):  # what is in force changes thereby, so that the rest is asked again
            model.delete(edit)
        left = {edit: left[edit] for edit in right}


def prepared(args) -> tuple[list[tuple[int, str, str]], list[str]]:
    """The store with the edits, all of them taken back: (id, question, target) of each; and unrelated questions.

    A store that is there is used again, with the edits that carry the tag.
    """
    facts = apart([fact for fact in load_facts(args.facts) if fact.unrelated])
    if not Path(args.store).exists():
        requests = [EditRequest(fact.prompt, fact.target) for fact in facts[: args.edits + args.edits // 4]]
        with MemoirModel.from_pretrained(args.model, store=args.store, conflict="keep", precision="fast") as model:
            made = model.edit_many(requests, verify=False)
            for edit in answered(model, dict(zip([one.id for one in made], requests, strict=True)), args.edits):
                model.tag(edit, [TAG])
            model.close()
    with Store(args.store, writer=True) as store:
        for edit in store.state.active():
            store.delete(edit)
        rows = [row for row in map(store.state.row, store.state.entries) if TAG in row["tags"]][: args.edits]
    if not rows:
        raise SystemExit(
            f"--store {args.store}: no edit in it carries the tag {TAG}: name a folder that does not exist"
        )
    return [(row["id"], row["prompt"], row["target"]) for row in rows], [fact.unrelated for fact in facts[: len(rows)]]


@contextlib.contextmanager
def service(args):
    """The editing service, on the second core."""
    keys = Path(args.store).with_suffix(".keys.json")
    keys.write_text(json.dumps({"load": {"role": "approve", "key": KEY}}))
    command = [sys.executable, "-m", "memoir_fast.cli", "edit-server", "--store", args.store, "--model", args.model, "--device", "cpu", "--port", str(SERVICE),
               "--keys", str(keys), "--vllm-url", f"http://127.0.0.1:{EDITED}", "--rate", "100000"]  # fmt: skip
    with open(f"server-{SERVICE}.log", "w") as log:
        process = subprocess.Popen(
            ["taskset", "-c", "1", *command], stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    try:
        until_up(process, SERVICE)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


async def load(
    port: int, questions: list[tuple[int | None, str]], concurrency: int, tokens: int, during=None
) -> list[Asked]:
    """Ask these questions; every one must be answered."""
    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=300)
    gate, found = asyncio.Semaphore(concurrency), []

    async def one(edit: int | None, question: str) -> None:
        async with gate:
            sent = time.perf_counter()
            answer = await client.chat.completions.create(model="served", messages=[{"role": "user", "content": question}], max_tokens=tokens,
                                                          temperature=0, extra_body={"ignore_eos": True})  # fmt: skip
            assert answer.usage.completion_tokens == tokens
            found.append(Asked(edit, question, sent, time.perf_counter(), answer.choices[0].message.content))

    await asyncio.gather(*(one(*question) for question in questions), *([] if during is None else [during]))
    await client.close()
    return found


def judged(edited: list[Asked], base: list[Asked], edits: Edits, targets: dict[int, str]) -> dict:
    """How many answers are which, and those that are wrong."""
    plain: dict[str, set[str]] = {}
    for one in base:
        plain.setdefault(one.question, set()).add(one.text)
    found: dict = {"target": 0, "as_before": 0, "wrong": []}
    for one in edited:
        hit = one.edit is not None and one.text.strip().casefold().startswith(targets[one.edit].strip().casefold())
        same = one.text in plain[one.question]
        asked, live = (
            (edits.asked.get(one.edit, 1e18), edits.live.get(one.edit, 1e18)) if one.edit is not None else (1e18, 1e18)
        )
        must_be_new, may_be_new = one.sent >= live, one.ended > asked
        if (hit and may_be_new) or (same and not must_be_new):
            found["target" if hit and may_be_new else "as_before"] += 1
        else:
            found["wrong"].append(
                {"question": one.question, "answer": one.text, "must_be_new": must_be_new, "may_be_new": may_be_new}
            )
    found["unedited_gave_two_answers"] = sum(len(texts) > 1 for texts in plain.values())
    return found


def times(asked: list[Asked]) -> dict[str, float]:
    """Median and 95th percentile of the latencies, seconds."""
    latencies = sorted(one.ended - one.sent for one in asked)
    return {"median_s": statistics.median(latencies), "p95_s": latencies[int(0.95 * len(latencies))]}


def measured(
    args, questions: list[tuple[int | None, str]], edits: Edits
) -> tuple[list[list[Asked]], list[list[Asked]]]:
    """(the edited server's rounds, the unedited one's), taken in turns; the edits arrive in the edited one's."""
    size, number = args.requests // args.rounds, -(-len(edits.left) // args.rounds)
    ours, theirs = [], []
    for port in (EDITED, BASE):  # not counted
        asyncio.run(load(port, questions[:32], args.concurrency, args.tokens))
    for round_ in range(args.rounds):
        part = [questions[i % len(questions)] for i in range(round_ * size, (round_ + 1) * size)]
        for port in (EDITED, BASE) if round_ % 2 else (BASE, EDITED):
            began = time.perf_counter()
            if port == BASE:
                theirs.append(asyncio.run(load(port, part, args.concurrency, args.tokens)))
                seconds = time.perf_counter() - began
            else:
                every = seconds * 0.9 / number if theirs else args.every
                ours.append(asyncio.run(load(port, part, args.concurrency, args.tokens, edits.arrive(number, every))))
            last = (theirs if port == BASE else ours)[-1]
            print(
                "unedited" if port == BASE else "edited",
                {k: round(v, 3) for k, v in times(last).items()},
                f"{time.perf_counter() - began:.1f} s",
                flush=True,
            )
    return ours, theirs


def arguments():
    parser = harness.arguments(__doc__, model=True)
    parser.add_argument(
        "--facts", default=str(harness.SHIPPED), help="JSONL of facts with unrelated questions (default: the demo's)"
    )
    parser.add_argument("--store", required=True, help="a folder for the store; one with the edits is used again")
    parser.add_argument("--edits", type=int, default=50)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument(
        "--rounds",
        type=int,
        default=20,
        help="how often the servers take turns: what else the machine does should meet both alike",
    )
    parser.add_argument(
        "--every", type=float, default=2.0, help="seconds between two edits in a first round without a measured one"
    )
    return parser.parse_args()


def main() -> None:
    args = arguments()
    recorder = harness.Recorder("serving_load", args)
    facts, unrelated = prepared(args)
    edits = Edits([edit for edit, _, _ in facts])
    questions: list[tuple[int | None, str]] = [
        pair for (edit, text, _), other in zip(facts, unrelated, strict=True) for pair in ((edit, text), (None, other))
    ]
    edited, base = commands(args)
    with server(edited, EDITED, "0"), server(base, BASE, "0"), service(args):
        ours, theirs = measured(args, questions, edits)
    all_ours, all_theirs = ([one for part in parts for one in part] for parts in (ours, theirs))
    found = judged(all_ours, all_theirs, edits, {edit: target for edit, _, target in facts})
    one, other = times(all_ours), times(all_theirs)
    live = sorted(edits.live[edit] - edits.asked[edit] for edit in edits.live)
    found |= {"answered": len(all_ours), "edits_arrived": len(live), "edited": one, "unedited": other,
              **{f"{name}_cost": round(one[name] / other[name] - 1, 4) for name in one},
              "p95_costs": [round(times(a)["p95_s"] / times(b)["p95_s"] - 1, 4) for a, b in zip(ours, theirs, strict=True)],
              "live_median_s": statistics.median(live), "live_most_s": live[-1]}  # fmt: skip
    print(json.dumps({**found, "wrong": found["wrong"][:10]}, indent=1))
    assert len(all_ours) == len(all_theirs), "a request was lost"
    found["wrong"] = len(found["wrong"])
    settings = {"model": args.model, "edits": len(facts), "requests": len(all_ours), "concurrency": args.concurrency, "tokens": args.tokens, "rounds": args.rounds,
                "facts": Path(args.facts).name}  # fmt: skip
    recorder.write(settings, found)


if __name__ == "__main__":
    main()
