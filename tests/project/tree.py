"""The repository as the tests of this folder see it."""

import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@cache
def files() -> tuple[str, ...]:
    """Every file that is committed or about to be, as a path from the root."""
    listed = run("git", "-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard", "-z")
    return tuple(sorted(name for name in listed.split("\0") if name and (ROOT / name).is_file()))


@cache
def project() -> dict[str, Any]:
    """What pyproject.toml says."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def requirements() -> dict[str, list[str]]:
    """The requirements by extra; those of the bare client under ""."""
    table = project()["project"]
    return {"": table["dependencies"], **table["optional-dependencies"]}


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a program of the environment that the tests run in; fail with all that it printed."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]} failed:\n{done.stdout}{done.stderr}"
    return done.stdout


def program(name: str) -> Path:
    """A program installed beside this Python, found even if the environment is not activated."""
    return Path(sys.executable).parent / name


def pip(*arguments: str | Path, into: Path | None = None) -> None:
    """Run pip, for the environment `into` if one is given."""
    target: list[str | Path] = ["--python", into] if into else []
    run(sys.executable, "-m", "pip", "--disable-pip-version-check", *target, *arguments)


def bare_environment(home: Path) -> Path:
    """Make a virtual environment without pip, which is quick; returns its Python."""
    run(sys.executable, "-m", "venv", "--without-pip", home)
    return home / "bin" / "python"
