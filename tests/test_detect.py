"""Places come out where they were planted, however a page is cut into blocks. No network: answers are made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stub import answer_for, write_model

from digitize import detect, models
from digitize.errors import ModelError
from digitize.records import Box, Place

SHAPE = detect.BLOCK_ROWS, detect.BLOCK_COLUMNS


def block_at(
    left: int = 0,
    top: int = 0,
    *,
    zoom: float = 1.0,
    size: tuple[float, int] | None = None,
    inner: tuple[int, int, int, int] | None = None,
) -> detect.Block:
    shade = np.zeros(SHAPE, np.uint8)
    return detect.Block(shade, left, top, inner or (0, 0, SHAPE[1], SHAPE[0]), zoom, size or (zoom, 1))


def places_on(blocks: list[detect.Block], answers: np.ndarray, shape: tuple[int, int] = SHAPE) -> list[Place]:
    return detect.find_places(detect.find_peaks(blocks, answers), shape)


def boxes(*rows: tuple[int, int, int, int, int]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 5)


def test_planted_digits_are_found_with_value_and_box() -> None:
    planted = boxes((7, 20, 30, 34, 50), (1, 36, 31, 40, 51), (0, 100, 80, 118, 101))
    places = places_on([block_at()], answer_for(planted)[None])
    found = sorted((place.box.left, int(place.digits.argmax()), place.box) for place in places)
    assert [value for _, value, _ in found] == [7, 1, 0]
    for (_, _, box), (_, left, top, right, bottom) in zip(found, planted, strict=True):
        assert (box.left, box.top, box.right, box.bottom) == pytest.approx((left, top, right, bottom), abs=1)
    assert all(place.seen > 0.9 and place.digits.sum() == pytest.approx(1) for place in places)


def test_ones_two_cells_apart_are_two() -> None:
    planted = boxes((1, 20, 30, 24, 50), (1, 26, 30, 30, 50))
    places = places_on([block_at()], answer_for(planted)[None])
    assert len(places) == 2


def test_nothing_is_found_in_nothing() -> None:
    assert detect.find_places(detect.Peaks.join([]), SHAPE) == []
    assert places_on([block_at()], answer_for(boxes())[None]) == []


def test_a_digit_in_two_blocks_is_one_place() -> None:
    page = np.zeros((60, 480), np.uint8)
    page[20:40, 20:460] = 255
    blocks = detect.cut_blocks(page, 1.0)
    assert len(blocks) == 2
    middle = (blocks[0].left + blocks[0].inner[2] + blocks[1].left + blocks[1].inner[0]) // 2
    digit = (5, middle - 7, 20, middle + 7, 40)  # both answer for it
    answers = np.stack(
        [answer_for(boxes((digit[0], digit[1] - b.left, digit[2], digit[3] - b.left, digit[4]))) for b in blocks]
    )
    (place,) = places_on(blocks, answers, page.shape)
    assert (place.box.left, place.box.right) == pytest.approx((middle - 7, middle + 7), abs=1)


@pytest.mark.parametrize("gap", [0, detect.GAP + 2], ids=["in ink", "in a gap"])
@pytest.mark.parametrize("apart", [-1, 1])
def test_a_digit_on_a_seam_is_found_where_two_blocks_differ_by_a_cell(apart: int, gap: int) -> None:
    page = np.zeros((60, 480), np.uint8)
    page[20:40, 20:460] = 255
    page[:, 220 : 220 + gap] = 0
    blocks = detect.cut_blocks(page, 1.0)
    assert len(blocks) == 2
    seam = (blocks[0].left + blocks[0].inner[2] + blocks[1].left + blocks[1].inner[0]) // 2
    seen = seam + apart, seam - apart
    answers = [
        answer_for(boxes((5, x - 7 - b.left, 20, x + 7 - b.left, 40))) for x, b in zip(seen, blocks, strict=True)
    ]
    (place,) = places_on(blocks, np.stack(answers), (60, 480))
    assert place.box.left + place.box.width / 2 == pytest.approx(seam, abs=2)


def test_what_is_seen_beyond_a_small_page_is_nothing() -> None:
    page = np.full((40, 60), 200, np.uint8)
    (block,) = detect.cut_blocks(page, 1.0)
    planted = boxes((3, 20, 10, 34, 30), (8, 120, 70, 134, 90))
    (place,) = places_on([block], answer_for(planted)[None], (40, 60))
    assert int(place.digits.argmax()) == 3


def test_of_two_sizes_the_fitting_one_counts() -> None:
    """The same digit, 40 working pixels tall, seen in full size and in half; in half it is as tall as was learnt."""
    full, half = boxes((4, 20, 30, 48, 70)), boxes((9, 10, 15, 24, 35))
    answers = np.stack([answer_for(full), answer_for(half)])
    (place,) = places_on([block_at(zoom=1.0), block_at(zoom=0.5)], answers)
    assert int(place.digits.argmax()) == 9
    assert (place.box.left, place.box.bottom) == pytest.approx((20, 70), abs=2)


def peaks_of(planted: np.ndarray, zoom: float) -> detect.Peaks:
    return detect.find_peaks([block_at(zoom=zoom)], answer_for(planted)[None])


def test_digits_tell_the_size_that_they_want_to_be_looked_at_in() -> None:
    """Those of 10 pixels, in a page looked at in a quarter of its size, are 40 working pixels tall."""
    small = boxes((4, 20, 30, 27, 40), (2, 60, 30, 67, 40), (7, 90, 30, 97, 40))
    assert detect.fitting_zoom(peaks_of(small, 0.25), {0.25}, most=2.0) == pytest.approx(detect.UNIT / 40, rel=0.1)
    assert detect.fitting_zoom(peaks_of(small, 0.25), {0.25}, most=0.4) == 0.4
    assert detect.fitting_zoom(peaks_of(small, 0.25), {0.25, 0.5}, most=2.0) is None
    fitting = boxes((4, 20, 30, 34, 50), (2, 60, 30, 74, 50))
    assert detect.fitting_zoom(peaks_of(fitting, 1.0), {1.0}, most=2.0) is None
    assert detect.fitting_zoom(peaks_of(boxes(), 1.0), {1.0}, most=2.0) is None


def test_a_few_marks_on_a_large_page_are_not_worth_many_blocks() -> None:
    small = boxes((4, 20, 30, 27, 40))  # twice as small as it wants to be
    peaks, blocks = peaks_of(small, 0.25), [block_at(zoom=0.25)]
    (again, *_) = detect.look_again(peaks, blocks, np.full((200, 400), 200, np.uint8), most=2.0)
    assert again.zoom == pytest.approx(0.5, rel=0.1)
    assert detect.look_again(peaks, blocks, np.full((3000, 2000), 200, np.uint8), most=2.0) == []


def test_looks_in_one_size_are_averaged() -> None:
    """Seen as a 4 in two of three looks and as a 9 in none: a 4, though less surely than where all three see it."""
    looks = [block_at(zoom=zoom, size=(1.0, 3)) for zoom in (1.0, 0.5, 0.8)]
    answers = np.stack(
        [answer_for(boxes((4, 20, 30, 48, 70))), answer_for(boxes((4, 10, 15, 24, 35))), answer_for(boxes())]
    )
    (place,) = places_on(looks, answers)
    assert int(place.digits.argmax()) == 4
    assert place.seen == pytest.approx(2 / 3, abs=0.01)
    assert (place.box.left, place.box.bottom) == pytest.approx((20, 70), abs=2)


def test_two_looks_at_a_narrow_digit_are_one_place() -> None:
    """A stroke's width beside one another they hardly overlap, and yet they are one 1."""
    looks = [block_at(zoom=1.0, size=(1.0, 2)), block_at(zoom=0.8, size=(1.0, 2))]
    answers = np.stack([answer_for(boxes((1, 20, 30, 23, 50))), answer_for(boxes((1, 18, 24, 20, 40)))])
    (place,) = places_on(looks, answers)
    assert place.seen > 0.9


