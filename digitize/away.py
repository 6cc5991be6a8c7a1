"""What becomes of sheets that a watch has read: they stay, are moved or deleted, and nothing else ever is.

Another sheet may take the place of one at any moment, between a look at a file and its removal, too. So a file is first
set aside: renamed within its folder to a name that begins with a dot, which the watch passes over. Only there is it
looked at: if it is what was read it is moved or deleted, else it is put back. The ledger notes a file before it is set
aside. Whoever finds such a note knows that the one before was killed, or failed, in the middle, and goes on there.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Literal

from digitize import sheets
from digitize.errors import DigitizeError
from digitize.ledger import FIRST_NUMBER, Ledger

Done = Literal["keep", "move", "delete"]

PREFIX = ".digitize-"  # of the names of what is set aside


class Away:
    """Puts sheets away, by one process at a time."""

    def __init__(self, book: Ledger, inbox: Path, done: Done) -> None:
        """Know the places, and what is to become of sheets that were read."""
        self._book = book
        self._inbox = inbox
        self._done = done

    def put_away(self, name: str, listed: str) -> bool:
        """Move or delete a sheet that was read.

        Args:
            name: its path below the inbox.
            listed: the name that it is listed by.

        Returns:
            False where something else lay there by now; that lies in the inbox again.

        Raises:
            OSError, DigitizeError: it cannot be moved or deleted.
        """
        path = self._inbox / name
        aside = _aside(path)
        if aside.exists():
            self._finish(name, listed)
        self._book.note_aside(name)
        try:
            path.rename(aside)
            return self._finish(name, listed)
        except (OSError, DigitizeError):
            with suppress(OSError, DigitizeError):  # where it cannot be put back either, the note stays
                self._put_back(name)
            raise

    def finish(self) -> list[str]:
        """Go on with what was set aside and left there.

        Returns:
            The names of those that were not what was read, and lie in the inbox again.

        Raises:
            OSError, DigitizeError: something cannot be moved, deleted or put back.
        """
        return [name for name in self._book.set_aside() if not self._finish(name, name)]

    def _finish(self, name: str, listed: str) -> bool:
        """Move, delete or put back what is set aside of a path; False where that is not what was read there."""
        aside = _aside(self._inbox / name)
        if not aside.exists():  # it has been moved, deleted or put back, or was never set aside
            self._book.forget_aside(name)
            return True
        known = sheets.sha256(aside) == self._book.hash_of(name)
        if not known or (self._done == "keep" and not (self._inbox / name).exists()):
            self._put_back(name)
            return known
        if self._done == "delete":
            aside.unlink()
        else:  # one to be kept, too, if another lies in its place
            self._book.take_away(aside, listed)
        self._book.forget_aside(name)
        return True

    def _put_back(self, name: str) -> None:
        """Put what is set aside of a path back into the inbox, under a name of its own if another lies there by now."""
        path = target = self._inbox / name
        aside, number = _aside(path), FIRST_NUMBER
        if aside.exists():
            while os.path.lexists(target):
                target, number = path.with_stem(f"{path.stem}~{number}"), number + 1
            aside.rename(target)
        self._book.forget_aside(name)


def _aside(path: Path) -> Path:
    """Where a file is set aside, the same for the same name."""
    return path.with_name(PREFIX + hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16])
