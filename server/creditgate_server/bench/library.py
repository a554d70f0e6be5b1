"""T3: what our own client library costs the process that uses it, beside a plain stub."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator

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
                        rig.plan.seconds,
                        rig.plan.warm_s,
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


def call(  # noqa: PLR0913 - it travels to another process
    how: str,
    address: str,
    holds: Holds,
    seconds: float,
    warm_s: float,
    watch: dict[str, tuple[int, ...]],
) -> Phase:
    """Authorize without a pause through `client` or `stub`."""
    return asyncio.run(_call(how, address, holds, (warm_s, seconds), watch))


async def _call(
    how: str,
    address: str,
    holds: Holds,
    lasts: tuple[float, float],
    watch: dict[str, tuple[int, ...]],
) -> Phase:
    job = Job.FromString(holds.job)
    if how == "client":
        client = AsyncClient(address)

        def ask(account_id: str, hold_id: str) -> Awaitable[pb.AuthorizeResponse]:
            return client.authorize(
                account_id, hold_id, action=job.action, model=job.model, quantity=1
            )

        async with client:
            return await _loop(ask, holds, lasts, watch)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = CreditsStub(channel)

        def plain(account_id: str, hold_id: str) -> Awaitable[pb.AuthorizeResponse]:
            made = Job(action=job.action, model=job.model, quantity=1)
            return stub.Authorize(
                pb.AuthorizeRequest(account_id=account_id, hold_id=hold_id, job=made), timeout=5
            )

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

    async def watcher() -> tuple[float, dict[str, float], int]:
        await asyncio.sleep(window - time.perf_counter())
        begun, before, first = time.perf_counter(), clocks(), len(times_ns)
        await asyncio.sleep(end - time.perf_counter())
        after, lasted_s = clocks(), time.perf_counter() - begun
        stopped.set()
        return lasted_s, {name: after[name] - before[name] for name in before}, first

    (lasted_s, cpu_s, first), *_ = await asyncio.gather(
        watcher(), *(caller() for _ in range(CALLERS))
    )
    counted = times_ns[first:]
    # Those that were under way at the end were answered after it.
    counted = counted[: max(1, len(counted) - CALLERS)]
    return Phase(
        operations=len(counted),
        lasted_s=lasted_s,
        cpu_s=cpu_s,
        latencies=load.encoded(counted),
        asked=number,
    )
