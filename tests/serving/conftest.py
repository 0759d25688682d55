from __future__ import annotations

import pytest

from memoir_fast.serving.vllm import live, shared


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder of a server of this test's own."""
    (tmp_path / "server").mkdir()
    monkeypatch.setenv(shared.ENVIRONMENT, str(tmp_path / "server"))
    yield tmp_path / "server"
    live.forget()
