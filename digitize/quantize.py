"""Brings a trained network to 8-bit arithmetic, alike in both files of a model.

On a CPU, LiteRT computes in 8 bits three times as fast as in 32. What it rounds is rounded here, in Keras: weights
once, and activations wherever a layer hands them on. So the Keras file, which a GPU runs, answers as the tflite file
does, and what was measured of one holds for the other. They differ where an activation lies on the edge between two
values and tips over in one of them: on one tile in a hundred, most often by less than 1e-4.

Weights have a scale for each filter, activations one for each layer (Jacob et al. 2018, "Quantization and training of
neural networks for efficient integer-arithmetic-only inference"): from 0, which is what a ReLU gives at least, to
nearly the most that some tiles give rise to. What comes behind the last pooling, whose means are rounded too, stays in
32 bits: it costs nothing, and probabilities in 256 steps could not tell 0.9 % from 0.6 %.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from digitize.records import Tiles

LARGEST_WEIGHT, LARGEST_ACTIVATION = 127, 255  # of 8 bits: on both sides of 0, and from 0
KEPT = 0.8  # of the largest activation; to cut off the rest and take finer steps moved validation digits least
LEAST_RANGE = 0.1  # of an activation: one that is always 0, as in a second view that shows nothing, has a scale, too
BATCH = 256  # tiles


def quantized(model: Any, tiles: Tiles) -> Any:
    """Round a network's weights, and its activations while it runs, to 8 bits.

    Args:
        model: a `keras.Model` that begins with a `Rescaling` to 0..1, of convolutions without a bias, each followed by
            batch norm and a ReLU; slices and concatenations may lie between, and global pooling behind the last.
        tiles: uint8 (N, 28, 28, views), which show how large activations get: digits, and what else it will be shown.

    Returns:
        Another `keras.Model` of the same layers. The converter to tflite makes 8-bit operations of it.
    """
    most = _ranges(model, tiles)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        given = layer(*args, **kwargs)
        if layer.name not in most:
            return given
        return keras.quantizers.fake_quant_with_min_max_vars(given, 0.0, most[layer.name])

    rounded = keras.models.clone_model(model, call_function=call)
    rounded.set_weights(model.get_weights())
    for layer in rounded.layers:
        if isinstance(layer, layers.BatchNormalization):
            convolution = _maker(layer.input)
            _round_weights(convolution, layer, _range(convolution.input, most) / LARGEST_ACTIVATION)
    return rounded


def _ranges(model: Any, tiles: Tiles) -> dict[str, float]:
    """The largest activation that is kept of each layer that is rounded, by its name."""
    relus = [layer for layer in model.layers if isinstance(layer, layers.ReLU)]
    probe = keras.Model(model.input, [keras.ops.max(layer.output) for layer in relus])
    batches = [tiles[start : start + BATCH] for start in range(0, len(tiles), BATCH)]
    seen = np.array([[float(value) for value in probe(batch, training=False)] for batch in batches]).max(axis=0)
    most = {layer.name: max(LEAST_RANGE, KEPT * float(value)) for layer, value in zip(relus, seen, strict=True)}
    for layer in model.layers:
        if isinstance(layer, layers.Rescaling) and isinstance(_maker(layer.input), layers.InputLayer):
            most[layer.name] = 1.0
        elif isinstance(layer, layers.Concatenate):  # one scale for its parts, or they would be rounded once more
            parts = [part.name for part in map(_maker, layer.input) if part.name in most]
            most.update(dict.fromkeys(parts, max((most[part] for part in parts), default=0.0)))
        elif isinstance(layer, layers.GlobalAveragePooling2D):
            most[layer.name] = most[_maker(layer.input).name]
    return most


def _maker(tensor: Any) -> Any:
    """The layer that a tensor of a model comes out of."""
    return tensor._keras_history.operation


def _range(tensor: Any, most: dict[str, float]) -> float:
    """The largest activation of a tensor, which may be a slice or a concatenation of rounded ones."""
    maker = _maker(tensor)
    if maker.name in most:
        return most[maker.name]
    given = maker.input
    return _range(given[0] if isinstance(given, list) else given, most)


def _round_weights(convolution: Any, norm: Any, unit: float) -> None:
    """Round a convolution so that with the norm's gain and offset in it, as in the tflite file, it is of whole numbers.

    Args:
        convolution: its filters get 8 bits each weight.
        norm: the batch norm behind it; what it adds is rounded to whole multiples of a weight times an activation.
        unit: of the activations that go in.
    """
    gamma, beta, mean, variance = norm.get_weights()
    [weights] = convolution.get_weights()
    gain = gamma / np.sqrt(variance + norm.epsilon)
    step = np.abs(weights * gain).max(axis=(0, 1, 2)) / LARGEST_WEIGHT
    with np.errstate(divide="ignore", invalid="ignore"):
        rounded = np.rint(weights * gain / step) * step / gain
        added = np.rint((beta - mean * gain) / (unit * step)) * unit * step
    convolution.set_weights([np.where(step > 0, rounded, weights).astype(np.float32)])
    norm.set_weights([gamma, np.where(step > 0, added + mean * gain, beta).astype(np.float32), mean, variance])
