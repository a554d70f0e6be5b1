"""What can be known of a server from outside: no CPU time, nothing of its store."""

from collections import defaultdict
from collections.abc import Iterator

from creditgate_server.bench.calls import CALLERS, MANY
from creditgate_server.bench.goals import Figure, measured
from creditgate_server.bench.load import Phase
from creditgate_server.bench.rig import Rig, ratios
from creditgate_server.bench.work import Authorize, Empty, Settle


def outside(rig: Rig) -> Iterator[Figure]:
    """Throughput against callers, and T5. Every hold that is placed is settled."""
    address = rig.plan.target
    over = "unix" if address.startswith("unix:") else "tcp"
    many = rig.plan.size(MANY, 100)
    accounts = rig.new_accounts(address, many)
    for callers in CALLERS:
        rounds: defaultdict[str, list[Phase]] = defaultdict(list)
        for number in range(rig.plan.rounds):
            rig.say(f"{callers} callers: round {number + 1}")
            rounds["empty"].append(rig.load(address, Empty(), callers))
            placed, settled = _placed(rig, accounts[:64], callers)
            rounds["authorize"].append(placed)
            rounds["settle"].append(settled)
        for what, found in rounds.items():
            rig.keep(what, callers, found, over=over, fsync="")
    passed: defaultdict[str, list[float]] = defaultdict(list)
    for number in range(rig.plan.rounds):
        for which, names in (("hot", accounts[:1]), ("many", accounts)):
            rig.say(f"64 callers, {len(names):,} accounts: round {number + 1}")
            passed[which].append(_placed(rig, names, 64)[0].per_second)
    yield measured(
        "T5", ratios(passed["hot"], passed["many"]), at=f"64 callers, 1 and {many:,} accounts"
    )


def _placed(rig: Rig, accounts: tuple[str, ...], callers: int) -> tuple[Phase, Phase]:
    address = rig.plan.target
    holds = rig.new_holds(accounts)
    placed = rig.load(address, Authorize(holds=holds), callers)
    work = Settle(holds=holds, first=0, count=placed.asked)
    return placed, rig.load(address, work, callers, seconds=0, warm_s=0)


def schedule(rig: Rig) -> Iterator[Figure]:
    """Latency at fixed rates; the holds go back by their deadline."""
    address = rig.plan.target
    accounts = rig.new_accounts(address, 64)
    best = _placed(rig, accounts, 64)[0].per_second
    for part in (0.25, 0.5, 0.75):
        rate = max(50.0, round(best * part, -1))
        rig.say(f"{rate:,.0f} a second by schedule")
        holds = rig.new_holds(accounts)
        phase = rig.load(address, Authorize(holds=holds), 64, rate=rate)
        rig.load(address, Settle(holds=holds, first=0, count=phase.asked), 64, seconds=0, warm_s=0)
        rig.keep("authorize", 64, (phase,), rate=rate, fsync="")
    yield from ()
