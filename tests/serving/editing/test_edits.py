"""Proposing, approving, searching, changing, over HTTP on a real store."""

from __future__ import annotations

import errno
import time

import pytest

from memoir_fast.base import files
from memoir_fast.store import Catalog
from tests.serving.editing.support import FACT, OTHER, as_, client_of, opened, service_of
from tests.support.patience import within


def _made(client, by="anna", **fields):
    answer = client.post("/memoir/edits", json={**FACT, **fields}, headers=as_(by))
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_an_approver_edits_and_the_ledger_tells_who(client, service):
    notes = {"tags": ["t"], "metadata": {"ticket": 7}, "rephrasings": ["w103 w104"], "not_prompts": ["w105 w106"], "key": "k"}  # fmt: skip
    made = _made(client, **notes)
    assert (made["status"], made["edit"], made["proposed_by"], made["decided_by"], made["live"]) == ("made", 0, "anna", "anna", None)  # fmt: skip
    assert made["result"]["answers"][FACT["prompt"]].startswith(FACT["target"])
    [row] = Catalog(service.store.folder).rows()
    assert {name: row[name] for name in ("prompt", "target", "tags", "rephrasings", "not_prompts", "key")} == {**FACT, **{n: notes[n] for n in notes if n != "metadata"}}  # fmt: skip
    review = row["metadata"].pop("review")
    assert row["author"] == "anna" and row["metadata"] == {"ticket": 7}
    assert (review["proposed_by"], review["approved_by"], review["proposal"]) == ("anna", "anna", f"{service.queue.name}:1")  # fmt: skip
    assert review["proposed_at"] <= review["approved_at"] <= row["created"]
    assert service.model.route(FACT["prompt"])["edit"] == 0


def test_a_proposal_waits_for_approval(client, service):
    waiting = client.post("/memoir/edits", json={**FACT, "author": "a customer"}, headers=as_("paul"))
    assert waiting.status_code == 202 and waiting.json()["status"] == "waiting" and "/approve" in waiting.json()["note"]
    assert waiting.headers["location"] == "/memoir/proposals/1"
    assert Catalog(service.store.folder).rows() == []
    refused = client.post("/memoir/proposals/1/approve", headers=as_("paul"))
    assert refused.status_code == 403 and "only approve" in refused.json()["error"]["message"]
    made = client.post("/memoir/proposals/1/approve", json={"reason": "checked"}, headers=as_("anna"))
    assert made.status_code == 200, made.text
    assert (made.json()["status"], made.json()["decided_by"]) == ("made", "anna")
    [row] = Catalog(service.store.folder).rows()
    assert (row["author"], row["metadata"]["review"]["proposed_by"], row["metadata"]["review"]["approved_by"]) == ("a customer", "paul", "anna")  # fmt: skip
    again = client.post("/memoir/proposals/1/reject", headers=as_("anna"))
    assert again.status_code == 409 and "made" in again.json()["error"]["message"]


def test_a_proposal_is_rejected_or_taken_back(client, service):
    for by in ("anna", "paul"):
        number = client.post("/memoir/edits", json=FACT, headers=as_("paul")).json()["id"]
        answer = client.post(f"/memoir/proposals/{number}/reject", json={"reason": "wrong"}, headers=as_(by))
        assert (answer.status_code, answer.json()["status"], answer.json()["reason"]) == (200, "rejected", "wrong")
    listed = client.get("/memoir/proposals", params={"status": "rejected", "limit": 1}, headers=as_("rita")).json()
    assert [one["id"] for one in listed["proposals"]] == [2] and listed["next"] == 2
    rest = client.get("/memoir/proposals", params={"before": 2}, headers=as_("rita")).json()
    assert [one["id"] for one in rest["proposals"]] == [1] and rest["next"] is None
    assert Catalog(service.store.folder).rows() == []


def test_the_same_request_is_made_once(client, service):
    named = {**as_("anna"), "Idempotency-Key": "one"}
    first = client.post("/memoir/edits", json=FACT, headers=named)
    second = client.post("/memoir/edits", json=FACT, headers=named)
    assert first.status_code == second.status_code == 201 and first.json() == second.json()
    other = client.post("/memoir/edits", json=OTHER, headers=named)
    assert other.status_code == 422 and "another request" in other.json()["error"]["message"]
    somebody = client.post("/memoir/edits", json=OTHER, headers={**as_("abel"), "Idempotency-Key": "one"})
    assert somebody.json()["id"] == 2  # whose keys are their own
    assert len(Catalog(service.store.folder).rows()) == 2


def test_a_key_that_says_the_same_is_stored_once(client):
    first, second = _made(client, key="k"), _made(client, key="k")
    assert first["edit"] == second["edit"] == 0 and "nothing was written" in second["reason"]


def test_searching_and_paging(client):
    for number in range(5):
        _made(client, prompt=f"w12{number} w13{number}", tags=["even"] if number % 2 == 0 else [], author="ann")
    seen, before = [], None
    while True:
        page = client.get("/memoir/edits", params={"limit": 2, **({} if before is None else {"before": before})}, headers=as_("rita")).json()  # fmt: skip
        seen += [row["id"] for row in page["edits"]]
        assert page["total"] == 5
        if (before := page["next"]) is None:
            break
    assert seen == [4, 3, 2, 1, 0]

    def ids(**params):
        answer = client.get("/memoir/edits", params=params, headers=as_("rita"))
        assert answer.status_code == 200, answer.text
        return [row["id"] for row in answer.json()["edits"]]

    assert ids(tag="even") == [4, 2, 0] and ids(q=["w123", "w150"]) == [3] and ids(author="bob") == []
    assert (
        ids(status="deleted") == [] and ids(since="2020-01-01T00:00:00+00:00", until="2021-01-01T00:00:00+00:00") == []
    )
    assert client.get("/memoir/edits", params={"since": "yesterday"}, headers=as_("rita")).status_code == 422


