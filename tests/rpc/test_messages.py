"""Every figure of a result stands in the field of its name, and every field is written."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.protobuf.message import Message

from creditgate.v1 import resources_pb2 as rs
from creditgate_server.core import results as r
from creditgate_server.core.commands import Job, Kind
from creditgate_server.core.prices import Price, Rounding
from creditgate_server.core.schedule import row_name
from creditgate_server.rpc import checks, messages
from tests.rpc.contract import repeated

_numbers = itertools.count(1)


def numbers(*names: str) -> dict[str, int]:
    """Another number for each name."""
    return dict(zip(names, _numbers, strict=False))


TOTALS = r.Totals(**numbers("seq", "available", "held", "debt", "as_of_ms"))
PRICE = Price(
    rounding=Rounding.HALF_UP,
    unit="image",
    **numbers("flat", "numerator", "denominator", "minimum"),
)
JOB = Job(action="draw", model="small", quantity=next(_numbers), settings=(("size", "big"),))
SLICE = r.Slice(
    bucket_id="pack",
    kind=Kind.TOP_UP,
    **numbers("period", "charged", "returned", "refunded", "amount"),
)
HOLD = r.Hold(
    account_id="ann",
    hold_id="job",
    member_id="bob",
    job=JOB,
    state=r.HoldState.EXPIRED,
    settled_late=True,
    price=PRICE,
    catalog_version="v",
    slices=(SLICE,),
    **numbers("amount", "held", "charged", "refunded", "overdrawn"),
    **numbers("authorized_ms", "deadline_ms", "ended_ms"),
)
BUCKET = r.Bucket(
    bucket_id="daily",
    kind=Kind.FREE,
    ended=True,
    frozen=True,
    recurring=True,
    actions=("draw",),
    models=("small",),
    **numbers("period", "granted", "available", "held", "spent", "expired", "voided"),
    **numbers("ends_ms", "granted_ms"),
)
RESETS = {row_name(BUCKET.bucket_id, BUCKET.period): 7_000}


def written(kind: type[Message], write: Callable[..., None], *what: Any) -> Message:
    """A message with what was written into it."""
    message = kind()
    write(message, *what)
    return message


WRITTEN: dict[str, tuple[Message, Any]] = {
    "totals": (written(rs.Totals, messages.write_totals, "ann", TOTALS), TOTALS),
    "price": (written(rs.Price, messages.write_price, PRICE), PRICE),
    "hold": (written(rs.Hold, messages.write_hold, HOLD), HOLD),
    "slice": (written(rs.Hold, messages.write_hold, HOLD).slices[0], SLICE),  # type: ignore[attr-defined]
    "job": (written(rs.Hold, messages.write_hold, HOLD).job, JOB),  # type: ignore[attr-defined]
    "bucket": (written(rs.Bucket, messages.write_bucket, BUCKET, RESETS), BUCKET),
}

ENUMS = {"kind": "KIND_", "state": "HOLD_STATE_", "rounding": "ROUNDING_"}
RENAMED = {
    "rate_numerator": "numerator",
    "rate_denominator": "denominator",
    "authorized_at": "authorized_ms",
    "deadline": "deadline_ms",
    "ended_at": "ended_ms",
    "ends_at": "ends_ms",
    "granted_at": "granted_ms",
    "as_of": "as_of_ms",
}
ELSEWHERE = {"totals": {"account_id"}, "bucket": {"next_reset_at"}}


def plain(message: Message) -> Iterator[tuple[str, Any]]:
    """The fields that are set, as the core would name and hold them; messages of ours are not."""
    for field, value in message.ListFields():
        if field.name in ENUMS:
            assert field.enum_type is not None
            yield field.name, field.enum_type.values_by_number[value].name
        elif field.message_type is None:
            yield (
                RENAMED.get(field.name, field.name),
                (tuple(value) if repeated(field) else value),
            )
        elif field.message_type.full_name == "google.protobuf.Timestamp":
            yield RENAMED.get(field.name, field.name), value.ToMilliseconds()


@pytest.mark.parametrize("what", WRITTEN)
def test_every_field_says_what_is_meant(what: str) -> None:
    message, found = WRITTEN[what]
    unset = {field.name for field in message.DESCRIPTOR.fields}
    unset -= {field.name for field, _ in message.ListFields()}
    assert unset == set()
    for name, value in plain(message):
        if name in ELSEWHERE.get(what, set()):
            continue
        meant = getattr(found, name)
        assert value == (f"{ENUMS[name]}{meant.name}" if name in ENUMS else meant), name


def test_an_account_and_a_reset_are_those_that_were_given() -> None:
    totals, _ = WRITTEN["totals"]
    bucket, _ = WRITTEN["bucket"]
    assert isinstance(totals, rs.Totals)
    assert isinstance(bucket, rs.Bucket)
    assert (totals.account_id, bucket.next_reset_at.ToMilliseconds()) == ("ann", 7_000)


def test_a_job_seen_before_is_the_same_job() -> None:
    message = rs.Job(action="draw", model="small", settings={"b": "2", "a": "1"})
    job = Job("draw", "small", 1, (("a", "1"), ("b", "2")))
    assert [checks.job(message, "job") for _ in range(2)] == [job, job]
    message.quantity = 2
    assert checks.job(message, "job") == job._replace(quantity=2)


def test_a_job_of_many_bytes_is_not_remembered() -> None:
    message = rs.Job(action="draw")
    # A field that nobody knows.
    message.MergeFromString(b"\xfa\x7f\x80\x08" + bytes(checks.JOB_BYTES_KNOWN))
    checks.known_job.cache_clear()
    assert checks.job(message, "job") == Job("draw")
    assert checks.known_job.cache_info().currsize == 0
