"""What a validation counts, and what it says."""

import logging

import pytest
import torch

import trainvitals
from loops import of_type, small_net, spooled
from trainvitals import wire


def make(**settings: object) -> tuple[trainvitals.Watch, torch.nn.Sequential]:
    model = small_net()
    return trainvitals.watch(model, mode="offline", **settings), model  # type: ignore[arg-type]


def test_errors_and_nonfinite_batches_are_counted_apart(caplog: pytest.LogCaptureFixture) -> None:
    """The mean is over the valid ones."""
    caplog.set_level(logging.INFO, "trainvitals")
    watch, _ = make()
    with watch.validation(total=5) as val:
        for loss in (1.0, 3.0, float("nan"), None, "raise"):
            with val.batch() as batch:
                if loss == "raise":
                    raise ValueError("a broken image")
                batch.loss = torch.tensor(loss) if loss is not None else None
                batch.output = {"y": [torch.tensor(float("inf") if loss is None else 1.0)]}
        val.metrics(psnr=28.5)
    watch.close()
    assert (val.valid, val.errors, val.nonfinite, val.failed, val.mean_loss) == (2, 1, 2, 3, 2.0)
    assert "[VAL ERROR] Batch 4 failed: a broken image" in caplog.text
    assert "3 validation batches failed, 2 succeeded" in caplog.text
    assert watch.spool_path is not None
    (event,) = of_type(spooled(watch.spool_path), wire.Validation)
    assert (event.valid, event.errors, event.nonfinite, event.total, event.metrics) == (2, 1, 2, 5, {"psnr": 28.5})


def test_no_valid_batch_survives_and_shows_the_first_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is divided by zero."""
    watch, _ = make()
    with watch.validation() as val:
        for _ in range(2):
            with val.batch():
                raise KeyError("x")
    watch.close()
    assert (val.valid, val.failed, val.mean_loss, val.total) == (0, 2, None, None)
    assert "Validation produced 0 valid batches! (2 failed)" in caplog.text
    assert "Traceback" in caplog.text


def test_ctrl_c_is_not_a_failed_batch() -> None:
    """Only `Exception` is caught."""
    watch, _ = make()
    with pytest.raises(KeyboardInterrupt), watch.validation() as val, val.batch():
        raise KeyboardInterrupt
    watch.close()
    assert val.errors == 0


def test_a_lost_device_is_not_a_failed_batch() -> None:
    """Every later batch would fail for the same reason."""
    watch, _ = make()
    with pytest.raises(torch.AcceleratorError), watch.validation() as val, val.batch():
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")
    watch.close()


def test_the_model_is_repaired_before_it_is_validated() -> None:
    """The seed's fix 4."""
    watch, model = make()
    model[1].running_var[0] = float("inf")
    with watch.validation() as val:
        pass
    watch.close()
    assert not val.tainted
    assert trainvitals.check_model_health(model).is_healthy


def test_without_repair_the_validation_is_tainted_whatever_its_losses(caplog: pytest.LogCaptureFixture) -> None:
    """With running_var = inf an eval output is silently zero, and its loss finite."""
    watch, model = make(auto_sanitize="off")
    model[1].running_var.fill_(float("inf"))
    model.eval()
    with watch.validation() as val, torch.no_grad(), val.batch() as batch:
        batch.loss = model(torch.rand(1, 3, 8, 8)).square().mean()
    watch.close()
    assert (val.valid, val.tainted) == (1, True)
    assert "tainted" in caplog.text


def test_the_network_evaluated_is_repaired_too() -> None:
    """From the live model's statistics, though it is not watched itself."""
    watch, model = make()
    model[1].running_mean.fill_(3.0)
    average = small_net()
    average[1].running_mean[0] = float("nan")
    with watch.validation(model=average) as val:
        pass
    watch.close()
    assert not val.tainted
    assert average[1].running_mean.tolist() == [3, 0, 0, 0, 0, 0, 0, 0]


def test_the_network_evaluated_is_the_one_checked() -> None:
    """An EMA copy may be corrupt while the model is not."""
    watch, _ = make(auto_sanitize="off")
    copy = small_net()
    copy[1].running_mean[0] = float("nan")
    with watch.validation(model=copy) as val:
        pass
    watch.close()
    assert val.tainted


def test_a_validation_inside_training_does_not_become_a_step() -> None:
    """Its forwards and even backwards belong to no step."""
    watch, model = make()
    watch.step(loss=1.0)
    with watch.validation() as val, val.batch() as batch:
        batch.loss = model(torch.rand(1, 3, 8, 8)).square().mean()
        batch.loss.backward()
    watch.step(loss=1.0)
    watch.close()
    assert watch.spool_path is not None
    assert [f.step for f in of_type(spooled(watch.spool_path), wire.Frame)] == [0, 1]
