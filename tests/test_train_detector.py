"""A detector is trained for a few steps, written, loaded and trained on. Imports TensorFlow."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tiny
from stub import answer_for
from test_drills import drill

from digitize import checkpoint, cli, detect, drills, models, runs, train_detector
from digitize.errors import DatasetError, ModelError, OutputError, UsageError
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


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short runs, without the tflite file that `trained` has; what `tiny.detector_options` changes is changed back."""

    def keras_alone(model: Any, folder: Path, **_: object) -> None:
        model.save(folder / models.KERAS_FILE)
        (folder / models.TFLITE_FILE).write_bytes(b"none")

    monkeypatch.setattr(train_detector, "export", keras_alone)
    monkeypatch.setattr(train_detector, "REPORT_EVERY", 0)
    monkeypatch.setattr(train_detector, "VALIDATION_BLOCKS", 0)
    monkeypatch.setattr(train_detector.Course, "CHECKPOINT_EVERY", 0)


def alike(one: Path, other: Path) -> bool:
    return all((a == b).all() for a, b in zip(tiny.weights(one), tiny.weights(other), strict=True))


@pytest.mark.usefixtures("small")
def test_killed_or_stopped_and_taken_up_it_ends_with_the_same_weights(file: Path, tmp_path: Path) -> None:
    whole, killed, stopped = (tmp_path / name for name in ("whole", "killed", "stopped"))
    course = runs.run(tiny.detector_options(whole, file))
    assert [record.step for record in course.history] == [3, 6, 7]
    assert {path.name for path in whole.iterdir()} == {"model.keras", "model.tflite", "card.json", "logs"}
    assert models.load_card(whole).content["training"]["interrupted"] is False

    command = [sys.executable, str(Path(tiny.__file__)), str(killed), str(file)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        for line in iter(child.stderr.readline, ""):
            if "step 3/7" in line:
                child.kill()
        child.wait()
    assert child.returncode == -signal.SIGKILL
    assert not (killed / "card.json").exists()
    with pytest.raises(OutputError, match="not finished: --resume goes on"):
        runs.run(tiny.detector_options(killed, file))
    with pytest.raises(UsageError, match="another seed"):
        runs.run(tiny.detector_options(killed, file, seed=4), resume=True)
    course = runs.run(tiny.detector_options(killed, file), resume=True)
    assert [record.step for record in course.history] == [3, 6, 7]
    assert course.history[-1].seconds > course.history[0].seconds
    assert alike(killed, whole)

    assert interrupted_at(5, tiny.detector_options(stopped, file)).step == 5
    card = models.load_card(stopped).content
    assert (card["training"]["interrupted"], card["training"]["steps"]) == (True, 5)
    assert not runs.finished(stopped)
    course = runs.run(tiny.detector_options(stopped, file), resume=True)
    assert [record.step for record in course.history] == [3, 5, 6, 7]
    assert alike(stopped, whole)
    assert runs.finished(stopped)
    with pytest.raises(OutputError, match=r"holds a model already.*--overwrite"):
        runs.run(tiny.detector_options(stopped, file))


@pytest.mark.usefixtures("small")
def test_killed_after_its_last_step_it_only_has_to_be_written(file: Path, tmp_path: Path) -> None:
    options = tiny.detector_options(tmp_path / "done", file, steps=1)
    course = train_detector.prepare(options)
    assert [record.step for record in train_detector.steps(course)] == [1]
    checkpoint.save(course)
    written = runs.run(options, resume=True)
    assert [record.step for record in written.history] == [1]
    found = tiny.weights(tmp_path / "done")
    assert all((a == b).all() for a, b in zip(found, course.mean.get_weights(), strict=True))


@pytest.mark.usefixtures("small")
def test_a_detector_is_replaced_by_a_whole_one_alone(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    runs.run(tiny.detector_options(folder, file, steps=1))
    before = models.load_card(folder).content

    def interrupted(course: train_detector.Course) -> dict[str, float]:
        raise KeyboardInterrupt

    monkeypatch.setattr(train_detector, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runs.run(tiny.detector_options(folder, file, steps=1, seed=4), overwrite=True)
    assert models.load_card(folder).content == before


@pytest.mark.usefixtures("small")
def test_a_detector_that_is_trained_on_in_its_own_folder_can_be_taken_up(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    runs.run(tiny.detector_options(folder, file, steps=1))
    began = models.load_card(folder).content["files"][models.KERAS_FILE]
    options = tiny.detector_options(folder, file, start=folder, steps=3)
    interrupted_at(2, options, overwrite=True)
    assert models.load_card(folder).content["files"][models.KERAS_FILE] != began
    assert not runs.run(options, resume=True).interrupted
    assert models.load_card(folder).content["from"]["sha256"] == began


def interrupted_at(step: int, options: Options, *, overwrite: bool = False) -> runs.Course:
    """Train, and send this process what Ctrl-C sends at a step."""
    before = train_detector.prefetched

    def told(items: Iterator[Any]) -> Iterator[Any]:
        for number, item in enumerate(before(items), 1):
            if number == step:
                os.kill(os.getpid(), signal.SIGINT)
            yield item

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(train_detector, "prefetched", told)
        course = runs.run(options, overwrite=overwrite)
    assert course.interrupted
    return course


@pytest.mark.usefixtures("small")
def test_a_detector_is_trained_from_the_command_line(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("digitize")
    before = log.handlers[:], log.level, log.propagate
    tiny.detector_options(tmp_path, file)

    def digitize(*words: str) -> tuple[int, str]:
        given = ["train", "-o", str(tmp_path / "mine"), "--network", "scout", "--held", str(file), *words]
        monkeypatch.setattr(sys, "argv", ["digitize", *given])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capsys.readouterr().err

    drilled = ("--drills", str(file), "--steps", "2", "--batch-size", "1", "--no-mixed")
    code, said = digitize(*drilled)
    assert code == 0, said
    assert "step 2/2" in said
    training = models.load_card(tmp_path / "mine").content["training"]
    assert (training["steps"], training["batch_size"], training["precision"]) == (2, 1, "float32")
    assert digitize(*drilled)[0] == 5
    code, said = digitize(*drilled, "--resume")
    assert (code, "nothing is left to do" in said) == (0, True)
    for foreign in ("--epochs", "2"), ("--teacher", "duet"), ("--recipe", "article"), ("--mnist-share", "0"):
        code, said = digitize(*drilled, *foreign, "--overwrite")
        assert (code, f"not by {foreign[0]}" in said) == (2, True)
    log.handlers[:], log.level, log.propagate = before


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
    with pytest.raises(ModelError, match="holds the network duet, not scout"):
        train_detector.prepare(Options(tmp_path, (file,), file, start=models.find("duet")))


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"learning_rate": 0.0}, {"drills": ()}])
def test_options_must_make_sense(file: Path, tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Options(**{"output": tmp_path, "drills": (file,), "held": file, **wrong})
