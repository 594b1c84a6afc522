"""What each rule fires at, what it clears at, and what it says."""

import math

import numpy as np

from blocks import ABSENT, fold, frames, happen, norm, run
from trainvitals import wire
from trainvitals_server.rules import Block, Finding, apart, rules

BY_NAME = {rule.name: rule for rule in rules()}
NAN, INF = math.nan, math.inf


def judge(name: str, *blocks: Block) -> list[Finding]:
    """What one rule finds."""
    return fold(BY_NAME[name], blocks)[1]


def course(findings: list[Finding]) -> list[tuple[int, str]]:
    """Steps and severities, "cleared" where it cleared."""
    return [(finding.step, finding.severity if finding.active else "cleared") for finding in findings]


def repair(step: int, *layers: str, origin: wire.Origin = "auto") -> wire.Sanitized:
    repairs = [wire.Repair(layer=n, channels=1, total=4, strategy="restore", buffers=["running_mean"]) for n in layers]
    return wire.Sanitized(step=step, time=0.0, origin=origin, strategy="restore", repairs=repairs)


def check(step: int, *keys: str, origin: wire.Origin = "health") -> wire.HealthCheck:
    return wire.HealthCheck(step=step, time=0.0, origin=origin, healthy=not keys, keys=list(keys))


def validation(step: int, valid: int, bad: int = 0, *, tainted: bool = False, model: str = "") -> wire.Validation:
    return wire.Validation(step=step, time=0.0, valid=valid, errors=0, nonfinite=bad, tainted=tainted, model=model)


def test_headroom_warns_below_8_and_is_critical_below_2() -> None:
    """A little more than the threshold does not clear it, and absent samples decide nothing."""
    values = [20, 7.9, ABSENT, 9, 1.9, 2.5, 3, 11, 12]
    found = judge("headroom", frames({("conv", wire.INPUT, wire.HEADROOM): values}))
    assert course(found) == [(2, "warning"), (5, "critical"), (7, "warning"), (9, "cleared")]
    assert found[0].layer == "conv"
    assert "conv" in found[0].text
    assert "7.9" in found[0].text
    assert "below 8" in found[0].text


def test_headroom_of_an_input_that_is_nan_is_none_at_all() -> None:
    """It compares as nothing, and must not pass as healthy."""
    found = judge("headroom", frames({("conv", wire.INPUT, wire.HEADROOM): [NAN, INF]}))
    assert course(found) == [(1, "critical"), (2, "cleared")]
    assert "overflowed" in found[0].text


def room(values: list[object]) -> Block:
    return frames({("conv", wire.INPUT, wire.HEADROOM): values})


def test_a_ramp_is_seen_before_the_headroom_is_low() -> None:
    """An input that doubles every 5 steps, sampled each fifth: two doublings twice over, and 40 steps are left."""
    found = judge(
        "headroom_falling", room([2.0 ** (16 - max(0, n - 60) / 5) if n % 5 == 0 else ABSENT for n in range(200)])
    )
    assert course(found)[0][1] == "warning"
    assert found[0].step <= 111  # the headroom is gone at 141
    assert 20 <= found[0].value < 40
    assert "conv" in found[0].text
    assert "limit 40" in found[0].text


def test_a_headroom_that_comes_to_rest_falls_no_more() -> None:
    """Once nothing of the fall is left among the last 60 steps."""
    found = judge("headroom_falling", room([2.0 ** (12 - min(max(0, n - 60), 30) / 5) for n in range(200)]))
    assert [severity for _, severity in course(found)] == ["warning", "cleared"]
    assert "no longer falls" in found[1].text


def test_jumps_and_start_ups_are_no_ramp() -> None:
    """A heavy-tailed input, a change that comes once, the first 50 steps, a slow drift, samples that are NaN."""
    tails = [2.0 ** (12 - (7 * n * n % 11)) for n in range(300)]
    once = [4000.0] * 100 + [100.0] * 100
    start = [2.0 ** max(6, 16 - n / 2) for n in range(150)]
    drift = [2.0 ** (16 - n / 50) for n in range(400)]
    broken = [4000.0, NAN, INF] * 50
    assert [judge("headroom_falling", room(list(case))) for case in (tails, once, start, drift, broken)] == [[]] * 5


