"""The per-user directory keeps what is private private."""

from pathlib import Path

import pytest

from trainvitals.home import ServerFile, home, read_server_file, read_token, write_private, write_server_file


def test_the_directory_is_the_owners_alone(private_home: Path) -> None:
    """Mode 0700, made when it is missing."""
    assert home() == private_home
    assert private_home.stat().st_mode & 0o777 == 0o700


def test_an_argument_comes_before_the_environment(tmp_path: Path) -> None:
    """What is said outright wins."""
    assert home(tmp_path / "other") == tmp_path / "other"


def test_a_server_that_announces_itself_is_found(private_home: Path) -> None:
    """And its file is readable by nobody else."""
    server = ServerFile(pid=7, url="http://127.0.0.1:8787", socket="/x.sock")
    write_server_file(home(), server)
    assert read_server_file(private_home) == server
    assert (private_home / "server.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"{", b'{"pid": "x"}'])
def test_a_torn_announcement_is_no_server(private_home: Path, content: bytes) -> None:
    """A half-written file is not an error."""
    write_private(home() / "server.json", content)
    assert read_server_file(private_home) is None


def test_a_missing_or_empty_token_is_none(private_home: Path) -> None:
    """Nothing is sent rather than an empty token."""
    assert read_token(home(), "ingest") is None
    write_private(private_home / "ingest.token", b"\n")
    assert read_token(private_home, "ingest") is None
    write_private(private_home / "ingest.token", b"secret\n")
    assert read_token(private_home, "ingest") == "secret"
