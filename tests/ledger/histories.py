"""Random histories of accounts: written to collide, told to two ledgers, shortened if they differ.

A history is a list of steps, each a command and the instant at which it is run. It is written while
the model lives it, since what is worth asking next depends on what is there; whatever went wrong,
the steps alone tell it again.
"""

import dataclasses
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from creditgate_server.core import commands as c
from creditgate_server.core import schedule as s
from creditgate_server.core.commands import Kind, LateSettle, Overage, ReturnPolicy
from creditgate_server.core.ledger import Ledger
from creditgate_server.core.prices import AMOUNT_MAX, Price, Rounding
from tests.ledger.bench import START_MS, Ask, audit, compare, seen, snapshot
from tests.model import Account, Model

TURNS = 96
"""The length of an account's life; a longer one only makes whole-state comparisons slower."""

SIDE_BY_SIDE = 8
"""So many accounts live at once, to fill the pipeline."""

BATCH = 4
"""At most so many commands of one account in one turn, at one instant."""

COMPARE_EVERY = 10
"""After so many turns the whole state is compared; what a command answers always is."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One command, and when it is run."""

    now_ms: int
    command: c.Command[Any]

    def __str__(self) -> str:
        said = ", ".join(
            f"{spec.name}={getattr(self.command, spec.name)!r}"
            for spec in dataclasses.fields(self.command)
            if spec.name != "account_id" and getattr(self.command, spec.name) != spec.default
        )
        return f"{self.now_ms - START_MS:+6d} ms  {type(self.command).__name__}({said})"


class Difference(AssertionError):
    """Two ledgers told the same history and differ."""


def twisted(command: c.Command[Any], name: str) -> c.Command[Any]:
    """The same command with other content in one field."""
    return dataclasses.replace(command, **{name: other_than(getattr(command, name), name)})


