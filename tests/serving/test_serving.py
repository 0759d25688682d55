"""The serving side without an engine: exports, what a request may ask, which edit each row reads, and both runners' rows.

The engine itself is tested in tests/vllm (make test-vllm)."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from memoir_fast.cli import app as cli
from memoir_fast.ops import reference
from memoir_fast.serving.export import edits_of, export_vllm, is_export
from memoir_fast.serving.serve import FLAGS, server_command
from memoir_fast.serving.tables import NAMES, PREFIX, tables_of
from memoir_fast.serving.vllm.choice import Choice
from memoir_fast.serving.vllm.served import Row, Served
from memoir_fast.serving.vllm.steps import StateV2, rows_of_v1, rows_of_v2
from memoir_fast.store import Store
from tests.support.models import tiny_memoir
from tests.support.patience import within
from tests.support.serving import served_settings

EDITS = [("w100 w101 w102 w103", "w150 w151"), ("w110 w111 w112 w113 w114", "w160 w161")]
UNRELATED = "w30 w31 w32 w33 w34 w35"


@pytest.fixture(params=[("all", 0), ("answer", 0), ("answer", 1)], ids=["all", "answer", "pages"])
def edited(request, tmp_path):
    acts, page_edits = request.param
    model = tiny_memoir("llama", threshold=0.7, acts=acts, page_edits=page_edits)
    model.create_store(str(tmp_path / "store"))
    model.edit(*EDITS[0], tags=["a"])
    model.edit(*EDITS[1], tags=["b"])
    return model


def _served(model, rank=0, ranks=1, gather=None) -> Served:
    served = Served(served_settings(model), rank, ranks, gather)
    for name, tensor in tables_of(model.store).items():
        assert served.table is None
        served.take(name, tensor)
    return served


def _activations(model, text):
    """(T, D) inputs of the edited projection, and its (T, d) output without the memory."""
    seen = {}

    def watch(module, args, output):
        seen["x"], seen["out"] = args[0][0].clone(), output[0].clone()

    handle = model.model.get_submodule(model.target.path).register_forward_hook(watch)
    with torch.no_grad(), model.disabled():
        model(input_ids=torch.tensor([model.encoder.prompt(text).tokens]))
    handle.remove()
    return seen["x"], seen["out"]


def _pass(model, texts):
    """The rows of a prefilling pass over several prompts, its inputs and base outputs."""
    parts, rows, start = [_activations(model, text) for text in texts], [], 0
    for number, (x, _) in enumerate(parts):
        rows.append(Row(f"r{number}", start, len(x), 0, len(x)))
        start += len(x)
    return rows, torch.cat([x for x, _ in parts]), torch.cat([out for _, out in parts])


def _expected(model, rows, x, out, edits):
    wanted, memory = out.clone(), model.memory
    for row, edit in zip(rows, edits, strict=True):
        if edit is not None:
            part = slice(row.start, row.start + row.tokens)
            first = (
                row.prompt - 1 if model.config.acts == "answer" else 0
            )  # a plain prompt's last word is its last token
            route = -(torch.arange(row.tokens) + row.computed < first).int()
            wanted[part] += reference.masked_matmul(
                x[part], memory.pages.held[memory.page_of(edit)], memory.indices_of(edit)[None], route, memory.scale
            )
    return wanted


def test_each_request_reads_the_edit_of_its_prompt_for_its_whole_life(edited):
    served = _served(edited)
    rows, x, out = _pass(edited, [EDITS[1][0], UNRELATED, EDITS[0][0]])
    padded_x, padded = torch.cat([x, x[:3]]), torch.cat([out, out[:3]])  # rows of padding at the end
    served.begin(rows, [])
    served.read_(padded, padded_x)
    torch.testing.assert_close(padded[: len(x)], _expected(edited, rows, x, out, [1, None, 0]))
    assert torch.equal(padded[len(x) :], out[:3])
    unrelated = slice(rows[1].start, rows[2].start)
    assert torch.equal(padded[unrelated].view(torch.int32), out[unrelated].view(torch.int32))
    # Decoding: the rows have moved, one request has ended, and a preempted one starts anew with its generated tokens.
    later = [Row("r2", 0, 1, 4, 4), Row("r0", 1, 7, 0, 5)]
    y, base = torch.randn(8, x.shape[1]), torch.randn(8, out.shape[1])
    got = base.clone()
    served.begin(later, ["r1"])
    served.read_(got, y)
    torch.testing.assert_close(got, _expected(edited, later, y, base, [0, 1]))
    assert set(served.readers) == {"r0", "r2"} and served.counts == {"matched": 2, "unmatched": 1}
    # A pass that no runner announced (a dummy one) reads nothing.
    again = base.clone()
    served.read_(again, y)
    assert torch.equal(again, base)


def test_a_prompt_in_parts_is_an_error(edited):
    served = _served(edited)
    _, x, out = _pass(edited, [EDITS[0][0]])
    for row in (Row("r", 0, 2, 0, 4), Row("r", 0, 4, 2, 6)):
        served.begin([row], [])
        with pytest.raises(RuntimeError, match="whole prompt"):
            served.read_(out, x)


@pytest.mark.parametrize(
    ("extra", "edit"),
    [(None, 0), ({"memoir": "off"}, None), ({"memoir_edit": 1}, 1), ({"memoir_edit": 7}, None), ({"memoir_tags": ["a"]}, 0),
     ({"memoir_tags": ["b"]}, None), ({"memoir_tags": ["z"], "memoir_untagged": 1}, None), ({"memoir_span": [0, 4]}, 0), ({"other": 1}, 0),
     ({"memoir": "off", "memoir_explain": 1}, None)],
)  # fmt: skip
def test_what_requests_ask_for(edited, extra, edit):
    served = _served(edited)
    (row,), x, out = _pass(edited, [EDITS[0][0]])
    got = out.clone()
    served.begin([Row(row.request, 0, row.tokens, 0, row.prompt, extra)], [])
    served.read_(got, x)
    torch.testing.assert_close(got, _expected(edited, [row], x, out, [edit]))


@pytest.mark.parametrize(
    "extra",
    [{"memoir_explain": 2}, {"memoir_explain": [1]}, {"memoir": "on"}, {"memoir_edit": -1}, {"memoir_edit": True}, {"memoir_tags": "a"}, {"memoir_untagged": 1}, {"memoir_span": [2, 2]},
     {"memoir_span": [0, 9]}, {"memoir_span": 3}, {"memoir": "off", "memoir_edit": 1}, {"memoirs": 1}],
)  # fmt: skip
def test_malformed_wishes_are_refused_by_name(extra):
    with pytest.raises(ValueError, match=r"vllm_xargs: memoir"):
        Choice.of(extra, 8)


def test_two_tensor_parallel_ranks_add_up_to_one(edited):
    rows, x, out = _pass(edited, [EDITS[0][0], UNRELATED, EDITS[1][0]])
    half = x.shape[1] // 2
    pools = {}

    def gather_of(rank):
        # Both ranks run in this thread: what the other one would send is computed from its columns.
        def gather(mine):
            pools[rank] = mine
            other = torch.cat([x[r.start : r.start + r.tokens].mean(0, keepdim=True) for r in rows])
            other = other[:, half:] if rank == 0 else other[:, :half]
            return torch.cat([mine, other] if rank == 0 else [other, mine], 1)

        return gather

    total = out.clone()
    for rank in (0, 1):
        served = _served(edited, rank, 2, gather_of(rank))
        served.begin(rows, [])
        part = torch.zeros_like(out)
        served.read_(part, x[:, rank * half : (rank + 1) * half])
        total += part
        assert [None if r is None else r.edit for r in served.readers.values()] == [0, None, 1]
    torch.testing.assert_close(total, _expected(edited, rows, x, out, [0, None, 1]))
    with pytest.raises(ValueError, match="split among 5"):
        _served(edited, 0, 5)


def test_a_refresh_leaves_running_requests_their_table(edited):
    served = _served(edited)
    (row,), x, out = _pass(edited, [EDITS[0][0]])
    later = Row("r0", 0, row.tokens, row.tokens, row.prompt)
    wanted = _expected(edited, [later], x, out, [0])
    served.begin([row], [])
    served.read_(out.clone(), x)
    edited.delete(0)
    assert served.load(tables_of(edited.store)) == 1
    got, fresh = out.clone(), out.clone()
    served.begin([later], [])
    served.read_(got, x)
    torch.testing.assert_close(got, wanted)
    served.begin([Row("new", 0, row.tokens, 0, row.prompt)], ["r0"])
    served.read_(fresh, x)
    assert torch.equal(fresh, out)
    incomplete = {name: tensor for name, tensor in tables_of(edited.store).items() if not name.endswith("tags")}
    with pytest.raises(ValueError, match=r"lack memoir\.tags"):
        served.load(incomplete)


def test_an_empty_memory_serves_the_base_model(tmp_path):
    model = tiny_memoir("llama")
    model.create_store(str(tmp_path / "store"))
    served = _served(model)
    (row,), x, out = _pass(model, [EDITS[0][0]])
    got = out.clone()
    served.begin([row], [])
    served.read_(got, x)
    assert torch.equal(got, out) and served.counts == {"unmatched": 1}


# ---- the runners' rows, with fakes of vLLM's structures ----------------------------------------------------------


def test_rows_of_runner_v1():
    params = SimpleNamespace(extra_args={"memoir": "off"})
    runner = SimpleNamespace(
        input_batch=SimpleNamespace(num_reqs=2, req_ids=["b", "a", None], num_computed_tokens_cpu=np.array([3, 0, 0]),
                                    num_prompt_tokens=np.array([3, 5, 0])),
        requests={"a": SimpleNamespace(sampling_params=params, prompt_token_ids=[7, 8, 9, 10, 11]),
                  "b": SimpleNamespace(sampling_params=None, prompt_token_ids=[4, 5, 6])},
    )  # fmt: skip
    scheduled = SimpleNamespace(num_scheduled_tokens={"a": 5, "b": 1})
    assert rows_of_v1(runner, scheduled) == [
        Row("b", 0, 1, 3, 3, None, [4, 5, 6]),
        Row("a", 1, 5, 0, 5, {"memoir": "off"}, [7, 8, 9, 10, 11]),
    ]


def test_runner_v2_keeps_what_a_preempted_request_reads(edited):
    served = _served(edited)
    state = StateV2(served)
    (row,), x, out = _pass(edited, [EDITS[0][0]])
    wanted = _expected(edited, [row], x, out, [0])
    states = SimpleNamespace(prompt_len=SimpleNamespace(np=np.array([0, 0, row.prompt])))

    def batch(tokens, computed):
        return SimpleNamespace(req_ids=["q"], num_reqs=1, idx_mapping_np=np.array([2]), query_start_loc_np=np.array([0, tokens]),
                               num_computed_tokens_np=np.array([computed]))  # fmt: skip

    assert rows_of_v2(batch(4, 0), states, {}) == [Row("q", 0, 4, 0, row.prompt)]
    state.add("q", SimpleNamespace(extra_args=None))
    state.prepare(batch(row.tokens, 0), states)
    got = out.clone()
    served.read_(got, x)
    torch.testing.assert_close(got, wanted)
    state.remove("q")  # preempted, and back with one generated token
    state.add("q", SimpleNamespace(extra_args=None))
    longer, base = torch.cat([x, x[:1]]), torch.cat([out, out[:1]])
    state.prepare(batch(row.tokens + 1, 0), states)
    served.read_(base, longer)
    torch.testing.assert_close(base[: len(x)], wanted)
    assert served.counts == {"matched": 1}
    state.KEPT = 0
    state.remove("q")
    other = SimpleNamespace(**{**vars(batch(row.tokens, 0)), "req_ids": ["s"]})
    state.prepare(other, states)
    assert "q" not in served.readers


# ---- exports -----------------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(edited, tmp_path):
    """The base model's folder, as the store's fingerprint knows it."""
    folder = tmp_path / "base"
    base = edited.detach()
    base.save_pretrained(folder)
    edited.tokenizer.save_pretrained(folder)
    edited.close()
    return folder, tmp_path / "store"


def test_an_export_is_a_checkpoint_of_its_own_architecture(checkpoint, tmp_path, capsys):
    base, store = checkpoint
    to = tmp_path / "export"
    assert (
        cli.main(["export", "--target", "vllm", "--store", str(store), "--model", str(base), "--to", str(to)]) == 0
    ), capsys.readouterr()
    config = json.loads((to / "config.json").read_text())
    assert (
        config["architectures"] == ["MemoirLlamaForCausalLM"]
        and config["memoir"]["target"] == "model.layers.1.mlp.down_proj"
    )
    assert is_export(to) and not is_export(base)
    assert (to / "model.safetensors").is_symlink()
    tensors = load_file(to / "memoir.safetensors")
    with Store(store) as opened:
        expected = tables_of(opened)
    assert tensors.keys() == expected.keys() == {PREFIX + name for name in NAMES}
    assert all(torch.equal(tensors[name], expected[name]) for name in tensors)
    export_vllm(store, str(base), to, copy=True)  # an earlier export is replaced
    assert not (to / "model.safetensors").is_symlink()


def test_a_checkpoint_in_parts_lists_the_memory(checkpoint, tmp_path):
    base, store = checkpoint
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "model.safetensors"}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    to = export_vllm(store, str(base), tmp_path / "export")
    listed = json.loads((to / "model.safetensors.index.json").read_text())["weight_map"]
    assert listed["memoir.V"] == "memoir.safetensors" and listed["lm_head.weight"] == "model.safetensors"


def test_exports_of_other_models_and_into_other_folders_are_refused(checkpoint, tmp_path):
    base, store = checkpoint
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep me")
    with pytest.raises(ValueError, match="no earlier export"):
        export_vllm(store, str(base), tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").exists()
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "hidden_size": 48}))
    with pytest.raises(ValueError, match=r"another base model.*hidden_size"):
        export_vllm(store, str(base), tmp_path / "export")
    (base / "config.json").write_text(json.dumps({**config, "architectures": ["PhiForCausalLM"]}))
    with pytest.raises(ValueError, match="is a PhiForCausalLM; vLLM export takes Llama"):
        export_vllm(store, str(base), tmp_path / "export")
    assert not (tmp_path / "export").exists()


def test_a_damaged_export_is_told_in_a_sentence(checkpoint, tmp_path):
    base, store = checkpoint
    to = export_vllm(store, str(base), tmp_path / "export")
    with Store(store) as opened:
        assert edits_of(to) == set(opened.edits)
    whole = (to / "memoir.safetensors").read_bytes()
    ids = save({"memoir.ids": torch.zeros(2, 2)})
    for data in (whole[:-5], whole[8:], b"", ids, save({"memoir.V": torch.zeros(1)})):
        (to / "memoir.safetensors").write_bytes(data)
        with pytest.raises(ValueError, match=r"memoir\.safetensors.*export the store again"):
            edits_of(to)
    (to / "config.json").unlink()
    os.mkfifo(to / "config.json")
    with within():
        assert not is_export(to)


def test_an_export_that_breaks_off_leaves_the_earlier_one(checkpoint, tmp_path, monkeypatch):
    base, store = checkpoint
    to = export_vllm(store, str(base), tmp_path / "out" / "export")
    before = {path.name: path.read_bytes() for path in to.iterdir()}

    def full(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr("memoir_fast.serving.export.save", full)
    with pytest.raises(OSError, match="no space"):
        export_vllm(store, str(base), to)
    assert {path.name: path.read_bytes() for path in to.iterdir()} == before
    assert [path.name for path in to.parent.iterdir()] == ["export"]
    monkeypatch.undo()
    assert is_export(export_vllm(store, str(base), to)) and [path.name for path in to.parent.iterdir()] == ["export"]


@pytest.mark.parametrize(
    ("router", "acts", "whole"), [("mask", "answer", True), ("tokens", "all", True), ("tokens", "answer", False)]
)
def test_the_server_gets_the_flags_that_an_edited_model_needs(tmp_path, router, acts, whole):
    model = tiny_memoir("llama", router=router, acts=acts, steps=1)
    model.create_store(str(tmp_path / "s"))
    model.close()
    options = SimpleNamespace(store=tmp_path / "s", to=None, model="smollm2", served_model_name=None, host="127.0.0.1", port=81,
                              max_model_len=4096, vllm=["--dtype", "float32"])  # fmt: skip
    command = server_command(options)
    assert command[command.index("--model") + 1] == f"{tmp_path / 's'}-vllm"
    assert command[command.index("--max-num-batched-tokens") + 1] == "4096"
    assert "--middleware" in command and command[-1] == "float32"
    assert {"--no-enable-prefix-caching", "--no-enable-chunked-prefill"} & set(command) == (
        set(FLAGS) if whole else set()
    )
