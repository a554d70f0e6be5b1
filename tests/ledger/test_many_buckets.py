"""An account with more buckets than one chunk of a list holds: see `lua/parts/lists.lua`."""

import contextlib
import random
from collections.abc import AsyncIterator

import pytest

from creditgate_server.core import commands as c
from creditgate_server.core.commands import Kind
from creditgate_server.core.faults import Fault
from creditgate_server.store import embedded
from creditgate_server.store.keys import Keys
from creditgate_server.store.redis_ledger import RedisLedger
from creditgate_server.store.verbs import VERBS
from tests.ledger.bench import DAY_MS, Ask, Bench, Clock, terms
from tests.ledger.planting import Verbs
from tests.model import Model

OTHER_RANKS = c.Rules(ranks="6543210")
DAYS = 30


def source_ref(number: int) -> str:
    """Names of very different lengths, so that chunks break anywhere."""
    return f"{number}-" + "x" * (number * 37 % 118)


async def live(bench: Bench, seed: int, *, steps: int = 260) -> None:
    """Grant, draw, return, void, end and sort anew at random; every answer is compared."""
    dice = random.Random(seed)
    ask = bench.ask
    granted: list[str] = []
    open_holds: list[str] = []
    for step in range(steps):
        what = dice.random()
        if step < steps // 4 or what < 0.3:
            name = source_ref(step)
            ends = dice.choice((None, bench.now_ms + dice.randrange(1, DAYS * DAY_MS)))
            kind = dice.choice(tuple(Kind))
            await bench.run(ask.grant(name, dice.randrange(1, 20), kind, ends_ms=ends))
            granted.append(name)
        elif what < 0.6:
            price = dice.choice((dice.randrange(40), dice.randrange(300)))
            # Over its life it may meet the end of any bucket.
            job = terms(price, ttl_ms=DAYS * DAY_MS, life_ms_max=DAYS * DAY_MS)
            answer = await bench.run(ask.authorize(f"job-{step}", job))
            if answer.hold:
                open_holds.append(answer.hold.hold_id)
        elif what < 0.8 and open_holds:
            hold_id = open_holds.pop(dice.randrange(len(open_holds)))
            settles = dice.random() < 0.3
            try:
                await bench.run_all(ask.settle(hold_id, 3) if settles else ask.refund(hold_id))
            except Fault:
                # Such as a hold that has expired: the model was asked the same.
                continue
        elif what < 0.9:
            await bench.run(ask.void(dice.choice(granted)))
        elif what < 0.97:
            bench.advance(dice.randrange(DAY_MS))
        else:
            ask.rules = dice.choice((OTHER_RANKS, Ask("").rules))
        await bench.run(ask.balance())


@pytest.mark.parametrize("seed", range(4))
async def test_many_buckets_are_drawn_ended_and_shown_in_order(ledger: Bench, seed: int) -> None:
    await live(ledger, seed)


@contextlib.asynccontextmanager
async def alone(verbs: Verbs = VERBS, *, beside: Model | None = None) -> AsyncIterator[Bench]:
    """An account in a store of its own, which has one partition."""
    store = embedded.start(None)
    clock = Clock()
    ledger = await RedisLedger.open(store.url, clock=clock, partitions=1, verbs=verbs)
    try:
        made = Bench(ledger, clock, account_id="alone", beside=beside)
        await made.run(made.ask.put())
        yield made
    finally:
        await ledger.close()
        store.stop()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """An account in a store of its own."""
    async with alone() as made:
        yield made


async def shown(bench: Bench) -> list[str]:
    balance = await bench.run(bench.ask.balance())
    return [bucket.bucket_id for bucket in balance.buckets]


async def forget(bench: Bench) -> None:
    assert isinstance(bench.ledger, RedisLedger)
    while await bench.ledger.forget(keep_ms=0):
        pass


async def forget_from_everywhere(bench: Bench) -> None:
    names = [source_ref(number) for number in range(90)]
    for name in names:
        await bench.run(bench.ask.grant(name, 1))
        bench.advance(1)
    while names:
        for name in random.Random(len(names)).sample(names, min(9, len(names))):
            await bench.run(bench.ask.void(name))
            names.remove(name)
        await forget(bench)
        assert await shown(bench) == names
    await bench.run(bench.ask.grant("new", 1))
    assert await shown(bench) == ["new"]


async def test_rows_are_shown_the_oldest_first_and_forgotten_from_everywhere(bench: Bench) -> None:
    await forget_from_everywhere(bench)


async def every_key_stays(bench: Bench) -> None:
    assert isinstance(bench.ledger, RedisLedger)
    link, ask = bench.ledger.link, bench.ask
    keys = VERBS[c.Authorize].keys(Keys(1).partition_of("alone"), "alone")
    assert await link.command("EXISTS", *keys) == len(keys)
    await bench.run(ask.grant("pack", 10))
    await bench.run(ask.authorize("job", 4))
    await bench.run(ask.settle("job"))
    bench.advance(1)
    await forget(bench)
    with pytest.raises(Fault):
        await bench.run(ask.hold("job"))
    assert await link.command("EXISTS", *keys) == len(keys)


async def test_every_key_of_a_partition_is_there_from_its_first_account_on(bench: Bench) -> None:
    """While a slot moves, a store refuses what finds one key and misses another."""
    await every_key_stays(bench)
