"""The mean loss of each validation."""

from typing import Any

from trainvitals_server.panels.figures import figure, line

PLACE = 34


def panel() -> dict[str, Any]:
    """One point per validation."""
    return {
        "id": "validation_loss",
        "title": "Validation loss",
        "help": "Mean loss over the valid batches of each validation. A finite loss alone proves nothing: with an "
        "infinite running variance a layer gives zeros.",
        "scope": "events",
        "kind": "lines",
        "figure": figure([line("mean loss")], y="mean loss"),
        "feeds": [{"trace": 0, "event": "validation", "field": "mean_loss"}],
    }
