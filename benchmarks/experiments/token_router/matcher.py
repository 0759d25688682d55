"""The router's verification as one object: fitted to a model in one go, saved as tensors, asked with token ids and activations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .candidates import Candidates
from .classifier import Classifier
from .key_store import KeyStore
from .near_misses import NearMisses, make_near_misses
from .prompt_codes import PromptCode, PromptCoder
from .token_codes import TokenCoder, WordRarity, early_layer
from .verify import features
from .words import WordReader

CANDIDATES = 64
DEFAULT_PROBABILITY = 0.42
STATEMENT_SHARE = 2 / 3  # of it, for stored prompts that are no questions: their other wordings are looser
_IMPORTANCE = {
    "wording": 0.7,
    "rewording": 1.2,
    "loose": 0.7,
    "subject": 2.5,
    "relation": 0.5,
    "mention": 0.6,
    "unrelated": 2.0,
}


@dataclass(frozen=True)
class Match:
    """One stored prompt that was compared with a query: the edit it belongs to, its row, and the probability."""

    edit: int
    row: int
    probability: float


class Matcher:
    """Says for token ids and early activations which stored prompt is asked for.

    Args:
        tokenizer: the model's.
        layer: the decoder layer whose output is coded.
        coder, log_probabilities, classifier: as fitted; see `fit_matcher`.
        threshold: smallest probability that reads an edit.
    """

    def __init__(
        self, tokenizer, layer: int, coder: TokenCoder, log_probabilities, classifier, threshold=DEFAULT_PROBABILITY
    ):
        self.reader, self.layer, self.threshold = WordReader(tokenizer), layer, threshold
        self.prompts = PromptCoder(coder, WordRarity(log_probabilities, tokenizer))
        self.classifier = classifier

    def code(self, tokens: list[int], hidden: torch.Tensor, span: tuple[int, int] | None = None) -> PromptCode:
        """The code of one prompt.

        Args:
            tokens: its T ids, without padding.
            hidden: (T, d) output of decoder layer `layer`.
            span: positions of the words that route; None finds the last user message of a rendered chat, else takes all.
        """
        words = self.reader.words(tokens, span or self.reader.user_span(tokens))
        if len(words):
            sums = torch.cat([hidden.new_zeros(1, hidden.shape[1]), hidden]).float().cumsum(0)
            first, last = torch.tensor(words.first), torch.tensor(words.last) + 1
            pooled = (sums[last] - sums[first]) / (last - first)[:, None].to(hidden.device)
        else:
            pooled = hidden[:0]
        return self.prompts.code(words, pooled.cpu(), sink=tokens[0] not in self.reader.special)

    def compare(self, query: PromptCode, keys: KeyStore, rows: np.ndarray) -> np.ndarray:
        """(C,) probabilities that the query asks for each of the stored prompts `rows`."""
        return self.classifier.probabilities(features(query, keys, rows))

    def state(self) -> dict[str, torch.Tensor]:
        """All that was fitted, as tensors."""
        parts = {"coder": self.prompts.coder.state(), "classifier": self.classifier.state}
        flat = {f"{name}.{key}": tensor for name, state in parts.items() for key, tensor in state.items()}
        flat["log_probabilities"] = self.prompts.rarity.log_probabilities
        flat["settings"] = torch.tensor([self.layer, self.threshold], dtype=torch.float64)
        return flat

    @classmethod
    def from_state(cls, state: dict[str, torch.Tensor], tokenizer) -> Matcher:
        def part(name):
            return {key.split(".", 1)[1]: t for key, t in state.items() if key.startswith(name + ".")}

        layer, threshold = state["settings"].tolist()
        coder, classifier = TokenCoder.from_state(part("coder")), Classifier(part("classifier"))
        return cls(tokenizer, int(layer), coder, state["log_probabilities"], classifier, threshold)


class Keys:
    """Stored prompts of edits, several to an edit where rephrasings were given, and the look-up among them.

    Args:
        matcher: fitted to the model.
    """

    def __init__(self, matcher: Matcher):
        self.matcher = matcher
        self.store = KeyStore()
        self.candidates = Candidates(matcher.prompts.coder.bits)
        self.edit_of: list[int] = []
        self._subject: dict[int, np.ndarray] = {}

    def add(self, edit: int, codes: list[PromptCode], subject: PromptCode | None = None) -> None:
        """The prompt and rephrasings of one edit; the words of `subject` must then stand in every query that reads it."""
        for code in codes:
            row = self.store.add(code)
            self.edit_of.append(edit)
            if subject is not None:
                self._subject[row] = subject.word
        self.candidates.add(codes)

    def ranked(self, query: PromptCode, number: int = CANDIDATES) -> list[Match]:
        """The compared stored prompts, likeliest first; the newest edit among equals."""
        rows = self.candidates(query, number)
        if not len(rows):
            return []
        found = self.matcher.compare(query, self.store, rows)
        known = set(query.word.tolist())
        for place, row in enumerate(rows.tolist()):
            if row in self._subject and not known.issuperset(self._subject[row].tolist()):
                found[place] = 0.0
        matches = [
            Match(self.edit_of[row], row, round(float(p), 6)) for row, p in zip(rows.tolist(), found, strict=True)
        ]
        return sorted(matches, key=lambda m: (-m.probability, -m.edit, m.row))

    def route(self, query: PromptCode) -> Match | None:
        """The edit that the query asks for, or None."""
        best = self.ranked(query)[:1]
        return best[0] if best and best[0].probability >= self.least(best[0].row) else None

    def least(self, row: int) -> float:
        """The smallest probability that reads the edit of a stored prompt."""
        asks = self.store.prompts("asks", np.array([row]))[0] or self.store.prompts("answer", np.array([row]))[0]
        return self.matcher.threshold * (1.0 if asks else STATEMENT_SHARE)


@torch.no_grad()
def early_states(model, layer: int, token_lists: list[list[int]], batch_tokens: int = 2048):
    """Yields (position in the list, (T, d) output of a decoder layer); the layers above do not run."""
    layers = max((m for m in model.modules() if isinstance(m, torch.nn.ModuleList)), key=len)
    device, caught = next(model.parameters()).device, []

    class _Done(Exception):
        pass

    def catch(module, args, output):
        caught.append(output[0] if isinstance(output, tuple) else output)
        raise _Done

    handle = layers[layer].register_forward_hook(catch)
    try:
        order = sorted(range(len(token_lists)), key=lambda i: (len(token_lists[i]), i))
        while order:
            longest, batch = 0, []
            while order and max(longest, len(token_lists[order[0]])) * (len(batch) + 1) <= max(
                batch_tokens, len(token_lists[order[0]])
            ):
                longest = max(longest, len(token_lists[order[0]]))
                batch.append(order.pop(0))
            ids, mask = torch.zeros(2, len(batch), longest, dtype=torch.int64)
            for line, i in enumerate(batch):
                ids[line, : len(token_lists[i])] = torch.tensor(token_lists[i])
                mask[line, : len(token_lists[i])] = 1
            try:
                model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False)
            except _Done:
                pass
            states = caught.pop()
            for line, i in enumerate(batch):
                yield i, states[line, : len(token_lists[i])]
    finally:
        handle.remove()


@torch.no_grad()
def next_token_rates(model, token_lists: list[list[int]], batch: int = 16) -> torch.Tensor:
    """(V,) log of the model's mean next-token distribution over the texts."""
    device = next(model.parameters()).device

    def logits():
        for start in range(0, len(token_lists), batch):
            part = token_lists[start : start + batch]
            ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(t) for t in part], batch_first=True).to(device)
            mask = torch.nn.utils.rnn.pad_sequence(
                [torch.ones(len(t), dtype=torch.int64) for t in part], batch_first=True
            )
            yield model(input_ids=ids, attention_mask=mask.to(device), use_cache=False).logits[mask.bool()]

    return WordRarity.measure(logits())


