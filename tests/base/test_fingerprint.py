"""Which base model a memory belongs to, what the caches serve, and that models are measured at rest."""

from __future__ import annotations

import warnings

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import normalizers
from transformers import QuantoConfig

from memoir_fast import MemoirModel
from memoir_fast.base import fingerprint as fingerprints
from memoir_fast.base import loading
from memoir_fast.base.fingerprint import check, fingerprint
from memoir_fast.base.projection import find_target
from tests.support.models import background_texts, tiny_memoir, tiny_model, word_tokenizer
from tests.support.wide import Largest


def of(model, tokenizer=None):
    return fingerprint(model, tokenizer or word_tokenizer(), find_target(model, 1))


@pytest.fixture(scope="module")
def stored():
    return of(tiny_model("llama"))


CHANGES = {
    "layer 0": lambda m: m.model.layers[0].self_attn.q_proj.weight[3].mul_(1.5),
    "layer 1": lambda m: m.model.layers[1].mlp.down_proj.weight[0, 0].add_(1.0),
    "layer 3": lambda m: m.model.layers[3].input_layernorm.weight[7].add_(0.1),
    "model.embed_tokens": lambda m: m.model.embed_tokens.weight[150].neg_(),
    "model.norm": lambda m: m.model.norm.weight.mul_(1.1),
    "lm_head": lambda m: m.lm_head.weight[5].add_(1),
}


@pytest.mark.parametrize("part", CHANGES)
def test_a_change_of_any_weight_is_refused_by_name(stored, part):
    model = tiny_model("llama")
    with torch.no_grad():
        CHANGES[part](model)
    with pytest.raises(ValueError, match=rf"another base model.*{part}"):
        check(stored, of(model))


def test_rows_that_changed_places_are_seen(stored):
    model = tiny_model("llama")
    with torch.no_grad():
        weight = model.model.layers[2].mlp.up_proj.weight
        weight.copy_(weight.flip(0))
    with pytest.raises(ValueError, match="layer 2"):
        check(stored, of(model))


def test_the_loaded_weights_count_not_those_on_the_disk(tmp_path):
    tiny_model("llama").save_pretrained(tmp_path)
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    stored = of(loaded)
    with torch.no_grad():
        loaded.model.layers[1].mlp.down_proj.weight.mul_(1.01)
    with pytest.raises(ValueError, match=r"weight \(memory"):
        check(stored, of(loaded))
    half = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float16)
    check(stored, of(half))
    with torch.no_grad():
        half.model.layers[1].mlp.down_proj.weight.mul_(1.01)
    with pytest.raises(ValueError, match=r"weight \(memory"):
        check(stored, of(half))


def test_dtypes_and_earlier_fingerprints_still_fit(stored):
    check(stored, of(tiny_model("llama").to(torch.bfloat16)))
    check(of(tiny_model("llama").to(torch.bfloat16)), stored)
    check(
        {k: v for k, v in stored.items() if k not in ("parts", "tokenization", "chat_template")},
        of(tiny_model("llama")),
    )


def test_tokenizer_settings_that_change_tokens_are_refused(stored):
    lower = word_tokenizer()
    lower.backend_tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(ValueError, match="tokenization"):
        check(stored, of(tiny_model("llama"), lower))
    from tokenizers.processors import TemplateProcessing

    begins = word_tokenizer()
    begins.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    with pytest.raises(ValueError, match="tokenization"):
        check(stored, of(tiny_model("llama"), begins))


def test_another_chat_template_is_warned_about_by_name(stored):
    other = word_tokenizer()
    other.chat_template += " "
    with pytest.warns(UserWarning, match="chat_template"):
        check(stored, of(tiny_model("llama"), other))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(stored, of(tiny_model("llama")))


def test_a_memory_is_not_attached_to_a_changed_model(tmp_path):
    tiny_memoir().save_pretrained(tmp_path / "m")
    model = tiny_model("llama")
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(1.2)
    with pytest.raises(ValueError, match="embed_tokens"):
        MemoirModel.load(tmp_path / "m", model, word_tokenizer())


# ---- caches ------------------------------------------------------------------------------------------------------


def test_the_background_of_another_dtype_or_a_damaged_one_is_not_served(tmp_path, monkeypatch):
    monkeypatch.setenv("MEMOIR_FAST_CACHE", str(tmp_path))
    exact = tiny_memoir().memory.background.clone()
    half = MemoirModel(
        tiny_model("llama").to(torch.bfloat16), word_tokenizer(), tiny_memoir().config, background_texts()
    ).memory.background
    assert not torch.equal(exact, half)
    names = sorted(path.name for path in (tmp_path / "background").iterdir())
    assert len(names) == 2 and not [name for name in names if "part" in name]
    for path in (tmp_path / "background").iterdir():
        for data in (b"", b"x" * 100, path.read_bytes()[:-3]):
            path.write_bytes(data)
            assert torch.equal(tiny_memoir().memory.background, exact)
    assert len(load_file(next(p for p in (tmp_path / "background").iterdir() if "float32" in p.name))) == 1


