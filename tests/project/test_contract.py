"""The contract keeps its style and its promises to callers of earlier releases."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.project.tree import ROOT, program, run

PROTOS = ROOT / "protos"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The contract, to be spoilt."""
    return shutil.copytree(PROTOS, tmp_path / "protos")


def lint(protos: Path) -> None:
    run(program("buf"), "lint", cwd=protos)


def formatted(protos: Path) -> None:
    run(program("buf"), "format", "-d", "--exit-code", cwd=protos)


def breaks_nothing(protos: Path) -> None:
    run(program("buf"), "breaking", "--against", "baseline.binpb", cwd=protos)


@pytest.mark.parametrize("check", [lint, formatted, breaks_nothing])
def test_the_contract_passes(check: Callable[[Path], None]) -> None:
    check(PROTOS)


@pytest.mark.parametrize(
    ("check", "old", "new"),
    [
        (lint, "  rpc Quote(", "  rpc quote("),
        (lint, "// Asks for a price.\n", ""),
        (formatted, "  string account_id = 1;", "     string account_id = 1;"),
        (breaks_nothing, "  string account_id = 1;", "  string account_id = 71;"),
        (breaks_nothing, "  rpc Charge(ChargeRequest) returns (ChargeResponse);\n", ""),
    ],
)  # fmt: skip
def test_a_spoilt_contract_is_refused(
    check: Callable[[Path], None], old: str, new: str, copy: Path
) -> None:
    proto = copy / "creditgate" / "v1" / "credits.proto"
    text = proto.read_text()
    assert old in text
    proto.write_text(text.replace(old, new, 1))
    with pytest.raises(AssertionError, match=r"credits\.proto"):
        check(copy)
