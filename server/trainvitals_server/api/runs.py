"""`/api/runs`: the list, one run, and its series."""

from typing import Any

import msgspec
from fastapi import APIRouter

from trainvitals import wire
from trainvitals_server.api.answers import Json, TheParts, unknown
from trainvitals_server.auth.roles import needs
from trainvitals_server.clock import iso
from trainvitals_server.errors import RefusedError
from trainvitals_server.parts import Parts
from trainvitals_server.records import series_record
from trainvitals_server.runs.failure import failure, hanging
from trainvitals_server.runs.ranks import state_of
from trainvitals_server.store import deletion, events, runs, series
from trainvitals_server.store.packing import unpack

PLAIN = ("id", "producer", "rank", "world_size", "host", "pid", "committed", "dropped", "first_step", "last_step")

router = APIRouter(prefix="/api/runs", dependencies=[needs("view")])


@router.get("")
def list_runs(parts: TheParts) -> Json:
    """Every run's summary, the worst first, then the newest."""
    return Json({"runs": parts.summaries.all()})


@router.get("/{run}")
def show_run(run: str, parts: TheParts) -> Json:
    """One run: its summary, what ended it or where it hangs, configuration, producers, counts, validations and
    checkpoints."""
    summary = parts.summaries.of(run)
    if summary is None:
        raise missing(parts, run)
    return Json({**summary, **details(parts, run)})


@router.get("/{run}/series")
def list_series(run: str, parts: TheParts) -> Json:
    """Every series of a run, in forward order."""
    with parts.database.reading() as connection:
        if runs.get(connection, run) is None:
            raise unknown("a run", run)
        return Json({"series": [series_record(row) for row in series.list_all(connection, run)]})


def missing(parts: Parts, run: str) -> RefusedError:
    """The refusal for a run that is not there, or not any more."""
    with parts.database.reading() as connection:
        gone = deletion.find_deleted(connection, run)
    if gone is None:
        return unknown("a run", run)
    return RefusedError(404, f"run {run} was deleted on {iso(gone['time'])} ({gone['reason']})")


def details(parts: Parts, run: str) -> dict[str, Any]:
    """What one run's page shows beyond the summary."""
    with parts.database.reading() as connection:
        row = runs.get(connection, run)
        assert row is not None  # noqa: S101  # runs are never deleted, and it has a summary
        story = parts.stories.of(connection, run)
        leading = story.of_rank(0)
        producers = runs.producer_rows(connection, run)
        newest = runs.newest_with_frames(connection, run)
        counts = {"frames": runs.frame_count(connection, run), "events": events.count(connection, run)}
    here = parts.pulse.connected_producers()
    return {
        "failure": failure(story, row["state"], {one["rank"]: one["producer"] for one in producers}),
        "hanging": hanging(story, row["state"], newest.last_step if newest else None),
        "config": unpack(row["config"]),
        "versions": unpack(row["versions"]),
        "producers": [producer_record(producer, producer["id"] in here) for producer in producers],
        "counts": counts,
        "validations": [_validation(event) for event in leading if isinstance(event, wire.Validation)],
        "checkpoints": _checkpoints([event for event in leading if isinstance(event, wire.Checkpoint)]),
    }


def producer_record(row: Any, connected: bool) -> dict[str, Any]:
    """One producer."""
    plain = {name: row[name] for name in PLAIN}
    state = state_of(row, connected)
    return plain | {"started": iso(row["started"]), "connected": connected, "state": state, "reason": row["reason"]}


def _validation(event: wire.Validation) -> dict[str, Any]:
    return {**msgspec.structs.asdict(event), "time": iso(event.time), "failed": event.errors + event.nonfinite}


def _checkpoints(found: list[wire.Checkpoint]) -> dict[str, int]:
    return {outcome: sum(one.outcome == outcome for one in found) for outcome in ("saved", "refused", "failed")}
