"""The price pinned to a hold: a straight line over the quantity, in whole units (R28, R60, R71)."""

from typing import NamedTuple

from creditgate_server.core.words import Word

AMOUNT_MAX = 2**53 - 1
"""The largest amount: the last whole number that every language we meet keeps exact."""


class Rounding(Word):
    """What becomes of a fraction of a unit. The values are the letters in the store's records."""

    UP = "u"
    DOWN = "d"
    HALF_UP = "h"


class Price(NamedTuple):
    """max(minimum, flat + numerator * quantity / denominator), rounded once; 0 for a quantity of 0.

    All figures are units, 0 to `AMOUNT_MAX`, the denominator at least 1.
    """

    flat: int = 0
    numerator: int = 0
    denominator: int = 1
    minimum: int = 0
    rounding: Rounding = Rounding.UP
    unit: str = ""

    def of(self, quantity: int) -> int:
        """The amount for `quantity` units delivered.

        Raises OverflowError where the product passes `AMOUNT_MAX`, so that scripts, which count in
        doubles, come to the same figure.
        """
        if quantity == 0:
            return 0
        product = self.numerator * quantity
        if product > AMOUNT_MAX:
            raise OverflowError(f"{self.numerator} x {quantity} passes 2^53 - 1")
        whole, rest = divmod(product, self.denominator)
        if rest and (
            self.rounding is Rounding.UP
            or (self.rounding is Rounding.HALF_UP and 2 * rest >= self.denominator)
        ):
            whole += 1
        amount = max(self.minimum, self.flat + whole)
        if amount > AMOUNT_MAX:
            raise OverflowError(f"{amount} passes 2^53 - 1")
        return amount
