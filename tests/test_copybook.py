"""Copybook: every digit has forms, a writer bends them as a whole, and a hand that has its own uses them."""

from __future__ import annotations

import numpy as np
import pytest

from digitize.copybook import FORMS, Form
from digitize.hands import Habits, Hand, Pen
from digitize.make.dice import Dice
from digitize.make.stock import habits_for


@pytest.mark.parametrize("digit", range(10))
def test_forms_are_about_one_high_and_start_at_the_top_left(digit: int) -> None:
    assert FORMS[digit]
    for form in FORMS[digit]:
        points = np.concatenate(form.strokes())
        assert points.dtype == np.float32
        low, high = points.min(axis=0), points.max(axis=0)
        assert 0.85 < high[1] - low[1] < 1.15
        assert low[0] > -0.15
        assert high[0] < 1.2


def test_a_writer_s_variant_keeps_the_form_and_no_two_are_alike() -> None:
    form = FORMS[9][0]
    one, other = (form.variant(np.random.default_rng(seed)).strokes()[0] for seed in (1, 2))
    own = form.strokes()[0]
    assert one.shape == other.shape == own.shape
    assert 0.01 < np.abs(one - own).max() < 0.6
    assert np.abs(one - other).max() > 0.02


def test_corners_are_cut_only_where_the_form_is_curved() -> None:
    path = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))
    np.testing.assert_array_equal(Form((path,), curved=False).strokes()[0], np.array(path, np.float32))
    (curved,) = Form((path,)).strokes()
    np.testing.assert_array_equal(curved[[0, -1]], np.array(path, np.float32)[[0, 2]])
    assert np.hypot(*(curved - np.array([1.0, 0.0], np.float32)).T).min() > 0.1  # it no longer meets the corner


def test_a_hand_keeps_to_its_own_form() -> None:
    bar = Form((((0.0, 0.0), (0.0, 1.0)),), curved=False)
    habits = Habits(Pen("ballpoint", 0.05), unevenness=0.0)
    hand = Hand(habits, None, None, {7: np.zeros(1, np.int64)}, "nobody", {7: bar})
    drawn = hand.draw(7, 60, np.random.default_rng(1))
    assert drawn.shape[1] < 0.4 * drawn.shape[0]


def test_some_hands_have_forms_of_their_own() -> None:
    shares = [habits_for(Dice(np.random.default_rng(seed))).own_forms for seed in range(200)]
    assert 0.3 < np.mean(np.array(shares) > 0) < 0.6
    assert max(shares) <= 0.7
