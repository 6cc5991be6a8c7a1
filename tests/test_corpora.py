"""Labelled digits are read in every form they come in, and what does not fit is named."""

from __future__ import annotations

import gzip
import io
import os
import re
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stub import STROKES, draw_digit
from test_datasets import encrypt

from digitize import cli, corpora, datasets, relearn
from digitize.corpora import Source
from digitize.errors import DatasetError, UsageError

SHARED = Path(__file__).resolve().parents[2] / "shared"
RNG = np.random.default_rng(3)
IMAGES = {"train": RNG.integers(0, 256, (30, 28, 28)), "test": RNG.integers(0, 256, (10, 28, 28))}
LABELS = {"train": np.arange(30) % 10, "test": np.arange(10)}


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def idx_files() -> dict[str, bytes]:
    """MNIST's four files by name, the images gzipped."""
    files = {}
    for role, name in datasets.FILES.items():
        part, kind = role.split("_")
        content = idx((IMAGES if kind == "images" else LABELS)[part])
        files[f"{name}.gz" if kind == "images" else name] = gzip.compress(content) if kind == "images" else content
    return files


def packed(path: Path, files: dict[str, bytes]) -> Path:
    """A .zip, .tar.xz or .tgz of files."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w:xz" if path.suffix == ".xz" else "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def npz(path: Path, **changes: np.ndarray | None) -> Path:
    arrays = {
        "x_train": IMAGES["train"].astype(np.uint8),
        "y_train": LABELS["train"],
        "x_test": IMAGES["test"].astype(np.uint8),
        "y_test": LABELS["test"],
        **changes,
    }
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def class_folder(folder: Path, digits: range = range(10)) -> Path:
    """One subfolder a class: a dark digit on light paper, larger than a tile, and a tile as MNIST's."""
    for digit in digits:
        place = folder / str(digit)
        place.mkdir(parents=True)
        drawn = np.full((70, 60), 230, np.uint8)
        ink = draw_digit(digit, 50)
        drawn[10:60, 8 : 8 + ink.shape[1]] = 230 - (ink * 0.8).astype(np.uint8)
        Image.fromarray(drawn).save(place / "drawn.png")
        tile = np.zeros((28, 28), np.uint8)
        tile[4:24, 10:13] = 200 + digit
        Image.fromarray(tile).save(place / "tile.png")
    return folder


def unipen_text(value: int, writer: int = 3) -> str:
    """One digit as pendigits has it; y grows upwards."""
    strokes = ["\n".join(f" {round(x * 100)} {round((1 - y) * 100)}" for x, y in stroke) for stroke in STROKES[value]]
    downs = "\n.PEN_UP\n".join(f".PEN_DOWN\n{stroke}" for stroke in strokes)
    return f'.SEGMENT DIGIT 0 ? "{value}"\n.COMMENT {value} {writer} 7\n{downs}\n.PEN_UP\n\n'


def same(corpus: corpora.Corpus) -> None:
    """It holds the planted digits."""
    assert (corpus.train_images == IMAGES["train"]).all()
    assert (corpus.train_labels == LABELS["train"]).all()
    assert (corpus.test_images == IMAGES["test"]).all()
    assert (corpus.test_labels == LABELS["test"]).all()
    assert corpus.test_labels.dtype == np.uint8


def test_a_folder_of_idx_files(tmp_path: Path) -> None:
    for name, content in idx_files().items():
        (tmp_path / name).write_bytes(content)
    found = corpora.read_corpus(tmp_path)
    same(found)
    assert set(found.hashes) == set(idx_files())


@pytest.mark.parametrize("name", ["digits.tgz", "digits.zip", "digits.tar.gz"])
def test_an_archive_of_idx_files(tmp_path: Path, name: str) -> None:
    found = corpora.read_corpus(packed(tmp_path / name, {f"package/data/{k}": v for k, v in idx_files().items()}))
    same(found)
    assert found.hashes[name] == datasets.file_hash(tmp_path / name)


def test_an_npz_as_keras_keeps_it_and_in_an_archive(tmp_path: Path) -> None:
    path = npz(tmp_path / "mnist.npz")
    same(corpora.read_corpus(path))
    same(corpora.read_corpus(tmp_path))
    same(corpora.read_corpus(packed(tmp_path / "mnist.zip", {"mnist.npz": path.read_bytes()})))


