"""What the server tells of a run, against numpy on the raw values."""

import json
import math
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from served import Served, frame, layout
from trainvitals import wire

STEPS = 700
COLUMNS = [
    ("", wire.RUN, wire.LOSS),
    ("enc.1", wire.NORM, wire.VAR_MAX),
    ("enc.1", wire.NORM, wire.NONFINITE_CHANNELS),
    ("enc.0", wire.NORM, wire.NONFINITE_CHANNELS),
]
SLOW = [("enc.1", wire.INPUT, wire.HEADROOM)]
RUN = "/api/runs/run-1"


def raw() -> np.ndarray:
    """What the trainer saw: a spike, a NaN, both infinities, and (as 1e9) values that are absent."""
    values = np.random.default_rng(0).normal(size=(STEPS, len(COLUMNS))).astype(np.float32)
    values[:, 2:] = 0
    values[333, 0], values[334, 0], values[335, 0], values[336, 0] = 60_000, np.nan, np.inf, -np.inf
    values[500:, 2], values[600:, 3] = 3, 1
    values[100:110, 1] = 1e9
    return values


RAW = raw()


@pytest.fixture(scope="module")
def told(shared: Served) -> Iterator[Served]:
    """A server that was told all of it, with events and a gap."""
    with shared.trainer(config={"lr": math.inf, "layers": [1, 2]}) as trainer:
        trainer.hello()
        trainer.store(layout(*COLUMNS), layout(*SLOW, number=2))
        for start in range(0, STEPS, 70):
            records: list[wire.Message] = []
            for step in range(start, start + 70):
                row = [None if value == 1e9 else value for value in RAW[step].tolist()]
                records.append(frame(step, row))
                if step % 20 == 0:
                    records.append(frame(step, [1000 + step], number=2))
            trainer.store(*records)
        trainer.store(
            wire.NonFinite(
                step=500, time=1e6 + 500, layer="enc.1", signal="running_statistics", kind="inf", count=3, total=8
            ),
            wire.Validation(step=550, time=1e6 + 550, valid=0, errors=3, nonfinite=5, total=8, mean_loss=math.nan),
            wire.Checkpoint(step=560, time=1e6 + 560, outcome="refused", path="a.pth", key="enc.1.running_mean"),
            wire.Gap(count=4, reason="disk full", since=1e6 + 100, until=1e6 + 101, first_step=90, last_step=93),
        )
        yield shared


def column(data: dict[str, Any], place: int = 0) -> dict[str, np.ndarray]:
    return {key: np.array([float(v) for v in value]) for key, value in data["series"][place].items() if key != "id"}


def test_width_one_is_the_raw_data(told: Served) -> None:
    """Every value as it was, its kind of non-finiteness included."""
    data = told.get(f"{RUN}/data", series="1", **{"from": 300, "to": 400}, points=100)
    assert (data["steps_per_bucket"], data["from"], data["to"]) == (1, 300, 400)
    np.testing.assert_array_equal(column(data)["first"], RAW[300:401, 0])
    assert data["series"][0]["first"][33:37] == [60000.0, "NaN", "Infinity", "-Infinity"]
    assert [sum(data["series"][0][name]) for name in ("n_nan", "n_posinf", "n_neginf")] == [1, 1, 1]


def test_wider_buckets_keep_extremes_counts_and_sums(told: Served) -> None:
    """At most two per point, aligned, and nothing averaged away."""
    data = told.get(f"{RUN}/data", series="1,2", points=10)
    width = data["steps_per_bucket"]
    assert width == 64
    for place in (0, 1):
        found = column(data, place)
        assert len(found["step"]) <= 20
        for start, n, low, high, total in zip(*[found[key] for key in ("step", "n", "min", "max", "sum")], strict=True):
            values = RAW[int(start) : int(start) + width, place].astype(np.float64)
            values = values[values != 1e9]
            finite = values[np.isfinite(values)]
            assert (start % width, n) == (0, len(values))
            assert (low, high) == (finite.min(), finite.max())
            assert total == pytest.approx(finite.sum())


