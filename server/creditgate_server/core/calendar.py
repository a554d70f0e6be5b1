"""When periods begin, by the calendar of a time zone.

Period n begins at the anchor's date and time plus n intervals, counted from the anchor and never from
the last boundary: 31 January, 28 February, 31 March. A date that a month does not have becomes its
last day. A time that does not exist (spring) becomes the first instant after the gap; one that comes
twice (autumn) is the first of the two.
"""

import enum
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from dateutil.relativedelta import relativedelta


class Every(enum.Enum):
    """How long a period is."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"


_STEPS = {
    Every.DAY: relativedelta(days=1),
    Every.WEEK: relativedelta(weeks=1),
    Every.MONTH: relativedelta(months=1),
    Every.QUARTER: relativedelta(months=3),
    Every.YEAR: relativedelta(years=1),
}
_SHORTEST_MS = {
    Every.DAY: 86_400_000,
    Every.WEEK: 7 * 86_400_000,
    Every.MONTH: 31 * 86_400_000,
    Every.QUARTER: 92 * 86_400_000,
    Every.YEAR: 366 * 86_400_000,
}


def boundary(anchor_ms: int, zone: str, every: Every, number: int) -> int:
    """When period `number` begins, in ms; period 0 begins at the anchor itself."""
    if number == 0:
        return anchor_ms
    return instant_of(_wall(anchor_ms, zone) + _STEPS[every] * number, zone)


def number_at(anchor_ms: int, zone: str, every: Every, now_ms: int) -> int:
    """The number of the period that `now_ms` lies in; a boundary belongs to the period it begins."""
    # From below: no period is longer than is assumed here, but for the hours of a change of clocks.
    number = (now_ms - anchor_ms) // _SHORTEST_MS[every] - 1
    while boundary(anchor_ms, zone, every, number + 1) <= now_ms:
        number += 1
    return number


def day_begin(at_ms: int, zone: str) -> int:
    """The first instant of the local day that `at_ms` lies in."""
    midnight = _wall(at_ms, zone).replace(hour=0, minute=0, second=0, microsecond=0)
    return instant_of(midnight, zone)


def day_of(at_ms: int, zone: str) -> str:
    """The local day, such as "2026-02-28"."""
    return _wall(at_ms, zone).date().isoformat()


def rezoned(anchor_ms: int, zone: str, new_zone: str) -> int:
    """The anchor's date and time, meant in another zone."""
    return instant_of(_wall(anchor_ms, zone), new_zone)


def instant_of(wall: datetime, zone: str) -> int:
    """The instant of a local date and time, in ms."""
    first = wall.replace(tzinfo=_zone(zone), fold=0)
    if _wall(_ms(first), zone) == wall:
        return _ms(first)
    # The clocks were put forward over it. Between the two readings lies the moment when they were.
    before, after = _ms(wall.replace(tzinfo=_zone(zone), fold=1)), _ms(first)
    offset = _offset(before, zone)
    while after - before > 1:
        middle = (before + after) // 2
        if _offset(middle, zone) == offset:
            before = middle
        else:
            after = middle
    return after


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _wall(at_ms: int, zone: str) -> datetime:
    instant = datetime.fromtimestamp(at_ms // 1000, tz=UTC) + timedelta(milliseconds=at_ms % 1000)
    return instant.astimezone(_zone(zone)).replace(tzinfo=None, fold=0)


def _offset(at_ms: int, zone: str) -> timedelta | None:
    return datetime.fromtimestamp(at_ms // 1000, tz=_zone(zone)).utcoffset()


def _ms(aware: datetime) -> int:
    return round(aware.timestamp() * 1000)
