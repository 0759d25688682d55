"""A refresh hands over only the pages that the workers do not hold: which these are, what a table is then made of, and what is refused."""

from __future__ import annotations

import asyncio
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save

from memoir_fast.base import files
from memoir_fast.journal.record import digest
from memoir_fast.serving import paging
from memoir_fast.serving.checks import check_tables
from memoir_fast.serving.paging import DIGESTS, digests_in, given_in, pages_of
from memoir_fast.serving.section import section_of
from memoir_fast.serving.tables import PREFIX, beside_pages, tables_of
from memoir_fast.serving.vllm import live, refresh
from memoir_fast.serving.vllm.live import Snapshot, held_by_all
from memoir_fast.serving.vllm.refreshing import RefreshError, Refreshes
from memoir_fast.serving.vllm.served import Served
from memoir_fast.store import Store, page_files
from tests.support.engines import Engine, stored_model, worker_of

PROMPTS = ["w110 w111 w112", "w120 w121 w122 w123", "w130 w131 w132", "w140 w141 w142 w143"]


@pytest.fixture
def model(tmp_path, place):
    """A model with a store of three pages, two edits in each; the last page has one."""
    made = stored_model(tmp_path / "store", page_edits=2)
    for number, prompt in enumerate(PROMPTS):
        made.edit(prompt, f"w15{number}")
    yield made
    made.close()


@pytest.fixture(params=[1, 2], ids=["two engines", "two ranks"])
def engine(request, model, tmp_path):
    return Engine(model, section_of(model.store, tmp_path / "store"), ranks=request.param)


