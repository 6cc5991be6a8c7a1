"""A detector is trained for a few steps, written, loaded and trained on. Imports TensorFlow."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from stub import answer_for
from test_drills import drill

from digitize import detect, drills, models, train_detector
from digitize.errors import DatasetError, ModelError, UsageError
from digitize.train_detector import Options

# Keras 3 hands NumPy 2 arrays of TensorFlow's that know nothing of `copy`; nothing of ours can be done about it.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def save(path: Path, own: list[drills.Drill]) -> Path:
    drills.save_drills(path, own)
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("drills") / "drills.npz", [drill()])


@pytest.fixture(scope="module")
def trained(file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[train_detector.Progress]]:
    patched = pytest.MonkeyPatch()
    patched.setattr(train_detector, "VALIDATION_BLOCKS", 2)
    output = tmp_path_factory.mktemp("models") / "small"
    course = train_detector.prepare(Options(output, (file,), file, steps=4, batch_size=2, mixed=False))
    said = list(train_detector.steps(course))
    folder = train_detector.finish(course)
    patched.undo()
    return folder, said


def test_a_trained_detector_can_be_loaded_and_asked(trained: tuple[Path, list[train_detector.Progress]]) -> None:
    folder, said = trained
    assert said[-1].step == said[-1].steps == 4
    assert np.isfinite([said[-1].loss, said[-1].validation_loss]).all()
    card = models.load_card(folder)
    assert (card.task, card.network) == ("detect", "scout")
    assert set(card.content["accuracy"]) == {"validation_precision", "validation_recall", "validation_values"}
    answers = detect.Detector(folder, device="cpu", threads=1).answers(np.zeros((1, 128, 256, 1), np.uint8))
    assert answers.shape == (1, *card.gives)


def test_both_files_of_a_detector_agree_but_for_eight_bits(
    trained: tuple[Path, list[train_detector.Progress]],
) -> None:
    import keras

    folder, _ = trained
    block, _ = drills.compose_block([drill()], np.random.default_rng(1))
    blocks = np.stack([block, np.zeros_like(block)])[..., None]
    full = keras.models.load_model(folder / models.KERAS_FILE, compile=False).predict_on_batch(blocks)
    answers = detect.Detector(folder, device="cpu").answers(blocks)
    np.testing.assert_allclose(answers, full, atol=0.02 * float(np.ptp(full)))
    assert (folder / models.TFLITE_FILE).stat().st_size < 0.4 * (folder / models.KERAS_FILE).stat().st_size


def test_what_else_is_in_the_batch_does_not_show(trained: tuple[Path, list[train_detector.Progress]]) -> None:
    rng = np.random.default_rng(2)
    blocks = rng.integers(0, 256, (6, detect.BLOCK_ROWS, detect.BLOCK_COLUMNS, 1)).astype(np.uint8)
    blocks[1] //= 20  # its activations are far smaller than its neighbours'
    detector = detect.Detector(trained[0], device="cpu")
    together = detector.answers(blocks)
    for alone in (1, 4):
        np.testing.assert_array_equal(detector.answers(blocks[alone : alone + 1])[0], together[alone])


def test_training_goes_on_from_a_detector(
    trained: tuple[Path, list[train_detector.Progress]], file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    monkeypatch.setattr(train_detector, "VALIDATION_BLOCKS", 2)
    course = train_detector.prepare(Options(tmp_path, (file,), file, start=trained[0]))
    before = keras.models.load_model(trained[0] / models.KERAS_FILE, compile=False).get_weights()
    assert all((now == then).all() for now, then in zip(course.network.get_weights(), before, strict=True))
    assert course.network.layers[3].compute_dtype == "bfloat16"
    assert course.mean.layers[3].compute_dtype == "float32"


def test_the_loss_knows_right_from_wrong() -> None:
    boxes = np.array([[3, 20, 30, 34, 50], [8, 60, 30, 74, 50]], np.float32)
    other = np.array([[3, 20, 30, 34, 50], [1, 90, 60, 96, 80]], np.float32)
    asked = drills.ask(boxes)[None]
    right = float(train_detector.detection_loss(asked, answer_for(boxes)[None]))
    wrong = float(train_detector.detection_loss(asked, answer_for(other)[None]))
    assert right < 0.1 < 1 < wrong


def test_drills_without_digits_are_refused(file: Path, tmp_path: Path) -> None:
    blank = save(tmp_path / "blank.npz", [drills.Drill(np.zeros((20, 20), np.uint8), np.zeros((0, 5), np.float32))])
    with pytest.raises(DatasetError, match="no digit"):
        train_detector.prepare(Options(tmp_path, (blank,), file))


def test_a_classifier_is_no_start(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a duet"):
        train_detector.prepare(Options(tmp_path, (file,), file, start=models.find("duet")))


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"learning_rate": 0.0}, {"drills": ()}])
def test_options_must_make_sense(file: Path, tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Options(**{"output": tmp_path, "drills": (file,), "held": file, **wrong})
