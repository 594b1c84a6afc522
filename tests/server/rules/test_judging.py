"""All rules together: their registry, their states as bytes, and a rule that raises."""

from pathlib import Path

import msgspec
import pytest

from blocks import ABSENT, frames, happen, norm, run
from trainvitals import wire
from trainvitals_server import rules
from trainvitals_server.rules import judging
from trainvitals_server.rules.block import Block, Finding
from trainvitals_server.rules.registry import Rule

NAMES = {
    "batch_shift",
    "half_variance",
    "headroom_falling",
    "variance_slope",
    "checkpoint_refused",
    "fault",
    "gradient_nonfinite",
    "headroom",
    "loss_nonfinite",
    "loss_scale_falling",
    "loss_scale_low",
    "norm_nonfinite",
    "rank_disagreement",
    "repeated_repair",
    "signature",
    "skipped_steps",
    "validation_ratio",
    "weights_nonfinite",
}


def test_every_rule_is_found_by_its_file() -> None:
    """Adding a file adds a rule, under the file's name."""
    assert {rule.name for rule in rules.rules()} >= NAMES
    for rule in rules.rules():
        assert (Path(rules.__file__).parent / f"{rule.name}.py").is_file()


def test_states_are_bytes_between_blocks() -> None:
    """A break in one block is healed in the next, found by the state that was stored in between."""
    states, findings, faults = rules.judge({}, frames({norm("bn"): [0, 3]}))
    assert [finding.rule for finding in findings] == ["norm_nonfinite"]
    assert all(isinstance(state, bytes) for state in states.values())
    _, findings, _ = rules.judge(states, frames({norm("bn"): [0]}, first=3))
    assert [(finding.rule, finding.active, finding.step) for finding in findings] == [("norm_nonfinite", False, 3)]
    assert not faults


def test_an_empty_block_says_nothing() -> None:
    """No frames, no columns, no events."""
    assert rules.judge({}, frames({}))[1:] == ([], [])
    assert rules.judge({}, frames({run(wire.LOSS): []}))[1:] == ([], [])
    assert rules.judge({}, frames({run(wire.LOSS): [ABSENT]}))[1:] == ([], [])


def test_findings_come_in_order_of_their_steps() -> None:
    """Whichever rule found them, under the rule's own name."""
    block = frames({run(wire.LOSS): [1, 1, float("nan")], norm("bn"): [0, 3, 3], run(wire.SKIPPED): [0, 1, 0]})
    _, findings, _ = rules.judge({}, block)
    assert [finding.step for finding in findings] == [2, 2, 3]
    assert {finding.rule for finding in findings} <= {rule.name for rule in rules.rules()}


class Nothing(msgspec.Struct):
    """No state."""


def raises(state: Nothing, block: Block) -> tuple[Nothing, list[Finding]]:
    """A rule with a bug."""
    raise ZeroDivisionError("division by zero")


def test_a_rule_that_raises_is_reported_once_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its state remembers that it is off, for this producer alone."""
    real = rules.rules()
    monkeypatch.setattr(judging, "rules", lambda: (Rule("broken", Nothing, raises), *real))
    states, findings, faults = rules.judge({}, frames({norm("bn"): [3]}))
    assert faults == [("broken", "ZeroDivisionError: division by zero")]
    assert [finding.rule for finding in findings] == ["norm_nonfinite"]
    states, findings, faults = rules.judge(states, frames({norm("bn"): [0]}))
    assert (len(findings), faults) == (1, [])
    assert rules.judge({}, happen())[2] == [("broken", "ZeroDivisionError: division by zero")]


def test_a_state_that_cannot_be_read_switches_off_that_rule_only() -> None:
    """A damaged row costs neither the commit nor the other rules."""
    states, _, faults = rules.judge({"headroom": b"\xc1"}, frames({norm("bn"): [3]}))
    assert [name for name, _ in faults] == ["headroom"]
    assert rules.judge(states, happen())[2] == []


def test_a_memory_tells_only_what_changed_since_it_was_asked_last() -> None:
    """Which is what has to be stored; one made of all it told goes on where it was."""
    memory = rules.Memory({})
    assert memory.judge(frames({norm("bn"): [0, 3], run(wire.SKIPPED): [0, 0]})) == (
        rules.judge({}, frames({norm("bn"): [0, 3]}))[1],
        [],
    )
    told = memory.changes()
    assert set(told) == {"norm_nonfinite", "signature", "skipped_steps"}
    assert memory.changes() == {}
    memory.judge(happen())
    assert memory.changes() == {}
    findings, _ = rules.Memory(told).judge(frames({norm("bn"): [0]}, first=4))
    assert [(finding.rule, finding.active) for finding in findings] == [("norm_nonfinite", False)]
