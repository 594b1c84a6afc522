"""Reading back what a spool tells: values by series and step."""

from collections.abc import Sequence

import numpy as np

from loops import of_type
from trainvitals import wire

Key = tuple[str, str, str]  # layer, kind, statistic


def by_series(records: Sequence[wire.Record]) -> dict[Key, dict[int, float]]:
    """Every value that is there, by series, then by step."""
    keys: dict[int, dict[int, Key]] = {}
    for piece in of_type(list(records), wire.Layout):
        for place, one in enumerate(piece.series, piece.offset):
            keys.setdefault(piece.id, {})[place] = (one.layer, one.kind, one.stat)
    found: dict[Key, dict[int, float]] = {key: {} for of_one in keys.values() for key in of_one.values()}
    for frame in of_type(list(records), wire.Frame):
        values = np.frombuffer(frame.values, "<f4")
        bits = np.frombuffer(frame.present or b"", np.uint8)
        there = np.unpackbits(bits, count=len(values), bitorder="little") if frame.present else np.ones(len(values))
        for place in np.flatnonzero(there):
            found[keys[frame.layout][int(place)]][frame.step] = float(values[place])
    return found


def of_run(records: Sequence[wire.Record], stat: str) -> list[float]:
    """A series of the run as a whole, in the order of its steps."""
    return list(by_series(records)["", wire.RUN, stat].values())
