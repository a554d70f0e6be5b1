"""What the caller is told when something goes wrong."""

from __future__ import annotations

import inspect
import pickle
import re
from pathlib import Path
from typing import Any

import grpc
import pytest

import creditgate
from creditgate import calls, errors
from creditgate.errors import DENIALS, FAULTS, Denied, Fault, raise_for_denial
from creditgate.v1.credits_pb2 import (
    AuthorizeResponse,
    ChargeResponse,
    ExtendResponse,
    QuoteResponse,
)
from creditgate.v1.error_reason_pb2 import ErrorReason
from creditgate.v1.resources_pb2 import Decision, DenialReason, Hold, HoldState, Remedy, Totals
from tests.client.bench import AnyClient, Clock
from tests.client.fake import UNAVAILABLE, Fails, FakeServer

PROTOS = Path(__file__).parents[2] / "protos" / "creditgate" / "v1"


def every_error() -> list[type[errors.CreditgateError]]:
    found = [errors.CreditgateError]
    for kind in found:
        found.extend(kind.__subclasses__())
    return found


def documented() -> dict[str, tuple[str, set[str]]]:
    """Reason → status code and metadata keys, as `error_reason.proto` says."""
    text = (PROTOS / "error_reason.proto").read_text()
    found = {}
    for comment, name in re.findall(r"((?:  //.*\n)+)  ERROR_REASON_(\w+) = \d+;", text):
        words = comment.replace("//", " ")
        code = re.search(r"\b([A-Z_]{5,})\.", words)
        if code:
            found[name] = (code[1], set(re.findall(r"`([a-z_]+)`", words)))
    return found


def test_every_reason_has_a_class() -> None:
    reasons = set(ErrorReason.values()) - {ErrorReason.ERROR_REASON_UNSPECIFIED}
    assert set(FAULTS) == reasons
    assert set(DENIALS) == set(DenialReason.values()) - {DenialReason.DENIAL_REASON_UNSPECIFIED}


def test_every_class_says_what_the_caller_does_next() -> None:
    for kind in every_error():
        assert kind.__doc__, kind
        if issubclass(kind, Fault) and kind is not Fault and kind not in ABSTRACT:
            assert kind.advice, kind


ABSTRACT = {errors.HoldEnded, errors.HoldOpen.__base__}


def test_the_tree_at_the_top_is_the_tree_of_the_classes() -> None:
    drawn = re.findall(r"^[│ ]*(?:[├└]── )?([A-Z]\w+)", errors.__doc__ or "", re.MULTILINE)
    drawn = [name for name in drawn if hasattr(errors, name)]
    assert sorted(drawn) == sorted(kind.__name__ for kind in every_error())
    assert sorted(set(errors.__all__) - {"raise_for_denial"}) == sorted(drawn)
    assert set(errors.__all__) <= set(creditgate.__all__)


REASONS = sorted(documented())


@pytest.mark.parametrize("reason", REASONS)
async def test_every_reason_arrives_as_its_class_with_its_values(
    client: AnyClient, server: FakeServer, reason: str
) -> None:
    code, keys = documented()[reason]
    keys -= {"amount", "credit"}
    metadata = dict.fromkeys(keys, "7")
    fails = Fails(grpc.StatusCode[code], reason, "not-applied", metadata)
    server.tell("settle", *[fails] * 200)
    with pytest.raises(Fault) as caught:
        await client.settle("a", "h")
    fault = caught.value
    assert type(fault) is FAULTS[ErrorReason.Value(f"ERROR_REASON_{reason}")]
    assert (fault.reason, fault.code, fault.outcome) == (
        reason,
        grpc.StatusCode[code],
        "not-applied",
    )
    assert fault.metadata == metadata
    for key in keys:
        value = getattr(fault, key, "7")
        assert value in {"7", 7}, key
    for part in ("settle", "as told", reason, "not-applied", type(fault).advice):
        assert part in str(fault)


