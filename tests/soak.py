"""A watch under blows, and what batches cost: `make soak` prints it all, on a quiet machine in under ten minutes.

    python tests/soak.py [--only PART] [--sheets N] [--kills N] [--hostile N|all] [--pages N] [--json FILE]

blows     small sheets arrive at random times, some in pieces with pauses, some renamed into place, some in folders that
          are moved in whole, while the watch is killed with SIGKILL at random moments and started again. At the end
          each sheet has to stand in all.csv and on one page of review exactly once and whole, with nothing half written
          beside it
disk      the disk is full for a while: nothing is lost, and it goes on
hostile   broken, odd and hostile files are dropped in at once among good sheets
latency   from a file's last byte to its rows
memory    over 20 and over many A4 sheets
speed     with 1 and 2 processes
gather    what filling batches across sheets gains on a CPU

Without --only it ends within ten minutes: what would not end by then is left out or cut short, and said to be.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import math
import os
import random
import resource
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from stub import Paper

from digitize import batch, sheets
from digitize.records import SheetReading

ROOT = Path(__file__).parent.parent
SETTLE = 0.4  # seconds
LONGEST_LIFE = 3.0  # seconds until a watch is killed, counted from when it watches
BUDGET = 590.0  # seconds for all; what would not fit is left out, and said to be
PIECE_PAUSES = (0.02, 0.1, 0.3, 1.0)  # seconds between the pieces of a file; the last is longer than it takes to settle
WAYS = ("whole", "pieces", "renamed", "folder")
FOLDER = 5  # sheets in a folder that is moved in
A4 = (3508, 2480)  # pixels at 300 dpi
HOSTILE = Path(os.environ.get("DIGITIZE_SHARED") or ROOT / ".." / "shared") / "data" / "hostile"
GOOD = 20  # sheets among the hostile files
LIGHT = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}

MOST_GROWTH = 1.1  # of memory from 20 sheets to many

Figures = dict[str, Any]


def digitize(*words: object) -> list[str]:
    """The command line of this checkout."""
    return [sys.executable, "-m", "digitize.cli", *map(str, words)]


def sheet(number: int, size: tuple[int, int] = (60, 190), lines: int = 1) -> bytes:
    """A PNG with a number on it, unlike every other."""
    paper = Paper(*size)
    for line in range(lines):
        paper.number(f"{number + line:04d}", 20 + 3 * (line % 7), 15 + 70 * line, height=30)
    stream = io.BytesIO()
    Image.fromarray(paper.gray()).save(stream, "PNG")
    return stream.getvalue()


# Blows


class Arrivals(threading.Thread):
    """Lets sheets arrive in an inbox, in every way that scanners and people have."""

    def __init__(self, inbox: Path, staging: Path, count: int, seconds: float) -> None:
        super().__init__(daemon=True)
        self._inbox, self._staging = inbox, staging
        self._count, self._pause = count, seconds / count
        self._random = random.Random(1)
        self.names: list[str] = []
        self.ways: Counter[str] = Counter()

    def run(self) -> None:
        number = 0
        began = time.monotonic()
        while number < self._count:
            way = self._random.choices(WAYS, (5, 3, 3, 1))[0]
            way = way if number + FOLDER <= self._count else "whole"
            some = FOLDER if way == "folder" else 1
            getattr(self, f"_{way}")(range(number, number + some))
            self.ways[way] += some
            number += some
            time.sleep(max(0.0, began + number * self._pause * self._random.uniform(0.8, 1.2) - time.monotonic()))

    def _path(self, number: int) -> Path:
        folder = self._inbox / f"day{number % 7}" if number % 3 else self._inbox
        folder.mkdir(exist_ok=True)
        path = folder / f"{number:04d}.png"
        self.names.append(path.relative_to(self._inbox).as_posix())
        return path

    def _whole(self, numbers: range) -> None:
        self._path(numbers[0]).write_bytes(sheet(numbers[0]))

    def _pieces(self, numbers: range) -> None:
        content = sheet(numbers[0])
        cuts = sorted(self._random.sample(range(1, len(content)), 2))
        path = self._path(numbers[0])
        pause = self._random.choice(PIECE_PAUSES)
        for first, last in zip([0, *cuts], [*cuts, len(content)], strict=True):
            with path.open("ab") as stream:  # closed and opened again between the pieces, as some scanners do
                stream.write(content[first:last])
            time.sleep(pause)

    def _renamed(self, numbers: range) -> None:
        path = self._path(numbers[0])
        part = path.with_name(path.name + ".part")
        part.write_bytes(sheet(numbers[0]))
        part.rename(path)

    def _folder(self, numbers: range) -> None:
        folder = self._staging / f"moved{numbers[0]}"
        (folder / "deep").mkdir(parents=True)
        for number in numbers:
            (folder / "deep" / f"{number:04d}.png").write_bytes(sheet(number))
            self.names.append(f"{folder.name}/deep/{number:04d}.png")
        folder.rename(self._inbox / folder.name)


def blows(count: int, kills: int, most: float) -> Figures:
    """Let sheets arrive while the watch is killed again and again, for so many seconds at most."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        inbox, outbox, staging = (Path(place, name) for name in ("inbox", "outbox", "staging"))
        for folder in (inbox, staging):
            folder.mkdir()
        arrivals = Arrivals(inbox, staging, count, seconds=2.2 * kills)
        arrivals.start()
        chance = random.Random(2)
        killed = 0
        while (killed < kills or arrivals.is_alive()) and time.monotonic() - began < most:
            watch = start(inbox, outbox, "--rescan", 5)
            if chance.random() < 0.85:  # mostly at work, sometimes while it starts
                wait_for(watch, "watching:")
                time.sleep(chance.uniform(0, LONGEST_LIFE))
            else:
                time.sleep(chance.uniform(0, 1.0))
            watch.kill()
            watch.communicate()
            killed += 1
        arrivals.join()
        last = start(inbox, outbox, "--once")
        _, told = last.communicate()
        astray = examine(outbox, arrivals.names)
        pages = len(list((outbox / "review").glob("[0-9]*.html")))
    figures = {"kills": killed, "sheets": len(arrivals.names), "arrived": dict(sorted(arrivals.ways.items()))}
    counts = {kind: len(names) for kind, names in astray.items()}
    good = not last.returncode and not any(counts.values()) and killed >= kills
    if not good:
        print(last.returncode, {kind: names[:5] for kind, names in astray.items()}, told[-2000:], sep="\n")
    return {**figures, **counts, "pages of review": pages, "seconds": time.monotonic() - began, "good": good}


