"""The life of an account in each source system."""

from creditgate_server.core.calendar import Every
from creditgate_server.core.schedule import (
    Cancel,
    ChangePlan,
    Coming,
    SetAddOns,
    Subscribe,
    When,
    upcoming,
)
from tests.schedule.catalogs import IMAGINE, RECRAFT, STUDIOS
from tests.schedule.life import Life
from tests.schedule.times import ms


def test_recraft_free_users_reset_daily_and_subscribers_monthly() -> None:
    life = Life(RECRAFT, "2026-01-30 15:00")
    assert life.live == {"daily#0": 50}
    life.spend("daily#0", 50)
    assert life.at("2026-01-30 23:59:59.999").live == {"daily#0": 0}
    assert life.at("2026-01-31").live == {"daily#1": 50}  # R15

    life.at("2026-01-31 10:00").do(Subscribe(plan="basic"))
    life.buy("pack", 200)
    assert life.live == {"base#0": 1000, "pack": 200}  # The daily one was the free plan's.
    life.spend("base#0", 400)
    assert life.at("2026-02-28 09:59:59.999").live == {"base#0": 600, "pack": 200}
    assert life.at("2026-02-28 10:00").live == {"base#1": 1000, "pack": 200}  # R14 R16 R19
    assert life.at("2026-03-31 10:00").live == {"base#2": 1000, "pack": 200}

    life.do(Cancel())
    assert life.at("2026-04-30 09:59:59.999").live == {"base#2": 1000, "pack": 200}
    assert life.at("2026-04-30 10:00").live == {"daily#2": 50, "pack": 200}  # R18
    assert life.schedule.plan == "free"
    assert life.at("2026-05-01").live == {"daily#3": 50, "pack": 200}


def test_imagine_everyone_has_a_daily_grant_and_subscribers_a_monthly_one() -> None:
    life = Life(IMAGINE, "2026-03-01 08:00", zone="Asia/Kolkata")
    life.spend("daily#0", 100)
    life.do(Subscribe(plan="basic"))
    assert life.live == {"daily#0": 0, "base#0": 3000}  # R31: no second hundred on that day
    assert life.at("2026-03-01 18:30").live == {
        "daily#1": 100,
        "base#0": 3000,
    }  # Kolkata's midnight
    life.do(ChangePlan(plan="ultimate"))
    assert life.live == {"daily#1": 100, "base#0": 60_000}
    life.do(Cancel(when=When.NOW))
    assert life.live == {"daily#1": 100}
    life.do(Subscribe(plan="basic"))
    assert life.live == {"daily#1": 100, "base#1": 3000}


def test_imagine_yearly_plans_are_given_monthly() -> None:
    life = Life(IMAGINE, "2026-01-31 12:00")
    life.do(Subscribe(plan="ultimate-yearly"))
    for month, day in ((2, 28), (3, 31), (4, 30), (5, 31)):
        life.at(f"2026-{month:02}-{day} 12:00")
        assert life.rows[f"base#{month - 1}"].available == 60_000  # R35
    life.do(ChangePlan(plan="basic"))  # By the order of plans, less: at the end of the paid year.
    life.at("2026-12-31 12:00")
    assert life.schedule.plan == "ultimate-yearly"
    life.at("2027-01-31 12:00")
    assert (life.schedule.plan, life.rows["base#12"].available) == ("basic", 3000)
    assert life.ends("base#12") == ms("2027-02-28 12:00")


def test_studios_yearly_plans_are_given_at_once_by_seats() -> None:
    life = Life(STUDIOS, "2024-02-29 09:00")
    assert life.live == {"base#0": 16}
    life.do(Subscribe(plan="team-yearly", seats=3))
    assert life.live == {"base#1": 5400}  # R76
    life.at("2024-06-01").do(ChangePlan(seats=4))
    assert life.live == {"base#1": 7200}
    life.do(ChangePlan(seats=2))
    assert life.live == {"base#1": 7200}  # A seat removed counts from the next period.
    assert life.at("2025-02-28 08:59:59.999").live == {"base#1": 7200}
    assert life.at("2025-02-28 09:00").live == {"base#2": 3600}  # R77 R78
    assert life.at("2028-02-29 09:00").live == {"base#5": 3600}


