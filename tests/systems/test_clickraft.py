"""S3, Clickraft: rules R56 to R69 as its catalog runs. The account is the organization."""

import pytest

from creditgate.v1.credits_pb2 import (
    GetBalanceRequest,
    GetBalanceResponse,
    QuoteRequest,
    QuoteResponse,
)
from creditgate.v1.resources_pb2 import DECISION_APPROVED, Job
from creditgate_server.core import commands as c
from creditgate_server.core.commands import Kind
from creditgate_server.core.results import Decision, HoldState
from creditgate_server.core.schedule import Coming
from tests.schedule.times import ms
from tests.systems.shop import Customer, Shop, drawn

CATALOG = "clickraft"
FOUR = [Kind.SUBSCRIPTION, Kind.TOP_UP, Kind.PROMOTIONAL, Kind.REFERRAL]


async def organization(shop: Shop) -> Customer:
    """One with credits from all four sources; what is given ends first."""
    acme = await shop.customer("2026-01-31 10:00", plan="studio")
    await acme.given("friend", Kind.REFERRAL, 40, ends="2026-03-05")
    await acme.given("spring", Kind.PROMOTIONAL, 30, ends="2026-03-01")
    await acme.buy("payment-1", 500)
    return acme


@pytest.mark.parametrize(
    ("action", "model", "quantity", "price"),
    [
        ("image.generate", "image-standard", 1, 4),
        ("video.generate", "video-standard", 5, 50),
        ("text.process", "text-standard", 2_500, 3),
    ],
)
async def test_r56_images_videos_and_text_cost_credits(
    shop: Shop, action: str, model: str, quantity: int, price: int
) -> None:
    acme = await shop.customer("2026-01-31 10:00", plan="studio")
    assert await acme.spend(action, model, quantity) == price
    assert await acme.left() == {"monthly#0": 2_000 - price}


async def test_r57_credits_are_deducted_before_the_generation_starts(shop: Shop) -> None:
    acme = await shop.customer("2026-01-31 10:00", plan="studio")
    first = await acme.authorize("video.generate", "video-premium", 60)
    assert (first.totals.available, first.totals.held) == (500, 1_500)
    second = await acme.authorize("video.generate", "video-premium", 60)
    assert second.decision is Decision.INSUFFICIENT_CREDITS


async def test_r58_success_consumes_what_was_deducted(shop: Shop) -> None:
    acme = await shop.customer("2026-01-31 10:00", plan="studio")
    video = await acme.authorize("video.generate", "video-premium", 60)
    settled = await acme.settle(video)
    assert (settled.charged, settled.returned) == (1_500, 0)
    assert (settled.totals.available, settled.totals.held) == (500, 0)


async def test_r59_a_failure_refunds_by_itself_whatever_the_reason(shop: Shop) -> None:
    acme = await shop.customer("2026-01-31 10:00", plan="studio")
    for _ in range(3):
        failed = await acme.authorize("video.generate", "video-premium", 60)
        refunded = await acme.refund(failed)
        assert (refunded.refunded, refunded.totals.available) == (1_500, 2_000)
    delivered = await acme.authorize("image.generate", "image-premium", 4)
    assert (await acme.settle(delivered, quantity=3)).returned == 12
    paid = await acme.charge("image.generate", "image-premium")
    assert (await acme.refund(paid)).totals.available == 2_000 - 36


async def test_r59_a_worker_that_died_loses_no_credits(shop: Shop) -> None:
    acme = await shop.customer("2026-01-31 10:00", plan="studio")
    held = await acme.authorize("video.generate", "video-premium", 60)
    assert held.hold is not None
    await acme.at("2026-01-31 10:30")
    while await shop.ledger.expire_due(shop.catalog.rules):
        pass
    found = await shop.ledger.run(c.GetHold(account_id=acme.account_id, hold_id=held.hold.hold_id))
    assert found.state is HoldState.EXPIRED
    assert (await acme.balance()).totals.available == 2_000


async def test_r59_r66_a_failure_across_the_reset_loses_nothing_and_rolls_nothing_over(
    shop: Shop,
) -> None:
    acme = await shop.customer("2026-01-31 10:00", plan="studio")
    await acme.at("2026-02-28 09:55")
    failed = await acme.authorize("video.generate", "video-premium", 20)
    cancelled = await acme.authorize("image.generate", "image-premium", 10)
    assert await acme.at("2026-02-28 10:00") == {"monthly#1": 2_000}
    await acme.refund(failed)
    await acme.refund(cancelled, cancelled=True)
    balance = await acme.balance()
    [made_good] = [part for part in balance.buckets if part.kind is Kind.COMPENSATION]
    assert made_good.available == 500
    assert made_good.ends_ms == ms("2026-03-07 10:00")
    assert balance.totals.available == 2_500
    old = await acme.bucket("monthly#0")
    assert (old.granted, old.expired) == (2_000, 2_000)  # 120 of a cancelled job were forfeited.


@pytest.mark.parametrize(
    ("dearer", "cheaper"),
    [
        (("image.generate", "image-premium", 1, {}), ("image.generate", "image-draft", 1, {})),
        (("video.generate", "video-draft", 5, {}), ("image.generate", "image-draft", 1, {})),
        (("video.generate", "video-draft", 10, {}), ("video.generate", "video-draft", 5, {})),
        (
            ("video.generate", "video-premium", 5, {"resolution": "1080p"}),
            ("video.generate", "video-premium", 5, {"resolution": "720p"}),
        ),
    ],
    ids=["model tier", "output", "duration", "resolution"],
)
async def test_r60_the_cost_varies_by_tier_output_duration_and_resolution(
    shop: Shop,
    dearer: tuple[str, str, int, dict[str, str]],
    cheaper: tuple[str, str, int, dict[str, str]],
) -> None:
    acme = await shop.customer("2026-01-31 10:00", plan="studio")
    prices = [
        await acme.spend(action, model, quantity, **settings)
        for action, model, quantity, settings in (dearer, cheaper)
    ]
    assert prices[0] > prices[1]


