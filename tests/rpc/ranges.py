"""What each field of each request may be, as the comments of the contract promise it.

Written by hand from the comments, and complete: a test compares it with the descriptors.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.message import Message

from creditgate.v1 import resources_pb2 as rs

INT32_MAX, INT64_MAX = 2**31 - 1, 2**63 - 1
AMOUNT_MAX = 2**53 - 1
QUANTITY_MAX = 1_000_000_000
DAY_S = 86_400

LONGEST = "x" * 128
NO_IDS = (
    "x" * 129,
    "{a}",
    "a\nb",
    "a\n",
    "a/b",
    "a b",
    "a\0b",
    "a*b",
    "a,b",
    "a=b",
    "a;b",
    "ä",
    "٣",
    "/",
)
# Words that mean something to stores, scripts and shells, and are ids like any other.
ODD_IDS = (
    LONGEST,
    "0",
    "-1",
    "nan",
    "0x10",
    "..",
    "a:b",
    "state",
    "h:a",
    "-",
    "--help",
    "0-0",
    "1e3",
)


class Range(Protocol):
    """Values that a field refuses and values that it takes. A value is set by `put`."""

    def refused(self) -> Iterator[tuple[Any, str]]:
        """Each with what is appended to the field's name in the fault."""
        ...

    def taken(self) -> Iterator[Any]:
        """The boundary on the side of what is allowed."""
        ...


@dataclass(frozen=True)
class Id:
    """An id, which may be left out or not."""

    required: bool = True

    def refused(self) -> Iterator[tuple[Any, str]]:
        yield from ((value, "") for value in NO_IDS)
        if self.required:
            yield "", ""

    def taken(self) -> Iterator[Any]:
        yield from ODD_IDS
        if not self.required:
            yield ""


@dataclass(frozen=True)
class BucketId(Id):
    """Like an id; those of buckets that creditgate made have a slash."""

    def refused(self) -> Iterator[tuple[Any, str]]:
        yield from (pair for pair in super().refused() if pair[0] != "a/b")
        yield from ((value, "") for value in ("a/", "/a", "a/b/c", "a//b", "compensation/{}"))

    def taken(self) -> Iterator[Any]:
        yield from super().taken()
        yield from ("compensation/1", f"{LONGEST}/{LONGEST}")

    def __post_init__(self) -> None:
        assert self.required


@dataclass(frozen=True)
class Whole:
    """A whole number from `low` to `high`."""

    low: int
    high: int
    bits: int = 64

    def refused(self) -> Iterator[tuple[Any, str]]:
        most = 2 ** (self.bits - 1) - 1
        beyond = {
            self.low - 1,
            self.high + 1,
            -1,
            most,
            -most - 1,
            2**53 if self.bits > 32 else most,
        }
        yield from ((value, "") for value in sorted(beyond) if not self.low <= value <= self.high)

    def taken(self) -> Iterator[Any]:
        yield from (self.low, self.high)


@dataclass(frozen=True)
class Word:
    """A number of an enum."""

    allowed: frozenset[int]

    def refused(self) -> Iterator[tuple[Any, str]]:
        numbers = {*range(-1, 10), 99, INT32_MAX, -INT32_MAX - 1}
        yield from ((number, "") for number in sorted(numbers - self.allowed))

    def taken(self) -> Iterator[Any]:
        yield from sorted(self.allowed)


@dataclass(frozen=True)
class Length:
    """A duration, in seconds from `low` to `high`."""

    low: int
    high: int

    def refused(self) -> Iterator[tuple[Any, str]]:
        yield from (({"seconds": s}, "") for s in (0, -1, self.low - 1, self.high + 1))
        yield from (({"seconds": s}, "") for s in (INT64_MAX, -INT64_MAX - 1, 315_576_000_001))
        yield from (
            ({"seconds": 60, "nanos": n}, "") for n in (-1, 10**9, INT32_MAX, -INT32_MAX - 1)
        )
        yield {"seconds": 0, "nanos": 999_999_999}, ""
        yield {"seconds": self.high, "nanos": 1_000_000}, ""

    def taken(self) -> Iterator[Any]:
        yield from ({"seconds": s} for s in (self.low, self.high))
        yield {"seconds": self.low, "nanos": 999_999_999}


