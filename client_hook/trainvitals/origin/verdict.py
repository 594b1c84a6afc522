"""Who it was: pure, from what a replay saw, or from which gradients broke."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from trainvitals.origin.trace import Call, Trace

HUGE = 1e6  # no trained weight is this large; one that is has been driven there by its updates
Place = Literal["module", "weights", "statistics", "input", "backward", "loss", "loss_scale", "elsewhere", "unknown"]


@dataclass(frozen=True)
class Suspect:
    """What broke first. `layer` is "" for the input and the loss; `before` the module that was about to run where the
    layer's own code broke between two of its parts."""

    place: Place
    layer: str = ""
    type: str = ""
    before: str = ""
    kind: Literal["nan", "inf", "negative"] | None = None
    count: int = -1
    total: int = -1
    amax: float | None = None
    precision: str = ""
    candidates: list[str] = field(default_factory=list)


def find_suspect(trace: Trace) -> Suspect | None:
    """The first thing non-finite in a forward, or weights so large that what follows is their consequence; None where
    all of it is finite."""
    for side, call in trace.order:
        if side == "enter" and call.finite["enter"] and _largest_weight(call) > HUGE:
            return _suspect("weights", call)
        if side == "enter" and call.statistics.get("enter") is False and not call.module.training:
            return _suspect("statistics", call)  # in training they are not used
        if not call.finite[side]:
            return _entered(call) if side == "enter" else _suspect("module", call)
        if side == "exit" and (call.statistics.get("enter"), call.statistics.get("exit")) == (True, False):
            return replace(_suspect("module", call, kind="inf"), count=-1, total=-1)
    return None


def blame(calls: Sequence[Call]) -> Suspect | None:
    """Those whose backward broke: named if it is one."""
    if len(calls) > 1:
        return Suspect("unknown", candidates=list(dict.fromkeys(call.name for call in calls)))
    return Suspect("backward", layer=calls[0].name, type=type(calls[0].module).__name__) if calls else None


def judge_gradients(layers: Sequence[str], broken: Sequence[str], *, nan: bool, scaled: bool, loss: float | None,
                    ranks: int) -> Suspect:  # fmt: skip
    """The forward was finite, so it was the loss, its gradient, or a backward. `layers` have gradients, in forward
    order; `broken` are those whose gradient is not finite; `loss` where it is known."""
    if loss is not None and not math.isfinite(loss):
        return Suspect("loss", kind="nan" if math.isnan(loss) else "inf")
    if ranks > 1:
        return Suspect("elsewhere", candidates=list(broken))
    if scaled and (loss is not None or not nan):
        return Suspect("loss_scale", candidates=list(broken))
    if layers and layers[-1] in broken:
        return Suspect("loss", candidates=list(broken))
    reached = [layer for layer in layers if layer in broken]
    after = layers[layers.index(reached[-1]) + 1 :][:1] if reached else []
    return Suspect("unknown", candidates=[*reached[-1:], *after])


def _entered(call: Call) -> Suspect:
    """Something non-finite goes in that no module gave out: the code around it made it, or it came from outside."""
    kind: Literal["nan", "inf"] = "nan" if call.amax is None or math.isnan(call.amax) else "inf"
    if call.parent is None:
        return Suspect("input", kind=kind, precision=call.dtype)
    return _suspect("module", call.parent, before=call.name, kind=kind)


def _largest_weight(call: Call) -> float:
    """Of the parameters it trains; infinite where one is not finite. Waits for the device."""
    own = [p.detach() for p in call.module.parameters(recurse=False) if p.requires_grad and p.numel()]
    norms = [torch.linalg.vector_norm(parameter, math.inf, dtype=_wide(parameter)) for parameter in own]
    return max((value if math.isfinite(value := float(norm)) else math.inf for norm in norms), default=0.0)


def _wide(parameter: torch.Tensor) -> torch.dtype | None:
    return torch.float32 if parameter.is_floating_point() and parameter.element_size() < 4 else None


def _suspect(place: Place, call: Call, before: str = "", kind: Literal["nan", "inf"] | None = None) -> Suspect:
    left = "exit" in call.finite
    return Suspect(
        place=place,
        layer=call.name,
        type=type(call.module).__name__,
        before=before,
        kind=kind or ("nan" if call.nan else "inf"),
        count=call.broken if left and call.broken else -1,
        total=call.channels if left and call.broken else -1,
        amax=call.amax,
        precision=call.dtype,
    )
