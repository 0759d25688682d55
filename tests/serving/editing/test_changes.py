"""Changes of stored edits that wait for approval: who may propose and who decides, what is carried out, and what the audit trail tells, over HTTP."""

from __future__ import annotations

import errno
import shutil
import threading
import time

import pytest

from memoir_fast.base import files
from memoir_fast.store import Catalog
from tests.serving.editing.support import FACT, OTHER, as_, client_of, opened, service_of
from tests.serving.editing.test_page import Browser
from tests.support.stores import contents


@pytest.fixture
def edited(client):
    """Two edits: of `FACT` and `OTHER`, made by anna."""
    for fact in (FACT, OTHER):
        assert client.post("/memoir/edits", json=fact, headers=as_("anna")).status_code == 201
    return client


def asked(client, verb, edit, by="paul", status=202, **options):
    headers = {**as_(by), **({"Idempotency-Key": options.pop("once")} if "once" in options else {})}
    if verb == "delete":
        answer = client.delete(f"/memoir/edits/{edit}", params=options, headers=headers)
    else:
        answer = client.post(f"/memoir/edits/{edit}/{verb}", params=options, headers=headers)
    assert answer.status_code == status, answer.text
    return answer.json()


def decided(client, number, verdict="approve", by="anna", status=200, **body):
    answer = client.post(f"/memoir/proposals/{number}/{verdict}", json=body, headers=as_(by))
    assert answer.status_code == status, answer.text
    return answer.json()


def statuses(service):
    return {row["id"]: row["status"] for row in Catalog(service.store.folder).rows()}


@pytest.mark.parametrize(("path", "becomes"), [
    (("disable",), "disabled"), (("disable", "enable"), "active"), (("delete",), "deleted"), (("delete", "restore"), "active")])  # fmt: skip
def test_every_change_waits_and_is_done_once_it_is_approved(edited, service, path, becomes):
    for verb in path[:-1]:
        asked(edited, verb, 0, by="anna", status=200)
    before = contents(service.store), service.store.state.seq
    waiting = asked(edited, path[-1], 0, reason="it is wrong since May")
    assert (waiting["id"], waiting["status"], waiting["kind"], waiting["fact"]) == (3, "waiting", path[-1], None)
    assert waiting["change"] == {"change": path[-1], "edits": [{"edit": 0, "becomes": becomes}], "to": "", "reason": "it is wrong since May"}  # fmt: skip
    assert "/memoir/proposals/3/approve" in waiting["note"]
    assert (contents(service.store), service.store.state.seq) == before
    assert "only approve may decide" in decided(edited, 3, by="paul", status=403)["error"]["message"]
    done = decided(edited, 3, reason="I looked")
    assert (done["status"], done["edit"], done["decided_by"], done["reason"], done["live"]) == ("made", 0, "anna", "I looked", None)  # fmt: skip
    assert statuses(service) == {0: becomes, 1: "active"}
    assert service.model.route(FACT["prompt"])["edit"] == (0 if becomes == "active" else None)
    last = edited.get("/memoir/edits/0", headers=as_("rita")).json()["history"][-1]
    assert {name: last[name] for name in ("what", "who", "proposal", "proposed_by", "reason")} == {
        "what": becomes, "who": "anna", "proposal": 3, "proposed_by": "paul", "reason": "it is wrong since May"}  # fmt: skip
    assert last["seq"] == done["result"]["seq"] == service.store.state.seq


def test_what_is_not_approved_is_not_done(edited, service):
    asked(edited, "disable", 0)
    asked(edited, "delete", 1)
    assert decided(edited, 3, "reject", reason="it is right")["status"] == "rejected"
    assert decided(edited, 4, "reject", by="paul")["status"] == "rejected"  # taken back
    assert statuses(service) == {0: "active", 1: "active"}
    assert [one["what"] for one in edited.get("/memoir/edits/0", headers=as_("rita")).json()["history"]] == ["made"]
    listed = edited.get("/memoir/proposals", params={"status": "rejected"}, headers=as_("rita")).json()["proposals"]
    assert [(one["kind"], one["change"]["edits"][0]["edit"]) for one in listed] == [("delete", 1), ("disable", 0)]


