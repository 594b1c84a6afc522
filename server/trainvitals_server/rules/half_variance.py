"""Rule 4: a running variance held in fp16 comes close to the largest fp16 number, where it becomes Inf by itself: with
`.half()` modules an input of standard deviation 300 is enough (mechanics 11). The series exists only where the buffer
is fp16."""

import msgspec
import numpy as np

from trainvitals import wire
from trainvitals_server.rules.block import Block, Finding, select
from trainvitals_server.rules.levels import changes, graded

RULE = "half_variance"
TITLE = "Half-precision variance near its limit"

# Level: fires below, clears from, of 65504 / variance; so it warns above 16,376 and is critical above 32,752.
WARNING, CRITICAL = (4.0, 6.0), (2.0, 3.0)


class State(msgspec.Struct, frozen=True):
    """The level (1 warning, 2 critical) of each layer that is not at ease."""

    levels: dict[str, int] = {}


def fold(state: State, block: Block) -> tuple[State, list[Finding]]:
    """Judge the variance rooms of a block. NaN is rule 13's business."""
    rooms = select(block, wire.NORM, wire.VAR_ROOM)
    if not rooms.values.size:
        return state, []
    before = np.array([state.levels.get(layer, 0) for layer in rooms.layers])
    levels = graded(before, rooms.values, (WARNING, CRITICAL))
    after = state.levels | dict(zip(rooms.layers, levels[-1].tolist(), strict=True))
    findings = [
        tell(rooms.layers[column], int(block.steps[row]), int(levels[row, column]), float(rooms.values[row, column]))
        for row, column in changes(before, levels)
    ]
    return State({layer: level for layer, level in after.items() if level}), findings


def tell(layer: str, step: int, level: int, room: float) -> Finding:
    """What to say about a layer that has come to `level`."""
    threshold = wire.FP16_MAX / (CRITICAL[0] if level == 2 else WARNING[0] if level else WARNING[1])
    variance = wire.FP16_MAX / room if room else np.inf
    if level:
        text = (
            f"A running variance of {layer}, held in fp16, reached {variance:,.0f} at step {step:,} "
            f"(above {threshold:,.0f}): at 65,504 it becomes Inf."
        )
    else:
        text = (
            f"The running variances of {layer} are down to {variance:,.0f} at step {step:,} (at most {threshold:,.0f})."
        )
    return Finding(
        rule=RULE,
        title=TITLE,
        layer=layer,
        step=step,
        severity="critical" if level == 2 else "warning",
        active=level > 0,
        value=variance,
        threshold=threshold,
        text=text,
    )
