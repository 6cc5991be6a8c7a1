"""Make the sample sheets of this folder, and their truth, from MNIST test digits.

    python samples/make_samples.py --mnist FOLDER [--out FOLDER]

FOLDER holds `t10k-images-idx3-ubyte.gz` and `t10k-labels-idx1-ubyte.gz`, and, where it is to be had, `writers.npz`
(who wrote each digit), so that each number stands in one hand. Every test digit is used at most once. Digits whose
nearest neighbours among the other test digits say something else than the label are left out, and so are those that
fall into several pieces, so that nobody disputes the truth of a sheet; hard digits are what MNIST's own test is for.

The same seed gives the same sheets (up to the resampling of another OpenCV). README.md tells what each is for.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SEED = 20261123
DPI = 300
MM = DPI / 25.4  # pixels
WIDTH, HEIGHT = round(210 * MM), round(297 * MM)  # A4

MNIST_SIDE = 28  # pixels of a tile
MNIST_FIT = 20  # the digit's larger side within it
NEIGHBOURS = 3  # that must agree with a label
SUPERSAMPLING = 4  # per page pixel, while an edge is being drawn
EDGE_LEVEL = 0.42  # of full ink: where a grey MNIST edge becomes the pen's edge
EDGE_BLUR = 0.35  # MNIST pixels, evens out the staircase that upscaling leaves
INK_IN_BOX = 0.25  # coverage from which a pixel belongs to the digit's box

LABELS = ("Account", "Branch", "Meter", "Reading", "Code", "Parcel", "Depot", "Weight", "Order", "Batch", "Shelf")
SUBJECTS = ("Reading", "Writing", "Sums", "History", "Drawing", "Music")

PAPER, INK = (255, 255, 255), (38, 38, 44)
BLUE_INK = (28, 52, 128)

Coverage = NDArray[np.float32]  # (H, W), 0 paper to 1 ink
Color = tuple[int, int, int]


@dataclass(frozen=True)
class Mark:
    """One digit in the pen's way: its label and its coverage, cropped to the ink."""

    label: int
    ink: Coverage


@dataclass
class Sheet:
    """A page being filled: coverage of the pen, and what was written where."""

    ink: Coverage = field(default_factory=lambda: np.zeros((HEIGHT, WIDTH), np.float32))
    lines: list[list[str]] = field(default_factory=list)
    boxes: list[tuple[int, int, int, int, int]] = field(default_factory=list)  # digit, left, top, width, height

    def new_line(self) -> None:
        """Begin a line; numbers go into the last one."""
        self.lines.append([])

    def put(self, mark: Mark, left: float, bottom: float) -> float:
        """Draw a digit with its foot at `bottom`; returns the column after it."""
        height, width = mark.ink.shape
        x, y = round(left), round(bottom) - height
        patch = self.ink[y : y + height, x : x + width]
        np.maximum(patch, mark.ink, out=patch)
        self.boxes.append((mark.label, x, y, width, height))
        return float(x + width)

    def write(self, marks: Sequence[Mark], left: float, bottom: float, rng: np.random.Generator) -> None:
        """Write one number freely, with clear gaps between its digits and feet that are not quite level."""
        for mark in marks:
            after = self.put(mark, left, bottom + rng.uniform(-4, 4))
            left = after + rng.uniform(14, 24)
        self.lines[-1].append("".join(str(mark.label) for mark in marks))

    def write_in_cells(
        self, marks: Sequence[Mark], cells: Sequence[tuple[float, float]], rng: np.random.Generator
    ) -> None:
        """Write one number, a digit a cell; a cell is its centre column and the row of the digit's foot."""
        for mark, (center, bottom) in zip(marks, cells, strict=True):
            self.put(mark, center - mark.ink.shape[1] / 2 + rng.uniform(-6, 6), bottom + rng.uniform(-5, 5))
        self.lines[-1].append("".join(str(mark.label) for mark in marks))

    def truth(self, *, boxes: bool = True) -> dict[str, object]:
        """The digits in reading order, their boxes, and the numbers line by line."""
        return {
            "digits": "".join(number for line in self.lines for number in line),
            "boxes": [list(box) for box in self.boxes] if boxes else None,
            "lines": self.lines,
        }


