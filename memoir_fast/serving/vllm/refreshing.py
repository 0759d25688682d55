"""POST /memoir/refresh: the store's present edits are taken up, or all stays as it was and the answer says why."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from . import shared
from .live import Snapshot, UntoldError, held_by_all

Found = TypeVar("Found")
_LOG = logging.getLogger("vllm.memoir_fast")
_PATIENCE = 600.0  # seconds for which a refresh waits for one of another front end


class RefreshError(Exception):
    """A refresh failed and changed nothing, unless it says so. status: the HTTP status to answer with."""

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


class Refreshes:
    """Runs one refresh at a time. Calls that come while one runs share the next one, which sees all that was stored before they came."""

    def __init__(self) -> None:
        self._running = asyncio.Lock()
        self._next: asyncio.Task[dict[str, int]] | None = None

    async def call(self, engine: Any) -> dict[str, int]:
        """Take up the store's present edits.

        Args:
            engine: vLLM's engine client.

        Returns:
            {"generation": int, "edits": int, "seq": int}

        Raises:
            RefreshError: it failed; the server goes on with the edits that it has.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._run(engine))
        return await asyncio.shield(self._next)  # a client that leaves does not take the others' refresh with it

    async def _run(self, engine: Any) -> dict[str, int]:
        async with self._running:
            try:
                async with _one_front_end():
                    self._next = None  # who comes now may have stored something that this refresh does not see
                    return await _refresh(engine)
            finally:
                if self._next is asyncio.current_task():
                    self._next = None


@contextlib.asynccontextmanager
async def _one_front_end() -> AsyncIterator[None]:
    """Waits until no other process of the server refreshes."""
    end = asyncio.get_running_loop().time() + _PATIENCE
    while True:
        with shared.alone() as mine:
            if mine:
                yield
                return
        if asyncio.get_running_loop().time() > end:
            raise RefreshError("another front end of this server has been refreshing for ten minutes: ask again, or restart the server", 503)  # fmt: skip
        await asyncio.sleep(0.05)


async def _refresh(engine: Any) -> dict[str, int]:
    snapshot = await _reading(Snapshot, engine.vllm_config.model_config.hf_config.memoir)
    try:
        try:
            await _prepare(engine, snapshot)
        except Exception as error:  # told below; first no worker may keep a table that others did not take
            try:
                await engine.collective_rpc("memoir_drop")
            except Exception:  # the next refresh drops the table anyway
                _LOG.exception("a table that no worker uses could not be dropped")
            if isinstance(error, RefreshError):
                raise
            _LOG.warning("refreshing failed: %s", error)  # a worker's errors come as vLLM's own
            raise RefreshError(_kept(f"a worker did not take the edits: {error}"), 500) from error
        try:
            return await asyncio.to_thread(
                snapshot.agreed, await engine.collective_rpc("memoir_commit", args=(snapshot.seq,))
            )
        except UntoldError as error:
            _LOG.exception("the front ends were not told of a refresh")
            raise RefreshError(str(error), 500) from error
        except Exception as error:
            _LOG.exception("refreshing failed half way")
            raise RefreshError(f"{error}. Some workers may serve the new edits and others the old ones: restart the server", 500) from error  # fmt: skip
    finally:
        await asyncio.to_thread(snapshot.close)


async def _prepare(engine: Any, snapshot: Snapshot) -> None:
    """Let all workers make the table ready: without the pages that they hold, and if that fails, with all pages."""
    arguments = (str(snapshot.path),)
    await _reading(snapshot.write, held_by_all(await engine.collective_rpc("memoir_held")))
    try:
        await engine.collective_rpc("memoir_prepare", args=arguments)
    except Exception as error:  # of several engines only the first has said what it holds
        if not snapshot.partial:
            raise
        _LOG.warning("handing over all pages, because a worker did not take a table without some: %s", error)
        await _reading(snapshot.write, ())
        await engine.collective_rpc("memoir_prepare", args=arguments)


async def _reading(call: Callable[..., Found], *arguments: Any) -> Found:
    """What a call says that reads the store, in a thread of its own. Raises RefreshError."""
    try:
        return await asyncio.to_thread(call, *arguments)
    except Exception as error:  # whatever a store that something else lies in the place of may cause
        _LOG.warning("refreshing failed: %s", error)
        status = 409 if isinstance(error, ValueError) else 500
        raise RefreshError(_kept(str(error) or type(error).__name__), status) from error


def _kept(reason: str) -> str:
    now = shared.totals()
    return (
        f"{reason.rstrip('.')}. Nothing was changed: the server goes on with its {now['edits']} edits (generation {now['generation']}). Mend the store "
        "and ask again"
    )
