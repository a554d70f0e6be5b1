"""What a catalog says of plans, as data: what they grant again and again, allow, leave behind."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from creditgate_server.core.calendar import Every


class OnLapse(enum.Enum):
    """What becomes of a bucket when the plan that granted it is left."""

    KEEP = "keep"
    """It stays, without an end."""
    FREEZE = "freeze"
    """It is shown and not spent, until the next subscription; its end stays as it is."""
    EXPIRE = "expire"
    RUN_TO_PERIOD_END = "run_to_period_end"


class Upgrade(enum.Enum):
    """What an upgrade gives at once."""

    DIFFERENCE = "difference"
    """The new allowance minus the old; the anchor stays."""
    RESTART = "restart"
    """A new period with the full allowance; the anchor moves."""


class SeatShare(enum.Enum):
    """What a seat added in mid-period gives at once."""

    FULL = "full"
    PRORATED = "prorated"
    """By the time that remains of the period, rounded up."""


class Buyers(enum.Enum):
    """Who may buy top-ups."""

    ANYONE = "anyone"
    SUBSCRIBERS = "subscribers"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurringGrant:
    """A bucket that is filled anew each period. Its rows are named `<name>#<period>`.

    A daily one begins at midnight in the account's zone, a longer one is counted from the
    subscription's anchor. `rollover_max` units of what is left go into the next period.
    """

    name: str
    kind: str
    """The letter of `commands.Kind`."""
    amount: int
    every: Every
    per_seat: bool = False
    rollover_max: int = 0
    on_lapse: OnLapse = OnLapse.EXPIRE
    actions: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AddOn:
    """Units that can be added to a plan, each so much in each period; they end with it (R81)."""

    name: str
    title: str
    amounts: Mapping[str, int]
    """By plan; it does not fit other plans."""
    every: Mapping[str, Every]
    """By plan: how often it renews."""
    per_seat: frozenset[str] = frozenset()
    """The plans in which a unit is for each seat."""
    on_lapse: OnLapse = OnLapse.EXPIRE


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One plan. `actions` and `models` None: all that the catalog has."""

    name: str
    title: str
    subscription: bool
    """Having it is a subscription; a free plan is none."""
    billing: Every = Every.MONTH
    """At whose end a cancellation or a downgrade takes effect."""
    grants: tuple[RecurringGrant, ...] = ()
    actions: frozenset[str] | None = None
    models: frozenset[str] | None = None
    open_holds_max: int = 0
    """0: any number."""

    def allows(self, action: str, model: str) -> bool:
        """Whether the plan includes this action with this model ("" for none)."""
        return self.allows_action(action) and (
            self.models is None or not model or model in self.models
        )

    def allows_action(self, action: str) -> bool:
        """Whether the plan includes the action, with some model."""
        return self.actions is None or action in self.actions


@dataclass(frozen=True, kw_only=True)
class Plans:
    """All plans, the least first, and the rules between them. Without plans, nothing recurs."""

    plans: tuple[Plan, ...] = ()
    default: str = ""
    """Where accounts begin, and where they fall when a subscription ends."""
    add_ons: tuple[AddOn, ...] = ()
    upgrade: Upgrade = Upgrade.DIFFERENCE
    seat_share: SeatShare = SeatShare.FULL
    buyers: Buyers = Buyers.ANYONE
    top_up_on_lapse: OnLapse = OnLapse.KEEP

    @cached_property
    def by_name(self) -> dict[str, Plan]:
        """Plans by their id."""
        return {plan.name: plan for plan in self.plans}

    @cached_property
    def add_on_by_name(self) -> dict[str, AddOn]:
        """Add-ons by their id."""
        return {add_on.name: add_on for add_on in self.add_ons}

    def rank(self, plan: str) -> int:
        """The place of a plan in the order; -1 for one that is not in the catalog any more."""
        names = [known.name for known in self.plans]
        return names.index(plan) if plan in names else -1

    def may_buy(self, plan: str) -> bool:
        """Whether an account on this plan may buy a top-up (R21, R37)."""
        found = self.by_name.get(plan)
        return self.buyers is Buyers.ANYONE or (found is not None and found.subscription)
