"""What a script takes as accounts, holds and history grow, and what the store keeps of them.

States of millions are built in seconds by copying, at the store, what real requests have made: an
account as a whole, or an entry of the ledger. What was copied is compared with what it was made of,
as a server sees both.
"""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
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
from creditgate_server.bench.rig import GRANT, PUT, Rig, ratios
from creditgate_server.bench.unary import ask
from creditgate_server.bench.work import Authorize, Commands, Messages, Settle

_CHUNK = 50
_CHUNKS = 20
_DAILY = 50
"""What the plan of the catalog gives a new account each day: spent first."""

_COPY = """
for i = 1, #ARGV do redis.call('COPY', KEYS[1], ARGV[i]) end
"""
_REPEAT = """
local entry = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][2]
for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', unpack(entry)) end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A store without a file, and a server on it."""

    rig: Rig
    store: Store
    server: Program

    def model(self, *, buckets: int = 3, quantity: int = 1) -> "Model":
        """An account of so many buckets, made by requests; the plan's bucket is one of them.

        With a `quantity` above what the plan gives, an Authorize draws on two of them.
        """
        rig, address = self.rig, self.server.address
        name, other = rig.account_names(2)
        puts = (accounts_pb2.PutAccountRequest(account_id=name).SerializeToString(),)
        grants = tuple(
            accounts_pb2.GrantCreditsRequest(
                account_id=name, source_ref=f"bench-{n:04d}", kind=KIND_TOP_UP, amount=1_000_000
            ).SerializeToString()
            for n in range(buckets - 1)
        )
        for path, bodies in ((PUT, puts), (GRANT, grants)):
            rig.load(address, Messages(path=path, bodies=bodies), 1, seconds=0, warm_s=0)
        # By a copy, so that the model stays as it is.
        self.store.client.copy(account_key(name), account_key(other))
        hold_id = rig.new_holds((other,)).hold_id(0)
        seen = capture(
            self.store.client,
            lambda: authorize_once(rig, address, other, hold_id, quantity),
            other,
            hold_id,
        )
        return Model(site=self, name=name, seen=seen)


@contextmanager
def new_site(rig: Rig) -> Iterator[Site]:
    """A site of its own."""
    with (
        rig.new_store(aof=False) as store,
        rig.new_server(store.url, **{"unsafe-store": "true"}) as server,
    ):
        yield Site(rig=rig, store=store, server=server)


def shared_site(rig: Rig) -> Site:
    """The site for what leaves little behind."""
    found: Site = rig.once("site", lambda: new_site(rig))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """An account to be copied, and the command that an Authorize of it is."""

    site: Site
    name: str
    seen: Captured

    def restore(self, names: Iterable[str]) -> None:
        """Make these accounts what the model is."""
        pipe = self.site.store.client.pipeline(transaction=False)
        for name in names:
            pipe.copy(account_key(self.name), account_key(name), replace=True)
        pipe.execute()

    def check(self, name: str) -> None:
        """A copy looks to callers as the model does."""
        one, other = (self._balance(account_id) for account_id in (self.name, name))
        assert one == other, f"a copy is not what it was made of: {other}, {one}"

    def _balance(self, account_id: str) -> pb.GetBalanceResponse:
        found = balance(self.site, account_id)
        found.totals.ClearField("account_id")
        found.totals.ClearField("as_of")
        return found

    def begin_anew(self) -> None:
        """Start the store's interpreter again, and let the server load its scripts into it.

        What made the state has left millions of strings there, which slow every script after it.
        """
        site = self.site
        site.store.client.script_flush("SYNC")
        (probe,) = site.rig.account_names(1)
        self.restore((probe,))
        hold_id = site.rig.new_holds((probe,)).hold_id(0)
        authorize_once(site.rig, site.server.address, probe, hold_id)

    def script_us(self, names: Sequence[str]) -> float:
        """How long the store is in the script of an Authorize of each of these, on average."""
        before = self._spent()
        self.authorize(names, 1)
        after = self._spent()
        return (after[0] - before[0]) / (after[1] - before[1])

    def authorize(self, names: Sequence[str], callers: int) -> None:
        """Place a hold on each of these at the store, by the script that does so."""
        rig, store = self.site.rig, self.site.store
        holds = rig.new_holds(names)
        packed = tuple(
            self.seen.packed(name, holds.hold_id(number)) for number, name in enumerate(names)
        )
        work = Commands(packed=packed, good=b"approved")
        rig.load(store.address, work, callers, seconds=0, warm_s=0)

    def _spent(self) -> tuple[float, int]:
        found = self.site.store.info("commandstats").get(f"cmdstat_{self.seen.name}", {})
        return float(found.get("usec", 0)), int(found.get("calls", 0))


def balance(site: Site, account_id: str) -> pb.GetBalanceResponse:
    """What the server says of an account."""
    request = pb.GetBalanceRequest(account_id=account_id)
    return ask(site.server.address, "Credits/GetBalance", request, pb.GetBalanceResponse)


