"""`digitize scan --engine ray`: the same reading over many machines, as a Ray Data pipeline.

What flows through Ray are references to sheets, a part of some dozens at a time, and a line of counts back. A worker,
one actor a core or a share of a card, fetches the bytes of its sheets, cleans, detects, classifies, decodes and writes
them, all in one place: a page of 60 kB becomes some 10 MB of pixels, ink and blocks between the stages and a few kB of
digits behind them, so stages on different machines would send a hundred times over the network what the store sent
once, to save nothing, since each stage is bound by the same cores. Back-pressure is then what Ray Data's actor pool
does anyway: an actor is given one part at a time, and nothing large waits anywhere.

An actor reads in a process of its own (`workers.Pool`), as one machine does: a sheet that crashes its decoder, eats
memory or never ends fails alone, and does not take actor after actor along through Ray's retries. What befalls a
machine is Ray's: actors are started again elsewhere (without end), and with them the parts they had in hand. What makes
that harmless, and lets a job go on that was stopped, is in `parts.py`.

The listing goes in waves of some thousand parts, so that the driver's memory does not grow with the archive.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import pickle
import socket
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import Any, cast

from digitize import batch, parts, store, tables, write
from digitize.checks import parse_rules
from digitize.engine import native_stderr_kept
from digitize.errors import DeviceError, DigitizeError, ModelError, OutputError, SheetError, UsageError
from digitize.machine import usable_cores
from digitize.parts import Counts, Part
from digitize.store import Store
from digitize.workers import SHEET_SECONDS, Limits, Pool

log = logging.getLogger("digitize")

PLAN_FILE = "_plan.json"  # in the output's folder: what its parts were made by; every worker has to see it
DONE_FILE = "_SUCCESS"  # there when all parts are, with the counts; as Hadoop and Spark have it
WAVE_PARTS = 16_384  # listed at once: a million sheets, a few hundred megabytes
COUNTED_AT_ONCE = 256  # parts that are there already, counted by one task
REACH_SECONDS = 10.0  # for somebody at the address to answer
LOCAL = "local"  # Ray's word for a cluster of this machine, started for the job

Block = tuple[Part, ...]
ReadBlocks = Callable[[Iterable[Block]], Generator[Counts]]


@dataclass(frozen=True, slots=True)
class Options:
    """What a cluster is told beside the job.

    Attributes:
        address: of the cluster, as `ray.init` takes it; RAY_ADDRESS where None, else one is started on this machine.
        part_sheets: about how many sheets go into a part; as the output's folder has it where None.
        gpus_per_worker: how much of a card a worker gets, where there are cards.
        known: options of the command line that say what is known of numbers, as for `checks.parse_rules`.
    """

    address: str | None = None
    part_sheets: int | None = None
    gpus_per_worker: float = 1.0
    known: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """What every worker has to know.

    Attributes:
        recipe: how sheets are read.
        output: the folder's URI, or its absolute path.
        form, level, known: what is written; see `parts.Target` and `Options`.
        mark: says by which version, models and settings; has to be the same on all machines.
        seconds: that a sheet may take.
        roots: folders of the file system that every machine has to see.
    """

    recipe: batch.Recipe
    output: str
    form: tables.Form
    level: batch.Level
    known: tuple[tuple[str, str | None], ...]
    mark: str
    seconds: float
    roots: tuple[str, ...]

    @property
    def target(self) -> parts.Target:
        """What is written."""
        return parts.Target(self.form, self.level, parse_rules(**dict(self.known)))

    def marked(self) -> str:
        """The mark on this machine."""
        whole = [batch.mark_of(self.recipe), self.form, self.level, list(self.known)]
        return hashlib.sha256(json.dumps(whole).encode()).hexdigest()


def run(job: batch.Job, options: Options) -> batch.Summary:
    """Read every sheet of a job on a cluster, and write its parts into the output's folder.

    Returns:
        The counts.

    Raises:
        SheetError: no sheet could be read; what is wrong with each stands in the table of errors.
        UsageError: the job asks for what a cluster does not do, or Ray is not installed or not found.
        OutputError, ModelError, DeviceError: as they say, on this machine or another.
    """
    with batch.counted(job.summary) as summary:
        _run(job, options, summary)
    return summary


def _run(job: batch.Job, options: Options, summary: batch.Summary) -> None:
    plan = _plan(job)
    found = parts.refer(job.inputs)
    head = list(islice(found, 2))
    if len(head) == 1 and head[0].error is not None:
        raise SheetError(head[0].error)
    found = chain(head, found)
    ray = _import_ray()
    place = Store(plan.output)
    if place.has(DONE_FILE):
        if job.policy.existing == "abort":
            raise OutputError(f"{plan.output}: is a finished result; choose another place, or --existing overwrite")
        if job.policy.existing == "skip":
            summary.skipped = sum(1 for _ in found)
            return
    with _ray(ray, options, job.policy.jobs) as nodes:
        plan, pool = _workers(ray, plan, options, job.policy.jobs)
        generator = batch.generator_of(job.recipe)
        log.info("model %s, detector %s", generator.model, generator.detector or "none")
        log.info("%d worker%s on %d machine%s", pool.size, _s(pool.size), nodes, _s(nodes))
        size = _take_over(place, plan, options.part_sheets, generator)
        listing = parts.divide(found, size=size, mark=plan.mark)
        names = _read(job, place, listing, lambda blocks: _wave(ray, plan, pool, blocks), summary)
    if summary.failed == summary.sheets and not summary.pages:
        errors = f"why stands in {place.uri.rstrip('/')}/{parts.ERRORS}"
        raise SheetError(f"could not read any of the {summary.sheets} sheets; {errors}")
    if not summary.stopped:
        _finish(place, names, summary)


# The job


def _plan(job: batch.Job) -> Plan:
    """What is to be done, as far as it can be known before there is a cluster."""
    if job.output in (None, write.STDOUT):
        raise UsageError("--engine ray writes a folder of parts: name one, or a URI, with -o")
    output = str(job.output)
    if Path(output).suffix.lower() in write.FORMAT_OF_SUFFIX:
        raise UsageError(f"{output}: --engine ray writes a folder of parts; name a folder, and --format csv or parquet")
    refused = {"--overlay": job.overlay, "--crops": job.crops, "--review": job.review, "--per-sheet": job.per_sheet}
    for option, value in refused.items():
        if value is not None:
            raise UsageError(f"{option} draws or writes beside the result, which only --engine local does")
    if job.profile:
        raise UsageError("--profile times the processes of one machine, which only --engine local does")
    if job.device.startswith("gpu:"):
        raise UsageError(f"--device {job.device}: which card a worker gets is for Ray to say; give gpu, cpu or auto")
    form = next((form for form in tables.FORMS if form == (job.format or tables.FORMS[0])), None)
    if form is None:
        raise UsageError(f"--format {job.format}: --engine ray writes {' or '.join(tables.FORMS)}")
    local = store.local_path(output)
    return Plan(
        replace(job.recipe, threads=1),
        str(local or output),
        form,
        job.level,
        (),
        "",
        job.policy.sheet_timeout or SHEET_SECONDS,
        tuple(_roots(job.inputs)),
    )


def _roots(inputs: Sequence[str]) -> Iterator[str]:
    """The folders of the file system that the inputs lie in."""
    paths = dict.fromkeys(path for path in map(store.local_path, inputs) if path is not None)
    yield from dict.fromkeys(str(path if path.is_dir() else path.parent) for path in paths if path.exists())


def _take_over(place: Store, plan: Plan, size: int | None, generator: write.Generator) -> int:
    """Put the plan into the output's folder; returns about how many sheets a part has.

    Without a wish, parts stay as large as they are there, so that those that are finished are found again.
    """
    there = _planned(place)
    marked, before = there.get("mark"), there.get("part_sheets")
    size = size or (before if isinstance(before, int) and before > 0 else parts.PART_SHEETS)
    if marked is not None and marked != plan.mark:
        log.warning("%s holds parts of another scan; they are replaced, and gone when this one is finished", place.uri)
    said = {"mark": plan.mark, "part_sheets": size, "generator": asdict(generator)}
    place.remove(DONE_FILE)
    place.put(PLAN_FILE, json.dumps(said, indent=1, ensure_ascii=True).encode() + b"\n")
    return size


def _planned(place: Store) -> dict[str, Any]:
    """The plan in an output's folder; empty where there is none."""
    try:
        return dict(json.loads(place.get(PLAN_FILE) or b"{}"))
    except (ValueError, TypeError) as error:
        raise OutputError(f"{place.uri}: {PLAN_FILE} cannot be read: {error}; choose another folder") from error


