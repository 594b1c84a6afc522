"""`watch` around real loops: what is recorded, at which step, and that training is not touched."""

import copy
import io
import math
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import trainvitals
from loops import batches, columns, of_type, small_net, spooled, train_fp16, train_fp32
from trainvitals import wire
from trainvitals.errors import ConfigurationError


def watched(model: nn.Module, optimizer: Any = None, **settings: Any) -> trainvitals.Watch:
    """Offline: spool only."""
    return trainvitals.watch(model, optimizer, **{"mode": "offline", **settings})


def records_of(watch: trainvitals.Watch) -> list[wire.Record]:
    watch.close()
    assert watch.spool_path is not None
    return spooled(watch.spool_path)


def frames(records: list[wire.Record], layout: int = 0) -> dict[int, np.ndarray]:
    """step -> vector, absent values as None would be: they are left as 0, see `present`."""
    return {f.step: np.frombuffer(f.values, "<f4") for f in of_type(records, wire.Frame) if f.layout == layout}


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), 1e-2, momentum=0.9)


# --- steps ---------------------------------------------------------------------------------------------------------


def test_every_step_of_a_plain_loop_is_one_frame() -> None:
    """With no call in the loop."""
    model = small_net()
    optimizer = sgd(model)
    watch = watched(model, optimizer)
    train_fp32(model, optimizer, batches(7))
    assert list(frames(records_of(watch))) == list(range(7))


def test_skipped_steps_are_frames_too() -> None:
    """Though no hook of the optimizer fires for them."""
    model = small_net()
    optimizer, scaler = sgd(model), torch.amp.GradScaler("cpu", init_scale=1024.0)
    watch = watched(model, optimizer, scaler=scaler, auto_sanitize="off")
    train_fp16(model, optimizer, scaler, batches(8, bad=(3,)))
    records = records_of(watch)
    skipped = columns(records)["", wire.SKIPPED]
    assert {step: float(v[skipped]) for step, v in frames(records).items()} == {i: float(i == 3) for i in range(8)}


def test_a_fused_optimizers_skips_are_seen() -> None:
    """There both hooks fire and the step does nothing."""
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-2, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    watch = watched(model, optimizer, scaler=scaler)
    for x in batches(6, bad=(2,)):
        with torch.autocast("cpu", dtype=torch.float16):
            loss = ((model(x) - x).float() ** 2).mean()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    records = records_of(watch)
    skipped = columns(records)["", wire.SKIPPED]
    assert [float(v[skipped]) for v in frames(records).values()] == [0, 0, 1, 0, 0, 0]


def test_an_explicit_step_takes_the_loss_and_metrics() -> None:
    """Tensors or numbers; the first call joins the step that the optimizer had already ended."""
    model = small_net()
    optimizer = sgd(model)
    watch = watched(model, optimizer)
    losses = []

    def after(step: int, loss: torch.Tensor) -> None:
        losses.append(loss.item())
        watch.step(loss=loss, accuracy=step / 10)

    train_fp32(model, optimizer, batches(5), after)
    records = records_of(watch)
    column = columns(records)["", wire.LOSS]
    assert [float(v[column]) for v in frames(records).values()] == pytest.approx(losses)
    assert [round(float(v[0]), 3) for v in frames(records, 2).values()] == [0, 0.1, 0.2, 0.3, 0.4]


def test_the_loss_is_copied_when_it_is_given() -> None:
    """A later in-place change of the tensor does not reach back."""
    watch = watched(nn.Linear(1, 1))
    loss = torch.tensor(2.0)
    watch.step(loss=loss)
    loss /= 4
    records = records_of(watch)
    assert frames(records)[0][columns(records)["", wire.LOSS]] == 2.0


