"""Stores that these tests may break: one for a module, one for a test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from creditgate_server.store import embedded
from creditgate_server.store.embedded import EmbeddedStore


@pytest.fixture(scope="module")
def own_store() -> Iterator[EmbeddedStore]:
    with embedded.start(None, appendfsync="everysec") as store:
        yield store


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"
