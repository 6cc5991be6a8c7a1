"""Networks in 8 bits: what is rounded, and that both files of a model round alike. Imports TensorFlow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from digitize import models
from digitize.engine import Engine

# Keras 3 hands NumPy 2 arrays of TensorFlow's that know nothing of `copy`; nothing of ours can be done about it.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

TILES = 200


def blotted(count: int, seed: int) -> np.ndarray:
    """Tiles of squares: uint8 (count, 28, 28, 2)."""
    return np.random.default_rng(seed).choice([0, 255], (count, 7, 7, 2)).repeat(4, 1).repeat(4, 2).astype(np.uint8)


@pytest.fixture(scope="module")
def network() -> Any:
    """A `duet` whose norms have seen something, as after training."""
    import keras

    from digitize import network

    keras.utils.set_random_seed(1)
    model = network.build("duet")
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    labels = np.arange(256) % 11
    for seed in range(20):
        model.train_on_batch(blotted(256, seed), labels)
    return network.with_softmax(model)


@pytest.fixture(scope="module")
def rounded(network: Any) -> Any:
    from digitize import quantize

    return quantize.quantized(network, blotted(TILES, 100))


def test_it_says_nearly_the_same(network: Any, rounded: Any) -> None:
    tiles = blotted(TILES, 101)
    before, after = (np.asarray(one.predict(tiles, verbose=0)) for one in (network, rounded))
    assert 0 < np.abs(before - after).max() < 0.1
    assert np.abs(before - after).mean() < 0.005


def test_weights_are_whole_numbers_once_the_norm_is_in_them(network: Any, rounded: Any) -> None:
    import keras

    norms = [layer for layer in rounded.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(norms) == 8
    for norm in norms:
        gamma, _, _, variance = norm.get_weights()
        [weights] = norm.input._keras_history.operation.get_weights()
        folded = weights * gamma / np.sqrt(variance + norm.epsilon)
        steps = folded / (np.abs(folded).max(axis=(0, 1, 2)) / 127)
        assert np.abs(steps - np.rint(steps)).max() < 1e-3
    assert [one.shape for one in rounded.get_weights()] == [one.shape for one in network.get_weights()]


def test_activations_have_256_values_at_most(rounded: Any) -> None:
    import keras

    first, *_, last = [layer for layer in rounded.layers if isinstance(layer, keras.layers.Conv2D)]
    given = keras.Model(rounded.input, [first.input, last.input]).predict(blotted(TILES, 102), verbose=0)
    assert len(np.unique(given[0])) == 2
    assert 16 < len(np.unique(given[1])) <= 256


def test_both_files_answer_alike(rounded: Any, tmp_path: Path) -> None:
    import keras
    from ai_edge_litert.interpreter import Interpreter

    from digitize import train

    train.export(rounded, tmp_path, bits=8)
    lite = Interpreter(model_path=str(tmp_path / models.TFLITE_FILE))
    filters = [one for one in lite.get_tensor_details() if len(one["shape"]) == 4 and one["dtype"] == np.int8]
    assert len(filters) >= 8
    content = {"name": "rounded", "network": "duet", "views": 2, "calibration": {"temperature": 1.0}}
    models.write_card(tmp_path, {**content, "classes": [*models.DIGIT_CLASSES, models.NONE_CLASS]})
    engine = Engine(tmp_path, task="classify", device="cpu", threads=1, batch_size=TILES, piece_size=25)
    tiles = blotted(TILES, 103)
    full = keras.models.load_model(tmp_path / models.KERAS_FILE, compile=False).predict(tiles, verbose=0)
    difference = np.abs(engine.run(tiles) - full).max(axis=1)
    assert np.median(difference) < 1e-6
    assert (difference < 1e-3).mean() > 0.95
    assert difference.max() < 0.02