def test_accumulated_gradients_count_once_with_their_sum() -> None:
    """The last backward before the step wins."""
    model = nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    watch = watched(model, optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        for _ in range(4):
            model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    records = records_of(watch)
    norm = columns(records)["weight", wire.GRAD_NORM]
    assert [float(v[norm]) for v in frames(records).values()] == pytest.approx([math.hypot(4, 4)] * 3)


def test_norms_are_unscaled_and_unclipped() -> None:
    """Read at the end of backward, divided by the scale the gradients carry."""
    model = nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    watch = watched(model, optimizer, scaler=scaler)
    scaler.scale(model(torch.ones(1, 2) * 10).sum()).backward()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    scaler.step(optimizer)
    scaler.update()
    records = records_of(watch)
    where = columns(records)
    vector = frames(records)[0]
    assert vector[where["weight", wire.GRAD_NORM]] == pytest.approx(math.hypot(10, 10))
    assert vector[where["", wire.GRAD_NORM]] == pytest.approx(math.hypot(10, 10))
    assert vector[where["", wire.LOSS_SCALE]] == 512


def test_an_absent_gradient_is_absent_not_zero() -> None:
    """A parameter that took no part in the step."""
    used, unused = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    model = nn.ModuleDict({"used": used, "unused": unused})
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    watch = watched(model, optimizer)
    for _ in range(3):
        used(torch.ones(1, 1)).sum().backward()
        optimizer.step()
    records = records_of(watch)
    where = columns(records)
    last = of_type(records, wire.Frame)[-1]
    assert last.present is not None
    present = np.unpackbits(np.frombuffer(last.present, np.uint8), bitorder="little")
    assert present[where["used.weight", wire.GRAD_NORM]] == 1
    assert present[where["unused.weight", wire.GRAD_NORM]] == 0


def test_every_nth_step_is_read_when_asked() -> None:
    """And the health check's steps."""
    model = small_net()
    optimizer = sgd(model)
    watch = watched(model, optimizer, every=4, health_every=10)
    train_fp32(model, optimizer, batches(13))
    assert list(frames(records_of(watch))) == [0, 4, 8, 10, 12]


def test_with_two_optimizers_the_first_is_the_clock() -> None:
    """A GAN's two updates are one step, and both models' layers carry their prefix."""
    models = {"G": small_net(0), "D": small_net(1)}
    optimizers = {key: sgd(model) for key, model in models.items()}
    watch = trainvitals.watch(models, optimizers, mode="offline")
    for x in batches(4):
        for key in ("D", "G"):
            optimizers[key].zero_grad()
            models[key](x).square().mean().backward()
            optimizers[key].step()
    records = records_of(watch)
    assert list(frames(records)) == [0, 1, 2, 3]
    assert {"G.1", "D.1"} <= {layer for layer, _ in columns(records)}


def test_a_step_number_that_goes_back_is_another_producer() -> None:
    """No step has two meanings; the new producer declares its layouts again."""
    model = small_net()
    optimizer = sgd(model)
    watch = watched(model, optimizer)
    train_fp32(model, optimizer, batches(5), lambda step, loss: watch.step(step, loss=loss))
    first = watch.spool_path
    train_fp32(model, optimizer, batches(3), lambda step, loss: watch.step(step + 2, loss=loss))
    second = records_of(watch)
    assert first is not None
    assert watch.spool_path != first
    assert list(frames(spooled(first))) == [0, 1, 2, 3, 4]
    assert list(frames(second)) == [2, 3, 4]
    assert columns(second) == columns(spooled(first))


def test_layers_are_ordered_as_they_run() -> None:
    """Not as they were registered."""

    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.BatchNorm1d(2)
            self.first = nn.BatchNorm1d(2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.last(self.first(x))
            return y

    model = Backwards()
    optimizer = sgd(model)
    watch = watched(model, optimizer)
    for _ in range(2):
        model(torch.rand(4, 2)).sum().backward()
        optimizer.step()
    series = [s for piece in of_type(records_of(watch), wire.Layout) for s in piece.series]
    order = {s.layer: s.order for s in series if s.kind == wire.NORM}
    assert order["first"] < order["last"]


# --- statistics, events, repair ------------------------------------------------------------------------------------


def test_ranges_are_those_of_the_buffers() -> None:
    """Min and max of mean and variance, and no bad channels."""
    model = small_net()
    optimizer = sgd(model)
    watch = watched(model, optimizer)
    train_fp32(model, optimizer, batches(3), lambda step, loss: watch.step(loss=loss))
    records = records_of(watch)
    where, vector = columns(records), frames(records)[2]
    got = [float(vector[where["1", stat]]) for stat in wire.NORM_STATS]
    mean, var = model[1].running_mean, model[1].running_var
    assert got == pytest.approx([float(v) for v in (mean.min(), mean.max(), var.min(), var.max())] + [0, 0])


def test_the_failure_is_seen_named_and_repaired_at_once() -> None:
    """The seed: an overflow, a skipped step, statistics non-finite, and a pass that restores them."""
    model = small_net()
    optimizer, scaler = sgd(model), torch.amp.GradScaler("cpu", init_scale=1024.0)
    watch = watched(model, optimizer, scaler=scaler)
    train_fp16(model, optimizer, scaler, batches(30, bad=(24,)), lambda step, loss: watch.step(loss=loss))
    records = records_of(watch)
    broken = [e for e in of_type(records, wire.NonFinite) if e.signal == "running_statistics"]
    assert [(e.step, e.layer, e.count, e.total, e.skipped) for e in broken] == [
        (24, "1", 8, 8, True),
        (24, "4", 8, 8, True),
    ]
    assert broken[0].headroom is not None
    (repair,) = of_type(records, wire.Sanitized)
    assert (repair.step, repair.origin, repair.strategy) == (24, "auto", "restore")
    assert [r.snapshot_step for r in repair.repairs] == [23, 23]
    assert "skipped step 24" in repair.upstream
    column = columns(records)["1", wire.NONFINITE_CHANNELS]
    assert [s for s, v in frames(records).items() if v[column]] == [24]
    assert trainvitals.check_model_health(model).is_healthy


def test_without_repair_the_statistics_stay_broken_and_are_reported_once() -> None:
    """As they do without the hook."""
    model = small_net()
    optimizer, scaler = sgd(model), torch.amp.GradScaler("cpu", init_scale=1024.0)
    watch = watched(model, optimizer, scaler=scaler, auto_sanitize="off")
    train_fp16(model, optimizer, scaler, batches(8, bad=(3,)))
    records = records_of(watch)
    assert len([e for e in of_type(records, wire.NonFinite) if e.signal == "running_statistics"]) == 2
    assert not of_type(records, wire.Sanitized)
    assert not trainvitals.check_model_health(model).is_healthy


def test_what_is_loaded_is_checked_and_repaired() -> None:
    """Before `watch`, and at every load after it."""
    corrupt = small_net()
    corrupt[4].running_var[0] = float("nan")
    model = small_net()
    model.load_state_dict(corrupt.state_dict())
    watch = watched(model, sgd(model))
    assert trainvitals.check_model_health(model).is_healthy
    model.load_state_dict(corrupt.state_dict())
    assert trainvitals.check_model_health(model).is_healthy
    records = records_of(watch)
    assert [(c.origin, c.healthy, c.keys) for c in of_type(records, wire.HealthCheck)] == [
        ("load", False, ["4.running_statistics"])
    ] * 2
    assert [(s.origin, s.repairs[0].strategy) for s in of_type(records, wire.Sanitized)] == [("load", "reset")] * 2


def test_a_halt_is_said_and_stops_repairs(caplog: pytest.LogCaptureFixture) -> None:
    """Only where `max_repairs` is given."""
    model = small_net()
    optimizer, scaler = sgd(model), torch.amp.GradScaler("cpu", init_scale=1024.0)
    watch = watched(model, optimizer, scaler=scaler, max_repairs=1)
    train_fp16(model, optimizer, scaler, batches(10, bad=(3, 6)), lambda step, loss: watch.step(loss=loss))
    records = records_of(watch)
    assert len(of_type(records, wire.Sanitized)) == 1
    assert [notice.code for notice in of_type(records, wire.Notice)] == ["repair_halted"]
    assert "max_repairs=1" in caplog.text


def test_an_ema_copy_is_healed_from_the_live_model() -> None:
    """It would keep refusing checkpoints otherwise."""
    model = small_net()
    ema = copy.deepcopy(model)
    optimizer, scaler = sgd(model), torch.amp.GradScaler("cpu", init_scale=1024.0)
    watch = watched(model, optimizer, scaler=scaler, ema=ema)

    def follow(step: int, loss: torch.Tensor) -> None:
        for mine, theirs in zip(ema.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)
        watch.step(loss=loss)

    train_fp16(model, optimizer, scaler, batches(6, bad=(3,)), follow)
    watch.close()
    assert trainvitals.check_model_health(ema).is_healthy


def test_a_nonfinite_loss_is_an_event_once() -> None:
    """Until it is finite again."""
    watch = watched(nn.Linear(1, 1))
    for loss in (1.0, math.nan, math.nan, 1.0, math.inf):
        watch.step(loss=loss)
    events = of_type(records_of(watch), wire.NonFinite)
    assert [(e.step, e.signal, e.kind) for e in events] == [(1, "loss", "nan"), (4, "loss", "inf")]


def test_a_nonfinite_output_is_counted_and_an_event(caplog: pytest.LogCaptureFixture) -> None:
    """However it is nested; steps without an output say nothing of it."""
    watch = watched(nn.Linear(1, 1))
    watch.step(loss=1.0)
    watch.step(loss=1.0, output={"y": [torch.tensor([1.0, math.inf, math.nan])], "n": torch.tensor([1])})
    records = records_of(watch)
    place = columns(records)["", wire.OUTPUT_NONFINITE]
    assert [float(v[place]) for v in frames(records).values()] == [0, 2]
    assert [(e.step, e.signal, e.count) for e in of_type(records, wire.NonFinite)] == [(1, "output", 2)]
    assert "[NaN OUTPUT] iter 1" in caplog.text


def test_corrupt_weights_are_found_by_the_health_check() -> None:
    """And the moments they spoiled."""
    model = small_net()
    optimizer = torch.optim.Adam(model.parameters())
    watch = watched(model, optimizer, health_every=4)
    train_fp32(model, optimizer, batches(4))
    with torch.no_grad():
        model[0].weight[0] = float("nan")
    train_fp32(model, optimizer, batches(5))
    checks = [check for check in of_type(records_of(watch), wire.HealthCheck) if check.origin == "health"]
    assert [(c.step, c.healthy) for c in checks] == [(4, False), (8, False)]
    assert {"0.weight.weight", "0.weight.moments"} <= set(checks[-1].keys)


# --- it never perturbs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fp32", "fp16"])
def test_training_is_bitwise_the_same_with_and_without(kind: str) -> None:
    """Weights, buffers, optimizer state and random numbers."""

    def run(mode: str) -> tuple[dict[str, torch.Tensor], Any, torch.Tensor]:
        model = small_net()
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        watch = watched(model, optimizer, mode=mode)
        if kind == "fp32":
            train_fp32(model, optimizer, batches(25))
        else:
            train_fp16(model, optimizer, torch.amp.GradScaler("cpu", init_scale=1024.0), batches(25))
        watch.close()
        return model.state_dict(), optimizer.state_dict()["state"], torch.get_rng_state()

    (weights, state, rng), (weights2, state2, rng2) = run("disabled"), run("offline")
    assert list(weights) == list(weights2)
    assert all(torch.equal(weights[key], weights2[key]) for key in weights)
    assert all(torch.equal(state[i][slot], state2[i][slot]) for i in state for slot in state[i])
    assert torch.equal(rng, rng2)


def test_nothing_is_left_behind_after_close() -> None:
    """No hooks, no threads."""
    others = set(threading.enumerate())  # of watches that nobody closed, until they notice
    model = small_net()
    optimizer = sgd(model)
    watch = watched(model, optimizer)
    train_fp32(model, optimizer, batches(3))
    watch.close()
    hooks = ("_forward_pre_hooks", "_forward_hooks", "_load_state_dict_post_hooks")
    assert not any(getattr(module, name) for module in model.modules() for name in hooks)
    assert not optimizer._optimizer_step_post_hooks
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())
    assert set(threading.enumerate()) <= others


def test_a_watched_model_can_be_copied_and_pickled() -> None:
    """And neither copy speaks for the original."""
    model = small_net()
    optimizer = sgd(model)
    watch = watched(model, optimizer)
    train_fp32(model, optimizer, batches(2))
    twin = copy.deepcopy(model)
    buffer = io.BytesIO()
    pickle.dump(model, buffer)
    other = pickle.loads(buffer.getvalue())  # noqa: S301 - our own bytes
    train_fp32(twin, sgd(twin), batches(3))
    train_fp32(other, sgd(other), batches(3))
    assert len(frames(records_of(watch))) == 2


def test_disabled_has_no_effect_no_files_no_threads(private_home: Path) -> None:
    """But validation and guarded saving still work."""
    others = set(threading.enumerate())
    model = small_net()
    optimizer = sgd(model)
    watch = watched(model, optimizer, mode="disabled")
    train_fp32(model, optimizer, batches(2), lambda step, loss: watch.step(loss=loss))
    with watch.validation() as val, val.batch() as batch:
        batch.loss = torch.tensor(1.0)
    assert (val.valid, watch.state, watch.url, watch.spool_path) == (1, "disabled", "", None)
    watch.close()
    assert set(threading.enumerate()) <= others
    assert not private_home.exists()


def test_watching_twice_is_watching_once() -> None:
    """Until it is closed."""
    model = small_net()
    watch = watched(model)
    assert watched(model) is watch
    watch.close()
    watch.close()
    assert watched(model) is not watch


def test_a_probe_that_raises_is_counted_disabled_and_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Training does not notice; the other probes go on."""
    model = small_net()
    optimizer = sgd(model)
    watch = watched(model, optimizer)

    def broken() -> Any:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(watch._vitals.signs.statistics[0][0], "read", broken)
    train_fp32(model, optimizer, batches(6))
    records = records_of(watch)
    faults = of_type(records, wire.ProbeFault)
    assert [(f.probe, f.disabled) for f in faults] == [
        ("statistics", False),
        ("statistics", False),
        ("statistics", True),
    ]
    assert len(frames(records)) == 6
    assert "no such luck" in caplog.text


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"mode": "sometimes"}, "mode: expected one of online, offline, disabled, got 'sometimes'"),
        ({"auto_sanitize": "yes"}, "auto_sanitize: expected one of restore, reset, off, got 'yes'"),
        ({"allow": ("rm",)}, "allow: expected one of sanitize, .* got 'rm'"),
        ({"every": 0}, "every: expected at least 1, got 0"),
        ({"run_id": "../x"}, "run_id: expected up to 128 letters"),
        ({"server": "host"}, "server: expected an address such as"),
    ],
)
def test_a_wrong_setting_is_refused_at_once(settings: dict[str, Any], text: str) -> None:
    """With what was expected and what came."""
    with pytest.raises(ConfigurationError, match=text):
        watched(nn.Linear(1, 1), **settings)
