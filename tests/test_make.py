"""Made sheets: their truth is where their ink is, and the same seed makes the same sheet."""

from __future__ import annotations

import gzip
import json
import os
import struct
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from digitize import hands
from digitize.errors import DatasetError, UsageError
from digitize.make import KINDS, MadePage, Sources, make_page, paint, scene_at, scenes, sheets, write_sheets
from digitize.make.canvas import Canvas, SpoiltError
from digitize.make.dice import Dice
from digitize.make.stock import stock_for

SHARED = Path(os.environ.get("DIGITIZE_SHARED", Path(__file__).parents[1] / ".." / "shared"))
FONT_SIZE, WRITERS = 0.8, 60


@pytest.fixture(scope="session")
def mnist_alone(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """A small set in MNIST's form, its digits drawn by OpenCV, ten a writer; no pen strokes, no fonts."""
    folder = tmp_path_factory.mktemp("mnist")
    tiles = []
    for k in range(10 * WRITERS):
        tile = np.zeros((28, 28), np.uint8)
        cv2.putText(tile, str(k % 10), (6, 22), cv2.FONT_HERSHEY_SIMPLEX, FONT_SIZE, 255, 1 + k // 10 % 2, cv2.LINE_AA)
        tiles.append(tile)
    images, labels = np.stack(tiles), np.arange(len(tiles), dtype=np.uint8) % 10
    head = struct.pack(">IIII", 2051, len(tiles), 28, 28)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + images.tobytes()))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(struct.pack(">II", 2049, len(tiles)) + labels.tobytes())
    )
    np.savez(folder / "writers.npz", train=np.arange(len(tiles)) // 10)
    return Sources(mnist=folder)


@pytest.fixture(scope="session")
def pages(mnist_alone: Sources) -> dict[str, list[MadePage]]:
    """A dozen sheets of each kind."""
    made = defaultdict(list)
    for kind in KINDS:
        for k in range(12):
            made[kind].append(make_page(np.random.default_rng([3, k]), kind, split="train", sources=mnist_alone))
    return made


def test_every_kind_is_gray_with_a_map_of_its_size(pages: dict[str, list[MadePage]]) -> None:
    for kind, made in pages.items():
        for page in made:
            assert page.kind == kind
            assert page.gray.dtype == np.uint8
            assert page.instances.dtype == np.uint16
            assert page.instances.shape == page.gray.shape


def test_the_map_holds_exactly_the_digits_of_the_truth(pages: dict[str, list[MadePage]]) -> None:
    for page in (page for made in pages.values() for page in made):
        assert set(np.unique(page.instances)) - {0} == set(range(1, len(page.digits) + 1))


def test_boxes_hold_their_instances_ink_and_lie_on_the_page(pages: dict[str, list[MadePage]]) -> None:
    for page in (page for made in pages.values() for page in made):
        height, width = page.gray.shape
        for k, digit in enumerate(page.digits, 1):
            rows, columns = np.nonzero(page.instances == k)
            assert digit.box.left <= columns.min() + 1
            assert columns.max() <= digit.box.right
            assert digit.box.top <= rows.min() + 1
            assert rows.max() <= digit.box.bottom
            assert digit.box.right <= width
            assert digit.box.bottom <= height


def test_truth_is_in_reading_order(pages: dict[str, list[MadePage]]) -> None:
    for page in (page for made in pages.values() for page in made):
        places = [(digit.line, digit.number) for digit in page.digits]
        assert places == sorted(places)
        for (line, number), (next_line, next_number) in pairwise(places):
            assert (next_line, next_number) in ((line, number), (line, number + 1), (line + 1, 1))
        for here, there in pairwise(page.digits):
            if (here.line, here.number) == (there.line, there.number):
                assert here.box.left + here.box.right < there.box.left + there.box.right + here.box.height


def test_digits_stand_out_from_their_paper(pages: dict[str, list[MadePage]]) -> None:
    for page in (page for made in pages.values() for page in made):
        for k, digit in enumerate(page.digits, 1):
            box = digit.box
            pad = 3 + box.height // 5
            around = np.s_[max(0, box.top - pad) : box.bottom + pad, max(0, box.left - pad) : box.right + pad]
            ink = page.gray[around][page.instances[around] == k]
            free = page.gray[around][page.instances[around] == 0]
            assert abs(float(np.median(ink)) - float(np.median(free))) > 8


def test_a_plain_sheet_is_the_ink_of_its_scene_on_white(mnist_alone: Sources) -> None:
    untouched = []
    for kind in KINDS:
        spoilt, plain = (
            make_page(np.random.default_rng([3, 2]), kind, split="train", sources=mnist_alone, plain=plain)
            for plain in (False, True)
        )
        assert plain.text == spoilt.text
        assert np.median(plain.gray) == 255
        untouched.append(np.median(spoilt.gray) == 255)
        for k, digit in enumerate(plain.digits, 1):
            box = digit.box
            around = np.s_[box.top : box.bottom, box.left : box.right]
            assert plain.gray[around][plain.instances[around] == k].mean() < 215
    assert not all(untouched)


def test_signs_words_and_choices_stand_beside_digits_and_are_none(mnist_alone: Sources) -> None:
    for kind in ("signed", "choices"):
        beside = 0.0
        for k in range(12):
            rng = np.random.default_rng([3, k])
            page = make_page(rng, kind, split="train", sources=mnist_alone, plain=True)
            near = cv2.dilate((page.instances > 0).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
            beside += float(np.mean(page.gray[~near] < 200))
        assert beside / 12 > 0.005, kind


def test_a_disc_is_full_and_a_ring_is_empty() -> None:
    full, empty = paint.disc(20), paint.ring(40, 30, 3)
    assert full.sum() == pytest.approx(np.pi * 19.5**2, rel=0.02)
    assert empty.sum() == pytest.approx(3 * np.pi * (3 * (20 + 15) - np.sqrt((3 * 20 + 15) * (20 + 3 * 15))), rel=0.1)
    middle = empty.shape[0] // 2, empty.shape[1] // 2
    assert not empty[middle[0] - 10 : middle[0] + 10, middle[1] - 10 : middle[1] + 10].any()
    assert full.max() <= 1
    assert empty.max() <= 1


def test_prose_has_no_digit_and_the_others_have_some(pages: dict[str, list[MadePage]]) -> None:
    assert all(not page.digits for page in pages["prose"])
    for kind in set(KINDS) - {"prose", "dirt"}:
        assert any(page.digits for page in pages[kind])


def test_a_scene_depends_on_seed_and_index_alone(mnist_alone: Sources) -> None:
    series = scenes(8, "train", sources=mnist_alone)
    first = [next(series) for _ in range(6)]
    again = scene_at(8, 5, "train", sources=mnist_alone)
    np.testing.assert_array_equal(again.gray, first[5].gray)
    np.testing.assert_array_equal(again.instances, first[5].instances)
    assert again.digits == first[5].digits
    other = scene_at(9, 5, "train", sources=mnist_alone)
    assert other.gray.shape != again.gray.shape or (other.gray != again.gray).any()


def test_kinds_can_be_chosen(mnist_alone: Sources) -> None:
    series = scenes(2, "train", sources=mnist_alone, kinds=["comb", "single"])
    assert {next(series).kind for _ in range(12)} == {"comb", "single"}
    with pytest.raises(UsageError, match="no kind"):
        make_page(np.random.default_rng(1), "poem", split="train", sources=mnist_alone)


def test_validation_writers_are_never_trained_on(mnist_alone: Sources) -> None:
    train, kept = stock_for(mnist_alone, "train").tiles, stock_for(mnist_alone, "validation").tiles
    assert train is not None
    assert kept is not None
    assert not set(train.writers) & set(kept.writers)
    assert len(train) + len(kept) == 10 * WRITERS


def test_without_digits_there_is_a_dataset_error() -> None:
    with pytest.raises(DatasetError, match="no digits"):
        stock_for(Sources(), "train")


def test_sheets_are_written_with_the_truth_that_the_scorer_reads(tmp_path: Path, mnist_alone: Sources) -> None:
    path = write_sheets(tmp_path / "made", 3, sources=mnist_alone, seed=4, kinds=["field"])
    truth = json.loads(path.read_text())
    assert len(truth) == 3
    for name, entry in truth.items():
        gray = cv2.imread(str(tmp_path / "made" / "images" / name), cv2.IMREAD_GRAYSCALE)
        assert gray is not None
        assert entry["digits"] == "".join(str(box[0]) for box in entry["boxes"])
    with pytest.raises(UsageError, match="gif"):
        write_sheets(tmp_path, 1, sources=mnist_alone, suffix=".gif")


def test_turning_a_canvas_takes_box_and_map_along() -> None:
    canvas = Canvas(60, 40)
    canvas.digit(np.ones((20, 4), np.float32), 28, 10, 0.0, (1, 1, 1))
    canvas.tilt(90)
    instances, (digit,) = canvas.truth()
    rows, columns = np.nonzero(instances)
    assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (4, 20)
    assert (digit.box.width, digit.box.height) == (20, 4)


def test_a_digit_off_the_canvas_or_written_over_is_spoilt() -> None:
    ink = np.ones((10, 4), np.float32)
    canvas = Canvas(30, 30)
    canvas.digit(ink, 28, 5, 0.0, (1, 1, 1))
    with pytest.raises(SpoiltError, match="digit 1"):
        canvas.truth()
    canvas = Canvas(30, 30)
    canvas.digit(ink, 5, 5, 0.0, (1, 1, 1))
    canvas.digit(ink, 6, 5, 0.0, (7, 1, 1))
    with pytest.raises(SpoiltError, match="written over"):
        canvas.truth()


def test_lines_and_numbers_are_counted_anew() -> None:
    canvas = Canvas(90, 90)
    for value, line, number, left, top in ((3, 7, 4, 50, 60), (1, 2, 3, 5, 5), (2, 2, 5, 50, 5)):
        canvas.digit(np.ones((9, 5), np.float32), left, top, 0.0, (value, line, number))
    _, digits = canvas.truth()
    assert [(digit.value, digit.line, digit.number) for digit in digits] == [(1, 1, 1), (2, 1, 2), (3, 2, 1)]


def test_real_hands_make_every_kind_and_keep_their_splits_apart() -> None:
    folder = SHARED / "data" / "hands"
    if not folder.exists():
        pytest.skip(f"no pen strokes in {folder}; set DIGITIZE_SHARED")
    sources = Sources(hands=folder)
    train, kept = stock_for(sources, "train"), stock_for(sources, "validation")
    for one, other in (
        (train.pens, kept.pens),
        (train.letter_pens, kept.letter_pens),
        (train.sign_pens, kept.sign_pens),
    ):
        assert one is not None
        assert other is not None
        assert not set(one.writers) & set(other.writers)
        assert all(hands.split_of(str(writer)) == "validation" for writer in set(other.writers))
    for kind in KINDS:
        page = make_page(np.random.default_rng(1), kind, split="train", sources=sources)
        assert page.gray.size


def test_natural_numbers_begin_with_one_more_often_than_with_nine() -> None:
    dice = Dice(np.random.default_rng(3))
    first = [dice.digits(4)[0] for _ in range(2000)]
    assert first.count("1") > 1.5 * first.count("9")
    assert {len(dice.digits(count)) for count in range(1, 9) for _ in range(20)} == set(range(1, 9))


def test_with_favourites_most_digits_are_one_or_two() -> None:
    pure = set()
    for seed in range(40):
        dice = Dice(np.random.default_rng(seed))
        dice.choose_favourites()
        text = "".join(dice.digits(count) for count in (1, 2, 5) for _ in range(100))
        assert len(text) == 800
        kinds = len(set(dice.favourites))
        assert kinds in (1, 2)
        assert sum(digit in dice.favourites for digit in text) > 500
        pure.add((kinds, len(set(text)) == kinds))
    assert pure == {(1, True), (1, False), (2, True), (2, False)}


@pytest.mark.parametrize("kind", ["table", "comb", "lines"])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_of_sheets_is_of_few_digits(
    kind: str, share: float, monkeypatch: pytest.MonkeyPatch, mnist_alone: Sources
) -> None:
    monkeypatch.setattr(sheets, "MONOTONOUS", share)
    made = [make_page(np.random.default_rng(seed), kind, split="train", sources=mnist_alone) for seed in range(40)]
    counts = [
        np.sort(np.bincount([d.value for d in page.digits], minlength=10)) for page in made if len(page.digits) > 7
    ]
    of_two = [float(count[-2:].sum() / count.sum()) for count in counts]
    assert len(of_two) > 4
    assert (np.median(of_two) > 0.7) == bool(share)
