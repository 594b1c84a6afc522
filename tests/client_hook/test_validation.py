"""What a validation counts, and what it says."""

import logging
from collections import UserDict
from dataclasses import dataclass
from typing import Any

import numpy as np
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


@dataclass
class Output:
    """As libraries give it."""

    logits: torch.Tensor


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("loss", "output", "valid", "mean"),
    [
        (2.5, None, 1, 2.5),
        (torch.tensor(3), None, 1, 3.0),
        (np.float32(1.5), None, 1, 1.5),
        (np.float32(NAN), None, 0, None),
        (torch.tensor(INF, dtype=torch.float16), None, 0, None),
        (torch.full((3,), 6e4, dtype=torch.float16), None, 1, 59_999.0),
        (torch.tensor(1e300, dtype=torch.float64), None, 1, 1e300),
        ({"a": torch.tensor(1.0), "b": [2.0]}, None, 1, 3.0),
        (None, {"y": (torch.tensor([1]), None, "text")}, 1, None),
        (None, Output(torch.tensor([NAN])), 0, None),
        (None, UserDict(y=torch.tensor([NAN])), 0, None),
        (None, np.array([1.0, NAN]), 0, None),
        (None, torch.tensor([complex(1, NAN)]), 0, None),
        (None, torch.tensor([[0.0, NAN]]).to_sparse(), 0, None),
        (None, torch.tensor([1.0, NAN]).to(torch.float8_e4m3fn), 0, None),
        (torch.empty(0), torch.empty(0, 3), 1, None),
        (None, None, 1, None),
    ],
)
def test_losses_and_outputs_of_every_kind_are_judged(loss: Any, output: Any, valid: int, mean: float | None) -> None:
    """As a float, of numpy, of half precision, nested, of a library's class, or none at all."""
    watch, _ = make()
    with watch.validation() as val, val.batch() as batch:
        batch.loss, batch.output = loss, output
    watch.close()
    assert (val.valid, val.nonfinite, val.errors) == (valid, 1 - valid, 0)
    assert val.mean_loss == (pytest.approx(mean, rel=1e-3) if mean is not None else None)


def test_what_cannot_be_judged_is_a_failed_batch(caplog: pytest.LogCaptureFixture) -> None:
    """Neither an exception in the loop nor a valid batch."""
    watch, _ = make()
    with watch.validation() as val, val.batch() as batch:
        batch.output = torch.ones(3).as_subclass(Awkward)
    watch.close()
    assert (val.valid, val.errors) == (0, 1)
    assert "[VAL ERROR] Batch 0 failed: not for you" in caplog.text


class Awkward(torch.Tensor):
    """A tensor on which nothing can be computed."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.isfinite:
            raise RuntimeError("not for you")
        return super().__torch_function__(func, types, args, kwargs or {})


@pytest.mark.parametrize("total", [None, 2, 3, 10])
def test_batches_that_were_not_run_are_not_failed(total: int | None) -> None:
    """Whatever number was expected; the loop may end early, or the data may be longer."""
    watch, _ = make()
    with watch.validation(total=total) as val:
        for _ in range(3):
            with val.batch() as batch:
                batch.loss = 1.0
    watch.close()
    assert (val.valid, val.failed, val.total) == (3, 0, total)


@pytest.mark.parametrize("total", ["many", torch.ones(2), NAN])
def test_a_total_that_is_no_number_is_said_and_forgotten(total: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Likewise a metric; neither ends the training."""
    watch, _ = make()
    with watch.validation(total=total) as val:
        val.metrics(psnr=torch.tensor(28.5), note="good")
    watch.close()
    assert val.total is None
    assert "validation total: expected a number of batches" in caplog.text
    assert "validation metric note: expected a number, got 'good'" in caplog.text


def test_a_validation_without_a_batch_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """In the seed's words."""
    watch, _ = make()
    with watch.validation(total=0) as val:
        pass
    watch.close()
    assert (val.valid, val.failed, val.mean_loss) == (0, 0, None)
    assert "[WARN] Validation produced 0 valid batches! (0 failed)" in caplog.text


def test_the_seeds_messages_to_the_letter(caplog: pytest.LogCaptureFixture) -> None:
    """Three failed batches are told one by one, the others together; a valid one makes it an [INFO]."""
    caplog.set_level(logging.INFO, "trainvitals")
    watch, _ = make()
    with watch.validation() as val:
        caplog.clear()
        for i in range(6):
            with val.batch() as batch:
                batch.loss = 1.0
                if i:
                    raise ValueError(f"image {i}")
    said = [record.getMessage() for record in caplog.records]
    watch.close()
    assert said == [
        "[VAL ERROR] Batch 1 failed: image 1",
        "[VAL ERROR] Batch 2 failed: image 2",
        "[VAL ERROR] Batch 3 failed: image 3",
        "[VAL ERROR] further failed batches of this validation are counted without a line each",
        "[INFO] 5 validation batches failed, 1 succeeded",
    ]


def test_a_validation_entered_again_counts_from_the_start() -> None:
    """Two events, each with its own counts."""
    watch, _ = make()
    val = watch.validation()
    for loss in (1.0, 3.0):
        with val, val.batch() as batch:
            batch.loss = loss
    watch.close()
    assert watch.spool_path is not None
    events = of_type(spooled(watch.spool_path), wire.Validation)
    assert [(event.valid, event.mean_loss) for event in events] == [(1, 1.0), (1, 3.0)]
