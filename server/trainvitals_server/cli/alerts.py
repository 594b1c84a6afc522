"""List alerts, of one run or of all."""

import argparse

from trainvitals_server.cli import client
from trainvitals_server.cli.text import clock, show_json, table

STATUSES = ("firing", "acknowledged", "resolved", "regressed")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which alerts, and how to print."""
    parser.add_argument("target", metavar="RUN", nargs="?", help="only of this run (id, name, or beginning of one)")
    parser.add_argument("--status", choices=STATUSES, help="only those in this state")
    parser.add_argument("--json", action="store_true", help="print JSON")
    client.arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Print one line per alert."""
    with client.connect(options) as server:
        name = client.resolve(server, options.target) if options.target else None
        answer = server.get("/api/alerts", run=name, status=options.status)
    if options.json:
        show_json(answer)
    elif not answer["alerts"]:
        print("No alerts.")
    else:
        heads = ("ID", "RUN", "SEVERITY", "STATUS", "FIRST STEP", "LAST STEP", "COUNT", "UPDATED", "WHAT")
        print(table(heads, map(row, answer["alerts"])))
    return 0


def row(alert: client.Object) -> tuple[object, ...]:
    """The cells of one alert."""
    keys = ("id", "run", "severity", "status", "first_step", "last_step", "count")
    return (*(alert[key] for key in keys), clock(alert["updated"]), alert["text"])