@dataclass(frozen=True)
class FutureInstant:
    """A time that lies in the future, up to the year 9999."""

    def refused(self) -> Iterator[tuple[Any, str]]:
        seconds = (0, 1, -1, 253_402_300_800, INT64_MAX, -INT64_MAX - 1)
        yield from (({"seconds": s}, "") for s in seconds)
        nanos = (-1, 10**9, INT32_MAX, -INT32_MAX - 1)
        yield from (({"seconds": 4_000_000_000, "nanos": n}, "") for n in nanos)

    def taken(self) -> Iterator[Any]:
        yield from ({"seconds": s, "nanos": 999_999_999} for s in (4_000_000_000, 253_402_300_799))


@dataclass(frozen=True)
class Instant:
    """A time since 1970, before `before` in seconds."""

    before: int = 253_402_300_800

    def refused(self) -> Iterator[tuple[Any, str]]:
        seconds = (0, -1, self.before, INT64_MAX, -INT64_MAX - 1)
        yield from (({"seconds": s}, "") for s in seconds)
        nanos = (-1, 10**9, INT32_MAX, -INT32_MAX - 1)
        yield from (({"seconds": 1_000_000_000, "nanos": n}, "") for n in nanos)

    def taken(self) -> Iterator[Any]:
        yield from ({"seconds": s, "nanos": 999_999_999} for s in (1, self.before - 1))


@dataclass(frozen=True)
class Numbers:
    """Amounts by name."""

    most: int

    def refused(self) -> Iterator[tuple[Any, str]]:
        yield from (({value: 1}, "") for value in (*NO_IDS, ""))
        yield from (({"base": n}, "[base]") for n in (-1, 2**53, INT64_MAX, -INT64_MAX - 1))
        yield {f"name-{n}": 1 for n in range(self.most + 1)}, ""

    def taken(self) -> Iterator[Any]:
        yield {}
        yield from ({"base": n} for n in (0, AMOUNT_MAX))


@dataclass(frozen=True)
class Plans:
    """What is planned for a month; its items are tried by their fields."""

    most: int

    def refused(self) -> Iterator[tuple[Any, str]]:
        yield [], ""
        yield [{"job": {"action": "one"}, "times": 1}] * (self.most + 1), ""

    def taken(self) -> Iterator[Any]:
        yield [{"job": {"action": "one"}, "times": 1}] * self.most


@dataclass(frozen=True)
class Ids:
    """A list of ids."""

    most: int

    def refused(self) -> Iterator[tuple[Any, str]]:
        yield from ((["a", value], "[1]") for value in (*NO_IDS, ""))
        yield [f"id-{n}" for n in range(self.most + 1)], ""
        yield [f"id-{n}" for n in range(5_000)], ""

    def taken(self) -> Iterator[Any]:
        yield [f"id-{n}" for n in range(self.most)]
        yield [LONGEST]
        yield ["same", "same"]
        yield []


@dataclass(frozen=True)
class Pairs:
    """Settings: ids by ids."""

    most: int

    def refused(self) -> Iterator[tuple[Any, str]]:
        yield from (({value: "a"}, "") for value in (*NO_IDS, ""))
        yield from (({"a": value}, "[a]") for value in (*NO_IDS, ""))
        yield {f"name-{n}": "a" for n in range(self.most + 1)}, ""
        yield {f"name-{n}": "a" for n in range(2_000)}, ""

    def taken(self) -> Iterator[Any]:
        yield {f"name-{n}": LONGEST for n in range(self.most)}
        yield {}


@dataclass(frozen=True)
class Zone:
    """An IANA time zone, or nothing."""

    def refused(self) -> Iterator[tuple[Any, str]]:
        names = ("Europe/Nowhere", "europe/berlin", "Europe", "Europe/", "/etc/passwd", "../etc")
        yield from ((name, "") for name in names)
        # Zones of one machine, and zones with other seconds: beside the list, not on it.
        yield from ((name, "") for name in ("localtime", "posixrules", "right/UTC", "posix/UTC"))
        yield from (
            (name, "") for name in (" ", "U\0TC", "UTC\n", "x" * 129, "x" * 5000, "Ä", "{a}")
        )

    def taken(self) -> Iterator[Any]:
        yield from ("", "UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+12")


