"""The memory in a serving process: which edit each request reads, decided once by its prompt, and the product beside the projection.

Nothing here needs vLLM: `steps.py` tells what the rows of a forward pass are, `models.py` connects it to a layer.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ... import ops
from ...base import collecting
from ...memory.index import SignatureIndex
from ...memory.pages import page_of
from ...memory.selection import Tags
from ...ops import reference
from ..checks import check_tables
from ..paging import pages_in
from ..tables import NAMES, PREFIX
from .answers import Answers, Decision
from .caching import Gathered, cuttable
from .choice import Choice
from .shared import Tally
from .usage import Usage
from .words import PreparedWords, ServedWords


@dataclass(frozen=True)
class Row:
    """One request's part of a forward pass: `tokens` consecutive rows of the hidden states, the first of them at `start`.

    Attributes:
        computed: tokens of the request that earlier passes computed; prompt: how many its prompt has; extra: its extra arguments.
        ids: the prompt's tokens, where the runner tells them.
    """

    request: str
    start: int
    tokens: int
    computed: int
    prompt: int
    extra: dict[str, Any] | None = None
    ids: Sequence[int] = ()


@dataclass(frozen=True)
class Reader:
    """What a request reads until it ends: an edit's mask in one table. indices: (k',) int32 in the local columns; begin: the position of
    its first token that reads."""

    table: Table
    edit: int
    score: float
    indices: torch.Tensor
    begin: int = 0


class Table:
    """The stored edits at one time.

    Args:
        tensors: as `tables_of` makes them, or in pages (see `paging`); the names with their prefix.
        columns: the input features that this process holds.
        generation: counts the tables.
        settings: the checkpoint's `memoir` section.
        held: pages of the table before, by digest.

    Attributes:
        pages: each page's rows that this process holds; digests: the pages' digests; held: the rows by digest.
    """

    def __init__(
        self,
        tensors: dict[str, torch.Tensor],
        columns: slice,
        generation: int,
        device: torch.device | str,
        settings: dict[str, Any],
        held: Mapping[str, torch.Tensor],
    ):
        background, permutation, ids, signatures, scale, threshold, tags, *_ = (tensors[PREFIX + n] for n in NAMES[1:])
        self.generation, self.columns = generation, columns
        self.dimension = len(background)
        sizes = self.dimension, settings["out_features"]
        self.digests, self.held = pages_in(tensors, sizes, columns, device, held)
        self.pages = [self.held[name] for name in self.digests]
        self.page_edits: int = settings["page_edits"]
        self.background, self.permutation = background.to(device), permutation.to(device)
        self.scale = float(scale)
        self.tags: dict[str, list[str]] = json.loads(bytes(tags.numpy()).decode())
        self.ids = ids.tolist()
        self.threshold = dict(zip(self.ids, threshold.tolist(), strict=False))  # empty where words route
        self.index: SignatureIndex | None = None
        if self.ids:
            ones = int(np.bitwise_count(signatures[0].numpy()).sum())
            self.index = SignatureIndex(self.dimension, ones)
            self.index.add(self.ids, signatures.numpy())
        self._chosen: dict[Tags, SignatureIndex] = {}

    def chosen(self, choice: Choice) -> SignatureIndex:
        """The edits that a request may read; for a table that holds some."""
        assert self.index is not None
        if choice.tags is None:
            return self.index
        wanted = Tags(choice.tags, choice.untagged)
        if wanted not in self._chosen:
            if len(self._chosen) >= 64:
                self._chosen.clear()
            self._chosen[wanted] = self.index.subset([i for i in self.ids if wanted.admits(self.tags.get(str(i), []))])
        return self._chosen[wanted]

    def page_of(self, edit: int) -> int:
        """The page that an edit's rows are in."""
        return page_of(edit, self.page_edits)

    def reader(self, edit: int, score: float, begin: int) -> Reader:
        """What a request reads of a stored edit from position `begin` on. Raises ValueError for an unknown id."""
        assert self.index is not None
        bits = np.unpackbits(self.index.signature(edit), bitorder="little", count=self.dimension)[self.columns]
        indices = torch.from_numpy(np.flatnonzero(bits).astype(np.int32)).to(self.pages[0].device)
        return Reader(self, edit, score, indices, begin)


