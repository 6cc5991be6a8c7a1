"""Stage: shade to places, the digits that a network sees on the gray page as it lies, joined, crossed or faint.

Contours can only give what thresholding left whole. A network that looks at the gray page needs no cut between two
digits that touch, and it sees what stands around them: letters about a letter, a frame about a field. It is fully
convolutional and answers for a grid of cells at once: how likely a digit's middle lies in the cell, which digit, and
how far its edges are (Zhou, Wang & Krähenbühl, "Objects as Points", 2019; ours is smaller, and its cells are half as
wide as they are high, since digits stand side by side). What it takes for one digit is a *place*.

It was trained on digits about `UNIT` pixels tall, so a page is brought to that size first; where a page holds digits
of several sizes, it is looked at in several, and where they turn out to have another size, in that too. A page that
takes few blocks is looked at thrice in nearly the same size, and the answers are averaged. The page is cut into blocks
of one shape, in gaps between its lines and columns where there are any, and overlapping where there are none; every
block sees what stands around what it answers for. Blank paper is left out, and the blocks of many pages are answered
in one batch.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from digitize.context import Context
from digitize.engine import Engine
from digitize.records import Box, Gray, Mask, Place, shared_area

UNIT = 20  # pixels: how tall digits are on what the network looks at
BLOCK_ROWS, BLOCK_COLUMNS = 128, 256  # pixels
CELL_ROWS, CELL_COLUMNS = 4, 2  # pixels
MARGIN = 16  # pixels at a block's edges in ink for which the neighbouring block answers
FAINT, GAP = 20, 6  # shade up to which paper is blank, and pixels of blank paper in which a page may be parted
EDGE = 12  # pixels that a block sees around its ink where it ends in a gap; with 3 it takes print for digits more often
DOUBLE = CELL_ROWS  # pixels beyond where blocks part for which both answer, or a digit there could fall between them
CHANNELS = 15  # logit of a middle, ten logits of digits, distances to left, top, right, bottom in `UNIT`
INKED, LEAST_INKED = 60, 12  # shade from which a pixel may be ink, and how many of them a block needs to be looked at
LEAST = 0.08  # probability of a middle from which a cell is a place
SAME = 0.45  # intersection over union from which two places are one
INSIDE = 0.75  # share of the smaller of two places that the other holds to be the same
ROOM = 0.4  # of its height that a place takes up at least when two are compared: bare 1s lie beside, not on, themselves
LOOKS = (0.87, 1.15)  # of a size: the further looks at a page that takes few blocks; chosen on validation sheets
MOST_REPEATED = 6  # blocks up to which a page is looked at again: on larger made pages that raises f1 no further
LIKELY, MISJUDGED = 0.3, 1.3  # probability from which a peak tells of a page's size; a factor between that and a zoom
WORTH = 20  # blocks that a further look may take for each digit seen
SPREAD = 0.7  # log of a size's distance from `UNIT` at which a place counts for 1/e when several sizes were looked at
NARROWEST, LOWEST = 1.5, 3.0  # pixels: less is no digit
BATCH_SIZE = 32  # blocks at once, at most
CPU_PIECE = 4  # blocks LiteRT takes at a time

Floats = NDArray[np.float64]
Blocks = NDArray[np.uint8]  # (N, BLOCK_ROWS, BLOCK_COLUMNS, 1), 0 paper, see `clean.Ink.shade`
Answers = NDArray[np.float32]  # (N, rows of cells, columns of cells, CHANNELS)


class Detect(Protocol):
    """What a detector has to do.

    Attributes:
        context: what weighs its places against each other, if it has learnt to.
    """

    context: Context | None

    def answers(self, blocks: Blocks) -> Answers:
        """Give float32 (N, 32, 128, 15) for uint8 (N, 128, 256, 1)."""
        ...


class Detector:
    """A loaded model that finds digits: blocks in, answers out.

    Attributes:
        card: what the model says of itself.
        device: "cpu" or "gpu:N".
        context: what its card says of it, if anything.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: str = "auto",
        batch_size: int = BATCH_SIZE,
        threads: int | None = None,
        weighs: bool = True,
    ) -> None:
        """Load a model.

        Args:
            folder: a model folder.
            device: "auto", "cpu", "gpu" or "gpu:N".
            batch_size: blocks at once.
            threads: of the CPU; all it has where None.
            weighs: take up the context in its card.

        Raises:
            ModelError, DeviceError, UsageError: as `engine.Engine` does; ModelError for an unusable context, too.
        """
        self._engine = Engine(
            folder, task="detect", device=device, threads=threads, batch_size=batch_size, piece_size=CPU_PIECE
        )
        self.card = self._engine.card
        self.device = self._engine.device
        self.context: Context | None = Context.from_card(self.card.content, self.card.path) if weighs else None

    def answers(self, blocks: Blocks) -> Answers:
        """Look at blocks.

        Args:
            blocks: uint8 (N, 128, 256, 1), any N.

        Returns:
            float32 (N, 32, 128, 15); see `CHANNELS`. May be called from several threads; they take turns.

        Raises:
            ValueError: the blocks have another shape or type.
        """
        if blocks.shape[1:] != (BLOCK_ROWS, BLOCK_COLUMNS, 1) or blocks.dtype != np.uint8:
            expected = f"uint8 (N, {BLOCK_ROWS}, {BLOCK_COLUMNS}, 1)"
            raise ValueError(f"blocks are {blocks.dtype} {blocks.shape}, expected {expected}")
        return self._engine.run(blocks)


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a page in the size that the network knows.

    Attributes:
        shade: uint8 (`BLOCK_ROWS`, `BLOCK_COLUMNS`).
        left, top: of its corner on the resized page, in pixels.
        inner: columns and rows (left, top, right, bottom) of the block that it answers for; may reach beyond it.
        zoom: pixels of the resized page a working pixel.
        size: zoom of the looks that this is one of, and how many they are.
    """

    shade: Gray = field(repr=False)
    left: int
    top: int
    inner: tuple[int, int, int, int]
    zoom: float
    size: tuple[float, int]


@dataclass(frozen=True, slots=True)
class Peaks:
    """Where a network saw the middles of digits on a page, N of them.

    Attributes:
        seen: float64 (N,), how surely there is one.
        edges: float64 (N, 4), left, top, right, bottom in working pixels.
        digits: float64 (N, 10), which digit it is; rows sum to 1.
        zoom: float64 (N,), see `Block`.
        size: float64 (N, 2), see `Block`.
    """

    seen: Floats
    edges: Floats
    digits: Floats
    zoom: Floats
    size: Floats

    @staticmethod
    def join(parts: Sequence[Peaks]) -> Peaks:
        """The peaks of several batches of a page's blocks."""
        none = [np.zeros((0, *shape)) for shape in ((), (4,), (10,), (), (2,))]
        columns = [(part.seen, part.edges, part.digits, part.zoom, part.size) for part in parts]
        return Peaks(*(np.concatenate(column) for column in zip(none, *columns, strict=True)))


