"""A training run in its folder: begun or taken up, watched, stopped and finished.

What lies in the folder while it runs: `checkpoint/`, written anew after each epoch and deleted once the model is whole;
`logs/`, for TensorBoard. Ctrl-C ends the step it falls into: the epoch is judged as it stands and the best epoch so far
is written as a model, while the checkpoint stays, so that `--resume` goes on from the last whole epoch. A second Ctrl-C
ends the program at once.
"""

from __future__ import annotations

import logging
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from digitize import checkpoint, models, train
from digitize.errors import OutputError, UsageError
from digitize.eventlog import EventLog
from digitize.train import Course, Options, Tick

log = logging.getLogger("digitize")

LOGS_FOLDER = "logs"
LOG_EVERY = 50  # steps between two records of the training loss
BAR_EVERY = 10  # steps between two changes of the figures beside the bar


def run(options: Options, *, resume: bool = False, overwrite: bool = False, progress: bool = True) -> Course:
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
        DigitizeError: as `train.prepare`, `train.epochs`, `train.finish` and `checkpoint.load` say.
    """
    folder = options.output
    claim(folder, resume=resume, overwrite=overwrite)
    course = train.prepare(options)
    if overwrite:
        clear(folder)
    log.info("training %s on %s, %d steps", options.network, train.describe_device(options.device), course.steps)
    if resume and checkpoint.path_in(folder).is_file():
        checkpoint.load(course)
        log.info("going on after epoch %d of %d", course.epoch, course.epochs)
    try:
        with EventLog(folder / LOGS_FOLDER) as events, _interrupts(course.stop), _bar(course, events, progress):
            for record in train.epochs(course):
                if not course.interrupted:
                    checkpoint.save(course)
                _log_epoch(events, record)
                log.info("%s", train.describe(record))
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error}): choose another folder") from error
    train.finish(course)
    if course.interrupted:
        log.info("stopped in epoch %d; %s holds the best so far, --resume goes on", course.epoch, folder)
    else:
        shutil.rmtree(checkpoint.path_in(folder).parent, ignore_errors=True)
    return course


def finished(folder: Path) -> bool:
    """Whether a folder holds a model that nothing is left to do for."""
    return (folder / models.CARD_FILE).is_file() and not checkpoint.path_in(folder).is_file()


def claim(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """See to it that a run does not replace silently what an earlier one left.

    Raises:
        UsageError: both to go on and to begin anew were asked for.
        OutputError: the folder holds a model or a checkpoint, and neither was asked for.
    """
    if resume and overwrite:
        raise UsageError("--resume goes on and --overwrite begins anew: give one of them")
    if resume or overwrite:
        return
    if checkpoint.path_in(folder).is_file():
        raise OutputError(f"{folder} holds a run that was not finished: --resume goes on, --overwrite begins anew")
    if (folder / models.CARD_FILE).is_file():
        raise OutputError(f"{folder} holds a model already: name another folder, or replace it with --overwrite")


def clear(folder: Path) -> None:
    """Delete what an earlier run kept of itself; its model stays until it is replaced by a whole one."""
    for place in (checkpoint.path_in(folder).parent, folder / LOGS_FOLDER):
        shutil.rmtree(place, ignore_errors=True)


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
def _bar(course: Course, events: EventLog, wanted: bool) -> Iterator[None]:
    """Show how far training is, and log its loss."""
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    batch = course.options.batch_size
    with (
        tqdm(
            total=course.steps * batch,
            initial=course.step * batch,
            unit="digit",
            unit_scale=True,
            file=sys.stderr,
            disable=None if wanted else True,
        ) as bar,
        logging_redirect_tqdm([log]),
    ):

        def watch(tick: Tick) -> None:
            bar.update(batch)
            if tick.step % BAR_EVERY == 0:
                bar.set_description(f"epoch {tick.epoch}/{course.epochs}", refresh=False)
                bar.set_postfix_str(f"loss {tick.loss:.4f}, accuracy {tick.accuracy:.2%}", refresh=False)
            if tick.step % LOG_EVERY == 0:
                events.add(tick.step, {"training/loss": tick.loss, "training/accuracy": tick.accuracy})

        course.watch = watch
        try:
            yield
        finally:
            course.watch = None


def _log_epoch(events: EventLog, record: train.Progress) -> None:
    values = {
        "epoch/loss": record.loss,
        "epoch/accuracy": record.accuracy,
        "epoch/validation_loss": record.validation_loss,
        "epoch/validation_accuracy": record.mnist_accuracy,
        "epoch/digits_a_second": record.digits_a_second,
    }
    if record.tiles_accuracy is not None:
        values["epoch/tiles_accuracy"] = record.tiles_accuracy
    events.add(record.step, values)
