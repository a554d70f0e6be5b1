"""The figures are those that were agreed, and a number is met on the right side of its limit."""

import pytest

from creditgate_server.bench.goals import GOALS, Verdict, measured, not_measured

AGREED = {
    "L1": "≤ 1.15",
    "L2": "≤ 1.5",
    "U1": "≤ 0.4",
    "U2": "≤ 1.6",
    "U3": "≥ 2.2",
    "T2": "≤ 0.7 Execute, ≤ 0.7 Session",
    "T3": "≤ 0.35",
    "T4": "≥ 0.8",
    "T5": "≥ 0.9",
    "G1": "≤ 1.2",
    "G2": "≤ 1.1",
    "G3": "≤ 1.1",
    "G4": "≤ 1.05",
    "M1": "≤ 350 B open hold, ≤ 250 B closed hold, ≤ 500 B account",
    "E1": "≤ 2 p99, ≤ 10 s all returned",
    "C1": "≤ 1.15 busiest ÷ idlest, ≤ 0 cross-slot errors",
    "W1": "≤ 1.1",
}


def test_the_figures_and_their_goals_are_those_agreed() -> None:
    assert {name: str(goal) for name, goal in GOALS.items()} == AGREED


@pytest.mark.parametrize(
    ("name", "value", "verdict"),
    [
        ("L1", 1.15, Verdict.MET),
        ("L1", 1.1501, Verdict.NOT_MET),
        ("U3", 2.2, Verdict.MET),
        ("U3", 2.1999, Verdict.NOT_MET),
    ],
)
def test_a_goal_is_met_up_to_its_limit(name: str, value: float, verdict: Verdict) -> None:
    assert measured(name, [value]).verdict is verdict


def test_the_median_of_the_rounds_counts() -> None:
    figure = measured("L1", [9.0, 1.0, 1.1])
    assert (figure.values[0].median, figure.verdict) == (1.1, Verdict.MET)
    assert figure.as_dict()["values"][0]["rounds"] == [9.0, 1.0, 1.1]


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        (([350.0], [250.0], [500.0]), Verdict.MET),
        (([350.0], [250.1], [500.0]), Verdict.NOT_MET),
        (([350.0], "no holds", [500.0]), Verdict.NOT_MEASURED),
        (([351.0], "no holds", [500.0]), Verdict.NOT_MET),
    ],
)
def test_every_number_of_a_goal_counts(
    values: tuple[list[float] | str, ...], verdict: Verdict
) -> None:
    assert measured("M1", *values).verdict is verdict


def test_what_was_not_measured_says_why() -> None:
    figure = not_measured("E1", "there was no time")
    assert figure.verdict is Verdict.NOT_MEASURED
    assert figure.because == "there was no time"
