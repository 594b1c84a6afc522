"""Where the culprit is known by construction, it is named exactly."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import trainvitals
from loops import of_type, spooled
from origin import follow, is_exact
from plants import BAD, STEPS, Plant, plants, train
from trainvitals import wire

NAMES = [plant.name for plant in plants()]


def made(name: str) -> Plant:
    """A fresh plant."""
    return next(plant for plant in plants() if plant.name == name)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_planted_is_named(name: str, tmp_path: Path) -> None:
    """Step, place and layer."""
    plant = made(name)
    origin = follow(plant, str(tmp_path))
    assert is_exact(plant, origin), origin


@pytest.mark.parametrize("name", ["FFT overflow", "half-precision variance", "code between two parts"])
def test_an_origin_carries_its_evidence(name: str, tmp_path: Path) -> None:
    """Precision, channels, the largest input, the fate of the step, headroom of the steps before."""
    plant = made(name)
    watch = train(plant, lambda *a, **k: trainvitals.watch(*a, directory=tmp_path, **k))
    records = spooled(watch.spool_path)
    origin = of_type(records, wire.Culprit)[0]
    bad = [event for event in of_type(records, wire.NonFinite) if event.step == BAD]
    assert origin.skipped == any(event.skipped for event in bad) == plant.half
    assert origin.precision == ("float32" if name == "code between two parts" else "float16")
    assert origin.amax is not None
    assert 0 < origin.count <= origin.total == 4
    if plant.half:
        assert origin.headroom[0].step == 0
        assert all(room.step < BAD for room in origin.headroom)
        assert origin.headroom[0].value > 8
    if name != "code between two parts":
        assert origin.norm == ("1" if name == "half-precision variance" else "2")
        assert len(origin.batch_mean) == len(origin.batch_var) == 2
    assert origin.before == ("1.second" if name == "code between two parts" else "")


def test_a_healthy_training_has_no_origin(tmp_path: Path) -> None:
    """Nothing is replayed where nothing broke."""
    plant = Plant("healthy", made("bad input batch").model, "")
    torch.manual_seed(0)
    assert follow(plant, str(tmp_path)) is None
    assert STEPS > BAD


class Unwatched:
    """Stands for a watch that is not there."""

    def step(self, **_: Any) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def state_of(plant: Plant) -> dict[str, torch.Tensor]:
    """All that training has changed."""
    optimizer = plant.optimizer.state_dict()["state"] if plant.optimizer else {}
    return {**plant.model.state_dict(), "generator": torch.get_rng_state(), **optimizer}


@pytest.mark.parametrize("name", NAMES)
def test_a_replay_changes_nothing(name: str, tmp_path: Path) -> None:
    """Weights, buffers and random numbers after a break are bit for bit those of an unwatched twin."""
    alone, watched = made(name), made(name)
    train(alone, lambda *a, **k: Unwatched())
    expected = state_of(alone)
    watch = train(watched, partial(trainvitals.watch, directory=tmp_path, auto_sanitize="off"))
    assert of_type(spooled(watch.spool_path), wire.Culprit)
    found = state_of(watched)
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert torch.equal(found[key].nan_to_num(7.0), value.nan_to_num(7.0)), key
