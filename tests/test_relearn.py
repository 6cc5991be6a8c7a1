"""From corrections to tiles: cut as scanning cuts, labelled as was said, and read back for training."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from stub import Paper, Stub, StubDetector, digits_of

from digitize import datasets, relearn, results, sheets, write
from digitize.corrections import Addition, Corrections, Decision
from digitize.errors import DatasetError, SheetError, UsageError
from digitize.records import NO_DIGIT, Page, PageReading, Tiles
from digitize.scan import Scanner, Settings


def read(folder: Path, *, turned: int = 0) -> tuple[results.Results, list[Tiles]]:
    """A sheet with three numbers, read by the stub; the results and the tiles that were seen."""
    paper = Paper(140, 300)
    paper.number("90415", 30, 30, height=30)
    paper.number("7382", 30, 85, height=30)
    Image.fromarray(np.ascontiguousarray(np.rot90(paper.gray(), turned))).save(folder / "sheet.png")
    seen: list[Tiles] = []

    def on_page(page: Page, reading: PageReading, tiles: Tiles) -> None:
        seen.extend(tiles)

    scanner = Scanner(Stub(), detector=StubDetector(), settings=Settings(review_below=1.0))
    found = list(scanner.read_sheets(sheets.find([str(folder / "sheet.png")]), on_page=on_page))
    with write.open_output(folder / "digits.json") as output:
        write.write_json(found, output, write.Generator("", "", "", {"dpi": 300}))
    return results.load(folder / "digits.json"), seen


def said(about: results.Results, *now: str, added: tuple[Addition, ...] = ()) -> Corrections:
    """Decisions about the first digits."""
    sheet = about.sheets[0]
    decisions = [
        Decision(sheet.source, 1, (line, number, position), digit.box, digit.value, word)
        for (line, number, position, digit), word in zip(sheet.pages[0].digits(), now, strict=False)
    ]
    return Corrections("digits.json", about.sha256, about.digits, tuple(decisions), added)


@pytest.mark.parametrize("turned", [0, 1])
def test_tiles_are_those_that_scanning_saw(tmp_path: Path, turned: int) -> None:
    about, seen = read(tmp_path, turned=turned)
    digits = digits_of(about.sheets[0].pages[0])
    assert about.sheets[0].pages[0].rotation == 90 * turned
    lessons = list(relearn.teach(said(about, *(str(digit.value) for digit in digits)), about))
    assert [lesson.label for lesson in lessons] == [9, 0, 4, 1, 5, 7, 3, 8, 2]
    for lesson, tile in zip(lessons, seen, strict=True):
        assert np.abs(lesson.tile.astype(int) - tile).mean() < 6
    answers = Stub().probabilities(np.stack([lesson.tile for lesson in lessons])).argmax(axis=1)
    assert answers.tolist() == [lesson.label for lesson in lessons]


def test_labels_are_what_was_said(tmp_path: Path) -> None:
    about, _ = read(tmp_path)
    target = tmp_path / "tiles"
    extra = Addition(about.sheets[0].source, 1, digits_of(about.sheets[0].pages[0])[8].box, 6)
    assert relearn.export(said(about, "9", "3", "", "17", added=(extra,)), about, target) == 5
    assert sorted(path.parent.name for path in target.rglob("*.png")) == ["3", "6", "9", "none", "none"]
    loaded = datasets.load_tiles(target)
    assert loaded.labels.tolist() == [3, 6, 9, NO_DIGIT, NO_DIGIT]
    assert loaded.tiles.shape == (5, 28, 28, 2)
    assert loaded.tiles[..., 1].any()


def test_exporting_again_writes_the_same_files(tmp_path: Path) -> None:
    about, _ = read(tmp_path)
    target = tmp_path / "tiles"
    relearn.export(said(about, "9", "0"), about, target)
    before = {path: path.read_bytes() for path in target.rglob("*.png")}
    relearn.export(said(about, "9", "0"), about, target)
    assert {path: path.read_bytes() for path in target.rglob("*.png")} == before


def test_another_decision_takes_the_place_of_the_first(tmp_path: Path) -> None:
    about, _ = read(tmp_path)
    target = tmp_path / "tiles"
    relearn.export(said(about, "9", "0"), about, target)
    relearn.export(said(about, "7", ""), about, target)
    assert sorted(path.parent.name for path in target.rglob("*.png")) == ["7", "none"]
    relearn.export(said(about, "9"), about, target)
    assert sorted(path.parent.name for path in target.rglob("*.png")) == ["9", "none"]


def test_sheets_of_one_name_are_told_apart_whatever_the_results_tell(tmp_path: Path) -> None:
    target = tmp_path / "tiles"
    about, _ = read(tmp_path)
    relearn.export(said(about, "9"), about, target)
    with write.open_output(tmp_path / "digits.csv") as output:
        write.write_csv(about.sheets, output, write.Generator("", "", ""))
    told_less = results.load(tmp_path / "digits.csv")  # without the sheet's hash
    assert told_less.sheets[0].sha256 != about.sheets[0].sha256
    relearn.export(said(told_less, "7"), told_less, target)
    assert [path.parent.name for path in target.rglob("*.png")] == ["7"]

    with Image.open(tmp_path / "sheet.png") as picture:
        gray = np.asarray(picture).copy()
    gray[-1, -1] ^= 1  # another sheet, under the same name
    Image.fromarray(gray).save(tmp_path / "sheet.png")
    relearn.export(said(told_less, "3"), told_less, target)
    assert sorted(path.parent.name for path in target.rglob("*.png")) == ["3", "7"]


def test_corrections_of_other_results_are_refused(tmp_path: Path) -> None:
    about, _ = read(tmp_path)
    other = Corrections("digits.json", "0" * 64, 9, said(about, "9").decisions, ())
    with pytest.raises(UsageError, match="other results"):
        relearn.export(other, about, tmp_path / "tiles")
    assert not (tmp_path / "tiles").exists()


def test_a_sheet_that_is_gone_is_named(tmp_path: Path) -> None:
    about, _ = read(tmp_path)
    (tmp_path / "sheet.png").unlink()
    with pytest.raises(SheetError, match=r"sheet\.png: the sheet is not there"):
        relearn.export(said(about, "9"), about, tmp_path / "tiles")


def test_a_folder_without_tiles_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no tiles"):
        datasets.load_tiles(tmp_path)
    (tmp_path / "3").mkdir()
    cv2.imwrite(str(tmp_path / "3" / "small.png"), np.zeros((28, 28), np.uint8))
    with pytest.raises(DatasetError, match=r"small\.png"):
        datasets.load_tiles(tmp_path)
