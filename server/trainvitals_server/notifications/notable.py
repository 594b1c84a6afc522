"""What is worth a message: noted in the writer's transaction where it happens, told at its end."""

from typing import Literal, NamedTuple

from trainvitals_server.alerts import Alert

How = Literal["firing", "regressed", "escalated"]


class AlertChange(NamedTuple):
    """An alert began to fire, fired again after it had been resolved, or became critical. `told` is the time of the
    record that showed it (Unix seconds, the trainer's clock)."""

    alert: Alert
    how: How
    told: float


class Ending(NamedTuple):
    """A run failed or was lost, at `step`. `time` is the trainer's where it said so itself, else ours; `told` is the
    time of the newest record that the news rests on, by the trainer's clock."""

    run: str
    state: Literal["failed", "lost"]
    reason: str
    producer: str
    step: int
    time: float
    told: float


Notable = AlertChange | Ending


def change(before: Alert | None, after: Alert) -> How | None:
    """How an alert changed, as far as people want to be told."""
    if after.status in ("firing", "regressed") and (before is None or before.status != after.status):
        return "firing" if after.status == "firing" else "regressed"
    if before is None or after.status == "resolved":
        return None
    return "escalated" if after.severity == "critical" != before.severity else None
