"""What a script takes as accounts, holds and history grow, and what the store keeps of them.

States of millions are built in seconds by copying, at the store, what real requests have made: an
account as a whole, or an entry of the ledger. What was copied is compared with what it was made of,
as a server sees both.
"""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from creditgate.v1 import accounts_pb2
from creditgate.v1 import credits_pb2 as pb
from creditgate.v1.resources_pb2 import KIND_TOP_UP
from creditgate_server.bench.calls import authorize_once
from creditgate_server.bench.capture import (
    Captured,
    account_key,
    capture,
    ledger_key,
    ledger_keys,
)
from creditgate_server.bench.goals import Figure, measured
from creditgate_server.bench.programs import Program, Store
from creditgate_server.bench.rig import GRANT, PUT, Rig
from creditgate_server.bench.unary import ask
from creditgate_server.bench.work import Authorize, Commands, Messages, Settle

_CHUNK = 50
_CHUNKS = 8
_DAILY = 50
"""What the plan of the catalog gives a new account each day: spent first."""

_COPY = """
for i = 1, #ARGV do redis.call('COPY', KEYS[1], ARGV[i]) end
"""
_REPEAT = """
local entry = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][2]
for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', unpack(entry)) end
"""


@dataclass(slots=True, kw_only=True)
class Site:
    """A store without a file, a server on it, and an account made by requests, to be copied."""

    rig: Rig
    store: Store
    server: Program
    model: str
    """The name of that account."""
    seen: Captured
    """An Authorize at the store."""

    def restore(self, names: Iterable[str]) -> None:
        """Make these accounts what the model is."""
        pipe = self.store.client.pipeline(transaction=False)
        for name in names:
            pipe.copy(account_key(self.model), account_key(name), replace=True)
        pipe.execute()

    def script_us(self, names: Sequence[str]) -> float:
        """How long the store is in the script of an Authorize of each of these, on average."""
        holds = self.rig.new_holds(names)
        packed = tuple(
            self.seen.packed(name, holds.hold_id(number)) for number, name in enumerate(names)
        )
        before = self._spent()
        self.rig.load(
            self.store.address, Commands(packed=packed, good=b"approved"), 1, seconds=0, warm_s=0
        )
        after = self._spent()
        return (after[0] - before[0]) / (after[1] - before[1])

    def _spent(self) -> tuple[float, int]:
        found = self.store.info("commandstats").get(f"cmdstat_{self.seen.name}", {})
        return float(found.get("usec", 0)), int(found.get("calls", 0))

    def check(self, name: str) -> None:
        """A copy looks to callers as the model does, and can be spent from."""
        balances = []
        for account_id in (self.model, name):
            request = pb.GetBalanceRequest(account_id=account_id)
            answer = ask(self.server.address, "Credits/GetBalance", request, pb.GetBalanceResponse)
            answer.totals.ClearField("account_id")
            answer.totals.ClearField("as_of")
            balances.append(answer)
        assert balances[0] == balances[1], f"a copy is not what it was made of: {balances}"


def site(
    rig: Rig, stack: ExitStack, *, buckets: int = 3, quantity: int = 1
) -> Site:
    """A store with one account of so many buckets, the plan's included.

    With a `quantity` above what the plan gives, an Authorize draws on two of them.
    """
    store = stack.enter_context(rig.new_store(aof=False))
    server = stack.enter_context(rig.new_server(store, **{"unsafe-store": "true"}))
    (model,) = rig.account_names(1)
    put = accounts_pb2.PutAccountRequest(account_id=model).SerializeToString()
    rig.load(server.address, Messages(path=PUT, bodies=(put,)), 1, seconds=0, warm_s=0)
    grants = tuple(
        accounts_pb2.GrantCreditsRequest(
            account_id=model, source_ref=f"bench-{n:04d}", kind=KIND_TOP_UP, amount=1_000_000
        ).SerializeToString()
        for n in range(buckets - 1)
    )
    rig.load(server.address, Messages(path=GRANT, bodies=grants), 1, seconds=0, warm_s=0)
    # Another account, so that the model stays as it is.
    (other,) = rig.account_names(1)
    made = Site(rig=rig, store=store, server=server, model=model, seen=None)  # type: ignore[arg-type]
    made.restore((other,))
    made.check(other)
    hold_id = rig.new_holds((other,)).hold_id(0)
    made.seen = capture(
        store.client,
        lambda: authorize_once(rig, server.address, other, hold_id, quantity),
        other,
        hold_id,
    )
    return made


