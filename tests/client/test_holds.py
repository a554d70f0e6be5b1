"""The guard: what becomes of a hold, however its block ends."""

# ruff: noqa: PT012, TRY301 - A block that raises is what is tested.

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import grpc
import pytest

import creditgate
from creditgate import AsyncClient, Client, HoldState
from creditgate._holds import _LEAVING
from creditgate.v1 import credits_pb2
from creditgate.v1.credits_pb2 import RefundReason
from creditgate.v1.resources_pb2 import Decision, DenialReason
from tests.client.bench import AnyClient, AnyHold
from tests.client.fake import (
    EXPIRED,
    OPEN,
    REFUNDED,
    SETTLED,
    UNAVAILABLE,
    Fails,
    FakeServer,
    after_applying,
    when,
)

C = grpc.StatusCode
LOST = after_applying(UNAVAILABLE)


def verbs(server: FakeServer) -> list[str]:
    return [asked.method for asked in server.asked]


async def test_what_was_delivered_is_taken_and_the_rest_returns(
    client: AnyClient, server: FakeServer
) -> None:
    async with client.hold() as hold:
        assert (hold.it.amount, hold.it.replayed) == (40, False)
        answer = await hold.settle(quantity=3)
    assert (answer.charged, answer.returned) == (30, 10)
    assert verbs(server) == ["authorize", "settle"]
    assert hold.it.record.state == HoldState.HOLD_STATE_SETTLED


async def test_a_block_that_ends_without_a_settle_is_settled_in_full(
    client: AnyClient, server: FakeServer
) -> None:
    async with client.hold():
        pass
    assert verbs(server) == ["authorize", "settle"]
    assert not server.requests("settle")[0].HasField("delivered")
    assert server.hold("acct", "job").charged == 40


async def test_an_exception_refunds_and_goes_on(client: AnyClient, server: FakeServer) -> None:
    with pytest.raises(ZeroDivisionError):
        async with client.hold():
            1 / 0  # noqa: B018 - it raises
    assert server.hold("acct", "job").state == REFUNDED
    assert server.requests("refund")[0].reason == RefundReason.REFUND_REASON_FAILED


@pytest.mark.parametrize(
    ("error", "on_cancel", "reason"),
    [
        (KeyboardInterrupt, "CANCELLED", "FAILED"),
        (SystemExit, "CANCELLED", "FAILED"),
        (RuntimeError, "CANCELLED", "FAILED"),
        (asyncio.CancelledError, None, "FAILED"),
        (asyncio.CancelledError, "CANCELLED", "CANCELLED"),
        (asyncio.CancelledError, RefundReason.REFUND_REASON_CANCELLED, "CANCELLED"),
    ],
)
async def test_who_ended_the_job_is_what_the_caller_says_of_cancellations(
    client: AnyClient, server: FakeServer, error: Any, on_cancel: Any, reason: str
) -> None:
    said = {} if on_cancel is None else {"on_cancel": on_cancel}
    try:
        async with client.hold(**said):
            raise error
    except error:
        pass
    assert server.requests("refund")[0].reason == RefundReason.Value(f"REFUND_REASON_{reason}")


