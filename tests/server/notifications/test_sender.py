"""What is sent, how often, and what a receiver's faults cost."""

import asyncio
import threading
import time
from typing import Any

import pytest

from served import Served, frame, layout, until
from sink import Sink
from trainvitals import wire
from trainvitals_server.notifications import targets, webhook
from trainvitals_server.notifications.sender import LEASE_SECONDS, LONGEST_PAUSE, MOST_TRIES, Sender
from trainvitals_server.store import notifications

LOSS = layout(("", wire.RUN, wire.LOSS))


async def test_an_alert_reaches_a_webhook_once(ward: Any, sink: Sink) -> None:
    """With everything a receiver needs, and a key to tell repeats by."""
    await ward.break_layers("decoder.0.1")
    assert await Sender(ward.parts).send_due() >= 1
    (body,) = [one for one in sink.received if one["rule"] == "norm_nonfinite"]
    assert body["title"].endswith("in decoder.0.1 (run-1)")
    assert (body["severity"], body["run"], body["layer"], body["step"]) == ("critical", "run-1", "decoder.0.1", 5)
    assert body["url"] == "http://localhost:8787/runs/run-1?step=5"
    assert body["time"] == "1970-01-12T13:46:40.000Z"
    assert [head["idempotency-key"] for head in sink.headers] == sink.ids
    assert await Sender(ward.parts).send_due() == 0
    assert {one["state"] for one in ward.outbox()} == {"sent"}


async def test_a_receiver_that_recovers_gets_the_same_event(ward: Any, sink: Sink) -> None:
    """500, then 200: two tries, one id."""
    sink.answers = [500, 200]
    who = await ward.hello()
    await ward.tell(who, wire.Lifecycle(step=3, time=ward.hands.now, state="failed", error="ValueError: no"))
    sender = Sender(ward.parts, chance=lambda: 1.0)
    assert await sender.send_due() == 1
    (row,) = ward.outbox()
    assert (row["state"], row["tries"]) == ("waiting", 1)
    assert row["error"] == f"json://127.0.0.1:{sink.port}: expected an answer of 2xx, got 500"
    assert await sender.send_due() == 0  # not before its time
    ward.hands.turn(1)
    assert await sender.send_due() == 1
    assert len(sink.ids) == 2
    assert len(set(sink.ids)) == 1
    assert ward.outbox()[0]["state"] == "sent"


