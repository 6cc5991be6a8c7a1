"""MNIST's files are read as published, and what does not fit is named."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from digitize import datasets
from digitize.errors import DatasetError

RNG = np.random.default_rng(0)


def encrypt(path: Path) -> Path:
    """Say of every member of a zip that it is encrypted, as bit 0 of its flags does (APPNOTE 4.4.4)."""
    content = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = content.find(mark)
        while at >= 0:
            content[at + flags] |= 1
            at = content.find(mark, at + 4)
    path.write_bytes(content)
    return path


def idx(array: np.ndarray, *, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    for part, count in (("train", 30), ("t10k", 10)):
        images = RNG.integers(0, 256, (count, 28, 28))
        labels = np.arange(count) % 10
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return tmp_path


def test_reads_gzipped_and_plain(mnist: Path) -> None:
    found = datasets.load_mnist(mnist)
    assert found.train_images.shape == (30, 28, 28)
    assert found.test_images.dtype == np.uint8
    assert found.test_labels.tolist() == list(range(10))
    assert found.train_writers is None


def test_hashes_every_file_read(mnist: Path) -> None:
    found = datasets.load_mnist(mnist)
    assert set(found.hashes) == {path.name for path in mnist.iterdir()}
    assert all(len(value) == 64 for value in found.hashes.values())


def test_keeps_the_order_of_bytes(tmp_path: Path) -> None:
    path = tmp_path / "some"
    array = np.arange(12).reshape(2, 2, 3)
    path.write_bytes(idx(array))
    assert (datasets.read_idx(path) == array).all()


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        (b"", "nothing"),
        (b"\x00\x00\x0d\x01" + bytes(8), "00 00 0d 01"),
        (b"\x89PNG" + bytes(20), "89 50 4e 47"),
        (b"\x00\x00\x08\x03\x00\x00", "header"),
        (idx(np.zeros((2, 3)))[:-1], "promises 18"),
        (idx(np.zeros((2, 3))) + b"!", "holds 19"),
        (b"\x00\x00\x08\x03" + b"\xff" * 12, "promises"),
        (gzip.compress(idx(np.zeros((2, 3))))[:-9], "cannot be read"),
        (b"\x1f\x8b and then none", "cannot be read"),
    ],
)
def test_damage_is_named(tmp_path: Path, content: bytes, finding: str) -> None:
    path = tmp_path / "damaged"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=finding) as caught:
        datasets.read_idx(path)
    assert str(path) in str(caught.value)


def test_a_label_above_nine_is_named(mnist: Path) -> None:
    (mnist / "train-labels-idx1-ubyte").write_bytes(idx(np.full(30, 10)))
    with pytest.raises(DatasetError, match="label 10"):
        datasets.load_mnist(mnist)


def test_as_many_labels_as_images(mnist: Path) -> None:
    (mnist / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(9)))
    with pytest.raises(DatasetError, match=r"\(9,\), expected \(10,\)"):
        datasets.load_mnist(mnist)


def test_images_have_their_size(mnist: Path) -> None:
    (mnist / "t10k-images-idx3-ubyte.gz").write_bytes(idx(np.zeros((10, 20, 20))))
    with pytest.raises(DatasetError, match="20, 20"):
        datasets.load_mnist(mnist)


def test_one_missing_file_is_missing(mnist: Path) -> None:
    (mnist / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DatasetError, match="t10k-labels"):
        datasets.load_mnist(mnist)


def test_writers_must_fit_the_digits(mnist: Path) -> None:
    np.savez(mnist / "writers.npz", train=np.arange(29), test=np.arange(10))
    with pytest.raises(DatasetError, match="29"):
        datasets.load_mnist(mnist)
    np.savez(mnist / "writers.npz", train=np.arange(30), test=np.arange(10))
    found = datasets.load_mnist(mnist)
    assert found.train_writers is not None
    assert "writers.npz" in found.hashes


def test_validation_keeps_whole_writers() -> None:
    writers = np.repeat(np.arange(40), 25)
    kept = datasets.split_validation(np.zeros(1000, np.uint8), writers, share=0.1, seed=3)
    assert 100 <= kept.sum() <= 125
    assert not set(writers[kept]) & set(writers[~kept])


def test_validation_without_writers_is_seeded() -> None:
    labels = np.zeros(1000, np.uint8)
    first, again, other = (datasets.split_validation(labels, None, share=0.1, seed=seed) for seed in (1, 1, 2))
    assert first.sum() == 100
    assert (first == again).all()
    assert (first != other).any()


def tiles_file(path: Path, **arrays: np.ndarray) -> Path:
    given = {"tiles": np.zeros((40, 28, 28, 2), np.uint8), "labels": np.arange(40) % 11, **arrays}
    np.savez(path, **{name: array for name, array in given.items() if array is not None})
    return path


def test_tiles_come_with_weights_and_held(tmp_path: Path) -> None:
    held = np.arange(40) % 4 == 0
    found = datasets.load_tiles(tiles_file(tmp_path / "a.npz", held=held, weights=np.full(40, 2)))
    assert (found.held == held).all()
    assert found.weights.dtype == np.float32
    assert found.labels.max() == 10
    assert found.sha256 == datasets.file_hash(tmp_path / "a.npz")


def test_tiles_without_held_keep_some(tmp_path: Path) -> None:
    count = 400
    path = tiles_file(
        tmp_path / "a.npz", tiles=np.zeros((count, 28, 28, 2), np.uint8), labels=np.zeros(count, np.uint8)
    )
    found = datasets.load_tiles(path, seed=1)
    assert 0 < found.held.sum() < 60
    assert (found.held == datasets.load_tiles(path, seed=1).held).all()


@pytest.mark.parametrize(
    ("arrays", "finding"),
    [
        ({"labels": None}, "no array labels"),
        ({"tiles": np.zeros((40, 28, 28), np.uint8)}, "expected uint8"),
        ({"tiles": np.zeros((40, 28, 28, 2), np.float32)}, "float32"),
        ({"labels": np.full(40, 11)}, "0 to 10"),
        ({"labels": np.full(40, 0.5)}, r"labels are float64 \(40,\)"),
        ({"labels": np.array(3)}, r"labels are int64 \(\)"),
        ({"held": np.full(40, "yes")}, "must be numbers"),
        ({"weights": np.full(40, -1.0)}, "at least 0"),
        ({"weights": np.full(40, np.nan)}, "finite"),
        ({"weights": np.zeros(40)}, "no tile is left"),
        ({"held": np.ones(39, bool)}, "40 numbers"),
    ],
)
def test_tiles_that_do_not_fit_are_named(tmp_path: Path, arrays: dict[str, np.ndarray], finding: str) -> None:
    path = tiles_file(tmp_path / "odd.npz", **arrays)
    with pytest.raises(DatasetError, match=finding) as caught:
        datasets.load_tiles(path)
    assert str(path) in str(caught.value)


def test_tiles_that_are_no_npz(tmp_path: Path) -> None:
    path = tmp_path / "no.npz"
    path.write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(DatasetError, match=r"no\.npz"):
        datasets.load_tiles(path)
    with pytest.raises(DatasetError, match=r"absent\.npz"):
        datasets.load_tiles(tmp_path / "absent.npz")


def test_an_npz_that_is_encrypted_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "locked.npz", tiles=np.zeros((1, 28, 28, 2), np.uint8), labels=np.zeros(1, int))
    encrypt(tmp_path / "locked.npz")
    with pytest.raises(DatasetError, match=r"locked\.npz cannot be read \(.*encrypted"):
        datasets.load_tiles(tmp_path / "locked.npz")
