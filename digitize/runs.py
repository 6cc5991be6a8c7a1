"""A training run in its folder, a classifier's or a detector's: begun or taken up, watched, stopped and finished.

What lies in the folder while it runs: `checkpoint/`, written before the first step and anew after each epoch (of a
detector: every so many steps), deleted once the model is whole; `logs/`, for TensorBoard. Ctrl-C ends the step it falls
into: what was learnt so far is judged and written as a model, while the checkpoint stays, so that `--resume` goes on
from the last whole epoch (a detector: from that step). A second Ctrl-C ends the program at once.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, Protocol

from digitize import checkpoint, eventlog, models, train, train_detector
from digitize.errors import OutputError, UsageError
from digitize.train import Tick

log = logging.getLogger("digitize")

LOGS_FOLDER = "logs"
LOG_EVERY = 50  # steps between two records of the training loss
BAR_EVERY = 10  # steps between two changes of the figures beside the bar


class Record(Protocol):
    """How training stands after a while; as text, one line for a log."""

    @property
    def step(self) -> int:
        """How many steps were made in all."""

    def figures(self) -> dict[str, float]:
        """What TensorBoard shows of it, by tag."""


class Course(checkpoint.Resumable, Protocol):
    """A run of training, whatever is trained; `train.Course` says more of what they have in common.

    Attributes:
        UNIT: what a batch counts.
        CHECKPOINT_EVERY: steps between two checkpoints; None where only what a record ends with can be taken up.
        network, step, history, watch, stop, interrupted: as of `train.Course`.
    """

    UNIT: ClassVar[str]
    CHECKPOINT_EVERY: ClassVar[int | None]
    network: Any
    step: int
    history: Any
    watch: Callable[[Tick], None] | None
    stop: threading.Event
    interrupted: bool

    @property
    def steps(self) -> int:
        """Steps in all."""

    def records(self) -> Iterator[Record]:
        """Train from where it stands to the end, or until `stop` is set."""

    def finish(self) -> Path:
        """Write the model folder."""


def run(
    options: train.Options | train_detector.Options,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> Course:
    """Train a network from start to end, or from where it was stopped, and write its model folder.

    Args:
        options: what to train; for `resume` the same as before.
        resume: go on from the checkpoint in the folder; begin where there is none.
        overwrite: replace a model or a checkpoint that is there.
        progress: show a bar where stderr is a terminal.

    Returns:
        The course; `interrupted` says whether it was stopped before its end.

    Raises:
        OutputError: there is something in the folder already, or it cannot be written.
        DigitizeError: as `prepare`, `records` and `finish` of the course and `checkpoint.load` say.
    """
    folder = options.output
    claim(folder, resume=resume, overwrite=overwrite)
    going_on = resume and checkpoint.path_in(folder).is_file()
    replaced = going_on and _is_to_replace_its_start(options)
    course = _prepare(replace(options, start=None) if replaced else options)
    if overwrite:
        clear(folder)
    device = train.describe_device(options.device)
    log.info("training %s on %s, %d steps", course.network.name, device, course.steps)
    if going_on:
        checkpoint.load(course, start_replaced=replaced)
        log.info("going on after step %d of %d", course.step, course.steps)
    else:
        checkpoint.save(course)
    try:
        with (
            eventlog.EventLog(folder / LOGS_FOLDER) as events,
            _interrupts(course.stop),
            _bar(course, events, options.batch_size, progress),
        ):
            for record in course.records():
                if not course.interrupted or course.CHECKPOINT_EVERY:
                    checkpoint.save(course)
                events.add(record.step, record.figures())
                log.info("%s", record)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error}): choose another folder") from error
    course.finish()
    if course.interrupted:
        log.info(
            "stopped after step %d of %d; %s holds the best so far, --resume goes on", course.step, course.steps, folder
        )
    else:
        checkpoint.delete(folder)
    return course


def _prepare(options: train.Options | train_detector.Options) -> Course:
    return train.prepare(options) if isinstance(options, train.Options) else train_detector.prepare(options)


def _is_to_replace_its_start(options: train.Options | train_detector.Options) -> bool:
    """Whether a run begins with the very model that it writes, which then is another as soon as it was stopped."""
    return options.start is not None and models.find(options.start).resolve() == options.output.resolve()


def finished(folder: Path) -> bool:
    """Whether a folder holds a model that nothing is left to do for."""
    return (folder / models.CARD_FILE).is_file() and not checkpoint.path_in(folder).is_file()


def claim(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """See to it that a run can write its folder, and does not replace silently what an earlier one left.

    Raises:
        UsageError: both to go on and to begin anew were asked for.
        OutputError: there can be no such folder, or it holds a model or a checkpoint, and neither was asked for.
    """
    if resume and overwrite:
        raise UsageError("--resume goes on and --overwrite begins anew: give one of them")
    _require_room(folder)
    if resume or overwrite:
        return
    if checkpoint.path_in(folder).is_file():
        raise OutputError(f"{folder} holds a run that was not finished: --resume goes on, --overwrite begins anew")
    if (folder / models.CARD_FILE).is_file():
        raise OutputError(f"{folder} holds a model already: name another folder, or replace it with --overwrite")


def _require_room(folder: Path) -> None:
    """Make sure, before long work, that a folder can be written, or made where it is not there yet.

    Raises:
        OutputError: it cannot be.
    """
    try:
        place = next(one for one in (folder, *folder.parents) if one.exists())
    except OSError as error:  # its name is too long
        raise OutputError(f"{folder} cannot be written ({error.strerror}): name another folder with -o") from error
    if not place.is_dir():
        raise OutputError(f"{folder} cannot be written, since {place} is no folder: name another with -o")
    if not os.access(place, os.W_OK):
        raise OutputError(f"{folder} cannot be written, {place} does not let you: name another folder with -o")


def clear(folder: Path) -> None:
    """Delete what an earlier run kept of itself, and nothing else; its model stays until a new one is written."""
    checkpoint.delete(folder)
    eventlog.delete(folder / LOGS_FOLDER)


@contextmanager
def _interrupts(stop: threading.Event) -> Iterator[None]:
    """Turn the first Ctrl-C into `stop`; the second one is what it always was."""
    if threading.current_thread() is not threading.main_thread():  # signals belong to the main thread
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)
        log.warning("stopping after this step; press Ctrl-C again to end at once")

    signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _bar(course: Course, events: eventlog.EventLog, batch: int, wanted: bool) -> Iterator[None]:
    """Show how far training is, log its loss, and keep where it stands; a batch is so many of the course's unit."""
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    with (
        tqdm(
            total=course.steps * batch,
            initial=course.step * batch,
            unit=course.UNIT,
            unit_scale=True,
            file=sys.stderr,
            disable=None if wanted else True,
        ) as bar,
        logging_redirect_tqdm([log]),
    ):

        def watch(tick: Tick) -> None:
            bar.update(batch)
            if tick.step % BAR_EVERY == 0:
                bar.set_description(tick.where, refresh=False)
                bar.set_postfix_str(str(tick), refresh=False)
            if tick.step % LOG_EVERY == 0:
                events.add(tick.step, tick.figures())
            if course.CHECKPOINT_EVERY and tick.step % course.CHECKPOINT_EVERY == 0:
                checkpoint.save(course)

        course.watch = watch
        try:
            yield
        finally:
            course.watch = None
