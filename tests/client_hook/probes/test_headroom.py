"""Which layers are sampled when, and what a sample says."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from trainvitals.probes.guard import Guard
from trainvitals.probes.headroom import Headroom
from trainvitals.record.columns import Columns, Register


class Line:
    """Ten convolutions side by side, each with an input of its own."""

    def __init__(self, count: int = 10) -> None:
        self.layers = [nn.Conv1d(1, 1, 1) for _ in range(count)]
        guard = Guard(lambda probe, text, disabled: None)
        named = [(str(i), layer) for i, layer in enumerate(self.layers)]
        self.probe = Headroom(named, Columns(Register()), guard)

    def step(self, count: int, inputs: list[float]) -> dict[int, float]:
        """What step number `count` sampled, by layer."""
        self.probe.arm(count)
        with torch.autocast("cpu", dtype=torch.float16):
            for layer, size in zip(self.layers, inputs, strict=True):
                layer(torch.full((1, 1, 2), size))
        sampled = {}
        parts = self.probe.collect()
        assert not any(layer._forward_pre_hooks for layer in self.layers)
        for part in parts:
            places = [self.probe.columns.tolist().index(column) for column in np.array(part.columns).tolist()]
            sampled |= dict(zip(places, part.values.tolist(), strict=True))
        for place, value in sampled.items():
            self.probe.note(place, value)
        return sampled


@pytest.fixture
def line() -> Iterator[Line]:
    """A line of layers that holds no hook afterwards."""
    made = Line()
    yield made
    made.probe.detach()
    assert not any(layer._forward_pre_hooks for layer in made.layers)


def test_a_calm_run_samples_all_now_and_then_and_the_lowest_more_often(line: Line) -> None:
    """Every 20 steps all of them, every 5 the four with the least headroom, and nothing else."""
    inputs = [float(i + 1) for i in range(10)]
    sampled = [sorted(line.step(count, inputs)) for count in range(41)]
    assert {count: places for count, places in enumerate(sampled) if places} == {
        count: list(range(10)) if count % 20 == 0 else [6, 7, 8, 9] for count in range(0, 41, 5)
    }


def test_a_layer_that_falls_is_sampled_in_every_step_while_it_does(line: Line) -> None:
    """From the first sample at half the headroom of the one before."""
    calm, sampled = [1.0] * 9, list[list[int]]()
    for count in range(60):
        ramp = 20.0 * 2 ** (max(0, min(count, 35) - 10) / 4)
        sampled.append(sorted(line.step(count, [*calm, ramp])))
    assert all(9 in places for places in sampled[20:40])
    assert [count for count in range(41, 60) if 9 in sampled[count]] == [45, 50, 55]


def test_at_most_four_layers_are_sampled_between_two_rounds(line: Line) -> None:
    """However many fall."""
    for count in range(40):
        sampled = line.step(count, [20.0 * (i + 1) * (1 + count) for i in range(10)])
        assert len(sampled) in ((10,) if count % 20 == 0 else (0, 4))


def test_the_least_of_several_calls_counts(line: Line) -> None:
    """Either sign, after the cast: what fp16 cannot hold leaves no headroom."""
    line.probe.arm(0)
    with torch.autocast("cpu", dtype=torch.float16):
        line.layers[0](torch.tensor([[[1.0, -32.0]]]))
        line.layers[0](torch.tensor([[[16.0, 2.0]]]))
        line.layers[1](torch.tensor([[[-70000.0, 2.0]]]))
    (part,) = line.probe.collect()
    assert part.values.tolist() == [65504 / 32, 0.0]


def test_a_layer_that_was_not_called_keeps_its_hook_until_it_is(line: Line) -> None:
    """It may have been compiled since; it is left alone until it runs where hooks are heard."""
    line.probe.arm(0)
    assert line.probe.collect() == []
    kept = [[*layer._forward_pre_hooks] for layer in line.layers]
    assert all(len(hooks) == 1 for hooks in kept)
    line.probe.arm(20)
    assert [[*layer._forward_pre_hooks] for layer in line.layers] == kept
    assert line.step(21, [1.0] * 10) == {}
    assert len(line.step(40, [1.0] * 10)) == 10


def test_where_steps_are_thinned_the_turns_come_with_the_next_observed_one(line: Line) -> None:
    """Every eighth step is observed: all layers after each multiple of 20, a few after each of 5."""
    sampled = {count: len(line.step(count, [1.0] * 10)) for count in range(0, 65, 8)}
    assert [count for count, layers in sampled.items() if layers == 10] == [0, 24, 40, 64]
    assert {layers for count, layers in sampled.items() if layers != 10} == {4}
