"""What is found in the values once they have arrived: events, log lines, and who is told of corrupt statistics."""

import logging
import math
from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt

from trainvitals import wire
from trainvitals.following import Following
from trainvitals.origin.inquiry import Inquiry
from trainvitals.record.findings import Context, GradientFindings, ResultFindings, StatisticsFindings, health_check
from trainvitals.record.observation import Observation
from trainvitals.record.stream import Emit
from trainvitals.signs import Signs

log = logging.getLogger("trainvitals")

NAMED = 12  # tensors named in one log entry
Watcher = Callable[[Observation, set[str]], None]


class Examiner:
    """Examines the observations of `signs`. `on_statistics` is told of each examined step and the layers corrupt in
    it, but for those that `following` says are another rank's."""

    def __init__(self, signs: Signs, emit: Emit, inquiry: Inquiry, following: Following) -> None:
        self._signs = signs
        self._inquiry = inquiry
        self._following = following
        self._emit = emit
        self.on_statistics: Watcher = lambda seen, bad: None
        self.headroom_seen: dict[str, float] = {}
        self.first = ""  # what broke first in the step examined last, in a few words
        self.nan_grad_steps = 0  # examined steps in which a gradient was not finite
        self._gradients = GradientFindings([name for name, _ in signs.parameters], signs.gradients.columns)
        self._statistics = [
            StatisticsFindings([n.name for n in probe.norms], probe.channels, probe.columns)
            for probe, _ in signs.statistics
        ]
        self._results = ResultFindings(signs.progress.loss, signs.progress.output)

    @property
    def corrupt(self) -> set[str]:
        """The layers whose statistics were corrupt when last seen."""
        return set().union(*(findings.bad for findings in self._statistics))

    def examine(self, seen: Observation) -> None:
        """A step's gradients and statistics have arrived."""
        self._note_headroom(seen)
        context = self._context(seen)
        columns = self._signs.gradients.columns
        norms = seen.values[columns][seen.present[columns]]
        gradients: list[wire.NonFinite] = []
        if norms.size:
            total = _total(norms, squared=self._signs.sharded)
            seen.put(self._signs.progress.total, total)
            if not math.isfinite(total):  # squares of float32 do not overflow float64: some norm is not finite
                gradients = self._gradients.examine(seen, context)
                self._tell_of_gradients(gradients, seen.step, norms, context.skipped)
        broken = [event for findings in self._statistics for event in findings.examine(seen, context)]
        self.first = self._inquiry.find(seen, [*gradients, *broken])
        followed = self._followed() if broken else set()
        for event in broken:
            self._emit(msgspec.structs.replace(event, passing=event.layer in followed))
        for findings, (_, snapshots) in zip(self._statistics, self._signs.statistics, strict=True):
            snapshots.judge(seen.step, not findings.bad)
        self.on_statistics(seen, self.corrupt - self._followed())

    def conclude(self, seen: Observation) -> None:
        """Its loss and output are known too."""
        events = self._results.examine(seen, self._context(seen))
        for event in events:
            log.warning("[NaN %s] iter %d: %s", event.signal.upper(), event.step, event.kind)
            self._emit(event)
        self._inquiry.find(seen, events)
        loss = self._signs.progress.loss
        self._inquiry.conclude(seen, float(seen.values[loss]) if seen.present[loss] else None)

    def examine_weights(self, seen: Observation) -> None:
        """The slow layout has arrived: the periodic health check."""
        weights = self._signs.weights
        pairs = zip(weights.weight_columns, weights.moment_columns, strict=True)
        wrong = [
            f"{name}.{stat}"
            for (name, _), pair in zip(self._signs.parameters, pairs, strict=True)
            for stat, column in zip(("weight", "moments"), pair, strict=True)
            if seen.present[column] and not np.isfinite(seen.values[column])
        ]
        statistics = [f"{layer}.running_statistics" for layer in sorted(self.corrupt - self._followed())]
        _log_health(seen.step, statistics, wrong)
        self._emit(health_check(seen.step, seen.time, "health", statistics + wrong))

    def _followed(self) -> set[str]:
        """The layers whose statistics are another rank's, which looks after them."""
        return {norm.name for norm in self._signs.norms if self._following.follows(norm.model)}

    def _context(self, seen: Observation) -> Context:
        scaler = self._signs.scaler
        skipped = scaler.active and bool(seen.values[scaler.skipped_column] > 0)
        return Context(skipped, self.headroom_seen, self._signs.places())

    def _note_headroom(self, seen: Observation) -> None:
        headroom = self._signs.headroom
        rooms = {}
        for place in np.flatnonzero(seen.present[headroom.columns]).tolist():
            rooms[headroom.layers[place]] = value = float(seen.values[headroom.columns[place]])
            headroom.note(place, value)
        if rooms:
            self.headroom_seen |= rooms
            self._inquiry.note_headroom(seen.step, rooms)

    def _tell_of_gradients(
        self, events: list[wire.NonFinite], step: int, norms: npt.NDArray[np.float32], skipped: bool
    ) -> None:
        """Count a step in which some gradient is not finite; say so where that is news."""
        broken = int(np.count_nonzero(~np.isfinite(norms)))
        self.nan_grad_steps += 1
        if events:
            log.warning(
                "[NaN GRAD] iter %d: %d of %d gradients not finite, first %s%s (%d such steps so far)",
                step,
                broken,
                norms.size,
                events[0].layer,
                ", step skipped by the grad scaler" if skipped else "",
                self.nan_grad_steps,
            )
        for event in events:
            self._emit(event)


def _total(norms: npt.NDArray[np.float32], *, squared: bool) -> float:
    """The norm over all parameters; where they are sharded, the square of this process's part of it."""
    if squared:
        return float(norms.sum(dtype=np.float64))
    return math.sqrt(np.square(norms, dtype=np.float64).sum())


def _log_health(step: int, statistics: list[str], wrong: list[str]) -> None:
    serious = "weights or moments! More serious: no repair of statistics brings them back."
    for found, what in ((statistics, "stats!"), (wrong, serious)):
        if found:
            named = "".join(f"\n  - {key}" for key in found[:NAMED])
            log.warning("[HEALTH CHECK] iter %d: Found %d corrupted %s%s", step, len(found), what, named)
    if not statistics and not wrong:
        log.info("[HEALTH CHECK] iter %d: Model health OK", step)
