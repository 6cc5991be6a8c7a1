"""What `digitize watch` has done, and the one place that writes into its OUTBOX.

    results/    a CSV a sheet, in the sheet's folder and under its whole name
    all.csv     the rows of all sheets, one whole sheet after another
    review/     pages to look at the doubtful digits on (`reviews.py`)
    failed/     a link to or copy of each sheet that could not be read, and a JSON with the error beside it
    done/       sheets that were read, with ``--done move``
    .digitize/  the ledger itself (SQLite), the lock, and files that are still being written

A sheet counts as done when the ledger says so, and by then all that belongs to it is on the disk; of a link in failed/
its name is, and its content when whoever put it into the inbox, or the system, sees to that. Before anything is
written, the ledger notes what is to be written and how long all.csv is: whoever finds such a note at the start knows
that the one before was killed in the middle, cuts all.csv back to that length and begins this sheet again. Nothing else
ever cuts a file, and none is replaced but the list of the pages of review. A sheet leaves failed/ when it is done anew
that was locked or died, which is no fault of its content.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from digitize import journal, reviews, write
from digitize.errors import OutputError
from digitize.records import SheetReading

log = logging.getLogger("digitize")

OWN_FOLDER = ".digitize"
BASE_FILE = "journal.sqlite"
LOCK_FILE = "lock"
NEW_FOLDER = "new"
ALL_FILE = "all.csv"
RESULTS, FAILED, DONE = "results", "failed", "done"
FIRST_NUMBER = 2  # of a second content under a name: 1.png~2
COPY_BYTES = 1 << 20  # at a time
# What writing fails with where the fault may be the name's: too long, letters that the file system does not take, or a
# folder of it that is a file here or belongs to somebody else.
OF_NAMES = frozenset(
    getattr(errno, name)
    for name in "ENAMETOOLONG EINVAL EILSEQ ENOTDIR EISDIR EEXIST EACCES EPERM".split()  # noqa: SIM905
)

# What became of a sheet: it failed for what it holds, could not be opened, or took its process along. The last two may
# pass without a change of the content, so such a sheet may be read again.
State = Literal["read", "failed", "locked", "died"]

TABLES = (
    journal.READINGS,
    """CREATE TABLE IF NOT EXISTS listed (  -- sheets that are done
        path BLOB NOT NULL,   -- below the inbox, as the system spells it
        sha256 TEXT NOT NULL,
        name TEXT NOT NULL UNIQUE,  -- in the results
        state TEXT NOT NULL,  -- `State`
        digits INTEGER NOT NULL,
        review INTEGER NOT NULL,
        error TEXT,
        at TEXT NOT NULL,
        PRIMARY KEY (path, sha256)
    )""",
    """CREATE TABLE IF NOT EXISTS files (  -- what lay at a path when it was done; the same is not looked at again
        path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
        sha256 TEXT NOT NULL, state TEXT NOT NULL
    )""",
    """CREATE TABLE IF NOT EXISTS intent (  -- at most one row: what is being written
        one INTEGER PRIMARY KEY CHECK (one = 1), state TEXT NOT NULL, name TEXT NOT NULL, length INTEGER NOT NULL
    )""",
    "CREATE TABLE IF NOT EXISTS troubles (path BLOB PRIMARY KEY, error TEXT NOT NULL, tries INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS aside (path BLOB PRIMARY KEY)",  # sheets that are being put away: `away.py`
    *reviews.TABLES,
    "CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
)


@dataclass(frozen=True, slots=True)
class Found:
    """A file of the inbox as it lay there when it had settled.

    Attributes:
        name: its path below the inbox, with slashes; bytes that are no text as surrogates.
        size: in bytes.
        mtime_ns: time of its last change.
        sha256: of its content; empty where it could not be opened.
    """

    name: str
    size: int
    mtime_ns: int
    sha256: str = ""

    @property
    def path(self) -> bytes:
        """As the ledger keeps it."""
        return os.fsencode(self.name)


@dataclass(frozen=True, slots=True)
class Tally:
    """What a ledger holds.

    Attributes:
        inbox: the folder that was watched.
        read, failed: sheets.
        digits, review: of those that were read.
        pages: of review that were written.
        unseen: sheets with digits to look at that are on none yet.
        troubles: for each file that is to be tried again its name, the last error and how often it was tried.
        last_failures: names and errors of the failures that came last.
    """

    inbox: str
    read: int
    failed: int
    digits: int
    review: int
    pages: int = 0
    unseen: int = 0
    troubles: tuple[tuple[str, str, int], ...] = ()
    last_failures: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Whole:
    """What of all.csv is whole, while a watch may be writing.

    Attributes:
        sheets: for each name that stands there the hash of its content.
        length: bytes that are whole; None where nothing is being written, and all are.
    """

    sheets: dict[str, str] = field(repr=False)
    length: int | None


class Ledger:
    """An OUTBOX, by one process at a time."""

    def __init__(self, outbox: Path) -> None:
        """Know the place; `open` makes it."""
        self.outbox = outbox
        self._own = outbox / OWN_FOLDER
        self._base: sqlite3.Connection | None = None
        self._torn = True  # whether something may have been left half done
        self._unlisted: reviews.Written | None = None  # a page of review that is written, and not in the list yet

    def open(self, inbox: Path, *, seconds: float = 0.0) -> None:
        """Make what is missing, and undo what one that was killed left half done.

        Args:
            inbox: the folder that is watched.
            seconds: that a sheet may take; where these are more than the watch before gave, what died is looked at
                again.

        Raises:
            OutputError: the folder cannot be written.
        """
        with self._door():
            for folder in (self._own / NEW_FOLDER, self.outbox / RESULTS, self.outbox / FAILED):
                folder.mkdir(parents=True, exist_ok=True)
            for left in (self._own / NEW_FOLDER).iterdir():
                left.unlink()
            self._mend()
            reviews.clear(self.outbox)
            reviews.write_index(self._connected(), self.outbox)
            with self._transaction() as base:
                before = base.execute("SELECT value FROM facts WHERE name = 'seconds'").fetchone()
                if before is not None and seconds > float(before[0]):
                    base.execute("DELETE FROM files WHERE state = 'died'")
                name = os.fsencode(inbox).decode(errors="backslashreplace")
                facts = (("inbox", name), ("seconds", repr(seconds)))
                base.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", facts)

    def close(self) -> None:
        """Close the database."""
        if self._base is not None:
            self._base.close()
            self._base = None

    def handled(self) -> dict[str, tuple[int, int, State]]:
        """For each path that is done the size, the time and what became of what lay there."""
        with self._door():
            rows = self._connected().execute("SELECT path, size, mtime_ns, state FROM files")
            return {os.fsdecode(path): (size, mtime, state) for path, size, mtime, state in rows}

    def state_of(self, found: Found) -> State | None:
        """What became of this content at this path; None where it is new, or may be read again."""
        with self._door():
            sql = "SELECT state FROM listed WHERE path = ? AND sha256 = ? AND state IN ('read', 'failed')"
            row = self._connected().execute(sql, (found.path, found.sha256)).fetchone()
            state: State | None = row[0] if row else None
            return state

    def hash_of(self, name: str) -> str:
        """The hash of what was done at a path last; empty where nothing was."""
        with self._door():
            sql = "SELECT sha256 FROM files WHERE path = ?"
            row = self._connected().execute(sql, (os.fsencode(name),)).fetchone()
            return str(row[0]) if row else ""

    def reading(self, key: str, source: str) -> SheetReading | None:
        """What was read before of the same content, whatever its name."""
        with self._door():
            row = self._connected().execute("SELECT reading FROM readings WHERE key = ?", (key,)).fetchone()
            with suppress(ValueError):  # damaged, or of another version: the sheet is read again
                return journal.unpack(row[0], source) if row else None
            return None

    def names_of(self, sha256: str) -> list[str]:
        """Under which names a content is listed as read."""
        with self._door():
            sql = "SELECT name FROM listed WHERE sha256 = ? AND state = 'read' ORDER BY at"
            return [str(name) for (name,) in self._connected().execute(sql, (sha256,))]

    def note_seen_again(self, found: Found, state: State) -> None:
        """Note that the same content lies at the same path with another time."""
        with self._door(), self._transaction() as base:
            _put_file(base, found, state)

    def note_trouble(self, found: Found, error: str, tries: int) -> None:
        """Note why a file is to be tried again."""
        with self._door():
            row = (found.path, _text(error), tries)
            self._connected().execute("INSERT OR REPLACE INTO troubles VALUES (?, ?, ?)", row)

    def set_aside(self) -> list[str]:
        """Names of files that may have been set aside to be put away, and have not been."""
        with self._door():
            return [os.fsdecode(path) for (path,) in self._connected().execute("SELECT path FROM aside ORDER BY path")]

    def note_aside(self, name: str) -> None:
        """Note that a file is going to be set aside."""
        with self._door():
            self._connected().execute("INSERT OR REPLACE INTO aside VALUES (?)", (os.fsencode(name),))

    def forget_aside(self, name: str) -> None:
        """Note that a file is set aside no longer."""
        with self._door():
            self._connected().execute("DELETE FROM aside WHERE path = ?", (os.fsencode(name),))

    def list_read(self, found: Found, key: str, reading: SheetReading) -> str:
        """Write a sheet that was read: its results, its rows in all.csv, and that it is done.

        Args:
            found: the file.
            key: what the reading depends on: `journal.key_of`.
            reading: of the sheet.

        Returns:
            The name it is listed by.

        Raises:
            OutputError: something cannot be written; then nothing is, and it can be tried again.
        """
        digits = [digit for page in reading.pages for *_, digit in page.digits()]
        review = sum(digit.status == "review" for digit in digits)

        def write_all(name: str, length: int) -> None:
            named = replace(reading, source=name)
            target = self._results(name)
            _make_folder(target.parent)
            with write.open_output(target) as output:
                write.write_csv([named], output, NOBODY)
            self._append(named, length)

        def settle(base: sqlite3.Connection, name: str) -> None:
            base.execute("INSERT OR REPLACE INTO readings VALUES (?, ?)", (key, journal.pack(reading)))
            counts = (len(digits), review, None)
            base.execute("INSERT INTO listed VALUES (?,?,?,?,?,?,?,?)", _listing(found, name, "read", counts))
            reviews.put(base, name, key, reading.drawings, sure=len(digits) - review)

        return self._carry_out("read", found, write_all, settle)

    def list_failed(self, found: Found, error: str, origin: Path, *, state: State = "failed") -> str:
        """Put a sheet that cannot be read into failed/ with the reason beside it; the reason alone where it is gone.

        Args:
            found: the file.
            error: one line that says why.
            origin: where it lies; may be gone, or not to be read.
            state: why it failed.

        Returns:
            The name it has below failed/.

        Raises:
            OutputError: something cannot be written; then nothing is, and it can be tried again.
        """

        def write_all(name: str, length: int) -> None:
            target = self.outbox / FAILED / name
            _make_folder(target.parent)
            fresh = self._own / NEW_FOLDER / "sheet"
            if _link_or_copy(origin, fresh):
                fresh.replace(target)
            said = {"source": found.name, "sha256": found.sha256, "error": error, "at": _now()}
            note = self._own / NEW_FOLDER / "error.json"
            with note.open("wb") as stream:
                stream.write(write.encoded(json.dumps(said, indent=1, ensure_ascii=False) + "\n"))
                write.settle(stream)
            note.replace(target.with_name(target.name + ".json"))
            write.settle_folder(target.parent)

        def settle(base: sqlite3.Connection, name: str) -> None:
            listing = _listing(found, name, state, (0, 0, error))
            base.execute("INSERT OR REPLACE INTO listed VALUES (?,?,?,?,?,?,?,?)", listing)

        return self._carry_out(state, found, write_all, settle)

    def whole(self) -> Whole:
        """Which sheets stand in all.csv, and how much of it is whole."""
        with self._door(), self._transaction() as base:
            listed = base.execute("SELECT name, sha256 FROM listed WHERE state = 'read'").fetchall()
            begun = base.execute("SELECT length FROM intent").fetchone()
            return Whole(dict(listed), begun[0] if begun else None)

    def unseen(self) -> reviews.Unseen:
        """What waits for a page of review."""
        with self._door():
            return reviews.unseen(self._connected())

    def write_page(self, generator: write.Generator, *, share: float = 0.0) -> reviews.Written | None:
        """Write a page of review of what waits for one, as much as goes onto it.

        Args:
            generator: what read the sheets.
            share: of the digits that are ok, how many were mixed in.

        Returns:
            The page; None where nothing waits.

        Raises:
            OutputError: it cannot be written; nothing is lost, and it can be tried again.
        """
        with self._door():
            if self._unlisted is None:
                with self._transaction() as base:
                    number = reviews.begin(base)
                if number is None:
                    return None
                written = reviews.write_page(base, self.outbox, number, generator, share=share)
                with self._transaction() as base:
                    reviews.finish(base, number)
                self._unlisted = written
            reviews.write_index(self._connected(), self.outbox)
            written, self._unlisted = self._unlisted, None
            return written

    def take_away(self, origin: Path, name: str) -> None:
        """Move a sheet that was read into done/; under a plain name where a file there is called like its folder.

        Raises:
            OutputError: it cannot be moved; it stays where it is.
        """
        with self._door():
            target = _free(self.outbox / DONE / name)
            try:
                _make_folder(target.parent)
            except OSError as error:
                if not _is_of_name(error):
                    raise
                target = _free(self.outbox / DONE / _plain_name(name))
                log.warning("%s: cannot be put into done/ under this name; it is %s there", name, target.name)
            try:
                origin.rename(target)
                write.settle_folder(target.parent)
            except OSError as error:
                if error.errno != errno.EXDEV:  # nor could a copy be followed by taking the sheet away
                    raise
                self._move_over(origin, target)

    def _move_over(self, origin: Path, target: Path) -> None:
        """Move a file to another file system, or leave it where it is and no copy of it."""
        fresh = self._own / NEW_FOLDER / "sheet"
        shutil.copyfile(origin, fresh)
        with fresh.open("rb+") as stream:
            write.settle(stream)
        shutil.copystat(origin, fresh)
        fresh.replace(target)
        write.settle_folder(target.parent)
        try:
            origin.unlink()
        except OSError:
            target.unlink()
            raise

    def tally(self) -> Tally:
        """What was done so far."""
        with self._door():
            return tally(self._connected())

    # What is written is written so

    def _carry_out(
        self,
        state: State,
        found: Found,
        write_all: Callable[[str, int], None],
        settle: Callable[[sqlite3.Connection, str], None],
    ) -> str:
        """Write a sheet and list it; under a plain name where it is its own that cannot be written."""
        with self._door():
            self._forgive(found)
            name = self._free_name(found.name, state)
            try:
                self._carry_out_as(name, state, found, write_all, settle)
            except (OSError, OutputError) as error:
                if not _is_of_name(error):
                    raise
                name, wanted = self._free_name(_plain_name(found.name), state), name
                self._carry_out_as(name, state, found, write_all, settle)
                log.warning("%s: cannot be written under this name; it is listed as %s", wanted, name)
            return name

    def _forgive(self, found: Found) -> None:
        """Take a sheet out of failed/ that failed through no fault of its content, and is done anew now."""
        where = "path = ? AND sha256 IN ('', ?) AND state IN ('locked', 'died')"
        facts = (found.path, found.sha256)
        names = self._connected().execute(f"SELECT name FROM listed WHERE {where}", facts).fetchall()
        for (name,) in names:
            self._unwrite("failed", name)
        if names:  # not done any more: whoever comes after a kill tries it again
            with self._transaction() as base:
                base.execute(f"DELETE FROM listed WHERE {where}", facts)
                base.execute("DELETE FROM files WHERE path = ?", (found.path,))

    def _carry_out_as(
        self,
        name: str,
        state: State,
        found: Found,
        write_all: Callable[[str, int], None],
        settle: Callable[[sqlite3.Connection, str], None],
    ) -> None:
        """Note what is to be written, write it, and take the note back together with listing it."""
        if self._torn:
            self._mend()
        length = self._length()
        self._torn = True
        with self._transaction() as base:
            base.execute("INSERT INTO intent VALUES (1, ?, ?, ?)", (state, name, length))
        try:
            write_all(name, length)
            with self._transaction() as base:
                settle(base, name)
                _put_file(base, found, state)
                base.execute("DELETE FROM troubles WHERE path = ?", (found.path,))
                base.execute("DELETE FROM intent")
        except (OSError, OutputError, sqlite3.Error):
            with suppress(OSError, sqlite3.Error):  # the next one mends it where this is not possible now
                self._mend()
            raise
        self._torn = False

    def _mend(self) -> None:
        """Undo what was begun and not finished."""
        base = self._connected()
        row = base.execute("SELECT state, name, length FROM intent").fetchone()
        if row is not None:
            state, name, length = row
            self._unwrite(state, name)
            if state == "read" and self._length() > length:
                with (self.outbox / ALL_FILE).open("rb+") as stream:
                    stream.truncate(length)
                    write.settle(stream)
            base.execute("DELETE FROM intent")
        self._torn = False

    def _unwrite(self, state: str, name: str) -> None:
        """Remove what was written of a sheet."""
        try:
            if state == "read":
                target = self._results(name)
                for part in target.parent.glob(f".{_escaped(write.fitting(target.name))}.*.part"):
                    part.unlink()
                target.unlink(missing_ok=True)
            else:
                target = self.outbox / FAILED / name
                target.unlink(missing_ok=True)
                target.with_name(target.name + ".json").unlink(missing_ok=True)
        except OSError as error:
            if not _is_of_name(error):  # else nothing can have been written under it either
                raise

    def _append(self, reading: SheetReading, length: int) -> None:
        """Write a sheet's rows behind the others', and see that they are on the disk."""
        text = io.StringIO()
        write.write_csv([reading], text, NOBODY)
        content = text.getvalue().encode("utf-8", "backslashreplace")
        if length:
            _, _, content = content.partition(b"\n")
        with (self.outbox / ALL_FILE).open("ab+") as stream:
            if length:
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b"\n":  # somebody has edited it
                    stream.write(b"\n")
            stream.write(content)
            write.settle(stream)
        if not length:
            write.settle_folder(self.outbox)

    def _length(self) -> int:
        try:
            return (self.outbox / ALL_FILE).stat().st_size
        except FileNotFoundError:
            return 0

    def _results(self, name: str) -> Path:
        return self.outbox / RESULTS / f"{name}.csv"

    def _free_name(self, wanted: str, state: State) -> str:
        """The name itself, or with a number where another content has it."""
        base = self._connected()
        parts = os.fsencode(wanted).decode(errors="backslashreplace").split("/")
        wanted = "/".join(map(write.fitting, parts))
        name, number = wanted, FIRST_NUMBER
        while True:
            taken = base.execute("SELECT 1 FROM listed WHERE name = ?", (name,)).fetchone()
            target = self._results(name) if state == "read" else self.outbox / FAILED / name
            if taken is None and not os.path.lexists(target):
                return name
            name, number = f"{wanted}~{number}", number + 1

    def _connected(self) -> sqlite3.Connection:
        if self._base is None:
            self._base = journal.connect(self._own / BASE_FILE, synchronous="FULL")
            for table in TABLES:
                self._base.execute(table)
        return self._base

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        base = self._connected()
        base.execute("BEGIN IMMEDIATE")
        try:
            yield base
            base.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # SQLite has rolled it back by itself where the disk is full
                base.execute("ROLLBACK")
            raise

    @contextmanager
    def _door(self) -> Iterator[None]:
        """Turn what can go wrong in the OUTBOX into one error; the database is opened anew after."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            with suppress(sqlite3.Error):
                self.close()
            self._base = None
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise OutputError(f"{self.outbox}: cannot be written: {reason}; make room or mend it") from error


