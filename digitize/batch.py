"""Many sheets into one result: what `digitize scan` does once its options are parsed.

Readings are written as they come, so memory does not depend on how many sheets there are. The result appears whole or
not at all; sheets that fail are reported one line each, and the others are read. A few sheets are read in this process,
the pages of several in one batch; many are read in processes of their own (`workers.py`), and what was read is kept in
a journal until the result stands (`journal.py`). The result is the same either way, byte for byte. What people are to
see of a page, where a page of review or a PDF is asked for, is drawn by whoever reads it and goes the way of readings.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from digitize import __version__, models, sheets, stopwatch, write
from digitize.classify import Classifier
from digitize.confidence import Calibration
from digitize.detect import Detector
from digitize.errors import OutputError, SheetError, UsageError
from digitize.machine import gpu_seen, usable_cores
from digitize.records import Drawing, Page, PageReading, SheetReading, Tiles
from digitize.scan import Scanner, Settings
from digitize.stopwatch import Stopwatch

if TYPE_CHECKING:
    from tqdm import tqdm

    from digitize.checks import Rule
    from digitize.journal import Journal
    from digitize.overlay_pdf import OverlayPdf
    from digitize.review import Album

log = logging.getLogger("digitize")

NO_DETECTOR = "none"
FEWEST_SHEETS = 8  # from which processes to read them, most of a second of a core each to start, pay
GPU_SHEETS = 100  # from which a GPU pays: TensorFlow starts in five seconds or more, a page's networks take 0.07 s here
Existing = Literal["skip", "overwrite", "abort"]
Level = Literal["digit", "number"]

ReadSheets = Callable[[Iterable[sheets.Sheet]], Iterator[SheetReading]]


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many sheets may fail before a job stops.

    Attributes:
        count: so many.
        percent: or so many of a hundred, where `count` is None.
    """

    count: int | None = None
    percent: float = 100.0

    @staticmethod
    def parse(text: str) -> Allowance:
        """Read ``3`` or ``5%``.

        Raises:
            UsageError: it is neither.
        """
        match = re.fullmatch(r"\s*([0-9]{1,9})(\.[0-9]{1,9})?\s*(%?)\s*", text)
        if match is None or (match[2] and not match[3]) or (match[3] and float(match[1] + (match[2] or "")) > 100):
            raise UsageError(f"--max-failures {text!r}: is no number of sheets and no share; write for example 3 or 5%")
        return Allowance(percent=float(match[1] + (match[2] or ""))) if match[3] else Allowance(int(match[1]))

    def of(self, total: int) -> int:
        """How many of `total` sheets that is."""
        return int(Fraction(str(self.percent)) * total / 100) if self.count is None else self.count


@dataclass(frozen=True, slots=True)
class Policy:
    """How a job over many sheets is gone about.

    Attributes:
        jobs: processes that read; chosen by the number of sheets where None, 1 reads in this one.
        existing: what to do with results that are there already: leave those sheets out, replace, or refuse to begin.
        allowance: stops the job after more failures; it goes on whatever fails where None.
        sheet_timeout: seconds a sheet may take; where given, sheets are read in processes of their own, which can be
            ended.
    """

    jobs: int | None = None
    existing: Existing = "overwrite"
    allowance: Allowance | None = None
    sheet_timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """What to read, with what, and where it goes.

    Attributes:
        inputs: files, folders, patterns, or "-".
        output: a file, or "-" for standard output; None for none, where `per_sheet` is given.
        format: one of `write.WRITERS`: "csv", "json", "jsonl", "alto" or "hocr"; by the output's suffix where None.
        model: name or folder of a model, the default one where None.
        detector: name or folder of a detector, the default one where None; `NO_DETECTOR` reads by contours alone.
        device: "auto", "cpu", "gpu" or "gpu:N"; see `chosen_device`.
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
        per_sheet: folder that gets a result for each sheet, in the folders that the sheets lie in.
        policy: how many sheets are gone about.
        profile: count how long each stage takes; `Summary.spent` has it.
        summary: file for the counts, as JSON; none where None.
    """

    inputs: Sequence[str]
    output: str | None
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
    per_sheet: Path | None = None
    policy: Policy = field(default_factory=Policy)
    profile: bool = False
    summary: Path | None = None

    @property
    def recipe(self) -> Recipe:
        """How its sheets are read."""
        return Recipe(
            model=self.model,
            detector=self.detector,
            device=self.device,
            pages=self.pages,
            dpi=self.dpi,
            settings=self.settings,
            max_error=self.max_error,
            overlay=None if self.overlay_pdf else self.overlay,
            crops=self.crops,
            drawn=Drawn(review=self.review is not None, audit=self.audit, overlay=self.overlay_pdf is not None),
            rules=self.rules,
            profile=self.profile,
        )

    @property
    def overlay_pdf(self) -> Path | None:
        """The one PDF that overlays go into, where such a file was named."""
        return self.overlay if self.overlay is not None and self.overlay.suffix.lower() == ".pdf" else None


