"""What can go wrong, as a tree; each class says what the caller does next.

CreditgateError
├── Denied                    the answer is no; nothing was taken or set aside
│   ├── InsufficientCredits   .missing .remedies
│   ├── UnpricedAction
│   ├── PriceChanged          .amount
│   ├── AccountFrozen
│   ├── PlanRequired          .remedies
│   ├── ActionNotInPlan       .remedies
│   ├── MemberLimit
│   └── ConcurrencyLimit
└── Fault                     the request did not succeed: .reason .outcome .call
    ├── InvalidRequest        .field
    ├── MessageTooLarge       .bytes_max
    ├── NotFound
    │   ├── AccountNotFound
    │   ├── HoldNotFound
    │   ├── BucketNotFound
    │   ├── PlanNotFound      .plan_id
    │   └── AddOnNotFound     .add_on_id
    ├── IdReused              .id
    ├── HoldEnded             .state .charged .refunded
    │   ├── HoldSettled
    │   ├── HoldRefunded
    │   ├── HoldExpired
    │   └── AlreadyRun        .hold
    ├── HoldOpen
    ├── AmountExceedsHold     .held
    ├── RefundExceedsCharge   .refundable
    ├── AmountOverflow
    ├── AddOnNotInPlan        .add_on_id .plan_id
    ├── NotSubscribed         .account_id
    ├── PackNotFound          .pack_amount
    ├── TooManyOperations     .limit
    ├── NotPermitted
    ├── NoSuchMethod
    ├── ServerDefect          .incident
    └── Unavailable           nothing happened; the retries are used up
        └── OutcomeUnknown    it may have happened: make `.call` again

`except Denied` is for the user, `except Unavailable` for the queue, the rest is for the developer.
They all pickle, so they cross Celery, multiprocessing and the like.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from creditgate.v1.accounts_pb2 import PurchaseTopUpResponse
from creditgate.v1.credits_pb2 import (
    AuthorizeResponse,
    ChargeResponse,
    ExtendResponse,
    QuoteResponse,
)
from creditgate.v1.error_reason_pb2 import ErrorReason
from creditgate.v1.resources_pb2 import Decision, DenialReason, Hold, HoldState, Remedy, Totals

if TYPE_CHECKING:
    from collections.abc import Mapping

    import grpc

    from creditgate.calls import Call

__all__ = [
    "AccountFrozen",
    "AccountNotFound",
    "ActionNotInPlan",
    "AddOnNotFound",
    "AddOnNotInPlan",
    "AlreadyRun",
    "AmountExceedsHold",
    "AmountOverflow",
    "BucketNotFound",
    "ConcurrencyLimit",
    "CreditgateError",
    "Denied",
    "Fault",
    "HoldEnded",
    "HoldExpired",
    "HoldNotFound",
    "HoldOpen",
    "HoldRefunded",
    "HoldSettled",
    "IdReused",
    "InsufficientCredits",
    "InvalidRequest",
    "MemberLimit",
    "MessageTooLarge",
    "NoSuchMethod",
    "NotFound",
    "NotPermitted",
    "NotSubscribed",
    "OutcomeUnknown",
    "PackNotFound",
    "PlanNotFound",
    "PlanRequired",
    "PriceChanged",
    "RefundExceedsCharge",
    "ServerDefect",
    "TooManyOperations",
    "Unavailable",
    "UnpricedAction",
    "raise_for_denial",
]

Outcome = Literal["applied", "not-applied", "unknown"]
Answer = QuoteResponse | AuthorizeResponse | ExtendResponse | ChargeResponse | PurchaseTopUpResponse
A = TypeVar(
    "A",
    QuoteResponse,
    AuthorizeResponse,
    ExtendResponse,
    ChargeResponse,
    PurchaseTopUpResponse,
)


class CreditgateError(Exception):
    """Everything that this package raises about credits.

    Only `args` is given to the constructor when it is unpickled, the rest is in `__dict__`: so
    every subclass can be made from its message alone.
    """

    advice: ClassVar[str] = ""
    """What the caller does next; the end of the message."""


# Denials


class Denied(CreditgateError):
    """The answer is no, nothing was set aside: do not run the job; show the user the remedies.

    The same id may be asked again when something has changed.
    """

    advice = "Do not run the job."

    def __init__(self, message: str = "", *, response: Answer | None = None) -> None:
        super().__init__(message)
        self.response = response
        """The whole answer."""

    @property
    def reason(self) -> str:
        """The DenialReason's name without its prefix, such as "INSUFFICIENT_CREDITS"."""
        if self.response is None:
            return "UNSPECIFIED"
        return _name(DenialReason, "DENIAL_REASON_", self.response.denial_reason)

    @property
    def amount(self) -> int:
        """The price of the job; for a raise what the hold has."""
        if isinstance(self.response, ExtendResponse):
            return self.response.hold.amount
        if self.response is None or isinstance(self.response, PurchaseTopUpResponse):
            return 0
        return self.response.amount

    @property
    def missing(self) -> int:
        """How many credits are missing; 0 if it was not denied for credits."""
        if self.response is None or isinstance(self.response, PurchaseTopUpResponse):
            return 0
        if isinstance(self.response, QuoteResponse):
            return max(0, self.response.amount - self.response.payable)
        return self.response.missing

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """What the account can do about it. Skip those whose `WhichOneof("remedy")` is None."""
        return () if self.response is None else tuple(self.response.remedies)

    @property
    def totals(self) -> Totals | None:
        """The account in total, at that moment."""
        return None if self.response is None else self.response.totals


