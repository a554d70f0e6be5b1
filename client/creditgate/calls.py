"""One function per method of the contract: it takes plain Python and gives the call to be made.

`Client` and `AsyncClient` have a method of the same name and the same arguments for each of these.
Use them directly to put several operations into one `execute`, or to keep a call for later:

```python
from creditgate import calls

client.execute([
    calls.authorize("acct-1", "job-1", action="image.generate", model="recraft-v3"),
    calls.authorize("acct-2", "job-2", action="image.generate", model="recraft-v3"),
])
```

Amounts are whole numbers of the catalog's smallest unit. Times to live are seconds or a
`timedelta`. `None` means that the field is not sent; what the server does then is said at each
argument. Ids are yours, match `[A-Za-z0-9_.:-]{1,128}`, and make every call safe to send again.
"""

# ruff: noqa: PLR0913 - The arguments are the fields of the contract, and a field takes what
# protobuf takes.

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from creditgate._methods import Method, method_of
from creditgate.v1.accounts_pb2 import (
    GetAccountRequest,
    GetAccountResponse,
    GrantCreditsRequest,
    GrantCreditsResponse,
    ListLedgerRequest,
    ListLedgerResponse,
    PutAccountRequest,
    PutAccountResponse,
    VoidBucketRequest,
    VoidBucketResponse,
)
from creditgate.v1.catalog_pb2 import (
    GetCatalogRequest,
    GetCatalogResponse,
    ListPricesRequest,
    ListPricesResponse,
)
from creditgate.v1.credits_pb2 import (
    AuthorizeRequest,
    AuthorizeResponse,
    ChargeRequest,
    ChargeResponse,
    ExecuteRequest,
    ExecuteResponse,
    ExtendRequest,
    ExtendResponse,
    GetBalanceRequest,
    GetBalanceResponse,
    GetHoldRequest,
    GetHoldResponse,
    ListHoldsRequest,
    ListHoldsResponse,
    Operation,
    QuoteRequest,
    QuoteResponse,
    RefundReason,
    RefundRequest,
    RefundResponse,
    SettleRequest,
    SettleResponse,
)
from creditgate.v1.resources_pb2 import Job, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "Call",
    "Seconds",
    "authorize",
    "charge",
    "execute",
    "extend",
    "get_account",
    "get_balance",
    "get_catalog",
    "get_hold",
    "grant_credits",
    "list_holds",
    "list_ledger",
    "list_prices",
    "put_account",
    "quote",
    "refund",
    "settle",
    "void_bucket",
]

R_co = TypeVar("R_co", bound=Message, covariant=True)

Seconds = timedelta | float
"""A time to live: seconds, or a timedelta."""


@dataclass(frozen=True)
class Call(Generic[R_co]):
    """A request on its way to its method; the type parameter is the answer's type.

    `client.call(call)` makes it, as often as you like with the same effect. An `OutcomeUnknown`
    carries the call that is to be made again. It pickles.
    """

    request: Message
    or_raise: bool = False
    """Whether a denial is raised as `Denied` instead of being returned."""
    method: Method = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", method_of(self.request))

    def __reduce__(self) -> tuple[Any, ...]:
        return Call, (self.request, self.or_raise)


# Credits


def quote(
    account_id: str,
    *,
    action: str,
    model: str = "",
    quantity: int | None = None,
    settings: Mapping[str, str] | None = None,
) -> Call[QuoteResponse]:
    """Tell the exact price of a job and whether the account could pay it. Nothing is set aside."""
    return Call(QuoteRequest(account_id=account_id, job=_job(action, model, quantity, settings)))


def authorize(
    account_id: str,
    hold_id: str,
    *,
    action: str,
    model: str = "",
    quantity: int | None = None,
    settings: Mapping[str, str] | None = None,
    ttl: Seconds | None = None,
    max_amount: int | None = None,
    member_id: str = "",
    or_raise: bool = False,
) -> Call[AuthorizeResponse]:
    """Set the price of a job aside, until it is settled, refunded or its deadline passes.

    A denial is an answer: look at `decision`, pass the answer through `raise_for_denial`, or say
    `or_raise`. `hold_id` is your id of the job. `quantity` counts the price's unit (default 1).
    The hold stands `ttl` (default: the action's) unless extended. `max_amount` denies rather than
    pay more. For a job that runs in this process take `hold()`, which settles, refunds and
    extends by itself.
    """
    request = AuthorizeRequest(
        **_given(
            account_id=account_id,
            hold_id=hold_id,
            job=_job(action, model, quantity, settings),
            ttl=_duration(ttl),
            max_amount=max_amount,
            member_id=member_id,
        )
    )
    return Call(request, or_raise)


