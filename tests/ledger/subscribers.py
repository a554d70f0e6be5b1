"""Histories in which time passes: plans, periods, members, and a catalog that changes."""

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

from creditgate_server.core import commands as c
from creditgate_server.core import schedule as s
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
from tests.ledger.bench import DAY_MS
from tests.ledger.histories import Author, Genre, Writer, instants
from tests.model import Account, Model


def daily(amount: int, **more: Any) -> RecurringGrant:
    """Free credits of a day."""
    return RecurringGrant(
        **{"name": "daily", "kind": "F", "amount": amount, "every": Every.DAY, **more}
    )


def base(amount: int, **more: Any) -> RecurringGrant:
    """Credits of a subscription, by the month unless it says otherwise."""
    plain = {"name": "base", "kind": "S", "amount": amount, "every": Every.MONTH}
    return RecurringGrant(**{**plain, **more})


def plan(name: str, *grants: RecurringGrant, billing: Every = Every.MONTH) -> Plan:
    """A plan; all but the free one are subscriptions."""
    return Plan(name=name, title=name, subscription=name != "free", grants=grants, billing=billing)


def units(plans: dict[str, int], **more: Any) -> AddOn:
    """An add-on by the month."""
    every = dict.fromkeys(plans, Every.MONTH)
    return AddOn(name="units", title="Units", amounts=plans, every=every, **more)


EDITIONS = (
    Plans(
        default="free",
        plans=(
            plan("free", daily(5)),
            plan("basic", daily(5), base(20, on_lapse=OnLapse.FREEZE)),
            plan("pro", base(50, rollover_max=15)),
            plan("team", base(12, per_seat=True, on_lapse=OnLapse.KEEP)),
            plan("yearly", base(90, every=Every.YEAR), billing=Every.YEAR),
        ),
        add_ons=(units({"basic": 6, "team": 9}, per_seat=frozenset({"team"})),),
        seat_share=SeatShare.PRORATED,
        top_up_on_lapse=OnLapse.FREEZE,
    ),
    Plans(
        default="free",
        plans=(
            plan("free", daily(3, rollover_max=4, on_lapse=OnLapse.FREEZE)),
            plan("pro", base(30, on_lapse=OnLapse.RUN_TO_PERIOD_END), daily(8)),
            plan("basic", daily(5, actions=("image",)), base(25, rollover_max=1000)),
            plan("team", base(10, per_seat=True, every=Every.WEEK, on_lapse=OnLapse.FREEZE)),
            plan("yearly", base(60, on_lapse=OnLapse.KEEP), billing=Every.YEAR),
        ),
        add_ons=(units({"basic": 4, "pro": 7}, on_lapse=OnLapse.KEEP),),
        upgrade=Upgrade.RESTART,
        top_up_on_lapse=OnLapse.EXPIRE,
    ),
    Plans(
        default="free",
        plans=(
            plan("free"),
            plan("basic", base(9, every=Every.WEEK, models=("tall",))),
            plan("team", base(15, per_seat=True, rollover_max=6, on_lapse=OnLapse.KEEP)),
        ),
    ),
    Plans(),
)
"""One catalog in the course of its changes; the last one has lost its plans."""

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Pacific/Apia", "Asia/Kolkata"]
MEMBERS = ["", "ada", "bob"]
GATES = ["*", "*", ",free/2,basic/3,pro/0,team/4,yearly/0,", ",basic/0,pro/1,team/2,", ",free/0,"]


