"""Reads MNIST as it is published, and the tiles that the sheet maker writes.

MNIST's IDX format (LeCun, Cortes & Burges, yann.lecun.com/exdb/mnist): big-endian; two zero bytes, one for the type
(8: uint8), one for the number of dimensions, the dimensions as 32 bit numbers, then the bytes. Files may be gzipped or
plain. What does not fit is a `DatasetError` that names the file and what was found in it.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitize.errors import DatasetError
from digitize.records import NO_DIGIT, TILE_SIDE, Tiles

DIGITS = 10
UINT8_TYPE = 8  # the third byte of an IDX file
DATA_VARIABLE = "DIGITIZE_DATA"

NONE_FOLDER = "none"  # of what is no digit, beside 0 to 9

FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
WRITERS_FILE = "writers.npz"

# What unpacking raises where a file fails, is damaged, or (RuntimeError) encrypted or packed in an unknown way.
PACKING_ERRORS = (OSError, ValueError, EOFError, RuntimeError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)

Images = NDArray[np.uint8]
Labels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Mnist:
    """The digits of MNIST.

    Attributes:
        train_images, test_images: uint8 (N, 28, 28), 0 paper to 255 ink.
        train_labels, test_labels: uint8 (N,), 0 to 9.
        hashes: sha256 of each file that was read, by file name.
        train_writers: int64 (N,), who wrote each training digit, or None where `writers.npz` is not there.
    """

    train_images: Images = field(repr=False)
    train_labels: Labels = field(repr=False)
    test_images: Images = field(repr=False)
    test_labels: Labels = field(repr=False)
    hashes: dict[str, str] = field(repr=False)
    train_writers: NDArray[np.int64] | None = field(repr=False, default=None)


@dataclass(frozen=True, slots=True)
class TileSet:
    """Tiles that the sheet maker wrote for training.

    Attributes:
        tiles: uint8 (N, 28, 28, 2), 0 paper to 255 ink: the digit, and its surroundings.
        labels: uint8 (N,), 0 to 9, or 10 for no digit.
        weights: float32 (N,), how often a tile is drawn relative to the others.
        held: bool (N,), True for those kept for validation.
        sha256: of the file.
    """

    tiles: Tiles = field(repr=False)
    labels: Labels = field(repr=False)
    weights: NDArray[np.float32] = field(repr=False)
    held: NDArray[np.bool_] = field(repr=False)
    sha256: str


def cache_folder() -> Path:
    """The folder in which datasets are kept on this machine, by the platform's custom (XDG on Linux)."""
    if os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "digitize"


def load_mnist(folder: Path) -> Mnist:
    """Read MNIST, and check that it is what it should be.

    Args:
        folder: holds all four files, gzipped or plain; `known.find_mnist` finds it.

    Returns:
        The digits.

    Raises:
        DatasetError: a file is missing, damaged, or holds something else.
    """
    hashes: dict[str, str] = {}
    arrays: dict[str, NDArray[np.uint8]] = {}
    for role, name in FILES.items():
        path = existing(folder, name)
        if path is None:
            raise DatasetError(f"{folder / name} is missing: put it there, plain or as .gz")
        hashes[path.name] = file_hash(path)
        arrays[role] = read_idx(path)
    for part in ("train", "test"):
        check_pair(folder, part, arrays[f"{part}_images"], arrays[f"{part}_labels"])
    writers = _read_writers(folder / WRITERS_FILE, len(arrays["train_labels"]), hashes)
    return Mnist(hashes=hashes, train_writers=writers, **arrays)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read one IDX file of bytes.

    Args:
        path: gzipped where it begins with gzip's two bytes, whatever its name.

    Returns:
        uint8, with the dimensions that the file states.

    Raises:
        DatasetError: it cannot be read, is no IDX file of bytes, or its length is not what it states.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error}): fetch it again") from error
    return parse_idx(content, path)


