"""What the rows of a forward pass are, as the two model runners of vLLM 0.32 tell it."""

from __future__ import annotations

import functools
from typing import Any

from .patching import own, put
from .served import Row, Served


def served_of(model: Any) -> Served | None:
    """The memory of a runner's model, None where it has none (another model, or another pipeline stage)."""
    return getattr(model, "memoir", None)


def rows_of_v1(runner: Any, scheduled: Any) -> list[Row]:
    """From runner V1, after `_update_states`: the persistent batch is then final."""
    batch, rows, start = runner.input_batch, [], 0
    for number in range(batch.num_reqs):
        request = batch.req_ids[number]
        tokens = scheduled.num_scheduled_tokens.get(request, 0)
        known = runner.requests[request]
        params = known.sampling_params
        rows.append(Row(request, start, tokens, int(batch.num_computed_tokens_cpu[number]), int(batch.num_prompt_tokens[number]),
                        None if params is None else params.extra_args, known.prompt_token_ids or ()))  # fmt: skip
        start += tokens
    return rows


def install_v1() -> None:
    """Let runner V1 hand over the rows of each pass. Raises where this vLLM has another runner than the tested one."""
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    original = own(GPUModelRunner, "_update_states", "this vLLM's model runner")
    if original is None:
        return

    @functools.wraps(original)
    def update(self: Any, scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        found = original(self, scheduler_output, *args, **kwargs)
        served = served_of(self.get_model())
        if served is not None:
            served.begin(rows_of_v1(self, scheduler_output) if scheduler_output.total_num_scheduled_tokens else [],
                         scheduler_output.finished_req_ids)  # fmt: skip
        return found

    put(GPUModelRunner, "_update_states", update)


def rows_of_v2(
    batch: Any, states: Any, extras: dict[str, dict[str, Any] | None], prompts: dict[str, list[int]] | None = None
) -> list[Row]:
    """From runner V2, in `ModelState.prepare_inputs`. extras: request -> its extra arguments; prompts: request -> its prompt's tokens."""
    rows = []
    for number, request in enumerate(batch.req_ids[: batch.num_reqs]):
        slot, start = int(batch.idx_mapping_np[number]), int(batch.query_start_loc_np[number])
        tokens = int(batch.query_start_loc_np[number + 1]) - start
        rows.append(Row(request, start, tokens, int(batch.num_computed_tokens_np[number]), int(states.prompt_len.np[slot]),
                        extras.get(request), (prompts or {}).get(request, ())))  # fmt: skip
    return rows


class StateV2:
    """What runner V2's model state does for the memory, apart from vLLM's own part of it.

    `remove_request` comes at preemption too, and the request then returns as a new one: what it reads is kept by id. Without a
    word of its end, the oldest of many kept ids are forgotten.
    """

    KEPT = 1 << 16
    KEPT_PARTS = 256  # of prompts that have come in part

    def __init__(self, served: Served | None):
        self.served = served
        self.extras: dict[str, dict[str, Any] | None] = {}
        self.prompts: dict[str, list[int]] = {}

    def add(self, request: str, params: Any, tokens: list[int] | None = None) -> None:
        """A request begins, or comes back; params: its sampling parameters, or None; tokens: its prompt's."""
        self.prompts[request] = tokens or []
        self.extras[request] = None if params is None else params.extra_args

    def remove(self, request: str) -> None:
        """A request has ended, or is preempted."""
        self.extras.pop(request, None)
        self.prompts.pop(request, None)

    def prepare(self, batch: Any, states: Any) -> None:
        """The next forward pass: tell the memory its rows."""
        if self.served is None:
            return
        rows = rows_of_v2(batch, states, self.extras, self.prompts)
        running = {row.request for row in rows}
        surplus = len(self.served.readers) - self.KEPT
        gone = [request for request in self.served.readers if request not in self.extras and request not in running]
        parts = [request for request in self.served.gathered if request not in self.extras and request not in running]
        excess = len(parts) - self.KEPT_PARTS
        self.served.begin(rows, [*gone[: max(0, surplus)], *parts[: max(0, excess)]])


def model_state_v2() -> type:
    """The class for `get_model_state_cls`; importable where runner V2's modules are."""
    from vllm.v1.worker.gpu.model_states.default import DefaultModelState

    class MemoirModelState(DefaultModelState):
        def __init__(self, vllm_config: Any, model: Any, encoder_cache: Any, device: Any) -> None:
            super().__init__(vllm_config, model, encoder_cache, device)
            self.memoir = StateV2(served_of(model))

        def add_request(self, req_index: int, new_req_data: Any) -> None:
            super().add_request(req_index, new_req_data)
            self.memoir.add(new_req_data.req_id, new_req_data.sampling_params, new_req_data.prompt_token_ids)

        def remove_request(self, req_id: str) -> None:
            super().remove_request(req_id)
            self.memoir.remove(req_id)

        def prepare_inputs(self, input_batch: Any, req_states: Any) -> Any:
            self.memoir.prepare(input_batch, req_states)
            return super().prepare_inputs(input_batch, req_states)

    return MemoirModelState
