"""What a job costs by a catalog, and how its hold lives."""

from decimal import Decimal
from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from creditgate_server.core.catalog import Catalog, PricedSetting, Tariff
from creditgate_server.core.commands import Job, Kind, LateSettle, Overage, ReturnPolicy
from creditgate_server.core.faults import Fault, Reason
from creditgate_server.core.prices import AMOUNT_MAX, Price
from tests.catalog.draft import catalog, whole

PLATFORM = """
[credit]
rounding = "up"

[models]
image-small = { price = 24, unit = "image" }
image-alias = { same_as = "image-small" }
speech      = { price = { rate = 1.5, per = 1000, minimum = 2 }, unit = "character" }

[models.video]
price = { flat = 3, rate = 1.5 }
unit  = "second"
[models.video.settings.resolution]
default = "720p"
factors = { "720p" = 1, "1080p" = 1.5, "4k" = 2.25 }
[models.video.settings.audio]
factors = { off = 1, on = 1.1 }

[actions.run]
title = "Run a model"
price = "model"

[actions.upscale]
title = "Upscale"
price = "model"
models = ["image-small"]
[actions.upscale.settings.factor]
default = "2x"
factors = { "2x" = 1, "4x" = 3, preview = 0 }

[actions.topic]
title  = "Topic to video"
models = { premium = 1, basic = 0 }
unit   = "image"

[actions.mixed]
title  = "Mixed"
price  = 5
models = { image-small = "model", gift = 0 }
unit   = "run"

[actions.discount]
title  = "Discount"
price  = "model"
models = { image-small = 20 }
unit   = "image"

[actions.enhance]
title = "Prompt enhancer"
price = 0
unit  = "prompt"

[actions.train]
title = "Train a model"
price = { flat = 500 }
unit  = "model"
[actions.train.hold]
ttl     = "2 h"
ttl_max = "7 d"
overage = "overdraft"
overdraft_limit = 50
late_settle = "reject"
"""


@pytest.fixture(scope="module")
def platform() -> Catalog:
    return catalog(PLATFORM)


def job(action: str, model: str = "", quantity: int = 1, **chosen: str) -> Job:
    return Job(
        action=action, model=model, quantity=quantity, settings=tuple(sorted(chosen.items()))
    )


PRICED = [
    # R28, R43: 660 images of 24 credits, and the model decides.
    ("one_image", job("run", "image-small"), 24),
    ("660_images", job("run", "image-small", 660), 15_840),
    ("a_model_priced_like_another", job("run", "image-alias", 2), 48),
    # A rate for 1,000 characters, the minimum and the rounding, once for the job.
    ("a_minimum_below_its_reach", job("run", "speech", 1_333), 2),
    ("a_minimum_just_passed", job("run", "speech", 1_334), 3),
    ("exactly_2000_characters", job("run", "speech", 2_000), 3),
    ("one_character_more", job("run", "speech", 2_001), 4),
    # R60: settings multiply the rate, not the flat fee.
    ("a_default_resolution", job("run", "video", 10, audio="off"), 18),
    ("a_higher_resolution", job("run", "video", 10, audio="off", resolution="1080p"), 26),
    ("two_settings", job("run", "video", 10, audio="on", resolution="4k"), 41),
    ("a_setting_without_effect", job("run", "image-small", 1, style="noir"), 24),
    ("the_actions_own_setting", job("upscale", "image-small", 1, factor="4x"), 72),
    ("a_factor_of_zero", job("upscale", "image-small", 1, factor="preview"), 0),
    # R73: a variant that costs nothing.
    ("premium_media", job("topic", "premium", 3), 3),
    ("basic_media", job("topic", "basic", 3), 0),
    ("any_other_model", job("mixed", "unheard-of"), 5),
    ("no_model", job("mixed"), 5),
    ("a_model_at_its_own_price", job("mixed", "image-small"), 24),
    ("a_gift", job("mixed", "gift"), 0),
    ("a_model_with_a_discount", job("discount", "image-small"), 20),
    ("a_model_without_a_discount", job("discount", "image-alias"), 24),
    # R10: free because it says so.
    ("a_free_action", job("enhance"), 0),
    ("a_free_action_with_a_model", job("enhance", "image-small"), 0),
    ("a_flat_price", job("train", "", 9), 500),
    ("nothing_delivered", job("train", "", 0), 0),
]


