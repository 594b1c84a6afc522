"""The loops the hook must leave alone, as users write them: one table for every test that goes through all of them.

Each is what a user builds (`make`) and one iteration of the loop (`step`). They draw from the global generators of
torch, numpy and Python, so that a hook which took or set a random number would show.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

WIDTH = 6


@dataclass
class Made:
    """What a loop trains, by key as `watch` takes it; `other` is what it keeps beside that."""

    models: dict[str, Any]
    optimizers: dict[str, torch.optim.Optimizer]
    scaler: torch.amp.GradScaler | None = None
    ema: nn.Module | None = None
    other: dict[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> Any:
        """The only one, or the first."""
        return next(iter(self.models.values()))

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The only one, or the first."""
        return next(iter(self.optimizers.values()))


@dataclass(frozen=True)
class Loop:
    """One row of the table; `overflow` are the steps whose batch overflows."""

    name: str
    make: Callable[[], Made]
    step: Callable[[Made, int], None]

    def __str__(self) -> str:
        return self.name


def net(seed: int = 0, width: int = WIDTH) -> nn.Sequential:
    """Two BatchNorms, a dropout, eight channels."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(width, 8),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(8, 8),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Linear(8, width),
    )


def batch(overflow: bool = False) -> torch.Tensor:
    """[4, 6] of the global generators; one that has overflowed before it came here leaves no gradient finite."""
    x = torch.rand(4, WIDTH) + float(np.random.rand()) + random.random()
    if overflow:
        x[0, 0] = float("inf")
    return x


def seed_all(seed: int = 7) -> None:
    """The three global generators."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def overflows(i: int) -> bool:
    """Which batches of the scaled loops overflow."""
    return i % 16 == 5


def one(optimizer: Callable[..., torch.optim.Optimizer], **settings: Any) -> Callable[[], Made]:
    """A net and its optimizer."""

    def make() -> Made:
        model = net()
        return Made({"": model}, {"": optimizer(model.parameters(), **settings)})

    return make


def scaled(optimizer: Callable[..., torch.optim.Optimizer], **settings: Any) -> Callable[[], Made]:
    """The same with a scaler whose scale also grows within a test."""

    def make() -> Made:
        made = one(optimizer, **settings)()
        made.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=9)
        return made

    return make


# --- one iteration each --------------------------------------------------------------------------------------------


def plain(made: Made, i: int) -> None:
    made.optimizer.zero_grad()
    made.model(batch()).square().mean().backward()
    made.optimizer.step()


def autocast(dtype: torch.dtype) -> Callable[[Made, int], None]:
    def step(made: Made, i: int) -> None:
        made.optimizer.zero_grad()
        with torch.autocast("cpu", dtype=dtype):
            loss = made.model(batch()).float().square().mean()
        loss.backward()
        made.optimizer.step()

    return step


def mixed(made: Made, i: int) -> None:
    """fp16 with a scaler; some batches overflow."""
    assert made.scaler is not None
    made.optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.float16):
        loss = made.model(batch(overflow=overflows(i))).float().square().mean()
    made.scaler.scale(loss).backward()
    made.scaler.step(made.optimizer)
    made.scaler.update()


def scaled_step(made: Made, i: int) -> None:
    """The same in float32, for loops whose subject is the scaler."""
    assert made.scaler is not None
    made.optimizer.zero_grad()
    made.scaler.scale(made.model(batch(overflow=overflows(i))).square().mean()).backward()
    made.scaler.step(made.optimizer)
    made.scaler.update()


def clipped(made: Made, i: int) -> None:
    """The user unscales, and clips to a bound that some steps meet."""
    made.optimizer.zero_grad()
    loss = made.model(batch(overflow=made.scaler is not None and overflows(i))).square().mean()
    if made.scaler is None:
        loss.backward()
        clip_grad_norm_(made.model.parameters(), 0.1)
        made.optimizer.step()
        return
    made.scaler.scale(loss).backward()
    made.scaler.unscale_(made.optimizer)
    clip_grad_norm_(made.model.parameters(), 0.1)
    made.scaler.step(made.optimizer)
    made.scaler.update()


def accumulated(made: Made, i: int) -> None:
    """Three micro-batches to a step."""
    made.optimizer.zero_grad()
    for k in range(3):
        loss = made.model(batch(overflow=made.scaler is not None and overflows(i) and k == 1)).square().mean() / 3
        (loss if made.scaler is None else made.scaler.scale(loss)).backward()
    if made.scaler is None:
        made.optimizer.step()
    else:
        made.scaler.step(made.optimizer)
        made.scaler.update()


def gan_pair() -> Made:
    models = {"D": net(0), "G": net(1)}
    return Made(models, {key: torch.optim.Adam(model.parameters(), 1e-3) for key, model in models.items()})


def scaled_gan_pair() -> Made:
    made = gan_pair()
    made.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    return made


