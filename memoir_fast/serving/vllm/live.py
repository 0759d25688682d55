"""Refreshing a running engine: the front end reads the store once and hands all workers the same file.

Nothing changes until every worker has read and checked its table; then all begin with it between the same two steps.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from ...store import Store
from ..checks import check_tables
from ..section import check_store
from ..tables import PREFIX, tables_of
from . import shared


class UntoldError(RuntimeError):
    """A refresh is done, but the front ends do not know of it."""


class Snapshot:
    """The store's present table, checked, in a temporary file.

    Args:
        settings: the checkpoint's `memoir` section.

    Raises:
        ValueError: the store cannot be opened, or is not one for the model that is served.
    """

    def __init__(self, settings: dict[str, Any]):
        self._store = settings["store"]
        with Store(self._store) as store:
            check_store(settings, store)
            self.tensors, self.seq = tables_of(store), store.state.seq
        check_tables(self.tensors, settings)
        self._folder = Path(tempfile.mkdtemp(prefix="memoir-"))
        self.path = self._folder / "table.safetensors"
        try:
            save_file(self.tensors, self.path)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the file."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def agreed(self, answers: list[dict[str, int] | None]) -> dict[str, int]:
        """The workers' one answer, with the store's record under "seq"; tells all front ends which edits there are.

        Raises:
            RuntimeError: the workers differ. UntoldError: the front ends cannot be told.
        """
        found = [answer for answer in answers if answer is not None]
        if not found or any(answer != found[0] for answer in found):
            raise RuntimeError(f"the workers do not agree after refreshing: {answers}; restart the engine")
        try:
            shared.set_edits(self._store, set(self.tensors[PREFIX + "ids"].tolist()))
        except (OSError, ValueError) as error:  # the latter where something else lies in the file's place
            raise UntoldError(
                f"all workers serve the new edits ({found[0]}), but the server's front ends could not be told which these are ({error}): a "
                "request that names an edit is checked against the earlier ones. Make room in the folder for temporary files and refresh again"
            ) from error
        return {**found[0], "seq": self.seq}


def summed(answers: list[dict[str, Any] | None]) -> dict[str, int]:
    """The engine's counts: every tensor parallel rank decides alike, so one of them speaks; what admission refused is added."""
    found = [answer for answer in answers if answer is not None]
    first: dict[str, Any] = {"matched": 0, "unmatched": 0, "off": 0, "refused": 0, **found[0]}
    first["refused"] += shared.refused.count
    return {name: value for name, value in first.items() if name not in ("rank", "ids")}
