"""The WaveSSM network: encoder, Fourier refinement at two scales, gated state-space scan, decoder, residual output.

Tensors are [batch, channels, height, width]. Images are scene-linear, with diffuse white at `data.WHITE`; both sides
must be multiples of 4. Run it under float16 autocast: the transforms and the scan leave it, everything else stays in.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class SpectralTransform(nn.Module):
    """Mixes channels frequency by frequency: a 1x1 convolution on the real and imaginary parts of the spectrum.

    The forward transform is not normalised, as is usual: its DC term is a sum over all pixels. It is computed in
    float32, but the convolution behind it takes float16, whose largest value is 65504.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            nn.Conv2d(2 * channels, 2 * channels, 1, bias=False), nn.BatchNorm2d(2 * channels), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, C, H, W] to float32 features of the same shape."""
        with torch.autocast(x.device.type, enabled=False):
            spectrum = torch.fft.rfft2(x.float())
        mixed = self.mix(torch.cat((spectrum.real, spectrum.imag), dim=1))
        with torch.autocast(x.device.type, enabled=False):
            real, imaginary = mixed.float().chunk(2, dim=1)
            # BatchNorm has brought the spectrum to unit variance, so the way back is the one that keeps it.
            features: Tensor = torch.fft.irfft2(torch.complex(real, imaginary), s=x.shape[-2:], norm="ortho")
        return features


class WaveFFC(nn.Module):
    """Fast Fourier convolution: a global view from the spectral branch, merged by a local convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.local_conv = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.spectral = SpectralTransform(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, C, H, W] to features of the same shape."""
        merged: Tensor = self.local_conv(x + self.spectral(x))
        return merged


class RefinementScale(nn.Module):
    """One scale: the features averaged over `factor` x `factor` pixels, refined, added back at full size."""

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.ffc = WaveFFC(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, C, H, W], both sides multiples of `factor`, to features of the same shape."""
        refined = self.ffc(functional.avg_pool2d(x, self.factor))
        return x + functional.interpolate(refined, scale_factor=self.factor, mode="nearest")


class Refinement(nn.Module):
    """The scales, from fine to coarse, one after the other."""

    def __init__(self, channels: int, factors: tuple[int, ...] = (1, 2)) -> None:
        super().__init__()
        self.scales = nn.ModuleList(RefinementScale(channels, factor) for factor in factors)

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, C, H, W] to features of the same shape."""
        for scale in self.scales:
            x = scale(x)
        return x


class GatedScan(nn.Module):
    """A diagonal state-space model along rows and along columns, let in by a gate.

    Per channel, h[t] = a h[t-1] + (1 - a) x[t] with a learned decay a in (0, 1), computed in its convolutional form: a
    product with the lower-triangular matrix (1 - a) a^(t - s). In float32, as powers of a vanish in float16.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.linspace(-1.0, 2.0, channels))  # before the sigmoid
        self.gate = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, C, H, W] to features of the same shape."""
        gate = torch.sigmoid(self.gate(x))
        with torch.autocast(x.device.type, enabled=False):
            wide = x.float()
            rows = torch.einsum("cts,bchs->bcht", self._kernel(x.shape[-1]), wide)
            columns = torch.einsum("cts,bcsw->bctw", self._kernel(x.shape[-2]), wide)
        return x + gate * (rows + columns - 2 * wide)

    def _kernel(self, length: int) -> Tensor:
        """[C, length, length]: what the state at t holds of the input at s."""
        decay = torch.sigmoid(self.decay)[:, None, None]
        steps = torch.arange(length, device=decay.device)
        lag = (steps[:, None] - steps[None, :]).float()
        return torch.tril((1 - decay) * decay ** lag.clamp(min=0))


class WaveSSM(nn.Module):
    """Degraded image [B, 3, H, W] in, restored image of the same shape out, in float32."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, channels, 3, padding=1), nn.ReLU())
        self.refinement_ffc = Refinement(channels)
        self.scan = GatedScan(channels)
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            _zero_conv(channels, 12),
            nn.PixelShuffle(2),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] scene-linear to the same."""
        features = self.scan(self.refinement_ffc(self.encoder(x)))
        residual: Tensor = self.decoder(features)
        return x + residual.float()


def _zero_conv(channels: int, out: int) -> nn.Conv2d:
    """A last layer of zeros: the untrained network returns its input, and training can only improve on that."""
    conv = nn.Conv2d(channels, out, 3, padding=1)
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv
