"""How a connection ended is noticed on real sockets, and kept as the reason of a loss."""

import asyncio
import socket as plain_socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

from served import Served, layout, until
from trainvitals import wire
from trainvitals_server.runs.pulse import Beat
from trainvitals_server.transport import Transport

LOSS = layout(("", wire.RUN, wire.LOSS))


def beat(served: Served) -> Beat:
    return served.service.parts.pulse._beats["run-1"]


def ended(served: Served) -> str:
    until(lambda: not beat(served).producers)
    return beat(served).ended


def test_a_goodbye_is_told_from_a_break(served: Served) -> None:
    """A close frame, an end without one, a reset."""
    with served.trainer() as trainer:
        trainer.hello()
    assert ended(served).startswith("the trainer closed the connection at ")
    with served.trainer() as trainer:
        trainer.hello()
        trainer.socket.socket.shutdown(plain_socket.SHUT_RDWR)
        assert ended(served).startswith("the connection broke off without a word at ")
    with served.trainer() as trainer:
        trainer.hello()
        linger = struct.pack("ii", 1, 0)
        trainer.socket.socket.setsockopt(plain_socket.SOL_SOCKET, plain_socket.SO_LINGER, linger)
        trainer.socket.socket.shutdown(plain_socket.SHUT_RDWR)
        assert "broke off" in ended(served)


def test_what_this_side_ended_is_not_the_trainers_doing(served: Served) -> None:
    """It broke the rules of the conversation."""
    with served.trainer() as trainer:
        trainer.hello()
        trainer.socket.send(b"no message")
        assert ended(served).startswith("this server ended the connection at ")


def test_a_trainer_that_answers_no_ping_is_told_from_one_that_left(private_home: Path) -> None:
    """Suspended, or behind a network that swallows everything."""
    server = Served(private_home)
    server.service.config.ws_ping_interval = server.service.config.ws_ping_timeout = 0.2
    with server as served, served.trainer() as trainer:
        trainer.hello()
        trainer.socket.protocol.receive_data = lambda data: None  # type: ignore[method-assign]
        assert ended(served).startswith("the trainer stopped answering at ")
        assert beat(served).contact <= time.monotonic() - 0.2  # when it was heard of last, not when that was found out


def test_a_trainer_that_sends_is_not_silent(private_home: Path) -> None:
    """On a slow line the answer to a ping waits behind what was sent before."""
    server = Served(private_home)
    server.service.config.ws_ping_interval = 3600.0  # what is due is asked for by hand
    with server as served, served.trainer() as trainer:
        trainer.hello()
        (link,) = (one for one in served.service.server_state.connections if isinstance(one, Transport))
        on_loop(link, lambda: heard_and_due(link, since=0.0))
        assert not link.close_sent
        trainer.store(LOSS)
        on_loop(link, lambda: heard_and_due(link, since=link.ping_timeout or 0.0))
        assert ended(served).startswith("the trainer stopped answering at ")


def heard_and_due(link: Transport, since: float) -> None:
    """The answer to a ping is due; something else was heard of `since` seconds ago."""
    link._heard = link.loop.time() - since
    link.keepalive_timeout()


def on_loop(link: Transport, work: Callable[[], None]) -> None:
    """Do it on the server's thread, and wait."""

    async def done() -> None:
        work()

    asyncio.run_coroutine_threadsafe(done(), link.loop).result(10)


def test_a_server_that_ends_is_not_the_trainers_doing(private_home: Path) -> None:
    """It says so itself."""
    with Served(private_home) as served, served.trainer() as trainer:
        trainer.hello()
        pulse = served.service.parts.pulse
        served.service.stop()
        until(lambda: not pulse.connected("run-1"))
        assert pulse._beats["run-1"].ended.startswith("this server ended the connection at ")
