"""Readings out: CSV, JSON and JSON Lines, and the pictures by which a reading is checked.

One small writer per format, each taking sheets as they come and keeping none, so that memory does not grow with their
number. `open_output` is the one place that opens results; what it writes appears whole or not at all.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import re
import stat
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from errno import EACCES, EINVAL, EISDIR, ENOTSUP
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO, Literal, TextIO, TypeVar, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from digitize.errors import OutputError, UsageError
from digitize.records import Box, Digit, Gray, Line, Number, PageReading, SheetReading, Status

Format = Literal["csv", "json", "jsonl", "alto", "hocr"]
FORMAT_OF_SUFFIX: Mapping[str, Format] = {
    **{".csv": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl"},
    **{".xml": "alto", ".hocr": "hocr"},
}
STDOUT = "-"

SCHEMA = "digitize/1"
SCHEMA_FILE = "digitize-1.json"
DECIMALS = 4  # of a probability

# A spreadsheet takes a cell that begins so for a formula, full-width forms included. The quotes before are counted in,
# so that taking one off gives the text back whatever it was.
LINE_END = "\r\n"
FORMULA = re.compile(r"'*[=+\-@\x00-\x1f\x7f-\x9f＝＋－＠]")

# Blue, green, red; apart for the colour-blind too: Okabe and Ito's bluish green, vermilion and blue.
COLOUR_OF_STATUS: Mapping[Status, tuple[int, int, int]] = {
    "ok": (115, 158, 0),
    "review": (0, 94, 213),
    "corrected": (178, 114, 0),
    "confirmed": (178, 114, 0),
}
FONT = cv2.FONT_HERSHEY_SIMPLEX
LEGIBLE_DIGIT = 40  # pixels: an overlay is enlarged until the usual digit is about as tall
MAX_ENLARGEMENT = 4
MAX_OVERLAY_PIXELS = 60_000_000  # no enlargement beyond
MAX_OVERLAY_SIDE = 65_000  # pixels: JPEG knows hardly longer ones
VALUE_HEIGHT = 0.5  # of the usual digit's height: the digit that was read, above its box
CONFIDENCE_HEIGHT = 0.25  # the confidence in percent, below it
STROKES_PER_DIGIT = 20  # a box is drawn with a line of a digit's height by this
PAPER_SHARE = 0.45  # how far the page is faded so that what is drawn on it stands out

FAST_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)
MAX_STEM = 80  # letters of a source that go into the names of its pictures
MAX_NAME_BYTES = 200  # of a file's name; most file systems take 255, and suffixes are still to come
SHOWN = 40  # letters of a value that does not fit which are shown

_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the CSV; its fields are the columns, in order.

    Attributes:
        source: the path as given; for a folder, relative to it.
        page: page number, from 1.
        line: line within the page, from 1.
        number: number within its line, from 1.
        position: digit within its number, from 1.
        digit: 0 to 9.
        confidence: calibrated probability that this is that digit.
        alternative: the runner-up.
        alternative_confidence: its probability.
        status: "ok" or "review"; "corrected" or "confirmed" where somebody has looked.
        left: first column of the box, in pixels of the upright page.
        top: first row of the box.
        width: of the box.
        height: of the box.
    """

    source: str
    page: int
    line: int
    number: int
    position: int
    digit: int
    confidence: float
    alternative: int
    alternative_confidence: float
    status: str
    left: int
    top: int
    width: int
    height: int


COLUMNS = tuple(field.name for field in fields(Row))
SIDES = tuple(field.name for field in fields(Box))


@dataclass(frozen=True, slots=True)
class Generator:
    """What made a result.

    Attributes:
        version: of digitize.
        model: the model's name.
        model_sha256: hash of the model file that was run, hexadecimal.
        settings: what was asked for beyond the defaults, by option.
        detector, detector_sha256: the same of the detector; None and "" where there was none.
    """

    version: str
    model: str
    model_sha256: str
    settings: Mapping[str, str | int | float | bool | None] | None = None
    detector: str | None = None
    detector_sha256: str = ""


