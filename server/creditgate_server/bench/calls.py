"""Measurements of calls: how long they take, what they cost, how many pass."""

import os
import statistics
from collections import defaultdict
from collections.abc import Iterator

from creditgate.v1 import credits_pb2
from creditgate_server.bench import capture
from creditgate_server.bench.goals import Figure, measured, not_measured
from creditgate_server.bench.load import Phase
from creditgate_server.bench.rig import Rig, has_setting, pin, ratios, watched
from creditgate_server.bench.work import (
    BARE,
    BATCH,
    Authorize,
    Empty,
    Execute,
    Holds,
    Pair,
    Script,
    Session,
    Settle,
)

CALLERS = (1, 16, 64, 256)
MANY = 10_000
_EXECUTES_UNDER_WAY = 4
_IN_FLIGHT = 64

Rounds = defaultdict[str, list[Phase]]


def one_caller(rig: Rig) -> Iterator[Figure]:
    """L1, L2: what the server adds to the script and to an RPC that does nothing."""
    address, watch = rig.server.address, rig.watch
    accounts = rig.new_accounts(address, 1)
    seen = captured_authorize(rig, accounts[0])
    rounds: Rounds = defaultdict(list)
    for number in range(rig.plan.rounds):
        rig.say(f"one caller, unix socket: round {number + 1}")
        holds, apart = rig.new_holds(accounts), rig.new_holds(accounts)
        rounds["empty"].append(rig.load(address, Empty(), 1, watch=watch))
        script = Script(words=seen.words, hold_id=seen.hold_id.encode(), holds=apart, first=0)
        rounds["script"].append(rig.load(rig.store.address, script, 1, watch=watch))
        placed = rig.load(address, Authorize(holds=holds), 1, watch=watch)
        rounds["authorize"].append(placed)
        rounds["settle"].append(_settle(rig, address, holds, placed, 1))
        rounds["pair"].append(
            rig.load(address, Pair(holds=rig.new_holds(accounts)), 1, watch=watch)
        )
    for what, found in rounds.items():
        rig.keep(what, 1, found, accounts=1)
    for name, percentile in (("L1", 50.0), ("L2", 99.0)):
        taken = {what: [phase.us(percentile) for phase in rounds[what]] for what in rounds}
        floor = [a + b for a, b in zip(taken["empty"], taken["script"], strict=True)]
        yield measured(
            name,
            ratios(taken["authorize"], floor),
            at="unix socket, always",
            parts={f"{what}_us": median(taken[what]) for what in ("authorize", "empty", "script")},
        )


def captured_authorize(rig: Rig, account_id: str) -> capture.Captured:
    """The command that an Authorize is at the store."""
    hold_id = rig.new_holds((account_id,)).hold_id(0)
    return capture.capture(
        rig.store.client,
        lambda: authorize_once(rig, rig.server.address, account_id, hold_id),
        account_id,
        hold_id,
    )


def authorize_once(
    rig: Rig, address: str, account_id: str, hold_id: str, quantity: int = 1
) -> None:
    """Place one hold."""
    job = rig.job
    job.quantity = quantity
    tag = hold_id.rpartition("-")[0]
    number = int(hold_id.rpartition("-")[2])
    holds = Holds(accounts=(account_id,), tag=tag, job=job.SerializeToString(deterministic=True))
    rig.load(address, Authorize(holds=holds, first=number, count=1), 1, seconds=0, warm_s=0)


def _settle(rig: Rig, address: str, holds: Holds, placed: Phase, callers: int) -> Phase:
    work = Settle(holds=holds, first=0, count=placed.asked)
    return rig.load(address, work, callers, seconds=0, warm_s=0, watch=rig.watch)


def many_callers(rig: Rig) -> Iterator[Figure]:
    """U1, U2: what a call costs beside an empty one, here and on a bare grpc.aio."""
    address, watch = rig.server.address, rig.watch
    bare = rig.bare
    accounts = rig.new_accounts(address, 64)
    rounds: Rounds = defaultdict(list)
    for number in range(rig.plan.rounds):
        rig.say(f"64 callers, unix socket: round {number + 1}")
        holds = rig.new_holds(accounts)
        rounds["bare"].append(rig.load(bare.address, Empty(BARE), 64, watch={"server": bare.pids}))
        rounds["empty"].append(rig.load(address, Empty(), 64, watch=watch))
        placed = rig.load(address, Authorize(holds=holds), 64, watch=watch)
        rounds["authorize"].append(placed)
        rounds["settle"].append(_settle(rig, address, holds, placed, 64))
        rounds["pair"].append(
            rig.load(address, Pair(holds=rig.new_holds(accounts)), 64, watch=watch)
        )
    for what, found in rounds.items():
        rig.keep(what, 64, found)
    cost = {what: [phase.cpu_us("server") for phase in found] for what, found in rounds.items()}
    for name, below in (("U1", "bare"), ("U2", "empty")):
        yield measured(
            name,
            ratios(cost["authorize"], cost[below]),
            at="64 callers, unix socket",
            parts={f"{what}_us": median(cost[what]) for what in ("authorize", below)},
        )


