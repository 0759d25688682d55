"""Editing over HTTP: proposals, approval, undo, previews, and the reviewers' page, beside a model that vLLM serves or without one.

keys       who may do what                  queue      proposals and acts, in a file that survives a restart
shelf      the store's edits, for listing   worker     the one thread that uses the model
live       tells vLLM of what was stored    service    all of it together, without HTTP
gate       keys, rate and size of requests  api, page  the routes for programs and for people
"""
