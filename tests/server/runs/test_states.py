"""The states of a run, under a clock that the test turns."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest

from served import frame, identify, layout
from trainvitals import wire
from trainvitals_server.api.runs import details
from trainvitals_server.clock import Clock, iso
from trainvitals_server.ingest import intake
from trainvitals_server.ingest.connections import Connection
from trainvitals_server.parts import Parts, open_parts
from trainvitals_server.runs import parting, ticker
from trainvitals_server.runs.naps import Naps
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
        said = identify(producer=producer, started=started)
        hello = wire.Hello(protocol=wire.PROTOCOL, identity=said, first=0, next=0)
        who = await self.parts.write(partial(intake.enter, hello=hello))
        self.seq = who.committed + 1
        self.parts.pulse.connect(who.run, who.id, self.hands.monotonic)
        return who

    async def tell(self, who: Producer, *records: wire.Message) -> None:
        batch = wire.Batch(first=self.seq, records=[wire.encode(record) for record in records])
        outcome = await self.parts.write(partial(intake.take, books=self.parts.books, who=who, batch=batch))
        assert outcome.rejected == ()
        self.seq += len(records)

    def leave(self, who: Producer, how: parting.Parting = "broken") -> None:
        ended = parting.tell(how, self.hands.now)
        self.parts.pulse.disconnect(who.run, who.id, self.hands.monotonic, ended)

    def summary(self) -> dict[str, Any]:
        summary = self.parts.summaries.of("run-1")
        assert summary is not None
        return summary

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


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("broken", "the connection broke off without a word at 13:46:40 UTC; no contact since: the process was killed"),
        ("closed", "the trainer closed the connection at 13:46:40 UTC; no contact since: it may be buffering"),
        ("silent", "the trainer stopped answering at 13:46:40 UTC; no contact since: its process or machine hangs"),
    ],
)
async def test_a_lost_run_says_how_the_connection_ended(run: Run, how: parting.Parting, said: str) -> None:
    """In its reason, and in the event."""
    who = await run.hello()
    await run.tell(who, LOSS, frame(0, [1.0]))
    run.leave(who, how)
    assert await run.state(after=61) == "lost"
    assert run.summary()["reason"].startswith(said)
    assert run.summary()["verdict"]["level"] == "warning"
    assert [one.text for one in run.events()] == [run.summary()["reason"]]


async def test_seen_is_when_it_was_heard_of(run: Run) -> None:
    """Not merely connected: a stopped process answers nothing, and who brings what a dead one left is not it."""
    who = await run.hello()
    before = run.summary()["last_seen"]
    run.hands.turn(100)
    run.parts.connections.admit(Connection(who.id, who.run, "p-1", ended=True))
    await ticker.tick(run.parts, touch=True)
    assert run.summary()["last_seen"] == before
    run.parts.connections.admit(Connection(who.id, who.run, "p-1", silence=lambda: 25.0))
    run.parts.connections.admit(Connection(who.id + 1, who.run, "p-2", silence=lambda: 35.0))
    await ticker.tick(run.parts, touch=True)
    assert run.summary()["last_seen"] == iso(run.hands.now - 25)


async def test_coming_back_says_how_long_it_was_away(run: Run) -> None:
    """And the reason of the loss is none any more."""
    who = await run.hello()
    await run.tell(who, LOSS, frame(0, [1.0]))
    run.leave(who)
    assert await run.state(after=600) == "lost"
    await run.hello()
    assert await run.state() == "live"
    assert run.summary()["reason"] == ""
    assert run.events()[-1].text == "the trainer is back after 10 min"


DEAD = wire.Notice(step=1, time=1e6, code="orphaned", text="process 4711 on gpu-1 ended without a word (killed)")


async def test_a_process_that_is_known_to_be_dead_is_lost_at_once(run: Run) -> None:
    """Although its frames come late, in the same batch, over a connection that stays; and until somebody speaks."""
    who = await run.hello()
    await run.tell(who, LOSS, frame(0, [1.0]), DEAD)
    assert await run.state() == "lost"
    assert await run.state(after=5) == "lost"
    assert run.summary()["reason"] == DEAD.text
    assert run.summary()["ranks"]["troubled"][0]["state"] == "lost"
    await run.hello("p-2", started=2.0)
    assert await run.state() == "starting"


async def test_a_dead_process_was_seen_when_it_wrote_last(run: Run) -> None:
    """However late its spool is found, and who brings it; until another process goes on."""
    died = wire.Notice(step=1, time=1e6 + 5, code="orphaned", text=DEAD.text)
    run.hands.turn(36_000)
    who = await run.hello()
    await run.tell(who, LOSS, frame(0, [1.0]), died)
    run.leave(who)
    assert await run.state() == "lost"
    assert run.summary()["last_seen"] == iso(1e6 + 5)
    run.leave(await run.hello("p-2", started=2.0))
    assert await run.state(after=61) == "lost"
    assert run.summary()["last_seen"] == iso(run.hands.now - 61)


@pytest.mark.parametrize("state", ["finished", "failed"])
async def test_a_run_that_arrives_late_ended_when_it_said_so(run: Run, state: Any) -> None:
    """Not when its spool was brought here."""
    run.hands.turn(36_000)
    who = await run.hello()
    await run.tell(who, LOSS, frame(0, [1.0]), wire.Lifecycle(step=1, time=1e6 + 5, state=state))
    run.leave(who)
    assert await run.state() == state
    assert run.summary()["ended"] == run.summary()["last_seen"] == iso(1e6 + 5)


async def test_a_loss_that_is_explained_later_takes_the_better_reason(run: Run) -> None:
    """And a run that has said how it ended needs none."""
    who = await run.hello()
    await run.tell(who, LOSS, frame(0, [1.0]))
    run.leave(who)
    assert await run.state(after=61) == "lost"
    await run.hello()
    await run.tell(who, DEAD)
    assert await run.state() == "lost"
    assert run.summary()["reason"] == DEAD.text
    await run.tell(who, wire.Lifecycle(step=1, time=1e6, state="finished"))
    await run.tell(who, DEAD)
    assert await run.state() == "finished"


async def test_a_dead_process_of_another_rank_is_noted_for_that_rank(run: Run) -> None:
    """The run is rank 0's, and goes on."""
    zero = await run.hello()
    await run.tell(zero, LOSS, frame(0, [1.0]))
    hello = wire.Hello(protocol=wire.PROTOCOL, identity=identify(producer="p-9", rank=1, started=1.0), first=0, next=0)
    one = await run.parts.write(partial(intake.enter, hello=hello))
    run.seq = 0
    await run.tell(one, DEAD)
    assert await run.state() == "live"
    assert [(who["rank"], who["state"]) for who in run.summary()["ranks"]["troubled"]] == [(1, "lost")]
    assert run.summary()["verdict"]["text"].startswith("CRITICAL: rank 1 was lost before its first step: process 4711")


