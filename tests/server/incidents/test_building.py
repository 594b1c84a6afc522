"""Events to incidents: what is joined, what closes a case, and what begins another."""

from collections.abc import Sequence
from typing import Any

import pytest

from trainvitals import wire
from trainvitals_server.incidents import Incident, build

FIRST, SECOND = "refinement_ffc.scales.0.ffc.local_conv.1", "refinement_ffc.scales.1.ffc.local_conv.1"


def nonfinite(step: int, layer: str = FIRST, signal: str = "running_statistics", **rest: Any) -> wire.NonFinite:
    kind = rest.pop("kind", "inf")
    return wire.NonFinite(step=step, time=float(step), layer=layer, signal=signal, kind=kind, **rest)


def sanitized(step: int, *layers: str, origin: wire.Origin = "auto", **rest: Any) -> wire.Sanitized:
    repairs = [
        wire.Repair(layer=n, channels=2, total=8, strategy="restore", buffers=["running_mean"], snapshot_step=step - 4)
        for n in layers
    ]
    return wire.Sanitized(step=step, time=float(step), origin=origin, strategy="restore", repairs=repairs, **rest)


def check(step: int, *keys: str, origin: wire.Origin = "health") -> wire.HealthCheck:
    return wire.HealthCheck(step=step, time=float(step), origin=origin, healthy=not keys, keys=list(keys))


def validation(step: int, valid: int, bad: int = 0, *, tainted: bool = False) -> wire.Validation:
    return wire.Validation(
        step=step, time=float(step), valid=valid, errors=0, nonfinite=bad, tainted=tainted, metrics={"psnr": 27.25}
    )


def checkpoint(step: int, key: str | None = None) -> wire.Checkpoint:
    outcome = "refused" if key else "saved"
    return wire.Checkpoint(step=step, time=float(step), outcome=outcome, path="p", key=key)


def types(incident: Incident) -> list[tuple[int, str]]:
    return [(link.step, link.type) for link in incident.chain]


THE_SEED: Sequence[wire.Event] = (
    nonfinite(41, f"{FIRST}.weight", "gradient", skipped=True, order=7),
    nonfinite(41, SECOND, skipped=True, count=1, total=8, order=9),
    nonfinite(41, FIRST, skipped=True, count=2, total=8, order=5, headroom=1.3),
    validation(50, 0, 10, tainted=True),
    checkpoint(50, f"{FIRST}.running_mean"),
)


def test_the_seed_is_one_chain_from_headroom_to_the_refused_checkpoint() -> None:
    """The first layer is the first in forward order, not the first reported."""
    (incident,) = build(THE_SEED)
    assert (incident.first_bad_step, incident.first_bad_layer) == (41, FIRST)
    assert (incident.channels, incident.kind, incident.precision, incident.headroom) == (2, "inf", "fp16", 1.3)
    assert incident.layers == [FIRST, SECOND]
    assert incident.open
    assert types(incident) == [
        (41, "headroom"),
        (41, "skipped"),
        (41, "nonfinite"),
        (41, "nonfinite"),
        (50, "validation"),
        (50, "checkpoint"),
    ]
    said = [link.text for link in incident.chain]
    assert "1.3" in said[0]
    assert "skipped step 41" in said[1]
    assert said[2] == (
        f"The running statistics of {FIRST} became Inf in 2 of 8 channels at step 41; first in forward order, "
        f"with {SECOND} in the same step."
    )
    assert "0 of 10 batches valid" in said[4]
    assert f"{FIRST}.running_mean is not finite" in said[5]


def test_a_repair_closes_it_and_what_proves_the_repair_joins() -> None:
    """Verified by a command, a clean check, a validation, a saved checkpoint: each once."""
    good = (check(100), check(200), validation(100, 10), validation(200, 10), checkpoint(100), checkpoint(200))
    (incident,) = build([*THE_SEED, sanitized(53, FIRST, SECOND, origin="command", command="c1"), *good])
    assert not incident.open
    assert (incident.sanitizations, incident.healed_step, incident.last_step) == (1, 53, 100)
    assert types(incident)[6:] == [(53, "sanitized"), (100, "health"), (100, "validation"), (100, "checkpoint")]
    assert "A command repaired 4 channels" in incident.chain[6].text
    assert "from the statistics of step 49" in incident.chain[6].text
    assert "psnr 27.25" in incident.chain[8].text


def test_a_verified_command_proves_the_repair() -> None:
    """A dry run proves nothing, and joins nothing."""
    dry = wire.CommandUpdate(step=45, time=45.0, id="c0", state="verified", result={"dry_run": True, "repairs": []})
    done = wire.CommandUpdate(step=60, time=60.0, id="c1", state="verified", reason="clean for 5 steps")
    (incident,) = build([nonfinite(41), dry, sanitized(53, FIRST, origin="command"), done])
    assert types(incident)[-2:] == [(53, "sanitized"), (60, "command")]
    assert "clean for 5 steps" in incident.chain[-1].text


