"""The published sets that the program knows: where they lie, under which licence, and what their bytes hash to.

A set is looked for where it may lie already (`DIGITIZE_DATA`, the cache folder, Keras's cache) before it is fetched,
and nothing that was fetched is kept unless its hash is right. Hashes are of what is inside a `.gz` or `.Z`, so that the
same file packed otherwise is recognised too; `mnist.npz` is hashed as it lies, as Keras does.
"""

from __future__ import annotations

import gzip
import http.client
import os
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from digitize import datasets
from digitize.errors import DatasetError, OutputError, UsageError

FETCH_TIMEOUT = 30  # seconds without a byte after which a server is given up
PIECE = 1 << 16  # bytes fetched at a time
LZW_MAGIC = b"\x1f\x9d"
LZW_FIRST_BITS = 9
LZW_CLEAR = 256

KERAS_NPZ = "mnist.npz"


@dataclass(frozen=True, slots=True)
class Remote:
    """One published file.

    Attributes:
        name: under which it is kept.
        url: where it is published.
        sha256: of its content, unpacked from `.gz` or `.Z`.
    """

    name: str
    url: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Known:
    """A published set.

    Attributes:
        name: as `digitize data fetch` is given it; its subfolder of the cache.
        title: authors and name, for a card.
        licence: under which it is published.
        home: the page that describes it.
        files: what is fetched; none where that is left to the user, as names and hashes are not known here.
        parts: the folders that a user's own copy consists of, where nothing is fetched.
        also: sha256 of other files that hold the same set.
    """

    name: str
    title: str
    licence: str
    home: str
    files: tuple[Remote, ...]
    parts: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


MNIST = Known(
    "mnist",
    "MNIST, LeCun, Cortes & Burges",
    "CC BY-SA 3.0",
    "http://yann.lecun.com/exdb/mnist",
    (
        Remote(
            KERAS_NPZ,
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
            "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
        ),
    ),
    # The four IDX files, gzipped, as they are published.
    also=(
        "1a1a05eab793c14bb050b398624a11b0ffd1a2953baed553b1b9bd079e2a20be",
        "b91679a0acfe4ba0e50a2437a903084cba1f5f92592b016a25a7dfd00455798b",
        "0b367032e93c5d0cea0925647cfdb18614af8ee15f83e6f2fc2ad904a6835971",
        "1787548bbe0bff1ec2ecdc0ef292b02df999e2d1a6002d27500982c652b17203",
    ),
)
PENDIGITS = Known(
    "pendigits",
    "Pen-Based Recognition of Handwritten Digits, Alpaydin & Alimoglu",
    "CC BY 4.0",
    "https://archive.ics.uci.edu/dataset/81",
    (
        Remote(
            "pendigits-orig.tra.Z",
            "https://archive.ics.uci.edu/ml/machine-learning-databases/pendigits/pendigits-orig.tra.Z",
            "a66225d68d7d68591e62944df1ad33b3f5aa608e2df2505844b41f5568a80da4",
        ),
        Remote(
            "pendigits-orig.tes.Z",
            "https://archive.ics.uci.edu/ml/machine-learning-databases/pendigits/pendigits-orig.tes.Z",
            "ddb1c19e277a56c7ffe682cc024d6ab73696f9adcc1643ef9ed5aa753007e081",
        ),
    ),
)
UNIPEN = Known(
    "unipen",
    "UNIPEN train_r01_v07, Guyon et al. 1994",
    "CC BY 4.0",
    "https://doi.org/10.5281/zenodo.1195803",
    (),  # names and hashes of the files at Zenodo are not known here, and none are made up
    parts=("data", "include"),
)
SETS = {one.name: one for one in (MNIST, PENDIGITS, UNIPEN)}


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a known set is here.

    Attributes:
        known: which set.
        place: the file or folder that holds it, None where it was not found.
        looked: every place that was looked in.
    """

    known: Known
    place: Path | None
    looked: tuple[Path, ...]


def bases() -> tuple[Path, ...]:
    """The folders in which sets may lie: $DIGITIZE_DATA where it is set, and the cache folder."""
    named = os.environ.get(datasets.DATA_VARIABLE)
    return (*([Path(named)] if named else []), datasets.cache_folder())


def keras_cache() -> Path:
    """The file in which Keras keeps MNIST."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "datasets" / KERAS_NPZ


