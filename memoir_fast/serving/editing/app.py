"""The service as an ASGI application."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from ... import __version__
from ..vllm.bodies import App
from . import api
from . import page as pages
from .feed_routes import feed_routes
from .gate import PAGE, Gate, headers_of
from .keys import Keys
from .refused import Refused
from .routes_page import routes_page
from .service import Service
from .sessions import Sessions

_LOG = logging.getLogger("memoir_fast.editing")
_MOST_TOLD = 5  # of what is wrong with a body


def make_app(service: Service, keys: Keys, per_minute: int = 600, page: bool = False) -> Gate:
    """The application; the service starts and ends with it.

    Args:
        service: not started yet. keys: who may come in. per_minute: requests of each key. page: whether there is the reviewers' page.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.close()

    app = FastAPI(title="memoir_fast editing service", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
                  openapi_url="/memoir/openapi.json")  # fmt: skip
    app.include_router(api.routes(service))
    app.include_router(feed_routes(service.feed))
    sessions = Sessions() if page else None
    if sessions is not None:
        app.state.sessions = sessions
        app.include_router(pages.pages(service, keys, sessions))
        app.add_exception_handler(pages.LoginNeeded, pages.login_needed)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _bug)

    @app.get("/health", summary="Whether the service works", responses={503: {"description": "the queue stands still"}})
    async def health() -> Response:
        return JSONResponse({"ok": not service.worker.trouble}, 503 if service.worker.trouble else 200)

    @app.get("/memoir/docs", include_in_schema=False)
    async def docs() -> Response:
        return routes_page(app)

    return Gate(cast(App, app), keys, per_minute, sessions)


def _answer(request: Request, refused: Refused) -> Response:
    path = request.url.path
    if hasattr(request.app.state, "sessions") and (path == PAGE or path.startswith(f"{PAGE}/page/")):
        return pages.refused_page(request, refused)
    headers = {name.decode(): value.decode() for name, value in headers_of(refused)}
    return JSONResponse(refused.body(), refused.status, headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return _answer(request, error)


async def _invalid(request: Request, error: Exception) -> Response:
    """What is wrong with a request, field by field; the values are not repeated, for they can be of any size."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(one["type"] == "json_invalid" for one in found):
        return _answer(
            request,
            Refused(400, "the body is not JSON: send an object, with the header Content-Type: application/json"),
        )
    told = [f"{_place(one)}: {_problem(one)}" for one in found[:_MOST_TOLD]]
    more = f" (and {len(found) - _MOST_TOLD} more)" if len(found) > _MOST_TOLD else ""
    return _answer(request, Refused(422, "; ".join(told) + f"{more}. /memoir/docs shows what is accepted"))


def _place(problem: dict[str, Any]) -> str:
    place = ".".join(str(part)[:60] for part in problem["loc"] if part not in ("body", "query", "path", "header"))
    return place or "the body"


def _problem(problem: dict[str, Any]) -> str:
    if problem["loc"] == ("body",):
        return "must be a JSON object, sent with the header Content-Type: application/json"
    return "there is no such field" if problem["type"] == "extra_forbidden" else str(problem["msg"])[:200]


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = {
        404: f"there is no {request.url.path[:100]}: /memoir/docs lists what there is",
        405: f"{request.method} does not go with {request.url.path[:100]}: /memoir/docs lists what does",
        400: "the body could not be read: send JSON in UTF-8",
    }
    return _answer(request, Refused(error.status_code, told.get(error.status_code, str(error.detail))))


async def _bug(request: Request, error: Exception) -> Response:
    _LOG.error("%s %r failed by a bug of memoir_fast", request.method, request.url.path[:200], exc_info=error)
    return _answer(request, Refused(500, "this is a bug of memoir_fast; the service's log tells more"))
