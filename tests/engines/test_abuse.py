"""No caller can end a server, block it, make it forget, or make it grow.

The long form runs the same with large counts: `CREDITGATE_ABUSE_ROUNDS`.
"""

import asyncio
import contextlib
import gc
import logging
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from creditgate_server.engines import core
from creditgate_server.engines.engine import Endpoints, Name
from creditgate_server.rpc.endpoint import Answer, Caller
from creditgate_server.rpc.stream import Stream
from tests.crash.load import Load, Record, audit, decide, lost, told_the_truth
from tests.crash.process import Server, channel_to, server
from tests.engines.abuse import CATALOG, OPENING, Callers, Wire, call, client_process, rss_kib
from tests.engines.host import UNARY, Host, hosting, stream, streams
from tests.project.tree import ROOT
from tests.rpc.shop import Account, connected, send

SEED = 20_261_120
ROUNDS_LONG = int(os.environ.get("CREDITGATE_ABUSE_ROUNDS", "300"))
ENGINES: tuple[Name, ...] = ("core", "aio")


@pytest.fixture(params=ENGINES)
def name(request: pytest.FixtureRequest) -> Name:
    found: Name = request.param
    return found


# A server of its own -----------------------------------------------------------------------------


def round_of(found: Server, name: Name, rng: random.Random, *, kill: bool) -> None:
    """Everything that can be done to it, once."""
    host, _, port = found.address.rpartition(":")
    wires = Wire(found.socket, name), Wire((host, int(port)), name)
    with channel_to(found) as channel:
        account = Account(channel, "abused")
        callers = Callers(channel, account, rng)
        if kill:
            with client_process(found.socket) as kill_it:
                callers.abuse(50)
                kill_it()
        for _ in range(10):
            for wire in wires:
                wire.abuse(rng)
            callers.abuse(10)
    for wire in wires:
        wire.close()


def abused(found: Server, name: Name, rounds: int) -> tuple[list[str], list[int]]:
    """What is wrong after so many rounds, and the KiB that it had resident after each."""
    rng = random.Random(SEED)
    with channel_to(found) as channel:
        accounts = [Account(channel, each) for each in ("abused", "steady-1", "steady-2")]
        for account in accounts:
            account.put_account()
            account.grant("start", 1_000_000)
        load = Load(["steady-1", "steady-2"], seed=1, threads=2)
        load.start(channel)
        memory = []
        try:
            for number in range(rounds):
                round_of(found, name, rng, kill=number % 10 == 0)
                memory.append(rss_kib(found.process.pid))
        finally:
            load.stop()
        record = load.record
        problems = [*lost(channel, record), *decide(channel, record), *told_the_truth(record)]
        problems += audit(accounts[0], Record())
        for account in accounts[1:]:
            problems += audit(account, record)
        assert len(record.answered) > 10 * rounds, "the load was too light to show anything"
        assert send(channel, CATALOG, b"")
    return problems, memory


@pytest.mark.parametrize(
    "rounds",
    [
        3,
        pytest.param(
            ROUNDS_LONG, marks=[pytest.mark.long, pytest.mark.timeout(60 + 10 * ROUNDS_LONG)]
        ),
    ],
)
def test_whatever_callers_do_it_lives_its_books_balance_and_it_does_not_grow(
    name: Name, tmp_path: Path, rounds: int
) -> None:
    with server(tmp_path, engine=name, log_level="warning") as found:
        problems, memory = abused(found, name, rounds)
        assert not problems, "\n".join(problems)
        half = len(memory) // 2
        # What the allocator keeps comes and goes by some MiB, more at the beginning; a leak does
        # not go.
        grown = min(memory[-half:]) - max(memory[:half])
        assert grown < (4 if rounds > 10 else 16) * 1024, memory
        assert found.end() == 0, found.said
        for defect in ("a defect", "never retrieved", "never awaited"):
            assert defect not in found.said, found.said


