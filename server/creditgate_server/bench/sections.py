"""Everything that can be measured, in order, and the one run that does it."""

import itertools
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from creditgate_server.bench import calls, cluster, expiry, growth, library, outside
from creditgate_server.bench.goals import GOALS, Figure, not_measured
from creditgate_server.bench.load import Wrong
from creditgate_server.bench.programs import StartError
from creditgate_server.bench.rig import Plan, Rig
from creditgate_server.bench.wires import WireError


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the run, the figures that it gives, and its share of the time."""

    title: str
    figures: tuple[str, ...]
    measure: Callable[[Rig], Iterator[Figure]]
    share: float


SECTIONS = (
    Section("one caller", ("L1", "L2"), calls.one_caller, 5),
    Section("64 callers", ("U1", "U2"), calls.many_callers, 6),
    Section("one core", ("U3",), calls.one_core, 2),
    Section("many operations in a message", ("T2",), calls.batches, 3),
    Section("the client library", ("T3",), library.library, 3),
    Section("synced and not", ("T4",), calls.synced, 3),
    Section("one account and many", ("T5",), calls.hot_account, 4),
    Section("memory", ("M1",), growth.memory, 2),
    Section("buckets", ("G1",), growth.buckets, 2),
    Section("open holds", ("G2",), growth.holds, 2),
    Section("accounts", ("G3",), growth.accounts, 2),
    Section("ledger", ("G4",), growth.history, 2),
    Section("expiry", ("E1",), expiry.expiry, 3),
    Section("cluster", ("C1",), cluster.cluster, 1),
    Section("workers", ("W1",), calls.workers, 1),
    Section("callers", (), calls.curve, 5),
    Section("by schedule", (), calls.schedule, 4),
)
OUTSIDE = (
    Section("callers", ("T5",), outside.outside, 5),
    Section("by schedule", (), outside.schedule, 3),
)
"""What can be known of a server that runs elsewhere."""

_NOT_OURS = "the server named by --target and its store are not ours to look into"


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a run."""

    figures: tuple[Figure, ...]
    document: dict[str, Any]


def run(
    plan: Plan,
    only: Sequence[str],
    on_step: Callable[[str, str, float], None],
) -> Report:
    """Measure. `only` names figures, none for all.

    `on_step` is told the section, what is being done, and how much of all is behind us, 0 to 1.
    """
    began = datetime.now(UTC)
    sections = [
        section
        for section in (OUTSIDE if plan.target else SECTIONS)
        if not only or set(section.figures) & set(only)
    ]
    total = sum(section.share for section in sections)
    found: dict[str, Figure] = {}
    done = 0.0
    title = ""
    with Rig(plan=plan, say=lambda what: on_step(title, what, done / total)) as rig:
        for section in sections:
            title = section.title
            on_step(title, "", done / total)
            for figure in _measured(section, rig):
                found[figure.goal.name] = figure
            done += section.share
        if rig.problems and not rig.rows and not any(map(_came_to_something, found.values())):
            raise StartError(rig.problems[0])
        conditions = _conditions(rig, began)
    for name in GOALS:
        if name not in found:
            why = "it was not asked for" if only and name not in only else _NOT_OURS
            found[name] = not_measured(name, why)
    figures = tuple(found[name] for name in GOALS)
    return Report(figures, _document(rig, figures, conditions))


def _came_to_something(figure: Figure) -> bool:
    return any(value.median is not None for value in figure.values)


def _measured(section: Section, rig: Rig) -> Iterator[Figure]:
    """The figures of a section; what hinders one does not hinder the next."""
    try:
        yield from section.measure(rig)
    except (Wrong, WireError, ConnectionError, StartError, ProcessLookupError) as error:
        rig.problems.append(f"{section.title}: {error}")
        yield from (not_measured(name, str(error)) for name in section.figures)


def _document(rig: Rig, figures: Sequence[Figure], conditions: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": 1,
        "conditions": conditions,
        "figures": {figure.goal.name: figure.as_dict() for figure in figures},
        "problems": rig.problems,
        "rows": [row.as_dict() for row in rig.rows],
        "curves": rig.curves,
    }


def _conditions(rig: Rig, began: datetime) -> dict[str, Any]:
    plan = rig.plan
    found: dict[str, Any] = {
        "began": began.isoformat(timespec="seconds"),
        "minutes": round((datetime.now(UTC) - began).total_seconds() / 60, 1),
        "mode": plan.mode,
        "seconds": plan.seconds,
        "rounds": plan.rounds,
        "scale": plan.scale,
        "creditgate": metadata.version("creditgate"),
        "grpcio": metadata.version("grpcio"),
        "protobuf": metadata.version("protobuf"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "target": plan.target,
        "engine": "" if plan.target else rig.engine(),
        "store": "" if plan.target else rig.store_name(),
        "disk": _file_system(plan.data),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 2),
    }
    return {name: value for name, value in found.items() if value != ""}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def _file_system(folder: Path) -> str:
    """What the store's file lies on: on one in memory, waiting for the disk costs nothing."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return ""
    above = {str(each) for each in (folder, *folder.parents)}
    fitting = [(len(mount[1]), mount[2]) for mount in mounts if mount[1] in above]
    return max(fitting, default=(0, ""))[1]


def names(sections: Sequence[Section] = SECTIONS) -> list[str]:
    """The figures that sections give."""
    return list(itertools.chain.from_iterable(section.figures for section in sections))
