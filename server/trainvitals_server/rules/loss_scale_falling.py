"""Rule 8: the grad scaler backs off again and again."""

import msgspec
import numpy as np

from trainvitals import wire
from trainvitals_server.rules.block import Block, Finding, signal
from trainvitals_server.rules.levels import Window, changes, latch

RULE = "loss_scale_falling"
TITLE = "Loss scale falling"

BACKOFFS = 3  # fires at; clears when none is left in the window
WIDTH = 100  # observed frames


class State(msgspec.Struct, frozen=True):
    """The last scale, the back-offs in reach, and whether the rule has fired."""

    scale: float | None = None
    window: Window = Window()
    active: bool = False


def fold(state: State, block: Block) -> tuple[State, list[Finding]]:
    """Judge the loss scale of a block."""
    steps, scales = signal(block, wire.LOSS_SCALE)
    steps, scales = steps[np.isfinite(scales)], scales[np.isfinite(scales)]
    if not len(steps):
        return state, []
    previous = np.concatenate([[scales[0] if state.scale is None else state.scale], scales[:-1]])
    fell = scales < previous
    if not fell.any() and not state.window.hits and not state.active:
        return State(float(scales[-1]), state.window.pass_by(len(fell))), []  # the usual case
    window, counts = state.window.count(fell, WIDTH)
    before = np.array([state.active])
    active = latch(before, counts[:, None] >= BACKOFFS, counts[:, None] == 0)
    findings = [
        tell(int(steps[row]), bool(active[row, 0]), int(counts[row]), float(scales[row]))
        for row, _ in changes(before.astype(np.int64), active.astype(np.int64))
    ]
    return State(float(scales[-1]), window, bool(active[-1, 0])), findings


def tell(step: int, active: bool, count: int, scale: float) -> Finding:
    """What to say when the rule fires or clears."""
    fell = f"The loss scale fell {count} times within {WIDTH} steps (limit {BACKOFFS}), to {scale:g} at step {step:,}."
    held = f"The loss scale has not fallen for {WIDTH} steps; it is {scale:g} at step {step:,}."
    return Finding(
        rule=RULE,
        title=TITLE,
        layer="",
        step=step,
        severity="warning",
        active=active,
        value=float(count),
        threshold=float(BACKOFFS),
        text=fell if active else held,
    )