@dataclass(frozen=True)
class Token:
    """What a page before gave, or nothing."""

    wrong: tuple[str, ...]

    def refused(self) -> Iterator[tuple[Any, str]]:
        words = (
            "a",
            "-",
            "1 ",
            " 1",
            "1\n",
            "-1",
            "{a}",
            "1.5",
            "0x10",
            "1e3",
            "٣",
            "9" * 21,
            "9" * 129,
        )
        yield from ((word, "") for word in (*words, *self.wrong))

    def taken(self) -> Iterator[Any]:
        yield ""


@dataclass(frozen=True)
class Anything:
    """Every value that the type has."""

    def refused(self) -> Iterator[tuple[Any, str]]:
        yield from ()

    def taken(self) -> Iterator[Any]:
        yield from (False, True)


@dataclass(frozen=True)
class Inner:
    """A message whose fields are in this table too; left out, `missing` is what is named."""

    missing: str

    def refused(self) -> Iterator[tuple[Any, str]]:
        yield None, self.missing

    def taken(self) -> Iterator[Any]:
        yield from ()


@dataclass(frozen=True)
class Operations:
    """The list of Execute; its items are tried one by one elsewhere."""

    most: int

    def refused(self) -> Iterator[tuple[Any, str]]:
        yield [], ""
        yield [{"get_balance": {"account_id": "a"}}] * (self.most + 1), ""

    def taken(self) -> Iterator[Any]:
        yield [{"get_balance": {"account_id": "a"}}] * self.most


ACCOUNT = HOLD = Id()
AMOUNT = Whole(0, AMOUNT_MAX)
PAGE = Whole(0, 1_000, bits=32)
SEATS = Whole(0, 1_000_000)
WHEN = Word(frozenset({0, 1, 2}))
TTL = Length(1, 366 * DAY_S)
ENTRY_TOKEN = Token(("1", "1-1-1", "18446744073709551616-0", "0-18446744073709551616"))

