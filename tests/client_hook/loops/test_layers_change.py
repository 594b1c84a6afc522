"""Layers that come, go, freeze or get their shape in mid-run: their series do too, and the run goes on."""

import math
from typing import Any

import pytest
import torch
from torch import nn

import trainvitals
from loops import of_type
from recorded import declared, faults, records_of, series
from training_loops import WIDTH, batch, gan_pair, lazy, net, plain, seed_all
from trainvitals import wire

EVERY = 5  # steps between two looks


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 1e-3)


def watched(model: nn.Module, optimizer: Any, **settings: Any) -> trainvitals.Watch:
    return trainvitals.watch(model, optimizer, mode="offline", health_every=EVERY, **settings)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, watch: Any = None) -> list[float]:
    """Total gradient norm of each step."""
    totals = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(batch()).square().mean()
        loss.backward()
        totals.append(math.hypot(*(float(p.grad.norm()) for p in model.parameters() if p.grad is not None)))
        optimizer.step()
        if watch is not None:
            watch.step(loss=loss)
    return totals


def notices(records: list[wire.Record]) -> list[tuple[int, str]]:
    return [(n.step, n.text) for n in of_type(records, wire.Notice) if n.code == "layers_changed"]


def grow(model: nn.Sequential, optimizer: torch.optim.Optimizer) -> None:
    block = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH))
    model.append(block)
    optimizer.add_param_group({"params": list(block.parameters())})


@pytest.mark.parametrize("explicit", [False, True])
def test_a_block_that_is_added_is_watched_from_the_next_step(explicit: bool) -> None:
    """The optimizer's new group gives it away at once; all series keep their ids, the totals are whole."""
    model = net()
    optimizer = sgd(model)
    watch = watched(model, optimizer, start_step=100)
    totals = train(model, optimizer, 3, watch if explicit else None)
    grow(model, optimizer)
    totals += train(model, optimizer, 4, watch if explicit else None)
    records = records_of(watch)
    assert faults(records) == []
    ((step, text),) = notices(records)
    assert step == 104
    assert text == "new: 8.0.weight, 8.0.bias, 8.1.weight, 8.1.bias, 8.1"
    found = series(records, "", wire.GRAD_NORM)
    assert list(found) == list(range(100, 107))
    assert [found[i] for i in (102, 104, 105, 106)] == pytest.approx([totals[i] for i in (2, 4, 5, 6)])
    assert list(series(records, "8.0.weight", wire.GRAD_NORM)) == [104, 105, 106]
    assert list(series(records, "8.1", wire.VAR_MAX)) == [104, 105, 106]
    assert list(series(records, "", f"{wire.LEARNING_RATE}.1")) == [104, 105, 106]
    assert len(series(records, "0.weight", wire.GRAD_NORM)) == 7
    ids: dict[tuple[str, str, str], set[int]] = {}
    for piece in of_type(records, wire.Layout):
        for one in piece.series:
            ids.setdefault((one.layer, one.kind, one.stat), set()).add(one.id)
    assert all(len(found) == 1 for found in ids.values())
    assert len({next(iter(found)) for found in ids.values()}) == len(ids)


def test_findings_and_repair_reach_the_new_layer() -> None:
    """Restored from its own snapshots."""
    model = net()
    optimizer = sgd(model)
    watch = watched(model, optimizer)
    train(model, optimizer, 3)
    grow(model, optimizer)
    train(model, optimizer, 6)
    model[8][1].running_var[2] = float("nan")
    train(model, optimizer, 2)
    records = records_of(watch)
    (event,) = [e for e in of_type(records, wire.NonFinite) if e.signal == "running_statistics"]
    assert (event.layer, event.count, event.total) == ("8.1", 1, WIDTH)
    (repair,) = of_type(records, wire.Sanitized)
    assert [(r.layer, r.strategy) for r in repair.repairs] == [("8.1", "restore")]
    assert trainvitals.check_model_health(model).is_healthy


def test_an_old_layer_is_restored_from_before_the_change() -> None:
    """Its snapshots are not lost with the layout."""
    model = net()
    optimizer = sgd(model)
    watch = watched(model, optimizer, start_step=10)
    train(model, optimizer, 4)
    grow(model, optimizer)
    train(model, optimizer, 1)  # still in the old layout
    model[1].running_mean[0] = float("inf")
    train(model, optimizer, 2)
    records = records_of(watch)
    repairs = [r for s in of_type(records, wire.Sanitized) for r in s.repairs]
    assert [(r.layer, r.strategy) for r in repairs] == [("1", "restore")]
    assert repairs[0].snapshot_step == 14


def test_a_layer_that_is_removed_has_no_series_any_more() -> None:
    """Within `health_every` steps; that it was corrupt is no one's business then."""
    model = net()
    optimizer = sgd(model)
    watch = watched(model, optimizer)
    train(model, optimizer, 7)
    model[5] = nn.Identity()
    train(model, optimizer, 8)
    records = records_of(watch)
    assert faults(records) == []
    assert notices(records) == [(11, "gone: 5.weight, 5.bias, 5")]
    assert list(series(records, "5", wire.VAR_MAX)) == list(range(11))
    assert list(series(records, "1", wire.VAR_MAX)) == list(range(15))


