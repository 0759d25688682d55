"""The routes by which replicas follow the store."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import FileResponse, Response
from fastapi.security import HTTPBearer

from ..replication import CONFIG_PATH, RECORDS_PATH, SETTINGS, TENSORS_PATH
from .api import FAILURES, Reader
from .feed import Feed

_LONGEST_WAIT = 30.0  # seconds for which a request waits for a new record
Digest = Annotated[str, Query(pattern="^[0-9a-f]{32}$")]
Link = Annotated[str, Query(pattern="^([0-9a-f]{32})?$", description="the digest of record `after`, empty for 0")]
_BYTES: dict[int | str, dict[str, Any]] = {200: {"content": {"application/octet-stream": {}}}}


def feed_routes(feed: Feed) -> APIRouter:
    """The routes that `memoir-fast follow` asks."""
    router = APIRouter(responses=FAILURES, dependencies=[Depends(HTTPBearer(auto_error=False))])

    @router.get(CONFIG_PATH, summary="The store's settings, for a replica (a store's config.json)")
    async def settings(_: Reader) -> Response:
        text, headers = feed.settings
        return Response(text, media_type="application/json", headers=headers)

    @router.get(
        TENSORS_PATH,
        summary="A file that the settings name, by its digest",
        response_class=FileResponse,
        responses=_BYTES,
    )
    async def tensors(digest: Digest, _: Reader) -> Response:
        return FileResponse(feed.tensors(digest), media_type="application/octet-stream")

    @router.get(
        RECORDS_PATH, summary="The records behind one that the replica has", response_class=Response, responses=_BYTES
    )
    async def records(
        _: Reader,
        after: Annotated[int, Query(ge=0, lt=1 << 53)],
        link: Link = "",
        settings: Annotated[str, Query(pattern="^([0-9a-f]{32})?$", description="as the last answer said")] = "",
        wait: Annotated[float, Query(ge=0, le=_LONGEST_WAIT, description="seconds to wait for a new record")] = 0,
    ) -> Response:
        if wait:
            await feed.more(after, settings or feed.headers[SETTINGS], wait)
        headers = feed.headers  # before the page is made, so that no record comes by settings that were not named
        page = await asyncio.to_thread(feed.page, after, link)
        return Response(page, media_type="application/octet-stream", headers=headers)

    return router
