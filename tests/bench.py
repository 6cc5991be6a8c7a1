"""Start-up, speed and memory, as ratios of medians taken in one run; `make bench`, ten minutes on two quiet cores.

    python tests/bench.py [--only PART ...] [--runs N] [--pages N] [--many N] [--json FILE]

What is compared takes turns, so that a noisy machine disturbs both sides alike. A ratio is what can be held against
another machine; the seconds beside it cannot. The pages are made (`bench_pages.py`), the sides run in fresh processes
(`bench_sides.py`). What is missing for a row leaves it empty, with the reason.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import bench_pages
import numpy as np
from soak import measure

from digitize.machine import gpu_seen

ROOT = Path(__file__).parent.parent
SIDES = Path(__file__).with_name("bench_sides.py")
INSTALLED = Path(sys.executable).parent / "digitize"
RUN_CHECKOUT = "from digitize.cli import main; main()"

FEW = 20  # pages whose peak memory the many are held against
SIZES = (10, 100, 300, 1000, 2500, 5000)  # digits on a page
STRAIGHT_UP_TO = 1000  # digits: the line that larger pages are held against goes through those up to here
ON_BASELINE_PAGE = 100  # digits
RAPIDOCR = "pip install --no-deps rapidocr-onnxruntime onnxruntime pyclipper shapely pyyaml six"  # beside our OpenCV


@dataclass(frozen=True)
class Row:
    """One figure of the table.

    Attributes:
        figure, against: what was measured, and what it was divided by; "" where it stands by itself.
        value: None where it could not be taken.
        asked, aim: what it has to reach, and what it is meant to; "" where nothing is asked.
        unit: behind the value.
        note: beside it.
    """

    figure: str
    against: str
    value: float | None
    asked: str = ""
    aim: str = ""
    unit: str = ""
    note: str = ""

    def __str__(self) -> str:
        value = "–" if self.value is None else f"{self.value:,.{0 if self.value >= 100 else 3}f}{self.unit}"
        cells = (self.figure, self.against, value + (f" ({self.note})" if self.note else ""), self.asked, self.aim)
        return "| " + " | ".join(cells) + " |"


HEAD = "| figure | against | measured | at least | aim |\n|---|---|---|---|---|"


@dataclass(frozen=True)
class Bench:
    """How much is measured, and where what is read lies.

    Attributes:
        scratch: a folder for it.
        runs: how often each side is counted, after one turn for warming up; the median stands.
        pages: of a batch.
        many: pages whose peak memory is looked at.
    """

    scratch: Path
    runs: int
    pages: int
    many: int

    def alternate(self, commands: Mapping[str, Sequence[str]], *, printed: bool = False) -> dict[str, float]:
        """Run all commands in turn; the median of each.

        Args:
            commands: by name.
            printed: take the number that a command prints instead of its wall time.
        """
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(self.runs + 1):
            for name, command in commands.items():
                seconds, output = run(command)
                if turn:
                    taken[name].append(float(output) if printed else seconds)
        medians = {name: statistics.median(values) for name, values in taken.items()}
        for name, value in medians.items():
            print(f"  {name:<44} {value:12.3f} {'' if printed else 's'}", flush=True)
        return medians


def digitize(*arguments: str) -> list[str]:
    """The command line: as installed beside this Python, or out of the checkout where it is not."""
    return [str(INSTALLED), *arguments] if INSTALLED.exists() else [sys.executable, "-c", RUN_CHECKOUT, *arguments]


def python(code: str) -> list[str]:
    """A fresh Python that runs `code`."""
    return [sys.executable, "-c", code]


def side(name: str, *words: object) -> list[str]:
    """A fresh Python that runs one of `bench_sides.SIDES`."""
    return [sys.executable, str(SIDES), name, *map(str, words)]


def run(command: Sequence[str], *, gpu: bool = False) -> tuple[float, str]:
    """Run a command that must succeed; returns its wall time in seconds and what it printed last."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    # Installed packages are compiled; a checkout that may not keep its compiled files would be compiled at every start.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    if not gpu:
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
    began = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, env=environment)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(command)!r} ended in {done.returncode}:\n{done.stderr[-2000:]}")
    return seconds, done.stdout.rpartition("\n")[0].rpartition("\n")[2]


