"""Checkpoints as people have them: every layout is read, grouped and judged without importing anything of it."""

import argparse
import collections
import enum
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import trainvitals
from checkpoints import broken_net, write_safetensors
from loops import batches, small_net, train_fp32
from trainvitals.diagnose.parent import diagnose
from trainvitals.diagnose.report import Issue, RefusedError

KEYS = ["1.running_mean", "4.running_var"]


class Colour(enum.Enum):
    """A class of the user's, whose module the reader must not need."""

    RED = 1


def keys(issues: list[Issue]) -> list[str]:
    return [issue.key for issue in issues]


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    """A net with corrupt statistics, and Adam with state."""
    model = small_net()
    optimizer = torch.optim.Adam(model.parameters())
    train_fp32(model, optimizer, batches(2))
    model[1].running_mean[2] = float("nan")
    model[4].running_var[3] = float("inf")
    return model, optimizer


LAYOUTS: dict[str, Callable[[nn.Module, torch.optim.Optimizer], Any]] = {
    "plain": lambda m, o: m.state_dict(),
    "model": lambda m, o: {"model": m.state_dict(), "optimizer": o.state_dict(), "epoch": 3, "loss": torch.tensor(1.0)},
    "lightning": lambda m, o: {
        "state_dict": m.state_dict(),
        "optimizer_states": [o.state_dict()],
        "lr_schedulers": [],
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(float("nan"))}},
        "pytorch-lightning_version": "2.5",
    },
    "data parallel": lambda m, o: {f"module.{key}": value for key, value in m.state_dict().items()},
    "compiled": lambda m, o: {"model": {f"_orig_mod.{key}": value for key, value in m.state_dict().items()}},
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_each_layout_names_statistics_as_the_model_does(
    tmp_path: Path, layout: Callable[[nn.Module, torch.optim.Optimizer], Any]
) -> None:
    """Without wrappers, and without the place the model has in the file; numbers that were measured are not judged."""
    torch.save(layout(*trained()), tmp_path / "x.pth")
    report = diagnose(tmp_path / "x.pth")
    assert keys(report.issues) == KEYS
    assert {issue.group for issue in report.issues} == {"statistics"}
    assert report.exit_code == 1
    assert report.groups["weights"].tensors == 12
    assert not report.kept


def test_an_issue_counts_kinds_and_names_the_first(tmp_path: Path) -> None:
    """NaN, both infinities and negative variances."""
    model = nn.Sequential(nn.BatchNorm1d(6))
    model[0].running_var[1:] = torch.tensor([float("inf"), float("-inf"), float("nan"), -1.0, 1.0])
    torch.save(model.state_dict(), tmp_path / "x.pth")
    (issue,) = diagnose(tmp_path / "x.pth").issues
    assert (issue.posinf, issue.neginf, issue.nan, issue.negative) == (1, 1, 1, 1)
    assert (issue.count, issue.total, issue.first) == (4, 6, [1])


def test_weights_and_optimizer_state_are_more_serious(tmp_path: Path) -> None:
    """A bare optimizer is one, as Hugging Face saves it; its moments are never statistics."""
    model, optimizer = trained()
    optimizer.state[model[0].weight]["exp_avg"][0] = float("nan")  # type: ignore[index]
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    report = diagnose(tmp_path / "optimizer.pt")
    assert keys(report.issues) == ["optimizer.state.0.exp_avg"]
    assert report.exit_code == 2
    with torch.no_grad():
        model[0].weight[0] = float("inf")  # type: ignore[index,operator]
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "x.pth")
    report = diagnose(tmp_path / "x.pth")
    assert {issue.group for issue in report.issues} == {"statistics", "weights", "optimizer"}
    assert report.exit_code == 2


def test_averages_and_several_models_are_told_apart(tmp_path: Path) -> None:
    """An EMA copy's statistics are statistics; a GAN's models keep their names."""
    average = AveragedModel(small_net())
    average.module[1].running_mean[0] = float("nan")
    with torch.no_grad():
        average.module[0].bias[0] = float("nan")
    torch.save({"model": small_net().state_dict(), "ema": average.state_dict()}, tmp_path / "x.pth")
    found = {issue.key: issue.group for issue in diagnose(tmp_path / "x.pth").issues}
    assert found == {"ema.module.0.bias": "ema", "ema.module.1.running_mean": "statistics"}
    torch.save({"G": broken_net().state_dict(), "D": small_net().state_dict()}, tmp_path / "gan.pth")
    assert keys(diagnose(tmp_path / "gan.pth").issues) == [f"G.{key}" for key in KEYS]


