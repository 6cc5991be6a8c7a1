"""Training chooses on validation and writes a folder that classifies. Imports Keras, and so TensorFlow."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from digitize import datasets, models, relearn, train
from digitize.classify import Classifier
from digitize.corpora import Source
from digitize.errors import DatasetError, ModelError, UsageError

# Keras 3 hands NumPy 2 arrays of TensorFlow's that know nothing of `copy`; nothing of ours can be done about it.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def stroke_digits(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two kinds of "digit" that anything learns: 0 is a bar across, 1 a bar down."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % 2).astype(np.uint8)
    images = np.zeros((count, 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        at = rng.integers(11, 16)
        image[at : at + 3, 6:22] = 255
        if label:
            image[...] = image.T.copy()
    return images, labels


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mnist")
    for part, count in (("train", 400), ("t10k", 60)):
        images, labels = stroke_digits(count, count)
        if part == "train":  # every digit is there, however seldom
            labels[-16:] = np.arange(16) % 8 + 2
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (folder / f"{part}-{name}-ubyte").write_bytes(header + array.tobytes())
    np.savez(folder / "writers.npz", train=np.arange(400) // 10, test=np.arange(60))
    return folder


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiles") / "tiles.npz"
    images, labels = stroke_digits(120, 7)
    made = np.stack([images, np.zeros_like(images)], axis=-1)
    made[::3, ..., 0] //= 2  # what is faint is no digit here
    labels = labels.copy()
    labels[::3] = 10
    np.savez(path, tiles=made, labels=labels, held=np.arange(120) % 5 == 0, weights=np.arange(120) % 2 + 1.0)
    return path


@pytest.fixture(scope="module")
def trained(data: Path, tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[train.Progress]]:
    output = tmp_path_factory.mktemp("out") / "small"
    options = train.Options(
        output, data=(Source(data),), tiles=(tiles,), epochs=3, epoch_tiles=1280, batch_size=32, mnist_share=0.5, seed=5
    )
    course = train.prepare(options)
    records = list(train.epochs(course))
    return train.finish(course), records


def test_learns_and_reports(trained: tuple[Path, list[train.Progress]]) -> None:
    _, records = trained
    assert [record.epoch for record in records] == [1, 2, 3]
    assert records[-1].loss < records[0].loss
    assert records[-1].tiles_accuracy is not None
    best = min(records, key=lambda record: record.validation_loss)
    assert best.best
    assert best.mnist_accuracy > 0.6
    assert "epoch 1/3" in str(records[0])


def test_the_card_says_what_was_done(trained: tuple[Path, list[train.Progress]], data: Path, tiles: Path) -> None:
    folder, records = trained
    card = models.load_card(folder)
    assert (card.name, card.network, card.views, len(card.classes)) == ("small", "duet", 2, 11)
    content = card.content
    best = min(records, key=lambda record: record.validation_loss)
    assert content["training"]["best_epoch"] == best.epoch
    assert content["training"]["validation"] == "writers"
    assert content["accuracy"]["mnist_validation"] == pytest.approx(best.mnist_accuracy)
    assert content["data"][0]["files"]["writers.npz"] == datasets.file_hash(data / "writers.npz")
    assert content["data"][1]["sha256"] == datasets.file_hash(tiles)
    assert content["seed"] == 5
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_the_folder_classifies(trained: tuple[Path, list[train.Progress]]) -> None:
    images, labels = stroke_digits(60, 60)
    blank = np.stack([images, np.zeros_like(images)], axis=-1)
    probabilities = Classifier(trained[0], device="cpu").probabilities(blank)
    accuracy = trained_accuracy(trained[0])
    assert (probabilities.argmax(axis=1) == labels).mean() == pytest.approx(accuracy)


def test_a_folder_of_tiles_teaches_a_trained_model_more(
    trained: tuple[Path, list[train.Progress]], data: Path, tmp_path: Path
) -> None:
    """As review exports it: a form that the model misreads is read right then, and the rest still is."""
    rng = np.random.default_rng(8)
    crosses = np.zeros((60, 28, 56), np.uint8)
    for cross in crosses:
        at = rng.integers(11, 16)
        cross[at : at + 3, 6:22] = cross[6:22, at : at + 3] = 255
    (tmp_path / "tiles" / "4").mkdir(parents=True)
    for k, cross in enumerate(crosses[:40]):
        cv2.imwrite(str(tmp_path / "tiles" / "4" / f"{k}.png"), cross)
    options = train.Options(
        tmp_path / "tuned",
        data=(Source(data),),
        tiles=(tmp_path / "tiles",),
        start=trained[0],
        epochs=2,
        epoch_tiles=1280,
        batch_size=32,
        mnist_share=0.5,
    )
    course = train.prepare(options)
    list(train.epochs(course))
    tuned = train.finish(course)
    fresh = np.stack([crosses[40:, :, :28], crosses[40:, :, 28:]], axis=-1)
    before, after = (
        (Classifier(folder, device="cpu").probabilities(fresh).argmax(axis=1) == 4).mean()
        for folder in (trained[0], tuned)
    )
    began = models.load_card(tuned).content["from"]
    assert began["name"] == "small"
    assert began["sha256"] == datasets.file_hash(trained[0] / models.KERAS_FILE)
    assert began["data"][0]["digits"] == 400
    assert before < 0.1
    assert after > 0.9
    assert trained_accuracy(tuned) >= trained_accuracy(trained[0]) - 0.1


def test_a_model_of_other_sizes_is_no_start() -> None:
    from digitize import network

    for other in (network.duet(width=0.5), network.duet(classes=10)):
        with pytest.raises(ModelError, match="holds a duet of other sizes"):
            train.start_from(other, models.find("duet"))


def trained_accuracy(folder: Path) -> float:
    return float(models.load_card(folder).content["accuracy"]["mnist_test"])


def batches(data: Path, tiles: tuple[Path, ...], **options: object) -> list[tuple[np.ndarray, np.ndarray]]:
    chosen = train.Options(Path("unused"), data=(Source(data),), tiles=tiles, batch_size=64, **options)  # type: ignore[arg-type]
    return list(train.batches(train.prepare(chosen), 4))


def test_batches_are_seeded(data: Path, tiles: Path) -> None:
    first, again = batches(data, (tiles,), seed=1), batches(data, (tiles,), seed=1)
    other = batches(data, (tiles,), seed=2)
    assert all((one[0] == two[0]).all() and (one[1] == two[1]).all() for one, two in zip(first, again, strict=True))
    assert any((one[0] != two[0]).any() for one, two in zip(first, other, strict=True))


def test_tiles_that_come_with_surroundings_are_learnt_with_them(data: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    for label in ("0", "1", "none"):
        for k in range(20):
            tile = np.zeros((28, 28, 2), np.uint8)
            tile[6:22, rng.integers(8, 18), 0] = tile[2:26, 5, 1] = 255
            relearn._write(tmp_path / "tiles" / label / f"{k}.png", tile)
    sources = (Source(data), Source(tmp_path / "tiles", 5.0))
    course = train.prepare(train.Options(Path("unused"), data=sources, batch_size=64))
    drawn, labels = map(np.concatenate, zip(*train.batches(course, 40), strict=True))
    framed = drawn[..., 1].any(axis=(1, 2))
    kept = course.pool.framed[~course.kept]
    assert framed.mean() == pytest.approx(5 * kept.sum() / (5 * kept.sum() + (~kept).sum()), abs=0.05)
    assert (labels == 10).sum() == (framed & (labels == 10)).sum() > 100
    # Gently turned at most: the bar of the surroundings stays whole and at its place.
    assert (drawn[framed][:, 8:20, 3:8, 1].max(axis=2) > 100).mean() > 0.98


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0.0), (1.0, 1.0)])
def test_the_share_of_mnist_is_kept(data: Path, tiles: Path, share: float, expected: float) -> None:
    # only the sheet maker's tiles of this fixture have labels of 10
    labels = np.concatenate([labels for _, labels in batches(data, (tiles,), mnist_share=share)])
    assert ((labels == 10).any()) == (expected == 0.0)


def test_held_tiles_are_never_trained_on(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "held.npz"
    labels = np.array([3] * 30 + [4] * 30)
    np.savez(path, tiles=np.zeros((60, 28, 28, 2), np.uint8), labels=labels, held=labels == 4)
    drawn = np.concatenate([labels for _, labels in batches(data, (path,), mnist_share=0.0)])
    assert set(drawn) == {3}


def test_weights_say_how_often(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "weighed.npz"
    labels = np.arange(60) % 3
    np.savez(
        path,
        tiles=np.zeros((60, 28, 28, 2), np.uint8),
        labels=labels,
        held=np.zeros(60, bool),
        weights=np.array([0.0, 1.0, 3.0])[labels],
    )
    drawn = np.bincount(np.concatenate([labels for _, labels in batches(data, (path,), mnist_share=0.0)]), minlength=3)
    assert drawn[0] == 0
    assert 2 < drawn[2] / drawn[1] < 4.5


def test_a_network_of_ten_refuses_an_eleventh_class(data: Path, tiles: Path) -> None:
    with pytest.raises(DatasetError, match="class 10"):
        train.prepare(train.Options(Path("unused"), network="article", data=(Source(data),), tiles=(tiles,)))


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"mnist_share": 1.1}, {"epoch_tiles": 3}]
)
def test_options_out_of_range(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        train.Options(Path("unused"), **wrong)  # type: ignore[arg-type]


def test_the_set_with_an_eleventh_class_is_named(data: Path, tmp_path: Path) -> None:
    images, labels = stroke_digits(20, 4)
    np.savez(tmp_path / "none.npz", images=images, labels=np.where(labels, 10, 0))
    given = (Source(data), Source(tmp_path / "none.npz"))
    with pytest.raises(DatasetError, match=rf"^{tmp_path}/none\.npz has tiles of class 10, article knows 10 classes"):
        train.prepare(train.Options(tmp_path / "unused", network="article", data=given))


@pytest.mark.parametrize(("hands", "said"), [(1, "1 writer none"), (2, "2 writers none")])
def test_digits_of_one_writer_are_no_two_sets(data: Path, tmp_path: Path, hands: int, said: str) -> None:
    folder = tmp_path / "own"
    shutil.copytree(data, folder)
    np.savez(folder / "writers.npz", train=np.arange(400) // (400 - hands + 1), test=np.arange(60))
    with pytest.raises(DatasetError, match=f"own: of 400 digits by {said} is left to train on"):
        train.prepare(train.Options(tmp_path / "unused", data=(Source(folder),), seed=8, device="cpu"))


def test_an_unknown_network_is_a_usage_error(data: Path) -> None:
    with pytest.raises(UsageError, match="trio"):
        train.prepare(train.Options(Path("unused"), network="trio", data=(Source(data),)))


@settings(max_examples=8, deadline=None)
@given(st.floats(0.3, 4.0), st.integers(0, 1000))
def test_temperature_recovers_what_was_planted(planted: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (4000, 4)).astype(np.float32)
    powers = np.exp(logits)
    chances = powers / powers.sum(axis=1, keepdims=True)
    labels = (rng.random((4000, 1)) > chances.cumsum(axis=1)).sum(axis=1).clip(0, 3).astype(np.uint8)
    assert train.fit_temperature(logits * np.float32(planted), labels) == pytest.approx(planted, rel=0.15)


def test_log_loss_by_hand() -> None:
    logits = np.log(np.array([[0.5, 0.5], [0.25, 0.75]], np.float32))
    labels = np.array([0, 0], np.uint8)
    assert train.log_loss(logits, labels) == pytest.approx((np.log(2) + np.log(4)) / 2, rel=1e-5)
    assert train.log_loss(logits, labels, np.array([1.0, 3.0])) == pytest.approx(np.log(2) * 7 / 4, rel=1e-5)


def test_distort_keeps_the_form_and_moves_both_views_alike() -> None:
    images, _ = stroke_digits(50, 1)
    both = np.stack([images, images], axis=-1)
    moved = train.distort(both, np.random.default_rng(0), gentle=True)
    assert moved.shape == both.shape
    assert moved.dtype == np.uint8
    assert (moved[..., 0] == moved[..., 1]).all()
    assert (moved != both).any()
    ink = moved.sum(axis=(1, 2, 3), dtype=np.int64) / both.sum(axis=(1, 2, 3), dtype=np.int64)
    assert 0.8 < ink.min() < ink.max() < 1.25


def test_distort_is_seeded_and_stronger_when_not_gentle() -> None:
    tiles = stroke_digits(50, 1)[0][..., None]
    one, two = (train.distort(tiles, np.random.default_rng(4)) for _ in range(2))
    assert (one == two).all()
    gentle = train.distort(tiles, np.random.default_rng(4), gentle=True)
    change = np.abs(one.astype(int) - tiles).mean()
    assert change > 1.5 * np.abs(gentle.astype(int) - tiles).mean()


def test_restroke_changes_the_weight_of_the_stroke() -> None:
    image = stroke_digits(1, 0)[0][0]
    ink = image.sum(dtype=np.int64)
    assert train.restroke(image, thicker=True).sum(dtype=np.int64) > 1.1 * ink
    assert 0.5 * ink <= train.restroke(image, thicker=False).sum(dtype=np.int64) < 0.95 * ink


def test_restroke_leaves_a_hairline() -> None:
    image = np.zeros((28, 28), np.uint8)
    image[5:23, 14] = 200
    assert (train.restroke(image, thicker=False) == image).all()


def test_an_error_in_the_thread_comes_out() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise DatasetError("the disk is gone")

    items = train.prefetched(broken())
    assert next(items) == 1
    with pytest.raises(DatasetError, match="the disk is gone"):
        next(items)


def test_prefetching_keeps_order_and_ends() -> None:
    assert list(train.prefetched(iter(range(50)))) == list(range(50))
