"""What is non-finite in an observation, and which of it is new: pure, from arrays to events."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from trainvitals import wire
from trainvitals.record.observation import Observation

NAMED = 200  # corrupt tensors named in one health check; a record must stay well under a message's limit
REARM = 100  # steps after which a layer's gradient may be reported again: a falling loss scale is no flood
LAST = 1 << 30  # behind every layer, in forward order
Ints = npt.NDArray[np.intp]


@dataclass
class Context:
    """What the events say beside the finding: the step's fate and the headroom last seen, by layer."""

    skipped: bool
    headroom: dict[str, float]
    places: dict[str, int]


@dataclass
class StatisticsFindings:
    """Follows the layers with running statistics. `columns` maps each of NORM_STATS to int [layers]."""

    layers: list[str]
    channels: list[int]
    columns: dict[str, Ints]
    bad: set[str] = field(default_factory=set)

    def examine(self, seen: Observation, context: Context) -> list[wire.NonFinite]:
        """Events for the layers that have become corrupt, in forward order; `bad` is up to date afterwards."""
        counts = self._counts(seen, wire.NONFINITE_CHANNELS) + self._counts(seen, wire.NEGATIVE_CHANNELS)
        if not self.bad and not counts.any():
            return []
        values = {stat: seen.values[index] for stat, index in self.columns.items()}
        present = seen.present[self.columns[wire.NONFINITE_CHANNELS]]
        now = {self.layers[i]: int(i) for i in np.flatnonzero(present & (counts > 0))}
        fresh = sorted(set(now) - self.bad, key=lambda layer: context.places.get(layer, now[layer]))
        events = [self._event(seen, layer, now[layer], values, context) for layer in fresh]
        absent = {layer for layer, here in zip(self.layers, present, strict=True) if not here}
        self.bad = set(now) | (self.bad & absent)
        return events

    def _counts(self, seen: Observation, stat: str) -> npt.NDArray[np.float32]:
        return seen.values[self.columns[stat]]

    def _event(
        self, seen: Observation, layer: str, i: int, values: dict[str, npt.NDArray[np.float32]], context: Context
    ) -> wire.NonFinite:
        ranges = np.array([values[stat][i] for stat in (wire.MEAN_MIN, wire.MEAN_MAX, wire.VAR_MIN, wire.VAR_MAX)])
        nonfinite, negative = values[wire.NONFINITE_CHANNELS][i], values[wire.NEGATIVE_CHANNELS][i]
        return wire.NonFinite(
            step=seen.step,
            time=seen.time,
            layer=layer,
            signal="running_statistics",
            kind=kind_of(ranges) or "negative",
            count=int(nonfinite or negative),
            total=self.channels[i],
            order=context.places.get(layer, i),
            skipped=context.skipped,
            headroom=least_headroom(layer, context),
        )


@dataclass
class GradientFindings:
    """Follows the gradients of parameters. `columns` is int [parameters]."""

    names: list[str]
    columns: Ints
    _quiet: dict[str, int] = field(default_factory=dict)

    def examine(self, seen: Observation, context: Context) -> list[wire.NonFinite]:
        """Events for the gradients that have become non-finite, in forward order."""
        norms = seen.values[self.columns]
        wrong = np.flatnonzero(~np.isfinite(norms))
        events = [self._event(seen, i, norms[i], context) for i in wrong if self._is_new(self.names[i], seen.step)]
        self._quiet.update({self.names[i]: seen.step for i in wrong})
        return sorted(events, key=lambda event: event.order)

    def remember(self, earlier: "GradientFindings") -> None:
        """What was reported of these gradients a short while ago is no news."""
        self._quiet = {name: step for name, step in earlier._quiet.items() if name in set(self.names)}

    def _is_new(self, name: str, step: int) -> bool:
        return name not in self._quiet or step - self._quiet[name] >= REARM

    def _event(self, seen: Observation, i: Any, norm: np.float32, context: Context) -> wire.NonFinite:
        return wire.NonFinite(
            step=seen.step,
            time=seen.time,
            layer=self.names[i],
            signal="gradient",
            kind=kind_of(np.array([norm])) or "inf",
            order=context.places.get(self.names[i], int(i)),
            skipped=context.skipped,
        )


@dataclass
class ResultFindings:
    """Follows what the loop produced: the loss, and the number of non-finite elements of the output."""

    loss: int
    output: int
    _wrong: set[str] = field(default_factory=set)

    def moved(self, loss: int, output: int) -> "ResultFindings":
        """The same at other columns."""
        return ResultFindings(loss, output, self._wrong)

    def examine(self, seen: Observation, context: Context) -> list[wire.NonFinite]:
        """Events for a loss or an output that has become non-finite."""
        loss, count = seen.values[self.loss], seen.values[self.output]
        if not count and math.isfinite(loss):
            self._wrong.clear()
            return []
        found: dict[str, tuple[Literal["nan", "inf"], int]] = {}
        if kind := kind_of(np.array([loss])):
            found["loss"] = kind, -1
        if count:
            found["output"] = "nan", int(count)
        fresh, self._wrong = found.keys() - self._wrong, set(found)
        return [
            wire.NonFinite(
                step=seen.step,
                time=seen.time,
                layer="",
                signal=signal,
                kind=found[signal][0],
                count=found[signal][1],
                order=LAST,
                skipped=context.skipped,
            )
            for signal in sorted(fresh, reverse=True)
        ]


def health_check(step: int, time: float, origin: wire.Origin, keys: list[str]) -> wire.HealthCheck:
    """The record of a check that found `keys` corrupt."""
    return wire.HealthCheck(step=step, time=time, origin=origin, healthy=not keys, keys=keys[:NAMED], count=len(keys))


def kind_of(values: npt.NDArray[np.float32]) -> Literal["nan", "inf"] | None:
    """NaN is named before Inf."""
    if np.isnan(values).any():
        return "nan"
    return "inf" if np.isinf(values).any() else None


def least_headroom(layer: str, context: Context) -> float | None:
    """The least headroom last seen at or before `layer`, in forward order."""
    here = context.places.get(layer)
    if here is None:
        return None
    before = [value for name, value in context.headroom.items() if context.places.get(name, here + 1) <= here]
    return min(before, default=None)
