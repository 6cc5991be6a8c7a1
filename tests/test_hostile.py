"""Broken, odd and hostile files: each gives pages or one `SheetError`, in bounded time and memory, and in silence."""

from __future__ import annotations

import os
import re
import resource
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from digitize import batch
from digitize.errors import SheetError
from digitize.scan import Scanner, Settings
from digitize.sheets import PageRange, find, load, sha256

SHARED = Path(os.environ.get("DIGITIZE_SHARED") or Path(__file__).resolve().parents[1] / ".." / "shared")
HOSTILE = SHARED / "data" / "hostile"
DPI = 100  # of the PDFs, to be quick; how large a page may become is held in test_sheets
MAX_SECONDS = 20.0
MAX_MIB = 1500
WHOLE_EVERY, WHOLE_PARTS = 24, 4

pytestmark = pytest.mark.skipif(not HOSTILE.is_dir(), reason=f"no hostile files at {HOSTILE}: set DIGITIZE_SHARED")


@dataclass
class Survey:
    """What became of every file."""

    read: list[Path] = field(default_factory=list)
    refused: dict[Path, str] = field(default_factory=dict)
    astray: dict[Path, str] = field(default_factory=dict)
    seconds: dict[Path, float] = field(default_factory=dict)
    odd_pages: list[Path] = field(default_factory=list)
    peak_mib: int = 0
    stderr: str = ""


def _peak_mib() -> int:
    """The process's peak memory, on Linux since it was last cleared."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) >> 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


@pytest.fixture(scope="module")
def scanner() -> Scanner:
    return batch.load_scanner(None, "cpu", Settings())


@pytest.fixture(scope="module")
def survey() -> Survey:
    found = Survey()
    clear = Path("/proc/self/clear_refs")
    if clear.exists():  # what other tests of this process needed is not this survey's
        clear.write_text("5")
    before = _peak_mib()
    keep, pipe = os.dup(2), os.memfd_create("stderr")
    os.dup2(pipe, 2)  # decoders are C libraries: what they say does not pass through sys.stderr
    try:
        for path in sorted(path for path in HOSTILE.rglob("*") if path.is_file()):
            start = time.perf_counter()
            try:
                for page in load(path, source=path.name, dpi=DPI):
                    if page.gray.dtype != np.uint8 or page.gray.ndim != 2 or not page.gray.size:
                        found.odd_pages.append(path)
                found.read.append(path)
            except SheetError as error:
                found.refused[path] = str(error)
            except Exception as error:  # noqa: BLE001 - to be reported with the others, by the test that forbids it
                found.astray[path] = repr(error)
            found.seconds[path] = time.perf_counter() - start
        found.peak_mib = _peak_mib() - before
    finally:
        os.dup2(keep, 2)
        os.close(keep)
        os.lseek(pipe, 0, os.SEEK_SET)
        found.stderr = os.read(pipe, 10_000).decode(errors="replace")
        os.close(pipe)
    return found


def test_nothing_but_pages_or_a_sheet_error_comes_out(survey: Survey) -> None:
    assert not survey.astray
    assert not survey.odd_pages
    assert len(survey.read) > len(survey.refused) > 0


def test_every_refusal_is_one_line_that_names_the_file_and_what_to_do(survey: Survey) -> None:
    for path, message in survey.refused.items():
        assert re.fullmatch(re.escape(str(path)) + r"(, page \d+)?: [^\n]+; [^\n]+", message), message


def test_time_and_memory_stay_bounded(survey: Survey) -> None:
    slowest = max(survey.seconds, key=lambda path: survey.seconds[path])
    assert survey.seconds[slowest] < MAX_SECONDS, slowest
    assert survey.peak_mib < MAX_MIB


def test_decoders_say_nothing(survey: Survey) -> None:
    assert survey.stderr == ""


def test_hashes_are_had_of_broken_files_too(survey: Survey) -> None:
    assert {len(sha256(path)) for path in survey.refused} == {64}


@pytest.mark.parametrize("part", range(WHOLE_PARTS))
def test_the_whole_road_takes_whatever_comes(part: int, scanner: Scanner) -> None:
    """One file in `WHOLE_EVERY`, read to the end, first page only; `make hostile` takes all of them whole."""
    paths = sorted(path for path in HOSTILE.rglob("*") if path.is_file())[::WHOLE_EVERY][part::WHOLE_PARTS]
    for path in paths:
        start = time.perf_counter()
        (sheet,) = scanner.read_sheets(find([str(path)]), pages=PageRange(((1, 1),)), dpi=DPI)
        assert sheet.error is None or re.match(re.escape(str(path)) + r"(, page \d+)?: [^\n]+; [^\n]+", sheet.error)
        assert time.perf_counter() - start < MAX_SECONDS, path
