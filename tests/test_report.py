"""The report's numbers are those of a slow obvious loop, and its files are whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digitize import report
from digitize.errors import OutputError

RNG = np.random.default_rng(11)


def answers(count: int = 300, classes: int = 11) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels, most of them right."""
    logits = RNG.normal(0, 1.5, (count, classes)).astype(np.float32)
    labels = RNG.integers(0, 10, count).astype(np.uint8)
    logits[np.arange(count), labels] += 3
    powers = np.exp(logits)
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32), labels


def test_four_answers_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]], np.float32)
    found = report.measure(probabilities, np.array([0, 1, 1, 1], np.uint8))
    assert found.accuracy == 0.75
    assert found.loss == pytest.approx(-np.log([0.9, 0.2, 0.7, 0.6]).mean(), rel=1e-5)
    assert found.confusion == ((1, 0), (1, 2))
    # Each answer has a bin of its own: gaps of 0.1, 0.8, 0.3 and 0.4, each a quarter.
    assert found.ece == pytest.approx((0.1 + 0.8 + 0.3 + 0.4) / 4, abs=1e-6)
    assert found.risk == pytest.approx((0, 1 / 2, 1 / 3, 1 / 4), abs=1e-5)
    assert found.coverage == (0.25, 0.5, 0.75, 1.0)
    assert found.coverage_at_1_percent == 0.25
    zero, one = found.classes
    assert (zero.digits, zero.answers, zero.precision, zero.recall) == (1, 2, 0.5, 1.0)
    assert (one.digits, one.answers, one.precision, one.recall) == (3, 2, 1.0, pytest.approx(2 / 3))
    assert one.f1 == pytest.approx(0.8)


def test_the_same_as_a_slow_loop() -> None:
    probabilities, labels = answers()
    found = report.measure(probabilities, labels)
    told = probabilities.max(axis=1).astype(float)
    right = probabilities.argmax(axis=1) == labels
    error = 0.0
    for k in range(report.BINS):
        inside = [i for i in range(len(labels)) if k == min(int(told[i] * report.BINS), report.BINS - 1)]
        if inside:
            error += abs(sum(told[i] for i in inside) - sum(right[i] for i in inside)) / len(labels)
    assert found.ece == pytest.approx(error)
    order = sorted(range(len(labels)), key=lambda i: -told[i])
    risks = [sum(not right[i] for i in order[: n + 1]) / (n + 1) for n in range(len(order))]
    assert found.aurc == pytest.approx(np.mean(risks))
    reached = [(n + 1) / len(order) for n, risk in enumerate(risks) if risk <= 0.01]
    assert found.coverage_at_1_percent == pytest.approx(max(reached, default=0.0))
    assert sum(map(sum, found.confusion)) == len(labels)


def test_a_class_that_is_not_there_has_no_share() -> None:
    found = report.measure(np.array([[0.6, 0.4, 0.0]], np.float32), np.array([0], np.uint8))
    assert (found.classes[2].precision, found.classes[2].recall, found.classes[2].f1) == (None, None, None)


def test_the_worst_errors_are_the_surest() -> None:
    probabilities, labels = answers(2000)
    found = report.worst_errors(probabilities, labels)
    told = probabilities.max(axis=1)
    assert len(found) == report.WORST
    assert (probabilities[found].argmax(axis=1) != labels[found]).all()
    assert (np.diff(told[found]) <= 0).all()
    wrong = told[probabilities.argmax(axis=1) != labels]
    assert told[found].min() >= np.sort(wrong)[-report.WORST]


def history(epochs: int) -> list[dict[str, float | None]]:
    keys = ("loss", "validation_loss", "accuracy", "mnist_accuracy", "tiles_accuracy")
    return [{"epoch": k, **dict.fromkeys(keys, 0.5 / k)} for k in range(1, epochs + 1)]


def test_writes_pictures_a_page_and_the_same_numbers(tmp_path: Path) -> None:
    probabilities, labels = answers()
    images = RNG.integers(0, 256, (300, 28, 28)).astype(np.uint8)
    found = report.write_report(
        tmp_path / "r", probabilities, labels, images, history=history(3), title="small <on> digits"
    )
    names = {"curves.png", "confusion.png", "reliability.png", "risk_coverage.png", "worst.png"}
    assert {path.name for path in (tmp_path / "r").iterdir()} == names | {"report.html", "metrics.json"}
    for name in names:
        with Image.open(tmp_path / "r" / name) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 200
            assert len(picture.convert("L").getcolors() or [0] * 300) > 2
    stored = json.loads((tmp_path / "r" / "metrics.json").read_text())
    assert stored["schema"] == report.SCHEMA
    assert stored["accuracy"] == found.accuracy
    assert len(stored["classes"]) == 11
    assert len(stored["history"]) == 3
    page = (tmp_path / "r" / "report.html").read_text()
    assert f"{found.accuracy:.4f}" in page
    assert f"{found.ece:.4f}" in page
    assert "small &lt;on&gt; digits" in page
    assert all(name in page for name in names)


def test_no_history_no_curves_and_no_errors_no_pictures_of_them(tmp_path: Path) -> None:
    labels = np.arange(10).astype(np.uint8)
    images = np.zeros((10, 28, 28), np.uint8)
    found = report.write_report(tmp_path, np.eye(10, dtype=np.float32), labels, images)
    assert found.accuracy == 1.0
    assert found.ece == 0.0
    assert found.coverage_at_1_percent == 1.0
    assert not (tmp_path / "curves.png").exists()
    assert "curves.png" not in (tmp_path / "report.html").read_text()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    probabilities, labels = answers(10)
    with pytest.raises(OutputError, match="taken"):
        report.write_report(tmp_path / "taken", probabilities, labels, np.zeros((10, 28, 28), np.uint8))
