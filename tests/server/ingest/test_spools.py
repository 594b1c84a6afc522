"""A server and the spools that ended trainers left on its machine."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from served import Served, until
from spools import append, frame, identity, layout, left, let_go, notice
from trainvitals import wire
from trainvitals.delivery import recovery
from trainvitals.delivery.ledger import Ledger
from trainvitals.delivery.lock import claim
from trainvitals.delivery.recovery import Recovery, find_spools, recover
from trainvitals.delivery.remains import Remains
from trainvitals.delivery.spool import Spool
from trainvitals_server.ingest import spools
from trainvitals_server.ingest.spools import own_address

ENDED = wire.Lifecycle(step=9, time=1e6, state="finished")


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look more often than every three seconds."""
    monkeypatch.setattr(spools, "LOOK", 0.1)


def told(steps: int = 20) -> list[wire.Record]:
    """A short run's records."""
    return [layout(), *[frame(step) for step in range(steps)]]


def producers(served: Served, run: str = "r") -> list[dict[str, Any]]:
    """What the server knows of a run's producers; nothing while it knows no such run."""
    answer = served.ask("GET", f"/api/runs/{run}")
    found: list[dict[str, Any]] = answer.json()["producers"] if answer.is_success else []
    return found


def committed(served: Served, run: str = "r") -> list[int]:
    """Their watermarks."""
    return [one["committed"] for one in producers(served, run)]


def events(served: Served, run: str = "r") -> list[dict[str, Any]]:
    """A run's events."""
    found: list[dict[str, Any]] = served.get(f"/api/runs/{run}/events")["events"]
    return found


def test_what_cannot_be_said_of_an_end_is_not_stored(served: Served) -> None:
    """Frames of an epilogue would come twice. It is answered all the same, so that nobody sends it for ever; and what
    was said once is not said again."""
    epilogue = wire.Batch(
        first=21, records=[wire.encode(frame(20)), b"?", wire.encode(notice(19, "the end"))], epilogue=True
    )
    with served.trainer(run="r", producer="p") as speaker:
        speaker.say(wire.Hello(protocol=wire.PROTOCOL, identity=speaker.identity, first=0, next=21, ended=True))
        speaker.hear(wire.Welcome)
        speaker.say(epilogue)
        assert speaker.hear(wire.Nack).kind == "gap", "it comes behind everything"
        speaker.store(*told())
        for _ in range(2):
            speaker.say(epilogue)
            assert speaker.hear(wire.Ack).seq == 23
    assert committed(served) == [20]
    assert served.get("/api/runs/r")["step"] == 19
    assert [(one["type"], one["data"]["text"]) for one in events(served)] == [("notice", "the end")]


def test_a_killed_trainers_spool_is_found_and_delivered(served: Served) -> None:
    """Under its own producer id, with a word on its end, and then it is gone."""
    path = left(served.directory, told())
    until(lambda: not path.exists())
    assert committed(served) == [20]
    (orphaned,) = [one for one in events(served) if one["type"] == "notice" and one["data"]["code"] == "orphaned"]
    assert "process 7 on h ended without a word" in orphaned["data"]["text"]
    assert served.get("/api/runs/r")["counts"]["frames"] == 20


def test_spools_that_were_there_before_and_elsewhere_are_found(tmp_path: Path, private_home: Path) -> None:
    """`serve --spool DIR`, whatever kind of folder it is."""
    here = left(private_home, [*told(), ENDED], identity("before"))
    home = left(tmp_path / "other", [*told(), ENDED], identity("home"))
    producer = left(tmp_path / "third", [*told(), ENDED], identity("producer"))
    with Served(private_home, spools=(tmp_path / "other", producer)) as served:
        until(lambda: not any(path.exists() for path in (here, home, producer)))
        for run in ("before", "home", "producer"):
            assert committed(served, run) == [21]
            assert served.get(f"/api/runs/{run}")["state"] == "finished"


def test_a_living_trainers_spool_is_left_to_it(served: Served) -> None:
    """However long it has been silent."""
    spool = Spool(served.directory / "spool/r/p", identity())
    append(spool, *told())
    other = left(served.directory, [*told(), ENDED], identity("other"))
    until(lambda: not other.exists())
    assert producers(served) == []
    let_go(spool)
    until(lambda: not spool.path.exists())
    assert committed(served) == [20]


def test_what_the_server_has_already_is_not_sent_again(served: Served) -> None:
    """The rest is."""
    records = told()
    who = identity()
    with served.trainer("r", "p") as trainer:
        trainer.hello()
        trainer.store(*records[:11])
    left(served.directory, [*records, ENDED], who)
    until(lambda: committed(served) == [21])
    assert served.get("/api/runs/r")["counts"]["frames"] == 20


def test_a_server_ends_at_once_while_a_spool_is_being_delivered(private_home: Path) -> None:
    """What is left is delivered the next time."""
    path = left(private_home, [layout(), *[frame(step) for step in range(20_000)]])
    with Served(private_home) as served:
        until(lambda: producers(served))
        ending = time.monotonic()
    assert time.monotonic() - ending < 10
    with Served(private_home) as served:
        until(lambda: not path.exists())
        assert committed(served) == [20_000]
        assert served.get("/api/runs/r")["counts"]["frames"] == 20_000


