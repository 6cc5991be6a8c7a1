"""The door: paths in, upright gray pages out, one at a time.

Everything that can be wrong with a file ends here as one `SheetError` whose line says what is wrong, with
which file, and what to do. Images are decoded by Pillow and PDFs rendered by pdfium. The format is told by
the content; a suffix matters only when a folder or a pattern is searched. (Pillow decodes a gray A4 page as fast
as OpenCV does, refuses a truncated JPEG instead of filling it up, and writes nothing to stderr.)

Colour becomes gray as the darker of luma and green, ``min(0.299 R + 0.587 G + 0.114 B, G)``. Luma alone leaves red
ink at a third of the way to the paper; green shows red, blue and black ink dark alike. The minimum over all three
channels, which is often taken, would also turn yellow highlighter, cream paper and faint drop-out colours dark and
would carry the noise of JPEG's coarsely stored chroma; green is the channel that luma mostly consists of.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import math
import os
import re
import stat
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from glob import glob
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageChops, UnidentifiedImageError, _imaging

from digitize.errors import SheetError, UnsettledSheetError, UsageError
from digitize.records import Gray, Page

if TYPE_CHECKING:
    import pypdfium2

SUFFIXES = frozenset(
    f".{name}"
    for name in "png jpg jpeg jpe jfif tif tiff bmp webp gif pdf jp2 j2k pbm pgm ppm pnm".split()  # noqa: SIM905
)
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "PPM")  # as Pillow calls them

STDIN = "-"
DEFAULT_DPI = 300
DPI_RANGE = (36, 2400)  # what a PDF may be rendered at, and what a file may state to be believed
LONGEST_SIDE_INCHES = 24  # a file that states a dpi at which it is larger than A2 states a default, not a fact
POINTS_PER_INCH = 72

MEGA = 1_000_000
ENDS = {b"\x89PNG": b"IEND", b"\xff\xd8\xff": b"\xff\xd9", b"%PDF": b"%%EOF"}  # by how such files begin
TAIL_BYTES = 4096  # of a file, in which its end has to be; some have more behind it
MAX_PIXELS = 150 * MEGA  # A2 at 600 dpi is 139; below Pillow's own limit of 179
MAX_RENDERED_PIXELS = 50 * MEGA  # A4 at 600 dpi is 35; larger PDF pages are rendered smaller
ROUNDING = 1e-6  # of a size in points, which pdfium keeps in single precision
MAX_STDIN_BYTES = 1 << 30

HALF = 127  # of what a channel holds
BAND_ROWS = 256  # colour is turned to gray in bands of rows that fit the cache: faster, and no second copy
SAMPLE_BITS = (8, 10, 12, 14, 16, 24, 32)  # depths that scanners and cameras deliver inside wider integers
REDUCED_OR_MASK = 0b101  # bits of TIFF's NewSubfileType: an overview or a mask of another page
NEW_SUBFILE_TYPE = 254
ORIENTATION = 0x0112

PDF_MARK_WITHIN = 1024  # bytes: where readers look for %PDF-
HEAD_BYTES = PDF_MARK_WITHIN
HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
SAVE_AS = "save it as PNG, JPEG, TIFF or PDF"

logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it logs, it also raises

_pdfium = threading.Lock()  # pdfium is not thread-safe, not even across documents


@dataclass(frozen=True, slots=True)
class PageRange:
    """Which pages are wanted, as spans counted from 1.

    Attributes:
        spans: (first, last) pairs, both included; last is None for an open end.
    """

    spans: tuple[tuple[int, int | None], ...]

    def __contains__(self, number: int) -> bool:
        return any(first <= number and (last is None or number <= last) for first, last in self.spans)

    def __str__(self) -> str:
        return ",".join(
            str(first) if first == last else f"{first}-{'' if last is None else last}" for first, last in self.spans
        )

    @property
    def last(self) -> float:
        """The last page wanted; infinity where the end is open."""
        return max(math.inf if last is None else last for _, last in self.spans)


EVERY_PAGE = PageRange(((1, None),))


@dataclass(frozen=True, slots=True)
class Sheet:
    """One sheet that was asked for, found or not.

    Attributes:
        source: its name in the results: the path as given; for a folder, relative to it.
        path: the file; None for standard input and for what was not found.
        content: the bytes of standard input.
        error: None, or one line that says why there is no such sheet.
    """

    source: str
    path: Path | None = None
    content: bytes | None = None
    error: str | None = None

    @property
    def name(self) -> str:
        """What it is called where something is wrong with it."""
        return name_of(self.path or b"", self.source)

    @property
    def origin(self) -> Path | bytes:
        """What `load` and `sha256` take.

        Raises:
            SheetError: there is no such sheet.
        """
        if self.path is not None:
            return self.path
        if self.content is not None:
            return self.content
        raise SheetError(self.error or f"{self.source}: no such sheet; check the path")


def parse_pages(text: str) -> PageRange:
    """Read a page selection such as ``1-3,7`` or ``5-``.

    Raises:
        UsageError: it is not one.
    """
    spans = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,9})\s*(-?)\s*([0-9]{0,9})\s*", part)
        if match is None or (match[3] and not match[2]):
            raise UsageError(f"--pages {text!r}: {part!r} is no page or range; write for example 1-3,7 or 5-")
        first = int(match[1])
        last = first if not match[2] else int(match[3]) if match[3] else None
        if first < 1 or (last is not None and last < first):
            raise UsageError(f"--pages {text!r}: {part!r} is empty; pages count from 1 and ranges run upwards")
        spans.append((first, last))
    return PageRange(tuple(spans))


def check_dpi(dpi: float) -> None:
    """Hold the resolution at which PDF pages are rendered to `DPI_RANGE`.

    Raises:
        UsageError: it is out of range, or no number.
    """
    if not DPI_RANGE[0] <= dpi <= DPI_RANGE[1]:
        raise UsageError(f"--dpi {dpi:g}: must lie between {DPI_RANGE[0]} and {DPI_RANGE[1]}; 300 suits most sheets")


def find(inputs: Sequence[str], *, stdin: BinaryIO | None = None) -> list[Sheet]:
    """List the sheets that the inputs name: files, folders, patterns, and ``-`` for standard input.

    Folders are searched to the bottom, in sorted order, for the known `SUFFIXES`; names that begin with a dot
    are passed over, links to folders are followed once, and nothing that is no regular file is touched. A file named
    twice is listed once. Where two folders hold the same relative name, those sheets keep their whole path as
    source, so that rows can be told apart.

    Args:
        inputs: paths as given on the command line.
        stdin: where ``-`` reads from; by default the process's standard input.

    Returns:
        The sheets in the order of the inputs; what does not exist is in the list with its `error` set.
    """
    sheets: list[Sheet] = []
    for text in dict.fromkeys(inputs):
        if text == STDIN:
            sheets.append(_from_stdin(stdin or (sys.stdin.buffer if sys.stdin is not None else None)))
        elif os.path.lexists(text) or not re.search(r"[*?\[]", text):
            sheets.extend(_in_folder(Path(text)) if Path(text).is_dir() else [_as_given(text)])
        else:
            sheets.extend(_matching(text))
    unique: dict[Path | Sheet, Sheet] = {}
    for sheet in sheets:
        unique.setdefault(sheet.path.resolve() if sheet.path else sheet, sheet)
    return _told_apart(list(unique.values()))


def load(
    origin: Path | bytes, *, source: str, pages: PageRange = EVERY_PAGE, dpi: float = DEFAULT_DPI
) -> Iterator[Page]:
    """Yield the wanted pages of one sheet, upright and gray, holding one at a time.

    A page that cannot be decoded does not hide those after it: they are yielded first, then the error is raised.

    Args:
        origin: a file, or the bytes of one.
        source: the sheet's name in the results.
        pages: which pages; the others are not decoded.
        dpi: resolution at which PDF pages are rendered. A page of more than `MAX_RENDERED_PIXELS` at that
            resolution is rendered at the highest that stays below; `Page.dpi` says which it was.

    Yields:
        Pages with gray uint8 (H, W), 0 black to 255 white.

    Raises:
        SheetError: the sheet, or a page of it, cannot be read.
        UsageError: `dpi` is out of range.
    """
    check_dpi(dpi)
    name = name_of(origin, source)
    head = _first_bytes(origin, name)
    is_pdf = b"%PDF-" in head or name.lower().endswith(".pdf")
    some = False
    for page in _pdf_pages(origin, name, pages, dpi) if is_pdf else _image_pages(origin, name, pages):
        some = True
        yield replace(page, source=source)
    if not some:
        raise SheetError(f"{name}: has none of the pages asked for ({pages}); choose others with --pages")


def sha256(origin: Path | bytes) -> str:
    """Hash a sheet's bytes, hexadecimal.

    Raises:
        SheetError: the file cannot be opened.
    """
    if isinstance(origin, bytes):
        return hashlib.sha256(origin).hexdigest()
    name = name_of(origin)
    _require_file(origin, name)
    try:
        with origin.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise _unopened(name, error) from error


# Finding


def _told_apart(sheets: list[Sheet]) -> list[Sheet]:
    """The sheets, each by its own source: those that share one go by their whole paths, as often as such are shared."""
    names = Counter(sheet.source for sheet in sheets)
    told = [replace(s, source=str(s.path)) if s.path and names[s.source] > 1 else s for s in sheets]
    return told if told == sheets else _told_apart(told)


def _from_stdin(stream: BinaryIO | None) -> Sheet:
    if stream is None:  # as `<&-` has it
        return Sheet(STDIN, error="standard input: is closed; pipe a sheet in, or give a file")
    try:
        content = stream.read(MAX_STDIN_BYTES + 1)
    except OSError as error:
        return Sheet(STDIN, error=f"standard input: cannot be read: {error.strerror}; give a file")
    if len(content) > MAX_STDIN_BYTES:
        return Sheet(STDIN, error=f"standard input: more than {MAX_STDIN_BYTES >> 20} MiB; save it and give the file")
    return Sheet(STDIN, content=content)


def _as_given(text: str) -> Sheet:
    try:
        Path(text).stat()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        return Sheet(text, error=str(_unopened(_printable(text), error)))
    return Sheet(text, path=Path(text))


def below(folder: Path) -> Iterator[Sheet]:
    """Yield every sheet below a folder as it is found, in sorted order, holding no more than the folders on the way.

    Names that begin with a dot are passed over, links to folders are followed once. A folder that cannot be listed is
    yielded with its error.
    """
    seen = set()
    waiting = [iter([(folder, True)])]  # for each folder on the way what is left of it, and whether that is a folder
    while waiting:
        path, is_folder = next(waiting[-1], (None, False))
        if path is None:
            waiting.pop()
        elif not is_folder:
            yield Sheet(path.relative_to(folder).as_posix(), path=path)
        else:
            try:
                facts = path.stat()
                if (facts.st_dev, facts.st_ino) in seen:  # a link back up: its sheets are listed already
                    continue
                seen.add((facts.st_dev, facts.st_ino))
                waiting.append(iter(_inside(path)))
            except OSError as error:
                yield Sheet(str(path), error=str(_unopened(name_of(path), error)))


def _inside(folder: Path) -> list[tuple[Path, bool]]:
    """The folders and sheets in a folder, sorted, each with whether it is a folder."""
    found = []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            path = folder / entry.name
            known = path if entry.is_symlink() else entry  # of a link in a circle, only the path says no and no more
            if known.is_dir():
                found.append((path, True))
            elif path.suffix.lower() in SUFFIXES and known.is_file():
                found.append((path, False))
    return found


def _in_folder(folder: Path) -> list[Sheet]:
    """Every sheet below a folder, or one entry that says that there is none."""
    found: list[Sheet] = []
    failed: list[Sheet] = []
    for sheet in below(folder):
        (failed if sheet.error else found).append(sheet)
    return found + failed or [none_below(folder)]


def none_below(folder: Path | str) -> Sheet:
    """What stands for a folder without sheets."""
    known = " ".join(sorted(SUFFIXES))
    return Sheet(str(folder), error=f"{_printable(str(folder))}: no sheets in this folder; looked for {known}")


def _matching(pattern: str) -> list[Sheet]:
    """What a pattern names; files of other kinds that it happens to match are passed over."""
    sheets: list[Sheet] = []
    for match in sorted(glob(pattern, recursive=True)):  # noqa: PTH207 - Path.glob refuses absolute patterns
        path = Path(match)
        if path.is_dir():
            if "**" not in pattern:  # otherwise the pattern itself goes down
                sheets.extend(sheet for sheet in _in_folder(path) if sheet.path is not None)
        elif path.suffix.lower() in SUFFIXES and path.is_file():
            sheets.append(Sheet(match, path=path))
    return sheets or [Sheet(pattern, error=f"{_printable(pattern)}: no sheet matches this pattern; check the path")]


# Opening


def _printable(text: str) -> str:
    """A name that fits on one line of a terminal."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def name_of(origin: Path | bytes, source: str = STDIN) -> str:
    """What a sheet is called where something is wrong with it; bytes that came from elsewhere go by their source."""
    if isinstance(origin, bytes):
        return "standard input" if source == STDIN else _printable(source)
    return _printable(str(origin))


