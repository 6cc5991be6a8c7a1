"""Fits a detector's context (`context.py`) on made sheets: which of its places are digits, page by page.

The sheets are of writers and fonts that the detector was not trained on, since it is surer of those it knows. All kinds
are drawn, pages without a digit among them; lone digits more often than the maker weighs them, for a picture of one
gives one example where a table gives a hundred. What the networks make of ink is left as it is: the few thousand
weights see where places lie and how likely they are, and no ink.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from digitize import context, models
from digitize.calibrate import made_sheets
from digitize.classify import Classifier
from digitize.context import Context
from digitize.detect import Detector
from digitize.engine import import_keras
from digitize.errors import DatasetError
from digitize.losses import match_boxes
from digitize.make import WEIGHTS, MadePage, Sources
from digitize.records import Page
from digitize.scan import Scanner, Settings, page_box

KIND_WEIGHTS = {**WEIGHTS, "single": 3 * WEIGHTS["single"], "dirt": 2 * WEIGHTS["dirt"]}
SEED = 41  # neither the lessons', nor the calibration's, nor the ablation's
HIDDEN = (32, 16)  # units; (48, 24) were no better on other made sheets
EPOCHS, BATCH_SIZE = 20, 512
LEARNING_RATE, WEIGHT_DECAY = 3e-3, 1e-2
JUDGED = 10  # every so many-th sheet is kept to tell how good it is


@dataclass(frozen=True, slots=True)
class Examples:
    """The places that a detector saw on sheets whose truth is known.

    Attributes:
        features: float64 (N, F), see `context.features`.
        seen: float64 (N,), how likely the detector thought each.
        digit: bool (N,), whether it is at a true digit.
        sheet: int64 (N,), which sheet it is on, from 0.
    """

    features: NDArray[np.float64] = field(repr=False)
    seen: NDArray[np.float64] = field(repr=False)
    digit: NDArray[np.bool_] = field(repr=False)
    sheet: NDArray[np.int64] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A fitted context, and how good it is on places of every tenth sheet, which it was not fitted on.

    Attributes:
        context: what was fitted.
        sheets, places: how many there were.
        before, after: mean negative log likelihood of what the places are, by the detector and by the context.
    """

    context: Context = field(repr=False)
    sheets: int
    places: int
    before: float
    after: float

    def __str__(self) -> str:
        seen = f"{self.sheets} sheets, {self.places} places"
        return f"context: {seen}, loss {self.before:.4f} before, {self.after:.4f} after"


def teach(model: Path, detector: Path, sources: Sources, *, count: int, seed: int = SEED, jobs: int = 1) -> Outcome:
    """Fit a detector's context and write it into the detector's card.

    Args:
        model: folder of the classifier that it reads with.
        detector: its folder.
        sources: where digits, letters and fonts lie.
        count: how many sheets are made.
        seed: of the series of sheets, and of the fit.
        jobs: processes that make sheets.

    Raises:
        ModelError: a model is missing, or disagrees with its card.
        DatasetError: as for `learn`.
    """
    scanner = Scanner(
        Classifier(model, device="cpu"), detector=Detector(detector, device="cpu"), settings=Settings(rotate="off")
    )
    outcome = learn(scanner, sources, count=count, seed=seed, jobs=jobs)
    store(detector, outcome, seed=seed)
    return outcome


def learn(scanner: Scanner, sources: Sources, *, count: int, seed: int = SEED, jobs: int = 1) -> Outcome:
    """Fit the context of a scanner's detector.

    Args:
        scanner: with the detector.
        sources: where digits, letters and fonts lie.
        count: how many sheets are made.
        seed: of the series of sheets, and of the fit.
        jobs: processes that make sheets.

    Raises:
        DatasetError: there is no material to make sheets from, or too little was seen on them.
    """
    examples = gather(scanner, made_sheets(sources, count, seed=seed, jobs=jobs, weights=KIND_WEIGHTS))
    kept = examples.sheet % JUDGED == JUDGED - 1
    if not kept.any() or not examples.digit[~kept].any():
        raise DatasetError(f"{len(kept)} places were seen on {count} made sheets, too few to learn from: make more")
    judged = fit(examples.features[~kept], examples.digit[~kept], seed=seed)
    return Outcome(
        context=fit(examples.features, examples.digit, seed=seed),
        sheets=count,
        places=len(kept),
        before=_loss(examples.seen[kept], examples.digit[kept]),
        after=_loss(judged.probabilities(examples.features[kept]), examples.digit[kept]),
    )


def gather(scanner: Scanner, made: Iterable[MadePage]) -> Examples:
    """Look at made sheets; a place is a digit's where it is matched with one."""
    features, seen, digit, sheet = [], [], [], []
    for number, page in enumerate(made):
        draft = scanner.offer(Page("made", 1, page.gray))
        height, width = page.gray.shape
        boxes = [page_box(place.box, draft.ink.scale, width, height) for place in draft.places]
        hit = np.zeros(len(boxes), bool)
        hit[[j for _, j in match_boxes([one.box for one in page.digits], boxes)]] = True
        features.append(context.features(draft.places, draft.ink.pen.shape))
        seen.append(np.array([place.seen for place in draft.places], float))
        digit.append(hit)
        sheet.append(np.full(len(boxes), number))
    if not features:
        return Examples(context.features([], (1, 1)), np.zeros(0), np.zeros(0, bool), np.zeros(0, np.int64))
    return Examples(*(np.concatenate(column) for column in (features, seen, digit, sheet)))


def fit(features: NDArray[np.float64], digit: NDArray[np.bool_], *, seed: int = SEED) -> Context:
    """Fit a context: dense layers, Adam with decoupled weight decay, a cosine down to nothing.

    Args:
        features: (N, F).
        digit: bool (N,), what each place is.
        seed: of the first weights and the order.
    """
    import_keras()
    import keras

    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(units, activation="relu") for units in HIDDEN]
    network = keras.Sequential([keras.layers.Input((features.shape[1],)), *layers, keras.layers.Dense(1)])
    steps = EPOCHS * -(-len(features) // BATCH_SIZE)
    rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
    network.compile(
        keras.optimizers.AdamW(rate, weight_decay=WEIGHT_DECAY), keras.losses.BinaryCrossentropy(from_logits=True)
    )
    scaled = ((features - mean) / spread).astype(np.float32)
    network.fit(scaled, digit.astype(np.float32), batch_size=BATCH_SIZE, epochs=EPOCHS, verbose=0)
    weights = [np.asarray(weight, np.float64) for weight in network.get_weights()]
    return Context(mean, spread, tuple(zip(weights[::2], weights[1::2], strict=True)))


def store(folder: Path, outcome: Outcome, *, seed: int = SEED) -> None:
    """Write a context into the card of the detector in a folder.

    Raises:
        ModelError: the model disagrees with its card.
    """
    card = models.load_card(folder)
    learnt = {
        "sheets": outcome.sheets,
        "places": outcome.places,
        "seed": seed,
        "loss_before": round(outcome.before, context.DECIMALS),
        "loss_after": round(outcome.after, context.DECIMALS),
    }
    models.write_card(folder, {**card.content, "context": {**outcome.context.to_card(), "fitted_on": learnt}})


def _loss(seen: NDArray[np.float64], digit: NDArray[np.bool_]) -> float:
    """Mean negative log likelihood of what places are."""
    bounded = np.clip(seen, context.LEAST, context.MOST)
    return float(-np.log(np.where(digit, bounded, 1 - bounded)).mean())
