"""Other ways to give a model new facts, each as a peer: what the tasks ask of an edited model, and `edit`."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import torch

from benchmarks.library import PLAIN, Encoder, SignatureIndex, Threshold, prompt_signatures
from benchmarks.rivals.grace import Codebook
from benchmarks.rivals.published import PublishedEditor
from memoir_fast import MemoirConfig, MemoirModel

GRACE_SHARE = 0.005  # of the unrelated prompts may lie within the radius of another
GRACE_STEPS, GRACE_LR = 50, 1.0  # EasyEdit's for LLaMA


class Peer:
    """A plain model that answers like an edited one."""

    def __init__(self, model, tokenizer):
        self.model, self.tokenizer, self.encoder = model, tokenizer, Encoder(tokenizer, False, end="none")
        self.config = SimpleNamespace(batch_size=16)

    def __call__(self, prompt_mask=None, **inputs):
        return self.model(**inputs)

    def disabled(self):
        return contextlib.nullcontext()

    def edit(self, prompt: str, target: str) -> None:
        """Learn nothing."""


def descend(model, pair, parameters, lr: float, steps: int) -> None:
    """Adam on the target's loss behind its prompt, until it is small."""
    tokens = torch.tensor([pair.tokens])
    optimizer = torch.optim.Adam(parameters, lr=lr)
    for _ in range(steps):
        logits = model(input_ids=tokens, use_cache=False).logits[0, pair.prompt_length - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits, tokens[0, pair.prompt_length :])
        if float(loss.detach()) <= 0.02:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class Tuned(Peer):
    """Trains some parameters on each fact in turn, until its loss is small."""

    def __init__(self, model, tokenizer, parameters, lr: float, steps: int):
        super().__init__(model, tokenizer)
        self.parameters, self.lr, self.steps = list(parameters), lr, steps

    def edit(self, prompt, target):
        descend(self.model, self.encoder.pair(prompt, target), self.parameters, self.lr, self.steps)


def fine_tuned(model, tokenizer, path: str) -> Tuned:
    model.requires_grad_(False)
    weight = model.get_submodule(path).weight.requires_grad_(True)
    return Tuned(model, tokenizer, [weight], lr=5e-4, steps=25)


def adapted(model, tokenizer, path: str) -> Tuned:
    from peft import LoraConfig, get_peft_model

    wrapped = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=[path])).eval()
    return Tuned(wrapped, tokenizer, [p for p in wrapped.parameters() if p.requires_grad], lr=5e-3, steps=25)


class InContext(Peer):
    """Puts the stored fact that a question looks like most (overlap >= tau, as the memory would) before the question."""

    def __init__(self, model, tokenizer, background):
        super().__init__(model, tokenizer)
        self._memoir = MemoirModel(model, tokenizer, MemoirConfig(**PLAIN), background)
        memory = self._memoir.memory
        self.index, self.facts = SignatureIndex(memory.in_features, memory.top_k), []
        self.threshold = Threshold(
            self.index, None, self._memoir.threshold.signatures, self._memoir.config.false_activation_rate
        )
        self.encoder = SimpleNamespace(pair=self._pair)

    def _signature(self, prompt):
        model = self._memoir
        return prompt_signatures(model.model, model.router, [model.encoder.prompt(prompt)], 1).numpy()

    def edit(self, prompt, target):
        signature = self._signature(prompt)
        self.index.add([len(self.facts)], signature)
        self.facts.append((prompt, target))

    def _pair(self, prompt, target, ended=False):
        found, overlap = self.index.nearest(self._signature(prompt))
        if found[0] >= 0 and overlap[0] >= self.threshold.of(found)[0]:
            stored, answer = self.facts[found[0]]
            prompt = f"{stored} {answer}\n{prompt}"
        return self._memoir.encoder.pair(prompt, target)


class OneByOne(Peer):
    """A peer that decides by each prompt for itself."""

    def __init__(self, model, tokenizer):
        super().__init__(model, tokenizer)
        self.config = SimpleNamespace(batch_size=1)

    def __call__(self, prompt_mask, **inputs):
        self.look(inputs["input_ids"][0][prompt_mask[0]].tolist(), int(prompt_mask[0].nonzero()[-1]))
        return self.model(**inputs)


class Grace(OneByOne):
    """A codebook of keys and values beside the projection (grace.py); the radius is calibrated by unrelated prompts."""

    def __init__(self, model, tokenizer, path: str, unrelated: list[str], steps: int = GRACE_STEPS):
        super().__init__(model, tokenizer)
        model.requires_grad_(False)
        self.steps, self.width = steps, model.get_submodule(path).weight.shape[0]
        self.codebook = Codebook(model.get_submodule(path), radius=0.0)
        keys = torch.stack([self._key(self.encoder.prompt(prompt)) for prompt in unrelated])
        apart = torch.cdist(keys, keys).fill_diagonal_(torch.inf).min(1).values
        self.codebook.radius = float(apart.quantile(GRACE_SHARE))

    def look(self, words, last):
        self.codebook.place = last

    @torch.no_grad()
    def _key(self, sequence) -> torch.Tensor:
        self.codebook.place = sequence.prompt_length - 1
        self.model(input_ids=torch.tensor([sequence.tokens]), use_cache=False)
        return self.codebook.seen

    def edit(self, prompt, target):
        book, pair = self.codebook, self.encoder.pair(prompt, target)
        entry = book.add(self._key(pair), target, self.width)
        book.trained = book.values[entry].clone().requires_grad_(True)
        descend(self.model, pair, [book.trained], GRACE_LR, self.steps)
        book.values[entry], book.trained = book.trained.detach(), None


class Published(OneByOne):
    """The published editor (published.py)."""

    def __init__(self, model, tokenizer, like: MemoirModel):
        super().__init__(model, tokenizer)
        self.editor = PublishedEditor(model, like)

    def look(self, words, last):
        self.editor.layer.mask = self.editor.route(words)

    def edit(self, prompt, target):
        self.editor.edit(prompt, target)
