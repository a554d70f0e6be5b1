"""What an engine makes of a stream: bytes both ways, flow control, a status, those who leave."""

import asyncio
import contextlib
import functools
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import grpc
import pytest

from creditgate.v1 import credits_pb2
from creditgate_server.core.faults import Fault, Reason
from creditgate_server.engines.aio import AioEngine
from creditgate_server.rpc.stream import Stream, StreamClosed, stream_endpoints
from tests.rpc.talk import PATH

Handler = Callable[[Stream], Awaitable[None]]
CREDITS = credits_pb2.DESCRIPTOR.services_by_name["Credits"]


Serving = Callable[[Handler], AbstractAsyncContextManager[tuple[Any, Any]]]


@pytest.fixture(params=[AioEngine])
def serving(request: pytest.FixtureRequest) -> Serving:
    """A channel to an engine whose one stream is answered so."""
    return functools.partial(_serving, request.param)


@contextlib.asynccontextmanager
async def _serving(kind: Any, handler: Handler) -> AsyncIterator[tuple[Any, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        address = f"unix:{Path(folder) / 's'}"
        engine = kind(stream_endpoints([CREDITS], {"Session": handler}))
        engine.bind(address)
        await engine.start()
        narrow = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_535))
        async with grpc.aio.insecure_channel(address, narrow) as channel:
            yield channel.stream_stream(PATH), engine
        await engine.stop(0)


async def test_messages_pass_both_ways_as_they_are(serving: Serving) -> None:
    async def echo(stream: Stream) -> None:
        while (body := await stream.read()) is not None:
            await stream.write(body[::-1])

    bodies = [b"", b"ab", b"\xff\x00", b"x" * 1_000_000 + b"y"]
    async with serving(echo) as (method, _):
        call = method()
        for body in bodies:
            await call.write(body)
            assert await call.read() == body[::-1]
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_a_message_may_be_written_before_anything_is_read(serving: Serving) -> None:
    async def greet(stream: Stream) -> None:
        await stream.write(b"hello")
        await stream.read()

    async with serving(greet) as (method, _):
        call = method()
        assert await call.read() == b"hello"
        call.cancel()


async def test_a_fault_is_the_status_behind_what_was_written(serving: Serving) -> None:
    async def fail(stream: Stream) -> None:
        for number in range(50):
            await stream.write(b"%d" % number)
        raise Fault(Reason.OVERLOADED, "too much")

    async with serving(fail) as (method, _):
        call = method()
        assert [await call.read() for _ in range(50)] == [b"%d" % n for n in range(50)]
        with pytest.raises(grpc.RpcError) as caught:
            await call.read()
    error: Any = caught.value
    trailing = dict(error.trailing_metadata())
    assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "too much")
    assert trailing["credit-outcome"] == "not-applied"
    assert b"OVERLOADED" in trailing["grpc-status-details-bin"]


async def test_a_defect_is_told_as_one(serving: Serving) -> None:
    async def fail(_stream: Stream) -> None:
        raise RuntimeError("secret")

    async with serving(fail) as (method, _):
        with pytest.raises(grpc.RpcError) as caught:
            await method().read()
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in str(caught.value)


async def test_what_the_caller_does_not_take_waits(serving: Serving) -> None:
    written = 0

    async def pour(stream: Stream) -> None:
        nonlocal written
        with contextlib.suppress(StreamClosed):
            while True:
                await stream.write(b"x" * 10_000)
                written += 1

    async with serving(pour) as (method, _):
        call = method()
        await call.read()
        before = -1
        while before != written:
            before = written
            await asyncio.sleep(0.2)
        assert written < 200
        for _ in range(300):
            await call.read()
        assert written > 250
        call.cancel()


async def test_what_is_not_read_waits(serving: Serving) -> None:
    async def sleep(_stream: Stream) -> None:
        await asyncio.sleep(30)

    async with serving(sleep) as (method, _):
        call, sent = method(), 0

        async def pour() -> None:
            nonlocal sent
            while True:
                await call.write(b"x" * 10_000)
                sent += 1

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pour(), 0.5)
        assert sent < 2_000
        call.cancel()


@pytest.mark.parametrize("how", ["cancel", "deadline", "stop"])
async def test_a_caller_that_leaves_ends_its_stream_and_nothing_else(
    serving: Serving, how: str
) -> None:
    seen: list[object] = []
    gone = asyncio.Event()

    async def handle(stream: Stream) -> None:
        seen.append(await stream.read())
        seen.append(await stream.read())
        try:
            while True:
                await stream.write(b"x" * 10_000)
                await asyncio.sleep(0)
        except StreamClosed:
            seen.append("closed")
        seen.append(await stream.read())
        await asyncio.sleep(0.05)
        seen.append("finished")
        gone.set()

    async with serving(handle) as (method, engine):
        call = method(timeout=0.3 if how == "deadline" else 30)
        await call.write(b"one")
        await asyncio.sleep(0.1)
        if how == "cancel":
            call.cancel()
        elif how == "stop":
            await engine.stop(0)
        async with asyncio.timeout(10):
            await gone.wait()
    assert seen == [b"one", None, "closed", None, "finished"]


async def test_a_read_may_be_cancelled_before_the_end(serving: Serving) -> None:
    async def handle(stream: Stream) -> None:
        reading = asyncio.ensure_future(stream.read())
        await asyncio.wait([reading], timeout=0.05)
        reading.cancel()
        await asyncio.wait([reading])
        await stream.write(b"the last")
        raise Fault(Reason.SHUTTING_DOWN, "going down")

    async with serving(handle) as (method, _):
        call = method()
        assert await call.read() == b"the last"
        with pytest.raises(grpc.RpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
