"""Calls at the same time go in messages of one session, and nobody can tell but by the cost."""

from __future__ import annotations

import asyncio
import itertools
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

import creditgate
from creditgate import AsyncClient, Client, calls
from creditgate import _session as sessions
from creditgate._faults import Status
from creditgate._methods import METHODS, method_of
from creditgate._session import Asked, Desk, Trust
from creditgate.calls import Call
from creditgate.v1 import credits_pb2 as pb
from tests.client.chaos import Chaos, echo
from tests.client.fake import Fails, FakeServer, serving, when

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

C = grpc.StatusCode
OLD = Fails(C.UNIMPLEMENTED, "NO_SUCH_METHOD", "not-applied")
DOWN = Fails(C.UNAVAILABLE, "SHUTTING_DOWN", "not-applied")


@pytest.fixture
def place() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield f"unix:{folder}/s"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), sessions=True) as server,
    ):
        yield server


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.address) as client:
        yield client


async def begin(client: AsyncClient) -> None:
    """Call at the same time until there is a session."""
    loop = client._loops.here()
    async with asyncio.timeout(10):
        while loop.session is None or not loop.session.begun:
            await asyncio.gather(*(client.get_balance("begin") for _ in range(2)))


def begin_between_threads(client: Client) -> None:
    process = client._processes.here()
    end = time.monotonic() + 10
    while process.session is None or not process.session.begun:
        assert time.monotonic() < end
        in_threads(2, lambda _: client.get_balance("begin"))


def in_threads(count: int, work: Callable[[int], object]) -> list[Any]:
    """What each gave, or raised."""
    found: list[Any] = [None] * count
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        barrier.wait(10)
        try:
            found[number] = work(number)
        except Exception as error:  # noqa: BLE001 - it is what is asked for
            found[number] = error

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
        assert not thread.is_alive()
    return found


# Answers belong to those who asked.

KINDS: list[Callable[[str, str], Call[Any]]] = [
    lambda account, hold: calls.authorize(account, hold, action="x"),
    lambda account, hold: calls.charge(account, hold, action="x"),
    lambda account, hold: calls.settle(account, hold, quantity=1),
    calls.refund,
    calls.extend,
    calls.get_hold,
    lambda account, hold: calls.quote(account, action=hold),
    lambda account, hold: calls.get_balance(account, action=hold),
]


def belongs(call: Call[Any], found: object) -> None:
    """The answer names what was asked."""
    request: Any = call.request
    assert type(found) is call.method.response
    answer: Any = found
    if isinstance(request, pb.QuoteRequest):
        assert answer.catalog_version == request.job.action
    elif isinstance(request, pb.GetBalanceRequest):
        assert answer.plan_id == request.action
    else:
        assert (answer.hold.account_id, answer.hold.hold_id) == (
            request.account_id,
            request.hold_id,
        )
    if hasattr(answer, "totals"):
        assert answer.totals.account_id == request.account_id


