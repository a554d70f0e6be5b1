"""What an account is subscribed to, and which periods of its recurring buckets are under way.

Pure: a schedule, an event, the catalog's plans and the time go in; the next schedule and the changes of
rows come out. The store applies them in one atomic step if the schedule's version is still the one
they were worked out from, and understands nothing of them: all of the calendar is here.
"""

import enum
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil

from creditgate_server.core import calendar
from creditgate_server.core.calendar import Every
from creditgate_server.core.plans import (
    AddOn,
    OnLapse,
    Plan,
    Plans,
    RecurringGrant,
    SeatShare,
    Upgrade,
)
from creditgate_server.core.prices import AMOUNT_MAX


class When(enum.Enum):
    """When a change of a subscription takes effect."""

    NOW = "now"
    PERIOD_END = "period_end"


class Refused(Exception):
    """An event that this schedule does not admit; `reason` is one word of the contract."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurring:
    """A recurring bucket under way. `number` is that of its period, `since` the number at its anchor."""

    anchor_ms: int
    zone: str
    every: Every
    since: int
    number: int
    ends_ms: int
    amount: int
    """What the period was to hold: the allowance, changes in mid-period included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of plan and seats that waits for its moment."""

    plan: str
    seats: int
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """Units of an add-on, in this period and from the next on."""

    now: int
    next: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One account's. `version` counts its changes; `occurred_ms` is the time of the newest event."""

    version: int = 0
    zone: str = "UTC"
    plan: str = ""
    seats: int = 1
    anchor_ms: int = 0
    paid_through_ms: int | None = None
    ends_ms: int | None = None
    change: Change | None = None
    occurred_ms: int = 0
    cap_period: int = 0
    """Counts the periods in which members' limits are counted: those of the plan's first grant."""
    allowances: Mapping[str, int] = field(default_factory=dict)
    recurring: Mapping[str, Recurring] = field(default_factory=dict)
    units: Mapping[str, Units] = field(default_factory=dict)

    @property
    def lapses_ms(self) -> int | None:
        """When the subscription ends, as far as is known."""
        ends = [at for at in (self.paid_through_ms, self.ends_ms) if at is not None]
        return min(ends, default=None)

    @property
    def next_turn_ms(self) -> int:
        """The next moment at which something changes by itself; 0 when nothing does."""
        moments = [recurring.ends_ms for recurring in self.recurring.values()]
        if self.lapses_ms is not None:
            moments.append(self.lapses_ms)
        if self.change is not None:
            moments.append(self.change.at_ms)
        return min(moments, default=0)


# What is done to rows. The names are those of the words in `prelude.lua`.


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """A row for a new period; up to `roll_max` of what is left in `roll_from` goes into it."""

    row: str
    kind: str
    amount: int
    ends_ms: int
    actions: tuple[str, ...]
    models: tuple[str, ...]
    roll_from: str = ""
    roll_max: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class More:
    """Credits added to a row that lives."""

    row: str
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AtMost:
    """What is available in a row is lowered to `amount`; what is held stays."""

    row: str
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """A row ends before its time."""

    row: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """A row stays without an end."""

    row: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lapse:
    """Every live row of a kind ends or is frozen."""

    kind: str
    on_lapse: OnLapse


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezeRow:
    """A row is shown and not spent."""

    row: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Thaw:
    """Every frozen row can be spent again."""


