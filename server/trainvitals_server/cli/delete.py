"""Delete a run for good.

It is gone from every list at once; its room on the disk is given back meanwhile, and recording of other runs goes on.
The audit keeps that it was there. A run that is under way or pinned is refused unless --force is given; its trainer
goes on without it.
"""

import argparse
import sys

from trainvitals_server.cli import client
from trainvitals_server.cli.failure import Failure
from trainvitals_server.cli.text import cell, safe, show_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which run, and how sure."""
    parser.add_argument("target", metavar="RUN", help="id or name of a run, or the beginning of one")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--force", action="store_true", help="even one that is under way, or pinned")
    parser.add_argument("--json", action="store_true", help="print JSON")
    client.arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Ask, then delete."""
    with client.connect(options, role="control") as server:
        name = client.resolve(server, options.target)
        if not options.yes:
            confirm(server.get(f"/api/runs/{name}"))
        answer = server.delete(f"/api/runs/{name}", force=options.force)
    show_json(answer) if options.json else print(f"run {safe(name)} was deleted")
    return 0


def confirm(summary: client.Object) -> None:
    """Have a person say yes. Raises `Failure` where none is there, or another answer comes."""
    if not sys.stdin.isatty():
        raise Failure("expected --yes, since nobody can be asked here", code=2)
    what = f"run {safe(summary['id'])} ({safe(summary['name'])}, {summary['state']}, {cell(summary['step'])} steps)"
    print(f"Delete {what} for good? Type yes: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() != "yes":
        raise Failure("nothing was deleted")
