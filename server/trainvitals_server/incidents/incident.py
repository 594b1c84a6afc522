"""One incident: the first bad step, what followed from it, and what to change."""

import msgspec


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """One link of the chain. `type` is that of the event it rests on, or "headroom" or "skipped"; time in Unix
    seconds."""

    step: int
    time: float
    type: str
    layer: str | None
    text: str


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """From the first non-finite value to the proof that all is well again, or to now where `open`.

    `first_bad_layer` is the first in forward order among the `layers` that broke in `first_bad_step`; `channels` of it
    were `kind` (nan, inf, negative, or unknown where only its consequences were seen). `precision` is that of the layer
    a replay named, else fp16 where that is known. `norms` are those of the `layers` whose running statistics broke, not
    only gradients or weights. `headroom` is the least seen before the break. `healed_step` is where
    it was repaired. `origin` is what broke first, as a replay of the batch found it (module, weights, input, loss, ...;
    None where none told), `origin_layer` the layer it named. `rank` is the rank that tells it, the first of them where
    all saw the same."""

    first_bad_step: int
    first_bad_layer: str | None
    channels: int | None
    kind: str
    precision: str | None
    headroom: float | None
    open: bool
    last_step: int
    chain: list[Link]
    sanitizations: int
    advice: list[str]
    layers: list[str] = []
    norms: list[str] = []
    origin: str | None = None
    origin_layer: str | None = None
    healed_step: int | None = None
    rank: int = 0
