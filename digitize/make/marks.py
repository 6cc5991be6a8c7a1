"""Marks: numbers among signs and words; what is ticked, crossed, ringed or tallied. Much of it looks like digits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from digitize.make.canvas import Canvas
from digitize.make.dice import Dice
from digitize.make.forms import grouped
from digitize.make.notes import in_rows
from digitize.make.paint import Rule, disc, draw_frame, ring, rule_for
from digitize.make.scene import Scene, Writer, any_word, device_for, unit_for, writer_for
from digitize.make.stock import Stock
from digitize.make.writing import (
    Piece,
    Spacing,
    compose,
    compose_word,
    draw_freely,
    extent,
    place,
    print_text,
    spacing_for,
)

UNITS = ("kg", "g", "cm", "m", "mm", "km", "ml", "dl", "h", "min", "kWh", "pcs", "Stk", "am", "pm", "th", "C", "F")
MANNERS = {"date": 4.0, "pair": 3.0, "money": 2.0, "phone": 1.5, "sign": 1.5, "measure": 2.0, "named": 5.0}
TALLY = 5  # strokes of a group, the last across the others


def signed(stock: Stock, dice: Dice) -> Scene:
    """Lines of dates, fractions, prices, measures, numbers behind words: digits among signs and letters."""
    writer = writer_for(stock, dice, unit_for(dice, 13, 50))
    spacing = spacing_for(dice, tight=dice.chance(0.2))
    rise = dice.normal(0.03)
    pitch = writer.unit * dice.log(1.4, 2.8)
    manner = dice.weighted(MANNERS)
    columns = dice.weighted({1: 5, 2: 3, 3: 1})
    composed = [
        [
            _entry(stock, dice, writer, manner if dice.chance(0.7) else dice.weighted(MANNERS), spacing, rise)
            for _ in range(columns)
        ]
        for _ in range(dice.whole(1, 4) if dice.chance(0.8) else dice.whole(5, 9))
    ]
    return in_rows(stock, dice, writer, composed, pitch=pitch, rise=rise)


def _entry(stock: Stock, dice: Dice, writer: Writer, manner: str, spacing: Spacing, rise: float) -> list[Piece]:
    """One entry: its digits, signs and words, sometimes underlined or ringed."""
    pieces: list[Piece] = []
    if manner == "named":
        for _ in range(dice.whole(1, 2)):
            _append(pieces, _word(stock, dice, writer), writer.unit * dice.between(0.3, 0.9))
        text = dice.digits(dice.whole(1, 4))
    elif manner == "measure":
        text = dice.digits(dice.whole(1, 3)) + (f"{dice.pick('.,')}{dice.digits(1)}" if dice.chance(0.4) else "")
    else:
        text = _text(dice, manner)
    if manner in ("date", "pair") and dice.chance(0.12):
        _between_print(stock, dice, writer, text, spacing, pieces)
    else:
        written = compose(stock, dice, writer.hand, text, writer.unit, spacing=spacing, rise=rise)
        _append(pieces, written, writer.unit * dice.between(0.3, 1.2))
    digits = [piece for piece in pieces if piece.value is not None]
    if manner == "measure" or (manner == "named" and dice.chance(0.2)):
        word = dice.pick(UNITS) if manner == "measure" else None
        _append(pieces, _word(stock, dice, writer, word), writer.unit * dice.between(0.1, 0.7))
    if dice.chance(0.1):
        pieces.append(_stress(dice, writer, extent(digits)))
    return _counted(pieces)


def _text(dice: Dice, manner: str) -> str:
    """Digits and signs as dates, pairs, prices, telephone numbers, or digits with a sign have them."""
    if manner == "date":
        day, month = str(dice.whole(1, 31)), str(dice.whole(1, 12))
        if dice.chance(0.6):
            day, month = day.zfill(2), month.zfill(2)
        year = str(dice.whole(1930, 2040)) if dice.chance(0.5) else f"{dice.whole(0, 99):02d}"
        parts = dice.pick(([day, month, year], [month, day, year], [year, month, day], [day, month]))
        return dice.weighted({"/": 6.0, "-": 2.0, ".": 2.0, " / ": 0.7, "|": 0.3}).join(parts)
    if manner == "pair":
        first, second = dice.digits(dice.whole(1, 3)), dice.digits(dice.whole(1, 3))
        if dice.chance(0.2):
            first, second = str(dice.whole(0, 23)), f"{dice.whole(0, 59):02d}"
        return first + dice.weighted({"/": 6.0, ":": 2.0, "-": 1.0, "x": 1.0, " / ": 0.7}) + second
    if manner == "money":
        cents = dice.pick(".,") + dice.digits(2) if dice.chance(0.7) else dice.pick(("", ".-", "/-", ",--", "-"))
        return dice.pick(("", "", "$", "$", "+", "-")) + grouped(dice, dice.digits(dice.whole(1, 5))) + cents
    if manner == "phone":
        first, last = dice.digits(dice.whole(2, 4)), dice.digits(dice.whole(3, 6))
        return dice.pick((f"{first}-{last}", f"{first}/{last}", f"({first}) {last}", f"+{first} {last}"))
    number = dice.digits(dice.whole(1, 4))
    return dice.pick(
        (f"#{number}", f"({number})", f"{number})", f"{number}.", f"~{number}", f"<{number}", f">{number}")
    ) + ("%" if dice.chance(0.3) else "")


def _word(stock: Stock, dice: Dice, writer: Writer, word: str | None = None) -> list[Piece]:
    """A word in the writer's letters: `word`, or any."""
    if word is None:
        word = any_word(dice)
        word = word.upper() if dice.chance(0.15) else word.capitalize() if dice.chance(0.4) else word
    height = writer.unit * dice.between(0.8, 1.1)
    return compose_word(stock, dice, word, height, writer.habits.pen, writer.habits.slant)


