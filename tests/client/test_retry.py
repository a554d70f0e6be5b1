"""What is asked again, when, and with which bytes."""

from __future__ import annotations

import threading
from typing import Any

import grpc
import grpc_testing  # type: ignore[import-untyped] # not marked
import pytest
from hypothesis import given
from hypothesis import strategies as st

import creditgate
from creditgate import RetryPolicy, Timing, calls, errors
from creditgate._channels import Processes
from creditgate._faults import of_rpc
from creditgate._methods import METHODS
from creditgate._retry import Retries
from creditgate.v1 import credits_pb2
from tests.client.bench import AnyClient, Clock, make_client
from tests.client.fake import UNAVAILABLE, Fails, FakeServer, after_applying, when

SETTLE = calls.settle("a", "h", quantity=3)
C = grpc.StatusCode


async def test_a_retry_is_the_same_request_to_the_last_byte(
    client: AnyClient, server: FakeServer
) -> None:
    settings = {f"setting-{n}": "x" for n in range(16)}
    server.tell("authorize", UNAVAILABLE, after_applying(UNAVAILABLE), UNAVAILABLE)
    answer = await client.authorize("a", "h", action="x", settings=settings)
    assert answer.replayed
    bodies = server.bodies("authorize")
    assert len(bodies) == 4
    assert len(set(bodies)) == 1