def start(inbox: Path, outbox: Path, *words: object) -> subprocess.Popen[str]:
    """Start a watch to which every digit is doubtful."""
    usual = ("--settle", SETTLE, "--jobs", 1, "--review-below", 1)
    command = digitize("watch", inbox, "-o", outbox, *usual, *words)
    return subprocess.Popen(command, cwd=ROOT, env=LIGHT, stderr=subprocess.PIPE, text=True)


def wait_for(process: subprocess.Popen[str], words: str) -> str:
    """Wait until a process has said something on stderr; returns the line, empty where it is gone."""
    return next((line for line in process.stderr or () if words in line), "")


def examine(outbox: Path, names: list[str]) -> dict[str, list[str]]:
    """Hold an OUTBOX against the sheets that arrived: what is lost, what doubled, what torn, in rows or on pages."""
    with (outbox / "all.csv").open(newline="", encoding="utf-8") as stream:
        header, *rows = list(csv.reader(stream))
    blocks: list[tuple[str, list[list[str]]]] = []
    for row in rows:
        if not blocks or blocks[-1][0] != row[0]:
            blocks.append((row[0], []))
        blocks[-1][1].append(row)
    seen = Counter(name for name, _ in blocks)
    shown: Counter[str] = Counter()
    for part in (outbox / "review").glob("[0-9]*.json"):
        shown.update(sheet["source"] for sheet in json.loads(part.read_text("utf-8"))["sheets"])
    lost = [name for name in names if not seen[name] or not shown[name]]
    doubled = [name for name in seen if seen[name] > 1 or shown[name] > 1 or name not in set(names)]
    torn = [f"a row of {len(row)} cells" for row in rows if len(row) != len(header)]
    for name, block in blocks:
        with (outbox / "results" / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
            own = list(csv.reader(stream))
        if own != [header, *block]:
            torn.append(name)
    results = {path.relative_to(outbox / "results").as_posix() for path in (outbox / "results").rglob("*.csv")}
    torn += sorted(results ^ {f"{name}.csv" for name in seen})
    torn += [str(path) for path in outbox.rglob("*") if path.name.endswith((".part", ".tmp"))]
    torn += [str(path) for path in (outbox / ".digitize" / "new").iterdir()]
    torn += [str(path) for path in (outbox / "failed").rglob("*") if path.is_file()]
    pages, parts = ({path.stem for path in (outbox / "review").glob(f"[0-9]*.{kind}")} for kind in ("html", "json"))
    torn += sorted(pages ^ parts)
    with contextlib.closing(sqlite3.connect(outbox / ".digitize" / "journal.sqlite")) as base:
        if base.execute("PRAGMA integrity_check").fetchone() != ("ok",):
            torn.append("the journal")
        torn += [f"an open note: {row}" for row in base.execute("SELECT * FROM intent")]
        torn += [f"on no page: {row}" for row in base.execute("SELECT name FROM unseen")]
    return {"lost": lost, "doubled": doubled, "torn": torn}


# Faults


def disk() -> Figures:
    """Let files not grow for a while, as on a full disk, while sheets arrive."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        inbox, outbox = Path(place, "inbox"), Path(place, "outbox")
        inbox.mkdir()
        names = [f"{number}.png" for number in range(10)]
        for number, name in enumerate(names[:5]):
            (inbox / name).write_bytes(sheet(number))
        watch = start(inbox, outbox)
        wait_for(watch, "watching:")
        while len(list(outbox.rglob("results/*.csv"))) < 5:
            time.sleep(0.1)
        soft, hard = resource.prlimit(watch.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(watch.pid, resource.RLIMIT_FSIZE, ((outbox / "all.csv").stat().st_size + 20, hard))
        for number, name in enumerate(names[5:], 5):
            (inbox / name).write_bytes(sheet(number))
        said = wait_for(watch, "cannot be written")
        whole = len((outbox / "all.csv").read_text().splitlines())
        resource.prlimit(watch.pid, resource.RLIMIT_FSIZE, (soft, hard))
        again = wait_for(watch, "can be written again")
        while len(list(outbox.rglob("results/*.csv"))) < 10:
            time.sleep(0.1)
        watch.send_signal(signal.SIGTERM)
        watch.communicate()
        counts = {kind: len(found) for kind, found in examine(outbox, names).items()}
    good = bool(said and again and whole == 1 + 5 * 4 and not watch.returncode and not any(counts.values()))
    return {"said": said.strip(), "sheets": len(names), **counts, "seconds": time.monotonic() - began, "good": good}


def hostile(wanted: int | None) -> Figures:
    """Drop hostile files in at once among good sheets, so many of them, spread evenly, or all."""
    if not HOSTILE.is_dir():
        return {"left out": f"no hostile files at {HOSTILE}; set DIGITIZE_SHARED", "good": True}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        inbox, outbox = Path(place, "inbox"), Path(place, "outbox")
        inbox.mkdir()
        files = [path for path in sorted(HOSTILE.rglob("*")) if path.is_file() and not path.is_symlink()]
        files = [path for path in files if path.suffix.lower() in sheets.SUFFIXES and not path.name.startswith(".")]
        chosen = files if wanted is None else files[:: max(1, len(files) // wanted)]
        for number, path in enumerate(chosen):
            shutil.copyfile(path, inbox / f"{number:03d}-{path.name}")
        for number in range(GOOD):
            at = number * len(chosen) // GOOD
            (inbox / f"{at:03d}-{number}-good.png").write_bytes(sheet(number))
        command = digitize("watch", inbox, "-o", outbox, "--settle", SETTLE, "--jobs", 2, "--sheet-timeout", 60)
        watch = subprocess.Popen(command, cwd=ROOT, env=LIGHT, stderr=subprocess.PIPE, text=True)
        told: list[str] = []
        heard = threading.Thread(target=lambda: told.extend(watch.stderr or ()))
        heard.start()
        total, book = len(chosen) + GOOD, outbox / ".digitize" / "journal.sqlite"
        states: Counter[str] = Counter()
        while states.total() < total and watch.poll() is None:  # but for files that are to be tried again
            time.sleep(0.5)
            states = standing(book)
        watch.send_signal(signal.SIGTERM)
        watch.wait()
        heard.join()
        states = standing(book)  # what was in hand has been finished
        results = [path.name for path in (outbox / "results").rglob("*.csv")]
        good_read = sum("-good.png" in name for name in results)
        notes = [json.loads(path.read_text("utf-8")) for path in (outbox / "failed").rglob("*.json")]
        failed = len(notes)
        plain = all(note["error"].count("\n") == 0 for note in notes)
        left = [path for path in outbox.rglob("*") if path.name.endswith(".part")]
    killed = sum("a new one takes its place" in line or "the process that read it" in line for line in told)
    bugs = [note["error"] for note in notes if "a bug came up" in note["error"]]
    good = watch.returncode == 0 and good_read == GOOD and plain and not bugs and not left
    good = good and len(results) == states["read"] and failed == states["failed"] and states.total() == total
    if not good:
        print(watch.returncode, good_read, bugs[:3], left[:3], states, len(results), failed, sep="\n")
    figures = {"hostile files": len(chosen), "of": len(files), "good sheets read": f"{good_read} of {GOOD}"}
    outcome = {"read": len(results) - good_read, "failed": failed, "to be tried again": states["trouble"]}
    return {**figures, **outcome, "processes lost": killed, "seconds": time.monotonic() - began, "good": good}


def standing(book: Path) -> Counter[str]:
    """How many files a ledger holds as read, as failed, and as to be tried again."""
    if not book.exists():
        return Counter()
    with contextlib.closing(sqlite3.connect(f"file:{book}?mode=ro", uri=True, timeout=10)) as base:
        try:
            listed = dict(base.execute("SELECT IIF(state = 'read', 'read', 'failed'), COUNT(*) FROM files GROUP BY 1"))
            return Counter(listed | {"trouble": base.execute("SELECT COUNT(*) FROM troubles").fetchone()[0]})
        except sqlite3.OperationalError:  # its tables are still being made
            return Counter()


# Figures


def latency(count: int = 100, settle: float = 0.3) -> Figures:
    """How long after its last byte, less the time to settle, a sheet's rows stand in all.csv."""
    with tempfile.TemporaryDirectory() as place:
        inbox, outbox = Path(place, "inbox"), Path(place, "outbox")
        inbox.mkdir()
        command = digitize("watch", inbox, "-o", outbox, "--settle", settle, "--jobs", 1)
        watch = subprocess.Popen(command, cwd=ROOT, env=LIGHT, stderr=subprocess.PIPE, text=True)
        wait_for(watch, "watching:")
        time.sleep(2)  # until it has nothing left to do
        taken = []
        rows = outbox / "all.csv"
        for number in range(count):
            before = rows.stat().st_size if rows.exists() else 0
            (inbox / f"{number}.png").write_bytes(sheet(number))
            written = time.monotonic()
            while not rows.exists() or rows.stat().st_size == before:
                time.sleep(0.002)
            taken.append(time.monotonic() - written - settle)
        watch.send_signal(signal.SIGTERM)
        watch.communicate()
    high = statistics.quantiles(taken, n=20)[-1]
    figures = {"sheets": count, "median": statistics.median(taken), "95 of 100 within": high}
    return {**figures, "good": watch.returncode == 0}


@dataclass(frozen=True)
class Run:
    """What a scan took.

    Attributes:
        seconds: on the clock.
        mib: held by all its processes together, at most.
        highest: the most that each of them held, in MiB, added up.
    """

    seconds: float
    mib: float
    highest: float


def measure(command: list[str]) -> Run:
    """Run a scan, and look ten times a second at what memory it and its processes hold (Linux, proportional).

    How much they are seen to hold together depends on how often it is looked, how much each has held does not.
    """
    began = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, env=LIGHT, stderr=subprocess.PIPE)
    most, highest = 0, Counter[int]()
    while process.poll() is None:
        running = family(process.pid)
        most = max(most, sum(held(pid) for pid in running))
        highest |= Counter({pid: has_held(pid) for pid in running})
        time.sleep(0.1)
    said = process.stderr.read().decode() if process.stderr else ""
    if process.returncode:
        raise SystemExit(f"{command} ended in {process.returncode}: {said[-2000:]}")
    return Run(time.monotonic() - began, most / 1024, sum(highest.values()) / 1024)


