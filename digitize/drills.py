"""Drills: blocks for a detector to learn from, packed from made sheets that came down our own road.

A made sheet is cleaned as `scan` cleans it and brought to nearly the size that the detector looks at (`Drill`). From
drills, block after block is composed: each is turned, slanted, stretched and scaled a little, cut where it is large,
and set beside others until the block is full, since a block with one short number on it teaches little for its cost.
What a block asks for (`ask`) is a bump at each digit's middle, its value, and how far its edges are.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from digitize import detect
from digitize.clean import extract_ink
from digitize.datasets import read_npz
from digitize.errors import DatasetError, OutputError
from digitize.hands import Split
from digitize.make import MadePage, Sources, scene_at
from digitize.records import Gray

DRILL_UNIT = 28  # pixels: digit height in a drill, more than `detect.UNIT` so that it can be made smaller
WEIGHTS = {  # of the maker's kinds: joined digits and print around digits are what contours are worst at
    "amount": 2.8,
    "field": 1.6,
    "comb": 1.8,
    "table": 1.6,
    "lines": 2.6,
    "sums": 1.4,
    "prose": 1.2,
    "photo": 1.4,
    "dirt": 0.4,
    "single": 1.8,
    "form": 1.8,
    "signed": 2.0,
    "choices": 0.8,
}
LARGEST_PAGE, LARGEST_DRILL = 1_500_000, 1_000_000  # pixels
LEAST_SIDE = 6  # pixels

SIZE_SPREAD, MOST_SIZE = 0.25, 0.55  # log: how far off the page's digit height may be, as `clean.digit_height` errs
SIDEWAYS = 0.06  # share of drills that lie on their side and have no digits: a page has to be turned to be read
OVERTURNED = 0.3  # share of drills without digits that stand on their heads: letters there look like digits
STRETCH = 0.1  # log, standard deviation
SLANT, TURN, MUCH_TURN = 0.12, 0.03, 0.1  # x per y and radians, standard deviations
BENT = 0.6  # share of drills whose strokes are bent: no two writers' digits have quite one shape
BEND, BEND_LENGTH = 0.05, (0.5, 1.2)  # in `detect.UNIT`: how far, a standard deviation, and over what length
OFTEN_WHOLE = 0.25  # share of large drills that may fill a block
LEAST_WINDOW = (36, 70)  # rows and columns, pixels
APART = (3, 14)  # pixels between drills of a block
SPARSE, FEW = 0.15, 3  # share of blocks with at most so many drills: small sheets have nothing around them
ALONE, SMALL = 0.05, 4.0  # share of blocks with one small drill and nothing else; its sides in `DRILL_UNIT`
SMALL_AMONG = 40  # drills among which small ones are sought
TRIES = 6  # drills tried for a place that is left
BUMP_SIDE, LEAST_BUMP = 0.1, (0.5, 0.7)  # deviation of a bump in widths and heights of the digit; in cells at least
BUMPED = 0.3  # height of a bump from which its cells are asked for value and edges

Boxes = NDArray[np.float32]  # (N, 5): value, left, top, right, bottom
Asked = NDArray[np.float32]  # (rows, columns, 7): bump, weight, value, distances to left, top, right, bottom in UNIT


@dataclass(frozen=True, slots=True)
class Drill:
    """A made sheet as the detector would see it.

    Attributes:
        shade: uint8 (h, w), digits about `DRILL_UNIT` pixels tall; see `clean.Ink`.
        boxes: float32 (N, 5), value, left, top, right, bottom of each digit in pixels.
    """

    shade: Gray = field(repr=False)
    boxes: Boxes = field(repr=False)


def prepare(made: MadePage) -> Drill | None:
    """Bring a made sheet into a drill; None where it would be too large or too small."""
    if made.gray.size > LARGEST_PAGE:
        return None
    ink = extract_ink(made.gray)
    zoom = DRILL_UNIT / ink.height
    width, height = round(ink.shade.shape[1] * zoom), round(ink.shade.shape[0] * zoom)
    if min(width, height) < LEAST_SIDE or width * height > LARGEST_DRILL:
        return None
    shade = detect.resized(ink.shade, zoom)
    scale = ink.scale * zoom
    boxes = [
        [d.value, d.box.left * scale, d.box.top * scale, d.box.right * scale, d.box.bottom * scale] for d in made.digits
    ]
    return Drill(shade, np.array(boxes, np.float32).reshape(-1, 5))


def write_drills(
    path: Path,
    count: int,
    *,
    sources: Sources,
    seed: int = 1,
    split: Split = "train",
    jobs: int = 1,
    plain: bool = False,
) -> int:
    """Make sheets and keep them as drills in one `.npz`.

    Args:
        path: the file to write.
        count: how many sheets.
        sources: where digits, letters and fonts lie.
        seed: of the series of sheets.
        split: whose writers and fonts.
        jobs: processes.
        plain: see `make.make_page`.

    Returns:
        How many digits are on them.
    """
    drills: list[Drill] = []
    with get_context("spawn").Pool(jobs, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        drill_at = functools.partial(_drill_at, sources=sources, seed=seed, split=split, plain=plain)
        work = pool.imap(drill_at, range(count), 16)
        for drill in tqdm(work, total=count, unit="sheet", disable=None):
            if drill is not None:
                drills.append(drill)
    save_drills(path, drills)
    return sum(len(drill.boxes) for drill in drills)


def save_drills(path: Path, drills: list[Drill]) -> None:
    """Write drills as one `.npz`, whole or not at all.

    Raises:
        DatasetError: there are none.
        OutputError: the file cannot be written.
    """
    if not drills:
        raise DatasetError(f"{path}: no sheet of the size of a drill came out; make more")
    shapes = np.array([drill.shade.shape for drill in drills], np.int32)
    shades = np.concatenate([drill.shade.ravel() for drill in drills])
    boxes = np.concatenate([drill.boxes for drill in drills])
    counts = np.array([len(drill.boxes) for drill in drills], np.int32)
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as stream:
            np.savez(stream, shapes=shapes, shades=shades, boxes=boxes, counts=counts)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written ({error}): choose another place") from error


def _drill_at(index: int, *, sources: Sources, seed: int, split: Split, plain: bool) -> Drill | None:
    """Drill `index` of a series."""
    return prepare(scene_at(seed, index, split, sources=sources, weights=WEIGHTS, plain=plain))


def load_drills(path: Path) -> list[Drill]:
    """Read what `write_drills` wrote.

    Raises:
        DatasetError: the file is missing or no such file.
    """
    stored = read_npz(path)
    missing = {"shapes", "shades", "boxes", "counts"} - stored.keys()
    if missing:
        raise DatasetError(f"{path} holds no drills ({', '.join(sorted(missing))} missing): make it with sheets drills")
    shapes, shades, boxes, counts = (stored[key] for key in ("shapes", "shades", "boxes", "counts"))
    ends, last = np.cumsum(shapes.prod(axis=1, dtype=np.int64)), np.cumsum(counts)
    if not len(ends) or ends[-1] != len(shades) or last[-1] != len(boxes):
        raise DatasetError(f"{path} holds {len(ends)} drills whose sizes do not add up: make them again")
    return [
        Drill(shades[end - rows * columns : end].reshape(rows, columns), boxes[to - many : to])
        for end, (rows, columns), to, many in zip(ends, shapes, last, counts, strict=True)
    ]


def compose_block(drills: list[Drill], rng: np.random.Generator, *, alike: bool = False) -> tuple[Gray, Boxes]:
    """Fill a block with drills.

    Args:
        drills: to choose from.
        rng: source of chance.
        alike: set them as they are, for validation; else each is distorted and toned its own way.

    Returns:
        (uint8 (`BLOCK_ROWS`, `BLOCK_COLUMNS`), boxes of the digits whose middles are on it).
    """
    block = np.zeros((detect.BLOCK_ROWS, detect.BLOCK_COLUMNS), np.uint8)
    boxes: list[Boxes] = []
    room_for, drills = (detect.BLOCK_ROWS, drills) if alike else _chosen(drills, rng)
    top = 0
    while top < detect.BLOCK_ROWS - LEAST_SIDE and len(boxes) < room_for:
        tallest = left = tries = 0
        while left < detect.BLOCK_COLUMNS - LEAST_SIDE and len(boxes) < room_for:
            drill = drills[rng.integers(len(drills))]
            if not alike:
                drill = _as_it_lies(drill, rng)
            window = _window(drill, rng, alike=alike)
            height, width = window.height, window.width
            room = detect.BLOCK_ROWS - top, detect.BLOCK_COLUMNS - left
            if (left or top) and (width > room[1] or height > room[0]):
                tries += 1
                if tries < TRIES:
                    continue
                if rng.random() < 0.5:
                    break
                height, width = min(height, room[0]), min(width, room[1])
            shade, own = _cut_window(drill, window)
            if not alike and rng.random() < BENT:
                shade, own = _bent(shade, own, rng)
            if not alike:
                shade = _toned(shade, rng)
            block[top : top + height, left : left + width] = shade[:height, :width]
            x, y = (own[:, 1] + own[:, 3]) / 2, (own[:, 2] + own[:, 4]) / 2
            kept = own[(x >= 0) & (y >= 0) & (x < width) & (y < height)]
            boxes.append(kept + np.array([0, left, top, left, top], np.float32))
            tries = 0
            left += width + int(rng.integers(*APART))
            tallest = max(tallest, height)
        if not tallest:
            break
        top += tallest + int(rng.integers(*APART))
    return block, np.concatenate(boxes) if boxes else np.zeros((0, 5), np.float32)


def _chosen(drills: list[Drill], rng: np.random.Generator) -> tuple[int, list[Drill]]:
    """How many drills a block may hold at most, and which: mostly all, now and then few, or one small one alone."""
    if rng.random() < SPARSE:
        return int(rng.integers(1, FEW + 1)), drills
    if rng.random() >= ALONE:
        return detect.BLOCK_ROWS, drills
    some = [drills[k] for k in rng.integers(len(drills), size=SMALL_AMONG)]
    return 1, [drill for drill in some if max(drill.shade.shape) <= SMALL * DRILL_UNIT] or some


def _as_it_lies(drill: Drill, rng: np.random.Generator) -> Drill:
    """A drill upright, or now and then on its side; one without digits on its head, too."""
    if rng.random() < SIDEWAYS:
        return _laid_down(drill, 1 if rng.random() < 0.5 else 3)
    if not len(drill.boxes) and rng.random() < OVERTURNED:
        return _laid_down(drill, 2)
    return drill


def _laid_down(drill: Drill, quarters: int) -> Drill:
    """A drill on its side or its head; what stands on it is no digit until somebody turns it."""
    return Drill(np.ascontiguousarray(np.rot90(drill.shade, quarters)), drill.boxes[:0])


@dataclass(frozen=True, slots=True)
class _Window:
    """A map float64 (2, 3) from a drill to a window of a block, the window's size, and the map's scale."""

    affine: NDArray[np.float64]
    width: int
    height: int
    scale: float


def _window(drill: Drill, rng: np.random.Generator, *, alike: bool) -> _Window:
    """Choose how a drill is distorted, and which part of it is shown where it is large."""
    scale = detect.UNIT / DRILL_UNIT
    linear = np.eye(2) * scale
    if not alike:
        scale *= math.exp(np.clip(rng.normal(0, SIZE_SPREAD), -MOST_SIZE, MOST_SIZE))
        stretch, slant = math.exp(rng.normal(0, STRETCH)), rng.normal(0, SLANT)
        turn = rng.normal(0, MUCH_TURN if rng.random() < 0.1 else TURN)
        rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        linear = rotation @ np.array([[stretch, slant], [0, 1 / stretch]]) * scale
    rows, columns = drill.shade.shape
    corners = np.array([[0, 0], [columns, 0], [0, rows], [columns, rows]]) @ linear.T
    low = corners.min(axis=0)
    size = np.maximum(np.ceil(corners.max(axis=0) - low), 4)
    most = np.array([detect.BLOCK_COLUMNS, detect.BLOCK_ROWS], float)
    if rng.random() >= OFTEN_WHOLE:
        most = np.array([rng.uniform(LEAST_WINDOW[1], most[0]), rng.uniform(LEAST_WINDOW[0], most[1])])
    offset = np.zeros(2)
    if (size > most).any():
        if len(drill.boxes) and rng.random() < 0.8:
            box = drill.boxes[rng.integers(len(drill.boxes))]
            offset = linear @ ((box[1:3] + box[3:5]) / 2) - low - rng.uniform(0.1, 0.9, 2) * most
        else:
            offset = rng.uniform(0, 1, 2) * (size - most)
        offset = np.clip(np.floor(offset), 0, np.maximum(size - most, 0))
    width, height = np.minimum(size, most).astype(int)
    return _Window(np.c_[linear, -low - offset], int(width), int(height), scale)


def _cut_window(drill: Drill, window: _Window) -> tuple[Gray, Boxes]:
    """The part of a drill that a window shows, and where the digits' boxes come to lie."""
    affine = window.affine
    back = np.linalg.inv(np.vstack([affine, [0, 0, 1]]))[:2]
    width, height = window.width, window.height
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]]) @ back.T
    first = np.maximum(np.floor(corners.min(axis=0)).astype(int) - 2, 0)
    last = np.ceil(corners.max(axis=0)).astype(int) + 3
    part = drill.shade[first[1] : last[1], first[0] : last[0]]
    if not part.size:
        part = np.zeros((2, 2), np.uint8)
    if window.scale < 0.65:  # linear interpolation alone would skip pixels
        part = np.asarray(cv2.GaussianBlur(part, (0, 0), 0.45 / window.scale - 0.45), dtype=np.uint8)
    moved = affine.copy()
    moved[:, 2] += affine[:, :2] @ first
    shade = np.asarray(cv2.warpAffine(part, moved, (width, height), flags=cv2.INTER_LINEAR), dtype=np.uint8)
    boxes = drill.boxes
    middle = np.stack([(boxes[:, 1] + boxes[:, 3]) / 2, (boxes[:, 2] + boxes[:, 4]) / 2], axis=1)
    middle = middle @ affine[:, :2].T + affine[:, 2]
    half = np.stack([boxes[:, 3] - boxes[:, 1], boxes[:, 4] - boxes[:, 2]], axis=1) / 2
    half = half * (
        np.hypot(affine[0, 0], affine[1, 0]),
        abs(affine[1, 1]),
    )  # a slant does not widen the digit's own box
    return shade, np.concatenate([boxes[:, :1], middle - half, middle + half], axis=1).astype(np.float32)


