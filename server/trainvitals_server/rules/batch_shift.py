"""Rule 3: batch after batch lies far from a layer's running mean: more than 10 of its own standard deviations in 3 of
10 observed steps. One such batch is an outlier, several are a ramp. The trainer de-averages it (mechanics 14), and
tells it only while the layer's averages have settled."""

import msgspec
import numpy as np

from trainvitals import wire
from trainvitals_server.rules.block import Block, Bools, Finding, Floats, Ints, select
from trainvitals_server.rules.levels import changes, latch, sliding

RULE = "batch_shift"
TITLE = "Batches far from the running mean"

FAR, NEAR = 10.0, 5.0  # standard deviations: fires above, clears when none is above
WIDTH, ENOUGH = 10, 3  # observed frames, and how many of them


class State(msgspec.Struct, frozen=True):
    """How far (2 beyond FAR, 1 beyond NEAR, else 0) the last frames' batches were of each layer where any was, and who
    has fired."""

    recent: dict[str, list[int]] = {}
    active: list[str] = []


def fold(state: State, block: Block) -> tuple[State, list[Finding]]:
    """Judge the batch shifts of a block. What is not finite says nothing."""
    shifts = select(block, wire.NORM, wire.BATCH_SHIFT)
    if not shifts.values.size:
        return state, []
    if not state.recent and not state.active and not (shifts.values > NEAR).any():
        return state, []  # the usual case, at a fraction of the cost
    grades = np.vstack([past(state, shifts.layers), grade(shifts.values)])
    counts = sliding((grades == 2).astype(np.int64), WIDTH, np.add)
    before = np.array([layer in state.active for layer in shifts.layers])
    active = latch(before, counts >= ENOUGH, sliding(grades, WIDTH, np.maximum) == 0)
    findings = [
        tell(shifts.layers[place], int(block.steps[row]), bool(active[row, place]), float(shifts.values[row, place]))
        for row, place in changes(before.astype(np.int64), active.astype(np.int64))
    ]
    return remember(state, shifts.layers, grades[-(WIDTH - 1) :], active[-1]), findings


def past(state: State, layers: tuple[str, ...]) -> Ints:
    """The grades of the last WIDTH - 1 frames before the block, one column per layer."""
    return np.array([state.recent.get(layer, [0] * (WIDTH - 1)) for layer in layers], dtype=np.int64).T


def grade(values: Floats) -> Ints:
    """How far each batch was; NaN compares as nothing, and Inf is left out."""
    finite = np.isfinite(values)
    return ((values > NEAR) & finite).astype(np.int64) + ((values > FAR) & finite)


def remember(state: State, layers: tuple[str, ...], last: Ints, active: Bools) -> State:
    """The state after the block: of calm layers nothing."""
    recent = {layer: row for layer, row in state.recent.items() if layer not in layers}
    recent |= {layer: last[:, place].tolist() for place, layer in enumerate(layers) if last[:, place].any()}
    elsewhere = [layer for layer in state.active if layer not in layers]
    return State(recent, elsewhere + [layer for layer, on in zip(layers, active.tolist(), strict=True) if on])


def tell(layer: str, step: int, active: bool, shift: float) -> Finding:
    """What to say when the rule fires or clears."""
    far = (
        f"The batch of step {step:,} lay {shift:.3g} standard deviations from the running mean of {layer}, "
        f"as did others just before (limit {FAR:g}, in {ENOUGH} of {WIDTH} steps)."
    )
    near = (
        f"No batch has been far from the running mean of {layer} for {WIDTH} steps, at step {step:,} "
        f"(at most {NEAR:g})."
    )
    return Finding(
        rule=RULE,
        title=TITLE,
        layer=layer,
        step=step,
        severity="warning",
        active=active,
        value=0.0 if np.isnan(shift) else shift,
        threshold=FAR if active else NEAR,
        text=far if active else near,
    )