async def test_what_is_under_way_is_no_stall_and_is_named_when_it_is(run: Run) -> None:
    """A long validation or save says so itself; past half an hour it is one."""
    who = await run.hello()
    await run.tell(who, LOSS, *[frame(step, [1.0], time=1e6 + step) for step in range(5)])
    busy = wire.Notice(step=4, time=1e6, code="busy", text="validation began at step 4")
    await run.tell(who, busy)
    assert await run.state(after=1000) == "live"
    assert await run.state(after=900) == "stalled"
    assert (
        run.summary()["reason"]
        == "no step since 13:46:40 UTC, although the trainer is connected; last: validation began at step 4"
    )
    await run.tell(who, frame(5, [1.0]))
    assert await run.state(after=31) == "stalled"
    assert run.summary()["reason"] == "no step since 14:18:20 UTC, although the trainer is connected; last: step 5"


async def test_where_it_hangs_is_part_of_the_run_until_it_goes_on(run: Run) -> None:
    """The first line is the reason's, the rest the stack."""
    who = await run.hello()
    await run.tell(who, LOSS, frame(4, [1.0]))
    await run.tell(who, wire.Notice(step=4, time=1e6, code="hung", text="no step ended for 31 s\n  File x, line 3"))
    assert await run.state(after=31) == "stalled"
    assert run.summary()["reason"].endswith("; last: no step ended for 31 s")
    assert details(run.parts, "run-1")["hanging"]["stack"] == "  File x, line 3"
    await run.tell(who, frame(5, [1.0]))
    await run.state()
    assert details(run.parts, "run-1")["hanging"] is None


