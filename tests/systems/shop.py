"""A shop that runs on a catalog as it is shipped, and its customers, on the real store.

What stands here is the same for every system: a system differs from the others by its catalog and
by nothing else.
"""

import uuid
from dataclasses import dataclass
from typing import Any

from creditgate.v1.accounts_pb2 import PurchaseTopUpRequest, PurchaseTopUpResponse
from creditgate.v1.credits_pb2 import GetBalanceResponse
from creditgate_server.catalogs import reader
from creditgate_server.cli import audits
from creditgate_server.core import commands as c
from creditgate_server.core import results as r
from creditgate_server.core import schedule
from creditgate_server.core.catalog import Catalog
from creditgate_server.core.commands import Job, Kind
from creditgate_server.core.schedule import Coming
from creditgate_server.rpc import messages
from creditgate_server.rpc.accounts import Accounts
from creditgate_server.rpc.catalog import Catalog as CatalogService
from creditgate_server.rpc.credits import Credits
from creditgate_server.rpc.in_force import Reloaded
from creditgate_server.store.redis_ledger import RedisLedger
from tests.ledger.bench import Clock, pages
from tests.schedule.times import ms


@dataclass(frozen=True)
class _InForce:
    """The shop's catalog, as services see it."""

    shop: "Shop"

    @property
    def current(self) -> Catalog:
        return self.shop.catalog

    def quoted(self, _version: str) -> Catalog | None:
        return self.current

    async def reload(self) -> Reloaded:
        version = self.current.version
        return Reloaded(version=version, previous_version=version)


class Shop:
    """One operator: a catalog, a store and a clock that stands still until it is moved."""

    def __init__(self, ledger: RedisLedger, clock: Clock, catalog: Catalog) -> None:
        self.ledger = ledger
        self.clock = clock
        self.catalog = catalog
        self._customers: list[Customer] = []
        in_force = _InForce(self)
        self.credits = Credits(ledger, in_force)
        self.accounts = Accounts(ledger, in_force)
        self.prices = CatalogService(in_force)

    async def customer(self, since: str, *, plan: str = "", zone: str = "UTC") -> "Customer":
        """Somebody who has signed up; on the default plan unless `plan` says another."""
        self.clock.set(ms(since))
        customer = Customer(self, f"customer-{uuid.uuid4().hex[:12]}")
        await self.ledger.run(c.PutAccount(account_id=customer.account_id, zone=zone, **self.rules))
        if plan:
            await customer.subscribe(plan)
        self._customers.append(customer)
        return customer

    @property
    def rules(self) -> dict[str, c.Rules]:
        """What every command of this shop carries."""
        return {"rules": self.catalog.rules}

    def price(self, action: str, model: str = "", quantity: int = 1, **settings: str) -> int:
        """What a job costs in this shop."""
        terms = self.catalog.terms(job(action, model, quantity, **settings))
        assert terms is not None, f"{action} with {model or 'no model'} has no price"
        return terms.amount

    async def audit(self) -> None:
        """Every credit of every customer is accounted for."""
        for customer in self._customers:
            assert not (await customer.audit()).problems


def job(action: str, model: str = "", quantity: int = 1, **settings: str) -> Job:
    """A job in few words."""
    return Job(action=action, model=model, quantity=quantity, settings=tuple(settings.items()))


def catalog_of(name: str) -> Catalog:
    """A catalog as it is shipped."""
    assert name in reader.shipped()
    return reader.load(name)


