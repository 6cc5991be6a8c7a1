"""Lines and numbers in reading order, however the digits come and however the page lies."""

from __future__ import annotations

import math
import random

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digitize import layout
from digitize.layout import Row, Rules, arrange
from digitize.records import Box

fixed = settings(derandomize=True, deadline=None, max_examples=60)


def number(count: int, left: float, top: float, *, height: int = 40, gap: float = 10) -> list[Box]:
    """Boxes of digits side by side."""
    width = round(0.6 * height)
    return [Box(round(left + k * (width + gap)), round(top), width, height) for k in range(count)]


def read(boxes: list[Box], others: list[Box] | None = None) -> list[list[list[Box]]]:
    """Lines of numbers of boxes."""
    return [[[boxes[k] for k in found] for found in row.numbers] for row in arrange(boxes, others=others or [])]


def lengths(boxes: list[Box], others: list[Box] | None = None) -> list[list[int]]:
    return [[len(found) for found in line] for line in read(boxes, others)]


def turned(boxes: list[Box], degrees: float) -> list[Box]:
    """Boxes moved as the page turns about a far corner; the boxes themselves stay upright."""
    angle = math.radians(degrees)
    moved = []
    for box in boxes:
        x, y = box.left + box.width / 2, box.top + box.height / 2
        x, y = x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)
        moved.append(Box(round(x - box.width / 2) + 400, round(y - box.height / 2) + 400, box.width, box.height))
    return moved


def table() -> list[Box]:
    """Four lines: a number of three, one of two, one of four digits."""
    jitter = random.Random(3)
    boxes: list[Box] = []
    for line in range(4):
        top = 50 + 80 * line
        for count, left in ((3, 40), (2, 300), (4, 480)):
            boxes += [
                Box(b.left + jitter.randint(-1, 1), b.top + jitter.randint(-4, 4), b.width, b.height)
                for b in number(count, left, top)
            ]
    return boxes


def test_no_digits_make_no_lines() -> None:
    assert arrange([], others=[Box(1, 1, 5, 5)]) == []


def test_one_digit_is_a_line() -> None:
    assert arrange([Box(4, 5, 6, 7)], others=[]) == [Row(((0,),))]


def test_lines_from_top_to_bottom_digits_from_left_to_right() -> None:
    boxes = table()
    assert read(boxes) == [
        [boxes[9 * line : 9 * line + 3], boxes[9 * line + 3 : 9 * line + 5], boxes[9 * line + 5 : 9 * line + 9]]
        for line in range(4)
    ]


def test_two_columns_are_read_across() -> None:
    boxes = []
    for line in range(5):
        boxes += [*number(4, 50, 40 + 70 * line), *number(4, 700, 46 + 70 * line)]
    assert lengths(boxes) == [[4, 4]] * 5


@pytest.mark.parametrize("degrees", [-10, -7, -4, -1.5, 1.5, 4, 7, 10])
def test_rows_that_slope_are_rows(degrees: float) -> None:
    boxes = table()
    assert lengths(turned(boxes, degrees)) == [[3, 2, 4]] * 4
    at_rest = [[boxes.index(b) for found in line for b in found] for line in read(boxes)]
    again = turned(boxes, degrees)
    assert [[k for found in row.numbers for k in found] for row in arrange(again, others=[])] == at_rest


@pytest.mark.parametrize("degrees", [-8, 8])
def test_one_long_sloping_line_is_one_line(degrees: float) -> None:
    assert lengths(turned(number(10, 40, 40), degrees)) == [[10]]


@pytest.mark.parametrize("height", [12, 40, 300])
def test_a_wide_gap_starts_a_number_at_any_size(height: int) -> None:
    first = number(3, 10, 10, height=height, gap=0.25 * height)
    second = number(2, first[-1].right + 1.5 * height, 10, height=height, gap=0.25 * height)
    assert lengths(first + second) == [[3, 2]]


@pytest.mark.parametrize("counts", [(2, 1), (1, 2), (2, 2, 1), (3, 1, 2), (1, 3)])
def test_short_numbers_are_told_apart(counts: tuple[int, ...]) -> None:
    boxes: list[Box] = []
    for count in counts:
        boxes += number(count, boxes[-1].right + 60 if boxes else 10, 10, gap=12)
    assert lengths(boxes) == [list(counts)]


def test_digits_that_all_stand_apart_are_one_number() -> None:
    assert lengths(number(8, 10, 10, gap=38)) == [[8]], "a comb field: wide gaps, all alike"


def test_large_and_small_digits_share_a_line_by_their_middles() -> None:
    boxes = [*number(2, 10, 40, height=60), *number(2, 110, 55, height=30)]
    assert len(read(boxes)) == 1


def test_a_sign_between_digits_starts_a_number() -> None:
    boxes = number(4, 10, 10, gap=16)
    sign = Box(boxes[1].right + 2, 25, 12, 14)
    assert lengths(boxes) == [[4]]
    assert lengths(boxes, [sign]) == [[2, 2]]


def test_dots_and_what_stands_elsewhere_start_none() -> None:
    boxes = number(4, 10, 10, gap=16)
    dot = Box(boxes[1].right + 6, 42, 5, 5)
    below = Box(boxes[1].right + 2, 70, 12, 14)
    beside = Box(boxes[-1].right + 20, 25, 12, 14)
    assert lengths(boxes, [dot, below, beside]) == [[4]]


@fixed
@given(st.permutations(range(36)), st.sampled_from([-9.0, -3.0, 0.0, 5.0, 10.0]))
def test_the_order_of_the_digits_leaves_reading_order_alone(order: list[int], degrees: float) -> None:
    boxes = turned(table(), degrees)
    assert read([boxes[k] for k in order]) == read(boxes)


