"""A browser that is connected and never reads."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from served import close_of, frame, layout, subscription, until
from speech import speaking
from trainvitals import wire
from ward import Ward

Enter = Callable[..., None]
COLUMNS = 4000
WARM = 2200  # frames after which the caches are full, and two spans have been compacted
MIB = 1 << 20


class Reader(threading.Thread):
    """A browser that reads everything: how many frames came, and when the newest did."""

    def __init__(self, socket: ClientConnection) -> None:
        super().__init__(daemon=True)
        self.frames = 0
        self.longest = 0.0
        self._socket = socket

    def run(self) -> None:
        """Until the connection ends."""
        last = time.monotonic()
        try:
            while True:
                if isinstance(self._socket.recv(), bytes):
                    now = time.monotonic()
                    self.frames, self.longest, last = self.frames + 1, max(self.longest, now - last), now
        except ConnectionClosed:
            return


def memory(pid: int) -> int:
    """Resident bytes of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) << 10


@pytest.mark.parametrize("patience", [1.0, pytest.param(10.0, marks=pytest.mark.chaos)])
def test_a_browser_that_never_reads(make_ward: Callable[..., Ward], enter: Enter, patience: float) -> None:
    """The server's memory does not grow with what it leaves unread, it is closed with 1013, and another browser of the
    same run gets every frame."""
    ward = make_ward(plants=(f"stuck={patience}",))
    ward.program.start()
    ward.train().under_way()
    name = f"browser that never reads, {patience:g} s of patience"
    with ward.fault(name, "memory flat, others unaffected") as row, speaking(ward.program, "wide") as trainer:
        sent, code, eager, grown = show(ward, trainer)
    row.note = f"closed {code}; memory +{grown / MIB:.0f} MiB; {eager.frames} of {sent} frames at the other one"
    enter(row)
    assert code == 1013
    assert eager.frames == sent
    assert grown < 32 * MIB


def show(ward: Ward, trainer: Any) -> tuple[int, int, Reader, int]:
    """Send wide frames until the lazy browser is expelled: frames sent, the close code, the eager browser, and by how
    many bytes the server grew."""
    trainer.hello()
    columns = [(f"p.{place}", wire.PARAMETER, wire.GRAD_NORM) for place in range(COLUMNS)]
    series = layout(*columns).series
    for start in range(0, COLUMNS, 500):
        trainer.store(wire.Layout(id=1, offset=start, total=COLUMNS, series=series[start : start + 500]))
    address = ward.program.url.replace("http", "ws", 1) + "/ws/live"
    options: Any = {"proxy": None, "compression": None, "max_size": None}
    options["additional_headers"] = {"Authorization": f"Bearer {ward.program.token('view')}"}
    with connect(address, **options) as eager:
        eager.send(subscription("wide"))
        reader = Reader(eager)
        reader.start()
        step = send(trainer, reader, 0, lambda step: step >= WARM)
        before = memory(ward.program.pid)
        with connect(address, max_queue=1, **options) as lazy:
            lazy.send(subscription("wide"))
            until(lambda: browsers(ward) == 2)
            step = send(trainer, reader, step, lambda step: browsers(ward) == 1)
            return step, close_of(lazy)[0], reader, memory(ward.program.pid) - before


def send(trainer: Any, reader: Reader, step: int, enough: Callable[[int], bool]) -> int:
    """Send frames that the reader has all seen, until there are enough; the next step."""
    while not enough(step):
        trainer.store(*[frame(step + n, [1.0] * COLUMNS) for n in range(10)])
        step += 10
        until(lambda: reader.frames >= step)  # noqa: B023 - called here and now
        assert step < 50_000, "expected the lazy browser to be expelled, it never was"
    return step


def browsers(ward: Ward) -> int:
    """Live sockets that are connected."""
    text = ward.program.read("/metrics")
    return int(float(next(line for line in text.splitlines() if line.startswith("trainvitals_browsers ")).split()[1]))
