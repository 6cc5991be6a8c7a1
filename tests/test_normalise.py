"""Tiles in MNIST's form: 20 x 20 fit, centre of mass in the middle, no ink cropped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from stub import Paper, digit_mask

from digitize import clean, segment
from digitize.normalise import FIT, INK, RULE, draw_surroundings, fit_digit, make_tiles
from digitize.records import TILE_SIDE, Box, Mask

fixed = settings(derandomize=True, deadline=None, max_examples=80)
inked = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=48)).filter(lambda mask: mask.any())


def alone(mask: Mask, left: int = 0, top: int = 0) -> tuple[Box, Mask]:
    return Box(left, top, mask.shape[1], mask.shape[0]), mask


def extent(tile: np.ndarray) -> tuple[int, int]:
    rows, columns = np.flatnonzero(tile.any(axis=1)), np.flatnonzero(tile.any(axis=0))
    return int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)


@fixed
@given(st.lists(inked, max_size=4))
def test_tiles_have_one_shape_whatever_comes(masks: list[Mask]) -> None:
    tiles = make_tiles([alone(mask) for mask in masks], np.zeros((60, 60), np.uint8))
    assert tiles.shape == (len(masks), 28, 28, 2)
    assert tiles.dtype == np.uint8
    for tile in tiles[..., 0]:
        assert tile.max() == INK
        assert max(extent(tile)) <= FIT


@fixed
@given(arrays(bool, st.tuples(st.integers(1, 20), st.just(20))).filter(lambda m: m.any(axis=0)[[0, -1]].all()))
def test_at_the_size_of_the_fit_every_pixel_of_ink_is_kept(mask: Mask) -> None:
    for turned in (mask, mask.T):
        tile = fit_digit(turned)
        assert set(np.unique(tile)) <= {0, INK}
        assert (tile > 0).sum() == mask.sum()


@fixed
@given(arrays(bool, st.tuples(st.integers(2, 20), st.just(20))).filter(lambda m: m.any(axis=0)[[0, -1]].all()))
def test_made_smaller_ink_keeps_its_mass(mask: Mask) -> None:
    large = np.kron(mask, np.ones((3, 3), bool))
    assert fit_digit(large).sum() == pytest.approx(INK * mask.sum(), rel=0.02)


@pytest.mark.parametrize("value", range(10))
@pytest.mark.parametrize("height", [12, 31, 200])
def test_the_larger_side_is_20_and_the_middle_of_mass_is_the_middle(value: int, height: int) -> None:
    tile = fit_digit(digit_mask(value, height))
    assert max(extent(tile)) == FIT
    mass = tile / tile.sum(dtype=float)
    middle = np.arange(TILE_SIDE) + 0.5
    # As MNIST's: the shift is by whole pixels.
    assert mass.sum(axis=1) @ middle == pytest.approx(TILE_SIDE / 2, abs=0.51)
    assert mass.sum(axis=0) @ middle == pytest.approx(TILE_SIDE / 2, abs=0.51)


def test_centring_stops_at_the_edge_and_loses_no_ink() -> None:
    mask = np.zeros((200, 20), bool)
    mask[:4] = True  # all the mass at the head of a long tail
    mask[:, 10] = True
    mask[190:, 2:18] = False
    mask[:40] = True
    tile = fit_digit(mask)
    assert extent(tile)[0] == FIT
    turned = fit_digit(mask[::-1])
    assert extent(turned)[0] == FIT


def test_a_hairline_is_black_in_the_middle() -> None:
    mask = np.eye(400, dtype=bool)
    assert fit_digit(mask).max() == INK


def test_one_pixel_fills_the_fit() -> None:
    assert extent(fit_digit(np.ones((1, 1), bool))) == (FIT, FIT)


@fixed
@given(st.integers(0, 160), st.integers(0, 160), st.integers(0, 9))
def test_moving_a_glyph_leaves_its_digit_alone(left: int, top: int, value: int) -> None:
    mask = digit_mask(value, 30)
    page = np.zeros((200, 200), np.uint8)
    page[top : top + 30, left : left + mask.shape[1]] = mask * np.uint8(INK)
    (tile,) = make_tiles([alone(mask, left, top)], page)
    assert np.array_equal(tile[..., 0], fit_digit(mask))
    assert not tile[..., 1].any(), "a candidate is not its own surroundings"


@pytest.mark.parametrize(("left", "top"), [(30, 30), (31, 30), (37, 64), (110, 43), (143, 77)])
def test_moving_a_glyph_on_the_page_leaves_its_tile_alone(left: int, top: int) -> None:
    tiles = []
    for x, y in ((60, 50), (left, top)):
        paper = Paper(150, 220)
        paper.digit(5, x, y, height=40)
        ink = clean.extract_ink(paper.gray())
        (glyph,) = segment.find_glyphs(ink.pen, stroke=ink.stroke)
        tiles.append(fit_digit(glyph.mask).astype(int))
    assert np.abs(tiles[0] - tiles[1]).mean() < 2.0


def test_a_loose_box_gives_the_tile_of_a_tight_one() -> None:
    mask = digit_mask(4, 40)
    loose = np.pad(mask, ((3, 9), (7, 2)))
    page = np.zeros((100, 100), np.uint8)
    tight_tile, loose_tile = make_tiles([alone(mask, 27, 23), alone(loose, 20, 20)], page)
    assert np.array_equal(tight_tile, loose_tile)


# Surroundings


def test_surroundings_show_what_is_beside_and_on_which_side() -> None:
    pen, rules = np.zeros((100, 200), bool), np.zeros((100, 200), bool)
    mask = np.ones((20, 20), bool)
    pen[40:60, 90:110] = True  # the candidate
    pen[40:60, 112:116] = True  # a stroke to its right
    rules[70:72] = True  # a rule below
    page = draw_surroundings(pen, rules)
    assert set(np.unique(page)) == {0, RULE, INK}
    (tile,) = make_tiles([alone(mask, 90, 40)], page)
    around = tile[..., 1]
    assert around[14, 20].max() > 200, "12 to 16 pixels to the right of the middle, at half scale: 20 to 22"
    assert not around[:, :14].max(axis=1)[:20].any(), "nothing to the left"
    assert around[24].max() == pytest.approx(RULE, abs=60)


@fixed
@given(st.integers(0, 80), st.integers(0, 80), st.integers(1, 60), st.integers(1, 60))
def test_surroundings_stay_on_the_page(left: int, top: int, width: int, height: int) -> None:
    page = np.full((90, 90), INK, np.uint8)
    mask = np.ones((height, width), bool)[: 90 - top, : 90 - left]
    (tile,) = make_tiles([alone(mask, left, top)], page)
    assert tile.shape == (28, 28, 2)


def test_a_long_piece_of_ink_takes_no_memory_to_speak_of() -> None:
    import tracemalloc

    mask = np.ones((4, 12_000), bool)
    page = np.zeros((8, 12_000), np.uint8)
    tracemalloc.start()
    try:
        make_tiles([alone(mask, 0, 2)], page)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000_000, f"{peak / 1e6:.0f} MB for one candidate on a page of 0.1 megapixels"


def test_specks_too_far_apart_to_be_seen_when_small_leave_a_trace() -> None:
    mask = np.zeros((600, 400), bool)
    mask[0, 0] = mask[-1, -1] = True
    tile = fit_digit(mask)
    assert np.count_nonzero(tile) == 2
    assert tile.max() == INK
