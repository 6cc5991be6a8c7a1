"""Trains two detectors, one of them without scan-like augmentation.

    python tests/plain.py --mnist MNIST --hands HANDS --fonts FONTS -o FOLDER --sheets 8000 --steps 2500 --jobs 2

Both begin with the same fresh weights and learn from the ink of the same scenes for as many steps, set together into
blocks by the same rules. `FOLDER/usual` sees them on paper, spoilt by light, scanner, copier and file format, and what
a block holds turned, slanted, stretched, scaled, bent and toned; `FOLDER/plain` sees ink on white, as it was drawn. (A
scene on which no digit can be read once it is spoilt is drawn anew for the first alone.) What each is worth on labelled
sets is told by

    python tests/ablation.py --without --other-detector FOLDER/usual FOLDER/plain

A few thousand steps reach less than the shipped detector has: the two are to be held against each other. Drills that
are there are used as they are: another seed or number of sheets wants another folder.
"""

# ruff: noqa: T201 - a script that prints what it reached

from __future__ import annotations

import argparse
import functools
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from digitize import drills, models, runs, train_detector
from digitize.make import Sources

UNDISTORTED: dict[str, Any] = {  # of `drills`: each piece as large as it is, and as it was drawn
    "_window": lambda drill, rng, *, alike, cut=drills._window: cut(drill, rng, alike=True),
    "BENT": 0.0,
    "_toned": lambda shade, rng: shade,
}


def main() -> None:
    """Make the drills that are missing, train what is not trained yet, and print how both judge validation drills."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", type=Path, required=True, help="folder with MNIST's IDX files")
    parser.add_argument("--hands", type=Path, help="folder with pen strokes")
    parser.add_argument("--fonts", type=Path, nargs="*", default=[])
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of drills and model folders")
    parser.add_argument("--sheets", type=int, default=2500, help="how many are made of each sort")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    sources = Sources(mnist=options.mnist, hands=options.hands, fonts=tuple(options.fonts))
    options.output.mkdir(parents=True, exist_ok=True)
    write = functools.partial(drills.write_drills, sources=sources, seed=options.seed, jobs=options.jobs)
    held = options.output / "held.npz"
    if not held.is_file():
        write(held, max(1, options.sheets // 10), split="validation")
    for name in ("usual", "plain"):
        made, folder = options.output / f"{name}.npz", options.output / name
        if not made.is_file():
            write(made, options.sheets, plain=name == "plain")
        if not runs.finished(folder):
            with mock.patch.multiple(drills, **UNDISTORTED) if name == "plain" else nullcontext():
                course = train_detector.Options(
                    folder, (made,), held, steps=options.steps, seed=options.seed, notes=({"augmentation": name},)
                )
                runs.run(course, resume=True)
        card = models.load_card(folder).content
        told = ", ".join(f"{key} {value:.3f}" for key, value in card["accuracy"].items())
        print(f"{name}: {card['training']['steps']} steps, {told}", flush=True)


if __name__ == "__main__":
    main()