def look_at(shade: Gray, zoom: float) -> list[Block]:
    """Cut a page's blocks in one size; if they are few, twice more in nearly that size.

    Args:
        shade: uint8 (h, w), see `clean.Ink`.
        zoom: by which the page is resized.
    """
    blocks = cut_blocks(shade, zoom, size=(zoom, 1))
    if len(blocks) > MOST_REPEATED:
        return blocks
    size = zoom, 1 + len(LOOKS)
    again = [block for look in LOOKS for block in cut_blocks(shade, zoom * look, size=size)]
    return [replace(block, size=size) for block in blocks] + again


def cut_blocks(shade: Gray, zoom: float, *, size: tuple[float, int] | None = None) -> list[Block]:
    """Bring a page to a size and cut it into blocks, between lines and between columns where that can be.

    Args:
        shade: uint8 (h, w), see `clean.Ink`.
        zoom: by which the page is resized.
        size: of the blocks; `zoom` alone where None.

    Returns:
        Blocks that together show and answer for all that is written. One that shows hardly any ink is left out.
    """
    page = resized(shade, zoom)
    written = np.asarray(page > FAINT)
    blocks = []
    for top, (first_row, last_row) in _spans(np.any(written, axis=1), BLOCK_ROWS):
        strip = written[first_row:last_row]
        for left, (first_column, last_column) in _spans(np.any(strip, axis=0), BLOCK_COLUMNS):
            part = page[top : top + BLOCK_ROWS, left : left + BLOCK_COLUMNS]
            if np.count_nonzero(part > INKED) < LEAST_INKED:
                continue
            block = np.zeros((BLOCK_ROWS, BLOCK_COLUMNS), np.uint8)
            block[: part.shape[0], : part.shape[1]] = part
            inner = first_column - left, first_row - top, last_column - left, last_row - top
            blocks.append(Block(block, left, top, inner, zoom, size or (zoom, 1)))
    return blocks


