"""S2, ImagineArt as it was: rules R50 to R55 as its catalog runs, beside that of today."""

import pytest

from creditgate.v1.resources_pb2 import DECISION_APPROVED, DECISION_DENIED
from creditgate_server.catalogs.diff import diff
from creditgate_server.core.commands import Kind
from tests.systems.shop import Shop, catalog_of, drawn

CATALOG = "imagineart-2024"


@pytest.mark.parametrize(
    ("dearer", "cheaper"),
    [
        (("image.generate", "image-pro", 1), ("image.generate", "image-standard", 1)),  # the model
        (("image.generate", "image-standard", 1), ("image.upscale", "", 1)),  # the tool
        (("video.generate", "video-standard", 1), ("image.generate", "image-pro", 1)),  # the output
        (("image.generate", "image-pro", 2), ("image.generate", "image-pro", 1)),  # how many
    ],
)
async def test_r50_the_price_depends_on_model_tool_output_and_number(
    shop: Shop, dearer: tuple[str, str, int], cheaper: tuple[str, str, int]
) -> None:
    ana = await shop.customer("2024-06-01 10:00", plan="creator")
    assert await ana.spend(*dearer) > await ana.spend(*cheaper) > 0


@pytest.mark.parametrize("plan", ["", "starter"])
async def test_r51_every_account_got_50_free_credits_a_day_and_gets_100_today(
    shop: Shop, plan: str
) -> None:
    ana = await shop.customer("2024-06-01 10:00", plan=plan)
    await ana.spend("image.upscale")
    assert (await ana.left())["daily#0"] == 40
    shop.catalog = catalog_of("imagineart")  # The operator puts the page of today in force.
    assert (await ana.left())["daily#0"] == 40, "an allowance counts from the next period on"
    assert (await ana.at("2024-06-02"))["daily#1"] == 100
    said = [str(each) for each in diff(catalog_of(CATALOG), shop.catalog)]
    assert any("50" in each and "100" in each for each in said)


async def test_r52_credits_are_bought_on_the_go_and_added_to_a_subscription(shop: Shop) -> None:
    ana = await shop.customer("2024-06-01 10:00")
    assert (await ana.buy("payment-1", 5_000)).decision == DECISION_DENIED
    await ana.subscribe("starter")
    assert (await ana.buy("payment-2", 5_000)).decision == DECISION_APPROVED
    assert await ana.left() == {"daily#0": 50, "monthly#0": 15_000, "payment-2": 5_000}
    await ana.change_plan("creator")  # "Upgrade your subscription plan": the other remedy.
    assert (await ana.left())["monthly#0"] == 60_000


@pytest.mark.parametrize("studio", ["image", "video", "sketch", "music"])
def test_r53_each_studio_has_its_price_list(shop: Shop, studio: str) -> None:
    listed = [line for line in shop.catalog.priced() if line.action.startswith(f"{studio}.")]
    assert listed
    assert all(line.title and line.price.of(1) > 0 for line in listed)


async def test_r54_the_balance_and_its_parts_can_be_shown_at_any_moment(shop: Shop) -> None:
    ana = await shop.customer("2024-06-01 10:00", plan="starter")
    before = await ana.balance()
    assert before.totals.available == 15_050
    await ana.spend("music.generate", "music")
    assert await ana.left() == {"monthly#0": 14_970, "daily#0": 0}
    assert (await ana.balance()).totals.available == 14_970


async def test_r55_rewards_for_referrals_are_credits_of_their_own_kind(shop: Shop) -> None:
    ana = await shop.customer("2024-06-01 10:00")
    await ana.given("friend-1", Kind.REFERRAL, 25)
    assert (await ana.bucket("friend-1")).kind is Kind.REFERRAL
    assert drawn(await ana.charge("image.upscale", quantity=6)) == {"daily": 50, "friend-1": 10}
