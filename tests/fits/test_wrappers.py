"""Wrappers whose `forward` or `generate` runs an inner model: edits are read there, or the wrapper is refused with a sentence."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from memoir_fast import MemoirModel
from tests.support.models import attached, tiny_model, word_tokenizer

peft = pytest.importorskip("peft", reason="peft is not installed")

EDIT = ("w100 w101 w102 w103", "w150 w151")
IDS = torch.tensor([word_tokenizer()(EDIT[0])["input_ids"]])


def edited(model, **settings) -> MemoirModel:
    made = attached(model, **settings)
    made.edit(*EDIT)
    return made


def generated(model) -> str:
    out = model.generate(input_ids=IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=2, do_sample=False)
    return word_tokenizer().decode(out[0, IDS.shape[1] :])


def next_word(model) -> str:
    with torch.no_grad():
        return word_tokenizer().decode(model(IDS).logits[0, -1].argmax())


def adapted(model, modules: list[str]):
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, target_modules=modules, task_type="CAUSAL_LM", init_lora_weights=False)
    return peft.get_peft_model(model, config).eval()


class ValueHead(nn.Module):
    """As trl's: a second head on a language model, which generates with it."""

    def __init__(self, model):
        super().__init__()
        self.pretrained_model, self.v_head = model, nn.Linear(32, 1)

    def forward(self, ids):
        return self.pretrained_model(ids)

    def generate(self, *args, **kwargs):
        return self.pretrained_model.generate(*args, **kwargs)


@pytest.mark.parametrize("projection", ["q_proj", "down_proj"])
def test_an_adapted_model_reads_edits_however_it_is_called(projection):
    model = adapted(tiny_model("llama"), [projection])
    made = edited(model)
    assert made.target.path == "model.layers.1.mlp.down_proj" and made.model is model
    assert made.ask(EDIT[0], max_new_tokens=2) == generated(model) == generated(model.get_base_model()) == EDIT[1]
    assert next_word(model) == next_word(model.get_base_model()) == "w150"
    assert made.detach() is model and next_word(model) != "w150"


def test_a_wrapper_that_calls_forward_past_the_hooks_reads_edits(monkeypatch):
    """As PEFT did up to 0.20."""
    from peft.tuners.tuners_utils import BaseTuner

    monkeypatch.setattr(BaseTuner, "forward", lambda self, *args, **kwargs: self.model.forward(*args, **kwargs))
    model = adapted(tiny_model("llama"), ["q_proj"])
    before, plain = next_word(model), dict(model.get_base_model().__dict__)
    made = edited(model, router="tokens", threshold=None)
    assert next_word(model) == next_word(model.get_base_model()) == generated(model).split()[0] == "w150" != before
    made.edit("w110 w111 w112", "w160")
    assert made.ask(["w110 w111 w112", EDIT[0]], max_new_tokens=2)[1] == EDIT[1]
    with made.disabled():
        assert next_word(model) == before
    made.detach()
    assert next_word(model) == before and model.get_base_model().__dict__.keys() == plain.keys()


def test_an_adapter_that_such_a_wrapper_adds_after_the_memory_is_refused_in_forward_only(monkeypatch):
    from peft.tuners.tuners_utils import BaseTuner

    monkeypatch.setattr(BaseTuner, "forward", lambda self, *args, **kwargs: self.model.forward(*args, **kwargs))
    made = edited(tiny_model("llama"), router="tokens", threshold=None)
    later = adapted(made.model, ["q_proj"])
    with pytest.raises(ValueError, match="ran outside of a call of the model"):
        later(IDS)
    made.edit("w110 w111 w112", "w160")
    other = torch.tensor([word_tokenizer()("w110 w111 w112")["input_ids"]])
    out = later.generate(input_ids=other, attention_mask=torch.ones_like(other), max_new_tokens=1, do_sample=False)
    assert word_tokenizer().decode(out[0, -1]) == "w160"


@pytest.fixture(params=[True, False], ids=["past the hooks", "by the hooks"])
def called_as(request, monkeypatch):
    """PEFT as it calls the model inside it: its `forward`, as up to 0.20, or the model."""
    from peft.tuners.tuners_utils import BaseTuner

    if request.param:
        monkeypatch.setattr(BaseTuner, "forward", lambda self, *args, **kwargs: self.model.forward(*args, **kwargs))


def _stopped_in(module, error, call, pre: bool = False) -> None:
    """Make a call that ends with this error in the module."""

    def stop(*args):
        raise error

    handle = (module.register_forward_pre_hook if pre else module.register_forward_hook)(stop)
    try:
        with pytest.raises(type(error)):
            call()
    finally:
        handle.remove()


