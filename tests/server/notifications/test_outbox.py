"""What goes into the outbox, and what does not."""

from collections import Counter
from typing import Any

import pytest

from served import frame, identify, layout
from trainvitals import wire
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.notifications import outbox
from trainvitals_server.notifications.outbox import KEPT_FOR_ENDINGS, PER_HOUR
from trainvitals_server.notifications.sender import Sender
from trainvitals_server.runs import ticker, transitions
from trainvitals_server.store import events, runs

LOSS = layout(("", wire.RUN, wire.LOSS))
GOOD = [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]
BAD = [0.0, 0.0, 1.0, float("inf"), 3.0, 0.0]


def rules(ward: Any) -> list[str | None]:
    return [row["body"].rule for row in ward.outbox()]


async def test_without_a_target_nothing_is_put_in(opened: Any) -> None:
    """There would be nobody to take it out."""
    async with opened() as ward:
        await ward.break_layers("a.1")
        assert ward.outbox() == []


async def test_many_layers_of_one_rule_are_one_message(ward: Any) -> None:
    """Told with their number; the texts of a few."""
    await ward.break_layers(*[f"layer.{place}" for place in range(37)])
    (message,) = [row["body"] for row in ward.outbox() if row["body"].rule == "norm_nonfinite"]
    assert message.title.endswith("on 37 layers (run-1)")
    assert message.layer is None
    assert message.text.splitlines()[-2:] == ["And 32 more.", "Run run-1, step 5, rule norm_nonfinite."]


async def test_what_goes_on_is_told_once_and_what_comes_back_again(ward: Any) -> None:
    """Under another id, since it is another event."""
    who = await ward.break_layers("a.1")
    await ward.tell(who, frame(6, BAD, time=ward.hands.now))
    assert rules(ward).count("norm_nonfinite") == 1
    await ward.tell(who, *[frame(step, GOOD, time=ward.hands.now) for step in range(7, 300)])
    await ward.tell(who, frame(300, BAD, time=ward.hands.now))
    first, second = [row["body"] for row in ward.outbox() if row["body"].rule == "norm_nonfinite"]
    assert second.title == first.title.replace(" (run-1)", " again (run-1)")
    assert first.id != second.id


async def test_what_comes_and_goes_within_one_batch_is_one_message(ward: Any) -> None:
    """Of one layer."""
    who = await ward.hello()
    await ward.tell(who, layout(*[("a.1", wire.NORM, stat) for stat in wire.NORM_STATS]))
    flicker = [frame(step, GOOD if step % 150 else BAD, time=ward.hands.now) for step in range(450)]
    await ward.tell(who, *flicker)
    (message,) = [row["body"] for row in ward.outbox() if row["body"].rule == "norm_nonfinite"]
    assert message.title.endswith("in a.1 again (run-1)")


async def test_an_alert_that_becomes_critical_is_told_again(ward: Any) -> None:
    """Headroom that was short and is now gone."""
    who = await ward.hello()
    await ward.tell(who, layout(("a.1", wire.INPUT, wire.HEADROOM)))
    for step, room in enumerate((4.0, 4.0, 1.2, 1.2)):
        await ward.tell(who, frame(step, [room], time=ward.hands.now))
    told = [row["body"] for row in ward.outbox() if row["body"].rule == "headroom"]
    assert [one.severity for one in told] == ["warning", "critical"]
    assert told[1].title.endswith("in a.1, now critical (run-1)")


