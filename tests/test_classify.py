"""Tiles become probabilities; devices and cards are held to their word. Imports TensorFlow to make its small models."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from digitize import datasets, engine, evaluate, machine, models
from digitize.classify import Classifier
from digitize.errors import DatasetError, DeviceError, ModelError, UsageError

# Keras 3 hands NumPy 2 arrays of TensorFlow's that know nothing of `copy`; nothing of ours can be done about it.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SHARED = Path(os.environ.get("DIGITIZE_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "fresh", "duet")


def make_model(folder: Path, name: str, *, half: bool = False) -> Path:
    """An untrained model, as a folder."""
    import keras

    from digitize import network, train

    keras.utils.set_random_seed(1)
    model = network.build(name)
    folder.mkdir()
    train.export(network.with_softmax(model, 1.5), folder, bits=16 if half else 32)
    classes = [*models.DIGIT_CLASSES, models.NONE_CLASS][: model.output.shape[-1]]
    content = {"name": folder.name, "network": name, "views": network.views(model), "classes": classes}
    models.write_card(folder, {**content, "calibration": {"temperature": 1.5}})
    return folder


def some_tiles(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28, 2)).astype(np.uint8)


@pytest.mark.parametrize("count", [0, 1, 5, 256, 300])
def test_any_number_of_tiles(folder: Path, count: int) -> None:
    answers = Classifier(folder, device="cpu").probabilities(some_tiles(count))
    assert answers.shape == (count, 11)
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)


def test_batches_do_not_show(folder: Path) -> None:
    tiles = some_tiles(70)
    whole = Classifier(folder, device="cpu").probabilities(tiles)
    parts = Classifier(folder, device="cpu", batch_size=16, threads=1).probabilities(tiles)
    np.testing.assert_allclose(whole, parts, atol=1e-5)


def test_the_surroundings_matter_to_two_views(folder: Path) -> None:
    tiles = some_tiles(20)
    changed = tiles.copy()
    changed[..., 1] = 0
    classifier = Classifier(folder, device="cpu")
    assert np.abs(classifier.probabilities(tiles) - classifier.probabilities(changed)).max() > 1e-4


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "halved", "article", half=True)


def test_weights_of_16_bits_answer_alike(halved: Path) -> None:
    assert (halved / models.TFLITE_FILE).stat().st_size < 0.6 * (halved / models.KERAS_FILE).stat().st_size
    assert evaluate.agreement(halved, some_tiles(50)).largest < 1e-5


def test_one_view_leaves_the_surroundings_aside(halved: Path) -> None:
    classifier = Classifier(halved, device="cpu")
    tiles = some_tiles(10)
    changed = tiles.copy()
    changed[..., 1] = 0
    assert (classifier.probabilities(tiles) == classifier.probabilities(changed)).all()
    assert classifier.classes == 10


def test_keras_and_litert_give_the_same(folder: Path) -> None:
    import keras

    tiles = some_tiles(200)
    model = keras.models.load_model(folder / models.KERAS_FILE, compile=False)
    np.testing.assert_allclose(
        Classifier(folder, device="cpu").probabilities(tiles), model.predict_on_batch(tiles), atol=1e-4
    )


@pytest.mark.parametrize("name", ["duet", "article"])
def test_both_files_of_a_shipped_model_agree_on_mnist(name: str) -> None:
    import keras

    try:
        folder = models.find(name)
        images = datasets.load_mnist(SHARED / "data" / "mnist").test_images[:2000]
    except (ModelError, DatasetError) as error:
        pytest.skip(f"needs the model and MNIST: {error}")
    tiles = np.stack([images, np.zeros_like(images)], axis=-1)
    classifier = Classifier(folder, device="cpu")
    model = keras.models.load_model(folder / models.KERAS_FILE, compile=False)
    lite = classifier.probabilities(tiles)
    full = model.predict_on_batch(tiles[..., : classifier.card.views])
    assert (lite.argmax(axis=1) == full.argmax(axis=1)).all()
    assert np.abs(lite - full).max() < 1e-3


@pytest.mark.parametrize(
    "tiles",
    [np.zeros((3, 28, 28), np.uint8), np.zeros((3, 28, 28, 1), np.uint8), np.zeros((3, 28, 28, 2), np.float32)],
)
def test_tiles_of_another_form_are_refused(folder: Path, tiles: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        Classifier(folder, device="cpu").probabilities(tiles)


def test_a_named_gpu_must_be_there(folder: Path) -> None:
    with pytest.raises(DeviceError, match="GPU 97"):
        Classifier(folder, device="gpu:97")


@pytest.mark.parametrize("device", ["", "GPU", "gpu:", "gpu:x", "tpu", "cpu:0"])
def test_a_device_must_make_sense(folder: Path, device: str) -> None:
    with pytest.raises(UsageError, match="auto, cpu, gpu"):
        Classifier(folder, device=device)


def test_auto_falls_back_and_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "gpu_seen", lambda: True)
    monkeypatch.setattr(engine, "keras_gpus", lambda backend: [])
    classifier = Classifier(folder)
    assert classifier.device == "cpu"
    assert "CPU, LiteRT" in classifier.description
    assert "no GPU 0" in classifier.description


def without_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "gpu_seen", lambda: True)
    monkeypatch.setitem(sys.modules, "keras", None)


def without_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(backend: str) -> list[str]:
        raise ImportError("libcudart.so is missing")

    monkeypatch.setattr(engine, "gpu_seen", lambda: True)
    monkeypatch.setattr(engine, "keras_gpus", refused)


@pytest.mark.parametrize("lacking", [without_keras, without_tensorflow])
def test_auto_falls_back_where_keras_cannot_be_imported(
    folder: Path, monkeypatch: pytest.MonkeyPatch, lacking: Callable[[pytest.MonkeyPatch], None]
) -> None:
    lacking(monkeypatch)
    classifier = Classifier(folder)
    assert classifier.device == "cpu"
    assert "Keras, which runs a model on a GPU, cannot be imported" in classifier.description
    with pytest.raises(DeviceError, match="cannot be imported"):
        Classifier(folder, device="gpu")


def test_the_gpus_road_gives_the_same_on_a_cpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The padding and the Keras file, with the CPU standing in for a GPU."""
    monkeypatch.setattr(engine, "keras_gpus", lambda backend: ["cpu:0"])
    tiles = some_tiles(130)
    stand_in = Classifier(folder, device="gpu", batch_size=100)
    assert stand_in.device == "gpu:0"
    np.testing.assert_allclose(
        stand_in.probabilities(tiles), Classifier(folder, device="cpu").probabilities(tiles), atol=1e-4
    )


