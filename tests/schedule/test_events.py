"""What each event makes of a schedule, and what becomes of buckets when a plan is left."""

import dataclasses

import pytest

from creditgate_server.core import schedule as s
from creditgate_server.core.calendar import Every
from creditgate_server.core.plans import OnLapse, Plans, SeatShare, Upgrade
from creditgate_server.core.schedule import (
    Cancel,
    ChangePlan,
    Refused,
    SetAddOns,
    SetZone,
    Subscribe,
    When,
)
from tests.schedule.catalogs import IMAGINE, RECRAFT, STUDIOS, grant, lapsing, plan, without
from tests.schedule.life import Life
from tests.schedule.times import DAY_MS, ms

RESTART = dataclasses.replace(IMAGINE, upgrade=Upgrade.RESTART)
PRORATED = dataclasses.replace(STUDIOS, seat_share=SeatShare.PRORATED)


def subscribed(plans: Plans, to: str, at: str = "2026-01-10", seats: int = 1) -> Life:
    life = Life(plans, at)
    life.do(Subscribe(plan=to, seats=seats))
    return life


# Subscribe.


def test_an_anchor_in_the_past_begins_the_period_that_is_now() -> None:
    life = Life(RECRAFT, "2026-05-20")
    life.do(Subscribe(plan="basic", anchor_ms=ms("2026-01-31 10:00")))
    assert life.live == {"base#3": 1000}
    assert life.ends("base#3") == ms("2026-05-31 10:00")  # R34


def test_what_is_paid_on_goes_on_and_what_is_not_ends() -> None:
    life = Life(RECRAFT, "2026-01-10")
    life.do(Subscribe(plan="basic", paid_through_ms=ms("2026-02-10")))
    life.at("2026-02-09").do(Subscribe(plan="basic", paid_through_ms=ms("2026-03-10")))
    assert life.at("2026-03-09").live == {"base#1": 1000}
    assert life.at("2026-03-10").live == {"daily#1": 50}


def test_paying_on_undoes_a_cancellation_and_moves_no_anchor() -> None:
    life = subscribed(RECRAFT, "basic")
    life.at("2026-01-20").do(Cancel())
    assert life.schedule.lapses_ms == ms("2026-02-10")
    life.do(Subscribe(plan="basic"))
    assert life.at("2026-02-10").live == {"base#1": 1000}


def test_an_older_payment_moves_nothing_back() -> None:
    life = Life(RECRAFT, "2026-01-10")
    march = Subscribe(plan="basic", paid_through_ms=ms("2026-03-10"), occurred_ms=ms("2026-01-09"))
    earlier = ms("2026-01-08")
    life.do(march)
    february = Subscribe(plan="basic", paid_through_ms=ms("2026-02-10"), occurred_ms=earlier)
    assert not life.do(february)
    assert life.schedule.paid_through_ms == ms("2026-03-10")
    # Of the same time, so that their order is not known: the later end.
    assert life.do(dataclasses.replace(february, occurred_ms=march.occurred_ms))
    assert life.schedule.paid_through_ms == ms("2026-03-10")
    # A newer one may.
    assert life.do(dataclasses.replace(february, occurred_ms=life.now_ms))
    assert life.schedule.paid_through_ms == ms("2026-02-10")


def test_every_sort_of_event_is_put_in_order_and_none_occurs_in_the_future() -> None:
    life = Life(STUDIOS, "2026-01-10")
    life.do(Subscribe(plan="team", occurred_ms=ms("2026-02-01")))  # Their clock is ahead.
    assert life.schedule.occurred_ms == life.now_ms
    old = ms("2026-01-09")
    assert not life.do(Cancel(occurred_ms=old))
    assert not life.do(ChangePlan(seats=5, occurred_ms=old))
    assert not life.do(SetAddOns(name="units", units=5, occurred_ms=old))
    assert not life.do(Subscribe(plan="nothing", occurred_ms=old))
    assert life.live == {"base#1": 150}
    assert life.do(ChangePlan(seats=2))


def test_a_subscription_that_was_over_before_it_was_heard_of_begins_nothing() -> None:
    life = Life(RECRAFT, "2026-01-10")
    assert life.do(Subscribe(plan="basic", paid_through_ms=ms("2026-01-10")))
    assert (life.schedule.plan, life.live) == ("free", {"daily#0": 50})


