"""Is every credit of an account accounted for? What its ledger moved, against its balance.

Nothing but the ledger's moves ever changes a bucket. So the moves alone, added up from the first
entry to the last, must give every figure of the balance, and in each bucket
granted = available + held + spent + expired + voided.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from rich.console import Group, RenderableType
from rich.text import Text

import creditgate
from creditgate.v1 import resources_pb2 as pb
from creditgate.v1.credits_pb2 import GetBalanceResponse
from creditgate_server.cli import tables, words

Place: TypeAlias = tuple[str, int]
"""A bucket and its period."""

PARTS = ("available", "held", "spent", "expired", "voided")
FIGURES = ("granted", *PARTS)


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What an audit has found."""

    account_id: str
    entries: int
    """So many entries the ledger has, numbered from 1."""
    buckets: Mapping[Place, pb.Bucket]
    """As the balance says, in its order."""
    moved: Mapping[Place, Counter[str]]
    """The figures of each bucket as the ledger's moves add up, forgotten buckets included."""
    problems: tuple[str, ...]
    """All that does not fit; empty if every credit is accounted for."""

    @property
    def sums(self) -> Counter[str]:
        """The figures of all buckets together."""
        return sum(self.moved.values(), Counter())

    @property
    def equation(self) -> str:
        """How the credits granted are accounted for."""
        sums = self.sums
        parts = " + ".join(f"{words.amount(sums[part])} {part}" for part in PARTS)
        return f"{words.amount(sums['granted'])} granted = {parts}"


def audit_account(client: creditgate.Client, account_id: str) -> Audit:
    """Ask a server for an account's balance and its whole ledger, and compare them."""
    balance = client.get_balance(account_id)
    # The account may change between the two answers: later entries are not in the balance yet.
    entries = (entry for entry in client.ledger(account_id) if entry.seq <= balance.totals.seq)
    return audit(balance, entries)


def audit(balance: GetBalanceResponse, entries: Iterable[pb.LedgerEntry]) -> Audit:
    """Compare a balance with the entries that led to it, the latest first."""
    backwards = list(entries)
    fold = _Fold()
    changes = [fold.add(entry) for entry in reversed(backwards)]
    moved = fold.moved
    chain = _Chain(balance.totals)
    for entry, change in zip(backwards, reversed(changes), strict=True):
        chain.add(entry, change)
    chain.end()
    buckets = {(bucket.bucket_id, bucket.period): bucket for bucket in balance.buckets}
    return Audit(
        account_id=balance.totals.account_id,
        entries=balance.totals.seq,
        buckets=buckets,
        moved=moved,
        problems=(*chain.problems, *_compare(buckets, moved)),
    )


def _apply(move: pb.Move, figures: Counter[str]) -> None:
    source, target = words.figure(getattr(move, "from")), words.figure(move.to)
    # The outside world has no less of what it gives.
    figures[source] += move.amount if source == "granted" else -move.amount
    figures[target] += move.amount


class _Fold:
    """The figures of each bucket, entry by entry from the first, and which buckets are frozen."""

    def __init__(self) -> None:
        self.moved: defaultdict[Place, Counter[str]] = defaultdict(Counter)
        self._frozen: set[Place] = set()

    def add(self, entry: pb.LedgerEntry) -> Counter[str]:
        """Take the next entry; what it changes of the account's available, held and debt."""
        change: Counter[str] = Counter(debt=entry.debt_change)
        for move in entry.moves:
            place = (move.bucket_id, move.period)
            step: Counter[str] = Counter()
            _apply(move, step)
            figures = self.moved[place]
            for figure, amount in step.items():
                figures[figure] += amount
            change["held"] += step["held"]
            # What is frozen is shown with its bucket and counts in no total.
            change["available"] += 0 if place in self._frozen else step["available"]
        place = (entry.bucket_id, entry.period)
        if entry.verb == pb.LEDGER_VERB_FREEZE_BUCKET:
            self._frozen.add(place)
            change["available"] -= self.moved[place]["available"]
        elif entry.verb == pb.LEDGER_VERB_THAW_BUCKET:
            self._frozen.discard(place)
            change["available"] += self.moved[place]["available"]
        return change


