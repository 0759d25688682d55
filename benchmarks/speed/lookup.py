"""Looking stored edits up among very many: `python -m benchmarks.speed.lookup [--sizes 5000 100000 1000000]`

Masks: one query by our scan, by FAISS's flat index, and by the published product of floats. Words: the candidates of a rewording (postings and
FAISS's flat index over the summed codes, beside our scan of the same codes), and their verification. Every answer is checked against a direct
comparison in the same run.
"""

from __future__ import annotations

import numpy as np

from benchmarks import harness
from benchmarks.speed import lookup_masks, lookup_words
from benchmarks.speed.many_wordings import ManyWordings
from memoir_fast import MemoirConfig, MemoirModel, load_model


def main() -> None:
    parser = harness.arguments(__doc__, model=True)
    parser.add_argument("--runs", type=int, default=30, help="timed calls beside the published product")
    parser.add_argument("--sizes", type=int, nargs="+", default=[5000, 100_000], help="how many edits (%(default)s)")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--only", nargs="+", choices=("masks", "words"), default=["masks", "words"])
    args = parser.parse_args()
    recorder, found = harness.Recorder("lookup", args), {}
    sizes = sorted(args.sizes)
    if "masks" in args.only:
        rng = np.random.default_rng(0)
        chances = lookup_masks.popularity(rng)
        found["popularity"] = {
            "least": float(chances.min()),
            "median": float(np.median(chances)),
            "largest": float(chances.max()),
        }
        found |= lookup_masks.published(rng, chances, args.runs)
        print({name: found[name] for name in ("ours_ms", "published_ms", "stream_ms", "ratio")}, flush=True)
        found["masks"] = []
        for size in sizes:
            found["masks"].append(lookup_masks.side_by_side(rng, chances, size, args.queries))
            print(found["masks"][-1], flush=True)
    if "words" in args.only:
        with MemoirModel(*load_model(args.model), MemoirConfig(chat_template=False)) as model:
            found["words"] = lookup_words.measured(ManyWordings(model), sizes, args.queries)
    about = {"D": lookup_masks.D, "k": lookup_masks.K, "runs": args.runs, "model": args.model, "sizes": sizes}
    recorder.write(about, found)


if __name__ == "__main__":
    main()
