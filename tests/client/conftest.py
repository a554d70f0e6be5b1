"""A server that answers as told, and both clients on a clock that tests move."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.client.bench import AnyClient, Clock, make_client
from tests.client.fake import FakeServer, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
def server() -> Iterator[FakeServer]:
    # A socket's path has a hundred characters at most, and those of tmp_path can be longer.
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sync", "async"])
async def client(
    request: pytest.FixtureRequest, server: FakeServer, clock: Clock
) -> AsyncIterator[AnyClient]:
    """One client after the other: what is true of one must be true of both."""
    client = make_client(request.param, server.address, clock)
    yield client
    await client.close()
