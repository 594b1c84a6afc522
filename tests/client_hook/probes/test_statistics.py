"""What two readings in a row tell of the batches between them, beside batch statistics computed directly."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from trainvitals import wire
from trainvitals.layers import named_norms
from trainvitals.probes import statistics as probe
from trainvitals.probes.ranges import DeviceRanges
from trainvitals.probes.statistics import Statistics
from trainvitals.record.columns import Columns, Register

SETTLED = 60  # updates, enough at momentum 0.1
NAN, INF = float("nan"), float("inf")


class Bench:
    """Layers, what is read of them, and the batches they saw."""

    def __init__(self, *layers: nn.Module) -> None:
        self.model = nn.ModuleList(layers)
        self.columns = Columns(Register())
        self.statistics = Statistics(list(named_norms({"": self.model})), self.columns)
        self._generator = torch.Generator().manual_seed(0)

    def batch(self, channels: int = 4, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
        """Random, [8, channels, 3, 3]."""
        return torch.randn(8, channels, 3, 3, generator=self._generator) * scale + shift

    def read(self) -> dict[tuple[str, str], float]:
        """What is present, by layer and statistic."""
        keys, found = self.columns.series_keys(), dict[tuple[str, str], float]()
        for part in self.statistics.read()[0]:
            places = np.arange(len(keys))[part.columns]
            found |= {(keys[i][0], keys[i][2]): v for i, v in zip(places, part.values.tolist(), strict=True)}
        return found

    def shift(self, layer: str = "0") -> float | None:
        """The batch shift of a layer, None where it is absent."""
        return self.read().get((layer, wire.BATCH_SHIFT))

    def settle(self, steps: int = SETTLED) -> None:
        """As many steps of one update each."""
        for _ in range(steps):
            self.step()

    def step(self) -> dict[tuple[str, str], float]:
        """One update of each layer, and a reading."""
        for layer in self.model:
            layer(self.batch().to(next(layer.buffers()).dtype))
        return self.read()


@pytest.fixture(params=["host", "device"], autouse=True)
def reductions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything holds of the kernels for other devices too, here run on the CPU."""
    if request.param == "device":
        monkeypatch.setattr(probe, "ranges_on", lambda device, *layers: DeviceRanges(*layers))


def expected(batches: list[torch.Tensor], weights: list[float], mean: torch.Tensor, var: torch.Tensor) -> float:
    """The shift, from the batches themselves; statistics as they were before them."""
    means = torch.stack([batch.double().mean((0, 2, 3)) for batch in batches])
    weighted = (means * torch.tensor(weights).double()[:, None]).sum(0) / sum(weights)
    return float(((weighted - mean.double()).abs() / (var.double() + 1e-5).sqrt()).max())


@pytest.mark.parametrize("momentum", [0.1, 0.01, None])
def test_the_shift_is_that_of_the_batch(momentum: float | None) -> None:
    """At each usual momentum, and for the cumulative average."""
    bench = Bench(nn.BatchNorm2d(4, momentum=momentum))
    bench.settle(510 if momentum == 0.01 else SETTLED)
    layer: Any = bench.model[0]
    before = layer.running_mean.clone(), layer.running_var.clone()
    batch = bench.batch(shift=3.0)
    layer(batch)
    assert bench.shift() == pytest.approx(expected([batch], [1.0], *before), rel=2e-3)
    (low, high), (var_low, var_high) = bench.statistics.batch_range("0") or ((NAN, NAN), (NAN, NAN))
    mean, var = batch.mean((0, 2, 3)), batch.var((0, 2, 3))
    assert (low, high) == pytest.approx((float(mean.min()), float(mean.max())), rel=2e-3)
    assert (var_low, var_high) == pytest.approx((float(var.min()), float(var.max())), rel=2e-2)


def test_of_several_batches_it_is_the_weighted_mean() -> None:
    """The newest counts most, as in the running mean."""
    bench = Bench(nn.BatchNorm2d(4))
    bench.settle()
    layer: Any = bench.model[0]
    before = layer.running_mean.clone(), layer.running_var.clone()
    batches = [bench.batch(shift=2.0), bench.batch(shift=-1.0), bench.batch(shift=4.0)]
    for batch in batches:
        layer(batch)
    assert bench.shift() == pytest.approx(expected(batches, [0.81, 0.9, 1.0], *before), rel=1e-3)


