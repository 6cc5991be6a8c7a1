"""Glyphs by contour, and for every run of glyphs the candidate digits: whole, merged and split.

Assumes ink at working scale, rules taken out. A contour gives a glyph; a glyph may be a digit, part of one, or
several. Nothing is decided here: each plausible reading of the ink becomes a candidate, and the classifier says what
each one is. Candidates are built from *atoms*, pieces that are never cut further:

- *Whole*: a glyph as it stands.
- *Merged*: neighbours whose boxes nearly meet (the bar of a 5, the halves of a broken stroke).
- *Split*: a glyph cut along seams from top to bottom that cross as little ink as they can. A seam bends and slants
  as far as 45°, so one rule covers the straight cut at a projection's valley, the slanted one between italic digits
  and the one that follows a concavity. The search is the dynamic programme of Avidan & Shamir, "Seam carving for
  content-aware image resizing" (SIGGRAPH 2007), with ink as energy. A seam through a digit is cheap enough to be
  offered as well; the classifier, which has learnt fragments as no digit, is there to refuse it.

Lengths are in stroke widths or in the heights of the glyphs themselves.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from digitize.records import Box, Mask

SPECK = 1.3  # stroke widths: ink smaller than this in both directions is dirt
LINK_GAP = 0.2  # heights of the union: parts of one digit stand no further apart
LEAST_FRAGMENT = 0.15  # page digit heights: pieces smaller than this are crumbs
FRAGMENT, FRAGMENT_GAP = 0.8, 0.3  # page digit heights: pieces smaller than the first may stand the second apart
MERGED_ASPECT = 1.25  # width over height that a merged digit can have
MERGED_GROWTH = 2.2  # heights of the larger part that a merged digit can have
MOST_PARTS = 3  # glyphs merged step by step; a whole close group may hold more
CLOSE = (1.2, 2.4, 4.0)  # stroke widths: pieces nearer than this may be one broken stroke
CRUMB_GAP = 0.12  # page digit heights: pieces nearer than this may be one digit, however small they are
MOST_TOGETHER = 80  # glyphs of one run; more is a texture, and each of them is a run of its own
MOST_BROKEN = 12  # pieces of one broken digit
MOST_MERGES = 40  # merged candidates of one run, and two more for each of its glyphs

LEAST_CHARACTER = 8  # pixels tall: less cannot be told from dirt
SEAM_ROWS = 40  # rows at which seams are searched; taller glyphs are made smaller for it
SEAM_PAPER = 0.02  # what a pixel of paper costs a seam, where a pixel of ink costs 1
SEAM_STEP = 0.05  # what a sideways step costs
SEAM_LEVELS = (0.25, 0.5, 0.75)  # heights at which valleys are looked for
SEAM_INK = 3.6  # stroke widths of ink that a seam may cross
SEAM_SHARE = 0.07  # share of the glyph's ink that has to lie on each side, and between two seams
MOST_SEAMS = 24
SPLIT_ASPECT = 1.3  # width over height up to which a slice is offered as one digit
NARROWEST = 0.3  # width over height under which a glyph is not split
CRUMB = 0.6  # page digit heights: up to this a glyph may be a crumb of a digit that was sliced
SMALLEST = 0.45  # page digit heights under which a glyph is not split, and a slice is not offered
TALL = 1.6  # page digit heights from which a glyph is split into rows as well


@dataclass(frozen=True, slots=True)
class Glyph:
    """One connected piece of ink: its box in working pixels and its own ink, bool (height, width)."""

    box: Box
    mask: Mask = field(repr=False)


@dataclass(frozen=True, slots=True)
class Candidate:
    """Ink that may be one digit.

    Attributes:
        atoms: bit k is set where the candidate holds atom k of its run.
        box: in working pixels.
        mask: bool (height, width), the candidate's own ink.
        parts: glyphs that it is made of; 0 for a slice of one.
    """

    atoms: int
    box: Box
    mask: Mask = field(repr=False)
    parts: int = 1


@dataclass(frozen=True, slots=True)
class Run:
    """Glyphs that may belong together, and their candidates.

    Attributes:
        glyphs: left to right.
        candidates: what to classify; the first `len(glyphs)` are the glyphs whole.
        atoms: how many atoms the candidates are made of.
    """

    glyphs: tuple[Glyph, ...]
    candidates: tuple[Candidate, ...]
    atoms: int


def find_glyphs(pen: Mask, *, stroke: float) -> list[Glyph]:
    """Find the connected pieces of ink by their contours, left to right; specks are left out.

    Args:
        pen: bool (h, w), ink.
        stroke: width of a stroke in pixels.
    """
    ink = pen.astype(np.uint8)
    contours, hierarchy = cv2.findContours(ink, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    glyphs = []
    for k, contour in enumerate(contours):  # drawn one by one: OpenCV converts all that it is handed, each time anew
        if hierarchy[0][k][3] >= 0:  # a hole: drawn with the contour that has it
            continue
        left, top, width, height = cv2.boundingRect(contour)
        if max(width, height) < SPECK * stroke:
            continue
        mask = np.zeros((height, width), np.uint8)
        cv2.drawContours(mask, [contour], 0, 1, cv2.FILLED, offset=(-left, -top))
        mask &= ink[top : top + height, left : left + width]
        hole = hierarchy[0][k][2]
        while hole >= 0:  # other ink inside a hole is another glyph's
            x, y, w, h = cv2.boundingRect(contours[hole])
            if max(w, h) > SPECK * stroke:
                inside = np.zeros((h, w), np.uint8)
                cv2.drawContours(inside, [contours[hole]], 0, 1, cv2.FILLED, offset=(-x, -y))
                cv2.drawContours(inside, [contours[hole]], 0, 0, 1, offset=(-x, -y))
                mask[y - top : y - top + h, x - left : x - left + w][inside > 0] = 0
            hole = hierarchy[0][hole][0]
        glyphs.append(Glyph(Box(left, top, width, height), mask.astype(bool)))
    glyphs.sort(key=lambda glyph: (glyph.box.left, glyph.box.top))
    return glyphs


def piece_boxes(pen: Mask) -> NDArray[np.int64]:
    """The pieces of ink that could be characters of any size: int64 (N, 4), left, top, width, height in pixels.

    What `find_glyphs` takes for a speck beside a thick stroke counts here: it may be a small digit beside a large one.
    """
    contours, hierarchy = cv2.findContours(pen.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    outer = [contour for k, contour in enumerate(contours) if hierarchy[0][k][3] < 0]  # the others are holes
    boxes = np.array([cv2.boundingRect(contour) for contour in outer], np.int64).reshape(-1, 4)
    width, height = boxes[:, 2], boxes[:, 3]
    return boxes[(height >= LEAST_CHARACTER) & (width < 3 * height) & (height < 8 * width)]


def find_runs(glyphs: list[Glyph], *, stroke: float, height: float, merge: bool = True) -> list[Run]:
    """Gather glyphs that may be parts of one digit into runs, with whole and merged candidates.

    Args:
        glyphs: left to right.
        stroke: width of a stroke in pixels.
        height: how tall the page's digits are in pixels.
        merge: off, every glyph is a run of its own.
    """
    links = _links(glyphs, height) if merge else []
    partners: dict[int, list[int]] = {}
    for a, b in links:
        partners.setdefault(a, []).append(b)
    runs = []
    groups = (
        part
        for members in _components(len(glyphs), links)
        for part in ([members] if len(members) <= MOST_TOGETHER else [[member] for member in members])
    )
    for members in groups:
        place = {member: k for k, member in enumerate(members)}
        own = [glyphs[member] for member in members]
        near = [(place[a], place[b]) for a in members for b in partners.get(a, ()) if b in place]
        candidates = [Candidate(1 << k, glyph.box, glyph.mask) for k, glyph in enumerate(own)]
        candidates += _merged(own, near, stroke) if near else []
        runs.append(Run(tuple(own), tuple(candidates), len(own)))
    return runs


def claim_ink(pen: Mask, places: list[Box]) -> list[Mask]:
    """Tell whose ink is whose where digits touch: for each place its own ink.

    A pixel belongs to the place whose middle is nearest, measured in that place's own half widths and half heights, so
    that the border between a wide digit and a narrow one lies where it should.

    Args:
        pen: bool (h, w), ink.
        places: boxes of digits, in pixels of `pen`.

    Returns:
        For each place, bool (height, width) of its box; without a True where the pen left nothing.
    """
    edges = np.array([(box.left, box.top, box.right, box.bottom) for box in places]).reshape(-1, 4)
    middle = (edges[:, :2] + edges[:, 2:]) / 2
    half = (edges[:, 2:] - edges[:, :2]) / 2
    claimed = []
    for k, box in enumerate(places):
        mask = pen[box.top : box.bottom, box.left : box.right].copy()
        near = (
            (edges[:, 0] < box.right) & (edges[:, 2] > box.left) & (edges[:, 1] < box.bottom) & (edges[:, 3] > box.top)
        )
        near[k] = False
        if near.any() and mask.any():
            y, x = np.nonzero(mask)
            point = np.stack([x + box.left + 0.5, y + box.top + 0.5], axis=1)
            own = _distance(point, middle[k], half[k])
            mine = np.ones(len(own), bool)
            for j in np.flatnonzero(near):
                other = _distance(point, middle[j], half[j])
                mine &= (own < other) | ((own == other) & (k < j))
            mask[y, x] = mine
        claimed.append(mask)
    return claimed


def _distance(
    points: NDArray[np.float64], middle: NDArray[np.float64], half: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How far points (N, 2) lie from a middle, in half widths and half heights: 1 on the box's edge."""
    return np.asarray(np.abs((points - middle) / half).max(axis=1), dtype=np.float64)


