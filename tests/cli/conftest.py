"""A server for the command line to talk to, with a store that tests can look into."""

import itertools
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from creditgate_server.cli.demo.world import defaults, in_background
from creditgate_server.store import embedded
from tests.cli.shell import SHOP, Shell, Shop

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the server's store."""
    with embedded.start(tmp_path_factory.mktemp("store")) as running:
        yield running.url


@pytest.fixture(scope="session")
def shell(store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Sells what Recraft sells, without plans: an account has what it is granted by hand."""
    file = tmp_path_factory.mktemp("catalog") / "recraft.toml"
    file.write_text(without_plans(), encoding="utf-8")
    settings = defaults(listen="127.0.0.1:0", redis=store, catalog=str(file))
    with in_background(settings) as server:
        yield Shell(server.address)


def without_plans() -> str:
    """The catalog "recraft" but for the sections of its plans."""
    text = files("creditgate_server.catalogs").joinpath("recraft.toml").read_text("utf-8")
    head, *sections = re.split(r"(?m)^(?=\[)", text)
    kept = [each for each in sections if not each.startswith(("[plans.", "[upgrades]"))]
    return head + re.sub(r"(?m)^buyers .*\n", "", "".join(kept))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A server of its own with plans, seats, add-ons and a clock that can be moved."""
    catalog = tmp_path / "shop.toml"
    catalog.write_text(SHOP, encoding="utf-8")
    settings = defaults(
        listen="127.0.0.1:0", data=tmp_path / "data", catalog=str(catalog), developer=True
    )
    with in_background(settings) as server:
        yield Shop(server.address, catalog)


@pytest.fixture
def account(shell: Shell) -> str:
    """An account of its own for each test: 20 credits of a subscription, and a pack of 200."""
    name = f"acct-{next(_numbers)}"
    shell.run("account", "put", name)
    end = "2099-01-31T00:00:00+01:00"
    shell.run("grant", name, "plan", "--kind", "subscription", "--amount", "20", "--ends", end)
    shell.run("grant", name, "pack", "--kind", "top_up", "--amount", "200")
    return name
