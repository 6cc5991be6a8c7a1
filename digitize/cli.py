"""The command line: parses, hands over, turns errors into one line and an exit code.

Nothing heavy is imported before a command runs, so that `--help` and `--version` answer at once. Results go to
stdout or a file; everything that is said goes to stderr.
"""

from __future__ import annotations

import copy
import logging
import math
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from digitize import __version__, errors, options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typer.models import CommandInfo

    from digitize import batch

app = typer.Typer(
    name="digitize",
    help="Read handwritten digits from scanned sheets.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"auto_envvar_prefix": options.PREFIX},
)
sheets_app = typer.Typer(help="Make sheets with known digits.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(sheets_app, name="sheets")
models_app = typer.Typer(help="List, show and verify models.", invoke_without_command=True, rich_markup_mode=None)
app.add_typer(models_app, name="models")
data_app = typer.Typer(help="The published sets of digits.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")
review_app = typer.Typer(
    help="Look at doubtful digits, correct them, learn.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(review_app, name="review")
log = logging.getLogger("digitize")


class Format(StrEnum):
    """What `-o` can be written as."""

    csv = "csv"
    json = "json"
    jsonl = "jsonl"
    alto = "alto"
    hocr = "hocr"
    parquet = "parquet"  # of a cluster only


class EngineName(StrEnum):
    """Who reads a scan's sheets."""

    local = "local"
    ray = "ray"


class Level(StrEnum):
    """What a row of a CSV is."""

    digit = "digit"
    number = "number"


class Existing(StrEnum):
    """What to do with results that are there already."""

    skip = "skip"
    overwrite = "overwrite"
    abort = "abort"


class OnError(StrEnum):
    """What to do when a sheet fails."""

    skip = "skip"
    abort = "abort"


class Rotate(StrEnum):
    """What to do with a page that lies on its side."""

    auto = "auto"
    off = "off"


def _a_number(value: float | None) -> float | None:
    if value is not None and math.isnan(value):
        raise typer.BadParameter("nan is no number")
    return value


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say only what went wrong.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more; show where a bug happened.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, gpu, or gpu:N.", metavar="DEVICE")]
ReviewBelow = Annotated[
    float, typer.Option(min=0, max=1, callback=_a_number, help="Digits of less confidence get the status review.")
]
MaxError = Annotated[
    float | None,
    typer.Option(min=0, max=1, callback=_a_number, help="Choose that threshold so that digits left ok err at most so."),
]
Detector = Annotated[
    str | None,
    typer.Option(help="Name or folder of a detector; none reads by contours alone.", show_default=False),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="TOML file with options.",
        is_eager=True,
        callback=options.take_config,
        metavar="FILE",
        show_default=False,
    ),
]
Mnist = Annotated[Path | None, typer.Option("--mnist", help="Folder with MNIST's IDX files.", show_default=False)]
Hands = Annotated[
    Path | None, typer.Option("--hands", help="Folder with pen strokes (UNIPEN, pendigits).", show_default=False)
]
Fonts = Annotated[
    list[Path] | None, typer.Option("--fonts", help="Font files or folders of them; repeatable.", show_default=False)
]
Data = Annotated[
    list[str] | None,
    typer.Option("--data", help="File or folder of labelled digits, PATH or PATH=WEIGHT; repeatable.", metavar="PATH"),
]
Validation = Annotated[bool, typer.Option("--validation", help="From the writers kept for validation.")]
Jobs = Annotated[int, typer.Option(min=1, help="Processes that make sheets.")]
Sheets = Annotated[int, typer.Option("--count", "-n", min=1, help="How many sheets are made.")]
Seed = Annotated[int, typer.Option(help="Of every random choice.")]
Audit = Annotated[
    str | None,
    typer.Option(help="Share of sure digits mixed into the page, such as 2%, to see how often they are wrong."),
]
SheetFolder = Annotated[
    Path | None, typer.Option("--sheets", help="Folder of the sheets that were read.", show_default=False)
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"digitize {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            allow_from_autoenv=False,  # DIGITIZE_VERSION is what images call the version that they hold
            help="Show the version and exit.",
        ),
    ] = False,
) -> None:
    """Read handwritten digits from scanned sheets."""


