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
    CancelSubscriptionRequest,
    CancelSubscriptionResponse,
    ChangePlanRequest,
    ChangePlanResponse,
    ExplainRequest,
    ExplainResponse,
    ForecastRequest,
    ForecastResponse,
    FreezeRequest,
    FreezeResponse,
    GetAccountRequest,
    GetAccountResponse,
    GetUsageRequest,
    GetUsageResponse,
    GrantCreditsRequest,
    GrantCreditsResponse,
    ListLedgerRequest,
    ListLedgerResponse,
    PurchaseTopUpRequest,
    PurchaseTopUpResponse,
    PutAccountRequest,
    PutAccountResponse,
    SetAddOnsRequest,
    SetAddOnsResponse,
    SetMemberLimitRequest,
    SetMemberLimitResponse,
    SubscribeRequest,
    SubscribeResponse,
    UnfreezeRequest,
    UnfreezeResponse,
    VoidBucketRequest,
    VoidBucketResponse,
    When,
)
from creditgate.v1.catalog_pb2 import (
    GetCatalogRequest,
    GetCatalogResponse,
    ListPricesRequest,
    ListPricesResponse,
    ReloadCatalogRequest,
    ReloadCatalogResponse,
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
from creditgate.v1.test_clock_pb2 import (
    AdvanceRequest,
    AdvanceResponse,
    GetTimeRequest,
    GetTimeResponse,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "Call",
    "Seconds",
    "advance",
    "authorize",
    "cancel_subscription",
    "change_plan",
    "charge",
    "execute",
    "explain",
    "extend",
    "forecast",
    "freeze",
    "get_account",
    "get_balance",
    "get_catalog",
    "get_hold",
    "get_time",
    "get_usage",
    "grant_credits",
    "list_holds",
    "list_ledger",
    "list_prices",
    "planned",
    "purchase_top_up",
    "put_account",
    "quote",
    "refund",
    "reload_catalog",
    "set_add_ons",
    "set_member_limit",
    "settle",
    "subscribe",
    "unfreeze",
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
    quoted_version: str = "",
    quoted_amount: int | None = None,
    or_raise: bool = False,
) -> Call[AuthorizeResponse]:
    """Set the price of a job aside, until it is settled, refunded or its deadline passes.

    A denial is an answer: look at `decision`, pass the answer through `raise_for_denial`, or say
    `or_raise`. `hold_id` is your id of the job. `quantity` counts the price's unit (default 1).
    The hold stands `ttl` (default: the action's) unless extended. `max_amount` denies rather than
    pay more. A quote (its `catalog_version` and `amount`) is kept as long as it binds, and denied
    rather than exceeded after that. For a job that runs in this process take `hold()`, which
    settles, refunds and extends by itself.
    """
    request = AuthorizeRequest(
        **_given(
            account_id=account_id,
            hold_id=hold_id,
            job=_job(action, model, quantity, settings),
            ttl=_duration(ttl),
            max_amount=max_amount,
            member_id=member_id,
            quoted_version=quoted_version,
            quoted_amount=quoted_amount,
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


def subscribe(
    account_id: str,
    reference: str,
    plan_id: str,
    *,
    seats: int = 0,
    anchor: datetime | None = None,
    paid_through: datetime | None = None,
    allowances: Mapping[str, int] | None = None,
    occurred_at: datetime | None = None,
) -> Call[SubscribeResponse]:
    """Put an account on a plan, or move what an existing subscription is paid through.

    `reference` is your id of the event, such as the invoice's: it is applied once, however often it
    is sent. Its periods are counted from `anchor` (default: now). Without `paid_through` it runs
    until it is cancelled. `allowances` are those of a contract, by the name of the plan's grant.
    `occurred_at` puts events in order that arrive out of it.
    """
    request = SubscribeRequest(
        **_given(
            account_id=account_id,
            reference=reference,
            plan_id=plan_id,
            seats=seats,
            anchor=_timestamp(anchor),
            paid_through=_timestamp(paid_through),
            allowances=None if allowances is None else dict(allowances),
            occurred_at=_timestamp(occurred_at),
        )
    )
    return Call(request)


def change_plan(
    account_id: str,
    reference: str,
    *,
    plan_id: str = "",
    seats: int = 0,
    when: When.ValueType | str = When.WHEN_UNSPECIFIED,
    occurred_at: datetime | None = None,
) -> Call[ChangePlanResponse]:
    """Change the plan or the seats of a subscription; what is left out stays as it is.

    `when` is NOW or PERIOD_END; unless given, what is more counts now and what is less later.
    """
    request = ChangePlanRequest(
        **_given(
            account_id=account_id,
            reference=reference,
            plan_id=plan_id,
            seats=seats,
            when=_enum(When, "WHEN_", when),
            occurred_at=_timestamp(occurred_at),
        )
    )
    return Call(request)


def cancel_subscription(
    account_id: str,
    reference: str,
    *,
    when: When.ValueType | str = When.WHEN_UNSPECIFIED,
    occurred_at: datetime | None = None,
) -> Call[CancelSubscriptionResponse]:
    """End a subscription: at the end of its period, or NOW."""
    request = CancelSubscriptionRequest(
        **_given(
            account_id=account_id,
            reference=reference,
            when=_enum(When, "WHEN_", when),
            occurred_at=_timestamp(occurred_at),
        )
    )
    return Call(request)


def purchase_top_up(
    account_id: str, payment_ref: str, pack_amount: int, *, or_raise: bool = False
) -> Call[PurchaseTopUpResponse]:
    """Sell a pack of the catalog, once for each `payment_ref`.

    A denial is an answer, as that of `authorize`: the account's plan may not buy. Then the money
    goes back.
    """
    request = PurchaseTopUpRequest(
        account_id=account_id, payment_ref=payment_ref, pack_amount=pack_amount
    )
    return Call(request, or_raise)


def set_add_ons(
    account_id: str,
    reference: str,
    add_on_id: str,
    units: int,
    *,
    occurred_at: datetime | None = None,
) -> Call[SetAddOnsResponse]:
    """Set how many units of an add-on there are in all: more count now, fewer from next period."""
    request = SetAddOnsRequest(
        **_given(
            account_id=account_id,
            reference=reference,
            add_on_id=add_on_id,
            units=units,
            occurred_at=_timestamp(occurred_at),
        )
    )
    return Call(request)


def set_member_limit(
    account_id: str, *, member_id: str = "", amount: int | None = None
) -> Call[SetMemberLimitResponse]:
    """Limit what a member may draw in a period; None lifts it.

    Without `member_id` it is the limit of each member that has none of its own.
    """
    request = SetMemberLimitRequest(
        **_given(account_id=account_id, member_id=member_id, amount=amount)
    )
    return Call(request)


def freeze(account_id: str) -> Call[FreezeResponse]:
    """Deny new holds of an account. Open ones finish."""
    return Call(FreezeRequest(account_id=account_id))


def unfreeze(account_id: str) -> Call[UnfreezeResponse]:
    """Allow new holds of an account again."""
    return Call(UnfreezeRequest(account_id=account_id))


def get_usage(
    account_id: str,
    *,
    from_: datetime | None = None,
    until: datetime | None = None,
    action: str = "",
    model: str = "",
) -> Call[GetUsageResponse]:
    """Add up what was charged by day, action and model; unless given, in the last 30 days."""
    request = GetUsageRequest(
        **_given(
            **{"account_id": account_id, "from": _timestamp(from_)},
            until=_timestamp(until),
            action=action,
            model=model,
        )
    )
    return Call(request)


def planned(
    times: int,
    *,
    action: str,
    model: str = "",
    quantity: int | None = None,
    settings: Mapping[str, str] | None = None,
) -> ForecastRequest.Planned:
    """Say what is run how often in a month, for `forecast`."""
    return ForecastRequest.Planned(job=_job(action, model, quantity, settings), times=times)


def forecast(
    planned: Iterable[ForecastRequest.Planned], *, buffer_percent: int | None = None
) -> Call[ForecastResponse]:
    """Estimate what a month of jobs costs, and which plans cover it.

    ```python
    from creditgate.calls import planned

    client.forecast([planned(660, action="image.generate"), planned(220, action="video.generate")])
    ```
    """
    request = ForecastRequest(**_given(planned=list(planned), buffer_percent=buffer_percent))
    return Call(request)


def explain(account_id: str) -> Call[ExplainResponse]:
    """Tell in sentences why a balance is what it is, and why the last request was denied."""
    return Call(ExplainRequest(account_id=account_id))


# Catalog


def get_catalog() -> Call[GetCatalogResponse]:
    """Show the catalog in force, without its prices."""
    return Call(GetCatalogRequest())


def list_prices(*, action: str = "") -> Call[ListPricesResponse]:
    """List the prices in force, of one action or of all."""
    return Call(ListPricesRequest(action=action))


def reload_catalog() -> Call[ReloadCatalogResponse]:
    """Have the catalog's file read again. With `problems` in the answer, the old one stays."""
    return Call(ReloadCatalogRequest())


# Test clock


def get_time() -> Call[GetTimeResponse]:
    """Tell the time that accounts live by. Only a server in developer mode has this method."""
    return Call(GetTimeRequest())


def advance(*, by: Seconds | None = None, until: datetime | None = None) -> Call[AdvanceResponse]:
    """Move the time forward, `by` so much or `until` a moment. Only in developer mode."""
    _one_of(by=by, until=until)
    return Call(AdvanceRequest(**_given(by=_duration(by), until=_timestamp(until))))


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