def parse_idx(content: bytes, path: str | Path) -> NDArray[np.uint8]:
    """Read the bytes of an IDX file, as `read_idx` does; `path` is where they come from, for messages."""
    try:
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path} cannot be read ({error}): fetch it again") from error
    if len(content) < 4 or content[:2] != b"\x00\x00" or content[2] != UINT8_TYPE:
        raise DatasetError(
            f"{path} is no IDX file of bytes: it begins with {content[:4].hex(' ') or 'nothing'}, expected 00 00 08"
        )
    dimensions = content[3]
    header = 4 + 4 * dimensions
    if dimensions < 1 or len(content) < header:
        raise DatasetError(f"{path} ends within its header, after {len(content)} bytes: fetch it again")
    shape = tuple(int(length) for length in np.frombuffer(content, ">u4", dimensions, 4))
    expected = header
    size = 1
    for length in shape:
        size *= length
    expected += size
    if len(content) != expected:
        raise DatasetError(f"{path} holds {len(content)} bytes where its header promises {expected}: fetch it again")
    return np.frombuffer(content, np.uint8, size, header).reshape(shape)


def load_tiles(path: Path, *, seed: int = 0) -> TileSet:
    """Read a file of tiles for training.

    Args:
        path: npz with `tiles` uint8 (N, 28, 28, 2) and `labels` (N,) 0 to 10; optionally `weights` (N,), at
            least 0, and `held` bool (N,). Or a folder of PNGs as `digitize review export` writes it.
        seed: picks one tile in twenty for validation where the file has no `held`.

    Returns:
        The tiles.

    Raises:
        DatasetError: the file cannot be read or does not fit this form.
    """
    arrays = read_folder(path) if path.is_dir() else read_npz(path)
    missing = {"tiles", "labels"} - arrays.keys()
    if missing:
        raise DatasetError(f"{path} has no array {' and no '.join(sorted(missing))}: it holds {sorted(arrays)}")
    tiles, labels = arrays["tiles"], arrays["labels"]
    weights, held = arrays.get("weights"), arrays.get("held")
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DatasetError(f"{path}: labels are {labels.dtype} {labels.shape}, expected whole numbers (N,)")
    count = len(labels)
    if tiles.dtype != np.uint8 or tiles.shape != (count, TILE_SIDE, TILE_SIDE, 2) or count == 0:
        expected = f"uint8 ({max(count, 1)}, {TILE_SIDE}, {TILE_SIDE}, 2)"
        raise DatasetError(f"{path}: tiles are {tiles.dtype} {tiles.shape}, expected {expected}")
    if labels.min() < 0 or labels.max() > NO_DIGIT:
        raise DatasetError(f"{path}: labels run from {labels.min()} to {labels.max()}, expected 0 to {NO_DIGIT}")
    if any(one is not None and one.dtype.kind not in "biuf" for one in (weights, held)):
        raise DatasetError(f"{path}: weights and held must be numbers")
    weights = np.ones(count, np.float32) if weights is None else weights.astype(np.float32)
    held = np.random.default_rng(seed).random(count) < 0.05 if held is None else held.astype(bool)
    if weights.shape != (count,) or held.shape != (count,) or not np.isfinite(weights).all() or weights.min() < 0:
        raise DatasetError(f"{path}: weights and held must be {count} numbers, weights finite and at least 0")
    if not held.all() and not weights[~held].sum() > 0:
        raise DatasetError(f"{path}: no tile is left to train on, those not held weigh nothing")
    digest = hashlib.sha256(tiles.tobytes() + labels.tobytes()).hexdigest() if path.is_dir() else file_hash(path)
    return TileSet(tiles, labels.astype(np.uint8), weights, held, digest)


def split_validation(
    labels: Labels, writers: NDArray[np.int64] | None, *, share: float = 0.1, seed: int = 0
) -> NDArray[np.bool_]:
    """Choose the training digits that are kept for validation.

    Whole writers are kept where they are known, so that validation measures hands that were never trained on, as
    MNIST's test set does.

    Args:
        labels: uint8 (N,).
        writers: int64 (N,) or None.
        share: the least part of the digits to keep, in (0, 1).
        seed: the same seed gives the same split.

    Returns:
        bool (N,), True for validation.
    """
    rng = np.random.default_rng(seed)
    wanted = share * len(labels)
    if writers is None:
        chosen = np.zeros(len(labels), bool)
        chosen[rng.permutation(len(labels))[: int(np.ceil(wanted))]] = True
        return chosen
    names, counts = np.unique(writers, return_counts=True)
    order = rng.permutation(len(names))
    kept = order[: int(np.searchsorted(np.cumsum(counts[order]), wanted)) + 1]
    return np.isin(writers, names[kept])