@pytest.mark.parametrize(
    ("visible", "seen"), [(None, True), ("0", True), ("0,1", True), ("-1", False), ("", False), (" ", False)]
)
def test_hidden_gpus_are_not_seen(monkeypatch: pytest.MonkeyPatch, visible: str | None, seen: bool) -> None:
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(Path, "exists", lambda node: node == Path("/dev/nvidia0"))
    assert machine.gpu_seen() == seen
    monkeypatch.setattr(Path, "exists", lambda _: False)
    assert not machine.gpu_seen()


def test_a_card_that_disagrees_with_the_network_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "liar"
    copy.mkdir()
    for name in (models.KERAS_FILE, models.TFLITE_FILE):
        (copy / name).write_bytes((folder / name).read_bytes())
    card = json.loads((folder / models.CARD_FILE).read_text())
    models.write_card(copy, {**card, "views": 1})
    with pytest.raises(ModelError, match="its card says"):
        Classifier(copy, device="cpu")


def test_what_is_no_tflite_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "broken"
    copy.mkdir()
    (copy / models.KERAS_FILE).write_bytes(b"no")
    (copy / models.TFLITE_FILE).write_bytes(b"no")
    models.write_card(copy, json.loads((folder / models.CARD_FILE).read_text()))
    with pytest.raises(ModelError, match="cannot be loaded"):
        Classifier(copy, device="cpu")


