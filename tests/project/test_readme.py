"""What the README tells people to do works, and is what CI does.

The line above each fence in sh or python says what becomes of it:

  <!-- ci NAME -->        one line that `.ci/run` runs as it stands, in a fresh clone
  <!-- run NAME -->       runs here, in the world of that name (see WORLDS)
  <!-- compile -->        is only compiled
  <!-- look: REASON -->   cannot be run, and why
"""

import os
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from creditgate import Client
from creditgate.v1.resources_pb2 import Kind
from creditgate_server.app.settings import Settings
from creditgate_server.cli.demo.world import own_server
from creditgate_server.cli.program import app
from tests.project.tree import ROOT, files, run


@contextmanager
def worker() -> Iterator[dict[str, Any]]:
    """A job that delivers three of four images, an account that can pay for it, and a server."""
    with own_server() as server, pytest.MonkeyPatch.context() as environment:
        environment.setenv("CREDITGATE_ADDRESS", server.address)
        with Client() as billing:
            billing.put_account("acct-1")
            billing.grant_credits("acct-1", "payment-1", kind=Kind.KIND_TOP_UP, amount=100)
            before = billing.get_balance("acct-1").totals.available
            job = SimpleNamespace(id="job-1")
            names: dict[str, Any] = {
                "job": job,
                "run": lambda job: [f"{job.id}-{n}.png" for n in range(3)],
            }
            yield names
            names["client"].close()
            record = billing.get_hold("acct-1", "job-1").hold
            assert (record.amount, record.charged) == (4, 3)
            assert billing.get_balance("acct-1").totals.available == before - 3


WORLDS: dict[str, Callable[[], AbstractContextManager[dict[str, Any]]]] = {"worker": worker}
"""What the names of a block stand for, such as `job`, while it runs: a context manager for each."""

FENCE = re.compile(r"^(.*)\n```(\w*)\n((?:.*\n)*?)```$", re.MULTILINE)
MARK = re.compile(r"<!-- (ci|run|compile|look)(?::? (.+))? -->")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
README = (ROOT / "README.md").read_text()
PAGES = [path for path in files() if path.endswith(".md")]


@dataclass(frozen=True)
class Block:
    """A fenced block, and the mark above it."""

    page: str
    line: int
    verb: str
    name: str
    language: str
    text: str


def blocks_of(page: str, text: str) -> list[Block]:
    found = []
    for fence in FENCE.finditer(text):
        above, language, body = fence.groups()
        mark = MARK.fullmatch(above)
        line = text[: fence.start(3)].count("\n")
        verb, name = (mark[1], mark[2] or "") if mark else ("", "")
        found.append(Block(page, line, verb, name, language, body))
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page, (ROOT / page).read_text())]
RUNNABLE = [block for block in BLOCKS if block.verb == "run"]
PYTHON = [block for block in BLOCKS if block.language == "python"]
COMMANDS = {block.name: block.text.strip() for block in BLOCKS if block.verb == "ci"}


def place(block: Block) -> str:
    """Where a block begins."""
    return f"{block.page}:{block.line}"


def problems_with(block: Block) -> str:
    """What is wrong with how a block is marked."""
    if block.language in {"sh", "bash", "shell", "python"}:
        if not block.verb:
            return "says nothing of what becomes of it"
        if block.verb in {"ci", "run", "look"} and not block.name:
            return f"{block.verb} of what?"
        if block.verb == "ci" and len(block.text.splitlines()) != 1:
            return "a command is one line"
        if block.verb == "run" and block.name not in WORLDS:
            return f"there is no world {block.name}"
    return ""


@pytest.mark.parametrize("block", BLOCKS, ids=place)
def test_a_block_says_what_becomes_of_it(block: Block) -> None:
    assert not problems_with(block)


@pytest.mark.parametrize(
    "page",
    [
        "Do this:\n```sh\nls\n```\n",
        "<!-- look -->\n```sh\nls\n```\n",
        "<!-- ci test -->\n```sh\ncd x\nls\n```\n",
        "<!-- run nowhere -->\n```python\npass\n```\n",
    ],
)
def test_a_block_without_a_plan_is_noticed(page: str) -> None:
    (block,) = blocks_of("page", page)
    assert problems_with(block)


