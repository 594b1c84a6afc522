"""What every rank tells alike of its own layers, every `health_every` steps, so that the server can compare the ranks.

Weights that gradients are averaged for are the same on all ranks, running statistics are much alike: a few numbers per
layer, and seldom, are enough to see that a rank has gone its own way. A sharded parameter has another part on each
rank, in which there is nothing to compare.
"""

import numpy as np

from trainvitals import wire
from trainvitals.record.columns import Columns, Register
from trainvitals.record.observation import Observation

COMPARED = ((wire.PARAMETER, wire.WEIGHT_NORM), (wire.NORM, wire.VAR_MAX))


class Comparison:
    """Of observations in the columns `source` what is compared, in `columns`: a layout of its own, sent beside them."""

    def __init__(self, source: Columns, register: Register) -> None:
        self.columns = Columns(register)
        kept = [(place, key) for place, key in enumerate(source.series_keys()) if key[1:] in COMPARED]
        self._source = np.array([place for place, _ in kept], dtype=np.intp)
        for _, (layer, kind, stat) in kept:
            self.columns.add(layer, kind, stat + wire.COMPARED)

    def of(self, seen: Observation) -> Observation:
        """That part of a complete observation."""
        told = Observation(seen.step, seen.time, len(self.columns))
        told.values, told.present = seen.values[self._source], seen.present[self._source]
        return told
