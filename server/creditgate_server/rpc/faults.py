"""The one place where faults become gRPC statuses.

A status carries `google.rpc.ErrorInfo` (reason, domain "creditgate", metadata) in its details, and
`credit-outcome` in its trailing metadata.
"""

from dataclasses import dataclass
from functools import cache

from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped] # not marked
    ErrorInfo,
)
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped] # not marked
from grpc import StatusCode

from creditgate.v1 import credits_pb2, error_reason_pb2
from creditgate_server.core.faults import Fault, Reason

DOMAIN = "creditgate"


@dataclass(frozen=True, slots=True)
class Row:
    """How a reason is shown: the status code, and the keys that its metadata always has."""

    code: StatusCode
    metadata: frozenset[str]


def _row(code: StatusCode, *metadata: str) -> Row:
    return Row(code, frozenset(metadata))


TABLE: dict[Reason, Row] = {
    Reason.INVALID_FIELD: _row(StatusCode.INVALID_ARGUMENT, "field"),
    Reason.MALFORMED_MESSAGE: _row(StatusCode.INVALID_ARGUMENT),
    Reason.ACCOUNT_NOT_FOUND: _row(StatusCode.NOT_FOUND, "account_id"),
    Reason.HOLD_NOT_FOUND: _row(StatusCode.NOT_FOUND, "hold_id"),
    Reason.BUCKET_NOT_FOUND: _row(StatusCode.NOT_FOUND, "bucket_id"),
    Reason.ID_REUSED: _row(StatusCode.ALREADY_EXISTS, "id"),
    Reason.HOLD_SETTLED: _row(StatusCode.FAILED_PRECONDITION, "hold_id", "charged", "refunded"),
    Reason.HOLD_REFUNDED: _row(StatusCode.FAILED_PRECONDITION, "hold_id", "charged", "refunded"),
    Reason.HOLD_EXPIRED: _row(StatusCode.FAILED_PRECONDITION, "hold_id", "charged", "refunded"),
    Reason.HOLD_OPEN: _row(StatusCode.FAILED_PRECONDITION, "hold_id"),
    Reason.AMOUNT_EXCEEDS_HOLD: _row(StatusCode.FAILED_PRECONDITION, "hold_id", "held"),
    Reason.REFUND_EXCEEDS_CHARGE: _row(StatusCode.FAILED_PRECONDITION, "hold_id", "refundable"),
    Reason.AMOUNT_OVERFLOW: _row(StatusCode.FAILED_PRECONDITION, "account_id"),
    Reason.TOO_MANY_OPERATIONS: _row(StatusCode.RESOURCE_EXHAUSTED, "hold_id", "limit"),
    Reason.STORE_UNAVAILABLE: _row(StatusCode.UNAVAILABLE),
    Reason.SHUTTING_DOWN: _row(StatusCode.UNAVAILABLE),
    Reason.OVERLOADED: _row(StatusCode.RESOURCE_EXHAUSTED),
    Reason.NO_SUCH_METHOD: _row(StatusCode.UNIMPLEMENTED),
    Reason.INTERNAL: _row(StatusCode.INTERNAL, "incident"),
    Reason.MESSAGE_TOO_LARGE: _row(StatusCode.RESOURCE_EXHAUSTED, "bytes_max"),
    Reason.PLAN_NOT_FOUND: _row(StatusCode.NOT_FOUND, "plan_id"),
    Reason.ADD_ON_NOT_FOUND: _row(StatusCode.NOT_FOUND, "add_on_id"),
    Reason.ADD_ON_NOT_IN_PLAN: _row(StatusCode.FAILED_PRECONDITION, "add_on_id", "plan_id"),
    Reason.NOT_SUBSCRIBED: _row(StatusCode.FAILED_PRECONDITION, "account_id"),
    Reason.PACK_NOT_FOUND: _row(StatusCode.INVALID_ARGUMENT, "pack_amount"),
}


def trailing_metadata(fault: Fault) -> tuple[tuple[str, str | bytes], ...]:
    """What goes with the status: the outcome, and the status with its details."""
    info = ErrorInfo(reason=fault.reason.name, domain=DOMAIN, metadata=fault.metadata)
    status = Status(code=_number(fault), message=fault.message, details=[_pack(info)])
    return (
        ("credit-outcome", fault.outcome.value),
        ("grpc-status-details-bin", status.SerializeToString()),
    )


def message(fault: Fault) -> credits_pb2.Fault:
    """The same as an item of Execute."""
    return credits_pb2.Fault(
        reason=reason_number(fault.reason),
        code=_number(fault),
        message=fault.message,
        metadata=fault.metadata,
        credit_outcome=fault.outcome.value,
    )


@cache
def reason_number(reason: Reason) -> error_reason_pb2.ErrorReason.ValueType:
    """The reason as the contract numbers it."""
    return error_reason_pb2.ErrorReason.Value(f"ERROR_REASON_{reason.name}")


def _number(fault: Fault) -> int:
    number: int = TABLE[fault.reason].code.value[0]
    return number


def _pack(info: ErrorInfo) -> Any:
    packed = Any()
    packed.Pack(info)
    return packed