@app.command()
def scan(
    inputs: Annotated[list[str], typer.Argument(help="Files, folders, patterns, or - for standard input.")],
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Where to write; - is standard output.", show_default=False)
    ] = None,
    format: Annotated[Format | None, typer.Option(help="Instead of the output's suffix.", show_default=False)] = None,
    per_sheet: Annotated[
        Path | None, typer.Option(help="Folder for a file a sheet, in the sheets' folders.", show_default=False)
    ] = None,
    existing: Annotated[Existing, typer.Option(help="What to do where a result is there.")] = Existing.overwrite,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes that read; by the number of sheets.", show_default=False)
    ] = None,
    on_error: Annotated[OnError, typer.Option(help="Leave a sheet that fails, or stop there.")] = OnError.skip,
    max_failures: Annotated[
        str | None,
        typer.Option("--max-failures", metavar="N|R%", help="Stop when more sheets fail.", show_default=False),
    ] = None,
    sheet_timeout: Annotated[
        float | None, typer.Option(min=0.1, callback=_a_number, help="Seconds a sheet may take.", show_default=False)
    ] = None,
    summary: Annotated[
        Path | None, typer.Option("--summary", help="Where to write the counts as JSON.", show_default=False)
    ] = None,
    device: Device = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Tiles classified at once; bounds memory.")] = 1024,
    model: Annotated[str | None, typer.Option(help="Name or folder of a model.", show_default=False)] = None,
    detector: Detector = None,
    pages: Annotated[str | None, typer.Option(help="Such as 1-3,7 or 5-.", show_default=False)] = None,
    dpi: Annotated[float, typer.Option(help="At which PDF pages are rendered.")] = 300,
    rotate: Annotated[Rotate, typer.Option(help="Turn pages that read better turned.")] = Rotate.auto,
    review_below: ReviewBelow = 0.9,
    max_error: MaxError = None,
    overlay: Annotated[
        Path | None, typer.Option(help="Folder, or one .pdf, for pages with boxes and digits drawn on.")
    ] = None,
    crops: Annotated[Path | None, typer.Option(help="Folder for the digits as the network saw them.")] = None,
    review: Annotated[Path | None, typer.Option(help="HTML page to write, to look at doubtful digits.")] = None,
    audit: Audit = None,
    level: Annotated[Level, typer.Option(help="What a row of a CSV is.")] = Level.digit,
    expect_length: Annotated[
        str | None, typer.Option(help="Digits of a number, such as 5 or 4-6.", show_default=False)
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(help="Regular expression that numbers fit.", show_default=False)
    ] = None,
    within: Annotated[
        str | None, typer.Option("--range", help="Values of a number, such as 1-31 or 100-.", show_default=False)
    ] = None,
    check: Annotated[
        str | None, typer.Option(help="Check digit of a number: luhn, mod11, iban.", show_default=False)
    ] = None,
    fail_on_review: Annotated[bool, typer.Option("--fail-on-review", help="Exit 10 if digits need review.")] = False,
    engine: Annotated[EngineName, typer.Option(help="Read here, or on a Ray cluster.")] = EngineName.local,
    address: Annotated[
        str | None, typer.Option(help="Of the Ray cluster; else RAY_ADDRESS, else this machine.", show_default=False)
    ] = None,
    part_sheets: Annotated[
        int | None, typer.Option(min=1, help="Sheets in a part that Ray hands out, about 64.", show_default=False)
    ] = None,
    gpus_per_worker: Annotated[
        float, typer.Option(min=0.01, callback=_a_number, help="Of a card, for each worker of Ray.")
    ] = 1.0,
    profile: Annotated[bool, typer.Option("--profile", help="Show on stderr how long each stage takes.")] = False,
    config: Config = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Read sheets and write their digits, confidences and places."""
    _listen(quiet, verbose)
    from digitize import batch, sheets
    from digitize.audit import parse_share
    from digitize.checks import parse_rules
    from digitize.scan import Settings

    if audit is not None and review is None:
        raise errors.UsageError("--audit mixes digits into the page that --review names: give that too")
    if engine is EngineName.local and (address or part_sheets):
        raise errors.UsageError("--address and --part-sheets are for a cluster: give --engine ray too")
    known = {"expect_length": expect_length, "pattern": pattern, "within": within, "check": check}
    job = batch.Job(
        inputs=inputs,
        output=output,
        format=format.value if format else None,
        model=model,
        detector=detector,
        device=device,
        pages=sheets.EVERY_PAGE if pages is None else sheets.parse_pages(pages),
        dpi=dpi,
        overlay=overlay,
        crops=crops,
        settings=Settings(batch_size=batch_size, rotate=rotate.value, review_below=review_below),
        max_error=max_error,
        progress=not quiet,
        review=review,
        audit=0.0 if audit is None else parse_share(audit),
        rules=parse_rules(**known),
        level=level.value,
        per_sheet=per_sheet,
        policy=batch.Policy(
            jobs=jobs,
            existing=existing.value,
            allowance=_allowance(on_error, max_failures),
            sheet_timeout=sheet_timeout,
        ),
        profile=profile,
        summary=summary,
    )
    if engine is EngineName.ray:
        from digitize import cluster

        given = cluster.Options(address, part_sheets, gpus_per_worker=gpus_per_worker, known=known)
        counts = cluster.run(job, given)
    else:
        counts = batch.run(job)
    log.info("%s", counts)
    if profile:
        from digitize import stopwatch

        typer.echo(stopwatch.table(counts.spent, counts.timed), err=True)
    if counts.failed:
        raise typer.Exit(errors.SOME_SHEETS_FAILED)
    if fail_on_review and counts.review:
        raise typer.Exit(errors.DIGITS_TO_REVIEW)


def _allowance(on_error: OnError, max_failures: str | None) -> batch.Allowance | None:
    from digitize import batch

    if on_error is OnError.skip:
        return None if max_failures is None else batch.Allowance.parse(max_failures)
    if max_failures is not None:
        raise errors.UsageError("--on-error abort stops at the first failure; leave --max-failures out")
    return batch.Allowance(0)


class Done(StrEnum):
    """What becomes of a sheet that was read."""

    keep = "keep"
    move = "move"
    delete = "delete"


@app.command("watch")
def watch_folder(
    inbox: Annotated[
        Path | None,
        typer.Argument(
            help="Folder that sheets arrive in.", is_eager=True, callback=options.take_inbox, show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="OUTBOX: folder for the results.", show_default=False)
    ] = None,
    status: Annotated[
        Path | None,
        typer.Option(
            "--status", metavar="OUTBOX", help="Say what was read, failed, is waiting; and end.", show_default=False
        ),
    ] = None,
    settle: Annotated[
        float, typer.Option(min=0, callback=_a_number, help="Seconds without a change from which a file is whole.")
    ] = 3.0,
    poll: Annotated[
        float | None,
        typer.Option(
            min=0.1, callback=_a_number, help="Look every so many seconds, where no events come.", show_default=False
        ),
    ] = None,
    rescan: Annotated[
        float, typer.Option(min=1, callback=_a_number, help="Seconds between looks, whatever events say.")
    ] = 120.0,
    done: Annotated[Done, typer.Option(help="What becomes of a sheet that was read.")] = Done.keep,
    once: Annotated[bool, typer.Option("--once", help="End when nothing waits any more.")] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes that read; as many as cores.", show_default=False)
    ] = None,
    sheet_timeout: Annotated[
        float, typer.Option(min=0.1, callback=_a_number, help="Seconds a sheet may take.")
    ] = 600.0,
    device: Device = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Tiles classified at once; bounds memory.")] = 1024,
    model: Annotated[str | None, typer.Option(help="Name or folder of a model.", show_default=False)] = None,
    detector: Detector = None,
    pages: Annotated[str | None, typer.Option(help="Such as 1-3,7 or 5-.", show_default=False)] = None,
    dpi: Annotated[float, typer.Option(help="At which PDF pages are rendered.")] = 300,
    rotate: Annotated[Rotate, typer.Option(help="Turn pages that read better turned.")] = Rotate.auto,
    review_below: ReviewBelow = 0.9,
    max_error: MaxError = None,
    audit: Audit = None,
    log_json: Annotated[bool, typer.Option("--log-json", help="Say everything as JSON, one object a line.")] = False,
    config: Config = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Work through a folder as sheets arrive in it, for ever or once."""
    _listen(quiet, verbose, as_json=log_json)
    from digitize import batch, sheets, watch
    from digitize.audit import parse_share
    from digitize.scan import Settings

    if status is not None:
        typer.echo(watch.status(status))
        return
    if inbox is None or output is None:
        raise errors.UsageError("give a folder to watch and --output, or --status OUTBOX")
    recipe = batch.Recipe(
        model=model,
        detector=detector,
        device=device,
        pages=sheets.EVERY_PAGE if pages is None else sheets.parse_pages(pages),
        dpi=dpi,
        settings=Settings(batch_size=batch_size, rotate=rotate.value, review_below=review_below),
        max_error=max_error,
        drawn=batch.Drawn(review=True, sparing=True, audit=0.0 if audit is None else parse_share(audit)),
    )
    counts = watch.watch(
        watch.Options(
            inbox,
            output,
            recipe=recipe,
            jobs=jobs,
            settle=settle,
            poll=poll,
            rescan=rescan,
            done=done.value,
            once=once,
            sheet_timeout=sheet_timeout,
        )
    )
    if counts.interrupted:
        raise KeyboardInterrupt
    if once and (counts.failed or counts.unlooked) and not counts.stopped_by:
        raise typer.Exit(errors.SOME_SHEETS_FAILED)