@torch.no_grad()
def logits(model, ids) -> torch.Tensor:
    return model(ids).logits


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("x")], ids=repr)
@pytest.mark.parametrize("pre", [True, False])
def test_an_adapted_model_reads_for_the_next_prompt_whatever_ended_a_pass(called_as, error, pre):
    model = adapted(tiny_model("llama"), ["q_proj"])
    other = torch.tensor([word_tokenizer()("w30 w31 w32 w33")["input_ids"]])
    base = logits(model, other)
    edited(model)
    wanted = logits(model, IDS)
    for module in (model.get_base_model().model.layers[2], model.get_base_model().lm_head):
        _stopped_in(module, error, lambda: logits(model, IDS), pre)
        assert torch.equal(logits(model, other), base) and torch.equal(logits(model, IDS), wanted)
    if not pre:  # before the model's own `forward` began
        _stopped_in(model.get_base_model(), error, lambda: logits(model, IDS), True)
        assert torch.equal(logits(model.get_base_model(), other), base) and next_word(model) == "w150"


def test_an_adapted_model_goes_on_after_a_call_that_was_refused(called_as):
    model = adapted(tiny_model("llama"), ["q_proj"])
    before, made = next_word(model), edited(model)
    for _ in range(2):
        with pytest.raises(ValueError, match="neither input_ids nor inputs_embeds"):
            model(input_ids=None)
    assert next_word(model) == next_word(model.get_base_model()) == "w150" != before
    made.detach()
    assert next_word(model) == before


def test_an_adapted_model_whose_forward_another_wraps_after_attaching(called_as):
    hooks = pytest.importorskip("accelerate.hooks", reason="accelerate is not installed")
    model = adapted(tiny_model("llama"), ["q_proj"])
    before, made = next_word(model), edited(model)
    hooks.add_hook_to_module(model.get_base_model(), hooks.ModelHook())
    for _ in range(2):
        assert next_word(model) == next_word(model.get_base_model()) == "w150" != before
        made.detach()
        assert next_word(model) == next_word(model.get_base_model()) == before
        made.attach()
    assert next_word(model) == next_word(model.get_base_model()) == "w150"


def test_a_decoder_that_is_called_by_itself_is_refused():
    made = edited(tiny_model("llama"))
    for call in (made.model.forward, made.model.model):
        with pytest.raises(ValueError, match=r"ran outside of a call of the model.*Call the model, or do it under"):
            call(IDS)
        with made.disabled():
            call(IDS)
    assert next_word(made.model) == "w150"
    made.detach().model(IDS)
    attached(tiny_model("llama")).model.model(IDS)  # without edits there is nothing to miss


@pytest.mark.parametrize("projection", ["q_proj", "down_proj"])
def test_adapters_merged_unloaded_or_added_after_the_memory(projection):
    for take_off in ("merge_and_unload", "unload"):
        model = adapted(tiny_model("llama"), [projection])
        made = edited(model, router="tokens", threshold=None)
        plain = getattr(model, take_off)()
        with torch.no_grad():
            edited_logits = plain(IDS).logits
            with made.disabled():
                assert not torch.allclose(plain(IDS).logits, edited_logits, atol=1e-2), take_off
        assert generated(plain) == made.ask(EDIT[0], max_new_tokens=2)
        if take_off == "merge_and_unload":  # unloaded, the weights are others than those that the edit was learned with
            assert generated(plain) == EDIT[1]
        made.edit("w110 w111 w112", "w160")
        assert made.ask("w110 w111 w112", max_new_tokens=1) == "w160"
    made = edited(tiny_model("llama"), router="tokens", threshold=None)
    later = adapted(made.model, [projection])
    made.edit("w110 w111 w112", "w160")
    assert made.ask("w110 w111 w112", max_new_tokens=1) == "w160"
    made.detach()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in later.modules())


@pytest.mark.parametrize("projection", ["q_proj", "down_proj"])
def test_memories_of_base_and_of_base_with_adapter_are_interchangeable(projection, tmp_path):
    edited(tiny_model("llama")).save_pretrained(tmp_path / "base")
    edited(adapted(tiny_model("llama"), [projection])).save_pretrained(tmp_path / "adapted")
    onto = MemoirModel.load(tmp_path / "base", adapted(tiny_model("llama"), [projection]), word_tokenizer())
    assert len(onto.edits) == 1
    back = MemoirModel.load(tmp_path / "adapted", tiny_model("llama"), word_tokenizer())
    assert back.target == onto.target and len(back.edits) == 1
    other = tiny_model("llama", seed=1)
    with pytest.raises(ValueError, match="another base model"):
        MemoirModel.load(tmp_path / "base", adapted(other, [projection]), word_tokenizer())


def test_a_value_head_reads_edits():
    model = ValueHead(tiny_model("llama"))
    made = edited(model)
    assert made.ask(EDIT[0], max_new_tokens=2) == generated(model) == generated(model.pretrained_model) == EDIT[1]


@pytest.mark.parametrize("kind", ["PromptTuningConfig", "PromptEncoderConfig"])
def test_virtual_tokens_before_the_prompt_are_refused(kind):
    model = peft.get_peft_model(tiny_model("llama"), getattr(peft, kind)(num_virtual_tokens=3, task_type="CAUSAL_LM"))
    with pytest.raises(ValueError, match=r"puts virtual tokens before each prompt.*`model.get_base_model\(\)`"):
        edited(model.eval())
    assert edited(model.get_base_model()).ask(EDIT[0], max_new_tokens=2) == EDIT[1]


