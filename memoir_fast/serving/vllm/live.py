"""Refreshing a running engine: the front end reads the store once and hands all workers the same file, with the pages that they do not hold yet.

Nothing changes until every worker has read and checked its table; then all begin with it between the same two steps.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from ...base import collecting
from ...store import Store
from ..checks import check_tables
from ..paging import digests_in, given_in, pages_of
from ..section import check_store
from ..tables import PREFIX, beside_pages
from . import shared

# By folder: what this process has read for a refresh, open until the next one.
_waiting: dict[str, Store] = {}


class UntoldError(RuntimeError):
    """A refresh is done, but the front ends do not know of it."""


class Snapshot:
    """The store's present table, and the temporary file that it is handed over in.

    The store stays open after a refresh that went well, so that the next one reads only what came since.

    Args:
        settings: the checkpoint's `memoir` section.

    Attributes:
        path: the file; seq: the store's last record in the table. partial: whether the file leaves out pages.

    Raises:
        ValueError: the store cannot be opened, or is not one for the model that is served.
    """

    def __init__(self, settings: dict[str, Any]):
        self._settings, self._store, self.partial, self._done = settings, settings["store"], False, False
        self._opened = _present(self._store)
        try:
            check_store(settings, self._opened)
            self.seq = self._opened.state.seq
            with collecting.put_off():
                self._beside = beside_pages(self._opened)
            self._folder = Path(tempfile.mkdtemp(prefix="memoir-"))
        except BaseException:
            self._opened.close()
            raise
        self.path = self._folder / "table.safetensors"

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def write(self, held: Collection[str]) -> None:
        """Write the file, in the place of what is there.

        Args:
            held: digests of the pages that every worker holds, which are left out.

        Raises:
            ValueError: the table does not fit the engine. OSError: there is no room for the file.
        """
        tensors = {**self._beside, **pages_of(self._opened, held)}
        with collecting.put_off():
            check_tables(tensors, self._settings, held)
        self.path.unlink(missing_ok=True)  # a worker may still map what is there
        save_file(tensors, self.path)
        self.partial = len(given_in(tensors)) < len(set(digests_in(tensors)) - {""})

    def close(self) -> None:
        """Remove the file, and keep the store open where all went well."""
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._done:
            _waiting[self._store] = self._opened
        else:
            self._opened.close()

    def agreed(self, answers: list[dict[str, int] | None]) -> dict[str, int]:
        """The workers' one answer, with the store's record under "seq"; tells all front ends which edits there are.

        Raises:
            RuntimeError: the workers differ. UntoldError: the front ends cannot be told.
        """
        found = [answer for answer in answers if answer is not None]
        if not found or any(answer != found[0] for answer in found):
            raise RuntimeError(f"the workers do not agree after refreshing: {answers}; restart the engine")
        self._done = True
        try:
            shared.set_edits(self._store, set(self._beside[PREFIX + "ids"].tolist()))
        except (OSError, ValueError) as error:  # the latter where something else lies in the file's place
            raise UntoldError(
                f"all workers serve the new edits ({found[0]}), but the server's front ends could not be told which these are ({error}): a "
                "request that names an edit is checked against the earlier ones. Make room in the folder for temporary files and refresh again"
            ) from error
        return {**found[0], "seq": self.seq}


def held_by_all(answers: list[list[str] | None]) -> set[str]:
    """The digests of the pages that every worker holds. answers: the workers', None from those without the memory."""
    found = [set(answer) for answer in answers if answer is not None]
    return set.intersection(*found) if found else set()


def forget() -> None:
    """Close the stores that wait for the next refresh, which then opens its own again."""
    while _waiting:
        _waiting.popitem()[1].close()


def _present(folder: str) -> Store:
    """The store in a folder as it is now. Raises as `Store`."""
    store = _waiting.pop(folder, None)
    if store is not None:
        try:
            store.refresh()
            return store
        # Whatever another store in its place may cause: opening takes that, or says what is wrong with it.
        except Exception:
            store.close()
    return Store(folder)


def summed(answers: list[dict[str, Any] | None]) -> dict[str, int]:
    """The engine's counts: every tensor parallel rank decides alike, so one of them speaks; what admission refused is added."""
    found = [answer for answer in answers if answer is not None]
    first: dict[str, Any] = {"matched": 0, "unmatched": 0, "off": 0, "refused": 0, **found[0]}
    first["refused"] += shared.refused.count
    return {name: value for name, value in first.items() if name not in ("rank", "ids")}
