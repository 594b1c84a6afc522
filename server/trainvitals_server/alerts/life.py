"""What may follow what in an alert's life, as a table."""

from typing import Literal

import msgspec

from trainvitals_server.alerts.alert import Alert, Status
from trainvitals_server.rules import Finding, Severity

Signal = Literal["fired", "cleared", "acknowledged"]

RANK: dict[Severity, int] = {"info": 1, "warning": 2, "critical": 3}

# (status, signal) -> status. A pair that is not here changes nothing.
NEXT: dict[tuple[Status | None, Signal], Status] = {
    (None, "fired"): "firing",
    ("firing", "fired"): "firing",
    ("acknowledged", "fired"): "acknowledged",
    ("resolved", "fired"): "regressed",
    ("regressed", "fired"): "regressed",
    ("firing", "cleared"): "resolved",
    ("acknowledged", "cleared"): "resolved",
    ("regressed", "cleared"): "resolved",
    ("firing", "acknowledged"): "acknowledged",
    ("regressed", "acknowledged"): "acknowledged",
}


def advance(alert: Alert | None, finding: Finding, run: str, now: float, rank: int = 0) -> Alert | None:
    """The alert after a finding: a new one, the same one further on, or None where nothing was open and nothing
    fired. `now` is in Unix seconds."""
    status = NEXT.get((alert.status if alert else None, "fired" if finding.active else "cleared"))
    if status is None:
        return alert
    if alert is None:
        return msgspec.structs.replace(_open(finding, run, now, status), rank=rank)
    again = status == "regressed" and alert.status == "resolved"
    alert = msgspec.structs.replace(
        alert, status=status, text=finding.text, last_step=max(alert.last_step, finding.step), updated=now
    )
    return _fire(alert, finding, again=again) if finding.active else alert


def acknowledge(alert: Alert, now: float) -> Alert:
    """The alert once somebody has said that they saw it; unchanged where there is nothing to acknowledge."""
    status = NEXT.get((alert.status, "acknowledged"))
    return msgspec.structs.replace(alert, status=status, updated=now) if status else alert


def supersede(alert: Alert, text: str, now: float) -> Alert:
    """The alert once the process that it was about has been followed by another; unchanged where it is over."""
    status = NEXT.get((alert.status, "cleared"))
    return msgspec.structs.replace(alert, status=status, text=text, updated=now) if status else alert


def _open(finding: Finding, run: str, now: float, status: Status) -> Alert:
    return Alert(
        run=run,
        rule=finding.rule,
        title=finding.title,
        layer=finding.layer or None,
        severity=finding.severity,
        status=status,
        first_step=finding.step,
        last_step=finding.step,
        count=1,
        value=finding.value,
        threshold=finding.threshold,
        text=finding.text,
        opened=now,
        updated=now,
    )


def _fire(alert: Alert, finding: Finding, *, again: bool) -> Alert:
    """Count it, and keep the worst severity since the alert last began to fire."""
    worst = finding.severity if again else max(alert.severity, finding.severity, key=RANK.__getitem__)
    return msgspec.structs.replace(
        alert,
        first_step=min(alert.first_step, finding.step),
        count=alert.count + 1,
        severity=worst,
        title=finding.title,
        value=finding.value,
        threshold=finding.threshold,
    )