RETRIED = [
    Fails(C.UNAVAILABLE),
    Fails(C.UNAVAILABLE, "STORE_UNAVAILABLE", "unknown"),
    Fails(C.UNAVAILABLE, "STORE_UNAVAILABLE", "not-applied"),
    Fails(C.UNAVAILABLE, "SHUTTING_DOWN", "not-applied"),
    Fails(C.RESOURCE_EXHAUSTED, "OVERLOADED", "not-applied"),
    Fails(C.DEADLINE_EXCEEDED),
    Fails(C.ABORTED),
    Fails(C.CANCELLED),
    Fails(C.INTERNAL, "INTERNAL", "unknown", {"incident": "1"}),
    Fails(C.INTERNAL, "INTERNAL", "applied", {"incident": "1"}),
    Fails(C.UNKNOWN),
]
FINAL = [
    Fails(C.INVALID_ARGUMENT, "INVALID_FIELD", "not-applied", {"field": "job.quantity"}),
    Fails(C.NOT_FOUND, "HOLD_NOT_FOUND", "not-applied"),
    Fails(C.ALREADY_EXISTS, "ID_REUSED", "not-applied"),
    Fails(C.FAILED_PRECONDITION, "HOLD_SETTLED", "not-applied"),
    Fails(C.RESOURCE_EXHAUSTED, "TOO_MANY_OPERATIONS", "not-applied"),
    Fails(C.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE", "not-applied"),
    Fails(C.INTERNAL, "INTERNAL", "not-applied", {"incident": "1"}),
    Fails(C.UNAUTHENTICATED),
    Fails(C.PERMISSION_DENIED),
    Fails(C.UNIMPLEMENTED, "NO_SUCH_METHOD", "not-applied"),
]


def named(fails: Fails) -> str:
    return " ".join(filter(None, (fails.code.name, fails.reason, fails.outcome)))


@pytest.mark.parametrize("fails", RETRIED, ids=named)
async def test_what_may_be_answered_otherwise_is_asked_again(
    client: AnyClient, server: FakeServer, fails: Fails
) -> None:
    server.tell("settle", fails, credits_pb2.SettleResponse(charged=30))
    assert (await client.settle("a", "h", quantity=3)).charged == 30
    assert len(server.requests("settle")) == 2


@pytest.mark.parametrize("fails", FINAL, ids=named)
async def test_a_verdict_is_not_asked_for_again(
    client: AnyClient, server: FakeServer, fails: Fails
) -> None:
    server.tell("settle", fails)
    with pytest.raises(creditgate.Fault):
        await client.settle("a", "h", quantity=3)
    assert len(server.requests("settle")) == 1


async def test_a_read_with_a_defect_is_not_asked_again(
    client: AnyClient, server: FakeServer
) -> None:
    server.tell("get_account", Fails(C.INTERNAL, "INTERNAL", "unknown", {"incident": "i-1"}))
    with pytest.raises(creditgate.ServerDefect) as caught:
        await client.get_account("a")
    assert caught.value.incident == "i-1"
    assert len(server.requests("get_account")) == 1


OVERLOADED = Fails(C.RESOURCE_EXHAUSTED, "OVERLOADED", "not-applied")
SETTLED = Fails(C.FAILED_PRECONDITION, "HOLD_SETTLED", "not-applied")


@pytest.mark.parametrize(
    ("attempts", "kind", "outcome"),
    [
        ([OVERLOADED], errors.Unavailable, "not-applied"),
        ([UNAVAILABLE], errors.OutcomeUnknown, "unknown"),
        ([UNAVAILABLE, OVERLOADED], errors.OutcomeUnknown, "unknown"),
        ([UNAVAILABLE, Fails(C.UNAUTHENTICATED)], errors.OutcomeUnknown, "unknown"),
        ([UNAVAILABLE, SETTLED], errors.HoldSettled, "not-applied"),
        (
            [UNAVAILABLE, Fails(C.INTERNAL, "INTERNAL", "applied")],
            errors.ServerDefect,
            "applied",
        ),
    ],
    ids=["not applied", "lost", "lost, then refused", "lost, then kept out", "judged", "told"],
)
async def test_one_lost_answer_leaves_the_outcome_unknown_until_it_is_judged(
    client: AnyClient, server: FakeServer, attempts: list[Fails], kind: Any, outcome: str
) -> None:
    server.tell("settle", *attempts, *[attempts[-1]] * 100)
    with pytest.raises(creditgate.Fault) as caught:
        await client.settle("a", "h", quantity=3)
    assert type(caught.value) is kind
    assert caught.value.outcome == outcome
    assert caught.value.call == SETTLE


async def test_an_unknown_outcome_is_cleared_up_by_the_call_it_carries(
    client: AnyClient, server: FakeServer
) -> None:
    await client.authorize("a", "h", action="x", quantity=4)
    once = client.with_options(budget_s=0)
    server.tell("settle", after_applying(UNAVAILABLE))
    with pytest.raises(creditgate.OutcomeUnknown) as caught:
        await once.settle("a", "h", quantity=3)
    answer = await client.call(caught.value.call)
    assert (answer.charged, answer.replayed) == (30, True)


async def test_a_budget_of_zero_is_one_attempt(
    client: AnyClient, server: FakeServer, clock: Clock
) -> None:
    server.tell("settle", UNAVAILABLE)
    with pytest.raises(creditgate.OutcomeUnknown):
        await client.with_options(budget_s=0).settle("a", "h")
    assert len(server.requests("settle")) == 1
    assert clock.slept == []


async def test_all_attempts_together_stay_in_the_budget(
    client: AnyClient, server: FakeServer, clock: Clock
) -> None:
    server.tell("settle", *[UNAVAILABLE] * 100)
    with pytest.raises(creditgate.OutcomeUnknown):
        await client.with_options(budget_s=3).settle("a", "h")
    assert clock.slept == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0]
    assert len(server.requests("settle")) == 7


@pytest.mark.parametrize("client", ["sync", "async"], indirect=True)
async def test_an_attempt_without_an_answer_is_given_up_after_its_time(
    client: AnyClient, server: FakeServer
) -> None:
    released = threading.Event()
    server.tell("authorize", when(released))
    answer = await client.with_options(timeout_s=0.2).authorize("a", "h", action="x")
    released.set()
    assert answer.hold.hold_id == "h"
    assert len(set(server.bodies("authorize"))) == 1
    assert len(server.bodies("authorize")) == 2
    assert all(0 < asked.time_s < 0.3 for asked in server.asked)


@pytest.mark.parametrize("client", ["sync", "async"], indirect=True)
async def test_a_server_that_asks_for_a_pause_gets_it(
    client: AnyClient, server: FakeServer, clock: Clock
) -> None:
    told = (("grpc-retry-pushback-ms", "1500"),)
    server.tell("settle", Fails(C.UNAVAILABLE, trailing=told), Fails(C.UNAVAILABLE, retry_s=2.5))
    server.tell("settle", credits_pb2.SettleResponse())
    await client.settle("a", "h")
    assert clock.slept == [1.5, 2.5]