def standing(known: Known) -> Standing:
    """Look for a set in the usual places."""
    places = [place for base in bases() for place in (base / known.name, base)]
    for place in places:
        if _holds(known, place):
            return Standing(known, place, tuple(places))
    if known is MNIST:
        places.append(keras_cache())
        if keras_cache().is_file():
            return Standing(known, keras_cache(), tuple(places))
    return Standing(known, None, tuple(places))


def _holds(known: Known, place: Path) -> bool:
    if known is MNIST and all(datasets.existing(place, name) for name in datasets.FILES.values()):
        return True
    if known.parts:
        return all((place / part).is_dir() for part in known.parts)
    stems = [remote.name.removesuffix(".Z") for remote in known.files]
    return all(any((place / f"{stem}{end}").is_file() for end in ("", ".gz", ".Z")) for stem in stems)


def choose(name: str) -> Known:
    """The set of this name.

    Raises:
        UsageError: there is none.
    """
    if name not in SETS:
        raise UsageError(f"no set is called {name!r}; there are {', '.join(SETS)}")
    return SETS[name]


def render(found: Standing) -> str:
    """A set and whether it is here, in a few lines."""
    known = found.known
    where = f"in {found.place}" if found.place else f"not here; looked in {', '.join(str(one) for one in found.looked)}"
    lines = [f"{known.name}: {known.title}", f"    {known.licence}, {known.home}"]
    lines.extend(f"    {remote.name}: {remote.url}, sha256 {remote.sha256}" for remote in known.files)
    if not known.files:
        lines.append("    names and hashes of its files are not known to this program: it cannot fetch or check them")
        lines.append(f"    {_by_hand(known, datasets.cache_folder() / known.name)}")
    return "\n".join([*lines, f"    {where}"])


def _by_hand(known: Known, target: Path) -> str:
    """What a user does to have a set that is not fetched."""
    parts = " and ".join(f"{part}/" for part in known.parts)
    return (
        f"take it from {known.home} and put its {parts} into {target}, "
        "or give its folder or archive with --data; a model's card then names the hash of what was read"
    )


def find_mnist() -> Path:
    """Find MNIST, or fetch it as Keras does.

    Returns:
        The file or folder.

    Raises:
        DatasetError: it is in none of the usual places and cannot be fetched; the message lists the places and what
            belongs there.
    """
    found = standing(MNIST)
    if found.place is not None:
        return found.place
    try:
        return fetch(MNIST)
    except (DatasetError, OutputError) as error:
        looked = ", ".join(str(place) for place in found.looked)
        raise DatasetError(
            f"MNIST is not in {looked}, and {error}. Put {', '.join(datasets.FILES.values())} (plain or as .gz) or "
            f"{KERAS_NPZ} into {datasets.cache_folder() / MNIST.name}, or name their place with --data"
        ) from error


def fetch(known: Known, *, folder: Path | None = None, mirror: str | None = None) -> Path:
    """Fetch a set and keep it if its hashes are right.

    Args:
        known: which set.
        folder: where to put it; a subfolder of the cache where None.
        mirror: address of a folder that holds the same files under the same names.

    Returns:
        The folder that holds it.

    Raises:
        DatasetError: a file cannot be fetched or is not what was published, or this set is not fetched at all.
        OutputError: the folder cannot be written.
    """
    target = folder or datasets.cache_folder() / known.name
    if not known.files:
        raise DatasetError(
            f"{known.name} cannot be fetched by this program, which knows no names and hashes of its files: "
            f"{_by_hand(known, target)}"
        )
    try:
        target.mkdir(parents=True, exist_ok=True)
        for remote in known.files:
            _fetch_file(remote, f"{mirror.rstrip('/')}/{remote.name}" if mirror else remote.url, target)
    except OSError as error:
        raise OutputError(
            f"{target} cannot be written ({error.strerror or error}): make room or mend its permissions, or choose "
            "another place (digitize data fetch -o)"
        ) from error
    return target


