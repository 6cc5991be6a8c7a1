"""Reading on a cluster: what it refuses without one, and that a small one does what one machine does."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from readers import StubRecipe
from stub import write_model
from test_parts import archive as archive

from digitize import batch, cluster, parts, tables, write
from digitize.batch import Allowance, Job, Policy
from digitize.cluster import Options
from digitize.errors import SOME_SHEETS_FAILED, DeviceError, ModelError, OutputError, SheetError, UsageError
from digitize.parts import Counts, Part, Reference

WITHOUT = "Ray comes with digitize[ray]: make cluster runs this"
TESTS = Path(__file__).parent
RAYS_OWN = (  # what Ray's own code is warned of is no matter of ours
    r"ignore::DeprecationWarning:ray\..*",
    r"ignore::FutureWarning:ray\..*",
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
pytestmark = [pytest.mark.filterwarnings(one) for one in RAYS_OWN]


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A cluster which knows the readers of the tests: that of RAY_ADDRESS, else one of two cores on this machine."""
    found = pytest.importorskip("ray", reason=WITHOUT)
    pytest.importorskip("ray.data", reason=WITHOUT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS))  # of the workers
        address = os.environ.get("RAY_ADDRESS", "local")
        own: dict[str, Any] = {"num_cpus": 2, "num_gpus": 0, "include_dashboard": False} if address == "local" else {}
        found.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
    yield found
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # Ray ends its processes by other ways than it began them
        found.shutdown()
        gc.collect()


