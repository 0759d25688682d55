"""Refreshing: what is checked before anything changes, calls at the same time, and what a failure leaves. The workers are real, the engine between
them and the front end is not."""

from __future__ import annotations

import asyncio
import json
import shutil
from types import SimpleNamespace

import pytest
import torch

from memoir_fast.serving.checks import check_tables
from memoir_fast.serving.section import section_of
from memoir_fast.serving.tables import NAMES, PREFIX, tables_of
from memoir_fast.serving.vllm import refresh, shared
from memoir_fast.serving.vllm.refreshing import RefreshError, Refreshes
from memoir_fast.store import Store
from tests.support.engines import Engine, stored_model


@pytest.fixture(params=["mask", "tokens"])
def served(request, tmp_path, place):
    threshold = {"mask": 0.7, "tokens": None}[request.param]
    model = stored_model(tmp_path / "store", router=request.param, threshold=threshold)
    yield model, Engine(model, section_of(model.store, tmp_path / "store"), request.param == "tokens")
    model.close()


def test_a_refresh_takes_up_what_is_stored_and_tells_all_front_ends(served):
    model, engine = served
    model.edit("w110 w111 w112", "w151")
    found = asyncio.run(Refreshes().call(engine))
    assert found == {"generation": 1, "edits": 2, "seq": model.store.state.seq}
    assert engine.tables == [(1, [0, 1])] * 2
    assert shared.edits(engine.vllm_config.model_config.hf_config.memoir["store"]) == {0, 1}


def test_calls_at_the_same_time_share_a_refresh_and_see_what_was_stored_before_them(served):
    model, engine = served

    async def many():
        refreshes = Refreshes()
        first = [asyncio.create_task(refreshes.call(engine)) for _ in range(20)]
        while "memoir_commit" not in engine.calls:
            await asyncio.sleep(0.001)
        model.edit("w110 w111 w112", "w151")  # while one runs
        later = [asyncio.create_task(refreshes.call(engine)) for _ in range(20)]
        later[0].cancel()  # a client leaves
        return await asyncio.gather(*first), await asyncio.gather(*later[1:])

    first, later = asyncio.run(many())
    assert {found["edits"] for found in first} == {1} and {found["edits"] for found in later} == {2}
    assert engine.calls.count("memoir_commit") == 2


def test_front_ends_refresh_one_after_the_other(served):
    _, engine = served

    async def both():
        with shared.alone() as mine:
            assert mine
            waiting = asyncio.create_task(Refreshes().call(engine))
            await asyncio.sleep(0.2)
            assert not engine.calls
        return await waiting

    assert asyncio.run(both())["generation"] == 1


OTHERS = {
    "weights": ({"seed": 1}, "weight"),
    "layer": ({"layer": 0}, r"target \(memory: 'model.layers.0.mlp.down_proj', model: 'model.layers.1.mlp.down_proj'\)"),
    "mask": ({"top_k": 12}, r"top_k \(memory: 12, model: 24\)"),
    "acts": ({"acts": "answer"}, r"acts \(memory: 'answer', model: 'all'\)"),
    "pages": ({"page_edits": 3}, r"page_edits \(memory: 3, model: 0\)"),
}  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
def test_a_store_of_something_else_changes_nothing_and_says_so(other, tmp_path, place):
    settings, named = OTHERS[other]
    model = stored_model(tmp_path / "store", acts="all")
    engine = Engine(model, section_of(model.store, tmp_path / "store"))
    model.close()
    stored_model(tmp_path / "other", **{"acts": "all", **settings}).close()
    shutil.rmtree(tmp_path / "store")
    shutil.move(tmp_path / "other", tmp_path / "store")
    with pytest.raises(RefreshError, match=rf"{named}(?s:.*)Nothing was changed(?s:.*)ask again") as refused:
        asyncio.run(Refreshes().call(engine))
    assert refused.value.status == 409 and not engine.calls and engine.tables == [(0, [0])] * 2


