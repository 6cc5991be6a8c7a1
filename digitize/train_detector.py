"""Trains the detector on drills and writes its model folder.

What is minimised is the penalty-reduced focal loss of "Objects as Points" (Zhou, Wang & Krähenbühl 2019, after Law &
Deng's CornerNet) on where digits' middles lie, and at the middles the cross entropy of the value and the absolute error
of the edges. Adam with decoupled weight decay, a warm-up and one cosine down; what is kept is the running mean of the
weights, as in `train.py`. Validation drills come from writers and fonts that training never sees.

`steps` is the work, a generator that yields a record now and then; `finish` writes the folder; `runs.py` calls both,
with checkpoints and a progress bar. With every batch comes the state of the chances that follow it, so that a run can
be taken up at any step and goes on as if it had never stopped.

Steps may run in mixed precision (bfloat16), which processors with AMX and GPUs do faster; what is saved is float32.
"""

from __future__ import annotations

import math
import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from digitize import __version__, detect, drills, models
from digitize.datasets import file_hash
from digitize.decode import reported
from digitize.drills import Asked, Boxes, Drill
from digitize.engine import import_keras
from digitize.errors import DatasetError, OutputError, UsageError
from digitize.losses import match_boxes
from digitize.records import Box
from digitize.train import (
    AVERAGE_EVERY,
    WEIGHT_DECAY,
    Bits,
    Tick,
    blend,
    describe_device,
    export,
    placed,
    prefetched,
    start_from,
)

AVERAGE_STEPS = 500  # steps over which the running mean of the weights reaches back
WARM_UP, MOST_WARM_UP = 0.1, 400  # of all steps, and steps
EDGES_WEIGHT = 0.25  # of the edges' error beside the two other losses
AT_MIDDLE = 0.999  # height of a bump from which a cell is a digit's middle
RARE = -4.0  # bias of the middles' logit at the start: few cells are one
REPORT_EVERY = 500  # steps
CHECKPOINT_EVERY = 100  # steps
VALIDATION_BLOCKS = 96
LITE_BITS: Bits = 8  # of a weight in the tflite file: three times as fast, and as good on validation sheets


@dataclass(frozen=True, slots=True)
class Options:
    """What to train on, and how long.

    Attributes:
        output: the model folder to write; it is made, its files are replaced.
        drills: files of `digitize sheets drills`, from the training writers.
        held: one such file from the validation writers.
        name: the model's name in its card; the folder's name where empty.
        steps, batch_size, learning_rate, seed: as usual; a batch counts blocks.
        device: "auto", what Keras takes; "cpu", "gpu" or "gpu:N".
        start: a model folder whose weights training starts from; fresh ones where None.
        mixed: run steps in bfloat16.
        notes: added to the card under "data", one entry for each source that the drills were made from.
    """

    output: Path
    drills: tuple[Path, ...]
    held: Path
    name: str = ""
    steps: int = 18_000
    batch_size: int = 16
    learning_rate: float = 2.5e-3
    seed: int = 1
    device: str = "auto"
    start: Path | None = None
    mixed: bool = True
    notes: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if not self.drills:
            raise UsageError("a detector learns from drills, and none are given: make them with digitize sheets drills")
        if self.steps < 1 or self.batch_size < 1 or not self.learning_rate > 0:
            raise UsageError("steps and batch size must be at least 1 and the learning rate above 0")


@dataclass(frozen=True, slots=True)
class Progress:
    """How training stands; as text, one line for a log.

    Attributes:
        step, steps: counted from 1.
        seconds: of training, since the start.
        loss: mean training loss since the last report.
        validation_loss: of the running mean on the validation blocks.
        accuracy: share of the middles on these whose value is right.
    """

    step: int
    steps: int
    seconds: float
    loss: float
    validation_loss: float
    accuracy: float

    def __str__(self) -> str:
        return (
            f"step {self.step}/{self.steps}, {self.seconds:.0f} s, loss {self.loss:.4f}, "
            f"validation {self.validation_loss:.4f}, values {self.accuracy:.2%}"
        )

    def figures(self) -> dict[str, float]:
        """What TensorBoard shows of it, by tag."""
        figures = {"loss": self.loss, "validation_loss": self.validation_loss, "values": self.accuracy}
        return {f"report/{name}": value for name, value in figures.items()}


