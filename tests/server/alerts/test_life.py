"""An alert's life: what may follow what, and what is counted."""

import msgspec
import pytest

from trainvitals_server.alerts import Alert, Status, acknowledge, advance
from trainvitals_server.alerts.life import NEXT
from trainvitals_server.rules import Finding, Severity


def finding(step: int, *, active: bool = True, severity: Severity = "warning", layer: str = "bn") -> Finding:
    return Finding(
        rule="norm_nonfinite",
        title="Running statistics broken",
        layer=layer,
        step=step,
        severity=severity,
        active=active,
        value=float(step),
        threshold=0.0,
        text=f"step {step}",
    )


def alert(*steps: Finding) -> Alert:
    """An alert after these findings, at time 100, 101, ..."""
    now: Alert | None = None
    for i, found in enumerate(steps):
        now = advance(now, found, "run", 100.0 + i)
    assert now is not None
    return now


def test_a_finding_opens_an_alert() -> None:
    """With everything the finding says, for this run."""
    new = alert(finding(5))
    assert (new.run, new.rule, new.layer, new.status) == ("run", "norm_nonfinite", "bn", "firing")
    assert (new.first_step, new.last_step, new.count, new.value) == (5, 5, 1, 5.0)
    assert (new.opened, new.updated, new.id) == (100.0, 100.0, 0)


def test_a_finding_about_the_run_has_no_layer() -> None:
    """The empty name is no layer's name."""
    assert alert(finding(5, layer="")).layer is None


def test_nothing_that_never_fired_can_clear() -> None:
    """There is no alert to speak of."""
    assert advance(None, finding(5, active=False), "run", 1.0) is None


def test_firing_again_counts_and_escalates() -> None:
    """The worst severity stays; the first step and the time of opening too."""
    now = alert(finding(5), finding(7, severity="critical"), finding(9))
    assert (now.status, now.count, now.severity) == ("firing", 3, "critical")
    assert (now.first_step, now.last_step, now.opened, now.updated) == (5, 9, 100.0, 102.0)
    assert now.text == "step 9"


def test_it_resolves_and_regresses() -> None:
    """A regression begins with its own severity, and keeps the count."""
    over = alert(finding(5, severity="critical"), finding(7, active=False))
    assert (over.status, over.count, over.value, over.last_step) == ("resolved", 1, 5.0, 7)
    again = advance(over, finding(9), "run", 200.0)
    assert again is not None
    assert (again.status, again.count, again.severity) == ("regressed", 2, "warning")
    worse = advance(again, finding(10, severity="critical"), "run", 201.0)
    assert worse is not None
    assert (worse.status, worse.severity) == ("regressed", "critical")


def test_clearing_what_is_clear_changes_nothing() -> None:
    """Not even the time of the last change."""
    over = alert(finding(5), finding(7, active=False))
    assert advance(over, finding(9, active=False), "run", 200.0) is over


def test_an_acknowledged_alert_stays_so_while_it_fires() -> None:
    """It resolves like any other, and a regression asks for attention again."""
    seen = acknowledge(alert(finding(5)), 150.0)
    assert (seen.status, seen.updated) == ("acknowledged", 150.0)
    more = advance(seen, finding(7, severity="critical"), "run", 160.0)
    assert more is not None
    assert (more.status, more.severity, more.count) == ("acknowledged", "critical", 2)
    over = advance(more, finding(8, active=False), "run", 170.0)
    assert over is not None
    assert over.status == "resolved"
    again = advance(over, finding(9), "run", 180.0)
    assert again is not None
    assert again.status == "regressed"


@pytest.mark.parametrize("status", ["resolved", "acknowledged"])
def test_there_is_nothing_to_acknowledge(status: Status) -> None:
    """What is over, or was acknowledged before, stays as it is."""
    before = msgspec.structs.replace(alert(finding(5)), status=status)
    assert acknowledge(before, 200.0) is before


def test_the_table_names_known_states_only() -> None:
    """Every state can be reached, and every one that is open can be left."""
    known = {"firing", "acknowledged", "resolved", "regressed"}
    assert set(NEXT.values()) == known
    assert {status for status, _ in NEXT} == known | {None}


def test_a_resumed_run_may_go_back_in_steps() -> None:
    """First and last step stay the ends of what was seen."""
    now = alert(finding(50), finding(7))
    assert (now.first_step, now.last_step) == (7, 50)
