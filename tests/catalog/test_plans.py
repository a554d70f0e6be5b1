"""Plans in a catalog: what the file says, who may run what, and what a month costs."""

from itertools import product

import pytest

from creditgate_server.catalogs import reader
from creditgate_server.core.calendar import Every
from creditgate_server.core.catalog import Catalog
from creditgate_server.core.commands import Job
from creditgate_server.core.faults import Fault, Reason
from creditgate_server.core.plans import (
    AddOn,
    Buyers,
    OnLapse,
    Plan,
    Plans,
    RecurringGrant,
    SeatShare,
    Upgrade,
)
from creditgate_server.core.prices import AMOUNT_MAX
from tests.catalog.draft import catalog

FILE = """
[credit]
decimals = 1

[kinds]
free         = { rank = 1 }
subscription = { rank = 2 }
add_on       = { rank = 3 }
promotional  = { rank = 4 }

[models]
small = { price = 1, unit = "image", tier = "basic" }
alias = { same_as = "small" }
large = { price = 10, unit = "image", tier = "pro" }
trial = { same_as = "large", tier = "basic" }

[actions.draw]
title = "Draw"
price = "model"

[actions.film]
title = "Film"
price = 40
unit  = "second"

[actions.prompt]
title = "Prompt"
price = 0
unit  = "prompt"

[everyone.grants.daily]
kind   = "free"
amount = 2
every  = "day"

[plans.free]
title          = "Free"
default        = true
actions        = ["draw", "prompt"]
tiers          = ["basic"]
open_holds_max = 1

[plans.plus]
title        = "Plus"
subscription = true
models       = ["large"]
tiers        = ["basic"]

[plans.plus.grants.monthly]
kind   = "subscription"
amount = 100
every  = "month"

[plans.team]
title          = "Team"
subscription   = true
billing        = "year"
open_holds_max = 8

[plans.team.grants.monthly]
kind     = "subscription"
amount   = 150.5
every    = "month"
per      = "seat"
rollover = 20
on_lapse = "run_to_period_end"

[plans.team.grants.films]
kind    = "promotional"
amount  = 1200
every   = "year"
actions = ["film"]

[plans.company]
title        = "Company"
subscription = true

[plans.company.grants.monthly]
kind   = "subscription"
amount = "contract"
every  = "month"

[add_ons.unit]
title    = "A unit"
on_lapse = "freeze"

[add_ons.unit.plans]
plus = { amount = 60 }
team = { amount = 200, every = "month", per = "seat" }

[top_ups]
buyers   = "subscribers"
on_lapse = "freeze"

[upgrades]
gives = "restart"

[seats]
share = "prorated"

[quotes]
binds = "90 s"
"""
DAILY = RecurringGrant(name="daily", kind="F", amount=20, every=Every.DAY)
MONTHLY = RecurringGrant(name="monthly", kind="S", amount=1000, every=Every.MONTH)


@pytest.fixture(scope="module")
def shop() -> Catalog:
    return catalog(FILE)


def job(action: str, model: str = "", quantity: int = 1) -> Job:
    return Job(action=action, model=model, quantity=quantity)


