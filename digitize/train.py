"""Trains a network and writes a model folder.

`epochs` is the work, a generator that yields a record after each epoch; `finish` writes the folder; `runs.py` calls
both, with checkpoints and a progress bar. Each epoch draws its chances from the seed and its own number, so that a run
taken up at an epoch goes on as if it had never stopped.

Everything is chosen on validation digits, whole writers of MNIST's training set that are never trained on (and the
held tiles of the sheet maker): the best epoch by its mean negative log likelihood, and the temperature. The 10,000
test digits are looked at once, at the end, through the tflite file as it is shipped.

What is in force in the default recipe (`recipes.py`), and where it comes from:
- Adam with decoupled weight decay (Loshchilov & Hutter 2019), a linear warm-up and one cosine down to nothing.
- What is judged and shipped is the running mean of the weights (Polyak & Juditsky 1992), kept here and not by the
  optimizer so that any Keras backend does it alike.
- MNIST's digits are turned, sheared, scaled and bent (Simard et al. 2003) with one interpolation, and some made thicker
  or thinner. The sheet maker's tiles have been distorted as ink already and are turned a little, both views alike.
"""

from __future__ import annotations

import logging
import math
import os
import platform
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from digitize import __version__, corpora, datasets, engine, known, machine, models, recipes
from digitize.corpora import Source
from digitize.errors import DatasetError, DeviceError, ModelError, OutputError, UsageError
from digitize.records import NO_DIGIT, TILE_SIDE, Tiles
from digitize.teacher import Targets, Teachers, softened_loss

VALIDATION_SHARE = 0.1  # of the training digits
HELD_LIMIT = 40_000  # tiles of the sheet maker judged after each epoch, at most
JUDGE_BATCH = 1024  # tiles
WARM_UP = 0.05  # of all steps
WEIGHT_DECAY = 1e-4
AVERAGE_STEPS = 300  # steps over which the running mean of the weights reaches back
AVERAGE_EVERY = 10  # steps between two updates of it
PREFETCH = 8  # batches made ahead of the training step

Bits = Literal[32, 16, 8]

TURN = math.radians(10)
SHEAR = 0.2
SCALE = 1.17  # at most so much larger or smaller, each way by itself
SHIFT = 1.0  # pixels
BEND = 0.5  # pixels, standard deviation of the displacement at the knots of a 5x5 grid
KNOTS = 5
THICKER = 0.15  # share of MNIST digits whose strokes are widened by about half a pixel each side, and as many thinned
GENTLE = 0.3  # how much of turn, shear and scale the sheet maker's tiles get

PARITY_TILES = 2000  # on which a model's two files are compared
TYPICAL_TILES = 2000  # of each source, to see how large activations get
MOST_VALIDATION = 0.5  # share of the digits

Labels = NDArray[np.uint8]
Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Options:
    """What to train, on what, and how long.

    Attributes:
        output: the model folder to write; it is made, its files are replaced.
        network: key of `network.NETWORKS`.
        name: the model's name in its card; the folder's name where empty.
        data: sets of labelled digits; MNIST from the usual places where there are none.
        tiles: npz files of the sheet maker, for networks that know what is no digit.
        mnist_share: part of each epoch's tiles drawn from MNIST, where there are other tiles.
        epoch_tiles: tiles an epoch; None takes each MNIST training digit once, and the rest in proportion.
        epochs, batch_size, learning_rate, seed: as usual.
        steps: how many in all, instead of so many epochs.
        validation: share of the training digits that is kept for choosing.
        device: "auto", what Keras takes; "cpu", "gpu" or "gpu:N".
        recipe: for all that is not said here.
        start: name or folder of a model of the same network whose weights training starts from; fresh where None.
        teachers: names or folders of classifiers whose answers are learnt from beside the labels.
        mixed: run steps in bfloat16; what is judged and saved is float32.
        half: store the weights in 16 bits; for networks so large that it matters. Those that `quantize` rounds have 8.
    """

    output: Path
    network: str = models.DEFAULT_MODEL
    name: str = ""
    data: tuple[Source, ...] = ()
    tiles: tuple[Path, ...] = ()
    mnist_share: float = 0.25
    epoch_tiles: int | None = None
    epochs: int = 16
    batch_size: int = 256
    learning_rate: float = 2e-3
    seed: int = 1
    steps: int | None = None
    validation: float = VALIDATION_SHARE
    device: str = "auto"
    recipe: recipes.Recipe = recipes.DEFAULT
    start: Path | None = None
    teachers: tuple[Path, ...] = ()
    mixed: bool = False
    half: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or not self.learning_rate > 0:
            raise UsageError("epochs and batch size must be at least 1 and the learning rate above 0")
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"steps must be at least 1, not {self.steps}")
        if not 0 < self.validation <= MOST_VALIDATION:
            raise UsageError(f"the share kept for validation must be above 0 and at most 0.5, not {self.validation:g}")
        if not 0 <= self.mnist_share <= 1:
            raise UsageError(f"the share of MNIST must be from 0 to 1, not {self.mnist_share}")
        if self.epoch_tiles is not None and self.epoch_tiles < self.batch_size:
            raise UsageError(f"an epoch of {self.epoch_tiles} tiles is less than one batch of {self.batch_size}")


