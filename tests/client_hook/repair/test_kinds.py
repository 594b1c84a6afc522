"""Every kind of module that keeps running statistics is checked and repaired, whoever wrote it and however wrapped."""

import copy
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import trainvitals
from loops import batches, of_type, small_net, spooled
from trainvitals import wire


class Custom(nn.Module):
    """A class of the user's that merely has the buffers: `shapes` of mean and variance, None for one it lacks."""

    def __init__(self, mean: tuple[int, ...] | None, var: tuple[int, ...] | None, dtype: torch.dtype = torch.float32):
        super().__init__()
        for name, shape in (("running_mean", mean), ("running_var", var)):
            if shape is not None:
                value = torch.zeros(shape, dtype=dtype) if name == "running_mean" else torch.ones(shape, dtype=dtype)
                self.register_buffer(name, value)


class Subclass(nn.BatchNorm2d):
    """Of BatchNorm."""


def initialised_lazily() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that lazy modules are new
        lazy = nn.LazyBatchNorm2d()
    lazy(torch.rand(2, 4, 3, 3))
    lazy.reset_running_stats()
    return lazy


PAIRS: dict[str, Callable[[], nn.Module]] = {
    "BatchNorm1d": lambda: nn.BatchNorm1d(4),
    "BatchNorm2d": lambda: nn.BatchNorm2d(4),
    "BatchNorm3d": lambda: nn.BatchNorm3d(4),
    "SyncBatchNorm": lambda: nn.SyncBatchNorm(4),
    "InstanceNorm": lambda: nn.InstanceNorm2d(4, track_running_stats=True),
    "lazy": initialised_lazily,
    "subclass": lambda: Subclass(4),
    "custom": lambda: Custom((4,), (4,)),
    "custom [1, C, 1, 1]": lambda: Custom((1, 4, 1, 1), (1, 4, 1, 1)),
    "momentum None": lambda: nn.BatchNorm2d(4, momentum=None),
    "half": lambda: nn.BatchNorm2d(4).half(),
    "double": lambda: nn.BatchNorm2d(4).double(),
}
ODD: dict[str, Callable[[], nn.Module]] = {
    "only a mean": lambda: Custom((4,), None),
    "only a variance": lambda: Custom(None, (4,)),
    "different shapes": lambda: Custom((4,), ()),
    "complex": lambda: Custom((4,), (4,), torch.complex64),
}
each_kind = pytest.mark.parametrize("make", [*PAIRS.values(), *ODD.values()], ids=[*PAIRS, *ODD])


@each_kind
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_each_kind_of_module_is_checked_and_reset(make: Callable[[], nn.Module], value: float) -> None:
    """Every statistic it has, in place and in its own type."""
    model = nn.Sequential(make())
    buffers = dict(model[0].named_buffers())
    statistics = {name: buffer for name, buffer in buffers.items() if name in ("running_mean", "running_var")}
    healthy = {name: buffer.clone() for name, buffer in statistics.items()}
    for buffer in statistics.values():
        buffer.view(-1)[-1] = value
    report = trainvitals.check_model_health(model)
    assert [(issue.key, issue.count) for issue in report.issues] == [(f"0.{name}", 1) for name in statistics]
    assert trainvitals.sanitize_model_bn_stats(model, verbose=False) == len(statistics)
    assert trainvitals.check_model_health(model).is_healthy
    for name, buffer in model[0].named_buffers():
        assert buffer is buffers[name]
        assert name not in healthy or torch.equal(buffer, healthy[name])


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_a_statistic_without_a_partner_is_restored_too(
    make: Callable[[], nn.Module], capsys: pytest.CaptureFixture[str]
) -> None:
    """From a good state that has it."""
    model = nn.Sequential(make())
    good = copy.deepcopy(model)
    for name, buffer in model[0].named_buffers():
        good[0].get_buffer(name).fill_(3.0)
        buffer.view(-1)[0] = float("nan")
    count = trainvitals.sanitize_model_bn_stats(model, strategy="restore", good=good)
    assert count == len(list(model.buffers()))
    assert all(buffer.view(-1)[0] == 3.0 for buffer in model.buffers())
    assert capsys.readouterr().out.count("[SANITIZE] Restoring corrupted") == count


