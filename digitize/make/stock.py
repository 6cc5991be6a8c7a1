"""Stock: what sheets are made from. Hands, letters, signs and fonts of one split, loaded once.

Everything is optional but for digits: with MNIST alone hands are MNIST's and signs are drawn as plain lines; without
fonts print is set in the font that Pillow carries.
"""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFont

from digitize import hands
from digitize.copybook import FORMS, Form
from digitize.errors import DatasetError
from digitize.hands import Habits, Hand, Pen, PenSet, Split, Stroke, TileSet
from digitize.make.dice import Dice

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
FACE_SIZES = (20, 44, 100)  # pixels at which fonts are opened; other sizes are scaled, since opening one takes long

PEN_FILES = {"pendigits-orig.tra.gz": "pendigits-tra", "pendigits-orig.tes.gz": "pendigits-tes"}
SCRIPT_NAMES = (
    *("hand", "script", "breip", "delphine", "steve", "humor", "ecolier", "kristi", "isabella", "joscelyn", "ruf"),
    *("dancing", "femke", "leckerli", "lobster", "bwht", "seto", "klee", "yusei", "tomson", "comic", "z003", "gaegu"),
    *("cursive", "chancery", "kiloji", "yoz", "bilbo", "sjfonts", "dkg", "caveat", "kalam", "patrick", "indie"),
)
ODD_NAMES = ("symbol", "dingbat", "d050000l", "emoji", "braille", "icon", "awesome", "barcode", "math", "essays1743")
FONT_VALIDATION = 7  # one font in seven is kept for validation
LEAST_ITEMS = 6  # a pen writer with fewer digits is used only to fill gaps of others
OWN_FORM_HANDS = 0.45  # share of hands that have forms of `copybook`
TILE_HANDS = 0.4  # share of hands that are MNIST's where both sources are there


@dataclass(frozen=True, slots=True)
class Face:
    """A font at a size.

    Attributes:
        font: as opened.
        scale: by which its print is to be scaled.
    """

    font: Font
    scale: float


@dataclass(frozen=True)
class Sources:
    """Where the raw material lies.

    Attributes:
        mnist: folder with MNIST's gzipped IDX files and `writers.npz`, or None.
        hands: folder with `unipen_digits.npz`, `unipen_letters.npz`, `unipen_symbols.npz`, `pendigits-orig.*.gz`
            (each optional), or None.
        fonts: folders or files; `.ttf` and `.otf` below them are used.
    """

    mnist: Path | None = None
    hands: Path | None = None
    fonts: tuple[Path, ...] = ()


