"""Ink from paper: the second stage, between the loaded page and its glyphs.

Assumes an upright gray page of any size, lighting and polarity. Three steps:

1. *Polarity and paper.* The pen is the sparser side of the page's local contrast. The paper under the pen is
   a closing of the page with an element wider than its thickest strokes, smoothed; dividing by it takes shadows away.
2. *Threshold.* The contrast at a stroke's edge lies half way between paper and pen, so the mean contrast,
   weighted by squared gradient in a window around each pixel, is that place's threshold: the idea of Su, Lu & Tan,
   "Robust document image binarization technique for degraded document images" (IEEE TIP 2013). Theirs counts
   edge pixels; ours weighs them, and falls back on the page's own level where a window holds no pen.
3. *Rules.* Long, thin, straight runs of ink are printed lines. Along each, columns where the ink is no thicker
   than the line are taken out; where it is thicker a stroke crosses, and stays whole.

Every length is in stroke widths, estimated from the page itself. Pages whose strokes are thinner than
`FINE_STROKE` are enlarged first, so that a stroke has an inside; large pages on which every stroke is thicker are made
smaller, down to half, which is quicker. `Ink.scale` says by how much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from digitize.records import Gray, Mask

Floats = NDArray[np.float32]

FINE_STROKE = 3.2  # working pixels: below this, thresholding loses the gaps inside a 6 or an 8
MAX_ENLARGEMENT = 4  # beyond this, interpolation adds pixels but nothing to see
LEAST_SPLIT = 500_000  # pixels: a row or column of so many does not matter
LEAST_SHRUNK = 2_000_000  # pixels: smaller pages cost little as they are
SMALLEST, LARGEST = 0.5, 0.8  # the sizes that a page is made smaller to; a little smaller would hardly be quicker
THINNEST = 0.05  # share of the ink that may be of strokes too fine for the smaller size
MAX_WORKING_PIXELS = 12_000_000  # bounds the memory of an enlarged page
PAPER_ELEMENT = 5.0  # usual stroke widths: wider than most strokes, so that a closing sees under them
THICK, OVER_THICKEST = 0.9, 1.5  # share of the ink that is of no thicker stroke; and how many of its widths do as well
MOST_ELEMENT = 20.0  # stroke widths: what is thicker still is a bar or a shadow
WINDOW = 16.0  # stroke widths: about two digits, the reach of the local threshold
CLEAR = 5.0  # standard deviations of bare paper that edges have to lie above it, else the page is smoothed more
FIRST_BLUR = 1.5  # pixels: small writing beside large must survive it
MOST_BLUR = 2.5  # pixels: grain is a matter of the sensor's pixels, not of the writing's scale
NOISE_GATE = 4.0  # standard deviations of the bare paper that ink has to stand out by
ACROSS = 2.5  # digit heights: a horizontal line this long is no 7's bar and no dash
DOWN = 1.55  # digit heights: a vertical line this long is no 1
CROSSING = 0.7  # stroke widths: ink this much thicker than the line is a stroke that crosses it
THICKEST = 3.0  # stroke widths: thicker than this is a bar, not a line
SLENDER = 8.0  # a line is at least this many times as long as thick
THICKNESS_WINDOW = 8.0  # stroke widths to each side over which a line's thickness is taken as steady
BAR_STROKES, BAR_FILLED, BAR_SHARE = 4.0, 0.5, 0.2  # a bar's thickness, share of its box, and share of all ink
FRAME_SIDE = 0.75  # share of a box's side that is ink where the side is a frame's
FRAME_STROKES = 12.0  # stroke widths: opposite sides further apart than this are no thick digit's
MOST_FRAMES = 200  # boxes looked at, largest first, for holding others
STRAIGHTNESS = 0.3  # stroke widths that a line may stray from its fit
STRAIGHT = 0.8  # share of a line's columns that lie on its fit
SURE = 1.15  # times the level that a piece of ink has to reach somewhere
LEVEL_CELLS = 8  # cells across the local threshold's window
GUESS_ELEMENT = 125  # pixels of a page of 1,000: wider than any stroke
CLOSING_SIDE = 31  # cells of the closing's element when it is worked out
GUESS_BLURS = (0.0, 1.0, 2.0)  # pixels of a page of 1,000: the one that parts ink from paper best is taken
POLARITY_SIDE = 800  # pixels: a page is looked at in this size to tell dark ink from light
MOST_FLOOR = 0.8  # share of the page's own level that the gate against noise may rise to
INK_SHADE = 100  # of 255: leaves room above it to tell a dark stroke from a faint one
SPARSE = 0.125  # share of a page up to which its ink is gone through pixel by pixel: quicker than whole arrays
SQUARES = np.square(np.arange(256)).astype(np.uint16)  # of a slope: to look them up is quicker than to multiply
ROWS_SAMPLED = 500  # of a page, when its contrast is measured
SURROUND_SIDE = 400  # cells of the longer side: what lies around a sheet is looked for in this size
LEAST_SURROUNDED = 600  # pixels of the longer side: a smaller picture is cut out of a sheet, and what it ends in is ink
BLACK, NEARLY_BLACK = 0.06, 0.3  # of the paper's brightness: what lies around a sheet is darker; and what goes with it
SURROUND_ELEMENT = 5  # cells: it is thicker than ink; at an edge half of that will do
SURROUND_CONTACT = 0.25  # share of a side of the picture that it takes up
TABLE_LEVELS = tuple(0.95 - 0.05 * k for k in range(12))  # times Otsu's level: what parts a sheet from a dark table
TABLE_SIDES = 3  # of the picture, each by half or more, along which a table lies that is not most of it
CORNER = 0.02  # of a sheet's outline that its sides may stray from straight
SLANTED_FILLED = 0.95  # share of its convex hull that a sheet is which is no rectangle
LEAST_SHEET, SHEET_FILLED = 0.1, 0.85  # share of the picture that a sheet is, and of the rectangle around it
FAINTEST = 0.035  # share of the paper's brightness below which a mark cannot be told from paper


@dataclass(frozen=True, slots=True)
class _LineKind:
    """What makes a row of thin ink a line.

    Attributes:
        gap, gap_of_height: stroke widths and digit heights that are bridged, whichever is less.
        bridge: it is looked for in bridged ink; else in unbroken pieces.
        coverage: share of its columns that hold ink.
        length: times the shortest line, as it is first seen.
        whole: the same once it was followed to its ends.
        regular: its pieces and gaps have to be even.
    """

    gap: float
    gap_of_height: float
    bridge: bool
    coverage: float
    length: float
    whole: float
    regular: bool = False


PIECE = _LineKind(3.0, 0.35, bridge=False, coverage=0.9, length=0.75, whole=1.0)
SOLID = _LineKind(3.0, 0.35, bridge=True, coverage=0.7, length=0.8, whole=1.0)
DASHED = _LineKind(5.0, 0.6, bridge=True, coverage=0.35, length=1.2, whole=1.5, regular=True)
FEWEST_DASHES = 6
EVEN = 0.3  # median deviation of dashes and of gaps, as a share of their median


@dataclass(frozen=True, slots=True)
class Ink:
    """A page's ink at working scale.

    Attributes:
        pen: bool (h, w), True where the pen was; rules are taken out.
        rules: bool (h, w), True where a rule or frame was taken out.
        shade: uint8 (h, w), how dark each pixel is for its place: 0 paper, `INK_SHADE` the level from which it is ink.
        scale: working pixels a page pixel; (h, w) is about (H, W) times it.
        stroke: typical width of a pen stroke in working pixels.
        height: typical height of the writing in working pixels.
    """

    pen: Mask
    rules: Mask
    shade: Gray
    scale: float
    stroke: float
    height: float


def extract_ink(gray: Gray, *, remove_rules: bool = True) -> Ink:
    """Tell the pen from the paper.

    Args:
        gray: uint8 (H, W), dark or light paper.
        remove_rules: take printed lines and frames out.

    Returns:
        The ink, at a working scale that gives strokes an inside.
    """
    filled, sheet = _without_surround(gray)
    dark = darken(filled)
    scale, stroke = 1.0, 0.0
    if dark.size >= LEAST_SHRUNK:
        small = _resized(dark, SMALLEST)
        stroke, thickest, thinnest = _stroke_widths(_guess_ink(small), 0.5, THICK, THINNEST)
        factor = max(1.0, FINE_STROKE / max(stroke, 1.0), FINE_STROKE / 2 / max(thinnest, 1.0))
        if SMALLEST * factor <= LARGEST:
            scale, stroke, thickest = SMALLEST * factor, stroke * factor, thickest * factor
            dark = small if factor == 1.0 else _resized(dark, scale)
    if scale == 1.0:
        stroke, thickest = (max(1.0, width) for width in _stroke_widths(_guess_ink(dark), 0.5, THICK))
    contrast, level, bare = measure_contrast(dark, stroke=stroke, thickest=thickest, sheet=sheet)
    mask = contrast > level
    stroke = stroke_width(mask)
    enlargement = _enlargement(mask, stroke) if scale == 1.0 else 1.0
    if enlargement > 1.0:
        scale = enlargement
        contrast, level, bare = measure_contrast(
            _resized(dark, scale), stroke=stroke * scale, thickest=thickest * scale, sheet=sheet
        )
        mask = contrast > level
        stroke = stroke_width(mask)
    stroke = max(stroke, 1.0)
    mask, pieces = _drop_faint(mask, contrast, level)
    rise, least = (np.maximum(part, bare) - bare for part in (contrast, level))
    shade = _as_gray(cv2.divide(rise, least, scale=INK_SHADE))
    if not remove_rules:
        return Ink(mask, np.zeros_like(mask), shade, scale, stroke, digit_height(mask, stroke=stroke, pieces=pieces))
    rules, height = find_rules(mask, stroke=stroke, pieces=pieces)
    return Ink(mask & ~rules, rules, shade, scale, stroke, height)


def _enlargement(mask: Mask, stroke: float) -> float:
    """By how much a page is enlarged, in halves, so that its strokes have an inside."""
    if not 0 < stroke < FINE_STROKE:
        return 1.0
    room = np.floor(2 * np.sqrt(MAX_WORKING_PIXELS / mask.size)) / 2
    return float(np.clip(np.ceil(2 * FINE_STROKE / stroke) / 2, 1.0, np.clip(room, 1.0, MAX_ENLARGEMENT)))


def _resized(dark: Gray, scale: float) -> Gray:
    """A page in another size."""
    height, width = (max(1, round(side * scale)) for side in dark.shape)
    if scale > 1:
        return _as_gray(cv2.resize(dark, (width, height), interpolation=cv2.INTER_CUBIC))
    return _as_gray(_shrunk(dark, (width, height)))


def _shrunk(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """A page in a smaller size (width, height): halved first where it is far smaller, which OpenCV does quickest.

    Of odd sides the last row or column is left out when a large page is halved.
    """
    while image.size >= LEAST_SPLIT and min(image.shape[1] / size[0], image.shape[0] / size[1]) >= 4:
        height, width = (side // 2 for side in image.shape)
        image = cv2.resize(image[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def darken(gray: Gray) -> Gray:
    """Give the page with dark ink on light paper, turned round where it was light on dark.

    The pen is sparse, so the median is paper, and the pen is the longer tail. Both tails are weighed over the whole
    page (which a strong vignette can mislead) and against each pixel's surroundings (which thick frames can).
    """
    shrink = max(1.0, max(gray.shape) / POLARITY_SIDE)
    small = _resized(gray, 1 / shrink) if shrink > 1 else gray
    dark, middle, light = _quantiles(small, 0.01, 0.5, 0.99)
    whole = (2 * middle - dark - light) / max(light - dark, 1.0)
    reach = max(3, min(255, (min(small.shape) // 3) | 1))
    residual = small.astype(np.float32) - cv2.medianBlur(small, reach)
    below, above = float(np.square(np.minimum(residual, 0)).sum()), float(np.square(np.maximum(residual, 0)).sum())
    local = (below - above) / max(below + above, 1.0)
    return gray if whole + local >= 0 else 255 - gray


def _without_surround(gray: Gray) -> tuple[Gray, Mask | None]:
    """The page with paper in place of what is black around the sheet: the scanner's lid, a dark table under a slip.

    Black has no contrast to itself, and would be taken for ink many times as thick and tall as the writing; and where
    there is more of it than of the sheet, for the paper, as would a table that is only dark. What it leaves has to be a
    sheet, a quadrilateral: light writing on black paper leaves none.

    Returns:
        The page, and bool (h, w) in a small size: where the sheet is; None if it is everywhere.
    """
    if max(gray.shape) < LEAST_SURROUNDED:
        return gray, None
    small = _resized(gray, SURROUND_SIDE / max(gray.shape))
    (paper,) = _quantiles(small, 1 - LEAST_SHEET / 2)
    surround = _find_surround(small, BLACK * paper, NEARLY_BLACK * paper)
    if not surround.any():
        surround = _find_table(small)
    if not surround.any() or not _is_sheet(~surround):
        return gray, None
    covered = _as_gray(cv2.dilate(surround.view(np.uint8), np.ones((3, 3), np.uint8)))
    _, nearest = cv2.distanceTransformWithLabels(covered, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    sheet = covered == 0
    levels = np.zeros(int(nearest.max()) + 1, np.uint8)
    levels[nearest[sheet]] = cv2.dilate(small, np.ones((3, 3), np.uint8))[sheet]
    whole = gray.shape[::-1]
    filled = cv2.resize(levels[nearest], whole, interpolation=cv2.INTER_LINEAR)
    around = cv2.resize(covered, whole, interpolation=cv2.INTER_NEAREST) > 0
    return _as_gray(np.where(around, filled, gray)), sheet


def _find_surround(small: Gray, level: float, weak: float) -> Mask:
    """What is darker than a level, thicker than ink, and takes up much of a side of a small page: bool (H, W).

    What is not so dark goes with it where they hang together, up to the level `weak`; ink that touches it does not.
    """
    element = np.ones((SURROUND_ELEMENT, SURROUND_ELEMENT), np.uint8)
    dark = (small < weak).view(np.uint8)
    thick = _as_gray(cv2.morphologyEx(dark, cv2.MORPH_OPEN, element))
    count, labels = cv2.connectedComponents(thick, connectivity=8)
    around = np.zeros(count, bool)
    for side in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        touching = np.bincount(labels[side][small[side] < level], minlength=count)
        around |= touching >= SURROUND_CONTACT * len(labels[side])
    around[0] = False
    grown = cv2.dilate(around[labels].view(np.uint8), element)
    return np.asarray((grown > 0) & (dark > 0), dtype=bool)


def _find_table(small: Gray) -> Mask:
    """What is dark, if not black, and lies around the sheet or is most of the picture: bool (H, W).

    A shadow that falls on both may leave paper in it hardly lighter than the table is in the light. Otsu's level then
    goes through the shadow, where the outline moves with every level; at the edge of a sheet it stays where it is. So
    that level, of Otsu's and lower ones, is taken at which the outline moves least (Matas et al. 2002, "Robust wide
    baseline stereo from maximally stable extremal regions").
    """
    otsu, _ = cv2.threshold(small, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    table = _find_surround(small, otsu, otsu)
    if not _lies_around(table):
        return np.zeros_like(table)
    found = [table, *(_find_surround(small, share * otsu, share * otsu) for share in TABLE_LEVELS)]
    areas = np.array([np.count_nonzero(one) for one in found])
    steady = found[int(np.argmin(areas[:-2] - areas[2:])) + 1]
    return steady if _lies_around(steady) and _is_sheet(~steady) else table


def _lies_around(table: Mask) -> bool:
    """Whether a mask is most of the picture, or runs along most of its sides."""
    sides = sum(side.mean() >= 0.5 for side in (table[0], table[-1], table[:, 0], table[:, -1]))
    return bool(sides >= TABLE_SIDES or 2 * np.count_nonzero(table) > table.size)


def _is_sheet(mask: Mask) -> bool:
    """Whether the largest part of a mask fills a quadrilateral, and enough of the picture."""
    largest = _largest_part(mask)
    if largest is None:
        return False
    area = cv2.contourArea(largest)
    _, (width, height), _ = cv2.minAreaRect(largest)
    hull = cv2.convexHull(largest)
    corners = cv2.approxPolyDP(hull, CORNER * cv2.arcLength(hull, closed=True), closed=True)
    slanted = len(corners) == 4 and area >= SLANTED_FILLED * cv2.contourArea(hull)  # as a camera sees it
    return bool(area >= LEAST_SHEET * mask.size and (slanted or area >= SHEET_FILLED * width * height))


def _largest_part(mask: Mask) -> NDArray[Any] | None:
    """The outline of the largest part of a mask, as OpenCV gives it; None where there is none."""
    contours, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return max(contours, key=cv2.contourArea, default=None)


def measure_contrast(
    dark: Gray, *, stroke: float, thickest: float = 0.0, sheet: Mask | None = None
) -> tuple[Gray, Gray, np.uint8]:
    """Measure how far each pixel is darker than its paper, and how far ink has to be.

    Args:
        dark: uint8 (H, W), dark ink on light paper.
        stroke: rough width of a stroke in pixels.
        thickest: that of the thickest strokes, where they are thicker than usual.
        sheet: bool (h, w) in any size, where there is a sheet, if it is not everywhere.

    Returns:
        (contrast, level, bare): contrast and level uint8 (H, W), 0 for the brightest paper and 255 for black; a pixel
        is ink where its contrast exceeds `level`; `bare` is that of usual paper, more than 0 where it has grain.
    """
    contrast = 255 - _as_gray(cv2.divide(dark, _paper(dark, stroke, thickest), scale=255))
    step = max(1, len(contrast) // ROWS_SAMPLED)
    blur = min(max(0.3, 0.2 * stroke), FIRST_BLUR)
    while True:
        smooth = _as_gray(cv2.GaussianBlur(contrast, (0, 0), blur))
        low, middle = _quantiles(_on_sheet(smooth[::step], sheet), 0.1, 0.4)
        noise = (middle - low) / 1.1  # so many deviations lie between these
        slope = cv2.morphologyEx(smooth, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        sampled = np.square(slope[::step].astype(np.float64))
        total = float(sampled.sum())
        if total <= 0.0 and step > 1:  # what little ink there is lies between the rows
            step = 1
            continue
        if total <= 0.0:
            return smooth, np.full_like(smooth, 255), np.uint8(0)
        whole = float((sampled * smooth[::step]).sum()) / total
        if whole - middle >= CLEAR * noise or blur >= MOST_BLUR:
            break
        blur *= 1.5  # strokes average over a length that grain does not have
    floor = min(max(255 * FAINTEST, middle + NOISE_GATE * noise), MOST_FLOOR * whole)
    prior = 0.3 * float(np.square(sampled).sum()) / total  # a fraction of what an average edge pixel weighs
    # The level changes over a window, not over a pixel, and is worked out on cells.
    window = WINDOW * stroke
    cell = max(1.0, window / LEVEL_CELLS)
    size = (max(1, round(dark.shape[1] / cell)), max(1, round(dark.shape[0] / cell)))
    weight = cv2.LUT(slope, SQUARES)
    pull = cv2.multiply(weight, smooth, scale=1 / 255, dtype=cv2.CV_16U)
    side = (round(window / cell) | 1, round(window / cell) | 1)
    mass, drawn = (cv2.blur(_shrunk(part.astype(np.float32), size), side) * window for part in (weight, pull))
    level = np.maximum((255 * drawn + prior * whole) / (mass + prior), floor)
    return smooth, _as_gray(cv2.resize(np.rint(level).astype(np.uint8), dark.shape[::-1])), np.uint8(middle)


def _on_sheet(image: Gray, sheet: Mask | None) -> Gray:
    """The pixels of a page, uint8 (H, W), that lie on its sheet."""
    if sheet is None:
        return image
    size = image.shape[1], image.shape[0]
    return _as_gray(image[cv2.resize(sheet.view(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0])


def _quantiles(image: Gray, *shares: float) -> list[float]:
    """The levels up to which these shares of the pixels lie: counted, which is quicker than to sort."""
    below = np.cumsum(_levels(image))
    return [float(np.searchsorted(below, share * below[-1])) for share in shares]


def _levels(image: Gray) -> NDArray[np.int64]:
    """How many pixels of uint8 (H, W) have each level: int64 (256,)."""
    return np.asarray(cv2.calcHist([image], [0], None, [256], [0, 256]).ravel(), dtype=np.int64)


def _as_gray(image: NDArray[Any]) -> Gray:
    """OpenCV's answer as what it is here: uint8."""
    return np.asarray(image, dtype=np.uint8)


