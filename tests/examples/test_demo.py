"""`trainvitals demo`: the server and the example together, ended together, judged from outside."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LIMIT = 120  # seconds; a loaded machine trains slowly
FIRST_LAYER = "refinement_ffc.scales.0.ffc.spectral.mix.1"


def demo(directory, *given, **more):
    """Start the verb with a folder of its own and nothing of the user's environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRAINVITALS_")}
    return subprocess.Popen(
        [sys.executable, "-m", "trainvitals_server.cli", "demo", "--port", "0", "--directory", str(directory), *given],
        env={**environment, "TRAINVITALS_DIR": str(directory / "user")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One demo to its end: exit code, standard output, standard error, its folder."""
    folder = tmp_path_factory.mktemp("demo")
    process = demo(folder, "--iters", "40", "--exit", "--json", "--no-browser")
    out, err = process.communicate(timeout=LIMIT)
    return process.returncode, out, err, folder


@pytest.fixture
def answer(finished):
    """The one JSON object."""
    code, out, err, _ = finished
    assert code == 0, err
    return json.loads(out)


def test_it_prints_one_json_object_and_nothing_else(answer, finished):
    """The trainer's lines and the address go to standard error, without terminal codes."""
    assert set(answer) == {
        "run_id",
        "url",
        "first_bad_step",
        "first_bad_layer",
        "sanitizations",
        "validations",
        "checkpoints_refused",
        "checkpoints_saved",
        "frames_stored",
        "alerts",
    }
    _, out, err, _ = finished
    assert out.count("\n") == 1
    assert "The page: http://127.0.0.1:" in err
    assert "\x1b" not in err


def test_it_names_where_and_when_the_run_broke(answer):
    """The first over-exposed frame comes at 21.25 % of the run; the first norm in forward order is the spectral one."""
    assert answer["first_bad_step"] == 8
    assert answer["first_bad_layer"] == FIRST_LAYER


def test_automatic_repair_brings_the_run_through(answer):
    """Three repairs, every validation valid, every checkpoint saved, and the repetition raises an alert."""
    assert answer["sanitizations"] == 3
    assert [point["step"] for point in answer["validations"]] == list(range(5, 41, 5))
    assert all(point["valid"] == 6 and point["failed"] == 0 for point in answer["validations"])
    assert all(20 < point["psnr"] < 40 for point in answer["validations"])
    assert (answer["checkpoints_saved"], answer["checkpoints_refused"]) == (8, 0)
    assert any(alert["rule"].startswith("repeated") for alert in answer["alerts"])


def test_every_step_is_stored(answer):
    """One frame per iteration at least; slow layouts come on top."""
    assert answer["frames_stored"] >= 40


def test_nothing_is_left_running(finished):
    """The server's process has ended with the demo."""
    _, _, _, folder = finished
    announced = folder / "server.json"
    if announced.exists():
        with pytest.raises(ProcessLookupError):
            os.kill(json.loads(announced.read_text())["pid"], 0)


def test_without_repair_the_run_stays_stuck(tmp_path):
    """No validation batch is valid from the corruption on, and every checkpoint is refused."""
    process = demo(tmp_path, "--iters", "24", "--auto-sanitize", "off", "--exit", "--json", "--no-browser")
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, err
    answer = json.loads(out)
    broken = [point for point in answer["validations"] if point["step"] >= answer["first_bad_step"]]
    assert broken
    assert all(point["valid"] == 0 and point["failed"] == 6 and point["psnr"] is None for point in broken)
    assert answer["sanitizations"] == 0
    assert answer["checkpoints_refused"] == len(broken)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_children_too(tmp_path, number):
    """Ctrl-C in mid-run: neither the server nor the trainer is left behind."""
    process = demo(tmp_path, "--iters", "100000", "--no-browser")
    lines = read_until(process.stdout, re.compile("watching wavessm"))
    assert any("The page: http" in line for line in lines)
    children = pids_below(process.pid)
    assert len(children) == 2
    process.send_signal(number)
    process.communicate(timeout=300)
    assert process.returncode in (130, 128 + number)
    assert not [pid for pid in children if is_running(pid)]


def test_a_reader_that_leaves_ends_it(tmp_path):
    """As `trainvitals demo | head -2` does: no traceback, no child left."""
    process = demo(tmp_path, "--iters", "100000", "--no-browser")
    read_until(process.stdout, re.compile("The page: "))
    children = pids_below(process.pid)
    process.stdout.close()
    assert process.wait(timeout=LIMIT) == 141
    assert process.stderr.read() == ""
    process.stderr.close()
    assert not [pid for pid in children if is_running(pid)]


def test_the_page_stays_until_ctrl_c(tmp_path):
    """Without `--exit` the server outlives the run; the end by Ctrl-C is a good one."""
    process = demo(tmp_path, "--iters", "4", "--no-browser")
    read_until(process.stdout, re.compile("The page stays at http"))
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=300)
    assert process.returncode == 0


def test_a_taken_port_is_one_line_and_a_bad_end(tmp_path):
    """The reason comes from the server."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        process = demo(tmp_path, "--exit", "--json", "--port", port)
        out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, out) == (1, "")
    assert err.startswith("trainvitals: the server ended")
    assert err.count("\n") == 1


def read_until(stream, pattern):
    """Lines up to the first that matches; fails when the stream ends before."""
    lines = []
    for line in stream:
        lines.append(line)
        if pattern.search(line):
            return lines
    raise AssertionError(f"expected a line like {pattern.pattern!r}, got {lines}")


def pids_below(parent):
    """The ids of a process's children."""
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def is_running(pid):
    """Whether a process is there and no zombie, given a moment to be reaped."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        if state == "Z":
            return False
        time.sleep(0.05)
    return True
