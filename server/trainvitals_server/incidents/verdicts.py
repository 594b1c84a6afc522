"""How a run is, in one sentence with a word in front: never by colour alone."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from trainvitals_server.alerts import Alert
from trainvitals_server.incidents.incident import Incident

OVER = ("finished", "imported")

Level = Literal["ok", "warning", "critical", "unknown"]


class Verdict(msgspec.Struct, frozen=True):
    """The level, and the sentence."""

    level: Level
    text: str


def verdict(
    *,
    state: str,
    incidents: Sequence[Incident],
    nonfinite_layers: Sequence[str],
    alerts: Sequence[Alert],
    last_step: int | None,
    rank_failure: str = "",
) -> Verdict:
    """The worst that is true now. `nonfinite_layers` are those that are so now, in forward order; `last_step` is None
    before the first frame; `rank_failure` says which of the other ranks failed, if any. Acknowledged alerts are
    somebody's business already and say nothing here; nor do alerts of a run that is over and ended well, since nothing
    can clear them any more."""
    firing = [alert for alert in alerts if alert.status in ("firing", "regressed")]
    return (
        broken(incidents, nonfinite_layers)
        or ended(state, last_step, rank_failure)
        or (recovered(incidents) if state in OVER else None)
        or alarmed(firing, "critical")
        or silent(state, last_step)
        or alarmed(firing, "warning")
        or recovered(incidents)
        or well(last_step)
    )


def broken(incidents: Sequence[Incident], layers: Sequence[str]) -> Verdict | None:
    """Something is non-finite now."""
    current = next((incident for incident in reversed(incidents) if incident.open), None)
    since = f" since step {current.first_bad_step:,}" if current else ""
    if layers:
        first = current.first_bad_layer if current and current.first_bad_layer in layers else layers[0]
        return Verdict("critical", f"CRITICAL: {batchnorms(len(layers))} non-finite{since}, first {first}")
    if current is None:
        return None
    first = f", first {current.first_bad_layer}" if current.first_bad_layer else ""
    return Verdict("critical", f"CRITICAL: model broken{since}{first}; {current.chain[-1].text}")


def ended(state: str, last_step: int | None, rank_failure: str = "") -> Verdict | None:
    """The run failed, or one of its ranks did, which the others wait for."""
    if state != "failed":
        return Verdict("critical", f"CRITICAL: {rank_failure}") if rank_failure else None
    when = "before its first step" if last_step is None else f"at step {last_step:,}"
    return Verdict("critical", f"CRITICAL: the run failed {when}")


def alarmed(alerts: Sequence[Alert], severity: str) -> Verdict | None:
    """An alert of this severity fires: the newest, and how many more there are."""
    found = sorted((alert for alert in alerts if alert.severity == severity), key=lambda alert: alert.last_step)
    if not found:
        return None
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    level: Level = "critical" if severity == "critical" else "warning"
    return Verdict(level, f"{level.upper()}: {found[-1].text}{more}")


def silent(state: str, last_step: int | None) -> Verdict | None:
    """Nothing has come for a while; that is never shown as health."""
    words = {"stalled": "no step finished for too long", "lost": "no contact with the trainer"}
    if state not in words:
        return None
    since = "" if last_step is None else f" since step {last_step:,}"
    return Verdict("warning", f"WARNING: {words[state]}{since}")


def recovered(incidents: Sequence[Incident]) -> Verdict | None:
    """It was broken, and is not any more."""
    if not incidents:
        return None
    last = incidents[-1]
    repairs = sum(incident.sanitizations for incident in incidents)
    what = f"{_broken_layers(last)} non-finite" if last.layers else "the model was broken"
    until = f" to {last.healed_step:,}" if last.healed_step not in (None, last.first_bad_step) else ""
    span = f"from step {last.first_bad_step:,}{until}" if until else f"at step {last.first_bad_step:,}"
    first = f", first {last.first_bad_layer}" if last.first_bad_layer else ""
    times = f"; repaired {repairs} time{'s' if repairs != 1 else ''}" if repairs else ""
    many = f" in {len(incidents)} incidents" if len(incidents) > 1 else ""
    return Verdict("warning", f"Recovered: {what} {span}{first}{times}{many}")


def _broken_layers(incident: Incident) -> str:
    """Those whose statistics broke, which are the wound; others where there are none."""
    if incident.norms:
        return batchnorms(len(incident.norms))
    return f"{len(incident.layers)} layer{'s' if len(incident.layers) != 1 else ''}"


def well(last_step: int | None) -> Verdict:
    """Nothing is wrong, or nothing is known."""
    if last_step is None:
        return Verdict("unknown", "No data yet")
    return Verdict("ok", f"OK: everything finite up to step {last_step:,}")


def batchnorms(count: int) -> str:
    """How many layers."""
    return f"{count} BatchNorm layer{'s' if count != 1 else ''}"
