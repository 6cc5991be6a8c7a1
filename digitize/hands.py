"""Hands: where written digits come from, and how a pen draws them.

Two kinds of source. *Pen strokes* are points as a tablet recorded them: UNIPEN text as UCI publishes pendigits
(`.PEN_DOWN`, `.PEN_UP`, y upwards), and the npz files read out of UNIPEN's isolated characters. They are drawn
here with any pen, at any size. *Tiles* are MNIST's: they are enlarged and cut anew along their outline, so that
they too get a clean edge and another stroke width.

A `Hand` is one made-up writer: a real writer's shapes with a pen, a slant and habits, so that all digits of a
number agree with one another. Alpha arrays are float32 (H, W), 0 where there is no ink, 1 where it covers fully.

Sources: Guyon et al., "UNIPEN project of on-line data exchange and recognizer benchmarks", ICPR 1994; Alpaydin and
Alimoglu, "Pen-Based Recognition of Handwritten Digits", UCI 1998; Chaikin, "An algorithm for high-speed curve
generation", 1974. Distance fields for changing the stroke width keep thin strokes whole where erosion cuts them.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from digitize.copybook import Form
from digitize.errors import DatasetError
from digitize.records import TILE_SIDE

Alpha = NDArray[np.float32]  # (H, W), 0 no ink to 1 covered
Stroke = NDArray[np.float32]  # (P, 2), x to the right, y downwards
Split = Literal["train", "validation"]
PenKind = Literal["ballpoint", "felt", "pencil", "fountain", "dry"]

PEN_KINDS: tuple[PenKind, ...] = ("ballpoint", "felt", "pencil", "fountain", "dry")
VALIDATION_SHARE = 10  # one writer in ten is kept for validation
SPLIT_SEED = 1990  # changes who is kept; fixed, so that no model ever trains on another's validation writers

SHIFT = 4  # fractional bits of the coordinates given to OpenCV
DRAWN_STROKE = 5.0  # stroke width in pixels at which lines are drawn before they are scaled down
LARGEST_CANVAS = 420  # height in pixels of the drawing before it is scaled down
NOISE_SIDE = 512
OWN_FORM_KEPT = 0.9  # how often a hand keeps to its own form of a digit
MNIST_SPAN = 20.0  # MNIST's digits fill 20 of 28 pixels


@dataclass(frozen=True, slots=True)
class PenSet:
    """Items written with a pen, packed.

    Attributes:
        points: float32 (P, 2), x to the right, y downwards, in the source's unit.
        stroke_start: int64 (S + 1,); stroke k is points[stroke_start[k]:stroke_start[k + 1]].
        item_start: int64 (N + 1,); item i has the strokes item_start[i] to item_start[i + 1].
        labels: (N,) one character each.
        writers: (N,) the name of the writer, prefixed by the source.
        donors: (N,) who collected it: writers of one donor used one tablet and one school's shapes.
    """

    points: NDArray[np.float32] = field(repr=False)
    stroke_start: NDArray[np.int64] = field(repr=False)
    item_start: NDArray[np.int64] = field(repr=False)
    labels: NDArray[np.str_] = field(repr=False)
    writers: NDArray[np.str_] = field(repr=False)
    donors: NDArray[np.str_] = field(repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def strokes(self, item: int, *, unit: Literal["height", "side"] = "height") -> list[Stroke]:
        """The strokes of one item, moved to the origin and scaled.

        Args:
            item: which.
            unit: what becomes 1: the height, or the larger side (for dashes and dots, which have no height).

        Returns:
            Float32 (P, 2) arrays, x from 0 to the width, y from 0 (top) to 1.
        """
        first, last = self.item_start[item], self.item_start[item + 1]
        bounds = self.stroke_start[first : last + 1]
        points = self.points[bounds[0] : bounds[-1]]
        low = points.min(axis=0)
        size = points.max(axis=0) - low
        scale = max(float(size[1] if unit == "height" else size.max()), 1e-6)
        points = (points - low) / np.float32(scale)
        return [points[start - bounds[0] : end - bounds[0]] for start, end in pairwise(bounds)]

    def take(self, keep: NDArray[np.bool_]) -> PenSet:
        """The items where `keep` (bool, (N,)) is True."""
        items = np.flatnonzero(keep)
        points: list[NDArray[np.float32]] = []
        stroke_start, item_start = [0], [0]
        for item in items:
            bounds = self.stroke_start[self.item_start[item] : self.item_start[item + 1] + 1]
            points.append(self.points[bounds[0] : bounds[-1]])
            stroke_start.extend((bounds[1:] - bounds[0] + stroke_start[-1]).tolist())
            item_start.append(len(stroke_start) - 1)
        return PenSet(
            np.concatenate(points) if points else np.zeros((0, 2), np.float32),
            np.array(stroke_start, np.int64),
            np.array(item_start, np.int64),
            self.labels[items],
            self.writers[items],
            self.donors[items],
        )


@dataclass(frozen=True, slots=True)
class TileSet:
    """MNIST tiles with their writers.

    Attributes:
        tiles: uint8 (N, 28, 28), 0 paper to 255 ink.
        labels: uint8 (N,).
        writers: (N,) the name of the writer, prefixed by the source.
    """

    tiles: NDArray[np.uint8] = field(repr=False)
    labels: NDArray[np.uint8] = field(repr=False)
    writers: NDArray[np.str_] = field(repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, keep: NDArray[np.bool_]) -> TileSet:
        """The tiles where `keep` (bool, (N,)) is True."""
        return TileSet(self.tiles[keep], self.labels[keep], self.writers[keep])


@dataclass(frozen=True, slots=True)
class Pen:
    """What draws, and how.

    Attributes:
        kind: ballpoint (even), felt (thick, round), pencil (grain of the paper shows), fountain (width by
            direction), dry (gaps along the stroke).
        width: stroke width as a share of the digit's height, 0.02 to 0.25.
        pressure: how far the width varies along the stroke, 0 to 0.6 of itself.
        angle: of a fountain pen's nib, radians.
        grain: how much of the ink the paper's texture takes away, 0 to 1.
    """

    kind: PenKind = "ballpoint"
    width: float = 0.08
    pressure: float = 0.15
    angle: float = 0.7
    grain: float = 0.0


# --------------------------------------------------------------------------------------------- reading the sources


def read_pens(path: Path, *, prefix: str) -> PenSet:
    """Read an npz file of pen strokes (`points`, `stroke_start`, `item_start`, `labels`, `writers`, `donors`).

    Args:
        path: the file; its y grows upwards.
        prefix: put before the writers' numbers, so that writers of two files stay apart.

    Raises:
        DatasetError: it cannot be read or lacks one of the arrays.
    """
    try:
        with np.load(path) as arrays:
            points = arrays["points"].astype(np.float32)
            points[:, 1] *= -1
            writers = np.array([f"{prefix}:{writer}" for writer in arrays["writers"]])
            return PenSet(
                points,
                arrays["stroke_start"].astype(np.int64),
                arrays["item_start"].astype(np.int64),
                arrays["labels"].astype(str),
                writers,
                np.array([f"{prefix.split('-')[0]}:{donor}" for donor in arrays["donors"]]),
            )
    except (OSError, KeyError, ValueError) as problem:
        raise DatasetError(f"{path} is no npz file of pen strokes ({problem}); fetch it again") from problem


def read_pendigits(path: Path, *, prefix: str) -> PenSet:
    """Read UCI pendigits as published: UNIPEN text, gzipped or plain.

    Args:
        path: `pendigits-orig.tra.gz` or `.tes.gz` (or the file unpacked).
        prefix: put before the writers' numbers.

    Raises:
        DatasetError: the file cannot be read, or holds no digit.
    """
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("ascii")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as problem:
        raise DatasetError(f"{path} is no pendigits file ({problem}); fetch it again") from problem
    points: list[NDArray[np.float32]] = []
    stroke_start, item_start = [0], [0]
    labels: list[str] = []
    writers: list[str] = []
    for segment in text.split(".SEGMENT")[1:]:
        head, *strokes = segment.split(".PEN_DOWN")
        comment = head.split(".COMMENT")
        if len(comment) < 2:
            continue
        label, writer = comment[1].split()[:2]
        for stroke in strokes:
            numbers = np.array(stroke.split(".", 1)[0].split(), np.float32)
            if numbers.size < 2 or numbers.size % 2:
                continue
            points.append(numbers.reshape(-1, 2) * np.array([1, -1], np.float32))
            stroke_start.append(stroke_start[-1] + numbers.size // 2)
        if len(stroke_start) - 1 > item_start[-1]:
            item_start.append(len(stroke_start) - 1)
            labels.append(label)
            writers.append(f"{prefix}:{int(writer)}")
    if not labels:
        raise DatasetError(f"{path} holds no digit in UNIPEN's form; fetch it again")
    return PenSet(
        np.concatenate(points),
        np.array(stroke_start, np.int64),
        np.array(item_start, np.int64),
        np.array(labels),
        np.array(writers),
        np.array(writers),
    )


def read_tiles(folder: Path) -> TileSet:
    """Read MNIST's 60,000 training digits (IDX, gzipped) and who wrote each.

    Without `writers.npz` every hundred tiles in file order count as one writer's.

    Raises:
        DatasetError: a file is missing or is not what it should be.
    """
    images_path, labels_path = folder / "train-images-idx3-ubyte.gz", folder / "train-labels-idx1-ubyte.gz"
    try:
        images = np.frombuffer(gzip.decompress(images_path.read_bytes()), np.uint8, offset=16)
        labels = np.frombuffer(gzip.decompress(labels_path.read_bytes()), np.uint8, offset=8)
        images = images.reshape(-1, TILE_SIDE, TILE_SIDE)
    except (OSError, EOFError, zlib.error, ValueError) as problem:
        raise DatasetError(f"{folder} lacks MNIST's training digits ({problem}); fetch the IDX files") from problem
    writers_path = folder / "writers.npz"
    numbers = np.arange(len(labels)) // 100
    if writers_path.exists():
        with np.load(writers_path) as arrays:
            numbers = arrays["train"]
    if len(images) != len(labels) or len(numbers) != len(labels):
        raise DatasetError(f"{folder} has {len(images)} tiles, {len(labels)} labels, {len(numbers)} writers")
    return TileSet(images, labels, np.array([f"mnist:{number}" for number in numbers]))


def join_pens(sets: Sequence[PenSet]) -> PenSet:
    """Several sets as one."""
    points_before = np.cumsum([0, *(len(pens.points) for pens in sets)])
    strokes_before = np.cumsum([0, *(len(pens.stroke_start) - 1 for pens in sets)])
    return PenSet(
        np.concatenate([pens.points for pens in sets]),
        np.concatenate([[0], *(pens.stroke_start[1:] + n for pens, n in zip(sets, points_before, strict=False))]),
        np.concatenate([[0], *(pens.item_start[1:] + n for pens, n in zip(sets, strokes_before, strict=False))]),
        np.concatenate([pens.labels for pens in sets]),
        np.concatenate([pens.writers for pens in sets]),
        np.concatenate([pens.donors for pens in sets]),
    )


def sane_digits(pens: PenSet) -> NDArray[np.bool_]:
    """Which items may be the digit that their label says.

    A few items are dots, lines or rows of circles. Dropped are: no digit as label; wider than 1.8 heights; a straight
    line that is no 1; an 8 that is a ring.

    Returns:
        Bool (N,).
    """
    keep = np.zeros(len(pens), bool)
    for item in range(len(pens)):
        label = str(pens.labels[item])
        strokes = pens.strokes(item, unit="side")
        path = sum(float(np.hypot(*np.diff(stroke, axis=0).T).sum()) for stroke in strokes)
        width, height = np.concatenate(strokes).max(axis=0)
        winding = path / max(float(np.hypot(width, height)), 1e-6)
        keep[item] = (
            label.isdigit()
            and path > 0
            and winding < 9
            and width < 1.8 * height
            and (label == "1" or winding > 1.2)
            and not (label == "8" and _is_ring(strokes))
        )
    return keep


def _is_ring(strokes: Sequence[Stroke]) -> bool:
    """Whether the pen went round just once: an 8 turns left and right by about as much, a ring one way only."""
    if len(strokes) > 1:
        return False
    step = np.diff(strokes[0], axis=0)
    step = step[np.hypot(step[:, 0], step[:, 1]) > 1e-3]
    turns = np.diff(np.arctan2(step[:, 1], step[:, 0]))
    turned = abs(float(((turns + np.pi) % (2 * np.pi) - np.pi).sum()))
    return 1.6 * np.pi < turned < 2.4 * np.pi


def split_of(writer: str) -> Split:
    """Whether a writer is trained on or kept for validation: by hash, one in ten; pendigits' test writers all kept."""
    if writer.startswith("pendigits-tes"):
        return "validation"
    return "validation" if zlib.crc32(f"{SPLIT_SEED}:{writer}".encode()) % VALIDATION_SHARE == 0 else "train"


