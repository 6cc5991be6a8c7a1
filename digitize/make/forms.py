"""Forms: amounts, boxed fields, combs, single cells, tables and puzzles. Digits among printed lines."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from digitize.hands import draw_strokes
from digitize.make.canvas import Canvas
from digitize.make.dice import Dice
from digitize.make.paint import Rule, draw_frame, draw_rule, rule_for, scribble
from digitize.make.scene import CURRENCIES, LABELS, Scene, Writer, any_word, device_for, label, unit_for, writer_for
from digitize.make.stock import Face, Stock
from digitize.make.writing import (
    Piece,
    Spacing,
    compose,
    compose_word,
    draw_freely,
    draw_sign,
    extent,
    place,
    print_text,
    spacing_for,
)

LONE_ONES = 0.1  # share of 1s in cells beyond their due: alone in its cell, a 1 is what passes for a line
BOXED = 0.2  # share of tables with a box for each digit


def amount(stock: Stock, dice: Dice) -> Scene:
    """A courtesy amount cut out of a cheque."""
    unit = unit_for(dice, 16, 52)
    writer = writer_for(stock, dice, unit, faint=0.3)
    text = grouped(dice, dice.digits(dice.weighted({2: 1, 3: 2, 4: 4, 5: 4, 6: 3, 7: 1, 8: 1})))
    before = dice.weighted({"": 10, "=": 1.2, "-": 1, "#": 1.2, "*": 0.7, "**": 0.4, "$": 1.2, "(": 0.2})
    after = dice.weighted({"": 9, "-": 2, "--": 0.8, "=": 1, ".-": 2, "#": 1, "/-": 0.5, "*": 0.3, "'": 0.2})
    rise = dice.normal(0.05)
    pieces = compose(
        stock, dice, writer.hand, before + text + after, unit, spacing=spacing_for(dice, tight=True), rise=rise
    )
    digits = [piece for piece in pieces if piece.value is not None]
    x0, y0, x1, y1 = extent(digits)
    if dice.chance(0.5):  # the crop keeps the signs
        x0, _, x1, _ = extent(pieces)
    margins = [unit * (dice.between(0, 0.12) if dice.chance(0.45) else dice.between(0.1, 0.8)) for _ in range(4)]
    canvas = Canvas(x1 - x0 + margins[0] + margins[2] + 2, y1 - y0 + margins[1] + margins[3] + 2)
    left, base = margins[0] - x0 + 1, margins[1] - y0 + 1
    if dice.chance(0.55):
        rule = rule_for(dice, unit, low=0.015, high=0.07)
        at = base + unit * (dice.normal(0.12) if dice.chance(0.7) else dice.between(-1, 0.4))
        draw_rule(canvas, dice, rule, across=True, at=at, start=-1, end=canvas.width + 1)
    if dice.chance(0.2):
        rule = rule_for(dice, unit, low=0.02, high=0.1)
        inset = unit * dice.between(-0.1, 0.15)
        box = (inset, inset, canvas.width - inset, canvas.height - inset)
        draw_frame(canvas, dice, rule, box, sides=dice.pick(("tblr", "tb", "l", "r", "tl", "b", "t")))
    if dice.chance(0.25):
        alpha = print_text(stock.font(dice, unit * dice.between(0.5, 1.1)), dice.pick(CURRENCIES))
        canvas.ink(
            alpha, left - alpha.shape[1] - unit * dice.between(0.05, 0.3), base - alpha.shape[0], dice.between(0, 0.5)
        )
    if dice.chance(0.3):
        _intrude(canvas, stock, dice, writer)
    place(canvas, pieces, left, base, writer.tone, line=1, number=1)
    joins(canvas, dice, digits, left, base, writer)
    return Scene(
        canvas, unit, writer.stroke, writer.tone, device_for(dice, copy=0.06, low=0.4), pattern=dice.chance(0.75)
    )


def grouped(dice: Dice, digits: str) -> str:
    """An amount with thousands dots or commas, when it has more than three digits."""
    if len(digits) <= 3 or dice.chance(0.35):
        return digits
    sign = dice.weighted({".": 6, ",": 2, "'": 1})
    head = len(digits) % 3
    groups = ([digits[:head]] if head else []) + [digits[k : k + 3] for k in range(head, len(digits), 3)]
    return sign.join(groups)


def joins(canvas: Canvas, dice: Dice, digits: list[Piece], left: float, base: float, writer: Writer) -> None:
    """Join some neighbours by a thin stroke, as hurried hands join 00; the joint is nobody's digit."""
    for first, second in pairwise(digits):
        gap = second.left - (first.left + first.alpha.shape[1])
        zeros = first.value == 0 and second.value == 0
        if not 0 <= gap < 0.5 * writer.unit or not dice.chance(0.2 if zeros else 0.02):
            continue
        height = writer.unit * (dice.between(0.75, 0.95) if zeros else dice.between(0.05, 0.6))
        reach = gap + 0.3 * writer.unit
        sag = dice.between(0, 0.2) * writer.unit
        line = np.array([[0, 0], [0.3 * reach, sag], [0.7 * reach, sag], [reach, 0]], np.float32) / writer.unit
        alpha = draw_strokes([line], writer.unit, writer.habits.pen, dice.rng)
        canvas.ink(
            alpha, left + second.left - gap - 0.15 * writer.unit, base + first.top + writer.unit - height, writer.tone
        )


