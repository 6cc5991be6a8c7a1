"""Processes that read: one sheet's trouble stays that sheet's, and results come in the order of the sheets."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

import pytest
from readers import Changing, Parrot, Refuser

from digitize import workers
from digitize.errors import ModelError, OutputError
from digitize.sheets import Sheet
from digitize.workers import Limits, Pool

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of this kind are POSIX's")


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool(Parrot, workers=2, limits=Limits(seconds=20, mib=512)) as started:
        started.start()
        yield started


def sheets_of(folder: Path, *names: str) -> list[Sheet]:
    for name in names:
        (folder / name).write_bytes(name.encode())
    return [Sheet(name, path=folder / name) for name in names]


def test_readings_come_in_the_order_of_the_sheets(pool: Pool, tmp_path: Path) -> None:
    names = [f"{k:03d}.png" for k in range(60)]
    assert [reading.source for reading in pool.read(sheets_of(tmp_path, *names))] == names
    assert pool.replaced == 0


def test_no_sheets_give_no_readings(pool: Pool) -> None:
    assert list(pool.read([])) == []


def test_a_sheet_that_kills_its_process_fails_alone(pool: Pool, tmp_path: Path) -> None:
    found = sheets_of(tmp_path, "a.png", "crash.png", "b.png", "crash2.png", "c.png")
    readings = {reading.source: reading.error for reading in pool.read(found)}
    assert [name for name, error in readings.items() if error is None] == ["a.png", "b.png", "c.png"]
    for name in ("crash.png", "crash2.png"):
        assert f"{tmp_path / name}: the process that read it was ended by SIGSEGV" in str(readings[name])
    assert pool.replaced == 2


def test_a_failed_sheet_keeps_its_hash(pool: Pool, tmp_path: Path) -> None:
    (reading,) = pool.read(sheets_of(tmp_path, "crash.png"))
    assert len(reading.sha256) == 64


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory of a process is bounded on Linux alone")
def test_a_sheet_that_eats_memory_fails_alone(pool: Pool, tmp_path: Path) -> None:
    readings = list(pool.read(sheets_of(tmp_path, "a.png", "hungry.png", "b.png")))
    assert [reading.error is None for reading in readings] == [True, False, True]
    assert "not enough memory" in str(readings[1].error)
    assert pool.replaced == 0


def test_a_sheet_that_never_ends_is_given_up(tmp_path: Path) -> None:
    with Pool(Parrot, workers=1, limits=Limits(seconds=2)) as pool:
        pool.start()
        readings = list(pool.read(sheets_of(tmp_path, "endless.png", "a.png")))
    assert "took longer than 2 s" in str(readings[0].error)
    assert "--sheet-timeout" in str(readings[0].error)
    assert readings[1].error is None


def test_a_bug_fails_its_sheet_and_says_what_it_was(pool: Pool, tmp_path: Path) -> None:
    readings = list(pool.read(sheets_of(tmp_path, "bug.png", "a.png")))
    assert "RuntimeError: a planted bug" in str(readings[0].error)
    assert "in befallen" in readings[0].trace
    assert (readings[1].error, readings[1].trace) == (None, "")


def test_what_is_not_the_fault_of_a_sheet_is_raised(pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no room"):
        list(pool.read(sheets_of(tmp_path, "a.png", "full.png", "b.png")))


def test_what_is_raised_beside_an_outcome_is_raised_after_it(pool: Pool, tmp_path: Path) -> None:
    while pool.idle < 2:
        pool.wait(None)
    for ticket, sheet in enumerate(sheets_of(tmp_path, "full.png", "a.png")):
        pool.submit(ticket, sheet)
    assert all(worker.pipe.poll(60) for worker in pool._workers), "both have answered"
    assert [outcome.ticket for outcome in pool.wait(0)] == [1]
    with pytest.raises(OutputError, match="no room"):
        pool.wait(0)


def test_what_forbids_to_start_is_raised() -> None:
    with Pool(Refuser(), workers=2) as pool, pytest.raises(ModelError, match="a test has none"):  # type: ignore[arg-type]
        pool.start()


def test_a_process_that_cannot_be_started_is_said_and_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def pipe(*_: object) -> tuple[Connection, Connection]:
        made = Pipe()
        ends.extend(made)
        return made

    ends: list[Connection] = []
    monkeypatch.setattr("multiprocessing.context.BaseContext.Pipe", pipe)
    monkeypatch.setattr("multiprocessing.context.SpawnProcess.start", fail)
    with Pool(Parrot, workers=2) as pool, pytest.raises(ModelError, match="cannot be started"):
        pool.start()
    assert [end.closed for end in ends] == [True, True]


def test_a_model_that_is_changed_while_sheets_are_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    found = sheets_of(tmp_path, "a.png", "crash.png", "b.png")
    with Pool(Changing(tmp_path / "made"), workers=1) as pool:
        pool.start()
        with pytest.raises(ModelError, match="was changed"):
            list(pool.read(found))


def test_a_process_that_is_killed_while_idle_is_replaced(pool: Pool, tmp_path: Path) -> None:
    while pool.idle < 2:
        pool.wait(None)
    victim = pool._workers[0].process.pid
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    readings = list(pool.read(sheets_of(tmp_path, *(f"{k}.png" for k in range(6)))))
    # The sheet that it was handed before its end was noticed may be lost with it; all others are read.
    assert [reading.source for reading in readings] == [f"{k}.png" for k in range(6)]
    assert sum(reading.error is not None for reading in readings) <= 1
    assert pool.replaced == 1


def test_no_process_is_left(tmp_path: Path) -> None:
    with Pool(Parrot, workers=2) as pool:
        pool.start()
        pids = [worker.process.pid for worker in pool._workers]
        list(pool.read(sheets_of(tmp_path, "a.png")))
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid or 0), 0)


def test_what_waits_for_its_turn_is_bounded(tmp_path: Path) -> None:
    taken: list[str] = []

    def found() -> Iterator[Sheet]:
        for sheet in sheets_of(tmp_path, "endless.png", *(f"{k:03d}.png" for k in range(100))):
            taken.append(sheet.source)
            yield sheet

    with Pool(Parrot, workers=2, limits=Limits(seconds=3)) as pool:
        pool.start()
        while pool.idle < 2:
            pool.wait(None)
        next(pool.read(found()))
    assert len(taken) <= 2 * workers.AHEAD + 2
