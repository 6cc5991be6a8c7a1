"""Where models live, and whether they are what their cards say.

A model is a folder with `model.keras`, `model.tflite` and `card.json`. The card is the contract: what the network looks
at and gives, what it was trained on, how well it did, and the sha256 of both files, so that a swapped or damaged file
is noticed before it reads a single digit.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from digitize.datasets import file_hash
from digitize.errors import ModelError, OutputError
from digitize.records import PAGE_RULES, TILE_RULES, TILE_SIDE

SCHEMA = "digitize-model/1"
DEFAULT_MODEL = "duet"
DEFAULT_DETECTOR = "scout"
KERAS_FILE = "model.keras"
TFLITE_FILE = "model.tflite"
CARD_FILE = "card.json"
ELSEWHERE = "copy the model to a folder of your own and name that"
REPORT_FOLDER = "report"  # in a model folder, what came of its training
METRICS_FILE = "metrics.json"  # in a report
NEW_FOLDER = ".new"  # in a model folder, while a model that is to take the place of its own is made
DIGIT_CLASSES = tuple(str(digit) for digit in range(10))
NONE_CLASS = "none"

Task = Literal["classify", "detect"]


@dataclass(frozen=True, slots=True)
class Card:
    """What a model says of itself.

    Attributes:
        path: where it was read.
        name: the folder's name.
        task: "classify" for a model that names tiles, "detect" for one that finds digits on a page.
        network: key of `network.NETWORKS`, or "scout".
        views: 1 where it sees the digit alone, 2 where it sees the surroundings too.
        classes: "0" to "9", and "none" where the network can say that this is no digit.
        takes, gives: shape of one item that goes in, and of its answer.
        temperature: what the logits were divided by; it is part of the model files already.
        content: the whole card as it was read.
    """

    path: Path
    name: str
    task: Task
    network: str
    views: int
    classes: tuple[str, ...]
    takes: tuple[int, ...]
    gives: tuple[int, ...]
    temperature: float
    content: Mapping[str, Any] = field(repr=False)

    @property
    def calibration(self) -> Mapping[str, Any]:
        """What is stored for making confidences true, beyond the temperature."""
        found: Mapping[str, Any] = self.content["calibration"]
        return found

    @property
    def tflite_sha256(self) -> str:
        """Hash of the tflite file."""
        return str(self.content["files"][TFLITE_FILE])

    def origin(self, file: str) -> dict[str, Any]:
        """What the card of a model says that learnt from a file of this one: name, hash, what this was trained on."""
        return {"name": self.name, "sha256": self.content["files"][file], "data": self.content.get("data", [])}

    @property
    def context_sha256(self) -> str:
        """Hash of what a detector's card says of its context; empty where it says nothing."""
        if "context" not in self.content:
            return ""
        return hashlib.sha256(json.dumps(self.content["context"], sort_keys=True).encode()).hexdigest()

    @property
    def measured_with(self) -> tuple[str, str]:
        """Hashes of the detector that its calibration was measured with, and of its context; empty without one."""
        measured = self.calibration.get("measured_on", {})
        if not isinstance(measured, dict):
            return "", ""
        return str(measured.get("detector_sha256", "")), str(measured.get("context_sha256", ""))


def default_folder() -> Path:
    """The folder that holds the shipped models: `models/` of a checkout, or the copy inside an installed package."""
    package = Path(__file__).resolve().parent
    installed = package / "models_data"
    return installed if installed.is_dir() else package.parent / "models"


def data_folder() -> Path:
    """The folder in which a user's own models are kept, by the platform's custom (XDG on Linux)."""
    if os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "digitize"


def places() -> tuple[Path, ...]:
    """Where models are looked up by name, in this order: `./models`, the user's data folder, the package."""
    return Path("models"), data_folder() / "models", default_folder()


def list_all() -> list[Path]:
    """The model folders of all `places`, in their order; a place that is named twice is listed once."""
    found: dict[Path, Path] = {}
    for place in places():
        for folder in list_models(place):
            found.setdefault(folder.resolve(), folder)
    return list(found.values())


