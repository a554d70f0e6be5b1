"""What all tests share: one embedded store for the whole run."""

import os
from collections.abc import Iterator

import pytest

from creditgate_server.engines import poller
from creditgate_server.store import embedded

# As `creditgate serve` does, and before any test imports grpc.
poller.choose(os.environ)

pytest.register_assert_rewrite("tests.ledger.bench")


@pytest.fixture(scope="session")
def store_url() -> Iterator[str]:
    """A store of our own. Without one the run fails: nothing is skipped."""
    store = embedded.start(None)
    yield store.url
    store.stop()
