"""What `--retain` may say, and what it deletes: ended runs, the first to end first, never a live or pinned one."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from served import Served, Speaker, frame, identify, layout, until
from trainvitals import wire
from trainvitals_server.clock import Clock
from trainvitals_server.errors import SettingsError
from trainvitals_server.life import upkeep
from trainvitals_server.life.retention import Retention, parse
from trainvitals_server.store import journal, runs
from trainvitals_server.store.database import Database
from trainvitals_server.store.transactions import transaction

DAY = 86400.0


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], (None, None)),
        (["30d"], (30 * DAY, None)),
        (["12h"], (DAY / 2, None)),
        (["2w, 20GB"], (14 * DAY, 20 * 10**9)),
        (["1.5GiB", "1d"], (DAY, 3 << 29)),
        (["500mb"], (None, 500 * 10**6)),
    ],
)
def test_ages_and_sizes_are_read(texts: list[str], expected: tuple[float | None, int | None]) -> None:
    """One of each, in any order and case."""
    found = parse(texts)
    assert (found.seconds, found.bytes) == expected
    assert bool(found) == (expected != (None, None))


@pytest.mark.parametrize(
    "text", ["", "30", "30 years", "-3d", "0d", "30d,", "1d,2d", "1GB,1MB", "1e3d", "٣d", "9" * 20 + "d"]
)
def test_what_is_neither_is_refused_with_what_was_expected(text: str) -> None:
    """Before anything is deleted for a misunderstanding."""
    with pytest.raises(SettingsError, match="--retain: expected"):
        parse([text])


def store(served: Served, run: str, *, end: bool = True, frames: int = 3, width: int = 1) -> None:
    """A run with a few frames, which has finished or is cut off."""
    with served.trainer(run) as trainer:
        trainer.hello()
        fill(trainer, frames, width)
        if end:
            trainer.store(wire.Lifecycle(step=frames, time=1e6, state="finished"))


def fill(trainer: Speaker, frames: int, width: int = 1) -> None:
    columns = [(f"layer.{place}", wire.NORM, wire.MEAN_MIN) for place in range(width)]
    trainer.store(layout(*columns))
    random = np.random.default_rng(0)  # values that cannot be compressed to nothing
    for start in range(0, frames, 50):
        steps = range(start, min(start + 50, frames))
        trainer.store(*(frame(step, random.normal(size=width).tolist()) for step in steps))


def runs_of(served: Served) -> set[str]:
    return {run["id"] for run in served.get("/api/runs")["runs"]}


class Later:
    """A clock that can be set forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def clock(self) -> Clock:
        real = Clock()
        return Clock(now=lambda: real.now() + self.ahead)


def audit(served: Served) -> list[dict[str, Any]]:
    with served.service.parts.database.reading() as connection:
        return journal.audited(connection)


def test_what_ended_long_ago_goes_and_the_pinned_and_the_live_stay(private_home: Path) -> None:
    """Told in the audit, in the log, to the list's browsers, and at /api/storage."""
    later = Later()
    with Served(private_home, clock=later.clock(), retain=Retention(30 * DAY, None, "30d")) as served:
        for run in ("old", "pinned"):
            store(served, run)
        assert served.ask("PUT", "/api/runs/pinned/pin", "control").json() == {"run": "pinned", "pinned": True}
        later.ahead = 31 * DAY
        store(served, "young")
        with served.trainer("live") as trainer, served.live(None) as browser:
            trainer.hello()
            fill(trainer, 2)
            served.tidy()
            until(lambda: runs_of(served) == {"pinned", "young", "live"})
            assert until(lambda: "notice" in str(browser.recv(5)))
        assert {run["id"]: run["pinned"] for run in served.get("/api/runs")["runs"]}["pinned"]
        (gone,) = served.get("/api/storage")["deleted"]
        assert (gone["run"], gone["reason"]) == ("old", "--retain 30d: it ended 31.0 days ago")
        rows = [(row["role"], row["origin"], row["action"], row["run"]) for row in audit(served)]
        assert rows == [("control", "127.0.0.1", "pin", "pinned"), ("server", "retention", "delete", "old")]
        served.ask("DELETE", "/api/runs/pinned/pin", "control")
        served.tidy()
        until(lambda: "pinned" not in runs_of(served))


def test_a_size_is_kept_by_deleting_what_ended_first(private_home: Path) -> None:
    """No more than it takes; the room is given back to the disk."""
    names = [f"run-{place}" for place in range(4)]
    with Served(private_home) as served:
        for run in names:
            store(served, run, frames=300, width=1000)  # 1.2 MB of values each
        used = served.get("/api/storage")["bytes"]["used"]
    limit = int(used * 0.6)
    with Served(private_home, retain=Retention(None, limit, "60%")) as served:

        def fits() -> bool:
            served.tidy()  # compaction, which goes on meanwhile, leaves free pages that only the next look gives back
            return served.get("/api/storage")["bytes"]["file"] <= limit and len(runs_of(served)) < 4

        until(fits, 30)
        left = sorted(runs_of(served))
        assert left
        assert left == names[-len(left) :]
        assert {gone["run"] for gone in served.get("/api/storage")["deleted"]} == set(names) - set(left)


def test_a_size_that_cannot_be_kept_is_said(private_home: Path) -> None:
    """Only pinned runs are left: nothing is deleted."""
    with Served(private_home, retain=Retention(None, 1000, "1kB")) as served, served.trainer("live") as trainer:
        trainer.hello()
        fill(trainer, 2)
        served.tidy()
        until(lambda: "only live and pinned runs are left" in served.get("/api/storage")["trouble"])
        assert runs_of(served) == {"live"}


async def test_no_limit_deletes_nothing(private_home: Path) -> None:
    """The default."""
    with Served(private_home) as served:
        store(served, "old")
        assert upkeep.overdue(served.service.parts, frozenset()) is None


def test_lost_runs_end_after_a_day_and_imported_ones_count_from_their_import(private_home: Path) -> None:
    """Whatever their own clock says."""
    now = 100 * DAY
    states = {
        "finished": {"state": "finished", "ended": now - 3 * DAY},
        "lost": {"state": "lost", "last_seen": now - 2 * DAY},
        "just lost": {"state": "lost", "last_seen": now - DAY / 2},
        "imported": {"state": "imported", "ended": 1.0, "imported": now - DAY},
        "live": {"state": "live", "last_seen": 1.0},
        "pinned": {"state": "failed", "ended": 1.0, "pinned": 1},
        "hidden": {"state": "failed", "ended": 1.0, "hidden": "deleting"},
    }
    database = Database(private_home / "a.db")
    with closing(database.writer()) as connection:
        for place, (name, columns) in enumerate(states.items()):
            with transaction(connection):
                runs.enter(connection, identify(f"run-{place}", name=name), now)
                runs.update(connection, f"run-{place}", **columns)
        found: list[str] = []
        skip: set[str] = set()
        while row := runs.oldest_ended(connection, before=now, lost_before=now - DAY, skip=frozenset(skip)):
            found.append(row["name"])
            skip.add(row["id"])
    database.close()
    assert found == ["finished", "lost", "imported"]
