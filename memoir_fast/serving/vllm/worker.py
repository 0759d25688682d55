"""What the workers answer to `collective_rpc`."""

from __future__ import annotations

from typing import Any

from safetensors.torch import load_file

from .steps import served_of


class MemoirWorker:
    """Mixed into vLLM's worker class (its `worker_extension_cls`)."""

    model_runner: Any  # the worker's

    def memoir_held(self) -> list[str] | None:
        """The digests of the pages that need not be handed over. None on a pipeline stage without the memory."""
        served = served_of(self.model_runner.get_model())
        return None if served is None else served.held

    def memoir_prepare(self, path: str) -> dict[str, int] | None:
        """Make the table in a file ready, beside the one in use. None on a pipeline stage without the memory.

        Raises:
            ValueError: the table does not fit; the one in use stays.
        """
        served = served_of(self.model_runner.get_model())
        return None if served is None else {"edits": served.prepare(load_file(path))}

    def memoir_commit(self, seq: int) -> dict[str, int] | None:
        """Use the table that is ready from now on; its generation, and how many edits it holds. seq: the store's last record in it."""
        served = served_of(self.model_runner.get_model())
        if served is None:
            return None
        generation = served.commit(seq)
        assert served.table is not None
        return {"generation": generation, "edits": len(served.table.ids)}

    def memoir_drop(self) -> None:
        """Forget the table that is ready."""
        served = served_of(self.model_runner.get_model())
        if served is not None:
            served.drop()

    def memoir_counts(self) -> dict[str, Any] | None:
        """Requests by what became of them, and the table in use."""
        served = served_of(self.model_runner.get_model())
        if served is None:
            return None
        table = served.table
        assert table is not None
        return {**served.counts, "rank": served.rank, "generation": table.generation, "edits": len(table.ids),
                "ids": table.ids}  # fmt: skip