def test_it_goes_down_in_order_under_a_flood(name: Name, tmp_path: Path) -> None:
    end = threading.Event()

    def flood(path: Path) -> None:
        rng = random.Random(path.name)
        wire = Wire(path, name)
        # Until it has gone.
        with contextlib.suppress(OSError):
            while not end.is_set():
                wire.abuse(rng)
        wire.close()

    with server(tmp_path, engine=name, drain_s=2) as found, channel_to(found) as channel:
        account = Account(channel, "calm")
        account.put_account()
        account.grant("start", 1_000_000)
        load = Load(["calm"], seed=2, threads=4)
        load.start(channel)
        threads = [threading.Thread(target=flood, args=(found.socket,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            time.sleep(0.5)
            began = time.monotonic()
            assert found.end() == 0, found.said
            assert time.monotonic() - began < 10
        finally:
            end.set()
            load.stop()
            for thread in threads:
                thread.join(10)
        answered = load.record
    with server(tmp_path, engine=name) as found, channel_to(found) as channel:
        problems = [*lost(channel, answered), *decide(channel, answered)]
        problems += audit(Account(channel, "calm"), answered)
        assert not problems, "\n".join(problems)


def test_more_connections_than_files_are_waited_out(name: Name, tmp_path: Path) -> None:
    with server(tmp_path, engine=name) as found, channel_to(found) as channel:
        assert send(channel, CATALOG, b"")
        limit = len(list(Path(f"/proc/{found.process.pid}/fd").iterdir())) + 50
        subprocess.run(["prlimit", f"--nofile={limit}", f"--pid={found.process.pid}"], check=True)
        wire = Wire(found.socket, name)
        crowd = [wire.connect() for _ in range(100)]
        # Who is connected is served.
        for _ in range(20):
            assert send(channel, CATALOG, b"")
        for each in crowd:
            each.close()
        with channel_to(found) as later:
            assert send(later, CATALOG, b"", wait_for_ready=True)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_compressed_message_is_refused_before_it_is_unpacked(
    name: Name, tmp_path: Path, compression: grpc.Compression
) -> None:
    with server(tmp_path, engine=name) as found:
        before = rss_kib(found.process.pid)
        with grpc.insecure_channel(f"unix:{found.socket}", compression=compression) as channel:
            for size in (100, 64 * 1024 * 1024):
                with pytest.raises(grpc.RpcError) as caught:
                    send(channel, CATALOG, bytes(size), timeout_s=30)
                assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        peak = Path(f"/proc/{found.process.pid}/status").read_text().split("VmHWM:")[1].split()[0]
        assert int(peak) - before < 32 * 1024


# Within our own process, where objects can be counted --------------------------------------------

PARTS = ("grpc._cython", "creditgate_server.engines", "_asyncio", "asyncio")


def alive() -> Counter[str]:
    """Calls, requests, streams, tasks and futures that there are."""
    gc.collect()
    return Counter(
        type(each).__name__
        for each in gc.get_objects()
        if str(type(each).__module__).startswith(PARTS) or type(each).__name__ == "coroutine"
    )


async def slow_echo(body: bytes, _caller: Caller) -> Answer:
    """Waits for a moment, as one does for the store."""
    if len(body) % 3:
        done = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.001 * (len(body) % 7), done.set_result, None)
        await done
    return Answer(body)


async def chat(it: Stream) -> None:
    while (body := await it.read()) is not None:
        await it.write(body)


def calls_of_all_kinds(channel: grpc.Channel, rng: random.Random, count: int) -> None:
    """Each ends, is called off, runs out of time, or is left without a message."""
    unary: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(UNARY)
    unknown: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/no/such")
    half: grpc.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(UNARY)
    done = threading.Event()

    def silence() -> Iterator[bytes]:
        done.wait(10)
        yield from ()

    calls: list[Any] = []
    for _ in range(count):
        timeout_s = rng.choice((0.001, 0.003, 0.3))
        calls += [
            unary.future(bytes(rng.randrange(50)), timeout=timeout_s),
            unknown.future(b"", timeout=0.3),
            half.future(silence(), timeout=rng.choice((0.002, 0.01))),
            stream(channel)(iter([b"a", b"b"]), timeout=timeout_s),
            stream(channel)(silence(), timeout=timeout_s),
        ]
        if rng.random() < 0.5:
            rng.choice(calls).cancel()
        if len(calls) > 40:
            for each in calls:
                if not isinstance(each, grpc.Future) or rng.random() < 0.3:
                    each.cancel()
            done.set()
            for each in calls:
                each.code()
            calls.clear()
            done.clear()
    done.set()
    for each in calls:
        each.cancel()


ENDPOINTS: Endpoints = {UNARY: slow_echo, **streams(chat)}
COUNT = 60
LIMIT_S = 5.0


def leftovers(host: Host, count: int) -> list[str]:
    """What there is more of after so many calls of each kind than after the first few."""
    rng = random.Random(SEED)

    def alive_after(calls: int) -> Counter[str]:
        with host.channel() as channel:
            calls_of_all_kinds(channel, rng, calls)
            unary: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(UNARY)
            assert unary(b"abc", timeout=5) == b"abc"
        return alive()

    first = alive_after(20)
    now = alive_after(count)
    end = time.monotonic() + LIMIT_S
    # The last calls may still be ending, and a waiting thread may keep its last event.
    while (more := {kind: n for kind, n in (now - first).items() if n > 5}) and (
        time.monotonic() < end
    ):
        time.sleep(0.05)
        now = alive()
    return [f"{number} more of {kind}" for kind, number in more.items()]


class Complaints(logging.Handler):
    """What was logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        # grpc.aio complains of callers.
        if record.name.startswith(("creditgate", "asyncio")):
            self.heard.append(f"logged: {record.getMessage()}")


def wrong_after(name: Name, folder: Path, count: int) -> list[str]:
    """What is wrong with an engine after so many calls of each kind."""
    complaints = Complaints()
    logging.getLogger().addHandler(complaints)
    try:
        with hosting(name, folder, ENDPOINTS) as host:
            try:
                found = leftovers(host, count)
            except grpc.RpcError as error:
                found = [f"no answer: {error.code()}"]
    finally:
        logging.getLogger().removeHandler(complaints)
    return found + complaints.heard


@pytest.mark.parametrize(
    "count", [COUNT, pytest.param(20_000, marks=[pytest.mark.long, pytest.mark.timeout(1_200)])]
)
def test_nothing_is_left_of_a_call_however_it_ended(name: Name, tmp_path: Path, count: int) -> None:
    assert wrong_after(name, tmp_path, count) == []


def test_what_is_begun_when_it_stops_and_ends_later_harms_nobody(
    name: Name, tmp_path: Path
) -> None:
    assert outliving(name, tmp_path) == 0


def outliving(name: Name, folder: Path, plant: str = "") -> int:
    """The exit code of a process in which calls outlive their engine."""
    command = [sys.executable, "-m", "tests.engines.outliving", name, str(folder), plant]
    return subprocess.run(command, cwd=ROOT, check=False, timeout=50).returncode


def test_an_endpoint_that_breaks_its_promise_hangs_nobody(tmp_path: Path) -> None:
    """It promises to raise nothing. With grpc.aio, the caller of one that was cancelled waits."""

    async def cancelled(body: bytes, _caller: Caller) -> Answer:
        future = asyncio.get_running_loop().create_future()
        if body:
            asyncio.get_running_loop().call_soon(future.cancel)
        else:
            future.cancel()
        await future
        return Answer()

    async def fails(_body: bytes, _caller: Caller) -> Answer:
        raise ZeroDivisionError

    endpoints: Endpoints = {"/it/Cancelled": cancelled, "/it/Fails": fails, UNARY: slow_echo}
    with hosting("core", tmp_path, endpoints) as host, host.channel() as channel:
        for path, body in (("/it/Cancelled", b""), ("/it/Cancelled", b"a"), ("/it/Fails", b"")):
            with pytest.raises(grpc.RpcError) as caught:
                send(channel, path, body, timeout_s=5)
            assert caught.value.code() is not grpc.StatusCode.DEADLINE_EXCEEDED
        assert send(channel, UNARY, b"abc") == b"abc"


def test_a_path_that_is_no_text_is_an_unknown_method_or_the_end_of_the_server(
    name: Name, tmp_path: Path
) -> None:
    """What kills grpc.aio (1.85.1, not 1.71.2): nobody may take the dead for alive."""
    with server(tmp_path, engine=name) as found:
        with Wire(found.socket, name).connect() as peer:
            peer.sendall(OPENING + call(1, path="/caf\udce9"))
            time.sleep(0.2)
        with channel_to(found) as channel:
            try:
                assert send(channel, CATALOG, b"")
            except grpc.RpcError:
                assert name == "aio"
                assert found.process.wait(20) == 1


def test_a_server_whose_engine_fails_does_not_look_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise SystemExit(3)

    async def live() -> None:
        engine = core.CoreEngine(ENDPOINTS)
        engine.bind(f"unix:{tmp_path / 'it.sock'}")
        monkeypatch.setattr(engine, "_begin", fail)
        await engine.start()
        try:
            with connected(tmp_path / "it.sock") as channel:
                unary: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(UNARY)
                waiting = unary.future(b"")
                await asyncio.sleep(20)
                waiting.cancel()
        finally:
            await engine.stop(0)

    began = time.monotonic()
    with pytest.raises(SystemExit) as caught:
        asyncio.run(live())
    assert caught.value.code == 1
    assert time.monotonic() - began < 10


# Planted bugs ------------------------------------------------------------------------------------

Change = Callable[[pytest.MonkeyPatch], None]


def a_request_is_kept(patch: pytest.MonkeyPatch) -> None:
    received, kept = core._Request.received, []

    def receive(self: core._Request, event: Any) -> None:
        if event.batch_operations[0].message() is None:
            kept.append(self)
        received(self, event)

    patch.setattr(core._Request, "received", receive)


def a_place_is_lost(patch: pytest.MonkeyPatch) -> None:
    """No call is welcome after one that came to nothing."""
    begin = core.CoreEngine._begin

    def begin_and_forget(self: core.CoreEngine, event: Any) -> None:
        if event.success and event.call_details.method == b"/no/such":
            self.finish(event.call, Answer())
        else:
            begin(self, event)

    patch.setattr(core.CoreEngine, "_begin", begin_and_forget)


def no_message_is_taken_for_one(patch: pytest.MonkeyPatch) -> None:
    def receive(self: core._Request, event: Any) -> None:
        self._coroutine = self._endpoint(event.batch_operations[0].message(), self)
        self._step()

    patch.setattr(core._Request, "received", receive)


def a_stream_is_not_told(patch: pytest.MonkeyPatch) -> None:
    """That its caller has left."""
    patch.setattr(core._Stream, "_on_close", lambda _self, _event: None)

    async def silent(self: core._Stream) -> bytes | None:
        await self._batch((core._receive_message(core._NO_FLAGS),))
        await asyncio.get_running_loop().create_future()
        return None

    patch.setattr(core._Stream, "read", silent)


@pytest.mark.parametrize(
    ("plant", "told"),
    [
        (a_request_is_kept, "_Request"),
        (a_place_is_lost, "no answer"),
        (no_message_is_taken_for_one, "a defect in the engine"),
        (a_stream_is_not_told, "_Stream"),
    ],
)
def test_a_planted_bug_is_noticed(
    plant: Change, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "LIMIT_S", 0.5)
    plant(monkeypatch)
    wrong = wrong_after("core", tmp_path, COUNT)
    assert any(told in each for each in wrong), wrong


def test_a_batch_for_a_queue_that_was_shut_down_would_be_noticed(tmp_path: Path) -> None:
    assert outliving("core", tmp_path, "unguarded") < 0
