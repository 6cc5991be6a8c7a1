"""Lines and numbers in reading order, from digits scattered over a page.

Assumes an upright page, skewed or sloping by up to `STEEPEST`. The slope is the one along which the digits' middles
fall into the sharpest rows (the projection profile of Postl, "Detection of linear oblique structures and skew scan
in digitized documents", ICPR 1986, taken over boxes instead of pixels). Along it, digits are gathered into lines from
left to right; within a line, a wide gap or ink that is no digit, such as a sign, starts another number.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from digitize.records import Box, Mask

STEEPEST = 12.0  # degrees
SLOPE_STEP = 0.25  # degrees
LEVEL_BONUS = 0.02  # share by which a slope has to beat the level page
ROW_SHARE = 0.5  # of a digit's height by which its middle may lie off its line
MOST_TALLER = 1.5  # what is more times as tall as its neighbour is taken for so tall: it may stand beside two lines
GAP = 0.75  # digit heights: a wider gap starts a number, unless the line's digits all stand that far apart
GAP_OF_LINE = 2.2  # times the line's usual gap
MOST_ASKED = 300  # boxes whose nearest neighbour is looked for
SIGN = 0.35  # digit heights: ink between two digits that is this large keeps them apart
THIN = 0.22  # digit heights: what is no wider and stands is left over from a comb's walls, and no sign
REACH = 1.2  # digit heights by which the wall between two columns reaches beyond the digits, above or below
UNBROKEN = 0.8  # share of such a length that has to be there
SWAY = 0.06  # digit heights by which a wall may be bent within it, each way
CORE = 0.4  # share of a digit's width, its middle, that a wall does not cross
PIERCED = 0.1  # share of digits crossed by walls from which these are a pattern of the paper


@dataclass(frozen=True, slots=True)
class Row:
    """Digits of one line as indices into the boxes given, gathered into numbers."""

    numbers: tuple[tuple[int, ...], ...]


def arrange(boxes: list[Box], *, others: list[Box], rules: Rules | None = None) -> list[Row]:
    """Gather digits into lines and numbers.

    Args:
        boxes: one a digit, in any order.
        others: boxes of ink that is no digit; what of it stands between two digits, and is no dot, keeps them apart.
        rules: the printed lines of the page; None where they are not known.

    Returns:
        Lines from top to bottom, numbers and digits from left to right.
    """
    if not boxes:
        return []
    order = sorted(range(len(boxes)), key=lambda k: boxes[k])  # ties, too, fall alike whatever order they come in
    boxes = [boxes[k] for k in order]
    place = np.array([[b.left + b.width / 2, b.top + b.height / 2] for b in boxes])
    heights = np.array([b.height for b in boxes], float)
    signs = _Signs(others)
    slope = _slope(place, heights)
    walls = _Walls(rules, float(np.median(heights)), slope) if rules is not None and rules.mask.any() else None
    if walls is not None and walls.pierce(boxes) > PIERCED * len(boxes):
        walls = None
    turn = np.array([[np.cos(slope), -np.sin(slope)], [np.sin(slope), np.cos(slope)]])
    rows = [_numbers(row, boxes, signs, walls) for row in _rows(place @ turn, heights)]
    return [Row(tuple(tuple(order[k] for k in number) for number in row)) for row in rows]


def _slope(place: NDArray[np.float64], heights: NDArray[np.float64]) -> float:
    """The angle in radians by which digits' lines slope, from their middles: float64 (N, 2)."""
    if len(place) < 3:
        return 0.0
    height = float(np.median(heights))

    def sharpness(angle: float) -> float:
        y = place[:, 1] * np.cos(angle) - place[:, 0] * np.sin(angle)
        bins = (y - y.min()) / (0.25 * height)
        low = bins.astype(int)
        share = bins - low
        profile = np.bincount(low, 1 - share, low.max() + 2) + np.bincount(low + 1, share, low.max() + 2)
        return float(np.square(profile).sum())

    angles = np.radians(np.arange(-STEEPEST, STEEPEST + SLOPE_STEP, SLOPE_STEP))
    scores = [sharpness(float(a)) * (1 - LEVEL_BONUS * abs(a) / angles[-1]) for a in angles]
    if sharpness(0.0) * (1 + LEVEL_BONUS) >= max(scores):
        return 0.0
    return float(angles[int(np.argmax(scores))])


def _rows(place: NDArray[np.float64], heights: NDArray[np.float64]) -> list[list[int]]:
    """Gather digits into rows, left to right; rows from top to bottom."""
    rows: list[list[int]] = []
    # Each row's height in the page, and that of its digits, where it was last seen; as many as there can be rows.
    last_y, last_height = np.empty(len(place)), np.empty(len(place))
    for k in np.argsort(place[:, 0], kind="stable"):
        y, height = place[k, 1], heights[k]
        off = np.abs(y - last_y[: len(rows)])
        higher, lower = np.maximum(height, last_height[: len(rows)]), np.minimum(height, last_height[: len(rows)])
        off[off > ROW_SHARE * np.minimum(higher, MOST_TALLER * lower)] = np.inf
        best = int(off.argmin()) if rows else -1
        if best < 0 or off[best] == np.inf:
            last_y[len(rows)], last_height[len(rows)] = y, height
            rows.append([int(k)])
        else:
            rows[best].append(int(k))
            last_y[best] = 0.6 * last_y[best] + 0.4 * y
            last_height[best] = 0.6 * last_height[best] + 0.4 * height
    return sorted(rows, key=lambda row: float(np.median(place[row, 1])))