def torn_zip(content: bytes) -> bytes:
    """The archive that a Keras file is, with its beginning blank."""
    return content[:100] + bytes(60) + content[160:]


@pytest.mark.parametrize("damage", [lambda content: b"no", torn_zip])
def test_what_is_no_keras_file_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    copy = tmp_path / "broken"
    shutil.copytree(folder, copy)
    (copy / models.KERAS_FILE).write_bytes(damage((folder / models.KERAS_FILE).read_bytes()))
    models.write_card(copy, json.loads((folder / models.CARD_FILE).read_text()))  # whose hash is right
    for use in (evaluate.verify, lambda one: evaluate.agreement(one, some_tiles(4))):
        with pytest.raises(ModelError, match=r"model\.keras cannot be loaded"):
            use(copy)
    monkeypatch.setattr(engine, "keras_gpus", lambda backend: ["cpu:0"])
    with pytest.raises(ModelError, match=r"model\.keras cannot be loaded"):
        Classifier(copy, device="gpu")


def test_a_keras_file_of_another_network_is_refused(folder: Path, halved: Path, tmp_path: Path) -> None:
    copy = tmp_path / "mixed"
    shutil.copytree(folder, copy)
    shutil.copy(halved / models.KERAS_FILE, copy / models.KERAS_FILE)
    models.write_card(copy, json.loads((folder / models.CARD_FILE).read_text()))
    with pytest.raises(ModelError, match=r"model\.keras maps \(28, 28, 1\) to \(10,\), its card says"):
        evaluate.verify(copy)


def test_the_cpu_needs_no_tensorflow_and_says_nothing(folder: Path) -> None:
    program = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from digitize.classify import Classifier\n"
        f"classifier = Classifier(Path({str(folder)!r}), device='cpu')\n"
        "classifier.probabilities(np.zeros((3, 28, 28, 2), np.uint8))\n"
        "classifier.probabilities(np.zeros((5, 28, 28, 2), np.uint8))\n"
        "print(sorted({'tensorflow', 'keras', 'jax'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def test_evaluation_counts_right_and_wrong(folder: Path) -> None:
    images = some_tiles(40)[..., 0]
    answers = Classifier(folder, device="cpu").probabilities(evaluate.as_tiles(images)).argmax(axis=1)
    labels = answers.astype(np.uint8)
    labels[:10] = (labels[:10] + 1) % 11
    outcome = evaluate.evaluate(folder, images, labels)
    assert outcome.accuracy == pytest.approx(0.75)
    assert outcome.confusion.sum() == 40
    assert np.trace(outcome.confusion) == 30
    assert outcome.confusion[labels[0], answers[0]] >= 1


def test_evaluation_needs_as_many_labels(folder: Path) -> None:
    with pytest.raises(ValueError, match="40 images and 39 labels"):
        evaluate.evaluate(folder, some_tiles(40), np.zeros(39, np.uint8))


def test_evaluation_needs_a_model_that_knows_the_labels(folder: Path, halved: Path) -> None:
    labels = np.full(3, 10, np.uint8)
    assert evaluate.evaluate(folder, some_tiles(3), labels).confusion[10].sum() == 3
    with pytest.raises(DatasetError, match=r"labels up to 10, and .*halved knows 10 classes"):
        evaluate.evaluate(halved, some_tiles(3), labels)


def test_agreement_of_a_fresh_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    device, asked = keras.device, []

    def noted(name: str) -> Any:
        asked.append(name)
        return device(name)

    monkeypatch.setattr(keras, "device", noted)
    found = evaluate.agreement(folder, some_tiles(50))
    assert (asked, found.devices[0]) == (["cpu"], "CPU, Keras"), "also where Keras would take a GPU"
    assert (found.tiles, found.different) == (50, 0)
    assert found.largest < 1e-4