def test_few_blocks_are_looked_at_again_and_many_are_not() -> None:
    page = np.zeros((60, 200), np.uint8)
    page[20:40, 20:180:20] = 200
    blocks = detect.look_at(page, 1.0)
    assert [block.zoom for block in blocks] == [1.0, *detect.LOOKS]
    assert {block.size for block in blocks} == {(1.0, 3)}
    blocks = detect.look_at(np.full((600, 600), 200, np.uint8), 1.0)
    assert len(blocks) > detect.MOST_REPEATED
    assert {block.size for block in blocks} == {(1.0, 1)}


def test_places_that_fall_together_once_looks_are_averaged_are_one() -> None:
    """One look sees a digit twice, half its width apart; the other sees it once, between."""
    edges = np.array([[20, 10, 40, 40], [30, 10, 50, 40], [25, 10, 45, 40]], float)
    seen, zoom = np.array([0.6, 0.6, 0.55]), np.array([1.0, 1.0, 0.87])
    digits, size = np.tile(np.eye(10)[2], (3, 1)), np.tile((1.0, 2.0), (3, 1))
    twice = detect.Peaks(seen[:2], edges[:2], digits[:2], zoom[:2], size[:2])
    assert [place.box.left for place in detect.find_places(twice, SHAPE)] == [20, 30]
    (place,) = detect.find_places(detect.Peaks(seen, edges, digits, zoom, size), SHAPE)
    assert place.box == Box(22, 10, 20, 30)
    assert place.seen == pytest.approx((0.6 + 0.55) / 2)


def test_blank_pages_have_no_blocks() -> None:
    assert detect.cut_blocks(np.zeros((500, 700), np.uint8), 0.5) == []


