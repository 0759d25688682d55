"""Values, texts and bytes that programs trip over, and small changes of a JSON value."""

from __future__ import annotations

import copy
import json
import math
import random
from typing import Any

NUMBERS: list[Any] = [
    0, -1, 1, 2, 7, 255, 1 << 31, 1 << 32, (1 << 53) - 1, 1 << 53, 1 << 62, -(1 << 63), 1 << 64, 10**30, 10**400, 0.5, -0.0, 1e-300, 1e300,
    1.5, float("nan"), float("inf"), -float("inf"), True, False, None,
]  # fmt: skip
TEXTS = [
    "", " ", "x", "x" * 5000, "\x00", "\x1b[2J\x1b]0;x\x07", "\u202eabc", "\ud800", "\u2028", "../../outside/keep.txt", "/etc/passwd", "..", ".",
    "a/b", "config.json", "lock", "active", "deleted", "edit", "status", "tags", "tokens", "mask", "auto", "sgd", "preconditioned", "float32",
    "bfloat16", "0" * 32, "f" * 32, "2026-01-01T00:00:00+00:00", "9999-99-99", "AAAA", "====", "é", "\U0001f600" * 50, "%s%n", "{}", "NaN", "1e400",
    "model.layers.1.mlp.down_proj", "SELECT 1", "!!python/object/apply:os.system [id]",
]  # fmt: skip


def nasty(rng: random.Random, depth: int = 0) -> Any:
    """A value of any JSON type, mostly one at the edge of a range."""
    kind = rng.randrange(8)
    if kind < 3:
        return rng.choice(NUMBERS)
    if kind < 6:
        return rng.choice(TEXTS)
    if depth > 3:
        return rng.choice(NUMBERS)
    if kind == 6:
        return [nasty(rng, depth + 1) for _ in range(rng.choice([0, 1, 2, 3, 40]))]
    return {rng.choice(TEXTS): nasty(rng, depth + 1) for _ in range(rng.choice([0, 1, 2, 3]))}


def places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key or place) of every value inside a JSON value."""
    found, stack = [], [value]
    while stack:
        one = stack.pop()
        inside = list(one.items()) if isinstance(one, dict) else list(enumerate(one)) if isinstance(one, list) else []
        for key, child in inside:
            found.append((one, key))
            if isinstance(child, (dict, list)):
                stack.append(child)
    return found


def _near(value: Any, rng: random.Random) -> Any:
    """A value of the same kind that is a little off."""
    if isinstance(value, bool) or value is None:
        return nasty(rng)
    if isinstance(value, int):
        return rng.choice([value + 1, value - 1, -value, value * 2, value << 20, value + 0.5, str(value), [value]])
    if isinstance(value, float):
        return rng.choice([-value, value + 1, value * 1e30, int(value) if math.isfinite(value) else 0, str(value)])
    if isinstance(value, str):
        cut = rng.randrange(len(value) + 1)
        return rng.choice(
            [
                value[:cut],
                value + value,
                value[:cut] + rng.choice(TEXTS) + value[cut:],
                value.upper(),
                [value],
                {value[:9]: value},
            ]
        )
    if isinstance(value, list):
        return rng.choice(
            [value + value, value[1:], value[::-1], value * 30, {str(i): v for i, v in enumerate(value)}, []]
        )
    return rng.choice([{}, list(value.values()), {**value, rng.choice(TEXTS): nasty(rng)}])


def changed(value: Any, rng: random.Random) -> Any:
    """A copy of a JSON value with one to three changes: a value put in place of another, dropped, added, moved or a little off."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        found = places(value)
        if not found or rng.random() < 0.02:
            value = nasty(rng)
            continue
        container, key = rng.choice(found)
        kind = rng.randrange(6)
        if kind < 2:
            container[key] = nasty(rng)
        elif kind < 4:
            container[key] = _near(container[key], rng)
        elif kind == 4:
            del container[key]
        else:
            other, place = rng.choice(found)
            container[key] = copy.deepcopy(other[place]) if not isinstance(other, dict) or place in other else None
    return value


def text_of(value: Any, rng: random.Random) -> bytes:
    """A JSON value as text, sometimes in ways that a plain writer would not choose."""
    text = json.dumps(value, ensure_ascii=rng.random() < 0.7)
    kind = rng.randrange(12)
    if kind == 0:
        text = text.replace(": ", ':1e400,"x":', 1)
    elif kind == 1 and isinstance(value, dict) and value:
        text = (
            text[:-1] + f", {json.dumps(rng.choice(list(value)))}: {json.dumps(nasty(rng))}" + "}"
        )  # a key that comes twice
    data = text.encode("utf-8", "surrogatepass")
    if kind == 2:
        data = b"\xef\xbb\xbf" + data
    elif kind == 3:
        data = text.encode("utf-16", "surrogatepass")
    return data


DEEP = [b"[" * 20_000, b'{"a":' * 20_000, b"[" * 10**6, b'"' + b'\\"' * 10**5, b"[" * 20_000 + b"]" * 20_000, b"9" * 10_000, b"-", b"nul", b"",
        b"\xff\xfe", b"\x00" * 64, b'{"a": ' + b"9" * 5000 + b"}"]  # fmt: skip


def raw(data: bytes, rng: random.Random, other: bytes = b"") -> bytes:
    """Bytes with one to three changes that know nothing of their structure."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        place, length = rng.randrange(len(data) + 1), rng.choice([1, 1, 2, 4, 8, 100, 5000])
        kind = rng.randrange(8)
        if kind < 2 and data:
            place = min(place, len(data) - 1)
            data = data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]
        elif kind == 2:
            data = data[:place]
        elif kind == 3:
            data = data[:place] + data[place + length :]
        elif kind == 4:
            data = data[:place] + data[place : place + length] * rng.choice([2, 3]) + data[place + length :]
        elif kind == 5:
            data = data[:place] + rng.randbytes(length) + data[place + length :]
        elif kind == 6:
            data = (
                data[:place]
                + rng.choice([b"\xff" * 8, b"\x00" * 8, b"\xff\xff\xff\x7f", b"\x01" + b"\x00" * 7])
                + data[place + 8 :]
            )
        else:
            start = rng.randrange(len(other) + 1)
            data = data[:place] + other[start : start + length] + data[place:]
    return data
