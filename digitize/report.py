"""What came of a training run or an evaluation, as pictures, one page and numbers.

The reliability diagram and its expected calibration error follow Guo et al., "On Calibration of Modern Neural
Networks" (2017): fifteen bins of equal width, each weighed by how many answers fall into it. The risk-coverage curve
is El-Yaniv & Wiener's ("On the Foundations of Noise-free Selective Classification", 2010): digits sorted by confidence,
the error among the surest share of them. Pictures are drawn by matplotlib, which nothing but this module loads.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from digitize.errors import OutputError
from digitize.evaluate import log_loss
from digitize.models import DIGIT_CLASSES, METRICS_FILE, NONE_CLASS
from digitize.records import Probabilities

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 15  # of confidence
WORST = 64  # errors shown
WORST_COLUMNS = 8
CURVE_POINTS = 200  # of the risk-coverage curve that are kept
SURE_ERROR = 0.01  # the coverage at this error is stated
LEAST_ERROR = 1e-4  # what no error at all is drawn as, on a logarithmic axis
DPI = 110
BLUE, RED, GRAY = "#2b5f8a", "#b3452c", "#8a8a8a"

PAGE_FILE = "report.html"
SCHEMA = "digitize-report/1"


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """How one class fares.

    Attributes:
        name: "0" to "9", or "none".
        digits: how many have this label.
        answers: how many were given this answer.
        precision: share of those answers that are right, None where there are none.
        recall: share of those digits that got it, None where there are none.
        f1: the harmonic mean of both.
    """

    name: str
    digits: int
    answers: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of about the same confidence: from `low` to `high`, how many, mean confidence, share that is right."""

    low: float
    high: float
    answers: int
    confidence: float | None
    right: float | None


@dataclass(frozen=True, slots=True)
class Metrics:
    """Everything that the report shows, as numbers.

    Attributes:
        title: which model on which digits.
        digits: how many.
        accuracy: share of right answers.
        loss: mean negative log likelihood.
        ece: expected calibration error, in [0, 1].
        coverage_at_1_percent: largest share of digits, the surest ones, of which at most 1 % are wrong.
        aurc: area under the risk-coverage curve.
        classes: one a class.
        confusion: [label][answer].
        reliability: the bins behind `ece`.
        coverage, risk: the risk-coverage curve.
        history: a record for each epoch, where a training run is reported.
    """

    title: str
    digits: int
    accuracy: float
    loss: float
    ece: float
    coverage_at_1_percent: float
    aurc: float
    classes: tuple[ClassFigures, ...]
    confusion: tuple[tuple[int, ...], ...]
    reliability: tuple[Bin, ...]
    coverage: tuple[float, ...] = field(repr=False)
    risk: tuple[float, ...] = field(repr=False)
    history: tuple[Mapping[str, Any], ...] = field(repr=False)


def measure(
    probabilities: Probabilities,
    labels: NDArray[np.uint8],
    *,
    history: Sequence[Mapping[str, Any]] = (),
    title: str = "",
) -> Metrics:
    """Work out the numbers.

    Args:
        probabilities: float32 (N, classes), N at least 1.
        labels: uint8 (N,), below classes.
        history: records of epochs.
        title: which model on which digits.
    """
    answers, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1).astype(np.float64)
    right = answers == labels
    classes = probabilities.shape[1]
    confusion = np.bincount(labels.astype(np.int64) * classes + answers, minlength=classes**2).reshape(classes, classes)
    bins = reliability(confidence, right)
    coverage, risk = risk_coverage(confidence, right)
    shown = np.unique(np.linspace(0, len(risk) - 1, CURVE_POINTS).round().astype(int))
    reached = coverage[risk <= SURE_ERROR]
    return Metrics(
        title=title,
        digits=len(labels),
        accuracy=float(right.mean()),
        loss=log_loss(probabilities, labels),
        ece=calibration_error(bins),
        coverage_at_1_percent=float(reached.max()) if len(reached) else 0.0,
        aurc=float(risk.mean()),
        classes=tuple(_class_figures(confusion, k) for k in range(classes)),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        reliability=bins,
        coverage=tuple(round(float(value), 5) for value in coverage[shown]),
        risk=tuple(round(float(value), 6) for value in risk[shown]),
        history=tuple(history),
    )