@pytest.mark.parametrize(
    ("asked", "amount"), [pytest.param(*row, id=name) for name, *row in PRICED]
)
def test_a_job_costs(platform: Catalog, asked: Job, amount: int) -> None:
    terms = platform.terms(asked)
    assert terms is not None
    assert terms.amount == amount
    assert terms.amount == terms.price.of(asked.quantity)
    assert terms.catalog_version == platform.version


UNPRICED = [
    ("an_unknown_action", job("dance")),
    ("an_action_in_other_letters", job("Enhance")),
    ("no_model_where_the_model_decides", job("run")),
    ("an_unknown_model", job("run", "image-large")),
    ("a_model_that_the_action_does_not_take", job("upscale", "image-alias")),
    ("a_model_without_a_price_there", job("topic", "image-small")),
    ("no_model_where_each_has_its_price", job("topic")),
    ("an_unknown_value", job("run", "video", audio="off", resolution="8k")),
    ("an_empty_value", job("run", "video", audio="off", resolution="")),
    ("a_missing_setting_without_default", job("run", "video", resolution="720p")),
    ("an_unknown_value_of_the_actions_setting", job("upscale", "image-small", factor="8x")),
]


@pytest.mark.parametrize("asked", [pytest.param(row, id=name) for name, row in UNPRICED])
def test_what_has_no_price_is_never_free(platform: Catalog, asked: Job) -> None:
    assert platform.terms(asked) is None


LARGEST = [
    ("{ flat = 1, rate = 9_000_000_000 }", 1_000_799),
    ("{ flat = 9_007_199_253_740_991, rate = 1 }", 1_000_000),
    ("{ rate = 899_999_999.7 }", 1_000_799),
]


@pytest.mark.parametrize(("price", "most"), LARGEST)
def test_a_quantity_too_large_for_its_price_is_the_jobs_fault(price: str, most: int) -> None:
    dear = catalog(f'[actions.x]\ntitle = "X"\nprice = {price}\nunit = "x"')
    terms = dear.terms(job("x", quantity=most))
    assert terms is not None
    assert terms.amount <= AMOUNT_MAX
    with pytest.raises(Fault, match=f"1 to {most} at this price") as caught:
        dear.terms(job("x", quantity=most + 1))
    assert caught.value.reason is Reason.INVALID_FIELD
    assert caught.value.metadata == {"field": "job.quantity"}


ROUNDINGS = [("up", [2, 3, 5, 6]), ("half_up", [2, 3, 5, 6]), ("down", [1, 3, 4, 6])]


@pytest.mark.parametrize(("rounding", "amounts"), ROUNDINGS)
def test_a_fraction_is_rounded_once_for_the_whole_job(rounding: str, amounts: list[int]) -> None:
    credit = f'[credit]\nrounding = "{rounding}"\n'
    halves = catalog(credit + '[actions.x]\ntitle = "X"\nprice = 1.5\nunit = "x"')
    priced = [halves.terms(job("x", quantity=quantity)) for quantity in range(1, 5)]
    assert [terms and terms.amount for terms in priced] == amounts


def test_a_price_may_round_in_its_own_way() -> None:
    price = 'price = { rate = 1.4, rounding = "half_up" }'
    own = catalog(f'[actions.x]\ntitle = "X"\n{price}\nunit = "x"')
    priced = [own.terms(job("x", quantity=quantity)) for quantity in (1, 2, 3)]
    assert [terms and terms.amount for terms in priced] == [1, 3, 4]


