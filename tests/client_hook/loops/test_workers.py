"""Data from worker processes, by fork and by spawn: they carry the model along, and are none of the run's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import worker_training
from loops import of_type, spooled
from recorded import faults, series
from trainvitals import wire


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_do_not_stream_and_do_not_hang(method: str, private_home: Path) -> None:
    """One producer with every step of the training and none of theirs, no thread of ours in them, and an end."""
    done = subprocess.run(
        [sys.executable, worker_training.__file__, method], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["steps"], said["workers"], said["own"]) == (2 * worker_training.STEPS, 2, False)
    assert said["states"] == (["disabled"] if method == "fork" else ["none"])
    assert said["threads"] == [0]
    assert [folder.name for folder in (private_home / "spool/r").iterdir()] == [Path(said["spool"]).name]
    records = spooled(Path(said["spool"]))
    assert list(series(records, "", wire.GRAD_NORM)) == list(range(said["steps"]))
    assert faults(records) == []
    assert [event.state for event in of_type(records, wire.Lifecycle)] == ["starting", "finished"]