def test_the_binary_form_says_the_same(told: Served) -> None:
    """Field by field, aligned to 8 bytes."""
    query = {"series": "2,1", "points": 25}
    answer = told.ask("GET", f"{RUN}/data", params=query, headers={"Accept": "application/octet-stream"})
    assert answer.headers["content-type"] == "application/octet-stream"
    (length,) = struct.unpack_from("<I", answer.content)
    assert (4 + length) % 8 == 0
    header = json.loads(answer.content[4 : 4 + length])
    plain = told.get(f"{RUN}/data", **query)
    at = 4 + length
    for place, one in enumerate(header["series"]):
        assert one["id"] == plain["series"][place]["id"]
        for field in header["fields"]:
            values = np.frombuffer(answer.content, "<f8", one["buckets"], at)
            np.testing.assert_array_equal(values, column(plain, place)[field])
            at += values.nbytes
    assert at == len(answer.content)
    assert header["gaps"] == plain["gaps"] == [{"from": 90, "to": 93, "count": 4, "reason": "disk full"}]


def test_absent_is_not_nan(told: Served) -> None:
    """Nothing is told of steps at which a value was absent."""
    data = told.get(f"{RUN}/data", series="2", **{"from": 95, "to": 115})
    assert data["series"][0]["step"] == [*range(95, 100), *range(110, 116)]


def test_at_a_step_everything_is_as_of_then(told: Served) -> None:
    """The newest value of each layout at or before it, and the verdict of that moment."""
    sick, well = told.get(f"{RUN}/at", step=555), told.get(f"{RUN}/at", step=499)
    assert (sick["step"], sick["values"]["5"], sick["nonfinite_layers"]) == (555, 1540.0, ["enc.1"])
    assert sick["values"]["1"] == pytest.approx(float(RAW[555, 0]))
    assert sick["validation"]["data"]["valid"] == 0
    assert sick["validation"]["data"]["mean_loss"] == "NaN"
    assert sick["verdict"]["level"] == "critical"
    assert (well["nonfinite_layers"], well["validation"], well["verdict"]["level"]) == ([], None, "ok")
    assert [one["type"] for one in told.get(f"{RUN}/at", step=560)["events"]] == ["checkpoint"]
    assert told.get(f"{RUN}/at", step=-5)["step"] is None
    assert told.get(f"{RUN}/at", step=334)["values"]["1"] == "NaN"


def test_events_are_filtered_and_paged(told: Served) -> None:
    """By step, by type, and by what was seen already."""
    every = told.get(f"{RUN}/events")
    assert [one["type"] for one in every["events"]] == ["nonfinite", "validation", "checkpoint", "gap"]
    assert every["next"] is None
    first = told.get(f"{RUN}/events", limit=3)
    rest = told.get(f"{RUN}/events", limit=3, after=first["next"])
    assert first["events"] + rest["events"] == every["events"]
    assert rest["next"] is None
    some = told.get(f"{RUN}/events", type="validation,checkpoint", **{"from": 540, "to": 555})["events"]
    assert [(one["step"], one["time"], one["layer"]) for one in some] == [(550, "1970-01-12T13:55:50.000Z", None)]


