"""Training is bit for bit the same with the hook on and off, in every loop of the table."""

import pytest

import trainvitals
from recorded import faults, records_of
from training_loops import LOOPS, Loop, everything, seed_all

STEPS = 200


@pytest.mark.parametrize("loop", LOOPS, ids=str)
def test_two_hundred_steps_are_bitwise_the_same(loop: Loop) -> None:
    """Weights, buffers, gradients, the optimizer's and the scaler's state, random numbers, names and their order."""
    alone = loop.make()
    seed_all()
    for i in range(STEPS):
        loop.step(alone, i)
    expected = everything(alone)

    made = loop.make()
    watch = trainvitals.watch(
        made.models, made.optimizers, scaler=made.scaler, ema=made.ema, mode="offline", auto_sanitize="off"
    )
    seed_all()
    for i in range(STEPS):
        loop.step(made, i)
    found = everything(made)
    assert faults(records_of(watch)) == []
    assert list(found) == list(expected)
    assert [name for name in expected if found[name] != expected[name]] == []
