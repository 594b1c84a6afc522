"""What the counters of faults of a run's normalisation layers said last, and whether a frame says otherwise: what is
dear to find out about a run need not be found out again while its frames only go on."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from trainvitals_server.changes import Frame


class Vitals:
    """One run's, of rank 0."""

    def __init__(self, counters: Sequence[int], values: dict[int, float]) -> None:
        self._ids = np.array(sorted(counters), np.int64)
        self._bad = np.array([values.get(one, 0.0) > 0 for one in self._ids.tolist()], np.bool_)
        self._places: dict[
            int, tuple[NDArray[np.intp], NDArray[np.intp]]
        ] = {}  # layout -> columns, and which of `_ids`

    def changed(self, frames: Iterable[Frame]) -> bool:
        """Whether any of these frames says of any layer what was not so before."""
        return any(self._differs(frame) for frame in frames if frame.rank == 0)

    def _differs(self, frame: Frame) -> bool:
        columns, which = self._place(frame)
        bad = np.frombuffer(frame.values, "<f4")[columns] > 0
        differs = bad != self._bad[which]
        if frame.present is not None and differs.any():
            bits = np.frombuffer(frame.present, np.uint8)
            there = np.unpackbits(bits, count=len(frame.columns), bitorder="little").astype(np.bool_)
            differs &= there[columns]
        return bool(differs.any())

    def _place(self, frame: Frame) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The columns of a frame's layout that count, and which of `_ids` they are."""
        if frame.layout not in self._places:
            columns = np.flatnonzero(np.isin(frame.columns, self._ids))
            self._places[frame.layout] = columns, np.searchsorted(self._ids, frame.columns[columns])
        return self._places[frame.layout]