def reliability(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[Bin, ...]:
    """Sort answers into `BINS` bins of equal width by their confidence, (N,) in [0, 1]; `right` is bool (N,)."""
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = []
    for k in range(BINS):
        inside = place == k
        count = int(inside.sum())
        means = (float(confidence[inside].mean()), float(right[inside].mean())) if count else (None, None)
        bins.append(Bin(k / BINS, (k + 1) / BINS, count, *means))
    return tuple(bins)


def calibration_error(bins: Sequence[Bin]) -> float:
    """The expected calibration error: how far confidence lies from the share that is right, weighed by answers."""
    total = sum(one.answers for one in bins)
    gaps = (
        abs(one.confidence - one.right) * one.answers
        for one in bins
        if one.confidence is not None and one.right is not None
    )
    return sum(gaps) / total


def risk_coverage(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[NDArray[np.float64], ...]:
    """The share of digits that are kept, the surest first, and the share of those that is wrong: both float64 (N,)."""
    order = np.argsort(-confidence, kind="stable")
    kept = np.arange(1, len(order) + 1)
    return kept / len(order), np.cumsum(~right[order]) / kept


def worst_errors(probabilities: Probabilities, labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Which wrong answers were given with the most confidence: at most `WORST` indices, the surest first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:WORST]


def write_report(
    folder: Path,
    probabilities: Probabilities,
    labels: NDArray[np.uint8],
    images: NDArray[np.uint8],
    *,
    history: Sequence[Mapping[str, Any]] = (),
    title: str = "",
) -> Metrics:
    """Write the pictures, `report.html` and `metrics.json`.

    Args:
        folder: is made; files of these names are replaced.
        probabilities: float32 (N, classes).
        labels: uint8 (N,).
        images: uint8 (N, 28, 28), what was classified; or tiles (N, 28, 28, 2), of which the first view is shown.
        history: records of epochs, for the curves; no curves are drawn where it is empty.
        title: which model on which digits.

    Returns:
        The numbers.

    Raises:
        OutputError: the folder cannot be written.
    """
    metrics = measure(probabilities, labels, history=history, title=title)
    worst = worst_errors(probabilities, labels)
    shown = images[..., 0] if images.ndim == 4 else images
    told = [(shown[k], int(labels[k]), int(probabilities[k].argmax()), float(probabilities[k].max())) for k in worst]
    drawings: dict[str, Callable[[Figure], None]] = {
        "confusion": lambda figure: _draw_confusion(figure.subplots(), metrics),
        "reliability": lambda figure: _draw_reliability(figure, metrics),
        "risk_coverage": lambda figure: _draw_risk(figure.subplots(), metrics),
        "worst": lambda figure: _draw_worst(figure, told),
    }
    if metrics.history:
        drawings = {"curves": lambda figure: _draw_curves(figure, metrics.history), **drawings}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, draw in drawings.items():
            _write_picture(folder / f"{name}.png", draw)
        _swap(folder / METRICS_FILE, json.dumps({"schema": SCHEMA, **asdict(metrics)}, indent=1) + "\n")
        _swap(folder / PAGE_FILE, _page(metrics, list(drawings)))
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error}): choose another folder") from error
    return metrics


def _class_figures(confusion: NDArray[np.int64], k: int) -> ClassFigures:
    hit, digits, answers = int(confusion[k, k]), int(confusion[k].sum()), int(confusion[:, k].sum())
    return ClassFigures(
        name=class_name(k),
        digits=digits,
        answers=answers,
        precision=hit / answers if answers else None,
        recall=hit / digits if digits else None,
        f1=2 * hit / (digits + answers) if digits + answers else None,
    )


def class_name(k: int) -> str:
    """What class `k` is called."""
    return (*DIGIT_CLASSES, NONE_CLASS)[k]


def _swap(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


# --------------------------------------------------------------------------------------------------------- pictures


def _write_picture(path: Path, draw: Callable[[Figure], None]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure)
    partial = path.with_name(f".{path.name}.partial")
    # No date and no version inside, so that the same numbers give the same file.
    figure.savefig(partial, format="png", metadata={"Software": None})
    partial.replace(path)


def _draw_curves(figure: Figure, history: Sequence[Mapping[str, Any]]) -> None:
    figure.set_size_inches(9, 4)
    left, right = figure.subplots(1, 2)
    epochs = [record["epoch"] for record in history]
    left.plot(epochs, [record["loss"] for record in history], color=GRAY, marker=".", label="training")
    left.plot(epochs, [record["validation_loss"] for record in history], color=BLUE, marker=".", label="validation")
    # Negative log likelihood; in training with teachers the divergence from their targets.
    left.set(title="loss", xlabel="epoch", ylabel="loss", yscale="log")
    curves = [("training", "accuracy", GRAY), ("validation digits", "mnist_accuracy", BLUE)]
    if history[0]["tiles_accuracy"] is not None:
        curves.append(("held tiles", "tiles_accuracy", RED))
    for name, key, color in curves:
        # From the first epoch to the last the errors shrink a hundredfold: only their logarithm shows both.
        errors = [100 * max(1 - record[key], LEAST_ERROR) for record in history]
        right.plot(epochs, errors, color=color, marker=".", label=f"{name}, last {history[-1][key]:.2%} right")
    right.set(title="accuracy", xlabel="epoch", ylabel="wrong, %", yscale="log")
    right.yaxis.set_major_formatter("{x:g}")
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()


def _draw_confusion(axes: Axes, metrics: Metrics) -> None:
    names = [one.name for one in metrics.classes]
    counts = np.array(metrics.confusion, float)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    off = share * (1 - np.eye(len(names)))
    axes.imshow(off, cmap="Reds", vmin=0, vmax=max(float(off.max()), 0.01), aspect="auto")
    for row, column in np.ndindex(counts.shape):
        if counts[row, column]:
            dark = off[row, column] > 0.6 * off.max() > 0
            color = "white" if dark else GRAY if row == column else "black"
            axes.text(column, row, f"{int(counts[row, column])}", ha="center", va="center", color=color, fontsize=8)
    axes.set(xlabel="answer", ylabel="label", title="confusion (shaded: share of the label's digits that is wrong)")
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)


