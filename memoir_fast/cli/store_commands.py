"""The commands that change a store, or read all of it, without its base model: delete, restore, ..., tag, rollback, verify, merge."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .catalog_commands import describe, opened
from .parsers import Command, Commands, store_option
from .terminal import agreed, say, shown, told, write_json

if TYPE_CHECKING:
    from ..store import Store

_CHANGES = {
    "delete": "take an edit back; what it superseded comes back",
    "restore": "bring a deleted or superseded edit back",
    "disable": "let no prompt find an edit, without taking its update back",
    "enable": "undo disable",
}
_AT_ONCE = 500  # records that are verified without a progress bar
_SHOWN = 20  # edits of a rollback that are named before the question


def add(commands: Commands, command: Command) -> None:
    """Add the commands to the parser. command: `app.command`."""
    parsers = []
    for name, text in _CHANGES.items():
        parsers.append(command(commands, name, _change, text))
        parsers[-1].add_argument("ids", type=int, nargs="+", metavar="ID", help="ids of edits")
    tag = command(commands, "tag", _tag, "change the tags of edits")
    tag.add_argument("ids", type=int, nargs="+", metavar="ID", help="ids of edits")
    how = tag.add_mutually_exclusive_group(required=True)
    how.add_argument("--add", nargs="+", metavar="TAG", help="tags that they carry from now on, beside those they have")
    how.add_argument("--remove", nargs="+", metavar="TAG", help="tags that they carry no longer")
    how.add_argument("--set", nargs="+", metavar="TAG", help="the tags that they carry from now on, and no others")
    how.add_argument("--clear", action="store_true", help="take all their tags away")
    rollback = command(
        commands, "rollback", _rollback, "every edit's status as it was after an edit, or at a time; asks first"
    )
    rollback.add_argument("to", metavar="TO", help="an edit's id, or a time like 2026-01-31T12:00:00+00:00")
    rollback.add_argument("--yes", action="store_true", help="do it without asking")
    rollback.add_argument("--dry-run", action="store_true", help="only say what would change")
    rollback.add_argument("--empty", action="store_true", help="let a time before the first edit delete every edit")
    compact = command(commands, "compact", _compact, "write a snapshot and begin a new log segment")
    compact.add_argument("--forget-before", type=int, metavar="ID", help="give up the undo of edits with smaller ids, to save room "
                         "(default: of none)")  # fmt: skip
    verify = command(commands, "verify", _verify, "read everything, check it, and replay the log")
    export = command(
        commands, "export", _export, "write a store with its history to one file, or a checkpoint for vLLM"
    )
    export.add_argument("--target", choices=["bundle", "vllm"], default="bundle", help="what to write (%(default)s)")
    export.add_argument("--to", required=True, metavar="PATH", help="the bundle's file, or the checkpoint's folder")
    export.add_argument("--model", default="smollm2", help="for vllm: the base model (%(default)s)")
    export.add_argument(
        "--copy", action="store_true", help="for vllm: copy the base model's files instead of linking them"
    )
    load = command(commands, "import", _import, "make a new store from a bundle")
    load.add_argument("file", metavar="FILE", help="the bundle that `export` wrote")
    merge = command(commands, "merge", _merge, "add the active edits of another store of the same base model")
    merge.add_argument("other", metavar="DIR", help="the other store's folder")
    for parser in (*parsers, tag, rollback, compact, verify, export, load, merge):
        store_option(parser)


def _open(options: argparse.Namespace, writer: bool = False) -> Store:
    from ..store import Store

    return told(options, Store(options.store, writer=writer))


def _change(options: argparse.Namespace) -> None:
    with _open(options, writer=True) as store:
        _check_there(store, options.ids)
        for edit in dict.fromkeys(options.ids):
            getattr(store, options.command)(edit)
        rows = [store.state.row(edit) for edit in options.ids]
    for row in rows:
        say(
            options,
            f"edit {row['id']} is {row['status']} now: {shown(row['prompt'], 60)} -> {shown(row['target'], 30)}",
        )
    write_json(options, rows)


def _check_there(store: Store, ids: list[int]) -> None:
    """Raise ValueError, before anything is changed, for an id that there is none of."""
    for edit in ids:
        if edit not in store.state.entries:
            raise ValueError(f"there is no edit {edit} in {store}; nothing was changed")


def _tag(options: argparse.Namespace) -> None:
    from ..memory.selection import check_tags

    given = check_tags(options.add or options.remove or options.set or [])
    with _open(options, writer=True) as store:
        _check_there(store, options.ids)
        for edit in dict.fromkeys(options.ids):
            had = store.state.tags[edit]
            if options.add:
                tags = [*had, *(tag for tag in given if tag not in had)]
            else:
                tags = [tag for tag in had if tag not in given] if options.remove else given
            if tags != had:
                store.tag(edit, tags)
        rows = [store.state.row(edit) for edit in options.ids]
    for row in rows:
        say(options, f"edit {row['id']} carries {shown(', '.join(row['tags']), 200) or 'no tag'} now")
    write_json(options, rows)


def _rollback(options: argparse.Namespace) -> int | None:
    """Say what would change, ask, do it: what is asked is what is done, so nothing may have been written in between."""
    from ..journal.past import changes_to, check_meant, point

    catalog, to = opened(options), point(options.to)
    past = catalog.at(to)
    changes = changes_to(catalog.state, past)
    rows = [{**catalog.state.row(edit), "becomes": status} for edit, status in changes]
    for row in rows[:_SHOWN]:
        say(
            options,
            f"edit {row['id']}: {row['status']} -> {row['becomes']}  {shown(row['prompt'], 60)} -> {shown(row['target'], 30)}",
        )
    if len(rows) > _SHOWN:
        say(options, f"... and {len(rows) - _SHOWN} more (--dry-run --json FILE lists all)")
    gone = sum(row["becomes"] == "deleted" for row in rows)
    if not options.empty and not options.dry_run:
        check_meant(catalog.state, past, to, "--empty")
    say(options, f"{len(rows)} edits would change, {gone} of them become deleted" if rows else "nothing would change")
    if options.dry_run or not rows:
        write_json(options, rows)
        return None
    if not options.yes and not agreed(options, f"Roll {options.store} back?"):
        say(options, "nothing was changed")
        return 1
    with _open(options, writer=True) as store:
        if store.state.seq != catalog.state.seq:
            raise ValueError(
                f"{options.store}: was changed meanwhile, so this is not what was shown; nothing was changed. Run it again"
            )
        changed = store.rollback(to, options.empty)
        done = [store.state.row(edit) for edit in changed]
    say(options, f"{len(done)} edits changed")
    write_json(options, done)
    return None


def _compact(options: argparse.Namespace) -> None:
    with _open(options, writer=True) as store:
        store.compact(forget_before=options.forget_before)
    describe(options)


def _verify(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    with _open(options) as store:
        records = store.state.seq
        with tqdm(total=records, desc="verifying", unit="record", disable=records <= _AT_ONCE) as bar:
            report = store.verify(bar.update)
    for name in ("records", "active", "superseded", "deleted", "disabled", "bytes", "difference"):
        say(options, f"{name:>11}  {report[name]}")
    write_json(options, report)
    if report["problems"]:
        raise ValueError("; ".join(report["problems"]))
    say(options, "no problem found")


def _export(options: argparse.Namespace) -> None:
    from ..store import export_bundle

    if options.target == "vllm":
        from ..serving.export import export_vllm

        _open(options).close()  # says what is to be known of the store
        folder = export_vllm(options.store, options.model, options.to, options.copy)
        say(options, f"{folder}: a checkpoint for vLLM with the plugin of memoir-fast; `memoir-fast serve` starts one")
        return write_json(options, {"folder": str(folder)})

    with _open(options) as store:
        export_bundle(store, options.to)
        say(options, f"{options.to}: {len(store.edits)} active edits")
        write_json(options, {"file": options.to, "edits": len(store.edits)})


def _import(options: argparse.Namespace) -> None:
    from ..store import import_bundle

    told(options, import_bundle(options.file, options.store)).close()
    describe(options)


def _merge(options: argparse.Namespace) -> None:
    from ..store import Store, merge

    with _open(options, writer=True) as store, told(options, Store(options.other)) as other:
        found = merge(store, other)
    say(options, ", ".join(f"{len(ids)} {what}" for what, ids in found.items()))
    write_json(options, found)
