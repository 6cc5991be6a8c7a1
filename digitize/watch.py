"""A folder worked through as files arrive: what `digitize watch` does once its options are parsed.

One thread decides everything; processes read (`workers.py`), and the ledger alone writes (`ledger.py`). A file goes
through states:

    seen ──> settled ──> reading ──> read
     ^          │           ├──────> failed
     └──changed─┴───────────┴──────> waiting to be tried again

Events of the file system only say where to look. What counts is what lies there: a file has settled when its size and
time have stayed the same for a while, is looked at again after it was read, and a walk through the whole folder every
few minutes finds whatever no event told of, and what could not be opened and can be now. Nothing that goes wrong with
a file, a folder, the model or the disk ends the watch: it says so once a minute, keeps what waits, and goes on when it
can.
"""

from __future__ import annotations

import errno
import fnmatch
import heapq
import logging
import math
import os
import queue
import signal
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import connection
from pathlib import Path
from types import FrameType
from typing import Literal

from digitize import batch, journal, ledger, models, reviews, sheets, workers
from digitize.away import PREFIX, Away, Done
from digitize.errors import DigitizeError, OutputError, SheetError, UsageError
from digitize.ledger import Found, Ledger, State, Tally
from digitize.machine import usable_cores
from digitize.options import INBOX_FILE
from digitize.records import SheetReading
from digitize.write import Generator, encoded

log = logging.getLogger("digitize")

IGNORED = (".*", "Thumbs.db", "@eaDir", "*.part", "*.tmp", "~$*")  # what other programs keep beside sheets
SETTLE_SECONDS = 3.0  # without a change, from which a file is taken for whole
RESCAN_SECONDS = 120.0  # between walks through the whole inbox
BEAT_SECONDS = 60.0  # between lines that say that all is well, and between those that say the same trouble
TRIES, DEADLY_TRIES = 5, 2  # of a file whose trouble may pass, and of one that took its process along
MORE_PATIENCE = 20  # times that, for a file that lacks the end of its format
FIRST_PAUSE, PAUSE_GROWTH = 5.0, 3.0  # seconds before the second try, and times as long before each further one
REVIEW_SECONDS = 60.0  # between pages of review, unless one is full: one a sheet would be many to go through
TROUBLE_PAUSE = 5.0  # seconds until a full disk, a missing inbox or an invalid model is looked at again
EVENT_STEP, EVENT_DEBOUNCE, EVENT_TIMEOUT = 50, 200, 1000  # ms that events are gathered for
LOCK_SECONDS, LOCK_PAUSE = 1.0, 0.05  # that a lock is tried for, and between tries
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Options:
    """What is watched, and how.

    Attributes:
        inbox: the folder that sheets arrive in.
        outbox: the folder that gets the results.
        recipe: how sheets are read.
        jobs: processes that read; as many as there are cores where None.
        settle: seconds without a change from which a file is whole; many times as long where it lacks its end.
        poll: seconds between looks where no events come, as on network shares; None listens for events.
        rescan: seconds between walks through the inbox, whatever events say.
        done: what becomes of a sheet that was read.
        once: end when nothing waits any more.
        sheet_timeout: seconds a sheet may take.
        pause: seconds before a second try; times `PAUSE_GROWTH` before each further one.
        trouble_pause: seconds until a full disk, a missing inbox or an invalid model is looked at again.
        review_pause: seconds between pages of review that are not full.
    """

    inbox: Path
    outbox: Path
    recipe: batch.Recipe = field(default_factory=batch.Recipe)
    jobs: int | None = None
    settle: float = SETTLE_SECONDS
    poll: float | None = None
    rescan: float = RESCAN_SECONDS
    done: Done = "keep"
    once: bool = False
    sheet_timeout: float = workers.SHEET_SECONDS
    pause: float = FIRST_PAUSE
    trouble_pause: float = TROUBLE_PAUSE
    review_pause: float = REVIEW_SECONDS


@dataclass(slots=True)
class Counts:
    """What one run of the watch has done.

    Attributes:
        read, failed: sheets.
        unlooked: whether it gave up looking through a folder of the inbox; only with `Options.once`.
        stopped_by: the signal that ended it; 0 where it came to its end.
    """

    read: int = 0
    failed: int = 0
    unlooked: bool = False
    stopped_by: int = 0

    @property
    def interrupted(self) -> bool:
        """Whether it was ended by Ctrl-C."""
        return self.stopped_by == signal.SIGINT


