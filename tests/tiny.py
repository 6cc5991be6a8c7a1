"""A network so small that training it is quick, and digits that it can learn; also a program that trains it.

Run as a program it trains in the folder given first on the MNIST given second, or a detector on the drills given
second, with what else `runs.run` is told by name, and says on stderr what the command line would say.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from stub import draw_digit

from digitize.normalise import fit_digit

EPOCHS, BATCH = 4, 16


def tiny(classes: int) -> Any:
    """Convolution, batch norm, dropout: all that has a state of its own."""
    from keras import Model, layers

    tiles = layers.Input((28, 28, 2), name="tiles")
    x = layers.Conv2D(4, 5, strides=3)(layers.Rescaling(1 / 255)(tiles))
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.Dropout(0.2)(layers.Flatten()(x))
    return Model(tiles, layers.Dense(classes, dtype="float32", name="logits")(x), name="tiny")


def add_tiny() -> None:
    """Let the tiny network be found by name."""
    from digitize import network

    network.NETWORKS["tiny"] = (tiny, 11)


def write_mnist(folder: Path, train: int = 300, test: int = 60) -> Path:
    """MNIST's four files of drawn digits, each moved and dimmed a little by chance."""
    rng = np.random.default_rng(5)
    forms = [[fit_digit(draw_digit(digit, 60, pen=pen) > 99) for pen in (5.0, 7.0, 9.0)] for digit in range(10)]
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", train), ("t10k", test)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = np.stack([np.roll(forms[label][rng.integers(3)], rng.integers(-1, 2, 2), (0, 1)) for label in labels])
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (folder / f"{part}-{name}-ubyte").write_bytes(header + array.tobytes())
    return folder


def options(output: Path, mnist: Path, **changes: Any) -> Any:
    """What to train: a few steps of the tiny network."""
    from digitize.corpora import Source
    from digitize.train import Options

    given = {
        "network": "tiny",
        "epochs": EPOCHS,
        "batch_size": BATCH,
        "learning_rate": 5e-3,
        "seed": 3,
        "device": "cpu",
    }
    return Options(output, data=(Source(mnist),), **{**given, **changes})


def detector_options(output: Path, drills: Path, **changes: Any) -> Any:
    """What to train: the detector, for seven steps, with a record each third and a checkpoint each second."""
    from digitize import train_detector

    train_detector.REPORT_EVERY, train_detector.Course.CHECKPOINT_EVERY, train_detector.VALIDATION_BLOCKS = 3, 2, 2
    given = {"steps": 7, "batch_size": 2, "seed": 3, "device": "cpu"}
    return train_detector.Options(output, (drills,), drills, **{**given, **changes})


def weights(folder: Path) -> list[np.ndarray]:
    """Of a model's Keras file."""
    import keras

    return [np.asarray(one) for one in keras.models.load_model(folder / "model.keras", compile=False).get_weights()]


if __name__ == "__main__":
    from digitize import runs

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    add_tiny()
    folder, learnt = Path(sys.argv[1]), Path(sys.argv[2])
    wanted = options(folder, learnt) if learnt.is_dir() else detector_options(folder, learnt)
    runs.run(wanted, **dict.fromkeys(sys.argv[3:], True))