def armed(variances: list[float], since: int = 0) -> Block:
    shifts = [ABSENT] * since + [1.0] * (len(variances) - since)
    return frames({norm("bn", wire.VAR_MAX): variances, norm("bn", wire.BATCH_SHIFT): shifts})


def test_a_variance_that_grows_eightfold_in_50_steps_is_a_warning() -> None:
    """It clears when less than a doubling is left in the window."""
    found = judge("variance_slope", armed([*[1.0] * 60, *[2.0 ** (n / 10) for n in range(41)], *[16.0] * 60]))
    assert course(found) == [(92, "warning"), (140, "cleared")]
    assert "8 times" in found[0].text
    assert found[0].threshold == 8


def test_a_slower_rise_or_one_of_a_layer_not_armed_says_nothing() -> None:
    """Nor does one from nothing, nor one that is Inf at once, which is another rule's."""
    slow = [2.0 ** (n / 20) for n in range(200)]
    start = [2.0 ** (min(n, 40) / 5) for n in range(100)]
    nothing = [1e-12 * 2.0**n for n in range(30)]
    assert not judge("variance_slope", armed(slow))
    assert not judge("variance_slope", armed(start, since=41))
    assert not judge("variance_slope", armed(nothing))
    assert not judge("variance_slope", armed([1.0, NAN, INF, -1.0, 1.0]))


def test_one_wide_batch_is_no_slope() -> None:
    """However wide: the running variance falls again."""
    assert not judge("variance_slope", armed([*[1.0] * 60, *[1 + 1e4 * 0.9**n for n in range(90)]]))


def test_a_variance_that_is_not_read_any_more_ends_the_alert() -> None:
    """After a repair the layer is silent for 50 updates."""
    ramp = [2.0**n for n in range(7)]
    block = frames({
        norm("bn", wire.VAR_MAX): [*ramp, *[1.0] * 60],
        norm("bn", wire.BATCH_SHIFT): [*[0.1] * 7, *[ABSENT] * 60],
    })  # fmt: skip
    assert course(judge("variance_slope", block)) == [(7, "warning"), (55, "cleared")]


def test_three_far_batches_in_ten_steps_are_a_warning() -> None:
    """It clears when ten steps have seen none beyond 5 standard deviations; NaN and Inf say nothing."""
    shifts = [1, 12, 1, 1, 12, 1, 15, 6, *[1] * 12]
    found = judge("batch_shift", frames({norm("bn", wire.BATCH_SHIFT): shifts}))
    assert course(found) == [(7, "warning"), (18, "cleared")]
    assert "15 standard deviations" in found[0].text
    assert not judge("batch_shift", frames({norm("bn", wire.BATCH_SHIFT): [1, 12, 12, *[1] * 8, 12, NAN, INF, INF]}))


def test_a_variance_held_in_fp16_warns_at_a_quarter_of_its_range() -> None:
    """And is critical at half of it; half as much again clears it, and NaN is another rule's."""
    rooms = [100, 3.9, 1.9, 2.5, 3, 5, 6, NAN]
    found = judge("half_variance", frames({norm("bn", wire.VAR_ROOM): rooms}))
    assert course(found) == [(2, "warning"), (3, "critical"), (5, "warning"), (7, "cleared")]
    assert "16,796" in found[0].text
    assert "above 16,376" in found[0].text
    assert found[1].threshold == 32752


def test_loss_scale_falling_fires_at_the_third_backoff_in_100_steps() -> None:
    """And clears when 100 steps have seen none."""
    scales = [64, 32, 32, 16, 8, *[8] * 100]
    found = judge("loss_scale_falling", frames({run(wire.LOSS_SCALE): scales}))
    assert course(found) == [(5, "warning"), (105, "cleared")]
    assert found[0].value == 3


