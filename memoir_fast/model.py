"""The library's front: a Hugging Face causal language model with a residual memory beside one of its projections."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from .base import fingerprint as fingerprints
from .base import tuned
from .base.attachment import Attached, Attachment
from .base.loading import load_model
from .base.projection import find_target
from .config import MemoirConfig, default_top_k
from .editing.editor import Editor
from .editing.request import EditRequest
from .journal.calibrated import Calibrated
from .journal.connect import complete, connect, depth_for, hand_over, keep_rule
from .journal.edit_record import EditResult
from .journal.edit_writer import EditWriter
from .journal.journal import CONFLICTS
from .journal.memory_state import MemoryState
from .journal.new_state import new_memory, new_state
from .journal.teaching import Teaching
from .journal.undo import Undo
from .reading.answering import Answering
from .reading.router import Router
from .store import Store, is_store
from .store import folder as folders
from .text.encoder import Encoder

__all__ = ["EditRequest", "EditResult", "MemoirModel"]


class MemoirModel(Attached, Answering, Teaching, Undo, Calibrated):
    """A causal language model that can be edited, one fact at a time, without touching its weights.

    The memory is attached when the object is made. `detach` and `attach` take it off and put it back; `with MemoirModel(...) as model:`
    closes and detaches it at the end.

    Args:
        model: a Hugging Face causal LM. It stays what it is: no module is replaced, no parameter changed.
        tokenizer: its tokenizer.
        config: settings; `MemoirConfig()` when None.
        background: `BackgroundTexts`, a JSONL path, None for the package's own, or the background itself, (D,) float.
        permutation: (D,) int32, TopHash's permutation; drawn with `config.seed` when None.
        state: an existing memory to attach in place of a new one; the three arguments before it then say nothing.

    Example:
        >>> model = MemoirModel.from_pretrained("smollm2")
        >>> model.edit("Who leads Norvane Robotics?", "Lena Ortiz")
        >>> model.ask("Who is the head of Norvane Robotics?")
        >>> model.save_pretrained("memory")
        >>> model = MemoirModel.from_pretrained("smollm2", memory="memory")

    Source: MEMOIR (Wang et al., NeurIPS 2025).
    """

    def __init__(self, model: nn.Module, tokenizer: Any, config: MemoirConfig | None = None, background: Any = None,
                 permutation: torch.Tensor | None = None, *, state: MemoryState | None = None):  # fmt: skip
        config = tuned.applied(config or MemoirConfig(), model, tokenizer) if state is None else state.config
        self.model, self.tokenizer = model, tokenizer
        self.target = find_target(model, config.layer)
        self.encoder, top_k = (
            Encoder.of(model, tokenizer, config),
            config.top_k or default_top_k(self.target.in_features),
        )
        self.config = config.updated(layer=self.target.path, top_k=top_k, chat_template=self.encoder.is_chat)
        self.fingerprint = fingerprints.fingerprint(model, tokenizer, self.target)
        if state is not None:
            fingerprints.check(state.fingerprint, self.fingerprint)
        self.memory = new_memory(self.config, self.target, permutation) if state is None else state.memory
        self.memory.to(next((p.device for p in model.get_submodule(self.target.path).parameters()), self.model.device))
        self.router, depth = Router(self.memory), depth_for(model, self.target, state, config)
        self.attachment = Attachment(model, self.target, self.router, depth)
        self.attach()
        try:
            if state is None:
                state = new_state(model, self.encoder, self.router, self.config, self.fingerprint, background, depth)
            complete(state, model, self.router, self.encoder, self.config, depth)
            self.kept = state
            self.contexts, self.journal = state.contexts, state.journal
            self.threshold = connect(model, self.router, self.encoder, self.config, state)
            self.editor = Editor(model, self.memory, self.router, self.target, self.encoder, self.contexts)
            self.writer = EditWriter(self.editor, self.journal)
        except BaseException:
            self.detach()
            raise

    # ---- other ways to make one ----------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, name: str, memory: str | None = None, store: str | None = None, read_only: bool = False,
                        dtype: Any = torch.float32, background: Any = None, conflict: str | None = None,
                        **settings: Any) -> MemoirModel:  # fmt: skip
        """Load a base model by name (see `base.loading.load_model`), with a stored memory or a new one.

        Args:
            name: "smollm2", a hub id, a folder or a .gguf file.
            memory: a folder written by `save_pretrained`, or None.
            store: a store's folder, opened, or made if there is none yet: every edit is then on the disk before it counts as made.
            read_only: open the store for reading, beside a writer.
            dtype: the base model's dtype.
            background: see `MemoirModel`; refused where a stored memory brings its own.
            conflict: what a new edit does to a stored one that asks the same: see `Journal`. A new store supersedes by default and keeps
                its policy; without a store both are kept by default.
            settings: fields of `MemoirConfig`; a new memory takes those left open from what `tune` stored for this model, unless
                `tuned` says otherwise.
        """
        if memory is not None and store is not None:
            raise ValueError("memory and store: give one of them")
        stored = memory is not None or (store is not None and (read_only or is_store(store)))
        if stored and background is not None:
            raise ValueError("background: a stored memory brings its own background; leave it out")
        if conflict is not None and conflict not in CONFLICTS:
            raise ValueError(f"conflict must be one of {CONFLICTS}, got {conflict!r}")
        if stored and conflict is not None:
            raise ValueError("conflict: a stored memory keeps the policy that it was made with; leave it out")
        model, tokenizer = load_model(name, dtype)
        if memory is not None:
            return cls.load(memory, model, tokenizer, **settings)
        if store is not None and stored:
            return cls.open(store, model, tokenizer, read_only, **settings)
        made = cls(model, tokenizer, tuned.looked_up(MemoirConfig(**settings), model, tokenizer), background)
        if store is not None:
            made.create_store(store, **({} if conflict is None else {"conflict": conflict}))
        elif conflict is not None:
            made.journal.conflict = conflict
        return made

    @classmethod
    def open(cls, folder: str, model: nn.Module, tokenizer: Any, read_only: bool = False, durability: str = "edit",
             **settings: Any) -> MemoirModel:  # fmt: skip
        """Attach a store to its base model; see `store.Store` for the arguments, and `load` for the settings."""
        opened = Store(folder, writer=not read_only, durability=durability)
        try:
            return cls._with(opened.memory_state(), model, tokenizer, settings)
        except BaseException:
            opened.close()
            raise

    @classmethod
    def load(cls, folder: str, model: nn.Module, tokenizer: Any, **settings: Any) -> MemoirModel:
        """Attach a memory written by `save_pretrained` to its base model.

        Args:
            settings: fields of `MemoirConfig` to change; those that shape the memory (`config.SHAPING`) must stay as they were stored.

        Raises:
            ValueError: the folder is not a memory, is damaged, or belongs to another base model.
        """
        return cls._with(folders.load_state(folder), model, tokenizer, settings)

    @classmethod
    def _with(cls, state: MemoryState, model: nn.Module, tokenizer: Any, settings: dict[str, Any]) -> MemoirModel:
        stored, state.config = state.config, state.config.reopened(settings)
        made = cls(model, tokenizer, state=state)
        keep_rule(state, stored, state.config.router)
        return made

    def create_store(self, folder: str, **settings: Any) -> None:
        """Keep every edit from now on in a new store; the memory must still be empty. settings: see `Store.create`."""
        if self.store is not None:
            raise ValueError(f"store: this memory lies in {self.store.folder} already")
        with self.journal.writing:
            made = Store.create(folder, self._state(), **settings)
            self.journal.close()
            self.journal = self.writer.journal = made
            hand_over(self.router, self.threshold, made)

    def _state(self) -> MemoryState:
        return replace(self.kept, config=self.config, journal=self.journal, fingerprint=self.fingerprint)

    def __enter__(self) -> MemoirModel:
        self.attach()
        return self

    def __exit__(self, *error: object) -> None:
        self.detach()
        self.close()

    @property
    def store(self) -> Store | None:
        """The store that keeps the edits, or None."""
        return self.journal if isinstance(self.journal, Store) else None

    # ---- saving ---------------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str) -> None:
        """Write the memory (never the base model) to a folder; see `store.folder.write`."""
        with self.journal.writing:
            folders.write(folder, self._state(), self.threshold.median)

    def __repr__(self) -> str:
        name = type(self.model).__name__
        chosen = f", tuned by {self.config.tuned}" if self.config.tuned not in (None, tuned.OFF) else ""
        return f"MemoirModel({name}, {self.target.path}, k={self.memory.top_k}, {len(self.memory)} edits{chosen})"