def _intrude(canvas: Canvas, stock: Stock, dice: Dice, writer: Writer) -> None:
    """Ink of neighbours that reaches over the edge: words above or below, a signature, print."""
    top = dice.chance(0.5)
    if dice.chance(0.5):
        word = "".join(dice.pick("abcdefghijklmnopqrstuvwxyz") for _ in range(dice.whole(2, 7)))
        pieces = compose_word(
            stock, dice, word, writer.unit * dice.between(0.7, 1.3), writer.habits.pen, writer.habits.slant
        )
        at = -writer.unit * dice.between(-0.05, 0.15) if top else canvas.height + writer.unit * dice.between(0.6, 1)
        place(canvas, pieces, dice.between(-0.2, 0.8) * canvas.width, at, writer.tone, line=0, number=0)
        return
    alpha = print_text(
        stock.font(dice, writer.unit * dice.between(0.3, 0.8)), " ".join(any_word(dice) for _ in range(6))
    )
    at = -alpha.shape[0] * dice.between(0.3, 0.9) if top else canvas.height - alpha.shape[0] * dice.between(0.1, 0.7)
    canvas.ink(alpha, -dice.between(0, 0.3) * alpha.shape[1], at, dice.between(0, 0.5))


def field(stock: Stock, dice: Dice, writer: Writer | None = None) -> Scene:
    """A boxed number field of a form, with pieces of its neighbours."""
    writer = writer or writer_for(stock, dice, unit_for(dice), faint=0.1)
    unit = writer.unit
    count = dice.weighted({1: 1, 2: 3, 3: 3, 4: 3, 5: 3, 6: 3, 7: 1, 8: 1, 9: 1, 10: 2})
    spacing = spacing_for(dice, tight=dice.chance(0.2))
    text = dice.digits(count)
    if dice.chance(0.08):
        text = grouped(dice, text)
    pieces = compose(stock, dice, writer.hand, text, unit, spacing=spacing, rise=dice.normal(0.04))
    x0, y0, x1, y1 = extent(pieces)
    pads = [unit * (dice.between(0.1, 1.5) if dice.chance(0.7) else dice.between(-0.12, 0.15)) for _ in range(4)]
    pads[1], pads[3] = (min(pad, 0.7 * unit) for pad in (pads[1], pads[3]))
    rule = rule_for(dice, unit, low=0.02, high=0.16)
    around = [
        max(2.0, unit * (dice.between(0.02, 0.3) if dice.chance(0.6) else dice.between(0.3, 1.2))) for _ in range(4)
    ]
    outer = [rule.width + edge for edge in around]
    shift = [max(0.0, -pad) for pad in pads]
    width = x1 - x0 + sum(pads[::2]) + outer[0] + outer[2] + shift[0] + shift[2]
    height = y1 - y0 + sum(pads[1::2]) + outer[1] + outer[3] + shift[1] + shift[3]
    canvas = Canvas(width, height)
    box = (outer[0] + shift[0], outer[1] + shift[1], width - outer[2] - shift[2], height - outer[3] - shift[3])
    sides = "tblr" if dice.chance(0.85) else dice.pick(("b", "tb", "lrb", "tbl"))
    draw_frame(canvas, dice, rule, box, sides=sides)
    if dice.chance(0.35):  # neighbours' frames beyond the edge
        other = rule if dice.chance(0.7) else rule_for(dice, unit)
        gap = unit * dice.between(0.05, 0.4) + rule.width
        for side in dice.pick(("t", "b", "l", "r", "tb", "lr", "tblr")):
            across = side in "tb"
            at = {"t": box[1] - gap, "b": box[3] + gap, "l": box[0] - gap, "r": box[2] + gap}[side]
            draw_rule(canvas, dice, other, across=across, at=at, start=-1, end=max(width, height))
    if dice.chance(0.3):
        inside = dice.chance(0.3)
        size = unit * dice.between(0.25, 0.5)
        label(
            canvas,
            stock,
            dice,
            box[0] + (2 if inside else unit * dice.normal(0.5)),
            box[1] + size * (1.2 if inside else -0.2),
            size,
        )
    if dice.chance(0.12):
        draw_rule(
            canvas,
            dice,
            rule_for(dice, unit, low=0.01, high=0.05),
            across=True,
            at=box[1] + pads[1] + (y1 - y0) * dice.between(0.75, 1.05),
            start=box[0],
            end=box[2],
        )
    place(canvas, pieces, box[0] + pads[0] - x0, box[1] + pads[1] - y0, writer.tone, line=1, number=1)
    tilt = dice.normal(1.5) if dice.chance(0.25) else 0.0
    return Scene(canvas, unit, writer.stroke, writer.tone, device_for(dice, copy=0.45, low=0.2), tilt=tilt)