def test_a_missing_or_damaged_store_changes_nothing(served, tmp_path):
    model, engine = served
    model.close()
    config = tmp_path / "store" / "config.json"
    whole = config.read_bytes()
    for damage in (whole[:-20], b"[" * 100_000, b""):
        config.write_bytes(damage)
        with pytest.raises(RefreshError, match="Nothing was changed"):
            asyncio.run(Refreshes().call(engine))
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(RefreshError, match="Nothing was changed"):
        asyncio.run(Refreshes().call(engine))
    assert engine.tables == [(0, [0])] * 2 and not engine.calls


def test_if_one_worker_cannot_read_the_table_none_uses_it(served):
    model, engine = served
    model.edit("w110 w111 w112", "w151")
    engine.workers[1].settings = {**engine.workers[1].settings, "in_features": 8}
    with pytest.raises(RefreshError, match=r"a worker did not take the edits: .*memoir\.background is(?s:.*)Nothing was changed"):  # fmt: skip
        asyncio.run(Refreshes().call(engine))
    assert engine.tables == [(0, [0])] * 2 and engine.calls == ["memoir_held", "memoir_prepare", "memoir_drop"]
    with pytest.raises(RuntimeError, match="no table was made ready"):
        engine.workers[0].commit()


def test_what_went_wrong_first_is_said_even_if_the_table_cannot_be_dropped(served, caplog):
    _, engine = served
    engine.workers[1].settings = {**engine.workers[1].settings, "in_features": 8}
    engine.lost = "memoir_drop"
    with pytest.raises(RefreshError, match=r"a worker did not take the edits: .*memoir\.background is"):
        asyncio.run(Refreshes().call(engine))
    assert "could not be dropped" in caplog.text and engine.tables == [(0, [0])] * 2
    offline = SimpleNamespace(
        llm_engine=engine, collective_rpc=lambda *args, **named: asyncio.run(engine.collective_rpc(*args, **named))
    )
    with pytest.raises(ValueError, match=r"memoir\.background is"):
        refresh(offline)
    engine.workers[1].settings, engine.lost = engine.workers[0].settings, ""
    assert refresh(offline)["generation"] == 1


def test_a_refresh_that_the_front_ends_cannot_be_told_of_says_so(served, place):
    """The workers have changed by then: an answer that nothing has, or that they differ, would be untrue."""
    model, engine = served
    model.edit("w110 w111 w112", "w151")
    asyncio.run(Refreshes().call(engine))
    (told,) = place.glob("edits-*.json")
    told.unlink()
    told.mkdir()
    with pytest.raises(
        RefreshError, match=r"all workers serve the new edits .*'generation': 2.*could not be told"
    ) as failed:
        asyncio.run(Refreshes().call(engine))
    assert failed.value.status == 500 and engine.tables == [(2, [0, 1])] * 2
    assert "Nothing was changed" not in str(failed.value) and "old ones" not in str(failed.value)
    told.rmdir()
    assert asyncio.run(Refreshes().call(engine))["generation"] == 3


WRONG = {
    "V": lambda t: t[:-1], "background": lambda t: t.double(), "permutation": lambda t: t * 0, "ids": lambda t: t - 5,
    "signatures": lambda t: t * 0, "scale": lambda t: t * float("nan"), "threshold": lambda t: t.repeat(3), "rate": lambda t: t.repeat(3).new_ones(3),
    "tags": lambda t: _text('{"7": ["a"]}'), "words": lambda t: t.float(),
    "keys": lambda t: _text("[" * 5000),
}  # fmt: skip


