"""List the runs a server knows, worst first."""

import argparse

from trainvitals_server.cli import client
from trainvitals_server.cli.failure import warn
from trainvitals_server.cli.text import clock, safe, show_json, table

TOLD = ("failed", "lost", "stalled")  # states whose reason belongs beside the verdict
LONGEST = 200  # characters of a reason
NEWLINE = "\n"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Where to ask, and how to print."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    client.arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Print one line per run."""
    with client.connect(options) as server:
        answer = server.get("/api/runs")
        trouble = server.trouble()
    if options.json:
        show_json(answer)
    elif not answer["runs"]:
        print("No runs yet. In the training script: watch = trainvitals.watch(model, optimizer, scaler=scaler)")
    else:
        print(
            table(
                ("RUN", "NAME", "STATE", "STEP", "STEPS/S", "ALERTS", "LAST SEEN", "VERDICT"), map(row, answer["runs"])
            )
        )
    if trouble:
        warn(safe(trouble))
    return 0


def row(summary: client.Object) -> tuple[object, ...]:
    """The cells of one run."""
    state = f"{summary['state']}, pinned" if summary.get("pinned") else summary["state"]
    said = summary["verdict"]["text"]
    if summary["state"] in TOLD and summary["reason"]:
        said = f"{said}: {summary['reason'].partition(NEWLINE)[0][:LONGEST]}"
    counts = (summary[key] for key in ("step", "steps_per_s", "open_alerts"))
    return (summary["id"], summary["name"], state, *counts, clock(summary["last_seen"]), said)