RANGES: dict[str, Range] = {
    "Job.action": Id(),
    "Job.model": Id(required=False),
    "Job.quantity": Whole(1, QUANTITY_MAX),
    "Job.settings": Pairs(16),
    "QuoteRequest.account_id": ACCOUNT,
    "QuoteRequest.job": Inner(".action"),
    "AuthorizeRequest.account_id": ACCOUNT,
    "AuthorizeRequest.hold_id": HOLD,
    "AuthorizeRequest.job": Inner(".action"),
    "AuthorizeRequest.ttl": TTL,
    "AuthorizeRequest.max_amount": AMOUNT,
    "AuthorizeRequest.member_id": Id(required=False),
    "AuthorizeRequest.quoted_version": Id(required=False),
    "AuthorizeRequest.quoted_amount": AMOUNT,
    "ExtendRequest.account_id": ACCOUNT,
    "ExtendRequest.hold_id": HOLD,
    "ExtendRequest.ttl": TTL,
    "ExtendRequest.amount": AMOUNT,
    "ExtendRequest.quantity": Whole(1, QUANTITY_MAX),
    "SettleRequest.account_id": ACCOUNT,
    "SettleRequest.hold_id": HOLD,
    "SettleRequest.operation_id": Id(required=False),
    "SettleRequest.amount": AMOUNT,
    "SettleRequest.quantity": Whole(0, QUANTITY_MAX),
    "SettleRequest.partial": Anything(),
    "RefundRequest.account_id": ACCOUNT,
    "RefundRequest.hold_id": HOLD,
    "RefundRequest.operation_id": Id(required=False),
    "RefundRequest.amount": Whole(1, AMOUNT_MAX),
    "RefundRequest.reason": Word(frozenset({0, 1, 2})),
    "ChargeRequest.account_id": ACCOUNT,
    "ChargeRequest.hold_id": HOLD,
    "ChargeRequest.job": Inner(".action"),
    "ChargeRequest.max_amount": AMOUNT,
    "ChargeRequest.member_id": Id(required=False),
    "GetHoldRequest.account_id": ACCOUNT,
    "GetHoldRequest.hold_id": HOLD,
    "ListHoldsRequest.account_id": ACCOUNT,
    "ListHoldsRequest.page_size": PAGE,
    "ListHoldsRequest.page_token": Token(("1-1", "18446744073709551616")),
    "GetBalanceRequest.account_id": ACCOUNT,
    "GetBalanceRequest.action": Id(required=False),
    "GetBalanceRequest.model": Id(required=False),
    "ExecuteRequest.operations": Operations(1_000),
    "PutAccountRequest.account_id": ACCOUNT,
    "PutAccountRequest.zone": Zone(),
    "GetAccountRequest.account_id": ACCOUNT,
    "SubscribeRequest.account_id": ACCOUNT,
    "SubscribeRequest.reference": Id(),
    "SubscribeRequest.plan_id": Id(),
    "SubscribeRequest.seats": SEATS,
    "SubscribeRequest.anchor": Instant(221_845_392_000),
    "SubscribeRequest.paid_through": Instant(221_845_392_000),
    "SubscribeRequest.allowances": Numbers(32),
    "SubscribeRequest.occurred_at": Instant(),
    "ChangePlanRequest.account_id": ACCOUNT,
    "ChangePlanRequest.reference": Id(),
    "ChangePlanRequest.plan_id": Id(required=False),
    "ChangePlanRequest.seats": SEATS,
    "ChangePlanRequest.when": WHEN,
    "ChangePlanRequest.occurred_at": Instant(),
    "CancelSubscriptionRequest.account_id": ACCOUNT,
    "CancelSubscriptionRequest.reference": Id(),
    "CancelSubscriptionRequest.when": WHEN,
    "CancelSubscriptionRequest.occurred_at": Instant(),
    "PurchaseTopUpRequest.account_id": ACCOUNT,
    "PurchaseTopUpRequest.payment_ref": Id(),
    "PurchaseTopUpRequest.pack_amount": Whole(1, AMOUNT_MAX),
    "SetAddOnsRequest.account_id": ACCOUNT,
    "SetAddOnsRequest.reference": Id(),
    "SetAddOnsRequest.add_on_id": Id(),
    "SetAddOnsRequest.units": SEATS,
    "SetAddOnsRequest.occurred_at": Instant(),
    "SetMemberLimitRequest.account_id": ACCOUNT,
    "SetMemberLimitRequest.member_id": Id(required=False),
    "SetMemberLimitRequest.amount": AMOUNT,
    "FreezeRequest.account_id": ACCOUNT,
    "UnfreezeRequest.account_id": ACCOUNT,
    "GetUsageRequest.account_id": ACCOUNT,
    "GetUsageRequest.from": Instant(),
    "GetUsageRequest.until": Instant(),
    "GetUsageRequest.action": Id(required=False),
    "GetUsageRequest.model": Id(required=False),
    "ForecastRequest.planned": Plans(100),
    "ForecastRequest.buffer_percent": Whole(0, 100, bits=32),
    "Planned.job": Inner(".action"),
    "Planned.times": Whole(1, 1_000_000),
    "ExplainRequest.account_id": ACCOUNT,
    "GrantCreditsRequest.account_id": ACCOUNT,
    "GrantCreditsRequest.source_ref": Id(),
    "GrantCreditsRequest.kind": Word(frozenset(range(1, rs.KIND_COMPENSATION))),
    "GrantCreditsRequest.amount": Whole(1, AMOUNT_MAX),
    "GrantCreditsRequest.ends_at": FutureInstant(),
    "GrantCreditsRequest.actions": Ids(32),
    "GrantCreditsRequest.models": Ids(32),
    "VoidBucketRequest.account_id": ACCOUNT,
    "VoidBucketRequest.bucket_id": BucketId(),
    "ListLedgerRequest.account_id": ACCOUNT,
    "ListLedgerRequest.page_size": PAGE,
    "ListLedgerRequest.page_token": ENTRY_TOKEN,
    "ListPricesRequest.action": Id(required=False),
}


def put(message: Message, path: str, value: Any) -> None:
    """Set a field, which may stand in an inner message, to any value that protobuf can carry."""
    *outer, name = path.split(".")
    for step in outer:
        # "planned[0]" is the first of a list.
        step, _, index = step.partition("[")  # noqa: PLW2901 - the same step
        inner = getattr(message, step)
        message = inner[int(index.removesuffix("]"))] if index else inner
    message.ClearField(name)
    if value is None:
        return
    if isinstance(value, (list, dict)) or message.DESCRIPTOR.fields_by_name[name].message_type:
        message.MergeFrom(type(message)(**{name: value}))
    else:
        setattr(message, name, value)