def _unopened(name: str, error: OSError | ValueError) -> SheetError:
    if isinstance(error, FileNotFoundError):
        return UnsettledSheetError(f"{name}: no such file; check the path")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    kind = UnsettledSheetError if isinstance(error, OSError) else SheetError
    return kind(f"{name}: cannot be opened: {reason}; check the path and its permissions")


def _require_file(path: Path, name: str) -> None:
    """Refuse what is no regular file before it is opened: opening a pipe may wait for ever."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise _unopened(name, error) from error
    if stat.S_ISDIR(mode):
        raise SheetError(f"{name}: is a folder where one sheet is meant; give the files in it")
    if not stat.S_ISREG(mode):
        raise SheetError(f"{name}: is a pipe or device, no file; pipe a sheet in with - instead")


def _first_bytes(origin: Path | bytes, name: str) -> bytes:
    if isinstance(origin, bytes):
        head = origin[:HEAD_BYTES]
    else:
        _require_file(origin, name)
        try:
            with origin.open("rb") as stream:
                head = stream.read(HEAD_BYTES)
        except OSError as error:
            raise _unopened(name, error) from error
    if not head:
        raise UnsettledSheetError(f"{name}: is empty (0 bytes); scan or copy it again")
    return head


def _trouble(name: str, error: Exception) -> SheetError:
    """Turn whatever a decoder raised into one line."""
    reason = _printable(" ".join(str(error).split())) or type(error).__name__
    if isinstance(error, SheetError):
        return error
    if isinstance(error, Image.DecompressionBombError):
        pixels = re.search("[0-9]+", reason)  # "Image size (N pixels) exceeds limit ..."
        return _too_large(name, int(pixels[0]) if pixels else MAX_PIXELS)
    if isinstance(error, OSError) and error.errno:  # the system's, as of a share that went away; Pillow gives no number
        return _unopened(name, error)
    if isinstance(error, MemoryError):
        return SheetError(f"{name}: there is not enough memory to decode it; scan it at a lower resolution")
    if isinstance(error, EOFError) or re.search("truncat|not enough|not large enough", reason, re.IGNORECASE):
        return UnsettledSheetError(f"{name}: is truncated; copy or scan it again")
    return SheetError(f"{name}: cannot be decoded ({reason[:200]}); open it elsewhere and {SAVE_AS}")


def _too_large(name: str, pixels: int) -> SheetError:
    size = f"{pixels / MEGA:.0f} megapixels, the limit is {MAX_PIXELS // MEGA}"
    return SheetError(f"{name}: is too large ({size}); scan it at a lower resolution")


class _Quiet:
    """Silences warnings while any thread is inside; `warnings.catch_warnings` alone is not made for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._catcher: warnings.catch_warnings[Any] | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._catcher = warnings.catch_warnings()
                self._catcher.__enter__()
                warnings.simplefilter("ignore")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._catcher is not None:
                self._catcher.__exit__(None, None, None)