async def test_a_receiver_that_never_recovers_is_tried_eight_times(
    ward: Any, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    """With growing pauses, and then it is said."""
    sink.answers = [500]
    who = await ward.hello()
    await ward.tell(who, wire.Lifecycle(step=3, time=ward.hands.now, state="failed", error="ValueError: no"))
    sender = Sender(ward.parts, chance=lambda: 1.0)
    pauses = []
    for _ in range(30):
        if await sender.send_due():
            pauses.append(ward.outbox()[0]["due"] - ward.hands.now)
        ward.hands.turn(LONGEST_PAUSE)
    assert pauses[:-1] == [1, 3, 9, 27, 81, 243, 300]
    assert len(sink.ids) == MOST_TRIES == 8
    assert len(set(sink.ids)) == 1
    (row,) = ward.outbox()
    assert (row["state"], row["tries"]) == ("failed", 8)
    assert "given up after 8 tries" in caplog.text


async def test_a_target_that_has_it_does_not_get_it_again(opened: Any, sink: Sink) -> None:
    """Because another one fails."""
    async with opened(sink.url("json", "/a"), "json://127.0.0.1:1/b", sink.url("json", "/c")) as ward:
        who = await ward.hello()
        await ward.tell(who, wire.Lifecycle(step=3, time=ward.hands.now, state="failed", error="ValueError: no"))
        sender = Sender(ward.parts)
        for _ in range(3):
            await sender.send_due()
            ward.hands.turn(LONGEST_PAUSE)
        assert sorted(sink.paths) == ["/a", "/c"]
        (row,) = ward.outbox()
        assert row["tries"] == 3
        first = f"json://127.0.0.1:{sink.port}"
        assert row["done"] == [first, f"{first} (2)"]
        assert row["error"].startswith("json://127.0.0.1:1: it cannot be reached: ")


async def test_a_restart_between_sending_and_noting_sends_the_same_id(
    opened: Any, sink: Sink, hands: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least once: not before the lease has run out, which the next server cannot know to be dead."""
    async with opened(sink.url()) as ward:
        who = await ward.hello()
        await ward.tell(who, wire.Lifecycle(step=3, time=hands.now, state="failed", error="ValueError: no"))

        async def die(*_: object) -> None:
            raise asyncio.CancelledError

        with monkeypatch.context() as patch:
            patch.setattr(Sender, "_note", die)
            with pytest.raises(asyncio.CancelledError):
                await Sender(ward.parts).send_due()
    assert len(sink.ids) == 1
    async with opened(sink.url()) as ward:
        assert await Sender(ward.parts).send_due() == 0
        hands.turn(LEASE_SECONDS)
        assert await Sender(ward.parts).send_due() == 1
        assert sink.ids == sink.ids[:1] * 2
        assert ward.outbox()[0]["state"] == "sent"


async def test_a_server_that_dies_of_each_try_does_not_try_for_ever(ward: Any, hands: Any) -> None:
    """A claim counts as a try."""
    who = await ward.hello()
    await ward.tell(who, wire.Lifecycle(step=3, time=hands.now, state="failed", error="ValueError: no"))
    claims = 0
    for _ in range(12):
        claims += len(await Sender(ward.parts)._claim())
        hands.turn(LEASE_SECONDS)
    assert claims == MOST_TRIES
    assert (ward.outbox()[0]["state"], ward.outbox()[0]["error"]) == ("failed", "the server ended during the last try")


async def test_two_servers_share_an_outbox(ward: Any, sink: Sink) -> None:
    """What one has claimed the other leaves alone; one that was too slow notes nothing."""
    who = await ward.hello()
    await ward.tell(who, wire.Lifecycle(step=3, time=ward.hands.now, state="failed", error="ValueError: no"))
    slow, quick = Sender(ward.parts), Sender(ward.parts)
    (claimed,) = await slow._claim()
    assert await quick._claim() == []
    ward.hands.turn(LEASE_SECONDS)
    assert await quick.send_due() == 1
    await slow._note(claimed, [(ward.parts.targets[0], "too slow")])
    assert (ward.outbox()[0]["state"], ward.outbox()[0]["error"]) == ("sent", "")


async def test_a_clock_set_back_holds_nothing_up(ward: Any, sink: Sink) -> None:
    """By a day."""
    who = await ward.hello()
    await ward.tell(who, wire.Lifecycle(step=3, time=ward.hands.now, state="failed", error="ValueError: no"))
    ward.hands.turn(-86400)
    assert await Sender(ward.parts).send_due() == 1
    assert len(sink.ids) == 1


@pytest.mark.parametrize("fault", ["hang", "drip"])
async def test_a_receiver_that_hangs_is_left_after_its_time(
    ward: Any, sink: Sink, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches are committed meanwhile, and the waiting ends by itself: saying nothing, or a byte now and then."""
    sink.answers = [fault]
    monkeypatch.setattr(targets.attempt, "__defaults__", (1.0,))
    monkeypatch.setattr(webhook, "SECONDS", 1.5)
    who = await ward.break_layers("a.1")
    sending = asyncio.create_task(Sender(ward.parts).send_due())
    while not sink.received:
        await asyncio.sleep(0.005)
    step, slowest = 6, 0.0
    while not sending.done() and step < 100_000:
        began = time.monotonic()
        await ward.tell(who, frame(step, [0.0, 0.0, 1.0, 1.0, 0.0, 0.0], time=ward.hands.now))
        slowest, step = max(slowest, time.monotonic() - began), step + 1
    assert sending.done()
    assert step > 10
    assert slowest < 0.9, f"a batch took {slowest:.2f} s while a receiver did not answer"
    assert {row["error"] for row in ward.outbox()} == {f"json://127.0.0.1:{sink.port}: no answer within 1 s"}
    until(lambda: not [one for one in threading.enumerate() if one.name == "trainvitals-notify"], 15)


async def test_what_nobody_could_send_for_a_day_is_given_up(ward: Any, sink: Sink) -> None:
    """Nobody wants yesterday's alarms at once."""
    await ward.break_layers("a.1")
    ward.hands.turn(90_000)
    assert await Sender(ward.parts).send_due() == 0
    assert {row["state"] for row in ward.outbox()} == {"failed"}
    assert sink.received == []


def test_a_running_server_sends_and_counts(private_home: Any, sink: Sink) -> None:
    """Over its real socket, and a receiver that hangs does not hold up its end."""
    sink.answers = [200, "hang"]
    with Served(private_home, notify=(sink.url(),)) as served, served.trainer() as trainer:
        trainer.hello()
        now = time.time()
        trainer.store(LOSS, frame(0, [1.0], time=now))
        trainer.store(wire.Lifecycle(step=1, time=now, state="failed", error="ValueError: no"))
        until(lambda: sink.received)
        until(lambda: "trainvitals_notifications_sent_total 1\n" in served.ask("GET", "/metrics").text)
        text = served.ask("GET", "/metrics").text
        assert "trainvitals_notifications_failed_total 0\n" in text
        assert "trainvitals_notifications_waiting 0\n" in text
        assert sink.received[0]["url"].startswith(served.url)
        trainer.store(frame(2, [1.0], time=now))
        with served.trainer(producer="p-2", started=now) as second:
            second.hello()
            second.store(LOSS, frame(5, [1.0], time=now))
            second.store(wire.Lifecycle(step=6, time=now, state="failed", error="ValueError: again"))
            until(lambda: len(sink.received) == 2)
            began = time.monotonic()
            served.service.stop()
            served._thread.join(20)
            assert time.monotonic() - began < 8


def test_the_newest_schema_keeps_the_outbox_with_its_run(private_home: Any) -> None:
    """A run that is deleted takes its messages with it."""
    from trainvitals_server.store.database import Database

    database = Database(private_home / "x.db")
    with database.reading() as connection:
        assert notifications.counts(connection) == {}
        (key,) = connection.execute("PRAGMA foreign_key_list(notifications)").fetchall()
        assert (key["table"], key["on_delete"]) == ("runs", "CASCADE")
    database.close()
