"""Returns holds whose deadline has passed, and drops records that are old enough.

Every sidecar may run one: the scripts look at each hold's state themselves, so that two of them at
once do nothing twice. A round that fails, for whatever reason, is no reason to stop.
"""

import asyncio
import logging
from collections.abc import Callable

from creditgate_server.core.catalog import Catalog
from creditgate_server.store.link import StoreError
from creditgate_server.store.redis_ledger import RedisLedger

# An abandoned hold is back within 2 s of its deadline, also when one round of asking fails.
INTERVAL_S = 0.5
# Records are kept for days: nobody waits for them to go.
FORGET_INTERVAL_S = 60.0

_log = logging.getLogger(__name__)


async def sweep(ledger: RedisLedger, catalog: Callable[[], Catalog]) -> None:
    """Look for due holds twice a second, and again at once while there are some."""
    while True:
        found = 0
        try:
            found = await ledger.expire_due(catalog().rules)
        except StoreError as error:
            _log.debug("cannot look for expired holds: %s", error)
        except Exception:  # noqa: BLE001 - logged with its trace
            _log.exception("a defect in the search for expired holds")
        if found:
            _log.info("%d holds were due and went back", found)
        else:
            await asyncio.sleep(INTERVAL_S)


async def forget(ledger: RedisLedger, keep_ms: int) -> None:
    """Drop what ended more than `keep_ms` ago, a little at a time, until cancelled."""
    while True:
        passed = 0
        try:
            passed = await ledger.forget(keep_ms=keep_ms)
        except StoreError as error:
            _log.debug("cannot look for old records: %s", error)
        except Exception:  # noqa: BLE001 - logged with its trace
            _log.exception("a defect in the search for old records")
        await asyncio.sleep(INTERVAL_S if passed else FORGET_INTERVAL_S)
