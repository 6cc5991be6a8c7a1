"""Processes that read sheets, each one sheet at a time: what goes wrong with a sheet stays with that sheet.

A decoder that crashes, eats memory or never ends takes its process with it and nothing else: the sheet fails with the
reason, and a new process takes the place of the old. Own code over `multiprocessing`'s Process and Pipe, since neither
its Pool nor `concurrent.futures` outlives a worker that is killed, or can end one task that takes too long.

A worker reads sheets whole. Pages are about 15 MB each to send, what was read on them a few kB; and the models are so
small that every process can have its own. Results do not depend on which worker reads a sheet, nor on what else is
read: the networks answer for each item by itself (`tests/test_batch.py` holds one process against several). Batches
across sheets are left to the one process that reads on a GPU, and to a few sheets: a CPU takes four blocks at a time
(`detect.py`), of which a small sheet has three by itself (`tests/soak.py --only gather` measures it).
"""

from __future__ import annotations

import atexit
import logging
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from digitize import sheets
from digitize.errors import DigitizeError, ModelError, SheetError, UnsettledSheetError, describe_fault, trace_of
from digitize.records import SheetReading

log = logging.getLogger("digitize")

SHEET_SECONDS = 600.0  # a sheet may take; the slowest of the hostile files takes 20
SHEET_MIB = 3072  # a sheet may need beyond what its process has at rest; the largest page that is read needs half of it
START_SECONDS = 300.0  # a process may take to load its models, on a machine that swaps
AHEAD = 8  # sheets a worker that may be finished before an earlier one is; bounds what waits for its turn
REAP_SECONDS = 10.0  # for a process that was killed to be gone
HELD_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # these reach every process of a group: the parent decides

Wakes = Sequence[int | connection.Connection]


class Reader(Protocol):
    """What a worker makes once, and then reads sheets with."""

    @property
    def mark(self) -> str:
        """Says by which models and settings it reads; the same for readers that read alike."""
        ...

    @property
    def device(self) -> str:
        """Where its models run."""
        ...

    def read(self, sheet: sheets.Sheet) -> SheetReading:
        """Read one sheet; what is wrong with it is in the reading.

        Raises:
            DigitizeError: what is wrong with more than this sheet: a picture cannot be written, ...
        """
        ...


MakeReader = Callable[[], Reader]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one sheet may take.

    Attributes:
        seconds: until its worker is killed.
        mib: of memory beyond what a worker has at rest, where the platform can hold a process to it (Linux).
    """

    seconds: float = SHEET_SECONDS
    mib: int = SHEET_MIB


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a sheet.

    Attributes:
        ticket: that it was handed in with.
        reading: what was read, or why it could not be.
        died: whether it took its worker along.
    """

    ticket: int
    reading: SheetReading
    died: bool = False


@dataclass(frozen=True, slots=True)
class _Ready:
    """A worker's first message: it can read.

    Attributes:
        mark, device: of its reader.
        said: what was logged while its models were loaded: level and message.
    """

    mark: str
    device: str
    said: tuple[tuple[int, str], ...]


@dataclass(slots=True)
class _Worker:
    """A process, as its parent sees it.

    Attributes:
        process: it.
        pipe: the parent's end.
        since: monotonic seconds at which it began what it does: to start, or to read.
        ready: whether its models are loaded.
        task: ticket and sheet in hand.
    """

    process: BaseProcess
    pipe: connection.Connection
    since: float
    ready: bool = False
    task: tuple[int, sheets.Sheet] | None = field(default=None, repr=False)


