"""Every architecture that an export takes is served as our own Hugging Face path answers: tiny random models (make test-vllm-all)."""

from __future__ import annotations

import pytest

from tests.vllm.support import asked

pytestmark = pytest.mark.long

EDIT, UNRELATED = ("The port of Zed is", " xy"), "Who wrote the letter?"
# vLLM's attention on a CPU takes heads of 64 features.
SIZES = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 64,
}


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_an_architecture_is_served(family, engine, tmp_path):
    import torch
    from transformers import AutoTokenizer

    from memoir_fast import MemoirConfig, MemoirModel
    from memoir_fast.serving.export import export_vllm
    from tests.support.families import tiny_family
    from tests.support.models import background_texts, letter_tokenizer

    model, base = tiny_family(family, **SIZES), tmp_path / "base"
    for part in (model, letter_tokenizer()):
        part.save_pretrained(base)
    tokenizer = AutoTokenizer.from_pretrained(base)  # as vLLM reads it
    config = MemoirConfig(layer=1, top_k=24, chat_template=False, end="none", contexts=0, steps=60)
    memoir = MemoirModel(model, tokenizer, config, background_texts())
    memoir.create_store(str(tmp_path / "store"))
    assert memoir.edit(*EDIT, verify=True).took and memoir.route(UNRELATED)["edit"] is None
    memoir.model.generation_config.eos_token_id = None  # as vLLM's ignore_eos
    wanted = []
    for prompt in (EDIT[0], UNRELATED):
        ids = torch.tensor([memoir.encoder.prompt(prompt).tokens])
        out = memoir.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False, pad_token_id=0
        )
        wanted.append(out[0, ids.shape[1] :].tolist())
    memoir.close()
    export = export_vllm(tmp_path / "store", str(base), tmp_path / "export")
    prompts = asked([EDIT[0], UNRELATED])
    served, plain = (engine(folder, [prompts], tokens=4, max_model_len=128)["batches"][0] for folder in (export, base))
    assert [one["tokens"] for one in served] == wanted
    assert served[1] == plain[1] and served[0]["tokens"] != plain[0]["tokens"]  # to the last bit; another answer