def in_split(writers: NDArray[np.str_], split: Split) -> NDArray[np.bool_]:
    """Bool (N,): which items were written by writers of `split`."""
    names, index = np.unique(writers, return_inverse=True)
    return np.array([split_of(str(name)) == split for name in names], bool)[index]


# ------------------------------------------------------------------------------------------------------ drawing


class Noise:
    """Ready-made random textures, of which patches are cut: far quicker than fresh noise for every digit.

    Attributes:
        grains: for each grain size in pixels, float32 (512, 512) with mean 0 and variance 1.
    """

    SIZES = (0.0, 0.8, 1.6, 3.0, 6.0, 14.0, 40.0)

    def __init__(self, seed: int = 7) -> None:
        rng = np.random.default_rng(seed)
        self.grains: dict[float, NDArray[np.float32]] = {}
        for size in self.SIZES:
            white = rng.standard_normal((NOISE_SIDE, NOISE_SIDE)).astype(np.float32)
            if size:
                white = cv2.GaussianBlur(white, (0, 0), size).astype(np.float32)
            self.grains[size] = (white - white.mean()) / white.std()

    def patch(self, rng: np.random.Generator, shape: tuple[int, int], size: float) -> NDArray[np.float32]:
        """A random patch of float32 `shape`, mean about 0, variance about 1, with the grain nearest to `size`."""
        grain = self.grains[min(self.SIZES, key=lambda known: abs(known - size))]
        height, width = shape
        turned = grain.T if rng.random() < 0.5 else grain
        if height > NOISE_SIDE or width > NOISE_SIDE:
            # Mirrored copies meet without a seam.
            down, across = -(-height // NOISE_SIDE), -(-width // NOISE_SIDE)
            rows = [[turned[:: 1 - 2 * (r % 2), :: 1 - 2 * (c % 2)] for c in range(across)] for r in range(down)]
            turned = np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0)
        top = int(rng.random() * (turned.shape[0] - height + 1))
        left = int(rng.random() * (turned.shape[1] - width + 1))
        return turned[top : top + height, left : left + width]


