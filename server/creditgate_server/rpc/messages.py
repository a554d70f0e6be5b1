"""Results of the core as messages of the contract."""

from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp

from creditgate.v1 import accounts_pb2, resources_pb2
from creditgate_server.core import results
from creditgate_server.core.commands import Job, Kind
from creditgate_server.core.prices import Price, Rounding

KINDS = {kind: resources_pb2.Kind.Value(f"KIND_{kind.name}") for kind in Kind}
GRANTABLE = {number: kind for kind, number in KINDS.items() if kind is not Kind.COMPENSATION}

_STATES = {
    state: resources_pb2.HoldState.Value(f"HOLD_STATE_{state.name}") for state in results.HoldState
}
_VERBS = {verb: resources_pb2.LedgerVerb.Value(f"LEDGER_VERB_{verb.name}") for verb in results.Verb}
_FIGURES = {
    figure: resources_pb2.Figure.Value(f"FIGURE_{figure.name}") for figure in results.Figure
}
_ROUNDINGS = {
    rounding: resources_pb2.Price.Rounding.Value(f"ROUNDING_{rounding.name}")
    for rounding in Rounding
}
DENIALS = {
    decision: resources_pb2.DenialReason.Value(f"DENIAL_REASON_{decision.name}")
    for decision in results.Decision
    if decision is not results.Decision.APPROVED
}


def instant(ms: int) -> Timestamp:
    """A time in ms as a message."""
    seconds, rest = divmod(ms, 1000)
    return Timestamp(seconds=seconds, nanos=rest * 1_000_000)


def _optional_instant(ms: int | None) -> Timestamp | None:
    return None if ms is None else instant(ms)


def totals(account_id: str, found: results.Totals) -> resources_pb2.Totals:
    """What an account has in total."""
    return resources_pb2.Totals(
        account_id=account_id,
        seq=found.seq,
        available=found.available,
        held=found.held,
        debt=found.debt,
        as_of=instant(found.as_of_ms),
    )


def price(found: Price) -> resources_pb2.Price:
    """A pinned price."""
    return resources_pb2.Price(
        flat=found.flat,
        rate_numerator=found.numerator,
        rate_denominator=found.denominator,
        minimum=found.minimum,
        rounding=_ROUNDINGS[found.rounding],
        unit=found.unit,
    )


def _job(found: Job) -> resources_pb2.Job:
    return resources_pb2.Job(
        action=found.action,
        model=found.model,
        quantity=found.quantity,
        settings=dict(found.settings),
    )


def hold(found: results.Hold) -> resources_pb2.Hold:
    """A hold with its slices."""
    return resources_pb2.Hold(
        account_id=found.account_id,
        hold_id=found.hold_id,
        member_id=found.member_id,
        job=_job(found.job),
        state=_STATES[found.state],
        amount=found.amount,
        held=found.held,
        charged=found.charged,
        refunded=found.refunded,
        overdrawn=found.overdrawn,
        authorized_at=instant(found.authorized_ms),
        deadline=instant(found.deadline_ms),
        ended_at=_optional_instant(found.ended_ms),
        settled_late=found.settled_late,
        price=price(found.price),
        catalog_version=found.catalog_version,
        slices=[
            resources_pb2.Slice(
                bucket_id=part.bucket_id,
                kind=KINDS[part.kind],
                period=part.period,
                amount=part.amount,
                held=part.held,
                charged=part.charged,
                returned=part.returned,
                refunded=part.refunded,
            )
            for part in found.slices
        ],
    )


def bucket(found: results.Bucket) -> resources_pb2.Bucket:
    """A bucket in one period."""
    return resources_pb2.Bucket(
        bucket_id=found.bucket_id,
        kind=KINDS[found.kind],
        granted=found.granted,
        available=found.available,
        held=found.held,
        spent=found.spent,
        expired=found.expired,
        voided=found.voided,
        ends_at=_optional_instant(found.ends_ms),
        period=found.period,
        granted_at=instant(found.granted_ms),
        ended=found.ended,
        actions=found.actions,
        models=found.models,
    )


def account(found: results.Account) -> accounts_pb2.Account:
    """An account's settings and totals."""
    return accounts_pb2.Account(
        account_id=found.account_id,
        zone=found.zone,
        created_at=instant(found.created_ms),
        totals=totals(found.account_id, found.totals),
    )


def _moves(found: Iterable[results.Move]) -> list[resources_pb2.Move]:
    moves = []
    for part in found:
        move = resources_pb2.Move(
            bucket_id=part.bucket_id,
            kind=KINDS[part.kind],
            period=part.period,
            to=_FIGURES[part.target],
            amount=part.amount,
        )
        setattr(move, "from", _FIGURES[part.source])
        moves.append(move)
    return moves


def entry(account_id: str, found: results.LedgerEntry) -> resources_pb2.LedgerEntry:
    """One change of an account."""
    return resources_pb2.LedgerEntry(
        account_id=account_id,
        seq=found.seq,
        at=instant(found.at_ms),
        verb=_VERBS[found.verb],
        hold_id=found.hold_id,
        operation_id=found.operation_id,
        bucket_id=found.bucket_id,
        member_id=found.member_id,
        action=found.action,
        model=found.model,
        moves=_moves(found.moves),
        debt_change=found.debt_change,
        available_after=found.available,
        held_after=found.held,
        debt_after=found.debt,
    )