def test_a_repair_of_some_layers_only_leaves_it_open() -> None:
    """Until the last broken layer is repaired."""
    (incident,) = build([*THE_SEED, sanitized(53, FIRST)])
    assert incident.open
    (incident,) = build([*THE_SEED, sanitized(53, FIRST), sanitized(60, SECOND)])
    assert not incident.open
    assert incident.sanitizations == 2


def test_a_later_break_opens_a_new_one() -> None:
    """Each with its own first bad step and repairs."""
    events = [nonfinite(41), sanitized(43, FIRST), nonfinite(90, SECOND), sanitized(92, SECOND)]
    first, second = build(events)
    assert (first.first_bad_step, first.open, first.last_step) == (41, False, 43)
    assert (second.first_bad_step, second.first_bad_layer, second.open) == (90, SECOND, False)


def test_what_is_reported_late_belongs_to_the_break_before_the_repair() -> None:
    """The trainer reads a step's statistics up to a few steps later."""
    events = [nonfinite(41), sanitized(43, FIRST, SECOND), nonfinite(42, SECOND), nonfinite(42, "third")]
    (incident,) = build(events)
    assert incident.layers == [FIRST, SECOND, "third"]
    assert incident.open


def test_a_repair_that_did_not_hold_reopens_it() -> None:
    """A check finds the layer corrupt again, and no new break was seen."""
    (incident,) = build([nonfinite(41), sanitized(43, FIRST), check(100, f"{FIRST}.running_statistics")])
    assert incident.open
    assert types(incident)[-1] == (100, "health")


def test_a_skipped_overflow_is_no_incident() -> None:
    """It is the grad scaler at work; it becomes evidence only where statistics break right after it."""
    overflow = nonfinite(40, "conv.weight", "gradient", skipped=True)
    assert build([overflow, check(100)]) == []
    (near,) = build([overflow, nonfinite(41)])
    (far,) = build([overflow, nonfinite(200)])
    assert types(near) == [(40, "nonfinite"), (41, "nonfinite")]
    assert types(far) == [(200, "nonfinite")]
    assert near.first_bad_step == 41


def test_a_gradient_that_was_taken_is_an_incident_until_the_weights_are_clean() -> None:
    """Repairing statistics does not end it; a clean check of the weights does."""
    events = [nonfinite(9, "conv.weight", "gradient", kind="nan"), sanitized(10, FIRST)]
    (incident,) = build(events)
    assert (incident.open, incident.first_bad_layer, incident.kind) == (True, "conv.weight", "nan")
    (incident,) = build([*events, check(20, origin="validation")])
    assert incident.open
    (incident,) = build([*events, check(100)])
    assert not incident.open
    assert any("last good checkpoint" in advice for advice in incident.advice)


def test_a_checkpoint_that_was_corrupt_when_loaded_is_an_incident_of_its_own() -> None:
    """Nothing broke in this process: the check and the repair are all there is."""
    (incident,) = build([check(0, f"{FIRST}.running_mean", origin="load"), sanitized(0, FIRST, origin="load")])
    assert (incident.first_bad_step, incident.first_bad_layer, incident.kind) == (0, FIRST, "unknown")
    assert (incident.channels, incident.open) == (2, False)
    (incident,) = build([sanitized(0, FIRST, origin="load")])
    assert (incident.first_bad_layer, incident.open) == (FIRST, False)


def test_a_stuck_run_is_told_in_a_few_lines() -> None:
    """A thousand empty validations are two links."""
    stuck = [
        event for step in range(50, 1050) for event in (validation(step, 0, 10), checkpoint(step, "k.running_mean"))
    ]
    (incident,) = build([nonfinite(41), *stuck])
    assert len(incident.chain) == 5
    assert "number 1000 of its kind" in incident.chain[-1].text
    assert incident.last_step == 1049


def test_the_end_of_a_broken_run_is_its_last_link() -> None:
    """And a run that ends well says nothing."""
    end = wire.Lifecycle(step=99, time=99.0, state="failed", error="RuntimeError: stop")
    (incident,) = build([nonfinite(41), end])
    assert incident.open
    assert incident.chain[-1].text == "The run failed at step 99 with the damage unrepaired: RuntimeError: stop."
    (incident,) = build([nonfinite(41), sanitized(43, FIRST), end])
    assert types(incident)[-1] == (43, "sanitized")


def test_validations_that_raised_are_no_incident_of_the_model() -> None:
    """A bug in the validation loop breaks nothing."""
    assert build([wire.Validation(step=5, time=5.0, valid=0, errors=10, nonfinite=0)]) == []


