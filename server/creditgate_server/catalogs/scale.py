"""From credits, which people write, to the whole units that everything counts in."""

from dataclasses import dataclass

from creditgate_server.catalogs.document import Table
from creditgate_server.core.prices import AMOUNT_MAX


@dataclass(frozen=True, slots=True)
class Scale:
    """1 credit is 10^decimals units."""

    decimals: int = 0

    @property
    def factor(self) -> int:
        """How many units a credit has."""
        return int(10**self.decimals)

    def amount(self, table: Table, key: str, default: int) -> int:
        """An amount of credits as whole units; the default, if it is none."""
        if key not in table:
            return default
        units = self.units(table, table.get(key), key)
        return default if units is None else units

    def units(self, table: Table, value: object, *steps: str | int) -> int | None:
        """`value`, which stands at `steps`, as whole units; None if it is no amount."""
        figure = table.figure(value, *steps)
        if figure is None:
            return None
        units = figure * self.factor
        if units.denominator != 1:
            table.problem(
                f"must have at most {self.decimals} digits after the point ([credit] decimals)",
                *steps,
            )
        elif units > AMOUNT_MAX:
            table.problem("must be at most 2^53 - 1 units", *steps)
        else:
            return units.numerator
        return None
