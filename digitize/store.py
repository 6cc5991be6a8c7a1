"""Folders of files by path or URI, on disks and in object stores alike, through pyarrow's filesystems.

``s3://bucket/key``, ``gs://bucket/key``, ``hdfs://...`` and whatever else pyarrow knows by itself; other schemes
through fsspec, where the package for them is installed. ``file://`` and plain paths are the file system. pyarrow comes
with ``pip install digitize[ray]``.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from digitize import write
from digitize.errors import OutputError, UsageError

SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")  # of two letters at least: C: is a drive
WHOLE_WRITES = ("s3", "gcs", "abfs")  # stores, as pyarrow calls them, in which a file appears whole or not at all
LONGEST_REASON = 200  # letters of what a file system says went wrong


@dataclass(frozen=True, slots=True)
class Entry:
    """One file in a store.

    Attributes:
        path: as `Store.read` takes it.
        name: relative to the store's folder, with slashes.
        size: bytes.
        changed: when it last changed, in nanoseconds since 1970; 0 where the store does not say.
    """

    path: str
    name: str
    size: int
    changed: int


class Store:
    """A folder, by path or URI.

    Attributes:
        uri: as given.
        local: the folder, where it is one of the file system; else None.
    """

    def __init__(self, uri: str) -> None:
        """Find out who knows such URIs; nothing is read yet.

        Raises:
            UsageError: nobody does, or what is needed for it is not installed.
        """
        self.uri = uri
        self.local = local_path(uri)
        self._files, self._base = _filesystem(uri, self.local)

    def kind(self) -> str | None:
        """What the URI itself names: "file", "folder", or None where nothing is there.

        Raises:
            OSError: the store cannot be asked.
        """
        from pyarrow import fs

        kinds = {fs.FileType.File: "file", fs.FileType.Directory: "folder"}
        return kinds.get(self._files.get_file_info(self._base).type)

    def itself(self) -> Entry:
        """The one file that the URI names.

        Raises:
            OSError: there is none, or the store cannot be asked.
        """
        return _entry(self._files.get_file_info(self._base), PurePosixPath(self._base).name)

    def below(self) -> Iterator[Entry]:
        """Yield every file below the folder, in sorted order, holding no more than the folders on the way.

        Names that begin with a dot are passed over.

        Raises:
            OSError: a folder cannot be listed.
        """
        waiting = [iter(self._inside(self._base))]
        while waiting:
            info = next(waiting[-1], None)
            if info is None:
                waiting.pop()
            elif info.is_file:
                yield _entry(info, PurePosixPath(info.path).relative_to(self._base).as_posix())
            else:
                waiting.append(iter(self._inside(info.path)))

    def _inside(self, folder: str) -> list[Any]:
        from pyarrow import fs

        found = self._files.get_file_info(fs.FileSelector(folder, allow_not_found=True))
        named = [(info.path.rstrip("/").rpartition("/")[2], info) for info in found]
        wanted = [(name, info) for name, info in named if not name.startswith(".")]
        return [info for _, info in sorted(wanted, key=lambda one: one[0])]

    def read(self, path: str) -> bytes:
        """A file's bytes, by an entry's path.

        Raises:
            OSError: it cannot be read.
        """
        with self._files.open_input_stream(path) as stream:
            content: bytes = stream.read()
        return content

    def get(self, name: str) -> bytes | None:
        """A file's bytes, by its name in this folder; None where it is not there.

        Raises:
            OutputError: it cannot be read.
        """
        try:
            return self.read(self._at(name))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unreadable(name, error) from error

    def has(self, name: str) -> bool:
        """Whether there is a file of that name in this folder.

        Raises:
            OutputError: the store cannot be asked.
        """
        try:
            return bool(self._files.get_file_info(self._at(name)).is_file)
        except OSError as error:
            raise self._unreadable(name, error) from error

    def put(self, name: str, content: bytes) -> None:
        """Write a file that appears whole, in place of an older one of that name.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            if self.local is not None:
                target = self.local / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with write.open_output(target) as output:
                    output.write_bytes(content)
            elif self._files.type_name in WHOLE_WRITES:
                self._put(self._at(name), content)
            else:
                part = self._at(f"{name.rpartition('/')[0]}/.{uuid.uuid4().hex}.part".lstrip("/"))
                self._files.create_dir(part.rpartition("/")[0], recursive=True)
                self._put(part, content)
                self._files.move(part, self._at(name))
        except (OSError, ValueError) as error:
            raise OutputError(f"{self.uri}: {name} cannot be written: {reason(error)}; choose another place") from error

    def remove(self, name: str) -> None:
        """Remove a file of this folder; one that is not there is no matter.

        Raises:
            OutputError: it cannot be removed.
        """
        try:
            with suppress(FileNotFoundError):
                self._files.delete_file(self._at(name))
        except OSError as error:
            raise OutputError(f"{self.uri}: {name} cannot be removed: {reason(error)}; remove it yourself") from error

    def within(self, name: str) -> Iterator[str]:
        """Yield the names of all files below a folder of this one; none where it is not there.

        Raises:
            OutputError: a folder cannot be listed.
        """
        waiting = [self._at(name)]
        while waiting:
            try:
                found = self._inside(waiting.pop())
            except OSError as error:
                raise self._unreadable(name, error) from error
            for info in found:
                if info.is_file:
                    yield PurePosixPath(info.path).relative_to(self._base).as_posix()
                else:
                    waiting.append(info.path)

    def _unreadable(self, name: str, error: OSError) -> OutputError:
        return OutputError(f"{self.uri}: {name} cannot be read: {reason(error)}; check the address and the rights")

    def _at(self, name: str) -> str:
        return f"{self._base}/{name}" if name else self._base

    def _put(self, path: str, content: bytes) -> None:
        with self._files.open_output_stream(path) as stream:
            stream.write(content)


def is_uri(text: str) -> bool:
    """Whether a text names something by scheme, as ``s3://bucket/key`` does."""
    return SCHEME.match(text) is not None


def local_path(text: str) -> Path | None:
    """The path that a text names, absolute, where it is of the file system: itself or ``file://``; else None."""
    if not is_uri(text):
        return Path(text).absolute()
    parts = urlsplit(text)
    return Path(unquote(parts.path)) if parts.scheme.lower() == "file" else None


def reason(error: Exception) -> str:
    """Why a store refused, on one line."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split())[:LONGEST_REASON] or type(error).__name__


def _filesystem(uri: str, local: Path | None) -> tuple[Any, str]:
    """Who reads and writes a folder, and the folder's path as it knows it."""
    from pyarrow import fs

    if local is not None:
        return fs.LocalFileSystem(), str(local)
    try:
        files, base = fs.FileSystem.from_uri(uri)
    except (OSError, ValueError) as error:
        if "nrecognized filesystem" not in str(error):
            raise UsageError(f"{uri}: {reason(error)}; check the address") from error
        files, base = _by_fsspec(uri)
    return files, base.rstrip("/")


def _by_fsspec(uri: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs
    from pyarrow import fs

    try:
        files, base = url_to_fs(uri)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{uri}: {reason(error)}; install what knows it, or give another address") from error
    return fs.PyFileSystem(fs.FSSpecHandler(files)), str(base)


def _entry(info: Any, name: str) -> Entry:
    if not info.is_file:
        raise FileNotFoundError(f"{info.path}: no such file")
    return Entry(info.path, name, int(info.size or 0), int(info.mtime_ns or 0))
