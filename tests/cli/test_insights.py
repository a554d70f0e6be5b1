"""Commands that explain and reckon, and the clock."""

import pytest

from creditgate_server.cli.output import ExitCode
from tests.cli.shell import SHOP, Shell, Shop

A = "acct-1"


@pytest.fixture(autouse=True)
def _opened(shop: Shop) -> None:
    shop.run("account", "put", A)
    shop.run("subscribe", A, "invoice-1", "pro")


def test_usage_is_added_up_by_day_action_and_model(shop: Shop) -> None:
    assert "nothing was charged" in shop.text("usage", A)
    shop.run("charge", A, "job-1", "--action", "draw", "--quantity", "3")
    shop.run("charge", A, "job-2", "--action", "film", "--model", "m-1", "--quantity", "4")
    shop.run("charge", A, "job-3", "--action", "film", "--model", "m-1")
    shop.run("refund", A, "job-3")
    said = shop.text("usage", A)
    assert "draw - 1 6 0" in said
    assert "film m-1 2 25 5" in said
    assert "all 3 31 5" in said
    assert shop.json("usage", A, "--action", "draw")["charged"] == "6"
    later = ("--from", "2099-01-01T00:00Z", "--until", "2099-01-02T00:00Z")
    assert shop.json("usage", A, *later)["lines"] == []


def test_a_month_is_forecast(shop: Shop) -> None:
    said = shop.text("forecast", "30:draw", "10:film:m-1", "--buffer", "20")
    assert "draw, quantity 1 30 2 60" in said
    assert "film with m-1, quantity 1 10 5 50" in said
    assert "buffer 22" in said
    assert "a month 132" in said
    assert "covered by: pro" in said
    found = shop.json("forecast", "30:draw", "--quantity", "2")
    assert (found["amount"], found["buffer"], found["prices"]) == ("120", "30", ["4"])
    assert "no plan" in shop.text("forecast", "1000000:film")
    wrong = shop.run("forecast", "draw", code=ExitCode.USAGE).output
    assert "is not TIMES:ACTION[:MODEL]" in wrong


def test_a_balance_and_a_denial_are_explained(shop: Shop) -> None:
    shop.run("cancel", A, "order-1", "--when", "now")
    before = shop.json("explain", A)
    assert before["balance"]
    assert not before["denial"]
    shop.run("charge", A, "job-1", "--action", "film", code=ExitCode.DENIED)
    after = shop.json("explain", A)
    assert after["denial"]
    said = " ".join(shop.text("explain", A).split())
    for sentence in (*after["balance"], *after["denial"]):
        assert " ".join(sentence.split()) in said


def test_the_clock_is_told_and_moved_forward(shop: Shop) -> None:
    before = shop.json("clock")["now"]
    assert shop.text("clock").endswith("UTC")
    moved = shop.json("clock", "--advance", "800h")["now"]
    assert moved > before
    buckets = shop.json("balance", A)["buckets"]
    live = {bucket["bucket_id"]: bucket["period"] for bucket in buckets if not bucket["ended"]}
    assert live["base"] == "1", "a month has passed"
    assert "2090-01-01 00:00:" in shop.text("clock", "--until", "2090-01-01T00:00Z")
    words = ("clock", "--advance", "1s", "--until", "2091-01-01T00:00Z")
    assert "not both" in shop.run(*words, code=ExitCode.USAGE).output


def test_a_clock_is_there_in_developer_mode_only(shell: Shell) -> None:
    said = shell.run("clock", code=ExitCode.FAULT).stderr
    assert "developer mode" in said


def test_a_catalog_is_read_again(shop: Shop) -> None:
    assert "in force, as before" in shop.text("catalog", "reload")
    shop.catalog.write_text(SHOP.replace("price = 2", "price = 3"), encoding="utf-8")
    assert "in place of" in shop.text("catalog", "reload")
    assert shop.json("quote", A, "--action", "draw")["amount"] == "3"
    shop.catalog.write_text(SHOP.replace("price = 2", "price = -1"), encoding="utf-8")
    said = shop.text("catalog", "reload", code=ExitCode.FAULT)
    assert "actions.draw.price" in said
    assert "stays in force" in said
    assert shop.json("catalog", "reload", code=ExitCode.FAULT)["problems"]


def test_the_catalog_in_force_shows_its_plans(shop: Shop) -> None:
    said = shop.text("catalog", "show")
    assert "team Team base: 100 a month (subscription), for each seat any number" in said
    assert "daily: 10 a day (free)" in said
