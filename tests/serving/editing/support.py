"""A service on a tiny model, its client, and a server that takes up edits as vLLM does."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import uvicorn
from starlette.testclient import TestClient

from memoir_fast import MemoirModel
from memoir_fast.serving.editing.app import make_app
from memoir_fast.serving.editing.keys import Keys
from memoir_fast.serving.editing.live import Live
from memoir_fast.serving.editing.queue import Queue
from memoir_fast.serving.editing.service import Rules, Service
from memoir_fast.store import Catalog
from tests.support.models import attached, tiny_model, word_tokenizer
from tests.support.ports import free_port

KEYS = {name: f"{name}-key-for-these-tests" for name in ("rita", "paul", "anna", "abel")}
ROLES = {"rita": "read", "paul": "propose", "anna": "approve", "abel": "approve"}
SETTINGS = {"router": "tokens", "threshold": None, "steps": 15}
FACT = {"prompt": "w100 w101 w102", "target": "w150"}
OTHER = {"prompt": "w110 w111 w112", "target": "w151"}


def keys() -> Keys:
    return Keys({name: {"role": role, "key": KEYS[name]} for name, role in ROLES.items()}, "these tests")


def as_(name: str) -> dict[str, str]:
    """The header with somebody's key."""
    return {"Authorization": f"Bearer {KEYS[name]}"}


def opened(folder: Path, **settings: Any) -> MemoirModel:
    """A tiny model with the store of a folder, made if there is none."""
    store = folder / "store"
    if store.exists():
        return MemoirModel.open(str(store), tiny_model("llama"), word_tokenizer(), **settings)
    made = attached(tiny_model("llama"), **{**SETTINGS, **settings})
    made.create_store(str(store), conflict="supersede")
    return made


def service_of(folder: Path, model: MemoirModel, live: Live | None = None, **rules: Any) -> Service:
    assert model.store is not None
    return Service(model, Queue(folder / "queue.sqlite", model.store.manifest.store), live, Rules(**rules))


@contextlib.contextmanager
def client_of(service: Service, **options: Any) -> Iterator[TestClient]:
    """A client of a service, which runs meanwhile."""
    with TestClient(make_app(service, keys(), **options), raise_server_exceptions=False) as client:
        yield client


@contextlib.contextmanager
def listening(service: Service, **options: Any) -> Iterator[str]:
    """The address of a service that listens on this machine, as `edit-server` runs it, but in a thread."""
    port = free_port()
    app = cast(Any, make_app(service, keys(), **options))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


class Follower:
    """A server that reads a store anew on POST /memoir/refresh, and says up to which record, as vLLM does.

    Attributes:
        url: its address; up: whether it answers, or with status 500; generation: how often it read the store; served: the last record that it read.
    """

    def __init__(self, folder: Path, key: str):
        self.up, self.generation, self.served = True, 0, -1
        follower = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                if self.path != "/memoir/refresh" or self.headers.get("Authorization") != f"Bearer {key}":
                    return self.answer(401, {"error": {"message": "no key"}})
                if not follower.up:
                    return self.answer(500, {"error": {"message": "out of order"}})
                follower.served = Catalog(folder).state.seq
                follower.generation += 1
                self.answer(200, {"generation": follower.generation, "edits": 0, "seq": follower.served})

            def do_GET(self) -> None:
                body = f"# HELP x y\nmemoir_fast_generation {float(follower.generation)}\n".encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def answer(self, status: int, value: Any) -> None:
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def start_again(self) -> None:
        """As one that serves an older export."""
        self.generation, self.served = 0, -1

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
