"""The gradient norm of the whole model."""

from typing import Any

from trainvitals import wire
from trainvitals_server.panels.figures import feed, figure, line

PLACE = 20


def panel() -> dict[str, Any]:
    """Linear from 0, because a norm can be 0."""
    return {
        "id": "gradient_norm",
        "title": "Gradient norm",
        "help": "L2 norm over all parameters, unscaled and before clipping. Non-finite values are marked on the strip.",
        "scope": "run",
        "kind": "lines",
        "figure": figure([line("gradient norm")], y="L2 norm", axis={"rangemode": "tozero"}),
        "feeds": [feed(0, wire.RUN, wire.GRAD_NORM)],
    }
