"""Jobs on some accounts of one ledger, and whether what was answered is true in the end."""

import asyncio
import itertools
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

from creditgate_server.core import commands as c
from creditgate_server.core import results as r
from creditgate_server.core.faults import CreditOutcome, Fault, Reason
from creditgate_server.store.keys import Keys
from creditgate_server.store.redis_ledger import RedisLedger
from tests.ledger.bench import Ask, Snapshot, audit, snapshot

CREDITS = 1_000_000


def accounts_of(keys: Keys, partition: int, count: int) -> list[Ask]:
    """Accounts that lie in one partition."""
    wanted = keys.partitions[partition]
    names = (f"account-{number}" for number in itertools.count())
    mine = (name for name in names if keys.partition_of(name) is wanted)
    return [Ask(name) for name in itertools.islice(mine, count)]


class Traffic:
    """Every job asks until it is answered; `told` is what it was answered at last."""

    def __init__(self, ledger: RedisLedger, asks: Sequence[Ask]) -> None:
        self.told: list[tuple[c.Command[Any], Any]] = []
        self.unavailable: Counter[CreditOutcome] = Counter()
        self.problems: list[str] = []
        self._ledger = ledger
        self._asks = asks
        self._numbers = itertools.count()
        self._name = uuid.uuid4().hex[:6]
        self._stopped = False
        self._abandoned = False
        self._running: list[asyncio.Task[None]] = []

    async def begin(self, *, callers: int = 8) -> None:
        """Make the accounts, and start."""
        for ask in self._asks:
            for command in (ask.put(), ask.grant(f"pack-{self._name}", CREDITS)):
                await self.ask(command)
        self._running = [asyncio.create_task(self._run(number)) for number in range(callers)]

    async def end(self, *, abandon: bool = False) -> None:
        """Start no more jobs, and wait for those under way, or for their next answer only."""
        self._stopped = True
        self._abandoned = abandon
        await asyncio.gather(*self._running)

    async def _run(self, caller: int) -> None:
        while not self._stopped:
            number = next(self._numbers)
            ask = self._asks[number % len(self._asks)]
            job = f"job-{self._name}-{number}"
            if caller % 2:
                await self.ask(ask.authorize(job, 3))
                await self.ask(ask.settle(job, 2))
            else:
                await self._ask_in_order(ask, job)

    async def _ask_in_order(self, ask: Ask, job: str) -> None:
        """A whole job in one write, whose parts must not overtake one another."""
        commands: list[c.Command[Any]] = [
            ask.authorize(job, 3),
            ask.settle(job, 1, partial=True, operation_id="part"),
            ask.settle(job, 1),
            ask.refund(job, 1, operation_id="back"),
        ]
        replies = await self._ledger.run_all(commands)
        for earlier, later in itertools.pairwise(replies):
            if not isinstance(earlier, Fault) and refused(later):
                self.problems.append(f"{ask.account_id} {job}: overtaken, {replies}")
        for command, reply in zip(commands, replies, strict=True):
            if unavailable(reply) or refused(reply):
                self._count(reply)
                await self.ask(command)
            else:
                self._note(command, reply)

    async def ask(self, command: c.Command[Any]) -> None:
        """Ask until it is answered."""
        while True:
            try:
                reply: Any = await self._ledger.run(command)
            except Fault as fault:
                reply = fault
            if not unavailable(reply):
                self._note(command, reply)
                return
            self._count(reply)
            if self._abandoned:
                return
            await asyncio.sleep(0.005)

    def _count(self, fault: Fault) -> None:
        self.unavailable[fault.outcome] += unavailable(fault)

    def _note(self, command: c.Command[Any], reply: Any) -> None:
        if isinstance(reply, Fault):
            self.problems.append(f"{command}: {reply.reason} {reply}")
            return
        self.told.append((command, reply))

    async def check(self, ledger: RedisLedger | None = None) -> None:
        """All that was answered is in the ledgers, once, and they add up to the balances."""
        assert not self.problems, "\n".join(self.problems[:10])
        found: dict[str, Snapshot] = {}
        for ask in self._asks:
            whole = await snapshot(ledger or self._ledger, ask)
            audit(whole)
            found[ask.account_id] = whole
        missing = [
            f"lost: {command}: {reply}"
            for command, reply in self.told
            if not _is_there(found[command.account_id], command, reply)
        ]
        assert not missing, "\n".join([f"{len(missing)} lost", *missing[:10]])
        for account_id, whole in found.items():
            jobs = [entry for entry in whole.entries if entry.hold_id]
            entries = Counter((e.verb, e.hold_id, e.operation_id) for e in jobs)
            assert max(entries.values()) == 1, f"twice: {account_id}"


async def patiently(ledger: RedisLedger, command: c.Command[Any]) -> Any:
    """The answer, when there is one."""
    job = Traffic(ledger, [])
    await job.ask(command)
    assert not job.problems, job.problems
    return job.told[0][1]


def unavailable(reply: Any) -> bool:
    """Whether to ask again."""
    return isinstance(reply, Fault) and reply.reason is Reason.STORE_UNAVAILABLE


def refused(reply: Any) -> bool:
    """Whether it came before what it follows."""
    return isinstance(reply, Fault) and reply.reason is Reason.HOLD_NOT_FOUND


_VERBS = {c.Authorize: r.Verb.AUTHORIZE, c.Settle: r.Verb.SETTLE, c.Refund: r.Verb.REFUND}


def _is_there(whole: Snapshot, command: c.Command[Any], reply: Any) -> bool:
    verb = _VERBS.get(type(command))
    if verb is None:
        return True
    wanted = (verb, getattr(command, "hold_id", ""), getattr(command, "operation_id", ""))
    if reply.replayed:
        return any((e.verb, e.hold_id, e.operation_id) == wanted for e in whole.entries)
    if reply.totals.seq > len(whole.entries):
        return False
    entry = whole.entries[reply.totals.seq - 1]
    return (entry.verb, entry.hold_id, entry.operation_id) == wanted