@app.command()
def train(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Model folder to write.", show_default=False)
    ] = None,
    data: Data = None,
    recipe: Annotated[
        str | None, typer.Option(help="default, or article; see --list-recipes.", show_default=False)
    ] = None,
    list_recipes: Annotated[bool, typer.Option("--list-recipes", help="Show what the recipes are, and exit.")] = False,
    network: Annotated[
        str | None, typer.Option(help="duet, article, or the detector scout; the recipe's own.", show_default=False)
    ] = None,
    tiles: Annotated[
        list[Path] | None, typer.Option(help="Lessons (sheets lessons, review export); repeatable.")
    ] = None,
    drills: Annotated[list[Path] | None, typer.Option(help="For scout: digitize sheets drills; repeatable.")] = None,
    held: Annotated[
        Path | None, typer.Option(help="For scout: drills of validation writers.", show_default=False)
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="How many in all, instead of --epochs.", show_default=False)
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="How many; the recipe's own.", show_default=False)] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Tiles (scout: blocks) in one step; the recipe's own.", show_default=False)
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="At its highest; the recipe's own.", show_default=False)
    ] = None,
    validation: Annotated[
        float | None, typer.Option(help="Share of the digits kept for choosing, 0.1.", show_default=False)
    ] = None,
    mnist_share: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="The part of each epoch from --data, beside --tiles, 0.25.", show_default=False
        ),
    ] = None,
    epoch_tiles: Annotated[int | None, typer.Option(min=1, help="Tiles an epoch.", show_default=False)] = None,
    seed: Seed = 1,
    device: Device = "auto",
    mixed: Annotated[
        bool | None,
        typer.Option("--mixed/--no-mixed", help="Steps in bfloat16; scout does so by itself.", show_default=False),
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--from", help="Model whose weights to start from.", show_default=False)
    ] = None,
    teacher: Annotated[
        list[Path] | None, typer.Option(help="Model whose answers are learnt from beside the labels; repeatable.")
    ] = None,
    name: Annotated[str, typer.Option(help="In the card; the folder's name if not given.", show_default=False)] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what the folder holds.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train a classifier on MNIST, other digits and lessons, or a detector on drills, and write its model folder."""
    _listen(quiet, verbose)
    from digitize import recipes

    if list_recipes:
        typer.echo("\n".join(recipes.render(one) for one in recipes.RECIPES.values()))
        return
    if output is None:
        raise errors.UsageError("there is no folder to write the model to: name one with -o")
    from digitize import corpora, runs, train_detector
    from digitize import train as classifier

    if resume and runs.finished(output):
        log.info("%s is finished, nothing is left to do", output)
        return
    asked = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "mixed": mixed}
    given: dict[str, Any] = {key: value for key, value in asked.items() if value is not None}
    given |= {"name": name, "seed": seed, "device": device, "start": start}
    options: classifier.Options | train_detector.Options
    if network == "scout":
        foreign: dict[str, Any] = {"--data": data, "--tiles": tiles, "--teacher": teacher, "--epochs": epochs}
        foreign |= {"--epoch-tiles": epoch_tiles, "--mnist-share": mnist_share, "--validation": validation}
        foreign["--recipe"] = recipe
        if named := [option for option, value in foreign.items() if value is not None]:
            raise errors.UsageError(f"scout learns from --drills and --held for so many --steps, not by {named[0]}")
        if held is None:
            raise errors.UsageError("--network scout needs --drills and --held: make them with digitize sheets drills")
        options = train_detector.Options(output, tuple(drills or ()), held, **given)
    else:
        if drills or held:
            raise errors.UsageError(
                "--drills and --held are for --network scout; a classifier takes --data and --tiles"
            )
        chosen = recipes.choose(recipe or recipes.DEFAULT.name)
        shares = {"validation": validation, "mnist_share": mnist_share}
        given |= {key: value for key, value in shares.items() if value is not None}
        own = {"batch_size": chosen.batch_size, "learning_rate": chosen.learning_rate}
        options = classifier.Options(
            output,
            network=network or chosen.network,
            data=tuple(corpora.parse_source(one) for one in data or ()),
            tiles=tuple(tiles or ()),
            epoch_tiles=epoch_tiles,
            epochs=chosen.epochs if epochs is None else epochs,
            teachers=tuple(teacher or ()),
            recipe=chosen,
            **{**own, **({"steps": chosen.steps} if epochs is None else {}), **given},
        )
    course = runs.run(options, resume=resume, overwrite=overwrite, progress=not quiet)
    if course.interrupted:
        raise typer.Exit(errors.INTERRUPTED)
    log.info("wrote %s", output)


@app.command()
def evaluate(
    model: Annotated[str | None, typer.Argument(help="Name or folder of a model.", show_default=False)] = None,
    data: Data = None,
    report: Annotated[
        Path | None, typer.Option(help="Folder for pictures, report.html and metrics.json.", show_default=False)
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure a model's tflite file on labelled digits: MNIST's test digits, or those of --data."""
    _listen(quiet, verbose)
    from digitize import corpora, known, models
    from digitize import evaluate as evaluation

    folder = models.find(model)
    paths = [corpora.parse_source(one).path for one in data or ()] or [known.find_mnist()]
    images, labels = corpora.labelled(paths)
    outcome = evaluation.evaluate(folder, images, labels)
    kind = "digits" if data else "test digits"  # a set without a test part is measured on all it has
    digits = f"{len(labels)} {kind} of {', '.join(str(path) for path in paths)}"
    typer.echo(
        f"{outcome.accuracy:.4f} of {digits} right, loss {outcome.loss:.4f}, {outcome.digits_a_second:,.0f} a second"
    )
    typer.echo(f"{outcome.digit_accuracy:.4f} where the answer has to be one of the ten digits")
    if report is not None:
        from digitize.report import write_report

        metrics = write_report(
            report,
            outcome.probabilities,
            labels,
            images,
            title=f"{folder.name} on {digits}",
            history=models.history(folder),
        )
        typer.echo(f"expected calibration error {metrics.ece:.4f}; {report}/report.html")


