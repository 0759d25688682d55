"""The store: nothing acknowledged is lost, every edit can be taken back, a newer fact wins, readers follow."""

from __future__ import annotations

import json
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tracemalloc
from dataclasses import replace

import pytest
import torch

from memoir_fast import MemoirModel
from memoir_fast.journal.state import State
from memoir_fast.store import ConflictError, Store, StoreError, export_bundle, import_bundle, merge
from memoir_fast.store.log import segments
from tests.support.models import bits, tiny_memoir, tiny_model, word_tokenizer
from tests.support.stores import contents, fact_of, new_store

A, B, C = ("w100 w101 w102", "w150"), ("w110 w111 w112 w113", "w151 w152"), ("w120 w121", "w153")
UNRELATED = "w30 w31 w32 w33"


def stored(folder, settings=None, **config):
    """A tiny model that writes into a new store."""
    model = tiny_memoir(**config)
    model.create_store(folder, **(settings or {}))
    return model


def opened(folder, read_only=False, **settings):
    return MemoirModel.open(folder, tiny_model("llama"), word_tokenizer(), read_only, **settings)


def logits(model, text):
    with torch.no_grad():
        return bits(model(input_ids=torch.tensor([model.encoder.prompt(text).tokens])).logits)


@pytest.mark.parametrize(
    "config", [{}, {"write": "preconditioned", "edit_lr": 6.0}, {"weight_decay": 1e-3}], ids=["sgd", "pre", "decay"]
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_opening_again_gives_the_same_memory(tmp_path, config, dtype):
    model = stored(tmp_path / "s", {"record_dtype": dtype}, **config)
    for fact in (A, B):
        model.edit(*fact, author="ann", tags=["t"], metadata={"ticket": 7})
    model.store.compact()
    model.edit(*C)
    model.close()
    again = opened(tmp_path / "s")
    assert again.edits == model.edits and again.next_id == 3 and again.store.report == []
    assert again.edits[0]["author"] == "ann" and again.edits[0]["metadata"] == {"ticket": 7}
    assert torch.equal(bits(again.memory.V), bits(model.memory.V)) and again.memory.scale == model.memory.scale
    assert (again.memory.index.signatures() == model.memory.index.signatures()).all()
    for text in (A[0], B[0], C[0], UNRELATED):
        assert torch.equal(logits(model, text), logits(again, text))
    assert again.ask(A[0], max_new_tokens=1) == A[1] and again.store.verify()["problems"] == []
    assert again.edit("w130 w131", "w154").id == 3


def test_undo_of_every_edit_in_random_order_gives_the_base_model(tmp_path):
    model = stored(tmp_path / "s", {"conflict": "keep"}, write="preconditioned", steps=8)
    base = {text: logits(model, text) for text in (A[0], UNRELATED)}
    facts = [(f"w{100 + i} w{101 + i % 40} w{102 + i // 2}", f"w{150 + i % 20}") for i in range(50)]
    model.edit_many(facts, batch_size=5)
    norm = float(model.memory.V.norm())
    order = list(range(50))
    random.Random(1).shuffle(order)
    for number, edit in enumerate(order):
        model.delete(edit)
        assert model.route(facts[edit][0])["edit"] != edit and len(model.memory) == 49 - number
    assert float(model.memory.V.norm()) <= 1e-4 * norm
    assert all(torch.equal(logits(model, text), base[text]) for text in base)
    for edit in reversed(order):
        model.restore(edit)
    report = model.store.verify()
    assert report["problems"] == [] and report["active"] == 50 and report["difference"] < 1e-5
    model.store.compact()  # C is made from the records again
    assert torch.equal(model.memory.C, model.memory.C.T)
    assert float(torch.linalg.eigvalsh(model.memory.C.double()).min()) > -1e-3 * float(model.memory.C.trace())


def test_undo_of_one_edit_leaves_the_others(tmp_path):
    model, other = stored(tmp_path / "s"), stored(tmp_path / "other")
    for fact in (A, B):
        model.edit(*fact)
    other.edit(*A)
    model.delete(1)
    assert torch.allclose(model.memory.V, other.memory.V, atol=1e-6)
    assert model.ask(A[0], max_new_tokens=1) == A[1] and model.route(B[0])["edit"] is None
    with pytest.raises(ValueError, match="deleted already"):
        model.delete(1)
    with pytest.raises(ValueError, match="no edit 9"):
        model.delete(9)
    model.restore(1)
    assert model.ask(B[0], max_new_tokens=2) == B[1]
    model.disable(0)
    assert model.route(A[0])["edit"] is None and 0 not in model.edits
    model.close()
    again = opened(tmp_path / "s")
    assert again.store.state.statuses == {0: "disabled", 1: "active"}
    again.enable(0)
    assert again.ask(A[0], max_new_tokens=1) == A[1]


def test_a_newer_fact_supersedes_and_its_undo_brings_the_old_one_back(tmp_path):
    model = stored(tmp_path / "s", write="preconditioned")
    model.edit(*A), model.edit(*B)
    newer = model.edit(A[0], "w160")
    assert newer.supersedes == [0] and model.store.state.statuses[0] == "superseded"
    assert model.ask(A[0], max_new_tokens=1) == "w160"
    assert model.edit(A[0], "w160").supersedes == []  # the same answer contradicts nothing
    model.delete(3)
    model.delete(2)
    assert model.ask(A[0], max_new_tokens=1) == A[1] and model.store.state.statuses[0] == "active"
    model.restore(2)
    assert model.ask(A[0], max_new_tokens=1) == "w160" and model.store.state.statuses[0] == "superseded"
    assert model.rollback(1) == [0, 2] and model.ask(A[0], max_new_tokens=1) == A[1]
    results = model.edit_many([("w140 w141", "w155"), ("w140 w141", "w156")], batch_size=2)
    assert results[1].supersedes == [results[0].id] and model.ask("w140 w141", max_new_tokens=1) == "w156"
    assert model.store.verify()["problems"] == []


def test_conflict_policies(tmp_path):
    keeping = stored(tmp_path / "keep", {"conflict": "keep"})
    keeping.edit(*A), keeping.edit(A[0], "w160")
    assert len(keeping.memory) == 2
    rejecting = stored(tmp_path / "reject", {"conflict": "reject"})
    rejecting.edit(*A)
    with pytest.raises(ConflictError, match="contradicts edit 0"):
        rejecting.edit(A[0], "w160")
    assert len(rejecting.memory) == 1 and rejecting.edit(*B).id == 1
    with pytest.raises(ValueError, match="conflict must be one of"):
        stored(tmp_path / "other", {"conflict": "maybe"})


def test_undo_by_rollback_to_a_time(tmp_path):
    model = stored(tmp_path / "s")
    model.edit(*A)
    moment = model.edits[0]["created"]
    model.edit(*B), model.delete(0), model.edit(*C)
    assert model.rollback(moment) == [0, 1, 2]
    assert list(model.edits) == [0] and model.ask(A[0], max_new_tokens=1) == A[1]
    with pytest.raises(ValueError, match="neither an edit's id nor a time"):
        model.rollback("yesterday")


def test_a_time_before_the_first_edit_is_refused_unless_it_is_meant(tmp_path):
    model = stored(tmp_path / "s")
    assert model.rollback("2020-01-01") == []  # nothing would be lost
    model.edit(*A), model.edit(*B), model.edit(*C)
    model.delete(1)
    for to in ("2020-01-01", "2020-01-01T12:00:00+00:00"):
        with pytest.raises(
            ValueError, match=rf"to: '{re.escape(to)}' is before the first edit .*2 edits, all.*empty=True"
        ):
            model.rollback(to)
    assert list(model.edits) == [0, 2]
    with pytest.raises(ValueError, match="2 edits"), model.rehearsal():
        model.rollback("2020-01-01")
    assert model.rollback("2020-01-01", empty=True) == [0, 2] and not model.edits
    assert model.rollback("2020-01-01") == []
    model.restore(0)
    assert model.ask(A[0], max_new_tokens=1) == A[1]


def test_tags_choose_edits_per_request(tmp_path):
    model = stored(tmp_path / "s")
    model.edit(*A, tags=["acme"]), model.edit(*B, tags=["other"]), model.edit(*C)
    with model.only(["acme"]):
        assert (
            model.route(A[0])["edit"] == 0 and model.route(B[0])["edit"] is None and model.route(C[0])["edit"] is None
        )
    with model.only(["acme"], untagged=True):
        assert model.route(C[0])["edit"] == 2
    base = model.disabled()
    with base:
        plain = model.ask(B[0], max_new_tokens=2)
    assert model.ask(B[0], max_new_tokens=2, edits={"tags": ["acme"]}) == plain != B[1]
    assert model.ask(B[0], max_new_tokens=2, edits={"tags": ["other"]}) == B[1] == model.ask(B[0], max_new_tokens=2)
    model.tag(1, ["acme"])
    assert model.ask(B[0], max_new_tokens=2, edits={"tags": ["acme"]}) == B[1]
    with pytest.raises(TypeError, match="edits must be"):
        model.ask(B[0], edits=["acme"])
    model.close()
    assert opened(tmp_path / "s").edits[1]["tags"] == ["acme"]


def test_one_writer_and_readers_that_refresh(tmp_path):
    model = stored(tmp_path / "s")
    model.edit(*A)
    with pytest.raises(StoreError, match=r"another process is writing \(.* on .*, process \d+"):
        opened(tmp_path / "s")
    reader = opened(tmp_path / "s", read_only=True)
    with pytest.raises(StoreError, match="opened for reading"):
        reader.edit(*B)
    model.edit(*B), model.edit(A[0], "w160")
    model.store.compact()
    model.edit(*C), model.delete(1)
    assert reader.refresh() == 4 and reader.refresh() == 0
    assert reader.edits == model.edits and torch.allclose(reader.memory.V, model.memory.V, atol=1e-6)
    assert reader.ask(A[0], max_new_tokens=1) == "w160" and reader.threshold.median == model.threshold.median
    model.close()
    with pytest.raises(StoreError, match="opened for reading"):
        model.edit(*B)
    opened(tmp_path / "s").close()


def test_copying_the_log_replicates(tmp_path):
    model = stored(tmp_path / "s")
    model.edit(*A)
    shutil.copytree(tmp_path / "s", tmp_path / "replica", ignore=shutil.ignore_patterns("ledger*", "lock", "writer*"))
    replica = opened(tmp_path / "replica", read_only=True)
    model.edit(*B)
    (_, path), data = segments(tmp_path / "s")[-1], segments(tmp_path / "s")[-1][1].read_bytes()
    (tmp_path / "replica" / path.name).write_bytes(data[:-100])  # the copy is under way
    assert replica.refresh() == 0
    (tmp_path / "replica" / path.name).write_bytes(data)
    assert replica.refresh() == 1 and replica.ask(B[0], max_new_tokens=2) == B[1]


def test_a_reader_in_another_process_follows_a_copied_log(tmp_path):
    model = stored(tmp_path / "s")
    model.edit(*A)
    shutil.copytree(tmp_path / "s", tmp_path / "replica", ignore=shutil.ignore_patterns("ledger*", "lock", "writer*"))
    code = (
        "import sys; from memoir_fast.store import Store\n"
        "store = Store(sys.argv[1]); print(list(store.edits), flush=True)\n"
        "for line in sys.stdin: print(store.refresh(), list(store.edits), float(store.memory.V.norm()), flush=True)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "replica")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout.readline() == "[0]\n"
        model.edit(*B), model.delete(0), model.store.compact(), model.edit(*C)
        for _, path in segments(tmp_path / "s"):
            shutil.copy(path, tmp_path / "replica")
        reader.stdin.write("go on\n"), reader.stdin.flush()
        told = reader.stdout.readline().split("] ")
        assert told[0] == "3 [1, 2" and float(told[1]) == pytest.approx(float(model.memory.V.norm()), rel=1e-5)
        reader.stdin.close()


def test_compaction_bounds_the_live_log_and_undo_reads_the_archive(tmp_path):
    model = stored(tmp_path / "s", {"compact_bytes": 100_000}, write="preconditioned", edit_lr=6.0)
    for i in range(12):
        model.edit(f"w{100 + 3 * i} w{101 + 3 * i}", f"w{150 + i}")
    folder = tmp_path / "s"
    assert len(segments(folder)) > 1 and segments(folder)[-1][1].stat().st_size < 200_000
    assert len(list(folder.glob("snapshot-*"))) <= 2
    model.delete(0), model.restore(0)
    assert model.ask("w100 w101", max_new_tokens=1) == "w150"
    model.store.compact(forget_before=2)
    with pytest.raises(ValueError, match="given up"):
        model.delete(1)
    model.delete(2)
    model.close()
    again = opened(folder)
    assert (
        again.store.report == []
        and again.store.verify()["problems"] == []
        and 1 in again.edits
        and 2 not in again.edits
    )


def test_the_ledger_follows_the_log(tmp_path):
    model = stored(tmp_path / "s")
    text = "w100 " + "‮ drop\x1b[31m table\x00" * 3
    model.edit(text, "w150", metadata={"a": [1, {"b": None}]})
    model.edit(*B)
    model.delete(1)
    model.close()
    with sqlite3.connect(tmp_path / "s" / "ledger.sqlite") as connection:
        rows = connection.execute("SELECT prompt, status, metadata FROM edits ORDER BY id").fetchall()
    assert (
        rows[0][0] == text and [row[1] for row in rows] == ["active", "deleted"] and json.loads(rows[0][2])["a"][0] == 1
    )
    for damage in (b"", b"not a database at all" * 100):
        (tmp_path / "s" / "ledger.sqlite").write_bytes(damage)
        with Store(tmp_path / "s", writer=True) as store:
            assert any("ledger.sqlite" in line for line in store.report) or not damage
            assert [row["status"] for row in store._ledger.rows()] == ["active", "deleted"]
            assert store.verify()["problems"] == []


def test_a_store_needs_an_empty_memory_and_folder(tmp_path):
    model = tiny_memoir()
    with pytest.raises(ValueError, match="there is no edit 0 in this memory"):
        model.delete(0)
    model.edit(*A)
    with pytest.raises(ValueError, match="begins with an empty memory"):
        model.create_store(tmp_path / "s")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    with pytest.raises(ValueError, match="must be empty"):
        tiny_memoir().create_store(tmp_path / "full")
    with pytest.raises(ValueError, match="no store in this folder"):
        Store(tmp_path / "none")


def test_a_bundle_holds_the_whole_history(tmp_path):
    model = stored(tmp_path / "s", write="preconditioned")
    model.edit(*A), model.edit(*B), model.store.compact(), model.edit(*C), model.delete(1)
    export_bundle(model.store, tmp_path / "file")
    with import_bundle(tmp_path / "file", tmp_path / "copy") as copy:
        assert copy.edits == model.edits and torch.allclose(copy.memory.V, model.memory.V, atol=1e-6)
        copy.restore(1)
        assert copy.verify()["problems"] == []
    model.store.compact(forget_before=2)
    export_bundle(model.store, tmp_path / "forgotten")
    with import_bundle(tmp_path / "forgotten", tmp_path / "second") as copy:
        assert copy.edits == model.edits and torch.equal(bits(copy.memory.V), bits(model.memory.V))
    data = (tmp_path / "file").read_bytes()
    for number, damaged in enumerate((data[:-1], data[:100], b"", data[:5000] + b"x" + data[5001:], data + data)):
        (tmp_path / "bad").write_bytes(damaged)
        with pytest.raises(ValueError, match="bad"):
            import_bundle(tmp_path / "bad", tmp_path / f"none{number}")
        assert not list((tmp_path / f"none{number}").glob("*"))


def test_a_bundle_is_written_and_read_record_by_record_and_opened_from_a_snapshot(tmp_path, monkeypatch):
    with new_store(tmp_path / "s") as store:
        _, update = fact_of(store, 0)
        wide = replace(update, features=torch.randn(20_000, 9))
        for number in range(30):
            store.add([fact_of(store, number)[0]], [wide])
        kept, size = contents(store), store.folder.joinpath("log-000000000001.bin").stat().st_size
        tracemalloc.start()
        export_bundle(store, tmp_path / "b.mfb")
    import_bundle(tmp_path / "b.mfb", tmp_path / "again").close()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < size / 4
    monkeypatch.setattr(State, "update_of", lambda *_: pytest.fail("a record was read"))
    with Store(tmp_path / "again", writer=True) as again:
        assert contents(again) == kept and again.manifest.snapshots[0].seq == 30


@pytest.mark.parametrize("decay", [0.0, 1e-3])
def test_merging_adds_what_the_other_store_knows(tmp_path, decay):
    ours = stored(tmp_path / "ours", weight_decay=decay)
    permutation = ours.memory.permutation.clone()
    theirs = tiny_memoir(weight_decay=decay)
    theirs.memory.permutation.copy_(permutation)
    theirs.create_store(tmp_path / "theirs")
    ours.edit(*A), theirs.edit(*B), theirs.edit(A[0], "w160"), theirs.edit(*C)
    expected = ours.memory.V * ours.memory.scale + theirs.memory.V * theirs.memory.scale
    theirs.close(), ours.close()
    with Store(tmp_path / "ours", writer=True) as store, Store(tmp_path / "theirs") as other:
        zero = store.memory.scale * store.state.update_of(0).delta() / store.state.update_of(0).scale
        found = merge(store, other)
        assert found == {"added": [1, 2, 3], "superseded": [0], "rejected": []}
        rows = store.state.update_of(0).rows.long()
        expected[rows] -= zero
        assert torch.allclose(store.memory.V * store.memory.scale, expected, atol=1e-5)
        assert store.edits[1]["metadata"]["merged_from"] == {"store": "theirs", "id": 0}
        assert store.verify()["problems"] == []
    stored(tmp_path / "foreign", seed=1).close()
    with Store(tmp_path / "ours", writer=True) as store, Store(tmp_path / "foreign") as other:
        with pytest.raises(ValueError, match="its permutation is not"):
            merge(store, other)
