"""The networks that are trained: a real one of few large tensors, and one of very many small ones."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

CLASSES = 10
CHANNELS = 16


class ResNet50(nn.Module):
    """The one of `transformers`, made from its configuration: 161 parameter tensors, 53 BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import ResNetConfig, ResNetForImageClassification  # noqa: PLC0415 - slow, and a peer's package

        self.inner = ResNetForImageClassification(ResNetConfig(num_labels=CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [batch, CLASSES] of images [batch, 3, height, width]."""
        logits: torch.Tensor = self.inner(pixel_values=x).logits
        return logits


class Block(nn.Module):
    """Convolution and BatchNorm beside the identity, which keeps a chain of thousands of them finite."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(CHANNELS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A tensor of the same shape."""
        return x + 0.1 * torch.relu(self.norm(self.conv(x)))


class ManyLayers(nn.Module):
    """`blocks` of them in a row: 3 * blocks + 4 parameter tensors."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        stem = nn.Conv2d(3, CHANNELS, 3, padding=1)
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, CLASSES)]
        self.layers = nn.Sequential(stem, *(Block() for _ in range(blocks)), *head)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [batch, CLASSES] of images [batch, 3, height, width]."""
        logits: torch.Tensor = self.layers(x)
        return logits


@dataclass(frozen=True)
class Case:
    """A network and the batch it is trained on, [batch, 3, size, size]."""

    title: str
    make: Callable[[], nn.Module]
    batch: int
    size: int

    def build(self, device: str = "cpu") -> nn.Module:
        """The network, the same each time."""
        torch.manual_seed(0)
        return self.make().to(device)

    def data(self, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
        """Images and labels, the same each time."""
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(self.batch, 3, self.size, self.size, generator=generator)
        return x.to(device), torch.randint(0, CLASSES, (self.batch,), generator=generator).to(device)


CASES = {
    "resnet50": Case("ResNet-50", ResNet50, 8, 64),
    "many": Case("1,024 parameter tensors", lambda: ManyLayers(340), 8, 8),
    "3000": Case("3,004 parameter tensors", lambda: ManyLayers(1_000), 2, 4),
    "10000": Case("10,003 parameter tensors", lambda: ManyLayers(3_333), 2, 4),
}
