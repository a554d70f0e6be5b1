"""What an account is subscribed to, and which periods of its recurring buckets are under way.

Pure: a schedule, an event, the catalog's plans and the time go in; the next schedule and the
changes of rows come out, as a `Turn`. The store applies a turn in one atomic step if the schedule's
version is still the one it was worked out from, and understands nothing of it: all of the calendar
is here.

    caught_up(schedule, plans, now_ms)      what has come due by itself
    after(schedule, plans, now_ms, event)   that, and then an event; None if a newer one came first
    upcoming(schedule, plans, now_ms)       what will happen by itself
    encode(turn)                            as the scripts take it
    dump(schedule), load(text)              as the store keeps it

A turn is applied before rows end by their date: it may keep a row whose period is over, or roll
from it.
"""

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil
from typing import Any

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


# What is known of an account.


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurring:
    """A recurring bucket under way.

    `ordinal` is the period's number from `anchor_ms` in `zone`. `number` names its row: it goes on
    as the ordinal does, and over a new anchor too, so that no row's name comes twice.
    """

    anchor_ms: int
    zone: str
    every: Every
    ordinal: int
    number: int
    ends_ms: int
    amount: int
    """The allowance of the period under way, changes in mid-period included."""
    given: int
    """The highest that the allowance was in this period: what lies below is not given again."""


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
    """One account's. `version` counts its changes; `occurred_ms` is that of the newest event."""

    version: int = 0
    zone: str = "UTC"
    plan: str = ""
    """"" only while the catalog has no default plan."""
    seats: int = 1
    anchor_ms: int = 0
    anchor_zone: str = "UTC"
    """The zone in which the anchor is a date and time; it follows `zone` when a period ends."""
    paid_through_ms: int | None = None
    ends_ms: int | None = None
    """When it ends, if it was cancelled for a later moment."""
    change: Change | None = None
    occurred_ms: int = 0
    cap_period: int = 0
    """Counts the periods in which members' limits are counted: those of the plan's first grant."""
    allowances: Mapping[str, int] = field(default_factory=dict)
    """By contract, in place of the catalog's, by the name of the grant."""
    recurring: Mapping[str, Recurring] = field(default_factory=dict)
    units: Mapping[str, Units] = field(default_factory=dict)
    numbers: Mapping[str, int] = field(default_factory=dict)
    """The last number of buckets that are not under way."""

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


# What may happen to it. `occurred_ms` is by the billing system's clock; None is now.


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe:
    """A subscription begins, or is paid on, or becomes another now.

    It says the whole subscription, but for the anchor: what is at its default is the default.
    """

    plan: str
    seats: int = 1
    anchor_ms: int | None = None
    """None: now for a new subscription, and no change for one that exists."""
    paid_through_ms: int | None = None
    """None: until it is cancelled."""
    allowances: tuple[tuple[str, int], ...] = ()
    """By the name of the plan's grant, sorted."""
    occurred_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePlan:
    """Another plan ("" is the same), other seats (0 is as many as now)."""

    plan: str = ""
    seats: int = 0
    when: When | None = None
    """None: an upgrade, or more seats of the same plan, now; else at the billing period's end."""
    occurred_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """The subscription ends; at `paid_through_ms` or the billing period's end, unless now."""

    when: When | None = None
    occurred_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAddOns:
    """So many units of an add-on in all: more are granted now (R84), fewer count later (R86)."""

    name: str
    units: int
    occurred_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetZone:
    """Another time zone, for each bucket from its next period on."""

    zone: str


Event = Subscribe | ChangePlan | Cancel | SetAddOns | SetZone


