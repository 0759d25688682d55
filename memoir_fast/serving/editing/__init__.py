"""Editing over HTTP: proposals, approval, undo, previews, and the reviewers' page, beside a model that vLLM serves or without one.

What is done: `service`, without HTTP. It stands on `queue` (proposals and acts, in a file that survives a restart), `shelf` (the store's edits, for
listing), `worker` (the one thread that uses the model), `live` (keeps vLLM up to date) and `trying` (previews, routes, rollbacks).
`feed` is what replicas follow.
How it is asked: `gate` (keys, rate and size of requests), then `api` for programs and `page` for people, `feed_routes` for replicas; `app` joins them, `run` runs it.
"""
