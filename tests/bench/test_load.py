"""A load counts what was asked for and nothing else, from when it was meant to begin."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped] # not marked

from creditgate.v1 import credits_pb2 as pb
from creditgate.v1.resources_pb2 import DECISION_APPROVED, DECISION_DENIED, Hold, Job
from creditgate_server.bench import load
from creditgate_server.bench.load import Latencies, Load, Phase, Wrong, encoded
from creditgate_server.bench.work import (
    BARE,
    BATCH,
    Authorize,
    Empty,
    Execute,
    Holds,
    Messages,
    Pair,
    Work,
)
from tests.bench.slow import Answer, Refused, Stall, serving

HOLDS = Holds(
    accounts=("acct-1", "acct-2", "acct-3"),
    tag="run-00001",
    job=Job(action="image.generate", model="m", quantity=1).SerializeToString(),
)
STALL_S = 0.4
RATE = 250.0


def run(address: str, work: Work, **how: Any) -> Phase:
    return load.run(Load(**{"address": address, "work": work, "callers": 1, **how}))


def approve(_path: str, body: bytes) -> bytes:
    """As creditgate would, if there were credits without end. Settle charges 1."""
    if "Settle" in _path:
        settle = pb.SettleRequest.FromString(body)
        return pb.SettleResponse(charged=1, hold=_hold(settle)).SerializeToString()
    request = pb.AuthorizeRequest.FromString(body)
    answer = pb.AuthorizeResponse(decision=DECISION_APPROVED, hold=_hold(request))
    return answer.SerializeToString()


def _hold(request: pb.AuthorizeRequest | pb.SettleRequest) -> Hold:
    return Hold(account_id=request.account_id, hold_id=request.hold_id)


def deny(_path: str, _body: bytes) -> bytes:
    return pb.AuthorizeResponse(decision=DECISION_DENIED).SerializeToString()


def late_calls(phase: Phase) -> int:
    """How many took a tenth of the pause at least."""
    return sum(took > STALL_S / 10 * 1e9 for _, took in phase.moments)


def test_a_pause_is_felt_by_all_that_were_meant_to_begin_in_it(tmp_path: Path) -> None:
    with serving(tmp_path, Stall(50, STALL_S)) as address:
        phase = run(address, Empty(BARE), rate=RATE, seconds=1.0, callers=16)
    assert phase.operations == RATE
    assert late_calls(phase) >= RATE * STALL_S * 0.8
    assert phase.us(75) > STALL_S / 10 * 1e6


def test_a_load_that_waits_for_answers_would_hide_the_pause(tmp_path: Path) -> None:
    """The bug that the test above catches: its schedule replaced by the callers of a closed one."""
    with serving(tmp_path, Stall(50, STALL_S)) as address:
        phase = run(address, Empty(BARE), seconds=1.0)
    assert phase.us(75) < STALL_S / 10 * 1e6


def test_what_waits_for_a_place_is_late_since_it_was_meant_to_begin(tmp_path: Path) -> None:
    class OneAtATime(Empty):
        def wire(self, address: str) -> Any:
            wire: Any = super().wire(address)
            wire.receive()  # The server's settings, which would say more.
            wire.streams_max = 1
            return wire

    with serving(tmp_path, Stall(50, STALL_S)) as address:
        phase = run(address, OneAtATime(BARE), rate=RATE, seconds=1.0)
    assert late_calls(phase) >= RATE * STALL_S * 0.8


def test_a_load_that_is_held_up_itself_does_not_hide_it(tmp_path: Path) -> None:
    class HeldUp(Empty):
        def open(self) -> Any:
            return self

        def next(self, token: int) -> tuple[str, bytes]:
            if token == 50:
                time.sleep(STALL_S)
            return super().next(token)

    with serving(tmp_path, say_nothing) as address:
        phase = run(address, HeldUp(BARE), rate=RATE, seconds=1.0)
    assert late_calls(phase) >= RATE * STALL_S * 0.8
    assert phase.late_us > STALL_S / 2 * 1e6


def answer_for_another(path: str, body: bytes) -> bytes:
    request = pb.AuthorizeRequest.FromString(body)
    request.hold_id = HOLDS.hold_id(77)
    return approve(path, request.SerializeToString())


def refuse(_path: str, _body: bytes) -> bytes:
    raise Refused(grpc.StatusCode.UNAVAILABLE)


def say_nothing(_path: str, _body: bytes) -> bytes:
    return b""


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (deny, "is not what was asked for"),
        (answer_for_another, "is not what was asked for"),
        (say_nothing, "is not what was asked for"),
        (refuse, "has status 14"),
    ],
)
def test_what_was_not_asked_for_makes_no_figure(answer: Answer, told: str, tmp_path: Path) -> None:
    with serving(tmp_path, answer) as address, pytest.raises(Wrong, match=told):
        run(address, Authorize(holds=HOLDS, count=5))


def test_one_denial_among_many_is_noticed(tmp_path: Path) -> None:
    left = iter(range(300))

    def mostly(path: str, body: bytes) -> bytes:
        return deny(path, body) if next(left) == 200 else approve(path, body)

    with serving(tmp_path, mostly) as address, pytest.raises(Wrong, match="1 answers were wrong"):
        run(address, Authorize(holds=HOLDS, count=300), callers=20)


def test_a_batch_counts_what_was_approved_in_it(tmp_path: Path) -> None:
    def execute(path: str, body: bytes) -> bytes:
        operations = pb.ExecuteRequest.FromString(body).operations
        results = [
            pb.Result(
                authorize=pb.AuthorizeResponse.FromString(
                    (deny if number % 4 == 0 else approve)(
                        path, operation.authorize.SerializeToString()
                    )
                )
            )
            for number, operation in enumerate(operations)
        ]
        return pb.ExecuteResponse(results=results).SerializeToString()

    with serving(tmp_path, execute) as address:
        phase = run(address, Execute(holds=HOLDS, first=0, count=2 * BATCH))
    assert (phase.asked, phase.operations) == (2, 2 * BATCH * 3 // 4)


def test_every_message_is_the_one_that_the_library_makes(tmp_path: Path) -> None:
    """Two methods in turns on one connection, whose headers are numbers from the second on."""
    seen: list[tuple[str, str, str]] = []

    def answer(path: str, body: bytes) -> bytes:
        kind = pb.SettleRequest if "Settle" in path else pb.AuthorizeRequest
        request = kind.FromString(body)
        seen.append((path.rpartition("/")[2], request.account_id, request.hold_id))
        return approve(path, body)

    with serving(tmp_path, answer) as address:
        run(address, Pair(holds=HOLDS), seconds=0.2)
    assert len(seen) > 6
    for number, (placed, settled) in enumerate(zip(seen[::2], seen[1::2], strict=False)):
        hold = (HOLDS.account_of(number), HOLDS.hold_id(number))
        assert (placed, settled) == (("Authorize", *hold), ("Settle", *hold))


def test_large_messages_wait_for_the_windows_of_the_server(tmp_path: Path) -> None:
    bodies = tuple(bytes([n]) * 50_000 for n in range(40))
    seen: list[bytes] = []

    def answer(_path: str, body: bytes) -> bytes:
        seen.append(body)
        return body

    with serving(tmp_path, answer) as address:
        phase = run(address, Messages(path="/a.B/C", bodies=bodies), callers=16)
    assert phase.operations == 40
    assert sorted(seen) == list(bodies)


def test_headers_that_differ_each_time_are_read(tmp_path: Path) -> None:
    numbers = iter(range(1000))

    def answer(_path: str, _body: bytes) -> bytes:
        number = next(numbers)
        if number % 3 == 0:
            raise Refused(grpc.StatusCode.NOT_FOUND, number=str(number))
        return b""

    with serving(tmp_path, answer) as address, pytest.raises(Wrong, match=r"^20 .* status 5$"):
        run(address, Messages(path="/a.B/C", bodies=(b"",) * 60), callers=4)


def test_percentiles_are_those_of_the_times() -> None:
    times_ns = [n * 1_000_000 for n in range(1, 1001)]
    one, other = encoded(times_ns[:500]), encoded(times_ns[500:])
    found = Latencies(one, other)
    assert found.count == 1000
    for percentile, ms in ((50, 500), (99, 990), (99.9, 999)):
        assert found.us(percentile) == pytest.approx(ms * 1e3, rel=0.002)
    assert Latencies(found.encoded().encode()).us(50) == found.us(50)
    in_units_of_100_ns = HdrHistogram.decode(found.encoded())
    assert in_units_of_100_ns.get_value_at_percentile(50) == pytest.approx(5_000_000, rel=0.002)


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@pytest.mark.parametrize(
    ("act", "least", "most"), [(lambda: burn(0.05), 0.05, 0.1), (lambda: time.sleep(0.05), 0, 0.03)]
)
def test_the_clock_of_a_process_counts_its_work_and_not_its_waiting(
    act: Callable[[], None], least: float, most: float
) -> None:
    before = load.cpu_s((os.getpid(),))
    act()
    assert least <= load.cpu_s((os.getpid(),)) - before <= most


def test_a_process_that_is_gone_is_noticed() -> None:
    with pytest.raises(ProcessLookupError):
        load.cpu_s((2**22 + 1,))
