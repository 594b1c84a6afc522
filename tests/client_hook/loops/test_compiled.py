"""`torch.compile` before and after `watch`: steps, norms and statistics as in eager mode, and no compilation more."""

import math
from typing import Any

import pytest
import torch
from torch import nn

import trainvitals
from loops import of_type
from recorded import declared, faults, records_of, series
from training_loops import batch, net, overflows, seed_all
from trainvitals import wire

STEPS = 24


class Wrapped(nn.Module):
    """A model of one's own class; a Sequential is never compiled as a frame of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = net()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.inner(x)
        return y * 1.0


class Counting:
    """A backend that counts its graphs."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        self.graphs += 1
        return graph.forward


@pytest.fixture(autouse=True)
def fresh() -> None:
    """No graph of another test is found again."""
    torch._dynamo.reset()


def compile_it(model: nn.Module, how: str, backend: Any) -> Any:
    if how == "a wrapper":
        return torch.compile(model, backend=backend)
    if how == "a part":
        model.inner = torch.compile(model.inner, backend=backend)
    else:
        model.compile(backend=backend)
    return model


def train(model: Any, optimizer: Any, scaler: Any = None, steps: int = STEPS) -> list[float]:
    """Total gradient norm of each step."""
    totals = []
    seed_all()
    for i in range(steps):
        optimizer.zero_grad()
        loss = model(batch(overflow=scaler is not None and overflows(i))).square().mean()
        (loss if scaler is None else scaler.scale(loss)).backward()
        scale = 1.0 if scaler is None else scaler.get_scale()
        totals.append(math.hypot(*(float(p.grad.double().norm()) for p in model.parameters())) / scale)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
    return totals


def graphs_without_us(how: str, scaled: bool) -> int:
    torch._dynamo.reset()
    backend = Counting()
    model = compile_it(Wrapped(), how, backend)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0) if scaled else None
    train(model, torch.optim.SGD(model.parameters(), 1e-3), scaler)
    torch._dynamo.reset()
    return backend.graphs


@pytest.mark.parametrize("scaled", [False, True], ids=["no scaler", "scaler"])
@pytest.mark.parametrize("first", ["watch", "compile"])
@pytest.mark.parametrize("how", ["a wrapper", "in place", "a part"])
def test_watching_costs_no_compilation_and_sees_the_same(how: str, first: str, scaled: bool) -> None:
    """In either order, also with headroom, whose hooks would come and go; every series has the name it has eagerly."""
    alone = graphs_without_us(how, scaled)
    model, backend = Wrapped(), Counting()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0) if scaled else None
    settings = {"scaler": scaler, "mode": "offline", "auto_sanitize": "off"}
    if first == "watch":
        watch = trainvitals.watch(model, optimizer, **settings)
        model = compile_it(model, how, backend)
    else:
        model = compile_it(model, how, backend)
        watch = trainvitals.watch(model, optimizer, **settings)
    totals = train(model, optimizer, scaler)
    assert backend.graphs == alone >= 1
    records = records_of(watch)
    assert faults(records) == []
    assert series(records, "", wire.GRAD_NORM) == pytest.approx(dict(enumerate(totals)), nan_ok=True, rel=1e-5)
    assert declared(records, wire.VAR_MAX) == ["inner.1", "inner.5"]
    if scaled:
        assert series(records, "", wire.SKIPPED) == {i: float(overflows(i)) for i in range(STEPS)}


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("first", ["watch", "compile"])
def test_statistics_of_a_compiled_model_are_repaired(backend: str, first: str) -> None:
    """The graph reads the buffers that were written."""
    model: Any = Wrapped()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    compiled = torch.compile(model, backend=backend)
    watch = trainvitals.watch(model if first == "watch" else compiled, optimizer, mode="offline")
    train(compiled, optimizer, steps=6)
    model.inner[1].running_var[3] = float("inf")
    train(compiled, optimizer, steps=3)
    records = records_of(watch)
    assert faults(records) == []
    assert [(r.layer, r.strategy) for s in of_type(records, wire.Sanitized) for r in s.repairs] == [
        ("inner.1", "restore")
    ]
    assert trainvitals.check_model_health(model).is_healthy


def test_a_whole_graph_is_possible() -> None:
    """No hook of ours breaks it, nor the headroom's."""
    model = Wrapped()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    scaler = torch.amp.GradScaler("cpu")
    watch = trainvitals.watch(model, optimizer, scaler=scaler, mode="offline")
    train(torch.compile(model, backend="eager", fullgraph=True), optimizer, scaler, steps=22)
    assert faults(records_of(watch)) == []


def test_what_is_said_to_run_in_order_is_known_only_of_what_was_heard() -> None:
    """Of a compiled model the order is that of registration."""
    model = Wrapped()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    watch = trainvitals.watch(torch.compile(model, backend="eager"), optimizer, mode="offline")
    assert not any(module._forward_pre_hooks for module in model.modules())
    train(model, optimizer, steps=2)
    records = records_of(watch)
    order = {s.layer: s.order for piece in of_type(records, wire.Layout) for s in piece.series if s.kind == wire.NORM}
    assert order["inner.1"] < order["inner.5"]