def split_run(run: Run, which: set[int], *, stroke: float, height: float) -> Run:
    """Add split candidates to a run.

    Args:
        run: as `find_runs` made it: one atom a glyph.
        which: indices of the glyphs to cut.
        stroke: width of a stroke in pixels.
        height: how tall the page's digits are in pixels.

    Returns:
        The run with more atoms; its first candidates are the old ones in their old order, so that what is known of
        them stays known.
    """
    pieces = [_slices(glyph, stroke, height) if k in which else [] for k, glyph in enumerate(run.glyphs)]
    if not any(pieces):
        return run
    first, bits = 0, []
    for slices in pieces:
        count = max(1, len(slices))
        bits.append(((1 << count) - 1) << first)
        first += count
    candidates = []
    for candidate in run.candidates:
        atoms = 0
        for k in atoms_of(candidate.atoms):
            atoms |= bits[k]
        candidates.append(Candidate(atoms, candidate.box, candidate.mask, candidate.parts))
    start = 0
    for k, slices in enumerate(pieces):
        for a in range(len(slices)):
            for b in range(a + 1, len(slices) + 1):
                if b - a == len(slices):
                    continue
                box, mask = _union([(glyph.box, glyph.mask) for glyph in slices[a:b]])
                if b - a > 1 and box.width > SPLIT_ASPECT * max(box.height, height):
                    break
                if max(box.width, box.height) < SMALLEST * min(height, run.glyphs[k].box.height):
                    continue
                candidates.append(Candidate(((1 << (b - a)) - 1) << (start + a), box, mask, 0))
        start += max(1, len(slices))
    candidates += _patched(run, candidates, bits, height)
    return Run(run.glyphs, tuple(candidates), first)


