"""Tiles to learn from: made sheets taken down our own road, every candidate labelled by whose ink it holds.

What a network must refuse is what our own segmentation offers it: halves of a 0, a 5 without its bar, two digits at
once, a tooth of a comb, a letter, a knot of the paper's pattern. So the lessons are not drawn; they are the candidates
of made sheets, with the sheet's instance map to say which digit's ink each of them holds:

- a digit, where it holds nearly all of one digit's ink and little else;
- no digit, where it clearly does not;
- nothing is taught by what lies between.

With a detector, ink comes by its places instead: so every true digit's box, a little off as a detector's are, gives
one more tile, with the ink that `segment.claim_ink` leaves it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from digitize.classify import Classifier
from digitize.detect import box_within
from digitize.hands import Split
from digitize.make import MadePage, Sources, scene_at
from digitize.normalise import make_tiles
from digitize.records import NO_DIGIT, Page, Probabilities, Tiles
from digitize.scan import Classify, Draft, Settings, draft_page, slice_runs, widened
from digitize.segment import Candidate, claim_ink

WHOLE = 0.88  # share of a digit's ink that a candidate holds to be that digit
BROKEN = 0.78  # share below which it is a fragment
PURE = 0.80  # share of a candidate's ink that is that digit's to be that digit
MIXED = 0.68  # share below which it is more than that digit
VISIBLE = 0.5  # share of a digit's ink that has to have survived cleaning for it to be taught
REACH = 0.7  # stroke widths around a digit's ink that count as its own: bleeding, and enlarged edges
LEAST_NONE, LEAST_NONE_ALONE = 16, 90  # no-digits kept of a sheet, and of one that has no digits at all
NONE_PER_DIGIT = 1.2
JUDGED = 3  # times as many no-digits are shown to an earlier model as are kept
LARGEST_SHEET = 700_000  # pixels of the sheets that `write_lessons` learns from
OFF = 0.05  # of a box's sides, standard deviation of how far a detector's edges lie from the true ones
LEAST_CLAIMED = 0.6  # of a digit's ink that its place has to hold to be taught
UNSURE = 255  # label of candidates that teach nothing


@dataclass(frozen=True, slots=True)
class Lesson:
    """The candidates of one made sheet.

    Attributes:
        tiles: uint8 (N, 28, 28, 2).
        labels: uint8 (N,), 0 to 9, `NO_DIGIT`, or `UNSURE`.
        digits: how many digits the sheet has.
        offered: bool (digits,), whether some candidate is that digit; the others are lost before any network sees
            them.
        survived: bool (digits,), whether cleaning left most of the digit's ink.
    """

    tiles: Tiles = field(repr=False)
    labels: NDArray[np.uint8] = field(repr=False)
    digits: int
    offered: NDArray[np.bool_]
    survived: NDArray[np.bool_]


def teach(
    made: MadePage,
    *,
    settings: Settings | None = None,
    chance: np.random.Generator | None = None,
    judge: Classify | None = None,
) -> Lesson:
    """Take one made sheet down the road and label what comes out.

    Args:
        made: the sheet with its instance map.
        settings: how to clean and segment; every glyph is sliced.
        chance: where given, only a `sample` of the candidates is kept.
        judge: an earlier model; where given too, half of the no-digits kept are those it is most wrong about.
    """
    draft = draft_page(Page("made", 1, made.gray), settings or Settings(), cut=False)
    slice_runs(draft, [set(range(len(run.glyphs))) for run in draft.runs])
    owner, visible, whole = _owners(made, draft)
    said, offered = [], np.zeros(len(made.digits) + 1, bool)
    values = np.array([NO_DIGIT, *(digit.value for digit in made.digits)], np.uint8)
    taught = visible >= VISIBLE * whole
    for run in draft.runs:
        for candidate in run.candidates:
            label, k = _label(candidate, owner, visible, taught)
            said.append(values[k] if label == 0 else label)
            offered[k] |= label == 0
    candidates = [candidate for run in draft.runs for candidate in run.candidates]
    if chance is not None:
        for k, place in _places(made, draft, (owner, visible), chance):
            candidates.append(place)
            said.append(values[k] if taught[k] else UNSURE)
    labels = np.array(said, np.uint8)
    many = 1 if judge is None else JUDGED
    kept = np.arange(len(labels)) if chance is None else sample(labels, chance, many=many)
    tiles = make_tiles([(candidates[k].box, candidates[k].mask) for k in kept], draft.surroundings)
    if chance is not None and judge is not None and len(kept):
        chosen = hardest(labels[kept], judge.probabilities(tiles), chance, many=many)
        kept, tiles = kept[chosen], tiles[chosen]
    return Lesson(tiles, labels[kept], len(made.digits), offered[1:], taught[1:])


def sample(labels: NDArray[np.uint8], rng: np.random.Generator, *, many: int = 1) -> NDArray[np.int64]:
    """Choose among a sheet's candidates: all digits, and in proportion to them some that are none.

    Args:
        labels: of the candidates.
        rng: source of chance.
        many: times as many no-digits as usual.

    Returns:
        Indices in rising order.
    """
    digits = np.flatnonzero(labels < NO_DIGIT)
    none = np.flatnonzero(labels == NO_DIGIT)
    least = LEAST_NONE if len(digits) else LEAST_NONE_ALONE
    count = min(len(none), many * max(least, round(NONE_PER_DIGIT * len(digits))))
    return np.sort(np.r_[digits, rng.choice(none, count, replace=False)]).astype(np.int64)


def hardest(
    labels: NDArray[np.uint8], probabilities: Probabilities, rng: np.random.Generator, *, many: int
) -> NDArray[np.int64]:
    """Choose among a larger sample those that an earlier model gets wrong, and as many again by chance.

    Hard negative mining, as detectors are trained (Felzenszwalb et al., "Object detection with discriminatively trained
    part-based models", PAMI 2010).

    Args:
        labels: of the sample, made with `many`.
        probabilities: float32 (N, 11), what the earlier model says.
        rng: source of chance.
        many: as `sample` was given.
    """
    digits = np.flatnonzero(labels < NO_DIGIT)
    none = np.flatnonzero(labels == NO_DIGIT)
    half = -(-len(none) // many // 2)
    by_doubt = none[np.argsort(probabilities[none, NO_DIGIT], kind="stable")]
    chance = rng.permutation(by_doubt[half:])[:half]
    return np.sort(np.r_[digits, by_doubt[:half], chance]).astype(np.int64)


def _owners(made: MadePage, draft: Draft) -> tuple[NDArray[np.uint16], NDArray[np.int64], NDArray[np.float64]]:
    """Whose ink each working pixel is, how much ink of each digit was kept, and how much there was to keep."""
    shape = draft.ink.pen.shape
    owner: NDArray[np.uint16] = made.instances
    if owner.shape != shape:
        owner = np.asarray(cv2.resize(owner, shape[::-1], interpolation=cv2.INTER_NEAREST), dtype=np.uint16)
    whole = np.bincount(owner.ravel(), minlength=len(made.digits) + 1)
    side = 2 * max(1, round(REACH * draft.ink.stroke)) + 1
    spread = cv2.dilate(owner, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
    owner = np.where(owner > 0, owner, spread).astype(np.uint16)
    visible = np.bincount(owner[draft.ink.pen], minlength=len(whole))
    return owner, visible, whole.astype(np.float64)


def _label(
    candidate: Candidate, owner: NDArray[np.uint16], visible: NDArray[np.int64], taught: NDArray[np.bool_]
) -> tuple[int, int]:
    """(0, k) where the candidate is digit k; else (NO_DIGIT or UNSURE, 0)."""
    box = candidate.box
    held = np.bincount(owner[box.top : box.bottom, box.left : box.right][candidate.mask], minlength=len(visible))
    if len(held) == 1 or not held[1:].any():
        return NO_DIGIT, 0
    k = int(np.argmax(held[1:])) + 1
    share, purity = held[k] / visible[k], held[k] / held.sum()
    if share >= WHOLE and purity >= PURE:
        return (0, k) if taught[k] else (UNSURE, 0)
    if share < BROKEN or purity < MIXED:
        return NO_DIGIT, 0
    return UNSURE, 0


def _places(
    made: MadePage, draft: Draft, owned: tuple[NDArray[np.uint16], NDArray[np.int64]], chance: np.random.Generator
) -> list[tuple[int, Candidate]]:
    """Each true digit, counted from 1, with the ink that it would be left with as a detector's place."""
    owner, visible = owned
    shape = draft.ink.pen.shape
    boxes = []
    for digit in made.digits:
        edges = np.array([digit.box.left, digit.box.top, digit.box.right, digit.box.bottom]) * draft.ink.scale
        size = np.array([edges[2] - edges[0], edges[3] - edges[1]] * 2)
        boxes.append(widened(box_within(edges + chance.normal(0, OFF, 4) * size, shape), shape))
    found = []
    for k, (box, mask) in enumerate(zip(boxes, claim_ink(draft.ink.pen, boxes), strict=True), 1):
        own = owner[box.top : box.bottom, box.left : box.right][mask] == k
        if own.any() and own.mean() >= PURE and own.sum() >= LEAST_CLAIMED * visible[k]:
            found.append((k, Candidate(0, box, mask)))
    return found


def write_lessons(
    path: Path,
    count: int,
    *,
    sources: Sources,
    seed: int = 1,
    split: Split = "train",
    jobs: int = 1,
    judge: Path | None = None,
) -> int:
    """Make sheets, take them down the road, and keep a sample of their tiles as one `.npz`.

    Args:
        path: the file to write: `tiles` uint8 (N, 28, 28, 2), `labels` uint8 (N,), `held` bool (N,), all True for the
            validation split.
        count: how many sheets.
        sources: where digits, letters and fonts lie.
        seed: of the series of sheets.
        split: whose writers and fonts.
        jobs: processes.
        judge: folder of an earlier model, to keep what it gets wrong.

    Returns:
        How many tiles were kept.
    """
    work = _Work(sources, seed, split, judge)
    tiles, labels = [], []
    with get_context("spawn").Pool(jobs, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        for kept, said in tqdm(pool.imap(work, range(count), 16), total=count, unit="sheet", disable=None):
            tiles.append(kept)
            labels.append(said)
    stacked, said = np.concatenate(tiles), np.concatenate(labels)
    np.savez(path, tiles=stacked, labels=said, held=np.full(len(said), split == "validation"))
    return len(said)


@dataclass(frozen=True, slots=True)
class _Work:
    """What a process of `write_lessons` does with the index of a sheet."""

    sources: Sources
    seed: int
    split: Split
    judge: Path | None

    def __call__(self, index: int) -> tuple[Tiles, NDArray[np.uint8]]:
        made = scene_at(self.seed, index, self.split, sources=self.sources)
        if made.gray.size > LARGEST_SHEET:  # costs as much as twenty small ones and teaches no more than two
            return np.zeros((0, 28, 28, 2), np.uint8), np.zeros(0, np.uint8)
        judge = None if self.judge is None else _judge(self.judge)
        lesson = teach(made, chance=np.random.default_rng((self.seed, index)), judge=judge)
        return lesson.tiles, lesson.labels


@functools.cache
def _judge(folder: Path) -> Classify:
    """An earlier model, loaded once a process."""
    return Classifier(folder, device="cpu", threads=1)