def test_one_pair_of_idx_files(tmp_path: Path) -> None:
    for name, content in idx_files().items():
        (tmp_path / name).write_bytes(content)
    found = corpora.read_corpus(tmp_path / "t10k-images-idx3-ubyte.gz")
    assert (found.labelled[1] == LABELS["test"]).all()
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DatasetError, match="t10k-labels-idx1-ubyte is not beside it"):
        corpora.read_corpus(tmp_path / "t10k-images-idx3-ubyte.gz")


def test_a_folder_of_classes_takes_the_road_of_scanning(tmp_path: Path) -> None:
    found = corpora.read_corpus(class_folder(tmp_path / "own"))
    assert np.bincount(found.train_labels).tolist() == [2] * 10
    assert found.train_images[1, 4:24, 10:13].min() == 200  # a tile is left as it is
    drawn = found.train_images[0]  # the drawn 0: light ink on dark, fitted into 20 pixels, hollow in the middle
    assert np.flatnonzero(drawn.any(axis=1)).size == 20
    assert drawn.max() == 255
    assert drawn[14, 14] == 0
    assert found.labelled[1].size == 20


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_pictures_of_16_bits_are_read_as_scans_of_16_bits_are(tmp_path: Path, kind: str) -> None:
    plain = class_folder(tmp_path / "plain", range(2))
    deep = tmp_path / "deep"
    for path in plain.rglob("*.png"):
        place = deep / path.parent.name
        place.mkdir(parents=True, exist_ok=True)
        wide = np.asarray(Image.open(path)).astype(np.uint16) * 257
        Image.fromarray(wide).save(place / f"{path.stem}.{kind}")
    found, expected = (corpora.read_corpus(folder).train_images for folder in (deep, plain))
    assert (found[::2] == expected[::2]).all()  # the drawn ones; a tile's brightest pixel need not be white
    assert (found[1::2].astype(bool) == expected[1::2].astype(bool)).all()


def test_a_picture_that_lies_on_its_side_is_turned(tmp_path: Path) -> None:
    plain = class_folder(tmp_path / "plain", range(8))
    turned = tmp_path / "turned"
    for path in plain.rglob("drawn.png"):
        (turned / path.parent.name).mkdir(parents=True)
        picture = Image.open(path)
        exif = picture.getexif()
        exif[0x0112] = 6
        picture.transpose(Image.Transpose.ROTATE_90).save(turned / path.parent.name / path.name, exif=exif)
    found, expected = corpora.read_corpus(turned).train_images, corpora.read_corpus(plain).train_images[::2]
    assert (found == expected).all()


def test_a_blank_picture_may_be_no_digit(tmp_path: Path) -> None:
    found = corpora.read_corpus(blank(tmp_path / "own", "none", 255))
    assert found.train_labels.tolist() == [0, 0, 1, 1, 10]
    assert corpora.read_corpus(light_npz(tmp_path / "x.npz", 10)).train_labels.tolist() == [1, 1, 1, 10]


def test_paper_is_told_from_ink_where_ink_reaches_the_border() -> None:
    gray = np.full((28, 28), 250, np.uint8)
    gray[:, 12:16] = gray[0] = gray[-1] = 90  # an I with serifs: more than half of the border is ink
    gray[0, :4] = gray[-1, -4:] = 250
    assert (corpora._mask_of(gray) == (gray < 128)).all()
    assert (corpora._mask_of(255 - gray) == (gray < 128)).all()
    framed = np.pad(np.full((20, 3), 0, np.uint8), 2, constant_values=255)  # a bold bar, cut tight: most of it is ink
    assert (corpora._mask_of(framed) == (framed < 128)).all()


def test_no_digit_is_a_class_of_its_own(tmp_path: Path) -> None:
    folder = class_folder(tmp_path / "own", range(2))
    (folder / "1").rename(folder / "none")
    assert corpora.read_corpus(folder).train_labels.tolist() == [0, 0, 10, 10]