def test_a_run_sums_up_what_happened(told: Served) -> None:
    """First bad step and layer, open alerts, sparkline, validations, checkpoints, configuration."""
    run = told.get(RUN)
    assert (run["state"], run["connected"], run["step"], run["first_step"]) == ("live", True, STEPS - 1, 0)
    assert (run["first_bad_step"], run["first_bad_layer"]) == (500, "enc.1")
    assert run["nonfinite_layers"] == ["enc.1", "enc.0"]  # in forward order
    assert run["verdict"]["level"] == "critical"
    assert run["open_alerts"] > 0
    assert run["steps_per_s"] == pytest.approx(1.0)
    assert len(run["severity"]) <= 60
    assert (run["severity"][0], run["severity"][-1]) == (0, 3)
    assert run["validations"][0]["failed"] == 8
    assert run["checkpoints"] == {"saved": 0, "refused": 1, "failed": 0}
    assert run["counts"] == {"frames": STEPS + STEPS // 20, "events": 4}
    assert run["config"] == {"lr": "Infinity", "layers": [1, 2]}
    assert run["producers"][0]["dropped"] == 4
    assert told.get("/api/runs")["runs"][0]["id"] == "run-1"


def test_incidents_and_alerts_tell_the_chain(told: Served) -> None:
    """From the first non-finite value to the refused checkpoint."""
    incident = told.get(f"{RUN}/incidents")["incidents"][0]
    assert (incident["first_bad_step"], incident["first_bad_layer"], incident["open"]) == (500, "enc.1", True)
    assert [link["type"] for link in incident["chain"]][-2:] == ["validation", "checkpoint"]
    assert incident["chain"][0]["time"].endswith("Z")
    found = told.get("/api/alerts", run="run-1", status="firing")["alerts"]
    assert {"norm_nonfinite"} <= {alert["rule"] for alert in found}
    assert told.get("/api/alerts", run="other")["alerts"] == []


def test_an_alert_is_acknowledged_by_control(told: Served) -> None:
    """And stays so when asked again."""
    alert = told.get("/api/alerts", run="run-1", status="firing")["alerts"][0]
    for _ in range(2):
        answer = told.ask("POST", f"/api/alerts/{alert['id']}/ack", "control", json={})
        assert (answer.status_code, answer.json()["status"]) == (200, "acknowledged")
    assert told.ask("POST", "/api/alerts/999/ack", "control").status_code == 404


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/runs/nothing", 404),
        ("/api/runs/nothing/series", 404),
        ("/api/runs/nothing/events", 404),
        ("/api/runs/nothing/at?step=1", 404),
        ("/api/runs/nothing/data?series=1", 404),
        ("/api/runs/nothing/incidents", 404),
        ("/api/runs/nothing/commands", 404),
        (f"{RUN}/commands/nothing", 404),
        (f"{RUN}/data?series=99", 404),
        (f"{RUN}/data?series=x", 422),
        (f"{RUN}/data?series=", 422),
        (f"{RUN}/data", 422),
        (f"{RUN}/data?series=1&points=0", 422),
        (f"{RUN}/data?series=1&from=1e999", 422),
        (f"{RUN}/data?series=1&from=9&to=3", 422),
        (f"{RUN}/at", 422),
        (f"{RUN}/at?step=1e3", 422),
        (f"{RUN}/events?limit=0", 422),
        (f"{RUN}/events?after=99999999999999999999", 422),
        ("/api/alerts?status=odd", 422),
        ("/api/runs/../../etc/passwd", 404),
        ("/api/runs/%2e%2e%2fetc", 404),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_line(told: Served, path: str, status: int) -> None:
    """Never a 500."""
    answer = told.ask("GET", path)
    assert answer.status_code == status
    assert list(answer.json()) == ["detail"]
    assert "\n" not in answer.json()["detail"]


def test_a_range_over_everything_is_answered_within_limits(told: Served) -> None:
    """However far it reaches."""
    data = told.get(f"{RUN}/data", series="1,2,3", **{"from": 0, "to": 10**15}, points=50)
    assert data["series"][0]["n"] == [STEPS]
    assert data["series"][0]["n_nan"] == [1]


def test_the_interface_describes_itself(told: Served) -> None:
    """Every documented path is in it."""
    paths = told.get("/openapi.json")["paths"]
    some = {"/api/runs", "/api/runs/{run}/data", "/api/runs/{run}/commands", "/api/alerts/{alert}/ack", "/healthz"}
    assert some <= set(paths)


def test_metrics_are_prometheus_text(told: Served) -> None:
    """Every sample has its help and type."""
    text = told.ask("GET", "/metrics").text
    assert f"trainvitals_frames_stored_total {STEPS + STEPS // 20}\n" in text
    assert 'trainvitals_runs{state="live"} 1\n' in text
    assert text.count("# HELP") == text.count("# TYPE")
