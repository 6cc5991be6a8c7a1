"""Everything that can go wrong and be somebody's business, each with its exit code.

    DigitizeError
    ├── UsageError      2   the command line asks for what makes no sense
    ├── SheetError      3   one sheet cannot be read
    │   └── UnsettledSheetError  it may be readable later: empty, cut short, locked, gone
    ├── OutputError     5   a result cannot be written
    ├── ModelError      6   a model is missing or not what its card says
    ├── DatasetError    7   a dataset is missing or not what it should be
    └── DeviceError     8   a device was named and is not there

A message answers three questions in one line: what happened, to which file, what to do next. The codes
are public and stable. Code 3 stands for "no sheet could be read"; a run in which some sheets failed and
the rest were written ends in `SOME_SHEETS_FAILED`.
"""

from __future__ import annotations

import traceback
from typing import ClassVar

ALL_GOOD = 0
BUG = 1
SOME_SHEETS_FAILED = 4
DIGITS_TO_REVIEW = 10
INTERRUPTED = 130


class DigitizeError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code: ClassVar[int] = BUG


class UsageError(DigitizeError):
    """The options contradict each other or hold a value out of range."""

    exit_code = 2


class SheetError(DigitizeError):
    """A sheet cannot be opened, decoded or rendered."""

    exit_code = 3


class UnsettledSheetError(SheetError):
    """A sheet cannot be read now, but may be later: it is empty, cut short, locked or gone."""


class OutputError(DigitizeError):
    """A result, overlay or crop cannot be written."""

    exit_code = 5


class ModelError(DigitizeError):
    """A model folder is missing, incomplete, or disagrees with its card."""

    exit_code = 6


class DatasetError(DigitizeError):
    """A dataset is missing, damaged, or does not fit the classes."""

    exit_code = 7


class DeviceError(DigitizeError):
    """The device that was named is not on this machine."""

    exit_code = 8


def describe_fault(error: Exception) -> str:
    """What is said of a sheet in whose reading something was raised that is no `DigitizeError`."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    if isinstance(error, MemoryError) or "nsufficient memory" in reason or "bad_alloc" in reason:
        return "there is not enough memory to read it; scan it at a lower resolution"
    return f"a bug came up in reading it ({reason[:200]}); please report it with the sheet"


def trace_of(error: Exception) -> str:
    """Where it was raised, for whoever mends that; what its frames hold, which may be all the memory, is let go of."""
    traceback.clear_frames(error.__traceback__)
    return "".join(traceback.format_exception(error)).rstrip()