def _patched(run: Run, candidates: list[Candidate], bits: list[int], height: float) -> list[Candidate]:
    """Slices together with a crumb beside them: a digit that touches its neighbour and is broken itself."""
    crumbs = [
        (glyph, bit)
        for glyph, bit in zip(run.glyphs, bits, strict=True)
        if bit.bit_count() == 1 and max(glyph.box.width, glyph.box.height) <= CRUMB * height
    ]
    patched: list[Candidate] = []
    if len(crumbs) > MOST_BROKEN:  # a texture, not a broken digit
        return patched
    for candidate in candidates:
        if candidate.parts or candidate.box.height < SMALLEST * height:
            continue
        for glyph, bit in crumbs:
            box = Box.around([candidate.box, glyph.box])
            if _apart(candidate.box, glyph.box) > CRUMB_GAP * height or box.width > MERGED_ASPECT * box.height:
                continue
            box, mask = _union([(candidate.box, candidate.mask), (glyph.box, glyph.mask)])
            patched.append(Candidate(candidate.atoms | bit, box, mask, 0))
    return patched[:MOST_MERGES]


def atoms_of(atoms: int) -> Iterator[int]:
    """The places of the bits that are set, rising."""
    while atoms:
        yield (atoms & -atoms).bit_length() - 1
        atoms &= atoms - 1


