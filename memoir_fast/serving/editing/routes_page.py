"""The OpenAPI page, rendered here: the usual ones load their scripts from somebody else's server."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from .rendering import rendered


def routes_page(app: FastAPI) -> HTMLResponse:
    """What the application's description says of each route, and of the fields of its body."""
    schema = app.openapi()
    models = schema["components"]["schemas"]
    bodies = {}
    for path, methods in schema["paths"].items():
        for method, about in methods.items():
            content = about.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            bodies[method + path] = [(name, _fields(models[name])) for name in _names(content)]
    return rendered("docs", schema=schema, bodies=bodies)


def _names(schema: dict[str, Any]) -> list[str]:
    """The models that a schema names, itself or among alternatives."""
    found = [schema, *schema.get("anyOf", [])]
    return [one["$ref"].rpartition("/")[2] for one in found if "$ref" in one]


def _fields(model: dict[str, Any]) -> list[dict[str, str]]:
    needed = model.get("required", [])
    return [
        {"name": name + (" (needed)" if name in needed else ""), "type": _kind(about), "meaning": about.get("description", "")}
        for name, about in model["properties"].items()
    ]  # fmt: skip


def _kind(about: dict[str, Any]) -> str:
    if "$ref" in about:
        return str(about["$ref"]).rpartition("/")[2]
    if "anyOf" in about:
        return " or ".join(_kind(one) for one in about["anyOf"])
    if "enum" in about:
        return " or ".join(map(str, about["enum"]))
    if about.get("type") == "array":
        return f"list of {_kind(about['items'])}"
    return str(about.get("type", "any"))
