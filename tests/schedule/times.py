"""Instants written as a reader writes them."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",  # half an hour
    "Australia/Lord_Howe",  # changes its clocks by half an hour
    "Australia/Adelaide",
    "America/St_Johns",
    "Pacific/Chatham",
    "America/Havana",  # midnight does not exist in spring
    "Africa/Cairo",
    "Asia/Beirut",
    "America/Santiago",
    "Pacific/Kiritimati",
)


def ms(text: str, zone: str = "UTC", *, fold: int = 0) -> int:
    """The instant of a local date and time such as "2026-01-31 10:00"; midnight without a time."""
    wall = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return round(wall.timestamp() * 1000)


def local(at_ms: int, zone: str = "UTC") -> str:
    """The local date and time of an instant, with its distance from UTC."""
    instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
    return instant.astimezone(ZoneInfo(zone)).isoformat(sep=" ", timespec="minutes")
