"""`memoir-fast plan`: what edits will cost, told from the model's configuration alone; without torch."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..config import MASKS, ROUTERS, WRITES, MemoirConfig
from ..journal.record import DTYPES
from ..store.plan import CHAT_TOKENS
from .parsers import Command, Commands, count
from .terminal import say, shown, write_json

if TYPE_CHECKING:
    from ..store.plan import Plan

_MEMORY = {
    "weights": "the memory's weights (V)",
    "earlier reads": "what earlier edits read (C)",
    "masks": "masks",
    "words": "words that find the edits",
    "details": "details of the edits",
    "sum": "all of it",
}
_DISK = {
    "log": "log",
    "snapshots": "snapshots",
    "pages": "their pages",
    "base file": "base file",
    "ledger": "ledger",
    "sum": "all of it",
}


def add(commands: Commands, command: Command) -> None:
    """Add the command to the parser. command: `app.command`."""
    plan = command(commands, "plan", _plan, "say what edits will cost in memory and on disk, before anything is loaded")
    plan.add_argument(
        "--model", default="smollm2", help="smollm2, a hub id, a folder or a .gguf file; only its configuration is read (%(default)s)"
    )  # fmt: skip
    plan.add_argument("--edits", type=count, default=1000, metavar="N", help="how many edits (%(default)s)")
    plan.add_argument("--tokens", type=count, default=CHAT_TOKENS, metavar="N", help="training tokens of an edit at which the memory acts "
                      "(%(default)s, the mean in chats; in plain text, which takes ten contexts, it is about 280, with --masks prompt)")  # fmt: skip
    plan.add_argument(
        "--record-dtype", choices=DTYPES, default="float32", help="dtype of the updates in the log (%(default)s)"
    )
    plan.add_argument("--layer", type=int, metavar="LAYER", help="the decoder layer with the memory (default: 27/32 of the depth)")  # fmt: skip
    plan.add_argument("--in-features", type=count, metavar="D", help="input width of the edited projection (default: what the configuration says; "
                      "needed for a mixture of experts)")  # fmt: skip
    plan.add_argument(
        "--top-k",
        type=count,
        metavar="K",
        help="active features per mask (default: D/10 with masks=spread, 2D/7 otherwise)",
    )
    plan.add_argument("--masks", choices=MASKS, help="which features an edit writes to (default: as in a chat, spread, with router=mask prompt)")  # fmt: skip
    plan.add_argument("--page-edits", type=count, metavar="N", help="how many edits share a page of the memory (default: D/12 with masks=spread, "
                      "otherwise all)")  # fmt: skip
    plan.add_argument("--write", choices=WRITES, default="preconditioned", help="the update rule (%(default)s)")
    plan.add_argument("--router", choices=ROUTERS, default="tokens", help="how edits are found (%(default)s)")
    plan.add_argument("--revision", help="of a hub id (default: its main one)")
    plan.add_argument("--token", help="for a private hub id; better leave it to the hub's own login")


def _plan(options: argparse.Namespace) -> None:
    from ..base.sizes import read_config, sizes_of
    from ..store.plan import Plan

    sizes = sizes_of(read_config(options.model, options.revision, options.token), options.layer, options.in_features)
    config = MemoirConfig(top_k=options.top_k, masks=options.masks, page_edits=options.page_edits, write=options.write, router=options.router)  # fmt: skip
    plan = Plan(sizes, config, options.edits, options.tokens, options.record_dtype)
    say(options, f"{shown(options.model, 60)}, a {shown(sizes.architecture, 40)}: D = {sizes.in_features}, d = {sizes.out_features}, "
        f"k = {plan.top_k}{pages(plan.page_edits)}; the memory is in layer {sizes.layer} of {sizes.layers}")  # fmt: skip
    tell(options, plan)
    write_json(options, plan.value())


def pages(edits: int | None) -> str:
    """What a line about a memory says of its pages; nothing where all edits share one."""
    return f", pages of {edits} edits" if edits else ""


def tell(options: argparse.Namespace, plan: Plan, actual: dict[str, Any] | None = None) -> None:
    """The plan's table; actual: what an existing store has, by the names that the plan gives it, for a column beside it."""
    say(options, f"{plan.edits} edits of {plan.tokens:g} training tokens, updates stored in {plan.record_dtype}; in MB, predicted"
        + ("" if actual is None else " and found"))  # fmt: skip
    disk = plan.disk()
    found = {} if actual is None else actual["disk"]
    say(options, "main memory beyond the base model's")
    for name, size in plan.memory().items():
        _line(options, _MEMORY[name], size)
    say(options, "the store on disk")
    for name, size in disk.items():
        _line(options, _DISK[name], size, found.get(name))
    say(options, "and")
    for name, text in (
        ("record", "one edit in the log"),
        ("snapshot", "one snapshot, without pages"),
        ("saved", "a memory folder"),
    ):
        _line(options, text, getattr(plan, name)(), None if actual is None else actual.get(name))


def _line(options: argparse.Namespace, text: str, size: float, found: float | None = None) -> None:
    beside = "" if found is None else f"  {found / 1e6:>10.3f}"
    say(options, f"  {text:<30}  {size / 1e6:>10.3f}{beside}")
