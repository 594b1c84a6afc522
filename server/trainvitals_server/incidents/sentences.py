"""The plain sentences an incident's chain is made of. Each states what is known, with layer, step and count."""

from collections.abc import Sequence

from trainvitals import wire

SHOWN = 3  # names in one sentence

KINDS = {"nan": "NaN", "inf": "Inf", "negative": "negative"}
SIGNALS = {"running_statistics": "running statistics", "gradient": "gradient", "loss": "loss"}
REPAIRERS: dict[str, str] = {
    "auto": "By itself, the trainer repaired",
    "health": "The periodic check repaired",
    "validation": "The check before validation repaired",
    "load": "The check after loading repaired",
    "save": "The check before saving repaired",
    "command": "A command repaired",
}
CHECKS: dict[str, str] = {
    "auto": "A check",
    "health": "The periodic check",
    "validation": "The check before validation",
    "load": "The check after loading",
    "save": "The check before saving",
    "command": "The check after a command",
}


def tag(event: wire.Event) -> str:
    """The event's type on the wire."""
    return str(event.__struct_config__.tag)


def is_statistic(key: str) -> bool:
    """Whether a tensor's key names a running statistic rather than a weight or an optimizer's moment."""
    return key.endswith((".running_statistics", ".running_mean", ".running_var", ".num_batches_tracked"))


def names(layers: Sequence[str]) -> str:
    """A few names, and how many more."""
    shown = ", ".join(layers[:SHOWN])
    return f"{shown} and {len(layers) - SHOWN} more" if len(layers) > SHOWN else shown