def comb(stock: Stock, dice: Dice, writer: Writer | None = None) -> Scene:
    """A comb field: one digit a cell, the cells told apart by strokes or boxes."""
    writer = writer or writer_for(stock, dice, unit_for(dice, 11, 50), faint=0.12)
    unit = writer.unit
    cells = dice.whole(2, 12) if dice.chance(0.85) else dice.whole(13, 20)
    pitch = unit * dice.log(0.85, 1.8)
    tall = unit * dice.log(1.02, 1.8)
    rule = rule_for(dice, unit, low=0.02, high=0.12)
    margin = unit * dice.between(0.1, 0.7) + rule.width
    apart = unit * dice.between(0.05, 0.4) if dice.chance(0.18) else 0.0
    step = pitch + apart
    canvas = Canvas(cells * step + 2 * margin, tall + 2 * margin)
    top, bottom = margin, margin + tall
    style = dice.weighted({"boxes": 4.0, "ticks": 2.0, "half": 1.5, "walls": 1.0, "lone": 0.7})
    divider = rule if dice.chance(0.5) else replace(rule_for(dice, unit, low=0.015, high=0.08), tone=rule.tone)
    for k in range(cells + 1):
        x = margin + k * step
        if apart:
            if k < cells:
                draw_frame(canvas, dice, rule, (x, top, x + pitch, bottom))
            continue
        end_wall = k in (0, cells)
        start = (
            top
            if style in ("boxes", "walls") or (end_wall and style == "half")
            else bottom - tall * (0.25 if style == "ticks" else 0.5)
        )
        if style != "lone" or not end_wall:
            draw_rule(canvas, dice, rule if end_wall else divider, across=False, at=x, start=start, end=bottom)
    if not apart:
        sides = {"boxes": "tb", "ticks": "b", "half": "tb" if dice.chance(0.5) else "b", "walls": "", "lone": "tb"}[
            style
        ]
        draw_frame(canvas, dice, rule, (margin, top, margin + cells * step, bottom), sides=sides)
    guided = dice.chance(0.25)
    guide = replace(rule_for(dice, unit, low=0.02, high=0.07), tone=dice.between(0.55, 0.9))
    filled = dice.pick(("all", "left", "right", "gaps"))
    count = cells if filled == "all" else dice.whole(1, cells)
    base = bottom - (tall - unit) * dice.between(0.25, 0.75)
    number, fresh = 1, True
    for k in range(cells):
        used = {"all": True, "left": k < count, "right": k >= cells - count, "gaps": dice.chance(0.7)}[filled]
        middle = margin + k * step + pitch / 2
        if guided:
            _guide(canvas, dice, guide, (middle, base - unit / 2), unit)
        if not used:
            fresh = True
            _fill_empty(canvas, stock, dice, writer, (middle, base))
            continue
        if fresh and k and filled == "gaps" and canvas.count:
            number += 1
        fresh = False
        value = 1 if dice.chance(LONE_ONES) else int(dice.digit())
        _write_in_cell(canvas, dice, writer, value, (middle, base), off=0.09 * pitch, guided=guided, owner=(1, number))
    if dice.chance(0.25):
        label(canvas, stock, dice, margin + unit * dice.normal(0.4), top - 0.1 * unit, unit * dice.between(0.25, 0.45))
    tilt = dice.normal(1.5) if dice.chance(0.3) else 0.0
    return Scene(canvas, unit, writer.stroke, writer.tone, device_for(dice, copy=0.3, low=0.35), tilt=tilt)


