"""Some hundred trainers in one process, speaking the wire over real websockets.

    python -m load.trainers HOST:PORT TOKEN --trainers 250 --first 0 --batch 0 --seconds 60 --settle 15 --out FILE

With `--batch 0` each takes one step per second at a phase of its own and sends it at once (further ones wait while
four batches are in flight, as a courier's do); otherwise each sends batches of that many steps as fast as they are
acked. What was acked is written as JSON: [time of the step, seconds until its
ack], of each step or, with `--batch`, of the first of each batch; Unix times.

websockets' protocol without I/O under an asyncio transport: a tenth of the cost of its connection objects, which
would take from the server the core it shares with this load.
"""

import argparse
import asyncio
import json
import random
import time
from collections import deque
from pathlib import Path

from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from load.shapes import Source, layout
from trainvitals import wire

LAYOUT = layout()
CONNECT_SECONDS = 120.0


class Trainer(asyncio.Protocol):
    """One connection. `acks` are [time of a batch's first step, seconds until its ack]."""

    def __init__(self, number: int, token: str, batch: int) -> None:
        self.acks: list[tuple[float, float]] = []
        self.acked = -1
        self.nacks = 0
        self.began = time.time()
        self.welcomed = 0.0
        self.closed = ""
        self._number, self._batch = number, batch
        self._source = Source(number % 16)
        self._sequence = 0
        self._flying: deque[tuple[int, list[float]]] = deque()  # of each batch its last number, and times of steps
        self._waiting: list[tuple[float, bytes]] = []
        self._protocol = ClientProtocol(parse_uri("ws://localhost/ws/trainer"), max_size=None)
        self._headers = Headers({"Authorization": f"Bearer {token}"})
        self._stopped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for a websocket."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        request = self._protocol.connect()
        request.headers.update(self._headers)
        self._protocol.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Whatever the server says."""
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self._greet()
            elif isinstance(event, Frame) and event.opcode is Opcode.BINARY:
                self._heed(wire.decode_to_trainer(bytes(event.data)))
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self.closed = f"{self._protocol.close_code} {self._protocol.close_reason} {exc or ''}"

    def stop(self) -> None:
        """No more steps."""
        self._stopped = True

    def step(self) -> None:
        """Take a step."""
        now = time.time()
        self._waiting.append((now, self._source.frame(now)))
        self._send()
        self._flush()

    def _greet(self) -> None:
        name = f"load-{self._number}"
        identity = wire.Identity(run=name, producer=name, name=name, started=self.began)
        self._say(wire.Hello(protocol=wire.PROTOCOL, identity=identity, first=0, next=0))

    def _heed(self, message: wire.ToTrainer) -> None:
        if isinstance(message, wire.Welcome):
            self.welcomed = time.time()
            self._say(wire.Batch(first=0, records=[LAYOUT]))
            self._sequence = 1
            self._send()
        elif isinstance(message, wire.Ack):
            self.acked = message.seq
            while self._flying and self._flying[0][0] <= message.seq:
                _, times = self._flying.popleft()
                self.acks += [(began, time.time() - began) for began in times]
            self._send()
        else:
            self.nacks += 1

    def _send(self) -> None:
        """Fill what may be in flight."""
        while not self._stopped and self.welcomed and len(self._flying) < wire.MAX_IN_FLIGHT:
            if self._batch:
                now = time.time()
                self._waiting = [(now, self._source.frame(now)) for _ in range(self._batch)]
            if not self._waiting:
                return
            steps, self._waiting = self._waiting, []
            self._say(wire.Batch(first=self._sequence, records=[frame for _, frame in steps]))
            self._sequence += len(steps)
            times = [now for now, _ in steps]
            self._flying.append((self._sequence - 1, times[:1] if self._batch else times))

    def _say(self, message: wire.Message) -> None:
        self._protocol.send_binary(wire.encode(message))

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)


async def connect(trainer: Trainer, address: str) -> None:
    """Open its connection."""
    host, _, port = address.rpartition(":")
    await asyncio.get_running_loop().create_connection(lambda: trainer, host, int(port))


async def pace(trainer: Trainer, until: float) -> None:
    """One step per second, at a phase of its own."""
    due = time.time() + random.random()  # noqa: S311 - a phase is no secret
    while due < until:
        await asyncio.sleep(max(0.0, due - time.time()))
        trainer.step()
        due += 1.0


async def load(options: argparse.Namespace) -> dict[str, object]:
    """Everything; returns what is written."""
    trainers = [Trainer(options.first + i, options.token, options.batch) for i in range(options.trainers)]
    began = time.time()
    async with asyncio.timeout(CONNECT_SECONDS):
        await asyncio.gather(*(connect(trainer, options.address) for trainer in trainers))
        while not all(trainer.welcomed or trainer.closed for trainer in trainers):
            await asyncio.sleep(0.05)
    ready = time.time()
    until = ready + options.settle + options.seconds
    if options.batch:
        await asyncio.sleep(until - time.time())
    else:
        await asyncio.gather(*(pace(trainer, until) for trainer in trainers))
    for trainer in trainers:
        trainer.stop()
    await asyncio.sleep(2.0)  # the last acks
    return {
        "began": began,
        "ready": ready,
        "until": until,
        "welcomes": [trainer.welcomed - trainer.began for trainer in trainers if trainer.welcomed],
        "acks": [ack for trainer in trainers for ack in trainer.acks],
        "acked": sum(trainer.acked for trainer in trainers if trainer.acked > 0),  # the layout was number 0
        "nacks": sum(trainer.nacks for trainer in trainers),
        "cpu": time.process_time() / (time.time() - began),
        "closed": [trainer.closed for trainer in trainers if trainer.closed],
    }


def main() -> None:
    """The process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("token")
    parser.add_argument("--trainers", type=int, default=4)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--settle", type=float, default=5.0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.write_text(json.dumps(asyncio.run(load(options))))


if __name__ == "__main__":
    main()
