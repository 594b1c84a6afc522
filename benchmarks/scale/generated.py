"""A run that is made as it goes: 500 layers x 4 statistics, each curve with a size, a drift and noise of its own.

Values are full-precision float32, so what compresses is what compresses in a real run: signs and exponents. Now and
then one is NaN, infinite or a spike.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trainvitals import wire

STATS = (
    (wire.PARAMETER, wire.GRAD_NORM),
    (wire.NORM, wire.VAR_MAX),
    (wire.NORM, wire.VAR_MIN),
    (wire.NORM, wire.MEAN_MAX),
)
PLANTED = (np.nan, np.inf, -np.inf, 6e4)
PER_BATCH = 30  # frames of 2,000 values in one message of at most 256 KiB
FAULTS = 1e-6  # of all values


def layouts(layers: int) -> list[wire.Layout]:
    """The declaration of `layers` x 4 series, in pieces as the wire wants them."""
    series = [
        wire.Series(place * len(STATS) + which, f"stage{place // 50}.block{place % 50}.layer", kind, stat, place)
        for place in range(layers)
        for which, (kind, stat) in enumerate(STATS)
    ]
    pieces = range(0, len(series), 500)
    return [wire.Layout(id=1, offset=at, total=len(series), series=series[at : at + 500]) for at in pieces]


def values(steps: int, layers: int, seed: int = 0) -> Iterator[NDArray[np.float32]]:
    """Frames of all steps, `PER_BATCH` at a time: float32[n, layers * 4]."""
    random = np.random.default_rng(seed)
    width = layers * len(STATS)
    size = np.exp(random.normal(size=width)).astype(np.float32)
    drift = np.zeros(width, np.float32)
    for at in range(0, steps, PER_BATCH):
        n = min(PER_BATCH, steps - at)
        noise = random.standard_normal((n, width), np.float32)
        drift += 0.02 * noise[0]
        block = size * (1 + 0.1 * np.tanh(drift) + 0.05 * noise)
        some = random.random(n) < FAULTS * width
        if some.any():
            rows = np.flatnonzero(some)
            block[rows, random.integers(width, size=len(rows))] = random.choice(
                [np.nan, np.inf, -np.inf, 6e4], len(rows)
            )
        yield block


def batches(steps: int, layers: int) -> Iterator[list[bytes]]:
    """The records of a whole run, a batch at a time."""
    yield [wire.encode(piece) for piece in layouts(layers)]
    step = 0
    for block in values(steps, layers):
        plain = block.astype("<f4", copy=False)
        yield [
            wire.encode(wire.Frame(layout=1, step=step + row, time=1.7e9 + 0.25 * (step + row), values=one.tobytes()))
            for row, one in enumerate(plain)
        ]
        step += len(block)
