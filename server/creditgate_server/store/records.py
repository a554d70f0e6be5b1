"""The records that scripts keep, read into words and written from them, as in `prelude.lua`.

Words stand with a space between, "*" is nothing: no id contains it.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from urllib.parse import quote, unquote

from creditgate_server.core.commands import Job, Kind, Terms
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


@lru_cache(_REMEMBERED)
def terms_words(terms: Terms, job: Job) -> str:
    """What is pinned to a hold, in the order of its record: up to its member and the catalog."""
    price = terms.price
    pinned = (
        f"{price.flat}/{price.numerator}/{price.denominator}/{price.minimum}"
        f"/{price.rounding.value}/{word(quote(price.unit, safe=''))}"
    )
    settings = ";".join(f"{name}={value}" for name, value in job.settings)
    return (
        f"{terms.ttl_ms} {terms.life_ms_max} {terms.overage.value} {terms.overdraft_limit}"
        f" {terms.late_settle.value} {pinned} {job.action} {word(job.model)} {job.quantity}"
        f" {word(settings)}"
    )


@lru_cache(_REMEMBERED)
def _read_terms(words: str) -> tuple[Job, Price]:
    """What `terms_words` wrote, as far as a hold shows it."""
    _ttl, _life, _overage, _limit, _late, price, action, model, quantity, settings = words.split(
        " "
    )
    flat, numerator, denominator, minimum, rounding, unit = price.split("/")
    pairs = (pair.partition("=") for pair in unword(settings).split(";") if pair)
    return (
        Job(
            action=action,
            model=unword(model),
            quantity=int(quantity),
            settings=tuple((name, value) for name, _, value in pairs),
        ),
        Price(
            flat=int(flat),
            numerator=int(numerator),
            denominator=int(denominator),
            minimum=int(minimum),
            rounding=Rounding(rounding),
            unit=unquote(unword(unit)),
        ),
    )


# What follows is made by place, not by name: a third of the time, several times in every answer.


def read_totals(words: Iterable[str]) -> Totals:
    """Seq, available, held, debt and the time, as every reply about an account begins."""
    return Totals(*map(int, words))


def _row_name(name: str) -> tuple[str, int]:
    """The id and the period of a row; a period stands after "#"."""
    bucket_id, _, period = name.partition("#")
    return bucket_id, int(period or 0)


def read_row(name: str, record: str) -> Bucket:
    """A bucket in one period."""
    kind, *figures, ends, created, status, actions, models = record.split(" ")
    granted, available, held, spent, expired, voided = map(int, figures)
    bucket_id, period = _row_name(name)
    return Bucket(
        bucket_id,
        period,
        _KINDS[kind],
        granted,
        available,
        held,
        spent,
        expired,
        voided,
        int(ends) or None,
        int(created),
        status in {"E", "V"},
        status == "F",
        _unnames(actions),
        _unnames(models),
        "#" in name,
    )


def _read_slice(text: str) -> Slice:
    kind, amount, charged, returned, refunded, name = text.split("/", 5)
    bucket_id, period = _row_name(name)
    return Slice(
        bucket_id, period, _KINDS[kind], int(amount), int(charged), int(returned), int(refunded)
    )


def read_hold(account_id: str, hold_id: str, record: str) -> Hold:
    """A hold, open or ended."""
    words = record.split(" ", 13)
    state, amount, charged, refunded, overdrawn, _back, deadline, ended, late = words[:9]
    authorized, _drawn, pinned = words[11:]
    terms, member, catalog_version, slice_words, _operations = pinned.rsplit(" ", 4)
    job, price = _read_terms(terms)
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
        int(authorized),
        int(deadline),
        int(ended) or None,
        late == "1",
        price,
        unword(catalog_version),
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


def read_entry(words: Sequence[str]) -> LedgerEntry:
    """An entry of the ledger, from the fields and values of the stream."""
    said = dict(zip(words[::2], words[1::2], strict=True))
    available, held, debt = map(int, said["after"].split(" "))
    bucket_id, period = _row_name(unword(said["row"]))
    return LedgerEntry(
        seq=int(said["seq"]),
        at_ms=int(said["at"]),
        verb=Verb(said["verb"]),
        hold_id=unword(said["hold"]),
        operation_id=unword(said["operation"]),
        bucket_id=bucket_id,
        period=period,
        member_id=unword(said["member"]),
        action=unword(said["action"]),
        model=unword(said["model"]),
        moves=tuple(map(_read_move, _unnames(said["moves"]))),
        debt_change=int(said["debt"]),
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
