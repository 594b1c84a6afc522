"""How well images are restored: PSNR and SSIM, both from scikit-image, and the degraded input to compare with."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from .photographs import WHITE


class Score(NamedTuple):
    """PSNR in dB and SSIM in [-1, 1], each the mean over the images of a batch."""

    psnr: float
    ssim: float


def score(restored: Tensor, clean: Tensor) -> Score:
    """Scores finite images [B, 3, H, W] with white at `WHITE`, after clipping to what a display can show."""
    pairs = list(zip(_displayable(restored), _displayable(clean), strict=True))
    psnr = [peak_signal_noise_ratio(b, a, data_range=1.0) for a, b in pairs]  # type: ignore[no-untyped-call]
    ssim = [structural_similarity(a, b, channel_axis=-1, data_range=1.0) for a, b in pairs]  # type: ignore[no-untyped-call]
    return Score(float(np.mean(psnr)), float(np.mean(ssim)))


def mean_score(scores: list[Score]) -> Score | None:
    """The mean over batches, or None where no batch was valid."""
    return Score(*np.mean(scores, axis=0).tolist()) if scores else None


def _displayable(images: Tensor) -> NDArray[np.float64]:
    """[B, H, W, 3] in [0, 1]."""
    return np.clip(images.detach().double().cpu().numpy().transpose(0, 2, 3, 1) / WHITE, 0.0, 1.0)
