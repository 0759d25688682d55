"""An edited model on a GPU: seconds an edit beside the published editor's, and what the memory costs in generation:
`python -m benchmarks.gpu.model --edits zsre.jsonl --count 8 --record`

The same measurements as `benchmarks.speed.edit_speed` and `benchmarks.speed.generate`, with both models on the device. Elsewhere it says that
there is no GPU and ends.
"""

from __future__ import annotations

import torch

from benchmarks import harness
from benchmarks.speed import edit_speed, generate


def main() -> None:
    parser = harness.arguments(__doc__, count=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument(
        "--runs", type=int, default=24, help="first tokens of each kind, as for benchmarks.speed.generate"
    )
    parser.add_argument("--steps", type=int, default=30)
    parser.set_defaults(threshold=0.5, exact_only=False)
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("No GPU here: nothing measured.")
        return
    recorder = harness.Recorder("gpu_model", args)
    found = {"generate": generate.measure(args), "edit": edit_speed.run(args)}
    for name, seconds in found["edit"]["seconds"].items():
        print(name, seconds, found["edit"].get(f"{name}_ratio"), found["edit"][f"{name}_metrics"])
    recorder.write(
        {"edits": harness.edits_of(args), "model": args.model, "new_tokens": args.tokens, "runs": args.runs}, found
    )


if __name__ == "__main__":
    main()