def test_an_approver_changes_at_once_and_says_why(edited, service):
    assert asked(edited, "disable", 0, by="anna", status=200, reason="recalled")["edit"]["status"] == "disabled"
    last = edited.get("/memoir/edits/0", headers=as_("rita")).json()["history"][-1]
    assert (last["who"], last["reason"], last["proposal"], last["proposed_by"]) == ("anna", "recalled", None, None)
    assert edited.get("/memoir/proposals", params={"status": "waiting"}, headers=as_("rita")).json()["proposals"] == []


def test_who_may_only_look_proposes_nothing(edited, service):
    for verb in ("disable", "delete"):
        assert "needs propose" in asked(edited, verb, 0, by="rita", status=403)["error"]["message"]
    assert edited.post("/memoir/rollback", json={"to": 0}, headers=as_("rita")).status_code == 403
    assert service.queue.newest((), None, 9)[0].id == 2


def test_what_cannot_be_done_is_refused_when_it_is_proposed(edited):
    assert "edit 0 is active; enable needs" in asked(edited, "enable", 0, status=409)["error"]["message"]
    assert "there is no edit 9" in asked(edited, "delete", 9, status=404)["error"]["message"]
    assert edited.get("/memoir/proposals/3", headers=as_("rita")).status_code == 404


def test_what_cannot_be_done_any_more_fails_and_changes_nothing(edited, service):
    asked(edited, "disable", 0)
    asked(edited, "delete", 0, by="anna", status=200)
    before = contents(service.store), service.store.state.seq
    refused = decided(edited, 3, status=409)["error"]["message"]
    assert "proposal 3 failed" in refused and "edit 0 is deleted; disable needs" in refused
    told = edited.get("/memoir/proposals/3", headers=as_("rita")).json()
    assert (told["status"], told["decided_by"]) == ("failed", "anna") and "edit 0 is deleted" in told["reason"]
    assert (contents(service.store), service.store.state.seq) == before and len(service.queue.acts()) == 1


def test_under_review_an_approvers_change_waits_for_somebody_else(tmp_path):
    service = service_of(tmp_path, opened(tmp_path), review=True)
    with client_of(service) as client:
        number = client.post("/memoir/edits", json=FACT, headers=as_("anna")).json()["id"]
        decided(client, number, by="abel")
        assert asked(client, "disable", 0, by="anna")["status"] == "waiting"
        assert "somebody else" in decided(client, 2, by="anna", status=403)["error"]["message"]
        assert decided(client, 2, by="abel")["status"] == "made" and statuses(service) == {0: "disabled"}
        shown = client.post("/memoir/rollback", json={"to": 0}, headers=as_("anna")).json()
        answer = client.post("/memoir/rollback", json={"to": 0, "confirm": shown["confirm"]}, headers=as_("anna"))
        assert (answer.status_code, answer.json()["kind"], answer.json()["id"]) == (202, "rollback", 3)
        assert decided(client, 3, by="abel")["status"] == "made" and statuses(service) == {0: "active"}


def test_the_same_request_proposes_once(edited):
    first = asked(edited, "disable", 0, once="one")
    assert asked(edited, "disable", 0, once="one")["id"] == first["id"]
    assert "another request" in asked(edited, "delete", 0, once="one", status=422)["error"]["message"]
    decided(edited, first["id"])
    again = asked(edited, "disable", 0, once="one", status=200)  # by now it could not be proposed
    assert (again["id"], again["status"]) == (first["id"], "made")
    shown = edited.post("/memoir/rollback", json={"to": 0}, headers=as_("paul")).json()
    body, named = {"to": 0, "confirm": shown["confirm"]}, {**as_("paul"), "Idempotency-Key": "two"}
    number = edited.post("/memoir/rollback", json=body, headers=named).json()["id"]
    asked(edited, "enable", 0, by="anna", status=200)  # the word would not be accepted any more
    assert edited.post("/memoir/rollback", json=body, headers=named).json()["id"] == number
    assert edited.post("/memoir/rollback", json={**body, "to": 1}, headers=named).status_code == 422


