"""Scan every labelled set, score it, and print one table; `make score`.

    python tests/score.py [--sets NAME ...] [--json FILE] [--keep DIR]
                          [--digitize COMMAND] [--scan-option WORD ...]

The sets are those under $DIGITIZE_SHARED/data/sheets (default ../shared), this project's own `samples`, and two made
of single digits: `nsysu` (each of its 1,890 images is a sheet of its own; right where the answer is exactly that one
digit) and `opencv_digits` (5,000 digits on one sheet, their cells as boxes). Every set goes through the command line
in a process of its own, as a user's would; the figures are those of $DIGITIZE_SHARED/eval/score.py, whose docstring
defines them. For measuring only: nothing may be trained or chosen on these sets.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("DIGITIZE_SHARED", ROOT.parent / "shared")).resolve()

SHEET_SETS = ("form_fields", "cheques", "photos", "comb", "cells", "sudoku", "forms")
OPENCV_CELL = 20  # pixels; the sheet is 100 cells wide and 50 tall
OPENCV_ROWS_A_DIGIT = 5

SETS = (*SHEET_SETS, "nsysu", "opencv_digits", "samples")

RUN_CHECKOUT = "from digitize.cli import main; main()"  # with this checkout as working folder: no install needed

FIGURES = ("exact", "der", "order_free", "found", "clean", "f1", "ece", "sure@1")

# What others reach, from the shared README (measured 2026-11-22 with the same score.py):
# Otsu + contours + MNIST CNN as the tutorials do / RapidOCR 1.4.4.
PEERS = {
    "form_fields": "exact 0.00 / 0.57",
    "cheques": "exact 0.14 / 0.56, der 0.51 / 0.17",
    "photos": "f1 0.06 / 0.81",
    "comb": "der 1.00 / 0.10",
    "cells": "exact 0.05 / 0.75",
    "sudoku": "order_free 0.18 / 0.69",
    "forms": "order_free 0.00 / 0.50",
}

Truth = dict[str, dict[str, Any]]
Answers = dict[str, list[tuple[Any, ...]]]  # file name: (digit, left, top, width, height, confidence) in file order


@dataclass(frozen=True)
class LabelledSet:
    """Sheets and what stands on them, in the form that score.py reads.

    Attributes:
        name: of the row in the table.
        inputs: what `scan` is given.
        truth: by file name.
        each: a row for each sheet as well as for all.
        regroup: turns the answers by file name into answers by what `truth` names, where those differ.
    """

    name: str
    inputs: list[Path]
    truth: Truth
    each: bool = False
    regroup: Callable[[Answers], Answers] = dict


def sheet_set(name: str) -> LabelledSet:
    """One of the sets under data/sheets."""
    folder = SHARED / "data" / "sheets" / name
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    return LabelledSet(name, [folder / "images"], truth)


def samples_set() -> LabelledSet:
    """This project's own sheets."""
    truth: Truth = json.loads((ROOT / "samples" / "truth.json").read_text(encoding="utf-8"))
    return LabelledSet("samples", [ROOT / "samples" / name for name in truth], truth, each=True)


def nsysu_set(scratch: Path) -> LabelledSet:
    """Every image of nsysu.npz as a sheet of its own."""
    archive = np.load(SHARED / "data" / "digits" / "nsysu.npz")
    folder = scratch / "nsysu"
    folder.mkdir()
    truth: Truth = {}
    for index, (image, label) in enumerate(zip(archive["images"], archive["labels"], strict=True)):
        name = f"{index:04d}.png"
        Image.fromarray(image).save(folder / name)
        truth[name] = {"digits": str(label), "boxes": None}
    return LabelledSet("nsysu", [folder], truth)


