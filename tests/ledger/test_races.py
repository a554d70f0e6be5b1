"""Many callers at once on one account, through several ledgers as through several sidecars."""

import asyncio
import contextlib
import dataclasses
import os
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from creditgate_server.core import commands as c
from creditgate_server.core.faults import Fault, Reason
from creditgate_server.core.ledger import Ledger
from creditgate_server.core.plans import Plans
from creditgate_server.core.results import Decision, Effect, HoldState, Settled, Verb
from creditgate_server.core.schedule import ChangePlan, Subscribe
from creditgate_server.store.redis_ledger import RedisLedger
from tests.ledger.bench import DAY_MS, RULES, Ask, Clock, Snapshot, audit, snapshot, terms
from tests.ledger.subscribers import base, daily, plan

ROUNDS = int(os.environ.get("CREDITGATE_RACE_ROUNDS", "20"))
CALLERS = 64
SIDECARS = 4
CREDITS = 1000


class Crowd:
    """Several ledgers on one store, in turn used by the callers. The clock is the store's own."""

    def __init__(self, ledgers: Sequence[Ledger]) -> None:
        self.ledgers = ledgers

    def account(self) -> Ask:
        """A name that no account has yet."""
        return Ask(f"race-{uuid.uuid4().hex[:12]}")

    async def prepare(self, *commands: c.Command[Any]) -> None:
        """Run commands one after another."""
        for reply in await self.ledgers[0].run_all(commands):
            if isinstance(reply, Fault):
                raise reply

    async def at_once(self, commands: Sequence[c.Command[Any]]) -> list[Any]:
        """Run commands concurrently, those that stand side by side through different ledgers."""
        calls = [
            self.ledgers[number % len(self.ledgers)].run(command)
            for number, command in enumerate(commands)
        ]
        replies = await asyncio.gather(*calls, return_exceptions=True)
        for reply in replies:
            if isinstance(reply, BaseException) and not isinstance(reply, Fault):
                raise reply
        return list(replies)

    async def audited(self, ask: Ask) -> Snapshot:
        """Read the account, and check what must always be true of it."""
        whole = await snapshot(self.ledgers[0], ask)
        audit(whole)
        return whole


@pytest.fixture
async def crowd(store_url: str) -> AsyncIterator[Crowd]:
    async with contextlib.AsyncExitStack() as stack:
        ledgers = []
        for _ in range(SIDECARS):
            ledger = await RedisLedger.open(store_url)
            stack.push_async_callback(ledger.close)
            ledgers.append(ledger)
        yield Crowd(ledgers)


async def caller(crowd: Crowd, ask: Ask, number: int) -> int:
    """Ask for credits, for fewer when denied, until there is not even one; tell how many it got."""
    ledger = crowd.ledgers[number % SIDECARS]
    got, want = 0, number % 10 + 1
    while want:
        reply = await ledger.run(ask.authorize(f"job-{number}-{got}-{want}", want))
        if reply.decision is Decision.APPROVED:
            got += want
        else:
            want -= 1
    return got


@pytest.mark.timeout(60 + 10 * ROUNDS)
async def test_a_crowd_gets_every_credit_there_is_and_not_one_more(crowd: Crowd) -> None:
    """P2: 64 callers ask for 1 to 10 credits until nobody gets any; 1,000 are there."""
    for _ in range(ROUNDS):
        ask = crowd.account()
        await crowd.prepare(ask.put(), ask.grant("pack", CREDITS))

        got = await asyncio.gather(*(caller(crowd, ask, number) for number in range(CALLERS)))
        assert sum(got) == CREDITS
        whole = await crowd.audited(ask)
        assert (whole.balance.totals.available, whole.balance.totals.held) == (0, CREDITS)


async def test_ten_concurrent_3_credit_requests_on_3_credits_start_one_job(crowd: Crowd) -> None:
    for _ in range(ROUNDS):
        ask = crowd.account()
        await crowd.prepare(ask.put(), ask.grant("pack", 3))
        replies = await crowd.at_once([ask.authorize(f"job-{n}", 3) for n in range(10)])
        assert sum(reply.decision is Decision.APPROVED for reply in replies) == 1
        assert (await crowd.audited(ask)).balance.open_holds == 1


