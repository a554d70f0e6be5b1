"""What the command gives, what it asks before, and what it leaves behind."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from creditgate_server.bench import page, shown
from creditgate_server.bench.goals import GOALS
from creditgate_server.cli.output import ExitCode
from tests.bench.test_goals import AGREED
from tests.cli.shell import Shell
from tests.project.tree import ROOT

# The first of these tests waits for a whole run.
pytestmark = pytest.mark.timeout(180)

SHELL = Shell("127.0.0.1:1")
COMMAND = (sys.executable, "-m", "creditgate_server.cli", "bench", "--quick")


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """Where a run keeps what is temporary. Its path is short, as that of a socket must be."""
    with tempfile.TemporaryDirectory(prefix="cg-") as folder:
        yield Path(folder)


def still_there(folder: Path) -> list[str]:
    """What is left of a run in this folder: files, and processes that speak of it."""
    processes = []
    for found in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = found.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(str(folder) in word and "creditgate-bench-" in word for word in words):
            processes.append(" ".join(words))
    return [*map(str, folder.iterdir()), *processes]


@pytest.fixture(scope="module")
def document(place: Path) -> Any:
    """The report of a quick run."""
    done = subprocess.run(
        [*COMMAND, "--seconds", "0.05", "--json", "-"],
        env={**os.environ, "TMPDIR": str(place)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not still_there(place)
    return json.loads(done.stdout)


def test_a_quick_run_gives_every_figure(document: Any) -> None:
    figures = document["figures"]
    assert {name: figure["goal"] for name, figure in figures.items()} == AGREED
    for name, figure in figures.items():
        # What this version does not have is the one excuse.
        assert shown.came_to(figure) or figure["because"].startswith("this version "), name
    assert not document["problems"]
    for figure in figures.values():
        for value in figure["values"]:
            assert (value["median"] is None) == bool(value["because"]), figure
            assert value["median"] is None or value["median"] >= 0, figure


def test_a_run_says_what_each_process_spent_and_under_which_conditions(document: Any) -> None:
    rows = {(row["what"], row["callers"], row["over"]): row for row in document["rows"]}
    for over in ("unix", "tcp"):
        for callers in (1, 16, 64, 256):
            for what in ("empty", "authorize", "settle"):
                assert rows[what, callers, over]["cpu_us"].keys() == {"server", "store", "load"}
    authorize = rows["authorize", 64, "unix"]
    assert authorize["cpu_us"]["server"]["median"] > 10
    assert authorize["cpu_us"]["store"]["median"] > 10
    assert authorize["p50_us"]["median"] <= authorize["p99_us"]["median"]
    said = document["conditions"]
    assert said.keys() >= {"grpcio", "python", "store", "engine", "cores", "disk", "scale"}
    assert set(document["curves"]) >= {"accounts", "ledger entries", "while holds expire"}


class Page(HTMLParser):
    """What a page would fetch, and the names it gives."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.fetched += [
            f"{tag} {name}={value}" for name, value in attrs if fetches(tag, name, value)
        ]


def fetches(tag: str, name: str, value: str | None) -> bool:
    """Whether a browser would ask somebody for it."""
    if tag in {"script", "link", "base"} or name in {"src", "srcset", "data", "action"}:
        return True
    return name in {"href", "xlink:href"} and not (value or "").startswith("#")


def test_the_page_is_one_file_that_fetches_nothing(document: Any) -> None:
    text = page.render(document)
    found = Page(text)
    assert not found.fetched
    assert not re.search(r"https?:|@import|url\((?!#)", text)
    assert len(found.ids) == len(set(found.ids)), "pictures share names"
    assert text.count("<svg") == 7
    assert not re.search(r"#0[0-9ab]0[0-9ab]0[0-9ab]", text), "a stand-in for a colour is left"
    for name, goal in GOALS.items():
        assert f'<th scope="row">{name}</th>' in text
        assert goal.figure.replace("&", "&amp;") in text


def test_a_page_needs_no_picture() -> None:
    figures = {
        name: {"figure": "", "goal": "", "verdict": "not measured", "values": [], "at": ""}
        | {"because": "<b>", "parts": {}}
        for name in GOALS
    }
    text = page.render({"conditions": {}, "figures": figures, "rows": [], "curves": {}})
    assert "<svg" not in text
    assert "&lt;b&gt;" in text


def test_a_report_is_shown_again(document: Any, tmp_path: Path) -> None:
    kept, html, markdown = (tmp_path / name for name in ("kept.json", "page.html", "page.md"))
    kept.write_text(json.dumps(document), encoding="utf-8")
    said = SHELL.text(
        "bench", "--from", str(kept), "--html", str(html), "--markdown", str(markdown)
    )
    assert "L1 p50 of Authorize" in said
    assert html.read_text(encoding="utf-8") == page.render(document)
    assert markdown.read_text(encoding="utf-8") == shown.markdown(document)
    assert SHELL.run("bench", "--from", str(kept), "--json", "-").stdout.startswith("{")


def test_the_documentation_shows_the_committed_report() -> None:
    text = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    report = json.loads((ROOT / "docs/performance/report.json").read_text(encoding="utf-8"))
    assert shown.with_figures(text, report) == text
    html = (ROOT / "docs/performance/report.html").read_text(encoding="utf-8")
    assert report["conditions"]["began"] in html
    assert not Page(html).fetched


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--only", "L1,Q9"), "--only Q9: the figures are L1, L2"),
        (("--quick", "--full"), "not both"),
        (("--engine", "steam"), "--engine"),
        (("--target", "127.0.0.1:1"), "say --write-test-accounts if it may"),
    ],
)
def test_what_cannot_be_meant_is_said(words: tuple[str, ...], told: str) -> None:
    said = SHELL.run("bench", *words, code=ExitCode.USAGE, COLUMNS="300").output
    assert told in " ".join(said.replace("│", " ").split())


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name != "matplotlib" or None)
    said = SHELL.text("bench", "--html", "page.html", code=ExitCode.FAULT)
    assert "matplotlib is not installed" in said
    assert "creditgate[server,bench]" in said


def test_a_target_that_is_not_there_is_a_fault() -> None:
    target = ("--target", "127.0.0.1:1", "--write-test-accounts")
    said = SHELL.text("bench", "--quick", *target, code=ExitCode.FAULT)
    assert "refused" in said


def test_a_target_is_measured_from_outside(shell: Shell) -> None:
    words = ("--quick", "--seconds", "0.05", "--target", shell.address, "--write-test-accounts")
    found = json.loads(SHELL.run("bench", *words, "--json", "-").stdout)
    assert found["figures"]["T5"]["values"][0]["median"] > 0
    for name in set(GOALS) - {"T5"}:
        assert found["figures"][name]["verdict"] == "not measured"
    assert all(row["cpu_us"].keys() == {"load"} for row in found["rows"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_ended_leaves_nothing_behind(number: int, place: Path) -> None:
    process = subprocess.Popen(
        COMMAND,
        env={**os.environ, "TMPDIR": str(place)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    end = time.monotonic() + 30
    # Two folders, a store and a server.
    while time.monotonic() < end and len(still_there(place)) < 4:
        time.sleep(0.05)
    assert len(still_there(place)) >= 4
    os.kill(process.pid, number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == ExitCode.FAULT
    assert "nothing is left behind" in said
    assert "Traceback" not in said
    assert not still_there(place)
