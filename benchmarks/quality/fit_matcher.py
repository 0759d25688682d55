"""Fits the network that the package ships for comparing prompts: `python -m benchmarks.quality.fit_matcher --out FILE [--seed 0]`.

It is fitted with SmolLM2's early activations on near misses that the project makes itself, and used for every base model: its features
mean the same everywhere. The same seed gives the same file on the same machine.
"""

from __future__ import annotations

import time
from pathlib import Path

from safetensors.torch import save_file

from benchmarks import harness
from benchmarks.library import KEYS_FITTED, Encoder, fit_classifier, make_near_misses, read_prompts
from benchmarks.models import load_model
from memoir_fast import MemoirConfig, MemoirModel, load_texts


def main() -> None:
    parser = harness.arguments(__doc__, model=True)
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    began = time.perf_counter()
    texts = load_texts()
    near = make_near_misses(args.seed, KEYS_FITTED, background=[*texts.for_mean, *texts.for_threshold])
    with MemoirModel(*load_model(args.model), MemoirConfig(chat_template=False)) as model:
        plain = Encoder(model.tokenizer, chat_template=False)
        sequences = [plain.prompt(asked.text) for asked in (*near.keys, *near.queries)]
        read = read_prompts(model.model, model.router, model.router.words.keys.matcher, sequences, 32)
    codes, count = [code for _, code in read], len(near.keys)
    print(f"{count} stored prompts, {len(near.queries)} queries")
    save_file(fit_classifier(near, codes[:count], codes[count:], args.seed).state, args.out)
    print(f"{args.out}: fitted in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
