"""What every test needs: a per-user directory of its own, and one torch thread."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# The cores are shared by trainer, server and browser, and OpenMP's threads spin while they wait for each other: on a
# busy machine a run of 240 steps, usually 20 s, once took over 180. Before torch is imported, and for child processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("shared machine", deadline=None)  # a slow moment of the machine is no failure
settings.load_profile("shared machine")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background, which children inherit
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def private_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees or touches the user's own directory or settings."""
    for name in [name for name in os.environ if name.startswith("TRAINVITALS_")]:
        monkeypatch.delenv(name)
    path = tmp_path / "home"
    monkeypatch.setenv("TRAINVITALS_DIR", str(path))
    return path
