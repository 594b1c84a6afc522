"""What watching costs the training thread, beside the least work that reads the same values.

    python benchmarks/hook.py [--layers 30] [--rounds 40] [--steps 5]

One process; rounds of plain, floor and watched steps are interleaved, so that a slow moment of the machine hits all
three. The figure is CPU time of the training thread per step (time.thread_time), medians over rounds. What is read
depends on the parameters, not on the batch, so the difference is taken on a tiny batch, where it is not lost in the
noise of a long step; its share is of a step on a batch of 4 at 32 x 32. The floor is one foreach norm of the gradients,
segment reductions of the concatenated running statistics, and one copy to the host.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable

import torch
from torch import nn

import trainvitals

Step = Callable[[], None]


def network(layers: int) -> nn.Sequential:
    """`layers` blocks of convolution, BatchNorm and ReLU, 32 channels."""
    torch.manual_seed(0)
    blocks: list[nn.Module] = [nn.Conv2d(3, 32, 3, padding=1)]
    for _ in range(layers):
        blocks += [nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
    return nn.Sequential(*blocks, nn.Conv2d(32, 3, 3, padding=1))


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, between: Step) -> None:
    """One step; `between` runs where gradients are complete."""
    optimizer.zero_grad()
    (model(x) - x).square().mean().backward()
    between()
    optimizer.step()


def floor_of(model: nn.Module) -> Step:
    """The least work: returns what reads the values once."""
    parameters = list(model.parameters())
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    offsets = torch.tensor([0, *(norm.num_features for norm in norms)]).cumsum(0)

    def read() -> None:
        gradients = torch.stack(torch._foreach_norm([p.grad for p in parameters if p.grad is not None]))
        buffers = [torch.cat([getattr(norm, name) for norm in norms]) for name in ("running_mean", "running_var")]
        ranges = [torch.segment_reduce(b, how, offsets=offsets) for b in buffers for how in ("min", "max")]
        torch.cat([gradients, *ranges]).numpy()

    return read


def measure(run: Step, steps: int) -> float:
    """CPU seconds of this thread per step."""
    start = time.thread_time()
    for _ in range(steps):
        run()
    return (time.thread_time() - start) / steps


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--steps", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)  # the other core is the background thread's
    x, batch = torch.rand(1, 3, 4, 4), torch.rand(4, 3, 32, 32)
    ways: dict[str, tuple[nn.Module, torch.optim.Optimizer, Step]] = {}
    for name in ("plain", "floor", "watched"):
        made = network(args.layers)
        ways[name] = made, torch.optim.SGD(made.parameters(), 1e-3, momentum=0.9), lambda: None
    ways["floor"] = *ways["floor"][:2], floor_of(ways["floor"][0])
    with tempfile.TemporaryDirectory() as directory:
        watch = trainvitals.watch(*ways["watched"][:2], mode="offline", directory=directory)
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(args.rounds + 1):
            for name, (model, optimizer, between) in ways.items():
                taken[name].append(measure(lambda m=model, o=optimizer, b=between: train_step(m, o, x, b), args.steps))  # type: ignore[misc]
        watch.close()
    model, optimizer, nothing = ways["plain"]
    real = [measure(lambda: train_step(model, optimizer, batch, nothing), 1) for _ in range(5)]
    plain = statistics.median(real)
    added = {
        n: statistics.median(a - b for a, b in zip(v[1:], taken["plain"][1:], strict=True)) for n, v in taken.items()
    }
    parameters = sum(1 for _ in ways["plain"][0].parameters())
    print(f"{args.layers} BatchNorm layers, {parameters} parameters, plain step {plain * 1e3:.1f} ms of thread CPU")
    for name in ("floor", "watched"):
        ratio = added[name] / added["floor"]
        share = added[name] / plain
        print(f"{name:8} +{added[name] * 1e6:7.0f} µs per step  {share:7.2%} of a step  {ratio:5.2f} x floor")


if __name__ == "__main__":
    main()
