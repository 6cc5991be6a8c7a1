"""The row of calls, with a stub for a classifier: planted sheets are read, whatever they are batched with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stub import Paper, Stub, StubDetector, digits_of, draw_digit, texts

from digitize import clean, detect, scan, sheets
from digitize.confidence import Calibration
from digitize.errors import OutputError
from digitize.records import Box, Gray, Page, PageReading, Place, SheetReading, Tiles
from digitize.scan import Scanner, Settings, _lopsided


def sheet_of(*lines: str, height: int = 30, gap: float = 0.35) -> Paper:
    """A sheet with lines of numbers, told apart by spaces."""
    longest = max(map(len, lines))
    paper = Paper(round(height * (2 * len(lines) + 1)), round(height * (1.25 * longest + 2)))
    for k, line in enumerate(lines):
        left = height
        for text in line.split():
            left = paper.number(text, left, height + 2 * k * height, height=height, gap=gap).right + round(1.6 * height)
    return paper


def save(path: Path, *pages: Gray) -> Path:
    first, *others = (Image.fromarray(page) for page in pages)
    first.save(path, **({"save_all": True, "append_images": others} if others else {}))
    return path


def scanner(**options: object) -> Scanner:
    return Scanner(Stub(), settings=replace(Settings(), **options))


def read(*paths: Path, **options: object) -> list[SheetReading]:
    return list(scanner(**options).read_sheets(sheets.find([str(path) for path in paths])))


def read_page(gray: Gray, **options: object) -> PageReading:
    (reading,) = scanner(**options).read_pages([Page("page", 1, gray)])
    return reading


# One page


def test_a_page_whose_writing_was_misjudged_is_looked_at_again_in_the_size_of_its_digits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paper = sheet_of("904", "738", height=40)
    extract = clean.extract_ink
    zooms: list[float] = []
    look = detect.look_at

    def look_at(shade: Gray, zoom: float) -> list[detect.Block]:
        zooms.append(zoom)
        return look(shade, zoom)

    monkeypatch.setattr(detect, "look_at", look_at)
    reader = Scanner(Stub(), detector=StubDetector(), settings=Settings(rotate="off"))
    monkeypatch.setattr(clean, "extract_ink", lambda *a, **k: replace(extract(*a, **k), height=80.0))
    (reading,) = reader.read_pages([Page("page", 1, paper.gray())])
    assert texts(reading) == [["904"], ["738"]]
    assert zooms == [pytest.approx(detect.UNIT / 80), pytest.approx(detect.UNIT / 40, rel=0.1)]


def test_a_heading_is_looked_at_alone_in_its_own_size() -> None:
    shade = np.zeros((600, 800), np.uint8)
    for top in range(200, 560, 60):
        for left in range(40, 760, 45):
            shade[top : top + 30, left : left + 20] = 255
    writing = shade.copy()
    shade[30:160, 100:190] = 255
    ink = clean.Ink(shade > 0, np.zeros(shade.shape, bool), shade, 1.0, 5.0, 30.0)
    zoom = detect.UNIT / 30
    blocks = scan.page_blocks(ink)
    assert {block.size[0] for block in blocks} == {zoom, zoom / 4}
    for block in blocks:
        if block.size[0] == zoom / 4:
            rows, columns = np.nonzero(block.shade)
            rows, columns = (rows + block.top) / block.zoom, (columns + block.left) / block.zoom
            edges = rows.min(), rows.max(), columns.min(), columns.max()
            np.testing.assert_allclose(edges, (30, 160, 100, 190), atol=1.5 / block.zoom)
    alone = clean.Ink(writing > 0, ink.rules, writing, 1.0, 5.0, 30.0)
    assert {block.size[0] for block in scan.page_blocks(alone)} == {zoom}


def test_lines_numbers_and_digits_are_read_where_they_stand() -> None:
    paper = sheet_of("904 15", "7 3826")
    reading = read_page(paper.gray())
    assert texts(reading) == [["904", "15"], ["7", "3826"]]
    assert (reading.number, reading.height, reading.width) == (1, *paper.ink.shape)
    for found, planted in zip(digits_of(reading), paper.boxes, strict=True):
        for side in ("left", "top", "right", "bottom"):
            assert getattr(found.box, side) == pytest.approx(getattr(planted, side), abs=2)
        assert 0.6 < found.confidence <= 1
        assert found.alternative != found.value
        assert found.alternative_confidence <= found.confidence


def test_white_on_black_is_read_alike() -> None:
    gray = sheet_of("904 15", "7 3826").gray()
    assert texts(read_page(255 - gray)) == texts(read_page(gray))


def test_boxes_are_page_pixels_when_the_page_was_enlarged() -> None:
    paper = sheet_of("2358", height=14, gap=0.6)
    assert clean.extract_ink(paper.gray()).scale > 1
    reading = read_page(paper.gray())
    assert texts(reading) == [["2358"]]
    for found, planted in zip(digits_of(reading), paper.boxes, strict=True):
        assert found.box.left == pytest.approx(planted.left, abs=1.5)
        assert found.box.height == pytest.approx(planted.height, abs=2)


def test_digits_in_a_frame_are_read_without_it() -> None:
    paper = sheet_of("40726", height=40)
    paper.frame(replace(paper.boxes[0], left=14, top=14, width=paper.width - 28, height=paper.height - 28))
    assert texts(read_page(paper.gray())) == [["40726"]]


@pytest.mark.parametrize("text", ["55", "34", "96"])
def test_touching_digits_are_split_unless_that_is_off(text: str) -> None:
    paper = Paper(110, 200)
    first = paper.digit(int(text[0]), 40, 30, height=50)
    paper.digit(int(text[1]), first.right - 4, 30, height=50)
    assert texts(read_page(paper.gray())) == [[text]]
    assert len(digits_of(read_page(paper.gray(), split=False))) < 2


def test_a_broken_digit_is_merged_unless_that_is_off() -> None:
    paper = Paper(110, 140)
    box = paper.digit(5, 40, 30, height=50)
    paper.ink[box.top + 8 : box.top + 12] = 0
    assert texts(read_page(paper.gray())) == [["5"]]
    assert texts(read_page(paper.gray(), merge=False)) != [["5"]]


def test_what_is_no_digit_gives_no_row() -> None:
    paper = Paper(110, 300)
    paper.digit(4, 30, 30, height=50)
    paper.line((110, 55), (140, 55), 6)  # a minus
    paper.line((190, 47), (220, 47), 6)  # an equals sign
    paper.line((190, 63), (220, 63), 6)
    assert [digit.value for digit in digits_of(read_page(paper.gray(), rotate="off"))] == [4]


@pytest.mark.parametrize("gray", [np.full((80, 60), 255), np.full((80, 60), 0), np.full((1, 1), 130)])
def test_a_blank_page_has_no_lines(gray: np.ndarray) -> None:
    assert read_page(gray.astype(np.uint8)).lines == ()


def test_review_follows_the_threshold() -> None:
    gray = sheet_of("904 15").gray()
    assert {d.status for d in digits_of(read_page(gray, review_below=1.0))} == {"review"}
    assert {d.status for d in digits_of(read_page(gray, review_below=0.0))} == {"ok"}


def test_confidences_pass_through_the_calibration() -> None:
    ends, half = np.array([0.0, 1.0]), np.array([0.5, 0.5])
    calibrated = Scanner(Stub(), calibration=Calibration(ends, half, ends, ends))
    (reading,) = calibrated.read_pages([Page("page", 1, sheet_of("904").gray())])
    assert [d.confidence for d in digits_of(reading)] == [0.5] * 3
    assert all(d.confidence + d.alternative_confidence <= 1 for d in digits_of(reading))


# Turned pages


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_page_on_its_side_is_turned(quarters: int) -> None:
    upright = sheet_of("7431 47", "3744 731").gray()
    lying = np.ascontiguousarray(np.rot90(upright, quarters))  # turned against the clock
    reading = read_page(lying)
    assert reading.rotation == 90 * quarters
    assert (reading.height, reading.width) == upright.shape
    assert texts(reading) == texts(read_page(upright)) == [["7431", "47"], ["3744", "731"]]
    as_upright = [digit.box for digit in digits_of(read_page(upright))]
    for found, planted in zip(digits_of(reading), as_upright, strict=True):
        assert abs(found.box.left - planted.left) <= 2
        assert abs(found.box.top - planted.top) <= 2


def test_rotate_off_leaves_it_lying() -> None:
    lying = np.ascontiguousarray(np.rot90(sheet_of("7431 47", "3744 731").gray()))
    reading = read_page(lying, rotate="off")
    assert reading.rotation == 0
    assert (reading.height, reading.width) == lying.shape


def test_an_upright_page_stays() -> None:
    assert read_page(sheet_of("7431 47", "6910 856").gray()).rotation == 0


# Many sheets


@pytest.fixture
def folder(tmp_path: Path) -> list[Path]:
    """Sheets of several kinds, among them a blank one, one of three pages and a bad one."""
    return [
        save(tmp_path / "a.png", sheet_of("904 15", "7 3826").gray()),
        save(tmp_path / "blank.png", np.full((60, 90), 250, np.uint8)),
        save(tmp_path / "pages.tif", *(sheet_of(text).gray() for text in ("17", "253 9", "4"))),
        tmp_path / "missing.png",
        save(tmp_path / "b.jpg", sheet_of("60 21 8").gray()),
        save(tmp_path / "c.png", 255 - sheet_of("55 7").gray()),
    ]


PLANTED = [
    [[["904", "15"], ["7", "3826"]]],
    [[]],
    [[["17"]], [["253", "9"]], [["4"]]],
    [],
    [[["60", "21", "8"]]],
    [[["55", "7"]]],
]


def test_sheets_are_read_in_order_and_a_bad_one_stops_nobody(folder: list[Path]) -> None:
    readings = read(*folder)
    assert [reading.source for reading in readings] == [str(path) for path in folder]
    assert [[texts(page) for page in reading.pages] for reading in readings] == PLANTED
    assert [reading.error is not None for reading in readings] == [False, False, False, True, False, False]
    assert "missing.png: no such file" in str(readings[3].error)
    assert [len(reading.sha256) for reading in readings] == [64, 64, 64, 0, 64, 64]
    assert [page.number for page in readings[2].pages] == [1, 2, 3]


@pytest.mark.parametrize("batch_size", [1, 7, 30, 1024])
def test_the_batch_size_changes_nothing_but_the_batches(folder: list[Path], batch_size: int) -> None:
    one_by_one = [reading for path in folder for reading in read(path)]
    assert read(*folder, batch_size=batch_size) == one_by_one


def test_many_small_sheets_share_a_batch(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{k}.png", sheet_of("904 15").gray()) for k in range(6)]
    shared = scanner(rotate="off")
    list(shared.read_sheets(sheets.find([str(path) for path in paths])))
    alone = scanner(rotate="off")
    for path in paths:
        list(alone.read_sheets(sheets.find([str(path)])))
    calls, single_calls = shared._classifier.calls, alone._classifier.calls  # type: ignore[attr-defined]
    assert sum(calls) == sum(single_calls)
    assert len(calls) <= 2 < len(single_calls)


def test_readings_come_while_later_sheets_wait(tmp_path: Path) -> None:
    """Memory is bounded: with sheets of any number of pages, a reading is given soon after its batch is full."""
    page = sheet_of("904").gray()
    paths = [save(tmp_path / "0.png", page)] + [save(tmp_path / f"{k}.tif", page, page) for k in range(1, 12)]
    tiles = scanner(rotate="off", split=False)
    list(tiles.read_pages([Page("page", 1, page)]))
    a_page = sum(tiles._classifier.calls)  # type: ignore[attr-defined]
    opened: list[str] = []

    def found() -> Iterator[sheets.Sheet]:
        for sheet in sheets.find([str(path) for path in paths]):
            opened.append(sheet.source)
            yield sheet

    reading = scanner(rotate="off", batch_size=2 * a_page)  # so that batches end in the middle of every sheet
    waiting = [len(opened) - k for k, _ in enumerate(reading.read_sheets(found()))]
    assert max(waiting) <= 4


def test_chosen_pages_only(folder: list[Path]) -> None:
    found = sheets.find([str(folder[2])])
    (reading,) = scanner().read_sheets(found, pages=sheets.parse_pages("2-"))
    assert [(page.number, texts(page)) for page in reading.pages] == [(2, [["253", "9"]]), (3, [["4"]])]


def test_on_page_gets_each_page_with_the_tiles_of_its_digits(folder: list[Path]) -> None:
    seen: list[tuple[Page, PageReading, Tiles]] = []
    found = sheets.find([str(path) for path in folder])
    readings = list(scanner().read_sheets(found, on_page=lambda *given: seen.append(given)))
    assert [reading for _, reading, _ in seen] == [page for sheet in readings for page in sheet.pages]
    assert [page.source for page, *_ in seen] == [sheet.source for sheet in readings for _ in sheet.pages]
    stub = Stub()
    for _, reading, tiles in seen:
        assert tiles.shape == (len(digits_of(reading)), 28, 28, 2)
        assert stub.probabilities(tiles).argmax(axis=1).tolist() == [digit.value for digit in digits_of(reading)]


class Faulty(Stub):
    """A classifier that does not bear sevens."""

    def probabilities(self, tiles: Tiles) -> np.ndarray:
        answers = super().probabilities(tiles)
        if (answers.argmax(axis=1) == 7).any():
            raise ZeroDivisionError("a seven")
        return answers


def test_a_fault_costs_the_sheet_that_brings_it_up_and_no_other(tmp_path: Path) -> None:
    pages = [sheet_of(text).gray() for text in ("904", "173", "15")]
    paths = [save(tmp_path / f"{k}.png", page) for k, page in enumerate(pages)]
    seen: list[str] = []
    faulty = Scanner(Faulty(), settings=Settings(rotate="off"))
    readings = list(
        faulty.read_sheets(
            sheets.find([str(path) for path in paths]), on_page=lambda page, *_: seen.append(Path(page.source).name)
        )
    )
    assert [[texts(page) for page in sheet.pages] for sheet in readings] == [[[["904"]]], [], [[["15"]]]]
    assert [sheet.error is None for sheet in readings] == [True, False, True]
    assert "1.png: a bug came up in reading it (ZeroDivisionError: a seven)" in str(readings[1].error)
    assert seen == ["0.png", "2.png"]


def test_a_fault_in_drafting_a_page_costs_that_sheet_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [sheet_of(text).gray() for text in ("904", "7", "153")]
    paths = [save(tmp_path / f"{k}.png", page) for k, page in enumerate(pages)]
    extract = clean.extract_ink

    def refuse(gray: Gray, **options: bool) -> clean.Ink:
        if gray.shape == pages[1].shape:
            raise ZeroDivisionError("this page")
        return extract(gray, **options)

    monkeypatch.setattr(clean, "extract_ink", refuse)
    readings = read(*paths)
    assert [len(sheet.pages) for sheet in readings] == [1, 0, 1]
    assert "1.png: a bug came up" in str(readings[1].error)


def test_a_fault_in_drawing_a_page_costs_that_sheet_its_page_and_no_other(folder: list[Path]) -> None:
    def draw(page: Page, *_: object) -> None:
        if page.source.endswith("pages.tif") and page.number == 2:
            raise MemoryError

    found = sheets.find([str(path) for path in folder])
    readings = list(scanner().read_sheets(found, on_page=draw))
    expected = [*PLANTED[:2], [PLANTED[2][0], PLANTED[2][2]], *PLANTED[3:]]
    assert [[texts(page) for page in sheet.pages] for sheet in readings] == expected
    assert "pages.tif: there is not enough memory" in str(readings[2].error)
    assert [sheet.error is None for sheet in readings] == [True, True, False, False, True, True]


def test_a_picture_that_cannot_be_written_ends_the_reading(folder: list[Path]) -> None:
    def draw(*_: object) -> None:
        raise OutputError("the disk is full")

    with pytest.raises(OutputError, match="disk is full"):
        list(scanner().read_sheets(sheets.find([str(path) for path in folder]), on_page=draw))


def test_blank_pages_are_held_by_their_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blank = np.full((100, 100), 240, np.uint8)
    path = save(tmp_path / "backs.tif", *[blank] * 9)
    monkeypatch.setattr(scan, "MOST_HELD_PIXELS", 4 * blank.size)
    batches: list[int] = []
    held = scanner()
    ask = held._read_drafts
    monkeypatch.setattr(held, "_read_drafts", lambda drafts: batches.append(len(drafts)) or ask(drafts))
    list(held.read_sheets(sheets.find([str(path)])))
    assert batches == [4, 4, 1]


def test_no_sheets_give_no_readings() -> None:
    assert list(scanner().read_sheets([])) == []
    assert scanner().read_pages([]) == []


# With a detector


def seeing(**options: object) -> Scanner:
    return Scanner(Stub(), detector=StubDetector(), settings=replace(Settings(), **options))


def test_a_detectors_places_are_read_where_they_stand() -> None:
    paper = sheet_of("904 15", "7 3826")
    (reading,) = seeing().read_pages([Page("page", 1, paper.gray())])
    assert texts(reading) == [["904", "15"], ["7", "3826"]]
    for found, planted in zip(digits_of(reading), paper.boxes, strict=True):
        for side in ("left", "top", "right", "bottom"):
            assert getattr(found.box, side) == pytest.approx(getattr(planted, side), abs=3)


def test_small_and_large_digits_of_one_page_are_both_seen() -> None:
    paper = Paper(520, 700)
    paper.number("38", 60, 40, height=260, gap=0.4)
    for top in (330, 380, 430):
        paper.number("271", 60, top, height=30, gap=0.4)
    (reading,) = seeing(rotate="off").read_pages([Page("page", 1, paper.gray())])
    assert sorted(number for line in texts(reading) for number in line) == ["271", "271", "271", "38"]


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_page_is_seen_upright(quarters: int) -> None:
    gray = np.ascontiguousarray(np.rot90(sheet_of("2745", "6143").gray(), quarters))
    (reading,) = seeing().read_pages([Page("page", 1, gray)])
    assert texts(reading) == [["2745"], ["6143"]]
    assert reading.rotation == 90 * quarters


def test_a_page_of_digits_that_look_alike_turned_stays() -> None:
    (reading,) = seeing().read_pages([Page("page", 1, sheet_of("0810", "8018").gray())])
    assert reading.rotation == 0


def test_of_a_large_page_that_is_certain_only_a_part_is_looked_at_again() -> None:
    detector = StubDetector()
    rows = ["081801081" * 4] * 45  # upright, and as good on their heads
    Scanner(Stub(), detector=detector).read_pages([Page("page", 1, sheet_of(*rows).gray())])
    assert len(detector.calls) == 2  # the whole page at once, and the glimpse
    assert 0 < detector.calls[-1] < 0.5 * sum(detector.calls[:-1])


def test_blocks_of_many_pages_are_seen_together() -> None:
    detector = StubDetector()
    pages = [Page(str(k), 1, sheet_of("12").gray()) for k in range(5)]
    readings = Scanner(Stub(), detector=detector).read_pages(pages)
    assert detector.calls == [15]  # three looks at each
    assert [texts(reading) for reading in readings] == [[["12"]]] * 5


def test_a_blank_page_is_not_looked_at() -> None:
    detector = StubDetector()
    (reading,) = Scanner(Stub(), detector=detector).read_pages([Page("blank", 1, np.full((90, 90), 240, np.uint8))])
    assert reading.lines == ()
    assert detector.calls == []


def test_digits_that_touch_are_one_number() -> None:
    """One glyph across two places is no sign between them."""
    paper = Paper(90, 200)
    first = paper.digit(5, 40, 30, height=30)
    paper.digit(5, first.right - 2, 30, height=30)
    scanner = seeing(rotate="off")
    draft = scanner._draft(Page("page", 1, paper.gray()))
    draft.blocks = []
    sure = np.eye(10)[5]
    scale = draft.ink.scale
    draft.places = [
        Place(Box(*(round(side * scale) for side in (b.left, b.top, b.width, b.height))), 0.9, sure)
        for b in paper.boxes
    ]
    scanner._detect = lambda drafts: None  # type: ignore[method-assign]
    (seen,) = scanner._see([draft])
    reading, _ = scanner._compose(seen)
    assert texts(reading) == [["55"]]


@pytest.mark.parametrize(("lying", "rotation"), [(0, 0), (2, 0), (4, 90)])
def test_letters_do_not_turn_a_page_but_for_more_than_a_few_digits_on_their_side(lying: int, rotation: int) -> None:
    paper = Paper(260, 300)
    for k in range(12):
        left, top = 20 + 70 * (k % 4), 20 + 50 * (k // 4)
        for start, end in (((0, 0), (0, 22)), ((16, 0), (16, 22)), ((0, 11), (16, 11))):  # an H
            paper.line((left + start[0], top + start[1]), (left + end[0], top + end[1]), 3)
    for k in range(lying):
        paper.put(np.ascontiguousarray(np.rot90(draw_digit(4, 30))), 20 + 60 * k, 200)
    (reading,) = seeing().read_pages([Page("letters", 1, paper.gray())])
    assert reading.rotation == rotation


def test_noughts_and_eights_do_not_tell_which_way_is_up() -> None:
    telling = [Place(Box(0, 0, 10, 20), 0.9, np.eye(10)[value]) for value in (2, 9)]
    mute = [Place(Box(0, 0, 10, 20), 0.9, np.eye(10)[value]) for value in (0, 1, 8)]
    assert _lopsided(mute) == 0
    assert _lopsided(telling + mute) == pytest.approx(1.8)
