"""Random histories, told to the store and to the model, which must not differ in anything.

Settings: CREDITGATE_HISTORY_OPERATIONS makes the run longer, CREDITGATE_HISTORY_SEED repeats one.
"""

import os
import random

import pytest

from creditgate_server.core.ledger import Ledger
from creditgate_server.store.redis_ledger import RedisLedger
from tests.ledger.bench import Clock
from tests.ledger.histories import JOBS, Genre, SetTime, search
from tests.ledger.subscribers import PLANS

OPERATIONS = int(os.environ.get("CREDITGATE_HISTORY_OPERATIONS", "20000"))
SEED = os.environ.get("CREDITGATE_HISTORY_SEED")


@pytest.mark.timeout(60 + OPERATIONS // 100)
@pytest.mark.parametrize("genre", [JOBS, PLANS], ids=["jobs", "plans"])
async def test_the_store_answers_as_the_rules_say(store_url: str, genre: Genre) -> None:
    """P1, P3, P4, P5, P6, P8, P14: no operation answers or leaves anything other than the model."""
    seed = int(SEED) if SEED else random.SystemRandom().randrange(10**9)
    clock = Clock()
    store = await RedisLedger.open(store_url, clock=clock)

    def make() -> tuple[Ledger, SetTime]:
        return store, clock.set

    try:
        found = await search(make, seed, OPERATIONS, genre=genre)
    finally:
        await store.close()
    assert found is None, f"CREDITGATE_HISTORY_SEED={seed}\n{found}"