def extend(
    account_id: str,
    hold_id: str,
    *,
    ttl: Seconds | None = None,
    amount: int | None = None,
    quantity: int | None = None,
    or_raise: bool = False,
) -> Call[ExtendResponse]:
    """Move the deadline of an open hold to `ttl` from now, and raise the hold if a total is given.

    `amount` (credits) or `quantity` (units of the pinned price) is the new total, not a
    difference. A raise may be denied; then nothing has changed.
    """
    _one_of(amount=amount, quantity=quantity)
    request = ExtendRequest(
        **_given(
            account_id=account_id,
            hold_id=hold_id,
            ttl=_duration(ttl),
            amount=amount,
            quantity=quantity,
        )
    )
    return Call(request, or_raise)


def settle(
    account_id: str,
    hold_id: str,
    *,
    amount: int | None = None,
    quantity: int | None = None,
    partial: bool = False,
    operation_id: str = "",
) -> Call[SettleResponse]:
    """Take what was delivered and return the rest.

    `amount` (credits) or `quantity` (3 of 4 images); neither: all that is held. 0 is allowed and
    takes nothing. `partial` keeps the rest held for settles that follow, and needs an
    `operation_id` of yours. Look at `shortfall` in the answer: it is the part that could not be
    taken.
    """
    _one_of(amount=amount, quantity=quantity)
    if partial and not operation_id:
        raise TypeError(
            "a partial settle needs an operation_id, the same one whenever it is sent again"
        )
    request = SettleRequest(
        **_given(
            account_id=account_id,
            hold_id=hold_id,
            amount=amount,
            quantity=quantity,
            partial=partial,
            operation_id=operation_id,
        )
    )
    return Call(request)


def refund(
    account_id: str,
    hold_id: str,
    *,
    amount: int | None = None,
    reason: RefundReason.ValueType | str = RefundReason.REFUND_REASON_FAILED,
    operation_id: str = "",
) -> Call[RefundResponse]:
    """Give back: all that an open hold has set aside, or up to what a settled hold has taken.

    `amount` is for settled holds only and needs an `operation_id` of yours; without it everything
    is given back. `reason` is FAILED (the platform did not deliver) or CANCELLED (the user did
    not want it any more); it decides what becomes of credits whose bucket has ended.
    """
    if amount is not None and not operation_id:
        raise TypeError(
            "a refund of an amount needs an operation_id, the same one whenever it is sent again"
        )
    request = RefundRequest(
        **_given(
            account_id=account_id,
            hold_id=hold_id,
            amount=amount,
            reason=_enum(RefundReason, "REFUND_REASON_", reason),
            operation_id=operation_id,
        )
    )
    return Call(request)


def charge(
    account_id: str,
    hold_id: str,
    *,
    action: str,
    model: str = "",
    quantity: int | None = None,
    settings: Mapping[str, str] | None = None,
    max_amount: int | None = None,
    member_id: str = "",
    or_raise: bool = False,
) -> Call[ChargeResponse]:
    """Authorize and settle in one step, for jobs that are over at once.

    A denial is an answer: look at `decision`, pass the answer through `raise_for_denial`, or say
    `or_raise`.
    """
    request = ChargeRequest(
        **_given(
            account_id=account_id,
            hold_id=hold_id,
            job=_job(action, model, quantity, settings),
            max_amount=max_amount,
            member_id=member_id,
        )
    )
    return Call(request, or_raise)


def get_hold(account_id: str, hold_id: str) -> Call[GetHoldResponse]:
    """Show one hold, open or ended."""
    return Call(GetHoldRequest(account_id=account_id, hold_id=hold_id))


def list_holds(
    account_id: str, *, page_size: int = 0, page_token: str = ""
) -> Call[ListHoldsResponse]:
    """Show one page of the open holds of an account; `holds()` goes through all of them."""
    return Call(ListHoldsRequest(account_id=account_id, page_size=page_size, page_token=page_token))


def get_balance(account_id: str, *, action: str = "", model: str = "") -> Call[GetBalanceResponse]:
    """Show what an account has, by bucket; `payable` counts what may pay this action and model."""
    return Call(GetBalanceRequest(account_id=account_id, action=action, model=model))


