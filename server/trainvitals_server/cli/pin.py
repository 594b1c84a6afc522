"""Keep a run, whatever `serve --retain` says."""

import argparse

from trainvitals_server.cli import client
from trainvitals_server.cli.text import safe, show_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which run."""
    parser.add_argument("target", metavar="RUN", help="id or name of a run, or the beginning of one")
    parser.add_argument("--json", action="store_true", help="print JSON")
    client.arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Ask the server."""
    with client.connect(options, role="control") as server:
        name = client.resolve(server, options.target)
        answer = server.put(f"/api/runs/{name}/pin")
    show_json(answer) if options.json else print(f"run {safe(name)} is kept until `trainvitals unpin`")
    return 0
