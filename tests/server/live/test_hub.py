"""Fan-out, where what is to be told cannot be."""

import json
import logging

import msgspec
import pytest

from served import Served, layout
from trainvitals import wire
from trainvitals_server.changes import Changes
from trainvitals_server.live.client import Client
from trainvitals_server.live.hub import Hub
from trainvitals_server.store import events, series


def changes(*, broken: object, well: series.Row) -> Changes:
    """Two runs: of the first, something that has no JSON; of the second, a new series."""
    found = Changes()
    found["broken"].series.append(broken)  # type: ignore[arg-type]
    found["well"].series.append(well)
    return found


def test_a_run_that_cannot_be_told_does_not_silence_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the next run's followers hear what they wait for."""
    hub, clients = Hub(), [Client(), Client()]
    for client, run in zip(clients, ("broken", "well"), strict=True):
        client.follow(run, 0)
        hub.join(client)
    with caplog.at_level(logging.ERROR):
        hub.publish(changes(broken=object(), well=series.Row(1, "bn", "norm", "var_max", 0)))
    assert [len(client.take()) for client in clients] == [0, 1]
    assert "run broken could not be told" in caplog.text


def test_a_commit_reaches_browsers_whatever_else_fails(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each part of the server is told by itself."""

    def fail(changes: Changes) -> None:
        raise RuntimeError(f"expected to be told of no run, got {list(changes)}")

    with served.trainer() as trainer, caplog.at_level(logging.ERROR):
        trainer.hello()
        with served.live("run-1") as browser:
            while json.loads(browser.recv(10))["type"] != "alerts":
                pass
            monkeypatch.setattr(served.service.parts.summaries, "note", fail)
            trainer.store(layout(("bn", wire.NORM, wire.VAR_MAX)))
            while json.loads(browser.recv(10))["type"] != "series":
                pass
    assert "run run-1 could not be passed on" in caplog.text


def test_what_json_has_no_word_for_is_shown_all_the_same() -> None:
    """An extension type inside a command's result becomes text."""
    result = {"odd": msgspec.msgpack.Ext(5, b"aa")}
    told = events.fields(wire.CommandUpdate(step=1, time=1.0, id="c", state="applied", result=result))
    assert "Ext" in str(told["result"])
