"""Measures a model on labelled digits, through the same files and the same code that scanning uses."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from digitize import models
from digitize.classify import Classifier
from digitize.context import Context
from digitize.datasets import as_tiles
from digitize.engine import Engine, import_keras, load_keras
from digitize.errors import DatasetError, ModelError
from digitize.records import NO_DIGIT, Probabilities, Tiles

KERAS_BATCH = 1024  # tiles
PARITY = 1e-3  # greatest difference of a probability between a classifier's two files
# Of one that is rounded: share of tiles that may differ more, and on which another digit may be named; one in any case.
TIPPED, OTHERWISE = 0.05, 0.005
DETECTOR_ALIKE = 0.99  # least correlation of the answers of a detector's two files
MOST_BLOTS, DETECTOR_BLOTS = 1000, 8
BLOT_SEED, BLOT_SIZE = 7, 2.0  # the second in pixels, standard deviation of the blur
LEAST = 1e-7  # probability below which a loss does not grow: float32 does not tell such from 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an evaluation.

    Attributes:
        accuracy: share of images whose likeliest class is their label; "no digit" is a class where the model has it.
        digit_accuracy: the same among the ten digits alone, for images known to be digits.
        confusion: int64 (classes, classes), [label, answer].
        digits_a_second: images through the classifier each second, on this machine.
        loss: mean negative log likelihood of the labels.
        probabilities: float32 (N, classes), what was answered.
    """

    accuracy: float
    digit_accuracy: float
    confusion: NDArray[np.int64] = field(repr=False)
    digits_a_second: float = field(repr=False)
    loss: float
    probabilities: Probabilities = field(repr=False)


