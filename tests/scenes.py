"""An inbox, an OUTBOX and a watch between them, for tests to play scenes with; what the watch says is heard."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from readers import StubRecipe
from stub import Paper, write_model

from digitize import batch, watch, write
from digitize.scan import Settings
from digitize.watch import Counts, Options

SETTLE = 0.05  # seconds
PAUSE = 0.02  # seconds before a second try, and until trouble is looked at again
PATIENCE = 60.0  # seconds for the watch to say something


class Heard(logging.Handler):
    """Hears what is logged, and waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._said = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._said:
            self.lines.append(record.getMessage())
            self._said.notify_all()

    def wait(self, words: str, times: int = 1) -> None:
        """Wait until so many lines with these words were said."""
        with self._said:
            heard = self._said.wait_for(lambda: self.count(words) >= times, PATIENCE)
        assert heard, f"never said: {words!r}, but {self.lines}"

    def count(self, words: str) -> int:
        """In how many lines these words were said."""
        return sum(words in line for line in self.lines)


@dataclass
class Scene:
    """An inbox, an OUTBOX, and a watch between them."""

    place: Path
    heard: Heard
    made: int = 0
    review_below: float = 0.0
    audit: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def inbox(self) -> Path:
        return self.place / "inbox"

    @property
    def outbox(self) -> Path:
        return self.place / "outbox"

    @property
    def model(self) -> Path:
        return self.place / "model"

    def put(self, name: str, text: str | None = None) -> bytes:
        """Let a sheet arrive; unlike every other where no text is given."""
        self.made += 1
        path = self.inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = drawn(text or f"{1000 + self.made}")
        path.write_bytes(content)
        return content

    def watch(self, **options: Any) -> Counts:
        """Watch in this thread until it ends."""
        recipe = StubRecipe(
            model=str(self.model),
            detector="none",
            drawn=batch.Drawn(review=True, sparing=True, audit=self.audit),
            settings=Settings(review_below=self.review_below),
        )
        usual = {"settle": SETTLE, "pause": PAUSE, "trouble_pause": PAUSE, "jobs": 1, "recipe": recipe}
        return watch.watch(Options(self.inbox, self.outbox, **{**usual, **self.options, **options}))

    def once(self, **options: Any) -> Counts:
        """Watch until nothing waits."""
        return self.watch(once=True, **options)

    def play(self, scenario: Callable[[], None], **options: Any) -> Counts:
        """Watch while a scenario is played, and end it by a signal."""
        trouble: list[BaseException] = []

        def played() -> None:
            try:
                self.heard.wait("watching:")
                scenario()
            except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
                trouble.append(error)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

        self.heard.lines.clear()
        thread = threading.Thread(target=played)
        thread.start()
        try:
            counts = self.watch(**options)
        finally:
            thread.join()
        if trouble:
            raise trouble[0]
        return counts

    def rows(self) -> list[write.Row]:
        """What all.csv holds."""
        if not (self.outbox / "all.csv").exists():
            return []
        with (self.outbox / "all.csv").open(newline="", encoding="utf-8") as stream:
            return list(write.read_csv(stream))

    def listed(self) -> dict[str, str]:
        """For each source in all.csv its digits; each has to stand there in one piece."""
        texts: dict[str, str] = {}
        before = ""
        for row in self.rows():
            assert row.source == before or row.source not in texts, f"{row.source} stands there twice"
            texts[row.source] = texts.get(row.source, "") + str(row.digit)
            before = row.source
        return texts

    def files(self, folder: str) -> list[str]:
        """What lies in a folder of the OUTBOX."""
        base = self.outbox / folder
        return sorted(path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file())

    def failures(self) -> dict[str, str]:
        """For each sheet in failed/ the error that stands beside it."""
        notes = [name for name in self.files("failed") if name.endswith(".json")]
        return {name[:-5]: json.loads((self.outbox / "failed" / name).read_text())["error"] for name in notes}


def drawn(text: str) -> bytes:
    """A PNG with a number on it."""
    paper = Paper(90, 40 * len(text) + 60)
    paper.number(text, 30, 30, height=30)
    stream = io.BytesIO()
    Image.fromarray(paper.gray()).save(stream, "PNG")
    return stream.getvalue()


@contextmanager
def open_scene(place: Path) -> Iterator[Scene]:
    """A scene in a folder; what is logged is heard as long as it lasts."""
    log = logging.getLogger("digitize")
    before = log.level, log.propagate, log.handlers[:]
    heard = Heard()
    log.handlers[:] = [heard]
    log.setLevel(logging.INFO)
    made = Scene(place, heard)
    made.inbox.mkdir()
    write_model(made.model)
    try:
        yield made
    finally:
        log.setLevel(before[0])
        log.propagate = before[1]
        log.handlers[:] = before[2]