def curve(rig: Rig) -> Iterator[Figure]:
    """Throughput against callers, over unix socket and TCP. No figure of the table."""
    accounts = rig.new_accounts(rig.server.address, 64)
    measured_already = {(row.callers, row.over) for row in rig.rows if row.what == "authorize"}
    for over, address in (("unix", rig.server.address), ("tcp", rig.server.tcp)):
        for callers in CALLERS:
            if (callers, over) in measured_already:
                continue
            rounds: Rounds = defaultdict(list)
            for number in range(min(rig.plan.rounds, 3)):
                rig.say(f"{callers} callers, {over}: round {number + 1}")
                half = rig.plan.seconds / 2
                holds = rig.new_holds(accounts)
                rounds["empty"].append(
                    rig.load(address, Empty(), callers, seconds=half, watch=rig.watch)
                )
                placed = rig.load(
                    address, Authorize(holds=holds), callers, seconds=half, watch=rig.watch
                )
                rounds["authorize"].append(placed)
                rounds["settle"].append(_settle(rig, address, holds, placed, callers))
            for what, found in rounds.items():
                rig.keep(what, callers, found, over=over)
    yield from ()


def schedule(rig: Rig) -> Iterator[Figure]:
    """Latency at fixed rates, coordinated omission avoided. No figure of the table."""
    address = rig.server.address
    accounts = rig.new_accounts(address, 64)
    best = rig.load(address, Authorize(holds=rig.new_holds(accounts)), 64).per_second
    for part in (0.25, 0.5, 0.75, 0.9):
        rounds = []
        rate = max(50.0, round(best * part, -1))
        for number in range(min(rig.plan.rounds, 3)):
            rig.say(f"{rate:,.0f} a second by schedule: round {number + 1}")
            rounds.append(
                rig.load(
                    address,
                    Authorize(holds=rig.new_holds(accounts)),
                    64,
                    rate=rate,
                    watch=rig.watch,
                )
            )
        rig.keep("authorize", 64, rounds, rate=rate)
    yield from ()


