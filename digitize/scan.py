"""The row of calls: sheets in, readings out. The only place that knows the order of the stages.

Pages are cleaned and segmented one at a time; what is to be asked of a network is asked for many pages together,
`batch_size` tiles or more at once, so that many small sheets fill one batch.

With a detector, it says where digits are and so whose ink is whose, and the classifier, which knows MNIST's form of
that ink, is the second voice on which digit it is; how likely a place is one depends on all that was seen on the page.
Without one, candidates cut and merged from contours take the detector's part: glyphs and merges as they stand, then
the slices of those glyphs that the first round could not settle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from digitize import clean, decode, detect, layout, normalise, segment, sheets, stopwatch
from digitize.confidence import Calibration
from digitize.errors import DigitizeError, SheetError, UnsettledSheetError, describe_fault, trace_of
from digitize.records import (
    NO_DIGIT,
    TILE_SIDE,
    Box,
    Digit,
    Gray,
    Line,
    Number,
    Page,
    PageReading,
    Place,
    Probabilities,
    SheetReading,
    Tiles,
)
from digitize.stopwatch import Stopwatch

Rotate = Literal["auto", "off"]
_Cell = TypeVar("_Cell", bound=np.generic)
OnPage = Callable[[Page, PageReading, Tiles], None]

REVIEW_BELOW = 0.9  # confidence; of the digits at the border one in ten is wrong
SETTLED = 0.97  # belief in a glyph whole, or merged, from which its slices are not looked at
HOPELESS, NARROW = 0.01, 0.75  # belief up to which a glyph no wider than this share of its height is not sliced
WIDE = 1.15  # width over height from which a glyph is sliced however sure the first round was
MOST_DRAFTS = 32  # pages held at once, however few digits they have
MOST_HELD_PIXELS = 60_000_000  # of those pages, at five bytes each, or up to eight where `clean` made them smaller
TURN_GLYPHS = 200  # glyphs looked at to find out which way up a page is
TILES_GAIN = 1.25  # without a detector: times as much that has to be readable after a turn
TURN_GAIN = 1.15  # with one: times as much that has to speak for a turned page; these were chosen on validation sheets
UPRIGHT = 0.8  # certain digits a telling glyph from which a page lies upright or on its head, and a glimpse will do
GLIMPSE, LONG_GLIMPSE = 26.0, 60.0  # digit heights: side of the square looked at then, and where it is in doubt
TURN_MARGIN = {90: 0.0, 180: 3.0, 270: 0.0}  # digits that have to speak for it besides: a few alone stay as they are
LEAST_TELLING = 2.0  # lopsided digits that a turned page has to show
TELLING_SHARE = {90: 0.1, 180: 0.3, 270: 0.1}  # and as a share of its glyphs: letters upside down look like digits
LOPSIDED = [2, 3, 4, 5, 6, 7, 9]  # digits that look otherwise when they lie on their side
UNLIKE = [3, 4, 7]  # those that look like no digit when they stand on their head
PLAINLY, OF_GLYPHS = 0.2, 10  # share of them, of so many glyphs at least, with which a page stands upright beyond doubt
BESIDE, FEWEST_BESIDE = 0.75, 6  # share of glyphs, of so many at least, with which writing runs across the page
PLACE_MARGIN = 0.08  # of the height of a place or a piece by which its ink may reach over its box
BLOCK_TILES = 40  # tiles that a block counts for in a batch; it is as many times as large
LARGER_SHARE, SMALLER_SHARE = 0.1, 0.3  # of all pieces' heights that has to be of another size to be looked at
ZOOM_STEP = 2.0  # between one size that a page is looked at in and the next
MOST_ZOOM = 2.0  # of a working pixel: more adds nothing to see
MOST_SEEN_PIXELS = 24_000_000  # of a page in one size: bounds memory and time where the writing is tiny
BLOCKS_AT_ONCE = 64  # whose answers are held at a time
MOST_STEPS = 6  # sizes beyond the first, each way: one thick bar can make writing seem many times too large


class Classify(Protocol):
    """What a classifier has to do."""

    def probabilities(self, tiles: Tiles) -> Probabilities:
        """Give float32 (N, classes) for uint8 (N, 28, 28, 2)."""
        ...


@dataclass(frozen=True, slots=True)
class Settings:
    """What shapes a reading.

    Attributes:
        batch_size: tiles gathered before they are classified; bounds how many pages are held at once.
        rotate: "auto" turns pages that read better turned.
        review_below: digits with less confidence are marked for review.
        rules: take rules and frames out.
        split: without a detector, cut glyphs along seams; off, every glyph is at most one digit.
        merge: without a detector, put neighbouring glyphs together.
        neighbours: without a detector, let what stands beside a piece of ink bear on whether it is digits.
    """

    batch_size: int = 1024
    rotate: Rotate = "auto"
    review_below: float = REVIEW_BELOW
    split: bool = True
    merge: bool = True
    rules: bool = True
    neighbours: bool = True


@dataclass(slots=True)
class Draft:
    """A page between its stages.

    Attributes:
        page: as loaded.
        turned: degrees clockwise that it was turned by.
        ink: at working scale.
        surroundings: uint8 (h, w), what the tiles' second channel is cut from.
        runs: with the candidates known so far.
        tiles: for each run, those of its candidates; with a detector one array, a tile for each place.
        beliefs: for each of these, what the classifier says; empty before it was asked.
        blocks: what a detector is to look at.
        places: what it found.
    """

    page: Page
    turned: int
    ink: clean.Ink
    surroundings: Gray = field(repr=False)
    runs: list[segment.Run] = field(repr=False)
    tiles: list[Tiles] = field(default_factory=list, repr=False)
    beliefs: list[Probabilities] = field(default_factory=list, repr=False)
    blocks: list[detect.Block] = field(default_factory=list, repr=False)
    places: list[Place] = field(default_factory=list, repr=False)


@dataclass(slots=True)
class _Opened:
    """A sheet some of whose pages may still wait to be read."""

    source: str
    where: str
    digest: str = ""
    error: str | None = None
    passing: bool = False
    trace: str = ""
    pages: list[PageReading] = field(default_factory=list)

    def fail(self, fault: Exception) -> None:
        """Note that something was raised that nobody foresaw: it costs this sheet its reading, and no other."""
        self.error = self.error or f"{self.where}: {describe_fault(fault)}"
        self.trace = self.trace or trace_of(fault)


def draft_page(
    page: Page, settings: Settings, *, turned: int = 0, cut: bool = True, watch: Stopwatch = stopwatch.OFF
) -> Draft:
    """Clean and segment one page, and cut its first tiles if `cut`."""
    with watch("clean"):
        gray = np.ascontiguousarray(np.rot90(page.gray, -turned // 90))
        ink = clean.extract_ink(gray, remove_rules=settings.rules)
    with watch("segment"):
        glyphs = segment.find_glyphs(ink.pen, stroke=ink.stroke)
        runs = segment.find_runs(glyphs, stroke=ink.stroke, height=ink.height, merge=settings.merge)
    with watch("normalise"):
        draft = Draft(page, turned, ink, normalise.draw_surroundings(ink.pen, ink.rules), runs)
        if cut:
            draft.tiles = _cut(draft, [run.candidates for run in runs])
    return draft


def page_blocks(ink: clean.Ink) -> list[detect.Block]:
    """A page's blocks, in the size of its writing and, where much of it has another size, in that too.

    In a larger size that little of it has, as headings have, what is of that size is looked at alone: the small would
    be seen together there, two digits as one.
    """
    boxes = segment.piece_boxes(ink.pen)
    tall = boxes[:, 3] / ink.height
    most = _most_zoom(ink)
    zoom = min(detect.UNIT / ink.height, most)
    looks = [(zoom, ink.shade)]
    for step in range(1, MOST_STEPS + 1):
        factor = ZOOM_STEP**step
        for other, nearest, share in ((1 / factor, factor, LARGER_SHARE), (factor, 1 / factor, SMALLER_SHARE)):
            near = np.abs(np.log(np.maximum(tall, 1e-3) / nearest)) <= np.log(ZOOM_STEP) / 2
            if zoom * other > most or not near.any():
                continue
            if tall[near].sum() >= share * tall.sum():
                looks.append((zoom * other, ink.shade))
            elif other < 1:
                looks.append((zoom * other, _alone(ink.shade, boxes[near])))
    return [block for zoom, shade in looks for block in detect.look_at(shade, zoom)]


def _alone(shade: Gray, boxes: NDArray[np.int64]) -> Gray:
    """A page's shade within some boxes (left, top, width, height) and a margin around them, and nothing elsewhere."""
    alone = np.zeros_like(shade)
    for sides in boxes.tolist():
        box = widened(Box(*sides), shade.shape)
        part = np.s_[box.top : box.bottom, box.left : box.right]
        alone[part] = shade[part]
    return alone


