"""What one operator sells, as data: kinds, packs, actions and prices (R47, R65).

Everything is resolved: a price that equals the model's price has the figures of the model here.
All amounts are units, 0 to `AMOUNT_MAX`; 1 credit is 10^decimals of them.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cached_property

from creditgate_server.core import faults
from creditgate_server.core.commands import Job, Kind, LateSettle, Overage, Rules, Terms
from creditgate_server.core.prices import AMOUNT_MAX, Price, Rounding


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

    @cached_property
    def _by_name(self) -> dict[str, Action]:
        return {action.name: action for action in self.actions}

    def terms(self, job: Job) -> Terms | None:
        """What a job costs, and how its hold lives.

        None when the catalog has no price for the action, the model or the value of a setting: such
        a job is denied, never free. A price of 0 is a price (R10).

        Raises the fault INVALID_FIELD `job.quantity` where the amount would pass `AMOUNT_MAX`.
        """
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
        )

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


def _quantity_max(price: Price) -> int:
    """The largest quantity that has an amount, for a price that can overflow: one with a rate."""
    return min(AMOUNT_MAX, (AMOUNT_MAX - price.flat) * price.denominator) // price.numerator