def _write_in_cell(
    canvas: Canvas,
    dice: Dice,
    writer: Writer,
    value: int,
    foot: tuple[float, float],
    *,
    off: float,
    guided: bool,
    owner: tuple[int, int],
) -> None:
    """Write one digit into its cell.

    Args:
        canvas: to write on.
        dice: throws.
        writer: whose hand it is.
        value: 0 to 9.
        foot: the middle of the cell and the base line of its writing, in pixels.
        off: how far from the middle it is written, in pixels, a standard deviation.
        guided: a guide is printed in the cell, along a side of which a 1 is written.
        owner: the line and the number that the digit belongs to.
    """
    alpha = writer.hand.draw(value, writer.unit, dice.rng)
    left = foot[0] - alpha.shape[1] / 2 + dice.normal(off)
    if guided and value == 1:
        left += 0.2 * writer.unit * dice.pick((-1, 0, 1, 1))
    rise = writer.unit * dice.normal(writer.habits.bounce + 0.03)
    canvas.digit(alpha, left, foot[1] - alpha.shape[0] + rise, writer.tone, (value, *owner))


def _fill_empty(
    canvas: Canvas, stock: Stock, dice: Dice, writer: Writer, foot: tuple[float, float], *, crossed: float = 0.04
) -> None:
    """What a cell without a digit may hold: nothing, a sign, or strokes that say it was left out on purpose.

    Args:
        canvas: to draw on.
        stock: for signs.
        dice: throws.
        writer: whose hand it is.
        foot: the middle of the cell and the base line of its writing, in pixels.
        crossed: share of cells that are crossed out.
    """
    (middle, base), unit = foot, writer.unit
    if dice.chance(crossed):
        _cross_out(canvas, dice, writer, (middle - 0.5 * unit, base - unit, middle + 0.5 * unit, base))
    elif dice.chance(0.06):
        mark, rise = draw_sign(stock, dice, dice.pick("-x-="), unit, writer.habits.pen)
        canvas.ink(mark, middle - mark.shape[1] / 2, base - rise - mark.shape[0] / 2, writer.tone)


