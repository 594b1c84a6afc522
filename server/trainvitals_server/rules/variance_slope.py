"""Rule 2: a layer's largest running variance doubles three times within 50 observed steps. Only while the layer is
armed, which the trainer tells by the presence of its batch shift: otherwise every healthy start-up would fire."""

import msgspec
import numpy as np

from trainvitals import wire
from trainvitals_server.rules.block import Block, Bools, Columns, Finding, Floats, select
from trainvitals_server.rules.levels import changes, latch, sliding

RULE = "variance_slope"
TITLE = "Running variance rising fast"

WIDTH = 50  # observed frames
FIRE, CLEAR = 3.0, 1.0  # doublings within them
FLOOR = 1e-2  # a variance that rises from nothing to this has not risen


class State(msgspec.Struct, frozen=True):
    """log2 of each layer's variance in the last frames (float32, NaN where it was not armed), and who has fired."""

    history: dict[str, bytes] = {}
    active: list[str] = []


def fold(state: State, block: Block) -> tuple[State, list[Finding]]:
    """Judge the running variances of a block."""
    variances = select(block, wire.NORM, wire.VAR_MAX)
    if not variances.values.size:
        return state, []
    doublings = np.vstack([past(state, variances.layers), measure(block, variances)])
    lowest = sliding(doublings, WIDTH, np.fmin)
    now = doublings[WIDTH - 1 :]
    rises = now - lowest
    before = np.array([layer in state.active for layer in variances.layers])
    active = latch(before, rises >= FIRE, (rises < CLEAR) | np.isnan(lowest))
    findings = [
        tell(variances.layers[place], int(block.steps[row]), bool(active[row, place]), float(rises[row, place]))
        for row, place in changes(before.astype(np.int64), active.astype(np.int64))
    ]
    return remember(state, variances.layers, doublings[-(WIDTH - 1) :], active[-1]), findings


def past(state: State, layers: tuple[str, ...]) -> Floats:
    """The last WIDTH - 1 frames before the block, one column per layer."""
    nothing = np.full(WIDTH - 1, np.nan, dtype=np.float32)
    kept = [np.frombuffer(state.history[layer], dtype="<f4") if layer in state.history else nothing for layer in layers]
    return np.stack(kept, axis=1).astype(np.float64)


def measure(block: Block, variances: Columns) -> Floats:
    """log2 of the variances where they are finite and the layer is armed."""
    shifts = select(block, wire.NORM, wire.BATCH_SHIFT)
    places = {layer: place for place, layer in enumerate(shifts.layers)}
    armed = np.zeros(variances.values.shape, dtype=bool)
    for column, layer in enumerate(variances.layers):
        if layer in places:
            armed[:, column] = shifts.present[:, places[layer]]
    known = armed & np.isfinite(variances.values) & (variances.values >= 0)
    levels = np.log2(np.maximum(np.where(known, variances.values, 1.0), FLOOR))
    return np.where(known, levels, np.nan).astype(np.float32).astype(np.float64)


def remember(state: State, layers: tuple[str, ...], last: Floats, active: Bools) -> State:
    """The state after the block; a layer of which nothing is known any more is forgotten."""
    kept = {layer: last[:, place].astype("<f4") for place, layer in enumerate(layers)}
    history = {layer: values for layer, values in state.history.items() if layer not in kept}
    history |= {layer: values.tobytes() for layer, values in kept.items() if not np.isnan(values).all()}
    elsewhere = [layer for layer in state.active if layer not in kept]
    return State(history, elsewhere + [layer for layer, on in zip(layers, active.tolist(), strict=True) if on])


def tell(layer: str, step: int, active: bool, rise: float) -> Finding:
    """What to say when the rule fires or clears."""
    times = 0.0 if np.isnan(rise) else 2**rise
    rose = (
        f"The largest running variance of {layer} grew {times:.3g} times within {WIDTH} steps, up to step {step:,} "
        f"(limit {2**FIRE:g} times)."
    )
    if np.isnan(rise):
        calm = f"The running variances of {layer} are no longer compared at step {step:,}: they were written anew."
    else:
        calm = f"The running variances of {layer} have come to rest at step {step:,} (less than {2**CLEAR:g} times)."
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
