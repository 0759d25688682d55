"""Tiny random models of the causal families of transformers, and of what is no causal language model, for what is supported at all."""

from __future__ import annotations

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.support.models import _SMALL

# Each family's own settings. Where a family has experts, sizes are chosen such that no two projections look alike.
_EXPERTS = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
}
_LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8, "n_group": 1,
           "topk_group": 1, "n_shared_experts": 2, "num_key_value_heads": 4, "head_dim": 4}  # fmt: skip
_GPT = {"n_embd": 32, "n_inner": 96, "n_layer": 4, "n_head": 4, "n_positions": 256}
_WINDOW = {"query_pre_attn_scalar": 8, "sliding_window": 16}
FAMILIES: dict[str, dict] = {
    "apertus": {}, "arcee": {}, "bitnet": {}, "bloom": {"n_layer": 4, "n_head": 4}, "codegen": {**_GPT, "rotary_dim": 4},
    "cohere": {"logit_scale": 1.0}, "cohere2": {"logit_scale": 1.0, "sliding_window": 16}, "ernie4_5": {}, "exaone4": {"sliding_window": 16},
    "gemma": {}, "gemma2": _WINDOW, "gemma3_text": _WINDOW, "glm": {}, "glm4": {}, "gpt2": _GPT, "gpt_bigcode": _GPT,
    "gpt_neox": {}, "gptj": {**_GPT, "rotary_dim": 4}, "granite": {}, "helium": {}, "hunyuan_v1_dense": {}, "llama": {},
    "ministral": {"sliding_window": 16}, "mistral": {"sliding_window": 64}, "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 4},
    "nemotron": {}, "olmo": {}, "olmo2": {}, "olmo3": {"sliding_window": 16}, "opt": {"ffn_dim": 96, "word_embed_proj_dim": 32},
    "persimmon": {}, "phi": {}, "phi3": {}, "qwen2": {}, "qwen3": {}, "recurrent_gemma": {"lru_width": 32, "attention_window_size": 16},
    "seed_oss": {}, "smollm3": {}, "stablelm": {}, "starcoder2": {}, "xglm": {"d_model": 32, "ffn_dim": 96, "num_layers": 4,
    "attention_heads": 4},
    # experts, all of them or some layers
    "mixtral": _EXPERTS, "qwen3_moe": _EXPERTS, "olmoe": _EXPERTS, "gpt_oss": {**_EXPERTS, "sliding_window": 16}, "granitemoe": _EXPERTS,
    "qwen2_moe": {**_EXPERTS, "shared_expert_intermediate_size": 48}, "deepseek_v2": {**_EXPERTS, **_LATENT, "first_k_dense_replace": 1},
    "deepseek_v3": {**_EXPERTS, **_LATENT, "first_k_dense_replace": 1},
    # not causal
    "bert": {},
}  # fmt: skip


def tiny_family(family: str, **sizes: int):
    """A random model in eval mode, float32; sizes: in place of the usual ones.

    Its head is eight times as large as transformers draws it: behind the final norm a small head cannot prefer any token, so that no edit
    of such a model can be learned, whatever the family.
    """
    torch.manual_seed(0)
    settings = {**_SMALL, "tie_word_embeddings": False, **FAMILIES[family], **sizes}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and "embed" not in name and "wte" not in name:
                parameter.mul_(4)
        model.get_output_embeddings().weight.mul_(8)
    return model
