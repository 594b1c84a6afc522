"""What `watch.save_checkpoint` does with a healthy, a corrupt and an unwritable state."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import trainvitals
from loops import batches, of_type, small_net, spooled, train_fp32
from trainvitals import wire

NAN = float("nan")


def make(**settings: Any) -> tuple[trainvitals.Watch, torch.nn.Sequential]:
    model = small_net()
    return trainvitals.watch(model, mode="offline", **settings), model


def recorded(watch: trainvitals.Watch) -> list[wire.Checkpoint]:
    watch.close()
    assert watch.spool_path is not None
    return of_type(spooled(watch.spool_path), wire.Checkpoint)


def statistics(path: Path, part: str = "model") -> dict[str, torch.Tensor]:
    state = torch.load(path, weights_only=True)[part]
    return {key: value for key, value in state.items() if "running_" in key}


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A full disk, as the kernel tells of it (EFBIG for ENOSPC)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_watch_saves_everything_a_resume_needs(tmp_path: Path) -> None:
    """Optimizer, scaler, scheduler, step and metric; and keeps the best one."""
    model = small_net()
    optimizer = torch.optim.Adam(model.parameters())
    scaler = torch.amp.GradScaler("cpu")
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    watch = trainvitals.watch(model, optimizer, scaler=scaler, scheduler=scheduler, mode="offline")
    train_fp32(model, optimizer, batches(4), lambda step, loss: watch.step(loss=loss))
    path = tmp_path / "x.pth"
    assert watch.save_checkpoint(path, extra={"note": "hi"}, metric=30.0).best
    assert not watch.save_checkpoint(path, metric=29.0).best
    watch.close()
    other = small_net(1)
    other_optimizer = torch.optim.Adam(other.parameters())
    loaded = trainvitals.load_checkpoint(tmp_path / "x_best.pth", other, other_optimizer, torch.amp.GradScaler("cpu"))
    assert (loaded.step, loaded.metric, loaded.best_metric, loaded.extra) == (3, 30.0, 30.0, {"note": "hi"})
    assert torch.equal(other_optimizer.state[other[0].weight]["exp_avg"], optimizer.state[model[0].weight]["exp_avg"])
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))
    assert watch.spool_path is not None
    saved = of_type(spooled(watch.spool_path), wire.Checkpoint)
    assert [(c.outcome, c.best, c.metric) for c in saved] == [("saved", True, 30.0), ("saved", False, 29.0)]


def test_watch_repairs_statistics_before_it_judges(tmp_path: Path) -> None:
    """So only corrupt weights and optimizer state are refused."""
    model = small_net()
    watch = trainvitals.watch(model, mode="offline")
    model[1].running_mean[0] = float("nan")
    assert watch.save_checkpoint(tmp_path / "x.pth")
    with torch.no_grad():
        model[0].weight[0] = float("nan")
    refused = watch.save_checkpoint(tmp_path / "x.pth")
    watch.close()
    assert not refused
    assert (refused.outcome, refused.key) == ("refused", "0.weight")
    assert watch.spool_path is not None
    outcomes = [(c.outcome, c.repaired) for c in of_type(spooled(watch.spool_path), wire.Checkpoint)]
    assert outcomes == [("saved", True), ("refused", False)]


def test_without_repair_corrupt_statistics_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With the seed's line."""
    model = small_net()
    watch = trainvitals.watch(model, mode="offline", auto_sanitize="off")
    model[1].running_mean[0] = float("nan")
    assert not watch.save_checkpoint(tmp_path / "x.pth")
    watch.close()
    assert "[FATAL] Checkpoint save aborted! Model corrupted at key: 1.running_mean" in caplog.text


def test_saving_never_raises_into_training(tmp_path: Path) -> None:
    """Not even where nothing can be written."""
    (tmp_path / "file").write_text("")
    watch = trainvitals.watch(small_net(), mode="offline")
    result = watch.save_checkpoint(tmp_path / "file/x.pth")
    watch.close()
    assert (result.outcome, bool(result)) == ("failed", False)