def family(pid: int) -> list[int]:
    """A process and all below it."""
    below = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            below += [int(child) for child in task.read_text().split()]
    return [pid, *(one for child in below for one in family(child))]


def held(pid: int) -> int:
    """KiB that a process holds, what it shares counted by its share."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return 0


def has_held(pid: int) -> int:
    """KiB that a process held at most until now, what it shares counted whole."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return 0


def lay_out(folder: Path, count: int, lines: int) -> Path:
    """A folder of A4 sheets; links to a few different ones."""
    folder.mkdir()
    for number in range(count):
        kind = folder.parent / f"kind{number % 5}-{lines}.png"
        if not kind.exists():
            kind.write_bytes(sheet(number, A4, lines))
        os.link(kind, folder / f"{number:05d}.png")
    return folder


def memory(count: int) -> Figures:
    """The peak memory over 20 and over many A4 sheets."""
    with tempfile.TemporaryDirectory() as place:
        runs = []
        for some in (20, count):
            folder = lay_out(Path(place, f"a4-{some}"), some, lines=3)
            runs.append(measure(digitize("scan", folder, "-o", Path(place, "out.csv"), "--jobs", 2, "--quiet")))
    figures: Figures = {}
    for some, run in zip((20, count), runs, strict=True):
        figures |= {f"MiB over {some}": run.mib, f"each's most over {some}, added up": run.highest}
    figures["ratio"] = runs[1].highest / runs[0].highest
    return {**figures, "seconds": sum(run.seconds for run in runs), "good": figures["ratio"] <= MOST_GROWTH}


