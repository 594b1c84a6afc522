"""Rule 2: a layer's largest running variance doubles three times within 50 observed steps. Only while the layer is
armed, which the trainer tells by the presence of its batch shift: otherwise every healthy start-up would fire.

No step counts for more than half a doubling. With heavy-tailed inputs a single batch raises a running variance 25
times, but then it falls again, where a ramp goes on. Of the healthy runs of benchmarks/early_warning.py the two with
such inputs gave 7 false alarms with no such limit, 2 with a limit of one doubling, and none with this.
"""

import msgspec
import numpy as np

from trainvitals import wire
from trainvitals_server.rules.block import Block, Bools, Columns, Finding, Floats, select
from trainvitals_server.rules.levels import changes, latch, sliding

RULE = "variance_slope"
TITLE = "Running variance rising fast"

WIDTH = 50  # observed frames
FIRE, CLEAR = 3.0, 1.0  # doublings within them
MOST = 0.5  # doublings that a single step may contribute
FLOOR = 1e-2  # a variance that rises from nothing to this has not risen
GRAIN = 1024.0  # changes are rounded to this part of a doubling, so that sums of them are exact


class Past(msgspec.Struct, frozen=True):
    """A layer's changes in the last WIDTH - 2 frames, in doublings (float32), and the level they led to."""

    changes: bytes
    level: float | None = None


class State(msgspec.Struct, frozen=True):
    """What is known of each layer's variance, and who has fired."""

    past: dict[str, Past] = {}
    active: list[str] = []


NOTHING = Past(np.zeros(WIDTH - 2, dtype="<f4").tobytes())


def fold(state: State, block: Block) -> tuple[State, list[Finding]]:
    """Judge the running variances of a block."""
    variances = select(block, wire.NORM, wire.VAR_MAX)
    if not variances.values.size:
        return state, []
    pasts = [state.past.get(layer, NOTHING) for layer in variances.layers]
    levels = fill(measure(block, variances), pasts)
    moves = np.nan_to_num(np.round(np.minimum(np.diff(levels, axis=0), MOST) * GRAIN) / GRAIN)
    before = np.stack([np.frombuffer(past.changes, dtype="<f4") for past in pasts], axis=1)
    moves = np.vstack([before, moves])
    path = np.vstack([np.zeros((1, len(pasts))), np.cumsum(moves, axis=0)])
    rises = path[WIDTH - 1 :] - sliding(path, WIDTH, np.minimum)
    fired = np.array([layer in state.active for layer in variances.layers])
    active = latch(fired, rises >= FIRE, rises < CLEAR)
    findings = [
        tell(variances.layers[place], int(block.steps[row]), bool(active[row, place]), float(rises[row, place]))
        for row, place in changes(fired.astype(np.int64), active.astype(np.int64))
    ]
    return remember(state, variances.layers, moves[-(WIDTH - 2) :], levels[-1], active[-1]), findings


def measure(block: Block, variances: Columns) -> Floats:
    """log2 of the variances where they are finite and the layer is armed, else NaN."""
    shifts = select(block, wire.NORM, wire.BATCH_SHIFT)
    places = {layer: place for place, layer in enumerate(shifts.layers)}
    armed = np.zeros(variances.values.shape, dtype=bool)
    for column, layer in enumerate(variances.layers):
        if layer in places:
            armed[:, column] = shifts.present[:, places[layer]]
    known = armed & np.isfinite(variances.values) & (variances.values >= 0)
    return np.where(known, np.log2(np.maximum(np.where(known, variances.values, 1.0), FLOOR)), np.nan)


def fill(levels: Floats, pasts: list[Past]) -> Floats:
    """The level before the block, then those of its rows; where one is not known, the last that was: [n + 1, k]."""
    rows = np.vstack([[np.nan if past.level is None else past.level for past in pasts], levels])
    newest = np.where(np.isnan(rows), 0, np.arange(len(rows))[:, None])
    return np.take_along_axis(rows, np.maximum.accumulate(newest, axis=0), axis=0)


def remember(state: State, layers: tuple[str, ...], moves: Floats, levels: Floats, active: Bools) -> State:
    """The state after the block; of a layer that was never armed there is nothing."""
    past = dict(state.past)
    for place, layer in enumerate(layers):
        if not np.isnan(levels[place]):
            past[layer] = Past(moves[:, place].astype("<f4").tobytes(), float(levels[place]))
    elsewhere = [layer for layer in state.active if layer not in layers]
    return State(past, elsewhere + [layer for layer, on in zip(layers, active.tolist(), strict=True) if on])


def tell(layer: str, step: int, active: bool, rise: float) -> Finding:
    """What to say when the rule fires or clears."""
    times = 2**rise
    rose = (
        f"The largest running variance of {layer} grew at least {times:.3g} times within {WIDTH} steps, up to step "
        f"{step:,} (limit {2**FIRE:g} times)."
    )
    calm = (
        f"The largest running variance of {layer} has come to rest at step {step:,} (less than {2**CLEAR:g} times "
        f"within {WIDTH} steps)."
    )
    return Finding(
        rule=RULE,
        title=TITLE,
        layer=layer,
        step=step,
        severity="warning",
        active=active,
        value=times,
        threshold=2**FIRE if active else 2**CLEAR,
        text=rose if active else calm,
    )
