"""What a rule says does not depend on how the records were cut into blocks."""

import math
import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks import ABSENT, Column, Item, Row, cut, fold
from trainvitals import wire
from trainvitals_server.rules import apart
from trainvitals_server.rules.registry import Rule, rules

LAYERS = ("encoder.1", "ffc.local_conv.1")
FAST: tuple[Column, ...] = (
    ("", wire.RUN, wire.LOSS),
    ("", wire.RUN, wire.LOSS_SCALE),
    ("", wire.RUN, wire.SKIPPED),
    ("", wire.RUN, wire.GRAD_NORM),
    *((f"{layer}.weight", wire.PARAMETER, wire.GRAD_NORM) for layer in LAYERS),
    *((layer, wire.INPUT, wire.HEADROOM) for layer in LAYERS),
    *((layer, wire.NORM, wire.NONFINITE_CHANNELS) for layer in LAYERS),
    *((layer, wire.NORM, wire.NEGATIVE_CHANNELS) for layer in LAYERS),
    *((layer, wire.NORM, wire.VAR_MAX) for layer in LAYERS),
    *((layer, wire.NORM, wire.BATCH_SHIFT) for layer in LAYERS),
    *((layer, wire.NORM, wire.VAR_ROOM) for layer in LAYERS),
    *((one.layer, one.kind, one.stat) for one in apart.columns([wire.Series(0, LAYERS[0], *apart.VARIANCES[:2])])),
    *((one.layer, one.kind, one.stat) for one in apart.columns([wire.Series(0, "a.weight", *apart.WEIGHTS[:2])])),
)
FEWER = tuple(column for column in FAST if column[0] != LAYERS[1])  # a layer that has gone

NAN, INF = math.nan, math.inf
RISING = object()  # with the step, and back to where it began after some thousand
VALUES: dict[str, Sequence[object]] = {
    wire.LOSS: (0.3, 0.3, 0.3, NAN, INF, ABSENT),
    wire.LOSS_SCALE: (2.0, 65536.0, 0.25, 0.5, 1.0, NAN, ABSENT),
    wire.SKIPPED: (0.0, 0.0, 1.0, ABSENT),
    wire.GRAD_NORM: (0.1, 0.2, 0.3, INF, NAN, ABSENT),
    wire.VAR_MAX: (RISING, RISING, RISING, RISING, NAN, INF, ABSENT),
    wire.BATCH_SHIFT: (0.5, 0.7, 30.0, 7.0, NAN, ABSENT),
    wire.VAR_ROOM: (60.0, 5.0, 3.0, 1.0, 0.0, NAN, ABSENT),
    wire.HEADROOM: (20.0, 9.0, 5.0, 2.0, 1.5, 0.0, INF, NAN, ABSENT, ABSENT),
    wire.NONFINITE_CHANNELS: (0.0, 0.0, 3.0, ABSENT),
    wire.NEGATIVE_CHANNELS: (0.0, 0.0, 1.0, ABSENT),
    wire.VAR_MAX + ".value": (1.0, 1.0, 5.0, 9.0, 80.0, 0.01, NAN, INF, ABSENT),
    wire.WEIGHT_NORM + ".value": (1.0, 1.0, 1.0, 1.00005, 1.01, 0.9, NAN),
    **{stat + ".rank": (0.0, 1.0, 3.0) for stat in (wire.VAR_MAX, wire.WEIGHT_NORM)},
    **{stat + part: (1.0,) for stat in (wire.VAR_MAX, wire.WEIGHT_NORM) for part in (".low", ".high")},
    **{stat + ".median": (1.0, 1.0, 1.0, 1.0, ABSENT) for stat in (wire.VAR_MAX, wire.WEIGHT_NORM)},
}
KEYS = ([], ["a.weight"], ["a.running_var"], ["a.weight", "b.moments"])
STRIDES = (1, 1, 1, 7, 600)

# One record is a byte per column, each of which picks one thing: hypothesis draws and shrinks bytes fast.
RECORDS = st.lists(st.binary(min_size=len(FAST), max_size=len(FAST)), min_size=1, max_size=30)


def sequence(records: Sequence[bytes]) -> list[Item]:
    """A producer's records: frames and events in between, steps that rise, now and then by a lot."""
    step, items = 0, list[Item]()
    for record in records:
        step += STRIDES[record[0] % len(STRIDES)]
        items.append(event(step, record) if record[1] % 3 == 2 else frame(step, record))
    return items


def frame(step: int, record: bytes) -> Row:
    """One frame, of the usual layout or of the one with a layer less, with now and then a value missing."""
    columns = FEWER if record[1] % 5 == 4 else FAST
    pools = [VALUES[stat] for _, _, stat in columns]
    drawn = [pool[byte % len(pool)] for byte, pool in zip(record, pools, strict=False)]
    return Row(step, columns, tuple(2 ** (step % 4001 / 60) if value is RISING else value for value in drawn))


def event(step: int, record: bytes) -> wire.Event:
    """One event of those that rules read."""
    at: dict[str, Any] = {"step": step, "time": float(step)}
    kind, one, two, three = record[2] % 5, record[3] % 4, record[4] % 4, record[5] % 2
    layer = LAYERS[record[6] % 2]
    repair = wire.Repair(layer=layer, channels=1, total=4, strategy="restore", buffers=["running_mean"])
    if kind == 0:
        return wire.Sanitized(**at, origin="auto" if one else "command", strategy="restore", repairs=[repair])
    if kind == 1:
        return wire.HealthCheck(**at, origin="health" if three else "validation", healthy=not one, keys=KEYS[one])
    if kind == 2:
        return wire.Validation(**at, valid=20 * one, errors=two, nonfinite=0, tainted=record[6] % 7 == 0)
    if kind == 3:
        return wire.Checkpoint(**at, outcome="refused" if three else "saved", path="p", key="a.running_var")
    return wire.ProbeFault(**at, probe=layer, error="x", disabled=three == 1)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.name)
@settings(max_examples=60, deadline=None)
@given(records=RECORDS, places=st.lists(st.integers(1, 30), max_size=6))
def test_a_rule_says_the_same_however_records_were_cut(rule: Rule, records: list[bytes], places: list[int]) -> None:
    """Findings and state are those of the uncut sequence."""
    items = sequence(records)
    whole, some = fold(rule, cut(items, [])), fold(rule, cut(items, places))
    single = fold(rule, cut(items, range(len(items))))
    assert repr(some[1]) == repr(whole[1]) == repr(single[1])  # as text, because NaN is not equal to itself
    states = {msgspec.json.encode(state, order="sorted") for state, _ in (whole, some, single)}
    assert len(states) == 1


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.name)
def test_such_sequences_make_every_rule_speak(rule: Rule) -> None:
    """Otherwise the property above would hold of silence."""
    draw = random.Random(0)
    stormy = [draw.randbytes(len(FAST)) for _ in range(3000)]
    calm = [bytes(len(FAST))] * 300
    _, findings = fold(rule, cut(sequence(stormy + calm), []))
    assert {finding.active for finding in findings} >= ({True} if rule.name == "fault" else {True, False})