@pytest.mark.parametrize(("age", "told"), [(3500.0, True), (3700.0, False)])
async def test_old_news_is_stored_and_nobody_is_called(
    ward: Any, age: float, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """By the time that the trainer gives; the alert is there all the same."""
    who = await ward.break_layers("a.1", age=age)
    await ward.tell(who, wire.Lifecycle(step=6, time=ward.hands.now - age, state="failed", error="ValueError: no"))
    assert bool(ward.outbox()) is told
    assert ("nobody is notified" in caplog.text) is not told
    summary = ward.parts.summaries.of("run-1")
    assert (summary["state"], summary["open_alerts"] > 0) == ("failed", True)


async def test_a_failed_run_is_told_with_its_exception(ward: Any) -> None:
    """Once, however often the trainer says so."""
    who = await ward.hello()
    end = wire.Lifecycle(step=4, time=ward.hands.now, state="failed", error="ValueError: no")
    await ward.tell(who, LOSS, frame(3, [1.0], time=ward.hands.now), end, end)
    (row,) = ward.outbox()
    assert row["body"].title == "critical: the run run-1 has failed"
    assert row["body"].text == "The run run-1 has failed at step 4: ValueError: no"


@pytest.mark.parametrize(
    ("age", "silence", "told"),
    [(0.0, 61.0, 2), (10_000.0, 61.0, 0), (0.0, 8000.0, 1)],
    ids=["live until now", "a spool found late", "connected, and silent for hours"],
)
async def test_a_lost_run_is_told_unless_its_spool_was_found_late(
    ward: Any, age: float, silence: float, told: int
) -> None:
    """Each time it is lost, but not of what it told hours ago already."""
    who = await ward.hello(started=ward.hands.now - age)
    ward.parts.pulse.connect(who.run, who.id, ward.hands.now)
    await ward.tell(who, LOSS, *[frame(step, [1.0], time=ward.hands.now - age + step / 8) for step in range(9)])
    for expected in (1, 2):
        for seconds in (61.0, silence):
            ward.hands.turn(seconds)
            await ticker.tick(ward.parts, touch=False)
        ward.parts.pulse.disconnect(who.run, who.id, ward.hands.now)
        ward.hands.turn(61)
        await ticker.tick(ward.parts, touch=False)
        await ward.parts.write(lambda tx: None)
        assert [row["body"].title for row in ward.outbox()] == ["warning: the run run-1 is lost"] * min(expected, told)
        ward.parts.pulse.connect(who.run, who.id, ward.hands.now)
        await ticker.tick(ward.parts, touch=False)
        await ward.parts.write(lambda tx: None)
    assert len({row["id"] for row in ward.outbox()}) == told


async def test_a_storm_becomes_one_message_an_hour(ward: Any, sink: Any) -> None:
    """At most so many of a run, the last of which are kept for its end; another run's are its own."""
    who = await ward.hello()
    await ward.tell(who, layout(*[(f"a.{n}", wire.NORM, stat) for n in range(40) for stat in wire.NORM_STATS]))
    values = GOOD * 40
    for layer in range(40):
        values[6 * layer : 6 * layer + 6] = BAD
        await ward.tell(who, frame(layer, values, time=ward.hands.now))
    await ward.tell(who, wire.Lifecycle(step=41, time=ward.hands.now, state="failed", error="ValueError: no"))
    await ward.break_layers("b.1", name="run-2")
    sender = Sender(ward.parts)
    while await sender.send_due():
        pass
    alarms = PER_HOUR - KEPT_FOR_ENDINGS
    assert Counter(body["run"] for body in sink.received)["run-1"] == alarms + 1
    assert "the run run-1 has failed" in next(body["title"] for body in sink.received if body["rule"] is None)
    assert [body for body in sink.received if body["run"] == "run-2"]
    (digest,) = [row for row in ward.outbox() if row["held"]]
    ward.hands.turn(3599)
    assert await sender.send_due() == 0
    ward.hands.turn(1)
    assert await sender.send_due() == 1
    assert sink.received[-1]["title"] == f"And {digest['held']} more notifications of run-1"
    assert digest["held"] == 40 - alarms
    assert sink.received[-1]["severity"] == "critical"
    assert "were held back. The last of them:" in sink.received[-1]["text"]


async def test_hostile_names_are_only_to_be_read(ward: Any) -> None:
    """Control characters, right-to-left marks, lone surrogates, 10 kB."""
    layer = "a\x1b[2J\r\nBcc: x\u202e" + "z" * 10_000
    who = await ward.hello(name="n\x00\u2066" * 4000)
    await ward.tell(who, layout(*[(layer, wire.NORM, stat) for stat in wire.NORM_STATS]))
    await ward.tell(who, frame(5, BAD, time=ward.hands.now))
    error = "E\x07" * 5000
    await ward.tell(who, wire.Lifecycle(step=6, time=ward.hands.now, state="failed", error=error))
    assert len(ward.outbox()) >= 2
    for message in (row["body"] for row in ward.outbox()):
        assert len(message.title) <= 200
        assert len(message.text) <= 2000
        assert (message.title + (message.layer or "")).isprintable()
        assert message.text.replace("\n", "").isprintable()
        assert "\nBcc" not in message.text


async def test_what_is_rolled_back_tells_nobody(ward: Any) -> None:
    """The message is in the transaction of what it tells of."""

    def work(tx: Transaction) -> None:
        runs.enter(tx.connection, identify("run-9", started=ward.hands.now), tx.now)
        transitions.signal(tx, "run-9", "failed", "no")
        assert tx.notable
        raise KeyError("undone")

    with pytest.raises(KeyError):
        await ward.parts.write(work)
    assert ward.outbox() == []


async def test_a_message_that_cannot_be_made_costs_no_record(
    ward: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged; the alert, and what came with it, is stored."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(outbox, "compose", fail)
    who = await ward.break_layers("a.1")
    await ward.tell(who, wire.Notice(step=6, time=ward.hands.now, code="x", text="y"))
    assert ward.outbox() == []
    assert "a notification could not be made" in caplog.text
    with ward.parts.database.reading() as connection:
        assert events.count(connection, "run-1") == 1
        assert runs.frame_count(connection, "run-1") == 1
    assert ward.parts.summaries.of("run-1")["open_alerts"] > 0