@dataclass(slots=True)
class Summary:
    """What came of a job, counted while it ran.

    Attributes:
        sheets, pages, digits: that were read, or tried.
        failed: sheets of those that could not be read whole.
        review: digits marked for review.
        skipped: sheets left out since their result was there.
        resumed: sheets that an earlier scan had read, whose readings were kept.
        stopped: whether too many sheets failed to go on.
        seconds: that it took.
        spent: seconds by stage, those of several processes added up; empty unless a profile was asked for.
        timed: pages that they were spent on, which are not those of resumed sheets; 0 unless a profile was asked for.
    """

    sheets: int = 0
    failed: int = 0
    pages: int = 0
    digits: int = 0
    review: int = 0
    skipped: int = 0
    resumed: int = field(default=0, compare=False)
    stopped: bool = False
    seconds: float = field(default=0.0, compare=False)
    spent: stopwatch.Spent = field(default_factory=dict, compare=False)
    timed: int = field(default=0, compare=False)

    def __str__(self) -> str:
        counted = {"sheet": self.sheets, "page": self.pages, "digit": self.digits}
        parts = [f"{count} {name}{'' if count == 1 else 's'}" for name, count in counted.items()]
        parts.append(f"{self.review} to review")
        beside = {"failed": self.failed, "left out": self.skipped, "read before": self.resumed}
        parts += [f"{count} {what}" for what, count in beside.items() if count]
        return ", ".join([*parts, *(["stopped"] if self.stopped else []), f"{self.seconds:.1f} s"])

    def count(self, reading: SheetReading) -> None:
        """Add a sheet."""
        digits = [digit for page in reading.pages for *_, digit in page.digits()]
        self.sheets += 1
        self.pages += len(reading.pages)
        self.digits += len(digits)
        self.review += sum(digit.status == "review" for digit in digits)
        self.failed += reading.error is not None

    def to_json(self) -> dict[str, Any]:
        """The counts by name; without those of a profile where none was asked for."""
        counts = asdict(self)
        if not self.spent:
            del counts["spent"], counts["timed"]
        return counts


@dataclass(frozen=True, slots=True)
class Drawn:
    """What is drawn of each page and comes with its reading (`records.Drawing`).

    Attributes:
        review: what a page of review shows.
        sparing: leave out pages without digits to look at.
        audit: share of the digits left ok that is mixed in there.
        overlay: the page with what was read on it.
    """

    review: bool = False
    sparing: bool = False
    audit: float = 0.0
    overlay: bool = False

    def __bool__(self) -> bool:
        return self.review or self.overlay


@dataclass(frozen=True, slots=True)
class Recipe:
    """How sheets are read; called, it loads the models, in whichever process that is.

    Attributes:
        threads: of the CPU that the models run on; all there are where None.
        model, detector, device, pages, dpi, settings, max_error, overlay, crops, profile: as for `Job`.
        drawn: what comes with readings.
        rules: that numbers are held to before they are drawn; readings come without them.

    Raises:
        UsageError: `dpi` is out of range: said once, before any sheet is read, and not of each.
    """

    model: str | None = None
    detector: str | None = None
    device: str = "auto"
    pages: sheets.PageRange = sheets.EVERY_PAGE
    dpi: float = sheets.DEFAULT_DPI
    settings: Settings = field(default_factory=Settings)
    max_error: float | None = None
    overlay: Path | None = None
    crops: Path | None = None
    threads: int | None = None
    drawn: Drawn = field(default_factory=Drawn)
    rules: tuple[Rule, ...] = ()
    profile: bool = False

    def __post_init__(self) -> None:
        sheets.check_dpi(self.dpi)

    @property
    def draws(self) -> bool:
        """Whether anything is drawn of pages: pictures are named by the sheet, and depend on the rules."""
        return bool(self.overlay or self.crops or self.drawn)

    def __call__(self) -> SheetReader:
        """Load the models; raises what `load_scanner` does."""
        return SheetReader(self)


