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
    """Pin it."""
    return change(options, pinned=True)


def change(options: argparse.Namespace, *, pinned: bool) -> int:
    """Ask the server to pin a run, or to let it go."""
    with client.connect(options, role="control") as server:
        name = client.resolve(server, options.target)
        answer = (server.put if pinned else server.delete)(f"/api/runs/{name}/pin")
    said = "is kept until `trainvitals unpin`" if pinned else "is left to --retain again"
    show_json(answer) if options.json else print(f"run {safe(name)} {said}")
    return 0
