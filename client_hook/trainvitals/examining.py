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
from trainvitals.probes.guard import Guard
from trainvitals.probes.norms import LARGEST
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

    def __init__(self, signs: Signs, emit: Emit, inquiry: Inquiry, guard: Guard, following: Following) -> None:
        self._signs = signs
        self._guard = guard
        self._inquiry = inquiry
        self._following = following
        self._emit = emit
        self.broke = False  # whether something broke in the step examined last
        self.on_statistics: Watcher = lambda seen, bad: None
        self.headroom_seen: dict[str, float] = {}
        self.first = ""  # what broke first in the step examined last, in a few words
        self.nan_grad_steps = 0  # examined steps in which a gradient was not finite
        self._nan_grad_step: int | None = None  # the last of them
        self._gradients = GradientFindings([name for name, _ in signs.parameters], signs.gradients.columns)
        self._statistics = [
            StatisticsFindings([n.name for n in probe.norms], probe.channels, probe.columns)
            for probe, _ in signs.statistics
        ]
        self._results = ResultFindings(signs.progress.loss, signs.progress.output)

    def renewed(self, signs: Signs) -> "Examiner":
        """The same for other layers; of those that are still there it knows what this one knew."""
        other = Examiner(signs, self._emit, self._inquiry, self._guard, self._following)
        other.on_statistics, other.first = self.on_statistics, self.first
        other.nan_grad_steps, other._nan_grad_step = self.nan_grad_steps, self._nan_grad_step
        layers = set(signs.headroom.layers)
        other.headroom_seen = {name: value for name, value in self.headroom_seen.items() if name in layers}
        for findings in other._statistics:
            findings.bad = self.corrupt & set(findings.layers)
        other._gradients.remember(self._gradients)
        other._results = self._results.moved(signs.progress.loss, signs.progress.output)
        return other

    @property
    def corrupt(self) -> set[str]:
        """The layers whose statistics were corrupt when last seen."""
        return set().union(*(findings.bad for findings in self._statistics))

    def examine(self, seen: Observation) -> None:
        """A step's gradients and statistics have arrived. What fails in one of them leaves the others as they are."""
        run = self._guard.run
        none: list[wire.NonFinite] = []
        run("headroom findings", lambda: self._note_headroom(seen), None)
        context = self._context(seen)
        gradients = run("gradient findings", lambda: self._examine_gradients(seen, context), none)
        broken = run("statistics findings", lambda: self._examine_statistics(seen, context), none)
        self.first = run(self._inquiry.name, lambda: self._inquiry.find(seen, [*gradients, *broken]), "")
        followed = self._followed() if broken else set()
        for event in broken:
            self._emit(msgspec.structs.replace(event, passing=event.layer in followed))
        self.broke = bool(gradients or broken)
        run("snapshots", lambda: self._judge_snapshots(seen), None)
        run("notes", lambda: self.on_statistics(seen, self._corrupt_here()), None)

    def conclude(self, seen: Observation) -> None:
        """Its loss and output are known too, and the gradients of optimizers that came after it was read."""
        context = self._context(seen)
        run = self._guard.run
        events: list[wire.NonFinite] = []
        if seen.late:
            events += run("gradient findings", lambda: self._examine_gradients(seen, context), events[:0])
        events += run("result findings", lambda: self._examine_results(seen, context), events[:0])
        run(self._inquiry.name, lambda: self._inquire(seen, events), None)

    def examine_weights(self, seen: Observation) -> None:
        """The slow layout has arrived: the periodic health check."""
        self._guard.run("weight findings", lambda: self._check_health(seen), None)

    def _examine_statistics(self, seen: Observation, context: Context) -> list[wire.NonFinite]:
        return [event for findings in self._statistics for event in findings.examine(seen, context)]

    def _judge_snapshots(self, seen: Observation) -> None:
        """After the inquiry, which replays the step with the statistics judged last."""
        for findings, (_, snapshots) in zip(self._statistics, self._signs.statistics, strict=True):
            snapshots.judge(seen.step, not findings.bad)

    def _examine_results(self, seen: Observation, context: Context) -> list[wire.NonFinite]:
        events = self._results.examine(seen, context)
        for event in events:
            log.warning("[NaN %s] iter %d: %s", event.signal.upper(), event.step, event.kind)
            self._emit(event)
        return events

    def _inquire(self, seen: Observation, events: list[wire.NonFinite]) -> None:
        self._inquiry.find(seen, events)
        loss = self._signs.progress.loss
        self._inquiry.conclude(seen, float(seen.values[loss]) if seen.present[loss] else None)

    def _check_health(self, seen: Observation) -> None:
        weights = self._signs.weights
        pairs = zip(weights.weight_columns, weights.moment_columns, strict=True)
        wrong = [
            f"{name}.{stat}"
            for (name, _), pair in zip(self._signs.parameters, pairs, strict=True)
            for stat, column in zip(("weight", "moments"), pair, strict=True)
            if seen.present[column] and not np.isfinite(seen.values[column])
        ]
        statistics = [f"{layer}.running_statistics" for layer in sorted(self._corrupt_here())]
        _log_health(seen.step, statistics, wrong)
        self._emit(health_check(seen.step, seen.time, "health", statistics + wrong))

    def _corrupt_here(self) -> set[str]:
        corrupt = self.corrupt
        return corrupt - self._followed() if corrupt else corrupt

    def _followed(self) -> set[str]:
        """The layers whose statistics are another rank's, which looks after them."""
        return {norm.name for norm in self._signs.norms if self._following.follows(norm.model)}

    def _context(self, seen: Observation) -> Context:
        scaler = self._signs.scaler
        skipped = scaler.active and bool(seen.values[scaler.skipped_column] > 0)
        return Context(skipped, self.headroom_seen, self._signs.places())

    def _examine_gradients(self, seen: Observation, context: Context) -> list[wire.NonFinite]:
        """Put down the total norm, before and after clipping; the events of the norms that are not finite."""
        columns = self._signs.gradients.columns
        present = seen.present[columns]
        if not present.any():
            return []
        norms = seen.values[columns]  # 0 where absent
        total = _total(norms, squared=self._signs.sharded)
        seen.put(self._signs.progress.total, total)
        self._signs.clipping.conclude(seen, norms)
        if math.isfinite(total):  # squares of float32 do not overflow float64: no norm is not finite
            return []
        events = self._gradients.examine(seen, context)
        self._tell_of_gradients(events, seen.step, norms[present], context.skipped)
        return events

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
        if broken and step != self._nan_grad_step:
            self._nan_grad_step = step
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
    total = float(norms.sum(dtype=np.float64)) if squared else math.sqrt(np.square(norms, dtype=np.float64).sum())
    return min(total, LARGEST) if math.isfinite(total) else total


def _log_health(step: int, statistics: list[str], wrong: list[str]) -> None:
    serious = "weights or moments! More serious: no repair of statistics brings them back."
    for found, what in ((statistics, "stats!"), (wrong, serious)):
        if found:
            named = "".join(f"\n  - {key}" for key in found[:NAMED])
            log.warning("[HEALTH CHECK] iter %d: Found %d corrupted %s%s", step, len(found), what, named)
    if not statistics and not wrong:
        log.info("[HEALTH CHECK] iter %d: Model health OK", step)
