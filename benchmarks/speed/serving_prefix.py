"""What prefix caching gains with a memory, and without: `python -m benchmarks.speed.serving_prefix --store DIR` (in the environment of make test-vllm)

Chats behind one system prompt of some 500 tokens, to an unedited and an edited vLLM server, both with prefix caching and on one core. Each server is asked
with the cache, and without it: then every request carries another `cache_salt`, which no cached block has. Half of the questions read an edit. The system
prompt ends with the number of the round and of the request, so that nothing but the system prompt is shared: of a prompt that is asked twice plain vLLM
takes all but the last tokens from its cache, an edited one what comes before the last message. The rounds of all four kinds alternate; the answers with and
without the cache must be the same.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time

from benchmarks import harness
from benchmarks.library import Store, load_facts
from benchmarks.speed.serving import commands, server

PORTS = {"edited": 8101, "unedited": 8102}
SYSTEM = "You answer questions about people, towns and rivers in one short sentence. " * 35


async def load(
    port: int, questions: list[str], round_: int, cached: bool, concurrency: int, tokens: int
) -> tuple[float, list[str]]:
    """(seconds, the answers in the questions' order)."""
    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=300)
    gate = asyncio.Semaphore(concurrency)

    async def one(number: int, question: str) -> str:
        messages = [
            {"role": "system", "content": f"{SYSTEM}This is request {round_}, {number}."},
            {"role": "user", "content": question},
        ]
        body = {"ignore_eos": True} | ({} if cached else {"cache_salt": f"{round_} {number}"})
        async with gate:
            answer = await client.chat.completions.create(
                model="served", messages=messages, max_tokens=tokens, temperature=0, extra_body=body
            )
        assert answer.usage.prompt_tokens > 500 and answer.usage.completion_tokens == tokens
        return answer.choices[0].message.content

    began = time.perf_counter()
    found = await asyncio.gather(*(one(*pair) for pair in enumerate(questions)))
    seconds = time.perf_counter() - began
    await client.close()
    return seconds, found


def arguments():
    parser = harness.arguments(__doc__, model=True)
    parser.add_argument("--store", required=True, help="a store of edits of chats with --model")
    parser.add_argument("--unrelated", default=str(harness.SHIPPED), help="JSONL whose locality prompts match nothing")
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    recorder = harness.Recorder("serving_prefix", args)
    with Store(args.store) as store:
        matching = [row["prompt"] for row in store.edits.values()]
    unrelated = [fact.unrelated for fact in load_facts(args.unrelated) if fact.unrelated]
    assert matching and unrelated, "the store has no active edit"
    questions = [(unrelated, matching)[i % 2][i // 2 % len((unrelated, matching)[i % 2])] for i in range(args.requests)]
    edited, base = commands(args)
    seconds: dict[str, list[float]] = {}
    answers: dict[str, list[list[str]]] = {}
    with server(edited, PORTS["edited"], "0"), server(base, PORTS["unedited"], "0"):
        for round_ in range(-1, args.rounds):
            kinds = [(name, cached) for name in PORTS for cached in (False, True)]
            for name, cached in kinds if round_ % 2 else kinds[::-1]:
                took, texts = asyncio.run(load(PORTS[name], questions, round_, cached, args.concurrency, args.tokens))
                answers.setdefault(name, []).append(texts)
                if round_ >= 0:
                    seconds.setdefault(f"{name}_{'cached' if cached else 'uncached'}", []).append(took)
                    print(name, "cached" if cached else "uncached", f"{took:.2f} s", flush=True)
    for name, rounds in answers.items():  # a round's two ways, one after the other
        assert rounds[::2] == rounds[1::2], f"the {name} server's answers depend on the cache"
    differing = [one != other for one, other in zip(answers["edited"][0], answers["unedited"][0], strict=True)]
    assert not any(differing[::2]) and any(differing[1::2]), "unmatched answers changed, or edits were not read"
    middle = {name: statistics.median(times) for name, times in seconds.items()}
    gains = {name: middle[f"{name}_uncached"] / middle[f"{name}_cached"] for name in PORTS}
    found = {**{f"{name}_s": value for name, value in middle.items()}, **{f"{name}_gain": round(gain, 3) for name, gain in gains.items()},
             "share_of_gain": round(gains["edited"] / gains["unedited"], 3), "read_an_edit": sum(differing)}  # fmt: skip
    print(json.dumps(found, indent=1))
    settings = {
        "model": args.model,
        "edits": len(matching),
        "requests": args.requests,
        "concurrency": args.concurrency,
        "tokens": args.tokens,
        "rounds": args.rounds,
    }
    recorder.write(settings, found)


if __name__ == "__main__":
    main()