@dataclass
class Stock:
    """The material of one split.

    Attributes:
        split: whose writers these are.
        pens, tiles: digits; one may be None.
        letters, signs: by character, the items in `letter_pens` and `sign_pens`.
        prints, scripts: fonts for print, and those that imitate handwriting.
    """

    split: Split
    pens: PenSet | None = field(repr=False)
    tiles: TileSet | None = field(repr=False)
    letter_pens: PenSet | None = field(repr=False)
    sign_pens: PenSet | None = field(repr=False)
    prints: list[Path] = field(repr=False)
    scripts: list[Path] = field(repr=False)

    def __post_init__(self) -> None:
        self.letters = _by_label(self.letter_pens)
        self.signs = _by_label(self.sign_pens)
        self._pen_writers = _writers(self.pens, LEAST_ITEMS)
        self._tile_writers = _writers(self.tiles, LEAST_ITEMS)
        self._pen_items: dict[str, dict[int, NDArray[np.int64]]] = {}
        self._tile_items: dict[str, dict[int, NDArray[np.int64]]] = {}
        self._by_digit = {d: _labelled(self.pens, d) for d in range(10)} if self.pens is not None else {}
        self._tiles_by_digit = {d: _labelled(self.tiles, d) for d in range(10)} if self.tiles is not None else {}

    def hand(self, dice: Dice, habits: Habits) -> Hand:
        """A made-up writer with these habits: a real writer's shapes, gaps filled from the same school.

        Thin pens are given to pen strokes more often, since a tile's strokes cannot be made very thin.
        """
        tile_share = TILE_HANDS * (0.35 if habits.pen.width < 0.07 else 1.0)
        if self.pens is None or (self.tiles is not None and dice.chance(tile_share)):
            writer = dice.pick(self._tile_writers)
            return Hand(habits, None, self.tiles, self._items_of_tiles(writer), writer, _own_forms(dice, habits))
        # Half of the hands from each tablet, though one has far fewer writers.
        wanted = "pendigits" if dice.chance(0.35) else "unipen"
        writers = [writer for writer in self._pen_writers if writer.startswith(wanted)] or self._pen_writers
        writer = dice.pick(writers)
        return Hand(habits, self.pens, None, self._items_of_pens(writer), writer, _own_forms(dice, habits))

    def sign(self, dice: Dice, char: str) -> list[Stroke] | None:
        """Strokes of a sign as somebody wrote it (larger side 1), or None where there is none."""
        if self.sign_pens is None or char not in self.signs:
            return None
        return self.sign_pens.strokes(dice.item(self.signs[char]), unit="side")

    def letter(self, dice: Dice, char: str) -> list[Stroke] | None:
        """Strokes of a letter as somebody wrote it (unit height), or None where there is none."""
        if self.letter_pens is None or char not in self.letters:
            return None
        return self.letter_pens.strokes(dice.item(self.letters[char]), unit="side")

    def font(self, dice: Dice, size: float, *, script: bool = False) -> Face:
        """A font at `size` pixels; those whose digits do not look like digits are passed over."""
        choices = self.scripts if script and self.scripts else self.prints
        opened = next((known for known in FACE_SIZES if known >= size), FACE_SIZES[-1])
        for _ in range(8):
            if not choices:
                break
            path = dice.pick(choices)
            if _is_usable(path):
                return Face(_font(path, opened), size / opened)
        return Face(_fallback_font(opened), size / opened)

    def _items_of_pens(self, writer: str) -> dict[int, NDArray[np.int64]]:
        if writer not in self._pen_items and self.pens is not None:
            own = self.pens.writers == writer
            school = self.pens.donors == self.pens.donors[np.flatnonzero(own)[0]]
            items = {}
            for digit, every in self._by_digit.items():
                mine, like_me = every[own[every]], every[school[every]]
                items[digit] = mine if len(mine) else like_me if len(like_me) else every
            self._pen_items[writer] = items
        return self._pen_items[writer]

    def _items_of_tiles(self, writer: str) -> dict[int, NDArray[np.int64]]:
        if writer not in self._tile_items and self.tiles is not None:
            own = self.tiles.writers == writer
            items = {}
            for digit, every in self._tiles_by_digit.items():
                mine = every[own[every]]
                items[digit] = mine if len(mine) else every
            self._tile_items[writer] = items
        return self._tile_items[writer]


def _own_forms(dice: Dice, habits: Habits) -> dict[int, Form]:
    """The digits that a hand writes in forms of its own, and the forms."""
    return {
        digit: dice.pick(choices).variant(dice.rng) for digit, choices in FORMS.items() if dice.chance(habits.own_forms)
    }


@functools.lru_cache(maxsize=4)
def stock_for(sources: Sources, split: Split) -> Stock:
    """Load the material of one split (kept for the next call).

    Raises:
        DatasetError: there are no digits at all, or a file is not what it should be.
    """
    tiles = None
    if sources.mnist is not None:
        every = hands.read_tiles(sources.mnist)
        tiles = every.take(hands.in_split(every.writers, split))
    pens = letters = signs = None
    if sources.hands is not None:
        found = [
            hands.read_pendigits(sources.hands / name, prefix=prefix)
            for name, prefix in PEN_FILES.items()
            if (sources.hands / name).exists()
        ]
        if (sources.hands / "unipen_digits.npz").exists():
            found.append(hands.read_pens(sources.hands / "unipen_digits.npz", prefix="unipen"))
        if found:
            pens = _of_split(hands.join_pens(found), split)
            pens = pens.take(hands.sane_digits(pens))
        if (sources.hands / "unipen_letters.npz").exists():
            letters = _of_split(hands.read_pens(sources.hands / "unipen_letters.npz", prefix="unipen-letters"), split)
        if (sources.hands / "unipen_symbols.npz").exists():
            signs = _of_split(hands.read_pens(sources.hands / "unipen_symbols.npz", prefix="unipen-symbols"), split)
    if tiles is None and pens is None:
        raise DatasetError(
            f"no digits in {sources.mnist} or {sources.hands}; name a folder with MNIST's files or with pen strokes"
        )
    prints, scripts = _fonts(sources.fonts, split)
    return Stock(split, pens, tiles, letters, signs, prints, scripts)


