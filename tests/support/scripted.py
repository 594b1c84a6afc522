"""A trainer that follows a script instead of training: it speaks the real wire to a real server, and breaks on demand.

Its statistics are made up and repeatable; what it sends is what the hook would send. Like the hook it numbers its
records, keeps them until they are acknowledged, and comes back when the server does.
"""

import math
import random
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Literal

import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect

from trainvitals import wire

Answer = Literal["repair", "refuse", "ignore"]

RUN_STATS = (
    wire.LOSS,
    wire.GRAD_NORM,
    wire.LEARNING_RATE,
    wire.LOSS_SCALE,
    wire.SKIPPED,
    wire.STEP_TIME,
    wire.HOOK_TIME,
)
CHANNELS = 16
BATCH = 200
LAYERS = (
    "encoder.0.1",
    "encoder.1.1",
    "refinement_ffc.scales.0.ffc.local_conv.1",
    "refinement_ffc.scales.0.ffc.spectral.bn",
    "refinement_ffc.scales.1.ffc.local_conv.1",
    "decoder.0.1",
)


class Trainer:
    """One producer of run `run`. Use it as a context manager, or `start` and `close` it."""

    def __init__(
        self,
        url: str,
        token: str,
        run: str,
        *,
        name: str = "wavessm",
        project: str = "restoration",
        layers: Sequence[str] = LAYERS,
        allow: Sequence[str] = ("sanitize", "undo"),
        answer: Answer = "repair",
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.step = 0
        self.broken: dict[str, int] = {}
        self.answer: Answer = answer
        self._url = url.replace("http", "ws", 1) + "/ws/trainer"
        self._token = token
        self._layers = tuple(layers)
        self._random = random.Random(seed)
        self._clock = time.time()
        self._identity = wire.Identity(
            run=run,
            producer=f"{run}-p{rank}",
            rank=rank,
            world_size=world_size,
            name=name,
            project=project,
            started=self._clock,
            host="gpu-1",
            allow=list(allow),
            versions={"torch": "2.13.0"},
        )
        self._records: list[bytes] = []
        self._sent = 0
        self._acked = -1
        self._lock = threading.Lock()
        self._closing = False
        self._thread = threading.Thread(target=self._talk, daemon=True)
        self._declare()

    def __enter__(self) -> "Trainer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Go away without a word, as a killed process does, once everything written is acknowledged."""
        self.settle()
        self.abandon()

    def abandon(self) -> None:
        """Go away at once."""
        self._closing = True
        self._thread.join(10)

    def settle(self, seconds: float = 15.0) -> None:
        """Wait until the server has everything. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while self._acked < len(self._records) - 1:
            if time.monotonic() > deadline:
                raise TimeoutError(f"expected {len(self._records)} acknowledged records, got {self._acked + 1}")
            time.sleep(0.01)

    # what happens in training

    def train(self, steps: int, seconds_per_step: float = 0.25) -> None:
        """Some steps, each a frame."""
        for _ in range(steps):
            self.step += 1
            self._clock += seconds_per_step
            frame = wire.Frame(layout=0, step=self.step, time=self._clock, values=self._values())
            self._record(frame)

    def break_layers(self, *layers: str, channels: int = 3) -> None:
        """The next steps show these layers non-finite."""
        for layer in layers:
            self.broken[layer] = channels
            self._record(
                wire.NonFinite(
                    step=self.step + 1,
                    time=self._clock,
                    layer=layer,
                    signal="running_statistics",
                    kind="inf",
                    count=channels,
                    total=CHANNELS,
                    order=self._layers.index(layer),
                    skipped=True,
                    headroom=0.0,
                )
            )

    def repair(self, origin: wire.Origin = "auto", command: str | None = None) -> list[wire.Repair]:
        """Mend what is broken."""
        repairs = self._repairs("restore")
        self.broken.clear()
        sanitized = wire.Sanitized(
            step=self.step, time=self._clock, origin=origin, strategy="restore", repairs=repairs, command=command
        )
        self._record(sanitized)
        return repairs

    def validate(self, total: int = 8) -> None:
        """A validation; on a broken model no batch is valid."""
        bad = total if self.broken else 0
        self._record(
            wire.Validation(
                step=self.step,
                time=self._clock,
                valid=total - bad,
                errors=0,
                nonfinite=bad,
                total=total,
                tainted=bool(self.broken),
                mean_loss=None if bad else 0.02,
                metrics={} if bad else {"psnr": 24 + math.log1p(self.step) / 2, "ssim": 0.8 + self.step / 1e4},
            )
        )

    def checkpoint(self) -> None:
        """A checkpoint, refused while something is broken."""
        first = next(iter(self.broken), None)
        key = None if first is None else f"{first}.running_mean"
        self._record(
            wire.Checkpoint(
                step=self.step,
                time=self._clock,
                outcome="saved" if key is None else "refused",
                path="last.pth",
                key=key,
            )
        )

    def lose(self, steps: int, records: int, reason: str = "the spool was full", known: bool = True) -> None:
        """Some steps of which nothing comes; whether the trainer knows which."""
        first, last = self.step + 1, self.step + steps
        self.step = last
        self._clock += steps * 0.25
        gap = wire.Gap(count=records, reason=reason, since=self._clock, until=self._clock)
        if known:
            gap = wire.Gap(
                count=records, reason=reason, since=self._clock, until=self._clock, first_step=first, last_step=last
            )
        self._record(gap)

    def spoil(self) -> None:
        """A record that nobody can read."""
        with self._lock:
            self._records.append(b"\xc1")

    def note(self, code: str, text: str) -> None:
        """A notice."""
        self._record(wire.Notice(step=self.step, time=self._clock, code=code, text=text))

    def finish(
        self, state: Literal["finished", "failed"] = "finished", error: str = "", traceback: str = "", reason: str = ""
    ) -> None:
        """The run ends."""
        ended = wire.Lifecycle(
            step=self.step, time=self._clock, state=state, reason=reason, error=error, traceback=traceback
        )
        self._record(ended)

    # what is sent

    def _declare(self) -> None:
        series = [wire.Series(i, "", wire.RUN, stat, i) for i, stat in enumerate(RUN_STATS)]
        for order, layer in enumerate(self._layers):
            for stat in wire.NORM_STATS:
                series.append(wire.Series(len(series), layer, wire.NORM, stat, order))
            series.append(wire.Series(len(series), f"{layer}.weight", wire.PARAMETER, wire.GRAD_NORM, order))
            series.append(wire.Series(len(series), layer, wire.INPUT, wire.HEADROOM, order))
        for offset in range(0, len(series), 40):
            piece = series[offset : offset + 40]
            self._record(wire.Layout(id=0, offset=offset, total=len(series), series=piece))
        self._record(wire.Lifecycle(step=0, time=self._clock, state="live"))

    def _values(self) -> bytes:
        noise = self._random.gauss
        decay = 1 / (1 + self.step / 60)
        skipped = float(bool(self.broken) and self.step % 7 == 0)
        values = [
            0.02 + 0.6 * decay * (1 + noise(0, 0.05)),
            math.inf if skipped else 1.4 * decay + abs(noise(0, 0.15)),
            1e-3,
            65536.0 / (2 if self.broken else 1),
            skipped,
            0.25 + abs(noise(0, 0.01)),
            0.004,
        ]
        for order, layer in enumerate(self._layers):
            values += self._layer(order, self.broken.get(layer, 0))
        return _floats(values)

    def _layer(self, order: int, bad: int) -> list[float]:
        noise = self._random.gauss
        drift = math.sin((self.step + 40 * order) / 50)
        spread = 1 + 0.4 * order + 0.2 * drift
        norms = [-spread + noise(0, 0.04), spread + noise(0, 0.04), 0.3 + 0.1 * drift, spread**2 + abs(noise(0, 0.1))]
        if bad:
            norms = [math.nan, math.inf, 0.3, math.inf]
        headroom = 0.0 if bad else 100 + 400 / (1 + order) + noise(0, 5)
        return [*norms, float(bad), 0.0, abs(0.1 * spread + noise(0, 0.02)), headroom]

    def _repairs(self, strategy: wire.Strategy) -> list[wire.Repair]:
        return [
            wire.Repair(
                layer=layer,
                channels=channels,
                total=CHANNELS,
                strategy=strategy,
                buffers=["running_mean", "running_var"],
                snapshot_step=max(1, self.step - 12) if strategy == "restore" else None,
                before={"running_mean": [math.nan, math.nan], "running_var": [math.inf, math.inf]},
                after={"running_mean": [-0.42, 0.51], "running_var": [0.31, 2.2]}
                if strategy == "restore"
                else {"running_mean": [0.0, 0.0], "running_var": [1.0, 1.0]},
            )
            for layer, channels in self.broken.items()
        ]

    def _record(self, record: wire.Message) -> None:
        with self._lock:
            self._records.append(wire.encode(record))

    # the connection

    def _talk(self) -> None:
        while not self._closing:
            try:
                headers = {"Authorization": f"Bearer {self._token}"}
                with connect(self._url, additional_headers=headers, max_size=wire.MAX_MESSAGE_BYTES) as socket:
                    self._serve(socket)
            except (OSError, ConnectionClosed, InvalidHandshake, TimeoutError):
                time.sleep(0.1)

    def _serve(self, socket: ClientConnection) -> None:
        hello = wire.Hello(protocol=wire.PROTOCOL, identity=self._identity, first=0, next=len(self._records))
        socket.send(wire.encode(hello))
        welcome = wire.decode_to_trainer(_binary(socket.recv(timeout=10)))
        if not isinstance(welcome, wire.Welcome):
            raise TimeoutError(f"expected a welcome, got {welcome!r}")
        self._sent = welcome.committed + 1
        self._acked = welcome.committed
        while not self._closing:
            self._send(socket)
            try:
                self._hear(wire.decode_to_trainer(_binary(socket.recv(timeout=0.01))))
            except TimeoutError:
                continue

    def _send(self, socket: ClientConnection) -> None:
        if self._acked < self._sent - 1:
            return  # one batch at a time is quick enough here
        records: list[bytes] = []
        with self._lock:
            for record in self._records[self._sent : self._sent + BATCH]:
                if records and sum(map(len, records)) + len(record) > wire.MAX_BATCH_BYTES:
                    break
                records.append(record)
        if records:
            socket.send(wire.encode(wire.Batch(first=self._sent, records=records)))
            self._sent += len(records)

    def _hear(self, message: wire.ToTrainer) -> None:
        if isinstance(message, wire.Ack):
            self._acked = max(self._acked, message.seq)
        elif isinstance(message, wire.Nack):
            self._sent = message.seq + (message.kind == "permanent")
        elif isinstance(message, wire.Command) and self.answer != "ignore":
            self._obey(message)

    def _obey(self, command: wire.Command) -> None:
        if self.answer == "refuse":
            self._update(command, "refused", "the script says no")
            return
        self._update(command, "delivered")
        result: dict[str, object] = {}
        if command.action == "sanitize":
            result["repairs"] = self._repairs(command.strategy or "restore")
            result["dry_run"] = command.dry_run
            if not command.dry_run:
                self.repair("command", command.id)
        self._update(command, "applied", result=result)
        self._update(command, "verified")

    def _update(
        self, command: wire.Command, state: wire.CommandState, reason: str = "", result: dict[str, object] | None = None
    ) -> None:
        update = wire.CommandUpdate(
            step=self.step, time=time.time(), id=command.id, state=state, reason=reason, result=result or {}
        )
        self._record(update)


def _floats(values: Sequence[float]) -> bytes:
    return np.asarray(values, "<f4").tobytes()


def _binary(message: str | bytes) -> bytes:
    if isinstance(message, str):
        raise TimeoutError(f"expected a binary message, got {message[:80]!r}")
    return message
