"""Readers with planted faults, for processes to be tested with: a sheet's name says what befalls whoever reads it.

They are made in the worker, so they have to be found by name from a fresh process; nothing of the package knows them.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from stub import StubDetector, StubModel

from digitize import batch, sheets
from digitize.errors import ModelError, OutputError, SheetError, UnsettledSheetError
from digitize.records import PageReading, SheetReading

MIB = 1 << 20


class FaultyReader(batch.SheetReader):
    """Reads with the stub; falls over sheets whose names say so."""

    def read_all(self, found: Iterable[sheets.Sheet]) -> Iterator[SheetReading]:
        """Read sheets in order."""
        yield from super().read_all(befallen(found))


def befallen(found: Iterable[sheets.Sheet]) -> Iterator[sheets.Sheet]:
    """Sheets, each with what befalls whoever reads it."""
    for sheet in found:
        name = Path(sheet.source).name
        if name.startswith("crash"):
            os.kill(os.getpid(), signal.SIGSEGV)
        elif name.startswith("hungry"):
            eaten = [np.empty(64 * MIB, np.uint8) for _ in range(200)]
            raise RuntimeError(f"nothing held it back: {len(eaten)}")
        elif name.startswith("endless"):
            threading.Event().wait()
        elif name.startswith("bug"):
            raise RuntimeError("a planted bug")
        elif name.startswith("full"):
            raise OutputError("no room for a picture; make some")
        elif name.startswith("vanish") and sheet.path is not None:
            sheet.path.unlink()
        elif name.startswith("gated"):
            gate(Path(sheet.path or ""))
        yield sheet


def gate(path: Path) -> None:
    """Say that a sheet is being read, and wait until somebody lets it through: two pipes beside its folder."""
    if not (path.parent.parent / "began").exists():
        return
    with (path.parent.parent / "began").open("w") as began:
        began.write("x")
    with (path.parent.parent / "go").open() as go:
        go.read()


@dataclass(frozen=True, slots=True)
class StubRecipe(batch.Recipe):
    """Makes such readers in a worker; takes the place of `batch.Recipe`."""

    def __call__(self) -> FaultyReader:
        """Load the stubs."""
        batch.Classifier = StubModel  # type: ignore[misc,assignment]
        batch.Detector = StubDetector  # type: ignore[misc,assignment]
        return FaultyReader(self)


class Parrot:
    """A reader that needs no models: every sheet is blank."""

    mark, device = "parrot", "cpu"

    def read(self, sheet: sheets.Sheet) -> SheetReading:
        """Read a sheet."""
        for _ in befallen([sheet]):
            pass
        return SheetReading(sheet.source, sheets.sha256(sheet.origin), ())


@dataclass(frozen=True)
class Changing:
    """Makes parrots, each with another mark: as if the model was changed between them."""

    folder: Path

    def __call__(self) -> Parrot:
        """Count, and make one."""
        made = Parrot()
        made.mark = f"parrot {len(list(self.folder.iterdir()))}"  # type: ignore[misc]
        (self.folder / f"{os.getpid()}").write_text("")
        return made


@dataclass(frozen=True)
class Refuser:
    """Makes nothing: there is no model."""

    def __call__(self) -> Parrot:
        """Refuse."""
        raise ModelError("no model: a test has none")


class Loader:
    """A reader that needs no models: it loads every page, and finds nothing on it."""

    mark, device = "loader", "cpu"

    def read(self, sheet: sheets.Sheet) -> SheetReading:
        """Read a sheet."""
        pages, error = [], None
        try:
            for page in sheets.load(sheet.origin, source=sheet.source, dpi=72):
                pages.append(PageReading(page.number, *page.gray.shape[::-1], ()))
        except SheetError as trouble:
            error = trouble
        said = str(error) if error else None
        passing = isinstance(error, UnsettledSheetError)
        return SheetReading(sheet.source, sheets.sha256(sheet.origin), tuple(pages), said, passing)


@dataclass(frozen=True, slots=True)
class LoaderRecipe(StubRecipe):
    """Makes such readers."""

    def __call__(self) -> Loader:  # type: ignore[override]
        """Load nothing."""
        return Loader()


class Biller:
    """A reader that needs no models: every sheet is blank, and says how long its stages took."""

    mark, device = "biller", "cpu"

    def read(self, sheet: sheets.Sheet) -> SheetReading:
        """Read a sheet."""
        return SheetReading(sheet.source, sheets.sha256(sheet.origin), (), spent={"load": 0.25, "clean": 2.0})


@dataclass(frozen=True, slots=True)
class BillerRecipe(StubRecipe):
    """Makes such readers."""

    def __call__(self) -> Biller:  # type: ignore[override]
        """Load nothing."""
        return Biller()
