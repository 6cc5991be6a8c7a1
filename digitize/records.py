"""What flows between the stages: facts as frozen dataclasses, pixels as plain arrays.

Boxes are whole pixels of the upright page (after EXIF, before deskewing): left, top, width, height, with
the origin at the top left. Arrays are indexed [row, column].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]  # (H, W), 0 black to 255 white
Mask = NDArray[np.bool_]  # (H, W), True where the pen was
Tiles = NDArray[np.uint8]  # (N, 28, 28, 2), 0 paper to 255 ink: the digit, and its surroundings
Probabilities = NDArray[np.float32]  # (N, classes), rows sum to 1

Status = Literal["ok", "review", "corrected", "confirmed"]

TILE_SIDE = 28  # pixels, of a tile as of MNIST's images
# How `normalise.py` makes tiles: 20x20 fit, centre of mass in 28x28. A model's card names the rules that it was trained
# under, and a model of other rules is refused; a change to the tiles needs a new name here.
TILE_RULES = "mnist-20-28/1"
# How `clean.py` and `detect.py` bring pages before a detector: shade as ink darkens it, digits about 20 pixels tall.
PAGE_RULES = "shade-20/1"
RULES_BROKEN = 0.02  # share of true numbers that break a rule which the user says holds: slips of the pen, other forms
NO_DIGIT = 10  # the class after the ten digits: a fragment, several digits, a letter, a line, dirt


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """A rectangle in whole pixels of the upright page."""

    left: int
    top: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.left < 0 or self.top < 0 or self.width < 1 or self.height < 1:
            raise ValueError(f"a box needs left, top >= 0 and width, height >= 1, not {self}")

    @property
    def right(self) -> int:
        """First column to the right of the box."""
        return self.left + self.width

    @property
    def bottom(self) -> int:
        """First row below the box."""
        return self.top + self.height

    @staticmethod
    def around(boxes: list[Box]) -> Box:
        """The smallest box that holds all of `boxes` (at least one)."""
        left = min(box.left for box in boxes)
        top = min(box.top for box in boxes)
        right = max(box.right for box in boxes)
        bottom = max(box.bottom for box in boxes)
        return Box(left, top, right - left, bottom - top)


def shared_area(edges: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """The area that boxes (..., left-top-right-bottom) share with others; the two are broadcast."""
    width = np.minimum(edges[..., 2], others[..., 2]) - np.maximum(edges[..., 0], others[..., 0])
    height = np.minimum(edges[..., 3], others[..., 3]) - np.maximum(edges[..., 1], others[..., 1])
    return np.asarray(np.maximum(width, 0) * np.maximum(height, 0), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Page:
    """One page as it was loaded, upright and gray.

    Attributes:
        source: the sheet's path as given (for a folder, relative to it).
        number: page number, from 1.
        gray: uint8 (H, W), 255 is white; alpha flattened on white, 16 bits scaled to 8, EXIF applied.
        dpi: resolution that the file states, or None where it states none.
    """

    source: str
    number: int
    gray: Gray = field(repr=False)
    dpi: float | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """One digit as the network sees it.

    Attributes:
        box: in working pixels of the page.
        seen: probability that a digit's middle lies here.
        digits: float64 (10,), which digit it is; sums to 1.
    """

    box: Box
    seen: float
    digits: NDArray[np.float64] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Digit:
    """One digit as read.

    Attributes:
        value: 0 to 9.
        confidence: calibrated probability in [0, 1] that this is that digit.
        alternative: the runner-up, 0 to 9.
        alternative_confidence: its probability.
        status: "ok", or "review" where the confidence is below the threshold in force; "corrected" or "confirmed"
            where somebody has looked.
        box: where it stands.
    """

    value: int
    confidence: float
    alternative: int
    alternative_confidence: float
    status: Status
    box: Box


@dataclass(frozen=True, slots=True)
class Number:
    """Digits that stand together, left to right.

    Attributes:
        digits: at least one.
        failed: names of the rules of the user that it fails.
        proposal: where it fails, the likeliest reading that passes, with runner-ups in the place of some digits; "" if
            there is none.
        proposal_confidence: probability that the proposal is right.
    """

    digits: tuple[Digit, ...]
    failed: tuple[str, ...] = ()
    proposal: str = ""
    proposal_confidence: float = 0.0

    @property
    def text(self) -> str:
        """The digits as a string, leading zeros kept."""
        return "".join(str(digit.value) for digit in self.digits)

    @property
    def confidence(self) -> float:
        """Probability that every digit is right, taking them as independent.

        By Bayes' rule it is lower where the number fails a rule, which few true numbers break.
        """
        product = 1.0
        for digit in self.digits:
            product *= digit.confidence
        if self.failed:
            return product * RULES_BROKEN / (product * RULES_BROKEN + 1 - product)
        return product

    @property
    def box(self) -> Box:
        """The box around its digits."""
        return Box.around([digit.box for digit in self.digits])


@dataclass(frozen=True, slots=True)
class Line:
    """Numbers that stand on one line, left to right."""

    numbers: tuple[Number, ...]


@dataclass(frozen=True, slots=True)
class PageReading:
    """What was read on one page; `lines` is empty for a blank one.

    Attributes:
        number: page number, from 1.
        width, height: size of the upright page in pixels; boxes are in pixels of it.
        rotation: degrees clockwise (0, 90, 180, 270) by which the page was turned upright after its EXIF
            orientation was applied.
        lines: in reading order.
    """

    number: int
    width: int
    height: int
    lines: tuple[Line, ...]
    rotation: int = 0

    def digits(self) -> Iterator[tuple[int, int, int, Digit]]:
        """Yield (line, number, position, digit), each counted from 1, in reading order."""
        for line_index, line in enumerate(self.lines, 1):
            for number_index, number in enumerate(line.numbers, 1):
                for position, digit in enumerate(number.digits, 1):
                    yield line_index, number_index, position, digit


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of a page as it is shown to whoever looks at its doubtful digits.

    Attributes:
        window: the part, in pixels of the upright page.
        png: its picture, small enough to be kept for every doubtful digit of a batch.
        width, height: of the picture.
        rank: value and confidence of a digit that it shows; crops lie in the sprites by it, as they are looked at.
    """

    window: Box
    png: bytes = field(repr=False)
    width: int
    height: int
    rank: tuple[int, float]


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is kept of a page's pixels for people to look at, since pages stay in the process that reads them.

    Attributes:
        picture: the upright page, small, as WebP; empty where none is asked for, like what follows.
        crops: parts of the page that show digits.
        shown: for each digit to look at its index on the page, and which crop shows it.
        audited: indices of those that are sure, and drawn to see how often such are wrong.
        overlay: the page with what was read drawn on it, as JPEG.
        dpi: resolution of that.
    """

    picture: bytes = field(default=b"", repr=False)
    crops: tuple[Crop, ...] = ()
    shown: tuple[tuple[int, int], ...] = ()
    audited: frozenset[int] = frozenset()
    overlay: bytes = field(default=b"", repr=False)
    dpi: float = 0.0


@dataclass(frozen=True, slots=True)
class SheetReading:
    """What was read on one sheet, or why it could not be read.

    Attributes:
        source: the path as given; for a folder, relative to it.
        sha256: hash of the file's bytes, hexadecimal; empty where the file could not be opened.
        pages: in file order.
        error: None, or one line that says why reading failed.
        passing: whether what failed may pass: the file was still being written, or was locked. Not part of results.
        drawings: of each page, where somebody is to look at them; else none. Not part of results.
        spent: seconds by stage that were counted since the reading before it, where a stopwatch ran. Likewise.
        trace: of what was raised in reading it that nobody foresaw; else empty. Likewise.
    """

    source: str
    sha256: str
    pages: tuple[PageReading, ...]
    error: str | None = None
    passing: bool = field(default=False, compare=False)
    drawings: tuple[Drawing, ...] = field(default=(), compare=False, repr=False)
    spent: Mapping[str, float] = field(default_factory=dict, compare=False, repr=False)
    trace: str = field(default="", compare=False, repr=False)
