"""Results of the core as messages of the contract.

What is part of many answers is written field by field into its place in the answer: a message made
by itself, from keywords, takes three times as long, and is then copied. A field that is 0 in nearly
every answer is written only if it is not, and what many holds share is copied at once.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache

from google.protobuf.timestamp_pb2 import Timestamp

from creditgate.v1 import accounts_pb2, catalog_pb2, resources_pb2
from creditgate_server.core import results, schedule
from creditgate_server.core.commands import Job, Kind
from creditgate_server.core.plans import Plan, Plans
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
_COMING = {
    coming: accounts_pb2.Upcoming.Event.Value(f"EVENT_{coming.name}") for coming in schedule.Coming
}
EFFECTS = {effect: accounts_pb2.Effect.Value(f"EFFECT_{effect.name}") for effect in results.Effect}
DENIALS: dict[results.Decision, resources_pb2.DenialReason.ValueType] = {
    decision: resources_pb2.DenialReason.Value(f"DENIAL_REASON_{decision.name}")
    for decision in results.Decision
    if decision is not results.Decision.APPROVED
}


def write_instant(into: Timestamp, ms: int) -> None:
    """A time in ms."""
    into.seconds, rest = divmod(ms, 1000)
    into.nanos = rest * 1_000_000


def instant(ms: int) -> Timestamp:
    """A time in ms as a message of its own."""
    found = Timestamp()
    write_instant(found, ms)
    return found


def _optional_instant(ms: int | None) -> Timestamp | None:
    return None if ms is None else instant(ms)


def write_totals(into: resources_pb2.Totals, account_id: str, found: results.Totals) -> None:
    """What an account has in total."""
    into.account_id = account_id
    into.seq, into.available, into.held, into.debt, as_of_ms = found
    write_instant(into.as_of, as_of_ms)


def write_price(into: resources_pb2.Price, found: Price) -> None:
    """A pinned price."""
    into.flat = found.flat
    into.rate_numerator = found.numerator
    into.rate_denominator = found.denominator
    into.minimum = found.minimum
    into.rounding = _ROUNDINGS[found.rounding]
    into.unit = found.unit


@lru_cache(1024)
def _pinned(job: Job, price: Price, catalog_version: str) -> resources_pb2.Hold:
    """What holds of equal jobs have in common. To be copied, never to be changed."""
    hold = resources_pb2.Hold(catalog_version=catalog_version)
    hold.job.action, hold.job.model, hold.job.quantity, settings = job
    hold.job.settings.update(settings)
    write_price(hold.price, price)
    return hold


def write_hold(into: resources_pb2.Hold, found: results.Hold) -> None:
    """A hold with its slices, in a place where there is none yet."""
    (
        account_id,
        hold_id,
        member_id,
        job,
        state,
        amount,
        held,
        charged,
        refunded,
        overdrawn,
        authorized_ms,
        deadline_ms,
        ended_ms,
        settled_late,
        price,
        catalog_version,
        slices,
    ) = found
    into.CopyFrom(_pinned(job, price, catalog_version))
    into.account_id = account_id
    into.hold_id = hold_id
    into.state = _STATES[state]
    into.amount = amount
    into.held = held
    into.charged = charged
    write_instant(into.authorized_at, authorized_ms)
    write_instant(into.deadline, deadline_ms)
    if ended_ms is not None:
        write_instant(into.ended_at, ended_ms)
    if member_id:
        into.member_id = member_id
    if refunded:
        into.refunded = refunded
    if overdrawn:
        into.overdrawn = overdrawn
    if settled_late:
        into.settled_late = True
    for part in slices:
        _write_slice(into.slices.add(), part)


def _write_slice(into: resources_pb2.Slice, found: results.Slice) -> None:
    bucket_id, period, kind, amount, charged, returned, refunded = found
    into.bucket_id = bucket_id
    into.kind = KINDS[kind]
    into.amount = amount
    if held := found.held:
        into.held = held
    if period:
        into.period = period
    if charged:
        into.charged = charged
    if returned:
        into.returned = returned
    if refunded:
        into.refunded = refunded


def write_bucket(
    into: resources_pb2.Bucket, found: results.Bucket, resets: Mapping[str, int] | None = None
) -> None:
    """A bucket in one period; `resets` says of rows when the next period begins."""
    into.bucket_id = found.bucket_id
    into.kind = KINDS[found.kind]
    into.granted = found.granted
    into.available = found.available
    into.held = found.held
    into.spent = found.spent
    into.expired = found.expired
    into.voided = found.voided
    if found.ends_ms is not None:
        write_instant(into.ends_at, found.ends_ms)
    into.period = found.period
    write_instant(into.granted_at, found.granted_ms)
    into.ended = found.ended
    into.actions.extend(found.actions)
    into.models.extend(found.models)
    into.frozen = found.frozen
    if resets and found.recurring:
        next_ms = resets.get(schedule.row_name(found.bucket_id, found.period))
        if next_ms is not None:
            write_instant(into.next_reset_at, next_ms)


def resets(found: results.Balance, plans: Plans) -> dict[str, int]:
    """When the next period of each recurring bucket begins, by its row; for `bucket`."""
    if found.schedule is None:
        return {}
    coming = schedule.next_resets(found.schedule, plans, found.totals.as_of_ms)
    return {item.row: item.at_ms for item in coming}


def account(
    found: results.Account, buckets: Iterable[results.Bucket], plans: Plans
) -> accounts_pb2.Account:
    """An account's settings and totals, its subscription, and what will happen by itself."""
    kept = found.schedule
    message = accounts_pb2.Account(
        account_id=found.account_id,
        zone=found.zone,
        created_at=instant(found.created_ms),
        subscription=None if kept is None or not kept.plan else _subscription(kept),
        frozen=found.frozen,
        add_ons=[]
        if kept is None
        else [
            accounts_pb2.AddOn(add_on_id=name, units=units.now, next_units=units.next)
            for name, units in sorted(kept.units.items())
            if units.now or units.next
        ],
        upcoming=_upcoming(found, buckets, plans),
    )
    write_totals(message.totals, found.account_id, found.totals)
    return message


