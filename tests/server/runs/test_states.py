"""The states of a run, under a clock that the test turns."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest

from served import frame, identify, layout
from trainvitals import wire
from trainvitals_server.clock import Clock
from trainvitals_server.ingest import intake
from trainvitals_server.parts import Parts, open_parts
from trainvitals_server.runs import ticker
from trainvitals_server.runs.states import ENDED, NEXT, OPEN, Signal, State, silence
from trainvitals_server.settings import Settings
from trainvitals_server.store.runs import Producer


@dataclass
class Hands:
    """Of a clock: Unix seconds and monotonic ones, which need not agree."""

    now: float = 1e6
    monotonic: float = 0.0

    def turn(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.monotonic += seconds


class Run:
    """One run whose trainer the test plays, at the writer's door."""

    def __init__(self, parts: Parts, hands: Hands) -> None:
        self.parts = parts
        self.hands = hands
        self.seq = 0

    async def hello(self, producer: str = "p-1", started: float = 1.0) -> Producer:
        hello = wire.Hello(
            protocol=wire.PROTOCOL, identity=identify(producer=producer, started=started), first=0, next=0
        )
        who = await self.parts.write(partial(intake.enter, hello=hello))
        self.seq = who.committed + 1
        self.parts.pulse.connect(who.run, who.id, self.hands.monotonic)
        return who

    async def tell(self, who: Producer, *records: wire.Message) -> None:
        batch = wire.Batch(first=self.seq, records=[wire.encode(record) for record in records])
        outcome = await self.parts.write(partial(intake.take, books=self.parts.books, who=who, batch=batch))
        assert outcome.rejected == ()
        self.seq += len(records)

    def leave(self, who: Producer) -> None:
        self.parts.pulse.disconnect(who.run, who.id, self.hands.monotonic)

    async def state(self, after: float = 0.0) -> str:
        """The state once time has passed, and the clock has been looked at."""
        self.hands.turn(after)
        await ticker.tick(self.parts, touch=False)
        await self.parts.write(lambda tx: None)  # whatever was published before is taken in now
        summary = self.parts.summaries.of("run-1")
        assert summary is not None
        return str(summary["state"])

    def events(self) -> list[Any]:
        with self.parts.database.reading() as connection:
            return [one for one in self.parts.stories.of(connection, "run-1").events if isinstance(one, wire.Notice)]


@pytest.fixture
def hands() -> Hands:
    """A clock that stands still."""
    return Hands()


@pytest.fixture
async def run(private_home: Path, hands: Hands) -> AsyncIterator[Run]:
    """A server's parts without its sockets, under that clock."""
    private_home.mkdir()
    settings = Settings(directory=private_home)
    parts = open_parts(settings, Clock(lambda: hands.now, lambda: hands.monotonic))
    yield Run(parts, hands)
    parts.database.close()
    parts.writer.close()


LOSS = layout(("", wire.RUN, wire.LOSS))


async def test_a_run_starts_lives_and_finishes(run: Run) -> None:
    """As its trainer says."""
    who = await run.hello()
    assert await run.state() == "starting"
    await run.tell(who, LOSS, frame(0, [1.0]))
    assert await run.state() == "live"
    await run.tell(who, wire.Lifecycle(step=1, time=1e6, state="finished", reason="the loop ended"))
    assert await run.state() == "finished"
    run.leave(who)
    assert await run.state(after=100_000) == "finished"


async def test_a_failed_run_names_its_exception(run: Run) -> None:
    """In its reason."""
    who = await run.hello()
    await run.tell(who, LOSS, frame(0, [1.0]), wire.Lifecycle(step=0, time=1e6, state="failed", error="ValueError: no"))
    assert await run.state() == "failed"
    summary = run.parts.summaries.of("run-1")
    assert summary is not None
    assert (summary["reason"], summary["ended"]) == ("ValueError: no", "1970-01-12T13:46:40.000Z")


async def test_a_connected_run_without_frames_stalls_and_recovers(run: Run) -> None:
    """After ten median steps, and not before; recorded as events."""
    who = await run.hello()
    await run.tell(who, LOSS, *[frame(step, [1.0], time=1e6 + 10 * step) for step in range(5)])
    assert await run.state(after=99) == "live"
    assert await run.state(after=2) == "stalled"
    await run.tell(who, frame(5, [1.0]))
    assert await run.state() == "live"
    assert [one.code for one in run.events()] == ["stalled"]


async def test_a_run_without_contact_for_a_minute_is_lost_until_it_is_back(run: Run) -> None:
    """Whatever it was before."""
    who = await run.hello()
    await run.tell(who, LOSS, frame(0, [1.0]))
    run.leave(who)
    assert await run.state(after=59) == "live"
    assert await run.state(after=2) == "lost"
    assert await run.state(after=10_000) == "lost"
    await run.hello()
    assert await run.state() == "live"
    assert [one.code for one in run.events()] == ["lost", "live"]


async def test_a_starting_run_waits_as_long_as_it_needs(run: Run) -> None:
    """Loading a model is no stall; vanishing is a loss."""
    who = await run.hello()
    assert await run.state(after=7200) == "starting"
    run.leave(who)
    assert await run.state(after=61) == "lost"


async def test_a_clock_that_jumps_disturbs_nothing(run: Run) -> None:
    """A day back or forth is no silence."""
    who = await run.hello()
    await run.tell(who, LOSS, frame(0, [1.0]))
    for jump in (86_400, -172_800):
        run.hands.now += jump
        assert await run.state(after=1) == "live"


async def test_a_server_that_was_away_gives_its_runs_a_minute(run: Run, private_home: Path) -> None:
    """Nothing was lost that could not have spoken."""
    who = await run.hello()
    await run.tell(who, LOSS, frame(0, [1.0]))
    run.hands.turn(50_000)
    later = open_parts(run.parts.settings, run.parts.clock)
    again = Run(later, run.hands)
    assert await again.state(after=59) == "live"
    assert await again.state(after=2) == "lost"
    later.database.close()
    later.writer.close()


async def test_a_resumed_run_starts_again_and_an_older_producer_cannot_end_it(run: Run) -> None:
    """What the run is, its newest producer says."""
    old = await run.hello()
    await run.tell(old, LOSS, frame(0, [1.0]), wire.Lifecycle(step=1, time=1e6, state="failed", error="x"))
    new = await run.hello("p-2", started=2.0)
    assert await run.state() == "starting"
    await run.tell(new, LOSS, frame(0, [1.0]))
    again = await run.hello("p-1")
    await run.tell(again, wire.Lifecycle(step=2, time=1e6, state="finished"))
    assert await run.state() == "live"


def test_the_table_knows_every_state_and_signal() -> None:
    """And ends only where a run ends."""
    assert {state for state, _ in NEXT} | set(ENDED) == set(get_args(State))
    assert {what for _, what in NEXT} == set(get_args(Signal))
    assert set(OPEN) | set(ENDED) == set(get_args(State))
    assert not {what for state, what in NEXT if state == "imported"}


@pytest.mark.parametrize(("median", "seconds"), [(None, 30), (0.01, 30), (3.0, 30), (10.0, 100), (600.0, 1800)])
def test_silence_is_ten_steps_within_bounds(median: float | None, seconds: float) -> None:
    """Half a minute at least, half an hour at most."""
    assert silence(median) == seconds