@app.command()
def calibrate(
    model: Annotated[str, typer.Argument(help="Name or folder of a model; its card gets the curve.")],
    detector: Detector = None,
    count: Annotated[int, typer.Option("--count", "-n", min=2, help="How many sheets are made.")] = 1000,
    mnist: Mnist = None,
    hands: Hands = None,
    fonts: Fonts = None,
    seed: Seed = 7,
    placed: Annotated[
        bool, typer.Option("--placed/--all", help="Fit to answers at true digits alone, or to all.")
    ] = False,
    context: Annotated[
        int, typer.Option(min=0, help="First fit, on so many other sheets, what the detector's card knows of pages.")
    ] = 0,
    jobs: Jobs = 1,
) -> None:
    """Make confidences true: read made sheets of unseen writers, and keep in the model's card how often it is right."""
    from digitize import batch, learn_context, make, models
    from digitize import calibrate as calibration

    sources = make.Sources(mnist=mnist, hands=hands, fonts=tuple(fonts or ()))
    if context:
        if detector in (None, batch.NO_DETECTOR):
            raise errors.UsageError("--context changes a detector's card: name the detector with --detector")
        if seed == learn_context.SEED:
            raise errors.UsageError(f"--seed {seed} makes the sheets that --context learns from: choose another")
        reader, finder = models.find(model), models.find(detector)
        models.require_writable(reader)
        typer.echo(f"{learn_context.teach(reader, finder, sources, count=context, jobs=jobs)}")
    outcome = calibration.calibrate(
        models.find(model), sources, detector=detector, count=count, seed=seed, placed=placed, jobs=jobs
    )
    typer.echo(f"{outcome}")