def _finish(place: Store, names: set[str], summary: batch.Summary) -> None:
    """Take away what belongs to no part of this job, and say that the result is whole."""
    for table in (parts.SHEETS, parts.DIGITS, parts.ERRORS):
        for name in list(place.within(table)):
            if _part_of(name) not in names:
                place.remove(name)
    place.put(DONE_FILE, json.dumps(summary.to_json(), indent=1).encode() + b"\n")


def _part_of(name: str) -> str:
    return name.rpartition("/")[2].partition(".")[0]


def _read(job: batch.Job, place: Store, listing: Iterator[Part], read: ReadBlocks, summary: batch.Summary) -> set[str]:
    """Read, count and report until all is read or too much has failed; returns the names of the parts."""
    there = {_part_of(name) for name in place.within(parts.SHEETS)}
    names: set[str] = set()
    listed = 0
    hidden = not job.progress or not sys.stderr.isatty()
    with contextlib.closing(_waves(listing)) as waves, _bar(hidden) as bar:
        for wave in waves:
            waiting = {part.name for part in wave}
            names |= waiting
            listed += sum(len(part.references) for part in wave)
            if bar:
                bar.total = listed if len(wave) < WAVE_PARTS else None
                bar.refresh()
            most = job.policy.allowance.of(listed) if job.policy.allowance else listed
            with contextlib.closing(read(_blocks(wave, there))) as outcomes:
                for counts in outcomes:
                    if counts.part not in waiting:
                        continue  # it was told twice, since who told it died
                    waiting.remove(counts.part)
                    _count(summary, counts)
                    for line in counts.said:
                        with bar.external_write_mode(file=sys.stderr) if bar else contextlib.nullcontext():
                            log.error("%s", line)
                    if bar:
                        bar.update(counts.sheets)
                    if summary.failed > most:
                        summary.stopped = True
                        log.error("stopped: %d sheets failed, and no more than %d may", summary.failed, most)
                        return names
            if waiting:
                raise OutputError(f"of {len(waiting)} parts nothing was heard; scan again, what is finished is kept")
    return names