def test_activation_checkpointing_changes_nothing() -> None:
    """The same batch goes in twice."""
    bench = Bench(nn.BatchNorm2d(4))
    layer: Any = bench.model[0]
    for _ in range(SETTLED):
        checkpoint(layer, bench.batch().requires_grad_(), use_reentrant=False).sum().backward()
        bench.read()
    before = layer.running_mean.clone(), layer.running_var.clone()
    batch = bench.batch(shift=3.0)
    checkpoint(layer, batch.clone().requires_grad_(), use_reentrant=False).sum().backward()
    assert bench.shift() == pytest.approx(expected([batch], [1.0], *before), rel=1e-3)


def test_a_layer_is_silent_until_it_has_settled() -> None:
    """After max(50, 5 / momentum) updates; one that is frozen stays silent."""
    bench = Bench(nn.BatchNorm2d(4), nn.BatchNorm2d(4, momentum=0.05), nn.BatchNorm2d(4).eval())
    seen = [{name for name, stat in bench.step() if stat == wire.BATCH_SHIFT} for _ in range(102)]
    assert [len(names) for names in seen] == [0] * 50 + [1] * 50 + [2] * 2
    assert seen[-1] == {"0", "1"}


def test_no_update_is_no_shift() -> None:
    """Absent, not 0: there was no batch."""
    bench = Bench(nn.BatchNorm2d(4))
    bench.settle()
    assert bench.shift() is None
    assert bench.statistics.batch_range("0") is None


WRITES: dict[str, Callable[[Any], object]] = {
    "a repair of one channel": lambda layer: layer.running_mean[0].fill_(50.0),
    "a reset": lambda layer: layer.reset_running_stats(),
    "a load": lambda layer: layer.load_state_dict({k: v + 1 for k, v in layer.state_dict().items()}),
    "a load by binding": lambda layer: layer.load_state_dict(nn.BatchNorm2d(4).state_dict(), assign=True),
    "a change of momentum": lambda layer: setattr(layer, "momentum", 0.2),
    "a conversion": lambda layer: layer.double(),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=list(WRITES))
@pytest.mark.parametrize("momentum", [0.1, None])
def test_what_was_written_is_no_batch(write: Callable[[Any], object], momentum: float | None) -> None:
    """Whoever wrote: the layer settles again, the others go on, and what follows is exact."""
    bench = Bench(nn.BatchNorm2d(4, momentum=momentum), nn.BatchNorm2d(4))
    bench.settle()
    layer: Any = bench.model[0]
    write(layer)
    after = bench.step()
    assert ("0", wire.BATCH_SHIFT) not in after
    assert ("1", wire.BATCH_SHIFT) in after
    assert bench.statistics.batch_range("0") is None
    silent = [("0", wire.BATCH_SHIFT) not in bench.step() for _ in range(60)]
    assert silent.index(False) in (49, 50)
    before = layer.running_mean.clone(), layer.running_var.clone()
    batch = bench.batch(shift=3.0).to(layer.running_mean.dtype)
    layer(batch)
    assert bench.shift() == pytest.approx(expected([batch], [1.0], *before), rel=1e-3)


def test_an_instance_norm_counts_its_updates_another_way() -> None:
    """It never touches its counter; a repair, which looks like an update there, has to be told."""
    bench = Bench(nn.InstanceNorm2d(4, track_running_stats=True))
    bench.settle()
    layer: Any = bench.model[0]
    before = layer.running_mean.clone(), layer.running_var.clone()
    batch = bench.batch(shift=3.0)
    layer(batch)
    assert bench.shift() == pytest.approx(expected([batch], [1.0], *before), rel=1e-3)
    layer.running_mean.fill_(9.0)
    bench.statistics.forget(["0"])
    assert ("0", wire.BATCH_SHIFT) not in bench.step()


