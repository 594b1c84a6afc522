"""`/api/runs/{run}/at` and `/incidents`: everything as of one step, and what went wrong."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from trainvitals_server.api.answers import Json, TheParts, unknown
from trainvitals_server.auth.roles import needs
from trainvitals_server.clock import iso
from trainvitals_server.incidents import Incident, build_ranks, verdict
from trainvitals_server.jsontext import plain
from trainvitals_server.records import event_record
from trainvitals_server.runs.states import State
from trainvitals_server.store import alerts, events, history, runs, series

router = APIRouter(prefix="/api/runs", dependencies=[needs("view")])


@router.get("/{run}/at")
def as_of(
    run: str,
    parts: TheParts,
    step: Annotated[int, Query(ge=-(1 << 53), le=1 << 53)],
    rank: Annotated[int, Query(ge=0, lt=1 << 31)] = 0,
    producer: str | None = None,
) -> Json:
    """The newest value of every series at or before a step, of rank 0 and the newest producers unless others are asked
    for, and what could be said of the run then."""
    with parts.database.reading() as connection:
        row = runs.get(connection, run)
        if row is None:
            raise unknown("a run", run)
        now = history.read_moment(connection, history.Question(run, None, step, rank, producer))
        newest = runs.newest_with_frames(connection, run, rank)
        rows = series.list_all(connection, run)
        endings = history.endings(connection, run)
        past = parts.stories.of(connection, run).until(step, endings)
        found = [alert for alert in alerts.find(connection, run) if alert.first_step <= step]
        validation = events.newest(connection, run, "validation", step, endings)
        here = events.find(connection, run, low=step, high=step)
        here = [one for one in here if events.counts(one.producer, one.step, endings)]
    over = newest is None or newest.last_step is None or step >= newest.last_step
    state: State = row["state"] if over else "live"
    bad = history.nonfinite_layers(rows, now.values)
    said = verdict(state=state, incidents=build_ranks(past), nonfinite_layers=bad, alerts=found, last_step=now.step)
    return Json(
        {
            "step": now.step,
            "time": iso(now.time),
            "values": now.values,
            "validation": event_record(validation) if validation else None,
            "nonfinite_layers": bad,
            "verdict": {"level": said.level, "text": said.text},
            "events": [event_record(one) for one in here],
        }
    )


@router.get("/{run}/incidents")
def list_incidents(run: str, parts: TheParts) -> Json:
    """Each failure as one causal chain, oldest first."""
    with parts.database.reading() as connection:
        if runs.get(connection, run) is None:
            raise unknown("a run", run)
        story = parts.stories.of(connection, run)
    return Json({"incidents": [incident_record(incident) for incident in story.incidents]})


def incident_record(incident: Incident) -> dict[str, Any]:
    """One incident; the times of its chain as text."""
    record: dict[str, Any] = plain(incident)
    for link in record["chain"]:
        link["time"] = iso(link["time"]) if isinstance(link["time"], int | float) else link["time"]
    return record
