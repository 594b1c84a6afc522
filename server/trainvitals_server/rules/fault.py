"""A probe of the trainer raised until it was switched off: its series end here, and that is not the model's fault."""

import msgspec

from trainvitals import wire
from trainvitals_server.rules.block import Block, Finding

RULE = "fault"
TITLE = "Probe disabled"


class State(msgspec.Struct, frozen=True):
    """The probes that are off."""

    probes: list[str] = []


def fold(state: State, block: Block) -> tuple[State, list[Finding]]:
    """Report each probe that was switched off, once."""
    findings = []
    for event in block.events:
        if isinstance(event, wire.ProbeFault) and event.disabled and event.probe not in state.probes:
            state = State([*state.probes, event.probe])
            findings.append(tell(event, state.probes))
    return state, findings


def tell(event: wire.ProbeFault, probes: list[str]) -> Finding:
    """What to say about the probe, and how many are off with it."""
    return Finding(
        rule=RULE,
        title=TITLE,
        layer="",
        step=event.step,
        severity="info",
        active=True,
        value=float(len(probes)),
        threshold=0.0,
        text=f"The probe {event.probe} was switched off at step {event.step:,} ({len(probes)} off): {event.error}.",
    )
