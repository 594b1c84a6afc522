"""Spools that ended trainers left on this machine: found by the server, and streamed to its own local socket like a
living trainer's, so that there is one way in."""

from collections.abc import Callable

from trainvitals import home
from trainvitals.delivery.address import Address
from trainvitals.delivery.recovery import Recovery
from trainvitals_server.settings import Settings

LOOK = 3.0  # seconds between two looks


async def run(settings: Settings) -> None:
    """Look after the spools of the per-user directory and of those that were named; until cancelled."""
    await Recovery([settings.directory / "spool", *settings.spools], own_address(settings)).run(LOOK)


def own_address(settings: Settings) -> Callable[[], Address | None]:
    """Where this server is, once it listens; by its unix socket where the platform has them."""

    def find() -> Address | None:
        announced = home.read_server_file(settings.directory)
        if announced is None:
            return None
        return Address(announced.url, home.read_token(settings.directory, "ingest"), announced.socket)

    return find
