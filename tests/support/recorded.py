"""What a watch recorded, read back from its spool: one series over the steps, whatever layouts it passed through."""

import numpy as np

import trainvitals
from loops import of_type, spooled
from trainvitals import wire


def records_of(watch: trainvitals.Watch) -> list[wire.Record]:
    """Everything recorded; the watch is closed."""
    watch.close()
    assert watch.spool_path is not None
    return spooled(watch.spool_path)


def series(records: list[wire.Record], layer: str, stat: str) -> dict[int, float]:
    """step -> value of one series; steps in which it is absent are left out."""
    places: dict[int, int] = {}  # by layout
    values: dict[int, float] = {}
    for record in records:
        if isinstance(record, wire.Layout):
            for i, one in enumerate(record.series):
                if (one.layer, one.stat) == (layer, stat):
                    places[record.id] = record.offset + i
        elif isinstance(record, wire.Frame) and record.layout in places:
            place = places[record.layout]
            bits = np.frombuffer(record.present, np.uint8) if record.present is not None else None
            if bits is None or np.unpackbits(bits, bitorder="little")[place]:
                values[record.step] = float(np.frombuffer(record.values, "<f4")[place])
    return values


def declared(records: list[wire.Record], stat: str) -> list[str]:
    """The layers that have this series in any layout, each once."""
    found = [one.layer for piece in of_type(records, wire.Layout) for one in piece.series if one.stat == stat]
    return list(dict.fromkeys(found))


def faults(records: list[wire.Record]) -> list[tuple[str, str]]:
    """The probes that raised, and what; a correct run has none."""
    return [(fault.probe, fault.error) for fault in of_type(records, wire.ProbeFault)]
