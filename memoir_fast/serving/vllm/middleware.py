"""What our server adds to vLLM's OpenAI server (its `--middleware`): a limit for bodies, counters, which edit spoke, and refreshing.

GET  /metrics           memoir_fast_requests_total{outcome}, memoir_fast_edits, memoir_fast_generation, how often each edit is read, and vLLM's own
POST /memoir/refresh    take up the store's present edits; guarded by vLLM's own check of the API key

It reads no body itself: vLLM's authentication, which stands behind it, sees each request first.
"""

from __future__ import annotations

from typing import Any

from . import shared
from .bodies import MOST_PARTS, MOST_PARTS_OF_RESPONSES, App, Message, Receive, Send, answer, error, limited, most_bytes
from .counters import metrics
from .explaining import Explainer
from .refreshing import RefreshError, Refreshes
from .usage import most_edits


class Middleware:
    """ASGI middleware around vLLM's application."""

    def __init__(self, app: App):
        self.app = app
        most_bytes(1)  # an unusable setting stops the server at its start
        most_edits()
        self._explainer = Explainer()
        self._refreshes = Refreshes()
        self._guarded: App | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _memoir(scope) is None:
            return await self.app(scope, receive, send)
        method, path = scope["method"], scope["path"].removeprefix(scope.get("root_path", ""))
        if method == "GET" and path.rstrip("/") == "/metrics":
            return await metrics(self.app, scope, receive, send)
        app = self.app
        if method == "POST" and path == "/memoir/refresh":
            if self._guarded is None:
                self._guarded = guarded(self._refresh, scope["app"].state.args)
            # Under the name of a path that vLLM guards.
            app, scope = self._guarded, {**scope, "path": scope.get("root_path", "") + "/v1" + path}
        most = most_bytes(_engine(scope).vllm_config.model_config.max_model_len)
        most_parts = MOST_PARTS_OF_RESPONSES if path.startswith("/v1/responses") else MOST_PARTS
        with self._explainer.request(scope) as asked:
            if await limited(app, scope, asked.receiving(receive), asked.sending(send), most, most_parts):
                shared.refused.add()

    async def _refresh(self, scope: Message, receive: Receive, send: Send) -> None:
        try:
            found = await self._refreshes.call(_engine(scope))
        except RefreshError as failed:
            return await answer(send, failed.status, error(str(failed), "RefreshError", failed.status))
        return await answer(send, 200, found)


def guarded(app: App, options: Any) -> App:
    """An application behind vLLM's own check of the API keys, where the server has some. options: the server's."""
    from vllm import envs
    from vllm.entrypoints.serve.middleware.authenticate import AuthenticationMiddleware

    keys = [key for key in (options.api_key or [envs.VLLM_API_KEY]) if key]
    checked: App = AuthenticationMiddleware(app, tokens=keys) if keys else app
    return checked


def _engine(scope: Message) -> Any:
    return scope["app"].state.engine_client


def _memoir(scope: Message) -> Any:
    """The served checkpoint's `memoir` section; None for another model."""
    engine = getattr(scope["app"].state, "engine_client", None)
    return None if engine is None else getattr(engine.vllm_config.model_config.hf_config, "memoir", None)