def test_loss_scale_falling_needs_them_within_the_window() -> None:
    """Three in 250 steps are a scaler at work, and a growing scale is none."""
    scales = [64, *[32] * 101, 64, *[32] * 101, 16]
    assert not judge("loss_scale_falling", frames({run(wire.LOSS_SCALE): scales}))


def test_loss_scale_below_1_is_critical_until_it_is_2() -> None:
    """One doubling above the threshold clears it."""
    found = judge("loss_scale_low", frames({run(wire.LOSS_SCALE): [1, 0.5, 1, NAN, 2]}))
    assert course(found) == [(2, "critical"), (5, "cleared")]


def test_five_skipped_in_a_row_are_critical() -> None:
    """Ten taken in a row clear it."""
    found = judge("skipped_steps", frames({run(wire.SKIPPED): [0, *[1] * 5, *[0] * 10]}))
    assert course(found) == [(6, "critical"), (16, "cleared")]
    assert "5 steps in a row" in found[0].text


def test_more_than_5_percent_of_200_skipped_is_a_warning() -> None:
    """Ten are still fine; the eleventh is too many, and it clears at 2 %."""
    skipped = [1, 0] * 11 + [0] * 200
    found = judge("skipped_steps", frames({run(wire.SKIPPED): skipped}))
    assert course(found) == [(21, "warning"), (213, "cleared")]
    assert found[0].value == 11


def test_the_signature_is_a_layer_that_breaks_in_a_skipped_step() -> None:
    """It names the first in forward order, and clears when all are finite again."""
    block = frames({run(wire.SKIPPED): [0, 1, 0, 0, 0], norm("a"): [0, 2, 2, 0, 0], norm("b"): [0, 1, 1, 1, 0]})
    found = judge("signature", block)
    assert course(found) == [(2, "critical"), (5, "cleared")]
    assert {finding.layer for finding in found} == {"a"}
    assert "a and 1 more" in found[0].text
    assert found[0].value == 2


def test_the_signature_is_not_seen_without_a_break_in_that_step() -> None:
    """A skip while a layer is broken already, or a break in a step that was taken, is another thing."""
    assert not judge("signature", frames({run(wire.SKIPPED): [0, 1], norm("a"): [2, 2]}))
    assert not judge("signature", frames({norm("a"): [0, 2]}))


def test_a_layer_that_is_gone_from_the_layout_stays_broken_for_the_signature() -> None:
    """Silence is no health."""
    first = frames({run(wire.SKIPPED): [1], norm("a"): [1], norm("b"): [1]})
    found = judge("signature", first, frames({norm("a"): [0]}, first=2), frames({norm("b"): [0]}, first=3))
    assert course(found) == [(1, "critical"), (3, "cleared")]


def test_broken_statistics_are_told_per_layer() -> None:
    """Non-finite channels and negative variances; a value that is absent decides nothing."""
    block = frames(
        {norm("a"): [0, 3, ABSENT, 0], norm("b"): [0, 0, 0, 0], norm("b", wire.NEGATIVE_CHANNELS): [0, 0, 1, 1]}
    )
    found = judge("norm_nonfinite", block)
    assert [(f.layer, f.step, f.active, f.value) for f in found] == [
        ("a", 2, True, 3.0),
        ("b", 3, True, 1.0),
        ("a", 4, False, 0.0),
    ]
    assert "3 non-finite" in found[0].text
    assert "1 of negative variance" in found[1].text


def test_a_non_finite_gradient_in_a_taken_step_is_critical() -> None:
    """It names how many and where backward met it first; 20 finite steps clear it."""
    block = frames(
        {
            ("a.weight", wire.PARAMETER, wire.GRAD_NORM): [1, INF, *[1] * 20],
            ("b.weight", wire.PARAMETER, wire.GRAD_NORM): [1, NAN, *[1] * 20],
            run(wire.SKIPPED): [0] * 22,
        }
    )
    found = judge("gradient_nonfinite", block)
    assert course(found) == [(2, "critical"), (22, "cleared")]
    assert "2 of 2 parameters" in found[0].text
    assert "b.weight first" in found[0].text


