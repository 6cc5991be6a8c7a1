"""Writing: numbers, signs and words set in a hand, and print set in a font.

A text is first composed into pieces (ink with its place relative to the start of the base line), so that a scene
can size itself by what is written on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from PIL import Image, ImageDraw

from digitize.hands import Alpha, Hand, Pen, Stroke, draw_strokes, fitted, slanted, smooth, trimmed, wave
from digitize.make.canvas import Canvas
from digitize.make.dice import Dice
from digitize.make.stock import Face, Stock

JOINED = 0.35  # share of written words whose letters hang together
# For each sign: size of its larger side, and height of its middle above the base line, both in digit heights.
SIGN_PLACES: dict[str, tuple[float, float]] = {
    ".": (0.09, 0.04),
    ",": (0.26, 0.0),
    "'": (0.25, 0.9),
    ":": (0.5, 0.35),
    "-": (0.5, 0.47),
    "=": (0.55, 0.45),
    "+": (0.65, 0.45),
    "*": (0.5, 0.55),
    "x": (0.55, 0.35),
    "/": (1.35, 0.5),
    "|": (1.1, 0.5),
    "(": (1.15, 0.5),
    ")": (1.15, 0.5),
    "#": (1.0, 0.5),
    "$": (1.25, 0.5),
    "%": (1.0, 0.5),
    "~": (0.5, 0.5),
    "<": (0.6, 0.45),
    ">": (0.6, 0.45),
}
PLAIN_SIGNS: dict[str, tuple[tuple[tuple[float, float], ...], ...]] = {
    ".": (((0.0, 0.0),),),
    ",": (((0.3, 0.0), (0.35, 0.4), (0.0, 1.0)),),
    "'": (((0.2, 0.0), (0.0, 1.0)),),
    ":": (((0.0, 0.0),), ((0.0, 1.0),)),
    "-": (((0.0, 0.0), (1.0, 0.0)),),
    "=": (((0.0, 0.0), (1.0, 0.0)), ((0.0, 0.45), (1.0, 0.45))),
    "+": (((0.0, 0.5), (1.0, 0.5)), ((0.5, 0.0), (0.5, 1.0))),
    "*": (((0.5, 0.0), (0.5, 1.0)), ((0.05, 0.25), (0.95, 0.75)), ((0.05, 0.75), (0.95, 0.25))),
    "x": (((0.0, 0.0), (1.0, 1.0)), ((1.0, 0.0), (0.0, 1.0))),
    "/": (((0.55, 0.0), (0.0, 1.0)),),
    "|": (((0.0, 0.0), (0.0, 1.0)),),
    "(": (((0.25, 0.0), (0.05, 0.25), (0.0, 0.5), (0.05, 0.75), (0.25, 1.0)),),
    ")": (((0.0, 0.0), (0.2, 0.25), (0.25, 0.5), (0.2, 0.75), (0.0, 1.0)),),
    "#": (((0.3, 0), (0.2, 1)), ((0.7, 0), (0.6, 1)), ((0, 0.35), (0.9, 0.3)), ((0, 0.68), (0.9, 0.63))),
    "$": (
        ((0.6, 0.2), (0.3, 0.12), (0.05, 0.28), (0.3, 0.5), (0.6, 0.68), (0.35, 0.88), (0.0, 0.8)),
        ((0.32, 0), (0.3, 1)),
    ),
    "%": (((0.8, 0), (0.1, 1)), ((0.15, 0.05), (0.3, 0.2), (0.15, 0.35), (0.0, 0.2), (0.15, 0.05))),
    "~": (((0, 0.2), (0.25, 0), (0.5, 0.2), (0.75, 0.4), (1, 0.15)),),
    "<": (((0.9, 0), (0, 0.45), (0.9, 0.9)),),
    ">": (((0, 0), (0.9, 0.45), (0, 0.9)),),
}
DESCENDERS, TALL = "gjpqyf", "bdfhklt"
INK_ALPHA = 0.3  # ink this dense keeps neighbours apart


@dataclass(frozen=True, slots=True)
class Spacing:
    """How a hand sets digits one after another; lengths in digit heights.

    Attributes:
        gap: mean distance between neighbours.
        spread: its standard deviation.
        touching: share of neighbours that stand within -0.15 to 0.1 of one another.
        word: width of a blank.
    """

    gap: float = 0.15
    spread: float = 0.06
    touching: float = 0.0
    word: float = 0.6


@dataclass(frozen=True, slots=True)
class Piece:
    """Ink with its place.

    Attributes:
        alpha: the ink.
        left, top: of its corner, relative to the start of the base line, in pixels.
        value: 0 to 9 where it is a true digit, else None.
        group: counts from 0 the numbers of the text, which blanks divide.
    """

    alpha: Alpha = field(repr=False)
    left: float
    top: float
    value: int | None = None
    group: int = 0


def spacing_for(dice: Dice, *, tight: bool = False) -> Spacing:
    """How one hand spaces its digits."""
    if tight:
        return Spacing(dice.between(0.0, 0.25), dice.between(0.02, 0.1), dice.between(0.1, 0.6), dice.between(0.4, 1))
    touching = dice.between(0.05, 0.4) if dice.chance(0.25) else 0.0
    return Spacing(dice.log(0.06, 0.6), dice.between(0.02, 0.1), touching, dice.between(0.5, 1.5))


def compose(
    stock: Stock, dice: Dice, hand: Hand, text: str, height: float, *, spacing: Spacing, rise: float = 0.0
) -> list[Piece]:
    """Set a text of digits, signs and blanks.

    Neighbours are set by the distance between their outlines or between their boxes, either as chance has it, so that
    slanted digits reach over one another as real ones do.

    Args:
        stock: for signs.
        dice: throws.
        hand: who writes.
        text: digits, signs of `SIGN_PLACES`, and blanks, which divide numbers.
        height: of the digits, in pixels.
        spacing: how closely.
        rise: of the base line, y per x (positive goes down).
    """
    pieces: list[Piece] = []
    below, above = round(1.2 * height), round(2.2 * height)
    edge = np.zeros(below + above, np.float32)  # right edge of the ink so far, by row; row `above` is the base line
    right, group, last_left = 0.0, 0, 0.0
    for char in text:
        if char == " ":
            right += height * spacing.word * dice.between(0.7, 1.3)
            edge[:] = right
            group += 1
            continue
        if char.isdigit():
            alpha = hand.draw(int(char), height, dice.rng)
            top = -alpha.shape[0] + height * dice.normal(hand.habits.bounce)
        else:
            alpha, middle = draw_sign(stock, dice, char, height, hand.habits.pen, slant=hand.habits.slant)
            top = -middle - alpha.shape[0] / 2
        if dice.chance(spacing.touching):
            gap, by_outline = height * dice.between(-0.15, 0.1), dice.chance(0.7)
        else:
            gap, by_outline = height * max(0.02, spacing.gap + dice.normal(spacing.spread)), dice.chance(0.5)
        if not pieces:
            gap = 0.0
        rows = np.clip(np.arange(alpha.shape[0]) + round(top) + above, 0, len(edge) - 1)
        mask = alpha > INK_ALPHA
        inked = mask.any(axis=1)
        first = np.where(inked, mask.argmax(axis=1), alpha.shape[1])
        last = np.where(inked, alpha.shape[1] - mask[:, ::-1].argmax(axis=1), 0)
        left = right + gap
        if by_outline and pieces and inked.any():
            left = float((edge[rows] - first)[inked].max()) + gap
            left = max(left, right - 0.4 * height, last_left + 0.3 * height * (alpha.shape[1] > 0.3 * height))
        if pieces and alpha.shape[1] < 0.35 * height:
            left = max(left, right - 0.6 * alpha.shape[1])  # a narrow digit is not written inside another
        value = int(char) if char.isdigit() else None
        pieces.append(Piece(alpha, left, top + rise * left, value, group))
        edge[rows[inked]] = np.maximum(edge[rows[inked]], (left + last)[inked])
        last_left, right = left, max(right, left + alpha.shape[1])
    return pieces


def extent(pieces: list[Piece]) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of the pieces relative to the start of the base line (zeros where there are none)."""
    if not pieces:
        return 0.0, 0.0, 0.0, 0.0
    return (
        min(piece.left for piece in pieces),
        min(piece.top for piece in pieces),
        max(piece.left + piece.alpha.shape[1] for piece in pieces),
        max(piece.top + piece.alpha.shape[0] for piece in pieces),
    )