def test_another_picture_changes_the_hash(tmp_path: Path) -> None:
    folder = class_folder(tmp_path / "own", range(2))
    before = corpora.read_corpus(folder).hashes
    (folder / "0" / "tile.png").write_bytes((folder / "1" / "tile.png").read_bytes())
    assert corpora.read_corpus(folder).hashes != before


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_a_name_may_be_any_bytes(tmp_path: Path) -> None:
    folder = class_folder(tmp_path / "own", range(2))
    before = corpora.read_corpus(folder)
    (folder / "0" / "tile.png").rename(folder / "0" / os.fsdecode(b"\xff.png"))
    found = corpora.read_corpus(folder)
    assert (found.train_images == before.train_images).all()
    assert found.hashes != before.hashes


def exported(folder: Path, classes: tuple[str, ...] = (*map(str, range(10)), "none")) -> Path:
    """Tiles as `review export` writes them: a bar, brighter for each class, and a gray frame around it."""
    for k, name in enumerate(classes):
        tile = np.zeros((28, 28, 2), np.uint8)
        tile[4:24, 12:16, 0] = 200 + k
        tile[[0, -1], :, 1] = tile[:, [0, -1], 1] = 90
        relearn._write(folder / name / f"{k}.png", tile)
    return folder


def test_exported_tiles_keep_both_views(tmp_path: Path) -> None:
    found = corpora.read_corpus(exported(tmp_path / "tiles"))
    assert found.train_labels.tolist() == list(range(11))
    assert found.train_images[:, 10, 13].tolist() == [200 + k for k in range(11)]  # as they are, not cut again
    assert found.train_surroundings is not None
    assert (found.train_surroundings[:, 0] == 90).all()
    assert (found.train_surroundings[:, 5, 5] == 0).all()
    tiles, labels = corpora.labelled([tmp_path / "tiles", npz(tmp_path / "a.npz")])
    assert tiles.shape == (21, 28, 28, 2)
    assert labels[:11].tolist() == list(range(11))
    assert tiles[11:, ..., 1].max() == 0
    assert (tiles[11:, ..., 0] == IMAGES["test"]).all()


def test_exported_tiles_are_pooled_with_digits_that_stand_alone(tmp_path: Path) -> None:
    given = (Source(npz(tmp_path / "a.npz")), Source(exported(tmp_path / "tiles"), 5.0))
    pool = corpora.gather(given)
    assert pool.framed.tolist() == [False] * 30 + [True] * 11
    assert (pool.weights == [1.0] * 30 + [5.0] * 11).all()
    tiles = pool.tiles(np.array([0, 30, 40]), 2)
    assert (tiles[0, ..., 0] == IMAGES["train"][0]).all()
    assert tiles[:, 0, 0, 1].tolist() == [0, 90, 90]
    assert tiles[:, 10, 13, 0].tolist()[1:] == [200, 210]
    assert pool.tiles(pool.framed, 1).shape == (11, 28, 28, 1)
    assert corpora.gather(given[:1]).surroundings is None


def test_exported_tiles_among_other_pictures_are_refused(tmp_path: Path) -> None:
    exported(class_folder(tmp_path / "own", range(2)), ("0", "1"))
    with pytest.raises(DatasetError, match=r"own mixes tiles of digitize review export \(.*0\.png.*two folders"):
        corpora.read_corpus(tmp_path / "own")


def test_pendigits_are_drawn_as_tiles(tmp_path: Path) -> None:
    text = "".join(unipen_text(value) for value in range(10))
    (tmp_path / "pendigits-orig.tra").write_text(text)
    (tmp_path / "pendigits-orig.tes.gz").write_bytes(gzip.compress(unipen_text(4, 31).encode()))
    found = corpora.read_corpus(tmp_path)
    assert found.train_labels.tolist() == list(range(10))
    assert found.test_labels.tolist() == [4]
    assert found.train_writers is not None
    assert set(found.train_writers) == {"pendigits-tra:3"}
    one = np.flatnonzero(found.train_images[1].any(axis=1))
    assert len(one) == 20  # fitted as MNIST's
    seven = found.train_images[7]
    assert seven[:9].sum() > seven[-9:].sum()  # its bar is on top: y was turned round
    assert (corpora.read_corpus(tmp_path).train_images == found.train_images).all()


