"""What flows between the stages."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digitize.records import Box, Digit, Line, Number, PageReading, shared_area

boxes = st.builds(Box, *(st.integers(0, 9999) for _ in range(2)), *(st.integers(1, 9999) for _ in range(2)))


def digit(value: int, confidence: float = 0.9, left: int = 0) -> Digit:
    return Digit(value, confidence, 1, 0.05, "ok", Box(left, 5, 10, 20))


@pytest.mark.parametrize("sides", [(-1, 0, 1, 1), (0, -1, 1, 1), (0, 0, 0, 1), (0, 0, 1, 0)])
def test_a_box_outside_the_page_or_without_area_is_refused(sides: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="a box needs"):
        Box(*sides)


def test_a_box_ends_where_the_next_begins() -> None:
    box = Box(2, 3, 4, 5)
    assert (box.right, box.bottom) == (6, 8)


def test_boxes_share_the_area_in_which_they_overlap_each_way() -> None:
    box = np.array([0.0, 0.0, 4.0, 3.0])
    others = np.array([[1.0, 1.0, 9.0, 9.0], [1.0, 1.0, 2.0, 2.0], [4.0, 0.0, 5.0, 3.0], [9.0, 9.0, 10.0, 10.0]])
    assert shared_area(others, box).tolist() == [6, 1, 0, 0]
    assert shared_area(box[None, None], others[None]).tolist() == [[6, 1, 0, 0]]


@given(st.lists(boxes, min_size=1, max_size=6))
def test_the_box_around_boxes_is_the_smallest_that_holds_them(members: list[Box]) -> None:
    around = Box.around(members)
    assert around.left == min(box.left for box in members)
    assert around.top == min(box.top for box in members)
    assert around.right == max(box.right for box in members)
    assert around.bottom == max(box.bottom for box in members)


def test_a_number_keeps_its_leading_zeros() -> None:
    assert Number((digit(0), digit(0), digit(7))).text == "007"


def test_a_number_is_right_when_all_its_digits_are() -> None:
    assert Number((digit(1, 0.5), digit(2, 0.5), digit(3, 1.0))).confidence == pytest.approx(0.25)


def test_a_number_stands_around_its_digits() -> None:
    assert Number((digit(1, left=3), digit(2, left=20))).box == Box(3, 5, 27, 20)


def test_digits_are_counted_in_reading_order() -> None:
    first = Line((Number((digit(1), digit(2))), Number((digit(3),))))
    page = PageReading(1, 100, 100, (first, Line((Number((digit(4),)),))))
    places = [(line, number, position, found.value) for line, number, position, found in page.digits()]
    assert places == [(1, 1, 1, 1), (1, 1, 2, 2), (1, 2, 1, 3), (2, 1, 1, 4)]


def test_facts_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        digit(3).value = 4  # type: ignore[misc]