def resized(shade: Gray, zoom: float) -> Gray:
    """A page, uint8 (h, w), in another size; at least 4 pixels a side."""
    size = max(4, round(shade.shape[1] * zoom)), max(4, round(shade.shape[0] * zoom))
    how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(shade, size, interpolation=how), dtype=np.uint8)


def _spans(written: Mask, block: int) -> list[tuple[int, tuple[int, int]]]:
    """Part a page's rows or columns into blocks that show all that is written on it.

    A block ends in the last gap that begins `EDGE` before its end at the latest, if that lies in its further half or is
    so wide that nothing else could be shown; else it ends in ink, and the next one overlaps it by two margins. What
    room is left in a block shows more of what is around.

    Args:
        written: bool (n,), the rows or columns that are not blank.
        block: how many of them a block has.

    Returns:
        Where each block begins, and from where to where it answers.
    """
    ink = np.flatnonzero(written)
    if not len(ink):
        return []
    before, behind = ink[:-1][np.diff(ink) > GAP] + 1, ink[1:][np.diff(ink) > GAP]  # ends of the gaps
    spans = []
    first, start = 0, max(0, int(ink[0]) - EDGE)  # answers from here on; begins here at the latest
    end = min(len(written), int(ink[-1]) + 1 + EDGE)
    while start + block < end:
        reach = start + block
        gap = int(np.searchsorted(before, reach - EDGE, side="right")) - 1
        if gap >= 0 and (before[gap] > start + block // 2 or behind[gap] >= reach):
            parted = int(before[gap] + behind[gap]) // 2
            least, next_start = int(before[gap]) + EDGE, int(behind[gap]) - EDGE
        else:
            parted = reach - MARGIN
            least, next_start = reach, reach - 2 * MARGIN
        spans.append(((start + least - block) // 2, (first, parted + DOUBLE)))
        first, start = parted - DOUBLE, next_start
    spans.append(((start + end - block) // 2, (first, len(written))))
    return [(min(max(0, len(written) - block), max(0, start)), answered) for start, answered in spans]


def find_peaks(blocks: list[Block], answers: Answers) -> Peaks:
    """Find where a network saw the middles of digits.

    Args:
        blocks: of one page.
        answers: float32 (len(blocks), rows, columns, 15).
    """
    heat = 1.0 / (1.0 + np.exp(-answers[..., 0].astype(np.float64)))
    highest = np.stack([cv2.dilate(one, np.ones((3, 3), np.uint8)) for one in heat])
    which, rows, columns = np.nonzero((heat >= highest) & (heat >= LEAST))
    y, x = (rows + 0.5) * CELL_ROWS, (columns + 0.5) * CELL_COLUMNS
    inner = np.array([block.inner for block in blocks])[which].reshape(-1, 4)
    kept = (x >= inner[:, 0]) & (y >= inner[:, 1]) & (x < inner[:, 2]) & (y < inner[:, 3])
    which, rows, columns, x, y = which[kept], rows[kept], columns[kept], x[kept], y[kept]
    said = answers[which, rows, columns].astype(np.float64)
    zoom = np.array([block.zoom for block in blocks])[which]
    x, y = x + np.array([block.left for block in blocks])[which], y + np.array([block.top for block in blocks])[which]
    edges = np.stack([x, y, x, y], axis=1) + UNIT * said[:, 11:15] * (-1, -1, 1, 1)
    sized = (edges[:, 2] - edges[:, 0] >= NARROWEST) & (edges[:, 3] - edges[:, 1] >= LOWEST)
    digits = np.exp(said[:, 1:11] - said[:, 1:11].max(axis=1, keepdims=True))
    digits /= digits.sum(axis=1, keepdims=True)
    size = np.array([block.size for block in blocks], float)[which]
    found = heat[which, rows, columns], edges / zoom[:, None], digits, zoom, size
    return Peaks(*(np.asarray(column[sized], dtype=np.float64) for column in found))


def fitting_zoom(peaks: Peaks, zooms: Collection[float], most: float) -> float | None:
    """The zoom that the digits of a page want, where none that it was looked at in comes near.

    Args:
        peaks: what was seen on the page.
        zooms: that it was looked at in.
        most: zoom at most.

    Returns:
        What brings the usual digit to `UNIT`; None where the page was looked at in about that size, or no digit is
        likely.
    """
    likely = peaks.seen >= LIKELY
    if not likely.any():
        return None
    heights = (peaks.edges[:, 3] - peaks.edges[:, 1])[likely]
    order = np.argsort(heights)
    weight = np.cumsum(peaks.seen[likely][order])
    zoom = min(UNIT / float(heights[order][np.searchsorted(weight, weight[-1] / 2)]), most)
    return zoom if all(abs(math.log(other / zoom)) > math.log(MISJUDGED) for other in zooms) else None


def look_again(peaks: Peaks, blocks: Sequence[Block], shade: Gray, most: float) -> list[Block]:
    """Cut a page's blocks in the size that its digits want, if it was not looked at in that and they are worth it.

    Args:
        peaks: what was seen on the page.
        blocks: in which it was looked at.
        shade: uint8 (h, w), the page.
        most: zoom at most.

    Returns:
        Nothing where a few marks, which may be no digits, would cost many blocks.
    """
    zoom = fitting_zoom(peaks, {block.size[0] for block in blocks}, most)
    again = look_at(shade, zoom) if zoom is not None else []
    return again if len(again) <= WORTH * peaks.seen[peaks.seen >= LIKELY].sum() else []


def find_places(peaks: Peaks, shape: tuple[int, int]) -> list[Place]:
    """Of the peaks of a page, in one size or several, take those that are not one digit seen twice.

    Args:
        peaks: of all the page's blocks.
        shape: (h, w) of the page in working pixels.

    Returns:
        Places, the surest first; where several sizes were looked at, those whose size fits best.
    """
    edges, roomy = peaks.edges, _roomy(peaks.edges)
    worth = peaks.seen
    if len(np.unique(peaks.size[:, 0])) > 1:
        height = (edges[:, 3] - edges[:, 1]) * peaks.zoom
        worth = worth * np.exp(-np.square(np.log(height / UNIT) / SPREAD))
    on_page = (edges[:, 2] > 0) & (edges[:, 3] > 0) & (edges[:, 0] < shape[1]) & (edges[:, 1] < shape[0])
    order = np.argsort(-worth, kind="stable")
    near = _Rows(edges)
    places = [_averaged(peaks, k, roomy, near, shape) for k in _distinct(roomy, order[on_page[order]], near)]
    # What was seen apart may be one digit once the looks are averaged.
    corners = np.array([(p.box.left, p.box.top, p.box.right, p.box.bottom) for p in places], float).reshape(-1, 4)
    corners = _roomy(corners)
    surest = np.argsort([-place.seen for place in places], kind="stable")
    return [places[k] for k in sorted(_distinct(corners, surest, _Rows(corners)))]


class _Rows:
    """Boxes (left, top, right, bottom) by row, so that those that may touch one are found without asking all."""

    def __init__(self, edges: Floats) -> None:
        middles = (edges[:, 1] + edges[:, 3]) / 2
        self._half = (edges[:, 3] - edges[:, 1]) / 2
        self._order = np.argsort(middles, kind="stable")
        self._middles = middles[self._order]
        self._tallest = float(self._half.max(initial=0.0))

    def touching(self, edges: Floats, k: int) -> NDArray[np.int64]:
        """Indices, ascending, of all boxes that share rows with box `k`, and some more."""
        middle, reach = (edges[k, 1] + edges[k, 3]) / 2, self._half[k] + self._tallest
        first, last = np.searchsorted(self._middles, (middle - reach, middle + reach), side="left")
        return np.sort(self._order[first : last + 1])


def _roomy(edges: Floats) -> Floats:
    """Boxes (left, top, right, bottom), the narrow ones widened to `ROOM` of their height."""
    lacking = np.maximum(ROOM * (edges[:, 3] - edges[:, 1]) - (edges[:, 2] - edges[:, 0]), 0) / 2
    return np.asarray(edges + lacking[:, None] * np.array([-1, 0, 1, 0]), dtype=np.float64)


def _averaged(peaks: Peaks, best: int, roomy: Floats, near: _Rows, shape: tuple[int, int]) -> Place:
    """What all looks in one size say of the place of a peak; a look that does not see it counts as seeing nothing."""
    if peaks.size[best, 1] == 1:
        return Place(box_within(peaks.edges[best], shape), float(peaks.seen[best]), peaks.digits[best])
    alike = near.touching(peaks.edges, best)
    alike = alike[(peaks.size[alike, 0] == peaks.size[best, 0]) & (peaks.zoom[alike] != peaks.zoom[best])]
    alike = alike[_overlaps(roomy[alike], roomy[best]) >= SAME]
    chosen = [best]
    for k in alike[np.argsort(-peaks.seen[alike], kind="stable")]:
        if not (peaks.zoom[chosen] == peaks.zoom[k]).any():
            chosen.append(int(k))
    weight = peaks.seen[chosen] / peaks.seen[chosen].sum()
    seen = float(peaks.seen[chosen].sum() / peaks.size[best, 1])
    return Place(box_within(weight @ peaks.edges[chosen], shape), seen, weight @ peaks.digits[chosen])


def _overlaps(edges: Floats, box: Floats) -> Floats:
    """Intersection over union of boxes (N, 4) with one."""
    shared = shared_area(edges, box)
    areas = (edges[:, 2] - edges[:, 0]) * (edges[:, 3] - edges[:, 1])
    own = (box[2] - box[0]) * (box[3] - box[1])
    return np.asarray(shared / np.maximum(areas + own - shared, 1e-9), dtype=np.float64)


def _distinct(edges: Floats, order: NDArray[np.int64], near: _Rows) -> list[int]:
    """Of boxes (left, top, right, bottom) in an order, those that are not the same as one before."""
    area = (edges[:, 2] - edges[:, 0]) * (edges[:, 3] - edges[:, 1])
    kept: list[int] = []
    free = np.ones(len(edges), bool)
    for k in order:
        if not free[k]:
            continue
        kept.append(int(k))
        around = near.touching(edges, k)
        shared = shared_area(edges[around], edges[k])
        same = (shared > SAME * (area[around] + area[k] - shared)) | (
            shared > INSIDE * np.minimum(area[around], area[k])
        )
        free[around[same]] = False
    return kept


def box_within(edges: NDArray[np.float64], shape: tuple[int, ...]) -> Box:
    """The box of whole pixels with these edges (left, top, right, bottom) that lies on a page of (h, w)."""
    height, width = shape
    left, top = min(max(0, round(edges[0])), width - 1), min(max(0, round(edges[1])), height - 1)
    right, bottom = min(max(left + 1, round(edges[2])), width), min(max(top + 1, round(edges[3])), height)
    return Box(left, top, right - left, bottom - top)