_NOISE: list[Noise] = []


def noise() -> Noise:
    """The one bank of textures, made at the first call."""
    if not _NOISE:
        _NOISE.append(Noise())
    return _NOISE[0]


def smooth(stroke: Stroke, times: int = 1) -> Stroke:
    """Cut corners as Chaikin does: each edge gives its points at 1/4 and 3/4; the ends stay."""
    for _ in range(times):
        if len(stroke) < 3:
            return stroke
        near = 0.75 * stroke[:-1] + 0.25 * stroke[1:]
        far = 0.25 * stroke[:-1] + 0.75 * stroke[1:]
        between = np.stack([near, far], axis=1).reshape(-1, 2)
        stroke = np.concatenate([stroke[:1], between, stroke[-1:]]).astype(np.float32)
    return stroke


def wave(strokes: Sequence[Stroke], rng: np.random.Generator, amount: float) -> list[Stroke]:
    """Bend strokes by slow waves of `amount` heights, so that no two drawings of one item are alike."""
    phase = rng.random(4) * 2 * np.pi
    pace = 2 + 4 * rng.random(4)
    bent = []
    for stroke in strokes:
        x, y = stroke[:, 0], stroke[:, 1]
        dx = np.sin(pace[0] * y + phase[0]) + 0.6 * np.sin(pace[1] * x + phase[1])
        dy = np.sin(pace[2] * x + phase[2]) + 0.6 * np.sin(pace[3] * y + phase[3])
        bent.append((stroke + np.float32(amount) * np.stack([dx, dy], axis=1)).astype(np.float32))
    return bent