def _draw_reliability(figure: Figure, metrics: Metrics) -> None:
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    width = 1 / BINS
    filled = [one for one in metrics.reliability if one.right is not None and one.confidence is not None]
    above.plot([0, 1], [0, 1], color=GRAY, linestyle="--", linewidth=1, label="confidence that can be believed")
    above.bar(
        [one.low for one in filled], [one.right or 0 for one in filled], width, align="edge", color=BLUE, alpha=0.5
    )
    above.plot(
        [one.confidence for one in filled], [one.right for one in filled], "o", color=BLUE, label="right in each bin"
    )
    above.set(ylabel="share right", ylim=(0, 1.02), xlim=(0, 1), title=f"reliability, ECE {metrics.ece:.4f}")
    below.bar(
        [one.low for one in metrics.reliability],
        [one.answers for one in metrics.reliability],
        width,
        align="edge",
        color=GRAY,
    )
    below.set(xlabel="confidence", ylabel="digits", yscale="symlog")
    figure.legend(loc="outside lower center", ncols=3)


def _draw_risk(axes: Axes, metrics: Metrics) -> None:
    axes.plot([100 * value for value in metrics.coverage], [100 * value for value in metrics.risk], color=BLUE)
    axes.axhline(100 * SURE_ERROR, color=RED, linestyle="--", linewidth=1)
    at = 100 * metrics.coverage_at_1_percent
    axes.axvline(at, color=RED, linestyle="--", linewidth=1, label=f"{at:.1f} % of the digits at an error of 1 %")
    top = max(100 * max(metrics.risk), 100 * SURE_ERROR)
    axes.set(
        xlabel="coverage, % of the digits, the surest first",
        ylabel="of those wrong, %",
        ylim=(0, 1.1 * top),
        xlim=(0, 102),
    )
    axes.set_title(f"risk and coverage, area {metrics.aurc:.5f}")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")


def _draw_worst(figure: Figure, told: Sequence[tuple[NDArray[np.uint8], int, int, float]]) -> None:
    rows = max(1, -(-len(told) // WORST_COLUMNS))
    figure.set_size_inches(WORST_COLUMNS * 1.1, rows * 1.3 + 0.6)
    grid = figure.subplots(rows, WORST_COLUMNS, squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    for axes, (image, label, answer, confidence) in zip(grid.ravel(), told, strict=False):
        axes.imshow(255 - image, cmap="gray", vmin=0, vmax=255)
        axes.set_title(f"{class_name(label)} \N{RIGHTWARDS ARROW} {class_name(answer)}  {confidence:.2f}", fontsize=8)
    figure.suptitle(
        f"the {len(told)} worst errors: label \N{RIGHTWARDS ARROW} answer, confidence" if told else "no errors"
    )


# ------------------------------------------------------------------------------------------------------------- page

_STYLE = (
    "body{font-family:sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:1em 0}"
    "td,th{padding:.25em .8em;border-bottom:1px solid #ccc;text-align:right}"
    "th:first-child,td:first-child{text-align:left}img{max-width:100%;margin:1em 0}"
)
_CAPTIONS = {
    "curves": "Loss and accuracy by epoch.",
    "confusion": "How often a digit of one class was given another.",
    "reliability": "Of answers of the same confidence, how many are right.",
    "risk_coverage": "How many digits can be taken as they are, and how many of those are wrong.",
    "worst": "The wrong answers that were given with the most confidence.",
}


def _page(metrics: Metrics, pictures: Sequence[str]) -> str:
    title = html.escape(metrics.title or "report")
    figures = [
        ("digits", f"{metrics.digits:,}"),
        ("accuracy", f"{metrics.accuracy:.4f}"),
        ("loss", f"{metrics.loss:.4f}"),
        ("expected calibration error", f"{metrics.ece:.4f}"),
        ("digits that can be taken at an error of 1 %", f"{metrics.coverage_at_1_percent:.1%}"),
        ("area under the risk-coverage curve", f"{metrics.aurc:.6f}"),
    ]
    rows = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in figures)
    classes = "".join(
        f"<tr><td>{one.name}</td><td>{one.digits}</td><td>{one.answers}</td>"
        f"<td>{_share(one.precision)}</td><td>{_share(one.recall)}</td><td>{_share(one.f1)}</td></tr>"
        for one in metrics.classes
    )
    shown = "".join(
        f'<figure><img src="{name}.png" alt="{_CAPTIONS[name]}"><figcaption>{_CAPTIONS[name]}</figcaption></figure>'
        for name in pictures
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{title}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{title}</h1><table>{rows}</table>"
        "<table><tr><th>class</th><th>digits</th><th>answers</th><th>precision</th><th>recall</th><th>f1</th></tr>"
        f'{classes}</table>{shown}<p>The same numbers: <a href="{METRICS_FILE}">{METRICS_FILE}</a></p></body></html>\n'
    )


def _share(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.4f}"
