"""What one operator sells, as data: kinds, packs, plans, actions and prices (R47, R65).

Everything is resolved: a price that equals the model's price has the figures of the model here.
All amounts are units, 0 to `AMOUNT_MAX`; 1 credit is 10^decimals of them.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Literal

from creditgate_server.core import faults
from creditgate_server.core.calendar import Every
from creditgate_server.core.commands import Job, Kind, LateSettle, Overage, Rules, Terms
from creditgate_server.core.plans import Plan, Plans, RecurringGrant, Upgrade
from creditgate_server.core.prices import AMOUNT_MAX, Price, Rounding

ANY_PLAN = "*"
"""The gate of a job that every plan allows, in any number (`commands.Terms.gate`)."""

_MONTHS = {Every.MONTH: 1, Every.QUARTER: 3, Every.YEAR: 12}
_JOBS_REMEMBERED = 1024
"""Of how many jobs the terms are not worked out anew."""
_ANOTHER = "*"
"""Stands for every model that the catalog does not name; it is no name itself."""


@dataclass(frozen=True, kw_only=True)
class PricedSetting:
    """A setting of a job that multiplies the rate, such as its resolution (R28, R60)."""

    name: str
    default_value: str = ""
    """The value that counts when a job does not give one; "" when it must be given."""
    factors: Mapping[str, Decimal]
    """By what each value multiplies the rate; a value that is not here has no price."""

    @cached_property
    def factor_texts(self) -> dict[str, str]:
        """The factors as plain decimals, such as "1.5"."""
        return {value: f"{factor:f}" for value, factor in self.factors.items()}

    @cached_property
    def _fractions(self) -> dict[str, Fraction]:
        return {value: Fraction(factor) for value, factor in self.factors.items()}

    def factor(self, settings: Mapping[str, str]) -> Fraction | None:
        """The factor for a job's settings; None for an unknown or missing value."""
        return self._fractions.get(settings.get(self.name, self.default_value))


