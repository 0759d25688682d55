"""What is refused, with which status, and whether the message says what to do."""

from __future__ import annotations

import json

import pytest

from tests.serving.editing.support import FACT, KEYS, OTHER, as_, client_of, opened, service_of


def _told(answer) -> str:
    """The message of an answer that refuses."""
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["code"] == answer.status_code
    return error["message"]


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """One service for all: what is refused changes nothing."""
    folder = tmp_path_factory.mktemp("refusing")
    with client_of(service_of(folder, opened(folder))) as found:
        yield found
        assert found.get("/memoir/edits", headers=as_("rita")).json()["total"] == 0


@pytest.mark.parametrize("body, status, says", [
    (b"{", 400, "not JSON"),
    (b"\xff\xfe", 400, "JSON"),
    (b"[]", 422, "must be a JSON object"),
    (b"{}", 422, "prompt: Field required; target: Field required"),
    ({**FACT, "promt": "x"}, 422, "promt: there is no such field"),
    ({**FACT, "target": 7}, 422, "target: Input should be a valid string"),
    ({**FACT, "target": "  "}, 422, "target is empty"),
    ({**FACT, "prompt": "x" * 20_001}, 422, "prompt: String should have at most 20000"),
    ({**FACT, "rephrasings": ["a"] * 65}, 422, "rephrasings: List should have at most 64"),
    ({**FACT, "not_prompts": [FACT["prompt"]]}, 422, "cannot be both"),
    ({**FACT, "tags": [""]}, 422, "tags must be"),
    ({**FACT, "metadata": {"review": {}}}, 422, "the service's own"),
    (json.dumps({**FACT, "metadata": {"a": 1e999}}).encode(), 422, "metadata"),
    (b'{"prompt": "\\ud800", "target": "w150"}', 422, "prompt"),
    (b'{"prompt": "w100", "target": "w150", "metadata": ' + b'{"a":' * 150 + b"1" + b"}" * 150 + b"}", 422, "nested"),
    (b'{"prompt": "w100", "target": "w150", "metadata": ' + b'{"a":' * 9000 + b"1" + b"}" * 9000 + b"}", 413, "objects and lists"),
    (b'{"prompt": "' + b"x" * (5 << 20) + b'"}', 413, "longer than"),
])  # fmt: skip
def test_a_body_that_is_not_accepted(client, body, status, says):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post("/memoir/edits", content=content, headers={**as_("anna"), "Content-Type": "application/json"})
    assert answer.status_code == status and says in _told(answer)


@pytest.mark.parametrize("method, path, body, status, says", [
    ("GET", "/memoir/edits/x", None, 422, "edit: Input should be a valid integer"),
    ("GET", "/memoir/edits?limit=1000", None, 422, "limit: Input should be less than or equal to 200"),
    ("GET", "/memoir/edits?status=gone", None, 422, "'active', 'disabled'"),
    ("GET", "/memoir/proposals?status=gone", None, 422, "'waiting', 'queued'"),
    ("GET", "/memoir/nothing", None, 404, "/memoir/docs"),
    ("PUT", "/memoir/edits", FACT, 405, "/memoir/docs"),
    ("POST", "/memoir/edits/0/explode", None, 422, "'disable', 'enable' or 'restore'"),
    ("GET", "/memoir/proposals/9", None, 404, "GET /memoir/proposals lists"),
    ("POST", "/memoir/proposals/9/approve", None, 404, "there is no proposal 9"),
    ("GET", "/memoir/route", None, 422, "prompt: Field required"),
    ("POST", "/memoir/preview", {}, 422, "nothing to preview"),
    ("POST", "/memoir/preview", {"changes": [{"verb": "disable", "edit": 3}]}, 404, "there is no edit 3"),
    ("POST", "/memoir/preview", {"edits": [FACT], "questions": [""]}, 422, "questions.0"),
    ("POST", "/memoir/rollback", {"to": "yesterday"}, 422, "neither an edit's id nor a time"),
    ("POST", "/memoir/rollback", {"to": 5}, 422, "there is no edit 5"),
])  # fmt: skip
def test_a_request_that_makes_no_sense(client, method, path, body, status, says):
    answer = client.request(method, path, json=body, headers=as_("anna"))
    assert answer.status_code == status and says in _told(answer)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer"}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEYS['anna']}"}, {"Authorization": KEYS["anna"]},
                                     {"Authorization": f"Bearer {KEYS['anna'][:-1]}"}, {"Authorization": b"Bearer \xff\xfe"}])  # fmt: skip
