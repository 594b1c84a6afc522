"""Rule 19: how much of a validation was valid, and whether it ran on a model with broken statistics (then it is
*tainted*, whatever its losses)."""

import msgspec

from trainvitals import wire
from trainvitals_server.rules.block import Block, Finding

RULE = "validation_ratio"
TITLE = "Validation not valid"

FIRE, CLEAR = 0.95, 0.98  # share of valid batches: warns below, clears from


class State(msgspec.Struct, frozen=True):
    """Per validated model (by name): the level (1 warning, 2 critical) and the last share of valid batches."""

    levels: dict[str, int] = {}
    shares: dict[str, float] = {}


def fold(state: State, block: Block) -> tuple[State, list[Finding]]:
    """Judge the validations of a block, each of them; those of a healthy model say nothing."""
    findings = []
    for event in block.events:
        if isinstance(event, wire.Validation):
            before, previous = state.levels.get(event.model, 0), state.shares.get(event.model)
            now, share = level(event, before), ratio(event)
            if now or before:
                findings.append(tell(event, now, share, previous))
            state = State(state.levels | {event.model: now}, state.shares | {event.model: share})
    return state, findings


def ratio(event: wire.Validation) -> float:
    """The share of valid batches; 0 where there was none."""
    return event.valid / max(event.valid + event.errors + event.nonfinite, 1)


def level(event: wire.Validation, before: int) -> int:
    """2 where nothing was valid or the model was broken, 1 where too little was valid, else 0."""
    if event.tainted or not event.valid:
        return 2
    return int(ratio(event) < (CLEAR if before else FIRE))


def tell(event: wire.Validation, level: int, share: float, previous: float | None) -> Finding:
    """What to say about a validation that is not valid, or is valid again."""
    return Finding(
        rule=RULE,
        title=TITLE,
        layer=event.model,
        step=event.step,
        severity="critical" if level == 2 else "warning",
        active=level > 0,
        value=share,
        threshold=FIRE if level else CLEAR,
        text=describe(event, share, previous),
    )


def describe(event: wire.Validation, share: float, previous: float | None) -> str:
    """The counts, what failed, and how it was before, as a sentence."""
    tried = event.valid + event.errors + event.nonfinite
    whose = f" of {event.model}" if event.model else ""
    failed = f"{event.nonfinite} non-finite, {event.errors} errors"
    parts = [f"Validation{whose} at step {event.step:,}: {event.valid} of {tried} batches valid ({failed}; limit 95 %)"]
    if event.tainted:
        parts.append("it ran on a model with broken running statistics")
    if previous is not None and round(previous, 3) != round(share, 3):
        parts.append(f"the one before: {previous:.0%}")
    return "; ".join(parts) + "."