class SheetReader:
    """Loaded models, and what is drawn of each page: sheets in, readings out.

    Attributes:
        settings: those in force.
        device: "cpu" or "gpu:N".
    """

    def __init__(self, recipe: Recipe) -> None:
        """Load the models; raises what `load_scanner` does."""
        self._recipe = recipe
        self._drawings: deque[Drawing] = deque()  # of pages whose sheet is not finished, in order
        if recipe.threads is not None:
            import cv2

            cv2.setNumThreads(recipe.threads)
        self._scanner = load_scanner(
            recipe.model,
            recipe.device,
            recipe.settings,
            detector=recipe.detector,
            max_error=recipe.max_error,
            threads=recipe.threads,
            watch=Stopwatch(running=recipe.profile),
        )
        self.settings = self._scanner.settings
        self.device = self._scanner.device

    @property
    def mark(self) -> str:
        """Says what readings depend on beside the sheet: version, models, device and settings."""
        return _mark(self._recipe, self.settings, self.device)

    def read(self, sheet: sheets.Sheet) -> SheetReading:
        """Read one sheet; what is wrong with it is in the reading."""
        (reading,) = self.read_all([sheet])
        return reading

    def read_all(self, found: Iterable[sheets.Sheet]) -> Iterator[SheetReading]:
        """Read sheets in order, the pages of several in one batch."""
        recipe = self._recipe
        self._drawings.clear()
        on_page = self._draw if recipe.draws else None
        for reading in self._scanner.read_sheets(found, pages=recipe.pages, dpi=recipe.dpi, on_page=on_page):
            own = tuple(self._drawings.popleft() for _ in reading.pages) if recipe.drawn else ()
            yield replace(reading, drawings=own)

    def _draw(self, page: Page, reading: PageReading, tiles: Tiles) -> None:
        recipe = self._recipe
        reading = judged(reading, recipe.rules)
        if recipe.overlay is not None:
            write.write_overlay(_folder(recipe.overlay), page.source, page.gray, reading)
        if recipe.crops is not None:
            write.write_crops(_folder(recipe.crops), page.source, reading, tiles)
        if recipe.drawn:
            self._drawings.append(_drawing(recipe.drawn, page, reading))


def _drawing(drawn: Drawn, page: Page, reading: PageReading) -> Drawing:
    """What comes with the reading of a page."""
    drawing = Drawing()
    if drawn.review:
        from digitize import review

        share, sparing = drawn.audit, drawn.sparing
        drawing = review.draw(page.gray, reading, source=page.source, share=share, sparing=sparing)
    if drawn.overlay:
        from digitize import overlay_pdf

        overlay, dpi = overlay_pdf.draw(page.gray, reading, dpi=page.dpi)
        drawing = replace(drawing, overlay=overlay, dpi=dpi)
    return drawing


def load_scanner(
    model: str | None,
    device: str,
    settings: Settings,
    *,
    detector: str | None = None,
    max_error: float | None = None,
    threads: int | None = None,
    watch: Stopwatch = stopwatch.OFF,
) -> Scanner:
    """Load the models into a scanner.

    Args:
        model: as for `Job`, like the next four.
        device: see there.
        settings: see there.
        detector: see there.
        max_error: see there.
        threads: of the CPU; all there are where None.
        watch: counts how long each stage takes.

    Raises:
        ModelError: one is missing, disagrees with its card or is for another task.
        DeviceError: the device is not there.
        UsageError: `max_error` cannot be reached.
    """
    classifier = Classifier(models.find(model), device=device, batch_size=settings.batch_size, threads=threads)
    finder = load_detector(detector, classifier.device, threads=threads)
    found_by = f", detector {finder.card.name}" if finder else ""
    log.info("%s%s", classifier.description, found_by)
    if finder and finder.context is None:
        log.warning("%s judges each place by itself; digitize calibrate --context mends that", finder.card.name)
    calibration = _calibration(classifier.card, finder.card if finder else None)
    if calibration is None:
        name, how = classifier.card.name, "with this detector" if finder else "without a detector"
        log.warning("%s was not calibrated %s: confidences are the networks' own", name, how)
        calibration = Calibration.plain()
    if max_error is not None:
        settings = replace(settings, review_below=calibration.threshold_for(max_error))
        log.info("digits below a confidence of %.4f are marked for review", settings.review_below)
    return Scanner(classifier, detector=finder, calibration=calibration, settings=settings, watch=watch)


