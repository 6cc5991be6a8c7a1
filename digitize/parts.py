"""An archive in parts: which sheets go together, what each part's files are called, and how one part is read.

A part is some dozens of sheets that stand together in the listing. It is the unit of everything that may have to be
done again: one worker reads it, its tables are named by a hash of what they depend on (the sheets' names, sizes and
times, the settings and the models), and the table of its sheets, written last, says that it is finished. Whoever reads
a part a second time, since a machine died or was thought to be dead, writes the same bytes to the same names; so a
sheet is in the output once, however often it was read.

Parts end where a hash of a sheet's name says so (content-defined chunking, as LBFS and rsync's kin do it), so that a
sheet which comes into the archive later, or leaves it, changes the parts around it and no others.

    OUT/digits/3f/3f0c….parquet   one row a digit (or a number), as in the CSV
    OUT/errors/3f/3f0c….parquet   one row a sheet that could not be read whole; only where there are some
    OUT/sheets/3f/3f0c….parquet   one row a sheet, whatever became of it

Nothing here knows Ray: `cluster.py` carries parts to machines.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain
from pathlib import Path

from digitize import batch, sheets, store, tables, write, write_numbers
from digitize.checks import Rule
from digitize.errors import OutputError, UsageError
from digitize.records import SheetReading
from digitize.store import Store

PART_SHEETS = 64  # in a part, about: a minute of one core on A4 pages, and no more to read again where a machine dies
AHEAD = 4  # sheets fetched from a store while one is read
DIGITS, ERRORS, SHEETS = "digits", "errors", "sheets"
LARGEST_OBJECT = sheets.MAX_STDIN_BYTES  # of a store; larger ones are not fetched into memory
GO_ON = "mend that and scan again, what is finished is kept"


@dataclass(frozen=True, slots=True)
class Reference:
    """A sheet somewhere.

    Attributes:
        source: its name in the results.
        path: of the file, absolute, or in its store; None where there is no such sheet.
        uri: of the store; "" for the file system.
        size: bytes.
        changed: when it last changed, in nanoseconds since 1970; 0 where its store does not say.
        error: why there is no such sheet.
    """

    source: str
    path: str | None
    uri: str = ""
    size: int = 0
    changed: int = 0
    error: str | None = None

    @property
    def place(self) -> str:
        """What it lies in: its folder, or its store's URI; empty where there is no such sheet."""
        return self.uri or (str(Path(self.path).parent) if self.path is not None else "")

    @property
    def fault(self) -> str | None:
        """Why it cannot be asked for; None of a sheet that can."""
        if self.error is not None or self.path is None:
            return self.error or f"{self.source}: no such sheet; check the path"
        if self.uri and self.size > LARGEST_OBJECT:
            return f"{self.name}: is larger than {LARGEST_OBJECT >> 20} MiB; split it"
        return None

    @property
    def name(self) -> str:
        """What it is called where something is wrong with it."""
        if not self.uri or self.uri == self.source:
            return self.source
        return f"{self.uri.rstrip('/')}: {self.source}"


@dataclass(frozen=True, slots=True)
class Part:
    """Sheets that are read together.

    Attributes:
        name: of its files, 32 hexadecimal digits.
        references: at least one.
    """

    name: str
    references: tuple[Reference, ...] = field(repr=False)

    @staticmethod
    def of(references: Sequence[Reference], mark: str) -> Part:
        """The part of some sheets, read by what `mark` says."""
        facts = [[one.source, one.path, one.uri, one.size, one.changed] for one in references]
        whole = json.dumps([mark, facts], ensure_ascii=True)
        return Part(hashlib.sha256(whole.encode()).hexdigest()[:32], tuple(references))


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One row of the table of sheets; its fields are the columns.

    Attributes:
        source: the sheet's name in the results.
        sha256: of its bytes; empty where it could not be opened.
        pages, digits, review: how many were read, and how many digits of those are to review.
        failed: 1 where it could not be read whole, else 0.
    """

    source: str
    sha256: str
    pages: int
    digits: int
    review: int
    failed: int


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One row of the table of errors.

    Attributes:
        source: the sheet's name in the results.
        sha256: of its bytes; empty where it could not be opened.
        pages: of it that were read all the same.
        error: what is wrong, in one line.
        part: name of the part; without its file in `sheets/`, the part is read again.
    """

    source: str
    sha256: str
    pages: int
    error: str
    part: str


@dataclass(frozen=True, slots=True)
class Counts:
    """What came of a part.

    Attributes:
        part: its name.
        sheets, failed, pages, digits, review: as in `batch.Summary`.
        resumed: whether it was there already.
        said: a line for each sheet that failed.
    """

    part: str
    sheets: int = 0
    failed: int = 0
    pages: int = 0
    digits: int = 0
    review: int = 0
    resumed: bool = False
    said: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """Where parts go, and as what.

    Attributes:
        form: of the tables.
        level: whether a row of `digits/` is a digit or a number.
        rules: that numbers are held to.
    """

    form: tables.Form = "parquet"
    level: batch.Level = "digit"
    rules: tuple[Rule, ...] = ()

    def file(self, table: str, part: str) -> str:
        """A part's file of a table; two letters of the name keep folders small."""
        return f"{table}/{part[:2]}/{part}.{self.form}"


