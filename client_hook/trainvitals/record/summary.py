"""What the ranks other than 0 send of each step: a few series of the run in place of every layer's.

All ranks read the same and find the same; of layers that are alike on every rank, telling once is enough. What is not
alike is summed up: how the step went here, and the worst of the statistics.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from trainvitals import wire
from trainvitals.record.columns import Columns, Key, Register
from trainvitals.record.observation import Observation

Ints = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float32]
KEPT = (wire.LOSS, wire.GRAD_NORM, wire.STEP_TIME, wire.HOOK_TIME, wire.LOSS_SCALE, wire.SKIPPED)
WORST: dict[str, Callable[[Floats], np.float32]] = {  # NaN is the worst of all, and passes through
    wire.MEAN_MIN: np.min,
    wire.MEAN_MAX: np.max,
    wire.VAR_MIN: np.min,
    wire.VAR_MAX: np.max,
}


class Summary:
    """Observations in the columns `source`, summed up in `columns`: a layout of its own, to be sent in their place."""

    def __init__(self, source: Columns, register: Register) -> None:
        self.columns = Columns(register)
        keys = source.series_keys()
        kept = [i for i, key in enumerate(keys) if _is_kept(key)]
        self._source = np.array(kept, dtype=np.intp)
        self._target = np.array([self.columns.add(*keys[i]) for i in kept], dtype=np.intp)
        places = {stat: _places(keys, wire.NORM, stat) for stat in wire.NORM_STATS}
        self._worst = [
            (self.columns.add("", wire.RUN, stat), places[stat], pick)
            for stat, pick in WORST.items()
            if places[stat].size
        ]
        self._counts: list[tuple[int, Callable[[Observation], int | None]]] = []
        bad = places[wire.NONFINITE_CHANNELS], places[wire.NEGATIVE_CHANNELS]
        norms = np.concatenate(
            [_places(keys, wire.PARAMETER, s) for s in (wire.GRAD_NORM, wire.GRAD_NORM + wire.SHARD)]
        )
        if bad[0].size:
            self._counts.append(
                (self.columns.add("", wire.RUN, wire.CORRUPT_LAYERS), lambda seen: _corrupt(seen, *bad))
            )
        if norms.size:
            column = self.columns.add("", wire.RUN, wire.NONFINITE_GRADIENTS)
            self._counts.append((column, lambda seen: _nonfinite(seen, norms)))

    def of(self, seen: Observation) -> Observation:
        """The summary of a complete observation."""
        told = Observation(seen.step, seen.time, len(self.columns))
        told.values[self._target] = seen.values[self._source]
        told.present[self._target] = seen.present[self._source]
        for column, places, pick in self._worst:
            values = seen.values[places][seen.present[places]]
            if values.size:
                told.put(column, float(pick(values)))
        for column, count in self._counts:
            if (number := count(seen)) is not None:
                told.put(column, number)
        return told


def _is_kept(key: Key) -> bool:
    """Of a run its course; of a sharded parameter the norms, of which each rank alone knows its own part."""
    _, kind, stat = key
    return stat.endswith(wire.SHARD) or (kind == wire.RUN and stat in KEPT)


def _places(keys: list[Key], kind: str, stat: str) -> Ints:
    return np.array([i for i, key in enumerate(keys) if key[1:] == (kind, stat)], dtype=np.intp)


def _corrupt(seen: Observation, nonfinite: Ints, negative: Ints) -> int | None:
    there = seen.present[nonfinite]
    bad = (seen.values[nonfinite] > 0) | (seen.values[negative] > 0)
    return int(np.count_nonzero(bad & there)) if there.any() else None


def _nonfinite(seen: Observation, norms: Ints) -> int | None:
    values = seen.values[norms][seen.present[norms]]
    return int(np.count_nonzero(~np.isfinite(values))) if values.size else None