class InsufficientCredits(Denied):
    """The account cannot pay: offer the `remedies`, which are to wait, to top up or to upgrade."""


class UnpricedAction(Denied):
    """The catalog has no price for this action, model or setting: correct the job, or price it."""

    advice = "Correct the action, the model and the settings, or have the catalog price them."


class PriceChanged(Denied):
    """The price is above your `max_amount`: show the user the new `amount` and ask again."""

    advice = "Show the new price, and ask again with it as max_amount if the user agrees."


class AccountFrozen(Denied):
    """The operator has frozen the account: refer the user to support. Open holds may finish."""

    advice = "The operator has to unfreeze the account; open holds may still finish."


class PlanRequired(Denied):
    """The job or the purchase needs another plan: offer the plans in `remedies`."""


class ActionNotInPlan(Denied):
    """The account's plan does not include the action: offer the plans in `remedies`."""


class MemberLimit(Denied):
    """The member has used up their share: wait for the next period, or have the share raised."""

    advice = "Have the member's share raised, or wait for its next period."


class ConcurrencyLimit(Denied):
    """The account has as many open holds as it may: try again when one of its jobs has ended."""

    advice = "Try again when one of the account's jobs has ended."


DENIALS: Mapping[DenialReason.ValueType, type[Denied]] = {
    DenialReason.DENIAL_REASON_INSUFFICIENT_CREDITS: InsufficientCredits,
    DenialReason.DENIAL_REASON_UNPRICED_ACTION: UnpricedAction,
    DenialReason.DENIAL_REASON_PRICE_CHANGED: PriceChanged,
    DenialReason.DENIAL_REASON_ACCOUNT_FROZEN: AccountFrozen,
    DenialReason.DENIAL_REASON_PLAN_REQUIRED: PlanRequired,
    DenialReason.DENIAL_REASON_ACTION_NOT_IN_PLAN: ActionNotInPlan,
    DenialReason.DENIAL_REASON_MEMBER_LIMIT: MemberLimit,
    DenialReason.DENIAL_REASON_CONCURRENCY_LIMIT: ConcurrencyLimit,
}


def raise_for_denial(response: A) -> A:
    """Return an approved answer as it is; raise the `Denied` of any other.

    ```python
    raise_for_denial(client.charge("acct-1", "job-1", action="image.generate"))
    ```
    """
    # A decision that this version does not know is no approval.
    if response.decision == Decision.DECISION_APPROVED:
        return response
    kind = DENIALS.get(response.denial_reason, Denied)
    denied = kind(response=response)
    denied.args = (_denial_text(denied),)
    raise denied


def _denial_text(denied: Denied) -> str:
    parts = [f"denied: {denied.reason}"]
    totals = denied.totals
    if totals is not None and totals.account_id:
        parts.append(f"account {totals.account_id} has {totals.available} available")
    if isinstance(denied.response, ExtendResponse):
        parts.append(f"the hold stays at {denied.amount}")
    elif denied.amount:
        parts.append(f"the price is {denied.amount}")
    if denied.missing:
        parts.append(f"{denied.missing} are missing")
    text = ", ".join(parts) + "."
    helps = [said for said in map(_remedy_text, denied.remedies) if said]
    if helps:
        text += f" What helps: {'; '.join(helps)}."
    return f"{text} {denied.advice}"


