"""A real server, started by the verb `serve`, and a real trainer with broken statistics."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from child import child
from trainvitals_server.cli import main

SUPPORT = Path(__file__).parents[2] / "support"
Told = tuple[int, str, str]  # exit code, stdout, stderr


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of a running server."""
    directory = tmp_path_factory.mktemp("served")
    command = [
        sys.executable,
        "-m",
        "trainvitals_server.cli",
        "serve",
        "--port",
        "0",
        "--json",
        "--directory",
        directory,
    ]
    with child(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        (directory / "announced").write_text(server.stdout.readline())
        yield directory
        server.terminate()
        assert server.wait(60) == 0


@pytest.fixture(scope="module")
def announced(served: Path) -> dict[str, str]:
    """What `serve --json` printed."""
    announced: dict[str, str] = json.loads((served / "announced").read_text())
    return announced


@pytest.fixture(scope="module")
def broken(served: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """The id of a live run whose statistics are broken, and a call that lets its trainer end."""
    stop = served / "stop"
    command = [sys.executable, SUPPORT / "broken_training.py", served, stop]
    with child(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=SUPPORT) as trainer:
        assert trainer.stdout is not None
        run = trainer.stdout.readline().strip()

        def end() -> None:
            stop.touch()
            assert trainer.wait(60) == 0

        try:
            yield run, end
        finally:
            end()


@pytest.fixture
def tell(served: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """Run a verb against the server: its exit code, and what it printed."""

    def tell(verb: str, *arguments: str) -> Told:
        code = main([verb, *arguments, "--directory", str(served)])
        out, err = capsys.readouterr()
        return code, out, err

    return tell
