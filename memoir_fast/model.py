"""The library's front: a Hugging Face causal language model with a residual memory beside one of its projections."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import weakref
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone

import numpy as np
import torch

from .base import fingerprint as fingerprints
from .base.layer import MemoirLinear
from .base.loading import load_model
from .base.projection import find_target
from .config import MemoirConfig, default_top_k
from .editing.editor import Editor, Finished, commit
from .editing.request import EditRequest
from .errors import StoreError
from .memory.residual import ResidualMemory
from .memory.selection import Tags, check_tags
from .reading.background import BackgroundTexts, load_texts, measure_background
from .reading.probe import prompt_signatures
from .reading.router import Router
from .reading.threshold import Threshold, overlaps
from .store import Store, is_store
from .store import folder as saving
from .text.contexts import make_contexts
from .text.encoder import Encoder

# What transformers' generate can be asked for, and why a memory cannot follow.
_UNSUPPORTED = {
    "assistant_model": "assisted decoding verifies drafts of a second, unedited model and rewinds the cache",
    "prompt_lookup_num_tokens": "assisted decoding rewinds the cache",
    "assistant_early_exit": "assisted decoding runs a model that stops below the memory",
    "prefill_chunk_size": "the route needs the whole prompt, but its first chunk would already be answered",
    "guidance_scale": "the unconditional branch would be routed by another prompt than the conditional one",
    "custom_generate": "a custom decoding loop may call the model in ways that the routing does not know",
    "negative_prompt_ids": "a second prompt would be routed by itself",
}


# Settings that a memory is made with and keeps.
_SHAPING = ("layer", "top_k", "chat_template", "write", "feature")


def _changed(config: MemoirConfig, settings: dict) -> MemoirConfig:
    """Stored settings with some of them changed, but for those that a memory is made with."""
    for name in settings.keys() & set(_SHAPING):
        if settings[name] != getattr(config, name):
            raise ValueError(
                f"{name}: the memory was stored with {getattr(config, name)!r}, it cannot be {settings[name]!r}"
            )
    return config.updated(**settings)


def _note(author: str, tags, metadata: dict | None) -> dict:
    """What is kept with an edit, checked."""
    if not isinstance(author, str):
        raise TypeError(f"author must be text, got {author!r}")
    if not isinstance(metadata, (dict, type(None))):
        raise TypeError(f"metadata must be a JSON object (dict), got {metadata!r}")
    try:
        kept = json.loads(json.dumps(metadata or {}, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"metadata must be JSON: {error}") from None
    return {"author": author, "tags": check_tags(tags), "metadata": kept}


@dataclass(frozen=True)
class EditResult:
    """What one edit did.

    Attributes:
        id: the edit's number in the memory.
        loss: the training loss when the edit stopped; steps: SGD steps made; seconds: wall time.
        nearest: the stored edit whose mask overlapped this one most, None when the memory was empty.
        overlap: that overlap, 0..1.
        supersedes: the stored edits that this one replaced, see `Store`.
    """

    id: int
    loss: float
    steps: int
    seconds: float
    nearest: int | None
    overlap: float
    supersedes: list[int] = field(default_factory=list)


class MemoirModel:
    """A causal language model that can be edited, one fact at a time, without touching its weights.

    Args:
        model: a Hugging Face causal LM; its parameters are frozen while the memory is attached.
        tokenizer: its tokenizer.
        config: settings; `MemoirConfig()` when None.
        background: `BackgroundTexts`, a JSONL path, None for the package's own, or the background itself, (D,) float.
        permutation: (D,) int32, TopHash's permutation; drawn from torch's global generator when None.

    Example:
        >>> model = MemoirModel.from_pretrained("smollm2")
        >>> model.edit("Who leads Norvane Robotics?", "Lena Ortiz")
        >>> model.ask("Who is the head of Norvane Robotics?")
        >>> model.save_pretrained("memory")
        >>> model = MemoirModel.from_pretrained("smollm2", memory="memory")

    Source: MEMOIR (Wang et al., NeurIPS 2025).
    """

    def __init__(self, model, tokenizer, config: MemoirConfig | None = None, background=None, permutation=None):
        self._attach(model, tokenizer, config or MemoirConfig(), permutation)
        with self._detached_on_error():
            given = isinstance(background, torch.Tensor)
            texts = background if isinstance(background, BackgroundTexts) else load_texts(None if given else background)
            self._set_background(background if given else texts)
            signatures = self._calibration(texts)
            with self.disabled():
                contexts = make_contexts(model, tokenizer)
            self._finish(signatures, contexts)

    @classmethod
    def from_pretrained(cls, name: str, memory: str | None = None, store: str | None = None, read_only: bool = False,
                        dtype=torch.float32, background=None, **settings):  # fmt: skip
        """Load a base model by name (see `hub.load_model`), with a stored memory or a new one.

        Args:
            name: "smollm2", a hub id, a folder or a .gguf file.
            memory: a folder written by `save_pretrained`, or None.
            store: a store's folder, opened, or made if there is none yet: every edit is then on the disk before it counts as
                made, and can be taken back. read_only: open it for reading, beside a writer.
            dtype: the base model's dtype.
            background: see `MemoirModel`; refused where a stored memory brings its own.
            settings: fields of `MemoirConfig`.
        """
        if memory is not None and store is not None:
            raise ValueError("memory and store: give one of them")
        stored = memory is not None or (store is not None and (read_only or is_store(store)))
        if stored and background is not None:
            raise ValueError("background: a stored memory brings its own background; leave it out")
        model, tokenizer = load_model(name, dtype)
        if memory is not None:
            return cls.load(memory, model, tokenizer, **settings)
        if stored:
            return cls.open(store, model, tokenizer, read_only, **settings)
        self = cls(model, tokenizer, MemoirConfig(**settings), background)
        if store is not None:
            self.create_store(store)
        return self

    @classmethod
    def open(
        cls, folder: str, model, tokenizer, read_only: bool = False, durability: str = "edit", **settings
    ) -> MemoirModel:
        """Attach a store to its base model; see `store.Store` for the arguments, and `load` for the settings."""
        opened = Store(folder, writer=not read_only, durability=durability)
        try:
            manifest = opened.manifest
            config = _changed(manifest.config, settings)
            self = cls.__new__(cls)
            self._attach(model, tokenizer, config, memory=opened.memory)
            with self._detached_on_error():
                fingerprints.check(manifest.fingerprint, self.fingerprint)
                self._finish(opened.calibration.numpy(), manifest.contexts)
                self._connect(opened)
        except BaseException:
            opened.close()
            raise
        return self

    def create_store(self, folder: str, **settings) -> None:
        """Keep every edit from now on in a new store; the memory must still be empty. settings: see `Store.create`."""
        if self.store is not None:
            raise ValueError(f"store: this memory lies in {self.store.folder} already")
        calibration = torch.from_numpy(self.threshold.signatures)
        opened = Store.create(
            folder, self.config, self.fingerprint, self.contexts, self.memory, calibration, **settings
        )
        opened.adopt(self.memory)
        self._connect(opened)

    def _connect(self, opened: Store) -> None:
        self.store = opened
        self._recount()

    @classmethod
    def load(cls, folder: str, model, tokenizer, **settings) -> MemoirModel:
        """Attach a memory written by `save_pretrained` to its base model.

        Args:
            settings: fields of `MemoirConfig` to change; those that shape the memory (layer, top_k, chat_template, write, feature)
                must stay as they were stored.

        Raises:
            ValueError: the folder is not a memory, is damaged, or belongs to another base model.
        """
        saved = saving.read(folder)
        config = _changed(saved.config, settings)
        self = cls.__new__(cls)
        self._attach(model, tokenizer, config, saved.tensors["permutation"])
        with self._detached_on_error():
            fingerprints.check(saved.fingerprint, self.fingerprint)
            self._finish(saved.tensors["calibration"].numpy(), saved.contexts)
            saving.restore(saved, self.memory)
            self._edits = {record["id"]: record for record in saved.edits}
            self._next_id = saved.next_id
            self.threshold.recount(self.memory.index.ids, saved.tensors["signatures"].numpy())
        return self

    def _set_background(self, background: torch.Tensor | BackgroundTexts) -> None:
        memory = self.memory
        if isinstance(background, torch.Tensor):
            if background.shape != memory.background.shape or not torch.isfinite(background).all():
                raise ValueError(
                    f"background must be {tuple(memory.background.shape)}, finite, got {tuple(background.shape)}"
                )
            memory.background.copy_(background)
        elif self.config.feature.endswith("_decentered"):
            key = f"{fingerprints.digest(self.fingerprint)}-{'chat' if self.config.chat_template else 'plain'}"
            if self.config.feature != "mean_decentered":
                key += f"-{self.config.feature}"
            model, router, size = self.model, self.router, self.config.batch_size
            memory.background.copy_(measure_background(model, router, self.encoder, background, key, size))

    def _calibration(self, texts: BackgroundTexts) -> np.ndarray:
        prompts = [self.encoder.prompt(text) for text in texts.for_threshold]
        return prompt_signatures(self.model, self.router, prompts, self.config.batch_size).numpy()

    # ---- attaching -----------------------------------------------------------------------------------------------

    def _attach(
        self, model, tokenizer, config: MemoirConfig, permutation=None, memory: ResidualMemory | None = None
    ) -> None:
        if any(isinstance(module, MemoirLinear) for module in model.modules()):
            raise ValueError("model: it carries a memory already; detach that one first, or edit it")
        self.target = find_target(model, config.layer)
        top_k = config.top_k or default_top_k(self.target.in_features)
        self.model, self.tokenizer = model, tokenizer
        self.config = config.updated(layer=self.target.path, top_k=top_k)
        limit = getattr(model.config, "max_position_embeddings", None)
        self.encoder = Encoder(tokenizer, config.chat_template, limit)
        self.fingerprint = fingerprints.fingerprint(model, tokenizer, self.target)
        base = model.get_submodule(self.target.path)
        sizes = (self.target.in_features, self.target.out_features, top_k)
        if memory is not None and sizes != (memory.in_features, memory.out_features, memory.top_k):
            raise ValueError(f"store: its memory is for a projection of another size than the model's {sizes[:2]}")
        # Not `memory or ...`: an empty memory is false, and a store's must be used nevertheless.
        self.memory = ResidualMemory(*sizes, permutation) if memory is None else memory
        device = next((p.device for p in base.parameters()), model.device)
        self.memory.feature = self.config.feature
        if self.config.write == "preconditioned":
            self.memory.track()
        self.memory.to(device)
        self.router = Router(
            self.memory, lambda edits: self.threshold.of(edits), lambda edit: self.edits[edit].get("tags", [])
        )
        parent, _, name = self.target.path.rpartition(".")
        self._parent, self._name, self._base = model.get_submodule(parent), name, base
        self._trainable = [p for p in model.parameters() if p.requires_grad]
        for parameter in self._trainable:
            parameter.requires_grad_(False)
        setattr(
            self._parent,
            name,
            MemoirLinear(base, self.memory, self.router.thread, weakref.ref(self)).train(base.training),
        )
        self.router.attach(model)
        self.store: Store | None = None
        self._edits: dict[int, dict] = {}
        self._next_id = 0
        self._writing = threading.RLock()  # edits of several threads come one after the other; reading needs no lock

    def _finish(self, signatures, contexts: list[str]) -> None:
        rate = self.config.false_activation_rate
        self.threshold = Threshold(self.config.threshold, signatures, self.memory.top_k, rate)
        self.contexts = contexts
        self.editor = Editor(self.model, self.memory, self.router, self.target, self.encoder, contexts)

    @contextlib.contextmanager
    def _detached_on_error(self):
        try:
            yield
        except BaseException:
            self.detach()
            raise

    def detach(self):
        """Take the memory off and return the base model exactly as it was; this object is of no use afterwards."""
        self.router.detach()
        setattr(self._parent, self._name, self._base)
        for parameter in self._trainable:
            parameter.requires_grad_(True)
        return self.model

    @property
    def edits(self) -> dict[int, dict]:
        """The active edits' details by id: prompt, target, created, loss, steps, seconds, author, tags, metadata, ..."""
        return self._edits if self.store is None else self.store.edits

    @property
    def next_id(self) -> int:
        """The number of the next edit."""
        return self._next_id if self.store is None else self.store.state.next_id

    def only(self, tags, untagged: bool = False):
        """A context in which this thread's prompts are matched only with edits that carry one of `tags`; with `untagged` also with
        those that carry none."""
        return self.router.only(Tags(frozenset(check_tags(tags)), untagged))

    def disabled(self):
        """A context in which this thread's forward passes and generations are the base model's."""
        return self.router.disabled()

    # ---- editing -------------------------------------------------------------------------------------------------

    def edit(
        self, prompt: str, target: str, author: str = "", tags=(), metadata: dict | None = None, **settings
    ) -> EditResult:
        """Teach the memory one fact.

        Args:
            prompt: what will be asked, without a trailing space.
            target: the answer, put behind the prompt after one space.
            author, tags, metadata: kept with the edit; requests can choose edits by their tags, metadata is any JSON object.
            settings: fields of `MemoirConfig` for this edit only (steps, edit_lr, precision, ...).

        Raises:
            TypeError, ValueError: the request cannot be learned; see `EditRequest` and `Encoder.pair`.
            EditError: the optimisation diverged. StoreError: the store could not keep the edit, or its conflict policy rejects
                it. In every case the memory is as it was.
        """
        return self.edit_many([(prompt, target)], author=author, tags=tags, metadata=metadata, **settings)[0]

    def edit_many(self, facts, batch_size: int = 1, author: str = "", tags=(), metadata: dict | None = None, **settings) -> list[EditResult]:  # fmt: skip
        """Teach the memory several facts, in order.

        Args:
            facts: (prompt, target) pairs.
            batch_size: so many are optimised in the same steps, each with its own mask, loss and clipping; what they share of
                the memory then serves all of them. 1 makes them one after the other, as `edit` does.
            author, tags, metadata, settings: as for `edit`.

        Returns:
            one result a fact; `seconds` is its share of its batch's time.

        Raises:
            as `edit`. The batches before the failing one are made; of the failing one nothing is.
        """
        fixed = {*_SHAPING, "threshold", "false_activation_rate"} & settings.keys()
        if fixed:
            raise ValueError(f"{sorted(fixed)} cannot change for a single edit: they belong to the whole memory")
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be an int >= 1, got {batch_size!r}")
        if self.store is not None and not self.store.is_writer:
            raise StoreError(f"{self.store.folder}: opened for reading; open it without read_only to edit")
        config = self.config.updated(**settings)
        note = _note(author, tags, metadata)
        facts = list(facts)
        for number, fact in enumerate(facts):
            if not isinstance(fact, (tuple, list)) or len(fact) != 2:
                raise TypeError(f"facts must be (prompt, target) pairs, got {fact!r} at {number}")
        requests = [EditRequest(*fact) for fact in facts]
        results = []
        for start in range(0, len(requests), batch_size):
            with self._writing:
                results += self._edit_batch(requests[start : start + batch_size], config, note)
        return results

    def _edit_batch(self, requests: list[EditRequest], config: MemoirConfig, note: dict) -> list[EditResult]:
        if self.store is None:
            return self._make(self.editor.optimise(requests, config), [[] for _ in requests], note)
        prompts = [self.encoder.prompt(request.prompt) for request in requests]
        signatures = prompt_signatures(self.model, self.router, prompts, config.batch_size).numpy()
        least, taken, replaced = self.store.manifest.conflict_threshold, set(), []
        for number, request in enumerate(requests):
            near = overlaps(signatures[:number], signatures[number], self.memory.top_k)
            if any(o >= least and r.target != request.target for o, r in zip(near, requests, strict=False)):
                # It contradicts one before it in the batch: that one must be stored first.
                return self._edit_batch(requests[:number], config, note) + self._edit_batch(
                    requests[number:], config, note
                )
            replaced.append([i for i in self.store.conflicts(signatures[number], request.target) if i not in taken])
            taken.update(replaced[-1])
        without = [self.store.state.update_of(i) for i in sorted(taken)]
        return self._make(self.editor.optimise(requests, config, without), replaced, note)

    def _make(self, finished: Finished, replaced: list[list[int]], note: dict) -> list[EditResult]:
        """Commit finished edits and note them. replaced: per edit the stored ones that it supersedes."""
        began = time.perf_counter()
        signatures = np.stack([update.signature for update in finished.updates])
        nearest, overlap = self.memory.index.nearest(signatures)
        created = datetime.now(timezone.utc).isoformat(timespec="microseconds")
        first, results, facts = self.next_id, [], []
        for number, request in enumerate(finished.requests):
            result = EditResult(
                id=first + number,
                loss=finished.losses[number][-1],
                steps=finished.steps[number],
                seconds=(finished.seconds + time.perf_counter() - began) / len(finished.requests),
                nearest=int(nearest[number]) if nearest[number] >= 0 else None,
                overlap=float(overlap[number]),
                supersedes=replaced[number],
            )
            results.append(result)
            about = {"prompt": request.prompt, "target": request.target, "created": created}
            facts.append({**about, **asdict(result), **note})
        if self.store is not None:
            self.store.add(facts, finished.updates)
        else:
            commit(self.memory, finished.updates, first)
            self._next_id += len(facts)
            self._edits.update({about["id"]: about for about in facts})
        if any(replaced):
            self._recount()
        else:
            for number, signature in enumerate(signatures):
                self.threshold.follow(first + number, signature)
        return results

    # ---- taking back, with a store -------------------------------------------------------------------------------

    def delete(self, edit: int) -> None:
        """Take an edit back; see `Store.delete`. Needs a store, as the methods below do."""
        self._change("delete", edit)

    def restore(self, edit: int) -> None:
        """Bring a deleted or superseded edit back."""
        self._change("restore", edit)

    def disable(self, edit: int) -> None:
        """Let no prompt find an edit, without taking its update back."""
        self._change("disable", edit)

    def enable(self, edit: int) -> None:
        """Undo `disable`."""
        self._change("enable", edit)

    def tag(self, edit: int, tags) -> None:
        """Replace an edit's tags."""
        self._change("tag", edit, tags)

    def rollback(self, to: int | str) -> list[int]:
        """Every edit's status as it was after edit `to`, or at a time (ISO 8601); returns the changed edits."""
        return self._change("rollback", to)

    def refresh(self) -> int:
        """Take in what the store's writer has added since; returns how many records."""
        return self._change("refresh")

    def _change(self, name: str, *args):
        if self.store is None:
            raise ValueError(
                f"{name}: this memory keeps no records of its edits; begin with `model.create_store(folder)`"
            )
        with self._writing:
            before = self.store.state.changed, len(self.memory)
            found = getattr(self.store, name)(*args)
            if (self.store.state.changed, len(self.memory)) != before:
                self._recount()
        return found

    def _recount(self) -> None:
        self.threshold.recount(self.memory.index.ids, self.memory.index.signatures())

    # ---- reading -------------------------------------------------------------------------------------------------

    def __call__(self, *args, **kwargs):
        """The base model's forward pass, with the memory; `prompt_mask` (B, T) bool says which tokens route.

        Without it every token that the attention mask keeps is taken for the prompt's: pass it where the sequence also
        holds a target. The route is decided when the cache is empty and kept with the cache.
        """
        return self.model(*args, **kwargs)

    def generate(self, inputs=None, *, prompt_mask: torch.Tensor | None = None, edits: dict | None = None, **kwargs):
        """transformers' `generate`: sampling, beams, several returned sequences, streamers, batches of mixed prompts.

        Args:
            inputs: (B, T) token ids (or `input_ids=`), padded left or right with an attention mask.
            prompt_mask: (B, T) bool, the tokens that route; by default all that the attention mask keeps.
            edits: which edits may be read, {"tags": [...], "untagged": bool}; see `only`. All active ones when None.
            kwargs: as for transformers.

        Raises:
            ValueError: a way of decoding that a memory cannot follow; the message says why.
        """
        settings = kwargs.get("generation_config")
        for name, reason in _UNSUPPORTED.items():
            value = kwargs.get(name, getattr(settings, name, None))
            if value is not None and not (name == "guidance_scale" and value == 1):
                raise ValueError(f"{name} is not supported with a memory: {reason}")
        if kwargs.get("cache_implementation", getattr(settings, "cache_implementation", None)) == "paged":
            raise ValueError("cache_implementation='paged' is not supported with a memory: it joins prompts in one row")
        tokens = kwargs.get("input_ids") if inputs is None else inputs
        if prompt_mask is None and tokens is not None and kwargs.get("past_key_values") is None:
            mask = kwargs.get("attention_mask")
            prompt_mask = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask.bool()
        # A compiled decoder would trace through the routing; editing changes the memory under it.
        kwargs.setdefault("disable_compile", True)
        with self._chosen(edits), self.router.session(prompt_mask):
            return self.model.generate(inputs, **kwargs) if inputs is not None else self.model.generate(**kwargs)

    def _chosen(self, edits: dict | None):
        if edits is None:
            return contextlib.nullcontext()
        if not isinstance(edits, dict) or not {"tags"} <= edits.keys() <= {"tags", "untagged"}:
            raise TypeError(f'edits must be {{"tags": [...]}} with "untagged" or without, got {edits!r}')
        return self.only(**edits)

    @torch.no_grad()
    def ask(self, prompts, max_new_tokens: int = 32, **kwargs):
        """Greedy answers: text in, the continuation's text out.

        Args:
            prompts: a text, a list of texts, or (with `chat_template`) lists of chat messages.
            max_new_tokens: most tokens of an answer.
            kwargs: as for `generate`.

        Returns:
            one answer, or a list of answers for a list.
        """
        single = isinstance(prompts, str) or (prompts and isinstance(prompts[0], dict))
        queries = [prompts] if single else list(prompts)
        answers = []
        for start in range(0, len(queries), self.config.batch_size):
            sequences = [
                self.encoder.chat(q) if isinstance(q, list) else self.encoder.prompt(q)
                for q in queries[start : start + self.config.batch_size]
            ]
            width = max(len(s.tokens) for s in sequences)
            tokens = torch.zeros(len(sequences), width, dtype=torch.int64)
            attention = torch.zeros_like(tokens)
            words = torch.zeros(len(sequences), width, dtype=torch.bool)
            for row, s in enumerate(sequences):  # left padding: generation goes on at the right end
                tokens[row, width - len(s.tokens) :] = torch.tensor(s.tokens)
                attention[row, width - len(s.tokens) :] = 1
                words[row, width - len(s.tokens) :] = torch.tensor(s.prompt_mask)
            settings = {"do_sample": False, "num_beams": 1, "pad_token_id": self._pad_token, **kwargs}
            device = self.model.device
            out = self.generate(
                tokens.to(device),
                attention_mask=attention.to(device),
                prompt_mask=words.to(device),
                max_new_tokens=max_new_tokens,
                **settings,
            )
            answers += self.tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)
        return answers[0] if single else answers

    @torch.no_grad()
    def route(self, prompt: str) -> dict:
        """Which stored edit a prompt reads: {"edit": id or None, "overlap": 0..1, "threshold": the nearest edit's tau}."""
        sequence = self.encoder.prompt(prompt)
        signature = prompt_signatures(self.model, self.router, [sequence], 1)
        edit, overlap = self.router.index().nearest(signature.numpy())
        tau = float(self.threshold.of(edit)[0])
        matched = int(edit[0]) if edit[0] >= 0 and overlap[0] >= tau else None
        return {"edit": matched, "overlap": float(overlap[0]), "threshold": tau}

    @property
    def _pad_token(self) -> int:
        tokenizer = self.tokenizer
        return next(t for t in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if t is not None)

    # ---- calibrating, saving -------------------------------------------------------------------------------------

    def calibrate(self, rate: float | None = None, background: str | BackgroundTexts | None = None) -> float:
        """Set each edit's tau from the unrelated prompts for a wanted false-activation rate, and keep them calibrated.

        Args:
            rate: see `MemoirConfig.false_activation_rate`; None keeps it.
            background: other unrelated prompts to calibrate with, `BackgroundTexts` or a JSONL path (all but its first hundred
                are used; the mean that masks are made with stays); None keeps them. A store keeps those it was made with.

        Returns:
            the median tau.
        """
        if background is not None:
            if self.store is not None:
                raise ValueError("background: a store keeps the unrelated prompts that it was made with; leave it out")
            texts = background if isinstance(background, BackgroundTexts) else load_texts(background)
            self.threshold.signatures = self._calibration(texts)
            self._recount()
        self.config = self.config.updated(
            threshold=None, false_activation_rate=self.config.false_activation_rate if rate is None else rate
        )
        self.threshold.calibrate(self.config.false_activation_rate)
        if self.store is not None:
            self.store.configure(self.config)
        return self.threshold.median

    def save_pretrained(self, folder: str) -> None:
        """Write the memory (never the base model) to a folder; see `saving.write`."""
        saving.write(folder, self)

    def close(self) -> None:
        """Close the store, if there is one: flushed, and its lock given back. The model goes on answering, but cannot be edited."""
        if self.store is not None:
            self.store.close()

    def __repr__(self) -> str:
        name = type(self.model).__name__
        return f"MemoirModel({name}, {self.target.path}, k={self.memory.top_k}, {len(self.memory)} edits)"
