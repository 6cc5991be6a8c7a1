"""Canvas: the sheet while it is being made, and the record of what stands on it.

Ink is kept as light that passes (1 none, 0 black) and multiplied, as ink on ink is; the paper comes underneath at
the end. Each true digit leaves its number in the instance map and its outline in the list of marks, and both go
through every change of geometry.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from digitize.hands import Alpha
from digitize.records import Box, Gray

Light = NDArray[np.float32]  # (H, W), 1 no ink to 0 black
Instances = NDArray[np.uint16]  # (H, W), 0 none, k the k-th digit of the page

INSTANCE_ALPHA = 0.35  # ink this dense belongs to the digit in the instance map
LEAST_VISIBLE = 0.6  # share of a digit that must stand on the page, not written over


class SpoiltError(Exception):
    """A scene came out with a digit off the page or written over; it is thrown again."""


@dataclass(frozen=True, slots=True)
class MadeDigit:
    """One true digit.

    Attributes:
        value: 0 to 9.
        box: around its ink.
        line, number: where it stands, each counted from 1; `number` within its line.
    """

    value: int
    box: Box
    line: int
    number: int


@dataclass(frozen=True, slots=True)
class MadePage:
    """One made sheet with its truth.

    Attributes:
        kind: which scene it is.
        gray: uint8 (H, W).
        instances: uint16 (H, W), 0 none, k where the ink of `digits[k - 1]` is on top.
        digits: in reading order.
    """

    kind: str
    gray: Gray = field(repr=False)
    instances: Instances = field(repr=False)
    digits: tuple[MadeDigit, ...]

    @property
    def text(self) -> str:
        """All digits in reading order."""
        return "".join(str(digit.value) for digit in self.digits)


@dataclass(slots=True)
class _Mark:
    """A digit while the canvas may still change: its outline as float32 (K, 2) points x, y."""

    value: int
    line: int
    number: int
    order: int
    outline: NDArray[np.float32]
    area: float


class Canvas:
    """A sheet in the making.

    Attributes:
        light: float32 (H, W), what passes through the ink.
        ids: uint16 (H, W), order of the digits as they were written, from 1.
    """

    def __init__(self, width: float, height: float) -> None:
        shape = max(4, round(height)), max(4, round(width))
        self.light: Light = np.ones(shape, np.float32)
        self.ids: Instances = np.zeros(shape, np.uint16)
        self._marks: list[_Mark] = []

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.light.shape[1])

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.light.shape[0])

    @property
    def count(self) -> int:
        """How many digits have been written."""
        return len(self._marks)

    def ink(self, alpha: Alpha, left: float, top: float, tone: float) -> None:
        """Lay ink down; what falls off the canvas is lost.

        Args:
            alpha: float32 (H, W), how much of each pixel is covered.
            left: where its corner comes, in pixels (rounded).
            top: likewise.
            tone: light that passes through full ink, 0 black to 1 invisible.
        """
        x, y = round(left), round(top)
        x0, y0 = max(0, x), max(0, y)
        x1, y1 = min(self.width, x + alpha.shape[1]), min(self.height, y + alpha.shape[0])
        if x1 > x0 and y1 > y0:
            self.light[y0:y1, x0:x1] *= 1 - (1 - tone) * alpha[y0 - y : y1 - y, x0 - x : x1 - x]

    def ink_around(self, alpha: Alpha, middle: tuple[float, float], tone: float) -> None:
        """Lay ink down with its middle at a place; otherwise as `ink`."""
        self.ink(alpha, middle[0] - alpha.shape[1] / 2, middle[1] - alpha.shape[0] / 2, tone)

    def digit(self, alpha: Alpha, left: float, top: float, tone: float, place: tuple[int, int, int]) -> None:
        """Write a true digit.

        Args:
            alpha: as for `ink`.
            left: as for `ink`.
            top: as for `ink`.
            tone: as for `ink`.
            place: value, line and number (the last two counted from 1).
        """
        self.ink(alpha, left, top, tone)
        x, y = round(left), round(top)
        mask = alpha > min(INSTANCE_ALPHA, 0.5 * float(alpha.max()))
        rows, columns = np.nonzero(mask)
        points = np.stack([columns + x, rows + y], axis=1).astype(np.float32)
        corners = cv2.convexHull(points)[:, 0] if len(points) > 3 else points
        # A pixel is a square: its corners, not its centre, bound the digit.
        outline = np.concatenate([corners, corners + 1]).astype(np.float32)
        value, line, number = place
        self._marks.append(_Mark(value, line, number, len(self._marks) + 1, outline, float(len(rows))))
        inside = (rows + y >= 0) & (rows + y < self.height) & (columns + x >= 0) & (columns + x < self.width)
        self.ids[rows[inside] + y, columns[inside] + x] = len(self._marks)

    def paste(self, other: Canvas, left: float, top: float, *, lines: int) -> int:
        """Put another canvas on this one, its digits counted as coming after `lines` lines.

        Returns:
            How many lines there are then.
        """
        x, y = round(left), round(top)
        self.ink(1 - other.light, x, y, 0.0)
        rows, columns = np.nonzero(other.ids)
        inside = (rows + y >= 0) & (rows + y < self.height) & (columns + x >= 0) & (columns + x < self.width)
        before = len(self._marks)
        self.ids[rows[inside] + y, columns[inside] + x] = other.ids[rows[inside], columns[inside]] + before
        for mark in other._marks:
            outline = mark.outline + np.array([x, y], np.float32)
            order, line = mark.order + before, mark.line + lines
            self._marks.append(_Mark(mark.value, line, mark.number, order, outline, mark.area))
        return max([lines, *(mark.line for mark in self._marks)])

    def cut(self, left: int, top: int, width: int, height: int) -> None:
        """Keep a part of the sheet."""
        left, top = max(0, left), max(0, top)
        self.light = np.ascontiguousarray(self.light[top : top + height, left : left + width])
        self.ids = np.ascontiguousarray(self.ids[top : top + height, left : left + width])
        for mark in self._marks:
            mark.outline = mark.outline - np.array([left, top], np.float32)

    def warp(self, matrix: NDArray[np.float64], size: tuple[int, int]) -> None:
        """Change the geometry.

        Args:
            matrix: (3, 3) homography from here to there.
            size: columns and rows of the new canvas.
        """
        scale = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2] / matrix[2, 2]))))
        light = self.light
        if scale < 0.75:
            light = cv2.GaussianBlur(light, (0, 0), 0.35 / scale).astype(np.float32)
        self.light = cv2.warpPerspective(
            light, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=1
        ).astype(np.float32)
        self.ids = cv2.warpPerspective(self.ids, matrix, size, flags=cv2.INTER_NEAREST).astype(np.uint16)
        for mark in self._marks:
            # OpenCV counts from pixels' centres, outlines from their edges.
            moved = cv2.perspectiveTransform(mark.outline[:, None] - np.float32(0.5), matrix)
            mark.outline = moved[:, 0].astype(np.float32) + np.float32(0.5)
            mark.area *= scale * scale

    def tilt(self, degrees: float) -> None:
        """Turn the sheet about its centre, growing the canvas so that no corner is lost."""
        turn = cv2.getRotationMatrix2D(((self.width - 1) / 2, (self.height - 1) / 2), degrees, 1)
        cosine, sine = abs(turn[0, 0]), abs(turn[0, 1])
        width = int(np.ceil(self.width * cosine + self.height * sine - 1e-6))
        height = int(np.ceil(self.width * sine + self.height * cosine - 1e-6))
        turn[:, 2] += np.array([(width - self.width) / 2, (height - self.height) / 2])
        self.warp(np.vstack([turn, [0, 0, 1]]), (width, height))

    def resize(self, factor: float) -> None:
        """Change the resolution."""
        size = max(4, round(self.width * factor)), max(4, round(self.height * factor))
        stretch = np.array([size[0] / self.width, size[1] / self.height], np.float32)
        how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        self.light = cv2.resize(self.light, size, interpolation=how).astype(np.float32)
        self.ids = cv2.resize(self.ids, size, interpolation=cv2.INTER_NEAREST).astype(np.uint16)
        for mark in self._marks:
            mark.outline = mark.outline * stretch
            mark.area *= float(stretch[0] * stretch[1])

    def truth(self) -> tuple[Instances, tuple[MadeDigit, ...]]:
        """The instance map, renumbered in reading order, and the digits.

        Raises:
            SpoiltError: a digit is off the page or written over.
        """
        if not self._marks:
            return self.ids, ()
        marks = sorted(self._marks, key=lambda mark: (mark.line, mark.number, mark.order))
        visible = np.bincount(self.ids.ravel(), minlength=len(marks) + 1)
        renumber = np.zeros(len(marks) + 1, np.uint16)
        digits = []
        line = number = 0  # counted anew: rows and cells may have stayed empty
        before = (0, 0)
        for k, mark in enumerate(marks, 1):
            if visible[mark.order] < max(3.0, LEAST_VISIBLE * mark.area):
                raise SpoiltError(f"digit {k} is off the page or written over")
            renumber[mark.order] = k
            low, high = np.floor(mark.outline.min(axis=0) + 0.05), np.ceil(mark.outline.max(axis=0) - 0.05)
            left, top = max(0, int(low[0])), max(0, int(low[1]))
            right, bottom = min(self.width, int(high[0])), min(self.height, int(high[1]))
            box = Box(left, top, max(1, right - left), max(1, bottom - top))
            number = number + (mark.number != before[1]) if mark.line == before[0] else 1
            line += mark.line != before[0]
            before = mark.line, mark.number
            digits.append(MadeDigit(mark.value, box, line, number))
        return renumber[self.ids], tuple(digits)
