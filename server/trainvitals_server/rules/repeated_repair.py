"""Rule 26: automatic sanitization repeats itself, so the cause is alive. It alerts and escalates; repairs go on.

One pass over the model is one sanitization, however many layers. What a person asked for does not count. Quiet is
measured by the steps of later events, of which the periodic health check is one.
"""

import msgspec

from trainvitals import wire
from trainvitals_server.rules.block import Block, Finding

RULE = "repeated_repair"
TITLE = "Automatic sanitization repeats"

REACH = 1000  # steps
SAME_LAYER = 2  # passes over one layer within reach: warning
PASSES = 3  # passes in all: critical


class State(msgspec.Struct, frozen=True):
    """All passes so far, the last one's step, the recent passes over each layer, and what has fired ("" is the run)."""

    passes: int = 0
    last: int = 0
    recent: dict[str, list[int]] = {}
    fired: list[str] = []


def fold(state: State, block: Block) -> tuple[State, list[Finding]]:
    """Judge the sanitizations of a block, each pass."""
    findings = list[Finding]()
    for event in block.events:
        state, quiet = settle(state, event.step)
        findings += quiet
        if isinstance(event, wire.Sanitized) and event.origin != "command":
            state, found = count(state, event)
            findings += found
    return state, findings


def settle(state: State, step: int) -> tuple[State, list[Finding]]:
    """Forget what is out of reach, and clear what has been quiet for that long."""
    if not state.recent and not state.fired:
        return state, []
    near = {layer: [s for s in steps if step - s < REACH] for layer, steps in state.recent.items()}
    recent = {layer: steps for layer, steps in near.items() if steps}
    over = [layer for layer in state.fired if (step - state.last >= REACH if not layer else layer not in recent)]
    fired = [layer for layer in state.fired if layer not in over]
    return State(state.passes, state.last, recent, fired), [clear(layer, step) for layer in over]


def count(state: State, event: wire.Sanitized) -> tuple[State, list[Finding]]:
    """The state after one more automatic pass, and what it says about each layer and about the run."""
    layers = list(dict.fromkeys(repair.layer for repair in event.repairs))
    recent = state.recent | {layer: [*state.recent.get(layer, []), event.step] for layer in layers}
    passes = state.passes + 1
    found = [fire(layer, event.step, len(recent[layer])) for layer in layers if len(recent[layer]) >= SAME_LAYER]
    if passes >= PASSES:
        found.append(fire("", event.step, passes))
    fired = dict.fromkeys([*state.fired, *(finding.layer for finding in found)])
    return State(passes, event.step, recent, list(fired)), found


def fire(layer: str, step: int, times: int) -> Finding:
    """What to say about a layer repaired again, or a run repaired too often."""
    one = f"{layer} was repaired {times} times within {REACH:,} steps (limit {SAME_LAYER}), last at step {step:,}"
    run = f"The model was repaired automatically {times} times (limit {PASSES}), last at step {step:,}"
    text = f"{one if layer else run}: the cause is still alive."
    return say(layer, step, True, times, text)


def clear(layer: str, step: int) -> Finding:
    """What to say after a quiet stretch."""
    return say(layer, step, False, 0, f"{layer or 'The model'} needed no repair for {REACH:,} steps at step {step:,}.")


def say(layer: str, step: int, active: bool, times: int, text: str) -> Finding:
    """The finding; its value is the number of passes."""
    return Finding(
        rule=RULE,
        title=TITLE,
        layer=layer,
        step=step,
        severity="warning" if layer else "critical",
        active=active,
        value=float(times),
        threshold=float(SAME_LAYER if layer else PASSES),
        text=text,
    )
