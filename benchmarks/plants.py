"""Networks in which what breaks first is known by construction.

A plant trains a small network for a few steps, all but one of them healthy; at `BAD` something becomes non-finite. Each
says what the origin must be: its place, and the layer's name.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

BAD, STEPS = 6, 9
Batch = tuple[torch.Tensor, torch.Tensor]  # input, target


@dataclass
class Plant:
    """What is trained and what must be named. `places`: any of these is exact. `half`: autocast to fp16 and a scaler.
    `spoil` makes the bad batch out of a good one; `before` acts on the network just before the bad step."""

    name: str
    model: nn.Module
    layer: str
    places: tuple[str, ...] = ("module",)
    half: bool = False
    shape: tuple[int, ...] = (4, 4, 8, 8)
    spoil: Callable[[Batch], Batch] = lambda batch: batch
    before: Callable[[nn.Module], None] = lambda model: None
    when: int = BAD  # when `before` is called
    optimizer: torch.optim.Optimizer | None = None
    compiled: bool = False
    accumulate: int = 1
    seed: int = field(default=0)

    def batches(self) -> Iterator[Batch]:
        """Seeded batches; the one numbered `BAD` is spoiled (its last micro-batch, where there are several)."""
        generator = torch.Generator().manual_seed(self.seed)
        for step in range(STEPS):
            for micro in range(self.accumulate):
                batch = torch.rand(self.shape, generator=generator), torch.rand(self.shape, generator=generator)
                yield self.spoil(batch) if (step, micro) == (BAD, self.accumulate - 1) else batch


class Spectral(nn.Module):
    """A Fourier branch that goes on in fp16: the magnitude of a bright image's DC term exceeds 65504."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] in, the same shape out."""
        spectrum = torch.fft.rfft2(x.float())
        magnitude = spectrum.abs().to(x.dtype)
        back: torch.Tensor = torch.fft.irfft2(magnitude.float() * spectrum / (spectrum.abs() + 1e-6), s=x.shape[-2:])
        return back.to(x.dtype)


class Log(nn.Module):
    """log(|x|): -Inf at zero."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        return x.abs().log()


class Root(nn.Module):
    """sqrt(1 + x): NaN below -1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        return (1 + x).sqrt()


class Distance(nn.Module):
    """sqrt(x): finite at zero, its derivative is not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        return x.sqrt()


class Standardise(nn.Module):
    """Each image by its own deviation: 0 / 0 for a constant one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W]."""
        centred = x - x.mean((2, 3), keepdim=True)
        return centred / centred.std((1, 2, 3), keepdim=True)


class Attention(nn.Module):
    """Scores in fp16: q and k of large inputs exceed 65504, and Inf - Inf in the softmax is NaN."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, C]."""
        scores = self.q(x) @ self.k(x).transpose(-1, -2)
        out: torch.Tensor = self.out(scores.softmax(-1).to(x.dtype) @ self.v(x))
        return x + out


class Residual(nn.Module):
    """x + branch(x)."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        y: torch.Tensor = self.branch(x)
        return x + y


class Checkpointed(nn.Module):
    """Its body is run again in backward."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        y: torch.Tensor = checkpoint(self.body, x, use_reentrant=False)
        return y


class Inverse(nn.Module):
    """1 / (1 - keep): what dropout has dropped decides whether it divides by zero, so only the very same random numbers
    break it again."""

    def __init__(self) -> None:
        super().__init__()
        self.armed = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        dropped = torch.rand(())
        return x / torch.where((dropped < 0.5) & torch.tensor(self.armed), 0.0, 1.0)


def conv(width: int = 4, **more: Any) -> nn.Conv2d:
    """A 3 x 3 convolution."""
    return nn.Conv2d(width, width, 3, padding=1, **more)


def body(*middle: nn.Module) -> nn.Sequential:
    """Convolution, BatchNorm, ReLU, what is planted, convolution."""
    return nn.Sequential(conv(), nn.BatchNorm2d(4), nn.ReLU(), *middle, conv())


def bright(batch: Batch, factor: float = 3e3) -> Batch:
    """An over-exposed input."""
    return batch[0] * factor, batch[1]


def with_nan(place: int, batch: Batch) -> Batch:
    """NaN in one element of the input (0) or the target (1)."""
    spoiled = [tensor.clone() for tensor in batch]
    spoiled[place].view(-1)[5] = float("nan")
    return spoiled[0], spoiled[1]


def scale_weight(layer: str, factor: float, model: nn.Module) -> None:
    """A layer's weights become larger."""
    with torch.no_grad():
        model.get_submodule(layer).weight.mul_(factor)  # type: ignore[operator]


def explode(model: nn.Sequential) -> torch.optim.Optimizer:
    """An optimizer in which one layer can be given a learning rate of its own."""
    rest = [p for name, p in model.named_parameters() if not name.startswith("3.")]
    return torch.optim.SGD([{"params": rest}, {"params": list(model[3].parameters())}], lr=1e-3)


