"""The doctor finds what is missing and says how to mend it."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from digitize import doctor, machine, models
from digitize.doctor import Finding, examine, healthy, render
from digitize.errors import ModelError


@pytest.fixture
def sound_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    card = SimpleNamespace(path=Path("card.json"), name="duet", task="classify", tflite_sha256="a" * 64, content={})
    monkeypatch.setattr(models, "find", lambda wanted: tmp_path)
    monkeypatch.setattr(models, "load_card", lambda folder: card)


def without(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    version = metadata.version

    def look(name: str) -> str:
        if name in missing:
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", look)


def about(findings: list[Finding], topic: str) -> Finding:
    (finding,) = (finding for finding in findings if finding.topic == topic)
    return finding


@pytest.mark.usefixtures("sound_model")
def test_a_sound_installation_is_ready() -> None:
    findings = examine()
    assert healthy(findings)
    assert {"Python", "numpy", "OpenCV", "CPU", "GPU", "model"} <= {finding.topic for finding in findings}
    assert about(findings, "numpy").text == metadata.version("numpy")
    assert "a" * 12 in about(findings, "model").text
    assert render(findings).endswith("Ready to scan.\n")


@pytest.mark.usefixtures("sound_model")
@pytest.mark.parametrize("name", ["ai-edge-litert", "pypdfium2"])
def test_a_missing_package_that_scanning_needs_is_wrong(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    without(monkeypatch, name)
    findings = examine()
    assert not healthy(findings)
    assert about(findings, name).remedy == f"pip install {name}"
    assert f"pip install {name}" in render(findings)
    assert "1 thing to mend" in render(findings)


@pytest.mark.usefixtures("sound_model")
def test_scanning_does_not_need_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "tensorflow", "keras")
    findings = examine()
    assert healthy(findings)
    assert about(findings, "tensorflow").state == "note"


@pytest.mark.usefixtures("sound_model")
@pytest.mark.parametrize(
    ("installed", "state"),
    [(doctor.OPENCV[:1], "ok"), (doctor.OPENCV[1:2], "ok"), (doctor.OPENCV[:2], "note"), ((), "wrong")],
)
def test_one_opencv_is_needed(monkeypatch: pytest.MonkeyPatch, installed: tuple[str, ...], state: str) -> None:
    monkeypatch.setattr(
        doctor, "_version", lambda name: "4.10" if name in installed or name not in doctor.OPENCV else None
    )
    assert about(examine(), "OpenCV").state == state


def test_a_broken_model_is_wrong_and_its_reason_is_passed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(folder: Path) -> None:
        raise ModelError(f"{folder}: another hash")

    monkeypatch.setattr(models, "find", lambda wanted: tmp_path)
    monkeypatch.setattr(models, "load_card", refuse)
    finding = about(examine(), "model")
    assert (finding.state, finding.text) == ("wrong", f"{tmp_path}: another hash")
    assert finding.remedy


def test_a_model_that_is_not_there_is_wrong(tmp_path: Path) -> None:
    assert about(examine(model=tmp_path / "none"), "model").state == "wrong"


@pytest.mark.usefixtures("sound_model")
def test_a_gpu_that_the_driver_lists_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    facts = tmp_path / "gpus" / "0000:01:00.0" / "information"
    facts.parent.mkdir(parents=True)
    facts.write_text("Model: \t NVIDIA Test 1\nIRQ: 3\n")
    monkeypatch.setattr(doctor, "NVIDIA_DRIVER", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert about(examine(), "GPU").text == "NVIDIA Test 1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert about(examine(), "GPU").state == "note"


@pytest.mark.usefixtures("sound_model")
@pytest.mark.parametrize("node", machine.GPU_NODES)
def test_a_gpu_that_scanning_would_try_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, node: str) -> None:
    monkeypatch.setattr(doctor, "NVIDIA_DRIVER", tmp_path)
    monkeypatch.setattr(machine, "DEVICES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert not machine.gpu_seen()
    assert about(examine(), "GPU").text == "none seen; the CPU is used"
    (tmp_path / node).touch()
    assert machine.gpu_seen()
    assert about(examine(), "GPU").text == f"{machine.GPU_NODES[node]} ({tmp_path / node})"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not machine.gpu_seen()
    assert "hidden" in about(examine(), "GPU").text


def test_a_model_that_scanning_refuses_is_wrong() -> None:
    finding = about(examine(model=models.DEFAULT_DETECTOR), "model")
    assert finding.state == "wrong"
    assert "scout is a model to detect, one to classify is needed" in finding.text


@pytest.mark.parametrize(
    ("code", "gpu", "state", "text"),
    [
        ("print('GPU:0')", True, "ok", "GPU:0"),
        ("print('', end='')", False, "ok", "none"),
        ("print('', end='')", True, "note", "does not see the GPU"),
        ("raise RuntimeError('no such driver')", True, "note", "no such driver"),
    ],
)
def test_the_backend_is_asked_in_a_process_of_its_own(
    monkeypatch: pytest.MonkeyPatch, code: str, gpu: bool, state: str, text: str
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setitem(doctor.LIST_DEVICES, "jax", code)
    finding = doctor._backend(gpu)
    assert (finding.topic, finding.state) == ("jax starts", state)
    assert text in finding.text


def test_looking_imports_neither_tensorflow_nor_opencv() -> None:
    heavy = {"tensorflow", "keras", "cv2"}
    code = f"import sys, digitize.doctor as d; d.examine(); print(sorted({heavy} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_a_missing_detector_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    card = SimpleNamespace(name="duet", task="classify", tflite_sha256="a" * 64)

    def find(wanted: str | None) -> Path:
        if wanted == models.DEFAULT_DETECTOR:
            raise ModelError("no model scout")
        return tmp_path

    monkeypatch.setattr(models, "find", find)
    monkeypatch.setattr(models, "load_card", lambda folder: card)
    finding = about(doctor.examine(), "detector")
    assert finding.state == "wrong"
    assert "--detector none" in finding.remedy


def test_a_detector_whose_context_is_of_no_use_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = {"context": {"features": "places/0"}}
    card = SimpleNamespace(
        path=tmp_path / "card.json", name="duet", task="classify", tflite_sha256="a" * 64, content=content
    )
    monkeypatch.setattr(models, "find", lambda wanted: tmp_path)
    monkeypatch.setattr(models, "load_card", lambda folder: card)
    finding = about(doctor.examine(), "detector")
    assert (finding.state, "places/0" in finding.text) == ("wrong", True)
    assert finding.text.startswith(str(tmp_path))