def test_an_edit_is_disabled_enabled_deleted_and_restored_and_its_history_tells(client, service):
    _made(client)

    def reads():
        return service.model.route(FACT["prompt"])["edit"]

    for verb, status in (("disable", "disabled"), ("enable", "active"), ("delete", "deleted"), ("restore", "active")):
        answer = client.delete("/memoir/edits/0", headers=as_("abel")) if verb == "delete" else client.post(f"/memoir/edits/0/{verb}", headers=as_("abel"))  # fmt: skip
        assert (answer.status_code, answer.json()["edit"]["status"], answer.json()["live"]) == (200, status, None), (
            answer.text
        )
        assert reads() == (0 if status == "active" else None)
    refused = client.post("/memoir/edits/0/enable", headers=as_("abel"))
    assert refused.status_code == 409 and "is active" in refused.json()["error"]["message"]
    history = client.get("/memoir/edits/0", headers=as_("rita")).json()["history"]
    assert [(one["what"], one["who"]) for one in history] == [("made", "anna"), *((status, "abel") for status in ("disabled", "active", "deleted", "active"))]  # fmt: skip


def test_a_newer_edit_takes_an_older_ones_place(client):
    _made(client)
    made = _made(client, target="w152")
    assert made["result"]["supersedes"] == [0]
    history = client.get("/memoir/edits/0", headers=as_("rita")).json()["history"]
    assert [(one["what"], one["by"]) for one in history] == [("made", None), ("superseded", 1)]


@pytest.mark.parametrize("verb", ["disable", "enable", "restore"])
def test_an_unknown_edit(client, verb):
    for answer in (client.post(f"/memoir/edits/7/{verb}", headers=as_("anna")), client.delete("/memoir/edits/7", headers=as_("anna")),
                   client.get("/memoir/edits/7", headers=as_("anna"))):  # fmt: skip
        assert answer.status_code == 404 and "GET /memoir/edits" in answer.json()["error"]["message"]


def test_an_edit_that_does_not_converge_is_taken_back(tmp_path):
    service = service_of(tmp_path, opened(tmp_path, steps=1, edit_lr=1e-6))
    with client_of(service) as client:
        answer = client.post("/memoir/edits", json=FACT, headers=as_("anna"))
        assert answer.status_code == 422 and "did not converge" in answer.json()["error"]["message"]
        told = client.get("/memoir/proposals/1", headers=as_("rita")).json()
        assert (told["status"], told["edit"]) == ("failed", 0)
        assert client.get("/memoir/edits/0", headers=as_("rita")).json()["status"] == "deleted"


def test_a_contradiction_under_reject_is_a_conflict(tmp_path):
    model = opened(tmp_path)
    model.journal.conflict = "reject"
    with client_of(service_of(tmp_path, model)) as client:
        _made(client)
        answer = client.post("/memoir/edits", json={**FACT, "target": "w152"}, headers=as_("anna"))
        assert answer.status_code == 409 and "contradicts edit 0" in answer.json()["error"]["message"]


def test_under_review_nobody_approves_their_own(tmp_path):
    with client_of(service_of(tmp_path, opened(tmp_path), review=True)) as client:
        assert client.post("/memoir/edits", json=FACT, headers=as_("anna")).json()["status"] == "waiting"
        refused = client.post("/memoir/proposals/1/approve", headers=as_("anna"))
        assert refused.status_code == 403 and "somebody else" in refused.json()["error"]["message"]
        assert client.post("/memoir/proposals/1/approve", headers=as_("abel")).json()["status"] == "made"


def test_a_full_disk_holds_the_queue_up_and_loses_nothing(client, service, monkeypatch):
    monkeypatch.setattr("memoir_fast.serving.editing.worker._PAUSE", 0.05)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(files, "write_all", full)
        answer = client.post("/memoir/edits", params={"wait": 1}, json=FACT, headers=as_("anna"))
        assert (answer.status_code, answer.json()["status"]) == (202, "queued")
        assert client.get("/health").status_code == 503
        told = client.get("/memoir/status", headers=as_("rita")).json()
        assert "No space left" in told["trouble"] and told["queued"] == 1
    made = client.get("/memoir/proposals/1", params={"wait": 30}, headers=as_("rita")).json()
    assert (made["status"], made["edit"]) == ("made", 0)
    with within(10):
        while client.get("/health").status_code == 503:
            time.sleep(0.01)
    with monkeypatch.context() as disk:
        disk.setattr(files, "write_all", full)
        refused = client.post("/memoir/edits/0/disable", headers=as_("anna"))
        assert (
            refused.status_code == 503
            and "No space left" in refused.json()["error"]["message"]
            and refused.headers["retry-after"]
        )
    told = client.get("/memoir/edits/0", headers=as_("rita")).json()
    assert (
        told["status"] == "active"
        and [one["what"] for one in told["history"]] == ["made"]
        and service.queue.acts() == []
    )
