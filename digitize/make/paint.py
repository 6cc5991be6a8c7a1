"""Paint: papers, security patterns, rules and frames, blots. All that is on a sheet before and beside the digits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from digitize.hands import Alpha, noise
from digitize.make.canvas import Canvas
from digitize.make.dice import Dice

Paper = NDArray[np.float32]  # (H, W), 0 to 255

QR_MODULES = 25  # of a code of version 2

RuleKind = Literal["solid", "dashed", "dotted", "broken", "double"]


# ------------------------------------------------------------------------------------------------------- papers


def paper(dice: Dice, shape: tuple[int, int], *, white: bool = False, unit: float = 30.0) -> Paper:
    """Blank paper: its level, its fibres, its unevenness.

    Args:
        dice: throws.
        shape: rows, columns.
        white: as a scanner's automatic gives it: nearly 255 and even.
        unit: digit height in pixels; clouds and fibres are measured in it.
    """
    if white:
        level = dice.between(244, 255)
        base = np.full(shape, level, np.float32)
        if dice.chance(0.4):
            base += np.float32(dice.between(0.5, 3)) * noise().patch(dice.rng, shape, 0.8)
        return base
    level = dice.between(165, 252) if dice.chance(0.75) else dice.between(120, 200)
    base = np.full(shape, level, np.float32)
    if dice.chance(0.7):
        base += np.float32(dice.log(0.5, 6)) * noise().patch(dice.rng, shape, dice.pick((0.0, 0.8, 1.6)))
    if dice.chance(0.5):
        base += np.float32(dice.log(1, 8)) * noise().patch(dice.rng, shape, dice.pick((3.0, 6.0, 14.0, 40.0)))
    if dice.chance(0.1):
        base -= np.float32(dice.between(4, 14)) * (noise().patch(dice.rng, shape, 1.6) > 1.9)
    if dice.chance(0.3):
        base += slope(dice, shape, dice.between(5, 40))
    return base


def slope(dice: Dice, shape: tuple[int, int], amount: float) -> Paper:
    """Light that falls off to one side by `amount`."""
    angle = dice.between(0, 2 * np.pi)
    x = np.linspace(-0.5, 0.5, shape[1], dtype=np.float32) * np.float32(np.cos(angle) * amount)
    y = np.linspace(-0.5, 0.5, shape[0], dtype=np.float32) * np.float32(np.sin(angle) * amount)
    return x[None] + y[:, None]


def security_pattern(dice: Dice, shape: tuple[int, int], unit: float) -> NDArray[np.float32]:
    """What cheques and certificates print beneath: waves, moiré, dots, weave, rosettes, tiny text, hatching.

    Returns:
        float32 (H, W): light that passes, 1 where nothing is printed.
    """
    light = np.ones(shape, np.float32)
    kinds = {"waves": 4.0, "hatch": 1.5, "dots": 1.5, "weave": 1.2, "rosette": 1.5, "stipple": 0.8, "bars": 0.6}
    for _ in range(1 if dice.chance(0.55) else 2):
        strength = dice.log(0.06, 0.38)
        light *= 1 - np.float32(strength) * _pattern(dice, shape, unit, dice.weighted(kinds))
    if dice.chance(0.25):  # the pattern stops at a panel
        edge = dice.whole(0, shape[1])
        if dice.chance(0.5):
            light[:, :edge] = 1
        else:
            light[:, edge:] = 1
    return light


def _pattern(dice: Dice, shape: tuple[int, int], unit: float, kind: str) -> NDArray[np.float32]:
    """One pattern, 0 to 1."""
    angle = dice.between(0, np.pi) if dice.chance(0.6) else dice.pick((0.0, np.pi / 2)) + dice.normal(0.1)
    x = np.arange(shape[1], dtype=np.float32)[None]
    y = np.arange(shape[0], dtype=np.float32)[:, None]
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = x * cosine + y * sine, y * cosine - x * sine
    pitch = max(2.2, unit * dice.log(0.07, 0.45))
    thin = dice.pick((1, 2, 4, 8))
    if kind == "waves":
        drawn = np.zeros(shape, np.float32)
        length = unit * dice.log(0.6, 6)
        swing = pitch * dice.log(0.3, 4)
        families = dice.whole(1, 3)
        for k in range(families):
            phase = 2 * np.pi * k / families + dice.normal(0.2)
            bend = swing * np.sin(2 * np.pi * u / length + phase)
            if dice.chance(0.3):
                bend = bend + 0.5 * swing * np.sin(2 * np.pi * u / (length * 0.37) + 2 * phase)
            drawn = np.maximum(drawn, _lines((v + bend) / pitch, thin))
        return drawn
    if kind == "hatch":
        drawn = _lines(v / pitch, thin)
        if dice.chance(0.4):
            drawn = np.maximum(drawn, _lines(u / (pitch * dice.log(0.7, 1.4)), thin))
        return drawn
    if kind == "dots":
        spots = 3 * np.cos(np.pi * u / pitch) * np.cos(np.pi * v / pitch) - dice.between(0.5, 2)
        return np.clip(spots, 0, 1).astype(np.float32)
    if kind == "weave":
        cross = np.cos(2 * np.pi * u / pitch) * np.cos(2 * np.pi * v / (pitch * dice.log(0.8, 1.3)))
        woven: NDArray[np.float32] = (0.5 + 0.5 * np.sign(cross) * np.abs(cross) ** 0.5).astype(np.float32)
        return woven
    if kind == "rosette":
        cx, cy = dice.between(-0.3, 1.3) * shape[1], dice.between(-0.5, 1.5) * shape[0]
        radius = np.hypot(x - cx, y - cy)
        turn = np.arctan2(y - cy, x - cx)
        petals = dice.whole(5, 24)
        ripple = 1 + dice.between(0.02, 0.12) * np.sin(petals * turn) * np.minimum(radius / unit, 3)
        return _lines(radius * ripple / pitch, thin)
    if kind == "bars":
        barred: NDArray[np.float32] = (np.cos(np.pi * u / (pitch * 3)) > dice.between(-0.5, 0.7)).astype(np.float32)
        return barred
    grain = noise().patch(dice.rng, shape, dice.pick((0.8, 1.6)))
    stipple: NDArray[np.float32] = np.clip(grain - dice.between(0.3, 1.2), 0, 1).astype(np.float32)
    return stipple


def _lines(phase: NDArray[np.floating], thin: int) -> NDArray[np.float32]:
    """Lines at whole phases; the greater `thin` (a power of two), the thinner."""
    lines: NDArray[np.float32] = (0.5 + 0.5 * np.cos(2 * np.pi * phase)).astype(np.float32)
    while thin > 1:
        lines = lines * lines
        thin //= 2
    return lines


# ------------------------------------------------------------------------------------------------ rules and frames


@dataclass(frozen=True, slots=True)
class Rule:
    """How a printed line looks.

    Attributes:
        width: in pixels.
        tone: light that passes, 0 black.
        kind: solid, dashed, dotted, broken (as by a bad copier), double.
        period: of dashes and dots, in pixels.
        rough: how uneven its ink is, 0 to 1.
    """

    width: float
    tone: float = 0.1
    kind: RuleKind = "solid"
    period: float = 8.0
    rough: float = 0.0


def rule_for(dice: Dice, unit: float, *, low: float = 0.02, high: float = 0.12) -> Rule:
    """A printed line for digits `unit` pixels tall, `low` to `high` heights thick."""
    kinds: dict[RuleKind, float] = {"solid": 0.62, "dashed": 0.11, "dotted": 0.09, "broken": 0.12, "double": 0.06}
    width = max(0.7, unit * dice.log(low, high))
    return Rule(
        width,
        tone=dice.between(0, 0.3) if dice.chance(0.6) else dice.between(0.3, 0.75),
        kind=dice.weighted(kinds),
        period=max(2.5, width * dice.log(1.8, 7), unit * dice.log(0.05, 0.35)),
        rough=dice.between(0.1, 0.7) if dice.chance(0.35) else 0.0,
    )


def draw_rule(canvas: Canvas, dice: Dice, rule: Rule, *, across: bool, at: float, start: float, end: float) -> None:
    """Draw a horizontal (`across`) or vertical line with its middle `at`, from `start` to `end`, in pixels."""
    if rule.kind == "double":
        apart = max(2.0, 1.6 * rule.width)
        thin = Rule(max(0.7, 0.5 * rule.width), rule.tone, "solid", rule.period, rule.rough)
        draw_rule(canvas, dice, thin, across=across, at=at - apart / 2, start=start, end=end)
        draw_rule(canvas, dice, thin, across=across, at=at + apart / 2, start=start, end=end)
        return
    light = canvas.light if across else canvas.light.T
    rows, columns = light.shape
    first, last = max(0, int(at - rule.width / 2)), min(rows, int(np.ceil(at + rule.width / 2)))
    left, right = max(0, round(start)), min(columns, round(end))
    if last <= first or right <= left:
        return
    row = np.arange(first, last, dtype=np.float32)
    cover = np.clip(np.minimum(row + 1, at + rule.width / 2) - np.maximum(row, at - rule.width / 2), 0, 1)
    along = np.ones(right - left, np.float32)
    where = np.arange(right - left) + dice.between(0, rule.period)
    if rule.kind == "dashed":
        along = ((where % rule.period) < 0.62 * rule.period).astype(np.float32)
    elif rule.kind == "dotted":
        along = ((where % rule.period) < max(1.0, min(rule.width, 0.5 * rule.period))).astype(np.float32)
    elif rule.kind == "broken":
        gaps = noise().patch(dice.rng, (1, min(512, right - left)), dice.pick((1.6, 3.0, 6.0)))[0]
        gaps = np.resize(gaps, right - left)
        along = np.clip(0.5 + (gaps + dice.between(0.3, 1.6)) * 2, 0, 1).astype(np.float32)
    ink = cover[:, None] * along[None]
    if rule.rough and ink.size < 200_000:
        ink = ink * np.clip(1 - rule.rough * (0.3 + 0.6 * noise().patch(dice.rng, ink.shape, 0.8)), 0, 1)
    light[first:last, left:right] *= 1 - (1 - rule.tone) * ink


def draw_frame(
    canvas: Canvas, dice: Dice, rule: Rule, corners: tuple[float, float, float, float], *, sides: str = "tblr"
) -> None:
    """Draw a frame: left, top, right, bottom in pixels; `sides` names those that are drawn."""
    left, top, right, bottom = corners
    over = rule.width / 2
    for side in sides:
        across = side in "tb"
        at = {"t": top, "b": bottom, "l": left, "r": right}[side]
        start, end = (left - over, right + over) if across else (top - over, bottom + over)
        draw_rule(canvas, dice, rule, across=across, at=at, start=start, end=end)


# ------------------------------------------------------------------------------------------------------- dirt


def scribble(dice: Dice, size: float, width: float) -> Alpha:
    """A wild line within `size` pixels: a trial of the pen, hatching, a loop, a signature."""
    kind = dice.pick(("wild", "zigzag", "loops", "signature"))
    count = dice.whole(4, 14)
    t = np.linspace(0, 1, 10 * count, dtype=np.float32)
    if kind == "wild":
        anchors = dice.rng.random((count, 2)).astype(np.float32)
        x = np.interp(t, np.linspace(0, 1, count), anchors[:, 0])
        y = np.interp(t, np.linspace(0, 1, count), anchors[:, 1])
    elif kind == "zigzag":
        x = t + 0.1 * np.sin(40 * t + dice.between(0, 6))
        y = 0.5 + 0.5 * np.abs(((t * count) % 2) - 1) * dice.between(-1, 1) + 0.2 * t
    elif kind == "loops":
        x = t * dice.between(0.2, 1) + 0.2 * np.sin(2 * np.pi * count * t / 2)
        y = 0.5 + dice.between(0.1, 0.4) * np.cos(2 * np.pi * count * t / 2)
    else:
        x = t + 0.08 * np.sin(2 * np.pi * count * t)
        y = 0.5 + 0.3 * np.sin(2 * np.pi * count * t * 0.5) * np.exp(-3 * t) + 0.08 * np.sin(2 * np.pi * count * t)
    points = np.stack([x, y], axis=1) * size + width + 1
    points -= np.minimum(points.min(axis=0) - width - 1, 0)
    columns, rows = np.ceil(points.max(axis=0) + width + 2).astype(int)
    board = np.zeros((int(rows), int(columns)), np.uint8)
    fixed = np.round(points * 16).astype(np.int32)
    cv2.polylines(board, [fixed], False, 255, max(1, round(width)), cv2.LINE_AA, 4)
    return board.astype(np.float32) / np.float32(255)


def blot(dice: Dice, size: float) -> Alpha:
    """A blot or stain of about `size` pixels with an uneven edge, sometimes a ring."""
    side = max(3, round(size))
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j].astype(np.float32)
    turn = np.arctan2(y, x)
    edge = 0.75 + 0.12 * np.sin(3 * turn + dice.between(0, 6)) + 0.08 * np.sin(7 * turn + dice.between(0, 6))
    radius = np.hypot(x * np.float32(dice.log(0.6, 1.6)), y)
    soft = dice.log(0.05, 0.6)
    alpha: Alpha = np.clip((edge - radius) / soft, 0, 1).astype(np.float32)
    if dice.chance(0.25):
        alpha *= np.clip((radius - edge + dice.between(0.1, 0.3)) / 0.1, 0, 1)
    return alpha


def disc(radius: float) -> Alpha:
    """A full disc, such as a punch hole over dark ground; `radius` in pixels."""
    y, x = np.ogrid[: 2 * radius + 2, : 2 * radius + 2]
    return np.clip(radius - np.hypot(y - radius, x - radius), 0, 1).astype(np.float32)


def ring(width: float, height: float, line: float) -> Alpha:
    """The outline of an ellipse; `width` and `height` of its middle line and the width of the `line`, in pixels."""
    half_width, half_height, pad = width / 2, height / 2, line / 2 + 1
    x = np.arange(math.ceil(width + 2 * pad), dtype=np.float32)[None] - half_width - pad + 0.5
    y = np.arange(math.ceil(height + 2 * pad), dtype=np.float32)[:, None] - half_height - pad + 0.5
    level = np.maximum(np.hypot(x / half_width, y / half_height), 1e-6)
    steepness = np.maximum(np.hypot(x / half_width**2, y / half_height**2) / level, 1e-6)
    off = np.abs(level - 1) / steepness  # from the ellipse, to first order
    return np.asarray(np.clip((line + 1) / 2 - off, 0, 1), np.float32)


def straight(dice: Dice, length: float, width: float) -> Alpha:
    """A pen line, slightly curved, lying rather than standing: a lone upright stroke may be meant as a 1."""
    angle, bend = dice.between(-0.4, 0.4), dice.normal(0.1)
    t = np.linspace(0, 1, 9)
    arc = bend * np.sin(np.pi * t)
    points = np.stack([np.cos(angle) * t - arc * np.sin(angle), np.sin(angle) * t + arc * np.cos(angle)], axis=1)
    points *= length
    points -= points.min(axis=0) - width - 1
    columns, rows = np.ceil(points.max(axis=0) + width + 2).astype(int)
    board = np.zeros((int(rows), int(columns)), np.uint8)
    thickness = max(1, round(width))
    cv2.polylines(board, [np.round(points * 16).astype(np.int32)], False, 255, thickness, cv2.LINE_AA, 4)
    return board.astype(np.float32) / np.float32(255)


def qr_code(dice: Dice, size: float) -> Alpha:
    """What looks like a QR code: random modules and three finder squares."""
    modules = (dice.rng.random((QR_MODULES, QR_MODULES)) < 0.5).astype(np.float32)
    finder = np.zeros((8, 8), np.float32)
    finder[:7, :7] = 1
    finder[1:6, 1:6] = 0
    finder[2:5, 2:5] = 1
    modules[:8, :8] = finder
    modules[:8, -8:] = finder[:, ::-1]
    modules[-8:, :8] = finder[::-1]
    scale = max(1, round(size / QR_MODULES))
    return np.kron(modules, np.ones((scale, scale), np.float32))


def bar_code(dice: Dice, unit: float) -> Alpha:
    """Upright bars of one to four widths, one to two digit heights tall."""
    module = max(1, round(unit * dice.between(0.04, 0.12)))
    bars: list[float] = []
    for k in range(2 * dice.whole(12, 40) + 1):
        bars += [float(k % 2 == 0)] * (module * dice.whole(1, 4))
    return np.tile(np.array(bars, np.float32), (round(unit * dice.between(0.8, 2)), 1))
