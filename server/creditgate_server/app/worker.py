"""One of several servers on a port: serves like any other, and follows its supervisor."""

import asyncio
import itertools
import signal
import socket
from collections.abc import Callable

from creditgate_server.app import server
from creditgate_server.app.addresses import RefusedToStart
from creditgate_server.app.clock import MovableClock
from creditgate_server.app.control import (
    Advanced,
    Channel,
    Done,
    Follows,
    Ready,
    Refused,
    Reload,
    Shared,
)
from creditgate_server.app.settings import Settings
from creditgate_server.core.catalog import Catalog
from creditgate_server.core.faults import CreditOutcome, Fault, Reason
from creditgate_server.rpc.in_force import Reloaded
from creditgate_server.store.link import StoreError
from creditgate_server.store.redis_ledger import StoreMismatch


def work(
    end: socket.socket, settings: Settings, shared: Shared, prepare: Callable[[], object]
) -> None:
    """The life of the process. `prepare` comes before all else; `end` is our end of the channel."""
    prepare()
    asyncio.run(_work(end, settings, shared))


async def _work(end: socket.socket, settings: Settings, shared: Shared) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    channel = await Channel.over(end)
    among = Follower(channel, shared)
    following = asyncio.create_task(_follow(among, stop))
    try:
        async with server.running(settings, among=among) as running:
            channel.send(
                Ready(
                    address=running.address,
                    engine=running.engine,
                    clock_offset_ms=among.clock.offset_ms,
                )
            )
            await stop.wait()
    except (RefusedToStart, StoreError, StoreMismatch) as error:
        channel.send(Refused(str(error)))
    finally:
        following.cancel()
        await channel.close()


async def _follow(among: "Follower", stop: asyncio.Event) -> None:
    try:
        await among.follow()
    finally:
        stop.set()


class Follower:
    """Implements `server.Among`: what its supervisor says is what holds here."""

    def __init__(self, channel: Channel, shared: Shared) -> None:
        self.clock = MovableClock(self._tell_of_clock)
        self.clock.follow(shared.clock_offset_ms)
        self._channel = channel
        self._versions = shared.versions
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[Reloaded | None]] = {}
        self._left = False

    @property
    def current(self) -> Catalog:
        """The catalog in force."""
        return self._versions.current

    def quoted(self, version: str) -> Catalog | None:
        """The catalog of a quote, whichever of the workers gave it."""
        return self._versions.quoted(version, self.clock())

    async def reload(self) -> Reloaded:
        """Have the supervisor read it again, for all."""
        number = next(self._numbers)
        reloaded = await self._ask(number, Reload(number))
        assert reloaded is not None
        return reloaded

    async def follow(self) -> None:
        """Do as the supervisor says, until it has nothing more to say."""
        while (message := await self._channel.receive()) is not None:
            if isinstance(message, Shared):
                self._versions = message.versions
                self.clock.follow(message.clock_offset_ms)
                self._channel.send(Follows(message.number))
            elif isinstance(message, Done):
                asked = self._asked.pop(message.number)
                if not asked.done():
                    asked.set_result(message.reloaded)
        self._left = True
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(_going_down())

    async def _tell_of_clock(self, offset_ms: int) -> None:
        number = next(self._numbers)
        await self._ask(number, Advanced(number, offset_ms))

    async def _ask(self, number: int, message: object) -> Reloaded | None:
        if self._left:
            raise _going_down()
        self._asked[number] = asyncio.get_running_loop().create_future()
        self._channel.send(message)
        return await self._asked[number]


def _going_down() -> Fault:
    return Fault(
        Reason.SHUTTING_DOWN,
        "the server is going down; try again",
        outcome=CreditOutcome.UNKNOWN,
    )
