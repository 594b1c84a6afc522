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
        [sys.executable, "-c", PREAMBLE + code], capture_output=True, text=True, check=False, timeout=300
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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 9
    assert [notice.code for notice in of_type(records(private_home), wire.Notice)] == ["sigterm"]


def test_a_handler_that_lets_the_process_go_on_does_not_end_the_run(private_home: Path) -> None:
    """As batch systems warn before they kill; the warning is recorded."""
    code = PREAMBLE.replace("model =", "signal.signal(signal.SIGTERM, lambda *a: None)\nmodel =", 1)
    code += "os.kill(os.getpid(), signal.SIGTERM); train(3)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
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


def test_a_code_of_failure_is_one_without_the_block_too(private_home: Path) -> None:
    """`sys.exit(3)`; the message of `sys.exit("...")` is the run's."""
    assert run("sys.exit(3)").returncode == 3
    assert (end(private_home).state, end(private_home).reason, end(private_home).error) == (
        "failed",
        "exit",
        "SystemExit: 3",
    )


@pytest.mark.parametrize(
    ("code", "told"),
    [("raise SystemExit(3)", ("finished", "")), ("with watch: raise SystemExit(3)", ("failed", "SystemExit: 3"))],
)
def test_a_bare_system_exit_is_told_inside_the_block_only(code: str, told: tuple[str, str], private_home: Path) -> None:
    """Outside it Python tells nobody, and a guess would call good ends bad ones."""
    assert run(code).returncode == 3
    assert (end(private_home).state, end(private_home).error) == told


def test_a_code_that_somebody_caught_is_none(private_home: Path) -> None:
    """Training went on after it."""
    run("try:\n  sys.exit(3)\nexcept SystemExit: pass\ntrain(1)")
    assert end(private_home).state == "finished"


def test_ctrl_c_is_a_failure_that_says_so(private_home: Path) -> None:
    """With where it was."""
    done = run(
        "signal.signal(signal.SIGINT, signal.default_int_handler); os.kill(os.getpid(), signal.SIGINT); train(9)"
    )
    assert done.returncode in (1, -signal.SIGINT)
    last = end(private_home)
    assert (last.state, last.reason, last.error) == ("failed", "interrupted", "KeyboardInterrupt")
    assert "Traceback" in last.traceback


@pytest.mark.parametrize("name", ["SIGHUP", "SIGXCPU", "SIGINT"])
def test_other_signals_that_end_a_process_are_named(private_home: Path, name: str) -> None:
    """Where they would end it, and it ends by them."""
    code = PREAMBLE.replace("model =", f"signal.signal(signal.{name}, signal.SIG_DFL)\nmodel =", 1)
    code += f"os.kill(os.getpid(), signal.{name}); train(10**9)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == -getattr(signal, name)
    assert (end(private_home).state, end(private_home).reason) == ("failed", name)


def test_signals_that_are_ignored_or_the_users_own_are_left_alone(private_home: Path) -> None:
    """As under nohup, and as batch systems warn."""
    code = PREAMBLE.replace(
        "model =",
        "signal.signal(signal.SIGHUP, signal.SIG_IGN); seen = []\n"
        "signal.signal(signal.SIGUSR1, lambda *a: seen.append(1))\nmodel =",
        1,
    )
    code += "os.kill(os.getpid(), signal.SIGHUP); os.kill(os.getpid(), signal.SIGUSR1); train(1); assert seen == [1]"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert end(private_home).state == "finished"


def test_a_second_signal_ends_the_delivery_at_once(private_home: Path) -> None:
    """A server that does not answer would take the whole 5 s of the first one's."""
    code = """
import socket, threading, time
quiet = socket.create_server(("127.0.0.1", 0))
watch.close()
other = nn.Linear(2, 1)
late = trainvitals.watch(other, torch.optim.SGD(other.parameters(), 0.1), run_id="s",
                         server=f"http://127.0.0.1:{quiet.getsockname()[1]}")
threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGTERM)).start()
print(time.monotonic(), flush=True)
os.kill(os.getpid(), signal.SIGTERM)
train(10**9)
"""
    done = run("import subprocess, time\nstarted = time.monotonic()\n" + code)
    assert done.returncode == -signal.SIGTERM
    (producer,) = (private_home / "spool/s").iterdir()
    assert of_type(spooled(producer), wire.Lifecycle)[-1].reason == "SIGTERM"


