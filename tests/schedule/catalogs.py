"""Plans of the source systems, and one shop in which everything differs."""

import dataclasses
from typing import Any

from creditgate_server.core.calendar import Every
from creditgate_server.core.plans import AddOn, OnLapse, Plan, Plans, RecurringGrant


def grant(name: str, amount: int, every: Every = Every.MONTH, **more: Any) -> RecurringGrant:
    kind = "F" if name == "daily" else "S"
    return RecurringGrant(**{"name": name, "kind": kind, "amount": amount, "every": every, **more})


def plan(name: str, *grants: RecurringGrant, billing: Every = Every.MONTH) -> Plan:
    subscription = name != "free"
    return Plan(name=name, title=name, subscription=subscription, grants=grants, billing=billing)


DAILY = grant("daily", 100, Every.DAY)

RECRAFT = Plans(
    default="free",
    plans=(
        plan("free", grant("daily", 50, Every.DAY)),  # R15
        plan("basic", grant("base", 1000)),  # R14
        plan("pro", grant("base", 4000)),
    ),
)
"""S0: free users daily, subscribers monthly."""

IMAGINE = Plans(
    default="free",
    plans=(
        plan("free", DAILY),  # R31
        plan("basic", DAILY, grant("base", 3000)),
        plan("ultimate", DAILY, grant("base", 60_000)),
        plan("ultimate-yearly", DAILY, grant("base", 60_000), billing=Every.YEAR),  # R35
    ),
)
"""S1: daily for all, monthly for subscribers, also where they pay by the year."""

UNITS = AddOn(
    name="units",
    title="More credits",
    amounts={"personal": 60, "team": 200},  # R82 R83
    every={"personal": Every.MONTH, "team": Every.MONTH},
    per_seat=frozenset({"personal"}),
)
STUDIOS = Plans(
    default="free",
    plans=(
        plan("free", grant("base", 16)),  # R75
        plan("personal", grant("base", 60)),
        plan("team", grant("base", 150, per_seat=True)),
        plan("personal-yearly", grant("base", 720, Every.YEAR), billing=Every.YEAR),  # R76
        plan("team-yearly", grant("base", 1800, Every.YEAR, per_seat=True), billing=Every.YEAR),
        plan("enterprise", grant("base", 0)),
    ),
    add_ons=(UNITS,),
)
"""S4: seats, yearly plans upfront, add-ons."""


def lapsing(on_lapse: OnLapse, top_up_on_lapse: OnLapse = OnLapse.KEEP) -> Plans:
    """A plan whose monthly bucket lapses so; the free plan has nothing."""
    base = grant("base", 100, on_lapse=on_lapse)
    plans = (plan("free"), plan("pro", base))
    return Plans(default="free", plans=plans, top_up_on_lapse=top_up_on_lapse)


def without(plans: Plans, name: str) -> Plans:
    """The catalog after a plan, an add-on or a grant was taken out."""
    return dataclasses.replace(
        plans,
        plans=tuple(
            dataclasses.replace(kept, grants=tuple(g for g in kept.grants if g.name != name))
            for kept in plans.plans
            if kept.name != name
        ),
        add_ons=tuple(add_on for add_on in plans.add_ons if add_on.name != name),
    )
