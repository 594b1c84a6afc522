"""A client's lanes: what is kept, replaced, dropped."""

import json
from typing import Any

import pytest

from trainvitals_server.live import client as client_module
from trainvitals_server.live.client import Client


def taken(client: Client) -> list[Any]:
    return [json.loads(one) if isinstance(one, str) else one for one in client.take()]


def test_messages_keep_their_order_and_go_before_frames() -> None:
    """A layout must be known before the first frame that uses it."""
    client = Client()
    client.show(1, b"frame")
    client.tell({"type": "layout"})
    client.tell({"type": "events"})
    assert taken(client) == [{"type": "layout"}, {"type": "events"}, b"frame"]
    assert taken(client) == []
    assert not client.ready.is_set()


def test_of_notices_only_the_latest_of_a_kind_counts() -> None:
    """A summary that was not read is out of date."""
    client = Client()
    for step in range(5):
        client.notify("run", f'{{"step":{step}}}'.encode())
    client.notify("heartbeat", b"{}")
    assert taken(client) == [{"step": 4}, {}]


def test_the_oldest_frames_are_dropped_and_the_client_is_told_which() -> None:
    """Memory is bounded, and nothing is missing without a word."""
    client = Client()
    for step in range(client_module.MAX_FRAMES + 10):
        client.show(step, b"x")
    assert taken(client)[0] == {"type": "dropped", "from": 0, "to": 9}
    big = b"x" * (client_module.MAX_FRAME_BYTES // 4)
    for step in range(10):
        client.show(step, big)
    found = taken(client)
    assert found[0] == {"type": "dropped", "from": 0, "to": 5}
    assert len(found) == 5
    assert client.dropped == 16


def test_too_many_messages_mark_the_client_as_overrun() -> None:
    """It is expelled rather than fed from memory for ever."""
    client = Client()
    for _ in range(client_module.MAX_MESSAGES):
        client.tell({})
    assert not client.overrun
    client.tell({})
    assert client.overrun


def test_nothing_is_kept_for_a_client_that_is_to_be_expelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what was queued nor what comes; few but big messages count too. It is woken to be told so."""
    monkeypatch.setattr(client_module, "MAX_MESSAGE_BYTES", 100)
    client = Client()
    client.show(1, b"frame")
    client.tell_text(b"x" * 101)
    assert (client.overrun, client.ready.is_set()) == (True, True)
    client.tell({})
    client.notify("run", b"{}")
    client.show(2, b"frame")
    assert taken(client) == []


def test_following_another_run_voids_what_was_queued() -> None:
    """Nothing of the run before reaches the page of the next."""
    client = Client()
    client.tell({"old": 1})
    client.show(1, b"old")
    client.notify("run", b"{}")
    client.layouts.add(3)
    client.follow("other", 0)
    assert taken(client) == []
    assert client.layouts == set()
