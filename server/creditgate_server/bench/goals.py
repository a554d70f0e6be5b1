"""The figures that are measured, each with its goal, and what it means to meet one."""

import enum
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One number of a goal."""

    most: float | None = None
    least: float | None = None
    unit: str = ""
    """What stands behind the number; "" for a ratio."""
    what: str = ""
    """Which of the goal's numbers this is, where it has several."""

    def met_by(self, value: float) -> bool:
        """Whether a value is good enough."""
        if self.most is not None:
            return value <= self.most
        assert self.least is not None
        return value >= self.least

    def __str__(self) -> str:
        sign, number = ("≤", self.most) if self.most is not None else ("≥", self.least)
        return f"{sign} {number:g}{self.unit and ' '}{self.unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A figure's name, what it is, and what it shall be."""

    name: str
    figure: str
    limits: tuple[Limit, ...]

    def __str__(self) -> str:
        return ", ".join(
            f"{limit} {limit.what}" if len(self.limits) > 1 else str(limit) for limit in self.limits
        )


def _most(number: float, unit: str = "", what: str = "") -> Limit:
    return Limit(most=number, unit=unit, what=what)


def _least(number: float) -> Limit:
    return Limit(least=number)


def _goal(name: str, figure: str, *limits: Limit) -> Goal:
    return Goal(name=name, figure=figure, limits=limits)


GOALS = {
    goal.name: goal
    for goal in (
        _goal(
            "L1",
            "p50 of Authorize, one caller, unix socket ÷ (p50 of the empty RPC + p50 of the bare "
            "script round trip)",
            _most(1.15),
        ),
        _goal("L2", "the same at p99", _most(1.5)),
        _goal(
            "U1",
            "server CPU of a whole unary Authorize at 64 callers ÷ CPU of an empty grpc.aio call "
            "at 64 callers",
            _most(0.40),
        ),
        _goal("U2", "the same ÷ CPU of an empty call on our engine", _most(1.6)),
        _goal(
            "U3",
            "unary Authorize per second at 64 callers, server and store on one core, ÷ empty "
            "grpc.aio calls per second on one core",
            _least(2.2),
        ),
        _goal(
            "T2",
            "server CPU per operation ÷ store CPU per operation, Execute of 100 and Session with "
            "≥ 64 in flight",
            _most(0.7, what="Execute"),
            _most(0.7, what="Session"),
        ),
        _goal(
            "T3",
            "client-process CPU per operation, 256 concurrent AsyncClient.authorize ÷ plain unary "
            "stub",
            _most(0.35),
        ),
        _goal("T4", "throughput at 64 callers, always ÷ everysec", _least(0.8)),
        _goal("T5", "one hot account ÷ 10,000 accounts", _least(0.9)),
        _goal(
            "G1",
            "script time, 1,000 buckets on the account ÷ 3 buckets, 2 touched",
            _most(1.2),
        ),
        _goal("G2", "100,000 open holds on an account ÷ 10", _most(1.1)),
        _goal("G3", "1,000,000 accounts ÷ 1,000", _most(1.1)),
        _goal("G4", "5,000,000 ledger entries ÷ none", _most(1.05)),
        _goal(
            "M1",
            "store memory per open hold, per closed hold, per account with 3 buckets",
            _most(350, "B", "open hold"),
            _most(250, "B", "closed hold"),
            _most(500, "B", "account"),
        ),
        _goal(
            "E1",
            "expiry: 100,000 holds due at once, p99 of concurrent Authorize ÷ quiet",
            _most(2, what="p99"),
            _most(10, "s", "all returned"),
        ),
        _goal(
            "C1",
            "cluster of 3 masters: busiest ÷ idlest in operations; cross-slot errors",
            _most(1.15, what="busiest ÷ idlest"),
            _most(0, what="cross-slot errors"),
        ),
        _goal("W1", "CPU per operation, --workers 2 ÷ 1", _most(1.1)),
    )
}
"""By name, in the order in which they are shown."""


class Verdict(enum.StrEnum):
    """What came of a goal."""

    MET = "met"
    NOT_MET = "not met"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """What one number of a goal came to: the median of the rounds, or why there is none."""

    limit: Limit
    rounds: tuple[float, ...] = ()
    median: float | None = None
    because: str = ""

    @property
    def verdict(self) -> Verdict:
        """What came of this number."""
        if self.median is None:
            return Verdict.NOT_MEASURED
        return Verdict.MET if self.limit.met_by(self.median) else Verdict.NOT_MET


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What a figure came to. `at` says at which size or on what, `parts` what it was made of."""

    goal: Goal
    values: tuple[Value, ...]
    at: str = ""
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """Met if every number is; not met if one is not; otherwise not measured."""
        verdicts = {value.verdict for value in self.values}
        for each in (Verdict.NOT_MET, Verdict.NOT_MEASURED):
            if each in verdicts:
                return each
        return Verdict.MET

    @property
    def because(self) -> str:
        """Why it was not measured, or a part of it."""
        reasons = dict.fromkeys(value.because for value in self.values if value.because)
        return "; ".join(reasons)

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "figure": self.goal.figure,
            "goal": str(self.goal),
            "verdict": str(self.verdict),
            "because": self.because,
            "at": self.at,
            "values": [
                {
                    "what": value.limit.what,
                    "sign": _sign(value.limit),
                    "limit": value.limit.most
                    if value.limit.most is not None
                    else value.limit.least,
                    "unit": value.limit.unit,
                    "median": value.median,
                    "rounds": list(value.rounds),
                    "verdict": str(value.verdict),
                    "because": value.because,
                }
                for value in self.values
            ],
            "parts": self.parts,
        }


def _sign(limit: Limit) -> Literal["at most", "at least"]:
    return "at most" if limit.most is not None else "at least"


def measured(
    name: str,
    *values: Sequence[float] | str,
    at: str = "",
    parts: dict[str, float] | None = None,
) -> Figure:
    """A figure: for each number of its goal the values of the rounds, or why there are none."""
    goal = GOALS[name]
    found = tuple(_value(limit, given) for limit, given in zip(goal.limits, values, strict=True))
    return Figure(goal=goal, values=found, at=at, parts=parts or {})


def not_measured(name: str, because: str) -> Figure:
    """A figure without any number."""
    return measured(name, *(because for _ in GOALS[name].limits))


def _value(limit: Limit, given: Sequence[float] | str) -> Value:
    if isinstance(given, str):
        return Value(limit=limit, because=given)
    return Value(limit=limit, rounds=tuple(given), median=statistics.median(given))
