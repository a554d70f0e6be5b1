"""Adds up what was charged (R48), from the entries of a ledger."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from creditgate.v1 import accounts_pb2 as pb
from creditgate_server.core import calendar
from creditgate_server.core.results import Figure, LedgerEntry, Verb

_Key = tuple[str, str, str]


@dataclass(slots=True)
class _Line:
    jobs: int = 0
    charged: int = 0
    refunded: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What entries from `from_ms` on and before `until_ms` charged; "" is any action or model."""

    zone: str
    from_ms: int
    until_ms: int | None
    action: str
    model: str
    _lines: dict[_Key, _Line] = field(default_factory=lambda: defaultdict(_Line))

    def add(self, entries: Iterable[LedgerEntry]) -> bool:
        """Count entries, the latest first; False once one is older than what is asked for."""
        for entry in entries:
            if entry.at_ms < self.from_ms:
                return False
            if self._asked_for(entry):
                self._count(entry)
        return True

    def answer(self) -> pb.GetUsageResponse:
        """By day, then action, then model."""
        lines = [
            pb.GetUsageResponse.Line(
                day=day,
                action=action,
                model=model,
                jobs=line.jobs,
                charged=line.charged,
                refunded=line.refunded,
            )
            for (day, action, model), line in sorted(self._lines.items())
        ]
        return pb.GetUsageResponse(
            lines=lines,
            charged=sum(line.charged for line in lines),
            refunded=sum(line.refunded for line in lines),
        )

    def _asked_for(self, entry: LedgerEntry) -> bool:
        return (
            (self.until_ms is None or entry.at_ms < self.until_ms)
            and self.action in {"", entry.action}
            and self.model in {"", entry.model}
        )

    def _count(self, entry: LedgerEntry) -> None:
        key = (calendar.day_of(entry.at_ms, self.zone), entry.action, entry.model)
        if entry.verb in {Verb.SETTLE, Verb.CHARGE}:
            line = self._lines[key]
            line.jobs += 1
            line.charged += _moved(entry, target=Figure.SPENT) + max(0, entry.debt_change)
        elif entry.verb is Verb.REFUND:
            refunded = _refunded(entry)
            if refunded:
                self._lines[key].refunded += refunded


def _moved(
    entry: LedgerEntry, *, source: Figure | None = None, target: Figure | None = None
) -> int:
    return sum(
        move.amount
        for move in entry.moves
        if source in {None, move.source} and target in {None, move.target}
    )


def _refunded(entry: LedgerEntry) -> int:
    """What was charged and given back: spent credits, a debt, and credits that had paid a debt.

    The last are granted anew, and so is what came back to a row that has ended: that is counted
    where it was spent.
    """
    anew = _moved(entry, source=Figure.GRANTED) - sum(
        _moved(entry, source=source, target=Figure.EXPIRED)
        for source in (Figure.SPENT, Figure.HELD)
    )
    return _moved(entry, source=Figure.SPENT) + max(0, -entry.debt_change) + max(0, anew)
