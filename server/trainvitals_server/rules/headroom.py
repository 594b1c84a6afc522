"""Rule 1: the input of a module, as fp16 sees it, comes close to the largest fp16 number (mechanics: measured amax)."""

import msgspec
import numpy as np

from trainvitals import wire
from trainvitals_server.rules.block import Block, Finding, select
from trainvitals_server.rules.levels import changes, graded

RULE = "headroom"
TITLE = "Little fp16 headroom"

# Level: fires below, clears from. 65504 / amax; half as much again to clear, so that a borderline input does not flap.
WARNING, CRITICAL = (8.0, 12.0), (2.0, 3.0)


class State(msgspec.Struct, frozen=True):
    """The level (1 warning, 2 critical) of each layer that is not at ease."""

    levels: dict[str, int] = {}


def fold(state: State, block: Block) -> tuple[State, list[Finding]]:
    """Judge the headroom series of a block."""
    inputs = select(block, wire.INPUT, wire.HEADROOM)
    if not inputs.values.size:
        return state, []
    if not state.levels and not (inputs.present & ~(inputs.values >= WARNING[0])).any():
        return state, []  # the usual case, at a fraction of the cost
    room = np.where(inputs.present & np.isnan(inputs.values), 0.0, inputs.values)  # NaN came in: nothing is left
    before = np.array([state.levels.get(layer, 0) for layer in inputs.layers])
    levels = graded(before, room, (WARNING, CRITICAL))
    after = state.levels | dict(zip(inputs.layers, levels[-1].tolist(), strict=True))
    findings = [
        tell(inputs.layers[column], int(block.steps[row]), int(levels[row, column]), float(room[row, column]))
        for row, column in changes(before, levels)
    ]
    return State({layer: level for layer, level in after.items() if level}), findings


def tell(layer: str, step: int, level: int, room: float) -> Finding:
    """What to say about a layer that has come to `level`."""
    threshold = CRITICAL[0] if level == 2 else WARNING[0] if level else WARNING[1]
    if not level:
        text = f"The input of {layer} has fp16 headroom {room:.3g} again at step {step:,} (at least {threshold:g})."
    elif room == 0:
        text = f"The input of {layer} overflowed fp16 at step {step:,}: headroom 0 (below {threshold:g})."
    else:
        text = (
            f"The input of {layer} reached 65504 / {room:.3g} at step {step:,}: "
            f"fp16 headroom {room:.3g} (below {threshold:g})."
        )
    return Finding(
        rule=RULE,
        title=TITLE,
        layer=layer,
        step=step,
        severity="critical" if level == 2 else "warning",
        active=level > 0,
        value=room,
        threshold=threshold,
        text=text,
    )
