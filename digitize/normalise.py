"""Tiles as MNIST's were made: candidates in, uint8 (N, 28, 28, 2) out.

LeCun, Cortes & Burges: "the original black and white images from NIST were size normalized to fit in a 20x20 pixel
box while preserving their aspect ratio. The resulting images contain grey levels as a result of the anti-aliasing
technique used by the normalization algorithm. The images were centered in a 28x28 image by computing the center
of mass of the pixels, and translating the image so as to position this point at the center of the 28x28 field."

Ours differs in two things. A shift by the centre of mass can push ink off the tile; ours stops at the edge. And a
tile has a second channel, its surroundings: what else stands on the page in a window twice as wide around it, since
half a zero, a comb's tooth and a 1 differ in nothing but their neighbours.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from digitize.records import TILE_SIDE, Box, Gray, Mask, Tiles

FIT = 20  # pixels: the larger side of the ink
VIEW = 2 * TILE_SIDE  # tile pixels a side that the surroundings show
INK, RULE = 255, 110  # how ink and removed rules stand in the surroundings
VIEWS = 2
MOST_SPAN = 4096  # page pixels a side; wider windows are looked at on a grid, so that none takes gigabytes


def make_tiles(candidates: list[tuple[Box, Mask]], surroundings: Gray) -> Tiles:
    """Bring candidates into MNIST's form.

    Args:
        candidates: for each, its box and its own ink, bool (height, width) of the box, with at least one pixel.
            The box need not be tight around the ink.
        surroundings: uint8 (H, W), the page that the boxes lie on, as `draw_surroundings` makes it.

    Returns:
        uint8 (N, 28, 28, 2), 0 paper to 255 ink: the digit, and what is around it.
    """
    tiles = np.zeros((len(candidates), TILE_SIDE, TILE_SIDE, VIEWS), np.uint8)
    for tile, (box, mask) in zip(tiles, candidates, strict=True):
        tile[..., 0], centre_x, centre_y, side = _digit(mask)
        tile[..., 1] = _around(surroundings, box, mask, (box.left + centre_x, box.top + centre_y, side))
    return tiles


def draw_surroundings(pen: Mask, rules: Mask) -> Gray:
    """Draw a page's ink and removed rules as the second channel shows them: uint8 (H, W)."""
    drawn = pen.astype(np.uint8) * INK
    drawn[rules] = RULE
    return drawn


def fit_digit(mask: Mask) -> Gray:
    """Bring one digit's ink, bool (h, w), into MNIST's form: uint8 (28, 28), 0 paper to 255 ink."""
    return _digit(mask)[0]


def _digit(mask: Mask) -> tuple[Gray, float, float, float]:
    """The tile, the place in the mask that its middle shows, and how many mask pixels a side it shows."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    ink = mask[top:bottom, left:right].view(np.uint8) * np.uint8(INK)
    height, width = ink.shape
    scale = FIT / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(ink, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    peak = int(small.max())
    if not peak:  # specks far apart, which melt away
        small = (cv2.resize(ink.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0).astype(np.uint8)
        peak = 1
    if peak < INK:  # a hairline becomes faint when it is made small; MNIST's strokes are black in the middle
        small = cv2.convertScaleAbs(small, alpha=INK / peak)
    mass = small.sum(dtype=np.float64)
    centre_y = float((np.arange(size[1]) + 0.5) @ small.sum(axis=1, dtype=np.float64) / mass)
    centre_x = float((np.arange(size[0]) + 0.5) @ small.sum(axis=0, dtype=np.float64) / mass)
    y = min(max(round(TILE_SIDE / 2 - centre_y), 0), TILE_SIDE - size[1])
    x = min(max(round(TILE_SIDE / 2 - centre_x), 0), TILE_SIDE - size[0])
    tile = np.zeros((TILE_SIDE, TILE_SIDE), np.uint8)
    tile[y : y + size[1], x : x + size[0]] = small
    return tile, left + (TILE_SIDE / 2 - x) / scale, top + (TILE_SIDE / 2 - y) / scale, TILE_SIDE / scale


def _around(page: Gray, box: Box, mask: Mask, view: tuple[float, float, float]) -> NDArray[np.uint8]:
    """The page around a candidate without the candidate: uint8 (28, 28); off the page is paper."""
    centre_x, centre_y, side = view
    half = side * VIEW / TILE_SIDE / 2
    left, top = round(centre_x - half), round(centre_y - half)
    span = max(1, round(2 * half))
    if span > MOST_SPAN:  # a line across a large page
        step = -(-span // MOST_SPAN)
        own = mask[-box.top % step :: step, -box.left % step :: step]
        place = Box(-(-box.left // step), -(-box.top // step), max(1, own.shape[1]), max(1, own.shape[0]))
        return _around(page[::step, ::step], place, own, (centre_x / step, centre_y / step, side / step))
    height, width = page.shape
    window = np.zeros((span, span), np.uint8)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + span, width), min(top + span, height)
    if x0 < x1 and y0 < y1:
        window[y0 - top : y1 - top, x0 - left : x1 - left] = page[y0:y1, x0:x1]
    x, y = box.left - left, box.top - top
    own = mask[max(0, -y) : span - y, max(0, -x) : span - x]
    window[max(0, y) : max(0, y) + own.shape[0], max(0, x) : max(0, x) + own.shape[1]][own] = 0
    interpolation = cv2.INTER_AREA if span > TILE_SIDE else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(window, (TILE_SIDE, TILE_SIDE), interpolation=interpolation), dtype=np.uint8)
