"""What can be asked of a ledger. A unary call and an item of Execute become the same commands.

A command carries everything it is judged by: the request's own content, and what the catalog says
of it at this moment (`Terms`, `Rules`). Its `fingerprint` covers the content alone, so that a retry
after a change of catalog is still the same request.

Nothing changes a command once it is made. That it is not frozen saves half of the time to make it.
"""

import hashlib
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from typing import Any, Generic, NamedTuple, TypeVar

from creditgate_server.core import results
from creditgate_server.core.plans import Plans
from creditgate_server.core.prices import Price
from creditgate_server.core.schedule import Event
from creditgate_server.core.words import Word

ReplyT = TypeVar("ReplyT")


class Kind(Word):
    """What sort of credits a bucket holds. The values are the letters in the store's records."""

    FREE = "F"
    SUBSCRIPTION = "S"
    ADD_ON = "A"
    TOP_UP = "T"
    PROMOTIONAL = "P"
    REFERRAL = "R"
    COMPENSATION = "C"


class Overage(Word):
    """What a settle above the hold does (R61 promises the exact price, hence CAP by default)."""

    CAP = "cap"
    CHARGE_AVAILABLE = "charge_available"
    OVERDRAFT = "overdraft"
    REJECT = "reject"


class LateSettle(Word):
    """What a settle after the deadline does."""

    RECHARGE = "recharge"
    REJECT = "reject"


class ReturnPolicy(Word):
    """What becomes of credits that come back to a bucket that has ended."""

    COMPENSATE = "compensate"
    FORFEIT = "forfeit"
    RESTORE_CAPPED = "restore_capped"


class Job(NamedTuple):
    """What is to be run. `settings` is sorted by name, so that equal jobs are equal."""

    action: str
    model: str = ""
    quantity: int = 1
    settings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What the catalog says of one job; pinned to its hold."""

    price: Price
    amount: int
    ttl_ms: int
    life_ms_max: int
    overage: Overage
    overdraft_limit: int
    late_settle: LateSettle
    catalog_version: str
    gate: str = "*"
    """Which plans allow the job, and how many holds each lets be open: ",free/1,pro/0," (0 is any
    number). "*" is any plan."""

    def __hash__(self) -> int:
        # Kept: a catalog gives the same terms again and again, and what is made of them is looked
        # up by them.
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(tuple(getattr(self, spec.name) for spec in fields(self)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the catalog says of every bucket.

    `ranks` has a digit for each kind, in the order of `Kind`: a lower one is drawn first.
    """

    ranks: str
    on_failed: ReturnPolicy = ReturnPolicy.COMPENSATE
    on_cancelled: ReturnPolicy = ReturnPolicy.FORFEIT
    compensation_ms: int = 7 * 86_400_000
    plans: Plans = field(default_factory=Plans, repr=False)


@dataclass(kw_only=True)
class Command(Generic[ReplyT]):
    """One request to the ledger about one account; `ReplyT` is what comes back."""

    account_id: str

    @property
    def fingerprint(self) -> str:
        """16 characters that differ when the request's content does.

        Fields at their default leave no trace, so that a field added later changes no fingerprint.
        """
        parts = [type(self).__name__]
        for name, default in _content(type(self)):  # type: ignore[arg-type] # a class has a hash
            value = getattr(self, name)
            if value != default:
                parts.append(f"{name}={value!r}")
        return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


@cache
def _content(kind: type[Any]) -> tuple[tuple[str, Any], ...]:
    """The fields that are a request's content, with their defaults."""
    return tuple(
        (spec.name, spec.default) for spec in fields(kind) if spec.metadata.get("content", True)
    )


def _catalogs() -> dict[str, bool]:
    """Marks a field that the catalog fills in: it is no part of the request's content."""
    return {"content": False}


@dataclass(kw_only=True)
class Authorize(Command[results.Authorized]):
    """Set the price of a job aside. `terms` is None when the catalog has no price for it."""

    hold_id: str
    job: Job
    ttl_ms: int | None = None
    max_amount: int | None = None
    member_id: str = ""
    terms: Terms | None = field(metadata=_catalogs())
    rules: Rules = field(metadata=_catalogs())


