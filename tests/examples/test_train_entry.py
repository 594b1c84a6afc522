"""`train.py` can be started as a file and as a module of a package."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("given", "folder"),
    [
        (["examples/wavessm/train.py"], ROOT),
        (["-m", "examples.wavessm.train"], ROOT),
        ([str(ROOT / "examples" / "wavessm" / "train.py")], Path("/")),
        (["-m", "wavessm.train"], ROOT / "examples"),
    ],
)
def test_every_way_to_start_it_reaches_the_same_program(given, folder):
    """The file needs no installation of the example; the module is how it is started from a wheel."""
    done = subprocess.run(
        [sys.executable, *given, "--help"], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "Train WaveSSM" in done.stdout
    assert done.stderr == ""