@app.command()
def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="Start TensorFlow and read one tile, too.")] = False,
    model: Annotated[str | None, typer.Option(help="Name or folder of a model.", show_default=False)] = None,
) -> None:
    """Show versions, devices and the default model; what is missing, and how to mend it."""
    from digitize import doctor as doctoring

    findings = doctoring.examine(deep=deep, model=model)
    typer.echo(doctoring.render(findings))
    if not doctoring.healthy(findings):
        raise typer.Exit(errors.ModelError.exit_code)


@sheets_app.command("make")
def make_sheets(
    folder: Annotated[Path, typer.Argument(help="Gets images/ and truth.json.")],
    count: Sheets = 20,
    kind: Annotated[list[str] | None, typer.Option(help="Only this kind of sheet; repeatable.")] = None,
    mnist: Mnist = None,
    hands: Hands = None,
    fonts: Fonts = None,
    seed: Seed = 1,
) -> None:
    """Make sheets with known digits, to test a reader on."""
    from digitize import make

    sources = make.Sources(mnist=mnist, hands=hands, fonts=tuple(fonts or ()))
    typer.echo(make.write_sheets(folder, count, sources=sources, seed=seed, kinds=kind or None))


@sheets_app.command("lessons")
def make_lessons(
    file: Annotated[Path, typer.Argument(help="The .npz to write.")],
    count: Sheets = 1000,
    validation: Validation = False,
    mnist: Mnist = None,
    hands: Hands = None,
    fonts: Fonts = None,
    seed: Seed = 1,
    jobs: Jobs = 1,
    judge: Annotated[Path | None, typer.Option(help="Folder of an earlier model; keeps what it gets wrong.")] = None,
) -> None:
    """Make sheets, cut them as `scan` does, and keep the labelled tiles for `train --tiles`."""
    from digitize import make
    from digitize.lessons import write_lessons

    sources = make.Sources(mnist=mnist, hands=hands, fonts=tuple(fonts or ()))
    kept = write_lessons(
        file,
        count,
        sources=sources,
        seed=seed,
        split="validation" if validation else "train",
        jobs=jobs,
        judge=judge,
    )
    typer.echo(f"{kept} tiles in {file}")


