"""`/api/runs/{run}/events`: what happened."""

from typing import Annotated

from fastapi import APIRouter, Query

from trainvitals_server.api.answers import Json, TheParts, unknown
from trainvitals_server.api.data import Step
from trainvitals_server.auth.roles import needs
from trainvitals_server.records import event_record
from trainvitals_server.store import events, runs

MAX_EVENTS = 5000

router = APIRouter(prefix="/api/runs", dependencies=[needs("view")])


@router.get("/{run}/events")
def list_events(
    run: str,
    parts: TheParts,
    low: Annotated[Step, Query(alias="from")] = None,
    high: Annotated[Step, Query(alias="to")] = None,
    kinds: Annotated[str, Query(alias="type", max_length=400)] = "",
    after: Annotated[int, Query(ge=0, lt=1 << 63)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_EVENTS)] = 1000,
) -> Json:
    """Events by id; `next`, where it is not null, is the `after` of the next page."""
    types = [kind for kind in kinds.split(",") if kind]
    with parts.database.reading() as connection:
        if runs.get(connection, run) is None:
            raise unknown("a run", run)
        found = events.find(connection, run, low=low, high=high, types=types, after=after, limit=limit)
    following = found[-1].id if len(found) == limit else None
    return Json({"events": [event_record(row) for row in found], "next": following})
