"""A watch under blows, and what batches cost: `make soak` prints it all in under ten minutes.

    python tests/soak.py [--only blows|latency|memory|speed] [--sheets N] [--kills N] [--pages N]

Blows: small sheets arrive at random times, some in pieces with pauses, some renamed into place, some in folders that
are moved in whole, while the watch is killed with SIGKILL at random moments and started again. At the end each sheet
has to stand in all.csv exactly once and whole, with nothing half written beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import os
import random
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

from PIL import Image
from stub import Paper

ROOT = Path(__file__).parent.parent
SETTLE = 0.4  # seconds
LONGEST_LIFE = 3.0  # seconds until a watch is killed, counted from when it watches
MOST_SECONDS = 330.0  # for the blows; the watch is given more to come to its end
BUDGET = 590.0  # seconds for all; what would not fit is left out, and said to be
PIECE_PAUSES = (0.02, 0.1, 0.3, 1.0)  # seconds between the pieces of a file; the last is longer than it takes to settle
WAYS = ("whole", "pieces", "renamed", "folder")
FOLDER = 5  # sheets in a folder that is moved in
A4 = (3508, 2480)  # pixels at 300 dpi
LIGHT = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}


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
        super().__init__()
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


def blows(count: int, kills: int) -> bool:
    """Let sheets arrive while the watch is killed again and again; returns whether nothing went astray."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        inbox, outbox, staging = (Path(place, name) for name in ("inbox", "outbox", "staging"))
        for folder in (inbox, staging):
            folder.mkdir()
        arrivals = Arrivals(inbox, staging, count, seconds=2.2 * kills)
        arrivals.start()
        chance = random.Random(2)
        killed, told = 0, []
        while (killed < kills or arrivals.is_alive()) and time.monotonic() - began < MOST_SECONDS:
            command = digitize("watch", inbox, "-o", outbox, "--settle", SETTLE, "--rescan", 5, "--jobs", 1)
            watch = subprocess.Popen(command, cwd=ROOT, env=LIGHT, stderr=subprocess.PIPE, text=True)
            if chance.random() < 0.85:  # mostly at work, sometimes while it starts
                wait_for(watch, "watching:")
                time.sleep(chance.uniform(0, LONGEST_LIFE))
            else:
                time.sleep(chance.uniform(0, 1.0))
            watch.kill()
            told.append(watch.communicate()[1])
            killed += 1
        arrivals.join()
        command = digitize("watch", inbox, "-o", outbox, "--settle", SETTLE, "--once", "--jobs", 1)
        last = subprocess.run(command, cwd=ROOT, env=LIGHT, stderr=subprocess.PIPE, text=True, timeout=300, check=False)
        lost, doubled, torn = examine(outbox, arrivals.names)
        if last.returncode or lost or doubled or torn:
            print(last.returncode, lost[:5], doubled[:5], torn[:5], last.stderr[-2000:], sep="\n")
    ways = ", ".join(f"{number} {way}" for way, number in sorted(arrivals.ways.items()))
    print(f"{killed} kills, {len(arrivals.names)} sheets ({ways}), {time.monotonic() - began:.0f} s")
    print(f"{len(lost)} lost, {len(doubled)} doubled, {len(torn)} torn")
    return not (last.returncode or lost or doubled or torn)


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    """Wait until a process has said something on stderr, or is gone."""
    for line in process.stderr or ():
        if words in line:
            return


