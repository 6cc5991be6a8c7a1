"""Labelled digits to learn from and to be measured on, in the forms in which they are published or kept.

A corpus is read from MNIST's IDX files, Keras's `mnist.npz`, an npz of images and labels, a `.tgz`, `.tar.xz` or `.zip`
that holds any of these, a folder with one subfolder a class, UCI's pendigits, or UNIPEN's train_r01_v07. What is not in
MNIST's form already (pictures, pen strokes) enters through `normalise.py`, on the road that scanned digits take. The
tiles of `digitize review export` are such a folder too, and keep both their views.

UNIPEN (Guyon et al. 1994): a file below `data/1a` names components of the file that it included last; `.COORD` says
which column is which. Components count through `.PEN_DOWN` and `.PEN_UP` alike where the file gives coordinates between
strokes, and through `.PEN_DOWN` alone where it does not.
"""

from __future__ import annotations

import io
import itertools
import os
import re
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from digitize import datasets, known, sheets
from digitize.datasets import DIGITS, FILES, NONE_FOLDER, Images, Labels, Mnist
from digitize.errors import DatasetError, SheetError, UsageError
from digitize.hands import Pen, PenSet, draw_strokes, read_pendigits, sane_digits
from digitize.normalise import fit_digit
from digitize.records import NO_DIGIT, TILE_SIDE, Mask

NPZ_ARRAYS = {"train_images": "x_train", "train_labels": "y_train", "test_images": "x_test", "test_labels": "y_test"}
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp")
ARCHIVES = (".tgz", ".tar", ".tar.gz", ".tar.xz", ".tar.bz2", ".zip")
MOST_UNPACKED = 1 << 30  # bytes taken out of one archive; MNIST is 55 million, UNIPEN's digits 25 million
FORMS = (
    "IDX files, mnist.npz, an npz of images and labels, a .tgz or .zip of these, a folder with one subfolder a class, "
    "pendigits-orig.*, or UNIPEN's folder of data/ and include/"
)

DRAWN_HEIGHT = 96.0  # pixels, at which pen strokes are drawn before they are brought into MNIST's form
PEN_WIDTHS = (0.07, 0.15)  # digit heights; MNIST's strokes are about 0.12
PEN_SEED = 1994  # fixed, so that one file always gives the same tiles
COVERED = 0.5  # of a pixel's area from which on it is ink
CLEAR_BORDER = 0.7  # share of a picture's border that has to be alike to say what is paper
MISNUMBERED = ("cea", "ceb", "tos")  # donors of UNIPEN whose components are numbered otherwise, and come out wrong

UNIPEN_DIGITS = "data/1a/"
_KEYWORD = re.compile(r"^[ \t]*\.(?=[A-Z])", re.MULTILINE)
_SEGMENT = re.compile(r'SEGMENT\s+CHARACTER\s+([0-9,\-]+)\s+\S+\s+"([0-9])"')


@dataclass(frozen=True, slots=True)
class Source:
    """One set of labelled digits to train on.

    Attributes:
        path: a file or folder in one of the forms of `read_corpus`.
        weight: how often one of its digits is drawn, relative to one of another set.
    """

    path: Path
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 1000:
            raise UsageError(f"the weight of {self.path} must be above 0 and at most 1000, not {self.weight:g}")


