"""Send a test message to the notification targets, and say what came of it.

The targets are those of TRAINVITALS_ALERT_URLS and of --notify, as with `serve`; no server needs to run. Exit code 0:
all took it, 1: some did not, 2: there is none, or a wrong one.
"""

import argparse
import asyncio
import secrets
import time

from trainvitals_server.cli.failure import Failure
from trainvitals_server.cli.text import safe
from trainvitals_server.errors import SettingsError
from trainvitals_server.notifications.addresses import VARIABLE, configured
from trainvitals_server.notifications.message import Message
from trainvitals_server.notifications.target import Target
from trainvitals_server.notifications.targets import attempt, open_targets


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which targets."""
    parser.add_argument("--test", action="store_true", required=True, help="send a test message")
    parser.add_argument("--notify", action="append", default=[], metavar="URL", help="a further target; repeatable")


def run(options: argparse.Namespace) -> int:
    """Try each target once; one line for each."""
    try:
        targets = open_targets(configured(options.notify))
    except SettingsError as error:
        raise Failure(str(error), code=2) from error
    if not targets:
        raise Failure(f"expected a notification target in {VARIABLE} or with --notify; got none", code=2)
    reasons = asyncio.run(_try_all(targets))
    for target, reason in zip(targets, reasons, strict=True):
        print(f"{safe(target.name)}: {safe(reason) or 'delivered'}")
    return 1 if any(reasons) else 0


async def _try_all(targets: list[Target]) -> list[str]:
    return await asyncio.gather(*(attempt(target, message(), "") for target in targets))


def message() -> Message:
    """What is sent."""
    return Message(
        id=secrets.token_hex(16),
        run="test",
        title="info: a test message of trainvitals",
        text="If you can read this, alerts of your training runs will reach you here.",
        severity="info",
        path="/",
        time=time.time(),
    )
