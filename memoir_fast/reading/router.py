"""The router decides, in each forward pass that reads a prompt, which stored edit each sequence reads.

The decision is kept with the key-value cache that the pass fills or, if there is no cache, with the running `generate`.
Switches (`only`, `disabled`) and the state of running passes are context variables, so threads, and coroutines of one
thread, do not see each other's.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from .. import ops
from ..base.passes import Pass
from ..memory.index import SignatureIndex
from ..memory.residual import ResidualMemory
from ..memory.selection import Tags
from .decoding import check_decoding, real_tokens, uncompiled
from .features import tophash_prompts
from .given import check_not_joined, is_mask_of, of_the_call, prompt_mask_of
from .routes import Routes, cache_among, is_filled, keep_routes, kept_routes
from .word_rule import WordRule

_WHY_NOT = (
    "another module stands in its place since the memory was attached (call detach() and attach() again), or its decoder layer was "
    "compiled by itself, which leaves out what is attached (compile the whole model instead)"
)

Tap = Callable[[nn.Module, torch.Tensor, torch.Tensor], "torch.Tensor | None"]
EarlyTap = Callable[[torch.Tensor], None]


@dataclass
class _Session:
    """One `generate` call: routing tokens and tokens that are not padding, (B, T) or None if not given; its routes."""

    prompt_mask: torch.Tensor | None
    kept: torch.Tensor | None = None
    routes: Routes | None = None


@dataclass
class _Read:
    """The tap of one forward pass, and of none after it: decides its routes, adds the memory's output. whole: it begins with the first tokens."""

    router: Router
    batch: int
    length: int
    prompt_mask: torch.Tensor | None
    routes: Routes | None
    cache: Any = None
    whole: bool = True
    session: _Session | None = None
    tokens: torch.Tensor | None = None
    kept: torch.Tensor | None = None
    reached: bool = False
    call: Pass = field(default_factory=Pass)

    def early(self, hidden: torch.Tensor) -> None:
        """Gets the early layer's input (B, T, d); the word rule decides the routes here."""
        if self.routes is None and self.router.words is not None:
            shaped = hidden.reshape(self.batch, self.length, -1)
            self._decided(self.router.decide_by_words(shaped, self.tokens, self.kept, self.prompt_mask))

    def __call__(self, projection: nn.Module, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        self.reached = True
        if self.routes is None and self.router.words is not None:
            raise ValueError(f"the early layer took no part in the forward pass: {_WHY_NOT}")
        if self.routes is None:
            self._decided(self.router.decide(x.reshape(self.batch, self.length, -1), self.prompt_mask))
        assert self.routes is not None
        return self.routes.read(x, out, self.length, self.whole)

    def _decided(self, routes: Routes) -> None:
        self.routes = routes
        if self.session is not None:
            self.session.routes = routes


@dataclass(frozen=True)
class _Context:
    """The router's state in one thread or coroutine.

    Attributes:
        tap: processes the projection's output in the running forward pass.
        early: gets the early layer's input.
        session: the running `generate`.
        disabled: the memory is switched off.
        tags: the edits that may be read; None for all.
        token, outer: restores the context from before the running forward pass; that context.
    """

    tap: Tap | _Read | None = None
    early: EarlyTap | None = None
    session: _Session | None = None
    disabled: bool = False
    tags: Tags | None = None
    token: list[Token] | None = None
    outer: _Context | None = None


_NOTHING = _Context()


class Router:
    """Decides routes; an `Observer` of the model's forward passes.

    Args:
        memory: the residual memory.
        acts: at which tokens it acts, see `MemoirConfig.acts`.

    Attributes:
        words: the rule that finds edits by their words. If it is None, the masks of whole prompts decide (the published
            rule: MEMOIR, section 3.3).
    """

    def __init__(self, memory: ResidualMemory, acts: str = "all"):
        self.memory, self.acts = memory, acts
        self.words: WordRule | None = None
        self.threshold: Callable = lambda edits: np.full(len(edits), 2.0)  # until it is connected, nothing is read
        self.tags_of: Callable[[int], list[str]] = lambda edit: []
        self._selections: dict[Tags, tuple[int, SignatureIndex]] = {}
        self._context: ContextVar[_Context] = ContextVar("memoir_fast", default=_NOTHING)
        self._last: ContextVar[Routes | None] = ContextVar("memoir_fast_last", default=None)
        self._names: dict[type, list[str]] = {}

    def connect(self, threshold: Callable, tags_of: Callable[[int], list[str]]) -> None:
        """Set the functions that decide. Both are called under the memory's lock.

        Args:
            threshold: takes edits' ids (B,); returns for each the smallest score that reads it.
            tags_of: takes an edit's id; returns its tags.
        """
        self.threshold, self.tags_of = threshold, tags_of

    @property
    def last(self) -> Routes | None:
        """The routes of this thread's or coroutine's latest forward pass, without the memory's rows."""
        return self._last.get()

    # ---- switches ------------------------------------------------------------------------------------------------

    def _now(self) -> _Context:
        """The context, without forward passes that have ended and could not say so: `after` does not run for a KeyboardInterrupt."""
        found = context = self._context.get()
        while isinstance(context.tap, _Read) and context.outer is not None and context.tap.call.is_over():
            context = context.outer
        if context is not found:
            self._context.set(context)
        return context

    @contextlib.contextmanager
    def _within(self, **changes: Any) -> Iterator[None]:
        token = self._context.set(replace(self._now(), **changes))
        try:
            yield
        finally:
            self._context.reset(token)

    def disabled(self) -> contextlib.AbstractContextManager[None]:
        """A context in which the memory contributes nothing; caches that it fills read no edit later."""
        return self._within(disabled=True)

    def only(self, tags: Tags | None) -> contextlib.AbstractContextManager[None]:
        """A context in which this thread's or coroutine's prompts read only edits that `tags` admits (None: all)."""
        return self._within(tags=tags)

    def session(self, prompt_mask: torch.Tensor | None) -> contextlib.AbstractContextManager[None]:
        """A context for one generate call. prompt_mask: (B, T) bool, the tokens that route."""
        return self._within(session=_Session(prompt_mask))

    def tapped(self, tap: Tap) -> contextlib.AbstractContextManager[None]:
        """A context for the editor's passes: `tap(projection, x, out)` returns what replaces the projection's output."""
        return self._within(tap=tap)

    def tapped_early(self, tap: EarlyTap) -> contextlib.AbstractContextManager[None]:
        """A context for forward passes that only need the early layer's input; the memory contributes nothing."""
        return self._within(tap=lambda projection, x, out: None, early=tap)

    # ---- deciding ------------------------------------------------------------------------------------------------

    def index(self) -> SignatureIndex:
        """The index of the edits that this context's prompts may read. The caller holds the memory's lock."""
        chosen, index = self._context.get().tags, self.memory.index
        if chosen is None:
            return index
        version, found = self._selections.get(chosen, (-1, None))
        if found is None or version != index.version:
            if len(self._selections) >= 64:
                self._selections.clear()
            version, found = index.version, index.subset([i for i in index.ids if chosen.admits(self.tags_of(i))])
            self._selections[chosen] = version, found
        return found

    @torch.no_grad()
    def decide(self, activations: torch.Tensor, prompt_mask: torch.Tensor | None) -> Routes:
        """Routes by masks (MEMOIR, section 3.3).

        Args:
            activations: (B, T, D), the projection's inputs.
            prompt_mask: (B, T) bool, the routing tokens; None for all.
        """
        batch, length, _ = activations.shape
        if len(self.memory) == 0 or batch == 0:
            return Routes.none(batch)
        if prompt_mask is None:
            prompt_mask = torch.ones(batch, length, dtype=torch.bool, device=activations.device)
        where = activations.device
        self.memory.to(where)
        _, signature = tophash_prompts(activations, prompt_mask.to(where), self.memory)
        signatures = signature.cpu().numpy()  # waits for the device
        with self.memory.lock:
            ids, overlaps = self.index().nearest(signatures)
            enough = overlaps >= self.threshold(ids)
            edits = [int(i) if read else -1 for i, read in zip(ids, enough, strict=True)]
            routes = self.routes_to(edits, [float(overlap) for overlap in overlaps])
        return self._beginning(routes, lambda: (prompt_mask.to(where) * torch.arange(length, device=where)).amax(1))

    @torch.no_grad()
    def decide_by_words(
        self,
        hidden: torch.Tensor,
        tokens: torch.Tensor | None,
        kept: torch.Tensor | None,
        prompt_mask: torch.Tensor | None,
    ) -> Routes:
        """Routes by words.

        Args:
            hidden: (B, T, d), the early layer's inputs.
            tokens: (B, T) ids.
            kept: (B, T) bool, False at padding; None for no padding.
            prompt_mask: (B, T) bool, the routing tokens; None looks for the last user message of a rendered chat.

        Raises:
            ValueError: there are no token ids.
        """
        assert self.words is not None
        if len(self.memory) == 0 or len(hidden) == 0:
            return Routes.none(len(hidden))
        if tokens is None or tokens.dim() != 2:
            raise ValueError(
                "the forward pass got inputs_embeds: an edit is found by a prompt's words. Pass input_ids, or make the memory with "
                "router='mask'"
            )
        queries, ends = self.words.queries(hidden, tokens, kept, prompt_mask)
        with self.memory.lock:
            found = [self.words.best(query, self.admitted()) for query in queries]
            routes = self.routes_to([edit for edit, _ in found], [score for _, score in found])
        return self._beginning(routes, lambda: ops.upload(torch.tensor(ends) - 1, hidden.device))

    def _beginning(self, routes: Routes, begins: Callable[[], torch.Tensor]) -> Routes:
        """The routes, with `acts="answer"` with the columns (B,) from which the memory acts."""
        if self.acts == "all" or routes.rows is None:
            return routes
        return replace(routes, begins=begins())

    def admitted(self) -> list[int] | None:
        """The ids of the edits that this context's tags admit; None for all."""
        return None if self._context.get().tags is None else self.index().ids

    def routes_to(self, edits: list[int], scores: list[float]) -> Routes:
        """Routes that read these stored edits (-1 for none). Raises ValueError for an unknown id."""
        matched = sorted(set(edits) - {-1})
        if not matched:
            return Routes(edits, scores)
        with self.memory.lock:
            masks, blocks = zip(*(self.memory.block_of(edit) for edit in matched), strict=True)
        device = blocks[0].device
        line = {edit: row for row, edit in enumerate(matched)} | {-1: -1}
        rows = torch.tensor([line[edit] for edit in edits], dtype=torch.int32)
        joined = blocks[0][None] if len(blocks) == 1 else torch.stack(blocks)
        return Routes(edits, scores, ops.upload(rows, device), ops.upload(torch.stack(masks), device), joined)

    # ---- the model's forward passes ------------------------------------------------------------------------------

    def before(self, model: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
        """See `Observer.before`. Raises ValueError for arguments that leave open which tokens are the prompt's."""
        context = self._now()
        token: list[Token] = []
        reading = context.tap is None or isinstance(context.tap, _Read)
        kept = None if reading else context.tap
        token.append(self._context.set(replace(context, tap=kept, token=token, outer=context)))
        if not reading:
            return None  # the pass is the editor's or a probe's, whose tap stays
        explicit = kwargs.pop("prompt_mask", None)
        if type(model) not in self._names:
            self._names[type(model)] = list(inspect.signature(model.forward).parameters)
        given = dict(zip(self._names[type(model)], args, strict=False)) | kwargs
        read = self._reading(model, context, given, explicit)
        self._context.set(replace(self._context.get(), tap=read))
        return args, kwargs

    def after(self, model: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        """See `Observer.after`. Raises ValueError if the pass left out the edited projection."""
        context = self._now()
        if context.token is None:
            return
        self._context.reset(context.token[0])
        read = context.tap
        if (
            isinstance(read, _Read)
            and output is not None
            and not (read.reached or context.disabled)
            and len(self.memory)
        ):
            raise ValueError(f"the edited projection took no part in the forward pass: {_WHY_NOT}")
        if isinstance(read, _Read) and read.routes is not None:
            self._last.set(Routes(read.routes.edits, read.routes.scores))  # no rows, which would outlive their answer
            if output is not None:
                values = output.values() if isinstance(output, dict) else output if isinstance(output, tuple) else ()
                keep_routes(cache_among(values) or read.cache, read.routes)

    def early(self, hidden: torch.Tensor) -> None:
        """See `Observer.early`."""
        context = self._now()
        if isinstance(context.tap, _Read):
            context.tap.early(hidden)
        elif context.early is not None:
            context.early(hidden)

    def project(self, projection: nn.Module, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor | None:
        """See `Observer.project`."""
        context = self._now()
        if context.tap is not None:
            return context.tap(projection, x, out)
        if len(self.memory) and not context.disabled:
            raise ValueError(
                "the edited projection ran outside of a call of the model (its decoder was called by itself, or its `forward`, past what "
                "is attached): which edit is read was not decided. Call the model, or do it under `with model.disabled():`"
            )
        return None

    def generate(self, model: nn.Module, original: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
        """See `Observer.generate`. Raises ValueError as `check_decoding`."""
        context = self._now()
        args, kwargs = uncompiled(
            args, kwargs
        )  # a compiled decoder would trace the routing, and would not see later edits
        if not context.disabled:
            check_decoding(model, args, kwargs)
        with contextlib.nullcontext() if context.session is not None else self.session(None):
            session = self._context.get().session
            assert session is not None
            session.kept = kwargs.get("attention_mask")  # generate may pass another form of it to the forward pass
            if session.kept is None:
                tokens = kwargs.get("input_ids", args[0] if args else kwargs.get("inputs"))
                session.kept = real_tokens(model, tokens, args, kwargs)
            return original(*args, **kwargs)

    def _reading(
        self, model: nn.Module, context: _Context, given: dict[str, Any], explicit: torch.Tensor | None
    ) -> _Read:
        tokens = given.get("input_ids")
        if tokens is None:
            tokens = given.get("inputs_embeds")
        if tokens is None:
            raise ValueError("the forward pass got neither input_ids nor inputs_embeds")
        batch, length = tokens.shape[:2]
        cache, session = cache_among(given.values()), context.session
        if context.disabled:
            return _Read(self, batch, length, None, Routes.none(batch), cache)
        if cache is not None and is_filled(cache):
            if explicit is not None or (
                session is not None and session.prompt_mask is not None and session.routes is None
            ):
                raise ValueError(
                    "prompt_mask: the key-value cache holds tokens, and what they read was decided when it was filled. Give the mask with "
                    "the prompt and an empty cache, or leave it out"
                )
            return _Read(self, batch, length, None, kept_routes(cache, batch), cache, whole=False)
        if session is not None:
            if session.routes is not None and len(session.routes.edits) == batch:
                return _Read(self, batch, length, None, session.routes, cache)
            if explicit is None and session.prompt_mask is not None:
                explicit = session.prompt_mask.repeat_interleave(batch // len(session.prompt_mask), dim=0)
        check_not_joined(given)
        attention = given.get("attention_mask")
        if session is not None:
            attention = of_the_call(session.kept, attention, batch, length)
        if attention is None:
            attention = real_tokens(model, given.get("input_ids"))
        mask = prompt_mask_of(explicit, attention, batch, length, len(self.memory))
        kept = attention.bool() if attention is not None and is_mask_of(attention, batch, length) else None
        if self.words is not None and explicit is None:
            mask = None  # the word rule finds the routing words in the tokens
        return _Read(self, batch, length, mask, None, cache, True, session, given.get("input_ids"), kept)