def _guide(canvas: Canvas, dice: Dice, rule: Rule, middle: tuple[float, float], unit: float) -> None:
    """A faint 8 with corners, printed in a cell for digits to be written along."""
    wide, tall = unit * dice.between(0.42, 0.48), unit * dice.between(0.8, 0.86)
    left, top = middle[0] - wide / 2, middle[1] - tall / 2
    draw_frame(canvas, dice, rule, (left, top, left + wide, top + tall))
    draw_rule(canvas, dice, rule, across=True, at=middle[1], start=left, end=left + wide)


def table(stock: Stock, dice: Dice, writer: Writer | None = None) -> Scene:
    """A ruled table or a puzzle's grid."""
    if dice.chance(0.3):
        return puzzle(stock, dice)
    writer = writer or writer_for(stock, dice, unit_for(dice, 12, 36))
    unit = writer.unit
    rows, columns = dice.whole(2, 6), dice.whole(1, 5)
    if dice.chance(0.05):
        rows, columns = dice.whole(8, 20), dice.whole(4, 9)
    most = dice.weighted({1: 2, 2: 4, 3: 3, 4: 0.6})
    boxed = dice.chance(BOXED)
    pitch = unit * dice.log(0.95, 1.7)
    cell = most * pitch + unit * dice.between(0.2, 1.2) if boxed else unit * (0.75 * most + dice.between(0.3, 1.4))
    tall = unit * dice.log(1.35 if boxed else 1.15, 2.2)
    rule = rule_for(dice, unit, low=0.02, high=0.07)
    names = unit * dice.between(2, 6) if dice.chance(0.6) else 0.0
    head = tall * dice.between(0.8, 1.3) if dice.chance(0.5) else 0.0
    margin = unit * dice.between(0.2, 1.2)
    canvas = Canvas(names + columns * cell + 2 * margin, head + rows * tall + 2 * margin)
    x_lines = [margin] * bool(names) + [margin + names + k * cell for k in range(columns + 1)]
    y_lines = [margin] * bool(head) + [margin + head + k * tall for k in range(rows + 1)]
    heavy = dice.chance(0.2)
    sideways, upright = (True, True) if dice.chance(0.85) else dice.pick(((True, False), (False, True)))
    for across, lines, start, end in (
        (True, y_lines, x_lines[0], x_lines[-1]),
        (False, x_lines, y_lines[0], y_lines[-1]),
    ):
        if not (sideways if across else upright):
            continue
        for k, at in enumerate(lines):
            thick = heavy and k in (0, len(lines) - 1)
            drawn = replace(rule, width=rule.width * 2, kind="solid") if thick else rule
            draw_rule(canvas, dice, drawn, across=across, at=at, start=start, end=end)
    scripted = dice.chance(0.3)
    font = stock.font(dice, unit * dice.between(0.5, 0.9))
    print_tone = dice.between(0, 0.4)
    for k in range(columns if head else 0):
        text = dice.pick((dice.pick(LABELS)[:4], chr(65 + k), f"{k + 1}.", f"Q{k + 1}", any_word(dice)[:5]))
        alpha = print_text(font, text)
        canvas.ink(
            alpha,
            margin + names + (k + 0.5) * cell - alpha.shape[1] / 2,
            margin + (head - alpha.shape[0]) / 2,
            print_tone,
        )
    spacing = Spacing(dice.between(0.04, 0.25), 0.05, dice.between(0, 0.25))
    crossing = dice.between(0, 0.3) if dice.chance(0.3) else 0.03
    empty = dice.between(0, 0.5)
    boxes = _Boxes(stock, dice, writer, most, pitch) if boxed else None
    for row in range(rows):
        base = margin + head + (row + 1) * tall - (tall - unit) * dice.between(0.3, 0.7)
        if names:
            _row_name(canvas, stock, dice, writer, None if scripted else font, (margin, base, names))
        for column in range(columns):
            left = margin + names + column * cell
            if boxes:
                boxes.fill(canvas, (left + cell / 2, base), empty=empty / 2, numbered=(row + 1, column + 1))
                continue
            if dice.chance(empty):
                if dice.chance(0.15):
                    _cross_out(canvas, dice, writer, (left, base - unit, left + cell, base))
                elif dice.chance(0.2):
                    mark, rise = draw_sign(stock, dice, dice.pick("--x="), unit, writer.habits.pen)
                    canvas.ink(mark, left + (cell - mark.shape[1]) / 2, base - rise - mark.shape[0] / 2, writer.tone)
                continue
            pieces = compose(stock, dice, writer.hand, dice.digits(dice.whole(1, most)), unit, spacing=spacing)
            x0, _, x1, _ = extent(pieces)
            place_in = dice.between(0.05, 0.95) if dice.chance(0.3) else 0.5
            x = left + (cell - (x1 - x0)) * place_in - x0
            crossed = dice.chance(crossing)
            place(canvas, pieces, x, base, writer.tone, line=0 if crossed else row + 1, number=column + 1)
            if crossed:
                _cross_out(canvas, dice, writer, (x + x0, base - unit, x + x1, base))
    tilt = dice.normal(2.5) if dice.chance(0.4) else 0.0
    return Scene(canvas, unit, writer.stroke, writer.tone, device_for(dice, copy=0.15, low=0.25), tilt=tilt)