def load_detector(name: str | None, device: str, *, threads: int | None = None) -> Detector | None:
    """Load a detector by name or folder, the default one where None; None for `NO_DETECTOR`."""
    if name == NO_DETECTOR:
        return None
    return Detector(models.find(name or models.DEFAULT_DETECTOR), device=device, threads=threads)


def _calibration(classifier: models.Card, finder: models.Card | None) -> Calibration | None:
    """The calibration of a pair of models; None where it was not measured."""
    pair = (finder.tflite_sha256, finder.context_sha256) if finder else ("", "")
    if "belief" in classifier.calibration and classifier.measured_with == pair:  # a new card has a temperature alone
        return Calibration.from_card(classifier.calibration, classifier.path)
    return None


def run(job: Job) -> Summary:
    """Read every sheet of a job and write the result.

    Returns:
        The counts.

    Raises:
        SheetError: no sheet could be read; no result is written, but for the counts.
        OutputError, ModelError, DeviceError, UsageError: as they say.
    """
    with counted(job.summary) as summary:
        _run(job, summary)
    return summary


@contextmanager
def counted(target: Path | None) -> Iterator[Summary]:
    """Yield what a job is counted in, and write it when the job ends, even if no sheet could be read.

    Args:
        target: file for the counts as JSON, which is opened at once; None for none.

    Raises:
        OutputError: it cannot be written.
    """
    began = time.monotonic()
    summary = Summary()
    unread = None
    with write.open_output(target) if target is not None else nullcontext() as output:
        try:
            yield summary
        except SheetError as error:
            unread = error
        summary.seconds = time.monotonic() - began
        if output is not None:
            output.write(json.dumps(summary.to_json(), indent=1) + "\n")
    if unread is not None:
        raise unread


def _run(job: Job, summary: Summary) -> None:
    watch = Stopwatch(running=job.profile)
    album = _album(job)
    form = _form(job)
    everything = sheets.find(job.inputs)
    _keep_apart(job, everything)
    found = _wanted(job, everything, form, summary)
    if not found:
        return
    job = replace(job, device=chosen_device(job.device, len(found)))
    with ExitStack() as held:
        journal = _journal(job, found)
        if journal is not None:  # closed after all results have taken their places, and gone only if they have
            held.push(lambda kind, *_: journal.close(remove=kind is None))
        page = held.enter_context(write.open_output(job.review)) if job.review is not None else None
        _write_results(job, found, summary, journal, album, watch=watch)
        with watch("write"):
            if page is not None and album is not None:
                target = Path(str(job.output))
                album.write_to(page, name=target.name, sha256=sheets.sha256(target), form=form)
            held.close()
    summary.spent = watch.take()


def _keep_apart(job: Job, found: list[sheets.Sheet]) -> None:
    """Refuse to write over a sheet, or two results into one file.

    Raises:
        UsageError: that is what was asked for.
    """
    taken = {os.path.realpath(sheet.path): "a sheet to be read" for sheet in found if sheet.path is not None}
    named = {"-o": job.output, "--overlay": job.overlay_pdf, "--review": job.review, "--summary": job.summary}
    for option, target in named.items():
        path = Path(target or write.STDOUT)
        if str(path) == write.STDOUT or (path.exists() and not path.is_file()):
            continue  # a pipe or a device takes more than one result
        try:
            place = os.path.realpath(path)
        except ValueError:  # no path at all: what opens it says so
            continue
        if place in taken:
            raise UsageError(f"{option} {target}: is {taken[place]}; choose another place")
        taken[place] = f"what {option} names"