async def test_the_same_request_sent_many_times_at_once_takes_effect_once(crowd: Crowd) -> None:
    """P3."""
    for _ in range(ROUNDS):
        ask = crowd.account()
        await crowd.prepare(ask.put(), ask.grant("pack", 100))
        commands: list[c.Command[Any]] = [
            ask.authorize("job", 6),
            ask.settle("job", 4),
            ask.refund("job", 3, operation_id="a"),
            ask.charge("other", 5),
            ask.grant("more", 7),
        ]
        for command in commands:
            replies = await crowd.at_once([command] * 20)
            assert sum(not reply.replayed for reply in replies) == 1, command
        whole = await crowd.audited(ask)
        assert (whole.balance.totals.available, len(whole.entries)) == (101, 6)


async def test_two_settles_within_milliseconds_take_once(crowd: Crowd) -> None:
    """P4: with different content one wins, and the others are told who won."""
    for _ in range(ROUNDS):
        ask = crowd.account()
        await crowd.prepare(ask.put(), ask.grant("pack", 10), ask.authorize("job", 10))
        replies = await crowd.at_once([ask.settle("job", amount) for amount in range(1, 9)])
        [winner] = [reply for reply in replies if isinstance(reply, Settled)]
        for reply in replies:
            if reply is not winner:
                assert (reply.reason, reply.metadata["charged"]) == (
                    Reason.HOLD_SETTLED,
                    str(winner.charged),
                )
        assert (await crowd.audited(ask)).balance.totals.available == 10 - winner.charged


async def test_the_first_use_of_an_account_by_two_callers_at_once_creates_it_once(
    crowd: Crowd,
) -> None:
    for _ in range(ROUNDS):
        ask = crowd.account()
        put = ask.put(zone="Europe/Berlin")
        replies = await crowd.at_once([put] * 4)
        assert sum(reply.created for reply in replies) == 1
        assert len({reply.account.created_ms for reply in replies}) == 1
        grants = await crowd.at_once([ask.grant("welcome", 50)] * 4)
        assert sum(not reply.replayed for reply in grants) == 1
        assert (await crowd.audited(ask)).balance.totals.available == 50


async def test_of_settle_refund_and_expiry_at_the_deadline_exactly_one_wins(crowd: Crowd) -> None:
    """P4: a three-way race within a few milliseconds around the deadline."""
    ask = crowd.account()
    count = 20 * ROUNDS
    await crowd.prepare(ask.put(), ask.grant("pack", count))
    taken = 0
    ends: set[HoldState] = set()
    for number in range(count):
        hold_id = f"job-{number}"
        await crowd.prepare(ask.authorize(hold_id, terms(1, ttl_ms=2 + number % 3)))
        await asyncio.sleep((number % 5) / 1000)
        racers: list[c.Command[Any]] = [
            ask.settle(hold_id),
            ask.refund(hold_id),
            ask.expire(hold_id),
        ]
        await crowd.at_once(racers[number % 3 :] + racers[: number % 3])
        hold = await crowd.ledgers[0].run(ask.hold(hold_id))
        ends.add(hold.state)
        assert hold.held == 0
        assert hold.charged == (1 if hold.state is HoldState.SETTLED else 0)
        # A refund that comes after the settle gives back what it took, once.
        assert hold.refunded in {0, hold.charged}
        taken += hold.charged - hold.refunded
    whole = await crowd.audited(ask)
    assert whole.balance.totals.available == count - taken
    assert HoldState.OPEN not in ends
    verbs = [(entry.hold_id, entry.verb) for entry in whole.entries if entry.hold_id]
    assert len(set(verbs)) == len(verbs)


async def test_partial_refunds_at_once_never_exceed_what_was_taken(crowd: Crowd) -> None:
    """P14."""
    for _ in range(ROUNDS):
        ask = crowd.account()
        await crowd.prepare(ask.put(), ask.grant("pack", 10), ask.charge("job", 10))
        replies = await crowd.at_once(
            [ask.refund("job", 3, operation_id=f"part-{n}") for n in range(8)]
        )
        refunds = [reply for reply in replies if not isinstance(reply, Fault)]
        assert [reply.refunded for reply in refunds] == [3, 3, 3]
        faults = [reply for reply in replies if isinstance(reply, Fault)]
        assert {fault.reason for fault in faults} == {Reason.REFUND_EXCEEDS_CHARGE}
        assert (await crowd.audited(ask)).balance.totals.available == 9


# Plans and periods.


@pytest.fixture
async def still_crowd(store_url: str) -> AsyncIterator[tuple[Crowd, Clock]]:
    """Ledgers that live by one clock, which is moved."""
    clock = Clock()
    async with contextlib.AsyncExitStack() as stack:
        ledgers = []
        for _ in range(SIDECARS):
            ledger = await RedisLedger.open(store_url, clock=clock)
            stack.push_async_callback(ledger.close)
            ledgers.append(ledger)
        yield Crowd(ledgers), clock


