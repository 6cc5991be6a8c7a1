"""Pen strokes and tiles are read as published, and drawn at any size with any pen."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from digitize.errors import DatasetError
from digitize.hands import (
    PEN_KINDS,
    Habits,
    Pen,
    PenKind,
    PenSet,
    draw_strokes,
    draw_tile,
    embellished,
    fitted,
    in_split,
    join_pens,
    read_pendigits,
    read_pens,
    read_tiles,
    sane_digits,
    smooth,
    split_of,
    trimmed,
)

SHARED = Path(os.environ.get("DIGITIZE_SHARED", Path(__file__).parents[1] / ".." / "shared"))
PENDIGITS = """.INCLUDE x.doc
.SEGMENT DIGIT 0 ? "7"
.COMMENT 7 12 224
.PEN_DOWN
 0 100
 60 100
 30 0
.PEN_UP
 .DT 10
.SEGMENT DIGIT 1-2 ? "4"
.COMMENT 4 3 5
.PEN_DOWN
 0 90
 0 50
 50 50
.PEN_UP
.PEN_DOWN
 40 100
 40 0
.PEN_UP
"""
SEVEN = [np.array([[0, 0], [0.6, 0], [0.3, 1]], np.float32)]


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def pendigits(folder: Path) -> PenSet:
    path = folder / "pendigits-orig.tra.gz"
    path.write_bytes(gzip.compress(PENDIGITS.encode()))
    return read_pendigits(path, prefix="pendigits-tra")


def test_pendigits_text_gives_labels_writers_and_strokes_with_y_downwards(tmp_path: Path) -> None:
    pens = pendigits(tmp_path)
    assert pens.labels.tolist() == ["7", "4"]
    assert pens.writers.tolist() == ["pendigits-tra:12", "pendigits-tra:3"]
    np.testing.assert_allclose(pens.strokes(0)[0], [[0, 0], [0.6, 0], [0.3, 1]])
    assert [len(stroke) for stroke in pens.strokes(1)] == [3, 2]


def test_a_file_without_digits_is_a_dataset_error(tmp_path: Path) -> None:
    path = tmp_path / "empty.gz"
    path.write_bytes(gzip.compress(b".INCLUDE x"))
    with pytest.raises(DatasetError, match="no digit"):
        read_pendigits(path, prefix="p")
    with pytest.raises(DatasetError, match="npz"):
        read_pens(path, prefix="p")
    with pytest.raises(DatasetError, match="IDX"):
        read_tiles(tmp_path)


def test_taking_and_joining_keep_every_items_strokes(tmp_path: Path) -> None:
    pens = pendigits(tmp_path)
    back = join_pens([pens.take(np.array([False, True])), pens.take(np.array([True, False]))])
    assert back.labels.tolist() == ["4", "7"]
    for here, there in ((0, 1), (1, 0)):
        for mine, theirs in zip(back.strokes(here), pens.strokes(there), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_a_line_labelled_four_and_a_ring_labelled_eight_are_dropped() -> None:
    turn = np.linspace(0, 2 * np.pi, 30)
    ring = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    eight = np.stack([np.sin(2 * turn) * 0.5, np.cos(turn)], axis=1)
    line = np.array([[0, 0], [0.1, 1.0]])
    shapes, labels = [line, line, ring, ring, eight], ["4", "1", "8", "0", "8"]
    bounds = np.cumsum([0, *map(len, shapes)])
    names = np.array(["a"] * 5)
    pens = PenSet(np.concatenate(shapes).astype(np.float32), bounds, np.arange(6), np.array(labels), names, names)
    assert sane_digits(pens).tolist() == [False, True, False, True, True]


@pytest.mark.parametrize("kind", PEN_KINDS)
@pytest.mark.parametrize("height", [10, 33, 120, 500])
def test_every_pen_draws_at_the_height_that_is_asked_for(kind: PenKind, height: int) -> None:
    alpha = draw_strokes(SEVEN, height, Pen(kind, width=0.1, grain=0.3), rng())
    assert alpha.dtype == np.float32
    assert 0.85 * height - 2 <= alpha.shape[0] <= 1.1 * height + 2
    assert alpha.min() >= 0
    assert 0.5 < alpha.max() <= 1


def test_a_wider_pen_leaves_more_ink() -> None:
    areas = [draw_strokes(SEVEN, 60, Pen(width=width, pressure=0), rng()).sum() for width in (0.03, 0.06, 0.12, 0.2)]
    assert areas == sorted(areas)
    assert areas[3] > 3 * areas[0]


def test_a_tile_keeps_its_shape_and_takes_the_pens_width() -> None:
    tile = np.zeros((28, 28), np.uint8)
    tile[4:24, 12:16] = 255
    thin = draw_tile(tile, 100, rng(), pen=Pen(width=0.13, pressure=0))
    thick = draw_tile(tile, 100, rng(), pen=Pen(width=0.26, pressure=0))
    assert abs(thin.shape[0] - 100) <= 4
    assert thick.sum() > 1.3 * thin.sum()
    assert draw_tile(np.zeros((28, 28), np.uint8), 40, rng()).max() == 0


def test_smoothing_keeps_the_ends_and_a_straight_line() -> None:
    stroke = np.array([[0, 0], [1, 1], [2, 2]], np.float32)
    out = smooth(stroke, 2)
    np.testing.assert_array_equal(out[[0, -1]], stroke[[0, -1]])
    np.testing.assert_allclose(out[:, 0], out[:, 1])


def test_fitted_strokes_start_at_the_origin_and_are_one_high() -> None:
    points = np.concatenate(fitted([stroke * 3 + 7 for stroke in SEVEN]))
    np.testing.assert_allclose(points.min(axis=0), 0)
    np.testing.assert_allclose(points[:, 1].max(), 1, rtol=1e-5)


def test_trimming_blank_ink_leaves_one_pixel() -> None:
    assert trimmed(np.zeros((5, 7), np.float32)).shape == (1, 1)


def test_a_crossed_seven_gets_one_more_stroke() -> None:
    crossed = embellished(SEVEN, 7, Habits(Pen(), bars=1.0), rng())
    assert len(crossed) == 2
    assert 0.3 < crossed[1][:, 1].mean() < 0.7
    assert len(embellished(SEVEN, 7, Habits(Pen()), rng())) == 1


def test_writers_are_split_whole_and_pendigits_test_writers_are_kept() -> None:
    writers = np.array([f"unipen:{k}" for k in range(1000)])
    train, kept = in_split(writers, "train"), in_split(writers, "validation")
    assert (train ^ kept).all()
    assert 60 < kept.sum() < 140
    assert all(split_of(f"pendigits-tes:{k}") == "validation" for k in range(20))


def test_published_files_are_read() -> None:
    folder = SHARED / "data" / "hands"
    if not folder.exists():
        pytest.skip(f"no pen strokes in {folder}; set DIGITIZE_SHARED")
    assert len(read_pendigits(folder / "pendigits-orig.tes.gz", prefix="pendigits-tes")) == 3498
    pens = read_pens(folder / "unipen_digits.npz", prefix="unipen")
    assert len(pens) == 15387
    assert sane_digits(pens.take(np.arange(len(pens)) < 1000)).mean() > 0.95


def test_embellished_digits_keep_their_size_and_change_their_shape() -> None:
    rng = np.random.default_rng(5)
    always = Habits(Pen("ballpoint", 0.08), loops=1.0, openings=1.0, bare=1.0)
    two = np.array([[0.0, 0.2], [0.2, 0.0], [0.5, 0.2], [0.0, 1.0], [0.6, 1.0]], np.float32)
    (looped,) = embellished([two], 2, always, rng)
    assert len(looped) > len(two)
    assert np.allclose(looped[-len(two) :], two)
    assert looped[0, 0] > two[0, 0]  # it begins inside
    nine = np.stack([0.3 + 0.3 * np.sin(np.linspace(0, 7, 40)), np.linspace(0, 1, 40)], axis=1).astype(np.float32)
    (opened,) = embellished([nine], 9, always, rng)
    assert 0.8 * len(nine) < len(opened) < len(nine)
    five = [np.array([[0.0, 0.0], [0.0, 0.5], [0.5, 0.7], [0.0, 1.0]], np.float32), np.array([[0.0, 0.0], [0.4, 0.0]])]
    assert len(embellished([stroke.astype(np.float32) for stroke in five], 5, always, rng)) == 1
    assert embellished([two], 3, always, rng)[0] is two
