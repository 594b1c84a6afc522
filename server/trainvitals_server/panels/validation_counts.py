"""How many batches of each validation were valid, and why the others were not."""

from typing import Any

from trainvitals_server.panels.figures import BROKEN, FAILED, GOOD, bar, figure

PLACE = 30

FIELDS = (("valid", GOOD), ("errors", FAILED), ("nonfinite", BROKEN))


def panel() -> dict[str, Any]:
    """Stacked bars, one stack per validation."""
    names = {"nonfinite": "non-finite"}
    bars = [bar(names.get(field, field), color=color) for field, color in FIELDS]
    return {
        "id": "validation_counts",
        "title": "Validation batches",
        "help": "Valid batches, batches that raised an error, and batches whose output or loss was not finite. No "
        "valid batch at all is how broken running statistics show first.",
        "scope": "events",
        "kind": "bars",
        "figure": figure(bars, y="batches", axis={"rangemode": "tozero"}, barmode="stack"),
        "feeds": [{"trace": i, "event": "validation", "field": field} for i, (field, _) in enumerate(FIELDS)],
    }