@pytest.mark.parametrize(
    ("anchor", "ends"),
    [
        ("2026-01-20", "2026-03-20"),  # The ten days until 20 February make no period.
        ("2026-01-24", "2026-02-24"),  # Fourteen of 28 do.
        ("2026-01-23 23:59", "2026-03-23 23:59"),
        ("2026-01-28", "2026-02-28"),
        ("2026-01-10 00:00:05", "2026-03-10 00:00:05"),
        ("2026-01-09", "2026-03-09"),
    ],
)
def test_a_new_anchor_counts_from_the_end_of_the_period(anchor: str, ends: str) -> None:
    life = subscribed(RECRAFT, "basic")
    life.at("2026-01-30").do(Subscribe(plan="basic", anchor_ms=ms(anchor)))
    assert life.at("2026-02-09").live == {"base#0": 1000}
    assert life.at("2026-02-10").ends("base#1") == ms(ends)


def test_an_anchor_later_by_seconds_at_each_renewal_gives_one_allowance_a_month() -> None:
    life = subscribed(RECRAFT, "basic")
    for month in range(2, 12):
        paid = f"2026-{month:02}-10 00:00:{month:02}"
        life.at(paid).do(Subscribe(plan="basic", anchor_ms=ms(paid)))
    assert [row for row in life.rows if row.startswith("base")][-1] == "base#10"


def test_an_anchor_in_the_future_ends_a_first_period_that_is_half_of_one_or_more() -> None:
    for anchor, ends in (
        ("2026-01-10 00:00:02", "2026-02-10 00:00:02"),
        ("2026-01-31", "2026-01-31"),
    ):
        life = Life(RECRAFT, "2026-01-10")
        life.do(Subscribe(plan="basic", anchor_ms=ms(anchor)))
        assert life.ends("base#0") == ms(ends)


def test_row_names_never_come_again() -> None:
    life = subscribed(RECRAFT, "basic")
    for _ in range(3):
        life.at(life.now_ms + DAY_MS).do(Cancel(when=When.NOW))
        life.at(life.now_ms + DAY_MS).do(Subscribe(plan="basic"))
    assert life.live == {"base#3": 1000}  # `Life` fails where a row begins twice.


def test_subscribing_to_the_default_plan_is_to_have_no_subscription() -> None:
    life = Life(RECRAFT, "2026-01-10")
    life.do(Subscribe(plan="free"))
    assert life.live == {"daily#0": 50}
    life.do(Subscribe(plan="basic"))
    life.do(Subscribe(plan="free"))
    assert life.live == {"daily#1": 50}


# Upgrades, downgrades, seats.


def test_an_upgrade_adds_the_difference_and_leaves_the_anchor() -> None:
    life = subscribed(RECRAFT, "basic")
    life.spend("base#0", 900)
    life.at("2026-01-25").do(ChangePlan(plan="pro"))
    assert life.live == {"base#0": 3100}
    assert life.at("2026-02-10").live == {"base#1": 4000}


def test_an_upgrade_that_restarts_begins_a_period_and_moves_the_anchor() -> None:
    life = subscribed(RESTART, "basic")
    life.spend("base#0", 900)
    life.at("2026-01-25").do(ChangePlan(plan="ultimate"))
    assert life.live == {"daily#15": 100, "base#1": 60_000}
    assert life.ends("base#1") == ms("2026-02-25")


def test_a_plan_billed_otherwise_begins_anew_at_once() -> None:
    life = subscribed(STUDIOS, "personal")
    life.at("2026-01-25").do(ChangePlan(plan="personal-yearly"))
    assert life.live == {"base#2": 720}
    assert life.ends("base#2") == ms("2027-01-25")


def test_a_downgrade_waits_for_the_period_s_end_and_can_be_undone() -> None:
    life = subscribed(RECRAFT, "pro")
    life.at("2026-01-25").do(ChangePlan(plan="basic"))
    assert life.live == {"base#0": 4000}
    life.do(ChangePlan(plan="pro"))
    assert life.at("2026-02-10").live == {"base#1": 4000}
    life.do(ChangePlan(plan="basic"))
    assert life.at("2026-03-10").live == {"base#2": 1000}


