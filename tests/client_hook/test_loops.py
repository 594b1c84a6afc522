"""Loops as users write them, that once were read wrongly: who stepped, what was skipped, whose gradient it was."""

import copy
import math
import random
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import trainvitals
from loops import batches, columns, of_type, small_net, spooled, train_fp16, train_fp32
from trainvitals import wire


def watched(model: Any, optimizer: Any = None, **settings: Any) -> trainvitals.Watch:
    return trainvitals.watch(model, optimizer, **{"mode": "offline", **settings})


def records_of(watch: trainvitals.Watch) -> list[wire.Record]:
    watch.close()
    assert watch.spool_path is not None
    return spooled(watch.spool_path)


def column(records: list[wire.Record], layer: str, stat: str) -> list[float | None]:
    """One series over the frames; None where it is absent."""
    place = columns(records)[layer, stat]
    values: list[float | None] = []
    for frame in of_type(records, wire.Frame):
        if frame.layout == 0:
            bits = np.frombuffer(frame.present, np.uint8) if frame.present is not None else None
            here = bits is None or bool(np.unpackbits(bits, bitorder="little")[place])
            values.append(float(np.frombuffer(frame.values, "<f4")[place]) if here else None)
    return values


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), 1e-3)


@pytest.fixture
def scaler() -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", init_scale=1024.0)


# --- who stepped ---------------------------------------------------------------------------------------------------


def backward(model: nn.Module, x: torch.Tensor, scaler: torch.amp.GradScaler) -> None:
    with torch.autocast("cpu", dtype=torch.float16):
        loss = model(x).float().square().mean()
    scaler.scale(loss).backward()


@pytest.mark.parametrize("explicit", [False, True])
def test_accumulation_with_a_scaler_has_one_step_per_update(scaler: torch.amp.GradScaler, explicit: bool) -> None:
    """No micro-batch is a skipped step; the one true skip is."""
    model = small_net()
    optimizer = sgd(model)
    watch = watched(model, optimizer, scaler=scaler)
    data = list(batches(8, bad=(3,)))
    for i in range(4):
        optimizer.zero_grad()
        for x in data[2 * i : 2 * i + 2]:
            backward(model, x, scaler)
        scaler.step(optimizer)
        scaler.update()
        if explicit:
            watch.step()
    assert column(records_of(watch), "", wire.SKIPPED) == [0, 1, 0, 0]


@pytest.mark.parametrize("explicit", [False, True])
def test_a_gan_with_a_scaler_skips_nothing(scaler: torch.amp.GradScaler, explicit: bool) -> None:
    """The second optimizer's update is no skip of the first."""
    models = {"D": small_net(0), "G": small_net(1)}
    optimizers = {key: sgd(model) for key, model in models.items()}
    watch = watched(models, optimizers, scaler=scaler)
    for i, x in enumerate(batches(6)):
        for key in ("D", "G") if not explicit or i % 3 == 2 else ("D",):
            optimizers[key].zero_grad()
            backward(models[key], x, scaler)
            scaler.step(optimizers[key])
        scaler.update()
        if explicit:
            watch.step()
    assert column(records_of(watch), "", wire.SKIPPED) == [0] * 6


def test_a_step_of_micro_batches_with_the_update_after_it(scaler: torch.amp.GradScaler) -> None:
    """An update that comes after `watch.step` belongs to the step before."""
    model = small_net()
    optimizer = sgd(model)
    watch = watched(model, optimizer, scaler=scaler)
    for i, x in enumerate(batches(6)):
        backward(model, x, scaler)
        if i % 2:
            scaler.step(optimizer)
        watch.step()
        if i % 2:
            scaler.update()
            optimizer.zero_grad()
    assert column(records_of(watch), "", wire.SKIPPED) == [0] * 6


def test_without_an_optimizer_nobody_can_say_what_was_skipped(scaler: torch.amp.GradScaler) -> None:
    """So it is absent."""
    model = small_net()
    optimizer = sgd(model)
    watch = watched(model, scaler=scaler)
    train_fp16(model, optimizer, scaler, batches(3), lambda step, loss: watch.step(loss=loss))
    assert column(records_of(watch), "", wire.SKIPPED) == [None] * 3


def test_a_validation_before_the_first_explicit_step_is_no_step_of_its_own() -> None:
    """The step that was open stays open."""
    model = small_net()
    optimizer = sgd(model)
    watch = watched(model, optimizer)

    def after(step: int, loss: torch.Tensor) -> None:
        with watch.validation() as val, torch.no_grad(), val.batch() as batch:
            batch.loss = model(torch.rand(1, 3, 8, 8)).mean()
        watch.step(step, loss=loss)

    train_fp32(model, optimizer, batches(4), after)
    first = watch.spool_path
    records = records_of(watch)
    assert watch.spool_path == first
    assert [f.step for f in of_type(records, wire.Frame)] == [0, 1, 2, 3]


