"""By how much gradients were clipped: the ratio, and the total norm that is left."""

import math
from typing import Any

import pytest
import torch
from torch import nn

import trainvitals
from recorded import faults, records_of, series
from training_loops import Made, batch, net, one, overflows, scaled, seed_all
from trainvitals import wire

STEPS = 12
BOUND = 0.1
SCALED = [("ordinary", {"foreach": False}), ("foreach", {"foreach": True}), ("fused", {"fused": True})]


def clip(made: Made) -> None:
    nn.utils.clip_grad_norm_(made.model.parameters(), BOUND)


def left(made: Made) -> float:
    return math.hypot(*(float(p.grad.double().norm()) for p in made.model.parameters()))


def train(made: Made, i: int, watch: Any = None) -> tuple[float, float]:
    """One step, clipped every second time; returns the total norms before and after, as the gradients say."""
    made.optimizer.zero_grad()
    loss = made.model(batch()).square().mean()
    (loss if made.scaler is None else made.scaler.scale(loss)).backward()
    scale = 1.0 if made.scaler is None else made.scaler.get_scale()
    before = left(made) / scale
    unscaled = made.scaler is not None and i % 2 == 0
    if unscaled:
        made.scaler.unscale_(made.optimizer)
    if i % 2 == 0:
        clip(made)
    after = left(made) / (1.0 if unscaled else scale)
    if made.scaler is None:
        made.optimizer.step()
    else:
        made.scaler.step(made.optimizer)
        made.scaler.update()
    return before, after


@pytest.mark.parametrize(
    "make",
    [one(torch.optim.SGD, lr=1e-2), *(scaled(torch.optim.Adam, lr=1e-3, **kind) for _, kind in SCALED)],
    ids=["no scaler", *(name for name, _ in SCALED)],
)
def test_norms_before_and_after_are_those_of_the_gradients(make: Any) -> None:
    """Whoever unscales, the user or the optimizer, even within its fused step; 1 where nothing was clipped."""
    made = make()
    watch = trainvitals.watch(made.model, made.optimizer, scaler=made.scaler, mode="offline")
    seed_all()
    true = [train(made, i) for i in range(STEPS)]
    records = records_of(watch)
    assert faults(records) == []
    assert series(records, "", wire.GRAD_NORM) == pytest.approx({i: pair[0] for i, pair in enumerate(true)})
    assert series(records, "", wire.GRAD_NORM_CLIPPED) == pytest.approx({i: pair[1] for i, pair in enumerate(true)})
    ratios = series(records, "", wire.CLIP_RATIO)
    assert [ratios[i] == pytest.approx(1.0) for i in range(STEPS)] == [i % 2 == 1 for i in range(STEPS)]


@pytest.mark.parametrize("kind", [kind for _, kind in SCALED[:2]], ids=["ordinary", "foreach"])
def test_a_skipped_step_has_no_ratio(kind: dict[str, bool]) -> None:
    """Nobody used those gradients."""
    made = scaled(torch.optim.SGD, lr=1e-2, **kind)()
    watch = trainvitals.watch(made.model, made.optimizer, scaler=made.scaler, mode="offline")
    seed_all()
    for i in range(STEPS):
        made.optimizer.zero_grad()
        made.scaler.scale(made.model(batch(overflow=overflows(i))).square().mean()).backward()
        made.scaler.unscale_(made.optimizer)
        clip(made)
        made.scaler.step(made.optimizer)
        made.scaler.update()
    records = records_of(watch)
    assert set(series(records, "", wire.CLIP_RATIO)) == {i for i in range(STEPS) if not overflows(i)}


def test_what_clipping_makes_of_an_infinite_gradient_is_recorded_as_it_is() -> None:
    """One gradient becomes NaN, all others 0: the total after it is NaN, and before it was infinite."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    watch = trainvitals.watch(model, optimizer, mode="offline")
    for i in range(3):
        optimizer.zero_grad()
        (model(torch.ones(1, 4)).sum() + model[0].weight[0, 0] * (math.inf if i == 2 else 1.0)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), BOUND)
        if i == 2:
            assert math.isnan(model[0].weight.grad[0, 0])
            assert not model[1].weight.grad.any()
        optimizer.step()
    records = records_of(watch)
    assert series(records, "", wire.GRAD_NORM)[2] == math.inf
    assert series(records, "0.weight", wire.GRAD_NORM)[2] == math.inf
    assert math.isfinite(series(records, "1.weight", wire.GRAD_NORM)[2])
    assert math.isnan(series(records, "", wire.GRAD_NORM_CLIPPED)[2])
    assert series(records, "", wire.GRAD_NORM_CLIPPED)[1] == pytest.approx(BOUND, rel=1e-4)


def test_a_closure_that_clips_is_seen_too() -> None:
    """There the backward comes within the optimizer's step; its pre-hook saw only the step before."""
    made = one(torch.optim.SGD, lr=1e-2)()
    watch = trainvitals.watch(made.model, made.optimizer, mode="offline")
    after = {}

    def closure() -> torch.Tensor:
        made.optimizer.zero_grad()
        loss: torch.Tensor = made.model(batch()).square().mean()
        loss.backward()
        clip(made)
        return loss

    seed_all()
    for i in range(5):
        made.optimizer.step(closure)
        after[i] = left(made)
    assert series(records_of(watch), "", wire.GRAD_NORM_CLIPPED) == pytest.approx(after)


def test_a_gradient_of_zero_tells_nothing_and_another_is_found() -> None:
    """The parameter measured first never gets a gradient that is not 0."""
    model = nn.ModuleDict({"inner": nn.Linear(4, 4), "idle": nn.ParameterList([nn.Parameter(torch.zeros(3))])})
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    watch = trainvitals.watch(model, optimizer, mode="offline")
    for _ in range(3):
        optimizer.zero_grad()
        (model["inner"](torch.ones(1, 4)).sum() + (model["idle"][0] * 0).sum()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), BOUND)
        optimizer.step()
    ratio = BOUND / math.sqrt(4 * 4 + 4)
    assert series(records_of(watch), "", wire.CLIP_RATIO) == pytest.approx({1: ratio, 2: ratio}, rel=1e-4)


def test_of_a_gans_two_steps_the_clocks_is_measured() -> None:
    """The generator's backward through the discriminator comes after it and changes nothing of that."""
    models = {"D": net(0), "G": net(1)}
    optimizers = {key: torch.optim.SGD(model.parameters(), 1e-3) for key, model in models.items()}
    watch = trainvitals.watch(models, optimizers, mode="offline")
    seed_all()
    for _ in range(4):
        fake = models["G"](batch())
        for key, given in (("D", fake.detach()), ("G", fake)):
            optimizers[key].zero_grad()
            models["D"](given).square().mean().backward()
            if key == "G":
                nn.utils.clip_grad_norm_(models["G"].parameters(), 1e-6)
            optimizers[key].step()
        watch.step()
    assert series(records_of(watch), "", wire.CLIP_RATIO) == pytest.approx(dict.fromkeys(range(4), 1.0))
