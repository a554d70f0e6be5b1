"""A clock that can be moved forward, for developer mode."""

import time

from creditgate_server.core.faults import CreditOutcome, Fault, Reason
from creditgate_server.store.keys import STORE
from creditgate_server.store.link import StoreError
from creditgate_server.store.redis_ledger import RedisLedger

_FIELD = "clock_offset_ms"


def wall_ms() -> int:
    """The time of this machine."""
    return time.time_ns() // 1_000_000


class MovableClock:
    """This machine's time and an offset, kept in the store so that a restart goes on from there."""

    def __init__(self) -> None:
        self._offset_ms = 0
        self._ledger: RedisLedger | None = None

    def __call__(self) -> int:
        """The time in ms."""
        return wall_ms() + self._offset_ms

    async def attach(self, ledger: RedisLedger) -> None:
        """Go on from where the clock of this store was."""
        self._ledger = ledger
        self._offset_ms = int(await ledger.link.command("HGET", STORE, _FIELD) or 0)

    async def advance(self, by_ms: int) -> None:
        """Move it forward."""
        assert self._ledger is not None
        try:
            moved = await self._ledger.link.command("HINCRBY", STORE, _FIELD, str(by_ms))
        except StoreError as error:
            raise Fault(
                Reason.STORE_UNAVAILABLE,
                "the store did not answer: ask for the time, and try again",
                outcome=CreditOutcome.NOT_APPLIED if error.definite else CreditOutcome.UNKNOWN,
            ) from error
        self._offset_ms = int(moved)
