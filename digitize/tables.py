"""Rows as files, CSV or Parquet, and back: what a cluster writes, one table a part.

A row is a frozen dataclass whose fields are the columns, as in `write.py`. Parquet has the types that a reader of the
CSV would find: text, 64-bit integers and doubles, probabilities rounded to as many decimals. Text is as it is in
Parquet and made safe for spreadsheets in CSV. pyarrow comes with ``pip install digitize[ray]``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import islice
from typing import Any, Literal, TypeVar

from digitize import write

Form = Literal["parquet", "csv"]
FORMS: tuple[Form, ...] = ("parquet", "csv")
ROW_GROUP = 1 << 16  # rows held as objects at once, a few tens of megabytes

_Row = TypeVar("_Row")


def pack(rows: Iterable[Any], kind: type[Any], form: Form) -> bytes:
    """A table as the bytes of a file; the same rows give the same bytes.

    Args:
        rows: of one dataclass.
        kind: that dataclass.
        form: "parquet" or "csv".
    """
    return _parquet(rows, kind) if form == "parquet" else _csv(rows, kind)


def unpack(content: bytes, kind: type[_Row], form: Form) -> Iterator[_Row]:
    """The rows of a table that `pack` made.

    Raises:
        ValueError: these are no such bytes.
    """
    if form == "parquet":
        import pyarrow
        from pyarrow import parquet

        for row in parquet.read_table(pyarrow.BufferReader(content)).to_pylist():
            yield kind(**row)
        return
    parsers: Mapping[str, Callable[[str], Any]] = {"str": write.uncell, "int": int, "float": float}
    for cells in csv.DictReader(io.StringIO(content.decode("utf-8"), newline="")):
        yield kind(**{field.name: parsers[str(field.type)](cells[field.name]) for field in _fields(kind)})


def _fields(kind: type[Any]) -> Sequence[Any]:
    return fields(kind)


def _csv(rows: Iterable[Any], kind: type[Any]) -> bytes:
    text = io.StringIO(newline="")
    write.write_rows(rows, [field.name for field in _fields(kind)], text)
    return write.encoded(text.getvalue())


def _parquet(rows: Iterable[Any], kind: type[Any]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    types = {"str": pyarrow.string(), "int": pyarrow.int64(), "float": pyarrow.float64()}
    schema = pyarrow.schema([pyarrow.field(one.name, types[str(one.type)], nullable=False) for one in _fields(kind)])
    sink = pyarrow.BufferOutputStream()
    waiting = iter(rows)
    with parquet.ParquetWriter(sink, schema) as writer:
        while some := list(islice(waiting, ROW_GROUP)):
            columns = {name: [_plain(getattr(row, name)) for row in some] for name in schema.names}
            writer.write_table(pyarrow.table(columns, schema=schema))
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _plain(value: str | int | float) -> str | int | float:
    if isinstance(value, float):
        return round(value, write.DECIMALS)
    return write.encoded(value).decode("utf-8") if isinstance(value, str) else value