class Output:
    """A text stream in UTF-8 on which a failure to write is an `OutputError`.

    What UTF-8 cannot hold (a file name of other bytes) is written as a backslash escape.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._name = name

    def write(self, text: str, /) -> int:
        """Write text; returns the number of letters.

        Raises:
            OutputError: the disk is full, the reader of a pipe is gone, ...
        """
        self.write_bytes(encoded(text))
        return len(text)

    def write_bytes(self, content: bytes, /) -> None:
        """Write bytes as they are.

        Raises:
            OutputError: see `write`.
        """
        try:
            self._stream.write(content)
        except OSError as error:
            raise _unwritable(self._name, error) from error

    def flush(self) -> None:
        """Hand what was written to the system.

        Raises:
            OutputError: see `write`.
        """
        try:
            self._stream.flush()
        except OSError as error:
            raise _unwritable(self._name, error) from error


def encoded(text: str) -> bytes:
    """Text as it stands in a result: UTF-8, and what that cannot hold as a backslash escape."""
    return text.encode("utf-8", "backslashreplace")


def format_of(target: str, named: str | None = None) -> Format:
    """The format for a target: the one that is named, else by suffix; CSV on standard output.

    Raises:
        UsageError: neither says which.
    """
    by_suffix = "csv" if target == STDOUT else FORMAT_OF_SUFFIX.get(Path(target).suffix.lower())
    for known in WRITERS:
        if known == (named or by_suffix):
            return known
    what = f"--format {named}: no such format" if named else f"{target}: the suffix names no format"
    raise UsageError(f"{what}; choose one of {', '.join(WRITERS)}, by suffix or with --format")


@contextmanager
def open_output(target: str | Path) -> Iterator[Output]:
    """Open a result that appears whole, when the block ends well, or not at all.

    A file is written beside its target under a temporary name, flushed to the disk and renamed; whatever ends the block
    otherwise removes it and leaves an older result as it was. Standard output (``-``), pipes and devices are written
    directly.

    Args:
        target: a path, or ``-`` for standard output.

    Yields:
        A stream to write text on.

    Raises:
        OutputError: the target cannot be written; at once where that can be known at once.
    """
    if str(target) == STDOUT:
        output = Output(sys.stdout.buffer, "standard output")
        yield output
        output.flush()
        return
    name = str(target)
    try:
        final = Path(target).resolve()  # a link stays, what it points to is replaced
        mode = _mode_of(final)
        if mode is not None and stat.S_ISDIR(mode):
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR))
        if mode is not None and not os.access(final, os.W_OK):
            raise PermissionError(EACCES, os.strerror(EACCES))
        direct = mode is not None and not stat.S_ISREG(mode)  # a rename would put a file in the place of /dev/null
        part = final.with_name(f".{fitting(final.name)}.{uuid.uuid4().hex[:8]}.part")
        stream = final.open("wb") if direct else part.open("xb")
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise _unwritable(name, error) from error
    if direct:
        with stream:
            output = Output(stream, name)
            yield output
            output.flush()
        return
    try:
        with stream:
            yield Output(stream, name)
            _settle(stream, name)
        _take_place(part, final, mode, name)
    finally:
        with suppress(FileNotFoundError):  # renamed: all is well
            part.unlink()


def rows(sheet: SheetReading) -> Iterator[Row]:
    """Yield the CSV rows of a sheet in reading order; none for a blank or failed one."""
    for page in sheet.pages:
        for line, number, position, digit in page.digits():
            box = digit.box
            yield Row(
                source=sheet.source,
                page=page.number,
                line=line,
                number=number,
                position=position,
                digit=digit.value,
                confidence=digit.confidence,
                alternative=digit.alternative,
                alternative_confidence=digit.alternative_confidence,
                status=digit.status,
                left=box.left,
                top=box.top,
                width=box.width,
                height=box.height,
            )


class UnixLines:
    """Takes rows that end in CR LF and writes them with LF.

    Before Python 3.13 the csv module quotes only those line breaks that its own line end is made of, so a name with a
    bare CR in it is safe only where that end holds one.
    """

    def __init__(self, output: Output | TextIO) -> None:
        self._output = output

    def write(self, row: str) -> None:
        """Write a row as the csv module made it."""
        self._output.write(row.removesuffix(LINE_END) + "\n")


def write_csv(sheets: Iterable[SheetReading], output: Output | TextIO, generator: Generator) -> None:
    """Write one row per digit under a header; `generator` has no place in a CSV."""
    write_rows((row for sheet in sheets for row in rows(sheet)), COLUMNS, output)


def write_rows(rows: Iterable[Any], columns: Sequence[str], output: Output | TextIO) -> None:
    """Write rows, dataclasses with these columns as their fields, as CSV under a header."""
    table = csv.writer(UnixLines(output), lineterminator=LINE_END)
    table.writerow(columns)
    for row in rows:
        table.writerow([cell(value) for value in astuple(row)])


def write_json(sheets: Iterable[SheetReading], output: Output | TextIO, generator: Generator) -> None:
    """Write one JSON document by the schema that `schema` gives, one line a sheet."""
    maker = {"name": "digitize", "version": generator.version, "model": generator.model}
    maker["model_sha256"] = generator.model_sha256
    finder = {"detector": generator.detector, "detector_sha256": generator.detector_sha256}
    described = {**maker, **finder, "settings": dict(generator.settings or {})}
    output.write(f'{{"schema": {_json(SCHEMA)}, "generator": {_json(described)}, "sheets": [')
    separator = "\n"
    for sheet in sheets:
        output.write(separator + _json(_sheet_out(sheet)))
        separator = ",\n"
    output.write("\n]}\n")


def write_jsonl(sheets: Iterable[SheetReading], output: Output | TextIO, generator: Generator) -> None:
    """Write one sheet a line, each as it stands in the list of the JSON document."""
    for sheet in sheets:
        output.write(_json(_sheet_out(sheet)) + "\n")


def write_alto(sheets: Iterable[SheetReading], output: Output | TextIO, generator: Generator) -> None:
    """Write ALTO; see `write_alto.py`."""
    from digitize import write_alto as alto

    alto.write_alto(sheets, output, generator)


def write_hocr(sheets: Iterable[SheetReading], output: Output | TextIO, generator: Generator) -> None:
    """Write hOCR; see `write_hocr.py`."""
    from digitize import write_hocr as hocr

    hocr.write_hocr(sheets, output, generator)


Writer = Callable[[Iterable[SheetReading], "Output | TextIO", Generator], None]
WRITERS: Mapping[Format, Writer] = {
    **{"csv": write_csv, "json": write_json, "jsonl": write_jsonl},
    **{"alto": write_alto, "hocr": write_hocr},
}


def read_csv(stream: TextIO) -> Iterator[Row]:
    """Read back what `write_csv` wrote. Open files with ``newline=""``.

    Raises:
        UsageError: the columns are others, or a cell does not fit its column.
    """
    table = csv.reader(stream)
    header = next(table, [])
    if tuple(header) != COLUMNS:
        raise UsageError(f"the columns are {header}, not those of digitize; expected {', '.join(COLUMNS)}")
    parsers: Mapping[str, Callable[[str], Any]] = {"str": uncell, "int": int, "float": float}
    columns = [(field.name, parsers[str(field.type)]) for field in fields(Row)]
    for cells in filter(None, table):  # a blank line is none
        try:
            if len(cells) != len(COLUMNS):
                raise ValueError(f"it has {len(cells)} cells, expected {len(COLUMNS)}")
            found = {name: parse(cell) for (name, parse), cell in zip(columns, cells, strict=True)}
            for name in ("page", "line", "number", "position"):
                _held(found, name, 1)
            _hold_answer(found)
            Box(*(found[side] for side in SIDES))
        except ValueError as error:
            raise UsageError(
                f"line {table.line_num} of the CSV does not fit its columns: {error}; write it anew"
            ) from error
        yield Row(**found)


def read_json(stream: TextIO) -> Iterator[SheetReading]:
    """Read back the sheets that `write_json` or `write_jsonl` wrote.

    Raises:
        UsageError: this is neither.
    """
    text = stream.read()
    try:
        try:
            document = json.loads(text)
        except json.JSONDecodeError:
            lines = [line for line in text.split("\n") if line.strip()]
            sheets = _each({"sheets": lines}, "sheets", lambda line: _sheet_in(json.loads(line)))
        else:
            sheets = _each(document if "sheets" in document else {"sheets": [document]}, "sheets", _sheet_in)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"this is no result of digitize in JSON ({error}); write it anew with digitize scan"
        ) from error
    yield from sheets


def fitting(name: str) -> str:
    """A file's name that leaves room for suffixes: itself, or its beginning with a hash of the whole."""
    whole = name.encode("utf-8", "surrogatepass")
    if len(whole) <= MAX_NAME_BYTES:
        return name
    return f"{whole[: MAX_NAME_BYTES - 9].decode('utf-8', 'ignore')}-{hashlib.sha256(whole).hexdigest()[:8]}"


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the JSON output; a line of JSON Lines is its ``$defs/sheet``."""
    text = resources.files("digitize").joinpath("schema", SCHEMA_FILE).read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def render_overlay(gray: Gray, page: PageReading) -> NDArray[np.uint8]:
    """Draw a page's reading on it: boxes, the digits above them, the confidences in percent below.

    The page is faded, turned the way it was read, and enlarged where its digits are too small to be labelled.

    Args:
        gray: uint8 (H, W), the page as it was loaded.
        page: what was read on it.

    Returns:
        uint8 (H', W', 3), blue, green, red. Digits to review stand out by colour and by a thicker box.
    """
    digits = [digit for _, _, _, digit in page.digits()]
    boxes = [digit.box for digit in digits]
    gray = np.ascontiguousarray(np.rot90(gray, -page.rotation // 90))
    height = float(np.median([box.height for box in boxes])) if boxes else LEGIBLE_DIGIT
    factor = _enlargement(height, gray.shape)
    unit = height * factor
    faded = cv2.addWeighted(gray, 1 - PAPER_SHARE, np.full_like(gray, 255), PAPER_SHARE, 0)
    if factor > 1:
        faded = cv2.resize(faded, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    picture = cv2.cvtColor(faded, cv2.COLOR_GRAY2BGR)
    for digit, box in zip(digits, boxes, strict=True):
        _draw(picture, digit, box, (factor, unit))
    return picture.astype(np.uint8, copy=False)


def write_overlay(folder: Path, source: str, gray: Gray, page: PageReading) -> Path:
    """Write a page's overlay as ``SOURCE-p001.png``; returns the file.

    Raises:
        OutputError: it cannot be written.
    """
    return _write_png(folder / f"{_stem(source)}-p{page.number:03d}.png", render_overlay(gray, page))


def write_crops(folder: Path, source: str, page: PageReading, tiles: NDArray[np.uint8]) -> list[Path]:
    """Write the tiles of a page's digits, as the network saw them, as ``SOURCE-p001-l001-n001-d01-is7.png``.

    Args:
        folder: where to; made if need be.
        source: the sheet's name.
        page: what was read.
        tiles: uint8 (N, 28, 28) or (N, 28, 28, C), 0 paper to 255 ink, in the order of `PageReading.digits`.
            Channels are set side by side.

    Returns:
        The files, in the same order.

    Raises:
        OutputError: they cannot be written.
        ValueError: there are more or fewer tiles than digits.
    """
    files = []
    for (line, number, position, digit), tile in zip(page.digits(), tiles, strict=True):
        name = f"{_stem(source)}-p{page.number:03d}-l{line:03d}-n{number:03d}-d{position:02d}-is{digit.value}.png"
        flat = tile if tile.ndim == 2 else np.hstack([tile[..., channel] for channel in range(tile.shape[-1])])
        files.append(_write_png(folder / name, flat))
    return files


# Files


def _unwritable(name: str, error: Exception) -> OutputError:
    if isinstance(error, FileNotFoundError):
        return OutputError(f"{name}: the folder does not exist; create it or choose another")
    if isinstance(error, BrokenPipeError):
        return OutputError(f"{name}: the program that reads it has stopped; write to a file with -o")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return OutputError(f"{name}: cannot be written: {reason}; choose another place")


def _mode_of(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def settle(stream: BinaryIO) -> None:
    """See that what was written to a file is on the disk.

    Raises:
        OSError: it is not.
    """
    stream.flush()
    os.fsync(stream.fileno())


def _settle(stream: BinaryIO, name: str) -> None:
    try:
        settle(stream)
    except OSError as error:
        raise _unwritable(name, error) from error


def _take_place(part: Path, final: Path, mode: int | None, name: str) -> None:
    """Rename the finished file onto its target, with the permissions of the one it replaces, and see that it stays."""
    try:
        if mode is not None:
            part.chmod(stat.S_IMODE(mode))
        part.replace(final)
        settle_folder(final.parent)
    except OSError as error:
        raise _unwritable(name, error) from error


def settle_folder(folder: Path) -> None:
    """See that the names in a folder are on the disk, where its file system can be asked for that.

    Raises:
        OSError: they cannot be written.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # it may be written and not listed; on Windows, none may
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (EINVAL, ENOTSUP):  # some network file systems
            raise
    finally:
        os.close(handle)