class Work:
    """Calls with ids of their own, of all kinds; each answer, and each error, is looked at."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.numbers = itertools.count()
        self.answered = self.refused = self.left = 0

    def call(self) -> Call[Any]:
        number = next(self.numbers)
        kind = "refused" if self.rng.random() < 0.05 else "job"
        return self.rng.choice(KINDS)(f"acct-{number % 7}", f"{number}-{kind}")

    def answer(self, call: Call[Any], answer: object) -> None:
        request: Any = call.request
        if isinstance(answer, creditgate.HoldSettled):
            assert answer.hold_id == request.hold_id
            assert answer.call is call
            self.refused += 1
        elif isinstance(answer, TimeoutError):
            self.left += 1
        else:
            assert not isinstance(answer, BaseException), answer
            belongs(call, answer)
            assert not getattr(request, "hold_id", "").endswith("refused")
            self.answered += 1

    async def caller(self, client: AsyncClient, count: int) -> None:
        for _ in range(count):
            call = self.call()
            impatient = self.rng.random() < 0.05
            try:
                async with asyncio.timeout(self.rng.random() * 0.02 if impatient else None):
                    answer: object = await client.call(call)
            except (creditgate.Fault, TimeoutError) as error:
                answer = error
            self.answer(call, answer)

    def thread(self, client: Client, count: int) -> None:
        for _ in range(count):
            call = self.call()
            try:
                answer: object = client.call(call)
            except creditgate.Fault as error:
                answer = error
            self.answer(call, answer)


def same_for_each_id(server: Chaos) -> None:
    """Whatever was asked again was asked with the same bytes."""
    twice = [key for key, bodies in server.bodies.items() if len(bodies) > 1 and key[2]]
    assert not twice


async def chaos_among_tasks(place: str, seed: int) -> Chaos:
    work = Work(seed)
    async with (
        Chaos(place, seed) as server,
        AsyncClient(place, timeout_s=0.3, budget_s=20) as client,
    ):
        callers = [asyncio.create_task(work.caller(client, 25)) for _ in range(60)]
        for _ in range(2):
            await asyncio.sleep(0.2)
            await server.again()
        for found in await asyncio.gather(*callers, return_exceptions=True):
            if found is not None:
                raise found
    assert work.answered + work.refused + work.left == 60 * 25
    same_for_each_id(server)
    return server


@pytest.mark.parametrize("seed", range(3))
async def test_answers_are_never_mixed_up_among_tasks(place: str, seed: int) -> None:
    server = await chaos_among_tasks(place, seed)
    # It has gone wrong in many ways, and in the session, too.
    assert server.seen["failed after"], server.seen
    assert server.seen["in session"] > 100, server.seen
    assert max(server.sizes) > 1


async def chaos_among_threads(place: str, seed: int) -> Chaos:
    work = Work(seed)
    async with Chaos(place, seed) as server:
        client = Client(place, timeout_s=0.3, budget_s=20)
        threads = asyncio.to_thread(in_threads, 12, lambda _: work.thread(client, 50))
        working = asyncio.create_task(threads)
        for _ in range(2):
            await asyncio.sleep(0.2)
            await server.again()
        errors = [error for error in await working if error is not None]
        await asyncio.to_thread(client.close)
    assert not errors
    assert work.answered + work.refused == 12 * 50
    same_for_each_id(server)
    return server


@pytest.mark.parametrize("seed", range(3))
async def test_answers_are_never_mixed_up_among_threads(place: str, seed: int) -> None:
    server = await chaos_among_threads(place, seed)
    assert server.seen["failed after"], server.seen
    assert server.seen["in session"] > 30, server.seen
    assert max(server.sizes) > 1


class Counter:
    """A desk with a server behind it that answers when it is told to."""

    def __init__(self) -> None:
        self.desk = Desk(Trust())
        self.asked: list[tuple[Call[Any], Asked, list[Any]]] = []
        self.left: set[int] = set()
        self.served: list[pb.SessionResult] = []

    def ask(self, data: st.DataObject) -> None:
        number = len(self.asked)
        call = data.draw(st.sampled_from(KINDS))(f"a-{number}", f"h-{number}")
        body = call.request.SerializeToString(deterministic=True)
        got: list[Any] = []
        self.asked.append((call, self.desk.ask(method_of(call.request), body, got.append), got))

    def send(self, _data: st.DataObject) -> None:
        for each in pb.SessionRequest.FromString(self.desk.message() or b"").operations:
            which = each.operation.WhichOneof("operation")
            assert which is not None
            answer: Any = {which: echo(getattr(each.operation, which), replayed=False)}
            self.served.append(pb.SessionResult(number=each.number, result=pb.Result(**answer)))

    def answer(self, data: st.DataObject) -> None:
        order = data.draw(st.permutations(self.served))
        count = data.draw(st.integers(0, len(order)))
        self.served = order[count:]
        self.desk.take(pb.SessionResponse(results=order[:count]))

    def leave(self, data: st.DataObject) -> None:
        if self.asked:
            number = data.draw(st.integers(0, len(self.asked) - 1))
            _, asked, got = self.asked[number]
            if not got:
                self.left.add(number)
            self.desk.leave(asked)


STEPS = [Counter.ask] * 4 + [Counter.send, Counter.send, Counter.answer, Counter.leave]


@given(data=st.data())
def test_every_answer_goes_to_its_call_at_most_once_and_in_the_end_always(
    data: st.DataObject,
) -> None:
    counter = Counter()
    for step in data.draw(st.lists(st.sampled_from(STEPS), max_size=60)):
        step(counter, data)
    counter.desk.end(Status(code=C.UNAVAILABLE, text="lost", outcome="unknown"))
    counter.desk.take(pb.SessionResponse(results=counter.served))
    for number, (call, asked, got) in enumerate(counter.asked):
        assert len(got) == (number not in counter.left)
        for answer in got:
            if isinstance(answer, Status):
                # What was never sent was not applied, and nothing is said of what was.
                assert answer.outcome == ("unknown" if asked.sent else "not-applied")
            else:
                belongs(call, answer)
    assert counter.desk.idle


@pytest.mark.parametrize(("count", "size"), [(2_500, 10), (40, 60_000), (17, 65_536)])
def test_no_message_is_larger_than_the_server_takes(count: int, size: int) -> None:
    desk = Desk(Trust())
    call = calls.quote("a", action="x", settings={"s": "x" * size})
    body = call.request.SerializeToString()
    for _ in range(count):
        desk.ask(call.method, body, lambda _answer: None)
    messages = list(iter(desk.message, None))
    numbers = [
        each.number
        for message in messages
        for each in pb.SessionRequest.FromString(message).operations
    ]
    assert numbers == list(range(1, count + 1))
    assert all(len(message) <= 1024 * 1024 for message in messages)
    assert len(messages) == -(-count // min(1_000, 1024 * 1024 // (len(body) + 40)))


# When there is a session, and when not.


async def test_a_lone_call_needs_no_session(server: FakeServer) -> None:
    async with AsyncClient(server.address) as client:
        for n in range(5):
            await client.authorize("a", f"h{n}", action="x")
    with Client(server.address) as client2:
        for n in range(5):
            client2.authorize("b", f"h{n}", action="x")
    assert not server.sessions
    assert not any(asked.in_session for asked in server.asked)


async def test_calls_at_the_same_time_leave_in_few_messages(
    server: FakeServer, client: AsyncClient
) -> None:
    await begin(client)
    server.sessions.clear()
    await asyncio.gather(*(client.authorize("a", f"h{n}", action="x") for n in range(500)))
    assert sum(server.sessions) == 500
    assert len(server.sessions) <= 5


async def test_a_call_that_finds_a_session_leaves_at_once(
    server: FakeServer, client: AsyncClient
) -> None:
    await begin(client)
    server.asked.clear()
    took = []
    for n in range(50):
        before = time.perf_counter()
        await client.authorize("a", f"h{n}", action="x")
        took.append(time.perf_counter() - before)
    assert all(asked.in_session for asked in server.asked)
    # Any wait for others would show in each of them.
    assert min(took) < 0.005


def test_threads_share_a_session(server: FakeServer) -> None:
    with Client(server.address) as client:
        begin_between_threads(client)
        server.asked.clear()
        answers = in_threads(16, lambda n: client.authorize("a", f"h{n}", action="x"))
        assert [answer.hold.hold_id for answer in answers] == [f"h{n}" for n in range(16)]
        assert sum(asked.in_session for asked in server.asked) >= 8


async def test_what_is_no_operation_goes_alone(server: FakeServer, client: AsyncClient) -> None:
    await begin(client)
    server.asked.clear()
    await asyncio.gather(client.get_account("a"), client.list_holds("a"), client.execute([]))
    big = calls.quote("a", action="x", settings={"s": "x" * 70_000})
    await asyncio.gather(client.call(big), client.get_balance("a"))
    assert {asked.method for asked in server.asked if asked.in_session} == {"get_balance"}


@pytest.mark.parametrize("status", [OLD, Fails(C.PERMISSION_DENIED), Fails(C.INTERNAL)], ids=str)
async def test_a_server_without_sessions_is_called_as_before(
    server: FakeServer, status: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[object] = []
    init = sessions.TaskSession.__init__

    def counted(self: Any, *args: Any) -> None:
        begun.append(self)
        init(self, *args)

    monkeypatch.setattr(sessions.TaskSession, "__init__", counted)
    server.tell("session", *[status] * 100)
    async with AsyncClient(server.address, budget_s=0) as client:
        for round_ in range(20):
            await asyncio.gather(
                *(client.authorize("a", f"h{round_}-{n}", action="x") for n in range(5))
            )
    assert len(server.requests("authorize")) == 100
    assert not any(asked.in_session for asked in server.asked)
    assert len(begun) == 1, "and is left alone for a while"


def test_another_session_is_tried_later_and_later(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("creditgate._session.time.monotonic", lambda: now)
    trust, rests = Trust(), []
    assert trust
    for _ in range(15):
        trust.lose()
        before = now
        while not trust:
            now += 1
        rests.append(now - before)
    assert rests == [1, 1, 1, 1, 2, 4, 7, 13, 26, 52, 103, 205, 410, 600, 600]
    trust.gain()
    trust.lose()
    now += 1
    assert trust


async def test_a_way_that_keeps_streams_for_itself_costs_no_call_its_time(place: str) -> None:
    """The session never says that it has begun, as behind something that waits for its end."""
    server = Chaos(place, 0, fails=0, lost=0, ends=0)

    async def silent(_messages: object, _context: object) -> None:
        await asyncio.sleep(30)

    server._session = silent  # type: ignore[assignment,method-assign]
    async with server, AsyncClient(place, timeout_s=2, budget_s=0) as client:
        before = time.monotonic()
        for _ in range(5):
            await asyncio.gather(*(client.get_balance("a") for _ in range(20)))
        assert time.monotonic() - before < 2


async def test_a_session_that_falls_silent_is_given_up(place: str) -> None:
    async with (
        Chaos(place, 0, fails=0, lost=0, ends=0) as server,
        AsyncClient(place, timeout_s=0.2) as client,
    ):
        await begin(client)
        first = client._loops.here().session
        server.lost = 1000
        asked = asyncio.ensure_future(client.get_balance("a"))
        while not server.seen["lost"]:  # noqa: ASYNC110 - there is nothing to wait for but a number
            await asyncio.sleep(0.01)
        server.lost = 0
        # It was lost in the session; asked again, it goes another way.
        belongs(calls.get_balance("a"), await asked)
        assert first is not None
        assert not first.begun
        alone = server.seen["alone"]
        await asyncio.gather(*(client.get_balance("a") for _ in range(5)))
        assert server.seen["alone"] == alone + 5


# Nobody is delayed by anybody.


async def test_a_slow_answer_delays_no_other(server: FakeServer, client: AsyncClient) -> None:
    await begin(client)
    released = threading.Event()
    server.tell("settle", when(released))
    await client.authorize("a", "slow", action="x")
    slow = asyncio.ensure_future(client.settle("a", "slow"))
    await asyncio.sleep(0.05)
    for n in range(20):
        await client.authorize("a", f"h{n}", action="x")
    assert not slow.done()
    released.set()
    assert (await slow).hold.hold_id == "slow"


async def test_callers_that_leave_are_none_of_the_others_business(
    server: FakeServer, client: AsyncClient
) -> None:
    await begin(client)
    released = threading.Event()
    server.tell("authorize", *[when(released)] * 20)
    gone = [asyncio.ensure_future(client.authorize("a", f"gone{n}", action="x")) for n in range(20)]
    await asyncio.to_thread(server.wait_for, "authorize", 20)
    for task in gone:
        task.cancel()
    assert (await client.authorize("a", "next", action="x")).hold.hold_id == "next"
    session = client._loops.here().session
    assert session is not None
    assert session._desk.idle, "nothing is kept of them"
    released.set()
    answers = await asyncio.gather(*(client.authorize("a", f"h{n}", action="x") for n in range(50)))
    assert [answer.hold.hold_id for answer in answers] == [f"h{n}" for n in range(50)]
    assert await asyncio.gather(*gone, return_exceptions=True)


async def test_an_answer_that_comes_too_late_is_nobodys(server: FakeServer) -> None:
    async with AsyncClient(server.address) as client:
        await begin(client)
        released = threading.Event()
        server.tell("authorize", when(released))
        impatient = client.with_options(timeout_s=0.2, budget_s=0)
        late = asyncio.ensure_future(impatient.authorize("a", "late", action="x"))
        await asyncio.to_thread(server.wait_for, "authorize", 1)
        await client.get_balance("a")
        with pytest.raises(creditgate.OutcomeUnknown) as caught:
            await late
        threading.Timer(0.02, released.set).start()
        server.tell("authorize", when(released))
        for n in range(20):
            answer = await client.authorize("a", f"h{n}", action="x")
            assert answer.hold.hold_id == f"h{n}"
        assert caught.value.call is not None
        assert (await client.call(caught.value.call)).replayed


def test_a_thread_that_waits_delays_no_other(server: FakeServer) -> None:
    with Client(server.address) as client:
        begin_between_threads(client)
        released = threading.Event()
        server.tell("settle", when(released))
        client.authorize("a", "slow", action="x")
        slow = threading.Thread(target=client.settle, args=("a", "slow"))
        slow.start()
        server.wait_for("settle", 1)
        answers = in_threads(8, lambda n: client.authorize("a", f"h{n}", action="x"))
        assert [answer.hold.hold_id for answer in answers] == [f"h{n}" for n in range(8)]
        released.set()
        slow.join(10)


# Sessions that end.


class Script:
    """An asyncio server whose sessions do as they are told, one after the other."""

    def __init__(self, place: str) -> None:
        self.server = Chaos(place, 0, fails=0, lost=0, ends=0, slow_s=0)
        self.read: list[list[pb.SessionOperation]] = []
        self.server._session = self.session  # type: ignore[method-assign]
        self.steps: list[str] = []

    async def session(self, _messages: object, context: Any) -> None:
        step = self.steps.pop(0) if self.steps else "answer"
        await context.write(b"")
        while isinstance(body := await context.read(), bytes):
            self.read.append(list(pb.SessionRequest.FromString(body).operations))
            if step == "drain":
                await context.write(pb.SessionResponse(draining=True).SerializeToString())
                await context.abort(DOWN.code, DOWN.text, DOWN.all_trailing())
            if step == "cut":
                await context.abort(C.UNAVAILABLE, "gone")
            if step == "refuse":
                await context.abort(
                    C.RESOURCE_EXHAUSTED, "too much", (("credit-outcome", "not-applied"),)
                )
            queue: asyncio.Queue[Any] = asyncio.Queue()
            for each in self.read[-1]:
                await self.server._operation(each, queue)
            results = [queue.get_nowait() for _ in self.read[-1]]
            await context.write(pb.SessionResponse(results=results).SerializeToString())


@pytest.fixture
async def script(place: str) -> AsyncIterator[Script]:
    found = Script(place)
    async with found.server:
        yield found


@pytest.mark.parametrize("step", ["drain", "cut", "refuse"])
async def test_a_session_that_ends_is_replaced_without_an_error(script: Script, step: str) -> None:
    script.steps = [step] * 3
    async with AsyncClient(script.server.address) as client:
        for number in range(8):
            await begin(client)
            answers = await asyncio.gather(
                *(client.authorize("a", f"h{number}-{n}", action="x") for n in range(10))
            )
            for n, answer in enumerate(answers):
                assert answer.hold.hold_id == f"h{number}-{n}"
    same_for_each_id(script.server)
    assert not script.steps


@pytest.mark.parametrize(
    ("step", "kind", "outcome"),
    [
        ("drain", creditgate.Unavailable, "not-applied"),
        ("cut", creditgate.OutcomeUnknown, "unknown"),
    ],
)
async def test_what_the_end_of_a_session_means_is_told_truly(
    script: Script, step: str, kind: type[creditgate.Fault], outcome: str
) -> None:
    script.steps = [step]
    async with AsyncClient(script.server.address) as client:
        await begun_only(client)
        with pytest.raises(creditgate.Fault) as caught:
            await client.with_options(budget_s=0).authorize("a", "h", action="x")
        assert type(caught.value) is kind
        assert caught.value.outcome == outcome
        assert (await client.call(calls.authorize("a", "h", action="x"))).hold.hold_id == "h"


async def begun_only(client: AsyncClient) -> None:
    """A session that has begun, and in which nothing was asked."""
    await asyncio.gather(*(client.get_account("a") for _ in range(2)))
    loop = client._loops.here()
    loop.under_way += 2
    client._loops._session(loop)
    loop.under_way -= 2
    async with asyncio.timeout(10):
        while loop.session is None or not loop.session.begun:
            await client.get_account("a")


async def test_closing_ends_what_is_under_way_in_a_session(server: FakeServer) -> None:
    client = AsyncClient(server.address)
    await begin(client)
    released = threading.Event()
    server.tell("settle", when(released))
    settle = asyncio.ensure_future(client.settle("a", "h"))
    await asyncio.to_thread(server.wait_for, "settle", 1)
    await client.close()
    with pytest.raises(creditgate.OutcomeUnknown):
        await settle
    released.set()


def test_closing_ends_what_threads_have_under_way_in_a_session(server: FakeServer) -> None:
    client = Client(server.address)
    begin_between_threads(client)
    released = threading.Event()
    server.tell("settle", *[when(released)] * 3)

    def settle(number: int) -> object:
        if number == 3:
            server.wait_for("settle", 3)
            client.close()
            return None
        return client.settle("a", "h")

    found = in_threads(4, settle)
    released.set()
    assert [type(error) for error in found[:3]] == [creditgate.OutcomeUnknown] * 3
    assert not [t for t in threading.enumerate() if t.name == "creditgate-session"]


def test_threads_of_a_session_end_when_nobody_calls(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_IDLE_S", 0.1)
    with Client(server.address) as client:
        for _ in range(2):
            begin_between_threads(client)
            end = time.monotonic() + 10
            while any(thread.name == "creditgate-session" for thread in threading.enumerate()):
                assert time.monotonic() < end
                time.sleep(0.01)
            client.get_balance("a")


FORK = """
import os, signal, sys, threading, time
import creditgate

