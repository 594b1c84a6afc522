"""Handing commands out: the row first, then to the trainer, if it is connected or as soon as it says hello again."""

import secrets
from collections.abc import Iterator
from typing import Any

import msgspec

from trainvitals import wire
from trainvitals_server.commands.states import DELIVERY_SECONDS
from trainvitals_server.errors import RefusedError
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.runs.states import ENDED
from trainvitals_server.store import commands, journal, runs
from trainvitals_server.store.packing import unpack
from trainvitals_server.store.transactions import Connection

EVERYWHERE: frozenset[wire.Action] = frozenset({"sanitize", "undo", "resume_repair"})  # on each rank that repairs


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asks of a run's trainer; who they are; `key` makes asking twice the same as asking once."""

    run: str
    action: wire.Action
    key: str
    role: str
    origin: str
    strategy: wire.Strategy | None = None
    layers: list[str] | None = None
    dry_run: bool = False
    of: str | None = None


def place(tx: Transaction, request: Request) -> dict[str, Any]:
    """Store a command for the newest producer of rank 0, with parts for the other ranks where they are concerned, or
    return the one with the same key. Raises `RefusedError`."""
    known = commands.get_by_key(tx.connection, request.run, request.key)
    if known is not None:
        return known
    producer = _addressee(tx.connection, request)
    row = _row(tx, request, producer.producer)
    commands.add(tx.connection, row)
    for rank, name, of in _others(tx.connection, request, producer):
        identity = secrets.token_hex(16)
        own = {"id": identity, "key": identity, "of": of, "whole": row["id"], "rank": rank}
        commands.add(tx.connection, row | {"producer": name} | own)
    stored = commands.get_whole(tx.connection, row["id"])
    assert stored is not None  # noqa: S101  # stored a few lines above
    tx.changes[request.run].commands.append(stored)
    _audit(tx, request, "requested", row["id"])
    return stored


def _row(tx: Transaction, request: Request, producer: str) -> dict[str, Any]:
    return {
        "id": secrets.token_hex(16),
        "run": request.run,
        "producer": producer,
        "action": request.action,
        "strategy": request.strategy,
        "layers": request.layers,
        "dry_run": request.dry_run,
        "of": request.of,
        "key": request.key,
        "state": "requested",
        "reason": "",
        "result": {},
        "requested": tx.now,
        "expires": tx.now + DELIVERY_SECONDS,
        "role": request.role,
    }


def _others(connection: Connection, request: Request, leader: runs.Producer) -> Iterator[tuple[int, str, str | None]]:
    """Rank, producer and, for an undo, the part to undo, of every other rank that a command concerns: of those that
    step together with rank 0 and have statistics of their own to repair. What is a decision of the whole loop's (to
    stop, to save) is rank 0's."""
    if request.action not in EVERYWHERE:
        return
    undone = {part["rank"]: part["id"] for part in commands.parts(connection, request.of)} if request.of else {}
    for row in runs.newest_rows(connection, request.run):
        together = row["rank"] != leader.rank and row["launch"] == leader.launch
        able = not row["follows"] and not row["state"] and request.action in unpack(row["allow"])
        if together and able and (request.action != "undo" or row["rank"] in undone):
            yield row["rank"], row["producer"], undone.get(row["rank"])


def refuse(tx: Transaction, request: Request, reason: str) -> None:
    """Note that a command was not granted."""
    _audit(tx, request, "refused", None, reason)


def to_wire(command: dict[str, Any], now: float) -> wire.Command:
    """The command as its trainer gets it."""
    return wire.Command(
        id=command["id"],
        producer=command["producer"],
        action=command["action"],
        ttl=max(0.0, command["expires"] - now),
        expires=command["expires"],
        strategy=command["strategy"],
        layers=command["layers"],
        dry_run=command["dry_run"],
        of=command["of"],
    )


def _addressee(connection: Connection, request: Request) -> runs.Producer:
    run = runs.get(connection, request.run)
    if run is None:
        raise RefusedError(404, f"expected the id of a run, got {request.run!r}")
    if run["state"] in ENDED:
        raise RefusedError(409, f"expected a run that is under way, got one that has {run['state']}")
    producer = runs.newest_producer(connection, request.run)
    if producer is None:
        raise RefusedError(409, "expected a run with a trainer of rank 0, got one without")
    allowed = unpack(run["allow"])
    if request.action not in allowed:
        raise RefusedError(
            409, f"expected an action this trainer allows ({', '.join(allowed) or 'none'}), got {request.action!r}"
        )
    return producer


def _audit(tx: Transaction, request: Request, outcome: str, command: str | None, detail: str = "") -> None:
    journal.audit(
        tx.connection,
        tx.now,
        role=request.role,
        origin=request.origin,
        action=request.action,
        run=request.run,
        command=command,
        outcome=outcome,
        detail=detail,
    )