def test_the_table_of_the_contract_was_read() -> None:
    assert len(REASONS) == len(FAULTS)
    assert documented()["HOLD_SETTLED"] == (
        "FAILED_PRECONDITION",
        {"hold_id", "charged", "refunded"},
    )


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("INVALID_ARGUMENT", errors.InvalidRequest),
        ("NOT_FOUND", errors.NotFound),
        ("UNAUTHENTICATED", errors.NotPermitted),
        ("PERMISSION_DENIED", errors.NotPermitted),
        ("UNIMPLEMENTED", errors.NoSuchMethod),
        ("FAILED_PRECONDITION", Fault),
        ("ALREADY_EXISTS", Fault),
        ("OUT_OF_RANGE", Fault),
        ("INTERNAL", errors.OutcomeUnknown),
        ("UNKNOWN", errors.OutcomeUnknown),
        ("DATA_LOSS", errors.OutcomeUnknown),
        ("UNAVAILABLE", errors.OutcomeUnknown),
        ("DEADLINE_EXCEEDED", errors.OutcomeUnknown),
        ("ABORTED", errors.OutcomeUnknown),
        ("CANCELLED", errors.OutcomeUnknown),
        ("RESOURCE_EXHAUSTED", errors.OutcomeUnknown),
    ],
)
@pytest.mark.parametrize("reason", ["", "OF_A_LATER_VERSION"])
@pytest.mark.parametrize("client", ["sync", "async"], indirect=True)
async def test_a_status_without_a_known_reason_goes_by_its_code(
    client: AnyClient, server: FakeServer, code: str, kind: type[Fault], reason: str
) -> None:
    server.tell("settle", *[Fails(grpc.StatusCode[code], reason)] * 200)
    with pytest.raises(Fault) as caught:
        await client.settle("a", "h")
    assert type(caught.value) is kind


@pytest.mark.parametrize("client", ["sync", "async"], indirect=True)
async def test_a_reason_of_another_domain_is_not_ours(
    client: AnyClient, server: FakeServer
) -> None:
    server.tell("settle", Fails(grpc.StatusCode.NOT_FOUND, "HOLD_NOT_FOUND", domain="other"))
    with pytest.raises(errors.NotFound) as caught:
        await client.settle("a", "h")
    assert type(caught.value) is errors.NotFound


async def test_mangled_details_leave_the_code(client: AnyClient, server: FakeServer) -> None:
    bad = (("grpc-status-details-bin", b"\xff\xff\xff"), ("credit-outcome", "perhaps"))
    server.tell("get_account", Fails(grpc.StatusCode.NOT_FOUND, trailing=bad))
    with pytest.raises(errors.NotFound) as caught:
        await client.get_account("a")
    assert caught.value.outcome == "not-applied"


async def test_a_read_is_never_of_unknown_outcome(client: AnyClient, server: FakeServer) -> None:
    server.tell("get_account", *[UNAVAILABLE] * 200)
    with pytest.raises(errors.Unavailable) as caught:
        await client.get_account("a")
    assert type(caught.value) is errors.Unavailable
    assert caught.value.outcome == "not-applied"


async def test_a_server_that_is_not_there_has_changed_nothing(clock: Clock) -> None:
    client = creditgate.Client("unix:/nonexistent/s", timing=clock.timing, sleep=clock.sleep)
    with client, pytest.raises(errors.Unavailable) as caught:
        client.authorize("a", "h", action="x")
    assert type(caught.value) is errors.Unavailable
    assert caught.value.outcome == "not-applied"
    assert sum(clock.slept) < 10


TOTALS = Totals(account_id="acct", available=56)
REMEDIES = [
    Remedy(wait=Remedy.Wait(bucket_id="daily/1", amount=100)),
    Remedy(top_up=Remedy.TopUp(allowed=True, pack_amount=200)),
    Remedy(top_up=Remedy.TopUp(allowed=False)),
    Remedy(upgrade=Remedy.Upgrade(plan_ids=["pro", "team"])),
    Remedy(),
]
DENIED: dict[str, Any] = {
    "decision": Decision.DECISION_DENIED,
    "denial_reason": DenialReason.DENIAL_REASON_INSUFFICIENT_CREDITS,
    "remedies": REMEDIES,
    "totals": TOTALS,
}


