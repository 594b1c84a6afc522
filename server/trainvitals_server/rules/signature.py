"""Rule 12: the scaler skipped a step and running statistics broke in that same step. Weights and training loss look
fine afterwards, and nothing heals by itself (pytorch#88474). The two series are read from one layout."""

import msgspec
import numpy as np

from trainvitals import wire
from trainvitals_server.rules.block import Block, Bools, Columns, Finding, select, skipped
from trainvitals_server.rules.levels import latch

RULE = "signature"
TITLE = "Overflow broke the running statistics behind a skipped step"


class State(msgspec.Struct, frozen=True):
    """The layers whose statistics are broken, and the first one of the signature seen (`layer`, "" where none is
    open)."""

    broken: list[str] = []
    layer: str = ""
    since: int = 0


def fold(state: State, block: Block) -> tuple[State, list[Finding]]:
    """Judge skipped steps and broken statistics of a block together."""
    counts = select(block, wire.NORM, wire.NONFINITE_CHANNELS)
    if not counts.values.size:
        return state, []
    if not state.broken and not state.layer and not (counts.values > 0).any():
        return state, []  # the usual case, at a fraction of the cost
    before = np.array([layer in state.broken for layer in counts.layers])
    broken = latch(before, counts.values > 0, counts.values <= 0)
    elsewhere = [layer for layer in state.broken if layer not in counts.layers]
    after, findings = walk(state, block, counts, np.vstack([before, broken]), bool(elsewhere))
    names = [layer for layer, bad in zip(counts.layers, broken[-1].tolist(), strict=True) if bad]
    return State(elsewhere + names, after.layer, after.since), findings


def walk(state: State, block: Block, counts: Columns, broken: Bools, elsewhere: bool) -> tuple[State, list[Finding]]:
    """Visit the rows at which a layer broke or healed; `broken` is bool[n + 1, k], the row before the block first."""
    findings = []
    skips = skipped(block)
    for row in np.flatnonzero((broken[1:] != broken[:-1]).any(axis=1)).tolist():
        step, now = int(block.steps[row]), broken[row + 1]
        new = [counts.layers[place] for place in np.flatnonzero(now & ~broken[row])]
        if new and skips[row] and not state.layer:
            state = State(layer=new[0], since=step)
            findings.append(fire(new, step))
        elif state.layer and not now.any() and not elsewhere:
            findings.append(clear(state, step))
            state = State()
    return state, findings


def fire(layers: list[str], step: int) -> Finding:
    """What to say when the signature is seen."""
    others = f" and {len(layers) - 1} more" if len(layers) > 1 else ""
    return say(
        layers[0],
        step,
        True,
        len(layers),
        f"Step {step:,} was skipped, and in it the running statistics of {layers[0]}{others} became non-finite: "
        "weights and training loss look fine, but validation and checkpoints are broken until it is repaired.",
    )


def clear(state: State, step: int) -> Finding:
    """What to say when every layer is finite again."""
    text = f"All running statistics are finite again at step {step:,}; {state.layer} broke at step {state.since:,}."
    return say(state.layer, step, False, 0, text)


def say(layer: str, step: int, active: bool, layers: int, text: str) -> Finding:
    """The finding; its value is the number of layers that broke."""
    return Finding(
        rule=RULE,
        title=TITLE,
        layer=layer,
        step=step,
        severity="critical",
        active=active,
        value=float(layers),
        threshold=1.0,
        text=text,
    )
