"""Rule 2: a layer's largest running variance doubles three times within 50 observed steps. Only while the layer is
armed, which the trainer tells by the presence of its batch shift: otherwise every healthy start-up would fire.

No step counts for more than half a doubling. With heavy-tailed inputs a single batch raises a running variance 25
times, but then it falls again, where a ramp goes on. Of the healthy runs of benchmarks/early_warning.py the two with
such inputs gave 7 false alarms with no such limit, 2 with a limit of one doubling, and none with this.
"""

from functools import lru_cache
from typing import NamedTuple

import msgspec
import numpy as np

from trainvitals import wire
from trainvitals_server.rules.block import Block, Columns, Finding, Floats, Ints, select
from trainvitals_server.rules.levels import changes, latch, sliding

RULE = "variance_slope"
TITLE = "Running variance rising fast"

WIDTH = 50  # observed frames
FIRE, CLEAR = 3.0, 1.0  # doublings within them
MOST = 0.5  # doublings that a single step may contribute
FLOOR = 1e-2  # a variance that rises from nothing to this has not risen
GRAIN = 1024.0  # changes are rounded to this part of a doubling, so that sums of them are exact


class State(msgspec.Struct, frozen=True):
    """Of each layer that was ever armed, by name: its changes in the last WIDTH - 2 frames, in doublings (float32
    [WIDTH - 2, layers]), and the level they led to (float64). And who has fired."""

    layers: tuple[str, ...] = ()
    changes: bytes = b""
    levels: bytes = b""
    active: list[str] = []


class Past(NamedTuple):
    """A state's arrays, with a column for each layer that it or the block has."""

    layers: tuple[str, ...]
    changes: Floats
    levels: Floats


def fold(state: State, block: Block) -> tuple[State, list[Finding]]:
    """Judge the running variances of a block."""
    variances = select(block, wire.NORM, wire.VAR_MAX)
    if not variances.values.size:
        return state, []
    past, own = recall(state, variances.layers)
    levels = fill(measure(block, variances), past.levels[own])
    moves = np.nan_to_num(np.round(np.minimum(np.diff(levels, axis=0), MOST) * GRAIN) / GRAIN)
    moves = np.vstack([past.changes[:, own], moves])
    active, findings = state.active, list[Finding]()
    if active or np.maximum(moves, 0.0).sum(axis=0).max() >= FIRE:  # else nothing can have risen so far
        active, findings = follow(state, block, variances, moves)
    past.changes[:, own] = moves[-(WIDTH - 2) :]
    past.levels[own] = levels[-1]
    return remember(past, active), findings


def follow(state: State, block: Block, variances: Columns, moves: Floats) -> tuple[list[str], list[Finding]]:
    """Who has fired after the block, and what to say about it."""
    path = np.vstack([np.zeros((1, moves.shape[1])), np.cumsum(moves, axis=0)])
    rises = path[WIDTH - 1 :] - sliding(path, WIDTH, np.minimum)
    fired = np.array([layer in state.active for layer in variances.layers])
    active = latch(fired, rises >= FIRE, rises < CLEAR)
    findings = [
        tell(variances.layers[place], int(block.steps[row]), bool(active[row, place]), float(rises[row, place]))
        for row, place in changes(fired.astype(np.int64), active.astype(np.int64))
    ]
    elsewhere = [layer for layer in state.active if layer not in variances.layers]
    here = [layer for layer, on in zip(variances.layers, active[-1].tolist(), strict=True) if on]
    return elsewhere + here, findings


def measure(block: Block, variances: Columns) -> Floats:
    """log2 of the variances where they are finite and the layer is armed, else NaN."""
    shifts = select(block, wire.NORM, wire.BATCH_SHIFT)
    if shifts.layers == variances.layers:
        armed = shifts.present
    else:
        armed = np.zeros(variances.values.shape, dtype=bool)
        places = {layer: place for place, layer in enumerate(shifts.layers)}
        for column, layer in enumerate(variances.layers):
            if layer in places:
                armed[:, column] = shifts.present[:, places[layer]]
    known = armed & np.isfinite(variances.values) & (variances.values >= 0)
    return np.where(known, np.log2(np.maximum(np.where(known, variances.values, 1.0), FLOOR)), np.nan)


def fill(levels: Floats, before: Floats) -> Floats:
    """The level before the block, then those of its rows; where one is not known, the last that was: [n + 1, k]."""
    rows = np.vstack([before, levels])
    missing = np.isnan(rows)
    if not missing.any():
        return rows
    newest = np.where(missing, 0, np.arange(len(rows))[:, None])
    return np.take_along_axis(rows, np.maximum.accumulate(newest, axis=0), axis=0)


@lru_cache(maxsize=256)
def places(known: tuple[str, ...], seen: tuple[str, ...]) -> tuple[tuple[str, ...], Ints, Ints]:
    """All the layers by name, and the places among them of the known ones and of those seen now."""
    layers = tuple(sorted({*known, *seen}))
    place = {layer: i for i, layer in enumerate(layers)}
    return layers, np.array([place[one] for one in known], np.intp), np.array([place[one] for one in seen], np.intp)


def recall(state: State, seen: tuple[str, ...]) -> tuple[Past, Ints]:
    """What is known of the layers, those seen now included, and the columns of these."""
    layers, old, own = places(state.layers, seen)
    past = Past(layers, np.zeros((WIDTH - 2, len(layers))), np.full(len(layers), np.nan))
    past.changes[:, old] = np.frombuffer(state.changes, "<f4").reshape(WIDTH - 2, len(old))
    past.levels[old] = np.frombuffer(state.levels, "<f8")
    return past, own


def remember(past: Past, active: list[str]) -> State:
    """The state after the block; of a layer that was never armed there is nothing."""
    layers, moves, levels = past
    known = ~np.isnan(levels)
    if not known.all():
        layers = tuple(layer for layer, there in zip(layers, known.tolist(), strict=True) if there)
        moves, levels = moves[:, known], levels[known]
    return State(layers, moves.astype("<f4").tobytes(), levels.astype("<f8").tobytes(), active)


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