class Pool:
    """A fixed number of workers; use it as a context, which ends them."""

    def __init__(self, make: MakeReader, *, workers: int, limits: Limits | None = None) -> None:
        """Keep what is needed to start; `start` does.

        Args:
            make: makes the reader in each worker; is pickled, so a function of a module or a dataclass of values.
            workers: how many, at least one.
            limits: of a sheet.
        """
        self._make = make
        self._count = workers
        self._limits = limits or Limits()
        self._workers: list[_Worker] = []
        self._refusal: DigitizeError | None = None  # that came together with outcomes, which go first
        self._mark = ""
        self.device = ""
        self.replaced = 0

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def mark(self) -> str:
        """By which models and settings the workers read; empty before `start`."""
        return self._mark

    @property
    def idle(self) -> int:
        """How many more sheets can be handed in now."""
        return sum(worker.ready and worker.task is None for worker in self._workers)

    def start(self) -> None:
        """Start all workers, and wait until one of them can read.

        Raises:
            DigitizeError: what making the reader raised: a model is missing, a device is not there, ...
        """
        self._mark = ""
        atexit.register(self.close)  # workers let no signal end them, and multiprocessing waits for them at exit
        self._fill()
        while not self.idle:
            self.wait(None)

    def submit(self, ticket: int, sheet: sheets.Sheet) -> None:
        """Hand a sheet to an idle worker; there has to be one."""
        worker = next(worker for worker in self._workers if worker.ready and worker.task is None)
        worker.task, worker.since = (ticket, sheet), time.monotonic()
        with suppress(OSError):  # it has died meanwhile: `wait` finds out, and answers for the sheet
            worker.pipe.send(sheet)

    def wait(self, timeout: float | None, wakes: Wakes = ()) -> list[Outcome]:
        """Wait for outcomes, and see to workers that died or take too long.

        Args:
            timeout: seconds at most; None waits until a worker says or does something.
            wakes: file descriptors that end the wait when they can be read.

        Returns:
            What has come; may be empty.

        Raises:
            DigitizeError: what a sheet in hand failed with is not that sheet's fault, and nothing more comes of its
                ticket; or a worker that was to take the place of another could not load its models. The others go on,
                the next call tries again.
        """
        self._raise_refusal()
        self._fill()
        ends = [end for end in map(self._until, self._workers) if end is not None]
        if ends:
            left = max(0.0, min(ends) - time.monotonic())
            timeout = left if timeout is None else min(timeout, left)
        own: list[Any] = [thing for worker in self._workers for thing in (worker.pipe, worker.process.sentinel)]
        said = set(connection.wait([*own, *wakes], timeout))
        outcomes = []
        for worker in list(self._workers):
            if worker.pipe in said or worker.process.sentinel in said:
                message = self._message(worker)
                if isinstance(message, DigitizeError):
                    self._refusal = message
                elif isinstance(message, Outcome):
                    outcomes.append(message)
            elif time.monotonic() >= (self._until(worker) or math.inf):
                outcomes.append(self._give_up(worker))
        if not outcomes:
            self._raise_refusal()
        return outcomes

    def read(self, found: Iterable[sheets.Sheet]) -> Iterator[SheetReading]:
        """Read sheets; the readings come in their order, whichever is finished first.

        Raises:
            DigitizeError: a worker cannot be started anew, or reading one of the sheets raised what is not its fault.
        """
        waiting = iter(enumerate(found))
        done: dict[int, SheetReading] = {}
        turn, handed, more = 0, 0, True
        while more or turn < handed:
            while more and self.idle and handed - turn < AHEAD * self._count:
                task = next(waiting, None)
                if task is None:
                    more = False
                    break
                self.submit(*task)
                handed += 1
            if turn < handed:
                for outcome in self.wait(None):
                    done[outcome.ticket] = outcome.reading
            elif more and not self.idle:
                self.wait(None)
            while turn in done:
                yield done.pop(turn)
                turn += 1

    def close(self) -> None:
        """End all workers; sheets in hand are dropped."""
        for worker in self._workers:
            _end(worker)
        self._workers = []
        atexit.unregister(self.close)

    def _raise_refusal(self) -> None:
        """Raise, once, what a worker refused with."""
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise refusal

    def _spawn(self) -> _Worker:
        """Start a worker.

        Raises:
            ModelError: the system lets no more processes or files be opened.
        """
        context = multiprocessing.get_context("spawn")
        with ExitStack() as ends:
            try:
                ours, theirs = context.Pipe()
                ends.callback(ours.close)
                arguments = (theirs, self._make, self._limits.mib, log.getEffectiveLevel())
                process = context.Process(target=_serve, args=arguments, name="digitize-reader", daemon=True)
                with closing(theirs), _signals_held():
                    process.start()
            except OSError as error:
                why = f"a process to read sheets cannot be started: {error.strerror or error}"
                raise ModelError(f"{why}; try again, with fewer --jobs") from error
            ends.pop_all()
        return _Worker(process, ours, time.monotonic())

    def _fill(self) -> None:
        """Start as many workers as are missing."""
        while len(self._workers) < self._count:
            self._workers.append(self._spawn())

    def _until(self, worker: _Worker) -> float | None:
        """When the patience with a worker ends, in monotonic seconds; None while it waits for work."""
        if not worker.ready:
            return worker.since + START_SECONDS
        return worker.since + self._limits.seconds if worker.task else None

    def _message(self, worker: _Worker) -> Outcome | DigitizeError | None:
        """What a worker has said; one that is gone is removed, and its sheet, if it had one, has failed."""
        try:
            message = worker.pipe.recv() if worker.pipe.poll() else None
        except (EOFError, OSError):
            message = None
        if isinstance(message, _Ready):
            return self._welcome(worker, message)
        if isinstance(message, SheetReading) and worker.task is not None:
            (ticket, _), worker.task = worker.task, None
            return Outcome(ticket, message)
        self._workers.remove(worker)
        _end(worker)
        if isinstance(message, DigitizeError):
            return message
        how = _how_it_ended(worker.process.exitcode)
        if worker.task is None:
            if not worker.ready:
                return ModelError(f"a process that was to read sheets {how} before it had loaded its models; try again")
            self.replaced += 1
            log.warning("a process that reads sheets %s; a new one takes its place", how)
            return None
        self.replaced += 1
        return _failed(worker.task, f"the process that read it {how}; check the file, or scan it again")

    def _welcome(self, worker: _Worker, message: _Ready) -> ModelError | None:
        if self._mark and message.mark != self._mark:
            self._workers.remove(worker)
            _end(worker)
            return ModelError("the model was changed while sheets were read: start again to read all of them alike")
        if not self._mark:
            for level, line in message.said:
                log.log(level, "%s", line)
        worker.ready = True
        self._mark, self.device = message.mark, message.device
        return None

    def _give_up(self, worker: _Worker) -> Outcome:
        """End a worker that took too long."""
        self._workers.remove(worker)
        _end(worker)
        if worker.task is None:
            raise ModelError(f"a process that was to read sheets took longer than {START_SECONDS:g} s to start")
        self.replaced += 1
        limit = f"{self._limits.seconds:g} s"
        return _failed(worker.task, f"took longer than {limit} to read; allow more with --sheet-timeout")