_quiet = _Quiet()


@contextmanager
def _door(name: str) -> Iterator[None]:
    """Run a decoder: its warnings are silenced, whatever it raises becomes one `SheetError`.

    Pillow and pdfium raise errors of many kinds on hostile files (OSError, ValueError, TypeError, SyntaxError,
    KeyError, struct.error, zlib.error, ...), so that any list of them would have holes.
    """
    try:
        with _quiet:
            yield
    except Exception as error:
        raise _trouble(name, error) from error


# Images


def _image_pages(origin: Path | bytes, name: str, wanted: PageRange) -> Iterator[Page]:
    failure: SheetError | None = None
    with ExitStack() as files:
        image = _open_image(origin, name, files)
        is_tiff = image.format == "TIFF"
        if is_tiff:
            _silence_libtiff()
        number = 0
        for frame in count():
            if frame and not (is_tiff and _turn_to(image, frame, name)):  # of other formats the first frame is the page
                break
            if frame and _is_overview(image):
                continue
            number += 1
            if number > wanted.last:
                break
            if number not in wanted:
                continue
            try:
                page = _decode(image, number, f"{name}, page {number}" if is_tiff else name)
            except SheetError as error:
                failure = failure or error
                files.close()
                image = _open_image(origin, name, files)  # Pillow closes a stream on which it failed
                continue
            yield page
    if failure is not None:
        raise failure


