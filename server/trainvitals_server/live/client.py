"""What is still to be sent to one browser. Nothing here waits.

Four lanes, each bounded by its own rule: messages are never dropped one by one (a client that lets too many pile up is
expelled, and nothing is kept for it from then on), of each kind of notice only the latest counts, and of frames the
oldest are dropped and the client is told which.
"""

import asyncio
from collections import deque
from typing import Any

from trainvitals_server.jsontext import dumps

MAX_MESSAGES = 2000
MAX_MESSAGE_BYTES = 16 << 20
MAX_FRAMES = 512
MAX_FRAME_BYTES = 4 << 20


class Client:
    """One live socket's lanes. `run` is the run followed, None for the list, "" before it has subscribed."""

    def __init__(self) -> None:
        self.run: str | None = ""
        self.rank: int | None = 0
        self.ready = asyncio.Event()
        self.overrun = False
        self.dropped = 0
        self.layouts: set[int] = set()
        self._messages: deque[bytes] = deque()
        self._message_bytes = 0
        self._latest: dict[str, bytes] = {}
        self._frames: deque[tuple[int, bytes]] = deque()
        self._frame_bytes = 0
        self._lost: tuple[int, int] | None = None  # steps dropped since the client was last told

    def follow(self, run: str | None, rank: int | None) -> None:
        """Follow another run; what was queued for the one before is void."""
        self.run, self.rank = run, rank
        self.layouts.clear()
        self._empty()

    def tell(self, message: dict[str, Any]) -> None:
        """Queue a message that must arrive."""
        self.tell_text(dumps(message))

    def tell_text(self, text: bytes) -> None:
        """Queue a message that must arrive, already encoded."""
        if not self.overrun:
            self._messages.append(text)
            self._message_bytes += len(text)
            if len(self._messages) > MAX_MESSAGES or self._message_bytes > MAX_MESSAGE_BYTES:
                self.overrun = True
                self._empty()
        self.ready.set()

    def notify(self, kind: str, text: bytes) -> None:
        """Queue a message that replaces the one of its kind before it."""
        if not self.overrun:
            self._latest[kind] = text
        self.ready.set()

    def show(self, step: int, message: bytes) -> None:
        """Queue a frame."""
        if self.overrun:
            return
        self._frames.append((step, message))
        self._frame_bytes += len(message)
        while len(self._frames) > MAX_FRAMES or self._frame_bytes > MAX_FRAME_BYTES:
            self._drop()
        self.ready.set()

    def take(self) -> list[bytes | str]:
        """Everything queued, in the order in which it is to be sent; text for JSON, bytes for frames."""
        self.ready.clear()
        taken: list[bytes | str] = [text.decode() for text in (*self._messages, *self._latest.values())]
        if self._lost is not None:
            taken.append(dumps({"type": "dropped", "from": self._lost[0], "to": self._lost[1]}).decode())
        taken += [message for _, message in self._frames]
        self._empty()
        return taken

    def _empty(self) -> None:
        self._messages.clear()
        self._latest.clear()
        self._frames.clear()
        self._message_bytes = self._frame_bytes = 0
        self._lost = None

    def _drop(self) -> None:
        step, message = self._frames.popleft()
        self._frame_bytes -= len(message)
        self.dropped += 1
        low, high = self._lost or (step, step)
        self._lost = (min(low, step), max(high, step))
