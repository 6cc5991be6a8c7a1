"""An archive in parts: the same sheets in the same parts, each part written once and whole."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from stub import Paper, StubDetector, StubModel, write_model

from digitize import batch, parts, sheets, tables, write, write_numbers
from digitize.checks import parse_rules
from digitize.errors import OutputError, UsageError
from digitize.parts import Counts, ErrorRow, Part, Reference, SheetRow, Target
from digitize.records import SheetReading

MANY = [Reference(f"{k // 40:03d}/{k:05d}.png", f"/archive/{k:05d}.png", "", 900 + k, 1) for k in range(1500)]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Four sheets, one of them bad."""
    folder = tmp_path / "archive"
    (folder / "deep").mkdir(parents=True)
    for name, text in (("a.png", "904"), ("c.png", "37"), ("deep/d.png", "5216")):
        paper = Paper(90, 40 * len(text) + 60)
        paper.number(text, 30, 30, height=30)
        Image.fromarray(paper.gray()).save(folder / name)
    (folder / "b.png").write_bytes(b"no image")
    return folder


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Reads sheets with the stub."""
    monkeypatch.setattr("digitize.batch.Classifier", StubModel)
    monkeypatch.setattr("digitize.batch.Detector", StubDetector)
    return batch.Recipe(model=str(write_model(tmp_path / "model")), detector=str(tmp_path / "model"))().read_all


@pytest.fixture
def place(tmp_path: Path) -> Any:
    pytest.importorskip("pyarrow", reason="pyarrow comes with digitize[ray]: make cluster runs this")
    from digitize.store import Store

    return Store(str(tmp_path / "out"))


class Shelf:
    """An output's folder that is none: it keeps what is put there, without pyarrow."""

    uri = "shelf"

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def get(self, name: str) -> bytes | None:
        return self.files.get(name)

    def put(self, name: str, content: bytes) -> None:
        self.files[name] = content

    def remove(self, name: str) -> None:
        self.files.pop(name, None)


class Cloud:
    """A store of one object, which fails so often before it is read."""

    def __init__(self, fails: int, kind: str | OSError | None = "folder") -> None:
        self.fails, self.answer = fails, kind

    def kind(self) -> str | None:
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer

    def read(self, path: str) -> bytes:
        self.fails -= 1
        if self.fails >= 0:
            raise OSError("the token has expired")
        return b"the sheet"


def whole(archive: Path) -> Part:
    (part,) = parts.divide(parts.refer([str(archive)]), size=64, mark="m")
    return part


# Listing


def test_a_folder_is_listed_as_one_machine_lists_it(archive: Path) -> None:
    found = list(parts.refer([str(archive)]))
    assert [one.source for one in found] == [sheet.source for sheet in sheets.find([str(archive)])]
    assert [one.path for one in found] == [str(archive / one.source) for one in found]
    assert [one.size for one in found] == [(archive / one.source).stat().st_size for one in found]


