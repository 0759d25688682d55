"""Who may do what: keys with names and roles, from a file or the environment."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...base import files
from ...base.json_text import parse
from ...errors import quoted

ENVIRONMENT = "MEMOIR_FAST_EDIT_KEYS"
# Each may do what those before it may: look; propose edits and preview them; approve, change and roll back.
ROLES = ("read", "propose", "approve")
_LEAST, _LONGEST_FILE = 20, 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_FORM = '{"ann": {"role": "approve", "key": "..."}, ...}'
_DRAW = 'python -c "import secrets; print(secrets.token_urlsafe(32))"'


@dataclass(frozen=True)
class Caller:
    """Who asks: the name and the role of a key."""

    name: str
    role: str

    def may(self, role: str) -> bool:
        """Whether this caller's role includes another one."""
        return ROLES.index(self.role) >= ROLES.index(role)


class Keys:
    """The keys that the service knows. Only their digests are kept, so that no dump or message can show one.

    Args:
        values: name -> {"role": one of `ROLES`, "key": text}.
        where: the file or the variable, for messages.

    Raises:
        ValueError: a name, a role or a key is not accepted, or there is none. The message never quotes a key.
    """

    def __init__(self, values: Any, where: str):
        if not isinstance(values, dict) or not values:
            raise ValueError(f"{where}: must hold a JSON object of names with a role and a key each, {_FORM}")
        self._callers: dict[bytes, Caller] = {}
        for name, entry in values.items():
            if not _NAME.fullmatch(name):
                raise ValueError(f"{where}: {quoted(name)} is no name: take up to 64 letters, digits and . _ @ -")
            if not isinstance(entry, dict) or set(entry) != {"role", "key"}:
                raise ValueError(f"{where}: {name} must have a role and a key and nothing else, like {_FORM}")
            if entry["role"] not in ROLES:
                raise ValueError(f"{where}: {name}: role must be one of {ROLES}, got {quoted(entry['role'])}")
            known = _digest(_checked(entry["key"], f"{where}: {name}"))
            if known in self._callers:
                raise ValueError(
                    f"{where}: {name} and {self._callers[known].name} have the same key: draw one for each"
                )
            self._callers[known] = Caller(name, entry["role"])

    def find(self, key: str) -> Caller | None:
        """Whose key this is. The time does not depend on how much of it is right, nor on whose it is."""
        given, found = _digest(key), None
        for known, caller in self._callers.items():
            if hmac.compare_digest(known, given):
                found = caller
        return found

    @property
    def names(self) -> list[str]:
        """Whom the keys belong to."""
        return [caller.name for caller in self._callers.values()]


def load_keys(path: str | None, environment: Mapping[str, str] = os.environ) -> Keys:
    """The keys of a file or, without one, of the variable `MEMOIR_FAST_EDIT_KEYS`, both in JSON.

    Raises:
        ValueError: there are none, or they are not accepted.
    """
    where = ENVIRONMENT if path is None else f"--keys {path}"
    text = environment.get(ENVIRONMENT) if path is None else files.read_named(Path(path), "--keys", _LONGEST_FILE)
    if text is None:
        raise ValueError(f"no keys: give --keys FILE, or set {ENVIRONMENT}, with {_FORM}. `{_DRAW}` draws a key")
    try:
        values = parse(text, where)
    except ValueError:
        raise ValueError(f"{where}: is not JSON like {_FORM}") from None  # what the parser says could quote a key
    return Keys(values, where)


def _checked(key: Any, where: str) -> str:
    if not isinstance(key, str) or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(
            f"{where}: the key must be text of printable ASCII characters without blanks: `{_DRAW}` draws one"
        )
    if len(key) < _LEAST:
        raise ValueError(
            f"{where}: the key has {len(key)} characters, at least {_LEAST} are needed: `{_DRAW}` draws one"
        )
    return key


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
