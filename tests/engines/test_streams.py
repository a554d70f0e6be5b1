"""Streams on both engines: order, both ends, flow control, and callers that leave."""

import asyncio
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from creditgate_server.core.faults import Fault, Reason
from creditgate_server.engines.engine import Name
from creditgate_server.rpc.stream import Stream, StreamClosed
from tests.engines.host import hosting, stream, streams
from tests.rpc.shop import refused

LARGE = b"x" * 65_536


@pytest.fixture(params=["core", "aio"])
def name(request: pytest.FixtureRequest) -> Name:
    found: Name = request.param
    return found


async def echo(it: Stream) -> None:
    while (body := await it.read()) is not None:
        await it.write(body)


def test_messages_come_and_go_in_order(name: Name, tmp_path: Path) -> None:
    sent = [b"%d" % number * (number % 50) for number in range(500)]
    with hosting(name, tmp_path, streams(echo)) as host, host.channel() as channel:
        call = stream(channel)(iter(sent), timeout=30)
        assert list(call) == sent
        assert call.code() is grpc.StatusCode.OK


def test_many_streams_do_not_meet(name: Name, tmp_path: Path) -> None:
    with hosting(name, tmp_path, streams(echo)) as host, host.channel() as channel:
        own = [[b"%d of %d" % (each, caller) for each in range(40)] for caller in range(30)]
        calls = [stream(channel)(iter(sent), timeout=30) for sent in own]
        assert [list(call) for call in calls] == own


def test_answers_need_no_questions(name: Name, tmp_path: Path) -> None:
    async def count(it: Stream) -> None:
        for number in range(100):
            await it.write(b"%d" % number)

    with hosting(name, tmp_path, streams(count)) as host, host.channel() as channel:
        assert list(stream(channel)(iter(()), timeout=30)) == [b"%d" % n for n in range(100)]


@pytest.mark.parametrize("words", [0, 3])
def test_a_fault_is_the_status_at_the_end(name: Name, tmp_path: Path, words: int) -> None:
    async def refuse(it: Stream) -> None:
        for _ in range(words):
            await it.write(b"a word")
        raise Fault(Reason.OVERLOADED, "not now")

    with hosting(name, tmp_path, streams(refuse)) as host, host.channel() as channel:
        heard: list[bytes] = []
        with refused(Reason.OVERLOADED):
            heard.extend(stream(channel)(iter(()), timeout=30))
        assert heard == [b"a word"] * words


def test_a_defect_is_told_as_one(name: Name, tmp_path: Path) -> None:
    async def fail(_: Stream) -> None:
        raise ZeroDivisionError

    with hosting(name, tmp_path, streams(fail)) as host, host.channel() as channel:
        with pytest.raises(grpc.RpcError) as caught:
            list(stream(channel)(iter(()), timeout=30))
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert "ZeroDivision" not in str(caught.value.details())


def test_a_caller_that_takes_nothing_holds_up_what_is_written(name: Name, tmp_path: Path) -> None:
    written = []

    async def talk(it: Stream) -> None:
        for number in range(400):
            await it.write(LARGE)
            written.append(number)

    with hosting(name, tmp_path, streams(talk)) as host, host.channel() as channel:
        call = stream(channel)(iter(()), timeout=60)
        settled(written)
        # gRPC's window grows, but not to 25 MiB.
        assert len(written) < 350
        assert sum(1 for _ in call) == 400


def test_a_server_that_reads_nothing_holds_up_the_caller(name: Name, tmp_path: Path) -> None:
    sent: list[int] = []
    go_on = asyncio.Event()
    got = []

    async def late(it: Stream) -> None:
        await go_on.wait()
        while (body := await it.read()) is not None:
            got.append(body)

    def questions() -> Iterator[bytes]:
        for number in range(400):
            sent.append(number)
            yield LARGE

    with hosting(name, tmp_path, streams(late)) as host, host.channel() as channel:
        call = stream(channel)(questions(), timeout=60)
        settled(sent)
        assert len(sent) < 350
        host.loop.call_soon_threadsafe(go_on.set)
        assert list(call) == []
        assert len(got) == 400


