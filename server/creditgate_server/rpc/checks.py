"""What a field of a request may be.

Each check names the field and its range; what passes is asserted nowhere else.
"""

import re
import zoneinfo
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from creditgate.v1 import resources_pb2
from creditgate_server.core.commands import Job
from creditgate_server.core.faults import Fault, invalid
from creditgate_server.core.prices import AMOUNT_MAX

ValueT = TypeVar("ValueT")

QUANTITY_MAX = 1_000_000_000
SETTINGS_MAX = 16
PAGE_DEFAULT = 100
PAGE_MAX = 1_000
DURATION_S_MAX = 366 * 86_400
LIMITS_MAX = 32
_INSTANT_S_MAX = 253_402_300_799
CALENDAR_S_MAX = 221_845_392_000
"""The year 9000: the calendar works with dates after it, and has none after 9999."""
JOB_BYTES_KNOWN = 1024
"""Jobs of more bytes are looked at each time, so that few of them cannot fill the memory."""
_NANOS = 1_000_000_000
_CURSOR_MAX = 2**64 - 1

_matches_id = re.compile(r"[A-Za-z0-9_.:-]{1,128}").fullmatch
_ID_RANGE = "must be 1 to 128 of the characters A-Z a-z 0-9 _ . : -"


def identifier(value: str, field: str) -> str:
    """An id that must be given."""
    if _matches_id(value) is None:
        raise invalid(field, "is missing" if not value else _ID_RANGE)
    return value


def optional_identifier(value: str, field: str) -> str:
    """An id that may be empty."""
    return identifier(value, field) if value else value


def identifiers(values: Iterable[str], field: str, most: int) -> tuple[str, ...]:
    """A set of ids, in an order that does not depend on the caller's."""
    checked = sorted({identifier(value, f"{field}[{i}]") for i, value in enumerate(values)})
    if len(checked) > most:
        raise invalid(field, f"has {len(checked)} items, at most {most} are allowed")
    return tuple(checked)


def amount(value: int, field: str, least: int = 0) -> int:
    """A number of credits."""
    if not least <= value <= AMOUNT_MAX:
        raise invalid(field, f"is {value}, must be {least} to 2^53 - 1")
    return value


def optional_amount(message: Message, field: str, least: int = 0) -> int | None:
    """A number of credits that may be left unset, which is not the same as 0."""
    if not message.HasField(field):
        return None
    return amount(getattr(message, field), field, least)


def whole(value: int, field: str, least: int, most: int) -> int:
    """A number in a range."""
    if not least <= value <= most:
        raise invalid(field, f"is {value}, must be {least:,} to {most:,}")
    return value


def amounts(values: Mapping[str, int], field: str) -> tuple[tuple[str, int], ...]:
    """Numbers of credits by name, sorted by name."""
    if len(values) > LIMITS_MAX:
        raise invalid(field, f"has {len(values)} items, at most {LIMITS_MAX} are allowed")
    for name in values:
        if _matches_id(name) is None:
            raise invalid(field, f"a name {_ID_RANGE}")
    return tuple((name, amount(values[name], f"{field}[{name}]")) for name in sorted(values))


def optional_quantity(message: Message, field: str, path: str, least: int) -> int | None:
    """A quantity that may be left unset."""
    if not message.HasField(field):
        return None
    value: int = getattr(message, field)
    if not least <= value <= QUANTITY_MAX:
        raise invalid(path, f"is {value}, must be {least} to {QUANTITY_MAX:,}")
    return value


def settings(values: Mapping[str, str], field: str) -> tuple[tuple[str, str], ...]:
    """Settings of a job, sorted by name."""
    if len(values) > SETTINGS_MAX:
        raise invalid(field, f"has {len(values)} settings, at most {SETTINGS_MAX} are allowed")
    for name in values:
        if _matches_id(name) is None:
            raise invalid(field, f"a name {_ID_RANGE}")
    return tuple((name, identifier(values[name], f"{field}[{name}]")) for name in sorted(values))


def job(message: resources_pb2.Job, path: str) -> Job:
    """What is to be run. Jobs are alike: what was found right lately is not looked at again."""
    encoded = message.SerializeToString()
    if len(encoded) > JOB_BYTES_KNOWN:
        return known_job.__wrapped__(encoded, path)
    return known_job(encoded, path)


@lru_cache(1024)
def known_job(encoded: bytes, path: str) -> Job:
    """A job from its bytes; one that is found wrong is not remembered."""
    message = resources_pb2.Job.FromString(encoded)
    quantity = optional_quantity(message, "quantity", f"{path}.quantity", 1)
    return Job(
        identifier(message.action, f"{path}.action"),
        optional_identifier(message.model, f"{path}.model"),
        1 if quantity is None else quantity,
        settings(message.settings, f"{path}.settings") if message.settings else (),
    )


def optional_duration_ms(message: Message, field: str) -> int | None:
    """A duration from 1 second on, in ms; fractions of a ms are dropped."""
    if not message.HasField(field):
        return None
    value: Duration = getattr(message, field)
    duration_ms = value.seconds * 1000 + value.nanos // 1_000_000
    if not (0 <= value.nanos < _NANOS and 1000 <= duration_ms <= DURATION_S_MAX * 1000):
        raise invalid(field, "must be 1 second to 366 days")
    return duration_ms


def optional_instant_ms(
    message: Message, field: str, before_s: int = _INSTANT_S_MAX + 1
) -> int | None:
    """An instant since 1970, in ms; fractions of a ms are dropped."""
    if not message.HasField(field):
        return None
    value: Timestamp = getattr(message, field)
    if not 0 < value.seconds < before_s or not 0 <= value.nanos < _NANOS:
        last = 8999 if before_s == CALENDAR_S_MAX else 9999
        raise invalid(field, f"must be an instant from 1970 to {last}")
    return value.seconds * 1000 + value.nanos // 1_000_000


def zone(value: str, field: str) -> str:
    """An IANA time zone, or empty."""
    if not value:
        return value
    fault = invalid(field, "must be an IANA time zone such as Europe/Berlin")
    # What stands beside the zones, such as "localtime", means another zone on every machine.
    if not value[0].isupper():
        raise fault
    try:
        zoneinfo.ZoneInfo(value)
    except (ValueError, zoneinfo.ZoneInfoNotFoundError, OSError):
        raise fault from None
    return value


def page_size(value: int, field: str = "page_size") -> int:
    """How many items a page shall have."""
    if not 0 <= value <= PAGE_MAX:
        raise invalid(field, f"is {value}, must be 1 to {PAGE_MAX:,}, or 0 for {PAGE_DEFAULT}")
    return value or PAGE_DEFAULT


def page_token(value: str, pattern: str) -> str:
    """A token as an earlier page gave it, or empty."""
    if value and not (
        re.fullmatch(pattern, value, re.ASCII)
        and all(int(number) <= _CURSOR_MAX for number in value.split("-"))
    ):
        raise not_a_page_token()
    return value


def not_a_page_token() -> Fault:
    """The fault for a token that no page gave."""
    return invalid("page_token", "must come from the previous page of the same list")


def known(value: int, table: Mapping[Any, ValueT], field: str) -> ValueT:
    """What an enum number stands for."""
    try:
        return table[value]
    except KeyError:
        allowed = ", ".join(map(str, sorted(table)))
        raise invalid(field, f"is {value}, must be one of {allowed}") from None