def _links(glyphs: list[Glyph], height: float) -> list[tuple[int, int]]:
    """Pairs of glyphs near enough to be parts of one digit."""
    boxes = np.array([[g.box.left, g.box.top, g.box.right, g.box.bottom] for g in glyphs]).reshape(-1, 4)
    links = []
    for i, (left, top, right, bottom) in enumerate(boxes):
        crumb = CRUMB_GAP * height
        reach = right + max(FRAGMENT_GAP * height, LINK_GAP * MERGED_GROWTH * (bottom - top))
        last = int(np.searchsorted(boxes[:, 0], max(reach, right + 1), side="right"))
        near = boxes[i + 1 : last]
        if not len(near):
            continue
        union_top, union_bottom = np.minimum(near[:, 1], top), np.maximum(near[:, 3], bottom)
        tall = union_bottom - union_top
        wide = np.maximum(near[:, 2], right) - left
        gap_x = near[:, 0] - right
        gap_y = np.maximum(near[:, 1], top) - np.minimum(near[:, 3], bottom)
        taller = np.maximum(near[:, 3] - near[:, 1], bottom - top)
        gap = np.maximum(LINK_GAP * tall, crumb)
        fits = (gap_x <= gap) & (gap_y <= gap)
        small = np.maximum(wide, tall) <= SMALLEST * height
        fits &= small | ((wide <= MERGED_ASPECT * tall) & (tall <= MERGED_GROWTH * taller))
        # Two pieces neither of which is as tall as a digit may be further apart: a pen that skipped.
        larger = np.maximum(near[:, 2] - near[:, 0], near[:, 3] - near[:, 1])
        fits |= (
            (np.minimum(larger, max(right - left, bottom - top)) >= LEAST_FRAGMENT * height)
            & (np.maximum(taller, np.maximum(near[:, 2] - near[:, 0], right - left)) <= FRAGMENT * height)
            & (np.maximum(gap_x, gap_y) <= FRAGMENT_GAP * height)
            & (wide <= MERGED_ASPECT * height)
            & (tall <= MERGED_ASPECT * height)
        )
        links += [(i, i + 1 + int(j)) for j in np.flatnonzero(fits)]
    return links


def _components(count: int, links: list[tuple[int, int]]) -> Iterator[list[int]]:
    """Connected sets of 0 .. count - 1, each in order."""
    root = list(range(count))

    def find(k: int) -> int:
        while root[k] != k:
            root[k] = root[root[k]]
            k = root[k]
        return k

    for a, b in links:
        a, b = find(a), find(b)
        root[max(a, b)] = min(a, b)
    members: dict[int, list[int]] = {}
    for k in range(count):
        members.setdefault(find(k), []).append(k)
    yield from members.values()


def _merged(glyphs: list[Glyph], links: list[tuple[int, int]], stroke: float) -> list[Candidate]:
    """Candidates of several glyphs: linked pairs and triples, and whole groups that nearly touch."""
    beside: dict[int, set[int]] = {}
    for a, b in links:
        beside.setdefault(a, set()).add(b)
        beside.setdefault(b, set()).add(a)
    groups = {frozenset(link) for link in links}
    layer = groups
    for _ in range(MOST_PARTS - 2):
        if len(layer) > MOST_MERGES + 2 * len(glyphs):  # a texture, not a broken digit
            break
        layer = {group | {k} for group in layer for member in group for k in beside[member] - group}
        groups = groups | layer
    for close in CLOSE:
        touching = [(a, b) for a, b in links if _apart(glyphs[a].box, glyphs[b].box) <= close * stroke]
        groups |= {frozenset(c) for c in _components(len(glyphs), touching) if 2 <= len(c) <= MOST_BROKEN}
    candidates = []
    for group in sorted(groups, key=lambda group: (len(group), sorted(group))):
        box = Box.around([glyphs[k].box for k in group])
        tallest = max(glyphs[k].box.height for k in group)
        if box.width > MERGED_ASPECT * box.height or (len(group) == 2 and box.height > MERGED_GROWTH * tallest):
            continue
        box, mask = _union([(glyphs[k].box, glyphs[k].mask) for k in group])
        candidates.append(Candidate(sum(1 << k for k in group), box, mask, len(group)))
        if len(candidates) == MOST_MERGES + 2 * len(glyphs):
            break
    return candidates


def _apart(a: Box, b: Box) -> int:
    """The larger of the gaps between two boxes in x and y; negative where they overlap in both."""
    return max(max(a.left, b.left) - min(a.right, b.right), max(a.top, b.top) - min(a.bottom, b.bottom))


def _union(pieces: list[tuple[Box, Mask]]) -> tuple[Box, Mask]:
    """One box and mask that hold all of the pieces."""
    box = Box.around([piece for piece, _ in pieces])
    mask = np.zeros((box.height, box.width), bool)
    for piece, ink in pieces:
        y, x = piece.top - box.top, piece.left - box.left
        mask[y : y + piece.height, x : x + piece.width] |= ink
    return box, mask


