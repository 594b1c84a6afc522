"""The gradient norms of a pinned layer's parameters."""

from typing import Any

from trainvitals import wire
from trainvitals_server.panels.figures import feed, figure, line

PLACE = 120


def panel() -> dict[str, Any]:
    """One line per parameter of the layer; linear from 0, because a norm can be 0."""
    return {
        "id": "parameter_gradient",
        "title": "Gradient norm",
        "help": "L2 norm of each parameter of this layer, unscaled and before clipping.",
        "scope": "layer",
        "kind": "lines",
        "figure": figure([line("gradient norm")], y="L2 norm", axis={"rangemode": "tozero"}),
        "feeds": [feed(0, wire.PARAMETER, wire.GRAD_NORM)],
    }
