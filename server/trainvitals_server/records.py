"""How stored things look in JSON, the same over REST and the live socket."""

from typing import Any

import msgspec

from trainvitals_server.alerts import Alert
from trainvitals_server.clock import iso
from trainvitals_server.store import events, series
from trainvitals_server.store.history import Gap

Object = dict[str, Any]
COMMAND_TIMES = ("requested", "delivered", "applied", "verified", "expires")


def series_record(row: series.Row) -> Object:
    """One series."""
    return row._asdict()


def event_record(row: events.Row) -> Object:
    """One event: where and when, and under `data` what its type says beside that."""
    record = {**row._asdict(), "time": iso(row.time), "data": events.fields(row.record)}
    del record["record"]
    return record


def alert_record(alert: Alert) -> Object:
    """One alert."""
    return {**msgspec.structs.asdict(alert), "opened": iso(alert.opened), "updated": iso(alert.updated)}


def command_record(command: Object) -> Object:
    """One command; under `parts` the same for each other rank it addresses."""
    parts = [command_record(part) for part in command.get("parts", ())]
    return {**command, **{name: iso(command[name]) for name in COMMAND_TIMES}, "parts": parts}


def gap_record(gap: Gap) -> Object:
    """Steps that are missing."""
    return {"from": gap.low, "to": gap.high, "count": gap.lost, "reason": gap.reason}
