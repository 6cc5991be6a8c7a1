"""How likely each place on a page holds a digit, once everything else that was seen on the page is known.

A detector judges a place by a window of the page. What a page is like as a whole tells more: among words nothing is a
digit that only might be one; in a column of digits, or alone in a small picture, what might be one mostly is. So every
place is scored once more, by a small network that looks at its own score, its shape, and sums over the other places:
the contextual rescoring of Felzenszwalb, Girshick, McAllester & Ramanan, "Object Detection with Discriminatively
Trained Part-Based Models" (IEEE TPAMI 2010, section 7.2), with neighbours weighed by where they stand, since digits
stand in rows and columns. How it compares with them tells, too: a slash is taller than the digits of its line, and
circles to choose from are all of one size.

It is fitted (`learn_context.py`) on sheets that the maker draws from hands which the detector was not trained on, and
is kept in the detector's card, as it holds for that detector alone, looking as often at a page as it did then.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitize.errors import ModelError
from digitize.records import Place

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

MEND = "fit it again with digitize calibrate --context, or restore the card"
FEATURES = "places/3"  # which numbers `features` gives; a card's weights hold for these alone
LEAST, MOST = 1e-4, 1 - 1e-4  # probabilities nearer to 0 or 1 say no more
SURE = 0.8  # probability from which a place is counted as sure
TOLD = 0.3  # probability from which a place counts at all for the share of sure ones
ALONE = -6.0  # log odds of the surest other place where there is none
ALIKE = 0.35  # log of the ratio of two heights at which a neighbour counts for 1/e
# Columns and rows, in heights of a place, at which what stands there counts for 1/e: its row near and far, its column
# likewise, and all around.
REACHES = ((1.5, 0.4), (6.0, 0.5), (0.6, 2.0), (0.8, 8.0), (3.0, 3.0))
LINE = 2.0, 0.6  # the same of the line that a place is compared with
AROUND = 6.0, 6.0  # and of all around, where it is compared with what has its value
MOST_ALIKE = 10.0  # digits' worth of these from which more say no more
MOST_OFF = 1.5  # heights: the most by which a neighbour's top or foot counts as lower or higher
ENOUGH = 0.3  # digits' worth of neighbours from which a comparison counts in full
FURTHEST = 12.0  # heights: what stands further away does not count for any of them
AT_ONCE = 64  # places whose neighbours are looked for together; bounds memory
SMALLEST = math.log(1 / 80)  # log of the least part of a page's side that a digit's is told to be
OWN, COMPARED = 16, 8  # numbers about a place and its page, and about how it compares with its neighbours
COUNT = OWN + COMPARED + 2 * len(REACHES)  # numbers that `features` gives
DIGITS = 5  # of the numbers in a card


@dataclass(frozen=True, slots=True)
class Context:
    """A network of dense layers with ReLU between them, from `features` to the log odds of a digit.

    Attributes:
        mean, spread: float64 (F,), what each number is brought to mean 0 and deviation 1 by.
        layers: weights (inputs, outputs) and biases (outputs,) of each layer; the last has one output.
    """

    mean: Floats = field(repr=False)
    spread: Floats = field(repr=False)
    layers: tuple[tuple[Floats, Floats], ...] = field(repr=False)

    def rescored(self, places: Sequence[Place], shape: tuple[int, int]) -> list[Place]:
        """The places with what is thought of each once all are known.

        Args:
            places: everything that was seen on a page.
            shape: (h, w) of the page in working pixels.
        """
        seen = self.probabilities(features(places, shape)).tolist()
        return [replace(place, seen=p) for place, p in zip(places, seen, strict=True)]

    def probabilities(self, features: Floats) -> Floats:
        """How likely places are digits: float64 (N,) for `features` (N, F)."""
        x = (features - self.mean) / self.spread
        *hidden, (weights, biases) = self.layers
        for hidden_weights, hidden_biases in hidden:
            x = np.maximum(x @ hidden_weights + hidden_biases, 0.0)
        return np.asarray(1.0 / (1.0 + np.exp(-(x @ weights + biases)[:, 0])), dtype=np.float64)

    def to_card(self) -> dict[str, Any]:
        """What goes into a card; `from_card` reads it."""
        return {
            "features": FEATURES,
            "mean": _written(self.mean),
            "spread": _written(self.spread),
            "layers": [
                {"weights": [_written(row) for row in weights], "biases": _written(biases)}
                for weights, biases in self.layers
            ],
        }

    @staticmethod
    def from_card(content: Mapping[str, Any], path: Path | str = "the detector's card") -> Context | None:
        """Read what a detector's card says; None where it says nothing.

        Args:
            content: of the card.
            path: of the card.

        Raises:
            ModelError: it does not make such a network, or was fitted to other numbers.
        """
        if "context" not in content:
            return None
        try:
            stored = content["context"]
            if stored["features"] != FEATURES:
                raise ModelError(
                    f"{path} has a context of {stored['features']!r}, this version needs {FEATURES!r}: "
                    "fit it again with digitize calibrate --context"
                )
            mean, spread = _read(stored["mean"]), _read(stored["spread"])
            layers = tuple(
                (np.stack([_read(row) for row in layer["weights"]]), _read(layer["biases"]))
                for layer in stored["layers"]
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path} holds no usable context ({error}): {MEND}") from None
        widths = [COUNT, *(len(biases) for _, biases in layers)]
        sound = [weights.shape for weights, _ in layers] == list(itertools.pairwise(widths))
        sound &= widths[-1] == 1 and mean.shape == spread.shape == (COUNT,) and bool((spread > 0).all())
        if not sound or not all(np.isfinite(part).all() for part in (mean, spread, *itertools.chain(*layers))):
            raise ModelError(f"{path} holds a context that makes no network: {MEND}")
        return Context(mean, spread, layers)


def features(places: Sequence[Place], shape: tuple[int, int]) -> Floats:
    """What is known of each place by itself, of the page, and of what stands beside it.

    Args:
        places: everything that was seen on a page, N of them.
        shape: (h, w) of the page in working pixels.

    Returns:
        float64 (N, 34): log odds of the place; how sure its value is, the value's entropy, and its shares of 1, 7 and
        0; log ratios of its height to the other places' and of its sides to each other and to the page's; how many
        others there are, how many digits' worth, the surest one's log odds, the mean, how many sure ones, and their
        share; how it compares with its neighbours (see `_compared`); and for each of `REACHES` what others amount to
        there, as digits and as none.
    """
    if not places:
        return np.zeros((0, COUNT))
    seen = np.array([place.seen for place in places])
    digits = np.array([place.digits for place in places])
    boxes = np.array([(b.left, b.top, b.width, b.height) for b in (place.box for place in places)], float)
    width, height = boxes[:, 2], boxes[:, 3]
    count, odds, tall = len(places), _log_odds(seen), np.log(height)
    others = seen.sum() - seen
    usual = np.where(others > 0, (np.sum(tall * seen) - tall * seen) / np.maximum(others, LEAST), tall)
    surest = np.sort(odds)[-2:] if count > 1 else np.array([ALONE, odds[0]])
    highest = np.where(odds == surest[-1], surest[0], surest[-1])
    sure, told = seen >= SURE, seen >= TOLD
    sure_others, told_others = sure.sum() - sure, told.sum() - told
    own = [odds, digits.max(axis=1), -(digits * np.log(digits + 1e-9)).sum(axis=1), *digits[:, (1, 7, 0)].T]
    of_page = [np.maximum(np.log(side / whole), SMALLEST) for side, whole in ((height, shape[0]), (width, shape[1]))]
    sides = [tall - usual, np.log(width) - tall, *of_page]
    page = [
        np.full(count, np.log1p(count - 1)),
        np.log1p(others),
        highest,
        others / max(1, count - 1),
        np.log1p(sure_others),
        sure_others / np.maximum(told_others, 1),
    ]
    return np.column_stack([*own, *sides, *page, *_beside(boxes, seen, digits)])


def _beside(boxes: Floats, seen: Floats, digits: Floats) -> tuple[Floats, Floats]:
    """What stands beside each place.

    Returns:
        How it compares with that: (N, 8), see `_compared`. For each of `REACHES`, how much stands there that is a
        digit, and that is none: (N, 10).
    """
    x, y, height = boxes[:, 0] + boxes[:, 2] / 2, boxes[:, 1] + boxes[:, 3] / 2, boxes[:, 3]
    compared, amounts = np.zeros((len(boxes), COMPARED)), np.zeros((len(boxes), 2 * len(REACHES)))
    for own, rows, j in _neighbours(x, y, height):
        i = own[rows]
        across, down = np.square((x[j] - x[i]) / height[i]), np.square((y[j] - y[i]) / height[i])
        alike = np.square(np.log(height[j] / height[i]) / ALIKE)
        for k, (reach_across, reach_down) in enumerate(REACHES):
            weight = np.exp(-alike - across / reach_across**2 - down / reach_down**2)
            for part, share in enumerate((seen[j], 1 - seen[j])):
                amounts[own, 2 * k + part] = np.bincount(rows, weight * share, minlength=len(own))
        in_line, around = (seen[j] * np.exp(-across / a**2 - down / d**2) for a, d in (LINE, AROUND))
        same = np.einsum("nd,nd->n", digits[i], digits[j])
        compared[own] = _compared(boxes[i], boxes[j], same, in_line, around, rows, len(own))
    return compared, np.asarray(np.log1p(amounts), dtype=np.float64)


def _compared(
    own: Floats, other: Floats, same: Floats, in_line: Floats, around: Floats, rows: Indices, count: int
) -> Floats:
    """How places compare with their neighbours.

    A mean over neighbours that are less than `ENOUGH` of a digit together is drawn to 0 as they grow fewer.

    Args:
        own: (M, 4), the box (left, top, width, height) of the place that a pair is about.
        other: (M, 4), that of its neighbour.
        same: (M,), how likely the two have the same value.
        in_line: (M,), weight of the neighbour among those in the line, by where it is and how likely it is a digit.
        around: (M,), the same among all around.
        rows: (M,), which place a pair is about.
        count: how many places there are.

    Returns:
        float64 (count, 8). Means over the line: the log ratio of the neighbours' heights to its own; by how many of
        its heights their tops and feet lie lower; the share of them that have its value. Of all around: the share that
        have its value; the log of how many digits' worth they are; and the means over these of how far their heights
        and widths are from its own, in logs.
    """

    def means(weight: Floats, *columns: Floats) -> list[Floats]:
        amount = np.maximum(np.bincount(rows, weight, minlength=count), ENOUGH)
        return [np.bincount(rows, weight * values, minlength=count) / amount for values in columns]

    _, top, width, height = own.T
    taller, wider = np.log(other[:, 3] / height), np.log(other[:, 2] / width)
    tops = np.clip((other[:, 1] - top) / height, -MOST_OFF, MOST_OFF)
    feet = np.clip((other[:, 1] + other[:, 3] - top - height) / height, -MOST_OFF, MOST_OFF)
    alike = around * same
    many = np.log1p(np.minimum(np.bincount(rows, alike, minlength=count), MOST_ALIKE))
    return np.column_stack(
        [
            *means(in_line, taller, tops, feet, same),
            *means(around, same),
            many,
            *means(alike, np.abs(taller), np.abs(wider)),
        ]
    )


def _neighbours(x: Floats, y: Floats, height: Floats) -> Iterator[tuple[Indices, Indices, Indices]]:
    """Some places at a time, and pairs (which of these, which other) within `FURTHEST` heights of the first."""
    order = np.argsort(y, kind="stable")
    sorted_y = y[order]
    for start in range(0, len(order), AT_ONCE):
        own = order[start : start + AT_ONCE]
        reach = FURTHEST * height[own]
        first = np.searchsorted(sorted_y, (y[own] - reach).min())
        last = np.searchsorted(sorted_y, (y[own] + reach).max(), side="right")
        near = order[first:last]
        near = near[np.argsort(x[near], kind="stable")]
        left = np.searchsorted(x[near], x[own] - reach)
        counts = np.searchsorted(x[near], x[own] + reach, side="right") - left
        rows = np.repeat(np.arange(len(own)), counts)
        others = near[np.arange(len(rows)) + np.repeat(left - np.cumsum(counts) + counts, counts)]
        close = (np.abs(y[others] - y[own][rows]) <= reach[rows]) & (others != own[rows])
        yield own, rows[close], others[close]


def _log_odds(seen: Floats) -> Floats:
    bounded = np.clip(seen, LEAST, MOST)
    return np.asarray(np.log(bounded / (1 - bounded)), dtype=np.float64)


def _written(values: Floats) -> str:
    """A row of numbers as a card has it: in one line."""
    return " ".join(f"{value:.{DIGITS}g}" for value in values)


def _read(row: str) -> Floats:
    return np.array(row.split(), dtype=np.float64)
