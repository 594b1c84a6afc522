"""Training that goes wrong slowly, at a steepness one can choose, and loses its first finite number in the end.

Each ramp trains in good health for `START` steps, then something doubles every so many steps until it overflows. The
loss scale is 1 throughout, so that the first non-finite value is the ramp's and no back-off of the grad scaler, which
are part of every healthy run in mixed precision.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

START = 100  # steps
STEEPNESSES = (1, 2, 5, 10, 20, 40)  # steps per doubling
FP16 = torch.float16


@dataclass
class Run:
    """A training that can be watched: `step` does the n-th one, counted from 1, but for `watch.step`."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: Callable[[int], Tensor]
    scaler: torch.amp.GradScaler | None = None


Ramp = Callable[[float], Run]


def growth(n: int, doubling: float) -> float:
    """How much has grown up to step `n`: 1 until `START`."""
    return float(2 ** (max(0, n - START) / doubling))


def noise(n: int, *shape: int) -> Tensor:
    """The batch of step `n`, from 0 to 1."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(n))


def trained(model: nn.Module, batch: Callable[[int], Tensor], autocast: bool = True) -> Run:
    """The usual loop in float16: an L1 loss, clipping, SGD."""
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=1.0, growth_interval=100_000) if autocast else None

    def step(n: int) -> Tensor:
        x = batch(n)
        with torch.autocast("cpu", dtype=FP16, enabled=autocast):
            out = model(x)
        loss = (out.float() - 0.5).abs().mean()
        optimizer.zero_grad()
        if scaler is None:
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            scaler.step(optimizer)
            scaler.update()
        done: Tensor = loss.detach()
        return done

    return Run(model, optimizer, step, scaler)


def conv(inputs: int, outputs: int, norm: bool) -> list[nn.Module]:
    """A convolution, a BatchNorm if asked for, ReLU."""
    made: list[nn.Module] = [nn.Conv2d(inputs, outputs, 3, padding=1)]
    return [*made, nn.BatchNorm2d(outputs), nn.ReLU()] if norm else [*made, nn.ReLU()]


def scale_before_convolutions(doubling: float) -> Run:
    """Inputs grow in front of float16 convolutions that nothing normalises."""
    model = nn.Sequential(*conv(3, 8, False), *conv(8, 8, False), nn.Conv2d(8, 3, 3, padding=1))
    return trained(model, lambda n: noise(n, 2, 3, 8, 8) * growth(n, doubling))


def scale_before_batchnorm(doubling: float) -> Run:
    """The same in front of convolutions with BatchNorm."""
    model = nn.Sequential(*conv(3, 8, True), *conv(8, 8, True), nn.Conv2d(8, 3, 3, padding=1))
    return trained(model, lambda n: noise(n, 2, 3, 8, 8) * growth(n, doubling))


def offset_before_batchnorm(doubling: float) -> Run:
    """A constant added to the input grows; BatchNorm takes it away again, up to the overflow. Kernels of 1 x 1, so that
    no border of zeros turns it into variance."""
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 1))
    return trained(model, lambda n: noise(n, 2, 3, 8, 8) + growth(n, doubling) - 1)


class Fourier(nn.Module):
    """A spectral branch as in the user's network: the transform in float32, its convolution in float16."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(nn.Conv2d(2 * channels, 2 * channels, 1, bias=False), nn.BatchNorm2d(2 * channels))

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, C, H, W] to features of the same shape."""
        with torch.autocast("cpu", enabled=False):
            spectrum = torch.fft.rfft2(x.float())
        mixed = self.mix(torch.cat((spectrum.real, spectrum.imag), dim=1))
        with torch.autocast("cpu", enabled=False):
            real, imaginary = mixed.float().chunk(2, dim=1)
            back: Tensor = torch.fft.irfft2(torch.complex(real, imaginary), s=x.shape[-2:], norm="ortho")
        return back


def offset_before_fourier(doubling: float) -> Run:
    """The user's story: the mean of an image is one element of its spectrum, multiplied by the number of pixels."""
    model = nn.Sequential(Fourier(3), *conv(3, 8, True), nn.Conv2d(8, 3, 3, padding=1))
    return trained(model, lambda n: noise(n, 2, 3, 8, 8) + growth(n, doubling) - 1)


def variance_in_half(doubling: float) -> Run:
    """A `.half()` network: the running variance itself is float16, and overflows at a standard deviation of 256."""
    model = nn.Sequential(nn.BatchNorm2d(3), *conv(3, 8, True), nn.Conv2d(8, 3, 3, padding=1)).half()
    return trained(model, lambda n: ((noise(n, 2, 3, 8, 8) * 4 - 2) * growth(n, doubling)).half(), autocast=False)


def learning_rate_too_high(doubling: float) -> Run:
    """A rate beyond what the loss's curvature bears: the error along its steepest direction grows with each step."""
    x = torch.randn(32, 8, generator=torch.Generator().manual_seed(0))
    target = torch.randn(32, 4, generator=torch.Generator().manual_seed(1))
    first, head = nn.Linear(8, 4, bias=False), nn.Linear(4, 4, bias=False)
    head.weight = nn.Parameter(torch.eye(4), requires_grad=False)
    model = nn.Sequential(first, head)
    optimizer = torch.optim.SGD(first.parameters(), 0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1.0, growth_interval=100_000)
    curvature = float(torch.linalg.eigvalsh(2 * x.T @ x / target.numel()).max())

    def step(n: int) -> Tensor:
        factor = 2 ** (1 / doubling)
        optimizer.param_groups[0]["lr"] = (1.0 if n <= START else 1 + factor) / curvature
        with torch.autocast("cpu", dtype=FP16):
            out = model(x)
        loss = ((out.float() - target) ** 2).mean()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        done: Tensor = loss.detach()
        return done

    return Run(model, optimizer, step, scaler)


RAMPS: dict[str, Ramp] = {
    "input scale, fp16 convolutions": scale_before_convolutions,
    "input scale, fp16 convolutions with BatchNorm": scale_before_batchnorm,
    "offset, fp16 convolution and BatchNorm": offset_before_batchnorm,
    "offset, FFT, fp16 convolution and BatchNorm": offset_before_fourier,
    "input scale, half-precision BatchNorm": variance_in_half,
    "learning rate too high, fp16 linear layers": learning_rate_too_high,
}