@sheets_app.command("drills")
def make_drills(
    file: Annotated[Path, typer.Argument(help="The .npz to write.")],
    count: Sheets = 1000,
    validation: Validation = False,
    mnist: Mnist = None,
    hands: Hands = None,
    fonts: Fonts = None,
    seed: Seed = 1,
    jobs: Jobs = 1,
) -> None:
    """Make sheets and keep them as the detector sees pages, for `train --network scout`."""
    from digitize import make
    from digitize.drills import write_drills

    sources = make.Sources(mnist=mnist, hands=hands, fonts=tuple(fonts or ()))
    split: Literal["train", "validation"] = "validation" if validation else "train"
    digits = write_drills(file, count, sources=sources, seed=seed, split=split, jobs=jobs)
    typer.echo(f"{digits} digits in {file}")


@sheets_app.command("losses")
def show_losses(
    folder: Annotated[Path, typer.Argument(help="Holds images/ and truth.json.")],
    model: Annotated[str | None, typer.Option(help="Name or folder of a model.", show_default=False)] = None,
    detector: Detector = None,
    device: Device = "auto",
    rotate: Annotated[Rotate, typer.Option(help="As for scan.")] = Rotate.auto,
    worst: Annotated[int, typer.Option(min=0, help="Show so many of the sheets that lost most as well.")] = 0,
) -> None:
    """Tell for a labelled set which stage of reading loses how many digits."""
    from digitize import batch, losses
    from digitize.scan import Settings

    scanner = batch.load_scanner(model, device, Settings(rotate=rotate.value), detector=detector)
    typer.echo(losses.render(losses.losses(folder, scanner), worst=worst))


