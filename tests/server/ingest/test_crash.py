"""A server that is killed in mid-stream loses nothing it has acked, and stores nothing twice."""

import sqlite3
import threading
from pathlib import Path

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import unix_connect

from program import Program
from served import frame, identify, layout
from trainvitals import home, wire
from trainvitals_server.store import points

MESSAGES = [layout(("", wire.RUN, wire.LOSS)), *(frame(step, [step]) for step in range(20_000))]
RECORDS = [wire.encode(message) for message in MESSAGES]
BATCH = 40
PATIENCE = 60.0  # seconds at most for an answer, on a machine that has more to do


def stream(program: Program, acked: list[int], on_ack: threading.Event) -> None:
    """Connect, resume, and send until all is acked or the connection breaks."""
    announced = home.read_server_file(program.directory)
    assert announced is not None
    headers = {"Authorization": f"Bearer {program.token('ingest')}"}
    with unix_connect(announced.socket, "ws://localhost/ws/trainer", additional_headers=headers) as socket:
        socket.send(wire.encode(wire.Hello(protocol=wire.PROTOCOL, identity=identify(), first=0, next=len(RECORDS))))
        welcome = wire.decode_to_trainer(socket.recv(PATIENCE))
        assert isinstance(welcome, wire.Welcome)
        assert welcome.committed >= (acked[-1] if acked else -1)
        at, done = welcome.committed + 1, welcome.committed
        while done < len(RECORDS) - 1:
            while at < len(RECORDS) and at - done <= 4 * BATCH:
                socket.send(wire.encode(wire.Batch(first=at, records=RECORDS[at : at + BATCH])))
                at = min(at + BATCH, len(RECORDS))
            ack = wire.decode_to_trainer(socket.recv(PATIENCE))
            assert isinstance(ack, wire.Ack)
            done = ack.seq
            acked.append(done)
            on_ack.set()


def test_a_killed_server_lost_nothing_acked_and_stores_nothing_twice(tmp_path: Path) -> None:
    """Three kills at random moments of one stream."""
    program = Program(home.home(tmp_path / "crash"))
    acked: list[int] = []
    random = np.random.default_rng(0)
    try:
        for _ in range(3):
            program.start()
            on_ack = threading.Event()
            failed = threading.Thread(target=swallow, args=(program, acked, on_ack))
            failed.start()
            assert on_ack.wait(PATIENCE)
            failed.join(random.uniform(0.02, 0.15))
            program.kill()
            failed.join(20)
            with sqlite3.connect(program.directory / "trainvitals.db") as connection:
                assert connection.execute("SELECT committed FROM producers").fetchone()[0] >= acked[-1]
            connection.close()
        program.start()
        stream(program, acked, threading.Event())
    finally:
        program.stop()
    assert acked == sorted(acked)
    with sqlite3.connect(program.directory / "trainvitals.db") as connection:
        stored = list(points.read(connection, 1, 1, 0, 20_000))
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    connection.close()
    np.testing.assert_array_equal(np.concatenate([one.steps for one in stored]), np.arange(20_000))
    np.testing.assert_array_equal(np.concatenate([one.values[:, 0] for one in stored]), np.arange(20_000))


def swallow(program: Program, acked: list[int], on_ack: threading.Event) -> None:
    """Stream until the server dies."""
    try:
        stream(program, acked, on_ack)
    except (ConnectionClosed, OSError, EOFError):
        return
