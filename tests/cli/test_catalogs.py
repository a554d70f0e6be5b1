"""Commands about catalogs."""

from pathlib import Path

import pytest

from creditgate_server.cli.output import ExitCode
from tests.cli.shell import Shell

GOOD = """
name = "small"
[credit]
unit = "token"
decimals = 2
[kinds]
top_up = { rank = 1 }
[actions.draw]
title = "Draw"
price = 1.5
unit = "image"
"""


@pytest.fixture
def nowhere() -> Shell:
    """Checking a file needs no server."""
    return Shell("127.0.0.1:1")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "small.toml"


def test_a_good_file_is_said_to_be_good_and_what_is_in_it(nowhere: Shell, file: Path) -> None:
    file.write_text(GOOD)
    said = nowhere.text("catalog", "check", str(file))
    assert f"{file}: no problems" in said
    assert "unit token, 2 decimals" in said
    assert "prices 1 for 1 actions" in said
    found = nowhere.json("catalog", "check", str(file))
    assert found["ok"] is True
    assert found["problems"] == []
    assert (found["name"], found["actions"], found["prices"]) == ("small", 1, 1)


def test_every_problem_of_a_file_has_its_line(nowhere: Shell, file: Path) -> None:
    file.write_text(GOOD.replace("rank = 1", "rank = 0").replace("price = 1.5", "price = -1"))
    result = nowhere.run("catalog", "check", str(file), code=ExitCode.FAULT, COLUMNS="20")
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{file}:7: kinds.top_up.rank: ")
    assert lines[1].startswith(f"{file}:10: actions.draw.price: ")
    assert len(lines) == 2
    found = nowhere.json("catalog", "check", str(file), code=ExitCode.FAULT)
    assert found["ok"] is False
    assert [(each["line"], each["field"]) for each in found["problems"]] == [
        (7, "kinds.top_up.rank"),
        (10, "actions.draw.price"),
    ]


def test_a_file_that_is_not_there_is_a_problem(nowhere: Shell, file: Path) -> None:
    said = nowhere.text("catalog", "check", str(file), code=ExitCode.FAULT)
    assert said.startswith(f"{file}:1: cannot be read")


def test_the_catalogs_that_are_shipped_are_listed(nowhere: Shell) -> None:
    assert "recraft" in nowhere.text("catalog", "list")
    listed = nowhere.json("catalog", "list")["catalogs"]
    [recraft] = [each for each in listed if each["name"] == "recraft"]
    assert recraft["packs"] == [200, 800, 1000, 1600]


def test_the_catalog_in_force_is_shown(shell: Shell) -> None:
    said = shell.text("catalog", "show")
    assert "catalog recraft" in said
    assert "drawn in this order compensation, subscription, top-up, referral" in said
    assert "packs 200, 800, 1,000, 1,600" in said
    assert shell.json("catalog", "show")["name"] == "recraft"


def test_prices_are_shown_for_all_actions_or_for_one(shell: Shell) -> None:
    said = shell.text("prices")
    assert "upscale.creative Creative upscale any 20 per image" in said
    assert "prompt.enhance Prompt enhancer any free" in said
    assert "resolution: 720p at 1 (default), 1080p at 1.5, 4k at 2.5" in said
    found = shell.json("prices", "video.generate")["prices"]
    assert [price["model"] for price in found] == ["video-draft", "video-studio"]
    assert "no such action" in shell.text("prices", "tea.make")


def test_two_catalogs_are_compared_in_words(nowhere: Shell, file: Path) -> None:
    said = nowhere.text("catalog", "diff", "imagineart-2024", "imagineart")
    assert "plan free, daily: 50 a day → 100 a day (up), from the next period on" in said
    found = nowhere.json("catalog", "diff", "imagineart-2024", "imagineart")["differences"]
    [daily] = [each for each in found if (each["plan"], each["name"]) == ("free", "daily")]
    assert (daily["change"], daily["old"], daily["new"]) == (
        "raised",
        "50 a day",
        "100 a day",
    )
    file.write_text(GOOD)
    assert nowhere.text("catalog", "diff", str(file), str(file)) == "no difference"


def test_a_catalog_that_cannot_be_read_cannot_be_compared(nowhere: Shell, file: Path) -> None:
    file.write_text("name = 7\n")
    words = ("catalog", "diff", "recraft", str(file))
    assert f"{file}:1: name: " in nowhere.run(*words, code=ExitCode.FAULT).stderr
