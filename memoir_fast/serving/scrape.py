"""How often a running server's edits are read, from its `/metrics`."""

from __future__ import annotations

import http.client
import math
import re
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import numpy as np

from ..errors import brief, quoted
from ..reading.usage import OTHER, USE, empty

_TIME, _MOST = 30.0, 64 << 20  # seconds, and bytes of an answer
_SAMPLE = re.compile(r'memoir_fast_edit_(reads|nearly_read)_total\{edit="(other|\d{1,18})"\} (\S+)')
_FIELDS = {"reads": "reads", "nearly_read": "nearly"}


def usage_of_server(url: str) -> np.ndarray:
    """Lines of `reading.usage.USE`, in the server's order, with how often each was read and nearly read; one for all others at the end.

    Args:
        url: the server's address, like http://127.0.0.1:8000, or that of its `/metrics`.

    Raises:
        ValueError: nothing answers there, or it does not count edits.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"--url {quoted(url)}: expected an address like http://127.0.0.1:8000")
    at = url.rstrip("/").removesuffix("/metrics") + "/metrics"
    try:
        with urllib.request.urlopen(at, timeout=_TIME) as answer:
            data = answer.read(_MOST + 1)
    except urllib.error.HTTPError as error:
        raise ValueError(f"--url {at}: answers with status {error.code}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ValueError(f"--url {at}: nothing answers ({brief(error)})") from None
    if len(data) > _MOST:
        raise ValueError(f"--url {at}: the answer is longer than {_MOST >> 20} MiB")
    return usage_in(data.decode("utf-8", "replace"), at)


def usage_in(text: str, where: str) -> np.ndarray:
    """The same from the text of a `/metrics`; where: it is from, for messages."""
    found: dict[int, np.ndarray] = {}
    for line in text.splitlines():
        if (sample := _SAMPLE.fullmatch(line)) is None:
            continue
        name, edit, value = sample.groups()
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 <= number < 1 << 53:
            raise ValueError(f"--url {where}: a count is {quoted(value)}")
        key = OTHER if edit == "other" else int(edit)
        found.setdefault(key, empty(key))[_FIELDS[name]] = int(number)
    if OTHER not in found:
        raise ValueError(
            f"--url {where}: it does not count edits; is it a server of memoir-fast serve, of this version?"
        )
    other = found.pop(OTHER)
    return np.array([*found.values(), other], USE)
