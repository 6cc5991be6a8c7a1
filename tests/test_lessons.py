"""Lessons: every candidate of a made sheet is labelled by whose ink it holds."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from stub import Paper, Stub

from digitize.lessons import UNSURE, Lesson, sample, teach
from digitize.make import MadeDigit, MadePage, Sources
from digitize.records import NO_DIGIT

SHARED = Path(os.environ.get("DIGITIZE_SHARED") or Path(__file__).resolve().parents[1] / ".." / "shared")
MNIST = SHARED / "data" / "mnist"


def made(paper: Paper, values: str, *, gray: np.ndarray | None = None) -> MadePage:
    """A made page of drawn digits: whose ink is whose follows from the boxes, later digits on top."""
    instances = np.zeros(paper.ink.shape, np.uint16)
    for k, box in enumerate(paper.boxes, 1):
        view = np.s_[box.top : box.bottom, box.left : box.right]
        instances[view][paper.ink[view] > 0.5] = k
    digits = tuple(MadeDigit(int(value), box, 1, 1) for value, box in zip(values, paper.boxes, strict=True))
    return MadePage("drawn", paper.gray() if gray is None else gray, instances, digits)


def drawn(text: str, *, gap: float = 0.4, height: int = 44) -> Paper:
    paper = Paper(height + 60, round(1.2 * height * len(text)) + 60)
    paper.number(text, 30, 30, height=height, gap=gap)
    return paper


def labelled(lesson: Lesson, label: int) -> np.ndarray:
    return lesson.tiles[lesson.labels == label]


def test_digits_apart_are_taught_as_they_are() -> None:
    lesson = teach(made(drawn("4071"), "4071"))
    assert lesson.digits == 4
    assert lesson.offered.all()
    assert lesson.survived.all()
    assert sorted(set(lesson.labels.tolist()) & set(range(10))) == [0, 1, 4, 7]
    for value in (0, 1, 4, 7):
        said = Stub().probabilities(labelled(lesson, value))
        assert (said.argmax(axis=1) == value).all()


def test_fragments_are_no_digits() -> None:
    lesson = teach(made(drawn("0"), "0"))
    fragments = labelled(lesson, NO_DIGIT)
    assert len(fragments) >= 2, "the halves of a 0"
    assert len(labelled(lesson, 1)) == 0
    assert set(lesson.labels.tolist()) <= {0, NO_DIGIT, UNSURE}


def test_two_digits_at_once_are_no_digit_and_each_of_them_is_one() -> None:
    paper = Paper(110, 180)
    first = paper.digit(5, 40, 30, height=50)
    paper.digit(5, first.right - 4, 30, height=50)
    page = made(paper, "55")
    lesson = teach(page)
    assert lesson.offered.all()
    assert len(labelled(lesson, 5)) >= 2
    assert len(labelled(lesson, NO_DIGIT)) >= 1


def test_what_belongs_to_nobody_is_no_digit() -> None:
    paper = drawn("38")
    sign = Paper(*paper.ink.shape)
    sign.ink[:] = paper.ink
    left = paper.boxes[-1].right + 12
    sign.line((left, 40), (left + 20, 66), 5)
    lesson = teach(made(paper, "38", gray=sign.gray()))
    alone = teach(made(paper, "38"))
    assert (lesson.labels == NO_DIGIT).sum() > (alone.labels == NO_DIGIT).sum()
    assert set(lesson.labels[lesson.labels < NO_DIGIT]) == set(alone.labels[alone.labels < NO_DIGIT])


def test_a_digit_that_cleaning_loses_is_not_taught() -> None:
    paper = drawn("69")
    gray = paper.gray()
    box = paper.boxes[0]
    gray[box.top : box.bottom, box.left : box.right] = 245  # it never reached the paper
    lesson = teach(made(paper, "69", gray=gray))
    assert lesson.survived.tolist() == [False, True]
    assert lesson.offered.tolist() == [False, True]
    assert len(labelled(lesson, 6)) == 0


def test_a_blank_sheet_teaches_nothing() -> None:
    lesson = teach(made(Paper(60, 80), ""))
    assert lesson.tiles.shape == (0, 28, 28, 2)
    assert len(lesson.labels) == lesson.digits == len(lesson.offered) == 0


def test_a_sample_keeps_every_digit_and_some_others() -> None:
    labels = np.array([3] * 10 + [NO_DIGIT] * 500 + [UNSURE] * 50, np.uint8)
    kept = sample(labels, np.random.default_rng(1))
    digits, none, unsure = (int((labels[kept] == label).sum()) for label in (3, NO_DIGIT, UNSURE))
    assert digits == 10
    assert 10 <= none <= 50
    assert unsure == 0
    assert (np.diff(kept) > 0).all()
    assert np.array_equal(kept, sample(labels, np.random.default_rng(1)))
    assert 0 < len(sample(np.full(500, NO_DIGIT, np.uint8), np.random.default_rng(1))) < 250
    assert len(sample(np.full(5, NO_DIGIT, np.uint8), np.random.default_rng(1))) == 5
    assert len(sample(np.zeros(0, np.uint8), np.random.default_rng(1))) == 0


def test_chance_keeps_a_part_of_the_same_tiles() -> None:
    page = made(drawn("4071"), "4071")
    whole, part = teach(page), teach(page, chance=np.random.default_rng(3))
    assert UNSURE not in part.labels
    assert {tile.tobytes() for tile in whole.tiles[whole.labels < NO_DIGIT]} <= {t.tobytes() for t in part.tiles}
    again = teach(page, chance=np.random.default_rng(3))
    assert np.array_equal(part.tiles, again.tiles)


def test_with_chance_every_digit_is_taught_as_a_place_too() -> None:
    page = made(drawn("4071"), "4071")
    whole, part = teach(page), teach(page, chance=np.random.default_rng(3))
    for value in (4, 0, 7, 1):
        assert len(labelled(part, value)) == len(labelled(whole, value)) + 1


@pytest.mark.skipif(not MNIST.is_dir(), reason=f"no MNIST at {MNIST}: set DIGITIZE_SHARED")
def test_lessons_are_written_for_training(tmp_path: Path) -> None:
    from digitize.lessons import write_lessons

    sources = Sources(mnist=MNIST)
    path = tmp_path / "lessons.npz"
    count = write_lessons(path, 2, sources=sources, seed=5, split="validation")
    with np.load(path) as kept:
        assert kept["tiles"].shape == (count, 28, 28, 2)
        assert kept["tiles"].dtype == np.uint8
        assert kept["labels"].shape == kept["held"].shape == (count,)
        assert kept["held"].all()
        assert set(kept["labels"].tolist()) <= set(range(NO_DIGIT + 1))