@dataclass(slots=True)
class _File:
    """A file of the inbox that is not done.

    Attributes:
        found: as it was last seen.
        due: when it is to be looked at next, in monotonic seconds.
        state: "seen" waits to settle, or for its next try; "ready" waits for a process; "reading" is in one.
        tries: that failed.
        overdue: whether its end was waited for longer than for that of others.
        key: what its reading depends on, from when it is read.
    """

    found: Found
    due: float = 0.0
    key: str = ""
    state: Literal["seen", "ready", "reading"] = "seen"
    tries: int = 0
    overdue: bool = False


def watch(options: Options) -> Counts:
    """Work through a folder until nothing waits (`Options.once`) or a signal comes.

    Returns:
        What was done.

    Raises:
        UsageError: the folders lie in one another, are watched already, the inbox may not be listed, or this platform
            has no locks.
        OutputError: the OUTBOX cannot be written at the start; what happens later is waited out.
        ModelError, DeviceError: the model cannot be loaded at the start.
    """
    inbox, outbox = _apart(options.inbox, options.outbox)
    with ExitStack() as held:
        try:
            (outbox / ledger.OWN_FOLDER).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{outbox}: cannot be made: {error.strerror}; choose another with -o") from error
        held.enter_context(_locked(outbox / ledger.OWN_FOLDER / ledger.LOCK_FILE, outbox, OutputError))
        watcher = held.enter_context(_Watcher(replace(options, inbox=inbox, outbox=outbox)))
        return watcher.run()


def status(outbox: Path) -> str:
    """Say in a few lines what the watch that fills an OUTBOX has read, failed to read, and has waiting.

    Raises:
        UsageError: there is no ledger.
    """
    own = outbox / ledger.OWN_FOLDER
    if not (own / ledger.BASE_FILE).is_file():
        raise UsageError(f"{outbox}: nothing was ever watched into this folder; give the -o of digitize watch")
    book = Ledger(outbox)
    try:
        tally, handled = book.tally(), book.handled()
    finally:
        book.close()
    inbox = Path(tally.inbox) if tally.inbox else None  # a watch that was ended before it began has noted none
    running = {True: "a watch is running", False: "no watch runs", None: "whether a watch runs is not known"}
    lines = [f"{inbox or 'no inbox yet'} -> {outbox}: {running[_is_held(own / ledger.LOCK_FILE)]}"]
    lines.append(f"read: {tally.read} sheets, {tally.digits} digits, {tally.review} to review")
    beside = f"; {tally.unseen} sheets wait for the next" if tally.unseen else ""
    lines.append(f"to look at: {tally.pages} pages written into {outbox / reviews.FOLDER}{beside}")
    lines.append(f"failed: {tally.failed} sheets")
    lines += [f"  {name}: {error}" for name, error in tally.last_failures]
    if inbox is None:
        lines.append("waiting: not known, no inbox is noted")
    elif inbox.is_dir():
        missed: list[Path] = []
        there = list(_walk(inbox, miss=lambda path, _: missed.append(path)))
        waiting = [found for found in there if handled.get(found.name, ())[:2] != (found.size, found.mtime_ns)]
        beyond = f", and what lies in {len(missed)} folders that cannot be looked at" if missed else ""
        lines.append(f"waiting: {len(waiting)} files{beyond}")
    else:
        lines.append(f"waiting: not known, {inbox} is not there")
    for name, error, tries in tally.troubles:
        if inbox is None or not inbox.is_dir() or _found(inbox, name) is not None:  # else it has gone since
            lines.append(f"  {name}: tried {tries} times: {error}")
    return encoded("\n".join(lines)).decode()  # names that are no text, too


