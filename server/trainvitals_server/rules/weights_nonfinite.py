"""Rule 15: weights or optimizer moments that are NaN or Inf, as the trainer's own checks found them."""

import msgspec

from trainvitals import wire
from trainvitals_server.rules.block import Block, Finding

RULE = "weights_nonfinite"
TITLE = "Weights or optimizer state non-finite"

STATISTICS = (".running_statistics", ".running_mean", ".running_var", ".num_batches_tracked")  # rule 13 is theirs
SHOWN = 3  # keys named in the text


class State(msgspec.Struct, frozen=True):
    """The corrupt tensors as of the last check."""

    keys: list[str] = []


def fold(state: State, block: Block) -> tuple[State, list[Finding]]:
    """Judge the health checks of a block. Only the periodic check looks at the weights, so only it can clear."""
    findings = []
    for event in block.events:
        if not isinstance(event, wire.HealthCheck):
            continue
        keys = [key for key in event.keys if not key.endswith(STATISTICS)]
        if keys != state.keys and (keys or event.origin == "health"):
            findings.append(tell(event.step, keys))
            state = State(keys)
    return state, findings


def tell(step: int, keys: list[str]) -> Finding:
    """What to say when the set of corrupt tensors has changed."""
    names = ", ".join(keys[:SHOWN]) + (f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "")
    bad = f"{len(keys)} tensors are non-finite at step {step:,} (limit 0): {names}; sanitizing cannot heal them."
    return Finding(
        rule=RULE,
        title=TITLE,
        layer="",
        step=step,
        severity="critical",
        active=bool(keys),
        value=float(len(keys)),
        threshold=0.0,
        text=bad if keys else f"Weights and optimizer state are finite again at step {step:,}.",
    )
