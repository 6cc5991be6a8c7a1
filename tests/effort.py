"""How many digits a person has to look at, the least sure first, so that few of all digits stay wrong.

    python tests/effort.py [--set NAME] [--target SHARE] [--result CSV]

Reads a labelled set under $DIGITIZE_SHARED/data/sheets that has boxes (default cheques), and counts a digit that was
read as wrong where no true box of that digit lies under it, each true box once. Looking at a digit mends it, or takes
it out. What was missed stands in no row: it is counted apart, since no list of doubtful digits shows it. For measuring
only: nothing may be chosen on these sets.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from score import RUN_CHECKOUT, SHARED, load_scorer, scan

REVIEW_BELOW = 0.9  # what `scan` takes by default


def judged(truth: dict[str, dict[str, list[list[object]]]], result: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """For each digit read its confidence and whether it is right; and how many true digits no digit stands on."""
    scorer = load_scorer()
    answers = scorer.read_answers(result)
    sure: list[float] = []
    right: list[bool] = []
    missed = 0
    for name, entry in truth.items():
        got = answers.get(name, [])
        boxes = [(str(box[0]), *box[1:]) for box in entry["boxes"]]
        found = {j: i for i, j in scorer.match(boxes, got)}
        missed += len(boxes) - len(found)
        for j, answer in enumerate(got):
            sure.append(answer[5])
            right.append(j in found and boxes[found[j]][0] == answer[0])
    return np.array(sure), np.array(right), missed


def main() -> None:
    """Measure, and print one paragraph."""
    parser = argparse.ArgumentParser(description="How many digits must be looked at.")
    parser.add_argument("--set", default="cheques")
    parser.add_argument("--target", type=float, default=0.01)
    parser.add_argument("--result", type=Path, help="a result of digitize scan to measure, instead of scanning")
    options = parser.parse_args()
    folder = SHARED / "data" / "sheets" / options.set
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as scratch:
        result = options.result or Path(scratch) / "digits.csv"
        if options.result is None:
            scan([sys.executable, "-c", RUN_CHECKOUT], [folder / "images"], result, [])
        sure, right, missed = judged(truth, result)
    order = np.argsort(sure, kind="stable")
    wrong_left = np.r_[(~right).sum(), (~right).sum() - np.cumsum(~right[order])]  # after looking at the k least sure
    looked = int(np.flatnonzero(wrong_left <= options.target * len(right))[0])
    border = sure[order[looked - 1]] if looked else 0.0
    print(f"{options.set}: {len(right)} digits read, {(~right).sum()} of them wrong; {missed} true digits not found")
    print(
        f"{looked} ({looked / len(right):.1%}) have to be looked at, those up to a confidence of {border:.4f}, "
        f"so that at most {options.target:.0%} of what was read stays wrong"
    )
    flagged = int((sure < REVIEW_BELOW).sum())
    rest = int((~right & (sure >= REVIEW_BELOW)).sum())
    print(f"{flagged} are marked for review by default; {rest} ({rest / len(right):.1%}) of the others are wrong")


if __name__ == "__main__":
    main()