def test_advice_follows_the_evidence() -> None:
    """A spectral block that overflowed fp16, statistics, and a repair that had to be repeated."""
    events = [*THE_SEED, sanitized(53, FIRST, SECOND), check(100), nonfinite(200, "encoder.1", count=1, total=4)]
    spectral, plain = build(events)
    assert 'norm="ortho"' in spectral.advice[0]
    assert "refinement_ffc.scales.0.ffc.local_conv in float32" in spectral.advice[1]
    assert any("momentum (0.01)" in line for line in spectral.advice)
    assert any("Clip gradients tighter" in line for line in spectral.advice)
    assert not any("ortho" in line or "float32" in line for line in plain.advice)
    (negative,) = build([nonfinite(3, "bn", kind="negative"), sanitized(4, "bn"), sanitized(4, "bn")])
    assert any("variance at or below zero" in line for line in negative.advice)
    assert any("2 repairs" in line for line in negative.advice)


def test_no_events_are_no_incidents() -> None:
    """Nor is what never broke."""
    assert build([]) == []
    assert build([validation(1, 10), checkpoint(1), check(100), wire.Lifecycle(step=0, time=0.0, state="live")]) == []


def test_what_was_tried_in_vain_and_what_the_trainer_said_joins_the_chain() -> None:
    """A refused command and halted repairs explain why it is still broken."""
    refused = wire.CommandUpdate(step=50, time=50.0, id="c1", state="refused", reason="the trainer allows nothing")
    halted = wire.Notice(step=60, time=60.0, code="repair_halted", text="Automatic repair halted after 3 passes.")
    (incident,) = build([nonfinite(41), refused, halted])
    assert [link.text for link in incident.chain[1:]] == [
        "A command came to nothing at step 50 (refused): the trainer allows nothing.",
        "Automatic repair halted after 3 passes.",
    ]
    assert build([refused, halted]) == []


def culprit(step: int, place: str = "module", **rest: Any) -> wire.Culprit:
    named = {"layer": "refinement_ffc.fft", "type": "Spectral", "precision": "float16", "count": 2, "total": 8}
    more = (named if place == "module" else {}) | rest
    return wire.Culprit(step=step, time=float(step), place=place, signal="gradient", kind="inf", **more)


def test_what_broke_first_stands_before_what_it_broke() -> None:
    """The replay's answer opens the chain; the first bad layer stays the first whose statistics broke."""
    headroom, broke = nonfinite(41, skipped=True, headroom=1.3), culprit(41, amax=61000.0, skipped=True)
    (incident,) = build([headroom, broke, sanitized(41, FIRST)])
    assert types(incident)[:4] == [(41, "headroom"), (41, "origin"), (41, "skipped"), (41, "nonfinite")]
    assert (incident.first_bad_layer, incident.origin, incident.origin_layer) == (
        FIRST,
        "module",
        "refinement_ffc.fft",
    )
    text = next(link.text for link in incident.chain if link.type == "origin")
    assert "(Spectral) broke first at step 41: it made Inf in 2 of 8 channels in float16" in text
    assert "up to 6.1e+04" in text
    assert incident.advice[0].startswith('Use norm="ortho"')


def test_an_origin_may_come_after_the_repair_of_its_step() -> None:
    """Without explicit steps the repair is recorded first."""
    (incident,) = build([nonfinite(41), sanitized(41, FIRST), culprit(41)])
    assert (incident.origin, incident.healed_step) == ("module", 41)


def test_an_origin_of_another_step_is_none_of_the_case() -> None:
    """Nor does an overflow that hurt nobody open one."""
    (incident,) = build([nonfinite(41), sanitized(41, FIRST), culprit(99, "loss_scale", skipped=True)])
    assert incident.origin is None
    assert build([culprit(99, "loss_scale", skipped=True)]) == []


def test_the_first_origin_counts() -> None:
    """Later ones are about what the first one left broken."""
    (incident,) = build([nonfinite(41), culprit(41), nonfinite(43, SECOND), culprit(43, "weights", layer="a")])
    assert incident.origin == "module"


@pytest.mark.parametrize(
    ("place", "start"),
    [
        ("input", "Look at the data of step 41"),
        ("loss", "Look at the labels"),
        ("weights", "Lower the learning rate"),
        ("backward", "Add a small constant"),
    ],
)
def test_what_is_to_be_changed_follows_the_origin(place: str, start: str) -> None:
    """And nothing is said of half precision where that was not it."""
    (incident,) = build([nonfinite(41, skipped=True, headroom=1.3), culprit(41, place)])
    assert incident.advice[0].startswith(start)
    assert not any("float32" in advice for advice in incident.advice)


def test_an_unknown_origin_names_its_candidates() -> None:
    """Nothing is claimed."""
    (incident,) = build([nonfinite(41), culprit(41, "unknown", candidates=["a", "b"])])
    text = next(link.text for link in incident.chain if link.type == "origin")
    assert text.endswith("is unknown: its batch could not be run again; candidates are a, b.")