def _bent(shade: Gray, boxes: Boxes, rng: np.random.Generator) -> tuple[Gray, Boxes]:
    """Bend what is shown, smoothly and at random (Simard, Steinkraus & Platt 2003), and let the boxes go with it."""
    rows, columns = shade.shape
    length = rng.uniform(*BEND_LENGTH) * detect.UNIT
    size = max(2, round(columns / length) + 1), max(2, round(rows / length) + 1)
    along = rng.normal(0, BEND * detect.UNIT, (2, size[1], size[0])).astype(np.float32)
    dx, dy = (cv2.resize(one, (columns, rows), interpolation=cv2.INTER_CUBIC) for one in along)
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    bent = cv2.remap(shade, x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    column = np.clip((boxes[:, 1] + boxes[:, 3]) / 2, 0, columns - 1).astype(int)
    row = np.clip((boxes[:, 2] + boxes[:, 4]) / 2, 0, rows - 1).astype(int)
    moved = boxes.copy()
    moved[:, 1::2] -= dx[row, column][:, None]
    moved[:, 2::2] -= dy[row, column][:, None]
    return np.asarray(bent, dtype=np.uint8), moved


def _toned(shade: Gray, rng: np.random.Generator) -> Gray:
    """Lighter or darker, now and then with grain or blurred."""
    toned = shade.astype(np.float32)
    if rng.random() < 0.8:
        toned *= np.float32(math.exp(rng.normal(0, 0.18)))
    if rng.random() < 0.2:
        toned += np.float32(rng.uniform(2, 14)) * rng.standard_normal(toned.shape, np.float32)
    if rng.random() < 0.15:
        toned = np.asarray(cv2.GaussianBlur(toned, (0, 0), rng.uniform(0.4, 1.0)), dtype=np.float32)
    return np.clip(toned, 0, 255).astype(np.uint8)


def ask(boxes: Boxes) -> Asked:
    """What a detector should answer for a block.

    Args:
        boxes: float32 (N, 5), the digits on it.

    Returns:
        float32 (rows, columns, 7) of cells: a bump of height 1 at each digit's middle; the weight of what follows, 0
        away from middles; the value; the distances from the cell's middle to the box's edges, in `detect.UNIT`.
    """
    rows, columns = detect.BLOCK_ROWS // detect.CELL_ROWS, detect.BLOCK_COLUMNS // detect.CELL_COLUMNS
    asked = np.zeros((rows, columns, 7), np.float32)
    for value, left, top, right, bottom in boxes.astype(np.float64):
        x = (left + right) / 2 / detect.CELL_COLUMNS - 0.5
        y = (top + bottom) / 2 / detect.CELL_ROWS - 0.5
        wide = max(LEAST_BUMP[1], BUMP_SIDE * (right - left) / detect.CELL_COLUMNS)
        tall = max(LEAST_BUMP[0], BUMP_SIDE * (bottom - top) / detect.CELL_ROWS)
        x0, x1 = max(0, int(x - 3 * wide)), min(columns, int(x + 3 * wide) + 2)
        y0, y1 = max(0, int(y - 3 * tall)), min(rows, int(y + 3 * tall) + 2)
        if x0 >= x1 or y0 >= y1:
            continue
        column, row = np.arange(x0, x1)[None], np.arange(y0, y1)[:, None]
        bump = np.exp(-(np.square((column - x) / wide) + np.square((row - y) / tall)) / 2)
        bump = np.minimum(bump / bump.max(), 1.0)
        cells = asked[y0:y1, x0:x1]
        mine = (bump > cells[..., 0]) & (bump >= BUMPED)
        cells[..., 0] = np.maximum(cells[..., 0], bump)
        px, py = (column + 0.5) * detect.CELL_COLUMNS, (row + 0.5) * detect.CELL_ROWS
        edges = np.stack(np.broadcast_arrays(px - left, py - top, right - px, bottom - py), axis=-1) / detect.UNIT
        cells[mine, 1] = bump[mine]
        cells[mine, 2] = value
        cells[mine, 3:] = edges[mine]
    return asked
