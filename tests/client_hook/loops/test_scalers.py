"""True norms and the right skipped steps, with every kind of optimizer that a scaler treats differently."""

import math
from typing import Any

import pytest
import torch
from torch import nn

import trainvitals
from recorded import faults, records_of, series
from training_loops import autocast, batch, net, one, overflows, scaled, scaled_gan, scaled_gan_pair, seed_all
from trainvitals import wire

STEPS = 24
KINDS = {"ordinary": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}


def train(made: Any, observe: Any = None, *, unscale: bool = False, accumulate: int = 1) -> None:
    """`STEPS` scaled steps; `observe(i)` sees the gradients as backward left them."""
    for i in range(STEPS):
        made.optimizer.zero_grad()
        for k in range(accumulate):
            x = batch(overflow=overflows(i) and k == 0)
            made.scaler.scale(made.model(x).square().mean()).backward()
        if observe is not None:
            observe(i)
        if unscale:
            made.scaler.unscale_(made.optimizer)
            nn.utils.clip_grad_norm_(made.model.parameters(), 0.05)
        made.scaler.step(made.optimizer)
        made.scaler.update()


def true_norms(make: Any, **settings: Any) -> dict[str, dict[int, float]]:
    """Of an unwatched twin, in float64 and divided by the scale of the time: name -> step -> norm."""
    made = make()
    norms: dict[str, dict[int, float]] = {name: {} for name, _ in made.model.named_parameters()}

    def observe(i: int) -> None:
        for name, parameter in made.model.named_parameters():
            norms[name][i] = float(parameter.grad.double().norm() / made.scaler.get_scale())

    seed_all()
    train(made, observe, **settings)
    return norms


