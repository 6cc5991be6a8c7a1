"""Read handwritten digits from scanned sheets.

import digitize
for sheet in digitize.read("sheet.png"):
    for page in sheet.pages:
        for line in page.lines:
            print([number.text for number in line.numbers])
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # nothing heavy is imported until something is read
    from digitize.records import SheetReading
    from digitize.scan import Scanner

__version__ = "0.1.0"
__all__ = ["__version__", "read"]


def read(
    *paths: str | os.PathLike[str],
    model: str | None = None,
    detector: str | None = None,
    device: str = "auto",
    pages: str | None = None,
    dpi: float = 300,
    review_below: float | None = None,
) -> Iterator[SheetReading]:
    """Read sheets: what `digitize scan` does, as typed records.

    The model is loaded at the first call and kept for the next.

    Args:
        paths: files, folders or patterns.
        model: name or folder of a model; the default one where None.
        detector: the same of a detector; "none" reads by contours alone.
        device: "auto", "cpu", "gpu" or "gpu:N".
        pages: which pages of each sheet, such as "1-3,7"; all where None.
        dpi: resolution at which PDF pages are rendered.
        review_below: digits with less confidence get the status "review"; 0.9 where None.

    Yields:
        One reading a sheet, in order: pages, lines, numbers, digits. A sheet that cannot be read is yielded with
        its `error` set.

    Raises:
        DigitizeError: the model or the device is not there, or an option makes no sense.
    """
    from digitize import sheets

    wanted = sheets.EVERY_PAGE if pages is None else sheets.parse_pages(pages)
    scanner = _scanner(model, detector, device, review_below)
    yield from scanner.read_sheets(sheets.find([os.fspath(path) for path in paths]), pages=wanted, dpi=dpi)


@functools.lru_cache(maxsize=4)
def _scanner(model: str | None, detector: str | None, device: str, review_below: float | None) -> Scanner:
    from digitize.batch import load_scanner
    from digitize.scan import REVIEW_BELOW, Settings

    settings = Settings(review_below=REVIEW_BELOW if review_below is None else review_below)
    return load_scanner(model, device, settings, detector=detector)