def _bar(hidden: bool) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext() if hidden else batch.progress_bar(None)


def _waves(listing: Iterator[Part]) -> Generator[list[Part]]:
    """The parts, some thousand at a time; the next are listed while those given are read."""
    over = threading.Event()

    def listed() -> list[Part]:
        return list(takewhile(lambda _: not over.is_set(), islice(listing, WAVE_PARTS)))

    with ThreadPoolExecutor(1) as lister:
        try:
            ahead = lister.submit(listed)
            while wave := ahead.result():
                ahead = lister.submit(listed)
                yield wave
        finally:
            over.set()


def _count(summary: batch.Summary, counts: Counts) -> None:
    summary.sheets += counts.sheets
    summary.failed += counts.failed
    summary.pages += counts.pages
    summary.digits += counts.digits
    summary.review += counts.review
    summary.resumed += counts.sheets if counts.resumed else 0


def _blocks(wave: Iterable[Part], there: set[str]) -> Iterator[Block]:
    """What is one task: a part that is to be read, or many that are there and only counted."""
    counted: list[Part] = []
    for part in wave:
        if part.name not in there:
            yield (part,)
            continue
        counted.append(replace(part, references=()))
        if len(counted) == COUNTED_AT_ONCE:
            yield tuple(counted)
            counted = []
    if counted:
        yield tuple(counted)


# Ray


@dataclass(frozen=True, slots=True)
class _Workers:
    """The actors of a job.

    Attributes:
        size: how many begin.
        most: how many there may be when the cluster grows; as many as it can take where None.
        gpus: how much of a card each takes.
    """

    size: int
    most: int | None
    gpus: float


class _Said(io.TextIOBase):
    """Takes what Ray prints, on standard output too, and logs it for those who want to know more."""

    def write(self, text: str) -> int:
        """Log lines."""
        for line in text.splitlines():
            if line.strip():
                log.debug("ray: %s", line.rstrip())
        return len(text)


def _import_ray() -> Any:
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # of this process's C++: Ray gets over what it warns of
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UsageError(f"--engine ray needs Ray ({error}): pip install 'digitize[ray]'") from error
    return ray


