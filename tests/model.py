"""The reference model: the rules of docs/rules.md in plain Python, without a store.

It is what the fast thing is judged by, so it is written from the rules alone, and plainly.
It forgets nothing: histories run on it stay within the 30 days for which records are kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from creditgate_server.core import commands as c
from creditgate_server.core import results as r
from creditgate_server.core.commands import LateSettle, Overage, ReturnPolicy
from creditgate_server.core.faults import Fault, Reason
from creditgate_server.core.prices import AMOUNT_MAX, Price
from creditgate_server.core.results import Decision, Figure, HoldState, Verb

OPERATIONS_MAX = 100

GRANTED, AVAILABLE, HELD = Figure.GRANTED, Figure.AVAILABLE, Figure.HELD
SPENT, EXPIRED, VOIDED = Figure.SPENT, Figure.EXPIRED, Figure.VOIDED


@dataclass
class Row:
    """One bucket in one period; `status` is live, ended or voided."""

    bucket_id: str
    kind: c.Kind
    ends_ms: int | None
    granted_ms: int
    actions: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    status: str = "live"
    figures: dict[Figure, int] = field(default_factory=lambda: dict.fromkeys(Figure, 0))

    def pays(self, action: str, model: str) -> bool:
        """Whether a job of this action and model may be paid from here."""
        return (not self.actions or action in self.actions) and (
            not self.models or model in self.models
        )

    def show(self) -> r.Bucket:
        return r.Bucket(
            bucket_id=self.bucket_id,
            period=0,
            kind=self.kind,
            **{figure.name.lower(): amount for figure, amount in self.figures.items()},
            ends_ms=self.ends_ms,
            granted_ms=self.granted_ms,
            ended=self.status != "live",
            actions=self.actions,
            models=self.models,
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
    """One job, with the terms that were pinned to it."""

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
                    period=0,
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

    def total(self, figure: Figure) -> int:
        return sum(row.figures[figure] for row in self.rows.values())

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
        return self.act(account, command)

    def act(self, account: Account, command: c.Command[Any]) -> Any:
        """Run a command on an account that exists."""
        if not isinstance(command, c.GetHold | c.ListHolds | c.ListLedger):
            self.end_rows(account)
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
                return self.show(account, command)

    def show(self, account: Account, command: c.Command[Any]) -> Any:
        """Run a command that only reads."""
        match command:
            case c.GetBalance():
                return self.balance(account, command)
            case c.GetHold():
                return self.hold(account, command.hold_id).show()
            case c.GetAccount():
                return self.show_account(account)
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

    def end_rows(self, account: Account) -> None:
        """Do what is due before every operation, but for those that show what is written."""
        now = self.now(account)
        due = [
            (row.ends_ms, row.bucket_id, row)
            for row in account.rows.values()
            if row.status == "live" and row.ends_ms is not None and row.ends_ms <= now
        ]
        for _, _, row in sorted(due, key=lambda item: item[:2]):
            row.status = "ended"
            self.move(account, row, AVAILABLE, EXPIRED, row.figures[AVAILABLE])
            self.enter(account, Verb.END_BUCKET, bucket_id=row.bucket_id)

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
                period=0,
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
        bucket_id: str = "",
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
                bucket_id=bucket_id,
                member_id=hold.command.member_id if hold else "",
                action=hold.command.job.action if hold else "",
                model=hold.command.job.model if hold else "",
                moves=tuple(account.moves),
                debt_change=debt_change,
                available=account.total(AVAILABLE),
                held=account.total(HELD),
                debt=account.debt,
            )
        )
        account.moves.clear()

    def totals(self, account: Account) -> r.Totals:
        return r.Totals(
            seq=len(account.entries),
            available=account.total(AVAILABLE),
            held=account.total(HELD),
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
            return rank, never, row.ends_ms or 0, row.granted_ms, row.bucket_id.encode()

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

    # Returning.

    def give_back(
        self, account: Account, row: Row, source: Figure, amount: int, policy: ReturnPolicy
    ) -> int:
        """Return credits to their row; return how much of it is to be compensated."""
        if row.status == "live":
            self.move(account, row, source, AVAILABLE, amount)
            return 0
        if row.status == "voided":
            self.move(account, row, source, VOIDED, amount)
            return 0
        self.move(account, row, source, EXPIRED, amount)
        return amount if policy is ReturnPolicy.COMPENSATE else 0

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
        self.compensate(account, rules, compensated)
        return returned

    def compensate(self, account: Account, rules: c.Rules, amount: int) -> None:
        """Grant a compensation row within the change under way."""
        if amount == 0:
            return
        now = self.now(account)
        row = Row(
            bucket_id=f"compensation/{len(account.entries) + 1}",
            kind=c.Kind.COMPENSATION,
            ends_ms=now + rules.compensation_ms,
            granted_ms=now,
        )
        account.rows[row.bucket_id] = row
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
        if terms is None:
            return self.denied(account, Decision.UNPRICED_ACTION)
        if command.max_amount is not None and terms.amount > command.max_amount:
            return self.denied(account, Decision.PRICE_CHANGED, amount=terms.amount)
        payable = self.payable(account, command.rules, command.job)
        if payable < terms.amount:
            return self.denied(
                account,
                Decision.INSUFFICIENT_CREDITS,
                amount=terms.amount,
                missing=terms.amount - payable,
            )
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

    def denied(
        self, account: Account, decision: Decision, *, amount: int = 0, missing: int = 0
    ) -> r.Authorized:
        return r.Authorized(
            decision=decision,
            amount=amount,
            hold=None,
            missing=missing,
            replayed=False,
            totals=self.totals(account),
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
        self.end_rows(account)
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
        payable = self.payable(account, command.rules, hold.command.job)
        if payable < more:
            return r.Extended(
                decision=Decision.INSUFFICIENT_CREDITS,
                hold=hold.show(),
                missing=more - payable,
                totals=self.totals(account),
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
        if account.total(AVAILABLE) + account.total(HELD) + amount - owed > AMOUNT_MAX:
            raise _fault(Reason.AMOUNT_OVERFLOW, account_id=account.account_id)

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
        self.end_rows(account)
        if command.zone:
            account.zone = command.zone
        return r.AccountPut(account=self.show_account(account), created=created)

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
            return r.Granted(bucket=row.show(), replayed=True, totals=self.totals(account))
        if command.ends_ms is not None and command.ends_ms <= now:
            raise _fault(Reason.INVALID_FIELD, field="ends_at")
        if account.total(AVAILABLE) + account.total(HELD) + command.amount > AMOUNT_MAX:
            raise _fault(Reason.AMOUNT_OVERFLOW, account_id=account.account_id)
        row = Row(
            bucket_id=command.source_ref,
            kind=command.kind,
            ends_ms=command.ends_ms,
            granted_ms=now,
            actions=command.actions,
            models=command.models,
        )
        account.rows[command.source_ref] = row
        self.move(account, row, GRANTED, AVAILABLE, command.amount)
        self.enter(account, Verb.GRANT, bucket_id=row.bucket_id)
        paid = min(account.debt, command.amount)
        if paid:
            self.move(account, row, AVAILABLE, SPENT, paid)
            self.enter(account, Verb.PAY_DEBT, debt_change=-paid, bucket_id=row.bucket_id)
        return r.Granted(bucket=row.show(), replayed=False, totals=self.totals(account))

    def void_bucket(self, account: Account, command: c.VoidBucket) -> r.Voided:
        row = account.rows.get(command.bucket_id)
        if row is None:
            raise _fault(Reason.BUCKET_NOT_FOUND, bucket_id=command.bucket_id)
        if row.status == "live":
            row.status = "voided"
            self.move(account, row, AVAILABLE, VOIDED, row.figures[AVAILABLE])
            self.enter(account, Verb.VOID_BUCKET, bucket_id=row.bucket_id)
        return r.Voided(bucket=row.show(), totals=self.totals(account))

    # Reads.

    def balance(self, account: Account, command: c.GetBalance) -> r.Balance:
        rows = self.ordered(account, command.rules)
        full = [row for row in rows if row.figures[AVAILABLE]]
        payable = [
            row
            for row in full
            if (not command.action or not row.actions or command.action in row.actions)
            and (not command.model or not row.models or command.model in row.models)
        ]
        return r.Balance(
            totals=self.totals(account),
            buckets=tuple(
                row.show() for row in full + [row for row in rows if not row.figures[AVAILABLE]]
            ),
            payable=sum(row.figures[AVAILABLE] for row in payable),
            open_holds=len(account.open_holds()),
        )

    def show_account(self, account: Account) -> r.Account:
        return r.Account(
            account_id=account.account_id,
            zone=account.zone,
            created_ms=account.created_ms,
            totals=self.totals(account),
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
