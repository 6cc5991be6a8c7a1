"""Folders by path and by URI: the same files in the same order, written whole."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from digitize import store
from digitize.errors import OutputError, UsageError

pytest.importorskip("pyarrow", reason="pyarrow comes with digitize[ray]: make cluster runs this")
pytest.importorskip("fsspec", reason="fsspec comes with digitize[ray]: make cluster runs this")


@pytest.fixture(params=["path", "file", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> store.Store:
    """An empty folder, named in each way."""
    folder = tmp_path / "a folder"
    names = {"path": str(folder), "file": folder.as_uri(), "memory": f"memory://{uuid.uuid4().hex}/x"}
    return store.Store(names[request.param])


def test_what_is_put_is_there(place: store.Store) -> None:
    for name, content in (("b/2.png", b"two"), ("a.png", b"one"), ("b/10.png", b"ten"), ("a.png", b"anew")):
        place.put(name, content)
    assert [(one.name, one.size) for one in place.below()] == [("a.png", 4), ("b/10.png", 3), ("b/2.png", 3)]
    assert [place.read(one.path) for one in place.below()] == [b"anew", b"ten", b"two"]
    assert sorted(place.within("b")) == ["b/10.png", "b/2.png"]
    assert (place.get("b/2.png"), place.get("b/3.png"), place.get("c/3.png")) == (b"two", None, None)
    assert (place.has("b/2.png"), place.has("b"), place.has("c")) == (True, False, False)


def test_what_is_removed_is_gone(place: store.Store) -> None:
    place.put("a.png", b"one")
    place.remove("a.png")
    place.remove("a.png")
    assert list(place.below()) == []
    assert list(place.within("nothing")) == []


def test_hidden_files_are_passed_over(place: store.Store) -> None:
    place.put(".hidden/a.png", b"")
    place.put("b/.part.png", b"")
    assert list(place.below()) == []


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("file:///share/a%20b", "/share/a b"),
        ("/share/a%20b", "/share/a%20b"),
        ("s3://bucket/key", None),
        ("memory://x", None),
    ],
)
def test_a_path_is_told_from_a_uri(text: str, path: str | None) -> None:
    found = store.local_path(text)
    assert (found.as_posix() if found else None) == path


def test_a_store_s_objects_and_folders_are_told_apart() -> None:
    uri = f"memory://{uuid.uuid4().hex}"
    store.Store(uri).put("b/2.png", b"two")
    assert [store.Store(f"{uri}/{name}").kind() for name in ("b", "b/2.png", "c")] == ["folder", "file", None]
    assert store.Store(f"{uri}/b/2.png").itself().size == 3


def test_a_bucket_of_s3_is_known_without_being_asked() -> None:
    place = store.Store("s3://bucket/of/sheets?region=eu-central-1")
    assert (place.local, place._base, place._files.type_name) == (None, "bucket/of/sheets", "s3")


@pytest.mark.parametrize("uri", ["nope://x/y", "nope2://"])
def test_who_nobody_knows_is_refused(uri: str) -> None:
    with pytest.raises(UsageError, match=uri):
        store.Store(uri).kind()


@pytest.mark.skipif(os.geteuid() != 0 and not Path("/proc/1").exists(), reason="there is no /proc")
def test_a_place_that_cannot_be_written_is_named() -> None:
    with pytest.raises(OutputError, match="digits"):
        store.Store("/proc/1/nothing").put("digits/a.parquet", b"")
