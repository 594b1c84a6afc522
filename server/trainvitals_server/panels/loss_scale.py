"""The grad scaler's scale."""

from typing import Any

from trainvitals import wire
from trainvitals_server.panels.figures import feed, figure, line

PLACE = 40


def panel() -> dict[str, Any]:
    """Logarithmic: the scale moves by factors of two, and is never 0 or less."""
    return {
        "id": "loss_scale",
        "title": "Loss scale",
        "help": "The scaler halves its scale, and skips the step, when a gradient overflows; now and then is normal.",
        "scope": "run",
        "kind": "lines",
        "figure": figure([line("loss scale")], y="scale", axis={"type": "log"}),
        "feeds": [feed(0, wire.RUN, wire.LOSS_SCALE)],
    }