def _fetch_file(remote: Remote, address: str, target: Path) -> None:
    with tempfile.NamedTemporaryFile(dir=target, prefix=".fetch-", delete=False) as partial:
        try:
            for piece in _pieces(address):
                partial.write(piece)
            partial.flush()
            os.fsync(partial.fileno())
            got = content_hash(Path(partial.name))
            if got != remote.sha256:
                raise DatasetError(
                    f"{address} has sha256 {got}, expected {remote.sha256}: it is not what was published"
                )
            Path(partial.name).replace(target / remote.name)
        finally:
            Path(partial.name).unlink(missing_ok=True)


def _pieces(address: str) -> Iterator[bytes]:
    """What a server gives.

    Raises:
        DatasetError: it gives nothing, or not all.
    """
    try:
        with urllib.request.urlopen(address, timeout=FETCH_TIMEOUT) as answer:
            while piece := answer.read(PIECE):
                yield piece
    except (OSError, ValueError, http.client.HTTPException) as error:  # URLError is an OSError, InvalidURL the last
        reason = getattr(error, "reason", None) or error
        raise DatasetError(f"{address} cannot be fetched ({reason})") from error


def content_hash(path: Path) -> str:
    """sha256 of what a file holds: unpacked from `.gz` or `.Z`, else as it lies."""
    with path.open("rb") as stream:
        packed = stream.read(2) in (b"\x1f\x8b", LZW_MAGIC)
    return sha256(unpacked(path.read_bytes(), path)).hexdigest() if packed else datasets.file_hash(path)


def recognise(hashes: Iterable[str]) -> Known | None:
    """The known set that files of these hashes belong to, if any."""
    found = set(hashes)
    return next((one for one in SETS.values() if found & {*one.also, *(file.sha256 for file in one.files)}), None)


def unpacked(content: bytes, path: Path) -> bytes:
    """What is inside a `.gz` or a `.Z`; anything else as it is.

    Raises:
        DatasetError: it is damaged; `path` is named.
    """
    try:
        if content[:2] == b"\x1f\x8b":
            return gzip.decompress(content)
        if content[:2] == LZW_MAGIC:
            return b"".join(_lzw(content))
    except (OSError, EOFError, zlib.error, IndexError, ValueError) as error:
        raise DatasetError(f"{path} cannot be unpacked ({error}): fetch it again") from error
    return content


def _lzw(content: bytes) -> Iterator[bytes]:
    """Unpack Unix compress's `.Z`: codes of 9 to 16 bits, low bits first, padded to 8 codes where their length changes.

    Welch, "A Technique for High-Performance Data Compression", Computer 1984.
    """
    flags = content[2]
    most, clears = flags & 31, bool(flags & 128)
    if not LZW_FIRST_BITS <= most <= 16:
        raise ValueError(f"codes of {most} bits")
    table: list[bytes] = []
    at = start = 3 * 8  # bits
    bits, previous = LZW_FIRST_BITS, b""
    end = len(content) * 8

    def fresh() -> list[bytes]:
        return [bytes([value]) for value in range(256)] + ([b""] if clears else [])

    table = fresh()
    while at + bits <= end:
        code = int.from_bytes(content[at // 8 : at // 8 + 4], "little") >> (at % 8) & ((1 << bits) - 1)
        at += bits
        if clears and code == LZW_CLEAR:
            at = start + -(-(at - start) // (8 * bits)) * 8 * bits
            start, bits, previous, table = at, LZW_FIRST_BITS, b"", fresh()
            continue
        if code < len(table):
            entry = table[code]
        elif code == len(table) and previous:
            entry = previous + previous[:1]
        else:
            raise ValueError(f"code {code} where {len(table)} are known")
        yield entry
        if previous and len(table) < 1 << most:
            table.append(previous + entry[:1])
        if len(table) >= 1 << bits and bits < most:
            at = start + -(-(at - start) // (8 * bits)) * 8 * bits
            start, bits = at, bits + 1
        previous = entry