async def test_the_first_error_is_the_one_raised_even_if_the_refund_fails(
    client: AnyClient, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    with server.always("refund", UNAVAILABLE), pytest.raises(ZeroDivisionError) as caught:
        async with client.hold():
            1 / 0  # noqa: B018 - it raises
    (note,) = caught.value.__notes__
    assert "the hold job of acct" in note
    assert "it returns by itself at 2023-11-14T22:23:20+00:00" in note
    assert note in caplog.text


async def test_a_denial_is_raised_before_the_block_begins(
    client: AnyClient, server: FakeServer
) -> None:
    denied = credits_pb2.AuthorizeResponse(
        decision=Decision.DECISION_DENIED,
        denial_reason=DenialReason.DENIAL_REASON_PRICE_CHANGED,
        amount=50,
    )
    server.tell("authorize", denied)
    ran = False
    with pytest.raises(creditgate.PriceChanged) as caught:
        async with client.hold(max_amount=40):
            ran = True
    assert not ran
    assert caught.value.amount == 50
    assert verbs(server) == ["authorize"]


async def test_a_block_may_refund_by_itself(client: AnyClient, server: FakeServer) -> None:
    async with client.hold() as hold:
        await hold.refund(reason="CANCELLED")
    assert verbs(server) == ["authorize", "refund"]
    assert server.requests("refund")[0].reason == RefundReason.REFUND_REASON_CANCELLED


async def test_an_error_after_the_settle_leaves_the_settle(
    client: AnyClient, server: FakeServer
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with client.hold() as hold:
            await hold.settle(quantity=3)
            1 / 0  # noqa: B018 - it raises
    assert verbs(server) == ["authorize", "settle"]


@pytest.mark.parametrize("step", [LOST, UNAVAILABLE], ids=["applied", "not applied"])
async def test_a_settle_of_unknown_outcome_is_never_answered_with_a_refund(
    client: AnyClient, server: FakeServer, step: Any
) -> None:
    with server.always("settle", step), pytest.raises(creditgate.OutcomeUnknown) as caught:
        async with client.hold() as hold:
            await hold.settle(quantity=3)
    assert "refund" not in verbs(server)
    assert len(set(server.bodies("settle"))) == 1
    assert "a settle was tried" in caught.value.__notes__[0]


async def test_a_settle_of_unknown_outcome_is_made_again_as_it_was_when_the_block_ends(
    client: AnyClient, server: FakeServer
) -> None:
    async with client.hold() as hold:
        with server.always("settle", UNAVAILABLE), pytest.raises(creditgate.OutcomeUnknown):
            await hold.settle(quantity=3)
    assert len(set(server.bodies("settle"))) == 1
    assert server.hold("acct", "job").charged == 30


async def test_a_settle_of_unknown_outcome_may_be_called_again(
    client: AnyClient, server: FakeServer
) -> None:
    async with client.hold() as hold:
        with server.always("settle", LOST), pytest.raises(creditgate.OutcomeUnknown):
            await hold.settle(quantity=3)
        assert (await hold.settle(quantity=3)).replayed
    assert len(set(server.bodies("settle"))) == 1


async def test_a_settle_that_was_interrupted_is_made_again_not_refunded(
    client: AnyClient, server: FakeServer
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with client.hold() as hold:
            with server.always("settle", UNAVAILABLE), pytest.raises(creditgate.OutcomeUnknown):
                await hold.settle(quantity=3)
            1 / 0  # noqa: B018 - it raises
    assert "refund" not in verbs(server)
    assert server.hold("acct", "job").charged == 30


async def test_a_settle_that_was_refused_is_not_answered_with_a_refund(
    client: AnyClient, server: FakeServer
) -> None:
    exceeds = Fails(C.FAILED_PRECONDITION, "AMOUNT_EXCEEDS_HOLD", "not-applied", {"held": "40"})
    server.tell("settle", exceeds)
    with pytest.raises(creditgate.AmountExceedsHold) as caught:
        async with client.hold() as hold:
            await hold.settle(quantity=5)
    assert "refund" not in verbs(server)
    assert server.hold("acct", "job").state == OPEN
    assert "returns by itself" in caught.value.__notes__[0]


async def test_a_refused_settle_that_the_block_has_dealt_with_is_settled_in_full(
    client: AnyClient, server: FakeServer
) -> None:
    exceeds = Fails(C.FAILED_PRECONDITION, "AMOUNT_EXCEEDS_HOLD", "not-applied", {"held": "40"})
    server.tell("settle", exceeds)
    async with client.hold() as hold:
        with pytest.raises(creditgate.AmountExceedsHold):
            await hold.settle(quantity=5)
    assert server.hold("acct", "job").charged == 40


async def test_every_partial_settle_has_an_id_of_its_own(
    client: AnyClient, server: FakeServer
) -> None:
    async with client.hold() as hold:
        for _ in range(3):
            await hold.settle(quantity=1, partial=True)
        await hold.settle(quantity=1, partial=True, operation_id="mine")
    ids = [request.operation_id for request in server.requests("settle")]
    assert ids == ["settle-1", "settle-2", "settle-3", "mine", ""]
    assert server.hold("acct", "job").charged == 40


async def test_a_partial_settle_that_is_called_again_is_the_same_settle(
    client: AnyClient, server: FakeServer
) -> None:
    async with client.hold() as hold:
        await hold.settle(quantity=1, partial=True)
        with server.always("settle", LOST), pytest.raises(creditgate.OutcomeUnknown):
            await hold.settle(quantity=1, partial=True)
        assert (await hold.settle(quantity=1, partial=True)).replayed
        await hold.settle(quantity=1, partial=True)
        await hold.settle(quantity=0)
    ids = {request.operation_id for request in server.requests("settle")}
    assert ids == {"settle-1", "settle-2", "settle-3", ""}
    assert server.hold("acct", "job").charged == 30


async def test_a_partial_settle_without_an_answer_comes_before_all_that_follow(
    client: AnyClient, server: FakeServer
) -> None:
    async with client.hold() as hold:
        with server.always("settle", UNAVAILABLE), pytest.raises(creditgate.OutcomeUnknown):
            await hold.settle(quantity=1, partial=True)
        await hold.settle(quantity=2, partial=True)
        await hold.settle(quantity=0)
    ids = [request.operation_id for request in server.requests("settle")]
    assert ids == ["settle-1"] * (len(ids) - 2) + ["settle-2", ""]
    assert server.hold("acct", "job").charged == 30


async def test_a_second_run_of_a_job_charges_nothing_that_the_first_has_charged(
    client: AnyClient, server: FakeServer
) -> None:
    first = client.it.hold("acct", "job", action="x", quantity=4, heartbeat=False)
    crashed = AnyHold(first)
    await crashed.begin()
    await crashed.settle(quantity=1, partial=True)
    await crashed.settle(quantity=1, partial=True)
    async with client.hold() as hold:
        assert hold.it.replayed
        assert (await hold.settle(quantity=1, partial=True)).replayed
        assert (await hold.settle(quantity=1, partial=True)).replayed
        assert not (await hold.settle(quantity=1, partial=True)).replayed
        await hold.settle(quantity=0)
    assert server.hold("acct", "job").charged == 30


@pytest.mark.parametrize("state", [SETTLED, REFUNDED, EXPIRED, 99])
async def test_a_job_whose_hold_has_ended_is_not_run_again(
    client: AnyClient, server: FakeServer, state: Any
) -> None:
    async with client.hold():
        pass
    server.hold("acct", "job").state = state
    ran = False
    with pytest.raises(creditgate.AlreadyRun) as caught:
        async with client.hold():
            ran = True
    assert not ran
    assert caught.value.state == state
    assert caught.value.hold == server.hold("acct", "job")
    assert verbs(server) == ["authorize", "settle", "authorize"]


@pytest.mark.parametrize("state", [SETTLED, REFUNDED])
@pytest.mark.parametrize("error", [None, RuntimeError])
async def test_a_job_that_is_run_again_on_purpose_changes_nothing(
    client: AnyClient, server: FakeServer, state: Any, error: Any
) -> None:
    async with client.hold():
        pass
    server.hold("acct", "job").state = state
    before = server.hold("acct", "job").SerializeToString()
    try:
        async with client.hold(run_again=True, heartbeat=True):
            if error:
                raise error
    except RuntimeError:
        pass
    assert server.hold("acct", "job").SerializeToString() == before
    assert verbs(server) == ["authorize", "settle", "authorize"]


async def test_a_job_whose_hold_expired_is_settled_late_if_it_is_run_again(
    client: AnyClient, server: FakeServer
) -> None:
    async with client.hold():
        pass
    server.hold("acct", "job").state = EXPIRED
    server.tell("settle", credits_pb2.SettleResponse(charged=20, shortfall=20, late=True))
    async with client.hold(run_again=True):
        pass
    assert verbs(server)[-1] == "settle"


async def test_a_run_that_fails_does_not_undo_the_other_run_of_its_job(
    client: AnyClient, server: FakeServer
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with client.hold():
            server.hold("acct", "job").state = SETTLED
            1 / 0  # noqa: B018 - it raises
    assert "refund" not in verbs(server)


async def test_a_run_that_comes_second_takes_the_job_as_paid(
    client: AnyClient, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with client.hold():
        server.hold("acct", "job").state = SETTLED
    assert "had been settled" in caplog.text


async def test_a_job_whose_hold_another_run_refunded_is_told_at_the_end(
    client: AnyClient, server: FakeServer
) -> None:
    with pytest.raises(creditgate.HoldRefunded):
        async with client.hold():
            server.hold("acct", "job").state = REFUNDED


async def test_a_shortfall_at_the_end_is_logged(
    client: AnyClient, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.tell("settle", credits_pb2.SettleResponse(charged=30, shortfall=10))
    async with client.hold():
        pass
    assert "a shortfall of 10" in caplog.text


async def test_a_hold_can_be_raised_and_moved(client: AnyClient, server: FakeServer) -> None:
    async with client.hold(ttl=60) as hold:
        await hold.raise_to(quantity=6)
        assert hold.it.amount == 60
        before = hold.it.deadline
        await hold.extend(ttl=120)
        assert hold.it.deadline > before
    asked = [(r.ttl.seconds, r.quantity) for r in server.requests("extend")]
    assert asked == [(60, 6), (120, 0)]


async def test_a_raise_that_is_denied_is_raised(client: AnyClient, server: FakeServer) -> None:
    denied = credits_pb2.ExtendResponse(
        decision=Decision.DECISION_DENIED,
        denial_reason=DenialReason.DENIAL_REASON_INSUFFICIENT_CREDITS,
        missing=5,
    )
    server.tell("extend", denied)
    async with client.hold() as hold:
        with pytest.raises(creditgate.InsufficientCredits) as caught:
            await hold.raise_to(amount=45)
        assert caught.value.missing == 5
        assert hold.it.amount == 40


async def test_the_code_in_the_block_can_ask_which_hold_it_runs_in(client: AnyClient) -> None:
    assert creditgate.current_hold() is None
    async with client.hold(hold_id="outer") as outer:
        async with client.hold(hold_id="inner") as inner:
            assert creditgate.current_hold() is inner.it
        assert creditgate.current_hold() is outer.it
    assert creditgate.current_hold() is None


async def test_tasks_of_a_block_see_its_hold(server: FakeServer) -> None:
    async with AsyncClient(server.address) as client:

        async def inside() -> Any:
            return creditgate.current_hold()

        async with client.hold("a", "h", action="x") as hold:
            assert await asyncio.create_task(inside()) is hold
        assert await asyncio.create_task(inside()) is None


async def test_a_guard_is_for_one_block(client: AnyClient) -> None:
    guard = client.it.hold("a", "h", action="x", heartbeat=False)
    with pytest.raises(RuntimeError, match="authorized when its block is entered"):
        _ = guard.amount
    await AnyHold(guard).begin()
    with pytest.raises(RuntimeError, match="one block"):
        await AnyHold(guard).begin()


async def test_a_cancelled_task_refunds_before_it_is_gone(server: FakeServer) -> None:
    async with AsyncClient(server.address) as client:
        running = asyncio.Event()

        async def job() -> None:
            async with client.hold("acct", "job", action="x", on_cancel="CANCELLED"):
                running.set()
                await asyncio.sleep(30)

        task = asyncio.create_task(job())
        await running.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert server.hold("acct", "job").state == REFUNDED
    assert server.requests("refund")[0].reason == RefundReason.REFUND_REASON_CANCELLED


async def test_a_task_that_is_cancelled_twice_refunds_all_the_same(server: FakeServer) -> None:
    released = threading.Event()
    async with AsyncClient(server.address) as client:
        running = asyncio.Event()

        async def job() -> None:
            async with client.hold("acct", "job", action="x"):
                running.set()
                await asyncio.sleep(30)

        task = asyncio.create_task(job())
        await running.wait()
        server.tell("refund", when(released))
        task.cancel()
        await asyncio.to_thread(server.wait_for, "refund", 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        released.set()
        await asyncio.gather(*_LEAVING)
    assert server.hold("acct", "job").state == REFUNDED


async def test_a_settle_that_is_cancelled_half_way_is_made_again(server: FakeServer) -> None:
    released = threading.Event()
    async with AsyncClient(server.address) as client:

        async def job() -> None:
            async with client.hold("acct", "job", action="x", quantity=4) as hold:
                await hold.settle(quantity=3)

        server.tell("settle", when(released))
        task = asyncio.create_task(job())
        await asyncio.to_thread(server.wait_for, "settle", 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        released.set()
    assert "refund" not in verbs(server)
    assert len(set(server.bodies("settle"))) == 1
    assert server.hold("acct", "job").charged == 30


async def test_threads_that_settle_parts_at_once_take_ids_of_their_own(
    server: FakeServer,
) -> None:
    with Client(server.address) as client:
        with client.hold("acct", "job", action="x", quantity=8, heartbeat=False) as hold:
            threads = [
                threading.Thread(target=lambda: hold.settle(quantity=1, partial=True))
                for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        ids = [request.operation_id for request in server.requests("settle")]
    assert sorted(ids) == ["", *(f"settle-{n}" for n in range(1, 9))]


async def test_a_forked_process_that_leaves_the_block_does_not_end_it(
    client: AnyClient, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit):
        async with client.hold():
            real = os.getpid()
            monkeypatch.setattr("creditgate._holds.os.getpid", lambda: real + 1)
            raise SystemExit
    monkeypatch.undo()
    assert verbs(server) == ["authorize"]


def test_a_guard_belongs_to_the_process_that_entered_it_not_the_one_that_made_it(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(server.address) as client:
        real = os.getpid()
        with monkeypatch.context() as patch:
            patch.setattr("creditgate._holds.os.getpid", lambda: real + 1)
            guard = client.hold("acct", "job", action="x")
        with guard:
            pass
    assert server.hold("acct", "job").state == SETTLED


def test_a_guard_has_the_signature_and_the_words_of_its_terms() -> None:
    for kind in (Client, AsyncClient):
        assert "extended in the background" in (kind.hold.__doc__ or "")
    assert creditgate.Hold.settle.__name__ == "settle"
    assert creditgate.Hold.settle.__doc__ == creditgate.AsyncHold.settle.__doc__
