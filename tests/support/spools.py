"""Spools for the tests: written, left behind as by a killed process, and read back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainvitals import wire
from trainvitals.delivery.ledger import Ledger
from trainvitals.delivery.spool import Spool

Rows = list[tuple[int, wire.Record]]


def identity(run: str = "r", producer: str = "p", **rest: Any) -> wire.Identity:
    """Whose spool it is; a process id that no process has."""
    return wire.Identity(run=run, producer=producer, name="n", **{"started": 1.0, "host": "h", "pid": 7, **rest})


def frame(step: int, size: int = 8) -> wire.Frame:
    """One step of layout 1, whose columns are `size` / 4."""
    return wire.Frame(layout=1, step=step, time=1e6 + step, values=bytes(size))


def notice(step: int, text: str = "x") -> wire.Notice:
    """An event."""
    return wire.Notice(step=step, time=1e6 + step, code="n", text=text)


def layout(columns: int = 2) -> wire.Layout:
    """Layout 1."""
    series = [wire.Series(place, f"l{place}", wire.NORM, wire.MEAN_MIN, place) for place in range(columns)]
    return wire.Layout(id=1, offset=0, total=columns, series=series)


def append(spool: Spool, *records: wire.Record) -> None:
    """In one write."""
    spool.append([wire.encode(record) for record in records])


def left(home: Path, records: Sequence[wire.Record], who: wire.Identity | None = None, committed: int = -1) -> Path:
    """A spool as a killed process leaves it: the kernel has let go of its lock, and nothing was said."""
    who = who or identity()
    spool = Spool(home / "spool" / who.run / who.producer, who)
    for record in records:
        append(spool, record)
    if committed >= 0:
        spool.acknowledge(committed)
        spool.note_watermark()
    let_go(spool)
    return spool.path


def let_go(spool: Spool) -> None:
    """What the kernel does when a process is killed."""
    if spool._descriptor >= 0:
        spool._let_go()
    spool._lock.close()


def stream(ledger: Ledger, first: int = 0) -> Rows:
    """Everything a server would be sent from `first` on, by number."""
    reader = ledger.reader()
    reader.seek(first)
    rows: Rows = []
    while batch := reader.batch():
        rows += [(batch.first + place, wire.decode_record(data)) for place, data in enumerate(batch.records)]
    reader.close()
    return rows


def accounted(rows: Rows, first: int = 0) -> int:
    """How many records these rows stand for: stored, or counted by gaps that stand for numbers. Raises AssertionError
    where a number is missing or comes twice."""
    following, count = first, 0
    for seq, record in rows:
        assert seq == following, f"expected number {following}, got {seq}"
        spanning = isinstance(record, wire.Gap) and record.through is not None
        following = (record.through if spanning else seq) + 1  # type: ignore[union-attr,operator]
        count += record.count if spanning else 1  # type: ignore[union-attr]
        if spanning:
            assert record.count == following - seq  # type: ignore[union-attr]
    return count