def speed(count: int = 12, runs: int = 2) -> Figures:
    """A4 sheets of 40 numbers a second with 1 and 2 processes, start-up included, taken in turns."""
    with tempfile.TemporaryDirectory() as place:
        folder = lay_out(Path(place, "a4"), count, lines=40)
        taken: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(runs):
            for jobs, seconds in taken.items():
                command = digitize("scan", folder, "-o", Path(place, "out.csv"), "--jobs", jobs, "--quiet")
                seconds.append(measure(command).seconds)
    rates = {jobs: count / statistics.median(seconds) for jobs, seconds in taken.items()}
    figures = {"with 1 job": rates[1], "with 2 jobs": rates[2], "ratio": rates[2] / rates[1]}
    return {**figures, "cores": os.cpu_count(), "load": os.getloadavg()[0], "good": True}


def gather(count: int = 20, runs: int = 3) -> Figures:
    """Sheets a second of processor time in one thread: each by itself, as processes read, and many in one batch."""
    with tempfile.TemporaryDirectory() as place:
        for number in range(count):
            Path(place, f"{number:03d}.png").write_bytes(sheet(number, (200, 700), 2))
        found = sheets.find([place])
        reader = batch.Recipe(device="cpu", threads=1)()
        ways: dict[str, Callable[[], list[SheetReading]]] = {
            "each by itself": lambda: [reader.read(one) for one in found],
            "in one batch": lambda: list(reader.read_all(found)),
        }
        taken: dict[str, list[float]] = {way: [] for way in ways}
        same = all(one == ways["each by itself"]() for one in [ways["in one batch"]()])
        for _ in range(runs):
            for way, read in ways.items():
                began = time.process_time()
                read()
                taken[way].append(time.process_time() - began)
    rates = {way: count / statistics.median(seconds) for way, seconds in taken.items()}
    return {**rates, "ratio": rates["in one batch"] / rates["each by itself"], "good": same}


