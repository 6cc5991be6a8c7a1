"""Calibration on sheets with a known truth: what is right is counted right, and the curve ends up in the card."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from digitize import calibrate, models
from digitize.calibrate import Judged, assess, calibration_error, join, judge, judge_page, made_sheets, store
from digitize.confidence import Calibration
from digitize.errors import DatasetError, ModelError
from digitize.lessons import LARGEST_SHEET
from digitize.make import MadePage, Sources
from digitize.make.canvas import MadeDigit
from digitize.records import Box, Digit, Line, Number, Page, PageReading, Probabilities, Tiles
from digitize.scan import Scanner

SIDE = 100


class NoClassifier:
    def probabilities(self, tiles: Tiles) -> Probabilities:
        raise AssertionError("nobody should ask")


class Recorded(Scanner):
    """Gives the same reading for every page, and keeps how many pages were read at once."""

    def __init__(self, given: PageReading) -> None:
        super().__init__(NoClassifier())
        self.given = given
        self.batches: list[int] = []

    def read_pages(self, pages: Iterable[Page]) -> list[PageReading]:
        self.batches.append(len(list(pages)))
        return [self.given] * self.batches[-1]


def place(k: int) -> Box:
    return Box(10 + 20 * k, 10, 10, 20)


def sheet(*values: int, width: int = SIDE) -> MadePage:
    digits = tuple(MadeDigit(value, place(k), 1, 1) for k, value in enumerate(values))
    return MadePage("single", np.full((SIDE, width), 255, np.uint8), np.zeros((SIDE, width), np.uint16), digits)


def reading(*answers: tuple[int, float, Box]) -> PageReading:
    digits = tuple(Digit(value, sure, 0, 0.0, "ok", box) for value, sure, box in answers)
    return PageReading(1, SIDE, SIDE, (Line((Number(digits),)),) if digits else ())


def judged(belief: np.ndarray, right: np.ndarray, placed: np.ndarray | None = None) -> Judged:
    placed = np.ones(len(right), bool) if placed is None else placed
    return Judged(belief, right, placed, np.arange(len(right)), len(right), len(right))


def boastful(count: int, seed: int = 3) -> Judged:
    """A decoder that is right as often as the square of what it believes."""
    rng = np.random.default_rng(seed)
    belief = rng.random(count)
    return judged(belief, rng.random(count) < belief**2)


def test_an_answer_is_right_at_its_place_with_its_value() -> None:
    found = judge_page(sheet(3, 5), reading((3, 0.9, place(0)), (6, 0.8, place(1)), (1, 0.7, place(3))))
    assert found.right.tolist() == [True, False, False]
    assert found.placed.tolist() == [True, True, False]
    assert found.belief.tolist() == [0.9, 0.8, 0.7]
    assert found.digits == 2
    assert found.f1 == pytest.approx(2 / 5)


def test_a_blank_sheet_has_no_answers() -> None:
    found = judge_page(sheet(), reading())
    assert len(found.belief) == 0
    assert found.f1 == 0.0


def test_sheets_are_read_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "PAGES_AT_ONCE", 2)
    scanner = Recorded(reading((3, 0.9, place(0))))
    found = judge(scanner, [sheet(3), sheet(4), sheet(3)])
    assert scanner.batches == [2, 1]
    assert found.sheet.tolist() == [0, 1, 2]
    assert found.right.tolist() == [True, False, True]


def test_joining_nothing_gives_nothing() -> None:
    assert (join([]).sheets, join([]).digits, len(join([]).right)) == (0, 0, 0)


def test_the_largest_sheets_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    widths = [SIDE, LARGEST_SHEET // SIDE + 1, LARGEST_SHEET // SIDE]

    def scene(seed: int, index: int, *, split: str, sources: Sources, weights: dict[str, float]) -> MadePage:
        assert (seed, split) == (5, "validation")
        assert "prose" not in weights
        return sheet(width=widths[index])

    monkeypatch.setattr(calibrate, "scene_at", scene)
    assert [made.gray.shape[1] for made in made_sheets(Sources(), 3, seed=5)] == [widths[0], widths[2]]


def test_calibration_error_by_hand() -> None:
    assert calibration_error(np.array([0.5, 0.5]), np.array([True, False])) == pytest.approx(0.5)  # a bin each
    many = np.r_[np.full(150, 0.25), np.full(150, 0.75)]
    assert calibration_error(many, np.tile([True, False], 150)) == pytest.approx(0.25, abs=0.05)
    assert calibration_error(np.zeros(0), np.zeros(0, bool)) == 0.0


def test_a_boastful_decoder_is_corrected_on_sheets_not_fitted_on() -> None:
    outcome = assess(boastful(6000))
    assert outcome.before > 0.12
    assert outcome.after < 0.05
    assert outcome.calibration.apply(np.array([0.7]))[0] == pytest.approx(0.49, abs=0.06)
    wrong = [wrong for _, _, wrong in outcome.risks]
    kept = [kept for _, kept, _ in outcome.risks]
    assert kept[0] == 1.0
    assert kept == sorted(kept, reverse=True)
    assert wrong[0] > wrong[3]
    assert "6000 answers" in str(outcome)


def test_answers_at_no_digit_count_unless_told_otherwise() -> None:
    certain = boastful(6000)
    right, belief = np.ones(6000, bool), certain.belief
    placed = np.arange(6000) % 4 > 1  # invented on every other pair of sheets, whatever the belief
    told = judged(belief, right & placed, placed)
    assert assess(told).calibration.apply(np.array([0.8]))[0] == pytest.approx(0.5, abs=0.1)
    assert assess(told, placed=True).calibration.apply(np.array([0.8]))[0] > 0.99


def test_too_few_answers_are_refused() -> None:
    with pytest.raises(DatasetError, match="make more"):
        assess(boastful(1))
    with pytest.raises(DatasetError, match="make more"):
        assess(judged(np.full(8, 0.9), np.zeros(8, bool), np.zeros(8, bool)), placed=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (models.KERAS_FILE, models.TFLITE_FILE):
        (tmp_path / name).write_bytes(name.encode())
    card = {"name": "small", "network": "duet", "views": 2, "classes": [*models.DIGIT_CLASSES, "none"], "seed": 4}
    models.write_card(tmp_path, {**card, "calibration": {"temperature": 1.2}})
    return tmp_path


def test_the_curve_is_kept_in_the_card_beside_the_temperature(folder: Path) -> None:
    before = json.loads((folder / models.CARD_FILE).read_text())
    outcome = assess(boastful(3000))
    store(folder, outcome, seed=9)
    card = models.load_card(folder)
    assert card.temperature == 1.2
    assert {k: v for k, v in card.content.items() if k != "calibration"} == {
        k: v for k, v in before.items() if k != "calibration"
    }
    assert card.calibration["measured_on"]["seed"] == 9
    stored, beliefs = Calibration.from_card(card.calibration), np.linspace(0, 1, 101)
    assert np.allclose(stored.apply(beliefs), outcome.calibration.apply(beliefs), atol=1e-3)


def test_a_card_is_not_mended_over_changed_files(folder: Path) -> None:
    (folder / models.TFLITE_FILE).write_bytes(b"other")
    with pytest.raises(ModelError, match="sha256"):
        store(folder, assess(boastful(300)))
