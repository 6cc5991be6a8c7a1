"""What is here, what is missing, and how to mend it.

`examine` looks without importing anything heavy, so that it also answers where an import is what is broken. Asked to
look deeper it starts TensorFlow (or JAX) in a process of its own and reads a tile with the default model.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from digitize import __version__, machine
from digitize.errors import DigitizeError, ModelError

State = Literal["ok", "note", "wrong"]

OLDEST_PYTHON = (3, 11)
# Distributions, what each is for, and whether scanning needs it.
PACKAGES: Sequence[tuple[str, str, bool]] = (
    ("numpy", "arrays", True),
    ("pillow", "decodes images", True),
    ("pypdfium2", "renders PDFs", True),
    ("ai-edge-litert", "runs the model on a CPU", True),
    ("typer", "command line", True),
    ("tqdm", "progress", True),
    ("tensorflow", "training, and scanning on a GPU", False),
    ("keras", "training, and scanning on a GPU", False),
)
OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")
REINSTALL = "install digitize again: pip install --force-reinstall digitize"

NVIDIA_DRIVER = Path("/proc/driver/nvidia")
START_SECONDS = 120  # TensorFlow starts in 3 to 30, more from a slow disk
LIST_DEVICES = {
    "tensorflow": "import tensorflow as b; print(*(d.name for d in b.config.list_physical_devices('GPU')), sep='\\n')",
    "jax": "import jax as b; print(*(d for d in b.devices() if d.platform == 'gpu'), sep='\\n')",
}
MARK_OF: dict[State, str] = {"ok": "ok", "note": "--", "wrong": "!!"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: what: Python, a package, a device, the model.
        state: "ok"; "note" for what is worth knowing; "wrong" for what keeps `digitize scan` from working.
        text: what was found.
        remedy: how to mend it; empty where there is nothing to mend.
    """

    topic: str
    state: State
    text: str
    remedy: str = ""


def examine(*, deep: bool = False, model: str | os.PathLike[str] | None = None) -> list[Finding]:
    """Look at the installation.

    Args:
        deep: also start TensorFlow or JAX to ask for GPUs, and read a blank tile with the model. Takes seconds.
        model: name or folder of the model to look at; None for the default.

    Returns:
        What was found, in the order in which it is worth reading. Nothing is raised: what is broken is a finding.
    """
    found = [_python(), *_packages(), _opencv(), *_devices(deep)]
    return [*found, *_model(deep, model)]


def healthy(findings: Sequence[Finding]) -> bool:
    """Whether nothing stands in the way of scanning."""
    return all(finding.state != "wrong" for finding in findings)


def render(findings: Sequence[Finding]) -> str:
    """Lay findings out as lines of text, remedies indented below."""
    width = max((len(finding.topic) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{MARK_OF[finding.state]}  {finding.topic:<{width}}  {finding.text}")
        if finding.remedy:
            lines.append(f"    {'':<{width}}  to mend it: {finding.remedy}")
    wrong = sum(finding.state == "wrong" for finding in findings)
    verdict = "Ready to scan." if not wrong else f"{wrong} thing{'s' if wrong > 1 else ''} to mend before scanning."
    return "\n".join([*lines, verdict]) + "\n"


def _python() -> Finding:
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}, digitize {__version__}"
    if sys.version_info[:2] < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return Finding("Python", "wrong", text, f"make an environment with Python {oldest} or newer")
    return Finding("Python", "ok", text)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _packages() -> Iterator[Finding]:
    for name, purpose, needed in PACKAGES:
        version = _version(name)
        if version is not None:
            yield Finding(name, "ok", version)
        elif needed:
            yield Finding(name, "wrong", f"missing ({purpose})", f"pip install {name}")
        else:
            yield Finding(name, "note", f"missing ({purpose}); scanning on a CPU works without", f"pip install {name}")


def _opencv() -> Finding:
    """All of OpenCV's distributions install the same `cv2`: one is needed, two overwrite each other."""
    installed = {name: version for name in OPENCV if (version := _version(name)) is not None}
    text = ", ".join(f"{name} {version}" for name, version in installed.items())
    if not installed:
        return Finding("OpenCV", "wrong", "missing (finds the digits)", f"pip install {OPENCV[0]}")
    if len(installed) > 1:
        others = " ".join(installed)
        remedy = f"pip uninstall {others}, then pip install {OPENCV[0]}"
        return Finding("OpenCV", "note", f"{text}: they overwrite each other's files", remedy)
    if OPENCV[0] not in installed:
        text += " (needs the system's libGL, which servers often lack; the headless one does not)"
    return Finding("OpenCV", "ok", text)


def _devices(deep: bool) -> Iterator[Finding]:
    cores = machine.usable_cores()
    yield Finding("CPU", "ok", f"{cores} core{'s' if cores > 1 else ''} to be used")
    names = _gpu_names()
    hidden = machine.gpus_hidden()
    if not names:
        yield Finding("GPU", "ok", "none seen; the CPU is used")
    elif hidden:
        yield Finding(
            "GPU", "note", f"{', '.join(names)}, hidden by CUDA_VISIBLE_DEVICES", "unset CUDA_VISIBLE_DEVICES"
        )
    else:
        yield Finding("GPU", "ok", ", ".join(names))
    if deep:
        yield _backend(bool(names) and not hidden)


def _gpu_names() -> list[str]:
    """The NVIDIA GPUs that the driver lists; without its list, the device nodes, which may be others', too."""
    names = []
    for facts in sorted(NVIDIA_DRIVER.glob("gpus/*/information")):
        try:
            text = facts.read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = ""  # the driver lists a GPU that this user may not look at
        models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("Model")]
        names.append(models[0] if models else "an NVIDIA GPU")
    if not names:
        names = [f"an NVIDIA GPU ({node})" for node in sorted(machine.DEVICES.glob("nvidia[0-9]*"))]
    return names or [f"{machine.GPU_NODES[node.name]} ({node})" for node in machine.gpu_nodes()]