def render(name: str, figures: Figures) -> str:
    """The figures of a part on one line."""
    plain = {key: f"{value:.3g}" if isinstance(value, float) else value for key, value in figures.items()}
    return f"{name}: " + ", ".join(f"{key} {value}" for key, value in plain.items())


class OutOfTimeError(Exception):
    """The time for all parts is over."""


def out_of_time(*_: object) -> None:
    """Say so wherever the program is; for a signal."""
    raise OutOfTimeError


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("blows", "disk", "hostile", "latency", "memory", "speed", "gather"))
    parser.add_argument("--sheets", type=int, default=1000, help="that arrive")
    parser.add_argument("--kills", type=int, default=50, help="at least")
    parser.add_argument("--hostile", default="60", help="files that are dropped in, or all")
    parser.add_argument("--pages", type=int, default=100, help="A4 sheets to measure memory over")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    asked = parser.parse_args()
    files = None if asked.hostile == "all" else int(asked.hostile)
    parts: dict[str, tuple[Callable[[], Figures], float]] = {  # with the seconds that each takes on a quiet machine
        "blows": (lambda: blows(asked.sheets, asked.kills, BUDGET / 2 if asked.only is None else math.inf), 200),
        "disk": (disk, 15),
        "hostile": (lambda: hostile(files), 60),
        "latency": (latency, 60),
        "memory": (lambda: memory(asked.pages), 60),
        "speed": (speed, 60),
        "gather": (gather, 30),
    }
    began = time.monotonic()
    figures: dict[str, Figures] = {}
    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(int(BUDGET) if asked.only is None else 0)
    for name, (part, seconds) in parts.items():
        if asked.only is None and time.monotonic() - began + seconds > BUDGET:
            late = f"it would not end within {BUDGET:g} s here; ask for it with --only {name}"
            figures[name] = {"left out": late, "good": True}
        elif asked.only in (None, name):
            try:
                figures[name] = part()
            except OutOfTimeError:
                figures[name] = {"cut short": f"{BUDGET:g} s for all are over", "good": False}
                for pid in family(os.getpid())[1:]:
                    os.kill(pid, signal.SIGKILL)
        else:
            continue
        print(render(name, figures[name]), flush=True)
        if asked.json:
            asked.json.parent.mkdir(parents=True, exist_ok=True)
            asked.json.write_text(json.dumps(figures, indent=1) + "\n")
    print(f"all in {time.monotonic() - began:.0f} s")
    if not all(part["good"] for part in figures.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