def test_a_non_finite_gradient_in_a_skipped_step_is_the_scalers_business() -> None:
    """Whether the norm of a parameter or of the whole model shows it."""
    values = {("a.weight", wire.PARAMETER, wire.GRAD_NORM): [INF], run(wire.GRAD_NORM): [INF]}
    assert not judge("gradient_nonfinite", frames({**values, run(wire.SKIPPED): [1]}))
    assert judge("gradient_nonfinite", frames({run(wire.GRAD_NORM): [INF]}))


def test_a_non_finite_loss_is_critical() -> None:
    """Ten finite ones in a row clear it; one does not."""
    found = judge("loss_nonfinite", frames({run(wire.LOSS): [1, NAN, 1, INF, *[1] * 10]}))
    assert course(found) == [(2, "critical"), (14, "cleared")]
    assert "NaN" in found[0].text


def test_non_finite_weights_are_what_a_check_says_beyond_the_statistics() -> None:
    """Only the periodic check looked at them again, so only it clears."""
    events = [
        check(100, "bn.running_var", "bn.running_statistics"),
        check(200, "conv.weight.weight", "conv.weight.moments"),
        check(250, origin="validation"),
        check(300),
    ]
    found = judge("weights_nonfinite", happen(*events))
    assert course(found) == [(200, "critical"), (300, "cleared")]
    assert "2 tensors" in found[0].text
    assert "conv.weight.moments" in found[0].text


def test_a_validation_without_a_valid_batch_is_critical_each_time() -> None:
    """It is measured against 95 %, and against the one before."""
    found = judge(
        "validation_ratio", happen(validation(1, 10), validation(2, 0, 10), validation(3, 0, 10), validation(4, 10))
    )
    assert course(found) == [(2, "critical"), (3, "critical"), (4, "cleared")]
    assert "0 of 10 batches valid" in found[0].text
    assert "before: 100%" in found[0].text


def test_a_tainted_validation_is_critical_whatever_its_losses() -> None:
    """A broken model can give finite losses."""
    found = judge("validation_ratio", happen(validation(1, 10, tainted=True)))
    assert course(found) == [(1, "critical")]


def test_a_validation_below_95_percent_is_a_warning_until_98() -> None:
    """Each validated model has a life of its own."""
    events = [validation(1, 94, 6), validation(2, 97, 3), validation(3, 100, model="ema"), validation(4, 98, 2)]
    assert course(judge("validation_ratio", happen(*events))) == [(1, "warning"), (2, "warning"), (4, "cleared")]


def test_a_refused_checkpoint_is_critical_until_one_is_saved() -> None:
    """It names the tensor."""
    refused = wire.Checkpoint(step=5, time=0.0, outcome="refused", path="p", key="bn.running_mean")
    saved = wire.Checkpoint(step=9, time=0.0, outcome="saved", path="p")
    found = judge("checkpoint_refused", happen(saved, refused, refused, saved, saved))
    assert course(found) == [(5, "critical"), (5, "critical"), (9, "cleared")]
    assert "bn.running_mean is not finite" in found[0].text
    assert found[1].value == 2


def test_the_same_layer_repaired_twice_in_1000_steps_is_a_warning() -> None:
    """After 1000 quiet steps, seen by a later event, it clears."""
    found = judge("repeated_repair", happen(repair(10, "a", "b"), repair(900, "a"), check(1899), check(1900)))
    assert [(f.layer, *course([f])[0]) for f in found] == [("a", 900, "warning"), ("a", 1900, "cleared")]
    assert "2 times" in found[0].text


def test_the_third_pass_in_a_run_is_critical() -> None:
    """One pass over many layers is one pass, and a person's are not counted."""
    events = [repair(10, "a", "b", "c"), repair(2000, "a"), repair(4000, "a", origin="command"), repair(6000, "b")]
    found = judge("repeated_repair", happen(*events))
    assert [(f.layer, *course([f])[0]) for f in found] == [("", 6000, "critical")]
    assert "3 times" in found[0].text


