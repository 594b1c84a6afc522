"""The targets: what reaches them, what they may not make the server do, and what nobody gets to see of them."""

import logging
import subprocess
from typing import Any

import pytest

from sink import Sink, receiving
from trainvitals import wire
from trainvitals_server.notifications.sender import LONGEST_PAUSE, Sender


@pytest.mark.parametrize(
    ("location", "where"),
    [
        ("http://127.0.0.1:{port}/secret-place?key=hidden", "http://127.0.0.1"),
        ("/secret-place", "another path"),
        ("http://[hidden", "what is no address"),
    ],
)
async def test_redirects_are_not_followed(ward: Any, sink: Sink, location: str, where: str) -> None:
    """They are failures that say where they pointed, but not more of it than the host."""
    sink.answers, sink.location = [302], location.format(port=sink.port)
    await ward.break_layers("a.1")
    await Sender(ward.parts).send_due()
    assert not [path for path in sink.paths if path.startswith("GET")]
    assert set(sink.paths) == {"/in"}
    error = ward.outbox()[0]["error"]
    assert error.endswith(f"answered 302, pointing to {where}; redirects are not followed")


async def test_certificates_are_verified(opened: Any, tmp_path: Any) -> None:
    """One that nobody vouches for ends the try before anything is sent."""
    pair = tmp_path / "pair.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=localhost", "-keyout", pair, "-out", pair.with_suffix(".crt"), "-days", "2"]
    subprocess.run([*make, *names], check=True, capture_output=True)
    with receiving(certificate=(pair.with_suffix(".crt"), pair)) as sink:
        async with opened(sink.url("jsons")) as ward:
            await ward.break_layers("a.1")
            await Sender(ward.parts).send_due()
            assert "certificate verify failed" in ward.outbox()[0]["error"]
        assert sink.received == []


async def test_no_secret_is_ever_logged_or_kept(
    opened: Any, sink: Sink, caplog: pytest.LogCaptureFixture, private_home: Any
) -> None:
    """Of the user part, the path, the query and the headers, whatever goes wrong."""
    caplog.set_level(logging.DEBUG)
    secret = "s3cr3t"  # noqa: S105
    urls = [
        f"json://user:{secret}@127.0.0.1:{sink.port}/{secret}?key={secret}&+X-Token={secret}",
        f"json://user:{secret}@127.0.0.1:1/{secret}",
        f"form://user:{secret}@127.0.0.1:1/{secret}",
    ]
    sink.answers, sink.location = [200, 302, 500], f"http://127.0.0.1/{secret}"
    async with opened(*urls) as ward:
        await ward.break_layers("a.1")
        sender = Sender(ward.parts)
        for _ in range(20):
            await sender.send_due()
            ward.hands.turn(LONGEST_PAUSE)
        assert {row["state"] for row in ward.outbox()} == {"failed"}
        told = repr(ward.outbox()) + repr(ward.parts.settings)
    assert sink.paths[0] == f"/{secret}?key={secret}"
    assert (sink.headers[0]["x-token"], sink.headers[0]["authorization"][:6]) == (secret, "Basic ")
    assert "given up" in caplog.text
    kept = b"".join(path.read_bytes() for path in private_home.iterdir() if path.name.startswith("trainvitals.db"))
    assert secret not in caplog.text + told
    assert secret.encode() not in kept


async def test_other_services_go_through_apprise(opened: Any, sink: Sink) -> None:
    """Here with Apprise's own JSON; mentions and mark-up in a name are only to be read."""
    from trainvitals_server.notifications.messenger import Messenger

    async with opened("form://127.0.0.1:1/") as ward:
        ward.parts.targets = [Messenger(sink.url("json", "/apprise"), "apprise://...")]
        who = await ward.hello(name="@everyone <!channel>")
        await ward.tell(who, wire.Lifecycle(step=3, time=ward.hands.now, state="failed", error="ValueError: no"))
        assert await Sender(ward.parts).send_due() == 1
        (row,) = ward.outbox()
        assert row["state"] == "sent"
    (body,) = sink.received
    assert (body["type"], sink.paths) == ("failure", ["/apprise"])
    assert body["title"].startswith("critical: the run \uff20everyone \u2039!channel\u203a has failed")
    assert body["message"].endswith(f"http://localhost:8787/runs/run-1?step=3\nevent {row['id']}")


async def test_a_service_that_apprise_cannot_reach_fails_the_try(opened: Any) -> None:
    """Without its reasons, which repeat the address."""
    async with opened("form://127.0.0.1:1/") as ward:
        await ward.break_layers("a.1")
        await Sender(ward.parts).send_due()
        assert ward.outbox()[0]["error"] == "form://...: the service did not take it"