class _Boxes:
    """The boxes of a table's cells, one for a digit, framed or with a guide, all alike."""

    def __init__(self, stock: Stock, dice: Dice, writer: Writer, count: int, pitch: float) -> None:
        """So many boxes a cell, `pitch` pixels from each to the next."""
        self.stock, self.dice, self.writer, self.count, self.pitch = stock, dice, writer, count, pitch
        self.side = min(pitch * dice.between(0.8, 1), 1.25 * writer.unit), writer.unit * dice.between(1.02, 1.3)
        self.framed = dice.chance(0.7)
        self.guided = not self.framed or dice.chance(0.4)
        self.rule = replace(rule_for(dice, writer.unit, low=0.02, high=0.07), tone=dice.between(0.3, 0.9))
        self.crossed = dice.between(0.3, 1) if dice.chance(0.4) else 0.03

    def fill(self, canvas: Canvas, foot: tuple[float, float], *, empty: float, numbered: tuple[int, int]) -> None:
        """Draw the boxes of a cell and a number in the last of them.

        Args:
            canvas: to draw on.
            foot: the middle of the cell and the base line of its writing, in pixels.
            empty: share of cells without a number.
            numbered: the line and the number that the digits belong to.
        """
        dice, writer, unit = self.dice, self.writer, self.writer.unit
        text = "" if dice.chance(empty) else dice.digits(dice.whole(1, self.count)).rjust(self.count)
        width, height = self.side
        for k, character in enumerate(text or " " * self.count):
            middle = foot[0] + (k - (self.count - 1) / 2) * self.pitch, foot[1] - unit / 2
            if self.framed:
                left, top = middle[0] - width / 2, middle[1] - height / 2
                draw_frame(canvas, dice, self.rule, (left, top, left + width, top + height))
            if self.guided:
                _guide(canvas, dice, self.rule, middle, unit)
            if character == " ":
                _fill_empty(canvas, self.stock, dice, writer, (middle[0], foot[1]), crossed=self.crossed)
                continue
            value, own = 1 if dice.chance(LONE_ONES) else int(character), (middle[0], foot[1])
            _write_in_cell(canvas, dice, writer, value, own, off=0.06 * unit, guided=self.guided, owner=numbered)