@dataclass(frozen=True, slots=True)
class Corpus:
    """Labelled digits in MNIST's form.

    Attributes:
        path: what was read.
        train_images, test_images: uint8 (N, 28, 28), 0 paper to 255 ink; a set without a test part has none.
        train_labels, test_labels: uint8 (N,), 0 to 9, or 10 for no digit.
        train_writers: (N,) who wrote each training digit, or None where that is not known.
        hashes: sha256 of each file that was read, by name; of what is inside it where it is packed pen strokes; of a
            folder of pictures, or of UNIPEN's files, one for all.
        published: which set it is, where its form says so; else its hashes tell.
        train_surroundings: uint8 (N, 28, 28), the second view of each training digit, where the set has both.
    """

    path: Path
    train_images: Images = field(repr=False)
    train_labels: Labels = field(repr=False)
    test_images: Images = field(repr=False)
    test_labels: Labels = field(repr=False)
    train_writers: NDArray[Any] | None = field(repr=False)
    hashes: dict[str, str] = field(repr=False)
    published: known.Known | None = None
    train_surroundings: Images | None = field(repr=False, default=None)

    @property
    def labelled(self) -> tuple[Images, Labels]:
        """What a model is measured on: the test part, or all where there is none; (N, 28, 28, 2) where it has views."""
        if len(self.test_labels):
            return self.test_images, self.test_labels
        if self.train_surroundings is not None:
            return np.stack([self.train_images, self.train_surroundings], axis=-1), self.train_labels
        return self.train_images, self.train_labels

    @property
    def test_name(self) -> str:
        """What the accuracy on its test digits is called in a card; what is not known is in MNIST's form."""
        published = self.published or known.recognise(self.hashes.values())
        return f"{(published or known.MNIST).name}_test"

    def entry(self, weight: float = 1.0) -> dict[str, Any]:
        """What a model's card says of it."""
        published = self.published or known.recognise(self.hashes.values())
        name = {"name": published.title, "licence": published.licence} if published else {"name": self.path.name}
        return {**name, "files": dict(sorted(self.hashes.items())), "digits": len(self.train_labels), "weight": weight}


@dataclass(frozen=True, slots=True)
class Pool:
    """Several corpora as one.

    Attributes:
        mnist: all digits, in the order of the sources; writers are numbers that no two sources share.
        weights: float64 (N,), how often each training digit is drawn relative to the others.
        entries: one a source, for a card.
        test_name: what the accuracy on the test digits is called in a card.
        framed: bool (N,), True for the training digits that come with their surroundings.
        surroundings: uint8 (N, 28, 28), blank for the others; None where no digit has any.
    """

    mnist: Mnist = field(repr=False)
    weights: NDArray[np.float64] = field(repr=False)
    entries: tuple[dict[str, Any], ...] = field(repr=False)
    test_name: str
    framed: NDArray[np.bool_] = field(repr=False)
    surroundings: Images | None = field(repr=False, default=None)

    def tiles(self, rows: NDArray[Any], views: int) -> NDArray[np.uint8]:
        """Training digits as a network sees them: uint8 (len(rows), 28, 28, views), a copy; `rows` as NumPy indexes."""
        images = self.mnist.train_images[rows]
        tiles = np.zeros((*images.shape, views), np.uint8)
        tiles[..., 0] = images
        if views > 1 and self.surroundings is not None:
            tiles[..., 1] = self.surroundings[rows]
        return tiles


def parse_source(text: str) -> Source:
    """Read `PATH` or `PATH=WEIGHT`.

    Raises:
        UsageError: the weight is out of range.
    """
    path, sign, weight = text.rpartition("=")
    if sign and path and not Path(text).exists():
        try:
            return Source(Path(path), float(weight))
        except ValueError:
            return Source(Path(text))
    return Source(Path(text))


