"""The longer cases: tensor parallelism, LoRA, speculation, compilation, separate processes (make test-vllm-all)."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.vllm.support import DATA, asked, counters, front_ends_command, request, running

pytestmark = pytest.mark.long


def _tokens(batch):
    return [answer["tokens"] for answer in batch]


def _few(edited):
    chosen = [0, 1, 14, 15, 27, 28]
    return [edited.prompts[i] for i in chosen], [edited.answers[i] for i in chosen]


def _mixed() -> list[str]:
    """Two hundred prompts about twenty stored edits, about other facts, and about nothing."""

    def lines(name: str, first: int, last: int) -> list[dict]:
        return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text("utf-8").splitlines()[first:last]]

    stored = lines("zsre", 0, 20)
    prompts, rephrased = ([row[name] for row in stored] for name in ("prompt", "rephrase_prompt"))
    varied = [text.lower() for text in prompts] + [
        f"I am writing a report. It has to be right. {text}" for text in prompts
    ]
    varied += [f"{text} Please answer briefly." for text in rephrased]
    others = [
        row["prompt"] for row in [*lines("zsre", 20, 60), *lines("background", 0, 20), *lines("hallucination", 0, 20)]
    ]
    return prompts + rephrased + varied + [row["locality_prompt"] for row in stored] + others


def test_two_hundred_mixed_prompts_read_what_the_hugging_face_path_reads(edited, engine):
    prompts, tokens = _mixed(), 6
    assert len(prompts) == 200
    routes = [edited.model.route(prompt)["edit"] for prompt in prompts]
    matched = [number for number, edit in enumerate(routes) if edit is not None]
    assert 60 <= len(matched) <= 140, len(matched)
    found = engine(edited.export, [asked(prompts)], tokens=tokens)
    base = engine(edited.base, [asked(prompts)], tokens=tokens)["batches"][0]
    served = found["batches"][0]
    assert found["counts"]["matched"] == len(matched)
    assert [n for n in range(200) if served[n] != base[n]] == matched  # tokens, and log-probabilities to the last bit
    wrong = [n for n in matched if served[n]["tokens"] != edited.answer(prompts[n], tokens=tokens)]
    assert not wrong, [(prompts[n], routes[n]) for n in wrong]


def test_compiled(edited, engine):
    prompts, wanted = _few(edited)
    assert _tokens(engine(edited.export, [asked(prompts)], enforce_eager=False)["batches"][0]) == wanted


def test_ngram_speculation(edited, engine):
    prompts, wanted = _few(edited)
    settings = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 3, "prompt_lookup_min": 1}
    assert _tokens(engine(edited.export, [asked(prompts)], speculative_config=settings)["batches"][0]) == wanted


def test_engine_and_worker_in_processes_of_their_own(edited, engine):
    prompts, wanted = _few(edited)
    found = engine(edited.export, [asked(prompts)], environment={"VLLM_ENABLE_V1_MULTIPROCESSING": "1"},
                   live={"store": str(edited.store), "prompt": prompts[0], "delete": 0})  # fmt: skip
    assert _tokens(found["batches"][0]) == wanted
    assert found["live"]["running"] == wanted[0] == found["live"]["restored"] != found["live"]["after"]


def test_a_lora_adapter_around_the_edited_projection(edited, engine, tmp_path):
    """A zero adapter: the answers must stay what they are."""
    from peft import LoraConfig, get_peft_model

    from memoir_fast.base.loading import load_model

    prompts, wanted = _few(edited)
    adapter = get_peft_model(load_model("smollm2")[0], LoraConfig(r=8, target_modules=["down_proj"]))
    adapter.save_pretrained(tmp_path / "zero")
    found = engine(edited.export, [asked(prompts, lora=str(tmp_path / "zero"))], enable_lora=True, max_lora_rank=8)
    assert _tokens(found["batches"][0]) == wanted


def test_two_tensor_parallel_processes(edited, engine, tmp_path):
    """Nine heads cannot be split among two: they are padded with zero heads, which is the same function."""
    import torch
    from safetensors.torch import load_file, save_file

    prompts, wanted = _few(edited)
    folder = tmp_path / "padded"
    shutil.copytree(edited.export, folder)
    (folder / "model.safetensors").unlink()
    tensors, wide = load_file(edited.export / "model.safetensors"), 64
    for name, heads, axis in (("q_proj", 12, 0), ("k_proj", 4, 0), ("v_proj", 4, 0), ("o_proj", 12, 1)):
        for key in [key for key in tensors if f".{name}." in key]:
            tensor = tensors[key]
            groups = 9 if heads == 12 else 3
            parts = list(tensor.split(wide, axis))
            assert len(parts) == groups
            tensors[key] = torch.cat(
                [*parts, *(torch.zeros_like(parts[0]) for _ in range(heads - groups))], axis
            ).contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config.update(num_attention_heads=12, num_key_value_heads=4, head_dim=wide)
    (folder / "config.json").write_text(json.dumps(config))
    bound = {"VLLM_CPU_OMP_THREADS_BIND": "0|1", "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    found = engine(
        folder,
        [asked(prompts)],
        environment=bound,
        tensor_parallel_size=2,
        distributed_executor_backend="mp",
        live={"store": str(edited.store), "prompt": edited.prompts[0], "delete": 0},
    )
    assert _tokens(found["batches"][0]) == wanted
    live = found["live"]  # each process takes its columns of the page that changed
    assert live["kept"] == [3, 2] and live["again"]["edits"] == live["refreshed"]["edits"] + 1 == 20
    assert live["running"] == edited.answers[0] == live["restored"] != live["after"]
    assert found["counts"]["matched"] == 4 + 2


def test_two_front_ends_agree(edited, tmp_path):
    """`vllm serve --api-server-count 2`: a refresh through one counts for both, and both tell the same numbers."""
    from memoir_fast.store import Store

    def outcomes(url, edit):
        asked = {"model": "served", "prompt": "Hello", "max_tokens": 1, "vllm_xargs": {"memoir_edit": edit}}
        return {request(url + "/v1/completions", asked)[0] for _ in range(16)}  # each connection meets either front end

    with running(front_ends_command(edited.export, 2), tmp_path) as url:
        assert outcomes(url, 0) == {200} and outcomes(url, 99) == {400}
        with Store(edited.store, writer=True) as store:
            store.delete(0)
        try:
            assert request(url + "/memoir/refresh")[1]["edits"] == 19
            assert outcomes(url, 0) == {400}
        finally:
            with Store(edited.store, writer=True) as store:
                store.restore(0)
        assert request(url + "/memoir/refresh")[1]["edits"] == 20
        assert outcomes(url, 0) == {200}
        told = [counters(url) for _ in range(16)]
    assert all(one == told[0] for one in told)
    assert (told[0]["matched"], told[0]["refused"], told[0]["generation"]) == (32, 32, 2)
