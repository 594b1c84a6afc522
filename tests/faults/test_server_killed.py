"""A server that dies, stops or is told to end, while a training goes on."""

import random
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from websockets.sync.client import connect

from fault_table import Row
from ledger import Producer
from served import close_of, subscription, until
from trainvitals import wire
from ward import Ward

Enter = Callable[[Row], None]
RECONNECTED = 2.0  # seconds after the server is up
SLACK = 10.0  # of a machine that does several things at once


def acked_since(producer: Producer, ward: Ward, moment: float) -> float | None:
    """When the first answer after `moment` came."""
    ward.training.ledger.read()
    return next((time for _, time in producer.acks if time > moment), None)


@pytest.mark.parametrize("times", [5, pytest.param(100, marks=pytest.mark.chaos)])
def test_a_server_killed_again_and_again(ward: Ward, enter: Enter, times: int) -> None:
    """At random moments, 20 to 150 ms after it has taken something; reconnected within 2 s once it is up."""
    moments, late = random.Random(0), list[float]()
    training = ward.train().under_way()
    with ward.fault(f"server SIGKILL, {times} times", "0 acked lost, 0 twice, reconnected ≤ 2 s") as row:
        for _ in range(times):
            training.go_on(moments.uniform(0.02, 0.15))
            ward.program.kill()
            ward.program.start()
            up = time.monotonic()
            late.append(until(lambda up=up: acked_since(training.ledger.only, ward, up), 60) - up)
    row.note = f"reconnected within {max(late):.1f} s at most"
    enter(row)
    assert max(late) < RECONNECTED + SLACK


def test_a_server_that_is_told_to_end(ward: Ward, enter: Enter) -> None:
    """Its sockets are closed with 1012 and it ends in time, although a browser is connected that never reads."""
    training = ward.train().under_way()
    address = ward.program.url.replace("http", "ws", 1)
    options: Any = {"proxy": None, "compression": None}
    headers = {role: {"Authorization": f"Bearer {ward.program.token(role)}"} for role in ("view", "ingest")}
    with ward.fault("server SIGTERM", "sockets closed 1012; exit ≤ 10 s") as row:
        with (
            connect(f"{address}/ws/live", additional_headers=headers["view"], **options) as live,
            connect(f"{address}/ws/trainer", additional_headers=headers["ingest"], **options) as trainer,
            silent_browser(ward),
        ):
            live.send(subscription(None))
            identity = wire.Identity(run="beside", producer="p", name="beside", started=1.0)
            trainer.send(wire.encode(wire.Hello(protocol=wire.PROTOCOL, identity=identity, first=0, next=0)))
            assert isinstance(wire.decode_to_trainer(trainer.recv(10)), wire.Welcome)  # type: ignore[arg-type]
            begin = time.monotonic()
            ward.program.signal(signal.SIGTERM)
            assert [close_of(one)[0] for one in (live, trainer)] == [1012, 1012]
            assert ward.program.wait(60) == 0
        took = time.monotonic() - begin
        training.go_on(0.5)
        ward.program.start()
    row.note = f"exit after {took:.1f} s"
    enter(row)
    assert took < 10


def silent_browser(ward: Ward) -> socket.socket:
    """A live socket that is opened, and on which nothing is read or said any more."""
    head = (
        f"GET /ws/live HTTP/1.1\r\nHost: 127.0.0.1:{ward.program.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Authorization: Bearer {ward.program.token('view')}\r\n\r\n"
    )
    opened = socket.create_connection(("127.0.0.1", ward.program.port))
    opened.sendall(head.encode())
    assert opened.recv(12) == b"HTTP/1.1 101"
    return opened


def test_a_server_killed_between_commit_and_answer(make_ward: Callable[..., Ward], enter: Enter) -> None:
    """What it stored and never acknowledged is sent again, and counted once."""
    ward = make_ward(plants=("acked=50",))
    ward.program.start()
    with ward.fault("server killed between commit and ack", "resend ignored, counts exact") as row:
        ward.train()
        assert ward.program.wait(60) == -signal.SIGKILL
        assert ward.training.ledger.read().only.acked < 50 <= ward.committed()
        ward.plant()
        ward.program.start()
        ward.training.under_way()
    enter(row)


@pytest.mark.parametrize("seconds", [3.0, pytest.param(60.0, marks=pytest.mark.chaos)])
def test_a_server_that_stands_still(running: Ward, enter: Enter, seconds: float) -> None:
    """The training does not notice, and all arrives once the server goes on."""
    with running.fault(f"server SIGSTOP for {seconds:g} s", "trainer unblocked; resumes") as row:
        running.program.signal(signal.SIGSTOP)
        running.training.go_on(seconds)
        running.program.signal(signal.SIGCONT)
    enter(row)