@dataclass(frozen=True, slots=True)
class Progress:
    """How training stands after one epoch; as text, one line for a log.

    Attributes:
        epoch, epochs: counted from 1.
        step: how many steps were made in all.
        seconds: this epoch, judging included.
        loss, accuracy: of the training tiles, as they were when they were learnt.
        digits_a_second: trained on, judging left out.
        mnist_accuracy: on MNIST's validation digits.
        tiles_accuracy: on the sheet maker's held tiles, None where there are none.
        validation_loss: mean negative log likelihood, MNIST and held tiles weighed as in training.
        best: this is the best epoch so far.
    """

    epoch: int
    epochs: int
    step: int
    seconds: float
    loss: float
    accuracy: float
    digits_a_second: float
    mnist_accuracy: float
    tiles_accuracy: float | None
    validation_loss: float
    best: bool

    def __str__(self) -> str:
        parts = [
            f"epoch {self.epoch}/{self.epochs}",
            f"{self.seconds:.0f} s",
            f"loss {self.loss:.4f}",
            f"validation {self.validation_loss:.4f}",
            f"MNIST {self.mnist_accuracy:.2%}",
        ]
        if self.tiles_accuracy is not None:
            parts.append(f"tiles {self.tiles_accuracy:.2%}")
        return ", ".join(parts) + (" *" if self.best else "")

    def figures(self) -> dict[str, float]:
        """What TensorBoard shows of it, by tag."""
        figures = {
            "epoch/loss": self.loss,
            "epoch/accuracy": self.accuracy,
            "epoch/validation_loss": self.validation_loss,
            "epoch/validation_accuracy": self.mnist_accuracy,
            "epoch/digits_a_second": self.digits_a_second,
        }
        if self.tiles_accuracy is not None:
            figures["epoch/tiles_accuracy"] = self.tiles_accuracy
        return figures


@dataclass(frozen=True, slots=True)
class Tick:
    """How training stands after one step.

    Attributes:
        step: how many were made in all.
        loss: mean since the last record.
        accuracy: likewise, where it is measured.
        where: which epoch of how many, where there are epochs.
    """

    step: int
    loss: float
    accuracy: float | None = None
    where: str = ""

    def __str__(self) -> str:
        return f"loss {self.loss:.4f}" + ("" if self.accuracy is None else f", accuracy {self.accuracy:.2%}")

    def figures(self) -> dict[str, float]:
        """What TensorBoard shows of it, by tag."""
        accuracy = {} if self.accuracy is None else {"training/accuracy": self.accuracy}
        return {"training/loss": self.loss, **accuracy}


