"""Pages: whole forms, put together from printed text, fields, combs, tables, boxes and codes, filled in by one hand."""

from __future__ import annotations

from digitize.make.canvas import Canvas
from digitize.make.dice import Dice
from digitize.make.forms import comb, field, numbering, table
from digitize.make.marks import choose, draw_option
from digitize.make.notes import lines, print_word
from digitize.make.paint import bar_code, qr_code, rule_for
from digitize.make.scene import Scene, Writer, any_word, device_for, label, unit_for, writer_for
from digitize.make.stock import Stock
from digitize.make.writing import compose_word, extent, place, print_text

BLOCKS = {"text": 6.0, "comb": 5.0, "field": 3.0, "table": 4.0, "lines": 1.2, "boxes": 2.0, "code": 1.4, "answer": 2.0}


def form(stock: Stock, dice: Dice) -> Scene:
    """A form with several blocks one below the other."""
    unit = unit_for(dice, 12, 32)
    writer = writer_for(stock, dice, unit)
    width = unit * dice.between(16, 34)
    margin = unit * dice.between(0.5, 2)
    blocks = [_block(stock, dice, writer, width - 2 * margin) for _ in range(dice.whole(2, 6))]
    gap = unit * dice.between(0.2, 1.2)
    canvas = Canvas(width, sum(block.height + gap for block in blocks) + 2 * margin)
    top, written = margin, 0
    for block in blocks:
        room = width - 2 * margin - block.width
        left = margin + (max(0.0, room) * dice.between(0, 1) if dice.chance(0.4) else 0.0)
        written = canvas.paste(block, left, top, lines=written)
        top += block.height + gap
    tilt = dice.normal(1.5) if dice.chance(0.5) else 0.0
    device = "photo" if dice.chance(0.2) else device_for(dice, copy=0.25, low=0.2)
    return Scene(canvas, unit, writer.stroke, writer.tone, device, tilt=tilt)


def _block(stock: Stock, dice: Dice, writer: Writer, width: float) -> Canvas:
    """One block of a form, at most `width` pixels wide."""
    kind = dice.weighted(BLOCKS)
    makers = {"comb": comb, "field": field, "table": table, "lines": lines}
    if kind in makers:
        for _ in range(4):
            made = makers[kind](stock, dice, writer).canvas
            if made.width <= width:
                return made
        kind = "text"
    unit = writer.unit
    if kind == "text":
        return _text(stock, dice, width, unit * dice.between(0.4, 0.9))
    if kind == "boxes":
        return _check_boxes(stock, dice, writer, width)
    if kind == "answer":
        canvas = Canvas(width, 1.6 * unit)
        label(canvas, stock, dice, 0, 1.2 * unit, 0.5 * unit)
        left = 0.25 * width
        while left < width and stock.letters:
            pieces = compose_word(stock, dice, any_word(dice), 0.9 * unit, writer.habits.pen, writer.habits.slant)
            place(canvas, pieces, left, 1.2 * unit, writer.tone, line=0, number=0)
            left += extent(pieces)[2] + unit * dice.between(0.4, 3)
        return canvas
    code = qr_code(dice, unit * dice.between(1.5, 4)) if dice.chance(0.5) else bar_code(dice, unit)
    canvas = Canvas(code.shape[1] + 4, code.shape[0] + 4)
    canvas.ink(code, 2, 2, dice.between(0, 0.3))
    return canvas


def _text(stock: Stock, dice: Dice, width: float, size: float) -> Canvas:
    """Lines of print in one font."""
    rows = dice.weighted({1: 3, 2: 2, 3: 1, 5: 1})
    face = stock.font(dice, size)
    canvas = Canvas(width, rows * 1.4 * size + 0.4 * size)
    style, tone = dice.pick(("words", "words", "capitals", "dates")), dice.between(0, 0.4)
    numbered = dice.chance(0.35)
    for row in range(rows):
        text = " ".join(print_word(dice, style) for _ in range(int(width / size / 3) + 1))
        alpha = print_text(face, numbering(dice) + text if numbered else text)
        canvas.ink(alpha, 0, (row + 1) * 1.4 * size - alpha.shape[0], tone)
    return canvas


def _check_boxes(stock: Stock, dice: Dice, writer: Writer, width: float) -> Canvas:
    """Boxes or circles to be ticked, some of them ticked or crossed, each with a word in print."""
    unit = writer.unit
    canvas = Canvas(width, 1.5 * unit)
    rule = rule_for(dice, unit, low=0.03, high=0.08)
    face = stock.font(dice, unit * dice.between(0.45, 0.7))
    side, step, round_ones = unit * dice.between(0.4, 0.9), unit * dice.between(2.5, 5), dice.chance(0.4)
    for k in range(int(width / step)):
        left, top = k * step + rule.width, 0.3 * unit
        middle = left + side / 2, top + side / 2
        draw_option(canvas, dice, rule, middle, (side, side), round_one=round_ones)
        if dice.chance(0.35):
            choose(canvas, dice, writer, middle, side)
        alpha = print_text(face, any_word(dice)[:6])
        canvas.ink(alpha, left + 1.4 * side, top + side - alpha.shape[0], 0.2)
    return canvas
