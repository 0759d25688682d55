"""The engine settings under which an edited model answers as it should; the others are refused before anything is loaded."""

from __future__ import annotations

from typing import Any

from vllm.model_executor.models.config import VerifyAndUpdateConfig

from ..export import edits_of
from ..section import check_section
from ..serve import check_vllm
from . import admission, shared, spans
from .caching import cuttable

# What the memory does in a forward pass: read beside its projection, and where words route, choose before an early layer.
OPERATIONS = ("memoir_fast::serve_", "memoir_fast::serve_early_")


class MemoirSettings(VerifyAndUpdateConfig):
    """vLLM's hook for one architecture."""

    @staticmethod
    def verify_and_update_config(vllm_config: Any) -> None:
        """Raise ValueError for settings that a memory cannot be served with; otherwise set what it needs. Raises ImportError for a vLLM that
        the plugin is not made for, however it was started."""
        check_vllm()
        found = refusals(vllm_config)
        if found:
            raise ValueError("an edited model cannot be served with these settings: " + "; ".join(found))
        parallel, compilation = vllm_config.parallel_config, vllm_config.compilation_config
        worker = "memoir_fast.serving.vllm.worker.MemoirWorker"
        if parallel.worker_extension_cls not in ("", worker):
            raise ValueError(
                f"worker_extension_cls is {parallel.worker_extension_cls!r}; the memory's own is needed there for refreshing. Leave it out"
            )
        parallel.worker_extension_cls = worker
        model = vllm_config.model_config
        shared.begin()
        shared.set_edits(model.hf_config.memoir["store"], edits_of(model.model), first=True)
        admission.install()  # this hook runs in the front end, where requests come in
        spans.install()
        _keep_out_of_graphs(compilation)


def _malformed(section: Any, layers: int | None) -> list[tuple[bool, str]]:
    """What is wrong with the checkpoint's `memoir` section, as one of the checks below; layers: of the model."""
    try:
        check_section(section, layers)
    except ValueError as error:
        return [(True, str(error))]
    return []


def refusals(vllm_config: Any) -> list[str]:
    """What in an engine's configuration an edited model cannot be served with, each with the flag to pass."""
    model, cache = vllm_config.model_config, vllm_config.cache_config
    scheduler, parallel = vllm_config.scheduler_config, vllm_config.parallel_config
    section = getattr(model.hf_config, "memoir", None)
    memoir = section if isinstance(section, dict) else {}
    quantized = _name(model.quantization)
    whole = not cuttable(memoir)  # each prompt is read in one pass, by this request alone
    why = (
        "this memory acts on all tokens, from the first on"
        if memoir.get("acts") == "all"
        else "here masks choose the edit, by activations at the memory's own layer"
    )
    checks = [
        *_malformed(section, getattr(model.hf_config, "num_hidden_layers", None)),
        (whole and cache.enable_prefix_caching,
         f"prefix caching ({why}, so that what is cached of a prompt depends on the edit): pass --no-enable-prefix-caching"),
        (whole and scheduler.enable_chunked_prefill,
         f"chunked prefill ({why}, before the whole prompt could choose an edit): pass --no-enable-chunked-prefill"),
        (whole and scheduler.long_prefill_token_threshold > 0,
         "long_prefill_token_threshold (it splits prompts even without chunking): pass --long-prefill-token-threshold 0"),
        (not scheduler.enable_chunked_prefill and scheduler.max_num_batched_tokens < model.max_model_len,
         f"max_num_batched_tokens {scheduler.max_num_batched_tokens} is below max_model_len {model.max_model_len}, so a prompt could be split: "
         f"pass --max-num-batched-tokens {model.max_model_len} or a smaller --max-model-len"),
        (vllm_config.kv_transfer_config is not None,
         "KV transfer (another engine's cache was filled without the request's edit): leave --kv-transfer-config out"),
        (getattr(cache, "kv_offloading_size", None),
         "KV offloading: leave --kv-offloading-size out"),
        (parallel.enable_dbo or getattr(parallel, "ubatch_size", 0) > 1,
         "dual batch overlap (a request's rows are split between micro-batches): leave --enable-dbo and --ubatch-size out"),
        (parallel.decode_context_parallel_size > 1 or getattr(parallel, "prefill_context_parallel_size", 1) > 1,
         "context parallelism: pass --decode-context-parallel-size 1 --prefill-context-parallel-size 1"),
        (memoir.get("router") == "tokens" and parallel.pipeline_parallel_size > 1,
         "pipeline parallelism (an edit is chosen before an early layer and read at a late one): pass --pipeline-parallel-size 1"),
        (model.runner_type == "pooling", "pooling: an edited model generates; pass --runner generate"),
        (model.enable_prompt_embeds, "prompt embeddings (an edit is chosen by a prompt's tokens): leave --enable-prompt-embeds out"),
        (str(getattr(model, "tokenizer_mode", "auto")) not in ("auto", "hf", "slow"),
         f"tokenizer mode {model.tokenizer_mode!r} (where the user's words stand in a chat is found with Hugging Face's): pass --tokenizer-mode hf"),
        (quantized in ("gguf", "bitsandbytes", "fp_quant", "torchao") or "gguf" in _name(vllm_config.load_config.load_format),
         f"quantization {quantized!r}, which was not tried with a memory: export an unquantised base model"),
        (_full_graphs(vllm_config.compilation_config),
         'full CUDA graphs (the choice of an edit runs between graphs): pass --compilation-config \'{"cudagraph_mode": "PIECEWISE"}\''),
    ]  # fmt: skip
    return [reason for wrong, reason in checks if wrong]


def _name(value: Any) -> str:
    return "" if value is None else str(getattr(value, "value", value)).lower()


def _full_graphs(compilation: Any) -> bool:
    return compilation.cudagraph_mode is not None and "FULL" in compilation.cudagraph_mode.name


def _keep_out_of_graphs(compilation: Any) -> None:
    """The memory's operation runs in Python between the pieces of a captured model."""
    from vllm.config.compilation import CompilationConfig, CUDAGraphMode
    from vllm.platforms import current_platform

    if current_platform.is_cuda_alike() and compilation.cudagraph_mode is None:
        compilation.cudagraph_mode = CUDAGraphMode.PIECEWISE
    # The default list is made of this one later; a list set here would be taken for the user's own and as final.
    for operation in OPERATIONS:
        if operation not in CompilationConfig._attention_ops:
            CompilationConfig._attention_ops.append(operation)
        if compilation.splitting_ops and operation not in compilation.splitting_ops:
            compilation.splitting_ops.append(operation)
