"""A server for the command line to talk to, with a store that tests can look into."""

import itertools
from collections.abc import Iterator

import pytest

from creditgate_server.cli.demo.world import defaults, in_background
from creditgate_server.store import embedded
from tests.cli.shell import Shell

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the server's store."""
    with embedded.start(tmp_path_factory.mktemp("store")) as running:
        yield running.url


@pytest.fixture(scope="session")
def shell(store: str) -> Iterator[Shell]:
    with in_background(defaults(listen="127.0.0.1:0", redis=store)) as server:
        yield Shell(server.address)


@pytest.fixture
def account(shell: Shell) -> str:
    """An account of its own for each test: 20 credits of a subscription, and a pack of 200."""
    name = f"acct-{next(_numbers)}"
    shell.run("account", "put", name)
    end = "2099-01-31T00:00:00+01:00"
    shell.run("grant", name, "plan", "--kind", "subscription", "--amount", "20", "--ends", end)
    shell.run("grant", name, "pack", "--kind", "top_up", "--amount", "200")
    return name
