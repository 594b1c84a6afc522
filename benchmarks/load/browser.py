"""A page's live socket, and somebody who asks whether the server is alive.

    python -m load.browser URL TOKEN --run load-0 --seconds 60 --out FILE.json

Follows one run. Written as JSON: [time of arrival, seconds since the step] of each frame, [time, seconds] of each
answer of `/healthz`, and how many frames the server said it had dropped. Unix times; both processes are on one machine.
"""

import argparse
import asyncio
import contextlib
import json
import struct
import time
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import connect

HEADER = struct.Struct("<IIIIdd")  # magic, layout, n, flags, step, time
ASK_SECONDS = 0.5


async def watch(options: argparse.Namespace, seen: dict[str, Any]) -> None:
    """Follow the run."""
    address = options.url.replace("http", "ws", 1) + "/ws/live"
    headers = {"Authorization": f"Bearer {options.token}"}
    while True:
        async with connect(address, additional_headers=headers, compression=None, proxy=None, max_size=None) as socket:
            await socket.send(json.dumps({"type": "subscribe", "run": options.run}))
            with contextlib.suppress(Exception):  # the run may not be there yet; then the server closes
                async for message in socket:
                    note(message, seen)
        await asyncio.sleep(0.2)


def note(message: str | bytes, seen: dict[str, Any]) -> None:
    """One message."""
    if isinstance(message, bytes):
        now, header = time.time(), HEADER.unpack_from(message)
        seen["frames"].append((now, now - header[5]))
    else:
        told = json.loads(message)
        if told.get("type") == "dropped":
            seen["dropped"] += told["to"] - told["from"] + 1


async def ask(options: argparse.Namespace, seen: dict[str, Any]) -> None:
    """Is it alive?"""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        while True:
            began = time.time()
            await client.get(options.url + "/healthz")
            seen["healthz"].append((began, time.time() - began))
            await asyncio.sleep(ASK_SECONDS)


async def live(options: argparse.Namespace) -> dict[str, Any]:
    """Both, for so many seconds."""
    seen: dict[str, Any] = {"frames": [], "healthz": [], "dropped": 0}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(options.seconds):
            await asyncio.gather(watch(options, seen), ask(options, seen))
    return seen


def main() -> None:
    """The process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("token")
    parser.add_argument("--run", default="load-0")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.write_text(json.dumps(asyncio.run(live(options))))


if __name__ == "__main__":
    main()
