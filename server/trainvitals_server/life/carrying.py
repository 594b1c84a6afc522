"""Room for files on their way into or out of a running server: one at a time, in a folder that goes with it."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from trainvitals_server.errors import RefusedError
from trainvitals_server.parts import Parts
from trainvitals_server.store.parcel import write_parcel

PREFIX = "carry-"
SPARE_BYTES = 256 << 20  # of the disk, left to the trainers' records
CHUNK = 1 << 20


@asynccontextmanager
async def room(parts: Parts) -> AsyncIterator[Path]:
    """A folder for one file. Raises `RefusedError` while another file has it."""
    if parts.carrying.locked():
        raise RefusedError(429, "expected one export or import at a time, got another; wait for it")
    async with parts.carrying:
        with TemporaryDirectory(prefix=PREFIX, dir=parts.settings.directory) as folder:
            yield Path(folder)


def clean(directory: Path) -> None:
    """Remove what a killed server left; the directory is this server's own."""
    for left in directory.glob(f"{PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)


async def receive(chunks: AsyncIterator[bytes], path: Path) -> None:
    """Write what comes into a new file. Raises `RefusedError` where the disk has no room for it."""
    free = shutil.disk_usage(path.parent).free - SPARE_BYTES
    size = 0
    with path.open("xb") as file:
        async for chunk in chunks:
            size += len(chunk)
            if size > free:
                raise RefusedError(413, f"expected a file of at most {max(0, free)} bytes (the disk's room), got more")
            await asyncio.to_thread(file.write, chunk)


async def send(parts: Parts, run: str) -> AsyncIterator[bytes | int]:
    """A run's file: first its size, then its bytes. It is made whole before the first of them is sent."""
    async with room(parts) as folder:
        path = folder / "run.db"
        await asyncio.to_thread(write_parcel, parts.database.path, run, path, lambda done, total: None)
        yield path.stat().st_size
        with path.open("rb") as file:
            while chunk := await asyncio.to_thread(file.read, CHUNK):
                yield chunk
