"""What can go wrong with a request, apart from a denial (which is an answer, not a fault)."""

import enum
import logging
import secrets
from collections.abc import Mapping

_log = logging.getLogger(__name__)


class CreditOutcome(enum.Enum):
    """Whether the request changed anything; every fault says so."""

    APPLIED = "applied"
    NOT_APPLIED = "not-applied"
    UNKNOWN = "unknown"


class Reason(enum.Enum):
    """The names of `ErrorReason` in `error_reason.proto`, without their prefix."""

    INVALID_FIELD = enum.auto()
    MALFORMED_MESSAGE = enum.auto()
    ACCOUNT_NOT_FOUND = enum.auto()
    HOLD_NOT_FOUND = enum.auto()
    BUCKET_NOT_FOUND = enum.auto()
    ID_REUSED = enum.auto()
    HOLD_SETTLED = enum.auto()
    HOLD_REFUNDED = enum.auto()
    HOLD_EXPIRED = enum.auto()
    HOLD_OPEN = enum.auto()
    AMOUNT_EXCEEDS_HOLD = enum.auto()
    REFUND_EXCEEDS_CHARGE = enum.auto()
    AMOUNT_OVERFLOW = enum.auto()
    TOO_MANY_OPERATIONS = enum.auto()
    STORE_UNAVAILABLE = enum.auto()
    SHUTTING_DOWN = enum.auto()
    OVERLOADED = enum.auto()
    NO_SUCH_METHOD = enum.auto()
    INTERNAL = enum.auto()
    MESSAGE_TOO_LARGE = enum.auto()
    PLAN_NOT_FOUND = enum.auto()
    ADD_ON_NOT_FOUND = enum.auto()
    ADD_ON_NOT_IN_PLAN = enum.auto()
    NOT_SUBSCRIBED = enum.auto()
    PACK_NOT_FOUND = enum.auto()


class Fault(Exception):
    """A request that could not be answered: raised anywhere, made a status in `rpc.faults`."""

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        outcome: CreditOutcome = CreditOutcome.NOT_APPLIED,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.outcome = outcome


def invalid(field: str, message: str) -> Fault:
    """The fault for a field outside its range; `message` says what the range is."""
    return Fault(Reason.INVALID_FIELD, f"{field}: {message}", metadata={"field": field})


def defect(what: str) -> Fault:
    """The fault for a defect of our own: the log says what it was, the caller learns the id.

    Called where an exception is handled. Whether the request was applied is not known.
    """
    incident = secrets.token_hex(6)
    _log.exception("incident %s: %s", incident, what)
    return Fault(
        Reason.INTERNAL,
        f"a defect of creditgate, logged as incident {incident}",
        metadata={"incident": incident},
        outcome=CreditOutcome.UNKNOWN,
    )
