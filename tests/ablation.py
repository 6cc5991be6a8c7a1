"""What each part of the road is worth: every labelled set read with and without it; or constants measured, `--tune`.

    python tests/ablation.py [--model MODEL] [--other-model MODEL] [--sets made form_fields ...] [--made N]
                             [--mnist DIR] [--hands DIR] [--fonts DIR ...] [--without NAME ...]
    python tests/ablation.py --tune [--made N] ...

Each set has a row as it is read, and a row for each thing that is left out: `candidates` (nothing cut, nothing
merged: a glyph is a digit or none), `no-digit` (that class is dropped and the rest renormalised), `rules` (lines and
frames stay in). `--other-model` adds a row for a model that was trained otherwise, say without scan-like augmentation.
`made` are sheets of the maker's validation writers. The figures are those of $DIGITIZE_SHARED/eval/score.py.

`--tune` reads made sheets alone, and prints F1 and calibration for `decode.DISSENT` and `decode.SHARPNESS`: tiles are
classified once and decoded again for each value. Constants are chosen on those sheets, never on the sets.
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
from digitize.classify import Classifier
from digitize.confidence import Calibration
from digitize.make import MadePage, Sources
from digitize.records import NO_DIGIT, Digit, Page, Probabilities, Tiles
from digitize.scan import Classify, Scanner, Settings, draft_page

DISSENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
SHARPNESSES = (0.5, 1.0)
MADE_SEED = 11  # neither the lessons' nor the calibration's
VARIANTS = ("candidates", "no-digit", "rules")

Read = Callable[[Scanner], tuple[Truth, Answers]]


class WithoutNoDigit:
    """A classifier that has to say a digit."""

    def __init__(self, classifier: Classify) -> None:
        self._classifier = classifier

    def probabilities(self, tiles: Tiles) -> Probabilities:
        """The ten digits' probabilities, summing to 1."""
        digits = self._classifier.probabilities(tiles)[:, :NO_DIGIT]
        return digits / np.maximum(digits.sum(axis=1, keepdims=True), 1e-9)


def scanners(options: argparse.Namespace) -> Iterator[tuple[str, Scanner]]:
    """The whole road, then the road without each part that was asked for."""
    settings = Settings(batch_size=options.batch_size, rotate=options.rotate)
    classifier, calibration = load(options.model)
    yield "", Scanner(classifier, calibration=calibration, settings=settings)
    for name in options.without:
        if name == "candidates":
            less = replace(settings, split=False, merge=False)
            yield name, Scanner(classifier, calibration=calibration, settings=less)
        elif name == "no-digit":
            yield name, Scanner(WithoutNoDigit(classifier), calibration=calibration, settings=settings)
        else:
            less = replace(settings, rules=False)
            yield name, Scanner(classifier, calibration=calibration, settings=less)
    if options.other_model:
        other, calibration = load(options.other_model)
        yield f"model {other.card.name}", Scanner(other, calibration=calibration, settings=settings)


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
            how = less if not less or less.startswith("model") else f"without {less}"
            rows.append({"set": f"{name} {how}".strip(), **figures, "seconds": time.perf_counter() - began})
    print(table(rows))


def tune(options: argparse.Namespace, made: Sequence[MadePage]) -> None:
    """Print F1 and calibration on made sheets for the decoder's constants."""
    classifier, _ = load(options.model)
    scanner = Scanner(classifier, settings=Settings(rotate="off"))
    grid = list(itertools.product(DISSENTS, SHARPNESSES))
    judged: dict[tuple[float, float], list[calibrate.Judged]] = {values: [] for values in grid}
    kept = decode.DISSENT, decode.SHARPNESS
    try:
        for first in range(0, len(made), calibrate.PAGES_AT_ONCE):
            some = made[first : first + calibrate.PAGES_AT_ONCE]
            drafts = [draft_page(Page("made", 1, page.gray), scanner.settings) for page in some]
            scanner._read_drafts(drafts, None)  # leaves each draft with its candidates and beliefs
            for values in grid:
                decode.DISSENT, decode.SHARPNESS = values
                for page, draft in zip(some, drafts, strict=True):
                    judged[values].append(calibrate.judge_page(page, scanner._compose(draft)[0]))
            decode.DISSENT, decode.SHARPNESS = kept
    finally:
        decode.DISSENT, decode.SHARPNESS = kept
    print(f"{len(made)} made sheets, now at DISSENT {kept[0]}, SHARPNESS {kept[1]}")
    print("| DISSENT | SHARPNESS | answers | right | f1 | ece | ece, calibrated | likelihood loss, calibrated |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|")
    for values in grid:
        whole = calibrate.join(judged[values])
        outcome = calibrate.assess(whole)
        sure = np.clip(outcome.calibration.apply(whole.belief), 1e-4, 1 - 1e-4)
        loss = -np.mean(np.log(np.where(whole.right, sure, 1 - sure)))
        print(
            f"| {values[0]} | {values[1]} | {len(whole.right)} | {int(whole.right.sum())} | {whole.f1:.4f} "
            f"| {outcome.before:.4f} | {outcome.after:.4f} | {loss:.4f} |"
        )


def main() -> None:
    """Do what was asked."""
    parser = argparse.ArgumentParser(description="What each part of the road is worth.")
    parser.add_argument("--tune", action="store_true", help="measure the decoder's constants on made sheets instead")
    parser.add_argument("--model", help="name or folder; the default one if not given")
    parser.add_argument("--other-model", help="a second model to compare with")
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
