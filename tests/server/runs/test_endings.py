"""How real training processes end, as the server tells it: killed, raised, told to stop, left with a code."""

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from served import Served, until
from trainvitals_server.cli import show

TRAIN = """
import os, signal, sys, time, torch, trainvitals
from torch import nn
model = nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
watch = trainvitals.watch(model, optimizer, run_id="run-1")
def train(steps):
    for _ in range(steps):
        optimizer.zero_grad(); model(torch.ones(1, 2)).sum().backward(); optimizer.step(); time.sleep(0.01)
train(5)
print("trained", flush=True)
"""


def train(served: Served, code: str) -> subprocess.Popen[str]:
    """A training process that streams to the server, once it has trained a little."""
    environment = {**os.environ, "TRAINVITALS_DIR": str(served.directory)}
    child = subprocess.Popen(
        [sys.executable, "-c", TRAIN + code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "trained\n"
    return child


def run(served: Served) -> Any:
    return served.get("/api/runs/run-1")


def ended(served: Served, child: subprocess.Popen[str]) -> Any:
    """The run, once its process has ended and the server knows how."""
    child.communicate(timeout=300)
    return until(lambda: (found := run(served))["state"] in ("finished", "failed") and found)


def test_a_killed_process_is_lost_and_said_to_be_dead(served: Served) -> None:
    """The server finds its spool on this machine, and that nobody owns it; nobody waits for a minute."""
    child = train(served, "train(10**9)")
    until(lambda: served.service.parts.pulse.connected("run-1"))
    child.kill()
    child.communicate(timeout=300)
    found = until(lambda: (told := run(served))["state"] == "lost" and told)
    assert f"process {child.pid} on " in found["reason"]
    assert "ended without a word" in found["reason"]
    assert found["verdict"]["level"] == "warning"
    assert found["failure"] is None
    assert any(line.startswith("state      lost, process") for line in show.describe(found, [], []))


def test_an_exception_is_part_of_the_run(served: Served) -> None:
    """Type, message and traceback; on the terminal too."""
    code = "def load():\n  raise ValueError('the disk is on fire')\nload()"
    found = ended(served, train(served, code))
    assert (found["state"], found["reason"]) == ("failed", "ValueError: the disk is on fire")
    failure = found["failure"]
    assert (failure["type"], failure["message"], failure["rank"]) == ("ValueError", "the disk is on fire", 0)
    assert "in load" in failure["traceback"]
    lines = list(show.describe(found, [], []))
    assert f"\nFailed at step {failure['step']}: ValueError: the disk is on fire" in lines
    assert any("in load" in line for line in lines)


@pytest.mark.parametrize(
    ("code", "state", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGTERM); train(10**9)", "failed", "SIGTERM"),
        ("sys.exit(3)", "failed", "SystemExit: 3"),
        ("sys.exit(0)", "finished", "exit"),
        ("watch.close()", "finished", "closed"),
    ],
    ids=["SIGTERM", "code 3", "code 0", "closed"],
)
def test_other_ends_are_told_apart(served: Served, code: str, state: str, reason: str) -> None:
    """By state and reason."""
    found = ended(served, train(served, code))
    assert (found["state"], found["reason"]) == (state, reason)
    assert (found["failure"] is not None) == (state == "failed")


def test_a_process_that_is_stopped_stays_silent_and_comes_back(served: Served) -> None:
    """SIGSTOP, as a suspended laptop: its connection stands, and no end is told."""
    child = train(served, "train(10**9)")
    os.kill(child.pid, signal.SIGSTOP)
    try:
        step = run(served)["step"]
        assert run(served)["state"] == "live"
    finally:
        os.kill(child.pid, signal.SIGCONT)
    until(lambda: run(served)["step"] > step)
    child.terminate()
    assert ended(served, child)["reason"] == "SIGTERM"
