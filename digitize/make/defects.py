"""Defects: what light, scanner, copier, camera and file format do to a sheet. Geometry is left alone here."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from digitize.hands import noise
from digitize.make.dice import Dice
from digitize.make.paint import Paper, slope
from digitize.records import Gray

LEAST_STEP = 70.0  # gray levels between paper and ink that a copier takes for granted

Device = str  # "scan", "copy" (1-bit), "low" (coarse scan), "photo"


@dataclass(frozen=True, slots=True)
class Look:
    """What the defects go by.

    Attributes:
        device: "scan", "copy" (1 bit), "low" (coarse and squeezed), "photo".
        unit: digit height in pixels.
        stroke: stroke width in pixels.
        tone: of the ink: light that passes, 0 black.
    """

    device: Device
    unit: float
    stroke: float
    tone: float


def spoil(dice: Dice, sheet: Paper, look: Look) -> Gray:
    """Everything that happens to a sheet between the pen and the file.

    Args:
        dice: throws.
        sheet: float32 (H, W), 0 to 255.
        look: digit height, stroke and device; defects are measured in them, so that digits stay legible.

    Returns:
        uint8 (H, W).
    """
    contrast = max(20.0, 200 * (1 - look.tone))
    if look.device != "photo" and dice.chance(0.05):
        sheet = erasures(dice, sheet, look)
    if look.device == "photo":
        sheet = lit(dice, sheet)
    elif dice.chance(0.12):
        sheet = sheet + slope(dice, _shape(sheet), dice.between(5, 0.4 * contrast))
    sheet = blurred(dice, sheet, look)
    if dice.chance(0.1):
        kernel = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
        if look.stroke > 2.2 and dice.chance(0.4):
            sheet = _floats(cv2.dilate(sheet, kernel))  # ink wears thin
        elif look.stroke < 0.12 * look.unit:
            sheet = _floats(cv2.erode(sheet, kernel))  # ink bleeds
    if look.device in ("low", "photo") or dice.chance(0.1):
        sheet = coarse(dice, sheet, look)
    grain = min(dice.log(0.6, 14), contrast / 7)
    if look.device != "copy" or dice.chance(0.5):
        if dice.chance(0.75):
            sheet = sheet + np.float32(grain) * noise().patch(dice.rng, _shape(sheet), dice.pick((0.0, 0.0, 0.8)))
        if dice.chance(0.05):
            sheet = salted(dice, sheet, look)
    if dice.chance(0.1):
        sheet = 255 - sheet
    gray = np.clip(sheet, 0, 255).astype(np.uint8)
    if look.device == "copy":
        gray = two_levels(dice, gray, look)
        if dice.chance(0.25):
            return gray
        if dice.chance(0.25):
            gray = cv2.GaussianBlur(gray, (0, 0), dice.between(0.3, 0.6)).astype(np.uint8)
    if dice.chance(0.6 if look.device != "copy" else 0.2):
        gray = squeezed(dice, gray)
    return gray


def _shape(sheet: Paper) -> tuple[int, int]:
    return sheet.shape[0], sheet.shape[1]


def _floats(picture: NDArray[np.generic]) -> Paper:
    return picture.astype(np.float32)


def lit(dice: Dice, sheet: Paper) -> Paper:
    """A lamp to one side, a vignette, the edge of a shadow."""
    rows, columns = _shape(sheet)
    y = np.linspace(-1, 1, rows, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, columns, dtype=np.float32)[None]
    lamp: NDArray[np.floating] = 1 + slope(dice, (rows, columns), dice.between(0, 0.6))
    if dice.chance(0.6):
        cx, cy = dice.normal(0.4), dice.normal(0.4)
        lamp = lamp * (1 - dice.between(0.05, 0.4) * ((x - cx) ** 2 + (y - cy) ** 2) / 2)
    if dice.chance(0.4):
        angle = dice.between(0, 2 * np.pi)
        away = (x * np.cos(angle) + y * np.sin(angle) - dice.normal(0.5)) / dice.log(0.05, 0.6)
        bend = dice.between(0, 1.5) * np.sin(2 * x + dice.between(0, 6)) if dice.chance(0.4) else 0.0
        lamp = lamp * (1 - dice.between(0.15, 0.55) / (1 + np.exp(-np.clip(away + bend, -30, 30))))
    return _floats(sheet * np.clip(lamp, 0.12, 1.3) * dice.between(0.6, 1.0))


def blurred(dice: Dice, sheet: Paper, look: Look) -> Paper:
    """Out of focus, or shaken; never so far that a stroke is lost."""
    most = min(0.045 * look.unit, 0.45 * look.stroke + 0.5)
    spread = {"scan": dice.log(0.3, 0.9), "copy": dice.log(0.4, 1.2)}.get(look.device, dice.log(0.35, 2.5))
    spread = min(spread, max(0.35, most))
    if dice.chance(0.85):
        sheet = _floats(cv2.GaussianBlur(sheet, (0, 0), spread))
    if look.device == "photo" and dice.chance(0.12):
        length = max(2, round(2.2 * most))
        kernel = np.zeros((length, length), np.float32)
        cv2.line(kernel, (0, dice.whole(0, length - 1)), (length - 1, dice.whole(0, length - 1)), 1)
        sheet = _floats(cv2.filter2D(sheet, -1, kernel / kernel.sum()))
    return sheet


def coarse(dice: Dice, sheet: Paper, look: Look) -> Paper:
    """Scanned at fewer dots and enlarged again; digits keep at least 11 of them."""
    least = max(0.35, 11 / look.unit)
    if least >= 0.95:
        return sheet
    factor = dice.between(least, 0.95)
    rows, columns = _shape(sheet)
    small = cv2.resize(
        sheet, (max(2, round(columns * factor)), max(2, round(rows * factor))), interpolation=cv2.INTER_AREA
    )
    how = dice.pick((cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST if look.unit > 30 else cv2.INTER_LINEAR))
    return _floats(cv2.resize(small, (columns, rows), interpolation=how))


def salted(dice: Dice, sheet: Paper, look: Look) -> Paper:
    """Specks, dark and light, one or two pixels wide."""
    share = dice.log(0.0005, 0.006)
    specks = noise().patch(dice.rng, _shape(sheet), dice.pick((0.0, 0.8)))
    level = float(np.sqrt(2 * np.log(1 / share)))
    spotted = np.where(specks > level, np.float32(255 * look.tone * 0.7), sheet)
    return np.where(specks < -level, np.float32(250), spotted).astype(np.float32)


def two_levels(dice: Dice, gray: Gray, look: Look) -> Gray:
    """One bit: a threshold between ink and paper, global or following the neighbourhood."""
    dark = float(np.median(gray)) < 100
    if dark:
        return 255 - two_levels(dice, 255 - gray, look)
    if dice.chance(0.25):
        window = max(3, round(look.unit * dice.between(0.8, 2))) | 1
        offset = dice.between(10, 25)
        return cv2.adaptiveThreshold(gray, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, window, offset).astype(
            np.uint8
        )
    paper, ink = float(np.median(gray)), float(np.percentile(gray, 1))
    ink = min(ink, paper - LEAST_STEP)  # on a blank sheet the threshold must not fall into the noise
    level = ink + (paper - ink) * dice.between(0.4, 0.72)
    return np.where(gray > level, 255, 0).astype(np.uint8)


def squeezed(dice: Dice, gray: Gray) -> Gray:
    """Stored as JPEG."""
    quality = dice.whole(20, 90) if dice.chance(0.7) else dice.whole(60, 97)
    _, coded = cv2.imencode(".jpg", gray, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE), np.uint8)


def erasures(dice: Dice, sheet: Paper, look: Look) -> Paper:
    """Thin stripes in which ink is missing, as a dirty scanner or a dropped-out rule leaves them."""
    sheet = sheet.copy()
    paper = np.float32(np.median(sheet))
    rows, columns = _shape(sheet)
    for _ in range(dice.whole(1, 4)):
        width = max(1, round(min(0.05 * look.unit, look.stroke) * dice.between(0.4, 1)))
        if dice.chance(0.6):
            row = dice.whole(0, rows - 1)
            sheet[row : row + width] = paper
        else:
            column = dice.whole(0, columns - 1)
            sheet[:, column : column + width] = paper
    return sheet


def show_through(dice: Dice, light: NDArray[np.float32]) -> NDArray[np.float32]:
    """The other side of the sheet: its own ink, mirrored, blurred and faint, to be multiplied in."""
    back = cv2.GaussianBlur(light[:, ::-1], (0, 0), dice.between(0.8, 2.5)).astype(np.float32)
    shift = dice.whole(-light.shape[0] // 3, light.shape[0] // 3)
    return (1 - dice.between(0.06, 0.25) * (1 - np.roll(back, shift, axis=0))).astype(np.float32)
