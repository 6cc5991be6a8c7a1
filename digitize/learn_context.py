"""Fits a detector's context (`context.py`) on made sheets: which of its places are digits, page by page.

The sheets are of writers and fonts that the detector was not trained on, since it is surer of those it knows. All kinds
are drawn, pages without a digit among them; lone digits and dirt more often than the maker weighs them, for a picture
of one gives one example where a table gives a hundred, and forms, for they are what is mostly scanned. Made sheets are
small: every other one counts as lying on a larger sheet of blank paper, and each is seen once more as a part of a page
that is put together from several, as a page of an archive has far more on it than a made sheet. The few thousand
weights see where places lie and how likely they are, and no ink.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
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
from digitize.records import Box, Page, Place
from digitize.scan import Scanner, Settings, page_box

KIND_FACTORS = {"single": 3, "dirt": 2, "form": 3}  # how much oftener than the maker draws them
KIND_WEIGHTS = {kind: weight * KIND_FACTORS.get(kind, 1) for kind, weight in WEIGHTS.items()}
SEED = 41  # neither the lessons', nor the calibration's, nor the ablation's
HIDDEN, DROPOUT = (32, 16), 0.1  # units, and share of them left out in a step
NOISE = 0.1  # standard deviation of what is added to each number in training: pages are not quite like made ones
MEMBERS = 4  # networks whose mean is taken: alone they agree on made sheets, and differ on what is unlike these
EPOCHS, BATCH_SIZE = 12, 1024
LEAST_SPREAD = 0.01  # of a number that hardly differs from place to place
LARGER, LARGEST = 0.5, 40.0  # share of sheets that count as part of a larger one; times its sides at most
FEWEST_SHEETS, MOST_SHEETS = 2, 16  # that a page is put together from, evenly in the logarithm
MIXED = 0.3  # share of sheets that are put together with such of other kinds
PAGE_UNIT, UNEVEN = 40.0, 0.12  # pixels: digit height on such a page; standard deviation of its log from sheet to sheet
MOST_ZOOM = 4.0  # by which a sheet is made larger or smaller for it
LEARNING_RATE, WEIGHT_DECAY = 4e-3, 1e-2
DECIMALS = 4  # of the losses in a card
JUDGED = 10  # every so many-th sheet is kept to tell how good it is

Layer = tuple[NDArray[np.float64], NDArray[np.float64]]  # weights (inputs, outputs), biases (outputs,)


@dataclass(frozen=True, slots=True)
class Examples:
    """The places that a detector saw on sheets whose truth is known, each by itself and among other sheets.

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
            the context; each is judged on its sheet by itself and on a page with others.
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
        raise DatasetError(f"too few places were seen on {count} made sheets to learn from: make more")
    judged = fit(examples.features[~kept], examples.digit[~kept], seed=seed)
    return Outcome(
        context=fit(examples.features, examples.digit, seed=seed),
        sheets=examples.sheets,
        places=len(kept) // 2,
        before=_loss(examples.seen[kept], examples.digit[kept]),
        after=_loss(judged.probabilities(examples.features[kept]), examples.digit[kept]),
    )


def gather(scanner: Scanner, made: Iterable[MadePage], *, seed: int = SEED) -> Examples:
    """Look at made sheets, and put them together to pages; a place is a digit's where it is matched with one.

    Args:
        scanner: with the detector.
        made: the sheets.
        seed: of how large a sheet each is part of, and of the pages that they are put together to.
    """
    sheets = [_look_at(scanner, page) for page in made]
    rng = np.random.default_rng(seed)
    told, numbers = [context.features([], (1, 1))], list(range(len(sheets)))
    for sheet in sheets:
        larger = np.exp(rng.uniform(0, np.log(LARGEST), 2)) if rng.random() < LARGER else np.ones(2)
        rows, columns = np.rint(sheet.shape * larger).astype(int).tolist()
        told.append(context.features(sheet.places, (rows, columns)))
    for group in _groups([sheet.kind for sheet in sheets], rng):
        told.append(context.features(*_together([sheets[k] for k in group], rng)))
        numbers += group
    return Examples(
        features=np.concatenate(told),
        seen=np.array([place.seen for k in numbers for place in sheets[k].places], float),
        digit=np.array([hit for k in numbers for hit in sheets[k].hits], bool),
        sheet=np.array([k for k in numbers for _ in sheets[k].places], np.int64),
        sheets=len(sheets),
    )


@dataclass(frozen=True, slots=True)
class _Sheet:
    """What a detector saw on a made sheet.

    Attributes:
        kind: of the sheet.
        shape: (h, w) in working pixels.
        height: of what was seen, the likelier the more it counts, or else of its writing, in working pixels.
        places: all that was seen.
        hits: for each, whether it is at a true digit.
    """

    kind: str
    shape: tuple[int, int]
    height: float
    places: list[Place] = field(repr=False)
    hits: list[bool] = field(repr=False)


