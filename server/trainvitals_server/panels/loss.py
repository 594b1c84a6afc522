"""The training loss."""

from typing import Any

from trainvitals import wire
from trainvitals_server.panels.figures import feed, figure, line

PLACE = 10


def panel() -> dict[str, Any]:
    """Linear: a loss may be 0 or less."""
    return {
        "id": "loss",
        "title": "Loss",
        "help": "The loss given to watch.step at each step. A skipped step can hide an overflow that the loss does not "
        "show.",
        "scope": "run",
        "kind": "lines",
        "figure": figure([line("loss")], y="loss"),
        "feeds": [feed(0, wire.RUN, wire.LOSS)],
    }
