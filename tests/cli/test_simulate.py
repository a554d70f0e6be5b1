"""`creditgate simulate`: lives of accounts, told without waiting for them."""

import time
from pathlib import Path
from typing import Any

import pytest

from creditgate_server.cli.output import ExitCode
from tests.cli.shell import Shell

shell = Shell("127.0.0.1:1")  # Nobody listens there: it needs no server.


def simulate(*words: str) -> Any:
    return shell.json("simulate", *words)


def moments(told: Any, what: str) -> list[str]:
    """When this happened, to the minute, in the account's zone."""
    return [each["at"][:16] for each in told["happenings"] if each["what"] == what]


def test_a_monthly_plan_resets_on_the_days_that_months_have() -> None:
    told = simulate("--plan", "basic", "--days", "130")
    assert moments(told, "begin period monthly") == [
        "2026-01-31T10:00",
        "2026-02-28T10:00",
        "2026-03-31T10:00",
        "2026-04-30T10:00",
        "2026-05-31T10:00",
    ]
    assert told["ok"]
    lost = [bucket for bucket in told["audit"]["buckets"] if bucket["bucket_id"] == "daily"]
    assert [bucket["expired"] for bucket in lost] == [50]


def test_a_job_is_open_across_each_reset_and_ends_in_each_way() -> None:
    told = simulate("--plan", "basic", "--days", "100")
    assert moments(told, "authorize job-1") == ["2026-02-28T09:59"]
    assert moments(told, "settle job-1") == ["2026-02-28T10:01"]
    held = [
        each["entry"]["held_after"]
        for each in told["happenings"]
        if each["what"] == "begin period monthly"
    ]
    assert held[0] == "0"
    assert "0" not in held[1:], "what is held stays held"
    whats = [each["what"] for each in told["happenings"]]
    for said in ("job-1 succeeds", "job-2 fails", "job-3 is cancelled"):
        assert said in whats
    kinds = {bucket["bucket_id"].partition("/")[0] for bucket in told["audit"]["buckets"]}
    assert "compensation" in kinds, "what fails after a reset is made good"


def test_days_turn_in_the_account_s_zone() -> None:
    told = simulate("--days", "3", "--zone", "America/New_York")
    assert moments(told, "begin period daily") == [
        "2026-01-31T05:00",
        "2026-02-01T00:00",
        "2026-02-02T00:00",
        "2026-02-03T00:00",
    ]


def test_a_cancelled_subscription_ends_with_its_period() -> None:
    told = simulate("--plan", "basic", "--days", "35", "--cancel-after", "10", "--buy", "200")
    assert moments(told, "cancels") == ["2026-02-10T10:00"]
    assert moments(told, "is on plan free") == ["2026-02-28T10:00"]
    assert "daily" in {bucket["bucket_id"] for bucket in told["audit"]["buckets"]}
    pack = [each for each in told["audit"]["buckets"] if each["bucket_id"] == "payment-1"]
    assert pack[0]["expired"] == 0


def test_add_ons_renew_and_a_plan_changes() -> None:
    options = ("--catalog", "aistudios", "--plan", "personal", "--add-on", "unit=2")
    change = ("--change-plan", "team", "--change-after", "40")
    told = simulate(*options, "--days", "70", *change)
    assert moments(told, "adds 2 of unit") == ["2026-01-31T10:00"]
    assert "2026-02-28T10:00" in moments(told, "begin period unit")
    assert moments(told, "changes to team") == ["2026-03-12T10:00"]
    assert told["ok"]


def test_what_the_free_plan_may_not_buy_is_told() -> None:
    told = simulate("--days", "1", "--buy", "200")
    assert moments(told, "may not buy a pack on this plan")


def test_400_days_with_a_reset_each_day_take_seconds() -> None:
    began_s = time.monotonic()
    told = simulate("--catalog", "imagineart", "--plan", "creator-yearly")
    assert time.monotonic() - began_s < 20
    assert len(moments(told, "begin period daily")) == 401
    assert told["ok"]


def test_people_get_a_table_that_ends_with_the_verdict() -> None:
    said = shell.text("simulate", "--plan", "basic", "--days", "30").splitlines()
    assert said[0] == "acct-1 on Recraft, 30 days"
    assert said[1].startswith("date (UTC) what happened what moved")
    row = "begin period monthly 1,000 put into monthly (period 1) 1,000 250"
    assert row in said
    assert said[-1].startswith("every credit is accounted for: 2,050 granted = ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--plan", "gold"), "there is no plan 'gold': free, basic, advanced, pro"),
        (("--change-plan", "gold", "--change-after", "1"), "there is no plan 'gold'"),
        (("--change-plan", "pro"), "need each other"),
        (("--change-after", "3"), "need each other"),
        (("--zone", "Mars/Base"), "'Mars/Base' is no time zone"),
        (("--from", "2026-01-31"), "does not say its zone"),
        (("--add-on", "unit"), "is not NAME=UNITS"),
        (("--add-on", "unit=1"), "there is no add-on 'unit': none"),
        (("--buy", "7"), "there is no pack of 7: 200, 800, 1,000, 1,600"),
        (("--days", "0"), "should be greater than or equal to 1"),
    ],
)
def test_what_the_catalog_does_not_have_is_wrong_usage(words: tuple[str, ...], said: str) -> None:
    output = shell.run("simulate", *words, code=ExitCode.USAGE).output
    assert said in " ".join(output.replace("│", " ").split())


def test_a_catalog_with_a_problem_is_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text("name = 7\n")
    said = shell.run("simulate", "--catalog", str(file), code=ExitCode.FAULT).output
    assert "error:" in said


def test_an_event_that_the_plan_does_not_admit_is_a_fault() -> None:
    options = ("--catalog", "aistudios", "--plan", "free", "--add-on", "unit=1")
    said = shell.run("simulate", *options, code=ExitCode.FAULT).output
    assert "add-ons need a subscription" in said