def opencv_set() -> LabelledSet:
    """opencv_digits.png as one sheet; each cell stands for its digit's box.

    It is scanned whole and scored row by row, since score.py compares every box with every box.
    """
    path = SHARED / "data" / "digits" / "opencv_digits.png"
    with Image.open(path) as image:
        columns, rows = image.width // OPENCV_CELL, image.height // OPENCV_CELL
    truth: Truth = {}
    for row in range(rows):
        digit = str(row // OPENCV_ROWS_A_DIGIT)
        cells = [[digit, x * OPENCV_CELL, row * OPENCV_CELL, OPENCV_CELL, OPENCV_CELL] for x in range(columns)]
        truth[f"row {row}"] = {"digits": digit * columns, "boxes": cells}

    def by_row(answers: Answers) -> Answers:
        rows_read: Answers = {name: [] for name in truth}
        for answer in answers.get(path.name, []):
            middle = answer[2] + answer[4] / 2
            rows_read[f"row {min(int(middle // OPENCV_CELL), rows - 1)}"].append(answer)
        return rows_read

    return LabelledSet("opencv_digits", [path], truth, regroup=by_row)


def find_set(name: str, scratch: Path) -> LabelledSet:
    """The set of that name; what must be written out for it goes under `scratch`."""
    if name == "nsysu":
        return nsysu_set(scratch)
    if name == "opencv_digits":
        return opencv_set()
    return samples_set() if name == "samples" else sheet_set(name)


def load_scorer() -> ModuleType:
    """$DIGITIZE_SHARED/eval/score.py as a module; it is no package, so it is loaded from its path."""
    path = SHARED / "eval" / "score.py"
    spec = importlib.util.spec_from_file_location("shared_score", path)
    if spec is None or spec.loader is None or not path.exists():
        raise SystemExit(f"no scorer at {path}; point DIGITIZE_SHARED at the shared folder")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scan(command: Sequence[str], inputs: Sequence[Path], out: Path, options: Sequence[str]) -> tuple[int, float]:
    """Run `digitize scan`; returns the exit code and the wall time in seconds."""
    began = time.perf_counter()
    done = subprocess.run(
        [*command, "scan", *map(str, inputs), "-o", str(out), "--quiet", *options],
        check=False,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        print(f"  exit {done.returncode}: {done.stderr.strip()[-2000:]}", file=sys.stderr)
    return done.returncode, seconds


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The figures as a Markdown table, one set a row; a dash where a set has no such truth."""
    heads = ["set", "images", "digits", *FIGURES, "s", "others (tutorials / RapidOCR)"]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        cells = [row["set"], str(row["images"]), str(row["digits"])]
        cells += ["–" if row.get(figure) is None else f"{row[figure]:.3f}" for figure in FIGURES]
        cells += [f"{row['seconds']:.1f}" if "seconds" in row else "–"]
        failed = f"EXIT {row['exit']} " if row.get("exit") else ""
        lines.append([*cells, failed + PEERS.get(row["set"], "–")])
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width, "-" if number == 1 else " ") for cell, width in zip(line, widths, strict=True))
        + " |"
        for number, line in enumerate(lines)
    )


def measure(labelled: LabelledSet, result: Path, scorer: ModuleType) -> Iterator[dict[str, Any]]:
    """Yield the set's figures, after those of each sheet where the set asks for them."""
    answers = labelled.regroup(scorer.read_answers(result) if result.exists() else {})
    if labelled.each:
        for name, entry in labelled.truth.items():
            yield {"set": f"{labelled.name}/{name}", **scorer.score({name: entry}, answers)}
    yield {"set": labelled.name, **scorer.score(labelled.truth, answers)}


def main() -> None:
    """Score the sets that were asked for."""
    parser = argparse.ArgumentParser(description="Scan every labelled set, score it, print one table.")
    parser.add_argument("--sets", nargs="+", choices=SETS, metavar="SET", help=f"of {', '.join(SETS)}")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.add_argument("--keep", type=Path, help="keep each set's CSV and overlays in this folder")
    parser.add_argument("--digitize", help="the command to measure, instead of this checkout's")
    parser.add_argument("--scan-option", action="append", default=[], help="passed on to scan; once for each word")
    options = parser.parse_args()
    command = shlex.split(options.digitize) if options.digitize else [sys.executable, "-c", RUN_CHECKOUT]

    scorer = load_scorer()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) if options.keep is None else options.keep.resolve()
        out.mkdir(parents=True, exist_ok=True)
        for name in options.sets or SETS:
            labelled = find_set(name, Path(scratch))
            result = out / f"{name}.csv"
            result.unlink(missing_ok=True)  # an old answer must not stand in for one that failed
            overlay = [] if options.keep is None else ["--overlay", str(out / f"{name}_overlay")]
            print(f"{name} ...", file=sys.stderr, flush=True)
            code, seconds = scan(command, labelled.inputs, result, [*overlay, *options.scan_option])
            figures = list(measure(labelled, result, scorer))
            figures[-1] |= {"exit": code, "seconds": seconds}
            rows += figures
    print(table(rows))
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
