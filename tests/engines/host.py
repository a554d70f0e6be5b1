"""An engine with endpoints made for a test, in a thread of its own."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grpc

from creditgate.v1 import credits_pb2
from creditgate_server.engines import choice
from creditgate_server.engines.engine import Endpoints, Name
from creditgate_server.rpc.stream import Stream, StreamEndpoint
from tests.rpc.shop import connected

ValueT = TypeVar("ValueT")

UNARY = "/test/Unary"
_SESSION = credits_pb2.DESCRIPTOR.services_by_name["Credits"].methods_by_name["Session"]


@dataclass(frozen=True)
class Host:
    """A running engine."""

    socket: Path
    loop: asyncio.AbstractEventLoop
    stop: Callable[[float], Awaitable[None]]

    def run(self, work: Awaitable[ValueT]) -> ValueT:
        """Have its loop do something."""

        async def wrapped() -> ValueT:
            return await work

        return asyncio.run_coroutine_threadsafe(wrapped(), self.loop).result(30)

    @contextlib.contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        with connected(self.socket) as channel:
            yield channel


@contextlib.contextmanager
def hosting(
    name: Name,
    folder: Path,
    endpoints: Endpoints,
    credentials: grpc.ServerCredentials | None = None,
) -> Iterator[Host]:
    """Serve on a unix socket, until the block ends."""
    ready: Future[Host] = Future()
    end = asyncio.Event()

    async def live() -> None:
        engine = choice.engine(name, endpoints)
        engine.bind(f"unix:{folder / 'it.sock'}", credentials)
        await engine.start()
        ready.set_result(Host(folder / "it.sock", asyncio.get_running_loop(), engine.stop))
        await end.wait()
        await engine.stop(0)

    def thread() -> None:
        try:
            asyncio.run(live())
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    worker = threading.Thread(target=thread, name="host")
    worker.start()
    found = ready.result(30)
    try:
        yield found
    finally:
        found.loop.call_soon_threadsafe(end.set)
        worker.join(30)
        assert not worker.is_alive()


def streams(handler: Callable[[Stream], Awaitable[None]]) -> dict[str, StreamEndpoint]:
    """An endpoint that answers streams by this."""
    endpoint = StreamEndpoint(_SESSION, handler)
    return {endpoint.path: endpoint}


def stream(
    channel: grpc.Channel,
) -> "grpc.StreamStreamMultiCallable[bytes, bytes]":
    """What calls it."""
    return channel.stream_stream(f"/{_SESSION.containing_service.full_name}/{_SESSION.name}")
