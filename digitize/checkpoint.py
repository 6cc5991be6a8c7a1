"""Where a training run stands, kept on disk so that it can be taken up again.

One npz holds it all: every variable of the network (the state of its dropout's chances among them), of the optimizer
(its steps among them), the running mean, the best weights so far, and the records of the epochs. It is written beside
the old one and put in its place, so that a run killed at any moment leaves a whole one.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitize.errors import ModelError, OutputError, UsageError
from digitize.train import Course, Progress

SCHEMA = "digitize-checkpoint/1"
FOLDER = "checkpoint"
FILE = "state.npz"


def path_in(folder: Path) -> Path:
    """Where the checkpoint of the model folder `folder` lies."""
    return folder / FOLDER / FILE


def save(course: Course) -> Path:
    """Write where a course stands, at the end of an epoch.

    Raises:
        OutputError: the disk does not take it; an earlier checkpoint is left as it was.
    """
    path = path_in(course.options.output)
    facts = {
        "schema": SCHEMA,
        "plan": plan(course),
        "epoch": course.epoch,
        "step": course.step,
        "best_epoch": course.best_epoch,
        "best_loss": course.best_loss,
        "history": [asdict(record) for record in course.history],
    }
    arrays: dict[str, NDArray[Any]] = {"facts": np.frombuffer(json.dumps(facts).encode(), np.uint8)}
    for part, values in _parts(course).items():
        for k, value in enumerate(values):
            arrays[f"{part}_{k}"] = np.asarray(value)
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]  # its stub takes the names for options
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error}): make room, then go on with --resume") from error
    return path


def load(course: Course) -> None:
    """Take a course up where its checkpoint left it.

    Args:
        course: fresh from `train.prepare`, with the options of the run that was stopped.

    Raises:
        ModelError: the checkpoint is damaged, or of another version.
        UsageError: it is of a run with other options.
    """
    path = path_in(course.options.output)
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        facts = json.loads(arrays["facts"].tobytes())
        found = facts["plan"] if facts["schema"] == SCHEMA else None
        history = [Progress(**record) for record in facts["history"]]
    except (OSError, ValueError, EOFError, KeyError, TypeError, zlib.error, zipfile.BadZipFile) as error:
        raise ModelError(f"{path} cannot be read ({error}): start anew with --overwrite") from error
    wanted = json.loads(json.dumps(plan(course)))
    if found != wanted:
        differing = [key for key in wanted if found is None or found.get(key) != wanted[key]]
        raise UsageError(
            f"{path} is of a run with another {', '.join(differing)}: give the same options, or --overwrite"
        )
    try:
        for part, values in _parts(course).items():
            for k, value in enumerate(values):
                _take(value, arrays[f"{part}_{k}"])
    except (KeyError, ValueError) as error:
        raise ModelError(f"{path} does not fit the network ({error}): start anew with --overwrite") from error
    course.epoch, course.step = int(facts["epoch"]), int(facts["step"])
    course.best_epoch, course.best_loss = int(facts["best_epoch"]), float(facts["best_loss"])
    course.history[:] = history


def plan(course: Course) -> dict[str, Any]:
    """What has to be the same for a run to be the same: options and the hashes of what is learnt from."""
    options = course.options
    return {
        "recipe": options.recipe.name,
        "network": options.network,
        "steps": course.steps,
        "batch-size": options.batch_size,
        "learning-rate": options.learning_rate,
        "seed": options.seed,
        "validation": options.validation,
        "mnist-share": options.mnist_share,
        "epoch-tiles": options.epoch_tiles,
        "data": [[entry["files"], entry["weight"]] for entry in course.pool.entries],
        "tiles": [one.sha256 for one in course.sets],
    }


def _parts(course: Course) -> dict[str, Iterable[Any]]:
    """What is kept: Keras's variables, and the running mean's arrays."""
    return {
        "network": course.network.variables,
        "optimizer": course.network.optimizer.variables,
        "best": course.best.variables,
        "average": course.average or [],
    }


def _take(target: Any, stored: NDArray[Any]) -> None:
    """Put a stored array into a Keras variable or a NumPy array."""
    if tuple(target.shape) != stored.shape:
        raise ValueError(f"{stored.shape} where {tuple(target.shape)} is expected")
    if isinstance(target, np.ndarray):
        target[...] = stored
    else:
        target.assign(stored)
