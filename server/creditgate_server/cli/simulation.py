"""What an account lives through on a catalog: from event to event, on a store of its own.

The clock is moved and never waited for. Before each moment at which something happens by itself a
job is authorized, and after it the job succeeds, fails or is cancelled, one after the other: what a
boundary does to a hold that is open is what is asked about most.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from creditgate.v1 import resources_pb2 as pb
from creditgate.v1.credits_pb2 import GetBalanceResponse
from creditgate_server.cli import audits
from creditgate_server.core import commands as c
from creditgate_server.core import results as r
from creditgate_server.core import schedule
from creditgate_server.core.catalog import Catalog
from creditgate_server.core.commands import Job, Kind, Terms
from creditgate_server.core.plans import Buyers
from creditgate_server.core.schedule import Event
from creditgate_server.rpc import messages
from creditgate_server.store import embedded
from creditgate_server.store.redis_ledger import RedisLedger

DAY_MS = 86_400_000
_LEAD_MS = 60_000
"""How long before a boundary a job is authorized, and how long after it is over, at most."""
_SHARE = 4
"""A job takes this part of what may pay it."""
_KEEP_MS = 30 * DAY_MS
_FORGET_EVERY = 64
_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What is simulated. Days count from the beginning."""

    catalog: Catalog
    plan: str
    account_id: str
    zone: str
    begins_ms: int
    days: int
    seats: int = 1
    add_ons: tuple[tuple[str, int], ...] = ()
    packs: tuple[int, ...] = ()
    cancel_after_days: int | None = None
    change_plan: str = ""
    change_after_days: int | None = None

    @property
    def ends_ms(self) -> int:
        """The last moment."""
        return self.begins_ms + self.days * DAY_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """Something that happened: an entry of the ledger, or what stands in none."""

    at_ms: int
    what: str = ""
    entry: pb.LedgerEntry | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lived:
    """What came of it."""

    happenings: tuple[Happening, ...]
    audit: audits.Audit


def live(life: Life) -> Lived:
    """Live it. Raises `StoreStartError`, and the `Fault` of what the plan does not admit."""
    with embedded.start(None) as store:
        return asyncio.run(_live(life, store.url))


async def _live(life: Life, url: str) -> Lived:
    async with _opened(life, url) as teller:
        await teller.tell()
        return await teller.told()


@contextlib.asynccontextmanager
async def _opened(life: Life, url: str) -> AsyncIterator["_Teller"]:
    clock = _Clock(life.begins_ms)
    ledger = await RedisLedger.open(url, partitions=1, clock=clock)
    try:
        yield _Teller(life, ledger, clock)
    finally:
        await ledger.close()


@dataclass(slots=True)
class _Clock:
    now_ms: int

    def __call__(self) -> int:
        return self.now_ms


