"""Summaries made once after the start, so that whoever asks for the list of runs first need not wait for a thousand."""

import asyncio
import logging

from trainvitals_server.parts import Parts
from trainvitals_server.store import runs
from trainvitals_server.store.database import ReadError

log = logging.getLogger("trainvitals.server")


async def run(parts: Parts) -> None:
    """The task: one run after another, so that it can be ended at any time. What cannot be read now is left to those
    who ask."""
    try:
        for name in await asyncio.to_thread(_names, parts):
            await asyncio.to_thread(parts.summaries.of, name)
    except ReadError as error:
        log.warning("the summaries could not be made in advance: %s", error)


def _names(parts: Parts) -> list[str]:
    with parts.database.reading() as connection:
        return runs.list_ids(connection)