def place(
    canvas: Canvas, pieces: list[Piece], left: float, baseline: float, tone: float, *, line: int, number: int
) -> int:
    """Put pieces on the canvas; blanks begin a new number.

    Args:
        canvas: where to.
        pieces: what.
        left: where the base line begins, in pixels.
        baseline: its row.
        tone: of the ink.
        line: place in reading order; 0 writes ink that is no true digit.
        number: of the first number within its line.

    Returns:
        The number after the last.
    """
    used = number
    for piece in pieces:
        x, y = left + piece.left, baseline + piece.top
        if piece.value is None or line == 0:
            canvas.ink(piece.alpha, x, y, tone)
        else:
            used = number + piece.group
            canvas.digit(piece.alpha, x, y, tone, (piece.value, line, used))
    return used + 1


def draw_sign(
    stock: Stock, dice: Dice, char: str, height: float, pen: Pen, *, slant: float = 0.0
) -> tuple[Alpha, float]:
    """Draw a sign of `SIGN_PLACES`.

    Returns:
        Its ink, and how far its middle lies above the base line, in pixels.
    """
    size, middle = SIGN_PLACES[char]
    size *= dice.log(0.82 if char in "/|" else 0.7, 1.4)  # shorter ones cannot be told from a 1
    strokes = stock.letter(dice, "x") if char == "x" else None if char == "." else stock.sign(dice, char)
    if strokes is None or dice.chance(0.3):
        plain = [np.array(stroke, np.float32) for stroke in PLAIN_SIGNS[char]]
        if char == "/":  # more or less steep
            plain[0][:, 0] *= dice.between(0.4, 1.4)
        strokes = wave(plain, dice.rng, 0.02)
        if char == "." and dice.chance(0.5):
            strokes = [np.array([[0, 0], [dice.normal(0.5), dice.between(0.2, 1)]], np.float32)]
    strokes = [smooth(stroke * np.float32(size), 2) for stroke in slanted(strokes, 0.5 * slant)]
    # `draw_strokes` measures the pen in heights of its drawing, which here is the digits'.
    alpha = draw_strokes(_at_origin(strokes), height, pen, dice.rng)
    return alpha, height * (middle + dice.normal(0.05))


