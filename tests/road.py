"""What the road from sheet to tile costs: MNIST test digits drawn large on paper, cut and classified again.

    python tests/road.py [--mnist DIR] [--count N] [--model NAME]

Each digit is enlarged 3 and 10 times, made black on white with its own, a thinner and a thicker stroke, and goes
through cleaning, contours and normalising. The likeliest of the ten digits is compared with what the same model says
of the original tile.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from digitize import datasets, models
from digitize.classify import Classifier
from digitize.records import Page
from digitize.scan import Settings, draft_page

SCALES = (3, 10)
PENS = {"thinner": -0.6, "original": 0.0, "thicker": 0.6}  # MNIST pixels that each side of a stroke gains


def draw(image: NDArray[np.uint8], scale: int, gain: float) -> NDArray[np.uint8]:
    """Draw one MNIST digit as ink on paper: uint8 (28 * scale, 28 * scale), 255 paper."""
    large = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    ink = (large > 127).astype(np.uint8)
    side = 2 * round(abs(gain) * scale) + 1
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    if gain:
        ink = cv2.dilate(ink, element) if gain > 0 else cv2.erode(ink, element)
    return np.asarray(cv2.copyMakeBorder(255 - 255 * ink, *[4 * scale] * 4, cv2.BORDER_CONSTANT, value=255), np.uint8)


def tile_of(paper: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The tile of the largest candidate on a page: uint8 (28, 28, 2), blank where there is none."""
    draft = draft_page(Page("road", 1, paper), Settings())
    found = [
        (int(candidate.mask.sum()), tile)
        for run, tiles in zip(draft.runs, draft.tiles, strict=True)
        for candidate, tile in zip(run.candidates, tiles, strict=True)
    ]
    return max(found, key=lambda pair: pair[0])[1] if found else np.zeros((28, 28, 2), np.uint8)


def main() -> None:
    """Print one line for each size and pen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--model")
    options = parser.parse_args()
    mnist = datasets.load_mnist(options.mnist)
    images, labels = mnist.test_images[: options.count], mnist.test_labels[: options.count]
    classifier = Classifier(models.find(options.model), device="cpu")

    def accuracy(tiles: NDArray[np.uint8]) -> float:
        return float((classifier.probabilities(tiles)[:, :10].argmax(axis=1) == labels).mean())

    originals = accuracy(np.stack([images, np.zeros_like(images)], axis=-1))
    print(f"original tiles {originals:.4f} ({len(labels)} digits)")
    for scale in SCALES:
        for name, gain in PENS.items():
            drawn = accuracy(np.stack([tile_of(draw(image, scale, gain)) for image in images]))
            print(f"{scale:2d}x, {name} pen {drawn:.4f}, {100 * (drawn - originals):+.2f} points")


if __name__ == "__main__":
    main()
