"""Moving a run to its next state, inside the writer's transaction."""

from typing import Literal

from trainvitals import wire
from trainvitals_server.commands import progress
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.notifications.notable import Ending
from trainvitals_server.runs.states import ENDED, GONE_SECONDS, NEXT, SILENCE_SECONDS, Signal, State
from trainvitals_server.store import events, runs

# What the server observed by its clock, as a recorded event where no better reason is known: silence is never shown as
# health.
OBSERVED = {
    "silent": "no frame for longer than ten median steps, although the trainer is connected",
    "gone": "no contact with the trainer for a minute; it may be buffering",
    "contact": "the trainer is back",
}


def signal(tx: Transaction, run: str, what: Signal, reason: str = "", record: wire.Lifecycle | None = None) -> None:
    """Apply a signal to a run, record it where it moved the run, and note it for the browsers. `record` is what the
    trainer said; None where the server saw for itself."""
    row = runs.get(tx.connection, run)
    before: State = row["state"] if row is not None else "imported"  # which nothing moves
    state = NEXT.get((before, what))
    if state is None:
        return
    ended = tx.now if state in ENDED else None
    said = "" if what == "contact" else reason or OBSERVED.get(what, "")  # being back is an event, not a reason
    runs.update(tx.connection, run, state=state, reason=said, ended=ended)
    tx.changes[run].state = state
    if ended is not None:
        progress.abandon(tx, run, f"the run has {state}, and its trainer did not say how this ended")
    if state in ("failed", "lost") and before != state:  # a better reason is no further ending
        _note_ending(tx, run, state, reason or OBSERVED.get(what, ""), record)
    if what in OBSERVED:
        text = reason or OBSERVED[what]
        observe(tx, run, wire.Notice(step=_step(tx, run), time=tx.now, code=state, text=text))


def _note_ending(
    tx: Transaction, run: str, state: Literal["failed", "lost"], reason: str, record: wire.Lifecycle | None
) -> None:
    """Note that a run failed or was lost, for those who want to be told."""
    newest = runs.newest_rows(tx.connection, run)
    if not newest:
        return
    who = newest[0]["producer"]
    if record is not None:
        tx.notable.append(Ending(run, state, reason, who, record.step, record.time, record.time))
        return
    last = newest[0]["last_time"] or newest[0]["started"]
    told = tx.now if _hung(tx, run, last) else last
    tx.notable.append(Ending(run, state, reason, who, _step(tx, run), tx.now, told))


def _hung(tx: Transaction, run: str, last: float) -> bool:
    """Whether a run fell silent, connected, while what it had told at `last` was new. Its loss is then news, however
    long it hung; that of a run whose spool was found late is as old as what the spool told last."""
    found = events.newest(tx.connection, run, "notice", 1 << 53)
    stalled = found is not None and isinstance(found.record, wire.Notice) and found.record.code == "stalled"
    return found is not None and stalled and found.time - last < SILENCE_SECONDS[1] + GONE_SECONDS


def observe(tx: Transaction, run: str, record: wire.Event) -> None:
    """Store an event that the server itself observed, under the run's newest producer."""
    producer = runs.newest_producer(tx.connection, run)
    if producer is not None:
        record_event(tx, producer, record, seq=events.SERVER)


def record_event(tx: Transaction, producer: runs.Producer, record: events.Stored, *, seq: int) -> None:
    """Store an event and note it for the browsers."""
    place = producer.last_step or 0
    identity = events.add(tx.connection, producer.run, producer.id, record, seq=seq, step=place)
    tx.changes[producer.run].events += events.get(tx.connection, producer.run, [identity])


def check_time(moment: float) -> None:
    """Raise ValueError unless `moment` is a time that can be written out, which is up to the year 9999."""
    if not 0 <= moment < 2e11:  # nor is NaN
        raise ValueError(f"expected a time in Unix seconds, got {moment!r}")


def _step(tx: Transaction, run: str) -> int:
    producer = runs.newest_with_frames(tx.connection, run)
    return (producer.last_step or 0) if producer else 0