@pytest.mark.parametrize("said", ["-1", "soon", "20000"])
@pytest.mark.parametrize("client", ["sync", "async"], indirect=True)
async def test_a_server_that_asks_not_to_come_again_is_left_alone(
    client: AnyClient, server: FakeServer, said: str
) -> None:
    server.tell("settle", Fails(C.UNAVAILABLE, trailing=(("grpc-retry-pushback-ms", said),)))
    with pytest.raises(creditgate.OutcomeUnknown):
        await client.settle("a", "h")
    assert len(server.requests("settle")) == 1


class Refusal(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return C.UNAVAILABLE

    def details(self) -> str:
        return "down"

    def trailing_metadata(self) -> Any:
        return None


@given(
    budget_s=st.floats(0, 100),
    timeout_s=st.floats(0.001, 100),
    backoff_s=st.floats(0.001, 10),
    chances=st.lists(st.floats(0, 1, exclude_max=True), min_size=1),
    took=st.floats(0, 3),
)
def test_no_attempt_begins_or_ends_after_the_budget(
    budget_s: float, timeout_s: float, backoff_s: float, chances: list[float], took: float
) -> None:
    clock = Clock()
    count = 0

    def random() -> float:
        return chances[count % len(chances)]

    policy = RetryPolicy(timeout_s=timeout_s, budget_s=budget_s, backoff_s=backoff_s)
    retries = Retries(SETTLE, policy, Timing(now=clock.now, random=random))
    assert retries.timeout_s == timeout_s
    end = clock.now() + budget_s
    while count < 300:
        clock.sleep(min(took, retries.timeout_s))
        try:
            pause_s = retries.failed(of_rpc(Refusal()))
        except creditgate.OutcomeUnknown:
            break
        count += 1
        assert 0 <= pause_s <= min(policy.backoff_max_s, backoff_s * 2.0 ** (count - 1))
        clock.sleep(pause_s)
        assert clock.now() < end
        assert clock.now() + retries.timeout_s <= end + 1e-6


@pytest.mark.parametrize(
    "wrong",
    [{"timeout_s": 0}, {"timeout_s": -1}, {"budget_s": -1}, {"backoff_s": -0.1}],
    ids=str,
)
def test_a_policy_that_cannot_be_kept_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        RetryPolicy(**wrong)


def test_no_patience_at_all_is_not_taken_for_the_default() -> None:
    with pytest.raises(ValueError, match="must be"):
        creditgate.Client(timeout_s=0)
    assert creditgate.Client(budget_s=0).retry.budget_s == 0


async def test_a_policy_is_the_whole_clients(server: FakeServer, clock: Clock) -> None:
    policy = RetryPolicy(backoff_s=0.5, backoff_max_s=0.6)
    client = make_client("sync", server.address, clock, policy)
    server.tell("settle", UNAVAILABLE, UNAVAILABLE, credits_pb2.SettleResponse())
    await client.settle("a", "h")
    assert clock.slept == [0.5, 0.6]
    await client.close()


def test_the_sync_client_asks_a_channel_as_grpc_would_have_it(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """Over a channel of grpcio-testing: without a network, step by step."""
    services = [
        credits_pb2.DESCRIPTOR.services_by_name["Credits"],
    ]
    channel = grpc_testing.channel(services, grpc_testing.strict_real_time())
    monkeypatch.setattr(Processes, "_connect", lambda _: channel)
    client = creditgate.Client(timing=clock.timing, sleep=clock.sleep)
    (settle,) = [m for m in services[0].methods if m.name == "Settle"]
    answers: list[Any] = []
    thread = threading.Thread(
        target=lambda: answers.append(client.settle("a", "h", quantity=3)), daemon=True
    )
    thread.start()
    bodies = []
    for code in (C.UNAVAILABLE, C.OK):
        _, body, rpc = channel.take_unary_unary(settle)
        bodies.append(body)
        rpc.send_initial_metadata(())
        answer = credits_pb2.SettleResponse(charged=30) if code is C.OK else None
        rpc.terminate(answer, (), code, "")
    thread.join(10)
    assert answers[0].charged == 30
    assert bodies == [SETTLE.request.SerializeToString()] * 2
    assert METHODS["settle"].path == "/creditgate.v1.Credits/Settle"