def test_a_folder_is_listed_no_further_than_is_asked(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = []
    inside = sheets._inside
    monkeypatch.setattr(sheets, "_inside", lambda folder: listed.append(folder.name) or inside(folder))
    found = parts.refer([str(archive)])
    assert next(found).source == "a.png"
    assert listed == ["archive"]
    assert [one.source for one in found] == ["b.png", "c.png", "deep/d.png"]
    assert listed == ["archive", "deep"]


def test_a_share_that_goes_away_while_it_is_listed_ends_the_listing(archive: Path) -> None:
    found = parts.refer([str(archive)])
    assert next(found).source == "a.png"
    archive.rename(archive.with_name("elsewhere"))
    with pytest.raises(UsageError, match=f"{archive}: .* out of reach: No such file"):
        list(found)


def test_a_folder_that_may_not_be_listed_is_a_sheet_with_its_error(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = sheets._inside

    def refused(folder: Path) -> Any:
        if folder.name == "deep":
            raise PermissionError(13, "Permission denied")
        return inside(folder)

    monkeypatch.setattr(sheets, "_inside", refused)
    assert [one.error is None for one in parts.refer([str(archive)])] == [True, True, True, False]


def test_names_from_several_inputs_are_told_apart(archive: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.png").write_bytes((archive / "a.png").read_bytes())
    both = [str(archive), f"file://{other}"]
    found = [one.source for one in parts.refer(both)]
    assert found == [sheet.source for sheet in sheets.find([str(archive), str(other)])]
    assert len(set(found)) == 5


def test_what_is_not_there_is_a_sheet_with_its_error(tmp_path: Path) -> None:
    (missing,) = parts.refer([str(tmp_path / "none.png")])
    assert missing.path is None
    assert "no such file" in str(missing.error)
    (empty,) = parts.refer([str(tmp_path)])
    assert "no sheets in this folder" in str(empty.error)


def test_standard_input_is_refused() -> None:
    with pytest.raises(UsageError, match="standard input"):
        list(parts.refer(["a.png", "-"]))


# Parts


def test_parts_hold_every_sheet_once_and_in_order() -> None:
    divided = list(parts.divide(MANY, size=64, mark="m"))
    assert [one for part in divided for one in part.references] == MANY
    assert all(32 <= len(part.references) <= 128 for part in divided[:-1])
    assert 40 <= len(MANY) / len(divided) <= 90
    assert len({part.name for part in divided}) == len(divided)


@pytest.mark.parametrize("size", [1, 2, 3, 10_000])
def test_parts_of_any_size_hold_every_sheet(size: int) -> None:
    divided = list(parts.divide(MANY, size=size, mark="m"))
    assert [one for part in divided for one in part.references] == MANY
    assert max(len(part.references) for part in divided) <= 2 * size


def test_a_sheet_that_comes_later_changes_few_parts() -> None:
    more = sorted([*MANY, Reference("010/00417b.png", "/archive/00417b.png", "", 5, 1)], key=lambda one: one.source)
    before = {part.name for part in parts.divide(MANY, size=32, mark="m")}
    after = {part.name for part in parts.divide(more, size=32, mark="m")}
    assert 1 <= len(after - before) <= 4
    assert len(before) > 40


@pytest.mark.parametrize("changed", [{"size": 1}, {"changed": 2}, {"path": "/elsewhere/x.png"}, {"source": "x.png"}])
def test_a_part_is_another_when_a_sheet_is(changed: dict[str, Any]) -> None:
    assert Part.of(MANY[:3], "m") != Part.of([replace(MANY[0], **changed), *MANY[1:3]], "m")


def test_a_part_is_another_under_other_settings() -> None:
    assert Part.of(MANY[:3], "m").name != Part.of(MANY[:3], "n").name


# Reading


@pytest.mark.parametrize("form", tables.FORMS)
def test_a_part_is_read_as_one_machine_reads_it(archive: Path, read: Any, place: Any, form: tables.Form) -> None:
    target = Target(form)
    part = whole(archive)
    counts = parts.read_part(part, place, target, read)
    summary = batch.Summary()
    readings = list(read(sheets.find([str(archive)])))
    for reading in readings:
        summary.count(reading)
    assert (counts.sheets, counts.failed, counts.pages) == (summary.sheets, summary.failed, summary.pages)
    assert (counts.digits, counts.review) == (summary.digits, summary.review)

    text = io.StringIO(newline="")
    write.write_csv(readings, text, write.Generator("", "", ""))
    text.seek(0)
    content = place.get(target.file(parts.DIGITS, part.name))
    assert list(tables.unpack(content, write.Row, form)) == list(write.read_csv(text))
    if form == "csv":
        assert content.decode() == text.getvalue()

    (error,) = tables.unpack(place.get(target.file(parts.ERRORS, part.name)), ErrorRow, form)
    assert (error.source, error.error, error.part) == ("b.png", readings[1].error, part.name)
    rows = list(tables.unpack(place.get(target.file(parts.SHEETS, part.name)), SheetRow, form))
    assert [(row.source, row.sha256, row.failed) for row in rows] == [
        (one.source, one.sha256, int(one.error is not None)) for one in readings
    ]


def test_parquet_has_the_columns_and_types_of_the_csv(archive: Path, read: Any, place: Any) -> None:
    import pyarrow
    from pyarrow import csv as arrow_csv
    from pyarrow import parquet

    part = whole(archive)
    for form in tables.FORMS:
        parts.read_part(part, place, Target(form), read)
    folder = place.local / "digits" / part.name[:2]
    plain = arrow_csv.read_csv(folder / f"{part.name}.csv")
    table = parquet.read_table(folder / f"{part.name}.parquet")
    assert table.schema.names == list(write.COLUMNS)
    assert table.schema.types == plain.schema.types
    assert table.cast(pyarrow.schema([field.with_nullable(True) for field in table.schema])) == plain


def test_a_finished_part_is_not_read_again(archive: Path, read: Any, place: Any) -> None:
    part = whole(archive)
    first = parts.read_part(part, place, Target(), read)

    def never(found: Iterable[sheets.Sheet]) -> Iterator[SheetReading]:
        raise AssertionError("it was read again")

    again = parts.read_part(part, place, Target(), never)
    assert again == replace(first, resumed=True, said=())


def test_a_part_that_was_cut_short_is_written_anew_with_the_same_bytes(archive: Path, read: Any, place: Any) -> None:
    part, target = whole(archive), Target()
    parts.read_part(part, place, target, read)
    names = [target.file(table, part.name) for table in (parts.DIGITS, parts.ERRORS, parts.SHEETS)]
    before = [place.get(name) for name in names]

    def dies(found: Iterable[sheets.Sheet]) -> Iterator[SheetReading]:
        yield from list(read(found))[:2]
        raise RuntimeError("as a machine does")

    place.remove(names[-1])
    with pytest.raises(RuntimeError, match="as a machine does"):
        parts.read_part(part, place, target, dies)
    assert parts.finished(part.name, place, target) is None
    parts.read_part(part, place, target, read)
    assert [place.get(name) for name in names] == before
    assert sorted(path.name for path in place.local.rglob("*") if path.is_file()) == sorted(
        Path(name).name for name in names
    )


def test_an_error_that_has_passed_leaves_no_row(archive: Path, read: Any, place: Any) -> None:
    part, target = whole(archive), Target()
    parts.read_part(part, place, target, read)
    place.remove(target.file(parts.SHEETS, part.name))
    (archive / "b.png").write_bytes((archive / "a.png").read_bytes())
    assert parts.read_part(part, place, target, read).failed == 0
    assert not place.has(target.file(parts.ERRORS, part.name))


# Out of reach


@pytest.mark.parametrize("left", [True, False])  # the folder that it was mounted on
def test_a_share_that_goes_away_leaves_its_part_unread(archive: Path, read: Any, left: bool) -> None:
    part, shelf, target = whole(archive), Shelf(), Target("csv")
    elsewhere = archive.with_name("elsewhere")

    def goes_away(found: Iterable[sheets.Sheet]) -> Iterator[SheetReading]:
        for k, sheet in enumerate(found):
            if k == 2:
                archive.rename(elsewhere)
                if left:
                    archive.mkdir()
            yield from read([sheet])

    with pytest.raises(UsageError, match=r"out of reach.*what is finished is kept"):
        parts.read_part(part, shelf, target, goes_away)  # type: ignore[arg-type]
    assert shelf.files == {}

    elsewhere.rename(archive)
    counts = parts.read_part(part, shelf, target, read)  # type: ignore[arg-type]
    assert (counts.sheets, counts.failed, counts.resumed) == (4, 1, False)


def test_a_sheet_that_is_gone_or_cut_short_fails_alone(archive: Path, read: Any) -> None:
    part, shelf = whole(archive), Shelf()
    (archive / "a.png").unlink()
    for name in ("c.png", "deep/d.png"):
        content = (archive / name).read_bytes()
        (archive / name).write_bytes(content[: len(content) // 2])
    counts = parts.read_part(part, shelf, Target("csv"), read)  # type: ignore[arg-type]
    assert (counts.sheets, counts.failed) == (4, 4)
    assert parts.finished(part.name, shelf, Target("csv")) is not None  # type: ignore[arg-type]


def locked(found: Iterable[sheets.Sheet]) -> Iterator[SheetReading]:
    """Read as one does who may open none of them."""
    for sheet in found:
        yield SheetReading(sheet.source, "", (), f"{sheet.source}: cannot be opened: Permission denied", passing=True)


def test_a_part_of_which_nothing_can_be_opened_is_left_unread(archive: Path) -> None:
    part, shelf = whole(archive), Shelf()
    with pytest.raises(UsageError, match=r"none of the 4 sheets .*deep/d\.png: cannot be opened: Permission denied"):
        parts.read_part(part, shelf, Target("csv"), locked)  # type: ignore[arg-type]
    assert shelf.files == {}


def test_a_part_of_one_sheet_that_cannot_be_opened_is_a_row_of_errors(archive: Path) -> None:
    one, shelf = Part.of(whole(archive).references[:1], "m"), Shelf()
    assert parts.read_part(one, shelf, Target("csv"), locked).failed == 1  # type: ignore[arg-type]
    assert Target("csv").file(parts.SHEETS, one.name) in shelf.files


OBJECT = Reference("a.png", "bucket/a.png", "s3://bucket", 900, 1)


@pytest.mark.parametrize("kind", [None, OSError("the token has expired")])
def test_a_store_that_does_not_answer_ends_the_job(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_store", lambda uri: Cloud(2, kind))
    with pytest.raises(UsageError, match=r"s3://bucket: .* out of reach"):
        parts.sheet_of(OBJECT)


def test_an_object_is_asked_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    for fails, expected in ((0, b"the sheet"), (1, b"the sheet"), (2, None)):
        cloud = Cloud(fails)
        monkeypatch.setattr(parts, "_store", lambda uri, cloud=cloud: cloud)
        sheet = parts.sheet_of(OBJECT)
        assert sheet.content == expected
        assert (sheet.error is None) == (expected is not None)
    assert sheet.error == "s3://bucket: a.png: cannot be fetched: the token has expired; try again"


def test_an_object_that_is_too_large_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_store", lambda uri: pytest.fail("it was"))
    sheet = parts.sheet_of(replace(OBJECT, size=parts.LARGEST_OBJECT + 1))
    assert "larger than" in str(sheet.error)


def test_numbers_are_held_to_rules_and_written_a_row_each(archive: Path, read: Any, place: Any) -> None:
    part, target = whole(archive), Target("csv", "number", parse_rules(expect_length="3-4"))
    counts = parts.read_part(part, place, target, read)
    content = place.get(target.file(parts.DIGITS, part.name)).decode()
    rows = list(csv.DictReader(io.StringIO(content, newline="")))
    assert tuple(rows[0]) == write_numbers.COLUMNS
    assert [(row["text"], row["failed"]) for row in rows] == [("904", ""), ("37", "length"), ("5216", "")]
    assert counts.review >= 2


def test_a_table_that_was_damaged_is_named(archive: Path, read: Any, place: Any) -> None:
    part, target = whole(archive), Target()
    name = target.file(parts.SHEETS, part.name)
    place.put(name, b"no parquet")
    with pytest.raises(OutputError, match=part.name):
        parts.finished(part.name, place, target)


def test_an_object_of_a_store_is_read_from_its_bytes(archive: Path, read: Any, place: Any) -> None:
    pytest.importorskip("fsspec", reason="fsspec comes with digitize[ray]: make cluster runs this")
    from digitize.store import Store

    uri = "memory://archive/of/sheets"
    cloud = Store(uri)
    for path in sorted(archive.rglob("*.png")):
        cloud.put(path.relative_to(archive).as_posix(), path.read_bytes())
    cloud.put("notes.txt", b"no sheet")
    cloud.put(".hidden.png", b"no sheet")
    (part,) = parts.divide(parts.refer([uri]), size=64, mark="m")
    near = whole(archive)
    assert [one.source for one in part.references] == [one.source for one in near.references]
    far_counts, near_counts = (parts.read_part(one, place, Target(), read) for one in (part, near))
    assert replace(far_counts, part="", said=()) == replace(near_counts, part="", said=())
    assert place.get(Target().file(parts.DIGITS, part.name)) == place.get(Target().file(parts.DIGITS, near.name))
    (said,) = far_counts.said
    assert said.startswith("b.png: ")


def test_an_object_that_is_gone_fails_alone(archive: Path, read: Any, place: Any) -> None:
    pytest.importorskip("fsspec", reason="fsspec comes with digitize[ray]: make cluster runs this")
    from digitize.store import Store

    uri = "memory://archive/going"
    cloud = Store(uri)
    cloud.put("a.png", (archive / "a.png").read_bytes())
    cloud.put("z.png", (archive / "a.png").read_bytes())
    (part,) = parts.divide(parts.refer([uri]), size=64, mark="m")
    cloud.remove("a.png")
    counts = parts.read_part(part, place, Target(), read)
    assert (counts.sheets, counts.failed, counts.digits) == (2, 1, 3)
    assert counts.said[0].startswith(f"{uri}: a.png: cannot be fetched")


def test_an_address_that_nobody_knows_is_refused(place: Any) -> None:
    with pytest.raises(UsageError, match="nope://x"):
        list(parts.refer(["nope://x"]))


def test_counts_of_nothing_are_nothing() -> None:
    assert Counts("x") == parts._count("x", [])