@pytest.mark.parametrize(("between", "name"), [(True, "4"), (False, "2")])
def test_unipen_counts_components_as_the_file_does(tmp_path: Path, between: bool, name: str) -> None:
    (tmp_path / "data" / "1a" / "abc").mkdir(parents=True)
    (tmp_path / "include" / "abc").mkdir(parents=True)
    up = ".PEN_UP\n5 5 0\n" if between else ".PEN_UP\n"
    stroke = ".PEN_DOWN\n0 0 1\n0 100 2\n"
    square = ".PEN_DOWN\n0 0 1\n100 0 1\n100 100 1\n0 100 1\n0 0 1\n"
    (tmp_path / "include" / "abc" / "setup.doc").write_text(".COMMENT told\n.COORD X Y T\n")
    (tmp_path / "include" / "abc" / "one.dat").write_text(stroke + up + stroke + up + square + up)
    text = f'.VERSION 1.0\n.INCLUDE abc/setup.doc\n.INCLUDE abc/one.dat\n.SEGMENT CHARACTER {name} OK "0"\n'
    (tmp_path / "data" / "1a" / "abc" / "w.dat").write_text(text)
    found = corpora.read_corpus(tmp_path)
    assert found.train_labels.tolist() == [0]
    assert found.train_images[0][14, 14] == 0  # the square, not the bar
    assert found.train_images[0].astype(bool).any(axis=0).sum() == 20
    assert found.entry()["licence"] == "CC BY 4.0"


def test_unipen_leaves_misnumbered_donors_out(tmp_path: Path) -> None:
    (tmp_path / "data" / "1a" / "cea").mkdir(parents=True)
    (tmp_path / "data" / "1a" / "cea" / "w.dat").write_text('.SEGMENT CHARACTER 0 OK "0"\n')
    with pytest.raises(DatasetError, match="no digit in UNIPEN's form"):
        corpora.read_corpus(tmp_path)


def test_unipen_as_published_gives_what_was_read_out_of_it() -> None:
    hands = SHARED / "data" / "hands"
    if not hands.is_dir():
        pytest.skip("needs ../shared")
    found = corpora.read_corpus(hands / "unipen_1a_raw.tar.xz")
    with np.load(hands / "unipen_digits.npz") as arrays:
        here = arrays["donors"] != "aga"  # the one donor that the archive lacks
        expected = np.bincount(arrays["labels"][here].astype(int), minlength=10)
    kept = np.bincount(found.train_labels, minlength=10)
    assert (kept <= expected).all()
    assert kept.sum() > 0.98 * expected.sum()  # the rest is scribbles


def test_several_sets_are_one_with_weights(tmp_path: Path) -> None:
    first, second = npz(tmp_path / "a.npz"), class_folder(tmp_path / "own")
    pool = corpora.gather((Source(first), corpora.parse_source(f"{second}=2.5")))
    assert len(pool.mnist.train_labels) == 50
    assert (pool.weights == [1.0] * 30 + [2.5] * 20).all()
    assert [entry["digits"] for entry in pool.entries] == [30, 20]
    assert [entry["weight"] for entry in pool.entries] == [1.0, 2.5]
    assert all(len(value) == 64 for entry in pool.entries for value in entry["files"].values())
    assert len(pool.mnist.test_labels) == 10


def test_writers_of_two_sets_stay_apart(tmp_path: Path) -> None:
    (tmp_path / "pendigits-orig.tra").write_text("".join(unipen_text(value, value % 2) for value in range(10)))
    pool = corpora.gather((Source(tmp_path / "pendigits-orig.tra"), Source(npz(tmp_path / "a.npz"))))
    writers = pool.mnist.train_writers
    assert writers is not None
    assert len(set(writers[:10])) == 2
    assert len(set(writers)) == 32
    assert pool.mnist.train_labels[0] == 0


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "1001"])
def test_a_weight_out_of_range(tmp_path: Path, weight: str) -> None:
    with pytest.raises(UsageError, match="weight"):
        corpora.parse_source(f"{tmp_path / 'absent'}={weight}")


def test_a_path_may_hold_an_equals_sign(tmp_path: Path) -> None:
    assert corpora.parse_source("a=b").path == Path("a=b")
    (tmp_path / "k=2").mkdir()
    assert corpora.parse_source(str(tmp_path / "k=2")) == Source(tmp_path / "k=2")


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def empty_class(folder: Path) -> Path:
    class_folder(folder, range(3))
    for picture in (folder / "2").iterdir():
        picture.unlink()
    return folder