class Curve:
    """The time of a script against the size of something."""

    def __init__(self, rig: Rig, what: str) -> None:
        self._rig, self._what = rig, what
        self._points: list[dict[str, float]] = []
        self.ratios: list[float] = []
        self.times: dict[str, float] = {}
        rig.curves[what] = self._points

    def add(
        self,
        size: int,
        small: tuple[int, Model, Sequence[str]],
        large: tuple[Model, Sequence[str]],
    ) -> None:
        """Time both in turns; `ratios` and `times` are of the last size that was added.

        The accounts of a chunk are made anew before it. One account alone keeps what it has.
        """
        times: dict[str, list[float]] = {"small_us": [], "large_us": []}
        for number in range(self._rig.plan.rounds):
            self._rig.say(f"{size:,} {self._what}: round {number + 1}")
            chunks: dict[str, list[float]] = {which: [] for which in times}
            # In turns chunk by chunk, so that what else the machine does falls on both.
            for part in range(number * _CHUNKS, (number + 1) * _CHUNKS):
                for which, (model, names) in zip(times, (small[1:], large), strict=True):
                    # Each chunk asks others, as many as there are.
                    chunk = [names[(part * _CHUNK + n) % len(names)] for n in range(_CHUNK)]
                    if len(names) > 1:
                        model.restore(chunk)
                    chunks[which].append(model.script_us(chunk))
            for which, found in chunks.items():
                # The least: whatever else the machine does can only add.
                times[which].append(min(found))
        self.ratios = ratios(times["large_us"], times["small_us"])
        self.times = {name: round(statistics.median(each), 2) for name, each in times.items()}
        if not self._points:
            self._points.append({"size": small[0], "us": self.times["small_us"]})
        self._points.append({"size": size, "us": self.times["large_us"]})


def _sizes(least: int, most: int) -> tuple[int, ...]:
    """The sizes to measure at, beside the least."""
    return tuple(size for size in (most // 10, most) if size > least)


def buckets(rig: Rig) -> Iterator[Figure]:
    """G1: more buckets on the account."""
    most = rig.plan.size(1_000, 100, quickly_made=True)
    curve, site = Curve(rig, "buckets on the account"), shared_site(rig)
    few = site.model(buckets=3, quantity=_DAILY + 1)
    names, others = (rig.account_names(4 * _CHUNK) for _ in range(2))
    for count in _sizes(3, most):
        rig.say(f"an account with {count:,} buckets")
        many = site.model(buckets=count, quantity=_DAILY + 1)
        many.restore(others[:1])
        many.check(others[0])
        curve.add(count, (3, few, names), (many, others))
    yield measured("G1", curve.ratios, at=f"{most:,} buckets", parts=curve.times)


def holds(rig: Rig) -> Iterator[Figure]:
    """G2: more open holds on the account."""
    most = rig.plan.size(100_000, 1_000, quickly_made=True)
    curve, site = Curve(rig, "open holds on the account"), shared_site(rig)
    model = site.model()
    few, full = rig.account_names(2)
    model.restore((few, full))
    model.authorize([few] * 10, 10)
    placed = 0
    for count in _sizes(10, most):
        rig.say(f"{count:,} open holds on an account")
        model.authorize([full] * (count - placed), 256)
        placed = count
        # One account in either case, so that only its holds differ.
        curve.add(count, (10, model, (few,)), (model, (full,)))
    assert balance(site, full).open_holds >= most
    yield measured("G2", curve.ratios, at=f"{most:,} open holds", parts=curve.times)


def accounts(rig: Rig) -> Iterator[Figure]:
    """G3: more accounts."""
    few, most = 1_000, rig.plan.size(1_000_000, 10_000)
    curve, small = Curve(rig, "accounts"), shared_site(rig).model()
    with new_site(rig) as site:
        large = site.model()
        names = rig.account_names(most)
        small.restore(names[:few])
        copy = site.store.client.register_script(_COPY)
        made = 0
        for count in _sizes(few, most):
            rig.say(f"{count:,} accounts")
            for first in range(made, count, 5_000):
                some = names[first : min(first + 5_000, count)]
                copy(keys=[account_key(large.name)], args=[account_key(name) for name in some])
            made = count
            large.check(names[count - 1])
            large.begin_anew()
            # Those that are asked lie far apart.
            spread = names[: count : max(1, count // few)]
            curve.add(count, (few, small, names[:few]), (large, spread))
    yield measured("G3", curve.ratios, at=f"{most:,} accounts", parts=curve.times)


def history(rig: Rig) -> Iterator[Figure]:
    """G4: more entries in the ledger that is written to."""
    most = rig.plan.size(5_000_000, 50_000)
    curve, small = Curve(rig, "ledger entries"), shared_site(rig).model()
    with new_site(rig) as site:
        large = site.model()
        (one,) = rig.account_names(1)
        ledger = ledger_key(one)
        few = [name for name in rig.account_names(2_000) if ledger_key(name) == ledger]
        # An entry as a real request writes it, to be repeated.
        large.restore((one,))
        large.authorize((one,), 1)
        repeat = site.store.client.register_script(_REPEAT)
        made = 1
        for count in _sizes(1, most):
            rig.say(f"{count:,} ledger entries")
            while made < count:
                part = min(20_000, count - made)
                repeat(keys=[ledger], args=[part])
                made += part
            assert site.store.client.xlen(ledger) >= count
            large.begin_anew()
            curve.add(count, (1, small, few), (large, few))
        page = ask(
            site.server.address,
            "Accounts/ListLedger",
            accounts_pb2.ListLedgerRequest(account_id=one),
            accounts_pb2.ListLedgerResponse,
        )
        assert page.entries
    yield measured("G4", curve.ratios, at=f"{most:,} entries", parts=curve.times)


def memory(rig: Rig) -> Iterator[Figure]:
    """M1: what the store keeps for an account and for a hold, ledger apart."""
    many, each = rig.plan.size(2_000, 200, quickly_made=True), 10
    store, address = shared_site(rig).store, shared_site(rig).server.address
    used = [_used(store)]
    names = rig.new_accounts(address, many, grants=2)
    used.append(_used(store))
    placed = rig.new_holds(names)
    rig.say(f"{many * each:,} holds")
    count = many * each
    once = {"seconds": 0.0, "warm_s": 0.0}
    rig.load(address, Authorize(holds=placed, count=count), 64, **once)
    used.append(_used(store))
    rig.load(address, Settle(holds=placed, first=0, count=count), 64, **once)
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