TEAM = Plans(
    default="free",
    plans=(plan("free", daily(5)), plan("team", base(20, rollover_max=3)), plan("pro", base(50))),
)


def member_of_team(crowd: Crowd) -> Ask:
    """A new account in a catalog with plans."""
    return Ask(crowd.account().account_id, dataclasses.replace(RULES, plans=TEAM))


async def test_several_sidecars_turn_an_account_at_once_and_one_period_begins(
    still_crowd: tuple[Crowd, Clock],
) -> None:
    crowd, clock = still_crowd
    for _ in range(ROUNDS):
        ask = member_of_team(crowd)
        await crowd.prepare(ask.put(), ask.event("first", Subscribe(plan="team")))
        clock.set(clock.now_ms + 40 * DAY_MS)
        replies = await crowd.at_once([ask.authorize(f"job-{n}", 1) for n in range(30)])
        approved = [reply for reply in replies if reply.decision is Decision.APPROVED]
        whole = await crowd.audited(ask)
        assert [entry.verb for entry in whole.entries].count(Verb.BEGIN_PERIOD) == 3
        assert (len(approved), whole.balance.totals.available) == (23, 0)


async def test_the_same_subscription_told_through_four_sidecars_grants_once(
    crowd: Crowd,
) -> None:
    for _ in range(ROUNDS):
        ask = member_of_team(crowd)
        await crowd.prepare(ask.put())
        event = ask.event("payment", Subscribe(plan="team"))
        replies = await crowd.at_once([event] * 12)
        effects = [reply.effect for reply in replies]
        assert (effects.count(Effect.APPLIED), effects.count(Effect.REPLAYED)) == (1, 11)
        assert (await crowd.audited(ask)).balance.totals.available == 20


async def test_events_told_at_once_are_applied_one_after_another(crowd: Crowd) -> None:
    for _ in range(ROUNDS):
        ask = member_of_team(crowd)
        await crowd.prepare(ask.put(), ask.event("first", Subscribe(plan="team")))
        before = (await crowd.audited(ask)).account.schedule
        events = [ask.event(f"seats-{n}", ChangePlan(seats=n)) for n in range(2, 6)]
        replies = await crowd.at_once(events)
        assert {reply.effect for reply in replies} == {Effect.APPLIED}
        after = (await crowd.audited(ask)).account.schedule
        assert before is not None
        assert after is not None
        assert after.version == before.version + len(events)


async def test_upgrades_and_jobs_at_once_neither_lose_nor_make_credits(crowd: Crowd) -> None:
    for _ in range(ROUNDS):
        ask = member_of_team(crowd)
        await crowd.prepare(ask.put(), ask.event("first", Subscribe(plan="team")))
        await crowd.prepare(ask.authorize("open", 15))
        commands: list[c.Command[Any]] = [ask.authorize(f"job-{n}", 5) for n in range(9)]
        commands[3:3] = [ask.event("up", ChangePlan(plan="pro")), ask.settle("open", 12)]
        await crowd.at_once(commands)
        totals = (await crowd.audited(ask)).balance.totals
        assert totals.available + totals.held == 50 - 12


async def test_racing_members_never_pass_their_limit(crowd: Crowd) -> None:
    for _ in range(ROUNDS):
        ask = member_of_team(crowd)
        await crowd.prepare(ask.put(), ask.event("first", Subscribe(plan="pro")))
        await crowd.prepare(ask.limit("", 10), ask.authorize("raised", 1, member_id="ada"))
        commands: list[c.Command[Any]] = [
            ask.authorize(f"job-{n}", 2, member_id="ada") for n in range(20)
        ]
        await crowd.at_once([*commands, ask.extend("raised", amount=4)])
        [limited] = await crowd.at_once([ask.limit("ada", None)])
        held = sum(hold.held for hold in (await crowd.audited(ask)).open_holds)
        assert limited.used == held
        assert held in {9, 10}


async def test_racing_jobs_never_pass_the_number_of_open_holds(crowd: Crowd) -> None:
    for _ in range(ROUNDS):
        ask = member_of_team(crowd)
        await crowd.prepare(ask.put(), ask.event("first", Subscribe(plan="pro")))
        gated = terms(1, gate=",pro/3,")
        replies = await crowd.at_once([ask.authorize(f"job-{n}", gated) for n in range(20)])
        approved = [reply for reply in replies if reply.decision is Decision.APPROVED]
        assert (len(approved), (await crowd.audited(ask)).balance.open_holds) == (3, 3)
