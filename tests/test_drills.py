"""Drills: made sheets as the detector sees them, packed into blocks whose truth stays true."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stub import Paper

from digitize import detect, drills
from digitize.errors import DatasetError, OutputError
from digitize.make import KINDS, MadeDigit, MadePage


def made_page(text: str = "4071", height: int = 40) -> MadePage:
    """A drawn number with its truth, as the maker would give it."""
    paper = Paper(2 * height, 2 * height * len(text))
    paper.number(text, height, height // 2, height=height, gap=0.5)
    digits = tuple(MadeDigit(int(v), box, 1, 1) for v, box in zip(text, paper.boxes, strict=True))
    return MadePage("amount", paper.gray(), np.zeros(paper.ink.shape, np.uint16), digits)


def drill() -> drills.Drill:
    prepared = drills.prepare(made_page())
    assert prepared is not None
    return prepared


def test_a_drill_has_digits_of_its_size() -> None:
    prepared = drill()
    heights = prepared.boxes[:, 4] - prepared.boxes[:, 2]
    assert heights == pytest.approx(np.full(4, drills.DRILL_UNIT), rel=0.15)
    for value, left, top, right, bottom in prepared.boxes:
        inside = prepared.shade[round(top) : round(bottom), round(left) : round(right)]
        assert inside.max() > 150, f"no ink where {value} should be"


def test_pages_that_are_too_large_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drills, "LARGEST_PAGE", 10)
    assert drills.prepare(made_page()) is None


@pytest.mark.parametrize("alike", [True, False])
def test_every_box_of_a_block_has_its_ink(alike: bool) -> None:
    rng = np.random.default_rng(3)
    ones = drills.prepare(made_page("1"))
    assert ones is not None
    for _ in range(20):
        block, boxes = drills.compose_block([drill(), ones], rng, alike=alike)
        assert block.shape == (detect.BLOCK_ROWS, detect.BLOCK_COLUMNS)
        assert len(boxes)
        for _, left, top, right, bottom in boxes:
            rows = slice(max(0, round(top)), round(bottom))
            columns = slice(max(0, round(left)), round(right))
            assert block[rows, columns].max() > 70


def test_some_blocks_hold_few_drills_and_are_bare_besides(monkeypatch: pytest.MonkeyPatch) -> None:
    ones = drills.prepare(made_page("1"))
    assert ones is not None
    monkeypatch.setattr(drills, "SPARSE", 1.0)
    sparse = [len(drills.compose_block([ones], np.random.default_rng(seed))[1]) for seed in range(20)]
    assert max(sparse) <= drills.FEW
    monkeypatch.setattr(drills, "SPARSE", 0.0)
    full = [len(drills.compose_block([ones], np.random.default_rng(seed))[1]) for seed in range(20)]
    assert np.mean(full) > 3 * drills.FEW


def test_some_blocks_hold_one_small_drill_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = drills.prepare(made_page("1")), drills.prepare(made_page("1234567"))
    assert small is not None
    assert large is not None
    monkeypatch.setattr(drills, "SPARSE", 0.0)
    monkeypatch.setattr(drills, "ALONE", 1.0)
    monkeypatch.setattr(drills, "SIDEWAYS", 0.0)
    for seed in range(20):
        _, boxes = drills.compose_block([small, large], np.random.default_rng(seed))
        assert boxes[:, 0].tolist() == [1]


def test_drills_without_digits_stand_on_their_heads_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """And those with digits never do: what is read of them upside down is nobody's digit, and no letter's either."""
    monkeypatch.setattr(drills, "SIDEWAYS", 0.0)
    turned: list[int] = []
    laid_down = drills._laid_down

    def counted(one: drills.Drill, quarters: int) -> drills.Drill:
        turned.append(len(one.boxes))
        return laid_down(one, quarters)

    monkeypatch.setattr(drills, "_laid_down", counted)
    letters = drills.Drill(drill().shade, drill().boxes[:0])
    for seed in range(20):
        drills.compose_block([letters, drill()], np.random.default_rng(seed))
    assert turned
    assert not any(turned)


def test_bent_strokes_take_their_boxes_along() -> None:
    one = drill()
    for seed in range(10):
        shade, boxes = drills._bent(one.shade, one.boxes, np.random.default_rng(seed))
        assert (shade != one.shade).any()
        for (_, left, top, right, bottom), before in zip(boxes, one.boxes, strict=True):
            assert (right - left, bottom - top) == pytest.approx((before[3] - before[1], before[4] - before[2]))
            inside = shade[max(0, round(top)) : round(bottom), max(0, round(left)) : round(right)] > 70
            rows, columns = np.nonzero(inside)
            assert np.ptp(rows) > 0.7 * (bottom - top)
            assert np.ptp(columns) > 0.5 * (right - left)


def test_drills_on_their_side_have_no_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drills, "SIDEWAYS", 1.0)
    block, boxes = drills.compose_block([drill()], np.random.default_rng(3))
    assert block.max() > 100
    assert boxes.shape == (0, 5)


def test_the_same_seed_composes_the_same_block() -> None:
    pair = [drills.compose_block([drill()], np.random.default_rng(9)) for _ in range(2)]
    assert (pair[0][0] == pair[1][0]).all()
    assert (pair[0][1] == pair[1][1]).all()


def test_what_is_asked_for_a_digit() -> None:
    asked = drills.ask(np.array([[6, 40, 40, 54, 60]], np.float32))
    row, column = np.unravel_index(asked[..., 0].argmax(), asked.shape[:2])
    assert asked[row, column, 0] == 1
    assert asked[row, column, 2] == 6
    x, y = (column + 0.5) * detect.CELL_COLUMNS, (row + 0.5) * detect.CELL_ROWS
    edges = asked[row, column, 3:] * detect.UNIT
    assert (x - edges[0], y - edges[1], x + edges[2], y + edges[3]) == pytest.approx((40, 40, 54, 60), abs=1e-3)
    assert (asked[..., 0] == 1).sum() == 1


def test_digits_off_the_block_ask_for_nothing() -> None:
    assert not drills.ask(np.array([[6, -90, -90, -70, -60]], np.float32)).any()


def test_drills_come_back_from_their_file(tmp_path: Path) -> None:
    path = tmp_path / "drills.npz"
    own = [drill(), drill()]
    drills.save_drills(path, own)
    for read, written in zip(drills.load_drills(path), own, strict=True):
        assert (read.shade == written.shade).all()
        assert (read.boxes == written.boxes).all()


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut short", None])
def test_what_is_no_drills_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "drills.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"no npz file|cannot be read"):
        drills.load_drills(path)


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", tiles=np.zeros(3))
    with pytest.raises(DatasetError, match="holds no drills"):
        drills.load_drills(tmp_path / "other.npz")


def test_none_and_nowhere_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="make more"):
        drills.save_drills(tmp_path / "none.npz", [])
    with pytest.raises(OutputError, match="cannot be written"):
        drills.save_drills(tmp_path / "no folder" / "drills.npz", [drill()])


def test_drills_that_do_not_add_up_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "drills.npz"
    np.savez(
        path, shapes=np.array([[4, 4]]), shades=np.zeros(9, np.uint8), boxes=np.zeros((0, 5)), counts=np.array([0])
    )
    with pytest.raises(DatasetError, match="do not add up"):
        drills.load_drills(path)


def test_drills_come_from_every_kind_of_sheet() -> None:
    assert drills.WEIGHTS.keys() == KINDS.keys()
    assert min(drills.WEIGHTS.values()) > 0
