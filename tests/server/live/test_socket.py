"""The live socket, over a real connection."""

import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from websockets.sync.client import ClientConnection, connect

from served import Served, close_of, frame, layout, subscription, until
from trainvitals import wire

COLUMNS = [("", wire.RUN, wire.LOSS), ("bn", wire.NORM, wire.NONFINITE_CHANNELS)]


def receive(socket: ClientConnection) -> Any:
    """The next message: JSON decoded, a frame as bytes."""
    message = socket.recv(10)
    return json.loads(message) if isinstance(message, str) else message


def first(socket: ClientConnection, wanted: Callable[[Any], bool]) -> Any:
    """The first message that is wanted."""
    while True:
        message = receive(socket)
        if wanted(message):
            return message


def of_type(kind: str) -> Callable[[Any], bool]:
    return lambda message: isinstance(message, dict) and message["type"] == kind


def decode(data: bytes) -> tuple[dict[str, Any], np.ndarray, bytes]:
    names = ("magic", "layout", "n", "flags", "step", "time", "rank", "reserved")
    head = dict(zip(names, struct.unpack_from("<IIIIddII", data), strict=True))
    return head, np.frombuffer(data, "<f4", head["n"], 40), data[40 + 4 * head["n"] :]


def test_a_follower_is_told_what_is_there_and_then_what_comes(served: Served) -> None:
    """config, run, series, alerts; then layouts before frames, events, alerts, summaries."""
    with served.trainer() as trainer:
        trainer.hello()
        trainer.store(layout(*COLUMNS), frame(0, [1.0, 0.0]))
        with served.live("run-1") as browser:
            start = [receive(browser) for _ in range(4)]
            assert [message["type"] for message in start] == ["config", "run", "series", "alerts"]
            assert (start[0]["role"], start[0]["version"]) == ("view", "0.1.0")
            assert all({"id", "title", "figure", "kind"} <= set(panel) for panel in start[0]["panels"])
            assert start[1]["run"]["step"] == 0
            assert [one["stat"] for one in start[2]["series"]] == ["loss", "nonfinite_channels"]
            trainer.store(frame(1, [float("nan"), None]), frame(2, [0.5, 3.0]))
            known = first(browser, of_type("layout"))
            head, values, bitmap = decode(receive(browser))
            assert (head["magic"], head["layout"], head["n"], head["flags"]) == (0x31465654, known["layout"], 2, 1)
            assert (head["step"], head["time"], head["rank"]) == (1.0, 1e6 + 1, 0)
            assert np.isnan(values[0])
            assert bitmap == b"\x01"
            head, values, bitmap = decode(first(browser, lambda message: isinstance(message, bytes)))
            assert (head["flags"], values.tolist(), bitmap) == (0, [0.5, 3.0], b"")
            assert known["series"] == [one["id"] for one in start[2]["series"]]
            trainer.store(wire.NonFinite(step=2, time=1e6, layer="bn", signal="running_statistics", kind="nan"))
            assert first(browser, of_type("events"))["events"][0]["layer"] == "bn"
            assert first(browser, lambda m: of_type("run")(m) and m["run"]["verdict"]["level"] == "critical")


def test_alerts_and_new_series_come_by_themselves(served: Served) -> None:
    """Without another question."""
    with served.trainer() as trainer:
        trainer.hello()
        with served.live("run-1") as browser:
            first(browser, of_type("alerts"))
            trainer.store(layout(*COLUMNS), frame(0, [1.0, 4.0]))
            assert len(first(browser, of_type("series"))["series"]) == 2
            assert first(browser, of_type("alerts"))["alerts"][0]["rule"] == "norm_nonfinite"


def test_the_list_of_runs_is_told_at_once_and_on_change(served: Served) -> None:
    """For the page that shows them all."""
    with served.live(None) as browser:
        assert receive(browser)["type"] == "config"
        assert receive(browser) == {"type": "runs", "runs": []}
        with served.trainer() as trainer:
            trainer.hello()
            changed = first(browser, lambda message: of_type("runs")(message) and message["runs"])
            assert changed["runs"][0]["state"] == "starting"


def test_a_client_may_follow_another_run(served: Served) -> None:
    """And hears no more of the one before."""
    with served.trainer() as one, served.trainer("run-2") as two:
        one.hello()
        two.hello()
        for trainer in (one, two):
            trainer.store(layout(*COLUMNS))
        with served.live("run-1") as browser:
            first(browser, of_type("alerts"))
            browser.send(subscription("run-2"))
            first(browser, of_type("alerts"))
            one.store(frame(1, [1.0, 0.0]))
            two.store(frame(2, [2.0, 0.0]))
            head, _, _ = decode(first(browser, lambda message: isinstance(message, bytes)))
            assert head["step"] == 2.0


