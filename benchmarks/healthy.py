"""Twenty small trainings of different kinds in which nothing goes wrong, so that no early warning should be given.

Inputs have structure (a brightness, a gradient, blobs) and vary from batch to batch; all learn something. Where float16
is in use the grad scaler is an ordinary one and backs off at first, as it does.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from ramps import FP16, Run

STEPS = 300
Loss = Callable[[int], Tensor]


def usual(
    model: nn.Module,
    loss_of: Loss,
    optimizer: torch.optim.Optimizer | None = None,
    half: bool = False,
    rate: Callable[[int], float] = lambda n: 1.0,
    accumulate: int = 1,
) -> Run:
    """The usual loop; `loss_of(n)` runs the model on a batch of its own, `rate` is a factor of the learning rate."""
    optimizer = optimizer or torch.optim.Adam(model.parameters(), 3e-3)
    scaler = torch.amp.GradScaler("cpu") if half else None
    base = [group["lr"] for group in optimizer.param_groups]

    def step(n: int) -> Tensor:
        for group, lr in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = lr * rate(n)
        optimizer.zero_grad()
        for part in range(accumulate):
            with torch.autocast("cpu", dtype=FP16, enabled=half):
                loss = loss_of(n * accumulate + part) / accumulate
            (loss if scaler is None else scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
        return loss.detach()

    return Run(model, optimizer, step, scaler)


# --- data ----------------------------------------------------------------------------------------------------------


def images(n: int, size: int = 4, side: int = 8, channels: int = 3) -> Tensor:
    """Batch `n` of scenes, [size, channels, side, side], about 0 to 1: a brightness each, a gradient, a blob."""
    generator = torch.Generator().manual_seed(n)
    one = partial(torch.rand, size, channels, 1, 1, generator=generator)
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    blob = torch.exp(-((x - one()) ** 2 + (y - one()) ** 2) / 0.05)
    return 0.6 * one() + 0.3 * one() * x + 0.4 * one() * blob + 0.02 * torch.randn(x.shape, generator=generator)


def restoration(model: nn.Module, data: Callable[[int], Tensor] = images) -> Loss:
    """Denoising: the clean image from a noisy one."""

    def loss(n: int) -> Tensor:
        clean = data(n)
        noisy = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(-n - 1))
        return functional.mse_loss(model(noisy).float(), clean)

    return loss


def brightest(model: nn.Module, data: Callable[[int], Tensor] = images) -> Loss:
    """Classification: which channel is the brightest."""

    def loss(n: int) -> Tensor:
        x = data(n)
        return functional.cross_entropy(model(x).float(), x.mean((2, 3)).argmax(1))

    return loss


def tabular(n: int, size: int = 64) -> tuple[Tensor, Tensor]:
    """Ten features of very different scales, some heavy-tailed, and a target that depends on them."""
    generator = torch.Generator().manual_seed(n)
    x = torch.randn(size, 10, generator=generator)
    target = (x[:, :3].sum(1) + x[:, 3] * x[:, 4]).tanh()
    x[:, 5:8] = x[:, 5:8].mul(1.5).exp()
    return x * torch.logspace(-2, 3, 10), target


# --- networks ------------------------------------------------------------------------------------------------------


def block(inputs: int, outputs: int, norm: nn.Module | None = None) -> nn.Sequential:
    """Convolution, norm, ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), norm or nn.BatchNorm2d(outputs), nn.ReLU())


def plain(momentum: float | None = 0.1, last: int = 3) -> nn.Sequential:
    """Three convolutions with BatchNorm, images to images."""
    norms = [nn.BatchNorm2d(8, momentum=momentum) for _ in range(2)]
    return nn.Sequential(block(3, 8, norms[0]), block(8, 8, norms[1]), nn.Conv2d(8, last, 3, padding=1))


def classifier(body: nn.Module) -> nn.Sequential:
    """Images to three classes."""
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(3))


class Residual(nn.Module):
    """Adds what `body` makes of its input."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return x + self.body(x)  # type: ignore[no-any-return]


class UNet(nn.Module):
    """Two scales and a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.deep, self.last = block(3, 8), block(8, 8), block(16, 8)
        self.out = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        fine = self.first(x)
        coarse = functional.interpolate(self.deep(functional.avg_pool2d(fine, 2)), scale_factor=2)
        return self.out(self.last(torch.cat((fine, coarse), 1)))  # type: ignore[no-any-return]


