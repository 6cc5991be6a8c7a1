"""Results come out whole, by the contract, and can be read back."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import string
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from digitize import write
from digitize.errors import OutputError, UsageError
from digitize.records import Box, Digit, Line, Number, PageReading, SheetReading
from digitize.write import (
    COLUMNS,
    WRITERS,
    Format,
    Generator,
    Output,
    format_of,
    open_output,
    read_csv,
    read_json,
    render_overlay,
    rows,
    schema,
    write_crops,
    write_overlay,
)

MAKER = Generator("0.1.0", "duet", "0" * 64, {"dpi": 300, "rotate": "auto"})

probabilities = st.integers(0, 10_000).map(lambda ten_thousandths: ten_thousandths / 10_000)
boxes = st.builds(Box, st.integers(0, 9999), st.integers(0, 9999), st.integers(1, 999), st.integers(1, 999))
digits = st.builds(
    Digit, st.integers(0, 9), probabilities, st.integers(0, 9), probabilities, st.sampled_from(["ok", "review"]), boxes
)
numbers = st.builds(Number, st.lists(digits, min_size=1, max_size=3).map(tuple))
lines = st.builds(Line, st.lists(numbers, min_size=1, max_size=3).map(tuple))
pages = st.builds(
    PageReading,
    st.integers(1, 99),
    st.integers(1, 9999),
    st.integers(1, 9999),
    st.lists(lines, max_size=2).map(tuple),
    st.sampled_from([0, 90, 180, 270]),
)
# Names as hostile as a file system allows: controls, quotes, halves of surrogates (for bytes that are no UTF-8).
names = st.text(st.one_of(st.characters(), st.sampled_from("'=+-@\t\r\n\",;\x85\u2028＝")), max_size=12)
hashes = st.one_of(st.just(""), st.text(string.hexdigits[:16], min_size=64, max_size=64))
sheets = st.builds(
    SheetReading, names, hashes, st.lists(pages, max_size=2).map(tuple), st.one_of(st.none(), st.text(max_size=9))
)


def digit(value: int, box: Box, confidence: float = 0.9731) -> Digit:
    return Digit(value, confidence, 1, 0.0123456, "ok" if confidence > 0.5 else "review", box)


FIRST = Line((Number((digit(4, Box(50, 60, 20, 30)), digit(2, Box(80, 60, 20, 30), 0.3))),))
SECOND = Line((Number((digit(7, Box(50, 160, 20, 30), 1.0),)),))
SHEET = SheetReading("form.png", "ab" * 32, (PageReading(2, 400, 300, (FIRST, SECOND)),))
BLANK = SheetReading("blank.png", "cd" * 32, (PageReading(1, 10, 10, ()),))
BARE_CR = SheetReading(
    "\r", "", (PageReading(1, 1, 1, (Line((Number((Digit(4, 0.9, 1, 0.1, "ok", Box(0, 0, 1, 1)),)),)),)),)
)
FAILED = SheetReading("bad.png", "", (), "bad.png: is empty; scan it again")


def written(named: Format, *readings: SheetReading) -> str:
    stream = io.BytesIO()
    WRITERS[named](readings, Output(stream, "memory"), MAKER)
    return stream.getvalue().decode("utf-8")


# The formats


def test_the_csv_is_as_the_contract_has_it() -> None:
    assert written("csv", SHEET, BLANK, FAILED) == (
        "source,page,line,number,position,digit,confidence,alternative,alternative_confidence,status,left,top,width,height\n"
        "form.png,2,1,1,1,4,0.9731,1,0.0123,ok,50,60,20,30\n"
        "form.png,2,1,1,2,2,0.3000,1,0.0123,review,80,60,20,30\n"
        "form.png,2,2,1,1,7,1.0000,1,0.0123,ok,50,160,20,30\n"
    )


def test_the_json_is_as_the_contract_has_it() -> None:
    document = json.loads(written("json", SHEET, FAILED))
    assert document["schema"] == "digitize/1"
    assert document["generator"]["model_sha256"] == "0" * 64
    sheet, failed = document["sheets"]
    assert (sheet["source"], sheet["error"], failed["error"]) == ("form.png", None, FAILED.error)
    number = sheet["pages"][0]["lines"][0]["numbers"][0]
    assert (number["text"], number["confidence"]) == ("42", 0.2919)
    assert number["box"] == {"left": 50, "top": 60, "width": 50, "height": 30}
    assert number["digits"][1]["status"] == "review"
    assert number["digits"][0]["confidence"] == 0.9731


def test_json_lines_hold_one_sheet_each() -> None:
    texts = written("jsonl", SHEET, BLANK, FAILED).split("\n")
    assert texts.pop() == ""
    assert [json.loads(text) for text in texts] == json.loads(written("json", SHEET, BLANK, FAILED))["sheets"]


def test_no_sheets_make_an_empty_result() -> None:
    assert written("csv") == ",".join(COLUMNS) + "\n"
    assert json.loads(written("json"))["sheets"] == []
    assert written("jsonl") == ""


def test_sheets_are_written_as_they_come() -> None:
    """Memory does not grow with the number of sheets: each is on the stream before the next is asked for."""
    for named in WRITERS:
        stream = io.BytesIO()
        sizes: list[int] = []

        def arriving(stream: io.BytesIO = stream, sizes: list[int] = sizes) -> Iterator[SheetReading]:
            for _ in range(3):
                sizes.append(stream.tell())
                yield SHEET

        WRITERS[named](arriving(), Output(stream, "memory"), MAKER)
        assert sizes[0] < sizes[1] < sizes[2]


# The schema


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


@given(st.lists(sheets, max_size=3))
def test_every_json_keeps_to_the_schema(readings: list[SheetReading]) -> None:
    jsonschema.Draft202012Validator(schema()).validate(json.loads(written("json", *readings)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), "digitize/2"),
        (("sheets", 0, "pages", 0, "rotation"), 45),
        (("sheets", 0, "pages", 0, "lines", 0, "numbers", 0, "digits", 0, "confidence"), 1.5),
        (("sheets", 0, "pages", 0, "lines", 0, "numbers", 0, "digits", 0, "digit"), 10),
        (("sheets", 0, "pages", 0, "lines", 0, "numbers", 0, "box", "width"), 0),
        (("sheets", 0, "surprise"), 1),
    ],
)
def test_the_schema_refuses_what_is_wrong(path: tuple[str | int, ...], value: object) -> None:
    document = json.loads(written("json", SHEET))
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema()).validate(document)


# There and back


@given(st.lists(sheets, max_size=3))
def test_json_round_trips(readings: list[SheetReading]) -> None:
    assert list(read_json(io.StringIO(written("json", *readings)))) == readings
    assert list(read_json(io.StringIO(written("jsonl", *readings)))) == readings


@given(st.lists(sheets, max_size=3))
@example([replace(BARE_CR, source="a\rb")])
@example([BARE_CR])
def test_csv_round_trips(readings: list[SheetReading]) -> None:
    # UTF-8 cannot hold halves of surrogates: a CSV shows them as escapes.
    kept = [replace(sheet, source=sheet.source.encode("utf-8", "backslashreplace").decode()) for sheet in readings]
    back = list(read_csv(io.StringIO(written("csv", *readings), newline="")))
    assert back == [row for sheet in kept for row in rows(sheet)]


@given(names)
def test_no_text_cell_is_a_formula(name: str) -> None:
    cell = list(csv.reader(io.StringIO(written("csv", replace(SHEET, source=name)), newline="")))[1][0]
    assert cell[:1] not in set("=+-@＝＋－＠") | {chr(code) for code in [*range(32), *range(127, 160)]}


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "\x00x", "\x85x", "＝1"])
def test_a_formula_is_made_safe(name: str) -> None:
    assert write.cell(name) == "'" + name
    assert write.uncell("'" + name) == name


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", ",".join(COLUMNS) + "\nx,1,1,1,1,a,0.5,1,0.1,ok,1,1,1,1\n"])
def test_a_csv_that_is_none_of_ours_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="columns"):
        list(read_csv(io.StringIO(text)))


@pytest.mark.parametrize("text", ["[]", "3", "{}", '{"sheets": [{"source": "x"}]}', '{"sheets": {}}', "{"])
def test_a_json_that_is_none_of_ours_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no result of digitize"):
        list(read_json(io.StringIO(text)))


@pytest.mark.parametrize(
    ("column", "text"),
    [
        *(("digit", text) for text in ("55", "-1", "1.0", "")),
        *(("confidence", text) for text in ("nan", "1.0001", "-0.1", "inf")),
        *[("page", "0"), ("position", "0"), ("alternative", "10"), ("alternative_confidence", "2")],
        *[("status", "xyz"), ("status", "o"), ("left", "-1"), ("height", "0")],
    ],
)
def test_a_cell_that_does_not_fit_is_refused_with_its_line(column: str, text: str) -> None:
    header, first, second, third = written("csv", SHEET).splitlines()
    cells = second.split(",")
    cells[COLUMNS.index(column)] = text
    with pytest.raises(UsageError, match=r"^line 3 of the CSV does not fit its columns: .*; write it anew$"):
        list(read_csv(io.StringIO("\n".join([header, first, ",".join(cells), third]))))


@pytest.mark.parametrize("count", [1, 9, 10, 13, 15])
def test_a_line_of_fewer_or_more_cells_is_refused(count: int) -> None:
    header, first, *_ = written("csv", SHEET).splitlines()
    cut = ",".join([*first.split(","), "1"][:count])
    with pytest.raises(UsageError, match=f"^line 2 of the CSV .* it has {count} cells, expected 14"):
        list(read_csv(io.StringIO(f"{header}\n{cut}")))


NUMBER_PATH = ("pages", 0, "lines", 1, "numbers", 0)
DIGIT_PATH = (*NUMBER_PATH, "digits", 0)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *(((*DIGIT_PATH, "digit"), value) for value in (55, "7", 7.5, True, None)),
        *(((*DIGIT_PATH, "confidence"), value) for value in (float("nan"), 1.5, -0.1, "0.9", False)),
        *(((*DIGIT_PATH, "status"), value) for value in ("xyz", None, [])),
        ((*DIGIT_PATH, "box"), {"left": 0.5, "top": 0, "width": 1, "height": 1}),
        *(((*NUMBER_PATH, "digits"), value) for value in ([], {}, None)),
        ((*NUMBER_PATH, "proposal"), {"text": 7, "confidence": 0.5}),
        *((("pages", 0, key), value) for key, value in (("rotation", 45), ("page", 0), ("width", "400"))),
        *(((key,), 7) for key in ("source", "sha256", "error", "pages")),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_place(path: tuple[str | int, ...], value: object) -> None:
    document = json.loads(written("json", BLANK, SHEET))
    place = document["sheets"][1]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    steps = zip(path[::2], path[1::2], strict=False)
    where = "".join(
        f"{str(key)[:-1]} {int(index) + 1}: " for key, index in [("sheets", 1), *steps] if index != path[-1]
    )
    for text in (json.dumps(document), "\n".join(map(json.dumps, document["sheets"]))):
        with pytest.raises(UsageError, match=rf"^this is no result of digitize in JSON \({where}"):
            list(read_json(io.StringIO(text)))


# Opening


@pytest.mark.parametrize(
    ("target", "named", "expected"),
    [
        ("a.csv", None, "csv"),
        ("a.JSON", None, "json"),
        ("x/a.jsonl", None, "jsonl"),
        ("-", None, "csv"),
        ("a.csv", "json", "json"),
        ("-", "jsonl", "jsonl"),
        ("a", "csv", "csv"),
    ],
)
def test_the_format_is_the_one_named_or_the_suffix(target: str, named: str | None, expected: str) -> None:
    assert format_of(target, named) == expected


@pytest.mark.parametrize(("target", "named"), [("a.txt", None), ("a", None), ("a.csv", "xml")])
def test_an_unknown_format_is_a_usage_error(target: str, named: str | None) -> None:
    with pytest.raises(UsageError, match="csv, json, jsonl"):
        format_of(target, named)


def test_a_result_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    with open_output(target) as output:
        output.write("größe")
        assert not target.exists()
    assert target.read_bytes() == "größe".encode()
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_what_fails_leaves_the_older_result(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "out.csv"
    target.write_text("old")

    def interrupted() -> None:
        with open_output(target) as output:
            output.write("new")
            raise error

    with pytest.raises(error):
        interrupted()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_stays_and_permissions_are_kept(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "real.csv").chmod(0o640)
    (tmp_path / "link.csv").symlink_to("real.csv")
    with open_output(tmp_path / "link.csv") as output:
        output.write("new")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "real.csv").stat().st_mode) == 0o640


@pytest.mark.parametrize(("letter", "count"), [("🖋", 62), ("é", 125), ("x", 251)])
def test_the_longest_name_can_be_written(tmp_path: Path, letter: str, count: int) -> None:
    target = tmp_path / f"{letter * count}.csv"
    with open_output(target) as output:
        output.write("new")
    assert target.read_text() == "new"


def refused(target: Path | str) -> str:
    with pytest.raises(OutputError) as caught, open_output(target):
        pass
    message = str(caught.value)
    assert message.startswith(str(target))
    assert "\n" not in message
    return message


def test_an_unwritable_target_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "folder does not exist" in refused(tmp_path / "none" / "out.csv")
    assert "directory" in refused(tmp_path)
    (tmp_path / "file").touch()
    assert "cannot be written" in refused(tmp_path / "file" / "out.csv")
    (tmp_path / "loop").symlink_to("loop")
    assert "cannot be written" in refused(tmp_path / "loop")
    (tmp_path / "locked.csv").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everything
    assert "Permission denied" in refused(tmp_path / "locked.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "locked.csv", "loop"]


def test_a_device_is_written_and_not_replaced(tmp_path: Path) -> None:
    fifo = tmp_path / "out.csv"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with open_output(fifo) as output:
        output.write("row")
    assert os.read(reader, 9) == b"row"
    os.close(reader)
    assert stat.S_ISFIFO(fifo.stat().st_mode)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_an_output_error() -> None:
    def fill() -> None:
        with open_output("/dev/full") as output:
            output.write("x" * 100_000)

    with pytest.raises(OutputError, match="No space left"):
        fill()


def test_a_dash_is_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with open_output("-") as output:
        output.write("größe\n")
    assert capfdbinary.readouterr().out == "größe\n".encode()


# Pictures


def painted(picture: np.ndarray) -> np.ndarray:
    """Where a picture has colour."""
    return np.ptp(picture.astype(int), axis=2) > 20


def test_an_overlay_draws_on_and_around_the_boxes() -> None:
    picture = render_overlay(np.full((300, 400), 255, np.uint8), SHEET.pages[0])
    assert picture.dtype == np.uint8
    assert picture.shape == (300, 400, 3)
    drawn = painted(picture)
    assert drawn[59, 50:70].all()  # above the first box
    assert not drawn[61:89, 51:69].any()  # its ink stays to be seen
    assert drawn[40:58, 45:75].any()  # the digit above it
    assert drawn[92:110, 45:75].any()  # the confidence below it
    assert not drawn[:, 200:].any()


def test_digits_to_review_have_their_own_colour() -> None:
    picture = render_overlay(np.full((300, 400), 255, np.uint8), SHEET.pages[0])
    assert tuple(picture[75, 49]) == write.COLOUR_OF_STATUS["ok"]
    assert tuple(picture[75, 79]) == write.COLOUR_OF_STATUS["review"]


@pytest.mark.parametrize(("height", "factor"), [(10, 4), (20, 2), (40, 1), (500, 1)])
def test_an_overlay_is_enlarged_until_it_is_legible(height: int, factor: int) -> None:
    page = PageReading(1, 1000, 1000, (Line((Number((digit(3, Box(100, 300, height, height)),)),)),))
    assert render_overlay(np.full((1000, 1000), 255, np.uint8), page).shape == (1000 * factor, 1000 * factor, 3)


def test_a_blank_or_tiny_page_has_an_overlay() -> None:
    assert render_overlay(np.zeros((1, 1), np.uint8), PageReading(1, 1, 1, ())).shape == (1, 1, 3)
    corner = PageReading(1, 3, 3, (Line((Number((digit(3, Box(0, 0, 3, 3)),)),)),))
    assert render_overlay(np.zeros((3, 3), np.uint8), corner).ndim == 3


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_an_overlay_is_turned_as_the_page_was_read(rotation: int) -> None:
    """Boxes are those of the upright page; what is drawn there has to lie around the ink."""
    upright = np.full((120, 200) if rotation % 180 == 0 else (200, 120), 255, np.uint8)
    box = Box(30, 50, 60, 40)
    upright[box.top : box.bottom, box.left : box.right] = 0
    loaded = np.ascontiguousarray(np.rot90(upright, rotation // 90))
    page = PageReading(1, upright.shape[1], upright.shape[0], (Line((Number((digit(3, box),)),)),), rotation)
    picture = render_overlay(loaded, page)
    assert picture.shape[:2] == upright.shape
    colour = np.array(write.COLOUR_OF_STATUS["ok"])
    drawn = (picture == colour).all(axis=2)
    for row, column in ((box.top - 1, box.left + 30), (box.bottom, box.left + 30), (box.top + 20, box.left - 1)):
        assert drawn[row - 2 : row + 3, column - 2 : column + 3].any()
    assert picture[box.top + 20, box.left + 30].max() < 200


def test_an_overlay_is_written(tmp_path: Path) -> None:
    gray = np.full((300, 400), 255, np.uint8)
    path = write_overlay(tmp_path / "new", "form.png", gray, SHEET.pages[0])
    assert path == tmp_path / "new" / "form.png-p002.png"
    np.testing.assert_array_equal(cv2.imread(str(path)), render_overlay(gray, SHEET.pages[0]))


def test_crops_are_the_tiles_and_say_where_they_come_from(tmp_path: Path) -> None:
    tiles = np.random.default_rng(4).integers(0, 256, (3, 28, 28, 2)).astype(np.uint8)
    files = write_crops(tmp_path, "form.png", SHEET.pages[0], tiles)
    assert [path.name for path in files] == [
        "form.png-p002-l001-n001-d01-is4.png",
        "form.png-p002-l001-n001-d02-is2.png",
        "form.png-p002-l002-n001-d01-is7.png",
    ]
    for path, tile in zip(files, tiles, strict=True):
        np.testing.assert_array_equal(
            cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), np.hstack([tile[..., 0], tile[..., 1]])
        )
    (single, *_) = write_crops(tmp_path, "one", SHEET.pages[0], tiles[..., 0])
    np.testing.assert_array_equal(cv2.imread(str(single), cv2.IMREAD_GRAYSCALE), tiles[0, ..., 0])


def test_tiles_must_be_as_many_as_digits(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shorter"):
        write_crops(tmp_path, "form.png", SHEET.pages[0], np.zeros((2, 28, 28), np.uint8))


def test_a_picture_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_overlay(tmp_path / "file", "x", np.zeros((9, 9), np.uint8), PageReading(1, 9, 9, ()))


@given(names, names)
def test_names_of_pictures_stay_in_their_folder_and_apart(first: str, second: str) -> None:
    stems = {write._stem(first), write._stem(second)}
    assert len(stems) == len({first, second})
    for stem in stems:
        assert Path(stem).name == stem
        assert len(stem.encode()) < 128
        assert not stem.startswith(".")