def has_end(path: Path) -> bool:
    """Whether a file holds what those of its format end with; True where there is no such thing, or it cannot be read.

    A file that is still being written may have all its pixels, and be decoded, before it has its end.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
            stream.seek(max(0, path.stat().st_size - TAIL_BYTES))
            tail = stream.read()
    except OSError:
        return True
    return all(end in tail for start, end in ENDS.items() if head.startswith(start))


def _open_image(origin: Path | bytes, name: str, files: ExitStack) -> Image.Image:
    """Read an image's header; `files` will close it."""
    with _door(name):
        # Given a stream and no path, Pillow does not map the file: one that shrinks meanwhile is an error, no crash.
        stream: IO[bytes] = BytesIO(origin) if isinstance(origin, bytes) else origin.open("rb")
        files.enter_context(stream)
        try:
            return files.enter_context(Image.open(stream, formats=FORMATS))
        except UnidentifiedImageError as error:
            stream.seek(0)
            head = stream.read(HEAD_BYTES)
            kind = SheetError if head.strip(b"\0") else UnsettledSheetError  # room made for a file still to come
            raise kind(f"{name}: {_what_it_is(head)}; {SAVE_AS}") from error


@cache
def _silence_libtiff() -> None:
    """Keep libtiff from writing to stderr; Pillow reports its errors as exceptions anyway."""
    try:
        library = ctypes.CDLL(_imaging.__file__)
        for function in (library.TIFFSetErrorHandler, library.TIFFSetWarningHandler):
            function.argtypes = [ctypes.c_void_p]
            function.restype = ctypes.c_void_p
            function(None)
    except (AttributeError, OSError):
        return  # a Pillow that was built otherwise: broken TIFFs bring a line of libtiff's beside ours, no more