def test_a_resumed_run_does_not_call_a_worse_model_the_best(tmp_path: Path) -> None:
    """The best metric is handed on."""
    watch = trainvitals.watch(small_net(), mode="offline")
    watch.best_metric = 30.0
    assert not watch.save_checkpoint(tmp_path / "x.pth", metric=29.0).best
    assert watch.save_checkpoint(tmp_path / "x.pth", metric=31.0).best
    assert watch.best_metric == 31.0
    watch.close()


# --- statistics -------------------------------------------------------------------------------------------------------


def test_layers_that_are_not_watched_are_healed_in_the_file_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Those excluded, and those that came later: the model is left as it is, the checkpoint is not refused."""
    watch, model = make(exclude=["4*"])
    model.append(torch.nn.BatchNorm2d(3).half())
    model[4].running_var[1] = NAN
    model[7].running_mean[0] = float("inf")
    assert watch.save_checkpoint(tmp_path / "x.pth")
    assert all(bool(torch.isfinite(value).all()) for value in statistics(tmp_path / "x.pth").values())
    assert torch.isnan(model[4].running_var[1])
    assert "not watched are reset in" in caplog.text
    assert [c.repaired for c in recorded(watch)] == [True]


def test_an_average_is_healed_from_the_model(tmp_path: Path) -> None:
    """Poisoned once, it would be refused for ever (mechanics 17)."""
    model = small_net()
    model[1].running_mean.fill_(3.0)
    average = torch.optim.swa_utils.AveragedModel(model, use_buffers=True)
    watch = trainvitals.watch(model, ema=average, mode="offline")
    average.module[1].running_mean[2] = NAN
    assert watch.save_checkpoint(tmp_path / "x.pth")
    watch.close()
    assert statistics(tmp_path / "x.pth", "ema")["module.1.running_mean"].tolist() == 8 * [3.0]
    assert average.module[1].running_mean.tolist() == 8 * [3.0]


def test_a_corrupt_weight_of_an_average_is_refused(tmp_path: Path) -> None:
    """Though the model is finite."""
    model = small_net()
    average = torch.optim.swa_utils.AveragedModel(model)
    watch = trainvitals.watch(model, ema=average, mode="offline")
    with torch.no_grad():
        average.module[0].bias[0] = NAN
    result = watch.save_checkpoint(tmp_path / "x.pth")
    watch.close()
    assert (result.outcome, result.key) == ("refused", "ema.module.0.bias")


def test_a_halted_repair_refuses_and_says_so(tmp_path: Path) -> None:
    """After `max_repairs` the corruption stays; the pass that was the last still counts."""
    watch, model = make(max_repairs=1)
    model[1].running_mean[0] = NAN
    assert watch.save_checkpoint(tmp_path / "x.pth")
    model[1].running_mean[0] = NAN
    result = watch.save_checkpoint(tmp_path / "x.pth")
    watch.close()
    assert (result.outcome, result.key) == ("refused", "1.running_mean")
    assert result.reason == "1 of 8 nan; automatic repair is halted"


# --- what the user adds -----------------------------------------------------------------------------------------------


def test_the_users_own_values_never_cost_a_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A NaN loss, objects of any kind, and names that are ours; what was given comes back."""
    watch, _ = make()
    extra = {"model": "resnet", "step": 99, "loss": torch.tensor([NAN]), "fn": len, "lr": np.float32(0.5), 3: "three"}
    assert watch.save_checkpoint(tmp_path / "x.pth", extra=extra)
    watch.close()
    loaded = trainvitals.load_checkpoint(tmp_path / "x.pth", small_net(1))
    assert "x.pth: saved as it was given, though extra.loss: 1 of 1 nan" in caplog.text
    assert bool(torch.isnan(loaded.extra.pop("loss")).all())
    assert loaded.extra == {"model": "resnet", "step": 99, "fn": str(len), "lr": 0.5, 3: "three"}
    assert loaded.step == 0


@pytest.mark.parametrize(
    ("metric", "best", "kept"),
    [
        (torch.tensor(3.0), True, 3.0),
        (np.float32(3.0), True, 3.0),
        (float("inf"), False, float("inf")),
        ("high", False, None),
        (torch.ones(2), False, None),
    ],
    ids=["tensor", "numpy", "infinite", "text", "several"],
)
def test_a_metric_of_any_kind_is_saved_with(tmp_path: Path, metric: Any, best: bool, kept: float | None) -> None:
    """What is no number costs no checkpoint, and is not the best."""
    watch, _ = make()
    result = watch.save_checkpoint(tmp_path / "x.pth", metric=metric)
    watch.close()
    assert (bool(result), result.best) == (True, best)
    assert trainvitals.load_checkpoint(tmp_path / "x.pth").metric == kept


