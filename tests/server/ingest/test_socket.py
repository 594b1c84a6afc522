"""A trainer's connection, over real sockets."""

import sqlite3
from pathlib import Path

import msgspec
import pytest

from served import Served, close_of, frame, layout, until
from trainvitals import wire
from trainvitals_server.ingest.socket import Link
from trainvitals_server.store.runs import Producer

LOSS = ("", wire.RUN, wire.LOSS)
DEEP: dict[str, object] = {}
for _ in range(100):
    DEEP = {"deeper": DEEP}


def update(result: dict[str, object]) -> wire.CommandUpdate:
    """A report with this result."""
    return wire.CommandUpdate(step=1, time=1e6, id="x", state="applied", result=result)


def closed(served: Served, message: bytes) -> int:
    """How the server closes after this message."""
    with served.trainer() as trainer:
        trainer.socket.send(message)
        return close_of(trainer.socket)[0]


def test_records_are_acked_once_they_are_on_the_disk(served: Served) -> None:
    """What was acked, another connection to the database sees."""
    with served.trainer() as trainer:
        assert trainer.hello() == wire.Welcome(protocol=wire.PROTOCOL, committed=-1)
        assert trainer.store(layout(LOSS), frame(0, [0.5]), frame(1, [0.25])).seq == 2
        with sqlite3.connect(served.directory / "trainvitals.db") as connection:
            assert connection.execute("SELECT sum(n) FROM frames").fetchone()[0] == 2
        connection.close()


def test_a_trainer_that_comes_back_goes_on_behind_what_is_committed(served: Served) -> None:
    """Records sent twice are acked and stored once."""
    with served.trainer() as trainer:
        trainer.hello()
        trainer.store(layout(LOSS), frame(0, [0.0]), frame(1, [1.0]))
    with served.trainer() as trainer:
        assert trainer.hello(next=5).committed == 2
        trainer.send(layout(LOSS), frame(0, [0.0]), frame(1, [1.0]), frame(2, [2.0]), first=0)
        assert trainer.hear(wire.Ack).seq == 3
        trainer.send(frame(1, [1.0]), first=2)
        assert trainer.hear(wire.Ack).seq == 3
    assert served.get("/api/runs/run-1")["counts"]["frames"] == 3


def test_a_hole_is_nacked_and_filled(served: Served) -> None:
    """Nothing behind it is stored before."""
    with served.trainer() as trainer:
        trainer.hello()
        trainer.store(layout(LOSS))
        trainer.send(frame(5, [5.0]), first=4)
        assert trainer.hear(wire.Nack) == wire.Nack(kind="gap", seq=1)
        assert served.get("/api/runs/run-1")["counts"]["frames"] == 0
        trainer.send(frame(1, [1.0]), frame(2, [2.0]), first=1)
        assert trainer.hear(wire.Ack).seq == 2


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"\x81", "truncated"),
        (b"\x81\xa1t\xa3abc", "abc"),
        (wire.encode(update({"a": {"b": [msgspec.msgpack.Ext(5, b"1")]}})), "expected in result what JSON can hold"),
        (wire.encode(update(DEEP)), "expected at most 48 levels in result"),
        (wire.encode(frame(1, [1.0], number=9)), "expected a declared layout, got 9"),
        (wire.encode(frame(1, [1.0, 2.0])), "expected 4 bytes of values"),
        (wire.encode(frame(0, [1.0])), "expected a step after 0, got 0"),
        (wire.encode(frame(1 << 60, [1.0])), "expected a step from 0"),
        (wire.encode(frame(1, [1.0], time=float("nan"))), "expected a time"),
        (wire.encode(layout(LOSS, LOSS)), "expected layout 1 to have 1 columns"),
        (wire.encode(layout(("x", wire.RUN, "other"))), "expected the series of layout 1 to stay"),
        (wire.encode(wire.Layout(id=2, offset=0, total=10**9, series=[])), "expected 1 to 50000 columns"),
    ],
)
def test_a_record_that_cannot_be_used_is_set_aside_and_the_stream_goes_on(
    served: Served, record: bytes, reason: str
) -> None:
    """It is named, kept, counted, and no other record suffers."""
    with served.trainer() as trainer:
        trainer.hello()
        trainer.store(layout(LOSS), frame(0, [0.0]))
        trainer.send(record, frame(7, [7.0]))
        nack = trainer.hear(wire.Nack)
        assert (nack.kind, nack.seq) == ("permanent", 2)
        assert reason in nack.reason
        assert trainer.hear(wire.Ack).seq == 3
    data = served.get("/api/runs/run-1/data", series="1")
    assert data["series"][0]["step"] == [0, 7]
    assert "trainvitals_quarantined_total 1\n" in served.ask("GET", "/metrics").text


def test_what_the_trainer_no_longer_holds_becomes_a_gap(served: Served) -> None:
    """A server that lost its database does not ask for ever."""
    with served.trainer() as trainer:
        assert trainer.hello(first=100, next=120).committed == 99
        assert trainer.store(layout(LOSS)).seq == 100
    gaps = served.get("/api/runs/run-1/events", type="gap")["events"]
    assert gaps[0]["data"]["through"] == 99
    assert [(gap["seq"], gap["data"]["count"]) for gap in gaps] == [(0, 100)]
    assert served.get("/api/runs/run-1")["producers"][0]["dropped"] == 100


