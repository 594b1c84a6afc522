"""The failing batch is kept for the post-mortem, within bounds."""

import stat
from functools import partial
from pathlib import Path

import pytest
import torch

import trainvitals
from loops import of_type, spooled
from plants import BAD, plants, train
from trainvitals import wire
from trainvitals.origin import batches


def origin_of(tmp_path: Path, **settings: object) -> wire.Culprit:
    """The origin of a run with a bad input batch."""
    plant = next(plant for plant in plants() if plant.name == "bad input batch")
    watch = train(plant, partial(trainvitals.watch, directory=tmp_path, **settings))  # type: ignore[arg-type]
    return of_type(spooled(watch.spool_path), wire.Culprit)[0]


def test_the_batch_is_kept_beside_the_spool(tmp_path: Path) -> None:
    """As it went in, readable without running any code, for nobody else's eyes."""
    origin = origin_of(tmp_path)
    kept = torch.load(origin.batch, weights_only=True)
    assert kept["step"] == BAD
    assert torch.isnan(kept["args"][0]).sum() == 1
    assert stat.S_IMODE(Path(origin.batch).stat().st_mode) == 0o600
    assert not list(tmp_path.rglob("*.part"))


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    """`keep_batches=False`: the origin is told all the same."""
    origin = origin_of(tmp_path, keep_batches=False)
    assert (origin.place, origin.batch) == ("input", "")
    assert not list(tmp_path.rglob("batch-*"))


def test_a_batch_over_the_cap_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk of the trainer is not filled."""
    monkeypatch.setattr(batches, "CAP_BYTES", 1000)
    assert origin_of(tmp_path).batch == ""


def test_a_disk_that_refuses_costs_only_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said in one line."""

    def full(state: object, path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(batches.torch, "save", full)
    assert origin_of(tmp_path).place == "input"
    assert "could not be kept" in caplog.text
    assert not list(tmp_path.rglob("batch-*"))
