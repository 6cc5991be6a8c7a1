"""What runs a model's files: LiteRT on a CPU, Keras on a GPU. Whoever has a model to run, tiles or blocks, comes here.

On a CPU the tflite file runs in LiteRT, which loads in milliseconds; TensorFlow is not imported. On a GPU the Keras
file runs through whatever backend Keras is set to. A model is refused where its card disagrees with it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitize import models
from digitize.errors import DeviceError, DigitizeError, ModelError, UsageError
from digitize.machine import gpu_seen, usable_cores

SMALLEST_SHAPE = 8  # items; a GPU's batches are padded to this times a power of two, so that few shapes are compiled
MOST_REASON = 200  # letters of what Keras says of a file

_DEVICE = re.compile(r"auto|cpu|gpu(?::(\d+))?")

Batch = NDArray[np.uint8]
Answers = NDArray[np.float32]
Run = Callable[[Batch], Answers]


class Engine:
    """A loaded model: batches in, answers out.

    Attributes:
        card: what the model says of itself.
        device: "cpu" or "gpu:N".
        where: what runs it, in words.
    """

    def __init__(
        self, folder: Path, *, task: models.Task, device: str, threads: int | None, batch_size: int, piece_size: int
    ) -> None:
        """Load a model.

        Args:
            folder: a model folder (see `models.find`).
            task: what the model has to be for.
            device: "auto", "cpu", "gpu" or "gpu:N". "auto" takes a GPU where one is found and works, else the CPU.
            threads: of the CPU; all it has where None.
            batch_size: items run at once, at most; memory depends on it.
            piece_size: items LiteRT takes at a time: the activations of more do not fit into a core's cache.

        Raises:
            ModelError: the model is missing, damaged, disagrees with its card, or is for another task.
            DeviceError: the named device is not there.
            UsageError: the device's name, the batch size or the threads make no sense.
        """
        named = _DEVICE.fullmatch(device)
        if named is None:
            raise UsageError(f"the device {device!r} is none of auto, cpu, gpu, gpu:N")
        if batch_size < 1 or (threads is not None and threads < 1):
            raise UsageError(f"batch size and threads must be at least 1, not {batch_size} and {threads}")
        self.card = models.load_card(folder)
        if self.card.task != task:
            raise ModelError(f"{folder} is a model to {self.card.task}, one to {task} is needed: choose another")
        self._batch_size = batch_size
        self._lock = threading.Lock()
        self._run: Run
        self.device = "cpu"
        threads = threads or usable_cores()
        why = ""
        if device == "auto" and gpu_seen():
            try:
                self._run, backend = _load_keras(folder, self.card, 0)
                self.device = "gpu:0"
            except DeviceError as error:
                why = f" ({error})"
        elif device.startswith("gpu"):
            number = int(named[1] or 0)
            self._run, backend = _load_keras(folder, self.card, number)
            self.device = f"gpu:{number}"
        if self.device == "cpu":
            self._run = _load_litert(folder, self.card, threads, piece_size)
            self.where = f"CPU, LiteRT, {threads} thread{'s' if threads > 1 else ''}{why}"
        else:
            self.where = f"{self.device.upper()}, Keras on {backend}"

    def run(self, items: Batch) -> Answers:
        """Run the model on items of its shape, any number; may be called from several threads, which take turns."""
        answers = np.empty((len(items), *self.card.gives), np.float32)
        with self._lock:
            for start in range(0, len(items), self._batch_size):
                batch = slice(start, start + self._batch_size)
                answers[batch] = self._run(items[batch])
        return answers


def _load_litert(folder: Path, card: models.Card, threads: int, piece_size: int) -> Run:
    path = folder / models.TFLITE_FILE
    with native_stderr_kept():
        from ai_edge_litert.interpreter import Interpreter

        try:
            interpreter = Interpreter(model_path=str(path), num_threads=threads)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{path} cannot be loaded ({error}): train the model again or restore it") from error
    [taken], [given] = interpreter.get_input_details(), interpreter.get_output_details()
    _check_shapes(path, card, tuple(taken["shape"][1:]), tuple(given["shape"][1:]))
    dtype = taken["dtype"]
    length = -1

    def run(batch: Batch) -> Answers:
        nonlocal length
        answers = np.empty((len(batch), *card.gives), np.float32)
        for start in range(0, len(batch), piece_size):
            piece = batch[start : start + piece_size]
            if len(piece) != length:
                interpreter.resize_tensor_input(taken["index"], piece.shape)
                interpreter.allocate_tensors()
                length = len(piece)
            interpreter.set_tensor(taken["index"], piece.astype(dtype))
            interpreter.invoke()
            answers[start : start + piece_size] = interpreter.get_tensor(given["index"])
        return answers

    return run


def _load_keras(folder: Path, card: models.Card, number: int) -> tuple[Run, str]:
    _quiet_environment()
    with native_stderr_kept():
        try:
            import keras

            backend = keras.backend.backend()
            names = keras_gpus(backend)
        except ImportError as error:  # scanning on a CPU works without
            reason = " ".join(str(error).split())
            raise DeviceError(
                f"Keras, which runs a model on a GPU, cannot be imported ({reason}): install it and its backend, "
                "or use --device cpu or auto"
            ) from error
        if number >= len(names):
            there = f"there are {len(names)}" if names else "there is none"
            raise DeviceError(f"no GPU {number} is seen by Keras on {backend} ({there}): use --device cpu or auto")
        with keras.device(names[number]):
            model = load_keras(folder, card)

    def run(batch: Batch) -> Answers:
        padded = np.zeros((_padded_length(len(batch)), *batch.shape[1:]), np.uint8)
        padded[: len(batch)] = batch
        with keras.device(names[number]):
            answers = model.predict_on_batch(padded)
        return np.asarray(answers, np.float32)[: len(batch)]

    return run, backend


def load_keras(folder: Path, card: models.Card) -> Any:
    """Load a model's Keras file: a `keras.Model`, not compiled.

    Raises:
        ModelError: it is damaged, or its shapes are not what its card says.
    """
    import keras

    path = folder / models.KERAS_FILE
    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # of many kinds: OSError, ValueError, KeyError, RuntimeError, BadZipFile, ...
        reason = " ".join(str(error).split())[:MOST_REASON] or type(error).__name__
        raise ModelError(f"{path} cannot be loaded ({reason}): train the model again or restore it") from error
    _check_shapes(path, card, tuple(model.input.shape[1:]), tuple(model.output.shape[1:]))
    return model


def keras_gpus(backend: str) -> list[str]:
    """Names that `keras.device` knows for the GPUs that a backend sees; TensorFlow is told not to take all memory."""
    if backend == "tensorflow":
        import tensorflow

        found = tensorflow.config.list_physical_devices("GPU")
        for one in found:
            # Refused once the GPU is in use, by whoever imported TensorFlow before; its memory is theirs to manage.
            with contextlib.suppress(RuntimeError):
                tensorflow.config.experimental.set_memory_growth(one, True)
        return [f"gpu:{number}" for number in range(len(found))]
    if backend == "jax":
        jax = importlib.import_module("jax")
        return [f"gpu:{number}" for number, one in enumerate(jax.devices()) if one.platform != "cpu"]
    torch = importlib.import_module("torch")
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())]


def _padded_length(count: int) -> int:
    length = SMALLEST_SHAPE
    while length < count:
        length *= 2
    return length


def _check_shapes(path: Path, card: models.Card, taken: tuple[int, ...], given: tuple[int, ...]) -> None:
    expected = card.takes, card.gives
    found = tuple(int(length) for length in taken), tuple(int(length) for length in given)
    if found != expected:
        raise ModelError(f"{path} maps {found[0]} to {found[1]}, its card says {expected[0]} to {expected[1]}")


def _quiet_environment() -> None:
    """Ask TensorFlow and JAX for silence and restraint, before they are imported; what the user has set stays."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def import_keras() -> None:
    """Import Keras, and TensorFlow, which it takes up sooner or later whatever its backend, without their greetings."""
    with native_stderr_kept():
        importlib.import_module("keras")
        importlib.import_module("tensorflow")


@contextlib.contextmanager
def native_stderr_kept() -> Iterator[None]:
    """Hold back what C++ writes to stderr, and pass it on only if the work fails.

    LiteRT and TensorFlow greet the user from C++, where Python's logging cannot reach. File descriptor 2 is pointed at
    a temporary file meanwhile.
    """
    try:
        saved = os.dup(2)
    except OSError:  # no stderr at all, as in a service: nothing to hold back
        yield
        return
    with tempfile.TemporaryFile() as kept:
        sys.stderr.flush()
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except DigitizeError:
            raise
        except BaseException:
            kept.seek(0)
            os.write(saved, kept.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
