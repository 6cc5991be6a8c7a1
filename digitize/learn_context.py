"""Fits a detector's context (`context.py`) on made sheets: which of its places are digits, page by page.

The sheets are of writers and fonts that the detector was not trained on, since it is surer of those it knows. All kinds
are drawn, pages without a digit among them; lone digits and dirt more often than the maker weighs them, for a picture
of one gives one example where a table gives a hundred. Made sheets are small: every other one counts as lying on a
larger sheet of blank paper. The few thousand weights see where places lie and how likely they are, and no ink.
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
LEAST_SPREAD = 0.01  # of a number that hardly differs from place to place
LARGER, LARGEST = 0.5, 40.0  # share of sheets that count as part of a larger one; times its sides at most
LEARNING_RATE, WEIGHT_DECAY = 3e-3, 1e-2
DECIMALS = 4  # of the losses in a card
JUDGED = 10  # every so many-th sheet is kept to tell how good it is


_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Examples:
    """The places that a detector saw on sheets whose truth is known.

    Attributes:
        features: float64 (N, F), see `context.features`.
        seen: float64 (N,), how likely the detector thought each.
        digit: bool (N,), whether it is at a true digit.
        sheet: int64 (N,), which sheet it is on, from 0.
        sheets: how many there were.
    """

    features: NDArray[np.float64] = field(repr=False)
    seen: NDArray[np.float64] = field(repr=False)
    digit: NDArray[np.bool_] = field(repr=False)
    sheet: NDArray[np.int64] = field(repr=False)
    sheets: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """A fitted context, and how good another is that was fitted alike on nine tenths of the sheets.

    Attributes:
        context: what was fitted, on all sheets.
        sheets, places: how many there were.
        before, after: mean negative log likelihood of what the places of the other tenth are, by the detector and by
            the context.
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
        OutputError: the card cannot be written.
        DatasetError: as for `learn`.
    """
    models.require_writable(detector)
    scanner = Scanner(
        Classifier(model, device="cpu"),
        detector=Detector(detector, device="cpu", weighs=False),
        settings=Settings(rotate="off"),
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
    made = made_sheets(sources, count, seed=seed, jobs=jobs, weights=KIND_WEIGHTS)
    examples = gather(scanner, made, seed=seed)
    kept = examples.sheet % JUDGED == JUDGED - 1
    if not kept.any() or not examples.digit[~kept].any():
        raise DatasetError(f"{len(kept)} places were seen on {count} made sheets, too few to learn from: make more")
    judged = fit(examples.features[~kept], examples.digit[~kept], seed=seed)
    return Outcome(
        context=fit(examples.features, examples.digit, seed=seed),
        sheets=examples.sheets,
        places=len(kept),
        before=_loss(examples.seen[kept], examples.digit[kept]),
        after=_loss(judged.probabilities(examples.features[kept]), examples.digit[kept]),
    )


def gather(scanner: Scanner, made: Iterable[MadePage], *, seed: int = SEED) -> Examples:
    """Look at made sheets; a place is a digit's where it is matched with one.

    Args:
        scanner: with the detector.
        made: the sheets.
        seed: of how large a sheet each is part of.
    """
    rng = np.random.default_rng(seed)
    features, seen, digit, sheet = [context.features([], (1, 1))], [np.zeros(0)], [np.zeros(0, bool)], [_NONE]
    number = -1
    for number, page in enumerate(made):
        draft = scanner.offer(Page("made", 1, page.gray))
        height, width = page.gray.shape
        boxes = [page_box(place.box, draft.ink.scale, width, height) for place in draft.places]
        hit = np.zeros(len(boxes), bool)
        hit[[j for _, j in match_boxes([one.box for one in page.digits], boxes)]] = True
        larger = rng.uniform(0, np.log(LARGEST), 2) if rng.random() < LARGER else np.zeros(2)
        rows, columns = np.rint(draft.ink.pen.shape * np.exp(larger)).astype(int).tolist()
        features.append(context.features(draft.places, (rows, columns)))
        seen.append(np.array([place.seen for place in draft.places], float))
        digit.append(hit)
        sheet.append(np.full(len(boxes), number))
    return Examples(
        features=np.concatenate(features),
        seen=np.concatenate(seen),
        digit=np.concatenate(digit),
        sheet=np.concatenate(sheet),
        sheets=number + 1,
    )


def fit(features: NDArray[np.float64], digit: NDArray[np.bool_], *, seed: int = SEED) -> Context:
    """Fit a context: dense layers, Adam with decoupled weight decay, a cosine down to nothing.

    Args:
        features: (N, F).
        digit: bool (N,), what each place is.
        seed: of the first weights and the order.
    """
    import_keras()
    import keras

    mean, spread = features.mean(axis=0), np.maximum(features.std(axis=0), LEAST_SPREAD)
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
        ModelError: the model disagrees with its card, or nothing usable was fitted.
        OutputError: the card cannot be written.
    """
    card = models.load_card(folder)
    learnt = {
        "sheets": outcome.sheets,
        "places": outcome.places,
        "seed": seed,
        "loss_before": round(outcome.before, DECIMALS),
        "loss_after": round(outcome.after, DECIMALS),
    }
    content = {**card.content, "context": {**outcome.context.to_card(), "fitted_on": learnt}}
    Context.from_card(content, card.path)
    models.update_card(folder, content)


def _loss(seen: NDArray[np.float64], digit: NDArray[np.bool_]) -> float:
    """Mean negative log likelihood of what places are."""
    bounded = np.clip(seen, context.LEAST, context.MOST)
    return float(-np.log(np.where(digit, bounded, 1 - bounded)).mean())