def _append(pieces: list[Piece], more: list[Piece], gap: float) -> None:
    """Set more pieces behind, `gap` pixels from those that are there."""
    if not more:
        return
    shift = extent(pieces)[2] + gap - extent(more)[0] if pieces else 0.0
    group = max((piece.group for piece in pieces), default=-1) + 1
    pieces.extend(replace(piece, left=piece.left + shift, group=piece.group + group) for piece in more)


def _between_print(stock: Stock, dice: Dice, writer: Writer, text: str, spacing: Spacing, pieces: list[Piece]) -> None:
    """Write the numbers of a text between slashes that the form has printed."""
    face = stock.font(dice, writer.unit * dice.between(0.9, 1.5))
    numbers = "".join(char if char.isdigit() else " " for char in text).split()
    for k, number in enumerate(numbers):
        if k:
            slash = print_text(face, "/")
            _append(
                pieces, [Piece(slash, 0.0, -slash.shape[0] + 0.15 * writer.unit)], writer.unit * dice.between(0.1, 0.5)
            )
        written = compose(stock, dice, writer.hand, number, writer.unit, spacing=spacing)
        _append(pieces, written, writer.unit * dice.between(0.1, 0.5))


def _stress(dice: Dice, writer: Writer, box: tuple[float, float, float, float]) -> Piece:
    """A line or two beneath digits, or a ring around them."""
    left, top, right, bottom = box
    unit = writer.unit
    if dice.chance(0.5):
        reach = [unit * dice.between(0.3, 0.7) + writer.stroke for _ in range(4)]
        width, height = right - left + reach[0] + reach[2], bottom - top + reach[1] + reach[3]
        alpha = ring(width, height, writer.stroke)
        return Piece(alpha, left - reach[0], top - reach[1])
    length = (right - left) / unit + dice.between(0, 0.6)
    strokes = [np.array([[0, 0], [length, dice.normal(0.05)]], np.float32)]
    if dice.chance(0.4):
        strokes.append(np.array([[0, 0.2], [length, 0.2 + dice.normal(0.05)]], np.float32))
    alpha = draw_freely(dice, strokes, unit, writer.habits.pen, unevenness=0.02)
    return Piece(alpha, left - unit * dice.between(0, 0.3), bottom + unit * dice.between(0.08, 0.25))


def _counted(pieces: list[Piece]) -> list[Piece]:
    """The pieces with the numbers that have digits counted from 0 without a gap."""
    groups = {group: k for k, group in enumerate(sorted({p.group for p in pieces if p.value is not None}))}
    return [replace(piece, group=groups.get(piece.group, 0)) for piece in pieces]


