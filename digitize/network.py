"""The networks: what turns tiles into logits, written in Keras 3 and tied to no backend.

A network is a function in `NETWORKS`; `build` calls it by name. Every one takes tiles as they are, 0 paper to 255
ink, and divides by 255 itself, so that no caller can forget to. What training sees are logits; what is shipped is
`with_softmax` of it, with the temperature that was fitted on validation digits folded in (Guo et al. 2017, "On
Calibration of Modern Neural Networks").

- `article`: the two 5x5 convolutions and the wide dense layer of TensorFlow's first MNIST tutorials. It sees the
  digit alone and knows ten classes. Kept for comparison.
- `duet`: two views of one place. The main voice is the digit in MNIST's form; the second is its surroundings, a
  window twice as wide. That is what tells a 1 from a comb stroke and a 0 from the bowl of a letter. Its first layer
  strides over the tile in windows of 6x6: on validation writers that was better than a layer at full size (MNIST only,
  six epochs: 99.32 % against 99.26 %), and the deeper layers, where a CPU is quickest, get what it saves. Likewise few
  filters look at 14x14 places so that many can at 3x3, where a filter costs a twentieth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import layers

from digitize import detect
from digitize.records import TILE_SIDE

INK = 255  # the value of full ink in a tile

NO_DIGIT_CLASSES = 11  # ten digits and "no digit"


def build(name: str, *, classes: int | None = None, mixed: bool = False) -> Any:
    """Build the network `name` with fresh weights.

    Args:
        name: a key of `NETWORKS`.
        classes: length of the output; the network's own number where None.
        mixed: compute in bfloat16 all but the logits; weights are float32 always.

    Returns:
        A `keras.Model`, (N, 28, 28, views) in 0..255 to logits float32 (N, classes). Its last layer is "logits".

    Raises:
        KeyError: there is no network of this name.
    """
    if name not in NETWORKS:
        raise KeyError(f"no network is called {name!r}; there are {', '.join(NETWORKS)}")
    make, default_classes = NETWORKS[name]
    with precision(mixed):
        return make(classes or default_classes)


@contextmanager
def precision(mixed: bool) -> Iterator[None]:
    """The scope in which layers that are made compute in bfloat16, where it is `mixed`, or else in float32."""
    usual = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if mixed else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(usual)


def scout() -> Any:
    """Build the detector with fresh weights.

    Returns:
        A `keras.Model`, shade (N, `detect.BLOCK_ROWS`, `detect.BLOCK_COLUMNS`, 1) in 0..255 to float32
        (N, rows / 4, columns / 2, `detect.CHANNELS`): logit of a digit's middle, logits of the ten digits, distances.
    """
    shade = layers.Input((detect.BLOCK_ROWS, detect.BLOCK_COLUMNS, 1), name="shade")
    x = layers.Rescaling(1 / INK)(shade)
    x = _convolve(x, 16, side=5, stride=2)
    fine = _convolve(x, 32, stride=(2, 1))  # cells of 4 x 2 pixels
    middle = _convolve(_convolve(fine, 48, stride=(1, 2)), 48)  # 4 x 4
    coarse = _convolve(_convolve(middle, 96, stride=2), 96)  # 8 x 8
    for _ in range(2):
        coarse = _add_residual(coarse)
    x = _convolve(_convolve(coarse, 128, stride=2), 128)  # 16 x 16: sees a line's neighbours
    for _ in range(3):  # a lone stroke is a digit or none by what stands far around it; at this size that costs little
        x = _add_residual(x)
    for beside, filters, given, factor in ((coarse, 96, 96, 2), (middle, 48, 48, 2), (fine, 32, 48, (1, 2))):
        x = layers.UpSampling2D(factor)(_convolve(x, filters, side=1))
        x = _convolve(layers.Add()([x, beside]), given)
    places = layers.Conv2D(detect.CHANNELS, 1, dtype="float32", name="places")(x)
    return keras.Model(shade, places, name="scout")


def with_softmax(model: Any, temperature: float = 1.0) -> Any:
    """Put softmax(logits / temperature) behind a network, sharing its weights.

    Args:
        model: what `build` returned.
        temperature: above 1 makes the network less sure of itself, below 1 more; the order of classes stays.

    Returns:
        A `keras.Model` from tiles to probabilities float32 (N, classes).
    """
    logits = layers.Rescaling(1 / temperature, name="temperature")(model.output)
    return keras.Model(model.input, layers.Softmax(name="probabilities")(logits), name=model.name)


def parameters(model: Any) -> int:
    """Count the numbers a model stores, batch norm's running statistics included."""
    return int(model.count_params())


