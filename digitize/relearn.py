"""What a person said, as tiles to learn from: `digitize review export`.

Tiles are cut again down the road that scanning takes, with the ink that every digit of the page claims, so that a
network learns from what it will see. A digit that was confirmed or corrected gives a tile of that class; what is none,
or is several, gives a tile of no digit. Added digits are cut by the box that was drawn for them.

A folder holds one picture a tile in `0` to `9` and `none`: the digit to the left, its surroundings to the right. It can
be looked through and weeded by hand; `corpora.read_corpus` reads it for `train --data`, `datasets.load_tiles` for
`train --tiles`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from digitize import clean, datasets, normalise, review, segment
from digitize.corrections import Corrections
from digitize.errors import OutputError, UsageError
from digitize.records import NO_DIGIT, Box, Gray, PageReading, Tiles
from digitize.results import Results
from digitize.scan import widened

CLASS_FOLDERS = (*map(str, range(datasets.DIGITS)), datasets.NONE_FOLDER)  # by label


@dataclass(frozen=True, slots=True)
class Lesson:
    """One tile and what it is.

    Attributes:
        name: of its file, without the suffix; the same place of the same page has the same, by what the page shows:
            two sheets may have one name, and a CSV does not tell their hashes.
        label: 0 to 9, or `NO_DIGIT`.
        tile: uint8 (28, 28, 2), 0 paper to 255 ink.
    """

    name: str
    label: int
    tile: Tiles = field(repr=False)


def export(
    corrections: Corrections, results: Results, target: Path, *, folder: Path | None = None, dpi: float | None = None
) -> int:
    """Write the tiles of what was decided on; those of other corrections that are there already stay.

    What was decided on anew is there once, as it was decided last: two labels of one tile would teach neither.

    Args:
        corrections: what was said.
        results: what it was said about.
        target: the folder; made if need be.
        folder: where the sheets lie, as for `review.make`.
        dpi: at which PDF pages were rendered, likewise.

    Returns:
        How many tiles.

    Raises:
        UsageError: the corrections belong to other results.
        SheetError: a sheet is missing, or is not the one that was read.
        OutputError: a tile cannot be written.
    """
    if results.sha256 != corrections.sha256:
        raise UsageError(
            f"{results.path}: these corrections belong to other results; give the file they were made from"
        )
    count = 0
    for lesson in teach(corrections, results, folder=folder, dpi=dpi):
        places = [target / name / f"{lesson.name}.png" for name in CLASS_FOLDERS]
        own = places.pop(lesson.label)
        for other in places:
            _remove(other)
        _write(own, lesson.tile)
        count += 1
    return count


def teach(
    corrections: Corrections, results: Results, *, folder: Path | None = None, dpi: float | None = None
) -> Iterator[Lesson]:
    """Yield the tiles of what was decided on, page by page; see `export`."""
    wanted: dict[tuple[str, int], dict[Box, int]] = {}
    for one in corrections.decisions:
        label = int(one.now) if len(one.now) == 1 else NO_DIGIT
        wanted.setdefault((one.source, one.page), {})[one.box] = label
    for extra in corrections.added:
        wanted.setdefault((extra.source, extra.page), {})[extra.box] = extra.value
    known = {source for source, _ in wanted}
    sheets = tuple(sheet for sheet in results.sheets if sheet.source in known)
    chosen = Results(results.path, results.form, results.sha256, sheets, results.generator)
    for source, gray, reading in review.open_pages(chosen, folder=folder, dpi=dpi):
        labels = wanted.get((source, reading.number), {})
        shown = hashlib.sha256(gray.tobytes()).hexdigest() if labels else ""
        for box, tile in cut_tiles(gray, reading, list(labels)):
            spot = f"{shown}\0{gray.shape}\0{box}".encode()
            yield Lesson(hashlib.sha256(spot).hexdigest()[:16], labels[box], tile)


def cut_tiles(gray: Gray, reading: PageReading, boxes: list[Box]) -> Iterator[tuple[Box, Tiles]]:
    """Cut boxes of a page into tiles as scanning does.

    Args:
        gray: uint8 (H, W), the page as it was loaded.
        reading: what was read on it; its digits claim their ink, too.
        boxes: what to cut, digits of the reading or others.

    Yields:
        Each box that holds ink, and its tile uint8 (28, 28, 2).
    """
    if not boxes:
        return
    ink = clean.extract_ink(np.ascontiguousarray(np.rot90(gray, -reading.rotation // 90)))
    others = [digit.box for *_, digit in reading.digits() if digit.box not in set(boxes)]
    places = [widened(_working(box, ink.scale, ink.pen.shape), ink.pen.shape) for box in [*boxes, *others]]
    masks = segment.claim_ink(ink.pen, places)[: len(boxes)]
    surroundings = normalise.draw_surroundings(ink.pen, ink.rules)
    for box, place, mask in zip(boxes, places, masks, strict=False):
        if mask.any():
            yield box, normalise.make_tiles([(place, mask)], surroundings)[0]


def _working(box: Box, scale: float, shape: tuple[int, ...]) -> Box:
    """A box of the page in working pixels, on a page of (h, w) of them."""
    left, top = min(round(box.left * scale), shape[1] - 1), min(round(box.top * scale), shape[0] - 1)
    right, bottom = min(round(box.right * scale), shape[1]), min(round(box.bottom * scale), shape[0])
    return Box(left, top, max(1, right - left), max(1, bottom - top))


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be removed: {error.strerror}; choose another folder with -o") from error


def _write(path: Path, tile: Tiles) -> None:
    _, encoded = cv2.imencode(".png", np.hstack([tile[..., 0], tile[..., 1]]))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded.tobytes())
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}; choose another folder with -o") from error
