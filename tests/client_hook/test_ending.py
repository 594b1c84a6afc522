"""How a run ended is part of the run: in processes that really end that way."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loops import of_type, spooled
from trainvitals import wire

PREAMBLE = """
import os, signal, sys, torch, trainvitals
from torch import nn
model = nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
watch = trainvitals.watch(model, optimizer, mode="offline", run_id="r")
def train(steps):
    for _ in range(steps):
        optimizer.zero_grad(); model(torch.ones(1, 2)).sum().backward(); optimizer.step()
train(5)
"""


def run(code: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PREAMBLE + code], capture_output=True, text=True, check=False, timeout=60
    )


def records(home: Path) -> list[wire.Record]:
    (producer,) = (home / "spool/r").iterdir()
    return spooled(producer)


def end(home: Path) -> wire.Lifecycle:
    return of_type(records(home), wire.Lifecycle)[-1]


def test_a_process_that_just_ends_is_finished(private_home: Path) -> None:
    """With no call of close; all its steps are there, the last one too."""
    assert run("").returncode == 0
    assert (end(private_home).state, end(private_home).reason) == ("finished", "exit")
    assert [frame.step for frame in of_type(records(private_home), wire.Frame)] == [0, 1, 2, 3, 4]


def test_an_exception_is_part_of_the_run(private_home: Path) -> None:
    """Type, message and traceback; Python still prints it."""
    done = run("raise ValueError('the disk is on fire')")
    last = end(private_home)
    assert (last.state, last.reason, last.error) == ("failed", "exception", "ValueError: the disk is on fire")
    assert "Traceback" in last.traceback
    assert "the disk is on fire" in done.stderr
    assert done.returncode == 1


def test_the_context_manager_knows_the_exception_too(private_home: Path) -> None:
    """Also where it is caught outside."""
    run("try:\n  with watch: raise ValueError('inside')\nexcept ValueError: pass")
    assert (end(private_home).state, end(private_home).error) == ("failed", "ValueError: inside")


def test_sigterm_is_recorded_and_still_ends_the_process(private_home: Path) -> None:
    """By the signal, as its sender expects."""
    done = run("os.kill(os.getpid(), signal.SIGTERM); train(10**9)")
    assert done.returncode == -signal.SIGTERM
    assert (end(private_home).state, end(private_home).reason) == ("failed", "SIGTERM")


def test_an_earlier_handler_is_called(private_home: Path) -> None:
    """The user's own handling of SIGTERM is kept."""
    code = PREAMBLE.replace("model =", "signal.signal(signal.SIGTERM, lambda *a: sys.exit(7))\nmodel =", 1)
    code += "os.kill(os.getpid(), signal.SIGTERM); train(10**9)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 7
    assert end(private_home).reason == "SIGTERM"


def test_a_kill_loses_only_what_was_not_handed_over(private_home: Path) -> None:
    """The spool is readable, and has no end."""
    done = run("import time; time.sleep(0.5); os.kill(os.getpid(), signal.SIGKILL)")
    assert done.returncode == -signal.SIGKILL
    assert end(private_home).state == "starting"
    assert [frame.step for frame in of_type(records(private_home), wire.Frame)] == [0, 1, 2, 3]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_says_nothing(private_home: Path) -> None:
    """DataLoader workers are forks: one producer, one end, no second thread."""
    code = """
pid = os.fork()
if pid == 0:
    train(3); watch.step(loss=1.0); watch.close(); os._exit(0 if watch.state == "disabled" else 1)
assert os.waitpid(pid, 0)[1] == 0
train(2)
"""
    assert run(code).returncode == 0
    assert [frame.step for frame in of_type(records(private_home), wire.Frame)] == [0, 1, 2, 3, 4, 5, 6]
    assert len(of_type(records(private_home), wire.Lifecycle)) == 2


def test_a_handler_that_kills_the_process_leaves_the_warning(private_home: Path) -> None:
    """It does not come back, but what it was told of is on disk."""
    code = PREAMBLE.replace("model =", "signal.signal(signal.SIGTERM, lambda *a: os._exit(9))\nmodel =", 1)
    code += "os.kill(os.getpid(), signal.SIGTERM)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 9
    assert [notice.code for notice in of_type(records(private_home), wire.Notice)] == ["sigterm"]


def test_a_handler_that_lets_the_process_go_on_does_not_end_the_run(private_home: Path) -> None:
    """As batch systems warn before they kill; the warning is recorded."""
    code = PREAMBLE.replace("model =", "signal.signal(signal.SIGTERM, lambda *a: None)\nmodel =", 1)
    code += "os.kill(os.getpid(), signal.SIGTERM); train(3)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0
    assert [frame.step for frame in of_type(records(private_home), wire.Frame)] == list(range(8))
    assert [notice.code for notice in of_type(records(private_home), wire.Notice)] == ["sigterm"]
    assert end(private_home).state == "finished"


def test_leaving_on_purpose_is_no_failure(private_home: Path) -> None:
    """`sys.exit(0)` inside the block; a code of failure is one."""
    run("with watch: sys.exit(0)")
    assert (end(private_home).state, end(private_home).reason) == ("finished", "exit")


def test_sigterm_in_the_middle_of_queueing_does_not_hang(private_home: Path) -> None:
    """The handler runs on the thread that holds the queue's lock."""
    code = """
outbox = watch._producer._depot._outbox
with outbox._lock:
    os.kill(os.getpid(), signal.SIGTERM)
train(10**9)
"""
    assert run(code).returncode == -signal.SIGTERM
    assert end(private_home).reason == "SIGTERM"
