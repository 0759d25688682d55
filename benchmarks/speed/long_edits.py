"""Long edits beside the published editor's, time and memory: `python -m benchmarks.speed.long_edits --edits hallucination.jsonl`

About 1,400 training tokens an edit in the published protocol: plain text behind ten contexts. `exact` and `fast` make the same steps; `chat` and
`chat_fast` are the library's defaults, with the chat template and as few steps as they need. Accuracy is teacher-forced, after all edits. Memory is the peak resident size above the loaded model, of each editor in a process of its own and of one unedited
forward pass over the same padded batch with full logits.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import torch

from benchmarks import harness
from benchmarks.library import PLAIN, PUBLISHED, load_facts, metrics
from benchmarks.models import load_model
from benchmarks.rivals.published import PublishedEditor
from memoir_fast import MemoirConfig, MemoirModel

OURS = {"exact": "exact", "fast": "fast", "chat": "exact", "chat_fast": "fast"}  # kind -> precision


def alone(kind: str, args) -> dict:
    """In this process: load, note the resident size, do the work, note the peak."""
    facts = load_facts(args.edits, args.count)
    torch.manual_seed(0)  # the same permutation in every process
    config = (
        MemoirConfig()
        if kind.startswith("chat")
        else MemoirConfig(**PLAIN, **PUBLISHED, threshold=0.5, steps=args.steps)
    )
    model = MemoirModel(*load_model(args.model), config, args.background)
    editor = PublishedEditor(load_model(args.model)[0], model) if kind == "published" else None
    if kind != "published":
        load_model(args.model)  # as much loaded as the other
    peak, seconds, losses, steps = _Peak(), [], [], []
    for fact in facts:
        began = time.perf_counter()
        if kind == "forward":
            pair, contexts = model.encoder.pair, ["", *model.contexts]
            sequences = [pair(fact.prompt, fact.target, c) for c in contexts]
            width = max(len(s.tokens) for s in sequences)
            tokens = torch.tensor([s.tokens + [0] * (width - len(s.tokens)) for s in sequences])
            with torch.no_grad(), model.disabled():
                model.model(input_ids=tokens, use_cache=False).logits.sum()
        elif kind == "published":
            losses.append(editor.edit(fact.prompt, fact.target).final)
        else:
            result = model.edit(fact.prompt, fact.target, precision=OURS[kind])
            losses.append(result.loss)
            steps.append(result.steps)
        seconds.append(time.perf_counter() - began)
    found = {"seconds": statistics.median(seconds), "peak_mb": round(peak.stop() / 2**20, 1), "losses": losses}
    pairs = [(fact.prompt, fact.target) for fact in facts]
    if kind == "published":
        found["accuracy"] = editor.accuracy(pairs)
    elif kind != "forward":
        found |= {"steps": steps, "accuracy": metrics.mean(metrics.token_accuracy(model, pairs))}
    return found


class _Peak(threading.Thread):
    """Samples the resident size every five milliseconds: loading's own peak must not count."""

    def __init__(self):
        super().__init__(daemon=True)
        self.process, self.running = psutil.Process(), True
        self.before = self.largest = self.process.memory_info().rss
        self.start()

    def run(self):
        while self.running:
            self.largest = max(self.largest, self.process.memory_info().rss)
            time.sleep(0.005)

    def stop(self) -> int:
        """Bytes above the start."""
        self.running = False
        self.join()
        return self.largest - self.before


def main() -> None:
    parser = harness.arguments(__doc__, count=1)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.kind:
        print(json.dumps(alone(args.kind, args)))
        return
    recorder, found = harness.Recorder("long_edits", args), {}
    for kind in ("forward", "published", *OURS):
        command = [sys.executable, "-m", "benchmarks.speed.long_edits", *sys.argv[1:], "--kind", kind]
        found[kind] = json.loads(
            subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
        )
        print(kind, found[kind], flush=True)
    for kind in OURS:
        found[f"{kind}_ratio"] = round(found["published"]["seconds"] / found[kind]["seconds"], 3)
        found[f"{kind}_memory_over_forward"] = round(found[kind]["peak_mb"] / found["forward"]["peak_mb"], 3)
    print({n: v for n, v in found.items() if "ratio" in n or "over" in n})
    settings = {
        "edits": Path(args.edits).name,
        "count": args.count,
        "steps": args.steps,
        "model": args.model,
        **PUBLISHED,
    }
    recorder.write(settings, found)


if __name__ == "__main__":
    main()
