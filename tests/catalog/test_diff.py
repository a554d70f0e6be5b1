"""What a change of catalog changes, for whom and from when on."""

from pathlib import Path

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

_, *SECTIONS = (Path(__file__).parent / "differences.txt").read_text("utf-8").split("### ")


def marked(section: str, mark: str) -> list[str]:
    """The lines of a case behind a mark, without it."""
    return [line[2:] for line in section.splitlines() if line[:1] == mark]


def case(section: str) -> tuple[str, list[str]]:
    """The file as a case writes it, and what is told of that."""
    old, new = ("\n".join(marked(section, mark)) for mark in "-+")
    assert FILE.count(old) == 1
    return FILE.replace(old, new), marked(section, ">")


CASES = {section.partition("\n")[0]: case(section) for section in SECTIONS}


def told(old: str, new: str) -> list[Difference]:
    return diff(whole(old), whole(new))


@pytest.mark.parametrize("name", CASES)
def test_a_change_is_told_in_words(name: str) -> None:
    changed, lines = CASES[name]
    assert list(map(str, told(FILE, changed))) == lines


@pytest.mark.parametrize("name", CASES)
def test_a_change_that_is_undone_is_told_the_other_way(name: str) -> None:
    changed, _ = CASES[name]
    there, back = told(FILE, changed), told(changed, FILE)
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


def test_an_action_that_is_opened_is_told_as_a_whole() -> None:
    closed = FILE.replace('tiers   = ["basic"]', 'actions = ["draw", "film"]')
    opened = FILE.replace('tiers   = ["basic"]', "")
    assert list(map(str, told(closed, opened))) == ["plan free: can run speak"]
    assert list(map(str, told(opened, closed))) == ["plan free: can no longer run speak"]


def test_a_plan_that_becomes_a_subscription_is_told() -> None:
    plan = '[plans.max]\ntitle = "Max"\n'
    [found] = told(FILE + plan, FILE + plan + "subscription = true\nbilling = 'month'\n")[:1]
    assert str(found) == "plan max, subscription: no → yes"


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
