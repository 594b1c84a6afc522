"""Addresses: how they are read, what is refused, and how much of them is shown."""

import subprocess
import sys

import pytest

from trainvitals_server.cli import main
from trainvitals_server.errors import SettingsError
from trainvitals_server.notifications.addresses import VARIABLE, configured, mask
from trainvitals_server.notifications.targets import open_targets
from trainvitals_server.settings import Settings


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ()),
        (" json://a/b \n https://c/d ", ("json://a/b", "https://c/d")),
        ("json://a/b,https://c/d , json://a/b", ("json://a/b", "https://c/d")),
        ("mailto://u:p@h?to=a@x.org,b@x.org,slack://A/B/C,", ("mailto://u:p@h?to=a@x.org,b@x.org", "slack://A/B/C")),
    ],
)
def test_addresses_are_separated_by_space_or_comma(
    text: str, found: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comma inside one stays; each counts once."""
    monkeypatch.setenv(VARIABLE, text)
    assert configured() == found
    assert configured(["json://z"]) == (*found, "json://z")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://user:SECRET@example.org:8443/SECRET?k=SECRET", "https://example.org:8443"),
        ("JSON://[::1]:80/SECRET", "json://[::1]:80"),
        ("tgram://SECRET/SECRET", "tgram://..."),
        ("slack://SECRET/SECRET/SECRET", "slack://..."),
    ],
)
def test_an_address_is_shown_without_secrets(address: str, shown: str) -> None:
    """With chat services even the place of the host is one."""
    assert mask(address) == shown
    assert "SECRET" not in mask(address)


@pytest.mark.parametrize(
    "address",
    [
        "SECRET",
        "//SECRET/x",
        "json://",
        "https:///SECRET",
        "https://host:SECRET/x",
        "https://host:99999/SECRET",
        "https://ho<st/SECRET",
        "nosuchservice://SECRET/SECRET",
        "slack://SECRET",
    ],
)
def test_a_wrong_address_is_refused_at_the_start(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line that says what was expected, and not what came."""
    with pytest.raises(SettingsError) as caught:
        Settings(notify=(address,))
    assert str(caught.value).startswith("expected a notification target like https://HOST/PATH")
    assert main(["serve", "--port", "0", "--notify", address]) == 2
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1
    assert err.startswith("trainvitals: cannot serve: expected a notification target")
    assert "SECRET" not in out + err + repr(caught.value)


def test_two_targets_of_one_host_have_names_of_their_own() -> None:
    """By which the outbox remembers who has what."""
    found = open_targets(["json://h/a", "json://h/b", "jsons://h/a"])
    assert [one.name for one in found] == ["json://h", "json://h (2)", "jsons://h"]


def test_a_missing_apprise_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line, at the start; webhooks do without."""
    monkeypatch.delitem(sys.modules, "trainvitals_server.notifications.messenger", raising=False)
    monkeypatch.setitem(sys.modules, "apprise", None)
    assert Settings(notify=("json://h/x",)).notify
    with pytest.raises(SettingsError, match=r"^slack://... needs apprise, which is not installed; pip install"):
        Settings(notify=("slack://A/B/C",))


def test_a_server_without_targets_leaves_the_log_alone() -> None:
    """Other programs' loggers are hushed only where they would tell addresses."""
    code = """
import logging
from trainvitals_server.settings import Settings
Settings()
print(logging.getLogger("httpx").level)
Settings(notify=("json://h/x",))
print(logging.getLogger("httpx").level)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.split() == ["0", "51"]


def test_apprise_is_imported_only_where_it_is_configured() -> None:
    """A server without chat services does not pay for them."""
    code = """
import sys
import trainvitals_server.service
from trainvitals_server.settings import Settings
Settings(notify=("json://h/x",))
print("apprise" in sys.modules, "requests" in sys.modules)
Settings(notify=("form://h/x",))
print("apprise" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.split() == ["False", "False", "True"]
