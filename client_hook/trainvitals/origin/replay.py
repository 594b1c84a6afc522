"""Running a forward once more, so that nothing of the user's changes.

The model runs with copies of its buffers, and of parameters that are not trained, in their place
(`torch.func.functional_call`), so no version counter of a buffer that a backward still needs moves; without gradients,
or with ones that reach no `.grad`; with the random generators as they were then, and put back as they are now. Compiled
parts run eagerly. Weights are those of now: after a step that was skipped, or before the optimizer has used the
gradients, they are those of then.
"""

import contextlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from trainvitals.hooks import muted
from trainvitals.layers import is_compiled, named_modules, unwrap
from trainvitals.origin.backward import Backward
from trainvitals.origin.forwards import Forward
from trainvitals.origin.trace import Call, Trace

FROZEN = 256 << 20  # bytes of parameters that are not trained, up to which they are copied too
Statistics = Mapping[int, Mapping[str, torch.Tensor]]  # by id of the module, then by name of the buffer


def can_replay(forward: Forward) -> bool:
    """Not where a forward talks to other ranks (sharded parameters, synchronised BatchNorm), since they would have to
    take part; not where its input has been changed; not during CUDA graph capture."""
    model = unwrap(forward.model)
    sharded = any(hasattr(parameter, "placements") for parameter in model.parameters())
    gathers = torch.distributed.is_available() and torch.distributed.is_initialized()
    shares = gathers and any(isinstance(m, nn.SyncBatchNorm | DistributedDataParallel) for m in model.modules())
    capturing = torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
    return not sharded and not shares and not capturing and forward.intact


def replay(forward: Forward, statistics: Statistics) -> Trace:
    """The trace of the forward. `statistics` are running statistics from before it; other buffers are taken as they
    are. An exception in the model ends the trace there."""
    trace, alone = Trace(), _Alone()
    with _hooked(trace, forward, alone), torch.no_grad(), contextlib.suppress(Exception):
        _call(forward, statistics)
    trace.whole = not alone.stopped
    trace.settle()
    return trace


def replay_backward(forward: Forward, statistics: Statistics) -> list[Call]:
    """The modules whose backward broke first, as `Backward.culprits`."""
    backward = Backward()
    parameters = [p for p in unwrap(forward.model).parameters() if p.requires_grad]
    with _hooked(backward, forward, _Alone()), torch.enable_grad():
        output = _call(forward, statistics)
        backward.run(output, parameters)
    return backward.culprits()


def _call(forward: Forward, statistics: Statistics) -> Any:
    model = unwrap(forward.model)
    buffers = {name: buffer.detach().clone() for name, buffer in (*model.named_buffers(), *_averages(model))}
    for name, module in model.named_modules():
        for buffer, value in statistics.get(id(module), {}).items():
            whole = f"{name}.{buffer}".removeprefix(".")
            buffers[whole].copy_(value.view_as(buffers[whole]))
    return torch.func.functional_call(model, buffers, forward.args, dict(forward.kwargs))


def _averages(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The parameters that are not trained, which a forward may move itself, as a momentum encoder's; none where a copy
    of them would be large."""
    found = [(name, parameter) for name, parameter in model.named_parameters() if not parameter.requires_grad]
    return found if sum(parameter.nbytes for _, parameter in found) <= FROZEN else []


@contextlib.contextmanager
def _hooked(hooks: Trace | Backward, forward: Forward, alone: "_Alone") -> Iterator[None]:
    """Every module hooked, everything else as it was then; all of it back afterwards."""
    handles = hooks.attach(list(named_modules({forward.key: unwrap(forward.model)})))
    try:
        with _as_it_was(forward), muted(), alone:
            yield
    finally:
        for handle in handles:
            handle.remove()


class _Alone(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within it whatever would wait for another rank raises, since that one does not replay; `stopped` says so."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stopped = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "c10d" in func.namespace:
            self.stopped = True
            raise RuntimeError(f"a forward that calls {func} cannot be replayed by one rank")
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def _as_it_was(forward: Forward) -> Iterator[None]:
    """Autocast and random generators as in the forward; everything back afterwards."""
    devices = [name for name in forward.generators if name != "cpu"]
    python, legacy = random.getstate(), np.random.get_state()
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[torch.device(name) for name in devices]))
        for kind, dtype in forward.autocast.items():
            on = dtype is not None
            stack.enter_context(torch.autocast(kind, dtype=dtype, enabled=on, cache_enabled=False))
        if is_compiled(forward.model):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        torch.set_rng_state(forward.generators["cpu"])
        for name in devices:
            torch.cuda.set_rng_state(forward.generators[name], name)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)
