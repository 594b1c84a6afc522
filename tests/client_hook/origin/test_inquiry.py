"""When a batch is replayed, and when it is not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import trainvitals
from loops import batches, of_type, small_net, spooled, train_fp16, train_fp32
from trainvitals import wire
from trainvitals.origin import inquiry
from trainvitals.origin.replay import can_replay


def origins(watch: Any) -> list[wire.Culprit]:
    """Those told in a run."""
    watch.close()
    return of_type(spooled(watch.spool_path), wire.Culprit)


def spoiled(count: int, bad: set[int]) -> Iterator[torch.Tensor]:
    """Batches, some of them with a NaN."""
    for i, batch in enumerate(batches(count)):
        if i in bad:
            batch[0, 0, 0, 0] = float("nan")
        yield batch


def test_a_break_that_stays_is_asked_once(tmp_path: Path) -> None:
    """Weights that are NaN break every step; one origin tells it."""
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    watch = trainvitals.watch(model, optimizer, mode="offline", directory=tmp_path, auto_sanitize="off")
    train_fp32(model, optimizer, spoiled(40, {5}), lambda step, loss: watch.step(loss=loss))
    assert [(origin.step, origin.place) for origin in origins(watch)] == [(5, "input")]


def test_statistics_that_break_again_are_asked_again_but_not_for_ever(tmp_path: Path) -> None:
    """Each repaired break has an origin of its own, up to a number."""
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    watch = trainvitals.watch(model, optimizer, scaler=scaler, mode="offline", directory=tmp_path)
    train_fp16(model, optimizer, scaler, batches(40, bad=tuple(range(4, 40, 3))), lambda step, loss: watch.step())
    told = origins(watch)
    assert [origin.step for origin in told] == [4 + 3 * i for i in range(inquiry.REPLAYS)]
    assert {(origin.place, origin.layer) for origin in told} == {("module", "0")}


def test_a_falling_loss_scale_is_looked_into_a_few_times_only(tmp_path: Path) -> None:
    """Gradients that overflow because of the scale are a scaler's daily work."""
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=10_000)
    watch = trainvitals.watch(model, optimizer, scaler=scaler, mode="offline", directory=tmp_path)
    watch._vitals.inquiry._routine = 1

    def after(step: int, loss: torch.Tensor) -> None:
        watch.step(loss=loss)
        scaler._scale.fill_(2.0**38 if step in (3, 110) else 256.0)  # type: ignore[union-attr]

    train_fp16(model, optimizer, scaler, batches(115), after)
    assert [(origin.step, origin.place, origin.skipped) for origin in origins(watch)] == [(4, "loss_scale", True)]


def test_an_input_that_was_changed_cannot_be_replayed(tmp_path: Path) -> None:
    """What it was is gone, and nobody pretends to know."""

    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small_net()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x.mul_(1.0))

    model = InPlace()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    watch = trainvitals.watch(model, optimizer, mode="offline", directory=tmp_path, auto_sanitize="off")
    train_fp32(model, optimizer, spoiled(8, {5}), lambda step, loss: watch.step(loss=loss))
    (origin,) = origins(watch)
    assert (origin.step, origin.place, origin.layer) == (5, "unknown", "")
    assert "inner.0.weight" in origin.candidates


def test_a_model_that_raises_in_the_replay_is_judged_by_what_was_seen(tmp_path: Path) -> None:
    """A user's own check for NaN ends the forward; the module before it is named all the same."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    watch = trainvitals.watch(model, optimizer, mode="offline", directory=tmp_path)

    class Check(nn.Module):
        armed = False

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.armed and not bool(torch.isfinite(x).all()):
                raise FloatingPointError("NaN")
            return x

    check = Check()
    model.insert(1, check)
    x = torch.rand(3, 4)
    for step in range(4):
        if step == 2:
            x = torch.full((3, 4), 3e38)
            nn.init.ones_(model[0].weight)
        loss = model(x).square().mean()
        check.armed = True
        optimizer.zero_grad()
        loss.backward()
        check.armed = step == 2
        optimizer.step()
        check.armed = False
        watch.step(loss=loss)
    found = [(origin.step, origin.place, origin.layer) for origin in origins(watch)]
    assert found == [(2, "module", "0")]


def test_a_probe_that_fails_costs_only_the_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradients' event is there, the fault is reported."""

    def broken(*_: Any) -> None:
        raise RuntimeError("no replay today")

    monkeypatch.setattr(inquiry, "replay", broken)
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    watch = trainvitals.watch(model, optimizer, mode="offline", directory=tmp_path, auto_sanitize="off")
    train_fp32(model, optimizer, spoiled(8, {5}), lambda step, loss: watch.step(loss=loss))
    (origin,) = origins(watch)
    records = spooled(watch.spool_path)
    assert origin.place == "unknown"
    assert [(fault.probe, fault.error) for fault in of_type(records, wire.ProbeFault)] == [
        ("origin", "RuntimeError: no replay today")
    ]


def test_sharded_parameters_are_not_replayed() -> None:
    """A forward of theirs talks to the other ranks."""
    model = small_net()
    watch_like = inquiry.Forwards({"": model})
    watch_like.on_call(model, (torch.rand(1, 3, 8, 8),), {})
    (forward,) = watch_like.newest()
    assert can_replay(forward)
    model[0].weight.placements = ()  # type: ignore[assignment]  # as a DTensor has them
    assert not can_replay(forward)


def test_no_batch_is_held_longer_than_a_step(tmp_path: Path) -> None:
    """After a step only its own batch is referred to, and after the close none."""
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    watch = trainvitals.watch(model, optimizer, mode="offline", directory=tmp_path)
    import weakref

    alive: list[weakref.ref[torch.Tensor]] = []
    for x in batches(5):
        alive.append(weakref.ref(x))
        loss = (model(x) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watch.step(loss=loss)
        del x, loss
    assert sum(ref() is not None for ref in alive) <= 1
    watch.close()
    assert not any(ref() is not None for ref in alive)


class Momentum(nn.Module):
    """Moves a second encoder in its own forward, as MoCo does."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(4, 4), nn.Linear(4, 4)
        for parameter in self.key.parameters():
            parameter.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            for mine, theirs in zip(self.key.parameters(), self.query.parameters(), strict=True):
                mine.data = mine.data * 0.9 + theirs.data * 0.1
        return self.query(x) - self.key(x)


@pytest.mark.parametrize("replay", [True, False])
def test_a_forward_that_moves_an_average_moves_it_once(replay: bool, tmp_path: Path) -> None:
    """The replay works on copies of what is not trained; switched off, it does not take place."""
    found = []
    for watched in (False, True):
        torch.manual_seed(0)
        model = Momentum()
        optimizer = torch.optim.SGD(model.parameters(), 1e-2)
        watch = trainvitals.watch(
            model, optimizer, mode="offline" if watched else "disabled", directory=tmp_path, replay=replay
        )
        for step in range(6):
            x = torch.rand(3, 4) if step != 4 else torch.full((3, 4), float("inf"))
            optimizer.zero_grad()
            model(x).square().mean().backward()
            if step == 4:
                optimizer.zero_grad()  # the user's own guard
            optimizer.step()
        watch.close()
        found.append([parameter.clone() for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    told = of_type(spooled(watch.spool_path), wire.Culprit)
    assert [origin.place for origin in told] == (["input"] if replay else [])
