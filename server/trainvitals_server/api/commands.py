"""`/api/runs/{run}/commands`: asking a trainer for something, and what became of it."""

import secrets
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from trainvitals import wire
from trainvitals_server.api.answers import Json, TheParts, unknown
from trainvitals_server.auth.guard import Principal
from trainvitals_server.auth.roles import needs
from trainvitals_server.commands import dispatch
from trainvitals_server.errors import RefusedError
from trainvitals_server.parts import Parts
from trainvitals_server.records import command_record
from trainvitals_server.store import commands, runs

router = APIRouter(prefix="/api/runs")

Name = Annotated[str, Field(min_length=1, max_length=1000)]


class Order(BaseModel):
    """What to do. `strategy` and `layers` are for sanitize (default: as the trainer is set, and all that are broken),
    `of` is the command to undo. A repeated `key` returns the command it made the first time."""

    model_config = ConfigDict(extra="forbid", strict=True)

    action: wire.Action
    strategy: wire.Strategy | None = None
    layers: Annotated[list[Name], Field(min_length=1, max_length=10_000)] | None = None
    dry_run: bool = False
    of: Name | None = None
    key: Annotated[str, Field(min_length=1, max_length=200)] = Field(default_factory=lambda: secrets.token_hex(16))


@router.post("/{run}/commands", status_code=202, dependencies=[needs("control")])
async def place_command(run: str, order: Order, request: Request, parts: TheParts) -> Json:
    """Ask the run's trainer for something; 409 where it has ended or does not allow it."""
    principal: Principal = request.state.principal
    check(order)
    wanted = dispatch.Request(run=run, role=principal.role, origin=principal.address, **order.model_dump())
    try:
        command = await parts.write(lambda tx: dispatch.place(tx, wanted))
    except RefusedError as error:
        reason = error.detail
        await parts.write(lambda tx: dispatch.refuse(tx, wanted, reason))
        raise
    return Json(command_record(command), 202)


@router.get("/{run}/commands", dependencies=[needs("view")])
def list_commands(run: str, parts: TheParts) -> Json:
    """A run's commands, oldest first."""
    with parts.database.reading() as connection:
        if runs.get(connection, run) is None:
            raise unknown("a run", run)
        return Json({"commands": [command_record(command) for command in commands.find(connection, run)]})


@router.get("/{run}/commands/{command}", dependencies=[needs("view")])
def show_command(run: str, command: str, parts: TheParts) -> Json:
    """One command."""
    return Json(command_record(find(parts, run, command)))


def find(parts: Parts, run: str, command: str) -> dict[str, object]:
    """A run's command by id. Raises `RefusedError`."""
    with parts.database.reading() as connection:
        found = commands.get_whole(connection, command)
    if found is None or found["run"] != run:
        raise unknown(f"a command of run {run}", command)
    return found


def check(order: Order) -> None:
    """Raise `RefusedError` where an argument does not go with the action."""
    if order.action != "sanitize" and (order.strategy or order.layers or order.dry_run):
        raise RefusedError(422, f"body: strategy, layers and dry_run go with sanitize, got them with {order.action}")
    if (order.action == "undo") != (order.of is not None):
        raise RefusedError(422, f"body.of: expected the command to undo, and only for undo, got {order.of!r}")
