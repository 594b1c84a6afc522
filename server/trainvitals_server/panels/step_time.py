"""How long a step takes, and how much of it is the hook's."""

from typing import Any

from trainvitals import wire
from trainvitals_server.panels.figures import feed, figure, line

PLACE = 60


def panel() -> dict[str, Any]:
    """Both in seconds, on one axis, so that the hook's share is seen for what it is."""
    return {
        "id": "step_time",
        "title": "Step time and hook time",
        "help": "Seconds from one step boundary to the next, and CPU seconds of the training thread in trainvitals.",
        "scope": "run",
        "kind": "lines",
        "figure": figure([line("step", unit="s"), line("hook", unit="s")], y="seconds", axis={"rangemode": "tozero"}),
        "feeds": [feed(0, wire.RUN, wire.STEP_TIME), feed(1, wire.RUN, wire.HOOK_TIME)],
    }
