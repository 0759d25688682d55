"""The plan that the tree shows: who may import whom, and how large a file and a function may be."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "memoir_fast"
# Lower first; a package may import those of the lines above its own, and of its own line only itself.
ORDER = [
    {"errors", "config", "defaults", "text", "base"},
    {"ops"},
    {"memory"},
    {"reading"},
    {"editing"},
    {"journal"},
    {"store"},
    {"model"},
    {"evaluation"},
    {"serving", "compat"},
    {"cli"},
]
# Within the first line: base and text know errors, config and the defaults of settings.
WITHIN = {
    ("base", "errors"),
    ("base", "config"),
    ("base", "defaults"),
    ("text", "errors"),
    ("text", "config"),
    ("config", "errors"),
}
SOURCES = sorted(
    p
    for folder in ("memoir_fast", "kernels", "benchmarks", "tests", "docs", "examples")
    for p in (ROOT / folder).rglob("*.py")
)


def _imports(path: Path):
    """(line, room, names) of what a file of the package imports from the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = parts[: len(parts) - node.level]
            absolute = [*base, *(node.module or "").split(".")] if node.module else list(base)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "memoir_fast":
            absolute = node.module.split(".")
        else:
            continue
        if absolute[0] != "memoir_fast":
            continue
        names = [alias.name for alias in node.names]
        for name in [absolute[1]] if len(absolute) > 1 else names:
            yield node.lineno, name, names


def _level(room: str) -> int:
    return next(number for number, rooms in enumerate(ORDER) if room in rooms)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    room = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if room == "__init__":
        return  # names the public ones, and loads them on first use
    for line, other, names in _imports(path):
        if other in ("__version__", room):
            continue
        below = _level(other) < _level(room) or (room, other) in WITHIN
        assert below, f"{path.relative_to(ROOT)}:{line}: {room} must not import {other}"
        private = [name for name in names if name.startswith("_") and not name.startswith("__")]
        assert not private, f"{path.relative_to(ROOT)}:{line}: {private} of {other} are its own"


def test_every_room_has_its_line():
    rooms = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").is_file()} | {
        p.stem for p in PACKAGE.glob("*.py")
    }
    assert rooms - {"__init__"} == set().union(*ORDER)


def test_compat_stands_on_public_names_and_nothing_stands_on_benchmarks():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text("utf-8")
        assert "import benchmarks" not in text and "from benchmarks" not in text and "sys.path" not in text


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_are_small(path):
    text = path.read_text("utf-8")
    assert text.count("\n") <= (250 if path == PACKAGE / "model.py" else 400)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno < 60, f"{node.name} has {node.end_lineno - node.lineno + 1} lines"
