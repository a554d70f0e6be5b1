"""Holds stay alive while their jobs run, no longer, and a hold that is lost is noticed."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from typing import Any

import grpc
import pytest

import creditgate
from creditgate import AsyncClient, Client, calls
from creditgate._answers import answers
from creditgate._beats import Beats
from creditgate._holds import HoldCore, terms
from creditgate.v1 import credits_pb2
from creditgate.v1.credits_pb2 import ExecuteResponse, Fault, Result
from creditgate.v1.error_reason_pb2 import ErrorReason
from creditgate.v1.resources_pb2 import Decision, Hold, HoldState
from tests.client.bench import Clock
from tests.client.fake import UNAVAILABLE, Fails, FakeServer

C = grpc.StatusCode
LIFE_S = 100.0


class World:
    """Beats, and a store of which the clock is ours: holds of 30 seconds that live 100."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.beats = Beats(self.clock.now)
        self.deadlines: dict[str, float] = {}
        self.began: dict[str, float] = {}
        self.ended: dict[str, ErrorReason.ValueType] = {}
        self.calls: list[tuple[float, list[str]]] = []
        self.down = False

    def hold(self, name: str, ttl: float | None = 30, replayed: bool = False) -> HoldCore:  # noqa: FBT001, FBT002
        guard = HoldCore(terms("acct", name, action="x", ttl=ttl))
        self.began[name] = self.clock.now_s
        self.deadlines[name] = self.clock.now_s + 30
        flow = guard._enter()
        next(flow)
        answer = credits_pb2.AuthorizeResponse(
            decision=Decision.DECISION_APPROVED, hold=self.record(name), replayed=replayed
        )
        answer.totals.as_of.FromMilliseconds(int(self.clock.now_s * 1000))
        with pytest.raises(StopIteration):
            flow.send(answer)
        self.beats.add(guard)
        return guard

    def record(self, name: str) -> Hold:
        hold = Hold(account_id="acct", hold_id=name, state=HoldState.HOLD_STATE_OPEN)
        hold.deadline.FromMilliseconds(int(self.deadlines[name] * 1000))
        return hold

    def result(self, request: credits_pb2.ExtendRequest) -> Result:
        name = request.hold_id
        if name not in self.ended and self.clock.now_s >= self.deadlines[name]:
            self.ended[name] = ErrorReason.ERROR_REASON_HOLD_EXPIRED
        if name in self.ended:
            return Result(
                fault=Fault(reason=self.ended[name], code=9, credit_outcome="not-applied")
            )
        asked = request.ttl.seconds if request.HasField("ttl") else 30
        latest = self.began[name] + LIFE_S
        self.deadlines[name] = max(self.deadlines[name], min(self.clock.now_s + asked, latest))
        answer = credits_pb2.ExtendResponse(
            decision=Decision.DECISION_APPROVED, hold=self.record(name)
        )
        answer.totals.as_of.FromMilliseconds(int(self.clock.now_s * 1000))
        return Result(extend=answer)

    def run(self, duration_s: float) -> None:
        """What a heart does, until so much time has passed."""
        end = self.clock.now_s + duration_s
        while True:
            wait_s = self.beats.wait_s()
            if wait_s is None or self.clock.now_s + wait_s > end:
                self.clock.now_s = end
                return
            self.clock.now_s += wait_s
            due, call = self.beats.due()
            if call is None:
                continue
            request: Any = call.request
            asked = [operation.extend for operation in request.operations]
            self.calls.append((self.clock.now_s - 100, [each.hold_id for each in asked]))
            if self.down:
                self.beats.failed(due, creditgate.Unavailable("down"))
            else:
                results = [self.result(each) for each in asked]
                self.beats.answered(due, ExecuteResponse(results=results))


def lost(hold: HoldCore) -> Any:
    """Why; asked anew each time."""
    return hold.lost


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("ttl", [30, None])
def test_a_hold_is_extended_at_every_third_of_its_time(world: World, ttl: float | None) -> None:
    hold = world.hold("a", ttl)
    world.run(65)
    assert world.calls == [(10.0 * n, ["a"]) for n in range(1, 7)]
    assert hold.deadline.timestamp() == world.deadlines["a"] == 190
    assert lost(hold) is None


def test_holds_that_are_due_at_once_are_one_call(world: World) -> None:
    holds = [world.hold(name) for name in "abc"]
    world.run(21)
    assert world.calls == [(10.0, ["a", "b", "c"]), (20.0, ["a", "b", "c"])]
    assert all(lost(hold) is None for hold in holds)


@pytest.mark.parametrize("ttl", [30, None])
@pytest.mark.parametrize("replayed", [False, True])
def test_extending_stops_at_the_maximum_life_and_the_end_is_noticed(
    world: World,
    ttl: float | None,
    replayed: bool,  # noqa: FBT001 - a case
) -> None:
    hold = world.hold("a", ttl, replayed)
    world.run(99.5)
    assert lost(hold) is None
    count = len(world.calls)
    assert count <= (11 if ttl is not None or not replayed else 30)
    world.run(1)
    assert isinstance(lost(hold), creditgate.HoldExpired)
    assert "stop the job" in str(lost(hold))
    world.run(1000)
    assert world.beats.wait_s() is None


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (ErrorReason.ERROR_REASON_HOLD_SETTLED, creditgate.HoldSettled),
        (ErrorReason.ERROR_REASON_HOLD_REFUNDED, creditgate.HoldRefunded),
        (ErrorReason.ERROR_REASON_HOLD_EXPIRED, creditgate.HoldExpired),
        (ErrorReason.ERROR_REASON_HOLD_NOT_FOUND, creditgate.HoldNotFound),
        (ErrorReason.ERROR_REASON_ACCOUNT_NOT_FOUND, creditgate.AccountNotFound),
    ],
)
def test_a_hold_that_has_ended_is_lost_and_left_alone(
    world: World, reason: ErrorReason.ValueType, kind: type, caplog: pytest.LogCaptureFixture
) -> None:
    hold, other = world.hold("a"), world.hold("b")
    world.ended["a"] = reason
    world.run(25)
    assert type(lost(hold)) is kind
    assert "hold a of acct was lost" in caplog.text
    assert lost(other) is None
    assert world.calls == [(10.0, ["a", "b"]), (20.0, ["b"])]


