"""A repair that has to be repeated at every step does not bury the rest of the log."""

import logging

import pytest
import torch

import trainvitals
from loops import of_type
from recorded import records_of
from training_loops import batch, net
from trainvitals import wire
from trainvitals.repair.reports import AGAIN, FULL, Reports


def run(steps: int, breaks: dict[int, list[int]]) -> list[wire.Record]:
    """`breaks`: which BatchNorms break before each step."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    watch = trainvitals.watch(model, optimizer, mode="offline", start_step=1000, health_every=10_000)
    for i in range(steps):
        for place in breaks.get(i, []):
            model[place].running_mean[0] = float("nan")
        optimizer.zero_grad()
        model(batch()).square().mean().backward()
        optimizer.step()
    return records_of(watch)


def told(caplog: pytest.LogCaptureFixture) -> tuple[list[int], list[int]]:
    """The steps told in full, and those told in one line."""
    full = [r for r in caplog.records if "Auto-sanitized" in r.message]
    short = [r for r in caplog.records if "repaired again" in r.message]
    assert all("\n" not in r.message for r in short)
    steps = [[int(r.message.split("iter ")[1].split(":")[0]) - 1000 for r in some] for some in (full, short)]
    return steps[0], steps[1]


def test_a_break_at_every_step_is_told_in_full_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """Each pass is in the record all the same."""
    caplog.set_level(logging.WARNING, "trainvitals")
    records = run(150, {i: [1] for i in range(150)})
    assert len(of_type(records, wire.Sanitized)) == 150
    full, short = told(caplog)
    assert full == [0, 1, 2, 2 + AGAIN]
    assert short == [i for i in range(150) if i not in full]
    assert "The same 1 layers were repaired again: 10 passes since the report at iter 1002." in caplog.text


def test_another_layer_is_always_told(caplog: pytest.LogCaptureFixture) -> None:
    """In the middle of a series of repeats."""
    caplog.set_level(logging.WARNING, "trainvitals")
    run(12, {i: [1, 5] if i == 8 else [1] for i in range(12)})
    full, _ = told(caplog)
    assert full == [0, 1, 2, 8, 9, 10]


def test_a_break_that_comes_back_after_a_while_is_news() -> None:
    """As is one in a run whose steps have gone back."""
    reports = Reports()
    assert [reports.is_full(i, {"a"}) for i in range(5)] == [True] * FULL + [False, False]
    assert reports.is_full(5 + AGAIN, {"a"})
    assert reports.is_full(3, {"a"})
