"""The pages of review that `digitize watch` writes into its OUTBOX, for a folder that grows all day.

    review/index.html   the pages, newest first
    review/0001.html    a page to look at the doubtful digits of some sheets on (`review.py`)
    review/0001.json    the results of these sheets, which its corrections belong to

A page is written once and never changed, so that whoever works on it loses nothing: what is read later goes onto the
next one. Until then the ledger keeps what was drawn of sheets with doubtful digits; sheets without are on no page, but
their sure digits are counted on the next one, as the sample of these is drawn from them, too.

Which sheets stand on a page is settled in the ledger before anything is written. Who comes after one that was killed in
the middle writes that page again: the same bytes, unless it is of another version, with another model or --audit,
which stand on it, too. Only then are the drawings let go. All functions work on the ledger's database, inside its door.
"""

from __future__ import annotations

import html
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from digitize import journal, review, sheets, write
from digitize.records import Drawing, SheetReading

log = logging.getLogger("digitize")

FOLDER = "review"
INDEX = "index.html"
PAGE_LOOKS = 1000  # digits to look at, and
PAGE_BYTES = 16 << 20  # bytes of drawings, with either of which a page is full; a sheet is not divided

TABLES = (
    """CREATE TABLE IF NOT EXISTS unseen (  -- sheets with digits to look at that are on no page yet
        name TEXT PRIMARY KEY,  -- in the results
        key TEXT NOT NULL,  -- of its reading
        looks INTEGER NOT NULL,  -- how many digits there are to look at
        page INTEGER,  -- that is being written with it
        drawings BLOB NOT NULL  -- `journal.pack_drawings`
    )""",
    """CREATE TABLE IF NOT EXISTS pages (  -- that were written
        number INTEGER PRIMARY KEY, at TEXT NOT NULL, sheets INTEGER NOT NULL, looks INTEGER NOT NULL,
        first TEXT NOT NULL, last TEXT NOT NULL  -- names of sheets
    )""",
    """CREATE TABLE IF NOT EXISTS sure (  -- digits that are ok on sheets with nothing to look at
        page INTEGER PRIMARY KEY,  -- that is being written, on which they are counted; 0 for the next one
        digits INTEGER NOT NULL
    )""",
)


@dataclass(frozen=True, slots=True)
class Unseen:
    """What waits for a page.

    Attributes:
        sheets: with digits to look at.
        looks: digits to look at.
        size: bytes of what was drawn.
    """

    sheets: int = 0
    looks: int = 0
    size: int = 0

    @property
    def fill_a_page(self) -> bool:
        """Whether there is as much as goes onto one page."""
        return self.looks >= PAGE_LOOKS or self.size >= PAGE_BYTES


@dataclass(frozen=True, slots=True)
class Written:
    """A page that was written: its file, and how many sheets and digits to look at are on it."""

    path: Path
    sheets: int
    looks: int


def looks(drawings: tuple[Drawing, ...]) -> int:
    """How many digits there are to look at."""
    return sum(len(drawing.shown) for drawing in drawings)


def put(base: sqlite3.Connection, name: str, key: str, drawings: tuple[Drawing, ...], *, sure: int) -> None:
    """Keep what was drawn of a sheet, if there is something to look at; inside a transaction.

    Args:
        base: the ledger's database.
        name: of the sheet in the results.
        key: of its reading.
        drawings: of its pages; none where the same content was read before, from which no sample is drawn twice.
        sure: how many of its digits are ok.
    """
    if wanted := looks(drawings):
        packed = journal.pack_drawings(drawings)
        base.execute("INSERT INTO unseen VALUES (?, ?, ?, NULL, ?)", (name, key, wanted, packed))
    elif drawings:
        sql = "INSERT INTO sure VALUES (0, ?) ON CONFLICT DO UPDATE SET digits = digits + excluded.digits"
        base.execute(sql, (sure,))


def unseen(base: sqlite3.Connection) -> Unseen:
    """What waits for a page."""
    row = base.execute("SELECT COUNT(*), TOTAL(looks), TOTAL(LENGTH(drawings)) FROM unseen").fetchone()
    return Unseen(*map(int, row))


def count(base: sqlite3.Connection) -> int:
    """How many pages were written."""
    return int(base.execute("SELECT COUNT(*) FROM pages").fetchone()[0])


