"""A command's progress, inside the writer's transaction: what trainers report, and what time decides."""

from typing import Any

from trainvitals import wire
from trainvitals_server.commands.states import STAMPED, may_follow
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.store import commands, journal, runs


def note(tx: Transaction, producer: runs.Producer, update: wire.CommandUpdate) -> None:
    """Take in a trainer's report. One about another producer's command, or out of order, changes nothing."""
    command = commands.get(tx.connection, update.id)
    if command is None or (command["run"], command["producer"]) != (producer.run, producer.producer):
        return
    if not may_follow(command["state"], update.state):
        return
    columns: dict[str, Any] = {"state": update.state, "reason": update.reason}
    if update.state in STAMPED:
        columns[update.state] = update.time
    if update.state == "applied" or (command["step"] is None and update.state == "verified"):
        columns["step"] = update.step
    if update.result:
        columns["result"] = command["result"] | update.result
    _change(tx, command, columns, origin=f"producer {producer.producer}", role="ingest")


def expire(tx: Transaction) -> None:
    """Give up on what nobody took in time."""
    for command in commands.overdue(tx.connection, tx.now):
        reason = "not delivered in time: the trainer was not connected or did not answer"
        _change(tx, command, {"state": "expired", "reason": reason}, origin="server", role="server")


def abandon(tx: Transaction, run: str, reason: str, producer: str | None = None, rank: int | None = None) -> None:
    """Give up on what trainers (of `rank`, if given) took and never finished, that of `producer` excepted."""
    for command in commands.under_way(tx.connection, run):
        if command["producer"] != producer and rank in (None, command["rank"]):
            _change(tx, command, {"state": "unknown", "reason": reason}, origin="server", role="server")


def _change(tx: Transaction, command: dict[str, Any], columns: dict[str, Any], *, origin: str, role: str) -> None:
    commands.update(tx.connection, command["id"], **columns)
    whole = commands.get_whole(tx.connection, command["id"])
    assert whole is not None  # noqa: S101  # it was changed in the line above
    tx.changes[command["run"]].commands.append(whole)
    journal.audit(
        tx.connection,
        tx.now,
        role=role,
        origin=origin,
        action=command["action"],
        run=command["run"],
        command=command["id"],
        outcome=columns["state"],
        detail=columns["reason"][:500],
    )
