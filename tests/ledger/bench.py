"""The bench on which a ledger is tried: an account of its own, a still clock, an auditor."""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from creditgate_server.core import commands as c
from creditgate_server.core import results as r
from creditgate_server.core.commands import Kind, LateSettle, Overage
from creditgate_server.core.faults import CreditOutcome, Fault, Reason
from creditgate_server.core.ledger import Ledger
from creditgate_server.core.prices import Price
from creditgate_server.core.results import Figure
from creditgate_server.core.schedule import Event
from tests.model import Model

START_MS = 1_800_000_000_000
MINUTE_MS = 60_000
DAY_MS = 86_400_000

TTL_MS = 10 * MINUTE_MS
LIFE_MS = 60 * MINUTE_MS

IMAGE = c.Job(action="image.generate")
VIDEO = c.Job(action="video.generate", model="tall")

RULES = c.Rules(ranks="1234560")
"""Free, subscription, add-on, top-up, promotional, referral; compensation before all."""


def terms(price: int | Price, *, quantity: int = 1, **changes: Any) -> c.Terms:
    """The terms of a job at a price per unit (or at a whole number of credits per unit)."""
    line = Price(numerator=price) if isinstance(price, int) else price
    plain = c.Terms(
        price=line,
        amount=line.of(quantity),
        ttl_ms=TTL_MS,
        life_ms_max=LIFE_MS,
        overage=Overage.CAP,
        overdraft_limit=0,
        late_settle=LateSettle.RECHARGE,
        catalog_version="v1",
    )
    return dataclasses.replace(plain, **changes)


@contextlib.contextmanager
def refused(reason: Reason, **metadata: str) -> Iterator[None]:
    """The block is refused for this reason, with this metadata, and is known not to be applied."""
    with pytest.raises(Fault) as caught:
        yield
    assert (caught.value.reason, caught.value.metadata) == (reason, metadata)
    assert caught.value.outcome is CreditOutcome.NOT_APPLIED


@dataclasses.dataclass
class Ask:
    """Makes the commands of one account."""

    account_id: str
    rules: c.Rules = RULES

    def put(self, **changes: Any) -> c.PutAccount:
        return c.PutAccount(account_id=self.account_id, rules=self.rules, **changes)

    def grant(
        self, source_ref: str, amount: int, kind: Kind = Kind.TOP_UP, **changes: Any
    ) -> c.Grant:
        return c.Grant(
            account_id=self.account_id,
            source_ref=source_ref,
            kind=kind,
            amount=amount,
            rules=self.rules,
            **changes,
        )

    def void(self, bucket_id: str) -> c.VoidBucket:
        return c.VoidBucket(account_id=self.account_id, bucket_id=bucket_id, rules=self.rules)

    def authorize(
        self, hold_id: str, price: int | c.Terms | None, job: c.Job = IMAGE, **changes: Any
    ) -> c.Authorize:
        return c.Authorize(
            account_id=self.account_id,
            hold_id=hold_id,
            job=job,
            terms=terms(price) if isinstance(price, int) else price,
            rules=self.rules,
            **changes,
        )

    def charge(
        self, hold_id: str, price: int | c.Terms | None, job: c.Job = IMAGE, **changes: Any
    ) -> c.Charge:
        return c.Charge(
            account_id=self.account_id,
            hold_id=hold_id,
            job=job,
            terms=terms(price) if isinstance(price, int) else price,
            rules=self.rules,
            **changes,
        )

    def extend(self, hold_id: str, **changes: Any) -> c.Extend:
        return c.Extend(account_id=self.account_id, hold_id=hold_id, rules=self.rules, **changes)

    def settle(self, hold_id: str, amount: int | None = None, **changes: Any) -> c.Settle:
        return c.Settle(
            account_id=self.account_id,
            hold_id=hold_id,
            amount=amount,
            rules=self.rules,
            **changes,
        )

    def refund(self, hold_id: str, amount: int | None = None, **changes: Any) -> c.Refund:
        return c.Refund(
            account_id=self.account_id,
            hold_id=hold_id,
            amount=amount,
            rules=self.rules,
            **changes,
        )

    def event(self, reference: str, event: Event) -> c.Reschedule:
        return c.Reschedule(
            account_id=self.account_id, reference=reference, event=event, rules=self.rules
        )

    def freeze(self, *, frozen: bool = True) -> c.SetFrozen:
        return c.SetFrozen(account_id=self.account_id, frozen=frozen, rules=self.rules)

    def limit(self, member_id: str, amount: int | None) -> c.SetMemberLimit:
        return c.SetMemberLimit(
            account_id=self.account_id, member_id=member_id, amount=amount, rules=self.rules
        )

    def expire(self, hold_id: str) -> c.Expire:
        return c.Expire(account_id=self.account_id, hold_id=hold_id, rules=self.rules)

    def hold(self, hold_id: str) -> c.GetHold:
        return c.GetHold(account_id=self.account_id, hold_id=hold_id)

    def account(self) -> c.GetAccount:
        return c.GetAccount(account_id=self.account_id, rules=self.rules)

    def balance(self, action: str = "", model: str = "") -> c.GetBalance:
        return c.GetBalance(
            account_id=self.account_id, action=action, model=model, rules=self.rules
        )

    def holds(self, limit: int = 1000, cursor: str = "") -> c.ListHolds:
        return c.ListHolds(account_id=self.account_id, limit=limit, cursor=cursor)

    def entries(self, limit: int = 1000, cursor: str = "") -> c.ListLedger:
        return c.ListLedger(account_id=self.account_id, limit=limit, cursor=cursor)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms

    def set(self, now_ms: int) -> None:
        """Move it to this moment."""
        self.now_ms = now_ms


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """All that can be seen of an account: what two ledgers are compared by."""

    account: r.Account
    balance: r.Balance
    open_holds: tuple[r.Hold, ...]
    entries: tuple[r.LedgerEntry, ...]

    def without_denial(self) -> "Snapshot":
        """The same but for the note of the last denial."""
        account = self.account._replace(denied=None)
        return dataclasses.replace(self, account=account)


