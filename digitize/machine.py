"""What this machine has to run a model on, found without importing anything heavy, for who chooses and who reports."""

from __future__ import annotations

import os
from pathlib import Path

DEVICES = Path("/dev")
# What a GPU's driver makes there, and whose it is.
GPU_NODES = {
    "nvidia0": "an NVIDIA GPU",
    "nvidiactl": "an NVIDIA GPU",
    "dxg": "a GPU of the Windows around this Linux",
    "kfd": "an AMD GPU",
}


def usable_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def gpu_seen() -> bool:
    """Whether this machine has a GPU that might be used."""
    return not gpus_hidden() and bool(gpu_nodes())


def gpus_hidden() -> bool:
    """Whether GPUs are not to be used: an empty CUDA_VISIBLE_DEVICES, or -1, hides them from every CUDA program."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible is not None and visible.strip() in ("", "-1")


def gpu_nodes() -> list[Path]:
    """Those of `GPU_NODES` that are there."""
    return [node for name in GPU_NODES if (node := DEVICES / name).exists()]
