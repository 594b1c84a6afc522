"""A fault in any part of the hook: training does not notice, the part is disabled, counted and reported, the others go
on."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import trainvitals
from loops import of_type
from recorded import faults, records_of, series
from training_loops import Made, everything, net, scaled, scaled_gan, scaled_gan_pair, scaled_step, seed_all
from trainvitals import wire
from trainvitals.probes.guard import LIMIT, TOLD, Guard

STEPS = 24
Breaker = Callable[[Callable[[], Any]], Callable[[], Any]]
VITAL = {"step"}  # what carries all others


def train(made: Made, watch: trainvitals.Watch | None, folder: Path) -> None:
    """Everything the hook does happens in it: overflows, repairs, health checks, validations, loads, a save, a step
    number that goes back."""
    seed_all()
    for i in range(STEPS):
        scaled_step(made, i)
        if i % 8 == 7:
            state = made.model.state_dict()
            made.model.load_state_dict(state)
        if watch is None or i < 2:
            continue
        watch.step(i if i < 20 else i - 6, loss=torch.tensor(1.0), output=[torch.ones(2)], accuracy=0.5)
        if i % 6 == 5:
            with watch.validation() as val, val.batch() as batch:
                batch.loss = 1.0


def make() -> Made:
    return scaled(torch.optim.Adam, lr=1e-3)()


def watched(made: Made) -> trainvitals.Watch:
    return trainvitals.watch(made.model, made.optimizer, scaler=made.scaler, mode="offline", health_every=4)


def outcome(made: Made) -> dict[str, Any]:
    """All of training but the statistics, which the hook repairs or, if it is broken, does not."""
    return {key: value for key, value in everything(made).items() if "running" not in key}


def run_with(monkeypatch: pytest.MonkeyPatch, change: Callable[[str, Callable[[], Any]], Callable[[], Any]]) -> None:
    """Every call that the guard makes is passed through `change`."""
    run = Guard.run

    def changed(self: Guard, probe: str, call: Callable[[], Any], default: Any) -> Any:
        return run(self, probe, change(probe, call), default)

    monkeypatch.setattr(Guard, "run", changed)


PARTS = [
    "backward",
    "clipping",
    "commands",
    "gradient findings",
    "gradients",
    "headroom",
    "headroom findings",
    "loss",
    "metric accuracy",
    "notes",
    "origin",
    "output",
    "producer",
    "progress",
    "repair",
    "result findings",
    "scaler",
    "snapshots",
    "statistics",
    "statistics findings",
    "step",
    "step number",
    "transfer",
    "validation",
    "weight findings",
    "weights",
]


def test_the_list_of_parts_is_complete(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A part that is added has to be tried here too."""
    seen: Counter[str] = Counter()

    def count(probe: str, call: Callable[[], Any]) -> Callable[[], Any]:
        seen[probe] += 1
        return call

    run_with(monkeypatch, count)
    made = make()
    watch = watched(made)
    train(made, watch, tmp_path)
    assert faults(records_of(watch)) == []
    assert sorted(seen) == PARTS


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_raises_every_time(part: str, when: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before it has done anything, or after all of it: bitwise the same training, a few reports, and it is disabled."""
    alone = make()
    train(alone, None, tmp_path)

    def broken(probe: str, call: Callable[[], Any]) -> Callable[[], Any]:
        def fail() -> Any:
            if when == "after":
                call()
            raise RuntimeError("no such luck")

        return fail if probe == part else call

    run_with(monkeypatch, broken)
    made = make()
    watch = watched(made)
    folder = watch.spool_path
    train(made, watch, tmp_path)
    assert outcome(made) == outcome(alone)
    records = records_of(watch)
    count = watch._guard.faults()[part]
    assert set(watch._guard.faults()) == {part}
    assert 1 <= count <= LIMIT
    assert folder is not None
    if watch.spool_path == folder:  # else the first reports are with the producer before
        told = of_type(records, wire.ProbeFault)
        assert [(fault.probe, fault.error) for fault in told] == [(part, "RuntimeError: no such luck")] * count
        assert [fault.disabled for fault in told] == [i == LIMIT - 1 for i in range(count)]
    if part not in VITAL:
        frames = of_type(records, wire.Frame)
        assert frames[-1].step in (STEPS - 1, STEPS - 7)
        assert of_type(records, wire.Lifecycle)[-1].state == "finished"


def test_a_part_that_fails_now_and_then_is_not_told_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is never disabled, since it never fails often enough in a row; the reports become rare, the count goes on."""
    calls = Counter[str]()

    def sometimes(probe: str, call: Callable[[], Any]) -> Callable[[], Any]:
        def fail() -> Any:
            raise RuntimeError("one of two")

        calls[probe] += 1
        return fail if probe == "progress" and calls[probe] % 2 else call

    run_with(monkeypatch, sometimes)
    made = make()
    watch = watched(made)
    for _ in range(200):
        scaled_step(made, 0)
    records = records_of(watch)
    told = of_type(records, wire.ProbeFault)
    assert watch._guard.faults() == {"progress": 100}
    assert len(told) == TOLD + 3  # and the 16th, 32nd, 64th
    assert told[-1].error == "RuntimeError: one of two (64 faults so far)"
    assert not any(fault.disabled for fault in told)
    assert caplog.text.count("probe progress failed") == len(told)
    assert len(series(records, "", wire.STEP_TIME)) == 100


def test_a_fault_in_a_part_of_several_optimizers_is_no_fault_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other loop whose steps are told apart by the hook's own bookkeeping."""
    alone = scaled_gan_pair()
    seed_all()
    for i in range(STEPS):
        scaled_gan(alone, i)
    for part in ("step", "gradients", "transfer", "repair"):
        with monkeypatch.context() as patch:

            def broken(probe: str, call: Callable[[], Any], part: str = part) -> Callable[[], Any]:
                def fail() -> Any:
                    raise RuntimeError("no such luck")

                return fail if probe == part else call

            run_with(patch, broken)
            made = scaled_gan_pair()
            watch = trainvitals.watch(made.models, made.optimizers, scaler=made.scaler, mode="offline")
            seed_all()
            for i in range(STEPS):
                scaled_gan(made, i)
            watch.close()
        assert outcome(made) == outcome(alone)


def test_what_the_user_passes_may_be_anything() -> None:
    """An output whose elements cannot be looked at, a loss that raises when it is read."""

    class Nasty:
        def __float__(self) -> float:
            raise ValueError("not now")

        def __iter__(self) -> Any:
            raise ValueError("nor now")

    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    watch = trainvitals.watch(model, optimizer, mode="offline")
    sparse = torch.eye(3).to_sparse()
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.rand(4, 6)).mean().backward()
        optimizer.step()
        watch.step(loss=Nasty(), output=[Nasty(), sparse, torch.ones(2).to(torch.float8_e4m3fn)], n=Nasty())
    records = records_of(watch)
    assert list(series(records, "", wire.GRAD_NORM)) == [0, 1, 2, 3, 4]
    assert {probe for probe, _ in faults(records)} <= {"loss", "output", "metric n"}
