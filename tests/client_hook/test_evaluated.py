"""Which network a validation ran on, and in what state that was before and after."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import trainvitals
from loops import columns, of_type, small_net, spooled
from trainvitals import wire

NAN = float("nan")


def recorded(watch: trainvitals.Watch) -> list[wire.Validation]:
    watch.close()
    assert watch.spool_path is not None
    return of_type(spooled(watch.spool_path), wire.Validation)


def test_statistics_that_break_during_the_validation_taint_it() -> None:
    """It is judged at both ends."""
    model = small_net()
    watch = trainvitals.watch(model, mode="offline")
    with watch.validation() as val:
        model[1].running_mean[0] = NAN
    assert val.tainted
    assert [event.tainted for event in recorded(watch)] == [True]


def test_layers_that_are_not_watched_taint_it_too() -> None:
    """What was excluded is evaluated all the same."""
    model = small_net()
    watch = trainvitals.watch(model, mode="offline", exclude=["4*"])
    model[4].running_var[0] = float("inf")
    with watch.validation() as val:
        pass
    watch.close()
    assert val.tainted


def test_a_lone_statistic_taints_it_and_costs_no_checkpoint(tmp_path: Path) -> None:
    """A class of the user's may keep only one of the two; in the file it is made good, and on loading."""

    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("running_var", torch.tensor([NAN, 2.0]))

    model = small_net().append(Scale())
    watch = trainvitals.watch(model, mode="offline")
    with watch.validation() as val:
        pass
    assert val.tainted
    assert watch.save_checkpoint(tmp_path / "x.pth")
    watch.close()
    assert torch.load(tmp_path / "x.pth", weights_only=True)["model"]["7.running_var"].tolist() == [1.0, 2.0]
    torch.save(model.state_dict(), tmp_path / "bad.pth")
    assert trainvitals.load_checkpoint(tmp_path / "bad.pth", model).repaired == 1
    assert model[7].running_var.tolist() == [1.0, 2.0]


def test_a_network_in_train_mode_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Its statistics were updated with validation data."""
    model = small_net()
    watch = trainvitals.watch(model, mode="offline")
    with watch.validation(), torch.no_grad():
        model(torch.rand(1, 3, 8, 8))
    assert "updated the running statistics of 2 layers (first 1): it ran in train mode" in caplog.text
    caplog.clear()
    model.eval()
    with watch.validation(), torch.no_grad():
        model(torch.rand(1, 3, 8, 8))
    watch.close()
    assert "train mode" not in caplog.text


def test_a_poisoned_average_is_healed_before_it_is_evaluated() -> None:
    """From the live model, whether or not `watch` knows of it as `ema`."""
    model = small_net()
    model[1].running_mean.fill_(3.0)
    average = torch.optim.swa_utils.AveragedModel(model, use_buffers=True)
    average.module[1].running_mean[0] = NAN
    watch = trainvitals.watch(model, ema=average, mode="offline")
    with watch.validation(model=average) as val:
        pass
    assert not val.tainted
    assert average.module[1].running_mean[0] == 3.0
    assert [event.model for event in recorded(watch)] == ["ema"]


def test_only_the_network_evaluated_is_judged() -> None:
    """A broken discriminator says nothing of the generator's images."""
    models = {"G": small_net(), "D": small_net(1)}
    watch = trainvitals.watch(models, mode="offline", auto_sanitize="off")
    models["D"][1].running_mean[0] = NAN
    with watch.validation(model=nn.DataParallel(models["G"])) as one:
        pass
    with watch.validation() as both:
        pass
    with watch.validation(model=small_net()) as other:
        pass
    assert (one.tainted, both.tainted, other.tainted) == (False, True, False)
    assert [event.model for event in recorded(watch)] == ["G", "", "Sequential"]


def test_an_error_outside_the_batches_is_the_users_and_the_counts_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    """The event is recorded, the exception goes on."""
    caplog.set_level(logging.INFO, "trainvitals")
    watch = trainvitals.watch(small_net(), mode="offline")

    def validate() -> None:
        with watch.validation(total=3) as val:
            with val.batch() as batch:
                batch.loss = 1.0
            raise OSError("the disk")

    with pytest.raises(OSError, match="the disk"):
        validate()
    assert [(event.valid, event.total) for event in recorded(watch)] == [(1, 3)]


def test_the_end_of_a_nested_validation_does_not_end_the_outer_one() -> None:
    """A backward in the outer one gives no gradient norms to the step that follows."""
    model = small_net()
    watch = trainvitals.watch(model, mode="offline")
    watch.step(loss=1.0)
    with watch.validation():
        with watch.validation():
            pass
        model(torch.rand(1, 3, 8, 8)).mean().backward()
    watch.step(loss=1.0)
    watch.close()
    assert watch.spool_path is not None
    records = spooled(watch.spool_path)
    last = of_type(records, wire.Frame)[-1]
    assert last.present is not None
    present = np.unpackbits(np.frombuffer(last.present, np.uint8), bitorder="little")
    assert present[columns(records)["0.weight", wire.GRAD_NORM]] == 0


def test_a_disabled_watch_still_counts() -> None:
    """The user's own numbers do not depend on the monitor."""
    watch = trainvitals.watch(small_net(), mode="disabled")
    with watch.validation() as val, val.batch() as batch:
        batch.loss = 2.0
    assert (val.valid, val.mean_loss) == (1, 2.0)
