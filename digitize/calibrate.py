"""Calibrate a model on made sheets: what its decoder believes, held to how often it is right.

Sheets of digits are made from writers and fonts that nobody trained on, as the maker weighs its kinds, and read
without any calibration. An answer is right where it stands at a true digit (as the shared scorer matches boxes) and
has its value; an answer at no true digit is wrong. The curve through belief and right (`confidence.fit`) goes into
the model's card.

How good the curve is is measured honestly: fitted on every other sheet, judged on the rest. What is stored is fitted
on all of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from digitize import confidence, models
from digitize.batch import load_detector
from digitize.classify import Classifier
from digitize.confidence import Calibration
from digitize.errors import DatasetError
from digitize.lessons import LARGEST_SHEET
from digitize.losses import match_boxes
from digitize.make import WEIGHTS, MadePage, Sources, scene_at
from digitize.records import Page, PageReading
from digitize.scan import Scanner, Settings

# What is invented on a page of prose says nothing of the digits on a sheet of digits, and makes all look doubtful.
KIND_WEIGHTS = {kind: weight for kind, weight in WEIGHTS.items() if kind not in ("prose", "dirt")}
BINS = 15  # of equal mass, as in the shared scorer
PAGES_AT_ONCE = 32
MADE_AT_ONCE = 256  # sheets that processes make ahead of the reader; bounds memory
SEED = 7  # not the one that lessons for validation are made with
THRESHOLDS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Judged:
    """The answers that a scanner gave on sheets whose truth is known.

    Attributes:
        belief: float64 (N,), what it said of its own answer.
        right: bool (N,), whether the answer is at a true digit and has its value.
        placed: bool (N,), whether it is at a true digit.
        sheet: int64 (N,), which sheet it is on, from 0.
        digits: how many true digits there are.
        sheets: how many sheets.
    """

    belief: Floats = field(repr=False)
    right: Bools = field(repr=False)
    placed: Bools = field(repr=False)
    sheet: NDArray[np.int64] = field(repr=False)
    digits: int
    sheets: int

    @property
    def f1(self) -> float:
        """F1 of digits that are at their place with their value."""
        return 2 * float(self.right.sum()) / max(1, self.digits + len(self.right))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a calibration.

    Errors and risks are measured on every other sheet, with a curve that was fitted on the rest; all else is of all.

    Attributes:
        calibration: fitted on all sheets, as stored.
        sheets, digits, answers: how many there were.
        f1: of all answers.
        before, after: expected calibration error of all answers, those at no true digit among them.
        placed_before, placed_after: the same over answers at true digits alone, as the shared scorer has it.
        placed: the curve was fitted to answers at true digits alone.
        risks: for each threshold on confidence, (threshold, share of answers kept, share of these that are wrong).
    """

    calibration: Calibration = field(repr=False)
    sheets: int
    digits: int
    answers: int
    f1: float
    before: float
    after: float
    placed_before: float
    placed_after: float
    placed: bool
    risks: tuple[tuple[float, float, float], ...]

    def __str__(self) -> str:
        head = f"{self.sheets} sheets, {self.digits} digits, {self.answers} answers, f1 {self.f1:.4f}"
        error = f"calibration error {self.before:.4f} before, {self.after:.4f} after"
        placed = f"at true digits {self.placed_before:.4f} before, {self.placed_after:.4f} after"
        risks = [f"{least:10.2f} {kept:10.3f} {wrong:10.4f}" for least, kept, wrong in self.risks]
        return "\n".join([head, f"{error} ({placed})", "confidence       kept      wrong", *risks])


def calibrate(
    folder: Path,
    sources: Sources,
    *,
    count: int,
    detector: str | None = None,
    seed: int = SEED,
    placed: bool = False,
    jobs: int = 1,
) -> Outcome:
    """Calibrate a model on made sheets and write the curve into its card.

    Args:
        folder: of the model.
        sources: where digits, letters and fonts lie.
        count: how many sheets are made; the largest are passed over.
        detector: that reads with it, as for `batch.load_detector`.
        seed: of the series of sheets.
        placed: as for `assess`.
        jobs: processes that make sheets.

    Returns:
        The curve, and how good it is.

    Raises:
        ModelError: there is no such model, or it disagrees with its card.
        OutputError: the card cannot be written.
        DatasetError: there is no material to make sheets from, or too little was read on them.
    """
    models.require_writable(folder)
    settings = Settings(rotate="off")
    classifier = Classifier(folder, device="cpu", batch_size=settings.batch_size)
    finder = load_detector(detector, "cpu")
    scanner = Scanner(classifier, detector=finder, settings=settings)
    judged = judge(scanner, made_sheets(sources, count, seed=seed, jobs=jobs))
    outcome = assess(judged, placed=placed)
    store(folder, outcome, seed=seed, detector=finder.card if finder else None)
    return outcome


