"""Summaries to browsers, when one of them cannot be made."""

from typing import Any, cast

from trainvitals_server.clock import Clock
from trainvitals_server.live.announcer import RUN_SECONDS, Announcer
from trainvitals_server.live.client import Client
from trainvitals_server.live.hub import Hub
from trainvitals_server.runs.summary import Summaries


class Follower:
    """A client that keeps what it was told."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.told: list[str] = []

    def notify(self, kind: str, text: bytes) -> None:
        self.told.append(kind)


class Broken:
    """Summaries of which one cannot be made, until it can."""

    def __init__(self) -> None:
        self.bad = {"a"}

    def of(self, run: str) -> Any:
        if run in self.bad:
            raise ValueError("no summary")
        return {"id": run}


async def test_a_summary_that_cannot_be_made_silences_no_other_and_is_tried_again() -> None:
    """It comes as soon as it can be made, without another change."""
    hub, summaries = Hub(), Broken()
    followers = [Follower("a"), Follower("b")]
    for one in followers:
        hub.join(cast(Client, one))
        hub.mark(one.run)
    announcer = Announcer(hub, cast(Summaries, summaries), Clock())
    await announcer.tick(1)
    assert [one.told for one in followers] == [[], ["run"]]
    summaries.bad.clear()
    await announcer.tick(2)
    assert [one.told for one in followers] == [["run"], ["run"]]


class Slow:
    """Summaries that take their time: two seconds of a clock that is told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.made = 0

    def all(self) -> list[Any]:
        self.now += 2.0
        self.made += 1
        return []


async def test_a_list_that_is_dear_to_make_is_made_less_often() -> None:
    """It takes at most a fifth of the time, however many runs there are and change."""
    hub, summaries = Hub(), Slow()
    follower = Follower("")
    follower.run = cast(str, None)  # the list
    hub.join(cast(Client, follower))
    announcer = Announcer(hub, cast(Summaries, summaries), Clock(monotonic=lambda: summaries.now))
    for tick in range(1, 121):
        hub.mark("a")
        summaries.now += RUN_SECONDS
        await announcer.tick(tick)
    assert 3 <= summaries.made <= 4  # in 30 s and what it took
    assert follower.told.count("runs") == summaries.made


async def test_a_store_in_trouble_is_told_at_once_and_so_is_its_healing() -> None:
    """Between two heartbeats, and once for each change."""
    hub, store = Hub(), {"trouble": "", "warning": ""}
    follower = Follower("a")
    hub.join(cast(Client, follower))
    announcer = Announcer(hub, cast(Summaries, Broken()), Clock(), lambda: dict(store))
    await announcer.tick(1)
    follower.told.clear()  # a first word of the store, if any
    store["trouble"] = "the database cannot be written: disk full"
    await announcer.tick(2)
    await announcer.tick(3)
    assert follower.told == ["heartbeat"]
    store["trouble"] = ""
    await announcer.tick(4)
    assert follower.told == ["heartbeat"] * 2
