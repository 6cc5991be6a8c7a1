"""Glyphs by contour, and among the candidates always the one that was drawn."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from stub import digit_mask

from digitize import segment
from digitize.records import Box, Mask
from digitize.segment import Candidate, Glyph, Run, claim_ink, find_glyphs, find_runs, find_seams, split_run

fixed = settings(derandomize=True, deadline=None, max_examples=80)
STROKE = 5.0
HEIGHT = 44


def page_of(*placed: tuple[Mask, int, int], shape: tuple[int, int] = (100, 240)) -> Mask:
    """A page with ink at (left, top)."""
    page = np.zeros(shape, bool)
    for mask, left, top in placed:
        page[top : top + mask.shape[0], left : left + mask.shape[1]] |= mask
    return page


def drawn(value: int) -> Mask:
    return digit_mask(value, HEIGHT, pen=STROKE)


def drawn_back(pieces: list[Glyph] | list[Candidate], shape: tuple[int, ...]) -> Mask:
    page = np.zeros(shape, bool)
    for piece in pieces:
        page[piece.box.top : piece.box.bottom, piece.box.left : piece.box.right] |= piece.mask
    return page


def alike(candidate: Candidate, ink: Mask, left: int, top: int) -> float:
    """Intersection over union of a candidate's ink with ink at a place."""
    shape = (300, 500)
    a, b = drawn_back([candidate], shape), page_of((ink, left, top), shape=shape)
    return float((a & b).sum() / (a | b).sum())


def test_no_ink_has_no_glyphs() -> None:
    assert find_glyphs(np.zeros((20, 20), bool), stroke=2.0) == []
    assert find_runs([], stroke=2.0, height=20) == []


def test_a_page_of_ink_is_one_glyph() -> None:
    (glyph,) = find_glyphs(np.ones((20, 30), bool), stroke=2.0)
    assert glyph.box == Box(0, 0, 30, 20)
    assert glyph.mask.all()


def test_glyphs_on_a_5_by_7_page() -> None:
    pen = np.array([list(row) for row in ("##..#..", "##..#.#", "....#..", "#......", ".#.....")]) == "#"
    glyphs = find_glyphs(pen, stroke=1.0)
    assert [(g.box.left, g.box.top, g.box.width, g.box.height) for g in glyphs] == [
        (0, 0, 2, 2),
        (0, 3, 2, 2),  # touching by corners is touching
        (4, 0, 1, 3),
    ], "the lone pixel is a speck"


def test_what_stands_in_a_ring_is_a_glyph_of_its_own() -> None:
    pen = np.zeros((60, 60), np.uint8)
    cv2.circle(pen, (30, 30), 25, 1, 3)
    cv2.circle(pen, (30, 30), 6, 1, -1)
    ring, dot = find_glyphs(pen > 0, stroke=3.0)
    assert (ring.box.width, dot.box.width) == (55, 13)
    assert not ring.mask[15:-15, 15:-15].any(), "the ring holds none of the dot's ink"
    assert ring.mask.sum() + dot.mask.sum() == pen.sum()


def test_rings_within_rings() -> None:
    pen = np.zeros((100, 100), np.uint8)
    for radius in (45, 30, 15):
        cv2.circle(pen, (50, 50), radius, 1, 3)
    glyphs = find_glyphs(pen > 0, stroke=3.0)
    assert len(glyphs) == 3
    assert sum(g.mask.sum() for g in glyphs) == pen.sum()


@fixed
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)))
def test_glyphs_are_the_connected_components(pen: Mask) -> None:
    glyphs = find_glyphs(pen, stroke=0.5)  # at which nothing is a speck
    count, _ = cv2.connectedComponents(pen.astype(np.uint8), connectivity=8)
    assert len(glyphs) == count - 1
    assert np.array_equal(drawn_back(glyphs, pen.shape), pen)
    assert sum(int(g.mask.sum()) for g in glyphs) == pen.sum()
    assert [g.box.left for g in glyphs] == sorted(g.box.left for g in glyphs)


# Merging


def runs_on(page: Mask, *, merge: bool = True) -> list[Run]:
    return find_runs(find_glyphs(page, stroke=STROKE), stroke=STROKE, height=HEIGHT, merge=merge)


def broken_five() -> tuple[Mask, Mask]:
    """A 5 and the same without a few columns of its bar: two pieces."""
    five = drawn(5)
    broken = five.copy()
    broken[:8, 9:13] = False
    assert cv2.connectedComponents(broken.astype(np.uint8))[0] == 3
    return five, broken