def test_plans_say_what_the_file_says(shop: Catalog) -> None:
    assert shop.plans == Plans(
        plans=(
            Plan(
                name="free",
                title="Free",
                subscription=False,
                grants=(DAILY,),
                actions=frozenset({"draw", "prompt"}),
                models=frozenset({"small", "alias", "trial"}),
                open_holds_max=1,
            ),
            Plan(
                name="plus",
                title="Plus",
                subscription=True,
                grants=(MONTHLY, DAILY),
                models=frozenset({"small", "alias", "trial", "large"}),
            ),
            Plan(
                name="team",
                title="Team",
                subscription=True,
                billing=Every.YEAR,
                grants=(
                    RecurringGrant(
                        name="monthly",
                        kind="S",
                        amount=1505,
                        every=Every.MONTH,
                        per_seat=True,
                        rollover_max=200,
                        on_lapse=OnLapse.RUN_TO_PERIOD_END,
                    ),
                    RecurringGrant(
                        name="films",
                        kind="P",
                        amount=12_000,
                        every=Every.YEAR,
                        actions=("film",),
                    ),
                    DAILY,
                ),
                open_holds_max=8,
            ),
            Plan(
                name="company",
                title="Company",
                subscription=True,
                grants=(
                    # By contract: the catalog grants nothing.
                    RecurringGrant(name="monthly", kind="S", amount=0, every=Every.MONTH),
                    DAILY,
                ),
            ),
        ),
        default="free",
        add_ons=(
            AddOn(
                name="unit",
                title="A unit",
                amounts={"plus": 600, "team": 2000},
                # R81: with the plan's bill, unless it says otherwise.
                every={"plus": Every.MONTH, "team": Every.MONTH},
                per_seat=frozenset({"team"}),
                on_lapse=OnLapse.FREEZE,
            ),
        ),
        upgrade=Upgrade.RESTART,
        seat_share=SeatShare.PRORATED,
        buyers=Buyers.SUBSCRIBERS,
        top_up_on_lapse=OnLapse.FREEZE,
    )
    assert shop.rules.plans is shop.plans
    assert shop.quote_ms == 90_000


def test_an_add_on_renews_with_the_plans_bill() -> None:
    """R81, R84."""
    yearly = catalog(FILE.replace(', every = "month", per = "seat"', ""))
    assert yearly.plans.add_ons[0].every == {"plus": Every.MONTH, "team": Every.YEAR}


def test_a_file_without_plans_has_none_and_allows_everything() -> None:
    plain = catalog("")
    assert plain.plans == Plans()
    assert plain.quote_ms == 15 * 60_000
    terms = plain.terms(job("prompt"))
    assert terms is not None
    assert terms.gate == "*"
    assert plain.plans_that_allow(job("prompt"), above="") == ()
    assert plain.forecast([(job("prompt"), 1)]).plans == ()


def test_a_model_has_the_tier_of_the_one_it_is_priced_like(shop: Catalog) -> None:
    assert shop.tiers == {"small": "basic", "alias": "basic", "large": "pro", "trial": "basic"}


WITHIN = [
    ("64_letters", f"[plans.free.grants.{'a' * 64}]", "amount = 1"),
    ("the_smallest_amount", "[plans.free.grants.a]", "amount = 0.1"),
    ("the_largest_amount", "[plans.free.grants.a]", "amount = 900_719_925_474_099.1"),
    ("no_rollover_in_a_figure", "[plans.free.grants.a]", "amount = 1\nrollover = 0"),
]


@pytest.mark.parametrize(("head", "amount"), [pytest.param(*row, id=n) for n, *row in WITHIN])
def test_a_grant_just_within_bounds_is_read(head: str, amount: str) -> None:
    section = f'{FILE}\n{head}\nkind = "free"\nevery = "week"\n{amount}'
    grant = catalog(section).plans.by_name["free"].grants[0]
    assert 1 <= grant.amount <= AMOUNT_MAX
    assert grant.rollover_max == 0


def test_an_add_on_may_have_a_name_of_64_letters() -> None:
    named = catalog(FILE.replace("add_ons.unit", f"add_ons.{'a' * 64}"))
    assert named.plans.add_ons[0].name == "a" * 64


# Gates.

PAID = "plus/0,team/8,company/0,"
GATES = [
    ("a_model_of_every_plan", job("draw", "small"), f",free/1,{PAID}"),
    ("a_pro_model", job("draw", "large"), f",{PAID}"),
    ("a_pro_model_with_a_tier_of_its_own", job("draw", "trial"), f",free/1,{PAID}"),
    ("an_action_of_paid_plans", job("film"), f",{PAID}"),
    ("an_action_that_costs_nothing", job("prompt"), f",free/1,{PAID}"),
    ("a_model_that_is_not_named", job("film", "unheard-of"), ",team/8,company/0,"),
    ("another_one", job("film", "*"), ",team/8,company/0,"),
]


@pytest.mark.parametrize(("asked", "gate"), [pytest.param(*row, id=name) for name, *row in GATES])
def test_a_gate_names_each_plan_that_allows_the_job_and_how_many_at_once(
    shop: Catalog, asked: Job, gate: str
) -> None:
    terms = shop.terms(asked)
    assert terms is not None
    assert terms.gate == gate


