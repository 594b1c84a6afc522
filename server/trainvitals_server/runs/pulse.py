"""What is known of the runs that are under way without asking the database: who is connected, when data last came,
how fast steps go, and how the last connection ended. It is changed on the event loop alone; other threads may ask,
which is why whatever is walked through is copied first. Time is passed in, monotonic seconds unless said otherwise."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from trainvitals import wire
from trainvitals_server.changes import Changes, RunChanges
from trainvitals_server.runs import heard, parting
from trainvitals_server.runs.states import GONE_SECONDS, OPEN, SILENCE_SECONDS, Signal, silence

REMEMBERED = 64  # frames, for the median step


class Said(NamedTuple):
    """What the clock says of a run, and why; "" where the signal says it all."""

    run: str
    signal: Signal
    reason: str = ""


@dataclass
class Beat:
    """One run's."""

    state: str
    contact: float
    data: float
    producers: set[int] = field(default_factory=set)  # connected ones
    marks: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))  # step, trainer's time
    ended: str = parting.NEVER  # how the last connection did, as a reason
    last: str = ""  # what was heard last, in words, since the last frame
    busy: bool = False  # the trainer has said that no step ends for a while
    orphaned: bool = False  # what is connected only brings what a dead process left

    def seconds_per_step(self) -> float | None:
        """The median over the last frames."""
        pairs = [
            (later[1] - sooner[1]) / (later[0] - sooner[0])
            for sooner, later in pairwise(tuple(self.marks))
            if later[0] > sooner[0]
        ]
        return median(pairs) if pairs else None

    def listen(self, changed: RunChanges) -> None:
        """Take in what a transaction stored: frames first, since what else came in it was said about them."""
        if changed.frames:
            self.last, self.busy = "", False
        for row in changed.events:
            if isinstance(row.record, wire.Notice) and row.rank == 0:
                self.busy = row.record.code == heard.BUSY or (self.busy and row.record.code != heard.HUNG)
                self.orphaned |= row.record.code == heard.ORPHANED
            self.last = heard.words(row.record) or self.last

    def silent_since(self) -> str:
        """What a silence began after."""
        newest = f"step {self.marks[-1][0]:,}" if self.marks else ""
        return self.last or newest


class Pulse:
    """Every run that has neither ended nor been lost a while ago, by id. `now` is the time at which the server came up:
    nothing can have been lost before anyone could listen."""

    def __init__(self, states: Iterable[tuple[str, str]] = (), now: float = 0.0) -> None:
        self._beats = {run: Beat(state, now, now) for run, state in states}

    def connect(self, run: str, producer: int, now: float, *, ended: bool = False) -> None:
        """A producer (row id) has a connection; where its process has `ended`, it is another one's."""
        beat = self._beats.setdefault(run, Beat("starting", now, now))
        beat.producers.add(producer)
        beat.contact = beat.data = now
        if not ended or beat.producers == {producer}:
            beat.orphaned = ended

    def disconnect(self, run: str, producer: int, now: float, ended: str = parting.NEVER) -> None:
        """A producer has none any more; `ended` says how that came, as the reason of a run that is lost by it."""
        if run in self._beats:
            self._beats[run].producers.discard(producer)
            self._beats[run].contact = now
            self._beats[run].ended = ended

    def note(self, changes: Changes, now: float) -> None:
        """Take in what was committed."""
        for run, changed in changes.items():
            if run not in self._beats and changed.state is None:
                continue  # it has ended: whoever is under way said hello, and that told its state
            beat = self._beats.setdefault(run, Beat("starting", now, now))
            beat.state = changed.state or beat.state
            if changed.stored:
                beat.data = beat.contact = now
            for frame in changed.frames:
                if frame.rank == 0 and (not beat.marks or beat.marks[-1][0] != frame.step):
                    beat.marks.append((frame.step, frame.time))
            beat.listen(changed)

    def forgive(self, now: float) -> None:
        """This server itself was held up (suspended, stopped, or without a database to write to): nobody was silent
        while it could not listen, and everybody has the whole time again."""
        for beat in tuple(self._beats.values()):
            beat.contact = beat.data = now

    def forget(self, run: str) -> None:
        """A run is gone."""
        self._beats.pop(run, None)

    def connected(self, run: str) -> bool:
        """Whether any producer of a run has a connection."""
        beat = self._beats.get(run)
        return beat is not None and bool(beat.producers)

    def connected_producers(self, run: str | None = None) -> set[int]:
        """Row ids of every producer with a connection, of one run or of all."""
        beats = tuple(self._beats.values()) if run is None else (self._beats.get(run),)
        return {one for beat in beats if beat is not None for one in tuple(beat.producers)}

    def connected_runs(self) -> set[str]:
        """Every run with a connection."""
        return {run for run, beat in tuple(self._beats.items()) if beat.producers}

    def steps_per_second(self, run: str) -> float | None:
        """How fast a run goes now; None where it does not go, or it is not known."""
        beat = self._beats.get(run)
        each = beat.seconds_per_step() if beat and beat.state == "live" else None
        return 1 / each if each else None

    def signals(self, now: float, wall: float = 0.0) -> Iterator[Said]:
        """What the clock says of each run: `silent`, `gone`, or `contact` again; `wall` is the same moment in Unix
        seconds. Forgets those that have ended, and those that are lost: whoever comes back says hello, and that tells
        the state."""
        for run, beat in tuple(self._beats.items()):
            if beat.state not in OPEN or (beat.state == "lost" and not beat.producers):
                self._forget(run, beat, now)
                continue
            what = self._signal(beat, now)
            if what is not None:
                yield Said(run, what, _reason(beat, what, wall - (now - beat.data)))

    def _forget(self, run: str, beat: Beat, now: float) -> None:
        if not beat.producers and now - beat.contact > GONE_SECONDS:
            del self._beats[run]

    @staticmethod
    def _signal(beat: Beat, now: float) -> Signal | None:
        if beat.producers:
            if beat.state == "lost":
                return None if beat.orphaned else "contact"
            quiet = now - beat.data
            if beat.state != "live" or quiet <= SILENCE_SECONDS[0]:  # no median is needed for most of a thousand runs
                return None
            return "silent" if quiet > silence(beat.seconds_per_step(), busy=beat.busy) else None
        return "gone" if beat.state != "lost" and now - beat.contact > GONE_SECONDS else None


def _reason(beat: Beat, what: Signal, data: float) -> str:
    """What stays true for as long as nothing changes; `data` is when something came last, in Unix seconds."""
    if what == "gone":
        return beat.ended
    if what == "silent":
        last = beat.silent_since()
        said = f"no step since {parting.clock(data)}, although the trainer is connected"
        return f"{said}; last: {last}" if last else said
    return ""