def evaluate(folder: Path, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Outcome:
    """Run labelled images through a model's tflite file.

    Args:
        folder: a model folder.
        images: uint8 (N, 28, 28), as MNIST's, taken with blank surroundings; or tiles (N, 28, 28, 2).
        labels: uint8 (N,), below the model's number of classes.

    Returns:
        Accuracy, confusion and speed.

    Raises:
        ModelError: the model is missing or disagrees with its card.
        DatasetError: the model does not know a label's class.
        ValueError: there are no images, or not as many labels.
    """
    if len(images) == 0 or len(images) != len(labels):
        raise ValueError(f"{len(images)} images and {len(labels)} labels: as many of both are needed, and at least one")
    classifier = Classifier(folder, device="cpu")
    if labels.max() >= classifier.classes:
        raise DatasetError(
            f"there are labels up to {labels.max()}, and {folder} knows {classifier.classes} classes: choose another"
        )
    began = time.perf_counter()
    probabilities = classifier.probabilities(as_tiles(images))
    seconds = time.perf_counter() - began
    answers = probabilities.argmax(axis=1)
    classes = probabilities.shape[1]
    confusion = np.bincount(labels.astype(np.int64) * classes + answers, minlength=classes**2)
    return Outcome(
        accuracy=float((answers == labels).mean()),
        digit_accuracy=float((probabilities[:, :NO_DIGIT].argmax(axis=1) == labels).mean()),
        confusion=confusion.reshape(classes, classes).astype(np.int64),
        digits_a_second=len(images) / max(seconds, 1e-9),
        loss=log_loss(probabilities, labels),
        probabilities=probabilities,
    )


def log_loss(probabilities: Probabilities, labels: NDArray[np.uint8]) -> float:
    """Mean negative log likelihood of labels under probabilities float32 (N, classes)."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], LEAST)).mean())


def keras_probabilities(folder: Path, tiles: Tiles) -> Probabilities:
    """What a model's Keras file gives on the CPU, as a GPU may round to 10 bits (TF32): float32 (N, classes)."""
    import keras

    card = models.load_card(folder)
    with keras.device("cpu"):
        model = load_keras(folder, card)
        return np.asarray(model.predict(tiles[..., : card.views], batch_size=KERAS_BATCH, verbose=0), np.float32)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How alike a model's two files answer.

    Attributes:
        tiles: how many were classified.
        different: on how many the likeliest class differs.
        close: on how many all probabilities are alike to within `PARITY`.
        largest: greatest difference of a probability.
        devices: what ran the Keras file, and what ran the tflite file.
    """

    tiles: int
    different: int
    close: int
    largest: float
    devices: tuple[str, str]

    def __str__(self) -> str:
        return (
            f"{self.devices[0]} and {self.devices[1]} agree on {self.tiles - self.different} of {self.tiles} tiles, "
            f"probabilities within {self.largest:.1e}, of {self.close} within {PARITY:g}"
        )


def verify(folder: Path, images: NDArray[np.uint8] | None = None, *, count: int = 1000) -> str:
    """Hold a model's tflite file to its Keras file.

    Args:
        folder: a model folder.
        images: uint8 (N, 28, 28), or tiles (N, 28, 28, 2), to compare a classifier on; where None, blots of ink. A
            detector is compared on blots always.
        count: how many blots a classifier is shown, at most.

    Returns:
        How alike they are, in words.

    Raises:
        ModelError: the model disagrees with its card, or its files with one another.
    """
    card = models.load_card(folder)
    import_keras()
    if card.task == "detect":
        return _verify_detector(folder, card)
    from digitize import network

    found = agreement(folder, blots(min(count, MOST_BLOTS), card.takes[:2]) if images is None else images)
    tipped, otherwise = (TIPPED, OTHERWISE) if card.network in network.ROUNDED else (0.0, 0.0)
    apart = found.tiles - found.close
    if apart > math.ceil(tipped * found.tiles) or found.different > math.ceil(otherwise * found.tiles):
        raise ModelError(f"{folder}: its two files disagree ({found}): export it again, or restore it")
    return str(found)


def _verify_detector(folder: Path, card: models.Card) -> str:
    """The weights of a detector's tflite file have 8 bits, so its answers are compared as a whole."""
    Context.from_card(card.content, card.path)
    items = blots(DETECTOR_BLOTS, card.takes[:2])[..., None]
    model = load_keras(folder, card)
    full = np.asarray(model.predict_on_batch(items), np.float32).ravel()
    engine = Engine(folder, task="detect", device="cpu", threads=None, batch_size=len(items), piece_size=1)
    alike = float(np.corrcoef(engine.run(items).ravel(), full)[0, 1])
    if not alike > DETECTOR_ALIKE:
        raise ModelError(f"{folder}: its two files disagree (correlation {alike:.3f}): export it again, or restore it")
    return f"Keras and LiteRT agree on {len(items)} blocks, correlation {alike:.4f}"


def blots(count: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Ink to compare two files on where no digits are at hand: blurred noise, uint8 (count, rows, columns), seeded."""
    noise = np.random.default_rng(BLOT_SEED).random((count, *shape)).astype(np.float32)
    rows, columns = shape
    blurred = np.stack([cv2.GaussianBlur(one, (0, 0), BLOT_SIZE) for one in noise]).reshape(count, rows, columns)
    return np.where(blurred > np.median(blurred) + blurred.std() / 2, 255, 0).astype(np.uint8)


def agreement(folder: Path, images: NDArray[np.uint8], *, device: str = "cpu") -> Agreement:
    """Classify the same digits with a model's Keras file and with its tflite file.

    Args:
        folder: a model folder.
        images: uint8 (N, 28, 28), or tiles (N, 28, 28, 2).
        device: what runs the Keras file: "cpu", or "gpu" or "gpu:N" as in scanning.

    Returns:
        How alike they are; they are meant to name the same digits, with probabilities within 1e-3 on nearly all tiles.

    Raises:
        ModelError: the model is missing or disagrees with its card.
        DeviceError: the named device is not there.
    """
    tiles = as_tiles(images)
    lite = Classifier(folder, device="cpu")
    if device == "cpu":
        where, other = "CPU, Keras", keras_probabilities(folder, tiles)
    else:
        full = Classifier(folder, device=device)
        where, other = full.description, full.probabilities(tiles)
    one = lite.probabilities(tiles)
    difference = np.abs(one - other).max(axis=1)
    return Agreement(
        tiles=len(tiles),
        different=int((one.argmax(axis=1) != other.argmax(axis=1)).sum()),
        close=int((difference <= PARITY).sum()),
        largest=float(difference.max()),
        devices=(where, lite.description),
    )
