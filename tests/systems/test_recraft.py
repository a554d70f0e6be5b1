"""S0, Recraft: rules R1 to R26 as its catalog runs."""

import pytest

from creditgate.v1.resources_pb2 import (
    DECISION_APPROVED,
    DECISION_DENIED,
    DENIAL_REASON_PLAN_REQUIRED,
)
from creditgate_server.core.commands import Kind
from creditgate_server.core.faults import Fault, Reason
from creditgate_server.core.results import Decision, Figure, Verb
from creditgate_server.core.schedule import Coming, When
from tests.schedule.times import ms
from tests.systems.shop import Shop, drawn, row

CATALOG = "recraft"
MODELED = {
    "image.modify-area": "recraft-v3",
    "image.generate": "recraft-v3",
    "image.generate-set": "recraft-v3",
    "image.remix": "recraft-v3",
    "image.replace-background": "recraft-v3",
    "image.edit": "recraft-v3",
    "image.vary": "recraft-v3",
    "video.generate": "video-draft",
    "video.generate-from-frames": "video-draft",
    "upscale.external": "upscale-basic",
}


@pytest.mark.parametrize(
    ("rule", "action", "price"),
    [
        ("R1", "prompt.extract", 1),
        ("R2", "upscale.creative", 20),
        ("R3", "upscale.crisp", 1),
        ("R4", "image.erase-area", 1),
        ("R5", "mockup.create", 2),
        ("R6", "mockup.mockupize", 2),
        ("R7", "image.remove-background", 1),
        ("R8", "image.vectorize", 1),
        ("R9", "image.explore", 2),
        ("R10", "prompt.enhance", 0),
    ],
)
async def test_r1_r2_r3_r4_r5_r6_r7_r8_r9_r10_an_action_is_charged_what_the_page_says(
    shop: Shop, rule: str, action: str, price: int
) -> None:
    ana = await shop.customer("2026-01-31 10:00")
    assert await ana.spend(action) == price, rule
    assert await ana.left() == {"daily#0": 50 - price}


async def test_r10_a_job_that_costs_nothing_passes_at_balance_zero_and_is_listed_and_recorded(
    shop: Shop,
) -> None:
    ana = await shop.customer("2026-01-31 10:00")
    await ana.spend("upscale.creative", quantity=2)
    await ana.spend("prompt.extract", quantity=10)
    assert await ana.left() == {"daily#0": 0}
    assert (await ana.charge("prompt.extract")).decision is Decision.INSUFFICIENT_CREDITS
    assert await ana.spend("prompt.enhance") == 0
    assert (await ana.entries())[-1].action == "prompt.enhance"
    [line] = shop.catalog.priced("prompt.enhance")
    assert line.price.of(1) == 0


@pytest.mark.parametrize("action", MODELED)
async def test_r11_an_action_that_costs_what_its_model_costs_has_no_price_without_one(
    shop: Shop, action: str
) -> None:
    ana = await shop.customer("2026-01-31 10:00")
    assert (await ana.charge(action)).decision is Decision.UNPRICED_ACTION
    assert (await ana.charge(action, "of-another-shop")).decision is Decision.UNPRICED_ACTION
    assert await ana.spend(action, MODELED[action]) == 1  # The floor that the page shows.
    dearest = max(line.price.of(1) for line in shop.catalog.priced(action))
    assert dearest > 1, "the price is the model's, not the floor"


async def test_r12_r13_credits_are_of_a_subscription_or_topped_up_and_may_be_earned(
    shop: Shop,
) -> None:
    ana = await shop.customer("2026-01-31 10:00", plan="basic")
    await ana.buy("payment-1", 200)
    await ana.given("friend-of-ana", Kind.REFERRAL, 30)
    kinds = {row(bucket): bucket.kind for bucket in (await ana.balance()).buckets}
    assert kinds["monthly#0"] is Kind.SUBSCRIPTION
    assert kinds["payment-1"] is Kind.TOP_UP
    assert kinds["friend-of-ana"] is Kind.REFERRAL
    assert (await ana.balance()).totals.available == 1230


async def test_r14_r16_subscription_credits_reset_monthly_and_do_not_roll_over(shop: Shop) -> None:
    ana = await shop.customer("2026-01-31 10:00", plan="basic")
    await ana.spend("upscale.creative")
    assert await ana.at("2026-02-28 09:59:59.999") == {"monthly#0": 980}
    assert await ana.at("2026-02-28 10:00") == {"monthly#1": 1000}
    assert (await ana.bucket("monthly#0")).expired == 980
    assert await ana.at("2026-03-31 10:00") == {"monthly#2": 1000}


async def test_r15_r16_credits_of_free_users_reset_daily_and_do_not_roll_over(shop: Shop) -> None:
    ana = await shop.customer("2026-01-31 10:00", zone="America/New_York")
    await ana.spend("upscale.creative")
    assert await ana.at("2026-02-01 04:59:59.999") == {"daily#0": 30}
    assert await ana.at("2026-02-01 05:00") == {"daily#1": 50}  # Midnight in New York.
    assert (await ana.bucket("daily#0")).expired == 30


