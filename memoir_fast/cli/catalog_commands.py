"""The commands that look at a store and need neither its memory nor torch: info, log, show, search, tags, diff."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..defaults import NEARLY_FULL, room_of
from ..store.plan import Plan, taken_by
from .parsers import Command, Commands, count, store_option
from .plan_command import pages
from .plan_command import tell as tell_plan
from .terminal import say, shown, told, write_json

if TYPE_CHECKING:
    from ..journal.state import State
    from ..store import Catalog
    from ..store.listing import Listing

Found = TypeVar("Found")
_STATUSES = ("active", "disabled", "superseded", "deleted")


def add(commands: Commands, command: Command) -> None:
    """Add the commands to the parser. command: `app.command`."""
    info = command(commands, "info", _info, "describe a store, with what it takes beside what `plan` predicts")
    info.add_argument(
        "--lookup", action="store_true", help="also say what looks edits up on this machine (loads torch)"
    )
    log = command(commands, "log", _log, "list a store's edits")
    log.add_argument("--all", action="store_true", help="deleted and superseded ones too")
    log.add_argument("--count", type=count, metavar="N", help="only the last N (default: all)")
    show = command(commands, "show", _show, "everything about one edit")
    show.add_argument("id", type=int, metavar="ID", help="the edit's id")
    search = command(commands, "search", _search, "find edits by what was said of them")
    search.add_argument("words", nargs="*", metavar="TEXT", help="texts that must all stand in prompt, target, rephrasings, not_prompts, "
                        "subject, key, author, tags or metadata")  # fmt: skip
    search.add_argument("--tag", nargs="+", default=[], metavar="TAG", help="only edits that carry one of these")
    search.add_argument("--author", help="only this author's edits")
    search.add_argument("--key", help="only edits with this key")
    search.add_argument(
        "--status",
        nargs="+",
        choices=_STATUSES,
        default=[],
        help="only edits with one of these statuses (default: all)",
    )
    search.add_argument(
        "--since", metavar="TIME", help="only edits made from this time on, like 2026-01-31T12:00:00+00:00"
    )
    search.add_argument("--until", metavar="TIME", help="only edits made up to this time")
    search.add_argument("--count", type=count, metavar="N", help="only the last N that fit (default: all)")
    tags = command(commands, "tags", _tags, "list a store's tags, with how many edits carry each")
    diff = command(
        commands, "diff", _diff, "what is different between two points in a store's history, or between two stores"
    )
    diff.add_argument("before", metavar="A", help="with --store an edit's id, a time or now; without, a store's folder")
    diff.add_argument("after", metavar="B", nargs="?", default="now", help="the same (%(default)s)")
    diff.add_argument("--store", metavar="DIR", help="folder of the store in whose history A and B are points")
    for parser in (info, log, show, search, tags):
        store_option(parser)


def opened(options: argparse.Namespace, folder: str | None = None) -> Catalog:
    """The catalogue of `--store`, or of another folder, once it is said what a person should know of it."""
    from ..store import Catalog

    return told(options, Catalog(options.store if folder is None else folder))


def looked_at(options: argparse.Namespace, ask: Callable[[Listing | Catalog], Found]) -> Found:
    """What `ask` gathers from the store, see `store.look`, once it is said what a person should know of it."""
    from ..store.listing import look

    def asked(store: Listing | Catalog) -> tuple[Listing | Catalog, Found]:
        return store, ask(store)

    store, found = look(options.store, asked)
    told(options, store)
    return found


def describe(options: argparse.Namespace, costs: bool = False) -> None:
    """Say what a store is; the command `info`, and the end of those that make or compact one. costs: also what it takes, beside what was to be
    expected."""
    counts, scale, kept = looked_at(options, lambda store: (store.counts(), store.scale, store.manifest))
    made = sum(counts.values())
    actual = taken_by(Path(options.store), kept, made)
    value = {"edits": counts, "scale": scale, "config": json.loads(kept.config.to_json()), "fingerprint": kept.fingerprint,
             "conflict": kept.conflict, "record_dtype": kept.record_dtype, "bytes": actual["bytes"]}  # fmt: skip
    tuned = (
        f"; settings of {shown(kept.config.tuned, 80)} (memoir-fast tune)"
        if kept.config.tuned not in (None, "off")
        else ""
    )
    listed = ", ".join(f"{number} {status}" for status, number in counts.items()) or "no edits"
    say(options, f"{options.store}: {listed}; beside {shown(str(kept.fingerprint.get('target')), 60)} of a "
        f"{shown(str(kept.fingerprint.get('architecture')), 40)}, k = {kept.config.top_k}{pages(kept.config.page_edits)}, "
        f"{actual['bytes'] / 1e6:.1f} MB{tuned}")  # fmt: skip
    room = room_of(kept.sizes[0], kept.config.masks, kept.config.page_edits)
    full = counts.get("active", 0) / room if room else 0.0
    if room:
        value["full"] = full
    if NEARLY_FULL <= full <= 1:
        say(options, f"  {100 * full:.0f} % full: its {counts['active']} edits share one page, which has room for about {room}; with more, early "
            "ones fade. A new store has pages and does not fill")  # fmt: skip
    elif full > 1:
        say(options, f"  crowded: its {counts['active']} edits share one page, which has room for about {room}; early ones fade. A new store has "
            "pages, so that its edits do not (make them again there)")  # fmt: skip
    if getattr(options, "lookup", False):
        from ..ops.search import engines

        value["lookup"] = engines()
        for rule, engine in value["lookup"].items():
            chosen = " (this store's)" if rule == kept.config.router else ""
            say(options, f"  look-up with router={rule}{chosen}: {engine}")
    if costs:
        plan = Plan.of_store(kept, made, actual["record"] or 0)
        value |= {"plan": plan.value(), "actual": actual}
        tell_plan(options, plan, actual)
    write_json(options, value)


def _info(options: argparse.Namespace) -> None:
    describe(options, costs=True)


def _log(options: argparse.Namespace) -> None:
    _listed(options, looked_at(options, lambda store: store.last(options.count, options.all)))


def _search(options: argparse.Namespace) -> None:
    from ..journal.search import search

    rows = search(opened(options).rows(), options.words, tags=options.tag, author=options.author, key=options.key,
                  statuses=options.status, since=options.since, until=options.until)  # fmt: skip
    _listed(options, rows[-options.count :] if options.count else rows)


def _listed(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    say(options, f"{'id':>6}  {'status':<10}  {'created':<19}  {'prompt':<44}  target")
    for row in rows:
        say(options, f"{row['id']:>6}  {row['status']:<10}  {shown(row['created'][:19], 19):<19}  {shown(row['prompt'], 44):<44}  "
            f"{shown(row['target'], 32)}")  # fmt: skip
    write_json(options, rows)


def _show(options: argparse.Namespace) -> None:
    row = looked_at(options, lambda store: store.row(options.id))
    for name, value in row.items():
        say(options, f"{name:>12}  {shown(value if isinstance(value, str) else json.dumps(value), 10_000)}")
    write_json(options, row)


def _tags(options: argparse.Namespace) -> None:
    from ..journal.search import tag_counts

    rows = opened(options).rows()
    counts = tag_counts(rows)
    without = [row for row in rows if not row["tags"]]
    active = sum(row["status"] == "active" for row in without)
    say(options, f"{'active':>8}  {'all':>8}  tag")
    for tag, number in counts.items():
        say(options, f"{number['active']:>8}  {number['all']:>8}  {shown(tag, 80)}")
    say(options, f"{active:>8}  {len(without):>8}  (no tag)")
    write_json(options, {"tags": counts, "untagged": {"active": active, "all": len(without)}})


def _diff(options: argparse.Namespace) -> None:
    from ..store import is_store
    from ..store.differences import between_states, between_stores

    if options.store is not None:
        catalog = opened(options)
        rows = between_states(_state(catalog, options.before), _state(catalog, options.after))
    else:
        for name, folder in (("A", options.before), ("B", options.after)):
            if not is_store(folder):
                raise ValueError(
                    f"{name}: there is no store in the folder {folder}; for two points in one store's history give --store DIR"
                )
        rows = between_stores(opened(options, options.before), opened(options, options.after))
    for row in rows:
        ids = " / ".join("-" if row[name] is None else str(row[name]) for name in ("edit", "other") if name in row)
        moved = (
            f"{row['before'] or 'not there'} -> {row['after'] or 'not there'}"
            if row["before"] != row["after"]
            else row["before"]
        )
        retagged = f"  tags {_joined(row['tags_before'])} -> {_joined(row['tags_after'])}" if _retagged(row) else ""
        say(options, f"edit {ids}: {moved}{retagged}  {shown(row['prompt'], 44)} -> {shown(row['target'], 32)}")
    say(options, f"{len(rows)} edits differ" if rows else "no edit differs")
    write_json(options, rows)


def _state(catalog: Catalog, text: str) -> State:
    """The edits' state at a point that a person named."""
    from ..journal.past import point

    return catalog.state if text == "now" else catalog.at(point(text))


def _retagged(row: dict[str, Any]) -> bool:
    """Whether an edit that was there at both points has other tags."""
    return None not in (row["before"], row["after"]) and row["tags_before"] != row["tags_after"]


def _joined(tags: list[str]) -> str:
    return shown(", ".join(tags), 60) or "none"
