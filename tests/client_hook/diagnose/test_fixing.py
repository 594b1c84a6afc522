"""The repaired copy: statistics made good, and every other byte as it was."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import trainvitals
from checkpoints import broken_net, write_safetensors
from loops import small_net
from trainvitals.diagnose.parent import diagnose
from trainvitals.diagnose.report import RefusedError


class Named(dict[str, torch.Tensor]):
    """A dictionary of the user's."""


def records(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_only_the_corrupt_statistics_differ(tmp_path: Path) -> None:
    """And the checksums of their records; the original is not touched, and torch loads the copy."""
    path = tmp_path / "x.pth"
    model, good = broken_net(), small_net().state_dict()
    for state in (model.state_dict(), good):
        state["1.running_var"].fill_(4)
        state["4.running_mean"].fill_(3)
    torch.save({"model": model.state_dict(), "psnr": np.float64(3.0)}, path)
    before = path.read_bytes()
    report = diagnose(path, fix=True)
    assert (report.exit_code, report.repaired) == (0, ["1.running_mean", "4.running_var"])
    assert path.read_bytes() == before
    fixed = tmp_path / "x_FIXED.pth"
    assert report.fixed == str(fixed)
    one, two = records(path), records(fixed)
    changed = [name for name in one if one[name] != two[name]]
    assert len(changed) == 4  # mean and variance of two layers
    assert sum(a != b for a, b in zip(before, fixed.read_bytes(), strict=True)) <= 4 * (4 + 8)
    state = torch.load(fixed, weights_only=False)["model"]
    assert (state["1.running_mean"][2], state["1.running_var"][2]) == (0, 1)
    assert (state["4.running_mean"][3], state["4.running_var"][3]) == (0, 1)
    for layer, channel in (("1", 2), ("4", 3)):
        for name in ("running_mean", "running_var"):
            state[f"{layer}.{name}"][channel] = good[f"{layer}.{name}"][channel]
    assert all(torch.equal(state[key], good[key]) for key in good)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["x.pth", "x_FIXED.pth"]


def test_the_fixed_copy_is_healthy_and_loads_into_the_model(tmp_path: Path) -> None:
    """Fixing again finds the same copy there, and leaves it."""
    torch.save({"model": broken_net().state_dict()}, tmp_path / "x.pth")
    for _ in range(2):
        assert diagnose(tmp_path / "x.pth", fix=True).fixed == str(tmp_path / "x_FIXED.pth")
    assert diagnose(tmp_path / "x_FIXED.pth").exit_code == 0
    model = small_net()
    assert trainvitals.load_checkpoint(tmp_path / "x_FIXED.pth", model).health.is_healthy


def test_a_copy_in_which_training_went_on_is_not_replaced(tmp_path: Path) -> None:
    """But by force; and nothing half-written stays."""
    torch.save({"model": broken_net().state_dict()}, tmp_path / "x.pth")
    fixed = tmp_path / "x_FIXED.pth"
    fixed.write_text("hours of training")
    with pytest.raises(RefusedError, match="differs: training may have gone on in it"):
        diagnose(tmp_path / "x.pth", fix=True)
    assert fixed.read_text() == "hours of training"
    assert diagnose(tmp_path / "x.pth", fix=True, force=True).exit_code == 0
    assert diagnose(fixed).exit_code == 0
    assert sorted(one.name for one in tmp_path.iterdir()) == ["x.pth", "x_FIXED.pth"]


def test_a_folder_is_not_replaced_either(tmp_path: Path) -> None:
    """Unless it is the same, or by force."""
    folder = tmp_path / "model"
    folder.mkdir()
    write_safetensors(folder / "a.safetensors", broken_net().state_dict())
    for _ in range(2):
        assert diagnose(folder, fix=True).exit_code == 0
    (tmp_path / "model_FIXED/more.txt").write_text("hours of training")
    with pytest.raises(RefusedError, match="differs"):
        diagnose(folder, fix=True)
    assert diagnose(folder, fix=True, force=True).exit_code == 0
    assert [one.name for one in (tmp_path / "model_FIXED").iterdir()] == ["a.safetensors"]


def test_a_healthy_checkpoint_is_not_copied(tmp_path: Path) -> None:
    """There is nothing to fix."""
    torch.save(small_net().state_dict(), tmp_path / "x.pth")
    report = diagnose(tmp_path / "x.pth", fix=True)
    assert (report.exit_code, report.fixed) == (0, None)
    assert [one.name for one in tmp_path.iterdir()] == ["x.pth"]


def test_corrupt_weights_are_left_and_no_success_is_claimed(tmp_path: Path) -> None:
    """The statistics are repaired all the same: it might help."""
    model = broken_net()
    with torch.no_grad():
        model[0].weight[0] = float("nan")
    torch.save(model.state_dict(), tmp_path / "x.pth")
    report = diagnose(tmp_path / "x.pth", fix=True)
    assert report.exit_code == 2
    state = torch.load(tmp_path / "x_FIXED.pth", weights_only=True)
    assert state["0.weight"][0].isnan().all()
    assert state["1.running_mean"].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_precision_is_repaired_in_itself(tmp_path: Path, dtype: torch.dtype) -> None:
    """Mean 0 and variance 1, in its own bits."""
    model = nn.Sequential(nn.BatchNorm1d(4)).to(dtype)
    model[0].running_mean.fill_(3)
    model[0].running_var[:] = torch.tensor([2.0, float("nan"), -1.0, 2.0])
    torch.save(model.state_dict(), tmp_path / "x.pth")
    assert diagnose(tmp_path / "x.pth", fix=True).exit_code == 0
    state = torch.load(tmp_path / "x_FIXED.pth", weights_only=True)
    assert state["0.running_var"].tolist() == [2, 1, 1, 2]
    assert state["0.running_mean"].tolist() == [3, 0, 0, 3]
    assert state["0.running_var"].dtype == dtype


def test_statistics_that_are_views_are_repaired_where_they_lie(tmp_path: Path) -> None:
    """Every second element of a larger storage; its neighbours stay, corrupt or not."""
    storage = torch.full((2, 8), 5.0)
    storage[0, 2], storage[0, 3] = float("nan"), float("inf")
    state = {"bn.running_mean": storage[0, ::2], "bn.running_var": storage[1, ::2], "neighbours": storage[0, 1::2]}
    torch.save(state, tmp_path / "x.pth")
    report = diagnose(tmp_path / "x.pth", fix=True)
    assert report.exit_code == 2
    fixed: dict[str, Any] = torch.load(tmp_path / "x_FIXED.pth", weights_only=True)
    assert fixed["bn.running_mean"].tolist() == [5, 0, 5, 5]
    assert fixed["bn.running_var"].tolist() == [5, 1, 5, 5]
    assert fixed["neighbours"].tolist() == [5, float("inf"), 5, 5]


def test_mean_and_variance_are_paired_in_any_container(tmp_path: Path) -> None:
    """A dictionary class of the user's, whose entries a pickle sets one by one."""
    state = Named({"bn.running_mean": torch.tensor([1.0, float("nan")]), "bn.running_var": torch.tensor([5.0, 6.0])})
    torch.save({"model": state}, tmp_path / "x.pth")
    assert diagnose(tmp_path / "x.pth", fix=True).repaired == ["bn.running_mean"]
    fixed = torch.load(tmp_path / "x_FIXED.pth", weights_only=False)["model"]
    assert (fixed["bn.running_mean"].tolist(), fixed["bn.running_var"].tolist()) == ([1, 0], [5, 1])


def test_safetensors_are_repaired_in_place_of_their_bytes(tmp_path: Path) -> None:
    """The header stays as it was."""
    path = tmp_path / "x.safetensors"
    write_safetensors(path, broken_net().state_dict())
    assert diagnose(path, fix=True).exit_code == 0
    fixed = tmp_path / "x_FIXED.safetensors"
    assert diagnose(fixed).exit_code == 0
    assert sum(a != b for a, b in zip(path.read_bytes(), fixed.read_bytes(), strict=True)) <= 16


def test_a_sharded_one_is_fixed_as_a_whole_folder(tmp_path: Path) -> None:
    """With everything else that lay in it, so that it can be loaded as it is."""
    folder = tmp_path / "model"
    folder.mkdir()
    write_safetensors(folder / "a.safetensors", broken_net().state_dict())
    write_safetensors(folder / "b.safetensors", {"head.weight": torch.ones(3)})
    (folder / "config.json").write_text("{}")
    report = diagnose(folder, fix=True)
    fixed = tmp_path / "model_FIXED"
    assert (report.exit_code, report.fixed) == (0, str(fixed))
    assert sorted(one.name for one in fixed.iterdir()) == ["a.safetensors", "b.safetensors", "config.json"]
    assert (fixed / "b.safetensors").read_bytes() == (folder / "b.safetensors").read_bytes()
    assert diagnose(fixed).exit_code == 0
    assert sorted(one.name for one in tmp_path.iterdir()) == ["model", "model_FIXED"]
