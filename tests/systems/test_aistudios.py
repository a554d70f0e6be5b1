"""S4, AI Studios: rules R70 to R89 as its catalog runs. The account is the workspace."""

import pytest

from creditgate.v1 import accounts_pb2 as pb
from creditgate_server.core.commands import Kind
from creditgate_server.core.faults import Fault, Reason
from creditgate_server.core.results import Decision
from creditgate_server.core.schedule import Coming, When
from tests.schedule.times import ms
from tests.systems.shop import Customer, Shop

CATALOG = "aistudios"


async def personal(shop: Shop, units: int = 0) -> Customer:
    """Somebody on the Personal plan, with so many units added."""
    kim = await shop.customer("2026-01-31 10:00", plan="personal")
    if units:
        await kim.add_ons("unit", units)
    return kim


async def test_r70_an_image_costs_one_credit(shop: Shop) -> None:
    kim = await personal(shop)
    assert await kim.spend("image.generate") == 1
    assert await kim.spend("image.generate", quantity=4) == 4


async def test_r71_a_video_costs_one_credit_a_second(shop: Shop) -> None:
    kim = await personal(shop)
    assert await kim.spend("video.generate", quantity=5) == 5
    assert await kim.spend("video.generate", quantity=10) == 10


async def test_r72_what_is_generated_again_is_charged_again(shop: Shop) -> None:
    kim = await personal(shop)
    for left in (50, 40, 30):
        await kim.spend("video.generate", quantity=10)
        assert list((await kim.left()).values()) == [left]


async def test_r73_premium_media_costs_credits_and_the_basic_model_is_free(shop: Shop) -> None:
    kim = await personal(shop)
    await kim.spend("image.generate", quantity=60)
    premium = await kim.charge("video.from-topic", "media-premium")
    assert premium.decision is Decision.INSUFFICIENT_CREDITS
    assert await kim.spend("video.from-topic", "media-basic") == 0
    without = await kim.charge("video.from-topic")
    assert without.decision is Decision.UNPRICED_ACTION, "neither is chosen by leaving it out"


@pytest.mark.parametrize("action", ["video.from-avatar", "speech.generate", "video.from-docs"])
async def test_r74_only_the_prompt_based_generators_use_credits(shop: Shop, action: str) -> None:
    kim = await shop.customer("2026-01-31 10:00")
    assert await kim.spend(action, quantity=500) == 0
    assert await kim.left() == {"base#0": 16}


@pytest.mark.parametrize(
    ("plan", "seats", "amount"),
    [("free", 1, 16), ("personal", 1, 60), ("team", 1, 150), ("team", 4, 600)],
)
async def test_r75_monthly_plans_give_so_much_and_the_team_plan_per_seat(
    shop: Shop, plan: str, seats: int, amount: int
) -> None:
    kim = await shop.customer("2026-01-31 10:00")
    if plan != "free":
        await kim.subscribe(plan, seats=seats)
    number = max(int(name.partition("#")[2]) for name in await kim.left())
    assert await kim.left() == {f"base#{number}": amount}
    assert list((await kim.at("2026-02-28 10:00")).values()) == [amount]


async def test_r75_an_enterprise_plan_gives_what_its_contract_says(shop: Shop) -> None:
    kim = await shop.customer("2026-01-31 10:00")
    await kim.subscribe("enterprise", allowances=(("base", 12_345),))
    assert list((await kim.left()).values()) == [12_345]
    assert list((await kim.at("2026-02-28 10:00")).values()) == [12_345]


@pytest.mark.parametrize(
    ("plan", "seats", "amount"), [("personal-annual", 1, 720), ("team-annual", 3, 5_400)]
)
async def test_r76_r77_annual_plans_are_given_upfront_and_refresh_on_the_annual_date(
    shop: Shop, plan: str, seats: int, amount: int
) -> None:
    kim = await shop.customer("2026-01-31 10:00")
    await kim.subscribe(plan, seats=seats)
    await kim.spend("image.generate", quantity=100)
    assert list((await kim.left()).values()) == [amount - 100]
    assert list((await kim.at("2026-03-31 10:00")).values()) == [amount - 100]
    assert list((await kim.at("2027-01-31 09:59:59.999")).values()) == [amount - 100]
    assert list((await kim.at("2027-01-31 10:00")).values()) == [amount]


async def test_r77_a_monthly_plan_refreshes_on_its_monthly_date(shop: Shop) -> None:
    kim = await personal(shop)
    for date in ("2026-02-28 10:00", "2026-03-31 10:00", "2026-04-30 10:00"):
        await kim.spend("image.generate", quantity=60)
        assert list((await kim.left()).values()) == [0]
        assert list((await kim.at(date)).values()) == [60]


async def test_r78_what_is_left_expires_at_the_end_of_the_cycle(shop: Shop) -> None:
    kim = await personal(shop)
    [before] = await kim.left()
    await kim.spend("image.generate", quantity=11)
    await kim.at("2026-02-28 10:00")
    old = await kim.bucket(before)
    assert (old.spent, old.expired, old.ended) == (11, 49, True)


async def test_r79_r85_add_on_credits_expire_with_the_base_credits(shop: Shop) -> None:
    kim = await personal(shop, units=2)
    await kim.spend("image.generate", quantity=70)
    assert (await kim.left())["unit#0"] == 110
    base, unit = (part for part in (await kim.balance()).buckets if not part.ended)
    assert base.ends_ms == unit.ends_ms == ms("2026-02-28 10:00")
    await kim.at("2026-02-28 10:00")
    assert (await kim.bucket("unit#0")).expired == 110
    assert (await kim.left())["unit#1"] == 120, "nothing rolled over"


