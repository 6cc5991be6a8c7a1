"""Measures a model on labelled digits, through the same files and the same code that scanning uses."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from digitize import models
from digitize.classify import Classifier
from digitize.records import NO_DIGIT, Probabilities, Tiles

KERAS_BATCH = 1024  # tiles


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an evaluation.

    Attributes:
        accuracy: share of images whose likeliest class is their label; "no digit" is a class where the model has it.
        digit_accuracy: the same among the ten digits alone, for images known to be digits.
        confusion: int64 (classes, classes), [label, answer].
        digits_a_second: images through the classifier each second, on this machine.
    """

    accuracy: float
    digit_accuracy: float
    confusion: NDArray[np.int64] = field(repr=False)
    digits_a_second: float = field(repr=False)


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
        ValueError: there are no images, or not as many labels.
    """
    if len(images) == 0 or len(images) != len(labels):
        raise ValueError(f"{len(images)} images and {len(labels)} labels: as many of both are needed, and at least one")
    classifier = Classifier(folder, device="cpu")
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
    )


def keras_probabilities(folder: Path, tiles: Tiles) -> Probabilities:
    """What a model's Keras file gives, on whatever device Keras takes: float32 (N, classes)."""
    import keras

    views = models.load_card(folder).views
    model = keras.models.load_model(folder / models.KERAS_FILE, compile=False)
    return np.asarray(model.predict(tiles[..., :views], batch_size=KERAS_BATCH, verbose=0), np.float32)


def as_tiles(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give images (N, 28, 28) blank surroundings: tiles (N, 28, 28, 2); tiles are returned as they are."""
    if images.ndim == 4:
        return images
    return np.stack([images, np.zeros_like(images)], axis=-1)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How alike a model's two files answer.

    Attributes:
        tiles: how many were classified.
        different: on how many the likeliest class differs.
        largest: greatest difference of a probability.
        devices: what ran the Keras file, and what ran the tflite file.
    """

    tiles: int
    different: int
    largest: float
    devices: tuple[str, str]


def agreement(folder: Path, images: NDArray[np.uint8], *, device: str = "cpu") -> Agreement:
    """Classify the same digits with a model's Keras file and with its tflite file.

    Args:
        folder: a model folder.
        images: uint8 (N, 28, 28), or tiles (N, 28, 28, 2).
        device: what runs the Keras file, "gpu" or "gpu:N" as in scanning, or "cpu", Keras's own.

    Returns:
        How alike they are; they are meant to name the same digits, with probabilities within 1e-3.

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
    return Agreement(
        tiles=len(tiles),
        different=int((one.argmax(axis=1) != other.argmax(axis=1)).sum()),
        largest=float(np.abs(one - other).max()),
        devices=(where, lite.description),
    )