def made_sheets(
    sources: Sources, count: int, *, seed: int = SEED, jobs: int = 1, weights: Mapping[str, float] = KIND_WEIGHTS
) -> Iterator[MadePage]:
    """Make sheets of the validation writers.

    Args:
        sources: where digits, letters and fonts lie.
        count: how many are made; those of more than `LARGEST_SHEET` pixels are passed over.
        seed: of the series.
        jobs: processes.
        weights: of the kinds.
    """
    make = partial(scene_at, seed, split="validation", sources=sources, weights=weights)
    if jobs == 1:
        yield from _not_too_large(map(make, range(count)))
        return
    # Not by fork: OpenCV's threads do not survive it.
    with get_context("spawn").Pool(jobs, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        for start in range(0, count, MADE_AT_ONCE):
            yield from _not_too_large(pool.imap(make, range(start, min(count, start + MADE_AT_ONCE)), 4))


def judge(scanner: Scanner, made: Iterable[MadePage]) -> Judged:
    """Read made sheets and hold the answers to their truth.

    Args:
        scanner: without a calibration, if its own belief is wanted.
        made: the sheets; read `PAGES_AT_ONCE` at a time.
    """
    parts: list[Judged] = []
    sheets = iter(made)
    while some := list(itertools.islice(sheets, PAGES_AT_ONCE)):
        readings = scanner.read_pages([Page("made", 1, sheet.gray) for sheet in some])
        parts += [judge_page(sheet, reading) for sheet, reading in zip(some, readings, strict=True)]
    return join(parts)


def judge_page(made: MadePage, reading: PageReading) -> Judged:
    """Hold the answers on one sheet to its truth."""
    answers = [digit for *_, digit in reading.digits()]
    right, placed = np.zeros(len(answers), bool), np.zeros(len(answers), bool)
    for i, j in match_boxes([digit.box for digit in made.digits], [answer.box for answer in answers]):
        placed[j] = True
        right[j] = made.digits[i].value == answers[j].value
    belief = np.array([answer.confidence for answer in answers], np.float64)
    return Judged(belief, right, placed, np.zeros(len(answers), np.int64), len(made.digits), 1)


def join(parts: list[Judged]) -> Judged:
    """The answers on several sheets, one after another, each with its sheet's number."""
    if not parts:
        none = np.zeros(0, bool)
        return Judged(np.zeros(0), none, none, np.zeros(0, np.int64), 0, 0)
    before = np.cumsum([0, *(part.sheets for part in parts)])
    return Judged(
        np.concatenate([part.belief for part in parts]),
        np.concatenate([part.right for part in parts]),
        np.concatenate([part.placed for part in parts]),
        np.concatenate([part.sheet + first for part, first in zip(parts, before[:-1], strict=True)]),
        sum(part.digits for part in parts),
        int(before[-1]),
    )


def assess(judged: Judged, *, placed: bool = False) -> Outcome:
    """Fit a curve on every other sheet, measure it on the rest, and fit the one to keep on all.

    Args:
        judged: answers and whether they are right.
        placed: fit to answers at true digits alone: the confidence says then whether the value is right, given that
            there is a digit at all, and does not depend on how much there is on a sheet to be taken for digits.

    Raises:
        DatasetError: one of the halves has no answers.
    """
    told = judged.placed if placed else np.ones(len(judged.placed), bool)
    fitted = judged.sheet % 2 == 0
    if not (told & fitted).any() or not (told & ~fitted).any():
        raise DatasetError(
            f"{len(judged.belief)} digits were read on {judged.sheets} made sheets, too few to calibrate on: make more"
        )
    curve = confidence.fit(judged.belief[fitted & told], judged.right[fitted & told])
    belief, right, at_digits = judged.belief[~fitted], judged.right[~fitted], judged.placed[~fitted]
    sure = curve.apply(belief)
    return Outcome(
        calibration=confidence.fit(judged.belief[told], judged.right[told]),
        sheets=judged.sheets,
        digits=judged.digits,
        answers=len(judged.belief),
        f1=judged.f1,
        before=calibration_error(belief, right),
        after=calibration_error(sure, right),
        placed_before=calibration_error(belief[at_digits], right[at_digits]),
        placed_after=calibration_error(sure[at_digits], right[at_digits]),
        placed=placed,
        risks=tuple((least, *_risk(sure, right, least)) for least in THRESHOLDS),
    )


def store(folder: Path, outcome: Outcome, *, seed: int = SEED, detector: models.Card | None = None) -> None:
    """Write a calibration into a model's card; what else the card says of calibration is kept.

    Args:
        folder: of the model.
        outcome: the curve and how good it is.
        seed: of the sheets that it was measured on.
        detector: card of the one that read with it: a curve holds for the pair alone.

    Raises:
        ModelError: the model disagrees with its card.
        OutputError: the card cannot be written.
    """
    card = models.load_card(folder)
    made = {
        "sheets": outcome.sheets,
        "digits": outcome.digits,
        "answers": outcome.answers,
        "seed": seed,
        "detector": detector.name if detector else None,
        "detector_sha256": detector.tflite_sha256 if detector else "",
        "context_sha256": detector.context_sha256 if detector else "",
        "fitted_to": "answers at true digits" if outcome.placed else "all answers",
        "error_before": round(outcome.before, confidence.DECIMALS),
        "error_after": round(outcome.after, confidence.DECIMALS),
        "error_before_at_digits": round(outcome.placed_before, confidence.DECIMALS),
        "error_after_at_digits": round(outcome.placed_after, confidence.DECIMALS),
    }
    kept = {**card.calibration, **outcome.calibration.to_card(), "measured_on": made}
    models.update_card(folder, {**card.content, "calibration": kept})


def calibration_error(sure: Floats, right: Bools) -> float:
    """Expected calibration error: the mean gap between confidence and share of right, over `BINS` bins of equal mass.

    Args:
        sure: (N,), confidences.
        right: (N,).

    Returns:
        In [0, 1]; 0 without answers.
    """
    if not len(sure):
        return 0.0
    bins = np.array_split(np.argsort(sure, kind="stable"), min(BINS, len(sure)))
    return float(sum(len(b) * abs(sure[b].mean() - right[b].mean()) for b in bins) / len(sure))


def _risk(sure: Floats, right: Bools, least: float) -> tuple[float, float]:
    """Share of answers of at least that confidence, and share of these that are wrong (0 where there are none)."""
    kept = sure >= least
    return float(kept.mean()), float((~right[kept]).mean()) if kept.any() else 0.0


def _not_too_large(made: Iterable[MadePage]) -> Iterator[MadePage]:
    return (sheet for sheet in made if sheet.gray.size <= LARGEST_SHEET)