def test_each_tensor_is_checked_before_it_is_used(served):
    model, engine = served
    worker, tables = engine.workers[0], tables_of(model.store)
    rule = None if worker.words is None else worker.words.rule
    for name in NAMES:
        if name == "keys" and worker.words is None:
            continue  # where masks route it is empty and never read
        wrong = {**tables, PREFIX + name: WRONG[name](tables[PREFIX + name])}
        if name == "threshold" and worker.words is not None:
            wrong[PREFIX + name] = torch.ones(1, dtype=torch.float64)
        with pytest.raises(ValueError, match=rf"memoir\.{name} .*export the store again"):
            check_tables(wrong, worker.settings)
        with pytest.raises(ValueError, match=rf"memoir\.{name} "):
            worker.load(wrong)
        del wrong[PREFIX + name]
        with pytest.raises(ValueError, match=rf"lack memoir\.{name}"):
            worker.load(wrong)
    assert worker.table.generation == 0 and (worker.words is None or worker.words.rule is rule)


@pytest.mark.parametrize("damage", [
    lambda V, D: V[:D], lambda V, D: V[:-1], lambda V, D: V.new_ones(()), lambda V, D: V[:0], lambda V, D: V.T,
])  # fmt: skip
def test_the_pages_are_checked_before_they_are_used(tmp_path, place, damage):
    model = stored_model(tmp_path / "store", page_edits=1)
    model.edit("w110 w111 w112", "w160")
    tables, section = tables_of(model.store), section_of(model.store, tmp_path / "store")
    check_tables(tables, section)
    V, D = tables[PREFIX + "V"], section["in_features"]
    check_tables({**tables, PREFIX + "V": torch.cat([V, V[:D]])}, section)  # a page whose edits are gone
    with pytest.raises(ValueError, match=r"memoir\.V .*export the store again"):
        check_tables({**tables, PREFIX + "V": damage(V, D).clone()}, section)


MALFORMED = [[["!"], [], "", 1], [["AAAA"], [], "", 1], [[], []], [[3], [], "", 1], [[], [], 3, 1], "text"]


def test_malformed_wordings_and_matchers_leave_the_words_in_use(tmp_path, place):
    model = stored_model(tmp_path / "store", router="tokens", threshold=None)
    worker = Engine(model, section_of(model.store, tmp_path / "store"), True).workers[0]
    tables = {**tables_of(model.store), PREFIX + "ids": torch.tensor([1]), PREFIX + "tags": _text("{}")}
    for codes in MALFORMED:
        with pytest.raises(ValueError, match=r"memoir\.keys is malformed for edit 1"):
            worker.load({**tables, PREFIX + "keys": _text(json.dumps({"1": codes}))})
    with pytest.raises(ValueError, match=r"memoir\.words is malformed"):
        worker.load({**tables_of(model.store), PREFIX + "words": _text("no safetensors file")})
    assert worker.table.ids == [0] and len(worker.words.rule.keys) == 1
    model.close()


def _text(text):
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def test_a_store_of_the_same_model_may_take_the_place(served, tmp_path):
    """With other facts under the same ids: what the workers read is the new store's."""
    model, engine = served
    model.edit("w110 w111 w112", "w151")
    assert asyncio.run(Refreshes().call(engine))["edits"] == 2
    model.close()
    other = stored_model(tmp_path / "other", router=model.config.router, threshold=model.config.threshold)
    other.delete(0)
    other.edit("w120 w121 w122", "w152")
    other.edit("w130 w131 w132 w133", "w153")
    other.close()
    shutil.rmtree(tmp_path / "store")
    shutil.move(tmp_path / "other", tmp_path / "store")
    assert asyncio.run(Refreshes().call(engine)) == {"generation": 2, "edits": 2, "seq": 4}
    with Store(tmp_path / "store") as store:
        tables = tables_of(store)
    for worker in engine.workers:
        assert worker.table.ids == [1, 2] and torch.equal(torch.cat(worker.table.pages), tables[PREFIX + "V"])
        assert (worker.table.index.signatures() == tables[PREFIX + "signatures"].numpy()).all()
        if worker.words is not None:
            keys = worker.words.rule.keys
            assert [set(keys.vocabulary(edit)) for edit in (0, 1, 2)] == [set(), *map(keys.words_of, ("w120 w121 w122", "w130 w131 w132 w133"))]  # fmt: skip