def _slices(glyph: Glyph, stroke: float, height: float) -> list[Glyph]:
    """Cut a glyph into the pieces between its seams, in order; none where it is not to be cut."""
    box, mask = glyph.box, glyph.mask
    if box.height > TALL * height and box.height > TALL * box.width:
        turned = _cut(np.ascontiguousarray(mask.T), stroke)
        return [Glyph(Box(box.left + y, box.top + x, ink.shape[0], ink.shape[1]), ink.T) for x, y, ink in turned]
    if max(box.width, box.height) < SMALLEST * height:
        return []
    if box.width < NARROWEST * box.height or min(box.width, box.height) < 2 * stroke:
        return []
    return [Glyph(Box(box.left + x, box.top + y, ink.shape[1], ink.shape[0]), ink) for x, y, ink in _cut(mask, stroke)]


def _cut(mask: Mask, stroke: float) -> list[tuple[int, int, Mask]]:
    """Cut ink along its seams: (left, top, ink) for each piece, left to right; none without seams."""
    seams = find_seams(mask, stroke=stroke)
    if not len(seams):
        return []
    columns = np.arange(mask.shape[1])
    edges = [np.zeros(mask.shape[0]), *seams, np.full(mask.shape[0], mask.shape[1])]
    pieces = []
    for before, after in itertools.pairwise(edges):
        ink = mask & (columns >= before[:, None]) & (columns < after[:, None])
        rows, filled = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
        if not len(rows):
            continue
        top, left = int(rows[0]), int(filled[0])
        pieces.append((left, top, ink[top : rows[-1] + 1, left : filled[-1] + 1]))
    return pieces


def find_seams(mask: Mask, *, stroke: float) -> list[NDArray[np.float64]]:
    """Find the cheapest ways to cut ink from top to bottom.

    Args:
        mask: bool (h, w), one glyph.
        stroke: width of a stroke in pixels.

    Returns:
        Seams from left to right, none crossing another, each float64 (h,): in each row the first column to its right.
    """
    height, width = mask.shape
    shrink = min(1.0, SEAM_ROWS / height)
    size = (max(2, round(width * shrink)), max(2, round(height * shrink)))
    ink = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    cost = ink + SEAM_PAPER
    down, up = _sweep(cost), _sweep(cost[::-1])[::-1]
    through = down + up - cost
    limit = SEAM_INK * stroke * shrink + SEAM_PAPER * size[1]
    weight = ink.sum()
    rows = np.arange(size[1])
    found: list[tuple[float, float, NDArray[np.int64]]] = []
    for level in SEAM_LEVELS:
        row = min(size[1] - 1, int(level * size[1]))
        profile = through[row]
        valley = (profile <= np.r_[np.inf, profile[:-1]]) & (profile <= np.r_[profile[1:], np.inf]) & (profile <= limit)
        for column in np.flatnonzero(valley):
            seam = np.r_[_trace(down, row, int(column)), _trace(up[::-1], size[1] - 1 - row, int(column))[::-1][1:]]
            share = float(np.where(np.arange(size[0]) < seam[:, None], ink, 0).sum() / weight)
            if SEAM_SHARE <= share <= 1 - SEAM_SHARE:
                found.append((float(profile[column]), share, seam))
    kept: list[tuple[float, NDArray[np.int64]]] = []
    for _, share, seam in sorted(found, key=lambda item: item[0]):
        if len(kept) < MOST_SEAMS and all(abs(share - other) >= SEAM_SHARE for other, _ in kept):
            kept.append((share, seam))
    seams, last = [], np.zeros(height)
    places = (np.arange(height) + 0.5) * size[1] / height - 0.5
    for _, seam in sorted(kept, key=lambda item: item[0]):
        last = np.maximum(last, np.interp(places, rows, seam) * width / size[0])
        seams.append(last)
    return seams


def _sweep(cost: NDArray[np.float32]) -> NDArray[np.float32]:
    """Least cost of a path from the first row to each pixel, moving down and at most one column sideways."""
    total = cost.copy()
    padded = np.full(cost.shape[1] + 2, np.inf, np.float32)
    for row in range(1, len(cost)):
        padded[1:-1] = total[row - 1]
        total[row] += np.minimum(padded[1:-1], np.minimum(padded[:-2], padded[2:]) + SEAM_STEP)
    return total


def _trace(total: NDArray[np.float32], row: int, column: int) -> NDArray[np.int64]:
    """The path that led to (row, column): a column for each row from the first to `row`."""
    path = np.empty(row + 1, np.int64)
    path[row] = column
    width = total.shape[1]
    for above in range(row - 1, -1, -1):
        best, where = total[above, column], column
        for side in (column - 1, column + 1):
            if 0 <= side < width and total[above, side] + SEAM_STEP < best:
                best, where = total[above, side] + SEAM_STEP, side
        column = where
        path[above] = column
    return path