def test_a_change_that_waited_begins_one_period() -> None:
    life = subscribed(RECRAFT, "pro")
    life.do(ChangePlan(plan="basic"))
    life.at("2026-02-10")
    assert [row for row in life.rows if row.startswith("base")] == ["base#0", "base#1"]
    assert life.schedule.recurring["base"].given == 1000


def test_a_downgrade_now_lowers_what_is_available_and_gives_nothing_twice() -> None:
    life = subscribed(RECRAFT, "pro")
    life.spend("base#0", 500)
    life.do(ChangePlan(plan="basic", when=When.NOW))
    assert life.live == {"base#0": 1000}
    life.spend("base#0", 1000)
    for _ in range(3):
        life.do(ChangePlan(plan="pro"))
        life.do(ChangePlan(plan="basic", when=When.NOW))
    assert life.live == {"base#0": 0}
    assert life.at("2026-02-10").live == {"base#1": 1000}


def test_an_upgrade_may_wait_and_keeps_the_anchor() -> None:
    life = subscribed(RESTART, "basic")
    life.do(ChangePlan(plan="ultimate", when=When.PERIOD_END))
    life.at("2026-02-10")
    assert life.rows["base#1"].available == 60_000
    assert life.ends("base#1") == ms("2026-03-10")


def test_a_seat_gives_its_share_at_once() -> None:
    life = subscribed(STUDIOS, "team", seats=2)
    life.at("2026-02-09 23:00").do(ChangePlan(seats=3))
    assert life.live == {"base#1": 450}


def test_a_seat_gives_what_remains_of_the_period_rounded_up() -> None:
    life = subscribed(PRORATED, "team", seats=2)
    life.at("2026-01-20 08:00").do(ChangePlan(seats=3))
    # 20 days and 16 hours of 31 days: 2/3 of 150.
    assert life.live == {"base#1": 400}
    life.at("2026-01-20 08:00:00.001").do(ChangePlan(seats=4))
    assert life.live == {"base#1": 500}
    assert life.at("2026-02-10").live == {"base#2": 600}


def test_fewer_seats_with_a_renewal_count_from_the_next_period() -> None:
    life = subscribed(STUDIOS, "team", seats=3)
    life.do(Subscribe(plan="team", seats=2))
    assert life.live == {"base#1": 450}
    assert life.at("2026-02-10").live == {"base#2": 300}


def test_a_cancellation_outlives_a_change_and_comes_before_one_of_its_moment() -> None:
    life = subscribed(RECRAFT, "pro")
    life.do(ChangePlan(plan="basic"))
    life.do(Cancel())
    assert life.at("2026-02-10").live == {"daily#1": 50}
    assert life.schedule.change is None
    assert life.schedule.numbers == {"base": 0}  # No period of the other plan began in between.


def test_a_cancellation_ends_what_is_paid_and_not_before() -> None:
    life = Life(RECRAFT, "2026-01-10")
    life.do(Subscribe(plan="basic", paid_through_ms=ms("2026-04-10")))
    life.do(Cancel())
    assert life.at("2026-04-09").schedule.plan == "basic"
    assert life.at("2026-04-10").schedule.plan == "free"


def test_to_change_to_the_default_plan_is_to_cancel() -> None:
    life = subscribed(RECRAFT, "basic")
    life.do(ChangePlan(plan="free"))
    assert life.live == {"base#0": 1000}
    assert life.at("2026-02-10").live == {"daily#1": 50}


# Lapse.


@pytest.mark.parametrize(
    ("on_lapse", "live", "a_month_later", "then_subscribed"),
    [
        (OnLapse.EXPIRE, {}, {}, {"base#1": 100}),
        (OnLapse.RUN_TO_PERIOD_END, {"base#0": 70}, {}, {"base#0": 70, "base#1": 100}),
        (OnLapse.FREEZE, {"(base#0)": 70}, {}, {"base#0": 70, "base#1": 100}),
        (OnLapse.KEEP, {"base#0": 70}, {"base#0": 70}, {"base#0": 70, "base#1": 100}),
    ],
)
def test_each_bucket_lapses_as_the_catalog_says(
    on_lapse: OnLapse,
    live: dict[str, int],
    a_month_later: dict[str, int],
    then_subscribed: dict[str, int],
) -> None:
    for again in (False, True):
        life = subscribed(lapsing(on_lapse), "pro")
        life.spend("base#0", 30)
        life.at("2026-01-20").do(Cancel(when=When.NOW))
        assert life.live == live
        if again:
            life.at("2026-01-21").do(Subscribe(plan="pro"))
            assert life.live == then_subscribed
        else:
            assert life.at("2026-02-20").live == a_month_later