@pytest.mark.parametrize("name", reader.shipped())
def test_gates_agree_with_plans(name: str) -> None:
    shipped = reader.load(name)
    for action, model in product(shipped.actions, ["", "unheard-of", *shipped.tiers]):
        terms = shipped.terms(job(action.name, model))
        if terms is not None:
            for plan in shipped.plans.plans:
                listed = terms.gate == "*" or f",{plan.name}/" in terms.gate
                assert listed == plan.allows(action.name, model)


def test_every_plan_is_any_plan_unless_one_has_a_limit() -> None:
    plans = '[plans.a]\ntitle = "A"\ndefault = true\n[plans.b]\ntitle = "B"\n'
    for section, gate in [(plans, "*"), (f"{plans}open_holds_max = 3", ",a/0,b/3,")]:
        terms = catalog(section).terms(job("prompt"))
        assert terms is not None
        assert terms.gate == gate


def test_strange_models_do_not_fill_the_memory() -> None:
    fresh = catalog(FILE)
    for number in range(100):
        assert fresh.terms(job("film", f"strange-{number}")) is not None
    assert len(fresh._gates) == 1


DENIALS = [
    ("R32_a_gated_model", job("draw", "large"), "free", "PLAN_REQUIRED"),
    ("an_action_that_the_plan_lacks", job("film"), "free", "ACTION_NOT_IN_PLAN"),
    ("that_action_with_a_gated_model", job("film", "large"), "free", "ACTION_NOT_IN_PLAN"),
    ("a_model_that_is_not_named", job("film", "unheard-of"), "plus", "PLAN_REQUIRED"),
    ("a_plan_that_is_gone", job("film"), "gone", "PLAN_REQUIRED"),
]


@pytest.mark.parametrize(
    ("asked", "plan", "reason"), [pytest.param(*row, id=name) for name, *row in DENIALS]
)
def test_a_denial_tells_a_gated_model_from_a_missing_action(
    shop: Catalog, asked: Job, plan: str, reason: str
) -> None:
    assert shop.denial_of(asked, plan) == reason


# Upgrades. `restart` gives the whole allowance; `difference` what it has more than the plan before.

ABOVE = ["plus", "team", "company"]
UPGRADES = [
    ("any_plan_above", "restart", job("draw", "small"), 0, "free", ABOVE),
    ("those_with_the_model", "restart", job("draw", "large"), 0, "free", ABOVE),
    ("those_with_any_model", "restart", job("film", "unheard-of"), 0, "free", ["team", "company"]),
    ("only_above", "restart", job("draw", "small"), 0, "plus", ["team", "company"]),
    ("none_above_the_last", "restart", job("draw", "small"), 0, "company", []),
    ("all_above_one_that_is_gone", "restart", job("prompt"), 0, "gone", ["free", *ABOVE]),
    ("a_whole_allowance_suffices", "restart", job("draw", "small"), 1020, "free", ["plus", "team"]),
    ("one_unit_too_many", "restart", job("draw", "small"), 1021, "free", ["team"]),
    ("restricted_credits_pay_their_action", "restart", job("film"), 13_525, "free", ["team"]),
    ("restricted_credits_do_not_suffice", "restart", job("film"), 13_526, "free", []),
    ("restricted_credits_pay_no_other", "restart", job("draw", "small"), 1526, "free", []),
    ("what_is_new_suffices", "difference", job("draw", "small"), 1000, "free", ["plus", "team"]),
    ("what_all_have_is_not_new", "difference", job("draw", "small"), 1001, "free", ["team"]),
    ("the_difference_suffices", "difference", job("draw", "small"), 505, "plus", ["team"]),
    ("one_more_than_the_difference", "difference", job("draw", "small"), 506, "plus", []),
]


@pytest.mark.parametrize(
    ("gives", "asked", "missing", "above", "plans"),
    [pytest.param(*row, id=name) for name, *row in UPGRADES],
)
def test_an_upgrade_is_named_where_it_helps(
    gives: str, asked: Job, missing: int, above: str, plans: list[str]
) -> None:
    """R44."""
    shop = catalog(FILE.replace('gives = "restart"', f'gives = "{gives}"'))
    assert list(shop.plans_that_allow(asked, missing, above=above)) == plans