def file_hash(path: Path) -> str:
    """sha256 of a file, hexadecimal, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def as_tiles(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give images (N, 28, 28) blank surroundings: tiles (N, 28, 28, 2); tiles are returned as they are."""
    if images.ndim == 4:
        return images
    return np.stack([images, np.zeros_like(images)], axis=-1)


def existing(place: Path, name: str) -> Path | None:
    """The file `name` in a folder, gzipped or plain, or None."""
    for candidate in (place / f"{name}.gz", place / name):
        if candidate.is_file():
            return candidate
    return None


def check_pair(place: Path, part: str, images: Images, labels: Labels) -> None:
    """Hold the images and labels of one part of MNIST ("train" or "test") to one another.

    Raises:
        DatasetError: their shapes do not fit, or a label is no digit.
    """
    images_name, labels_name = FILES[f"{part}_images"], FILES[f"{part}_labels"]
    if images.ndim != 3 or images.shape[1:] != (TILE_SIDE, TILE_SIDE) or not len(images):
        raise DatasetError(
            f"{place / images_name} holds an array {images.shape}, expected (N, {TILE_SIDE}, {TILE_SIDE})"
        )
    if labels.ndim != 1 or len(labels) != len(images):
        expected = f"({len(images)},) as there are images"
        raise DatasetError(f"{place / labels_name} holds an array {labels.shape}, expected {expected}")
    if labels.max() >= DIGITS:
        raise DatasetError(f"{place / labels_name} has the label {labels.max()}, expected 0 to {DIGITS - 1}")


def _read_writers(path: Path, count: int, hashes: dict[str, str]) -> NDArray[np.int64] | None:
    if not path.is_file():
        return None
    arrays = read_npz(path)
    if "train" not in arrays:
        raise DatasetError(f"{path} has no array train: it holds {sorted(arrays)}; delete it or fetch it again")
    writers = arrays["train"].astype(np.int64)
    if writers.shape != (count,):
        raise DatasetError(f"{path} names {writers.shape} writers, expected ({count},), one for each training digit")
    hashes[path.name] = file_hash(path)
    return writers


def read_folder(path: Path) -> dict[str, NDArray[Any]]:
    """The tiles of a folder with one folder a class, `0` to `9` and `none`: arrays `tiles` and `labels`.

    Raises:
        DatasetError: there are none, or a picture is no tile.
    """
    import cv2

    tiles, labels = [], []
    for label, name in enumerate([*map(str, range(DIGITS)), NONE_FOLDER]):
        for file in sorted((path / name).glob("*.png")):
            try:
                picture = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
            except (OSError, cv2.error) as error:
                raise DatasetError(f"{file} cannot be read ({error}): export it again, or delete it") from error
            if picture is None or picture.shape != (TILE_SIDE, 2 * TILE_SIDE):
                found = "no picture" if picture is None else f"{picture.shape}"
                raise DatasetError(
                    f"{file}: is {found}, expected ({TILE_SIDE}, {2 * TILE_SIDE}): digit and surroundings"
                )
            tiles.append(np.stack([picture[:, :TILE_SIDE], picture[:, TILE_SIDE:]], axis=-1))
            labels.append(label)
    if not tiles:
        raise DatasetError(f"{path}: holds no tiles in 0 to 9 or {NONE_FOLDER}: make it with digitize review export")
    return {"tiles": np.stack(tiles).astype(np.uint8), "labels": np.array(labels, np.uint8)}


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file by name.

    Raises:
        DatasetError: it is missing, damaged or no `.npz`.
    """
    try:
        if not zipfile.is_zipfile(path):
            raise DatasetError(f"{path} is no npz file, or is not there: make it again")
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except PACKING_ERRORS as error:
        raise DatasetError(f"{path} cannot be read ({error}): make it again") from error
