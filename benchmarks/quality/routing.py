"""Which edit does a question read? `python -m benchmarks.quality.routing --data DIR [--rows 300] [--plain] [--rules words mask bm25 oracle grace]`

Edits are stored, not trained: only the look-up is measured. For each data set and each rule the share of rephrasings that read the right
edit, and the share of unrelated prompts and near misses that read none. `everyday.jsonl` holds 45 facts of deployments with rewordings,
contexts, typos and near misses. Nothing of all this was used to fit the rule.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.library import joined_prompts
from benchmarks.models import load_model
from benchmarks.rivals.routers import RULES, Oracle, Stored
from memoir_fast import MemoirConfig, MemoirModel

PREAMBLE = "I am preparing a short quiz for our team. Some of the facts have changed lately. "
SYSTEM = "You are the assistant of a small company. Be polite, brief and exact."
# Data set -> how many of its prompts are stored; by default the first 300 of them are asked for.
SETS = {"zsre": 1000, "qaedit": 500, "counterfact": 1000, "wikibigedit": 1000}
SAME_FACT = (
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
POINTS = 40  # of a curve
Right = Callable[[int, int], bool]
Make = Callable[[list[list[str]], list[str]], "Asked"]  # the wordings of each edit, and its target


class Asked:
    """What a rule reads of prompts.

    Args:
        rule: stored prompts and their look-up; encode: a prompt or a chat to its sequence.
    """

    def __init__(self, rule: Stored, encode: Callable[[Any], Any]):
        self.rule, self.encode = rule, encode

    def found(self, prompts: list, wanted: Right | None = None) -> list[tuple[int, float]]:
        """(edit, score) of each prompt; `wanted` tells the oracle."""
        if isinstance(self.rule, Oracle) and wanted is not None:
            return self.rule.told(len(prompts), wanted)
        return self.rule.found([self.encode(prompt) for prompt in prompts])

    def right(self, prompts: list, wanted: Right) -> dict[str, float]:
        """Shares that read a right edit, and a wrong one; `wanted(i, edit)` says which is right."""
        return self.right_among(self.found(prompts, wanted), wanted)

    def right_among(self, found: list[tuple[int, float]], wanted: Right) -> dict[str, float]:
        """The same of what was found."""
        read = self._read(found)
        good = sum(edit >= 0 and wanted(i, edit) for i, edit in enumerate(read))
        bad = sum(edit >= 0 and not wanted(i, edit) for i, edit in enumerate(read))
        return {"right": good / len(read), "wrong": bad / len(read), "prompts": len(read)}

    def kept_out(self, prompts: list) -> dict[str, float]:
        """The share that reads no edit."""
        return self.kept_out_among(self.found(prompts))

    def kept_out_among(self, found: list[tuple[int, float]]) -> dict[str, float]:
        """The same of what was found."""
        return {"kept_out": sum(edit < 0 for edit in self._read(found)) / len(found), "prompts": len(found)}

    def _read(self, found: list[tuple[int, float]]) -> list[int]:
        return [edit if score >= self.rule.cut else -1 for edit, score in found]

    @staticmethod
    def curve(near: list[tuple[int, float]], wanted: Right, far: list[tuple[int, float]]) -> list[list[float]]:
        """[score, share of rephrasings that read a right edit, share of unrelated prompts that read none] over all thresholds, at some
        `POINTS` scores, from where all are read to where none is. near, far: what was found for the two."""
        right = np.array([score if edit >= 0 and wanted(i, edit) else -np.inf for i, (edit, score) in enumerate(near)])
        other = np.array([score if edit >= 0 else -np.inf for edit, score in far])
        every = np.unique(np.concatenate([right, other]))
        every = every[np.isfinite(every)]
        at = every[np.unique(np.linspace(0, len(every) - 1, POINTS).round().astype(int))] if len(every) else every
        points = [[float(cut), float((right >= cut).mean()), float((other < cut).mean())] for cut in at]
        return [
            [round(value, 4) for value in point] for point in [*points, [points[-1][0] if points else 0.0, 0.0, 1.0]]
        ]


def read_lines(path: Path, number: int | None = None) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()][:number]


def plain(text: str) -> str:
    """The words of a text in small letters."""
    return " ".join(re.findall(r"\w+", text.lower()))


def public(make: Make, data: Path, rows: int) -> dict:
    """The data sets: rephrasings right, unrelated prompts kept out. An unrelated prompt that is word for word a stored one (three of QAEdit's first
    300) is not asked: to read that edit is right."""
    found = {}
    for name, stored in SETS.items():
        facts = read_lines(data / f"{name}.jsonl", stored)
        asked = make([[r["prompt"]] for r in facts], [r["target_new"] for r in facts])

        def same(i: int, edit: int, facts: list = facts, by: str = "subject" if name == "zsre" else "prompt") -> bool:
            return facts[i][by] == facts[edit][by]

        near = asked.found([r["rephrase_prompt"] for r in facts[:rows]], same)
        known = {plain(r["prompt"]) for r in facts}
        far = asked.found([r["locality_prompt"] for r in facts[:rows] if plain(r["locality_prompt"]) not in known])
        found[name] = {
            "rephrased": asked.right_among(near, same),
            "unrelated": asked.kept_out_among(far),
            "threshold": asked.rule.least,
            "curve": asked.curve(near, same, far),
        }
    return found


def demo(make: Make, data: Path | None, chat: bool) -> dict:
    """The twenty facts of the demo, and what must not read them."""
    facts = read_lines(harness.SHIPPED)
    prompts, targets = ([r[name] for r in facts] for name in ("prompt", "target"))
    asked = make([[prompt] for prompt in prompts], targets)
    found = {
        "rephrased": asked.right([r["rephrase"] for r in facts], int.__eq__),
        "behind a preamble": asked.right([PREAMBLE + p for p in prompts], int.__eq__),
        "lower case": asked.right([p.lower() for p in prompts], int.__eq__),
        "the same subject, another question": asked.kept_out([r["other_question"] for r in facts]),
        "the same question, another subject": asked.kept_out([r["other_subject"] for r in facts]),
        "unrelated": asked.kept_out([r["unrelated"] for r in facts]),
    }
    if chat:
        turns = [[*turn(prompts[i - 5], facts[i - 5]["target"]), *turn(p)] for i, p in enumerate(prompts)]
        found["last turn of a chat"] = asked.right(turns, int.__eq__)
    if data is not None:
        found["unrelated questions"] = asked.kept_out([r["prompt"] for r in read_lines(data / "background.jsonl")])
        found["passages"] = asked.kept_out([r["prompt"] for r in read_lines(data / "hallucination.jsonl", 150)])
    return found


def everyday(make: Make, data: Path | None, chat: bool) -> dict:
    """Questions as people ask them, with 156 other stored facts where there is data."""
    lines = read_lines(Path(__file__).with_name("everyday.jsonl"))
    facts, unrelated = [r for r in lines if "prompt" in r], next(r["unrelated"] for r in lines if "unrelated" in r)
    more = [] if data is None else read_lines(data / "qaedit.jsonl", 156)
    others = [[r["prompt"]] for r in more]
    targets = [r["target"] for r in facts] + [r["target_new"] for r in more]
    asked, found = make([[r["prompt"]] for r in facts] + others, targets), {}
    for way in SAME_FACT:
        texts = [(i, t) for i, r in enumerate(facts) for t in (r[way] if isinstance(r[way], list) else [r[way]])]
        found[way] = asked.right([t for _, t in texts], lambda j, edit, texts=texts: texts[j][0] == edit)
    if chat:
        prompts = [r["prompt"] for r in facts]
        noted = "Let me see. It is in the notes."
        chats = {
            "system prompt": [[{"role": "system", "content": SYSTEM}, *turn(p)] for p in prompts],
            "earlier turn": [[*turn(r["earlier_turn"], noted), *turn(r["prompt"])] for r in facts],
            "asked again": [[*turn(r["prompt"], r["target"]), *turn(r["prompt"])] for r in facts],
        }
        found |= {name: asked.right(some, int.__eq__) for name, some in chats.items()}
    found |= {way: asked.kept_out([r[way] for r in facts if r[way]]) for way in MISSES}
    found["unrelated"] = asked.kept_out(unrelated)
    given = make([[r["prompt"], *r["rewordings"][:2]] for r in facts] + others, targets)
    found["two rephrasings given: the third"] = given.right([r["rewordings"][2] for r in facts], int.__eq__)
    for way in MISSES:
        found[f"two rephrasings given: {way}"] = given.kept_out([r[way] for r in facts if r[way]])
    return found


def turn(user: str, assistant: str | None = None) -> list[dict]:
    said = [{"role": "user", "content": user}]
    return said if assistant is None else [*said, {"role": "assistant", "content": assistant}]


def main() -> None:
    parser = harness.arguments(__doc__, model=True)
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("MEMOIR_FAST_DATA"), help="folder of the JSONL files"
    )
    parser.add_argument("--rows", type=int, default=300, help="rows of each data set that are asked for")
    parser.add_argument("--plain", action="store_true", help="plain text, no chat")
    parser.add_argument("--rules", nargs="+", choices=RULES, default=["words"])
    parser.add_argument(
        "--only", nargs="+", choices=("demo", "everyday", "public"), default=["demo", "everyday", "public"]
    )
    args = parser.parse_args()
    recorder, data = harness.Recorder("routing", args), None if args.data is None else Path(args.data)
    base, tokenizer = load_model(args.model)
    result = {}
    for name in args.rules:
        began = time.perf_counter()
        settings = MemoirConfig(
            router="mask" if name == "mask" else "tokens", chat_template=False if args.plain else None
        )
        with MemoirModel(base, tokenizer, settings) as model:
            chat = model.encoder.is_chat

            def make(stored: list, targets: list, name: str = name, model: MemoirModel = model) -> Asked:
                return Asked(RULES[name](model, stored, targets), joined_prompts(model.encoder))

            result[name] = {
                part: found
                for part, measure in (
                    ("demo", lambda make=make, chat=chat: demo(make, data, chat)),
                    ("everyday", lambda make=make, chat=chat: everyday(make, data, chat)),
                    ("public", lambda make=make: public(make, data, args.rows) if data else {}),
                )
                if part in args.only and (found := measure())
            }
        for part, measured in result[name].items():
            for what, value in measured.items():
                print(name, part, what, json.dumps(value), flush=True)
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
    about = {"model": args.model, "rows": args.rows, "chat": chat, "stored": SETS, "rules": args.rules}
    recorder.write(about, {"rules": result})


if __name__ == "__main__":
    main()