def test_a_bucket_of_another_interval_is_given_in_full() -> None:
    """R76: monthly to yearly is another bucket, although of the same name."""
    studios = reader.load("aistudios")
    image = job("image.generate")
    for missing, plans in [(720, ["personal-annual", "team-annual"]), (721, ["team-annual"])]:
        assert list(studios.plans_that_allow(image, missing, above="personal")) == plans


# Forecasts.


def test_a_forecast_is_the_worked_example_of_the_page() -> None:
    """R41, R42, R43."""
    found = reader.load("imagineart").forecast(
        [
            (job("image.generate", "image-standard"), 30 * 22),
            (job("video.generate", "video-standard"), 10 * 22),
        ]
    )
    assert (found.prices, found.amount, found.buffer) == ((24, 210), 62_040, 15_510)
    assert found.plans == ("creator", "creator-quarterly", "creator-yearly", "studio")


BUFFERS = [(0, 0), (1, 1), (20, 7), (25, 9), (30, 10), (100, 33)]


@pytest.mark.parametrize(("percent", "buffer"), BUFFERS)
def test_a_buffer_is_rounded_up(percent: int, buffer: int) -> None:
    found = catalog("").forecast([(job("prompt", quantity=11), 3)], buffer_percent=percent)
    assert (found.prices, found.amount, found.buffer) == ((11,), 33, buffer)


COVERED = [
    ("plus_to_the_last_unit", [("draw", "small", 100)], ["plus", "team"]),
    ("one_image_more", [("draw", "small", 101)], ["team"]),
    ("team_to_the_last_image", [("draw", "small", 150)], ["team"]),
    ("more_than_any", [("draw", "small", 151)], []),
    ("a_months_part_of_a_year", [("film", "", 6)], ["team"]),
    ("credits_for_some_jobs_do_not_count", [("film", "", 3), ("draw", "small", 31)], []),
    ("every_job_must_be_allowed", [("film", "unheard-of", 1)], ["team"]),
    ("what_costs_nothing", [("prompt", "", 1000)], ["free", *ABOVE]),
    ("credits_of_a_day_do_not_count", [("draw", "small", 1)], ["plus", "team"]),
    ("nothing_planned", [], ["free", *ABOVE]),
]


@pytest.mark.parametrize(
    ("planned", "plans"), [pytest.param(*row, id=name) for name, *row in COVERED]
)
def test_a_forecast_names_the_plans_that_cover_it(
    shop: Catalog, planned: list[tuple[str, str, int]], plans: list[str]
) -> None:
    jobs = [(job(action, model), times) for action, model, times in planned]
    assert list(shop.forecast(jobs, buffer_percent=0).plans) == plans


def test_a_buffer_counts_for_what_a_plan_covers(shop: Catalog) -> None:
    jobs = [(job("draw", "small"), 80)]
    assert shop.forecast(jobs, buffer_percent=25).plans == ("plus", "team")
    assert shop.forecast(jobs, buffer_percent=26).plans == ("team",)


def test_a_forecast_with_a_job_without_price_says_which(shop: Catalog) -> None:
    with pytest.raises(Fault) as caught:
        shop.forecast([(job("prompt"), 1), (job("draw"), 1)])
    assert caught.value.reason is Reason.INVALID_FIELD
    assert caught.value.metadata == {"field": "planned[1].job"}


def test_a_forecast_past_every_amount_is_refused() -> None:
    dear = catalog('[actions.x]\ntitle = "X"\nprice = { flat = 9_007_199_254_740_991 }\nunit = "x"')
    assert dear.forecast([(job("x"), 1)], buffer_percent=0).amount == AMOUNT_MAX
    for times, percent in [(1, 1), (2, 0)]:
        with pytest.raises(Fault, match="planned: costs more than") as caught:
            dear.forecast([(job("x"), times)], buffer_percent=percent)
        assert caught.value.metadata == {"field": "planned"}
