"""A run that was killed, stopped or repeated loses nothing and replaces nothing. Imports Keras, and so TensorFlow."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import signal
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from digitize import checkpoint, cli, datasets, evaluate, eventlog, models, recipes, runs, train
from digitize.errors import DeviceError, ModelError, OutputError, UsageError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

PROGRAM = Path(tiny.__file__)


@pytest.fixture(scope="module", autouse=True)
def known_network() -> None:
    tiny.add_tiny()


@pytest.fixture(scope="module")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_mnist(tmp_path_factory.mktemp("mnist"))


@pytest.fixture(scope="module")
def whole(mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole") / "tiny"
    assert not runs.run(tiny.options(folder, mnist)).interrupted
    return folder


def alike(one: Path, other: Path) -> bool:
    return all((a == b).all() for a, b in zip(tiny.weights(one), tiny.weights(other), strict=True))


def test_a_run_leaves_a_model_logs_and_a_report(whole: Path) -> None:
    assert {path.name for path in whole.iterdir()} == {"model.keras", "model.tflite", "card.json", "logs", "report"}
    card = models.load_card(whole).content
    assert card["training"]["steps"] == tiny.EPOCHS * (270 // tiny.BATCH)
    assert card["training"]["recipe"] == "default"
    assert card["training"]["interrupted"] is False
    assert card["data"][0]["digits"] == 300
    assert card["data"][0]["files"].keys() == {path.name for path in mnist_files(card)}
    metrics = json.loads((whole / "report" / "metrics.json").read_text())
    assert [record["epoch"] for record in metrics["history"]] == [1, 2, 3, 4]
    assert metrics["accuracy"] == card["accuracy"]["mnist_test"]
    assert metrics["loss"] == pytest.approx(card["accuracy"]["mnist_test_loss"])
    assert metrics["history"][-1]["accuracy"] > metrics["history"][0]["accuracy"]
    assert (whole / "report" / "curves.png").is_file()


def mnist_files(card: Any) -> list[Path]:
    return [
        Path(f"{part}-ubyte")
        for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    ]


def test_killed_and_taken_up_it_ends_with_the_same_weights(whole: Path, mnist: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    command = [sys.executable, str(PROGRAM), str(folder), str(mnist)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        heard = [line for line in iter(child.stderr.readline, "") if not _kill_after(child, line, "epoch 2/4")]
        child.wait()
    assert child.returncode == -signal.SIGKILL, heard
    assert not (folder / "card.json").exists()
    assert checkpoint.path_in(folder).is_file()

    course = runs.run(tiny.options(folder, mnist), resume=True)
    assert [record.epoch for record in course.history] == [1, 2, 3, 4]
    assert alike(folder, whole)
    assert not checkpoint.path_in(folder).parent.exists()


def _kill_after(child: subprocess.Popen[str], line: str, said: str) -> bool:
    if said in line:
        child.send_signal(signal.SIGKILL)
        return True
    return False


def test_one_seed_one_model_another_another(whole: Path, mnist: Path, tmp_path: Path) -> None:
    expected = tiny.weights(whole)
    for seed, same in ((3, True), (4, False)):
        course = train.prepare(tiny.options(tmp_path / "unused", mnist, seed=seed))
        assert len(list(train.epochs(course))) == tiny.EPOCHS
        found = course.best.get_weights()
        assert all((a == b).all() for a, b in zip(found, expected, strict=True)) == same


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Send this process what Ctrl-C sends, at a step."""
    before = train.batches

    def told(course: train.Course, count: int, *, epoch: int = 1) -> Any:
        watch = course.watch

        def watched(tick: train.Tick) -> None:
            if watch is not None:
                watch(tick)
            if tick.step == step:
                os.kill(os.getpid(), signal.SIGINT)

        course.watch = watched
        yield from before(course, count, epoch=epoch)
        course.watch = watch

    monkeypatch.setattr(train, "batches", told)


def test_ctrl_c_leaves_a_model_and_can_be_taken_up(
    whole: Path, mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "stopped"
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patched:
        interrupt_at(patched, 20)  # in the second of four epochs of 16 steps
        course = runs.run(tiny.options(folder, mnist))
    assert course.interrupted
    assert course.step < course.steps
    assert signal.getsignal(signal.SIGINT) is before
    card = models.load_card(folder).content
    assert card["training"]["interrupted"] is True
    assert (folder / "report" / "report.html").is_file()

    assert not runs.finished(folder)
    with pytest.raises(OutputError, match="not finished: --resume goes on"):
        runs.run(tiny.options(folder, mnist))
    runs.run(tiny.options(folder, mnist), resume=True)
    assert alike(folder, whole)
    assert runs.finished(folder)


def files_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (models.KERAS_FILE, models.TFLITE_FILE, models.CARD_FILE)}