def slanted(strokes: Sequence[Stroke], slant: float, aspect: float = 1.0, turn: float = 0.0) -> list[Stroke]:
    """Shear by `slant` (x per unit of y, to the right at the top), widen by `aspect`, turn by `turn` radians."""
    cosine, sine = np.cos(turn), np.sin(turn)
    shear = np.array([[aspect, 0.0], [-slant, 1.0]]) @ np.array([[cosine, sine], [-sine, cosine]])
    matrix = shear.astype(np.float32)
    return [stroke @ matrix for stroke in strokes]


def fitted(strokes: Sequence[Stroke]) -> list[Stroke]:
    """Moved to the origin and scaled to unit height (strokes flatter than 0.2 keep their size)."""
    points = np.concatenate(list(strokes))
    low = points.min(axis=0)
    height = float(points[:, 1].max() - low[1])
    scale = 1 / height if height > 0.2 else 1.0
    return [((stroke - low) * np.float32(scale)).astype(np.float32) for stroke in strokes]


def draw_strokes(strokes: Sequence[Stroke], height_px: float, pen: Pen, rng: np.random.Generator) -> Alpha:
    """Draw strokes with a pen.

    Lines are drawn with round ends at such a size that they are about `DRAWN_STROKE` pixels thick, then averaged down.

    Args:
        strokes: (P, 2) arrays in heights: y from 0 to 1 (less for dashes), x from 0.
        height_px: what one unit is on paper, in pixels, the pen's own width included.
        pen: what draws.
        rng: for pressure, grain and gaps.

    Returns:
        float32 (H, W) trimmed to the ink; at least 1 x 1.
    """
    width_px = max(pen.width * height_px, 0.6)
    span = max(height_px - width_px, 0.5 * height_px)  # of the pen's path: half a width stands out at each end
    zoom = max(1.0, min(DRAWN_STROKE / width_px, LARGEST_CANVAS / height_px))
    thickness = max(1, round(width_px * zoom))
    zoom = min(max(thickness / width_px, 1.0), 6.0)
    points = np.concatenate(list(strokes))
    low, high = points.min(axis=0), points.max(axis=0)
    margin = width_px * 0.9 + 1.0
    columns = int(np.ceil((high[0] - low[0]) * span + 2 * margin))
    rows = int(np.ceil((high[1] - low[1]) * span + 2 * margin))
    board = np.zeros((max(1, round(rows * zoom)), max(1, round(columns * zoom))), np.uint8)
    # The board is rounded to whole pixels, so each axis has its own zoom.
    scale = np.array([span * board.shape[1] / columns, span * board.shape[0] / rows], np.float32)
    offset = np.array([margin * board.shape[1] / columns, margin * board.shape[0] / rows], np.float32)
    for stroke in strokes:
        path = (stroke - low) * scale + offset - 0.5
        _draw_path(board, path, thickness, pen, rng)
    alpha = cv2.resize(board, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)
    if width_px < 1 and thickness > width_px * zoom:
        alpha *= width_px * zoom / thickness
    return _textured(trimmed(alpha), pen, width_px, rng)


