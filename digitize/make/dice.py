"""Dice: short names for the random choices that a scene makes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

NATURAL, ROUND = 0.4, 0.3  # share of numbers that are as people write them, and of these of the round ones

T = TypeVar("T")


class Dice:
    """A random generator with the few throws that scenes need.

    Attributes:
        rng: the generator underneath.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def chance(self, share: float) -> bool:
        """True in `share` of the throws."""
        return float(self.rng.random()) < share

    def between(self, low: float, high: float) -> float:
        """Evenly from `low` to `high`."""
        return low + (high - low) * float(self.rng.random())

    def log(self, low: float, high: float) -> float:
        """From `low` to `high`, evenly in the logarithm: as often between 10 and 20 as between 20 and 40."""
        return low * math.exp(math.log(high / low) * float(self.rng.random()))

    def normal(self, spread: float) -> float:
        """Normally around 0, cut at 2.5 spreads."""
        return spread * min(2.5, max(-2.5, float(self.rng.standard_normal())))

    def whole(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + int(float(self.rng.random()) * (high - low + 1))

    def pick(self, choices: Sequence[T]) -> T:
        """One of `choices`."""
        return choices[int(float(self.rng.random()) * len(choices))]

    def item(self, items: NDArray[np.int64]) -> int:
        """One of an array of indices."""
        return int(items[int(float(self.rng.random()) * len(items))])

    def weighted(self, choices: Mapping[T, float]) -> T:
        """One of the keys, as often as its weight says."""
        left = float(self.rng.random()) * sum(choices.values())
        for choice, weight in choices.items():
            left -= weight
            if left < 0:
                return choice
        return next(reversed(list(choices)))

    def digits(self, count: int) -> str:
        """A string of `count` digits: even chances, or amounts and counts as people write them.

        Of those the first digit follows Benford's law (1 in three of ten, 9 in one of twenty), and large ones are
        often round.
        """
        if self.chance(NATURAL):
            zeros = min(count - 1, self.whole(1, 3)) if self.chance(ROUND) else 0
            first = self.weighted({str(d): math.log10(1 + 1 / d) for d in range(1, 10)})
            return first + "".join(str(self.whole(0, 9)) for _ in range(count - 1 - zeros)) + "0" * zeros
        if self.chance(0.12):
            return "".join(self.pick("0015") if self.chance(0.6) else str(self.whole(0, 9)) for _ in range(count))
        return "".join(str(self.whole(0, 9)) for _ in range(count))
