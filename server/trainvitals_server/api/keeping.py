"""Keeping runs: pins, deletion, and how much room the database takes."""

from fastapi import APIRouter
from starlette.requests import Request

from trainvitals_server.api.answers import Json, TheParts, unknown
from trainvitals_server.auth.guard import Principal
from trainvitals_server.auth.roles import needs
from trainvitals_server.clock import iso
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.life import deleting
from trainvitals_server.parts import Parts
from trainvitals_server.store import deletion, journal, runs, space

TOLD = 100  # deleted runs that are named

router = APIRouter(prefix="/api")


@router.put("/runs/{run}/pin", dependencies=[needs("control")])
async def pin(run: str, request: Request, parts: TheParts) -> Json:
    """Keep a run whatever retention says."""
    return await _set_pin(parts, run, request, pinned=True)


@router.delete("/runs/{run}/pin", dependencies=[needs("control")])
async def unpin(run: str, request: Request, parts: TheParts) -> Json:
    """Leave a run to retention again."""
    return await _set_pin(parts, run, request, pinned=False)


@router.delete("/runs/{run}", status_code=202, dependencies=[needs("control")])
async def delete_run(run: str, request: Request, parts: TheParts, force: bool = False) -> Json:
    """Delete a run: gone at once, its room is given back meanwhile. 409 for one under way or pinned, unless `force`."""
    who: Principal = request.state.principal
    await deleting.delete(parts, run, role=who.role, origin=who.address, reason=f"asked by {who.role}", force=force)
    return Json({"run": run, "deleted": True}, 202)


@router.get("/storage", dependencies=[needs("view")])
def show_storage(parts: TheParts) -> Json:
    """The room the database takes, what retention was asked for, and the runs deleted last."""
    with parts.database.reading() as connection:
        taken = space.measure(connection, parts.database.path)
        deleted = deletion.list_deleted(connection, TOLD)
        waiting = len(deletion.hidden(connection, "deleting"))
    return Json(
        {
            "bytes": taken._asdict(),
            "retain": parts.settings.retain.text or None,
            "trouble": parts.overfull,
            "being_deleted": waiting,
            "deleted": [{**row, "time": iso(row["time"])} for row in deleted],
        }
    )


async def _set_pin(parts: Parts, run: str, request: Request, *, pinned: bool) -> Json:
    who: Principal = request.state.principal

    def work(tx: Transaction) -> None:
        if runs.get(tx.connection, run) is None:
            raise unknown("a run", run)
        runs.update(tx.connection, run, pinned=int(pinned))
        _ = tx.changes[run]  # its summary has changed
        verb = "pin" if pinned else "unpin"
        journal.audit(tx.connection, tx.now, role=who.role, origin=who.address, action=verb, run=run, outcome="done")

    await parts.write(work)
    return Json({"run": run, "pinned": pinned})
