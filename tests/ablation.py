"""What each part of the road is worth: every labelled set read with and without it; or constants measured, `--tune`.

    python tests/ablation.py [--model MODEL] [--detector DETECTOR] [--other-detector DETECTOR ...]
                             [--sets made form_fields ...] [--made N]
                             [--mnist DIR] [--hands DIR] [--fonts DIR ...] [--without NAME ...]
    python tests/ablation.py --tune [--made N] ...

Each set has a row as it is read, and a row for each thing that is left out: `classifier` (the detector alone says which
digit it is), `context` (each place is judged by itself), `detector` (contours, candidates and the classifier read
alone), and of that road again `candidates` (nothing cut, nothing merged: a glyph is a digit or none), `no-digit` (that
class is dropped and the rest renormalised) and `rules` (lines and frames stay in). `--other-detector` adds a row for
each one that was trained otherwise, say without scan-like augmentation (`plain.py`). `made` are sheets of the maker's
validation writers. The figures are those of $DIGITIZE_SHARED/eval/score.py.

`--tune` reads made sheets alone, and prints F1 and calibration for the constants by which `decode.agree` pools what the
two networks say: networks are asked once and their answers pooled again for each value. Constants are chosen on those
sheets, never on the sets.
"""

# ruff: noqa: T201 - a script that prints its table

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from score import SHARED, SHEET_SETS, Answers, Truth, load_scorer, sheet_set, table

from digitize import calibrate, decode, models, sheets
from digitize.batch import load_detector
from digitize.classify import Classifier
from digitize.confidence import Calibration
from digitize.context import Context
from digitize.detect import Detector
from digitize.make import MadePage, Sources
from digitize.records import NO_DIGIT, Digit, Page, Probabilities, Tiles
from digitize.scan import Classify, Draft, Scanner, Settings

