"""Which server is asked, with which token, and what is said when there is none."""

import argparse
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from trainvitals import home
from trainvitals_server.cli import client, main
from trainvitals_server.cli.failure import Failure


class Stranger(BaseHTTPRequestHandler):
    """Answers everything with something that is not ours, and remembers what it was sent."""

    seen: list[str | None] = []

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("Authorization"))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>")

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def stranger() -> Iterator[str]:
    """The address of a program that has nothing to do with us."""
    Stranger.seen.clear()
    server = HTTPServer(("127.0.0.1", 0), Stranger)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    client.arguments(parser)
    return parser.parse_args(arguments)


def ask(*arguments: str) -> client.Object:
    with client.connect(options(*arguments)) as server:
        return server.get("/api/runs")


def test_the_local_server_is_found_by_its_directory(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By argument or environment, with no token typed."""
    assert "runs" in ask("--directory", str(served))
    monkeypatch.setenv("TRAINVITALS_DIR", str(served))
    assert "runs" in ask()


def test_an_address_needs_a_token_unless_it_is_the_local_servers(served: Path, announced: dict[str, str]) -> None:
    """The local one's socket is taken then."""
    url = announced["url"]
    assert "runs" in ask("--server", url, "--directory", str(served))
    with pytest.raises(Failure, match="expected --token or TRAINVITALS_TOKEN"):
        ask("--server", url)
    token = home.read_token(served, "view")
    assert token
    assert "runs" in ask("--server", url, "--token", token)


def test_the_environment_names_a_server_too(
    served: Path, announced: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its token; a wrong one is refused in one line."""
    monkeypatch.setenv("TRAINVITALS_SERVER", announced["url"])
    monkeypatch.setenv("TRAINVITALS_TOKEN", home.read_token(served, "view") or "")
    assert "runs" in ask()
    with pytest.raises(Failure, match="401"):
        ask("--token", "wrong")


def test_a_view_token_cannot_sanitize(served: Path, announced: dict[str, str]) -> None:
    """The server says no, and so do we."""
    token = home.read_token(served, "view") or ""
    chosen = options("--server", announced["url"], "--token", token)
    with client.connect(chosen) as server, pytest.raises(Failure, match="403"):
        server.post("/api/signin")


def test_a_stranger_on_a_dead_servers_port_gets_no_token(private_home: Path, stranger: str) -> None:
    """Only the socket in the user's own directory is trusted."""
    base = home.home()
    home.write_private(base / "view.token", b"secret\n")
    home.write_server_file(base, home.ServerFile(1, stranger, str(base / "server.sock")))
    with pytest.raises(client.Unreachable, match="no answer from the server at"):
        ask()
    home.write_server_file(base, home.ServerFile(1, stranger, ""))
    with pytest.raises(Failure, match="no server is running"):
        ask()
    assert Stranger.seen == []


def test_an_answer_that_is_not_ours_is_one_line(stranger: str) -> None:
    """The token given by hand goes where it was told to."""
    with pytest.raises(Failure, match="expected a JSON object"):
        ask("--server", stranger, "--token", "mine")
    assert Stranger.seen == ["Bearer mine"]


@pytest.mark.parametrize("verb", ["runs", "alerts", "open"])
def test_without_a_server_each_verb_says_so(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line that names the remedy."""
    assert main([verb]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "no server is running" in err
    assert "trainvitals serve" in err
    assert len(err.splitlines()) == 1


def test_an_address_must_be_one() -> None:
    """A host and port alone say nothing about encryption."""
    with pytest.raises(Failure, match="begins with http"):
        ask("--server", "localhost:8787", "--token", "t")
