"""One step as it is put together: values arrive part by part, some of them later than the step's end."""

import numpy as np
import numpy.typing as npt

from trainvitals import wire
from trainvitals.record.transfer import Index


class Observation:
    """The values of one step in one layout: `values` float32 [columns], `present` bool [columns].

    It is complete when it is sealed (nothing more will be added) and no part is still under way.
    """

    def __init__(self, step: int, time: float, columns: int) -> None:
        self.step = step
        self.time = time
        self.values: npt.NDArray[np.float32] = np.full(columns, np.nan, dtype=np.float32)
        self.present: npt.NDArray[np.bool_] = np.zeros(columns, dtype=np.bool_)
        self.sealed = False
        self.late = False  # whether gradients were added after it was read
        self.evidence: object = None  # of a break in this step, for whoever looks for its origin
        self._awaited = 0

    @property
    def complete(self) -> bool:
        """Whether it can be handed on."""
        return self.sealed and self._awaited <= 0

    @property
    def arrived(self) -> bool:
        """Whether everything submitted so far has arrived."""
        return self._awaited <= 0

    def expect(self, deliveries: int) -> None:
        """`deliveries` calls of `fill` are still to come (they may already have come)."""
        self._awaited += deliveries

    def fill(
        self, pieces: list[tuple[Index, npt.NDArray[np.float32]]] | None, only: npt.NDArray[np.intp] | None = None
    ) -> None:
        """Take in what a transfer brought; None if it was dropped, which leaves its columns absent. With `only`, what
        is of other columns is left out."""
        self._awaited -= 1
        for columns, values in pieces or []:
            places = np.arange(len(self.values))[columns]
            kept = slice(None) if only is None else np.isin(places, only)
            self.values[places[kept]] = values[kept]
            self.present[places[kept]] = True

    def put(self, column: int, value: float) -> None:
        """A value known on the host."""
        self.values[column] = value
        self.present[column] = True

    def frame(self, layout: int) -> wire.Frame:
        """The observation as a record. Absent columns are 0 in the vector and 0 in the bitmap."""
        whole = bool(self.present.all())
        values = self.values if whole else np.where(self.present, self.values, np.float32(0))
        return wire.Frame(
            layout=layout,
            step=self.step,
            time=self.time,
            values=values.astype("<f4", copy=False).tobytes(),
            present=None if whole else np.packbits(self.present, bitorder="little").tobytes(),
        )