def test_frames_that_a_newer_producer_hides_are_not_shown(served: Served) -> None:
    """A recovered spool of the process before does not disturb the curves."""
    with served.trainer() as old, served.trainer(producer="p-2", started=2.0) as new:
        old.hello()
        new.hello()
        new.store(layout(*COLUMNS), frame(5, [5.0, 0.0]))
        with served.live("run-1") as browser:
            first(browser, of_type("alerts"))
            old.store(layout(*COLUMNS), frame(6, [1.0, 0.0]))
            new.store(frame(7, [7.0, 0.0]))
            head, values, _ = decode(first(browser, lambda message: isinstance(message, bytes)))
            assert (head["step"], values[0]) == (7.0, 7.0)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (subscription("unknown"), "expected the id of a run"),
        ("not json", "expected a subscription"),
        ('{"type":"subscribe"}', "expected a subscription"),
        ('{"type":"other","run":null}', "expected a subscription"),
        (b"\x00\x01", "expected a subscription"),
        (b'{"type":"subscribe","run":"\xff\xfe"}', "expected a subscription"),
        ('{"type":"subscribe","run":null,"x":' + "[" * 50_000, "expected a subscription"),
        (subscription("€" * 60), "expected the id of a run"),
    ],
)
def test_a_wrong_first_message_is_answered_by_1008(shared: Served, message: str | bytes, reason: str) -> None:
    """With the reason."""
    address = shared.url.replace("http", "ws", 1) + "/ws/live"
    with connect(address, additional_headers=shared.headers("view"), proxy=None) as socket:
        socket.send(message)
        assert_closed(socket, 1008, reason)


def test_no_first_message_is_answered_by_1008(shared: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """After five seconds, which are fewer here."""
    monkeypatch.setattr("trainvitals_server.live.socket.FIRST_SECONDS", 0.1)
    monkeypatch.setattr("trainvitals_server.ingest.socket.HELLO_SECONDS", 0.1)
    for path, role in (("/ws/live", "view"), ("/ws/trainer", "ingest")):
        address = shared.url.replace("http", "ws", 1) + path
        with connect(address, additional_headers=shared.headers(role), proxy=None) as socket:  # type: ignore[arg-type]
            assert_closed(socket, 1008, "within 0.1 s, got none")


def test_sockets_count_before_they_subscribe(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever says nothing takes a place too, and the next one is told that there is none."""
    monkeypatch.setattr("trainvitals_server.live.socket.MAX_CLIENTS", 1)
    address = served.url.replace("http", "ws", 1) + "/ws/live"
    with connect(address, additional_headers=served.headers("view"), proxy=None):
        until(lambda: len(served.service.parts.hub.clients) == 1)
        with connect(address, additional_headers=served.headers("view"), proxy=None) as second:
            assert_closed(second, 1013, "expected at most 1 live sockets")


def assert_closed(socket: ClientConnection, code: int, reason: str) -> None:
    found = close_of(socket)
    assert (found[0], reason in found[1]) == (code, True), found


def test_a_client_that_does_not_read_is_told_what_it_missed_or_expelled_and_hurts_nobody(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames are dropped, then the client is closed with 1013; the other one gets every frame."""
    monkeypatch.setattr("trainvitals_server.live.socket.STUCK_SECONDS", 1.0)
    monkeypatch.setattr("trainvitals_server.live.client.MAX_FRAMES", 20)
    columns = [(f"p.{place}", wire.PARAMETER, wire.GRAD_NORM) for place in range(5000)]
    values = [1.0] * len(columns)
    with served.trainer() as trainer:
        trainer.hello()
        for start in range(0, 5000, 500):
            some = layout(*columns).series[start : start + 500]
            trainer.store(wire.Layout(id=1, offset=start, total=5000, series=some))
        with served.live("run-1", max_queue=1) as lazy, served.live("run-1") as eager:
            first(eager, of_type("alerts"))
            step = seen = 0
            stuck = served.service.parts.hub
            while len(stuck.clients) == 2 or stuck.dropped + sum(one.dropped for one in stuck.clients) == 0:
                trainer.store(*[frame(step + n, values) for n in range(5)])
                step += 5
                while seen < step:
                    head, _, _ = decode(first(eager, lambda message: isinstance(message, bytes)))
                    assert head["step"] == seen
                    seen += 1
                assert step < 5_000, "the lazy client was never expelled"
            assert stuck.dropped > 0
            assert_closed(lazy, 1013, "nothing was read for 1 s")
