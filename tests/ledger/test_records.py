"""Holds that ended are found again under names of any length, and go when their time is over."""

from collections.abc import AsyncIterator

import pytest

from creditgate_server.core.faults import Reason
from creditgate_server.core.results import HoldState
from creditgate_server.store.redis_ledger import RedisLedger
from tests.ledger.bench import DAY_MS, START_MS, VIDEO, Bench, refused
from tests.ledger.test_many_buckets import alone
from tests.model import Model

DIGEST = 40
"""What is longer, with the account before it, is kept under its digest."""


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """An account in a store of its own: records go in the order of the whole ledger."""
    async with alone(beside=Model(START_MS)) as found:
        await found.run(found.ask.grant("pack", 1000))
        yield found
        await found.audit()


def names(bench: Bench) -> list[str]:
    """On both sides of the length that counts, and the longest; two of each."""
    short = DIGEST - len(bench.ask.account_id) - 1
    lengths = (1, short - 1, short, short + 1, short + 2, 128)
    return [end.rjust(length, "x") for length in lengths for end in "ab"]


async def test_names_of_any_length_are_told_apart(bench: Bench) -> None:
    for number, name in enumerate(names(bench)):
        await bench.run(bench.ask.charge(name, number + 1))
    for number, name in enumerate(names(bench)):
        hold = await bench.run(bench.ask.hold(name))
        assert (hold.hold_id, hold.charged) == (name, number + 1)
        replayed = await bench.run(bench.ask.charge(name, number + 1))
        assert replayed.replayed
        with refused(Reason.ID_REUSED, id=name):
            await bench.run(bench.ask.charge(name, number + 1, VIDEO))
        refund = await bench.run(bench.ask.refund(name))
        assert refund.refunded == number + 1


async def test_a_record_is_kept_to_its_time_and_no_longer(bench: Bench) -> None:
    ledger = bench.ledger
    assert isinstance(ledger, RedisLedger)
    for name in names(bench):
        await bench.run(bench.ask.charge(name, 1))
    await bench.run(bench.ask.authorize("open", 1))
    bench.advance(DAY_MS)
    while await ledger.forget(keep_ms=DAY_MS + 1):
        pass
    for name in names(bench):
        assert (await bench.run(bench.ask.hold(name))).state is HoldState.SETTLED
    while await ledger.forget(keep_ms=DAY_MS):
        pass
    for name in names(bench):
        with refused(Reason.HOLD_NOT_FOUND, hold_id=name):
            await ledger.run(bench.ask.hold(name))
    assert (await bench.run(bench.ask.hold("open"))).hold_id == "open"
