"""Where the trainer looks for a server, and in which order."""

from pathlib import Path

import pytest

from trainvitals.delivery.address import Address, find_address
from trainvitals.errors import ConfigurationError
from trainvitals.home import ServerFile, home, write_private, write_server_file


def test_nothing_is_known_at_first(private_home: Path) -> None:
    """Which is no error: the server may come later."""
    assert find_address(home(), None, None) is None


def test_the_local_server_is_found_with_its_socket_and_token(private_home: Path) -> None:
    """No typing on one machine."""
    write_server_file(home(), ServerFile(pid=1, url="http://127.0.0.1:8787", socket="/s.sock"))
    write_private(private_home / "ingest.token", b"secret")
    assert find_address(private_home, None, None) == Address("http://127.0.0.1:8787", "secret", "/s.sock")


def test_argument_beats_environment_beats_directory(private_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a server that was named is not reached through the local socket."""
    write_server_file(home(), ServerFile(pid=1, url="http://127.0.0.1:8787", socket="/s.sock"))
    monkeypatch.setenv("TRAINVITALS_SERVER", "https://env:1/")
    monkeypatch.setenv("TRAINVITALS_TOKEN", "envtoken")
    assert find_address(private_home, None, None) == Address("https://env:1", "envtoken")
    assert find_address(private_home, "http://arg:2", "t") == Address("http://arg:2", "t")


@pytest.mark.parametrize("bad", ["localhost:8787", "ftp://host", "http://", "http://host?token=1"])
def test_what_is_no_address_is_refused(private_home: Path, bad: str) -> None:
    """With an example of one."""
    with pytest.raises(ConfigurationError, match="expected an address such as"):
        find_address(home(), bad, None)


def test_the_websocket_has_the_scheme_of_the_page() -> None:
    """https becomes wss."""
    assert Address("https://h:1", None).websocket == "wss://h:1/ws/trainer"
    assert Address("http://127.0.0.1:1", None).is_local
    assert not Address("http://far:1", None).is_local