def test_a_class_of_the_users_is_read_but_not_inverted() -> None:
    """Nobody knows how it updates its averages."""

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("running_mean", torch.zeros(2, 2))
            self.register_buffer("running_var", torch.ones(2, 2))

    bench = Bench(Own(), nn.BatchNorm2d(4))
    found = {stat for layer, stat in bench.read() if layer == "0"}
    assert found == set(wire.NORM_STATS)
    assert ("0", wire.NORM, wire.BATCH_SHIFT) not in bench.columns


def test_a_non_finite_channel_withholds_its_layer() -> None:
    """There is nothing to compare."""
    bench = Bench(nn.BatchNorm2d(4), nn.BatchNorm2d(4))
    bench.settle()
    bench.model[0](bench.batch() * INF)
    bench.model[1](bench.batch())
    found = bench.read()
    assert ("0", wire.BATCH_SHIFT) not in found
    assert np.isfinite(found["1", wire.BATCH_SHIFT])
    assert found["0", wire.NONFINITE_CHANNELS] == 4
    batch = bench.statistics.batch_range("0")
    assert batch is not None
    assert not np.isfinite(batch[0]).any()


def test_counts_are_of_channels() -> None:
    """Non-finite in either statistic, and negative variances."""
    bench = Bench(nn.BatchNorm2d(4), nn.BatchNorm2d(4))
    first: Any = bench.model[0]
    first.running_mean[1], first.running_var[1], first.running_var[2], first.running_var[3] = NAN, INF, INF, -1.0
    found = bench.read()
    assert (found["0", wire.NONFINITE_CHANNELS], found["0", wire.NEGATIVE_CHANNELS]) == (2, 1)
    assert (found["1", wire.NONFINITE_CHANNELS], found["1", wire.NEGATIVE_CHANNELS]) == (0, 0)
    assert np.isnan(found["0", wire.MEAN_MAX])
    assert found["0", wire.VAR_MAX] == INF
    assert found["0", wire.VAR_MIN] == -1


def test_the_room_of_a_variance_is_told_of_fp16_alone() -> None:
    """65504 / the largest variance; absent once the layer is held in another precision."""
    bench = Bench(nn.BatchNorm2d(4).half(), nn.BatchNorm2d(4).bfloat16(), nn.BatchNorm2d(4))
    half: Any = bench.model[0]
    half.running_var.copy_(torch.tensor([1.0, 16376.0, 2.0, 0.5]))
    found = bench.read()
    assert found["0", wire.VAR_ROOM] == pytest.approx(65504 / 16376)
    assert [layer for layer, stat in found if stat == wire.VAR_ROOM] == ["0"]
    half.float()
    assert ("0", wire.VAR_ROOM) not in bench.read()


def test_rounding_in_half_precision_is_no_shift() -> None:
    """A running mean of 1000 at std 1 moves by whole units there, and one unit over a momentum of 0.01 is 100."""
    bench = Bench(nn.BatchNorm2d(4, momentum=0.01).half())
    layer: Any = bench.model[0]
    layer.running_mean.fill_(1000.0)
    shifts = []
    for _ in range(540):
        layer(bench.batch(shift=1000.3, scale=1.0).half())
        shifts.append(bench.shift())
    assert max(shift for shift in shifts if shift is not None) < 10


def test_a_mean_beyond_all_bounds_is_still_a_number() -> None:
    """Its square is none in float32."""
    bench = Bench(nn.BatchNorm2d(4))
    bench.settle()
    bench.model[0](bench.batch() + 1e21)
    assert bench.shift() == np.finfo(np.float32).max


def test_a_compiled_layer_counts_by_its_own_counter() -> None:
    """There both versions rise, by one backend twice per update."""
    bench = Bench(nn.BatchNorm2d(4))
    layer: Any = bench.model[0]
    compiled = torch.compile(layer, backend="aot_eager")
    for _ in range(SETTLED):
        compiled(bench.batch())
        bench.read()
    before = layer.running_mean.clone(), layer.running_var.clone()
    batch = bench.batch(shift=3.0)
    compiled(batch)
    assert bench.shift() == pytest.approx(expected([batch], [1.0], *before), rel=1e-3)
    layer.load_state_dict({name: value + 1 for name, value in layer.state_dict().items()})
    bench.statistics.forget(["0"])
    compiled(bench.batch())
    assert bench.shift() is None
