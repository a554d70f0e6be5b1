"""What all measurements share: the processes, the accounts, the plan, and what is kept."""

import itertools
import os
import secrets
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from creditgate.v1 import accounts_pb2
from creditgate.v1.resources_pb2 import KIND_TOP_UP, Job
from creditgate_server.app.settings import Settings
from creditgate_server.bench import load, programs
from creditgate_server.bench.load import Latencies, Load, Phase
from creditgate_server.bench.programs import Helper, Program, Store
from creditgate_server.bench.work import Holds, Messages, Work

PUT = "/creditgate.v1.Accounts/PutAccount"
GRANT = "/creditgate.v1.Accounts/GrantCredits"

ENOUGH = 2**40
"""Credits that no load spends."""

ACCOUNTS = 64
"""Accounts of a load, unless their number is what is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured."""

    mode: str
    seconds: float
    rounds: int
    warm_s: float
    scale: float
    """Part of the sizes that the goals speak of."""
    folder: Path
    """For sockets and logs: its path is short."""
    data: Path
    """For what stores keep."""
    environment: Mapping[str, str]
    engine: str = ""
    """Unless "", the server's engine."""
    target: str = ""
    """Unless "", a server that runs already."""
    action: str = "image.generate"
    model: str = "recraft-v3"

    def size(self, goal: int, least: int, *, quickly_made: bool = False) -> int:
        """How much to measure at where a goal says so much; ten times that if it is cheap."""
        scale = min(1.0, 10 * self.scale) if quickly_made else self.scale
        return max(least, round(goal * scale))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kind of load, all rounds of it."""

    what: str
    callers: int
    rounds: tuple[Phase, ...]
    over: str = "unix"
    """unix or tcp."""
    fsync: str = "always"
    accounts: int = ACCOUNTS
    rate: float | None = None
    """Requests a second, where they began by a schedule."""

    def spread(self, of: Callable[[Phase], float]) -> tuple[float, float, float]:
        """The median of the rounds, the least and the most."""
        found = [of(phase) for phase in self.rounds]
        return statistics.median(found), min(found), max(found)

    def _cpu_us(self, name: str) -> tuple[float, float, float]:
        return self.spread(lambda phase: phase.cpu_us(name))

    @property
    def latencies(self) -> Latencies:
        """Of all rounds together."""
        return Latencies(*(phase.latencies for phase in self.rounds))

    def as_dict(self) -> dict[str, Any]:
        """For programs. Times in µs."""
        names = [name for name in self.rounds[0].cpu_s if name != "load"]
        return {
            "what": self.what,
            "callers": self.callers,
            "over": self.over,
            "fsync": self.fsync,
            "accounts": self.accounts,
            "rate": self.rate,
            "rounds": len(self.rounds),
            "operations": sum(phase.operations for phase in self.rounds),
            "per_second": _three(self.spread(lambda phase: phase.per_second)),
            "p50_us": _three(self.spread(lambda phase: phase.us(50))),
            "p99_us": _three(self.spread(lambda phase: phase.us(99))),
            "p999_us": _three(self.spread(lambda phase: phase.us(99.9))),
            "cpu_us": {name: _three(self._cpu_us(name)) for name in (*names, "load")},
            "load_busy": _three(self.spread(lambda phase: phase.load_share)),
            "late_us": _three(self.spread(lambda phase: phase.late_us)),
            "histogram": self.latencies.encoded(),
        }


def _three(found: tuple[float, float, float]) -> dict[str, float]:
    median, least, most = found
    return {"median": round(median, 3), "least": round(least, 3), "most": round(most, 3)}


@dataclass(slots=True, kw_only=True)
class Rig:
    """The stand on which things are measured. What is started here ends with it."""

    plan: Plan
    say: Callable[[str], None]
    """Told what is being done."""
    rows: list[Row] = field(default_factory=list)
    curves: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    """What could not be measured, and why."""
    _stack: ExitStack = field(default_factory=ExitStack)
    _run: str = field(default_factory=lambda: secrets.token_hex(3))
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _kept: dict[str, Any] = field(default_factory=dict)

    def __enter__(self) -> "Rig":
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, entered when it is first asked for, and left at the end."""
        if name not in self._kept:
            self._kept[name] = self._stack.enter_context(make())
        return self._kept[name]

    # Processes ------------------------------------------------------------------------------------

    @property
    def helper(self) -> Helper:
        """The process that loads."""
        found: Helper = self.once("helper", Helper)
        return found

    @property
    def bare(self) -> Program:
        """A grpc.aio server that does nothing."""
        found: Program = self.once(
            "bare", lambda: programs.bare(self.plan.folder, self.plan.environment)
        )
        return found

    @property
    def store(self) -> Store:
        """The store of `server`, with `appendfsync always`."""
        found: Store = self.once("store", lambda: programs.store(self.data()))
        return found

    @property
    def server(self) -> Program:
        """The server that most is measured on."""
        found: Program = self.once("server", lambda: self.new_server(self.store.url))
        return found

    def new_store(self, *, appendfsync: str = "always", aof: bool = True) -> Any:
        """Another store, to be entered. Without `aof` it writes no file."""

        @contextmanager
        def made() -> Iterator[Store]:
            with programs.store(self.data(), appendfsync=appendfsync) as store:
                if not aof:
                    store.client.config_set("appendonly", "no")
                yield store

        return made()

    def new_server(self, store_url: str, **settings: str) -> Any:
        """Another server on a store, to be entered."""
        if self.plan.engine:
            settings.setdefault("engine", self.plan.engine)
        return programs.server(self._folder(), self.plan.environment, store_url, **settings)

    def engine(self) -> str:
        """What carries the server's calls, as it says itself."""
        return dict(self.server.facts or {}).get("engine", "aio")

    def store_name(self) -> str:
        """The store's program and version."""
        info = self.store.info("server")
        kind = str(info.get("server_name", "redis"))
        return f"{kind} {info.get(f'{kind}_version', '')}, embedded"

    def _folder(self) -> Path:
        return self.plan.folder / f"server{next(self._numbers)}"

    def data(self) -> Path:
        """A path that nothing else has, for what a store keeps."""
        return self.plan.data / f"store{next(self._numbers)}"

    # Accounts and holds ---------------------------------------------------------------------------

    @property
    def job(self) -> Job:
        """What is authorized."""
        return Job(action=self.plan.action, model=self.plan.model, quantity=1)

    def account_names(self, count: int) -> tuple[str, ...]:
        """Names that nothing else has, all of one length."""
        first = next(self._numbers)
        return tuple(f"creditgate-bench-{self._run}-{first:04d}-{n:07d}" for n in range(count))

    def new_accounts(self, address: str, count: int, *, grants: int = 1) -> tuple[str, ...]:
        """Accounts with enough credits in `grants` buckets beside what their plan gives."""
        self.say(f"{count:,} accounts")
        names = self.account_names(count)
        puts = tuple(
            accounts_pb2.PutAccountRequest(account_id=name).SerializeToString() for name in names
        )
        asked = [(PUT, puts)]
        for number in range(grants):
            bodies = tuple(
                accounts_pb2.GrantCreditsRequest(
                    account_id=name,
                    source_ref=f"bench-{number:04d}",
                    kind=KIND_TOP_UP,
                    amount=ENOUGH,
                ).SerializeToString()
                for name in names
            )
            asked.append((GRANT, bodies))
        for path, bodies in asked:
            self.load(address, Messages(path=path, bodies=bodies), 64, seconds=0, warm_s=0)
        return names

    def new_holds(self, accounts: Sequence[str]) -> Holds:
        """Holds to be placed on these accounts."""
        return Holds(
            accounts=tuple(accounts),
            tag=f"{self._run}-{next(self._numbers):05d}",
            job=self.job.SerializeToString(deterministic=True),
        )

    # Loads ----------------------------------------------------------------------------------------

    def load(
        self,
        address: str,
        work: Work,
        callers: int,
        *,
        seconds: float | None = None,
        warm_s: float | None = None,
        **more: Any,
    ) -> Phase:
        """Run a load in the process for it."""
        return self.helper.run(
            load.run,
            Load(
                address=address,
                work=work,
                callers=callers,
                seconds=self.plan.seconds if seconds is None else seconds,
                warm_s=self.plan.warm_s if warm_s is None else warm_s,
                **more,
            ),
        )

    @property
    def watch(self) -> dict[str, tuple[int, ...]]:
        """The processes whose CPU time counts, of `server` and its store."""
        return watched(self.server, self.store)

    def keep(self, what: str, callers: int, rounds: Sequence[Phase], **more: Any) -> None:
        """Keep rounds of a load for the report; `more` are fields of `Row`."""
        self.rows.append(Row(what=what, callers=callers, rounds=tuple(rounds), **more))


def watched(server: Program, store: Store) -> dict[str, tuple[int, ...]]:
    """The processes whose CPU time counts."""
    return {"server": server.pids, "store": (store.pid,)}


def has_setting(name: str) -> bool:
    """Whether this version of the server can be told so."""
    return name in Settings.model_fields


def pin(pids: Sequence[int], cores: Sequence[int]) -> None:
    """Let all threads of these processes run on these cores only."""
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores)


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Round by round, so that what else the machine did falls on both."""
    return [one / other for one, other in zip(above, below, strict=True)]