class _Watcher:
    """The state of a watch; a context, which holds the inbox, the ledger and the processes."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._inbox = options.inbox
        self._ledger = Ledger(options.outbox)
        self._away = Away(self._ledger, self._inbox, options.done)
        self._counts = Counts()
        self._files: dict[str, _File] = {}
        self._handled: dict[str, tuple[int, int, State]] = {}
        self._due: list[tuple[float, str]] = []  # a heap; entries that no longer fit their file are passed over
        self._ready: deque[str] = deque()
        self._in_hand: dict[int, str] = {}
        self._tickets = 0
        self._outcomes: deque[tuple[str, SheetReading, bool]] = deque()  # read, and still to be written
        self._passed_over: set[str] = set()
        self._missed: list[str] = []  # folders and files that could not be looked at in the walk under way
        self._blind = 0  # walks on end in which not everything could be
        self._troubles: dict[str, float] = {}
        self._next_walk = self._next_beat = 0.0
        self._next_pool = self._next_write = self._next_page = self._next_away = 0.0
        self._unseen = reviews.Unseen()
        self._generator = Generator("", "", "")
        self._pool: workers.Pool | None = None
        self._stamp: tuple[object, ...] = ()
        self._events: _Events | None = None
        self._inbox_lock: ExitStack | None = None
        self._inbox_place: tuple[int, int] | None = None
        self._wake, self._woken = -1, -1

    def __enter__(self) -> _Watcher:
        self._held = ExitStack()
        with ExitStack() as held:
            self._wake, self._woken = os.pipe()
            held.callback(os.close, self._wake)
            held.callback(os.close, self._woken)
            for end in (self._wake, self._woken):
                os.set_blocking(end, False)
            held.enter_context(self._signals())
            held.callback(self._let_go_of_inbox)
            self._hold_inbox()
            self._ledger.open(self._inbox, seconds=self._options.sheet_timeout)
            held.callback(self._ledger.close)
            self._handled = self._ledger.handled()
            self._unseen = self._ledger.unseen()
            held.callback(self._end_pool)
            self._start_pool()
            self._held = held.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def run(self) -> Counts:
        """Watch."""
        log.info("watching %s; results go to %s", self._inbox, self._options.outbox)
        while True:
            self._take_events()
            now = time.monotonic()
            if now >= self._next_beat:
                self._beat(now)
            if now >= self._next_walk:
                self._walk(now)
            self._settle(now)
            self._write()
            self._write_pages(now)
            if not self._counts.stopped_by:
                self._feed()
            if self._is_over():
                break
            self._collect()
        self._write_pages(math.inf)
        tally = f"{self._counts.read} sheets read, {self._counts.failed} failed"
        ended = "not everything could be looked at" if self._counts.unlooked else "nothing waits any more"
        log.info("%s: %s", "stopped" if self._counts.stopped_by else ended, tally)
        return self._counts

    def _is_over(self) -> bool:
        """Whether all that has to be done before the end is done."""
        if self._counts.stopped_by:
            written = not self._outcomes or "outbox" in self._troubles  # a full disk is not waited for
            return not self._in_hand and written
        if not self._options.once or self._files or self._outcomes:
            return False
        if self._blind >= TRIES:
            self._counts.unlooked = True
            return True
        if self._blind:
            return False  # what could not be looked at is tried again first
        self._walk(time.monotonic())
        return not self._files and not self._blind

    # Looking

    def _walk(self, now: float) -> None:
        """Look at every file of the inbox."""
        self._next_walk = now + min(self._options.rescan, self._options.poll or self._options.rescan)
        self._missed.clear()
        whole = self._hold_inbox_again() and self._look_at_all()
        self._blind = 0 if whole else self._blind + 1
        if not whole and (self._options.once or not self._missed):
            self._next_walk = now + self._options.trouble_pause

    def _look_at_all(self) -> bool:
        """Look at every file of the inbox, which is held; whether all of them could be seen."""
        self._finish_putting_away()
        there = set()
        try:
            for found in _walk(self._inbox, self._pass_over, self._miss):
                there.add(found.name)
                self._look_at(found)
        except OSError as error:
            self._say("inbox", f"{self._inbox}: cannot be looked through: {error.strerror}; it is tried again")
            return False
        if self._missed:
            return False  # nor can be said what is gone
        for name in [name for name, file in self._files.items() if file.state == "seen" and name not in there]:
            self._forget(name)
        for name in [name for name in self._handled if name not in there]:
            del self._handled[name]  # should it come back, its content tells whether it is known
        return True

    def _look_at(self, found: Found) -> None:
        """Take in what lies at one path."""
        file = self._files.get(found.name)
        done = self._handled.get(found.name)
        if file is None and done is not None and done[:2] == (found.size, found.mtime_ns):
            if done[2] == "read" and self._options.done != "keep":
                self._put_away(found, "")
            if done[2] != "locked" or not _opens(self._inbox / found.name):
                return
        if file is None:
            file = self._files[found.name] = _File(found)
        elif file.state != "reading" and _differs(file.found, found):
            file.found, file.tries, file.overdue = found, 0, False
        else:
            return
        self._wait(file, self._options.settle)

    def _wait(self, file: _File, seconds: float) -> None:
        """Look at a file again after a while."""
        file.state, file.due = "seen", time.monotonic() + seconds
        heapq.heappush(self._due, (file.due, file.found.name))

    def _settle(self, now: float) -> None:
        """Look again at files whose time has come; those that have not changed are ready."""
        while self._due and self._due[0][0] <= now:
            due, name = heapq.heappop(self._due)
            file = self._files.get(name)
            if file is None or file.state != "seen" or file.due != due:
                continue
            found = _found(self._inbox, name)
            if found is None:
                self._forget(name)
            elif _differs(file.found, found):
                self._look_at(found)
            elif not file.overdue and not sheets.has_end(self._inbox / name):
                file.overdue = True
                self._wait(file, MORE_PATIENCE * self._options.settle)
            else:
                file.state = "ready"
                self._ready.append(name)

    def _take_events(self) -> None:
        """Look where something has changed."""
        with suppress(BlockingIOError):
            while os.read(self._wake, 4096):
                pass
        if self._events is None:
            return
        for path in self._events.changed():
            if path is None:
                self._next_walk = 0.0
                continue
            name = os.path.relpath(path, self._inbox)
            if name == os.curdir or name.startswith(os.pardir):
                self._next_walk = 0.0
                continue
            for found in _walk(self._inbox, self._pass_over, self._miss, below=name):
                self._look_at(found)

    def _forget(self, name: str) -> None:
        del self._files[name]
        log.info("%s: is gone from the inbox; it was not read", name)

    def _pass_over(self, name: str) -> None:
        """Say once that a file is of no kind that is read."""
        if name not in self._passed_over and name != INBOX_FILE:
            self._passed_over.add(name)
            log.info("%s: is left alone; files that are read end in %s", name, " ".join(sorted(sheets.SUFFIXES)))

    def _miss(self, path: Path, error: OSError) -> None:
        """Note that a folder or file could not be looked at."""
        self._missed.append(str(path))
        self._say(f"look at {path}", f"{path}: cannot be looked at: {error.strerror}; it is tried again")

    # Reading

    def _feed(self) -> None:
        """Hand sheets to processes that have nothing to do."""
        if self._outcomes or time.monotonic() < self._next_write or not self._have_pool():
            return
        held_back = []
        while self._ready and self._pool is not None and self._pool.idle and not self._outcomes:
            if time.monotonic() < self._next_write:
                break
            name = self._ready.popleft()
            file = self._files.get(name)
            if file is None or file.state != "ready":
                continue
            path = self._inbox / name
            try:
                file.found = replace(file.found, sha256=sheets.sha256(path))
            except SheetError as error:
                file.state = "reading"  # until its outcome is written
                self._outcomes.append((name, SheetReading(name, "", (), str(error), passing=True), False))
                continue
            file.key = journal.key_of(file.found.sha256, self._pool.mark)
            if any(self._files[other].found.sha256 == file.found.sha256 for other in self._in_hand.values()):
                held_back.append(name)  # the same content is being read
            elif not self._know(file):
                self._tickets += 1
                file.state = "reading"
                self._in_hand[self._tickets] = name
                self._pool.submit(self._tickets, sheets.Sheet(name, path=path))
        self._ready.extend(held_back)
        if self._outcomes:
            self._write()

    def _know(self, file: _File) -> bool:
        """Whether a file's content needs no reading: it stood at this path before, or was read under another name."""
        try:
            state = self._ledger.state_of(file.found)
            if state is not None:
                log.info("%s: is the same as before; it is not read again", file.found.name)
                self._ledger.note_seen_again(file.found, state)
                self._settled_as(file.found, state, "")
                return True
            reading = self._ledger.reading(file.key, file.found.name)
            if reading is not None:
                names = ", ".join(self._ledger.names_of(file.found.sha256)) or "a sheet read before"
                log.info("%s: has the content of %s; it is listed too, and not read again", file.found.name, names)
                file.state = "reading"
                self._outcomes.append((file.found.name, reading, False))
                return True
        except OutputError as error:
            self._no_writing(error)
            self._ready.appendleft(file.found.name)
            return True
        return False

    def _collect(self) -> None:
        """Wait for whatever comes first: what was read, an event, a signal, or the time to look at something."""
        timeout = max(0.0, self._next_time() - time.monotonic())
        try:
            if self._pool is None:
                connection.wait([self._wake], timeout)
                return
            for outcome in self._pool.wait(timeout, [self._wake]):
                name = self._in_hand.pop(outcome.ticket)
                self._outcomes.append((name, outcome.reading, outcome.died))
        except DigitizeError as error:
            self._no_model(error)

    def _next_time(self) -> float:
        """When something is to be done though nothing happens, in monotonic seconds."""
        times = [self._next_beat, self._next_walk]
        if self._unseen.sheets and self._is_quiet():
            times.append(max(self._next_page, self._next_write))
        if self._due:
            times.append(self._due[0][0])
        if self._outcomes:
            times.append(self._next_write)
        elif self._pool is None:
            times.append(self._next_pool)
        elif self._ready and self._pool.idle and not self._in_hand:
            times.append(max(self._next_write, time.monotonic()))
        return min(times)

    # Processes and their models

    def _have_pool(self) -> bool:
        """Whether there are processes with the model that lies there now."""
        if self._pool is not None and self._stamp != _stamp(self._options.recipe):
            if self._in_hand:
                return False  # first what they have in hand
            log.info("the model has changed; it is loaded anew")
            self._end_pool()
        if self._pool is None and time.monotonic() >= self._next_pool:
            try:
                self._start_pool()
            except DigitizeError as error:
                self._no_model(error)
        return self._pool is not None

    def _start_pool(self) -> None:
        options = self._options
        stamp = _stamp(options.recipe)
        jobs = options.jobs or usable_cores()
        count = batch.usable_processes(jobs, options.recipe.device, jobs)
        recipe = replace(options.recipe, threads=1) if count > 1 else options.recipe
        pool = workers.Pool(recipe, workers=count, limits=workers.Limits(seconds=options.sheet_timeout))
        try:
            pool.start()
        except BaseException:
            pool.close()
            raise
        self._pool, self._stamp = pool, stamp
        self._generator = batch.generator_of(options.recipe)

    def _end_pool(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _no_model(self, error: DigitizeError) -> None:
        """Let sheets wait until the model can be loaded."""
        self._say("model", f"{error}; sheets wait until that is mended")
        self._end_pool()
        self._next_pool = time.monotonic() + self._options.trouble_pause
        for name in self._in_hand.values():
            self._files[name].state = "ready"
            self._ready.append(name)
        self._in_hand.clear()

    # Writing

    def _write(self) -> None:
        """Write what was read, as long as that is possible."""
        if not self._outcomes or time.monotonic() < self._next_write:
            return
        while self._outcomes:
            name, reading, died = self._outcomes[0]
            try:
                self._write_one(self._files[name], reading, died)
            except OutputError as error:
                self._no_writing(error)
                return
            self._outcomes.popleft()
        self._written_again()

    def _written_again(self) -> None:
        if self._troubles.pop("outbox", None) is not None:
            log.info("%s: can be written again", self._options.outbox)

    def _write_pages(self, now: float) -> None:
        """Write pages of review: of what fills one, and of the rest when nothing else waits, now and then.

        Args:
            now: monotonic seconds; infinity at the end, when everything is to be on a page.
        """
        while self._unseen.sheets and (now >= self._next_write or now == math.inf):
            if not self._unseen.fill_a_page and not (now >= self._next_page and (self._is_quiet() or now == math.inf)):
                return
            try:
                page = self._ledger.write_page(self._generator, share=self._options.recipe.drawn.audit)
                self._unseen = self._ledger.unseen()
            except OutputError as error:
                self._no_writing(error)
                return
            self._written_again()
            if page is not None:
                log.info("%s: written, %d digits of %d sheets to look at", page.path, page.looks, page.sheets)
            self._next_page = time.monotonic() + self._options.review_pause

    def _is_quiet(self) -> bool:
        """Whether no sheet waits but those that are to be tried again."""
        return not self._outcomes and all(file.state == "seen" and file.tries for file in self._files.values())

    def _no_writing(self, error: OutputError) -> None:
        self._say("outbox", f"{error}; sheets wait until then")
        self._next_write = time.monotonic() + self._options.trouble_pause

    def _write_one(self, file: _File, reading: SheetReading, died: bool) -> None:
        """Write what became of a file, or see that it is tried again.

        Raises:
            OutputError: it cannot be written now.
        """
        found = file.found
        there = _found(self._inbox, found.name)
        if (there is not None and _differs(found, there)) or (reading.error is None and reading.sha256 != found.sha256):
            log.info("%s: has changed while it was read; it is read again", found.name)
            file.found, file.tries = there or found, 0
            self._wait(file, self._options.settle)
            return
        if reading.error is None:
            name = self._ledger.list_read(found, file.key, reading)
            if reviews.looks(reading.drawings):
                self._unseen = self._ledger.unseen()
            digits = [digit for page in reading.pages for *_, digit in page.digits()]
            review = sum(digit.status == "review" for digit in digits)
            log.info("%s: read, %d digits, %d to review", name, len(digits), review)
            self._counts.read += 1
            self._settled_as(found, "read", name)
            return
        inbox_there = self._inbox_place is not None and self._inbox.is_dir()
        if there is None and inbox_there:
            self._forget(found.name)
            return
        tries = file.tries + (there is not None)  # where the whole inbox is gone, that is not its fault
        if (reading.passing and tries < TRIES) or (died and tries < DEADLY_TRIES):
            self._ledger.note_trouble(found, reading.error, tries)
            file.tries = tries
            pause = self._options.pause * PAUSE_GROWTH ** max(0, tries - 1)
            log.warning("%s; it is tried again in %g s", reading.error, pause)
            self._wait(file, pause)
            return
        tried = f" (tried {tries} times)" if tries > 1 else ""
        origin = self._inbox / found.name
        state: State = "died" if died else "locked" if reading.passing and not _opens(origin) else "failed"
        name = self._ledger.list_failed(found, reading.error + tried, origin, state=state)
        log.error("%s%s", reading.error, tried)
        if reading.trace:
            log.debug("%s", reading.trace)
        self._counts.failed += 1
        self._settled_as(found, state, name)

    def _settled_as(self, found: Found, state: State, name: str) -> None:
        """A file is done: note that, and put it away if it was read."""
        self._files.pop(found.name, None)
        self._handled[found.name] = (found.size, found.mtime_ns, state)
        if state == "read" and self._options.done != "keep":
            self._put_away(found, name)

    def _put_away(self, found: Found, listed: str) -> None:
        """Move or delete a sheet that was read; what has come into its place meanwhile is looked at as new."""
        if time.monotonic() < self._next_away:
            return
        try:
            if self._away.put_away(found.name, listed or found.name):
                return
        except (OSError, DigitizeError) as error:
            self._no_putting_away(f"{self._inbox / found.name}: was read, and cannot be put away", error)
            return
        self._handled.pop(found.name, None)
        there = _found(self._inbox, found.name)
        if there is not None:
            self._look_at(there)

    def _finish_putting_away(self) -> None:
        """Go on with sheets that one that was killed was putting away."""
        try:
            for name in self._away.finish():
                self._handled.pop(name, None)
        except (OSError, DigitizeError) as error:
            self._no_putting_away(f"{self._inbox}: holds a sheet under a name with a dot, {PREFIX}...", error)

    def _no_putting_away(self, what: str, error: OSError | DigitizeError) -> None:
        reason = error.strerror if isinstance(error, OSError) else error
        self._say("done", f"{what}: {reason}; it is tried again")
        self._next_away = time.monotonic() + self._options.trouble_pause  # what is put back is an event, too

    # The inbox, and talk

    def _hold_inbox(self) -> None:
        """Lock the inbox, and listen for its events.

        Raises:
            UsageError: another watch has it, or it may not be listed.
            OSError: it is not there.
        """
        place = _place(self._inbox)
        held = ExitStack()
        held.enter_context(_locked(self._inbox, self._inbox, UsageError))
        if self._options.poll is None:
            self._events = _Events(self._inbox, self._woken)
            self._events.start()
            held.callback(self._events.stop)
        self._inbox_lock, self._inbox_place = held, place

    def _let_go_of_inbox(self) -> None:
        if self._inbox_lock is not None:
            self._inbox_lock.close()
        self._inbox_lock = self._inbox_place = self._events = None

    def _hold_inbox_again(self) -> bool:
        """Whether the inbox is there; one that has come back in the place of another is locked anew."""
        try:
            if self._inbox_place == _place(self._inbox):
                return True
            self._let_go_of_inbox()
            self._hold_inbox()
        except (OSError, UsageError) as error:
            self._let_go_of_inbox()
            reason = error.strerror if isinstance(error, OSError) else error
            self._say("inbox", f"{self._inbox}: cannot be watched: {reason}; it is tried again")
            return False
        self._troubles.pop("inbox", None)
        log.info("%s: is there again", self._inbox)
        return True

    def _beat(self, now: float) -> None:
        """Say that the watch is alive, and look whether the inbox still is."""
        self._next_beat = now + BEAT_SECONDS
        if self._inbox_place is not None:
            with suppress(OSError):
                if _place(self._inbox) == self._inbox_place:
                    log.info("%s", self._pulse())
                    return
        self._next_walk = 0.0
        log.info("%s", self._pulse())

    def _pulse(self) -> str:
        again = sum(file.tries > 0 for file in self._files.values())
        waiting = f"{len(self._files)} waiting" + (f" ({again} to be tried again)" if again else "")
        return f"watching: {self._counts.read} read, {self._counts.failed} failed, {waiting}"

    def _say(self, kind: str, message: str) -> None:
        """Say what is wrong, once a minute as long as it is."""
        now = time.monotonic()
        if now >= self._troubles.get(kind, -BEAT_SECONDS) + BEAT_SECONDS:
            self._troubles[kind] = now
            log.error("%s", message)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Let signals ask for the end, the same one a second time demand it; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, _: FrameType | None) -> None:
            if self._counts.stopped_by and number == signal.SIGINT:
                raise KeyboardInterrupt
            self._counts.stopped_by = self._counts.stopped_by or number

        before = {number: signal.signal(number, stop) for number in STOP_SIGNALS}
        previous = signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(previous)
            for number, handler in before.items():
                signal.signal(number, handler)