def one_core(rig: Rig) -> Iterator[Figure]:
    """U3: server and store on one core, the load on the others."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        yield not_measured("U3", "there is one core, and the load needs another")
        return
    here, elsewhere = cores[:1], tuple(cores[1:])
    address, bare = rig.server.address, rig.bare
    accounts = rig.new_accounts(address, 64)
    ours = (*rig.server.pids, rig.store.pid)
    rounds: Rounds = defaultdict(list)
    try:
        pin((*ours, *bare.pids), here)
        for number in range(rig.plan.rounds):
            rig.say(f"64 callers, server and store on one core: round {number + 1}")
            rounds["bare, one core"].append(
                rig.load(
                    bare.address, Empty(BARE), 64, watch={"server": bare.pids}, cores=elsewhere
                )
            )
            holds = rig.new_holds(accounts)
            rounds["authorize, one core"].append(
                rig.load(address, Authorize(holds=holds), 64, watch=rig.watch, cores=elsewhere)
            )
    finally:
        pin((*ours, *bare.pids), cores)
    for what, found in rounds.items():
        rig.keep(what, 64, found)
    passed = {what: [phase.per_second for phase in found] for what, found in rounds.items()}
    yield measured(
        "U3",
        ratios(passed["authorize, one core"], passed["bare, one core"]),
        at="64 callers, unix socket, always",
        parts={
            "authorize_per_second": median(passed["authorize, one core"]),
            "bare_per_second": median(passed["bare, one core"]),
            "load_busy": median([phase.load_share for phase in rounds["authorize, one core"]]),
        },
    )


def batches(rig: Rig) -> Iterator[Figure]:
    """T2: what the server spends beside the store where many operations travel together."""
    address = rig.server.address
    accounts = rig.new_accounts(address, 64)
    without = no_session()
    rounds: Rounds = defaultdict(list)
    for number in range(rig.plan.rounds):
        rig.say(f"Execute of {BATCH}: round {number + 1}")
        holds = rig.new_holds(accounts)
        work = Execute(holds=holds, first=0)
        placed = rig.load(address, work, _EXECUTES_UNDER_WAY, watch=rig.watch)
        rounds["execute"].append(placed)
        settles = Execute(holds=holds, first=0, count=placed.asked * BATCH, settles=True)
        rig.load(address, settles, _EXECUTES_UNDER_WAY, seconds=0, warm_s=0)
        if not without:
            rig.say(f"Session, {_IN_FLIGHT} in flight: round {number + 1}")
            holds = rig.new_holds(accounts)
            placed = rig.load(address, Session(holds=holds), _IN_FLIGHT, watch=rig.watch)
            rounds["session"].append(placed)
            back = Session(holds=holds, count=placed.asked)
            rig.load(address, back, _IN_FLIGHT, seconds=0, warm_s=0)
    callers = {"execute": _EXECUTES_UNDER_WAY, "session": _IN_FLIGHT}
    for what, found in rounds.items():
        rig.keep(what, callers[what], found)
    found_ratios = {
        what: [phase.cpu_us("server") / phase.cpu_us("store") for phase in found]
        for what, found in rounds.items()
    }
    yield measured(
        "T2",
        found_ratios["execute"],
        without or found_ratios["session"],
        at=f"{_EXECUTES_UNDER_WAY} Executes of {BATCH} under way; {_IN_FLIGHT} in a Session",
        parts={
            f"{what}_{name}_us": median([phase.cpu_us(name) for phase in found])
            for what, found in rounds.items()
            for name in ("server", "store")
        },
    )


def no_session() -> str:
    """Why Session cannot be measured, if it cannot."""
    methods = credits_pb2.DESCRIPTOR.services_by_name["Credits"].methods_by_name
    return "" if "Session" in methods else "this version has no Session"


def synced(rig: Rig) -> Iterator[Figure]:
    """T4: what waiting for the disk costs; one server, its store set to the one and the other."""
    with (
        rig.new_store(appendfsync="everysec") as store,
        rig.new_server(store.url, fsync="everysec") as server,
    ):
        accounts = rig.new_accounts(server.address, 64)
        rounds: Rounds = defaultdict(list)
        for number in range(rig.plan.rounds):
            for how in ("always", "everysec"):
                rig.say(f"64 callers, {how}: round {number + 1}")
                store.client.config_set("appendfsync", how)
                work = Authorize(holds=rig.new_holds(accounts))
                rounds[how].append(rig.load(server.address, work, 64, watch=watched(server, store)))
    rig.keep("authorize", 64, rounds["everysec"], fsync="everysec")
    passed = {how: [phase.per_second for phase in found] for how, found in rounds.items()}
    yield measured(
        "T4",
        ratios(passed["always"], passed["everysec"]),
        at="64 callers, unix socket",
        parts={f"{how}_per_second": median(found) for how, found in passed.items()},
    )


def hot_account(rig: Rig) -> Iterator[Figure]:
    """T5: all callers on one account, against many accounts."""
    address = rig.server.address
    many = rig.plan.size(MANY, 100, quickly_made=True)
    accounts = {"hot": rig.new_accounts(address, 1), "many": rig.new_accounts(address, many)}
    rounds: Rounds = defaultdict(list)
    for number in range(rig.plan.rounds):
        for which, names in accounts.items():
            rig.say(f"64 callers, {len(names):,} accounts: round {number + 1}")
            work = Authorize(holds=rig.new_holds(names))
            rounds[which].append(rig.load(address, work, 64, watch=rig.watch))
    for which, names in accounts.items():
        rig.keep("authorize", 64, rounds[which], accounts=len(names))
    passed = {which: [phase.per_second for phase in found] for which, found in rounds.items()}
    yield measured(
        "T5",
        ratios(passed["hot"], passed["many"]),
        at=f"64 callers, 1 and {many:,} accounts",
        parts={f"{which}_per_second": median(found) for which, found in passed.items()},
    )


def workers(rig: Rig) -> Iterator[Figure]:
    """W1: what a second worker costs beside its own work."""
    if not has_setting("workers"):
        yield not_measured("W1", "this version has no --workers")
        return
    cost: defaultdict[int, list[float]] = defaultdict(list)
    with (
        rig.new_store() as store,
        rig.new_server(store.url, workers="1") as one,
        rig.new_server(store.url, workers="2") as two,
    ):
        accounts = rig.new_accounts(one.address, 64)
        for number in range(rig.plan.rounds):
            for count, server in ((1, one), (2, two)):
                rig.say(f"256 callers, {count} workers: round {number + 1}")
                work = Authorize(holds=rig.new_holds(accounts))
                phase = rig.load(server.tcp, work, 256, watch=watched(server, store))
                cost[count].append(phase.cpu_us("server"))
    yield measured(
        "W1",
        ratios(cost[2], cost[1]),
        at="256 callers, TCP",
        parts={f"server_us_{count}": median(found) for count, found in cost.items()},
    )


def median(found: list[float]) -> float:
    """For `parts` of a figure."""
    return round(statistics.median(found), 3)
