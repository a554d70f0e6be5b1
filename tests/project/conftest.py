"""What the tests of this folder share."""

from pathlib import Path

import pytest

from tests.project.tree import ROOT, pip


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that a release would publish."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "-q", "--no-deps", "--wheel-dir", folder, ROOT)
    (built,) = folder.glob("creditgate-*.whl")
    return built