def test_what_real_checkpoints_hold_beside_tensors_is_no_obstacle(tmp_path: Path) -> None:
    """Types that weights-only loading refuses become placeholders, named in the report, and nothing is imported."""
    model, _ = trained()
    state = {
        "model": model.state_dict(),
        "psnr": np.float64(28.4),
        "args": argparse.Namespace(path=Path("x"), n=3),
        "groups": collections.defaultdict(list, {"a": [1]}),
        "rng": np.random.get_state(),
        "colour": Colour.RED,
        "set": {1, 2},
    }
    torch.save(state, tmp_path / "x.pth")
    report = diagnose(tmp_path / "x.pth")
    assert keys(report.issues) == KEYS
    assert "argparse.Namespace" in report.kept
    assert any(name.endswith("Colour") for name in report.kept)


def test_a_whole_module_is_looked_through(tmp_path: Path) -> None:
    """torch.save(model): its tensors lie in placeholders."""
    torch.save(broken_net(), tmp_path / "x.pth")
    assert keys(diagnose(tmp_path / "x.pth").issues) == KEYS


class Pair(NamedTuple):
    """Of the user's."""

    model: dict[str, torch.Tensor]
    step: int


class Named(dict[str, torch.Tensor]):
    """A dictionary of the user's."""


HIDING: dict[str, Callable[[Any], Any]] = {
    "beside a dictionary": lambda state: {**state, "config": {}, "best": np.float32(1)},
    "in a list": lambda state: list(state.values()),
    "in a named tuple": lambda state: {"model": Pair(state, 1)},
    "in a dictionary of the user's": lambda state: {"model": Named(state)},
    "under another name": lambda state: {"loss": state, "epoch": 1},
    "as a dictionary of the user's": Named,
    "deep": lambda state: {"a": {"b": [{"c": {"d": state}}]}},
}


@pytest.mark.parametrize("hide", HIDING.values(), ids=HIDING)
def test_weights_are_judged_wherever_they_lie(tmp_path: Path, hide: Callable[[Any], Any]) -> None:
    """A file that was not understood is never called healthy."""
    state = {"conv.weight": torch.tensor([1.0, float("nan")])}
    torch.save(hide(state), tmp_path / "x.pth")
    assert diagnose(tmp_path / "x.pth").exit_code == 2


def test_measurements_are_not_weights(tmp_path: Path) -> None:
    """Callbacks keep scores, the best of which begins at minus infinity."""
    state = {
        "state_dict": small_net().state_dict(),
        "early_stopping": {"best_score": torch.tensor(float("-inf"))},
        "mine": {"best": torch.tensor(float("inf"))},
    }
    torch.save(state, tmp_path / "2026-01-01T10:00:00...pt")
    assert diagnose(tmp_path / "2026-01-01T10:00:00...pt").exit_code == 0


def test_arrays_that_are_not_judged_are_said(tmp_path: Path) -> None:
    """numpy's, where they could be weights."""
    state = {"model": {"w": np.array([np.nan])}, "rng": np.random.get_state(), "net": small_net().state_dict()}
    torch.save(state, tmp_path / "x.pth")
    assert diagnose(tmp_path / "x.pth").unjudged == ["w (a numpy array)"]


def test_names_that_are_no_text_are_no_obstacle(tmp_path: Path) -> None:
    """Huge numbers, tuples, lone surrogates."""
    state = {"model": {10**5000: torch.ones(1), (1, 2): torch.ones(1), "\ud800.w": torch.tensor([float("nan")])}}
    torch.save(state, tmp_path / "x.pth")
    assert keys(diagnose(tmp_path / "x.pth").issues) == ["\\ud800.w"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float32])
