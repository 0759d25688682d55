"""What is stored is live: the other side takes it up within two seconds, or the answer says that it did not yet."""

from __future__ import annotations

import re
import socket
import threading
import time

import pytest

from memoir_fast.serving.client import NotAnswered
from memoir_fast.serving.editing.live import Live
from memoir_fast.serving.editing.served import Served
from tests.serving.editing.support import FACT, OTHER, Follower, as_, client_of, opened, service_of


@pytest.fixture
def follower(tmp_path):
    found = Follower(tmp_path / "store", "its key")
    yield found
    found.close()


@pytest.fixture
def served(tmp_path, follower):
    model = opened(tmp_path)
    with client_of(service_of(tmp_path, model, Live(Served(follower.url, "its key")))) as client:
        yield client


def test_an_edit_is_live_when_its_answer_comes(served, follower):
    began = time.monotonic()
    made = served.post("/memoir/edits", json=FACT, headers=as_("anna")).json()
    assert made["live"] is True and follower.served == 1 and time.monotonic() - began < 10
    changed = served.post("/memoir/edits/0/disable", headers=as_("anna")).json()
    assert changed["live"] is True and follower.served == 2
    told = served.get("/memoir/status", headers=as_("rita")).json()
    assert told["vllm"] == {"seq": 2, "live": True, "trouble": ""} and (told["made"], told["seq"]) == (1, 2)


def test_it_is_told_again_until_it_takes_it_up(served, follower, monkeypatch):
    monkeypatch.setattr("memoir_fast.serving.editing.service._LIVE_WITHIN", 0.3)
    served.post("/memoir/edits", json=FACT, headers=as_("anna"))
    follower.up = False
    made = served.post("/memoir/edits", json=OTHER, headers=as_("anna")).json()
    assert made["status"] == "made" and made["live"] is False and "out of order" in made["note"]
    assert follower.served == 1
    follower.up = True
    until = time.monotonic() + 20
    while follower.served < 2 and time.monotonic() < until:
        time.sleep(0.02)
    assert follower.served == 2
    assert served.get(f"/memoir/proposals/{made['id']}", headers=as_("rita")).json()["live"] is True


def test_a_server_that_starts_later_is_told_what_the_store_holds(tmp_path, follower):
    follower.up = False
    model = opened(tmp_path)
    model.edit(*FACT.values())
    with client_of(service_of(tmp_path, model, Live(Served(follower.url, "its key")))):
        time.sleep(0.3)
        follower.up = True
        until = time.monotonic() + 20
        while follower.served < 1 and time.monotonic() < until:
            time.sleep(0.02)
    assert follower.served == 1


def test_a_store_with_fewer_records_in_the_same_place_is_served(tmp_path, follower):
    model = opened(tmp_path)
    model.edit(*FACT.values())
    model.edit(*OTHER.values())
    live = Live(Served(follower.url, "its key"))
    assert live.tell(2).result(20) is True and follower.generation == 1
    model.close()
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    model = opened(tmp_path)
    model.edit(*FACT.values())
    waiting = live.tell(3)
    live.anew()
    assert waiting.result(1) is False
    assert live.tell(1).result(20) is True and (follower.served, live.trouble) == (1, "")
    live.close()
    model.close()


def test_a_wrong_key_or_another_server_is_told_of(follower):
    for url, key, says in ((follower.url, "another", "status 401"), ("http://127.0.0.1:9", None, "refused")):
        live = Live(Served(url, key))
        done = live.tell(1)
        until = time.monotonic() + 20
        while says not in live.trouble and time.monotonic() < until:
            time.sleep(0.02)
        assert says in live.trouble and not done.done()
        live.close()
        assert done.result(1) is False


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "file:///etc/passwd", "http://", "http://a:b@host", "http://host?x=1"]
)
def test_what_is_no_address(url):
    with pytest.raises(ValueError, match="--vllm-url must be like"):
        Served(url)


def test_a_server_that_was_started_again_is_told_anew(tmp_path, follower, monkeypatch):
    monkeypatch.setattr("memoir_fast.serving.editing.live._LOOK", 0.05)
    with client_of(service_of(tmp_path, opened(tmp_path), Live(Served(follower.url, "its key")))) as client:
        client.post("/memoir/edits", json=FACT, headers=as_("anna"))
        follower.start_again()
        until = time.monotonic() + 20
        while follower.served < 1 and time.monotonic() < until:
            time.sleep(0.02)
    assert follower.served == 1


@pytest.mark.parametrize("answer, says", [(b"", "closed connection"), (b"what?\r\n\r\n", "what?"), (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "names no seq"),
                                          (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", "ended after 1 of 99 bytes"), (b"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n", "status 307")])  # fmt: skip
def test_another_server_in_its_place_is_told_of(answer, says):
    with socket.create_server(("127.0.0.1", 0)) as place:

        def serve():
            with place.accept()[0] as one:
                one.recv(65536)
                one.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(NotAnswered, match=re.escape(says)):
            Served(f"http://127.0.0.1:{place.getsockname()[1]}").refresh()
