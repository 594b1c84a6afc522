"""Rule 27: a rank's weights or running statistics leave the others' range, at two of the steps at which ranks are
compared, in a row.

Weights are the same on all ranks whose gradients are averaged: bit for bit in the loops of docs/ranks.md. A norm in
float32 is exact to 1e-7, and other hardware may add it up in another order; a hundred times that is far apart. Ranks
that share no weights (a pipeline, tensor parallelism, models of their own) were never alike: a parameter is judged once
it has been alike twice in a row.

Running variances are each rank's own, of its own data: in the healthy runs of docs/ranks.md up to 28 times the others'.
"""

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from trainvitals_server.rules.apart import VARIANCES, WEIGHTS, Farthest, Measure, farthest, tells
from trainvitals_server.rules.block import Block, Bools, Finding, Severity

RULE = "rank_disagreement"
TITLE = "Ranks disagree"

HOLD = 2  # compared steps in a row that fire or clear

Marks = NDArray[np.int8]


class Limits(NamedTuple):
    """At how many times the others' median (or it of the value) a measure fires, below how many it clears, and how
    often in a row it must have been below that before it is judged at all."""

    measure: Measure
    fire: float
    clear: float
    alike: int


WEIGHT_LIMITS = Limits(WEIGHTS, 1 + 1e-4, 1 + 1e-5, 2)
VARIANCE_LIMITS = Limits(VARIANCES, 64.0, 32.0, 0)


class Track(msgspec.Struct, frozen=True):
    """Of each layer (by name) three marks, int8[3, layers]: how often in a row it was alike (up to what is needed),
    whether it has fired, and how many steps in a row spoke for a change of that."""

    layers: tuple[str, ...] = ()
    marks: bytes = b""


class State(msgspec.Struct, frozen=True):
    """What is known of parameters and of layers with running statistics."""

    weights: Track = Track()
    variances: Track = Track()


def fold(state: State, block: Block) -> tuple[State, list[Finding]]:
    """Judge what the ranks are apart in a block."""
    weights, found = judge(state.weights, block, WEIGHT_LIMITS)
    variances, more = judge(state.variances, block, VARIANCE_LIMITS)
    if weights is state.weights and variances is state.variances:
        return state, found + more
    return State(weights, variances), sorted(found + more, key=lambda finding: finding.step)


def judge(track: Track, block: Block, limits: Limits) -> tuple[Track, list[Finding]]:
    """Judge one measure; the same track where nothing has changed."""
    if not tells(block, limits.measure) or not len(block.steps):
        return track, []
    seen = farthest(block, limits.measure)
    track = widen(track, seen.layers)
    own = np.array([track.layers.index(layer) for layer in seen.layers], np.intp)
    before = np.frombuffer(track.marks, np.int8).reshape(3, len(track.layers))
    times = seen.times(limits.measure.floor)
    marks, findings = before[:, own], list[Finding]()
    for row, step in enumerate(block.steps.tolist()):
        after = advance(marks, times[row], limits)
        findings += [
            tell(seen, (row, int(place)), step, bool(after[1, place]), limits)
            for place in np.flatnonzero(after[1] != marks[1])
        ]
        marks = after
    if (marks == before[:, own]).all():
        return track, findings
    whole = before.copy()
    whole[:, own] = marks
    return Track(track.layers, whole.tobytes()), findings


def widen(track: Track, layers: tuple[str, ...]) -> Track:
    """The track with these layers in it."""
    names = tuple(sorted({*track.layers, *layers}))
    if names == track.layers:
        return track
    marks = np.zeros((3, len(names)), np.int8)
    marks[:, [names.index(one) for one in track.layers]] = np.frombuffer(track.marks, np.int8).reshape(3, -1)
    return Track(names, marks.tobytes())


def advance(marks: Marks, times: NDArray[np.float64], limits: Limits) -> Marks:
    """The marks after one more step, int8[3, k]; where nothing is known of it (NaN) they stay."""
    far, near = times > limits.fire, times < limits.clear
    known: Bools = ~np.isnan(times)
    alike, fired, count = marks
    moving = (alike >= limits.alike) & np.where(fired > 0, near, far)
    growing = np.where(moving, count + 1, 0)
    flips = growing >= HOLD
    alike = np.where(alike < limits.alike, np.where(near, alike + 1, 0), alike)
    after = np.stack([alike, np.where(flips, 1 - fired, fired), np.where(flips, 0, growing)]).astype(np.int8)
    return np.where(known, after, marks)


def tell(seen: Farthest, place: tuple[int, int], step: int, active: bool, limits: Limits) -> Finding:
    """What to say when the rule fires or clears for the layer at this row and column."""
    times = float(seen.times(limits.measure.floor)[place])
    layer, weights = seen.layers[place[1]], limits.measure is WEIGHTS
    severity: Severity = "critical" if weights or not np.isfinite(times) else "warning"
    return Finding(
        rule=RULE,
        title=TITLE,
        layer=layer,
        step=step,
        severity=severity,
        active=active,
        value=times,
        threshold=limits.fire if active else limits.clear,
        text=(apart if active else together)(seen, place, step, limits),
    )


def apart(seen: Farthest, place: tuple[int, int], step: int, limits: Limits) -> str:
    """Which rank, its value, the others' range, and the limit, as a sentence."""
    rank, value, low, high = (float(one[place]) for one in (seen.rank, seen.value, seen.low, seen.high))
    layer, weights = seen.layers[place[1]], limits.measure is WEIGHTS
    what = f"norm of {layer}" if weights else f"largest running variance of {layer}"
    others = f"{low:.7g}" if low == high else f"{low:.7g} to {high:.7g}"
    limit = f"{limits.fire - 1:.2%} apart" if weights else f"{limits.fire:g} times their median, or a {limits.fire:g}th"
    meaning = ": the ranks train different weights" if weights else ""
    return f"Rank {rank:g}'s {what} is {value:.7g} at step {step:,}, the others' {others} (limit {limit}){meaning}."


def together(seen: Farthest, place: tuple[int, int], step: int, limits: Limits) -> str:
    """That the ranks agree again, as a sentence."""
    what = "norm" if limits.measure is WEIGHTS else "largest running variance"
    near = "0.001 %" if limits.measure is WEIGHTS else f"{limits.clear:g} times"
    return f"The ranks agree again on the {what} of {seen.layers[place[1]]} at step {step:,} (within {near})."