def draw_freely(dice: Dice, strokes: list[Stroke], unit: float, pen: Pen, *, unevenness: float) -> Alpha:
    """Draw strokes, given in digit heights, as a hand does that is not quite steady.

    Args:
        dice: throws.
        strokes: float32 (K, 2) points each, wherever they lie.
        unit: digit height in pixels.
        pen: what they are drawn with; its width is a share of `unit`.
        unevenness: how far the hand goes astray, in digit heights.
    """
    return draw_strokes(_at_origin(wave(strokes, dice.rng, unevenness)), unit, pen, dice.rng)


def _at_origin(strokes: list[Stroke]) -> list[Stroke]:
    low = np.concatenate(strokes).min(axis=0)
    return [(stroke - low).astype(np.float32) for stroke in strokes]


def compose_word(stock: Stock, dice: Dice, word: str, height: float, pen: Pen, slant: float) -> list[Piece]:
    """Set a word in handwritten letters (from the stock's strokes); characters without strokes are left out.

    Args:
        stock: for letters.
        dice: throws.
        word: letters.
        height: of capitals, in pixels.
        pen: what it is written with; its width is a share of `height`.
        slant: x per y.
    """
    pieces: list[Piece] = []
    right = 0.0
    gap = dice.normal(0.06) + 0.02
    joined = dice.chance(JOINED)
    for char in word:
        strokes = stock.letter(dice, char)
        if strokes is None:
            right += 0.3 * height
            continue
        tall = char.isupper() or char in TALL
        size = (1.0 if tall else 0.85 if char in DESCENDERS else 0.58) * dice.log(0.9, 1.1)
        strokes = fitted(wave(slanted(strokes, slant), dice.rng, 0.012))
        alpha = draw_strokes(strokes, height * size, replace(pen, width=min(0.3, pen.width / size)), dice.rng)
        top = -alpha.shape[0] + (0.3 * height if char in DESCENDERS else 0.0) + height * dice.normal(0.03)
        if joined and pieces:
            pieces.append(_link(dice, pieces[-1].left + pieces[-1].alpha.shape[1], right, height, pen))
        pieces.append(Piece(alpha, right, top))
        right += alpha.shape[1] + height * (gap + dice.normal(0.04))
    return pieces


def _link(dice: Dice, start: float, end: float, height: float, pen: Pen) -> Piece:
    """The stroke that goes on from one letter, whose ink ends at `start`, up to the next, whose begins at `end`."""
    foot, rise = dice.between(0.02, 0.2), dice.between(0.1, 0.4)  # where it begins and how far it goes up, in heights
    length = max(0.1, (end - start) / height + dice.between(0.1, 0.25))
    stroke = np.array([[0, rise], [0.6 * length, 0.8 * rise], [length, 0]], np.float32)
    alpha = draw_freely(dice, [stroke], height, pen, unevenness=0.01)
    return Piece(alpha, start - height * dice.between(0.02, 0.1), -height * (foot + rise))


def print_text(face: Face, text: str) -> Alpha:
    """Set one line of print.

    Returns:
        float32 (H, W) trimmed to the ink; 1 x 1 and empty where the font has nothing for the text.
    """
    left, top, right, bottom = (int(edge) for edge in face.font.getbbox(text))
    if right <= left or bottom <= top:
        return np.zeros((1, 1), np.float32)
    image = Image.new("L", (right - left + 2, bottom - top + 2), 0)
    ImageDraw.Draw(image).text((1 - left, 1 - top), text, fill=255, font=face.font)
    alpha = np.asarray(image, np.float32) / np.float32(255)
    shape = max(1, round(alpha.shape[1] * face.scale)), max(1, round(alpha.shape[0] * face.scale))
    how = cv2.INTER_AREA if face.scale < 1 else cv2.INTER_LINEAR
    return trimmed(cv2.resize(alpha, shape, interpolation=how).astype(np.float32))
