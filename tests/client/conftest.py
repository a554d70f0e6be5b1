"""A server that answers as told, and both clients on a clock that tests move."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.client.bench import AnyClient, Clock, begin_session, make_client
from tests.client.fake import FakeServer, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[FakeServer]:
    node: Any = request.node
    kind = getattr(node, "callspec", None) and node.callspec.params.get("client")
    # A socket's path has a hundred characters at most, and those of tmp_path can be longer.
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), sessions=kind == "session") as server,
    ):
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sync", "async", "session"])
async def client(
    request: pytest.FixtureRequest, server: FakeServer, clock: Clock
) -> AsyncIterator[AnyClient]:
    """One client after the other: what is true of one must be true of both."""
    kind = "async" if request.param == "session" else request.param
    client = make_client(kind, server.address, clock)
    if request.param == "session":
        await begin_session(client)
        server.asked.clear()
    yield client
    await client.close()
