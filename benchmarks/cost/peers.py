"""The ways to log a network's health: nothing, the least work, this project, and its peers.

Each is asked for the same, every step: the L2 norm of each parameter's gradient, min and max of each BatchNorm's
running_mean and running_var, and the loss. A peer that brings its own way of reading a network uses that.
"""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

Norms = list[tuple[str, nn.BatchNorm2d]]


def norms_of(model: nn.Module) -> Norms:
    """All BatchNorm layers by name."""
    return [(name, module) for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]


class Way:
    """Nothing is logged. `module` is what has to be installed; `direct`: the stopwatch sees all that it does on the
    training thread, so that its cost need not be found as the difference of whole steps."""

    module = ""
    direct = True

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
        self.model = model
        self.optimizer = optimizer
        self.folder = folder

    def read(self, step: int, loss: torch.Tensor) -> None:
        """After the backward, before the optimizer's step."""

    def ended(self, step: int, loss: torch.Tensor) -> None:
        """After the optimizer's step."""

    def close(self) -> None:
        """The run is over."""


class Floor(Way):
    """The least work: one foreach norm, segment reductions of the concatenated statistics, one copy to the host."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
        super().__init__(model, optimizer, folder)
        self._parameters = list(model.parameters())
        self._norms = [norm for _, norm in norms_of(model)]
        sizes = [norm.num_features for norm in self._norms]
        self._offsets = torch.tensor([0, *sizes], device=self._parameters[0].device).cumsum(0)

    def read(self, step: int, loss: torch.Tensor) -> None:
        """All of it."""
        gradients = torch.stack(torch._foreach_norm([p.grad for p in self._parameters if p.grad is not None]))
        buffers = [torch.cat([getattr(n, name) for n in self._norms]) for name in ("running_mean", "running_var")]
        ranges = [
            torch.segment_reduce(b, how, offsets=self._offsets, unsafe=True) for b in buffers for how in ("min", "max")
        ]
        torch.cat([gradients, *ranges]).cpu().numpy()


class Trainvitals(Way):
    """This project, as the README shows it: spooled to the disk."""

    mode: Any = "offline"

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
        super().__init__(model, optimizer, folder)
        import trainvitals  # noqa: PLC0415 - only the process that measures it loads it

        directory = os.environ.get("TRAINVITALS_DIR") or folder
        self._watch = trainvitals.watch(model, optimizer, mode=self.mode, directory=directory, name="benchmark")

    def ended(self, step: int, loss: torch.Tensor) -> None:
        """The loss, as a tensor."""
        self._watch.step(loss=loss)

    def close(self) -> None:
        """And say if something was lost: the figures would be too good."""
        state = self._watch.state
        self._watch.close()
        if self._watch.dropped or (self.mode == "online" and state != "streaming"):
            raise RuntimeError(f"expected everything delivered, got state {state}, {self._watch.dropped} dropped")


class TrainvitalsOnline(Trainvitals):
    """The same, streamed to a server on this machine."""

    mode = "online"


class ByHand(Way):
    """What people write themselves: a dictionary of numbers, one `.item()` each."""

    def read(self, step: int, loss: torch.Tensor) -> None:
        """Collect and hand over."""
        given = self.model.named_parameters()
        values = {f"grad/{name}": p.grad.norm().item() for name, p in given if p.grad is not None}
        for name, norm in norms_of(self.model):
            for buffer in ("running_mean", "running_var"):
                tensor = getattr(norm, buffer)
                values |= {f"{name}.{buffer}.min": tensor.min().item(), f"{name}.{buffer}.max": tensor.max().item()}
        self.log(step, values | {"loss": loss.item()})

    def log(self, step: int, values: dict[str, float]) -> None:
        """Give them to the peer."""
        raise NotImplementedError


class TensorBoard(ByHand):
    """`SummaryWriter.add_scalar` by hand."""

    module = "tensorboard"

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
        super().__init__(model, optimizer, folder)
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

        self._writer: Any = SummaryWriter(str(folder))

    def log(self, step: int, values: dict[str, float]) -> None:
        """One call each."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush."""
        self._writer.close()


class Wandb(ByHand):
    """`wandb.log` by hand, offline."""

    module = "wandb"

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
        super().__init__(model, optimizer, folder)
        import wandb  # noqa: PLC0415

        self._wandb: Any = wandb
        self._run = self._wandb.init(project="benchmark", dir=str(folder), mode="offline")

    def log(self, step: int, values: dict[str, float]) -> None:
        """One call."""
        self._wandb.log(values)

    def close(self) -> None:
        """Flush."""
        self._run.finish()


class WandbWatch(Wandb):
    """`wandb.watch(log="gradients", log_freq=1)`: histograms of the gradients; no statistics."""

    direct = False

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
        super().__init__(model, optimizer, folder)
        self._wandb.watch(model, log="gradients", log_freq=1)

    def read(self, step: int, loss: torch.Tensor) -> None:
        """The hooks have read already; this sends it."""
        self._wandb.log({"loss": loss.item()})


class Trackio(ByHand):
    """`trackio.log` by hand, local."""

    module = "trackio"

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
        super().__init__(model, optimizer, folder)
        os.environ["TRACKIO_DIR"] = str(folder)
        import trackio  # noqa: PLC0415

        self._trackio: Any = trackio
        self._trackio.init(project="benchmark", embed=False)

    def log(self, step: int, values: dict[str, float]) -> None:
        """One call."""
        self._trackio.log(values)

    def close(self) -> None:
        """Flush."""
        self._trackio.finish()


class Trainscope(Way):
    """trainscope without activations and histograms."""

    module = "trainscope"
    direct = False

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
        super().__init__(model, optimizer, folder)
        from trainscope import TrainScope  # noqa: PLC0415
        from trainscope.core.config import TrainScopeConfig  # noqa: PLC0415

        never = 10**9
        config = TrainScopeConfig(
            run_dir=str(folder),
            activation_layer_filter=[],
            activation_metrics_every_n_steps=never,
            histogram_every_n_steps=never,
        )
        self._scope: Any = TrainScope(model, optimizer, config=config)
        self._scope.attach()

    def ended(self, step: int, loss: torch.Tensor) -> None:
        """Its own step."""
        self._scope.step(loss.item(), batch_index=step)

    def close(self) -> None:
        """Let go."""
        self._scope.detach()


class UnderflowOverflow(Way):
    """transformers' DebugUnderflowOverflow: extremes of all weights, inputs and outputs in every forward."""

    module = "transformers"
    direct = False

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
        super().__init__(model, optimizer, folder)
        from transformers.debug_utils import DebugUnderflowOverflow  # noqa: PLC0415

        self._debug: Any = DebugUnderflowOverflow(model)


WAYS: dict[str, type[Way]] = {
    "plain": Way,
    "floor": Floor,
    "trainvitals, offline": Trainvitals,
    "trainvitals, online": TrainvitalsOnline,
    "wandb, by hand": Wandb,
    "trackio, by hand": Trackio,
    "TensorBoard, by hand": TensorBoard,
    "trainscope": Trainscope,
    "DebugUnderflowOverflow": UnderflowOverflow,
    "wandb.watch": WandbWatch,
}


def is_installed(name: str) -> bool:
    """Whether what the way needs is there."""
    module = WAYS[name].module
    return not module or find_spec(module) is not None
