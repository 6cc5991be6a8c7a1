"""Notes: lines of numbers, sums, prose, photos of them, and dirt. Digits on paper without a form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from digitize.hands import draw_strokes, fitted, slanted
from digitize.make.canvas import Canvas
from digitize.make.dice import Dice
from digitize.make.forms import puzzle, table
from digitize.make.paint import Rule, bar_code, blot, disc, draw_frame, draw_rule, rule_for, scribble, straight
from digitize.make.scene import (
    Scene,
    Writer,
    any_word,
    device_for,
    label,
    paper_lines,
    tone_for,
    unit_for,
    writer_for,
)
from digitize.make.stock import Stock, habits_for
from digitize.make.writing import (
    Piece,
    Spacing,
    compose,
    compose_word,
    draw_sign,
    extent,
    place,
    print_text,
    spacing_for,
)


def lines(stock: Stock, dice: Dice, writer: Writer | None = None) -> Scene:
    """Lines or columns of numbers on blank, ruled or squared paper."""
    writer = writer or writer_for(stock, dice, unit_for(dice, 13, 50))
    unit = writer.unit
    rows = dice.whole(1, 4) if dice.chance(0.85) else dice.whole(5, 10) if dice.chance(0.8) else dice.whole(11, 24)
    columns = dice.weighted({1: 5, 2: 3, 3: 1})
    spacing = spacing_for(dice, tight=dice.chance(0.25))
    pitch = unit * dice.log(1.25, 2.6)
    rise = dice.normal(0.03)
    tally = dice.chance(0.35)
    texts = []
    for _ in range(rows):
        row = []
        for _ in range(columns):
            if tally:
                row.append(dice.digits(dice.whole(1, 3)))
            else:
                words = [dice.digits(dice.whole(1, 6)) for _ in range(dice.whole(1, 2 if columns > 1 else 3))]
                text = " ".join(words)
                row.append(text + dice.pick(("", "", "", ",", ".", "-")) if dice.chance(0.3) else text)
        texts.append(row)
    composed = [
        [compose(stock, dice, writer.hand, text, unit, spacing=spacing, rise=rise) for text in row] for row in texts
    ]
    return in_rows(stock, dice, writer, composed, pitch=pitch, rise=rise)


def in_rows(
    stock: Stock, dice: Dice, writer: Writer, composed: list[list[list[Piece]]], *, pitch: float, rise: float
) -> Scene:
    """Write what was composed, by row and column, on blank, ruled or squared paper.

    Args:
        stock: for a printed label.
        dice: throws.
        writer: whose ink it is.
        composed: pieces by row and column; every row holds a digit.
        pitch: from base line to base line, in pixels.
        rise: of the base lines, y per x, as it was composed with.
    """
    unit, columns = writer.unit, len(composed[0])
    room = max(extent(pieces)[2] for row in composed for pieces in row)
    step = room + unit * dice.between(1.2, 3)
    margin = unit * dice.between(0.5, 1.5)
    canvas = Canvas(columns * step + 2 * margin, len(composed) * pitch + 2 * margin + unit)
    bases = [margin + unit + k * pitch for k in range(len(composed))]
    ruled = dice.weighted({"blank": 4.0, "ruled": 3.0, "squared": 1.5, "feet": 1.5})
    paper_lines(canvas, dice, unit, ruled, bases)
    right_bound = dice.chance(0.3)
    for k, base in enumerate(bases):
        number = 1
        for column, pieces in enumerate(composed[k]):
            x0, _, x1, _ = extent(pieces)
            left = margin + column * step - x0 + (room - (x1 - x0) if right_bound else 0) + unit * dice.normal(0.15)
            number = place(
                canvas,
                pieces,
                left,
                base + rise * column * step + unit * dice.normal(0.05),
                writer.tone,
                line=k + 1,
                number=number,
            )
    if dice.chance(0.15):
        label(canvas, stock, dice, margin, 0.8 * margin, unit * dice.between(0.4, 0.9))
    tilt = 0.0
    if dice.chance(0.5):
        tilt = dice.normal(2.5) if dice.chance(0.6) else dice.between(-10, 10)
    return Scene(canvas, unit, writer.stroke, writer.tone, device_for(dice, copy=0.12, low=0.25), tilt=tilt)


def sums(stock: Stock, dice: Dice) -> Scene:
    """Sums: digits among operators, in a row or one below the other over a rule."""
    unit = unit_for(dice, 16, 60)
    writer = writer_for(stock, dice, unit)
    spacing = replace(spacing_for(dice), word=dice.between(0.3, 0.8))
    if dice.chance(0.3):
        return _column_sum(stock, dice, writer, spacing)
    rows = dice.whole(1, 4)
    composed = []
    for _ in range(rows):
        terms = [dice.digits(dice.whole(1, 3)) for _ in range(dice.whole(2, 3))]
        text = terms[0]
        for term in terms[1:]:
            operator = dice.pick("+-x/:*+-")
            text += f" {operator} {term}" if dice.chance(0.7) else f"{operator}{term}"
        if dice.chance(0.15):
            text = f"({text})"
        if dice.chance(0.75):
            text += " = " + (dice.digits(dice.whole(1, 4)) if dice.chance(0.8) else "")
        composed.append(compose(stock, dice, writer.hand, text.strip(), unit, spacing=spacing, rise=dice.normal(0.03)))
    pitch = unit * dice.log(1.4, 2.6)
    margin = unit * dice.between(0.4, 1.4)
    canvas = Canvas(max(extent(pieces)[2] for pieces in composed) + 2 * margin, rows * pitch + 2 * margin + 0.3 * unit)
    bases = [margin + unit + k * pitch for k in range(rows)]
    paper_lines(canvas, dice, unit, dice.weighted({"blank": 6.0, "ruled": 1.5, "squared": 1.5}), bases)
    for row, pieces in enumerate(composed):
        place(canvas, _renumbered(pieces), margin, bases[row], writer.tone, line=row + 1, number=1)
    tilt = dice.normal(3) if dice.chance(0.4) else 0.0
    return Scene(canvas, unit, writer.stroke, writer.tone, device_for(dice, copy=0.12, low=0.2), tilt=tilt)


def _renumbered(pieces: list[Piece]) -> list[Piece]:
    """Pieces in which a sign, too, begins a new number."""
    made: list[Piece] = []
    group, open_number, last = 0, False, 0
    for piece in pieces:
        if piece.value is None or piece.group != last:
            group += open_number
            open_number = False
        last = piece.group
        if piece.value is not None:
            open_number = True
        made.append(replace(piece, group=group))
    return made


def _column_sum(stock: Stock, dice: Dice, writer: Writer, spacing: Spacing) -> Scene:
    """Numbers one below the other, flush right, a rule, the result."""
    unit = writer.unit
    count = dice.whole(2, 4)
    texts = [dice.digits(dice.whole(1, 4)) for _ in range(count)] + [dice.digits(dice.whole(1, 5))]
    composed = [compose(stock, dice, writer.hand, text, unit, spacing=spacing) for text in texts]
    room = max(extent(pieces)[2] for pieces in composed)
    pitch, margin = unit * dice.log(1.2, 1.8), unit * dice.between(0.4, 1.2)
    canvas = Canvas(room + 2 * margin + 1.2 * unit, (count + 1) * pitch + 2 * margin + 0.5 * unit)
    for row, pieces in enumerate(composed):
        base = margin + unit + row * pitch + (0.3 * unit if row == count else 0)
        left = margin + 1.2 * unit + room - extent(pieces)[2]
        place(canvas, pieces, left, base, writer.tone, line=row + 1, number=1)
        if row == count - 1:
            mark, rise = draw_sign(stock, dice, dice.pick("+-x"), unit, writer.habits.pen)
            canvas.ink(mark, margin, base - rise - mark.shape[0] / 2, writer.tone)
            rule = Rule(writer.stroke, writer.tone, rough=0.3 * dice.between(0, 1))
            draw_rule(
                canvas, dice, rule, across=True, at=base + 0.2 * unit, start=margin, end=canvas.width - margin * 0.6
            )
    return Scene(canvas, unit, writer.stroke, writer.tone, device_for(dice, copy=0.12, low=0.2))


def prose(stock: Stock, dice: Dice) -> Scene:
    """Text without a digit to report: printed, in a script font, or handwritten; digits inside print do not count."""
    unit = unit_for(dice, 11, 40)
    habits = habits_for(dice)
    habits = replace(habits, pen=replace(habits.pen, width=min(0.2, max(habits.pen.width, 0.9 / unit))))
    tone = tone_for(dice)
    width, rows = unit * dice.between(5, 22), dice.whole(1, 6)
    if dice.chance(0.04):
        width, rows = unit * dice.between(25, 40), dice.whole(8, 24)
    pitch = unit * dice.log(1.15, 2.2)
    canvas = Canvas(width, rows * pitch + unit)
    written = stock.letters and dice.chance(0.45)
    font = stock.font(dice, unit * dice.between(0.8, 1.4), script=dice.chance(0.35))
    style = dice.pick(("words", "words", "words", "capitals", "dates"))
    paper_lines(
        canvas,
        dice,
        unit,
        dice.weighted({"blank": 6.0, "ruled": 2.0, "squared": 0.7}),
        [unit * 1.2 + k * pitch for k in range(rows)],
    )
    for row in range(rows):
        base, left = unit * 1.2 + row * pitch, unit * dice.between(-0.5, 1.5)
        if not written:
            alpha = print_text(font, " ".join(print_word(dice, style) for _ in range(int(width / unit / 2) + 1)))
            canvas.ink(alpha, left, base - alpha.shape[0], tone)
            continue
        while left < width:
            if dice.chance(0.06) and stock.signs:
                sign = dice.pick([known for known in stock.signs if known not in ".-|\\/()[]"])
                strokes = stock.sign(dice, sign)
                if strokes is not None:
                    alpha = draw_strokes(fitted(slanted(strokes, habits.slant)), unit, habits.pen, dice.rng)
                    canvas.ink(alpha, left, base - alpha.shape[0], tone)
                    left += alpha.shape[1] + 0.4 * unit
                continue
            word = any_word(dice)
            if style == "capitals":
                word = word.upper()
            elif dice.chance(0.15):
                word = word.capitalize()
            if dice.chance(0.08):
                word = dice.pick("acdefhkmnprtuvwxyACDEFHKLMNPRTUVWXY")  # alone, others may be meant as digits
            pieces = compose_word(stock, dice, word, unit, habits.pen, habits.slant)
            if not pieces:
                left += unit
                continue
            place(canvas, pieces, left, base, tone, line=0, number=0)
            left += extent(pieces)[2] + unit * dice.between(0.3, 0.8)
    tilt = dice.normal(3) if dice.chance(0.4) else 0.0
    device = device_for(dice, copy=0.2, low=0.25)
    return Scene(canvas, unit, habits.pen.width * unit if written else 0.1 * unit, tone, device, tilt=tilt)


def print_word(dice: Dice, style: str) -> str:
    """A word as print has it, sometimes with digits among letters, in dates or references."""
    if (style == "dates" and dice.chance(0.4)) or dice.chance(0.04):
        return dice.pick(
            (
                f"{dice.whole(1, 31)}.{dice.whole(1, 12)}.{dice.whole(1900, 2030)}",
                f"{dice.whole(1, 12)}/{dice.whole(10, 99)}",
                f"({dice.whole(1, 99)})",
                f"No.{dice.whole(1, 999)}",
                f"§{dice.whole(1, 99)}a",
                f"A{dice.whole(1, 9)}-{dice.digits(4)}",
                f"{dice.whole(1, 12)}:{dice.whole(10, 59)}h",
            )
        )
    word = any_word(dice)
    if style == "capitals":
        return word.upper()
    return word.capitalize() if dice.chance(0.15) else word + dice.pick(("", "", "", "", ",", ".", ";"))


def photo(stock: Stock, dice: Dice) -> Scene:
    """Numbers on paper as a phone sees them."""
    makers: dict[Callable[[Stock, Dice], Scene], float] = {lines: 5, table: 2, sums: 2, puzzle: 1.5}
    inner = dice.weighted(makers)(stock, dice)
    canvas = inner.canvas
    if inner.tilt:
        canvas.tilt(inner.tilt)
    surround = dice.chance(0.35)
    pad = inner.unit * (dice.between(1, 6) if surround else dice.between(0.2, 3))
    width, height = canvas.width + 2 * pad, canvas.height + 2 * pad
    scale = min(1.0, 900 / max(width, height)) if inner.unit > 24 else 1.0
    corners = np.array([[0, 0], [canvas.width, 0], [canvas.width, canvas.height], [0, canvas.height]], np.float32)
    wobble = np.array([[dice.normal(0.35), dice.normal(0.35)] for _ in range(4)], np.float32) * inner.unit
    there = (corners + wobble + np.float32(pad)) * np.float32(scale)
    matrix: NDArray[np.float64] = np.asarray(cv2.getPerspectiveTransform(corners, there), np.float64)
    canvas.warp(matrix, (max(8, round(width * scale)), max(8, round(height * scale))))
    return replace(
        inner, unit=inner.unit * scale, stroke=inner.stroke * scale, device="photo", surround=surround, tilt=0.0
    )


def dirt(stock: Stock, dice: Dice) -> Scene:
    """Paper with dirt on it: no digits, or a few."""
    unit = unit_for(dice, 14, 45)
    writer = writer_for(stock, dice, unit)
    canvas = Canvas(unit * dice.between(3, 14), unit * dice.between(2, 8))
    for _ in range(dice.whole(0, 6)):
        spoil_with(canvas, stock, dice, writer)
    if dice.chance(0.3):
        pieces = compose(stock, dice, writer.hand, dice.digits(dice.whole(1, 3)), unit, spacing=spacing_for(dice))
        x0, y0, x1, y1 = extent(pieces)
        if x1 - x0 < canvas.width and y1 - y0 < canvas.height:
            left = dice.between(0, canvas.width - (x1 - x0)) - x0
            place(canvas, pieces, left, dice.between(0, canvas.height - (y1 - y0)) - y0, writer.tone, line=1, number=1)
    return Scene(canvas, unit, writer.stroke, writer.tone, device_for(dice), pattern=dice.chance(0.15))


def spoil_with(canvas: Canvas, stock: Stock, dice: Dice, writer: Writer) -> None:
    """One piece of dirt somewhere: blot, scribble, line, stamp, staple, punch hole, crease, edge shadow, specks."""
    unit = writer.unit
    x, y = dice.between(-0.1, 1) * canvas.width, dice.between(-0.1, 1) * canvas.height
    kind = dice.pick(
        ("blot", "scribble", "line", "stamp", "staple", "hole", "crease", "edge", "specks", "word", "line")
    )
    tone = dice.between(0, 0.8)
    if kind == "blot":
        canvas.ink(blot(dice, unit * dice.log(0.08, 2.5)), x, y, tone)
    elif kind == "scribble":
        canvas.ink(scribble(dice, unit * dice.log(0.6, 4), writer.stroke), x, y, writer.tone)
    elif kind == "line":
        canvas.ink(straight(dice, unit * dice.log(0.3, 8), writer.stroke * dice.log(0.6, 1.6)), x, y, writer.tone)
    elif kind == "stamp":
        rule = replace(rule_for(dice, unit, low=0.04, high=0.12), tone=dice.between(0.4, 0.75), rough=0.6)
        alpha = print_text(
            stock.font(dice, unit * dice.between(0.4, 0.9)), " ".join(any_word(dice).upper() for _ in range(2))
        )
        pad = 0.3 * unit
        draw_frame(canvas, dice, rule, (x - pad, y - pad, x + alpha.shape[1] + pad, y + alpha.shape[0] + pad))
        canvas.ink(alpha, x, y, rule.tone)
    elif kind == "staple":
        canvas.ink(straight(dice, unit * dice.between(0.5, 1.2), max(1, 0.06 * unit)), x, y, dice.between(0, 0.3))
    elif kind == "hole":
        canvas.ink(disc(unit * dice.between(0.5, 1.4)), x, y, dice.between(0, 0.6))
    elif kind == "crease":
        across = dice.chance(0.5)
        at = y if across else x
        draw_rule(
            canvas,
            dice,
            Rule(dice.between(1, 3), dice.between(0.5, 0.9), "broken"),
            across=across,
            at=at,
            start=0,
            end=9999,
        )
    elif kind == "edge":
        reach = max(2, round(unit * dice.between(0.1, 1)))
        fade = np.linspace(dice.between(0, 0.6), 1, reach, dtype=np.float32)
        side = dice.whole(0, 3)
        if side < 2:
            reach = min(reach, canvas.width)
            view = canvas.light[:, :reach] if side == 0 else canvas.light[:, ::-1][:, :reach]
            view *= fade[None, :reach]
        else:
            reach = min(reach, canvas.height)
            view = canvas.light[:reach] if side == 2 else canvas.light[::-1][:reach]
            view *= fade[:reach, None]
    elif kind == "bars":
        canvas.ink(bar_code(dice, unit), x, y, dice.between(0, 0.4))
    elif kind == "word" and stock.letters:
        pieces = compose_word(
            stock, dice, any_word(dice), unit * dice.between(0.6, 1.1), writer.habits.pen, writer.habits.slant
        )
        place(canvas, pieces, x, y, writer.tone, line=0, number=0)
    else:
        for _ in range(dice.whole(1, 8)):
            speck = blot(dice, max(2.0, unit * dice.log(0.04, 0.2)))
            canvas.ink(speck, dice.between(0, canvas.width), dice.between(0, canvas.height), tone)