def odd_class(folder: Path) -> Path:
    class_folder(folder, range(2))
    (folder / "1").rename(folder / "eleven")
    return folder


def broken_picture(folder: Path) -> Path:
    class_folder(folder, range(2))
    (folder / "1" / "tile.png").write_bytes(b"\x89PNG and then none")
    return folder


def blank(folder: Path, name: str, value: int, side: int = 40) -> Path:
    """Pictures, one of them of one value all over."""
    class_folder(folder, range(2))
    (folder / name).mkdir(exist_ok=True)
    Image.fromarray(np.full((side, side), value, np.uint8)).save(folder / name / "blank.png")
    return folder


def light_npz(path: Path, label: int) -> Path:
    """Dark digits on light paper, the fourth blank, with this label."""
    images = np.full((4, 28, 28), 240, np.uint8)
    images[:3, 4:24, 10:13] = 20
    np.savez(path, images=images, labels=np.array([1, 1, 1, label]))
    return path


def short_archive(path: Path) -> Path:
    return packed(path, dict(list(idx_files().items())[:3]))


def idx_folder(
    folder: Path, *, magic: bytes = b"\0\0\x08\3", cut: int = 0, labels: np.ndarray = LABELS["train"]
) -> Path:
    """MNIST's files, plain, the training ones with a fault."""
    folder.mkdir()
    images = magic + idx(IMAGES["train"])[4:]
    (folder / datasets.FILES["train_images"]).write_bytes(images[: len(images) - cut])
    (folder / datasets.FILES["train_labels"]).write_bytes(idx(labels))
    (folder / datasets.FILES["test_images"]).write_bytes(idx(IMAGES["test"]))
    (folder / datasets.FILES["test_labels"]).write_bytes(idx(LABELS["test"]))
    return folder


