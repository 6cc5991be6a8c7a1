"""The command line: exit codes, one line for what went wrong, results on stdout and nothing else there."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pypdfium2
import pytest
from PIL import Image
from readers import StubRecipe
from stub import Paper, StubDetector, StubModel, write_model
from typer.testing import CliRunner

from digitize import __version__, cli, watch, write

ROOT = Path(__file__).resolve().parents[1]
HEAVY = (
    "numpy",
    "cv2",
    "PIL",
    "matplotlib",
    "tensorflow",
    "keras",
    "ai_edge_litert",
    "pypdfium2",
    "tqdm",
    "watchfiles",
    "sqlite3",
    "multiprocessing",
)


@dataclass(frozen=True)
class Said:
    """What a run of the command line left."""

    code: int
    out: str
    err: str

    def line(self, *parts: str) -> str:
        """The one line on stderr that has all of the parts."""
        (found,) = (line for line in self.err.splitlines() if all(part in line for part in parts))
        return found


Digitize = Callable[..., Said]


@pytest.fixture
def digitize(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Digitize]:
    """Runs the command line in this process and in `tmp_path`, with the stub for a classifier."""
    monkeypatch.setattr("digitize.batch.Classifier", StubModel)
    monkeypatch.setattr("digitize.batch.Detector", StubDetector)
    monkeypatch.chdir(tmp_path)
    model = write_model(tmp_path / "model")
    log = logging.getLogger("digitize")
    before = log.handlers[:], log.level, log.propagate

    def run(*words: object) -> Said:
        words = tuple(map(str, words))
        if words[:1] == ("scan",) and "--model" not in words:
            words += ("--model", str(model))
        monkeypatch.setattr(sys, "argv", ["digitize", *words])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        assert "--verbose" in words or "Traceback" not in err
        code = ended.value.code
        return Said(0 if code is None else int(code), out, err)

    yield run
    log.handlers[:], log.propagate = before[0], before[2]
    log.setLevel(before[1])


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    paper = Paper(90, 260)
    paper.number("90415", 30, 30, height=30)
    Image.fromarray(paper.gray()).save(tmp_path / "sheet.png")
    return tmp_path / "sheet.png"


def left_over(folder: Path) -> list[str]:
    """What lies in a folder beside what was put there."""
    return sorted(path.name for path in folder.iterdir() if path.name not in ("model", "sheet.png"))


# Good runs


def test_a_sheet_becomes_a_csv(digitize: Digitize, sheet: Path) -> None:
    said = digitize("scan", sheet.name, "-o", "out.csv")
    assert said.code == 0
    assert said.out == ""
    with Path("out.csv").open(newline="") as stream:
        rows = list(write.read_csv(stream))
    assert [row.digit for row in rows] == [9, 0, 4, 1, 5]
    assert {row.source for row in rows} == {"sheet.png"}
    assert "1 sheets, 1 pages, 5 digits" in said.err or "1 sheet, 1 page, 5 digits" in said.err


def test_stdout_carries_the_result_and_nothing_else(digitize: Digitize, sheet: Path, tmp_path: Path) -> None:
    said = digitize("scan", sheet, "-o", "-")
    assert said.code == 0
    assert [row.digit for row in write.read_csv(io.StringIO(said.out))] == [9, 0, 4, 1, 5]
    said = digitize("scan", sheet, "-o", "-", "--format", "json", "--verbose")
    jsonschema.validate(json.loads(said.out), write.schema())
    assert left_over(tmp_path) == []


def test_a_sheet_comes_from_stdin(digitize: Digitize, sheet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(sheet.read_bytes())))
    said = digitize("scan", "-", "-o", "-")
    assert said.code == 0
    assert len(said.out.splitlines()) == 6


def test_format_overrides_the_suffix(digitize: Digitize, sheet: Path) -> None:
    assert digitize("scan", sheet, "-o", "out.txt", "--format", "jsonl").code == 0
    assert json.loads(Path("out.txt").read_text())["source"] == str(sheet)


def test_quiet_says_nothing_when_all_is_good(digitize: Digitize, sheet: Path) -> None:
    assert digitize("scan", sheet, "-o", "out.csv", "--quiet") == Said(0, "", "")


def test_a_profile_goes_to_stderr(digitize: Digitize, sheet: Path) -> None:
    said = digitize("scan", sheet, "-o", "-", "--quiet", "--profile")
    assert [row.digit for row in write.read_csv(io.StringIO(said.out))] == [9, 0, 4, 1, 5]
    first, *rows = said.err.splitlines()
    assert first.split() == ["stage", "ms", "a", "page", "share"]
    assert [row.split()[0] for row in rows][:3] == ["load", "clean", "detect"]
    assert rows[-1].split()[::2] == ["all", "100.0%"]


def test_no_progress_bar_where_stderr_is_no_terminal(digitize: Digitize, sheet: Path) -> None:
    Path("copy.png").write_bytes(sheet.read_bytes())
    said = digitize("scan", sheet, "copy.png", "-o", "out.csv")
    assert "\r" not in said.err
    assert "%|" not in said.err


# Exit codes


@pytest.mark.parametrize(
    "words",
    [
        ["scan"],
        ["scan", "sheet.png"],
        ["scan", "sheet.png", "-o", "out.xlsx"],
        ["scan", "sheet.png", "-o", "out.csv", "--pages", "0"],
        ["scan", "sheet.png", "-o", "out.csv", "--pages", "five"],
        ["scan", "sheet.png", "-o", "out.csv", "--dpi", "1"],
        ["scan", "sheet.png", "-o", "out.csv", "--batch-size", "0"],
        ["scan", "sheet.png", "-o", "out.csv", "--review-below", "1.5"],
        ["scan", "sheet.png", "-o", "out.csv", "--format", "xml"],
        ["scan", "sheet.png", "-o", "out.csv", "--no-such-option"],
        ["scan", "sheet.png", "-o", "out.csv", "--jobs", "0"],
        ["scan", "sheet.png", "-o", "out.csv", "--max-failures", "some"],
        ["scan", "sheet.png", "-o", "out.csv", "--on-error", "abort", "--max-failures", "3"],
        ["scan", "sheet.png", "-o", "out.csv", "--existing", "perhaps"],
        ["scan", "sheet.png", "-o", "out.csv", "--config", "none.toml"],
        ["watch"],
        ["watch", "model"],
        ["watch", "missing", "-o", "outbox"],
        ["watch", "model", "-o", "model/outbox"],
        ["watch", "--status", "model"],
        ["no-such-command"],
    ],
    ids=str,
)
@pytest.mark.usefixtures("sheet")
def test_2_usage(digitize: Digitize, tmp_path: Path, words: list[str]) -> None:
    said = digitize(*words)
    assert said.code == 2
    assert said.out == ""
    assert said.err.strip()
    assert left_over(tmp_path) == []


def truncated_jpeg() -> bytes:
    stream = io.BytesIO()
    Image.radial_gradient("L").save(stream, "JPEG")
    return stream.getvalue()[:600]


def encrypted_pdf() -> bytes:
    lock = "/Encrypt<</Filter/Standard/V 1/R 2/O<" + "00" * 32 + ">/U<" + "00" * 32 + ">/P -4>>/ID[<00><00>]"
    body = "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages /Count 1/Kids[3 0 R]>>endobj\n"
    return f"{body}3 0 obj<</Type/Page>>endobj\ntrailer<</Root 1 0 R {lock}>>\n%%EOF\n".encode("latin-1")


def pageless_pdf() -> bytes:
    stream = io.BytesIO()
    pypdfium2.PdfDocument.new().save(stream)
    return stream.getvalue()


BAD = {
    "missing.png": (None, "no such file"),
    "empty.png": (lambda: b"", "is empty"),
    "text.png": (lambda: b"dear reader,\n", "is text"),
    "cut.jpg": (truncated_jpeg, "is truncated"),
    "locked.pdf": (encrypted_pdf, "password"),
    "pageless.pdf": (pageless_pdf, "without pages"),
}


@pytest.mark.parametrize("name", BAD)
def test_3_a_bad_sheet_alone(digitize: Digitize, tmp_path: Path, name: str) -> None:
    content, reason = BAD[name]
    if content:
        Path(tmp_path / name).write_bytes(content())
    said = digitize("scan", name, "-o", "out.csv", "--quiet")
    assert said.code == 3
    (line,) = said.err.splitlines()
    assert name in line
    assert reason in line
    assert "; " in line, "what to do next"
    assert left_over(tmp_path) == ([name] if content else [])


@pytest.mark.parametrize("name", BAD)
def test_4_a_bad_sheet_among_good_ones(digitize: Digitize, sheet: Path, name: str) -> None:
    content, reason = BAD[name]
    if content:
        Path(name).write_bytes(content())
    Path("after.png").write_bytes(sheet.read_bytes())
    said = digitize("scan", sheet, name, "after.png", "-o", "out.json", "--quiet")
    assert said.code == 4
    assert reason in said.line(name)
    assert len(said.err.splitlines()) == 1
    found = json.loads(Path("out.json").read_text())
    jsonschema.validate(found, write.schema())
    assert [sheet["error"] is None for sheet in found["sheets"]] == [True, False, True]


@pytest.mark.usefixtures("sheet")
def test_3_a_folder_without_sheets(digitize: Digitize, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    said = digitize("scan", "folder", "-o", "out.csv", "--quiet")
    assert said.code == 3
    (line,) = said.err.splitlines()
    assert "no sheets in this folder" in line
    assert left_over(tmp_path) == ["folder"]


@pytest.mark.parametrize("form", ["csv", "json", "jsonl"])
def test_3_writes_nothing_on_stdout_either(digitize: Digitize, form: str) -> None:
    said = digitize("scan", "missing.png", "absent.png", "-o", "-", "--format", form, "--quiet")
    assert said.code == 3
    assert said.out == ""
    assert said.line("missing.png")
    assert said.line("absent.png")
    assert said.line("could not read any of the 2 sheets")


@pytest.mark.parametrize("target", ["missing/out.csv", "folder.csv", "sheet.png/out.csv"])
def test_5_an_output_that_cannot_be_written(digitize: Digitize, sheet: Path, tmp_path: Path, target: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    said = digitize("scan", sheet, "-o", target)
    assert said.code == 5
    assert said.line(target)
    assert left_over(tmp_path) == ["folder.csv"]
    assert left_over(tmp_path / "folder.csv") == []


def test_6_a_model_that_is_not_there(digitize: Digitize, sheet: Path, tmp_path: Path) -> None:
    said = digitize("scan", sheet, "-o", "out.csv", "--model", "nobody")
    assert said.code == 6
    assert said.line("no model nobody")
    assert left_over(tmp_path) == []


def test_6_a_model_that_disagrees_with_its_card(digitize: Digitize, sheet: Path, tmp_path: Path) -> None:
    (tmp_path / "model" / "model.tflite").write_bytes(b"another")
    said = digitize("scan", sheet, "-o", "out.csv")
    assert said.code == 6
    assert said.line("sha256")
    assert left_over(tmp_path) == []


@pytest.mark.parametrize(
    "words",
    [
        ["train", "-o", "out", "--data", "digits.npz"],
        ["train", "-o", "out", "--network", "scout", "--drills", "digits.npz", "--held", "digits.npz"],
        ["evaluate", "model", "--data", "digits.npz", "--report", "out"],
        ["models", "verify", "model", "--data", "digits.npz"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize(("content", "reason"), [(b"damaged", "digits.npz is no npz file"), (None, "is not there")])
def test_7_a_dataset_that_is_damaged_or_not_there(
    digitize: Digitize, tmp_path: Path, words: list[str], content: bytes | None, reason: str
) -> None:
    if content is not None:
        Path("digits.npz").write_bytes(content)
    said = digitize(*words)
    assert said.code == 7
    (line,) = said.err.splitlines()
    assert reason in line
    assert left_over(tmp_path) == (["digits.npz"] if content else [])


def test_8_a_device_that_is_not_there(digitize: Digitize, sheet: Path, tmp_path: Path) -> None:
    said = digitize("scan", sheet, "-o", "out.csv", "--device", "gpu:3")
    assert said.code == 8
    assert said.line("gpu:3")
    assert left_over(tmp_path) == []


def test_10_only_where_it_is_asked_for(digitize: Digitize, sheet: Path) -> None:
    doubting = ("scan", sheet, "-o", "out.csv", "--review-below", "1")
    assert digitize(*doubting).code == 0
    assert digitize(*doubting, "--fail-on-review").code == 10
    assert len(Path("out.csv").read_text().splitlines()) == 6, "the result is written all the same"
    assert digitize("scan", sheet, "-o", "out.csv", "--review-below", "0", "--fail-on-review").code == 0


def test_130_interrupted(digitize: Digitize, sheet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(StubModel, "probabilities", interrupt)
    said = digitize("scan", sheet, "-o", "out.csv", "--quiet")
    assert said.code == 130
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("words", [[], ["--quiet"], ["--verbose"]], ids=" ".join)
def test_1_a_bug(sheet: Path, words: list[str]) -> None:
    """Said in one line; where it is, only to those who ask."""
    out = sheet.with_name("out.csv")
    script = (
        "import sys\nfrom digitize import batch, cli\n"
        "def stumble(*_):\n    raise RuntimeError('a planted bug')\n"
        f"batch.run = stumble\nsys.argv = {['digitize', 'scan', str(sheet), '-o', str(out), *words]!r}\ncli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "RuntimeError: a planted bug" in done.stderr.splitlines()[-1]
    assert ("in stumble" in done.stderr) is ("--verbose" in words)
    assert done.stderr.count("\n") == 1 or "--verbose" in words
    assert not out.exists()


def test_a_bug_that_a_sheet_brings_up_is_that_sheets_failure(
    digitize: Digitize, sheet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(StubModel, "probabilities", stumble)
    said = digitize("scan", sheet, "-o", "out.csv")
    assert said.code == 3
    assert said.line("sheet.png: a bug came up in reading it (RuntimeError: a bug)")
    assert "in stumble" not in said.err
    assert not Path("out.csv").exists()
    assert "in stumble" in digitize("scan", sheet, "-o", "out.csv", "--verbose").err


def test_where_a_bug_happened_in_another_process_is_shown_to_those_who_ask(
    digitize: Digitize, sheet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("digitize.batch.Recipe", StubRecipe)
    Path("bug.png").write_bytes(sheet.read_bytes())
    words = ("scan", "bug.png", sheet.name, "-o", "out.csv", "--jobs", "2", "--detector", "none", "--model", "model")
    assert "in befallen" not in digitize(*words).err
    said = digitize(*words, "--verbose")
    assert said.code == 4
    assert said.err.count("in befallen") == 1


@pytest.mark.usefixtures("sheet")
@pytest.mark.parametrize("option", ["--review-below", "--max-error", "--sheet-timeout"])
def test_what_is_no_number_is_refused(digitize: Digitize, option: str) -> None:
    said = digitize("scan", "sheet.png", "-o", "out.json", option, "nan")
    assert said.code == 2
    assert said.line(option, "nan is no number")


@pytest.mark.usefixtures("sheet")
@pytest.mark.parametrize(("option", "why"), [("--pages", "is no page or range"), ("--audit", "is no share")])
def test_an_empty_choice_is_no_choice_of_everything(digitize: Digitize, option: str, why: str) -> None:
    said = digitize("scan", "sheet.png", "-o", "out.csv", "--review", "out.html", option, "")
    assert said.code == 2
    assert said.line(option, why)


def test_the_version_that_an_image_states_is_not_ours(
    digitize: Digitize, sheet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITIZE_VERSION", "1")
    assert digitize("scan", sheet, "-o", "out.csv").code == 0
    assert Path("out.csv").exists()


def test_a_name_is_said_as_it_is(digitize: Digitize) -> None:
    said = digitize("scan", "no  such.png", "-o", "out.csv")
    assert said.code == 3
    assert said.line("no  such.png")


def test_a_reader_that_has_stopped_is_no_bug() -> None:
    program = "import sys; from digitize import cli; sys.argv = ['digitize', 'models', 'list']; cli.main()"
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr.count("\n")) == (5, 1)
    assert "the program that reads it has stopped" in ended.stderr


# Many sheets, and a folder


@pytest.mark.usefixtures("sheet")
def test_a_scan_stops_where_it_is_told_to(digitize: Digitize) -> None:
    Path("empty.png").write_bytes(b"")
    words = ("scan", "sheet.png", "empty.png", "missing.png", "-o", "out.jsonl")
    said = digitize(*words, "--on-error", "abort", "--summary", "counts.json")
    assert said.code == 4
    assert said.line("stopped: 1 of 3 sheets failed, and no more than 0 may")
    assert [json.loads(line)["source"] for line in Path("out.jsonl").read_text().splitlines()] == [
        "sheet.png",
        "empty.png",
    ]
    counts = json.loads(Path("counts.json").read_text())
    assert (counts["sheets"], counts["failed"], counts["stopped"]) == (2, 1, True)
    assert digitize(*words, "--max-failures", "50%").code == 4
    assert len(Path("out.jsonl").read_text().splitlines()) == 3


def test_a_file_a_sheet_needs_no_output(digitize: Digitize, sheet: Path) -> None:
    assert digitize("scan", sheet.parent, "--per-sheet", "each").code == 0
    assert len(Path("each/sheet.png.csv").read_text().splitlines()) == 6
    said = digitize("scan", sheet.parent, "--per-sheet", "each", "--existing", "skip")
    assert said.code == 0
    assert "1 left out" in said.err
    assert digitize("scan", sheet.parent, "--per-sheet", "each", "--existing", "abort").code == 5


@pytest.mark.parametrize(
    ("counts", "once", "code"),
    [
        (watch.Counts(read=2, stopped_by=signal.SIGTERM), False, 0),
        (watch.Counts(read=2, failed=1, stopped_by=signal.SIGTERM), False, 0),
        (watch.Counts(read=2, stopped_by=signal.SIGINT), False, 130),
        (watch.Counts(read=2), True, 0),
        (watch.Counts(read=2, failed=1), True, 4),
        (watch.Counts(read=2, unlooked=True), True, 4),
    ],
    ids=str,
)
def test_how_a_watch_ends(
    digitize: Digitize, monkeypatch: pytest.MonkeyPatch, counts: watch.Counts, once: bool, code: int
) -> None:
    monkeypatch.setattr(watch, "watch", lambda _: counts)
    assert digitize("watch", "inbox", "-o", "outbox", *(["--once"] if once else [])).code == code


def test_a_watch_says_what_it_does_as_json(digitize: Digitize, sheet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("digitize.batch.Recipe", StubRecipe)
    Path("inbox").mkdir()
    sheet.rename("inbox/sheet.png")
    words = ("watch", "inbox", "-o", "outbox", "--once", "--settle", "0.05", "--jobs", "1", "--detector", "none")
    said = digitize(*words, "--model", "model", "--log-json")
    assert said.code == 0
    lines = [json.loads(line) for line in said.err.splitlines()]
    assert all(set(line) == {"time", "level", "message"} for line in lines)
    assert [line["message"] for line in lines if "sheet.png: read" in line["message"]]
    Path("inbox/bug.png").write_bytes(b"a sheet")
    said = digitize(*words, "--model", "model", "--log-json", "--verbose")
    assert [line for line in said.err.splitlines() if "in befallen" in json.loads(line)["message"]]
    said = digitize("watch", "--status", "outbox")
    assert said.code == 0
    assert "read: 1 sheets, 5 digits" in said.out


# Other commands


def test_version(digitize: Digitize) -> None:
    assert digitize("--version") == Said(0, f"digitize {__version__}\n", "")


@pytest.mark.parametrize("words", [["--help"], ["scan", "--help"], ["sheets", "--help"], ["sheets", "make", "--help"]])
def test_help(digitize: Digitize, words: list[str]) -> None:
    said = digitize(*words)
    assert said.code == 0
    assert "Usage" in said.out
    assert said.err == ""


def test_models_are_listed(digitize: Digitize) -> None:
    said = digitize("models")
    assert said.code == 0
    assert "article: 10 classes" in said.out


@pytest.mark.parametrize(
    "words", [["--version"], ["--help"], ["scan", "--help"], ["watch", "--help"], ["train", "--help"]], ids=" ".join
)
def test_help_and_version_import_nothing_heavy(words: list[str]) -> None:
    script = (
        "import sys\nfrom digitize.cli import app\n"
        f"app({words!r}, standalone_mode=False)\n"
        f"print(sorted(set(sys.modules) & set({HEAVY!r})))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stderr == ""


def test_the_module_is_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "digitize.cli", "scan", "sheet.png"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "--output" in done.stderr
    assert "Traceback" not in done.stderr


# Review


def test_review_goes_round(digitize: Digitize, sheet: Path, tmp_path: Path) -> None:
    """Scan, make, apply, apply again, export: with corrections as the page saves them."""
    assert digitize("scan", sheet.name, "-o", "out.csv", "--review", "scan.html", "--review-below", "1").code == 0
    said = digitize("review", "make", "out.csv", "-o", "made.html", "--audit", "50%")
    assert (said.code, said.err) == (0, "digitize: 5 of 5 digits to look at in made.html\n")
    assert Path("scan.html").stat().st_size > 10_000
    content = Path("out.csv").read_bytes()
    first = next(write.read_csv(io.StringIO(content.decode())))
    box = {side: getattr(first, side) for side in ("left", "top", "width", "height")}
    place = {"source": "sheet.png", "page": 1, "line": 1, "number": 1, "position": 1}
    corrections = {
        "schema": "digitize-corrections/1",
        "results": {"name": "out.csv", "sha256": hashlib.sha256(content).hexdigest(), "digits": 5},
        "decisions": [{**place, "box": box, "was": 9, "now": "7"}],
        "added": [],
    }
    Path("corrections.json").write_text(json.dumps(corrections))
    said = digitize("review", "apply", "out.csv", "corrections.json", "-o", "new.csv")
    assert (said.code, said.err) == (
        0,
        "digitize: 1 corrected, 0 confirmed, 0 added, 0 removed, 4 left to review\n",
    )
    with Path("new.csv").open(newline="") as stream:
        assert [row.digit for row in write.read_csv(stream)] == [7, 0, 4, 1, 5]
    again = digitize("review", "apply", "new.csv", "corrections.json", "-o", "-")
    assert again.out == Path("new.csv").read_text()
    assert "nothing changed" in again.err
    Path("other.csv").write_text(Path("out.csv").read_text().replace("9", "8"))
    refused = digitize("review", "apply", "other.csv", "corrections.json", "-o", "never.csv")
    assert refused.code == 2
    assert "belong to other results" in refused.line("other.csv")
    assert not Path("never.csv").exists()
    said = digitize("review", "export", "corrections.json", "-o", "tiles")
    assert (said.code, said.err) == (0, "digitize: 1 tiles in tiles\n")
    assert len(list(Path("tiles/7").glob("*.png"))) == 1


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["scan", "sheet.png", "-o", "out.csv", "--audit", "2%"], 2),
        (["scan", "sheet.png", "-o", "out.csv", "--review", "r.html", "--audit", "200%"], 2),
        (["scan", "sheet.png", "-o", "out.csv", "--check", "crc"], 2),
        (["scan", "sheet.png", "-o", "out.csv", "--range", "9-1"], 2),
        (["review", "make", "missing.csv", "-o", "r.html"], 2),
        (["review", "make", "gone.csv", "-o", "r.html"], 3),
        (["review", "make", "gone.csv", "-o", "r.html", "--sheets", "model"], 3),
        (["review", "apply", "gone.csv", "missing.json", "-o", "out.csv"], 2),
        (["review", "apply", "gone.csv", "sheet.png", "-o", "out.csv"], 2),
        (["review", "export", "missing.json", "-o", "tiles"], 2),
    ],
    ids=str,
)
def test_review_refuses_in_one_line(digitize: Digitize, sheet: Path, words: list[str], code: int) -> None:
    Path("gone.csv").write_text(",".join(write.COLUMNS) + "\ngone.png,1,1,1,1,7,0.5,1,0.4,review,1,1,9,9\n")
    said = digitize(*words)
    assert said.code == code
    assert len(said.err.splitlines()) == 1
    assert not Path("out.csv").exists()


@pytest.mark.parametrize(
    "words", [[], ["--help"], ["scan", "--help"], ["models", "--help"], ["models", "show", "--help"]]
)
def test_a_program_with_one_command_open_says_the_same_as_the_whole(words: list[str]) -> None:
    whole, opened = (CliRunner().invoke(one, words) for one in (cli.app, cli.program(words)))
    assert (opened.exit_code, opened.output) == (whole.exit_code, whole.output)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "--detector"),
        (("--detector", "none"), "--detector"),
        (("--detector", "scout", "--seed", 41), "--seed 41"),
    ],
)
def test_a_context_needs_a_detector_and_sheets_of_its_own(
    digitize: Digitize, words: tuple[object, ...], says: str
) -> None:
    said = digitize("calibrate", "model", "--context", 5, *words)
    assert said.code == 2
    assert says in said.err
