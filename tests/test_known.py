"""Published sets are found where they lie, else fetched, and kept only if their hash is right."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from digitize import cli, corpora, known
from digitize.errors import DatasetError, OutputError, UsageError


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a local server of `tmp_path/remote`."""
    (tmp_path / "remote").mkdir()
    handler = functools.partial(Silent, directory=str(tmp_path / "remote"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as one:
        thread = threading.Thread(target=one.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{one.server_address[1]}"
        one.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.delenv("DIGITIZE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path


def mnist_npz(path: Path) -> Path:
    images = np.zeros((20, 28, 28), np.uint8)
    images[:, 5:20, 14] = 255
    labels = np.arange(20) % 10
    np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels)
    return path


def planted(path: Path, address: str) -> known.Known:
    """MNIST as if this file were what is published."""
    remote = known.Remote(path.name, f"{address}/{path.name}", sha256(path.read_bytes()).hexdigest())
    return replace(known.MNIST, files=(remote,))


def test_fetches_and_keeps_what_has_the_right_hash(home: Path, server: str) -> None:
    path = mnist_npz(home / "remote" / "mnist.npz")
    place = known.fetch(planted(path, server))
    assert place == home / "cache" / "digitize" / "mnist"
    assert [one.name for one in place.iterdir()] == ["mnist.npz"]
    assert (place / "mnist.npz").read_bytes() == path.read_bytes()
    assert known.standing(known.MNIST).place == place
    assert len(corpora.read_corpus(known.find_mnist()).train_labels) == 20


def test_keeps_nothing_that_has_another_hash(home: Path, server: str) -> None:
    path = mnist_npz(home / "remote" / "mnist.npz")
    with pytest.raises(DatasetError, match=r"mnist\.npz has sha256 .* expected 731c5ac6") as caught:
        known.fetch(known.MNIST, mirror=server)
    assert sha256(path.read_bytes()).hexdigest() in str(caught.value)
    assert list((home / "cache" / "digitize" / "mnist").iterdir()) == []


def test_a_file_that_the_server_lacks(home: Path, server: str) -> None:
    with pytest.raises(DatasetError, match=r"pendigits-orig\.tra\.Z cannot be fetched \(File not found\)"):
        known.fetch(known.PENDIGITS, mirror=server, folder=home / "own")
    assert list((home / "own").iterdir()) == []


def test_an_address_that_is_none_is_named(home: Path) -> None:
    with pytest.raises(DatasetError, match=r"http://h/a b/pendigits-orig\.tra\.Z cannot be fetched"):
        known.fetch(known.PENDIGITS, mirror="http://h/a b", folder=home / "own")
    assert list((home / "own").iterdir()) == []


def test_offline_and_nothing_cached_names_every_place(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DIGITIZE_DATA", str(home / "named"))
    nowhere = replace(known.MNIST.files[0], url="http://127.0.0.1:9/mnist.npz")  # the discard port: nobody listens
    monkeypatch.setattr(known, "MNIST", replace(known.MNIST, files=(nowhere,)))
    monkeypatch.setattr("sys.argv", ["digitize", "evaluate"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 7
    said = capsys.readouterr().err
    places = (
        home / "named" / "mnist",
        home / "cache" / "digitize" / "mnist",
        home / "keras" / "datasets" / "mnist.npz",
    )
    assert all(str(place) in said for place in places)
    assert "http://127.0.0.1:9/mnist.npz cannot be fetched" in said
    assert "train-images-idx3-ubyte" in said
    assert "--data" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("failing", ["mkdir", "write"])
def test_a_cache_that_cannot_be_written_is_named(
    home: Path, server: str, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = mnist_npz(home / "remote" / "mnist.npz")
    monkeypatch.setattr(known, "MNIST", planted(path, server))
    if failing == "mkdir":
        (home / "cache").touch()  # a file where the folder should be
    else:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(known.os, "fsync", full)
    place = home / "cache" / "digitize" / "mnist"
    with pytest.raises(OutputError, match=rf"^{place} cannot be written \(N.*choose another place"):
        known.fetch(known.MNIST)
    with pytest.raises(DatasetError, match=rf"^MNIST is not in .*, and {place} cannot be written .* with --data$"):
        known.find_mnist()
    assert not (failing == "write" and list(place.iterdir()))


def test_the_variable_names_the_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "named").mkdir()
    mnist_npz(home / "named" / "mnist.npz")
    monkeypatch.setenv("DIGITIZE_DATA", str(home / "named"))
    assert known.find_mnist() == home / "named"


def test_keras_own_cache_is_looked_in(home: Path) -> None:
    (home / "keras" / "datasets").mkdir(parents=True)
    path = mnist_npz(home / "keras" / "datasets" / "mnist.npz")
    assert known.find_mnist() == path


def test_what_has_no_known_hash_is_not_fetched(home: Path) -> None:
    place = home / "cache" / "digitize" / "unipen"
    with pytest.raises(DatasetError, match=r"unipen cannot be fetched.*knows no .*hashes.*zenodo\.1195803") as caught:
        known.fetch(known.UNIPEN)
    assert f"put its data/ and include/ into {place}" in str(caught.value)
    said = known.render(known.standing(known.UNIPEN))
    assert "CC BY 4.0, https://doi.org/10.5281/zenodo.1195803" in said
    assert "hashes of its files are not known" in said
    assert "sha256" not in said
    assert "with --data" in said
    (place / "data").mkdir(parents=True)
    assert "not here" in known.render(known.standing(known.UNIPEN))
    (place / "include").mkdir()
    assert known.standing(known.UNIPEN).place == place
    with pytest.raises(UsageError, match="no set is called 'emnist'; there are mnist, pendigits, unipen"):
        known.choose("emnist")


def test_the_list_says_where_and_whether(home: Path) -> None:
    said = known.render(known.standing(known.PENDIGITS))
    assert "CC BY 4.0" in said
    assert f"not here; looked in {home / 'cache' / 'digitize' / 'pendigits'}" in said
    for name in ("pendigits-orig.tra.gz", "pendigits-orig.tes"):
        (home / "cache" / "digitize" / "pendigits").mkdir(parents=True, exist_ok=True)
        (home / "cache" / "digitize" / "pendigits" / name).touch()
    assert f"in {home / 'cache' / 'digitize' / 'pendigits'}" in known.render(known.standing(known.PENDIGITS))


def compress(content: bytes, most: int = 16) -> bytes:
    """Unix compress, slow and obvious: codes of growing length, padded to 8 of them where the length changes."""
    table = {bytes([k]): k for k in range(256)}
    following, bits, word = 257, 9, b""
    packed, group = [], []

    def flush() -> None:
        number = sum(code << (bits * k) for k, code in enumerate(group))
        packed.append(number.to_bytes(bits, "little"))
        group.clear()

    for k in range(len(content) + 1):
        longer = word + content[k : k + 1]
        if k < len(content) and longer in table:
            word = longer
            continue
        if word:
            group.append(table[word])
            if len(group) == 8:
                flush()
        if k < len(content) and word and following < 1 << most:
            table[longer] = following
            following += 1
            # The reader is one entry behind, so the codes grow one later than here.
            if following > (1 << bits) and bits < most:
                if group:
                    flush()
                bits += 1
        word = content[k : k + 1]
    if group:
        number = sum(code << (bits * k) for k, code in enumerate(group))
        packed.append(number.to_bytes(-(-bits * len(group) // 8), "little"))
    return known.LZW_MAGIC + bytes([0x80 | most]) + b"".join(packed)


@pytest.mark.parametrize("size", [0, 1, 300, 5000, 60_000])
def test_unix_compress_is_unpacked(size: int, tmp_path: Path) -> None:
    text = b" ".join(str(k * k % 977).encode() for k in range(size))[:size]
    assert known.unpacked(compress(text), tmp_path / "x.Z") == text


@pytest.mark.parametrize("content", [known.LZW_MAGIC, known.LZW_MAGIC + b"\x9f" + b"\xff" * 8, b"\x1f\x8b nothing"])
def test_damaged_packing_is_named(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"x\.Z cannot be unpacked"):
        known.unpacked(content, tmp_path / "x.Z")
