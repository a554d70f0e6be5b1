"""The program as a whole: its help, its version, and what a bare install says."""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
import typer.main

from creditgate_server.cli.output import ExitCode
from creditgate_server.cli.program import app
from tests.cli.shell import IMAGES, Shell

HERE = Shell("127.0.0.1:1")


def commands() -> Iterator[tuple[str, ...]]:
    """The words of every command."""
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        group = getattr(command, "commands", None)
        yield from [(name, inner) for inner in group] if group else [(name,)]


COMMANDS = list(commands())


def test_the_commands_are_those_that_were_promised() -> None:
    names = {" ".join(words) for words in COMMANDS}
    assert names == {
        *("serve", "demo", "account put", "account show", "grant", "void", "quote", "authorize"),
        *("extend", "settle", "refund", "charge", "holds", "hold", "balance", "ledger", "audit"),
        *("prices", "catalog check", "catalog show", "catalog list", "catalog diff"),
        *("subscribe", "change-plan", "cancel", "buy", "add-ons", "member-limit"),
        *("freeze", "unfreeze", "usage", "forecast", "explain", "catalog reload", "clock"),
        *("simulate", "bench"),
    }


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_help_of_a_command_has_an_example_and_the_exit_codes(words: tuple[str, ...]) -> None:
    said = HERE.run(*words, "--help").stdout
    assert f"$ creditgate {' '.join(words)}" in said
    for code in ExitCode:
        assert re.search(rf"^ +{code:d}  \w", said, re.MULTILINE), code


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_examples_of_a_command_can_be_typed(words: tuple[str, ...]) -> None:
    said = HERE.run(*words, "--help").stdout
    for example in re.findall(r"^ *\$ creditgate (.*?) *$", said, re.MULTILINE):
        typed = example.split(" | ")[0].split()
        if words[0] not in {"serve", "demo", "catalog", "simulate", "bench"}:
            # Nobody listens there: what was understood is a fault, what was not is wrong usage.
            HERE.run(*typed, "--timeout", "0.05s", code=ExitCode.UNREACHABLE)


def test_no_command_is_a_call_for_help() -> None:
    result = HERE.run(code=ExitCode.USAGE)
    assert "creditgate demo" in result.output


def test_it_knows_its_version() -> None:
    assert re.fullmatch(r"creditgate \d+\.\d+\.\d+\n", HERE.run("--version").stdout)


def test_colors_are_for_terminals_and_never_with_no_color(shell: Shell) -> None:
    words = ("quote", "nobody", *IMAGES)
    colored = {"FORCE_COLOR": "1", "TERM": "xterm"}
    plain = shell.run(*words, code=ExitCode.FAULT, NO_COLOR="").stderr
    assert "\x1b[" not in plain
    assert "\x1b[1;31m" in shell.run(*words, code=ExitCode.FAULT, NO_COLOR="", **colored).stderr
    assert "\x1b[1;31m" not in shell.run(*words, code=ExitCode.FAULT, **colored).stderr


@pytest.mark.parametrize("missing", ["typer", "rich", "durationpy", "pydantic"])
def test_the_client_alone_says_how_to_get_the_rest(missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from creditgate_server.cli import main; main()"
    )
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'creditgate[server]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_defect_of_ours_is_no_missing_package() -> None:
    code = (
        "import sys; sys.modules['creditgate_server.cli.tables'] = None\n"
        "from creditgate_server.cli import main; main()"
    )
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=False)
    assert "Traceback" in done.stderr