@dataclass(slots=True)
class Course:
    """The state of a training run.

    Attributes:
        options: what it was asked for.
        drills: to train on.
        hashes: sha256 of the drill files, the held one last.
        blocks, truth, asked: the validation blocks, their digits, and what they ask for.
        network: in training, compiled.
        mean: a float32 twin that gets the running mean of its weights.
        start: what a card says of the model that training starts from; empty where there is none.
        average: that mean.
        rng: where the chances of batches come from; it is ahead of the steps, as batches are.
        chances: its state after the batch that was learnt last.
        step, seconds: how many are done.
        history: a record for each report.
        watch: told of every step.
        stop: once set, training ends after the step it is at.
        interrupted: it was stopped before its end.
    """

    options: Options
    drills: list[Drill] = field(repr=False)
    hashes: list[str] = field(repr=False)
    blocks: NDArray[np.uint8] = field(repr=False)
    truth: list[Boxes] = field(repr=False)
    asked: Asked = field(repr=False)
    network: Any = field(repr=False)
    mean: Any = field(repr=False)
    start: dict[str, Any] = field(repr=False)
    average: list[NDArray[Any]] = field(repr=False)
    rng: np.random.Generator = field(repr=False)
    chances: Any = field(repr=False)
    step: int = 0
    seconds: float = 0.0
    history: list[Progress] = field(repr=False, default_factory=list)
    watch: Callable[[Tick], None] | None = field(repr=False, default=None)
    stop: threading.Event = field(repr=False, default_factory=threading.Event)
    interrupted: bool = False

    UNIT: ClassVar[str] = "block"
    CHECKPOINT_EVERY: ClassVar[int | None] = CHECKPOINT_EVERY

    @property
    def folder(self) -> Path:
        """The model folder."""
        return self.options.output

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.options.steps

    def records(self) -> Iterator[Progress]:
        """Train to the end; see the function `steps`."""
        return steps(self)

    def finish(self) -> Path:
        """Write the model folder; see the function `finish`."""
        return finish(self)

    def plan(self) -> dict[str, Any]:
        """What has to be the same for a run to be the same."""
        options = self.options
        return {
            "network": self.mean.name,
            "steps": options.steps,
            "batch-size": options.batch_size,
            "learning-rate": options.learning_rate,
            "seed": options.seed,
            "from": self.start.get("sha256"),
            "mixed": options.mixed,
            "drills": self.hashes,
        }

    def standing(self) -> dict[str, Any]:
        """Where it stands, for a checkpoint."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "chances": self.chances,
            "history": [asdict(record) for record in self.history],
        }

    def take_up(self, standing: dict[str, Any]) -> None:
        """Stand where `standing` says."""
        self.history[:] = [Progress(**record) for record in standing["history"]]
        self.step, self.seconds = int(standing["step"]), float(standing["seconds"])
        self.chances = self.rng.bit_generator.state = standing["chances"]

    def parts(self) -> dict[str, Iterable[Any]]:
        """What a checkpoint keeps: Keras's variables, and the running mean's arrays."""
        return {
            "network": self.network.variables,
            "optimizer": self.network.optimizer.variables,
            "average": self.average,
        }


def prepare(options: Options) -> Course:
    """Read the drills and build the network.

    Raises:
        DatasetError: a file holds no drills, or none with digits.
        ModelError: `start` is missing or no detector.
        DeviceError: the named device is not there.
    """
    own = [drill for path in options.drills for drill in drills.load_drills(path)]
    held = drills.load_drills(options.held)
    if not any(len(drill.boxes) for drill in own) or not any(len(drill.boxes) for drill in held):
        raise DatasetError(f"{options.drills[0]} or {options.held}: there is no digit on the drills; make more")
    import_keras()
    import keras

    from digitize import network

    keras.utils.set_random_seed(options.seed)
    with placed(options.device):
        mean = network.scout()
        mean.get_layer("places").bias.assign(np.r_[RARE, np.zeros(detect.CHANNELS - 1)].astype(np.float32))
        start = start_from(mean, options.start)
        with network.precision(options.mixed):
            trained = network.scout()
        trained.set_weights(mean.get_weights())
        _compile(trained, options)
    rng = np.random.default_rng(options.seed)
    pairs = [drills.compose_block(held, rng, alike=True) for _ in range(VALIDATION_BLOCKS)]
    truth = [boxes for _, boxes in pairs]
    chances = np.random.default_rng(options.seed)
    return Course(
        options,
        drills=own,
        hashes=[file_hash(path) for path in (*options.drills, options.held)],
        blocks=np.stack([block for block, _ in pairs])[..., None],
        truth=truth,
        asked=np.stack([drills.ask(boxes) for boxes in truth]),
        network=trained,
        mean=mean,
        start=start,
        average=[np.array(weight) for weight in mean.get_weights()],
        rng=chances,
        chances=chances.bit_generator.state,
    )


def _compile(network: Any, options: Options) -> None:
    """Give the network its optimizer, with the state that a checkpoint restores."""
    import keras

    warm = max(1, min(MOST_WARM_UP, round(WARM_UP * options.steps)))
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, options.steps - warm), warmup_target=options.learning_rate, warmup_steps=warm
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY)
    network.compile(optimizer, detection_loss, jit_compile=False)
    optimizer.build(network.trainable_variables)


def steps(course: Course) -> Iterator[Progress]:
    """Train from where the course stands; afterwards its `mean` is the detector.

    Yields:
        A record every `REPORT_EVERY` steps, after the last, and where `stop` ended it.

    Raises:
        UsageError: the loss is no number any more.
    """
    options, losses, began = course.options, [0.0], time.perf_counter() - course.seconds
    with placed(options.device):
        for (blocks, asked), chances in prefetched(_with_chances(course)):
            losses.append(float(course.network.train_on_batch(blocks, asked)))
            course.step += 1
            course.chances = chances
            course.seconds = time.perf_counter() - began
            if course.step % AVERAGE_EVERY == 0 or course.step == options.steps:
                reach = min(AVERAGE_STEPS, max(AVERAGE_EVERY, course.step / 10))
                blend(course.average, course.network.get_weights(), AVERAGE_EVERY / reach)
            loss = float(np.mean(losses[1:]))
            if course.watch is not None:
                course.watch(Tick(course.step, loss))
            stopped = course.stop.is_set() and course.step < options.steps
            if course.step % REPORT_EVERY == 0 or course.step == options.steps or stopped:
                if not math.isfinite(loss):
                    raise UsageError(
                        f"training diverged before step {course.step}, its loss is {loss}: lower --learning-rate"
                    )
                course.interrupted = stopped
                course.history.append(_report(course, loss))
                yield course.history[-1]
                losses = [0.0]
            if stopped:
                return


def _report(course: Course, loss: float) -> Progress:
    """Judge the running mean on the validation blocks."""
    import keras

    course.mean.set_weights(course.average)
    answers = _answers(course)
    judged = float(keras.ops.convert_to_numpy(detection_loss(course.asked, answers)))
    middles = course.asked[..., 0] >= AT_MIDDLE
    right = answers[..., 1:11].argmax(axis=-1)[middles] == course.asked[..., 2][middles]
    return Progress(course.step, course.steps, course.seconds, loss, judged, float(right.mean()))


def _with_chances(course: Course) -> Iterator[tuple[tuple[NDArray[np.uint8], Asked], Any]]:
    """The batches that are left, each with the state of the chances after it."""
    for batch in batches(course, course.steps - course.step):
        yield batch, course.rng.bit_generator.state


def batches(course: Course, count: int) -> Iterator[tuple[NDArray[np.uint8], Asked]]:
    """Compose `count` batches: blocks uint8 (batch, rows, columns, 1) and what they ask for."""
    for _ in range(count):
        pairs = [drills.compose_block(course.drills, course.rng) for _ in range(course.options.batch_size)]
        blocks = np.stack([block for block, _ in pairs])[..., None]
        yield blocks, np.stack([drills.ask(boxes) for _, boxes in pairs])


def detection_loss(asked: Any, answers: Any) -> Any:
    """The loss of a batch: how far what a detector answers is from what was asked for.

    Args:
        asked: float32 (N, rows, columns, 7), as `drills.ask` makes it.
        answers: float32 (N, rows, columns, 15).

    Returns:
        A scalar tensor of the backend.
    """
    from keras import ops

    bump, weight, value, edges = asked[..., 0], asked[..., 1], ops.cast(asked[..., 2], "int32"), asked[..., 3:]
    middle = ops.cast(bump >= AT_MIDDLE, "float32")
    logit = answers[..., 0]
    seen = ops.sigmoid(logit)
    missed = middle * ops.square(1 - seen) * ops.softplus(-logit)
    invented = (1 - middle) * ops.power(1 - bump, 4) * ops.square(seen) * ops.softplus(logit)
    entropy = ops.sparse_categorical_crossentropy(value, answers[..., 1:11], from_logits=True)
    distance = ops.sum(ops.abs(answers[..., 11:15] - edges), axis=-1)
    total = ops.maximum(ops.sum(weight), 1.0)
    return (
        ops.sum(missed + invented) / ops.maximum(ops.sum(middle), 1.0)
        + ops.sum(weight * entropy) / total
        + EDGES_WEIGHT * ops.sum(weight * distance) / total
    )


def _answers(course: Course) -> NDArray[np.float32]:
    """What the running mean says of the validation blocks."""
    size = course.options.batch_size
    parts = [
        np.asarray(course.mean.predict_on_batch(course.blocks[start : start + size]), np.float32)
        for start in range(0, len(course.blocks), size)
    ]
    return np.concatenate(parts)


def finish(course: Course) -> Path:
    """Write the model folder.

    Returns:
        The model folder.

    Raises:
        OutputError: it cannot be written.
    """
    from digitize import network

    folder = course.options.output
    course.mean.set_weights(course.average)  # a run that was killed after its last step has nothing left to judge
    try:
        with models.renewed(folder) as made:
            export(course.mean, made, bits=LITE_BITS)
            models.write_card(made, _card(course, network))
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error}): choose another folder") from error
    return folder


def measure(course: Course) -> dict[str, float]:
    """Precision and recall of places on the validation blocks, and the share of matched ones whose value is right.

    Each place is judged by itself: a detector has no context before `digitize calibrate --context`.
    """
    found = given = there = right = 0
    shape = detect.BLOCK_ROWS, detect.BLOCK_COLUMNS
    for block, answer, truth in zip(course.blocks, _answers(course), course.truth, strict=True):
        inner = (0, 0, detect.BLOCK_COLUMNS, detect.BLOCK_ROWS)
        whole = detect.Block(block[..., 0], 0, 0, inner, 1.0, (1.0, 1))
        peaks = detect.find_peaks([whole], answer[None])
        places = reported(detect.find_places(peaks, shape))
        boxes = [
            Box(max(0, round(left)), max(0, round(top)), max(1, round(right - left)), max(1, round(bottom - top)))
            for _, left, top, right, bottom in truth.tolist()
        ]
        pairs = match_boxes(boxes, [place.box for place in places])
        found, given, there = found + len(pairs), given + len(places), there + len(boxes)
        right += sum(int(places[j].digits.argmax()) == int(truth[i][0]) for i, j in pairs)
    return {
        "validation_precision": found / max(1, given),
        "validation_recall": found / max(1, there),
        "validation_values": right / max(1, found),
    }


def _card(course: Course, network: Any) -> dict[str, Any]:
    import keras

    options = course.options
    packages = ("keras", keras.backend.backend(), "numpy", "ai-edge-litert")
    paths = (*options.drills, options.held)
    files = [{"name": path.name, "sha256": value} for path, value in zip(paths, course.hashes, strict=True)]
    return {
        "name": options.name or options.output.resolve().name,
        "task": "detect",
        "network": course.mean.name,
        "views": 1,
        "classes": list(models.DIGIT_CLASSES),
        "takes": [detect.BLOCK_ROWS, detect.BLOCK_COLUMNS, 1],
        "gives": [
            detect.BLOCK_ROWS // detect.CELL_ROWS,
            detect.BLOCK_COLUMNS // detect.CELL_COLUMNS,
            detect.CHANNELS,
        ],
        "parameters": network.parameters(course.mean),
        "macs": network.macs(course.mean),
        "data": [*files, {"name": "drills in all", "sheets": len(course.drills)}, *options.notes],
        **({"from": course.start} if course.start else {}),
        "seed": options.seed,
        "training": {
            "steps": course.step,
            "interrupted": course.interrupted,
            "batch_size": options.batch_size,
            "learning_rate": options.learning_rate,
            "precision": "mixed_bfloat16" if options.mixed else "float32",
        },
        "versions": {
            "digitize": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
        "trained_on": describe_device(options.device),
        "date": datetime.now(UTC).date().isoformat(),
        "accuracy": measure(course),
        "calibration": {"temperature": 1.0},
    }
