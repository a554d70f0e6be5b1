"""A shop for each test: the catalog that its module names, on the real store."""

from collections.abc import AsyncIterator

import pytest

from creditgate_server.store.redis_ledger import RedisLedger
from tests.ledger.bench import Clock
from tests.systems.shop import Shop, catalog_of


@pytest.fixture
async def shop(request: pytest.FixtureRequest, store_url: str) -> AsyncIterator[Shop]:
    """The operator of the module's `CATALOG`; at the end every credit is accounted for."""
    clock = Clock()
    ledger = await RedisLedger.open(store_url, clock=clock)
    try:
        shop = Shop(ledger, clock, catalog_of(request.module.CATALOG))
        yield shop
        await shop.audit()
    finally:
        await ledger.close()
