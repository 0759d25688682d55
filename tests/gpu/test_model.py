"""An edited model on a GPU gives what it gives on a CPU, and decoding never waits for the device."""

from __future__ import annotations

import warnings

import pytest
import torch

from memoir_fast import MemoirModel
from memoir_fast.base.running import device_of
from memoir_fast.evaluation.demo import run_demo
from tests.support.models import attached, bits, tiny_model, word_tokenizer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

EDITS = [("w100 w101 w102 w103", "w150 w151"), ("w110 w111 w112 w113", "w160 w161"), ("w120 w121 w122 w123", "w170")]
STRANGER = "w140 w141 w142 w143 w144"


def edited(device: str, dtype=torch.float32, **settings) -> MemoirModel:
    return _taught(attached(tiny_model("llama").to(device, dtype), **settings))


def _taught(model: MemoirModel) -> MemoirModel:
    for prompt, target in EDITS:
        model.edit(prompt, target)
    return model


def _ids(text: str) -> torch.Tensor:
    return torch.tensor([word_tokenizer()(text)["input_ids"]], device="cuda")


@pytest.mark.parametrize("router", ["mask", "tokens"])
def test_edits_and_answers_are_those_of_a_cpu(router):
    there, here = edited("cuda", router=router), edited("cpu", router=router)
    assert there.memory.V.device.type == "cuda" == device_of(there.inner).type
    for prompt, target in EDITS:
        assert there.route(prompt)["edit"] == here.route(prompt)["edit"] is not None
        assert there.route(prompt)["score"] == pytest.approx(here.route(prompt)["score"], abs=2e-2)
        answer = there.ask(prompt, max_new_tokens=3)
        assert answer == here.ask(prompt, max_new_tokens=3) and answer.startswith(target)
    assert there.route(STRANGER)["edit"] is None


@pytest.mark.parametrize("router", ["mask", "tokens"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_edits_are_learned_and_others_keep_every_bit(router, dtype, precision):
    base = tiny_model("llama").to("cuda", dtype)
    with torch.no_grad():
        before = base(_ids(STRANGER)).logits
    model = edited("cuda", dtype, router=router, precision=precision)
    asked = model.ask([prompt for prompt, _ in EDITS], max_new_tokens=3)
    assert [answer.startswith(target) for answer, (_, target) in zip(asked, EDITS, strict=True)] == [True] * 3
    with torch.no_grad():
        assert torch.equal(bits(model(_ids(STRANGER)).logits), bits(before))
        with model.disabled():
            assert torch.equal(bits(model(_ids(STRANGER)).logits), bits(before))


@pytest.mark.parametrize("write", ["preconditioned", "sgd"])
def test_a_memory_on_the_host_is_read_and_written_from_the_device(write):
    near, far = (edited("cuda", write=write, memory_device=where) for where in (None, "cpu"))
    assert far.memory.pages.device.type == "cpu" and far.memory.device.type == "cuda"
    assert far.memory.reads is None or far.memory.reads.whole().device.type == "cpu"
    assert far.memory.block_of(0)[1].device.type == "cuda"
    assert torch.allclose(far.memory.V, near.memory.V.cpu(), atol=1e-3, rtol=1e-2)
    asked = [prompt for prompt, _ in EDITS]
    assert far.ask(asked, max_new_tokens=3) == near.ask(asked, max_new_tokens=3)
    far.edit(EDITS[0][0], "w180")  # replaces the first
    assert far.ask(EDITS[0][0], max_new_tokens=2).startswith("w180")
    far.delete([3])
    assert far.ask(asked[1:], max_new_tokens=3) == near.ask(asked[1:], max_new_tokens=3)


def test_memories_and_stores_move_between_devices(tmp_path):
    model = attached(tiny_model("llama").to("cuda"), router="tokens")
    model.create_store(str(tmp_path / "store"))
    _taught(model).save_pretrained(tmp_path / "memory")
    asked = [prompt for prompt, _ in EDITS]
    wanted = model.ask(asked, max_new_tokens=3)
    model.close()
    tiny_model("llama").save_pretrained(tmp_path / "base")
    word_tokenizer().save_pretrained(tmp_path / "base")
    for device in ("cpu", "cuda"):
        for kept in ({"memory": str(tmp_path / "memory")}, {"store": str(tmp_path / "store")}):
            again = MemoirModel.from_pretrained(str(tmp_path / "base"), device=device, **kept)
            assert device_of(again.inner).type == device
            assert again.ask(asked, max_new_tokens=3) == wanted
            again.close()


def test_undo_on_the_device():
    model = edited("cuda", router="tokens")
    wanted = model.ask(EDITS[0][0], max_new_tokens=3)
    model.delete(1)
    assert model.route(EDITS[1][0])["edit"] is None and model.ask(EDITS[0][0], max_new_tokens=3) == wanted
    model.restore(1)
    assert model.route(EDITS[1][0])["edit"] == 1


def waits(call) -> list[str]:
    """The lines of this library at which `call` waited for the device."""
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return [f"{w.filename}:{w.lineno}" for w in seen if "synchroniz" in str(w.message) and "memoir_fast" in w.filename]


@pytest.mark.parametrize("text", [EDITS[0][0], STRANGER], ids=["matched", "unmatched"])
@pytest.mark.parametrize("router", ["mask", "tokens"])
@torch.no_grad()
def test_decoding_never_waits_and_prefill_waits_for_the_look_up_only(router, text):
    from transformers import DynamicCache

    model, ids, cache = edited("cuda", router=router), _ids(text), DynamicCache()
    model(input_ids=ids, past_key_values=DynamicCache())  # compiles
    before = waits(lambda: model(input_ids=ids, past_key_values=cache))
    later = waits(lambda: model(input_ids=ids[:, -1:], past_key_values=cache))
    assert later == [], later
    # by masks for the signature; by words for the tokens' numbers, and for the activations of the words that they make
    assert len(before) <= (1 if router == "mask" else 2), before


def test_the_demo_on_the_real_model(smollm2):
    model = MemoirModel(smollm2[0].to("cuda"), smollm2[1])
    try:
        found = run_demo(model, print)
    finally:
        model.detach()
        smollm2[0].to("cpu")
    assert found["right"]["prompt"] == 20 and found["right"]["unrelated"] == 20
    assert found["right"]["rephrase"] >= 18
    assert min(found["right"]["other_question"], found["right"]["other_subject"]) >= 17
