"""Which families and which ways of loading work: measured on tiny random models, one row each, and the page that shows the rows.

`python -m tests.fits.compatibility` writes docs/reference/compatibility.md anew; tests/fits/test_compatibility.py compares it. With `environment` it
writes the line of the versions that it runs on, and leaves the rest.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import AutoTokenizer

from memoir_fast import MemoirConfig, MemoirModel
from memoir_fast.serving.export import export_vllm
from tests.support.families import FAMILIES, tiny_family
from tests.support.models import background_texts, letter_tokenizer, tiny_model, word_tokenizer

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "compatibility.md"
EDIT = ("w100 w101 w102 w103", "w150 w151")
BEGIN, END = "<!-- {}: written by tests/fits/compatibility.py -->\n", "<!-- end -->"


def attached(model, layer: int | str = 1) -> MemoirModel:
    """A memory on a tiny model, without edits."""
    config = MemoirConfig(
        layer=layer, top_k=8, chat_template=False, contexts=0, router="mask", threshold=0.7, steps=120
    )
    return MemoirModel(model, word_tokenizer(), config, background_texts())


def generated(model) -> str:
    """What the wrapped model's own generate answers to the edit's prompt."""
    ids = torch.tensor([word_tokenizer()(EDIT[0])["input_ids"]])
    out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=2, do_sample=False)
    return word_tokenizer().decode(out[0, ids.shape[1] :])


def _yes(held: bool) -> str:
    return "yes" if held else "NO"


def family_row(family: str) -> str:
    """A family's line of the table, or the sentence with which it is refused."""
    base = tiny_family(family)
    try:
        model = attached(base)
    except ValueError as error:
        return f"| {family} | refused: {_cell(str(error))} | | | | | |"
    path = model.target.path
    before = model.ask(EDIT[0], max_new_tokens=2)
    with tempfile.TemporaryDirectory() as folder:
        model.edit(*EDIT)
        told = [_yes(model.ask(EDIT[0], max_new_tokens=2) == EDIT[1] != before)]
        told.append(_yes(generated(model.model) == EDIT[1]))
        model.save_pretrained(f"{folder}/memory")
        loaded = MemoirModel.load(f"{folder}/memory", model.detach(), word_tokenizer())
        told.append(_yes(generated(loaded.model) == EDIT[1]))
        loaded.detach()
        served = _exported(base, Path(folder))
        told += [_adapted(base, path), served]
    return f"| {family} | `{path}` | {' | '.join(told)} |"


