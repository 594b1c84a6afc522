"""Rule 17: the training loss is NaN or Inf."""

import math

import msgspec
import numpy as np

from trainvitals import wire
from trainvitals_server.rules.block import Block, Finding, signal
from trainvitals_server.rules.levels import Hold

RULE = "loss_nonfinite"
TITLE = "Loss non-finite"

RELEASE = 10  # observed finite losses in a row to clear


class State(msgspec.Struct, frozen=True):
    """Whether the rule has fired, and for how long the loss has been finite since."""

    hold: Hold = Hold()


def fold(state: State, block: Block) -> tuple[State, list[Finding]]:
    """Judge the loss of a block."""
    steps, losses = signal(block, wire.LOSS)
    bad = ~np.isfinite(losses)
    if not state.hold.active and not bad.any():
        return state, []  # the usual case
    hold, rows = state.hold.observe(steps, bad, RELEASE)
    return State(hold), [tell(int(steps[row]), bool(bad[row]), float(losses[row])) for row in rows]


def tell(step: int, bad: bool, loss: float) -> Finding:
    """What to say when the rule fires or clears."""
    gone = f"The loss was {'NaN' if math.isnan(loss) else 'Inf' if loss > 0 else '-Inf'} at step {step:,}."
    back = f"The loss has been finite for {RELEASE} steps at step {step:,}; it is {loss:.4g}."
    return Finding(
        rule=RULE,
        title=TITLE,
        layer="",
        step=step,
        severity="critical",
        active=bad,
        value=loss,
        threshold=math.inf,
        text=gone if bad else back,
    )
