"""Does a question find its stored edit by its words? `python -m benchmarks.experiments.token_router.evaluate --matcher FILE [--rows 300] [--chat]`

Prints, for each data set and for everyday questions, the share routed to the right edit and accepted, and the share of unrelated questions
and near misses kept out; `--chat`: in rendered chats, the words' place not told. The matcher is fitted and saved where the file is missing;
nothing of the data is used for fitting.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import torch

from benchmarks.harness import SHIPPED
from memoir_fast import load_model, load_texts

from .matcher import Keys, Matcher, early_states, fit_matcher

DATA = Path(os.environ.get("MEMOIR_FAST_DATA", "."))
DEMO = SHIPPED
PREAMBLE = "I am preparing a short quiz for our team. Some of the facts have changed lately. "
SYSTEM = "You are the assistant of a small company. Be polite, brief and exact."
SETS = {"zsre": 1000, "qaedit": 500, "counterfact": 1000, "wikibigedit": 1000}
WAYS = (
    "rewordings",
    "prefix",
    "suffix",
    "paragraph",
    "one_word",
    "lower",
    "upper",
    "typos",
    "talk",
    "earlier_question",
)
MISSES = ("same_subject", "other_subject", "sibling")


class Asker:
    """Codes of texts or chats by a matcher's model."""

    def __init__(self, model, tokenizer, matcher: Matcher, chat: bool):
        self.model, self.tokenizer, self.matcher, self.chat = model, tokenizer, matcher, chat

    def tokens(self, prompt) -> list[int]:
        if self.chat or isinstance(prompt, list):
            messages = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            return self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return self.tokenizer(prompt)["input_ids"]

    def codes(self, prompts: list) -> list:
        lists = [self.tokens(prompt) for prompt in prompts]
        found: list = [None] * len(lists)
        for i, states in early_states(self.model, self.matcher.layer, lists):
            found[i] = self.matcher.code(lists[i], states)
        return found

    def keys(self, prompts: list) -> Keys:
        keys = Keys(self.matcher)
        for edit, code in enumerate(self.codes(prompts)):
            keys.add(edit, [code])
        return keys


def read(path: Path, number: int | None = None) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()][:number]


def right(asker: Asker, keys: Keys, prompts: list, wanted) -> str:
    """Shares that are right and accepted, and wrong and accepted; `wanted(i, edit)` says whether an edit is right."""
    routes = [keys.route(code) for code in asker.codes(prompts)]
    good = sum(m is not None and wanted(i, m.edit) for i, m in enumerate(routes))
    bad = sum(m is not None and not wanted(i, m.edit) for i, m in enumerate(routes))
    return f"right {good / len(prompts):.3f} wrong {bad / len(prompts):.3f}"


def kept_out(asker: Asker, keys: Keys, prompts: list) -> str:
    routes = [keys.route(code) for code in asker.codes(prompts)]
    return f"kept out {sum(m is None for m in routes) / len(prompts):.3f}"


def public(asker: Asker, rows: int) -> None:
    for name, stored in SETS.items():
        data = read(DATA / f"{name}.jsonl", stored)
        keys = asker.keys([r["prompt"] for r in data])

        def same(i, edit, data=data, by="subject" if name == "zsre" else "prompt"):
            return data[i][by] == data[edit][by]

        print(name, right(asker, keys, [r["rephrase_prompt"] for r in data[:rows]], same), end="; ")
        print("unrelated", kept_out(asker, keys, [r["locality_prompt"] for r in data[:rows]]), flush=True)


def demo(asker: Asker) -> None:
    data = read(DEMO)
    keys = asker.keys([r["prompt"] for r in data])
    same = int.__eq__
    prompts = [r["prompt"] for r in data]
    print("demo rephrased", right(asker, keys, [r["rephrase"] for r in data], same))
    print("demo behind a preamble", right(asker, keys, [PREAMBLE + p for p in prompts], same))
    print("demo lower case", right(asker, keys, [p.lower() for p in prompts], same))
    if asker.chat:
        turns = [[*_turn(prompts[i - 5], data[i - 5]["target"]), *_turn(p)] for i, p in enumerate(prompts)]
        print("demo last turn", right(asker, keys, turns, same))
    print("demo unrelated", kept_out(asker, keys, [r["unrelated"] for r in data]))
    print("demo, NQ questions", kept_out(asker, keys, [r["prompt"] for r in read(DATA / "background.jsonl")]))
    print("demo, passages", kept_out(asker, keys, [r["prompt"] for r in read(DATA / "hallucination.jsonl", 150)]))


def everyday(asker: Asker) -> None:
    lines = read(Path(__file__).with_name("everyday.jsonl"))
    facts, unrelated = [r for r in lines if "prompt" in r], next(r["unrelated"] for r in lines if "unrelated" in r)
    others = [r["prompt"] for r in read(DATA / "qaedit.jsonl", 156)]
    keys = asker.keys([*(r["prompt"] for r in facts), *others])
    for way in WAYS:
        asked = [(i, text) for i, r in enumerate(facts) for text in (r[way] if isinstance(r[way], list) else [r[way]])]
        print(
            "everyday",
            way,
            right(asker, keys, [t for _, t in asked], lambda j, edit, asked=asked: asked[j][0] == edit),
            flush=True,
        )
    if asker.chat:
        prompts = [r["prompt"] for r in facts]
        chats = {
            "system": [[{"role": "system", "content": SYSTEM}, *_turn(p)] for p in prompts],
            "earlier turn": [
                [*_turn(r["earlier_turn"], "Let me see. It is in the notes."), *_turn(r["prompt"])] for r in facts
            ],
            "asked again": [[*_turn(r["prompt"], r["target"]), *_turn(r["prompt"])] for r in facts],
        }
        for name, asked in chats.items():
            print("everyday", name, right(asker, keys, asked, int.__eq__))
    for way in MISSES:
        print("everyday", way, kept_out(asker, keys, [r[way] for r in facts if r[way]]))
    print("everyday unrelated", kept_out(asker, keys, unrelated))
    more = Keys(asker.matcher)
    wordings = [asker.codes([r["prompt"], *r["rewordings"][:2]]) for r in facts]
    for edit, codes in enumerate(wordings):
        more.add(edit, codes)
    print("everyday, two rephrasings given: third", right(asker, more, [r["rewordings"][2] for r in facts], int.__eq__))
    for way in MISSES:
        print("everyday, two rephrasings given:", way, kept_out(asker, more, [r[way] for r in facts if r[way]]))


def _turn(user: str, assistant: str | None = None) -> list[dict]:
    turn = [{"role": "user", "content": user}]
    return turn if assistant is None else [*turn, {"role": "assistant", "content": assistant}]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--matcher", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--chat", action="store_true")
    parser.add_argument("--threshold", type=float)
    parser.add_argument("--only", nargs="*", default=["demo", "everyday", "public"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = load_model(options.model)
    if options.matcher.is_file():
        matcher = Matcher.from_state(torch.load(options.matcher), tokenizer)
    else:
        start = time.perf_counter()
        matcher = fit_matcher(model, tokenizer, [prompt for prompt, _ in load_texts().records])
        print(f"fitted in {time.perf_counter() - start:.0f} s")
        torch.save(matcher.state(), options.matcher)
    matcher.threshold = options.threshold or matcher.threshold
    asker = Asker(model, tokenizer, matcher, options.chat)
    for part in options.only:
        globals()[part](asker, options.rows) if part == "public" else globals()[part](asker)


if __name__ == "__main__":
    main()
