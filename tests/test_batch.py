"""A job over many sheets: what is written, what is counted, and what becomes of the bad ones."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import jsonschema
import numpy as np
import pypdfium2
import pytest
from PIL import Image
from readers import BillerRecipe, StubRecipe
from stub import Paper, StubDetector, StubModel, write_model

from digitize import batch, models, overlay_pdf, stopwatch, write
from digitize.batch import Allowance, Job, Policy, Summary
from digitize.checks import parse_rules
from digitize.errors import DeviceError, ModelError, OutputError, SheetError, UsageError
from digitize.records import PageReading
from digitize.scan import Settings


def draw(path: Path, text: str) -> Path:
    paper = Paper(90, 40 * len(text) + 60)
    paper.number(text, 30, 30, height=30)
    Image.fromarray(paper.gray()).save(path)
    return path


@pytest.fixture
def sheets(tmp_path: Path) -> Path:
    folder = tmp_path / "sheets"
    (folder / "deep").mkdir(parents=True)
    draw(folder / "a.png", "904")
    (folder / "b.png").write_bytes(b"")
    draw(folder / "c.png", "37")
    draw(folder / "deep" / "d.png", "5216")
    return folder


@pytest.fixture
def job(sheets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes jobs over the sheets, read by the stub."""
    monkeypatch.setattr("digitize.batch.Classifier", StubModel)
    monkeypatch.setattr("digitize.batch.Detector", StubDetector)
    model = write_model(tmp_path / "model")

    def make(output: str | None = "digits.csv", **options: Any) -> Job:
        target = str(tmp_path / output) if output is not None else None
        given = {"inputs": [str(sheets)], "output": target, "model": str(model), "progress": False}
        return Job(**{**given, **options})

    return make


def rows_of(path: str) -> list[write.Row]:
    with Path(path).open(newline="", encoding="utf-8") as stream:
        return list(write.read_csv(stream))


