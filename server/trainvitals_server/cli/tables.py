"""Rows into files for other programs: CSV that no spreadsheet executes, and Parquet."""

import csv
import sys
from collections.abc import Iterable, Iterator, Sequence
from io import TextIOWrapper
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from trainvitals.storage.atomic import write_atomically
from trainvitals_server.cli.failure import Failure
from trainvitals_server.store.asking import spelled

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for one at the beginning of a text
OURS = ("-Infinity", "-inf")  # a value and a class of values: words of ours, whatever they begin with
GROUP = 50_000  # rows in a group of a Parquet file, and for which types are found out

Rows = Iterator[tuple[Any, ...]]


def write_csv(path: Path, names: Sequence[str], rows: Rows) -> None:
    """Write a file, whole or not at all, or to standard output for `-`."""
    if str(path) == "-":
        _write(sys.stdout, names, rows)
        return

    def fill(file: BinaryIO) -> None:
        text = TextIOWrapper(file, "utf-8", errors="backslashreplace", newline="")
        _write(text, names, rows)
        text.detach()  # which flushes it; the file is closed by whoever opened it

    write_atomically(path, fill)


def _write(file: TextIO, names: Iterable[str], rows: Rows) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([harmless(name) for name in names])
    for row in rows:
        writer.writerow([harmless(value) for value in spelled(row)])


def harmless(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: such a text gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) and value not in OURS else value


def write_parquet(path: Path, names: Sequence[str], rows: Rows) -> None:
    """Write a file, whole or not at all. A column has the type of its first rows. Raises `Failure`."""
    try:
        import pyarrow  # noqa: PLC0415  # an extra, and large
        from pyarrow import parquet  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise Failure("--parquet needs pyarrow, which is not installed; pip install 'trainvitals[parquet]'") from error
    if len(set(names)) != len(names):
        raise Failure(f"expected columns of different names for Parquet, got {', '.join(names)}; name them with AS")
    first = list(islice(rows, GROUP))
    kinds = {"INTEGER": pyarrow.int64(), "REAL": pyarrow.float64(), "TEXT": pyarrow.string(), "BLOB": pyarrow.binary()}
    chosen = [_kind(row[place] for row in first) for place in range(len(names))]
    schema = pyarrow.schema(list(zip(names, (kinds[kind] for kind in chosen), strict=True)))

    def fill(file: BinaryIO) -> None:
        with parquet.ParquetWriter(file, schema) as writer:
            for group in _groups(chain(first, rows)):
                columns = [[_as(kind, row[place], names[place]) for row in group] for place, kind in enumerate(chosen)]
                writer.write_batch(pyarrow.record_batch(columns, schema=schema))

    write_atomically(path, fill)


def _groups(rows: Rows) -> Iterator[list[tuple[Any, ...]]]:
    while group := list(islice(rows, GROUP)):
        yield group


def _kind(values: Iterable[Any]) -> str:
    found = {type(value) for value in values} - {type(None)}
    if found <= {int} and found:
        return "INTEGER"
    if found <= {int, float}:
        return "REAL"
    return "BLOB" if found == {bytes} else "TEXT"


def _as(kind: str, value: Any, name: str) -> Any:
    if value is None:
        return None
    if kind == "TEXT":
        return value if isinstance(value, str) else str(value)
    good = {"INTEGER": (int,), "REAL": (int, float), "BLOB": (bytes,)}[kind]
    if not isinstance(value, good):
        raise Failure(f"expected {kind} in column {name} as in its first rows, got {str(value)[:60]!r}; use CAST")
    return float(value) if kind == "REAL" else value
