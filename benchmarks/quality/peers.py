"""Other ways to give a model new facts, on the same rows: `python -m benchmarks.quality.peers --edits zsre.jsonl`

`unedited`; `ft_l`: plain fine-tuning of the edited layer's projection; `lora`: a rank-8 adapter on it (PEFT), trained edit by edit;
`in_context`: the facts stay in a list, the nearest one by signature is put before the question (what retrieval does); `grace`: a codebook
beside the projection; `published`: the method as published, in plain PyTorch, read at one threshold.
"""

from __future__ import annotations

import time

from tqdm import tqdm

from benchmarks import harness
from benchmarks.library import PLAIN, PUBLISHED
from benchmarks.models import load_model
from benchmarks.quality import measures, tasks
from benchmarks.rivals.peers import Grace, InContext, Peer, Published, adapted, fine_tuned
from memoir_fast import MemoirConfig, MemoirModel, load_texts

PUBLISHED_THRESHOLD = 0.5  # one for all; between the overlaps of rephrasings and of unrelated prompts on ZsRE


def published(args) -> Published:
    config = MemoirConfig(**PLAIN, **PUBLISHED, threshold=PUBLISHED_THRESHOLD)
    like = MemoirModel(*load_model(args.model), config, args.background)
    return Published(*load_model(args.model), like)


def peers(args):
    """(name, peer), each on a base model of its own, made when its turn comes."""
    path = MemoirModel(*load_model(args.model), MemoirConfig(**PLAIN), args.background).target.path
    yield "unedited", Peer(*load_model(args.model))
    yield "ft_l", fine_tuned(*load_model(args.model), path)
    yield "lora", adapted(*load_model(args.model), path)
    yield "in_context", InContext(*load_model(args.model), args.background)
    yield "grace", Grace(*load_model(args.model), path, [prompt for prompt, _ in load_texts(args.background).records])
    yield "published", published(args)


def main() -> None:
    parser = harness.arguments(__doc__, count=100)
    parser.add_argument("--task", choices=tasks.TASKS, default="zsre")
    parser.add_argument("--first", type=int, default=0, help="the first row used")
    args = parser.parse_args()
    recorder = harness.Recorder("peers", args)
    rows = tasks.load_rows(args.edits, args.first, args.count)
    base = tasks.base_answers(Peer(*load_model(args.model)), rows)
    found: dict = {"seconds": {}, "peers": {}}
    for name, peer in peers(args):
        began = time.perf_counter()
        for row in tqdm(rows, desc=name):
            peer.edit(row.prompt, row.target)
        found["seconds"][name] = round((time.perf_counter() - began) / len(rows), 3)
        scores = tasks.score(args.task, peer, rows, base)
        found["peers"][name] = scores | {"background_perplexity": measures.background_perplexity(peer)}
        print(name, found["peers"][name], flush=True)
    recorder.write({"task": args.task, "model": args.model, "edits": harness.edits_of(args), **PUBLISHED}, found)


if __name__ == "__main__":
    main()