@pytest.mark.parametrize("unscale", [False, True], ids=["plain", "unscaled and clipped"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_norms_are_true_and_skips_are_seen(optimizer: Any, kind: str, unscale: bool) -> None:
    """What backward left, divided by the scale, whoever unscales and clips it later; each overflow is one skip."""
    make = scaled(optimizer, lr=1e-3, **KINDS[kind])
    expected = true_norms(make, unscale=unscale)
    made = make()
    watch = trainvitals.watch(made.model, made.optimizer, scaler=made.scaler, mode="offline", auto_sanitize="off")
    seed_all()
    train(made, unscale=unscale)
    records = records_of(watch)
    assert faults(records) == []
    for name, norms in expected.items():
        found = series(records, name, wire.GRAD_NORM)
        assert list(found) == list(range(STEPS))
        assert found == pytest.approx(norms, rel=1e-5, abs=1e-9, nan_ok=True)
    assert series(records, "", wire.SKIPPED) == {i: float(overflows(i)) for i in range(STEPS)}


def test_the_scale_recorded_is_the_one_the_gradients_carry() -> None:
    """Not the one the scaler's update has put in its place since."""
    make = scaled(torch.optim.SGD, lr=1e-3)
    twin, scales = make(), {}
    seed_all()
    train(twin, lambda i: scales.update({i: twin.scaler.get_scale()}))
    made = make()
    watch = trainvitals.watch(made.model, made.optimizer, scaler=made.scaler, mode="offline")
    seed_all()
    train(made)
    recorded = series(records_of(watch), "", wire.LOSS_SCALE)
    assert len(set(scales.values())) == 2
    assert recorded == scales


@pytest.mark.parametrize("unscale", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_accumulation_under_a_scaler_is_one_step(kind: str, unscale: bool) -> None:
    """With the sum of the micro-batches' gradients, and an overflow in any of them skips it."""
    make = scaled(torch.optim.SGD, lr=1e-3, **KINDS[kind])
    expected = true_norms(make, accumulate=3, unscale=unscale)
    made = make()
    watch = trainvitals.watch(made.model, made.optimizer, scaler=made.scaler, mode="offline", auto_sanitize="off")
    seed_all()
    train(made, accumulate=3, unscale=unscale)
    records = records_of(watch)
    found = series(records, "0.weight", wire.GRAD_NORM)
    assert found == pytest.approx(expected["0.weight"], rel=1e-5, nan_ok=True)
    assert series(records, "", wire.SKIPPED) == {i: float(overflows(i)) for i in range(STEPS)}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_norms_under_autocast_without_a_scaler(dtype: torch.dtype) -> None:
    """Nothing to unscale, and nobody to say that a step was skipped."""
    make = one(torch.optim.SGD, lr=1e-3)
    twin, made, expected = make(), make(), {}
    seed_all()
    for i in range(10):
        autocast(dtype)(twin, i)
        expected[i] = math.hypot(*(float(p.grad.norm()) for p in twin.model.parameters()))
    watch = trainvitals.watch(made.model, made.optimizer, mode="offline")
    seed_all()
    for i in range(10):
        autocast(dtype)(made, i)
    records = records_of(watch)
    assert series(records, "", wire.GRAD_NORM) == pytest.approx(expected)
    assert series(records, "", wire.SKIPPED) == {}


def test_half_precision_gradients_do_not_overflow_in_their_norm() -> None:
    """1000 elements of 3000 in fp16: each fits, the sum of squares does not."""
    model = nn.Linear(1000, 1, bias=False).half()
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    watch = trainvitals.watch(model, optimizer, mode="offline")
    model(torch.full((1, 1000), 3000.0).half()).sum().backward()
    optimizer.step()
    assert series(records_of(watch), "weight", wire.GRAD_NORM)[0] == pytest.approx(3000 * math.sqrt(1000), rel=1e-3)


@pytest.mark.parametrize("explicit", [False, True])
def test_a_gans_skips_are_those_of_its_step(explicit: bool) -> None:
    """With an update after each optimizer's step. Until `watch.step` the first optimizer is the clock, and only its
    own skips count; from then on any that falls into the step."""
    made = scaled_gan_pair()
    watch = trainvitals.watch(made.models, made.optimizers, scaler=made.scaler, mode="offline", auto_sanitize="off")
    seed_all()
    for i in range(STEPS):
        scaled_gan(made, i)
        if explicit:
            watch.step()
    records = records_of(watch)
    skips = {i: float(i % 12 == 5 or (explicit and i % 12 == 8)) for i in range(STEPS)}
    assert series(records, "", wire.SKIPPED) == skips
    assert faults(records) == []


@pytest.mark.parametrize("fused", [False, True])
def test_a_user_who_asks_for_the_scale_before_the_update_changes_nothing(fused: bool) -> None:
    """`get_scale` and a state dict taken in the loop are no step of the scaler's."""
    made = scaled(torch.optim.SGD, lr=1e-3, fused=fused)()
    watch = trainvitals.watch(made.model, made.optimizer, scaler=made.scaler, mode="offline", auto_sanitize="off")
    seed_all()
    train(made, lambda i: (made.scaler.get_scale(), made.scaler.state_dict()))
    assert series(records_of(watch), "", wire.SKIPPED) == {i: float(overflows(i)) for i in range(STEPS)}


def test_a_scale_set_by_hand_is_no_skip() -> None:
    """Between two micro-batches, say."""
    made = scaled(torch.optim.SGD, lr=1e-3)()
    watch = trainvitals.watch(made.model, made.optimizer, scaler=made.scaler, mode="offline")
    for _ in range(3):
        made.optimizer.zero_grad()
        for _ in range(2):
            made.scaler.scale(made.model(batch()).mean()).backward()
            made.scaler.update(2048.0)
        made.scaler.step(made.optimizer)
        made.scaler.update()
    assert series(records_of(watch), "", wire.SKIPPED) == {0: 0.0, 1: 0.0, 2: 0.0}


def test_another_optimizers_skip_is_none_of_ours() -> None:
    """One that shares the scaler but is not watched."""
    made, other = scaled(torch.optim.SGD, lr=1e-3)(), one(torch.optim.SGD, lr=1e-3)()
    watch = trainvitals.watch(made.model, made.optimizer, scaler=made.scaler, mode="offline")
    for i in range(3):
        for each in (other, made):
            each.optimizer.zero_grad()
            made.scaler.scale(each.model(batch(overflow=each is other and i == 1)).mean()).backward()
        for each in (made, other):
            made.scaler.step(each.optimizer)
        made.scaler.update()
        watch.step()
    assert series(records_of(watch), "", wire.SKIPPED) == {0: 0.0, 1: 0.0, 2: 0.0}


@pytest.mark.parametrize("fused", [False, True])
def test_one_of_two_optimizers_of_a_model_may_overflow_alone(fused: bool) -> None:
    """The clock's skip counts though the other one steps after the same backward; the other's does not."""
    model = net()
    body = torch.optim.SGD(model[:4].parameters(), 1e-3, fused=fused)
    head = torch.optim.SGD(model[4:].parameters(), 1e-3, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    watch = trainvitals.watch(model, {"body": body, "head": head}, scaler=scaler, mode="offline")
    seed_all()
    for i in range(8):
        for optimizer in (body, head):
            optimizer.zero_grad()
        scaler.scale(model(batch()).square().mean()).backward()
        for k, part in ((2, model[0]), (5, model[4])):
            part.weight.grad[0, 0] = float("inf") if i == k else part.weight.grad[0, 0]
        for optimizer in (body, head):
            scaler.step(optimizer)
        scaler.update()
    records = records_of(watch)
    assert faults(records) == []
    assert series(records, "", wire.SKIPPED) == {i: float(i == 2) for i in range(8)}


def test_a_disabled_scaler_is_no_scaler() -> None:
    """As loops keep one for the case without mixed precision."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    watch = trainvitals.watch(model, optimizer, scaler=scaler, mode="offline")
    for _ in range(4):
        optimizer.zero_grad()
        scaler.scale(model(batch()).mean()).backward()
        scaler.step(optimizer)
        scaler.update()
    records = records_of(watch)
    assert list(series(records, "", wire.GRAD_NORM)) == [0, 1, 2, 3]
    assert series(records, "", wire.SKIPPED) == series(records, "", wire.LOSS_SCALE) == {}


def test_the_private_names_of_the_scaler_are_there() -> None:
    """What is read of it without a synchronisation is private to torch: this pins it."""
    made = scaled(torch.optim.SGD, lr=1e-3)()
    scaler = made.scaler
    assert scaler is not None
    assert scaler._scale is None
    made.optimizer.zero_grad()
    scaler.scale(made.model(batch()).mean()).backward()
    assert isinstance(scaler._scale, torch.Tensor)
    states, version = scaler._per_optimizer_states, scaler._scale._version
    scaler.step(made.optimizer)
    assert states[id(made.optimizer)]["stage"] is torch.amp.grad_scaler.OptState.STEPPED
    scaler.update()
    assert scaler._scale._version > version
    assert scaler._per_optimizer_states is not states
    assert id(made.optimizer) in states
