"""A service on a tiny model with a store of its own, and its client."""

from __future__ import annotations

import pytest

from tests.serving.editing.support import client_of, opened, service_of


@pytest.fixture
def service(tmp_path):
    """Not started yet; `client` starts it."""
    return service_of(tmp_path, opened(tmp_path))


@pytest.fixture
def client(service):
    with client_of(service) as found:
        yield found