BAD = {
    "absent": (lambda t: t / "absent", "absent is not there"),
    "empty folder": (lambda t: (t / "e").mkdir() or t / "e", "e holds no digits in a known form, but nothing"),
    "empty class": (lambda t: empty_class(t / "e"), r"2 is an empty class"),
    "class outside": (lambda t: odd_class(t / "e"), "subfolder 'eleven'"),
    "broken picture": (lambda t: broken_picture(t / "e"), r"e/1/tile\.png: is text, no image"),
    "blank picture": (lambda t: blank(t / "e", "0", 255), r"e/0/blank\.png is blank, and labelled 0: delete it"),
    "black picture": (lambda t: blank(t / "e", "0", 0), r"e/0/blank\.png is blank"),
    "blank tile": (lambda t: blank(t / "e", "0", 0, 28), r"e/0/blank\.png is blank"),
    "blank image": (lambda t: light_npz(t / "x.npz", 7), r"x\.npz, image 3 is blank, and labelled 7"),
    "wrong magic": (lambda t: write(t / "x.idx", b"\x00\x00\x0d\x03"), r"x\.idx begins with 00 00 0d 03"),
    "empty file": (lambda t: write(t / "x", b""), "begins with nothing"),
    "no archive": (lambda t: write(t / "x.tgz", b"nothing"), r"x\.tgz cannot be unpacked"),
    "no zip": (lambda t: write(t / "x.zip", b"nothing"), r"x\.zip cannot be unpacked"),
    "archive of other things": (lambda t: packed(t / "x.tgz", {"a.txt": b"a"}), r"x\.tgz holds no digits.*a\.txt"),
    "one file missing": (lambda t: short_archive(t / "x.zip"), "3 of MNIST's four files, t10k-labels.* is missing"),
    "no npz": (lambda t: write(t / "x.npz", b"nothing"), r"x\.npz is no npz file, it begins with 6e 6f 74 68"),
    "other arrays": (lambda t: npz(t / "x.npz", y_test=None), r"x\.npz holds the arrays .*expected x_train"),
    "lengths": (lambda t: npz(t / "x.npz", y_test=np.arange(9)), r"\(9,\) labels for 10 images"),
    "label outside": (lambda t: npz(t / "x.npz", y_train=np.full(30, 10)), "labels from 10 to 10, expected 0 to 9"),
    "labels below": (lambda t: npz(t / "x.npz", y_train=np.full(30, -1)), "labels from -1"),
    "labels in words": (lambda t: npz(t / "x.npz", y_train=LABELS["train"].astype(str)), "labels of type <U"),
    "labels in fractions": (lambda t: npz(t / "x.npz", y_test=LABELS["test"] / 2), "labels of type float64"),
    "pickled": (lambda t: npz(t / "x.npz", y_test=np.array([None] * 10)), r"x\.npz cannot be read"),
    "tiles and pictures": (
        lambda t: exported(class_folder(t / "e", range(2)), ("0", "1")),
        "e mixes tiles of digitize review export",
    ),
    "label file alone": (
        lambda t: write(t / "t10k-labels-idx1-ubyte", idx(LABELS["test"])),
        "begins with 00 00 08 01, no known form",
    ),
    "idx of another type": (lambda t: idx_folder(t / "e", magic=b"\0\0\x0d\3"), r"ubyte is no IDX file of bytes"),
    "idx cut short": (
        lambda t: idx_folder(t / "e", cut=5),
        r"train-images.* holds \d+ bytes where its header promises",
    ),
    "idx lengths": (
        lambda t: idx_folder(t / "e", labels=np.arange(29) % 10),
        r"train-labels.*\(29,\), expected \(30,\)",
    ),
    "idx label outside": (lambda t: idx_folder(t / "e", labels=np.arange(30)), "train-labels.* has the label 29"),
    "floats": (lambda t: npz(t / "x.npz", x_test=np.zeros((10, 28, 28))), "float64"),
    "size": (lambda t: npz(t / "x.npz", x_test=np.zeros((10, 20, 20), np.uint8)), "20, 20"),
    "no pen": (lambda t: write(t / "pendigits-orig.tra", b".SEGMENT nothing"), r"pendigits-orig\.tra holds no digit"),
    "damaged gz": (lambda t: write(t / "x.gz", gzip.compress(b"abc" * 99)[:-9]), r"x\.gz cannot be unpacked"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_named(tmp_path: Path, case: str) -> None:
    make, finding = BAD[case]
    path = make(tmp_path)
    with pytest.raises(DatasetError, match=finding) as caught:
        corpora.read_corpus(path)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("case", ["absent", "empty class", "wrong magic", "idx lengths", "label outside"])
def test_training_on_what_does_not_fit_ends_in_7(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make, finding = BAD[case]
    monkeypatch.setattr("sys.argv", ["digitize", "train", "-o", str(tmp_path / "m"), "--data", str(make(tmp_path))])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 7
    assert re.search(finding, said)
    assert said.count("\n") == 1
    assert not (tmp_path / "m").exists()


def test_what_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = class_folder(tmp_path / "own", range(2))

    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(DatasetError, match=r"drawn\.png cannot be read \(Permission denied\)"):
        corpora.read_corpus(folder)


def test_a_digit_that_no_set_has_is_named(tmp_path: Path) -> None:
    path = npz(tmp_path / "x.npz", y_train=np.where(LABELS["train"] == 7, 1, LABELS["train"]))
    with pytest.raises(DatasetError, match=r"x\.npz: class 7 is empty"):
        corpora.gather((Source(path),))


def test_an_archive_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "MOST_UNPACKED", 1000)
    for name in ("x.zip", "x.tgz"):
        with pytest.raises(DatasetError, match="expected at most 1000"):
            corpora.read_corpus(packed(tmp_path / name, idx_files()))


@pytest.mark.parametrize("name", ["mnist.zip", "mnist.npz"])
def test_what_is_encrypted_is_named(tmp_path: Path, name: str) -> None:
    path = encrypt(packed(tmp_path / name, idx_files()) if name.endswith(".zip") else npz(tmp_path / name))
    with pytest.raises(DatasetError, match=rf"{name} cannot be .*encrypted"):
        corpora.read_corpus(path)


def test_an_archive_that_is_damaged_within_is_named(tmp_path: Path) -> None:
    path = packed(tmp_path / "mnist.tar.xz", idx_files())
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"mnist\.tar\.xz cannot be unpacked"):
        corpora.read_corpus(path)