def _numbers(row: list[int], boxes: list[Box], signs: _Signs, walls: _Walls | None) -> list[tuple[int, ...]]:
    """Cut a row into numbers."""
    if len(row) == 1:
        return [(row[0],)]
    height = float(np.median([boxes[k].height for k in row]))
    gaps = np.array([boxes[b].left - boxes[a].right for a, b in itertools.pairwise(row)], float)
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])  # the lower middle: in 55 7 one gap of two is a number's own
    wide = max(GAP * height, GAP_OF_LINE * usual)
    near = signs.large_within(min(boxes[k].top for k in row), max(boxes[k].bottom for k in row), height)
    numbers, current = [], [row[0]]
    for a, b, gap in zip(row[:-1], row[1:], gaps, strict=True):
        apart = gap > wide or near.between(boxes[a], boxes[b])
        if apart or (walls is not None and walls.between(boxes[a], boxes[b])):
            numbers.append(tuple(current))
            current = []
        current.append(b)
    return [*numbers, tuple(current)]


class _Signs:
    """Middles of ink that is no digit, in the order of their columns, so that few are asked whether they part two."""

    def __init__(self, boxes: Sequence[Box]) -> None:
        found = np.array([(b.left, b.top, b.width, b.height) for b in boxes], float).reshape(-1, 4)
        x, y = found[:, 0] + found[:, 2] / 2, found[:, 1] + found[:, 3] / 2
        order = np.argsort(x, kind="stable")
        self._x, self._y, self._size = x[order], y[order], found[order, 2:]

    def large_within(self, top: int, bottom: int, height: float) -> _Signs:
        """Those between two rows of pixels that are no dots, nor left over from walls; `height` of the digits."""
        width, tall = self._size.T
        large = np.maximum(width, tall) >= SIGN * height
        kept = (self._y > top) & (self._y < bottom) & large & ((width > THIN * height) | (tall <= width))
        some = _Signs(())
        some._x, some._y, some._size = self._x[kept], self._y[kept], self._size[kept]
        return some

    def between(self, a: Box, b: Box) -> bool:
        """Whether one stands between two neighbours, `a` the left one."""
        first = self._x.searchsorted(a.left + a.width / 2, side="right")
        last = self._x.searchsorted(b.left + b.width / 2, side="left")
        y = self._y[first:last]
        return bool(((y > min(a.top, b.top)) & (y < max(a.bottom, b.bottom))).any())


@dataclass(frozen=True, slots=True)
class Rules:
    """Printed lines, rules and frames, of a page.

    Attributes:
        mask: bool (h, w), their ink in working pixels.
        scale: working pixels a pixel of the page.
    """

    mask: Mask = field(repr=False)
    scale: float


class _Walls:
    """Upright rules that are longer than a line of digits is tall, as between the columns of a table."""

    def __init__(self, rules: Rules, height: float, slope: float) -> None:
        leaning = REACH / 2 * abs(np.tan(slope))  # walls lean as the lines slope
        sway = max(1, round((SWAY + leaning) * height * rules.scale))
        self._mask = cv2.dilate(rules.mask.view(np.uint8), np.ones((1, 2 * sway + 1), np.uint8))
        self._scale = rules.scale

    def between(self, a: Box, b: Box) -> bool:
        """Whether one stands between the middles of two neighbours, `a` the left one."""
        return self._stands(
            a.left + a.width / 2,
            b.left + b.width / 2,
            max(a.top, b.top),
            min(a.bottom, b.bottom),
            max(a.height, b.height),
        )

    def pierce(self, boxes: Sequence[Box]) -> int:
        """How many digits one goes through the middle of, as the lines of squared paper do."""
        edge = (1 - CORE) / 2
        return sum(
            self._stands(box.left + edge * box.width, box.right - edge * box.width, box.top, box.bottom, box.height)
            for box in boxes
        )

    def _stands(self, left: float, right: float, top: float, bottom: float, height: float) -> bool:
        """Whether an upright rule goes between two columns from `top` to `bottom` and beyond, in pixels of the page."""
        first, last = int(left * self._scale), int(np.ceil(right * self._scale)) + 1
        up, top, bottom, down = (
            round(row * self._scale) for row in (top - REACH * height, top, bottom, bottom + REACH * height)
        )
        columns = self._mask[:, max(0, first) : last]
        return bottom > top and (
            (up >= 0 and _has_rule(columns[up:bottom])) or (down <= len(columns) and _has_rule(columns[top:down]))
        )


def _has_rule(part: NDArray[Any]) -> bool:
    """Whether a column of 0 and 1 is nearly full."""
    return bool(part.mean(axis=0).max(initial=0.0) >= UNBROKEN)


def beside(boxes: Sequence[Box]) -> float:
    """Share of boxes whose nearest neighbour stands beside them rather than above or below: which way writing runs.

    It is near 1 on upright text and numbers, near 0 where these lie on their side, and between for scattered marks and
    columns of single digits; 0.5 for less than two boxes. At most `MOST_ASKED` boxes are asked, and of these each
    compares the distances between middles.
    """
    if len(boxes) < 2:
        return 0.5
    middles = np.array([(box.left + box.width / 2, box.top + box.height / 2) for box in boxes])
    asked = np.arange(0, len(boxes), 1 + len(boxes) // MOST_ASKED)
    across = 0
    for k in asked:  # one after another, so that memory grows with the boxes alone
        apart = np.abs(middles - middles[k])
        distance = np.hypot(apart[:, 0], apart[:, 1])
        distance[k] = np.inf
        nearest = apart[distance.argmin()]
        across += bool(nearest[0] > nearest[1])
    return across / len(asked)