# --- runs ----------------------------------------------------------------------------------------------------------


def residual_network() -> Run:
    """A residual network that classifies, with SGD and momentum."""
    model = nn.Sequential(block(3, 8), *(Residual(nn.Sequential(block(8, 8), block(8, 8))) for _ in range(3)))
    whole = classifier(model)
    whole(images(0))
    return usual(whole, brightest(whole), torch.optim.SGD(whole.parameters(), 0.05, momentum=0.9))


def instance_norm() -> Run:
    """InstanceNorm with running statistics, as in style transfer."""
    norms = [nn.InstanceNorm2d(8, affine=True, track_running_stats=True) for _ in range(2)]
    model = nn.Sequential(block(3, 8, norms[0]), block(8, 8, norms[1]), nn.Conv2d(8, 3, 1))
    return usual(model, restoration(model))


def tabular_network() -> Run:
    """BatchNorm1d on features of all scales, heavy-tailed ones among them, and Dropout."""
    layers = [nn.BatchNorm1d(10), nn.Linear(10, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 1)]
    model = nn.Sequential(*layers)

    def loss(n: int) -> Tensor:
        x, target = tabular(n)
        return functional.mse_loss(model(x)[:, 0], target)

    return usual(model, loss)


def transformer() -> Run:
    """A LayerNorm transformer in bfloat16 with warm-up and cosine schedule."""
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.1)
    model = nn.Sequential(
        nn.Linear(8, 16), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(16, 8)
    )

    def loss(n: int) -> Tensor:
        x = images(n, channels=1)[:, 0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return functional.mse_loss(model(x).float(), x.roll(-1, 1))

    return usual(model, loss, rate=cosine)


def cosine(n: int) -> float:
    """Warm-up over 60 steps, then down to nothing."""
    return min(n / 60, 0.5 * (1 + math.cos(math.pi * n / STEPS)))


def adversarial() -> Run:
    """A GAN: two networks with BatchNorm, an optimizer each, in turns."""
    generator = nn.Sequential(block(4, 16), block(16, 8), nn.Conv2d(8, 3, 1), nn.Sigmoid())
    critic = nn.Sequential(block(3, 8), block(8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 1))
    both = nn.ModuleDict({"generator": generator, "critic": critic})
    slow, fast = (torch.optim.Adam(net.parameters(), 1e-3, betas=(0.5, 0.99)) for net in (generator, critic))

    def judge(x: Tensor, real: float) -> Tensor:
        logits = critic(x)
        return functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, real))

    def step(n: int) -> Tensor:
        fake = generator(torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(n)))
        fast.zero_grad()
        (judge(images(n, 8), 1.0) + judge(fake.detach(), 0.0)).backward()  # type: ignore[no-untyped-call]
        fast.step()
        slow.zero_grad()
        loss = judge(fake, 1.0)
        loss.backward()  # type: ignore[no-untyped-call]
        slow.step()
        return loss.detach()

    return Run(both, fast, step)


def frozen_statistics() -> Run:
    """Fine-tuning with the BatchNorms in eval mode, from a state dict loaded at the start."""
    taught, model = plain(), plain()
    teacher = usual(taught, restoration(taught))
    for n in range(1, 60):
        teacher.step(n)
    model.load_state_dict(taught.state_dict())
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return usual(model, restoration(model, lambda n: images(n) * 0.7))


def reloaded() -> Run:
    """Goes back to an earlier state in the middle of the run."""
    model = plain()
    run = usual(model, restoration(model))
    kept = dict[str, Tensor]()

    def step(n: int) -> Tensor:
        if n == STEPS // 4:
            kept.update({name: value.clone() for name, value in model.state_dict().items()})
        if n == STEPS // 2:
            model.load_state_dict(kept)
        return run.step(n)

    return Run(model, run.optimizer, step)


