"""Recipes: ways to train a classifier that are worth having a name.

`default` is how the shipped classifier is trained. `article` is the recipe of TensorFlow's first MNIST tutorials, which
reached 95.21 % at a loss of 0.163 on MNIST's test digits; it is kept to show what the rest is worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from digitize.errors import UsageError


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train.

    Attributes:
        name: as `--recipe` is given it.
        about: one sentence.
        network: key of `network.NETWORKS`.
        optimizer: "adamw", with a warm-up and one cosine down to nothing; or "sgd", plain, at one rate throughout.
        learning_rate: at its highest.
        batch_size: tiles in one step.
        epochs: how many, where `steps` is None.
        steps: how many in all, whatever the epochs.
        augment: distort the digits.
        averaged: judge and ship the running mean of the weights.
        best: ship the epoch with the least validation loss, else the last one.
        calibrated: fit a temperature on validation digits.
    """

    name: str
    about: str
    network: str
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 2e-3
    batch_size: int = 256
    epochs: int = 16
    steps: int | None = None
    augment: bool = True
    averaged: bool = True
    best: bool = True
    calibrated: bool = True


DEFAULT = Recipe("default", "The shipped classifier's: two views, distorted digits, the mean of the weights.", "duet")
ARTICLE = Recipe(
    "article",
    "TensorFlow's first MNIST tutorials': plain stochastic gradient descent, nothing else.",
    "article",
    optimizer="sgd",
    learning_rate=1e-3,
    batch_size=100,
    steps=10_000,
    augment=False,
    averaged=False,
    best=False,
    calibrated=False,
)
RECIPES = {one.name: one for one in (DEFAULT, ARTICLE)}


def choose(name: str) -> Recipe:
    """The recipe of this name.

    Raises:
        UsageError: there is none.
    """
    if name not in RECIPES:
        raise UsageError(f"no recipe is called {name!r}; there are {', '.join(RECIPES)}")
    return RECIPES[name]


def render(recipe: Recipe) -> str:
    """What a recipe is, in two lines."""
    length = f"{recipe.steps:,} steps" if recipe.steps else f"{recipe.epochs} epochs"
    optimizer = {"adamw": "Adam with weight decay, warm-up and cosine", "sgd": "plain SGD"}[recipe.optimizer]
    parts = [
        f"network {recipe.network}",
        optimizer,
        f"learning rate {recipe.learning_rate:g}",
        f"batches of {recipe.batch_size}",
        length,
        "digits distorted" if recipe.augment else "digits as they are",
        "mean of the weights" if recipe.averaged else "weights as they are",
        "best epoch on validation" if recipe.best else "last epoch",
        "temperature fitted" if recipe.calibrated else "no temperature",
    ]
    return f"{recipe.name}: {recipe.about}\n    {', '.join(parts)}"
