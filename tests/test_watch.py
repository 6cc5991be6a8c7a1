"""A watched folder: every sheet is read once, or stands in failed/ with the reason, whatever happens meanwhile.

A scenario runs in a thread of its own beside the watch, and waits for what the watch says, never for a time.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import re
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from readers import LoaderRecipe
from scenes import Scene, drawn, open_scene

from digitize import batch, ledger, models, sheets, watch, write
from digitize.away import Away, Done
from digitize.errors import ModelError, OutputError, UnsettledSheetError, UsageError
from digitize.ledger import Found, Ledger
from digitize.records import Box, Digit, Line, Number, PageReading, SheetReading
from digitize.watch import Counts, Options

SHARED = Path(os.environ.get("DIGITIZE_SHARED") or Path(__file__).resolve().parents[1] / ".." / "shared")
HOSTILE = SHARED / "data" / "hostile"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with open_scene(tmp_path) as made:
        yield made


# What is read


def test_what_lies_there_is_read_and_what_is_no_sheet_is_left_alone(scene: Scene) -> None:
    scene.put("1.png", "904")
    scene.put("a/1.png", "37")
    scene.put("a/b/1.png", "5216")
    for name in (".hidden.png", "Thumbs.db", "x.png.part", "y.png.tmp", "~$1.png", "@eaDir/1.png", ".git/1.png"):
        scene.put(name)
    scene.put("notes.txt")
    (scene.inbox / "link.png").symlink_to(scene.inbox / "1.png")
    (scene.inbox / "folder.png").symlink_to(scene.inbox / "a")
    os.mkfifo(scene.inbox / "pipe.png")
    assert scene.once() == Counts(read=3)
    assert scene.listed() == {"1.png": "904", "a/1.png": "37", "a/b/1.png": "5216"}
    assert scene.files("results") == ["1.png.csv", "a/1.png.csv", "a/b/1.png.csv"]
    assert scene.files("failed") == []
    assert scene.heard.count("notes.txt: is left alone") == 1


def test_the_results_of_a_sheet_are_its_rows(scene: Scene) -> None:
    scene.put("a/1.png", "904")
    scene.put("2.png", "37")
    scene.once()
    for name in ("a/1.png", "2.png"):
        with (scene.outbox / "results" / f"{name}.csv").open(newline="") as stream:
            assert list(write.read_csv(stream)) == [row for row in scene.rows() if row.source == name]


@pytest.mark.parametrize("poll", [None, 0.1])
def test_sheets_are_read_however_they_arrive(scene: Scene, poll: float | None) -> None:
    whole = drawn("123456")

    def arrive() -> None:
        scene.put("first.png", "904")
        scene.heard.wait("first.png: read")
        part = scene.inbox / "renamed.png.part"
        part.write_bytes(drawn("37"))
        part.rename(scene.inbox / "renamed.png")
        staged = scene.place / "staged"
        (staged / "deep").mkdir(parents=True)
        (staged / "deep" / "moved.png").write_bytes(drawn("5216"))
        staged.rename(scene.inbox / "staged")
        scene.heard.wait("renamed.png: read")
        scene.heard.wait("moved.png: read")
        with (scene.inbox / "slow.png").open("wb") as stream:
            stream.write(whole[: len(whole) // 2])
        scene.heard.wait("slow.png: is truncated")
        with (scene.inbox / "slow.png").open("ab") as stream:
            stream.write(whole[len(whole) // 2 :])
        scene.heard.wait("slow.png: read")

    counts = scene.play(arrive, poll=poll, pause=30.0)
    assert counts == Counts(read=4, stopped_by=signal.SIGTERM)
    texts = {"first.png": "904", "renamed.png": "37", "staged/deep/moved.png": "5216", "slow.png": "123456"}
    assert scene.listed() == texts
    assert scene.files("failed") == []


def test_a_walk_finds_what_no_event_told_of(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("digitize.watch._Events._tell", lambda *_: None)

    def arrive() -> None:
        scene.put("1.png", "904")
        scene.heard.wait("1.png: read")

    scene.play(arrive, rescan=0.2)
    assert scene.listed() == {"1.png": "904"}


def test_a_listener_that_fails_does_not_end_the_watch(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("too many watches")

    monkeypatch.setattr("watchfiles.watch", fail)

    def arrive() -> None:
        scene.heard.wait("gives no events")
        scene.put("1.png", "904")
        scene.heard.wait("1.png: read")

    scene.play(arrive, rescan=0.2)
    assert scene.listed() == {"1.png": "904"}


@pytest.mark.parametrize("times", [2, 1000])
def test_nothing_is_said_to_wait_where_not_everything_was_looked_at(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    scene.put("1.png", "904")
    scene.put("a/2.png", "37")
    lists, left = Path.iterdir, times

    def fail(path: Path) -> Iterator[Path]:
        nonlocal left
        if path == scene.inbox / "a" and left:
            left -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return lists(path)

    monkeypatch.setattr(Path, "iterdir", fail)
    counts = scene.once()
    if times < watch.TRIES:
        assert counts == Counts(read=2)
        assert scene.heard.count("nothing waits any more") == 1
    else:
        assert counts == Counts(read=1, unlooked=True)
        assert left <= times - watch.TRIES
        assert scene.heard.count("a: cannot be looked at") == 1, "once a minute"
        assert scene.heard.count("nothing waits any more") == 0
        assert "waiting: 0 files, and what lies in 1 folders that" in watch.status(scene.outbox)


def test_an_inbox_that_stays_away_is_not_waited_for_by_a_watch_that_is_to_end(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go(*_: object, **__: object) -> None:
        shutil.rmtree(scene.inbox, ignore_errors=True)

    monkeypatch.setattr("digitize.watch._Watcher._start_pool", go)
    assert scene.once() == Counts(unlooked=True)


# Once each


def test_a_file_without_its_end_is_given_more_time_and_then_read(scene: Scene) -> None:
    """All pixels of a PNG are there before its last bytes are, so that it opens."""
    path, whole = scene.inbox / "slow.png", drawn("904")
    path.write_bytes(whole[:-12])
    with watch._Watcher(Options(scene.inbox, scene.outbox, settle=100.0, poll=60.0)) as watcher:
        watcher._walk(0.0)
        (file,) = watcher._files.values()
        first = file.due
        watcher._settle(first)
        assert (file.state, file.due > first + 1000.0) == ("seen", True)
        path.write_bytes(whole)
        watcher._settle(file.due)  # it has changed meanwhile, and is like any other then
        watcher._settle(file.due)
        assert file.state == "ready"
        path.write_bytes(whole[:-11])
        watcher._look_at(watch._found(scene.inbox, "slow.png"))
        watcher._settle(file.due)
        watcher._settle(file.due)
        assert file.state == "ready"  # some programs leave the end out


def test_nothing_is_read_again_by_the_next_watch(scene: Scene) -> None:
    scene.put("1.png", "904")
    scene.put("text.png")
    (scene.inbox / "text.png").write_text("dear reader")
    assert scene.once() == Counts(read=1, failed=1)
    assert scene.once() == Counts()
    os.utime(scene.inbox / "1.png", (1, 1))
    assert scene.once() == Counts()
    assert scene.heard.count("1.png: is the same as before") == 1
    assert scene.listed() == {"1.png": "904"}


def test_the_same_content_under_another_name_is_listed_and_not_read(scene: Scene) -> None:
    content = scene.put("1.png", "904")
    (scene.inbox / "2.png").write_bytes(content)
    assert scene.once() == Counts(read=2)
    (scene.inbox / "3.png").write_bytes(content)
    assert scene.once() == Counts(read=1)
    assert scene.listed() == {"1.png": "904", "2.png": "904", "3.png": "904"}
    assert scene.heard.count("it is listed too, and not read again") == 2


def test_another_content_under_a_name_gets_a_number(scene: Scene) -> None:
    for text in ("904", "37", "5216"):
        scene.put("a/1.png", text)
        scene.once()
    assert scene.listed() == {"a/1.png": "904", "a/1.png~2": "37", "a/1.png~3": "5216"}
    assert scene.files("results") == ["a/1.png.csv", "a/1.png~2.csv", "a/1.png~3.csv"]


def test_what_was_read_is_moved_or_deleted_and_nothing_else(scene: Scene) -> None:
    content = scene.put("a/1.png", "904")
    scene.put("bad.png")
    (scene.inbox / "bad.png").write_text("dear reader")
    assert scene.once(done="move") == Counts(read=1, failed=1)
    assert (scene.outbox / "done" / "a" / "1.png").read_bytes() == content
    assert (scene.inbox / "bad.png").exists()
    assert not (scene.inbox / "a" / "1.png").exists()
    scene.put("2.png", "37")
    (scene.inbox / "3.png").write_bytes(content)
    assert scene.once(done="delete") == Counts(read=2)
    assert [path.name for path in scene.inbox.rglob("*") if path.is_file()] == ["bad.png"]
    assert scene.listed() == {"a/1.png": "904", "2.png": "37", "3.png": "904"}


def test_a_sheet_that_was_read_before_a_kill_is_put_away_after(scene: Scene) -> None:
    scene.put("1.png", "904")
    scene.once()
    assert (scene.inbox / "1.png").exists()
    assert scene.once(done="delete") == Counts()
    assert not (scene.inbox / "1.png").exists()


@pytest.mark.parametrize("done", ["move", "delete"])
def test_what_comes_into_the_place_of_a_sheet_that_is_put_away_is_read(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, done: str
) -> None:
    scene.put("1.png", "904")
    scene.once()
    hashes = sheets.sha256

    def replaced(origin: Path | bytes) -> str:
        """Another sheet arrives as soon as the one before was looked at."""
        monkeypatch.setattr("digitize.sheets.sha256", hashes)
        digest = hashes(origin)
        (scene.inbox / "1.png").write_bytes(drawn("37"))
        return digest

    monkeypatch.setattr("digitize.sheets.sha256", replaced)
    scene.once(done=done)
    assert scene.listed() == {"1.png": "904", "1.png~2": "37"}
    assert scene.files("done") == (["1.png", "1.png~2"] if done == "move" else [])
    assert list(scene.inbox.iterdir()) == []


# What fails


def test_what_will_not_pass_fails_at_once_with_its_reason_beside_it(scene: Scene) -> None:
    scene.put("a/text.png")
    (scene.inbox / "a" / "text.png").write_text("dear reader")
    scene.put("good.png", "904")
    assert scene.once() == Counts(read=1, failed=1)
    assert scene.files("failed") == ["a/text.png", "a/text.png.json"]
    assert "is text, no image" in scene.failures()["a/text.png"]
    assert (scene.outbox / "failed" / "a" / "text.png").read_text() == "dear reader"
    assert (scene.inbox / "a" / "text.png").exists()
    assert scene.heard.count("tried again") == 0


@pytest.mark.parametrize("content", [b"", drawn("904")[:-40]], ids=["empty", "cut short"])
def test_what_may_pass_is_tried_again_and_then_fails(scene: Scene, content: bytes) -> None:
    (scene.inbox / "1.png").write_bytes(content)
    assert scene.once() == Counts(failed=1)
    assert scene.heard.count("it is tried again") == watch.TRIES - 1
    assert f"tried {watch.TRIES} times" in scene.failures()["1.png"]


def lock(locked: Path, patched: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Let a file be opened by nobody, as for its rights; returns what refuses it."""
    opens = open

    def refuse(path: Any, *how: Any, **more: Any) -> Any:
        if path == locked:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opens(path, *how, **more)

    patched.setattr("builtins.open", refuse)
    patched.setattr("io.open", refuse)
    return refuse


