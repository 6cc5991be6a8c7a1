"""Results back in: a CSV, JSON or JSON Lines file that `write.py` wrote, whole, with what is needed to write it anew.

A CSV tells less than the others: not how large a page is, which way it was turned, or the sheet's hash. Pages from a
CSV are as large as their boxes reach, and lie as they were scanned.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from digitize import write
from digitize.errors import UsageError
from digitize.records import Box, Digit, Line, Number, PageReading, SheetReading, Status

READABLE: tuple[write.Format, ...] = ("csv", "json", "jsonl")
LARGEST_FILE = 1 << 30  # bytes: a result of about ten million digits


@dataclass(frozen=True, slots=True)
class Results:
    """What a result file holds.

    Attributes:
        path: the file.
        form: "csv", "json" or "jsonl".
        sha256: of its bytes, hexadecimal.
        sheets: in order; of a CSV, those that have digits.
        generator: what made it; None where the format does not say.
    """

    path: Path
    form: write.Format
    sha256: str
    sheets: tuple[SheetReading, ...] = field(repr=False)
    generator: write.Generator | None = None

    @property
    def digits(self) -> int:
        """How many digits there are."""
        return sum(1 for sheet in self.sheets for page in sheet.pages for _ in page.digits())


def load(path: Path, *, form: str | None = None) -> Results:
    """Read a result file.

    Args:
        path: what `digitize scan` or `digitize review apply` wrote.
        form: its format; by its suffix where None.

    Raises:
        UsageError: it cannot be read, or is no result of digitize.
    """
    known = write.format_of(str(path), form)
    if known not in READABLE:
        raise UsageError(f"{path}: {known} is not read back; scan to {', '.join(READABLE)}")
    return parse(path, read_bytes(path, LARGEST_FILE), known)


def parse(path: Path, content: bytes, known: write.Format) -> Results:
    """Read what a result file holds.

    Raises:
        UsageError: it is no result of digitize.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: is no result of digitize, which are in UTF-8 ({error}); give another file"
        ) from error
    try:
        if known == "csv":
            sheets, generator = tuple(_from_rows(write.read_csv(io.StringIO(text, newline="")))), None
        elif known == "json" and not text.strip():  # as JSON Lines it would be a result without sheets
            raise UsageError("is empty; write it anew with digitize scan")
        else:
            sheets, generator = tuple(write.read_json(io.StringIO(text))), _generator(text)
    except (UsageError, ValueError, csv.Error, RecursionError) as error:  # a box that is none; a cell or nest too large
        raise UsageError(f"{path}: {error}") from error
    return Results(path, known, hashlib.sha256(content).hexdigest(), sheets, generator)


def read_bytes(path: Path, most: int) -> bytes:
    """A file's bytes.

    Raises:
        UsageError: it cannot be read, or has more than `most` of them.
    """
    try:
        if path.stat().st_size > most:
            raise UsageError(f"{path}: is larger than {most >> 20} MiB; give the file that digitize wrote")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"{path}: cannot be read: {reason}; check the path") from error


def save(results: Results, target: str, *, form: str | None = None) -> None:
    """Write results in the format of `target`'s suffix, or in `form`.

    Raises:
        UsageError: this format needs what the results do not tell.
        OutputError: it cannot be written.
    """
    known = write.format_of(target, form)
    if known != "csv" and results.form == "csv":
        raise UsageError(f"{target}: a CSV does not hold what {known.upper()} needs; write a CSV, or scan to JSON")
    if known == "json" and results.generator is None:
        raise UsageError(f"{target}: {results.path.name} does not say what made it; write JSON Lines or a CSV")
    with write.open_output(target) as output:
        write.WRITERS[known](results.sheets, output, results.generator or write.Generator("", "", ""))


def _generator(text: str) -> write.Generator | None:
    """What made a JSON document; None for JSON Lines."""
    try:
        maker = json.loads(text).get("generator")
    except json.JSONDecodeError:
        return None
    if maker is None:
        return None
    try:
        return write.Generator(
            maker["version"],
            maker["model"],
            maker["model_sha256"],
            maker.get("settings"),
            detector=maker.get("detector"),
            detector_sha256=maker.get("detector_sha256", ""),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"this is no result of digitize in JSON ({error!r}); write it anew with digitize scan"
        ) from error


def _from_rows(rows: Iterable[write.Row]) -> Iterator[SheetReading]:
    for source, of_sheet in itertools.groupby(rows, lambda row: row.source):
        pages = [_page(number, list(of_page)) for number, of_page in itertools.groupby(of_sheet, lambda row: row.page)]
        yield SheetReading(source, "", tuple(pages))


def _page(number: int, rows: list[write.Row]) -> PageReading:
    lines = []
    for _, of_line in itertools.groupby(rows, lambda row: row.line):
        numbers = [
            Number(tuple(_digit(row) for row in of_number))
            for _, of_number in itertools.groupby(of_line, lambda row: row.number)
        ]
        lines.append(Line(tuple(numbers)))
    reach = Box.around([Box(row.left, row.top, row.width, row.height) for row in rows])
    return PageReading(number, reach.right, reach.bottom, tuple(lines))


def _digit(row: write.Row) -> Digit:
    return Digit(
        row.digit,
        row.confidence,
        row.alternative,
        row.alternative_confidence,
        cast(Status, row.status),
        Box(row.left, row.top, row.width, row.height),
    )
