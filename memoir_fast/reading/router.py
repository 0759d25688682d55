"""Routes: which stored edit, if any, each sequence of a batch reads (MEMOIR, section 3.3).

The route is decided once, by the forward pass that reads the prompt, and is then kept with the key-value cache that
this pass fills. Nothing is global: two threads, two caches or two batches never see each other's routes.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
import types
from dataclasses import dataclass, field

import torch

from ..memory.index import SignatureIndex
from ..memory.residual import ResidualMemory
from ..memory.selection import Tags
from .features import tophash_prompts

_CACHE_ATTRIBUTE = "memoir_routes"


@dataclass
class Routes:
    """The decision for one batch of B sequences.

    Attributes:
        edits: B stored edit ids, -1 where the row reads nothing.
        overlaps: B overlaps with the nearest stored edit, 0..1 (0 when nothing is stored).
        rows: (B,) int32 on the model's device: each row's line in `indices`, or -1. None when no row matched.
        indices: (R, k) int32 on the model's device: the masks of the matched edits. None when no row matched.
    """

    edits: list[int]
    overlaps: list[float]
    rows: torch.Tensor | None = None
    indices: torch.Tensor | None = None

    @classmethod
    def none(cls, batch: int) -> Routes:
        return cls([-1] * batch, [0.0] * batch)

    def select(self, positions: torch.Tensor) -> Routes:
        """The routes of the given rows, in the given order (a cache's batch was reordered, repeated or cut)."""
        order = positions.tolist()
        rows = None if self.rows is None else self.rows[positions.to(self.rows.device)]
        return Routes([self.edits[i] for i in order], [self.overlaps[i] for i in order], rows, self.indices)


@dataclass
class _Session:
    """One `generate` call: the prompt's tokens, and the routes once they are decided (needed without a cache)."""

    prompt_mask: torch.Tensor | None
    routes: Routes | None = None


@dataclass
class _Read:
    """The tap of one reading forward pass: decides the routes if they are open, then adds the memory's output."""

    router: Router
    batch: int
    length: int
    prompt_mask: torch.Tensor | None
    routes: Routes | None
    cache: object | None = None
    session: _Session | None = None
    tokens: torch.Tensor | None = None

    def __call__(self, base, x):
        if self.routes is None:
            self.routes = self.router.decide(x.reshape(self.batch, self.length, -1), self.prompt_mask, self.tokens)
            if self.session is not None:
                self.session.routes = self.routes
        out = base(x)
        if self.routes.rows is None:
            return out
        route = self.routes.rows if self.length == 1 else self.routes.rows.repeat_interleave(self.length)
        return self.router.memory.read(x, out, self.routes.indices, route)


@dataclass
class _ThreadState(threading.local):
    """What is in flight in one thread: the tap of the running forward pass, the generate session, switched-off depth."""

    tap: object | None = None
    session: _Session | None = None
    disabled: int = 0
    tags: Tags | None = None
    last: Routes | None = None
    stack: list = field(default_factory=list)


class Router:
    """Connects a model's forward passes with its memory.

    Args:
        memory: the residual memory.
        threshold: called at each decision with the nearest edits' ids (B,); returns the smallest overlap that reads each.
        tags_of: edit id -> its tags.
    """

    def __init__(self, memory: ResidualMemory, threshold, tags_of=lambda edit: []):
        self.memory = memory
        self.threshold = threshold
        self.tags_of = tags_of
        self._selections: dict[Tags, tuple[int, SignatureIndex]] = {}
        self.thread = _ThreadState()
        self._handles: list = []
        self._names: list[str] = []

    # ---- attaching to a model ------------------------------------------------------------------------------------

    def attach(self, model: torch.nn.Module) -> None:
        """Observe the model's forward passes."""
        self._names = list(inspect.signature(model.forward).parameters)
        self._handles = [
            model.register_forward_pre_hook(self._before, with_kwargs=True),
            model.register_forward_hook(self._after, with_kwargs=True, always_call=True),
        ]
        head = model.get_output_embeddings()
        if head is not None:
            self._handles.append(head.register_forward_pre_hook(contiguous_input))

    def detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    # ---- switches ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def disabled(self):
        """In this thread the memory contributes nothing; caches filled meanwhile stay unrouted."""
        self.thread.disabled += 1
        try:
            yield
        finally:
            self.thread.disabled -= 1

    @contextlib.contextmanager
    def only(self, tags: Tags | None):
        """In this thread, prompts are matched with the edits that `tags` admits (None: with all)."""
        before, self.thread.tags = self.thread.tags, tags
        try:
            yield
        finally:
            self.thread.tags = before

    def index(self) -> SignatureIndex:
        """What this thread's prompts are looked up in: all active edits, or the chosen ones."""
        chosen, index = self.thread.tags, self.memory.index
        if chosen is None:
            return index
        version, found = self._selections.get(chosen, (-1, None))
        if version != index.version:
            if len(self._selections) >= 64:
                self._selections.clear()
            version, found = index.version, index.subset([i for i in index.ids if chosen.admits(self.tags_of(i))])
            self._selections[chosen] = version, found
        return found

    @contextlib.contextmanager
    def session(self, prompt_mask: torch.Tensor | None):
        """One generate call, whose first forward pass reads the prompt."""
        before, self.thread.session = self.thread.session, _Session(prompt_mask)
        try:
            yield
        finally:
            self.thread.session = before

    @contextlib.contextmanager
    def tapped(self, tap):
        """The editor's own forward passes: `tap(base, x)` replaces the projection in this thread."""
        before, self.thread.tap = self.thread.tap, tap
        try:
            yield
        finally:
            self.thread.tap = before

    # ---- deciding ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def decide(
        self, activations: torch.Tensor, prompt_mask: torch.Tensor | None, tokens: torch.Tensor | None = None
    ) -> Routes:
        """The routes of prompts whose projection inputs are `activations` (B, T, D); `prompt_mask` (B, T) bool; `tokens` (B, T) ids."""
        batch, length, _ = activations.shape
        if len(self.memory) == 0 or batch == 0:
            return Routes.none(batch)
        if prompt_mask is None:
            prompt_mask = torch.ones(batch, length, dtype=torch.bool, device=activations.device)
        where = activations.device
        tokens = None if tokens is None else tokens.to(where)
        _, signature = tophash_prompts(activations, prompt_mask.to(where), tokens, self.memory)
        ids, overlaps = self.index().nearest(signature.cpu().numpy())  # the one device-to-host copy of a prompt
        enough = overlaps >= self.threshold(ids)
        edits = [int(i) if read else -1 for i, read in zip(ids, enough, strict=True)]
        return self.routes_to(edits, [float(overlap) for overlap in overlaps])

    def routes_to(self, edits: list[int], overlaps: list[float]) -> Routes:
        """Routes that read the given stored edits (-1: none)."""
        matched = sorted(set(edits) - {-1})
        if not matched:
            return Routes(edits, overlaps)
        device = self.memory.V.device
        line = {edit: row for row, edit in enumerate(matched)} | {-1: -1}
        indices = torch.stack([self.memory.indices_of(edit) for edit in matched]).to(device)
        rows = torch.tensor([line[edit] for edit in edits], dtype=torch.int32).to(device)
        return Routes(edits, overlaps, rows, indices)

    # ---- hooks on the model --------------------------------------------------------------------------------------

    def _before(self, module, args, kwargs):
        thread = self.thread
        thread.stack.append(thread.tap)
        if thread.tap is not None and not isinstance(thread.tap, _Read):
            return None  # the editor is at work: its tap stays
        explicit = kwargs.pop("prompt_mask", None)
        given = dict(zip(self._names, args, strict=False)) | kwargs
        thread.tap = self._reading(given, explicit)
        return args, kwargs

    def _after(self, module, args, kwargs, output):
        thread = self.thread
        tap, thread.tap = thread.tap, thread.stack.pop()
        if isinstance(tap, _Read) and tap is not thread.tap and tap.routes is not None:
            thread.last = tap.routes
            if output is not None:
                _keep(_cache_of(output) or tap.cache, tap.routes)

    def _reading(self, given: dict, explicit: torch.Tensor | None) -> _Read:
        tokens = given.get("input_ids")
        if tokens is None:
            tokens = given.get("inputs_embeds")
        if tokens is None:
            raise ValueError("the forward pass got neither input_ids nor inputs_embeds")
        batch, length = tokens.shape[:2]
        cache = given.get("past_key_values")
        filled = cache is not None and _is_filled(cache)
        session = self.thread.session
        if self.thread.disabled:
            routes = Routes.none(batch)
            return _Read(self, batch, length, None, routes, cache)
        if filled:
            return _Read(self, batch, length, None, self._kept(cache, batch), cache)
        if session is not None:
            if session.routes is not None and len(session.routes.edits) == batch:
                return _Read(self, batch, length, None, session.routes, cache)
            if explicit is None and session.prompt_mask is not None:
                explicit = session.prompt_mask.repeat_interleave(batch // len(session.prompt_mask), dim=0)
        mask = _prompt_mask(explicit, given.get("attention_mask"), batch, length, len(self.memory))
        return _Read(self, batch, length, mask, None, cache, session, given.get("input_ids"))

    def _kept(self, cache, batch: int) -> Routes:
        routes = getattr(cache, _CACHE_ATTRIBUTE, None)
        if routes is None:
            raise ValueError(
                "past_key_values was filled by a model without this memory: its route was never decided. Start from an "
                "empty cache, or continue it under `with model.disabled():`"
            )
        if len(routes.edits) != batch:
            raise ValueError(
                f"past_key_values holds the routes of {len(routes.edits)} sequences, the batch has {batch}"
            )
        return routes


def _prompt_mask(explicit, attention_mask, batch, length, edits) -> torch.Tensor | None:
    """(B, T) bool: the prompt's real tokens, from an explicit mask or else from a 2-D attention mask."""
    if explicit is not None:
        if explicit.shape != (batch, length):
            raise ValueError(f"prompt_mask must have shape {(batch, length)}, got {tuple(explicit.shape)}")
        mask = explicit.bool()
        if edits and not mask.any(1).all():
            empty = [row for row, some in enumerate(mask.any(1).tolist()) if not some]
            raise ValueError(f"prompt_mask selects no token in rows {empty}: each row needs its prompt's tokens")
        return mask
    if attention_mask is None or edits == 0:
        return None
    if not isinstance(attention_mask, torch.Tensor) or attention_mask.shape != (batch, length):
        raise ValueError(
            f"attention_mask is not of shape {(batch, length)}, so it does not say which tokens are the prompt's: "
            "pass prompt_mask (bool, that shape) too"
        )
    return attention_mask.bool()


def contiguous_input(module, args):
    """Hook of the output embeddings. The last position of each sequence is a strided slice, which torch multiplies with
    a frozen matrix sequence by sequence: for a batch of eight that is twice the time of the copy's one product."""
    return tuple(a.contiguous() if isinstance(a, torch.Tensor) else a for a in args)


# ---- routes kept with a cache ------------------------------------------------------------------------------------


def _cache_of(output):
    if isinstance(output, tuple):
        return next((item for item in output if hasattr(item, "get_seq_length")), None)
    return getattr(output, "past_key_values", None)


def _is_filled(cache) -> bool:
    length = cache.get_seq_length()
    if isinstance(length, torch.Tensor) and hasattr(cache, _CACHE_ATTRIBUTE):
        return True  # a static cache counts on the device: reading the count would stall every token
    return bool(length > 0)


def _keep(cache, routes: Routes) -> None:
    """Keep the routes with the cache, through the cache's own changes of its batch."""
    if cache is None or getattr(cache, _CACHE_ATTRIBUTE, None) is routes:
        return
    fresh = not hasattr(cache, _CACHE_ATTRIBUTE)
    setattr(cache, _CACHE_ATTRIBUTE, routes)
    if fresh:
        # Bound methods, so that copy.deepcopy of the cache binds the copy's methods to the copy.
        for name, rows in _BATCH_CHANGES.items():
            if hasattr(type(cache), name):
                setattr(cache, name, types.MethodType(_following(name, rows), cache))
        cache.reset = types.MethodType(_reset, cache)


def _following(name, rows):
    def method(cache, argument):
        getattr(type(cache), name)(cache, argument)
        routes = getattr(cache, _CACHE_ATTRIBUTE)
        setattr(cache, _CACHE_ATTRIBUTE, routes.select(rows(len(routes.edits), argument)))

    return method


def _reset(cache):
    type(cache).reset(cache)
    for name in (_CACHE_ATTRIBUTE, "reset", *_BATCH_CHANGES):
        vars(cache).pop(name, None)


_BATCH_CHANGES = {
    "reorder_cache": lambda batch, beams: beams,
    "batch_select_indices": lambda batch, chosen: chosen,
    "batch_repeat_interleave": lambda batch, repeats: torch.arange(batch).repeat_interleave(repeats),
}
