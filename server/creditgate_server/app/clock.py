"""A clock that can be moved forward, for developer mode."""

import time
from collections.abc import Awaitable, Callable

from creditgate_server.core.faults import CreditOutcome, Fault, Reason
from creditgate_server.store.keys import STORE
from creditgate_server.store.link import StoreError
from creditgate_server.store.redis_ledger import RedisLedger

_FIELD = "clock_offset_ms"


def wall_ms() -> int:
    """The time of this machine."""
    return time.time_ns() // 1_000_000


class MovableClock:
    """This machine's time and an offset, kept in the store so that a restart goes on from there.

    `told_of` is awaited with each new offset before a move is answered.
    """

    def __init__(self, told_of: Callable[[int], Awaitable[object]] | None = None) -> None:
        self.offset_ms = 0
        self._told_of = told_of
        self._ledger: RedisLedger | None = None

    def __call__(self) -> int:
        """The time in ms."""
        return wall_ms() + self.offset_ms

    async def attach(self, ledger: RedisLedger) -> None:
        """Go on from where the clock of this store was."""
        self._ledger = ledger
        self.follow(int(await ledger.link.command("HGET", STORE, _FIELD) or 0))

    def follow(self, offset_ms: int) -> None:
        """Somebody has moved the clock of this store. It never goes back."""
        self.offset_ms = max(self.offset_ms, offset_ms)

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
        self.follow(int(moved))
        if self._told_of is not None:
            await self._told_of(self.offset_ms)