def _album(job: Job) -> Album | None:
    """What gathers the page of review, where one is asked for.

    Raises:
        UsageError: there are no results that corrections could belong to.
    """
    if job.review is None:
        return None
    from digitize import results, review

    if job.output in (None, write.STDOUT) or _form(job) not in results.READABLE or job.level == "number":
        raise UsageError("--review: corrections belong to a file of digits; name a .csv, .json or .jsonl with -o")
    return review.Album(share=job.audit)


def _write_results(
    job: Job,
    found: list[sheets.Sheet],
    summary: Summary,
    journal: Journal | None,
    album: Album | None,
    *,
    watch: Stopwatch,
) -> None:
    """Read sheets and write the result; what was drawn of their pages is put into the album and the PDF."""
    form = _form(job)
    with ExitStack() as held:
        output = held.enter_context(write.open_output(job.output)) if job.output is not None else None
        generator = generator_of(job.recipe)
        pdf = held.enter_context(_overlay_pdf(job))
        readings = _gathered(_read(job, found, summary, journal, watch), album, pdf)
        if job.per_sheet is not None:
            readings = _written(readings, job, form, generator)
        ahead: list[SheetReading] = []
        for reading in readings:  # standard output cannot be taken back: nothing is written before a sheet was read
            ahead.append(reading)
            if reading.error is None or reading.pages:
                break
        else:
            if len(found) == 1:
                raise SheetError(ahead[0].error)
            raise SheetError(f"could not read any of the {len(ahead)} sheets; nothing was written")
        if output is None:
            for _ in readings:
                pass
        else:
            writer_of(form, job.level)(chain(ahead, readings), output, generator)
        with watch("write"):  # what was opened is flushed to the disk and takes its place
            held.close()


def per_sheet_path(folder: Path, source: str, form: write.Format) -> Path:
    """Where the result of a sheet goes: in its folder below `folder`, under its whole name, so that no two meet.

    What would lead out of the folder is left off; a name that had such parts ends in a hash of the whole.
    """
    parts = [part for part in Path(source).parts if part not in ("..", Path(source).anchor)] or ["sheet"]
    plain = "/".join(parts)
    if plain != source:
        parts[-1] += f"-{hashlib.sha256(source.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    return folder.joinpath(*parts[:-1], f"{write.fitting(parts[-1])}.{form}")


def _form(job: Job) -> write.Format:
    """The format of the results, which go somewhere."""
    if job.output is not None:
        return write.format_of(job.output, job.format)
    if job.per_sheet is None:
        raise UsageError("there is nowhere to write to; give --output, --per-sheet, or both")
    return write.format_of(write.STDOUT, job.format)


def _wanted(job: Job, found: list[sheets.Sheet], form: write.Format, summary: Summary) -> list[sheets.Sheet]:
    """The sheets to read, by what is to be done with results that are there."""
    existing = job.policy.existing
    if existing == "overwrite":
        return found
    if existing == "skip" and job.output is not None and job.per_sheet is not None:
        raise UsageError("--existing skip leaves sheets out of --output: give that or --per-sheet, not both")
    there = []
    if job.output not in (None, write.STDOUT) and Path(str(job.output)).exists():
        there = [(sheet, Path(str(job.output))) for sheet in found]
    elif job.per_sheet is not None:
        paths = ((sheet, per_sheet_path(job.per_sheet, sheet.source, form)) for sheet in found)
        there = [(sheet, path) for sheet, path in paths if path.exists()]
    if there and existing == "abort":
        raise OutputError(f"{there[0][1]}: exists; choose another place, or --existing skip or overwrite")
    summary.skipped = len(there)
    left_out = {id(sheet) for sheet, _ in there}
    return [sheet for sheet in found if id(sheet) not in left_out]


def _journal(job: Job, found: list[sheets.Sheet]) -> Journal | None:
    """The journal of a scan that is worth one."""
    if job.output in (None, write.STDOUT) or len(found) < 2:
        return None
    from digitize.journal import Journal

    target = Path(str(job.output))
    if target.exists() and not target.is_file():  # a pipe or a device: there is no beside
        return None
    return Journal(Journal.beside(str(job.output)))


