"""The fp16 headroom at a pinned layer's input."""

from typing import Any

from trainvitals import wire
from trainvitals_server.panels.figures import CRITICAL, WARNING, feed, figure, limit, line

PLACE = 130

CEILING = 64  # far above it nothing is at risk, and below it a linear axis still shows 0


def panel() -> dict[str, Any]:
    """Linear up to a ceiling: a logarithmic axis would drop the 0 of an overflow."""
    limits = [limit(8, WARNING), limit(2, CRITICAL)]  # rule 1
    axis = {"range": [0, CEILING], "autorange": False}
    return {
        "id": "headroom",
        "title": "fp16 headroom",
        "help": f"65504 / largest input after its cast to fp16, in sampled steps; 0 is an overflow. Warns below 8, "
        f"critical below 2. More than {CEILING} is out of sight, and safe.",
        "scope": "layer",
        "kind": "lines",
        "figure": figure([line("headroom", unit="x")], y="headroom", axis=axis, shapes=limits),
        "feeds": [feed(0, wire.INPUT, wire.HEADROOM)],
    }
