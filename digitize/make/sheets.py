"""Sheets: one made page after another, each with its truth, and folders of them.

    rng -> kind -> Scene (ink) -> paper, pattern, surroundings -> defects -> MadePage

Scene i of seed s is the same in whatever order and in however many processes it is made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from digitize.errors import OutputError, UsageError
from digitize.hands import Split, noise
from digitize.make.canvas import Instances, MadeDigit, MadePage, SpoiltError
from digitize.make.defects import Look, show_through, spoil
from digitize.make.dice import Dice
from digitize.make.forms import amount, comb, field, single, table
from digitize.make.marks import choices, signed
from digitize.make.notes import dirt, lines, photo, prose, spoil_with, sums
from digitize.make.pages import form
from digitize.make.paint import Paper, paper, security_pattern
from digitize.make.scene import Scene, writer_for
from digitize.make.stock import Sources, Stock, stock_for
from digitize.records import Gray

KINDS: dict[str, Callable[[Stock, Dice], Scene]] = {
    "amount": amount,
    "field": field,
    "comb": comb,
    "table": table,
    "lines": lines,
    "sums": sums,
    "prose": prose,
    "photo": photo,
    "dirt": dirt,
    "single": single,
    "form": form,
    "signed": signed,
    "choices": choices,
}
WEIGHTS: dict[str, float] = {
    "amount": 2.0,
    "field": 1.6,
    "comb": 1.6,
    "table": 1.4,
    "lines": 1.6,
    "sums": 1.0,
    "prose": 1.0,
    "photo": 1.0,
    "dirt": 0.5,
    "single": 1.2,
    "form": 0.4,
    "signed": 1.2,
    "choices": 0.5,
}
LEAST_CONTRAST = 14.0  # gray levels between a digit and what is around it
LEAST_SEEN = 0.7  # share of its ink that is on its own side of the middle level
DEFECT_TRIES = 3
SPOILT_TRIES = 20  # far more than it takes: one scene in a few hundred is spoilt
MONOTONOUS = 0.3  # share of all scenes whose numbers are made of one or two digits
DIRTY = 0.08  # share of all scenes on which a piece of dirt falls


def make_page(rng: np.random.Generator, kind: str, *, split: Split, sources: Sources, plain: bool = False) -> MadePage:
    """Make one sheet.

    Args:
        rng: every choice comes from it.
        kind: a key of `KINDS`.
        split: whose writers and fonts.
        sources: where the material lies.
        plain: what is written on it alone, on white: no paper, no light, no scanner, no tilt. It shows what training
            without scan-like augmentation is worth.

    Raises:
        UsageError: there is no such kind.
        DatasetError: there is no material.
    """
    if kind not in KINDS:
        raise UsageError(f"there is no kind of sheet {kind!r}; choose among {', '.join(KINDS)}")
    stock = stock_for(sources, split)
    dice = Dice(rng)
    if dice.chance(MONOTONOUS):
        dice.choose_favourites()
    spoilt: SpoiltError | None = None
    for _ in range(SPOILT_TRIES):
        try:
            scene = KINDS[kind](stock, dice)
            return _plain(kind, scene) if plain else _developed(stock, dice, kind, scene)
        except SpoiltError as problem:
            spoilt = problem
    raise RuntimeError(f"{SPOILT_TRIES} scenes of kind {kind} in a row were spoilt: {spoilt}")


def _plain(kind: str, scene: Scene) -> MadePage:
    """The ink of a scene on white."""
    instances, digits = scene.canvas.truth()
    return MadePage(kind, np.rint(255 * scene.canvas.light).astype(np.uint8), instances, digits)


def _developed(stock: Stock, dice: Dice, kind: str, scene: Scene) -> MadePage:
    """Put paper under the ink and let the defects happen."""
    canvas = scene.canvas
    if scene.tilt:
        canvas.tilt(scene.tilt)
    if dice.chance(DIRTY):
        spoil_with(canvas, stock, dice, writer_for(stock, dice, scene.unit))
    instances, digits = canvas.truth()
    light = canvas.light
    if dice.chance(0.05):
        light = light * show_through(dice, light)
    shape = light.shape[0], light.shape[1]
    if scene.device == "copy":
        scene.pattern = False
    white = scene.device == "copy" or (scene.device == "scan" and dice.chance(0.35))
    sheet = paper(dice, shape, white=white and not scene.pattern, unit=scene.unit)
    if scene.pattern or (not white and dice.chance(0.05)):
        sheet = sheet * security_pattern(dice, shape, scene.unit)
    sheet = sheet * light
    if scene.surround:
        sheet = _on_a_table(dice, sheet, instances > 0)
    for _ in range(DEFECT_TRIES):
        gray = spoil(dice, sheet, Look(scene.device, scene.unit, scene.stroke, scene.tone))
        if all_legible(gray, instances, digits):
            return MadePage(kind, gray, instances, digits)
    raise SpoiltError("a digit can no longer be seen")


def all_legible(gray: Gray, instances: Instances, digits: Sequence[MadeDigit]) -> bool:
    """Whether every digit still stands out from what is around it: a truth that nobody can see teaches nonsense."""
    for k, digit in enumerate(digits, 1):
        box = digit.box
        pad = max(2, box.height // 8)
        rows = slice(max(0, box.top - pad), box.bottom + pad)
        columns = slice(max(0, box.left - pad), box.right + pad)
        ids, levels = instances[rows, columns], gray[rows, columns]
        own, free = levels[ids == k], levels[ids == 0]
        if not len(own) or not len(free):
            return False
        ink, ground = float(np.median(own)), float(np.median(free))
        least = max(LEAST_CONTRAST, 1.3 * float(np.mean(np.abs(free - ground))))
        if abs(ground - ink) < least:
            return False
        middle = (ink + ground) / 2
        seen = np.mean(own < middle) if ink < ground else np.mean(own > middle)
        if seen < LEAST_SEEN:
            return False
    return True


def _on_a_table(dice: Dice, sheet: Paper, written: NDArray[np.bool_]) -> Paper:
    """Show the sheet's edge on one or two sides, and a table, dark mostly, beyond; never over a digit."""
    rows, columns = np.flatnonzero(written.any(axis=1)), np.flatnonzero(written.any(axis=0))
    if not len(rows):
        return sheet
    height, width = sheet.shape
    room = {"l": int(columns[0]), "r": int(width - 1 - columns[-1]), "t": int(rows[0]), "b": int(height - 1 - rows[-1])}
    beyond = np.zeros(sheet.shape, np.uint8)
    for side in dice.pick(("l", "r", "t", "b", "lt", "rb", "tb")):
        near, far = (dice.between(0.1, 0.8) * room[side] for _ in range(2))
        points = {
            "l": [(0, 0), (near, 0), (far, height), (0, height)],
            "r": [(width, 0), (width - near, 0), (width - far, height), (width, height)],
            "t": [(0, 0), (0, near), (width, far), (width, 0)],
            "b": [(0, height), (0, height - near), (width, height - far), (width, height)],
        }[side]
        cv2.fillPoly(beyond, [np.round(np.array(points) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    level = dice.between(15, 110) if dice.chance(0.8) else dice.between(110, 200)
    table = level + dice.between(1, 12) * noise().patch(dice.rng, (height, width), dice.pick((0.8, 3.0, 14.0)))
    share = beyond.astype(np.float32) / 255
    return (sheet * (1 - share) + table * share).astype(np.float32)


def scenes(
    seed: int,
    split: Split,
    *,
    sources: Sources,
    kinds: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    start: int = 0,
) -> Iterator[MadePage]:
    """Make sheets without end.

    Args:
        seed: of the whole series.
        split: whose writers and fonts.
        sources: where the material lies.
        kinds: only these, each as often as its weight says.
        weights: how often each kind comes; `WEIGHTS` where None.
        start: index of the first scene.

    Yields:
        Scene `start`, `start` + 1, ... of the series; each depends on (seed, index) only.

    Raises:
        UsageError: there is no such kind.
    """
    index = start
    while True:
        yield scene_at(seed, index, split, sources=sources, kinds=kinds, weights=weights)
        index += 1


def scene_at(
    seed: int,
    index: int,
    split: Split,
    *,
    sources: Sources,
    kinds: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    plain: bool = False,
) -> MadePage:
    """Scene `index` of the series that `scenes` yields, or its ink alone: what a pool of processes calls."""
    weights = WEIGHTS if weights is None else weights
    chosen = {kind: weights.get(kind, 1.0) for kind in (kinds if kinds is not None else weights)}
    rng = np.random.default_rng([seed, index, 0 if split == "train" else 1])
    return make_page(rng, Dice(rng).weighted(chosen), split=split, sources=sources, plain=plain)


def write_sheets(
    folder: Path,
    count: int,
    *,
    sources: Sources,
    seed: int = 1,
    split: Split = "validation",
    kinds: Sequence[str] | None = None,
    suffix: str = ".png",
) -> Path:
    """Write sheets and their truth.

    Args:
        folder: is made where it is missing; gets `images/` and `truth.json`, which maps each image's name to its
            kind, its digits in reading order and their boxes ([digit, left, top, width, height]).
        count: how many sheets.
        sources: where the material lies.
        seed: as for `scenes`.
        split: as for `scenes`.
        kinds: as for `scenes`.
        suffix: of the images: .png, .jpg or .tif.

    Returns:
        The path of `truth.json`.

    Raises:
        UsageError: `suffix` is none of these.
        OutputError: the folder cannot be written.
    """
    if suffix not in (".png", ".jpg", ".tif"):
        raise UsageError(f"sheets are written as .png, .jpg or .tif, not {suffix!r}")
    truth: dict[str, dict[str, object]] = {}
    images = folder / "images"
    try:
        images.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            made = scene_at(seed, index, split, sources=sources, kinds=kinds)
            name = f"{index:05d}_{made.kind}{suffix}"
            _, coded = cv2.imencode(suffix, made.gray)
            (images / name).write_bytes(coded.tobytes())
            boxes = [[d.value, d.box.left, d.box.top, d.box.width, d.box.height] for d in made.digits]
            truth[name] = {"kind": made.kind, "digits": made.text, "boxes": boxes}
        path = folder / "truth.json"
        path.write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    except OSError as problem:
        raise OutputError(f"cannot write sheets to {folder} ({problem}); choose another folder") from problem
    return path
