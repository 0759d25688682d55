"""`memoir-fast follow`: a copy of a store that somebody edits elsewhere, kept up to date over HTTP."""

from __future__ import annotations

import argparse
import logging
import os
from typing import TYPE_CHECKING

from .parsers import Command, Commands, parent_option
from .terminal import complain, say, told, write_json

if TYPE_CHECKING:
    from ..serving.following import Follower


def add(commands: Commands, command: Command) -> None:
    """Add the command to the parser. command: `app.command`."""
    follow = command(commands, "follow", _follow, "keep a copy of an editing service's store up to date")
    follow.add_argument("--url", required=True, help="the service (`memoir-fast edit-server`), such as http://127.0.0.1:8100; "
                        "a key with the role read is taken from the variable MEMOIR_FAST_FOLLOW_KEY")  # fmt: skip
    follow.add_argument("--store", metavar="DIR", required=True, help="folder of the copy; it is made")
    follow.add_argument("--vllm-url", metavar="URL", help="vLLM's server that takes up each change at once, such as http://127.0.0.1:8000; "
                        "its key is read from the variable VLLM_API_KEY (default: none)")  # fmt: skip
    follow.add_argument("--once", action="store_true", help="end as soon as the copy has what the service has now")
    parent_option(follow)


def _follow(options: argparse.Namespace) -> None:
    import signal
    from pathlib import Path

    from ..serving.editing.live import Live
    from ..serving.editing.served import Served
    from ..serving.following import Follower
    from ..serving.parent import ends_with

    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("memoir_fast").setLevel(logging.INFO)
    live = Live(Served(options.vllm_url, os.environ.get("VLLM_API_KEY"))) if options.vllm_url else None

    def tell(seq: int, anew: bool) -> None:
        if live is not None:
            if anew:
                live.anew()
            live.tell(seq)

    try:
        with Follower(origin_of(options.url), Path(options.store), tell) as follower:
            if follower.store is not None:
                told(options, follower.store)
                tell(follower.seq, True)
            if options.once:
                caught_up(options, follower, options.url)
            else:
                for number in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(number, lambda *_: follower.stop())
                if options.parent is not None:
                    ends_with(options.parent, follower.stop)
                say(options, f"{options.store}: follows {options.url}")
                follower.run()
            write_json(options, {"store": str(options.store), "url": options.url, "seq": follower.seq})
    finally:
        if live is not None:
            live.close()


def origin_of(url: str):  # type: ignore[no-untyped-def]  # `Origin`, which is loaded when it is needed
    """The service at an address, with the key of the environment. Raises ValueError where the address is none."""
    from ..serving.following import KEY, Origin

    return Origin(url, os.environ.get(KEY))


def caught_up(options: argparse.Namespace, follower: Follower, url: str) -> None:
    """Bring the copy up to date before anything reads it. Where the service does not answer, an earlier copy is used as it is, and that is said.

    Raises:
        ValueError: there is no copy yet, and no answer.
    """
    from ..serving.client import NotAnswered

    try:
        follower.catch_up()
    except NotAnswered as error:
        if follower.store is None:
            raise ValueError(f"{url}: {error}. There is no copy in {follower.folder} yet: start the editing service first, "
                             "with a key of the role read in MEMOIR_FAST_FOLLOW_KEY here") from None  # fmt: skip
        complain(
            options, f"{url}: {error}. The copy in {follower.folder} is used as it is, up to record {follower.seq}"
        )
    else:
        say(options, f"{follower.folder}: a copy of {url} up to record {follower.seq}")