def gather(sources: Sequence[Source] = ()) -> Pool:
    """Read several sets as one.

    Args:
        sources: where they are; none takes MNIST from the usual places, or fetches it (see `known.find_mnist`).

    Returns:
        The digits.

    Raises:
        DatasetError: one is missing or damaged, or together they lack one of the ten digits.
    """
    chosen = tuple(sources) or (Source(known.find_mnist()),)
    corpora = [read_corpus(source.path) for source in chosen]
    labels = np.concatenate([corpus.train_labels for corpus in corpora])
    absent = [str(digit) for digit in range(DIGITS) if not (labels == digit).any()]
    if absent:
        places = ", ".join(str(source.path) for source in chosen)
        raise DatasetError(f"{places}: class {', '.join(absent)} is empty; add a set that has it with another --data")
    hashes = {name: value for corpus in corpora for name, value in corpus.hashes.items()}
    pooled = Mnist(
        _joined([corpus.train_images for corpus in corpora]),
        labels,
        _joined([corpus.test_images for corpus in corpora]),
        np.concatenate([corpus.test_labels for corpus in corpora]),
        hashes,
        _numbered([corpus.train_writers for corpus in corpora], [len(corpus.train_labels) for corpus in corpora]),
    )
    weights = [np.full(len(one.train_labels), each.weight) for one, each in zip(corpora, chosen, strict=True)]
    entries = tuple(corpus.entry(source.weight) for corpus, source in zip(corpora, chosen, strict=True))
    tested = {corpus.test_name for corpus in corpora if len(corpus.test_labels)}
    test_name = tested.pop() if len(tested) == 1 else "test"
    framed = np.concatenate([np.full(len(one.train_labels), one.train_surroundings is not None) for one in corpora])
    return Pool(pooled, np.concatenate(weights), entries, test_name, framed, _surroundings(corpora))


def _surroundings(corpora: list[Corpus]) -> Images | None:
    """The second views of several sets, blank where a set has none; None where no set has any."""
    if all(corpus.train_surroundings is None for corpus in corpora):
        return None
    views = [(corpus.train_surroundings, corpus.train_images) for corpus in corpora]
    return _joined([np.zeros_like(images) if view is None else view for view, images in views])


def labelled(paths: Sequence[Path]) -> tuple[Images, Labels]:
    """What a model is measured on: the test parts of several sets, or all of a set that has none.

    Returns:
        uint8 (N, 28, 28), or (N, 28, 28, 2) where one of the sets comes with surroundings; labels uint8 (N,).

    Raises:
        DatasetError: as `read_corpus`.
    """
    parts = [read_corpus(path).labelled for path in paths]
    images = [images for images, _ in parts]
    if any(one.ndim == 4 for one in images):
        images = [datasets.as_tiles(one) for one in images]
    return _joined(images), np.concatenate([labels for _, labels in parts])


def read_corpus(path: Path) -> Corpus:
    """Read labelled digits, whatever form they are in.

    Args:
        path: a file or folder; see the head of this module for the forms.

    Returns:
        The digits.

    Raises:
        DatasetError: it is not there, is in no known form, or something in it is not as it should be; the message
            names the file and what was found.
    """
    lower = path.name.lower()
    try:
        if path.is_dir():
            return _read_folder(path)
        if not path.is_file():
            raise DatasetError(f"{path} is not there: give {FORMS}")
        if lower.endswith(ARCHIVES):
            return _read_archive(path)
        if lower.endswith(".npz"):
            return _read_npz(path, path.read_bytes())
        return _read_file(path)
    except OSError as error:  # no right to read it, or the disk fails
        raise DatasetError(f"{error.filename or path} cannot be read ({error.strerror}): mend or delete it") from error


def _joined(parts: list[Images]) -> Images:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _numbered(named: list[NDArray[Any] | None], counts: list[int]) -> NDArray[np.int64] | None:
    """Writers of several sets as numbers; who is unknown counts as a writer of one digit."""
    if all(names is None for names in named):
        return None
    numbers, highest = [], 0
    for names, count in zip(named, counts, strict=True):
        own = np.arange(count) if names is None else np.unique(names, return_inverse=True)[1]
        numbers.append(own.astype(np.int64) + highest)
        highest += count
    return np.concatenate(numbers)


def _nothing() -> tuple[Images, Labels]:
    return np.zeros((0, TILE_SIDE, TILE_SIDE), np.uint8), np.zeros(0, np.uint8)


