"""The clock of developer mode: a year passes in a moment, and a restart goes on from there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from creditgate.v1 import accounts_pb2 as pb
from creditgate.v1 import resources_pb2 as rs
from creditgate_server.core.faults import Reason
from tests.rpc.contract import CLOCK
from tests.rpc.shop import Account, Shop, refused, shop

DAY_S = 86_400
IMAGE = rs.Job(action="image.generate", model="image-standard")


@pytest.fixture
def found(tmp_path: Path) -> Iterator[Shop]:
    with shop(tmp_path, catalog="imagineart", developer=True) as running:
        yield running


def seconds(account: Account) -> int:
    answer: Any = account.get_time()
    return int(answer.now.seconds)


def test_a_year_of_monthly_credits_is_lived_through(found: Shop) -> None:
    account = found.account(zone="Europe/Berlin")
    account.advance(until={"seconds": 1_927_580_400})  # 2031-01-31 00:00 in Berlin
    account.subscribe(reference="s", plan_id="starter")
    granted = account.get_account().account.subscription.anchor
    begun = []
    for _ in range(12):
        reset = account.bucket("monthly").next_reset_at
        account.advance(until=reset)
        bucket = account.bucket("monthly")
        assert (bucket.available, bucket.granted) == (20_000, 20_000)
        begun.append(reset.ToDatetime().strftime("%m-%d %H"))
        account.charge(hold_id=f"month-{len(begun)}", job=IMAGE)
    assert granted.seconds >= 1_927_580_400
    # Counted from the anchor and never from the last reset; in summer the zone is an hour ahead.
    assert begun[:4] == ["02-27 23", "03-30 22", "04-29 22", "05-30 22"]
    assert begun[11] == "01-30 23"
    usage = account.get_usage(**{"from": granted})
    assert (usage.charged, len(usage.lines)) == (12 * 24, 12)


def test_a_hold_expires_by_the_same_clock(found: Shop) -> None:
    account = found.account()
    hold_id = account.hold(IMAGE)
    account.advance(by={"seconds": 599})
    assert account.get_hold(hold_id=hold_id).hold.state == rs.HOLD_STATE_OPEN
    account.advance(by={"seconds": 1})
    assert account.settle(hold_id=hold_id).late


def test_a_quote_ends_by_the_same_clock(tmp_path: Path) -> None:
    with shop(tmp_path, developer=True) as running:
        account = running.account(100)
        job = rs.Job(action="image")
        quote = account.quote(job=job)
        file = tmp_path / "shop.toml"
        file.write_text(file.read_text().replace('at 10"\nprice = 10', 'at 10"\nprice = 12'))
        account.reload_catalog()
        quoted = {"quoted_version": quote.catalog_version, "quoted_amount": 10}
        assert account.authorize(hold_id="a", job=job, **quoted).amount == 10
        account.advance(by={"seconds": 901})
        answer = account.authorize(hold_id="b", job=job, **quoted)
        assert answer.denial_reason == rs.DENIAL_REASON_PRICE_CHANGED


def test_a_subscription_that_is_paid_through_ends_then(found: Shop) -> None:
    account = found.account()
    end = seconds(account) + 40 * DAY_S
    account.subscribe(reference="s", plan_id="starter", paid_through={"seconds": end})
    account.advance(until={"seconds": end - 1})
    assert account.get_balance().plan_id == "starter"
    account.advance(by={"seconds": 1})
    shown = account.get_account().account
    assert shown.subscription.plan_id == "free"
    assert all(e.event == pb.Upcoming.EVENT_RESET for e in shown.upcoming)


def test_a_restart_goes_on_from_where_the_clock_was(tmp_path: Path) -> None:
    with shop(tmp_path, developer=True) as running:
        account = Account(running.channel, "any")
        before = seconds(account)
        moved = account.advance(by={"seconds": 100 * DAY_S})
        assert 0 <= moved.now.seconds - before - 100 * DAY_S < 60
    with shop(tmp_path, developer=True) as running:
        assert seconds(Account(running.channel, "any")) >= moved.now.seconds


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "by"),
        ({"by": {"seconds": -1}}, "by"),
        ({"by": {"nanos": -1}}, "by"),
        ({"by": {"seconds": 2**63 - 1}}, "by"),
        ({"by": {"seconds": 221_845_392_000}}, "by"),
        ({"until": {"seconds": 1_000_000_000}}, "until"),
        ({"until": {"seconds": 221_845_392_000}}, "until"),
        ({"until": {"seconds": 4_000_000_000, "nanos": -1}}, "until"),
        ({"until": {}}, "until"),
    ],
)
def test_the_clock_goes_forward_and_not_too_far(
    found: Shop, fields: dict[str, Any], field: str
) -> None:
    account = Account(found.channel, "any")
    before = seconds(account)
    with refused(Reason.INVALID_FIELD, field=field):
        account.advance(**fields)
    assert seconds(account) - before < 60
    account.advance(by={})


@pytest.mark.parametrize("method", CLOCK)
def test_outside_developer_mode_there_is_no_clock(tmp_path: Path, method: str) -> None:
    with shop(tmp_path) as running, pytest.raises(grpc.RpcError) as caught:
        Account(running.channel, "any").call(method)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
