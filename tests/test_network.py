"""The networks have the shapes and sizes that the README states. Imports Keras, and so TensorFlow."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from digitize import network

# Keras 3 hands NumPy 2 arrays of TensorFlow's that know nothing of `copy`; nothing of ours can be done about it.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.fixture(scope="module", params=sorted(network.NETWORKS))
def named(request: pytest.FixtureRequest) -> tuple[str, Any]:
    return request.param, network.build(request.param)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_article_is_the_article() -> None:
    article = network.build("article")
    dense = 7 * 7 * 64 * 1024
    assert network.macs(article) == 28 * 28 * 25 * 32 + 14 * 14 * 25 * 32 * 64 + dense + 1024 * 10
    assert network.parameters(article) == (25 + 1) * 32 + (25 * 32 + 1) * 64 + dense + 1024 + 1025 * 10
    assert network.views(article) == 1


def test_duet_is_small() -> None:
    duet = network.build("duet")
    article = network.build("article")
    assert network.parameters(duet) < network.parameters(article) / 10
    assert network.macs(duet) < network.macs(article) * 0.7
    assert network.views(duet) == 2
    assert duet.output.shape == (None, 11)


def test_a_duet_of_twice_the_width_costs_up_to_four_times_as_much() -> None:
    once, twice = network.macs(network.duet()), network.macs(network.duet(width=2))
    assert 3 * once < twice < 4 * once  # the first layers see one view, however many filters they have


def test_takes_tiles_as_they_are(named: tuple[str, Any]) -> None:
    _, model = named
    tiles = np.random.default_rng(0).integers(0, 256, (3, *model.input.shape[1:])).astype(np.uint8)
    bytes_in = np.asarray(model(tiles))
    floats_in = np.asarray(model(tiles.astype(np.float32)))
    np.testing.assert_allclose(bytes_in, floats_in, atol=1e-5)
    assert np.abs(bytes_in).max() < 50  # as large as weights of unit variance give from inputs in 0..1, not in 0..255


def test_softmax_divides_by_the_temperature(named: tuple[str, Any]) -> None:
    _, model = named
    tiles = np.random.default_rng(1).integers(0, 256, (4, *model.input.shape[1:])).astype(np.uint8)
    expected = softmax(np.asarray(model(tiles)) / 2.5)
    np.testing.assert_allclose(np.asarray(network.with_softmax(model, 2.5)(tiles)), expected, atol=1e-5)


def test_classes_can_be_chosen() -> None:
    assert network.build("duet", classes=10).output.shape == (None, 10)


def test_an_unknown_network_is_named() -> None:
    with pytest.raises(KeyError, match="article, duet"):
        network.build("trio")
