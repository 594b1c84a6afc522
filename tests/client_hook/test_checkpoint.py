"""Checkpoints are whole or not there, and never silently corrupt."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

import trainvitals
from loops import small_net
from trainvitals.storage.randomness import restore_rng_state, rng_state


def test_a_healthy_state_is_saved_and_loads_weights_only(tmp_path: Path) -> None:
    """The whole folder is made, and no temporary file is left."""
    model = small_net()
    path = trainvitals.save_checkpoint(tmp_path / "deep/x.pth", {"model": model.state_dict(), "step": 3})
    loaded = trainvitals.load_checkpoint(path, small_net(1))
    assert loaded.step == 3
    assert loaded.health.is_healthy
    assert [p.name for p in path.parent.iterdir()] == ["x.pth"]


def test_a_corrupt_state_is_refused_and_quarantined(tmp_path: Path) -> None:
    """The last good one stays; the corrupt one lies beside it with a report."""
    model = small_net()
    path = trainvitals.save_checkpoint(tmp_path / "x.pth", {"model": model.state_dict()})
    good = path.read_bytes()
    model[1].running_mean[0] = float("inf")
    with pytest.raises(
        trainvitals.CorruptModelError, match=r"corrupted at key: 1\.running_mean \(1 of 8 inf\)"
    ) as caught:
        trainvitals.save_checkpoint(path, {"model": model.state_dict()})
    assert caught.value.key == "1.running_mean"
    assert path.read_bytes() == good
    report = json.loads((tmp_path / "x.pth.unhealthy.json").read_text())
    assert report["issues"][0]["key"] == "1.running_mean"
    assert (tmp_path / "x.pth.unhealthy").exists()


def test_the_guard_can_be_taken_off(tmp_path: Path) -> None:
    """By those who know what they do."""
    state = {"model": {"w": torch.tensor([float("nan")])}}
    assert trainvitals.save_checkpoint(tmp_path / "x.pth", state, guard=False).exists()


def test_a_corrupt_checkpoint_is_sanitized_on_loading(tmp_path: Path) -> None:
    """The seed's fix 3: health is reported as it was found."""
    model = small_net()
    model[4].running_var[1] = float("nan")
    path = trainvitals.save_checkpoint(tmp_path / "x.pth", {"model": model.state_dict()}, guard=False)
    fresh = small_net()
    loaded = trainvitals.load_checkpoint(path, fresh)
    assert [issue.key for issue in loaded.health.issues] == ["4.running_var"]
    assert loaded.repaired == 1
    assert trainvitals.check_model_health(fresh).is_healthy


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04"])
def test_what_is_no_checkpoint_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    """One line, naming the file."""
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(trainvitals.CheckpointError, match=r"x\.pth: expected a checkpoint"):
        trainvitals.load_checkpoint(path)


def test_a_missing_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    """Likewise."""
    with pytest.raises(trainvitals.CheckpointError, match=r"x\.pth"):
        trainvitals.load_checkpoint(tmp_path / "x.pth")


def test_an_unwritable_place_leaves_nothing(tmp_path: Path) -> None:
    """And says where."""
    (tmp_path / "file").write_text("")
    with pytest.raises(trainvitals.CheckpointError, match="cannot be written"):
        trainvitals.save_checkpoint(tmp_path / "file/x.pth", {})


def test_random_states_come_back() -> None:
    """torch, numpy and Python."""
    state = rng_state()
    drawn = torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()
    restore_rng_state(state)
    assert (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()) == drawn


def test_an_attention_mask_is_no_reason_to_refuse(tmp_path: Path) -> None:
    """Minus infinity is at home in one; a NaN is not."""
    state = {"model": {"attn.mask": torch.full((3, 3), float("-inf")).triu(1), "attn.weight": torch.ones(2)}}
    assert trainvitals.save_checkpoint(tmp_path / "x.pth", state).exists()
    state["model"]["attn.mask"][0, 0] = float("nan")
    with pytest.raises(trainvitals.CorruptModelError, match=r"attn\.mask"):
        trainvitals.save_checkpoint(tmp_path / "x.pth", state)
