"""Rule 21: the checkpoint guard refused to save a corrupt model: from here on, nothing new is kept."""

import msgspec

from trainvitals import wire
from trainvitals_server.rules.block import Block, Finding

RULE = "checkpoint_refused"
TITLE = "Checkpoint refused"


class State(msgspec.Struct, frozen=True):
    """How many checkpoints have been refused since the last one was saved."""

    refused: int = 0


def fold(state: State, block: Block) -> tuple[State, list[Finding]]:
    """Judge the checkpoints of a block, each refusal."""
    findings = []
    for event in block.events:
        if not isinstance(event, wire.Checkpoint):
            continue
        if event.outcome == "refused":
            state = State(state.refused + 1)
            findings.append(tell(event, state.refused))
        elif event.outcome == "saved" and state.refused:
            state = State()
            findings.append(tell(event, 0))
    return state, findings


def tell(event: wire.Checkpoint, refused: int) -> Finding:
    """What to say about a refused checkpoint, or the first one saved after it."""
    why = f"{event.key} is not finite" if event.key else event.reason or "no reason given"
    bad = f"The checkpoint at step {event.step:,} was refused ({refused} in a row, limit 0): {why}."
    return Finding(
        rule=RULE,
        title=TITLE,
        layer="",
        step=event.step,
        severity="critical",
        active=refused > 0,
        value=float(refused),
        threshold=0.0,
        text=bad if refused else f"A checkpoint was saved again at step {event.step:,}.",
    )
