"""Renders the reviewers' page: every text is escaped, and nothing but the page's own style sheet is loaded."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from ...errors import printable

_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
}


def rendered(template: str, code: int = 200, /, **values: Any) -> HTMLResponse:
    """A page. template: the name of a file in `templates`, without its ending; code: the HTTP status; values: for it."""
    text = _environment().get_template(f"{template}.html").render(values)
    return HTMLResponse(text, code, _HEADERS)


@cache
def _environment() -> Environment:
    found = Environment(loader=PackageLoader(__package__ or ""), autoescape=True, undefined=StrictUndefined, finalize=_visible,
                       trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    found.filters["as_json"] = lambda value: json.dumps(value, ensure_ascii=False)
    return found


def _visible(value: Any) -> Any:
    """A text whose control characters and marks of writing direction can be seen, as on the command line: they could make an edit look like
    another one. What is escaped already stays."""
    return printable(value) if type(value) is str else value
