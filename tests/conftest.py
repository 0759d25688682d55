"""Fixtures of all tests."""

from __future__ import annotations

import pytest

# These need vLLM, in an environment of its own: make test-vllm.
collect_ignore = ["vllm"]


def pytest_collection_modifyitems(items):
    """The file that takes longest first: beside others, in place of alone at the end."""
    items.sort(key=lambda item: item.path.name != "test_threads.py")


@pytest.fixture(autouse=True)
def _own_cache(request, tmp_path_factory, monkeypatch):
    """Tests on tiny models keep out of the user's cache; the real model's conversion is shared (it takes long)."""
    if "smollm2" not in request.fixturenames:
        monkeypatch.setenv("MEMOIR_FAST_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def smollm2():
    """The real model and its tokenizer; tests that attach a memory must detach it."""
    from memoir_fast import load_model

    return load_model("smollm2")