def test_a_number_that_repeats_is_still_the_same_step() -> None:
    """Not a producer for each micro-batch."""
    model = small_net()
    optimizer = sgd(model)
    watch = watched(model, optimizer)
    train_fp32(model, optimizer, batches(12), lambda step, loss: watch.step(step // 4, loss=loss))
    assert [f.step for f in of_type(records_of(watch), wire.Frame)] == [0, 1, 2]
    assert watch._producer._retired == []


def test_numbers_with_a_stride_are_sampled_all_the_same(scaler: torch.amp.GradScaler) -> None:
    """Headroom every 5 or 20 steps, a health check wherever a multiple of `health_every` is passed."""
    model = small_net()
    optimizer = sgd(model)
    watch = watched(model, optimizer, scaler=scaler, health_every=100)
    train_fp16(model, optimizer, scaler, batches(45), lambda step, loss: watch.step(7 * step + 1))
    records = records_of(watch)
    measured = [i for i, value in enumerate(column(records, "0", wire.HEADROOM)) if value is not None]
    assert {0, 20, 40} <= set(measured) <= set(range(0, 45, 5))
    assert [c.step for c in of_type(records, wire.HealthCheck) if c.origin == "health"] == [106, 204, 302]


# --- whose gradient ------------------------------------------------------------------------------------------------


def test_a_discriminators_gradient_is_not_the_generators_backward() -> None:
    """What its optimizer has used is final."""
    models = {"D": nn.Linear(2, 1, bias=False), "G": nn.Linear(2, 2, bias=False)}
    optimizers = {key: torch.optim.SGD(model.parameters(), 0.0) for key, model in models.items()}
    watch = watched(models, optimizers)
    for _ in range(3):
        optimizers["D"].zero_grad()
        models["D"](torch.ones(1, 2)).sum().backward()
        optimizers["D"].step()
        optimizers["G"].zero_grad()
        models["D"](models["G"](torch.ones(1, 2)) * 100).sum().backward()
        optimizers["G"].step()
        watch.step()
    norms = column(records_of(watch), "D.weight", wire.GRAD_NORM)
    assert norms == pytest.approx([math.sqrt(2)] * 3)


def test_a_backward_that_raised_does_not_end_the_gradients() -> None:
    """The engine throws its callbacks away; the next forward begins anew."""
    model = small_net()
    optimizer = sgd(model)
    watch = watched(model, optimizer)

    class Boom(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("out of memory")

    for i, x in enumerate(batches(4)):
        optimizer.zero_grad()
        hidden = model[:3](x)
        loss = model[3:](Boom.apply(hidden) if i == 1 else hidden).mean()  # type: ignore[no-untyped-call]
        try:
            loss.backward()
        except RuntimeError:
            model(x)  # the next forward
            continue
        optimizer.step()
        watch.step()
    norms = column(records_of(watch), "6.weight", wire.GRAD_NORM)
    assert len(norms) == 3
    assert None not in norms


# --- odd values ----------------------------------------------------------------------------------------------------


def test_numbers_of_numpy_and_tensors_are_numbers(tmp_path: Any) -> None:
    """As steps, totals, losses and metrics; and what is saved can be loaded."""
    watch = watched(small_net())
    watch.step(step=np.int64(3), loss=np.float32(0.5), psnr=np.float64(28.0))  # type: ignore[arg-type]
    with watch.validation(total=np.int64(1)) as val:  # type: ignore[arg-type]
        val.metrics(psnr=np.float64(28.0))
    path = tmp_path / "x.pth"
    extra = {"psnr": np.float64(28.0), "path": tmp_path, "hist": np.arange(3), "nested": {"n": np.int64(2)}}
    assert watch.save_checkpoint(path, extra=extra, metric=np.float64(28.0))
    loaded = trainvitals.load_checkpoint(path)
    assert (loaded.metric, loaded.extra["psnr"], loaded.extra["nested"]) == (28.0, 28.0, {"n": 2})
    assert torch.equal(loaded.extra["hist"], torch.arange(3))
    records = records_of(watch)
    assert of_type(records, wire.Lifecycle)[-1].state == "finished"
    assert of_type(records, wire.Checkpoint)[0].metric == 28.0
    assert of_type(records, wire.Validation)[0].total == 1


def test_a_loss_or_metric_that_is_no_number_costs_only_itself() -> None:
    """The frames go on; the fault is recorded."""
    watch = watched(small_net())
    for i in range(6):
        watch.step(loss={"a": 1} if i == 2 else 1.0, psnr="n/a" if i == 3 else 1.0)
    records = records_of(watch)
    assert [f.step for f in of_type(records, wire.Frame) if f.layout == 0] == list(range(6))
    assert [f.step for f in of_type(records, wire.Frame) if f.layout == 2] == list(range(6))
    assert {fault.probe for fault in of_type(records, wire.ProbeFault)} == {"loss", "metric psnr"}


def test_a_validation_loss_in_parts_is_their_sum() -> None:
    """And one that is neither number nor tensor is no loss."""
    watch = watched(small_net())
    with watch.validation() as val:
        for loss in ({"a": torch.tensor(1.0), "b": 2.0}, [torch.tensor(3.0)], "what"):
            with val.batch() as batch:
                batch.loss = loss
    watch.close()
    assert (val.valid, val.mean_loss) == (3, 3.0)


# --- what is not the hook's business -------------------------------------------------------------------------------


def test_a_copys_load_is_none_of_the_watch() -> None:
    """Its model may be in the middle of a step."""
    model = small_net()
    watch = watched(model, sgd(model))
    twin = copy.deepcopy(model)
    model[1].running_mean[0] = float("nan")
    loss = model(torch.rand(2, 3, 8, 8)).mean()
    twin.load_state_dict(model.state_dict())
    assert not trainvitals.check_model_health(model).is_healthy
    loss.backward()
    checks = [c.origin for c in of_type(records_of(watch), wire.HealthCheck)]
    assert checks == ["load"]


def test_the_users_random_numbers_are_not_touched(caplog: pytest.LogCaptureFixture) -> None:
    """Python's global generator too, while the background thread looks for a server in vain."""
    caplog.set_level("INFO", "trainvitals")
    random.seed(1)
    expected = random.random()
    random.seed(1)
    watch = watched(small_net(), mode="online", server="http://127.0.0.1:9")
    assert watch._producer._depot is not None
    deadline = time.monotonic() + 10
    while "cannot be reached" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    watch.close()  # the thread has slept its jitter by then, or was ended in it
    assert "cannot be reached" in caplog.text
    assert random.random() == expected


def test_a_closed_watch_does_nothing_more() -> None:
    """No hook comes back, no producer is opened."""
    model = small_net()
    optimizer, scaler = sgd(model), torch.amp.GradScaler("cpu")
    watch = watched(model, optimizer, scaler=scaler)
    watch.close()
    for step in (5, 5, 4, 1):
        watch.step(step, loss=1.0)
    with watch.validation() as val, val.batch() as batch:
        batch.loss = 1.0
    assert val.valid == 1
    assert not any(m._forward_pre_hooks for m in model.modules())
    assert watch._producer._retired == []


# --- repairs -------------------------------------------------------------------------------------------------------


def gan_steps(models: dict[str, nn.Module], optimizers: dict[str, Any], count: int) -> Iterator[int]:
    for i, x in enumerate(batches(count)):
        for key in ("G", "D"):
            optimizers[key].zero_grad()
            models[key](x).square().mean().backward()
            optimizers[key].step()
        yield i


def test_a_model_whose_optimizer_is_not_the_clock_is_repaired_too() -> None:
    """At its own safe point."""
    models = {"G": small_net(0), "D": small_net(1)}
    optimizers = {key: sgd(model) for key, model in models.items()}
    watch = watched(models, optimizers)
    for i in gan_steps(models, optimizers, 6):
        if i == 3:
            models["D"][1].running_mean[0] = float("nan")
    watch.close()
    assert trainvitals.check_model_health(models["D"]).is_healthy


def test_undo_touches_only_what_the_command_replaced() -> None:
    """In every model, and not the healthy channels."""
    models = {"G": small_net(0), "D": small_net(1)}
    optimizers = {key: sgd(model) for key, model in models.items()}
    watch = watched(models, optimizers, allow=("sanitize", "undo"), auto_sanitize="off")
    desk = watch._producer._desk
    assert desk is not None
    producer = desk._identity.producer
    common = {"producer": producer, "ttl": 30.0, "expires": 0.0}
    for i in gan_steps(models, optimizers, 8):
        if i == 2:
            for model in models.values():
                model[1].running_mean[0] = float("nan")
            desk.receive(wire.Command(id="c1", action="sanitize", **common))
        if i == 4:
            assert all(trainvitals.check_model_health(model).is_healthy for model in models.values())
            models["G"][1].running_mean[5] = 40.0
            desk.receive(wire.Command(id="c2", action="undo", of="c1", **common))
    undone = next(u for u in of_type(records_of(watch), wire.CommandUpdate) if u.id == "c2" and u.state == "applied")
    assert undone.result["layers"] == 2
    assert all(math.isnan(model[1].running_mean[0]) for model in models.values())
    assert float(models["G"][1].running_mean[5]) > 10
