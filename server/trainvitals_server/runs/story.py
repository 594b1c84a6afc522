"""What happened to a run, kept in memory as long as it does not change: its events, its incidents."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from trainvitals import wire
from trainvitals_server.incidents import Incident, build_ranks
from trainvitals_server.runs import heard
from trainvitals_server.store import events, history
from trainvitals_server.store.transactions import Connection

KEPT_RUNS = 64
PAGE = 5000


@dataclass
class Story:
    """One run's events and gaps so far, and what they add up to."""

    newest: int = 0  # id of the newest event
    gaps: list[tuple[int, wire.Gap]] = field(default_factory=list)  # with the step at which each begins
    events: list[wire.Event] = field(default_factory=list)
    tellers: list[tuple[int, str]] = field(default_factory=list)  # the rank and producer of each event
    incidents: list[Incident] = field(default_factory=list)
    sanitizations: int = 0
    told: tuple[int, Mapping[str, int]] | None = (
        None  # how many events, and which endings, the incidents were built from
    )

    def of_rank(self, rank: int) -> list[wire.Event]:
        """What one rank tells."""
        told = zip(self.events, self.tellers, strict=False)  # another thread may be adding to one of them
        return [one for one, by in told if by[0] == rank]

    def ends(self) -> dict[str, float]:
        """The producers that have ended, and when each said so, or wrote last where it is known to have died without a
        word (Unix seconds)."""
        told = zip(self.events, self.tellers, strict=False)
        return {by[1]: one.time for one, by in told if _ends(one)}

    def until(self, step: int, endings: Mapping[str, int]) -> list[tuple[int, wire.Event]]:
        """Rank and event at or before a step, of each producer up to where its part of the run ends."""
        told = zip(self.events, self.tellers, strict=False)
        return [(by[0], one) for one, by in told if one.step <= step and events.counts(by[1], one.step, endings)]


def _ends(event: wire.Event) -> bool:
    if isinstance(event, wire.Lifecycle):
        return event.state in ("finished", "failed")
    return isinstance(event, wire.Notice) and event.code == heard.ORPHANED


class Stories:
    """The stories of the runs that were asked for last. Any thread may ask."""

    def __init__(self) -> None:
        self._stories: OrderedDict[str, Story] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, connection: Connection, run: str) -> Story:
        """A run's story, brought up to date."""
        with self._lock:
            story = self._stories.setdefault(run, Story())
            self._stories.move_to_end(run)
            if len(self._stories) > KEPT_RUNS:
                self._stories.popitem(last=False)
            while self._read(connection, run, story):
                pass
            told = (len(story.events), history.endings(connection, run))
            if story.told != told:
                story.incidents = incidents(story, told[1])
                story.told = told
            return story

    def forget(self, run: str) -> None:
        """A run is gone; one of the same id may come."""
        with self._lock:
            self._stories.pop(run, None)

    @staticmethod
    def _read(connection: Connection, run: str, story: Story) -> bool:
        """Take in one page of newer events; whether there may be more."""
        rows = events.find(connection, run, after=story.newest, limit=PAGE)
        told = [(row.record, (row.rank, row.producer)) for row in rows if isinstance(row.record, wire.Event)]
        fresh = [event for event, _ in told]
        story.gaps = story.gaps + [(row.step, row.record) for row in rows if isinstance(row.record, wire.Gap)]
        story.events = story.events + fresh  # a new list: another thread may be reading the old one
        story.tellers = story.tellers + [by for _, by in told]
        story.sanitizations += sum(isinstance(event, wire.Sanitized) for event in fresh)
        story.newest = rows[-1].id if rows else story.newest
        return len(rows) == PAGE


def incidents(story: Story, endings: Mapping[str, int]) -> list[Incident]:
    """Every incident of a run. One that broke steps which a newer process has done over is not open any more."""
    found = build_ranks([(by[0], event) for event, by in zip(story.events, story.tellers, strict=True)])
    if not endings or not any(one.open for one in found):
        return found
    told = zip(story.events, story.tellers, strict=True)
    standing = build_ranks([(by[0], event) for event, by in told if events.counts(by[1], event.step, endings)])
    if any(one.open for one in standing):
        return found
    return [msgspec.structs.replace(one, open=False) for one in found]
