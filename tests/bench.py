"""Start-up and speed, as ratios of medians taken in one run; `make bench`.

    python tests/bench.py [--runs N] [--json FILE] [--only startup|speed]

What is compared takes turns, so that a noisy machine disturbs both sides alike. A ratio is what can be held against
another machine; the seconds beside it cannot.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "samples" / "clean.png"  # A4 at 300 dpi, 500 digits
INSTALLED = Path(sys.executable).parent / "digitize"
RUN_CHECKOUT = "from digitize.cli import main; main()"

TILES = 10_000
ARTICLE_BATCH = 1024

# Each runs in a process of its own, prints digits a second, and takes TILES and ARTICLE_BATCH from here.
CLASSIFY = """
import sys, time, numpy as np
from pathlib import Path
from digitize.classify import Classifier
tiles = np.random.default_rng(1).integers(0, 256, ({tiles}, 28, 28, 2), dtype=np.uint8)
classifier = Classifier(Path({folder!r}), device="cpu")
classifier.probabilities(tiles[:1000])
began = time.perf_counter()
classifier.probabilities(tiles)
print({tiles} / (time.perf_counter() - began))
"""
PREDICT = """
import time, numpy as np
from digitize import network
tiles = np.random.default_rng(1).integers(0, 256, ({tiles}, 28, 28, 1), dtype=np.uint8)
model = network.with_softmax(network.build("article"))
model.predict(tiles[:{batch}], batch_size={batch}, verbose=0)
began = time.perf_counter()
model.predict(tiles, batch_size={batch}, verbose=0)
print({tiles} / (time.perf_counter() - began))
"""


def digitize(*arguments: str) -> list[str]:
    """The command line: as installed beside this Python, or out of the checkout where it is not."""
    return [str(INSTALLED), *arguments] if INSTALLED.exists() else [sys.executable, "-c", RUN_CHECKOUT, *arguments]


def python(code: str) -> list[str]:
    """A fresh Python that runs `code`."""
    return [sys.executable, "-c", code]


def run(command: Sequence[str]) -> tuple[float, str]:
    """Run a command that must succeed; returns its wall time in seconds and what it printed."""
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    began = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, env=quiet)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(command)!r} ended in {done.returncode}:\n{done.stderr[-2000:]}")
    return seconds, done.stdout


def alternate(commands: Mapping[str, Sequence[str]], runs: int, *, printed: bool = False) -> dict[str, float]:
    """Run all commands in turn, `runs` times after one for warming up; returns the median of each.

    Args:
        commands: by name.
        runs: how often each is counted.
        printed: take the number that the command prints instead of its wall time.
    """
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(runs + 1):
        for name, command in commands.items():
            seconds, output = run(command)
            if turn:
                taken[name].append(float(output) if printed else seconds)
    return {name: statistics.median(values) for name, values in taken.items()}


def startup(runs: int) -> dict[str, float]:
    """What a fresh process costs: a scan against importing TensorFlow, the help against importing typer."""
    with tempfile.TemporaryDirectory() as scratch:
        seconds = alternate(
            {
                "scan": digitize(
                    "scan", str(PAGE), "-o", str(Path(scratch) / "page.csv"), "--device", "cpu", "--quiet"
                ),
                "import tensorflow": python("import tensorflow"),
                "--help": digitize("--help"),
                "--version": digitize("--version"),
                "import typer": python("import typer"),
            },
            runs,
        )
    for name, value in seconds.items():
        print(f"{name:<46} {value:8.3f} s")
    ratios = {
        "scan of 500 digits / import tensorflow": seconds["scan"] / seconds["import tensorflow"],
        "--help / import typer": seconds["--help"] / seconds["import typer"],
        "--version / import typer": seconds["--version"] / seconds["import typer"],
    }
    for name, value in ratios.items():
        print(f"{name:<46} {value:8.3f}")
    return {**{f"{name}, s": value for name, value in seconds.items()}, **ratios}


def speed(runs: int) -> dict[str, float]:
    """Digits a second on CPU: the shipped models as scanning runs them, against Keras' `predict` of `article`."""
    commands = {"keras predict, article": python(PREDICT.format(tiles=TILES, batch=ARTICLE_BATCH))}
    for card in sorted(ROOT.glob("models/*/card.json")):
        if json.loads(card.read_text(encoding="utf-8")).get("task") == "detect":
            continue
        code = CLASSIFY.format(tiles=TILES, folder=str(card.parent))
        commands[f"digitize.classify, {card.parent.name}"] = python(code)
    rates = alternate(commands, runs, printed=True)
    base = rates["keras predict, article"]
    for name, value in rates.items():
        print(f"{name:<46} {value:8.0f} digits/s {value / base:6.2f} x")
    return {f"{name}, digits/s": value for name, value in rates.items()}


def main() -> None:
    """Measure, print, and write the figures as JSON where asked."""
    parser = argparse.ArgumentParser(description="Start-up and speed, as ratios taken in one run.")
    parser.add_argument("--runs", type=int, default=5, help="how often each is counted; the median stands")
    parser.add_argument("--json", type=Path, default=ROOT / "out" / "bench.json", help="where the figures go")
    parser.add_argument("--only", choices=("startup", "speed"), help="one half of it")
    options = parser.parse_args()
    print(f"{os.cpu_count()} CPUs, Python {sys.version.split()[0]}, NumPy {np.__version__}, medians of {options.runs}")
    figures: dict[str, float] = {}
    if options.only in (None, "startup"):
        figures |= startup(options.runs)
    if options.only in (None, "speed"):
        figures |= speed(options.runs)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
