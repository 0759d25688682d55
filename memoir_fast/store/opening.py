"""Make an edited model from what is stored on disk, and store it there; `MemoirModel` inherits this."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn

from ..base import fingerprint as fingerprints
from ..base import tuned
from ..base.loading import OPTIONS, check_options, load_model, model_config
from ..base.running import running_module
from ..config import MemoirConfig, check_names
from ..journal.connect import hand_over, keep_rule
from ..journal.edit_writer import EditWriter
from ..journal.journal import CONFLICTS, Journal
from ..journal.memory_state import MemoryState
from ..journal.record import DTYPES
from ..reading.router import Router
from . import folder as folders
from .manifest import is_store
from .store import Store

Self = TypeVar("Self", bound="Opened")
# What a new memory's journal takes besides settings, and keeps: the values, and a word for them.
_KEPT = {"conflict": (CONFLICTS, "policy"), "record_dtype": (DTYPES, "dtype")}


class Opened:
    """The opening and saving methods of an object made from a model, its tokenizer, settings and a background, or from
    a stored memory.

    Attributes:
        kept: the memory as it was made or opened.
        journal: keeps its edits.
        writer: makes its edits.
        threshold: the score from which an edit is read.
    """

    config: MemoirConfig
    fingerprint: dict[str, Any]
    journal: Journal
    kept: MemoryState
    router: Router
    threshold: Any
    writer: EditWriter

    if TYPE_CHECKING:  # the constructor that the classmethods below call

        def __init__(self, model: nn.Module, tokenizer: Any, config: MemoirConfig | None = None, background: Any = None, *,
                     state: MemoryState | None = None): ...  # fmt: skip

    @classmethod
    def from_pretrained(cls: type[Self], name: str, memory: str | None = None, store: str | None = None, read_only: bool = False,
                        dtype: Any = "float32", background: Any = None, conflict: str | None = None, *, device: Any = None,
                        device_map: Any = None, quantization_config: Any = None, revision: str | None = None,
                        trust_remote_code: bool = False, token: Any = None, record_dtype: str | None = None,
                        **settings: Any) -> Self:  # fmt: skip
        """Load a base model by name (see `load_model`), with a stored memory or a new one.

        Args:
            name: "smollm2", a hub id, a folder or a .gguf file.
            memory: a folder written by `save_pretrained`, or None.
            store: a store's folder, which is opened, or made if there is none yet. An edit then counts as made once it
                is on disk.
            read_only: open the store for reading; another process may write to it meanwhile.
            background: see `MemoirModel`; refused if a stored memory brings its own.
            conflict: the policy for a new edit that contradicts a stored one, see `Journal`. A new store keeps the
                policy; the default is "supersede" with a store and "keep" without.
            record_dtype: dtype of the updates in the log, "float32" or "bfloat16", which takes half the room; the memory is
                then made from the rounded values. A new store keeps it; the default is "float32".
            dtype, device, device_map, quantization_config, revision, trust_remote_code, token: see `load_model`.
            settings: fields of `MemoirConfig`. A new memory takes those left open from what `tune` stored for this
                model, unless `tuned` says otherwise.

        Raises:
            TypeError, ValueError: an argument is unknown or refused, or the memory belongs to another base model.
                Whatever can be checked is checked before the base model's weights are loaded.
            StoreError: another process is writing to the store.
        """
        given = (dtype, device, device_map, quantization_config, revision, trust_remote_code, token)
        options = dict(zip(OPTIONS, given, strict=True))
        check_names(settings, also=(*OPTIONS, "memory", "store", "read_only", "background", *_KEPT))
        check_options(name, **options)
        if memory is not None and store is not None:
            raise ValueError("memory and store: give only one of them")
        stored = memory is not None or (store is not None and (read_only or is_store(store)))
        if stored and background is not None:
            raise ValueError("background: a stored memory brings its own background; leave it out")
        kept = {key: value for key, value in zip(_KEPT, (conflict, record_dtype), strict=True) if value is not None}
        for key, value in kept.items():
            legal, what = _KEPT[key]
            if value not in legal:
                raise ValueError(f"{key} must be one of {legal}, got {value!r}")
            if stored:
                raise ValueError(f"{key}: a stored memory keeps the {what} that it was made with; leave it out")
        if stored:
            return cls._stored((name, options), memory, store, read_only, settings)
        config = MemoirConfig(**settings)
        model, tokenizer = load_model(name, **options)
        made = cls(model, tokenizer, tuned.looked_up(config, running_module(model), tokenizer), background)
        if store is not None:
            made.create_store(store, **kept)
        else:
            for key, value in kept.items():
                setattr(made.journal, key, value)
        return made

    @classmethod
    def _stored(cls: type[Self], base: tuple[str, dict[str, Any]], memory: str | None, store: str | None, read_only: bool,
                settings: dict[str, Any]) -> Self:  # fmt: skip
        """`from_pretrained` for a stored memory: the memory is read and checked before the base model is loaded."""
        name, options = base
        opened = None if store is None else Store(store, writer=not read_only)
        try:
            state = folders.load_state(str(memory)) if opened is None else opened.memory_state()
            state.config.reopened(settings)  # refuses bad settings before the base model is loaded
            fingerprints.check_sizes(state.fingerprint, model_config(name, **options))
            return cls._with(state, *load_model(name, **options), settings)
        except BaseException:
            if opened is not None:
                opened.close()
            raise

    @classmethod
    def open(cls: type[Self], folder: str, model: nn.Module, tokenizer: Any, read_only: bool = False, durability: str = "edit",
             **settings: Any) -> Self:  # fmt: skip
        """Attach a store to its base model.

        Args:
            folder: the store's.
            model, tokenizer: the base model, see `MemoirModel`.
            read_only: open the store for reading; another process may write to it meanwhile.
            durability: see `store.Store`.
            settings: as for `load`.

        Raises:
            TypeError, ValueError: as `load`.
            StoreError: another process is writing to the store.
        """
        check_names(settings, also=("read_only", "durability"))
        opened = Store(folder, writer=not read_only, durability=durability)
        try:
            return cls._with(opened.memory_state(), model, tokenizer, settings)
        except BaseException:
            opened.close()
            raise

    @classmethod
    def load(cls: type[Self], folder: str, model: nn.Module, tokenizer: Any, **settings: Any) -> Self:
        """Attach a memory written by `save_pretrained` to its base model.

        Args:
            folder: the memory's.
            model, tokenizer: the base model, see `MemoirModel`.
            settings: fields of `MemoirConfig` to change; those fixed when the memory was made (`config.SHAPING`) cannot
                change.

        Raises:
            TypeError: a setting is unknown.
            ValueError: the folder is not a memory, is damaged, or belongs to another base model, or a setting cannot
                change.
        """
        check_names(settings)
        return cls._with(folders.load_state(folder), model, tokenizer, settings)

    @classmethod
    def _with(cls: type[Self], state: MemoryState, model: nn.Module, tokenizer: Any, settings: dict[str, Any]) -> Self:
        stored, state.config = state.config, state.config.reopened(settings)
        made = cls(model, tokenizer, state=state)
        keep_rule(state, stored, state.config.router)
        return made

    def create_store(self, folder: str, **settings: Any) -> None:
        """Keep every edit from now on in a new store.

        Args:
            folder: an empty folder, or one to be made.
            settings: see `Store.create`.

        Raises:
            ValueError: the memory is not empty or has a store already, the folder is not empty, or a setting is not
                accepted.
            OSError, StoreError: the store could not be written.
        """
        if self.store is not None:
            raise ValueError(f"store: this memory is kept in {self.store.folder} already")
        with self.journal.writing:
            made = Store.create(folder, self._state(), **settings)
            made.writing = self.journal.writing  # which others may be waiting for
            self.journal.close()
            self.journal = self.writer.journal = made
            hand_over(self.router, self.threshold, made)

    def save_pretrained(self, folder: str) -> None:
        """Write the memory (never the base model) to a folder, completely or not at all. Raises OSError."""
        with self.journal.writing:
            folders.write(folder, self._state(), self.threshold.median)

    @property
    def store(self) -> Store | None:
        """The store that keeps the edits, or None."""
        return self.journal if isinstance(self.journal, Store) else None

    def _state(self) -> MemoryState:
        return replace(self.kept, config=self.config, journal=self.journal, fingerprint=self.fingerprint)