def execute(operations: Iterable[Call[Any] | Message]) -> Call[ExecuteResponse]:
    """Run many operations in one call, each for itself; those on one account in the order given.

    Give calls of this module (or request messages): authorize, extend, settle, refund, charge,
    quote, get_hold, get_balance. `creditgate.answers(response)` gives their answers, faults as
    exceptions.
    """
    return Call(ExecuteRequest(operations=[_operation(each) for each in operations]))


# Accounts


def put_account(account_id: str, *, zone: str = "") -> Call[PutAccountResponse]:
    """Create an account, or change its time zone. An empty zone means UTC, or no change."""
    return Call(PutAccountRequest(account_id=account_id, zone=zone))


def get_account(account_id: str) -> Call[GetAccountResponse]:
    """Show an account."""
    return Call(GetAccountRequest(account_id=account_id))


def grant_credits(
    account_id: str,
    source_ref: str,
    *,
    kind: Kind.ValueType | str,
    amount: int,
    ends_at: datetime | None = None,
    actions: Sequence[str] = (),
    models: Sequence[str] = (),
) -> Call[GrantCreditsResponse]:
    """Put credits on an account, as a bucket of their own.

    `source_ref` is the unique reference of the reason, such as a payment's id: granted once,
    however often it is sent. `kind` is a `Kind` or its name, such as "TOP_UP". Without `ends_at`
    they never expire; with `actions` or `models` they pay only those.
    """
    request = GrantCreditsRequest(
        **_given(
            account_id=account_id,
            source_ref=source_ref,
            kind=_enum(Kind, "KIND_", kind),
            amount=amount,
            ends_at=_timestamp(ends_at),
            actions=_names("actions", actions),
            models=_names("models", models),
        )
    )
    return Call(request)


def void_bucket(account_id: str, bucket_id: str) -> Call[VoidBucketResponse]:
    """Take back what is available in a bucket; what is held in it follows when it comes back."""
    return Call(VoidBucketRequest(account_id=account_id, bucket_id=bucket_id))


def list_ledger(
    account_id: str, *, page_size: int = 0, page_token: str = ""
) -> Call[ListLedgerResponse]:
    """Show one page of an account's changes, the latest first; `ledger()` goes through all."""
    return Call(
        ListLedgerRequest(account_id=account_id, page_size=page_size, page_token=page_token)
    )


# Catalog


def get_catalog() -> Call[GetCatalogResponse]:
    """Show the catalog in force, without its prices."""
    return Call(GetCatalogRequest())


def list_prices(*, action: str = "") -> Call[ListPricesResponse]:
    """List the prices in force, of one action or of all."""
    return Call(ListPricesRequest(action=action))


# From plain Python to fields


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _one_of(**fields: Any) -> None:
    # protobuf keeps the last member of a oneof that is set, and says nothing.
    if len(_given(**fields)) > 1:
        raise TypeError(f"give {' or '.join(fields)}, not both")


def _job(action: str, model: str, quantity: int | None, settings: Mapping[str, str] | None) -> Job:
    return Job(
        **_given(
            action=action,
            model=model,
            quantity=quantity,
            settings=None if settings is None else dict(settings),
        )
    )


def _duration(value: Seconds | None) -> Duration | None:
    if value is None:
        return None
    made = Duration()
    made.FromTimedelta(value if isinstance(value, timedelta) else timedelta(seconds=value))
    return made


def _timestamp(value: datetime | None) -> Timestamp | None:
    if value is None:
        return None
    if value.tzinfo is None:
        # protobuf would take it for UTC, Python for the local zone.
        raise ValueError(f"a moment needs a time zone: {value!r}")
    made = Timestamp()
    made.FromDatetime(value)
    return made


def _enum(enum: Any, prefix: str, value: int | str) -> int:
    if not isinstance(value, str):
        return value
    name = value.upper()
    number: int = enum.Value(name if name.startswith(prefix) else prefix + name)
    return number


def _names(field_name: str, names: Sequence[str]) -> list[str]:
    if isinstance(names, str):
        raise TypeError(f"{field_name} is a list of names, not one name")
    return list(names)


_OPERATIONS: Mapping[Any, str] = {
    each.message_type: each.name for each in Operation.DESCRIPTOR.oneofs_by_name["operation"].fields
}


def _operation(operation: Call[Any] | Message) -> Operation:
    request = operation.request if isinstance(operation, Call) else operation
    try:
        name = _OPERATIONS[type(request).DESCRIPTOR]
    except KeyError:
        raise TypeError(f"{type(request).__name__} cannot be an operation of execute") from None
    made: dict[str, Any] = {name: request}
    return Operation(**made)
