"""The numbers the user passed to `watch.step`."""

from typing import Any

from trainvitals import wire
from trainvitals_server.panels.figures import figure, line

PLACE = 80


def panel() -> dict[str, Any]:
    """One line per name, up to twelve; linear, because nobody here knows what they mean."""
    return {
        "id": "metrics",
        "title": "Own metrics",
        "help": "The numbers given to watch.step by name, such as the gradient norm before and after clipping.",
        "scope": "run",
        "kind": "lines",
        "figure": figure([line("metric")], y="value"),
        "feeds": [{"trace": 0, "select": {"kind": wire.METRIC}, "role": "line"}],
    }
