"""What the tree of benchmarks promises: small files, no private names of the library, its internals imported in one place."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import benchmarks

FOLDER = Path(benchmarks.__file__).parent
FILES = sorted(FOLDER.rglob("*.py"))
INTERNALS = {FOLDER / "library.py"}  # the only file that looks below the front of memoir_fast
PUBLIC = {"memoir_fast", "memoir_fast_kernels"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_file_keeps_the_rules(path):
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    assert len(text.splitlines()) <= 400
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno < 60, f"{node.name} is too long"
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PUBLIC:
            assert not any(alias.name.startswith("_") for alias in node.names), ast.unparse(node)
            assert path in INTERNALS or node.module in PUBLIC, (
                f"{ast.unparse(node)}: import it through benchmarks.library"
            )
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            assert ast.unparse(node.value) in ("self", "cls"), f"{ast.unparse(node)} is private"
        assert "sys.path" not in ast.unparse(node) if isinstance(node, ast.Attribute) else True


def test_every_script_says_how_it_is_run():
    scripts = [path for path in FILES if "def main(" in path.read_text()]
    readme = (FOLDER / "README.md").read_text()
    for path in scripts:
        module = ".".join(path.relative_to(FOLDER.parent).with_suffix("").parts).removesuffix(".__main__")
        assert f"python -m {module}" in path.read_text() and f"python -m {module}" in readme, module


@pytest.mark.parametrize("module", ["quality.newer", "quality.peers", "experiments.features", "speed.scaling", "speed.serving", "speed.serving_load", "speed.serving_prefix", "speed.dropin",
                                    "speed.threads", "speed.factorise", "speed.lookup", "speed.long_edits", "speed.kernels", "speed.batched",
                                    "speed.generate", "speed.checkouts", "speed.routing_cost", "speed.edit_speed", "speed.ops", "speed.bigmodel"])  # fmt: skip
def test_a_script_can_be_imported(module):
    assert callable(importlib.import_module(f"benchmarks.{module}").main)
