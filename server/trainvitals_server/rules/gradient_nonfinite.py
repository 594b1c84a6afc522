"""Rule 14: a gradient that is NaN or Inf in a step that was not skipped (bf16, fp32, or no grad scaler): the
optimizer has taken it into the weights."""

import msgspec
import numpy as np

from trainvitals import wire
from trainvitals_server.rules.block import Block, Bools, Columns, Finding, select, skipped, somewhere
from trainvitals_server.rules.levels import Hold

RULE = "gradient_nonfinite"
TITLE = "Non-finite gradient in a step that was taken"

RELEASE = 20  # observed finite steps in a row to clear


class State(msgspec.Struct, frozen=True):
    """Whether the rule has fired, and for how long gradients have been finite since."""

    hold: Hold = Hold()


def fold(state: State, block: Block) -> tuple[State, list[Finding]]:
    """Judge the gradient norms of a block: of single parameters, and of the whole run."""
    single, total = (select(block, kind, wire.GRAD_NORM) for kind in (wire.PARAMETER, wire.RUN))
    wrong = nonfinite(single), nonfinite(total)
    if not state.hold.active and not wrong[0].any() and not wrong[1].any():
        return state, []  # the usual case, at a fraction of the cost
    skips = skipped(block)
    seen = somewhere(np.hstack((single.present, total.present))) & ~skips
    bad = somewhere(np.hstack(wrong))[seen]
    steps, where = block.steps[seen], wrong[0][seen]
    hold, rows = state.hold.observe(steps, bad, RELEASE)
    findings = [fire(int(steps[row]), single, where[row]) if bad[row] else clear(int(steps[row])) for row in rows]
    return State(hold), findings


def nonfinite(columns: Columns) -> Bools:
    """Which present values are NaN or Inf, bool[n, k]."""
    return columns.present & ~np.isfinite(columns.values)


def fire(step: int, single: Columns, bad: Bools) -> Finding:
    """What to say when it happened. Backward runs from the last layer to the first: the last one was met first."""
    names = [single.layers[place] for place in np.flatnonzero(bad)]
    if names:
        what = f"The gradients of {len(names)} of {len(single.layers)} parameters were non-finite"
        where = f"; backward met {names[-1]} first"
    else:
        what, where = "The total gradient norm was non-finite", ""
    text = f"{what} at step {step:,}, and the step was taken{where}: the weights may be corrupt."
    return say(step, True, float(max(len(names), 1)), text)


def clear(step: int) -> Finding:
    """What to say when gradients have been finite for a while."""
    return say(step, False, 0.0, f"All gradients have been finite for {RELEASE} steps at step {step:,}.")


def say(step: int, active: bool, value: float, text: str) -> Finding:
    """The finding; its value is the number of parameters concerned."""
    return Finding(
        rule=RULE,
        title=TITLE,
        layer="",
        step=step,
        severity="critical",
        active=active,
        value=value,
        threshold=0.0,
        text=text,
    )