def test_the_bar_of_a_broken_5_is_merged() -> None:
    five, broken = broken_five()
    (run,) = runs_on(page_of((broken, 50, 30)))
    assert len(run.glyphs) == 2
    assert max(alike(c, five, 50, 30) for c in run.candidates) > 0.85
    assert max(alike(c, five, 50, 30) for c in run.candidates[:2]) < 0.85


def test_merging_can_be_left_off() -> None:
    runs = runs_on(page_of((broken_five()[1], 50, 30)), merge=False)
    assert [len(run.candidates) for run in runs] == [1, 1]


def test_digits_well_apart_are_runs_of_their_own() -> None:
    runs = runs_on(page_of((drawn(3), 20, 30), (drawn(7), 90, 30), (drawn(1), 160, 30)))
    assert [len(run.glyphs) for run in runs] == [1, 1, 1]


def test_a_dotted_stroke_is_one_candidate() -> None:
    one = np.zeros((47, 6), bool)
    for top in range(0, 47, 10):
        one[top : top + 7] = True
    (run,) = runs_on(page_of((one, 50, 30)))
    assert len(run.glyphs) == 5
    assert any(c.box == Box(50, 30, 6, 47) for c in run.candidates)


# Splitting


def touching(left: int, right: int) -> tuple[Mask, int]:
    """Two digits pushed together until they touch; also where the second begins."""
    a, b = drawn(left), drawn(right)
    for overlap in range(2, a.shape[1]):
        start = a.shape[1] - overlap
        mask = page_of((a, 0, 0), (b, start, 0), shape=(HEIGHT, start + b.shape[1]))
        if cv2.connectedComponents(mask.astype(np.uint8))[0] == 2:
            break
    return mask, start


def test_two_blobs_are_cut_at_their_neck() -> None:
    mask = np.zeros((40, 84), np.uint8)
    cv2.circle(mask, (20, 20), 19, 1, -1)
    cv2.circle(mask, (63, 20), 19, 1, -1)
    mask[18:23, 30:55] = 1  # the neck: blobs end at 39 and begin at 44
    seams = find_seams(mask > 0, stroke=5.0)
    assert any(38 <= seam[20] <= 46 for seam in seams)


@pytest.mark.parametrize(("left", "right"), [(0, 0), (5, 6), (2, 3), (6, 8), (3, 0)])
def test_touching_digits_are_among_the_slices(left: int, right: int) -> None:
    mask, start = touching(left, right)
    (run,) = runs_on(page_of((mask, 40, 20)))
    assert len(run.glyphs) == 1
    cut = split_run(run, {0}, stroke=STROKE, height=HEIGHT)
    assert cut.candidates[0].box == run.candidates[0].box
    assert max(alike(c, drawn(left), 40, 20) for c in cut.candidates) > 0.75
    assert max(alike(c, drawn(right), 40 + start, 20) for c in cut.candidates) > 0.75


def test_a_slanted_gap_is_followed() -> None:
    mask = np.zeros((60, 110), np.uint8)
    for foot in (5, 33):  # two slanted blocks, so near that no straight cut parts them
        corners = np.array([[foot + 25, 0], [foot + 48, 0], [foot + 23, 59], [foot, 59]])
        cv2.fillConvexPoly(mask, corners, 1)
    mask[28:32, 38:50] = 1
    seams = find_seams(mask > 0, stroke=5.0)
    best = min(seams, key=lambda seam: abs(seam[30] - 43))
    columns = np.arange(110) < best[:, None]
    parts = [int((mask * columns).sum()), int((mask * ~columns).sum())]
    assert min(parts) / max(parts) > 0.85
    assert best[5] - best[55] > 8, "the seam leans as the blocks do"


def test_digits_one_above_the_other_are_cut_into_rows() -> None:
    upper, lower = drawn(2), drawn(5)
    tall = page_of((upper, 30, 10), (lower, 30, 10 + HEIGHT - 3), shape=(120, 100))
    (run,) = runs_on(tall)
    cut = split_run(run, {0}, stroke=STROKE, height=HEIGHT)
    assert max(alike(c, upper, 30, 10) for c in cut.candidates) > 0.8
    assert max(alike(c, lower, 30, 10 + HEIGHT - 3) for c in cut.candidates) > 0.8


def well_formed(run: Run) -> None:
    """What holds for every run: each atom is in a candidate, each candidate holds ink and knows its box."""
    union = 0
    for candidate in run.candidates:
        assert 0 < candidate.atoms < 1 << run.atoms
        assert candidate.mask.shape == (candidate.box.height, candidate.box.width)
        assert candidate.mask.any()
        union |= candidate.atoms
    assert union == (1 << run.atoms) - 1
    assert len({c.atoms for c in run.candidates}) == len(run.candidates)


