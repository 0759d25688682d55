"""What the workers answer to `collective_rpc`."""

from __future__ import annotations

from safetensors.torch import load_file

from .steps import served_of


class MemoirWorker:
    """Mixed into vLLM's worker class (its `worker_extension_cls`)."""

    def memoir_load(self, path: str) -> dict | None:
        """Use the table in a file from now on. None on a pipeline stage without the memory."""
        served = served_of(self.model_runner.get_model())
        if served is None:
            return None
        return {"generation": served.load(load_file(path)), "edits": len(served.table.ids)}

    def memoir_counts(self) -> dict | None:
        """Requests by what became of them, and the table in use."""
        served = served_of(self.model_runner.get_model())
        if served is None:
            return None
        return {**served.counts, "rank": served.rank, "generation": served.table.generation, "edits": len(served.table.ids),
                "ids": served.table.ids}  # fmt: skip