def test_a_spool_that_cannot_be_read_is_said_once_and_holds_nothing_up(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are delivered."""
    bad = left(served.directory, told(), identity("bad"))
    lock = claim(bad, identity("bad"))
    assert lock is not None
    (bad / "identity").write_bytes(b"\xc1")
    lock.close()
    good = left(served.directory, [*told(), ENDED], identity("good"))
    until(lambda: not good.exists())
    assert (bad / "identity").exists()
    until(lambda: "holds no spool that can be read" in caplog.text)


def test_a_spool_that_the_server_refuses_holds_up_no_other(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays where it is, and is tried again later."""
    monkeypatch.setattr(recovery, "PATIENCE", 0.5)
    bad = left(served.directory, told(), identity("no run id"))
    good = left(served.directory, [*told(), ENDED], identity("good"))
    until(lambda: not good.exists())
    assert (bad / "identity").exists()


def test_a_spool_that_cannot_be_removed_is_delivered_once(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a medium that is read-only. It is said, and not tried again and again."""

    def read_only(self: Remains) -> None:
        raise OSError("Read-only file system")

    monkeypatch.setattr(Remains, "remove", read_only)
    left(served.directory, [*told(), ENDED])
    until(lambda: "it could not be removed: Read-only file system" in caplog.text)
    other = left(served.directory, [*told(), ENDED], identity("other"))
    until(lambda: committed(served, "other") == [21])
    until(lambda: caplog.text.count("could not be removed") == 2)
    assert other.exists()


async def test_a_claimant_that_dies_half_way_leaves_it_to_the_next(
    private_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost, and nothing comes twice."""
    monkeypatch.setattr(wire, "MAX_BATCH_RECORDS", 5)  # so that it takes a while
    path = left(private_home, [layout(), *[frame(step) for step in range(5000)]])
    with Served(private_home.parent / "server") as served:
        find = own_address(served.service.settings)
        reached = asyncio.Event()

        def note(ledger: Ledger) -> None:
            if ledger.committed > 0:
                reached.set()

        first = asyncio.create_task(recover(path, find, remove=True, note=note))
        await asyncio.wait_for(reached.wait(), 60)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        done = await recover(path, find, remove=True)
        assert done.outcome == "delivered"
        assert done.records == 5001
        assert not path.exists()
        assert await asyncio.to_thread(committed, served) == [5000]
        assert (await asyncio.to_thread(served.get, "/api/runs/r"))["counts"]["frames"] == 5000


async def test_a_server_that_dies_half_way_gets_the_rest_when_it_is_back(private_home: Path) -> None:
    """The spool stays until then."""
    path = left(private_home, [layout(), *[frame(step) for step in range(3000)]])
    directory = private_home.parent / "server"
    with Served(directory) as served:
        find = own_address(served.service.settings)
        done = await recover(path, lambda: None, remove=True)
        assert (done.outcome, path.exists()) == ("not delivered", True)
    done = await recover(path, find, remove=True)
    assert done.outcome == "not delivered"
    with Served(directory) as served:
        assert (await recover(path, own_address(served.service.settings), remove=True)).outcome == "delivered"
        assert await asyncio.to_thread(committed, served) == [3000]


async def test_two_claimants_at_once_deliver_it_once(private_home: Path) -> None:
    """One of them finds it in use."""
    path = left(private_home, told())
    with Served(private_home.parent / "server") as served:
        find = own_address(served.service.settings)
        both = await asyncio.gather(*[recover(path, find, remove=True) for _ in range(2)])
        assert sorted(one.outcome for one in both) == ["delivered", "in use"]
        assert (await recover(path, find, remove=True)).outcome == "in use", "it is gone, which is no fault"
        assert await asyncio.to_thread(committed, served) == [20]


async def test_what_a_long_outage_cost_is_counted_exactly(private_home: Path) -> None:
    """Stored and lost make what was produced, over two servers, the first of which took a part before the rest was
    thinned; every event is there."""
    spool = Spool(private_home / "spool/r/p", identity(), cap=64 << 10)
    append(spool, layout(100))
    for step in range(40):
        append(spool, frame(step, 400))
    directory = private_home.parent / "server"
    with Served(directory) as served, served.trainer("r", "p") as trainer:
        await asyncio.to_thread(trainer.hello)
        await asyncio.to_thread(trainer.store, layout(100), *[frame(step, 400) for step in range(30)])
    for step in range(40, 2000):
        append(spool, frame(step, 400))
        if step % 50 == 0:
            append(spool, notice(step))
    let_go(spool)
    with Served(directory) as served:
        done = await recover(spool.path, own_address(served.service.settings), remove=True)
        assert done.outcome == "delivered"
        (producer,) = await asyncio.to_thread(producers, served)
        stored = (await asyncio.to_thread(served.get, "/api/runs/r"))["counts"]["frames"]
        assert stored + producer["dropped"] == 2000
        assert stored > 30
        assert producer["dropped"] > 1000
        codes = [one["data"]["code"] for one in await asyncio.to_thread(events, served) if one["type"] == "notice"]
        assert codes.count("n") == 39
        assert producer["committed"] == done.records - 1


async def test_a_spool_without_records_is_only_removed(private_home: Path) -> None:
    """Its process was killed at once; no server needs to know."""
    path = left(private_home, [])
    done = await recover(path, lambda: None, remove=True)
    assert (done.outcome, done.records) == ("delivered", 0)
    assert not path.exists()


async def test_without_a_server_nothing_is_touched(private_home: Path) -> None:
    """Not even claimed."""
    path = left(private_home, told())
    await Recovery([private_home / "spool"], lambda: None).sweep()
    assert not (path / "watermark").exists()


def test_spools_are_found_in_any_folder_that_holds_them(tmp_path: Path) -> None:
    """A home, the spools, a run, a producer; the oldest first."""
    path = left(tmp_path, [notice(0)])
    left(tmp_path, [notice(0)], identity("r", "q"))
    assert find_spools(tmp_path) == find_spools(tmp_path / "spool") == find_spools(tmp_path / "spool/r")
    assert len(find_spools(tmp_path)) == 2
    assert find_spools(path) == [path]
    assert find_spools(tmp_path / "nothing") == []
