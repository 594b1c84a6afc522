"""The summary of a run: one line of the list, the head of its page."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, NamedTuple

from trainvitals_server.alerts import Alert
from trainvitals_server.changes import Changes, RunChanges
from trainvitals_server.clock import iso
from trainvitals_server.incidents import verdict
from trainvitals_server.runs.losses import lost, set_aside
from trainvitals_server.runs.pulse import Pulse
from trainvitals_server.runs.ranks import describe, failure
from trainvitals_server.runs.severity import missing, spans, sparkline
from trainvitals_server.runs.story import Stories, Story
from trainvitals_server.runs.vitals import Vitals
from trainvitals_server.store import alerts, history, journal, runs, series
from trainvitals_server.store.database import DAMAGE, Database
from trainvitals_server.store.packing import unpack
from trainvitals_server.store.transactions import Connection

Object = dict[str, Any]
WORST_FIRST = {"critical": 0, "warning": 1, "unknown": 2, "ok": 3}
UNKNOWN: Object = {
    **dict.fromkeys(("created", "last_seen", "ended")),
    **dict.fromkeys(("connected", "altered", "pinned"), False),
    **dict.fromkeys(("reason", "outcome", "auto_sanitize"), ""),
    **dict.fromkeys(("open_alerts", "sanitizations"), 0),
    "lost": lost([]),
    **set_aside([]),
    "nonfinite_layers": [],
    "severity": [],
    "ranks": {"size": 1, "seen": 0, "states": {}, "troubled": []},
}
UNDER_WAY = ("starting", "live", "stalled")
OVER = ("finished", "failed", "lost")
KEPT_RUNS = 16384  # some 3 KiB each, and as much again while it is under way; a list of more is made anew each time
OPEN_ALERTS = ("firing", "acknowledged", "regressed")


class Findings(NamedTuple):
    """What is dear to find out about a run, and stays as it is while frames say nothing new."""

    story: Story  # without its events
    alerts: list[Alert]
    nonfinite_layers: list[str]
    ends: dict[str, float]  # when those producers ended that have, by their own clock


@dataclass
class Memory:
    """What is kept of one run. No two runs or moments have the same `version`."""

    version: int
    summary: tuple[int, Object] | None = None  # with the version it is of
    findings: Findings | None = None
    vitals: Vitals | None = None


class Summaries:
    """Summaries, each computed again only after its run has changed. What frames alone cannot change is kept until
    something else comes, or a frame in which a layer breaks or heals, and of a run that is over it is let go. Only
    what was asked for is kept, of the `KEPT_RUNS` that were asked for last. Any thread may ask."""

    def __init__(self, database: Database, pulse: Pulse, stories: Stories) -> None:
        self._database = database
        self._pulse = pulse
        self._stories = stories
        self._versions = count()
        self._kept: OrderedDict[str, Memory] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, changes: Changes) -> None:
        """These runs have changed."""
        with self._lock:
            for run, changed in changes.items():
                if (kept := self._kept.get(run)) is not None:
                    kept.version = next(self._versions)
                    if says_more(kept.vitals, changed):
                        kept.findings = kept.vitals = None

    def touch(self, run: str) -> None:
        """This run has changed in what only memory knows, such as who is connected."""
        with self._lock:
            if (kept := self._kept.get(run)) is not None:
                kept.version = next(self._versions)

    def forget(self, run: str) -> None:
        """This run is gone; one of the same id may come."""
        with self._lock:
            self._kept.pop(run, None)

    def of(self, run: str) -> Object | None:
        """A run's summary; None where there is no such run."""
        with self._memory(run) as memory:
            version, kept = memory.version, memory.summary
        if kept is not None and kept[0] == version:
            return kept[1]
        with self._database.reading() as connection:
            try:
                summary = self._make(connection, run)
            except DAMAGE as error:  # the others are still to be shown, and this one said to be damaged
                if "interrupted" in str(error):  # it only took too long
                    raise
                return self._damaged(connection, run, error)
        with self._lock:
            if summary is None:
                self._kept.pop(run, None)
            elif self._kept.get(run) is memory:
                memory.summary = version, summary
                if summary["state"] not in UNDER_WAY:
                    memory.findings = memory.vitals = None
        return summary

    @contextmanager
    def _memory(self, run: str) -> Iterator[Memory]:
        """What is kept of a run, with the lock held."""
        with self._lock:
            memory = self._kept.setdefault(run, Memory(next(self._versions)))
            self._kept.move_to_end(run)
            if len(self._kept) > KEPT_RUNS:
                self._kept.popitem(last=False)
            yield memory

    def all(self) -> list[Object]:
        """Every run's summary, the worst first, then the newest."""
        with self._database.reading() as connection:
            ids = runs.list_ids(connection)
        found = [summary for run in ids if (summary := self.of(run)) is not None]
        return sorted(found, key=lambda one: WORST_FIRST.get(one["verdict"]["level"], 2))

    def _damaged(self, connection: Connection, run: str, error: Exception) -> Object:
        """What can be said of a run whose records cannot be read."""
        try:
            described = self._describe(run, runs.get(connection, run))
        except DAMAGE:
            described = {"id": run, "name": run, "project": "", "state": "lost", "allow": []}
        said = f"CRITICAL: its records cannot be read ({error}); `trainvitals check` says which"
        nothing = dict.fromkeys(("step", "first_step", "steps_per_s", "first_bad_step", "first_bad_layer"))
        return UNKNOWN | described | nothing | {"verdict": {"level": "critical", "text": said}}

    def _make(self, connection: Connection, run: str) -> Object | None:
        row = runs.get(connection, run)
        if row is None:
            return None
        return {
            **self._describe(run, row),
            **self._progress(connection, run),
            **self._health(connection, run, _ending(row), ranks := self._ranks(connection, run)),
            **self._moments(connection, run, row),
            "ranks": ranks,
        }

    def _moments(self, connection: Connection, run: str, row: Any) -> Object:
        """When there was contact last, and when the run ended. Whoever brings what a process left behind is no contact
        with it: that one ended when it said so, or wrote last, however late its spool is found."""
        moments = {"last_seen": row["last_seen"], "ended": row["ended"]}
        newest = runs.newest_rows(connection, run)
        if row["state"] in OVER and newest and not self._pulse.connected(run):
            end = self._find(run).ends.get(newest[0]["producer"], row["last_seen"])
            moments = {name: None if one is None else min(one, end) for name, one in moments.items()}
        return {name: iso(one) for name, one in moments.items()}

    def _describe(self, run: str, row: Any) -> Object:
        return {
            "id": run,
            "name": row["name"],
            "project": row["project"],
            "state": row["state"],
            "connected": self._pulse.connected(run),
            "created": iso(row["created"]),
            "last_seen": iso(row["last_seen"]),
            "ended": iso(row["ended"]),
            "reason": row["reason"],
            "altered": bool(row["altered"]),
            "pinned": bool(row["pinned"]),
            "outcome": row["outcome"],
            "allow": unpack(row["allow"]),
            "auto_sanitize": row["auto_sanitize"],
        }

    def _ranks(self, connection: Connection, run: str) -> Object:
        return describe(runs.newest_rows(connection, run), self._pulse.connected_producers(run))

    def _progress(self, connection: Connection, run: str) -> Object:
        newest = runs.newest_with_frames(connection, run)
        parts = runs.segments(connection, run, 0, None)
        speed = self._pulse.steps_per_second(run)
        return {
            "step": newest.last_step if newest else None,
            "first_step": parts[0].low if parts else None,
            "steps_per_s": speed if speed is not None else _mean_speed(newest),
        }

    def _health(self, connection: Connection, run: str, state: str, ranks: Object) -> Object:
        story, found, bad, _ = self._find(run)
        incidents = story.incidents
        parts = runs.segments(connection, run, 0, None)
        said = verdict(
            state=state,
            incidents=incidents,
            nonfinite_layers=bad,
            alerts=found,
            last_step=parts[-1].high if parts else None,
            rank_failure=failure(ranks),
        )
        first = next(iter(incidents), None)
        low, high = (parts[0].low, max(part.high for part in parts)) if parts else (0, -1)
        return {
            "verdict": {"level": said.level, "text": said.text},
            "open_alerts": sum(alert.status in OPEN_ALERTS for alert in found),
            "first_bad_step": first.first_bad_step if first else None,
            "first_bad_layer": first.first_bad_layer if first else None,
            "lost": lost(story.gaps),
            **set_aside(journal.set_aside(connection, run)),
            "sanitizations": story.sanitizations,
            "nonfinite_layers": bad,
            "severity": sparkline(low, high, spans(incidents, found, high), missing(story.gaps)) if parts else [],
        }

    def _find(self, run: str) -> Findings:
        """Findings as they were kept, or new ones; these are kept where nothing came while they were made."""
        with self._memory(run) as memory:
            kept, version = memory.findings, memory.version
        if kept is not None:
            return kept
        with self._database.reading() as connection:  # a snapshot that holds all of this version
            told = self._stories.of(connection, run)
            story = replace(told, events=[], tellers=[])
            counters = series.list_counters(connection, run)
            values = history.read_moment(connection, history.Question(run), counters).values
            rows = series.list_all(connection, run) if any(value > 0 for value in values.values()) else []
            bad = history.nonfinite_layers(rows, values)
            found = Findings(story, alerts.find(connection, run), bad, told.ends())
        vitals = Vitals(counters, values)
        with self._lock:
            if memory.version == version:
                memory.findings, memory.vitals = found, vitals
        return found


def says_more(vitals: Vitals | None, changed: RunChanges) -> bool:
    """Whether a change is more than frames like those before, whose `vitals` these are."""
    if changed.events or changed.alerts or changed.series or changed.commands or changed.state:
        return True
    return vitals is not None and vitals.changed(changed.frames)


def _ending(row: Any) -> str:
    """The state that tells how a run went: that of an imported one is how it ended where it came from."""
    return str(row["outcome"] if row["outcome"] in ("finished", "failed") else row["state"])


def _mean_speed(producer: runs.Producer | None) -> float | None:
    """Steps per second over a producer's whole life."""
    if producer is None or producer.last_time is None or producer.first_time is None:
        return None
    seconds = producer.last_time - producer.first_time
    return ((producer.last_step or 0) - (producer.first_step or 0)) / seconds if seconds > 0 else None
