"""How a connection ended is noticed on real sockets, and kept as the reason of a loss."""

import socket as plain_socket
import struct

from served import Served, until
from trainvitals_server.runs.pulse import Beat


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
