"""Pages made again from the log, where their files are damaged: only the records of their edits are read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ..journal.record import Entry, check_header, edit_update
from ..journal.state import STATUSES
from ..memory.pages import Pages

if TYPE_CHECKING:
    from ..memory.residual import ResidualMemory


def pages_of_log(history: list[Entry], wanted: set[int], memory: ResidualMemory) -> dict[int, torch.Tensor]:
    """Some pages (D, d) as they are after some records, the first of which is the log's, to the bit if they were written on the CPU.

    Args:
        wanted: the pages' numbers.
        memory: of the store; it is not read.

    Raises:
        ValueError: an update was given up, or a record is damaged.
    """
    pages = Pages(memory.in_features, memory.out_features)
    sizes, tracked = (memory.in_features, memory.out_features, memory.top_k), memory.reads is not None
    entries, statuses = dict[int, Entry](), dict[int, str]()

    def set_to(edit: int, status: str) -> None:
        before, now = (STATUSES[one][0] for one in (statuses[edit], status))
        if before != now and memory.page_of(edit) in wanted:
            update = edit_update(entries[edit], sizes, tracked)
            pages.add(replace(update, page=memory.page_of(edit)), 1 if now else -1)
        statuses[edit] = status

    with torch.no_grad():
        for entry in history:
            check_header(entry)
            header = entry.header
            try:
                if header["kind"] == "edit":
                    for old in header["supersedes"]:
                        set_to(old, "superseded")
                    entries[header["id"]], statuses[header["id"]] = entry, "deleted"  # it is not there yet
                    set_to(header["id"], "active")
                elif header["kind"] == "status":
                    for edit, status in header["changes"]:
                        set_to(edit, status)
            except KeyError as error:
                raise ValueError(
                    f"record {entry.seq} changes an edit that is not there, or to another status ({error})"
                ) from None
    return {number: pages.page(number) for number in wanted}
