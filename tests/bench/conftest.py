"""A server for the benchmark to be pointed at."""

from collections.abc import Iterator

import pytest

from creditgate_server.cli.demo.world import defaults, in_background
from tests.cli.shell import Shell


@pytest.fixture
def shell(store_url: str) -> Iterator[Shell]:
    """A server that runs already."""
    settings = defaults(listen="127.0.0.1:0", redis=store_url)
    with in_background(settings) as server:
        yield Shell(server.address)
