"""The range of a pinned layer's running variance over its channels."""

from typing import Any

from trainvitals import wire
from trainvitals_server.panels.figures import HIGH, LOW, feed, figure, line

PLACE = 110


def panel() -> dict[str, Any]:
    """A band from the smallest to the largest channel; linear, because what is at or below 0 is what matters."""
    return {
        "id": "running_var",
        "title": "Running variance, range",
        "help": "Smallest and largest channel of the running variance. Below 0 the layer gives NaN; at Inf it gives "
        "silent zeros.",
        "scope": "layer",
        "kind": "band",
        "figure": figure([line("smallest", color=LOW), line("largest", color=HIGH)], y="running variance"),
        "feeds": [feed(0, wire.NORM, wire.VAR_MIN, "low"), feed(1, wire.NORM, wire.VAR_MAX, "high")],
    }