def other_than(value: Any, name: str) -> Any:
    """A value that the field could have as well. A field of a new sort must be taught here."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, Kind):
        return Kind.FREE if value is not Kind.FREE else Kind.REFERRAL
    if isinstance(value, s.Subscribe | s.ChangePlan | s.Cancel | s.SetAddOns):
        return dataclasses.replace(value, occurred_ms=(value.occurred_ms or 0) + 1)
    if isinstance(value, c.Job):
        return value._replace(quantity=value.quantity + 1)
    if isinstance(value, tuple):
        return (*value, "other.one")
    if isinstance(value, str):
        return f"{value}x"
    if isinstance(value, int):
        return value + 1
    if value is None and name.endswith("_ms"):
        return START_MS + 1_000_000 if name == "ends_ms" else 7
    if value is None and name in {"amount", "quantity", "max_amount"}:
        return 3
    raise TypeError(f"{name}: how does {value!r} differ from others of its sort?")


def content_fields(command: c.Command[Any]) -> list[str]:
    """The fields whose content a retry must repeat: all but the account and the naming ids."""
    names = {"account_id", "hold_id", "operation_id", "source_ref", "reference"}
    return [
        spec.name
        for spec in dataclasses.fields(command)
        if spec.metadata.get("content", True) and spec.name not in names
    ]


_NAMED = c.Authorize | c.Charge | c.Settle | c.Refund | c.Grant | c.Reschedule

Writer = Callable[[], c.Command[Any]]


class Author:
    """Writes the history of one account."""

    def __init__(self, dice: random.Random, account_id: str, model: Model) -> None:
        self.dice = dice
        self.ask = Ask(account_id)
        self.model = model
        self.huge = dice.random() < 0.1
        self.poor = dice.random() < 0.4
        self.told: list[c.Command[Any]] = []
        self.grants = self.holds = 0

    @property
    def account(self) -> Account | None:
        return self.model.accounts.get(self.ask.account_id)

    def write(self) -> c.Command[Any]:
        """The next command."""
        if not self.told:
            command: c.Command[Any] = self.ask.put()
        else:
            self.ask.rules = self.rules()
            writers = self.writers()
            [writer] = self.dice.choices(list(writers), list(writers.values()))
            command = writer()
        self.told.append(command)
        return command

    def writers(self) -> dict[Writer, int]:
        """What is asked, and how often."""
        return {
            self.authorize: 20,
            self.charge: 5,
            self.extend: 9,
            self.settle: 18,
            self.refund: 14,
            self.expire: 4,
            self.grant: 10,
            self.void: 2,
            self.look: 4,
            self.again: 9,
            self.nearly_again: 5,
        }

    def rules(self) -> c.Rules:
        return c.Rules(
            ranks=self.dice.choice(["1234560", "1234560", "9023456", "1111111"]),
            on_failed=self.dice.choice(list(ReturnPolicy)),
            on_cancelled=self.dice.choice(list(ReturnPolicy)),
            compensation_ms=self.dice.choice([1, 5, 50, 5000]),
        )

    def amount(self, most: int = 9) -> int:
        if self.huge:
            edges = [0, 1, 2**52, 2**53 - 2, AMOUNT_MAX]
            return self.dice.choice([*edges, self.dice.randint(0, AMOUNT_MAX)])
        return self.dice.randint(0, most)

    def hold_id(self, *, paid: bool = False) -> str:
        """A hold that is open (or has `paid`), or any of late, or one that does not exist yet."""
        how = self.dice.random()
        known = list(self.account.holds.values()) if self.account is not None else []
        likely = [hold for hold in known if (hold.refundable if paid else hold.state.value == "O")]
        if how < 0.5 and likely:
            return self.dice.choice(likely[-6:]).command.hold_id
        if how < 0.93 and known:
            return self.dice.choice(known[-5:]).command.hold_id
        return f"h{self.holds + 1}"

    def operation_id(self) -> str:
        return self.dice.choice(["", "a", "b", "c", "d", "e"])

    def job(self) -> c.Job:
        return c.Job(
            action=self.dice.choice(["image", "video"]),
            model=self.dice.choice(["", "tall"]),
            quantity=self.dice.randint(1, 4),
            settings=self.dice.choice([(), (("fps", "30"),)]),
        )

    def terms(self, job: c.Job) -> c.Terms | None:
        dice = self.dice
        if dice.random() < 0.03:
            return None
        price = Price(
            flat=dice.choice([0, 0, 1]),
            numerator=self.amount(4),
            denominator=dice.choice([1, 1, 2, 3]),
            minimum=dice.choice([0, 0, 2]),
            rounding=dice.choice(list(Rounding)),
            unit=dice.choice(["", "image"]),
        )
        try:
            amount = price.of(job.quantity)
        except OverflowError:
            amount = AMOUNT_MAX
        return c.Terms(
            price=price,
            amount=amount,
            ttl_ms=dice.choice([1, 5, 20, 100, 1000]),
            life_ms_max=dice.choice([20, 60, 200, 2000]),
            overage=dice.choice([*Overage, *[Overage.OVERDRAFT] * (6 if self.poor else 0)]),
            overdraft_limit=dice.choice([0, 3, 10, AMOUNT_MAX if self.huge else 30]),
            late_settle=dice.choice([LateSettle.RECHARGE, LateSettle.RECHARGE, LateSettle.REJECT]),
            catalog_version=dice.choice(["v1", "v2"]),
        )

    def authorize(self) -> c.Command[Any]:
        self.holds += 1
        job = self.job()
        return self.ask.authorize(
            f"h{self.holds}" if self.dice.random() < 0.8 else self.hold_id(),
            self.terms(job),
            job,
            ttl_ms=self.dice.choice([None, None, None, 1, 30, 3000]),
            max_amount=self.dice.choice([None, None, None, 5]),
            member_id=self.dice.choice(["", "ada"]),
        )

    def charge(self) -> c.Command[Any]:
        self.holds += 1
        job = self.job()
        return self.ask.charge(
            f"h{self.holds}" if self.dice.random() < 0.8 else self.hold_id(),
            self.terms(job),
            job,
            max_amount=self.dice.choice([None, None, None, 5]),
            member_id=self.dice.choice(["", "ada"]),
        )

    def delivered(self) -> dict[str, int]:
        how = self.dice.random()
        if how < 0.3:
            return {}
        if how < 0.5:
            return {"quantity": self.dice.randint(0, 5)}
        return {"amount": self.amount(9 if how < 0.85 else 30)}

    def extend(self) -> c.Command[Any]:
        ttl_ms = self.dice.choice([None, None, 1, 10, 50, 500])
        return self.ask.extend(self.hold_id(), ttl_ms=ttl_ms, **self.delivered())

    def settle(self) -> c.Command[Any]:
        operation_id = self.operation_id()
        partial = bool(operation_id) and self.dice.random() < 0.6
        return self.ask.settle(
            self.hold_id(), operation_id=operation_id, partial=partial, **self.delivered()
        )

    def refund(self) -> c.Command[Any]:
        operation_id = self.operation_id()
        amount = max(1, self.amount(4)) if operation_id and self.dice.random() < 0.6 else None
        cancelled = self.dice.random() < 0.4
        return self.ask.refund(
            self.hold_id(paid=self.dice.random() < 0.6),
            amount,
            operation_id=operation_id,
            cancelled=cancelled,
        )

    def expire(self) -> c.Command[Any]:
        return self.ask.expire(self.hold_id())

    def grant(self) -> c.Command[Any]:
        dice = self.dice
        self.grants += 1
        limits = {}
        if dice.random() < 0.2:
            limits["actions"] = dice.choice([("image",), ("video",), ("audio", "video")])
        if dice.random() < 0.1:
            limits["models"] = dice.choice([("tall",), ("wide",)])
        lasts_ms = dice.choice([None, None, 0, 1, 10, 40, 200])
        return self.ask.grant(
            f"g{self.grants}",
            max(1, self.amount(5 if self.poor else 25)),
            dice.choice([kind for kind in Kind if kind is not Kind.COMPENSATION]),
            ends_ms=None if lasts_ms is None else self.model.now_ms + lasts_ms,
            **limits,
        )

    def void(self) -> c.Command[Any]:
        rows = list(self.account.rows) if self.account else []
        return self.ask.void(self.dice.choice([*rows[-8:], "g999"]))

    def look(self) -> c.Command[Any]:
        dice = self.dice
        return dice.choice(
            [
                self.ask.balance(dice.choice(["", "image"]), dice.choice(["", "tall"])),
                self.ask.hold(self.hold_id()),
                self.ask.account(),
                self.ask.put(zone=dice.choice(["", "Europe/Berlin"])),
            ]
        )

    def again(self) -> c.Command[Any]:
        """A retry: what was asked before, with what the catalog says by now."""
        command = self.dice.choice(self.told[-40:])
        changes: dict[str, Any] = {"rules": self.ask.rules} if hasattr(command, "rules") else {}
        return dataclasses.replace(command, **changes)

    def nearly_again(self) -> c.Command[Any]:
        """An id used again with other content."""
        named = [command for command in self.told[-40:] if isinstance(command, _NAMED)]
        if not named:
            return self.again()
        command = self.dice.choice(named)
        return twisted(command, self.dice.choice(content_fields(command)))


def instants(accounts: Iterable[Account]) -> list[int]:
    """The moments at which something will be due."""
    found = []
    for account in accounts:
        found += [hold.deadline_ms for hold in account.open_holds()]
        found += [
            row.ends_ms for row in account.rows.values() if row.ends_ms and row.status == "live"
        ]
    return found


def next_instant(dice: random.Random, now_ms: int, accounts: Iterable[Account]) -> int:
    """Mostly the same moment, often around one at which something is due, rarely a step back."""
    how = dice.random()
    if how < 0.45:
        return now_ms
    if how < 0.6:
        return now_ms + 1
    if how < 0.64:
        return now_ms - dice.randint(1, 5)
    if how < 0.66:
        return now_ms + dice.randint(50, 500)
    ahead = [at for at in instants(accounts) if now_ms <= at + 1]
    if not ahead:
        return now_ms + dice.randint(1, 20)
    return max(now_ms, min(ahead) + dice.choice([-1, 0, 0, 1]))


SetTime = Callable[[int], None]


class Telling:
    """Tells histories to the ledger under test and to the model, and compares."""

    def __init__(self, ledger: Ledger, set_time: SetTime) -> None:
        self.ledger = ledger
        self.set_time = set_time
        self.model = Model(START_MS)
        self.steps: dict[str, list[Step]] = {}

    def set_now(self, now_ms: int) -> None:
        self.model.now_ms = now_ms
        self.set_time(now_ms)

    def expect(self, command: c.Command[Any]) -> Any:
        """Tell the model one step; its answer is what the ledger under test must give."""
        self.steps.setdefault(command.account_id, []).append(Step(self.model.now_ms, command))
        [reply] = self.model.run_now([command])
        return reply

    async def check(self, commands: Sequence[c.Command[Any]], expected: Sequence[Any]) -> None:
        """Tell the ledger under test what the model was told."""
        found = await self.ledger.run_all(commands)
        for command, reply, other in zip(commands, found, expected, strict=True):
            if seen(reply) != seen(other):
                raise Difference(
                    command.account_id,
                    f"to {command}\nanswered {seen(reply)!r}\nexpected {seen(other)!r}",
                )

    async def check_whole(self, account_id: str, limit: int = 1000) -> None:
        """Compare all that can be seen of an account, and audit it."""
        ask = Ask(account_id)
        account = self.model.accounts.get(account_id)
        if account is None:
            return
        self.steps[account_id].append(
            Step(self.model.now_ms, ask.balance())
        )  # Reading it acts too.
        try:
            expected = await snapshot(self.model, ask)
            found = await snapshot(self.ledger, ask, limit=limit)
            audit(expected)
            compare(found, expected)
            audit(found)
        except AssertionError as error:
            raise Difference(account_id, str(error)) from None
        holds = [ask.hold(hold_id) for hold_id in account.holds]
        await self.check(holds, await self.model.run_all(holds))


NextInstant = Callable[[random.Random, int, Sequence[Account]], int]


@dataclasses.dataclass(frozen=True)
class Genre:
    """A sort of histories: who writes them, and how time passes in them."""

    author: Callable[[random.Random, str, Model], Author] = Author
    next_instant: NextInstant = next_instant


JOBS = Genre()
"""Jobs, holds and grants within seconds, without plans."""


async def tell(
    telling: Telling, seed: int, operations: int, prefix: str, genre: Genre = JOBS
) -> int:
    """Write and tell histories of at least this many operations; return how many it were."""
    dice = random.Random(seed)
    told = 0
    while told < operations:
        authors = [
            genre.author(dice, f"{prefix}-{seed}-{told}-{number}", telling.model)
            for number in range(SIDE_BY_SIDE)
        ]
        for turn in range(TURNS):
            alive = [author.account for author in authors]
            accounts = [account for account in alive if account is not None]
            telling.set_now(genre.next_instant(dice, telling.model.now_ms, accounts))
            commands = []
            expected = []
            for author in authors:
                for _ in range(dice.randint(1, BATCH)):
                    command = author.write()
                    commands.append(command)
                    expected.append(telling.expect(command))
            await telling.check(commands, expected)
            told += len(commands)
            if (turn + 1) % COMPARE_EVERY == 0 or turn + 1 == TURNS:
                for author in authors:
                    await telling.check_whole(author.ask.account_id, dice.choice([3, 1000]))
    return told


async def tell_again(steps: Sequence[Step], telling: Telling, account_id: str) -> Difference | None:
    """Tell one history to a new account, comparing every answer, and the whole state at the end."""
    try:
        for step in steps:
            command = dataclasses.replace(step.command, account_id=account_id)
            telling.set_now(step.now_ms)
            await telling.check([command], [telling.expect(command)])
        await telling.check_whole(account_id)
    except Difference as difference:
        return difference
    return None


async def shortest(
    steps: Sequence[Step], fails: Callable[[Sequence[Step]], Awaitable[bool]]
) -> list[Step]:
    """A history that still fails and of which no step can be left out."""
    kept = list(steps)
    size = max(1, len(kept) // 2)
    while True:
        start, shorter = 0, False
        while start < len(kept):
            without = kept[:start] + kept[start + size :]
            if without and await fails(without):
                kept, shorter = without, True
            else:
                start += size
        if size == 1 and not shorter:
            return kept
        size = max(1, size // 2)


@dataclasses.dataclass
class Found:
    """A history in which two ledgers differ, as short as it gets."""

    seed: int
    steps: list[Step]
    difference: Difference

    def __str__(self) -> str:
        story = "\n".join(str(step) for step in self.steps)
        return f"seed {self.seed}, {len(self.steps)} steps:\n{story}\n{self.difference.args[1]}"


async def search(
    make: Callable[[], tuple[Ledger, SetTime]],
    seed: int,
    operations: int,
    *,
    prefix: str = "tale",
    genre: Genre = JOBS,
) -> Found | None:
    """Tell histories until the ledger differs from the model; `make` gives a ledger without a past.

    A ledger whose accounts outlive it may be given again: every telling uses accounts of its own.
    """
    telling = Telling(*make())
    try:
        await tell(telling, seed, operations, prefix, genre)
    except Difference as difference:
        first = difference
    else:
        return None
    account_id = str(first.args[0])
    steps = telling.steps[account_id]
    tries = 0

    async def attempt(some: Sequence[Step]) -> Difference | None:
        nonlocal tries
        tries += 1
        return await tell_again(some, Telling(*make()), f"{account_id}-again-{tries}")

    async def fails(some: Sequence[Step]) -> bool:
        return await attempt(some) is not None

    if not await fails(steps):
        return Found(seed, steps, first)
    short = await shortest(steps, fails)
    last = await attempt(short)
    assert last is not None
    return Found(seed, short, last)