@contextmanager
def _signals_held() -> Iterator[None]:
    """Start processes with signals blocked, which they inherit: none ends before it can say that it ignores them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _failed(task: tuple[int, sheets.Sheet], why: str) -> Outcome:
    """The outcome of a sheet that took its worker along."""
    ticket, sheet = task
    digest = ""
    with suppress(SheetError):
        digest = sheets.sha256(sheet.origin)
    return Outcome(ticket, SheetReading(sheet.source, digest, (), f"{sheet.name}: {why}"), died=True)


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
    return f"ended with code {code}"


def _end(worker: _Worker) -> None:
    """Kill a worker and wait until it is gone."""
    worker.process.kill()
    worker.process.join(REAP_SECONDS)
    worker.pipe.close()


# In the worker


class _Said(logging.Handler):
    """Keeps what is logged, for the parent to say once."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelno, record.getMessage()))


def _serve(pipe: connection.Connection, make: MakeReader, mib: int, level: int) -> None:
    """A worker: make the reader, say so, then read whatever comes until nothing more does."""
    for held in HELD_SIGNALS:
        signal.signal(held, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    said = _Said()
    log.handlers[:] = [said]
    log.propagate = False
    log.setLevel(level)
    try:
        reader = make()
    except DigitizeError as error:
        pipe.send(error)
        return
    _bound_memory(mib)
    try:
        pipe.send(_Ready(reader.mark, reader.device, tuple(said.lines)))
        log.handlers[:] = [logging.NullHandler()]  # from here on, what it has to say is in its readings
        while True:
            sheet: sheets.Sheet = pipe.recv()
            answer = _read(reader, sheet)
            pipe.send(answer)
            if isinstance(answer, DigitizeError):
                return
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent has what it wanted, or is gone


def _read(reader: Reader, sheet: sheets.Sheet) -> SheetReading | DigitizeError:
    """Read a sheet; whatever is raised is that sheet's failure, but for errors that say whose else it is."""
    try:
        return reader.read(sheet)
    except SheetError as error:
        return SheetReading(sheet.source, "", (), str(error), isinstance(error, UnsettledSheetError))
    except DigitizeError as error:
        return error
    except Exception as error:  # noqa: BLE001 - a bug that one sheet brings up is no reason to leave the others unread
        why, trace = describe_fault(error), trace_of(error)
    digest = ""
    with suppress(SheetError):
        digest = sheets.sha256(sheet.origin)
    return SheetReading(sheet.source, digest, (), f"{sheet.name}: {why}", trace=trace)


def _follow_parent() -> None:
    """End when the parent is gone, whatever the main thread is doing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _bound_memory(mib: int) -> None:
    """Let this process have so much memory beyond what it has now; Linux counts what is private (RLIMIT_DATA)."""
    if sys.platform != "linux":
        return
    import resource

    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - no file of ours
        now = next(int(line.split()[1]) for line in status if line.startswith("VmData:"))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = (now << 10) + (mib << 20)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard < 0 else min(wanted, hard), hard))
