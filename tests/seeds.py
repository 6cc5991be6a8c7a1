"""Trains a recipe with several seeds and prints the accuracy on MNIST's test digits of each, and their mean.

    python tests/seeds.py --mnist MNIST -o FOLDER --seeds 1 2 3

Each seed is a run in a folder of its own, `FOLDER/seed-1` and so on: what is finished is not trained again, what was
stopped or killed goes on. A seed changes the first weights, every chance, and which writers are kept for validation.
"""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from digitize import models, recipes, runs, train
from digitize.corpora import Source


def accuracies(folder: Path) -> tuple[float, float]:
    """On validation writers, and on MNIST's test digits, as the card says."""
    accuracy = models.load_card(folder).content["accuracy"]
    return accuracy["mnist_validation"], accuracy["mnist_test"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", type=Path, required=True, help="folder with MNIST's IDX files")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the model folders")
    parser.add_argument("--recipe", choices=recipes.RECIPES, default="default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, help="the recipe's own, if not given")
    parser.add_argument("--validation", type=float, default=train.VALIDATION_SHARE, help="share of digits kept")
    parser.add_argument("--mixed", action="store_true", help="steps in bfloat16")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    recipe = recipes.choose(options.recipe)
    rows = []
    for seed in options.seeds:
        folder = options.output / f"seed-{seed}"
        if not runs.finished(folder):
            runs.run(
                train.Options(
                    folder,
                    network=recipe.network,
                    data=(Source(options.mnist),),
                    epochs=options.epochs or recipe.epochs,
                    steps=None if options.epochs else recipe.steps,
                    batch_size=recipe.batch_size,
                    learning_rate=recipe.learning_rate,
                    seed=seed,
                    validation=options.validation,
                    mixed=options.mixed,
                    recipe=recipe,
                ),
                resume=True,
            )
        rows.append(accuracies(folder))
        print(f"seed {seed}: validation writers {rows[-1][0]:.4f}, MNIST test {rows[-1][1]:.4f}", flush=True)
    tests = np.array(rows)[:, 1]
    print(f"mean of {len(rows)}: {tests.mean():.4f}, from {tests.min():.4f} to {tests.max():.4f}")


if __name__ == "__main__":
    main()