def examine(outbox: Path, names: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Hold an OUTBOX against the sheets that arrived; returns what is lost, what doubled, what torn."""
    with (outbox / "all.csv").open(newline="", encoding="utf-8") as stream:
        header, *rows = list(csv.reader(stream))
    blocks: list[tuple[str, list[list[str]]]] = []
    for row in rows:
        if not blocks or blocks[-1][0] != row[0]:
            blocks.append((row[0], []))
        blocks[-1][1].append(row)
    seen = Counter(name for name, _ in blocks)
    lost = [name for name in names if not seen[name]]
    doubled = [name for name in seen if seen[name] > 1 or name not in set(names)]
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
    with contextlib.closing(sqlite3.connect(outbox / ".digitize" / "journal.sqlite")) as base:
        if base.execute("PRAGMA integrity_check").fetchone() != ("ok",):
            torn.append("the journal")
        torn += [f"an open note: {row}" for row in base.execute("SELECT * FROM intent")]
    return lost, doubled, torn


# Figures


def latency(count: int = 100, settle: float = 0.3) -> None:
    """Print how long after its last byte, less the time to settle, a sheet's rows stand in all.csv."""
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
    print(f"latency of {count} sheets, less {settle} s to settle: median {statistics.median(taken):.3f} s, ", end="")
    print(f"95th of 100 {high:.3f} s; the watch ended with {watch.returncode}")


@dataclass(frozen=True)
class Run:
    """What a scan took."""

    seconds: float
    mib: float


def measure(command: list[str]) -> Run:
    """Run a scan, and look ten times a second at what memory it and its processes hold (Linux, proportional)."""
    began = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, env=LIGHT, stderr=subprocess.PIPE)
    most = 0
    while process.poll() is None:
        most = max(most, sum(held(pid) for pid in family(process.pid)))
        time.sleep(0.1)
    said = process.stderr.read().decode() if process.stderr else ""
    if process.returncode:
        raise SystemExit(f"{command} ended in {process.returncode}: {said[-2000:]}")
    return Run(time.monotonic() - began, most / 1024)


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


def lay_out(folder: Path, count: int, lines: int) -> Path:
    """A folder of A4 sheets; links to a few different ones."""
    folder.mkdir()
    for number in range(count):
        kind = folder.parent / f"kind{number % 5}-{lines}.png"
        if not kind.exists():
            kind.write_bytes(sheet(number, A4, lines))
        os.link(kind, folder / f"{number:05d}.png")
    return folder


def memory(count: int) -> None:
    """Print the peak memory over 20 and over many A4 sheets."""
    with tempfile.TemporaryDirectory() as place:
        runs = []
        for some in (20, count):
            folder = lay_out(Path(place, f"a4-{some}"), some, lines=3)
            runs.append(measure(digitize("scan", folder, "-o", Path(place, "out.csv"), "--jobs", 2, "--quiet")))
    print(
        f"peak memory with 2 jobs over 20 A4 sheets {runs[0].mib:.0f} MiB, over {count} {runs[1].mib:.0f} MiB: ",
        end="",
    )
    print(f"ratio {runs[1].mib / runs[0].mib:.3f} ({runs[1].seconds:.0f} s)")


def speed(count: int = 12, runs: int = 2) -> None:
    """Print sheets a second with 1 and 2 processes, taken in turns."""
    with tempfile.TemporaryDirectory() as place:
        folder = lay_out(Path(place, "a4"), count, lines=40)
        taken: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(runs):
            for jobs, seconds in taken.items():
                command = digitize("scan", folder, "-o", Path(place, "out.csv"), "--jobs", jobs, "--quiet")
                seconds.append(measure(command).seconds)
    rates = {jobs: count / statistics.median(seconds) for jobs, seconds in taken.items()}
    print(f"A4 sheets a second, start-up included: {rates[1]:.2f} with 1 job, {rates[2]:.2f} with 2 ", end="")
    print(f"({rates[2] / rates[1]:.2f} x; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f})")


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("blows", "latency", "memory", "speed"))
    parser.add_argument("--sheets", type=int, default=1000, help="that arrive")
    parser.add_argument("--kills", type=int, default=50, help="at least")
    parser.add_argument("--pages", type=int, default=100, help="A4 sheets to measure memory over")
    asked = parser.parse_args()
    parts: dict[str, tuple[Callable[[], object], float]] = {  # with the seconds that each takes on a busy machine
        "blows": (lambda: blows(asked.sheets, asked.kills), 400),
        "latency": (latency, 90),
        "memory": (lambda: memory(asked.pages), 120),
        "speed": (speed, 90),
    }
    began, good = time.monotonic(), True
    for name, (part, seconds) in parts.items():
        if asked.only is None and time.monotonic() - began + seconds > BUDGET:
            print(f"{name} is left out, since it would not end within {BUDGET:g} s; ask for it with --only {name}")
        elif asked.only in (None, name):
            good = part() is not False and good
    if not good:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