def _what_it_is(head: bytes) -> str:
    """Name content that is no image."""
    if head[4:8] == b"ftyp" and head[8:12] in HEIC_BRANDS:
        return "is a HEIC photo, which is not read"
    if not re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", head):
        return "is text, no image"
    return "is no image that is known, or its beginning is damaged"


def _turn_to(image: Image.Image, frame: int, name: str) -> bool:
    """Go to a frame; False when there is none."""
    with _door(name):
        try:
            image.seek(frame)
        except EOFError:
            return False
    return True


def _is_overview(image: Image.Image) -> bool:
    kind = getattr(image, "tag_v2", {}).get(NEW_SUBFILE_TYPE, 0)
    return isinstance(kind, int) and bool(kind & REDUCED_OR_MASK)


def _decode(image: Image.Image, number: int, name: str) -> Page:
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(name, image.width * image.height)
    with _door(name):
        image.load()
        gray = _upright(_gray(image), _orientation(image))
        return Page("", number, gray, _stated_dpi(image))


def _gray(image: Image.Image) -> Gray:
    """Turn a decoded image of any mode into gray uint8 (H, W), 0 black to 255 white."""
    if image.mode[0] in "IF":  # I, I;16, I;16B, F
        return _scale_samples(np.asarray(image))
    if image.mode == "L" and "transparency" not in image.info:
        return np.array(image)
    ground = _ground(image) if image.has_transparency_data else "white"
    gray = np.empty((image.height, image.width), np.uint8)
    for top, band in _bands(image):
        gray[top : top + BAND_ROWS] = np.asarray(_gray_band(band, ground))
    return gray


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The first row of every band of an image, and the band."""
    for top in range(0, image.height, BAND_ROWS):
        yield top, image.crop((0, top, image.width, min(top + BAND_ROWS, image.height)))


def _ground(image: Image.Image) -> str:
    """What a transparent image lies on: "black" where all that can be seen is light, as white ink is; else "white"."""
    seen = False
    for _, band in _bands(image):
        light, alpha = (np.asarray(channel) for channel in band.convert("RGBA").convert("LA").split())
        visible = light[alpha > HALF]
        if (visible <= HALF).any():
            return "white"
        seen = seen or visible.size > 0
    return "black" if seen else "white"


def _gray_band(band: Image.Image, ground: str) -> Image.Image:
    if band.has_transparency_data:
        flat = Image.new("RGBA", band.size, ground)
        flat.alpha_composite(band.convert("RGBA"))
        band = flat
    if band.mode in ("1", "L"):
        return band.convert("L")
    if band.mode == "LAB":
        return band.getchannel(0)  # lightness; Pillow converts LAB only with a profile
    colour = band.convert("RGB")
    return ImageChops.darker(colour.convert("L"), colour.getchannel("G"))


def _scale_samples(samples: np.ndarray[Any, Any]) -> Gray:
    """Scale wide integers or floats to uint8, keeping 0 black.

    White is the largest value of the smallest usual depth (8, 10, 12, 14, 16 bits...; for floats also 1.0) that holds
    the brightest sample: 12 bits stored in 16 come out bright, and a faint page is not stretched until its noise is
    ink. Negative samples are black, those that are no number are white.
    """
    is_float = samples.dtype.kind == "f"
    finite = np.isfinite(samples) if is_float else None
    brightest = float(np.max(samples, initial=0, where=True if finite is None else finite))
    whites = [2.0**bits - 1 for bits in SAMPLE_BITS]
    if is_float:
        whites = [1.0, *whites]
    white = next((white for white in whites if brightest <= white), brightest)
    gray = np.empty(samples.shape, np.uint8)
    for top in range(0, len(samples), BAND_ROWS):
        band = samples[top : top + BAND_ROWS].astype(np.float32)
        if finite is not None:
            band[~finite[top : top + BAND_ROWS]] = white
        gray[top : top + BAND_ROWS] = np.rint(np.clip(band * np.float32(255 / white), 0, 255))
    return gray


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where it is missing or unreadable. TIFF is turned by Pillow when it is loaded."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - broken metadata is no reason to refuse good pixels
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(gray: Gray, orientation: int) -> Gray:
    """Undo an EXIF orientation (EXIF 2.3, tag 0x0112)."""
    if orientation in (5, 6, 7, 8):
        gray = cv2.transpose(gray)  # type: ignore[assignment]
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return gray if flip is None else cv2.flip(gray, flip)  # type: ignore[return-value]


def _stated_dpi(image: Image.Image) -> float | None:
    """The resolution that the file states, if it is the same both ways and the paper it makes is of a usual size."""
    stated = image.info.get("dpi", ())
    try:
        across, down = (float(value) for value in stated)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if not (DPI_RANGE[0] <= across <= DPI_RANGE[1] and 0.9 <= across / max(down, 1) <= 1.1):
        return None
    return across if max(image.size) <= LONGEST_SIDE_INCHES * across else None


# PDFs


def _pdf_pages(origin: Path | bytes, name: str, wanted: PageRange, dpi: float) -> Iterator[Page]:
    failure: SheetError | None = None
    with _pdfium, _door(name):
        document = _open_pdf(origin, name)
    try:
        for number in range(1, int(min(len(document), wanted.last)) + 1):
            if number not in wanted:
                continue
            try:
                with _pdfium, _door(f"{name}, page {number}"):
                    page = _render(document, number, f"{name}, page {number}", dpi)
            except SheetError as error:
                failure = failure or error
                continue
            yield page
    finally:
        with _pdfium:
            document.close()
    if failure is not None:
        raise failure


def _open_pdf(origin: Path | bytes, name: str) -> pypdfium2.PdfDocument:
    import pypdfium2  # here, since sheets are mostly images and loading it takes a thirtieth of a second
    from pypdfium2 import raw as pdfium_c

    try:
        return pypdfium2.PdfDocument(origin)
    except pypdfium2.PdfiumError as error:
        if _is_without_pages(origin):
            raise SheetError(f"{name}: is a PDF without pages; check where it comes from") from error
        if error.err_code in (pdfium_c.FPDF_ERR_PASSWORD, pdfium_c.FPDF_ERR_SECURITY):
            raise SheetError(f"{name}: is encrypted with a password; save an unprotected copy") from error
        kind = SheetError if _ends_as_pdf(origin) else UnsettledSheetError
        raise kind(f"{name}: is damaged or no PDF; open it in a viewer and print it to PDF anew") from error


def _ends_as_pdf(origin: Path | bytes) -> bool:
    """Whether a PDF's last mark is there; without it the file may still be on its way."""
    if isinstance(origin, bytes):
        return b"%%EOF" in origin[-PDF_MARK_WITHIN:]
    with origin.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - PDF_MARK_WITHIN))
        return b"%%EOF" in stream.read()