def _draw_path(
    board: NDArray[np.uint8], path: NDArray[np.float32], thickness: int, pen: Pen, rng: np.random.Generator
) -> None:
    """Draw one stroke on the enlarged board."""
    fixed = np.round(path * (1 << SHIFT)).astype(np.int32)
    if len(fixed) == 1:
        cv2.circle(board, fixed[0].tolist(), int(thickness * 0.6 * (1 << SHIFT)), 255, -1, cv2.LINE_AA, SHIFT)
        return
    if pen.kind != "fountain" and pen.pressure < 0.05:
        cv2.polylines(board, [fixed], False, 255, thickness, cv2.LINE_AA, SHIFT)
        return
    step = np.diff(path, axis=0)
    length = np.hypot(step[:, 0], step[:, 1])
    along = np.cumsum(length) / max(float(length.sum()), 1e-6)
    factor = 1 + pen.pressure * np.sin(2 * np.pi * (rng.random() + (0.6 + 1.6 * rng.random()) * along))
    if pen.kind == "fountain":
        factor = factor * (0.55 + 0.75 * np.abs(np.sin(np.arctan2(step[:, 1], step[:, 0]) - pen.angle)))
    widths = np.maximum(1, np.round(thickness * factor)).astype(int)
    # Runs of equal width are drawn in one call.
    changes = np.flatnonzero(np.diff(widths)) + 1
    for start, end in zip([0, *changes.tolist()], [*changes.tolist(), len(widths)], strict=True):
        cv2.polylines(board, [fixed[start : end + 1]], False, 255, int(widths[start]), cv2.LINE_AA, SHIFT)