# ------------------------------------------------------------------------------------------------ models and data


@models_app.callback()
def _models(context: typer.Context) -> None:
    """List, show and verify models."""
    if context.invoked_subcommand is None:
        list_models()


@models_app.command("list")
def list_models() -> None:
    """List the models that are found by name, and where."""
    from digitize import models

    broken = ""
    for folder in models.list_all():
        try:
            typer.echo(models.summarise(folder))
        except errors.ModelError as error:
            broken = broken or str(error)
            typer.echo(f"! {folder.name}: {error}")
    if broken:
        raise errors.ModelError(broken)


@models_app.command("show")
def show_model(
    model: Annotated[str | None, typer.Argument(help="Name or folder of a model.", show_default=False)] = None,
) -> None:
    """Show a model's card, once its files were held to it."""
    import json

    from digitize import models

    typer.echo(json.dumps(dict(models.load_card(models.find(model)).content), indent=2, ensure_ascii=False))


@models_app.command("verify")
def verify_model(
    model: Annotated[str | None, typer.Argument(help="Name or folder of a model.", show_default=False)] = None,
    data: Data = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Digits to compare on, at most.")] = 1000,
) -> None:
    """Hold a model's files to its card, and its tflite file to its Keras file."""
    from digitize import corpora, models
    from digitize import evaluate as evaluation

    folder = models.find(model)
    typer.echo(f"{folder}: the sha256 of both files is what the card says: {models.load_card(folder).tflite_sha256}")
    paths = [corpora.parse_source(one).path for one in data or ()]
    images = corpora.labelled(paths)[0][:count] if paths else None
    typer.echo(f"{evaluation.verify(folder, images, count=count)}")


@data_app.command("list")
def list_data() -> None:
    """List the sets of digits that are known: where published, licence, hash, and whether they are here."""
    from digitize import known

    typer.echo("\n".join(known.render(known.standing(one)) for one in known.SETS.values()))


@data_app.command("fetch")
def fetch_data(
    names: Annotated[list[str], typer.Argument(help="Such as mnist or pendigits.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder, instead of the cache.", show_default=False)
    ] = None,
    mirror: Annotated[
        str | None, typer.Option(help="Address of a folder that holds the same files.", show_default=False)
    ] = None,
) -> None:
    """Fetch sets of digits into the cache, and keep them if their hashes are right."""
    from digitize import known

    for one in [known.choose(name) for name in names]:
        typer.echo(f"{one.name} is in {known.fetch(one, folder=output, mirror=mirror)}")


# ------------------------------------------------------------------------------------------------ review