# What is done to rows. The names are those of the words in `parts/changes.lua`.


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """A row for a new period; up to `roll_max` of what is left in `roll_from` goes into it."""

    row: str
    kind: str
    amount: int
    ends_ms: int
    actions: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
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
    """The next schedule and what it does to rows, in order; worked out from version `of`."""

    of: int
    schedule: Schedule
    ops: tuple[Op, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether there is anything to write."""
        return self.schedule.version != self.of


def row_name(name: str, number: int) -> str:
    """The row of a recurring bucket in one period."""
    return f"{name}#{number}"


# What happens.


def caught_up(schedule: Schedule, plans: Plans, now_ms: int) -> Turn:
    """What is due at `now_ms`: one turn, however long the account slept; several resets are one."""
    work = _Work(schedule, plans)
    work.advance(now_ms)
    return work.turn(now_ms)


def after(schedule: Schedule, plans: Plans, now_ms: int, event: Event) -> Turn | None:
    """What is due at `now_ms`, then the event. None: a newer event came first, so nothing changes.

    Raises Refused with PLAN_NOT_FOUND, NOT_SUBSCRIBED, ADD_ON_NOT_FOUND or ADD_ON_NOT_IN_PLAN.
    """
    if isinstance(event, SetZone):
        return _rezoned(schedule, plans, now_ms, event)
    occurred_ms = now_ms if event.occurred_ms is None else min(event.occurred_ms, now_ms)
    if occurred_ms < schedule.occurred_ms:
        return None
    work = _Work(schedule, plans)
    work.advance(now_ms)
    match event:
        case Subscribe():
            _subscribe(work, event, now_ms, again=occurred_ms == schedule.occurred_ms)
        case ChangePlan():
            _change_plan(work, event, now_ms)
        case Cancel():
            _cancel(work, event.when, now_ms)
        case SetAddOns():
            _set_add_ons(work, event, now_ms)
    work.s = replace(work.s, occurred_ms=occurred_ms)
    work.advance(now_ms)
    return work.turn(now_ms)


def _rezoned(schedule: Schedule, plans: Plans, now_ms: int, event: SetZone) -> Turn:
    work = _Work(schedule, plans)
    if schedule.version:
        work.advance(now_ms)
    work.s = replace(work.s, zone=event.zone)
    work.advance(now_ms)
    return work.turn(now_ms)


def _subscribe(work: "_Work", event: Subscribe, now_ms: int, *, again: bool) -> None:
    """`again`: the event before occurred at the same time, so that their order is not known."""
    if event.plan not in work.plans.by_name:
        raise Refused("PLAN_NOT_FOUND", f"the catalog has no plan {event.plan!r}")
    if event.plan == work.plans.default:
        if work.subscribed:
            work.lapse(now_ms)
        return
    paid_through_ms = event.paid_through_ms
    if not work.subscribed:
        if paid_through_ms is not None and paid_through_ms <= now_ms:
            return  # It is over before we hear of it.
        anchor_ms = now_ms if event.anchor_ms is None else event.anchor_ms
        work.enter(event.plan, event.seats, anchor_ms, now_ms, dict(event.allowances))
    elif event.plan != work.s.plan:
        work.switch(
            Change(plan=event.plan, seats=event.seats, at_ms=now_ms),
            upgrade=work.plans.upgrade,
            anchor_ms=event.anchor_ms,
            allowances=dict(event.allowances),
        )
    else:
        if again:
            paid_through_ms = _later(paid_through_ms, work.s.paid_through_ms)
        _pay_on(work, event, now_ms)
    work.s = replace(work.s, paid_through_ms=paid_through_ms, ends_ms=None)
    if event.anchor_ms is not None:
        work.s = replace(work.s, anchor_ms=event.anchor_ms, anchor_zone=work.s.zone)


def _pay_on(work: "_Work", event: Subscribe, now_ms: int) -> None:
    """More seats count now, fewer and other allowances later."""
    if event.seats > work.s.seats:
        work.switch(Change(plan=event.plan, seats=event.seats, at_ms=now_ms))
    elif event.seats < work.s.seats:
        work.change_later(event.plan, event.seats, now_ms)
    work.s = replace(work.s, allowances=dict(event.allowances))


def _later(one_ms: int | None, other_ms: int | None) -> int | None:
    return None if one_ms is None or other_ms is None else max(one_ms, other_ms)


def _change_plan(work: "_Work", event: ChangePlan, now_ms: int) -> None:
    plan, seats = event.plan or work.s.plan, event.seats or work.s.seats
    if event.plan and event.plan not in work.plans.by_name:
        raise Refused("PLAN_NOT_FOUND", f"the catalog has no plan {event.plan!r}")
    if not work.subscribed:
        raise Refused("NOT_SUBSCRIBED", "there is no subscription to change: subscribe first")
    if plan not in work.plans.by_name:
        raise Refused("PLAN_NOT_FOUND", f"the catalog has no plan {plan!r} any more")
    if plan == work.plans.default:
        _cancel(work, event.when, now_ms)
    elif (plan, seats) == (work.s.plan, work.s.seats):
        work.s = replace(work.s, change=None)
    elif event.when is When.NOW or (event.when is None and work.raises(plan, seats)):
        change = Change(plan=plan, seats=seats, at_ms=now_ms)
        work.switch(change, upgrade=work.plans.upgrade)
    else:
        work.change_later(plan, seats, now_ms)


def _cancel(work: "_Work", when: When | None, now_ms: int) -> None:
    if not work.subscribed:
        raise Refused("NOT_SUBSCRIBED", "there is no subscription to cancel")
    if when is When.NOW:
        work.lapse(now_ms)
        return
    paid_ms = work.s.paid_through_ms
    ends_ms = work.billing_end(now_ms) if paid_ms is None else paid_ms
    work.s = replace(work.s, ends_ms=ends_ms)


def _set_add_ons(work: "_Work", event: SetAddOns, now_ms: int) -> None:
    name = event.name
    add_on = work.plans.add_on_by_name.get(name)
    units = work.s.units.get(name, Units(now=0, next=0))
    if add_on is None and name not in work.s.units:
        raise Refused("ADD_ON_NOT_FOUND", f"the catalog has no add-on {name!r}")
    if not work.subscribed:
        raise Refused("NOT_SUBSCRIBED", "add-ons need a subscription: subscribe first (R87)")
    if event.units > units.now and (add_on is None or work.s.plan not in add_on.amounts):
        raise Refused("ADD_ON_NOT_IN_PLAN", f"add-on {name!r} does not fit plan {work.s.plan!r}")
    work.set_units(name, Units(now=max(units.now, event.units), next=event.units), now_ms)


# How it is worked out.

_Allowed = dict[str, tuple[RecurringGrant, int]]
"""Recurring buckets by name, with what a period of each holds."""


class _Work:
    """A schedule being changed, moment by moment."""

    def __init__(self, schedule: Schedule, plans: Plans) -> None:
        self.s = schedule
        self.plans = plans
        self.ops: list[Op] = []
        self._of = schedule
        self._ends = {
            row_name(name, running.number): running.ends_ms
            for name, running in schedule.recurring.items()
        }

    def turn(self, now_ms: int) -> Turn:
        """What came of it. Rows that began and ended unseen leave no trace."""
        ops = tuple(_seen(self.ops, self._ends, now_ms))
        of = self._of.version
        if self.s == self._of and not ops:
            return Turn(of=of, schedule=self.s)
        return Turn(of=of, schedule=replace(self.s, version=of + 1), ops=ops)

    # What is known.

    @property
    def plan(self) -> Plan | None:
        """None when the catalog has it no more."""
        return self.plans.by_name.get(self.s.plan)

    @property
    def subscribed(self) -> bool:
        """Whether the account is on another plan than where accounts begin."""
        return self.s.plan not in {"", self.plans.default}

    def raises(self, plan: str, seats: int) -> bool:
        """Whether this would be an upgrade, or more seats of the same plan."""
        if plan == self.s.plan:
            return seats > self.s.seats
        return self.plans.rank(plan) > self.plans.rank(self.s.plan)

    def billing_end(self, at_ms: int) -> int:
        """The end of the billing period that `at_ms` lies in."""
        every = Every.MONTH if self.plan is None else self.plan.billing
        anchor_ms, zone = self.s.anchor_ms, self.s.anchor_zone
        number = calendar.number_at(anchor_ms, zone, every, at_ms)
        return calendar.boundary(anchor_ms, zone, every, number + 1)

    def allowed(self) -> _Allowed:
        """What plan, seats and add-ons give in a period, by the catalog and the contract."""
        plan, seats = self.plan, self.s.seats
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
                count = units.now * (seats if grant.per_seat else 1)
                found[name] = (grant, _times(grant.amount, count))
        return found

    # What comes by itself.

    def advance(self, to_ms: int) -> None:
        """Everything that is due until then, in its order: changes, ends, periods."""
        if not self.s.plan and self.plans.default:
            self.enter(self.plans.default, 1, to_ms, to_ms, {})
        while True:
            lapses, change = self.s.lapses_ms, self.s.change
            if change is not None and (lapses is None or change.at_ms < lapses):
                if change.at_ms > to_ms:
                    break
                self._renew_due(change.at_ms - 1)
                self.switch(change)
            elif lapses is not None and lapses <= to_ms:
                self._renew_due(lapses - 1)
                self.lapse(lapses)
            else:
                break
        self._renew_due(to_ms)

    def _renew_due(self, at_ms: int) -> None:
        due = [name for name, running in self.s.recurring.items() if running.ends_ms <= at_ms]
        for name in due:
            units = self.s.units.get(name)
            if units is not None and units.now != units.next:
                self._set_units(name, Units(now=units.next, next=units.next))
        allowed = self.allowed()
        for name in due:
            if name not in allowed:
                self._forget(name)
        for name, (grant, amount) in allowed.items():
            if name not in self.s.recurring:
                # The catalog has it since this period began.
                self._begin(grant, amount, at_ms)
            elif name in due:
                self._renew(grant, amount, at_ms)

    # Plans.

    def enter(
        self, plan: str, seats: int, anchor_ms: int, at_ms: int, allowances: Mapping[str, int]
    ) -> None:
        """Come to a plan from none or from the default, or fall to the default: a new anchor."""
        old = self.allowed()
        subscription = self._has_subscription()
        self.s = replace(
            self.s,
            plan=plan,
            seats=seats,
            anchor_ms=anchor_ms,
            anchor_zone=self.s.zone,
            paid_through_ms=None,
            ends_ms=None,
            change=None,
            allowances=allowances,
            units={},
        )
        self._others_lapse_or_thaw(was=subscription)
        self._regrant(old, at_ms, leaving=True)

    def lapse(self, at_ms: int) -> None:
        """The subscription ends: the account falls to the default plan."""
        self.enter(self.plans.default, 1, at_ms, at_ms, {})

    def switch(
        self,
        change: Change,
        *,
        upgrade: Upgrade = Upgrade.DIFFERENCE,
        anchor_ms: int | None = None,
        allowances: Mapping[str, int] | None = None,
    ) -> None:
        """Go from one subscription to another, or to other seats of the same.

        With another billing interval, or an upgrade that restarts, a new anchor begins with full
        allowances. Otherwise each bucket goes on and is raised or lowered by what the plans differ.
        """
        self.s = replace(self.s, change=None)
        found, at_ms = self.plans.by_name.get(change.plan), change.at_ms
        if found is None:
            # The catalog lost it since the change was noted.
            return
        old = self.allowed()
        subscription = self._has_subscription()
        same_plan = change.plan == self.s.plan
        restart = not same_plan and (
            (self.plan is not None and self.plan.billing is not found.billing)
            or (upgrade is Upgrade.RESTART and self.raises(change.plan, change.seats))
        )
        self.s = replace(self.s, plan=change.plan, seats=change.seats)
        if not same_plan:
            self.s = replace(self.s, allowances=allowances or {}, units=self._units_that_fit())
        if restart:
            new_anchor_ms = at_ms if anchor_ms is None else anchor_ms
            self.s = replace(self.s, anchor_ms=new_anchor_ms, anchor_zone=self.s.zone)
        self._others_lapse_or_thaw(was=subscription)
        if same_plan:
            self._resize_all(old, at_ms)
        else:
            self._regrant(old, at_ms, restart=restart)

    def change_later(self, plan: str, seats: int, now_ms: int) -> None:
        """Note a change for the billing period's end, in place of one noted before."""
        at_ms = self.billing_end(now_ms)
        self.s = replace(self.s, change=Change(plan=plan, seats=seats, at_ms=at_ms))

    def set_units(self, name: str, units: Units, now_ms: int) -> None:
        """Give the units of this period that are new, and note those of the next."""
        old = self.allowed()
        self._set_units(name, units)
        self._resize_all(old, now_ms, prorate=False)

    def _set_units(self, name: str, units: Units) -> None:
        kept = {key: value for key, value in self.s.units.items() if key != name}
        if units.now or units.next:
            kept[name] = units
        self.s = replace(self.s, units=kept)

    def _units_that_fit(self) -> dict[str, Units]:
        add_ons = self.plans.add_on_by_name
        return {
            name: units
            for name, units in self.s.units.items()
            if name not in add_ons or self.s.plan in add_ons[name].amounts
        }

    def _has_subscription(self) -> bool:
        return self.subscribed and (self.plan is None or self.plan.subscription)

    def _others_lapse_or_thaw(self, *, was: bool) -> None:
        """What a subscription's begin or end means to buckets that no plan grants."""
        on_lapse = self.plans.top_up_on_lapse
        if not was and self._has_subscription():
            self.ops.append(Thaw())
        elif was and not self._has_subscription() and on_lapse in {OnLapse.EXPIRE, OnLapse.FREEZE}:
            self.ops.append(Lapse(kind="T", on_lapse=on_lapse))

    # Recurring buckets.

    def _regrant(
        self, old: _Allowed, at_ms: int, *, restart: bool = False, leaving: bool = False
    ) -> None:
        """Go from what the old plan gave to what the new one does.

        A bucket that both give goes on, but for those counted from the anchor when that is new:
        `leaving` the old ones lapse, with `restart` their period ends early.
        """
        new = self.allowed()
        for name in [name for name in self.s.recurring if name not in new]:
            self._leave(name, old, at_ms)
        for name, (grant, amount) in new.items():
            running = self.s.recurring.get(name)
            if running is None:
                self._begin(grant, amount, at_ms)
            elif running.ends_ms <= at_ms:
                self._renew(grant, amount, at_ms)
            elif running.every is grant.every and (
                grant.every is Every.DAY or not (restart or leaving)
            ):
                self._resize(name, amount - running.amount, at_ms, prorate=False)
            elif leaving:
                self._leave(name, old, at_ms)
                self._begin(grant, amount, at_ms)
            else:
                row = row_name(name, running.number)
                self._begin(grant, amount, at_ms, roll_from=row)
                self.ops.append(End(row=row))

    def _resize_all(self, old: _Allowed, at_ms: int, *, prorate: bool = True) -> None:
        """Other seats or units of the same plan: each bucket by what they differ."""
        for name, (grant, amount) in self.allowed().items():
            running = self.s.recurring.get(name)
            if running is None:
                self._begin(grant, amount, at_ms)
            elif running.ends_ms <= at_ms:
                self._renew(grant, amount, at_ms)
            else:
                before = old[name][1] if name in old else running.amount
                self._resize(name, amount - before, at_ms, prorate=prorate)

    def _resize(self, name: str, difference: int, at_ms: int, *, prorate: bool) -> None:
        """Raise or lower the allowance of the period under way.

        What it was raised to before is not given twice: lowering and raising it makes no credits.
        """
        running = self.s.recurring[name]
        row = row_name(name, running.number)
        amount = max(0, min(AMOUNT_MAX, running.amount + difference))
        share = amount - running.given
        if share > 0 and prorate and self.plans.seat_share is SeatShare.PRORATED:
            share = ceil(share * _rest_of_period(running, at_ms))
        if share > 0:
            self.ops.append(More(row=row, amount=share))
        elif amount < running.amount:
            self.ops.append(AtMost(row=row, amount=amount))
        self._set(name, replace(running, amount=amount, given=max(amount, running.given)))

    def _leave(self, name: str, old: _Allowed, at_ms: int) -> None:
        """The plan does not grant this any more. A period that is over has ended already."""
        running = self.s.recurring[name]
        row = row_name(name, running.number)
        on_lapse = old[name][0].on_lapse if name in old else OnLapse.RUN_TO_PERIOD_END
        self._forget(name)
        if running.ends_ms <= at_ms:
            return
        match on_lapse:
            case OnLapse.EXPIRE:
                self.ops.append(End(row=row))
            case OnLapse.FREEZE:
                self.ops.append(FreezeRow(row=row))
            case OnLapse.KEEP:
                self.ops.append(Keep(row=row))
            case OnLapse.RUN_TO_PERIOD_END:
                pass

    # Periods.

    def _begin(
        self, grant: RecurringGrant, amount: int, at_ms: int, *, roll_from: str = ""
    ) -> None:
        """Begin the period at `at_ms`, counted from the subscription's anchor."""
        name = grant.name
        running = self.s.recurring.get(name)
        last = self.s.numbers.get(name, -1) if running is None else running.number
        anchor_ms = calendar.rezoned(self.s.anchor_ms, self.s.anchor_zone, self.s.zone)
        if at_ms < anchor_ms:
            ordinal = _first_from(anchor_ms, self.s.zone, grant.every, at_ms)
        else:
            ordinal = calendar.number_at(anchor_ms, self.s.zone, grant.every, at_ms)
        number = max(ordinal, last + 1)
        self._run(grant, amount, anchor_ms, (ordinal, number), roll_from)

    def _renew(self, grant: RecurringGrant, amount: int, at_ms: int) -> None:
        """Go on to the period at `at_ms`: several missed ones are one."""
        before, zone = self.s.recurring[grant.name], self.s.zone
        if grant.every is not Every.DAY and self.s.anchor_zone != zone:
            anchor = calendar.rezoned(self.s.anchor_ms, self.s.anchor_zone, zone)
            self.s = replace(self.s, anchor_ms=anchor, anchor_zone=zone)
        anchor_ms = calendar.rezoned(before.anchor_ms, before.zone, zone)
        if before.every is grant.every and (
            grant.every is Every.DAY or anchor_ms == self.s.anchor_ms
        ):
            # In a zone further west the old period's last hours come again: they are not another.
            first = before.ordinal + 1
        else:
            anchor_ms = calendar.rezoned(self.s.anchor_ms, self.s.anchor_zone, zone)
            first = _first_from(anchor_ms, zone, grant.every, before.ends_ms)
        ordinal = max(first, calendar.number_at(anchor_ms, zone, grant.every, at_ms))
        number = before.number + 1 + ordinal - first
        roll_from = row_name(grant.name, before.number)
        self._run(grant, amount, anchor_ms, (ordinal, number), roll_from)

    def _run(
        self,
        grant: RecurringGrant,
        amount: int,
        anchor_ms: int,
        counted: tuple[int, int],
        roll_from: str,
    ) -> None:
        name, zone = grant.name, self.s.zone
        ordinal, number = counted
        running = Recurring(
            anchor_ms=anchor_ms,
            zone=zone,
            every=grant.every,
            ordinal=ordinal,
            number=number,
            ends_ms=calendar.boundary(anchor_ms, zone, grant.every, ordinal + 1),
            amount=amount,
            given=amount,
        )
        self._set(name, running)
        row = row_name(name, number)
        self._ends[row] = running.ends_ms
        rolls = grant.rollover_max > 0 and roll_from != ""
        self.ops.append(
            Begin(
                row=row,
                kind=grant.kind,
                amount=amount,
                ends_ms=running.ends_ms,
                actions=grant.actions,
                models=grant.models,
                roll_from=roll_from if rolls else "",
                roll_max=grant.rollover_max if rolls else 0,
            )
        )
        if self.plan is not None and self.plan.grants and self.plan.grants[0].name == name:
            self.s = replace(self.s, cap_period=self.s.cap_period + 1)

    def _set(self, name: str, running: Recurring) -> None:
        numbers = {key: value for key, value in self.s.numbers.items() if key != name}
        recurring = {**self.s.recurring, name: running}
        self.s = replace(self.s, recurring=recurring, numbers=numbers)

    def _forget(self, name: str) -> None:
        """The bucket is under way no more; its next row's name must be another."""
        recurring = {key: value for key, value in self.s.recurring.items() if key != name}
        numbers = {**self.s.numbers, name: self.s.recurring[name].number}
        self.s = replace(self.s, recurring=recurring, numbers=numbers)


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


def _first_from(anchor_ms: int, zone: str, every: Every, at_ms: int) -> int:
    """The first period counted from another anchor, as long as one at least by half.

    What is left of a shorter one belongs to the next: an anchor that is a few seconds later at each
    renewal would else give an allowance for those seconds.
    """
    number = calendar.number_at(anchor_ms, zone, every, at_ms)
    ends_ms = calendar.boundary(anchor_ms, zone, every, number + 1)
    next_ends_ms = calendar.boundary(anchor_ms, zone, every, number + 2)
    return number + 1 if 2 * (ends_ms - at_ms) < next_ends_ms - ends_ms else number


def _rest_of_period(running: Recurring, at_ms: int) -> Fraction:
    """Which part of the period is still to come."""
    began_ms = calendar.boundary(running.anchor_ms, running.zone, running.every, running.ordinal)
    return min(Fraction(1), Fraction(running.ends_ms - at_ms, running.ends_ms - began_ms))


def _seen(ops: list[Op], ends: Mapping[str, int], now_ms: int) -> Iterator[Op]:
    """The changes that someone who looks at `now_ms` can see.

    Left out are rows that began in this turn and are over, and changes of rows that are over; what
    would have rolled from such a row rolls from the one before it.
    """
    kept = {op.row for op in ops if isinstance(op, Keep)}
    over = {row for row, ends_ms in ends.items() if ends_ms <= now_ms and row not in kept}
    begun = {op.row for op in ops if isinstance(op, Begin)}
    over |= {op.row for op in ops if isinstance(op, End) and op.row in begun}
    sources: dict[str, tuple[str, int]] = {}
    for op in ops:
        if isinstance(op, Begin):
            row, most = op.roll_from, op.roll_max
            if row in begun and row in over:
                row, before = sources[row]
                most = min(most, before)
            sources[op.row] = (row, most)
            if op.row not in over:
                yield replace(op, roll_from=row if most else "", roll_max=most if row else 0)
        elif isinstance(op, Lapse | Thaw) or op.row not in over:
            yield op


# What will happen.


class Coming(enum.Enum):
    """What sort of thing will happen by itself."""

    RESET = "reset"
    PLAN_CHANGE = "plan_change"
    SUBSCRIPTION_END = "subscription_end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upcoming:
    """Something that will happen by itself, as things are (R89)."""

    at_ms: int
    coming: Coming
    row: str = ""
    """RESET: the row under way, which ends then."""
    plan: str = ""
    """PLAN_CHANGE, SUBSCRIPTION_END: the plan from then on."""
    seats: int = 0
    amount: int = 0
    """RESET: what begins, without what rolls over."""
    kind: str = ""
    """RESET: the letter of the bucket's kind; with what it may pay (empty: anything)."""
    actions: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


def upcoming(schedule: Schedule, plans: Plans, now_ms: int) -> list[Upcoming]:
    """What will happen by itself, the soonest first: each bucket's next reset, a change, an end.

    A bucket that begins no further period has no reset: its row ends by its date.
    """
    at = caught_up(schedule, plans, now_ms).schedule
    under_way = {row_name(name, run.number): (name, run) for name, run in at.recurring.items()}
    moments = {running.ends_ms for _, running in under_way.values()}
    moments |= {at.lapses_ms or 0, at.change.at_ms if at.change is not None else 0} - {0}
    found: list[Upcoming] = []
    for moment_ms in sorted(moments):
        turn = caught_up(at, plans, moment_ms)
        lapsed = at.lapses_ms is not None and at.lapses_ms <= moment_ms
        if lapsed or (at.change is not None and at.change.at_ms <= moment_ms):
            coming = Coming.SUBSCRIPTION_END if lapsed else Coming.PLAN_CHANGE
            plan, seats = turn.schedule.plan, turn.schedule.seats
            found.append(Upcoming(at_ms=moment_ms, coming=coming, plan=plan, seats=seats))
        begun = {op.row.rpartition("#")[0]: op for op in turn.ops if isinstance(op, Begin)}
        found += [
            Upcoming(
                at_ms=moment_ms,
                coming=Coming.RESET,
                row=row,
                amount=begun[name].amount,
                kind=begun[name].kind,
                actions=begun[name].actions,
                models=begun[name].models,
            )
            for row, (name, running) in under_way.items()
            if running.ends_ms == moment_ms and name in begun
        ]
        at = turn.schedule
    return found


def next_resets(schedule: Schedule, plans: Plans, now_ms: int) -> list[Upcoming]:
    """The next reset of each recurring bucket, the soonest first: what waiting brings (R44)."""
    return [item for item in upcoming(schedule, plans, now_ms) if item.coming is Coming.RESET]


# How it is written down.


def encode(turn: Turn) -> str:
    """A turn as the scripts take it, in lines.

    1. version worked out from, next version, next turn in ms (0: never), plan, cap period
    2. what else there is of the schedule, for the store to keep
    3. and further: a change of a row each, in order: the word, then what the op says

    "*" is nothing.
    """
    s = turn.schedule
    head = _words(turn.of, s.version, s.next_turn_ms, s.plan, s.cap_period)
    return "\n".join([head, " ".join(_details(s)), *map(_line, turn.ops)])


def _line(op: Op) -> str:
    match op:
        case Begin():
            actions, models = ",".join(op.actions), ",".join(op.models)
            about = (op.row, op.kind, op.amount, op.ends_ms, actions, models)
            return _words("begin", *about, op.roll_from, op.roll_max)
        case More():
            return _words("more", op.row, op.amount)
        case AtMost():
            return _words("at_most", op.row, op.amount)
        case End():
            return _words("end", op.row)
        case Keep():
            return _words("keep", op.row)
        case FreezeRow():
            return _words("freeze", op.row)
        case Lapse():
            return _words("lapse", op.kind, "end" if op.on_lapse is OnLapse.EXPIRE else "freeze")
        case Thaw():
            return "thaw"


def _words(*words: str | int) -> str:
    """One line; a word that is empty becomes "*"."""
    return " ".join(str(word) or "*" for word in words)


def dump(schedule: Schedule) -> str:
    """A schedule as one line; what the store keeps.

    First version, plan and cap period, which scripts know too. Then a word for each thing that is
    not at its default, its first letter saying which; moments are numbers to the base of 36. A
    recurring bucket says anchor and zone only if they are not the schedule's, and its number and
    what was given only if they are not the ordinal and the amount.
    """
    s = schedule
    return " ".join([_words(s.version, s.plan, s.cap_period), *_details(s)])


_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def _moment(ms: int) -> str:
    if ms < 0:
        return "-" + _moment(-ms)
    found = _DIGITS[ms % 36]
    while ms := ms // 36:
        found = _DIGITS[ms % 36] + found
    return found


def _read_moment(word: str) -> int:
    return int(word, 36)


_EMPTY = Schedule()
_PLAIN: dict[str, tuple[str, Callable[[Any], str], Callable[[str], Any]]] = {
    "z": ("zone", str, str),
    "A": ("anchor_zone", str, str),
    "a": ("anchor_ms", _moment, _read_moment),
    "p": ("paid_through_ms", _moment, _read_moment),
    "e": ("ends_ms", _moment, _read_moment),
    "o": ("occurred_ms", _moment, _read_moment),
    "s": ("seats", str, int),
}
"""What is one value: the letter, its field, how it is written and read."""


def _details(s: Schedule) -> Iterator[str]:
    for letter, (name, write, _) in _PLAIN.items():
        value = getattr(s, name)
        if value != getattr(_EMPTY, name):
            yield letter + write(value)
    if s.change is not None:
        yield f"c{s.change.plan}/{s.change.seats}/{_moment(s.change.at_ms)}"
    for name, amount in s.allowances.items():
        yield f"l{name}/{amount}"
    for name, run in s.recurring.items():
        yield f"r{name}/{_period(run, (s.anchor_ms, s.anchor_zone))}"
    for name, units in s.units.items():
        yield f"u{name}/{units.now}/{units.next}"
    for name, last in s.numbers.items():
        yield f"n{name}/{last}"


def _period(run: Recurring, anchor: tuple[int, str]) -> str:
    number = "" if run.number == run.ordinal else run.number
    given = "" if run.given == run.amount else run.given
    own = "" if (run.anchor_ms, run.zone) == anchor else f"/{_moment(run.anchor_ms)}/{run.zone}"
    ends = _moment(run.ends_ms)
    return f"{run.every.value[0]}/{run.ordinal}/{number}/{ends}/{run.amount}/{given}{own}"


_EVERY = {every.value[0]: every for every in Every}


def load(text: str) -> Schedule:
    """The schedule that `dump` wrote."""
    version, plan, cap_period, *details = text.split(" ")
    said: dict[str, Any] = {"anchor_ms": _EMPTY.anchor_ms, "anchor_zone": _EMPTY.anchor_zone}
    allowances: dict[str, int] = {}
    recurring: dict[str, Recurring] = {}
    units: dict[str, Units] = {}
    numbers: dict[str, int] = {}
    for detail in details:
        letter, words = detail[0], detail[1:].split("/")
        match letter:
            case letter if letter in _PLAIN:
                name, _, read = _PLAIN[letter]
                said[name] = read(detail[1:])
            case "c":
                at_ms = _read_moment(words[2])
                said["change"] = Change(plan=words[0], seats=int(words[1]), at_ms=at_ms)
            case "l":
                allowances[words[0]] = int(words[1])
            case "r":
                name, every, ordinal, number, ends, amount, given, *own = words
                recurring[name] = Recurring(
                    anchor_ms=_read_moment(own[0]) if own else said["anchor_ms"],
                    zone="/".join(own[1:]) if own else said["anchor_zone"],
                    every=_EVERY[every],
                    ordinal=int(ordinal),
                    number=int(number or ordinal),
                    ends_ms=_read_moment(ends),
                    amount=int(amount),
                    given=int(given or amount),
                )
            case "u":
                units[words[0]] = Units(now=int(words[1]), next=int(words[2]))
            case "n":
                numbers[words[0]] = int(words[1])
            case _:
                raise AssertionError(f"a schedule of another release: {detail!r}")
    return Schedule(
        version=int(version),
        plan="" if plan == "*" else plan,
        cap_period=int(cap_period),
        allowances=allowances,
        recurring=recurring,
        units=units,
        numbers=numbers,
        **said,
    )
