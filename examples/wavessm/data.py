"""Batches of degraded and clean crops, and the light they were taken in.

A batch is a pure function of (seed, step): a resumed run sees the batches it would have seen, and two runs of one seed
see the same ones. Before each bad step the exposure of the brightest frame of the batch climbs, and at the bad step
that frame is over-exposed by eight stops. Nothing in it is non-finite; it is merely bright, and training breaks all by
itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from skimage.filters import gaussian
from torch import Tensor

from .photographs import CROP, WHITE, Image

BLUR = 0.9  # standard deviation, pixels
NOISE = 0.06  # standard deviation, in units of white
CLIMB_STEPS = 16  # steps before a bad one in which the exposure climbs
CLIMB_GAIN = 6.0  # the gain reached at the end of the climb
OVEREXPOSED = 256.0  # eight stops


class Pair(NamedTuple):
    """What the network sees and what it should return, both float32 [B, 3, CROP, CROP]."""

    degraded: Tensor
    clean: Tensor


def gain_at(step: int, bad_steps: Sequence[int]) -> float:
    """The gain of the brightest frame of the batch at `step`; 1 for the other frames, and far from a bad step."""
    if step in bad_steps:
        return OVEREXPOSED
    ahead = min((bad - step for bad in bad_steps if bad > step), default=CLIMB_STEPS)
    return float(CLIMB_GAIN ** max(0.0, 1.0 - ahead / CLIMB_STEPS))


def degrade(clean: Image, rng: np.random.Generator) -> Image:
    """The image blurred by the lens, with the sensor's noise. The noise does not grow with the exposure."""
    blurred = gaussian(clean, sigma=BLUR, channel_axis=-1, preserve_range=True)  # type: ignore[no-untyped-call]
    return np.asarray(blurred + rng.normal(0.0, NOISE * WHITE, clean.shape), dtype=np.float32)


@dataclass(frozen=True)
class TrainingBatches:
    """Batch `step` of a run, for any step; not an iterator, so that nothing has to be skipped on resuming."""

    images: Sequence[Image]
    batch_size: int
    seed: int
    bad_steps: Sequence[int] = ()

    def __getitem__(self, step: int) -> Pair:
        rng = np.random.default_rng((self.seed, step))
        crops = [_crop(self.images[int(rng.integers(len(self.images)))], rng) for _ in range(self.batch_size)]
        brightest = int(np.argmax([crop.mean() for crop in crops]))
        crops[brightest] = crops[brightest] * np.float32(gain_at(step, self.bad_steps))
        return _pair(crops, rng)


@dataclass(frozen=True)
class ValidationBatches:
    """The same crops, normally exposed, at every validation and for every seed."""

    images: Sequence[Image]
    batch_size: int
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Pair]:
        for index in range(self.count):
            rng = np.random.default_rng(index)
            picks = [self.images[(index * self.batch_size + k) % len(self.images)] for k in range(self.batch_size)]
            yield _pair([_crop(image, rng) for image in picks], rng)


def _crop(image: Image, rng: np.random.Generator) -> Image:
    top, left = (int(rng.integers(side - CROP + 1)) for side in image.shape[:2])
    crop = image[top : top + CROP, left : left + CROP]
    return crop[:, ::-1] if rng.integers(2) else crop


def _pair(crops: Sequence[Image], rng: np.random.Generator) -> Pair:
    return Pair(_stack([degrade(crop, rng) for crop in crops]), _stack(crops))


def _stack(images: Sequence[Image]) -> Tensor:
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy())
