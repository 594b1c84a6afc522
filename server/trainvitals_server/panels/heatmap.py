"""Every layer over every step, coloured by one metric."""

from typing import Any

from trainvitals import wire
from trainvitals_server.panels.figures import figure

PLACE = 0

# id, title, kind, statistic, what is bad, colour scale
METRICS = (
    ("nonfinite", "Non-finite channels", wire.NORM, wire.NONFINITE_CHANNELS, "high", "linear"),
    ("running_var", "Running variance, largest", wire.NORM, wire.VAR_MAX, "high", "log"),
    ("gradient", "Gradient norm", wire.PARAMETER, wire.GRAD_NORM, "high", "log"),
    ("headroom", "fp16 headroom", wire.INPUT, wire.HEADROOM, "low", "log"),
)


def panel() -> dict[str, Any]:
    """The figure is only axes: cells are drawn by the page, aggregated so that no non-finite value is lost."""
    axis = {"autorange": "reversed", "type": "category"}  # forward order from the top
    return {
        "id": "layers",
        "title": "Layers over steps",
        "help": "One row per layer in forward order, one column per step or group of steps. NaN and Inf have patterns "
        "of their own; grey is no data.",
        "scope": "run",
        "kind": "heatmap",
        "figure": figure([], y="layer", axis=axis),
        "feeds": [],
        "metrics": [
            {"id": name, "title": title, "select": {"kind": kind, "stat": stat}, "bad": bad, "scale": scale}
            for name, title, kind, stat, bad, scale in METRICS
        ],
    }