class _Events(threading.Thread):
    """Listens to the file system, and hands on where something has changed."""

    def __init__(self, folder: Path, woken: int) -> None:
        """Prepare to listen; `woken` is a pipe that gets a byte whenever something has changed."""
        super().__init__(name="digitize-events", daemon=True)
        self._folder = folder
        self._woken = woken
        self._ended = threading.Event()
        self._paths: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def changed(self) -> Iterator[str | None]:
        """Where something has changed since the last time; None where all has to be looked at."""
        with suppress(queue.Empty):
            while True:
                yield self._paths.get_nowait()

    def stop(self) -> None:
        """End listening."""
        self._ended.set()
        self.join()

    def run(self) -> None:
        """Listen until told to stop; what goes wrong is said and tried again."""
        while not self._ended.is_set():
            try:
                self._listen()
            except Exception as error:  # noqa: BLE001 - watchfiles raises errors of its own; none may end the watch
                log.warning("%s: gives no events (%s); it is walked through instead", self._folder, error)
                self._tell([None])
                self._ended.wait(RESCAN_SECONDS)

    def _listen(self) -> None:
        import watchfiles

        following = watchfiles.watch(
            self._folder,
            watch_filter=None,
            debounce=EVENT_DEBOUNCE,
            step=EVENT_STEP,
            stop_event=self._ended,
            rust_timeout=EVENT_TIMEOUT,
            yield_on_timeout=True,
            raise_interrupt=False,
            ignore_permission_denied=True,
        )
        first = True
        for changes in following:
            paths: list[str | None] = [path for _, path in changes]
            # Until the first answer it was not listening, so that something may have been missed.
            self._tell([None] if first else paths)
            first = False

    def _tell(self, paths: list[str | None]) -> None:
        for path in paths:
            self._paths.put(path)
        if paths:
            with suppress(OSError):  # full: it wakes anyway
                os.write(self._woken, b"\0")


