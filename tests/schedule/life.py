"""An account's life: a schedule in time, and a store that does to rows what its turns say."""

from dataclasses import dataclass

from creditgate_server.core import schedule as s
from creditgate_server.core.plans import Plans
from creditgate_server.core.schedule import Schedule, Turn
from tests.schedule.times import ms


@dataclass(kw_only=True)
class Row:
    """A bucket in one period. `ends_ms` None is never."""

    kind: str
    available: int
    ends_ms: int | None
    live: bool = True
    frozen: bool = False


class Life:
    """Reads turns as they are written for the scripts, so that every word of them is used."""

    def __init__(self, plans: Plans, at: str, zone: str = "UTC") -> None:
        self.plans = plans
        self.now_ms = ms(at)
        self.schedule = Schedule()
        self.rows: dict[str, Row] = {}
        self.do(s.SetZone(zone=zone))

    def at(self, when: str | int) -> "Life":
        """Sleep until then."""
        self.now_ms = ms(when) if isinstance(when, str) else when
        self.apply(s.caught_up(self.schedule, self.plans, self.now_ms))
        return self

    def do(self, event: s.Event) -> bool:
        """Whether the event was applied; False if a newer one came first."""
        turn = s.after(self.schedule, self.plans, self.now_ms, event)
        if turn is not None:
            self.apply(turn)
        return turn is not None

    def buy(self, row: str, amount: int) -> None:
        """A top-up."""
        self.rows[row] = Row(kind="T", available=amount, ends_ms=None)

    def spend(self, row: str, amount: int) -> None:
        assert self.rows[row].available >= amount
        self.rows[row].available -= amount

    @property
    def live(self) -> dict[str, int]:
        """What is available, by row; frozen rows have their name in brackets."""
        return {
            f"({name})" if row.frozen else name: row.available
            for name, row in self.rows.items()
            if row.live
        }

    def ends(self, row: str) -> int | None:
        return self.rows[row].ends_ms

    def apply(self, turn: Turn) -> None:
        """As the store does: the turn, then what has ended by its date."""
        assert turn.of == self.schedule.version
        assert turn.changes or not turn.ops
        head, details, *lines = s.encode(turn).split("\n")
        of, version, next_turn, plan, cap_period = head.split(" ")
        self.schedule = s.load(" ".join(filter(None, (version, plan, cap_period, details))))
        assert self.schedule == turn.schedule
        assert int(version) == self.schedule.version == int(of) + turn.changes
        assert int(next_turn) == self.schedule.next_turn_ms
        assert plan == (self.schedule.plan or "*")
        assert int(cap_period) == self.schedule.cap_period
        for line in lines:
            word, *about = line.split(" ")
            getattr(self, f"_{word}")(*about)
        for row in self.rows.values():
            if row.ends_ms is not None and row.ends_ms <= self.now_ms:
                row.live = False

    def _begin(self, *about: str) -> None:
        row, kind, amount, ends_ms, _, _, roll_from, roll_max = about
        assert row not in self.rows, f"{row} began twice"
        available = int(amount)
        if roll_from != "*":
            rolled = min(int(roll_max), self.rows[roll_from].available)
            self.rows[roll_from].available -= rolled
            available += rolled
        self.rows[row] = Row(kind=kind, available=available, ends_ms=int(ends_ms))

    def _more(self, row: str, amount: str) -> None:
        assert self.rows[row].live
        self.rows[row].available += int(amount)

    def _at_most(self, row: str, amount: str) -> None:
        assert self.rows[row].live
        self.rows[row].available = min(int(amount), self.rows[row].available)

    def _end(self, row: str) -> None:
        assert self.rows[row].live
        self.rows[row].live = False

    def _keep(self, row: str) -> None:
        assert self.rows[row].live
        self.rows[row].ends_ms = None

    def _freeze(self, row: str) -> None:
        assert self.rows[row].live
        self.rows[row].frozen = True

    def _thaw(self) -> None:
        for row in self.rows.values():
            row.frozen = False

    def _lapse(self, kind: str, on_lapse: str) -> None:
        for row in self.rows.values():
            if row.kind == kind and row.live:
                row.live, row.frozen = on_lapse == "freeze", on_lapse == "freeze"