def test_a_rollback_is_shown_then_proposed_then_approved(edited, service):
    shown = edited.post("/memoir/rollback", json={"to": 0}, headers=as_("paul")).json()
    assert not shown["done"] and [one["edit"] for one in shown["changes"]] == [1]
    guessed = edited.post("/memoir/rollback", json={"to": 0, "confirm": "guessed"}, headers=as_("paul"))
    assert guessed.status_code == 409
    body = {"to": 0, "confirm": shown["confirm"], "reason": "a bad batch"}
    waiting = edited.post("/memoir/rollback", json=body, headers=as_("paul"))
    assert waiting.status_code == 202 and waiting.json()["change"] == {
        "change": "rollback", "edits": [{"edit": 1, "becomes": "deleted"}], "to": "0", "reason": "a bad batch"}  # fmt: skip
    assert statuses(service) == {0: "active", 1: "active"}
    done = decided(edited, 3)
    assert (done["status"], done["edit"], done["result"]) == ("made", None, {"seq": service.store.state.seq})
    assert statuses(service) == {0: "active", 1: "deleted"}
    last = edited.get("/memoir/edits/1", headers=as_("rita")).json()["history"][-1]
    assert (last["what"], last["who"], last["proposed_by"], last["reason"]) == (
        "deleted",
        "anna",
        "paul",
        "a bad batch",
    )


def test_a_rollback_that_would_change_others_by_now_fails(edited, service):
    """Nobody has seen what it would do to an edit that came later."""
    for to in (0, 0):
        shown = edited.post("/memoir/rollback", json={"to": to}, headers=as_("paul")).json()
        edited.post("/memoir/rollback", json={"to": to, "confirm": shown["confirm"]}, headers=as_("paul"))
    edited.post("/memoir/edits", json={"prompt": "w120 w121 w122", "target": "w152"}, headers=as_("anna"))
    before = statuses(service)
    assert "propose it again" in decided(edited, 3, status=409)["error"]["message"]
    assert statuses(service) == before
    asked(edited, "delete", 2, by="anna", status=200)
    assert decided(edited, 4)["status"] == "made"  # only what it was seen to change is left
    assert statuses(service) == {0: "active", 1: "deleted", 2: "deleted"}


def test_a_rollback_that_deletes_everything_must_be_meant_when_it_is_proposed(edited, service):
    body = {"to": "2000-01-01T00:00:00+00:00"}
    body["confirm"] = edited.post("/memoir/rollback", json=body, headers=as_("paul")).json()["confirm"]
    refused = edited.post("/memoir/rollback", json=body, headers=as_("paul"))
    assert refused.status_code == 422 and '"empty": true' in refused.json()["error"]["message"]
    number = edited.post("/memoir/rollback", json={**body, "empty": True}, headers=as_("paul")).json()["id"]
    assert decided(edited, number)["status"] == "made" and set(statuses(service).values()) == {"deleted"}


def test_a_waiting_change_is_previewed_by_its_number(edited, service):
    before = contents(service.store), service.store.state.seq
    asked(edited, "disable", 0)
    shown = edited.post("/memoir/rollback", json={"to": 0}, headers=as_("paul")).json()
    edited.post("/memoir/rollback", json={"to": 0, "confirm": shown["confirm"]}, headers=as_("paul"))
    for number, fact, edit in ((3, FACT, 0), (4, OTHER, 1)):
        told = edited.post("/memoir/preview", json={"proposal": number}, headers=as_("paul")).json()
        [row] = told["questions"]
        assert (row["question"], row["before"]["edit"], row["after"]["edit"]) == (fact["prompt"], edit, None)
        assert row["before"]["answer"].startswith(fact["target"]) and row["changed"] and told["edits"] == []
        assert [(one["edit"], one["after"]) for one in told["stored"]] == [(edit, None)]
    assert (contents(service.store), service.store.state.seq) == before


