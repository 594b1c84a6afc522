"""The charts as the page gets them: complete, small, and drawable by Plotly."""

import json
from pathlib import Path
from typing import Any

import msgspec
import plotly.graph_objects as go
import pytest

from trainvitals import wire
from trainvitals_server import panels

Panel = dict[str, Any]

FIELDS = {field.name for field in msgspec.structs.fields(wire.Validation)}
KINDS = {"lines", "band", "bars", "heatmap"}
STATS = {
    wire.RUN: {
        wire.LOSS,
        wire.GRAD_NORM,
        wire.GRAD_NORM_CLIPPED,
        wire.LEARNING_RATE,
        wire.LOSS_SCALE,
        wire.SKIPPED,
        wire.STEP_TIME,
        wire.HOOK_TIME,
    },
    wire.PARAMETER: {wire.GRAD_NORM},
    wire.NORM: {*wire.NORM_STATS, wire.BATCH_SHIFT},
    wire.INPUT: {wire.HEADROOM},
}
DECLARED = panels.declare()
BY_ID = {panel["id"]: panel for panel in DECLARED}
each_panel = pytest.mark.parametrize("panel", DECLARED, ids=lambda panel: panel["id"])


def test_there_is_a_panel_for_each_file() -> None:
    """Adding a file adds a chart."""
    files = {path.stem for path in Path(panels.__file__).parent.glob("*.py")} - {"__init__", "registry", "figures"}
    assert len(DECLARED) == len(BY_ID) == len(files)


def test_the_charts_the_failure_is_seen_on_are_there() -> None:
    """Loss, gradients, statistics, batch shift, validation, rate, scaler, time, headroom, the map of layers."""
    assert BY_ID.keys() >= {
        "loss", "gradient_norm", "parameter_gradient", "running_mean", "running_var", "validation_counts",
        "validation_quality", "validation_loss", "learning_rate", "loss_scale", "skipped_steps", "step_time",
        "headroom", "batch_shift", "metrics", "layers",
    }  # fmt: skip


@each_panel
def test_a_panel_is_whole_and_small(panel: Panel) -> None:
    """Plain JSON with words for people, and no template."""
    text = json.dumps(panel, allow_nan=False)
    assert len(text) < 1500
    assert panel["kind"] in KINDS
    assert panel["scope"] in {"run", "layer", "events"}
    assert panel["title"]
    assert str(panel["help"]).endswith(".")
    assert '"template"' not in text


@each_panel
def test_a_figure_is_one_that_plotly_accepts(panel: Panel) -> None:
    """Traces are empty, named, and have a hover text."""
    figure = go.Figure(panel["figure"])
    for trace in figure.data:
        assert trace.name
        assert trace.hovertemplate
        assert not len(trace.x)
        assert not len(trace.y)


@each_panel
def test_every_trace_is_fed_by_something_the_wire_knows(panel: Panel) -> None:
    """A series by kind and statistic, or a field of an event."""
    traces = len(panel["figure"]["data"])
    assert sorted({feed["trace"] for feed in panel["feeds"]}) == list(range(traces))
    for feed in panel["feeds"] + panel.get("metrics", []):
        if panel["scope"] == "events":
            assert feed["event"] == "validation"
            assert feed["field"].partition(".")[0] in FIELDS
        else:
            select = feed["select"]
            if select["kind"] == wire.METRIC:
                assert "stat" not in select  # whatever names the user gave
            else:
                assert select["stat"] in STATS[select["kind"]]


@each_panel
def test_no_axis_drops_a_value_that_can_be_0(panel: Panel) -> None:
    """A logarithmic axis shows nothing at 0 or below; only the loss scale never gets there."""
    logarithmic = [
        axis for axis in panel["figure"]["layout"].values() if isinstance(axis, dict) and axis.get("type") == "log"
    ]
    assert not logarithmic or panel["id"] == "loss_scale"


def test_a_band_has_a_low_and_a_high_side() -> None:
    """Smallest channel and largest."""
    for name in ("running_mean", "running_var"):
        assert [feed["role"] for feed in BY_ID[name]["feeds"]] == ["low", "high"]


def test_the_heatmap_offers_its_metrics() -> None:
    """Each says what is bad and how it is coloured."""
    metrics = BY_ID["layers"]["metrics"]
    assert [metric["id"] for metric in metrics] == ["nonfinite", "running_var", "gradient", "headroom"]
    assert {metric["bad"] for metric in metrics} <= {"high", "low", "nonfinite"}
    assert {metric["scale"] for metric in metrics} <= {"log", "linear"}


def test_a_caller_may_change_what_it_was_given() -> None:
    """The next one gets it whole."""
    panels.declare()[0]["title"] = "changed"
    assert panels.declare()[0]["title"] != "changed"