def test_a_server_that_is_away_for_a_while_costs_no_hold(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    hold = world.hold("a")
    world.down = True
    world.run(28)
    assert len(world.calls) > 3
    world.down = False
    world.run(20)
    assert lost(hold) is None
    assert "could not be extended" in caplog.text


def test_a_server_that_stays_away_costs_the_hold(world: World) -> None:
    hold = world.hold("a")
    world.down = True
    world.run(29.9)
    assert lost(hold) is None
    world.run(0.2)
    assert type(lost(hold)) is creditgate.Unavailable
    assert world.beats.wait_s() is None


def test_a_refusal_that_says_nothing_of_the_hold_is_tried_again(world: World) -> None:
    hold = world.hold("a")
    world.ended["a"] = ErrorReason.ERROR_REASON_OVERLOADED
    world.run(15)
    assert lost(hold) is None
    del world.ended["a"]
    world.run(30)
    assert lost(hold) is None


def test_a_hold_that_nobody_has_any_more_is_not_kept(world: World) -> None:
    world.hold("a")
    gc.collect()
    world.run(100)
    assert world.calls == []


def test_a_hold_that_was_dropped_is_not_kept(world: World) -> None:
    hold = world.hold("a")
    world.run(15)
    world.beats.drop(hold)
    world.beats.drop(hold)
    world.run(100)
    assert len(world.calls) == 1


def test_a_longer_time_than_a_beat_asks_for_stays(world: World) -> None:
    hold = world.hold("a")
    world.deadlines["a"] = world.clock.now_s + 90
    world.run(80)
    assert lost(hold) is None
    assert len(world.calls) < 8


def test_more_holds_than_one_call_takes_are_several(world: World) -> None:
    holds = [world.hold(f"h{n}") for n in range(1001)]
    world.run(11)
    assert [len(names) for _, names in world.calls] == [1000, 1]
    assert all(lost(hold) is None for hold in holds)


def test_a_hold_of_ours_that_has_ended_is_not_lost(world: World) -> None:
    hold = world.hold("a")
    flow = hold.ask_settle()
    next(flow)
    hold.note_lost(creditgate.HoldSettled("by ourselves"))
    assert lost(hold) is None


def test_answers_without_an_answer_are_a_defect_of_the_server() -> None:
    operations = [calls.settle("a", "h")]
    with pytest.raises(ValueError, match="without an answer"):
        answers(operations, ExecuteResponse(results=[Result()]))
    with pytest.raises(ValueError, match="shorter"):
        answers(operations, ExecuteResponse())


# With a real thread, and a real task: the shortest time to live, a second.


def test_one_thread_extends_the_holds_of_a_client(server: FakeServer) -> None:
    with Client(server.address) as client:
        with (
            client.hold("acct", "a", action="x", ttl=1) as one,
            client.hold("acct", "b", action="x", ttl=1) as two,
        ):
            server.wait_for("execute", 2)
        assert lost(one) is lost(two) is None
        asked = {
            operation.extend.hold_id
            for request in server.requests("execute")
            for operation in request.operations
        }
        assert asked == {"a", "b"}
        thread = client.heart()._thread
        assert thread is not None
        with client.hold("acct", "c", action="x"):
            assert client.heart()._thread is thread
    assert not thread.is_alive()


async def test_one_task_extends_the_holds_of_an_event_loop(server: FakeServer) -> None:
    async with AsyncClient(server.address) as client:
        async with (
            client.hold("acct", "a", action="x", ttl=1) as one,
            client.hold("acct", "b", action="x", ttl=1) as two,
        ):
            await asyncio.to_thread(server.wait_for, "execute", 2)
        assert lost(one) is lost(two) is None
        task = client.heart()._task
        assert task is not None
        await asyncio.wait([task], timeout=5)
        assert task.done()
        async with client.hold("acct", "c", action="x"):
            assert client.heart()._task is not task


def test_the_thread_outlives_what_goes_wrong(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.tell("execute", UNAVAILABLE, ExecuteResponse())
    server.tell("execute.extend", Fails(C.FAILED_PRECONDITION, "HOLD_EXPIRED", "not-applied"))
    with (
        caplog.at_level(logging.WARNING),
        Client(server.address) as client,
        client.hold("acct", "a", action="x", ttl=1) as hold,
    ):
        server.wait_for("execute", 3)
        end = time.monotonic() + 5
        while lost(hold) is None and time.monotonic() < end:
            time.sleep(0.01)
        assert isinstance(lost(hold), creditgate.HoldExpired)
    assert caplog.text.count("could not be extended") == 2


def test_a_hold_without_a_heartbeat_starts_no_thread(server: FakeServer) -> None:
    with Client(server.address) as client:
        with client.hold("acct", "a", action="x", heartbeat=False):
            pass
        assert client.heart()._thread is None


def test_a_client_that_is_closed_in_a_block_does_not_hide_the_error(server: FakeServer) -> None:
    client = Client(server.address)

    def job() -> None:
        with client.hold("acct", "a", action="x"):
            client.close()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        job()
    assert "the client is closed" in caught.value.__notes__[0]