def test_a_model_is_replaced_by_a_whole_one_alone(
    whole: Path, mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(whole, folder)
    before = files_of(folder)
    options = tiny.options(folder, mnist, epochs=1, seed=8)

    def disagree(made: Path, images: Any) -> None:
        assert models.load_card(made).content["seed"] == 8
        raise ModelError("its two files disagree")

    with monkeypatch.context() as patched:
        patched.setattr(evaluate, "verify", disagree)
        with pytest.raises(ModelError, match="mine is left as it was, since the new model is faulty: its two files"):
            runs.run(options, overwrite=True)
    assert files_of(folder) == before
    assert not (folder / models.NEW_FOLDER).exists()
    runs.run(options, resume=True)
    assert models.load_card(folder).content["seed"] == 8
    assert not (folder / models.NEW_FOLDER).exists()


def test_a_model_that_is_trained_on_in_its_own_folder_can_be_taken_up(
    whole: Path, mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, other = tmp_path / "mine", tmp_path / "other"
    shutil.copytree(whole, folder)
    options = tiny.options(folder, mnist, start=folder, epochs=2)
    with monkeypatch.context() as patched:
        interrupt_at(patched, 20)  # in the second of its two epochs
        assert runs.run(options, overwrite=True).interrupted
    assert datasets.file_hash(folder / models.KERAS_FILE) != datasets.file_hash(whole / models.KERAS_FILE)
    runs.run(options, resume=True)
    runs.run(tiny.options(other, mnist, start=whole, epochs=2))
    assert alike(folder, other)
    assert models.load_card(folder).content["from"] == models.load_card(other).content["from"]


def test_stopped_in_its_first_epoch_it_is_not_finished(
    whole: Path, mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "stopped"
    with monkeypatch.context() as patched:
        interrupt_at(patched, 3)
        assert runs.run(tiny.options(folder, mnist)).epoch == 1
    assert not runs.finished(folder)
    runs.run(tiny.options(folder, mnist), resume=True)
    assert alike(folder, whole)


def test_stopped_between_two_epochs_it_is_interrupted_too(course: train.Course) -> None:
    fresh = train.prepare(course.options)
    for _ in train.epochs(fresh):
        assert not fresh.interrupted  # so the epoch's checkpoint is kept
        fresh.stop.set()
    assert fresh.interrupted
    assert (fresh.epoch, fresh.step) == (1, fresh.epoch_steps)


def test_stopped_while_an_epoch_is_judged_it_goes_on_after_it(
    whole: Path, mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, judge = tmp_path / "stopped", train._judge

    def stopping(course: train.Course, model: Any) -> Any:
        if course.epoch == 1:  # the second is being judged
            os.kill(os.getpid(), signal.SIGINT)
        return judge(course, model)

    with monkeypatch.context() as patched:
        patched.setattr(train, "_judge", stopping)
        course = runs.run(tiny.options(folder, mnist))
    assert course.interrupted
    again = train.prepare(tiny.options(folder, mnist))
    checkpoint.load(again)
    assert (again.epoch, again.step) == (course.epoch, course.step) == (2, 2 * course.epoch_steps)
    assert alike(runs.run(tiny.options(folder, mnist), resume=True).folder, whole)


def test_a_second_run_replaces_nothing_unless_it_is_told(whole: Path, mnist: Path) -> None:
    before = (whole / "card.json").read_bytes()
    with pytest.raises(OutputError, match=r"holds a model already.*--overwrite"):
        runs.run(tiny.options(whole, mnist))
    with pytest.raises(UsageError, match="one of them"):
        runs.run(tiny.options(whole, mnist), resume=True, overwrite=True)
    assert (whole / "card.json").read_bytes() == before


def test_overwriting_begins_anew(course: train.Course) -> None:
    folder = course.options.output
    (folder / "logs").mkdir()
    (folder / "logs" / f"{eventlog.PREFIX}1.here.2").touch()
    with pytest.raises(OutputError, match=r"not finished.*--overwrite begins anew"):
        runs.claim(folder, resume=False, overwrite=False)
    runs.claim(folder, resume=False, overwrite=True)
    assert checkpoint.path_in(folder).is_file()  # until the new run is sure to begin
    runs.clear(folder)
    assert list(folder.iterdir()) == []
    runs.claim(folder, resume=False, overwrite=False)


@pytest.mark.parametrize("going_on", ["", "resume", "overwrite"])
def test_a_place_that_cannot_be_written_is_named_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, going_on: str
) -> None:
    (tmp_path / "file").touch()
    nowhere = tmp_path / "no data"
    said = {
        tmp_path / "file": "file cannot be written, since .*file is no folder",
        tmp_path / "file" / "mine": "mine cannot be written, since .*file is no folder",
        tmp_path / ("m" * 300): "m cannot be written",
    }
    for folder, finding in said.items():
        with pytest.raises(OutputError, match=rf"{finding}.*with -o"):
            runs.run(tiny.options(folder, nowhere), **dict.fromkeys([going_on] if going_on else [], True))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputError, match=rf"mine cannot be written, {tmp_path} does not let you"):
        runs.run(tiny.options(tmp_path / "mine", nowhere))


def test_what_others_keep_beside_a_run_stays(whole: Path, mnist: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    for path in (folder / "logs" / "today.log", folder / "checkpoint" / "mine.pt"):
        path.parent.mkdir(parents=True)
        path.write_text("mine")
    (folder / "logs" / f"{eventlog.PREFIX}1.here.2").touch()
    runs.run(tiny.options(folder, mnist, steps=2), overwrite=True)
    assert (folder / "logs" / "today.log").read_text() == "mine"
    assert len(list((folder / "logs").iterdir())) == 2
    assert [path.name for path in (folder / "checkpoint").iterdir()] == ["mine.pt"]
    assert runs.finished(folder)


@pytest.fixture
def course(mnist: Path, tmp_path: Path) -> train.Course:
    """After one epoch of two, with its checkpoint."""
    made = train.prepare(tiny.options(tmp_path / "tiny", mnist, epochs=2))
    next(train.epochs(made))
    checkpoint.save(made)
    return made


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"seed": 4}, "seed"), ({"batch_size": 8}, "steps, batch-size"), ({"learning_rate": 0.1}, "learning-rate")],
)
def test_a_run_with_other_options_is_not_the_same_run(
    course: train.Course, mnist: Path, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(UsageError, match=f"another {named}:"):
        checkpoint.load(train.prepare(tiny.options(course.options.output, mnist, epochs=2, **changes)))


@pytest.mark.parametrize("recipe", [recipes.DEFAULT, recipes.ARTICLE], ids=lambda recipe: recipe.name)
def test_steps_in_bfloat16_leave_a_float32_network(
    mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: recipes.Recipe
) -> None:
    judge, judged_in = train._judge, set()

    def watched(course: train.Course, model: Any) -> Any:
        judged_in.add(model.layers[2].compute_dtype)
        return judge(course, model)

    monkeypatch.setattr(train, "_judge", watched)
    options = tiny.options(tmp_path / "mixed", mnist, epochs=2, mixed=True, recipe=recipe)
    course = train.prepare(options)
    assert course.network.layers[2].compute_dtype == "bfloat16"
    assert course.best.layers[2].compute_dtype == "float32"
    *_, record = train.epochs(course)
    assert record.validation_loss < math.log(11) - 0.1  # what a network that learnt nothing has at best
    assert judged_in == {"float32"}
    assert {weight.dtype for weight in course.best.get_weights()} == {np.dtype(np.float32)}
    checkpoint.save(course)
    with pytest.raises(UsageError, match="another mixed"):
        checkpoint.load(train.prepare(replace(options, mixed=False)))


def test_other_digits_are_not_the_same_run(course: train.Course, tmp_path: Path) -> None:
    other = tiny.write_mnist(tmp_path / "other", train=310)
    with pytest.raises(UsageError, match="data"):
        checkpoint.load(train.prepare(tiny.options(course.options.output, other, epochs=2)))


def test_a_damaged_checkpoint_is_named(course: train.Course, mnist: Path) -> None:
    path = checkpoint.path_in(course.options.output)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ModelError, match=r"state\.npz cannot be read.*--overwrite"):
        checkpoint.load(train.prepare(tiny.options(course.options.output, mnist, epochs=2)))