@contextmanager
def _reading(job: Job, count: int) -> Iterator[tuple[ReadSheets, str]]:
    """What reads sheets, in this process or in others, and the mark of what readings depend on."""
    policy, recipe = job.policy, job.recipe
    processes = usable_processes(policy.jobs, job.device, count)
    if processes == 1 and policy.sheet_timeout is None:
        reader = recipe()
        yield reader.read_all, reader.mark if count > 1 else ""
        return
    from digitize import workers

    limits = workers.Limits(seconds=policy.sheet_timeout or workers.SHEET_SECONDS)
    if processes > 1:
        recipe = replace(recipe, threads=1)
    with workers.Pool(recipe, workers=processes, limits=limits) as pool:
        pool.start()
        log.info("%d process%s read on %s", processes, "es" if processes > 1 else "", pool.device)
        yield pool.read, pool.mark


def chosen_device(device: str, count: int) -> str:
    """What so many sheets are read on: for "auto" the CPU, where a GPU takes longer to start than it saves.

    A file of many pages counts as one sheet, since nobody has opened it yet.
    """
    if device == "auto" and count < GPU_SHEETS and gpu_seen():
        log.info("the CPU reads, since so few sheets do not pay for a GPU's start; --device gpu takes it all the same")
        return "cpu"
    return device


def usable_processes(jobs: int | None, device: str, count: int) -> int:
    """How many processes to read sheets with.

    Args:
        jobs: how many were asked for; None to choose.
        device: where the models are to run; a GPU is used by one process.
        count: how many sheets there are.
    """
    if device.startswith("gpu") or (device == "auto" and gpu_seen()):
        if jobs is not None and jobs > 1:
            log.info("one process reads, since one GPU does, whatever --jobs says")
        return 1
    if jobs is None:
        jobs = usable_cores() if count >= FEWEST_SHEETS else 1
    return max(1, min(jobs, count))


def _read(
    job: Job, found: list[sheets.Sheet], summary: Summary, journal: Journal | None, watch: Stopwatch
) -> Iterator[SheetReading]:
    """Read, count and report, one sheet after another, until too many have failed."""
    most = job.policy.allowance.of(len(found)) if job.policy.allowance else len(found)
    hidden = not job.progress or not sys.stderr.isatty() or len(found) < 2
    began = time.monotonic()
    with _reading(job, len(found)) as (read, mark), nullcontext() if hidden else progress_bar(len(found)) as bar:
        for sheet, resumed in _with_journal(job, found, read, mark, journal, watch=watch):
            clock = stopwatch.OFF if resumed else watch  # to take what was kept is no part of a profile
            clock.add(sheet.spent)
            if job.rules:
                sheet = replace(sheet, pages=tuple(judged(page, job.rules) for page in sheet.pages))
            summary.count(sheet)
            summary.resumed += resumed
            summary.timed += len(sheet.pages) if clock.running else 0
            if sheet.error is not None:
                with bar.external_write_mode(file=sys.stderr) if bar else nullcontext():
                    if sheet.pages or len(found) > 1:  # of one alone, `run` says it
                        log.error("%s", sheet.error)
                    if sheet.trace:
                        log.debug("%s", sheet.trace)
            if bar:
                bar.set_postfix_str(f"{summary.digits / (time.monotonic() - began):,.0f} digits/s", refresh=False)
                bar.update()
            with clock("write"):
                yield sheet
            if summary.failed > most:
                summary.stopped = True
                log.error("stopped: %d of %d sheets failed, and no more than %d may", summary.failed, len(found), most)
                return


def _with_journal(
    job: Job, found: list[sheets.Sheet], read: ReadSheets, mark: str, journal: Journal | None, *, watch: Stopwatch
) -> Iterator[tuple[SheetReading, bool]]:
    if journal is None:
        yield from ((reading, False) for reading in read(found))
        return
    from digitize.journal import Resumption

    if journal.kept:
        log.info("an earlier scan was cut short; what it had read is taken from its journal")
    yield from Resumption(journal, mark, drawn=job.recipe.draws, watch=watch).read(found, read)


def _written(
    readings: Iterable[SheetReading], job: Job, form: write.Format, generator: write.Generator
) -> Iterator[SheetReading]:
    """Write each reading into a file of its own on its way; a sheet that could not be read gets none."""
    folder = job.per_sheet or Path()
    for reading in readings:
        if reading.error is None or reading.pages:
            target = per_sheet_path(folder, reading.source, form)
            _folder(target.parent)
            with write.open_output(target) as output:
                writer_of(form, job.level)([reading], output, generator)
        yield reading


