"""What a change of catalog changes, for whom and from when on."""

import pytest

from creditgate_server.catalogs import reader
from creditgate_server.catalogs.diff import Change, Difference, Part, When, diff
from creditgate_server.core.catalog import Catalog
from tests.catalog.draft import whole

FILE = """
name = "draft"

[credit]
decimals = 2

[kinds]
free         = { rank = 1 }
subscription = { rank = 2 }
add_on       = { rank = 2 }
top_up       = { rank = 3 }

[models]
small = { price = 1, unit = "image", tier = "basic" }
large = { price = 10, unit = "image", tier = "pro" }

[models.video]
price = { flat = 2, rate = 1.5 }
unit  = "second"
tier  = "basic"

[models.video.settings.resolution]
default = "720p"
factors = { "720p" = 1, "1080p" = 1.5 }

[actions.draw]
title  = "Draw"
price  = "model"
models = ["small", "large"]

[actions.film]
title  = "Film"
price  = "model"
models = ["video"]

[actions.speak]
title = "Speak"
price = { rate = 1, per = 3, minimum = 1 }
unit  = "word"

[everyone.grants.daily]
kind   = "free"
amount = 5
every  = "day"

[plans.free]
title   = "Free"
default = true
tiers   = ["basic"]

[plans.pro]
title        = "Pro"
subscription = true

[plans.pro.grants.monthly]
kind   = "subscription"
amount = 1000
every  = "month"
per    = "seat"

[add_ons.unit]
title = "Unit"

[add_ons.unit.plans.pro]
amount = 60

[top_ups]
packs = [200, 800]
"""

