"""Losses are laid at the door of the stage that caused them: planted faults, planted answers."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digitize.errors import DatasetError
from digitize.losses import Tally, align, losses, match_boxes, render
from digitize.records import Box, Digit, Gray, Line, Number, Page, PageReading, Probabilities, Tiles
from digitize.scan import Scanner

SHARED = Path(os.environ.get("DIGITIZE_SHARED", Path(__file__).parents[1] / ".." / "shared"))
BOXES = st.builds(Box, *(st.integers(0, 40),) * 2, *(st.integers(1, 30),) * 2)

Answer = tuple[int, Box]


class NoClassifier:
    """Stands where a classifier is needed that nobody asks."""

    def probabilities(self, tiles: Tiles) -> Probabilities:
        raise AssertionError("nobody should ask")


class Planted(Scanner):
    """Gives the answers it was given, one page after another."""

    def __init__(self, *answers: list[Answer]) -> None:
        super().__init__(NoClassifier())
        self._answers = iter(answers)

    def read_pages(self, pages: Iterable[Page]) -> list[PageReading]:
        return [self._reading(page, next(self._answers)) for page in pages]

    def _reading(self, page: Page, answers: list[Answer]) -> PageReading:
        digits = tuple(Digit(value, 0.9, 0, 0.0, "ok", box) for value, box in answers)
        lines = (Line((Number(digits),)),) if digits else ()
        return PageReading(page.number, page.gray.shape[1], page.gray.shape[0], lines)


def draw(text: str = "0356", *, gap: int = 24) -> tuple[Gray, list[Answer]]:
    """A sheet with digits drawn by OpenCV, and their tight boxes."""
    gray = np.full((120, 60 * len(text) + 40, 1), 255, np.uint8)[..., 0]
    truth, left = [], 30
    for character in text:
        alone = np.full_like(gray, 255)
        cv2.putText(alone, character, (left, 80), cv2.FONT_HERSHEY_SIMPLEX, 1.6, 0, 4, cv2.LINE_AA)
        rows, columns = np.nonzero(alone < 128)
        x, y = int(columns.min()), int(rows.min())
        truth.append((int(character), Box(x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1)))
        gray = np.minimum(gray, alone)
        left = int(columns.max()) + gap
    return gray, truth


def save(folder: Path, sheets: dict[str, tuple[Gray, dict[str, Any]]]) -> Path:
    (folder / "images").mkdir()
    for name, (gray, _) in sheets.items():
        cv2.imwrite(str(folder / "images" / name), gray)
    (folder / "truth.json").write_text(json.dumps({name: entry for name, (_, entry) in sheets.items()}))
    return folder


def entry(truth: list[Answer]) -> dict[str, Any]:
    boxes = [[value, b.left, b.top, b.width, b.height] for value, b in truth]
    return {"digits": "".join(str(value) for value, _ in truth), "boxes": boxes}


def tally(folder: Path, gray: Gray, truth: list[Answer], answers: list[Answer]) -> Tally:
    return losses(save(folder, {"a.png": (gray, entry(truth))}), Planted(answers)).total


def half(box: Box) -> Box:
    return Box(box.left, box.top, max(1, box.width // 3), box.height)


def test_all_right(tmp_path: Path) -> None:
    gray, truth = draw()
    assert tally(tmp_path, gray, truth, truth) == Tally(right=4)


def test_a_wrong_value_is_misread(tmp_path: Path) -> None:
    gray, truth = draw()
    assert tally(tmp_path, gray, truth, [(9, truth[0][1]), *truth[1:]]) == Tally(right=3, misread=1)


def test_a_part_answered_is_cut_though_the_whole_was_offered(tmp_path: Path) -> None:
    gray, truth = draw()
    assert tally(tmp_path, gray, truth, [(1, half(truth[0][1])), *truth[1:]]) == Tally(right=3, cut=1, fragments=1)


def test_two_in_one_answer_are_merged(tmp_path: Path) -> None:
    gray, truth = draw()
    both = Box.around([truth[0][1], truth[1][1]])
    assert tally(tmp_path, gray, truth, [(8, both), *truth[2:]]) == Tally(right=2, merged=2, fragments=1)


def test_no_answer_is_refused(tmp_path: Path) -> None:
    gray, truth = draw()
    assert tally(tmp_path, gray, truth, truth[1:]) == Tally(right=3, refused=1)


def test_what_no_candidate_holds_was_not_offered(tmp_path: Path) -> None:
    gray, truth = draw()
    left, right = truth[0][1], truth[1][1]
    astride = Box(left.left + left.width // 2, left.top, right.left - left.left, left.height)
    found = tally(tmp_path, gray, [(7, astride), *truth[2:]], truth[2:])
    assert found == Tally(right=2, refused_unoffered=1)


def test_white_paper_is_no_ink(tmp_path: Path) -> None:
    gray, truth = draw()
    box = truth[0][1]
    gray[box.top : box.bottom, box.left : box.right] = 255
    assert tally(tmp_path, gray, truth, truth[1:]) == Tally(right=3, no_ink=1)


def test_a_rule_that_took_a_digit_is_blamed(tmp_path: Path) -> None:
    gray, truth = draw("03561")
    gray[100:104] = 0  # what is taken for a digit here is a piece of this line
    ruled = (7, Box(60, 96, 40, 10))
    found = tally(tmp_path, gray, [*truth, ruled], truth)
    assert found == Tally(right=5, ruled=1)


def test_answers_on_bare_paper_are_invented(tmp_path: Path) -> None:
    gray, truth = draw()
    assert tally(tmp_path, gray, truth, [*truth, (1, Box(2, 2, 5, 9))]) == Tally(right=4, invented=1)


def test_right_digits_out_of_order_are_told_apart(tmp_path: Path) -> None:
    gray, truth = draw()
    assert tally(tmp_path, gray, truth, [*truth[1:], truth[0]]) == Tally(right=3, disordered=1)


def test_sheets_without_boxes_are_aligned(tmp_path: Path) -> None:
    gray, truth = draw()
    sheets: dict[str, tuple[Gray, dict[str, Any]]] = {
        "a.png": (gray, {"digits": "0356", "boxes": None, "kind": "x"}),
        "b.png": (gray, {"digits": "", "kind": "y"}),
    }
    table = losses(save(tmp_path, sheets), Planted(truth[1:], truth[:1]))
    assert table.total == Tally(right=3, missing=1, extra=1)
    assert [sheet.name for sheet in table.worst(5)] == ["a.png", "b.png"]
    assert table.total.digits == 4
    assert table.total.lost == 2
    shown = render(table, worst=1).splitlines()
    assert [line.split("|")[1].strip("- ") for line in shown] == ["", "", "x", "y", "all", "a.png"]
    assert "cut" not in shown[0]


@pytest.mark.parametrize(
    ("want", "said", "expected"),
    [
        ("", "", Tally()),
        ("123", "123", Tally(right=3)),
        ("123", "13", Tally(right=2, missing=1)),
        ("13", "123", Tally(right=2, extra=1)),
        ("123", "193", Tally(right=2, misread=1)),
        ("21", "12", Tally(right=1, disordered=1)),
        ("987001", "001987", Tally(right=3, disordered=3)),
        ("98700155", "00198754", Tally(right=4, disordered=3, misread=1)),
        ("15", "51523", Tally(right=2, extra=3)),
    ],
)
def test_alignment(want: str, said: str, expected: Tally) -> None:
    assert align(want, said) == expected


@given(st.text("0123", max_size=9), st.text("0123", max_size=9))
def test_every_digit_is_counted_once(want: str, said: str) -> None:
    found = align(want, said)
    assert found.digits == len(want)
    assert found.right + found.misread + found.disordered + found.extra == len(said)


def scorer() -> ModuleType:
    path = SHARED / "eval" / "score.py"
    if not path.exists():
        pytest.skip(f"no shared scorer at {path}")
    spec = importlib.util.spec_from_file_location("shared_score", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@given(st.lists(BOXES, max_size=8), st.lists(BOXES, max_size=8))
def test_boxes_match_as_the_shared_scorer_matches_them(truth: list[Box], answers: list[Box]) -> None:
    rows = [[("0", b.left, b.top, b.width, b.height) for b in boxes] for boxes in (truth, answers)]
    assert match_boxes(truth, answers) == scorer().match(*rows)


@pytest.mark.parametrize("content", [None, "{", "[]", '{"a.png": 3}', '{"other.png": {"digits": "1"}}'])
def test_a_set_that_is_none_is_refused(tmp_path: Path, content: str | None) -> None:
    save(tmp_path, {"a.png": (draw()[0], {})})
    (tmp_path / "truth.json").unlink() if content is None else (tmp_path / "truth.json").write_text(content)
    with pytest.raises(DatasetError):
        losses(tmp_path, Planted([]))


def test_a_box_that_is_none_is_named(tmp_path: Path) -> None:
    folder = save(tmp_path, {"a.png": (draw()[0], {"boxes": [[1, 2, 3]]})})
    with pytest.raises(DatasetError, match=r"a\.png"):
        losses(folder, Planted([]))