def test_a_server_that_was_held_up_itself_knows_it(hands: Hands) -> None:
    """Suspended, or stopped; a busy machine and a clock that jumps are neither."""
    asleep = 0.0
    naps = Naps(Clock(lambda: hands.now, lambda: hands.monotonic, lambda: hands.monotonic + asleep))
    hands.turn(2)
    assert not naps.held_up()
    hands.now += 86_400
    hands.turn(1)
    assert not naps.held_up()
    asleep = 3600
    hands.turn(1)
    assert naps.held_up()
    hands.turn(60)
    assert naps.held_up()
    hands.turn(1)
    assert not naps.held_up()


async def test_nobody_was_silent_while_the_server_could_not_listen(run: Run) -> None:
    """Neither those connected nor those about to come back."""
    who = await run.hello()
    await run.tell(who, LOSS, frame(0, [1.0]))
    run.hands.turn(3600)
    run.parts.pulse.forgive(run.hands.monotonic)
    assert await run.state() == "live"
    run.leave(who)
    run.hands.turn(3600)
    run.parts.pulse.forgive(run.hands.monotonic)
    assert await run.state(after=59) == "live"
    assert await run.state(after=2) == "lost"


async def test_the_exception_of_the_newest_process_is_the_runs(run: Run) -> None:
    """Type, message, traceback, step; one that was resumed has none."""
    who = await run.hello()
    ended = wire.Lifecycle(
        step=7, time=1e6, state="failed", reason="exception", error="ValueError: a: b", traceback="Traceback ...\n"
    )
    await run.tell(who, LOSS, frame(0, [1.0]), ended)
    assert await run.state() == "failed"
    assert details(run.parts, "run-1")["failure"] == {
        "type": "ValueError",
        "message": "a: b",
        "traceback": "Traceback ...\n",
        "rank": 0,
        "step": 7,
        "time": "1970-01-12T13:46:40.000Z",
    }
    await run.hello("p-2", started=2.0)
    assert await run.state() == "starting"
    assert details(run.parts, "run-1")["failure"] is None
    two = await run.hello("p-2", started=2.0)
    await run.tell(two, wire.Lifecycle(step=7, time=1e6, state="failed", reason="SIGTERM"))
    assert await run.state() == "failed"
    assert details(run.parts, "run-1")["failure"]["type"] == "SIGTERM"


async def test_what_is_missing_is_counted_with_its_reasons(run: Run) -> None:
    """Gaps and records set aside; cells of the sparkline that nothing is known of are not called well."""
    who = await run.hello()
    full = wire.Gap(count=50, reason="the spool is full", since=1e6, until=1e6, first_step=2, last_step=90)
    more = wire.Gap(count=5, reason="the queue was full", since=1e6, until=1e6)
    await run.tell(who, LOSS, frame(0, [1.0]), frame(1, [1.0]), full, frame(91, [1.0]), more, frame(99, [1.0]))
    bad = wire.Batch(first=run.seq, records=[b"no record", wire.encode(frame(100, [1.0, 2.0]))])
    await run.parts.write(partial(intake.take, books=run.parts.books, who=who, batch=bad))
    assert await run.state() == "live"
    summary = run.summary()
    assert (summary["lost"]["records"], summary["lost"]["gaps"]) == (55, 2)
    first = {"reason": "the spool is full", "records": 50, "gaps": 1, "from": 2, "to": 90}
    assert summary["lost"]["reasons"][0] == first
    assert summary["quarantined"] == 2
    assert sorted(one["count"] for one in summary["set_aside"]) == [1, 1]
    assert (summary["severity"][0], summary["severity"][30], summary["severity"][-1]) == (0, -1, 0)