NOBODY = write.Generator("", "", "")  # a CSV does not say what made it


def tally(base: sqlite3.Connection) -> Tally:
    """What a ledger's database says."""
    counts = dict(base.execute("SELECT state, COUNT(*) FROM listed GROUP BY state").fetchall())
    digits, review = base.execute("SELECT TOTAL(digits), TOTAL(review) FROM listed").fetchone()
    inbox = base.execute("SELECT value FROM facts WHERE name = 'inbox'").fetchone()
    troubles = base.execute("SELECT path, error, tries FROM troubles ORDER BY path").fetchall()
    last = base.execute("SELECT name, error FROM listed WHERE state <> 'read' ORDER BY at DESC LIMIT 5").fetchall()
    read = counts.pop("read", 0)
    return Tally(
        inbox=inbox[0] if inbox else "",
        read=read,
        failed=sum(counts.values()),
        digits=int(digits),
        review=int(review),
        pages=reviews.count(base),
        unseen=reviews.unseen(base).sheets,
        troubles=tuple((os.fsdecode(path), error, tries) for path, error, tries in troubles),
        last_failures=tuple((name, error) for name, error in last),
    )


def _put_file(base: sqlite3.Connection, found: Found, state: State) -> None:
    row = (found.path, found.size, found.mtime_ns, found.sha256, state)
    base.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", row)