def _remedy_text(remedy: Remedy) -> str:
    match remedy.WhichOneof("remedy"):
        case "wait":
            until = remedy.wait.until.ToJsonString()
            return f"wait until {until} for {remedy.wait.amount} in {remedy.wait.bucket_id}"
        case "top_up" if not remedy.top_up.allowed:
            return ""
        case "top_up" if remedy.top_up.pack_amount:
            return f"buy a pack of {remedy.top_up.pack_amount}"
        case "top_up":
            return "buy credits"
        case "upgrade":
            return f"change to the plan {' or '.join(remedy.upgrade.plan_ids)}"
        case _:
            return ""


# Faults


class Fault(CreditgateError):
    """The request did not succeed.

    A `Fault` of no subclass has a reason that this version does not know. Look at `outcome`: after
    "not-applied" nothing has changed, after "unknown" make `call` again.
    """

    def __init__(  # noqa: PLR0913 - what a status carries
        self,
        message: str = "",
        *,
        reason: str = "",
        code: grpc.StatusCode | None = None,
        outcome: Outcome = "unknown",
        metadata: Mapping[str, str] | None = None,
        call: Call[Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        """The ErrorReason without its prefix, such as "HOLD_SETTLED"; empty if none was sent."""
        self.code = code
        """The gRPC status code; None if the fault was not a status."""
        self.outcome: Outcome = outcome
        """Whether the request took effect."""
        self.metadata: dict[str, str] = dict(metadata or {})
        """The values that belong to the reason, as the contract lists them."""
        self.call = call
        """What was asked; safe to be made again with `client.call`."""

    def _number(self, key: str) -> int | None:
        value = self.metadata.get(key, "")
        return int(value) if value.isascii() and value.isdecimal() else None


class InvalidRequest(Fault):
    """A field is missing or outside its range: correct `field`; sending it again does not help."""

    advice = "Correct the request; sending it again does not help."

    @property
    def field(self) -> str:
        """The path of the field, such as "job.quantity"; empty if the whole message was refused."""
        return self.metadata.get("field", "")


class MessageTooLarge(Fault):
    """The request is larger than the method takes: put fewer operations or fields into it."""

    advice = "Put fewer operations or fields into it; sending it again does not help."

    @property
    def bytes_max(self) -> int | None:
        """The largest size in bytes; None if it was not said."""
        return self._number("bytes_max")


class NotFound(Fault):
    """What was named does not exist, or you may not see it: check the ids."""

    advice = "Check the ids."


class AccountNotFound(NotFound):
    """There is no such account: create it with `put_account`, or check the id."""

    advice = "Create it with put_account, or check the id."

    @property
    def account_id(self) -> str:
        """The account that was named."""
        return self.metadata.get("account_id", "")


class HoldNotFound(NotFound):
    """There is no such hold, or it ended longer ago than ids are kept: check both ids.

    It is never a reason to authorize again for work that was done.
    """

    advice = "Check the id and the account; holds that ended are forgotten after a while."

    @property
    def hold_id(self) -> str:
        """The hold that was named."""
        return self.metadata.get("hold_id", "")


class BucketNotFound(NotFound):
    """The account has no such bucket: `get_balance` lists those it has."""

    advice = "get_balance lists the buckets of the account."

    @property
    def bucket_id(self) -> str:
        """The bucket that was named."""
        return self.metadata.get("bucket_id", "")


class PlanNotFound(NotFound):
    """The catalog has no such plan, or none any more: `get_catalog` lists those it has."""

    advice = "get_catalog lists the plans."

    @property
    def plan_id(self) -> str:
        """The plan in question."""
        return self.metadata.get("plan_id", "")


class AddOnNotFound(NotFound):
    """The catalog has no such add-on: check its id."""

    advice = "Check the id of the add-on."

    @property
    def add_on_id(self) -> str:
        """The add-on in question."""
        return self.metadata.get("add_on_id", "")


class IdReused(Fault):
    """The id was used with other content, and nothing changed: a retry must be identical.

    If it is another job, grant or operation, give it an id of its own.
    """

    advice = "A retry must be identical; something else needs an id of its own."

    @property
    def id(self) -> str:
        """The id in question."""
        return self.metadata.get("id", "")


class HoldEnded(Fault):
    """The hold had ended before this request, which changed nothing: `state` says what won.

    Take `charged` and `refunded` as the result of the job.
    """

    ended_as: ClassVar[HoldState.ValueType] = HoldState.HOLD_STATE_UNSPECIFIED

    @property
    def state(self) -> HoldState.ValueType:
        """SETTLED, REFUNDED or EXPIRED, as a HoldState."""
        return self.ended_as

    @property
    def hold_id(self) -> str:
        """The hold."""
        return self.metadata.get("hold_id", "")

    @property
    def charged(self) -> int | None:
        """What the hold has taken, refunds not subtracted; None if it was not said."""
        return self._number("charged")

    @property
    def refunded(self) -> int | None:
        """What was given back of that; None if it was not said."""
        return self._number("refunded")


class HoldSettled(HoldEnded):
    """Another operation has settled the hold: take the job as paid, and do not settle again.

    What is to be given back is a matter of `refund`.
    """

    advice = "Take the job as paid; what is to be given back is a matter of refund."
    ended_as = HoldState.HOLD_STATE_SETTLED


class HoldRefunded(HoldEnded):
    """Another operation has refunded the hold: to run the job again, authorize a new id."""

    advice = "The job was not paid; to run it again authorize a new id."
    ended_as = HoldState.HOLD_STATE_REFUNDED


class HoldExpired(HoldEnded):
    """The deadline passed, the credits went back: stop the job, or authorize it with a new id."""

    advice = "The credits went back; stop the job, or authorize it with a new id."
    ended_as = HoldState.HOLD_STATE_EXPIRED


class AlreadyRun(HoldEnded):
    """This id was authorized before and its hold has ended: do not run the job a second time.

    A queue that delivers twice (Celery's `acks_late`) ends here when the first run is over.
    `hold` shows how: SETTLED, the work is done and paid; REFUNDED, the first run failed, and a
    new attempt needs a new id (such as the job's id with the number of the attempt); EXPIRED, the
    first worker was lost, the same. `hold(..., run_again=True)` runs it nevertheless.
    """

    advice = (
        "Do not run the job twice under one id: if it was paid it is done, "
        "else a new attempt needs a new id."
    )

    def __init__(self, message: str = "", *, hold: Hold | None = None) -> None:
        super().__init__(message, outcome="not-applied")
        self.hold = hold
        """The hold as it stands."""
        if hold is not None:
            self.metadata = {
                "hold_id": hold.hold_id,
                "charged": str(hold.charged),
                "refunded": str(hold.refunded),
            }
            state = _name(HoldState, "HOLD_STATE_", hold.state)
            text = (
                f"the hold {hold.hold_id} of {hold.account_id} ended before: {state}, "
                f"{hold.charged} charged, {hold.refunded} refunded. {self.advice}"
            )
            self.args = (text,)

    @property
    def state(self) -> HoldState.ValueType:
        """How the hold ended."""
        return HoldState.HOLD_STATE_UNSPECIFIED if self.hold is None else self.hold.state


class HoldOpen(Fault):
    """An open hold is refunded whole: leave `amount` out, or settle what was delivered."""

    advice = "Refund it without an amount, or settle what was delivered."


class AmountExceedsHold(Fault):
    """More was delivered than is held, and the catalog rejects it: raise it, or settle less."""

    advice = "Raise the hold first (extend), or settle what it holds."

    @property
    def held(self) -> int | None:
        """What is still held; None if it was not said."""
        return self._number("held")


class RefundExceedsCharge(Fault):
    """More was to be given back than is left of what was taken: refund at most `refundable`."""

    advice = "Refund at most what is left of what was taken."

    @property
    def refundable(self) -> int | None:
        """What may still be refunded; None if it was not said."""
        return self._number("refundable")


class AmountOverflow(Fault):
    """A total would pass 2^53 - 1, the largest amount there is: use smaller amounts."""

    advice = "The largest amount is 2^53 - 1."


class AddOnNotInPlan(Fault):
    """The add-on does not fit the account's plan: change the plan first, or take another."""

    advice = "Change the plan first, or take an add-on that fits it."

    @property
    def add_on_id(self) -> str:
        """The add-on in question."""
        return self.metadata.get("add_on_id", "")

    @property
    def plan_id(self) -> str:
        """The plan of the account."""
        return self.metadata.get("plan_id", "")


class NotSubscribed(Fault):
    """The account has no subscription: `subscribe` it first."""

    advice = "Subscribe the account first."

    @property
    def account_id(self) -> str:
        """The account in question."""
        return self.metadata.get("account_id", "")


class PackNotFound(Fault):
    """The catalog sells no such pack: `get_catalog` lists those it sells."""

    advice = "get_catalog lists the packs; if it was paid, give the money back."

    @property
    def pack_amount(self) -> int | None:
        """The pack that was asked for; None if it was not said."""
        return self._number("pack_amount")


class TooManyOperations(Fault):
    """The hold has as many operations as are recorded: settle in larger portions."""

    advice = "Settle in larger portions."

    @property
    def limit(self) -> int | None:
        """How many are recorded; None if it was not said."""
        return self._number("limit")


class NotPermitted(Fault):
    """The server does not let this caller do that: check the credentials and the role."""

    advice = "Check the credentials and the role of the caller."


class NoSuchMethod(Fault):
    """The server has no such method: it is older than this client, or not creditgate at all."""

    advice = "The server is older than this client, or is not creditgate at all."


class ServerDefect(Fault):
    """A defect of the server: report `incident`, under which its log has the details."""

    advice = "Report it with the incident's id; the server's log has the details."

    @property
    def incident(self) -> str:
        """The id in the server's log; empty if it was not said."""
        return self.metadata.get("incident", "")


class Unavailable(Fault):
    """The server could not answer within the budget, and nothing changed: run nothing, try later.

    Give the job back to its queue. It is the parent of `OutcomeUnknown` too, so `except
    Unavailable` means "not now" for both; in both cases the same call with the same id is right.
    """

    advice = "Nothing has changed; try again later."


class OutcomeUnknown(Unavailable):
    """The request may have taken effect: make the same call again, later, with the same id.

    ```python
    except OutcomeUnknown as unknown:
        later(unknown.call)      # client.call(unknown.call), until it is definite
    ```
    Never answer it with a refund, and never with another id: if it did take effect, the first
    would undo paid work and the second would charge twice.
    """

    advice = "It may have taken effect: make the same call again with the same id; do not refund."


FAULTS: Mapping[ErrorReason.ValueType, type[Fault]] = {
    ErrorReason.ERROR_REASON_INVALID_FIELD: InvalidRequest,
    ErrorReason.ERROR_REASON_MALFORMED_MESSAGE: InvalidRequest,
    ErrorReason.ERROR_REASON_ACCOUNT_NOT_FOUND: AccountNotFound,
    ErrorReason.ERROR_REASON_HOLD_NOT_FOUND: HoldNotFound,
    ErrorReason.ERROR_REASON_BUCKET_NOT_FOUND: BucketNotFound,
    ErrorReason.ERROR_REASON_ID_REUSED: IdReused,
    ErrorReason.ERROR_REASON_HOLD_SETTLED: HoldSettled,
    ErrorReason.ERROR_REASON_HOLD_REFUNDED: HoldRefunded,
    ErrorReason.ERROR_REASON_HOLD_EXPIRED: HoldExpired,
    ErrorReason.ERROR_REASON_HOLD_OPEN: HoldOpen,
    ErrorReason.ERROR_REASON_AMOUNT_EXCEEDS_HOLD: AmountExceedsHold,
    ErrorReason.ERROR_REASON_REFUND_EXCEEDS_CHARGE: RefundExceedsCharge,
    ErrorReason.ERROR_REASON_AMOUNT_OVERFLOW: AmountOverflow,
    ErrorReason.ERROR_REASON_TOO_MANY_OPERATIONS: TooManyOperations,
    ErrorReason.ERROR_REASON_STORE_UNAVAILABLE: Unavailable,
    ErrorReason.ERROR_REASON_SHUTTING_DOWN: Unavailable,
    ErrorReason.ERROR_REASON_OVERLOADED: Unavailable,
    ErrorReason.ERROR_REASON_NO_SUCH_METHOD: NoSuchMethod,
    ErrorReason.ERROR_REASON_INTERNAL: ServerDefect,
    ErrorReason.ERROR_REASON_MESSAGE_TOO_LARGE: MessageTooLarge,
    ErrorReason.ERROR_REASON_PLAN_NOT_FOUND: PlanNotFound,
    ErrorReason.ERROR_REASON_ADD_ON_NOT_FOUND: AddOnNotFound,
    ErrorReason.ERROR_REASON_ADD_ON_NOT_IN_PLAN: AddOnNotInPlan,
    ErrorReason.ERROR_REASON_NOT_SUBSCRIBED: NotSubscribed,
    ErrorReason.ERROR_REASON_PACK_NOT_FOUND: PackNotFound,
}


def _name(enum: Any, prefix: str, value: int) -> str:
    try:
        name: str = enum.Name(value)
    except ValueError:
        return "UNSPECIFIED"
    return name.removeprefix(prefix)
