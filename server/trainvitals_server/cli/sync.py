"""Deliver the spools in a folder to a server: of trainers that were killed, or that never reached one.

DIRECTORY is a per-user directory, the `spool` folder in one, a run's or a producer's folder, on this machine or carried
here from another one; it may be read-only. A spool whose trainer lives is left to it. What a server has already is not
sent again. Nothing is deleted without --remove.

Exit code: 0 everything is on the server's disk, 1 something is not (a living trainer's spool included), 2 there is no
spool, or no server is known.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from trainvitals import home
from trainvitals.delivery.address import Address, find_address
from trainvitals.delivery.recovery import Delivery, find_spools, recover
from trainvitals.delivery.remains import Remains
from trainvitals.errors import ConfigurationError
from trainvitals_server.cli import client
from trainvitals_server.cli.failure import Failure
from trainvitals_server.cli.text import cell, safe, show_json, table

IN_USE = "its trainer lives and delivers it, or another program does"
AGAIN = 2.0  # seconds after which what another program delivers is looked at again
HEADS = ("RUN", "PRODUCER", "RECORDS", "SENT", "KNOWN", "LOST", "QUARANTINED", "OUTCOME")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which spools, and where to."""
    parser.add_argument("spools", metavar="DIRECTORY", type=Path, help="where the spools lie")
    parser.add_argument("--remove", action="store_true", help="delete what was delivered, but for quarantines")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    client.arguments(parser, role="ingest")


def run(options: argparse.Namespace) -> int:
    """Deliver; returns the exit code."""
    found = find_spools(options.spools)
    if not found:
        raise Failure(f"{safe(options.spools)}: expected a folder of spools, got none in it", code=2)
    base = home.home(options.directory)
    try:
        address = find_address(base, options.server, options.token)
    except ConfigurationError as error:
        raise Failure(str(error), code=2) from error
    if address is None:
        raise Failure("expected a server, got none: start `trainvitals serve`, or give --server", code=2)
    progress = Progress()
    try:
        done = asyncio.run(deliver(found, lambda: address, progress.show, remove=options.remove))
    finally:
        progress.clear()
    complete = all(one.outcome == "delivered" for one in done)
    if options.json:
        show_json({"server": address.url, "complete": complete, "spools": [entry(one) for one in done]})
    else:
        print("\n".join(describe(done, address.url)))
    if not complete:
        raise Failure(complaint(done))
    return 0


async def deliver(
    folders: list[Path], find: Callable[[], Address | None], note: Callable[[Remains], None], *, remove: bool
) -> list[Delivery]:
    """One after another. What another program was just delivering is looked at once more."""
    done = [await recover(folder, find, remove=remove, note=note) for folder in folders]
    if any(one.outcome == "in use" for one in done):
        await asyncio.sleep(AGAIN)
    for place, one in enumerate(done):
        if one.outcome == "in use":
            there = (one.path / "identity").exists()
            done[place] = await recover(one.path, find, remove=remove, note=note) if there else gone(one)
    return done


def gone(one: Delivery) -> Delivery:
    """A spool that another program has delivered meanwhile."""
    return Delivery(one.path, one.run, one.producer, reason="by another program")


def describe(done: list[Delivery], url: str) -> list[str]:
    """What became of each, as lines."""
    rows = [
        (one.run, one.producer, one.records, one.sent, one.known, one.lost, one.quarantined, outcome(one))
        for one in done
    ]
    delivered = sum(one.outcome == "delivered" for one in done)
    return [table(HEADS, rows), f"{delivered} of {len(done)} spools are delivered to {safe(url)}"]


def complaint(done: list[Delivery]) -> str:
    """What is not delivered, in one line."""
    left = [one for one in done if one.outcome != "delivered"]
    first = f"{safe(left[0].run or left[0].path)}: {outcome(left[0])}"
    return f"expected everything to be delivered, got {len(done) - len(left)} of {len(done)} spools; {first}"


def outcome(one: Delivery) -> str:
    """In words."""
    reason = one.reason or (IN_USE if one.outcome == "in use" else "")
    return f"{one.outcome}: {safe(reason)}" if reason else one.outcome


def entry(one: Delivery) -> dict[str, object]:
    """In JSON."""
    return {**asdict(one), "path": str(one.path), "reason": one.reason or (IN_USE if one.outcome == "in use" else "")}


class Progress:
    """On a terminal, which spool is under way and how far; nothing in a pipe."""

    def __init__(self) -> None:
        self._next = 0.0
        self._shown = False

    def show(self, remains: Remains) -> None:
        """A look at one spool."""
        if not sys.stderr.isatty() or time.monotonic() < self._next:
            return
        self._next, self._shown = time.monotonic() + 0.2, True
        there, whole = max(remains.committed - remains.first + 1, 0), remains.next - remains.first
        text = f"{cell(remains.identity.run, 40)}: {there:,} of {whole:,} records"
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Leave no trace."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