def test_a_metric_that_is_nan_is_never_the_best(tmp_path: Path) -> None:
    """And does not keep a later one from it."""
    watch, _ = make()
    assert not watch.save_checkpoint(tmp_path / "x.pth", metric=NAN).best
    assert watch.save_checkpoint(tmp_path / "x.pth", metric=1.0).best
    watch.close()


def test_a_scheduler_that_cannot_be_stored_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Better a checkpoint without it than none."""

    class Scheduler:
        def state_dict(self) -> dict[str, Any]:
            return {"shape": len}

    watch, _ = make(scheduler=Scheduler())
    assert watch.save_checkpoint(tmp_path / "x.pth")
    watch.close()
    assert "the scheduler is left out" in caplog.text
    assert torch.load(tmp_path / "x.pth", weights_only=True)["scheduler"] is None


def test_a_learning_rate_of_numpy_still_loads_weights_only(tmp_path: Path) -> None:
    """As a schedule of one's own gives it."""
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=np.float64(0.1))
    watch = trainvitals.watch(model, optimizer, mode="offline")
    assert watch.save_checkpoint(tmp_path / "x.pth")
    watch.close()
    fresh = torch.optim.SGD(model.parameters(), lr=1.0)
    trainvitals.load_checkpoint(tmp_path / "x.pth", model, fresh)
    assert fresh.param_groups[0]["lr"] == 0.1


# --- the best one -----------------------------------------------------------------------------------------------------


def test_no_best_is_taken_until_the_statistics_have_settled(tmp_path: Path) -> None:
    """Ten steps after a repair; steps that went back since do not count as soon after it."""
    watch, model = make()
    for step in (500, 509, 510, 3):
        watch.step(step, loss=1.0)
        if step == 500:
            model[1].running_mean[0] = NAN
        assert watch.save_checkpoint(tmp_path / "x.pth", metric=float(step if step > 3 else 600)).best == (
            step in (510, 3)
        )
    watch.close()


def test_a_best_that_cannot_be_kept_is_not_claimed(tmp_path: Path) -> None:
    """The newest is saved all the same, and the next one may be the best."""
    (tmp_path / "x_best.pth").mkdir()
    watch, _ = make()
    result = watch.save_checkpoint(tmp_path / "x.pth", metric=1.0)
    assert (result.outcome, result.best) == ("saved", False)
    assert "x_best.pth: cannot be written" in result.reason
    assert trainvitals.load_checkpoint(tmp_path / "x.pth").best_metric is None
    (tmp_path / "x_best.pth").rmdir()
    assert watch.save_checkpoint(tmp_path / "x.pth", metric=0.5).best
    watch.close()


# --- where it cannot be written ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("folder", "Is a directory"),
        ("file/x.pth", "File exists"),
        ("x" * 300, "File name too long"),
        ("nul\0.pth", "null byte"),
        (None, "TypeError"),
    ],
)
def test_a_place_that_cannot_be_is_a_reason(tmp_path: Path, path: str | None, reason: str) -> None:
    """Nothing is raised into training, and nothing is left."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    watch, _ = make()
    result = watch.save_checkpoint(tmp_path / path if path else path)  # type: ignore[arg-type]
    watch.close()
    assert (result.outcome, bool(result)) == ("failed", False)
    assert reason in result.reason
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "home") == ["file", "folder"]


def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path: Path) -> None:
    """With the disk's own words, not those of torch's writer."""
    watch = trainvitals.watch(small_net(), mode="disabled")
    watch.save_checkpoint(tmp_path / "x.pth")
    before = (tmp_path / "x.pth").read_bytes()
    with files_of_at_most(len(before) // 2):
        result = watch.save_checkpoint(tmp_path / "x.pth")
    assert (result.outcome, (tmp_path / "x.pth").read_bytes() == before) == ("failed", True)
    assert "File too large" in result.reason
    assert "\n" not in result.reason
    assert [p.name for p in tmp_path.iterdir() if "x.pth" in p.name] == ["x.pth"]