def startup(bench: Bench) -> list[Row]:
    """What a fresh process costs."""
    target = str(bench.scratch / "page.csv")
    options = ("-o", target, "--device", "cpu", "--quiet")
    took = bench.alternate(
        {
            "scan": digitize("scan", str(bench_pages.SAMPLE), *options),
            "import tensorflow": python("import tensorflow"),
            "--help": digitize("--help"),
            "--version": digitize("--version"),
            "import typer": python("import typer"),
        }
    )
    scan = took["scan"] / took["import tensorflow"]
    return [
        Row("a fresh process, one A4 page of 500 digits to CSV", "`import tensorflow`", scan, "≤ 0.25", "≤ 0.15"),
        *(
            Row(f"`digitize {option}`", "`import typer`", took[option] / took["import typer"], "≤ 1.3", "≤ 1.1")
            for option in ("--help", "--version")
        ),
    ]


def classifier(bench: Bench) -> list[Row]:
    """Digits a second on a CPU, against Keras' `predict` of `article`."""
    commands = {"Keras predict, article": side("predict")}
    for card in sorted(ROOT.glob("models/*/card.json")):
        if json.loads(card.read_text(encoding="utf-8")).get("task") != "detect":
            commands[card.parent.name] = side("classify", card.parent)
    rates = bench.alternate(commands, printed=True)
    base = rates.pop("Keras predict, article")
    return [
        Row(
            f"digits a second, `{name}`, 2 CPU threads",
            "Keras `predict` of `article`, batch 1,024",
            rate / base,
            *(("≥ 4", "≥ 10") if name != "article" else ()),
            note=f"{rate:,.0f} a second",
        )
        for name, rate in rates.items()
    ]


def pages(bench: Bench) -> list[Row]:
    """Pages a second with two warm processes, against decoding or rendering them and nothing else."""
    rows = []
    for form, other, words, asked in (
        ("png", "decode", "decoding them with `cv2.imread`", "≥ 0.35"),
        ("jpg", "decode", "decoding them with `cv2.imread`", "≥ 0.3"),
        ("pdf", "render", "rendering them with pypdfium2", "≥ 0.3"),
    ):
        folder = bench_pages.lay_out(bench.scratch / f"pages-{form}", bench.pages, form)
        names = f"scan, {form}", f"{other}, {form}"
        rates = bench.alternate({names[0]: side("scan", folder), names[1]: side(other, folder)}, printed=True)
        figure = f"pages a second, {bench.pages} A4 pages of 250 digits, {form.upper()}, 2 jobs, warm"
        note = f"{rates[names[0]]:.1f} a second"
        rows.append(Row(figure, words, rates[names[0]] / rates[names[1]], asked, "≥ 0.6", note=note))
    return rows


def memory(bench: Bench) -> list[Row]:
    """Peak memory of all processes together over few and over many pages, with 2 jobs (Linux)."""
    if not Path("/proc/self/smaps_rollup").exists():
        why = "the memory of processes is looked up as Linux keeps it"
        return [Row(f"peak memory of {bench.many:,} pages", f"of {FEW} pages", None, "≤ 1.1", "≤ 1.02", note=why)]
    folders = {
        count: bench_pages.lay_out(bench.scratch / f"memory-{count}", count, "png", on_page=50)
        for count in (FEW, bench.many)
    }
    peaks: dict[int, list[float]] = {count: [] for count in folders}
    for _ in range(bench.runs):
        for count, folder in folders.items():
            target = bench.scratch / "memory.csv"
            command = digitize("scan", str(folder), "-o", str(target), "--jobs", "2", "--device", "cpu", "--quiet")
            peaks[count].append(measure(command).mib)
    few, most = (statistics.median(found) for found in peaks.values())
    print(f"  {FEW} pages {few:.0f} MiB, {bench.many} pages {most:.0f} MiB", flush=True)
    return [
        Row(f"peak memory of {bench.many:,} pages, 2 jobs", f"of {FEW} pages", most / few, "≤ 1.1", "≤ 1.02"),
        Row("the same, all processes together", "", most * 2**20 / 1e6, "≤ 700 MB", "≤ 400 MB", " MB"),
    ]