def test_two_writers_of_one_cache_file_do_not_collide(tmp_path, monkeypatch):
    from memoir_fast.base import files

    path, real = tmp_path / "c" / "x", files.write_all

    def between(descriptor, data):
        real(descriptor, data)
        if data == b"one":
            files.replace_shared(path, b"two")

    monkeypatch.setattr(files, "write_all", between)
    files.replace_shared(path, b"one")
    assert path.read_bytes() == b"one" and [p.name for p in path.parent.iterdir()] == ["x"]


def test_a_converted_file_is_known_by_all_of_its_bytes(tmp_path, monkeypatch):
    monkeypatch.setenv("MEMOIR_FAST_CACHE", str(tmp_path / "cache"))
    made = []
    for number in (0, 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "same.gguf").write_bytes(b"GGUF" + bytes(3 << 20) + bytes([number]))  # alike but for the last byte
        with pytest.raises(Exception, match=r".") as caught:  # no model in it; the folder that it asks for counts
            loading.load_model(str(folder / "same.gguf"))
        made.append(str(caught.value))
    monkeypatch.setattr(loading.Path, "is_file", lambda self: True)
    found = {loading._converted(tmp_path / str(number) / "same.gguf").name for number in (0, 1)}
    assert len(found) == 2


# ---- at rest -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("router", ["mask", "tokens"])
def test_a_model_in_train_mode_is_measured_in_eval_mode(tmp_path, monkeypatch, router):
    monkeypatch.setenv("MEMOIR_FAST_CACHE", str(tmp_path / "a"))
    settings = {"router": router, "threshold": None}

    def made(training: bool, cache: str):
        monkeypatch.setenv("MEMOIR_FAST_CACHE", str(tmp_path / cache))
        base = tiny_model("gpt2")
        for module in base.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.5
        base.train(training)
        config = tiny_memoir("gpt2", **settings).config
        model = MemoirModel(base, word_tokenizer(), config, background_texts())
        result = model.edit("w100 w101", "w150", steps=3)
        assert all(module.training == training for module in base.modules())
        return model, result

    (rest, calm), (moving, same) = made(False, "b"), made(True, "c")
    assert torch.equal(rest.memory.background, moving.memory.background) and rest.contexts == moving.contexts
    assert calm.loss == same.loss and torch.equal(rest.memory.V, moving.memory.V)
    assert rest.threshold.median == moving.threshold.median


def test_measurements_of_quantised_forms_are_cached_apart():
    """8 and 4 bits of a checkpoint have one fingerprint, so a memory fits both, but what was measured with one is not taken for the other."""
    model, values = tiny_model("llama"), {"architecture": "one"}
    plain = fingerprints.measured_key(model, values)
    assert plain == fingerprints.digest(values)
    found = []
    for form in (QuantoConfig(weights="int8"), QuantoConfig(weights="int4"), QuantoConfig(weights="int4").to_dict()):
        model.config.quantization_config = form
        found.append(fingerprints.measured_key(model, values))
    assert len({plain, *found}) == 3 and found[1] == found[2]


@pytest.mark.parametrize("layer", [None, 1])
def test_hashes_of_the_whole_model_are_taken_once(layer, monkeypatch):
    model, tokenizer = tiny_model("llama"), word_tokenizer()
    taken, parts = [], fingerprints._parts
    monkeypatch.setattr(fingerprints, "_parts", lambda *args: taken.append(args) or parts(*args))
    known = fingerprints.fingerprint(model, tokenizer, find_target(model, layer))
    again = fingerprints.identity(model, tokenizer, layer, known)
    assert len(taken) == 1 and again == fingerprints.identity(model, tokenizer, layer)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 5), (1, 4096), (7, 4099), (2048, 4096), (2049, 4096), (4096, 2051)])
def test_sums_in_blocks_are_those_of_the_whole(shape, dtype):
    """To the byte, for stores keep digests of them."""
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    for one in (weight, weight.T):
        bits = one.to(torch.bfloat16).contiguous().view(torch.int16).flatten()
        whole = bits[: len(bits) - len(bits) % 4096].view(-1, 4096)
        sums = (whole.sum(0, dtype=torch.int64), whole.sum(1, dtype=torch.int64), bits[whole.numel() :])
        assert fingerprints._sums(one) == b"".join(part.numpy().tobytes() for part in sums)


def test_a_large_weight_is_summed_without_a_copy_of_it():
    module = torch.nn.Linear(8192, 8192, bias=False)
    with torch.no_grad(), Largest(module) as largest:
        fingerprints._sums(module.weight.detach())
    assert largest.bytes <= 2 * 1024 * 4096  # a block in bfloat16, of which torch makes the sums' copy inside