class Writers:
    """Hands out MNIST test digits, several of one writer at a time, each once."""

    def __init__(self, folder: Path, rng: np.random.Generator) -> None:
        """Read the test digits under `folder` and leave out the disputed ones."""
        self._rng = rng
        with gzip.open(folder / "t10k-images-idx3-ubyte.gz") as stream:
            tiles = np.frombuffer(stream.read(), np.uint8, offset=16).reshape(-1, MNIST_SIDE, MNIST_SIDE)
        with gzip.open(folder / "t10k-labels-idx1-ubyte.gz") as stream:
            labels = np.frombuffer(stream.read(), np.uint8, offset=8)
        writers = np.zeros(len(labels), np.int64)
        if (folder / "writers.npz").exists():
            writers = np.load(folder / "writers.npz")["test"].astype(np.int64)
        self._tiles, self._labels = tiles, labels
        clear = np.array([i for i in np.nonzero(_undisputed(tiles, labels))[0] if _is_whole(tiles[i])])
        self._left = {int(w): list(rng.permutation(clear[writers[clear] == w])) for w in np.unique(writers)}

    def number(self, length: int, height: float) -> list[Mark]:
        """`length` digits of one hand, as tall as a writer makes them who aims at `height` pixels."""
        able = [writer for writer, digits in self._left.items() if len(digits) >= length]
        chosen = self._left[able[self._rng.integers(len(able))]]
        size = height * self._rng.uniform(0.92, 1.1)
        indices = [chosen.pop() for _ in range(length)]
        return [
            Mark(int(self._labels[i]), _draw(self._tiles[i], size * self._rng.uniform(0.95, 1.05))) for i in indices
        ]


