"""What was read, kept in SQLite until it stands in a result: a scan that was killed goes on where it stood.

A reading is found again by what it depends on: the sheet's bytes, the settings and the models. Where it lies and when
it was read do not matter, so the result of a scan that goes on is byte for byte that of an undisturbed one. Records
are stored as compressed JSON of bare values, which gives back every bit of a float; what was drawn of pages, as its
pictures one after another behind such JSON.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import sqlite3
import struct
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from digitize import sheets, stopwatch, write
from digitize.errors import SheetError
from digitize.records import Box, Crop, Digit, Drawing, Line, Number, PageReading, SheetReading
from digitize.stopwatch import Stopwatch

log = logging.getLogger("digitize")
_Answer = TypeVar("_Answer")

READINGS = """
    CREATE TABLE IF NOT EXISTS readings (
        key TEXT PRIMARY KEY,  -- what the reading depends on: `key_of`
        reading BLOB NOT NULL  -- `pack`
    ) WITHOUT ROWID
"""
DRAWINGS = """
    CREATE TABLE IF NOT EXISTS drawings (
        key TEXT PRIMARY KEY,  -- of the reading that they belong to
        drawings BLOB NOT NULL  -- `pack_drawings`
    ) WITHOUT ROWID
"""
LENGTH = struct.Struct("<Q")  # bytes of the JSON before the pictures
BUSY_SECONDS = 10.0  # that another process, which looks at the status, may hold a journal
COMPANIONS = ("", "-wal", "-shm")  # what SQLite keeps beside a database


def key_of(sha256: str, mark: str, drawn: str = "") -> str:
    """Name what a reading depends on.

    Args:
        sha256: of the sheet's bytes.
        mark: of the settings and the models.
        drawn: the sheet's source where pictures are drawn, which are named by it; else empty.
    """
    return hashlib.sha256("\0".join((sha256, mark, drawn)).encode("utf-8", "surrogatepass")).hexdigest()


def pack(reading: SheetReading) -> bytes:
    """A reading as compressed JSON, without its source and drawings, and exact to the last bit."""
    pages = [
        [
            *(page.number, page.width, page.height, page.rotation),
            [[[_plain(digit) for digit in number.digits] for number in line.numbers] for line in page.lines],
        ]
        for page in reading.pages
    ]
    return zlib.compress(json.dumps([reading.sha256, pages], separators=(",", ":")).encode())


def unpack(packed: bytes, source: str) -> SheetReading:
    """The reading that was packed, of a sheet by this name.

    Raises:
        ValueError: these are no such bytes.
    """
    try:
        sha256, pages = json.loads(zlib.decompress(packed))
        return SheetReading(source, sha256, tuple(_page(*page) for page in pages))
    except (zlib.error, TypeError, ValueError) as error:
        raise ValueError(f"this is no reading: {error}") from error


def pack_drawings(drawings: Iterable[Drawing]) -> bytes:
    """What was drawn of pages, exact to the last bit."""
    pictures: list[bytes] = []
    facts = []
    for drawing in drawings:
        crops = [[*astuple(crop.window), len(crop.png), crop.width, crop.height, *crop.rank] for crop in drawing.crops]
        own = [drawing.picture, drawing.overlay]
        facts.append([*map(len, own), drawing.dpi, crops, list(drawing.shown), sorted(drawing.audited)])
        pictures += [*own, *(crop.png for crop in drawing.crops)]
    head = json.dumps(facts, separators=(",", ":")).encode()
    return b"".join([LENGTH.pack(len(head)), head, *pictures])


def unpack_drawings(packed: bytes) -> tuple[Drawing, ...]:
    """What was packed.

    Raises:
        ValueError: these are no such bytes.
    """
    try:
        (length,) = LENGTH.unpack_from(packed)
        stream = io.BytesIO(packed)
        stream.seek(LENGTH.size)
        return tuple(_drawing(stream, *facts) for facts in json.loads(stream.read(length)))
    except (struct.error, TypeError, ValueError) as error:
        raise ValueError(f"these are no drawings: {error}") from error


def _drawing(pictures: BinaryIO, *facts: Any) -> Drawing:
    picture_size, overlay_size, dpi, crops, shown, audited = facts
    picture, overlay = _next(pictures, picture_size), _next(pictures, overlay_size)
    made = tuple(_crop(pictures, *crop) for crop in crops)
    return Drawing(picture, made, tuple((index, crop) for index, crop in shown), frozenset(audited), overlay, dpi)


def _crop(pictures: BinaryIO, *facts: Any) -> Crop:
    left, top, wide, high, size, width, height, value, confidence = facts
    return Crop(Box(left, top, wide, high), _next(pictures, size), width, height, (value, confidence))


def _next(pictures: BinaryIO, size: int) -> bytes:
    picture = pictures.read(size)
    if len(picture) < size:
        raise ValueError(f"a picture of {size} bytes is cut short")
    return picture


def _plain(digit: Digit) -> list[Any]:
    box = digit.box  # by name: `astuple` copies all it finds, and a page has hundreds
    return [
        *(digit.value, digit.confidence, digit.alternative, digit.alternative_confidence, digit.status),
        *(box.left, box.top, box.width, box.height),
    ]


def _page(number: int, width: int, height: int, rotation: int, lines: list[Any]) -> PageReading:
    made = tuple(Line(tuple(Number(tuple(_digit(*digit) for digit in n)) for n in line)) for line in lines)
    return PageReading(number, width, height, made, rotation)


def _digit(value: int, sure: float, other: int, other_sure: float, status: Any, *box: int) -> Digit:
    return Digit(value, sure, other, other_sure, status, Box(*box))


def connect(path: Path, *, synchronous: str = "NORMAL") -> sqlite3.Connection:
    """Open a database that a kill does not tear, each statement a transaction unless one is begun.

    Args:
        path: of the file; made where it is missing.
        synchronous: "NORMAL" survives a kill whole, "FULL" keeps every commit through a power failure too.

    Raises:
        sqlite3.Error: it cannot be opened, or is none.
    """
    base = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        base.execute("PRAGMA journal_mode = WAL")
        base.execute(f"PRAGMA synchronous = {synchronous}")
    except sqlite3.Error:
        base.close()
        raise
    return base


class Journal:
    """The readings of one scan, in a file beside its output.

    Losing a journal costs time and no sheet, so whatever is wrong with one is a warning, and the scan goes on without.
    """

    def __init__(self, path: Path) -> None:
        """Look for what an earlier scan has left at `path`; nothing is written before there is a reading to keep."""
        self._path = path
        self._base: sqlite3.Connection | None = None
        self.kept = 0
        self.given_up = False
        if path.exists():
            self.kept = self._tried(self._open_and_count) or 0

    @staticmethod
    def beside(output: str) -> Path:
        """Where the journal of a scan into `output` lies."""
        final = Path(output).resolve()
        return final.with_name(f".{write.fitting(final.name)}.journal")

    def get(self, key: str, source: str) -> SheetReading | None:
        """The reading of a key, of a sheet by this name; None where there is none."""
        if self._base is None:
            return None
        statement = "SELECT reading, drawings FROM readings LEFT JOIN drawings USING (key) WHERE key = ?"
        found = self._tried(lambda: self._connected().execute(statement, (key,)).fetchone())
        with suppress(ValueError):  # of another version: the sheet is read again
            if found is not None:
                drawings = unpack_drawings(found[1]) if found[1] is not None else ()
                return replace(unpack(found[0], source), drawings=drawings)
        return None

    def put(self, key: str, reading: SheetReading) -> None:
        """Keep a reading, and what was drawn of its pages."""
        self._tried(lambda: self._put(key, reading))

    def _put(self, key: str, reading: SheetReading) -> None:
        base = self._connected()
        if reading.drawings:  # before the reading: where that is found, they are
            base.execute("INSERT OR REPLACE INTO drawings VALUES (?, ?)", (key, pack_drawings(reading.drawings)))
        base.execute("INSERT OR REPLACE INTO readings VALUES (?, ?)", (key, pack(reading)))

    def close(self, *, remove: bool) -> None:
        """Close the file; remove it too, where its result has appeared or it holds nothing."""
        empty = self._base is None or not self._tried(self._open_and_count)
        if self._base is not None:
            self._base.close()
            self._base = None
        if remove or empty:
            with suppress(OSError):  # it stays, and is taken for that of a scan that was killed: harmless
                _remove(self._path)

    def _connected(self) -> sqlite3.Connection:
        if self._base is None:
            self._base = connect(self._path)
            self._base.execute(READINGS)
            self._base.execute(DRAWINGS)
        return self._base

    def _open_and_count(self) -> int:
        return int(self._connected().execute("SELECT COUNT(*) FROM readings").fetchone()[0])

    def _tried(self, ask: Callable[[], _Answer]) -> _Answer | None:
        """What the journal answers; None, with one warning, from when it cannot."""
        if self.given_up:
            return None
        try:
            return ask()
        except (sqlite3.Error, OSError) as error:
            log.warning("%s: the journal cannot be used (%s); if this scan is killed it begins anew", self._path, error)
            self.given_up = True
            if self._base is not None:
                self._base.close()
                self._base = None
            with suppress(OSError):
                _remove(self._path)
        return None


def _remove(path: Path) -> None:
    for companion in COMPANIONS:
        path.with_name(path.name + companion).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Resumption:
    """How a scan uses its journal.

    Attributes:
        journal: where readings are kept.
        mark: of the settings and models in force.
        drawn: whether pictures of each sheet are drawn, so that one that is read has to have been read by its name.
        watch: counts how long it takes to keep readings.
    """

    journal: Journal
    mark: str
    drawn: bool = False
    watch: Stopwatch = stopwatch.OFF

    def key(self, sha256: str, source: str) -> str:
        """What the reading of a sheet is kept by."""
        return key_of(sha256, self.mark, source if self.drawn else "")

    def read(
        self, found: Iterable[sheets.Sheet], read: Callable[[Iterable[sheets.Sheet]], Iterator[SheetReading]]
    ) -> Iterator[tuple[SheetReading, bool]]:
        """Read what the journal does not hold, and keep it; take the rest from there. The order is that of the sheets.

        Should the journal fail in the middle, what it held and was not taken yet is read after all.

        Args:
            found: the sheets.
            read: reads some, in order; is called anew when it has come to its end, if at all.

        Yields:
            Readings, each with whether it came from the journal.
        """
        waiting = iter(found)
        turns: list[tuple[sheets.Sheet, str]] = []  # whose turn has not come, and the key of what is kept
        hopeful, whole = self.journal.kept > 0, True

        def unread() -> Iterator[sheets.Sheet]:
            while whole and (sheet := next(waiting, None)) is not None:
                key = self._kept(sheet) if hopeful else ""
                turns.append((sheet, key))
                if not key:
                    yield sheet

        ahead: list[SheetReading] = []
        readings = read(unread())
        for fresh in readings:
            whole = yield from self._give(turns)
            if not whole:  # no more is handed in, so that what is in hand can be waited for
                ahead = [fresh, *readings]
                break
            turns.pop(0)
            yield self._keep(fresh), False
        else:
            whole = yield from self._give(turns)
        if not whole:
            again = read(chain([sheet for sheet, key in turns if key], waiting))
            for _, key in turns:
                yield self._keep(next(again) if key else ahead.pop(0)), False
            for fresh in again:
                yield self._keep(fresh), False

    def _keep(self, fresh: SheetReading) -> SheetReading:
        """A reading that was just made, once it is kept."""
        if fresh.error is None:
            with self.watch("write"):
                self.journal.put(self.key(fresh.sha256, fresh.source), fresh)
        return fresh

    def _kept(self, sheet: sheets.Sheet) -> str:
        """The key under which a sheet's reading is kept; empty where it is not."""
        try:
            key = self.key(sheets.sha256(sheet.origin), sheet.source)
        except SheetError:  # whoever reads it will say so
            return ""
        return key if self.journal.get(key, sheet.source) else ""

    def _give(self, turns: list[tuple[sheets.Sheet, str]]) -> Generator[tuple[SheetReading, bool], None, bool]:
        """The kept readings whose turn it is; returns whether all of them were still there."""
        while turns and turns[0][1]:
            sheet, key = turns[0]
            reading = self.journal.get(key, sheet.source)
            if reading is None:
                return False
            turns.pop(0)
            yield replace(reading, source=sheet.source), True
        return True