class _Chain:
    """The entries one after the other, from the latest back.

    No number is missing, and what an entry says of the account is what the one before it said, and
    its own moves.
    """

    def __init__(self, totals: pb.Totals) -> None:
        self.problems: list[str] = []
        self._seq = totals.seq
        self._after = {"available": totals.available, "held": totals.held, "debt": totals.debt}

    def add(self, entry: pb.LedgerEntry, change: Counter[str]) -> None:
        """Take the next earlier entry, and what it changes of the account."""
        if entry.seq != self._seq:
            self.problems.append(f"entry {self._seq} is missing: the next there is {entry.seq}")
        said = {
            "available": entry.available_after,
            "held": entry.held_after,
            "debt": entry.debt_after,
        }
        for figure, expected in self._after.items():
            if said[figure] != expected:
                self.problems.append(
                    f"entry {entry.seq} leaves {figure} at {said[figure]}, "
                    f"but what follows says {expected}"
                )
        self._after = {figure: said[figure] - change[figure] for figure in said}
        self._seq = entry.seq - 1

    def end(self) -> None:
        """All entries were taken: before the first there was nothing."""
        if self._seq != 0:
            self.problems.append(f"entries 1 to {self._seq} are missing")
        self.problems += [
            f"before entry {self._seq + 1}, {figure} was {before}, not 0"
            for figure, before in self._after.items()
            if before
        ]


def _compare(
    buckets: Mapping[Place, pb.Bucket], moved: Mapping[Place, Counter[str]]
) -> Iterable[str]:
    for place, bucket in buckets.items():
        name = _name(place)
        said = {figure: getattr(bucket, figure) for figure in FIGURES}
        for figure in FIGURES:
            ledger = moved.get(place, Counter[str]())[figure]
            if said[figure] != ledger:
                yield f"{name} has {said[figure]} {figure}, but its moves give {ledger}"
        parts = sum(said[part] for part in PARTS)
        if said["granted"] != parts:
            yield f"{name} was granted {said['granted']}, but its parts are {parts}"
    for place, figures in moved.items():
        # Buckets that ended long ago are forgotten; nothing can be left in them.
        if place not in buckets:
            for figure in ("available", "held"):
                if left := figures[figure]:
                    yield f"{_name(place)} is not there, but its moves leave {left} {figure}"


def _name(place: Place) -> str:
    return words.bucket(*place)


def as_dict(found: Audit) -> dict[str, Any]:
    """For programs. Amounts are numbers: they fit."""
    return {
        "account_id": found.account_id,
        "ok": not found.problems,
        "problems": list(found.problems),
        "entries": found.entries,
        "sums": _figures(found.sums),
        "buckets": [
            {"bucket_id": bucket_id, "period": period, **_figures(figures)}
            for (bucket_id, period), figures in sorted(found.moved.items())
        ],
    }


def _figures(figures: Mapping[str, int]) -> dict[str, int]:
    return {figure: figures[figure] for figure in FIGURES}


def shown(found: Audit) -> RenderableType:
    """For people: what was compared, and what came of it."""
    return Group(details(found), verdict(found))


def verdict(found: Audit) -> Text:
    """The last line."""
    if found.problems:
        return tables.no(f"the credits of {found.account_id} do not add up")
    return tables.yes(f"every credit is accounted for: {found.equation}")


def details(found: Audit) -> RenderableType:
    """The figures that the ledger gives, and each check or each problem."""
    table = tables.table("bucket", *FIGURES, right=FIGURES)
    for place, figures in found.moved.items():
        table.add_row(_name(place), *(words.amount(figures[figure]) for figure in FIGURES))
    lines = (
        [Text.assemble(("✗ ", "bold red"), problem) for problem in found.problems]
        if found.problems
        else [Text.assemble(("✓ ", "bold green"), check) for check in _checks(found)]
    )
    return Group(table, "", *lines)


def _checks(found: Audit) -> tuple[str, ...]:
    return (
        f"the ledger has the entries 1 to {words.amount(found.entries)}, none is missing",
        "each entry leaves available, held and debt as the next one finds them",
        f"the moves of {_buckets(len(found.moved))} add up to the balance, figure by figure",
        "in each, granted = available + held + spent + expired + voided",
    )


def _buckets(count: int) -> str:
    return "1 bucket" if count == 1 else f"{count} buckets"
