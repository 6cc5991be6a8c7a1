"""A model is what its card says, or it is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from digitize import doctor, models, write
from digitize.errors import ModelError


def content(**changes: Any) -> dict[str, Any]:
    given = {
        "name": "small",
        "network": "duet",
        "views": 2,
        "classes": [*models.DIGIT_CLASSES, "none"],
        "calibration": {"temperature": 1.2, "curve": [1, 2]},
    }
    return {**given, **changes}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "small"
    place.mkdir()
    (place / models.KERAS_FILE).write_bytes(b"keras")
    (place / models.TFLITE_FILE).write_bytes(b"tflite")
    models.write_card(place, content())
    return place


def rewrite(folder: Path, **changes: Any) -> None:
    path = folder / models.CARD_FILE
    card = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in {**card, **changes}.items() if value is not None}))


def test_round_trip(folder: Path) -> None:
    card = models.load_card(folder)
    assert (card.name, card.network, card.views, card.temperature) == ("small", "duet", 2, 1.2)
    assert card.classes[-1] == "none"
    assert card.calibration["curve"] == [1, 2]
    assert card.content["schema"] == "digitize-model/1"
    assert not list(folder.glob("*.partial"))


@pytest.mark.parametrize("name", [models.KERAS_FILE, models.TFLITE_FILE])
def test_a_changed_file_is_refused(folder: Path, name: str) -> None:
    with (folder / name).open("ab") as stream:
        stream.write(b"!")
    with pytest.raises(ModelError, match=f"{name}.*sha256"):
        models.load_card(folder)


@pytest.mark.parametrize("name", [models.KERAS_FILE, models.TFLITE_FILE])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"{name} is missing"):
        models.load_card(folder)


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"schema": "digitize-model/2"}, "digitize-model/2"),
        ({"schema": None}, "schema None"),
        ({"views": None}, "lacks views"),
        ({"views": 3}, "views 3"),
        ({"classes": "0123456789"}, "expected a list"),
        ({"classes": ["1", "0"]}, "expected 0 to 9"),
        ({"tile_rules": "other/1"}, "other/1"),
        ({"files": {models.KERAS_FILE: "0"}}, "sha256"),
        ({"calibration": {}}, "temperature"),
        ({"calibration": {"temperature": 0}}, "temperature"),
    ],
)
def test_a_card_that_does_not_fit_is_named(folder: Path, changes: dict[str, Any], finding: str) -> None:
    rewrite(folder, **changes)
    with pytest.raises(ModelError, match=finding) as caught:
        models.load_card(folder)
    assert models.CARD_FILE in str(caught.value)


def test_a_card_that_is_no_json(folder: Path) -> None:
    (folder / models.CARD_FILE).write_text("{")
    with pytest.raises(ModelError, match="no JSON"):
        models.load_card(folder)
    (folder / models.CARD_FILE).write_text("[1]")
    with pytest.raises(ModelError, match="schema"):
        models.load_card(folder)


def test_no_card_is_written_without_the_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="missing"):
        models.write_card(tmp_path, content())
    assert not list(tmp_path.iterdir())


def test_find_by_path_and_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert models.find(folder) == folder
    monkeypatch.setattr(models, "default_folder", lambda: folder.parent)
    assert models.find("small") == folder
    assert models.list_models() == [folder]
    with pytest.raises(ModelError, match=r"there is no large/card\.json.*small"):
        models.find("large")


def test_a_name_that_is_no_files_is_no_models() -> None:
    with pytest.raises(ModelError, match=r"no model m{300}: there is no m{300}/card\.json"):
        models.find("m" * 300)
    finding = doctor.examine(model="m" * 300)[-1]
    assert (finding.topic, finding.state) == ("model", "wrong")


def test_names_are_looked_up_here_then_at_home_then_in_the_package(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "home"))
    package = tmp_path / "package"
    monkeypatch.setattr(models, "default_folder", lambda: package)
    there = [Path("models"), tmp_path / "home" / "digitize" / "models", package]
    assert list(models.places()) == there
    for place in reversed(there):
        shutil.copytree(folder, place / "mine")
        assert models.find("mine") == place / "mine"
    assert models.list_all() == [place / "mine" for place in there]
    shutil.copytree(folder, tmp_path / "mine")
    assert models.find("mine") == Path("mine")  # a folder that is given comes first
    with pytest.raises(ModelError, match=r"no model yours: .*home.*there are: mine$"):
        models.find("yours")


def test_a_place_that_is_named_twice_is_listed_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(models, "default_folder", lambda: tmp_path / "models")
    shutil.copytree(folder, tmp_path / "models" / "mine")
    assert models.list_all() == [Path("models") / "mine"]


def test_one_line_says_what_a_model_is(folder: Path) -> None:
    models.write_card(folder, content(date="2026-11-25", accuracy={"mnist_test": 0.99}))
    said = models.summarise(folder)
    assert said == f"  small: 11 classes, to classify, mnist_test 0.9900, 0.0 MB, 2026-11-25, {folder}"


def test_a_report_that_is_damaged_is_named(folder: Path) -> None:
    assert models.history(folder) == []
    (folder / "report").mkdir()
    (folder / "report" / "metrics.json").write_text("[]")
    with pytest.raises(ModelError, match=r"metrics\.json cannot be read"):
        models.history(folder)


def test_default_folder_is_beside_or_inside_the_package() -> None:
    assert models.default_folder().name in ("models", "models_data")


def test_a_model_takes_the_place_of_another_whole_or_not_at_all(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / models.NEW_FOLDER).mkdir()
    (folder / models.NEW_FOLDER / "torn").touch()  # of somebody who was killed

    def make(made: Path) -> None:
        assert list(made.iterdir()) == []
        for name in (models.KERAS_FILE, models.TFLITE_FILE):
            (made / name).write_bytes(b"new")
        models.write_card(made, content(name="new"))

    def make_badly() -> None:
        with models.renewed(folder) as made:
            make(made)
            raise ModelError("its files disagree")

    with pytest.raises(ModelError, match="disagree"):
        make_badly()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with models.renewed(folder) as made:
        make(made)
        assert models.load_card(folder).name == "small"
    assert models.load_card(folder).name == "new"
    assert {path.name for path in folder.iterdir()} == before.keys()


def test_a_model_is_on_the_disk_before_it_takes_the_place_of_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def see(place: Path) -> None:
        told.append(f"{place.name}, {models.load_card(folder).name}")

    with models.renewed(folder) as made:
        for name in (models.KERAS_FILE, models.TFLITE_FILE):
            (made / name).write_bytes(b"new")
        models.write_card(made, content(name="new"))
        monkeypatch.setattr(write, "settle", lambda stream: see(Path(stream.name)))
        monkeypatch.setattr(write, "settle_folder", see)
    assert told == ["model.keras, small", "model.tflite, small", "card.json, small", "small, new"]
    told.clear()
    models.write_card(folder, content(name="other"))
    assert told == ["card.partial, new", "small, other"]


def test_a_card_may_name_what_is_no_utf_8(folder: Path) -> None:
    name = os.fsdecode(b"mine \xff")
    models.write_card(folder, content(name=name))
    assert models.load_card(folder).name == name


def test_a_model_that_may_not_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(models, "file_hash", denied)
    with pytest.raises(ModelError, match=r"model\.keras cannot be read \(Permission denied\)"):
        models.load_card(folder)
