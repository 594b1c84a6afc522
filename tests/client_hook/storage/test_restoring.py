"""A checkpoint goes into what it fits, and changes nothing where it does not fit."""

import argparse
import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import trainvitals
from loops import batches, small_net, train_fp32


def save(path: Path, state: dict[str, Any]) -> Path:
    torch.save(state, path)
    return path


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state},
        lambda state: {"model_state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{k}": v for k, v in state.items()}},
        lambda state: {"model": {f"_orig_mod.{k}": v for k, v in state.items()}},
        lambda state: {"model": {f"module._orig_mod.{k}": v for k, v in state.items()}},
        lambda state: {"state_dict": {f"net.{k}": v for k, v in state.items()}},
    ],
    ids=["plain", "lightning", "tutorial", "parallel", "compiled", "both", "a lightning module's attribute"],
)
def test_a_model_is_found_in_files_of_many_origins(tmp_path: Path, wrap: Any) -> None:
    """Whatever wrapped it when it was saved."""
    path = save(tmp_path / "x.pth", wrap(small_net(1).state_dict()))
    model = small_net()
    trainvitals.load_checkpoint(path, model)
    assert same(model, small_net(1))


def test_a_compiled_or_wrapped_model_takes_a_plain_state(tmp_path: Path) -> None:
    """Also where only a part of it is compiled."""
    path = save(tmp_path / "x.pth", small_net(1).state_dict())
    model, partly = small_net(), small_net()
    partly[0] = torch.compile(partly[0])
    trainvitals.load_checkpoint(path, torch.compile(model))
    trainvitals.load_checkpoint(path, nn.DataParallel(partly))
    assert same(model, small_net(1))
    assert same(partly, small_net(1))


def test_models_and_optimizers_by_name(tmp_path: Path) -> None:
    """A GAN's, as `watch` saves them."""
    models = {"G": small_net(1), "D": small_net(2)}
    optimizers = {key: torch.optim.Adam(model.parameters()) for key, model in models.items()}
    schedulers = {key: torch.optim.lr_scheduler.StepLR(optimizer, 2) for key, optimizer in optimizers.items()}
    for key, model in models.items():
        train_fp32(model, optimizers[key], batches(1))
    watch = trainvitals.watch(models, optimizers, scheduler=schedulers, mode="offline")
    assert watch.save_checkpoint(tmp_path / "x.pth")
    watch.close()
    fresh = {"G": small_net(), "D": small_net()}
    fresh_optimizers = {key: torch.optim.Adam(model.parameters()) for key, model in fresh.items()}
    fresh_schedulers = {key: torch.optim.lr_scheduler.StepLR(o, 2) for key, o in fresh_optimizers.items()}
    loaded = trainvitals.load_checkpoint(tmp_path / "x.pth", fresh, fresh_optimizers, scheduler=fresh_schedulers)
    assert loaded.missing == ()
    assert all(same(fresh[key], models[key]) for key in models)
    moments = [o["D"].state[m["D"][0].weight]["exp_avg"] for o, m in ((optimizers, models), (fresh_optimizers, fresh))]
    assert torch.equal(*moments)


OTHER = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(8))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            {"model": OTHER.state_dict()},
            r"model: expected the 16 tensors of Sequential, got a state that lacks '3\.bias'",
        ),
        ({"model": OTHER.state_dict()}, r"has 0\.weight of shape \[4, 3, 3, 3\] where \[8, 3, 3, 3\] belongs"),
        ({"model": small_net().state_dict() | {"z": torch.ones(1)}}, r"has unknown 'z'$"),
        ({"model": {"G": small_net().state_dict()}}, r"model: expected the state of one Sequential, got those of 'G'$"),
        ({"weights": 3, "epoch": 1}, r"expected the state of a model, got a file holding weights, epoch$"),
        ({"model": small_net().state_dict(), "optimizer": {"state": {}}}, r"optimizer: expected parameter groups"),
        (
            {"model": small_net().state_dict(), "optimizer": torch.optim.Adam(OTHER.parameters()).state_dict()},
            r"optimizer: expected parameter groups of \[10\] parameters, got \[4\]$",
        ),
    ],
    ids=["lacks", "shape", "unknown", "several", "none", "no groups", "groups"],
)
def test_a_checkpoint_of_something_else_changes_nothing(tmp_path: Path, state: dict[str, Any], message: str) -> None:
    """One line names what was expected and what came, and nothing is half loaded."""
    path = save(tmp_path / "x.pth", state)
    model = small_net(1)
    optimizer = torch.optim.Adam(model.parameters())
    before = copy.deepcopy(model)
    with pytest.raises(trainvitals.CheckpointError, match=message) as caught:
        trainvitals.load_checkpoint(path, model, optimizer)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert same(model, before)