def test_ctrl_c_while_the_rest_is_delivered_does_not_hide_the_exception(private_home: Path) -> None:
    """The end is recorded first; Python still prints what happened."""
    code = """
def interrupted(*arguments):
    raise KeyboardInterrupt
watch._producer._depot.courier.wait = interrupted
raise ValueError("the first one")
"""
    done = run(code)
    assert "the first one" in done.stderr
    assert end(private_home).error == "ValueError: the first one"


HOSTILE = r"""
class Mute(Exception):
    def __str__(self): raise RuntimeError("no words")
def inner(): raise KeyError("the key")
"""


@pytest.mark.parametrize(
    ("code", "error", "inside"),
    [
        ("raise Mute()", "Mute: <its message cannot be shown>", "Mute"),
        ("raise ValueError('\\udc80 \\u202e \\x00 größer')", "ValueError: \\udc80 \u202e \x00 größer", "größer"),
        ("raise ExceptionGroup('two', [ValueError('a'), TypeError('b')])", "ExceptionGroup: two", "TypeError: b"),
        ("raise ValueError('x' * 10**6)", "ValueError: x", "in <module>"),
        ("raise ValueError", "ValueError", "raise ValueError"),
    ],
    ids=["mute", "unicode", "group", "huge", "empty"],
)
def test_any_exception_is_told(private_home: Path, code: str, error: str, inside: str) -> None:
    """One that cannot be shown, that no encoding knows, in groups, of a megabyte, without a message."""
    script = private_home.parent / "script.py"
    script.write_text(PREAMBLE + HOSTILE + code.replace("\\\\", "\\"), encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, check=False, timeout=300)
    assert done.returncode == 1
    last = end(private_home)
    assert last.error.startswith(error)
    assert inside in last.traceback
    assert len(last.error) <= 2000
    assert len(last.traceback) <= 60_000


def test_causes_are_part_of_the_traceback(private_home: Path) -> None:
    """Chained by `from`."""
    run(HOSTILE + "try:\n  inner()\nexcept KeyError as e: raise RuntimeError('outer') from e")
    assert end(private_home).error == "RuntimeError: outer"
    assert "KeyError: 'the key'" in end(private_home).traceback
    assert "direct cause" in end(private_home).traceback


def test_a_thread_that_ends_by_an_exception_is_noted_and_ends_no_run(private_home: Path) -> None:
    """Python still prints it."""
    code = """
import threading
def work(): raise OSError("the loader's disk")
thread = threading.Thread(target=work, name="loader"); thread.start(); thread.join()
train(1)
"""
    done = run(code)
    assert "the loader's disk" in done.stderr
    (notice,) = of_type(records(private_home), wire.Notice)
    assert notice.code == "thread"
    assert notice.text.startswith("thread loader ended by OSError: the loader's disk\nTraceback")
    assert end(private_home).state == "finished"


def test_an_exception_in_a_console_ends_a_line_and_not_the_run(private_home: Path) -> None:
    """As in a notebook: the next line trains on, and `sys.exit` that did not end it means nothing."""
    code = """
import code
lines = iter(["raise ValueError('typed')", "train(2)"])
def ask(prompt):
    try: return next(lines)
    except StopIteration: raise EOFError
code.InteractiveConsole(globals()).interact(banner="", exitmsg="")
"""
    # a console calls `sys.excepthook` for each line
    code = (
        code.replace("ask)", "ask)")
        .replace(".interact(", "\n_c.raw_input = ask\n_c.interact(")
        .replace("code.InteractiveConsole(globals())\n", "_c = code.InteractiveConsole(globals())\n")
    )
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert "typed" in done.stderr
    assert end(private_home).state == "finished"
    assert [frame.step for frame in of_type(records(private_home), wire.Frame)] == list(range(7))