def rush(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """That layer learns much too fast."""
    optimizer.param_groups[1]["lr"] = 1e25


def half_norm() -> nn.Sequential:
    """A BatchNorm kept in half precision behind a layer in half precision."""
    return nn.Sequential(conv().half(), nn.BatchNorm2d(4).half(), nn.ReLU(), conv().half())


def frozen() -> nn.Sequential:
    """A pretrained layer that is not trained."""
    model = body(conv(), nn.ReLU())
    for parameter in model[3].parameters():
        parameter.requires_grad_(False)
    return model


def arm(model: nn.Sequential) -> None:
    """From now on the division may be by zero; with this seed it is."""
    model[3].armed = True  # type: ignore[assignment]
    torch.manual_seed(3)


def constant(batch: Batch) -> Batch:
    """One image of a single colour."""
    return torch.cat([torch.full_like(batch[0][:1], 0.5), batch[0][1:]]), batch[1]


def plants() -> list[Plant]:
    """Every plant of one process, freshly made."""
    torch.manual_seed(0)
    learning = body(conv(), nn.ReLU())
    too_fast = explode(learning)
    return [
        Plant("FFT overflow", nn.Sequential(conv(), Spectral(), nn.BatchNorm2d(4), conv()), "1", half=True,
              shape=(2, 4, 16, 16), spoil=partial(bright, factor=2e3)),
        Plant("log of zero", nn.Sequential(conv(), nn.Sigmoid(), Log(), conv()), "2", before=sink),
        Plant("division", nn.Sequential(Standardise(), *body()), "0", spoil=constant),
        Plant("attention softmax in fp16", nn.Sequential(nn.Linear(8, 8), Attention(8)), "1", half=True,
              shape=(2, 6, 8), spoil=partial(bright, factor=6e3)),
        Plant("exploding learning rate", learning, "3", ("weights",), optimizer=too_fast,
              before=partial(rush, too_fast), when=BAD - 1),
        Plant("bad input batch", body(), "", ("input",), spoil=partial(with_nan, 0)),
        Plant("bad label", body(), "", ("loss",), spoil=partial(with_nan, 1)),
        Plant("half-precision variance", half_norm(), "1", spoil=partial(bright, factor=4e3)),
        Plant("upstream NaN through a ReLU", nn.Sequential(conv(), Root(), nn.ReLU(), nn.BatchNorm2d(4), conv()), "1",
              before=sink),
        Plant("residual branch", nn.Sequential(conv(), Residual(nn.Sequential(conv(), nn.ReLU(), conv())), conv()),
              "1.branch.2", half=True, before=partial(scale_weight, "1.branch.2", 3e6)),
        Plant("a frozen layer", frozen(), "3", half=True, before=partial(scale_weight, "3", 1e6)),
        Plant("code between two parts", nn.Sequential(conv(), Ratio()), "1", spoil=lambda b: (b[0] * 0, b[1]),
              before=lambda m: zero(m[0])),  # type: ignore[index]
        Plant("loss scale", body(), "", ("loss_scale",), half=True),
        Plant("root of zero, in backward", nn.Sequential(conv(), nn.Sigmoid(), Distance(), conv()), "2", ("backward",),
              before=sink),
        Plant("inside a checkpoint", nn.Sequential(conv(), Checkpointed(nn.Sequential(conv(), Log())), conv()),
              "1.body.1", before=lambda m: zero(m[1].body[0])),  # type: ignore[index]
        Plant("after dropout's dice", body(Inverse()), "3", before=arm),  # type: ignore[arg-type]
        Plant("compiled", nn.Sequential(conv(), nn.Sigmoid(), Log(), conv()), "2", before=sink, compiled=True),
        Plant("second micro-batch", body(), "", ("input",), spoil=partial(with_nan, 0), accumulate=2),
    ]  # fmt: skip


class Ratio(nn.Module):
    """Divides by its own mean between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv(bias=False), conv()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W]."""
        y = self.first(x)
        out: torch.Tensor = self.second(y / y.mean())
        return out


def sink(model: nn.Module) -> None:
    """The first layer gives large negative numbers only."""
    with torch.no_grad():
        model.get_submodule("0").bias.fill_(-1e4)  # type: ignore[operator]


def zero(layer: nn.Module) -> None:
    """A layer gives zeros only."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def train(plant: Plant, hook: Callable[..., Any], model: nn.Module | None = None) -> Any:
    """Train; `hook` is called as `trainvitals.watch` is, and what it returned is returned, closed."""
    torch.manual_seed(1)
    network = plant.model if model is None else model
    optimizer = plant.optimizer or torch.optim.SGD(network.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0) if plant.half else None
    called: Any = torch.compile(network, backend="eager") if plant.compiled else network
    watch = hook(called, optimizer, scaler=scaler, mode="offline", name=plant.name)
    data = plant.batches()
    for step in range(STEPS):
        if step == plant.when:
            plant.before(plant.model)
        if step == BAD and scaler is not None and "loss_scale" in plant.places:
            scaler._scale.fill_(2.0**40)  # type: ignore[union-attr]
        optimizer.zero_grad()
        for _ in range(plant.accumulate):
            x, target = next(data)
            loss = one_loss(called, plant, x, target) / plant.accumulate
            torch.autograd.backward(scaler.scale(loss) if scaler else loss)
        if scaler:
            scaler.step(optimizer)
            scaler.update()
        else:
            optimizer.step()
        watch.step(loss=loss)
    watch.close()
    return watch


def one_loss(model: nn.Module, plant: Plant, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error, in float32."""
    whole = next(model.parameters()).dtype == torch.float16
    with torch.autocast("cpu", torch.float16) if plant.half else contextlib.nullcontext():
        out: torch.Tensor = model(x.half() if whole else x)
    return (out.float() - target).square().mean()
