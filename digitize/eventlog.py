"""Logs that TensorBoard reads, written without it and without TensorFlow, so under any Keras backend.

A file of records (TFRecord): length as 64 bits little-endian, its masked CRC-32C, the bytes, their masked CRC-32C. Each
holds an `Event` in protocol buffers' encoding: 1 wall time (double), 2 step (varint), 3 version (string), 5 summary,
which holds values: 1 tag (string), 2 number (float). See TensorFlow's core/util/event.proto and record_writer.h.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

PREFIX = "events.out.tfevents."  # of a file's name, by which TensorBoard knows it
VERSION = b"brain.Event:2"
CASTAGNOLI = 0x82F63B78  # the polynomial of CRC-32C, bits reversed
MASK = 0xA282EAD8  # added to a checksum that is stored beside what it is of


def _table() -> tuple[int, ...]:
    entries = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (CASTAGNOLI if value & 1 else 0)
        entries.append(value)
    return tuple(entries)


_TABLE = _table()


class EventLog:
    """A file of numbers by step; a context."""

    def __init__(self, folder: Path) -> None:
        """Open a new file in `folder`, which is made; an earlier run's files stay beside it.

        Raises:
            OSError: it cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{PREFIX}{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self._stream = (folder / name).open("ab")
        self._write(_double(1, time.time()) + _bytes(3, VERSION))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers by their tags, and flush, so that TensorBoard sees them at once."""
        summary = b"".join(
            _bytes(1, _bytes(1, tag.encode()) + b"\x15" + struct.pack("<f", value)) for tag, value in values.items()
        )
        self._write(_double(1, time.time()) + b"\x10" + _varint(step) + _bytes(5, summary))
        self._stream.flush()

    def _write(self, event: bytes) -> None:
        length = struct.pack("<Q", len(event))
        self._stream.write(length + _checksum(length) + event + _checksum(event))


def delete(folder: Path) -> None:
    """Delete the logs in a folder, and the folder unless there is more in it."""
    with suppress(OSError):  # it is not there, or is not ours to delete: then it is in nobody's way
        for path in folder.glob(f"{PREFIX}*"):
            path.unlink()
        folder.rmdir()


def _checksum(content: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in content:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + MASK) & 0xFFFFFFFF)


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _double(field: int, value: float) -> bytes:
    return bytes([field << 3 | 1]) + struct.pack("<d", value)


def _bytes(field: int, content: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(content)) + content