def _undisputed(tiles: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """True for each digit whose nearest neighbours among the others all carry its label."""
    vectors = tiles.reshape(len(tiles), -1).astype(np.float32) / 255
    squares = (vectors**2).sum(1)
    agreed = np.zeros(len(tiles), bool)
    for start in range(0, len(tiles), 1000):
        rows = np.arange(start, min(start + 1000, len(tiles)))
        distances = squares[None, :] - 2 * vectors[rows] @ vectors.T
        distances[np.arange(len(rows)), rows] = np.inf
        nearest = np.argpartition(distances, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        agreed[rows] = (labels[nearest] == labels[rows, None]).all(1)
    return agreed


def _fine(tile: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """A tile's ink at `side` pixels, 0 to 1, without MNIST's staircase."""
    fine = cv2.resize(tile.astype(np.float32) / 255, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.asarray(cv2.GaussianBlur(fine, (0, 0), EDGE_BLUR * side / MNIST_SIDE), np.float32)


def _is_whole(tile: NDArray[np.uint8]) -> bool:
    """True where the pen's outline is one piece."""
    pieces, _ = cv2.connectedComponents((_fine(tile, MNIST_SIDE * SUPERSAMPLING) > EDGE_LEVEL).astype(np.uint8))
    return pieces == 2  # the paper counts as one


def _draw(tile: NDArray[np.uint8], height: float) -> Coverage:
    """A tile as a pen would have made it: `height` pixels where MNIST has 20, smooth outline, soft edge."""
    scale = height / MNIST_FIT
    side = round(MNIST_SIDE * scale)
    inked = (_fine(tile, side * SUPERSAMPLING) > EDGE_LEVEL).astype(np.float32)
    ink = np.asarray(cv2.resize(inked, (side, side), interpolation=cv2.INTER_AREA), np.float32)
    rows, columns = np.nonzero(ink > INK_IN_BOX)
    return ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def _paint(sheet: Sheet, ink: Color, paper: NDArray[np.float32] | Color = PAPER) -> NDArray[np.float32]:
    """The page in colour, float32 (H, W, 3) of 0 to 255: the pen over the paper."""
    ground = np.asarray(paper, np.float32)
    cover = sheet.ink[..., None]
    return np.asarray(ground * (1 - cover) + np.asarray(ink, np.float32) * cover, np.float32)


def _printed(draw: Callable[[ImageDraw.ImageDraw], None]) -> NDArray[np.float32]:
    """White paper with what `draw` prints on it, float32 (H, W, 3)."""
    image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    draw(ImageDraw.Draw(image))
    return np.asarray(image, np.float32)


def _print_text(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: float, color: Color) -> None:
    """Print in Pillow's own font, so that the sheets depend on no font of the machine; `at` is the left foot."""
    draw.text(at, text, fill=color, font=ImageFont.load_default(size), anchor="ls")


def _fill_columns(sheet: Sheet, writers: Writers, rng: np.random.Generator, plan: Plan) -> None:
    """Write numbers row by row in columns, as on a sheet of readings."""
    for row in range(plan.rows):
        sheet.new_line()
        lengths = rng.permutation(plan.lengths)
        for column, length in enumerate(lengths):
            left = plan.left + column * plan.column_width + rng.uniform(-12, 12)
            bottom = plan.first_foot + row * plan.row_height + rng.uniform(*plan.wobble)
            sheet.write(writers.number(int(length), plan.digit_height), left, bottom, rng)


@dataclass(frozen=True)
class Plan:
    """Where numbers stand on a sheet without fields; lengths in pixels.

    Attributes:
        rows: how many.
        lengths: digits of the numbers of one row, shuffled for each.
        left, first_foot: where the first number begins and stands.
        column_width, row_height: from one number to the next.
        digit_height: what the writers aim at.
        wobble: how far above or below its row a number may stand.
    """

    rows: int
    lengths: tuple[int, ...]
    left: float
    first_foot: float
    column_width: float
    row_height: float
    digit_height: float = 4.8 * MM
    wobble: tuple[float, float] = (-6.0, 6.0)


def clean(writers: Writers, rng: np.random.Generator) -> tuple[Sheet, Image.Image]:
    """500 digits in dark ink on white paper."""
    sheet = Sheet()
    _fill_columns(sheet, writers, rng, Plan(25, (4, 5, 6, 5), 190, 330, 555, 123))
    return sheet, _few_grays(_paint(sheet, INK))


def white_on_black(writers: Writers, rng: np.random.Generator) -> tuple[Sheet, Image.Image]:
    """White pencil on black card."""
    sheet = Sheet()
    _fill_columns(sheet, writers, rng, Plan(16, (3, 4, 5, 4), 220, 360, 540, 185, 6.2 * MM))
    return sheet, _few_grays(_paint(sheet, (236, 236, 236), (20, 20, 20)))


def ruled(writers: Writers, rng: np.random.Generator) -> tuple[Sheet, Image.Image]:
    """Blue ink on exercise paper: light blue rules, a red margin; the digits' feet touch the rules."""
    pitch, first, margin = 9.5 * MM, 330.0, 24 * MM
    rows = int((HEIGHT - first - 15 * MM) / pitch) + 1

    def rules(draw: ImageDraw.ImageDraw) -> None:
        for row in range(rows):
            foot = round(first + row * pitch)
            draw.rectangle((0, foot, WIDTH, foot + 2), fill=(176, 204, 228))
        draw.rectangle((round(margin), 0, round(margin) + 2, HEIGHT), fill=(236, 168, 168))

    sheet = Sheet()
    plan = Plan(rows, (2, 3, 5), margin + 9 * MM, first, 640, pitch, wobble=(-7.0, 3.0))
    _fill_columns(sheet, writers, rng, plan)
    page = _paint(sheet, BLUE_INK, _printed(rules))
    return sheet, Image.fromarray(page.round().astype(np.uint8)).quantize(32, dither=Image.Dither.NONE)


def boxed(writers: Writers, rng: np.random.Generator) -> tuple[Sheet, Image.Image]:
    """A printed form: labels, fields of one cell a digit, plain frames, some cells left empty."""
    cell, tall, lead = 6 * MM, 8.5 * MM, 15.4 * MM
    gray: Color = (70, 70, 70)
    ink = Sheet()
    frames: list[tuple[float, float, int, bool]] = []  # left, top, cells, with walls between them
    for row in range(15):
        ink.new_line()
        top = 420 + row * lead
        for left, most in ((17 * MM, 10), (112 * MM, 12)):
            cells = int(rng.integers(most - 4, most + 1))
            walls = bool(rng.random() < 0.75)
            frames.append((left, top, cells, walls))
            length = int(rng.integers(max(3, cells - 3), cells + 1)) if walls else cells - 2
            foot = top + tall - 1.9 * MM
            first = cells - length if walls else 1
            marks = writers.number(length, 4.5 * MM)
            centers = [(left + (first + i + 0.5) * cell, foot) for i in range(length)]
            ink.write_in_cells(marks, centers, rng)

    def form(draw: ImageDraw.ImageDraw) -> None:
        _print_text(draw, (17 * MM, 250), "Monthly return of readings", 84, gray)
        _print_text(draw, (17 * MM, 320), "Please write one digit into each box, with a dark pen.", 40, gray)
        for index, (left, top, cells, walls) in enumerate(frames):
            _print_text(draw, (left, top - 10), LABELS[index % len(LABELS)], 38, gray)
            right, bottom = left + cells * cell, top + tall
            draw.rectangle((round(left), round(top), round(right), round(bottom)), outline=gray, width=3)
            for wall in range(1, cells if walls else 1):
                x = round(left + wall * cell)
                draw.rectangle((x - 1, round(top), x, round(bottom)), fill=gray)

    return ink, _few_grays(_paint(ink, INK, _printed(form)))


def mark_table(writers: Writers, rng: np.random.Generator) -> tuple[Sheet, Image.Image]:
    """A printed table of marks, two or three digits a cell, as an office scanner sees it."""
    columns, rows, left, top = 6, 24, 20 * MM, 42 * MM
    wide, tall = 28.5 * MM, 9.8 * MM
    gray: Color = (120, 120, 120)
    sheet = Sheet()
    for row in range(rows):
        sheet.new_line()
        for column in range(columns):
            length = int(rng.choice((2, 2, 3)))
            start = left + column * wide + rng.uniform(70, 105)
            foot = top + (row + 1) * tall - 2.4 * MM + rng.uniform(-5, 5)
            sheet.write(writers.number(length, 4.6 * MM), start, foot, rng)

    def table(draw: ImageDraw.ImageDraw) -> None:
        _print_text(draw, (left, 26 * MM), "Marks", 84, (60, 60, 60))
        for column, head in enumerate(SUBJECTS):
            _print_text(draw, (left + column * wide + 50, top - 24), head, 46, (60, 60, 60))
        for row in range(rows + 1):
            y = round(top + row * tall)
            draw.rectangle((round(left), y, round(left + columns * wide), y + 2), fill=gray)
        for column in range(columns + 1):
            x = round(left + column * wide)
            draw.rectangle((x, round(top), x + 2, round(top + rows * tall)), fill=gray)

    page = _paint(sheet, INK, _printed(table)).mean(2)
    page = cv2.GaussianBlur(page, (0, 0), 0.8) * (248 / 255) + rng.normal(0, 2.0, page.shape).astype(np.float32)
    return sheet, Image.fromarray(page.clip(0, 255).round().astype(np.uint8))


def photo(writers: Writers, rng: np.random.Generator) -> tuple[Sheet, Image.Image]:
    """A phone's photo of a note on a table: skewed, in perspective, half in shadow, noisy, compressed."""
    written = Sheet()
    _fill_columns(written, writers, rng, Plan(14, (3, 4, 5), 330, 520, 660, 205, 6.8 * MM, (-10.0, 10.0)))
    width, height = 1944, 2592  # five megapixels, upright
    corners = np.array([[0, 0], [WIDTH, 0], [WIDTH, HEIGHT], [0, HEIGHT]], np.float32)
    seen = np.array([[128, 74], [1858, 170], [1790, 2532], [48, 2440]], np.float32)
    camera = np.asarray(cv2.getPerspectiveTransform(corners, seen), np.float64)

    page = cv2.warpPerspective(
        _paint(written, (44, 46, 70), (244, 241, 232)), camera, (width, height), flags=cv2.INTER_AREA
    )
    inside = cv2.warpPerspective(np.ones((HEIGHT, WIDTH), np.float32), camera, (width, height), flags=cv2.INTER_LINEAR)
    table = np.asarray((112, 86, 62), np.float32) + _clouds((height, width), (4, 160), rng)[..., None] * 14
    scene = page + table * (1 - inside[..., None])

    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    lamp = 1.02 - 0.42 * (((x - 0.3 * width) / width) ** 2 + ((y - 0.25 * height) / height) ** 2)
    shadow = 1 - 0.33 / (1 + np.exp(-(x * 0.8 + y * 0.45 - 0.93 * width) / 45))
    scene *= (lamp * shadow)[..., None]
    scene = cv2.GaussianBlur(scene, (0, 0), 0.9)
    scene += rng.normal(0, 5.0, scene.shape[:2])[..., None] + rng.normal(0, 2.5, scene.shape)

    sheet = Sheet(lines=written.lines, boxes=[_seen_box(written.ink, box, camera) for box in written.boxes])
    return sheet, Image.fromarray(scene.clip(0, 255).round().astype(np.uint8))


def _clouds(shape: tuple[int, int], grains: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Smooth noise of about unit strength, `grains` knots along each side, stretched to `shape`."""
    return np.asarray(
        cv2.resize(rng.normal(size=grains).astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
    )


def _seen_box(
    ink: Coverage, box: tuple[int, int, int, int, int], camera: NDArray[np.float64]
) -> tuple[int, int, int, int, int]:
    """The box of a digit's ink after the camera has seen it."""
    label, left, top, width, height = box
    rows, columns = np.nonzero(ink[top : top + height, left : left + width] > INK_IN_BOX)
    points = np.stack([columns + left, rows + top], 1).astype(np.float32)[None]
    x, y = cv2.perspectiveTransform(points, camera)[0].T
    first, last = (int(x.min()), int(y.min())), (int(np.ceil(x.max())), int(np.ceil(y.max())))
    return label, first[0], first[1], last[0] - first[0] + 1, last[1] - first[1] + 1


def _few_grays(page: NDArray[np.float32]) -> Image.Image:
    """The page in sixteen grays, which is all that soft edges need and a tenth of the bytes."""
    gray = Image.fromarray(page.mean(2).round().astype(np.uint8))
    return gray.convert("RGB").quantize(16, dither=Image.Dither.NONE)


def main() -> None:
    """Make every sheet and truth.json."""
    parser = argparse.ArgumentParser(description="Make the sample sheets from MNIST test digits.")
    parser.add_argument("--mnist", type=Path, required=True, help="folder with the MNIST test files and writers.npz")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where the sheets go")
    options = parser.parse_args()
    out: Path = options.out
    rng = np.random.default_rng(SEED)
    writers = Writers(options.mnist, rng)
    truth: dict[str, dict[str, object]] = {}
    dots = (DPI, DPI)

    for name, make in (("clean", clean), ("ruled", ruled), ("boxed", boxed), ("white_on_black", white_on_black)):
        sheet, image = make(writers, rng)
        image.save(out / f"{name}.png", dpi=dots, optimize=True)
        truth[f"{name}.png"] = sheet.truth()

    sheet, image = photo(writers, rng)
    image.save(out / "photo.jpg", quality=72)
    truth["photo.jpg"] = sheet.truth()

    pages: list[Image.Image] = []
    together = Sheet()
    for rows in (12, 9, 5):
        sheet = Sheet()
        _fill_columns(sheet, writers, rng, Plan(rows, (2, 4, 3), 260, 420, 700, 230, 6 * MM))
        pages.append(Image.fromarray(sheet.ink < 0.5))
        together.lines += sheet.lines
    pages[0].save(out / "three_pages.tif", save_all=True, append_images=pages[1:], compression="group4", dpi=dots)
    truth["three_pages.tif"] = together.truth(boxes=False)

    sheet, image = mark_table(writers, rng)
    then = time.gmtime(0)  # a PDF states when it was made; the same sheet should be the same file
    image.save(out / "sheet.pdf", resolution=DPI, quality=60, creationDate=then, modDate=then)
    truth["sheet.pdf"] = sheet.truth()

    entries = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in truth.items())
    (out / "truth.json").write_text("{\n" + entries + "\n}\n", encoding="utf-8")
    for name, entry in truth.items():
        print(f"{name}: {len(str(entry['digits']))} digits, {(out / name).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