def test_without_a_key_nothing_is_told(client, headers):
    for method, path in (("GET", "/memoir/edits"), ("POST", "/memoir/edits"), ("GET", "/memoir/nothing"), ("GET", "/memoir"), ("GET", "/memoir/status")):  # fmt: skip
        answer = client.request(method, path, headers=headers)
        if path == "/memoir":  # where the page would be
            assert answer.status_code == 404
        else:
            assert answer.status_code == 401 and "Authorization: Bearer" in _told(answer)
            assert answer.headers["www-authenticate"] == "Bearer"


_ROLES = [("propose", "POST", "/memoir/edits", FACT), ("propose", "POST", "/memoir/preview", {"edits": [FACT]}),
          ("propose", "POST", "/memoir/edits/0/disable", None), ("propose", "DELETE", "/memoir/edits/0", None),
          ("propose", "POST", "/memoir/rollback", {"to": 0}), ("propose", "POST", "/memoir/proposals/1/reject", None)]  # fmt: skip


@pytest.mark.parametrize("role, method, path, body", _ROLES)
def test_a_role_that_does_not_suffice(client, role, method, path, body):
    answer = client.request(method, path, json=body, headers=as_("rita"))
    assert answer.status_code == 403 and f"needs {role}" in _told(answer) and "rita" in _told(answer)


def test_what_needs_no_key(client):
    assert client.get("/health").json() == {"ok": True}
    schema = client.get("/memoir/openapi.json").json()
    assert set(schema["paths"]) == {
        "/health", "/memoir/edits", "/memoir/edits/{edit}", "/memoir/edits/{edit}/{verb}", "/memoir/proposals", "/memoir/proposals/{number}",
        "/memoir/proposals/{number}/{verdict}", "/memoir/preview", "/memoir/rollback", "/memoir/route", "/memoir/status", "/memoir/store",
        "/memoir/store/records", "/memoir/store/tensors",
    }  # fmt: skip


def test_too_many_requests_of_one_key(tmp_path):
    with client_of(service_of(tmp_path, opened(tmp_path)), per_minute=3) as client:
        answers = [client.get("/memoir/edits", headers=as_("rita")) for _ in range(5)]
        assert [one.status_code for one in answers] == [200, 200, 200, 429, 429]
        assert "3 requests a minute" in _told(answers[-1]) and 1 <= int(answers[-1].headers["retry-after"]) <= 60
        assert client.get("/memoir/edits", headers=as_("anna")).status_code == 200
        wrong = [client.get("/memoir/edits", headers={"Authorization": "Bearer no"}).status_code for _ in range(40)]
        assert wrong[:30] == [401] * 30 and wrong[-1] == 429
        assert client.get("/memoir/edits", headers=as_("anna")).status_code == 200  # a right key is let in all the same


def test_a_full_queue(tmp_path):
    with client_of(service_of(tmp_path, opened(tmp_path), most_open=1)) as client:
        assert client.post("/memoir/edits", json=FACT, headers=as_("paul")).status_code == 202
        answer = client.post("/memoir/edits", json=OTHER, headers=as_("paul"))
        assert answer.status_code == 503 and "1 proposals are open" in _told(answer) and answer.headers["retry-after"]


def test_no_key_is_logged(client, caplog):
    with caplog.at_level("DEBUG"):
        client.get("/memoir/edits", headers=as_("anna"))
        client.get("/memoir/route", params={"prompt": "w100 secret"}, headers=as_("anna"))
        client.get("/memoir/edits", headers={"Authorization": "Bearer some-wrong-key"})
        client.get("/memoir/x%0A2026-01-01 INFO forged%E2%80%AE", headers=as_("anna"))
    ours = [one.getMessage() for one in caplog.records if one.name.startswith("memoir_fast")]
    assert any("GET /memoir/route 200" in line and "anna" in line for line in ours)
    assert any("forged" in line for line in ours) and all(line.isprintable() and line.isascii() for line in ours)
    assert not any(key in line for line in ours for key in (*KEYS.values(), "some-wrong-key", "secret"))