def _backend(gpu_expected: bool) -> Finding:
    """Start the backend of Keras and ask it for GPUs; in another process, for it may crash or print."""
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    topic = f"{backend} starts"
    if backend not in LIST_DEVICES:
        return Finding(topic, "note", "cannot be asked for its devices", "use KERAS_BACKEND=tensorflow or jax")
    command = [sys.executable, "-c", LIST_DEVICES[backend]]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(topic, "note", f"no: {error}; scanning on a CPU works without", f"pip install {backend}")
    if ended.returncode != 0:
        last = (ended.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        return Finding(topic, "note", f"no: {last}; scanning on a CPU works without", f"pip install -U {backend}")
    devices = ended.stdout.split("\n")[:-1] if ended.stdout.strip() else []
    if gpu_expected and not devices:
        extra = "tensorflow[and-cuda]" if backend == "tensorflow" else "jax[cuda12]"
        return Finding(topic, "note", "yes, but it does not see the GPU", f"pip install '{extra}'")
    return Finding(topic, "ok", f"yes; GPUs: {', '.join(devices) or 'none'}")


def _model(deep: bool, wanted: str | os.PathLike[str] | None) -> Iterator[Finding]:
    try:
        from digitize import models

        folder = models.find(wanted)
        card = models.load_card(folder)
        if card.task != "classify":
            raise ModelError(f"{folder} is a model to {card.task}, one to classify is needed")
    except (DigitizeError, ImportError) as error:
        yield Finding("model", "wrong", str(error), f"{REINSTALL}, or give another folder with --model")
        return
    yield Finding("model", "ok", f"{card.name} in {folder}, sha256 {card.tflite_sha256[:12]} as its card says")
    if deep:
        yield _model_runs(folder)
    try:
        from digitize.context import Context

        finder = models.load_card(models.find(models.DEFAULT_DETECTOR))
        Context.from_card(finder.content, finder.path)
    except (DigitizeError, ImportError) as error:
        yield Finding("detector", "wrong", str(error), f"{REINSTALL}, or scan with --detector none")
        return
    yield Finding("detector", "ok", f"{finder.name}, sha256 {finder.tflite_sha256[:12]} as its card says")


def _model_runs(folder: Path) -> Finding:
    try:
        import numpy as np

        from digitize.classify import Classifier

        classifier = Classifier(folder, device="cpu", batch_size=1)
        answer = classifier.probabilities(np.zeros((1, 28, 28, 2), np.uint8))
    except (DigitizeError, ImportError, OSError) as error:
        return Finding("model runs", "wrong", f"no: {error}", REINSTALL)
    return Finding("model runs", "ok", f"yes; {answer.shape[1]} classes, {classifier.description}")