def _most_zoom(ink: clean.Ink) -> float:
    """How much larger a page may be looked at."""
    return min(MOST_ZOOM, float(np.sqrt(MOST_SEEN_PIXELS / ink.pen.size)))


def split_draft(draft: Draft, which: list[set[int]]) -> list[Tiles]:
    """Slice glyphs of a draft.

    Args:
        draft: its runs get the slices as candidates behind those they have.
        which: for each run the glyphs to cut.

    Returns:
        For each run the tiles of its new candidates; they are not in `draft.tiles` yet.
    """
    before = [len(run.candidates) for run in draft.runs]
    slice_runs(draft, which)
    return _cut(draft, [run.candidates[count:] for run, count in zip(draft.runs, before, strict=True)])


def slice_runs(draft: Draft, which: list[set[int]]) -> None:
    """Add slices to the candidates of a draft, without cutting their tiles; `which` as for `split_draft`."""
    draft.runs = [
        segment.split_run(run, cut, stroke=draft.ink.stroke, height=draft.ink.height) if cut else run
        for run, cut in zip(draft.runs, which, strict=True)
    ]


def _cut(draft: Draft, candidates: list[tuple[segment.Candidate, ...]]) -> list[Tiles]:
    """Tiles of candidates, run by run."""
    tiles = normalise.make_tiles([(c.box, c.mask) for own in candidates for c in own], draft.surroundings)
    return _in_runs(tiles, [len(own) for own in candidates])


