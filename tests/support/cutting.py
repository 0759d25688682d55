"""A connection that breaks: passes bytes on to a server, and cuts each answer off after a while."""

from __future__ import annotations

import contextlib
import random
import socket
import threading


class Cutting:
    """Listens on this machine, and is asked in a server's place.

    Args:
        port: the server's, which may change. seed: of the lengths after which answers are cut. whole: the share of answers that are not.

    Attributes:
        url: its address; cuts: how many answers were cut off.
    """

    def __init__(self, port: int, seed: int = 0, whole: float = 0.5):
        self.port, self._draw, self._whole = port, random.Random(seed), whole
        self.cuts = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        left = (
            None if self._draw.random() < self._whole else self._draw.choice((0, 90, 300, 700, 3000, 20_000, 100_000))
        )
        with contextlib.suppress(OSError), client:
            with socket.create_connection(("127.0.0.1", self.port)) as server:
                threading.Thread(target=_copy, args=(client, server), daemon=True).start()
                try:
                    self._answer(server, client, left)
                finally:  # closing alone waits for the thread that reads
                    for one in (client, server):
                        with contextlib.suppress(OSError):
                            one.shutdown(socket.SHUT_RDWR)

    def _answer(self, server: socket.socket, client: socket.socket, left: int | None) -> None:
        while data := server.recv(4096):
            if left is not None and len(data) > left:
                client.sendall(data[:left])
                self.cuts += 1
                return
            client.sendall(data)
            left = None if left is None else left - len(data)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(4096):
            target.sendall(data)