def summarise(folder: Path) -> str:
    """One line on a model: name, task, classes, accuracies, size, date, path; a star marks those that are defaults.

    Raises:
        ModelError: it disagrees with its card.
    """
    card = load_card(folder)
    default = card.name in (DEFAULT_MODEL, DEFAULT_DETECTOR) and find(card.name).resolve() == folder.resolve()
    accuracy = card.content.get("accuracy", {})
    figures = [f"{key} {value:.4f}" for key, value in accuracy.items() if isinstance(value, int | float)]
    size = (folder / TFLITE_FILE).stat().st_size
    made = str(card.content.get("date", "no date"))
    parts = [f"{'*' if default else ' '} {card.name}: {len(card.classes)} classes", f"to {card.task}", *figures]
    return ", ".join([*parts, f"{size / 1e6:.1f} MB", made, str(folder)])


def history(folder: Path) -> list[Mapping[str, Any]]:
    """What a model's training went through: a record for each epoch, as its own report keeps it; none without one.

    Raises:
        ModelError: the report is damaged.
    """
    path = folder / REPORT_FOLDER / METRICS_FILE
    try:
        records = json.loads(path.read_text(encoding="utf-8"))["history"]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} cannot be read ({error}): delete it, or train the model again") from error
    return list(records)


def find(name_or_path: str | os.PathLike[str] | None = None) -> Path:
    """Find a model's folder.

    Args:
        name_or_path: a path to a model folder, or a name that is looked up in `places`; None for the default model.

    Returns:
        The folder; it holds a card, which is not verified yet.

    Raises:
        ModelError: neither is there.
    """
    wanted = DEFAULT_MODEL if name_or_path is None else os.fspath(name_or_path)
    given = [] if name_or_path is None else [Path(wanted)]
    why = ""
    for folder in (*given, *(place / wanted for place in places())):
        try:
            if (folder / CARD_FILE).is_file():
                return folder
        except OSError as error:  # the name is too long, or a folder may not be entered
            why = why or f" ({error.strerror})"
    known = ", ".join(dict.fromkeys(folder.name for folder in list_all())) or "none"
    looked = ", ".join(str(place) for place in places())
    raise ModelError(f"no model {wanted}: there is no {wanted}/{CARD_FILE}{why}, and in {looked} there are: {known}")


def list_models(folder: Path | None = None) -> list[Path]:
    """List the model folders in `folder` (the shipped ones where None), by name."""
    base = default_folder() if folder is None else folder
    return sorted(path.parent for path in base.glob(f"*/{CARD_FILE}"))


def load_card(folder: Path) -> Card:
    """Read a model's card and hold its files to it.

    Args:
        folder: a model folder.

    Returns:
        The card.

    Raises:
        ModelError: the card is missing, is not of this schema, or disagrees with the files.
    """
    path = folder / CARD_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}): a model folder needs a card") from error
    except ValueError as error:
        raise ModelError(f"{path} is no JSON ({error}): train the model again or restore its card") from error
    card = _parse_card(path, content)
    for name in (KERAS_FILE, TFLITE_FILE):
        expected = content["files"][name]
        file = folder / name
        try:
            found = file_hash(file)
        except FileNotFoundError as error:
            raise ModelError(
                f"{file} is missing, though {path} lists it: restore it or train the model again"
            ) from error
        except OSError as error:
            raise ModelError(f"{file} cannot be read ({error.strerror}): check its permissions") from error
        if found != expected:
            raise ModelError(
                f"{file} has sha256 {found[:12]}..., its card says {str(expected)[:12]}...: "
                "it was changed or damaged; restore it or train the model again"
            )
    return card


def write_card(folder: Path, content: Mapping[str, Any]) -> Path:
    """Write the card of the model files that lie in `folder`.

    Args:
        folder: holds `model.keras` and `model.tflite`.
        content: the card, without "schema", "files" and "tile_rules", which are added here.

    Returns:
        The card's path.

    Raises:
        ModelError: a model file is missing, or `content` lacks something that every card has.
        OSError: the card cannot be written.
    """
    files = {}
    for name in (KERAS_FILE, TFLITE_FILE):
        if not (folder / name).is_file():
            raise ModelError(f"{folder / name} is missing: a model folder holds {KERAS_FILE} and {TFLITE_FILE}")
        files[name] = file_hash(folder / name)
    rules = PAGE_RULES if content.get("task") == "detect" else TILE_RULES
    card = {"schema": SCHEMA, "tile_rules": rules, **content, "files": files}
    path = folder / CARD_FILE
    _parse_card(path, card)
    from digitize import write  # here, since it loads OpenCV, and who only reads cards needs none

    partial = path.with_suffix(".partial")
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    with partial.open("wb") as stream:
        stream.write(text.encode("utf-8", "backslashreplace"))  # a file's name may hold what UTF-8 does not; JSON may
        write.settle(stream)
    partial.replace(path)
    write.settle_folder(folder)
    return path