@pytest.fixture
def job(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes jobs over the archive, read by the stub in processes of its own."""
    monkeypatch.setattr("digitize.batch.Recipe", StubRecipe)
    model = write_model(tmp_path / "model")

    def make(output: str | None = "out", **options: Any) -> Job:
        target = str(tmp_path / output) if output is not None else None
        given = {"inputs": [str(archive)], "output": target, "model": str(model), "detector": str(model)}
        return Job(**{**given, "progress": False, **options})

    return make


def rows_of(output: str, table: str, kind: type[Any], form: tables.Form = "parquet") -> list[Any]:
    files = sorted((Path(output) / table).rglob(f"*.{form}"))
    return [row for file in files for row in tables.unpack(file.read_bytes(), kind, form)]


def files_of(output: str) -> dict[str, bytes]:
    tables = (parts.DIGITS, parts.ERRORS, parts.SHEETS)
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in Path(output).rglob("*")
        if path.is_file() and path.relative_to(output).parts[0] in tables
    }


# Without a cluster


def test_one_machine_needs_no_ray(job: Any, tmp_path: Path, archive: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); sys.modules.update(ray=None, pyarrow=None, fsspec=None); "
        "import readers; from digitize import batch, cli; batch.Recipe = readers.StubRecipe; cli.main()"
    )
    given = job("alone.csv")
    words = ["scan", archive, "-o", given.output, "--model", given.model, "--detector", given.detector, "--jobs", 1]
    command = [sys.executable, "-c", program, TESTS, *words, "--engine", "local"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == SOME_SHEETS_FAILED, done.stderr
    assert len(Path(given.output).read_text().splitlines()) == 10


def test_without_ray_the_way_to_it_is_said(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'digitize\[ray\]'"):
        cluster.run(job(), Options())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"output": None}, "-o"),
        ({"output": "-"}, "-o"),
        ({"output": "digits.csv"}, "folder of parts"),
        ({"format": "json"}, "--format json"),
        ({"overlay": Path("x")}, "--overlay"),
        ({"crops": Path("x")}, "--crops"),
        ({"review": Path("x.html")}, "--review"),
        ({"per_sheet": Path("x")}, "--per-sheet"),
        ({"device": "gpu:1"}, "--device gpu:1"),
        ({"profile": True}, "--profile"),
        ({"inputs": ["-"]}, "standard input"),
    ],
)
def test_what_a_cluster_does_not_do_is_refused(job: Any, options: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        cluster.run(job(**options) if options.get("output") != "-" else Job(["a.png"], "-"), Options())


def test_a_folder_without_sheets_is_said_before_there_is_a_cluster(
    job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SheetError, match="no sheets in this folder"):
        cluster.run(job(inputs=[str(tmp_path / "empty")]), Options())


def test_an_address_at_which_nobody_listens_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="no cluster answers"):
        cluster._reach("127.0.0.1:1")
    with pytest.raises(UsageError, match="no cluster answers"):
        cluster._reach("127.0.0.1:many")


def test_parts_that_are_there_are_counted_many_at_a_time() -> None:
    wave = [Part(f"{k:032x}", (Reference("a.png", "/a.png"),)) for k in range(1000)]
    there = {part.name for part in wave[:900]}
    blocks = list(cluster._blocks(wave, there))
    assert sorted(len(block) for block in blocks) == [1] * 100 + [132, 256, 256, 256]
    assert sorted(part.name for block in blocks for part in block) == [part.name for part in wave]
    assert all(bool(part.references) == (part.name not in there) for block in blocks for part in block)


def test_the_listing_goes_no_more_than_a_wave_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "WAVE_PARTS", 4)
    listed = []

    def listing() -> Iterator[Part]:
        for k in range(10):
            listed.append(k)
            yield Part(str(k), ())

    seen = []
    for wave in cluster._waves(listing()):
        seen += [part.name for part in wave]
        assert len(listed) <= len(seen) + 4
    assert seen == [str(k) for k in range(10)]


@pytest.mark.parametrize(("told", "counted"), [([0, 1, 0, 2], 3), ([0, 1], None)])
def test_a_part_is_counted_once_and_none_is_lost(
    job: Any, tmp_path: Path, told: list[int], counted: int | None
) -> None:
    pytest.importorskip("pyarrow", reason=WITHOUT)
    from digitize.store import Store

    def read(blocks: Iterable[cluster.Block]) -> Any:
        names = [part.name for block in blocks for part in block]
        yield from (Counts(names[k], sheets=1) for k in told)

    listing = (Part(f"{k:032x}", (Reference("a.png", "/a.png"),)) for k in range(3))
    summary = batch.Summary()
    ends = contextlib.nullcontext() if counted else pytest.raises(OutputError, match="of 1 parts nothing was heard")
    with ends:
        cluster._read(job(), Store(str(tmp_path / "out")), listing, read, summary)
        assert summary.sheets == counted


def test_a_job_stops_when_too_much_fails(job: Any, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason=WITHOUT)
    from digitize.store import Store

    closed = []

    def read(blocks: Iterable[cluster.Block]) -> Any:
        try:
            for block in blocks:
                yield Counts(block[0].name, sheets=1, failed=1, said=(f"{block[0].name} failed",))
        finally:
            closed.append(True)

    listing = (Part(f"{k:032x}", (Reference("a.png", "/a.png"),)) for k in range(10))
    summary = batch.Summary()
    given = job(policy=Policy(allowance=Allowance(2)))
    cluster._read(given, Store(str(tmp_path / "out")), listing, read, summary)
    assert (summary.stopped, summary.failed) == (True, 3)
    assert closed == [True]


def test_a_worker_that_gave_a_part_up_begins_the_next_with_a_process_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []

    class Pool:
        def __init__(self, *_: object, **__: object) -> None:
            said.append("made")

        def start(self) -> None:
            pass

        def read(self, found: Iterable[Any]) -> Iterator[Any]:
            raise OutputError("the disk is full")

        def close(self) -> None:
            said.append("closed")

    monkeypatch.setattr(cluster, "Pool", Pool)
    monkeypatch.setattr(cluster, "Store", lambda uri: None)
    monkeypatch.setattr(cluster.Worker, "_check", lambda worker: None)
    monkeypatch.setattr(parts, "read_part", lambda part, place, target, read: read([]))
    worker = cluster.Worker(cluster.Plan(batch.Recipe(), "out", "csv", "digit", (), "", 1.0, ()))
    for _ in range(2):
        (outcome,) = worker._outcomes((Part("x", (Reference("a.png", "/a.png"),)),))
        assert str(outcome).startswith("the disk is full (on ")
    assert said == ["made", "closed"] * 2


# On one


@pytest.mark.parametrize("form", tables.FORMS)
def test_a_cluster_reads_what_one_machine_reads(ray: Any, job: Any, form: tables.Form) -> None:
    alone = job("alone.csv")
    expected = batch.run(alone)
    given = job(format=form)
    summary = cluster.run(given, Options(part_sheets=1))
    assert summary == expected
    with Path(alone.output).open(newline="", encoding="utf-8") as stream:
        assert sorted(map(repr, rows_of(given.output, parts.DIGITS, write.Row, form))) == sorted(
            map(repr, write.read_csv(stream))
        )
    (error,) = rows_of(given.output, parts.ERRORS, parts.ErrorRow, form)
    assert error.source == "b.png"
    assert len(rows_of(given.output, parts.SHEETS, parts.SheetRow, form)) == 4
    assert json.loads((Path(given.output) / cluster.DONE_FILE).read_text())["sheets"] == 4


def test_a_scan_goes_on_where_it_stood(ray: Any, job: Any) -> None:
    given = job()
    first = cluster.run(given, Options(part_sheets=1))
    before = files_of(given.output)
    torn = next(name for name in before if name.startswith(parts.SHEETS))
    (Path(given.output) / torn).unlink()
    (Path(given.output) / cluster.DONE_FILE).unlink()
    again = cluster.run(given, Options())  # parts as large as they were
    assert again == first
    assert (first.resumed, again.resumed) == (0, 3)
    assert files_of(given.output) == before


def test_what_has_left_the_archive_leaves_the_result(ray: Any, job: Any, archive: Path) -> None:
    given = job()
    cluster.run(given, Options(part_sheets=1))
    (archive / "a.png").unlink()
    (archive / "c.png").write_bytes((archive / "deep" / "d.png").read_bytes())
    summary = cluster.run(given, Options(part_sheets=1))
    assert (summary.sheets, summary.resumed) == (3, 2)
    rows = rows_of(given.output, parts.DIGITS, write.Row)
    said = {name: "".join(str(row.digit) for row in rows if row.source == name) for name in ("a.png", "c.png")}
    assert said == {"a.png": "", "c.png": "5216"}


def test_a_finished_result_is_left_alone_if_asked(ray: Any, job: Any) -> None:
    given = job()
    cluster.run(given, Options())
    before = files_of(given.output)
    with pytest.raises(OutputError, match="finished result"):
        cluster.run(job(policy=Policy(existing="abort")), Options())
    assert cluster.run(job(policy=Policy(existing="skip")), Options()).skipped == 4
    assert files_of(given.output) == before


def test_a_sheet_that_crashes_its_reader_is_a_row_of_errors(ray: Any, job: Any, archive: Path) -> None:
    (archive / "crash.png").write_bytes((archive / "a.png").read_bytes())
    (archive / "bug.png").write_bytes((archive / "a.png").read_bytes())
    given = job()
    summary = cluster.run(given, Options())
    assert (summary.sheets, summary.failed, summary.digits) == (6, 3, 9)
    said = {row.source: row.error for row in rows_of(given.output, parts.ERRORS, parts.ErrorRow)}
    assert "SIGSEGV" in said["crash.png"]
    assert "a planted bug" in said["bug.png"]


def test_if_no_sheet_can_be_read_that_is_an_error_and_the_reasons_are_kept(ray: Any, job: Any, archive: Path) -> None:
    for path in archive.rglob("*.png"):
        path.write_bytes(b"no image")
    given = job()
    with pytest.raises(SheetError, match="any of the 4 sheets"):
        cluster.run(given, Options())
    assert len(rows_of(given.output, parts.ERRORS, parts.ErrorRow)) == 4


def test_rules_are_carried_to_the_workers(ray: Any, job: Any) -> None:
    given = job(level="number", format="csv")
    cluster.run(given, Options(known={"expect_length": "3-4", "pattern": None, "within": None, "check": None}))
    text = "".join(path.read_text() for path in (Path(given.output) / parts.DIGITS).rglob("*.csv"))
    assert "length" in text


def test_a_cluster_without_cards_has_none_to_give(ray: Any, job: Any) -> None:
    with pytest.raises(DeviceError, match="no machine of the cluster has a GPU"):
        cluster.run(job(device="gpu"), Options())


def test_a_machine_with_other_models_ends_the_job(ray: Any, job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.Plan, "marked", lambda plan: "another")
    with pytest.raises(ModelError, match="another here than where the job was started"):
        cluster.run(job(), Options())