def _is_without_pages(origin: Path | bytes) -> bool:
    """Whether what pypdfium2 refused is sound but empty; the error code it gives is then that of an earlier file."""
    from pypdfium2 import raw as pdfium_c

    if isinstance(origin, bytes):
        handle = pdfium_c.FPDF_LoadMemDocument64(origin, len(origin), None)
    else:
        handle = pdfium_c.FPDF_LoadDocument(os.fsencode(origin) + b"\0", None)
    if not handle:
        return False
    pdfium_c.FPDF_CloseDocument(handle)
    return True


def _render(document: pypdfium2.PdfDocument, number: int, name: str, dpi: float) -> Page:
    page = document[number - 1]
    try:
        width, height = page.get_size()
        area = width * height
        if not (math.isfinite(area) and width > 0 and height > 0):
            raise SheetError(f"{name}: has no size ({width:g} x {height:g} points); print it to PDF anew")
        scale = min(dpi / POINTS_PER_INCH, math.sqrt(MAX_RENDERED_PIXELS / area))
        # pdfium rounds a size up: 40.000001 pixels must not become 41, which would resample a scan made at this dpi.
        bitmap = page.render(scale=scale * (1 - ROUNDING), rev_byteorder=True)
        try:
            gray = _gray(bitmap.to_pil())
        finally:
            bitmap.close()
    finally:
        page.close()
    return Page("", number, gray, scale * POINTS_PER_INCH)
