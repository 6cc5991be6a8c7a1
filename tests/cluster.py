"""Reading on a cluster held against one machine, and what a page costs: `make cluster`.

    python tests/cluster.py [--only killed|overhead|stages] [--pages N] [--sheets FOLDER] [--mnist FOLDER]
                            [--machines N] [--part-sheets N] [--rounds N] [--detector NAME]

killed: a cluster of several machines, simulated on this one (`ray.cluster_utils.Cluster`), reads made amounts; one of
them is killed with SIGKILL when a third of the parts is there. The digits have to be those of the local engine, each
sheet's once.
overhead: wall and CPU seconds of Ray with two workers and of the local engine with two processes on the same sheets,
start-up included, taken in turns. CPU seconds, of all processes of a run, say more where a machine has other work.
stages: what a page costs in each stage, in CPU seconds of one core and in bytes, what listing and the driver cost, and
what follows for 100 million pages.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LIGHT = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
LONGEST = 3600.0  # seconds that a run may take
SHARE = 1 / 3  # of the parts that is there when a machine is killed
LOOK = 0.5  # seconds between two looks at the processes of a run
TICKS = os.sysconf("SC_CLK_TCK")
ARCHIVE = 100_000_000  # pages
FIRST_PORT = 26_400  # of those that simulated machines are given
CORES = 16  # of a machine in the cost model
MACHINES = (1, 10, 100)


def digitize(*words: object) -> list[str]:
    """The command line of this checkout."""
    return [sys.executable, "-m", "digitize.cli", *map(str, words)]


# Runs


class Run:
    """A command, with the seconds that it took: on the clock, and of the CPU in all processes that came of it."""

    def __init__(self, *words: object) -> None:
        self._began = time.monotonic()
        self.process = subprocess.Popen(digitize(*words), env=LIGHT, stderr=subprocess.PIPE, text=True)
        self._used: dict[int, float] = {self.process.pid: 0.0}
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look)
        self._watch.start()

    def end(self) -> tuple[float, float, str]:
        """Wait for it; gives wall seconds, CPU seconds, and the last line it said."""
        try:
            _, said = self.process.communicate(timeout=LONGEST)
        finally:
            self.process.kill()
            wall = time.monotonic() - self._began
            self._over.set()
            self._watch.join()
        if self.process.returncode:
            raise SystemExit(f"{' '.join(map(str, self.process.args))} ended with {self.process.returncode}:\n{said}")
        return wall, sum(self._used.values()), said.strip().splitlines()[-1]

    def _look(self) -> None:
        while not self._over.wait(LOOK):
            facts = dict(filter(None, map(_facts, Path("/proc").glob("[0-9]*"))))
            grown = True
            while grown:  # parents may be listed behind their children
                young = [pid for pid, (parent, _) in facts.items() if parent in self._used and pid not in self._used]
                self._used.update(dict.fromkeys(young, 0.0))
                grown = bool(young)
            self._used.update({pid: facts[pid][1] for pid in self._used if pid in facts})


def _facts(folder: Path) -> tuple[int, tuple[int, float]] | None:
    """A process: its number, its parent's, and the CPU seconds that it has had."""
    try:
        facts = (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:  # gone meanwhile
        return None
    return int(folder.name), (int(facts[1]), (int(facts[11]) + int(facts[12])) / TICKS)


def local_rows(output: Path) -> Counter[tuple[Any, ...]]:
    from digitize import write

    with output.open(newline="", encoding="utf-8") as stream:
        return Counter(astuple(row) for row in write.read_csv(stream))


def ray_rows(output: Path) -> Counter[tuple[Any, ...]]:
    from digitize import tables, write

    files = sorted((output / "digits").rglob("*.parquet"))
    return Counter(astuple(row) for file in files for row in tables.unpack(file.read_bytes(), write.Row, "parquet"))


def compare(one: Counter[tuple[Any, ...]], many: Counter[tuple[Any, ...]], output: Path) -> str:
    """How the rows of a cluster differ from those of one machine, and how often each sheet is in the result."""
    from digitize import parts, tables

    files = sorted((output / "sheets").rglob("*.parquet"))
    sheets = Counter(
        row.source for file in files for row in tables.unpack(file.read_bytes(), parts.SheetRow, "parquet")
    )
    lost, added = sum((one - many).values()), sum((many - one).values())
    doubled = sum(count - 1 for count in sheets.values())
    same = "identical, sorted" if sorted(one.elements()) == sorted(many.elements()) else "NOT identical"
    return f"{sum(many.values())} digits of {len(sheets)} sheets: {same}; {lost} lost, {added} added, {doubled} doubled"


# What is shown


def killed(sheets: Path, work: Path, machines: int, part_sheets: int, reader: list[str]) -> None:
    """Kill a machine while a cluster reads."""
    import gc
    import warnings

    from ray.cluster_utils import Cluster

    alone, output = work / "alone.csv", work / "killed"
    if not alone.exists():
        print(f"one machine: {Run('scan', sheets, '-o', alone, '--jobs', 2, *reader).end()[2]}", flush=True)
    head = {"num_cpus": 0, "include_dashboard": False, **ports(0)}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(num_cpus=1, **ports(k + 1)) for k in range(machines)]
    size = ["--part-sheets", part_sheets]
    run = Run("scan", sheets, "-o", output, "--engine", "ray", "--address", cluster.address, *reader, *size)
    enough = max(1, int(SHARE * sum(1 for _ in sheets.iterdir()) / part_sheets))
    while run.process.poll() is None and sum(1 for _ in output.glob("sheets/*/*.parquet")) < enough:
        time.sleep(LOOK)
    there = sum(1 for _ in output.glob("sheets/*/*.parquet"))
    cluster.remove_node(nodes[0], allow_graceful=False)
    print(f"{machines} machines: one is killed when {there} parts are there", flush=True)
    print(f"{machines} machines: {run.end()[2]}", flush=True)
    print(f"{machines} machines: {compare(local_rows(alone), ray_rows(output), output)}", flush=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        cluster.shutdown()
        gc.collect()


def ports(machine: int) -> dict[str, int]:
    """Ports that a simulated machine need not wait to be told by its agents, for which Ray has 30 s and no more."""
    names = ("runtime_env_agent_port", "metrics_agent_port", "dashboard_agent_listen_port", "metrics_export_port")
    return {name: FIRST_PORT + len(names) * machine + k for k, name in enumerate(names)}


def overhead(sheets: Path, work: Path, rounds: int, reader: list[str]) -> None:
    """Read the same sheets in turns with both engines."""
    spent: dict[str, list[tuple[float, float]]] = {"local": [], "ray": []}
    for turn in range(rounds):
        for engine in ("local", "ray"):
            output = work / ("alone.csv" if engine == "local" else f"two-{turn}")
            wall, used, said = Run("scan", sheets, "-o", output, "--engine", engine, "--jobs", 2, *reader).end()
            spent[engine].append((wall, used))
            print(f"{engine}: {wall:.0f} s on the clock, {used:.0f} s of the CPU; {said}", flush=True)
        print(compare(local_rows(work / "alone.csv"), ray_rows(output), output), flush=True)
    walls, useds = ([sum(one[k] for one in spent[engine]) for engine in ("local", "ray")] for k in (0, 1))
    print(f"ray, 2 workers / local, 2 processes: {walls[1] / walls[0]:.2f} on the clock, {useds[1] / useds[0]:.2f} CPU")


class Spent:
    """CPU seconds by stage."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._inside = 0

    @contextlib.contextmanager
    def on(self, stage: str) -> Iterator[None]:
        """Count what is done inside for a stage; one within another counts for the outer."""
        began = time.process_time()
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self.seconds[stage] += time.process_time() - began

    def wrap(self, stage: str, do: Any) -> Any:
        """A function that is counted."""

        def counted(*words: Any, **named: Any) -> Any:
            with self.on(stage):
                return do(*words, **named)

        return counted


def stages(sheets: Path) -> None:
    """What a page costs, of two kinds."""
    from digitize import batch, parts, scan, tables, write
    from digitize import sheets as loading

    recipe = batch.Recipe(device="cpu", threads=1)
    scanner = recipe()._scanner
    costs = {}
    for kind, folder, count in (("amount", sheets, 60), ("page", None, 3)):
        with tempfile.TemporaryDirectory(dir="/tmp") as work:
            found = sorted(folder.iterdir())[:count] if folder else pages(Path(work), count)
            loaded = [loading.Sheet(path.name, path=path) for path in found]
            list(scanner.read_sheets(loaded[:1]))  # warm
            spent = Spent()
            shipped: Counter[str] = Counter()
            with contextlib.ExitStack() as held:
                for stage, owner, name in (
                    ("decode", loading, "_decode"),
                    ("clean and segment", scan, "draft_page"),
                    ("blocks", scan, "page_blocks"),
                    ("detect", scanner._detector, "answers"),
                    ("places", scan.detect, "find_peaks"),
                    ("classify", scanner._classifier, "probabilities"),
                    ("compose", scanner, "_compose"),
                ):
                    held.callback(setattr, owner, name, getattr(owner, name))
                    setattr(owner, name, spent.wrap(stage, getattr(owner, name)))
                began = time.process_time()
                readings = list(scanner.read_sheets(loaded))
                total = time.process_time() - began
            for sheet in loaded:
                for page in loading.load(sheet.origin, source=sheet.source):
                    draft = scanner._draft(page)
                    shipped["file"] += sheet.path.stat().st_size
                    shipped["gray page"] += page.gray.nbytes
                    shipped["draft with blocks"] += len(pickle.dumps(draft, 5))
            rows = [row for reading in readings for row in write.rows(reading)]
            packed = len(tables.pack(rows, write.Row, "parquet"))
            references = [parts._of_sheet(sheet) for sheet in loaded]
            shipped["reference"] = len(pickle.dumps(parts.Part.of(references, "m"), 5))
            spent.seconds["all else"] = total - sum(spent.seconds.values())
            each = {stage: 1000 * seconds / count for stage, seconds in spent.seconds.items()}
            print(f"{kind}: {1000 * total / count:.0f} ms of a core a page, {count / total:.1f} pages a second a core")
            print(f"{kind}: " + ", ".join(f"{stage} {ms:.1f} ms" for stage, ms in sorted(each.items())))
            print(f"{kind}: " + ", ".join(f"{what} {size / count:,.0f} B" for what, size in shipped.items()))
            print(f"{kind}: {len(rows) / count:.1f} digits and {packed / count:,.0f} B of Parquet a page", flush=True)
            costs[kind] = (total / count, shipped["file"] / count, packed / count)
    listing, tasks = listed(), handed_out()
    for kind, (seconds, fetched, written) in costs.items():
        for machines in MACHINES:
            rate = machines * CORES / seconds
            print(
                f"100 million of {kind}, {machines} machines of {CORES} cores: {ARCHIVE / rate / 86400:,.2f} days, "
                f"{rate:,.0f} pages/s, {rate * fetched / 1e6:,.1f} MB/s in, {rate * written / 1e6:,.2f} MB/s out, "
                f"listing {100 * rate / listing:.1f} % and driver {100 * rate / 64 / tasks:.1f} % busy"
            )


def pages(folder: Path, count: int) -> list[Path]:
    """A4 pages at 300 dpi of 40 numbers, as `tests/soak.py` has them."""
    from soak import A4, sheet

    found = []
    for k in range(count):
        found.append(folder / f"{k}.png")
        found[-1].write_bytes(sheet(1000 + 97 * k, A4, lines=40))
    return found


def listed(count: int = 20_000) -> float:
    """Files a second that the driver lists, names and puts into parts, from a local disk."""
    from digitize import parts

    with tempfile.TemporaryDirectory(dir="/tmp") as work:
        for k in range(count):
            path = Path(work) / f"{k // 1000:03d}" / f"{k:06d}.png"
            path.parent.mkdir(exist_ok=True)
            path.touch()
        began = time.process_time()
        divided = sum(1 for _ in parts.divide(parts.refer([work]), size=64, mark="m"))
        rate = count / (time.process_time() - began)
    print(f"listing: {rate:,.0f} files a second of the driver's core, {divided} parts", flush=True)
    return rate


def handed_out(count: int = 500) -> float:
    """Parts a second that Ray Data hands out and takes back, with nothing done to them."""
    from digitize import cluster, parts

    ray = cluster._import_ray()
    with cluster._ray(ray, cluster.Options(address="local"), 2):
        import pyarrow

        block = pickle.dumps((parts.Part("0" * 32, (parts.Reference("a" * 40, "/b" * 40, "", 1, 1),) * 64),))
        began = time.process_time()
        done = ray.data.from_arrow([pyarrow.table({"block": [block]}) for _ in range(count)]).map_batches(
            Idle, batch_size=None, batch_format="pyarrow", compute=ray.data.ActorPoolStrategy(size=2), num_cpus=1
        )
        assert sum(1 for _ in done.iter_rows()) == count
        rate = count / (time.process_time() - began)
    print(f"driver: {rate:,.0f} parts a second of its core", flush=True)
    return rate


class Idle:
    """A worker that does nothing."""

    def __call__(self, table: Any) -> Any:
        """Give the part back."""
        return table


def main() -> None:
    """Show all of it, or what is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("killed", "overhead", "stages"))
    parser.add_argument("--pages", type=int, default=2000)
    parser.add_argument("--sheets", type=Path, help="folder of images; made if not given")
    parser.add_argument("--mnist", type=Path, help="folder with MNIST's IDX files")
    parser.add_argument("--machines", type=int, default=3)
    parser.add_argument("--part-sheets", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--detector", help="that all read with; none is faster where only the rows are compared")
    options = parser.parse_args()
    reader = ["--detector", options.detector] if options.detector else []
    with tempfile.TemporaryDirectory(dir="/tmp") as temporary:
        work = Path(temporary)
        sheets = options.sheets
        if sheets is None:
            made = ["sheets", "make", work / "made", "-n", options.pages, "--kind", "amount"]
            subprocess.run(digitize(*made, *(["--mnist", options.mnist] if options.mnist else [])), check=True)
            sheets = work / "made" / "images"
        if options.only in (None, "overhead"):
            overhead(sheets, work, options.rounds, reader)
        if options.only in (None, "killed"):
            killed(sheets, work, options.machines, options.part_sheets, reader)
        if options.only in (None, "stages"):
            stages(sheets)


if __name__ == "__main__":
    main()
