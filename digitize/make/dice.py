"""Dice: short names for the random choices that a scene makes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

NATURAL, ROUND = 0.4, 0.3  # share of numbers that are as people write them, and of these of the round ones
# How often a sheet is full of each digit: of zeros and ones above all.
FAVOURITES = {"0": 4.0, "1": 3.0, "2": 1.5, "3": 1.0, "4": 1.0, "5": 1.5, "6": 1.0, "7": 1.0, "8": 1.0, "9": 1.0}
PURE, IMPURE = 0.4, 0.7  # share of sheets with favourites that hold nothing else; on others, of draws from these alone

T = TypeVar("T")


class Dice:
    """A random generator with the few throws that scenes need.

    Attributes:
        rng: the generator underneath.
        favourites: digits that numbers are mostly made of; all alike where empty.
        favoured: share of digits that are drawn from the favourites; the rest are drawn from all.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.favourites, self.favoured = "", 0.0

    def choose_favourites(self) -> None:
        """Let numbers be made of one or two digits from here on, as codes, counts and marks on a sheet often are."""
        self.favourites = "".join(self.weighted(FAVOURITES) for _ in range(self.whole(1, 2)))
        self.favoured = 1.0 if self.chance(PURE) else IMPURE

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

    def digit(self) -> str:
        """One digit, mostly a favourite where there are any."""
        if self.favourites and self.chance(self.favoured):
            return self.pick(self.favourites)
        return str(self.whole(0, 9))

    def digits(self, count: int) -> str:
        """A string of `count` digits: even chances, or amounts and counts as people write them.

        Of those the first digit follows Benford's law (1 in three of ten, 9 in one of twenty), and large ones are
        often round. Where there are favourites, most are these.
        """
        if self.favourites:
            return "".join(self.digit() for _ in range(count))
        if self.chance(NATURAL):
            zeros = min(count - 1, self.whole(1, 3)) if self.chance(ROUND) else 0
            first = self.weighted({str(d): math.log10(1 + 1 / d) for d in range(1, 10)})
            return first + "".join(self.digit() for _ in range(count - 1 - zeros)) + "0" * zeros
        if self.chance(0.12):
            return "".join(self.pick("0015") if self.chance(0.6) else self.digit() for _ in range(count))
        return "".join(self.digit() for _ in range(count))