def _from_mnist(path: Path, mnist: Mnist) -> Corpus:
    return Corpus(
        path,
        mnist.train_images,
        mnist.train_labels,
        mnist.test_images,
        mnist.test_labels,
        mnist.train_writers,
        mnist.hashes,
    )


# ------------------------------------------------------------------------------------------------ files and folders


def _read_folder(folder: Path) -> Corpus:
    for place in (folder, folder / "mnist"):
        if any(datasets.existing(place, name) for name in FILES.values()):
            return _from_mnist(folder, datasets.load_mnist(place))
    if (folder / known.KERAS_NPZ).is_file():
        return read_corpus(folder / known.KERAS_NPZ)
    if (folder / UNIPEN_DIGITS).is_dir():
        return _read_unipen(folder, _Tree.of_folder(folder))
    pens = sorted(one for one in folder.glob("pendigits-orig.t*") if one.is_file())
    if pens:
        return _read_pendigits(folder, [(one.name, one.read_bytes()) for one in pens])
    if any(child.is_dir() for child in folder.iterdir()):
        return _read_classes(folder)
    found = ", ".join(sorted(child.name for child in folder.iterdir())[:5]) or "nothing"
    raise DatasetError(f"{folder} holds no digits in a known form, but {found}: give {FORMS}")


def _read_file(path: Path) -> Corpus:
    content = path.read_bytes()
    if "images" in path.name:
        name = path.name.replace("images", "labels").replace("idx3", "idx1").removesuffix(".gz")
        beside = datasets.existing(path.parent, name)
        if beside is None:
            raise DatasetError(f"{path} holds images, but {name} is not beside it: put the labels there")
        images, labels = datasets.parse_idx(content, path), datasets.read_idx(beside)
        _check_images(path, images, labels)
        hashes = {path.name: datasets.file_hash(path), beside.name: datasets.file_hash(beside)}
        return Corpus(path, images, labels, *_nothing(), None, hashes)
    if ".SEGMENT" in known.unpacked(content, path)[:4096].decode("latin-1"):
        return _read_pendigits(path, [(path.name, content)])
    raise DatasetError(f"{path} begins with {content[:4].hex(' ') or 'nothing'}, no known form: give {FORMS}")


def _read_npz(path: Path, content: bytes) -> Corpus:
    if not zipfile.is_zipfile(io.BytesIO(content)):
        raise DatasetError(f"{path} is no npz file, it begins with {content[:4].hex(' ') or 'nothing'}: fetch it again")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except datasets.PACKING_ERRORS as error:
        raise DatasetError(f"{path} cannot be read ({error}): fetch it again") from error
    hashes = {path.name: sha256(content).hexdigest()}
    if set(NPZ_ARRAYS.values()) <= arrays.keys():
        parts = {role: arrays[name] for role, name in NPZ_ARRAYS.items()}
        for part in ("train", "test"):
            _check_images(path, parts[f"{part}_images"], parts[f"{part}_labels"])
            parts[f"{part}_labels"] = parts[f"{part}_labels"].astype(np.uint8)
        return Corpus(path, **parts, train_writers=None, hashes=hashes)
    if {"images", "labels"} <= arrays.keys():
        images, labels = arrays["images"], arrays["labels"]
        _check_images(path, images, labels, most=NO_DIGIT)
        return Corpus(path, _inked(path, images, labels), labels.astype(np.uint8), *_nothing(), None, hashes)
    wanted = ", ".join(NPZ_ARRAYS.values())
    raise DatasetError(f"{path} holds the arrays {sorted(arrays)}, expected {wanted}, or images and labels")


