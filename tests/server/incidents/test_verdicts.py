"""The one sentence about a run: the worst that is true now comes first."""

from typing import Any

from trainvitals import wire
from trainvitals_server.alerts import Alert
from trainvitals_server.incidents import Verdict, build, verdict

LAYER = "refinement_ffc.scales.0.ffc.local_conv.1"
BROKEN = wire.NonFinite(step=41203, time=0.0, layer=LAYER, signal="running_statistics", kind="inf", count=1, total=8)
REPAIR = wire.Repair(layer=LAYER, channels=1, total=8, strategy="restore", buffers=["running_mean"])
REPAIRED = wire.Sanitized(step=41205, time=0.0, origin="auto", strategy="restore", repairs=[REPAIR])


def alert(severity: Any, status: Any = "firing") -> Alert:
    return Alert(
        run="r",
        rule="headroom",
        title="Little fp16 headroom",
        layer="conv",
        severity=severity,
        status=status,
        first_step=1,
        last_step=2,
        count=1,
        value=1.0,
        threshold=2.0,
        text="The input of conv is close.",
        opened=0.0,
        updated=0.0,
    )


def say(*events: wire.Event, **rest: Any) -> Verdict:
    """The verdict on a live run of 50,000 steps, unless told otherwise."""
    return verdict(
        state=rest.get("state", "live"),
        incidents=build(events),
        nonfinite_layers=rest.get("layers", ()),
        alerts=rest.get("alerts", ()),
        last_step=rest.get("step", 50000),
    )


def test_broken_layers_come_first() -> None:
    """With their number, since when, and the first of them in forward order."""
    text = f"CRITICAL: 3 BatchNorm layers non-finite since step 41,203, first {LAYER}"
    assert say(BROKEN, layers=("a", LAYER, "b"), alerts=[alert("warning")]) == Verdict("critical", text)
    assert say(layers=("a",)).text == "CRITICAL: 1 BatchNorm layer non-finite, first a"


def test_an_open_incident_is_critical_where_no_layer_is_known_to_be_bad_now() -> None:
    """It says what happened last."""
    said = say(wire.Checkpoint(step=9, time=0.0, outcome="refused", path="p", key="conv.weight"))
    assert said.level == "critical"
    assert said.text.startswith("CRITICAL: model broken since step 9, first conv; The checkpoint at step 9 was refused")


def test_a_repaired_run_has_recovered() -> None:
    """From when to when, and how often it took a repair; it stays a warning."""
    text = f"Recovered: 1 BatchNorm layer non-finite from step 41,203 to 41,205, first {LAYER}; repaired 1 time"
    assert say(BROKEN, REPAIRED) == Verdict("warning", text)
    assert say(BROKEN, REPAIRED, state="finished") == Verdict("warning", text)


def test_gradients_that_broke_beside_are_not_counted_as_batchnorms() -> None:
    """Only running statistics are; where nothing but gradients broke, no BatchNorm is named."""
    grads = [
        wire.NonFinite(step=41203, time=0.0, layer=layer, signal="gradient", kind="nan", order=order)
        for order, layer in enumerate(("conv.weight", f"{LAYER}.weight", "fc.bias"))
    ]
    clean = wire.HealthCheck(step=41300, time=0.0, origin="health", healthy=True, count=0)
    assert "Recovered: 1 BatchNorm layer non-finite" in say(BROKEN, *grads, REPAIRED, clean).text
    assert "Recovered: 3 layers non-finite" in say(*grads, clean).text


def test_alerts_speak_in_order_of_severity_unless_acknowledged() -> None:
    """An acknowledged one is somebody's business already."""
    assert say(alerts=[alert("warning"), alert("critical")]).text == "CRITICAL: The input of conv is close."
    assert say(alerts=[alert("warning"), alert("warning", "regressed")]) == Verdict(
        "warning", "WARNING: The input of conv is close. (and 1 more)"
    )
    assert say(alerts=[alert("critical", "acknowledged"), alert("critical", "resolved")]).level == "ok"


def test_a_run_that_ended_well_after_repairs_has_recovered() -> None:
    """While it lived the alert about repeated repairs came first; now nothing can clear it."""
    assert say(BROKEN, REPAIRED, alerts=[alert("critical")]).level == "critical"
    assert say(BROKEN, REPAIRED, alerts=[alert("critical")], state="finished").text.startswith("Recovered: ")
    assert say(BROKEN, alerts=[alert("critical")], state="finished").level == "critical"


def test_silence_is_never_shown_as_health() -> None:
    """Stalled and lost are different things."""
    assert say(state="lost") == Verdict("warning", "WARNING: no contact with the trainer since step 50,000")
    assert say(state="stalled").text == "WARNING: no step finished for too long since step 50,000"
    assert say(state="lost", step=None).text == "WARNING: no contact with the trainer"


def test_a_failed_run_is_critical() -> None:
    """Also before its first step."""
    assert say(state="failed").text == "CRITICAL: the run failed at step 50,000"
    assert say(state="failed", step=None).text == "CRITICAL: the run failed before its first step"


def test_a_healthy_run_is_ok_and_an_empty_one_unknown() -> None:
    """No data is not good news."""
    assert say() == Verdict("ok", "OK: everything finite up to step 50,000")
    assert say(step=None, state="starting") == Verdict("unknown", "No data yet")