@dataclass(kw_only=True)
class Charge(Command[results.Authorized]):
    """Authorize and settle in one step."""

    hold_id: str
    job: Job
    max_amount: int | None = None
    member_id: str = ""
    terms: Terms | None = field(metadata=_catalogs())
    rules: Rules = field(metadata=_catalogs())


@dataclass(kw_only=True)
class Extend(Command[results.Extended]):
    """Move the deadline to `ttl_ms` from now (None: as long as by Authorize), and raise the total.

    At most one of `amount` and `quantity` is set.
    """

    hold_id: str
    ttl_ms: int | None = None
    amount: int | None = None
    quantity: int | None = None
    rules: Rules = field(metadata=_catalogs())


@dataclass(kw_only=True)
class Settle(Command[results.Settled]):
    """Take what was delivered: `amount`, or `quantity` at the pinned price, or all that is held."""

    hold_id: str
    operation_id: str = ""
    amount: int | None = None
    quantity: int | None = None
    partial: bool = False
    rules: Rules = field(metadata=_catalogs())


@dataclass(kw_only=True)
class Refund(Command[results.Refunded]):
    """Give back what an open hold has set aside, or `amount` (None: all) of what was charged."""

    hold_id: str
    operation_id: str = ""
    amount: int | None = None
    cancelled: bool = False
    rules: Rules = field(metadata=_catalogs())


@dataclass(kw_only=True)
class Expire(Command[results.Expired]):
    """Return a hold whose deadline has passed; nothing if it has not, or if the hold has ended."""

    hold_id: str
    rules: Rules = field(metadata=_catalogs())


@dataclass(kw_only=True)
class GetHold(Command[results.Hold]):
    """Show one hold."""

    hold_id: str


@dataclass(kw_only=True)
class ListHolds(Command[results.HoldPage]):
    """Show open holds, about `limit` of them, from `cursor` on ("" is the start)."""

    limit: int
    cursor: str = ""


@dataclass(kw_only=True)
class GetBalance(Command[results.Balance]):
    """Show every bucket; count as payable those that may pay `action` and `model` ("" is any)."""

    action: str = ""
    model: str = ""
    rules: Rules = field(metadata=_catalogs())


@dataclass(kw_only=True)
class PutAccount(Command[results.AccountPut]):
    """Create an account or change its settings; an empty `zone` changes none."""

    zone: str = ""
    rules: Rules = field(metadata=_catalogs())


@dataclass(kw_only=True)
class GetAccount(Command[results.Account]):
    """Show an account."""

    rules: Rules = field(metadata=_catalogs())


@dataclass(kw_only=True)
class Reschedule(Command[results.Rescheduled]):
    """Apply an event of the subscription; `reference` names it."""

    reference: str
    event: Event
    rules: Rules = field(metadata=_catalogs())


@dataclass(kw_only=True)
class SetFrozen(Command[results.Totals]):
    """Deny new holds of an account, or allow them again."""

    frozen: bool
    rules: Rules = field(metadata=_catalogs())


@dataclass(kw_only=True)
class SetMemberLimit(Command[results.MemberLimited]):
    """Limit what a member ("" is each without a limit of its own) may draw; None is no limit."""

    member_id: str = ""
    amount: int | None = None
    rules: Rules = field(metadata=_catalogs())


@dataclass(kw_only=True)
class Grant(Command[results.Granted]):
    """Put `amount` on the account as bucket `source_ref`; `ends_ms` None is never."""

    source_ref: str
    kind: Kind
    amount: int
    ends_ms: int | None = None
    actions: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    buyers: frozenset[str] | None = field(default=None, metadata=_catalogs())
    """A purchase: the plans that may buy it; None is any, and a grant that is no purchase."""
    rules: Rules = field(metadata=_catalogs())


@dataclass(kw_only=True)
class VoidBucket(Command[results.Voided]):
    """Take back what is available in a bucket."""

    bucket_id: str
    rules: Rules = field(metadata=_catalogs())


@dataclass(kw_only=True)
class ListLedger(Command[results.LedgerPage]):
    """Show `limit` entries of an account, the latest first, from `cursor` on ("" is the latest)."""

    limit: int
    cursor: str = ""