@pytest.mark.parametrize(
    ("response", "amount"),
    [
        (AuthorizeResponse(amount=96, missing=40, **DENIED), 96),
        (ChargeResponse(amount=96, missing=40, **DENIED), 96),
        (ExtendResponse(hold=Hold(amount=50), missing=40, **DENIED), 50),
        (QuoteResponse(amount=96, payable=56, **DENIED), 96),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_denial_says_what_is_missing_and_what_helps(response: Any, amount: int) -> None:
    with pytest.raises(creditgate.InsufficientCredits) as caught:
        raise_for_denial(response)
    denied = caught.value
    assert (denied.reason, denied.missing, denied.amount) == ("INSUFFICIENT_CREDITS", 40, amount)
    assert list(denied.remedies) == REMEDIES
    assert denied.totals == TOTALS
    for part in (
        "INSUFFICIENT_CREDITS",
        "acct has 56 available",
        "40 are missing",
        "wait until 1970-01-01T00:00:00Z for 100 in daily/1",
        "buy a pack of 200",
        "change to the plan pro or team",
        "Do not run the job",
    ):
        assert part in str(denied)


@pytest.mark.parametrize(("reason", "kind"), DENIALS.items())
def test_every_denial_is_raised_as_its_class(
    reason: DenialReason.ValueType, kind: type[Denied]
) -> None:
    with pytest.raises(Denied) as caught:
        raise_for_denial(AuthorizeResponse(decision=Decision.DECISION_DENIED, denial_reason=reason))
    assert type(caught.value) is kind


def test_an_approval_passes() -> None:
    approved = AuthorizeResponse(decision=Decision.DECISION_APPROVED)
    assert raise_for_denial(approved) is approved


@pytest.mark.parametrize("decision", [0, 77])
def test_a_decision_that_nobody_knows_is_no_approval(decision: Any) -> None:
    with pytest.raises(Denied) as caught:
        raise_for_denial(AuthorizeResponse(decision=decision, denial_reason=77))  # type: ignore[arg-type] # from a later version
    assert type(caught.value) is Denied


async def test_a_denial_is_an_answer_unless_it_was_to_be_raised(
    client: AnyClient, server: FakeServer
) -> None:
    for method, response in (
        ("authorize", AuthorizeResponse(**DENIED)),
        ("charge", ChargeResponse(**DENIED)),
    ):
        server.tell(method, response, response)
        answer = await getattr(client, method)("a", "h", action="x")
        assert answer.decision == Decision.DECISION_DENIED
        with pytest.raises(creditgate.InsufficientCredits):
            await getattr(client, method)("a", "h", action="x", or_raise=True)
        assert len(server.requests(method)) == 2


HOLD = Hold(
    account_id="acct", hold_id="job", state=HoldState.HOLD_STATE_REFUNDED, charged=3, refunded=1
)


def examples() -> list[errors.CreditgateError]:
    made: list[errors.CreditgateError] = [kind("why") for kind in every_error()]
    call = calls.settle("a", "h", quantity=3)
    made.append(
        errors.OutcomeUnknown(
            "why",
            reason="STORE_UNAVAILABLE",
            code=grpc.StatusCode.UNAVAILABLE,
            outcome="unknown",
            metadata={"a": "b"},
            call=call,
        )
    )
    made.append(errors.AlreadyRun(hold=HOLD))
    with pytest.raises(Denied) as caught:
        raise_for_denial(AuthorizeResponse(amount=96, missing=40, **DENIED))
    made.append(caught.value)
    return made


def test_errors_cross_processes() -> None:
    for error in examples():
        error.add_note("seen")
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert copy.args == error.args
        assert copy.__dict__ == error.__dict__
        assert str(copy) == str(error)


def test_an_ended_hold_says_how() -> None:
    error = errors.AlreadyRun(hold=HOLD)
    assert (error.state, error.charged, error.refunded) == (HOLD.state, 3, 1)
    assert "job of acct ended before: REFUNDED, 3 charged, 1 refunded" in str(error)
    assert errors.HoldExpired("x").state == HoldState.HOLD_STATE_EXPIRED
    assert errors.HoldSettled("x", metadata={"charged": "x"}).charged is None


def test_errors_can_be_made_from_their_message_alone() -> None:
    for kind in every_error():
        assert str(kind("why")) == "why"
        for name, _ in inspect.getmembers(kind, lambda member: isinstance(member, property)):
            getattr(kind("why"), name)
