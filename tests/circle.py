"""The whole circle, measured: scan a hand that the model misreads, correct, fine-tune, scan again; `make circle`.

    python tests/circle.py [--mnist DIR] [--epochs N] [--epoch-tiles N] [--learning-rate R] [--keep DIR]

The hand is drawn from polylines: a 9 with a second bow below, as in some Latin hands, a 2 that begins with a loop, a 7
with a bar, a 4 closed at the top, a 1 with a roof and a foot. Every digit is slanted, stretched and shaken by itself.
Six sheets are read, what a person would say about each digit is made from the truth, `digitize review apply` and
`export` run on it, the classifier is trained on from the shipped one with these tiles beside MNIST, and six other
sheets in the same hand are read by both. Nothing measured here is shipped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from digitize import batch, corrections, datasets, evaluate, models, relearn, results
from digitize import train as training
from digitize.corpora import Source
from digitize.records import Box, Digit
from digitize.scan import Settings

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("DIGITIZE_SHARED", ROOT.parent / "shared")).resolve()
SHEETS = 6
ROWS, COLUMNS, TALL = 12, 14, 46  # digits a sheet, and their height in pixels
SAME = 0.4  # share of the smaller box by which two overlap to be the same digit
SAID = "corrections.json"

Stroke = list[tuple[float, float]]


def arc(x: float, y: float, wide: float, tall: float, first: float, last: float) -> Stroke:
    """Points of an ellipse, angles in degrees, y downwards."""
    turn = np.radians(np.linspace(first, last, 20))
    return list(zip(x + wide * np.cos(turn), y + tall * np.sin(turn), strict=True))


HAND: dict[int, list[Stroke]] = {
    0: [arc(0.3, 0.5, 0.3, 0.5, 0, 360)],
    1: [[(0.0, 0.45), (0.3, 0.0), (0.3, 1.0)], [(0.05, 1.0), (0.55, 1.0)]],
    2: [[*arc(0.2, 0.22, 0.14, 0.14, 90, -200), *arc(0.3, 0.3, 0.28, 0.3, -150, 40), (0.1, 0.9)],
        [*arc(0.16, 0.88, 0.12, 0.1, 0, 330), (0.66, 1.0)]],
    3: [[(0.0, 0.0), (0.58, 0.0), (0.24, 0.4), *arc(0.28, 0.69, 0.32, 0.31, -80, 150)]],
    4: [[(0.5, 0.0), (0.0, 0.62), (0.66, 0.62)], [(0.5, 0.0), (0.5, 1.0)]],
    5: [[(0.56, 0.0), (0.08, 0.0), (0.04, 0.45), *arc(0.27, 0.69, 0.33, 0.31, -110, 150)]],
    6: [[(0.5, 0.0), (0.1, 0.4)], arc(0.3, 0.7, 0.3, 0.3, 0, 360)],
    7: [[(0.0, 0.15), (0.0, 0.0), (0.6, 0.0), (0.22, 1.0)], [(0.1, 0.5), (0.6, 0.5)]],
    8: [arc(0.3, 0.24, 0.25, 0.24, 0, 360), arc(0.3, 0.74, 0.3, 0.26, 0, 360)],
    9: [arc(0.3, 0.26, 0.27, 0.26, 0, 360), [(0.57, 0.26), (0.56, 0.75), *arc(0.33, 0.77, 0.23, 0.23, 0, 215)]],
}  # fmt: skip


def draw_sheet(path: Path, seed: int) -> list[tuple[int, Box]]:
    """Draw one sheet in the hand; returns its digits and where they stand."""
    rng = np.random.default_rng(seed)
    paper = np.full((ROWS * 90 + 60, COLUMNS * 70 + 60), 248, np.uint8)
    truth = []
    for row in range(ROWS):
        for column in range(COLUMNS):
            value = int(rng.integers(0, 10))
            slant, wide, tall = rng.uniform(-0.1, 0.25), rng.uniform(0.85, 1.2), TALL * rng.uniform(0.85, 1.15)
            origin = 40 + 70 * column + rng.uniform(-4, 4), 40 + 90 * row + rng.uniform(-5, 5)
            points = []
            for stroke in HAND[value]:
                shaken = np.array(stroke) + rng.normal(0, 0.012, (len(stroke), 2))
                x = origin[0] + tall * (wide * shaken[:, 0] + slant * (1 - shaken[:, 1]))
                points.append(np.c_[x, origin[1] + tall * shaken[:, 1]])
            pen = int(rng.integers(3, 6))
            for stroke_points in points:
                fine = (stroke_points * 16).round().astype(np.int32)
                cv2.polylines(paper, [fine], False, 40, pen, cv2.LINE_AA, 4)
            low, high = np.concatenate(points).min(axis=0) - pen / 2, np.concatenate(points).max(axis=0) + pen / 2
            size = np.ceil(high - low).astype(int)
            truth.append((value, Box(int(low[0]), int(low[1]), int(size[0]), int(size[1]))))
    Image.fromarray(cv2.GaussianBlur(paper, (0, 0), 0.6)).save(path)
    return truth


def overlap(a: Box, b: Box) -> float:
    """Shared area over that of the smaller box."""
    wide, tall = min(a.right, b.right) - max(a.left, b.left), min(a.bottom, b.bottom) - max(a.top, b.top)
    return max(0, wide) * max(0, tall) / min(a.width * a.height, b.width * b.height)


def scan(sheets: list[Path], out: Path, model: str | None) -> results.Results:
    """Read sheets into a result file."""
    job = batch.Job([str(path) for path in sheets], str(out), model=model, settings=Settings(), progress=False)
    batch.run(job)
    return results.load(out)


def errors(read: results.Results, truth: dict[str, list[tuple[int, Box]]]) -> tuple[int, int]:
    """How many digits were missed, misread or made up, and how many there are."""
    wrong = total = 0
    for sheet in read.sheets:
        found: list[Digit] = [digit for page in sheet.pages for *_, digit in page.digits()]
        wanted = truth[sheet.source]
        total += len(wanted)
        right = sum(
            any(digit.value == value and overlap(digit.box, box) >= SAME for digit in found) for value, box in wanted
        )
        wrong += max(len(wanted), len(found)) - right
    return wrong, total


def say(read: results.Results, truth: dict[str, list[tuple[int, Box]]], path: Path) -> Path:
    """What a person would say about every digit that was read, as the page saves it."""
    decisions = []
    for sheet in read.sheets:
        for page in sheet.pages:
            for line, number, position, digit in page.digits():
                box = {side: getattr(digit.box, side) for side in ("left", "top", "width", "height")}
                under = [value for value, other in truth[sheet.source] if overlap(digit.box, other) >= SAME]
                now = str(under[0]) if len(under) == 1 else "".join(map(str, under))
                place = {"source": sheet.source, "page": page.number, "line": line, "number": number}
                decisions.append({**place, "position": position, "box": box, "was": digit.value, "now": now})
    about = {"name": read.path.name, "sha256": read.sha256, "digits": read.digits}
    content = {"schema": corrections.SCHEMA, "results": about, "audit": None, "decisions": decisions, "added": []}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def accuracy(model: Path, mnist: datasets.Mnist) -> float:
    """Share of the MNIST test digits that a model gets right where it has to answer one of the ten digits."""
    return evaluate.evaluate(model, mnist.test_images, mnist.test_labels).digit_accuracy


def drawn(folder: Path, first: int) -> tuple[list[Path], dict[str, list[tuple[int, Box]]]]:
    """Sheets and their truth by source."""
    paths = [folder / f"{seed}.png" for seed in range(first, first + SHEETS)]
    return paths, {str(path): draw_sheet(path, int(path.stem)) for path in paths}


def main() -> None:
    """Go round once, and print the figures."""
    parser = argparse.ArgumentParser(description="Scan, correct, fine-tune, scan again.")
    parser.add_argument("--mnist", type=Path, default=SHARED / "data" / "mnist")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--epoch-tiles", type=int, default=8192)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--keep", type=Path, help="work in this folder and keep it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        run(folder, options)


def run(folder: Path, options: argparse.Namespace) -> None:
    """Go round in a folder."""
    seen, truth = drawn(folder, 100)
    fresh, fresh_truth = drawn(folder, 200)
    read = scan(seen, folder / "seen.json", None)
    said = corrections.load(say(read, truth, folder / SAID))
    outcome = corrections.apply(read, said)
    results.save(outcome.results, str(folder / "corrected.json"))
    corrected = results.load(folder / "corrected.json")
    tiles = relearn.export(said, read, folder / "tiles")
    start = models.find(None)
    course = training.prepare(
        training.Options(
            output=folder / "tuned",
            data=(Source(options.mnist),),
            tiles=(folder / "tiles",),
            mnist_share=0.75,
            epochs=options.epochs,
            epoch_tiles=options.epoch_tiles,
            learning_rate=options.learning_rate,
            start=start,
        )
    )
    for progress in training.epochs(course):
        print(progress, file=sys.stderr, flush=True)
    tuned = training.finish(course)
    before = scan(fresh, folder / "before.json", None)
    after = scan(fresh, folder / "after.json", str(tuned))
    mnist = datasets.load_mnist(options.mnist)
    print("sheets, read by                errors / digits")
    rows = [
        ("corrected sheets, duet", errors(read, truth)),
        ("the same after review apply", errors(corrected, truth)),
        ("unseen sheets, duet", errors(before, fresh_truth)),
        ("unseen sheets, fine-tuned", errors(after, fresh_truth)),
    ]
    for name, (wrong, total) in rows:
        print(f"{name:30s} {wrong:6d} / {total}")
    print(f"tiles learnt from: {tiles}")
    print(
        f"MNIST test among the ten digits: duet {accuracy(start, mnist):.4f}, fine-tuned {accuracy(tuned, mnist):.4f}"
    )


if __name__ == "__main__":
    main()