# Files and folders


def _apart(inbox: Path, outbox: Path) -> tuple[Path, Path]:
    """The two folders, resolved.

    Raises:
        UsageError: one lies in the other, or there is no inbox.
    """
    if not inbox.is_dir():
        raise UsageError(f"{inbox}: is no folder to watch; make it, or check the path")
    inbox, outbox = inbox.resolve(), outbox.resolve()
    if inbox == outbox or inbox in outbox.parents or outbox in inbox.parents:
        raise UsageError(f"{outbox} and {inbox} lie in one another: results would be read as sheets; choose another -o")
    return inbox, outbox


def _is_ignored(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in IGNORED)


def _walk(
    inbox: Path,
    pass_over: Callable[[str], None] = lambda _: None,
    miss: Callable[[Path, OSError], None] = lambda *_: None,
    *,
    below: str = "",
) -> Iterator[Found]:
    """The regular files at or below a path of the inbox that may be sheets; links are not followed.

    Args:
        inbox: the folder.
        pass_over: called with the name of each file that is of no known kind.
        miss: called with the path of what could not be looked at, and why.
        below: path within it; empty for all.

    Raises:
        OSError: the inbox itself cannot be listed; folders in it that cannot are passed over until they can.
    """
    if any(_is_ignored(part) for part in Path(below).parts):
        return
    waiting = [below]
    while waiting:
        name = waiting.pop()
        path = inbox / name if name else inbox
        try:
            facts = path.lstat()
            if stat.S_ISDIR(facts.st_mode):
                names = [child.name for child in path.iterdir()]
                waiting += [f"{name}/{child}" if name else child for child in names if not _is_ignored(child)]
                continue
        except OSError as error:
            if not name:
                raise
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                miss(path, error)
            continue
        if not stat.S_ISREG(facts.st_mode):
            continue
        if path.suffix.lower() in sheets.SUFFIXES:
            yield Found(name, facts.st_size, facts.st_mtime_ns)
        else:
            pass_over(name)