def _check_images(path: Path, images: NDArray[Any], labels: NDArray[Any], *, most: int = DIGITS - 1) -> None:
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (TILE_SIDE, TILE_SIDE) or not len(images):
        raise DatasetError(f"{path} holds {images.dtype} {images.shape}, expected uint8 (N, {TILE_SIDE}, {TILE_SIDE})")
    if labels.ndim != 1 or len(labels) != len(images):
        raise DatasetError(f"{path} has {labels.shape} labels for {len(images)} images, as many of both are needed")
    if not np.issubdtype(labels.dtype, np.integer):
        raise DatasetError(f"{path} has labels of type {labels.dtype}, expected whole numbers from 0 to {most}")
    if labels.min() < 0 or labels.max() > most:
        raise DatasetError(f"{path} has labels from {labels.min()} to {labels.max()}, expected 0 to {most}")


def _inked(path: Path, images: Images, labels: NDArray[Any]) -> Images:
    """Images as they came where the paper is 0, else, as scans are, brought into MNIST's form one by one."""
    border = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    if np.median(border) < 128:
        return images
    pairs = zip(images, labels, strict=True)
    return np.stack([_fitted(image, f"{path}, image {k}", int(label)) for k, (image, label) in enumerate(pairs)])


def _fitted(gray: NDArray[np.uint8], name: str, label: int) -> NDArray[np.uint8]:
    """The digit of a picture in MNIST's form, uint8 (28, 28); the middle of one that is blank, if it is to be none.

    Raises:
        DatasetError: there is no ink where there should be a digit; `name` is named.
    """
    mask = _mask_of(gray)
    if not mask.any():
        _require_none(name, label)
        mask[gray.shape[0] // 2, gray.shape[1] // 2] = True
    return fit_digit(mask)


def _require_none(name: str, label: int) -> None:
    """Refuse the label of a picture that is blank, unless it says so."""
    if label != NO_DIGIT:
        raise DatasetError(f"{name} is blank, and labelled {label}: delete it, or label it {NONE_FOLDER!r}")


def _mask_of(gray: NDArray[np.uint8]) -> Mask:
    """The ink of a picture of one digit, by Otsu's threshold; paper is what the border is, or most of the picture."""
    level, _ = cv2.threshold(gray, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    light: Mask = gray > level
    share = float(np.concatenate([light[0], light[-1], light[:, 0], light[:, -1]]).mean())
    if 1 - CLEAR_BORDER < share < CLEAR_BORDER:
        share = float(light.mean())
    return ~light if share > 0.5 else light


def _read_classes(folder: Path) -> Corpus:
    """A folder with one subfolder a class, as corrections are kept: `0` to `9`, and `none` for what is no digit."""
    pictures: list[Path] = []
    labels: list[int] = []
    classes = {str(digit): digit for digit in range(DIGITS)} | {NONE_FOLDER: NO_DIGIT}
    for place in sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")):
        if place.name not in classes:
            raise DatasetError(f"{folder} has a subfolder {place.name!r}, expected 0 to 9 and {NONE_FOLDER!r}")
        found = sorted(one for one in place.iterdir() if one.suffix.lower() in PICTURES)
        if not found:
            raise DatasetError(f"{place} is an empty class, it holds no picture: put some there or delete the folder")
        pictures.extend(found)
        labels.extend([classes[place.name]] * len(found))
    grays, digest = [], sha256()
    for picture in pictures:
        grays.append(_read_gray(picture))
        digest.update(os.fsencode(f"{picture.parent.name}/{picture.name}\0") + picture.read_bytes())
    images, surroundings = _both_views(folder, pictures, grays, labels)
    return Corpus(
        folder,
        images,
        np.array(labels, np.uint8),
        *_nothing(),
        train_writers=None,
        hashes={f"{folder.name}/": digest.hexdigest()},
        train_surroundings=surroundings,
    )


def _both_views(
    folder: Path, pictures: list[Path], grays: list[NDArray[np.uint8]], labels: list[int]
) -> tuple[Images, NDArray[np.uint8] | None]:
    """The digits of a folder's pictures, and their surroundings where the pictures are tiles of `review export`.

    Such tiles are known by their size, two views of 28 pixels side by side. A folder that mixes them with other
    pictures is refused, as a tile cut like a picture would be another digit.
    """
    exported = [gray.shape == (TILE_SIDE, 2 * TILE_SIDE) for gray in grays]
    if not any(exported):
        return np.stack([_digit_of(*one) for one in zip(grays, pictures, labels, strict=True)]), None
    if not all(exported):
        tile, other = pictures[exported.index(True)], pictures[exported.index(False)]
        raise DatasetError(
            f"{folder} mixes tiles of digitize review export ({tile}: digit and surroundings, "
            f"{2 * TILE_SIDE} × {TILE_SIDE}) with other pictures ({other}): keep them in two folders, each given with "
            "--data"
        )
    tiles = np.stack(grays)
    return tiles[..., :TILE_SIDE].copy(), tiles[..., TILE_SIDE:].copy()


def _read_gray(path: Path) -> NDArray[np.uint8]:
    """A picture as it is scanned, upright and flattened on white: uint8 (H, W)."""
    try:
        return next(sheets.load(path, source=str(path), pages=sheets.PageRange(((1, 1),)))).gray
    except SheetError as error:
        raise DatasetError(str(error)) from error


def _digit_of(gray: NDArray[np.uint8], path: Path, label: int) -> NDArray[np.uint8]:
    """One digit: a picture in MNIST's form as it is, any other cut out of its paper and normalised."""
    border = np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])
    if gray.shape == (TILE_SIDE, TILE_SIDE) and not border.any():
        if not gray.any():
            _require_none(str(path), label)
        return gray
    return _fitted(gray, str(path), label)


