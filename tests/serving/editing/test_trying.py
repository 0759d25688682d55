"""What is asked before something is decided: previews, routes and rollbacks, over HTTP; nothing of it is kept."""

from __future__ import annotations

import pytest

from tests.serving.editing.support import FACT, OTHER, as_
from tests.support.stores import contents


@pytest.fixture
def edited(client, service):
    """Two edits: of `FACT` and `OTHER`."""
    for fact in (FACT, OTHER):
        answer = client.post(
            "/memoir/edits", json={**fact, "rephrasings": [fact["prompt"] + " w160"]}, headers=as_("anna")
        )
        assert answer.status_code == 201, answer.text
    return client


def _asked(client, **body):
    answer = client.post("/memoir/preview", json=body, headers=as_("paul"))
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_preview_of_an_edit_shows_before_and_after_and_keeps_nothing(edited, service):
    before = contents(service.store), service.store.state.seq
    new = {"prompt": "w120 w121 w122", "target": "w152"}
    told = _asked(edited, edits=[new], questions=[new["prompt"], "w100 w101 w102", "w170 w171"])
    [made] = told["edits"]
    assert (made["prompt"], made["supersedes"]) == (new["prompt"], []) and made["would_be"] == 2
    first, second, third = told["questions"]
    assert first["changed"] and first["before"]["edit"] is None and first["after"]["answer"].startswith("w152") and not first["before"]["answer"].startswith("w152")  # fmt: skip
    assert (
        not second["changed"] and second["after"]["edit"] == 0 and second["after"]["answer"].startswith(FACT["target"])
    )
    assert not third["changed"] and (third["after"]["edit"], third["after"]["answer"]) == (None, "")
    assert told["stored"] == [] and told["looked_at"] == 4
    assert (contents(service.store), service.store.state.seq) == before
    assert service.model.route(new["prompt"])["edit"] is None
    assert [one["question"] for one in _asked(edited, edits=[{**new, "rephrasings": ["w123 w124"]}])["questions"]] == [
        new["prompt"],
        "w123 w124",
    ]


def test_a_preview_names_the_stored_questions_that_would_read_another_edit(edited, service):
    told = _asked(edited, edits=[{**FACT, "target": "w153"}])
    assert told["edits"][0]["supersedes"] == [0]
    assert {(one["question"], one["before"]) for one in told["stored"]} >= {(FACT["prompt"], 0)}
    assert all(one["after"] != 0 for one in told["stored"])
    told = _asked(edited, changes=[{"verb": "disable", "edit": 1}], questions=[OTHER["prompt"]])
    assert told["questions"][0]["before"]["edit"] == 1 and told["questions"][0]["after"]["edit"] is None
    assert {one["edit"] for one in told["stored"]} == {1}
    refused = edited.post("/memoir/preview", json={"changes": [{"verb": "enable", "edit": 1}]}, headers=as_("paul"))
    assert refused.status_code == 409 and "edit 1 is active" in refused.json()["error"]["message"]
    assert service.store.state.statuses == {0: "active", 1: "active"}
    assert _asked(edited, edits=[OTHER], stored=False)["looked_at"] == 0


def test_a_waiting_proposal_is_previewed_by_its_number(edited):
    number = edited.post("/memoir/edits", json={"prompt": "w130 w131", "target": "w154"}, headers=as_("paul")).json()[
        "id"
    ]
    told = _asked(edited, proposal=number)
    assert told["questions"][0]["changed"] and told["questions"][0]["after"]["answer"].startswith("w154")
    assert edited.post("/memoir/preview", json={"proposal": 99}, headers=as_("paul")).status_code == 404


def test_an_edit_that_cannot_be_made_says_why(edited):
    long = " ".join(["w100"] * 400)
    answer = edited.post("/memoir/preview", json={"edits": [{"prompt": long, "target": "w150"}]}, headers=as_("paul"))
    assert answer.status_code == 422 and "tokens" in answer.json()["error"]["message"]
    made = edited.post("/memoir/edits", json={"prompt": long, "target": "w150"}, headers=as_("anna"))
    assert made.status_code == 422 and "tokens" in made.json()["error"]["message"]


def test_a_route_says_which_edit_and_why(edited):
    told = edited.get(
        "/memoir/route", params={"prompt": "w100 w101 w102 w161", "answers": True}, headers=as_("rita")
    ).json()
    best = told["candidates"][0]
    assert (best["edit"], best["prompt"], best["target"]) == (0, FACT["prompt"], FACT["target"])
    assert best["covered"] == ["w100", "w101", "w102"] and best["missing"] == [] and isinstance(best["added"], list)
    assert {"before", "after"} <= told.keys() and (told["edit"] == 0) == (told["before"] != told["after"])
    plain = edited.get("/memoir/route", params={"prompt": "w170 w171", "top": 1}, headers=as_("rita")).json()
    assert plain["edit"] is None and "before" not in plain and len(plain["candidates"]) <= 1


def test_a_rollback_is_shown_and_then_confirmed(edited, service):
    def back(status=200, **body):
        answer = edited.post("/memoir/rollback", json=body, headers=as_("abel"))
        assert answer.status_code == status, answer.text
        return answer.json()

    shown = back(to=0)
    assert not shown["done"] and shown["changes"] == [{"edit": 1, **OTHER, "status": "active", "becomes": "deleted"}]
    assert service.store.state.statuses[1] == "active"
    assert "ask for the preview again" in back(409, to=0, confirm="guessed")["error"]["message"]
    edited.post("/memoir/edits/0/disable", headers=as_("abel"))
    assert "changed since" in back(409, to=0, confirm=shown["confirm"])["error"]["message"]
    shown = back(to=0)
    assert {one["edit"]: one["becomes"] for one in shown["changes"]} == {0: "active", 1: "deleted"}
    done = back(to=0, confirm=shown["confirm"])
    assert done["done"] and service.store.state.statuses == {0: "active", 1: "deleted"}
    history = edited.get("/memoir/edits/1", headers=as_("rita")).json()["history"]
    assert (history[-1]["what"], history[-1]["who"]) == ("deleted", "abel")
    assert back(to=0, confirm="any") == {**back(to=0), "done": False}  # nothing is left to change


def test_a_time_before_the_first_edit_needs_a_word_more(edited, service):
    body = {"to": "2000-01-01T00:00:00+00:00"}
    shown = edited.post("/memoir/rollback", json=body, headers=as_("anna")).json()
    assert shown["deletes_all"] and len(shown["changes"]) == 2
    refused = edited.post("/memoir/rollback", json={**body, "confirm": shown["confirm"]}, headers=as_("anna"))
    assert refused.status_code == 422 and '"empty": true' in refused.json()["error"]["message"]
    done = edited.post(
        "/memoir/rollback", json={**body, "confirm": shown["confirm"], "empty": True}, headers=as_("anna")
    )
    assert done.json()["done"] and set(service.store.state.statuses.values()) == {"deleted"}