@contextlib.contextmanager
def _ray(ray: Any, options: Options, jobs: int | None) -> Iterator[int]:
    """A cluster to work on; gives how many machines it has. One that was started for the job ends with it."""
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with contextlib.redirect_stdout(cast(Any, _Said())):
        own = not ray.is_initialized()
        if own:
            address = options.address or os.environ.get("RAY_ADDRESS") or LOCAL
            _reach(address)
            cores = {"num_cpus": jobs or usable_cores(), "include_dashboard": False} if address == LOCAL else {}
            with native_stderr_kept():
                try:
                    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **cores)
                except (
                    Exception
                ) as error:  # of whatever goes wrong Ray makes errors of many kinds, Exception among them
                    what = "no cluster could be started here" if address == LOCAL else f"--address {address}: no answer"
                    raise UsageError(f"{what}: {store.reason(error)}; see Ray's logs in /tmp/ray") from error
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0  # grow when every actor has its one part
        try:
            yield sum(1 for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU"))
        finally:
            if own:
                ray.shutdown()


def _reach(address: str) -> None:
    """See whether somebody listens at an address; Ray itself tries for minutes.

    Raises:
        UsageError: nobody does.
    """
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon:
        return  # a word of Ray's: local, auto
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UsageError(f"--address {address}: no cluster answers: {store.reason(error)}; give HOST:PORT") from error


def _workers(ray: Any, plan: Plan, options: Options, jobs: int | None) -> tuple[Plan, _Workers]:
    """How many actors with how much of a card, and the plan with the device that they read on."""
    there = ray.cluster_resources()
    cards = float(there.get("GPU", 0))
    device = plan.recipe.device
    if device == "gpu" and not cards:
        raise DeviceError("no machine of the cluster has a GPU that Ray knows of; use --device cpu or auto")
    on_cards = device == "gpu" or (device == "auto" and cards > 0)
    room = int(cards / options.gpus_per_worker) if on_cards else int(there.get("CPU", 1))
    plan = replace(plan, recipe=replace(plan.recipe, device="gpu" if on_cards else "cpu"), known=_known(options))
    plan = replace(plan, mark=plan.marked())
    return plan, _Workers(max(1, min(jobs or room, room)), jobs, options.gpus_per_worker if on_cards else 0.0)


def _known(options: Options) -> tuple[tuple[str, str | None], ...]:
    return tuple(sorted(options.known.items()))


def _wave(ray: Any, plan: Plan, pool: _Workers, blocks: Iterable[Block]) -> Generator[Counts]:
    """Read blocks of parts on the cluster; the counts come as they are finished.

    Raises:
        DigitizeError: what a worker cannot get over.
    """
    import pyarrow

    references = [pyarrow.table({"block": [pickle.dumps(block)]}) for block in blocks]
    outcomes = ray.data.from_arrow(references).map_batches(
        Worker,
        fn_constructor_args=(plan,),
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            min_size=1,
            initial_size=pool.size,
            max_size=max(pool.size, pool.most) if pool.most else None,
            max_tasks_in_flight_per_actor=1,  # a part takes a minute: none is to wait behind another while cores idle
        ),
        num_cpus=1,
        num_gpus=pool.gpus,
    )
    try:
        for row in outcomes.iter_rows():
            outcome = pickle.loads(row["outcome"])
            if isinstance(outcome, DigitizeError):
                raise outcome
            yield outcome
    except ray.exceptions.RayTaskError:  # a bug in a worker; its traceback is in it
        raise
    except ray.exceptions.RayError as error:
        why = f"{store.reason(error)}; start it again, what is finished is kept"
        raise DeviceError(f"the cluster cannot go on: {why}") from error


class Worker:
    """An actor: loads the models with its first part, and keeps them."""

    def __init__(self, plan: Plan) -> None:
        """Keep the plan; nothing is loaded yet, since what fails here Ray would try again without end."""
        self._plan = plan
        self._place = Store(plan.output)
        self._pool: Pool | None = None

    def __call__(self, table: Any) -> Iterator[Any]:
        """Read blocks of parts: a table with a column of them, one with a column of outcomes for each part back."""
        import pyarrow

        for packed in table.column("block").to_pylist():
            for outcome in self._outcomes(pickle.loads(packed)):
                yield pyarrow.table({"outcome": [pickle.dumps(outcome)]})

    def _outcomes(self, block: Block) -> Iterator[Counts | DigitizeError]:
        for part in block:
            try:
                yield self._read(part)
            except DigitizeError as error:  # the job's end, which is for the driver to say
                self._drop_pool()
                yield type(error)(f"{error} (on {socket.gethostname()})")
                return

    def _drop_pool(self) -> None:
        """End the process that reads: what it has in hand belongs to a part that is given up, and to no other."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _read(self, part: Part) -> Counts:
        target = self._plan.target
        if not part.references:
            there = parts.finished(part.name, self._place, target)
            if there is None:
                raise OutputError(f"{self._place.uri}: part {part.name} was taken away meanwhile; scan again")
            return there
        if self._pool is None:
            self._check()
            self._pool = Pool(self._plan.recipe, workers=1, limits=Limits(seconds=self._plan.seconds))
            self._pool.start()
        return parts.read_part(part, self._place, target, self._pool.read)

    def _check(self) -> None:
        """See whether this machine is one that can read.

        Raises:
            DigitizeError: it lacks a folder, or has other models.
        """
        plan = self._plan
        for root in plan.roots:
            if not Path(root).exists():
                raise UsageError(f"{root}: is not there; every machine has to see it by the same path")
        if _planned(self._place).get("mark") != plan.mark:
            raise OutputError(f"{plan.output}: is another folder here; every machine has to write to the same one")
        if plan.marked() != plan.mark:
            raise ModelError("digitize or a model is another here than where the job was started; install the same")


def _s(count: int) -> str:
    return "" if count == 1 else "s"