def _of_split(pens: PenSet, split: Split) -> PenSet:
    return pens.take(hands.in_split(pens.writers, split))


def _by_label(pens: PenSet | None) -> dict[str, NDArray[np.int64]]:
    if pens is None:
        return {}
    return {str(label): np.flatnonzero(pens.labels == label) for label in np.unique(pens.labels)}


def _labelled(digits: PenSet | TileSet | None, digit: int) -> NDArray[np.int64]:
    if digits is None:
        return np.zeros(0, np.int64)
    if isinstance(digits, TileSet):
        return np.flatnonzero(digits.labels == digit)
    return np.flatnonzero(digits.labels == str(digit))


def _writers(digits: PenSet | TileSet | None, least: int) -> list[str]:
    if digits is None:
        return []
    names, counts = np.unique(digits.writers, return_counts=True)
    return [str(name) for name in names[counts >= least]] or [str(name) for name in names]


def _fonts(places: tuple[Path, ...], split: Split) -> tuple[list[Path], list[Path]]:
    """The fonts of a split, for print and imitating handwriting, in the order of their names."""
    paths: list[Path] = []
    for place in places:
        found = [place] if place.is_file() else sorted(place.rglob("*"))
        paths += [path for path in found if path.suffix.lower() in (".ttf", ".otf")]
    prints: list[Path] = []
    scripts: list[Path] = []
    for path in sorted(paths, key=lambda path: path.name):
        name = f"{path.parent.name}/{path.stem}".lower()
        kept = zlib.crc32(path.stem.encode()) % FONT_VALIDATION == 0
        if any(odd in name for odd in ODD_NAMES) or kept != (split == "validation"):
            continue
        (scripts if any(known in name for known in SCRIPT_NAMES) else prints).append(path)
    return prints, scripts


@functools.lru_cache(maxsize=1024)
def _font(path: Path, size: int) -> Font:
    return ImageFont.truetype(str(path), size)


@functools.lru_cache(maxsize=64)
def _fallback_font(size: int) -> Font:
    return ImageFont.load_default(size)


@functools.lru_cache(maxsize=2048)
def _is_usable(path: Path) -> bool:
    """Whether the font has ten digits and letters, each with a shape of its own."""
    try:
        font = ImageFont.truetype(str(path), 24)
        shapes = {bytes(font.getmask(char)) for char in "0123456789Aan"}
        sizes = [font.getmask(char).size for char in "0123456789"]
    except (OSError, ValueError):
        return False
    return len(shapes) == 13 and all(height > 6 and width > 2 for width, height in sizes)


def pen_for(dice: Dice, *, width: float | None = None) -> Pen:
    """A pen: mostly ballpoints, then felt tips, pencils, fountain pens and pens that run dry."""
    weights: dict[hands.PenKind, float] = {"ballpoint": 48, "felt": 17, "pencil": 13, "fountain": 12, "dry": 10}
    kind = dice.weighted(weights)
    low, high = {"felt": (0.1, 0.22), "fountain": (0.06, 0.14), "pencil": (0.04, 0.12)}.get(kind, (0.03, 0.13))
    return Pen(
        kind,
        width=width if width is not None else dice.log(low, high),
        pressure=dice.between(0.0, 0.25) if dice.chance(0.7) else 0.0,
        angle=dice.between(0.4, 1.2),
        grain=dice.between(0.25, 0.8) if kind == "pencil" else dice.between(0, 0.2) if dice.chance(0.3) else 0.0,
    )


def habits_for(dice: Dice, *, width: float | None = None) -> Habits:
    """Habits of a made-up writer."""
    return Habits(
        pen=pen_for(dice, width=width),
        slant=dice.normal(0.14) + 0.03,
        aspect=dice.log(0.75, 1.25),
        unevenness=dice.log(0.02, 0.14),
        bounce=dice.log(0.015, 0.12),
        bars=0.85 if dice.chance(0.25) else 0.0,
        flags=0.85 if dice.chance(0.22) else 0.0,
        slashes=0.8 if dice.chance(0.02) else 0.0,
        loops=0.85 if dice.chance(0.22) else 0.0,
        openings=0.85 if dice.chance(0.25) else 0.0,
        bare=0.85 if dice.chance(0.25) else 0.0,
        own_forms=dice.between(0.1, 0.7) if dice.chance(OWN_FORM_HANDS) else 0.0,
        zeros=dice.between(0.5, 0.85) if dice.chance(0.12) else 1.0,
    )
