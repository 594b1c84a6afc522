"""`notify --test`: each target's outcome, and the exit code."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sink import Sink, receiving
from trainvitals_server.cli import main


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sink]:
    """A receiver; whatever proxies the machine has are not asked."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with receiving() as made:
        yield made


def test_a_target_that_takes_it(
    sink: Sink, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the environment; exit code 0."""
    monkeypatch.setenv("TRAINVITALS_ALERT_URLS", sink.url("http", "/SECRET"))
    assert main(["notify", "--test"]) == 0
    assert capsys.readouterr().out == f"http://127.0.0.1:{sink.port}: delivered\n"
    (body,) = sink.received
    assert (body["title"], body["severity"]) == ("info: a test message of trainvitals", "info")
    assert sink.paths == ["/SECRET"]


def test_a_target_that_does_not(sink: Sink, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is told by itself; exit code 1."""
    sink.answers = [403]
    assert main(["notify", "--test", "--notify", sink.url(), "--notify", "form://127.0.0.1:1/SECRET"]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"json://127.0.0.1:{sink.port}: expected an answer of 2xx, got 403",
        "form://...: the service did not take it",
    ]
    assert "SECRET" not in out + err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--test"], "expected a notification target in TRAINVITALS_ALERT_URLS or with --notify; got none"),
        (["--test", "--notify", "SECRET"], "got one without a scheme"),
        ([], "--test"),
    ],
)
def test_a_wrong_call_is_one_line(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With exit code 2."""
    assert main(["notify", *arguments]) == 2
    err = capsys.readouterr().err
    assert reason in err
    assert len(err.splitlines()) == 1
    assert "SECRET" not in err


def test_its_page_names_what_exists(capsys: pytest.CaptureFixture[str]) -> None:
    """Commands and options of docs/notifications.md; at most 40 lines."""
    page = (Path(__file__).parents[3] / "docs" / "notifications.md").read_text()
    assert len(page.splitlines()) <= 40
    commands = re.findall(r"^    trainvitals (\w+)(.*?)  +# (.*)$", page, re.M)
    assert [verb for verb, _, _ in commands] == ["notify", "serve"]
    for verb, options, comment in commands:
        assert main([verb, "--help"]) == 0
        text = capsys.readouterr().out
        assert all(option in text for option in re.findall(r"--\w+", f"{options} {comment}"))
