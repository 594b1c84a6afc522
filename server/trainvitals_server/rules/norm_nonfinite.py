"""Rule 13: running statistics that are NaN or Inf, or a running variance below 0 (pytorch#88474). Per layer."""

import msgspec
import numpy as np

from trainvitals import wire
from trainvitals_server.rules.block import Block, Columns, Finding, Floats, select
from trainvitals_server.rules.levels import changes, latch

RULE = "norm_nonfinite"
TITLE = "Running statistics broken"


class State(msgspec.Struct, frozen=True):
    """Since which step each broken layer has been broken."""

    since: dict[str, int] = {}


def fold(state: State, block: Block) -> tuple[State, list[Finding]]:
    """Judge the channel counts of a block."""
    counts = select(block, wire.NORM, wire.NONFINITE_CHANNELS)
    if not counts.values.size:
        return state, []
    others = select(block, wire.NORM, wire.NEGATIVE_CHANNELS)
    if not state.since and not (counts.values > 0).any() and not (others.values > 0).any():
        return state, []  # the usual case, at a fraction of the cost
    negative = align(counts, others)
    bad = (counts.values > 0) | (negative > 0)
    before = np.array([layer in state.since for layer in counts.layers])
    broken = latch(before, bad, counts.values <= 0)
    since, findings = dict(state.since), []
    for row, column in changes(before.astype(np.int64), broken.astype(np.int64)):
        layer, step = counts.layers[column], int(block.steps[row])
        if broken[row, column]:
            since[layer] = step
            findings.append(fire(layer, step, float(counts.values[row, column]), float(negative[row, column])))
        else:
            findings.append(clear(layer, step, since.pop(layer)))
    return State(since), findings


def align(counts: Columns, others: Columns) -> Floats:
    """The values of `others` under the layers of `counts`, float64[n, k]; 0 where a layer has none."""
    known = np.nan_to_num(others.values)
    if others.layers == counts.layers:
        return known
    values = np.zeros_like(counts.values)
    places = {layer: place for place, layer in enumerate(counts.layers)}
    for column, layer in enumerate(others.layers):
        if layer in places:
            values[:, places[layer]] = known[:, column]
    return values


def fire(layer: str, step: int, nonfinite: float, negative: float) -> Finding:
    """What to say when a layer has broken."""
    nonfinite = np.nan_to_num(nonfinite)
    harms = [f"{nonfinite:g} non-finite" if nonfinite else "", f"{negative:g} of negative variance" if negative else ""]
    text = f"The running statistics of {layer} have channels that are broken since step {step:,}: "
    return say(layer, step, True, nonfinite + negative, text + " and ".join(filter(None, harms)) + " (limit 0).")


def clear(layer: str, step: int, since: int) -> Finding:
    """What to say when a layer is healthy again."""
    text = f"The running statistics of {layer} are finite again at step {step:,}; they broke at step {since:,}."
    return say(layer, step, False, 0.0, text)


def say(layer: str, step: int, active: bool, channels: float, text: str) -> Finding:
    """The finding; its value is the number of broken channels."""
    return Finding(
        rule=RULE,
        title=TITLE,
        layer=layer,
        step=step,
        severity="critical",
        active=active,
        value=float(channels),
        threshold=0.0,
        text=text,
    )
