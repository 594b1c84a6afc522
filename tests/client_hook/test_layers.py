"""Names and finding of layers, in every wrapping users use."""

import pytest
import torch
from torch import nn

from loops import small_net
from trainvitals.layers import is_selected, named_norms, named_parameters, unwrap


class Homemade(nn.Module):
    """A class of the user's own that merely has the two buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(3))
        self.register_buffer("running_var", torch.ones(3))


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm1d(3),
        nn.BatchNorm2d(3),
        nn.BatchNorm3d(3),
        nn.SyncBatchNorm(3),
        nn.InstanceNorm2d(3, track_running_stats=True),
        Homemade(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_every_kind_of_running_statistics_is_found(layer: nn.Module) -> None:
    """Not BatchNorm alone."""
    assert [norm.name for norm in named_norms({"": nn.Sequential(layer)})] == ["0"]


@pytest.mark.parametrize(
    "layer",
    [nn.InstanceNorm2d(3), nn.BatchNorm2d(3, track_running_stats=False), nn.LazyBatchNorm2d(), nn.LayerNorm(3)],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_without_statistics_is_not(layer: nn.Module) -> None:
    """Absent or not yet initialised."""
    assert list(named_norms({"": nn.Sequential(layer)})) == []


def test_a_lazy_layer_is_found_once_it_knows_its_size() -> None:
    """After its first forward."""
    model = nn.Sequential(nn.LazyBatchNorm2d())
    model(torch.rand(2, 3, 4, 4))
    assert [norm.name for norm in named_norms({"": model})] == ["0"]


def test_wrappers_leave_no_trace_in_names() -> None:
    """DataParallel, torch.compile, and one inside the other."""
    plain = [name for name, _ in named_parameters({"": small_net()})]
    for wrapped in (
        nn.DataParallel(small_net()),
        torch.compile(small_net()),
        torch.compile(nn.DataParallel(small_net())),
    ):
        assert [name for name, _ in named_parameters({"": wrapped})] == plain
    inner = small_net()
    assert unwrap(torch.compile(nn.DataParallel(inner))) is inner


def test_a_compiled_part_leaves_no_trace_either() -> None:
    """The wrapper may sit deep inside."""
    model = nn.Sequential(torch.compile(nn.Sequential(nn.BatchNorm2d(3))))
    assert [norm.name for norm in named_norms({"": model})] == ["0.0"]
    assert [name for name, _ in named_parameters({"": model})] == ["0.0.weight", "0.0.bias"]


def test_the_keys_of_several_models_are_prefixes() -> None:
    """G and D do not collide."""
    names = [name for name, _ in named_parameters({"G": nn.Linear(1, 1), "D": nn.Linear(1, 1)})]
    assert names == ["G.weight", "G.bias", "D.weight", "D.bias"]


def test_what_is_shared_is_counted_once() -> None:
    """Tied weights and tied modules."""
    a = nn.Linear(2, 2)
    b = nn.Linear(2, 2)
    b.weight = a.weight
    norm = nn.BatchNorm1d(2)
    model = nn.Sequential(a, norm, b, norm)
    assert [name for name, _ in named_parameters({"": model})] == ["0.weight", "0.bias", "1.weight", "1.bias", "2.bias"]
    assert [n.name for n in named_norms({"": model})] == ["1"]


def test_frozen_parameters_are_left_out() -> None:
    """They never get a gradient."""
    model = nn.Linear(2, 2)
    model.weight.requires_grad_(False)
    assert [name for name, _ in named_parameters({"": model})] == ["bias"]


def test_include_and_exclude_are_globs() -> None:
    """Exclusion has the last word."""
    assert is_selected("encoder.0", None, None)
    assert is_selected("encoder.0", ["encoder.*"], None)
    assert not is_selected("decoder.0", ["encoder.*"], None)
    assert not is_selected("encoder.0", ["encoder.*"], ["*.0"])