def _found(inbox: Path, name: str) -> Found | None:
    """The regular file that lies at a path now; None where there is none."""
    try:
        facts = (inbox / name).lstat()
    except OSError:
        return None
    return Found(name, facts.st_size, facts.st_mtime_ns) if stat.S_ISREG(facts.st_mode) else None


def _opens(path: Path) -> bool:
    """Whether a file can be opened now: its size and time do not tell when it is let go of, or its rights change."""
    try:
        path.open("rb").close()
    except OSError:
        return False
    return True


def _differs(one: Found, other: Found) -> bool:
    return (one.size, one.mtime_ns) != (other.size, other.mtime_ns)


def _place(folder: Path) -> tuple[int, int]:
    facts = folder.stat()
    return facts.st_dev, facts.st_ino


def _stamp(recipe: batch.Recipe) -> tuple[object, ...]:
    """What tells that a model's files are others than before."""
    names = [recipe.model]
    if recipe.detector != batch.NO_DETECTOR:
        names.append(recipe.detector or models.DEFAULT_DETECTOR)
    stamp: list[object] = []
    for name in names:
        try:
            folder = models.find(name)
            for file in (models.CARD_FILE, models.TFLITE_FILE, models.KERAS_FILE):
                facts = (folder / file).stat()
                stamp += [facts.st_ino, facts.st_size, facts.st_mtime_ns]
        except (OSError, DigitizeError):
            stamp.append(None)
    return tuple(stamp)


