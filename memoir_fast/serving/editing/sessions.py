"""Who is logged in to the reviewers' page: a cookie that only the browser sees, and a word that each form must bring back."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie

from .keys import Caller

COOKIE = "memoir_session"
LASTS = 12 * 3600  # seconds
_MOST = 1024  # sessions; the oldest ends first


@dataclass(frozen=True)
class Session:
    """Whose it is, the word for its forms, when it ends, and what the next page is to say."""

    caller: Caller
    word: str
    ends: float
    said: list[str] = field(default_factory=list)

    def taken(self) -> list[str]:
        """What is to be said, once."""
        found = self.said[:]
        self.said.clear()
        return found


class Sessions:
    """The sessions of this process; a restart ends them all. clock: seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._lock = clock, threading.Lock()
        self._known: OrderedDict[str, Session] = OrderedDict()  # by the digest of the cookie's value

    def begin(self, caller: Caller) -> str:
        """A new session; returns the cookie's value."""
        value = secrets.token_urlsafe(32)
        with self._lock:
            self._known[_digest(value)] = Session(caller, secrets.token_urlsafe(32), self._clock() + LASTS)
            while len(self._known) > _MOST:
                self._known.popitem(last=False)
        return value

    def end(self, cookies: str) -> None:
        """Log out."""
        with self._lock:
            self._known.pop(_digest(_value(cookies)), None)

    def find(self, cookies: str) -> Session | None:
        """The session of a request with this Cookie header."""
        value = _value(cookies)
        with self._lock:
            found = self._known.get(_digest(value)) if value else None
        return found if found is not None and found.ends > self._clock() else None

    def caller(self, cookies: str) -> Caller | None:
        """Whose the session is."""
        found = self.find(cookies)
        return None if found is None else found.caller


def same_word(session: Session, word: str) -> bool:
    """Whether a form brought the session's word back."""
    return hmac.compare_digest(session.word.encode(), word.encode("utf-8", "replace"))


def _value(cookies: str) -> str:
    try:
        found = SimpleCookie(cookies).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()
