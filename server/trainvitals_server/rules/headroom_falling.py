"""Rule 1 ahead of its levels: the fp16 headroom of an input falls so steadily that it will be gone within 40 steps.

A level of 8 leaves three doublings: 15 steps of an input that doubles every 5. The fall has to show twice, a doubling
each time: from the worst of some earlier samples to the best of two in between, and from there to the best of the last
two. So neither a heavy-tailed input, whose largest element jumps from batch to batch, nor a change of data that comes
once passes for a ramp. Nor does a start-up: a layer is judged from 50 steps after its first sample.
"""

from collections.abc import Sequence
from itertools import accumulate

import msgspec
import numpy as np

from trainvitals import wire
from trainvitals_server.rules.block import Block, Finding, Floats, select, somewhere

RULE = "headroom_falling"
TITLE = "fp16 headroom falling"

HORIZON, REST = 40.0, 80.0  # observed frames left: fires below, clears above
FALL = 1.0  # doublings of the input, twice
REACH = 60  # observed frames looked back
ARMED = 50  # observed frames since the layer's first sample
LEAST = 0.5  # a headroom below it is taken for it, so that it has a logarithm

Sample = tuple[int, float]  # number of the frame, log2 of the headroom


class State(msgspec.Struct, frozen=True):
    """How many frames there were of each layer since its first sample, its latest samples, and who has fired."""

    frames: dict[str, int] = {}
    samples: dict[str, list[Sample]] = {}
    active: list[str] = []


def fold(state: State, block: Block) -> tuple[State, list[Finding]]:
    """Judge the headroom samples of a block."""
    inputs = select(block, wire.INPUT, wire.HEADROOM)
    if not inputs.values.size:
        return state, []
    if not np.isfinite(inputs.values).any():  # the usual case: nothing was sampled
        counted = {layer: n + len(block.steps) if layer in inputs.layers else n for layer, n in state.frames.items()}
        return State(counted, state.samples, state.active) if counted else state, []
    frames, samples, active = dict(state.frames), dict(state.samples), set(state.active)
    first = {layer: -row for row, layer in _firsts(inputs.values, inputs.layers) if layer not in frames}
    before = {layer: frames.get(layer, first.get(layer, 0)) for layer in inputs.layers}
    findings = []
    for row, column in np.argwhere(np.isfinite(inputs.values)).tolist():
        layer, number = inputs.layers[column], before[inputs.layers[column]] + row
        if number < ARMED:
            continue
        level = float(np.log2(max(inputs.values[row, column], LEAST)))
        kept = [sample for sample in samples.get(layer, []) if number - sample[0] <= REACH]
        samples[layer] = [*kept, (number, level)]
        left = frames_left(samples[layer])
        if left < HORIZON if layer not in active else left > REST:
            active ^= {layer}
            findings.append(
                tell(layer, int(block.steps[row]), layer in active, left, float(inputs.values[row, column]))
            )
    frames |= {layer: before[layer] + len(block.steps) for layer in inputs.layers if layer in frames or layer in first}
    return State(frames, samples, sorted(active)), findings


def frames_left(samples: Sequence[Sample]) -> float:
    """In how many frames the headroom will be gone at the rate at which it falls; Inf where it does not."""
    levels = [level for _, level in samples]
    now, left = max(levels[-2:]), np.inf
    if max(levels) - now < 2 * FALL:
        return left
    worst = list(accumulate(samples, _worse))
    for middle in range(2, len(samples) - 3):
        between = max(levels[middle : middle + 2])
        before = [sample for sample in worst[1:middle] if sample[1] - between >= FALL]
        if before and between - now >= FALL:
            since, lowest = before[-1]
            left = min(left, max(now, 0.0) * (samples[-1][0] - since) / (lowest - now))
    return left


def _worse(one: Sample, other: Sample) -> Sample:
    """The one with less headroom, and of two alike the later."""
    return one if one[1] < other[1] else other


def _firsts(values: Floats, layers: tuple[str, ...]) -> list[tuple[int, str]]:
    """The first row with a sample of each layer that has one."""
    sampled = np.isfinite(values)
    rows, known = sampled.argmax(axis=0).tolist(), np.flatnonzero(somewhere(sampled.T)).tolist()
    return [(rows[column], layers[column]) for column in known]


def tell(layer: str, step: int, active: bool, left: float, room: float) -> Finding:
    """What to say when the rule fires or clears."""
    falling = (
        f"The fp16 headroom at the input of {layer}, {room:.3g} at step {step:,}, will be gone in about "
        f"{left:.0f} steps if it goes on falling as it does (limit {HORIZON:g})."
    )
    steady = f"The fp16 headroom at the input of {layer} no longer falls: {room:.3g} at step {step:,}."
    return Finding(
        rule=RULE,
        title=TITLE,
        layer=layer,
        step=step,
        severity="warning",
        active=active,
        value=left if active else room,
        threshold=HORIZON if active else REST,
        text=falling if active else steady,
    )