@pytest.mark.parametrize("on_lapse", OnLapse)
def test_a_period_that_is_over_with_the_subscription_leaves_nothing(on_lapse: OnLapse) -> None:
    life = subscribed(lapsing(on_lapse), "pro")
    life.do(Cancel())
    assert life.at("2026-02-10").live == {}  # R16


def test_a_kept_bucket_is_kept_also_when_the_account_slept() -> None:
    life = Life(lapsing(OnLapse.KEEP), "2026-01-10")
    life.do(Subscribe(plan="pro", paid_through_ms=ms("2026-01-20")))
    life.spend("base#0", 30)
    assert life.at("2026-06-01").live == {"base#0": 70}
    # Even where the period that is kept began in the sleep.
    life = Life(lapsing(OnLapse.KEEP), "2026-01-10")
    life.do(Subscribe(plan="pro", paid_through_ms=ms("2026-03-20")))
    assert life.at("2026-06-01").live == {"base#2": 100}


@pytest.mark.parametrize(
    ("on_lapse", "live", "then_subscribed"),
    [
        (OnLapse.KEEP, {"pack": 9}, {"pack": 9, "base#1": 100}),  # R18
        (OnLapse.RUN_TO_PERIOD_END, {"pack": 9}, {"pack": 9, "base#1": 100}),
        (OnLapse.FREEZE, {"(pack)": 9}, {"pack": 9, "base#1": 100}),
        (OnLapse.EXPIRE, {}, {"base#1": 100}),
    ],
)
def test_top_ups_lapse_as_the_catalog_says(
    on_lapse: OnLapse, live: dict[str, int], then_subscribed: dict[str, int]
) -> None:
    life = subscribed(lapsing(OnLapse.EXPIRE, on_lapse), "pro")
    life.buy("pack", 9)
    life.do(Cancel(when=When.NOW))
    assert life.live == live
    life.do(Subscribe(plan="pro"))
    assert life.live == then_subscribed


# Refusals.


@pytest.mark.parametrize(
    ("on", "event", "reason"),
    [
        ("", Subscribe(plan="gold"), "PLAN_NOT_FOUND"),
        ("team", ChangePlan(plan="gold"), "PLAN_NOT_FOUND"),
        ("", ChangePlan(plan="gold"), "PLAN_NOT_FOUND"),
        ("", ChangePlan(plan="team"), "NOT_SUBSCRIBED"),
        ("", ChangePlan(seats=3), "NOT_SUBSCRIBED"),
        ("", Cancel(), "NOT_SUBSCRIBED"),
        ("", SetAddOns(name="units", units=1), "NOT_SUBSCRIBED"),
        ("team", SetAddOns(name="gold", units=1), "ADD_ON_NOT_FOUND"),
        ("", SetAddOns(name="gold", units=1), "ADD_ON_NOT_FOUND"),
        ("enterprise", SetAddOns(name="units", units=1), "ADD_ON_NOT_IN_PLAN"),
    ],
)
def test_an_event_that_does_not_fit_is_refused(on: str, event: s.Event, reason: str) -> None:
    life = subscribed(STUDIOS, on) if on else Life(STUDIOS, "2026-01-10")
    with pytest.raises(Refused) as refused:
        life.do(event)
    assert refused.value.reason == reason


# Catalog, zone, roll-over, the first day.


def test_a_new_allowance_counts_from_the_next_period_and_a_seat_gives_the_new_share() -> None:
    life = subscribed(STUDIOS, "team", seats=2)
    team = plan("team", grant("base", 200, per_seat=True))
    life.plans = dataclasses.replace(STUDIOS, plans=(*without(STUDIOS, "team").plans, team))
    assert life.at("2026-01-11").live == {"base#1": 300}
    life.do(ChangePlan(seats=3))
    assert life.live == {"base#1": 500}
    assert life.at("2026-02-10").live == {"base#2": 600}


