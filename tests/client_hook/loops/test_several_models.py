"""Several models and several optimizers: whose gradient is recorded in which step, and who is repaired when."""

import math
from typing import Any

import pytest
import torch

import trainvitals
from recorded import faults, records_of, series
from training_loops import Made, batch, both_step, gan_pair, halves, net, scaled_gan, scaled_gan_pair, seed_all
from trainvitals import wire

STEPS = 8


def norm_of(model: torch.nn.Module, scale: float = 1.0) -> float:
    return math.hypot(*(float(p.grad.double().norm()) for p in model.parameters() if p.grad is not None)) / scale


def gan_step(made: Made, order: str, used: dict[str, list[float]]) -> None:
    """D on real and fake, G through D, in either order; `used` takes the norm that each optimizer steps with."""
    for key in order:
        fake = made.models["G"](batch())
        made.optimizers[key].zero_grad()
        loss = made.models["D"](fake.detach() if key == "D" else fake).square().mean()
        loss.backward()
        used[key].append(norm_of(made.models[key]))
        made.optimizers[key].step()


def total(records: list[wire.Record], model: str) -> dict[int, float]:
    """The norm over one model's recorded gradients, by step."""
    names = {s.layer for r in records if isinstance(r, wire.Layout) for s in r.series if s.stat == wire.GRAD_NORM}
    found: dict[int, list[float]] = {}
    for name in names:
        if name.startswith(f"{model}."):
            for step, value in series(records, name, wire.GRAD_NORM).items():
                found.setdefault(step, []).append(value)
    return {step: math.hypot(*values) for step, values in found.items()}


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("order", ["DG", "GD"])
@pytest.mark.parametrize("listed", ["DG", "GD"])
def test_each_models_gradients_are_those_its_optimizer_used(listed: str, order: str, explicit: bool) -> None:
    """In the step they were used in, whichever is listed first and whichever steps first."""
    made = gan_pair()
    made.optimizers = {key: made.optimizers[key] for key in listed}
    watch = trainvitals.watch(made.models, made.optimizers, mode="offline")
    used: dict[str, list[float]] = {"D": [], "G": []}
    seed_all()
    for _ in range(STEPS):
        gan_step(made, order, used)
        if explicit:
            watch.step()
    records = records_of(watch)
    assert faults(records) == []
    for key in "DG":
        assert total(records, key) == pytest.approx(dict(enumerate(used[key])))
    both = {i: math.hypot(used["D"][i], used["G"][i]) for i in range(STEPS)}
    assert series(records, "", wire.GRAD_NORM) == pytest.approx(both)


def test_a_generator_that_steps_every_third_time_has_gradients_only_then() -> None:
    """What is left of them in between is not a gradient of those steps."""
    made = gan_pair()
    watch = trainvitals.watch(made.models, made.optimizers, mode="offline")
    used: dict[str, list[float]] = {"D": [], "G": []}
    for i in range(9):
        gan_step(made, "DG" if i % 3 == 2 else "D", used)
    records = records_of(watch)
    assert total(records, "G") == pytest.approx(dict(zip((2, 5, 8), used["G"], strict=True)))
    assert total(records, "D") == pytest.approx(dict(enumerate(used["D"])))


def test_an_overflow_of_the_generator_is_recorded_in_its_step() -> None:
    """The scaler skips it, and no hook tells."""
    made = scaled_gan_pair()
    watch = trainvitals.watch(made.models, made.optimizers, scaler=made.scaler, mode="offline", auto_sanitize="off")
    seed_all()
    for i in range(12):
        scaled_gan(made, i)
    records = records_of(watch)
    assert [i for i, norm in total(records, "G").items() if not math.isfinite(norm)] == [8]
    assert [i for i, norm in total(records, "D").items() if not math.isfinite(norm)] == [5]
    events = [e for e in records if isinstance(e, wire.NonFinite) and e.signal == "gradient"]
    assert {(e.step, e.layer[0]) for e in events} == {(5, "D"), (8, "G")}
    assert watch.nan_grad_steps == 2


def test_two_optimizers_after_one_backward_are_one_step() -> None:
    """All gradients are there, at every step."""
    made = halves()
    watch = trainvitals.watch(made.models, made.optimizers, mode="offline")
    seed_all()
    totals = []
    for i in range(STEPS):
        both_step(made, i)
        totals.append(norm_of(made.model))
    records = records_of(watch)
    assert series(records, "", wire.GRAD_NORM) == pytest.approx(dict(enumerate(totals)))
    assert len(series(records, "7.weight", wire.GRAD_NORM)) == len(series(records, "0.weight", wire.GRAD_NORM)) == STEPS


