"""Stores and memory folders with something changed in them, and the checksums put right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from memoir_fast.journal.record import digest
from memoir_fast.store.manifest import checksum


def resealed(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the values of a `config.json`, and put its checksum right."""
    path = folder / "config.json"
    values = json.loads(path.read_bytes())
    values.pop("checksum")
    change(values)
    path.write_text(json.dumps({**values, "checksum": checksum(values)}))


def named_again(folder: Path, *names: str) -> None:
    """Let a memory folder's `config.json` name the digests of these files, as they are now."""
    found = {name: digest((folder / name).read_bytes()).hex() for name in names}
    resealed(folder, lambda values: values["digests"].update(found))


def without_ledger(folder: Path) -> None:
    """Delete a store's ledger."""
    for end in ("", "-wal", "-shm"):
        (folder / f"ledger.sqlite{end}").unlink(missing_ok=True)