def batch_sizes() -> Run:
    """Batches of 2 to 16, another size every 20 steps, and a learning rate that follows it."""
    model = plain()

    def size(n: int) -> int:
        return 2 << (n // 20 % 4)

    return usual(model, restoration(model, lambda n: images(n, size(n))), rate=lambda n: size(n) / 8)


def wave() -> Run:
    """The example's own network in float16, with its FFT and its scan."""
    from examples.wavessm.network import WaveSSM  # noqa: PLC0415

    model = WaveSSM()
    return usual(
        model, restoration(model, lambda n: images(n, 2, 16)), torch.optim.AdamW(model.parameters(), 4e-3), True
    )


def network(model: nn.Module, data: Callable[[int], Tensor] = images, **how: object) -> Run:
    """Denoising with `model` on `data`."""
    return usual(model, restoration(model, data), **how)  # type: ignore[arg-type]


def brightness(n: int) -> Tensor:
    """Augmented: each batch brighter or darker by a factor of up to 2.5, with a contrast of its own."""
    factor, power = torch.rand(2, generator=torch.Generator().manual_seed(n)).tolist()
    exposed: Tensor = images(n).clamp(min=0) ** (0.5 + power) * 2.5 ** (2 * factor - 1)
    return exposed


def heavy(n: int) -> Tensor:
    """Log-normal amplitudes, over three orders of magnitude."""
    return images(n) * torch.randn(4, 3, 1, 1, generator=torch.Generator().manual_seed(n)).mul(1.2).exp()


def sparse(n: int) -> Tensor:
    """Mostly zero: one pixel in fifty."""
    return images(n) * (torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(n)) < 0.02)


def domains(n: int) -> Tensor:
    """Another domain every 50 steps: darker, and with channels mixed."""
    x = images(n)
    return x if n // 50 % 2 == 0 else 0.5 * x.flip(1) + 0.1


def imbalanced(n: int) -> Tensor:
    """Nineteen batches of dark images in twenty, one of bright ones."""
    return images(n) * (1.0 if n % 20 == 0 else 0.3)


def in_phases(n: int) -> float:
    """Three falls of the learning rate by ten."""
    return float(0.1 ** (n // 80))


def _classifier() -> Run:
    model = classifier(nn.Sequential(block(3, 8), block(8, 8)))
    model(images(0))
    return usual(model, brightest(model, imbalanced), rate=in_phases)


def _autoencoder() -> Run:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.BatchNorm1d(32), nn.Tanh(), nn.Linear(32, 192))
    model = nn.Sequential(model, nn.Unflatten(1, (3, 8, 8)))
    return usual(model, restoration(model, lambda n: images(n, 16)), torch.optim.SGD(model.parameters(), 0.5))


RUNS: Mapping[str, Callable[[], Run]] = {
    "CNN with BatchNorm": lambda: network(plain()),
    "BatchNorm, momentum 0.01": lambda: network(plain(0.01)),
    "BatchNorm, momentum None": lambda: network(plain(None)),
    "residual network, SGD": residual_network,
    "InstanceNorm with statistics": instance_norm,
    "BatchNorm1d, heavy-tailed table, Dropout": tabular_network,
    "LayerNorm transformer, bfloat16, warm-up": transformer,
    "CNN in float16 with scaler": lambda: network(plain(), half=True),
    "float16, heavy-tailed inputs": lambda: network(plain(), heavy, half=True),
    "float16, augmented brightness": lambda: network(plain(), brightness, half=True),
    "GAN": adversarial,
    "U-Net, cosine schedule": lambda: network(UNet(), rate=cosine),
    "batch sizes 2 to 16": batch_sizes,
    "augmented brightness": lambda: network(plain(), brightness),
    "heavy-tailed inputs": lambda: network(plain(), heavy),
    "imbalanced classes, rate in phases": _classifier,
    "resumed from an earlier state": reloaded,
    "gradient accumulation of 4": lambda: network(plain(), accumulate=4),
    "frozen statistics, fine-tuning": frozen_statistics,
    "sparse inputs": lambda: network(plain(), sparse),
    "batches of 2": lambda: network(plain(), lambda n: images(n, 2)),
    "another domain every 50 steps": lambda: network(plain(), domains),
    "autoencoder with BatchNorm1d, SGD": _autoencoder,
    "the example's own network, float16": wave,
}
