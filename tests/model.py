"""The reference model: the rules of docs/rules.md in plain Python, without a store.

It is what the fast thing is judged by, so it is written from the rules alone, and plainly. Which
periods begin and end is asked of `core.schedule`, which is judged by tests of its own; what that
does to rows is done here.
It forgets nothing: histories run on it stay within the 30 days for which records are kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from creditgate_server.core import commands as c
from creditgate_server.core import results as r
from creditgate_server.core import schedule as s
from creditgate_server.core.commands import LateSettle, Overage, ReturnPolicy
from creditgate_server.core.faults import Fault, Reason
from creditgate_server.core.plans import OnLapse
from creditgate_server.core.prices import AMOUNT_MAX, Price
from creditgate_server.core.results import Decision, Figure, HoldState, Verb

OPERATIONS_MAX = 100

GRANTED, AVAILABLE, HELD = Figure.GRANTED, Figure.AVAILABLE, Figure.HELD
SPENT, EXPIRED, VOIDED = Figure.SPENT, Figure.EXPIRED, Figure.VOIDED


@dataclass(eq=False)
class Row:
    """One bucket in one period; `status` is live, frozen, ended or voided."""

    name: str
    kind: c.Kind
    ends_ms: int | None
    granted_ms: int
    actions: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    status: str = "live"
    restored: int = 0
    figures: dict[Figure, int] = field(default_factory=lambda: dict.fromkeys(Figure, 0))

    @property
    def bucket_id(self) -> str:
        return self.name.split("#")[0]

    @property
    def period(self) -> int:
        return int(self.name.split("#")[1]) if "#" in self.name else 0

    def pays(self, action: str, model: str) -> bool:
        """Whether a job of this action and model may be paid from here."""
        return (not self.actions or action in self.actions) and (
            not self.models or model in self.models
        )

    def show(self) -> r.Bucket:
        return r.Bucket(
            bucket_id=self.bucket_id,
            period=self.period,
            kind=self.kind,
            **{figure.name.lower(): amount for figure, amount in self.figures.items()},
            ends_ms=self.ends_ms,
            granted_ms=self.granted_ms,
            ended=self.status in {"ended", "voided"},
            frozen=self.status == "frozen",
            actions=self.actions,
            models=self.models,
            recurring="#" in self.name,
        )


@dataclass
class Part:
    """The part of a hold that was drawn from one row."""

    row: Row
    amount: int
    charged: int = 0
    returned: int = 0
    refunded: int = 0

    @property
    def held(self) -> int:
        return self.amount - self.charged - self.returned


@dataclass
class Record:
    """One settle or refund that was made: what was asked, and the figures of the answer."""

    fingerprint: str
    answer: dict[str, Any]


@dataclass
class Hold:
    """One job, with the terms that were pinned to it.

    `drawn` is what it drew in `cap_period`, the last in which it did, and has not given back.
    """

    command: c.Authorize | c.Charge
    terms: c.Terms
    state: HoldState
    amount: int
    authorized_ms: int
    deadline_ms: int
    ended_ms: int | None = None
    parts: list[Part] = field(default_factory=list)
    overdrawn: int = 0
    overdrawn_refunded: int = 0
    refunded: int = 0
    settled_late: bool = False
    records: dict[str, Record] = field(default_factory=dict)
    cap_period: int = 0
    drawn: int = 0

    @property
    def held(self) -> int:
        return sum(part.held for part in self.parts)

    @property
    def charged(self) -> int:
        return sum(part.charged for part in self.parts) + self.overdrawn

    @property
    def refundable(self) -> int:
        return self.charged - self.refunded

    def show(self) -> r.Hold:
        return r.Hold(
            account_id=self.command.account_id,
            hold_id=self.command.hold_id,
            member_id=self.command.member_id,
            job=self.command.job,
            state=self.state,
            amount=self.amount,
            held=self.held,
            charged=self.charged,
            refunded=self.refunded,
            overdrawn=self.overdrawn,
            authorized_ms=self.authorized_ms,
            deadline_ms=self.deadline_ms,
            ended_ms=self.ended_ms,
            settled_late=self.settled_late,
            price=self.terms.price,
            catalog_version=self.terms.catalog_version,
            slices=tuple(
                r.Slice(
                    bucket_id=part.row.bucket_id,
                    period=part.row.period,
                    kind=part.row.kind,
                    amount=part.amount,
                    charged=part.charged,
                    returned=part.returned,
                    refunded=part.refunded,
                )
                for part in self.parts
            ),
        )


@dataclass
class Account:
    """One account, whole.

    `seen_ms` is the time of its last entry, or of its creation; `moves` are those of the change
    under way.
    """

    account_id: str
    zone: str
    created_ms: int
    seen_ms: int
    debt: int = 0
    rows: dict[str, Row] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    entries: list[r.LedgerEntry] = field(default_factory=list)
    moves: list[r.Move] = field(default_factory=list)
    schedule: s.Schedule = field(default_factory=s.Schedule)
    events: dict[str, str] = field(default_factory=dict)
    frozen: bool = False
    limits: dict[str, int | None] = field(default_factory=dict)
    denied: r.Denial | None = None

    @property
    def available(self) -> int:
        """What can be spent: what stands in a frozen row is not counted."""
        live = (row for row in self.rows.values() if row.status != "frozen")
        return sum(row.figures[AVAILABLE] for row in live)

    @property
    def held(self) -> int:
        return sum(row.figures[HELD] for row in self.rows.values())

    @property
    def room(self) -> int:
        """How much may still come in."""
        return AMOUNT_MAX - self.available - self.held

    def used(self, member_id: str) -> int:
        """What a member has drawn in this cap period."""
        return sum(
            hold.drawn
            for hold in self.holds.values()
            if hold.command.member_id == member_id and hold.cap_period == self.schedule.cap_period
        )

    def limit_of(self, member_id: str) -> int | None:
        """The member's own limit, or that of each member."""
        own = self.limits.get(member_id)
        return self.limits.get("") if own is None else own

    def open_holds(self) -> list[Hold]:
        return [hold for hold in self.holds.values() if hold.state is HoldState.OPEN]


