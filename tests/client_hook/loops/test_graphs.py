"""CUDA graphs: nothing is read, asked or allocated while one is captured. By design everywhere; on a GPU by trial."""

from typing import Any

import pytest
import torch

import trainvitals
from loops import of_type
from recorded import faults, records_of, series
from training_loops import LOOPS, Loop, net, one, seed_all
from trainvitals import wire
from trainvitals.probes.guard import Guard
from trainvitals.record.transfer import Transfer

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("loop", [loop for loop in LOOPS if "compiled" not in loop.name][:24:3], ids=str)
def test_nothing_runs_while_a_graph_is_captured(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """No hook does anything, so nothing of ours gets into the graph; before and after it they do."""
    made = loop.make()
    watch = trainvitals.watch(made.models, made.optimizers, scaler=made.scaler, ema=made.ema, mode="offline")
    seed_all()
    loop.step(made, 0)
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_initialized", lambda: True)
        patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        ran: list[str] = []
        run = Guard.run

        def noting(self: Guard, probe: str, call: Any, default: Any) -> Any:
            ran.append(probe)
            return run(self, probe, call, default)

        patch.setattr(Guard, "run", noting)
        loop.step(made, 1)
        assert set(ran) <= {"backward"}  # which asks the autograd engine, not the device
    loop.step(made, 2)
    records = records_of(watch)
    assert faults(records) == []
    assert list(series(records, "", wire.GRAD_NORM)) == [0, 1]


def test_a_submission_during_capture_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever made it; the ring keeps all its buffers."""
    from trainvitals.record import transfer

    monkeypatch.setattr(transfer, "capturing", lambda: True)
    carrier = Transfer()
    got: list[Any] = []
    values = torch.ones(3, device="meta")  # any device but the CPU
    assert carrier.submit([transfer.Part(slice(0, 3), values)], got.append) == 1
    assert (got, carrier.dropped) == ([None], 1)
    carrier.raise_failure()


def test_a_transfer_that_fails_keeps_nobody_waiting() -> None:
    """It is delivered as dropped, and the failure raised afterwards."""
    from trainvitals.record.transfer import Part

    carrier = Transfer()
    got: list[Any] = []
    carrier.submit([Part(slice(0, 3), torch.ones(3, device="meta"))], got.append)
    assert (got, carrier.dropped) == ([None], 1)
    with pytest.raises(NotImplementedError):
        carrier.raise_failure()
    carrier.raise_failure()  # once


@cuda
def test_a_captured_step_can_be_replayed_under_a_watch() -> None:
    """The graph is the user's alone; statistics are still read at each `watch.step`."""
    model = net().cuda()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    watch = trainvitals.watch(model, optimizer, mode="offline")
    x = torch.rand(4, 6, device="cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
            watch.step()
    torch.cuda.current_stream().wait_stream(stream)
    optimizer.zero_grad()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model(x).square().mean().backward()
        optimizer.step()
    for _ in range(5):
        x.copy_(torch.rand(4, 6))
        graph.replay()
        watch.step()
    records = records_of(watch)
    assert faults(records) == []
    assert len(of_type(records, wire.Frame)) == 8
    assert len(series(records, "1", wire.VAR_MAX)) == 8


@cuda
def test_a_plain_loop_never_waits_for_the_device() -> None:
    """Under torch's own check, after the first steps have allocated what they need."""
    made = one(torch.optim.SGD, lr=1e-3)()
    made.model.cuda()
    watch = trainvitals.watch(made.model, made.optimizer, mode="offline", health_every=5)
    x = torch.rand(4, 6, device="cuda")
    for i in range(40):
        if i == 3:
            torch.cuda.set_sync_debug_mode("error")
        made.optimizer.zero_grad()
        loss = made.model(x).square().mean()
        loss.backward()
        made.optimizer.step()
        watch.step(loss=loss, output=x)
    torch.cuda.set_sync_debug_mode("default")
    records = records_of(watch)
    assert faults(records) == []
    assert len(series(records, "", wire.GRAD_NORM)) + watch.dropped == 40