def _gathered(readings: Iterable[SheetReading], album: Album | None, pdf: OverlayPdf | None) -> Iterator[SheetReading]:
    """Put what was drawn of each page into an album and into a PDF, where there are such, and let go of it."""
    for reading in readings:
        for page, drawing in zip(reading.pages, reading.drawings, strict=bool(album or pdf)):
            if pdf is not None:
                pdf.add(drawing)
            if album is not None:
                album.keep(reading.source, page, drawing)
        yield replace(reading, drawings=())


def _overlay_pdf(job: Job) -> AbstractContextManager[OverlayPdf | None]:
    """The one PDF that overlays go into, where such a file was named."""
    if job.overlay_pdf is None:
        return nullcontext()
    from digitize.overlay_pdf import open_overlay_pdf

    return open_overlay_pdf(job.overlay_pdf)


def judged(reading: PageReading, rules: tuple[Rule, ...]) -> PageReading:
    """A page held to rules, where there are any."""
    if not rules:
        return reading
    from digitize import numbers

    return numbers.judge_page(reading, rules)


def writer_of(form: write.Format, level: Level) -> write.Writer:
    """What writes a format; only a CSV is either of digits or of numbers, the others hold both."""
    if form == "csv" and level == "number":
        from digitize.write_numbers import write_numbers

        return write_numbers
    return write.WRITERS[form]


def progress_bar(total: int | None) -> tqdm[NoReturn]:
    """A bar on stderr; its module is loaded only where a bar is shown, since that takes a twentieth of a second."""
    from tqdm import tqdm

    return tqdm(total=total, unit="sheet", file=sys.stderr)


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be made: {error.strerror}; choose another folder") from error
    return path


def generator_of(recipe: Recipe) -> write.Generator:
    """What results say of how they were made.

    Raises:
        ModelError: there is no such model.
        UsageError: `max_error` cannot be reached.
    """
    card, finder = _cards(recipe)
    review_below = _review_below(recipe.settings, recipe.max_error, card, finder)
    described = {"dpi": recipe.dpi, "rotate": recipe.settings.rotate, "review_below": review_below}
    return write.Generator(
        __version__,
        card.name,
        card.tflite_sha256,
        described,
        detector=finder.name if finder else None,
        detector_sha256=finder.tflite_sha256 if finder else "",
    )


def mark_of(recipe: Recipe) -> str:
    """What the readings of a recipe depend on beside the sheets, as `SheetReader.mark`, without loading the models.

    The device stands in it as the recipe names it.
    """
    review_below = _review_below(recipe.settings, recipe.max_error, *_cards(recipe))
    return _mark(recipe, replace(recipe.settings, review_below=review_below), recipe.device)


def _review_below(settings: Settings, max_error: float | None, card: models.Card, finder: models.Card | None) -> float:
    """The confidence below which digits are marked for review."""
    if max_error is None:
        return settings.review_below
    return (_calibration(card, finder) or Calibration.plain()).threshold_for(max_error)


def _cards(recipe: Recipe) -> tuple[models.Card, models.Card | None]:
    """The cards of a recipe's classifier and, where it has one, its detector."""
    finder = None
    if recipe.detector != NO_DETECTOR:
        finder = models.load_card(models.find(recipe.detector or models.DEFAULT_DETECTOR))
    return models.load_card(models.find(recipe.model)), finder


def _mark(recipe: Recipe, settings: Settings, device: str) -> str:
    """A hash of everything but the sheet that readings, and the pictures drawn of them, depend on."""
    card, finder = _cards(recipe)
    contents: list[Mapping[str, Any] | None] = [card.content, finder.content if finder else None]
    places = [str(place) if place else None for place in (recipe.overlay, recipe.crops)]
    shaping = asdict(replace(settings, batch_size=0))  # how many tiles go together does not change what they are
    drawn = [asdict(recipe.drawn), [[rule.name, rule.asked] for rule in recipe.rules]] if recipe.draws else []
    whole = [__version__, contents, shaping, str(recipe.pages), recipe.dpi, device, places, drawn]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