def _subscription(kept: schedule.Schedule) -> accounts_pb2.Subscription:
    change = kept.change
    return accounts_pb2.Subscription(
        plan_id=kept.plan,
        seats=kept.seats,
        anchor=instant(kept.anchor_ms),
        paid_through=_optional_instant(kept.paid_through_ms),
        ends_at=_optional_instant(kept.ends_ms),
        next_plan_id="" if change is None else change.plan,
        next_seats=0 if change is None else change.seats,
        changes_at=None if change is None else instant(change.at_ms),
    )


def _upcoming(
    found: results.Account, buckets: Iterable[results.Bucket], plans: Plans
) -> list[accounts_pb2.Upcoming]:
    """Changes of the schedule, and ends of what does not begin again (R89)."""
    now_ms = found.totals.as_of_ms
    coming = [] if found.schedule is None else schedule.upcoming(found.schedule, plans, now_ms)
    begins_again = {item.row for item in coming}
    events = [
        (
            item.at_ms,
            accounts_pb2.Upcoming(
                at=instant(item.at_ms),
                event=_COMING[item.coming],
                bucket_id=item.row.partition("#")[0],
                plan_id=item.plan,
                amount=item.amount,
            ),
        )
        for item in coming
    ]
    for row in buckets:
        name = schedule.row_name(row.bucket_id, row.period)
        if row.ends_ms is None or row.ended or (row.recurring and name in begins_again):
            continue
        ends = accounts_pb2.Upcoming(
            at=instant(row.ends_ms),
            event=accounts_pb2.Upcoming.EVENT_BUCKET_END,
            bucket_id=row.bucket_id,
            amount=row.available,
        )
        events.append((row.ends_ms, ends))
    return [event for _, event in sorted(events, key=lambda pair: pair[0])]


def plan(found: Plan) -> catalog_pb2.Plan:
    """A plan of the catalog."""
    return catalog_pb2.Plan(
        plan_id=found.name,
        title=found.title,
        subscription=found.subscription,
        grants=[
            catalog_pb2.RecurringGrant(
                name=grant.name,
                kind=KINDS[Kind(grant.kind)],
                amount=grant.amount,
                every=grant.every.value,
                per_seat=grant.per_seat,
            )
            for grant in found.grants
        ],
        open_holds_max=found.open_holds_max,
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
        period=found.period,
        member_id=found.member_id,
        action=found.action,
        model=found.model,
        moves=_moves(found.moves),
        debt_change=found.debt_change,
        available_after=found.available,
        held_after=found.held,
        debt_after=found.debt,
    )