async def test_r17_r19_top_ups_never_expire_and_survive_periods_and_changes_of_subscription(
    shop: Shop,
) -> None:
    ana = await shop.customer("2026-01-31 10:00", plan="basic")
    await ana.buy("payment-1", 200)
    assert (await ana.bucket("payment-1")).ends_ms is None
    assert (await ana.at("2026-06-30 10:00"))["payment-1"] == 200
    await ana.change_plan("pro")
    assert (await ana.left())["payment-1"] == 200
    await ana.cancel(when=When.NOW)
    await ana.subscribe("advanced")
    assert (await ana.at("2046-01-31 10:00"))["payment-1"] == 200


async def test_r18_top_ups_stay_and_can_be_used_when_the_subscription_has_ended(shop: Shop) -> None:
    ana = await shop.customer("2026-01-31 10:00", plan="basic")
    await ana.buy("payment-1", 200)
    await ana.cancel()
    assert await ana.at("2026-02-28 10:00") == {"daily#1": 50, "payment-1": 200}
    assert await ana.plan() == "free"
    assert drawn(await ana.charge("upscale.creative", quantity=4)) == {
        "daily": 50,
        "payment-1": 30,
    }


async def test_r20_subscription_first_then_top_up_and_one_charge_may_come_from_both(
    shop: Shop,
) -> None:
    ana = await shop.customer("2026-01-31 10:00", plan="basic")
    await ana.buy("payment-1", 200)
    await ana.spend("upscale.creative", quantity=49)
    assert drawn(await ana.charge("upscale.creative")) == {"monthly": 20}
    assert drawn(await ana.charge("upscale.creative")) == {"payment-1": 20}

    split = await shop.customer("2026-01-31 10:00", plan="basic")
    await split.buy("payment-1", 200)
    await split.spend("prompt.extract", quantity=993)
    assert drawn(await split.charge("upscale.creative")) == {"monthly": 7, "payment-1": 13}


async def test_r21_only_paid_users_may_buy(shop: Shop) -> None:
    ana = await shop.customer("2026-01-31 10:00")
    refused = await ana.buy("payment-1", 200)
    assert refused.decision == DECISION_DENIED
    assert refused.denial_reason == DENIAL_REASON_PLAN_REQUIRED
    assert not refused.HasField("bucket")
    assert await ana.left() == {"daily#0": 50}
    await ana.subscribe("basic")
    assert (await ana.buy("payment-1", 200)).decision == DECISION_APPROVED


async def test_r22_r24_top_ups_are_bought_at_any_time_and_in_any_number(shop: Shop) -> None:
    ana = await shop.customer("2026-01-31 10:00", plan="basic")
    for number in range(20):
        assert (await ana.buy(f"payment-{number}", 200)).decision == DECISION_APPROVED
    assert (await ana.balance()).totals.available == 1000 + 20 * 200  # None of it was used before.


async def test_r23_there_are_four_packs_and_no_other(shop: Shop) -> None:
    ana = await shop.customer("2026-01-31 10:00", plan="basic")
    for other in (1, 199, 400, 1601):
        with pytest.raises(Fault) as refused:
            await ana.buy("payment-1", other)
        assert refused.value.reason is Reason.PACK_NOT_FOUND
    assert shop.catalog.packs == (200, 800, 1000, 1600)
    assert [shop.catalog.smallest_pack(missing) for missing in (1, 200, 201, 1600, 1601)] == [
        200,
        200,
        800,
        1600,
        0,
    ]


async def test_r25_r26_a_purchase_counts_once_from_the_moment_its_payment_is_told(
    shop: Shop,
) -> None:
    ana = await shop.customer("2026-01-31 10:00", plan="basic")
    confirmed = await ana.buy("payment-1", 800)
    assert not confirmed.replayed
    assert confirmed.totals.available == 1000 + 800
    again = await ana.buy("payment-1", 800)
    assert again.replayed
    assert again.totals == confirmed.totals
    entry = (await ana.entries())[-1]
    assert (entry.verb, entry.bucket_id) == (Verb.GRANT, "payment-1")
    assert [(move.source, move.target, move.amount) for move in entry.moves] == [
        (Figure.GRANTED, Figure.AVAILABLE, 800)
    ]


async def test_r14_r20_a_hold_across_the_reset_takes_the_old_period_and_not_the_new_one(
    shop: Shop,
) -> None:
    ana = await shop.customer("2026-01-31 10:00", plan="basic")
    await ana.at("2026-02-28 09:55")
    job = await ana.authorize("upscale.creative", quantity=5)
    assert await ana.at("2026-02-28 10:00") == {"monthly#1": 1000}
    assert (await ana.bucket("monthly#0")).held == 100
    await ana.settle(job)
    assert (await ana.bucket("monthly#0")).spent == 100
    assert await ana.left() == {"monthly#1": 1000}
    # Counted from the anchor and not from the last boundary: the 31st again.
    assert await ana.upcoming() == [(Coming.RESET, ms("2026-03-31 10:00"))]
