"""`memoir-fast edit-server`: a store that is edited over HTTP."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from .model_options import model_options, new_store_options, open_model
from .parsers import Command, Commands, count, parent_option
from .terminal import say

PORT = 8100


def add(commands: Commands, command: Command) -> None:
    """Add the command to the parser. command: `app.command`."""
    server = command(
        commands, "edit-server", _serve, "edit a store over HTTP: proposals, approval, previews, undo, and a page"
    )
    model_options(server, store=True)
    new_store_options(server)
    service = server.add_argument_group("the service")
    service.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    service.add_argument("--port", type=int, default=PORT, help="port to listen on (%(default)s)")
    service.add_argument("--keys", metavar="FILE", help='who may do what, in JSON: {"ann": {"role": "approve", "key": "..."}}, roles read, '
                         "propose, approve (default: the variable MEMOIR_FAST_EDIT_KEYS)")  # fmt: skip
    service.add_argument("--page", action="store_true", help="also offer the reviewers' page, at /memoir")
    service.add_argument(
        "--review", action="store_true", help="every edit and every change waits until somebody else approves it"
    )
    service.add_argument("--vllm-url", metavar="URL", help="vLLM's server that takes up each change at once, such as http://127.0.0.1:8000; "
                         "its key is read from the variable VLLM_API_KEY (default: none)")  # fmt: skip
    service.add_argument(
        "--queue", metavar="FILE", help="where proposals are kept (default: the store's path with -queue.sqlite)"
    )
    service.add_argument(
        "--most-open", type=count, default=1000, metavar="N", help="most proposals that wait (%(default)s)"
    )
    service.add_argument(
        "--rate", type=count, default=600, metavar="N", help="most requests a minute with one key (%(default)s)"
    )
    parent_option(service)


def _serve(options: argparse.Namespace) -> None:
    from ..serving.editing.run import check_installed, run

    check_installed()
    from ..serving.editing.app import make_app
    from ..serving.editing.keys import load_keys
    from ..serving.editing.live import Live
    from ..serving.editing.queue import Queue
    from ..serving.editing.served import Served
    from ..serving.editing.service import Rules, Service

    keys = load_keys(options.keys)  # what is wrong with the options is said before the model is loaded
    live = Live(Served(options.vllm_url, os.environ.get("VLLM_API_KEY"))) if options.vllm_url else None
    model = open_model(options)
    assert model.store is not None
    try:
        place = Path(options.queue or f"{str(options.store).rstrip('/')}-queue.sqlite")
        queue = Queue(place, model.store.manifest.store)
    except BaseException:
        model.close()
        raise
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("memoir_fast").setLevel(logging.INFO)
    service = Service(model, queue, live, Rules(review=options.review, most_open=options.most_open))
    say(
        options,
        f"{options.store}: edited on http://{options.host}:{options.port}/memoir/docs with the keys of {', '.join(keys.names)}",
    )
    run(make_app(service, keys, options.rate, options.page), options.host, options.port, options.parent)
