"""Makes the package's vectors of common English words: `python -m benchmarks.quality.word_senses --out FILE [--wordnet FOLDER]`.

SmolLM2's input embeddings know which words stand in like places; a linear map of them, fitted on WordNet's synonyms, derived words,
kinds and inflections (Debian: `apt-get install wordnet-base`), keeps what makes two words mean alike. No text of any task is used.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from memoir_fast import load_model

FILES = ("data.noun", "data.verb", "data.adj", "data.adv")
# How alike two words are that WordNet links in this way: derived from each other, near synonyms, a kind of.
LINKS = {"+": 1.0, "\\": 1.0, "<": 1.0, "&": 0.5, "@": 0.25}
ENDINGS = (
    ("s", ""),
    ("es", ""),
    ("ed", ""),
    ("ed", "e"),
    ("ing", ""),
    ("ing", "e"),
    ("er", ""),
    ("er", "e"),
    ("ies", "y"),
    ("ied", "y"),
)
WIDTH, STEPS, BATCH, TEMPERATURE = 64, 600, 512, 0.2
LEVELS = 7  # a number of a vector is stored in four bits: -7 .. 7


def vocabulary(tokenizer: Any) -> dict[str, int]:
    """Words in small letters that are one token behind a space -> that token."""
    found = {}
    for token in range(len(tokenizer)):
        text = tokenizer.decode([token])
        if re.fullmatch(r" [a-z]{2,}", text):
            found[text[1:]] = token
    return found


def synsets(folder: Path) -> Iterator[tuple[str, list[str], list[tuple[str, str, str]]]]:
    """(key, words, pointers (kind, key of the other, "ssss" which words)) of each of WordNet's sets of synonyms."""
    for name in FILES:
        for line in (folder / name).read_text("utf-8").splitlines():
            if line.startswith(" "):
                continue
            parts = line.split("|")[0].split()
            count = int(parts[3], 16)
            words = [parts[4 + 2 * i].lower().split("(")[0] for i in range(count)]
            at = 4 + 2 * count
            pointers = [
                (parts[at + 1 + 4 * i], _part(parts[at + 3 + 4 * i]) + parts[at + 2 + 4 * i], parts[at + 4 + 4 * i])
                for i in range(int(parts[at]))
            ]
            yield _part(parts[2]) + parts[0], words, pointers


def _part(letter: str) -> str:
    return "a" if letter == "s" else letter


def alike(folder: Path, line: dict[str, int]) -> dict[tuple[int, int], float]:
    """Pairs of lines of the vocabulary whose words mean alike -> how much, 0..1."""
    found: dict[tuple[int, int], float] = {}

    def add(a: str, b: str, much: float) -> None:
        if a in line and b in line and a != b:
            pair = min(line[a], line[b]), max(line[a], line[b])
            found[pair] = max(much, found.get(pair, 0.0))

    sets = list(synsets(folder))
    words_of = {key: words for key, words, _ in sets}
    for _, words, pointers in sets:
        for i, one in enumerate(words):
            for other in words[i + 1 :]:
                add(one, other, 1.0)
        for kind, key, which in pointers:
            others, much = words_of.get(key, []), LINKS.get(kind, 0.0)
            here, there = int(which[:2], 16), int(which[2:], 16)
            if much == 1.0 and here and there and others:
                add(words[here - 1], others[there - 1], much)
            elif 0 < much < 1.0:
                for one in words[: 2 if kind == "&" else 1]:
                    for other in others[: 2 if kind == "&" else 1]:
                        add(one, other, much)
    for word in line:
        for ending, instead in ENDINGS:
            if word.endswith(ending):
                add(word, word[: -len(ending)] + instead, 1.0)
    return found


def centred(embeddings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(V, d) unit vectors without the mean and the three widest directions, and (d, WIDTH) the widest that are left."""
    x = embeddings - embeddings.mean(0)
    _, _, directions = torch.linalg.svd(x, full_matrices=False)
    x = torch.nn.functional.normalize(x - (x @ directions[:3].T) @ directions[:3])
    return x, torch.linalg.svd(x, full_matrices=False)[2][:WIDTH].T


def fitted(x: torch.Tensor, start: torch.Tensor, pairs: dict[tuple[int, int], float], seed: int) -> torch.Tensor:
    """(V, WIDTH) unit vectors by a linear map of `x` that tells a word's partner among the others of a batch."""
    linear = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([linear], lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    both, weights = torch.tensor(list(pairs)), torch.tensor(list(pairs.values()))
    generator = torch.Generator().manual_seed(seed)
    draws = torch.multinomial(weights, STEPS * BATCH, replacement=True, generator=generator).view(STEPS, BATCH)
    own = torch.arange(BATCH)
    for draw in draws:
        one, other = (torch.nn.functional.normalize(x[both[draw, side]] @ linear) for side in (0, 1))
        likeness = one @ other.T / TEMPERATURE
        loss = torch.nn.functional.cross_entropy(likeness, own) + torch.nn.functional.cross_entropy(likeness.T, own)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return torch.nn.functional.normalize(x @ linear.detach())


def packed(vectors: torch.Tensor) -> torch.Tensor:
    """(V, WIDTH/2) uint8: two numbers of four bits a byte, the first in the low half."""
    whole = (vectors * LEVELS / vectors.abs().amax(1, keepdim=True)).round().to(torch.int64) + LEVELS
    return (whole[:, 0::2] + 16 * whole[:, 1::2]).to(torch.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model, tokenizer = load_model("smollm2")
    tokens = vocabulary(tokenizer)
    line = {word: number for number, word in enumerate(tokens)}
    pairs = alike(options.wordnet, line)
    x, start = centred(model.get_input_embeddings().weight.detach().float()[list(tokens.values())])
    vectors = fitted(x, start, pairs, options.seed)
    kept = sorted({number for pair in pairs for number in pair})
    words = [list(line)[number] for number in kept]
    text = torch.frombuffer(bytearray(" ".join(words).encode()), dtype=torch.uint8)
    save_file({"words": text, "vectors": packed(vectors[kept])}, options.out)
    print(f"{options.out}: {len(words)} words, {len(pairs)} pairs")


if __name__ == "__main__":
    main()
