"""Overlays of all pages in one PDF: `digitize scan --overlay FILE.pdf`.

Each page is drawn as a JPEG by whoever reads it, and added by the one who writes results, one at a time, so that memory
does not grow with their number. The file appears whole, when the block ends well, or not at all.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from digitize import write
from digitize.errors import OutputError
from digitize.records import Drawing, Gray, PageReading

DEFAULT_DPI = 150.0  # of a page in the PDF whose file states none
QUALITY = 80  # of JPEG
FULL_COLOUR = 0  # of JPEG: colours as fine as light and dark, so that thin lines stay sharp when it is written again


def draw(gray: Gray, page: PageReading, *, dpi: float | None = None) -> tuple[bytes, float]:
    """Draw the overlay of a page.

    Args:
        gray: uint8 (H, W), the page as it was loaded.
        page: what was read on it.
        dpi: its resolution, where known.

    Returns:
        The overlay as JPEG, and its resolution.
    """
    drawn = write.render_overlay(gray, page)
    excess = max(drawn.shape) / write.MAX_OVERLAY_SIDE
    if excess > 1:
        rows, columns = (max(1, int(side / excess)) for side in drawn.shape[:2])
        drawn = np.asarray(cv2.resize(drawn, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
    scale = drawn.shape[1] / page.width  # small digits are enlarged
    stream = io.BytesIO()
    picture = Image.fromarray(cv2.cvtColor(drawn, cv2.COLOR_BGR2RGB))
    picture.save(stream, "JPEG", quality=QUALITY, subsampling=FULL_COLOUR)
    return stream.getvalue(), scale * (dpi or DEFAULT_DPI)


class OverlayPdf:
    """A PDF that grows by one overlay after another."""

    def __init__(self, target: Path, part: Path) -> None:
        """Keep where the PDF will lie, and where it lies until it is whole."""
        self._target = target
        self._part = part

    def add(self, drawing: Drawing) -> None:
        """Add the overlay of a page.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            with Image.open(io.BytesIO(drawing.overlay)) as picture:
                there = self._part.exists()
                picture.save(self._part, "PDF", resolution=drawing.dpi, quality="keep", append=there)
        except OSError as error:
            raise OutputError(f"{self._target}: cannot be written: {error}; choose another --overlay") from error


@contextmanager
def open_overlay_pdf(target: Path) -> Iterator[OverlayPdf]:
    """Open a PDF for overlays; where no page was added there is none.

    Raises:
        OutputError: it cannot be written.
    """
    part = target.with_name(f".{uuid.uuid4().hex[:8]}.part")
    if not target.parent.is_dir():
        raise OutputError(f"{target}: the folder does not exist; create it or choose another --overlay")
    try:
        yield OverlayPdf(target, part)
        if part.exists():
            _finish(part, target)
    finally:
        with suppress(FileNotFoundError):  # renamed: all is well
            part.unlink()


def _finish(part: Path, target: Path) -> None:
    """Put the whole file in its place."""
    try:
        with part.open("rb+") as stream:
            write.settle(stream)
        part.replace(target)
        write.settle_folder(target.parent)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {error.strerror}; choose another --overlay") from error
