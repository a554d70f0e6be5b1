"""When periods begin: against tables made by hand, and against a library that is not ours."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from whenever import Instant, PlainDateTime, SkippedTime

from creditgate_server.core import calendar
from creditgate_server.core.calendar import Every, boundary, number_at
from tests.schedule.times import DAY_MS, HOUR_MS, ZONES, local, ms

MONTH_ENDS = {
    "2024-01-29": "29 29 29 29 29 29 29 29 29 29 29 29 "  # 2024, a leap year
    "29 28 29 29 29 29 29 29 29 29 29 29 "
    "29 28 29 29 29 29 29 29 29 29 29 29 "
    "29 28 29 29 29 29 29 29 29 29 29 29 29 29",  # … until February 2028, another
    "2024-01-30": "30 29 30 30 30 30 30 30 30 30 30 30 "
    "30 28 30 30 30 30 30 30 30 30 30 30 "
    "30 28 30 30 30 30 30 30 30 30 30 30 "
    "30 28 30 30 30 30 30 30 30 30 30 30 30 29",
    "2024-01-31": "31 29 31 30 31 30 31 31 30 31 30 31 "
    "31 28 31 30 31 30 31 31 30 31 30 31 "
    "31 28 31 30 31 30 31 31 30 31 30 31 "
    "31 28 31 30 31 30 31 31 30 31 30 31 31 29",
}


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
@pytest.mark.parametrize("day", MONTH_ENDS)
def test_a_date_that_a_month_lacks_is_its_last_and_the_next_month_has_it_again(
    day: str, zone: str
) -> None:
    anchor = ms(f"{day} 10:30", zone)
    for number, expected in enumerate(MONTH_ENDS[day].split()):
        year, month = 2024 + number // 12, number % 12 + 1
        begin = ms(f"{year}-{month:02}-{expected} 10:30", zone)
        assert boundary(anchor, zone, Every.MONTH, number) == begin
        assert number_at(anchor, zone, Every.MONTH, begin) == number
        assert number_at(anchor, zone, Every.MONTH, begin - 1) == number - 1


def test_31_may_is_followed_by_30_june_and_31_july() -> None:
    begins = [boundary(ms("2026-05-31"), "UTC", Every.MONTH, number) for number in range(3)]
    assert [local(at)[:10] for at in begins] == ["2026-05-31", "2026-06-30", "2026-07-31"]


TURNS = {
    # Years from a leap day, quarters from a month's end, weeks over both changes of clocks.
    (Every.YEAR, "2024-02-29 12:00", "UTC"): [
        "2025-02-28 12:00",
        "2026-02-28 12:00",
        "2027-02-28 12:00",
        "2028-02-29 12:00",
    ],
    (Every.QUARTER, "2025-11-30 00:00", "Europe/Berlin"): [
        "2026-02-28 00:00",
        "2026-05-30 00:00",
        "2026-08-30 00:00",
    ],
    (Every.WEEK, "2026-03-25 09:00", "Europe/Berlin"): ["2026-04-01 09:00", "2026-04-08 09:00"],
    (Every.WEEK, "2026-10-21 09:00", "Europe/Berlin"): ["2026-10-28 09:00", "2026-11-04 09:00"],
}


@pytest.mark.parametrize(("every", "anchor", "zone"), TURNS)
def test_longer_periods_keep_date_and_time_too(every: Every, anchor: str, zone: str) -> None:
    expected = TURNS[every, anchor, zone]
    begins = [boundary(ms(anchor, zone), zone, every, n + 1) for n in range(len(expected))]
    assert begins == [ms(text, zone) for text in expected]


# Zone, day: when it begins, when the next one does, in UTC; looked up in the zones' own rules.
CHANGED_DAYS = [
    ("Europe/Berlin", "2026-03-29", "2026-03-28 23:00", "2026-03-29 22:00"),
    ("Europe/Berlin", "2026-10-25", "2026-10-24 22:00", "2026-10-25 23:00"),
    ("America/New_York", "2026-03-08", "2026-03-08 05:00", "2026-03-09 04:00"),
    ("America/New_York", "2026-11-01", "2026-11-01 04:00", "2026-11-02 05:00"),
    ("Australia/Adelaide", "2026-10-04", "2026-10-03 14:30", "2026-10-04 13:30"),
    ("Australia/Adelaide", "2026-04-05", "2026-04-04 13:30", "2026-04-05 14:30"),
    ("Australia/Lord_Howe", "2026-10-04", "2026-10-03 13:30", "2026-10-04 13:00"),
    ("Australia/Lord_Howe", "2026-04-05", "2026-04-04 13:00", "2026-04-05 13:30"),
    ("Asia/Kolkata", "2026-03-29", "2026-03-28 18:30", "2026-03-29 18:30"),
    # Midnight does not exist: the day begins at one o'clock …
    ("America/Havana", "2024-03-10", "2024-03-10 05:00", "2024-03-11 04:00"),
    ("Africa/Cairo", "2024-04-26", "2024-04-25 22:00", "2024-04-26 21:00"),
    ("Asia/Beirut", "2024-03-31", "2024-03-30 22:00", "2024-03-31 21:00"),
    ("America/Santiago", "2024-09-08", "2024-09-08 04:00", "2024-09-09 03:00"),
    # … or comes twice: the first is meant.
    ("America/Havana", "2024-11-03", "2024-11-03 04:00", "2024-11-04 05:00"),
    # The day before has its last hour twice.
    ("Africa/Cairo", "2024-10-31", "2024-10-30 21:00", "2024-10-31 22:00"),
    ("America/Santiago", "2024-04-06", "2024-04-06 03:00", "2024-04-07 04:00"),
]


@pytest.mark.parametrize(("zone", "day", "begins", "ends"), CHANGED_DAYS)
def test_a_daily_grant_begins_with_the_local_day_on_which_the_clocks_change(
    zone: str, day: str, begins: str, ends: str
) -> None:
    anchor = ms("2023-06-15 17:45", zone)
    number = number_at(anchor, zone, Every.DAY, ms(f"{day} 12:00", zone))
    assert boundary(anchor, zone, Every.DAY, number) == ms(begins)
    assert boundary(anchor, zone, Every.DAY, number + 1) == ms(ends)
    assert calendar.day_begin(ms(ends) - 1, zone) == ms(begins)
    assert calendar.day_of(ms(begins), zone) == day


def test_a_day_that_begins_at_one_does_not_move_those_after_it() -> None:
    zone = "Africa/Cairo"
    anchor = ms("2024-04-26 01:00", zone)
    begins = [local(boundary(anchor, zone, Every.DAY, number), zone) for number in range(3)]
    assert begins == [
        "2024-04-26 01:00+03:00",
        "2024-04-27 00:00+03:00",
        "2024-04-28 00:00+03:00",
    ]


def test_a_time_in_the_gap_is_the_first_instant_after_it_and_later_periods_have_it_again() -> None:
    zone = "Europe/Berlin"
    anchor = ms("2026-01-29 02:30", zone)
    begins = [local(boundary(anchor, zone, Every.MONTH, number), zone) for number in range(4)]
    assert begins == [
        "2026-01-29 02:30+01:00",
        "2026-02-28 02:30+01:00",
        "2026-03-29 03:00+02:00",
        "2026-04-29 02:30+02:00",
    ]


def test_a_time_that_comes_twice_is_its_first() -> None:
    zone = "Europe/Berlin"
    anchor = ms("2026-09-25 02:30", zone)
    assert local(boundary(anchor, zone, Every.MONTH, 1), zone) == "2026-10-25 02:30+02:00"


def test_an_anchor_in_the_second_of_a_doubled_hour_stays_where_it_is() -> None:
    zone = "Europe/Berlin"
    anchor = ms("2026-10-25 02:30", zone, fold=1)
    assert boundary(anchor, zone, Every.MONTH, 0) == anchor
    assert number_at(anchor, zone, Every.MONTH, anchor) == 0
    assert number_at(anchor, zone, Every.MONTH, anchor - HOUR_MS) == -1


def test_a_day_that_a_zone_skipped_whole_has_no_period() -> None:
    zone = "Pacific/Apia"
    anchor = ms("2011-12-28 12:00", zone)
    begins = [local(boundary(anchor, zone, Every.DAY, number), zone)[:10] for number in range(5)]
    assert begins == ["2011-12-28", "2011-12-29", "2011-12-31", "2011-12-31", "2012-01-01"]
    skipped = boundary(anchor, zone, Every.DAY, 2)
    assert number_at(anchor, zone, Every.DAY, skipped) == 3
    assert number_at(anchor, zone, Every.DAY, skipped - 1) == 1


def test_an_anchor_means_the_same_date_and_time_in_another_zone() -> None:
    moved = calendar.rezoned(ms("2026-01-31 10:00", "Asia/Tokyo"), "Asia/Tokyo", "America/Lima")
    assert local(moved, "America/Lima") == "2026-01-31 10:00-05:00"


# The library's own reading, by its own copy of the arithmetic and of the zones' rules.

MONTHS = {Every.MONTH: 1, Every.QUARTER: 3, Every.YEAR: 12}
FROM_MS, UNTIL_MS = ms("2012-01-02"), ms("2037-01-01")
zones = st.sampled_from(ZONES)
moments = st.integers(FROM_MS, UNTIL_MS)
numbers = st.integers(-30, 400)
everys = st.sampled_from(Every)


def independent(anchor_ms: int, zone: str, every: Every, number: int) -> int:
    wall = Instant.from_timestamp(anchor_ms, unit="millisecond").to_tz(zone).to_plain()
    if every is Every.DAY:
        wall = wall.start_of("day").add(days=number)
    elif every is Every.WEEK:
        wall = wall.add(weeks=number)
    else:
        wall = wall.add(months=MONTHS[every] * number)
    return first_instant(wall, zone)


def first_instant(wall: PlainDateTime, zone: str) -> int:
    try:
        wall.assume_tz(zone, disambiguation="raise")
    except SkippedTime:
        day_before = wall.subtract(days=1).assume_tz(zone, disambiguation="earlier")
        after = day_before.next_transition()
        assert after is not None
        return after.timestamp(unit="millisecond")
    except ValueError:
        pass  # It comes twice.
    return wall.assume_tz(zone, disambiguation="earlier").timestamp(unit="millisecond")


@given(moments, zones, everys, numbers)
@example(ms("2023-03-10 09:00", "America/Havana"), "America/Havana", Every.DAY, 366)
@example(ms("2024-01-31 02:15", "Australia/Lord_Howe"), "Australia/Lord_Howe", Every.MONTH, 9)
def test_every_boundary_is_where_another_library_has_it(
    anchor_ms: int, zone: str, every: Every, number: int
) -> None:
    if number == 0 and every is not Every.DAY:
        expected = anchor_ms
    else:
        expected = independent(anchor_ms, zone, every, number)
    assert boundary(anchor_ms, zone, every, number) == expected


@given(moments, zones, everys, numbers)
def test_boundaries_rise_and_each_belongs_to_the_period_it_begins(
    anchor_ms: int, zone: str, every: Every, number: int
) -> None:
    begin = boundary(anchor_ms, zone, every, number)
    assert begin < boundary(anchor_ms, zone, every, number + 1)
    assert number_at(anchor_ms, zone, every, begin) == number
    assert number_at(anchor_ms, zone, every, begin - 1) == number - 1


@given(moments, zones, everys, moments)
def test_every_moment_lies_in_the_period_of_its_number(
    anchor_ms: int, zone: str, every: Every, now_ms: int
) -> None:
    number = number_at(anchor_ms, zone, every, now_ms)
    assert boundary(anchor_ms, zone, every, number) <= now_ms
    assert now_ms < boundary(anchor_ms, zone, every, number + 1)


@given(moments, zones)
def test_a_local_day_has_one_beginning(at_ms: int, zone: str) -> None:
    begin = calendar.day_begin(at_ms, zone)
    assert begin <= at_ms
    assert calendar.day_of(begin, zone) == calendar.day_of(at_ms, zone)
    assert calendar.day_of(begin - 1, zone) != calendar.day_of(at_ms, zone)


# Planted: what a careless calendar does must be noticed.


def stepped(anchor_ms: int, zone: str, number: int) -> int:
    """From the last boundary, instead of from the anchor."""
    at = anchor_ms
    for _ in range(number):
        at = boundary(at, zone, Every.MONTH, 1)
    return at


def test_stepping_from_the_last_boundary_would_be_noticed() -> None:
    anchor = ms("2024-01-31")
    right = [boundary(anchor, "UTC", Every.MONTH, number) for number in range(4)]
    assert right != [stepped(anchor, "UTC", number) for number in range(4)]


def test_days_of_24_hours_would_be_noticed() -> None:
    noticed = [zone for zone, _, begins, ends in CHANGED_DAYS if ms(ends) - ms(begins) != DAY_MS]
    assert len(set(noticed)) >= 5