# What is written otherwise, and all that is told of it.
CASES: list[tuple[str, str, str, list[str]]] = [
    ("a_title", 'title        = "Pro"', 'title = "Professional"', []),
    ("a_unit", "decimals = 2", 'decimals = 2\nunit = "token"', ["a credit is called token instead of credit"]),
    # Prices.
    ("a_price_up", "small = { price = 1,", "small = { price = 1.25,", ["draw with small: 1 per image → 1.25 per image (up)"]),
    ("a_price_down", "large = { price = 10,", "large = { price = 9,", ["draw with large: 10 per image → 9 per image (down)"]),
    ("a_price_for_nothing", "large = { price = 10,", "large = { price = 0,", ["draw with large: 10 per image → 0 per image (down)"]),
    ("a_flat_fee", "flat = 2,", "flat = 3,", ["film with video: 2 flat and 1.5 per second → 3 flat and 1.5 per second (up)"]),
    ("a_fee_up_and_a_rate_down", "flat = 2, rate = 1.5", "flat = 3, rate = 1", ["film with video: 2 flat and 1.5 per second → 3 flat and 1 per second"]),
    ("a_minimum", "minimum = 1 }", "minimum = 2 }", ["speak: 1/3 per word, at least 1 → 1/3 per word, at least 2 (up)"]),
    ("a_rounding", "minimum = 1 }", 'minimum = 1, rounding = "half_up" }', ["speak: rounded up → half up"]),
    ("another_unit", 'unit  = "word"', 'unit  = "letter"', ["speak: 1/3 per word, at least 1 → 1/3 per letter, at least 1"]),
    ("a_factor_up", '"1080p" = 1.5', '"1080p" = 2', ["film with video, resolution=1080p: times 1.5 → times 2 (up)"]),
    ("a_factor_down", '"1080p" = 1.5', '"1080p" = 1.2', ["film with video, resolution=1080p: times 1.5 → times 1.2 (down)"]),
    ("a_value_more", '"1080p" = 1.5', '"1080p" = 1.5, "4k" = 3', ["film with video, resolution=4k: new, times 3"]),
    ("a_value_less", ', "1080p" = 1.5', "", ["film with video, resolution=1080p: has no price any more, and is denied"]),
    ("another_default", 'default = "720p"', 'default = "1080p"', ["film with video: where a job says no resolution: 720p → 1080p"]),
    ("no_default", 'default = "720p"', "", ["film with video: where a job says no resolution: 720p → denied"]),
    ("no_setting", '[models.video.settings.resolution]\ndefault = "720p"\nfactors = { "720p" = 1, "1080p" = 1.5 }', "", ["film with video: resolution does not count any more"]),
    ("a_setting", '[actions.speak]\n', '[actions.speak]\nsettings.voice.factors = { plain = 1 }\n', ["speak: voice counts, a job must say it", "speak, voice=plain: new, times 1"]),
    ("a_setting_with_a_default", '[actions.speak]\n', '[actions.speak]\nsettings.voice = { default = "plain", factors = { plain = 1 } }\n', ["speak: voice counts, it is plain where a job does not say", "speak, voice=plain: new, times 1"]),
    # Actions and models.
    ("an_action_more", "[everyone", '[actions.hum]\ntitle = "Hum"\nprice = 0.5\nunit = "song"\n[everyone', ["hum: new, 0.5 per song"]),
    ("an_action_less", '[actions.film]\ntitle  = "Film"\nprice  = "model"\nmodels = ["video"]', "", ["film: gone; new jobs are denied as UNPRICED_ACTION, open ones finish"]),
    ("a_model_less", '["small", "large"]', '["small"]', ["draw with large: has no price any more, and is denied; it was 10 per image"]),
    ("a_model_more", '["small", "large"]', '["small", "large", "video"]', ["draw with video: new, 2 flat and 1.5 per second"]),
    ("a_model_with_a_price_of_its_own", 'minimum = 1 }', 'minimum = 1 }\nmodels.deep = 2', ["speak with deep: 1/3 per word, at least 1 → 2 per word"]),
    # Gates.
    ("a_model_gated", 'tier = "basic" }', 'tier = "pro" }', ["plan free: can no longer run draw"]),
    ("a_model_opened", 'tier = "pro" }', 'tier = "basic" }', ["plan free: can run draw with large"]),
    ("an_action_gated", 'tiers   = ["basic"]', 'tiers = ["basic"]\nactions = ["draw", "film"]', ["plan free: can no longer run speak"]),
    ("fewer_jobs_at_once", 'tiers   = ["basic"]', 'tiers = ["basic"]\nopen_holds_max = 2', ["plan free: jobs at once: any number → 2 (down)"]),
    # Plans.
    ("a_plan_more", "[add_ons.unit]", '[plans.max]\ntitle = "Max"\nsubscription = true\ngrants.monthly = { kind = "subscription", amount = 5_000, every = "month" }\n[add_ons.unit]', ["plan max: new", "plan max, monthly: new, 5,000 a month, at once", "plan max, daily: new, 5 a day, at once"]),
    ("a_bill", 'title        = "Pro"', 'title = "Pro"\nbilling = "year"', ["plan pro, billing: month → year", "add-on unit, a unit in plan pro: 60 a month (on lapse expire) → 60 a year (on lapse expire), from the next period on"]),
    ("the_upgrade", "[add_ons.unit]", '[upgrades]\ngives = "restart"\n[add_ons.unit]', ["plans, upgrades: difference → restart"]),
    ("the_share_of_seats", "[add_ons.unit]", '[seats]\nshare = "prorated"\n[add_ons.unit]', ["plans, seats: full → prorated"]),
    # Allowances.
    ("an_allowance_up", "amount = 1000", "amount = 1200", ["plan pro, monthly: 1,000 for each seat a month → 1,200 for each seat a month (up), from the next period on"]),
    ("an_allowance_down", "amount = 1000", "amount = 999.99", ["plan pro, monthly: 1,000 for each seat a month → 999.99 for each seat a month (down), from the next period on"]),
    ("an_allowance_by_contract", "amount = 1000", 'amount = "contract"', ["plan pro, monthly: 1,000 for each seat a month → as contracted for each seat a month, from the next period on"]),
    ("an_allowance_of_all", "amount = 5\n", "amount = 4\n", ["plan free, daily: 5 a day → 4 a day (down), from the next period on", "plan pro, daily: 5 a day → 4 a day (down), from the next period on"]),
    ("an_allowance_of_another_interval", 'every  = "day"', 'every  = "week"', ["plan free, daily: 5 a day → 5 a week, from the next period on", "plan pro, daily: 5 a day → 5 a week, from the next period on"]),
    ("not_for_each_seat", 'per    = "seat"', 'per    = "account"', ["plan pro, monthly: 1,000 for each seat a month → 1,000 a month, from the next period on"]),
    ("a_rollover", 'per    = "seat"', 'per    = "seat"\nrollover = 50', ["plan pro, monthly: 1,000 for each seat a month → 1,000 for each seat a month and up to 50 of what was left, from the next period on"]),
    ("a_grant_for_one_action", 'per    = "seat"', 'per    = "seat"\nactions = ["draw"]', ["plan pro, monthly: 1,000 for each seat a month → 1,000 for each seat a month for draw, from the next period on"]),
    ("a_grant_of_another_kind", 'kind   = "free"', 'kind   = "top_up"', ["plan free, daily: 5 a day, free → 5 a day, top_up, from the next period on", "plan pro, daily: 5 a day, free → 5 a day, top_up, from the next period on"]),
    ("another_end", 'per    = "seat"', 'per    = "seat"\non_lapse = "keep"', ["plan pro, monthly, on_lapse: expire → keep"]),
    ("a_grant_less", '[everyone.grants.daily]\nkind   = "free"\namount = 5\nevery  = "day"', "", ["plan free, daily: gone, it was 5 a day, from the next period on", "plan pro, daily: gone, it was 5 a day, from the next period on"]),
    # Add-ons, top-ups, order, holds, returns.
    ("a_unit_up", "amount = 60", "amount = 80", ["add-on unit, a unit in plan pro: 60 a month (on lapse expire) → 80 a month (on lapse expire), from the next period on"]),
    ("an_add_on_less", '[add_ons.unit]\ntitle = "Unit"\n\n[add_ons.unit.plans.pro]\namount = 60', "", ["add-on unit, a unit in plan pro: 60 a month (on lapse expire) → none, from the next period on"]),
    ("packs", "[200, 800]", "[200, 1000.5]", ["pack of 800: gone", "pack of 1,000.5: new"]),
    ("buyers", "packs = [200, 800]", 'packs = [200, 800]\nbuyers = "subscribers"', ["top-ups, buyers: anyone → subscribers"]),
    ("what_becomes_of_top_ups", "packs = [200, 800]", 'packs = [200, 800]\non_lapse = "freeze"', ["top-ups, on_lapse: keep → freeze"]),
    ("a_rank", "add_on       = { rank = 2 }", "add_on = { rank = 1 }", ["kind add_on: rank 2 → rank 1, at once for every bucket of it"]),
    ("a_kind_more", "top_up       = { rank = 3 }", "top_up = { rank = 3 }\nreferral = { rank = 9 }", ["kind referral: not listed, drawn last → rank 9, at once for every bucket of it"]),
    ("a_ttl_of_one_action", "[actions.speak]\n", '[actions.speak]\nhold.ttl = "5 min"\n', ["speak, ttl: 10 min → 5 min"]),
    ("quotes", "[top_ups]", '[quotes]\nbinds = "1 h"\n[top_ups]', ["quotes, binds: 15 min → 1 h"]),
    ("returns", "[top_ups]", '[returns]\nfailed = "forfeit"\n[top_ups]', ["returns, failed: compensate → forfeit"]),
]  # fmt: skip