def _row_name(
    canvas: Canvas, stock: Stock, dice: Dice, writer: Writer, face: Face | None, where: tuple[float, float, float]
) -> None:
    """The name at the head of a table's row, printed or (`face` None) written; where: left, base line, room."""
    left, base, room = where
    word = any_word(dice)[: max(2, int(room / writer.unit * 1.1))]
    if face is None:
        pieces = compose_word(stock, dice, word, 0.9 * writer.unit, writer.habits.pen, writer.habits.slant)
        place(canvas, pieces, left + 0.2 * writer.unit, base, writer.tone, line=0, number=0)
        return
    if dice.chance(0.35):
        word = numbering(dice) + word
    alpha = print_text(face, word)
    canvas.ink(alpha[:, : max(1, int(room))], left + 0.2 * writer.unit, base - alpha.shape[0], dice.between(0, 0.4))


def numbering(dice: Dice) -> str:
    """What a form prints before a row or a question: a number of the form's, not of what was filled in."""
    number = dice.whole(1, 40) if dice.chance(0.4) else dice.whole(1, 9)
    letter = dice.pick("ABCDabcd")
    return dice.pick(
        (f"{number}. ", f"{number}. ", f"{number}) ", f"{number:02d}. ", f"{letter}.{number} ", f"({number}) ")
    )


def _cross_out(canvas: Canvas, dice: Dice, writer: Writer, box: tuple[float, float, float, float]) -> None:
    """Cross out what stands in a box: strokes through it, or an X, or a scribble."""
    left, top, right, bottom = box
    middle, size = ((left + right) / 2, (top + bottom) / 2), max(right - left, bottom - top)
    if dice.chance(0.3):
        alpha = scribble(dice, size, writer.stroke)
        canvas.ink_around(alpha, middle, writer.tone)
        return
    ends = dice.pick((((0, 0.5), (1, 0.5)), ((0, 1), (1, 0)), ((0, 0), (1, 1))))
    strokes = [np.array(ends, np.float32)]
    if dice.chance(0.6):
        strokes.append(np.array(((0, 0), (1, 1)) if ends[0][1] else ((0, 1), (1, 0)), np.float32))
    scale = np.array([right - left, bottom - top], np.float32) / writer.unit
    scaled = [stroke * scale for stroke in strokes]
    alpha = draw_freely(dice, scaled, writer.unit, writer.habits.pen, unevenness=0.03)
    canvas.ink_around(alpha, middle, writer.tone)


def puzzle(stock: Stock, dice: Dice) -> Scene:
    """A puzzle's grid with printed and written digits, one a cell; both are true digits."""
    unit = unit_for(dice, 14, 48)
    writer = writer_for(stock, dice, unit)
    side = dice.weighted({9: 1.2, 4: 1.0, 3: 1.0, 6: 0.8, 5: 0.5})
    cell = unit * dice.log(1.2, 2.2)
    margin = unit * dice.between(0.2, 1.0)
    canvas = Canvas(side * cell + 2 * margin, side * cell + 2 * margin)
    thin = rule_for(dice, unit, low=0.015, high=0.06)
    thick = replace(thin, width=thin.width * dice.between(1.5, 4), kind="solid")
    block = {9: 3, 6: 3, 4: 2}.get(side, side)
    for k in range(side + 1):
        for across in (True, False):
            drawn = thick if k % block == 0 else thin
            draw_rule(canvas, dice, drawn, across=across, at=margin + k * cell, start=margin, end=margin + side * cell)
    font = stock.font(dice, unit * dice.between(1.2, 1.45))
    print_tone, printed, written = dice.between(0, 0.35), dice.between(0.2, 0.7), dice.between(0.3, 1)
    for row in range(side):
        for column in range(side):
            value = dice.whole(1, 9) if dice.chance(0.95) else 0
            middle, centre = margin + (column + 0.5) * cell, margin + (row + 0.5) * cell
            if dice.chance(printed):
                alpha, tone, loose = print_text(font, str(value)), print_tone, 0.015
            elif dice.chance(written):
                alpha, tone, loose = writer.hand.draw(value, unit, dice.rng), writer.tone, 0.07
            else:
                continue
            if alpha.shape[0] < 6 or alpha.shape[0] > 1.1 * cell:
                continue
            left = middle - alpha.shape[1] / 2 + cell * dice.normal(loose)
            top = centre - alpha.shape[0] / 2 + cell * dice.normal(loose)
            canvas.digit(alpha, left, top, tone, (value, row + 1, column + 1))
    tilt = dice.normal(3) if dice.chance(0.5) else 0.0
    return Scene(
        canvas, unit, writer.stroke, max(writer.tone, print_tone), device_for(dice, copy=0.08, low=0.3), tilt=tilt
    )


