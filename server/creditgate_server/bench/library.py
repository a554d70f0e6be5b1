"""T3: what our own client library costs the process that uses it, beside a plain stub."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import grpc

from creditgate import AsyncClient
from creditgate.v1 import credits_pb2 as pb
from creditgate.v1.credits_pb2_grpc import CreditsStub
from creditgate.v1.resources_pb2 import DECISION_APPROVED, Job
from creditgate_server.bench import load
from creditgate_server.bench.goals import Figure, measured
from creditgate_server.bench.load import Phase, Wrong
from creditgate_server.bench.programs import Helper
from creditgate_server.bench.rig import Rig, ratios
from creditgate_server.bench.work import Holds

CALLERS = 256
# The first calls make the connection.
_WARM_S = 0.3
# So many callers need a while until each has had an answer.
_LEAST_S = 0.5
_TIMEOUT_S = 10


def library(rig: Rig) -> Iterator[Figure]:
    """Many concurrent callers in one process."""
    accounts = rig.new_accounts(rig.server.address, 64)
    rounds: defaultdict[str, list[Phase]] = defaultdict(list)
    with Helper() as client:
        for number in range(rig.plan.rounds):
            for how in ("stub", "client"):
                rig.say(f"{CALLERS} concurrent calls, {how}: round {number + 1}")
                rounds[how].append(
                    client.run(
                        call,
                        how,
                        rig.server.address,
                        rig.new_holds(accounts),
                        (max(_WARM_S, rig.plan.warm_s), max(_LEAST_S, rig.plan.seconds)),
                        rig.watch,
                    )
                )
    for how, found in rounds.items():
        rig.keep(f"authorize, {how}", CALLERS, found)
    cost = {how: [phase.cpu_us("load") for phase in found] for how, found in rounds.items()}
    yield measured(
        "T3",
        ratios(cost["client"], cost["stub"]),
        at=f"{CALLERS} concurrent calls, unix socket",
        parts={f"{how}_us": sorted(found)[len(found) // 2] for how, found in cost.items()},
    )


def call(
    how: str,
    address: str,
    holds: Holds,
    lasts: tuple[float, float],
    watch: dict[str, tuple[int, ...]],
) -> Phase:
    """Authorize without a pause through `client` or `stub`; `lasts` is (warm_s, seconds)."""
    return asyncio.run(_call(how, address, holds, lasts, watch))


async def _call(
    how: str,
    address: str,
    holds: Holds,
    lasts: tuple[float, float],
    watch: dict[str, tuple[int, ...]],
) -> Phase:
    job = Job.FromString(holds.job)
    if how == "client":
        async with AsyncClient(address) as client:

            async def through_client(account_id: str, hold_id: str) -> pb.AuthorizeResponse:
                return await client.authorize(
                    account_id, hold_id, action=job.action, model=job.model, quantity=1
                )

            return await _loop(through_client, holds, lasts, watch)
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = CreditsStub(channel)

        async def plain(account_id: str, hold_id: str) -> pb.AuthorizeResponse:
            made = Job(action=job.action, model=job.model, quantity=1)
            request = pb.AuthorizeRequest(account_id=account_id, hold_id=hold_id, job=made)
            found: pb.AuthorizeResponse = await stub.Authorize(request, timeout=_TIMEOUT_S)
            return found

        return await _loop(plain, holds, lasts, watch)


async def _loop(
    ask: Callable[[str, str], Awaitable[pb.AuthorizeResponse]],
    holds: Holds,
    lasts: tuple[float, float],
    watch: dict[str, tuple[int, ...]],
) -> Phase:
    number = 0
    times_ns: list[int] = []
    window = time.perf_counter() + lasts[0]
    end = window + lasts[1]
    stopped = asyncio.Event()

    async def caller() -> None:
        nonlocal number
        while not stopped.is_set():
            mine, number = number, number + 1
            before = time.perf_counter_ns()
            found = await ask(holds.account_of(mine), holds.hold_id(mine))
            times_ns.append(time.perf_counter_ns() - before)
            if found.decision != DECISION_APPROVED or found.hold.hold_id != holds.hold_id(mine):
                raise Wrong(f"hold {holds.hold_id(mine)} was not approved")

    def clocks() -> dict[str, float]:
        found = {name: load.cpu_s(pids) for name, pids in watch.items()}
        return {**found, "load": time.process_time()}

    async def watcher() -> tuple[float, dict[str, float], list[int]]:
        await asyncio.sleep(window - time.perf_counter())
        begun, before, first = time.perf_counter(), clocks(), len(times_ns)
        await asyncio.sleep(end - time.perf_counter())
        after, lasted_s, counted = clocks(), time.perf_counter() - begun, times_ns[first:]
        stopped.set()
        return lasted_s, {name: after[name] - before[name] for name in before}, counted

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watcher())
        for _ in range(CALLERS):
            group.create_task(caller())
    lasted_s, cpu_s, counted = watching.result()
    if not counted:
        raise Wrong("there was no answer at all")
    return Phase(
        operations=len(counted),
        lasted_s=lasted_s,
        cpu_s=cpu_s,
        latencies=load.encoded(counted),
        asked=number,
    )