@dataclass
class Served:
    """The memory beside one projection of a running engine.

    Args:
        settings: the checkpoint's `memoir` section.
        rank, ranks: of the tensor parallel group, whose members hold consecutive columns; gather: (B, D / ranks) -> (B, D), or
            None for a single process.

    Attributes:
        step: the rows of the next forward pass; it is handed out once, so that a dummy pass reads nothing.
        readers: what each running request reads, None for nothing.
        words: the words' rule, where words route.
        tally: where the counts are told, in a server; usage: where those of each edit are; answers: where single decisions are.
        seq: the last record of the store that the table holds. gathered: requests whose words come in parts.
    """

    settings: dict[str, Any]
    rank: int = 0
    ranks: int = 1
    gather: Callable[[torch.Tensor], torch.Tensor] | None = None
    device: torch.device | str = "cpu"
    table: Table | None = None
    step: list[Row] | None = None
    readers: dict[str, Reader | None] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    words: ServedWords | None = None
    tally: Tally | None = None
    usage: Usage | None = None
    answers: Answers | None = None
    seq: int = 0
    gathered: Gathered = field(default_factory=Gathered)
    _pending: dict[str, torch.Tensor] = field(default_factory=dict)
    _next: tuple[Table, PreparedWords | None] | None = None

    @property
    def held(self) -> list[str]:
        """The digests of the pages that need not be handed over, hexadecimal."""
        return [] if self.table is None else [digest for digest in self.table.held if digest]

    def take(self, name: str, tensor: torch.Tensor) -> None:
        """One tensor of the checkpoint; the last one completes the table."""
        self._pending[name] = tensor
        if len(self._pending) == len(NAMES):
            self.load(self._pending)
            self._pending = {}

    def load(self, tensors: dict[str, torch.Tensor]) -> int:
        """Use another table for the requests that come from now on; returns its generation. Raises ValueError as `prepare` does."""
        self.prepare(tensors)
        return self.commit(self.settings.get("seq", 0))

    def prepare(self, tensors: dict[str, torch.Tensor]) -> int:
        """Make another table ready, beside the one in use; returns how many edits it holds.

        Raises:
            ValueError: a tensor is missing, or does not fit this engine, or a page is neither given nor in the present table, which stays.
        """
        self._next = None
        with collecting.put_off():  # while the texts of all edits are read
            return self._prepare(tensors)

    def _prepare(self, tensors: dict[str, torch.Tensor]) -> int:
        held = {} if self.table is None else self.table.held
        check_tables(tensors, self.settings, held)
        size = self.settings["in_features"] // self.ranks
        if size * self.ranks != self.settings["in_features"]:
            raise ValueError(f"{self.settings['in_features']} features cannot be split among {self.ranks} processes")
        generation = 0 if self.table is None else self.table.generation + 1
        words = None if self.words is None else self.words.prepare(tensors)
        columns = slice(self.rank * size, (self.rank + 1) * size)
        table = Table(tensors, columns, generation, self.device, self.settings, held)
        self._next = table, words
        return len(table.ids)

    def commit(self, seq: int = 0) -> int:
        """Use the table that is ready; returns its generation. seq: the store's last record in it. Raises RuntimeError where none is."""
        if self._next is None:
            raise RuntimeError("no table was made ready: refresh again")
        (self.table, words), self._next, self.seq = self._next, None, seq
        if self.words is not None and words is not None:
            self.words.commit(words)
        self._tell()
        return self.table.generation

    def drop(self) -> None:
        """Forget a table that was made ready."""
        self._next = None

    def _tell(self) -> None:
        """Say the counts to the server's other processes; every rank decides alike, so one of them speaks."""
        if self.tally is not None and self.table is not None:
            self.tally.put(
                {**self.counts, "edits": len(self.table.ids), "generation": self.table.generation, "seq": self.seq}
            )

    def begin(self, rows: list[Row], finished: Iterable[str]) -> None:
        """The next forward pass: its rows, and the requests that have ended."""
        for request in finished:
            self.readers.pop(request, None)
            self.gathered.forget(request)
        self.step = rows or None

    # ---- one forward pass ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def early(self, hidden: torch.Tensor) -> None:
        """The early layer is about to run on `hidden` (N, d): where words route, new requests are decided here."""
        if self.step is None or self.table is None or self.words is None:
            return
        fresh = [row for row in self.step if row.request not in self.readers]
        if fresh:
            self._decide(fresh, hidden)

    @torch.no_grad()
    def read_(self, out: torch.Tensor, x: torch.Tensor) -> None:
        """Add what the requests' edits say. out (N, d) changes in place; x: (N, D / ranks), N may count padding at the end."""
        rows, self.step = self.step, None
        if rows is None or self.table is None:
            return
        fresh = [row for row in rows if row.request not in self.readers and row.request not in self.gathered]
        if fresh and self.words is not None:
            raise RuntimeError(
                f"request {fresh[0].request}: the early layer never ran, where its edit is chosen by its words"
            )
        if fresh:
            self._decide(fresh, x)
        matched = [(row, reader) for row in rows if (reader := self.readers.get(row.request)) is not None]
        if not matched:
            return
        lines: dict[tuple[int, int], dict[int, Reader]] = {}  # by table and page
        for _, reader in matched:
            lines.setdefault((reader.table.generation, reader.table.page_of(reader.edit)), {})[reader.edit] = reader
        for (_, page), mine in lines.items():
            table = next(iter(mine.values())).table
            if self.ranks == 1:
                self._add(out, x, table, page, [(edit, reader.indices) for edit, reader in mine.items()], matched)
            else:  # the masks' parts in these columns differ in length
                for edit, reader in mine.items():
                    if len(reader.indices):
                        self._add(out, x, table, page, [(edit, reader.indices)], matched)

    @staticmethod
    def _add(
        out: torch.Tensor,
        x: torch.Tensor,
        table: Table,
        page: int,
        masks: list[tuple[int, torch.Tensor]],
        matched: list[tuple[Row, Reader]],
    ) -> None:
        line = {edit: number for number, (edit, _) in enumerate(masks)}
        route = np.full(len(x), -1, np.int32)
        for row, reader in matched:
            if reader.table is table and reader.edit in line:
                silent = min(max(0, reader.begin - row.computed), row.tokens)
                route[row.start + silent : row.start + row.tokens] = line[reader.edit]
        indices = torch.stack([mask for _, mask in masks])
        route_, V = torch.from_numpy(route).to(x.device), table.pages[page]
        ops.masked_matmul_(out, x.contiguous(), V, indices, route_, table.scale)

    # ---- the decision --------------------------------------------------------------------------------------------

    def _decide(self, fresh: list[Row], x: torch.Tensor) -> None:
        """Choose what new requests read, by their prompts' activations x (N, ...) in this very pass."""
        table = self.table
        assert table is not None
        asking: list[tuple[Row, Choice]] = []
        for row in fresh:
            choice = Choice.of(row.extra, row.prompt)
            if not choice.off and (row.computed or row.tokens < row.prompt) and not cuttable(self.settings):
                raise RuntimeError(
                    f"request {row.request}: {row.tokens} of {row.prompt} prompt tokens came after {row.computed}; an edit is chosen by a whole "
                    "prompt. Chunked prefill and prefix caching must be off"
                )
            if choice.off:
                self._decided(row, Decision("off"))
            elif choice.edit is not None:
                self._force(table, row, choice, choice.edit)
            elif table.index is None or len(table.chosen(choice)) == 0:
                self._decided(row, Decision("unmatched"))
            else:
                asking.append((row, choice))
        if self.words is not None:
            self._by_words(self.words, table, asking, x)
        elif asking:
            self._by_masks(table, asking, x)
        self._tell()

    def _by_masks(self, table: Table, asking: list[tuple[Row, Choice]], x: torch.Tensor) -> None:
        signatures = self._signatures(table, asking, x)
        for (row, choice), signature in zip(asking, signatures, strict=True):
            ids, overlaps = table.chosen(choice).nearest(signature[None])
            edit, score = int(ids[0]), float(overlaps[0])
            self._look(table, row, choice, edit, score, table.threshold[edit])

    def _by_words(
        self, words: ServedWords, table: Table, asking: list[tuple[Row, Choice]], hidden: torch.Tensor
    ) -> None:
        for row, choice in asking:
            ids = row.ids[: row.prompt]
            span = choice.span or words.span(ids)
            states = self.gathered.add(row.request, span, row.computed, hidden[row.start : row.start + row.tokens])
            if states is None:  # the prompt goes on in the next pass; up to its last word it reads nothing
                continue
            admitted = None if choice.tags is None else table.chosen(choice).ids
            self._look(table, row, choice, *words.likeliest(ids, states, span, admitted))

    def _look(
        self, table: Table, row: Row, choice: Choice, nearest: int | None, score: float, threshold: float
    ) -> None:
        """A request reads its likeliest edit where the score reaches the threshold."""
        if nearest is not None and score >= threshold:
            self.readers[row.request] = table.reader(nearest, score, self._begin(row, choice))
            self._decided(row, Decision("matched", nearest, nearest, score, threshold))
        else:
            self._decided(row, Decision("unmatched", None, nearest, score, threshold))

    def _begin(self, row: Row, choice: Choice) -> int:
        """The position from which a request reads, as `Router` decides it."""
        if self.settings["acts"] == "all":
            return 0
        whole = (0, row.prompt)
        found = choice.span or (whole if self.words is None else self.words.span(row.ids[: row.prompt]))
        return found[1] - 1

    def _force(self, table: Table, row: Row, choice: Choice, edit: int) -> None:
        # Admission has refused unknown ids; an edit deleted since then is counted and not read.
        if table.index is not None and edit in table.index:
            self.readers[row.request] = table.reader(edit, 1.0, self._begin(row, choice))
            self._decided(row, Decision("matched", edit))
        else:
            self._decided(row, Decision("refused"))

    def _decided(self, row: Row, decision: Decision) -> None:
        """Count a decision, and tell it whoever wants to know; what reads nothing is noted as that."""
        self.readers.setdefault(row.request, None)
        self.gathered.forget(row.request)
        self.counts[decision.outcome] += 1
        if self.usage is not None:
            self.usage.note(decision)
        if self.answers is not None:
            self.answers.put(row.extra, decision)

    def _signatures(self, table: Table, asking: list[tuple[Row, Choice]], x: torch.Tensor) -> np.ndarray:
        """(len(asking), bytes) uint8: TopHash of the prompts' mean activations."""
        k = self.settings["top_k"]
        spans = []
        for row, choice in asking:
            first, last = choice.span or (0, row.prompt)
            if self.settings["feature"] == "last":
                first = last - 1
            spans.append((row.start + first, row.start + last))
        tokens = torch.cat([x[first:last] for first, last in spans])
        lengths = [last - first for first, last in spans]
        bounds = torch.from_numpy(np.cumsum([0, *lengths]).astype(np.int32)).to(x.device)
        if self.ranks == 1:
            _, signatures = ops.tophash_pooled(tokens, bounds, table.background, table.permutation, k)
        else:  # every process sees the same gathered bits, so all choose the same mask
            assert self.gather is not None
            features = self.gather(reference.pool(tokens, bounds))
            _, signatures = ops.tophash(features.contiguous(), table.background, table.permutation, k)
        return signatures.cpu().numpy()