@fixed
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 190), st.integers(0, 50)), min_size=1, max_size=5),
    st.booleans(),
)
def test_no_ink_is_lost_or_invented_by_cutting(placed: list[tuple[int, int, int]], merge: bool) -> None:
    page = page_of(*((drawn(value), left, top) for value, left, top in placed))
    glyphs = find_glyphs(page, stroke=STROKE)
    runs = find_runs(glyphs, stroke=STROKE, height=HEIGHT, merge=merge)
    assert np.array_equal(drawn_back([g for run in runs for g in run.glyphs], page.shape), page)
    for run in runs:
        well_formed(run)
        assert [(c.box, c.atoms) for c in run.candidates[: len(run.glyphs)]] == [
            (glyph.box, 1 << k) for k, glyph in enumerate(run.glyphs)
        ]
        cut = split_run(run, set(range(len(run.glyphs))), stroke=STROKE, height=HEIGHT)
        kept = cut.candidates[: len(run.candidates)]
        assert [c.box for c in kept] == [c.box for c in run.candidates], "what was known of them stays known"
        own = drawn_back(list(run.glyphs), page.shape)
        assert np.array_equal(drawn_back(list(cut.candidates), page.shape), own)
        assert len({c.atoms for c in cut.candidates}) == len(cut.candidates)


@fixed
@given(st.lists(st.integers(0, 9), min_size=2, max_size=4), st.integers(0, 8))
def test_slices_share_ink_only_where_they_share_atoms(values: list[int], overlap: int) -> None:
    page, left = np.zeros((HEIGHT, 200), bool), 0
    for value in values:
        ink = drawn(value)
        page[:, left : left + ink.shape[1]] |= ink
        left += ink.shape[1] - overlap
    for run in runs_on(page):
        cut = split_run(run, set(range(len(run.glyphs))), stroke=STROKE, height=HEIGHT)
        inks = [drawn_back([c], page.shape) for c in cut.candidates]
        for a, one in zip(cut.candidates, inks, strict=True):
            for b, other in zip(cut.candidates, inks, strict=True):
                if not a.atoms & b.atoms:
                    assert not (one & other).any()


def test_a_run_that_is_not_to_be_cut_stays_as_it_is() -> None:
    (run,) = runs_on(page_of((drawn(8), 20, 30)))
    assert split_run(run, set(), stroke=STROKE, height=HEIGHT) is run


# Seams


def slow_sweep(cost: np.ndarray) -> np.ndarray:
    """The same as `_sweep`, as one would write it down."""
    total = cost.astype(float).copy()
    for row in range(1, cost.shape[0]):
        for column in range(cost.shape[1]):
            ways = [total[row - 1, column]]
            if column > 0:
                ways.append(total[row - 1, column - 1] + segment.SEAM_STEP)
            if column + 1 < cost.shape[1]:
                ways.append(total[row - 1, column + 1] + segment.SEAM_STEP)
            total[row, column] += min(ways)
    return total


@fixed
@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(0, 1, width=32)))
def test_the_sweep_is_the_slow_loop(cost: np.ndarray) -> None:
    assert segment._sweep(cost) == pytest.approx(slow_sweep(cost), abs=1e-4)


@fixed
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=60)).filter(lambda m: m.any()))
def test_seams_run_from_left_to_right_without_crossing(mask: Mask) -> None:
    seams = find_seams(mask, stroke=3.0)
    for seam in seams:
        assert seam.shape == (mask.shape[0],)
        assert seam.min() >= 0
        assert seam.max() <= mask.shape[1]
    for one, other in itertools.pairwise(seams):
        assert (one <= other).all()


# Ink of places


def test_ink_in_one_place_is_its_own() -> None:
    pen = np.zeros((20, 30), bool)
    pen[5:15, 4:8] = True
    (mask,) = claim_ink(pen, [Box(3, 4, 8, 12)])
    assert mask.shape == (12, 8)
    assert mask.sum() == 40


def test_a_bar_across_two_places_is_cut_between_them() -> None:
    pen = np.zeros((20, 40), bool)
    pen[8:12, 2:38] = True
    wide, narrow = claim_ink(pen, [Box(0, 0, 24, 20), Box(20, 0, 20, 20)])
    assert wide.sum() + narrow.sum() == pen.sum()
    assert wide[:, :20].sum() == 4 * 18
    border = 20 + narrow.any(axis=0).argmax()
    assert 20 < border < 24


def test_a_place_without_ink_claims_none() -> None:
    (mask,) = claim_ink(np.zeros((9, 9), bool), [Box(1, 1, 5, 5)])
    assert not mask.any()