# Listing


def refer(inputs: Sequence[str]) -> Iterator[Reference]:
    """Yield a reference to each sheet that the inputs name, as `sheets.find` does, and to those in stores.

    Where the only input is a folder, its sheets are yielded as they are found and none is kept; names from several
    inputs have to be told apart first.

    Raises:
        UsageError: a store cannot be asked, a folder is gone before all of it is listed, or an input is one that
            machines cannot share.
    """
    if sheets.STDIN in inputs:
        raise UsageError("standard input is on this machine only: give --engine ray files, folders or URIs")
    if len(inputs) == 1:
        yield from _of_one(inputs[0])
        return
    plain = [text for text in inputs if store.local_path(text) is not None]
    found = [_of_sheet(sheet) for sheet in sheets.find([_plain(text) for text in plain])]
    found += [one for text in dict.fromkeys(inputs) if text not in plain for one in _of_one(text)]
    names = Counter(one.source for one in found)
    yield from (replace(one, source=one.path) if one.path and names[one.source] > 1 else one for one in found)


def _plain(text: str) -> str:
    return str(store.local_path(text)) if store.is_uri(text) else text


def _of_one(text: str) -> Iterator[Reference]:
    path = store.local_path(text)
    if path is None:
        yield from _in_store(text)
    elif path.is_dir():
        some = False
        for sheet in sheets.below(Path(_plain(text))):
            if some and sheet.error is not None:  # one folder that may not be listed, or all that were still to come
                require_place(str(path))
            some = True
            yield _of_sheet(sheet)
        if not some:
            yield _of_sheet(sheets.none_below(_plain(text)))
    else:
        yield from map(_of_sheet, sheets.find([_plain(text)]))


def _of_sheet(sheet: sheets.Sheet) -> Reference:
    if sheet.path is None:
        return Reference(sheet.source, None, error=sheet.error)
    path = os.path.abspath(sheet.path)  # noqa: PTH100 - Path.absolute keeps "..", which another machine may not have
    try:
        facts = os.stat(path)  # noqa: PTH116 - a Path for each of millions costs more than the call
    except OSError:  # gone since: whoever reads it will say so
        return Reference(sheet.source, path)
    return Reference(sheet.source, path, "", facts.st_size, facts.st_mtime_ns)


def _in_store(uri: str) -> Iterator[Reference]:
    place = Store(uri)
    some = False
    try:
        kind = place.kind()
        if kind == "file":
            one = place.itself()
            yield Reference(uri, one.path, uri, one.size, one.changed)
            return
        for one in place.below():
            if Path(one.name).suffix.lower() in sheets.SUFFIXES:
                some = True
                yield Reference(one.name, one.path, uri, one.size, one.changed)
    except OSError as error:
        raise UsageError(f"{uri}: cannot be listed: {store.reason(error)}; check the address and the rights") from error
    if not some:
        missing = sheets.Sheet(uri, error=f"{uri}: nothing is there; check the address")
        yield _of_sheet(sheets.none_below(uri) if kind == "folder" else missing)


def divide(found: Iterable[Reference], *, size: int, mark: str) -> Iterator[Part]:
    """Put sheets together into parts.

    Args:
        found: sheets, in the order of the listing.
        size: how many go into a part, about: half as many at least, but for the last, and twice as many at most.
        mark: what their readings depend on beside the sheets.
    """
    gathered: list[Reference] = []
    for one in found:
        gathered.append(one)
        if len(gathered) >= 2 * size or (2 * len(gathered) >= size and _ends_a_part(one.source, size)):
            yield Part.of(gathered, mark)
            gathered = []
    if gathered:
        yield Part.of(gathered, mark)


