"""What each action does at a safe point. The table is closed: nothing is looked up by name beyond it."""

from collections.abc import Callable
from typing import Any

import msgspec

from trainvitals.control.desk import Act, Order, RefusedError, select
from trainvitals.repair.keeper import Keeper
from trainvitals.vitals import Vitals


def actions(
    vitals: Vitals, keeper: Keeper, save: Callable[[], dict[str, Any]], stop: Callable[[], None]
) -> dict[str, Act]:
    """The actions by name."""

    def sanitize(order: Order, models: set[str], step: int) -> dict[str, Any] | None:
        command = order.command
        now = models & order.remaining
        norms = select(vitals.norms, now, command.layers)
        order.repairs += keeper.repair(
            norms, command.strategy or "restore", "command", step, command.id, dry_run=command.dry_run
        )
        order.remaining -= now
        if order.remaining:
            return None
        return {"dry_run": command.dry_run, "repairs": msgspec.to_builtins(order.repairs)}

    def undo(order: Order, models: set[str], step: int) -> dict[str, Any] | None:
        if order.command.of is None:
            raise RefusedError("undo: expected `of` to name the command to undo, got nothing")
        now = models & order.remaining
        order.undone += keeper.undo(order.command.of, now)
        order.remaining -= now
        if order.remaining:
            return None
        if not order.undone:
            raise RefusedError(f"command {order.command.of} changed nothing or is too long ago to be undone")
        return {"undone": order.command.of, "layers": order.undone}

    def resume_repair(order: Order, models: set[str], step: int) -> dict[str, Any]:
        keeper.resume(step)
        return {}

    def save_checkpoint(order: Order, models: set[str], step: int) -> dict[str, Any]:
        return save()

    def stop_run(order: Order, models: set[str], step: int) -> dict[str, Any]:
        stop()
        return {"should_stop": True}

    return {
        "sanitize": sanitize,
        "undo": undo,
        "resume_repair": resume_repair,
        "save_checkpoint": save_checkpoint,
        "stop": stop_run,
    }
