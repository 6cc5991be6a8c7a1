"""Pages of review in the OUTBOX of a watch: each doubtful sheet on one, whatever happens, and back into the rows."""

from __future__ import annotations

import io
import json
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scenes import Scene, drawn, open_scene

from digitize import corrections, outbox, results, reviews, watch, write
from digitize.errors import OutputError, UsageError
from digitize.ledger import Found, Ledger
from digitize.records import Box, Crop, Digit, Drawing, Line, Number, PageReading, SheetReading, Status

GENERATOR = write.Generator("0.1.0", "stub", "", {"dpi": 300.0})


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with open_scene(tmp_path) as made:
        made.review_below = 1.0  # every digit is doubtful
        yield made


def on_page(path: Path) -> dict[str, Any]:
    """What a page of review holds."""
    found = re.search(r'<script type="application/json" id="review">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)
    assert found is not None
    held: dict[str, Any] = json.loads(found[1])
    return held


def pages_of(scene: Scene) -> dict[str, list[str]]:
    """For each page of review the sheets on it."""
    paths = sorted((scene.outbox / "review").glob("[0-9]*.html"))
    return {path.stem: [source for source, *_ in on_page(path)["pages"]] for path in paths}


def blank() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((90, 200), 250, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def corrected(scene: Scene, page: str, now: dict[str, str]) -> corrections.Corrections:
    """What somebody saves who says of the first digit of each of these sheets what it is."""
    held = on_page(scene.outbox / "review" / f"{page}.html")
    decisions = []
    for at, line, number, position, value, *_, box, seen in held["digits"]:
        source = held["pages"][at][0]
        if source in now and (line, number, position) == (1, 1, 1):
            place = {"source": source, "page": 1, "line": 1, "number": 1, "position": 1}
            where = dict(zip(("left", "top", "width", "height"), box, strict=True))
            sample = {"audit": True} if seen[-1] else {}
            decisions.append({**place, "box": where, "was": value, "now": now[source], **sample})
    said = {"results": held["results"], "audit": held["audit"], "decisions": decisions, "added": []}
    path = scene.place / held["saveAs"]
    path.write_text(json.dumps({"schema": corrections.SCHEMA, **said}))
    return corrections.load(path)


def texts_of(found: results.Results) -> dict[str, str]:
    return {
        sheet.source: "".join(str(digit.value) for page in sheet.pages for *_, digit in page.digits())
        for sheet in found.sheets
    }


def test_doubtful_sheets_are_on_a_page_and_others_on_none(scene: Scene) -> None:
    for name, text in [("1.png", "904"), ("a/1.png", "37")]:
        scene.put(name, text)
    (scene.inbox / "blank.png").write_bytes(blank())
    scene.once()
    assert scene.files("review") == ["0001.html", "0001.json", "index.html"]
    assert {name: sorted(sheets) for name, sheets in pages_of(scene).items()} == {"0001": ["1.png", "a/1.png"]}
    held = on_page(scene.outbox / "review" / "0001.html")
    part = results.load(scene.outbox / "review" / "0001.json")
    assert held["results"] == {"name": "0001.json", "sha256": part.sha256, "digits": 5}
    assert held["saveAs"] == "0001-corrections.json"
    assert texts_of(part) == {"1.png": "904", "a/1.png": "37"}
    assert "to look at: 1 pages" in watch.status(scene.outbox)


def test_nothing_is_written_where_nothing_is_doubtful(scene: Scene) -> None:
    scene.review_below = 0.0
    scene.put("1.png", "904")
    scene.once()
    assert not (scene.outbox / "review").exists()


def test_pages_of_a_sheet_without_doubts_are_not_shown_but_counted(scene: Scene) -> None:
    first, second = (Image.open(io.BytesIO(content)) for content in (drawn("904"), blank()))
    first.save(scene.inbox / "two.tif", save_all=True, append_images=[second])
    scene.once()
    held = on_page(scene.outbox / "review" / "0001.html")
    assert [number for _, number, *_ in held["pages"]] == [1]
    assert held["results"]["digits"] == 3
    assert len(results.load(scene.outbox / "review" / "0001.json").sheets[0].pages) == 2


def test_the_audit_counts_sure_digits_of_pages_and_sheets_that_are_not_shown(scene: Scene) -> None:
    book = Ledger(scene.outbox)
    book.open(scene.inbox)
    shown = sheet("904", "a.png", status="ok")
    shown = replace(shown, pages=shown.pages * 2, drawings=(*shown.drawings, Drawing()))
    bare = replace(sheet("37", "b.png", status="ok"), drawings=(Drawing(),))
    book.list_read(Found("b.png", 1, 1, "b.png"), "b.png", bare)
    book.list_read(Found("copy.png", 1, 1, "b.png"), "b.png", replace(bare, drawings=()))
    book.list_read(Found("a.png", 1, 1, "a.png"), "a.png", shown)
    book.write_page(GENERATOR, share=0.5)
    book.list_read(Found("c.png", 1, 1, "c.png"), "c.png", sheet("8", "c.png", status="ok"))
    book.write_page(GENERATOR, share=0.5)
    book.close()
    accepted = [on_page(scene.outbox / "review" / f"{page}.html")["audit"]["accepted"] for page in ("0001", "0002")]
    assert accepted == [3 + 3 + 2, 1]


def test_what_is_read_later_goes_onto_another_page(scene: Scene) -> None:
    scene.put("1.png", "904")
    scene.once()
    before = [(scene.outbox / "review" / name).read_bytes() for name in ("0001.html", "0001.json")]
    scene.put("2.png", "37")
    scene.once()
    assert pages_of(scene) == {"0001": ["1.png"], "0002": ["2.png"]}
    assert [(scene.outbox / "review" / name).read_bytes() for name in ("0001.html", "0001.json")] == before
    listed = (scene.outbox / "review" / "index.html").read_text()
    assert re.findall(r'href="(\d+).html"', listed) == ["0002", "0001"]


def test_a_page_is_written_when_nothing_else_waits_and_then_not_at_once(scene: Scene) -> None:
    def arrive() -> None:
        scene.put("1.png", "904")
        scene.heard.wait("0001.html: written")
        scene.put("2.png", "37")
        scene.heard.wait("2.png: read")
        scene.put("3.png", "5216")
        scene.heard.wait("3.png: read")

    counts = scene.play(arrive, review_pause=3600.0)
    assert counts.stopped_by == signal.SIGTERM
    assert pages_of(scene) == {"0001": ["1.png"], "0002": ["2.png", "3.png"]}, "at the end nothing is left over"


def test_a_full_page_does_not_wait(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("digitize.reviews.PAGE_LOOKS", 5)
    for name, text in zip("abcd", ("904", "37", "5216", "8"), strict=True):
        scene.put(f"{name}.png", text)
    scene.once(review_pause=3600.0)
    pages = pages_of(scene)
    assert sorted(sheet for page in pages.values() for sheet in page) == ["a.png", "b.png", "c.png", "d.png"]
    assert len(pages) == 2


def test_pages_that_are_done_may_be_put_away(scene: Scene) -> None:
    scene.put("1.png", "904")
    scene.once()
    for path in (scene.outbox / "review").iterdir():
        path.unlink()
    scene.put("<b>&2.png", "37")
    scene.once()
    assert pages_of(scene) == {"0002": ["<b>&2.png"]}
    listed = (scene.outbox / "review" / "index.html").read_text()
    assert re.findall(r'href="(\d+).html"', listed) == ["0002"]
    assert "<bdi>&lt;b&gt;&amp;2.png</bdi>" in listed


def test_all_of_review_may_be_put_away(scene: Scene) -> None:
    scene.put("1.png", "904")
    scene.once()
    (scene.outbox / "review").rename(scene.place / "put away")
    scene.put("2.png", "37")
    scene.once()
    assert pages_of(scene) == {"0002": ["2.png"]}


# A kill, a full disk


def sheet(text: str, name: str, *, status: Status = "review") -> SheetReading:
    digits = tuple(Digit(int(c), 0.5, 1, 0.25, status, Box(9 * k, 1, 8, 9)) for k, c in enumerate(text))
    page = PageReading(1, 99, 20, (Line((Number(digits),)),))
    crop = Crop(Box(0, 0, 9, 9), png(), 4, 3, (1, 0.5))
    shown = tuple((k, 0) for k in range(len(text)))
    return SheetReading(name, name, (page,), drawings=(Drawing(b"picture", (crop,), shown),))


def png() -> bytes:
    stream = io.BytesIO()
    Image.new("L", (4, 3), 255).save(stream, "PNG")
    return stream.getvalue()


class Killed(BaseException):
    """Stands for a kill: nothing that the ledger would catch."""


@pytest.mark.parametrize("at", ["write_page", "finish", "write_index"])
def test_a_page_that_a_kill_left_half_done_is_written_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    book = Ledger(scene.outbox)
    book.open(scene.inbox)
    for name in ("a.png", "b.png"):
        book.list_read(Found(name, 1, 1, name), name, sheet("904", name))

    def kill(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(f"digitize.reviews.{at}", kill)
        with pytest.raises(Killed):
            book.write_page(GENERATOR)
    book.close()
    (scene.outbox / "review").mkdir(exist_ok=True)
    (scene.outbox / "review" / ".0001.html.12345678.part").write_text("half")
    left = {path.name: path.read_bytes() for path in (scene.outbox / "review").glob("0001.*")}
    again = Ledger(scene.outbox)
    again.open(scene.inbox)
    again.list_read(Found("c.png", 1, 1, "c.png"), "c.png", sheet("37", "c.png"))
    while again.write_page(GENERATOR) is not None:
        pass
    again.close()
    assert pages_of(scene) == {"0001": ["a.png", "b.png"], "0002": ["c.png"]}
    assert {name: (scene.outbox / "review" / name).read_bytes() for name in left} == left
    assert scene.files("review") == ["0001.html", "0001.json", "0002.html", "0002.json", "index.html"]
    assert (scene.outbox / "review" / "index.html").read_text().count("href=") == 2


@pytest.mark.parametrize("at", ["write_page", "write_index"])
def test_a_page_that_cannot_be_written_is_written_later(scene: Scene, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    writes = getattr(reviews, at)

    def fail(*_: object, **__: object) -> None:
        monkeypatch.setattr(reviews, at, writes)
        raise OutputError("review/0001.json: cannot be written: No space left on device; make room")

    def arrive() -> None:
        monkeypatch.setattr(reviews, at, fail)
        scene.put("1.png", "904")
        scene.heard.wait("No space left")
        scene.heard.wait("can be written again")
        scene.heard.wait("0001.html: written")

    scene.play(arrive)
    assert pages_of(scene) == {"0001": ["1.png"]}
    assert 'href="0001.html"' in (scene.outbox / "review" / "index.html").read_text()


@pytest.mark.parametrize(("table", "column"), [("readings", "reading"), ("unseen", "drawings")])
def test_what_is_damaged_in_the_ledger_costs_one_sheet_its_place_on_a_page(
    scene: Scene, table: str, column: str
) -> None:
    book = Ledger(scene.outbox)
    book.open(scene.inbox)
    for name in ("a.png", "b.png"):
        book.list_read(Found(name, 1, 1, name), name, sheet("904", name))
    book._connected().execute(f"UPDATE {table} SET {column} = x'00' WHERE key = 'a.png'")
    assert (book.reading("a.png", "c.png") is None) == (table == "readings"), "it is read again"
    written = book.write_page(GENERATOR)
    assert (written.sheets, written.looks) == (1, 3)
    assert book.write_page(GENERATOR) is None
    book.close()
    assert pages_of(scene) == {"0001": ["b.png"]}
    assert scene.heard.count("a.png: is on no page of review") == 1


# Back into the rows


def test_corrections_of_several_pages_go_into_the_rows_of_all_sheets(scene: Scene) -> None:
    first = scene.put("a/1.png", "904")
    (scene.inbox / "a" / "copy.png").write_bytes(first)
    (scene.inbox / "blank.png").write_bytes(blank())
    scene.once()
    scene.put("2.png", "37")
    scene.put("3.png", "5216")
    scene.once()
    assert len(pages_of(scene)["0001"]) == 1, "the same content is looked at once"
    (original,) = pages_of(scene)["0001"]
    said = [corrected(scene, "0001", {original: "8"}), corrected(scene, "0002", {"2.png": "3", "3.png": ""})]
    outcome = outbox.apply(scene.outbox, said)
    assert texts_of(outcome.results) == {"a/1.png": "804", "a/copy.png": "804", "2.png": "37", "3.png": "216"}
    assert (outcome.corrected, outcome.confirmed, outcome.removed, outcome.left) == (1, 1, 1, 8)
    assert not outcome.again
    statuses = {sheet.source: next(sheet.pages[0].digits())[-1].status for sheet in outcome.results.sheets}
    assert statuses == {"a/1.png": "corrected", "a/copy.png": "corrected", "2.png": "confirmed", "3.png": "review"}
    results.save(outcome.results, str(scene.place / "corrected.csv"))
    with (scene.place / "corrected.csv").open(newline="") as stream:
        assert len(list(write.read_csv(stream))) == 11


def test_corrections_that_belong_to_no_page_or_to_other_rows_are_refused(scene: Scene) -> None:
    scene.put("1.png", "904")
    scene.once()
    said = corrected(scene, "0001", {"1.png": "8"})
    with pytest.raises(UsageError, match="two files of corrections"):
        outbox.apply(scene.outbox, [said, said])
    with pytest.raises(UsageError, match="is no OUTBOX"):
        outbox.apply(scene.inbox, [said])
    part = scene.outbox / "review" / "0001.json"
    content = part.read_text()
    part.write_text(content.replace('"digit": 9', '"digit": 7'))
    with pytest.raises(UsageError, match="belong to other results"):
        outbox.apply(scene.outbox, [said])
    part.write_text(content)
    rows = (scene.outbox / "all.csv").read_text()
    (scene.outbox / "all.csv").write_text(rows.replace("1.png,1,1,1,1,9", "1.png,1,1,1,1,7"))
    with pytest.raises(UsageError, match="holds other rows"):
        outbox.apply(scene.outbox, [said])
    part.unlink()
    with pytest.raises(UsageError, match=r"0001\.json: is not there"):
        outbox.apply(scene.outbox, [said])


def test_a_sheet_that_is_being_written_is_left_out(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    book = Ledger(scene.outbox)
    book.open(scene.inbox)
    book.list_read(Found("a.png", 1, 1, "a.png"), "a.png", sheet("904", "a.png"))
    book.write_page(GENERATOR)

    def half(ledger: Ledger, reading: SheetReading, length: int) -> None:
        with (ledger.outbox / "all.csv").open("a") as stream:
            stream.write("b.png,1,1,1")
        raise Killed

    monkeypatch.setattr("digitize.ledger.Ledger._append", half)
    with pytest.raises(Killed):
        book.list_read(Found("b.png", 1, 1, "b.png"), "b.png", sheet("37", "b.png"))
    outcome = outbox.apply(scene.outbox, [corrected(scene, "0001", {"a.png": "8"})])
    book.close()
    assert texts_of(outcome.results) == {"a.png": "804"}


def test_the_samples_of_several_pages_are_one(scene: Scene) -> None:
    scene.review_below, scene.audit = 0.0, 1.0
    for name, text in [("1.png", "904"), ("2.png", "37")]:
        scene.put(name, text)
        scene.once()
    said = [corrected(scene, "0001", {"1.png": "8"}), corrected(scene, "0002", {"2.png": "3"})]
    sample = outbox.apply(scene.outbox, said).audit
    assert sample is not None
    assert (sample.wrong, sample.looked, sample.accepted) == (1, 2, 5)
