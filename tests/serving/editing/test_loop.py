"""A real server on a port: while an edit is made, it answers others, and a slow client or one that leaves harms nobody."""

from __future__ import annotations

import concurrent.futures
import socket
import time

import httpx
import pytest

from tests.serving.editing.support import FACT, OTHER, as_, listening, opened, service_of


@pytest.fixture
def client(tmp_path):
    model = opened(tmp_path, steps=300, stop_loss=0.0, stop_delta=0.0)  # an edit of about a second
    with listening(service_of(tmp_path, model), per_minute=100_000) as url:
        with httpx.Client(base_url=url, headers=as_("anna"), timeout=60) as found:
            yield found


def _queued(client) -> int:
    return client.get("/memoir/status").json()["queued"]


def test_an_edit_holds_up_nobody(client):
    with socket.create_connection((client.base_url.host, client.base_url.port)) as slow:  # a body that never comes
        slow.sendall(b"POST /memoir/edits HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nAuthorization: " + as_("anna")["Authorization"].encode() + b"\r\n\r\n{")  # fmt: skip
        for fact in (FACT, OTHER):
            answer = client.post("/memoir/edits", params={"wait": 0}, json=fact)
            assert (answer.status_code, answer.json()["status"]) == (202, "queued")
        longest, asked, began = 0.0, 0, time.monotonic()
        while _queued(client):
            sent = time.monotonic()
            assert client.get("/memoir/edits", params={"q": "w100"}).status_code == 200
            longest, asked = max(longest, time.monotonic() - sent), asked + 1
        assert asked >= 5 and longest < min(2.0, (time.monotonic() - began) / 2), (asked, longest)
    assert client.get("/memoir/edits").json()["total"] == 2


def test_a_client_that_leaves_loses_nothing(client):
    with pytest.raises(httpx.ReadTimeout):
        client.post("/memoir/edits", json=FACT, timeout=0.3)
    told = client.get("/memoir/proposals/1", params={"wait": 60}).json()
    assert (told["status"], told["edit"]) == ("made", 0)


def test_many_at_once_are_each_made_once(client):
    def ask(number):
        body = {"prompt": f"w1{number:02} w1{number + 9:02}", "target": "w150"}
        return client.post("/memoir/edits", params={"wait": 0}, json=body, headers={"Idempotency-Key": str(number % 4)})

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, [0, 1, 2, 3, 0, 1, 2, 3]))
    assert {one.status_code for one in answers} <= {201, 202}
    assert sorted(one.json()["id"] for one in answers) == [1, 1, 2, 2, 3, 3, 4, 4]


def test_a_large_body_without_a_key_is_not_read_and_its_sender_sees_why(client):
    with httpx.Client(base_url=client.base_url, timeout=30) as stranger:
        answer = stranger.post("/memoir/edits", content=b"x" * (20 << 20))
    assert answer.status_code == 401 and "a key is needed" in answer.json()["error"]["message"]