def test_a_sheet_that_could_not_be_opened_is_read_as_soon_as_it_can_be(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.put("1.png", "904")
    with monkeypatch.context() as locked:
        lock(scene.inbox / "1.png", locked)
        assert scene.once() == Counts(failed=1)
        assert scene.once() == Counts()
        os.utime(scene.inbox / "1.png", (1, 1))
        assert scene.once() == Counts(failed=1)
        assert list(scene.failures()) == ["1.png"]
        assert "failed: 1 sheets\n  1.png: " in watch.status(scene.outbox)
    assert scene.once() == Counts(read=1), "neither its size nor its time has changed"
    assert scene.listed() == {"1.png": "904"}
    assert scene.files("failed") == []
    assert "failed: 0 sheets" in watch.status(scene.outbox)


def test_a_sheet_that_brought_its_process_down_is_read_again_when_touched_or_given_longer(scene: Scene) -> None:
    scene.put("crash.png")
    assert scene.once(sheet_timeout=60.0) == Counts(failed=1)
    assert scene.once(sheet_timeout=60.0) == Counts()
    assert scene.once(sheet_timeout=90.0) == Counts(failed=1)
    assert scene.once(sheet_timeout=90.0) == Counts()
    os.utime(scene.inbox / "crash.png", (1, 1))
    assert scene.once(sheet_timeout=60.0) == Counts(failed=1)
    assert scene.files("failed") == ["crash.png", "crash.png.json"]
    assert "failed: 1 sheets" in watch.status(scene.outbox)


def test_sheets_that_bring_their_process_down_fail_alone(scene: Scene) -> None:
    for name in ("a", "crash", "hungry", "endless", "bug", "z"):
        scene.put(f"{name}.png")
    counts = scene.once(jobs=2, sheet_timeout=6.0)
    assert counts == Counts(read=2, failed=4)
    assert sorted(scene.listed()) == ["a.png", "z.png"]
    reasons = scene.failures()
    assert "SIGSEGV" in reasons["crash.png"]
    assert "memory" in reasons["hungry.png"]
    assert "took longer than 6 s" in reasons["endless.png"]
    assert "a planted bug" in reasons["bug.png"]


def test_a_sheet_that_vanishes_while_it_is_read_is_no_failure(scene: Scene) -> None:
    scene.put("vanish.png")
    scene.put("1.png", "904")
    assert scene.once() == Counts(read=1)
    assert scene.heard.count("vanish.png: is gone from the inbox") == 1
    assert scene.files("failed") == []


def test_a_sheet_that_changes_while_it_is_read_is_read_again(scene: Scene) -> None:
    scene.put("gated.png", "904")
    for pipe in ("began", "go"):
        os.mkfifo(scene.place / pipe)

    def change() -> None:
        with (scene.place / "began").open() as began:
            began.read()
        (scene.inbox / "gated.png").write_bytes(drawn("37"))
        (scene.place / "began").unlink()
        with (scene.place / "go").open("w") as go:
            go.write("x")
        scene.heard.wait("gated.png: read")

    scene.play(change)
    assert scene.heard.count("has changed while it was read") == 1
    assert scene.listed() == {"gated.png": "37"}


@pytest.mark.skipif(not HOSTILE.is_dir(), reason=f"no hostile files at {HOSTILE}: set DIGITIZE_SHARED")
def test_hostile_files_dropped_in_at_once_cost_no_good_sheet(scene: Scene) -> None:
    good = {f"{place}/good.png" for place in ("a", "images", "z")}
    for name in good:
        scene.put(name)
    shutil.copytree(HOSTILE, scene.inbox, symlinks=True, dirs_exist_ok=True)
    dropped = {found.name for found in watch._walk(scene.inbox)}
    # Every file is opened and decoded as it always is; to look for digits on all of them would take minutes.
    counts = scene.once(jobs=2, recipe=LoaderRecipe())
    assert counts.read + counts.failed == len(dropped) > 400
    results = {name.removesuffix(".csv") for name in scene.files("results")}
    failures = scene.failures()
    assert results | set(failures) == dropped
    assert not results & set(failures)
    assert good <= results
    assert len(failures) > 20
    assert all(re.fullmatch(r"[^\n]+: [^\n]+; [^\n]+", error) for error in failures.values())


# The end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_sheet_in_hand_be_finished(scene: Scene, number: signal.Signals) -> None:
    scene.put("gated.png", "904")
    for pipe in ("began", "go"):
        os.mkfifo(scene.place / pipe)

    def stop() -> None:
        with (scene.place / "began").open() as began:
            began.read()
        scene.put("late.png")
        os.kill(os.getpid(), number)
        with (scene.place / "go").open("w") as go:
            go.write("x")
        scene.heard.wait("stopped:")

    handler = signal.signal(signal.SIGTERM, lambda *_: None)  # the scene's own at the end comes after the watch's
    try:
        counts = scene.play(stop)
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert counts == Counts(read=1, stopped_by=number)
    assert counts.interrupted == (number == signal.SIGINT)
    assert scene.listed() == {"gated.png": "904"}
    (scene.place / "began").unlink()
    assert scene.once() == Counts(read=1)


# Folders, locks and disks


def test_folders_in_one_another_are_refused(scene: Scene) -> None:
    for inbox, outbox in [("inbox", "inbox/out"), ("inbox", "inbox"), ("inbox", "."), ("inbox", "inbox/../inbox/x")]:
        with pytest.raises(UsageError, match="lie in one another"):
            watch.watch(Options(scene.place / inbox, scene.place / outbox))
    with pytest.raises(UsageError, match="is no folder"):
        watch.watch(Options(scene.place / "missing", scene.outbox))
    (scene.place / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        watch.watch(Options(scene.inbox, scene.place / "file"))


def test_a_resolution_that_none_can_have_is_refused_before_any_sheet_fails() -> None:
    for dpi in (10.0, 3000.0, float("nan")):
        with pytest.raises(UsageError, match="--dpi"):
            batch.Recipe(dpi=dpi)


def test_a_second_watch_on_the_same_folders_is_refused(scene: Scene) -> None:
    def second() -> None:
        with pytest.raises(UsageError, match="another digitize watch"):
            watch.watch(Options(scene.inbox, scene.place / "other"))
        (scene.place / "inbox2").mkdir()
        with pytest.raises(UsageError, match="another digitize watch"):
            watch.watch(Options(scene.place / "inbox2", scene.outbox))
        assert "a watch is running" in watch.status(scene.outbox)

    scene.play(second)
    assert scene.once() == Counts(), "the lock is gone with the one who held it"


def test_folders_that_may_not_be_opened_are_said(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    opens = os.open
    forbidden = scene.outbox / ledger.OWN_FOLDER / ledger.LOCK_FILE

    def refuse(path: Any, *how: Any, **more: Any) -> int:
        if path == forbidden:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opens(path, *how, **more)

    book = Ledger(scene.outbox)
    (scene.outbox / ledger.OWN_FOLDER).mkdir(parents=True)
    book.open(scene.inbox)
    book.close()
    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(OutputError, match="lock: cannot be opened: Permission denied"):
        scene.once()
    assert "whether a watch runs is not known" in watch.status(scene.outbox)
    forbidden = scene.inbox
    with pytest.raises(UsageError, match="inbox: cannot be opened: Permission denied"):
        scene.once()


def test_who_asks_for_the_status_keeps_no_watch_from_starting(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = scene.place / "lock"
    asking = os.open(lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(asking, fcntl.LOCK_SH)
    assert watch._is_held(lock) is False, "another who asks is no watch"
    monkeypatch.setattr("digitize.watch.time.sleep", lambda _: os.close(asking))
    with watch._locked(lock, lock, OutputError):
        assert watch._is_held(lock) is True


def test_a_model_that_is_not_there_is_an_error_at_the_start(scene: Scene) -> None:
    (scene.model / models.TFLITE_FILE).write_bytes(b"another")
    with pytest.raises(ModelError, match="sha256"):
        scene.once()


def test_a_full_disk_is_waited_out(scene: Scene) -> None:
    scene.put("0.png", "904")
    scene.once()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill() -> None:
        (scene.place / "staged.png").write_bytes(drawn("37"))
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, ((scene.outbox / "all.csv").stat().st_size + 20, hard))
            (scene.place / "staged.png").rename(scene.inbox / "1.png")
            scene.heard.wait("cannot be written")
            assert scene.listed() == {"0.png": "904"}
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        scene.heard.wait("can be written again")
        scene.put("2.png", "5216")
        scene.heard.wait("2.png: read")

    scene.play(fill)
    assert scene.heard.count("cannot be written") == 1, "once a minute"
    assert scene.listed() == {"0.png": "904", "1.png": "37", "2.png": "5216"}
    assert scene.files("failed") == []
    assert [name for name in scene.files(".") if name.endswith(".part")] == []


def test_a_full_disk_is_no_try_of_a_file(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    notes, left = Ledger.note_trouble, watch.TRIES
    noted = []

    def fail(book: Ledger, found: Found, error: str, tries: int) -> None:
        nonlocal left
        if left:
            left -= 1
            raise OutputError("the disk is full")
        noted.append(tries)
        notes(book, found, error, tries)

    monkeypatch.setattr(Ledger, "note_trouble", fail)
    (scene.inbox / "1.png").write_bytes(b"")
    assert scene.once() == Counts(failed=1)
    assert noted == list(range(1, watch.TRIES))


class Idle:
    """Stands for processes that have nothing to do."""

    idle, mark = 1, "a mark"

    def close(self) -> None:
        """End them."""


def test_a_sheet_that_vanishes_while_the_disk_is_full_is_no_failure(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lock(path: Path) -> str:
        raise UnsettledSheetError(f"{path}: is locked")

    def fail(*_: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr("digitize.watch._Watcher._start_pool", lambda _: None)
    monkeypatch.setattr("digitize.watch._Watcher._have_pool", lambda _: True)
    monkeypatch.setattr("digitize.sheets.sha256", lock)
    scene.put("1.png", "904")
    with watch._Watcher(Options(scene.inbox, scene.outbox, settle=0.0, trouble_pause=0.0, poll=60.0)) as watcher:
        watcher._pool = Idle()
        with monkeypatch.context() as full:
            full.setattr(Ledger, "note_trouble", fail)
            watcher._walk(0.0)
            watcher._settle(math.inf)
            watcher._feed()
        scene.put("1.png", "3721")
        watcher._walk(0.0)
        (scene.inbox / "1.png").unlink()
        watcher._settle(math.inf)
        watcher._write()
    assert scene.heard.count("1.png: is gone from the inbox") == 1


@pytest.fixture
def mounted(scene: Scene) -> Iterator[None]:
    """A small file system for an OUTBOX."""
    scene.outbox.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(scene.outbox)]
    if shutil.which("mount") is None or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield
    subprocess.run(["umount", "-l", str(scene.outbox)], check=True, capture_output=True)


@pytest.mark.usefixtures("mounted")
def test_a_small_file_system_that_fills_is_waited_out(scene: Scene) -> None:
    def fill() -> None:
        scene.put("1.png", "904")
        scene.heard.wait("1.png: read")
        filler = scene.outbox / "filler"
        with filler.open("wb", buffering=0) as stream:
            for size in (4096, 1):
                try:
                    while stream.write(b"x" * size):
                        pass
                except OSError:
                    pass
        scene.put("2.png", "37")
        scene.heard.wait("cannot be written")
        assert scene.listed() == {"1.png": "904"}
        filler.unlink()
        scene.heard.wait("2.png: read")

    scene.play(fill)
    assert scene.listed() == {"1.png": "904", "2.png": "37"}


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nothing below a folder be written: by its permissions, or for root, who has them all, by a mount over it."""
    if os.geteuid():
        folders = [path for path in (folder, *folder.rglob("*")) if path.is_dir()]
        for path in folders:
            path.chmod(0o555)
        yield
        for path in folders:
            path.chmod(0o755)
        return
    if subprocess.run(["mount", "--bind", folder, folder], check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True, capture_output=True)
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True, capture_output=True)


def test_an_outbox_that_becomes_read_only_is_waited_out(scene: Scene) -> None:
    def lock() -> None:
        scene.put("1.png", "904")
        scene.heard.wait("1.png: read")
        with read_only(scene.outbox):
            scene.put("2.png", "37")
            scene.heard.wait("cannot be written")
            assert scene.listed() == {"1.png": "904"}
        scene.heard.wait("2.png: read")

    scene.play(lock)
    assert scene.listed() == {"1.png": "904", "2.png": "37"}
    assert scene.files("failed") == []


def test_an_inbox_that_vanishes_is_waited_for(scene: Scene) -> None:
    def vanish() -> None:
        scene.put("1.png", "904")
        scene.heard.wait("1.png: read")
        scene.inbox.rename(scene.place / "elsewhere")
        scene.heard.wait("cannot be watched")
        (scene.place / "elsewhere").rename(scene.inbox)
        scene.heard.wait("is there again")
        scene.put("2.png", "37")
        scene.heard.wait("2.png: read")
        shutil.rmtree(scene.inbox)
        scene.heard.wait("cannot be watched", 2)
        scene.inbox.mkdir()
        scene.put("3.png", "5216")
        scene.heard.wait("3.png: read")

    scene.play(vanish, rescan=0.2)
    assert scene.listed() == {"1.png": "904", "2.png": "37", "3.png": "5216"}


def test_a_model_that_is_swapped_is_loaded_anew_and_a_broken_one_waited_for(scene: Scene) -> None:
    tflite, card = scene.model / models.TFLITE_FILE, scene.model / models.CARD_FILE

    def swap() -> None:
        scene.put("1.png", "904")
        scene.heard.wait("1.png: read")
        tflite.write_bytes(b"a better one")
        scene.put("2.png", "37")
        scene.heard.wait("sheets wait until that is mended")
        content = {**json.loads(card.read_text()), "name": "better"}
        models.write_card(scene.model, content)
        scene.heard.wait("2.png: read")

    scene.play(swap)
    assert scene.heard.count("the model has changed") >= 1
    assert scene.listed() == {"1.png": "904", "2.png": "37"}
    assert scene.files("failed") == []


# The ledger


def reading(text: str) -> SheetReading:
    digits = tuple(Digit(int(c), 0.5, 1, 0.25, "review", Box(9 * k, 1, 8, 9)) for k, c in enumerate(text))
    return SheetReading("", "", (PageReading(1, 99, 20, (Line((Number(digits),)),)),))


@pytest.fixture
def book(scene: Scene) -> Iterator[Ledger]:
    """A ledger in the OUTBOX."""
    opened = Ledger(scene.outbox)
    opened.open(scene.inbox)
    yield opened
    opened.close()


@pytest.mark.parametrize("at", ["open", "read"])
def test_of_a_sheet_that_may_not_be_read_the_reason_is_kept(
    scene: Scene, book: Ledger, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    origin = Path("/proc/self/mem")  # can be opened; to read where nothing is mapped is an error
    if at == "open":
        scene.put("1.png")
        origin = scene.inbox / "1.png"
        monkeypatch.setattr("os.link", lock(origin, monkeypatch))
    elif not origin.exists():
        pytest.skip("no file here that can be opened and not read")
    assert book.list_failed(Found("1.png", 1, 1), "it is locked", origin) == "1.png"
    monkeypatch.undo()
    assert scene.files("failed") == ["1.png.json"]
    assert scene.failures() == {"1.png": "it is locked"}


def test_a_sheet_that_cannot_be_written_under_its_name_is_listed_under_another(scene: Scene, book: Ledger) -> None:
    for name in ("1.png", "1.png.csv/2.png"):  # a folder where a result lies
        book.list_read(Found(name, 1, 1, name), name, reading("904"))
    for name in ("a.png", "a.png/b.png"):
        (scene.inbox / "a").write_text("dear reader")
        book.list_failed(Found(name, 1, 1, name), "is text", scene.inbox / "a")
    assert book.list_read(Found("3.png", 1, 1, "cc"), "k", reading("37")) == "3.png"
    (plain,) = (name for name in scene.listed() if name.startswith("sheet-"))
    assert scene.listed() == {"1.png": "904", plain: "904", "3.png": "37"}
    notes = {json.loads(path.read_text())["source"]: path.stem for path in (scene.outbox / "failed").glob("*.json")}
    assert sorted(notes) == ["a.png", "a.png/b.png"]
    assert (scene.outbox / "failed" / notes["a.png/b.png"]).read_text() == "dear reader"
    assert scene.heard.count("cannot be written under this name") == 2


@pytest.mark.parametrize("at", ["_unwrite", "_carry_out_as"])
def test_a_sheet_that_died_leaves_failed_when_it_is_read_even_after_a_kill(
    scene: Scene, book: Ledger, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    def kill(*_: object) -> None:
        raise Killed

    scene.put("1.png", "904")
    found = Found("1.png", 1, 1, "aa")
    book.list_failed(found, "it crashed", scene.inbox / "1.png", state="died")
    assert book.state_of(found) is None
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, at, kill)
        with pytest.raises(Killed):
            book.list_read(found, "k", reading("904"))
    book.close()
    book.open(scene.inbox)
    assert ("1.png" in book.handled()) == (at == "_unwrite")
    assert book.list_read(found, "k", reading("904")) == "1.png"
    assert book.state_of(found) == "read"
    assert (book.tally().read, book.tally().failed) == (1, 0)
    assert scene.files("failed") == []


@pytest.mark.parametrize("state", ["read", "failed"])
def test_what_is_done_is_on_the_disk_with_the_folders_that_name_it(
    scene: Scene, book: Ledger, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    settled: set[int] = set()

    def settle(handle: int) -> None:
        settled.add(os.fstat(handle).st_ino)

    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr("os.fsync", settle)
    monkeypatch.setattr("os.link", refuse)
    found = Found("a/b/1.png", 1, 1, "aa")
    if state == "read":
        book.list_read(found, "k", reading("904"))
        wanted = ["all.csv", "results/a/b/1.png.csv", "."]
        folders = ["results/a/b", "results/a", "results"]
    else:
        scene.put("1.png")
        book.list_failed(found, "is text", scene.inbox / "1.png")
        wanted = ["failed/a/b/1.png", "failed/a/b/1.png.json"]
        folders = ["failed/a/b", "failed/a", "failed"]
    assert {(scene.outbox / name).stat().st_ino for name in wanted + folders} <= settled


def test_files_that_are_gone_are_no_trouble(scene: Scene, book: Ledger) -> None:
    for name in ("1.png", "2.png"):
        scene.put(name)
        book.note_trouble(Found(name, 1, 1), "is locked", 2)
    (scene.inbox / "1.png").unlink()
    assert "1.png: tried" not in watch.status(scene.outbox)
    assert "2.png: tried 2 times: is locked" in watch.status(scene.outbox)


def test_folders_whose_names_are_long_and_no_text_are_listed(scene: Scene, book: Ledger) -> None:
    name = os.fsdecode(b"\xff" * 70 + b"/1.png")
    listed = book.list_read(Found(name, 1, 1, "aa"), "k", reading("904"))
    assert listed.startswith(r"\xff\xff")
    assert listed.endswith("/1.png")
    assert scene.listed() == {listed: "904"}


@pytest.mark.parametrize(("letter", "count"), [("[", 1), ("🖋", 49)])
def test_what_was_begun_of_a_sheet_is_removed(scene: Scene, book: Ledger, letter: str, count: int) -> None:
    name = f"{letter * count}.png"
    target = scene.outbox / ledger.RESULTS / f"{name}.csv"
    with write.open_output(target):
        (part,) = target.parent.iterdir()
    part.touch()  # as whoever is killed leaves it
    book._unwrite("read", name)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("forbidden", ["rename", "unlink"])
def test_a_sheet_that_cannot_be_taken_away_is_not_copied_again_and_again(
    scene: Scene, book: Ledger, monkeypatch: pytest.MonkeyPatch, forbidden: str
) -> None:
    origin = scene.inbox / "1.png"
    origin.write_bytes(b"a sheet")
    does = Path.unlink

    def refuse_rename(*_: object) -> None:
        number = errno.EACCES if forbidden == "rename" else errno.EXDEV
        raise OSError(number, os.strerror(number))

    def refuse_unlink(path: Path, *how: Any, **more: Any) -> None:
        if path == origin:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        does(path, *how, **more)

    monkeypatch.setattr(Path, "rename", refuse_rename)
    monkeypatch.setattr(Path, "unlink", refuse_unlink)
    with pytest.raises(OutputError, match="Permission denied"):
        book.take_away(origin, "1.png")
    assert scene.files("done") == []
    assert origin.read_bytes() == b"a sheet"


def test_a_sheet_whose_folder_is_called_like_one_that_is_done_is_put_away(scene: Scene, book: Ledger) -> None:
    for name in ("a.png", "a.png/b.png", "a.png/b.png"):
        (scene.place / "sheet").write_text(name)
        book.take_away(scene.place / "sheet", name)
    first, second, third = scene.files("done")
    assert (first, third) == ("a.png", f"{second}~2")
    assert (scene.outbox / "done" / second).read_text() == "a.png/b.png"
    assert second.startswith("sheet-")
    assert second.endswith(".png")


class Killed(BaseException):
    """Stands for a kill: nothing that the ledger would catch."""


def put_read(scene: Scene, book: Ledger) -> Path:
    """A sheet in the inbox that stands in the ledger as read."""
    path = scene.inbox / "1.png"
    path.write_bytes(b"a sheet")
    book.list_read(Found("1.png", 7, 1, sheets.sha256(path)), "k", reading("904"))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*")}


@pytest.mark.parametrize(
    ("done", "came", "inbox", "away"),
    [
        ("move", None, {}, {"1.png": b"a sheet"}),
        ("delete", None, {}, {}),
        ("keep", None, {"1.png": b"a sheet"}, {}),
        ("move", b"another", {"1.png": b"another"}, {"1.png": b"a sheet"}),
        ("keep", b"another", {"1.png": b"another"}, {"1.png": b"a sheet"}),
    ],
)
def test_what_a_kill_left_set_aside_is_put_away(
    scene: Scene,
    book: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    *,
    done: Done,
    came: bytes | None,
    inbox: dict[str, bytes],
    away: dict[str, bytes],
) -> None:
    def kill(*_: object) -> None:
        raise Killed

    path = put_read(scene, book)
    with monkeypatch.context() as patched:
        patched.setattr("digitize.ledger.Ledger.take_away", kill)
        with pytest.raises(Killed):
            Away(book, scene.inbox, "move").put_away("1.png", "1.png")
    assert not path.exists()
    if came is not None:
        path.write_bytes(came)
    assert Away(book, scene.inbox, done).finish() == []
    assert contents(scene.inbox) == inbox
    assert contents(scene.outbox / "done") == away
    assert book.set_aside() == []


def test_what_is_not_what_was_read_is_put_back(scene: Scene, book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put_read(scene, book)
    path.write_bytes(b"another")
    assert not Away(book, scene.inbox, "delete").put_away("1.png", "1.png")
    assert contents(scene.inbox) == {"1.png": b"another"}
    rename = Path.rename

    def and_one_more_comes(origin: Path, target: Path) -> None:
        rename(origin, target)
        monkeypatch.undo()
        path.write_bytes(b"a third")

    monkeypatch.setattr(Path, "rename", and_one_more_comes)
    assert not Away(book, scene.inbox, "delete").put_away("1.png", "1.png")
    assert contents(scene.inbox) == {"1.png": b"a third", "1~2.png": b"another"}


def test_what_cannot_be_put_away_is_put_back(scene: Scene, book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OutputError("the disk is full")

    put_read(scene, book)
    monkeypatch.setattr("digitize.ledger.Ledger.take_away", fail)
    with pytest.raises(OutputError, match="full"):
        Away(book, scene.inbox, "move").put_away("1.png", "1.png")
    assert contents(scene.inbox) == {"1.png": b"a sheet"}
    assert book.set_aside() == []


@pytest.mark.parametrize("at", ["ledger._put_file", "ledger.Ledger._append", "write._take_place"])
def test_what_a_kill_left_half_done_is_undone(scene: Scene, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    book = Ledger(scene.outbox)
    book.open(scene.inbox)
    book.list_read(Found("a/1.png", 1, 1, "aa"), "k1", reading("904"))
    before = (scene.outbox / "all.csv").read_bytes()

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(f"digitize.{at}", kill)
        with pytest.raises(Killed):
            book.list_read(Found("a/2.png", 1, 1, "bb"), "k2", reading("37"))
    book.close()
    again = Ledger(scene.outbox)
    again.open(scene.inbox)
    assert (scene.outbox / "all.csv").read_bytes() == before
    assert scene.files("results") == ["a/1.png.csv"]
    assert again.list_read(Found("a/2.png", 1, 1, "bb"), "k2", reading("37")) == "a/2.png"
    again.close()
    assert scene.listed() == {"a/1.png": "904", "a/2.png": "37"}


def test_nothing_is_cut_where_nothing_was_begun(scene: Scene) -> None:
    book = Ledger(scene.outbox)
    book.open(scene.inbox)
    book.list_read(Found("1.png", 1, 1, "aa"), "k1", reading("904"))
    book.close()
    with (scene.outbox / "all.csv").open("ab") as stream:
        stream.write(b"a remark")
    again = Ledger(scene.outbox)
    again.open(scene.inbox)
    again.list_read(Found("2.png", 1, 1, "bb"), "k2", reading("37"))
    again.close()
    lines = (scene.outbox / "all.csv").read_text().splitlines()
    assert lines[4] == "a remark"
    assert [line.split(",")[0] for line in lines] == ["source", *["1.png"] * 3, "a remark", *["2.png"] * 2]


def test_the_status_says_what_was_read_failed_and_is_waiting(scene: Scene) -> None:
    scene.put("1.png", "904")
    scene.put("text.png")
    (scene.inbox / "text.png").write_text("dear reader")
    scene.once()
    scene.put("new.png")
    said = watch.status(scene.outbox)
    assert "no watch runs" in said
    assert "read: 1 sheets, 3 digits" in said
    assert "failed: 1 sheets\n  text.png: " in said
    assert "waiting: 1 files" in said
    with pytest.raises(UsageError, match="nothing was ever watched"):
        watch.status(scene.inbox)


def test_the_status_of_a_watch_that_never_began_counts_no_other_folder(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scene.outbox / ledger.OWN_FOLDER).mkdir(parents=True)
    book = Ledger(scene.outbox)
    book.handled()
    book.close()
    scene.put("1.png")
    monkeypatch.chdir(scene.inbox)
    said = watch.status(scene.outbox)
    assert said.startswith("no inbox yet -> ")
    assert said.endswith("waiting: not known, no inbox is noted")


def test_names_that_are_no_text_are_listed(scene: Scene) -> None:
    name = os.fsdecode(b"\xff.png")
    try:
        (scene.inbox / name).write_bytes(drawn("904"))
    except OSError:
        pytest.skip("this file system takes only text for names")
    assert scene.once() == Counts(read=1)
    assert scene.listed() == {r"\xff.png": "904"}
    assert scene.once() == Counts()


def test_a_name_that_is_no_text_may_bring_its_process_down_and_be_tried_again(scene: Scene, book: Ledger) -> None:
    name = os.fsdecode(b"crash\xff.png")
    book.close()
    try:
        scene.put(name)
    except OSError:
        pytest.skip("this file system takes only text for names")
    assert scene.once() == Counts(failed=1)
    assert r"crash\xff.png" in watch.status(scene.outbox)
    (error,) = scene.failures().values()
    assert r"crash\udcff.png: the process that read it" in error


def test_trouble_with_a_name_that_is_no_text_is_noted_and_said(scene: Scene, book: Ledger) -> None:
    name = os.fsdecode(b"\xff.png")
    scene.put(name)
    book.note_trouble(Found(name, 1, 1), f"{name}: is locked", 1)
    book.list_failed(Found(name, 2, 2), f"{name}: is text", scene.inbox / name)
    said = watch.status(scene.outbox)
    said.encode()
    assert r"\xff.png: \udcff.png: is text" in said


def test_names_as_long_as_can_be_are_listed(scene: Scene) -> None:
    names = [f"{letter * 251}.png" for letter in "ab"]
    names.append("ü" * 125 + ".png")
    for name in names:
        scene.put(name)
    (scene.inbox / f"{'t' * 251}.png").write_text("dear reader")
    assert scene.once() == Counts(read=3, failed=1)
    assert len(scene.listed()) == 3
    assert len(scene.files("failed")) == 2
    assert scene.once() == Counts()


def test_the_ledgers_folder_is_where_it_is_said_to_be(scene: Scene) -> None:
    scene.once()
    assert scene.files(ledger.OWN_FOLDER) == [ledger.BASE_FILE, ledger.LOCK_FILE]
