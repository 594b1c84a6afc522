"""Copies of a watched model: averages, deepcopies, pickles. They carry nothing of the watch, and do not count."""

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

import trainvitals
from loops import of_type
from recorded import faults, records_of, series
from training_loops import batch, net, one, plain, scaled, scaled_step
from trainvitals import wire


def pickled(model: nn.Module) -> Any:
    return pickle.loads(pickle.dumps(model))  # noqa: S301 - our own bytes


def saved(model: nn.Module) -> Any:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


COPIES = {"deepcopy": copy.deepcopy, "pickle": pickled, "torch.save": saved}


@pytest.mark.parametrize("when", ["before its first step", "after three steps", "within a step"])
@pytest.mark.parametrize("how", COPIES)
def test_a_copy_trains_on_its_own(how: str, when: str) -> None:
    """Its steps, forwards and loads are none of the watch's, whenever it was made, even while hooks are armed."""
    made = scaled(torch.optim.SGD, lr=1e-3)()  # with a scaler there are headroom hooks too
    watch = trainvitals.watch(made.model, made.optimizer, scaler=made.scaler, mode="offline")
    for i in range(3 if when == "after three steps" else 0):
        scaled_step(made, i)
    loss = made.model(batch()).mean() if when == "within a step" else None
    other = COPIES[how](made.model)
    if loss is not None:
        made.optimizer.zero_grad()
        made.scaler.scale(loss).backward()
        made.scaler.step(made.optimizer)
        made.scaler.update()
    before = len(watch._vitals.examiner.corrupt)
    optimizer = torch.optim.SGD(other.parameters(), 1e-3)
    for _ in range(4):
        optimizer.zero_grad()
        other(batch()).mean().backward()
        optimizer.step()
    other[1].running_mean[0] = float("nan")
    other.load_state_dict(other.state_dict())
    assert len(watch._vitals.examiner.corrupt) == before
    assert not trainvitals.check_model_health(other).is_healthy
    steps = {"before its first step": 0, "after three steps": 3, "within a step": 1}[when]
    records = records_of(watch)
    assert list(series(records, "", wire.GRAD_NORM)) == list(range(steps))
    assert of_type(records, wire.Sanitized) == []
    assert faults(records) == []


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_can_be_watched_itself(how: str) -> None:
    """Beside the original, and after it is gone."""
    made = one(torch.optim.SGD, lr=1e-3)()
    watch = trainvitals.watch(made.model, made.optimizer, mode="offline")
    plain(made, 0)
    twin = one(torch.optim.SGD, lr=1e-3)()
    twin.models = {"": COPIES[how](made.model)}
    twin.optimizers = {"": torch.optim.SGD(twin.model.parameters(), 1e-3)}
    second = trainvitals.watch(twin.model, twin.optimizer, mode="offline")
    assert second is not watch
    for i in range(3):
        plain(twin, i)
        plain(made, i)
    watch.close()
    plain(twin, 0)
    assert list(series(records_of(second), "", wire.GRAD_NORM)) == [0, 1, 2, 3]


@pytest.mark.parametrize("buffers", [False, True])
def test_an_average_is_made_and_kept_up_beside_a_watch(buffers: bool) -> None:
    """It is a deepcopy; it takes over broken statistics, copied or averaged, and is healed with the model."""
    made = one(torch.optim.SGD, lr=1e-3)()
    average: Any = None
    watch: Any = None
    for i in range(8):
        if i == 0:
            average = AveragedModel(made.model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=buffers)
            watch = trainvitals.watch(made.model, made.optimizer, ema=average, mode="offline")
        plain(made, i)
        average.update_parameters(made.model)
        if i == 4:
            made.model[1].running_mean[0] = float("nan")
            average.update_parameters(made.model)
            assert not trainvitals.check_model_health(average).is_healthy
        watch.step()
    records = records_of(watch)
    assert trainvitals.check_model_health(average).is_healthy
    assert trainvitals.check_model_health(made.model).is_healthy
    assert faults(records) == []


def test_an_average_made_after_the_watch_is_as_good() -> None:
    """What it copied is a model with hooks; its statistics are then estimated anew."""
    made = one(torch.optim.SGD, lr=1e-3)()
    watch = trainvitals.watch(made.model, made.optimizer, mode="offline")
    plain(made, 0)
    average = AveragedModel(made.model)
    for i in range(3):
        plain(made, i)
        average.update_parameters(made.model)
    update_bn([batch() for _ in range(4)], average)
    assert trainvitals.check_model_health(average).is_healthy
    assert len(series(records_of(watch), "", wire.GRAD_NORM)) == 4


def test_a_state_dict_is_the_same_with_and_without() -> None:
    """Names, order, metadata, and no hook that would change it."""
    model, twin = net(), net()
    watch = trainvitals.watch(model, mode="offline")
    assert model.state_dict()._metadata == twin.state_dict()._metadata
    assert list(model.state_dict()) == list(twin.state_dict())
    assert not any(m._state_dict_hooks or m._state_dict_pre_hooks for m in model.modules())
    watch.close()


def test_an_optimizer_is_copied_without_us() -> None:
    """Its hooks are not part of its state."""
    made = one(torch.optim.Adam, lr=1e-3)()
    watch = trainvitals.watch(made.model, made.optimizer, mode="offline")
    plain(made, 0)
    for other in (copy.deepcopy(made.optimizer), pickle.loads(pickle.dumps(made.optimizer))):  # noqa: S301
        other.step()
        assert not other._optimizer_step_post_hooks
        assert not other._optimizer_step_pre_hooks
    assert list(series(records_of(watch), "", wire.GRAD_NORM)) == [0]