def test_a_hold_lives_by_the_catalogs_defaults_unless_its_action_says_else(
    platform: Catalog,
) -> None:
    usual, own = platform.terms(job("enhance")), platform.terms(job("train"))
    assert usual is not None
    assert (usual.ttl_ms, usual.life_ms_max) == (600_000, 86_400_000)
    assert (usual.overage, usual.late_settle) == (Overage.CAP, LateSettle.RECHARGE)
    assert own is not None
    assert (own.ttl_ms, own.life_ms_max) == (7_200_000, 604_800_000)
    assert (own.overage, own.overdraft_limit) == (Overage.OVERDRAFT, 50)
    assert own.late_settle is LateSettle.REJECT


def test_an_action_keeps_what_it_does_not_override() -> None:
    section = """
        [hold]
        ttl = "90 s"
        overage = "charge_available"
        [actions.x]
        title = "X"
        price = 1
        unit  = "x"
        hold.ttl_max = "1 h"
    """
    terms = catalog(section).terms(job("x"))
    assert terms is not None
    assert (terms.ttl_ms, terms.life_ms_max) == (90_000, 3_600_000)
    assert terms.overage is Overage.CHARGE_AVAILABLE


def test_figures_are_credits_and_amounts_are_units() -> None:
    section = """
        [credit]
        unit     = "Token"
        decimals = 2
        [top_ups]
        packs = [10, 2.5]
        [hold]
        overage = "overdraft"
        overdraft_limit = 0.25
        [actions.x]
        title = "X"
        price = { flat = 0.01, rate = 0.005, minimum = 0.05 }
        unit  = "x"
        [actions.y]
        title = "Y"
        price = 0.5
        unit  = "y"
    """
    tokens = catalog(section)
    assert (tokens.unit, tokens.decimals, tokens.packs) == ("Token", 2, (250, 1000))
    terms = tokens.terms(job("x", quantity=9))
    assert terms is not None
    assert terms.price == Price(flat=1, numerator=1, denominator=2, minimum=5, unit="x")
    assert (terms.amount, terms.overdraft_limit) == (6, 25)
    plain = tokens.terms(job("y", quantity=3))
    assert plain is not None
    assert plain.amount == 150


@pytest.mark.parametrize(
    ("missing", "pack"), [(1, 200), (200, 200), (201, 800), (1600, 1600), (1601, 0)]
)
def test_the_smallest_pack_that_suffices(missing: int, pack: int) -> None:
    packs = catalog("[top_ups]\npacks = [1600, 200, 1000, 800]")
    assert packs.packs == (200, 800, 1000, 1600)
    assert packs.smallest_pack(missing) == pack


def test_without_packs_none_suffices() -> None:
    assert catalog("").smallest_pack(1) == 0


ORDERS = [
    # R39: free, subscription, top-up. R63: the order is the operator's, whatever the reason given.
    (
        "free = { rank = 1 }\nsubscription = { rank = 2 }\ntop_up = { rank = 3 }",
        "1293990",
        [Kind.COMPENSATION, Kind.FREE, Kind.SUBSCRIPTION, Kind.TOP_UP],
    ),
    (
        "referral.rank = 4\npromotional.rank = 3\ntop_up.rank = 2\nsubscription.rank = 1",
        "9192340",
        [Kind.COMPENSATION, Kind.SUBSCRIPTION, Kind.TOP_UP, Kind.PROMOTIONAL, Kind.REFERRAL],
    ),
    # Equal ranks stand in the order of their numbers; compensation may have a rank like any other.
    (
        "compensation = { rank = 2 }\ntop_up = { rank = 2 }\nadd_on = { rank = 2 }",
        "9922992",
        [Kind.ADD_ON, Kind.TOP_UP, Kind.COMPENSATION],
    ),
]


@pytest.mark.parametrize(("kinds", "ranks", "order"), ORDERS)
def test_the_order_is_the_operators(kinds: str, ranks: str, order: list[Kind]) -> None:
    ordered = whole(
        f'name = "it"\n[kinds]\n{kinds}\n[actions.x]\ntitle = "X"\nprice = 0\nunit = "x"'
    )
    assert ordered.rules.ranks == ranks
    assert list(ordered.kinds) == order


