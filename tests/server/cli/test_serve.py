"""`serve`: what it prints, and what it refuses."""

import re
import socket
from pathlib import Path

import httpx
import pytest

from trainvitals_server.cli import main


def test_serve_prints_a_link_that_signs_in_once(announced: dict[str, str]) -> None:
    """303 with a cookie the first time, refused the second."""
    assert announced["signin"].startswith(announced["url"] + "/signin?code=")
    with httpx.Client(trust_env=False) as browser:
        assert browser.get(announced["signin"]).status_code == 303
        assert browser.cookies
        assert browser.get(announced["url"] + "/api/runs").status_code == 200
        assert browser.get(announced["signin"]).status_code >= 400


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--host", "192.0.2.1"], "expected a loopback address, TLS or --behind-proxy"),
        (["--port", "70000"], "expected a port from 0 to 65535, got 70000"),
        (["--retain", "30 years"], "expected an age such as 30d .* or a size such as 20GB .*got '30 years'"),
        (["--tls-cert", "missing.pem"], "expected a TLS certificate and its key"),
        (["--spool", "here", "--spool", "nowhere"], "expected a folder of spools, got 'here'"),
    ],
)
def test_serve_refuses_in_one_line(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is opened, and the exit code is 2."""
    assert main(["serve", *arguments]) == 2
    err = capsys.readouterr().err
    assert re.search(reason, err)
    assert len(err.splitlines()) == 1


def test_serve_says_when_the_port_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By whom, it cannot know."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["serve", "--port", str(port), "--directory", str(tmp_path / "own")]) == 2
    assert f"127.0.0.1:{port}" in capsys.readouterr().err


def test_a_second_server_of_one_directory_is_refused(served: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says where the first one is."""
    assert main(["serve", "--port", "0", "--directory", str(served)]) == 2
    assert "one runs at http://127.0.0.1:" in capsys.readouterr().err
