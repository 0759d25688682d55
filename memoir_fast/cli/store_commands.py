"""The commands that work on a store without its base model: info, log, show, delete, restore, ..., verify, export, import, merge."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from .parsers import Command, Commands
from .terminal import say, shown, told, write_json

if TYPE_CHECKING:
    from ..store import Store

_CHANGES = {
    "delete": "take an edit back; what it superseded comes back",
    "restore": "bring a deleted or superseded edit back",
    "disable": "let no prompt find an edit, without taking its update back",
    "enable": "undo disable",
}


def add(commands: Commands, command: Command) -> None:
    """Add the commands to the parser. command: `app.command`."""
    info = command(commands, "info", _info, "describe a store")
    log = command(commands, "log", _log, "list a store's edits")
    log.add_argument("--all", action="store_true", help="deleted and superseded ones too")
    log.add_argument("--count", type=int, help="only the last COUNT")
    show = command(commands, "show", _show, "everything about one edit")
    show.add_argument("id", type=int)
    parsers = [info, log, show]
    for name, text in _CHANGES.items():
        parsers.append(command(commands, name, _change, text))
        parsers[-1].add_argument("ids", type=int, nargs="+", metavar="ID")
    rollback = command(commands, "rollback", _rollback, "every edit's status as it was after an edit, or at a time")
    rollback.add_argument("to", help="an edit's id, or a time like 2026-01-31T12:00:00+00:00")
    compact = command(commands, "compact", _compact, "write a snapshot and begin a new log segment")
    compact.add_argument(
        "--forget-before", type=int, metavar="ID", help="give up the undo of edits with smaller ids, to save room"
    )
    verify = command(commands, "verify", _verify, "read everything, check it, and replay the log")
    export = command(
        commands, "export", _export, "write a store with its history to one file, or a checkpoint for vLLM"
    )
    export.add_argument("--target", choices=["bundle", "vllm"], default="bundle")
    export.add_argument("--to", required=True, metavar="PATH", help="the bundle's file, or the checkpoint's folder")
    export.add_argument("--model", default="smollm2", help="for vllm: the base model (%(default)s)")
    export.add_argument(
        "--copy", action="store_true", help="for vllm: copy the base model's files instead of linking them"
    )
    load = command(commands, "import", _import, "make a new store from a bundle")
    load.add_argument("file", metavar="FILE")
    merge = command(commands, "merge", _merge, "add the active edits of another store of the same base model")
    merge.add_argument("other", metavar="DIR")
    for parser in (*parsers, rollback, compact, verify, export, load, merge):
        parser.add_argument("--store", metavar="DIR", required=True)


def _open(options: argparse.Namespace, writer: bool = False) -> Store:
    from ..store import Store

    return told(options, Store(options.store, writer=writer))


def _info(options: argparse.Namespace) -> None:
    from ..ops.search import engines

    with _open(options) as store:
        kept = store.manifest
        statuses = list(store.state.statuses.values())
        counts = {status: statuses.count(status) for status in sorted(set(statuses))}
        value = {"edits": counts, "scale": store.memory.scale, "config": json.loads(kept.config.to_json()),
                 "fingerprint": kept.fingerprint, "conflict": kept.conflict, "record_dtype": kept.record_dtype,
                 "bytes": sum(p.lstat().st_size for p in store.folder.iterdir()), "lookup": engines()}  # fmt: skip
    tuned = (
        f"; settings of {shown(kept.config.tuned, 80)} (memoir-fast tune)"
        if kept.config.tuned not in (None, "off")
        else ""
    )
    listed = ", ".join(f"{count} {status}" for status, count in counts.items()) or "no edits"
    say(options, f"{options.store}: {listed}; beside {shown(str(kept.fingerprint.get('target')), 60)} of a "
        f"{shown(str(kept.fingerprint.get('architecture')), 40)}, k = {kept.config.top_k}, {value['bytes'] / 1e6:.1f} MB{tuned}")  # fmt: skip
    for rule, engine in value["lookup"].items():
        chosen = " (this store's)" if rule == kept.config.router else ""
        say(options, f"  look-up with router={rule}{chosen}: {engine}")
    write_json(options, value)


def _log(options: argparse.Namespace) -> None:
    with _open(options) as store:
        rows = [store.state.row(edit) for edit in store.state.entries]
    rows = [row for row in rows if options.all or row["status"] in ("active", "disabled")]
    rows = rows[-options.count :] if options.count else rows
    say(options, f"{'id':>6}  {'status':<10}  {'created':<19}  {'prompt':<44}  target")
    for row in rows:
        say(options, f"{row['id']:>6}  {row['status']:<10}  {shown(row['created'], 19):<19}  {shown(row['prompt'], 44):<44}  "
            f"{shown(row['target'], 32)}")  # fmt: skip
    write_json(options, rows)


def _show(options: argparse.Namespace) -> None:
    with _open(options) as store:
        if options.id not in store.state.entries:
            raise ValueError(f"there is no edit {options.id} in {options.store}")
        row = store.state.row(options.id)
    for name, value in row.items():
        say(options, f"{name:>10}  {shown(value if isinstance(value, str) else json.dumps(value), 10_000)}")
    write_json(options, row)


def _change(options: argparse.Namespace) -> None:
    with _open(options, writer=True) as store:
        for edit in options.ids:
            getattr(store, options.command)(edit)
        rows = [store.state.row(edit) for edit in options.ids]
    for row in rows:
        say(
            options,
            f"edit {row['id']} is {row['status']} now: {shown(row['prompt'], 60)} -> {shown(row['target'], 30)}",
        )
    write_json(options, rows)


def _rollback(options: argparse.Namespace) -> None:
    with _open(options, writer=True) as store:
        changed = store.rollback(int(options.to) if options.to.lstrip("-").isdigit() else options.to)
        rows = [store.state.row(edit) for edit in changed]
    for row in rows:
        say(options, f"edit {row['id']} is {row['status']} now: {shown(row['prompt'], 60)}")
    say(options, f"{len(rows)} edits changed")
    write_json(options, rows)


def _compact(options: argparse.Namespace) -> None:
    with _open(options, writer=True) as store:
        store.compact(forget_before=options.forget_before)
    _info(options)


def _verify(options: argparse.Namespace) -> None:
    with _open(options) as store:
        report = store.verify()
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
    _info(options)


def _merge(options: argparse.Namespace) -> None:
    from ..store import Store, merge

    with _open(options, writer=True) as store, told(options, Store(options.other)) as other:
        found = merge(store, other)
    say(options, ", ".join(f"{len(ids)} {what}" for what, ids in found.items()))
    write_json(options, found)