def update_card(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the card of a model that is in use already; arguments and other errors are those of `write_card`.

    Raises:
        OutputError: the card cannot be written.
    """
    try:
        write_card(folder, content)
    except OSError as error:
        raise OutputError(f"{folder / CARD_FILE} cannot be written ({error}): {ELSEWHERE}") from error


def require_writable(folder: Path) -> None:
    """Make sure, before long work, that the card in a model folder can be replaced.

    Raises:
        OutputError: it cannot be.
    """
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{folder} cannot be written: {ELSEWHERE}")


@contextmanager
def renewed(folder: Path) -> Iterator[Path]:
    """Give a folder to make a model in; once it is whole, its files take the place of those in `folder`.

    What is raised meanwhile leaves `folder` the model that it had. The card goes last: whoever is killed between the
    three renames leaves a model that is refused, and none that is half another. All is on the disk before the first
    rename, and the renames are when this ends.

    Raises:
        OSError: `folder` cannot be written.
    """
    from digitize import write  # here, as in `write_card`

    made = folder / NEW_FOLDER
    shutil.rmtree(made, ignore_errors=True)  # of somebody who was killed
    made.mkdir(parents=True)
    try:
        yield made
        names = (KERAS_FILE, TFLITE_FILE, CARD_FILE)
        for name in names:
            with (made / name).open("r+b") as stream:
                write.settle(stream)
        for name in names:
            (made / name).replace(folder / name)
        write.settle_folder(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _parse_card(path: Path, content: Any) -> Card:
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise ModelError(f"{path} has schema {found!r}, expected {SCHEMA!r}: it is from another version or no card")
    missing = [key for key in ("name", "network", "views", "classes", "files", "calibration") if key not in content]
    if missing:
        raise ModelError(f"{path} lacks {', '.join(missing)}: train the model again or restore its card")
    task = content.get("task", "classify")
    if task not in ("classify", "detect"):
        raise ModelError(f"{path} has task {task!r}, expected 'classify' or 'detect'")
    made = PAGE_RULES if task == "detect" else TILE_RULES
    if content.get("tile_rules") != made:
        rules = content.get("tile_rules")
        raise ModelError(f"{path} wants tiles by the rules {rules!r}, this version makes {made!r}: train it again")
    if content["views"] not in (1, 2):
        raise ModelError(f"{path} has views {content['views']!r}, expected 1 or 2")
    if not isinstance(content["classes"], list):
        raise ModelError(f"{path} has classes {content['classes']!r}, expected a list")
    classes = tuple(str(name) for name in content["classes"])
    if classes not in (DIGIT_CLASSES, (*DIGIT_CLASSES, NONE_CLASS)):
        raise ModelError(f"{path} has classes {list(classes)}, expected 0 to 9 and at most {NONE_CLASS!r} after them")
    files = content["files"]
    if not isinstance(files, dict) or not {KERAS_FILE, TFLITE_FILE} <= files.keys():
        raise ModelError(f"{path} does not give the sha256 of {KERAS_FILE} and {TFLITE_FILE}")
    calibration = content["calibration"]
    temperature = calibration.get("temperature") if isinstance(calibration, dict) else None
    if not isinstance(temperature, int | float) or not temperature > 0:
        raise ModelError(f"{path} has no calibration temperature above 0, but {temperature!r}")
    takes: tuple[int, ...] = (TILE_SIDE, TILE_SIDE, content["views"])
    gives: tuple[int, ...] = (len(classes),)
    if task == "detect":
        try:
            takes, gives = (tuple(int(length) for length in content[key]) for key in ("takes", "gives"))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path} does not give the shapes that the network takes and gives ({error})") from error
    return Card(
        path=path,
        name=str(content["name"]),
        task=task,
        network=str(content["network"]),
        views=int(content["views"]),
        classes=classes,
        takes=takes,
        gives=gives,
        temperature=float(temperature),
        content=content,
    )