def _write_png(path: Path, picture: NDArray[np.uint8]) -> Path:
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _, encoded = cv2.imencode(".png", picture, FAST_PNG)
        with part.open("wb") as stream:
            stream.write(encoded.tobytes())
            settle(stream)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise _unwritable(str(path), error) from error
    return path


def _stem(source: str) -> str:
    """A file name for a source: no path can leave the folder, no two sources share one."""
    plain = re.sub(r"[^\w.-]+", "_", source, flags=re.ASCII).lstrip(".-")[-MAX_STEM:]
    if plain == source:
        return plain
    return f"{plain or 'sheet'}-{hashlib.sha256(source.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


# Cells and objects


def cell(value: str | int | float) -> str | int:
    """A value as it stands in a CSV: no text is taken for a formula by a spreadsheet."""
    if isinstance(value, float):
        return f"{value:.{DECIMALS}f}"
    if isinstance(value, str) and FORMULA.match(value):
        return "'" + value
    return value


def uncell(cell: str) -> str:
    """A text as it was before `cell` made it safe."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _box_out(box: Box) -> dict[str, int]:
    return {"left": box.left, "top": box.top, "width": box.width, "height": box.height}


def _digit_out(digit: Digit) -> dict[str, Any]:
    return {
        "digit": digit.value,
        "confidence": round(digit.confidence, DECIMALS),
        "alternative": digit.alternative,
        "alternative_confidence": round(digit.alternative_confidence, DECIMALS),
        "status": digit.status,
        "box": _box_out(digit.box),
    }


def _number_out(number: Number) -> dict[str, Any]:
    return {
        "text": number.text,
        "confidence": round(number.confidence, DECIMALS),
        "box": _box_out(number.box),
        "digits": [_digit_out(digit) for digit in number.digits],
        **_rules_out(number),
    }


def _rules_out(number: Number) -> dict[str, Any]:
    """What rules say of a number that fails some; nothing of others."""
    if not number.failed:
        return {}
    proposal = {"text": number.proposal, "confidence": round(number.proposal_confidence, DECIMALS)}
    return {"failed": list(number.failed), "proposal": proposal if number.proposal else None}


def _page_out(page: PageReading) -> dict[str, Any]:
    return {
        "page": page.number,
        "width": page.width,
        "height": page.height,
        "rotation": page.rotation,
        "lines": [{"numbers": [_number_out(number) for number in line.numbers]} for line in page.lines],
    }


def _sheet_out(sheet: SheetReading) -> dict[str, Any]:
    return {
        "source": sheet.source,
        "sha256": sheet.sha256,
        "pages": [_page_out(page) for page in sheet.pages],
        "error": sheet.error,
    }


def _held(item: Mapping[str, Any], key: str, least: int, most: float = math.inf, *, real: bool = False) -> Any:
    """A number that was read, held to its range; whole, but for `real` ones.

    Raises:
        ValueError: it is none, or out of range.
    """
    found = item[key]
    if type(found) not in ((int, float) if real else (int,)) or not least <= found <= most:
        wanted = "a number" if real else "a whole number"
        reach = f"from {least} up" if most == math.inf else f"from {least} to {most}"
        raise ValueError(f"{key} is {found!r:.{SHOWN}}, expected {wanted} {reach}")
    return found


def _text(item: Mapping[str, Any], key: str) -> str:
    found = item[key]
    if not isinstance(found, str):
        raise ValueError(f"{key} is {found!r:.{SHOWN}}, expected text")
    return found


def _hold_answer(item: Mapping[str, Any]) -> None:
    """Hold what was read of a digit to what is written of one.

    Raises:
        ValueError: it cannot have been written.
    """
    for key in ("digit", "alternative"):
        _held(item, key, 0, 9)
    for key in ("confidence", "alternative_confidence"):
        _held(item, key, 0, 1, real=True)
    if item["status"] not in get_args(Status):
        raise ValueError(f"status is {item['status']!r:.{SHOWN}}, expected one of {', '.join(get_args(Status))}")


def _each(item: Mapping[str, Any], key: str, read: Callable[[Any], _Read]) -> tuple[_Read, ...]:
    """What is read of everything that an item lists under a plural; an error tells which one does not fit, from 1."""
    listed = item[key]
    if not isinstance(listed, list):
        raise ValueError(f"{key} is a {type(listed).__name__}, expected a list")
    found = []
    for number, one in enumerate(listed, 1):
        try:
            found.append(read(one))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{key.removesuffix('s')} {number}: {what}") from error
    return tuple(found)


def _digit_in(item: Mapping[str, Any]) -> Digit:
    _hold_answer(item)
    return Digit(
        value=item["digit"],
        confidence=item["confidence"],
        alternative=item["alternative"],
        alternative_confidence=item["alternative_confidence"],
        status=item["status"],
        box=Box(**{side: _held(item["box"], side, 0) for side in item["box"]}),
    )


def _line_in(item: Mapping[str, Any]) -> Line:
    return Line(_each(item, "numbers", _number_in))


def _number_in(item: Mapping[str, Any]) -> Number:
    digits = _each(item, "digits", _digit_in)
    if not digits:
        raise ValueError("has no digits, expected at least one")
    failed = _each(item, "failed", str) if "failed" in item else ()
    proposal = item.get("proposal") or {"text": "", "confidence": 0.0}
    return Number(digits, failed, _text(proposal, "text"), _held(proposal, "confidence", 0, 1, real=True))


def _page_in(item: Mapping[str, Any]) -> PageReading:
    if item["rotation"] not in (0, 90, 180, 270):
        raise ValueError(f"rotation is {item['rotation']!r:.{SHOWN}}, expected 0, 90, 180 or 270")
    number, width, height = (_held(item, key, 1) for key in ("page", "width", "height"))
    return PageReading(number, width, height, _each(item, "lines", _line_in), item["rotation"])


def _sheet_in(item: Mapping[str, Any]) -> SheetReading:
    error = None if item["error"] is None else _text(item, "error")
    return SheetReading(_text(item, "source"), _text(item, "sha256"), _each(item, "pages", _page_in), error)


# Overlay


def _enlargement(height: float, shape: tuple[int, ...]) -> int:
    """By how much a page of (H, W) is enlarged so that digits of this height can be labelled."""
    room = min((MAX_OVERLAY_PIXELS / (shape[0] * shape[1])) ** 0.5, MAX_OVERLAY_SIDE / max(shape))
    largest = int(min(MAX_ENLARGEMENT, room))
    return max(1, min(largest, round(LEGIBLE_DIGIT / height)))


def _draw(picture: NDArray[Any], digit: Digit, box: Box, scale: tuple[int, float]) -> None:
    """Draw one digit's box and labels; `scale` is the enlargement and the usual digit's height in the picture."""
    factor, unit = scale
    colour = COLOUR_OF_STATUS[digit.status]
    line = max(1, round(unit / STROKES_PER_DIGIT)) * (2 if digit.status == "review" else 1)
    beside = (line + 1) // 2  # the line runs around the ink, not over it
    left, top = factor * box.left - beside, factor * box.top - beside
    right, bottom = factor * box.right - 1 + beside, factor * box.bottom - 1 + beside
    cv2.rectangle(picture, (left, top), (right, bottom), colour, line)
    gap = line + 1
    value = VALUE_HEIGHT * unit
    above = top - gap if top - gap >= value else top + gap + round(value)  # inside the box at the page's upper edge
    _put(picture, str(digit.value), (left, above), value, colour)
    percent = str(min(99, int(100 * digit.confidence)))
    small = max(CONFIDENCE_HEIGHT * unit, 7)
    below = min(bottom + gap + round(small), picture.shape[0] - 1)
    _put(picture, percent, (left, below), small, colour)


def _put(picture: NDArray[Any], text: str, foot: tuple[int, int], height: float, colour: tuple[int, int, int]) -> None:
    """Write text of a height in pixels with its lower left corner at `foot` (x, y)."""
    full = cv2.getTextSize("8", FONT, 1.0, 1)[0][1]
    thickness = max(1, round(height / 9))
    cv2.putText(picture, text, foot, FONT, height / full, colour, thickness, cv2.LINE_AA)