Op = Begin | More | AtMost | End | Keep | Lapse | FreezeRow | Thaw


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The next schedule and what it does to rows, worked out from version `of`."""

    of: int
    schedule: Schedule
    ops: tuple[Op, ...] = ()


class _Work:
    """A schedule being changed, at one moment."""

    def __init__(self, schedule: Schedule, plans: Plans, now_ms: int) -> None:
        self.s = schedule
        self.plans = plans
        self.now_ms = now_ms
        self.ops: list[Op] = []

    def turn(self) -> Turn:
        of = self.s.version
        return Turn(of=of, schedule=replace(self.s, version=of + 1), ops=tuple(self.ops))

    # What the plan says now.

    @property
    def plan(self) -> Plan | None:
        return self.plans.by_name.get(self.s.plan)

    def grants(self, plan: Plan | None, seats: int) -> dict[str, tuple[RecurringGrant, int]]:
        """The recurring buckets of a plan with their allowance, add-ons included."""
        if plan is None:
            return {}
        found = {
            grant.name: (
                grant,
                _times(
                    self.s.allowances.get(grant.name, grant.amount),
                    seats if grant.per_seat else 1,
                ),
            )
            for grant in plan.grants
        }
        for name, units in self.s.units.items():
            add_on = self.plans.add_on_by_name.get(name)
            if add_on is not None and plan.name in add_on.amounts and units.now:
                grant = _grant_of(add_on, plan.name)
                each = seats if grant.per_seat else 1
                found[name] = (grant, _times(grant.amount, units.now * each))
        return found

    # Periods.

    def begin(self, grant: RecurringGrant, amount: int, anchor_ms: int, roll_from: str = "") -> None:
        """Begin the period of a grant that lies at now, counted from an anchor."""
        before = self.s.recurring.get(grant.name)
        zone = self.s.zone
        if grant.every is Every.DAY:
            anchor_ms = calendar.day_begin(anchor_ms, zone)
        ordinal = calendar.number_at(anchor_ms, zone, grant.every, self.now_ms)
        since = 0 if before is None else before.number + 1 - ordinal
        self._run(grant, amount, anchor_ms, since, ordinal, roll_from)

    def renew(self, grant: RecurringGrant, amount: int) -> None:
        """Go on to the period at now: several missed ones are one."""
        before = self.s.recurring[grant.name]
        anchor_ms, since = before.anchor_ms, before.since
        zone = self.s.zone
        if zone != before.zone:
            # The zone was changed in the period that is over now.
            anchor_ms = (
                calendar.day_begin(before.ends_ms, zone)
                if grant.every is Every.DAY
                else calendar.rezoned(anchor_ms, before.zone, zone)
            )
        ordinal = calendar.number_at(anchor_ms, zone, grant.every, self.now_ms)
        since = max(since, before.number + 1 - ordinal)
        self._run(grant, amount, anchor_ms, since, ordinal, row_name(grant.name, before.number))

    def _run(
        self,
        grant: RecurringGrant,
        amount: int,
        anchor_ms: int,
        since: int,
        ordinal: int,
        roll_from: str,
    ) -> None:
        zone, number = self.s.zone, since + ordinal
        ends_ms = calendar.boundary(anchor_ms, zone, grant.every, ordinal + 1)
        self._set(
            grant.name,
            Recurring(
                anchor_ms=anchor_ms,
                zone=zone,
                every=grant.every,
                since=since,
                number=number,
                ends_ms=ends_ms,
                amount=amount,
            ),
        )
        roll_max = grant.rollover_max if roll_from else 0
        self.ops.append(
            Begin(
                row=row_name(grant.name, number),
                kind=grant.kind,
                amount=amount,
                ends_ms=ends_ms,
                actions=grant.actions,
                models=grant.models,
                roll_from=roll_from if roll_max else "",
                roll_max=roll_max,
            )
        )
        if self.plan is not None and self.plan.grants and self.plan.grants[0].name == grant.name:
            self.s = replace(self.s, cap_period=self.s.cap_period + 1)

    def _set(self, name: str, recurring: Recurring | None) -> None:
        kept = {key: value for key, value in self.s.recurring.items() if key != name}
        if recurring is not None:
            kept[name] = recurring
        self.s = replace(self.s, recurring=kept)

    def leave(self, name: str, on_lapse: OnLapse) -> None:
        """The plan does not grant this any more."""
        recurring = self.s.recurring[name]
        row = row_name(name, recurring.number)
        self._set(name, None)
        if recurring.ends_ms <= self.now_ms:
            return
        if on_lapse is OnLapse.EXPIRE:
            self.ops.append(End(row=row))
        elif on_lapse is OnLapse.FREEZE:
            self.ops.append(FreezeRow(row=row))
        elif on_lapse is OnLapse.KEEP:
            self.ops.append(Keep(row=row))

    # Plans.

    def switch(self, plan: str, seats: int, *, at_ms: int, restart: bool) -> None:
        """Go from plan to plan: leave what only the old one grants, begin what only the new one does.

        What both grant goes on with its anchor, and is raised or lowered to the new allowance, or
        begins anew with `restart`.
        """
        old = self.grants(self.plan, self.s.seats)
        raised = self.plans.rank(plan) > self.plans.rank(self.s.plan) or (
            plan == self.s.plan and seats > self.s.seats
        )
        same_plan = plan == self.s.plan
        found = self.plans.by_name[plan]
        if not found.subscription:
            self.s = replace(self.s, units={})
        self.s = replace(self.s, plan=plan, seats=seats, change=None)
        new = self.grants(found, seats)
        for name in [name for name in self.s.recurring if name not in new]:
            on_lapse = old[name][0].on_lapse if name in old else OnLapse.RUN_TO_PERIOD_END
            self.leave(name, on_lapse)
        for name, (grant, amount) in new.items():
            running = self.s.recurring.get(name)
            if running is not None and running.every is not grant.every:
                # Monthly became yearly: another bucket, although of the same name.
                self.ops.append(End(row=row_name(name, running.number)))
                self.begin(grant, amount, at_ms)
            elif running is None:
                anchor_ms = at_ms if restart or not found.subscription else self.s.anchor_ms
                self.begin(grant, amount, max(anchor_ms, at_ms) if restart else anchor_ms)
            elif running.ends_ms > self.now_ms:
                if restart and raised:
                    self.ops.append(End(row=row_name(name, running.number)))
                    self.begin(grant, amount, at_ms)
                else:
                    self.resize(name, running, amount, prorate=same_plan)

    def resize(self, name: str, running: Recurring, amount: int, *, prorate: bool) -> None:
        """The allowance of the period under way becomes `amount`."""
        row = row_name(name, running.number)
        difference = amount - running.amount
        if difference > 0:
            share = difference
            if prorate and self.plans.seat_share is SeatShare.PRORATED:
                share = self._rest_of_period(running, difference)
            self.ops.append(More(row=row, amount=share))
        elif difference < 0:
            self.ops.append(AtMost(row=row, amount=amount))
        if difference:
            self._set(name, replace(running, amount=amount))

    def _rest_of_period(self, running: Recurring, amount: int) -> int:
        ordinal = running.number - running.since
        began_ms = calendar.boundary(running.anchor_ms, running.zone, running.every, ordinal)
        rest = Fraction(running.ends_ms - self.now_ms, running.ends_ms - began_ms)
        return ceil(amount * rest)

    def lapse(self, at_ms: int) -> None:
        """The subscription ends: the account falls to the default plan."""
        self._lapse_rows()
        self.s = replace(
            self.s,
            paid_through_ms=None,
            ends_ms=None,
            change=None,
            allowances={},
            units={},
            anchor_ms=at_ms,
            plan=self.plans.default,
            seats=1,
        )
        for grant, amount in self.grants(self.plan, 1).values():
            running = self.s.recurring.get(grant.name)
            if running is None or running.ends_ms <= self.now_ms:
                self.begin(grant, amount, at_ms)
            elif running.amount != amount:
                self.resize(grant.name, running, amount, prorate=False)
        if self.plans.top_up_on_lapse in {OnLapse.EXPIRE, OnLapse.FREEZE}:
            self.ops.append(Lapse(kind="T", on_lapse=self.plans.top_up_on_lapse))

    def _lapse_rows(self) -> None:
        old = self.grants(self.plan, self.s.seats)
        default = self.plans.by_name.get(self.plans.default)
        kept = {grant.name for grant in default.grants} if default is not None else set()
        for name in [name for name in self.s.recurring if name not in kept]:
            self.leave(name, old[name][0].on_lapse if name in old else OnLapse.EXPIRE)

    # What is due.

    def events(self) -> Iterator[int]:
        """Subscription events whose moment has come, each applied when it is asked for."""
        while True:
            lapses, change = self.s.lapses_ms, self.s.change
            if change is not None and change.at_ms <= self.now_ms and (
                lapses is None or change.at_ms < lapses
            ):
                self.switch(change.plan, change.seats, at_ms=change.at_ms, restart=False)
                yield change.at_ms
            elif lapses is not None and lapses <= self.now_ms:
                self.lapse(lapses)
                yield lapses
            else:
                return

    def catch_up(self) -> None:
        """Everything that is due: ends and changes of the subscription, then periods."""
        if not self.s.plan and self.plans.default:
            self.s = replace(self.s, plan=self.plans.default, anchor_ms=self.now_ms)
            for grant, amount in self.grants(self.plan, 1).values():
                self.begin(grant, amount, self.now_ms)
        for _ in self.events():
            pass
        due = [n for n, running in self.s.recurring.items() if running.ends_ms <= self.now_ms]
        if any(name in self.s.units for name in due):
            self.s = replace(
                self.s,
                units={n: Units(now=u.next, next=u.next) for n, u in self.s.units.items() if u.next},
            )
        granted = self.grants(self.plan, self.s.seats)
        for name in due:
            if name not in granted:
                self._set(name, None)
            elif granted[name][0].every is not self.s.recurring[name].every:
                self.begin(*granted[name], self.s.anchor_ms)
            else:
                self.renew(*granted[name])
        for name in [name for name in granted if name not in self.s.recurring]:
            # A grant that the catalog has only now.
            self.begin(*granted[name], self.s.anchor_ms)


def row_name(name: str, number: int) -> str:
    """The row of a recurring bucket in one period."""
    return f"{name}#{number}"


def caught_up(schedule: Schedule, plans: Plans, now_ms: int) -> Turn:
    """What is due at `now_ms`."""
    work = _Work(schedule, plans, now_ms)
    work.catch_up()
    return work.turn()


def _times(amount: int, count: int) -> int:
    return min(AMOUNT_MAX, amount * count)


def _grant_of(add_on: AddOn, plan: str) -> RecurringGrant:
    return RecurringGrant(
        name=add_on.name,
        kind="A",
        amount=add_on.amounts[plan],
        every=add_on.every[plan],
        per_seat=plan in add_on.per_seat,
        on_lapse=add_on.on_lapse,
    )


def encode(turn: Turn) -> str:
    """A turn as the scripts take it: a line each for the header, the schedule and every change of a row.

    The header: version worked out from, next turn in ms (0 is never), plan ("*" is none), cap period,
    next version.
    """
    raise NotImplementedError


def dump(schedule: Schedule) -> str:
    """A schedule as one line of JSON, without what is at its default; what the store keeps."""
    raise NotImplementedError


def load(text: str) -> Schedule:
    """The schedule that `dump` wrote; the empty one for ""."""
    raise NotImplementedError
