"""Repairs touch bad channels only, and say what they did."""

import pytest
import torch
from torch import nn

import trainvitals
from loops import small_net
from trainvitals.layers import named_norms
from trainvitals.repair.sanitize import repair_statistics


def poison(model: nn.Sequential) -> None:
    model[1].running_mean[2] = float("nan")
    model[4].running_var[5] = -2.0


def test_reset_puts_mean_0_and_variance_1_into_bad_channels_only(capsys: pytest.CaptureFixture[str]) -> None:
    """And prints the user's line for each buffer."""
    model = small_net()
    for layer in (model[1], model[4]):
        layer.running_mean.fill_(3.0)
        layer.running_var.fill_(4.0)
    poison(model)
    assert trainvitals.sanitize_model_bn_stats(model) == 2
    assert capsys.readouterr().out.splitlines() == [
        "[SANITIZE] Resetting corrupted running_mean: 1.running_mean",
        "[SANITIZE] Resetting corrupted running_var: 4.running_var",
    ]
    assert model[1].running_mean.tolist() == [3, 3, 0, 3, 3, 3, 3, 3]
    assert model[1].running_var.tolist() == [4, 4, 1, 4, 4, 4, 4, 4]
    assert model[4].running_mean.tolist() == [3, 3, 3, 3, 3, 0, 3, 3]
    assert model[4].running_var.tolist() == [4, 4, 4, 4, 4, 1, 4, 4]


def test_restore_takes_them_from_a_good_state(capsys: pytest.CaptureFixture[str]) -> None:
    """Quietly, when asked to be."""
    model, good = small_net(), small_net()
    good[1].running_mean.fill_(7.0)
    poison(model)
    assert trainvitals.sanitize_model_bn_stats(model, verbose=False, strategy="restore", good=good.state_dict()) == 2
    assert capsys.readouterr().out == ""
    assert model[1].running_mean.tolist() == [0, 0, 7, 0, 0, 0, 0, 0]


def test_where_there_is_nothing_good_restore_resets_and_says_so() -> None:
    """A donor that is itself corrupt is none."""
    model, good = small_net(), small_net()
    poison(model)
    poison(good)
    repairs = repair_statistics(list(named_norms({"": model})), "restore")
    assert [repair.strategy for repair in repairs] == ["reset", "reset"]
    assert trainvitals.check_model_health(model).is_healthy


def test_a_dry_run_changes_nothing() -> None:
    """But says all it would do."""
    model = small_net()
    poison(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    repairs = repair_statistics(list(named_norms({"": model})), "reset", dry_run=True)
    assert [(r.layer, r.channels, r.total, r.buffers) for r in repairs] == [
        ("1", 1, 8, ["running_mean"]),
        ("4", 1, 8, ["running_var"]),
    ]
    assert all(torch.equal(before[key], value) or value.isnan().any() for key, value in model.state_dict().items())
    assert not trainvitals.check_model_health(model).is_healthy


def test_half_precision_statistics_are_repaired_in_their_own_type() -> None:
    """fp16 and float64 buffers keep their dtype."""
    for dtype in (torch.float16, torch.float64):
        model = nn.Sequential(nn.BatchNorm1d(4)).to(dtype)
        model[0].running_var[1] = float("inf")
        assert trainvitals.sanitize_model_bn_stats(model, verbose=False) == 1
        assert model[0].running_var.dtype == dtype
        assert model[0].running_var.tolist() == [1, 1, 1, 1]


def test_an_unknown_strategy_is_refused() -> None:
    """Named with what was expected."""
    with pytest.raises(ValueError, match="expected 'reset' or 'restore', got 'pray'"):
        trainvitals.sanitize_model_bn_stats(small_net(), strategy="pray")  # type: ignore[arg-type]


def test_configure_sets_momentum_and_eps_everywhere() -> None:
    """And counts the layers."""
    model = small_net()
    assert trainvitals.configure_bn_for_stability(model) == 2
    assert (model[1].momentum, model[1].eps) == (0.01, 1e-3)