def gan(made: Made, i: int) -> None:
    """D on real and on fake, then G through D."""
    fake = made.models["G"](batch())
    made.optimizers["D"].zero_grad()
    real_loss, fake_loss = (made.models["D"](x).square().mean() for x in (batch(), fake.detach()))
    (real_loss + fake_loss).backward()
    made.optimizers["D"].step()
    made.optimizers["G"].zero_grad()
    made.models["D"](fake).square().mean().backward()
    made.optimizers["G"].step()


def scaled_gan(made: Made, i: int) -> None:
    """With an update after each optimizer's step; sometimes one overflows, sometimes the other."""
    assert made.scaler is not None
    fake = made.models["G"](batch())
    for key in ("D", "G"):
        made.optimizers[key].zero_grad()
        given = batch(overflow=i % 12 == 5) if key == "D" else fake * (float("inf") if i % 12 == 8 else 1.0)
        made.scaler.scale(made.models["D"](given).square().mean()).backward()
        made.scaler.step(made.optimizers[key])
        made.scaler.update()


def halves() -> Made:
    """One model, an optimizer for its first half and one for the second."""
    model = net()
    parts = {"body": model[:4], "head": model[4:]}
    return Made({"": model}, {key: torch.optim.SGD(part.parameters(), 1e-2) for key, part in parts.items()})


def both_step(made: Made, i: int) -> None:
    for optimizer in made.optimizers.values():
        optimizer.zero_grad()
    made.model(batch()).square().mean().backward()
    for optimizer in made.optimizers.values():
        optimizer.step()


