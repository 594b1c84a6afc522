"""Repair the running statistics of a run's model: the button, from a shell.

Prints each rung as it is reached: requested, delivered, applied at step N, verified. The exit code is 0 when the repair
was verified (or the dry run answered), else 1 with the reason on stderr.
"""

import argparse
import time
import uuid
from typing import Any

from trainvitals_server.cli import client
from trainvitals_server.cli.failure import Failure
from trainvitals_server.cli.text import cell, safe, show_json, table

RUNGS = ("requested", "delivered", "applied", "verified")
FAILED = {"refused", "failed", "expired", "unknown"}
PAUSE = 0.1  # seconds between two looks


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to repair, and how."""
    parser.add_argument("target", metavar="RUN", help="id or name of a run, or the beginning of one")
    parser.add_argument("--strategy", choices=("restore", "reset"), help="default: as the trainer is set")
    parser.add_argument("--layers", nargs="+", metavar="LAYER", help="only these layers (default: all that are broken)")
    parser.add_argument(
        "--dry-run", action="store_true", help="let the trainer say what it would do, and change nothing"
    )
    parser.add_argument("--timeout", type=float, default=120.0, metavar="S", help="seconds to wait (default: 120)")
    parser.add_argument("--json", action="store_true", help="print the finished command as JSON")
    client.arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Send the command and follow it to its end."""
    with client.connect(options, role="control") as server:
        name = client.resolve(server, options.target)
        command = server.post(f"/api/runs/{name}/commands", request(options))
        ladder = Ladder(quiet=options.json)
        deadline = time.monotonic() + options.timeout
        ladder.climb(command)
        while not all(map(is_over, everybody(command))) and time.monotonic() < deadline:
            time.sleep(PAUSE)
            command = server.get(f"/api/runs/{name}/commands/{command['id']}")
            ladder.climb(command)
    if options.json:
        show_json(command)
    elif options.dry_run and command["state"] == "verified":
        print(plan(command["result"]))
    return judge(command, options.timeout)


def request(options: argparse.Namespace) -> client.Object:
    """The body of the request, with a key that makes a repeated send harmless."""
    body: dict[str, Any] = {"action": "sanitize", "dry_run": options.dry_run, "key": uuid.uuid4().hex}
    chosen = {"strategy": options.strategy, "layers": options.layers}
    return body | {name: value for name, value in chosen.items() if value is not None}


def everybody(command: client.Object) -> list[client.Object]:
    """The command of rank 0 and its parts for other ranks, if it has any."""
    return [command, *command.get("parts", ())]  # an older server knows of none


def is_over(command: client.Object) -> bool:
    """Whether nothing more will become of it."""
    return command["state"] == "verified" or command["state"] in FAILED


def judge(command: client.Object, timeout: float) -> int:
    """The exit code. Raises `Failure` with the reason where the repair was not verified, on any rank."""
    for one in everybody(command):
        state, where = one["state"], f" on rank {one['rank']}" if command.get("parts") else ""
        if state in FAILED:
            raise Failure(f"the command was not carried out{where}: {state}: {one['reason'] or 'no reason given'}")
        if state != "verified":
            raise Failure(
                f"not verified{where} within {timeout:g} s; the command {one['id']} is {state!r} and goes on by itself"
            )
    return 0


class Ladder:
    """Prints the rungs between the last state seen and this one, each once."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._height = 0

    def climb(self, command: client.Object) -> None:
        """Print what is new."""
        state = command["state"]
        height = RUNGS.index(state) + 1 if state in RUNGS else self._height
        for rung in RUNGS[self._height : height]:
            self._say(rung, command)
        self._height = max(height, self._height)

    def _say(self, rung: str, command: client.Object) -> None:
        if self._quiet:
            return
        at = f" at step {cell(command['step'])}" if rung == "applied" and command["step"] is not None else ""
        reason = f" ({safe(command['reason'])})" if rung == command["state"] and command["reason"] else ""
        print(f"{rung}{at}{reason}", flush=True)


def plan(result: client.Object) -> str:
    """What a dry run found, one line per layer."""
    repairs = result.get("repairs", [])
    if not repairs:
        return "Nothing to repair: every running statistic is finite."
    heads = ("LAYER", "CHANNELS", "STRATEGY", "SNAPSHOT", "BUFFERS")
    return table(heads, map(row, repairs))


def row(repair: client.Object) -> tuple[object, ...]:
    """The cells of one layer; the struct's defaults may be missing."""
    age = repair.get("snapshot_step")
    channels = f"{repair['channels']} of {repair['total']}"
    return (
        repair["layer"],
        channels,
        repair["strategy"],
        None if age is None else f"step {age:,}",
        ", ".join(repair["buffers"]),
    )
