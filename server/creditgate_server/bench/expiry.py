"""E1: what callers notice when very many holds are due at once."""

import statistics
import time
from collections.abc import Iterator

from creditgate.v1 import test_clock_pb2
from creditgate_server.bench import load
from creditgate_server.bench.capture import deadline_keys
from creditgate_server.bench.goals import Figure, measured
from creditgate_server.bench.load import Load, Phase
from creditgate_server.bench.programs import Store
from creditgate_server.bench.rig import Rig
from creditgate_server.bench.unary import ask
from creditgate_server.bench.work import BATCH, Authorize, Execute

RATE = 200.0
_TTL_S = 3_600
_LONGEST_S = 30.0


def expiry(rig: Rig) -> Iterator[Figure]:
    """Authorize by schedule, quiet and while the holds go back."""
    most = rig.plan.size(100_000, 2_000) // BATCH * BATCH
    with (
        rig.new_store() as store,
        rig.new_server(store.url, developer="true") as server,
    ):
        accounts = rig.new_accounts(server.address, min(1_000, most // 10))
        calm = rig.new_accounts(server.address, 64)
        rig.say(f"{most:,} holds that will be due at once")
        due = Execute(holds=rig.new_holds(accounts), first=0, count=most, ttl_s=_TTL_S)
        rig.load(server.address, due, 4, seconds=0, warm_s=0)

        def callers(seconds: float) -> Load:
            return Load(
                address=server.address,
                work=Authorize(holds=rig.new_holds(calm)),
                callers=64,
                rate=RATE,
                seconds=seconds,
                warm_s=rig.plan.warm_s,
                # A call that fails meanwhile is what shall not happen, and took its time.
                faults_count=True,
            )

        rig.say("authorize by schedule, quiet")
        quiet = rig.helper.run(load.run, callers(max(1.0, 3 * rig.plan.seconds)))
        rig.say(f"{most:,} holds are due")
        # As long as it may take, seen from twice what the store needs at least.
        under_way = rig.helper.begin(load.run, callers(rig.plan.warm_s + 2.0 + most / 4_000))
        time.sleep(rig.plan.warm_s + 0.5)
        began_ns, ended_ns = _let_them_pass(store, server.address)
        busy = under_way()
    during = [took for at, took in busy.moments if began_ns <= at <= ended_ns]
    rig.curves["while holds expire"] = _timeline(busy, began_ns)
    p99_us = load.Latencies(load.encoded(during)).us(99)
    rig.keep("authorize, quiet", 64, (quiet,), rate=RATE)
    rig.keep("authorize, holds expire", 64, (busy,), rate=RATE)
    yield measured(
        "E1",
        [p99_us / quiet.us(99)],
        [(ended_ns - began_ns) / 1e9],
        at=f"{most:,} holds, {RATE:g} Authorize a second by schedule",
        parts={
            "quiet_p99_us": quiet.us(99),
            "expiring_p99_us": p99_us,
            "calls": float(len(during)),
            "of them failed": float(busy.faults),
        },
    )


def _let_them_pass(store: Store, address: str) -> tuple[int, int]:
    """Move the clock past the deadlines, and wait until all have gone back."""
    keys = deadline_keys()
    now = ask(
        address,
        "TestClock/GetTime",
        test_clock_pb2.GetTimeRequest(),
        test_clock_pb2.GetTimeResponse,
    ).now.ToMilliseconds()
    last_ms = now + _TTL_S * 1_000
    # New holds stand much shorter than the others stood, and none of them is due before the others.
    request = test_clock_pb2.AdvanceRequest()
    request.by.seconds = _TTL_S
    ask(address, "TestClock/Advance", request, test_clock_pb2.AdvanceResponse)
    began = time.perf_counter_ns()
    while time.perf_counter_ns() - began < _LONGEST_S * 1e9:
        pipe = store.client.pipeline(transaction=False)
        for key in keys:
            pipe.zcount(key, "-inf", last_ms)
        if not sum(pipe.execute()):
            return began, time.perf_counter_ns()
        time.sleep(0.02)
    return began, time.perf_counter_ns()


def _timeline(busy: Phase, began_ns: int) -> list[dict[str, float]]:
    """The slowest call of each tenth of a second, before and after the holds are due."""
    slots: dict[int, list[int]] = {}
    for at, took in busy.moments:
        slots.setdefault((at - began_ns) // 100_000_000, []).append(took)
    return [
        {
            "seconds": slot / 10,
            "ms": max(found) / 1e6,
            "median_ms": statistics.median(found) / 1e6,
        }
        for slot, found in sorted(slots.items())
    ]
