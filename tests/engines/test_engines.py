"""What engines carry, what they refuse by themselves, and what they finish though nobody waits.

Each test runs on both, and none of them can tell which.
"""

import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from creditgate_server.core.faults import Reason
from creditgate_server.engines import choice
from creditgate_server.engines.engine import METADATA_BYTES_MAX
from tests.rpc.contract import path_of, request_of
from tests.rpc.shop import ONE, Shop, refused, send, shop

CATALOG = "/creditgate.v1.Catalog/GetCatalog"


@pytest.fixture(scope="module", params=["core", "aio"])
def found(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    with shop(tmp_path_factory.mktemp("engine"), engine=request.param) as running:
        yield running


@pytest.mark.parametrize(
    "path",
    [
        "/creditgate.v1.Credits/Reserve",
        "/creditgate.v1.Credits/authorize",
        "/creditgate.v1.Credits/",
        "/creditgate.v2.Credits/Authorize",
        "/creditgate.v1.TestClock/Advance",
        "/grpc.health.v1.Health/Nothing",
        "/x",
        "/",
        "/" + "x" * 5000,
        "/creditgate.v1.Credits/Authorize/",
        "//creditgate.v1.Credits/Authorize",
    ],
)
def test_a_method_that_there_is_not_is_told_so(found: Shop, path: str) -> None:
    with refused(Reason.NO_SUCH_METHOD):
        send(found.channel, path, b"")


def test_metadata_may_have_8_kib_and_are_refused_beyond_always(found: Shop) -> None:
    assert METADATA_BYTES_MAX == 8192
    assert send(found.channel, CATALOG, b"", metadata=(("x-it", "a" * 7_000),))
    # Some times each: between two limits gRPC would refuse some and not others.
    for size in (8_200, 12_000, 12_000, 12_000, 12_000, 16_000):
        with pytest.raises(grpc.RpcError) as caught:
            send(found.channel, CATALOG, b"", metadata=(("x-it", "a" * size),))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_many_small_metadata_count_together(found: Shop) -> None:
    flood = tuple((f"x-{number}", "a") for number in range(500))
    with pytest.raises(grpc.RpcError) as caught:
        send(found.channel, CATALOG, b"", metadata=flood)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert send(found.channel, CATALOG, b"")


def test_a_message_beyond_the_largest_of_all_methods_is_refused_unread(found: Shop) -> None:
    for size in (1024 * 1024 + 1025, 8 * 1024 * 1024):
        with pytest.raises(grpc.RpcError) as caught:
            send(found.channel, CATALOG, b"\x00" * size)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert send(found.channel, CATALOG, b"")


def test_of_several_messages_in_one_call_the_first_is_the_request(found: Shop) -> None:
    method: grpc.StreamUnaryMultiCallable[bytes, bytes] = found.channel.stream_unary(CATALOG)
    assert method(iter([b"", b"\xff", b"\xff"]), timeout=10)


def test_callers_who_end_their_side_without_a_request_cost_others_nothing(found: Shop) -> None:
    """The one thing in which engines differ: grpc.aio lets such a call stand until its deadline."""
    method: grpc.StreamUnaryMultiCallable[bytes, bytes] = found.channel.stream_unary(CATALOG)
    idle = [method.future(iter(()), timeout=0.3) for _ in range(50)]
    assert send(found.channel, CATALOG, b"")
    codes = {"core": grpc.StatusCode.INVALID_ARGUMENT, "aio": grpc.StatusCode.DEADLINE_EXCEEDED}
    for call in idle:
        assert call.code() is codes[found.running.engine]


def test_callers_who_never_send_their_request_cost_others_nothing(found: Shop) -> None:
    """Such a call stands until its own deadline, says gRPC; for us it is not under way."""
    method: grpc.StreamUnaryMultiCallable[bytes, bytes] = found.channel.stream_unary(CATALOG)
    silent = threading.Event()
    idle = [method.future(_silence(silent), timeout=0.3) for _ in range(50)]
    assert send(found.channel, CATALOG, b"")
    for call in idle:
        assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    silent.set()


def _silence(end: threading.Event) -> Iterator[bytes]:
    end.wait(10)
    yield from ()


def test_what_a_caller_left_is_finished_and_can_be_asked_for_again(found: Shop) -> None:
    account = found.account(1_000)
    method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = found.channel.unary_unary(
        path_of("Authorize")
    )
    sent = []
    for number in range(100):
        request = request_of(
            "Authorize", account_id=account.account_id, hold_id=f"left-{number}", job=ONE
        )
        call = method.future(request.SerializeToString(), timeout=10)
        time.sleep(number * 2e-5)
        call.cancel()
        sent.append(request)
    for request in sent:
        account.call("Authorize", request)
    assert account.figures() == (900, 100, 0)
    assert [entry.seq for entry in account.ledger()] == list(range(1, 102))


def test_a_deadline_that_has_passed_is_told_by_grpc_and_decided_by_asking_again(
    found: Shop,
) -> None:
    account = found.account(100)
    request = request_of("Authorize", account_id=account.account_id, hold_id="late", job=ONE)
    with pytest.raises(grpc.RpcError) as caught:
        send(found.channel, path_of("Authorize"), request.SerializeToString(), timeout_s=-1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    account.call("Authorize", request)
    assert account.figures() == (99, 1, 0)


async def test_an_address_that_is_taken_is_an_error(found: Shop) -> None:
    engine = choice.engine(found.running.engine, {})
    with pytest.raises(OSError, match="cannot listen"):
        engine.bind(found.running.address)
    await engine.stop(0)