def _ends_a_part(source: str, size: int) -> bool:
    """Whether a part may end behind a sheet: one in half a part's."""
    drawn = hashlib.sha256(source.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(drawn[:8]) % max(1, size // 2) == 0


# Reading

ReadSheets = Callable[[Iterable[sheets.Sheet]], Iterator[SheetReading]]


def read_part(part: Part, place: Store, target: Target, read: ReadSheets) -> Counts:
    """Read a part and write its tables; one that is finished is left as it is, and counted.

    Args:
        part: its sheets.
        place: the output's folder.
        target: what is written.
        read: reads sheets in order; `workers.Pool.read`, or `batch.SheetReader.read_all`.

    Raises:
        OutputError: the output cannot be read or written.
        UsageError: the sheets are out of reach; nothing is written of them then.
        DigitizeError: what `read` raises; what is wrong with a sheet is no error but a row.
    """
    there = finished(part.name, place, target)
    if there is not None:
        return there
    noted: list[SheetRow] = []
    failed: list[ErrorRow] = []

    def noting() -> Iterator[SheetReading]:
        for reading in _readings(part, read):
            judged = tuple(batch.judged(page, target.rules) for page in reading.pages)
            reading = replace(reading, pages=judged)
            noted.append(_row_of(reading))
            if reading.error is not None:
                row = ErrorRow(reading.source, reading.sha256, len(reading.pages), reading.error, part.name)
                failed.append(row)
            yield reading

    place.put(target.file(DIGITS, part.name), _digits(noting(), target))
    if failed:
        place.put(target.file(ERRORS, part.name), tables.pack(failed, ErrorRow, target.form))
    else:
        place.remove(target.file(ERRORS, part.name))  # of a try that came less far
    place.put(target.file(SHEETS, part.name), tables.pack(noted, SheetRow, target.form))
    return replace(_count(part.name, noted), said=tuple(row.error for row in failed))


def _readings(part: Part, read: ReadSheets) -> Iterator[SheetReading]:
    """What is read of a part's sheets, as long as they are within reach.

    A sheet that is gone or damaged fails alone. A share that was unmounted, or rights that ran out, are the fault of
    none: noted with each sheet as its error, they would be taken for what became of it, and never be tried again.

    Raises:
        UsageError: what a sheet lies in is gone, or of several sheets none could be opened.
    """
    asked, opened, last = 0, 0, ""
    with ThreadPoolExecutor(AHEAD) as fetchers:
        readings = read(_ahead(part.references, fetchers))
        for reading, reference in zip(readings, part.references, strict=True):
            if reading.passing:
                require_place(reference.place)
            if reference.fault is None:
                asked += 1
                opened += bool(reading.sha256)
                last = reading.error or last
            yield reading
    if asked > 1 and not opened:  # one alone may be at fault itself
        raise UsageError(f"none of the {asked} sheets of a part can be opened ({last}): {GO_ON}")


def require_place(place: str) -> None:
    """See whether what sheets lie in is there, and whether anything is in it: where a share was mounted nothing is.

    Args:
        place: a folder, or the URI of a store.

    Raises:
        UsageError: it is not, or does not answer.
    """
    try:
        if _holds_something(place):
            return
        why = "nothing is there any more"
    except OSError as error:
        why = store.reason(error)
    raise UsageError(f"{place}: sheets were listed there, and now they are out of reach: {why}: {GO_ON}")


def _holds_something(place: str) -> bool:
    if store.local_path(place) is None:
        return _store(place).kind() is not None
    with os.scandir(place) as entries:
        return next(entries, None) is not None


def finished(part: str, place: Store, target: Target) -> Counts | None:
    """What came of a part that is finished; None of one that is not.

    Raises:
        OutputError: the output cannot be read.
    """
    name = target.file(SHEETS, part)
    content = place.get(name)
    if content is None:
        return None
    try:
        return replace(_count(part, tables.unpack(content, SheetRow, target.form)), resumed=True)
    except (ValueError, TypeError, KeyError) as error:
        raise OutputError(
            f"{place.uri}: {name} cannot be read: {error}; remove it, and its part is read again"
        ) from error


def sheet_of(reference: Reference) -> sheets.Sheet:
    """A sheet to read: a file by its path, an object of a store with its bytes; or with the reason why it is none.

    Raises:
        UsageError: its store does not answer.
    """
    if reference.path is None or reference.fault is not None:
        return sheets.Sheet(reference.source, error=reference.fault)
    if not reference.uri:
        return sheets.Sheet(reference.source, path=Path(reference.path))
    try:
        return sheets.Sheet(reference.source, content=_fetch(reference.path, reference.uri))
    except OSError as error:
        why = f"{reference.name}: cannot be fetched: {store.reason(error)}; try again"
        return sheets.Sheet(reference.source, error=why)


def _fetch(path: str, uri: str) -> bytes:
    """The bytes of an object; one whose store answers, and which fails all the same, is asked for once more."""
    try:
        return _store(uri).read(path)
    except OSError:
        require_place(uri)
        return _store(uri).read(path)


@cache
def _store(uri: str) -> Store:
    return Store(uri)


def _ahead(references: Iterable[Reference], fetchers: ThreadPoolExecutor) -> Iterator[sheets.Sheet]:
    """The sheets in order, the next few of a store being fetched while one is read."""
    waiting: deque[Future[sheets.Sheet]] = deque()
    for reference in references:
        waiting.append(fetchers.submit(sheet_of, reference))
        if len(waiting) > AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _digits(readings: Iterable[SheetReading], target: Target) -> bytes:
    """The table of digits, or of numbers."""
    if target.level == "number":
        numbers = chain.from_iterable(map(write_numbers.rows, readings))
        return tables.pack(numbers, write_numbers.NumberRow, target.form)
    return tables.pack(chain.from_iterable(map(write.rows, readings)), write.Row, target.form)


def _row_of(reading: SheetReading) -> SheetRow:
    counted = batch.Summary()
    counted.count(reading)
    return SheetRow(reading.source, reading.sha256, counted.pages, counted.digits, counted.review, counted.failed)


def _count(part: str, rows: Iterable[SheetRow]) -> Counts:
    noted = list(rows)
    total = {name: sum(getattr(row, name) for row in noted) for name in ("failed", "pages", "digits", "review")}
    return Counts(part, len(noted), **total)
