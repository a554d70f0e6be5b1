"""The records that scripts keep, read into words and written from them: see `lua/parts/base.lua`.

Words stand with a space between, "*" is nothing: no id contains it. Rows say moments to the base of
36.
"""

from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote, unquote

from creditgate_server.core.commands import Job, Kind, LateSettle, Overage, Terms
from creditgate_server.core.prices import Price, Rounding
from creditgate_server.core.results import (
    Bucket,
    Decision,
    Denial,
    Figure,
    Hold,
    HoldState,
    LedgerEntry,
    Move,
    Slice,
    Totals,
    Verb,
)

_REMEMBERED = 1024
"""How many texts of terms are not made or read anew: jobs are alike."""

_KINDS = {kind.value: kind for kind in Kind}
_STATES = {state.value: state for state in HoldState}


def word(text: str) -> str:
    """A word of a record."""
    return text or "*"


def unword(text: str) -> str:
    """What the word stands for."""
    return "" if text == "*" else text


def names(items: Iterable[str]) -> str:
    """A list of ids as one word."""
    return ",".join(items) or "*"


def _unnames(text: str) -> tuple[str, ...]:
    return () if text == "*" else tuple(text.split(","))


# The letters of a record.
_OVERAGE = {
    Overage.CAP: "c",
    Overage.CHARGE_AVAILABLE: "a",
    Overage.OVERDRAFT: "o",
    Overage.REJECT: "r",
}
_LATE_SETTLE = {LateSettle.RECHARGE: "r", LateSettle.REJECT: "x"}


@lru_cache(_REMEMBERED)
def terms_words(terms: Terms, job: Job) -> str:
    """What is pinned to a hold, in the order of its record."""
    price = terms.price
    pinned = (
        f"{price.flat or ''}/{price.numerator}"
        f"/{'' if price.denominator == 1 else price.denominator}/{price.minimum or ''}"
        f"/{price.rounding.value}/{word(quote(price.unit, safe=''))}"
    )
    settings = ";".join(f"{name}={value}" for name, value in job.settings)
    return (
        f"{job.quantity} {word(settings)} {word(terms.catalog_version)} {pinned}"
        f" {_OVERAGE[terms.overage]}{terms.overdraft_limit}{_LATE_SETTLE[terms.late_settle]}"
        f" {terms.ttl_ms} {terms.life_ms_max}"
    )


@lru_cache(_REMEMBERED)
def _read_pinned(record: str) -> tuple[Job, str, Price]:
    """The end of a hold's record, from the action on, as far as it is shown."""
    action, model, quantity, settings, catalog_version, price = record.split(" ")[:6]
    flat, numerator, denominator, minimum, rounding, unit = price.split("/")
    pairs = (pair.partition("=") for pair in unword(settings).split(";") if pair)
    job = Job(
        action=action,
        model=unword(model),
        quantity=int(quantity),
        settings=tuple((name, value) for name, _, value in pairs),
    )
    return (
        job,
        unword(catalog_version),
        Price(
            flat=int(flat or 0),
            numerator=int(numerator),
            denominator=int(denominator or 1),
            minimum=int(minimum or 0),
            rounding=Rounding(rounding),
            unit=unquote(unword(unit)),
        ),
    )


# What follows is made by place, not by name: a third of the time, several times in every answer.


def read_totals(text: str) -> Totals:
    """Seq, available, held, debt and the time, as every reply about an account begins."""
    return Totals._make(map(int, text.split(" ")))


def _row_name(name: str) -> tuple[str, int]:
    """The id and the period of a row; a period stands after "#"."""
    bucket_id, _, period = name.partition("#")
    return bucket_id, int(period or 0)


def read_row(name: str, record: str) -> Bucket:
    """A bucket in one period."""
    sort, *words = record.split(" ")
    ends_ms, created_ms = int(words[3], 36), int(words[4], 36)
    available, held, spent, expired, voided = map(int, (*words[:3], *(words[5:7] or (0, 0))))
    actions, models = words[7:] or ("*", "*")
    bucket_id, period = _row_name(name)
    return Bucket(
        bucket_id,
        period,
        _KINDS[sort[0]],
        available + held + spent + expired + voided,
        available,
        held,
        spent,
        expired,
        voided,
        ends_ms or None,
        created_ms,
        sort[1] in {"E", "V"},
        sort[1] == "F",
        _unnames(actions),
        _unnames(models),
        "#" in name,
    )


def _read_slice(text: str) -> Slice:
    kind, amount, charged, returned, refunded, name = text.split("/", 5)
    bucket_id, period = _row_name(name)
    return Slice(
        bucket_id,
        period,
        _KINDS[kind],
        int(amount),
        int(charged or 0),
        int(returned or 0),
        int(refunded or 0),
    )


def read_hold(account_id: str, hold_id: str, record: str) -> Hold:
    """A hold, open or ended."""
    state, amount, charged, authorized, lasts, ended, rare, _, slice_words, _, member, pinned = (
        record.split(" ", 11)
    )
    authorized_ms = int(authorized)
    refunded = overdrawn = late = "0"
    if rare != "*":
        refunded, overdrawn, _, late, _ = rare.split("/", 4)
    job, catalog_version, price = _read_pinned(pinned)
    slices = tuple(map(_read_slice, _unnames(slice_words)))
    return Hold(
        account_id,
        hold_id,
        unword(member),
        job,
        _STATES[state],
        int(amount),
        sum([part.held for part in slices]),
        int(charged),
        int(refunded),
        int(overdrawn),
        authorized_ms,
        authorized_ms + int(lasts),
        None if _STATES[state] is HoldState.OPEN else authorized_ms + int(ended),
        late == "1",
        price,
        catalog_version,
        slices,
    )


def _read_move(text: str) -> Move:
    figures, amount, kind, name = text.split("/", 3)
    bucket_id, period = _row_name(name)
    return Move(
        bucket_id=bucket_id,
        period=period,
        kind=_KINDS[kind],
        source=Figure(figures[0]),
        target=Figure(figures[1]),
        amount=int(amount),
    )


def read_entry(text: str) -> LedgerEntry:
    """An entry of the ledger."""
    _account, _prev, seq, at, verb, row, hold, operation, member, action, model, moves, *figures = (
        text.split(" ")
    )
    debt_change, available, held, debt = map(int, figures)
    bucket_id, period = _row_name(unword(row))
    return LedgerEntry(
        seq=int(seq),
        at_ms=int(at),
        verb=Verb(verb),
        hold_id=unword(hold),
        operation_id=unword(operation),
        bucket_id=bucket_id,
        period=period,
        member_id=unword(member),
        action=unword(action),
        model=unword(model),
        moves=tuple(map(_read_move, _unnames(moves))),
        debt_change=debt_change,
        available=available,
        held=held,
        debt=debt,
    )


def read_denial(text: str) -> Denial:
    """The last denial of an account."""
    seq, decision, hold_id, action, model, member, amount, missing = text.split(" ")
    return Denial(
        seq=int(seq),
        decision=Decision(decision),
        hold_id=hold_id,
        action=action,
        model=unword(model),
        member_id=unword(member),
        amount=int(amount),
        missing=int(missing),
    )
