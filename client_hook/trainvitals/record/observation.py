"""One step as it is put together: values arrive part by part, some of them later than the step's end."""

import numpy as np
import numpy.typing as npt

from trainvitals import wire
from trainvitals.record.transfer import Index


class Observation:
    """The values of one step in one layout: `values` float32 [columns], `present` bool [columns]. An absent value is 0.

    It is complete when it is sealed (nothing more will be added) and no part is still under way.
    """

    def __init__(self, step: int, time: float, columns: int) -> None:
        self.step = step
        self.time = time
        self.values: npt.NDArray[np.float32] = np.zeros(columns, dtype=np.float32)
        self.present: npt.NDArray[np.bool_] = np.zeros(columns, dtype=np.bool_)
        self.sealed = False
        self.late = False  # whether gradients were added after it was read
        self.compared = False  # whether this is a step at which the ranks are compared
        self.evidence: object = None  # of a break in this step, for whoever looks for its origin
        self._awaited = 0

    @property
    def complete(self) -> bool:
        """Whether it can be handed on."""
        return self.sealed and self._awaited == 0

    @property
    def arrived(self) -> bool:
        """Whether everything submitted so far has arrived."""
        return self._awaited == 0

    def expect(self, deliveries: int) -> None:
        """`deliveries` calls of `fill` are still to come (they may already have come)."""
        self._awaited += deliveries

    def fill(self, pieces: list[tuple[Index, npt.NDArray[np.float32]]] | None) -> None:
        """Take in what a transfer brought; None if it was dropped, which leaves its columns absent."""
        self._awaited -= 1
        for columns, values in pieces or []:
            self.values[columns] = values
            self.present[columns] = True

    def fill_some(self, only: npt.NDArray[np.intp], pieces: list[tuple[Index, npt.NDArray[np.float32]]] | None) -> None:
        """The same for the columns `only`."""
        chosen: list[tuple[Index, npt.NDArray[np.float32]]] = []
        for columns, values in pieces or []:
            places = np.arange(len(self.values))[columns]
            kept = np.isin(places, only)
            chosen.append((places[kept], values[kept]))
        self.fill(chosen)

    def put(self, column: int, value: float) -> None:
        """A value known on the host."""
        self.values[column] = value
        self.present[column] = True

    def frame(self, layout: int) -> wire.Frame:
        """The observation as a record. Absent columns are 0 in the vector and 0 in the bitmap."""
        return wire.Frame(
            layout=layout,
            step=self.step,
            time=self.time,
            values=self.values.astype("<f4", copy=False).tobytes(),
            present=None if self.present.all() else np.packbits(self.present, bitorder="little").tobytes(),
        )