@dataclass(frozen=True, kw_only=True)
class Tariff:
    """What an action costs with one model (or with any), before a job's settings are known."""

    flat: int = 0
    rate: Fraction = Fraction(0)
    """Units of credit for one unit of quantity, exact."""
    minimum: int = 0
    rounding: Rounding = Rounding.UP
    unit: str
    """What quantity counts, such as "image" or "second"."""
    settings: tuple[PricedSetting, ...] = ()

    @cached_property
    def base(self) -> Price:
        """The price of the default settings; a setting without a default counts as 1."""
        factors = (setting.factor({}) for setting in self.settings)
        return self._priced([Fraction(1) if factor is None else factor for factor in factors])

    def price(self, settings: Mapping[str, str]) -> Price | None:
        """The price for a job's settings; None when one that matters has no factor."""
        if not self.settings:
            return self.base
        factors = []
        for setting in self.settings:
            factor = setting.factor(settings)
            if factor is None:
                return None
            factors.append(factor)
        return self._priced(factors)

    def _priced(self, factors: Iterable[Fraction]) -> Price:
        rate = math.prod(factors, start=self.rate)
        return Price(
            flat=self.flat,
            numerator=rate.numerator,
            denominator=rate.denominator,
            minimum=self.minimum,
            rounding=self.rounding,
            unit=self.unit,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldTerms:
    """How a hold lives and what a settle beside the plan does. Times are milliseconds."""

    ttl_ms: int = 600_000
    life_ms_max: int = 86_400_000
    overage: Overage = Overage.CAP
    overdraft_limit: int = 0
    late_settle: LateSettle = LateSettle.RECHARGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Something that a job does, such as "image.generate"."""

    name: str
    title: str
    tariffs: Mapping[str, Tariff]
    """By model; under "" the one for any model not named, and for none."""
    hold: HoldTerms = HoldTerms()

    def tariff(self, model: str) -> Tariff | None:
        """What the action costs with a model, "" for none; None when there is no price for it.

        Where the price does not depend on the model, an unknown one may be named.
        """
        return self.tariffs.get(model) or self.tariffs.get("")


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedAction:
    """A line of the price list: an action alone, or with one model."""

    action: str
    title: str
    model: str
    price: Price
    """The price of the default settings; a setting without a default counts as 1."""
    settings: tuple[PricedSetting, ...]
    ttl_ms: int
    life_ms_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What jobs planned for a month cost (R41)."""

    prices: tuple[int, ...]
    """Of each job once."""
    amount: int
    """Of all of them, without the buffer."""
    buffer: int
    """What is added for variants and reruns (R42), rounded up."""
    plans: tuple[str, ...]
    """Those whose monthly allowance covers both, the least first."""


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """The catalog of one operator, whole and free of contradictions: a reader sees to that."""

    name: str
    title: str
    version: str
    """Changes whenever the content does; part of every hold's record."""
    unit: str
    """What a credit is called, such as "credit" or "token" (R45)."""
    decimals: int
    rules: Rules
    packs: tuple[int, ...]
    """In which top-ups are sold, the smallest first (R23)."""
    kinds: tuple[Kind, ...]
    """In burn-down order (R20, R39, R63); equal ranks in the order of `Kind`."""
    actions: tuple[Action, ...]
    """In the operator's order."""
    tiers: Mapping[str, str] = field(default_factory=dict)
    """The tier of each model that has one (R32, R60); plans name tiers, and hold their models."""
    quote_ms: int = 900_000
    """For how long a quote binds."""

    @property
    def plans(self) -> Plans:
        """The plans, and the rules between them."""
        return self.rules.plans

    @cached_property
    def _by_name(self) -> dict[str, Action]:
        return {action.name: action for action in self.actions}

    @cached_property
    def _models(self) -> frozenset[str]:
        """All models that have a price with some action, and "" for none."""
        return frozenset({"", *(model for action in self.actions for model in action.tariffs)})

    @cached_property
    def _terms(self) -> Callable[[Job], Terms | None]:
        """Terms of the latest jobs, since jobs are alike and a catalog never changes."""
        return lru_cache(_JOBS_REMEMBERED)(self._terms_of)

    @cached_property
    def _gates(self) -> dict[tuple[str, str], str]:
        """By action and model, filled as they are asked for."""
        return {}

    def terms(self, job: Job) -> Terms | None:
        """What a job costs, and how its hold lives.

        None when the catalog has no price for the action, the model or the value of a setting: such
        a job is denied, never free. A price of 0 is a price (R10).

        Raises the fault INVALID_FIELD `job.quantity` where the amount would pass `AMOUNT_MAX`.
        """
        return self._terms(job)

    def _terms_of(self, job: Job) -> Terms | None:
        action = self._by_name.get(job.action)
        if action is None:
            return None
        tariff = action.tariff(job.model)
        price = None if tariff is None else tariff.price(dict(job.settings))
        if price is None:
            return None
        try:
            amount = price.of(job.quantity)
        except OverflowError:
            most = _quantity_max(price)
            raise faults.invalid("job.quantity", f"1 to {most} at this price") from None
        return Terms(
            price=price,
            amount=amount,
            ttl_ms=action.hold.ttl_ms,
            life_ms_max=action.hold.life_ms_max,
            overage=action.hold.overage,
            overdraft_limit=action.hold.overdraft_limit,
            late_settle=action.hold.late_settle,
            catalog_version=self.version,
            gate=self._gate(job),
        )

    def _gate(self, job: Job) -> str:
        """Which plans allow a job, as `Terms.gate`; the same text for all models not named here."""
        key = (job.action, job.model if job.model in self._models else _ANOTHER)
        gate = self._gates.get(key)
        if gate is None:
            gate = self._gates[key] = self._gate_of(*key)
        return gate

    def _gate_of(self, action: str, model: str) -> str:
        plans = self.plans.plans
        allowing = [plan for plan in plans if plan.allows(action, model)]
        if len(allowing) == len(plans) and not any(plan.open_holds_max for plan in plans):
            return ANY_PLAN
        return "".join(f",{plan.name}/{plan.open_holds_max}" for plan in allowing) + ","

    def denial_of(self, job: Job, plan: str) -> Literal["PLAN_REQUIRED", "ACTION_NOT_IN_PLAN"]:
        """Why the gate does not let an account on this plan run the job.

        ACTION_NOT_IN_PLAN when the plan has no such action; PLAN_REQUIRED when it has it, but not
        with this model (R32), or when the plan is not in the catalog any more.
        """
        found = self.plans.by_name.get(plan)
        if found is None or found.allows_action(job.action):
            return "PLAN_REQUIRED"
        return "ACTION_NOT_IN_PLAN"

    def plans_that_allow(self, job: Job, amount: int = 0, *, above: str) -> tuple[str, ...]:
        """Plans above one that allow a job, the least first: what UPGRADE may name (R44).

        Where `amount` is missing, only those that give as much at once for such a job, on one seat,
        to an account that comes from the plan `above`. An allowance that a contract sets is not
        known here and counts as none.
        """
        came_from = self.plans.by_name.get(above)
        return tuple(
            plan.name
            for plan in self.plans.plans[self.plans.rank(above) + 1 :]
            if plan.allows(job.action, job.model) and self._gain(plan, came_from, job) >= amount
        )

    def _gain(self, plan: Plan, came_from: Plan | None, job: Job) -> int:
        """What may pay such a job, and is given at once by moving to a plan."""
        if self.plans.upgrade is Upgrade.RESTART or came_from is None:
            known: dict[str, RecurringGrant] = {}
        else:
            known = {grant.name: grant for grant in came_from.grants}
        gain = 0
        for grant in plan.grants:
            if _pays(grant, job):
                before = known.get(grant.name)
                goes_on = before is not None and before.every is grant.every
                gain += max(0, grant.amount - (before.amount if before and goes_on else 0))
        return gain

    def forecast(self, planned: Iterable[tuple[Job, int]], *, buffer_percent: int = 25) -> Forecast:
        """What jobs cost in a month, each run so many times, and which plans cover it (R41 to R43).

        A plan covers it when it allows every job and its allowance of a month on one seat, or the
        month's part of a longer period, suffices. Credits that end within the month do not count:
        whether they are there on the day of a job is not known. Neither do those that pay only some
        of the jobs.

        Raises the fault INVALID_FIELD for a job without a price, and for a sum past `AMOUNT_MAX`.
        """
        jobs, prices, amount = [], [], 0
        for index, (job, times) in enumerate(planned):
            terms = self.terms(job)
            if terms is None:
                raise faults.invalid(f"planned[{index}].job", "has no price in the catalog")
            jobs.append(job)
            prices.append(terms.amount)
            amount += terms.amount * times
        buffer = -(-amount * buffer_percent // 100)
        if amount + buffer > AMOUNT_MAX:
            raise faults.invalid("planned", "costs more than 2^53 - 1 together")
        plans = tuple(
            plan.name
            for plan in self.plans.plans
            if all(plan.allows(job.action, job.model) for job in jobs)
            and _monthly(plan, jobs) >= amount + buffer
        )
        return Forecast(prices=tuple(prices), amount=amount, buffer=buffer, plans=plans)

    def priced(self, action: str = "") -> Iterator[PricedAction]:
        """The price list in the operator's order (R47), or only one known action's part."""
        for known in self.actions:
            if action in {"", known.name}:
                for model, tariff in known.tariffs.items():
                    yield PricedAction(
                        action=known.name,
                        title=known.title,
                        model=model,
                        price=tariff.base,
                        settings=tariff.settings,
                        ttl_ms=known.hold.ttl_ms,
                        life_ms_max=known.hold.life_ms_max,
                    )

    def smallest_pack(self, missing: int) -> int:
        """The smallest pack that makes up `missing` units; 0 when no single pack does."""
        return next((pack for pack in self.packs if pack >= missing), 0)


def _pays(grant: RecurringGrant, job: Job) -> bool:
    """Whether a job may be paid from a grant's buckets, as the scripts decide it."""
    return (not grant.actions or job.action in grant.actions) and (
        not grant.models or job.model in grant.models
    )


def _monthly(plan: Plan, jobs: list[Job]) -> int:
    """What a plan grants a month, of credits that live as long and may pay each of the jobs."""
    return sum(
        grant.amount // _MONTHS[grant.every]
        for grant in plan.grants
        if grant.every in _MONTHS and all(_pays(grant, job) for job in jobs)
    )


def _quantity_max(price: Price) -> int:
    """The largest quantity that has an amount, for a price that can overflow: one with a rate."""
    return min(AMOUNT_MAX, (AMOUNT_MAX - price.flat) * price.denominator) // price.numerator