# --------------------------------------------------------------------------------------------------------- archives


@dataclass(frozen=True, slots=True)
class _Tree:
    """Files by name, in a folder or an archive."""

    names: tuple[str, ...]
    read: Callable[[str], bytes] = field(repr=False)

    @staticmethod
    def of_folder(folder: Path) -> _Tree:
        names = (one.relative_to(folder).as_posix() for one in sorted(folder.rglob("*")) if one.is_file())
        return _Tree(tuple(names), lambda name: (folder / name).read_bytes())


def _read_archive(path: Path) -> Corpus:
    try:
        held = _unzipped(path) if path.suffix.lower() == ".zip" else _untarred(path)
    except (*datasets.PACKING_ERRORS, tarfile.TarError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
        raise DatasetError(f"{path} cannot be unpacked ({reason}): fetch it again") from error
    own = {path.name: datasets.file_hash(path)}
    found: dict[str, tuple[str, bytes]] = {}
    for name, content in held.items():
        plain = Path(name).name.removesuffix(".gz").replace(".idx", "-idx")
        for role, expected in FILES.items():
            if plain == expected:
                found[role] = (name, content)
    if found:
        return _read_held(path, found)
    for name, content in held.items():
        if name.endswith(".npz"):
            corpus = _read_npz(path / name, content)
            return replace(corpus, path=path, hashes=own | corpus.hashes)
    if any(UNIPEN_DIGITS in name for name in held):
        return _read_unipen(path, _Tree(tuple(sorted(held)), held.__getitem__))
    pens = [(Path(name).name, content) for name, content in sorted(held.items()) if "pendigits-orig.t" in name]
    if pens:
        return _read_pendigits(path, pens)
    raise DatasetError(f"{path} holds no digits in a known form, but {', '.join(sorted(held)[:5]) or 'nothing'}")


def _read_held(path: Path, found: dict[str, tuple[str, bytes]]) -> Corpus:
    missing = [name for role, name in FILES.items() if role not in found]
    if missing:
        raise DatasetError(f"{path} holds {len(found)} of MNIST's four files, {', '.join(missing)} is missing")
    arrays = {role: datasets.parse_idx(content, path / name) for role, (name, content) in found.items()}
    for part in ("train", "test"):
        datasets.check_pair(path, part, arrays[f"{part}_images"], arrays[f"{part}_labels"])
    hashes = {Path(name).name: sha256(content).hexdigest() for name, content in found.values()}
    hashes[path.name] = datasets.file_hash(path)
    mnist = Mnist(arrays["train_images"], arrays["train_labels"], arrays["test_images"], arrays["test_labels"], hashes)
    return _from_mnist(path, mnist)


def _unzipped(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        members = [one for one in archive.infolist() if not one.is_dir()]
        _bounded(path, (one.file_size for one in members))
        return {one.filename: archive.read(one) for one in members}


def _untarred(path: Path) -> dict[str, bytes]:
    held: dict[str, bytes] = {}
    with tarfile.open(path) as archive:
        size = 0
        for member in archive:
            size += member.size
            _bounded(path, [size])
            stream = archive.extractfile(member) if member.isfile() else None
            if stream is not None:
                held[member.name.removeprefix("./")] = stream.read()
    return held


def _bounded(path: Path, sizes: Iterable[int]) -> None:
    if (total := sum(sizes)) > MOST_UNPACKED:
        raise DatasetError(
            f"{path} unpacks to {total} bytes or more, expected at most {MOST_UNPACKED}: unpack it yourself"
        )


# ------------------------------------------------------------------------------------------------------ pen strokes


def _read_pendigits(path: Path, files: list[tuple[str, bytes]]) -> Corpus:
    """UCI's pendigits; the `.tes` files are its test part, where there are `.tra` files too."""
    parts: dict[str, list[PenSet]] = {"tra": [], "tes": []}
    hashes = {}
    with tempfile.TemporaryDirectory() as place:
        for name, content in files:
            plain = Path(place) / name
            text = known.unpacked(content, path)
            plain.write_bytes(text)
            part = "tes" if ".tes" in name else "tra"
            try:
                parts[part].append(read_pendigits(plain, prefix=f"pendigits-{part}"))
            except DatasetError as error:
                raise DatasetError(str(error).replace(str(plain), str(path))) from error
            hashes[name] = sha256(text).hexdigest()
    if not parts["tra"]:
        parts = {"tra": parts["tes"], "tes": []}
    images, labels, writers = _drawn(path, parts["tra"])
    tested = _drawn(path, parts["tes"])[:2] if parts["tes"] else _nothing()
    return Corpus(path, images, labels, *tested, writers, hashes)


def _drawn(path: Path, sets: list[PenSet]) -> tuple[Images, Labels, NDArray[Any]]:
    """Draw pen strokes with pens of MNIST's width and bring them into its form."""
    rng = np.random.default_rng(PEN_SEED)
    images, labels, writers = [], [], []
    for pens in sets:
        for item in np.flatnonzero(sane_digits(pens)):
            pen = Pen(width=float(rng.uniform(*PEN_WIDTHS)))
            alpha = draw_strokes(pens.strokes(int(item)), DRAWN_HEIGHT, pen, rng)
            mask = alpha >= COVERED
            if mask.any():
                images.append(fit_digit(mask))
                labels.append(int(pens.labels[item]))
                writers.append(str(pens.writers[item]))
    if not images:
        raise DatasetError(f"{path} holds no digit that can be drawn: fetch it again")
    return np.stack(images), np.array(labels, np.uint8), np.array(writers)


def _read_unipen(path: Path, tree: _Tree) -> Corpus:
    """The isolated digits of train_r01_v07, all donors but `MISNUMBERED`."""
    names, digest = set(tree.names), sha256()

    def read(name: str) -> str:
        content = tree.read(name)
        digest.update(name.encode() + b"\0" + content)
        return content.decode("latin-1")

    items: list[_Item] = []
    for name in tree.names:
        base, below, rest = name.rpartition(UNIPEN_DIGITS)
        donor = rest.split("/")[0]
        if below and donor not in MISNUMBERED:
            place = f"{base}include/"
            found = _unipen_items(read(name), partial(_included, place, names, read))
            items.extend(_Item(label, f"unipen:{rest}", strokes) for label, strokes in found)
    if not items:
        raise DatasetError(f"{path} holds no digit in UNIPEN's form: expected data/1a/ and include/ beside it")
    hashes = {f"{path.name}: {UNIPEN_DIGITS}": digest.hexdigest()}
    return Corpus(path, *_drawn_corpus(path, items), hashes, known.UNIPEN)


def _included(place: str, names: set[str], read: Callable[[str], str], part: str) -> str:
    return read(place + part) if place + part in names else ""


@dataclass(frozen=True, slots=True)
class _Item:
    label: str
    writer: str
    strokes: list[NDArray[np.float32]] = field(repr=False)


@dataclass(slots=True)
class _Ink:
    """What a UNIPEN file and the files it includes give: how coordinates are laid out, and components."""

    columns: tuple[int, int, int] = (0, 1, 2)  # of x, of y, and how many there are
    components: list[tuple[bool, NDArray[np.float32]]] = field(default_factory=list)


def _drawn_corpus(path: Path, items: list[_Item]) -> tuple[Images, Labels, Images, Labels, NDArray[Any]]:
    strokes = [stroke for item in items for stroke in item.strokes]
    writers = np.array([item.writer for item in items])
    pens = PenSet(
        np.concatenate(strokes),
        np.cumsum([0, *(len(stroke) for stroke in strokes)]),
        np.cumsum([0, *(len(item.strokes) for item in items)]),
        np.array([item.label for item in items]),
        writers,
        writers,
    )
    images, labels, kept = _drawn(path, [pens])
    return images, labels, *_nothing(), kept


def _unipen_items(text: str, included: Callable[[str], str]) -> Iterator[tuple[str, list[NDArray[np.float32]]]]:
    """Label and strokes of the digits that one file below `data/1a` names; `included` reads what it includes."""
    ink = _Ink()
    for block in _KEYWORD.split(text)[1:]:
        if block.startswith("INCLUDE"):
            _take_ink(included(block.split()[1]), ink)
        elif (match := _SEGMENT.match(block)) is not None:
            chosen = [ink.components[k] for k in _places(match[1]) if k < len(ink.components)]
            strokes = [points for down, points in chosen if down and len(points)]
            if strokes:
                yield match[2], strokes


def _take_ink(text: str, ink: _Ink) -> None:
    """Take over what an included file says: its components replace those of the file before."""
    components: list[tuple[bool, NDArray[np.float32]]] = []
    for block in _KEYWORD.split(text)[1:]:
        word, _, rest = block.partition("\n")
        keyword = word.split()[0]
        if keyword == "COORD":
            axes = word.split()[1:]
            if "X" in axes and "Y" in axes:
                ink.columns = (axes.index("X"), axes.index("Y"), len(axes))
        elif keyword in ("PEN_DOWN", "PEN_UP"):
            components.append((keyword == "PEN_DOWN", _points(f"{word[len(keyword) :]} {rest}", ink.columns)))
    if components:
        between = any(not down and len(points) for down, points in components)
        ink.components = components if between else [one for one in components if one[0]]


def _points(text: str, columns: tuple[int, int, int]) -> NDArray[np.float32]:
    """Points (P, 2), x to the right, y downwards; what is no whole point at the end is left out."""
    x, y, width = columns
    numbers = np.array(list(itertools.takewhile(_is_number, text.split())), np.float32)
    width = max(width, y + 1, x + 1)
    table = numbers[: len(numbers) // width * width].reshape(-1, width)
    return table[:, [x, y]] * np.array([1, -1], np.float32)


def _is_number(text: str) -> bool:
    return text.removeprefix("-").replace(".", "", 1).isdigit()


def _places(text: str) -> list[int]:
    """The components that "3", "3-5" or "3,5-7" name."""
    places: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first:
            places.extend(range(int(first), int(last or first) + 1))
    return places