def _look_at(scanner: Scanner, made: MadePage) -> _Sheet:
    """What the scanner's detector sees on a made sheet.

    The height goes by what was seen and not by the truth: brought to one size by that, a page would tell what is true.
    """
    draft = scanner.offer(Page("made", 1, made.gray))
    height, width = made.gray.shape
    boxes = [page_box(place.box, draft.ink.scale, width, height) for place in draft.places]
    hit = {j for _, j in match_boxes([digit.box for digit in made.digits], boxes)}
    logs = [place.seen * math.log(place.box.height) for place in draft.places]
    tall = math.exp(sum(logs) / sum(place.seen for place in draft.places)) if logs else draft.ink.height
    places = [replace(place, digits=place.digits.copy()) for place in draft.places]  # not a view of all peaks
    rows, columns = draft.ink.pen.shape
    return _Sheet(made.kind, (rows, columns), tall, places, [k in hit for k in range(len(boxes))])


def _groups(kinds: Sequence[str], rng: np.random.Generator) -> Iterator[list[int]]:
    """Which sheets make a page: mostly such of one kind, and none that is kept to judge by with one that is not."""
    pools: dict[tuple[bool, str], list[int]] = {}
    for k in rng.permutation(len(kinds)).tolist():
        kind = "" if rng.random() < MIXED else kinds[k]
        pools.setdefault((k % JUDGED == JUDGED - 1, kind), []).append(k)
    for pool in pools.values():
        while pool:
            count = round(math.exp(rng.uniform(math.log(FEWEST_SHEETS), math.log(MOST_SHEETS))))
            yield pool[:count]
            del pool[:count]


def _together(sheets: Sequence[_Sheet], rng: np.random.Generator) -> tuple[list[Place], tuple[int, int]]:
    """The places on a page with several sheets on it, row by row, in about one size of writing; and its (h, w)."""
    zooms = [
        float(np.clip(PAGE_UNIT / sheet.height, 1 / MOST_ZOOM, MOST_ZOOM)) * math.exp(rng.normal(0, UNEVEN))
        for sheet in sheets
    ]
    sizes = [(zoom * sheet.shape[0], zoom * sheet.shape[1]) for zoom, sheet in zip(zooms, sheets, strict=True)]
    width = max(math.sqrt(sum(h * w for h, w in sizes)), *(w for _, w in sizes))
    places: list[Place] = []
    left = top = bottom = 0.0
    for zoom, (tall, wide), sheet in zip(zooms, sizes, sheets, strict=True):
        if left + wide > width:
            left, top = 0.0, bottom
        places += [replace(place, box=_moved(place.box, zoom, left, top)) for place in sheet.places]
        left, bottom = left + wide, max(bottom, top + tall)
    return places, (math.ceil(bottom), math.ceil(width))


def _moved(box: Box, zoom: float, left: float, top: float) -> Box:
    """A box in another size, at another place."""
    width, height = max(1, round(zoom * box.width)), max(1, round(zoom * box.height))
    return Box(round(left + zoom * box.left), round(top + zoom * box.top), width, height)


def fit(features: NDArray[np.float64], digit: NDArray[np.bool_], *, seed: int = SEED) -> Context:
    """Fit a context: the mean of several networks of dense layers, as of their log odds.

    Args:
        features: (N, F).
        digit: bool (N,), what each place is.
        seed: of the first weights and the order.
    """
    mean, spread = features.mean(axis=0), np.maximum(features.std(axis=0), LEAST_SPREAD)
    scaled = ((features - mean) / spread).astype(np.float32)
    members = [_fit_member(scaled, digit.astype(np.float32), seed + k) for k in range(MEMBERS)]
    return Context(mean, spread, _side_by_side(members))


def _fit_member(features: NDArray[np.float32], digit: NDArray[np.float32], seed: int) -> list[Layer]:
    """Fit one network: Adam with decoupled weight decay, a cosine down to nothing."""
    import_keras()
    import keras

    keras.utils.set_random_seed(seed)
    network = keras.Sequential([keras.layers.Input((features.shape[1],)), keras.layers.GaussianNoise(NOISE)])
    for units in HIDDEN:
        network.add(keras.layers.Dense(units, activation="relu"))
        network.add(keras.layers.Dropout(DROPOUT))
    network.add(keras.layers.Dense(1))
    steps = EPOCHS * -(-len(features) // BATCH_SIZE)
    rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
    network.compile(
        keras.optimizers.AdamW(rate, weight_decay=WEIGHT_DECAY), keras.losses.BinaryCrossentropy(from_logits=True)
    )
    network.fit(features, digit, batch_size=BATCH_SIZE, epochs=EPOCHS, verbose=0)
    weights = [np.asarray(weight, np.float64) for weight in network.get_weights()]
    return list(zip(weights[::2], weights[1::2], strict=True))


def _side_by_side(members: Sequence[list[Layer]]) -> tuple[Layer, ...]:
    """Layers that give the mean of what several networks give; none has to do with another's units.

    Args:
        members: of each its layers, two or more: weights (inputs, outputs) and biases (outputs,).
    """
    first, *middle, last = zip(*members, strict=True)
    joined = [(np.concatenate([w for w, _ in first], axis=1), np.concatenate([b for _, b in first]))]
    for layers in middle:
        rows, columns = layers[0][0].shape
        weights = np.zeros((rows * len(layers), columns * len(layers)))
        for k, (own, _) in enumerate(layers):
            weights[k * rows : (k + 1) * rows, k * columns : (k + 1) * columns] = own
        joined.append((weights, np.concatenate([b for _, b in layers])))
    joined.append((np.concatenate([w for w, _ in last]) / len(last), np.mean([b for _, b in last], axis=0)))
    return tuple(joined)


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