class Bench:
    """A ledger under test, with one account on it.

    A store is tried beside a model that is asked the same: their answers must not differ.
    """

    def __init__(
        self, ledger: Ledger, clock: Clock, *, account_id: str, beside: Model | None = None
    ) -> None:
        self.ledger = ledger
        self.clock = clock
        self.beside = beside
        self.ask = Ask(account_id)

    @property
    def now_ms(self) -> int:
        return self.clock.now_ms

    @now_ms.setter
    def now_ms(self, now_ms: int) -> None:
        self.clock.now_ms = now_ms
        for model in (self.ledger, self.beside):
            if isinstance(model, Model):
                model.now_ms = now_ms

    def advance(self, ms: int) -> None:
        """Move the clock."""
        self.now_ms += ms

    async def run(self, command: c.Command[c.ReplyT]) -> c.ReplyT:
        """Run one command."""
        [reply] = await self.run_all(command)
        answer: c.ReplyT = reply
        return answer

    async def run_all(self, *commands: c.Command[Any]) -> list[Any]:
        """Run commands one after another, up to the first fault, which is raised."""
        replies = []
        for command in commands:
            [reply] = await self.ledger.run_all([command])
            # Lists are left out: their cursors are each ledger's own.
            if self.beside is not None and not isinstance(command, c.ListHolds | c.ListLedger):
                [expected] = await self.beside.run_all([command])
                assert seen(reply) == seen(expected), command
            if isinstance(reply, Fault):
                raise reply
            replies.append(reply)
        return replies

    async def rows(self) -> dict[str, dict[str, int]]:
        """The figures of each bucket that are not 0."""
        balance = await self.run(self.ask.balance())
        return {bucket.bucket_id: figures(bucket) for bucket in balance.buckets}

    async def snapshot(self, *, source: Ledger | None = None) -> Snapshot:
        """Read the whole account."""
        ledger = source or self.ledger
        return await snapshot(ledger, self.ask)

    async def entries(self) -> tuple[r.LedgerEntry, ...]:
        """The account's whole ledger, the first entry first."""
        return (await self.snapshot()).entries

    async def audit(self) -> None:
        """Check what must be true of every account at every moment."""
        whole = await self.snapshot()
        audit(whole)
        if self.beside is not None:
            compare(whole, await self.snapshot(source=self.beside))


def seen(reply: Any) -> Any:
    """What is compared of a reply: of a fault all but its text; empty buckets have no order."""
    if isinstance(reply, Fault):
        return reply.reason, reply.metadata, reply.outcome
    if isinstance(reply, r.Balance):
        full = [bucket for bucket in reply.buckets if bucket.available and not bucket.frozen]
        rest = sorted(reply.buckets[len(full) :], key=row_of)
        return reply._replace(buckets=(*full, *rest))
    return reply


def row_of(part: r.Bucket | r.Move) -> tuple[str, int]:
    """A bucket in one period."""
    return part.bucket_id, part.period


def granted(reply: r.Granted) -> r.Bucket:
    """The bucket of a grant that was not denied."""
    assert reply.bucket is not None, reply
    return reply.bucket