def test_models_by_other_names_are_refused(tmp_path: Path) -> None:
    """Nobody can know which is which."""
    path = save(tmp_path / "x.pth", {"model": {"A": {}, "B": {}}})
    with pytest.raises(trainvitals.CheckpointError, match=r"model: expected the states of 'D', 'G', got 'A', 'B'"):
        trainvitals.load_checkpoint(path, {"G": small_net(), "D": small_net()})


def test_what_the_file_lacks_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A run that goes on with a fresh optimizer is another run."""
    path = save(tmp_path / "x.pth", {"model": small_net().state_dict(), "scaler": {}})
    model = small_net()
    loaded = trainvitals.load_checkpoint(path, model, torch.optim.Adam(model.parameters()), torch.amp.GradScaler("cpu"))
    assert loaded.missing == ("optimizer", "scaler")
    assert "expected the state of the optimizer, the file holds none" in caplog.text


def test_a_file_with_other_types_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """Its code is never run, and torch's advice to run it is not passed on."""
    path = save(tmp_path / "x.pth", {"model": {}, "args": argparse.Namespace(lr=1)})
    with pytest.raises(trainvitals.CheckpointError) as caught:
        trainvitals.load_checkpoint(path)
    assert str(caught.value) == (
        f"{path}: expected a checkpoint that loads weights-only, got: a file holding argparse.Namespace, which only "
        "running its code could load; `trainvitals diagnose` reads it safely"
    )


def test_health_tells_of_weights_and_optimizer_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Only statistics are repaired; the rest is said to be lost."""
    model = small_net()
    optimizer = torch.optim.Adam(model.parameters())
    train_fp32(model, optimizer, batches(1))
    with torch.no_grad():
        model[0].bias[2] = float("nan")
        model[1].running_var[0] = float("inf")
        optimizer.state[model[6].bias]["exp_avg_sq"][0] = float("inf")
    path = save(tmp_path / "x.pth", {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    loaded = trainvitals.load_checkpoint(path, fresh := small_net())
    assert [(issue.key, issue.group) for issue in loaded.health.issues] == [
        ("0.bias", "weights"),
        ("1.running_var", "statistics"),
        ("optimizer.state.9.exp_avg_sq", "optimizer"),
    ]
    assert not loaded.health.is_repairable
    assert (loaded.repaired, bool(torch.isnan(fresh[0].bias[2]))) == (1, True)
    assert "2 tensors of weights or optimizer state are corrupt, the first 0.bias: 1 of 8 nan" in caplog.text
    assert not trainvitals.load_checkpoint(path).health.is_healthy


def test_loading_says_the_seeds_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The user's fix 3, through the log."""
    caplog.set_level(logging.INFO, "trainvitals")
    model = small_net()
    model[1].running_mean[0] = model[4].running_var[1] = float("nan")
    trainvitals.load_checkpoint(save(tmp_path / "x.pth", {"model": model.state_dict()}), small_net())
    assert [record.getMessage() for record in caplog.records] == [
        "Performing post-load model health check...",
        "[WARN] Found 2 corrupted stats after loading!",
        "[SANITIZE] Resetting corrupted running_mean: 1.running_mean",
        "[SANITIZE] Resetting corrupted running_var: 4.running_var",
        "Sanitized 2 BatchNorm statistics.",
    ]
    assert [record.levelname for record in caplog.records] == ["INFO"] + 4 * ["WARNING"]


def test_an_average_is_loaded_and_healed_from_the_model(tmp_path: Path) -> None:
    """Not reset, where the model knows better."""
    model = small_net()
    model[1].running_mean.fill_(3.0)
    average = torch.optim.swa_utils.AveragedModel(model, use_buffers=True)
    average.module[1].running_mean[0] = float("nan")
    path = save(tmp_path / "x.pth", {"model": model.state_dict(), "ema": average.state_dict()})
    fresh = small_net(1)
    other = torch.optim.swa_utils.AveragedModel(fresh, use_buffers=True)
    loaded = trainvitals.load_checkpoint(path, fresh, ema=other)
    assert loaded.repaired == 1
    assert other.module[1].running_mean.tolist() == 8 * [3.0]


def test_random_states_of_another_kind_cost_no_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Other programs keep theirs under the same name."""
    path = save(tmp_path / "x.pth", {"model": small_net().state_dict(), "rng": [1, 2]})
    trainvitals.load_checkpoint(path, small_net())
    assert "random states could not be restored" in caplog.text
