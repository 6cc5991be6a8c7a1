"""Belief becomes a probability: a curve that never falls, kept in a card, and a threshold for a given error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digitize.confidence import CERTAIN, Calibration, fit
from digitize.errors import ModelError, UsageError

fixed = settings(derandomize=True, deadline=None, max_examples=40)


def drawn(count: int = 8_000, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Beliefs that claim too much: at belief b, the share of right ones is b squared."""
    rng = np.random.default_rng(seed)
    belief = 1 - rng.beta(0.6, 4.0, count)
    return belief, rng.random(count) < belief**2


def test_the_curve_is_found_that_was_planted() -> None:
    calibration = fit(*drawn())
    seen = np.array([0.6, 0.75, 0.9, 0.97])
    assert calibration.apply(seen) == pytest.approx(seen**2, abs=0.05)


def test_the_order_of_equal_beliefs_does_not_matter() -> None:
    belief, right = np.repeat([0.3, 0.5, 0.9], 40), np.tile(np.repeat([False, True], 20), 3)
    forth, back = fit(belief, right), fit(belief[::-1], right[::-1])
    assert forth.apply(belief).tolist() == back.apply(belief).tolist()


def test_calibrated_confidences_are_the_share_of_right_ones() -> None:
    calibration = fit(*drawn())
    belief, right = drawn(seed=2)
    confidence = calibration.apply(belief)
    for low, high in ((0.4, 0.6), (0.6, 0.8), (0.8, 0.9), (0.9, 0.97), (0.97, 1.0)):
        among = (confidence >= low) & (confidence < high)
        assert among.sum() > 100
        assert right[among].mean() == pytest.approx(confidence[among].mean(), abs=0.05)


judged = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


@fixed
@given(judged)
def test_the_curve_never_falls_and_stays_a_probability(seen: list[tuple[float, bool]]) -> None:
    calibration = fit(np.array([b for b, _ in seen]), np.array([r for _, r in seen]))
    confidence = calibration.apply(np.linspace(0, 1, 501))
    assert (np.diff(confidence) >= -1e-12).all()
    assert confidence.min() >= 0
    assert confidence.max() <= CERTAIN


@fixed
@given(judged)
def test_a_card_keeps_the_curve(seen: list[tuple[float, bool]]) -> None:
    calibration = fit(np.array([b for b, _ in seen]), np.array([r for _, r in seen]))
    kept = Calibration.from_card(json.loads(json.dumps(calibration.to_card())))
    assert kept.apply(calibration.belief) == pytest.approx(calibration.apply(calibration.belief), abs=1e-4)
    assert kept.threshold_for(1.0) == pytest.approx(calibration.threshold_for(1.0), abs=1e-4)


def test_beliefs_next_to_certainty_can_be_kept() -> None:
    belief = 1 - 10.0 ** -np.linspace(1, 9, 4000)
    right = np.random.default_rng(3).random(4000) < 0.98
    calibration = fit(belief, right)
    assert Calibration.from_card(calibration.to_card()).apply(belief[-1:]) == pytest.approx(0.98, abs=0.02)


def test_the_threshold_leaves_no_more_error_than_asked_for() -> None:
    belief, right = drawn()
    calibration = fit(belief, right)
    confidence = calibration.apply(belief)
    for most in (0.3, 0.1, 0.05):
        threshold = calibration.threshold_for(most)
        kept = confidence >= threshold
        assert kept.any()
        assert 1 - right[kept].mean() <= most + 1e-9
    assert calibration.threshold_for(0.05) > calibration.threshold_for(0.1) > calibration.threshold_for(0.3)


def test_an_error_that_cannot_be_reached_is_refused() -> None:
    with pytest.raises(UsageError, match="--max-error 1e-07"):
        fit(np.linspace(0.5, 1, 400), np.arange(400) % 2 == 0).threshold_for(1e-7)


def test_plain_is_belief_as_it_is() -> None:
    beliefs = np.linspace(0, 1, 11)
    assert Calibration.plain().apply(beliefs) == pytest.approx(beliefs)
    assert Calibration.from_card({"temperature": 1.3}).apply(beliefs) == pytest.approx(beliefs)


WHOLE = {"belief": [0, 0.5, 1], "confidence": [0, 0.5, 0.9], "threshold": [0, 0.5], "error": [0.2, 0.1]}


@pytest.mark.parametrize(
    "stored",
    [
        {"belief": [0, 1]},
        {"belief": [0, 1], "confidence": [0], "threshold": [0], "error": [0]},
        {"belief": [0, 0.5, 0.4, 1], "confidence": [0, 0, 1, 1], "threshold": [0], "error": [0]},
        {"belief": "high", "confidence": [0], "threshold": [0], "error": [0]},
        {"belief": [0, 1], "confidence": [0, 1], "threshold": [], "error": []},
        {**WHOLE, "belief": 0.5},
        {**WHOLE, "belief": [[0, 1]]},
        {**WHOLE, "belief": [0, float("nan"), 1]},
        {**WHOLE, "confidence": [0, 0.5, 7]},
        {**WHOLE, "confidence": [-0.1, 0.5, 1]},
        {**WHOLE, "confidence": [0, 0.6, 0.5]},
        {**WHOLE, "confidence": [0, float("nan"), 1]},
        {**WHOLE, "threshold": [0.5, 0.4]},
        {**WHOLE, "threshold": 0.5},
        {**WHOLE, "error": [0.2, float("inf")]},
        {**WHOLE, "error": [0.2, None]},
    ],
)
def test_a_card_that_holds_no_curve_is_refused(stored: dict[str, object]) -> None:
    with pytest.raises(ModelError, match=r"^duet/card\.json holds .* calibration"):
        Calibration.from_card(stored, Path("duet/card.json"))


def test_a_whole_curve_is_taken() -> None:
    assert Calibration.from_card(WHOLE).apply(np.array([0.75, 1.0])) == pytest.approx([0.7, 0.9])