class Customer:
    """One account, asked in few words. What is not said of a job is at its default."""

    def __init__(self, shop: Shop, account_id: str) -> None:
        self.shop = shop
        self.account_id = account_id
        self._events = 0
        self._jobs = 0

    async def run(self, command: type[c.Command[Any]], **fields: Any) -> Any:
        """Run a command of this account by the shop's rules."""
        made = command(account_id=self.account_id, **fields, **self.shop.rules)
        return await self.shop.ledger.run(made)

    async def at(self, when: str) -> dict[str, int]:
        """Let time pass until then; what can be spent, by bucket."""
        self.shop.clock.set(ms(when))
        return await self.left()

    # The subscription.

    async def event(self, event: schedule.Event) -> None:
        """Something that the billing system tells."""
        self._events += 1
        reference = f"event-{self._events}"
        answer = await self.run(c.Reschedule, reference=reference, event=event)
        assert answer.effect is r.Effect.APPLIED

    async def subscribe(self, plan: str, **changes: Any) -> None:
        await self.event(schedule.Subscribe(plan=plan, **changes))

    async def change_plan(self, plan: str = "", **changes: Any) -> None:
        await self.event(schedule.ChangePlan(plan=plan, **changes))

    async def cancel(self, **changes: Any) -> None:
        await self.event(schedule.Cancel(**changes))

    async def add_ons(self, name: str, units: int) -> None:
        await self.event(schedule.SetAddOns(name=name, units=units))

    # Credits.

    async def buy(self, payment: str, pack: int) -> PurchaseTopUpResponse:
        """Pay for a pack; the answer as the contract has it."""
        request = PurchaseTopUpRequest(
            account_id=self.account_id, payment_ref=payment, pack_amount=pack
        )
        found = await self.shop.accounts.purchase_top_up(request)
        assert isinstance(found, PurchaseTopUpResponse)
        return found

    async def given(self, name: str, kind: Kind, amount: int, ends: str = "") -> None:
        """Credits that were earned or are a present."""
        ends_ms = ms(ends) if ends else None
        await self.run(c.Grant, source_ref=name, kind=kind, amount=amount, ends_ms=ends_ms)

    async def authorize(
        self, action: str, model: str = "", quantity: int = 1, *, member: str = "", **settings: str
    ) -> r.Authorized:
        """Ask for a hold, under an id that is new."""
        return await self._place(c.Authorize, job(action, model, quantity, **settings), member)

    async def charge(
        self, action: str, model: str = "", quantity: int = 1, *, member: str = "", **settings: str
    ) -> r.Authorized:
        """Run a job that is over at once."""
        return await self._place(c.Charge, job(action, model, quantity, **settings), member)

    async def spend(self, action: str, model: str = "", quantity: int = 1, **settings: str) -> int:
        """Run a job that is approved; what it cost."""
        answer = await self.charge(action, model, quantity, **settings)
        assert answer.decision is r.Decision.APPROVED, answer.decision
        return answer.amount

    async def _place(self, command: Any, asked: Job, member: str) -> r.Authorized:
        self._jobs += 1
        hold_id = f"job-{self._jobs}"
        terms = self.shop.catalog.terms(asked)
        found: r.Authorized = await self.run(
            command, hold_id=hold_id, job=asked, member_id=member, terms=terms
        )
        return found

    async def settle(self, placed: r.Authorized, **changes: Any) -> r.Settled:
        assert placed.hold is not None
        found: r.Settled = await self.run(c.Settle, hold_id=placed.hold.hold_id, **changes)
        return found

    async def refund(self, placed: r.Authorized, **changes: Any) -> r.Refunded:
        assert placed.hold is not None
        found: r.Refunded = await self.run(c.Refund, hold_id=placed.hold.hold_id, **changes)
        return found

    # What there is.

    async def balance(self, action: str = "", model: str = "") -> r.Balance:
        found: r.Balance = await self.run(c.GetBalance, action=action, model=model)
        return found

    async def account(self) -> r.Account:
        found: r.Account = await self.run(c.GetAccount)
        return found

    async def plan(self) -> str:
        return (await self.balance()).plan

    async def left(self) -> dict[str, int]:
        """What can be spent, by bucket, in burn-down order; those that ended are left out."""
        buckets = (await self.balance()).buckets
        return {
            row(bucket): bucket.available
            for bucket in buckets
            if not bucket.ended and not bucket.frozen
        }

    async def bucket(self, name: str) -> r.Bucket:
        """One bucket in one period, ended or not."""
        buckets = (await self.balance()).buckets
        return next(bucket for bucket in buckets if row(bucket) == name)

    async def upcoming(self) -> list[tuple[Coming, int]]:
        """What will happen by itself, and when."""
        kept = (await self.account()).schedule
        assert kept is not None
        plans, now_ms = self.shop.catalog.plans, self.shop.clock.now_ms
        return [(item.coming, item.at_ms) for item in schedule.upcoming(kept, plans, now_ms)]

    async def entries(self) -> list[r.LedgerEntry]:
        """The whole ledger, the first entry first."""
        listed = await pages(
            self.shop.ledger,
            lambda limit, cursor: c.ListLedger(
                account_id=self.account_id, limit=limit, cursor=cursor
            ),
            lambda page: page.entries,
            1000,
        )
        return listed[::-1]

    async def audit(self) -> audits.Audit:
        """What `creditgate audit` finds."""
        balance = await self.balance()
        shown = GetBalanceResponse()
        messages.write_totals(shown.totals, self.account_id, balance.totals)
        for bucket in balance.buckets:
            messages.write_bucket(shown.buckets.add(), bucket)
        return audits.audit(
            shown,
            (messages.entry(self.account_id, entry) for entry in reversed(await self.entries())),
        )


def row(bucket: r.Bucket) -> str:
    """The name of a bucket, with its period where it recurs."""
    return f"{bucket.bucket_id}#{bucket.period}" if bucket.recurring else bucket.bucket_id


def drawn(answer: r.Authorized) -> dict[str, int]:
    """From which buckets the credits of a job come, in the order they were drawn."""
    assert answer.hold is not None, answer.decision
    return {part.bucket_id: part.amount for part in answer.hold.slices}