@review_app.command("make")
def make_review(
    results: Annotated[Path, typer.Argument(help="What digitize scan wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML page to write.")],
    sheets: SheetFolder = None,
    dpi: Annotated[float | None, typer.Option(help="At which PDF pages were rendered.", show_default=False)] = None,
    audit: Audit = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make a page to look at doubtful digits on, from results and their sheets, without reading again."""
    _listen(quiet, verbose)
    from digitize import results as result_files
    from digitize import review
    from digitize.audit import parse_share

    loaded = result_files.load(results)
    album = review.make(loaded, folder=sheets, dpi=dpi, share=0.0 if audit is None else parse_share(audit))
    review.write_page(album, output, loaded)
    log.info("%d of %d digits to look at in %s", album.to_look_at, loaded.digits, output)


@review_app.command("apply")
def apply_review(
    results: Annotated[Path, typer.Argument(help="What digitize scan wrote, or the OUTBOX of digitize watch.")],
    corrections: Annotated[list[Path], typer.Argument(help="What the page saved; several of an OUTBOX.")],
    output: Annotated[str, typer.Option("--output", "-o", help="Where to write; - is standard output.")],
    format: Annotated[Format | None, typer.Option(help="Instead of the output's suffix.", show_default=False)] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Put what a person said into the results that the page was made from."""
    _listen(quiet, verbose)
    from digitize import corrections as correcting
    from digitize import results as result_files

    said = [correcting.load(path) for path in corrections]
    if results.is_dir():
        from digitize import outbox

        outcome = outbox.apply(results, said)
    elif len(said) > 1:
        raise errors.UsageError(f"{results}: takes one file of corrections, {len(said)} are given; apply them in turn")
    else:
        outcome = correcting.apply(result_files.load(results), said[0])
    result_files.save(outcome.results, output, form=format.value if format else None)
    log.info("%s", outcome)


@review_app.command("export")
def export_review(
    corrections: Annotated[Path, typer.Argument(help="What the page saved.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of tiles to write, or to add to.")],
    results: Annotated[
        Path | None, typer.Option(help="What they belong to; beside them if not given.", show_default=False)
    ] = None,
    sheets: SheetFolder = None,
    dpi: Annotated[float | None, typer.Option(help="At which PDF pages were rendered.", show_default=False)] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Keep what a person said as labelled tiles, for `train --tiles`."""
    _listen(quiet, verbose)
    from digitize import corrections as correcting
    from digitize import relearn
    from digitize import results as result_files

    said = correcting.load(corrections)
    about = result_files.load(results or corrections.parent / Path(said.name).name)
    log.info("%d tiles in %s", relearn.export(said, about, output, folder=sheets, dpi=dpi), output)


def main() -> None:
    """Run the command line; every error that the program knows ends in one line and its exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        try:
            code = program(sys.argv[1:])(standalone_mode=False) or 0
        except SystemExit as ended:  # typer's answer to a broken pipe
            raise errors.OutputError("standard output: the program that reads it has stopped") from ended
        if code == errors.INTERRUPTED:  # typer turns Ctrl-C into this code and says nothing
            raise KeyboardInterrupt
        sys.exit(code)
    except errors.DigitizeError as error:
        _say(str(error))
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _say("interrupted")
        sys.exit(errors.INTERRUPTED)
    except Exception as error:
        if _is_usage(error):
            error.show()  # type: ignore[attr-defined]
            sys.exit(errors.UsageError.exit_code)
        if not log.handlers or log.isEnabledFor(logging.DEBUG):  # a command that has no --verbose, or was given it
            raise
        _say(f"a bug came up ({type(error).__name__}: {error}); --verbose shows where: please report it with that")
        sys.exit(errors.BUG)


def program(words: Sequence[str]) -> typer.Typer:
    """The program with the options of the command asked for, and of the others only what `--help` says of them.

    To work out the options of all commands takes as long as everything else before a command begins.

    Args:
        words: of the command line.
    """
    wanted = next((word for word in words if not word.startswith("-")), None)
    whole = copy.copy(app)
    whole.registered_commands = [
        info if _name(info) == wanted else _closed(info) for info in app.registered_commands if info.callback
    ]
    whole.registered_groups = []
    for group in app.registered_groups:
        group = copy.copy(group)
        if group.name != wanted and group.typer_instance is not None:
            group.typer_instance = copy.copy(group.typer_instance)
            group.typer_instance.registered_commands = []
        whole.registered_groups.append(group)
    return whole


def _name(info: CommandInfo) -> str:
    return info.name or str(getattr(info.callback, "__name__", ""))


def _closed(info: CommandInfo) -> CommandInfo:
    """A command without its options."""

    def nothing() -> None: ...

    nothing.__doc__ = info.callback.__doc__
    closed = copy.copy(info)
    closed.name, closed.callback = _name(info), nothing
    return closed


def _is_usage(error: Any) -> bool:
    """Whether the parser refused the command line; typer keeps its own copy of click's classes."""
    return hasattr(error, "show") and getattr(error, "exit_code", None) == errors.UsageError.exit_code


def _say(message: str) -> None:
    typer.echo("digitize: " + " ".join(line.strip() for line in message.splitlines()), err=True)


class _JsonLines(logging.Formatter):
    """What is said as one JSON object a line, with its time."""

    def format(self, record: logging.LogRecord) -> str:
        import json

        at = self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{record.msecs:03.0f}"
        said = {"time": at, "level": record.levelname.lower(), "message": record.getMessage()}
        return json.dumps(said, ensure_ascii=True)


def _listen(quiet: bool, verbose: bool, *, as_json: bool = False) -> None:
    """Send what the program says to stderr, one line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if as_json else logging.Formatter("digitize: %(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(logging.DEBUG if verbose else logging.ERROR if quiet else logging.INFO)
    log.propagate = False


if __name__ == "__main__":
    main()