def run_on_a_full_disk(given: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read everything; only the result cannot take its place."""

    def full(*_: object) -> None:
        raise OutputError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("digitize.write._take_place", full)
        with pytest.raises(OutputError, match="full"):
            batch.run(given)


def text_of(rows: list[write.Row], source: str) -> str:
    return "".join(str(row.digit) for row in rows if row.source == source)


def test_every_sheet_that_can_be_read_is_written(job: Any) -> None:
    given = job()
    summary = batch.run(given)
    rows = rows_of(given.output)
    assert (summary.sheets, summary.failed, summary.pages, summary.digits) == (4, 1, 3, 9)
    assert [text_of(rows, name) for name in ("a.png", "b.png", "c.png", "deep/d.png")] == ["904", "", "37", "5216"]
    assert summary.review == sum(row.status == "review" for row in rows)


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_json_is_by_the_schema_and_says_what_failed(job: Any, suffix: str) -> None:
    given = job(f"digits.{suffix}")
    batch.run(given)
    content = Path(given.output).read_text(encoding="utf-8")
    if suffix == "json":
        document = json.loads(content)
        jsonschema.validate(document, write.schema())
        assert document["generator"]["model"] == "stub"
        found = document["sheets"]
    else:
        found = [json.loads(line) for line in content.splitlines()]
    assert [sheet["source"] for sheet in found] == ["a.png", "b.png", "c.png", "deep/d.png"]
    assert ["empty" in (sheet["error"] or "") for sheet in found] == [False, True, False, False]
    numbers = [number["text"] for page in found[3]["pages"] for line in page["lines"] for number in line["numbers"]]
    assert numbers == ["5216"]


def test_each_failure_is_one_line(
    job: Any, sheets: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sheets / "e.png").write_text("no image")
    monkeypatch.setattr(logging.getLogger("digitize"), "propagate", True)
    caplog.set_level(logging.ERROR, "digitize")
    batch.run(job())
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert f"{sheets / 'b.png'}: is empty" in lines[0]
    assert f"{sheets / 'e.png'}: is text" in lines[1]


@pytest.mark.parametrize(
    ("device", "seen", "count", "chosen"),
    [
        ("auto", True, batch.GPU_SHEETS - 1, "cpu"),
        ("auto", True, batch.GPU_SHEETS, "auto"),
        ("auto", False, 1, "auto"),
        ("gpu:1", True, 1, "gpu:1"),
    ],
)
def test_few_sheets_do_not_wait_for_a_gpu(
    device: str, seen: bool, count: int, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "gpu_seen", lambda: seen)
    assert batch.chosen_device(device, count) == chosen


def test_a_scan_of_few_sheets_says_that_it_leaves_the_gpu_alone(
    job: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(batch, "gpu_seen", lambda: True)
    with caplog.at_level(logging.INFO, logger="digitize"):
        batch.run(job())
    assert "so few sheets do not pay for a GPU's start" in caplog.text
    assert "one GPU" not in caplog.text


def test_where_nothing_can_be_read_nothing_is_written(job: Any, sheets: Path, tmp_path: Path) -> None:
    given = job(inputs=[str(sheets / "b.png"), str(sheets / "missing.png")])
    with pytest.raises(SheetError):
        batch.run(given)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "sheets"]


def test_an_older_result_stays_when_the_new_one_fails(job: Any, sheets: Path) -> None:
    given = job(inputs=[str(sheets / "b.png")])
    Path(given.output).write_text("older")
    with pytest.raises(SheetError):
        batch.run(given)
    assert Path(given.output).read_text() == "older"


def test_a_blank_sheet_gives_no_rows_and_is_no_error(job: Any, tmp_path: Path) -> None:
    blank = tmp_path / "blank.png"
    Image.fromarray(np.full((60, 80), 255, np.uint8)).save(blank)
    given = job(inputs=[str(blank)])
    assert batch.run(given) == Summary(sheets=1, pages=1)
    assert Path(given.output).read_text() == ",".join(write.COLUMNS) + "\n"


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"output": "digits.xlsx"}, UsageError, "digits.xlsx"),
        ({"output": "missing/digits.csv"}, OutputError, "folder does not exist"),
        ({"output": "sheets"}, UsageError, "sheets"),
        ({"output": "sheets", "format": "csv"}, OutputError, "sheets.*directory"),
        ({"model": "no such model"}, ModelError, "no such model"),
        ({"device": "gpu:1"}, DeviceError, "gpu:1"),
        ({"dpi": 1.0}, UsageError, "dpi"),
        ({"dpi": 3000.0, "policy": Policy(jobs=2)}, UsageError, "dpi"),
        ({"dpi": float("nan")}, UsageError, "dpi"),
    ],
    ids=lambda given: str(given) if isinstance(given, dict) else "",
)
def test_what_cannot_be_done_is_refused(job: Any, options: dict[str, Any], error: type[Exception], says: str) -> None:
    given = job(**options)
    with pytest.raises(error, match=says):
        batch.run(given)
    assert not Path(given.output).is_file()


def test_overlays_and_crops_are_drawn(job: Any, tmp_path: Path) -> None:
    batch.run(job(overlay=tmp_path / "over" / "lay", crops=tmp_path / "crops"))
    overlays = sorted(path for path in (tmp_path / "over" / "lay").rglob("*") if path.is_file())
    assert len(overlays) == 3
    assert all(cv2.imread(str(path)) is not None for path in overlays)
    assert len([path for path in (tmp_path / "crops").rglob("*.png") if path.is_file()]) == 9


def test_a_page_longer_than_a_jpeg_may_be_is_drawn_smaller() -> None:
    strip = np.full((70_000, 8), 255, np.uint8)
    overlay, dpi = overlay_pdf.draw(strip, PageReading(1, 8, 70_000, (), 0), dpi=300)
    with Image.open(io.BytesIO(overlay)) as picture:
        assert max(picture.size) == write.MAX_OVERLAY_SIDE
        assert dpi == pytest.approx(300 * picture.width / 8)


def test_overlays_of_all_pages_go_into_one_pdf(job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch.run(job(overlay=tmp_path / "over.pdf"))
    with pypdfium2.PdfDocument(tmp_path / "over.pdf") as pdf:
        assert len(pdf) == 3
        size = pdf[0].get_size()
    assert size[0] > size[1] > 0
    with pytest.raises(OutputError, match="folder does not exist"):
        batch.run(job(overlay=tmp_path / "missing" / "over.pdf"))

    def full(part: Path, target: Path) -> None:
        assert part.exists()
        raise OutputError(f"{target}: the disk is full")

    monkeypatch.setattr(overlay_pdf, "_finish", full)
    with pytest.raises(OutputError, match="full"):
        batch.run(job(overlay=tmp_path / "new.pdf"))
    assert list(tmp_path.glob(".*.part")) == list(tmp_path.glob("new.pdf")) == []


def test_a_page_of_review_is_written_beside_the_results(job: Any, tmp_path: Path) -> None:
    given = job(review=tmp_path / "review.html", settings=Settings(review_below=1.0))
    batch.run(given)
    page = (tmp_path / "review.html").read_text(encoding="utf-8")
    assert hashlib.sha256(Path(given.output).read_bytes()).hexdigest() in page


@pytest.mark.parametrize("options", [{"output": "-"}, {"format": "alto"}, {"level": "number"}], ids=str)
def test_a_page_of_review_needs_a_file_of_digits(job: Any, tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="--review"):
        batch.run(replace(job(review=tmp_path / "review.html"), **options))
    assert not (tmp_path / "review.html").exists()


def test_where_the_page_cannot_be_written_nothing_is(job: Any, tmp_path: Path) -> None:
    given = job(review=tmp_path / "missing" / "review.html")
    with pytest.raises(OutputError):
        batch.run(given)
    assert not Path(given.output).exists()


def test_numbers_that_fail_a_rule_are_to_review(job: Any, tmp_path: Path) -> None:
    given = job(rules=parse_rules(expect_length="3-4"), level="number", settings=Settings(review_below=0.0))
    assert batch.run(given).review == 2
    with Path(given.output).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["text"], row["status"], row["failed"]) for row in rows] == [
        ("904", "ok", ""),
        ("37", "review", "length"),
        ("5216", "ok", ""),
    ]


@pytest.mark.parametrize("suffix", ["xml", "hocr"])
def test_the_formats_of_the_field_are_written(job: Any, suffix: str) -> None:
    given = job(f"digits.{suffix}")
    batch.run(given)
    root = ElementTree.fromstring(Path(given.output).read_bytes())
    assert "5216" in [element.get("CONTENT") or "".join(element.itertext()) for element in root.iter()]


def test_a_folder_for_overlays_that_cannot_be_made_is_an_output_error(job: Any, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    given = job(overlay=tmp_path / "taken")
    with pytest.raises(OutputError, match="taken"):
        batch.run(given)
    assert not Path(given.output).exists()


def test_settings_reach_the_scanner(job: Any, sheets: Path) -> None:
    given = job(settings=Settings(review_below=1.0))
    assert batch.run(given).review == 9
    assert {row.status for row in rows_of(given.output)} == {"review"}


def test_the_threshold_follows_the_error_asked_for(job: Any, tmp_path: Path) -> None:
    card = tmp_path / "model" / "card.json"
    content = json.loads(card.read_text())
    curve = {"belief": [0, 1], "confidence": [0, 1], "threshold": [0.0, 0.6, 0.9995], "error": [0.2, 0.1, 0.01]}
    finder = models.load_card(models.find(models.DEFAULT_DETECTOR))
    pair = {"detector_sha256": finder.tflite_sha256, "context_sha256": finder.context_sha256}
    card.write_text(json.dumps({**content, "calibration": {"temperature": 1.0, **curve, "measured_on": pair}}))
    assert batch.run(job(max_error=0.3)).review == 0
    assert batch.run(job(max_error=0.01)).review > 0
    with pytest.raises(UsageError, match="max-error"):
        batch.run(job(max_error=0.001))


def test_a_curve_holds_for_the_pair_that_it_was_measured_with(
    job: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("digitize"), "propagate", True)
    card = tmp_path / "model" / "card.json"
    content = json.loads(card.read_text())
    curve = {"belief": [0, 1], "confidence": [0, 0.3], "threshold": [0.0], "error": [0.2]}
    card.write_text(json.dumps({**content, "calibration": {"temperature": 1.0, **curve, "measured_on": {}}}))
    with caplog.at_level(logging.WARNING, logger="digitize"):
        assert batch.run(job(detector=batch.NO_DETECTOR)).review > 0
        assert "not calibrated" not in caplog.text
        assert batch.run(job()).review == 0
    assert "not calibrated with this detector" in caplog.text
    card.write_text(json.dumps({**content, "calibration": {"temperature": 1.0}}))
    with caplog.at_level(logging.WARNING, logger="digitize"):
        batch.run(job(detector=batch.NO_DETECTOR))
    assert "not calibrated without a detector" in caplog.text
    finder = models.load_card(models.find(models.DEFAULT_DETECTOR))
    pair = {"detector_sha256": finder.tflite_sha256, "context_sha256": "another"}
    card.write_text(json.dumps({**content, "calibration": {"temperature": 1.0, **curve, "measured_on": pair}}))
    assert batch.run(job()).review == 0


# Many sheets


@pytest.fixture
def stubbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stub reads in other processes, too."""
    monkeypatch.setattr("digitize.batch.Recipe", StubRecipe)


@pytest.mark.usefixtures("stubbed")
@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_the_bytes_are_the_same_for_any_number_of_processes(job: Any, sheets: Path, suffix: str) -> None:
    for k in range(9):
        draw(sheets / f"more{k}.png", f"{k}{k + 1:02d}{7 * k}")
    one, two = job(f"one.{suffix}", policy=Policy(jobs=1)), job(f"two.{suffix}", policy=Policy(jobs=2))
    assert batch.run(one) == batch.run(two)
    assert Path(one.output).read_bytes() == Path(two.output).read_bytes()


@pytest.mark.usefixtures("stubbed")
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_picture_that_cannot_be_written_ends_the_scan_and_is_no_fault_of_sheets(
    job: Any, tmp_path: Path, jobs: int
) -> None:
    (tmp_path / "file").write_text("")
    given = job(crops=tmp_path / "file" / "crops", policy=Policy(jobs=jobs))
    with pytest.raises(OutputError, match="cannot be made"):
        batch.run(given)
    assert not Path(given.output).exists()


@pytest.mark.usefixtures("stubbed")
def test_what_people_look_at_is_the_same_for_any_number_of_processes(job: Any, sheets: Path, tmp_path: Path) -> None:
    for k in range(9):
        draw(sheets / f"more{k}.png", f"{k}{k + 1:02d}{7 * k}")
    pages, overlays = [], []
    for jobs in (1, 2):
        place = tmp_path / f"by{jobs}"
        place.mkdir()
        given = {"review": place / "review.html", "overlay": place / "overlay.pdf", "audit": 0.3}
        batch.run(job("digits.csv", rules=parse_rules(expect_length="4"), policy=Policy(jobs=jobs), **given))
        pages.append(given["review"].read_bytes())
        with pypdfium2.PdfDocument(given["overlay"]) as pdf:
            overlays.append([page.render(scale=1).to_numpy() for page in pdf])
    assert b'"length"' in pages[0], "a number that fails a rule is to be looked at"
    assert pages[0] == pages[1]
    assert len(overlays[0]) == 12
    for one, other in zip(*overlays, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("stubbed")
def test_sheets_that_bring_their_process_down_fail_alone(job: Any, sheets: Path) -> None:
    for name in ("crash", "hungry", "endless"):
        draw(sheets / f"{name}.png", "123")
    given = job("digits.json", policy=Policy(jobs=2, sheet_timeout=6))
    summary = batch.run(given)
    assert (summary.sheets, summary.failed) == (7, 4)
    errors = {sheet["source"]: sheet["error"] for sheet in json.loads(Path(given.output).read_text())["sheets"]}
    assert [name for name, error in errors.items() if error is None] == ["a.png", "c.png", "deep/d.png"]
    assert "SIGSEGV" in errors["crash.png"]
    assert "memory" in errors["hungry.png"]
    assert "took longer than 6 s" in errors["endless.png"]


def test_the_journal_goes_when_the_result_is_there(job: Any, tmp_path: Path) -> None:
    given = job()
    batch.run(given)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits.csv", "model", "sheets"]


def test_the_journal_stays_when_the_result_cannot_be_written(
    job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_on_a_full_disk(job(), monkeypatch)
    assert (tmp_path / ".digits.csv.journal").exists()
    assert not (tmp_path / "digits.csv").exists()
    given = job()
    assert batch.run(given).resumed == 3
    assert len(rows_of(given.output)) == 9
    assert not (tmp_path / ".digits.csv.journal").exists()


def test_other_settings_take_nothing_from_a_journal(job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_on_a_full_disk(job(), monkeypatch)
    assert batch.run(job(settings=Settings(review_below=1.0))).resumed == 0


def test_a_file_a_sheet_keeps_folders_and_suffixes(job: Any, sheets: Path, tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (sheets / folder).mkdir()
        draw(sheets / folder / "1.png", "12")
    Image.open(sheets / "x" / "1.png").save(sheets / "x" / "1.bmp")
    out = tmp_path / "each"
    summary = batch.run(job(None, per_sheet=out, format="jsonl"))
    assert summary.failed == 1
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    names = ["a.png", "c.png", "deep/d.png", "x/1.bmp", "x/1.png", "y/1.png"]
    assert written == [f"{name}.jsonl" for name in names]
    assert [json.loads((out / f"{name}.jsonl").read_text())["source"] for name in names] == names


def test_no_path_leads_out_of_the_folder(tmp_path: Path) -> None:
    sources = ["/etc/a.png", "etc/a.png", "../../a.png", "../a.png", "a.png", "..", "a/../b.png"]
    paths = [batch.per_sheet_path(tmp_path, source, "csv") for source in sources]
    assert len(set(paths)) == len(paths)
    assert all(tmp_path in path.parents and ".." not in path.parts for path in paths)


def test_the_longest_names_fit(tmp_path: Path) -> None:
    names = [f"{letter * 251}.png" for letter in "ab"] + ["é" * 125 + ".png"]
    paths = [batch.per_sheet_path(tmp_path, name, "jsonl") for name in names]
    for path in paths:
        path.write_text("")
    assert len(set(paths)) == 3


def test_what_is_there_is_left_out_replaced_or_refused(job: Any, tmp_path: Path) -> None:
    each = tmp_path / "each"
    (each / "deep").mkdir(parents=True)
    (each / "a.png.csv").write_text("older")
    options = {"per_sheet": each}
    summary = batch.run(job(None, **options, policy=Policy(existing="skip")))
    assert (summary.sheets, summary.skipped) == (3, 1)
    assert (each / "a.png.csv").read_text() == "older"
    with pytest.raises(OutputError, match=r"a\.png\.csv: exists"):
        batch.run(job(None, **options, policy=Policy(existing="abort")))
    assert batch.run(job(None, **options)).sheets == 4
    assert text_of(rows_of(str(each / "a.png.csv")), "a.png") == "904"


def test_a_result_that_is_there_need_not_be_made_again(job: Any, tmp_path: Path) -> None:
    (tmp_path / "digits.csv").write_text("older")
    assert batch.run(job(policy=Policy(existing="skip"))) == Summary(skipped=4)
    with pytest.raises(OutputError, match="exists"):
        batch.run(job(policy=Policy(existing="abort")))
    assert (tmp_path / "digits.csv").read_text() == "older"
    with pytest.raises(UsageError, match="--existing skip"):
        batch.run(job(per_sheet=tmp_path / "each", policy=Policy(existing="skip")))


@pytest.mark.parametrize(
    ("text", "total", "most"),
    [("0", 9, 0), ("3", 9, 3), ("25%", 8, 2), ("0.5%", 1000, 5), ("64.6%", 500, 323), ("64.5999999%", 500, 322)],
)
def test_how_many_may_fail_is_read(text: str, total: int, most: int) -> None:
    assert Allowance.parse(text).of(total) == most


@pytest.mark.parametrize("text", ["", "-1", "three", "101%", "1.5", "%"])
def test_how_many_may_fail_has_to_make_sense(text: str) -> None:
    with pytest.raises(UsageError, match="max-failures"):
        Allowance.parse(text)


def test_too_many_failures_stop_a_job_and_what_was_read_is_written(job: Any, sheets: Path) -> None:
    given = job(policy=Policy(allowance=Allowance(0)))
    summary = batch.run(given)
    assert (summary.sheets, summary.failed, summary.stopped) == (2, 1, True)
    assert {row.source for row in rows_of(given.output)} == {"a.png"}
    assert batch.run(job(policy=Policy(allowance=Allowance(percent=25)))).stopped is False


def test_nowhere_to_write_is_refused(job: Any) -> None:
    with pytest.raises(UsageError, match="--per-sheet"):
        batch.run(job(None))


def test_the_counts_are_written_as_json(job: Any, tmp_path: Path) -> None:
    batch.run(job(summary=tmp_path / "counts.json"))
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert {name: counts[name] for name in ("sheets", "failed", "digits", "stopped")} == {
        "sheets": 4,
        "failed": 1,
        "digits": 9,
        "stopped": False,
    }
    assert counts["seconds"] > 0


# How long the stages take


@pytest.mark.usefixtures("stubbed")
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_profile_has_every_stage(job: Any, jobs: int) -> None:
    summary = batch.run(job(policy=Policy(jobs=jobs), profile=True))
    with_detector = {"load", "clean", "detect", "segment", "normalise", "classify", "decode", "layout", "write"}
    assert set(summary.spent) == with_detector
    assert all(seconds > 0 for seconds in summary.spent.values())
    assert sum(summary.spent.values()) < jobs * summary.seconds


def test_a_profile_adds_up_what_several_processes_took(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("digitize.batch.Recipe", BillerRecipe)
    summary = batch.run(job(policy=Policy(jobs=2), profile=True))
    assert (summary.sheets, summary.spent["load"], summary.spent["clean"]) == (4, 1.0, 8.0)


@pytest.mark.usefixtures("stubbed")
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_profile_goes_with_all_that_is_drawn_and_written(job: Any, tmp_path: Path, jobs: int) -> None:
    drawn = {"review": tmp_path / "page.html", "overlay": tmp_path / "overlays.pdf", "per_sheet": tmp_path / "each"}
    given = [job(f"{profile}.csv", policy=Policy(jobs=jobs), profile=profile, **drawn) for profile in (False, True)]
    plain, profiled = (batch.run(one) for one in given)
    assert profiled == plain
    assert Path(given[0].output).read_bytes() == Path(given[1].output).read_bytes()
    assert set(profiled.spent) == set(stopwatch.STAGES)
    assert profiled.timed == profiled.pages
    assert sum(profiled.spent.values()) < jobs * profiled.seconds


@pytest.mark.usefixtures("stubbed")
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_sheet_that_was_read_before_is_no_part_of_a_profile(
    job: Any, sheets: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    run_on_a_full_disk(job(policy=Policy(jobs=jobs), profile=True), monkeypatch)
    (sheets / "b.png").unlink()
    draw(sheets / "new.png", "31")
    summary = batch.run(job(policy=Policy(jobs=jobs), profile=True))
    assert (summary.sheets, summary.resumed, summary.pages, summary.timed) == (4, 3, 4, 1)
    assert set(summary.spent) == set(stopwatch.STAGES) - {"draw"}
    run_on_a_full_disk(job(policy=Policy(jobs=jobs)), monkeypatch)
    again = batch.run(job(policy=Policy(jobs=jobs), profile=True))
    assert (again.resumed, again.timed, set(again.spent)) == (4, 0, {"write"})  # the result takes its place


def test_the_counts_are_written_where_no_sheet_could_be_read(job: Any, tmp_path: Path) -> None:
    given = job(inputs=[str(tmp_path / "missing.png"), str(tmp_path / "gone.png")], summary=tmp_path / "counts.json")
    with pytest.raises(SheetError, match="any of the 2 sheets"):
        batch.run(given)
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert (counts["sheets"], counts["failed"]) == (2, 2)
    assert not Path(given.output).exists()


def test_counts_that_cannot_be_written_are_said_before_a_sheet_is_read(job: Any, tmp_path: Path) -> None:
    given = job(summary=tmp_path / "none" / "counts.json")
    with pytest.raises(OutputError, match=r"counts\.json: the folder does not exist"):
        batch.run(given)
    assert not Path(given.output).exists()


@pytest.mark.parametrize("option", ["output", "overlay", "review", "summary"])
def test_no_result_is_written_over_a_sheet(job: Any, tmp_path: Path, option: str) -> None:
    given = job()
    sheet = tmp_path / "sheet.pdf"
    sheet.write_bytes(b"%PDF-")
    (tmp_path / "link.pdf").symlink_to(sheet)
    target = tmp_path / "link.pdf"
    wrong = {"inputs": [str(sheet)], "format": "csv", option: str(target) if option == "output" else target}
    with pytest.raises(UsageError, match=r"link\.pdf: is a sheet to be read"):
        batch.run(replace(given, **wrong))
    assert sheet.read_bytes() == b"%PDF-"


@pytest.mark.parametrize("option", ["review", "summary"])
def test_no_two_results_are_written_into_one_file(job: Any, option: str) -> None:
    given = job()
    with pytest.raises(UsageError, match="is what -o names"):
        batch.run(replace(given, **{option: Path(given.output)}))
    assert not Path(given.output).exists()


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="there is no such device here")
def test_a_device_takes_more_than_one_result(job: Any) -> None:
    assert batch.run(replace(job(), output="/dev/null", format="csv", summary=Path("/dev/null"))).digits == 9


def test_without_a_profile_nothing_is_counted(job: Any, tmp_path: Path) -> None:
    summary = batch.run(job(summary=tmp_path / "counts.json"))
    assert summary.spent == {}
    assert not {"spent", "timed"} & set(json.loads((tmp_path / "counts.json").read_text()))


def test_a_profile_is_part_of_the_counts(job: Any, tmp_path: Path) -> None:
    summary = batch.run(job(profile=True, summary=tmp_path / "counts.json"))
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert (counts["spent"], counts["timed"]) == (summary.spent, summary.pages)