def test_every_precision_is_judged(tmp_path: Path, dtype: torch.dtype) -> None:
    """By its own bits."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)).to(dtype)
    torch.save(model.state_dict(), tmp_path / "good.pth")
    assert diagnose(tmp_path / "good.pth").exit_code == 0
    model[1].running_var[1] = -2.0
    with torch.no_grad():
        model[0].bias[0] = float("-inf")
    torch.save(model.state_dict(), tmp_path / "x.pth")
    report = diagnose(tmp_path / "x.pth")
    assert [(i.key, i.negative, i.neginf) for i in report.issues] == [("0.bias", 0, 1), ("1.running_var", 1, 0)]


def test_eight_bits_and_complex_numbers_too(tmp_path: Path) -> None:
    """NaN in each format."""
    state = {
        "e4m3": torch.tensor([1.0, float("nan")]).to(torch.float8_e4m3fn),
        "e5m2": torch.tensor([1.0, float("inf")]).to(torch.float8_e5m2),
        "complex": torch.tensor([1 + 1j, complex("nan")]),
        "whole": torch.arange(4),
    }
    torch.save(state, tmp_path / "x.pth")
    assert keys(diagnose(tmp_path / "x.pth").issues) == ["e4m3", "e5m2", "complex"]


def test_views_are_judged_by_their_own_elements(tmp_path: Path) -> None:
    """Transposed, sliced, expanded and tied: what the storage holds beside them does not count."""
    base = torch.zeros(6, 4)
    base[5, 3] = float("nan")
    state = {"slice": base[:3], "turned": base.t(), "column": base[:, 3], "tied": base, "wide": base[5:, 3].expand(8)}
    torch.save(state, tmp_path / "x.pth")
    found = {issue.key: (issue.nan, issue.first) for issue in diagnose(tmp_path / "x.pth").issues}
    assert found == {"turned": (1, [3, 5]), "column": (1, [5]), "tied": (1, [5, 3]), "wide": (8, [0])}


def test_what_cannot_be_judged_is_said(tmp_path: Path) -> None:
    """Meta tensors have no numbers."""
    torch.save({"a": torch.zeros(2), "b": torch.zeros(3, device="meta")}, tmp_path / "x.pth")
    report = diagnose(tmp_path / "x.pth")
    assert report.unjudged == ["b (on the meta device)"]
    assert report.exit_code == 0


def test_our_own_checkpoints_hold_nothing_unknown(tmp_path: Path) -> None:
    """Only types that the weights-only loader takes."""
    model = small_net()
    optimizer = torch.optim.Adam(model.parameters())
    watch = trainvitals.watch(model, optimizer, mode="offline", directory=tmp_path)
    train_fp32(model, optimizer, batches(2), lambda step, loss: watch.step(loss=loss))
    assert watch.save_checkpoint(tmp_path / "x.pth", extra={"path": Path("a"), "n": np.float64(2)}, metric=1.0)
    watch.close()
    report = diagnose(tmp_path / "x.pth")
    assert (report.exit_code, report.kept, report.unjudged) == (0, [], [])
    assert report.groups["optimizer"].tensors > 0


def test_safetensors_are_read_as_such(tmp_path: Path) -> None:
    """Without torch, and without the package."""
    write_safetensors(tmp_path / "x.safetensors", broken_net().state_dict())
    report = diagnose(tmp_path / "x.safetensors")
    assert keys(report.issues) == KEYS
    assert report.groups["statistics"].tensors == 4


def test_shards_are_one_checkpoint(tmp_path: Path) -> None:
    """By their index, or by the folder that holds it."""
    folder = tmp_path / "model"
    folder.mkdir()
    state = broken_net().state_dict()
    parts = {"a.safetensors": list(state)[:4], "b.safetensors": list(state)[4:]}
    for name, some in parts.items():
        write_safetensors(folder / name, {key: state[key] for key in some})
    index = {"weight_map": {key: name for name, some in parts.items() for key in some}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for path in (folder, folder / "model.safetensors.index.json"):
        report = diagnose(path)
        assert sorted(keys(report.issues)) == KEYS
        assert {issue.file for issue in report.issues} <= parts.keys()
        assert sum(one.tensors for one in report.groups.values()) == len(state)


@pytest.mark.parametrize(
    ("weight_map", "said"),
    [({"a": "../a.bin"}, "got '../a.bin'"), ({"a": "gone.bin"}, "got 'gone.bin'"), (3, "a weight_map"), ({}, "empty")],
)
def test_an_index_names_files_beside_it_only(tmp_path: Path, weight_map: Any, said: str) -> None:
    """No path, no file that is not there."""
    (tmp_path / "a.bin").write_bytes(b"")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "x.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(RefusedError, match=said):
        diagnose(folder / "x.index.json")


def test_a_mask_may_hold_infinities(tmp_path: Path) -> None:
    """Attention masks kept as buffers; a NaN in one is corrupt all the same."""
    state = {"attn.causal_mask": torch.full((3, 3), float("-inf")).triu(1), "attn.weight": torch.ones(2)}
    torch.save(state, tmp_path / "x.pth")
    assert diagnose(tmp_path / "x.pth").exit_code == 0
    state["attn.causal_mask"][0, 0] = float("nan")
    torch.save(state, tmp_path / "x.pth")
    assert keys(diagnose(tmp_path / "x.pth").issues) == ["attn.causal_mask"]