def _textured(alpha: Alpha, pen: Pen, width_px: float, rng: np.random.Generator) -> Alpha:
    """Let the paper's grain and a failing pen take ink away."""
    if pen.grain > 0:
        fine = noise().patch(rng, alpha.shape, 0.8)
        alpha = alpha * np.clip(1 - pen.grain * (0.45 + 0.5 * fine), 0.08, 1)
    if pen.kind == "dry":
        gaps = noise().patch(rng, alpha.shape, max(1.2, 1.5 * width_px))
        alpha = alpha * np.clip(1.5 + 1.0 * gaps, 0.3, 1)
    return alpha.astype(np.float32)


def trimmed(alpha: Alpha, least: float = 0.06) -> Alpha:
    """Without the empty rows and columns around it (at least one pixel is left)."""
    mask = alpha > least
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return alpha[:1, :1]
    return alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def draw_tile(
    tile: NDArray[np.uint8],
    height_px: float,
    rng: np.random.Generator,
    *,
    pen: Pen | None = None,
    slant: float = 0.0,
    aspect: float = 1.0,
) -> Alpha:
    """Draw an MNIST digit anew at another size, with a clean edge and a pen's width.

    The tile is enlarged, its outline found as a distance field, moved in or out towards the pen's width (never
    so far that strokes vanish or holes close), and scaled down.

    Args:
        tile: uint8 (28, 28), 0 paper to 255 ink.
        height_px: of the digit's ink on paper.
        rng: for the bending.
        pen: its width and texture; None keeps the tile's own width.
        slant: shear in x per y.
        aspect: widening.

    Returns:
        float32 (H, W) trimmed to the ink.
    """
    columns, rows = np.flatnonzero(tile.max(axis=0) > 60), np.flatnonzero(tile.max(axis=1) > 60)
    if not len(rows):
        return np.zeros((1, 1), np.float32)
    tile = tile[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    tile_zoom = float(np.clip(1.5 * height_px / MNIST_SPAN, 2.5, 5.0))
    turn = 0.06 * rng.standard_normal()
    cosine, sine = np.cos(turn), np.sin(turn)
    shear = tile_zoom * np.array([[aspect, -slant], [0, 1]]) @ np.array([[cosine, -sine], [sine, cosine]])
    reach = np.abs(shear) @ np.array([tile.shape[1] / 2 + 1, tile.shape[0] / 2 + 1])
    room = round(2.5 * tile_zoom)
    grown = 2 * np.ceil(reach).astype(int) + 2 * room
    centre = np.array([(tile.shape[1] - 1) / 2, (tile.shape[0] - 1) / 2])
    matrix = np.hstack([shear, ((grown - 1) / 2 - shear @ centre)[:, None]])
    big = cv2.warpAffine(tile, matrix, grown.tolist(), flags=cv2.INTER_CUBIC)
    if rng.random() < 0.4:
        big = _bent(big.astype(np.uint8), rng, 0.02 * MNIST_SPAN * tile_zoom)
    rows = np.flatnonzero(big.max(axis=1) > 115)
    if not len(rows):
        return np.zeros((1, 1), np.float32)
    big = cv2.GaussianBlur(big, (0, 0), 0.3 * tile_zoom)
    ink = (big > 115).astype(np.uint8)
    inside = cv2.distanceTransform(ink, cv2.DIST_L2, 3)
    outside = cv2.distanceTransform(1 - ink, cv2.DIST_L2, 3)
    tall = max(1, rows[-1] - rows[0] + 1)
    area = int(ink.sum())
    half = 2 * float(inside.sum()) / max(area, 1)  # the mean distance in a strip is a quarter of its width
    move = 0.0
    if pen is not None:
        move = float(np.clip(pen.width * tall / 2 - half, -0.42 * half, min(0.5 * half, 0.045 * tall)))
    zoom = height_px / max(1.0, tall + 2 * move)
    # One pixel of soft edge on paper is 1 / zoom pixels here.
    edge = max(1.0, 0.6 / zoom)
    field_ = (inside - outside + np.where(ink > 0, -0.5, 0.5)).astype(np.float32)
    alpha = np.clip(0.5 + (field_ + move) / edge, 0, 1).astype(np.float32)
    shape = max(1, round(alpha.shape[1] * zoom)), max(1, round(alpha.shape[0] * zoom))
    alpha = cv2.resize(alpha, shape, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
    alpha = trimmed(alpha.astype(np.float32))
    width_px = 2 * (half + move) * zoom
    return alpha if pen is None else _textured(alpha, pen, width_px, rng)


def _bent(board: NDArray[np.uint8], rng: np.random.Generator, amount: float) -> NDArray[np.uint8]:
    """Bend a picture by slow waves of `amount` pixels."""
    height, width = board.shape
    phase, pace = rng.random(4) * 2 * np.pi, (2 + 4 * rng.random(4)) / max(height, width)
    rows, columns = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    across = columns[None] + amount * (
        np.sin(pace[0] * rows + phase[0])[:, None] + np.sin(pace[1] * columns + phase[1])
    )
    down = rows[:, None] + amount * (
        np.sin(pace[2] * columns + phase[2])[None] + np.sin(pace[3] * rows + phase[3])[:, None]
    )
    return cv2.remap(board, across.astype(np.float32), down.astype(np.float32), cv2.INTER_LINEAR).astype(np.uint8)


# -------------------------------------------------------------------------------------------------------- hands


@dataclass(frozen=True, slots=True)
class Habits:
    """What one made-up writer does to every digit.

    Attributes:
        pen: what it is written with.
        slant: shear in x per y, to the right at the top.
        aspect: widening.
        unevenness: how far digits differ in size, as a share of their height.
        bounce: how far they leave the base line, in heights.
        bars, flags, slashes: chance that a 7 is crossed, a 1 gets a flag, a 0 a slash, beyond what the writer does.
        loops: chance that a 2 begins with a loop, as in Latin hands.
        openings: chance that the loop of a 9 stays open.
        bare: chance that a 5 of two strokes loses its bar, and looks like a root sign.
        own_forms: chance that a digit has a form of `copybook` in this hand.
        zeros: height of a 0 as a share of the other digits', as hands that hurry over the last ones have it.
    """

    pen: Pen
    slant: float = 0.0
    aspect: float = 1.0
    unevenness: float = 0.06
    bounce: float = 0.04
    bars: float = 0.0
    flags: float = 0.0
    slashes: float = 0.0
    loops: float = 0.0
    openings: float = 0.0
    bare: float = 0.0
    own_forms: float = 0.0
    zeros: float = 1.0


@dataclass(frozen=True, slots=True)
class Hand:
    """One made-up writer: a real writer's shapes, with a pen and habits.

    Attributes:
        habits: what is done to every digit.
        pens, tiles: where the shapes are; one of them is None.
        items: for each digit, the items it may be drawn from.
        writer: whose shapes they are.
        forms: digits that this hand writes in a form of its own, nearly always.
    """

    habits: Habits
    pens: PenSet | None = field(repr=False)
    tiles: TileSet | None = field(repr=False)
    items: dict[int, NDArray[np.int64]] = field(repr=False)
    writer: str
    forms: dict[int, Form] = field(default_factory=dict, repr=False)

    def draw(self, digit: int, height_px: float, rng: np.random.Generator) -> Alpha:
        """Draw one digit, `height_px` pixels tall but for the hand's unevenness."""
        habits = self.habits
        height_px *= habits.zeros if digit == 0 else 1.0
        height_px = max(6.0, height_px * (1 + habits.unevenness * float(np.clip(rng.standard_normal(), -2.5, 2.5))))
        pen = replace(habits.pen, width=habits.pen.width * (1 + 0.06 * float(rng.standard_normal())))
        pool = self.items[digit]
        item = int(pool[int(rng.random() * len(pool))])
        slant = habits.slant + 0.04 * float(rng.standard_normal())
        aspect = habits.aspect * (1 + 0.05 * float(rng.standard_normal()))
        if digit in self.forms and rng.random() < OWN_FORM_KEPT:
            strokes = slanted(self.forms[digit].strokes(), slant, aspect, 0.05 * float(rng.standard_normal()))
            return draw_strokes(fitted(wave(strokes, rng, 0.02)), height_px, pen, rng)
        if self.tiles is not None:
            return draw_tile(self.tiles.tiles[item], height_px, rng, pen=pen, slant=slant, aspect=aspect)
        if self.pens is None:
            raise DatasetError(f"the hand of {self.writer} has neither strokes nor tiles")
        strokes = self.pens.strokes(item)
        strokes = embellished(strokes, digit, habits, rng)
        if sum(map(len, strokes)) < 60:
            strokes = [smooth(stroke, 2) for stroke in strokes]
        strokes = wave(slanted(strokes, slant, aspect, 0.05 * float(rng.standard_normal())), rng, 0.012)
        return draw_strokes(fitted(strokes), height_px, pen, rng)


def embellished(strokes: list[Stroke], digit: int, habits: Habits, rng: np.random.Generator) -> list[Stroke]:
    """Do what hands do that are few among the writers: bars, flags and slashes, loops, openings, missing bars."""
    points = np.concatenate(strokes)
    low, high = points.min(axis=0), points.max(axis=0)
    width = float(high[0] - low[0])
    if digit == 7 and len(strokes) == 1 and width > 0.25 and rng.random() < habits.bars:
        level = 0.42 + 0.16 * rng.random()
        beside = points[np.argmin(np.abs(points[:, 1] - level) + (points[:, 0] < low[0] + 0.2 * width))]
        reach = 0.16 + 0.14 * rng.random()
        tilt = 0.06 * float(rng.standard_normal())
        bar = [[beside[0] - reach, level + tilt], [beside[0] + reach, level - tilt]]
        return [*strokes, np.array(bar, np.float32)]
    if digit == 1 and len(strokes) == 1 and width < 0.22 and rng.random() < habits.flags:
        down = strokes[0] if strokes[0][0, 1] < strokes[0][-1, 1] else strokes[0][::-1]
        reach, drop = 0.15 + 0.35 * rng.random(), 0.15 + 0.35 * rng.random()
        flag = np.array([[down[0, 0] - reach, down[0, 1] + drop]], np.float32)
        made = [np.concatenate([flag, down])]
        if rng.random() < 0.3:
            foot = 0.12 + 0.2 * rng.random()
            end = down[-1]
            made.append(np.array([[end[0] - foot, end[1]], [end[0] + foot, end[1] - 0.02]], np.float32))
        return made
    if digit == 2 and rng.random() < habits.loops:
        return [_looped(strokes[0], rng), *strokes[1:]]
    if digit == 9 and len(strokes[0]) > 8 and rng.random() < habits.openings:
        return [_without_start(strokes[0], 0.04 + 0.1 * rng.random()), *strokes[1:]]
    if digit == 5 and len(strokes) == 2 and rng.random() < habits.bare:
        longer = max(strokes, key=_length)
        return [longer] if _length(longer) > 2 * min(map(_length, strokes)) else strokes
    if digit == 0 and rng.random() < habits.slashes:
        slash = [[high[0] + 0.05, low[1] - 0.02], [low[0] - 0.05, high[1] + 0.02]]
        return [*strokes, np.array(slash, np.float32)]
    return strokes


def _length(stroke: Stroke) -> float:
    """How long a stroke is."""
    return float(np.hypot(*np.diff(stroke, axis=0).T).sum())


def _without_start(stroke: Stroke, share: float) -> Stroke:
    """A stroke without the first `share` of its length."""
    run = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(stroke, axis=0).T))])
    return stroke[min(int(np.searchsorted(run, share * run[-1])), len(stroke) - 2) :]


def _looped(stroke: Stroke, rng: np.random.Generator) -> Stroke:
    """A 2 that begins inside and comes round to where it used to begin, so that its head is a loop."""
    start = stroke[0]
    low, high = stroke.min(axis=0), stroke.max(axis=0)
    width = high[0] - low[0]
    inside = np.array([low[0] + (0.45 + 0.5 * rng.random()) * width, 0.3 + 0.22 * rng.random()])
    around = np.array([low[0] - (0.05 + 0.15 * rng.random()) * width, max(inside[1], start[1] + 0.05)])
    along = np.linspace(0, 1, 8)[:-1, None]
    curve = (1 - along) ** 2 * inside + 2 * along * (1 - along) * around + along**2 * start
    return np.concatenate([curve, stroke]).astype(np.float32)
