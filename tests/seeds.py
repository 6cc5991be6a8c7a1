"""Trains a recipe with several seeds and prints the accuracy on MNIST's test digits of each, and their mean.

    python tests/seeds.py --mnist MNIST -o FOLDER --seeds 1 2 3 [--tiles LESSONS.npz HELD.npz --mnist-share 0.5]
    python tests/seeds.py --mnist MNIST -o OTHER --seeds 1 2 3 --teachers FOLDER/seed-1 FOLDER/seed-2 FOLDER/seed-3

With `--teachers` each also learns from what those models say of its tiles. They were trained with other seeds, so on
digits that it keeps for choosing its best epoch, but on no test digits. With `--tiles` it learns from lessons too, and
so what no digit looks like. Two figures are given for MNIST's test digits: the tflite file's answers, of which "no
digit" is wrong, and those among the ten digits alone, which is what counts where a detector has found a digit.

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

from digitize import datasets, evaluate, models, recipes, runs, train
from digitize.corpora import Source


def accuracies(folder: Path, mnist: Path) -> tuple[float, float, float]:
    """On validation writers as the card says, on MNIST's test digits, and on these among the ten digits."""
    test = datasets.load_mnist(mnist)
    outcome = evaluate.evaluate(folder, test.test_images, test.test_labels)
    validation = models.load_card(folder).content["accuracy"]["mnist_validation"]
    return validation, outcome.accuracy, outcome.digit_accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", type=Path, required=True, help="folder with MNIST's IDX files")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the model folders")
    parser.add_argument("--recipe", choices=recipes.RECIPES, default="default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, help="the recipe's own, if not given")
    parser.add_argument("--validation", type=float, default=train.VALIDATION_SHARE, help="share of digits kept")
    parser.add_argument("--tiles", type=Path, nargs="*", default=[], help="lessons to learn from beside MNIST")
    parser.add_argument("--mnist-share", type=float, default=0.5, help="MNIST's part of an epoch, with --tiles")
    parser.add_argument("--epoch-tiles", type=int, help="tiles an epoch, with --tiles")
    parser.add_argument("--teachers", type=Path, nargs="*", default=[], help="models to learn from beside the labels")
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
                    tiles=tuple(options.tiles),
                    mnist_share=options.mnist_share,
                    epoch_tiles=options.epoch_tiles,
                    epochs=options.epochs or recipe.epochs,
                    steps=None if options.epochs else recipe.steps,
                    batch_size=recipe.batch_size,
                    learning_rate=recipe.learning_rate,
                    seed=seed,
                    validation=options.validation,
                    teachers=tuple(options.teachers),
                    mixed=options.mixed,
                    recipe=recipe,
                ),
                resume=True,
            )
        rows.append(accuracies(folder, options.mnist))
        validation, test, among = rows[-1]
        print(
            f"seed {seed}: validation writers {validation:.4f}, MNIST test {test:.4f}, among the ten {among:.4f}",
            flush=True,
        )
    for name, column in (("MNIST test", 1), ("among the ten", 2)):
        found = np.array(rows)[:, column]
        print(f"{name}, mean of {len(rows)}: {found.mean():.4f}, from {found.min():.4f} to {found.max():.4f}")


if __name__ == "__main__":
    main()
