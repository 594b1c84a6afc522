"""The states of a run, and what moves it from one to the next, as a table.

- `starting`: a trainer said hello, no frame yet      - `finished`, `failed`: the trainer said how it ended
- `live`: frames come                                 - `lost`: no contact for a minute; it may be buffering
- `stalled`: connected, but no frame for long         - `imported`: carried here in a file

`lost` is reversible: whoever was cut off may come back. A process that is known to have ended without a word
(`orphaned`) is lost at once, with that as the reason.
"""

from typing import Literal

State = Literal["starting", "live", "stalled", "finished", "failed", "lost", "imported"]
Signal = Literal["entered", "frames", "contact", "silent", "gone", "orphaned", "starting", "live", "finished", "failed"]

OPEN: tuple[State, ...] = ("starting", "live", "stalled", "lost")
ENDED: tuple[State, ...] = ("finished", "failed", "imported")

# (state, signal) -> state. A pair that is not here changes nothing. `entered` is a new producer of rank 0; the last
# four signals are what the trainer says of itself.
NEXT: dict[tuple[State, Signal], State] = {
    ("starting", "frames"): "live",
    ("stalled", "frames"): "live",
    ("lost", "frames"): "live",
    ("lost", "contact"): "live",
    ("live", "silent"): "stalled",
    ("starting", "gone"): "lost",
    ("live", "gone"): "lost",
    ("stalled", "gone"): "lost",
    **{(state, "orphaned"): "lost" for state in OPEN},
    **{(state, "entered"): "starting" for state in ("live", "stalled", "lost", "finished", "failed")},
    ("lost", "starting"): "starting",
    ("starting", "live"): "live",
    ("lost", "live"): "live",
    **{(state, "finished"): "finished" for state in OPEN},
    **{(state, "failed"): "failed" for state in OPEN},
}

SILENCE_SECONDS = (30.0, 1800.0)  # a run is stalled after ten median steps, but never sooner or later than this
SILENT_STEPS = 10
GONE_SECONDS = 60.0


def silence(median_step: float | None, *, busy: bool = False) -> float:
    """Seconds without a frame after which a connected run is stalled; the most there are while its trainer has said
    that it is `busy` with something in which no step ends."""
    least, most = SILENCE_SECONDS
    if busy:
        return most
    return least if median_step is None else max(least, min(most, SILENT_STEPS * median_step))
