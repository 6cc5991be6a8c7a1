"""Many sheets into one result: what `digitize scan` does once its options are parsed.

Readings are written as they come, so memory does not depend on how many sheets there are. The result appears whole or
not at all; sheets that fail are reported one line each, and the others are read.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from digitize import __version__, models, sheets, write
from digitize.classify import Classifier
from digitize.confidence import Calibration
from digitize.detect import Detector
from digitize.errors import OutputError, SheetError, UsageError
from digitize.records import Page, PageReading, SheetReading, Tiles
from digitize.scan import Scanner, Settings

if TYPE_CHECKING:
    from tqdm import tqdm

    from digitize.checks import Rule
    from digitize.overlay_pdf import OverlayPdf
    from digitize.review import Album

log = logging.getLogger("digitize")

NO_DETECTOR = "none"
Level = Literal["digit", "number"]


@dataclass(frozen=True, slots=True)
class Job:
    """What to read, with what, and where it goes.

    Attributes:
        inputs: files, folders, patterns, or "-".
        output: a file, or "-" for standard output.
        format: "csv", "json" or "jsonl"; by the output's suffix where None.
        model: name or folder of a model, the default one where None.
        detector: name or folder of a detector, the default one where None; `NO_DETECTOR` reads by contours alone.
        device: "auto", "cpu", "gpu" or "gpu:N".
        pages: which pages of each sheet.
        dpi: at which PDF pages are rendered.
        overlay, crops: folders for pictures of the pages, and for the digits' tiles; none where None. An overlay that
            ends in .pdf is one file for all pages.
        settings: what shapes a reading.
        max_error: where given, `settings.review_below` is chosen for it from the model's risk curve.
        progress: show a bar on stderr, if that is a terminal.
        review: file for a page on which a person looks at the doubtful digits; none where None.
        audit: share of the digits left ok that is mixed in there.
        rules: what is known of every number; those that fail are marked for review.
        level: whether a CSV has one row a digit or a number.
    """

    inputs: Sequence[str]
    output: str
    format: str | None = None
    model: str | None = None
    detector: str | None = None
    device: str = "auto"
    pages: sheets.PageRange = sheets.EVERY_PAGE
    dpi: float = sheets.DEFAULT_DPI
    overlay: Path | None = None
    crops: Path | None = None
    settings: Settings = field(default_factory=Settings)
    max_error: float | None = None
    progress: bool = True
    review: Path | None = None
    audit: float = 0.0
    rules: tuple[Rule, ...] = ()
    level: Level = "digit"


@dataclass(slots=True)
class Summary:
    """What came of a job, counted while it ran."""

    sheets: int = 0
    failed: int = 0
    pages: int = 0
    digits: int = 0
    review: int = 0

    def __str__(self) -> str:
        counted = {"sheet": self.sheets, "page": self.pages, "digit": self.digits}
        parts = [f"{count} {name}{'' if count == 1 else 's'}" for name, count in counted.items()]
        parts.append(f"{self.review} to review")
        return ", ".join([*parts, f"{self.failed} failed"] if self.failed else parts)


def load_scanner(
    model: str | None,
    device: str,
    settings: Settings,
    *,
    detector: str | None = None,
    max_error: float | None = None,
) -> Scanner:
    """Load the models into a scanner.

    Raises:
        ModelError: one is missing, disagrees with its card or is for another task.
        DeviceError: the device is not there.
        UsageError: `max_error` cannot be reached.
    """
    classifier = Classifier(models.find(model), device=device, batch_size=settings.batch_size)
    finder = load_detector(detector, classifier.device)
    found_by = f", detector {finder.card.name}" if finder else ""
    log.info("%s%s", classifier.description, found_by)
    calibration = Calibration.plain()
    if classifier.card.measured_with == (finder.card.tflite_sha256 if finder else ""):
        calibration = Calibration.from_card(classifier.card.calibration)
    else:
        name = classifier.card.name
        log.warning("%s was not calibrated with this detector: confidences are the networks' own", name)
    if max_error is not None:
        settings = replace(settings, review_below=calibration.threshold_for(max_error))
        log.info("digits below a confidence of %.4f are marked for review", settings.review_below)
    return Scanner(classifier, detector=finder, calibration=calibration, settings=settings)


def load_detector(name: str | None, device: str) -> Detector | None:
    """Load a detector by name or folder, the default one where None; None for `NO_DETECTOR`."""
    if name == NO_DETECTOR:
        return None
    return Detector(models.find(name or models.DEFAULT_DETECTOR), device=device)


def run(job: Job) -> Summary:
    """Read every sheet of a job and write the result.

    Returns:
        The counts.

    Raises:
        SheetError: no sheet could be read; no result is written.
        OutputError, ModelError, DeviceError, UsageError: as they say.
    """
    if job.review is None:
        return _write_results(job)
    from digitize import results, review

    form = write.format_of(job.output, job.format)
    if job.output == write.STDOUT or form not in results.READABLE or job.level == "number":
        raise UsageError("--review: corrections belong to a file of digits; name a .csv, .json or .jsonl with -o")
    album = review.Album(share=job.audit)
    with write.open_output(job.review) as page:
        summary = _write_results(job, album)
        digest = sheets.sha256(Path(job.output))
        album.write_to(page, name=Path(job.output).name, sha256=digest, form=form)
    return summary


def _write_results(job: Job, album: Album | None = None) -> Summary:
    """Read every sheet and write the result; pages are put into the album, too."""
    form = write.format_of(job.output, job.format)
    found = sheets.find(job.inputs)
    with write.open_output(job.output) as output, _overlay_pdf(job) as pdf:
        scanner = load_scanner(job.model, job.device, job.settings, detector=job.detector, max_error=job.max_error)
        summary = Summary()
        readings = _read(job, scanner, found, summary, (album, pdf))
        ahead: list[SheetReading] = []
        for reading in readings:  # standard output cannot be taken back: nothing is written before a sheet was read
            ahead.append(reading)
            if reading.error is None or reading.pages:
                break
        else:
            if len(ahead) == 1:
                raise SheetError(ahead[0].error)
            raise SheetError(f"could not read any of the {len(ahead)} sheets; nothing was written")
        _writer(form, job.level)(chain(ahead, readings), output, _generator(job, scanner.settings))
    return summary


def _read(
    job: Job,
    scanner: Scanner,
    found: list[sheets.Sheet],
    summary: Summary,
    takers: tuple[Album | None, OverlayPdf | None],
) -> Iterator[SheetReading]:
    """Read, draw, count and report, one sheet after another; the takers are given every page."""
    album, pdf = takers

    def on_page(page: Page, reading: PageReading, tiles: Tiles) -> None:
        reading = _judged(reading, job.rules)
        if pdf is not None:
            pdf.add(page.gray, reading, dpi=page.dpi)
        elif job.overlay is not None:
            write.write_overlay(_folder(job.overlay), page.source, page.gray, reading)
        if job.crops is not None:
            write.write_crops(_folder(job.crops), page.source, reading, tiles)
        if album is not None:
            album.add(page.source, page.gray, reading)

    drawn = on_page if job.overlay or job.crops or album is not None else None
    hidden = not job.progress or not sys.stderr.isatty() or len(found) < 2
    with nullcontext() if hidden else _bar(len(found)) as bar:
        for sheet in scanner.read_sheets(found, pages=job.pages, dpi=job.dpi, on_page=drawn):
            if job.rules:
                sheet = replace(sheet, pages=tuple(_judged(page, job.rules) for page in sheet.pages))
            digits = [digit for page in sheet.pages for *_, digit in page.digits()]
            summary.sheets += 1
            summary.pages += len(sheet.pages)
            summary.digits += len(digits)
            summary.review += sum(digit.status == "review" for digit in digits)
            if sheet.error is not None:
                summary.failed += 1
            if sheet.error is not None and (sheet.pages or len(found) > 1):  # of one alone, `run` says it
                with bar.external_write_mode(file=sys.stderr) if bar else nullcontext():
                    log.error("%s", sheet.error)
            if bar:
                bar.update()
            yield sheet


def _overlay_pdf(job: Job) -> AbstractContextManager[OverlayPdf | None]:
    """The one PDF that overlays go into, where such a file was named."""
    if job.overlay is None or job.overlay.suffix.lower() != ".pdf":
        return nullcontext()
    from digitize.overlay_pdf import open_overlay_pdf

    return open_overlay_pdf(job.overlay)


def _judged(reading: PageReading, rules: tuple[Rule, ...]) -> PageReading:
    """A page held to rules, where there are any."""
    if not rules:
        return reading
    from digitize import numbers

    return numbers.judge_page(reading, rules)


def _writer(form: write.Format, level: Level) -> write.Writer:
    """What writes a format; only a CSV is either of digits or of numbers, the others hold both."""
    if form == "csv" and level == "number":
        from digitize.write_numbers import write_numbers

        return write_numbers
    return write.WRITERS[form]


def _bar(total: int) -> tqdm[NoReturn]:
    """A bar on stderr; its module is loaded only where a bar is shown, since that takes a twentieth of a second."""
    from tqdm import tqdm

    return tqdm(total=total, unit="sheet", file=sys.stderr)


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be made: {error.strerror}; choose another folder") from error
    return path


def _generator(job: Job, settings: Settings) -> write.Generator:
    card = models.load_card(models.find(job.model))
    finder = None
    if job.detector != NO_DETECTOR:
        finder = models.load_card(models.find(job.detector or models.DEFAULT_DETECTOR))
    described = {"dpi": job.dpi, "rotate": settings.rotate, "review_below": settings.review_below}
    return write.Generator(
        __version__,
        card.name,
        card.tflite_sha256,
        described,
        detector=finder.name if finder else None,
        detector_sha256=finder.tflite_sha256 if finder else "",
    )