def single(stock: Stock, dice: Dice) -> Scene:
    """One digit in a tiny picture: a cell cut out of a form, with frame lines and neighbours at its edges."""
    unit = dice.log(12, 50) if dice.chance(0.9) else dice.log(50, 110)
    writer = writer_for(stock, dice, unit, faint=0.35)
    roomy = dice.chance(0.2)  # a small digit in the middle of its cell
    width, height = (unit * dice.between(1.15, 4.5 if roomy else 2.4) for _ in range(2))
    canvas = Canvas(width, height)
    rule = rule_for(dice, unit, low=0.02, high=0.18)
    if dice.chance(0.5):
        inset = [unit * (dice.between(-0.1, 0.12) if dice.chance(0.6) else dice.between(0.1, 0.35)) for _ in range(4)]
        box = (inset[0], inset[1], width - inset[2], height - inset[3])
        sides = "tblr" if dice.chance(0.6) else dice.pick(("b", "lr", "l", "r", "tb", "bl", "tr"))
        long = dice.chance(0.5)
        for side in sides:
            across = side in "tb"
            at = {"t": box[1], "b": box[3], "l": box[0], "r": box[2]}[side]
            start, end = (-9.0, 9999.0) if long else ((box[0], box[2]) if across else (box[1], box[3]))
            draw_rule(canvas, dice, rule, across=across, at=at, start=start, end=end)
    else:
        box = (0.0, 0.0, width, height)
    if dice.chance(0.15):
        size = unit * dice.between(0.2, 0.4)
        label(canvas, stock, dice, -unit * dice.between(0, 1), max(0.5 * size, box[1] + dice.normal(0.1) * unit), size)
    if dice.chance(0.12):
        neighbour = writer.hand.draw(dice.whole(0, 9), unit, dice.rng)
        seen = max(1, round(min(0.3 * neighbour.shape[1], 0.15 * unit)))
        if dice.chance(0.5):
            canvas.ink(neighbour[:, -seen:], 0, dice.between(0, 0.4) * unit, writer.tone)
        else:
            canvas.ink(neighbour[:, :seen], canvas.width - seen, dice.between(0, 0.4) * unit, writer.tone)
    room_x, room_y = max(box[2] - box[0], 0.8 * unit), max(box[3] - box[1], unit)
    if dice.chance(0.86):
        value = 1 if dice.chance(LONE_ONES) else int(dice.digit())
        alpha = writer.hand.draw(value, min(unit, 0.98 * height), dice.rng)
        free_x, free_y = room_x - alpha.shape[1], room_y - alpha.shape[0]
        left = box[0] + free_x * (0.5 + dice.normal(0.18))
        top = box[1] + free_y * (0.5 + dice.normal(0.2))
        left = min(max(left, 0), max(0, canvas.width - alpha.shape[1]))
        top = min(max(top, 0), max(0, canvas.height - alpha.shape[0]))
        canvas.digit(alpha, left, top, writer.tone, (value, 1, 1))
    elif dice.chance(0.7):
        alpha, _ = draw_sign(stock, dice, dice.pick("---x.+=*"), unit, writer.habits.pen)
        canvas.ink(
            alpha,
            box[0] + (room_x - alpha.shape[1]) * 0.5,
            box[1] + (room_y - alpha.shape[0]) * dice.between(0.35, 0.65),
            writer.tone,
        )
    return Scene(canvas, unit, writer.stroke, writer.tone, device_for(dice, copy=0.3, low=0.3))
