"""Which projection is edited: the text decoder's, one that every token passes; and models that are refused for what they are."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from memoir_fast import MemoirConfig, MemoirModel
from memoir_fast.base.attachment import attachment_of
from memoir_fast.base.projection import find_target
from tests.support.families import tiny_family
from tests.support.models import _SMALL, background_texts, tiny_model, word_tokenizer

EDIT = ("w100 w101 w102 w103", "w150 w151")


def _attached(model, layer=1) -> MemoirModel:
    config = MemoirConfig(layer=layer, top_k=8, chat_template=False, contexts=0, router="mask", threshold=0.7, steps=60)
    return MemoirModel(model, word_tokenizer(), config, background_texts())


def _answers(model, target: str) -> None:
    """Check that an edit beside this projection is answered, through `ask` and through the wrapped model's own `generate`."""
    with torch.no_grad():  # as `tiny_family` says, a small head behind the final norm can prefer no token
        model.get_output_embeddings().weight.mul_(40)
    memoir, ids = _attached(model, None), torch.tensor([word_tokenizer()(EDIT[0])["input_ids"]])
    before = memoir.ask(EDIT[0], max_new_tokens=2)
    memoir.edit(*EDIT)
    assert memoir.target.path == target and memoir.ask(EDIT[0], max_new_tokens=2) == EDIT[1] != before
    out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=2, do_sample=False)
    assert word_tokenizer().decode(out[0, ids.shape[1] :]) == EDIT[1]


def test_the_text_decoder_is_told_from_towers_of_the_same_depth():
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    torch.manual_seed(0)
    text = {k: v for k, v in _SMALL.items() if k != "head_dim"} | {
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}
    }
    vision = {"depth": 4, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "mlp_ratio": 8}
    model = Qwen2VLForConditionalGeneration(Qwen2VLConfig(text_config=text, vision_config=vision)).eval()
    target = find_target(model)
    assert target.path == "model.language_model.layers.3.mlp.down_proj" and target.in_features == 96
    _answers(model, target.path)


@pytest.mark.parametrize("kind", ["Qwen2Audio", "Voxtral"])
def test_the_text_decoder_is_told_from_an_audio_tower(kind):
    import transformers

    audio = {
        "d_model": 32,
        "encoder_layers": 4,
        "encoder_attention_heads": 4,
        "encoder_ffn_dim": 128,
        "num_mel_bins": 8,
    }
    if kind == "Voxtral":
        audio = {
            "hidden_size": 32,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "num_mel_bins": 8,
        }
    text = {
        **{k: v for k, v in _SMALL.items() if k != "head_dim"},
        "model_type": "llama" if kind == "Voxtral" else "qwen2",
    }
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(audio_config=audio, text_config=text)
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(config).eval()
    target = find_target(model)
    assert (
        target.path.endswith("layers.3.mlp.down_proj") and "language_model" in target.path and target.in_features == 96
    )
    _answers(model, target.path)


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_encoder_decoders_are_refused_as_such(kind):
    sizes = {"vocab_size": 200, "d_model": 32, "d_ff": 64, "d_kv": 8, "num_layers": 2, "num_heads": 4, "encoder_layers": 2, "decoder_layers": 2,
             "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}  # fmt: skip
    model = AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model(kind, **sizes))
    with pytest.raises(ValueError, match="is an encoder-decoder; a memory is attached to decoder-only"):
        _attached(model)


def test_other_models_are_refused_for_what_they_are():
    with pytest.raises(ValueError, match="depends on later tokens"):
        _attached(tiny_family("bert"))
    with pytest.raises(TypeError, match="has no language-model head: load it with AutoModelForCausalLM"):
        _attached(AutoModel.from_config(tiny_model("llama").config))
    with pytest.raises(TypeError, match="must be a transformers model, got str"):
        _attached("smollm2")
    base = tiny_model("llama").double()
    with pytest.raises(ValueError, match="its weights are float64"):
        _attached(base)
    assert attachment_of(base) is None and not any(m._forward_hooks for m in base.modules())