client = creditgate.Client(sys.argv[1], budget_s=5)

def work():
    done = []
    def some():
        for _ in range(10):
            done.append(client.get_balance("a"))
    threads = [threading.Thread(target=some) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(done) == 40, len(done)
    return client._processes.here().session

while work() is None:
    pass
session = client._processes.here().session
before = time.monotonic()
child = os.fork()
assert session.over, "gRPC forks badly beside a stream"
if not child:
    signal.alarm(20)
    assert client._processes.here().session is None
    while work() is None:
        pass
    client.close()
    os._exit(0)
assert time.monotonic() - before < 2, "a fork does not wait for a session"
work()
_, status = os.waitpid(child, 0)
assert status == 0, status
work()
client.close()
"""


def test_a_fork_beside_a_session(server: FakeServer) -> None:
    result = subprocess.run(
        [
            *(sys.executable, "-W", "error"),
            # Python 3.12 warns of what is tested here.
            *("-W", "ignore:This process:DeprecationWarning"),
            *("-c", FORK, server.address),
        ],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert result.returncode == 0, result.stderr


async def test_an_error_is_that_of_its_call(client: AsyncClient) -> None:
    """A message with several operations of which each fails for itself."""
    await begin(client)
    await client.authorize("a", "there", action="x")
    found = await asyncio.gather(
        client.get_hold("a", "not there"),
        client.get_hold("a", "there"),
        client.settle("a", "not there either"),
        return_exceptions=True,
    )
    first, second, third = found
    assert isinstance(first, creditgate.HoldNotFound)
    assert first.hold_id == "not there"
    assert not isinstance(second, BaseException)
    assert second.hold.hold_id == "there"
    assert isinstance(third, creditgate.HoldNotFound)
    assert third.hold_id == "not there either"


def test_every_operation_is_a_method_of_the_same_name() -> None:
    assert set(METHODS) > sessions._NAMES
    assert {field.name for field in pb.Result.DESCRIPTOR.fields} == sessions._NAMES | {"fault"}