def figures(bucket: r.Bucket) -> dict[str, int]:
    """The figures of a bucket that are not 0."""
    names = (figure.name.lower() for figure in Figure)
    return {name: getattr(bucket, name) for name in names if getattr(bucket, name)}


def moved(entry: r.LedgerEntry) -> list[str]:
    """The moves of an entry as words: `pack: 3 available > held`."""
    return [
        f"{move.bucket_id}: {move.amount} {move.source.name.lower()} > {move.target.name.lower()}"
        for move in entry.moves
    ]


def compare(found: Snapshot, expected: Snapshot) -> None:
    """Check that two ledgers show the same account."""
    same("totals", found.balance.totals, expected.balance.totals)
    same("schedule", found.account.schedule, expected.account.schedule)
    same("account", found.account, expected.account)
    same("buckets", found.balance.buckets, expected.balance.buckets)
    same("balance", found.balance, expected.balance)
    same("open holds", found.open_holds, expected.open_holds)
    same("entries", found.entries, expected.entries)


def same(what: str, found: Any, expected: Any) -> None:
    """Check that two values are equal; of two lists, show where they differ."""
    if found == expected:
        return
    if isinstance(found, tuple):
        for place, (one, other) in enumerate(zip(found, expected, strict=False)):
            same(f"{what}, {place + 1}", one, other)
        found, expected = len(found), len(expected)
    raise AssertionError(f"{what}:\nfound    {found}\nexpected {expected}")


async def snapshot(ledger: Ledger, ask: Ask, *, limit: int = 1000) -> Snapshot:
    """Read the whole account, in pages of `limit`."""
    account = await ledger.run(ask.account())
    balance = seen(await ledger.run(ask.balance()))
    holds = await pages(ledger, ask.holds, lambda page: page.holds, limit)
    entries = await pages(ledger, ask.entries, lambda page: page.entries, limit)
    by_id = {hold.hold_id: hold for hold in holds}
    return Snapshot(
        account, balance, tuple(by_id[key] for key in sorted(by_id)), tuple(reversed(entries))
    )


async def pages(
    ledger: Ledger,
    ask: Callable[[int, str], c.Command[Any]],
    items: Callable[[Any], Sequence[Any]],
    limit: int,
) -> list[Any]:
    """Read all pages of a list."""
    found: list[Any] = []
    cursor = ""
    while True:
        page = await ledger.run(ask(limit, cursor))
        found.extend(items(page))
        cursor = page.cursor
        if not cursor:
            return found


def audit(whole: Snapshot) -> None:
    """Check what must be true of every account at every moment."""
    totals, buckets = whole.balance.totals, whole.balance.buckets
    for bucket in buckets:
        parts = figures(bucket)
        assert all(amount > 0 for amount in parts.values()), bucket
        assert parts.pop("granted", 0) == sum(parts.values()), bucket
        assert not (bucket.ended and bucket.available), bucket
    assert totals.available == sum(bucket.available for bucket in buckets if not bucket.frozen)
    assert totals.held == sum(bucket.held for bucket in buckets)
    assert totals.held == sum(hold.held for hold in whole.open_holds)
    assert whole.balance.open_holds == len(whole.open_holds)

    folded: dict[tuple[str, int], dict[str, int]] = {}
    debt = 0
    # An entry says the bucket that freezes, not in which period: from there on the totals are
    # compared with the model's alone.
    frozen = False
    for seq, entry in enumerate(whole.entries, start=1):
        assert entry.seq == seq
        for move in entry.moves:
            row = folded.setdefault(row_of(move), dict.fromkeys(map(str, Figure), 0))
            row[str(move.source)] += move.amount if move.source is Figure.GRANTED else -move.amount
            row[str(move.target)] += move.amount
        debt += entry.debt_change
        assert entry.debt == debt >= 0
        frozen = frozen or entry.verb is r.Verb.FREEZE_BUCKET
        for figure, total in ((Figure.AVAILABLE, entry.available), (Figure.HELD, entry.held)):
            amount = sum(row[str(figure)] for row in folded.values())
            assert total == amount or (frozen and figure is Figure.AVAILABLE), entry
    assert totals.seq == len(whole.entries)
    assert totals.debt == debt
    assert folded == {
        row_of(bucket): {str(figure): getattr(bucket, figure.name.lower()) for figure in Figure}
        for bucket in buckets
        if bucket.granted
    }
    times = [entry.at_ms for entry in whole.entries]
    assert all(before <= after for before, after in itertools.pairwise(times))