def counted(number: int, noun: str) -> str:
    """A number and its noun."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def headroom(first: wire.NonFinite, room: float) -> str:
    """How close to overflow the inputs were."""
    if room <= 0:
        return f"An input at or before {first.layer} overflowed fp16 in the last sampled step: no headroom was left."
    near = "" if room >= 8 else ", less than the 8 that are safe"  # rule 1's warning threshold
    return f"The least fp16 headroom at or before {first.layer} was {room:.3g} in the last sampled step{near}."


def skipped(step: int) -> str:
    """What a skipped step hides."""
    return f"The grad scaler skipped step {step:,}: the weights stayed as they were, and training went on."


def broke(events: Sequence[wire.NonFinite]) -> str:
    """What broke in one step, of one signal."""
    first, others = events[0], [event.layer for event in events[1:]]
    signal = SIGNALS.get(first.signal, first.signal)
    extent = f" in {first.count:,} of {first.total:,}" if first.count >= 0 and first.total > 0 else ""
    unit = " channels" if extent and first.signal == "running_statistics" else ""
    whose = f"The {signal} of {first.layer}" if first.layer else f"The {signal}"
    also = f"; first in forward order, with {names(others)} in the same step" if others else ""
    return f"{whose} became {KINDS[first.kind]}{extent}{unit} at step {first.step:,}{also}."


PLACES: dict[str, str] = {
    "module": "{who} broke first at step {step:,}: {made} out of finite inputs{amax}{before}",
    "backward": "{who} broke first at step {step:,}, in its backward: its forward was finite, its derivative was not",
    "weights": "{who} entered step {step:,} with weights not finite or far too large: its updates did it",
    "statistics": "{who} ran at step {step:,} on running statistics that were broken before",
    "input": "The input of step {step:,} itself held {kind}: no layer made it",
    "loss": "At step {step:,} every layer was finite: the loss, or its gradient, became {kind}",
    "loss_scale": "At step {step:,} every layer was finite: the scaled gradients overflowed, as a scaler provokes",
    "elsewhere": "At step {step:,} this rank's batch was finite: it came from another rank with the gradients",
}


def origin(event: wire.Culprit) -> str:
    """What broke first, and how that is known."""
    if event.place not in PLACES:
        candidates = f"; candidates are {names(event.candidates)}" if event.candidates else ""
        return f"What broke first at step {event.step:,} is unknown: its batch could not be run again{candidates}."
    channels = f" in {event.count:,} of {event.total:,} channels" if event.count > 0 else ""
    told = PLACES[event.place].format(
        who=f"{event.layer or 'The model'} ({event.type})",
        step=event.step,
        kind=KINDS[event.kind],
        made=f"it made {KINDS[event.kind]}{channels}{' in ' + event.precision if event.precision else ''}",
        amax=largest(event),
        before=f", before its part {event.before} ran" if event.before else "",
    )
    kept = f" The batch is kept on the trainer's machine: {event.batch}." if event.batch else ""
    return f"{told}. Found by running the batch again.{kept}"


def largest(event: wire.Culprit) -> str:
    """How large its input was, and whether half precision can hold that."""
    if event.amax is None:
        return ""
    beyond = ", which float16 cannot hold" if event.precision == "float16" and event.amax > wire.FP16_MAX else ""
    return f" up to {event.amax:.4g}{beyond}"


def bad_validation(event: wire.Validation) -> str:
    """A validation that proves nothing."""
    tried = event.valid + event.errors + event.nonfinite
    failed = f"{event.nonfinite} non-finite, {counted(event.errors, 'error')}"
    tainted = "; it ran on broken statistics, whatever its losses say" if event.tainted else ""
    return f"Validation at step {event.step:,}: {event.valid} of {tried} batches valid ({failed}){tainted}."


def good_validation(event: wire.Validation) -> str:
    """A validation that shows the model well."""
    tried = event.valid + event.errors + event.nonfinite
    loss = "" if event.mean_loss is None else f", mean loss {event.mean_loss:.4g}"
    scores = "".join(f", {name} {value:.4g}" for name, value in sorted(event.metrics.items()))
    return f"Validation at step {event.step:,} is good: {event.valid} of {tried} batches valid{loss}{scores}."


def refused(event: wire.Checkpoint) -> str:
    """A checkpoint that was not saved."""
    why = f"{event.key} is not finite" if event.key else event.reason or "no reason given"
    return f"The checkpoint at step {event.step:,} was refused: {why}."


def saved(event: wire.Checkpoint) -> str:
    """A checkpoint that was saved."""
    tagged = ", tagged as repaired" if event.repaired else ""
    return f"A checkpoint was saved at step {event.step:,}{tagged}."


def unhealthy(event: wire.HealthCheck) -> str:
    """Corrupt tensors."""
    found = f"{counted(len(event.keys), 'corrupt tensor')}: {names(event.keys)}" if event.keys else "corrupt tensors"
    return f"{CHECKS[event.origin]} at step {event.step:,} found {found}."


def healthy(event: wire.HealthCheck) -> str:
    """No corrupt tensor."""
    return f"{CHECKS[event.origin]} at step {event.step:,} found every tensor finite."


def repaired(event: wire.Sanitized) -> str:
    """One pass over the model, who asked for it, and from what it repaired."""
    channels = sum(repair.channels for repair in event.repairs)
    layers = names([repair.layer for repair in event.repairs])
    ages = sorted({repair.snapshot_step for repair in event.repairs if repair.snapshot_step is not None})
    reset = [repair.layer for repair in event.repairs if repair.strategy == "reset"]
    how = f" from the statistics of step {ages[0]:,}" if ages else ""
    how += f"{' and' if how else ''} by resetting {counted(len(reset), 'layer')}" if reset else ""
    cause = f" Suspected cause: {event.upstream}." if event.upstream else ""
    return f"{REPAIRERS[event.origin]} {counted(channels, 'channel')} in {layers}{how} at step {event.step:,}.{cause}"


def verified(event: wire.CommandUpdate) -> str:
    """A repair that held."""
    return f"The repair was verified at step {event.step:,}{': ' + event.reason if event.reason else ''}."


def undone(event: wire.CommandUpdate) -> str:
    """A command that came to nothing."""
    return f"A command came to nothing at step {event.step:,} ({event.state}): {event.reason or 'no reason given'}."


def ended(event: wire.Lifecycle) -> str:
    """The end of the run."""
    why = event.error or event.reason
    return f"The run {event.state} at step {event.step:,} with the damage unrepaired{': ' + why if why else ''}."
