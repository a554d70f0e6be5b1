"""Each command's way into its script and back: the arguments it sends, the reply it reads.

A reply is parsed here, once; an outcome that is not known here raises, and nothing above sees a
list.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from creditgate_server.core import commands as c
from creditgate_server.core import results as r
from creditgate_server.core import schedule
from creditgate_server.core.faults import Fault, Reason
from creditgate_server.core.schedule import Schedule, SetZone, Turn
from creditgate_server.store import records
from creditgate_server.store.keys import Partition
from creditgate_server.store.script import Script, script


def _caught_up(command: Any, kept: Schedule, now_ms: int) -> Turn:
    return schedule.caught_up(kept, command.rules.plans, now_ms)


@dataclass(frozen=True, slots=True)
class Verb:
    """A script, its arguments and its reply. `arguments` gets the test clock and a turn, or ""."""

    script: Script
    keys: Callable[[Partition, str], list[str]]
    arguments: Callable[[Any, str, str], list[str]]
    read: Callable[[Any, Sequence[Any]], Any]
    turn: Callable[[Any, Schedule, int], Turn | None] = _caught_up
    """What to send along when the script says that a turn is due; None ends the matter."""

    @property
    def own_turn(self) -> bool:
        """Whether it is a turn itself, and so takes another round trip though nothing is due."""
        return self.turn is not _caught_up


# Keys and arguments -----------------------------------------------------------------------------


def _all_keys(partition: Partition, account_id: str) -> list[str]:
    return [
        partition.account(account_id),
        partition.deadlines,
        partition.ledger,
        partition.closed,
    ]


def _optional(figure: int | None) -> str:
    return "" if figure is None else str(figure)


def _account_arguments(command: Any, clock: str, turn: str) -> list[str]:
    return [command.account_id, clock, command.rules.ranks, turn]


def _hold_arguments(command: Any, clock: str, turn: str) -> list[str]:
    rules: c.Rules = command.rules
    return [
        command.account_id,
        clock,
        rules.ranks,
        turn,
        command.hold_id,
        rules.on_failed.value,
        str(rules.compensation_ms),
    ]


def _place_arguments(command: c.Authorize | c.Charge, clock: str, turn: str) -> list[str]:
    terms, job = command.terms, command.job
    if terms is None:
        figures = ["", _optional(command.max_amount), "0"]
    else:
        ttl_ms = command.ttl_ms if isinstance(command, c.Authorize) else None
        lasts_ms = min(terms.ttl_ms if ttl_ms is None else ttl_ms, terms.life_ms_max)
        figures = [str(terms.amount), _optional(command.max_amount), str(lasts_ms)]
    return [
        *_hold_arguments(command, clock, turn),
        command.fingerprint,
        *figures,
        job.action,
        records.word(job.model),
        records.word(command.member_id),
        "*" if terms is None else terms.gate,
        "" if terms is None else records.terms_words(terms, job),
    ]


def _extend_arguments(command: c.Extend, clock: str, turn: str) -> list[str]:
    return [
        *_hold_arguments(command, clock, turn),
        "",
        _optional(command.ttl_ms),
        _optional(command.amount),
        _optional(command.quantity),
    ]


def _settle_arguments(command: c.Settle, clock: str, turn: str) -> list[str]:
    return [
        *_hold_arguments(command, clock, turn),
        command.fingerprint,
        command.operation_id,
        _optional(command.amount),
        _optional(command.quantity),
        "1" if command.partial else "0",
    ]


def _refund_arguments(command: c.Refund, clock: str, turn: str) -> list[str]:
    rules = command.rules
    policy = rules.on_cancelled if command.cancelled else rules.on_failed
    return [
        *_hold_arguments(command, clock, turn),
        command.fingerprint,
        command.operation_id,
        _optional(command.amount),
        policy.value,
    ]


def _grant_arguments(command: c.Grant, clock: str, turn: str) -> list[str]:
    return [
        command.account_id,
        clock,
        command.rules.ranks,
        turn,
        command.source_ref,
        command.kind.value,
        str(command.amount),
        str(command.ends_ms or 0),
        records.names(command.actions),
        records.names(command.models),
        "*" if command.buyers is None else f",{','.join(sorted(command.buyers))},",
    ]


# Replies ----------------------------------------------------------------------------------------
# What every job needs is made by place, not by name: see `core.results`.

_DENIALS = {
    "unpriced_action": r.Decision.UNPRICED_ACTION,
    "price_changed": r.Decision.PRICE_CHANGED,
    "account_frozen": r.Decision.ACCOUNT_FROZEN,
    "plan_required": r.Decision.PLAN_REQUIRED,
    "member_limit": r.Decision.MEMBER_LIMIT,
    "concurrency_limit": r.Decision.CONCURRENCY_LIMIT,
    "insufficient_credits": r.Decision.INSUFFICIENT_CREDITS,
}


@dataclass(frozen=True, slots=True)
class _Refusal:
    """An outcome that is a fault; braces in `message` name ids of the command and figures."""

    reason: Reason
    message: str
    metadata: tuple[str, ...]
    figures: tuple[str, ...] = ()
    """What stands after the totals in the reply."""


_ENDED = ("charged", "refunded")

_REFUSALS = {
    "account_not_found": _Refusal(
        Reason.ACCOUNT_NOT_FOUND,
        "there is no account {account_id!r}",
        ("account_id",),
    ),
    "hold_not_found": _Refusal(
        Reason.HOLD_NOT_FOUND, "account {account_id!r} has no hold {hold_id!r}", ("hold_id",)
    ),
    "bucket_not_found": _Refusal(
        Reason.BUCKET_NOT_FOUND,
        "account {account_id!r} has no bucket {bucket_id!r}",
        ("bucket_id",),
    ),
    "id_reused": _Refusal(
        Reason.ID_REUSED, "the id {id!r} was used with other content; nothing changed", ("id",)
    ),
    "hold_settled": _Refusal(
        Reason.HOLD_SETTLED,
        "hold {hold_id!r} is settled: charged {charged}, refunded {refunded}",
        ("hold_id", *_ENDED),
        _ENDED,
    ),
    "hold_refunded": _Refusal(
        Reason.HOLD_REFUNDED,
        "hold {hold_id!r} was refunded: charged {charged}, refunded {refunded}",
        ("hold_id", *_ENDED),
        _ENDED,
    ),
    "hold_expired": _Refusal(
        Reason.HOLD_EXPIRED,
        "hold {hold_id!r} has expired: charged {charged}, refunded {refunded}",
        ("hold_id", *_ENDED),
        _ENDED,
    ),
    "hold_open": _Refusal(
        Reason.HOLD_OPEN,
        "hold {hold_id!r} is open and is refunded whole: leave amount unset, or settle",
        ("hold_id",),
    ),
    "amount_exceeds_hold": _Refusal(
        Reason.AMOUNT_EXCEEDS_HOLD,
        "hold {hold_id!r} has {held} set aside, and the catalog rejects more",
        ("hold_id", "held"),
        ("held",),
    ),
    "refund_exceeds_charge": _Refusal(
        Reason.REFUND_EXCEEDS_CHARGE,
        "of hold {hold_id!r} {refundable} can still be refunded",
        ("hold_id", "refundable"),
        ("refundable",),
    ),
    "amount_overflow": _Refusal(
        Reason.AMOUNT_OVERFLOW,
        "account {account_id!r}: a figure would pass 2^53 - 1",
        ("account_id",),
    ),
    "too_many_operations": _Refusal(
        Reason.TOO_MANY_OPERATIONS,
        "hold {hold_id!r} has {limit} operations, no more are recorded",
        ("hold_id", "limit"),
        ("limit",),
    ),
    "ends_in_the_past": _Refusal(
        Reason.INVALID_FIELD, "ends_at: must lie in the future", ("field",)
    ),
    "not_a_cursor": _Refusal(
        Reason.INVALID_FIELD, "page_token: must come from the previous page", ("field",)
    ),
}

_FIELDS = {"ends_in_the_past": "ends_at", "not_a_cursor": "page_token"}


def _fault(command: Any, reply: Sequence[Any]) -> Fault:
    """The fault that a reply tells of."""
    refusal = _REFUSALS.get(reply[0])
    if refusal is None:
        raise ValueError(f"{type(command).__name__} got an unknown outcome {reply[0]!r}")
    ids = {name: getattr(command, name, "") for name in ("account_id", "hold_id", "bucket_id")}
    names = ("operation_id", "hold_id", "source_ref", "reference")
    used = (getattr(command, name, "") for name in names)
    said = {
        **ids,
        "id": next(filter(None, used), ""),
        "field": _FIELDS.get(reply[0], ""),
        **dict(zip(refusal.figures, reply[2:], strict=bool(refusal.figures))),
    }
    return Fault(
        refusal.reason,
        refusal.message.format_map(said),
        metadata={name: said[name] for name in refusal.metadata},
    )


def _expect(outcome: str, command: Any, reply: Sequence[Any]) -> Sequence[Any]:
    """What stands after the totals when the outcome is the expected one; else raises the fault."""
    if reply[0] != outcome:
        raise _fault(command, reply)
    return reply[2:]


def _totals(reply: Sequence[Any]) -> r.Totals:
    return records.read_totals(reply[1])


def _hold(command: Any, record: str) -> r.Hold:
    return records.read_hold(command.account_id, command.hold_id, record)


def _read_place(command: c.Authorize | c.Charge, reply: Sequence[Any]) -> r.Authorized:
    denial = _DENIALS.get(reply[0])
    amount, hold, replayed, missing, plan, kept = (
        _expect("approved", command, reply) if denial is None else reply[2:]
    )
    return r.Authorized(
        denial or r.Decision.APPROVED,
        int(amount),
        _hold(command, hold) if hold else None,
        int(missing),
        replayed == "1",
        _totals(reply),
        records.unword(plan),
        _schedule(kept),
    )


@lru_cache(1024)
def _schedule(text: str) -> Schedule | None:
    # Remembered by its text: whoever was denied, or looks at a balance, often asks again.
    return schedule.load(text) if text else None


def _read_extend(command: c.Extend, reply: Sequence[Any]) -> r.Extended:
    denial = _DENIALS.get(reply[0])
    hold, missing, plan, kept = _expect("approved", command, reply) if denial is None else reply[2:]
    return r.Extended(
        denial or r.Decision.APPROVED,
        _hold(command, hold),
        int(missing),
        _totals(reply),
        records.unword(plan),
        _schedule(kept),
    )


def _read_settle(command: c.Settle, reply: Sequence[Any]) -> r.Settled:
    charged, shortfall, returned, late, hold, replayed = _expect("settled", command, reply)
    return r.Settled(
        int(charged),
        int(shortfall),
        int(returned),
        late == "1",
        _hold(command, hold),
        replayed == "1",
        _totals(reply),
    )


def _read_refund(command: c.Refund, reply: Sequence[Any]) -> r.Refunded:
    refunded, hold, replayed = _expect("refunded", command, reply)
    return r.Refunded(int(refunded), _hold(command, hold), replayed == "1", _totals(reply))


def _read_expire(command: c.Expire, reply: Sequence[Any]) -> r.Expired:
    if reply[0] == "not_due":
        return r.Expired(returned=None)
    (returned,) = _expect("expired", command, reply)
    return r.Expired(returned=int(returned))


def _read_get_hold(command: c.GetHold, reply: Sequence[Any]) -> r.Hold:
    if reply[0] != "hold":
        raise _fault(command, reply)
    return _hold(command, reply[1])


def _read_list_holds(command: c.ListHolds, reply: Sequence[Any]) -> r.HoldPage:
    if reply[0] != "holds":
        raise _fault(command, reply)
    holds = zip(reply[2::2], reply[3::2], strict=True)
    return r.HoldPage(
        holds=tuple(
            records.read_hold(command.account_id, hold_id, record) for hold_id, record in holds
        ),
        cursor=reply[1],
    )


def _read_balance(command: c.GetBalance, reply: Sequence[Any]) -> r.Balance:
    open_holds, zone, plan, frozen, kept, *rows = _expect("balance", command, reply)
    buckets = tuple(map(records.read_row, rows[::2], rows[1::2]))
    return r.Balance(
        totals=_totals(reply),
        buckets=buckets,
        payable=sum(
            bucket.available
            for bucket in buckets
            if bucket.pays(action=command.action, model=command.model)
        ),
        open_holds=int(open_holds),
        zone=zone,
        plan=records.unword(plan),
        frozen=frozen == "1",
        schedule=_schedule(kept),
    )


def _read_account(command: Any, reply: Sequence[Any]) -> r.Account:
    zone, created_ms, frozen, kept, denied = reply[2:]
    return r.Account(
        account_id=command.account_id,
        zone=zone,
        created_ms=int(created_ms),
        totals=_totals(reply),
        frozen=frozen == "1",
        schedule=_schedule(kept),
        denied=records.read_denial(denied) if denied else None,
    )


def _read_put_account(command: c.PutAccount, reply: Sequence[Any]) -> r.AccountPut:
    created = reply[0] == "created"
    if not created:
        _expect("account", command, reply)
    return r.AccountPut(account=_read_account(command, reply), created=created)


def _read_get_account(command: c.GetAccount, reply: Sequence[Any]) -> r.Account:
    _expect("account", command, reply)
    return _read_account(command, reply)


def _turn_of_put_account(command: c.PutAccount, kept: Schedule, now_ms: int) -> Turn | None:
    if kept.version == 0:
        return _caught_up(command, replace(kept, zone=command.zone or kept.zone), now_ms)
    if not command.zone:
        return _caught_up(command, kept, now_ms)
    return schedule.after(kept, command.rules.plans, now_ms, SetZone(zone=command.zone))


def _turn_of_event(command: c.Reschedule, kept: Schedule, now_ms: int) -> Turn | None:
    try:
        return schedule.after(kept, command.rules.plans, now_ms, command.event)
    except schedule.Refused as refused:
        reason = Reason[refused.reason]
        about: dict[str, str] = {}
        plan = schedule.caught_up(kept, command.rules.plans, now_ms).schedule.plan
        if reason is Reason.NOT_SUBSCRIBED:
            about["account_id"] = command.account_id
        else:
            if isinstance(command.event, schedule.SetAddOns):
                about["add_on_id"] = command.event.name
            if reason is not Reason.ADD_ON_NOT_FOUND:
                about["plan_id"] = getattr(command.event, "plan", "") or plan
        raise Fault(reason, refused.message, metadata=about) from None


def _read_event(command: c.Reschedule, reply: Sequence[Any]) -> r.Rescheduled:
    if reply[0] == "turn_due":
        # There is no turn to send: a newer event came first.
        return r.Rescheduled(effect=r.Effect.SUPERSEDED)
    if reply[0] == "replayed":
        return r.Rescheduled(effect=r.Effect.REPLAYED)
    _expect("applied", command, reply)
    return r.Rescheduled(effect=r.Effect.APPLIED)


def _read_frozen(command: c.SetFrozen, reply: Sequence[Any]) -> r.Totals:
    _expect("set", command, reply)
    return _totals(reply)


def _read_member_limit(command: c.SetMemberLimit, reply: Sequence[Any]) -> r.MemberLimited:
    (used,) = _expect("set", command, reply)
    return r.MemberLimited(used=int(used))


def _read_grant(command: c.Grant, reply: Sequence[Any]) -> r.Granted:
    denial = _DENIALS.get(reply[0])
    if denial is not None:
        plan, kept = reply[2:]
        return r.Granted(
            decision=denial,
            bucket=None,
            replayed=False,
            totals=_totals(reply),
            plan=records.unword(plan),
            schedule=_schedule(kept),
        )
    record, replayed = _expect("granted", command, reply)
    return r.Granted(
        decision=r.Decision.APPROVED,
        bucket=records.read_row(command.source_ref, record),
        replayed=replayed == "1",
        totals=_totals(reply),
    )


def _read_void(command: c.VoidBucket, reply: Sequence[Any]) -> r.Voided:
    (record,) = _expect("voided", command, reply)
    return r.Voided(bucket=records.read_row(command.bucket_id, record), totals=_totals(reply))


def _read_ledger(command: c.ListLedger, reply: Sequence[Any]) -> r.LedgerPage:
    if reply[0] != "entries":
        raise _fault(command, reply)
    return r.LedgerPage(entries=tuple(map(records.read_entry, reply[2:])), cursor=reply[1])


VERBS: dict[type[c.Command[Any]], Verb] = {
    c.Authorize: Verb(script("authorize"), _all_keys, _place_arguments, _read_place),
    c.Charge: Verb(script("charge"), _all_keys, _place_arguments, _read_place),
    c.Extend: Verb(script("extend"), _all_keys, _extend_arguments, _read_extend),
    c.Settle: Verb(script("settle"), _all_keys, _settle_arguments, _read_settle),
    c.Refund: Verb(script("refund"), _all_keys, _refund_arguments, _read_refund),
    c.Expire: Verb(script("expire"), _all_keys, _hold_arguments, _read_expire),
    c.GetHold: Verb(
        script("get_hold"),
        lambda partition, account_id: [partition.account(account_id), partition.closed],
        lambda command, _clock, _turn: [command.account_id, command.hold_id],
        _read_get_hold,
    ),
    c.ListHolds: Verb(
        script("list_holds"),
        lambda partition, account_id: [partition.account(account_id)],
        lambda command, _clock, _turn: [command.cursor, str(command.limit)],
        _read_list_holds,
    ),
    c.GetBalance: Verb(script("get_balance"), _all_keys, _account_arguments, _read_balance),
    c.PutAccount: Verb(
        script("put_account"),
        _all_keys,
        lambda command, *at: [*_account_arguments(command, *at), command.zone],
        _read_put_account,
        _turn_of_put_account,
    ),
    c.GetAccount: Verb(script("get_account"), _all_keys, _account_arguments, _read_get_account),
    c.Reschedule: Verb(
        script("reschedule"),
        _all_keys,
        lambda command, *at: [
            *_account_arguments(command, *at),
            command.reference,
            command.fingerprint,
        ],
        _read_event,
        _turn_of_event,
    ),
    c.SetFrozen: Verb(
        script("set_frozen"),
        _all_keys,
        lambda command, *at: [*_account_arguments(command, *at), str(int(command.frozen))],
        _read_frozen,
    ),
    c.SetMemberLimit: Verb(
        script("set_member_limit"),
        _all_keys,
        lambda command, *at: [
            *_account_arguments(command, *at),
            records.word(command.member_id),
            "*" if command.amount is None else str(command.amount),
        ],
        _read_member_limit,
    ),
    c.Grant: Verb(script("grant"), _all_keys, _grant_arguments, _read_grant),
    c.VoidBucket: Verb(
        script("void_bucket"),
        _all_keys,
        lambda command, *at: [*_account_arguments(command, *at), command.bucket_id],
        _read_void,
    ),
    c.ListLedger: Verb(
        script("list_ledger"),
        lambda partition, account_id: [partition.account(account_id), partition.ledger],
        lambda command, _clock, _turn: [command.account_id, command.cursor, str(command.limit)],
        _read_ledger,
    ),
}