@dataclass(slots=True)
class Course:
    """The state of a training run: what goes in, the network, and the best of it so far.

    Attributes:
        options: what was asked for.
        pool: the labelled digits.
        sets: the sheet maker's tiles.
        kept: bool (N,), training digits kept for validation.
        network: what is trained, compiled.
        best: a twin of the network with the best weights so far.
        start: what a card says of the model that training starts from; empty where there is none.
        teachers: who are learnt from beside the labels, None where there are none.
        best_loss, best_epoch: of it.
        average: the running mean of the weights, None where the recipe wants none.
        epoch, step: how many are done.
        history: a record for each epoch.
        watch: told of every step.
        stop: once set, training ends after the step it is at.
        interrupted: it was stopped before its end; with a record, before the end of that epoch.
    """

    options: Options
    pool: corpora.Pool = field(repr=False)
    sets: list[datasets.TileSet] = field(repr=False)
    kept: NDArray[np.bool_] = field(repr=False)
    network: Any = field(repr=False)
    best: Any = field(repr=False)
    start: dict[str, Any] = field(repr=False)
    teachers: Teachers | None = field(repr=False, default=None)
    best_loss: float = math.inf
    best_epoch: int = 0
    average: list[NDArray[Any]] | None = field(repr=False, default=None)
    epoch: int = 0
    step: int = 0
    history: list[Progress] = field(repr=False, default_factory=list)
    watch: Callable[[Tick], None] | None = field(repr=False, default=None)
    stop: threading.Event = field(repr=False, default_factory=threading.Event)
    interrupted: bool = False

    UNIT: ClassVar[str] = "digit"
    CHECKPOINT_EVERY: ClassVar[int | None] = None  # steps; only whole epochs can be taken up

    @property
    def folder(self) -> Path:
        """The model folder."""
        return self.options.output

    @property
    def mnist(self) -> datasets.Mnist:
        """All labelled digits."""
        return self.pool.mnist

    @property
    def steps(self) -> int:
        """Steps in all."""
        options = self.options
        return options.steps or options.epochs * self.epoch_steps

    @property
    def epoch_steps(self) -> int:
        """Steps in one epoch; the last may have fewer."""
        return max(1, _epoch_tiles(self) // self.options.batch_size)

    @property
    def epochs(self) -> int:
        """Epochs in all."""
        return -(-self.steps // self.epoch_steps)

    def records(self) -> Iterator[Progress]:
        """Train to the end; see `epochs`."""
        return epochs(self)

    def finish(self) -> Path:
        """Write the model folder; see the function `finish`."""
        return finish(self)

    def plan(self) -> dict[str, Any]:
        """What has to be the same for a run to be the same: options and the hashes of what is learnt from."""
        options = self.options
        return {
            "recipe": options.recipe.name,
            "network": options.network,
            "steps": self.steps,
            "batch-size": options.batch_size,
            "learning-rate": options.learning_rate,
            "seed": options.seed,
            "from": self.start.get("sha256"),
            "teachers": None if self.teachers is None else [entry["sha256"] for entry in self.teachers.entries],
            "mixed": options.mixed,
            "validation": options.validation,
            "mnist-share": options.mnist_share,
            "epoch-tiles": options.epoch_tiles,
            "data": [[entry["files"], entry["weight"]] for entry in self.pool.entries],
            "tiles": [one.sha256 for one in self.sets],
        }

    def standing(self) -> dict[str, Any]:
        """Where it stands, for a checkpoint; the chances of an epoch follow from the seed and its number."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss,
            "history": [asdict(record) for record in self.history],
        }

    def take_up(self, standing: dict[str, Any]) -> None:
        """Stand where `standing` says."""
        self.history[:] = [Progress(**record) for record in standing["history"]]
        self.epoch, self.step = int(standing["epoch"]), int(standing["step"])
        self.best_epoch, self.best_loss = int(standing["best_epoch"]), float(standing["best_loss"])

    def parts(self) -> dict[str, Iterable[Any]]:
        """What a checkpoint keeps: Keras's variables, and the running mean's arrays."""
        return {
            "network": self.network.variables,
            "optimizer": self.network.optimizer.variables,
            "best": self.best.variables,
            "average": self.average or [],
        }


def prepare(options: Options) -> Course:
    """Read the data and build the network.

    Args:
        options: see `Options`.

    Returns:
        A course that nothing was learnt on yet.

    Raises:
        DatasetError: a set or a tile file is missing or damaged, or does not fit the network.
        UsageError: there is no such network, or a teacher is the model that is to be written.
        ModelError: the model to start from is missing or another network, or a teacher is missing or does not fit.
        DeviceError: the named device is not there.
    """
    for teacher in options.teachers:
        if models.find(teacher).resolve() == options.output.resolve():  # which a run that is stopped writes, too
            raise UsageError(
                f"--teacher {teacher} is the model that {options.output} is to replace: name another folder with -o"
            )
    pool = corpora.gather(options.data)  # what is wrong with the data is said before Keras's slow start
    sets = [datasets.load_tiles(path, seed=options.seed) for path in options.tiles]
    engine.import_keras()
    import keras

    from digitize import network

    if options.network not in network.NETWORKS:
        raise UsageError(f"no network is called {options.network!r}; there are {', '.join(network.NETWORKS)}")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of shapes that it meets for the first time
    keras.utils.set_random_seed(options.seed)
    with placed(options.device):
        model = network.build(options.network, mixed=options.mixed)
        start = start_from(model, options.start)
        best = network.build(options.network)
        best.set_weights(model.get_weights())
    classes = int(model.output.shape[-1])
    names = [str(source.path) for source in options.data] or [known.MNIST.name]
    ends = np.cumsum([entry["digits"] for entry in pool.entries])[:-1]
    labelled = [*np.split(pool.mnist.train_labels, ends), *(one.labels for one in sets)]
    for name, labels in zip([*names, *map(str, options.tiles)], labelled, strict=True):
        if labels.max() >= classes:
            raise DatasetError(f"{name} has tiles of class {labels.max()}, {options.network} knows {classes} classes")
    if sets and all(tile_set.held.all() for tile_set in sets):
        raise DatasetError(f"{options.tiles[0]}: no tile is left to train on, all are held")
    mnist = pool.mnist
    kept = datasets.split_validation(
        mnist.train_labels, mnist.train_writers, share=options.validation, seed=options.seed
    )
    if kept.all():  # only whole writers are kept
        hands = len(np.unique(mnist.train_writers)) if mnist.train_writers is not None else len(kept)
        raise DatasetError(
            f"{', '.join(names)}: of {len(kept)} digits by {hands} writer{'s' if hands > 1 else ''} none is left to "
            "train on, as some writers are kept for validation: give digits of others with another --data"
        )
    teachers = Teachers(options.teachers, classes=classes) if options.teachers else None
    course = Course(options, pool, sets, kept, model, best, start, teachers)
    with placed(options.device):
        _compile(course)
    return course


def placed(device: str) -> AbstractContextManager[Any]:
    """The scope in which Keras works on a device: "auto" (its own choice), "cpu", "gpu" or "gpu:N".

    Raises:
        DeviceError: the named device is not there.
        UsageError: there is no such name.
    """
    import keras

    kind, _, number = device.partition(":")
    if device == "auto":
        return nullcontext()
    if device == "cpu":
        return cast("AbstractContextManager[Any]", keras.device("cpu"))
    if kind != "gpu" or (number and not number.isdigit()):
        raise UsageError(f"the device {device!r} is none of auto, cpu, gpu, gpu:N")
    names = engine.keras_gpus(keras.backend.backend())
    if int(number or 0) >= len(names):
        there = f"there are {len(names)}" if names else "there is none"
        raise DeviceError(f"no GPU {number or 0} is seen by Keras ({there}): use --device cpu or auto")
    return cast("AbstractContextManager[Any]", keras.device(names[int(number or 0)]))


def describe_device(device: str) -> str:
    """What training on `device` runs on, in words."""
    import keras

    backend = keras.backend.backend()
    if device != "cpu" and machine.gpu_seen() and engine.keras_gpus(backend):
        return f"GPU {device.partition(':')[2] or 0}, {backend}"
    return f"{machine.usable_cores()} CPU cores, {backend}"


def _compile(course: Course) -> None:
    """Give the network its optimizer, with the state that a checkpoint restores."""
    import keras

    options = course.options
    optimizer: Any
    if options.recipe.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(options.learning_rate)
    else:
        warm = max(1, round(WARM_UP * course.steps))
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0, max(1, course.steps - warm), warmup_target=options.learning_rate, warmup_steps=warm
        )
        optimizer = keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY)
    loss: Any = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if course.teachers is not None:
        loss = softened_loss()
    # XLA on a CPU is left to JAX, which without it runs operation by operation.
    compiled: bool | str = "auto" if keras.backend.backend() == "jax" else False
    course.network.compile(optimizer, loss, metrics=["accuracy"], jit_compile=compiled)
    optimizer.build(course.network.trainable_variables)
    if options.recipe.averaged:
        course.average = [np.array(weight) for weight in course.network.get_weights()]


def start_from(model: Any, name: Path | None) -> dict[str, Any]:
    """Take over the weights of a trained model.

    Args:
        model: a network of the same kind.
        name: of the trained model, or its folder; None leaves the weights as they are.

    Returns:
        What a card says of it: its name, the hash of its Keras file and what it was trained on; nothing where None.

    Raises:
        ModelError: it is not there, disagrees with its card, is another network, or one of other sizes.
    """
    if name is None:
        return {}
    folder = models.find(name)
    card = models.load_card(folder)
    if card.network != model.name:
        raise ModelError(f"{folder} holds the network {card.network}, not {model.name}: choose another with --from")
    trained = engine.load_keras(folder, card).get_weights()
    if [one.shape for one in trained] != [one.shape for one in model.get_weights()]:
        raise ModelError(
            f"{folder} holds a {card.network} of other sizes, of an earlier digitize or of other classes: "
            "choose another with --from"
        )
    model.set_weights(trained)
    return card.origin(models.KERAS_FILE)


def epochs(course: Course) -> Iterator[Progress]:
    """Train, epoch by epoch, from where the course stands.

    Args:
        course: from `prepare`, or taken up by `checkpoint.load`; afterwards its `best` holds the weights of the best
            epoch. Where its `stop` is set, the epoch ends early and is judged as it stands.

    Yields:
        A record after each epoch.

    Raises:
        UsageError: the loss is no number any more.
    """
    import keras

    other = course.average is not None or course.options.mixed  # what is judged is in float32
    judged = keras.models.clone_model(course.best) if other else course.network
    while course.step < course.steps and not course.stop.is_set():
        with placed(course.options.device):
            progress = _train_epoch(course, judged)
        course.interrupted = course.step < course.steps and course.step % course.epoch_steps > 0
        yield progress
    course.interrupted = course.step < course.steps  # it may have been stopped between two epochs


def _train_epoch(course: Course, judged: Any) -> Progress:
    """Train for one epoch; judge it with `judged`, which gets the weights, or their mean if there is one."""
    began = time.perf_counter()
    options, first = course.options, course.step
    told = np.zeros(2)  # loss and accuracy, summed over the steps
    steps = min(course.epoch_steps, course.steps - course.step)
    for tiles, labels in prefetched(taught(course, steps, epoch=course.epoch + 1)):
        told += course.network.train_on_batch(tiles, labels)
        course.step += 1
        if course.average is not None and course.step % AVERAGE_EVERY == 0:
            # Early on the mean reaches back over a tenth of the steps so far, or it would drag the start along.
            reach = min(AVERAGE_STEPS, max(AVERAGE_EVERY, course.step / 10))
            blend(course.average, course.network.get_weights(), AVERAGE_EVERY / reach)
        if course.watch is not None:
            loss, accuracy = (told / (course.step - first)).tolist()
            course.watch(Tick(course.step, loss, accuracy, f"epoch {course.epoch + 1}/{course.epochs}"))
        if course.stop.is_set():
            break
    trained = time.perf_counter() - began
    loss, accuracy = (told / (course.step - first)).tolist()
    if not math.isfinite(loss):
        raise UsageError(f"training diverged in epoch {course.epoch + 1}, its loss is {loss}: lower --learning-rate")
    if judged is not course.network:
        judged.set_weights(course.network.get_weights() if course.average is None else course.average)
    verdict = _judge(course, judged)
    better = verdict.loss < course.best_loss or not options.recipe.best
    course.epoch += 1
    if better:
        course.best.set_weights(judged.get_weights())
        course.best_loss, course.best_epoch = verdict.loss, course.epoch
    progress = Progress(
        epoch=course.epoch,
        epochs=course.epochs,
        step=course.step,
        seconds=time.perf_counter() - began,
        loss=loss,
        accuracy=accuracy,
        digits_a_second=(course.step - first) * options.batch_size / max(trained, 1e-9),
        mnist_accuracy=verdict.mnist_accuracy,
        tiles_accuracy=verdict.tiles_accuracy,
        validation_loss=verdict.loss,
        best=better,
    )
    course.history.append(progress)
    return progress


def finish(course: Course) -> Path:
    """Fit the temperature, write the model folder, look at the test digits, once, and report.

    A model that is there already is replaced when the new one has been verified and measured, and not before.

    Args:
        course: after its `epochs`.

    Returns:
        The model folder.

    Raises:
        OutputError: the folder cannot be written.
        ModelError: the two files that were made of the network disagree.
    """
    from digitize import network, quantize
    from digitize.evaluate import evaluate, verify
    from digitize.report import write_report

    options, folder = course.options, course.options.output
    with placed(options.device):
        verdict = _judge(course, course.best)
    temperature = 1.0
    if options.recipe.calibrated:
        temperature = fit_temperature(verdict.logits, verdict.labels, verdict.weights)
    images, labels = course.pool.tiles(course.kept, 2), course.mnist.train_labels[course.kept]
    tested = len(course.mnist.test_labels) > 0
    try:
        with models.renewed(folder) as made:
            shipped = network.with_softmax(course.best, temperature)
            if options.network in network.ROUNDED:
                export(quantize.quantized(shipped, _typical_tiles(course)), made, bits=8)
            else:
                export(shipped, made, bits=16 if options.half else 32)
            card = _card(course, verdict, temperature)
            models.write_card(made, card)
            verify(made, images[:PARITY_TILES])
            if tested:
                images, labels = course.mnist.test_images, course.mnist.test_labels
            outcome = evaluate(made, images, labels)
            if tested:
                card["accuracy"][course.pool.test_name] = outcome.accuracy
                card["accuracy"][f"{course.pool.test_name}_loss"] = outcome.loss
            models.write_card(made, card)
        write_report(
            folder / models.REPORT_FOLDER,
            outcome.probabilities,
            labels,
            images,
            history=[asdict(record) for record in course.history],
            title=f"{card['name']} on {len(labels):,} {'test' if tested else 'validation'} digits",
        )
    except ModelError as error:
        raise ModelError(f"{folder} is left as it was, since the new model is faulty: {error}") from error
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error}): choose another folder") from error
    return folder


def _typical_tiles(course: Course) -> Tiles:
    """Tiles of all that was trained on, evenly: uint8 (N, 28, 28, 2)."""
    parts = [course.pool.tiles(_spread_over(~course.kept), 2)]
    parts += [one.tiles[_spread_over(~one.held)] for one in course.sets]
    return np.concatenate(parts)


def _spread_over(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """At most `TYPICAL_TILES` indices at which bool (N,) is True, evenly spread."""
    where = np.flatnonzero(mask)
    return where[:: -(-len(where) // TYPICAL_TILES) or 1]


def export(model: Any, folder: Path, *, bits: Bits = 32) -> None:
    """Write a network as `model.keras` and as `model.tflite`, without traces of its training.

    Args:
        model: a `keras.Model` from tiles to probabilities, of any batch size.
        folder: exists; files of these names are replaced.
        bits: of a weight in the tflite file. 16 rounds them in both files alike, for a model that
            `network.with_softmax` made, without batch norm; 8 does so for one that `quantize` made, and for others is
            as fast, but says nearly the same, not quite.

    Raises:
        OutputError: the tflite file could not be made.
    """
    import keras

    if bits == 16:
        _round_to_half(model)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as place:
        kept, lite = Path(place) / models.KERAS_FILE, Path(place) / models.TFLITE_FILE
        model.save(kept)
        if keras.backend.backend() == "tensorflow":
            convert(kept, lite, bits=bits)
        else:
            _convert_elsewhere(kept, lite, bits)
        for made in (kept, lite):
            made.replace(folder / made.name)


def convert(kept: Path, lite: Path, *, bits: Bits = 32) -> None:
    """Make a tflite file of a Keras file; only Keras on TensorFlow can, for any batch size.

    Args:
        kept: a Keras file.
        lite: the tflite file to write.
        bits: of a weight; with 8, activations are rounded to 8 bits too while it runs: as `quantize` has laid down, or
            else each item by its own scale (TensorFlow's dynamic range quantization).
    """
    import keras
    import tensorflow

    smaller: dict[str, Any] = {}
    if bits < 32:
        smaller["optimizations"] = [tensorflow.lite.Optimize.DEFAULT]
    if bits == 16:
        smaller["target_spec"] = {"supported_types": [tensorflow.float16]}
    keras.models.load_model(kept, compile=False).export(str(lite), format="litert", verbose=False, **smaller)


def _round_to_half(model: Any) -> None:
    """Round weights so that 16 bits hold them exactly once the converter has been at them.

    It multiplies the scaling by 255 into the first layer and the temperature into the last before it rounds, so what
    is rounded here is that product; else the two files disagree where two digits are nearly as likely.
    """
    from digitize import network

    weighted = [layer for layer in model.layers if layer.get_weights()]
    factors = {weighted[0].name: (1 / network.INK, 1.0)}
    divided = model.get_layer("temperature").scale
    factors[weighted[-1].name] = (divided, divided)
    for layer in weighted:
        rounded = [
            (weight * factor).astype(np.float16).astype(np.float32) / np.float32(factor)
            for weight, factor in zip(layer.get_weights(), factors.get(layer.name, (1.0, 1.0)), strict=True)
        ]
        layer.set_weights(rounded)


def _convert_elsewhere(kept: Path, lite: Path, bits: Bits) -> None:
    """Run `convert` in a process in which Keras is on TensorFlow."""
    program = (
        "import sys; from pathlib import Path; from digitize.train import convert; "
        "convert(Path(sys.argv[1]), Path(sys.argv[2]), bits=int(sys.argv[3]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(kept), str(lite), str(bits)],
        env={
            **os.environ,
            "KERAS_BACKEND": "tensorflow",
            "CUDA_VISIBLE_DEVICES": "-1",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),  # finds this package as we found it
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not lite.is_file():
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise OutputError(f"{lite.name} could not be made ({reason}): is TensorFlow installed?")


def fit_temperature(logits: NDArray[np.float32], labels: Labels, weights: NDArray[np.float64] | None = None) -> float:
    """Find the temperature under which the labels are most likely (Guo et al. 2017).

    Args:
        logits: float32 (N, classes).
        labels: uint8 (N,), in 0..classes - 1.
        weights: float64 (N,), how much each counts; None for all alike.

    Returns:
        The divisor of the logits, between 0.2 and 5. The loss is convex in its inverse; found by golden section.
    """
    shrink = (math.sqrt(5) - 1) / 2
    low, high = 0.2, 5.0  # of the inverse
    for _ in range(40):
        left, right = high - shrink * (high - low), low + shrink * (high - low)
        if log_loss(logits * np.float32(left), labels, weights) < log_loss(logits * np.float32(right), labels, weights):
            high = right
        else:
            low = left
    return 2 / (low + high)


def log_loss(logits: NDArray[np.float32], labels: Labels, weights: NDArray[np.float64] | None = None) -> float:
    """Mean negative log likelihood of the labels under softmax(logits); arguments as of `fit_temperature`."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]
    return float(np.average(losses, weights=weights))


def distort(tiles: NDArray[np.uint8], rng: np.random.Generator, *, gentle: bool = False) -> NDArray[np.uint8]:
    """Turn, shear, scale and bend tiles about their centres, each its own way, with a single interpolation.

    Args:
        tiles: uint8 (N, 28, 28, views), 0 paper to 255 ink.
        rng: where the chances come from.
        gentle: a little turn, shear and scale only. The surroundings are the same place at half the scale with the
            same centre, so the same linear map fits both views; a bend or a shift would not.

    Returns:
        uint8 of the same shape.
    """
    count = len(tiles)
    strength = GENTLE if gentle else 1.0
    turn, shear, across, down = rng.uniform(-strength, strength, (4, count))
    cosine, sine = np.cos(turn * TURN), np.sin(turn * TURN)
    scales = np.exp(np.stack([across, down], axis=1) * math.log(SCALE))
    # Maps back, from a place in the new tile to one in the old: x' = A (x - centre) + centre.
    linear = np.stack([cosine, cosine * shear * SHEAR - sine, sine, sine * shear * SHEAR + cosine], axis=1)
    linear = linear.reshape(count, 2, 2) / scales[:, :, None]
    where = (linear.astype(np.float32) @ _GRID).reshape(count, 2, TILE_SIDE, TILE_SIDE) + np.float32(CENTRE)
    if not gentle:
        where += rng.uniform(-SHIFT, SHIFT, (count, 2, 1, 1)).astype(np.float32)
        where += _SPREAD @ rng.normal(0, BEND, (count, 2, KNOTS, KNOTS)).astype(np.float32) @ _SPREAD.T
    moved = np.empty_like(tiles)
    for place, tile in enumerate(tiles):
        columns, rows = where[place]
        moved[place] = cv2.remap(tile, columns, rows, cv2.INTER_LINEAR).reshape(tile.shape)
    return moved


def restroke(tile: NDArray[np.uint8], *, thicker: bool) -> NDArray[np.uint8]:
    """Widen or narrow the strokes of one digit by about half a pixel each side, at twice the resolution.

    Args:
        tile: uint8 (28, 28), 0 paper to 255 ink.
        thicker: widen, else narrow; a digit that would lose more than half its ink is left alone.

    Returns:
        uint8 (28, 28).
    """
    large = cv2.resize(tile, (2 * TILE_SIDE, 2 * TILE_SIDE), interpolation=cv2.INTER_CUBIC)
    changed = cv2.dilate(large, _CROSS) if thicker else cv2.erode(large, _CROSS)
    small = cv2.resize(changed, (TILE_SIDE, TILE_SIDE), interpolation=cv2.INTER_AREA).astype(np.uint8)
    if not thicker and small.sum(dtype=np.int64) * 2 < tile.sum(dtype=np.int64):
        return tile
    return small


def _spreading() -> NDArray[np.float32]:
    """The matrix (28, 5) that interpolates smoothly from knots to pixels."""
    unit = np.eye(KNOTS, dtype=np.float32)
    return np.asarray(cv2.resize(unit, (KNOTS, TILE_SIDE), interpolation=cv2.INTER_CUBIC), np.float32)


CENTRE = (TILE_SIDE - 1) / 2
_GRID = np.indices((TILE_SIDE, TILE_SIDE))[::-1].reshape(2, -1).astype(np.float32) - CENTRE  # x, y
_SPREAD = _spreading()
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


@dataclass(frozen=True, slots=True)
class _Verdict:
    mnist_accuracy: float
    tiles_accuracy: float | None
    loss: float
    logits: Logits
    labels: Labels
    weights: NDArray[np.float64]


def _judge(course: Course, model: Any) -> _Verdict:
    """Run the validation digits and the held tiles through `model`, a network that gives logits."""
    views = int(model.input.shape[-1])
    labels = course.mnist.train_labels[course.kept]
    logits = _logits(model, course.pool.tiles(course.kept, views))
    held_tiles, held_labels = _held(course)
    mnist_accuracy = float((logits.argmax(axis=1) == labels).mean())
    weights = np.full(len(labels), 1 / len(labels))
    tiles_accuracy = None
    if len(held_labels):
        held_logits = _logits(model, held_tiles[..., :views])
        tiles_accuracy = float((held_logits.argmax(axis=1) == held_labels).mean())
        logits = np.concatenate([logits, held_logits])
        labels = np.concatenate([labels, held_labels])
        share = course.options.mnist_share
        weights = np.concatenate([weights * share, np.full(len(held_labels), (1 - share) / len(held_labels))])
    return _Verdict(mnist_accuracy, tiles_accuracy, log_loss(logits, labels, weights), logits, labels, weights)


def _held(course: Course) -> tuple[Tiles, Labels]:
    """The held tiles of all files, at most `HELD_LIMIT`, the same ones each time."""
    rng = np.random.default_rng(course.options.seed)
    limit = HELD_LIMIT // max(1, len(course.sets))
    tiles = [np.zeros((0, TILE_SIDE, TILE_SIDE, 2), np.uint8)]
    labels = [np.zeros(0, np.uint8)]
    for tile_set in course.sets:
        rows = np.flatnonzero(tile_set.held & (tile_set.weights > 0))
        if len(rows) > limit:
            rows = np.sort(rng.choice(rows, limit, replace=False))
        tiles.append(tile_set.tiles[rows])
        labels.append(tile_set.labels[rows])
    return np.concatenate(tiles), np.concatenate(labels)


def _logits(model: Any, tiles: NDArray[np.uint8]) -> Logits:
    parts = [
        np.asarray(model.predict_on_batch(tiles[start : start + JUDGE_BATCH]), np.float32)
        for start in range(0, len(tiles), JUDGE_BATCH)
    ]
    return np.concatenate(parts)


def _epoch_tiles(course: Course) -> int:
    options = course.options
    if options.epoch_tiles is not None:
        return options.epoch_tiles
    trained = int((~course.kept).sum())
    if not course.sets:
        return trained
    if options.mnist_share > 0:
        return round(trained / options.mnist_share)
    return sum(int((~tile_set.held).sum()) for tile_set in course.sets)


def taught(course: Course, count: int, *, epoch: int = 1) -> Iterator[tuple[NDArray[np.uint8], Labels | Targets]]:
    """The same as `batches`, with what the teachers make of each tile instead of its label, where there are any.

    Loss and accuracy of training are measured by that, too; what is judged are labels.
    """
    for tiles, labels in batches(course, count, epoch=epoch):
        yield tiles, labels if course.teachers is None else course.teachers.targets(tiles, labels)


def batches(course: Course, count: int, *, epoch: int = 1) -> Iterator[tuple[NDArray[np.uint8], Labels]]:
    """Make `count` batches of an epoch: tiles uint8 (batch, 28, 28, views) and labels uint8 (batch,)."""
    options = course.options
    rng = np.random.default_rng((options.seed, epoch))
    views = int(course.network.input.shape[-1])
    mnist_rows = _shuffled(np.flatnonzero(~course.kept), course.pool.weights[~course.kept], rng)
    # Rows are drawn by weight, files by the sum of their weights; only running sums are held, never a copy of tiles.
    sets = [tile_set for tile_set in course.sets if not tile_set.held.all()]
    trained = [np.flatnonzero(~tile_set.held) for tile_set in sets]
    sums = [np.cumsum(one.weights[rows], dtype=np.float64) for one, rows in zip(sets, trained, strict=True)]
    totals = np.array([running[-1] for running in sums])
    for _ in range(count):
        from_mnist = options.batch_size
        if sets:
            from_mnist = int(rng.binomial(options.batch_size, options.mnist_share))
        rows = np.fromiter(mnist_rows, np.int64, from_mnist)
        tiles = [course.pool.tiles(rows, views)]
        if options.recipe.augment:
            _vary(tiles[0], course.pool.framed[rows], rng)
        labels = [course.mnist.train_labels[rows]]
        if from_mnist < options.batch_size:
            shares = rng.multinomial(options.batch_size - from_mnist, totals / totals.sum())
            for one, those, running, share in zip(sets, trained, sums, shares, strict=True):
                found = np.searchsorted(running, rng.random(share) * running[-1], side="right")
                rows = those[np.minimum(found, len(those) - 1)]
                drawn = distort(one.tiles[rows], rng, gentle=True) if options.recipe.augment else one.tiles[rows]
                tiles.append(drawn[..., :views])
                labels.append(one.labels[rows])
        yield np.concatenate(tiles), np.concatenate(labels)


def _vary(tiles: NDArray[np.uint8], framed: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """Distort digits in place, and thicken or thin some; those that are `framed` gently, both views alike."""
    alone = np.flatnonzero(~framed)
    digits = tiles[alone, ..., 0]
    for place in np.flatnonzero(rng.random(len(alone)) < 2 * THICKER):
        digits[place] = restroke(digits[place], thicker=rng.random() < 0.5)
    tiles[alone, ..., 0] = distort(digits[..., None], rng)[..., 0]
    if framed.any():
        tiles[framed] = distort(tiles[framed], rng, gentle=True)


def _shuffled(rows: NDArray[np.int64], weights: NDArray[np.float64], rng: np.random.Generator) -> Iterator[int]:
    """Yield all rows in random order, again and again; a row of twice the mean weight comes twice each time."""
    often = weights / weights.mean()
    while True:
        copies = np.floor(often + rng.random(len(rows))).astype(np.int64)
        for row in rng.permutation(np.repeat(rows, copies)):
            yield int(row)


def prefetched(items: Iterator[Any]) -> Iterator[Any]:
    """Run an iterator in a thread of its own, `PREFETCH` items ahead; its errors come out here."""
    ahead: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(PREFETCH)
    stopped = threading.Event()

    def put(item: tuple[Any, BaseException | None]) -> bool:
        while not stopped.is_set():
            try:
                ahead.put(item, timeout=0.5)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
        except Exception as error:  # noqa: BLE001 - handed over, and raised where the batch is asked for
            put((None, error))
        else:
            put((None, StopIteration()))

    threading.Thread(target=work, name="batches", daemon=True).start()
    try:
        while True:
            item, error = ahead.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stopped.set()


def blend(average: list[NDArray[Any]], weights: list[NDArray[Any]], share: float) -> None:
    """Move a running mean of weights, in place, by a share of the way to the weights as they are now."""
    for mean, weight in zip(average, weights, strict=True):
        if np.issubdtype(mean.dtype, np.floating):
            mean += np.float32(share) * (weight - mean)
        else:
            mean[...] = weight


def _card(course: Course, verdict: _Verdict, temperature: float) -> dict[str, Any]:
    import keras

    from digitize import network

    options = course.options
    classes = int(course.network.output.shape[-1])
    accuracy = {"mnist_validation": verdict.mnist_accuracy}
    if verdict.tiles_accuracy is not None:
        accuracy["tiles_validation"] = verdict.tiles_accuracy
    tile_entries = [
        {
            "name": path.name,
            "sha256": one.sha256,
            "tiles": len(one.labels),
            "no_digit": int((one.labels == NO_DIGIT).sum()),
        }
        for path, one in zip(options.tiles, course.sets, strict=True)
    ]
    packages = ("keras", keras.backend.backend(), "numpy", "ai-edge-litert")
    return {
        "name": options.name or options.output.resolve().name,
        "network": options.network,
        "views": network.views(course.network),
        "classes": [*models.DIGIT_CLASSES, models.NONE_CLASS][:classes],
        "parameters": network.parameters(course.network),
        "macs": network.macs(course.network),
        "data": [*course.pool.entries, *tile_entries],
        **({"from": course.start} if course.start else {}),
        **({"teachers": course.teachers.entries} if course.teachers is not None else {}),
        "seed": options.seed,
        "training": {
            "recipe": options.recipe.name,
            "optimizer": options.recipe.optimizer,
            "epochs": course.epoch,
            "steps": course.step,
            "interrupted": course.interrupted,
            "best_epoch": course.best_epoch,
            "epoch_tiles": _epoch_tiles(course),
            "mnist_share": options.mnist_share if course.sets else 1.0,
            "batch_size": options.batch_size,
            "learning_rate": options.learning_rate,
            "precision": "mixed_bfloat16" if options.mixed else "float32",
            "validation": "writers" if course.mnist.train_writers is not None else "random",
        },
        "versions": {
            "digitize": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
        "trained_on": describe_device(options.device),
        "date": datetime.now(UTC).date().isoformat(),
        "accuracy": accuracy,
        "calibration": {"temperature": temperature},
    }
