"""When to ask for the origin of something non-finite, and what to say of it.

A failing batch must be replayed before its weights change: on the CPU at the end of the backward that gave a non-finite
gradient, whose values are there at once; on a GPU, where they are not, when the scaler is seen to have skipped the
step. Otherwise it is replayed once the step's values have arrived. It happens once per break, and at most `REPLAYS`
times in a run. An overflow of the scaled gradients alone is a scaler's daily work: it is looked into `ROUTINE` times,
and then rarely.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from trainvitals import wire
from trainvitals.options import Options
from trainvitals.origin.batches import Batches
from trainvitals.origin.forwards import Forward, Forwards
from trainvitals.origin.replay import can_replay, replay, replay_backward
from trainvitals.origin.verdict import Suspect, blame, find_suspect, judge_gradients
from trainvitals.probes.guard import Guard
from trainvitals.record.findings import REARM
from trainvitals.record.observation import Observation
from trainvitals.record.stream import Emit
from trainvitals.record.transfer import Part
from trainvitals.signs import Signs
from trainvitals.training import Training

log = logging.getLogger("trainvitals")

REPLAYS = 8
ROUTINE = 3
RARELY = 2000  # backwards; after as many steps a scaler tries a higher scale, by its default
REACH = 64  # steps of headroom told
NAMED = 8  # candidates told


@dataclass
class Evidence:
    """What is known of one step: the forwards of its last backward; of the replay, if there was one, whom it found and
    in which forward; and the events that showed the break."""

    forwards: list[Forward] = field(default_factory=list)
    asked: bool = False
    replayed: bool = False
    suspect: Suspect | None = None
    culprit: Forward | None = None
    events: list[wire.NonFinite] = field(default_factory=list)


class Inquiry:
    """Finds origins and emits them. `folder` is where failing batches are kept, if they are."""

    name = "origin"

    def __init__(
        self,
        training: Training,
        signs: Signs,
        guard: Guard,
        emit: Emit,
        options: Options,
        folder: Callable[[], Path | None],
    ) -> None:
        self._forwards = Forwards(training.models)
        self._models = training.models
        self._signs = signs
        self._guard = guard
        self._emit = emit
        self._folder = folder if options.keep_batches else None
        self._batches = Batches()
        self._left, self._routine = REPLAYS if options.replay else 0, ROUTINE
        self._now = Evidence()
        self._backwards, self._last_asked = 0, -REARM
        self._newest = -1  # the step whose statistics were read last
        self._rooms: list[tuple[int, Mapping[str, float]]] = []

    def attach(self) -> None:
        """Begin to remember what the models are called with, if anything is to be replayed."""
        if self._left:
            self._forwards.attach()

    def renew(self, signs: Signs) -> None:
        """The layers are others than before."""
        self._signs = signs

    def close(self) -> None:
        """Let go of the models; wait a moment for batches that are being written."""
        self._forwards.detach()
        self._now = Evidence()
        self._batches.close()

    # --- as the step goes on --------------------------------------------------------------------------------------

    def end_backward(self, gradients: Sequence[Part]) -> None:
        """A backward has ended with these norms."""
        self._backwards += 1
        self._forwards.end_backward()
        self._now.forwards = self._forwards.newest()
        values = [part.values.numpy() for part in gradients if part.values.device.type == "cpu"]
        broken = not all(np.isfinite(some).all() for some in values)
        if broken and not self._now.asked and self._is_news():
            self._ask(self._now)

    def end_step(self, seen: Observation, skipped: bool) -> None:
        """The step ends; its evidence goes with its observation."""
        seen.evidence = evidence = self._take()
        self._newest = seen.step
        if skipped and not evidence.asked and self._is_news():
            self._ask(evidence)

    def forget(self) -> None:
        """The step ends unobserved."""
        self._take()

    def note_headroom(self, step: int, rooms: Mapping[str, float]) -> None:
        """Headroom sampled at `step`, by layer."""
        self._rooms = [(at, kept) for at, kept in self._rooms if at >= step - REACH] + [(step, rooms)]

    def find(self, seen: Observation, events: Sequence[wire.NonFinite]) -> str:
        """These events show a break in `seen`; in a few words, what broke first, as far as that is known now."""
        evidence = seen.evidence
        if not isinstance(evidence, Evidence):
            return ""
        if events:
            evidence.events += events
            signals = {event.signal for event in events}
            if not evidence.asked and self._is_news(signals):
                self._ask(evidence, late=not events[0].skipped)
        suspect = evidence.suspect
        return f"{suspect.layer} ({suspect.type}) broke first" if suspect and suspect.layer else ""

    def conclude(self, seen: Observation, loss: float | None) -> None:
        """All of the step is known: say what broke first, if it was asked."""
        evidence, seen.evidence = seen.evidence, None
        if isinstance(evidence, Evidence) and evidence.asked and evidence.events:
            origin = self._origin(seen, evidence, loss)
            where = origin.layer or origin.place.replace("_", " ")
            log.warning("[ORIGIN] iter %d: %s broke first%s", seen.step, where, _details(origin))
            self._emit(origin)

    # --- asking ---------------------------------------------------------------------------------------------------

    def _take(self) -> Evidence:
        taken, self._now = self._now, Evidence()
        taken.forwards = self._forwards.take() or taken.forwards
        return taken

    def _is_news(self, signals: Collection[str] = ("gradient",)) -> bool:
        """Whether a break shown by these signals is worth a replay: statistics each time, since they were repaired in
        between; others not while the last break may still be what is seen."""
        routine = self._signs.scaler.active and self._routine <= 0 and set(signals) == {"gradient"}
        apart = 0 if "running_statistics" in signals else RARELY if routine else REARM
        return self._left > 0 and self._backwards - self._last_asked >= apart

    def _ask(self, evidence: Evidence, late: bool = False) -> None:
        evidence.asked = True
        self._last_asked = self._backwards
        self._guard.run(self.name, lambda: self._replay(evidence, late), None)
        evidence.forwards = []  # the batch is not held any longer
        if evidence.replayed and evidence.suspect is None and self._signs.scaler.active:
            self._routine -= 1
        else:
            self._left -= 1

    def _replay(self, evidence: Evidence, late: bool) -> None:
        """Run the step's forwards again, oldest first, until one breaks. `late`: its gradients have been used, so that
        broken weights are a consequence."""
        before = {k: v for _, snapshots in self._signs.statistics for k, v in snapshots.previous().items()}
        for forward in filter(can_replay, evidence.forwards):
            trace = replay(forward, before)
            suspect = find_suspect(trace)
            if suspect is None and not trace.whole:
                evidence.replayed = False
                return
            evidence.replayed = not (late and suspect is not None and suspect.place == "weights")
            if suspect is not None:
                evidence.suspect = suspect if evidence.replayed else None
                evidence.culprit = forward
                return
        for forward in filter(can_replay, evidence.forwards):
            evidence.suspect = blame(replay_backward(forward, before))
            if evidence.suspect is not None:
                evidence.culprit = forward
                return

    # --- telling --------------------------------------------------------------------------------------------------

    def _origin(self, seen: Observation, evidence: Evidence, loss: float | None) -> wire.Culprit:
        shown = min(evidence.events, key=lambda event: (event.signal != "running_statistics", event.order))
        suspect = evidence.suspect or self._from_gradients(seen, evidence, loss)
        same = next((e for e in evidence.events if e.layer == suspect.layer and e.count > 0), None)
        norm, mean, var = self._batch_statistics(suspect, seen, evidence.events)
        forward = evidence.culprit
        keep = self._folder if forward is not None else None
        return wire.Culprit(
            step=seen.step,
            time=seen.time,
            place=suspect.place,
            layer=suspect.layer,
            type=suspect.type,
            before=suspect.before,
            signal=shown.signal,
            kind=suspect.kind or shown.kind,
            count=same.count if same and suspect.count < 0 else suspect.count,
            total=same.total if same and suspect.total < 0 else suspect.total,
            precision=suspect.precision,
            skipped=shown.skipped,
            amax=suspect.amax,
            headroom=self._headroom(suspect.layer, seen.step),
            norm=norm,
            batch_mean=mean,
            batch_var=var,
            candidates=suspect.candidates[:NAMED],
            batch=self._batches.keep(keep(), seen.step, forward) if keep and forward else "",
        )

    def _from_gradients(self, seen: Observation, evidence: Evidence, loss: float | None) -> Suspect:
        if not evidence.replayed:
            layers = [event.layer for event in evidence.events if event.layer]
            return Suspect("unknown", candidates=list(dict.fromkeys(layers)))
        columns = self._signs.gradients.columns
        places = self._signs.places()
        names = [name for name, _ in self._signs.parameters]
        here = sorted(np.flatnonzero(seen.present[columns]).tolist(), key=lambda i: places.get(names[i], i))
        values = {i: float(seen.values[columns[i]]) for i in here}
        layers = [names[i].rpartition(".")[0] for i in here]
        broken = [names[i].rpartition(".")[0] for i in here if not np.isfinite(values[i])]
        nan = any(np.isnan(value) for value in values.values())
        return judge_gradients(
            list(dict.fromkeys(layers)),
            list(dict.fromkeys(broken)),
            nan=nan,
            scaled=self._signs.scaler.active,
            loss=loss,
            ranks=self._ranks(),
        )

    def _ranks(self) -> int:
        wrapped = any(isinstance(model, DistributedDataParallel) for model in self._models.values())
        return torch.distributed.get_world_size() if wrapped else 1

    def _headroom(self, layer: str, step: int) -> list[wire.Room]:
        places = self._signs.places()
        here = places.get(layer, len(places))
        found = []
        for at, rooms in self._rooms:
            before = [(value, name) for name, value in rooms.items() if places.get(name, 0) <= here]
            if before and step - REACH <= at < step:
                value, name = min(before)
                found.append(wire.Room(at, name, value))
        return found

    def _batch_statistics(
        self, suspect: Suspect, seen: Observation, events: Sequence[wire.NonFinite]
    ) -> tuple[str, list[float], list[float]]:
        """Of the first layer whose statistics broke, else of the first one from the suspect on, in forward order; the
        readings are those of the newest step."""
        broken = [event.layer for event in events if event.signal == "running_statistics"]
        layer = broken[0] if broken else self._norm_from(suspect.layer)
        found = [probe.batch_range(layer) for probe, _ in self._signs.statistics if seen.step == self._newest]
        known = next(filter(None, found), None)
        return (layer, list(known[0]), list(known[1])) if known else ("", [], [])

    def _norm_from(self, layer: str) -> str:
        places = self._signs.places()
        here = places.get(layer, 0)
        later = [norm.name for norm in self._signs.norms if places.get(norm.name, -1) >= here]
        return min(later, key=lambda name: places[name], default="")


def _details(origin: wire.Culprit) -> str:
    """The rest of the line: how, in what, out of what."""
    parts = [
        f"({origin.type})" if origin.type else "",
        f"before its {origin.before}" if origin.before else "",
        f"in {origin.precision}" if origin.precision else "",
        f"{origin.kind} in {origin.count} of {origin.total} channels" if origin.count > 0 else f"({origin.kind})",
        f"from inputs up to {origin.amax:.4g}" if origin.amax is not None and origin.layer else "",
        f"; candidates: {', '.join(origin.candidates)}" if origin.place == "unknown" else "",
    ]
    return " " + " ".join(part for part in parts if part) if any(parts) else ""
