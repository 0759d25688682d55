"""GET /metrics: the memory's counters in front of vLLM's own. They are read, never added to, so that scrapes at the same time agree."""

from __future__ import annotations

from . import shared, usage
from .bodies import App, Message, Receive, Send


def written(openmetrics: bool) -> bytes:
    """What the server has counted at this moment, in Prometheus's text format or in that of OpenMetrics, whose end is left out."""
    found, requests = shared.totals(), "memoir_fast_requests"
    lines: list[tuple[str, str, str, list[tuple[str, float]]]]
    lines = [(requests if openmetrics else f"{requests}_total", "counter", "Requests by what the memory did for them.",
              [(f'{requests}_total{{outcome="{outcome}"}}', found[outcome]) for outcome in shared.OUTCOMES])]  # fmt: skip
    for name, text in (("edits", "Active edits."), ("generation", "How often the edits were refreshed."),
                       ("seq", "The last record of the store that is served.")):  # fmt: skip
        lines.append((f"memoir_fast_{name}", "gauge", text, [(f"memoir_fast_{name}", found[name])]))
    for name, kind, text, samples in usage.families(usage.used()):
        lines.append((name if openmetrics or kind != "counter" else f"{name}_total", kind, text, samples))
    texts = []
    for name, kind, text, samples in lines:
        texts += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        texts += [f"{sample} {float(value)}" for sample, value in samples]
    return ("\n".join(texts) + "\n").encode()


async def metrics(app: App, scope: Message, receive: Receive, send: Send) -> None:
    """vLLM's answer with our counters in front."""
    plain = {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]}
    began: Message | None = None
    parts: list[bytes] = []

    async def keep(message: Message) -> None:
        nonlocal began
        if message["type"] == "http.response.start":
            began = message
        elif message["type"] == "http.response.body":
            parts.append(message.get("body", b""))

    await app(plain, receive, keep)
    if began is None:
        return
    body, headers = b"".join(parts), {bytes(name).lower(): value for name, value in began.get("headers", [])}
    if began["status"] == 200:
        body = written(headers.get(b"content-type", b"").startswith(b"application/openmetrics-text")) + body
    headers = {**headers, b"content-length": str(len(body)).encode()}
    await send({**began, "headers": list(headers.items())})
    await send({"type": "http.response.body", "body": body})
