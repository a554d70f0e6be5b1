"""One way to use either client, so that every sentence is checked for both."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from creditgate import AsyncClient, AsyncHold, Client, Hold, RetryPolicy, Timing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Clock:
    """Stands still until somebody sleeps. Chance is always the longest pause."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.slept: list[float] = []
        self.chance = 1.0

    def now(self) -> float:
        return self.now_s

    def random(self) -> float:
        return self.chance

    def sleep(self, duration_s: float) -> None:
        self.slept.append(duration_s)
        self.now_s += duration_s

    async def asleep(self, duration_s: float) -> None:
        self.sleep(duration_s)

    @property
    def timing(self) -> Timing:
        return Timing(now=self.now, random=self.random)


async def done(result: Any) -> Any:
    """The result of a method, awaited if it has to be."""
    return await result if inspect.isawaitable(result) else result


class AnyHold:
    """A guard of either kind, to be awaited."""

    def __init__(self, hold: Hold | AsyncHold) -> None:
        self.it = hold

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.it, name)
        if not callable(value):
            return value

        async def method(*args: Any, **kwargs: Any) -> Any:
            return await done(value(*args, **kwargs))

        return method


class AnyClient:
    """A client of either kind, to be awaited."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self.it = client

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.it, name)

        async def method(*args: Any, **kwargs: Any) -> Any:
            return await done(value(*args, **kwargs))

        return method

    @asynccontextmanager
    async def hold(
        self, account_id: str = "acct", hold_id: str = "job", **fields: Any
    ) -> AsyncIterator[AnyHold]:
        usual: dict[str, Any] = {"action": "image.generate", "quantity": 4, "heartbeat": False}
        hold = self.it.hold(account_id, hold_id, **(usual | fields))
        if isinstance(hold, AsyncHold):
            async with hold:
                yield AnyHold(hold)
        else:
            with hold:
                yield AnyHold(hold)

    async def all(self, name: str, *args: Any, **kwargs: Any) -> list[Any]:
        items = getattr(self.it, name)(*args, **kwargs)
        if inspect.isasyncgen(items):
            return [item async for item in items]
        return list(items)

    def with_options(self, **options: Any) -> AnyClient:
        return AnyClient(self.it.with_options(**options))


def make_client(
    kind: str, address: str, clock: Clock, retry: RetryPolicy | None = None
) -> AnyClient:
    if kind == "sync":
        return AnyClient(Client(address, retry=retry, timing=clock.timing, sleep=clock.sleep))
    return AnyClient(AsyncClient(address, retry=retry, timing=clock.timing, sleep=clock.asleep))


async def begin_session(client: AnyClient) -> None:
    """Have an asyncio client begin its session, by calls at the same time."""
    assert isinstance(client.it, AsyncClient)
    loop = client.it._loops.here()
    async with asyncio.timeout(10):
        while loop.session is None or not loop.session.begun:
            await asyncio.gather(*(client.get_balance("a") for _ in range(2)))