def _in_runs(rows: NDArray[_Cell], counts: list[int]) -> list[NDArray[_Cell]]:
    """Cut an array into stretches of the given lengths."""
    ends = np.cumsum(counts).tolist()
    return [rows[end - count : end] for end, count in zip(ends, counts, strict=True)]


class Scanner:
    """A classifier and the settings it is used with: pages in, readings out."""

    def __init__(
        self,
        classifier: Classify,
        *,
        detector: detect.Detect | None = None,
        calibration: Calibration | None = None,
        settings: Settings | None = None,
        watch: Stopwatch = stopwatch.OFF,
    ):
        """Keep loaded models.

        Args:
            classifier: anything that gives probabilities for tiles.
            detector: anything that finds digits in blocks; None reads by contours alone.
            calibration: of the decoder's belief; as it is where None.
            settings: what shapes a reading.
            watch: counts how long each stage takes.
        """
        self._watch = watch
        self._classifier = classifier
        self._detector = detector
        self._calibration = calibration or Calibration.plain()
        self.settings = settings or Settings()

    def read_sheets(
        self,
        found: Iterable[sheets.Sheet],
        *,
        pages: sheets.PageRange = sheets.EVERY_PAGE,
        dpi: float = sheets.DEFAULT_DPI,
        on_page: OnPage | None = None,
    ) -> Iterator[SheetReading]:
        """Read sheets in order; one that fails is yielded with its error and the pages that could be read.

        Args:
            found: what `sheets.find` gave.
            pages: which pages of each.
            dpi: resolution at which PDF pages are rendered.
            on_page: called with each page, its reading and its digits' tiles uint8 (N, 28, 28, 2), in order; the page
                counts as not read where it raises anything but a `DigitizeError`, which ends the reading.
        """
        opened: list[_Opened] = []
        owners: list[_Opened] = []
        drafts: list[Draft] = []
        gathered = held = 0
        for sheet in found:
            owner = _Opened(sheet.source, sheet.name)
            opened.append(owner)
            for draft in self._drafts(sheet, owner, pages, dpi):
                drafts.append(draft)
                owners.append(owner)
                gathered += sum(len(tiles) for tiles in draft.tiles) + BLOCK_TILES * len(draft.blocks)
                held += draft.ink.pen.size
                if gathered >= self.settings.batch_size or held >= MOST_HELD_PIXELS or len(drafts) >= MOST_DRAFTS:
                    self._read_into(owners, drafts, on_page)
                    owners, drafts, gathered, held = [], [], 0, 0
            while opened and all(owner is not opened[0] for owner in owners):  # its pages have all been read
                yield self._closed(opened.pop(0))
        self._read_into(owners, drafts, on_page)
        for owner in opened:
            yield self._closed(owner)

    def _drafts(self, sheet: sheets.Sheet, owner: _Opened, pages: sheets.PageRange, dpi: float) -> Iterator[Draft]:
        """The pages of a sheet, drafted; what ends that too early is noted with their owner."""
        try:
            with self._watch("load"):
                owner.digest = sheets.sha256(sheet.origin)
            loaded = sheets.load(sheet.origin, source=sheet.source, pages=pages, dpi=dpi)
            for page in self._watch.each("load", loaded):
                yield self._draft(page)
        except SheetError as trouble:
            owner.error, owner.passing = str(trouble), isinstance(trouble, UnsettledSheetError)
        except DigitizeError:
            raise
        except Exception as fault:  # noqa: BLE001 - a bug that one sheet brings up is no reason to leave the others unread
            owner.fail(fault)

    def read_pages(self, pages: Iterable[Page]) -> list[PageReading]:
        """Read pages that are in memory already, as one batch."""
        return [reading for reading, _ in self._read_drafts([self._draft(page) for page in pages])]

    @property
    def device(self) -> str:
        """Where the classifier runs: "cpu" or "gpu:N"."""
        return str(getattr(self._classifier, "device", "cpu"))

    @property
    def detects(self) -> bool:
        """Whether a detector finds the digits."""
        return self._detector is not None

    def offer(self, page: Page) -> Draft:
        """The page with everything that could be answered: every place, or every candidate of contours, sliced."""
        if self._detector is not None:
            draft = self._draft(page)
            self._detect([draft])
            return draft
        draft = draft_page(page, self.settings, cut=False)
        if self.settings.split:
            slice_runs(draft, [set(range(len(run.glyphs))) for run in draft.runs])
        return draft

    def _closed(self, sheet: _Opened) -> SheetReading:
        """The reading of a sheet whose pages have all been read."""
        pages, spent = tuple(sheet.pages), self._watch.take()
        return SheetReading(
            sheet.source, sheet.digest, pages, sheet.error, sheet.passing, spent=spent, trace=sheet.trace
        )

    def _read_into(self, owners: list[_Opened], drafts: list[Draft], on_page: OnPage | None) -> None:
        """Read pages together; where that raises, one by one, so that only the sheet that it was about fails."""
        try:
            read = list(zip(owners, drafts, self._read_drafts(drafts), strict=True))
        except DigitizeError:
            raise
        except Exception:  # noqa: BLE001 - it comes up again with the sheet that it is about
            each = zip(owners, drafts, strict=True)
            read = [(owner, draft, one) for owner, draft in each for one in self._read_alone(owner, draft.page)]
        for owner, draft, (reading, tiles) in read:
            try:
                if on_page is not None:
                    with self._watch("draw"):
                        on_page(draft.page, reading, tiles)
            except DigitizeError:
                raise
            except Exception as fault:  # noqa: BLE001 - as in `_drafts`
                owner.fail(fault)
            else:
                owner.pages.append(reading)

    def _read_alone(self, owner: _Opened, page: Page) -> list[tuple[PageReading, Tiles]]:
        """The reading of one page, or none if that raises."""
        try:
            return self._read_drafts([self._draft(page)])
        except DigitizeError:
            raise
        except Exception as fault:  # noqa: BLE001 - as in `_drafts`
            owner.fail(fault)
            return []

    def _draft(self, page: Page, *, turned: int = 0) -> Draft:
        """A page up to what the first network is asked."""
        if self._detector is None:
            return draft_page(page, self.settings, turned=turned, watch=self._watch)
        draft = draft_page(page, replace(self.settings, merge=False), turned=turned, cut=False, watch=self._watch)
        with self._watch("detect"):
            draft.blocks = page_blocks(draft.ink)
        return draft

    def _read_drafts(self, drafts: list[Draft]) -> list[tuple[PageReading, Tiles]]:
        """The reading of each page, with the tile of each digit in reading order."""
        seen = self._ask_of_contours(drafts) if self._detector is None else self._see(drafts)
        return [self._compose(draft) for draft in seen]

    def _ask_of_contours(self, drafts: list[Draft]) -> list[Draft]:
        """Classify the candidates of contours, turn what lies on its side, and slice what is not settled."""
        for draft, beliefs in zip(drafts, self._classify([draft.tiles for draft in drafts]), strict=True):
            draft.beliefs = beliefs
        if self.settings.rotate == "auto":
            drafts = [self._upright(draft) for draft in drafts]
        if self.settings.split:
            self._split(drafts)
        return drafts

    def _see(self, drafts: list[Draft]) -> list[Draft]:
        """Find the digits of all drafts, turn what lies on its side, and classify the ink of each place."""
        self._detect(drafts)
        if self.settings.rotate == "auto":
            drafts = self._turned_to_see(drafts)
        inked = []
        for draft in drafts:
            draft.places = self._reported(draft)
            boxes = [widened(place.box, draft.ink.pen.shape) for place in draft.places]
            with self._watch("segment"):
                masks = segment.claim_ink(draft.ink.pen, boxes)
                inked.append([k for k, mask in enumerate(masks) if mask.any()])
            with self._watch("normalise"):
                tiles = np.zeros((len(boxes), TILE_SIDE, TILE_SIDE, normalise.VIEWS), np.uint8)
                tiles[inked[-1]] = normalise.make_tiles([(boxes[k], masks[k]) for k in inked[-1]], draft.surroundings)
            draft.tiles = [tiles]
        said = self._classify([[draft.tiles[0][own]] for draft, own in zip(drafts, inked, strict=True)])
        for draft, own, (beliefs,) in zip(drafts, inked, said, strict=True):
            # Of a place whose ink thresholding lost, the classifier has nothing to say.
            silent = np.full((len(draft.places), NO_DIGIT), 1 / NO_DIGIT, np.float32)
            silent[own] = decode.split_classes(beliefs)[0] if own else 0
            draft.beliefs = [silent]
        return drafts

    def _detect(self, drafts: list[Draft]) -> None:
        """Look at the blocks of all drafts, those of several in one batch."""
        with self._watch("detect"):
            seen = self._look([(draft.blocks, draft.ink) for draft in drafts])
        for draft, places in zip(drafts, seen, strict=True):
            draft.places, draft.blocks = places, []

    def _reported(self, draft: Draft) -> list[Place]:
        """The places of a page that are likely enough digits, now that all are known."""
        places = draft.places
        with self._watch("decode"):
            if self._detector is not None and self._detector.context is not None:
                places = self._detector.context.rescored(places, draft.ink.pen.shape)
            return decode.reported(places)

    def _look(self, pages: list[tuple[list[detect.Block], clean.Ink]]) -> list[list[Place]]:
        """What is seen on pages, each with the blocks that are looked at first.

        Where the digits that come out are of another size than a page was looked at for, it is looked at in theirs,
        too: its writing was misjudged, as where digits are joined or run into a line.
        """
        first = self._peaks([blocks for blocks, _ in pages])
        second = self._peaks(
            [
                detect.look_again(peaks, blocks, ink.shade, _most_zoom(ink))
                for peaks, (blocks, ink) in zip(first, pages, strict=True)
            ]
        )
        places = []
        for one, other, (_, ink) in zip(first, second, pages, strict=True):
            height, width = ink.shade.shape
            places.append(detect.find_places(detect.Peaks.join([one, other]), (height, width)))
        return places

    def _peaks(self, pages: list[list[detect.Block]]) -> list[detect.Peaks]:
        """Where digits are seen in the blocks of pages; those of several are answered together."""
        if self._detector is None:
            return [detect.Peaks.join([]) for _ in pages]
        blocks = [(k, block) for k, own in enumerate(pages) for block in own]
        peaks: list[list[detect.Peaks]] = [[] for _ in pages]
        for start in range(0, len(blocks), BLOCKS_AT_ONCE):
            some = blocks[start : start + BLOCKS_AT_ONCE]
            answers = self._detector.answers(np.stack([block.shade for _, block in some])[..., None])
            for k in sorted({k for k, _ in some}):
                own = [place for place, (owner, _) in enumerate(some) if owner == k]
                peaks[k].append(detect.find_peaks([some[place][1] for place in own], answers[own]))
        return [detect.Peaks.join(found) for found in peaks]

    def _turned_to_see(self, drafts: list[Draft]) -> list[Draft]:
        """The drafts, with those that read better turned drafted again.

        For a glimpse the ink is turned as it is: to clean a page anew costs more, and mostly it lay upright.
        """
        with self._watch("detect"):
            asked = [_doubted(draft) for draft in drafts]
            turned = [
                _turned_ink(draft.ink, doubt.window, turn)
                for draft, doubt in zip(drafts, asked, strict=True)
                for turn in doubt.turns
            ]
            seen = iter(self._look([(page_blocks(ink), ink) for ink in turned]))
        upright = []
        for draft, doubt in zip(drafts, asked, strict=True):
            best, most = 0, doubt.evidence
            for turn in doubt.turns:
                places, least = next(seen), max(LEAST_TELLING, TELLING_SHARE[turn] * doubt.glyphs)
                if _lopsided(places) > least and _evidence(places) - TURN_MARGIN[turn] > most:
                    best, most = turn, _evidence(places) - TURN_MARGIN[turn]
            upright.append(self._draft(draft.page, turned=best) if best else draft)
        self._detect([draft for draft in upright if draft.turned])
        return upright

    def _classify(self, tiles: list[list[Tiles]]) -> list[list[Probabilities]]:
        """Classify the tiles of all runs of all drafts in one call."""
        flat = [part for own in tiles for part in own]
        if not sum(len(part) for part in flat):
            return [[np.zeros((0, 1), np.float32)] * len(own) for own in tiles]
        with self._watch("classify"):
            answers = self._classifier.probabilities(np.concatenate(flat))
        drafts = _in_runs(answers, [sum(len(part) for part in own) for own in tiles])
        return [_in_runs(own, [len(p) for p in parts]) for own, parts in zip(drafts, tiles, strict=True)]

    def _upright(self, draft: Draft) -> Draft:
        """The draft, or the page drafted again where it reads better turned.

        A tile is centred by mass, so a turned page gives the same tiles turned: the network judges them at no cost
        but its own.
        """
        tall = [
            tiles[k]
            for run, tiles in zip(draft.runs, draft.tiles, strict=True)
            for k, glyph in enumerate(run.glyphs)
            if _is_telling(glyph.box, draft.ink.height)
        ]
        if len(tall) < 2:
            return draft
        best = self._better_turn(np.stack(tall[:: 1 + len(tall) // TURN_GLYPHS]))
        if not best:
            return draft
        again = draft_page(draft.page, self.settings, turned=best, watch=self._watch)
        (again.beliefs,) = self._classify([again.tiles])
        return again

    def _better_turn(self, tiles: Tiles) -> int:
        """By how many degrees clockwise a page's tiles have to be turned to read clearly better; 0 where upright."""
        with self._watch("classify"):
            upright = _legibility(self._classifier.probabilities(tiles))
            if upright > SETTLED * len(tiles):
                return 0
            turns = {90 * n: _legibility(self._classifier.probabilities(_turned(tiles, n))) for n in (1, 2, 3)}
        best = max(turns, key=lambda turn: turns[turn])
        return best if turns[best] > TILES_GAIN * upright else 0

    def _split(self, drafts: list[Draft]) -> None:
        """Slice what the first round did not settle, and classify the slices of all drafts together."""
        with self._watch("segment"):
            fresh = [split_draft(draft, _unsettled(draft)) for draft in drafts]
        for draft, tiles, beliefs in zip(drafts, fresh, self._classify(fresh), strict=True):
            for k, new in enumerate(tiles):
                if len(new):
                    draft.tiles[k] = np.concatenate([draft.tiles[k], new])
                    draft.beliefs[k] = np.concatenate([draft.beliefs[k], beliefs[k]])

    def _compose(self, draft: Draft) -> tuple[PageReading, Tiles]:
        """Decode and lay out one page; also the tile of each digit, in reading order."""
        height, width = draft.page.gray.shape[:: -1 if draft.turned % 180 else 1]
        boxes: list[Box] = []
        others: list[Box] = []
        beliefs, tiles = [], []
        with self._watch("decode"):
            if self._detector is not None:
                found = decode.agree(draft.places, draft.beliefs[0])
                for digit in found:
                    boxes.append(page_box(digit.box, draft.ink.scale, width, height))
                    beliefs.append(digit.probabilities)
                    tiles.append(draft.tiles[0][digit.index])
                others = [page_box(box, draft.ink.scale, width, height) for box in _free_ink(draft, found)]
            else:
                for run, own, chosen in zip(draft.runs, draft.tiles, self._decode(draft), strict=True):
                    for digit in chosen:
                        boxes.append(page_box(digit.box, draft.ink.scale, width, height))
                        beliefs.append(digit.probabilities)
                        tiles.append(own[digit.index])
                    if not chosen:
                        others += [page_box(glyph.box, draft.ink.scale, width, height) for glyph in run.glyphs]
        with self._watch("layout"):
            lines, order = [], []
            digits = self._digits(boxes, beliefs)
            for row in layout.arrange(boxes, others=others, rules=layout.Rules(draft.ink.rules, draft.ink.scale)):
                numbers = [Number(tuple(digits[k] for k in number)) for number in row.numbers]
                lines.append(Line(tuple(numbers)))
                order += [k for number in row.numbers for k in number]
        shown = (
            np.stack([tiles[k] for k in order])
            if order
            else np.zeros((0, TILE_SIDE, TILE_SIDE, normalise.VIEWS), np.uint8)
        )
        return PageReading(draft.page.number, width, height, tuple(lines), draft.turned), shown

    def _decode(self, draft: Draft) -> list[list[decode.Found]]:
        """Read every run twice: by itself, then knowing what was read beside it."""
        first = [
            decode.read_run(run, beliefs, prior=decode.BASE_PRIOR)
            for run, beliefs in zip(draft.runs, draft.beliefs, strict=True)
        ]
        if not self.settings.neighbours:
            return first
        places = [Box.around([glyph.box for glyph in run.glyphs]) for run in draft.runs]
        digits = [(digit.box, float(digit.probabilities.max())) for found in first for digit in found]
        refused = [place for place, found in zip(places, first, strict=True) if not found]
        priors = decode.priors(places, digits, refused)
        return [
            decode.read_run(run, beliefs, prior=decode.BASE_PRIOR + prior) if prior else found
            for run, beliefs, prior, found in zip(draft.runs, draft.beliefs, priors, first, strict=True)
        ]

    def _digits(self, boxes: list[Box], beliefs: list[NDArray[np.float64]]) -> list[Digit]:
        """The digits of a page with their calibrated confidences; for each box, float64 (10,) of belief."""
        if not boxes:
            return []
        belief = np.stack(beliefs)
        each = np.arange(len(belief))
        second, first = np.argsort(belief, axis=1)[:, -2:].T
        likeliest = belief[each, first]
        confidence = self._calibration.apply(likeliest)
        rest = belief.sum(axis=1) - likeliest
        share = np.divide(1.0 - confidence, rest, out=np.zeros_like(rest), where=rest > 0)
        other = np.minimum(belief[each, second] * np.minimum(1.0, share), confidence)
        columns = (first, confidence, second, other, confidence >= self.settings.review_below)
        return [
            Digit(value, sure, runner_up, less_sure, "ok" if is_sure else "review", box)
            for box, value, sure, runner_up, less_sure, is_sure in zip(
                boxes, *(column.tolist() for column in columns), strict=True
            )
        ]


@dataclass(frozen=True, slots=True)
class _Doubt:
    """What has to be looked at to know which way up a page lies.

    Attributes:
        window: part of the page that is looked at, in working pixels.
        turns: degrees clockwise by which it might have to be turned; none where there is no doubt.
        evidence: how much has to speak for a turn.
        glyphs: how many glyphs in the window are no dots or strokes.
    """

    window: Box
    turns: tuple[int, ...] = ()
    evidence: float = 0.0
    glyphs: int = 0


def _doubted(draft: Draft) -> _Doubt:
    """How a page on which digits were seen might lie instead."""
    telling = [glyph.box for run in draft.runs for glyph in run.glyphs if _is_telling(glyph.box, draft.ink.height)]
    page = Box(0, 0, *draft.ink.pen.shape[::-1])
    if len(telling) < 2:
        return _Doubt(page)
    certain = _sureness(draft.places) >= UPRIGHT * len(telling)
    if certain and len(telling) >= OF_GLYPHS and _share(draft.places, UNLIKE) >= PLAINLY * len(telling):
        return _Doubt(page)
    side = (GLIMPSE if certain else LONG_GLIMPSE) * draft.ink.height
    window = _fullest([place.box for place in draft.places] if certain else telling, page, side)
    across = certain or (len(telling) >= FEWEST_BESIDE and layout.beside(telling) >= BESIDE)
    inside = [place for place in draft.places if _is_in(place.box, window)]
    return _Doubt(
        window,
        (180,) if across else (90, 180, 270),
        TURN_GAIN * _evidence(inside),
        sum(_is_in(box, window) for box in telling),
    )


def _evidence(places: list[Place]) -> float:
    """How much speaks for a page lying this way up, in digits; those that look otherwise turned count more."""
    return _sureness(places) + _lopsided(places) + _share(places, UNLIKE)


def _sureness(places: list[Place]) -> float:
    """How many digits' worth of certainty there is in places that would be reported."""
    return sum(place.seen * float(place.digits.max()) for place in decode.reported(places))


def _share(places: list[Place], values: list[int]) -> float:
    """The same of certain digits alone."""
    return sum(place.seen * float(place.digits[values].sum()) for place in decode.reported(places))


def _lopsided(places: list[Place]) -> float:
    """The same of digits that look otherwise on their side, most of them on their head, too."""
    return _share(places, LOPSIDED)


def _is_in(box: Box, window: Box) -> bool:
    """Whether a box's middle lies in a window."""
    x, y = box.left + box.width / 2, box.top + box.height / 2
    return window.left <= x < window.right and window.top <= y < window.bottom


def _fullest(boxes: list[Box], page: Box, side: float) -> Box:
    """The square of a page, of a side in working pixels, about a box that has most others around it."""
    if side >= max(page.width, page.height):
        return page
    middles = np.array([(box.left + box.width / 2, box.top + box.height / 2) for box in boxes])
    some = middles[:: 1 + len(middles) // TURN_GLYPHS]
    around = [np.count_nonzero((np.abs(middles - one) <= side / 2).all(axis=1)) for one in some]
    left, top = (max(0, round(middle - side / 2)) for middle in some[int(np.argmax(around))])
    return Box(left, top, min(round(side), page.width - left), min(round(side), page.height - top))


def widened(box: Box, shape: tuple[int, ...]) -> Box:
    """A place with the margin that its ink may reach into."""
    margin = round(PLACE_MARGIN * box.height)
    left, top = max(0, box.left - margin), max(0, box.top - margin)
    return Box(left, top, min(shape[1], box.right + margin) - left, min(shape[0], box.bottom + margin) - top)


def _free_ink(draft: Draft, found: list[decode.Found]) -> list[Box]:
    """Boxes of glyphs most of whose ink lies in no digit's place."""
    taken = np.zeros_like(draft.ink.pen)
    for digit in found:
        box = widened(digit.box, taken.shape)
        taken[box.top : box.bottom, box.left : box.right] = True
    free = []
    for run in draft.runs:
        for glyph in run.glyphs:
            box = glyph.box
            own = taken[box.top : box.bottom, box.left : box.right] & glyph.mask
            if 2 * np.count_nonzero(own) < np.count_nonzero(glyph.mask):
                free.append(box)
    return free


def _legibility(probabilities: Probabilities) -> float:
    """How many digits' worth of certainty there is: the sum over tiles of the best digit's probability, sharpened."""
    return float(np.square(probabilities[:, :10].max(axis=1)).sum())


def _turned_ink(ink: clean.Ink, window: Box, degrees: int) -> clean.Ink:
    """A part of a page's ink turned clockwise, with the height that writing has then."""
    rows, columns = slice(window.top, window.bottom), slice(window.left, window.right)
    quarters = -degrees // 90
    pen = np.ascontiguousarray(np.rot90(ink.pen[rows, columns], quarters), dtype=bool)
    rules = np.ascontiguousarray(np.rot90(ink.rules[rows, columns], quarters), dtype=bool)
    shade = np.ascontiguousarray(np.rot90(ink.shade[rows, columns], quarters), dtype=np.uint8)
    height = ink.height if degrees == 180 else clean.digit_height(pen, stroke=ink.stroke)
    return clean.Ink(pen, rules, shade, ink.scale, ink.stroke, height)


def _turned(tiles: Tiles, quarters: int) -> Tiles:
    """Tiles of a page turned clockwise by quarters: uint8 (N, 28, 28, 2)."""
    return np.ascontiguousarray(np.rot90(tiles, -quarters, axes=(1, 2)))


def _is_telling(box: Box, height: float) -> bool:
    """Whether a glyph says which way up the page is: of a digit's size, and no stroke, which is a 1 or a dash."""
    longer, shorter = max(box.width, box.height), min(box.width, box.height)
    return 0.5 * height <= longer <= 2 * height and shorter >= 0.4 * longer


def _unsettled(draft: Draft) -> list[set[int]]:
    """For each run the glyphs that no whole or merged candidate explains well enough."""
    which = []
    for run, beliefs in zip(draft.runs, draft.beliefs, strict=True):
        _, whole = decode.split_classes(beliefs)
        sure = [0.0] * run.atoms
        for candidate, belief in zip(run.candidates, whole.tolist(), strict=True):
            for k in segment.atoms_of(candidate.atoms):
                sure[k] = max(sure[k], belief)
        cut = set()
        for k, glyph in enumerate(run.glyphs):
            narrow = glyph.box.width <= NARROW * glyph.box.height
            hopeless = narrow and whole[k] <= HOPELESS
            if glyph.box.width > WIDE * glyph.box.height or (sure[k] < SETTLED and not hopeless):
                cut.add(k)
        which.append(cut)
    return which


def page_box(box: Box, scale: float, width: int, height: int) -> Box:
    """A box of working pixels in whole pixels of the page."""
    left, top = int(box.left / scale), int(box.top / scale)
    right, bottom = min(width, int(np.ceil(box.right / scale))), min(height, int(np.ceil(box.bottom / scale)))
    return Box(min(left, width - 1), min(top, height - 1), max(1, right - left), max(1, bottom - top))
