"""Taking in a layout record: a piece of the description of some frames' columns."""

import numpy as np

from trainvitals import wire
from trainvitals_server.ingest.books import Books
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.store import runs, series

MAX_SERIES = 50_000  # of one run
MAX_COLUMNS = 50_000  # of one layout


def declare(tx: Transaction, books: Books, producer: runs.Producer, record: wire.Layout) -> None:
    """Store a piece of a layout, and the series it names. A piece may come again with another forward order, but not
    with other series. Raises ValueError."""
    _check(record)
    known = series.layout(tx.connection, producer.id, record.id)
    columns = np.full(record.total, series.UNDECLARED) if known is None else known.columns.copy()
    declared: list[wire.Series | None] = [None] * record.total if known is None else list(known.declared)
    if len(columns) != record.total:
        raise ValueError(f"expected layout {record.id} to have {len(columns)} columns as before, got {record.total}")
    room = MAX_SERIES - series.count(tx.connection, producer.run)
    if room < len(record.series) and _new(tx, producer.run, record) > room:
        raise ValueError(f"expected at most {MAX_SERIES} series in a run, got more with layout {record.id}")
    rows = series.enter(tx.connection, producer.run, record.series)
    place = slice(record.offset, record.offset + len(rows))
    ids = np.array([row.id for row in rows], np.int64)
    if ((columns[place] != series.UNDECLARED) & (columns[place] != ids)).any():
        raise ValueError(f"expected the series of layout {record.id} to stay, got others")
    tx.changes[producer.run].series += rows
    if known is not None and (columns[place] == ids).all() and declared[place] == record.series:
        return  # it came before, just like this
    columns[place] = ids
    declared[place] = record.series
    series.save(tx.connection, producer.id, record.id, columns, declared)
    books.change(producer, record.id)


def _check(record: wire.Layout) -> None:
    if not 1 <= record.total <= MAX_COLUMNS:
        raise ValueError(f"expected 1 to {MAX_COLUMNS} columns, got {record.total}")
    if not 0 <= record.offset <= record.offset + len(record.series) <= record.total:
        raise ValueError(f"expected columns within 0 to {record.total}, got {len(record.series)} from {record.offset}")
    if not 0 <= record.id < 1 << 31:
        raise ValueError(f"expected a layout id from 0 to 2**31 - 1, got {record.id}")
    for one in record.series:
        if not -(1 << 31) <= one.order < 1 << 31:
            raise ValueError(f"expected an order of 32 bits, got {one.order}")


def _new(tx: Transaction, run: str, record: wire.Layout) -> int:
    known = {(row.layer, row.kind, row.stat) for row in series.list_all(tx.connection, run)}
    return len({(one.layer, one.kind, one.stat) for one in record.series} - known)
