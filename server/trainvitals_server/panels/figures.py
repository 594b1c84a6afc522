"""What all figures share: a step axis, no template, and traces that wait for data."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go  # type: ignore[import-untyped]

# Colours that mean something, told apart by people with any colour vision and on either ground.
GOOD, FAILED, BROKEN = "#2a9d8f", "#e69f00", "#cc3399"
LOW, HIGH = "#4c8dd6", "#b07dd6"
WARNING, CRITICAL = "#e69f00", "#d55e00"


def figure(traces: Sequence[Any], *, y: str, axis: dict[str, Any] | None = None, **layout: Any) -> dict[str, Any]:
    """A figure over steps as plain JSON: `y` is the title of the value axis, `axis` what else it needs."""
    made = go.Figure(
        data=list(traces),
        layout=go.Layout(
            xaxis={"title": {"text": "step"}, "rangemode": "tozero"},
            yaxis={"title": {"text": y}, **(axis or {})},
            **layout,
        ),
    ).to_plotly_json()
    made["layout"].pop("template", None)  # the page brings its own, and Plotly's is 7 kB in every figure
    return {"data": made["data"], "layout": made["layout"]}


def line(name: str, *, unit: str = "", color: str | None = None, **rest: Any) -> Any:
    """An empty line trace; gaps in the data stay gaps."""
    look = {"width": 1.5} if color is None else {"width": 1.5, "color": color}
    return go.Scatter(
        name=name, x=[], y=[], mode="lines", line=look, connectgaps=False, hovertemplate=hover(name, unit), **rest
    )


def bar(name: str, *, color: str) -> Any:
    """An empty bar trace."""
    return go.Bar(name=name, x=[], y=[], marker={"color": color}, hovertemplate=hover(name, ""))


def hover(name: str, unit: str) -> str:
    """The hover text: name and value, and no second box."""
    return f"{name} %{{y:.4~g}}{' ' + unit if unit else ''}<extra></extra>"


def limit(value: float, color: str) -> dict[str, Any]:
    """A threshold as a dotted line across the chart."""
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": value,
        "y1": value,
        "line": {"color": color, "width": 1, "dash": "dot"},
    }


def feed(trace: int, kind: str, stat: str, role: str = "line") -> dict[str, Any]:
    """A series that feeds a trace."""
    return {"trace": trace, "select": {"kind": kind, "stat": stat}, "role": role}