scattered = st.lists(
    st.builds(Box, st.integers(0, 300), st.integers(0, 300), st.integers(1, 60), st.integers(1, 60)),
    max_size=12,
    unique=True,
)


@settings(fixed, max_examples=300)
@given(st.data(), scattered)
def test_scattered_boxes_are_read_alike_in_any_order(data: st.DataObject, boxes: list[Box]) -> None:
    shuffled = data.draw(st.permutations(boxes))
    assert read(shuffled) == read(boxes)


@fixed
@given(scattered)
def test_every_digit_is_read_once(boxes: list[Box]) -> None:
    found = [k for row in arrange(boxes, others=[]) for one in row.numbers for k in one]
    assert sorted(found) == list(range(len(boxes)))


def test_writing_runs_the_way_its_neighbours_stand() -> None:
    line = [Box(30 * k, 100 * row, 20, 30) for row in range(4) for k in range(8)]
    lying = [Box(box.top, box.left, box.height, box.width) for box in line]
    assert layout.beside(line) == 1.0
    assert layout.beside(lying) == 0.0
    assert layout.beside(line[:1]) == 0.5


def test_of_many_boxes_only_some_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [Box(30 * k, 100 * row, 20, 30) for row in range(40) for k in range(50)]
    distance = np.hypot
    asked: list[int] = []
    monkeypatch.setattr(np, "hypot", lambda across, down: asked.append(len(across)) or distance(across, down))
    assert layout.beside(many) == 1.0
    assert set(asked) == {len(many)}
    assert 200 < len(asked) <= 300


@fixed
@given(st.integers(0, 10_000))
def test_looking_up_what_stands_between_is_asking_all(seed: int) -> None:
    dice = random.Random(seed)

    def box(largest: int) -> Box:
        return Box(dice.randint(0, 300), dice.randint(0, 60), dice.randint(1, largest), dice.randint(1, largest))

    others = [box(40) for _ in range(30)]
    a, b = sorted((box(40), box(40)), key=lambda one: one.left + one.width / 2)
    height = 12.0 / layout.SIGN

    def parts(other: Box) -> bool:
        x, y = other.left + other.width / 2, other.top + other.height / 2
        beside = a.left + a.width / 2 < x < b.left + b.width / 2
        upright = other.height > other.width and other.width <= layout.THIN * height
        large = max(other.width, other.height) >= layout.SIGN * height and not upright
        return beside and min(a.top, b.top) < y < max(a.bottom, b.bottom) and large

    near = layout._Signs(others).large_within(0, 10**6, height)
    assert near.between(a, b) == any(map(parts, others))


def test_a_tall_digit_beside_two_lines_joins_neither_to_the_other() -> None:
    upper, lower = number(4, 200, 100), number(4, 200, 170)
    tall = [Box(60, 85, 90, 140)]
    assert sorted(len(found) for line in read([*upper, *lower, *tall]) for found in line) == [1, 4, 4]
    assert len(read([*upper, *lower, *tall])) == 3


def ruled(columns: list[int], top: int, bottom: int, *, scale: float = 1.0, degrees: float = 0.0) -> Rules:
    """Upright lines of a page of 900 x 900 pixels, in working pixels; moved as the page turns where it does."""
    mask = np.zeros((round(900 * scale), round(900 * scale)), np.uint8)
    for x in columns:
        ends = [Box(x, top, 1, 1), Box(x, bottom, 1, 1)]
        first, last = turned(ends, degrees) if degrees else ends
        cv2.line(mask, *((round(scale * end.left), round(scale * end.top)) for end in (first, last)), 1, 3)
    return Rules(mask.astype(bool), scale)


def parted(boxes: list[Box], rules: Rules | None, others: list[Box] | None = None) -> list[list[int]]:
    return [[len(found) for found in row.numbers] for row in arrange(boxes, others=others or [], rules=rules)]


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.7])
def test_the_wall_between_two_columns_starts_a_number(scale: float) -> None:
    boxes = [box for top in (100, 180, 260) for box in (*number(3, 60, top), *number(2, 170, top))]
    assert parted(boxes, None) == [[5], [5], [5]]
    assert parted(boxes, ruled([50, 164, 250], 80, 320, scale=scale)) == [[3, 2], [3, 2], [3, 2]]


@pytest.mark.parametrize("degrees", [-9.0, 9.0])
def test_the_wall_of_a_page_that_lies_askew_starts_a_number(degrees: float) -> None:
    boxes = [box for top in (100, 180, 260) for box in (*number(3, 60, top), *number(2, 170, top))]
    walls = ruled([50, 164, 250], 80, 320, degrees=degrees)
    assert parted(turned(boxes, degrees), walls) == [[3, 2], [3, 2], [3, 2]]


def test_the_walls_of_a_comb_part_no_number() -> None:
    boxes = number(6, 60, 100, gap=12)
    walls = [box.right + 6 for box in boxes]
    assert parted(boxes, ruled(walls, 90, 150)) == [[6]]
    left_over = [Box(x - 3, 96, 6, 38) for x in walls]
    assert parted(boxes, None, left_over) == [[6]]
    slashes = [Box(x - 8, 96, 16, 50) for x in walls]
    assert parted(boxes, None, slashes) == [[1] * 6]


def test_the_lines_of_squared_paper_part_no_number() -> None:
    boxes = [box for top in (100, 180, 260) for box in number(8, 60, top)]
    assert parted(boxes, ruled(list(range(10, 890, 29)), 5, 895)) == [[8], [8], [8]]
