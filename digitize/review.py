"""One page of HTML on which a person looks at the doubtful digits: `scan --review` and `digitize review make`.

Whoever reads a page draws what will be shown of it: a small picture, and for every digit to look at a crop of its
number with a bit of the line. An `Album` gathers that, page by page, and becomes the file. It holds everything and
needs nothing: the script and style of `page/` are put into it, pictures are data inside it, and its
Content-Security-Policy names the hashes of the two and forbids the rest. What comes from outside, such as names of
files, goes in as JSON alone, and the script sets it as text.

Crops are packed into sheets of sprites, so that a browser decodes a few pictures as they come into view and not
thousands at once.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from digitize import audit, sheets, write
from digitize.errors import SheetError
from digitize.records import Box, Crop, Digit, Drawing, Gray, Number, PageReading, SheetReading
from digitize.results import Results

CROP_DIGIT = 44  # pixels that a digit is tall in its crop, twice that on dense screens
BESIDE, ABOVE = 1.0, 0.4  # digit heights of the line that a crop shows around a number
WIDEST = 4.0  # digit heights to each side of a digit that a crop shows of a long number
LARGEST_CROP = (480, 200)  # pixels, width and height
SPRITE = 1024  # pixels a side of a sheet of sprites
SPRITE_QUALITY, PICTURE_QUALITY = 70, 55  # of WebP
PICTURE_SIDE = 1600  # pixels: the longer side of a page's picture
SAVE_AS = "corrections.json"
TURNED_GAIN = 1.2  # times as much contrast that a turned page has to have in the boxes of a CSV


@dataclass(frozen=True, slots=True)
class _Kept:
    """A page of the album: its picture as WebP, and for the digits to look at, by index, which crop shows each."""

    source: str
    reading: PageReading = field(repr=False)
    picture: bytes = field(repr=False)
    shown: dict[int, int] = field(repr=False)
    audited: frozenset[int] = frozenset()


def draw(gray: Gray, reading: PageReading, *, source: str = "", share: float = 0.0, sparing: bool = False) -> Drawing:
    """Draw what is to be shown of a page.

    Args:
        gray: uint8 (H, W), the page as it was loaded.
        reading: what was read on it.
        source: the sheet's name in the results, by which the sample is drawn.
        share: of the digits that are ok, how many are mixed in to see how often these are wrong.
        sparing: draw nothing of a page without digits to look at.
    """
    upright = np.ascontiguousarray(np.rot90(gray, -reading.rotation // 90))
    crops: list[Crop] = []
    shown: list[tuple[int, int]] = []
    audited: set[int] = set()
    windows: dict[Box, int] = {}
    for index, (number, digit) in enumerate(_with_numbers(reading)):
        if digit.status == "ok" and share and audit.is_drawn(share, source, reading.number, index):
            audited.add(index)
        elif digit.status != "review":
            continue
        window = crop_window(number, digit, reading.width, reading.height)
        if window not in windows:
            windows[window] = len(crops)
            crops.append(_cut(upright, window, digit))
        shown.append((index, windows[window]))
    if sparing and not shown:
        return Drawing()
    return Drawing(_picture(upright), tuple(crops), tuple(shown), frozenset(audited))


class Album:
    """What a page of review shows, gathered page by page."""

    def __init__(self, *, share: float = 0.0, beside: int = 0) -> None:
        """Begin an empty album.

        Args:
            share: of the digits that are ok, how many are mixed in to see how often these are wrong.
            beside: how many digits are ok on sheets that are not put into it, as nothing of them was drawn.
        """
        self._share = share
        self._accepted = beside
        self._pages: list[_Kept] = []
        self._crops: list[Crop] = []
        self._unshown = 0  # digits on pages of which nothing was drawn

    def add(self, source: str, gray: Gray, reading: PageReading) -> None:
        """Draw a page and keep it.

        Args:
            source: the sheet's name in the results.
            gray: uint8 (H, W), the page as it was loaded.
            reading: what was read on it.
        """
        self.keep(source, reading, draw(gray, reading, source=source, share=self._share))

    def keep(self, source: str, reading: PageReading, drawing: Drawing) -> None:
        """Keep a page; one of which nothing was drawn is not shown.

        Args:
            source: the sheet's name in the results.
            reading: what was read on it.
            drawing: what `draw` made of it, with the same share.
        """
        self._accepted += sum(digit.status == "ok" for *_, digit in reading.digits())
        if not drawing.picture:
            self._unshown += sum(1 for _ in reading.digits())
            return
        shown = {index: len(self._crops) + crop for index, crop in drawing.shown}
        self._crops += drawing.crops
        self._pages.append(_Kept(source, reading, drawing.picture, shown, drawing.audited))

    @property
    def to_look_at(self) -> int:
        """How many digits there are to look at."""
        return sum(len(page.shown) for page in self._pages)

    def write_to(
        self,
        output: write.Output,
        *,
        name: str,
        sha256: str,
        form: write.Format,
        save_as: str = SAVE_AS,
    ) -> None:
        """Write the page.

        Args:
            output: where to.
            name: of the result file.
            sha256: of that file, which the corrections will name.
            form: of that file; a CSV spells names differently that are no UTF-8.
            save_as: what the file of corrections is called.
        """
        script, style = _asset("review.js"), _asset("review.css")
        sprites, places = _sprites(self._crops)
        filled = {
            "POLICY": _policy(script, style),
            "STYLE": style,
            "SCRIPT": script,
            "DATA": _json({**self._described(places, name=name, sha256=sha256, form=form), "saveAs": save_as}),
        }
        parts = re.split(r"@@([A-Z]+)@@", _asset("review.html"))
        for text, slot in zip(parts[::2], [*parts[1::2], ""], strict=True):
            output.write(text)
            if slot == "PICTURES":
                for k, sprite in enumerate(sprites):
                    output.write(_picture_element(f"sprite-{k}", sprite))
                for k, page in enumerate(self._pages):
                    output.write(_picture_element(f"page-{k}", page.picture))
            elif slot:
                output.write(filled[slot])

    def _described(
        self, places: list[tuple[int, int, int]], *, name: str, sha256: str, form: write.Format
    ) -> dict[str, Any]:
        pages, digits = [], []
        for at, page in enumerate(self._pages):
            source = page.source
            if form == "csv":
                source = source.encode("utf-8", "backslashreplace").decode("utf-8")
            reading = page.reading
            pages.append([source, reading.number, reading.width, reading.height])
            spots = zip(_with_numbers(reading), reading.digits(), strict=True)
            for index, ((whole, digit), (line, number, position, _)) in enumerate(spots):
                seen: list[int] = []
                if index in page.shown:
                    crop = self._crops[page.shown[index]]
                    window = crop.window
                    seen = [*places[page.shown[index]], crop.width, crop.height]
                    seen += [window.left, window.top, window.width, window.height, int(index in page.audited)]
                box = digit.box
                digits.append(
                    [
                        *(at, line, number, position, digit.value, round(digit.confidence, write.DECIMALS)),
                        *(digit.alternative, round(digit.alternative_confidence, write.DECIMALS), digit.status),
                        *([box.left, box.top, box.width, box.height], seen),
                        *([" ".join(whole.failed), whole.proposal] if whole.failed else []),
                    ]
                )
        results = {"name": name, "sha256": sha256, "digits": len(digits) + self._unshown}
        sample = {"share": self._share, "accepted": self._accepted} if self._share else None
        return {"results": results, "audit": sample, "pages": pages, "digits": digits}


def make(results: Results, *, folder: Path | None = None, dpi: float | None = None, share: float = 0.0) -> Album:
    """Open the sheets of results again, and gather what the page shows.

    Args:
        results: what `digitize scan` or `digitize review apply` wrote.
        folder: where the sheets lie; None looks from here and beside the results.
        dpi: at which PDF pages were rendered; None takes it from the results, or 300.
        share: of the digits that are ok, how many are mixed in.

    Raises:
        SheetError: a sheet is missing, or is not the one that was read.
    """
    album = Album(share=share)
    for source, gray, reading in open_pages(results, folder=folder, dpi=dpi):
        album.add(source, gray, reading)
    return album


def open_pages(
    results: Results, *, folder: Path | None = None, dpi: float | None = None
) -> Iterator[tuple[str, Gray, PageReading]]:
    """Open the pages of results again: for each its source, gray uint8 (H, W) as loaded, and what was read on it.

    Raises:
        SheetError: a sheet is missing, or is not the one that was read.
    """
    stated = dict(results.generator.settings or {}).get("dpi") if results.generator else None
    rendered = dpi or (float(stated) if isinstance(stated, int | float) else sheets.DEFAULT_DPI)
    for sheet in results.sheets:
        readings = {page.number: page for page in sheet.pages}
        if not readings:
            continue
        path = _find(sheet, results, folder)
        wanted = sheets.PageRange(tuple((number, number) for number in sorted(readings)))
        found = set()
        for page in sheets.load(path, source=sheet.source, pages=wanted, dpi=rendered):
            reading = _fitted(readings[page.number], page.gray, path, sized=results.form != "csv")
            found.add(page.number)
            yield sheet.source, page.gray, reading
        if missing := sorted(readings.keys() - found):
            raise SheetError(f"{path}: has no page {missing[0]}, which the results hold; give the sheet that was read")


def crop_window(number: Number, digit: Digit, width: int, height: int) -> Box:
    """The part of a page of (width, height) that shows a digit: its whole number and a bit of the line."""
    around, box = number.box, digit.box
    middle = box.left + box.width / 2
    left = max(around.left - BESIDE * box.height, middle - WIDEST * box.height, 0)
    right = min(around.right + BESIDE * box.height, middle + WIDEST * box.height, width)
    left, right = min(left, box.left), max(right, box.right)
    if around.width <= WIDEST * around.height:  # short enough to be shown whole, and then for all its digits alike
        left, right = max(around.left - BESIDE * around.height, 0), min(around.right + BESIDE * around.height, width)
    top, bottom = max(around.top - ABOVE * around.height, 0), min(around.bottom + ABOVE * around.height, height)
    return Box(int(left), int(top), max(1, int(right) - int(left)), max(1, int(bottom) - int(top)))


def likely_rotation(gray: Gray, boxes: list[Box]) -> int:
    """Degrees clockwise by which a page was turned, where the results do not say it: the boxes then hold ink.

    Args:
        gray: uint8 (H, W), the page as it was loaded.
        boxes: of its digits.
    """
    contrast = {}
    for turn in (0, 90, 180, 270):
        turned = np.rot90(gray, -turn // 90)
        if max(box.right for box in boxes) <= turned.shape[1] and max(box.bottom for box in boxes) <= turned.shape[0]:
            spreads = [turned[b.top : b.bottom, b.left : b.right].std() for b in boxes[:: 1 + len(boxes) // 200]]
            contrast[turn] = float(np.mean(spreads)) / (1.0 if turn == 0 else TURNED_GAIN)
    return max(contrast, key=lambda turn: contrast[turn], default=0)


def _find(sheet: SheetReading, results: Results, folder: Path | None) -> Path:
    bases = [folder] if folder else [Path(), results.path.parent]
    places = list(dict.fromkeys(base / sheet.source for base in bases))
    for path in places:
        if path.is_file():
            if sheet.sha256 and sheets.sha256(path) != sheet.sha256:
                raise SheetError(f"{path}: is not the sheet that was read, its hash is another; scan it again")
            return path
    looked = ", ".join(map(str, places))
    raise SheetError(f"{sheet.source}: the sheet is not there; looked for {looked}; name its folder with --sheets")


def _fitted(reading: PageReading, gray: Gray, path: Path, *, sized: bool) -> PageReading:
    """The reading with the size and turn of its page, which a CSV does not hold."""
    if not sized:
        boxes = [digit.box for *_, digit in reading.digits()]
        turn = likely_rotation(gray, boxes)
        height, width = gray.shape[:: -1 if turn % 180 else 1]
        if max(box.right for box in boxes) > width or max(box.bottom for box in boxes) > height:
            raise SheetError(f"{path}: page {reading.number} is smaller than what was read on it; was --dpi another?")
        return PageReading(reading.number, width, height, reading.lines, turn)
    if (reading.height, reading.width) != gray.shape[:: -1 if reading.rotation % 180 else 1]:
        size = f"{gray.shape[1]} by {gray.shape[0]} pixels, {reading.width} by {reading.height} when it was read"
        raise SheetError(f"{path}: page {reading.number} is {size}; scan it again")
    return reading


def _with_numbers(reading: PageReading) -> Iterator[tuple[Number, Digit]]:
    for line in reading.lines:
        for number in line.numbers:
            for digit in number.digits:
                yield number, digit


def _cut(upright: Gray, window: Box, digit: Digit) -> Crop:
    part = upright[window.top : window.bottom, window.left : window.right]
    scale = CROP_DIGIT / digit.box.height
    scale = min(scale, LARGEST_CROP[0] / part.shape[1], LARGEST_CROP[1] / part.shape[0])
    size = max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale))
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    _, png = cv2.imencode(".png", small, write.FAST_PNG)
    return Crop(window, png.tobytes(), *size, (digit.value, digit.confidence))


def _picture(upright: Gray) -> bytes:
    scale = min(1.0, PICTURE_SIDE / max(upright.shape))
    size = max(1, round(upright.shape[1] * scale)), max(1, round(upright.shape[0] * scale))
    small = cv2.resize(upright, size, interpolation=cv2.INTER_AREA) if scale < 1 else upright
    return _webp(small, PICTURE_QUALITY)


def _webp(picture: NDArray[Any], quality: int) -> bytes:
    _, encoded = cv2.imencode(".webp", picture, (cv2.IMWRITE_WEBP_QUALITY, quality))
    return encoded.tobytes()


def _sprites(crops: list[Crop]) -> tuple[list[bytes], list[tuple[int, int, int]]]:
    """Pack crops row by row into square pictures.

    Returns:
        The pictures as WebP, and for each crop which picture it is in, and its left and top there.
    """
    places = [(0, 0, 0)] * len(crops)
    sheet, x, y, row = 0, 0, 0, 0
    for k in sorted(range(len(crops)), key=lambda k: crops[k].rank):
        crop = crops[k]
        if x + crop.width > SPRITE:
            x, y, row = 0, y + row, 0
        if y + crop.height > SPRITE:
            sheet, x, y, row = sheet + 1, 0, 0, 0
        places[k] = (sheet, x, y)
        x, row = x + crop.width, max(row, crop.height)
    pictures = []
    for k in range(sheet + 1 if crops else 0):
        canvas = np.full((SPRITE, SPRITE), 255, np.uint8)
        used = 1
        for crop, (at, x, y) in zip(crops, places, strict=True):
            if at == k:
                drawn = cv2.imdecode(np.frombuffer(crop.png, np.uint8), cv2.IMREAD_GRAYSCALE)
                canvas[y : y + crop.height, x : x + crop.width] = np.asarray(drawn, np.uint8)
                used = max(used, y + crop.height)
        pictures.append(_webp(canvas[:used], SPRITE_QUALITY))
    return pictures, places


def _asset(name: str) -> str:
    """A file of `page/`, with the line ends that a browser sees, so that its hash is the one the browser takes."""
    text = resources.files("digitize").joinpath("page", name).read_text("utf-8")
    return "\n".join(text.splitlines()) + "\n"


def _policy(script: str | None, style: str) -> str:
    """Everything is forbidden but this style and, where there is one, this script and pictures that are in the file."""
    allowed = {"style-src": _hash(style)}
    if script is not None:
        allowed |= {"script-src": _hash(script), "img-src": "data: blob:"}
    named = [f"{directive} {source}" for directive, source in allowed.items()]
    return "; ".join(["default-src 'none'", *named, "base-uri 'none'", "form-action 'none'"])


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


def _json(value: Any) -> str:
    """JSON that can stand in HTML: no name in it can end the element that it is in, or begin another."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)  # plain ASCII
    return re.sub("[<>&]", lambda found: f"\\u{ord(found[0]):04x}", text)


def index_parts() -> tuple[str, str]:
    """What stands before and behind the rows of a list of such pages."""
    style = _asset("review.css")
    text = _asset("index.html").replace("@@POLICY@@", _policy(None, style)).replace("@@STYLE@@", style)
    before, _, after = text.partition("@@ROWS@@")
    return before, after


def _picture_element(name: str, webp: bytes) -> str:
    return f'<script type="text/plain" id="{name}">{base64.b64encode(webp).decode("ascii")}</script>\n'


def write_page(album: Album, target: Path, results: Results) -> None:
    """Write an album's page for results that lie in a file.

    Raises:
        OutputError: it cannot be written.
    """
    with write.open_output(target) as output:
        album.write_to(output, name=results.path.name, sha256=results.sha256, form=results.form)