def fit_matcher(
    model, tokenizer, background: list[str], seed: int = 0, layer: int | None = None, texts: NearMisses | None = None
) -> Matcher:
    """A matcher for a model, from nothing but the project's own texts.

    Args:
        model, tokenizer: any causal language model of the library.
        background: unrelated prompts (the package's 500).
        layer: the decoder layer to code, None for about a fifth of the depth.
        texts: pairs to fit on; None makes them from `seed`.
    """
    if layer is None:
        layer = early_layer(len(max((m for m in model.modules() if isinstance(m, torch.nn.ModuleList)), key=len)))
    texts = texts or make_near_misses(seed, background=background)
    plain = [tokenizer(text)["input_ids"] for text in background]
    rates = next_token_rates(model, plain)
    reader = WordReader(tokenizer)
    rows = []
    for i, states in early_states(model, layer, plain):
        keep = [p for p, token in enumerate(plain[i]) if token not in reader.special and p > 0]
        rows.append(states[keep].float().cpu())
    matcher = Matcher(tokenizer, layer, TokenCoder.fit(torch.cat(rows), seed=seed), rates, None)
    asked = [*texts.keys, *texts.queries]
    tokens = [tokenizer(one.text)["input_ids"] for one in asked]
    codes: list = [None] * len(tokens)
    for i, states in early_states(model, layer, tokens):
        codes[i] = matcher.code(tokens[i], states)
    count = len(texts.keys)
    matcher.classifier = fit_classifier(texts, codes[:count], codes[count:], seed)
    return matcher


def training_pairs(texts: NearMisses, keys: list[PromptCode], queries: list[PromptCode], seed: int = 0):
    """Features (N, F), labels (N,) bool, query of each pair (N,) and key of each pair (N,): likely candidates and a few of the others."""
    store, candidates = KeyStore(keys), Candidates(keys[0].code.shape[1] * 64)
    candidates.add(keys)
    fact = {key.fact: row for row, key in enumerate(texts.keys)}
    draw, parts = np.random.default_rng(seed), []
    for number, query in enumerate(queries):
        own = fact.get(texts.queries[number].fact)
        chosen = [candidates.lexical(query, 8), candidates.near(query, 4), draw.choice(len(keys), 4, replace=False)]
        rows = np.unique(np.concatenate([*chosen, [own] if own is not None else []]).astype(np.int64))
        labels = np.array([texts.keys[row].fact == texts.queries[number].fact for row in rows])
        parts.append((features(query, store, rows), labels, np.full(len(rows), number), rows))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def fit_classifier(texts: NearMisses, keys: list[PromptCode], queries: list[PromptCode], seed: int = 0) -> Classifier:
    """The pair classifier: fitted twice, the second time with more weight on the negatives that the first found likely."""
    x, y, query, _ = training_pairs(texts, keys, queries, seed)
    kinds = np.array([_IMPORTANCE[q.kind.split("/")[0]] for q in texts.queries])[query]
    hard = np.ones(len(y))
    for _ in range(2):
        weights = np.where(y, kinds, kinds * hard)
        weights[y] /= weights[y].sum()
        weights[~y] *= 1.5 / weights[~y].sum()
        classifier = Classifier.fit(x, y, weights, seed=seed)
        hard = 0.1 + classifier.probabilities(x)
    return classifier
