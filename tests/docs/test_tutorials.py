"""What the documentation shows runs as it stands: the README's example, the tutorial's Python blocks, and the examples.

Everything runs with the real small model, in an empty folder. To keep that short, a new memory is measured with the first 160 of the
shipped unrelated prompts instead of all 500, and one loaded base model is handed out as copies; nothing else is changed. Blocks that begin with
`# needs: vllm` are compiled only; the example of a vLLM client runs in tests/vllm, beside a server, and the published experiments', which
takes arguments, in tests/compat.
"""

from __future__ import annotations

import copy
import re
import runpy
import sys
from pathlib import Path

import pytest

import memoir_fast.compat.easyedit  # noqa: F401, loaded before anything is replaced in it
from memoir_fast import BackgroundTexts, MemoirModel, load_model, load_texts

ROOT = Path(__file__).parents[2]
TUTORIAL = sorted((ROOT / "docs" / "tutorial").glob("*.md"))
ELSEWHERE = ("vllm_client.py", "lifelong_editing.py")
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if path.name not in ELSEWHERE)
NEEDS_VLLM = "# needs: vllm"

# What a page must print, whatever the figures are on this machine.
PRINTED = {
    "README.md": ["Lena Ortiz", "Paris"],
    "first-edit.md": ["after: Lena Ortiz", "reads edit 0", "reads edit None", "loaded: Lena Ortiz"],
    "keeping-edits.md": ["replaced [0]", "now: Milo Hart", "after delete: Lena Ortiz", "active edits: [0]", "reader: Milo Hart"],
    "chat.md": ["Lena Ortiz"],
    "easyedit.md": ["is Morvane", "rewrite_acc"],
    "quickstart.py": ["Lena Ortiz", "Paris", "loaded again: Lena Ortiz"],
    "chat.py": ["Lena Ortiz", "Paris"],
    "store.py": ["replaced [0]: Milo Hart", "edit 1 deleted: Lena Ortiz", "by ann, active"],
    "easyedit.py": ["rewrite_acc"],
}  # fmt: skip


def blocks(page: Path) -> list[str]:
    """The page's Python blocks, in order."""
    return re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def here(smollm2, tmp_path, monkeypatch):
    """An empty folder to work in, and a library whose new memories are measured with fewer prompts."""
    texts = BackgroundTexts(load_texts().records[:160])
    make = MemoirModel.__init__

    def measured(self, model, tokenizer, config=None, background=None, *args, **kwargs):
        few = background is None or isinstance(background, BackgroundTexts)
        make(self, model, tokenizer, config, texts if few else background, *args, **kwargs)

    monkeypatch.setattr(MemoirModel, "__init__", measured)
    for module in [m for name, m in sys.modules.items() if name.startswith("memoir_fast.")]:
        if getattr(module, "load_model", None) is load_model:
            monkeypatch.setattr(module, "load_model", lambda *_, **__: copy.deepcopy(smollm2))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def missing(name: str, out: str) -> list[str]:
    """What a page or an example should have printed and did not."""
    flat = " ".join(out.split())
    return [text for text in PRINTED[name] if text not in flat]


@pytest.mark.parametrize("page", [ROOT / "README.md", *TUTORIAL], ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page, here, capsys):
    code = blocks(page)
    assert code, f"{page} has no Python block"
    run = [part for part in code if not part.startswith(NEEDS_VLLM)]
    namespace = {"__name__": "__main__"}
    for number, part in enumerate(code):
        compiled = compile(part, f"{page.name}, block {number}", "exec")
        if part in run:
            exec(compiled, namespace)
    out = capsys.readouterr().out
    assert not run or not missing(page.name, out), out


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs(path, here, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    out = capsys.readouterr().out
    assert not missing(path.name, out), out


def test_every_python_block_of_the_documentation_compiles():
    pages = sorted((ROOT / "docs").rglob("*.md"))
    found = [(page, number, part) for page in pages for number, part in enumerate(blocks(page))]
    assert len(found) >= 20
    for page, number, part in found:
        compile(part, f"{page.name}, block {number}", "exec")