EQUAL_ATS = (0.0, 0.0125, 0.025, 0.05, 1.0)  # 0: `decode.LEAST_POWER` always; 1: both count alike always
LEAST_SEENS = (0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
MADE_SEED = 11  # neither the lessons' nor the calibration's
VARIANTS = ("classifier", "context", "detector", "candidates", "no-digit", "rules")

Read = Callable[[Scanner], tuple[Truth, Answers]]


class WithoutNoDigit:
    """A classifier that has to say a digit."""

    def __init__(self, classifier: Classify) -> None:
        self._classifier = classifier

    def probabilities(self, tiles: Tiles) -> Probabilities:
        """The ten digits' probabilities, summing to 1."""
        digits = self._classifier.probabilities(tiles)[:, :NO_DIGIT]
        return digits / np.maximum(digits.sum(axis=1, keepdims=True), 1e-9)


class Unheard(Scanner):
    """A scanner whose classifier may turn pages, but has no say in which digit it is."""

    def _classify(self, tiles: list[list[Tiles]]) -> list[list[Probabilities]]:
        return [[np.full((len(part), NO_DIGIT), 0.1, np.float32) for part in own] for own in tiles]


def scanners(options: argparse.Namespace) -> Iterator[tuple[str, Scanner]]:
    """The whole road, then the road without each part that was asked for."""
    settings = Settings(batch_size=options.batch_size, rotate=options.rotate)
    classifier, calibration = load(options.model)
    detector = load_detector(options.detector, "cpu")
    yield "", Scanner(classifier, detector=detector, calibration=calibration, settings=settings)
    roads: dict[str, Scanner] = {
        "context": Scanner(classifier, detector=without_context(options.detector), settings=settings),
        "classifier": Unheard(classifier, detector=detector, settings=settings),
        "detector": Scanner(classifier, settings=settings),
        "candidates": Scanner(classifier, settings=replace(settings, split=False, merge=False)),
        "no-digit": Scanner(WithoutNoDigit(classifier), settings=settings),
        "rules": Scanner(classifier, settings=replace(settings, rules=False)),
    }
    for name in options.without:
        yield name if name in ("classifier", "context", "detector") else f"detector, {name}", roads[name]
    for name in options.other_detector:
        other = load_detector(name, "cpu")
        yield f"by {name}", Scanner(classifier, detector=other, calibration=calibration, settings=settings)


def without_context(name: str | None) -> Detector | None:
    """A detector that judges each place by itself."""
    detector = load_detector(name, "cpu")
    if detector is not None:
        detector.context = None
    return detector


def load(model: str | None) -> tuple[Classifier, Calibration]:
    """A model and its calibration."""
    classifier = Classifier(models.find(model), device="cpu")
    return classifier, Calibration.from_card(classifier.card.calibration)


def made_set(made: Sequence[MadePage]) -> Read:
    """Reads sheets of the maker."""

    def read(scanner: Scanner) -> tuple[Truth, Answers]:
        truth: Truth = {}
        answers: Answers = {}
        for first in range(0, len(made), calibrate.PAGES_AT_ONCE):
            some = made[first : first + calibrate.PAGES_AT_ONCE]
            readings = scanner.read_pages([Page("made", 1, page.gray) for page in some])
            for k, (page, reading) in enumerate(zip(some, readings, strict=True), first):
                boxes = [[d.value, d.box.left, d.box.top, d.box.width, d.box.height] for d in page.digits]
                truth[str(k)] = {"digits": page.text, "boxes": boxes}
                answers[str(k)] = [in_row(digit) for *_, digit in reading.digits()]
        return truth, answers

    return read


def shared_set(name: str) -> Read:
    """Reads one of the sets under data/sheets."""
    labelled = sheet_set(name)

    def read(scanner: Scanner) -> tuple[Truth, Answers]:
        answers: Answers = {}
        for sheet in scanner.read_sheets(sheets.find([str(path) for path in labelled.inputs])):
            rows = [in_row(digit) for page in sheet.pages for *_, digit in page.digits()]
            answers[Path(sheet.source).name] = rows
        return labelled.truth, answers

    return read


def in_row(digit: Digit) -> tuple[Any, ...]:
    """An answer in the scorer's form."""
    box = digit.box
    return str(digit.value), box.left, box.top, box.width, box.height, digit.confidence


def ablate(options: argparse.Namespace, made: Sequence[MadePage]) -> None:
    """Print a row for each set and each variant."""
    scorer = load_scorer()
    roads = list(scanners(options))
    rows = []
    for name in options.sets:
        read = made_set(made) if name == "made" else shared_set(name)
        for less, scanner in roads:
            print(f"{name} {less} ...", file=sys.stderr, flush=True)
            began = time.perf_counter()
            figures = scorer.score(*read(scanner))
            how = less if not less or less.startswith("by ") else f"without {less}"
            rows.append({"set": f"{name} {how}".strip(), **figures, "seconds": time.perf_counter() - began})
    print(table(rows))


def tune(options: argparse.Namespace, made: Sequence[MadePage]) -> None:
    """Print F1 and calibration on made sheets for the constants of `decode.agree`, with and without the context."""
    classifier, _ = load(options.model)
    detector = load_detector(options.detector, "cpu")
    if detector is None:
        raise SystemExit("--tune needs a detector")
    scanner = Scanner(classifier, detector=detector, settings=Settings(rotate="off"))
    learnt, detector.context = detector.context, None
    kept = decode.EQUAL_AT, decode.LEAST_SEEN
    grid = [(*values, learnt) for values in itertools.product(EQUAL_ATS, LEAST_SEENS)]
    grid += [(kept[0], least, None) for least in LEAST_SEENS]
    judged: dict[int, list[calibrate.Judged]] = {k: [] for k in range(len(grid))}
    try:
        for first in range(0, len(made), calibrate.PAGES_AT_ONCE):
            some = made[first : first + calibrate.PAGES_AT_ONCE]
            decode.LEAST_SEEN = 0.0  # nothing is left out yet
            drafts = scanner._see([scanner._draft(Page("made", 1, page.gray)) for page in some])
            for k, (equal, least, context) in enumerate(grid):
                decode.EQUAL_AT = equal
                for page, draft in zip(some, drafts, strict=True):
                    reported = weighed(draft, context, least)
                    judged[k].append(calibrate.judge_page(page, scanner._compose(reported)[0]))
    finally:
        decode.EQUAL_AT, decode.LEAST_SEEN = kept
    print(f"{len(made)} made sheets, now at EQUAL_AT {kept[0]}, LEAST_SEEN {kept[1]}")
    print("| EQUAL_AT | LEAST_SEEN | context | answers | right | f1 | ece, calibrated | likelihood loss |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|")
    for k, (equal, least, context) in enumerate(grid):
        whole = calibrate.join(judged[k])
        outcome = calibrate.assess(whole)
        sure = np.clip(outcome.calibration.apply(whole.belief), 1e-4, 1 - 1e-4)
        loss = -np.mean(np.log(np.where(whole.right, sure, 1 - sure)))
        print(
            f"| {equal} | {least} | {'yes' if context else 'no'} "
            f"| {len(whole.right)} | {int(whole.right.sum())} | {whole.f1:.4f} | {outcome.after:.4f} | {loss:.4f} |"
        )


def weighed(draft: Draft, context: Context | None, least: float) -> Draft:
    """A draft with the places that a context, if any, gives at least so much."""
    places = context.rescored(draft.places, draft.ink.pen.shape) if context else draft.places
    kept = [k for k, place in enumerate(places) if place.seen >= least]
    return replace(
        draft,
        places=[places[k] for k in kept],
        tiles=[part[kept] for part in draft.tiles],
        beliefs=[part[kept] for part in draft.beliefs],
    )


def main() -> None:
    """Do what was asked."""
    parser = argparse.ArgumentParser(description="What each part of the road is worth.")
    parser.add_argument("--tune", action="store_true", help="measure the decoder's constants on made sheets instead")
    parser.add_argument("--model", help="name or folder; the default one if not given")
    parser.add_argument("--detector", help="name or folder; the default one if not given")
    parser.add_argument("--other-detector", nargs="+", default=[], help="others to compare with")
    parser.add_argument("--sets", nargs="+", choices=("made", *SHEET_SETS), default=("made", *SHEET_SETS))
    parser.add_argument("--without", nargs="*", choices=VARIANTS, default=VARIANTS, help="parts to leave out")
    parser.add_argument("--made", type=int, default=150, metavar="N", help="how many sheets are made")
    parser.add_argument("--seed", type=int, default=MADE_SEED)
    parser.add_argument("--rotate", choices=("auto", "off"), default="auto")
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--mnist", type=Path, default=SHARED / "data" / "mnist")
    parser.add_argument("--hands", type=Path, default=SHARED / "data" / "hands")
    parser.add_argument("--fonts", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    made: list[MadePage] = []
    if options.tune or "made" in options.sets:
        sources = Sources(mnist=options.mnist, hands=options.hands, fonts=tuple(options.fonts))
        made = list(calibrate.made_sheets(sources, options.made, seed=options.seed))
    (tune if options.tune else ablate)(options, made)


if __name__ == "__main__":
    main()