def test_an_approved_change_waits_for_a_disk_that_is_full_and_for_a_restart(tmp_path, monkeypatch):
    monkeypatch.setattr("memoir_fast.serving.editing.worker._PAUSE", 0.05)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    service = service_of(tmp_path, opened(tmp_path))
    with client_of(service) as client, monkeypatch.context() as disk:
        client.post("/memoir/edits", json=FACT, headers=as_("anna"))
        asked(client, "disable", 0)
        disk.setattr(files, "write_all", full)
        answer = client.post("/memoir/proposals/2/approve", params={"wait": 1}, headers=as_("anna"))
        assert (answer.status_code, answer.json()["status"]) == (202, "queued")
        assert "No space left" in client.get("/memoir/status", headers=as_("rita")).json()["trouble"]
        for _ in range(200):  # it is noted who is about to do it at each try, and forgotten when that fails
            if service.queue.acts() == []:
                break
            time.sleep(0.01)
        else:
            raise AssertionError(service.queue.acts())
    with client_of(service_of(tmp_path, opened(tmp_path))) as client:
        told = client.get("/memoir/proposals/2", params={"wait": 30}, headers=as_("rita")).json()
        assert (told["status"], told["edit"]) == ("made", 0)
        assert client.get("/memoir/edits/0", headers=as_("rita")).json()["status"] == "disabled"


@pytest.mark.parametrize("written", [False, True])
def test_a_change_is_done_once_although_the_service_is_killed_in_its_course(tmp_path, written, monkeypatch):
    """Killed after it was noted who did it, and before or after the store's record: the queue's file and the store are as they would be then."""
    service = service_of(tmp_path, opened(tmp_path))
    with client_of(service) as client:
        for fact in (FACT, OTHER):
            client.post("/memoir/edits", json=fact, headers=as_("anna"))
        number = asked(client, "disable", 0)["id"]
    service = service_of(tmp_path, opened(tmp_path))  # without a worker
    service.queue.decide(number, "anna", True)
    seq = service.store.state.seq
    service.queue.note("anna", "disable", [0], seq + 1, number)
    if written:
        service.model.disable(0)
    service.close()
    service = service_of(tmp_path, opened(tmp_path))
    with client_of(service) as client:
        told = client.get(f"/memoir/proposals/{number}", params={"wait": 30}, headers=as_("rita")).json()
        assert (told["status"], told["edit"], told["result"]) == ("made", 0, {"seq": seq + 1}), told
        assert statuses(service) == {0: "disabled", 1: "active"} and service.store.state.seq == seq + 1
        assert [(act.who, act.proposal) for act in service.queue.acts()] == [("anna", number)]


def test_an_approved_change_does_not_wait_for_approved_edits(edited, service):
    go = threading.Event()
    held = service.worker.call(lambda: go.wait(60))  # the model is busy meanwhile
    edited.post("/memoir/edits", params={"wait": 0}, json={**FACT, "target": "w153"}, headers=as_("anna"))
    numbers = [3, asked(edited, "disable", 0)["id"], asked(edited, "delete", 1)["id"]]
    for number in numbers[1:]:
        edited.post(f"/memoir/proposals/{number}/approve", params={"wait": 0}, headers=as_("anna"))
    go.set()
    assert held.result(60)
    for number in numbers:
        told = edited.get(f"/memoir/proposals/{number}", params={"wait": 60}, headers=as_("rita")).json()
        assert told["status"] == "made", told
    assert [(act.what, act.edits) for act in service.queue.acts()] == [("disable", [0]), ("delete", [1])]
    assert [entry.header["kind"] for entry in service.store.history()] == ["edit", "edit", "status", "status", "edit"]


def test_a_change_of_an_edit_that_a_store_put_back_from_a_copy_does_not_have_fails_and_is_listed(tmp_path):
    with client_of(service_of(tmp_path, opened(tmp_path))) as client:
        client.post("/memoir/edits", json=FACT, headers=as_("anna"))
    shutil.copytree(tmp_path / "store", tmp_path / "copy")
    with client_of(service_of(tmp_path, opened(tmp_path))) as client:
        client.post("/memoir/edits", json=OTHER, headers=as_("anna"))
        for edit in (0, 1):
            asked(client, "disable", edit)
    shutil.rmtree(tmp_path / "store")
    shutil.move(tmp_path / "copy", tmp_path / "store")
    service = service_of(tmp_path, opened(tmp_path))
    with client_of(service, page=True) as client:
        anna = Browser(client, "anna")
        assert "disable edit 1" in anna.get("/memoir/page/proposals").text
        assert "not in the store any more" in anna.get("/memoir/page/proposals/4").text
        assert "edit 1 is not in the store any more" in decided(client, 4, status=409)["error"]["message"]
        assert decided(client, 3)["status"] == "made" and statuses(service) == {0: "disabled"}
