"""The ledger under test: the model, and the real store beside a model."""

import uuid
from collections.abc import AsyncIterator

import pytest

from creditgate_server.store.redis_ledger import RedisLedger
from tests.ledger.bench import START_MS, Bench, Clock
from tests.model import Model


@pytest.fixture(params=["model", "store"])
async def ledger(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """A bench with one new, empty account; audited when the test is done."""
    clock = Clock()
    account_id = f"account-{uuid.uuid4().hex[:12]}"
    if request.param == "model":
        bench = Bench(Model(START_MS), clock, account_id=account_id)
        await bench.run(bench.ask.put())
        yield bench
        await bench.audit()
        return
    store = await RedisLedger.open(request.getfixturevalue("store_url"), clock=clock)
    try:
        bench = Bench(store, clock, account_id=account_id, beside=Model(START_MS))
        await bench.run(bench.ask.put())
        yield bench
        await bench.audit()
    finally:
        await store.close()