def test_a_taught_run_is_taken_up_with_its_teachers_only(whole: Path, mnist: Path, tmp_path: Path) -> None:
    undisturbed = runs.run(tiny.options(tmp_path / "undisturbed", mnist, epochs=2, teachers=(whole,))).folder
    taught = tiny.options(tmp_path / "stopped", mnist, epochs=2, teachers=(whole,))
    course = train.prepare(taught)
    next(train.epochs(course))
    checkpoint.save(course)
    with pytest.raises(UsageError, match="another teachers:"):
        checkpoint.load(train.prepare(tiny.options(tmp_path / "stopped", mnist, epochs=2)))
    assert alike(runs.run(taught, resume=True).folder, undisturbed)
    assert not alike(undisturbed, runs.run(tiny.options(tmp_path / "alone", mnist, epochs=2)).folder)


def test_a_teacher_is_not_replaced_by_its_own_student(whole: Path, mnist: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(whole, folder)
    before = files_of(folder)
    with pytest.raises(UsageError, match=r"--teacher .*mine is the model that .*mine is to replace: name another"):
        runs.run(tiny.options(folder, mnist, epochs=1, teachers=(whole, folder)), overwrite=True)
    assert files_of(folder) == before
    assert not checkpoint.path_in(folder).exists()


def test_a_run_from_another_model_is_not_the_same_run(whole: Path, course: train.Course, mnist: Path) -> None:
    with pytest.raises(UsageError, match="another from:"):
        checkpoint.load(train.prepare(tiny.options(course.options.output, mnist, epochs=2, start=whole)))


def test_a_checkpoint_of_another_version_is_named(
    course: train.Course, mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SCHEMA", "digitize-checkpoint/9")
    with pytest.raises(ModelError, match=r"its schema is 'digitize-checkpoint/1', not 'digitize-checkpoint/9'"):
        checkpoint.load(train.prepare(tiny.options(course.options.output, mnist, epochs=2)))


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(
    course: train.Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkpoint.path_in(course.options.output)
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        checkpoint.save(course)
    assert path.read_bytes() == before


def test_an_epochs_loss_is_the_mean_of_its_steps(mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    course = train.prepare(tiny.options(tmp_path / "x", mnist, steps=4))
    answers = iter([(4.0, 0.0), (3.0, 0.5), (2.0, 0.5), (1.0, 1.0)])
    monkeypatch.setattr(course.network, "train_on_batch", lambda *_: next(answers))
    ticks: list[train.Tick] = []
    course.watch = ticks.append
    (record,) = train.epochs(course)
    assert str(ticks[1]) == "loss 3.5000, accuracy 25.00%"
    assert ticks[1].where == "epoch 1/1"
    assert (record.loss, record.accuracy) == (2.5, 0.5)
    assert [(tick.step, tick.loss) for tick in ticks] == [(1, 4.0), (2, 3.5), (3, 3.0), (4, 2.5)]


def test_training_that_diverges_says_so(course: train.Course, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course.network, "train_on_batch", lambda *_: (float("nan"), 0.1))
    with pytest.raises(UsageError, match="diverged in epoch 2, its loss is nan: lower --learning-rate"):
        next(train.epochs(course))


def test_the_recipe_of_the_article_is_plain(mnist: Path, tmp_path: Path) -> None:
    course = train.prepare(tiny.options(tmp_path / "plain", mnist, recipe=recipes.ARTICLE, steps=20))
    assert course.average is None
    assert type(course.network.optimizer).__name__ == "SGD"
    images, labels = next(train.batches(course, 1))
    known = {image.tobytes() for image in course.mnist.train_images}
    assert all(image[..., 0].tobytes() in known for image in images)  # as they are
    assert len(labels) == tiny.BATCH
    records = list(train.epochs(course))
    assert [record.step for record in records] == [16, 20]  # steps count, whatever the epochs
    assert course.best_epoch == 2
    assert float(course.network.optimizer.learning_rate) == pytest.approx(5e-3)


def test_a_set_of_twice_the_weight_comes_twice_as_often(mnist: Path, tmp_path: Path) -> None:
    course = train.prepare(tiny.options(tmp_path / "plain", mnist, recipe=recipes.ARTICLE))
    course.pool.weights[:150] = 3.0
    rows = np.flatnonzero(~course.kept)
    stream = train._shuffled(rows, course.pool.weights[rows], np.random.default_rng(1))
    drawn = np.bincount([next(stream) for _ in range(20_000)], minlength=300)
    heavy, light = drawn[:150].sum() / (rows < 150).sum(), drawn[150:].sum() / (rows >= 150).sum()
    assert heavy / light == pytest.approx(3, rel=0.1)


def test_files_that_disagree_are_refused(whole: Path, tmp_path: Path) -> None:
    import keras

    assert "probabilities within" in evaluate.verify(whole)
    folder = tmp_path / "other"
    shutil.copytree(whole, folder)
    model = keras.models.load_model(folder / models.KERAS_FILE, compile=False)
    model.set_weights([weight * 1.5 for weight in model.get_weights()])
    model.save(folder / models.KERAS_FILE)
    with pytest.raises(ModelError, match=r"model\.keras has sha256"):
        evaluate.verify(folder)
    card = json.loads((folder / models.CARD_FILE).read_text())
    models.write_card(folder, card)  # now the hashes are right
    with pytest.raises(ModelError, match="its two files disagree"):
        evaluate.verify(folder)
    models.write_card(folder, {**card, "classes": card["classes"][:10]})
    with pytest.raises(ModelError, match=r"maps .* to \(11,\), its card says .* to \(10,\)"):
        evaluate.verify(folder)


def test_the_command_line_lists_shows_verifies_and_reports(
    whole: Path, mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(whole, tmp_path / "models" / "mine")

    def digitize(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["digitize", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out + said.err

    code, said = digitize("models", "list")
    assert code == 0
    assert f", {Path('models', 'mine')}" in said
    assert json.loads(digitize("models", "show", "mine")[1])["network"] == "tiny"
    code, said = digitize("models", "verify", "mine", "--data", str(mnist), "-n", "40")
    assert code == 0
    assert "agree on 40 of 40 tiles" in said
    code, said = digitize("evaluate", "mine", "--data", str(mnist), "--report", "told")
    assert code == 0
    assert "of 60 digits of" in said, "which may have no test part"
    assert (tmp_path / "told" / "curves.png").is_file()  # the model's own history
    with (tmp_path / "models" / "mine" / models.TFLITE_FILE).open("ab") as stream:
        stream.write(b"!")
    told = ["evaluate", "mine", "--data", str(mnist)]
    for words in (["models", "list"], ["models", "show", "mine"], ["models", "verify", "mine"], told):
        code, said = digitize(*words)
        assert code == 6
        assert "sha256" in said


def test_an_absent_gpu_is_an_error(mnist: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no GPU 7"):
        train.prepare(tiny.options(tmp_path / "x", mnist, device="gpu:7"))
    with pytest.raises(UsageError, match="'tpu'"):
        train.prepare(tiny.options(tmp_path / "x", mnist, device="tpu"))


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"validation": 0.0}, {"validation": 0.6}])
def test_options_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        train.Options(Path("unused"), **wrong)


def test_the_command_line_trains_and_resumes(
    mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("digitize")
    before = log.handlers[:], log.level, log.propagate

    def digitize(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["digitize", "train", *words, "-o", str(tmp_path / "tiny")])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capsys.readouterr().err

    given = ("--data", str(mnist), "--network", "tiny", "--epochs", "1", "--batch-size", "32")
    assert digitize(*given)[0] == 0
    code, said = digitize(*given)
    assert code == 5
    assert "--overwrite" in said
    code, said = digitize(*given, "--resume")
    assert code == 0
    assert "nothing is left to do" in said
    assert digitize(*given, "--recipe", "ours")[0] == 2
    log.handlers[:], log.level, log.propagate = before


def test_recipes_are_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["digitize", "train", "--list-recipes"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    said = capsys.readouterr().out
    assert "article: TensorFlow's first" in said
    assert "plain SGD, learning rate 0.001, batches of 100, 10,000 steps, digits as they are" in said


def test_tensorflow_reads_the_logs(tmp_path: Path) -> None:
    import tensorflow

    with eventlog.EventLog(tmp_path) as events:
        events.add(7, {"loss": 0.25, "accuracy": 0.5})
        events.add(300, {"loss": 0.125})
    (path,) = tmp_path.iterdir()
    read = []
    for record in tensorflow.data.TFRecordDataset(str(path)):  # checks both checksums
        event = tensorflow.compat.v1.Event.FromString(record.numpy())
        read.append((event.step, {value.tag: value.simple_value for value in event.summary.value}))
        assert event.wall_time > 0
    assert read == [(0, {}), (7, {"loss": 0.25, "accuracy": 0.5}), (300, {"loss": 0.125})]


def test_the_checksum_is_castagnolis() -> None:
    # RFC 3720, B.4: the CRC-32C of 32 zero bytes is aa 36 91 8a.
    (masked,) = struct.unpack("<I", eventlog._checksum(bytes(32)))
    turned = (masked - eventlog.MASK) & 0xFFFFFFFF
    assert ((turned >> 17 | turned << 15) & 0xFFFFFFFF) == 0x8A9136AA
