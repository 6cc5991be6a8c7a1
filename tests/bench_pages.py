"""What `bench.py` has read: A4 pages as a scanner delivers them, made of the digits of `samples/clean.png`, seeded."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "samples" / "clean.png"
A4 = (3508, 2480)  # pixels at 300 dpi
DPI = 300
PAPER, GRAIN = 246.0, 1.5  # brightness, and the standard deviation of a scanner's noise
KINDS = 5  # different pages; more of them are links to these
JPEG_QUALITY = 85
PDF_PAGES = 8  # in one file
CELL = (34, 49)  # pixels, rows and columns, that a digit of `SMALL` has: 5,000 of them fill a page
SMALL = 24  # pixels, a digit's height on the pages that are full of them
BLOT = (20, 21)  # pixels that a piece of noise has: 20,000 fill a page

Gray = NDArray[np.uint8]


@cache
def digits() -> list[Gray]:
    """The digits of the sample, each tight: uint8 (h, w), 0 ink to 255 paper."""
    boxes = json.loads((ROOT / "samples" / "truth.json").read_text(encoding="utf-8"))[SAMPLE.name]["boxes"]
    with Image.open(SAMPLE) as image:
        page = np.asarray(image.convert("L"))
    return [page[top : top + height, left : left + width] for _, left, top, width, height in boxes]


def lines_of(count: int, seed: int, *, height: int = 54, per_line: int = 25) -> Gray:
    """An A4 page with so many digits of about one height in numbers of five, and a scanner's grain."""
    dice = np.random.default_rng(seed)
    page = np.full(A4, 255, np.uint8)
    row, column = (2 * height, round(1.35 * height))
    for k in range(count):
        line, place = divmod(k, per_line)
        left = 150 + place * column + place // 5 * height
        _put(page, digits()[dice.integers(len(digits()))], (150 + line * row, left), height)
    return grained(page, seed)


def full_of(count: int, seed: int = 1) -> Gray:
    """An A4 page with so many small digits, 50 in a line, beginning at the top; 5,000 fill it."""
    dice = np.random.default_rng(seed)
    page = np.full(A4, 255, np.uint8)
    for k in range(count):
        line, place = divmod(k, A4[1] // CELL[1])
        _put(page, digits()[dice.integers(len(digits()))], (40 + line * CELL[0], 15 + place * CELL[1]), SMALL)
    return grained(page, seed)


def noise(count: int = 20_000, seed: int = 1) -> Gray:
    """An A4 page of scribbles that touch nothing: the worst that dirt can do."""
    dice = np.random.default_rng(seed)
    page = np.full(A4, 255, np.uint8)
    across = A4[1] // BLOT[1]
    for k in range(count):
        line, place = divmod(k, across)
        corner = np.array([place * BLOT[1], line * BLOT[0]]) + 4
        points = corner + dice.integers(0, 12, (4, 2))
        cv2.polylines(page, [points.astype(np.int32)], False, 30, 2)
    return grained(page, seed)


def grained(page: Gray, seed: int) -> Gray:
    """A page as scanned: its paper not quite white, with a sensor's noise."""
    grain = np.random.default_rng(seed).normal(0.0, GRAIN, page.shape)
    return np.asarray(np.clip(np.rint(page * (PAPER / 255) + grain), 0, 255), dtype=np.uint8)


def _put(page: Gray, digit: Gray, corner: tuple[int, int], height: int) -> None:
    top, left = corner
    width = max(4, round(digit.shape[1] * height / digit.shape[0]))
    small = cv2.resize(digit, (width, height), interpolation=cv2.INTER_AREA)
    place = page[top : top + height, left : left + width]
    np.minimum(place, small[: place.shape[0], : place.shape[1]], out=place)


def save(page: Gray, path: Path) -> Path:
    """Write a page as PNG."""
    Image.fromarray(page).save(path, dpi=(DPI, DPI))
    return path


def lay_out(folder: Path, count: int, form: str, *, on_page: int = 250) -> Path:
    """A folder of sheets: `count` pages as PNG or JPEG, or in PDFs of `PDF_PAGES`; links to `KINDS` different ones.

    Args:
        folder: is made.
        count: pages in all; of PDFs the next whole file.
        form: "png", "jpg" or "pdf".
        on_page: digits on each.
    """
    folder.mkdir()
    pages = [Image.fromarray(lines_of(on_page, seed)) for seed in range(1, KINDS + 1)]
    kinds = []
    for k, page in enumerate(pages):
        path = folder.parent / f"{folder.name}-kind{k}.{form}"
        if form == "pdf":
            turned = [pages[(k + n) % KINDS] for n in range(PDF_PAGES)]
            turned[0].save(path, save_all=True, append_images=turned[1:], resolution=DPI, quality=JPEG_QUALITY)
        else:
            page.save(path, dpi=(DPI, DPI), **({"quality": JPEG_QUALITY} if form == "jpg" else {}))
        kinds.append(path)
    for number in range(-(-count // PDF_PAGES) if form == "pdf" else count):
        os.link(kinds[number % KINDS], folder / f"{number:05d}.{form}")
    return folder