@dataclass(slots=True)
class _Teller:
    life: Life
    ledger: RedisLedger
    clock: _Clock
    notes: list[Happening] = field(default_factory=list)
    _jobs: int = 0
    _plan: str = ""
    _turn_ms: int = 0
    _payable: int = 0

    async def tell(self) -> None:
        """From the beginning to the end."""
        await self._begin()
        await self._look()
        planned = self._planned()
        steps = 0
        while True:
            # In the same moment, first what comes by itself.
            due_ms = min(filter(None, [await self._next_ms(), *planned]), default=0)
            if not due_ms or due_ms > self.life.ends_ms:
                break
            placed = await self._authorize_before(due_ms)
            self.clock.now_ms = max(due_ms, self.clock.now_ms)
            await self._look()
            for said, event in planned.pop(due_ms, ()):
                self._note(said)
                await self._apply(event)
                await self._look()
            if placed is not None:
                await self._end(placed)
            steps += 1
            if steps % _FORGET_EVERY == 0:
                await self.ledger.forget(keep_ms=_KEEP_MS)
        self.clock.now_ms = self.life.ends_ms
        await self._look()

    async def told(self) -> Lived:
        """All that happened, and whether every credit is accounted for."""
        account_id = self.life.account_id
        entries: list[pb.LedgerEntry] = []
        cursor = ""
        while True:
            ask = c.ListLedger(account_id=account_id, limit=_PAGE, cursor=cursor)
            page = await self.ledger.run(ask)
            entries += [messages.entry(account_id, entry) for entry in page.entries]
            cursor = page.cursor
            if not cursor:
                break
        found = [
            *self.notes,
            *(
                Happening(at_ms=entry.at.ToMilliseconds(), entry=entry)
                for entry in reversed(entries)
            ),
        ]
        found.sort(key=lambda happening: happening.at_ms)
        balance = await self._run(c.GetBalance)
        shown = GetBalanceResponse()
        messages.write_totals(shown.totals, account_id, balance.totals)
        for row in balance.buckets:
            messages.write_bucket(shown.buckets.add(), row)
        return Lived(happenings=tuple(found), audit=audits.audit(shown, entries))

    async def _begin(self) -> None:
        life = self.life
        account: r.AccountPut = await self._run(c.PutAccount, zone=life.zone)
        self._plan = _plan_of(account.account)
        self._note(f"{life.account_id} signs up" + (f" on plan {self._plan}" if self._plan else ""))
        if life.plan not in {"", self._plan}:
            seats = f" with {life.seats} seats" if life.seats > 1 else ""
            self._note(f"subscribes to {life.plan}{seats}")
            self._plan = life.plan
            await self._apply(schedule.Subscribe(plan=life.plan, seats=life.seats))
        for name, units in life.add_ons:
            self._note(f"adds {units} of {name}")
            await self._apply(schedule.SetAddOns(name=name, units=units))
        for number, pack in enumerate(life.packs, 1):
            await self._buy(f"payment-{number}", pack)

    async def _buy(self, payment: str, pack: int) -> None:
        plans = self.life.catalog.plans
        buyers = None
        if plans.buyers is Buyers.SUBSCRIBERS:
            buyers = frozenset(plan.name for plan in plans.plans if plans.may_buy(plan.name))
        found: r.Granted = await self._run(
            c.Grant, source_ref=payment, kind=Kind.TOP_UP, amount=pack, buyers=buyers
        )
        bought = found.decision is r.Decision.APPROVED
        self._note(f"buys a pack of {pack:,}" if bought else "may not buy a pack on this plan")

    def _planned(self) -> dict[int, list[tuple[str, Event]]]:
        """What the account's owner does, by the moment at which it is done."""
        life, found = self.life, dict[int, list[tuple[str, Event]]]()
        if life.change_after_days is not None:
            said = f"changes to {life.change_plan}"
            at_ms = life.begins_ms + life.change_after_days * DAY_MS
            change = schedule.ChangePlan(plan=life.change_plan)
            found.setdefault(at_ms, []).append((said, change))
        if life.cancel_after_days is not None:
            at_ms = life.begins_ms + life.cancel_after_days * DAY_MS
            found.setdefault(at_ms, []).append(("cancels", schedule.Cancel()))
        return found

    async def _next_ms(self) -> int:
        """The next moment at which something happens by itself; 0 when nothing does."""
        found = self._job()
        job = Job(action="") if found is None else found[0]
        balance: r.Balance = await self._run(c.GetBalance, action=job.action, model=job.model)
        self._payable = balance.payable
        ends = [bucket.ends_ms for bucket in balance.buckets if not bucket.ended and bucket.ends_ms]
        return min(filter(None, [self._turn_ms, *ends]), default=0)

    async def _look(self) -> None:
        """Let what is due happen, and say when the plan has become another."""
        account: r.Account = await self._run(c.GetAccount)
        self._turn_ms = account.schedule.next_turn_ms if account.schedule is not None else 0
        plan = _plan_of(account)
        if plan != self._plan:
            self._plan = plan
            self._note(f"is on plan {plan}")

    # A job across the boundary.

    async def _authorize_before(self, due_ms: int) -> r.Hold | None:
        found = self._job()
        if found is None:
            return None
        job, terms = found
        at_ms = due_ms - min(_LEAD_MS, terms.ttl_ms // 3)
        if at_ms <= self.clock.now_ms:
            return None
        self.clock.now_ms = at_ms
        quantity = self._payable // terms.amount // _SHARE
        if not quantity:
            return None
        asked = Job(action=job.action, model=job.model, quantity=quantity, settings=job.settings)
        self._jobs += 1
        answer: r.Authorized = await self._run(
            c.Authorize,
            hold_id=f"job-{self._jobs}",
            job=asked,
            terms=self.life.catalog.terms(asked),
        )
        return answer.hold

    async def _end(self, hold: r.Hold) -> None:
        self.clock.now_ms += min(_LEAD_MS, (hold.deadline_ms - self.clock.now_ms) // 2)
        match self._jobs % 3:
            case 1:
                self._note(f"{hold.hold_id} succeeds")
                await self._run(c.Settle, hold_id=hold.hold_id)
            case 2:
                self._note(f"{hold.hold_id} fails")
                await self._run(c.Refund, hold_id=hold.hold_id)
            case _:
                self._note(f"{hold.hold_id} is cancelled")
                await self._run(c.Refund, hold_id=hold.hold_id, cancelled=True)

    def _job(self) -> tuple[Job, Terms] | None:
        """The first job of the price list that costs something and that the plan allows."""
        plan = self.life.catalog.plans.by_name.get(self._plan)
        for line in self.life.catalog.priced():
            settings = tuple(
                (setting.name, next(iter(setting.factors)))
                for setting in sorted(line.settings, key=lambda setting: setting.name)
                if not setting.default_value
            )
            job = Job(action=line.action, model=line.model, settings=settings)
            terms = self.life.catalog.terms(job)
            allowed = plan is None or plan.allows(job.action, job.model)
            if terms is not None and terms.amount and allowed:
                return job, terms
        return None

    # How it is asked.

    async def _run(self, command: Callable[..., c.Command[Any]], **fields: Any) -> Any:
        rules = self.life.catalog.rules
        return await self.ledger.run(
            command(account_id=self.life.account_id, rules=rules, **fields)
        )

    async def _apply(self, event: Event) -> None:
        await self._run(c.Reschedule, reference=f"event-{len(self.notes)}", event=event)

    def _note(self, what: str) -> None:
        self.notes.append(Happening(at_ms=self.clock.now_ms, what=what))


def _plan_of(account: r.Account) -> str:
    return account.schedule.plan if account.schedule is not None else ""
