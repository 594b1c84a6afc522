"""What the trainers of the load tell: 400 columns as a mid-sized convolutional network under fp16 has them, and values
like those of a healthy run."""

import numpy as np
from numpy.typing import NDArray

from trainvitals import wire

PARAMETERS, NORMS, INPUTS = 100, 40, 12
RUN = (
    wire.LOSS,
    wire.GRAD_NORM,
    wire.CLIP_RATIO,
    wire.LEARNING_RATE,
    wire.LOSS_SCALE,
    wire.SKIPPED,
    wire.STEP_TIME,
    wire.HOOK_TIME,
)
STATS = (*wire.NORM_STATS, wire.BATCH_SHIFT)
SAMPLED = 20  # headroom is sampled every so many steps; else it is absent
POOL = 200  # steps until the values come again
LAYOUT = 0

# Typical values; NONFINITE_CHANNELS and the like are 0 in a healthy run.
TYPICAL = {wire.MEAN_MIN: -0.5, wire.MEAN_MAX: 0.5, wire.VAR_MIN: 0.3, wire.VAR_MAX: 2.0, wire.BATCH_SHIFT: 0.4}


def columns() -> list[tuple[str, str, str]]:
    """Layer, kind and statistic of each column."""
    found = [("", wire.RUN, stat) for stat in RUN]
    found += [(f"block.{i // 4}.conv{i % 4}.weight", wire.PARAMETER, wire.GRAD_NORM) for i in range(PARAMETERS)]
    found += [(f"block.{i // 2}.bn{i % 2}", wire.NORM, stat) for i in range(NORMS) for stat in STATS]
    return found + [(f"block.{i}.conv0", wire.INPUT, wire.HEADROOM) for i in range(INPUTS)]


def layout() -> bytes:
    """The layout record, encoded."""
    series = [wire.Series(place, *column, place) for place, column in enumerate(columns())]
    return wire.encode(wire.Layout(id=LAYOUT, offset=0, total=len(series), series=series))


def values(steps: int, seed: int = 0) -> NDArray[np.float32]:
    """Rows of values, float32[steps, 400]: each wanders around what is typical of its statistic."""
    noise = np.random.default_rng(seed)
    typical = np.array([_typical(*column) for column in columns()])
    wander = np.cumsum(noise.standard_normal((steps, len(typical))), axis=0) * 0.01
    return (typical * np.exp(np.clip(wander, -0.5, 0.5))).astype(np.float32)


def _typical(layer: str, kind: str, stat: str) -> float:
    if kind == wire.INPUT:
        return 500.0
    if kind == wire.PARAMETER:
        return 0.05
    by_run = {wire.LOSS: 1.0, wire.LOSS_SCALE: 0.0, wire.SKIPPED: 0.0, wire.LEARNING_RATE: 1e-3}
    return by_run.get(stat, 0.1) if kind == wire.RUN else TYPICAL.get(stat, 0.0)


class Source:
    """One trainer's frames, encoded, one after another."""

    def __init__(self, seed: int) -> None:
        rows = values(POOL, seed)
        rows[:, RUN.index(wire.LOSS_SCALE)] = 65536.0
        self.step = 0
        self._rows = [row.astype("<f4").tobytes() for row in rows]
        there = np.ones(rows.shape[1], np.bool_)
        there[-INPUTS:] = False
        self._partly = np.packbits(there, bitorder="little").tobytes()

    def frame(self, time: float) -> bytes:
        """The next step's, taken at `time` (Unix seconds)."""
        self.step += 1
        values = self._rows[self.step % POOL]
        present = None if self.step % SAMPLED == 0 else self._partly
        return wire.encode(wire.Frame(layout=LAYOUT, step=self.step, time=time, values=values, present=present))