def test_returns_follow_the_file() -> None:
    defaults = catalog("").rules
    assert defaults.on_failed is ReturnPolicy.COMPENSATE
    assert defaults.on_cancelled is ReturnPolicy.FORFEIT
    assert defaults.compensation_ms == 7 * 86_400_000
    section = (
        '[returns]\nfailed = "restore_capped"\ncancelled = "compensate"\ncompensation_days = 1'
    )
    own = catalog(section).rules
    assert own.on_failed is ReturnPolicy.RESTORE_CAPPED
    assert own.on_cancelled is ReturnPolicy.COMPENSATE
    assert own.compensation_ms == 86_400_000


def test_the_price_list_has_a_line_for_each_action_and_model(platform: Catalog) -> None:
    """R47."""
    lines = [(line.action, line.model, line.price.numerator) for line in platform.priced()]
    assert lines == [
        ("run", "image-small", 24),
        ("run", "image-alias", 24),
        ("run", "speech", 3),
        ("run", "video", 3),
        ("upscale", "image-small", 24),
        ("topic", "premium", 1),
        ("topic", "basic", 0),
        ("mixed", "image-small", 24),
        ("mixed", "gift", 0),
        ("mixed", "", 5),
        ("discount", "image-small", 20),
        ("discount", "image-alias", 24),
        ("discount", "speech", 3),
        ("discount", "video", 3),
        ("enhance", "", 0),
        ("train", "", 0),
    ]


def test_the_price_list_shows_the_price_of_the_default_settings() -> None:
    tariff = Tariff(
        rate=Fraction(2),
        unit="second",
        settings=(
            PricedSetting(name="a", default_value="y", factors={"x": Decimal(1), "y": Decimal(3)}),
            PricedSetting(name="b", factors={"x": Decimal(5)}),
        ),
    )
    assert tariff.base == Price(numerator=6, unit="second")


def test_the_price_list_of_one_action(platform: Catalog) -> None:
    [line] = platform.priced("train")
    assert (line.title, line.model, line.price.flat) == ("Train a model", "", 500)
    assert (line.ttl_ms, line.life_ms_max) == (7_200_000, 604_800_000)
    assert list(platform.priced("dance")) == []


def test_factors_read_as_plain_decimals(platform: Catalog) -> None:
    video = next(line for line in platform.priced("run") if line.model == "video")
    assert [(setting.name, setting.default_value) for setting in video.settings] == [
        ("resolution", "720p"),
        ("audio", ""),
    ]
    assert video.settings[0].factor_texts == {"720p": "1", "1080p": "1.5", "4k": "2.25"}
    hundred = PricedSetting(name="x", factors={"y": Decimal("1E+2"), "z": Decimal("1E-7")})
    assert hundred.factor_texts == {"y": "100", "z": "0.0000001"}


ROUND = {"up": ceil, "down": floor, "half_up": lambda exact: floor(exact + Fraction(1, 2))}


@settings(max_examples=100, deadline=None)
@given(
    rate=st.decimals(0, 300, places=3),
    factor=st.decimals(0, 9, places=2),
    per=st.sampled_from([1, 60, 1000]),
    quantity=st.integers(1, 5_000),
    rounding=st.sampled_from(sorted(ROUND)),
)
def test_a_price_is_exact(
    rate: Decimal, factor: Decimal, per: int, quantity: int, rounding: str
) -> None:
    section = f"""
        [actions.x]
        title = "X"
        price = {{ rate = {rate}, per = {per}, rounding = "{rounding}" }}
        unit  = "x"
        settings.s.factors = {{ v = {factor} }}
    """
    terms = catalog(section).terms(job("x", quantity=quantity, s="v"))
    assert terms is not None
    exact = Fraction(rate) * Fraction(factor) / per * quantity
    assert terms.amount == ROUND[rounding](exact)
