"""Carrying runs: one as a file, streamed to the client, and a file taken in. No name of a file is ever asked for."""

from collections.abc import AsyncIterator

from fastapi import APIRouter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from trainvitals_server.api.answers import Json, TheParts, unknown
from trainvitals_server.auth.guard import Principal
from trainvitals_server.auth.roles import needs
from trainvitals_server.errors import FileRefusedError, NewerSchemaError, RefusedError, RunExistsError
from trainvitals_server.life import carrying, importing
from trainvitals_server.store import runs

TYPE = "application/vnd.sqlite3"

router = APIRouter(prefix="/api")


@router.get("/runs/{run}/export", dependencies=[needs("view")])
async def export_run(run: str, parts: TheParts) -> Response:
    """A run as one SQLite file, which `trainvitals replay` opens and another server imports."""
    with parts.database.reading() as connection:
        if runs.get(connection, run) is None:
            raise unknown("a run", run)
    pieces = carrying.send(parts, run)
    size = await anext(pieces)
    headers = {"Content-Length": str(size), "Content-Disposition": "attachment"}
    return StreamingResponse(_bytes(pieces), headers=headers, media_type=TYPE)


@router.post("/import", status_code=201, dependencies=[needs("control")])
async def import_run(request: Request, parts: TheParts) -> Json:
    """Take in a run's file, the request's body; 409 where there is such a run, 422 where the file is not one."""
    who: Principal = request.state.principal
    async with carrying.room(parts) as folder:
        path = folder / "run.db"
        try:
            await carrying.receive(request.stream(), path)
        except ClientDisconnect as error:
            raise RefusedError(400, "expected a whole file, got a part of one") from error
        try:
            run = await importing.import_into(parts, path, role=who.role, origin=who.address)
        except RunExistsError as error:
            raise RefusedError(409, str(error)) from error
        except (FileRefusedError, NewerSchemaError) as error:
            raise RefusedError(422, str(error)) from error
    return Json({"run": run}, 201)


async def _bytes(pieces: AsyncIterator[bytes | int]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