class Odd(nn.Module):
    """A parameter of every kind that is not the usual one."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, WIDTH, sparse=True)
        self.first = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.BatchNorm1d(WIDTH)
        self.second = nn.Linear(WIDTH, WIDTH)
        self.second.weight = self.first.weight  # shared
        self.frozen = nn.Linear(WIDTH, WIDTH).requires_grad_(False)
        self.unused = nn.Linear(WIDTH, WIDTH)  # takes no part
        self.empty = nn.Parameter(torch.empty(0, WIDTH))
        self.wave = nn.Parameter(torch.randn(WIDTH, dtype=torch.complex64))
        self.wide = nn.Parameter(torch.randn(WIDTH, dtype=torch.float64))
        self.scalar = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """[batch, 6] and [batch, k] of indices to [batch, 6]."""
        y = self.second(torch.relu(self.norm(self.first(x)))) + self.words(words).sum(1)
        y = self.frozen(y) + (y * self.wave).abs() + (y.double() * self.wide).float()
        result: torch.Tensor = y * self.scalar + self.empty.sum()
        return result


def odd() -> Made:
    torch.manual_seed(0)
    model = Odd()
    dense = [p for name, p in model.named_parameters() if not name.startswith("words")]
    return Made(
        {"": model},
        {
            "dense": torch.optim.SGD(dense, 1e-3, foreach=False),
            "sparse": torch.optim.SparseAdam(list(model.words.parameters()), 1e-3),
        },
    )


def odd_step(made: Made, i: int) -> None:
    for optimizer in made.optimizers.values():
        optimizer.zero_grad()
    made.model(batch(), torch.randint(0, 20, (4, 3))).square().mean().backward()
    for optimizer in made.optimizers.values():
        optimizer.step()


def closure(made: Made, i: int) -> None:
    """Several backwards within one step."""
    x = batch()

    def evaluate() -> torch.Tensor:
        made.optimizer.zero_grad()
        loss: torch.Tensor = made.model(x).square().mean()
        loss.backward()
        return loss

    made.optimizer.step(evaluate)  # type: ignore[arg-type]


def checkpointed(reentrant: bool) -> Callable[[Made, int], None]:
    def step(made: Made, i: int) -> None:
        made.optimizer.zero_grad()
        hidden = made.model[:4](batch())
        out = checkpoint(made.model[4:], hidden, use_reentrant=reentrant)
        out.square().mean().backward()
        made.optimizer.step()

    return step


def compiled(backend: str) -> Callable[[], Made]:
    """Compiled before it is watched."""

    def make() -> Made:
        made = one(torch.optim.SGD, lr=1e-2)()
        made.models = {"": torch.compile(made.model, backend=backend)}
        return made

    return make


def compiled_later(made: Made, i: int) -> None:
    """Compiled after it is watched."""
    if "compiled" not in made.other:
        made.other["compiled"] = torch.compile(made.model, backend="aot_eager")
    made.optimizer.zero_grad()
    made.other["compiled"](batch()).square().mean().backward()
    made.optimizer.step()


def averaged() -> Made:
    made = one(torch.optim.Adam, lr=1e-3)()
    made.ema = AveragedModel(made.model, use_buffers=True)
    return made


def follow(made: Made, i: int) -> None:
    plain(made, i)
    assert isinstance(made.ema, AveragedModel)
    made.ema.update_parameters(made.model)


def freezing(made: Made, i: int) -> None:
    """The body is frozen for a while."""
    if i % 40 in (10, 30):
        made.model[:4].requires_grad_(i % 40 == 30)
    plain(made, i)


def growing(made: Made, i: int) -> None:
    """A block more, later one less."""
    if i == 20:
        block = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH))
        made.model.append(block)
        made.optimizer.add_param_group({"params": list(block.parameters())})
    if i == 60:
        made.model[5] = nn.Identity()
    plain(made, i)


def lazy() -> Made:
    model = nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(WIDTH))
    return Made({"": model}, {"": torch.optim.SGD(model.parameters(), 1e-2)})


def scheduled(made: Made, i: int) -> None:
    """A scheduler steps too, and evaluation comes in between."""
    if "scheduler" not in made.other:
        made.other["scheduler"] = torch.optim.lr_scheduler.StepLR(made.optimizer, 10)
    plain(made, i)
    made.other["scheduler"].step()
    if i % 10 == 9:
        made.model.eval()
        with torch.no_grad():
            made.model(batch())
        made.model.train()


ADAM, SGD = torch.optim.Adam, torch.optim.SGD

LOOPS = [
    Loop("fp32 SGD with momentum", one(SGD, lr=1e-2, momentum=0.9), plain),
    Loop("fp32 Adam foreach", one(ADAM, lr=1e-3, foreach=True), plain),
    Loop("autocast bf16", one(ADAM, lr=1e-3), autocast(torch.bfloat16)),
    Loop("autocast fp16", one(ADAM, lr=1e-3), autocast(torch.float16)),
    Loop("autocast fp16 with a scaler", scaled(ADAM, lr=1e-3), mixed),
    Loop("scaler Adam ordinary", scaled(ADAM, lr=1e-3, foreach=False), scaled_step),
    Loop("scaler Adam foreach", scaled(ADAM, lr=1e-3, foreach=True), scaled_step),
    Loop("scaler Adam fused", scaled(ADAM, lr=1e-3, fused=True), scaled_step),
    Loop("scaler SGD ordinary", scaled(SGD, lr=1e-2, foreach=False), scaled_step),
    Loop("scaler SGD foreach", scaled(SGD, lr=1e-2, foreach=True), scaled_step),
    Loop("scaler SGD fused", scaled(SGD, lr=1e-2, fused=True), scaled_step),
    Loop("clipped", one(SGD, lr=1e-2), clipped),
    Loop("unscaled and clipped", scaled(SGD, lr=1e-2), clipped),
    Loop("unscaled and clipped, fused", scaled(ADAM, lr=1e-3, fused=True), clipped),
    Loop("accumulated", one(ADAM, lr=1e-3), accumulated),
    Loop("accumulated with a scaler", scaled(ADAM, lr=1e-3), accumulated),
    Loop("GAN", gan_pair, gan),
    Loop("GAN with a scaler", scaled_gan_pair, scaled_gan),
    Loop("two optimizers of one model", halves, both_step),
    Loop("odd parameters", odd, odd_step),
    Loop("LBFGS", one(torch.optim.LBFGS, lr=0.1, max_iter=3), closure),
    Loop("checkpointing, reentrant", one(SGD, lr=1e-2), checkpointed(True)),
    Loop("checkpointing, not reentrant", one(SGD, lr=1e-2), checkpointed(False)),
    Loop("compiled before, eager", compiled("eager"), plain),
    Loop("compiled before, aot_eager", compiled("aot_eager"), plain),
    Loop("compiled after", one(SGD, lr=1e-2), compiled_later),
    Loop("an average of the weights and buffers", averaged, follow),
    Loop("a scheduler and evaluation", one(SGD, lr=1e-2, momentum=0.9), scheduled),
    Loop("freezing and unfreezing", one(SGD, lr=1e-2), freezing),
    Loop("layers that come and go", one(SGD, lr=1e-2, momentum=0.9), growing),
    Loop("lazy layers", lazy, plain),
]


def everything(made: Made) -> dict[str, Any]:
    """All that training has changed, flat, as bytes where it is a tensor: for comparison bit for bit, in order."""
    found: dict[str, Any] = {}
    for key, model in {**made.models, "ema": made.ema}.items():
        if model is not None:
            _flatten(f"model {key}", model.state_dict(), found)
            _flatten(f"gradients {key}", [p.grad for p in model.parameters()], found)
    for key, optimizer in made.optimizers.items():
        _flatten(f"optimizer {key}", optimizer.state_dict(), found)
    if made.scaler is not None:
        _flatten("scaler", made.scaler.state_dict(), found)
    _flatten("random", [torch.get_rng_state(), *map(str, (np.random.get_state(), random.getstate()))], found)
    return found


def _flatten(path: str, value: Any, into: dict[str, Any]) -> None:
    if isinstance(value, torch.Tensor):
        value = value.detach()
        value = value.to_dense() if value.is_sparse else value
        into[path] = (value.dtype, tuple(value.shape), value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    elif isinstance(value, dict):
        for key, inner in value.items():
            _flatten(f"{path}.{key}", inner, into)
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            _flatten(f"{path}[{i}]", inner, into)
    else:
        into[path] = value