def stroke_width(mask: Mask) -> float:
    """Estimate the width of the strokes in `mask`, bool (H, W): twice the depth of their middle; 0 without ink."""
    return _stroke_widths(mask, 0.5)[0]


def _stroke_widths(mask: Mask, *shares: float) -> list[float]:
    """The same for several shares: of the ink that may be of thinner strokes; a half gives the usual stroke.

    Solid bars, which are as much ink as a page of writing and no stroke, are left out.
    """
    inked = int(np.count_nonzero(mask))
    if not inked:
        return [0.0] * len(shares)
    if inked == mask.size:  # there is no edge to measure from
        return [float(min(mask.shape))] * len(shares)
    depth = cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, 3)
    deepest = cv2.dilate(depth, np.ones((3, 3), np.uint8))
    if inked <= SPARSE * mask.size:
        ink = np.flatnonzero(mask)
        own, around = depth.ravel()[ink], deepest.ravel()[ink]
    else:
        own, around = depth[mask], deepest[mask]
    order = np.sort(own[own >= around])
    weight, whole = np.cumsum(order), order.sum()
    places = [min(int(np.searchsorted(weight, whole * share)), len(order) - 1) for share in shares]
    if order[np.searchsorted(weight, whole / 2)] > BAR_STROKES * order[len(order) // 2]:  # few, but deep
        pieces = _find_pieces(mask)
        bars = np.zeros(len(pieces.number) + 1, bool)
        bars[pieces.number] = _are_bars(pieces, 0.0)
        if bars.any():
            return _stroke_widths(mask & ~bars[pieces.labels], *shares)
    return [float(2.0 * order[place] - 1.0) for place in places]


def _are_bars(pieces: _Pieces, stroke: float) -> NDArray[np.bool_]:
    """Which pieces are solid shapes, thicker than any stroke of this width, that hold much of a page's ink."""
    width, height, area = (v.astype(np.float64) for v in (pieces.boxes[:, 2], pieces.boxes[:, 3], pieces.area))
    solid = (area > BAR_FILLED * width * height) & (np.minimum(width, height) > BAR_STROKES * stroke)
    return np.asarray(solid & (area > BAR_SHARE * area.sum()), dtype=bool)


def _paper(dark: Gray, stroke: float, thickest: float) -> Gray:
    """The paper's brightness under the pen: uint8 (H, W)."""
    height, width = dark.shape
    shrink = max(1.0, stroke)
    size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
    small = _as_gray(_shrunk(dark, size)) if shrink > 1 else dark
    widest = min(max(PAPER_ELEMENT * stroke, OVER_THICKEST * thickest), MOST_ELEMENT * stroke)
    reach = max(3, round(widest / shrink) | 1)
    element = _as_gray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
    paper = cv2.medianBlur(_closed(small, element), min(2 * reach + 1, 31))
    paper = cv2.blur(paper, (reach, reach))
    return _as_gray(cv2.resize(paper, (width, height), interpolation=cv2.INTER_LINEAR))


def _closed(image: Gray, element: NDArray[np.uint8]) -> Gray:
    """A closing for which the image goes on beyond its edges as it ends there, so that a shadow at an edge stays."""
    reach = max(element.shape)
    padded = cv2.copyMakeBorder(image, reach, reach, reach, reach, cv2.BORDER_REPLICATE)
    return _as_gray(cv2.morphologyEx(padded, cv2.MORPH_CLOSE, element)[reach:-reach, reach:-reach])


def _wide_paper(smooth: Gray, reach: int) -> Gray:
    """A closing with a square about `reach` pixels wide, worked out on the brightest pixel of each cell of a grid."""
    cell = max(1, reach // CLOSING_SIDE)
    brightest = _as_gray(cv2.dilate(smooth, np.ones((cell, cell), np.uint8)))[cell // 2 :: cell, cell // 2 :: cell]
    paper = _closed(np.ascontiguousarray(brightest), np.ones((reach // cell, reach // cell), np.uint8))
    return _as_gray(cv2.resize(paper, smooth.shape[::-1], interpolation=cv2.INTER_LINEAR)) if cell > 1 else paper


def _parted(count: NDArray[np.int64], cut: int) -> float:
    """The share of all variance that lies between the two sides of a cut (Otsu 1979), of pixels counted by level."""
    share = count / count.sum()
    level = np.arange(len(share))
    mean = float(share @ level)
    spread, above = float(share @ np.square(level - mean)), float(share[cut + 1 :].sum())
    if spread <= 0 or not 0 < above < 1:
        return -1.0
    over = float(share[cut + 1 :] @ level[cut + 1 :]) / above
    return above / (1 - above) * (over - mean) ** 2 / spread


def _guess_ink(dark: Gray) -> Mask:
    """Ink at a first look, before the paper is known: bool (H, W); Otsu on the contrast to a wide closing.

    A closing, unlike a mean or a median, follows every shadow that only grows towards an edge, however steep.
    """
    shrink = max(1.0, max(dark.shape) / 1000)
    small = _resized(dark, 1 / shrink)
    reach = max(3, min(GUESS_ELEMENT, min(small.shape) // 3))
    clearest, sigma, level, wide = -1.0, 0.0, 0.0, small
    for blur in GUESS_BLURS:
        smooth = _as_gray(cv2.GaussianBlur(small, (0, 0), blur)) if blur else small
        paper = _wide_paper(smooth, reach)
        residual = cv2.subtract(paper, smooth)
        cut, _ = cv2.threshold(residual, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
        apart = _parted(_levels(_as_gray(residual)), int(cut))
        if apart > clearest:
            clearest, sigma, level, wide = apart, blur, cut, paper
    wide = _as_gray(cv2.resize(wide, dark.shape[::-1], interpolation=cv2.INTER_LINEAR))
    smooth = _as_gray(cv2.GaussianBlur(dark, (0, 0), sigma * shrink)) if sigma else dark
    return np.asarray(cv2.subtract(wide, smooth) > level, dtype=bool)


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Connected pieces of ink, N of them.

    Attributes:
        labels: int32 (H, W), which piece a pixel belongs to, 0 for none; there may be pixels of others.
        number: int64 (N,), what each is called there.
        boxes: int32 (N, 4), left, top, width, height.
        area: int64 (N,), pixels of ink.
    """

    labels: NDArray[np.int32]
    number: NDArray[np.int64]
    boxes: NDArray[np.int32]
    area: NDArray[np.int64]


def _find_pieces(mask: Mask) -> _Pieces:
    """Find the connected pieces of ink in bool (H, W)."""
    if np.count_nonzero(mask) > SPARSE * mask.size:
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
        boxes, area = stats[1:, :4], stats[1:, 4]
    else:  # to label is cheap, to measure every pixel of paper is not
        count, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
        ink = np.flatnonzero(mask)
        own = np.asarray(labels.ravel()[ink], np.int32)
        rows, columns = (place.astype(np.int32) for place in np.divmod(ink, mask.shape[1]))
        first, last = np.zeros((2, count, 2), np.int32)
        first[own[::-1], 1], last[own, 1] = rows[::-1], rows  # in the order of rows: the last to be written stays
        first[:, 0] = mask.shape[1]
        np.minimum.at(first[:, 0], own, columns)
        np.maximum.at(last[:, 0], own, columns)
        boxes, area = np.hstack([first, last - first + 1])[1:], np.bincount(own, minlength=count)[1:]
    number = np.arange(1, count)
    return _Pieces(np.asarray(labels, np.int32), number, np.asarray(boxes, np.int32), np.asarray(area, np.int64))


def _drop_faint(mask: Mask, contrast: Gray, level: Gray) -> tuple[Mask, _Pieces]:
    """Keep pieces of ink that rise clearly above the level somewhere; texture that only grazes it goes."""
    pieces = _find_pieces(mask)
    ink = np.flatnonzero(mask)
    piece = pieces.labels.ravel()[ink]
    keep = np.zeros(len(pieces.number) + 1, bool)
    keep[piece[contrast.ravel()[ink] > SURE * level.ravel()[ink]]] = True
    kept = np.zeros_like(mask)
    kept.ravel()[ink] = keep[piece]
    some = keep[1:]
    return kept, _Pieces(pieces.labels, pieces.number[some], pieces.boxes[some], pieces.area[some])


def find_rules(mask: Mask, *, stroke: float, pieces: _Pieces | None = None) -> tuple[Mask, float]:
    """Find printed lines and frames: long, thin, straight (or gently bent), whole, dashed or dotted.

    Args:
        mask: bool (H, W), ink.
        stroke: width of a pen stroke in pixels.
        pieces: of the ink, where they are known.

    Returns:
        (rules, height): bool (H, W), the ink of the lines without the strokes that cross them; and how tall the
        writing between them is, in pixels.
    """
    height = digit_height(mask, stroke=stroke, pieces=pieces)
    across = _straight_lines(mask, stroke, height, ACROSS * height)
    if across.any():
        height = digit_height(mask & ~across, stroke=stroke)
    down = _transposed(_straight_lines(_transposed(mask), stroke, height, DOWN * height))
    rules = np.asarray(across | down, dtype=bool)
    _take_corners(rules, mask, across, down, stroke)
    return rules, digit_height(mask & ~rules, stroke=stroke) if down.any() else height


def _transposed(mask: Mask) -> Mask:
    """Columns for rows, in memory too; OpenCV does it several times as fast as NumPy."""
    return np.asarray(cv2.transpose(mask.view(np.uint8)), dtype=np.uint8).view(bool)


def _take_corners(rules: Mask, mask: Mask, across: Mask, down: Mask, stroke: float) -> None:
    """Add to the rules the crumbs where two of them meet: there each takes the other for a stroke that crosses."""
    if not (across.any() and down.any()):
        return
    rest = (mask & ~rules).view(np.uint8)
    contours, _ = cv2.findContours(rest, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    for contour in contours:
        left, top, width, height = cv2.boundingRect(contour)
        if max(width, height) > THICKEST * stroke:
            continue
        around = (slice(max(0, top - 1), top + height + 1), slice(max(0, left - 1), left + width + 1))
        if across[around].any() and down[around].any():
            inside = (slice(top, top + height), slice(left, left + width))
            rules[inside] |= mask[inside]


def digit_height(mask: Mask, *, stroke: float, pieces: _Pieces | None = None) -> float:
    """Estimate how tall the writing is: the median height of connected ink that could be a character, in pixels."""
    pieces = pieces or _find_pieces(mask)
    width, height, area = (v.astype(np.float64) for v in (pieces.boxes[:, 2], pieces.boxes[:, 3], pieces.area))
    tall, wide = mask.shape
    plausible = (height > 3 * stroke) & (width < 3 * height) & (height < 8 * width + 4 * stroke)
    plausible &= ~((width > 0.9 * wide) & (height > 0.7 * tall)) & (area > 0.06 * width * height)
    plausible &= ~_are_bars(pieces, stroke)
    plausible &= ~_enclosing(pieces.boxes, plausible)
    for k in np.argsort(-area * plausible)[:MOST_FRAMES]:
        if plausible[k] and min(width[k], height[k]) > 4 * stroke:
            plausible[k] = not _is_framed(pieces.labels, int(pieces.number[k]), pieces.boxes[k], stroke)
    if not plausible.any():
        return min(10 * stroke, float(tall))
    heights = height[plausible]
    order = np.argsort(heights)
    weight = np.cumsum(area[plausible][order])  # by ink, so that dirt does not outvote digits
    return float(heights[order][np.searchsorted(weight, weight[-1] / 2)])


def _is_framed(labels: NDArray[np.int32], k: int, place: NDArray[np.int32], stroke: float) -> bool:
    """Whether piece `k` fills two sides of its box with straight ink: a frame with digits hanging on to it.

    Two sides that lie opposite may be a thick 2's or 8's, unless they lie too far apart for the pen.
    """
    left, top, width, height = (int(v) for v in place[:4])
    part = labels[top : top + height, left : left + width] == k
    band = max(1, round(stroke))
    across = [np.count_nonzero(side.any(axis=0)) / width for side in (part[:band], part[-band:])]
    down = [np.count_nonzero(side.any(axis=1)) / height for side in (part[:, :band], part[:, -band:])]
    meet = max(across) >= FRAME_SIDE and max(down) >= FRAME_SIDE
    filled = sum(share >= FRAME_SIDE for share in across + down)
    return bool(filled >= 2 and (meet or min(width, height) > FRAME_STROKES * stroke))


def _enclosing(stats: NDArray[np.int32], plausible: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which boxes (left, top, width, height, ...) hold another plausible box whole: frames, not characters."""
    left, top, width, height = (stats[:, column].astype(np.float64) for column in range(4))
    size = width * height
    outer = np.zeros(len(stats), bool)
    if not plausible.any():
        return outer
    large = np.flatnonzero(plausible & (size > 2 * np.median(size[plausible])))
    for k in large[np.argsort(-size[large])][:MOST_FRAMES]:
        inside = (left > left[k]) & (top > top[k])
        inside &= (left + width < left[k] + width[k]) & (top + height < top[k] + height[k])
        outer[k] = bool((inside & plausible).any())
    return outer


def _straight_lines(mask: Mask, stroke: float, height: float, shortest: float) -> Mask:
    """The ink of straight horizontal lines at least `shortest` pixels long: bool (H, W)."""
    found = np.zeros_like(mask)
    ink = mask.view(np.uint8)
    flat = _as_gray(cv2.morphologyEx(ink, cv2.MORPH_OPEN, np.ones((1, max(3, round(2 * stroke))), np.uint8)))
    bars = np.ones((max(3, round(THICKEST * stroke)), 1), np.uint8)
    thin = cv2.subtract(flat, cv2.morphologyEx(flat, cv2.MORPH_OPEN, bars))
    lines = _as_gray(thin).view(bool)
    for kind in (PIECE, SOLID, DASHED):
        gap = max(3, round(min(kind.gap * stroke, kind.gap_of_height * height)))
        bridged = lines.view(np.uint8)
        if kind.bridge:
            bridged = np.asarray(
                cv2.morphologyEx(bridged, cv2.MORPH_CLOSE, np.ones((1, gap), np.uint8)), dtype=np.uint8
            )
        contours, _ = cv2.findContours(bridged, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        for contour in contours:
            left, top, width, tall = cv2.boundingRect(contour)
            if width < kind.length * shortest or tall > 0.25 * width + 2 * stroke:
                continue
            shape = np.zeros((tall, width), np.uint8)
            cv2.drawContours(shape, [contour], 0, 1, cv2.FILLED, offset=(-left, -top))
            part = (shape > 0) & lines[top : top + tall, left : left + width]
            if kind.regular and not _is_dashed(part):
                continue
            line = _fit_line(part, stroke, kind.coverage)
            if line is None:
                continue
            first, centre, thickness = _extend(ink, left, top + line[0], line[1], gap)
            if len(centre) >= kind.whole * shortest:
                _mark(found, ink, first, centre, thickness, stroke)
        lines &= ~found
    return found


def _is_dashed(part: Mask) -> bool:
    """Whether thin ink comes in many pieces of one length at one distance."""
    filled = np.r_[False, part.any(axis=0), False]
    edges = np.flatnonzero(np.diff(filled.astype(np.int8)))
    dashes, gaps = edges[1::2] - edges[::2], edges[2::2] - edges[1:-1:2]
    if len(dashes) < FEWEST_DASHES:
        return False
    spread = [float(np.median(np.abs(v - np.median(v))) / max(np.median(v), 1)) for v in (dashes, gaps)]
    return max(spread) <= EVEN


def _extend(
    ink: NDArray[np.uint8], left: int, centre: Floats, thickness: Floats, gap: int
) -> tuple[int, Floats, Floats]:
    """Follow a line straight on from both ends, over gaps of up to `gap` columns.

    Returns:
        (first column, centre (W,), thickness (W,)) of the longer line.
    """
    height, width = ink.shape
    length = len(centre)
    slope = float(centre[-1] - centre[0]) / max(1, length - 1)
    thick = _middle(thickness)
    reach = max(1, round(thick / 2 + 0.5))
    around = np.arange(-reach, reach + 1)[:, None]

    def met(middle: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.bool_]:
        near = np.minimum(np.maximum(middle + around, 0), height - 1)
        return np.asarray(ink[near, columns].any(axis=0))

    def ahead(columns: NDArray[np.int64], start: float, step: float) -> Floats:
        rows = start + step * np.arange(1, len(columns) + 1)
        inside = (rows >= 0) & (rows < height)
        rows, columns = rows[inside], columns[inside]
        middle = np.round(rows).astype(int)
        if not met(middle[: gap + 1], columns[: gap + 1]).any():  # it mostly ends here
            return np.zeros(0, np.float32)
        hits = np.flatnonzero(met(middle, columns))
        breaks = np.flatnonzero(np.diff(hits) > gap)
        hits = hits[: breaks[0] + 1] if len(breaks) else hits
        dense = np.flatnonzero(np.arange(1, len(hits) + 1) >= SOLID.coverage * (hits + 1))
        if not len(dense):
            return np.zeros(0, np.float32)
        last = hits[dense[-1]]
        return np.asarray(rows[: last + 1], dtype=np.float32)

    before = ahead(np.arange(left - 1, -1, -1), float(centre[0]), -slope)
    after = ahead(np.arange(left + length, width), float(centre[-1]), slope)
    return (
        left - len(before),
        np.concatenate([before[::-1], centre, after]),
        np.concatenate(
            [np.full(len(before), thickness[0]), thickness, np.full(len(after), thickness[-1])], dtype=np.float32
        ),
    )


def _mark(found: Mask, ink: NDArray[np.uint8], left: int, centre: Floats, stroke_limits: Floats, stroke: float) -> None:
    """Mark the line's ink in `found`, column by column, but for columns where a stroke crosses.

    Args:
        found: bool (H, W), written to.
        ink: uint8 (H, W), 0 or 1.
        left: the line's first column.
        centre: float32 (W,), the line's middle row in each of its columns.
        stroke_limits: float32 (W,), its thickness in each.
        stroke: width of a pen stroke.
    """
    reach = int(stroke_limits.max() + 2 * stroke) + 2
    rows = np.arange(max(0, int(centre.min()) - reach), min(ink.shape[0], int(centre.max()) + reach + 1))
    window = ink[rows[0] : rows[-1] + 1, left : left + len(centre)]
    core = np.maximum(stroke_limits / 4, 0.75)
    white = window == 0
    row = rows[:, None]
    above = np.where(white & (row < centre - core), row, rows[0] - 1).max(axis=0)
    below = np.where(white & (row > centre + core), row, rows[-1] + 1).min(axis=0)
    through = below - above - 1 <= stroke_limits + max(CROSSING * stroke, 1.0)
    line = (row > above) & (row < below) & through & (window > 0)
    found[rows[0] : rows[-1] + 1, left : left + len(centre)] |= line


def _fit_line(part: Mask, stroke: float, coverage: float) -> tuple[Floats, Floats] | None:
    """Fit a gently bent line through thin horizontal ink.

    Returns:
        (centre, thickness), float32 (W,) each: the line's row and its thickness in each column; None where the ink
        is not straight, has too many gaps, or is too thick for its length.
    """
    filled = part.sum(axis=0)
    columns = np.flatnonzero(filled)
    width = part.shape[1]
    if len(columns) < coverage * width:
        return None
    middle = (np.arange(part.shape[0], dtype=np.float64) @ part)[columns] / filled[columns]
    typical = _middle(filled[columns])
    if typical * SLENDER > width:
        return None
    x = columns / width
    keep = np.ones(len(columns), bool)
    fit = np.zeros(3)
    for _ in range(3):  # strokes that run along the line pull its middle away: leave them out and fit again
        fit, fitted = np.polyfit(x[keep], middle[keep], 2), keep
        keep = np.abs(np.polyval(fit, x) - middle) <= max(STRAIGHTNESS * stroke, 1.0)
        if keep.mean() < STRAIGHT:
            return None
        if (keep == fitted).all():  # to fit again would give the same
            break
    thickness = np.interp(np.arange(width), columns, filled[columns])
    side = max(1, min(round(THICKNESS_WINDOW * stroke), width // 2))
    padded = np.concatenate([thickness[side:0:-1], thickness, thickness[-2 : -2 - side : -1]])  # reflected
    return np.polyval(fit, np.arange(width) / width).astype(np.float32), _running_median(padded, side)


def _running_median(values: NDArray[np.float64], side: int) -> Floats:
    """The median of each value and `side` others to each side: float32 (len(values) - 2 * side,)."""
    small = values.astype(np.uint8)
    if side < 128 and (small == values).all():
        # Of an image of one row, repeated beyond its edge, a square's median is the row's: OpenCV's is quicker.
        return cv2.medianBlur(small[None], 2 * side + 1)[0, side:-side].astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(values, 2 * side + 1)
    return np.median(windows, axis=1).astype(np.float32)


def _middle(values: NDArray[Any]) -> float:
    """The median of (N,); `np.median` takes longer to begin than to find it in a line's columns."""
    low, high = (len(values) - 1) // 2, len(values) // 2
    ordered = np.partition(values, (low, high))
    return (float(ordered[low]) + float(ordered[high])) / 2