@contextmanager
def _locked(path: Path, what: Path, refusal: type[DigitizeError]) -> Iterator[None]:
    """Hold a lock that is gone with the process that holds it, on a file, or on a folder itself.

    Args:
        path: the file, made if it is not there, or the folder.
        what: of which it is the lock.
        refusal: raised where it cannot be opened.

    Raises:
        UsageError: another process holds it, or there are no such locks here.
    """
    try:
        import fcntl
    except ImportError as error:
        raise UsageError("digitize watch needs locks of a kind that this system lacks; use Linux or macOS") from error
    try:
        flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
        handle = os.open(path, flags, 0o644)
    except OSError as error:
        raise refusal(f"{path}: cannot be opened: {error.strerror}; see who may, or choose another folder") from error
    try:
        try:
            _patiently(lambda: fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise UsageError(f"{what}: is in use by another digitize watch; end that, or choose another") from error
        except OSError as error:  # some network file systems lock no folders
            log.warning("%s: cannot be locked (%s): see that no second watch is started on it", what, error.strerror)
        yield
    finally:
        os.close(handle)


def _patiently(lock: Callable[[], None]) -> None:
    """Try to lock for a while: who asks for the status of a watch holds its lock for a moment.

    Raises:
        OSError: as the last try did.
    """
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            lock()
            return
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
        time.sleep(LOCK_PAUSE)


def _is_held(path: Path) -> bool | None:
    """Whether a process holds the lock that a file is; None where that cannot be told."""
    try:
        import fcntl

        handle = os.open(path, os.O_RDONLY)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(handle)
    return False


__all__ = ["Counts", "Options", "Tally", "status", "watch"]
