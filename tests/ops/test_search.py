"""FAISS's files, its threads, and what is said of who looks codes up."""

from __future__ import annotations

import json
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch

from memoir_fast import ops
from memoir_fast.memory.index import SignatureIndex
from memoir_fast.ops import cpu, search
from memoir_fast.reading.matching import candidates

faiss = pytest.importorskip("faiss")
CODES = np.random.default_rng(0).integers(0, 256, (50, 9), dtype=np.uint8)


def test_a_written_index_is_faiss_own_and_comes_back(tmp_path):
    search.write_flat(tmp_path / "index", search.flat_index(CODES))
    assert [p.name for p in tmp_path.iterdir()] == ["index"]
    own = faiss.read_index_binary(str(tmp_path / "index"))
    distances, rows = own.search(CODES[[7]], 1)
    assert (own.ntotal, own.d, rows.tolist(), distances.tolist()) == (50, 72, [[7]], [[0]])
    assert (search.codes_of(search.read_flat(tmp_path / "index", 9)) == CODES).all()


def test_other_files_are_refused(tmp_path):
    search.write_flat(tmp_path / "index", search.flat_index(CODES))
    hashed = faiss.IndexBinaryHash(72, 8)
    faiss.write_index_binary(hashed, str(tmp_path / "hashed"))
    (tmp_path / "text").write_text("no index")
    (tmp_path / "short").write_bytes((tmp_path / "index").read_bytes()[:-40])
    for name, width, says in (
        ("absent", 9, "there is no file"),
        ("index", 8, "have 72 bits, 64 are needed"),
        ("hashed", 9, "IndexBinaryFlat: it begins with b'IB"),
        ("text", 9, "not a binary index of FAISS"),
        ("short", 9, "not a binary index of FAISS"),
    ):
        with pytest.raises(ValueError, match=says):
            search.read_flat(tmp_path / name, width)
    with pytest.raises(OSError, match="cannot be written"):
        search.write_flat(tmp_path / "no folder" / "index", search.flat_index(CODES))


@pytest.mark.parametrize(
    "place, data", [(12, struct.pack("<q", 1 << 40)), (25, struct.pack("<Q", 2 << 30)), (4, struct.pack("<i", -8))]
)
def test_sizes_beyond_the_file_are_refused_before_room_is_made_for_them(tmp_path, place, data):
    search.write_flat(tmp_path / "index", search.flat_index(CODES))
    whole = (tmp_path / "index").read_bytes()
    (tmp_path / "index").write_bytes(whole[:place] + data + whole[place + len(data) :])
    with pytest.raises(ValueError, match="its header tells of"):
        search.read_flat(tmp_path / "index", 9)


def test_faiss_works_alone_only_inside():
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        with pytest.raises(KeyError), search.one_thread(faiss):
            assert faiss.omp_get_max_threads() == 1
            raise KeyError
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)


def test_an_index_stays_where_faiss_can_search_it():
    """Without a GPU in use, or with a FAISS for CPUs, the index is searched as it is."""
    index = search.flat_index(CODES)
    if not (torch.cuda.is_initialized() and search.gpus(faiss)):
        assert search.placed(index) is index
    assert ("GpuIndexBinaryFlat" in search.engines()["tokens"]) == (search.gpus(faiss) > 0)


def test_the_engines_are_those_that_serve(monkeypatch):
    """The limits that are named are those that decide, and what is missing is named too."""
    found = search.engines()
    assert (
        f"{candidates.DIRECT:,} wordings" in found["tokens"] and f"{SignatureIndex.exhaustive:,} edits" in found["mask"]
    )
    assert f"FAISS {faiss.__version__} IndexBinaryFlat" in found["tokens"]
    if cpu.available():
        assert f"the extension's scan ({cpu.level()})" in found["mask"]
        assert found["tokens"].endswith(f"; verification by the extension ({cpu.level()})")
        with ops.use_backend("reference"):
            assert search.engines()["tokens"].endswith("; verification by numpy (MEMOIR_FAST_BACKEND=reference)")
    monkeypatch.setattr(cpu, "_C", None)
    assert "knn_hamming" in search.engines()["mask"]
    assert search.engines()["tokens"].endswith("; verification by numpy (the extension is not built)")
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(search.importlib.util, "find_spec", lambda name: None)
    assert all("pip install memoir-fast[cpu]" in engine for engine in search.engines().values())
    with pytest.raises(
        ImportError, match=r"more than 4,096 stored wordings needs FAISS: pip install memoir-fast\[cpu\]"
    ):
        search.flat_index(CODES)


def test_the_module_prints_them():
    for more in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "memoir_fast.ops", *more], capture_output=True, text=True, check=True
        )
        for rule, engine in search.engines().items():
            assert (
                (json.loads(done.stdout)["lookup"][rule] == engine)
                if more
                else f"router={rule}: {engine}" in done.stdout
            )