def test_a_model_with_prefix_tuning_reads_edits_where_the_prefix_is_off():
    config = peft.PrefixTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    model = peft.get_peft_model(tiny_model("llama"), config).eval()
    try:
        next_word(model)
    except AttributeError:  # PEFT 0.15 asks transformers 5.0 for what it no longer has
        pytest.skip("prefix tuning does not run with these versions of PEFT and transformers")
    made = edited(model)
    with pytest.raises(ValueError, match="filled by a model without this memory"):
        next_word(model)
    with model.disable_adapter():
        assert generated(model) == made.ask(EDIT[0], max_new_tokens=2) == EDIT[1] and next_word(model) == "w150"


def test_a_data_parallel_model_reads_edits(tmp_path):
    import torch.distributed as distributed

    distributed.init_process_group("gloo", rank=0, world_size=1, init_method=f"file://{tmp_path}/rendezvous")
    try:
        model = nn.parallel.DistributedDataParallel(tiny_model("llama"))
        assert edited(model).ask(EDIT[0], max_new_tokens=2) == EDIT[1] and next_word(model) == "w150"
    finally:
        distributed.destroy_process_group()


def test_sharded_models_are_refused(tmp_path):
    import torch.distributed as distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    distributed.init_process_group("gloo", rank=0, world_size=1, init_method=f"file://{tmp_path}/rendezvous")
    try:
        model = tiny_model("llama")
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        with pytest.raises(ValueError, match=r"its weights are sharded \(DTensor\): load it on one device"):
            attached(model)
        with pytest.raises(
            ValueError, match=r"FullyShardedDataParallel cannot carry a memory: its weights are sharded; load"
        ):
            attached(FullyShardedDataParallel(tiny_model("llama"), device_id=torch.device("cpu")))
    finally:
        distributed.destroy_process_group()


def test_wrappers_that_run_copies_are_refused():
    with pytest.raises(ValueError, match=r"DataParallel cannot carry a memory.*its `.module`"):
        edited(nn.DataParallel(tiny_model("llama")))


def test_a_projection_that_was_exchanged_is_noticed():
    made = edited(tiny_model("llama"))
    mlp = made.model.model.layers[1].mlp
    mlp.down_proj = nn.Linear(96, 32, bias=False)
    with pytest.raises(ValueError, match=r"took no part in the forward pass.*attach"):
        made.ask(EDIT[0])
    with made.disabled():
        made.ask(EDIT[0])
    made.detach()
    made.attach()
    made.ask(EDIT[0])


# ---- torch.compile; the backend "eager" runs what was traced as it stands ------------------------------------------


def test_a_compiled_model_reads_edits_also_when_it_was_compiled_before():
    base = tiny_model("llama")
    compiled = torch.compile(base, backend="eager")
    before = next_word(compiled)
    made = edited(base)
    assert next_word(compiled) == "w150" != before
    with made.disabled():
        assert next_word(compiled) == before
    made.detach()
    assert next_word(compiled) == before


def test_the_memory_of_a_compiled_model():
    model = torch.compile(tiny_model("llama"), backend="eager")
    made = edited(model)
    assert made.target.path == "model.layers.1.mlp.down_proj" and made.model is model
    assert generated(model) == made.ask(EDIT[0], max_new_tokens=2) == EDIT[1]


def test_one_graph_is_refused_with_a_sentence():
    made = edited(tiny_model("llama"))
    with pytest.raises(
        ValueError, match=r"cannot be compiled as one graph.*without fullgraph=True, which reads edits, or call detach"
    ):
        torch.compile(made.model, backend="eager", fullgraph=True)(IDS)
    assert made.ask(EDIT[0], max_new_tokens=2) == EDIT[1]
    made.detach()
    torch.compile(made.model, backend="eager", fullgraph=True)(IDS, use_cache=False)


def test_layers_that_are_compiled_one_by_one_never_answer_unedited():
    made = edited(tiny_model("llama"))
    for layer in made.model.model.layers:
        layer.compile(backend="eager")
    try:
        said = next_word(made.model)
    except ValueError as error:  # torch may run one layer's graph for another, without what is attached to it
        assert "compile the whole model instead" in str(error)
    else:
        assert said == "w150"


def test_layers_computed_again_in_the_backward_pass_are_refused():
    model = edited(tiny_model("llama"))
    base = model.model.train()
    base.gradient_checkpointing_enable()
    try:
        for parameter in base.parameters():
            parameter.requires_grad_()
        with pytest.raises(ValueError, match="ran outside of a call of the model"):
            base(input_ids=IDS, labels=IDS).loss.backward()
        with model.disabled():
            base(input_ids=IDS, labels=IDS).loss.backward()
        assert all(parameter.grad is not None for parameter in base.parameters())
    finally:
        base.eval().gradient_checkpointing_disable()