async def test_r80_r84_units_are_added_at_any_time_and_count_at_once(shop: Shop) -> None:
    kim = await personal(shop)
    await kim.at("2026-02-14 23:00")
    await kim.add_ons("unit", 1)
    assert (await kim.left())["unit#0"] == 60
    await kim.add_ons("unit", 3)
    assert (await kim.left())["unit#0"] == 180
    assert (await kim.bucket("unit#0")).ends_ms == ms("2026-02-28 10:00")


async def test_r81_r89_a_unit_renews_with_the_main_cycle_until_it_is_cancelled(
    shop: Shop,
) -> None:
    kim = await personal(shop, units=1)
    for number, date in enumerate(("2026-02-28 10:00", "2026-03-31 10:00"), start=1):
        assert (await kim.at(date))[f"unit#{number}"] == 60
    await kim.add_ons("unit", 0)
    assert not [name for name in await kim.at("2026-04-30 10:00") if name.startswith("unit")]


async def test_r82_a_unit_of_the_personal_plan_is_60_credits_per_user(shop: Shop) -> None:
    kim = await shop.customer("2026-01-31 10:00")
    await kim.subscribe("personal", seats=2)
    await kim.add_ons("unit", 1)
    assert (await kim.left())["unit#0"] == 120


async def test_r83_a_unit_of_the_team_plan_is_200_credits_shared_by_the_workspace(
    shop: Shop,
) -> None:
    team = await shop.customer("2026-01-31 10:00")
    await team.subscribe("team", seats=5)
    await team.add_ons("unit", 1)
    assert (await team.left())["unit#0"] == 200
    for member in ("ana", "ben"):
        answer = await team.charge("video.generate", quantity=450, member=member)
        assert answer.decision is Decision.APPROVED
    assert (await team.left())["unit#0"] == 50


async def test_r85_add_ons_are_not_given_back_when_they_are_cancelled(shop: Shop) -> None:
    kim = await personal(shop, units=1)
    before = (await kim.balance()).totals.available
    await kim.add_ons("unit", 0)
    assert (await kim.balance()).totals.available == before
    assert shop.catalog.packs == ()


async def test_r86_cancelled_in_mid_plan_the_rest_stays_to_the_end_of_the_period(
    shop: Shop,
) -> None:
    kim = await personal(shop, units=1)
    await kim.at("2026-02-10")
    await kim.add_ons("unit", 0)
    assert (await kim.at("2026-02-28 09:59:59.999"))["unit#0"] == 60
    assert "unit#0" not in await kim.at("2026-02-28 10:00")
    assert "unit#1" not in await kim.left()


async def test_r87_add_ons_need_a_main_subscription_and_end_with_it(shop: Shop) -> None:
    free = await shop.customer("2026-01-31 10:00")
    with pytest.raises(Fault) as refused:
        await free.add_ons("unit", 1)
    assert refused.value.reason is Reason.NOT_SUBSCRIBED
    kim = await personal(shop, units=1)
    await kim.cancel(when=When.NOW)
    assert list((await kim.left()).values()) == [16]
    assert (await kim.bucket("unit#0")).expired == 60
    await kim.subscribe("personal")
    assert not [name for name in await kim.left() if name.startswith("unit")]


async def test_r88_the_scope_is_per_user_per_seat_or_a_shared_pool(shop: Shop) -> None:
    granted = {}
    for plan in ("personal", "team"):
        kim = await shop.customer("2026-01-31 10:00")
        await kim.subscribe(plan, seats=3)
        await kim.add_ons("unit", 1)
        buckets = (await kim.balance()).buckets
        granted[plan] = {part.kind: part.available for part in buckets if not part.ended}
    assert granted == {
        "personal": {Kind.SUBSCRIPTION: 60, Kind.ADD_ON: 180},
        "team": {Kind.SUBSCRIPTION: 450, Kind.ADD_ON: 200},
    }


async def test_r89_renewals_and_expiries_are_visible_before_they_come(shop: Shop) -> None:
    kim = await personal(shop, units=1)
    renewal = ms("2026-02-28 10:00")
    assert await kim.upcoming() == [(Coming.RESET, renewal), (Coming.RESET, renewal)]
    await kim.add_ons("unit", 0)
    assert await kim.upcoming() == [(Coming.RESET, renewal)]
    assert (await kim.bucket("unit#0")).ends_ms == renewal
    await kim.cancel()
    assert (Coming.SUBSCRIPTION_END, renewal) in await kim.upcoming()


async def test_r89_the_account_lists_what_renews_and_what_ends(shop: Shop) -> None:
    kim = await personal(shop, units=2)
    await kim.add_ons("unit", 0)
    shown = await shop.accounts.get_account(pb.GetAccountRequest(account_id=kim.account_id))
    assert isinstance(shown, pb.GetAccountResponse)
    listed = {item.bucket_id: pb.Upcoming.Event.Name(item.event) for item in shown.account.upcoming}
    assert listed == {"base": "EVENT_RESET", "unit": "EVENT_BUCKET_END"}
    [unit] = shown.account.add_ons
    assert (unit.units, unit.next_units) == (2, 0)
