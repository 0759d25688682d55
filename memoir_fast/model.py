"""The library's front: a Hugging Face causal language model with a residual memory beside one of its projections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .base import fingerprint as fingerprints
from .base import tuned
from .base.attachment import Attached, Attachment
from .base.projection import find_target
from .base.running import check_causal, check_model, device_of, running_module
from .config import MemoirConfig
from .defaults import default_acts, default_masks, default_page_edits, default_top_k
from .editing.editor import Editor
from .editing.request import EditRequest
from .journal.calibrated import Calibrated
from .journal.connect import complete, connect, depth_for
from .journal.edit_record import EditResult
from .journal.edit_writer import EditWriter
from .journal.memory_state import MemoryState
from .journal.new_state import new_memory, new_state
from .journal.rehearsing import Rehearsing
from .journal.teaching import Teaching
from .journal.undo import Undo
from .reading.answering import Answering
from .reading.router import Router
from .store.opening import Opened
from .text.encoder import Encoder

__all__ = ["EditRequest", "EditResult", "MemoirModel"]


class MemoirModel(Attached, Answering, Teaching, Undo, Rehearsing, Calibrated, Opened):
    """A causal language model that can be edited, one fact at a time, without touching its weights.

    The memory is attached when the object is made. `detach` removes it and `attach` puts it back; `with
    MemoirModel(...) as model:` detaches and closes it at the end.

    Args:
        model: a Hugging Face causal LM, or a wrapper around one (PEFT, torch.compile, a value head). The memory is
            attached to the model inside the wrapper, `inner`, so it acts however that model is called. No module is
            replaced and no parameter changes.
        tokenizer: the model's tokenizer.
        config: settings; `MemoirConfig()` when None.
        background: `BackgroundTexts`, the path of a JSONL file, None for the package's own texts, or the background
            itself, (D,) float.
        permutation: (D,) int32, TopHash's permutation; drawn with `config.seed` when None.
        state: an existing memory to attach instead of a new one; `config`, `background` and `permutation` are then
            ignored.

    Raises:
        TypeError, ValueError: a memory cannot be attached to this model (not a causal language model, an
            encoder-decoder, routed experts, sharded or float64 weights), or a setting does not fit it. The model is
            left as it was.

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
        check_model(model)
        self.model, self.inner = model, running_module(model)
        model = self.inner
        config = tuned.applied(config or MemoirConfig(), model, tokenizer) if state is None else state.config
        self.target = find_target(model, config.layer)
        self.encoder = Encoder.of(model, tokenizer, config)
        self.tokenizer = tokenizer = self.encoder.tokenizer
        is_chat = self.encoder.is_chat
        masks, acts = config.masks or default_masks(config.router, is_chat), config.acts or default_acts(is_chat)
        top_k = config.top_k or default_top_k(self.target.in_features, masks)
        page_edits = config.page_edits
        if page_edits is None:
            page_edits = default_page_edits(self.target.in_features, masks)
        self.config = config.updated(layer=self.target.path, top_k=top_k, masks=masks, page_edits=page_edits,
                                     chat_template=is_chat, acts=acts)  # fmt: skip
        self.fingerprint = fingerprints.fingerprint(model, tokenizer, self.target)
        if state is not None:
            fingerprints.check(state.fingerprint, self.fingerprint)
        self.memory = new_memory(self.config, self.target, permutation) if state is None else state.memory
        self.memory.on_host = self.config.memory_device == "cpu"
        self.memory.to(device_of(model.get_submodule(self.target.path)))
        self.router, depth = Router(self.memory, acts), depth_for(model, self.target, state, config)
        self.attachment = Attachment(model, self.target, self.router, depth, outer=self.model)
        check_causal(model)
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

    def __enter__(self) -> MemoirModel:
        self.attach()
        return self

    def __exit__(self, *error: object) -> None:
        self.detach()
        self.close()

    if not TYPE_CHECKING:  # a type checker that saw this method would accept any attribute name

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(
                f"MemoirModel has no attribute {name!r}; the Hugging Face model, which reads the edits in pipelines and trainers too, is "
                "its attribute `model`"
            )

    def __repr__(self) -> str:
        name = type(self.model).__name__
        chosen = f", tuned by {self.config.tuned}" if self.config.tuned not in (None, tuned.OFF) else ""
        return f"MemoirModel({name}, {self.target.path}, k={self.memory.top_k}, {len(self.memory)} edits{chosen})"
