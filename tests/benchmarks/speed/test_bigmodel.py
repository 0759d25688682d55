"""The benchmark of big shapes, on a tiny one; and that what it measures against is what it says. (Tests that need the real model's tokenizer ask
for the fixture of that model, whose conversion is kept.)"""

from __future__ import annotations

import json
import sys

import pytest
import torch

from benchmarks import rows
from benchmarks.speed import big_case, bigmodel
from benchmarks.speed.big_shapes import SHAPES, config_of, make_model, tokenizer_for
from benchmarks.speed.products import Products, products_of


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux counts it")
@pytest.mark.parametrize(("dtype", "place"), [("float32", "memory"), ("bfloat16", "memory"), ("bfloat16", "disk")])
def test_a_case_is_measured_in_a_process_of_its_own(dtype, place, smollm2, tmp_path, monkeypatch):
    options = [
        "--cases",
        f"tiny:{dtype}:{place}",
        "--count",
        "2",
        "--stored",
        "20",
        "--json",
        str(tmp_path / "row.json"),
    ]
    monkeypatch.setattr(sys, "argv", ["bigmodel", *options])
    bigmodel.main()
    row = rows.Row(**json.loads((tmp_path / "row.json").read_text()))
    (found,) = row.result["rows"]
    assert (found["shape"], found["dtype"], found["layer"], found["layers_above"]) == ("tiny", dtype, 1, 2)
    assert (found["place"], found["path"]) == (place, "Suffix")
    assert found["ratio"] > 0.5 and found["ratio_cpu"] > 0.5 and found["floor_s"] > 0 and found["stored"] == 20
    assert all(last < first / 2 for first, last in found["losses"])
    assert abs(found["off"]["record_bytes"]) < 0.15
    assert found["oracle"]["gradient_cosine"] > 0.98


def test_a_wrong_gradient_ends_the_run(smollm2, monkeypatch):
    args = bigmodel.options().parse_args(["--count", "1", "--stored", "2"])
    whole = big_case.by_autograd
    monkeypatch.setattr(big_case, "by_autograd", lambda *given: (whole(*given)[0], torch.randn_like(whole(*given)[1])))
    with pytest.raises(SystemExit, match="not autograd's"):
        big_case.measured("tiny", "float32", args)


def test_the_products_are_those_of_a_step():
    model = make_model(SHAPES["tiny"], torch.float32)
    layers = list(model.model.layers)[2:]
    attention, ffn, head = (2 + 2 * 0.5) * 64 * 64, 3 * 64 * 256, 32_000 * 64
    shared = 2 * 0.5 * 64 * 64  # keys and values, with half as many heads
    wanted = 2 * 2 * (30 * (attention + ffn) + 30 * shared + 5 * (attention - shared + ffn) + 5 * head)
    products = Products(products_of(model, layers, acting=30, aims=5, head_rows=32_000))
    assert products.operations == wanted and products.seconds(1).work > 0


@pytest.mark.parametrize("name", ["tinyllama-1.1b", "qwen3-1.7b"])
def test_a_tokenizer_fits_its_vocabulary(name, smollm2):
    size = config_of(SHAPES[name]).vocab_size
    tokenizer = tokenizer_for(size)
    text = "Who chairs the harbour board of Tellmark? Naïve café, 東京."
    tokens = tokenizer(text)["input_ids"]
    assert max(tokens) < size and tokenizer.decode(tokens) == text
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
    )
    assert text in chat and tokenizer(chat)["input_ids"][0] == 1 and tokenizer.eos_token_id == 2