def _listing(found: Found, name: str, state: State, counts: tuple[int, int, str | None]) -> tuple[object, ...]:
    """A row of `listed`; `counts` are its digits, those to review, and the error."""
    digits, review, error = counts
    return (found.path, found.sha256, name, state, digits, review, None if error is None else _text(error), _now())


def _text(said: str) -> str:
    """A text as SQLite takes it: what is no text in a file's name as backslash escapes."""
    return write.encoded(said).decode()


def _link_or_copy(origin: Path, target: Path) -> bool:
    """Whether a file could be kept as `target`, which is replaced; not where it is gone or cannot be read.

    Raises:
        OSError: `target` cannot be written.
    """
    target.unlink(missing_ok=True)
    with suppress(OSError):  # on another file system, on one without links, or somebody else's
        os.link(origin, target)
        return True
    try:
        source = origin.open("rb")
    except OSError:
        return False
    with source, target.open("wb") as copy:
        while True:
            try:
                block = source.read(COPY_BYTES)
            except OSError:
                return False
            if not block:
                write.settle(copy)
                return True
            copy.write(block)


def _make_folder(folder: Path) -> None:
    """Make a folder, and those above it, and see that they are on the disk."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in missing:
        write.settle_folder(place.parent)


def _is_of_name(error: OSError | OutputError) -> bool:
    """Whether what cannot be written may be writable under another name."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in OF_NAMES


def _plain_name(name: str) -> str:
    """A name that every file system takes, the same for the same path."""
    return f"sheet-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}{Path(name).suffix.lower()}"


def _free(target: Path) -> Path:
    """A path itself, or with a number where something lies there."""
    free, number = target, FIRST_NUMBER
    while free.exists():
        free, number = target.with_name(f"{target.name}~{number}"), number + 1
    return free


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _escaped(name: str) -> str:
    """A name as a pattern that matches it alone."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