def macs(model: Any) -> int:
    """Count the multiplications with addition that one tile costs, in convolutions and dense layers."""
    return sum(_layer_macs(layer) for layer in model.layers)


def views(model: Any) -> int:
    """How many views a model looks at: 1, the digit, or 2, its surroundings too."""
    return int(model.input.shape[-1])


def _layer_macs(layer: Any) -> int:
    if isinstance(layer, layers.Conv2D):
        _, height, width, _ = layer.output.shape
        return int(height * width * _size(layer.kernel.shape))
    if isinstance(layer, layers.Dense):
        return _size(layer.kernel.shape)
    return 0


def _size(shape: tuple[int, ...]) -> int:
    product = 1
    for length in shape:
        product *= length
    return product


def _article(classes: int) -> Any:
    tiles = layers.Input((TILE_SIDE, TILE_SIDE, 1), name="tiles")
    x = layers.Rescaling(1 / INK)(tiles)
    x = layers.Conv2D(32, 5, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(64, 5, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(1024, activation="relu")(x)
    x = layers.Dropout(0.4)(x)
    return keras.Model(tiles, layers.Dense(classes, dtype="float32", name="logits")(x), name="article")


def duet(classes: int = NO_DIGIT_CLASSES, *, width: float = 1.0) -> Any:
    """Build `duet` with fresh weights, with `width` times as many filters; `tests/front.py` compares widths."""

    def wide(filters: int) -> int:
        return max(1, round(width * filters))

    tiles = layers.Input((TILE_SIDE, TILE_SIDE, 2), name="tiles")
    both = layers.Rescaling(1 / INK)(tiles)

    digit = _convolve(both[..., :1], wide(24), side=6, stride=2)  # 14 x 14
    digit = _convolve(digit, wide(24))
    digit = _convolve(digit, wide(64), stride=2)  # 7 x 7

    around = _convolve(both[..., 1:], wide(12), side=6, stride=2)  # 14 x 14
    around = _convolve(around, wide(24), stride=2)  # 7 x 7

    x = layers.Concatenate()([digit, around])
    x = _convolve(x, wide(80))
    x = _convolve(x, wide(96), padding="valid")  # 5 x 5
    x = _convolve(x, wide(160), padding="valid")  # 3 x 3
    # The mean says how much of a feature there is, the maximum whether there is any: a fragment lacks the second.
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)])
    x = layers.Dropout(0.3)(x)
    return keras.Model(tiles, layers.Dense(classes, dtype="float32", name="logits")(x), name="duet")


def _convolve(x: Any, filters: int, *, side: int = 3, stride: int | tuple[int, int] = 1, padding: str = "same") -> Any:
    x = layers.Conv2D(filters, side, strides=stride, padding=padding, use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.95)(x)
    return layers.ReLU()(x)


def _add_residual(x: Any) -> Any:
    """Two convolutions whose sum with `x` goes on; fresh ones add nothing (Goyal et al. 2017, section 5.1)."""
    filters = x.shape[-1]
    y = _convolve(x, filters)
    y = layers.Conv2D(filters, 3, padding="same", use_bias=False)(y)
    y = layers.BatchNormalization(momentum=0.95, gamma_initializer="zeros")(y)
    return layers.ReLU()(layers.Add()([x, y]))


NETWORKS: dict[str, tuple[Callable[[int], Any], int]] = {
    "article": (_article, 10),
    "duet": (duet, NO_DIGIT_CLASSES),
}
ROUNDED = frozenset({"duet"})  # networks of the build that `quantize` can bring to 8 bits