def shape(bench: Bench) -> list[Row]:
    """What a page costs by the digits on it, and what the worst page does; seconds of CPU on one thread."""
    files = [bench_pages.save(bench_pages.full_of(n), bench.scratch / f"digits-{n}.png") for n in SIZES]
    files.append(bench_pages.save(bench_pages.noise(), bench.scratch / "noise.png"))
    taken = [json.loads(run(side("read", *files))[1]) for _ in range(bench.runs)]
    cpu = np.median([[one["cpu"] for one in turn] for turn in taken], axis=0)
    noise = statistics.median(turn[-1]["cpu"] for turn in taken)
    peak = statistics.median(turn[-1]["mib"] for turn in taken)
    for count, seconds in zip(SIZES, cpu, strict=False):
        print(f"  {count:>5} digits {seconds:8.3f} s of CPU", flush=True)
    straight = [k for k, count in enumerate(SIZES) if count <= STRAIGHT_UP_TO]
    slope, base = np.polyfit([SIZES[k] for k in straight], cpu[straight], 1)
    line = float(cpu[len(SIZES) - 1] / (base + slope * SIZES[-1]))
    figure = f"a page of {SIZES[-1]:,} digits"
    return [
        Row(figure, f"the line through pages of {SIZES[0]} to {STRAIGHT_UP_TO:,}", line, "≤ 1.1"),
        Row("a page of 20,000 pieces of noise, CPU on one thread", "", noise, "≤ 10 s", unit=" s"),
        Row("peak memory of the process that read it", "", peak * 2**20 / 1e6, unit=" MB"),
    ]


def baselines(bench: Bench) -> list[Row]:
    """The same page read by others."""
    file = bench_pages.save(bench_pages.lines_of(ON_BASELINE_PAGE, 1), bench.scratch / "baseline.png")
    commands = {"digitize": side("page", file), "tutorial": side("tutorial", file)}
    if importlib.util.find_spec("rapidocr_onnxruntime"):
        commands["RapidOCR"] = side("rapidocr", file)
    took = bench.alternate(commands, printed=True)
    figure = f"one warm A4 page of {ON_BASELINE_PAGE} digits"
    rows = []
    for name, words, missing in (
        ("tutorial", "the tutorials' way: Otsu, contours, a `predict` of `article` for each digit", ""),
        ("RapidOCR", "RapidOCR", RAPIDOCR),
    ):
        there = name in took
        note = f"{took[name]:.1f} s against {took['digitize']:.2f} s" if there else f"not installed: {missing}"
        rows.append(Row(figure, words, took["digitize"] / took[name] if there else None, note=note))
    return rows


def gpu(bench: Bench) -> list[Row]:
    """Tiles a second on a GPU."""
    figure, against = "tiles a second through the classifier on a GPU", ""
    if not gpu_seen():
        return [Row(figure, against, None, aim="≥ 1,000,000", note="no GPU at hand")]
    answers: list[dict[str, Any]] = [json.loads(run(side("on_gpu"), gpu=True)[1]) for _ in range(bench.runs)]
    rate = statistics.median(answer["rate"] for answer in answers)
    note = f"{answers[0]['where']}, batch {answers[0]['batch']}"
    return [Row(figure, against, rate, aim="≥ 1,000,000", note=note)]


PARTS: dict[str, Callable[[Bench], list[Row]]] = {
    part.__name__: part for part in (startup, classifier, pages, memory, shape, baselines, gpu)
}


def machine(bench: Bench) -> dict[str, Any]:
    """What was measured on, when, and how much of it."""
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "tensorflow", "ai-edge-litert")}
    with_load = {"load": round(os.getloadavg()[0], 1)} if hasattr(os, "getloadavg") else {}
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **versions,
        "runs": bench.runs,
        "pages": bench.pages,
        "many": bench.many,
        **with_load,
    }


def processor() -> str:
    """The processor's name, as far as the platform tells it."""
    names = Path("/proc/cpuinfo")
    lines = names.read_text(encoding="utf-8").splitlines() if names.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def main() -> None:
    """Measure, print, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS), help="these parts")
    parser.add_argument("--runs", type=int, default=5, help="how often each side is counted; the median stands")
    parser.add_argument("--pages", type=int, default=24, help="A4 pages of a batch")
    parser.add_argument("--many", type=int, default=100, help="A4 pages whose peak memory is looked at")
    parser.add_argument("--json", type=Path, default=ROOT / "out" / "bench.json", help="where the figures go")
    asked = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch), asked.runs, asked.pages, asked.many)
        where = machine(bench)
        print(", ".join(f"{name} {value}" for name, value in where.items()))
        rows: list[Row] = []
        for name in asked.only:
            print(name, flush=True)
            rows += PARTS[name](bench)
    print("", HEAD, *rows, sep="\n")
    print(f"\n{time.monotonic() - began:.0f} s")
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    figures = {"machine": where, "rows": [asdict(row) for row in rows]}
    asked.json.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