def choices(stock: Stock, dice: Dice) -> Scene:
    """Circles or boxes to choose from, some chosen, with words in print; beside them numbers, tallies, punch holes."""
    unit = unit_for(dice, 13, 45)
    writer = writer_for(stock, dice, unit)
    rows, options = dice.whole(1, 6), dice.whole(1, 6)
    names = unit * dice.between(2, 6) if dice.chance(0.6) else 0.0
    step, pitch = unit * dice.log(1.3, 3), unit * dice.log(1.3, 2.6)
    room = 5 * unit if dice.chance(0.4) else 0.0  # for numbers
    margin = unit * dice.between(0.4, 2)
    tallies = dice.whole(1, 2) if dice.chance(0.3) else 0
    width = names + options * step + room + 2 * margin
    canvas = Canvas(width, (rows + tallies) * pitch + 2 * margin + 0.5 * unit)
    face = stock.font(dice, unit * dice.between(0.45, 0.9))
    rule = rule_for(dice, unit, low=0.03, high=0.12)
    round_ones = dice.chance(0.8)
    size = unit * dice.log(0.4, 1.2), unit * dice.log(0.4, 1.2)
    if dice.chance(0.75):
        size = size[0], size[0]
    lettered, chosen = dice.chance(0.2), dice.between(0.1, 0.6)
    spacing = spacing_for(dice)
    for row in range(rows):
        base = margin + unit + row * pitch
        if names:
            alpha = print_text(face, any_word(dice).capitalize())[:, : max(1, int(names))]
            canvas.ink(alpha, margin, base - alpha.shape[0], 0.2)
        for column in range(options):
            middle = margin + names + (column + 0.5) * step, base - 0.4 * unit
            draw_option(canvas, dice, rule, middle, size, round_one=round_ones)
            if lettered:
                alpha = print_text(face, "ABCDEF"[column])
                canvas.ink_around(alpha, middle, 0.3)
            if dice.chance(chosen):
                choose(canvas, dice, writer, middle, min(size))
        if room:
            pieces = compose(stock, dice, writer.hand, dice.digits(dice.whole(1, 4)), unit, spacing=spacing)
            left = margin + names + options * step + unit * dice.between(0.3, 0.8)
            place(canvas, pieces, left, base, writer.tone, line=row + 1, number=1)
    for row in range(tallies):
        _tally(canvas, dice, writer, margin, margin + unit + (rows + row) * pitch)
    for _ in range(dice.whole(1, 3) if dice.chance(0.3) else 0):
        radius = unit * dice.between(0.4, 1.2)
        canvas.ink(disc(radius), dice.between(-0.3, 0.3) * margin, dice.between(0, canvas.height), dice.between(0, 0.6))
    tilt = dice.normal(2) if dice.chance(0.4) else 0.0
    return Scene(canvas, unit, writer.stroke, writer.tone, device_for(dice, copy=0.25, low=0.2), tilt=tilt)


def draw_option(
    canvas: Canvas, dice: Dice, rule: Rule, middle: tuple[float, float], size: tuple[float, float], *, round_one: bool
) -> None:
    """A printed circle, ellipse or box around its middle; `size` is width and height in pixels."""
    left, top = middle[0] - size[0] / 2, middle[1] - size[1] / 2
    if not round_one:
        draw_frame(canvas, dice, rule, (left, top, left + size[0], top + size[1]))
        return
    canvas.ink_around(ring(size[0], size[1], rule.width), middle, rule.tone)


def choose(canvas: Canvas, dice: Dice, writer: Writer, middle: tuple[float, float], size: float) -> None:
    """Tick, cross, fill or ring what stands around a middle; `size` in pixels."""
    kind = dice.weighted({"tick": 4.0, "cross": 2.0, "dot": 1.5, "ring": 0.7})
    if kind == "dot":
        alpha = disc(size * dice.between(0.2, 0.5))
    elif kind == "ring":
        alpha = ring(size * dice.between(1.3, 2.2), size * dice.between(1.3, 2.0), writer.stroke)
    else:
        if kind == "tick":
            bend, end = (dice.between(0.2, 0.45), 1.0), (dice.between(0.7, 1.1), dice.between(-0.2, 0.1))
            lines = [[(0.0, dice.between(0.3, 0.65)), bend, end]]
        else:
            lines = [[(0.0, 0.0), (1.0, 1.0)], [(dice.between(0.8, 1.1), 0.0), (0.0, dice.between(0.8, 1.1))]]
        height = size / writer.unit * dice.between(0.8, 1.6)
        strokes = [np.array(line, np.float32) * np.float32(height) for line in lines]
        alpha = draw_freely(dice, strokes, writer.unit, writer.habits.pen, unevenness=0.02)
    off = size * dice.normal(0.12), size * dice.normal(0.12)
    canvas.ink_around(alpha, (middle[0] + off[0], middle[1] + off[1]), writer.tone)


def _tally(canvas: Canvas, dice: Dice, writer: Writer, left: float, base: float) -> None:
    """Groups of four uprights with a fifth stroke across them; what is left over may follow a full group only."""
    unit = writer.unit
    step, slope = dice.between(0.2, 0.4), dice.normal(0.12)
    groups = dice.whole(1, 4)
    more = dice.whole(1, TALLY - 1) if dice.chance(0.5) else 0
    for k in range(groups + bool(more)):
        count = TALLY - 1 if k < groups else more
        strokes = [
            np.array(
                [[n * step + slope + dice.normal(0.03), dice.normal(0.05)], [n * step, 1 + dice.normal(0.05)]],
                np.float32,
            )
            for n in range(count)
        ]
        if k < groups:
            ends = [[-0.2, dice.between(0.6, 1)], [(TALLY - 2) * step + 0.3, dice.between(0, 0.4)]]
            strokes.append(np.array(ends, np.float32))
        alpha = draw_freely(dice, strokes, unit, writer.habits.pen, unevenness=0.01)
        canvas.ink(alpha, left, base - alpha.shape[0], writer.tone)
        left += alpha.shape[1] + unit * dice.between(0.4, 1)
