"""One layout's observations on their way from the probes to the outbox, in order."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from trainvitals import wire
from trainvitals.record.columns import Columns
from trainvitals.record.comparison import Comparison
from trainvitals.record.observation import Observation
from trainvitals.record.summary import Summary
from trainvitals.record.transfer import Part, Transfer

Emit = Callable[[wire.Record], None]


class Stream:
    """Opens observations, lets parts arrive, and emits each as a frame once it is complete.

    `examine` sees an observation as soon as what was submitted has arrived, which may be before it is sealed;
    `conclude` sees it complete, just before it is emitted. Given a `summary`, what it makes of the observation is
    emitted instead, or nothing where it has no columns. What a `comparison` makes of one that is to be compared follows
    it.
    """

    def __init__(
        self,
        columns: Columns,
        transfer: Transfer,
        emit: Emit,
        places: Callable[[], dict[str, int]],
        examine: Callable[[Observation], None] = lambda observation: None,
        conclude: Callable[[Observation], None] = lambda observation: None,
        summary: Summary | None = None,
        comparison: Comparison | None = None,
    ) -> None:
        self.columns = columns
        self._summary = summary
        self._comparison = comparison
        self._transfer = transfer
        self._emit = emit
        self._places = places
        self._examine = examine
        self._conclude = conclude
        self._queue: deque[Observation] = deque()
        self._examined: set[int] = set()
        self._announced: set[int] = set()  # numbers of layouts

    def open(self, step: int) -> Observation:
        """A new observation for `step`, with the time of now."""
        observation = Observation(step, time.time(), len(self.columns))
        self._queue.append(observation)
        return observation

    def submit(self, observation: Observation, parts: Sequence[Part], only: npt.NDArray[np.intp] | None = None) -> None:
        """Add values that are on their way; with `only`, those of these columns."""
        deliver = observation.fill if only is None else partial(observation.fill_some, only)
        observation.late |= only is not None
        observation.expect(self._transfer.submit(parts, deliver))
        self._transfer.raise_failure()

    def advance(self) -> None:
        """Examine what has arrived and emit what is complete."""
        for observation in self._queue:
            if observation.arrived and id(observation) not in self._examined:
                self._examined.add(id(observation))
                self._examine(observation)
        while self._queue and self._queue[0].complete:
            observation = self._queue.popleft()
            self._examined.discard(id(observation))
            self._conclude(observation)
            self._tell(observation)

    def announce_again(self) -> None:
        """Repeat the layouts before the next frame."""
        self._announced.clear()

    def _tell(self, observation: Observation) -> None:
        if self._summary is None:
            self._put(self.columns, observation)
        else:
            self._put(self._summary.columns, self._summary.of(observation))
        if self._comparison is not None and observation.compared:
            self._put(self._comparison.columns, self._comparison.of(observation))

    def _put(self, columns: Columns, observation: Observation) -> None:
        if not len(columns):
            return
        if columns.layout not in self._announced:
            self._announced.add(columns.layout)
            for piece in columns.announce(self._places()):
                self._emit(piece)
        self._emit(observation.frame(columns.layout))
