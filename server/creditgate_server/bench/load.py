"""One run of a load: how long answers took, how many came, and what each process spent on them.

Two kinds of load. In a *closed* one each caller asks again when it has its answer, which shows what
a server can do. In an *open* one requests begin by a schedule, whatever the server does; the time
of each counts from the moment it was *meant* to begin. A server that stands still for a second then
has a second's worth of late answers, of which a closed load would see one for each caller.
"""

import math
import os
import select
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped] # not marked

from creditgate_server.bench.wires import OK, Answer, Wire
from creditgate_server.bench.work import Work

_UNANSWERED_S = 15.0
# However short the time that was asked for, each caller has had its turn that often.
_TURNS_LEAST = 2
# From a tenth of a microsecond to two minutes, three digits: in units of 100 ns.
_UNITS_MAX = 1_200_000_000
_UNIT_NS = 100


class Wrong(Exception):
    """Answers came that are not what was asked for. No figure is made of such a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to ask, of whom, how hard and for how long."""

    address: str
    work: Work
    callers: int
    seconds: float = 0.0
    """0: until the work has nothing more to ask."""
    warm_s: float = 0.0
    """How long to ask before it counts."""
    rate: float | None = None
    """Requests a second, by a schedule; None: each caller asks again when it has its answer."""
    faults_count: bool = False
    """Whether a wrong answer is one more that took its time, and no reason to make no figure."""
    watch: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Processes whose CPU time counts, by name."""
    cores: tuple[int, ...] = ()
    """Where the load itself may run; (): anywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What came of a load."""

    operations: int
    lasted_s: float
    cpu_s: Mapping[str, float]
    """Spent by each watched process, and by the load itself as "load"."""
    latencies: bytes
    """A histogram, encoded."""
    asked: int
    """Requests in all, those before the window that counts included."""
    faults: int = 0
    """Answers that were wrong; only where they count."""
    late_us: float = 0.0
    """How late requests of an open load left, at the 99th percentile."""
    moments: tuple[tuple[int, int], ...] = ()
    """Of an open load: when each request was meant to begin, and how long it took, in ns."""

    @property
    def per_second(self) -> float:
        """Operations a second."""
        return self.operations / self.lasted_s

    def cpu_us(self, *names: str) -> float:
        """CPU time for one operation of these processes together."""
        return sum(self.cpu_s[name] for name in names) / self.operations * 1e6

    @property
    def load_share(self) -> float:
        """Which part of the time the load itself was busy: near 1 it is what was measured."""
        return self.cpu_s["load"] / self.lasted_s

    @property
    def histogram(self) -> "Latencies":
        """How long the operations took."""
        return Latencies(self.latencies)

    def us(self, percentile: float) -> float:
        """How long it took at a percentile."""
        return self.histogram.us(percentile)


class Latencies:
    """A histogram of times, of one run or of several."""

    def __init__(self, *encoded: bytes) -> None:
        self._histogram = _histogram()
        for each in encoded:
            self._histogram.decode_and_add(each)

    @property
    def count(self) -> int:
        """How many times it holds."""
        found: int = self._histogram.get_total_count()
        return found

    def us(self, percentile: float) -> float:
        """The time at a percentile."""
        return float(self._histogram.get_value_at_percentile(percentile)) * _UNIT_NS / 1e3

    def encoded(self) -> str:
        """As text, in the format that every HDR histogram library reads; units of 100 ns."""
        found: bytes = self._histogram.encode()
        return found.decode()


def _histogram() -> Any:
    return HdrHistogram(1, _UNITS_MAX, 3)


def encoded(times_ns: Sequence[int]) -> bytes:
    """A histogram of these times."""
    histogram = _histogram()
    for units, count in Counter(max(1, each // _UNIT_NS) for each in times_ns).items():
        histogram.record_value(min(units, _UNITS_MAX), count)
    made: bytes = histogram.encode()
    return made


def cpu_s(pids: Sequence[int]) -> float:
    """The CPU time these processes have used so far, all threads of them, to the nanosecond.

    Raises ProcessLookupError if one is not there.
    """
    found = 0.0
    for pid in pids:
        try:
            # Linux: the clock of a process, as clock_getcpuclockid gives it.
            found += time.clock_gettime(~pid << 3 | 2)
        except OSError as error:
            raise ProcessLookupError(f"process {pid} is not there") from error
    return found


def run(load: Load) -> Phase:
    """Run it in this process. Raises `Wrong`, `WireError` and ConnectionError."""
    if load.cores:
        os.sched_setaffinity(0, load.cores)
    count = math.ceil(load.callers / load.work.callers_per_wire)
    wires = [load.work.wire(load.address) for _ in range(count)]
    try:
        return (_Closed if load.rate is None else _Open)(load, wires).run()
    finally:
        for wire in wires:
            wire.close()
        if load.cores:
            os.sched_setaffinity(0, range(os.cpu_count() or 1))


class _Run:
    """What both kinds share: the window that counts, and the answers in it."""

    def __init__(self, load: Load, wires: Sequence[Wire]) -> None:
        self.load = load
        self.wires = wires
        self.source = load.work.open()
        self.begun: dict[int, int] = {}
        self.operations = 0
        self.asked = 0
        self.times_ns: list[int] = []
        self.moments: list[tuple[int, int]] = []
        self.bad: Counter[int] = Counter()
        now = time.perf_counter_ns()
        self.window_ns = now + int(load.warm_s * 1e9)
        # An open load ends with its last answer, however late.
        until_ns = self.window_ns + int(load.seconds * 1e9)
        self.end_ns = until_ns if load.seconds and load.rate is None else None
        self.counts = False
        self.over = False
        self._from: tuple[int, dict[str, float]] = (now, {})
        self._to: tuple[int, dict[str, float]] = (now, {})

    def clocks(self) -> dict[str, float]:
        found = {name: cpu_s(pids) for name, pids in self.load.watch.items()}
        return {**found, "load": time.process_time()}

    def look_at_the_clock(self, now: int) -> None:
        """Open and close the window that counts."""
        if not self.counts and now >= self.window_ns:
            self.counts = True
            begun = now if self.load.rate is None else self.window_ns
            self._from = (begun, self.clocks())
        elif (
            self.counts
            and not self.over
            and self.end_ns is not None
            and now >= self.end_ns
            and len(self.times_ns) >= _TURNS_LEAST * self.load.callers
        ):
            self.close_window(now)

    def close_window(self, now: int) -> None:
        self.over = True
        self._to = (now, self.clocks())

    def take(self, answer: Answer, begun_ns: int, now: int, *, counts: bool) -> None:
        done = self.source.accept(answer.token, answer.body) if answer.status == OK else 0
        if not done:
            self.bad[answer.status] += 1
        if counts and (done or self.load.faults_count):
            self.operations += done
            self.times_ns.append(now - begun_ns)
            if self.load.rate is not None:
                self.moments.append((begun_ns, now - begun_ns))

    def ready(self, wait_s: float | None) -> list[Wire]:
        found, _, _ = select.select(self.wires, (), (), wait_s)
        return found

    def phase(self, late_us: float = 0.0) -> Phase:
        if self.bad and not self.load.faults_count:
            status, count = self.bad.most_common(1)[0]
            what = "is not what was asked for" if status == OK else f"has status {status}"
            raise Wrong(f"{sum(self.bad.values()):,} answers were wrong; of {count:,} each {what}")
        if not self.operations:
            raise Wrong("there was no answer at all")
        (began, before), (ended, after) = self._from, self._to
        return Phase(
            operations=self.operations,
            lasted_s=(ended - began) / 1e9,
            cpu_s={name: after[name] - before[name] for name in before},
            latencies=encoded(self.times_ns),
            asked=self.asked,
            faults=self.bad.total(),
            late_us=late_us,
            moments=tuple(self.moments),
        )


class _Closed(_Run):
    def run(self) -> Phase:
        self.look_at_the_clock(time.perf_counter_ns())
        for token in range(self.load.callers):
            self._ask(self.wires[token % len(self.wires)], token)
        for wire in self.wires:
            wire.flush()
        while self.begun:
            ready = self.ready(_UNANSWERED_S)
            if not ready:
                raise Wrong(f"{len(self.begun)} requests have had no answer for {_UNANSWERED_S} s")
            for wire in ready:
                answers = wire.receive()
                now = time.perf_counter_ns()
                self.look_at_the_clock(now)
                for answer in answers:
                    begun = self.begun.pop(answer.token)
                    self.take(answer, begun, now, counts=self.counts and not self.over)
                    if not self.over:
                        self._ask(wire, answer.token)
                wire.flush()
        if not self.over:
            self.close_window(time.perf_counter_ns())
        return self.phase()

    def _ask(self, wire: Wire, token: int) -> None:
        request = self.source.next(token)
        if request is not None:
            self.asked += 1
            self.begun[token] = time.perf_counter_ns()
            wire.send(token, *request)


class _Open(_Run):
    def run(self) -> Phase:
        assert self.load.rate is not None
        interval_ns = 1e9 / self.load.rate
        seconds = self.load.warm_s + self.load.seconds
        count, sent = int(seconds * self.load.rate), 0
        began = time.perf_counter_ns()
        late_ns: list[int] = []
        while sent < count or self.begun:
            now = time.perf_counter_ns()
            self.look_at_the_clock(now)
            while sent < count and (due := began + int(sent * interval_ns)) <= now:
                wire = self.wires[sent % len(self.wires)]
                request = self.source.next(sent)
                assert request is not None
                # From when it was meant to begin, not from when it could.
                self.begun[sent] = due
                late_ns.append(now - due)
                wire.send(sent, *request)
                sent += 1
                self.asked = sent
            for wire in self.wires:
                wire.flush()
            wait_ns = began + sent * interval_ns - time.perf_counter_ns()
            if sent < count:
                ready = self.ready(max(0.0, wait_ns / 1e9))
            else:
                ready = self.ready(_UNANSWERED_S)
                if not ready:
                    raise Wrong(f"{len(self.begun)} requests were never answered")
            for wire in ready:
                answers = wire.receive()
                now = time.perf_counter_ns()
                for answer in answers:
                    begun = self.begun.pop(answer.token)
                    self.take(answer, begun, now, counts=begun >= self.window_ns)
        if not self.over:
            self.close_window(time.perf_counter_ns())
        return self.phase(Latencies(encoded(late_ns)).us(99))