def taken_up(engine):
    """A refresh; afterwards every worker has the store's table, as it would have it from an export."""
    found = asyncio.run(Refreshes().call(engine))
    section = engine.vllm_config.model_config.hf_config.memoir
    with Store(section["store"]) as store:
        tables = tables_of(store)
    for worker in engine.workers:
        wanted = Served(section, worker.rank, worker.ranks)
        wanted.load(tables)
        assert worker.table.digests == wanted.table.digests and worker.table.ids == wanted.table.ids
        for page, other in zip(worker.table.pages, wanted.table.pages, strict=True):
            assert torch.equal(page.view(torch.int32), other.view(torch.int32))
            assert page.shape == (section["in_features"] // worker.ranks, section["out_features"])
        assert set(worker.table.held) == set(wanted.table.held)  # and nothing of earlier tables
    return found


def test_one_more_edit_hands_over_its_page_and_the_others_are_shared(model, engine):
    before = [worker.table.pages for worker in engine.workers]
    model.edit("w160 w161 w162", "w155")  # the second one of the last page
    assert taken_up(engine)["edits"] == 6
    assert engine.given == [{engine.workers[0].table.digests[2]}]
    for pages, worker in zip(before, engine.workers, strict=True):
        assert [page is now for page, now in zip(pages, worker.table.pages, strict=True)] == [True, True, False]
    model.edit("w163 w164 w165", "w156")  # begins a page
    assert taken_up(engine)["edits"] == 7 and engine.given[1:] == [{engine.workers[0].table.digests[3]}]
    assert taken_up(engine)["generation"] == 3 and engine.given[2:] == [set()]
    assert engine.calls.count("memoir_prepare") == 3


def test_a_refresh_after_a_change_of_tags_or_a_compaction_hands_over_no_page(model, engine):
    model.store.tag(2, ["b"]), model.store.compact()
    assert taken_up(engine)["edits"] == 5 and engine.given == [set()]
    assert engine.workers[1].table.tags["2"] == ["b"]


def test_a_page_whose_edits_are_gone_costs_nothing(model, engine):
    zeros_of = [worker.table.held for worker in engine.workers]
    assert all("" not in held for held in zeros_of)
    for edit in (2, 3):
        model.delete(edit)
    model.store.memory.pages.at(1).zero_()  # what rounding leaves behind is no page of zeros
    model.store.compact()
    assert taken_up(engine)["edits"] == 3 and engine.given == [set()]
    for worker in engine.workers:
        assert worker.table.digests[1] == "" and not worker.table.pages[1].any()
    model.restore(2)
    assert taken_up(engine)["edits"] == 4 and engine.given[1:] == [{engine.workers[0].table.digests[1]}]


def test_a_store_that_was_put_back_has_other_pages_under_the_same_numbers(model, engine, tmp_path):
    shutil.copytree(tmp_path / "store", tmp_path / "backup")
    first = engine.workers[0].table.digests
    model.delete(4), model.edit("w166 w167 w168", "w157")
    taken_up(engine)
    assert engine.workers[0].table.digests[:2] == first[:2] and engine.given == [{engine.workers[0].table.digests[2]}]
    model.close()
    shutil.rmtree(tmp_path / "store"), shutil.copytree(tmp_path / "backup", tmp_path / "store")
    assert taken_up(engine)["edits"] == 5
    assert engine.workers[0].table.digests == first and engine.given[1:] == [{first[2]}]


def test_a_store_in_anothers_place_hands_over_what_differs(model, engine, tmp_path):
    """The same model and settings, and the same ids, but other facts."""
    taken_up(engine)
    model.close()
    other = stored_model(tmp_path / "other", page_edits=2)  # the first edit is the same, its page is not
    for prompt in reversed(PROMPTS):
        other.edit(prompt, "w159")
    other.close()
    shutil.rmtree(tmp_path / "store"), shutil.move(tmp_path / "other", tmp_path / "store")
    before = set(engine.workers[0].table.digests)
    assert taken_up(engine)["edits"] == 5
    now = set(engine.workers[0].table.digests)
    assert not now & before and engine.given[1:] == [now]


def test_pages_of_the_same_content_are_one(model, engine):
    model.store.memory.pages.at(1).copy_(model.store.memory.pages.at(0))
    model.store.compact()
    taken_up(engine)
    for worker in engine.workers:
        assert worker.table.digests[0] == worker.table.digests[1] and worker.table.pages[0] is worker.table.pages[1]
    assert engine.given == [set()]  # held as page 0 from the start


def test_a_table_in_use_by_a_running_request_keeps_its_pages(model, engine):
    old = engine.workers[0].table
    kept = [page.clone() for page in old.pages]
    reader = old.reader(4, 1.0, 0)
    model.delete(4)
    taken_up(engine)
    assert reader.table is old and all(torch.equal(one, two) for one, two in zip(old.pages, kept, strict=True))
    assert engine.workers[0].table is not old


def test_only_what_every_worker_holds_is_left_out(model, engine):
    one, two = engine.workers
    gone = two.table.held.pop(two.table.digests[1])
    taken_up(engine)
    assert engine.given == [{one.table.digests[1]}] and torch.equal(two.table.pages[1], gone)
    assert held_by_all([["a", "b"], None, ["b", "c"]]) == {"b"} and held_by_all([None]) == set()
    assert worker_of(None).memoir_held() is None and "" not in worker_of(one).memoir_held()


def _offline(engine):
    """An offline `vllm.LLM`."""
    return SimpleNamespace(
        llm_engine=engine, collective_rpc=lambda *args, **named: asyncio.run(engine.collective_rpc(*args, **named))
    )


@pytest.mark.parametrize("offline", [False, True])
def test_an_engine_that_lacks_a_page_gets_all_of_them(model, engine, offline):
    """Of several engines vLLM tells the first one's answer: another may have been started since."""
    engine.first = True
    two = engine.workers[1]
    del two.table.held[two.table.digests[0]]
    if offline:
        assert refresh(_offline(engine))["generation"] == 1
    else:
        taken_up(engine)
    assert engine.given == [set(), set(two.table.digests)]
    assert engine.calls.count("memoir_prepare") == 2 and [table[0] for table in engine.tables] == [1, 1]


def test_a_table_of_which_a_page_is_neither_held_nor_given_changes_nothing(model, engine):
    worker = engine.workers[0]
    table = worker.table
    tensors = {**beside_pages(model.store), **pages_of(model.store, set(table.digests))}
    assert not given_in(tensors)
    del table.held[table.digests[1]]
    with pytest.raises(ValueError, match=rf"page 1 \({table.digests[1]}\) was not handed over.*refresh again"):
        worker.prepare(tensors)
    with pytest.raises(RuntimeError, match="no table was made ready"):
        worker.commit()
    with pytest.raises(ValueError, match=r"page 0 .* was not handed over"):
        check_tables(tensors, worker.settings)
    assert worker.table is table


def _flipped(data):
    data[-1] ^= 1
    return data


def _repacked(change):
    """The bytes of a page's file with its tensors changed."""

    def damage(data):
        header = 8 + int.from_bytes(bytes(data[:8].tolist()), "little")
        rows = (len(data) - header) // 4 // 33  # of 32 features, and each row's number
        V = data[header : header + rows * 128].view(torch.float32).view(rows, 32).clone()
        numbers = data[header + rows * 128 :].view(torch.int32).clone()
        return torch.tensor(list(save(change({"V": V, "V.rows": numbers}))), dtype=torch.uint8)

    return damage


DAMAGES = {
    "a bit": (_flipped, "its checksum is another one"),
    "cut off": (lambda data: data[:-4], "its checksum is another one"),
    "nothing": (lambda data: data[:0], "its checksum is another one"),
    "two dimensions": (lambda data: data[None], r"expected a list of torch\.uint8"),
    "floats": (lambda data: data.float(), r"expected a list of torch\.uint8"),
}
WRONG = {
    "NaN": (lambda page: {**page, "V": page["V"] * float("nan")}, "NaN or infinity"),
    "columns": (lambda page: {**page, "V": page["V"][:, :-1].contiguous()}, "is not a page's file"),
    "rows": (lambda page: {**page, "V.rows": page["V.rows"] + 96}, r"ascending numbers in 0\.\.95"),
    "more": (lambda page: {**page, "more": page["V"].clone()}, "is not a page's file"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_page_that_is_not_the_one_of_its_digest_is_refused(model, engine, damage):
    change, message = DAMAGES[damage]
    for worker in engine.workers:
        tensors = {**beside_pages(model.store), **pages_of(model.store, set(worker.table.digests[:2]))}
        (name,) = (PREFIX + "page." + one for one in given_in(tensors))
        (
            worker.table.held.clear(),
            worker.table.held.update(dict.fromkeys(worker.table.digests[:2], worker.table.pages[0])),
        )
        tensors[name] = change(tensors[name].clone())
        with pytest.raises(ValueError, match=message):
            worker.prepare(tensors)
        assert worker.table.generation == 0


@pytest.mark.parametrize("wrong", WRONG)
def test_a_page_of_another_kind_is_refused_although_its_digest_is_right(model, engine, wrong):
    change, message = WRONG[wrong]
    worker = engine.workers[0]
    tensors = {**beside_pages(model.store), **pages_of(model.store, set(worker.table.digests[:2]))}
    (data,) = (tensors.pop(PREFIX + "page." + one) for one in given_in(tensors))
    data = _repacked(change)(data)
    name = digest(bytes(data.tolist()))
    tensors[PREFIX + "page." + name.hex()] = data
    tensors[DIGESTS][2] = torch.tensor(list(name), dtype=torch.uint8)
    with pytest.raises(ValueError, match=message):
        worker.prepare(tensors)
    assert worker.table.generation == 0


@pytest.mark.parametrize("damage", [
    lambda rows: rows[:, :-1], lambda rows: rows[:0], lambda rows: rows.long(), lambda rows: rows[0], lambda rows: rows[:2],
])  # fmt: skip
def test_the_list_of_pages_is_checked(model, engine, damage):
    worker = engine.workers[0]
    tensors = {**beside_pages(model.store), **pages_of(model.store, ())}
    check_tables(tensors, worker.settings)
    with pytest.raises(ValueError, match=r"memoir\.digests .*export the store again"):
        worker.prepare({**tensors, DIGESTS: damage(tensors[DIGESTS]).clone()})


def test_a_page_with_nan_is_not_handed_over(model, engine):
    model.store.memory.pages.at(2)[0, 0] = float("nan")
    with pytest.raises(ValueError, match="page 2 holds NaN or infinity: put the store back"):
        pages_of(model.store, set(engine.workers[0].table.digests))


def test_a_server_that_was_started_from_an_export_holds_its_pages(model, engine, tmp_path):
    """The digests that a worker finds at its start are those of the store's files."""
    model.store.compact()
    with Store(tmp_path / "store") as store:
        named = [page_files.file_of(one) for one in engine.workers[1].table.digests]
        assert named == [page_files.file_of(store.page_files.digest(store.memory.pages, number)) for number in range(3)]
        assert all((tmp_path / "store" / name).is_file() for name in named)


def test_a_page_whose_file_another_safetensors_wrote_is_not_handed_over_again(model, engine, tmp_path, monkeypatch):
    """Its digest is another one then, and the workers' is that of the bytes which this process would write."""
    store, before = model.store, engine.workers[0].table.digests
    store.compact()
    data = save(load_file(tmp_path / "store" / page_files.file_of(before[1])), metadata={"written": "elsewhere"})
    page = digest(data).hex()
    files.replace(tmp_path / "store" / page_files.file_of(page), data)
    store.page_files.note(store.memory.pages, {1: page_files.Stored(page, len(data))})
    model.edit("w160 w161 w162", "w155"), store.compact()
    packed, made = [], page_files.packed
    monkeypatch.setattr(paging, "packed", lambda page: packed.append(page) or made(page))
    for given in ([{store.page_files.digest(store.memory.pages, 2)}], [set()]):
        engine.given.clear()
        asyncio.run(Refreshes().call(engine))
        assert engine.given == given and engine.workers[0].table.digests[:2] == before[:2]
    assert len(packed) == 2  # this page and the one that changed, each of them once


# ---- the store stays open between two refreshes ------------------------------------------------------------------


@pytest.fixture
def opened(monkeypatch):
    """The folders of the stores that are opened, in their order."""
    found, begin = [], Store.__init__

    def watched(self, folder, *args, **named):
        found.append(str(folder))
        begin(self, folder, *args, **named)

    monkeypatch.setattr(Store, "__init__", watched)
    return found


def test_the_store_is_opened_once_and_then_followed(model, engine, opened):
    refreshes = Refreshes()
    for number, prompt in enumerate(("w160 w161 w162", "w163 w164 w165")):
        model.edit(prompt, "w155")
        assert asyncio.run(refreshes.call(engine))["edits"] == 6 + number
    model.delete(0), model.store.compact()
    assert asyncio.run(refreshes.call(engine)) == {"generation": 3, "edits": 6, "seq": model.store.state.seq}
    assert len(opened) == 1
    taken_up(engine)


def test_after_a_refresh_that_failed_the_store_is_opened_anew(model, engine, opened, tmp_path):
    taken_up(engine)
    before = len(opened)
    engine.lost = "memoir_prepare"
    with pytest.raises(RefreshError, match="the engine is gone"):
        asyncio.run(Refreshes().call(engine))
    assert len(opened) == before and str(tmp_path / "store") not in live._waiting
    engine.lost = ""
    assert asyncio.run(Refreshes().call(engine))["generation"] == 2 and len(opened) == before + 1


@pytest.mark.parametrize("settings, differing", [
    ({"page_edits": 2, "top_k": 12}, r"top_k \(memory: 12, model: 24\)"), ({"page_edits": 0}, r"page_edits \(memory: 0, model: 2\)"),
    ({"page_edits": 2, "router": "tokens"}, r"router \(memory: 'tokens', model: 'mask'\)"),
])  # fmt: skip
def test_another_models_store_in_the_place_is_refused_and_the_right_one_taken_again(
    model, engine, tmp_path, settings, differing
):
    taken_up(engine)
    model.close()
    stored_model(tmp_path / "other", **settings).close()
    shutil.move(tmp_path / "store", tmp_path / "aside"), shutil.move(tmp_path / "other", tmp_path / "store")
    with pytest.raises(RefreshError, match=rf"{differing}(?s:.*)Nothing was changed") as refused:
        asyncio.run(Refreshes().call(engine))
    assert refused.value.status == 409
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(RefreshError, match="there is no store"):
        asyncio.run(Refreshes().call(engine))
    shutil.move(tmp_path / "aside", tmp_path / "store")
    assert taken_up(engine)["edits"] == 5 and [table[0] for table in engine.tables] == [2, 2]


def test_no_file_stays_behind(model, engine, place, monkeypatch):
    monkeypatch.setattr(live.tempfile, "tempdir", str(place))
    taken_up(engine)
    engine.lost = "memoir_held"
    with pytest.raises(RefreshError, match="the engine is gone"):
        asyncio.run(Refreshes().call(engine))
    engine.lost = ""
    engine.workers[1].settings = {**engine.workers[1].settings, "in_features": 8}
    with pytest.raises(RefreshError):
        asyncio.run(Refreshes().call(engine))
    assert not list(place.glob("memoir-*"))


def test_a_file_that_a_worker_maps_is_replaced_and_not_written_over(model, engine, tmp_path):
    with Snapshot(engine.vllm_config.model_config.hf_config.memoir) as snapshot:
        snapshot.write(set(engine.workers[0].table.digests))
        mapped = load_file(snapshot.path)
        kept = {name: tensor.clone() for name, tensor in mapped.items()}
        assert snapshot.partial and len(given_in(mapped)) == 0
        snapshot.write(())
        assert not snapshot.partial and given_in(load_file(snapshot.path)).keys() == set(digests_in(kept))
        assert all(torch.equal(kept[name], tensor) for name, tensor in mapped.items())