def told(old: str, new: str) -> list[Difference]:
    return diff(whole(old), whole(new))


@pytest.mark.parametrize(
    ("old", "new", "lines"), [pytest.param(*row, id=name) for name, *row in CASES]
)
def test_a_change_is_told_in_words(old: str, new: str, lines: list[str]) -> None:
    assert FILE.count(old) >= 1
    assert list(map(str, told(FILE, FILE.replace(old, new, 1)))) == lines


@pytest.mark.parametrize(("old", "new"), [pytest.param(row[1], row[2], id=row[0]) for row in CASES])
def test_a_change_that_is_undone_is_told_as_often(old: str, new: str) -> None:
    """Whatever is said of a change has its counterpart: added and removed, up and down."""
    there, back = told(FILE, FILE.replace(old, new, 1)), told(FILE.replace(old, new, 1), FILE)
    assert bool(there) == bool(back)
    opposite = {
        Change.ADDED: Change.REMOVED,
        Change.REMOVED: Change.ADDED,
        Change.RAISED: Change.LOWERED,
        Change.LOWERED: Change.RAISED,
        Change.CHANGED: Change.CHANGED,
    }
    assert {each.change for each in back} == {opposite[each.change] for each in there}


def test_another_number_of_decimals_is_told_first() -> None:
    first, *_ = told(FILE, FILE.replace("decimals = 2", "decimals = 3"))
    assert (first.part, first.name, first.old, first.new) == (Part.CREDIT, "decimals", "2", "3")
    assert first.text.startswith("1 credit is 10^3 units instead of 10^2: ")


