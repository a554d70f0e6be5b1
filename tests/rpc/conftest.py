"""One server on each engine for the tests of this folder, which look at accounts of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rpc.shop import Shop, shop


@pytest.fixture(scope="package", params=["core", "aio"])
def the_shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    with shop(tmp_path_factory.mktemp("shop"), engine=request.param) as found:
        yield found


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Shop]:
    """A server that has eight places."""
    with shop(tmp_path, places=8) as found:
        yield found
