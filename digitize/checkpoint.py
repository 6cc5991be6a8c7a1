"""Where a training run stands, kept on disk so that it can be taken up again.

One npz holds it all: every variable of the network (the state of its dropout's chances among them), of the optimizer
(its steps among them), the running mean, the best weights so far, and the records of the run. It is written beside
the old one and put in its place, so that a run killed at any moment leaves a whole one. What there is to keep, a course
says itself: the classifier's (`train.py`) and the detector's (`train_detector.py`) are `Resumable`.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from digitize.errors import ModelError, OutputError, UsageError

SCHEMA = "digitize-checkpoint/1"
FOLDER = "checkpoint"
FILE = "state.npz"
PARTIAL = ".partial"  # of a file that is being written


class Resumable(Protocol):
    """A course of training that can be kept and taken up again.

    Attributes:
        start: what a card says of the model that training started from; empty where there was none.
    """

    start: dict[str, Any]

    @property
    def folder(self) -> Path:
        """The model folder."""

    def plan(self) -> dict[str, Any]:
        """What has to be the same for a run to be the same: options and the hashes of what is learnt from."""

    def standing(self) -> dict[str, Any]:
        """Where it stands, as JSON takes it: steps, records, chances."""

    def take_up(self, standing: dict[str, Any]) -> None:
        """Stand there again.

        Raises:
            KeyError, TypeError, ValueError: this is not what `standing` gave.
        """

    def parts(self) -> dict[str, Iterable[Any]]:
        """All arrays that change in training, by the part they belong to: Keras's variables, or NumPy's arrays."""


def path_in(folder: Path) -> Path:
    """Where the checkpoint of the model folder `folder` lies."""
    return folder / FOLDER / FILE


def save(course: Resumable) -> Path:
    """Write where a course stands.

    Raises:
        OutputError: the disk does not take it; an earlier checkpoint is left as it was.
    """
    path = path_in(course.folder)
    facts = {"schema": SCHEMA, "plan": course.plan(), "standing": course.standing(), "start": course.start}
    arrays: dict[str, NDArray[Any]] = {"facts": np.frombuffer(json.dumps(facts).encode(), np.uint8)}
    for part, values in course.parts().items():
        for k, value in enumerate(values):
            arrays[f"{part}_{k}"] = np.asarray(value)
    partial = path.with_suffix(PARTIAL)
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


def delete(folder: Path) -> None:
    """Delete the checkpoint of a model folder, and the place where it lay unless there is more in it."""
    path = path_in(folder)
    with suppress(OSError):  # it is not there, or is not ours to delete: then it is in nobody's way
        for one in (path, path.with_suffix(PARTIAL)):
            one.unlink(missing_ok=True)
        path.parent.rmdir()


def load(course: Resumable, *, start_replaced: bool = False) -> None:
    """Take a course up where its checkpoint left it.

    Args:
        course: freshly prepared, with the options of the run that was stopped.
        start_replaced: the model that the run started from is not to be compared, since the run itself has replaced
            it when it was stopped; its weights are not needed any more.

    Raises:
        ModelError: the checkpoint is damaged, or not of this version.
        UsageError: it is of a run with other options.
    """
    path = path_in(course.folder)
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        facts = json.loads(arrays["facts"].tobytes())
        if facts["schema"] != SCHEMA:
            raise ValueError(f"its schema is {facts['schema']!r}, not {SCHEMA!r}")
        found, standing = facts["plan"], facts["standing"]
    except (OSError, ValueError, EOFError, KeyError, TypeError, zlib.error, zipfile.BadZipFile) as error:
        raise ModelError(f"{path} cannot be read ({error}): start anew with --overwrite") from error
    wanted = json.loads(json.dumps(course.plan()))
    if start_replaced:
        wanted["from"] = found.get("from")
    if differing := [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]:
        raise UsageError(
            f"{path} is of a run with another {', '.join(differing)}: give the same options, or --overwrite"
        )
    try:
        for part, values in course.parts().items():
            for k, value in enumerate(values):
                _take(value, arrays[f"{part}_{k}"])
        course.take_up(standing)
        course.start = dict(facts.get("start", course.start))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} does not fit the network ({error}): start anew with --overwrite") from error


def _take(target: Any, stored: NDArray[Any]) -> None:
    """Put a stored array into a Keras variable or a NumPy array."""
    if tuple(target.shape) != stored.shape:
        raise ValueError(f"{stored.shape} where {tuple(target.shape)} is expected")
    if isinstance(target, np.ndarray):
        target[...] = stored
    else:
        target.assign(stored)