@pytest.mark.parametrize("block", PYTHON, ids=place)
def test_python_on_a_page_is_python(block: Block) -> None:
    compile(block.text, block.page, "exec")


@pytest.mark.parametrize("block", RUNNABLE, ids=place)
def test_a_block_on_a_page_runs(block: Block) -> None:
    assert block.language == "python"
    with WORLDS[block.name]() as names:
        exec(compile(block.text, block.page, "exec"), names)


TYPED = re.compile(r"`creditgate ([a-z][^`\n]*)`")


def mistyped(line: str) -> str:
    """What the program would not understand of a command as it is written on a page."""
    words = shlex.split(line)
    program: Any = typer.main.get_command(app)
    while words and words[0] in getattr(program, "commands", {}):
        program = program.commands[words.pop(0)]
    options = {name for option in program.params for name in (*option.opts, *option.secondary_opts)}
    unknown = [word for word in words if word.startswith("-") and word not in options]
    takes_words = any(parameter.param_type_name == "argument" for parameter in program.params)
    plain = [] if takes_words else [word for word in words[:1] if not word.startswith("-")]
    return " ".join(unknown + plain)


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_on_a_page_are_those_of_the_program(page: str) -> None:
    text = (ROOT / page).read_text()
    in_blocks = [line for block in blocks_of(page, text) for line in block.text.splitlines()]
    typed = [
        line.removeprefix("creditgate ") for line in in_blocks if line.startswith("creditgate ")
    ]
    for line in (*TYPED.findall(text), *typed):
        assert not mistyped(line), f"creditgate {line}"


@pytest.mark.parametrize("line", ["clock advance 31d", "serve --no-such", "catalog chek x.toml"])
def test_a_mistyped_command_is_noticed(line: str) -> None:
    assert mistyped(line)


def test_ci_runs_the_commands_of_the_readme() -> None:
    assert COMMANDS.keys() == {"demo", "test"}
    script = (ROOT / ".ci" / "run").read_text()
    for name, command in COMMANDS.items():
        assert run(ROOT / ".ci" / "run", "--command", name).strip() == command
        assert f'step {name} {name} "${name}_command"' in script


def test_a_command_stands_alone() -> None:
    for command in COMMANDS.values():
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
        assert "-c constraints.txt" in command
        programs = {words[0] for words in _steps(command)}
        assert programs <= {"python3", ".venv/bin/pip", ".venv/bin/creditgate", ".venv/bin/pytest"}


def _steps(command: str) -> list[list[str]]:
    return [shlex.split(step) for step in command.split(" && ")]


def dead_links(page: Path, text: str) -> list[str]:
    return [
        link
        for link in LINK.findall(text)
        if "://" not in link
        and not link.startswith("#")
        and not (page.parent / link.partition("#")[0]).exists()
    ]


def settings_table() -> list[str]:
    """The rows of the table of settings, as the settings themselves tell them."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.default
        if field.default_factory is not None:
            default = "the user's data directory"
        elif default is None:
            default = "none"
        else:
            default = f"`{str(default).lower()}`"
        rows.append(f"| `CREDITGATE_{name.upper()}` | {default} | {field.description} |")
    return rows


def test_the_readme_lists_the_settings() -> None:
    rows = [line for line in README.splitlines() if line.startswith("| `CREDITGATE_")]
    assert rows == settings_table(), "\n".join(["the table should be:", *settings_table()])


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    assert not dead_links(ROOT / page, (ROOT / page).read_text())


def test_a_dead_link_is_noticed() -> None:
    page = "[a](README.md) [b](docs/none.md#top) [c](https://a.example) [d](#here)"
    assert dead_links(ROOT / "README.md", page) == ["docs/none.md#top"]


def test_scripts_can_be_run() -> None:
    for path in (".ci/run", "protos/generate"):
        assert os.access(ROOT / path, os.X_OK)
