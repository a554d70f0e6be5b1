"""When periods begin, by the calendar of a time zone.

Period n begins at the anchor's date and time plus n intervals, counted from the anchor and never
from the last boundary: 31 January, 28 February, 31 March. A date that a month does not have becomes
its last day. Daily periods begin at midnight, whatever the anchor's time of day. A time that does
not exist (spring) becomes the first instant after the gap; one that comes twice (autumn) is the
first of the two.

Instants are milliseconds since 1970 in UTC, zones are IANA names.
"""

import enum
from datetime import UTC, datetime, time, timedelta
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


_DAYS = {Every.DAY: 1, Every.WEEK: 7}
_MONTHS = {Every.MONTH: 1, Every.QUARTER: 3, Every.YEAR: 12}
_FAR = timedelta(days=2)
"""What is later by so much on the calendar is later, whatever the clocks do: it saves a look."""


def boundary(anchor_ms: int, zone: str, every: Every, number: int) -> int:
    """When period `number` begins; but for daily ones, period 0 begins at the anchor itself."""
    if number == 0 and every is not Every.DAY:
        return anchor_ms  # Even where it is the second of a doubled hour.
    return instant_of(_counted(_wall(anchor_ms, zone), every, number), zone)


def number_at(anchor_ms: int, zone: str, every: Every, now_ms: int) -> int:
    """The number of the period that `now_ms` lies in; a boundary belongs to the period it begins.

    A day that a zone skipped whole has no period: at its midnight the next day's begins.
    """
    anchor, now = _wall(anchor_ms, zone), _wall(now_ms, zone)
    if every in _DAYS:
        number = (now.date() - anchor.date()).days // _DAYS[every] + 1
    else:
        months = (now.year - anchor.year) * 12 + now.month - anchor.month
        number = months // _MONTHS[every] + 1
    # By their dates, now lies in this period at the latest.
    while (
        _counted(anchor, every, number) - now > _FAR
        or boundary(anchor_ms, zone, every, number) > now_ms
    ):
        number -= 1
    return number


def day_begin(at_ms: int, zone: str) -> int:
    """The first instant of the local day that `at_ms` lies in."""
    return instant_of(_midnight(_wall(at_ms, zone)), zone)


def day_of(at_ms: int, zone: str) -> str:
    """The local day, such as "2026-02-28"."""
    return _wall(at_ms, zone).date().isoformat()


def rezoned(anchor_ms: int, zone: str, new_zone: str) -> int:
    """The anchor's date and time, meant in another zone."""
    return anchor_ms if zone == new_zone else instant_of(_wall(anchor_ms, zone), new_zone)


def instant_of(wall: datetime, zone: str) -> int:
    """The instant of a local date and time (without `tzinfo`)."""
    first = _ms(wall.replace(tzinfo=_zone(zone), fold=0))
    if _wall(first, zone) == wall:
        return first
    # The clocks were put forward over it. Between its two readings lies the moment when they were.
    before, after = _ms(wall.replace(tzinfo=_zone(zone), fold=1)), first
    offset = _offset(before, zone)
    while after - before > 1:
        middle = (before + after) // 2
        if _offset(middle, zone) == offset:
            before = middle
        else:
            after = middle
    return after


def _counted(anchor: datetime, every: Every, number: int) -> datetime:
    """The date and time of a boundary, whether the zone has it or not."""
    if every is Every.DAY:
        return _midnight(anchor) + timedelta(days=number)
    if every is Every.WEEK:
        return anchor + timedelta(weeks=number)
    return anchor + relativedelta(months=_MONTHS[every] * number)


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _wall(at_ms: int, zone: str) -> datetime:
    seconds, ms = divmod(at_ms, 1000)
    wall = datetime.fromtimestamp(seconds, tz=_zone(zone))
    return wall.replace(tzinfo=None, fold=0, microsecond=ms * 1000)


def _midnight(wall: datetime) -> datetime:
    return datetime.combine(wall.date(), time())


def _offset(at_ms: int, zone: str) -> timedelta | None:
    return datetime.fromtimestamp(at_ms // 1000, tz=_zone(zone)).utcoffset()


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


def _ms(aware: datetime) -> int:
    return (aware - _EPOCH) // _MS