async def test_r61_the_exact_cost_is_known_before_the_run_and_nothing_more_is_charged(
    shop: Shop,
) -> None:
    acme = await shop.customer("2026-01-31 10:00", plan="studio")
    shown = shop.price("video.generate", "video-standard", 7, resolution="1080p")
    assert shown == 105
    placed = await acme.authorize("video.generate", "video-standard", 7, resolution="1080p")
    assert placed.amount == shown
    settled = await acme.settle(placed, quantity=9)  # It has become longer than was ordered.
    assert (settled.charged, settled.shortfall) == (shown, 30)


async def test_r62_an_organization_holds_credits_from_four_sources_and_members_spend_them(
    shop: Shop,
) -> None:
    acme = await organization(shop)
    assert [part.kind for part in (await acme.balance()).buckets if not part.ended] == FOUR
    for member in ("ana", "ben"):
        await acme.charge("image.generate", "image-premium", member=member)
    members = [entry.member_id for entry in await acme.entries() if entry.hold_id]
    assert members == ["ana", "ben"]
    assert (await acme.left())["monthly#0"] == 2_000 - 24


async def test_r63_subscription_then_purchased_then_promotional_then_referral(shop: Shop) -> None:
    acme = await organization(shop)
    split = await acme.charge("video.generate", "video-standard", 255)
    assert list(drawn(split).items()) == [
        ("monthly", 2_000),
        ("payment-1", 500),
        ("spring", 30),
        ("friend", 20),
    ]


async def test_r64_each_source_ends_in_its_own_way(shop: Shop) -> None:
    acme = await organization(shop)
    assert await acme.at("2026-02-28 10:00") == {
        "monthly#1": 2_000,
        "payment-1": 500,
        "spring": 30,
        "friend": 40,
    }
    assert "spring" not in await acme.at("2026-03-01")
    assert "friend" not in await acme.at("2026-03-05")
    assert (await acme.at("2030-03-05"))["payment-1"] == 500


async def test_r65_the_order_is_the_operators_and_not_the_one_of_ends(shop: Shop) -> None:
    acme = await organization(shop)
    ends = [part.ends_ms for part in (await acme.balance()).buckets]
    assert ends[1] is None, "what never ends is drawn before what ends tomorrow"
    assert ends[2] is not None
    assert [kind for kind in shop.catalog.kinds if kind in FOUR] == FOUR


async def test_r66_r67_after_a_reset_there_is_what_was_purchased_and_a_new_allowance(
    shop: Shop,
) -> None:
    acme = await organization(shop)
    await acme.spend("video.generate", "video-standard", 220)
    left = (await acme.left())["payment-1"]
    assert left == 300
    after = await acme.at("2026-02-28 10:00")
    assert after == {"monthly#1": 2_000, "payment-1": left, "spring": 30, "friend": 40}
    await acme.at("2026-03-05")
    assert (await acme.balance()).totals.available == left + 2_000


async def test_r68_a_balance_is_told_in_total_by_type_and_beside_a_cost(shop: Shop) -> None:
    acme = await organization(shop)
    balance = await acme.balance("video.generate", "video-premium")
    assert balance.totals.available == 2_570  # the header
    assert {part.kind: part.available for part in balance.buckets} == {  # Settings > Billing
        Kind.SUBSCRIPTION: 2_000,
        Kind.TOP_UP: 500,
        Kind.PROMOTIONAL: 30,
        Kind.REFERRAL: 40,
    }
    cost = shop.price("video.generate", "video-premium", 10)
    assert (cost, balance.payable) == (250, 2_570)  # the model selector


async def test_r69_a_batch_is_checked_beforehand_and_draft_models_and_packs_help(
    shop: Shop,
) -> None:
    acme = await shop.customer("2026-01-31 10:00", plan="studio")
    batch = 500
    assert shop.price("image.generate", "image-premium", batch) > 2_000
    assert shop.price("image.generate", "image-draft", batch) <= 2_000
    denied = await acme.authorize("image.generate", "image-premium", batch)
    assert denied.missing == 4_000
    assert (
        await acme.buy("payment-1", shop.catalog.smallest_pack(4_000))
    ).decision == DECISION_APPROVED
    assert (await acme.authorize("image.generate", "image-premium", batch)).hold is not None


async def test_r64_r66_the_reset_can_be_seen_beforehand(shop: Shop) -> None:
    acme = await organization(shop)
    assert await acme.upcoming() == [(Coming.RESET, ms("2026-02-28 10:00"))]


async def test_r61_r68_a_quote_tells_the_exact_cost_beside_what_there_is(shop: Shop) -> None:
    acme = await organization(shop)
    job = Job(action="video.generate", model="video-premium", quantity=10)
    request = QuoteRequest(account_id=acme.account_id, job=job)
    quote = await shop.credits.quote(request)
    assert isinstance(quote, QuoteResponse)
    assert (quote.amount, quote.payable, quote.totals.available) == (250, 2_570, 2_570)
    found = await shop.credits.get_balance(GetBalanceRequest(account_id=acme.account_id))
    assert isinstance(found, GetBalanceResponse)
    assert found.plan_id == "studio"
    assert [part.available for part in found.buckets][:4] == [2_000, 500, 30, 40]
    assert found.buckets[0].next_reset_at.ToMilliseconds() == ms("2026-02-28 10:00")
