"""What to change so that it does not happen again, as far as the evidence goes."""

from collections.abc import Iterator, Sequence

from trainvitals import wire

SPECTRAL = ("fft", "ffc", "spectral", "fourier", "freq")
SAFE = 8.0  # rule 1's warning threshold


def advise(
    breaks: Sequence[wire.NonFinite],
    repairs: Sequence[wire.Sanitized],
    layers: Sequence[str],
    origin: wire.Culprit | None = None,
) -> list[str]:
    """Advice, the most telling first; empty where nothing is known."""
    overflow = origin is None or origin.place in ("unknown", "elsewhere", "loss_scale")
    if origin is not None and origin.place == "module" and origin.precision == "float16":
        overflow, layers = True, [origin.layer]
    return [
        *cause(origin),
        *(precision(breaks, layers) if overflow else ()),
        *statistics(breaks, repairs),
        *gradients(breaks),
        *repetition(repairs),
    ]


def cause(origin: wire.Culprit | None) -> Iterator[str]:
    """What a replay of the batch found."""
    if origin is None:
        return
    if origin.place == "input":
        yield f"Look at the data of step {origin.step:,}: its batch was not finite; clean or drop such samples."
    elif origin.place == "loss":
        yield "Look at the labels and the loss function: the network's own outputs were finite."
    elif origin.place == "weights":
        yield f"Lower the learning rate of {origin.layer}, or clip: updates drove its weights out of range."
    elif origin.place == "backward":
        yield f"Add a small constant where {origin.layer} takes a root, norm or quotient: its derivative is infinite."
    elif origin.place == "module" and origin.precision == "float32":
        yield f"Guard what {origin.layer} ({origin.type}) computes: a logarithm, root or quotient left its domain."


def precision(breaks: Sequence[wire.NonFinite], layers: Sequence[str]) -> Iterator[str]:
    """Overflow in half precision: the block to take out of it."""
    tight = any(event.headroom is not None and event.headroom < SAFE for event in breaks)
    if not layers or not (tight or any(event.skipped for event in breaks)):
        return
    block = layers[0].rpartition(".")[0] or layers[0]
    if any(word in layers[0].lower() for word in SPECTRAL):
        yield f'Use norm="ortho" in the FFTs around {block}: spectral magnitudes then stay near those of the input.'
    yield f"Compute {block} in float32 (torch.autocast disabled for that block): its values leave the range of fp16."


def statistics(breaks: Sequence[wire.NonFinite], repairs: Sequence[wire.Sanitized]) -> Iterator[str]:
    """Running statistics that took a bad batch in."""
    if any(event.kind == "negative" for event in breaks):
        yield "Raise eps (1e-3): a variance at or below zero divides by next to nothing."
    if repairs or any(event.signal == "running_statistics" for event in breaks):
        yield (
            "Lower the momentum (0.01) and raise eps (1e-3), as configure_bn_for_stability(model) does: large finite "
            "batches then weigh less. An Inf gets through at any momentum; only a repair heals that."
        )


def gradients(breaks: Sequence[wire.NonFinite]) -> Iterator[str]:
    """Gradients that were not finite."""
    if any(event.signal == "gradient" for event in breaks):
        yield "Clip gradients tighter (norm 0.5): it bounds the step a large, still finite gradient makes."
    if any(event.signal in ("gradient", "loss") and not event.skipped for event in breaks):
        yield "Go back to the last good checkpoint: a non-finite step was taken, which no repair of statistics undoes."


def repetition(repairs: Sequence[wire.Sanitized]) -> Iterator[str]:
    """A cause that is still there."""
    if len(repairs) > 1:
        yield f"It took {len(repairs)} repairs: the cause is still alive; look at the batches of those steps."