def test_a_disabled_probe_is_told_once() -> None:
    """A fault that did not disable it is the trainer's business."""
    off = wire.ProbeFault(step=3, time=0.0, probe="norms", error="boom", disabled=True)
    on = wire.ProbeFault(step=2, time=0.0, probe="norms", error="boom")
    found = judge("fault", happen(on, off, off))
    assert course(found) == [(3, "info")]
    assert "norms" in found[0].text


def ranks(layer: str, measure: apart.Measure, *told: list[object], first: int = 1) -> Block:
    """What the server makes of these values, by rank, of one layer; `ABSENT` where a rank told nothing."""
    there = np.array([[value is not ABSENT for value in values] for values in told]).all(axis=0)[:, None]
    values = np.array([[0.0 if value is ABSENT else value for value in values] for values in told], float)[:, :, None]
    parts = apart.compare(values, there)
    columns = apart.columns([wire.Series(0, layer, *measure[:2])])
    return frames({(one.layer, one.kind, one.stat): parts[:, i].tolist() for i, one in enumerate(columns)}, first)


def test_a_rank_whose_statistics_leave_the_others_range_is_named() -> None:
    """At the second step in a row beyond 64 times; it clears at the second in a row below 32."""
    odd = [1, 80, 1, 80, 80, 50, 20, 50, 20, 20]
    found = judge("rank_disagreement", ranks("bn", apart.VARIANCES, [1] * 10, [1] * 10, odd, [1.5] * 10))
    assert course(found) == [(5, "warning"), (10, "cleared")]
    assert found[0].layer == "bn"
    assert found[0].value == 80
    assert "Rank 2's largest running variance of bn is 80 at step 5, the others' 1 to 1.5" in found[0].text
    assert "64 times" in found[0].text


def test_a_rank_whose_statistics_vanish_is_named_too() -> None:
    """A 64th is as far as 64 times."""
    found = judge("rank_disagreement", ranks("bn", apart.VARIANCES, [1] * 3, [1] * 3, [0.01] * 3))
    assert [finding.step for finding in found] == [2]
    assert "Rank 2's" in found[0].text


def test_a_rank_that_is_not_finite_is_critical_and_spoils_no_range() -> None:
    """NaN on one rank; where all are NaN the ranks agree, and what is absent decides nothing."""
    one = [1, NAN, ABSENT, NAN, 1, 1]
    found = judge("rank_disagreement", ranks("bn", apart.VARIANCES, [1] * 6, one, [2] * 6))
    assert course(found) == [(4, "critical"), (6, "cleared")]
    assert found[0].value == INF
    assert "Rank 1's largest running variance of bn is nan at step 4, the others' 1 to 2" in found[0].text
    assert not judge("rank_disagreement", ranks("bn", apart.VARIANCES, [NAN] * 4, [INF] * 4))


def test_weights_that_were_alike_and_have_gone_apart_are_critical() -> None:
    """At 0.01 %, at the second step in a row; it clears within 0.001 %."""
    norms = [3, 3, 3, 3.01, 3.01, 3.0001, 3, 3]
    found = judge("rank_disagreement", ranks("a.weight", apart.WEIGHTS, [3] * 8, [3] * 8, norms))
    assert course(found) == [(5, "critical"), (8, "cleared")]
    assert "Rank 2's norm of a.weight is 3.01 at step 5, the others' 3 (limit 0.01% apart)" in found[0].text


def test_weights_that_were_never_alike_are_nobodys_alarm() -> None:
    """A pipeline's ranks have other weights; once was chance, twice in a row is not."""
    two = [1, 2, 1, 2, 2, 1, 1, 2, 2]
    found = judge("rank_disagreement", ranks("a.weight", apart.WEIGHTS, [1] * 9, two))
    assert course(found) == [(9, "critical")]


def test_a_layer_that_comes_later_is_judged_by_itself() -> None:
    """The state holds both, in whatever order they came."""
    first = ranks("b", apart.VARIANCES, [1], [99])
    second = ranks("a", apart.VARIANCES, [1, 1], [1, 99], first=2)
    third = ranks("b", apart.VARIANCES, [1], [99], first=4)
    assert [(one.layer, one.step) for one in judge("rank_disagreement", first, second, third)] == [("b", 4)]