def _alternate(
    rig: Rig, what: str, small: tuple[Site, Sequence[str]], large: tuple[Site, Sequence[str]]
) -> tuple[list[float], dict[str, float]]:
    """The ratio of each round, and the median of what was timed; accounts are made anew."""
    found: list[float] = []
    times: dict[str, list[float]] = {"small_us": [], "large_us": []}
    for number in range(rig.plan.rounds):
        rig.say(f"{what}: round {number + 1}")
        both = []
        for which, (place, names) in zip(times, (small, large), strict=True):
            chunks = []
            for first in range(_CHUNKS):
                # Each chunk asks others, as many as there are.
                at = (number * _CHUNKS + first) * _CHUNK
                chunk = [names[(at + n) % len(names)] for n in range(_CHUNK)]
                if len(names) > 1:
                    place.restore(chunk)
                chunks.append(place.script_us(chunk))
            both.append(statistics.median(chunks))
            times[which].append(both[-1])
        found.append(both[1] / both[0])
    return found, {name: round(statistics.median(each), 2) for name, each in times.items()}


def buckets(rig: Rig) -> Iterator[Figure]:
    """G1: more buckets on the account."""
    most = rig.plan.size(1_000, 100)
    points = []
    with ExitStack() as stack:
        sites = {}
        for count in sorted({3, max(10, most // 10), most}):
            rig.say(f"an account with {count} buckets")
            place = site(rig, stack, buckets=count, quantity=_DAILY + 1)
            sites[count] = (place, rig.account_names(4 * _CHUNK))
        for count in list(sites)[1:]:
            found, times = _alternate(rig, f"{count} buckets", sites[3], sites[count])
            if not points:
                points.append({"size": 3, "us": times["small_us"]})
            points.append({"size": count, "us": times["large_us"]})
    rig.curves["buckets on the account"] = points
    yield measured("G1", found, at=f"{most:,} buckets", parts=times)


def holds(rig: Rig) -> Iterator[Figure]:
    """G2: more open holds on the account."""
    most = rig.plan.size(100_000, 1_000)
    with ExitStack() as stack:
        place = site(rig, stack)
        few, full = rig.account_names(2)
        place.restore((few, full))
        _fill(place, few, 10)
        points = []
        placed = 10
        for count in sorted({most // 10, most}):
            rig.say(f"{count:,} open holds on an account")
            _fill(place, full, count - (placed if placed > 10 else 0))
            placed = count
            # One account in either case, so that only its holds differ.
            found, times = _alternate(
                rig, f"{count:,} open holds", (place, (few,)), (place, (full,))
            )
            if not points:
                points.append({"size": 10, "us": times["small_us"]})
            points.append({"size": count, "us": times["large_us"]})
        balance = ask(
            place.server.address,
            "Credits/GetBalance",
            pb.GetBalanceRequest(account_id=full),
            pb.GetBalanceResponse,
        )
        assert balance.open_holds >= most
    rig.curves["open holds on the account"] = points
    yield measured("G2", found, at=f"{most:,} open holds", parts=times)


def _fill(place: Site, account_id: str, count: int) -> None:
    """Real holds, by the script that places them."""
    many = place.rig.new_holds((account_id,))
    packed = tuple(place.seen.packed(account_id, many.hold_id(n)) for n in range(count))
    work = Commands(packed=packed, good=b"approved")
    place.rig.load(place.store.address, work, 256, seconds=0, warm_s=0)


def accounts(rig: Rig) -> Iterator[Figure]:
    """G3: more accounts."""
    few, most = 1_000, rig.plan.size(1_000_000, 10_000)
    points = []
    with ExitStack() as stack:
        small, large = site(rig, stack), site(rig, stack)
        names = rig.account_names(most)
        small.restore(names[:few])
        copy = large.store.client.register_script(_COPY)
        made = 0
        for count in sorted({most // 10, most}):
            rig.say(f"{count:,} accounts")
            for first in range(made, count, 5_000):
                some = names[first : min(first + 5_000, count)]
                copy(keys=[account_key(large.model)], args=[account_key(name) for name in some])
            made = count
            large.check(names[count - 1])
            # Every so-manieth, so that those that are asked lie far apart.
            spread = names[: count : max(1, count // few)]
            found, times = _alternate(
                rig, f"{count:,} accounts", (small, names[:few]), (large, spread)
            )
            if not points:
                points.append({"size": few, "us": times["small_us"]})
            points.append({"size": count, "us": times["large_us"]})
    rig.curves["accounts"] = points
    yield measured("G3", found, at=f"{most:,} accounts", parts=times)


def history(rig: Rig) -> Iterator[Figure]:
    """G4: more entries in the ledger that is written to."""
    most = rig.plan.size(5_000_000, 50_000)
    points = []
    with ExitStack() as stack:
        small, large = site(rig, stack), site(rig, stack)
        (one,) = rig.account_names(1)
        few = [name for name in rig.account_names(2_000) if ledger_key(name) == ledger_key(one)]
        ledger = ledger_key(one)
        # An entry as a real request writes it, to be repeated.
        large.restore((one,))
        large.script_us((one,))
        repeat = large.store.client.register_script(_REPEAT)
        made = 1
        for count in sorted({most // 10, most}):
            rig.say(f"{count:,} ledger entries")
            while made < count:
                part = min(20_000, count - made)
                repeat(keys=[ledger], args=[part])
                made += part
            assert large.store.client.xlen(ledger) >= count
            found, times = _alternate(
                rig, f"{count:,} ledger entries", (small, few), (large, few)
            )
            if not points:
                points.append({"size": 1, "us": times["small_us"]})
            points.append({"size": count, "us": times["large_us"]})
        page = ask(
            large.server.address,
            "Accounts/ListLedger",
            accounts_pb2.ListLedgerRequest(account_id=one),
            accounts_pb2.ListLedgerResponse,
        )
        assert page.entries
    rig.curves["ledger entries"] = points
    yield measured("G4", found, at=f"{most:,} entries", parts=times)


def memory(rig: Rig) -> Iterator[Figure]:
    """M1: what the store keeps for an account and for a hold, ledger apart."""
    many, each = rig.plan.size(2_000, 200), 10
    with (
        rig.new_store(aof=False) as store,
        rig.new_server(store, **{"unsafe-store": "true"}) as server,
    ):
        used = [_used(store)]
        names = rig.new_accounts(server.address, many, grants=2)
        used.append(_used(store))
        placed = rig.new_holds(names)
        rig.say(f"{many * each:,} holds")
        count = many * each
        once = {"seconds": 0.0, "warm_s": 0.0}
        rig.load(server.address, Authorize(holds=placed, count=count), 64, **once)
        used.append(_used(store))
        rig.load(server.address, Settle(holds=placed, first=0, count=count), 64, **once)
        used.append(_used(store))
    (r0, l0), (r1, l1), (r2, l2), (r3, l3) = used
    yield measured(
        "M1",
        [(r2 - r1) / count],
        [(r3 - r1) / count],
        [(r1 - r0) / many],
        at=f"{many:,} accounts, {count:,} holds, without the ledger",
        parts={
            "account_ledger_bytes": round((l1 - l0) / many, 1),
            "open_hold_ledger_bytes": round((l2 - l1) / count, 1),
            "closed_hold_ledger_bytes": round((l3 - l1) / count, 1),
        },
    )


def _used(store: Store) -> tuple[int, int]:
    """The bytes of all records, and of all ledgers, each key measured whole."""
    ledgers = {key.encode() for key in ledger_keys()}
    keys = list(store.client.scan_iter(count=10_000))
    pipe = store.client.pipeline(transaction=False)
    for key in keys:
        pipe.memory_usage(key, samples=0)
    records = ledger = 0
    for key, size in zip(keys, pipe.execute(), strict=True):
        if key in ledgers:
            ledger += size
        else:
            records += size
    return records, ledger