def test_a_newer_connection_of_a_producer_displaces_the_older(served: Served) -> None:
    """And only that one."""
    with served.trainer() as older, served.trainer(producer="p-2") as other, served.trainer() as newer:
        older.hello()
        other.hello()
        newer.hello()
        assert close_of(older.socket) == (1008, "displaced by a newer connection of the same producer")
        newer.store(layout(LOSS))
        other.store(layout(LOSS))
        connected = [one["connected"] for one in served.get("/api/runs/run-1")["producers"]]
        assert connected == [True, True]
    until(lambda: not any(one["connected"] for one in served.get("/api/runs/run-1")["producers"]))


def test_a_connection_that_fails_before_it_streams_leaves_nobody_connected(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trainer that is gone must not look alive."""
    before = Link._waiting

    def fail(link: Link, producer: Producer) -> list[dict[str, object]]:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(Link, "_waiting", fail)
    with served.trainer() as trainer:
        trainer.say(wire.Hello(protocol=wire.PROTOCOL, identity=trainer.identity, first=0, next=0))
        assert close_of(trainer.socket)[0] == 1013
    until(lambda: not served.get("/api/runs/run-1")["connected"])
    monkeypatch.setattr(Link, "_waiting", before)
    with served.trainer() as trainer:
        trainer.hello()


def test_a_message_out_of_turn_or_undecodable_closes_the_connection(served: Served) -> None:
    """With a code and a reason; other connections are unharmed."""
    assert closed(served, wire.encode(wire.Batch(first=0, records=[]))) == 1008
    assert closed(served, b"\xc1") == 1007
    with served.trainer() as trainer:
        length = (wire.MAX_MESSAGE_BYTES + 1).to_bytes(8, "big")
        trainer.socket.socket.sendall(b"\x82\xff" + length + b"mask")  # the head of a frame that would be too long
        assert close_of(trainer.socket)[0] == 1009
    with served.trainer() as trainer:
        trainer.hello()


def test_a_database_that_cannot_be_written_costs_time_and_nothing_else(
    private_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`nack retry`, 503 for load balancers, and all is well once the other process lets go."""
    monkeypatch.setattr("trainvitals_server.store.database.BUSY_SECONDS", 0.05)
    with Served(private_home) as served, served.trainer() as trainer:
        trainer.hello()
        trainer.store(layout(LOSS))
        with sqlite3.connect(private_home / "trainvitals.db", isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            trainer.send(frame(0, [0.0]))
            nack = trainer.hear(wire.Nack)
            assert (nack.kind, nack.seq, nack.after) == ("retry", 1, 1.0)
            refused = served.ask("GET", "/readyz", None)
            assert (refused.status_code, "locked" in refused.json()["detail"]) == (503, True)
            assert (
                served.ask(
                    "POST", "/api/runs/run-1/commands", "control", json={"action": "undo", "of": "x"}
                ).status_code
                == 503
            )
            other.execute("ROLLBACK")
        other.close()
        until(lambda: served.ask("GET", "/readyz", None).status_code == 200)
        trainer.send(frame(0, [0.0]), first=1)
        assert trainer.hear(wire.Ack).seq == 1


def test_two_producers_of_one_run_are_both_kept(served: Served) -> None:
    """Each has its own watermark; the newer one hides the older from its first step on."""
    with served.trainer() as first, served.trainer(producer="p-2", started=2.0) as second:
        first.hello()
        first.store(layout(LOSS), *[frame(step, [1.0]) for step in range(10)])
        second.hello()
        second.store(layout(LOSS), *[frame(step, [2.0]) for step in range(6, 12)])
    both = served.get("/api/runs/run-1/data", series="1")["series"][0]
    assert both["step"] == list(range(12))
    assert both["first"] == [1.0] * 6 + [2.0] * 6
    older = served.get("/api/runs/run-1/data", series="1", producer="p-1")["series"][0]
    assert older["first"] == [1.0] * 10


def test_layouts_may_come_in_pieces_and_change_the_forward_order(served: Served) -> None:
    """The last piece completes it; a piece that comes again moves its series."""
    series = [wire.Series(place, f"layer.{place}", wire.NORM, wire.VAR_MAX, place) for place in range(3)]
    with served.trainer() as trainer:
        trainer.hello()
        trainer.store(wire.Layout(id=1, offset=0, total=3, series=series[:2]))
        trainer.send(frame(0, [1.0, 2.0, 3.0]))
        assert trainer.hear(wire.Nack).kind == "permanent"
        trainer.hear(wire.Ack)
        trainer.store(wire.Layout(id=1, offset=2, total=3, series=series[2:]), frame(1, [1.0, 2.0, 3.0]))
        moved = [wire.Series(one.id, one.layer, one.kind, one.stat, 10 - one.order) for one in series]
        trainer.store(wire.Layout(id=1, offset=0, total=3, series=moved), frame(2, [4.0, 5.0, 6.0]))
    listed = served.get("/api/runs/run-1/series")["series"]
    assert [(one["layer"], one["order"]) for one in listed] == [("layer.2", 8), ("layer.1", 9), ("layer.0", 10)]
    assert sorted(served.get("/api/runs/run-1/at", step=2)["values"].values()) == [4.0, 5.0, 6.0]


def test_layouts_may_be_told_ahead_of_what_is_left_of_the_records(served: Served) -> None:
    """Of a database that was restored from a backup: the frames that come again can be read."""
    with served.trainer() as trainer:
        assert trainer.hello(first=50, next=60).committed == 49
        trainer.say(wire.Layouts(records=[wire.encode(layout(LOSS)), b"\x81\xa1t\xa1x", wire.encode(frame(1, [0.0]))]))
        assert trainer.store(frame(3, [1.5])).seq == 50
    (series,) = served.get("/api/runs/run-1/series")["series"]
    data = served.get("/api/runs/run-1/data", series=series["id"])
    assert data["series"][0]["last"] == [1.5]
