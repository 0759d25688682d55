"""The matcher: codes a prompt's words and early activations, and tells how likely a query asks for a stored
question."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import torch
from safetensors.torch import load

from ... import ops
from ...errors import brief
from .classifier import Classifier
from .comparison import compare
from .judge import doubted
from .key_store import KeyStore
from .prompt_codes import PromptCode, PromptCoder
from .token_codes import TokenCoder, WordRarity
from .words import WordReader, Words

NETWORK = "matcher.safetensors"


def shipped_network() -> Classifier:
    """The package's own pair classifier, fitted on generated near misses (`fitting.py`).

    It belongs to the features that this version computes, so memories do not store one.
    """
    return Classifier(load((resources.files("memoir_fast") / "data" / NETWORK).read_bytes()))


@dataclass(frozen=True)
class Wording:
    """A stored text by which an edit is found, as `Matcher.read` coded it.

    Attributes:
        tokens: the ids of its T tokens, without BOS and template.
        bits: (W, B/8) uint8, its words' codes.
    """

    tokens: list[int]
    bits: np.ndarray

    def packed(self) -> str:
        """For files: base64 of T and W as u32, the ids as i32 (both little-endian) and the codes' bytes."""
        head = np.array([len(self.tokens), len(self.bits)], "<u4").tobytes()
        return base64.b64encode(head + np.array(self.tokens, "<i4").tobytes() + self.bits.tobytes()).decode()

    @classmethod
    def unpacked(cls, text: str, bits: int) -> Wording:
        """The inverse of `packed`. bits: B, the matcher's. Raises ValueError for a malformed text or other codes."""
        try:
            data = base64.b64decode(text, validate=True)
            count, words = np.frombuffer(data[:8], "<u4").tolist()
        except (ValueError, TypeError) as error:
            raise ValueError(f"a stored wording's code is malformed ({brief(error)})") from None
        if len(data) != 8 + 4 * count + words * bits // 8:
            raise ValueError(
                f"a stored wording's code has {len(data)} bytes, not those of {count} tokens and {words} words"
            )
        tokens = np.frombuffer(data, "<i4", count, 8).tolist()
        return cls(tokens, np.frombuffer(data, np.uint8, offset=8 + 4 * count).reshape(words, bits // 8).copy())


class Matcher:
    """Codes and compares prompts for one base model; the same model, texts and seed give the same matcher.

    Args:
        tokenizer: the model's.
        depth: the number of decoder layers that run before the activations are coded.
        coder, log_probabilities: measured on the background texts, see `measure.py`.
    """

    def __init__(self, tokenizer: Any, depth: int, coder: TokenCoder, log_probabilities: torch.Tensor):
        self.reader, self.depth = WordReader(tokenizer), depth
        self.prompts = PromptCoder(coder, WordRarity(log_probabilities, tokenizer))
        self.classifier = shipped_network()

    @property
    def bits(self) -> int:
        """B, the number of bits of a word's activation code."""
        return self.prompts.coder.bits

    def read(
        self, tokens: list[int], hidden: torch.Tensor, span: tuple[int, int] | None = None
    ) -> tuple[Wording, PromptCode]:
        """Code a prompt: as it is stored, and as it is compared.

        Args:
            tokens: its T ids, without padding.
            hidden: (T, d), the input of decoder layer `depth`, on any device.
            span: (start, end) positions of the routing words; None takes the last user message of a rendered chat or,
                without one, everything.
        """
        return self.read_all([(tokens, hidden, span)])[0]

    def read_all(
        self, prompts: Sequence[tuple[list[int], torch.Tensor, tuple[int, int] | None]]
    ) -> list[tuple[Wording, PromptCode]]:
        """`read` for several prompts, whose activations are copied from their device and coded together."""
        spans = [span or self.reader.user_span(tokens) for tokens, _, span in prompts]
        words = [self.reader.words(tokens, span) for (tokens, _, _), span in zip(prompts, spans, strict=True)]
        codes = self.prompts.coder.codes(_pooled(words, [hidden for _, hidden, _ in prompts]))
        found, end = [], 0
        for (tokens, _, _), span, some in zip(prompts, spans, words, strict=True):
            bits, end = codes[end : end + len(some)], end + len(some)
            if tokens[0] not in self.reader.special:
                # Position 0 is an ordinary token (no BOS, no template). Its activation does not represent its word.
                bits[np.array(some.first, np.int64) == 0] = 0
            found.append((Wording(tokens[span[0] : span[1]], bits), self.prompts.code(some, bits)))
        return found

    def code(self, wording: Wording) -> PromptCode | None:
        """The code of a stored wording; None if this tokenizer splits it into a different number of words."""
        words = self.reader.words(wording.tokens)
        return self.prompts.code(words, wording.bits) if len(words) == len(wording.bits) else None

    def probabilities(self, query: PromptCode, keys: KeyStore, rows: np.ndarray) -> np.ndarray:
        """(C,) float64: how likely the query asks for each of the stored prompts `rows` (C,), 0..1; see `verify.py`."""
        if not len(query):
            return np.zeros(len(rows))
        found = compare(query, keys, rows)
        likely = doubted(self.classifier.probabilities(found.features), found.contradicted, found.excluded).round(9)
        return np.where(found.denied, 0.0, likely)

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that was measured, as tensors by name."""
        coder = {f"coder.{name}": tensor for name, tensor in self.prompts.coder.state().items()}
        rates = self.prompts.rarity.log_probabilities
        return {**coder, "log_probabilities": rates, "depth": torch.tensor(self.depth)}

    @classmethod
    def from_state(cls, state: dict[str, torch.Tensor], tokenizer: Any) -> Matcher:
        """The inverse of `state`. Raises ValueError if a tensor is missing."""
        try:
            coder = TokenCoder(state["coder.mean"], state["coder.transform"])
            return cls(tokenizer, int(state["depth"]), coder, state["log_probabilities"])
        except KeyError as error:
            raise ValueError(f"the matcher's tensors lack {error}") from None


def _pooled(words: list[Words], hidden: list[torch.Tensor]) -> torch.Tensor:
    """(W, d) float32 on the CPU: each word's mean activation over its tokens, for all words of some prompts. hidden:
    (T, d) each."""
    places, sizes = [], []
    for some in words:
        spans = [range(first, last + 1) for first, last in zip(some.first, some.last, strict=True)]
        places.append([place for span in spans for place in span])
        sizes += [len(span) for span in spans]
    parts = [
        rows[ops.upload(torch.tensor(at, dtype=torch.long), rows.device)]
        for rows, at in zip(hidden, places, strict=True)
    ]
    tokens = (parts[0] if len(parts) == 1 else torch.cat(parts)).float().cpu()
    if len(tokens) == len(sizes):
        return tokens
    starts = np.cumsum([0, *sizes[:-1]])
    sums = np.add.reduceat(tokens.numpy().astype(np.float64), starts, axis=0)
    return torch.from_numpy((sums / np.array(sizes)[:, None]).astype(np.float32))