def test_a_layer_that_is_replaced_is_the_new_one() -> None:
    """Under the same name."""
    model = net()
    optimizer = sgd(model)
    watch = watched(model, optimizer)
    train(model, optimizer, 7)
    model[1] = nn.BatchNorm1d(8, momentum=0.0)
    model[1].running_var.fill_(7.0)
    train(model, optimizer, 8)
    records = records_of(watch)
    assert [text for _, text in notices(records)] == ["replaced: 1.weight, 1.bias, 1"]
    assert series(records, "1", wire.VAR_MAX)[14] == 7.0


def test_what_is_frozen_and_unfrozen_again() -> None:
    """No series while it has no gradient to ask for; the same ids when it has one again."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    watch = watched(model, optimizer)
    model[:4].requires_grad_(False)
    train(model, optimizer, 8)
    model[:4].requires_grad_(True)
    train(model, optimizer, 9)
    model[0].requires_grad_(False)
    train(model, optimizer, 9)
    records = records_of(watch)
    assert faults(records) == []
    assert [text.split(":")[0] for _, text in notices(records)] == ["gone", "new", "gone"]
    steps = list(series(records, "0.weight", wire.GRAD_NORM))
    assert steps == list(range(steps[0], 17))
    assert 8 <= steps[0] <= 8 + EVERY
    assert list(series(records, "7.weight", wire.GRAD_NORM)) == list(range(26))


def test_lazy_layers_are_watched_once_they_have_a_shape() -> None:
    """From the step after their first forward."""
    made = lazy()
    watch = trainvitals.watch(made.models, made.optimizers, mode="offline")
    seed_all()
    for i in range(4):
        plain(made, i)
    records = records_of(watch)
    assert faults(records) == []
    assert [step for step, _ in notices(records)] == [1]
    assert list(series(records, "0.weight", wire.GRAD_NORM)) == [1, 2, 3]
    assert list(series(records, "1", wire.VAR_MAX)) == [1, 2, 3]


def test_buffers_that_are_bound_anew_are_read_where_they_are() -> None:
    """A change of precision; no look is needed for that."""
    model = net()
    optimizer = sgd(model)
    watch = watched(model, optimizer)
    train(model, optimizer, 2)
    model.to(torch.float64)
    for _ in range(3):
        optimizer.zero_grad()
        model(batch().double()).square().mean().backward()
        optimizer.step()
    model[1].running_var[0] = float("nan")
    optimizer.zero_grad()
    model(batch().double()).square().mean().backward()
    optimizer.step()
    records = records_of(watch)
    assert faults(records) == []
    assert len(series(records, "1", wire.VAR_MAX)) == len(series(records, "", wire.GRAD_NORM)) == 6
    assert len(of_type(records, wire.Sanitized)) == 1
    assert model[1].running_var.dtype == torch.float64


def test_statistics_that_are_given_up_are_no_lasting_fault() -> None:
    """A BatchNorm that keeps none from here on; the others' are read again after three steps."""
    model = net()
    optimizer = sgd(model)
    watch = watched(model, optimizer, start_step=20)
    train(model, optimizer, 2)
    model[1].running_mean = model[1].running_var = None
    model[1].track_running_stats = False
    train(model, optimizer, 6)
    records = records_of(watch)
    assert len(faults(records)) <= 3
    assert {step for step in range(20, 28)} - set(series(records, "5", wire.VAR_MAX)) == {22, 23, 24}


def test_a_gan_that_grows_is_followed() -> None:
    """Where a step stays open until the next one ends."""
    made = gan_pair()
    watch = trainvitals.watch(made.models, made.optimizers, mode="offline", health_every=EVERY)
    norms = []
    for i in range(8):
        if i == 3:
            grow(made.models["G"], made.optimizers["G"])
        for key in ("D", "G"):
            made.optimizers[key].zero_grad()
            made.models["D"](made.models["G"](batch())).square().mean().backward()
            if key == "G":
                norms.append(float(made.models["G"][0].weight.grad.norm()))
            made.optimizers[key].step()
    records = records_of(watch)
    assert faults(records) == []
    assert len(notices(records)) == 1
    found = series(records, "G.0.weight", wire.GRAD_NORM)
    missing = set(range(8)) - set(found)
    assert len(missing) <= 1  # of the step that ended early
    assert found == pytest.approx({i: norm for i, norm in enumerate(norms) if i in found})
    assert "G.8.0.weight" in declared(records, wire.GRAD_NORM)


def test_a_look_costs_nothing_where_nothing_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One every `health_every` steps, whatever the loop."""
    from trainvitals import vitals

    looks = []
    survey = vitals.survey
    monkeypatch.setattr(vitals, "survey", lambda *given: (looks.append(1), survey(*given))[1])
    model = net()
    optimizer = sgd(model)
    watch = watched(model, optimizer)
    train(model, optimizer, 4 * EVERY + 2)
    records = records_of(watch)
    assert len(looks) == 1 + 4  # at the start too
    assert notices(records) == []
    assert {piece.id for piece in of_type(records, wire.Layout)} == {0, 1}


def test_hooks_follow_the_layers_and_all_are_gone_at_the_end() -> None:
    """Those on what was removed, too."""
    model = net()
    optimizer = sgd(model)
    removed = model[1]
    watch = watched(model, optimizer)
    train(model, optimizer, 3)
    model[1] = nn.Identity()
    grow(model, optimizer)
    train(model, optimizer, 8)
    watch.close()
    for module in [*model.modules(), removed]:
        assert not module._forward_pre_hooks
        assert not any(p._post_accumulate_grad_hooks for p in module.parameters(recurse=False))