class Subscriber(Author):
    """Writes the life of an account with plans."""

    def __init__(self, dice: random.Random, account_id: str, model: Model) -> None:
        super().__init__(dice, account_id, model)
        self.huge = dice.random() < 0.03
        self.catalog = dice.choices(EDITIONS, [4, 4, 4, 1])[0]
        self.told_events = 0

    def write(self) -> c.Command[Any]:
        """The next command."""
        if not self.told:
            self.ask.rules = self.rules()
            self.told.append(self.ask.put(zone=self.dice.choice(ZONES)))
            return self.told[0]
        return super().write()

    def writers(self) -> dict[Writer, int]:
        """What is asked, and how often."""
        return {
            **super().writers(),
            self.subscribe: 7,
            self.change_plan: 6,
            self.cancel: 3,
            self.add_ons: 4,
            self.rezone: 1,
            self.freeze: 2,
            self.limit: 3,
            self.buy: 3,
        }

    def rules(self) -> c.Rules:
        dice = self.dice
        if dice.random() < 0.02:
            self.catalog = dice.choices(EDITIONS, [6, 6, 6, 1])[0]
        return c.Rules(
            ranks=dice.choice(["1234560", "1234560", "1234560", "9023456"]),
            on_failed=dice.choice(list(c.ReturnPolicy)),
            on_cancelled=dice.choice(list(c.ReturnPolicy)),
            compensation_ms=dice.choice([5, 5000, 7 * DAY_MS]),
            plans=self.catalog,
        )

    def terms(self, job: c.Job) -> c.Terms | None:
        terms = super().terms(job)
        if terms is None:
            return None
        lasts = [1, 5, 100, DAY_MS, 40 * DAY_MS]
        return c.Terms(
            price=terms.price,
            amount=terms.amount,
            ttl_ms=self.dice.choice(lasts),
            life_ms_max=self.dice.choice([60, 2 * DAY_MS, 70 * DAY_MS]),
            overage=terms.overage,
            overdraft_limit=terms.overdraft_limit,
            late_settle=terms.late_settle,
            catalog_version=terms.catalog_version,
            gate=self.dice.choice(GATES),
        )

    def authorize(self) -> c.Command[Any]:
        return self.by_member(super().authorize())

    def charge(self) -> c.Command[Any]:
        return self.by_member(super().charge())

    def by_member(self, command: Any) -> c.Command[Any]:
        member_id = "" if self.huge else self.dice.choice(MEMBERS)
        changed: c.Command[Any] = dataclasses.replace(command, member_id=member_id)
        return changed

    def event(self, event: s.Event) -> c.Command[Any]:
        self.told_events += 1
        reference = self.dice.random() < 0.05 and self.told_events > 1
        number = self.dice.randint(1, self.told_events - 1) if reference else self.told_events
        return self.ask.event(f"e{number}", event)

    def occurred_ms(self) -> int | None:
        now = self.model.now_ms
        kept = self.account.schedule.occurred_ms if self.account else now
        return self.dice.choice([None, None, None, now, now - 3, kept, kept, kept - 1, now + 5])

    def subscribe(self) -> c.Command[Any]:
        dice, now = self.dice, self.model.now_ms
        return self.event(
            s.Subscribe(
                plan=dice.choice(["basic", "pro", "team", "yearly", "yearly", "free", "gone"]),
                seats=dice.choice([1, 1, 2, 3]),
                anchor_ms=dice.choice([None, None, now, now - dice.randint(1, 40) * DAY_MS]),
                paid_through_ms=dice.choice(
                    [None, None, now - 1, now + 4, now + 9 * DAY_MS, now + 40 * DAY_MS]
                ),
                allowances=dice.choice([(), (), (("base", dice.randint(0, 40)),)]),
                occurred_ms=self.occurred_ms(),
            )
        )

    def change_plan(self) -> c.Command[Any]:
        return self.event(
            s.ChangePlan(
                plan=self.dice.choice(["", "basic", "pro", "team", "yearly", "free", "gone"]),
                seats=self.dice.choice([0, 0, 1, 2, 4]),
                when=self.dice.choice([None, None, s.When.NOW, s.When.PERIOD_END]),
                occurred_ms=self.occurred_ms(),
            )
        )

    def cancel(self) -> c.Command[Any]:
        when = self.dice.choice([None, s.When.NOW, s.When.PERIOD_END])
        return self.event(s.Cancel(when=when, occurred_ms=self.occurred_ms()))

    def add_ons(self) -> c.Command[Any]:
        return self.event(
            s.SetAddOns(
                name=self.dice.choice(["units", "units", "units", "none"]),
                units=self.dice.randint(0, 3),
                occurred_ms=self.occurred_ms(),
            )
        )

    def rezone(self) -> c.Command[Any]:
        return self.ask.put(zone=self.dice.choice(ZONES))

    def freeze(self) -> c.Command[Any]:
        return self.ask.freeze(frozen=self.dice.random() < 0.3)

    def limit(self) -> c.Command[Any]:
        amount = self.dice.choice([None, None, 0, 3, 10, 30])
        return self.ask.limit(self.dice.choice(MEMBERS), amount)

    def buy(self) -> c.Command[Any]:
        command: Any = self.grant()
        buyers = self.dice.choice([None, frozenset[str](), frozenset({"basic", "pro", "team"})])
        changed: c.Command[Any] = dataclasses.replace(
            command, kind=c.Kind.TOP_UP, ends_ms=None, buyers=buyers
        )
        return changed


def next_day(dice: random.Random, now_ms: int, accounts: Sequence[Account]) -> int:
    """Often around a moment at which something is due, at times long after it."""
    how = dice.random()
    if how < 0.4:
        return now_ms
    if how < 0.6:
        return now_ms + 1
    if how < 0.63:
        return now_ms - dice.randint(1, 5)
    if how < 0.66:
        return now_ms + dice.randint(1, 100) * DAY_MS + dice.randint(0, DAY_MS)
    turns = [account.schedule.next_turn_ms for account in accounts]
    others = instants(accounts)
    ahead = sorted(at for at in (turns if how < 0.85 else others) if now_ms <= at + 1)
    if not ahead:
        return now_ms + dice.randint(1, 20)
    return max(now_ms, dice.choice(ahead[:3]) + dice.choice([-1, -1, 0, 0, 1]))


PLANS = Genre(author=Subscriber, next_instant=next_day)
"""Years of subscriptions, with jobs around every boundary."""