def test_what_keeps_no_statistics_is_passed_over() -> None:
    """Untracked, and lazy before its first input."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False), nn.InstanceNorm2d(4), nn.LazyBatchNorm2d())
    assert trainvitals.check_model_health(model).is_healthy
    assert trainvitals.check_model_health(model, check_weights=True).is_healthy
    assert trainvitals.sanitize_model_bn_stats(model) == 0


def test_a_shared_module_is_named_once() -> None:
    """By the first of its names."""
    norm = nn.BatchNorm1d(4)
    model = nn.ModuleDict({"a": norm, "b": norm})
    norm.running_mean[0] = float("nan")
    assert [issue.key for issue in trainvitals.check_model_health(model).issues] == ["a.running_mean"]
    assert trainvitals.sanitize_model_bn_stats(model, verbose=False) == 1


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    store = f"file://{tmp_path / 'group'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "DataParallel": nn.DataParallel,
    "DDP": nn.parallel.DistributedDataParallel,
    "compiled": lambda model: torch.compile(model, backend="eager"),
}


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_wrappers_leave_no_trace_in_names(wrap: Callable[[nn.Module], nn.Module]) -> None:
    """Statistics and weights, of the wrapped model as of its own."""
    model = wrap(small_net())
    inner = getattr(model, "module", None) or model._orig_mod
    inner[1].running_var[0] = -1.0
    with torch.no_grad():
        inner[0].bias[0] = float("nan")
    report = trainvitals.check_model_health(model, check_weights=True)
    assert [issue.key for issue in report.issues] == ["1.running_var", "0.bias"]
    assert trainvitals.sanitize_model_bn_stats(model, verbose=False) == 1


def test_an_averaged_copy_is_restored_from_the_live_model_and_the_other_way() -> None:
    """The prefix of the average does not matter."""
    live = small_net()
    live[1].running_mean.fill_(2.0)
    average = AveragedModel(live, use_buffers=True)
    average.module[1].running_mean[3] = float("nan")
    assert [issue.key for issue in trainvitals.check_model_health(average).issues] == ["module.1.running_mean"]
    assert trainvitals.sanitize_model_bn_stats(average, verbose=False, strategy="restore", good=live.state_dict()) == 1
    assert average.module[1].running_mean[3] == 2.0
    live[1].running_mean[3] = float("nan")
    checkpoint = {"model": average.state_dict(), "step": 3}
    assert trainvitals.sanitize_model_bn_stats(live, verbose=False, strategy="restore", good=checkpoint) == 1
    assert live[1].running_mean[3] == 2.0


def test_a_meta_tensor_is_refused_clearly() -> None:
    """It has no values, so it is neither healthy nor repairable."""
    model = nn.Sequential(nn.BatchNorm1d(4)).to("meta")
    for call in (trainvitals.check_model_health, trainvitals.sanitize_model_bn_stats):
        with pytest.raises(trainvitals.UnsupportedTensorError, match=r"0\.running_\w+: expected .* on the meta device"):
            call(model)


def test_a_quantised_tensor_is_refused_clearly() -> None:
    """Where it is asked about; quantised weights do not hinder a look at the statistics."""
    model = nn.Sequential(nn.BatchNorm1d(4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates eager quantisation
        quantised = torch.quantize_per_tensor(torch.rand(4), 0.1, 0, torch.qint8)
    model.register_buffer("packed", quantised)
    assert trainvitals.check_model_health(model).is_healthy
    with pytest.raises(trainvitals.UnsupportedTensorError, match=r"packed: expected a floating-point tensor, got a qu"):
        trainvitals.check_model_health(model, check_weights=True)
    model[0].running_mean = quantised
    with pytest.raises(trainvitals.UnsupportedTensorError, match=r"0\.running_mean"):
        trainvitals.check_model_health(model)
    with pytest.raises(trainvitals.UnsupportedTensorError, match=r"0\.running_mean"):
        trainvitals.sanitize_model_bn_stats(model)


def test_kinds_are_counted_apart() -> None:
    """The worst names the issue."""
    model = nn.Sequential(nn.BatchNorm1d(6))
    model[0].running_var[:5] = torch.tensor([float("nan"), float("inf"), float("-inf"), -1.0, float("inf")])
    (issue,) = trainvitals.check_model_health(model).issues
    assert (issue.kind, issue.count, issue.first) == ("nan", 5, (0,))
    assert issue.kinds == {"nan": 1, "+inf": 2, "-inf": 1, "negative variance": 1}


def test_the_report_says_what_is_fixable_and_what_is_more_serious() -> None:
    """As the user's own tool does."""
    model = small_net()
    assert str(trainvitals.check_model_health(model)) == "Model health: OK"
    model[1].running_mean[0] = float("nan")
    with torch.no_grad():
        model[0].bias[1] = float("inf")
    assert str(trainvitals.check_model_health(model, check_weights=True)).splitlines() == [
        "1 corrupted statistics: fixable, training can continue",
        "  - 1.running_mean: 1 of 8 nan, first at index [0]",
        "1 corrupted weights: more serious: no repair of statistics brings them back",
        "  - 0.bias: 1 of 8 inf, first at index [1]",
    ]


def test_lists_in_an_optimizers_state_are_looked_into() -> None:
    """LBFGS keeps its history so."""
    model = nn.Sequential(nn.Linear(2, 1))
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
    x = torch.rand(8, 2)

    def closure() -> float:
        optimizer.zero_grad()
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        loss.backward()
        return float(loss.detach())

    optimizer.step(closure)
    assert trainvitals.check_model_health(model, optimizer=optimizer).is_healthy
    optimizer.state[model[0].weight]["old_dirs"][0][0] = float("nan")
    (issue,) = trainvitals.check_model_health(model, optimizer=optimizer).issues
    assert issue.key.startswith("optimizer.0.weight.old_dirs")
    assert issue.group == "optimizer"


def test_watch_takes_odd_kinds_in_its_stride(tmp_path: Path) -> None:
    """Pairs of any shape are measured and repaired in the loop; singles hinder nobody."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = small_net()
            self.wide = Custom((1, 4, 1, 1), (1, 4, 1, 1))
            self.single = Custom((4,), None)
            self.complex = Custom((4,), (4,), torch.complex64)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.net(x)
            return y

    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)
    watch = trainvitals.watch(model, optimizer, mode="offline", directory=tmp_path)
    model.wide.running_mean.fill_(5.0)
    for i, x in enumerate(batches(4)):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        if i == 2:
            model.wide.running_mean[0, 1] = float("inf")
        watch.step()
    watch.close()
    assert model.wide.running_mean.flatten().tolist() == [5.0] * 4
    assert watch.spool_path is not None
    records = spooled(watch.spool_path)
    assert not of_type(records, wire.ProbeFault)
    (repair,) = (repair for one in of_type(records, wire.Sanitized) for repair in one.repairs)
    assert (repair.layer, repair.strategy, repair.channels) == ("wide", "restore", 1)
