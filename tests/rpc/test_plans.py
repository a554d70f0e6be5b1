"""Plans over the wire, on the catalogs that are shipped: subscriptions, purchases, remedies."""

from collections.abc import Iterator
from typing import Any

import pytest

from creditgate.v1 import accounts_pb2 as pb
from creditgate.v1 import resources_pb2 as rs
from creditgate_server.core.faults import Reason
from tests.rpc.shop import Account, Shop, refused, shop

APPROVED, DENIED = rs.DECISION_APPROVED, rs.DECISION_DENIED
APPLIED, REPLAYED = pb.EFFECT_APPLIED, pb.EFFECT_REPLAYED

IMAGE = rs.Job(action="image.generate", model="image-standard")
PRO_IMAGE = rs.Job(action="image.generate", model="image-pro")


@pytest.fixture(scope="module")
def art(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop(tmp_path_factory.mktemp("art"), catalog="imagineart") as found:
        yield found


@pytest.fixture(scope="module")
def studios(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop(tmp_path_factory.mktemp("studios"), catalog="aistudios") as found:
        yield found


def subscribed(found: Shop, plan: str, **fields: Any) -> Account:
    account = found.account()
    account.subscribe(reference="start", plan_id=plan, **fields)
    return account


def helps(answer: Any) -> dict[str, Any]:
    """Remedies by their kind; the waits as bucket and amount."""
    found: dict[str, Any] = {}
    for remedy in answer.remedies:
        which = remedy.WhichOneof("remedy")
        if which == "wait":
            found.setdefault("wait", []).append((remedy.wait.bucket_id, remedy.wait.amount))
        elif which == "top_up":
            found["top_up"] = (remedy.top_up.allowed, remedy.top_up.pack_amount)
        else:
            found["upgrade"] = list(remedy.upgrade.plan_ids)
    return found


def reason(answer: Any) -> str:
    assert answer.decision == DENIED
    return rs.DenialReason.Name(answer.denial_reason).removeprefix("DENIAL_REASON_")


# Subscriptions.


def test_a_new_account_is_on_the_default_plan_and_knows_its_next_reset(art: Shop) -> None:
    account = art.account(zone="Europe/Berlin")
    balance = account.get_balance()
    assert (balance.plan_id, balance.zone, balance.payable) == ("free", "Europe/Berlin", 100)
    [daily] = balance.buckets
    assert (daily.bucket_id, daily.kind) == ("daily", rs.KIND_FREE)
    assert daily.next_reset_at == daily.ends_at
    shown = account.get_account().account
    assert (shown.subscription.plan_id, shown.subscription.seats) == ("free", 1)
    assert [(e.event, e.bucket_id, e.amount) for e in shown.upcoming] == [
        (pb.Upcoming.EVENT_RESET, "daily", 100)
    ]


def test_a_subscription_is_applied_once_and_told_apart_from_an_older_event(art: Shop) -> None:
    account = art.account()
    fields = {"reference": "invoice-1", "plan_id": "starter", "occurred_at": {"seconds": 1_800_000}}
    first = account.subscribe(**fields)
    assert (first.effect, first.account.subscription.plan_id) == (APPLIED, "starter")
    assert account.bucket("monthly").available == 20_000
    before = account.state()
    assert account.subscribe(**fields).effect == REPLAYED
    older = account.cancel_subscription(reference="old", occurred_at={"seconds": 1_700_000})
    assert older.effect == pb.EFFECT_SUPERSEDED
    assert account.state() == before
    with refused(Reason.ID_REUSED, id="invoice-1"):
        account.subscribe(**{**fields, "plan_id": "studio"})
    assert account.state() == before


def test_an_upgrade_counts_now_and_a_downgrade_later(art: Shop) -> None:
    account = subscribed(art, "starter")
    now = account.change_plan(reference="up", plan_id="creator").account
    assert now.subscription.plan_id == "creator"
    assert account.bucket("monthly").available == 80_000
    later = account.change_plan(reference="down", plan_id="starter").account.subscription
    assert (later.plan_id, later.next_plan_id) == ("creator", "starter")
    changes = [e for e in account.get_account().account.upcoming if e.plan_id]
    assert [(e.event, e.plan_id) for e in changes] == [(pb.Upcoming.EVENT_PLAN_CHANGE, "starter")]
    assert changes[0].at == later.changes_at


def test_a_cancelled_subscription_shows_its_end_and_what_ends_with_it(art: Shop) -> None:
    account = subscribed(art, "starter")
    shown = account.cancel_subscription(reference="end").account
    assert shown.subscription.HasField("ends_at")
    at_end = {e.event for e in shown.upcoming if e.at == shown.subscription.ends_at}
    assert pb.Upcoming.EVENT_SUBSCRIPTION_END in at_end
    assert pb.Upcoming.EVENT_BUCKET_END in at_end
    # What does not begin again has no reset.
    assert not account.bucket("monthly").HasField("next_reset_at")
    gone = account.cancel_subscription(reference="now", when=pb.WHEN_NOW).account
    assert gone.subscription.plan_id == "free"


def test_seats_and_units_count_at_once_and_are_shown(studios: Shop) -> None:
    account = subscribed(studios, "team", seats=3)
    assert account.bucket("base").available == 450
    answer = account.set_add_ons(reference="more", add_on_id="unit", units=2)
    assert answer.effect == APPLIED
    assert [(a.add_on_id, a.units, a.next_units) for a in answer.account.add_ons] == [
        ("unit", 2, 2)
    ]
    assert answer.account.totals.available == 850
    fewer = account.set_add_ons(reference="fewer", add_on_id="unit", units=0).account
    assert [(a.units, a.next_units) for a in fewer.add_ons] == [(2, 0)]
    assert fewer.totals.available == 850


def test_a_contract_says_its_allowance_by_the_name_of_a_grant(studios: Shop) -> None:
    account = studios.account()
    with refused(Reason.INVALID_FIELD, field="allowances"):
        account.subscribe(reference="r", plan_id="enterprise", allowances={"bass": 5_000})
    account.subscribe(reference="r", plan_id="enterprise", allowances={"base": 5_000})
    assert account.bucket("base").available == 5_000


# Denials and what helps.


@pytest.mark.parametrize("method", ["quote", "authorize", "charge"])
def test_missing_credits_tell_to_wait_to_buy_and_to_upgrade(art: Shop, method: str) -> None:
    fields = {} if method == "quote" else {"hold_id": "h"}
    many = rs.Job(action="image.generate", model="image-standard", quantity=5)
    free = getattr(art.account(), method)(job=many, **fields)
    assert reason(free) == "INSUFFICIENT_CREDITS"
    plans = ["starter", "creator", "creator-quarterly", "creator-yearly", "studio"]
    assert helps(free) == {"wait": [("daily", 100)], "top_up": (False, 5_000), "upgrade": plans}
    most = rs.Job(action="image.generate", model="image-standard", quantity=1_000)
    starter = getattr(subscribed(art, "starter"), method)(job=most, **fields)
    assert helps(starter) == {
        "wait": [("daily", 100), ("monthly", 20_000)],
        "top_up": (True, 5_000),
        "upgrade": plans[1:],
    }


@pytest.mark.parametrize("method", ["quote", "authorize", "charge"])
def test_a_model_of_another_plan_names_the_plans_that_have_it(art: Shop, method: str) -> None:
    fields = {} if method == "quote" else {"hold_id": "h"}
    answer = getattr(art.account(1_000), method)(job=PRO_IMAGE, **fields)
    assert reason(answer) == "PLAN_REQUIRED"
    assert helps(answer)["upgrade"][0] == "starter"
    assert helps(answer).keys() == {"upgrade"}


def test_a_raise_that_is_denied_has_the_remedies_of_its_job(art: Shop) -> None:
    account = art.account()
    account.hold(IMAGE, hold_id="h")
    answer = account.extend(hold_id="h", quantity=5)
    assert reason(answer) == "INSUFFICIENT_CREDITS"
    assert helps(answer)["wait"] == [("daily", 100)]


@pytest.mark.parametrize("method", ["quote", "authorize", "charge"])
def test_a_frozen_account_is_denied_and_finishes_what_is_open(art: Shop, method: str) -> None:
    account = art.account()
    account.hold(IMAGE, hold_id="open")
    assert account.freeze().account.frozen
    answer = getattr(account, method)(job=IMAGE, **({} if method == "quote" else {"hold_id": "h"}))
    assert (reason(answer), helps(answer)) == ("ACCOUNT_FROZEN", {})
    assert account.settle(hold_id="open").charged == 24
    assert not account.unfreeze().account.frozen
    assert account.hold(IMAGE)


def test_a_member_who_has_used_up_their_share_waits_for_the_next_period(studios: Shop) -> None:
    account = subscribed(studios, "team")
    assert account.set_member_limit(member_id="ann", amount=3).used == 0
    job = rs.Job(action="image.generate", quantity=2)
    account.hold(job, member_id="ann")
    answer = account.authorize(hold_id="h", job=job, member_id="ann")
    assert (reason(answer), answer.missing) == ("MEMBER_LIMIT", 1)
    assert helps(answer) == {"wait": [("base", 150)]}
    assert account.set_member_limit(member_id="ann").used == 2
    assert account.authorize(hold_id="h", job=job, member_id="ann").decision == APPROVED


# Purchases.


def test_only_subscribers_buy_and_once_for_each_payment(art: Shop) -> None:
    account = art.account()
    denied = account.purchase_top_up(payment_ref="pay", pack_amount=5_000)
    assert reason(denied) == "PLAN_REQUIRED"
    assert helps(denied)["upgrade"][0] == "starter"
    assert not denied.HasField("bucket")
    account.subscribe(reference="s", plan_id="starter")
    for replayed in (False, True):
        answer = account.purchase_top_up(payment_ref="pay", pack_amount=5_000)
        assert (answer.decision, answer.replayed) == (APPROVED, replayed)
        assert (answer.bucket.bucket_id, answer.bucket.available) == ("pay", 5_000)
        assert answer.totals.available == 25_100
    with refused(Reason.PACK_NOT_FOUND, pack_amount="5001"):
        account.purchase_top_up(payment_ref="other", pack_amount=5_001)


# Usage, forecast, explanation.


def test_usage_adds_up_by_action_and_model_refunds_apart(art: Shop) -> None:
    account = subscribed(art, "starter")
    account.charge(hold_id="c", job=IMAGE)
    account.settle(hold_id=account.hold(IMAGE))
    account.charge(hold_id="v", job=rs.Job(action="video.generate", model="video-standard"))
    account.refund(hold_id="v")
    account.refund(hold_id=account.hold(IMAGE))
    usage = account.get_usage()
    assert [(x.action, x.model, x.jobs, x.charged, x.refunded) for x in usage.lines] == [
        ("image.generate", "image-standard", 2, 48, 0),
        ("video.generate", "video-standard", 1, 210, 210),
    ]
    assert (usage.charged, usage.refunded) == (258, 210)
    only = account.get_usage(action="video.generate")
    assert (only.charged, len(only.lines)) == (210, 1)
    assert not account.get_usage(until={"seconds": 1_000_000}).lines
    assert not account.get_usage(model="image-pro").lines


def test_the_forecast_of_the_page_comes_out(art: Shop) -> None:
    planned = [
        {"job": IMAGE, "times": 660},
        {"job": rs.Job(action="video.generate", model="video-standard"), "times": 220},
    ]
    found = Account(art.channel, "any").forecast(planned=planned)
    assert (found.amount, found.buffer, list(found.prices)) == (62_040, 15_510, [24, 210])
    assert found.plan_ids[0] == "creator"
    bare = Account(art.channel, "any").forecast(planned=planned, buffer_percent=0)
    assert bare.buffer == 0
    planned[0]["job"] = rs.Job(action="nothing")
    with refused(Reason.INVALID_FIELD, field="planned[0].job"):
        Account(art.channel, "any").forecast(planned=planned)


def test_an_explanation_names_figures_dates_and_remedies(art: Shop) -> None:
    account = art.account(zone="Europe/Berlin")
    account.hold(IMAGE, hold_id="open", member_id="ann")
    account.charge(hold_id="paid", job=IMAGE)
    account.authorize(hold_id="no", job=rs.Job(action="image.upscale", quantity=100))
    found = account.explain()
    balance = "\n".join(found.balance)
    for words in (
        "52 credits available and 24 credits set aside",
        "Its plan is Free (free)",
        "100 credits granted on",
        "24 credits spent, 24 credits set aside by open holds; 52 credits left",
        "a new period begins with 100 credits",
        "00:00:00 Europe/Berlin",
        "1 hold is open.",
        "Hold open of member ann for image.generate with image-standard has 24 credits",
    ):
        assert words in balance
    denial = "\n".join(found.denial)
    for words in (
        "The last request, no for image.upscale, was denied: INSUFFICIENT_CREDITS.",
        "Its price is 1,200 credits, of which 1,148 credits were missing.",
        "To wait helps: on ",
        "bucket daily begins a period with 100 credits",
        "A top-up cannot be bought",
        "An upgrade helps: to starter or ",
    ):
        assert words in denial
    assert found.account.totals.available == 52
    # What was approved since answers the question.
    account.hold(IMAGE)
    assert not account.explain().denial


def test_the_catalog_tells_its_plans(studios: Shop) -> None:
    plans = {plan.plan_id: plan for plan in Account(studios.channel, "any").get_catalog().plans}
    assert next(iter(plans)) == "free"
    [base] = plans["team"].grants
    assert (base.name, base.amount, base.every, base.per_seat) == ("base", 150, "month", True)
    assert (plans["free"].subscription, plans["team"].subscription) == (False, True)
