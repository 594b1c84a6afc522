"""What the server knows of a run once everything of it has been committed: the answer of `trainvitals demo --json`."""

import time
from typing import Any

from trainvitals_server.cli.failure import Failure
from trainvitals_server.demo.serving import POLL, Serving

COMMIT = 60.0  # seconds until the last record of an ended trainer must be on the server's disk
ENDED = ("finished", "failed")


def wait_until_committed(server: Serving, run: str) -> None:
    """Wait for the record of the run's end, which is committed after all others. Raises `Failure`."""
    deadline = time.monotonic() + COMMIT
    while (state := state_of(server, run)["state"]) not in ENDED:
        if time.monotonic() > deadline:
            raise Failure(f"expected run {run} to be finished {COMMIT:.0f} s after its trainer ended, it is {state}")
        time.sleep(POLL)


def state_of(server: Serving, run: str) -> dict[str, Any]:
    """The run's line in the list of runs; before its first record, a line that says so."""
    runs: list[dict[str, Any]] = server.api.get("/api/runs")["runs"]
    return next((line for line in runs if line["id"] == run), {"id": run, "state": "unknown", "step": None})


def page_of(server: Serving, run: str) -> str:
    """The address of the run's page."""
    return f"{server.url.rstrip('/')}/runs/{run}"


def summarize(server: Serving, run: str) -> dict[str, Any]:
    """The run in one object; everything in it comes from the REST API."""
    known = server.api.get(f"/api/runs/{run}")
    return {
        "run_id": run,
        "url": page_of(server, run),
        "first_bad_step": known["first_bad_step"],
        "first_bad_layer": known["first_bad_layer"],
        "sanitizations": known["sanitizations"],
        "validations": [_point(validation) for validation in known["validations"]],
        "checkpoints_refused": known["checkpoints"]["refused"],
        "checkpoints_saved": known["checkpoints"]["saved"],
        "frames_stored": known["counts"]["frames"],
        "alerts": server.api.get("/api/alerts", run=run)["alerts"],
    }


def _point(validation: dict[str, Any]) -> dict[str, Any]:
    """PSNR is the mean over the valid batches, None where there was none."""
    chosen = {name: validation[name] for name in ("step", "valid", "failed")}
    return {**chosen, "psnr": validation["metrics"].get("psnr")}


def describe(summary: dict[str, Any]) -> list[str]:
    """The summary in a few lines for people."""
    counted = "{frames_stored} frames stored, {sanitizations} repairs, {checkpoints_saved} checkpoints saved"
    counts = f"{counted}, {{checkpoints_refused}} refused".format(**summary)
    broke = "first broke at step {first_bad_step} in {first_bad_layer}".format(**summary)
    alerts = [f"  {alert['severity']}: {alert['title']}{_place(alert['layer'])}" for alert in summary["alerts"]]
    return [
        f"Run {summary['run_id']}: {counts}",
        f"Its statistics {broke}" if summary["first_bad_step"] is not None else "Its statistics stayed finite",
        *alerts,
    ]


def _place(layer: str | None) -> str:
    return f" ({layer})" if layer else ""
