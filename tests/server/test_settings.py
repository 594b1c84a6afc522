"""Settings that would open the server to strangers, or cannot work, are refused before any socket is opened."""

from pathlib import Path
from typing import Any

import pytest

from trainvitals_server.errors import SettingsError
from trainvitals_server.settings import Settings, is_loopback

ANY = "0.0.0.0"  # noqa: S104  # what must not be bound


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"host": ANY}, f"expected a loopback address, TLS or --behind-proxy, got host '{ANY}' without"),
        ({"host": "192.168.1.5"}, "expected a loopback address"),
        ({"host": "example.org"}, "expected a loopback address"),
        ({"host": ""}, "expected a loopback address"),
        ({"port": 70000}, "expected a port from 0 to 65535, got 70000"),
        ({"tls_cert": Path("a.pem")}, "expected a TLS certificate and its key"),
        ({"spools": (Path("nowhere"),)}, "expected a folder of spools, got 'nowhere', which is none"),
        ({"tls_cert": Path("a.pem"), "tls_key": Path("b.pem")}, "expected a PEM file, got 'a.pem'"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(options: dict[str, Any], reason: str) -> None:
    """What was expected, and what came."""
    with pytest.raises(SettingsError) as caught:
        Settings(**options)
    assert str(caught.value).startswith(reason)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_loopback_needs_nothing_else(host: str) -> None:
    """It is this machine."""
    assert is_loopback(host)
    assert Settings(host=host).host == host


def test_a_proxy_may_face_the_world(private_home: Path) -> None:
    """And the database is in the directory unless it is put elsewhere."""
    settings = Settings(host=ANY, behind_proxy=True)
    assert settings.database == private_home / "trainvitals.db"
    assert Settings(db=Path("x.db")).database == Path("x.db")