@settings(derandomize=True, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 2000), st.sampled_from([detect.BLOCK_ROWS, detect.BLOCK_COLUMNS]))
def test_blocks_answer_for_all_ink_and_see_what_is_around_what_they_answer_for(
    seed: int, length: int, block: int
) -> None:
    chances = np.random.default_rng(seed)
    lengths = chances.integers(1, chances.choice([10, 40, 300]), 2 * length)  # of ink and of gaps, in turns
    written = np.repeat(np.arange(len(lengths)) % 2 == seed % 2, lengths)[:length]
    ink = np.flatnonzero(written)
    answered = np.zeros(length, int)
    for start, (first, last) in detect._spans(written, block):
        end = start + block
        assert 0 <= start <= max(0, length - block)
        answered[max(0, first) : last] += 1
        begun, parted = first + detect.DOUBLE, last - detect.DOUBLE
        if start > 0:
            assert begun - start >= detect.MARGIN or ink[ink >= begun][0] - start >= detect.EDGE
        if end < length and last < length:
            assert end - parted >= detect.MARGIN or end - 1 - ink[ink < parted][-1] >= detect.EDGE
    assert not written[answered == 0].any()
    assert (answered <= 2).all()


def test_a_page_is_parted_between_its_lines_and_its_columns() -> None:
    """Three lines do not fit into a block, nor do both columns: each part is seen whole, and none of it twice."""
    page = np.zeros((200, 500), np.uint8)
    lines, columns = [(20, 40), (60, 80), (130, 150)], [(30, 240), (280, 470)]
    for top, bottom in lines:
        for left, right in columns:
            page[top:bottom, left:right] = 255
    blocks = detect.cut_blocks(page, 1.0)
    assert len(blocks) == 4
    answered = 0
    for block in blocks:
        left, top, right, bottom = (max(0, edge) for edge in block.inner)
        answered += np.count_nonzero(block.shade[top:bottom, left:right])
    assert answered == np.count_nonzero(page)


@pytest.mark.parametrize(("gap", "answered"), [(detect.GAP - 1, 2 * detect.DOUBLE * 20), (detect.GAP, 40)])
def test_a_page_is_parted_in_a_gap_of_some_width_only(gap: int, answered: int) -> None:
    """In ink two margins are answered for twice; in a gap hardly more than the gap."""
    page = np.zeros((60, 480), np.uint8)
    page[20:40, 20:450] = 255
    page[:, 220 : 220 + gap] = 0
    one, other = detect.cut_blocks(page, 1.0)
    twice = page[:, other.left + other.inner[0] : one.left + one.inner[2]]
    assert np.count_nonzero(twice) == answered


def test_a_faint_line_between_dark_ones_is_shown_and_answered_for() -> None:
    faint = 40  # pencil, of which a detector reads nearly all
    assert faint < detect.INKED
    page = np.zeros((230, 200), np.uint8)
    page[20:40, 20:180] = page[190:210, 20:180] = 200
    page[95:115, 20:180] = faint
    shown = 0
    for block in detect.cut_blocks(page, 1.0):
        left, top, right, bottom = (max(0, edge) for edge in block.inner)
        shown += np.count_nonzero(block.shade[top:bottom, left:right] == faint)
    assert shown == 20 * 160


@pytest.mark.parametrize("shape", [(2, 128, 256), (2, 64, 256, 1)])
def test_blocks_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    try:
        detector = detect.Detector(models.find(models.DEFAULT_DETECTOR), device="cpu", threads=1)
    except ModelError as error:
        pytest.skip(f"needs the shipped detector: {error}")
    with pytest.raises(ValueError, match="expected uint8"):
        detector.answers(np.zeros(shape, np.uint8))


def test_the_shipped_detector_answers_any_number_of_blocks() -> None:
    try:
        detector = detect.Detector(models.find(models.DEFAULT_DETECTOR), device="cpu", threads=1)
    except ModelError as error:
        pytest.skip(f"needs the shipped detector: {error}")
    blocks = np.random.default_rng(0).integers(0, 255, (5, *SHAPE, 1)).astype(np.uint8)
    answers = detector.answers(blocks)
    assert answers.shape == (5, 32, 128, detect.CHANNELS)
    np.testing.assert_allclose(answers[3:4], detector.answers(blocks[3:4]), atol=1e-4)


def test_a_classifier_is_no_detector(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="one to detect is needed"):
        detect.Detector(write_model(tmp_path / "model"), device="cpu")


@given(st.lists(st.tuples(*[st.integers(0, 60)] * 2, *[st.integers(1, 40)] * 2), min_size=1, max_size=30))
def test_looking_only_among_near_rows_finds_the_same_as_looking_at_all(
    corners: list[tuple[int, int, int, int]],
) -> None:
    edges = np.array([(left, top, left + width, top + height) for left, top, width, height in corners], float)
    kept: list[int] = []
    for k in range(len(edges)):  # the obvious loop
        if all(not is_same(edges[k], edges[other]) for other in kept):
            kept.append(k)
    assert detect._distinct(edges, np.arange(len(edges)), detect._Rows(edges)) == kept


def is_same(one: np.ndarray, other: np.ndarray) -> bool:
    sides = np.maximum(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0)
    shared = sides.prod()
    areas = [(box[2:] - box[:2]).prod() for box in (one, other)]
    return bool(shared > detect.SAME * (sum(areas) - shared) or shared > detect.INSIDE * min(areas))
