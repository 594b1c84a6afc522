"""Show how much room the database takes, what is kept, and which runs were deleted last."""

import argparse

from trainvitals_server.cli import client
from trainvitals_server.cli.text import clock, safe, show_json, table


def arguments(parser: argparse.ArgumentParser) -> None:
    """Where to ask, and how to print."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    client.arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Ask the server."""
    with client.connect(options) as server:
        answer = server.get("/api/storage")
    if options.json:
        show_json(answer)
        return 0
    taken = answer["bytes"]
    print(f"database   {size(taken['file'])}, of which {size(taken['used'])} in use; its log {size(taken['log'])}")
    print(f"kept       {safe(answer['retain'] or 'everything: no --retain was given')}")
    if answer["trouble"]:
        print(f"trouble    {safe(answer['trouble'])}")
    if answer["being_deleted"]:
        print(f"deleting   {answer['being_deleted']} runs")
    if answer["deleted"]:
        rows = ((one["run"], one["name"], clock(one["time"]), one["reason"]) for one in answer["deleted"])
        print(f"\n{table(('DELETED RUN', 'NAME', 'WHEN', 'WHY'), rows)}")
    return 0


def size(count: int) -> str:
    """Bytes as people say them."""
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
