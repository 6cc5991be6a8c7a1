"""What a killed scan had read is taken up again, exactly, and whatever is wrong with a journal costs no sheet."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from stub import Paper, write_model

from digitize import journal
from digitize.journal import Journal, Resumption
from digitize.records import Box, Crop, Digit, Drawing, Line, Number, PageReading, SheetReading
from digitize.sheets import Sheet, sha256

TESTS = Path(__file__).parent
SCAN = """
import json, sys
from pathlib import Path
from readers import StubRecipe
from digitize import batch
from digitize.scan import Settings
if __name__ == "__main__":
    batch.Recipe = StubRecipe
    folder, output, model, jobs, review = sys.argv[1:]
    policy, settings = batch.Policy(jobs=int(jobs)), Settings(review_below=1.0)
    page = Path(review) if review else None
    job = batch.Job([folder], output, model=model, progress=False, policy=policy, settings=settings, review=page)
    summary = batch.run(job)
    print(json.dumps([summary.sheets, summary.resumed]))
"""

shares = st.floats(0, 1)
boxes = st.builds(Box, st.integers(0, 9999), st.integers(0, 9999), st.integers(1, 999), st.integers(1, 999))
values = st.integers(0, 9)
digits = st.builds(Digit, values, shares, values, shares, st.sampled_from(["ok", "review"]), boxes)
numbers = st.lists(digits, min_size=1, max_size=3).map(lambda some: Number(tuple(some)))
lines = st.lists(numbers, min_size=1, max_size=2).map(lambda some: Line(tuple(some)))
pages = st.builds(
    PageReading,
    st.integers(1, 99),
    st.integers(1, 9999),
    st.integers(1, 9999),
    st.lists(lines, max_size=2).map(tuple),
    st.sampled_from([0, 90, 180, 270]),
)
readings = st.builds(SheetReading, st.text(max_size=9), st.just("ab" * 32), st.lists(pages, max_size=2).map(tuple))

pictures = st.binary(max_size=20)
ranks = st.tuples(values, shares)
crops = st.builds(Crop, boxes, pictures, st.integers(1, 480), st.integers(1, 200), ranks)
drawings = st.builds(
    Drawing,
    pictures,
    st.lists(crops, max_size=3).map(tuple),
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 2)), max_size=3).map(tuple),
    st.frozensets(st.integers(0, 99), max_size=3),
    pictures,
    st.floats(1, 1200),
)


def reading(source: str, sha256: str = "00") -> SheetReading:
    digit = Digit(7, 1 / 3, 1, 0.1 + 0.2, "review", Box(1, 2, 3, 4))
    return SheetReading(source, sha256, (PageReading(1, 10, 20, (Line((Number((digit,)),)),), 90),))


@settings(derandomize=True, deadline=None)
@given(readings)
def test_records_come_back_to_the_last_bit(made: SheetReading) -> None:
    assert journal.unpack(journal.pack(made), made.source) == made


@settings(derandomize=True, deadline=None)
@given(st.lists(drawings, max_size=3).map(tuple))
def test_drawings_come_back_to_the_last_bit(made: tuple[Drawing, ...]) -> None:
    assert journal.unpack_drawings(journal.pack_drawings(made)) == made


DRAWN = Drawing(
    b"page", (Crop(Box(1, 2, 3, 4), b"crop", 5, 6, (7, 0.5)),), ((0, 0),), frozenset({0}), b"overlay", 300.0
)


@pytest.mark.parametrize("packed", [b"", b"no drawings at all", journal.pack_drawings([DRAWN])[:-3]])
def test_what_are_no_drawings_is_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match="no drawings"):
        journal.unpack_drawings(packed)


@pytest.mark.parametrize("packed", [b"", b"no reading", journal.pack(reading("a"))[:-3]])
def test_what_is_no_reading_is_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match="no reading"):
        journal.unpack(packed, "a.png")


def test_a_key_depends_on_the_sheet_the_mark_and_what_is_drawn() -> None:
    keys = {
        journal.key_of(*parts)
        for parts in [("a", "m"), ("b", "m"), ("a", "n"), ("a", "m", "x"), ("am", ""), ("", "am")]
    }
    assert len(keys) == 6


@pytest.mark.parametrize(("letter", "count"), [("o", 3), ("🖋", 62), ("x", 251)])
def test_a_journal_keeps_and_goes(tmp_path: Path, letter: str, count: int) -> None:
    path = Journal.beside(str(tmp_path / f"{letter * count}.csv"))
    first = Journal(path)
    assert not path.exists(), "nothing is written before there is a reading"
    first.put("k", reading("a.png"))
    first.put("drawn", replace(reading("a.png"), drawings=(DRAWN,)))
    first.close(remove=False)
    second = Journal(path)
    assert second.kept == 2
    assert second.get("k", "b.png") == reading("b.png")
    drawn = second.get("drawn", "b.png")
    assert drawn is not None
    assert drawn.drawings == (DRAWN,)
    assert second.get("another", "b.png") is None
    second.close(remove=True)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_journal_is_not_left(tmp_path: Path) -> None:
    Journal(tmp_path / ".out.journal").close(remove=False)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_journal_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / ".out.journal"
    path.write_bytes(b"no database " * 500)
    kept = Journal(path)
    kept.put("k", reading("a.png"))
    assert kept.get("k", "a.png") is None
    kept.close(remove=False)
    assert list(tmp_path.iterdir()) == []


def test_the_order_is_that_of_the_sheets_whatever_is_kept(tmp_path: Path) -> None:
    found = []
    for k in range(8):
        (tmp_path / f"{k}.png").write_bytes(b"%d" % k)
        found.append(Sheet(f"{k}.png", path=tmp_path / f"{k}.png"))
    asked: list[str] = []

    def read(some: Iterable[Sheet]) -> Iterator[SheetReading]:
        for sheet in list(some):  # far ahead, as a batch or a pool does
            asked.append(sheet.source)
            yield reading(sheet.source, sha256(sheet.origin))

    first = Resumption(Journal(tmp_path / "j"), "m")
    list(first.read([found[k] for k in (1, 2, 5, 7)], read))
    first.journal.close(remove=False)
    asked.clear()
    again = Resumption(Journal(tmp_path / "j"), "m")
    given_back = list(again.read(found, read))
    again.journal.close(remove=True)
    assert [one.source for one, _ in given_back] == [sheet.source for sheet in found]
    assert asked == ["0.png", "3.png", "4.png", "6.png"]
    assert [kept for _, kept in given_back] == [k in (1, 2, 5, 7) for k in range(8)]


@pytest.mark.parametrize("ahead", [1, 3, 99])
@pytest.mark.parametrize("fails_at", range(7))
def test_where_a_journal_fails_in_the_middle_the_rest_is_read_again(tmp_path: Path, fails_at: int, ahead: int) -> None:
    found = []
    for k in range(7):
        (tmp_path / f"{k}.png").write_bytes(b"%d" % k)
        found.append(Sheet(f"{k}.png", path=tmp_path / f"{k}.png"))
    reading_now = 0

    def read(some: Iterable[Sheet]) -> Iterator[SheetReading]:
        nonlocal reading_now
        reading_now += 1
        assert reading_now == 1, "one process, or pool of them, reads one row of sheets at a time"
        waiting = iter(some)
        while batch := list(islice(waiting, ahead)):
            yield from (reading(sheet.source, sha256(sheet.origin)) for sheet in batch)
        reading_now -= 1

    def fail() -> None:
        raise sqlite3.OperationalError("disk I/O error")

    first = Resumption(Journal(tmp_path / "j"), "m")
    list(first.read([found[k] for k in (0, 2, 3, 6)], read))
    first.journal.close(remove=False)
    again = Resumption(Journal(tmp_path / "j"), "m")
    given_back = []
    for one, kept in again.read(found, read):
        given_back.append((one, kept))
        if len(given_back) == fails_at:
            again.journal._tried(fail)
    again.journal.close(remove=True)
    assert [one for one, _ in given_back] == [reading(sheet.source, sha256(sheet.origin)) for sheet in found]
    assert [kept for _, kept in given_back] == [k in (0, 2, 3, 6) and k < (fails_at or 7) for k in range(7)]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX's")
@pytest.mark.parametrize(("suffix", "review"), [("csv", ""), ("json", ""), ("csv", "review.html")])
def test_a_scan_that_was_killed_goes_on_to_the_same_bytes(tmp_path: Path, suffix: str, review: str) -> None:
    folder = tmp_path / "sheets"
    folder.mkdir()
    for k, name in enumerate([*(f"{k:03d}" for k in range(8)), "gated", *(f"h{k}" for k in range(3))]):
        paper = Paper(90, 260)
        paper.number(f"{90210 + k}", 30, 30, height=30)
        Image.fromarray(paper.gray()).save(folder / f"{name}.png")
    (folder / "empty.png").write_bytes(b"")
    model = write_model(tmp_path / "model")
    script = tmp_path / "scan.py"
    script.write_text(SCAN)
    output = tmp_path / f"out.{suffix}"
    page = tmp_path / (review or "none")
    words = [sys.executable, script, folder, output, model]
    last = str(page) if review else ""
    beside = {**os.environ, "PYTHONPATH": str(TESTS)}
    for pipe in ("began", "go"):
        os.mkfifo(tmp_path / pipe)
    killed = subprocess.Popen([*words, "2", last], env=beside)
    with (tmp_path / "began").open() as began:
        assert began.read() == "x"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    for pipe in ("began", "go"):
        (tmp_path / pipe).unlink()
    assert not output.exists()
    assert not page.exists()
    assert (tmp_path / f".out.{suffix}.journal").exists()
    done = subprocess.run([*words, "2", last], env=beside, check=True, capture_output=True, text=True)
    sheets, resumed = json.loads(done.stdout)
    assert sheets == 13
    assert 0 < resumed < 13
    resumed_bytes = [path.read_bytes() for path in (output, page) if path.exists()]
    assert len(resumed_bytes) == (2 if review else 1)
    assert [path.name for path in tmp_path.iterdir() if ".journal" in path.name] == []
    output.unlink()
    undisturbed = subprocess.run([*words, "1", last], env=beside, check=True, capture_output=True, text=True)
    assert json.loads(undisturbed.stdout) == [13, 0]
    assert [path.read_bytes() for path in (output, page) if path.exists()] == resumed_bytes
