"""A training that ends in one of the ways in which trainings end."""

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from served import until
from ward import Training, Ward

Enter = Callable[..., None]
UNSPOOLED = 0.05  # seconds of records that a SIGKILL may take along
EXIT = 5.0
LOST = 60.0  # seconds until a run without contact is lost
SLACK, SCHEDULING = 10.0, 0.4  # what a busy machine may add


def kill(training: Training) -> tuple[int, float]:
    """SIGKILL; how many records were queued and never spooled, and for how long the oldest had waited."""
    training.under_way()
    training.kill()
    moment = time.monotonic()
    ledger = training.ledger
    unspooled = ledger.steps[-1].queued - ledger.spooled
    waiting = [step.time for step in ledger.steps if step.queued > ledger.spooled]
    return max(unspooled, 0), moment - min(waiting, default=moment)


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.chaos)])
def test_a_killed_training_left_all_but_a_moment(visited: Ward, enter: Enter, times: int) -> None:
    """What was not spooled is at most the last 50 ms (and what the machine's own scheduling adds)."""
    with visited.fault(f"trainer SIGKILL, {times} times", "≤ 50 ms of records unspooled; the rest recovered") as row:
        lost = [kill(visited.train()) for _ in range(times)]
    row.note = f"at most {max(n for n, _ in lost)} records unspooled, {max(t for _, t in lost) * 1e3:.0f} ms old"
    enter(row)
    assert max(waited for _, waited in lost) < UNSPOOLED + SCHEDULING


@pytest.mark.chaos
def test_a_killed_training_is_lost_and_not_finished(ward: Ward, enter: Enter) -> None:
    """Within a minute, and not sooner than it could be known."""
    training = ward.train().under_way()
    with ward.fault("trainer SIGKILL, its state", "`lost` ≤ 60 s") as row:
        training.kill()
        over = time.monotonic()
        until(lambda: state(ward, training)["state"] == "lost", LOST + 30)
        row.recovery = time.monotonic() - over
    row.note = f"lost after {row.recovery:.0f} s"
    enter(row)
    assert row.recovery < LOST + SLACK


def state(ward: Ward, training: Training) -> Any:
    """The run as the server shows it."""
    return ward.program.get(f"/api/runs/{training.ledger.read().run}")


def test_every_other_end_loses_nothing(visited: Ward, enter: Enter) -> None:
    """SIGTERM, an exception, `sys.exit`: all is there, in time, and named."""
    ways = {"SIGTERM": "close", "exception": "raise", "exit": "exit"}
    trainings = {name: visited.train(end=way) for name, way in ways.items()}
    with visited.fault("trainer SIGTERM / exception / sys.exit", "0 lost; exit ≤ 5 s; state names the cause") as row:
        took = {name: end(training, name) for name, training in trainings.items()}
    row.note = f"exit after {max(took.values()):.1f} s at most"
    enter(row)
    assert row.recovery == 0.0  # everything was acknowledged before the end
    states = {name: state(visited, training) for name, training in trainings.items()}
    assert {name: (one["state"], one["reason"]) for name, one in states.items()} == {
        "SIGTERM": ("failed", "SIGTERM"),
        "exception": ("failed", "ValueError: the disk is on fire"),
        "exit": ("failed", "SystemExit: 3"),
    }
    assert max(took.values()) < EXIT + SLACK


def end(training: Training, way: str) -> float:
    """End it; how long that took."""
    training.under_way()
    begin = time.monotonic()
    if way == "SIGTERM":
        training.process.terminate()
    else:
        (training.folder / "stop").touch()
    code = training.wait(EXIT + 60)
    assert code == {"SIGTERM": -signal.SIGTERM, "exception": 1, "exit": 3}[way], training.log.read_text()
    return time.monotonic() - begin


def test_an_end_with_no_server_leaves_the_spool(make_ward: Callable[..., Ward], enter: Enter) -> None:
    """Nobody is waited for; a server that comes later finds it all."""
    ward = make_ward()
    training = ward.train().under_way()
    with ward.fault(
        "trainer gone before the server comes", "0 lost; the server finds the spools of its machine"
    ) as row:
        begin = time.monotonic()
        training.end()
        took = time.monotonic() - begin
        row.hook = training.ledger.hook()
        ward.program.start()
    enter(row)
    assert took < EXIT + SLACK


@pytest.mark.parametrize(("after", "when"), [(0.0, "at once"), pytest.param(0.3, "delivered", marks=pytest.mark.chaos)])
def test_a_command_is_never_applied_twice(visited: Ward, enter: Enter, after: float, when: str) -> None:
    """A trainer that dies between its journal and the safe point: the outcome is `unknown`, whoever comes next."""
    run = f"commanded-{after}"
    training = visited.train(plants=(f"applied={after}",), run=run).under_way()
    with visited.fault(f"trainer killed between journal and apply, {when}", "`unknown`, never applied twice") as row:
        identity = visited.program.post(f"/api/runs/{run}/commands", {"action": "sanitize"})["id"]
        assert training.wait(60) == -signal.SIGKILL
        successor = visited.train(run=run).under_way()
        over = time.monotonic()
        until(lambda: command(visited, run, identity)["state"] == "unknown", 60)
        row.recovery = time.monotonic() - over
        successor.go_on(0.5)
        assert command(visited, run, identity)["state"] == "unknown"
        successor.end()
    enter(row)
    updates = visited.program.get(f"/api/runs/{run}/events?type=command")["events"]
    assert "applied" not in {one["state"] for one in updates if one["id"] == identity}


def command(ward: Ward, run: str, identity: str) -> Any:
    """A command as the server shows it."""
    commands = ward.program.get(f"/api/runs/{run}/commands")["commands"]
    return next(one for one in commands if one["id"] == identity)
