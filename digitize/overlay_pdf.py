"""Overlays of all pages in one PDF: `digitize scan --overlay FILE.pdf`.

Pages are added one at a time, so that memory does not grow with their number. The file appears whole, when the block
ends well, or not at all.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
from PIL import Image

from digitize import write
from digitize.errors import OutputError
from digitize.records import Gray, PageReading

SUFFIX = ".pdf"
DEFAULT_DPI = 150.0  # of a page in the PDF whose file states none
QUALITY = 80  # of JPEG


class OverlayPdf:
    """A PDF that grows by one overlay after another."""

    def __init__(self, target: Path, part: Path) -> None:
        """Keep where the PDF will lie, and where it lies until it is whole."""
        self._target = target
        self._part = part

    def add(self, gray: Gray, page: PageReading, *, dpi: float | None = None) -> None:
        """Add the overlay of a page.

        Args:
            gray: uint8 (H, W), the page as it was loaded.
            page: what was read on it.
            dpi: its resolution, where known.

        Raises:
            OutputError: it cannot be written.
        """
        drawn = write.render_overlay(gray, page)
        scale = drawn.shape[1] / page.width  # small digits are enlarged
        picture = Image.fromarray(cv2.cvtColor(drawn, cv2.COLOR_BGR2RGB))
        resolution = scale * (dpi or DEFAULT_DPI)
        try:
            picture.save(self._part, "PDF", resolution=resolution, quality=QUALITY, append=self._part.exists())
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
            part.replace(target)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {error.strerror}; choose another --overlay") from error
    finally:
        with suppress(FileNotFoundError):  # renamed: all is well
            part.unlink()