def test_a_plan_that_goes_is_told_to_those_on_it() -> None:
    pro = FILE[FILE.index("[plans.pro]") : FILE.index("[top_ups]")]
    for old, new, change in [
        (FILE, FILE.replace(pro, ""), Change.REMOVED),
        (FILE.replace(pro, ""), FILE, Change.ADDED),
    ]:
        found = [
            each
            for each in told(old.replace("tiers ", "#"), new.replace("tiers ", "#"))
            if each.part is Part.PLAN
        ]
        assert [(each.plan, each.change) for each in found] == [("pro", change)]


def test_the_first_plans_gate_what_everybody_ran() -> None:
    without = FILE[: FILE.index("[everyone")] + "[top_ups]\npacks = [200, 800]\n"
    lines = list(map(str, told(without, FILE)))
    assert "plan free: can no longer run draw with large" in lines
    assert "plans, default: none → free" in lines
    assert not any(line.startswith("plan pro: can") for line in lines)


def test_an_order_of_plans_is_told() -> None:
    more = FILE + '[plans.max]\ntitle = "Max"\n[plans.mini]\ntitle = "Mini"\n'
    other = FILE + '[plans.mini]\ntitle = "Mini"\n[plans.max]\ntitle = "Max"\n'
    [found] = told(more, other)
    assert (found.part, found.name) == (Part.PLAN, "order")
    assert (found.old, found.new) == ("free, pro, max, mini", "free, pro, mini, max")


def test_a_difference_names_what_it_is_about() -> None:
    text = "film with video, resolution=1080p: times 1.5 → times 2 (up)"
    assert told(FILE, FILE.replace('"1080p" = 1.5', '"1080p" = 2')) == [
        Difference(
            part=Part.PRICE,
            change=Change.RAISED,
            when=When.AT_ONCE,
            action="film",
            model="video",
            name="resolution=1080p",
            old="1.5",
            new="2",
            text=text,
        )
    ]
    [allowance] = told(FILE, FILE.replace("amount = 1000", "amount = 1200"))
    assert (allowance.when, allowance.plan, allowance.name) == (When.NEXT_PERIOD, "pro", "monthly")
    [rule] = told(FILE, FILE.replace("[actions.speak]\n", '[actions.speak]\nhold.ttl = "5 min"\n'))
    assert (rule.part, rule.action, rule.plan) == (Part.HOLD, "speak", "")


def test_parts_are_told_in_their_order() -> None:
    found = diff(reader.load("imagineart-2024"), reader.load("imagineart"))
    order = [list(Part).index(each.part) for each in found]
    assert order == sorted(order)


def test_what_imagineart_changed_is_told() -> None:
    """R31 and R51, R32."""
    lines = list(map(str, diff(reader.load("imagineart-2024"), reader.load("imagineart"))))
    for line in (
        "plan free, daily: 50 a day → 100 a day (up), from the next period on",
        "plan starter, daily: 50 a day → 100 a day (up), from the next period on",
        "plan free: can no longer run image.generate with image-pro",
        "music.generate: gone; new jobs are denied as UNPRICED_ACTION, open ones finish",
        "kind referral: rank 3 → not listed, drawn last, at once for every bucket of it",
    ):
        assert line in lines


@pytest.mark.parametrize("name", reader.shipped())
def test_a_catalog_does_not_differ_from_itself(name: str) -> None:
    shipped: Catalog = reader.load(name)
    assert diff(shipped, reader.load(name)) == []
