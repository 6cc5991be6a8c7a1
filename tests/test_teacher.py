"""What trained classifiers make of a tile stands beside its label. Imports no Keras but where a network is trained."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from digitize import models, runs, teacher
from digitize.errors import ModelError


class Says:
    """A classifier that answers by the darkest pixel of a tile's first row."""

    def __init__(self, name: str, answers: np.ndarray) -> None:
        self.answers = answers
        self.card = SimpleNamespace(origin=lambda file: f"{file} of {name}")
        self.classes = answers.shape[1]

    def probabilities(self, tiles: np.ndarray) -> np.ndarray:
        assert tiles.shape[1:] == (28, 28, 2)
        return self.answers[tiles[:, 0, :, 0].argmax(axis=1)]


@pytest.fixture
def hired(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[Path, Says]:
    """Teachers by folder; a test puts its own in."""
    staff: dict[Path, Says] = {}
    monkeypatch.setattr(teacher.models, "find", lambda name: tmp_path / name)
    monkeypatch.setattr(teacher, "Classifier", lambda folder, device: staff[folder])
    return staff


def marked(columns: list[int], views: int) -> np.ndarray:
    tiles = np.zeros((len(columns), 28, 28, views), np.uint8)
    tiles[np.arange(len(columns)), 0, columns] = 255
    return tiles


@pytest.mark.parametrize("views", [1, 2])
def test_targets_are_the_softened_mean_and_the_label(hired: dict[Path, Says], tmp_path: Path, views: int) -> None:
    hired[tmp_path / "one"] = Says("one", np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]], np.float32))
    hired[tmp_path / "two"] = Says("two", np.array([[0.6, 0.3, 0.1], [0.1, 0.1, 0.8]], np.float32))
    two = teacher.Teachers([Path("one"), Path("two")], classes=3)
    found = two.targets(marked([0, 1], views), np.array([0, 2], np.uint8))
    softened = np.sqrt([[1.6, 0.3, 0.1], [0.6, 0.6, 0.8]])  # SOFTNESS is 2
    expected = teacher.TRUST * softened / softened.sum(axis=1, keepdims=True)
    expected[[0, 1], [0, 2]] += 1 - teacher.TRUST
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert two.entries == [f"{models.TFLITE_FILE} of one", f"{models.TFLITE_FILE} of two"]


@pytest.mark.parametrize("classes", [10, 12])
def test_a_teacher_of_other_classes_is_refused(hired: dict[Path, Says], tmp_path: Path, classes: int) -> None:
    hired[tmp_path / "one"] = Says("one", np.full((1, 11), 1 / 11, np.float32))
    with pytest.raises(ModelError, match=f"knows 11 classes, what it is to teach {classes}"):
        teacher.Teachers([Path("one")], classes=classes)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_the_loss_is_least_where_the_softened_answer_is_the_target() -> None:
    import keras

    targets = np.array([[0.7, 0.2, 0.1]], np.float32)
    certain = np.array([[1.0, 0.0, 0.0]], np.float32)
    loss = teacher.softened_loss()
    at = teacher.SOFTNESS * np.log(targets)
    least, *others = (
        float(keras.ops.convert_to_numpy(loss(targets, logits))[0])
        for logits in (at, 1.2 * at, 0.8 * at, at[:, ::-1].copy())
    )
    assert float(keras.ops.convert_to_numpy(loss(certain, 100 * certain))[0]) == pytest.approx(0, abs=1e-6)
    assert least == pytest.approx(0, abs=1e-6)
    assert all(other > 0.01 for other in others)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_what_a_teacher_says_is_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A teacher that takes every 3 for an 8 is believed, as `TRUST` is above a half; the labels alone say otherwise."""
    tiny.add_tiny()
    mnist = tiny.write_mnist(tmp_path / "mnist", train=600)
    plain = runs.run(tiny.options(tmp_path / "plain", mnist, epochs=8)).folder
    sure = teacher.Classifier(plain, device="cpu")

    class Confused(teacher.Classifier):
        def probabilities(self, tiles: np.ndarray) -> np.ndarray:
            said = super().probabilities(tiles)
            said[:, 8] += said[:, 3]
            said[:, 3] = 0
            return said

    monkeypatch.setattr(teacher, "Classifier", Confused)
    course = runs.run(tiny.options(tmp_path / "taught", mnist, epochs=8, teachers=(plain,)))
    digits, labels = course.mnist.test_images, course.mnist.test_labels
    tiles = np.stack([digits, np.zeros_like(digits)], axis=-1)
    threes = tiles[labels == 3]
    assert (sure.probabilities(threes).argmax(axis=1) == 3).mean() > 0.8
    monkeypatch.undo()
    taught = teacher.Classifier(course.folder, device="cpu")
    assert (taught.probabilities(threes).argmax(axis=1) == 8).mean() > 0.8
    entry = models.load_card(course.folder).content["teachers"][0]
    assert entry["name"] == "plain"
    assert entry["sha256"] == models.load_card(plain).content["files"][models.TFLITE_FILE]