def test_both_optimizers_learning_rates_are_recorded() -> None:
    """One series per parameter group."""
    made = halves()
    made.optimizers["head"].param_groups[0]["lr"] = 0.5
    watch = trainvitals.watch(made.models, made.optimizers, mode="offline")
    both_step(made, 0)
    records = records_of(watch)
    rates = [series(records, "", wire.LEARNING_RATE)[0], series(records, "", f"{wire.LEARNING_RATE}.1")[0]]
    assert rates == pytest.approx([1e-2, 0.5])


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("broken", ["D", "G"])
@pytest.mark.parametrize("listed", ["DG", "GD"])
def test_a_gans_repair_never_breaks_the_users_backward(listed: str, broken: str, explicit: bool) -> None:
    """Each model's buffers change only when its own graphs have ended: G's forward comes before D's step."""
    made = gan_pair()
    made.optimizers = {key: made.optimizers[key] for key in listed}
    watch = trainvitals.watch(made.models, made.optimizers, mode="offline")
    for i in range(STEPS):
        fake = made.models["G"](batch())
        if i == 3:
            made.models[broken][1].running_mean[0] = float("nan")
            fake = made.models["G"](batch())
        for key in "DG":
            made.optimizers[key].zero_grad()
            made.models["D"](fake.detach() if key == "D" else fake).square().mean().backward()
            made.optimizers[key].step()
        if explicit:
            watch.step()
    records = records_of(watch)
    assert faults(records) == []
    assert trainvitals.check_model_health(made.models[broken]).is_healthy
    repaired = [(s.step, {r.layer for r in s.repairs}) for s in records if isinstance(s, wire.Sanitized)]
    assert [layers for _, layers in repaired] == [{f"{broken}.1"}]
    assert repaired[0][0] in (3, 4)


def test_a_model_with_two_optimizers_waits_for_both() -> None:
    """Its trunk has been through a graph that the second one's backward still needs."""
    trunk, heads = net(), [torch.nn.Linear(6, 1) for _ in range(2)]
    model = torch.nn.ModuleList([trunk, *heads])
    optimizers = {f"{i}": torch.optim.SGD(heads[i].parameters(), 1e-3) for i in range(2)}
    watch = trainvitals.watch(model, optimizers, mode="offline")
    for i in range(STEPS):
        if i == 3:
            trunk[1].running_mean[0] = float("nan")
        hidden = trunk(batch())
        for k, optimizer in enumerate(optimizers.values()):
            optimizer.zero_grad()
            heads[k](hidden).square().mean().backward(retain_graph=k == 0)
            optimizer.step()
    records = records_of(watch)
    assert faults(records) == []
    assert trainvitals.check_model_health(model).is_healthy
    assert [s.step for s in records if isinstance(s, wire.Sanitized)] in ([3], [4])


def test_a_frozen_network_is_repaired_on_entering_validation() -> None:
    """No optimizer owns it, so no step of one is a safe point for it."""
    models: dict[str, Any] = {"net": net(0), "teacher": net(1).requires_grad_(False)}
    optimizer = torch.optim.SGD(models["net"].parameters(), 1e-3)
    watch = trainvitals.watch(models, optimizer, mode="offline")
    for i in range(6):
        if i == 2:
            models["teacher"][1].running_mean[0] = float("nan")
        optimizer.zero_grad()
        (models["net"](batch()) - models["teacher"](batch())).square().mean().backward()
        optimizer.step()
    assert not trainvitals.check_model_health(models["teacher"]).is_healthy
    with watch.validation():
        pass
    assert trainvitals.check_model_health(models["teacher"]).is_healthy
    assert faults(records_of(watch)) == []


def test_two_watches_at_once_do_not_hear_each_other() -> None:
    """Two models trained in turns in one process."""
    made = [halves(), gan_pair()]
    watches = [trainvitals.watch(each.models, each.optimizers, mode="offline") for each in made]
    used: dict[str, list[float]] = {"D": [], "G": []}
    for i in range(4):
        both_step(made[0], i)
        both_step(made[0], i)
        gan_step(made[1], "DG", used)
    first, second = (records_of(watch) for watch in watches)
    assert list(series(first, "", wire.GRAD_NORM)) == list(range(8))
    assert list(series(second, "", wire.GRAD_NORM)) == list(range(4))


def test_a_second_watch_of_the_same_model_is_the_first() -> None:
    """One hook, one frame per step; also for several models."""
    made = gan_pair()
    watch = trainvitals.watch(made.models, made.optimizers, mode="offline")
    assert trainvitals.watch(made.models, made.optimizers, mode="offline", every=5) is watch
    used: dict[str, list[float]] = {"D": [], "G": []}
    for _ in range(3):
        gan_step(made, "DG", used)
    assert sum(len(o._optimizer_step_post_hooks) for o in made.optimizers.values()) == 2
    assert list(series(records_of(watch), "", wire.GRAD_NORM)) == [0, 1, 2]
