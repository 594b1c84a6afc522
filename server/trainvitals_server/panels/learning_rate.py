"""The learning rate."""

from typing import Any

from trainvitals import wire
from trainvitals_server.panels.figures import feed, figure, line

PLACE = 50


def panel() -> dict[str, Any]:
    """The first parameter group's; linear, because warm-up begins at 0."""
    return {
        "id": "learning_rate",
        "title": "Learning rate",
        "help": "Of the first parameter group, as the optimizer used it.",
        "scope": "run",
        "kind": "lines",
        "figure": figure([line("learning rate")], y="learning rate", axis={"rangemode": "tozero"}),
        "feeds": [feed(0, wire.RUN, wire.LEARNING_RATE)],
    }
