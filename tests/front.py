"""Prints how accuracy and cost go together: networks trained alike, by the default recipe, for the same few epochs.

    python tests/front.py --mnist MNIST --epochs 3

A network is worth its cost where no cheaper one is as accurate: those stand on the front and carry a star. Accuracy is
that on validation writers, by which a network may be chosen, and that on MNIST's test digits, which only tells; both
among all classes. A few epochs say which network learns fast, not what each reaches in the end.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from digitize import models, train
from digitize.corpora import Source

WIDTHS = {"duet/2": 0.5, "duet": 1.0, "duet x2": 2.0}  # times the filters of duet
NAMES = ("article", *WIDTHS)


@dataclass(frozen=True)
class Point:
    """A trained network: how much it costs and what it reaches."""

    name: str
    parameters: int
    macs: int
    validation: float
    test: float
    seconds: float


def on_front(points: Sequence[Point]) -> set[str]:
    """Names of those for which no other is both as cheap and more accurate, or cheaper and as accurate."""

    def beaten(one: Point) -> bool:
        return any(
            other.macs <= one.macs
            and other.validation >= one.validation
            and (other.macs, other.validation) != (one.macs, one.validation)
            for other in points
        )

    return {one.name for one in points if not beaten(one)}


def measure(name: str, options: argparse.Namespace) -> Point:
    """Train a network and look at both kinds of digits."""
    with tempfile.TemporaryDirectory() as place:
        course = train.prepare(
            train.Options(
                Path(place) / "model",
                network=name,
                data=(Source(options.mnist),),
                epochs=options.epochs,
                seed=options.seed,
                mixed=options.mixed,
            )
        )
        began = time.perf_counter()
        records = list(train.epochs(course))
        seconds = time.perf_counter() - began
        card = models.load_card(train.finish(course)).content
    best = records[course.best_epoch - 1]
    test = card["accuracy"]["mnist_test"]
    return Point(name, card["parameters"], card["macs"], best.mnist_accuracy, test, seconds)


def main() -> None:
    from digitize import network

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", type=Path, required=True, help="folder with MNIST's IDX files")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mixed", action="store_true", help="steps in bfloat16")
    parser.add_argument("--networks", nargs="+", choices=NAMES, default=NAMES)
    options = parser.parse_args()
    for name, width in WIDTHS.items():
        network.NETWORKS[name] = (partial(network.duet, width=width), network.NO_DIGIT_CLASSES)
    points = [measure(name, options) for name in options.networks]
    best = on_front(points)
    print(f"{options.epochs} epochs each, seed {options.seed}, {'bfloat16' if options.mixed else 'float32'}")
    print("  network    parameters   MACs     validation  MNIST test  seconds")
    for one in sorted(points, key=lambda point: point.macs):
        star = "*" if one.name in best else " "
        print(
            f"{star} {one.name:10s} {one.parameters:10,d} {one.macs / 1e6:6.2f} M   {one.validation:.4f}      "
            f"{one.test:.4f}  {one.seconds:8.0f}"
        )


if __name__ == "__main__":
    main()