def test_a_part_with_a_head_is_named():
    from transformers import PreTrainedModel

    class Omni(PreTrainedModel):
        _supports_sdpa = True

        def __init__(self, thinker):
            super().__init__(thinker.config)
            self.thinker, self.ears = thinker, AutoModel.from_config(thinker.config)

        def get_output_embeddings(self):
            return None

    with pytest.raises(TypeError, match="Omni has no language-model head: pass its `thinker`, which has one"):
        _attached(Omni(tiny_model("llama")))


@pytest.mark.parametrize("width", [32, 16])
def test_a_down_projection_is_told_from_gates_of_the_same_width(width):
    """An FFN as wide as the model, or half as wide with both ways up in one projection; dense, and as a shared expert."""
    model, linear = tiny_model("llama"), torch.nn.Linear
    ups = {"gate_up_proj": linear(32, 32)} if width == 16 else {"gate_proj": linear(32, 32), "up_proj": linear(32, 32)}
    ffn = torch.nn.ModuleDict({**ups, "down_proj": linear(width, 32)})
    model.model.layers[1].mlp = ffn
    target = find_target(model, 1)
    assert target.path == "model.layers.1.mlp.down_proj" and target.in_features == width
    experts = torch.nn.ModuleList([linear(96, 32)])
    model.model.layers[1].mlp = torch.nn.ModuleDict({"experts": experts, "shared_experts": ffn})
    with pytest.raises(ValueError, match="is a mixture of experts") as told:
        find_target(model, 1)
    named = "layer='model.layers.1.mlp.shared_experts.down_proj', which every token passes; or layer=3"
    assert f"name what is to be edited: {named}" in str(told.value)


def test_the_decoders_own_stack_counts_where_the_configuration_counts_another():
    sizes = {"vocab_size": 200, "d_model": 32, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
             "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 96, "pad_token_id": 0}  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("blenderbot", **sizes)).eval()
    target = find_target(model, -1)
    assert target.path == "model.decoder.layers.2.fc2" and target.in_features == 96


def test_a_bert_decoder_is_a_decoder():
    config = AutoConfig.for_model("bert", **_SMALL, is_decoder=True)
    torch.manual_seed(0)
    assert _attached(AutoModelForCausalLM.from_config(config).eval()).target.path == "bert.encoder.layer.1.output.dense"


@pytest.mark.parametrize(
    ("family", "layer", "path"),
    [("qwen2_moe", "model.layers.1.mlp.shared_expert.down_proj", "model.layers.1.mlp.shared_expert.down_proj"),
     ("deepseek_v2", "model.layers.1.mlp.shared_experts.down_proj", "model.layers.1.mlp.shared_experts.down_proj"),
     ("deepseek_v2", 0, "model.layers.0.mlp.down_proj")],
)  # fmt: skip
def test_a_shared_expert_or_a_dense_layer_can_be_named(family, layer, path):
    model = _attached(tiny_family(family), layer)
    model.edit(*EDIT)
    assert model.target.path == path and model.ask(EDIT[0], max_new_tokens=2) == EDIT[1]


@pytest.mark.parametrize(
    "family", ["mixtral", "qwen3_moe", "olmoe", "gpt_oss", "granitemoe", "qwen2_moe", "deepseek_v2"]
)
def test_a_mixture_of_experts_says_that_it_is_one(family):
    model = tiny_family(family)
    for layer in (None, -1):
        with pytest.raises(ValueError, match="is a mixture of experts") as told:
            find_target(model, layer)
        for path in [word.split("'")[1] for word in str(told.value).split() if word.startswith("layer='")]:
            model.get_submodule(path)  # what it names is there


def test_a_routed_experts_projection_is_refused_by_path():
    model = tiny_model("llama")
    model.model.layers[1].mlp.experts = torch.nn.ModuleList([torch.nn.Linear(96, 32)])
    with pytest.raises(ValueError, match="belongs to routed experts"):
        find_target(model, "model.layers.1.mlp.experts.0")
    with pytest.raises(ValueError, match=r"name what is to be edited: layer='model.layers.1.mlp.down_proj'"):
        find_target(model, 1)
    assert find_target(model, "model.layers.1.mlp.down_proj").layer == 1
