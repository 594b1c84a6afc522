"""Rule 10: the loss scale is below 1, so gradients are made smaller than they are; training seldom comes back."""

import msgspec
import numpy as np

from trainvitals import wire
from trainvitals_server.rules.block import Block, Finding, signal
from trainvitals_server.rules.levels import changes, latch

RULE = "loss_scale_low"
TITLE = "Loss scale below 1"

FIRE, CLEAR = 1.0, 2.0  # fires below, clears from (one doubling of the scaler)


class State(msgspec.Struct, frozen=True):
    """Whether the rule has fired."""

    active: bool = False


def fold(state: State, block: Block) -> tuple[State, list[Finding]]:
    """Judge the loss scale of a block."""
    steps, scales = signal(block, wire.LOSS_SCALE)
    if not len(steps) or (not state.active and not (scales < FIRE).any()):
        return state, []
    before = np.array([state.active])
    active = latch(before, scales[:, None] < FIRE, scales[:, None] >= CLEAR)
    findings = [
        tell(int(steps[row]), bool(active[row, 0]), float(scales[row]))
        for row, _ in changes(before.astype(np.int64), active.astype(np.int64))
    ]
    return State(bool(active[-1, 0])), findings


def tell(step: int, active: bool, scale: float) -> Finding:
    """What to say when the rule fires or clears."""
    threshold = FIRE if active else CLEAR
    low = f"The loss scale is {scale:g} at step {step:,} (below {FIRE:g}): steps overflow even without scaling."
    high = f"The loss scale is {scale:g} again at step {step:,} (at least {CLEAR:g})."
    return Finding(
        rule=RULE,
        title=TITLE,
        layer="",
        step=step,
        severity="critical",
        active=active,
        value=scale,
        threshold=threshold,
        text=low if active else high,
    )