def _exported(base, folder: Path) -> str:
    """Whether a store of the family is exported for vLLM, or refused as the page says above the table."""
    for part in (base, letter_tokenizer()):
        part.save_pretrained(folder / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")  # as vLLM reads it
    config = MemoirConfig(layer=1, top_k=8, chat_template=False, contexts=0, router="mask", threshold=0.7, steps=1)
    model = MemoirModel(base, tokenizer, config, background_texts())
    model.create_store(str(folder / "store"))
    model.edit(*EDIT)
    model.close()
    model.detach()
    try:
        export_vllm(folder / "store", str(folder / "base"), folder / "export")
    except ValueError as error:
        sentence = re.sub(r"^model: \S+ is a \w+", "model: MODEL is a CLASS", str(error))
        return "refused at export" if f"`{sentence}`" in PAGE.read_text("utf-8") else f"refused: {_cell(str(error))}"
    return _yes((folder / "export" / "memoir.safetensors").is_file())


def _adapted(base, path: str) -> str:
    """Whether a memory on the family with LoRA on the edited projection learns, and generates through PEFT's own generate."""
    import peft

    torch.manual_seed(0)
    config = peft.LoraConfig(
        r=2, target_modules=[path.rpartition(".")[2]], task_type="CAUSAL_LM", init_lora_weights=False
    )
    wrapped = peft.get_peft_model(base, config).eval()
    model = attached(wrapped)
    model.edit(*EDIT)
    return _yes(generated(wrapped) == EDIT[1] == model.ask(EDIT[0], max_new_tokens=2))


# ---- weights: dtypes, quantisations and places -------------------------------------------------------------------


def _torchao(config: str, **settings: object) -> Callable[[], torch.nn.Module]:
    def make():
        from torchao import quantization

        model = tiny_model("llama")
        quantization.quantize_(model, getattr(quantization, config)(**settings))
        return model

    return make


def _offloaded_to_disk():
    from accelerate import disk_offload

    return disk_offload(tiny_model("llama"), tempfile.mkdtemp(), torch.device("cpu"))


def _offloaded_to_cpu():
    from accelerate import cpu_offload

    model = tiny_model("llama")
    cpu_offload(model, torch.device("cpu"))
    return model


def _loaded(config: str, **settings: object) -> Callable[[], torch.nn.Module]:
    """A checkpoint that transformers quantises while it loads it; with sizes that blocks of 64 divide."""

    def make():
        import transformers

        base = tiny_family("llama", hidden_size=64, intermediate_size=192, head_dim=16)
        with tempfile.TemporaryDirectory() as folder:
            base.save_pretrained(folder)
            quantisation = getattr(transformers, config)(**settings)
            return transformers.AutoModelForCausalLM.from_pretrained(folder, quantization_config=quantisation)

    return make


WEIGHTS: dict[str, Callable[[], torch.nn.Module]] = {
    "float32": lambda: tiny_model("llama"),
    "bfloat16": lambda: tiny_model("llama").bfloat16(),
    "float16": lambda: tiny_model("llama").half(),
    "float64": lambda: tiny_model("llama").double(),
    "int8 weights (torchao)": _torchao("Int8WeightOnlyConfig"),
    "int4 weights, one scale a row (torchao)": _torchao("IntxWeightOnlyConfig", weight_dtype=torch.int4),
    "float8 weights (torchao)": _torchao("Float8WeightOnlyConfig"),
    "int8 weights and activations (torchao)": _torchao("Int8DynamicActivationInt8WeightConfig"),
    "int8 dynamic (torch.ao)": lambda: torch.ao.quantization.quantize_dynamic(
        tiny_model("llama"), {torch.nn.Linear}, torch.qint8
    ),
    "int8 (bitsandbytes)": _loaded("BitsAndBytesConfig", load_in_8bit=True),
    "4 bits, nf4 (bitsandbytes)": _loaded("BitsAndBytesConfig", load_in_4bit=True, bnb_4bit_quant_type="nf4"),
    "int8 (optimum-quanto)": _loaded("QuantoConfig", weights="int8"),
    "4 bits (optimum-quanto)": _loaded("QuantoConfig", weights="int4"),
    "offloaded to the CPU (accelerate)": _offloaded_to_cpu,
    "offloaded to disk (accelerate)": _offloaded_to_disk,
    "DataParallel": lambda: torch.nn.DataParallel(tiny_model("llama")),
    "torch.compile": lambda: torch.compile(tiny_model("llama"), backend="eager"),
}
# Lines that need a package which the tests' environment may lack.
NEEDS = {"torchao)": "torchao", "bitsandbytes)": "bitsandbytes", "optimum-quanto)": "optimum.quanto"}


def weights_row(name: str) -> str:
    """A line of the second table."""
    try:
        model = attached(WEIGHTS[name]())
        model.edit(*EDIT)
    except ValueError as error:
        return f"| {name} | refused: {_cell(str(error))} |"
    return f"| {name} | {_yes(generated(model.inner) == EDIT[1] == model.ask(EDIT[0], max_new_tokens=2))} |"


# ---- versions: a line for each environment in which it was run ---------------------------------------------------


def environment() -> str:
    """The versions that this process runs on, as the first cells of a line."""
    found = (".".join(map(str, sys.version_info[:2])), *map(version, ("torch", "transformers", "peft")))
    return "| " + " | ".join(one.partition("+")[0] for one in found) + " |"


def environment_row() -> str:
    """The line of this environment: its versions, and what the tiny Llama shows."""
    return f"{environment()} {family_row('llama').split(' | ', 2)[2]}"


def _with_environment(lines: list[str]) -> list[str]:
    """The lines of the environments, with this one's in its place: the newest come first."""
    found = [line for line in lines if not line.startswith(environment())] + [environment_row()]
    return sorted(
        found,
        key=lambda line: [[int(n) for n in re.findall(r"\d+", cell)] for cell in line.split("|")[1:5]],
        reverse=True,
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def rows_of(page: str, table: str) -> list[str]:
    """The lines that the page shows in one of its tables, below the heading."""
    return page.split(BEGIN.format(table))[1].split(END)[0].splitlines()[2:]


def main() -> None:
    """Write the page's tables."""
    page = PAGE.read_text("utf-8")
    tables: dict[str, Callable[[list[str]], list[str]]] = {
        "families": lambda _: [family_row(name) for name in FAMILIES],
        "weights": lambda _: [weights_row(name) for name in WEIGHTS],
        "environments": _with_environment,
    }
    for table in ["environments"] if sys.argv[1:] == ["environment"] else tables:
        before, rest = page.split(BEGIN.format(table))
        old, after = rest.split(END, 1)
        head, lines = old.splitlines()[:2], old.splitlines()[2:]
        page = before + BEGIN.format(table) + "\n".join([*head, *tables[table](lines)]) + "\n" + END + after
    PAGE.write_text(page, "utf-8")


if __name__ == "__main__":
    main()
