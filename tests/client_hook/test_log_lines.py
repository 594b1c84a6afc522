"""What a terminal shows: the lines of the user's own script, at the points where it printed them."""

import logging

import pytest
import torch

import trainvitals
from loops import batches, small_net, train_fp16, train_fp32


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    """Lines of level info and up."""
    caplog.set_level(logging.INFO, "trainvitals")


def test_the_periodic_check_says_that_all_is_well(caplog: pytest.LogCaptureFixture) -> None:
    """Every `health_every` steps."""
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)
    watch = trainvitals.watch(model, optimizer, mode="offline", health_every=2)
    train_fp32(model, optimizer, batches(5), lambda step, loss: watch.step(loss=loss))
    watch.close()
    assert "[HEALTH CHECK] iter 2: Model health OK" in caplog.text
    assert "[HEALTH CHECK] iter 4: Model health OK" in caplog.text
    assert "Found" not in caplog.text


def test_a_repair_names_every_buffer_and_counts_them(caplog: pytest.LogCaptureFixture) -> None:
    """Before a validation, under its own head."""
    model = small_net()
    watch = trainvitals.watch(model, mode="offline")
    model[1].running_mean[0] = float("nan")
    model[4].running_var[0] = -1.0
    with watch.validation():
        pass
    watch.close()
    (line,) = [record.message for record in caplog.records if "Auto-sanitized" in record.message]
    assert line.splitlines() == [
        "[Pre-validation sanitization at iter 0] Found 2 corrupted stats!",
        "  [SANITIZE] Resetting corrupted running_mean: 1.running_mean",
        "  [SANITIZE] Resetting corrupted running_var: 4.running_var",
        "  Auto-sanitized 2 BatchNorm statistics. The run is marked altered.",
    ]


def test_a_healthy_model_is_said_to_be_so_before_validation(caplog: pytest.LogCaptureFixture) -> None:
    """So that the check is seen to be made."""
    watch = trainvitals.watch(small_net(), mode="offline")
    with watch.validation():
        pass
    watch.close()
    assert "[Pre-validation sanitization at iter 0] Model health OK" in caplog.text


def test_with_repair_off_what_is_corrupt_is_named_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    """And said to stay: after loading, and before validation."""
    model, broken = small_net(), small_net()
    broken[1].running_mean[0] = float("nan")
    watch = trainvitals.watch(model, mode="offline", auto_sanitize="off")
    model.load_state_dict(broken.state_dict())
    with watch.validation():
        pass
    watch.close()
    found = [record.message for record in caplog.records if "corrupted stats" in record.message]
    stay = "Found 1 corrupted stats!\n  - 1.running_mean\n  They stay as they are: automatic repair is off."
    assert found == [
        f"Performing post-load model health check... {stay}",
        f"[Pre-validation sanitization at iter 0] {stay}",
    ]


def test_the_periodic_check_names_corrupt_statistics_and_weights_apart(caplog: pytest.LogCaptureFixture) -> None:
    """Weights are the more serious ones."""
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)
    watch = trainvitals.watch(model, optimizer, mode="offline", health_every=2, auto_sanitize="off")
    train_fp32(model, optimizer, batches(2), lambda step, loss: watch.step(loss=loss))
    with torch.no_grad():
        model[0].weight[0] = float("nan")
    train_fp32(model, optimizer, batches(3), lambda step, loss: watch.step(step + 2, loss=loss))
    watch.close()
    assert "[HEALTH CHECK] iter 4: Found 2 corrupted stats!\n  - 1.running_statistics\n" in caplog.text
    serious = "More serious: no repair of statistics brings them back.\n  - 0.weight.weight"
    assert f"[HEALTH CHECK] iter 4: Found 10 corrupted weights or moments! {serious}" in caplog.text


def test_steps_with_a_non_finite_gradient_are_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    """Once per layer within 100 steps, however many there are; the count goes on."""
    model = small_net()
    optimizer, scaler = torch.optim.SGD(model.parameters(), 1e-2), torch.amp.GradScaler("cpu", init_scale=1024.0)
    watch = trainvitals.watch(model, optimizer, scaler=scaler, mode="offline")
    train_fp16(model, optimizer, scaler, batches(6, bad=(2, 4)))
    watch.close()
    lines = [record.message for record in caplog.records if record.message.startswith("[NaN GRAD]")]
    assert watch.nan_grad_steps == 2
    assert lines
    assert lines[0].startswith("[NaN GRAD] iter 2: ")
    assert "step skipped by the grad scaler (1 such steps so far)" in lines[0]


def test_a_check_right_after_a_repair_finds_all_well(caplog: pytest.LogCaptureFixture) -> None:
    """It judges the step it is made at, not the one before, which was repaired in between."""
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)
    watch = trainvitals.watch(model, optimizer, mode="offline", health_every=2)

    def poison(step: int, loss: torch.Tensor) -> None:
        if step == 1:
            model[1].running_mean[0] = float("nan")
        watch.step(loss=loss)

    train_fp32(model, optimizer, batches(5), poison)
    watch.close()
    assert "Auto-sanitized" in caplog.text
    checks = [record.message for record in caplog.records if "[HEALTH CHECK] iter 4:" in record.message]
    assert checks == ["[HEALTH CHECK] iter 4: Model health OK"]
    assert not [record for record in caplog.records if "running_statistics" in record.message]