def test_studios_add_ons_renew_with_the_plan_until_they_are_cancelled() -> None:
    life = Life(STUDIOS, "2026-01-10")
    life.do(Subscribe(plan="team", seats=2))
    life.at("2026-01-20").do(SetAddOns(name="units", units=2))  # R80
    assert life.live == {"base#1": 300, "units#0": 400}  # R83 R84
    assert life.ends("units#0") == ms("2026-02-10")  # R79
    life.spend("units#0", 100)
    life.do(SetAddOns(name="units", units=3))
    assert life.live == {"base#1": 300, "units#0": 500}
    life.do(ChangePlan(seats=3))
    assert life.live == {"base#1": 450, "units#0": 500}  # Shared by the workspace: R83
    assert life.at("2026-02-10").live == {"base#2": 450, "units#1": 600}  # R81 R85
    life.do(SetAddOns(name="units", units=1))
    assert life.live == {"base#2": 450, "units#1": 600}  # R86
    assert life.at("2026-03-10").live == {"base#3": 450, "units#2": 200}
    life.do(SetAddOns(name="units", units=0))
    assert [(item.row, item.amount) for item in upcoming(life.schedule, STUDIOS, life.now_ms)] == [
        ("base#3", 450)
    ]
    assert life.at("2026-04-10").live == {"base#4": 450}
    life.do(SetAddOns(name="units", units=1))
    assert life.live == {"base#4": 450, "units#3": 200}
    life.do(Cancel(when=When.NOW))
    assert life.live == {"base#5": 16}  # R87


def test_studios_a_unit_of_the_personal_plan_is_for_each_user() -> None:
    life = Life(STUDIOS, "2026-01-10")
    life.do(Subscribe(plan="personal", seats=2))
    life.do(SetAddOns(name="units", units=1))
    assert life.live == {"base#1": 60, "units#0": 120}  # R82
    life.do(ChangePlan(seats=3))
    assert life.live == {"base#1": 60, "units#0": 180}


def test_studios_an_enterprise_allowance_is_the_contract_s() -> None:
    life = Life(STUDIOS, "2026-01-10")
    life.do(Subscribe(plan="enterprise", allowances=(("base", 9000),)))
    assert life.live == {"base#1": 9000}  # R75
    life.do(Subscribe(plan="enterprise", allowances=(("base", 12_000),)))
    assert life.live == {"base#1": 9000}
    assert life.at("2026-02-10").live == {"base#2": 12_000}


def test_what_will_happen_is_told_the_soonest_first() -> None:
    life = Life(IMAGINE, "2026-01-10 12:00")
    life.do(Subscribe(plan="ultimate", paid_through_ms=ms("2026-04-10 12:00")))
    life.do(ChangePlan(plan="basic"))
    told = upcoming(life.schedule, IMAGINE, life.now_ms)
    assert [(item.at_ms, item.coming, item.row or item.plan, item.amount) for item in told] == [
        (ms("2026-01-11"), Coming.RESET, "daily#0", 100),
        (ms("2026-02-10 12:00"), Coming.PLAN_CHANGE, "basic", 0),
        (ms("2026-02-10 12:00"), Coming.RESET, "base#0", 3000),
        (ms("2026-04-10 12:00"), Coming.SUBSCRIPTION_END, "free", 0),
    ]  # R89


def test_a_yearly_plan_has_one_reset_in_a_year() -> None:
    life = Life(STUDIOS, "2026-01-10")
    life.do(Subscribe(plan="personal-yearly"))
    (reset,) = upcoming(life.schedule, STUDIOS, life.now_ms)
    assert (reset.at_ms, reset.amount) == (ms("2027-01-10"), 720)
    assert life.schedule.recurring["base"].every is Every.YEAR