def settled(growing: list[int]) -> None:
    """Wait until it grows no more."""
    before = -1
    while len(growing) != before or not growing:
        before = len(growing)
        time.sleep(0.5)


class Ending:
    """A handler that notes what it sees of a caller that leaves."""

    def __init__(self) -> None:
        self.seen: queue.Queue[dict[str, Any]] = queue.Queue()
        self.begun = threading.Semaphore(0)

    async def __call__(self, it: Stream) -> None:
        assert await it.read() == b"hello"
        await it.write(b"welcome")
        self.begun.release()
        reading = asyncio.ensure_future(it.read())
        await it.until_left()
        seen: dict[str, Any] = {"read": await reading, "again": await it.read()}
        try:
            await it.write(b"are you there?")
        except StreamClosed:
            seen["closed"] = True
        self.seen.put(seen)


GONE = {"read": None, "again": None, "closed": True}


def test_who_cancels_has_left(name: Name, tmp_path: Path) -> None:
    ending = Ending()
    with hosting(name, tmp_path, streams(ending)) as host, host.channel() as channel:
        call = stream(channel)(silent_after(b"hello"), timeout=30)
        assert next(call) == b"welcome"
        # Who leaves before the handler knows that it has written ends that write.
        assert ending.begun.acquire(timeout=10)
        call.cancel()
        assert ending.seen.get(timeout=10) == GONE


def test_whose_time_is_up_has_left(name: Name, tmp_path: Path) -> None:
    ending = Ending()
    with hosting(name, tmp_path, streams(ending)) as host, host.channel() as channel:
        call = stream(channel)(silent_after(b"hello"), timeout=0.5)
        assert next(call) == b"welcome"
        assert ending.seen.get(timeout=10) == GONE


def test_whose_connection_is_lost_has_left(name: Name, tmp_path: Path) -> None:
    ending = Ending()
    with hosting(name, tmp_path, streams(ending)) as host:
        with host.channel() as channel:
            call = stream(channel)(silent_after(b"hello"), timeout=30)
            assert next(call) == b"welcome"
            assert ending.begun.acquire(timeout=10)
        assert ending.seen.get(timeout=10) == GONE


def test_who_only_listens_has_not_left(name: Name, tmp_path: Path) -> None:
    """It has ended its side, as those do who call with one request."""
    heard: list[bool] = []

    async def tell(it: Stream) -> None:
        assert await it.read() == b"hello"
        assert await it.read() is None
        left = asyncio.ensure_future(it.until_left())
        await asyncio.sleep(0.1)
        heard.append(left.done())
        left.cancel()
        await it.write(b"news")

    with hosting(name, tmp_path, streams(tell)) as host, host.channel() as channel:
        assert list(stream(channel)(iter([b"hello"]), timeout=30)) == [b"news"]
        assert heard == [False]


def test_the_end_of_the_server_lets_go_of_streams(name: Name, tmp_path: Path) -> None:
    ending = Ending()
    with hosting(name, tmp_path, streams(ending)) as host, host.channel() as channel:
        call = stream(channel)(silent_after(b"hello"), timeout=30)
        assert next(call) == b"welcome"
        began = time.monotonic()
        host.run(host.stop(0.3))
        assert 0.2 < time.monotonic() - began < 10
        with pytest.raises(grpc.RpcError):
            next(call)


def silent_after(*bodies: bytes) -> Iterator[bytes]:
    """A caller that neither speaks nor ends its side, for as long as a test lasts."""
    yield from bodies
    threading.Event().wait(5)


def test_who_calls_is_known(name: Name, tmp_path: Path) -> None:
    async def who(it: Stream) -> None:
        mine = dict(it.caller.metadata())
        await it.write(repr((mine["x-it"], mine["x-bytes-bin"], it.caller.identities())).encode())
        await it.write(it.caller.peer().encode())

    with hosting(name, tmp_path, streams(who)) as host, host.channel() as channel:
        sent = (("x-it", "me"), ("x-bytes-bin", b"\x00\xff"))
        said, peer = stream(channel)(iter(()), timeout=30, metadata=sent)
        assert said == b"('me', b'\\x00\\xff', ())"
        assert peer.startswith(b"unix:")
