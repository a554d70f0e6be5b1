"""S1, ImagineArt as it is today: rules R27 to R49 as its catalog runs."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from creditgate.v1 import accounts_pb2 as pb
from creditgate.v1.catalog_pb2 import ListPricesRequest, ListPricesResponse
from creditgate.v1.credits_pb2 import AuthorizeRequest, AuthorizeResponse
from creditgate.v1.resources_pb2 import DECISION_APPROVED, DECISION_DENIED, Job
from creditgate_server.core import schedule
from creditgate_server.core.calendar import day_of
from creditgate_server.core.commands import Kind
from creditgate_server.core.results import Decision, Figure, Move
from creditgate_server.core.schedule import Coming, When
from creditgate_server.rpc import messages
from tests.schedule.times import ms
from tests.systems.shop import Shop, drawn, job

CATALOG = "imagineart"


async def test_r27_credits_are_deducted_when_one_generates_or_edits(shop: Shop) -> None:
    ana = await shop.customer("2026-01-15 10:00")
    assert await ana.spend("image.generate", "image-standard") == 24
    assert await ana.spend("image.edit", "image-standard") == 24
    assert await ana.left() == {"daily#0": 52}


@pytest.mark.parametrize(
    ("action", "model", "quantity", "settings", "price"),
    [
        ("image.generate", "image-standard", 1, {}, 24),
        ("image.upscale", "", 1, {}, 12),  # another tool
        ("image.generate", "image-pro", 1, {}, 60),  # another model
        ("image.generate", "image-standard", 1, {"quality": "high"}, 36),  # another quality
        ("video.generate", "video-standard", 1, {"duration": "10s"}, 420),  # longer
        ("image.generate", "image-standard", 4, {}, 96),  # four variants
    ],
)
async def test_r28_the_price_depends_on_tool_model_settings_and_number_of_results(
    shop: Shop, *, action: str, model: str, quantity: int, settings: dict[str, str], price: int
) -> None:
    ana = await shop.customer("2026-01-15 10:00", plan="creator")
    assert await ana.spend(action, model, quantity, **settings) == price


async def test_r28_a_rerun_is_a_charge_of_its_own(shop: Shop) -> None:
    ana = await shop.customer("2026-01-15 10:00", plan="creator")
    for _ in range(2):
        await ana.spend("image.generate", "image-pro")
    assert (await ana.balance()).totals.available == 100 + 80_000 - 2 * 60


def test_r29_an_estimate_of_generations_is_a_baseline_and_models_may_cost_more(shop: Shop) -> None:
    baseline = shop.price("image.generate", "image-standard")
    assert shop.price("image.generate", "image-pro") > baseline
    fewest = shop.catalog.forecast([(job("image.generate", "image-pro"), 100)])
    assert fewest.amount > 100 * baseline


async def test_r30_an_account_has_up_to_three_balances(shop: Shop) -> None:
    ana = await shop.customer("2026-01-15 10:00")
    assert await ana.left() == {"daily#0": 100}
    await ana.subscribe("starter")
    await ana.buy("payment-1", 5_000)
    assert await ana.left() == {"daily#0": 100, "monthly#0": 20_000, "payment-1": 5_000}


@pytest.mark.parametrize("plan", ["", "starter", "creator-yearly", "studio"])
async def test_r31_every_account_gets_100_free_credits_a_day(shop: Shop, plan: str) -> None:
    ana = await shop.customer("2026-01-15 10:00", plan=plan, zone="Asia/Kolkata")
    assert (await ana.left())["daily#0"] == 100
    await ana.spend("image.upscale", quantity=8)
    assert (await ana.at("2026-01-15 18:29:59.999"))["daily#0"] == 4
    assert (await ana.at("2026-01-15 18:30"))["daily#1"] == 100  # Midnight in Kolkata.
    assert (await ana.bucket("daily#0")).expired == 4


async def test_r31_a_plan_does_not_give_a_second_hundred_on_the_same_day(shop: Shop) -> None:
    ana = await shop.customer("2026-01-15 10:00")
    await ana.spend("image.upscale", quantity=8)
    await ana.subscribe("starter")
    await ana.cancel(when=When.NOW)
    assert await ana.left() == {"daily#0": 4}


@pytest.mark.parametrize(
    ("action", "model"), [("image.generate", "image-pro"), ("video.generate", "video-pro")]
)
async def test_r32_models_labelled_pro_require_an_active_subscription(
    shop: Shop, action: str, model: str
) -> None:
    ana = await shop.customer("2026-01-15 10:00")
    assert (await ana.charge(action, model)).decision is Decision.PLAN_REQUIRED
    assert shop.catalog.denial_of(job(action, model), "free") == "PLAN_REQUIRED"
    await ana.subscribe("starter")
    assert (await ana.charge(action, model)).decision is Decision.APPROVED
    await ana.cancel(when=When.NOW)
    assert (await ana.charge(action, model)).decision is Decision.PLAN_REQUIRED


async def test_r33_subscription_credits_refresh_monthly_and_do_not_roll_over(shop: Shop) -> None:
    ana = await shop.customer("2026-01-15 10:00", plan="starter")
    await ana.spend("video.generate", "video-pro", 10)
    assert (await ana.at("2026-02-15 09:59:59.999"))["monthly#0"] == 20_000 - 5_900
    assert (await ana.at("2026-02-15 10:00"))["monthly#1"] == 20_000
    assert (await ana.bucket("monthly#0")).expired == 20_000 - 5_900


async def test_r34_the_renewal_date_is_the_purchase_date_and_can_be_seen(shop: Shop) -> None:
    ana = await shop.customer("2026-01-01 08:00")
    await ana.at("2026-01-31 15:30")
    await ana.subscribe("starter")
    for renewal in ("2026-02-28 15:30", "2026-03-31 15:30", "2026-04-30 15:30"):
        monthly = [at for _, at in await ana.upcoming() if day_of(at, "UTC") == renewal[:10]]
        assert monthly == [ms(renewal)]
        await ana.at(renewal)


@pytest.mark.parametrize(
    ("plan", "paid_until"),
    [("creator-quarterly", "2026-04-15 10:00"), ("creator-yearly", "2027-01-15 10:00")],
)
async def test_r35_plans_paid_quarterly_or_yearly_are_assigned_monthly(
    shop: Shop, plan: str, paid_until: str
) -> None:
    ana = await shop.customer("2026-01-15 10:00", plan=plan)
    await ana.cancel()
    assert (Coming.SUBSCRIPTION_END, ms(paid_until)) in await ana.upcoming()
    months = 2 if plan == "creator-quarterly" else 11
    for month in range(1, months + 1):
        left = await ana.at(f"2026-{month + 1:02}-15 10:00")
        assert left == {f"daily#{_days(month)}": 100, f"monthly#{month}": 80_000}
    assert set(await ana.at(paid_until)) & {"monthly#3", "monthly#12"} == set()
    assert await ana.plan() == "free"


def _days(months: int) -> int:
    return (ms(f"2026-{months + 1:02}-15") - ms("2026-01-15")) // 86_400_000


async def test_r36_top_ups_do_not_expire(shop: Shop) -> None:
    ana = await shop.customer("2026-01-15 10:00", plan="starter")
    await ana.buy("payment-1", 5_000)
    assert (await ana.bucket("payment-1")).ends_ms is None
    assert (await ana.at("2036-01-15 10:00"))["payment-1"] == 5_000


async def test_r37_top_ups_can_be_bought_only_while_a_subscription_is_active(shop: Shop) -> None:
    ana = await shop.customer("2026-01-15 10:00")
    assert (await ana.buy("payment-1", 5_000)).decision == DECISION_DENIED
    await ana.subscribe("starter", paid_through_ms=ms("2026-02-15 10:00"))
    assert (await ana.buy("payment-2", 5_000)).decision == DECISION_APPROVED
    await ana.at("2026-02-15 10:00")
    assert (await ana.buy("payment-3", 5_000)).decision == DECISION_DENIED


async def test_r38_top_ups_are_spent_after_the_subscription_on_what_the_free_plan_allows(
    shop: Shop,
) -> None:
    ana = await shop.customer("2026-01-15 10:00", plan="starter")
    await ana.buy("payment-1", 5_000)
    await ana.cancel(when=When.NOW)
    assert drawn(await ana.charge("image.generate", "image-standard", 5)) == {
        "daily": 100,
        "payment-1": 20,
    }
    assert (await ana.charge("image.generate", "image-pro")).decision is Decision.PLAN_REQUIRED


async def test_r39_free_credits_are_used_first_then_the_subscription_then_top_ups(
    shop: Shop,
) -> None:
    ana = await shop.customer("2026-01-15 10:00", plan="starter")
    await ana.buy("payment-1", 5_000)
    split = await ana.charge("image.upscale", quantity=1_700)
    assert list(drawn(split).items()) == [
        ("daily", 100),
        ("monthly", 20_000),
        ("payment-1", 300),
    ]


async def test_r40_a_balance_is_shown_with_its_parts(shop: Shop) -> None:
    ana = await shop.customer("2026-01-15 10:00", plan="starter")
    await ana.buy("payment-1", 5_000)
    await ana.authorize("image.generate", "image-standard", 10)
    balance = await ana.balance()
    assert [(part.kind, part.available, part.held) for part in balance.buckets] == [
        (Kind.SUBSCRIPTION, 19_860, 140),
        (Kind.TOP_UP, 5_000, 0),
        (Kind.FREE, 0, 100),
    ]
    assert balance.totals.available == sum(part.available for part in balance.buckets)
    assert balance.totals.held == 240  # It is not spent, and shown apart.


def test_r41_r42_r43_a_month_is_forecast_as_the_page_reckons_it(shop: Shop) -> None:
    planned = [
        (job("image.generate", "image-standard"), 30 * 22),
        (job("video.generate", "video-standard"), 10 * 22),
    ]
    for percent, buffer in ((0, 0), (20, 12_408), (25, 15_510), (30, 18_612)):
        found = shop.catalog.forecast(planned, buffer_percent=percent)
        assert (found.prices, found.amount, found.buffer) == ((24, 210), 62_040, buffer)
    assert "creator" in shop.catalog.forecast(planned).plans
    assert "starter" not in shop.catalog.forecast(planned).plans


async def test_r44_out_of_credits_one_waits_tops_up_or_upgrades(shop: Shop) -> None:
    ana = await shop.customer("2026-01-15 10:00", plan="starter")
    video = job("video.generate", "video-standard", 100)
    denied = await ana.charge("video.generate", "video-standard", 100)
    assert denied.decision is Decision.INSUFFICIENT_CREDITS
    assert denied.missing == 900
    assert denied.plan == "starter"
    assert denied.schedule is not None
    waits = schedule.next_resets(denied.schedule, shop.catalog.plans, shop.clock.now_ms)
    assert [(wait.row, wait.at_ms, wait.amount) for wait in waits] == [
        ("daily#0", ms("2026-01-16"), 100),
        ("monthly#0", ms("2026-02-15 10:00"), 20_000),
    ]
    assert shop.catalog.smallest_pack(denied.missing) == 5_000
    assert shop.catalog.plans.may_buy("starter")
    assert not shop.catalog.plans.may_buy("free")
    assert shop.catalog.plans_that_allow(video, 900, above="starter")[0] == "creator"


def test_r45_the_unit_may_carry_another_name(shop: Shop) -> None:
    assert shop.catalog.unit == "credit"
    renamed = dataclasses.replace(shop.catalog, unit="Token")
    assert renamed.terms(job("image.upscale")) == shop.catalog.terms(job("image.upscale"))


async def test_r46_a_bundle_is_picked_and_counts_once_it_is_paid(shop: Shop) -> None:
    ana = await shop.customer("2026-01-15 10:00", plan="starter")
    assert shop.catalog.packs == (5_000, 20_000, 50_000)
    assert (await ana.buy("payment-1", 20_000)).totals.available == 100 + 20_000 + 20_000


def test_r47_the_price_list_can_be_queried_and_is_the_one_in_force(shop: Shop) -> None:
    for line in shop.catalog.priced():
        assert shop.price(line.action, line.model) == line.price.of(1)
    models = {line.model for line in shop.catalog.priced("video.generate")}
    assert models == {"video-standard", "video-pro"}


async def test_r48_what_was_used_is_told_by_date_tool_and_model(shop: Shop) -> None:
    ana = await shop.customer("2026-01-15 10:00", plan="starter")
    await ana.spend("image.generate", "image-pro")
    await ana.spend("video.generate", "video-standard")
    await ana.at("2026-01-16 10:00")
    await ana.spend("image.generate", "image-standard")
    used = [
        (day_of(entry.at_ms, "UTC"), entry.action, entry.model, _spent(entry.moves))
        for entry in await ana.entries()
        if entry.hold_id
    ]
    assert used == [
        ("2026-01-15", "image.generate", "image-pro", 60),
        ("2026-01-15", "video.generate", "video-standard", 210),
        ("2026-01-16", "image.generate", "image-standard", 24),
    ]


def _spent(moves: Sequence[Move]) -> int:
    return sum(move.amount for move in moves if move.target is Figure.SPENT)


async def test_r49_support_sees_the_account_its_plan_and_the_balance_in_detail(shop: Shop) -> None:
    ana = await shop.customer("2026-01-15 10:00")
    denied = await ana.charge("video.generate", "video-pro")
    account = await ana.account()
    assert account.account_id == ana.account_id
    assert account.schedule is not None
    assert account.schedule.plan == "free"
    assert account.denied is not None
    assert account.denied.decision is denied.decision is Decision.PLAN_REQUIRED
    assert (account.denied.action, account.denied.model) == ("video.generate", "video-pro")
    assert len((await ana.balance()).buckets) == 1


async def test_r41_r42_r43_the_forecast_of_the_contract_is_the_page_s(shop: Shop) -> None:
    image = Job(action="image.generate", model="image-standard")
    video = Job(action="video.generate", model="video-standard")
    planned = [
        pb.ForecastRequest.Planned(job=image, times=660),
        pb.ForecastRequest.Planned(job=video, times=220),
    ]
    found = await shop.accounts.forecast(pb.ForecastRequest(planned=planned))
    assert isinstance(found, pb.ForecastResponse)
    assert (list(found.prices), found.amount, found.buffer) == ([24, 210], 62_040, 15_510)
    assert "creator" in found.plan_ids


async def test_r44_a_denial_names_the_three_remedies(shop: Shop) -> None:
    ana = await shop.customer("2026-01-15 10:00", plan="starter")
    video = Job(action="video.generate", model="video-standard", quantity=100)
    asked = AuthorizeRequest(account_id=ana.account_id, hold_id="job-1", job=video)
    denied = await shop.credits.authorize(asked)
    assert isinstance(denied, AuthorizeResponse)
    remedies = {remedy.WhichOneof("remedy"): remedy for remedy in denied.remedies}
    assert set(remedies) == {"wait", "top_up", "upgrade"}
    assert remedies["wait"].wait.bucket_id == "monthly"
    assert remedies["wait"].wait.until.ToMilliseconds() == ms("2026-02-15 10:00")
    assert remedies["top_up"].top_up.allowed
    assert remedies["top_up"].top_up.pack_amount == 5_000
    assert "creator" in remedies["upgrade"].upgrade.plan_ids


async def test_r48_usage_is_filtered_by_date_tool_and_model(shop: Shop) -> None:
    ana = await shop.customer("2026-01-15 10:00", plan="starter")
    await ana.spend("image.generate", "image-pro")
    await ana.spend("video.generate", "video-standard")
    await ana.at("2026-01-16 10:00")
    await ana.spend("image.generate", "image-standard")

    async def charged(**wanted: Any) -> int:
        request = pb.GetUsageRequest(account_id=ana.account_id, **wanted)
        found = await shop.accounts.get_usage(request)
        assert isinstance(found, pb.GetUsageResponse)
        return found.charged

    midnight = messages.instant(ms("2026-01-16"))
    assert await charged() == 294
    assert await charged(until=midnight) == 270
    assert await charged(**{"from": midnight}) == 24
    assert await charged(action="image.generate") == 84
    assert await charged(model="video-standard") == 210


async def test_r34_r49_the_account_tells_its_renewal_and_support_gets_sentences(
    shop: Shop,
) -> None:
    ana = await shop.customer("2026-01-15 10:00", plan="starter")
    shown = await shop.accounts.get_account(pb.GetAccountRequest(account_id=ana.account_id))
    assert isinstance(shown, pb.GetAccountResponse)
    renewals = {item.bucket_id: item.at.ToMilliseconds() for item in shown.account.upcoming}
    assert renewals["monthly"] == ms("2026-02-15 10:00")
    await ana.charge("video.generate", "video-standard", 100)
    told = await shop.accounts.explain(pb.ExplainRequest(account_id=ana.account_id))
    assert isinstance(told, pb.ExplainResponse)
    assert told.account.subscription.plan_id == "starter"
    assert told.balance
    assert told.denial


async def test_r47_the_contract_lists_the_prices_in_force(shop: Shop) -> None:
    found = await shop.prices.list_prices(ListPricesRequest())
    assert isinstance(found, ListPricesResponse)
    assert found.catalog_version == shop.catalog.version
    assert len(found.prices) == len(list(shop.catalog.priced()))
