"""From a gRPC status, or the Fault of an operation, to an exception."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast, get_args

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped] # not marked

from creditgate import errors
from creditgate.errors import Fault, Outcome
from creditgate.v1.error_reason_pb2 import ErrorReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from creditgate.calls import Call
    from creditgate.v1.credits_pb2 import Fault as FaultMessage

DOMAIN = "creditgate"
OUTCOME_KEY = "credit-outcome"
DETAILS_KEY = "grpc-status-details-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"
_PREFIX = "ERROR_REASON_"

# Codes for which this side, or something between, may have lost the answer of a request that took
# effect.
_LOST = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.DATA_LOSS,
    # "Received message larger than max" is one of these, and is about an answer.
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
_TRANSIENT = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    # A server that is stopped cancels what is under way when its grace is over.
    grpc.StatusCode.CANCELLED,
}
# gRPC says so when it found no connection on which to send the request. Should the words change,
# the outcome becomes unknown, which is never wrong.
_NEVER_SENT = "failed to connect to all addresses"
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_VERDICTS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
}
_VERDICT_REASONS = {"TOO_MANY_OPERATIONS", "MESSAGE_TOO_LARGE"}
# For statuses without a reason that we know: those of a proxy, of gRPC itself, of a later version.
_BY_CODE: Mapping[grpc.StatusCode, type[Fault]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.UNAUTHENTICATED: errors.NotPermitted,
    grpc.StatusCode.PERMISSION_DENIED: errors.NotPermitted,
    grpc.StatusCode.UNIMPLEMENTED: errors.NoSuchMethod,
    grpc.StatusCode.INTERNAL: errors.ServerDefect,
    grpc.StatusCode.UNKNOWN: errors.ServerDefect,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.Unavailable,
    grpc.StatusCode.ABORTED: errors.Unavailable,
    grpc.StatusCode.CANCELLED: errors.Unavailable,
}


@dataclass(frozen=True)
class Status:
    """A status that is not OK, taken apart."""

    code: grpc.StatusCode
    text: str
    outcome: Outcome
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    pushback_s: float | None = None
    """How long the server asks us to wait; infinite if it asks us not to come again."""
    cause: BaseException | None = field(default=None, compare=False)
    """What gRPC raised, if it did."""

    @property
    def transient(self) -> bool:
        """Whether the same request may be answered otherwise in a moment."""
        return self.code in _TRANSIENT or self.reason == "OVERLOADED"

    @property
    def definite(self) -> bool:
        """Whether it judges the request itself, and so every earlier attempt of it.

        The store looks for what an attempt has left before it judges.
        """
        return self.code in _VERDICTS or self.reason in _VERDICT_REASONS

    def fault(self, call: Call[Any], outcome: Outcome | None = None) -> Fault:
        """The exception for it; `outcome` is that of all attempts together."""
        outcome = self.outcome if outcome is None else outcome
        kind = self._class()
        if outcome == "unknown" and call.method.changes:
            kind = errors.OutcomeUnknown
        elif not call.method.changes:
            outcome = "not-applied"
        shown = self.reason or self.code.name
        text = self.text.strip().rstrip(".") or shown
        advice = f" {kind.advice}" if kind.advice else ""
        return kind(
            f"{call.method.name}: {text}.{advice} [{shown}, {outcome}]",
            reason=self.reason,
            code=self.code,
            outcome=outcome,
            metadata=self.metadata,
            call=call,
        )

    def _class(self) -> type[Fault]:
        try:
            number = ErrorReason.Value(_PREFIX + self.reason)
        except ValueError:
            return _BY_CODE.get(self.code, Fault)
        return errors.FAULTS.get(number, Fault)


def of_rpc(error: grpc.RpcError) -> Status:
    """Take apart what a call raised; of the sync and of the asyncio API alike."""
    failed = cast("Any", error)
    code: grpc.StatusCode = failed.code()
    trailing = dict(_pairs(failed.trailing_metadata()))
    reason, metadata, delay_s = _details(trailing.get(DETAILS_KEY, b""))
    text: str = failed.details() or ""
    never_sent = code is grpc.StatusCode.UNAVAILABLE and text.startswith(_NEVER_SENT)
    return Status(
        code=code,
        text=text,
        outcome=_outcome("not-applied" if never_sent else trailing.get(OUTCOME_KEY), code),
        reason=reason,
        metadata=metadata,
        pushback_s=_pushback(trailing.get(PUSHBACK_KEY), delay_s),
        cause=error,
    )


def of_operation(fault: FaultMessage) -> Status:
    """Take apart what one operation of Execute or Session was answered."""
    code = _CODES.get(fault.code, grpc.StatusCode.UNKNOWN)
    try:
        reason = ErrorReason.Name(fault.reason).removeprefix(_PREFIX)
    except ValueError:
        reason = ""
    return Status(
        code=code,
        text=fault.message,
        outcome=_outcome(fault.credit_outcome, code),
        reason="" if reason == "UNSPECIFIED" else reason,
        metadata=dict(fault.metadata),
    )


def _pairs(metadata: Iterable[tuple[str, Any]] | None) -> Iterable[tuple[str, Any]]:
    return () if metadata is None else ((key, value) for key, value in metadata)


def _outcome(said: object, code: grpc.StatusCode) -> Outcome:
    if said in get_args(Outcome):
        return cast("Outcome", said)
    return "unknown" if code in _LOST else "not-applied"


def _details(raw: bytes) -> tuple[str, dict[str, str], float | None]:
    reason, metadata, delay_s = "", dict[str, str](), None
    status, info, retry = (
        status_pb2.Status(),
        error_details_pb2.ErrorInfo(),
        error_details_pb2.RetryInfo(),
    )
    try:
        status.ParseFromString(raw)
        for detail in status.details:
            if detail.Unpack(info) and info.domain == DOMAIN:
                reason, metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(retry):
                delay_s = retry.retry_delay.ToTimedelta().total_seconds()
    except DecodeError:
        # Something between has mangled it; the code alone still says enough.
        pass
    return reason, metadata, delay_s


def _pushback(said: object, delay_s: float | None) -> float | None:
    if said is None:
        return delay_s
    try:
        pushback_ms = int(str(said))
    except ValueError:
        return math.inf
    return math.inf if pushback_ms < 0 else pushback_ms / 1000
