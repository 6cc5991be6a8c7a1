"""Every hostile file through the whole of `digitize scan`, one by one: `make hostile` prints what became of them.

Not part of the tests, which look at loading and at a sample: this takes minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from digitize import cli

SHARED = Path(os.environ.get("DIGITIZE_SHARED") or Path(__file__).resolve().parents[1] / ".." / "shared")
MAX_SECONDS, MAX_MIB = 20.0, 1500


def main() -> None:
    """Scan every file, then print counts, the slowest, and what went astray."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=SHARED / "data" / "hostile")
    parser.add_argument("--only", default="*", help="pattern of file names")
    asked = parser.parse_args()
    codes: Counter[int] = Counter()
    seconds: dict[str, float] = {}
    astray, digits = [], 0
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "out.csv"
        for path in sorted(path for path in asked.folder.rglob(asked.only) if path.is_file()):
            start = time.perf_counter()
            said = io.StringIO()
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                code = scan(path, out)
            seconds[path.name] = time.perf_counter() - start
            codes[code] += 1
            if code not in (0, 3, 4) or said.getvalue().count("\n") > 1:
                astray.append(f"{path.name}: exit {code}, {said.getvalue()}")
            if code in (0, 4):
                with out.open(newline="", encoding="utf-8") as stream:
                    digits += sum(1 for _ in csv.DictReader(stream))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{len(seconds)} files: {codes[0]} read, {codes[4]} in part, {codes[3]} refused, {len(astray)} astray")
    print(f"{digits} digits; peak memory {peak} MiB (at most {MAX_MIB})")
    slow = sorted(seconds, key=lambda name: -seconds[name])[:5]
    print(f"slowest, in seconds (at most {MAX_SECONDS:g}):", ", ".join(f"{name} {seconds[name]:.1f}" for name in slow))
    print(*astray, sep="\n", end="" if not astray else "\n")


def scan(path: Path, out: Path) -> int:
    """Scan one file as the command line does; gives its exit code."""
    sys.argv = ["digitize", "scan", str(path), "-o", str(out), "--quiet"]
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


if __name__ == "__main__":
    main()