@pytest.mark.parametrize("gone", ["basic", "base"])
def test_what_the_catalog_lost_runs_to_its_end(gone: str) -> None:
    life = subscribed(RECRAFT, "basic")
    life.plans = without(RECRAFT, gone)
    assert life.at("2026-02-09").live == {"base#0": 1000}
    assert life.at("2026-02-10").live == {}
    assert life.schedule.next_turn_ms == 0
    life.do(Cancel())
    assert life.at("2026-03-10").live == {"daily#1": 50}


def test_a_change_to_a_plan_that_the_catalog_lost_does_not_come() -> None:
    life = subscribed(RECRAFT, "pro")
    life.do(ChangePlan(plan="basic"))
    life.plans = without(RECRAFT, "basic")
    assert life.at("2026-02-10").live == {"base#1": 4000}


def test_an_add_on_that_the_catalog_lost_can_be_cancelled_and_not_added_to() -> None:
    life = subscribed(STUDIOS, "team")
    life.do(SetAddOns(name="units", units=2))
    life.plans = without(STUDIOS, "units")
    with pytest.raises(Refused):
        life.do(SetAddOns(name="units", units=3))
    life.do(SetAddOns(name="units", units=0))
    assert life.at("2026-02-10").live == {"base#2": 150}
    assert life.schedule.units == {}


def test_an_add_on_ends_with_a_plan_that_does_not_have_it() -> None:
    life = subscribed(STUDIOS, "team")
    life.do(SetAddOns(name="units", units=2))
    life.do(ChangePlan(plan="enterprise", when=When.NOW))
    assert life.live == {"base#1": 0}
    assert life.schedule.units == {}


def test_another_zone_counts_from_each_bucket_s_next_period_and_gives_none_twice() -> None:
    life = subscribed(IMAGINE, "basic", "2026-01-10 12:00")
    life.do(SetZone(zone="America/New_York"))
    assert life.ends("daily#0") == ms("2026-01-11")
    life.at("2026-01-11")
    assert life.ends("daily#1") == ms("2026-01-12", "America/New_York")  # 29 hours
    life.at("2026-02-10 12:00")
    assert life.ends("base#1") == ms("2026-03-10 12:00", "America/New_York")
    assert life.schedule.anchor_ms == ms("2026-01-10 12:00", "America/New_York")
    life.do(SetZone(zone="Asia/Tokyo"))
    life.at("2026-03-10 12:00")
    life.at(ms("2026-03-10 12:00", "America/New_York"))
    assert life.ends("base#2") == ms("2026-04-10 12:00", "Asia/Tokyo")


def test_a_new_account_begins_in_its_own_zone() -> None:
    life = Life(IMAGINE, "2026-01-10 20:00", zone="Asia/Tokyo")
    assert life.ends("daily#0") == ms("2026-01-12", "Asia/Tokyo")


def test_what_rolls_over_is_limited_and_survives_a_sleep() -> None:
    base = grant("base", 100, rollover_max=30)
    plans = Plans(default="free", plans=(plan("free"), plan("pro", base)))
    for spent, rolled in ((0, 30), (80, 20), (100, 0)):
        life = subscribed(plans, "pro")
        life.spend("base#0", spent)
        assert life.at("2026-02-10").live == {"base#1": 100 + rolled}
        life = subscribed(plans, "pro")
        life.spend("base#0", spent)
        assert life.at("2026-07-10").live == {"base#6": 100 + rolled}


def test_members_limits_count_in_the_periods_of_the_plan_s_first_grant() -> None:
    life = subscribed(STUDIOS, "team")
    counted = life.schedule.cap_period
    assert life.at("2026-02-09").schedule.cap_period == counted
    assert life.at("2026-02-10").schedule.cap_period == counted + 1
    life.do(SetAddOns(name="units", units=1))
    assert life.schedule.cap_period == counted + 1


def test_without_plans_nothing_recurs() -> None:
    turn = s.caught_up(s.Schedule(), Plans(), ms("2026-01-10"))
    assert not turn.changes
    assert turn.schedule.next_turn_ms == 0


def test_no_allowance_passes_the_largest_amount() -> None:
    huge = plan("team", grant("base", 2**52, Every.MONTH, per_seat=True))
    life = Life(Plans(default="free", plans=(plan("free"), huge)), "2026-01-10")
    life.do(Subscribe(plan="team", seats=2))
    assert life.live == {"base#0": 2**53 - 1}
    life.do(ChangePlan(seats=1_000_000))
    assert life.live == {"base#0": 2**53 - 1}