def begin(base: sqlite3.Connection) -> int | None:
    """Settle which sheets go onto the next page; inside a transaction.

    Returns:
        The page's number: that of one which was begun and not finished, else a new one; None where nothing waits.
    """
    (begun,) = base.execute("SELECT MIN(page) FROM unseen").fetchone()
    if begun is not None:
        return int(begun)
    (last,) = base.execute("SELECT MAX(number) FROM pages").fetchone()
    number, chosen, wanted, size = (last or 0) + 1, [], 0, 0
    for name, own, length in base.execute("SELECT name, looks, LENGTH(drawings) FROM unseen ORDER BY rowid"):
        chosen.append((number, name))
        wanted, size = wanted + own, size + length
        if Unseen(len(chosen), wanted, size).fill_a_page:
            break
    base.executemany("UPDATE unseen SET page = ? WHERE name = ?", chosen)
    if chosen:
        base.execute("UPDATE sure SET page = ? WHERE page = 0", (number,))
    return number if chosen else None


def write_page(
    base: sqlite3.Connection, outbox: Path, number: int, generator: write.Generator, *, share: float
) -> Written:
    """Write a page that was begun, and the results that it belongs to.

    Args:
        base: the ledger's database.
        outbox: the OUTBOX.
        number: of the page.
        generator: what read the sheets.
        share: of the digits that are ok, how many were mixed in.

    Raises:
        OutputError: something cannot be written.
    """
    folder = outbox / FOLDER
    folder.mkdir(exist_ok=True)
    part, page = folder / f"{number:04d}.json", folder / f"{number:04d}.html"
    (beside,) = base.execute("SELECT TOTAL(digits) FROM sure WHERE page = ?", (number,)).fetchone()
    album = review.Album(share=share, beside=int(beside))
    readings = []
    for reading, drawings in _chosen(base, number):
        readings.append(reading)
        for drawn, drawing in zip(reading.pages, drawings, strict=True):
            album.keep(reading.source, drawn, drawing)
    with write.open_output(part) as output:
        write.write_json(readings, output, generator)
    with write.open_output(page) as output:
        album.write_to(
            output, name=part.name, sha256=sheets.sha256(part), form="json", save_as=f"{number:04d}-corrections.json"
        )
    return Written(page, len(readings), album.to_look_at)


def finish(base: sqlite3.Connection, number: int) -> None:
    """Note that a page is written, and let go of what was drawn for it; inside a transaction."""
    base.execute(
        "INSERT INTO pages SELECT page, ?, COUNT(*), TOTAL(looks), MIN(name), MAX(name) FROM unseen WHERE page = ?",
        (datetime.now(UTC).isoformat(timespec="seconds"), number),
    )
    base.execute("DELETE FROM unseen WHERE page = ?", (number,))
    base.execute("DELETE FROM sure WHERE page = ?", (number,))


def write_index(base: sqlite3.Connection, outbox: Path) -> None:
    """Write the list of the pages that are there; those that somebody has put away are left out.

    Raises:
        OSError, OutputError: it cannot be written.
    """
    rows = base.execute("SELECT number, at, sheets, looks, first, last FROM pages ORDER BY number DESC").fetchall()
    there = [row for row in rows if (outbox / FOLDER / f"{row[0]:04d}.html").exists()]
    if not rows:
        return
    (outbox / FOLDER).mkdir(exist_ok=True)  # somebody may have put away all of it
    with write.open_output(outbox / FOLDER / INDEX) as output:
        before, after = review.index_parts()
        output.write(before)
        for number, at, count_of_sheets, wanted, first, last in there:
            page = f'<a href="{number:04d}.html">{number:04d}</a>'
            names = html.escape(first if first == last else f"{first} … {last}")
            cells = [page, f"<time>{at}</time>", f"{count_of_sheets}", f"{wanted}", f"<bdi>{names}</bdi>"]
            output.write(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>\n")
        output.write(after)


def clear(outbox: Path) -> None:
    """Remove what one that was killed had not finished writing."""
    for part in (outbox / FOLDER).glob(".*.part"):
        with suppress(FileNotFoundError):
            part.unlink()


def _chosen(base: sqlite3.Connection, number: int) -> Iterator[tuple[SheetReading, tuple[Drawing, ...]]]:
    """The sheets of a page, in the order in which they were read; what is damaged is said, and holds up no other."""
    statement = """
        SELECT unseen.name, readings.reading, unseen.drawings FROM unseen JOIN readings USING (key)
        WHERE unseen.page = ? ORDER BY unseen.rowid
    """
    for name, reading, drawings in base.execute(statement, (number,)):
        try:
            chosen = journal.unpack(reading, name), journal.unpack_drawings(drawings)
        except ValueError as error:  # or of another version
            log.warning("%s: is on no page of review (%s); digitize review make shows its results", name, error)
            continue
        yield chosen