class Model:
    """A ledger in memory; a test sets its clock, `now_ms`."""

    def __init__(self, now_ms: int = 0) -> None:
        self.now_ms = now_ms
        self.accounts: dict[str, Account] = {}

    async def run(self, command: c.Command[c.ReplyT]) -> c.ReplyT:
        """As `core.ledger.Ledger`."""
        reply: c.ReplyT = self.apply(command)
        return reply

    async def run_all(self, commands: Sequence[c.Command[Any]]) -> list[Any]:
        """As `core.ledger.Ledger`."""
        return self.run_now(commands)

    def run_now(self, commands: Sequence[c.Command[Any]]) -> list[Any]:
        """Run many commands; a fault takes the place of its answer."""
        replies: list[Any] = []
        for command in commands:
            try:
                replies.append(self.apply(command))
            except Fault as fault:
                replies.append(fault)
        return replies

    def apply(self, command: c.Command[Any]) -> Any:
        """Run one command."""
        account = self.accounts.get(command.account_id)
        if isinstance(command, c.PutAccount):
            return self.put_account(account, command)
        if isinstance(command, c.Expire):
            return r.Expired(returned=self.expire(account, command))
        if account is None:
            raise _fault(Reason.ACCOUNT_NOT_FOUND, account_id=command.account_id)
        if isinstance(command, c.Reschedule):
            return r.Rescheduled(effect=self.reschedule(account, command))
        return self.act(account, command)

    def act(self, account: Account, command: c.Command[Any]) -> Any:
        """Run a command on an account that exists."""
        if isinstance(command, c.GetHold | c.ListHolds | c.ListLedger):
            return self.look(account, command)
        self.catch_up(account, command)
        match command:
            case c.Authorize() | c.Charge():
                return self.authorize(account, command)
            case c.Extend():
                return self.extend(account, command)
            case c.Settle():
                return self.settle(account, command)
            case c.Refund():
                return self.refund(account, command)
            case c.Grant():
                return self.grant(account, command)
            case c.VoidBucket():
                return self.void_bucket(account, command)
            case _:
                return self.set_or_show(account, command)

    def set_or_show(self, account: Account, command: c.Command[Any]) -> Any:
        """Run a command that moves no credits."""
        match command:
            case c.SetFrozen():
                account.frozen = command.frozen
                return self.totals(account)
            case c.SetMemberLimit():
                account.limits[command.member_id] = command.amount
                used = account.used(command.member_id) if command.member_id else 0
                return r.MemberLimited(used=used)
            case c.GetBalance():
                return self.balance(account, command)
            case c.GetAccount():
                return self.show_account(account)
            case _:
                raise AssertionError(command)

    def look(self, account: Account, command: c.Command[Any]) -> Any:
        """Show what is written, with nothing done that is due."""
        match command:
            case c.GetHold():
                return self.hold(account, command.hold_id).show()
            case c.ListHolds():
                return self.list_holds(account, command)
            case c.ListLedger():
                return self.list_ledger(account, command)
            case _:
                raise AssertionError(command)

    # Clock, rows, moves, entries.

    def now(self, account: Account) -> int:
        """The account's time, which never runs backwards."""
        return max(self.now_ms, account.seen_ms)

    def catch_up(self, account: Account, command: Any) -> None:
        """Do what is due before every operation, but for those that show what is written."""
        if self.turn_is_due(account) or self.has_no_plan_yet(account, command):
            now, plans = self.now(account), command.rules.plans
            self.turn(account, s.caught_up(account.schedule, plans, now))
        else:
            self.end_rows(account)

    def turn_is_due(self, account: Account) -> bool:
        return 0 < account.schedule.next_turn_ms <= self.now(account)

    def has_no_plan_yet(self, account: Account, command: Any) -> bool:
        """Whether the account is older than the catalog's plans."""
        return account.schedule.version == 0 and command.rules.plans.default != ""

    def end_rows(self, account: Account) -> None:
        """End rows whose end has passed, the earliest first."""
        now = self.now(account)
        due = [
            (row.ends_ms, row.name.encode(), row)
            for row in account.rows.values()
            if row.status in {"live", "frozen"} and row.ends_ms is not None and row.ends_ms <= now
        ]
        for _, _, row in sorted(due, key=lambda item: item[:2]):
            self.end(account, row)

    def end(self, account: Account, row: Row) -> None:
        """End one row."""
        self.move(account, row, AVAILABLE, EXPIRED, row.figures[AVAILABLE])
        row.status = "ended"
        self.enter(account, Verb.END_BUCKET, row=row)

    def arrive(self, account: Account, row: Row, amount: int, verb: Verb) -> None:
        """Credits arrive, and pay what the account owes."""
        self.move(account, row, GRANTED, AVAILABLE, amount)
        self.enter(account, verb, row=row)
        paid = min(account.debt, amount)
        if paid:
            self.move(account, row, AVAILABLE, SPENT, paid)
            self.enter(account, Verb.PAY_DEBT, debt_change=-paid, row=row)

    # Turns.

    def turn(self, account: Account, turn: s.Turn) -> None:
        """Apply a turn: rows that stay, then rows that end by their date, then the rest."""
        if not self.turn_is_due(account):
            # The turn is for an event: what is due comes first, and that is only rows' ends.
            self.end_rows(account)
        for op in turn.ops:
            if isinstance(op, s.Keep):
                self.keep(account, op)
        rolled = {op.row: self.rolled(account, op) for op in turn.ops if isinstance(op, s.Begin)}
        self.end_rows(account)
        for op in turn.ops:
            match op:
                case s.Begin():
                    self.begin(account, op, rolled[op.row])
                case s.Keep():
                    self.keep(account, op)
                case s.Lapse():
                    self.lapse(account, op)
                case s.Thaw():
                    self.thaw(account)
                case _:
                    self.change(account, op)
        account.schedule = turn.schedule

    def rolled(self, account: Account, op: s.Begin) -> int:
        """What a period that begins takes over from the one before."""
        row = account.rows.get(op.roll_from)
        if row is None or row.status != "live":
            return 0
        return min(row.figures[AVAILABLE], op.roll_max)

    def begin(self, account: Account, op: s.Begin, rolled: int) -> None:
        assert op.row not in account.rows, op
        row = Row(
            name=op.row,
            kind=c.Kind(op.kind),
            ends_ms=op.ends_ms,
            granted_ms=self.now(account),
            actions=op.actions,
            models=op.models,
        )
        account.rows[op.row] = row
        self.arrive(account, row, min(op.amount + rolled, account.room), Verb.BEGIN_PERIOD)

    def keep(self, account: Account, op: s.Keep) -> None:
        row = account.rows.get(op.row)
        if row is not None and row.status == "live" and row.ends_ms is not None:
            row.ends_ms = None
            self.enter(account, Verb.ADJUST, row=row)

    def change(self, account: Account, op: s.More | s.AtMost | s.End | s.FreezeRow) -> None:
        """Change a row that is still there."""
        row = account.rows.get(op.row)
        if row is None or row.status in {"ended", "voided"}:
            return
        if isinstance(op, s.End):
            self.end(account, row)
        elif row.status == "frozen":
            return
        elif isinstance(op, s.More):
            self.arrive(account, row, min(op.amount, account.room), Verb.ADJUST)
        elif isinstance(op, s.FreezeRow):
            self.freeze(account, row)
        elif row.figures[AVAILABLE] > op.amount:
            self.move(account, row, AVAILABLE, EXPIRED, row.figures[AVAILABLE] - op.amount)
            self.enter(account, Verb.ADJUST, row=row)

    def lapse(self, account: Account, op: s.Lapse) -> None:
        for row in account.rows.values():
            if row.status == "live" and row.kind is c.Kind(op.kind):
                if op.on_lapse is OnLapse.FREEZE:
                    self.freeze(account, row)
                else:
                    self.end(account, row)

    def freeze(self, account: Account, row: Row) -> None:
        row.status = "frozen"
        self.enter(account, Verb.FREEZE_BUCKET, row=row)

    def thaw(self, account: Account) -> None:
        for row in account.rows.values():
            if row.status == "frozen" and row.figures[AVAILABLE] <= account.room:
                row.status = "live"
                self.enter(account, Verb.THAW_BUCKET, row=row)

    def refused(self, account: Account, command: c.Reschedule, reason: Reason) -> Fault:
        """Say what the event would need: a subscription, an add-on, or the plan it names."""
        if reason is Reason.NOT_SUBSCRIBED:
            return _fault(reason, account_id=account.account_id)
        add_on = getattr(command.event, "name", "")
        if reason is Reason.ADD_ON_NOT_FOUND:
            return _fault(reason, add_on_id=add_on)
        turn = s.caught_up(account.schedule, command.rules.plans, self.now(account))
        plan = getattr(command.event, "plan", "") or turn.schedule.plan
        if reason is Reason.ADD_ON_NOT_IN_PLAN:
            return _fault(reason, add_on_id=add_on, plan_id=plan)
        return _fault(reason, plan_id=plan)

    def reschedule(self, account: Account, command: c.Reschedule) -> r.Effect:
        """Apply an event of the subscription, once; what is refused does not even catch up."""
        known = account.events.get(command.reference)
        if known == command.fingerprint:
            return r.Effect.REPLAYED
        if known is not None:
            raise _fault(Reason.ID_REUSED, id=command.reference)
        now = self.now(account)
        try:
            turn = s.after(account.schedule, command.rules.plans, now, command.event)
        except s.Refused as refused:
            raise self.refused(account, command, Reason[refused.reason]) from None
        if turn is None:
            return r.Effect.SUPERSEDED
        self.turn(account, turn)
        account.events[command.reference] = command.fingerprint
        return r.Effect.APPLIED

    def move(self, account: Account, row: Row, source: Figure, target: Figure, amount: int) -> None:
        """Take `amount` from one figure of a row to another; `granted` counts what ever came in."""
        if amount == 0:
            return
        row.figures[source] += amount if source is GRANTED else -amount
        row.figures[target] += amount
        assert row.figures[source] >= 0, row
        account.moves.append(
            r.Move(
                bucket_id=row.bucket_id,
                period=row.period,
                kind=row.kind,
                source=source,
                target=target,
                amount=amount,
            )
        )

    def enter(
        self,
        account: Account,
        verb: Verb,
        hold: Hold | None = None,
        *,
        operation_id: str = "",
        debt_change: int = 0,
        row: Row | None = None,
    ) -> None:
        """Close the change under way with its entry."""
        account.seen_ms = self.now(account)
        account.debt += debt_change
        account.entries.append(
            r.LedgerEntry(
                seq=len(account.entries) + 1,
                at_ms=account.seen_ms,
                verb=verb,
                hold_id=hold.command.hold_id if hold else "",
                operation_id=operation_id,
                bucket_id=row.bucket_id if row else "",
                period=row.period if row else 0,
                member_id=hold.command.member_id if hold else "",
                action=hold.command.job.action if hold else "",
                model=hold.command.job.model if hold else "",
                moves=tuple(account.moves),
                debt_change=debt_change,
                available=account.available,
                held=account.held,
                debt=account.debt,
            )
        )
        account.moves.clear()

    def totals(self, account: Account) -> r.Totals:
        return r.Totals(
            seq=len(account.entries),
            available=account.available,
            held=account.held,
            debt=account.debt,
            as_of_ms=self.now(account),
        )

    # Burn-down.

    def ordered(self, account: Account, rules: c.Rules) -> list[Row]:
        """All rows in burn-down order."""
        kinds = list(c.Kind)

        def key(row: Row) -> tuple[str, bool, int, int, bytes]:
            rank = rules.ranks[kinds.index(row.kind)]
            never = row.ends_ms is None
            return rank, never, row.ends_ms or 0, row.granted_ms, row.name.encode()

        return sorted(account.rows.values(), key=key)

    def payers(self, account: Account, rules: c.Rules, job: c.Job) -> list[Row]:
        """The rows that may pay a job, in burn-down order."""
        return [
            row
            for row in self.ordered(account, rules)
            if row.status == "live" and row.figures[AVAILABLE] and row.pays(job.action, job.model)
        ]

    def payable(self, account: Account, rules: c.Rules, job: c.Job) -> int:
        return sum(row.figures[AVAILABLE] for row in self.payers(account, rules, job))

    def draw(
        self, account: Account, rules: c.Rules, hold: Hold, amount: int, target: Figure
    ) -> None:
        """Draw an amount that is payable into new parts of the hold."""
        self.count(account, hold, amount)
        left = amount
        for row in self.payers(account, rules, hold.command.job):
            taken = min(left, row.figures[AVAILABLE])
            if taken == 0:
                break
            self.move(account, row, AVAILABLE, target, taken)
            charged = taken if target is SPENT else 0
            hold.parts.append(Part(row=row, amount=taken, charged=charged))
            left -= taken
        assert left == 0, left

    def count(self, account: Account, hold: Hold, amount: int) -> None:
        """Count for the hold's member what it draws now."""
        period = account.schedule.cap_period
        if amount and hold.cap_period != period:
            hold.cap_period, hold.drawn = period, 0
        hold.drawn += amount

    # Returning.

    def give_back(
        self, account: Account, row: Row, source: Figure, amount: int, policy: ReturnPolicy
    ) -> int:
        """Return credits to their row; return how much of it is to be compensated."""
        if row.status in {"live", "frozen"}:
            self.move(account, row, source, AVAILABLE, amount)
            return 0
        if row.status == "voided":
            self.move(account, row, source, VOIDED, amount)
            return 0
        self.move(account, row, source, EXPIRED, amount)
        if policy is ReturnPolicy.RESTORE_CAPPED:
            self.restore(account, row, amount)
        return amount if policy is ReturnPolicy.COMPENSATE else 0

    def restore(self, account: Account, ended: Row, amount: int) -> None:
        """Put credits of a period that is over into the one under way, as far as it was spent."""
        live = [
            row
            for row in account.rows.values()
            if row.bucket_id == ended.bucket_id and "#" in row.name and row.status == "live"
        ]
        if not live or "#" not in ended.name:
            return
        row = live[-1]
        restored = max(0, min(amount, row.figures[SPENT] - row.restored))
        row.restored += restored
        self.move(account, row, GRANTED, AVAILABLE, restored)

    def return_held(
        self, account: Account, hold: Hold, rules: c.Rules, policy: ReturnPolicy
    ) -> int:
        """Return all that a hold still holds, the last drawn first; return how much it was."""
        returned = compensated = 0
        for part in reversed(hold.parts):
            amount = part.held
            compensated += self.give_back(account, part.row, HELD, amount, policy)
            part.returned += amount
            returned += amount
        hold.drawn -= min(hold.drawn, returned)
        self.compensate(account, rules, compensated)
        return returned

    def compensate(self, account: Account, rules: c.Rules, amount: int) -> None:
        """Grant a compensation row within the change under way."""
        if amount == 0:
            return
        now = self.now(account)
        row = Row(
            name=f"compensation/{len(account.entries) + 1}",
            kind=c.Kind.COMPENSATION,
            ends_ms=now + rules.compensation_ms,
            granted_ms=now,
        )
        account.rows[row.name] = row
        self.move(account, row, GRANTED, AVAILABLE, amount)

    # Holds.

    def authorize(self, account: Account, command: c.Authorize | c.Charge) -> r.Authorized:
        first = account.holds.get(command.hold_id)
        if first is not None:
            self.expire_if_due(account, first, command.rules)
            if first.command.fingerprint != command.fingerprint:
                raise _fault(Reason.ID_REUSED, id=command.hold_id)
            return r.Authorized(
                decision=Decision.APPROVED,
                amount=first.terms.amount,
                hold=first.show(),
                missing=0,
                replayed=True,
                totals=self.totals(account),
            )
        terms = command.terms
        denial = self.denial(account, command)
        if terms is None or denial is not None:
            assert denial is not None
            return self.denied(account, command, *denial)
        now = self.now(account)
        hold = Hold(
            command=command,
            terms=terms,
            state=HoldState.OPEN,
            amount=terms.amount,
            authorized_ms=now,
            deadline_ms=now,
        )
        account.holds[command.hold_id] = hold
        if isinstance(command, c.Charge):
            hold.state, hold.ended_ms = HoldState.SETTLED, now
            self.draw(account, command.rules, hold, terms.amount, SPENT)
            self.enter(account, Verb.CHARGE, hold)
        else:
            ttl_ms = terms.ttl_ms if command.ttl_ms is None else command.ttl_ms
            hold.deadline_ms = now + min(ttl_ms, terms.life_ms_max)
            self.draw(account, command.rules, hold, terms.amount, HELD)
            self.enter(account, Verb.AUTHORIZE, hold)
        return r.Authorized(
            decision=Decision.APPROVED,
            amount=terms.amount,
            hold=hold.show(),
            missing=0,
            replayed=False,
            totals=self.totals(account),
        )

    def denial(
        self, account: Account, command: c.Authorize | c.Charge
    ) -> tuple[Decision, int] | None:
        """Why the job may not run, the first reason of all, and what is missing; None if it may."""
        terms = command.terms
        if terms is None:
            return Decision.UNPRICED_ACTION, 0
        if command.max_amount is not None and terms.amount > command.max_amount:
            return Decision.PRICE_CHANGED, 0
        if account.frozen:
            return Decision.ACCOUNT_FROZEN, 0
        open_max = 0
        if terms.gate != "*":
            gates = dict(plan.split("/") for plan in terms.gate.strip(",").split(",") if plan)
            if account.schedule.plan not in gates:
                return Decision.PLAN_REQUIRED, 0
            open_max = int(gates[account.schedule.plan])
        over = self.over_limit(account, command.member_id, terms.amount)
        if over > 0:
            return Decision.MEMBER_LIMIT, over
        opens = isinstance(command, c.Authorize)
        if opens and open_max and len(account.open_holds()) >= open_max:
            return Decision.CONCURRENCY_LIMIT, 0
        payable = self.payable(account, command.rules, command.job)
        if payable < terms.amount:
            return Decision.INSUFFICIENT_CREDITS, terms.amount - payable
        return None

    def over_limit(self, account: Account, member_id: str, amount: int) -> int:
        """By how much a draw would pass what the member may draw."""
        limit = account.limit_of(member_id) if member_id else None
        return 0 if limit is None else max(0, account.used(member_id) + amount - limit)

    def denied(
        self,
        account: Account,
        command: c.Authorize | c.Charge,
        decision: Decision,
        missing: int,
    ) -> r.Authorized:
        """Deny, and remember it as the account's last denial; the same again changes nothing."""
        amount = command.terms.amount if command.terms else 0
        denial = r.Denial(
            seq=len(account.entries),
            decision=decision,
            hold_id=command.hold_id,
            action=command.job.action,
            model=command.job.model,
            member_id=command.member_id,
            amount=amount,
            missing=missing,
        )
        if account.denied is None or account.denied._replace(seq=denial.seq) != denial:
            account.denied = denial
        return r.Authorized(
            decision=decision,
            amount=amount,
            hold=None,
            missing=missing,
            replayed=False,
            totals=self.totals(account),
            plan=account.schedule.plan,
            schedule=account.schedule,
        )

    def hold(self, account: Account, hold_id: str) -> Hold:
        if hold_id not in account.holds:
            raise _fault(Reason.HOLD_NOT_FOUND, hold_id=hold_id)
        return account.holds[hold_id]

    def expire_if_due(self, account: Account, hold: Hold, rules: c.Rules) -> int | None:
        """Expire a hold whose deadline has passed; return what went back, None if not due."""
        now = self.now(account)
        if hold.state is not HoldState.OPEN or now < hold.deadline_ms:
            return None
        returned = self.return_held(account, hold, rules, rules.on_failed)
        hold.state, hold.ended_ms = HoldState.EXPIRED, now
        self.enter(account, Verb.EXPIRE, hold)
        return returned

    def expire(self, account: Account | None, command: c.Expire) -> int | None:
        """As `expire_if_due`; where there is no open hold, the account is not even looked at."""
        hold = None if account is None else account.holds.get(command.hold_id)
        if account is None or hold is None or hold.state is not HoldState.OPEN:
            return None
        self.catch_up(account, command)
        return self.expire_if_due(account, hold, command.rules)

    def extend(self, account: Account, command: c.Extend) -> r.Extended:
        hold = self.hold(account, command.hold_id)
        self.expire_if_due(account, hold, command.rules)
        if hold.state is not HoldState.OPEN:
            _refuse(hold)
        total = command.amount
        if command.quantity is not None:
            total = self.rated(account, hold.terms.price, command.quantity)
        more = 0 if total is None else max(0, total - hold.amount)
        over = self.over_limit(account, hold.command.member_id, more) if more else 0
        payable = self.payable(account, command.rules, hold.command.job)
        if over or payable < more:
            return r.Extended(
                decision=Decision.MEMBER_LIMIT if over else Decision.INSUFFICIENT_CREDITS,
                hold=hold.show(),
                missing=over or more - payable,
                totals=self.totals(account),
                plan=account.schedule.plan,
                schedule=account.schedule,
            )
        ttl_ms = hold.terms.ttl_ms if command.ttl_ms is None else command.ttl_ms
        latest_ms = hold.authorized_ms + hold.terms.life_ms_max
        hold.deadline_ms = max(hold.deadline_ms, min(self.now(account) + ttl_ms, latest_ms))
        self.draw(account, command.rules, hold, more, HELD)
        hold.amount += more
        self.enter(account, Verb.EXTEND, hold)
        return r.Extended(
            decision=Decision.APPROVED, hold=hold.show(), missing=0, totals=self.totals(account)
        )

    def rated(self, account: Account, price: Price, quantity: int) -> int:
        try:
            return price.of(quantity)
        except OverflowError:
            raise _fault(Reason.AMOUNT_OVERFLOW, account_id=account.account_id) from None

    def replay(self, hold: Hold, command: c.Settle | c.Refund) -> Record | None:
        """The record of this operation, if it was made before."""
        record = hold.records.get(_record_key(command))
        if record is not None and record.fingerprint != command.fingerprint:
            raise _fault(Reason.ID_REUSED, id=command.operation_id)
        return record

    def record(self, hold: Hold, command: c.Settle | c.Refund, **answer: Any) -> dict[str, Any]:
        """Remember the answer to an operation."""
        hold.records[_record_key(command)] = Record(command.fingerprint, answer)
        return answer

    def settle(self, account: Account, command: c.Settle) -> r.Settled:
        hold = self.hold(account, command.hold_id)
        self.expire_if_due(account, hold, command.rules)
        terms, rules = hold.terms, command.rules
        record = self.replay(hold, command)
        if record is not None:
            return r.Settled(
                **record.answer, hold=hold.show(), replayed=True, totals=self.totals(account)
            )
        late = hold.state is HoldState.EXPIRED
        if hold.state in (HoldState.SETTLED, HoldState.REFUNDED):
            _refuse(hold)
        if late and terms.late_settle is LateSettle.REJECT:
            _refuse(hold)
        _refuse_too_many(hold)
        delivered = self.delivered(account, hold, command)
        give = self.to_give(hold)
        if delivered > give and terms.overage is Overage.REJECT:
            raise _fault(Reason.AMOUNT_EXCEEDS_HOLD, hold_id=command.hold_id, held=str(give))

        overdrawn = returned = 0
        wanted = min(delivered, give) if terms.overage is Overage.CAP else delivered
        taken = min(wanted, hold.held)
        payable = self.payable(account, rules, hold.command.job)
        drawn = min(wanted - taken, payable)
        if terms.overage is Overage.OVERDRAFT:
            missing = wanted - taken - drawn
            overdrawn = min(missing, max(0, terms.overdraft_limit - account.debt))
        charged = taken + drawn + overdrawn
        if hold.charged + charged > AMOUNT_MAX:
            raise _fault(Reason.AMOUNT_OVERFLOW, account_id=account.account_id)

        self.take(account, hold, taken)
        self.draw(account, rules, hold, drawn, SPENT)
        self.count(account, hold, overdrawn)
        hold.overdrawn += overdrawn
        if late:
            hold.settled_late = True
        if not command.partial:
            returned = self.return_held(account, hold, rules, rules.on_failed)
            hold.state, hold.ended_ms = HoldState.SETTLED, self.now(account)
        self.enter(
            account,
            Verb.SETTLE,
            hold,
            operation_id=command.operation_id,
            debt_change=overdrawn,
        )
        answer = self.record(
            hold,
            command,
            charged=charged,
            shortfall=delivered - charged,
            returned=returned,
            late=late,
        )
        return r.Settled(**answer, hold=hold.show(), replayed=False, totals=self.totals(account))

    def delivered(self, account: Account, hold: Hold, command: c.Settle) -> int:
        """What a settle says was delivered."""
        if command.amount is not None:
            return command.amount
        if command.quantity is not None:
            return self.rated(account, hold.terms.price, command.quantity)
        return self.to_give(hold)

    def to_give(self, hold: Hold) -> int:
        """What a hold has to give, or would have had before it expired."""
        if hold.state is HoldState.EXPIRED:
            return max(0, hold.amount - hold.charged)
        return hold.held

    def take(self, account: Account, hold: Hold, amount: int) -> None:
        """Charge held credits, in the order they were drawn."""
        left = amount
        for part in hold.parts:
            taken = min(left, part.held)
            self.move(account, part.row, HELD, SPENT, taken)
            part.charged += taken
            left -= taken

    def refund(self, account: Account, command: c.Refund) -> r.Refunded:
        hold = self.hold(account, command.hold_id)
        self.expire_if_due(account, hold, command.rules)
        rules = command.rules
        policy = rules.on_cancelled if command.cancelled else rules.on_failed
        record = self.replay(hold, command)
        if record is not None:
            return self.refunded(account, hold, record.answer, replayed=True)
        if hold.state is HoldState.OPEN:
            if command.amount is not None:
                raise _fault(Reason.HOLD_OPEN, hold_id=command.hold_id)
            returned = self.return_held(account, hold, rules, policy)
            hold.state, hold.ended_ms = HoldState.REFUNDED, self.now(account)
            self.enter(account, Verb.REFUND, hold, operation_id=command.operation_id)
            return self.refunded(account, hold, self.record(hold, command, refunded=returned))
        if hold.state is HoldState.EXPIRED and hold.refundable == 0:
            return self.refunded(account, hold, {"refunded": 0})
        if hold.state is HoldState.REFUNDED and hold.refundable == 0:
            _refuse(hold)
        _refuse_too_many(hold)
        amount = hold.refundable if command.amount is None else command.amount
        if amount > hold.refundable:
            raise _fault(
                Reason.REFUND_EXCEEDS_CHARGE,
                hold_id=command.hold_id,
                refundable=str(hold.refundable),
            )
        overdrawn = min(amount, hold.overdrawn - hold.overdrawn_refunded)
        owed = min(overdrawn, account.debt)
        if account.available + account.held + amount - owed > AMOUNT_MAX:
            raise _fault(Reason.AMOUNT_OVERFLOW, account_id=account.account_id)

        hold.drawn -= min(hold.drawn, amount)
        compensated = overdrawn - owed
        left = amount - overdrawn
        for part in reversed(hold.parts):
            back = min(left, part.charged - part.refunded)
            compensated += self.give_back(account, part.row, SPENT, back, policy)
            part.refunded += back
            left -= back
        self.compensate(account, rules, compensated)
        hold.overdrawn_refunded += overdrawn
        hold.refunded += amount
        self.enter(account, Verb.REFUND, hold, operation_id=command.operation_id, debt_change=-owed)
        return self.refunded(account, hold, self.record(hold, command, refunded=amount))

    def refunded(
        self, account: Account, hold: Hold, answer: dict[str, Any], *, replayed: bool = False
    ) -> r.Refunded:
        return r.Refunded(
            **answer, hold=hold.show(), replayed=replayed, totals=self.totals(account)
        )

    # Accounts and buckets.

    def put_account(self, account: Account | None, command: c.PutAccount) -> r.AccountPut:
        created = account is None
        if account is None:
            account = Account(
                account_id=command.account_id,
                zone=command.zone or "UTC",
                created_ms=self.now_ms,
                seen_ms=self.now_ms,
            )
            self.accounts[command.account_id] = account
            self.rezone(account, command, account.zone)
        elif command.zone and command.zone != account.zone:
            self.rezone(account, command, command.zone)
            account.zone = command.zone
        else:
            self.catch_up(account, command)
        return r.AccountPut(account=self.show_account(account), created=created)

    def rezone(self, account: Account, command: c.PutAccount, zone: str) -> None:
        """Begin the account's first plan, or go on in another zone from the next period on."""
        kept, plans, now = account.schedule, command.rules.plans, self.now(account)
        if kept.version == 0:
            turn = s.caught_up(replace(kept, zone=zone), plans, now)
        else:
            found = s.after(kept, plans, now, s.SetZone(zone=zone))
            assert found is not None
            turn = found
        self.turn(account, turn)

    def grant(self, account: Account, command: c.Grant) -> r.Granted:
        now = self.now(account)
        row = account.rows.get(command.source_ref)
        if row is not None:
            content = (row.kind, row.figures[GRANTED], row.ends_ms, row.actions, row.models)
            if content != (
                command.kind,
                command.amount,
                command.ends_ms,
                command.actions,
                command.models,
            ):
                raise _fault(Reason.ID_REUSED, id=command.source_ref)
            return self.granted(account, row, replayed=True)
        if command.ends_ms is not None and command.ends_ms <= now:
            raise _fault(Reason.INVALID_FIELD, field="ends_at")
        if command.buyers is not None and account.schedule.plan not in command.buyers:
            return r.Granted(
                decision=Decision.PLAN_REQUIRED,
                bucket=None,
                replayed=False,
                totals=self.totals(account),
                plan=account.schedule.plan,
                schedule=account.schedule,
            )
        if account.available + account.held + command.amount > AMOUNT_MAX:
            raise _fault(Reason.AMOUNT_OVERFLOW, account_id=account.account_id)
        row = Row(
            name=command.source_ref,
            kind=command.kind,
            ends_ms=command.ends_ms,
            granted_ms=now,
            actions=command.actions,
            models=command.models,
        )
        account.rows[command.source_ref] = row
        self.arrive(account, row, command.amount, Verb.GRANT)
        return self.granted(account, row, replayed=False)

    def granted(self, account: Account, row: Row, *, replayed: bool) -> r.Granted:
        return r.Granted(
            decision=Decision.APPROVED,
            bucket=row.show(),
            replayed=replayed,
            totals=self.totals(account),
        )

    def void_bucket(self, account: Account, command: c.VoidBucket) -> r.Voided:
        row = account.rows.get(command.bucket_id)
        if row is None:
            raise _fault(Reason.BUCKET_NOT_FOUND, bucket_id=command.bucket_id)
        if row.status in {"live", "frozen"}:
            self.move(account, row, AVAILABLE, VOIDED, row.figures[AVAILABLE])
            row.status = "voided"
            self.enter(account, Verb.VOID_BUCKET, row=row)
        return r.Voided(bucket=row.show(), totals=self.totals(account))

    # Reads.

    def balance(self, account: Account, command: c.GetBalance) -> r.Balance:
        rows = self.ordered(account, command.rules)
        full = [row for row in rows if row.figures[AVAILABLE] and row.status == "live"]
        payable = [
            row
            for row in full
            if (not command.action or not row.actions or command.action in row.actions)
            and (not command.model or not row.models or command.model in row.models)
        ]
        return r.Balance(
            totals=self.totals(account),
            buckets=tuple(row.show() for row in full + [row for row in rows if row not in full]),
            payable=sum(row.figures[AVAILABLE] for row in payable),
            open_holds=len(account.open_holds()),
            zone=account.zone,
            plan=account.schedule.plan,
            frozen=account.frozen,
            schedule=account.schedule,
        )

    def show_account(self, account: Account) -> r.Account:
        return r.Account(
            account_id=account.account_id,
            zone=account.zone,
            created_ms=account.created_ms,
            totals=self.totals(account),
            frozen=account.frozen,
            schedule=account.schedule,
            denied=account.denied,
        )

    def list_holds(self, account: Account, command: c.ListHolds) -> r.HoldPage:
        ids = sorted(hold.command.hold_id for hold in account.open_holds())
        rest = [hold_id for hold_id in ids if hold_id > command.cursor]
        page = rest[: command.limit]
        return r.HoldPage(
            holds=tuple(account.holds[hold_id].show() for hold_id in page),
            cursor=page[-1] if len(rest) > len(page) else "",
        )

    def list_ledger(self, account: Account, command: c.ListLedger) -> r.LedgerPage:
        end = int(command.cursor) if command.cursor else len(account.entries)
        start = max(0, end - command.limit)
        return r.LedgerPage(
            entries=tuple(reversed(account.entries[start:end])), cursor=str(start or "")
        )


def _record_key(command: c.Settle | c.Refund) -> str:
    """An operation is found by its id; one without an id by what it asks."""
    return command.operation_id or f"/{command.fingerprint}"


def _fault(reason: Reason, **metadata: str) -> Fault:
    return Fault(reason, reason.name, metadata=metadata)


def _refuse(hold: Hold) -> NoReturn:
    """Say which operation ended the hold."""
    raise _fault(
        Reason[f"HOLD_{hold.state.name}"],
        hold_id=hold.command.hold_id,
        charged=str(hold.charged),
        refunded=str(hold.refunded),
    )


def _refuse_too_many(hold: Hold) -> None:
    if len(hold.records) >= OPERATIONS_MAX:
        raise _fault(
            Reason.TOO_MANY_OPERATIONS,
            hold_id=hold.command.hold_id,
            limit=str(OPERATIONS_MAX),
        )
